// Vectors of grants, and of the tree over segments.
#include <string.h>

#include "e2e/e2e_grant.h"
#include "e2e_vectors.h"

static void
write_tree(struct vector_json *json, uint64_t segment_count, uint8_t root_out[DIGEST_SHA256_BYTES])
{
    struct e2e_tree tree = {0};
    vector_json_begin(json, "segment_sha256s", '[');
    for (uint64_t i = 0; i < segment_count; i++) {
        uint8_t leaf[DIGEST_SHA256_BYTES];
        fill(leaf, sizeof(leaf), (uint8_t)i);
        MUST(e2e_tree_add(&tree, leaf));
        vector_json_hex(json, NULL, leaf, sizeof(leaf));
    }
    vector_json_end(json, ']');
    MUST(e2e_tree_root(&tree, root_out));
    vector_json_hex(json, "root", root_out, DIGEST_SHA256_BYTES);
}

void
write_grant(struct vector_json *json)
{
    static const uint64_t segment_counts[] = {0, 1, 2, 3, 5, 8};
    uint8_t private_key[CRYPTO_KEY_BYTES];
    uint8_t public_key[CRYPTO_KEY_BYTES];
    fill(private_key, sizeof(private_key), 1);
    MUST(crypto_sign_public(private_key, public_key));
    vector_json_hex(json, "private_key", private_key, sizeof(private_key));
    vector_json_hex(json, "key", public_key, sizeof(public_key));
    vector_json_begin(json, "vectors", '[');
    for (size_t i = 0; i < sizeof(segment_counts) / sizeof(segment_counts[0]); i++) {
        struct e2e_grant grant = {.expires_at_ms = 1700000000000, .segment_size_bytes = 262144};
        struct bytes encoded = {0};
        uint8_t signature[CRYPTO_SIGNATURE_BYTES];
        fill(grant.file_id, sizeof(grant.file_id), 0x10);
        fill(grant.user_id, sizeof(grant.user_id), 0x20);
        grant.size_bytes = segment_counts[i] * 262144;
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "file_id", grant.file_id, sizeof(grant.file_id));
        vector_json_hex(json, "user_id", grant.user_id, sizeof(grant.user_id));
        vector_json_number(json, "expires_at_ms", (uint64_t)grant.expires_at_ms);
        vector_json_number(json, "size_bytes", grant.size_bytes);
        vector_json_number(json, "segment_size_bytes", grant.segment_size_bytes);
        write_tree(json, segment_counts[i], grant.root);
        MUST(e2e_grant_sign(&grant, private_key, &encoded, signature));
        vector_json_view(json, "grant", bytes_as_view(&encoded));
        vector_json_hex(json, "signature", signature, sizeof(signature));
        vector_json_end(json, '}');
        bytes_free(&encoded);
    }
    vector_json_end(json, ']');
}
