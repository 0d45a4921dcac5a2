// Vectors of epochs, messages and files.

#include <string.h>

#include "base/digest.h"
#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_seal_priv.h"
#include "e2e/e2e_wire.h"
#include "e2e_vectors.h"

static void
write_wrap(struct vector_json *json, const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, struct bytes_view prev_hash)
{
    uint8_t device_id[E2E_ID_BYTES];
    uint8_t ephemeral[CRYPTO_KEY_BYTES];
    uint8_t box_private[CRYPTO_KEY_BYTES];
    uint8_t box_public[CRYPTO_KEY_BYTES];
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    uint8_t ciphertext[E2E_WRAP_CIPHERTEXT_BYTES];
    fill(device_id, sizeof(device_id), 0x40);
    fill(ephemeral, sizeof(ephemeral), 0x50);
    fill(box_private, sizeof(box_private), 0x60);
    MUST(crypto_box_public(box_private, box_public));
    MUST(e2e_epoch_wrap_with_ephemeral(ephemeral, secret, room_id, epoch, prev_hash, device_id, box_public, enc,
        ciphertext));
    vector_json_begin(json, "wrap", '{');
    vector_json_view(json, "prev_hash", prev_hash);
    vector_json_hex(json, "device_id", device_id, sizeof(device_id));
    vector_json_hex(json, "ephemeral_private", ephemeral, sizeof(ephemeral));
    vector_json_hex(json, "box_private", box_private, sizeof(box_private));
    vector_json_hex(json, "box_public", box_public, sizeof(box_public));
    vector_json_hex(json, "enc", enc, sizeof(enc));
    vector_json_hex(json, "ciphertext", ciphertext, sizeof(ciphertext));
    vector_json_end(json, '}');
}

static void
write_ladder(struct vector_json *json, const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch)
{
    uint8_t next_secret[E2E_SECRET_BYTES];
    uint8_t salt[E2E_SALT_BYTES];
    struct bytes sealed = {0};
    fill(next_secret, sizeof(next_secret), 0x70);
    fill(salt, sizeof(salt), 0xb0);
    MUST(e2e_epoch_seal_previous_with_salt(next_secret, room_id, epoch, salt, secret, &sealed));
    vector_json_begin(json, "ladder", '{');
    vector_json_hex(json, "next_secret", next_secret, sizeof(next_secret));
    vector_json_hex(json, "salt", salt, sizeof(salt));
    vector_json_view(json, "previous", bytes_as_view(&sealed));
    vector_json_end(json, '}');
    bytes_free(&sealed);
}

void
write_epoch(struct vector_json *json)
{
    const uint64_t epochs[] = {1, 0x0102030405};
    uint8_t prev_hash[E2E_HASH_BYTES];
    fill(prev_hash, sizeof(prev_hash), 0x30);
    vector_json_begin(json, "vectors", '[');
    for (size_t i = 0; i < 2; i++) {
        uint8_t room_id[E2E_ID_BYTES];
        uint8_t secret[E2E_SECRET_BYTES];
        uint8_t commitment[E2E_COMMITMENT_BYTES];
        fill(room_id, sizeof(room_id), 0x10);
        fill(secret, sizeof(secret), 0x20);
        MUST(e2e_epoch_commitment(secret, room_id, epochs[i], commitment));
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "room_id", room_id, sizeof(room_id));
        vector_json_number(json, "epoch", epochs[i]);
        vector_json_hex(json, "secret", secret, sizeof(secret));
        vector_json_hex(json, "commitment", commitment, sizeof(commitment));
        write_wrap(json, secret, room_id, epochs[i], bytes_view_of(prev_hash, i == 0 ? 0 : sizeof(prev_hash)));
        write_ladder(json, secret, room_id, epochs[i]);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
}

// The bytes that a header points to.
struct header_bytes {
    uint8_t room_id[E2E_ID_BYTES];
    uint8_t user_id[E2E_ID_BYTES];
    uint8_t device_id[E2E_ID_BYTES];
    uint8_t message_id[E2E_ID_BYTES];
    uint8_t log_head[E2E_HASH_BYTES];
    uint8_t chain[E2E_HASH_BYTES];
};

static Fc__E2e__V1__Header
make_header(struct header_bytes *bytes, uint8_t number)
{
    fill(bytes->room_id, E2E_ID_BYTES, 0x10);
    fill(bytes->user_id, E2E_ID_BYTES, 0x20);
    fill(bytes->device_id, E2E_ID_BYTES, 0x30);
    fill(bytes->message_id, E2E_ID_BYTES, (uint8_t)(0x40 + number));
    fill(bytes->log_head, E2E_HASH_BYTES, 0x60);
    Fc__E2e__V1__Header header = FC__E2E__V1__HEADER__INIT;
    header.suite = E2E_SUITE;
    header.room_id = (ProtobufCBinaryData){.data = bytes->room_id, .len = E2E_ID_BYTES};
    header.epoch = 2;
    header.user_id = (ProtobufCBinaryData){.data = bytes->user_id, .len = E2E_ID_BYTES};
    header.device_id = (ProtobufCBinaryData){.data = bytes->device_id, .len = E2E_ID_BYTES};
    header.message_id = (ProtobufCBinaryData){.data = bytes->message_id, .len = E2E_ID_BYTES};
    header.created_at_ms = 1700000000000 + number;
    header.log_head = (ProtobufCBinaryData){.data = bytes->log_head, .len = E2E_HASH_BYTES};
    if (number > 0) { // the one before has been seen
        header.seen_seq = number;
        header.seen_chain = (ProtobufCBinaryData){.data = bytes->chain, .len = E2E_HASH_BYTES};
    }
    return header;
}

