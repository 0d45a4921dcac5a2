// HPKE (RFC 9180), base mode, one message: DHKEM(X25519, HKDF-SHA256) 0x0020, HKDF-SHA256 0x0001, AES-256-GCM 0x0002.
// The names are those of the RFC. OpenSSL has HPKE of its own only from 3.2 on.

#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_seal.h"
#include "e2e/e2e_seal_priv.h"

enum {
    AEAD_AES_256_GCM = 2,
    MODE_BASE = 0,
    EXPAND_INFO_MAX_BYTES = 256, // two bytes, "HPKE-v1", suite_id, label, and a context of 65 bytes
    SUITE_ID_BYTES = 10,
};

#define VERSION_LABEL "HPKE-v1"

static const uint8_t kem_suite_id[] = {'K', 'E', 'M', 0x00, 0x20};

static struct bytes_view
kem_suite(void)
{
    return bytes_view_of(kem_suite_id, sizeof(kem_suite_id));
}

// Section 4: LabeledExtract.
static enum err
labeled_extract(struct bytes_view suite_id, struct bytes_view salt, const char *label, struct bytes_view ikm,
    uint8_t prk_out[DIGEST_SHA256_BYTES])
{
    struct bytes labeled_ikm = {0};
    const struct bytes_view parts[] = {bytes_view_of_text(VERSION_LABEL), suite_id, bytes_view_of_text(label), ikm};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < sizeof(parts) / sizeof(parts[0]); i++) {
        err = bytes_append(&labeled_ikm, parts[i]);
    }
    if (err == ERR_OK) {
        err = digest_hkdf_extract_sha256(salt, bytes_as_view(&labeled_ikm), prk_out);
    }
    bytes_free_secret(&labeled_ikm);
    return err;
}

// Section 4: LabeledExpand.
static enum err
labeled_expand(struct bytes_view suite_id, const uint8_t prk[DIGEST_SHA256_BYTES], const char *label,
    struct bytes_view info, uint8_t *out, size_t out_size)
{
    uint8_t labeled_info[EXPAND_INFO_MAX_BYTES];
    const struct bytes_view parts[] = {bytes_view_of_text(VERSION_LABEL), suite_id, bytes_view_of_text(label), info};
    size_t size = sizeof(uint16_t);
    bytes_store_be16(labeled_info, (uint16_t)out_size);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].size > sizeof(labeled_info) - size) {
            return ERR_TOO_BIG;
        }
        if (parts[i].size > 0) {
            memcpy(labeled_info + size, parts[i].data, parts[i].size);
            size += parts[i].size;
        }
    }
    return digest_hkdf_expand_sha256(prk, bytes_view_of(labeled_info, size), out, out_size);
}

// Section 4.1: ExtractAndExpand, with kem_context = enc ‖ receiver_public.
enum err
e2e_hpke_shared_secret(const uint8_t dh[CRYPTO_KEY_BYTES], const uint8_t enc[CRYPTO_KEY_BYTES],
    const uint8_t receiver_public[CRYPTO_KEY_BYTES], uint8_t out[E2E_SECRET_BYTES])
{
    uint8_t eae_prk[DIGEST_SHA256_BYTES];
    uint8_t kem_context[2 * CRYPTO_KEY_BYTES];
    memcpy(kem_context, enc, CRYPTO_KEY_BYTES);
    memcpy(kem_context + CRYPTO_KEY_BYTES, receiver_public, CRYPTO_KEY_BYTES);
    enum err err =
        labeled_extract(kem_suite(), bytes_view_of(NULL, 0), "eae_prk", bytes_view_of(dh, CRYPTO_KEY_BYTES), eae_prk);
    if (err == ERR_OK) {
        err = labeled_expand(kem_suite(), eae_prk, "shared_secret", bytes_view_of(kem_context, sizeof(kem_context)),
            out, E2E_SECRET_BYTES);
    }
    digest_wipe(eae_prk, sizeof(eae_prk));
    return err;
}

