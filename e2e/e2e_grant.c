#include "e2e/e2e_grant.h"

#include <string.h>

#include "e2e/e2e_seal.h"
#include "e2e/e2e_wire.h"

#include "fc/e2e/v1/grant.pb-c.h"

static const char sign_context[] = "fc/1 sig grant";

// --- The tree -------------------------------------------------------------------------------------------------------

// Leaves and inner nodes begin with different bytes, so that neither can stand for the other.
enum {
    PREFIX_LEAF = 0,
    PREFIX_NODE = 1,
};

static enum err
hash_leaf(const uint8_t segment_sha256[DIGEST_SHA256_BYTES], uint8_t out[DIGEST_SHA256_BYTES])
{
    uint8_t input[1 + DIGEST_SHA256_BYTES] = {PREFIX_LEAF};
    memcpy(input + 1, segment_sha256, DIGEST_SHA256_BYTES);
    return digest_of(DIGEST_SHA256, bytes_view_of(input, sizeof(input)), out);
}

static enum err
hash_node(const uint8_t left[DIGEST_SHA256_BYTES], const uint8_t right[DIGEST_SHA256_BYTES],
    uint8_t out[DIGEST_SHA256_BYTES])
{
    uint8_t input[1 + 2 * DIGEST_SHA256_BYTES] = {PREFIX_NODE};
    memcpy(input + 1, left, DIGEST_SHA256_BYTES);
    memcpy(input + 1 + DIGEST_SHA256_BYTES, right, DIGEST_SHA256_BYTES);
    return digest_of(DIGEST_SHA256, bytes_view_of(input, sizeof(input)), out);
}

enum err
e2e_tree_add(struct e2e_tree *tree, const uint8_t segment_sha256[DIGEST_SHA256_BYTES])
{
    uint8_t hash[DIGEST_SHA256_BYTES];
    unsigned level = 0;
    if (tree->count == UINT64_MAX) {
        return ERR_TOO_BIG;
    }
    enum err err = hash_leaf(segment_sha256, hash);
    // As in adding one to a binary number: each carry joins two subtrees of the same size.
    for (; err == ERR_OK && (tree->count >> level & 1) != 0; level++) {
        err = hash_node(tree->roots[level], hash, hash);
    }
    if (err == ERR_OK) {
        memcpy(tree->roots[level], hash, sizeof(hash));
        tree->count++;
    }
    return err;
}

enum err
e2e_tree_root(const struct e2e_tree *tree, uint8_t root_out[DIGEST_SHA256_BYTES])
{
    uint8_t hash[DIGEST_SHA256_BYTES];
    bool has_hash = false;
    enum err err = ERR_OK;
    if (tree->count == 0) {
        return digest_of(DIGEST_SHA256, (struct bytes_view){0}, root_out);
    }
    for (unsigned level = 0; err == ERR_OK && level < E2E_TREE_LEVELS_MAX; level++) {
        if ((tree->count >> level & 1) == 0) {
            continue;
        }
        if (has_hash) {
            err = hash_node(tree->roots[level], hash, hash);
        } else {
            memcpy(hash, tree->roots[level], sizeof(hash));
            has_hash = true;
        }
    }
    if (err == ERR_OK) {
        memcpy(root_out, hash, sizeof(hash));
    }
    return err;
}

// --- Grants ---------------------------------------------------------------------------------------------------------

static ProtobufCBinaryData
field(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = size}; // protobuf-c has no const
}

enum err
e2e_grant_sign(const struct e2e_grant *grant, const uint8_t private_key[CRYPTO_KEY_BYTES], struct bytes *out,
    uint8_t signature_out[CRYPTO_SIGNATURE_BYTES])
{
    Fc__E2e__V1__Grant wire = FC__E2E__V1__GRANT__INIT;
    size_t begin = out->size;
    wire.file_id = field(grant->file_id, sizeof(grant->file_id));
    wire.user_id = field(grant->user_id, sizeof(grant->user_id));
    wire.expires_at_ms = grant->expires_at_ms;
    wire.size_bytes = grant->size_bytes;
    wire.segment_size_bytes = grant->segment_size_bytes;
    wire.root = field(grant->root, sizeof(grant->root));
    enum err err = e2e_wire_append(&wire.base, out);
    if (err == ERR_OK) {
        err = e2e_sign(private_key, sign_context, bytes_view_of(out->data + begin, out->size - begin),
            (struct bytes_view){0}, signature_out);
    }
    return err;
}

static enum err
read_grant(const Fc__E2e__V1__Grant *wire, struct e2e_grant *out, struct err_detail *why)
{
    if (wire->file_id.len != sizeof(out->file_id) || wire->user_id.len != sizeof(out->user_id) ||
        wire->root.len != sizeof(out->root)) {
        return err_fail(why, ERR_INVALID, "the grant has ids or a root of the wrong size");
    }
    memcpy(out->file_id, wire->file_id.data, sizeof(out->file_id));
    memcpy(out->user_id, wire->user_id.data, sizeof(out->user_id));
    memcpy(out->root, wire->root.data, sizeof(out->root));
    out->expires_at_ms = wire->expires_at_ms;
    out->size_bytes = wire->size_bytes;
    out->segment_size_bytes = wire->segment_size_bytes;
    return ERR_OK;
}

enum err
e2e_grant_check(struct bytes_view grant, struct bytes_view signature, const uint8_t public_key[CRYPTO_KEY_BYTES],
    const uint8_t file_id[E2E_GRANT_ID_BYTES], int64_t now_unix_ms, struct e2e_grant *out, struct err_detail *why)
{
    ProtobufCMessage *wire = NULL;
    struct e2e_grant read = {0};
    if (grant.size > E2E_GRANT_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a grant of %zu bytes is too large", grant.size);
    }
    enum err err = e2e_verify(public_key, sign_context, grant, (struct bytes_view){0}, signature);
    if (err == ERR_CORRUPT) {
        return err_fail(why, ERR_DENIED, "the grant is not signed by the file store that this server trusts");
    }
    if (err == ERR_OK) {
        err = e2e_wire_unpack(&fc__e2e__v1__grant__descriptor, grant, E2E_GRANT_MAX_BYTES, "the grant", &wire, why);
    }
    if (err == ERR_OK) {
        err = read_grant((const Fc__E2e__V1__Grant *)wire, &read, why);
        protobuf_c_message_free_unpacked(wire, NULL);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (memcmp(read.file_id, file_id, sizeof(read.file_id)) != 0) {
        return err_fail(why, ERR_DENIED, "the grant is for another file");
    }
    if (read.expires_at_ms <= now_unix_ms) {
        return err_fail(why, ERR_TIMEOUT, "the grant has expired: ask the file store for another one");
    }
    if (read.expires_at_ms - now_unix_ms > 2 * E2E_GRANT_LIFETIME_MS) {
        return err_fail(why, ERR_TIMEOUT, "the grant is from the future: the clocks of the servers differ");
    }
    *out = read;
    return ERR_OK;
}
