// For e2e/ and its tests: the same constructions with what is otherwise drawn at random. Whoever calls these with the
// same salt or ephemeral key twice gives the plaintexts away.
#ifndef E2E_E2E_SEAL_PRIV_H
#define E2E_E2E_SEAL_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "e2e/e2e_seal.h"

enum {
    // What stands in `info` behind the label: a header is the longest.
    E2E_CONTEXT_MAX_BYTES = 512,
    E2E_LABEL_MAX_BYTES = 32,
};

// e2e_hkdf is HKDF-SHA256(secret, salt, info = label ‖ 0x00 ‖ context). ERR_TOO_BIG past the limits above.
enum err e2e_hkdf(struct bytes_view secret, struct bytes_view salt, const char *label, struct bytes_view context,
    uint8_t *out, size_t out_size) ERR_CHECKED;

enum err e2e_seal_with_salt(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    const uint8_t salt[E2E_SALT_BYTES], struct bytes_view plain, struct bytes *out) ERR_CHECKED;

enum err e2e_hpke_seal_with_ephemeral(const uint8_t ephemeral_private[CRYPTO_KEY_BYTES],
    const uint8_t receiver_public[CRYPTO_KEY_BYTES], struct bytes_view info, struct bytes_view aad,
    struct bytes_view plain, uint8_t enc_out[E2E_WRAP_ENC_BYTES], struct bytes *ciphertext_out) ERR_CHECKED;

// The two steps of HPKE before the encryption, for the vectors of RFC 9180. aead is an id of its registry: 1 with keys
// of 16 bytes, 2 with keys of 32.
enum err e2e_hpke_shared_secret(const uint8_t dh[CRYPTO_KEY_BYTES], const uint8_t enc[CRYPTO_KEY_BYTES],
    const uint8_t receiver_public[CRYPTO_KEY_BYTES], uint8_t out[E2E_SECRET_BYTES]) ERR_CHECKED;
enum err e2e_hpke_schedule(const uint8_t shared_secret[E2E_SECRET_BYTES], struct bytes_view info, uint16_t aead,
    uint8_t *key_out, size_t key_size, uint8_t nonce_out[CRYPTO_NONCE_BYTES]) ERR_CHECKED;

#endif