// Section 5.1: KeySchedule, with empty psk and psk_id.
enum err
e2e_hpke_schedule(const uint8_t shared_secret[E2E_SECRET_BYTES], struct bytes_view info, uint16_t aead,
    uint8_t *key_out, size_t key_size, uint8_t nonce_out[CRYPTO_NONCE_BYTES])
{
    uint8_t suite_id[SUITE_ID_BYTES] = {'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01};
    bytes_store_be16(suite_id + SUITE_ID_BYTES - sizeof(aead), aead);
    struct bytes_view suite = bytes_view_of(suite_id, sizeof(suite_id));
    struct bytes_view nothing = bytes_view_of(NULL, 0);

    uint8_t context[1 + 2 * DIGEST_SHA256_BYTES] = {MODE_BASE}; // then psk_id_hash ‖ info_hash
    uint8_t secret[DIGEST_SHA256_BYTES];
    struct bytes_view context_view = bytes_view_of(context, sizeof(context));
    enum err err = labeled_extract(suite, nothing, "psk_id_hash", nothing, context + 1);
    if (err == ERR_OK) {
        err = labeled_extract(suite, nothing, "info_hash", info, context + 1 + DIGEST_SHA256_BYTES);
    }
    if (err == ERR_OK) {
        err = labeled_extract(suite, bytes_view_of(shared_secret, E2E_SECRET_BYTES), "secret", nothing, secret);
    }
    if (err == ERR_OK) {
        err = labeled_expand(suite, secret, "key", context_view, key_out, key_size);
    }
    if (err == ERR_OK) {
        err = labeled_expand(suite, secret, "base_nonce", context_view, nonce_out, CRYPTO_NONCE_BYTES);
    }
    digest_wipe(secret, sizeof(secret));
    return err;
}

// From one's own private key and the other's public one to the key of the message; enc and receiver_public say which of
// them is whose.
static enum err
message_key(const uint8_t private_key[CRYPTO_KEY_BYTES], const uint8_t peer_public[CRYPTO_KEY_BYTES],
    const uint8_t enc[CRYPTO_KEY_BYTES], const uint8_t receiver_public[CRYPTO_KEY_BYTES], struct bytes_view info,
    uint8_t key_out[CRYPTO_KEY_BYTES], uint8_t nonce_out[CRYPTO_NONCE_BYTES])
{
    uint8_t secret[CRYPTO_KEY_BYTES];
    enum err err = crypto_box_agree(private_key, peer_public, secret);
    if (err == ERR_OK) {
        err = e2e_hpke_shared_secret(secret, enc, receiver_public, secret);
    }
    if (err == ERR_OK) {
        err = e2e_hpke_schedule(secret, info, AEAD_AES_256_GCM, key_out, CRYPTO_KEY_BYTES, nonce_out);
    }
    digest_wipe(secret, sizeof(secret));
    return err;
}

enum err
e2e_hpke_seal_with_ephemeral(const uint8_t ephemeral_private[CRYPTO_KEY_BYTES],
    const uint8_t receiver_public[CRYPTO_KEY_BYTES], struct bytes_view info, struct bytes_view aad,
    struct bytes_view plain, uint8_t enc_out[E2E_WRAP_ENC_BYTES], struct bytes *ciphertext_out)
{
    uint8_t key[CRYPTO_KEY_BYTES];
    uint8_t nonce[CRYPTO_NONCE_BYTES];
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    enum err err = crypto_box_public(ephemeral_private, enc);
    if (err == ERR_OK) {
        err = message_key(ephemeral_private, receiver_public, enc, receiver_public, info, key, nonce);
    }
    if (err == ERR_OK) {
        err = crypto_seal(key, nonce, aad, plain, ciphertext_out);
    }
    if (err == ERR_OK) {
        memcpy(enc_out, enc, sizeof(enc));
    }
    digest_wipe(key, sizeof(key));
    return err;
}

enum err
e2e_hpke_seal(const uint8_t receiver_public[CRYPTO_KEY_BYTES], struct bytes_view info, struct bytes_view aad,
    struct bytes_view plain, uint8_t enc_out[E2E_WRAP_ENC_BYTES], struct bytes *ciphertext_out)
{
    uint8_t ephemeral_private[CRYPTO_KEY_BYTES];
    random_bytes(ephemeral_private, sizeof(ephemeral_private));
    enum err err =
        e2e_hpke_seal_with_ephemeral(ephemeral_private, receiver_public, info, aad, plain, enc_out, ciphertext_out);
    digest_wipe(ephemeral_private, sizeof(ephemeral_private));
    return err;
}

enum err
e2e_hpke_open(const uint8_t receiver_private[CRYPTO_KEY_BYTES], const uint8_t enc[E2E_WRAP_ENC_BYTES],
    struct bytes_view info, struct bytes_view aad, struct bytes_view ciphertext, struct bytes *plain_out)
{
    uint8_t key[CRYPTO_KEY_BYTES];
    uint8_t nonce[CRYPTO_NONCE_BYTES];
    uint8_t receiver_public[CRYPTO_KEY_BYTES];
    enum err err = crypto_box_public(receiver_private, receiver_public);
    if (err == ERR_OK) {
        err = message_key(receiver_private, enc, enc, receiver_public, info, key, nonce);
    }
    if (err == ERR_OK) {
        err = crypto_open(key, nonce, aad, ciphertext, plain_out);
    }
    digest_wipe(key, sizeof(key));
    return err;
}