static void
write_message_parts(struct vector_json *json, struct bytes_view wire, const uint8_t epoch_secret[E2E_SECRET_BYTES])
{
    struct e2e_message message = {0};
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    MUST(e2e_message_parse(wire, &message, NULL));
    MUST(e2e_message_key(&message, epoch_secret, key));
    vector_json_hex(json, "header", message.wire->header.data, message.wire->header.len);
    vector_json_hex(json, "key_nonce_commitment", key, sizeof(key));
    vector_json_view(json, "message", wire);
    e2e_message_deinit(&message);
}

static void
write_message_one(struct vector_json *json, uint8_t number, struct bytes_view content, uint8_t chain[E2E_HASH_BYTES])
{
    struct header_bytes bytes;
    struct bytes wire = {0};
    uint8_t epoch_secret[E2E_SECRET_BYTES];
    uint8_t sign_private[CRYPTO_KEY_BYTES];
    uint8_t sign_public[CRYPTO_KEY_BYTES];
    uint8_t sender_key[E2E_SECRET_BYTES];
    uint8_t salt[E2E_SALT_BYTES];
    memcpy(bytes.chain, chain, E2E_HASH_BYTES);
    Fc__E2e__V1__Header header = make_header(&bytes, number);
    if (content.size == 0) {
        header.type = FC__E2E__V1__TYPE__DELETE;
        header.target_seq = 1;
    }
    fill(epoch_secret, sizeof(epoch_secret), 0x80);
    fill(sign_private, sizeof(sign_private), 0x90);
    fill(salt, sizeof(salt), (uint8_t)(0xa0 + number));
    MUST(crypto_sign_public(sign_private, sign_public));
    MUST(e2e_derive(epoch_secret, E2E_LABEL_SENDER, bytes_view_of(bytes.device_id, E2E_ID_BYTES), sender_key));
    MUST(e2e_message_seal_with_salt(&header, epoch_secret, sign_private, salt, content, &wire));
    vector_json_begin(json, NULL, '{');
    vector_json_hex(json, "epoch_secret", epoch_secret, sizeof(epoch_secret));
    vector_json_hex(json, "sender_key", sender_key, sizeof(sender_key));
    vector_json_hex(json, "sign_private", sign_private, sizeof(sign_private));
    vector_json_hex(json, "sign_public", sign_public, sizeof(sign_public));
    vector_json_hex(json, "salt", salt, sizeof(salt));
    vector_json_view(json, "content", content);
    write_message_parts(json, bytes_as_view(&wire), epoch_secret);
    vector_json_hex(json, "chain_before", chain, E2E_HASH_BYTES);
    MUST(e2e_message_chain(chain, bytes_as_view(&wire), chain));
    vector_json_hex(json, "chain_after", chain, E2E_HASH_BYTES);
    vector_json_end(json, '}');
    bytes_free(&wire);
}

void
write_message(struct vector_json *json)
{
    static const size_t sizes[] = {5, 60, 61, 1021, 2500, 0};
    uint8_t content[2500];
    uint8_t chain[E2E_HASH_BYTES] = {0};
    fill(content, sizeof(content), 'a');
    vector_json_begin(json, "vectors", '[');
    for (uint8_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        write_message_one(json, i, bytes_view_of(content, sizes[i]), chain);
    }
    vector_json_end(json, ']');
}

static void
write_segments(struct vector_json *json, const struct e2e_file_key *key, const uint8_t *plain)
{
    struct digest *digest = NULL;
    uint8_t hash[DIGEST_SHA256_BYTES];
    size_t offset = 0;
    MUST(digest_new(DIGEST_SHA256, &digest));
    vector_json_begin(json, "segments", '[');
    for (uint64_t i = 0; i < e2e_file_segment_count(key); i++) {
        size_t rest = (size_t)key->plain_size_bytes - offset;
        size_t size = rest < key->segment_plain_bytes ? rest : key->segment_plain_bytes;
        struct bytes sealed = {0};
        MUST(e2e_file_seal_segment(key, i, bytes_view_of(plain + offset, size), &sealed));
        MUST(digest_update(digest, bytes_as_view(&sealed)));
        vector_json_view(json, NULL, bytes_as_view(&sealed));
        offset += size;
        bytes_free(&sealed);
    }
    vector_json_end(json, ']');
    MUST(digest_final(digest, hash));
    digest_free(&digest);
    vector_json_hex(json, "sealed_sha256", hash, sizeof(hash));
    vector_json_number(json, "sealed_size_bytes", e2e_file_sealed_size(key));
}

void
write_file(struct vector_json *json)
{
    static const size_t sizes[] = {0, 1, 31, 32, 70};
    uint8_t plain[70];
    fill(plain, sizeof(plain), 0);
    vector_json_begin(json, "vectors", '[');
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct e2e_file_secret secret;
        struct e2e_file_key key;
        fill(secret.secret, sizeof(secret.secret), 0x10);
        fill(secret.salt, sizeof(secret.salt), 0x30);
        fill(secret.seal_id, sizeof(secret.seal_id), (uint8_t)(0x50 + i));
        MUST(e2e_file_key_derive(32, sizes[i], &secret, &key));
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "secret", secret.secret, sizeof(secret.secret));
        vector_json_hex(json, "salt", secret.salt, sizeof(secret.salt));
        vector_json_hex(json, "seal_id", secret.seal_id, sizeof(secret.seal_id));
        vector_json_number(json, "segment_plain_bytes", key.segment_plain_bytes);
        vector_json_hex(json, "commitment", secret.commitment, sizeof(secret.commitment));
        vector_json_hex(json, "key", key.key, sizeof(key.key));
        vector_json_hex(json, "base_nonce", key.base_nonce, sizeof(key.base_nonce));
        vector_json_hex(json, "plain", plain, sizes[i]);
        write_segments(json, &key, plain);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
}
