// Signatures, key agreement and authenticated encryption through OpenSSL's EVP: the primitives of the suite fc/1
// (e2e/). Any thread. ERR_INTERNAL: OpenSSL lacks the algorithm.
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    CRYPTO_KEY_BYTES = 32, // Ed25519 and X25519, private and public, and AES-256
    CRYPTO_SIGNATURE_BYTES = 64,
    CRYPTO_NONCE_BYTES = 12,
    CRYPTO_TAG_BYTES = 16,
};

// crypto_sign_public gives the public half of an Ed25519 private key (32 random bytes). RFC 8032.
enum err crypto_sign_public(const uint8_t private_key[CRYPTO_KEY_BYTES],
    uint8_t public_out[CRYPTO_KEY_BYTES]) ERR_CHECKED;
enum err crypto_sign(const uint8_t private_key[CRYPTO_KEY_BYTES], struct bytes_view data,
    uint8_t signature_out[CRYPTO_SIGNATURE_BYTES]) ERR_CHECKED;
// crypto_verify: ERR_CORRUPT when the signature is not by this key over these bytes, and for public keys of small
// order.
enum err crypto_verify(const uint8_t public_key[CRYPTO_KEY_BYTES], struct bytes_view data,
    const uint8_t signature[CRYPTO_SIGNATURE_BYTES]) ERR_CHECKED;
// crypto_sign_check and crypto_box_check: ERR_CORRUPT for public keys with which nothing could be verified or agreed
// on, so that they can be refused when they are announced.
enum err crypto_sign_check(const uint8_t public_key[CRYPTO_KEY_BYTES]) ERR_CHECKED;
enum err crypto_box_check(const uint8_t public_key[CRYPTO_KEY_BYTES]) ERR_CHECKED;

// crypto_box_public gives the public half of an X25519 private key (32 random bytes). RFC 7748.
enum err crypto_box_public(const uint8_t private_key[CRYPTO_KEY_BYTES],
    uint8_t public_out[CRYPTO_KEY_BYTES]) ERR_CHECKED;
// crypto_box_agree: ERR_CORRUPT for public keys that lead to the all-zero secret.
enum err crypto_box_agree(const uint8_t private_key[CRYPTO_KEY_BYTES], const uint8_t public_key[CRYPTO_KEY_BYTES],
    uint8_t shared_out[CRYPTO_KEY_BYTES]) ERR_CHECKED;

// crypto_seal encrypts with AES-256-GCM and appends ciphertext ‖ tag to out. The caller never uses a nonce twice with
// a key: e2e/ derives both afresh for each call.
enum err crypto_seal(const uint8_t key[CRYPTO_KEY_BYTES], const uint8_t nonce[CRYPTO_NONCE_BYTES],
    struct bytes_view aad, struct bytes_view plain, struct bytes *out) ERR_CHECKED;
// crypto_open appends the plaintext to out. ERR_CORRUPT, with nothing appended: not what was sealed with this key.
enum err crypto_open(const uint8_t key[CRYPTO_KEY_BYTES], const uint8_t nonce[CRYPTO_NONCE_BYTES],
    struct bytes_view aad, struct bytes_view sealed, struct bytes *out) ERR_CHECKED;

#endif
