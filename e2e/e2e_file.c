// Files in segments, each sealed by itself, so that they can be sent, taken up again and read in any order. After
// C2SP's chunked encryption.

#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_seal_priv.h"

// 256 TiB: sums of sizes stay far from where they would wrap.
static const uint64_t plain_size_max_bytes = (uint64_t)1 << 48;

enum {
    COMMITMENT_AT = CRYPTO_KEY_BYTES + CRYPTO_NONCE_BYTES,
    COUNTER_AT = CRYPTO_NONCE_BYTES - sizeof(uint64_t),
};

enum err
e2e_file_key_derive(uint32_t segment_plain_bytes, uint64_t plain_size_bytes, struct e2e_file_secret *secret,
    struct e2e_file_key *out)
{
    if (segment_plain_bytes == 0 || segment_plain_bytes > E2E_FILE_SEGMENT_MAX_BYTES ||
        plain_size_bytes > plain_size_max_bytes) {
        return ERR_INVALID;
    }
    uint8_t context[E2E_ID_BYTES + sizeof(uint64_t)];
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    memcpy(context, secret->seal_id, E2E_ID_BYTES);
    bytes_store_be64(context + E2E_ID_BYTES, segment_plain_bytes);
    enum err err =
        e2e_hkdf(bytes_view_of(secret->secret, E2E_SECRET_BYTES), bytes_view_of(secret->salt, E2E_SALT_BYTES),
            E2E_LABEL_FILE, bytes_view_of(context, sizeof(context)), key, sizeof(key));
    if (err == ERR_OK) {
        memcpy(secret->commitment, key + COMMITMENT_AT, E2E_COMMITMENT_BYTES);
        memcpy(out->key, key, CRYPTO_KEY_BYTES);
        memcpy(out->base_nonce, key + CRYPTO_KEY_BYTES, CRYPTO_NONCE_BYTES);
        out->segment_plain_bytes = segment_plain_bytes;
        out->plain_size_bytes = plain_size_bytes;
    }
    digest_wipe(key, sizeof(key));
    return err;
}

enum err
e2e_file_key_generate(uint32_t segment_plain_bytes, uint64_t plain_size_bytes, struct e2e_file_secret *secret_out,
    struct e2e_file_key *out)
{
    random_bytes(secret_out->secret, E2E_SECRET_BYTES);
    random_bytes(secret_out->salt, E2E_SALT_BYTES);
    random_bytes(secret_out->seal_id, E2E_ID_BYTES);
    return e2e_file_key_derive(segment_plain_bytes, plain_size_bytes, secret_out, out);
}

enum err
e2e_file_key_open(const Fc__E2e__V1__FileKey *wire, struct e2e_file_key *out)
{
    if (wire->secret.len != E2E_SECRET_BYTES || wire->salt.len != E2E_SALT_BYTES ||
        wire->commitment.len != E2E_COMMITMENT_BYTES || wire->seal_id.len != E2E_ID_BYTES) {
        return ERR_INVALID;
    }
    struct e2e_file_secret secret;
    struct e2e_file_key key;
    memcpy(secret.secret, wire->secret.data, E2E_SECRET_BYTES);
    memcpy(secret.salt, wire->salt.data, E2E_SALT_BYTES);
    memcpy(secret.seal_id, wire->seal_id.data, E2E_ID_BYTES);
    enum err err = e2e_file_key_derive(wire->segment_plain_bytes, wire->plain_size_bytes, &secret, &key);
    if (err == ERR_OK && !bytes_view_equal_secret(bytes_view_of(secret.commitment, E2E_COMMITMENT_BYTES),
                             bytes_view_of(wire->commitment.data, wire->commitment.len))) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        *out = key;
    }
    digest_wipe(&secret, sizeof(secret));
    digest_wipe(&key, sizeof(key));
    return err;
}

// The last segment is always shorter than the others, so that none can be cut off unseen.
uint64_t
e2e_file_segment_count(const struct e2e_file_key *key)
{
    return key->plain_size_bytes / key->segment_plain_bytes + 1;
}

uint64_t
e2e_file_sealed_size(const struct e2e_file_key *key)
{
    return key->plain_size_bytes + e2e_file_segment_count(key) * CRYPTO_TAG_BYTES;
}

static size_t
plain_size_of(const struct e2e_file_key *key, uint64_t index)
{
    bool is_last = index + 1 == e2e_file_segment_count(key);
    return (size_t)(is_last ? key->plain_size_bytes % key->segment_plain_bytes : key->segment_plain_bytes);
}

static void
nonce_of(const struct e2e_file_key *key, uint64_t index, uint8_t nonce[CRYPTO_NONCE_BYTES])
{
    memcpy(nonce, key->base_nonce, CRYPTO_NONCE_BYTES);
    bytes_store_be64(nonce + COUNTER_AT, bytes_load_be64(nonce + COUNTER_AT) ^ index);
}

enum err
e2e_file_seal_segment(const struct e2e_file_key *key, uint64_t index, struct bytes_view plain, struct bytes *out)
{
    if (index >= e2e_file_segment_count(key) || plain.size != plain_size_of(key, index)) {
        return ERR_INVALID;
    }
    uint8_t nonce[CRYPTO_NONCE_BYTES];
    nonce_of(key, index, nonce);
    return crypto_seal(key->key, nonce, bytes_view_of(NULL, 0), plain, out);
}

enum err
e2e_file_open_segment(const struct e2e_file_key *key, uint64_t index, struct bytes_view sealed, struct bytes *out)
{
    if (index >= e2e_file_segment_count(key)) {
        return ERR_INVALID;
    }
    if (sealed.size != plain_size_of(key, index) + CRYPTO_TAG_BYTES) {
        return ERR_CORRUPT;
    }
    uint8_t nonce[CRYPTO_NONCE_BYTES];
    nonce_of(key, index, nonce);
    return crypto_open(key->key, nonce, bytes_view_of(NULL, 0), sealed, out);
}
