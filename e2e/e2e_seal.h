// The sealing function and the key wrap of the suite fc/1. Any thread. docs/security.md lists the sources.
#ifndef E2E_E2E_SEAL_H
#define E2E_E2E_SEAL_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/err.h"

enum {
    E2E_SUITE = 1,
    E2E_ID_BYTES = 16,
    E2E_HASH_BYTES = 32,
    E2E_SECRET_BYTES = 32,
    E2E_SALT_BYTES = 24,
    E2E_COMMITMENT_BYTES = 32,
    E2E_SEAL_OVERHEAD_BYTES = E2E_SALT_BYTES + E2E_COMMITMENT_BYTES + CRYPTO_TAG_BYTES,
    E2E_WRAP_ENC_BYTES = 32,
    E2E_WRAP_CIPHERTEXT_BYTES = E2E_SECRET_BYTES + CRYPTO_TAG_BYTES,
    E2E_MESSAGE_KEY_BYTES = 76, // key ‖ nonce ‖ commitment of one sealed thing
};

// e2e_seal appends salt ‖ commitment ‖ ciphertext ‖ tag to out:
//   key (32) ‖ nonce (12) ‖ commitment (32) = HKDF-SHA256(secret, salt, info = label ‖ 0x00 ‖ context)
//   ciphertext ‖ tag = AES-256-GCM(key, nonce, aad = context, plain)
// The salt is random and drawn inside, so that no caller can use one twice.
enum err e2e_seal(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    struct bytes_view plain, struct bytes *out) ERR_CHECKED;
// e2e_open appends what was sealed. ERR_CORRUPT, with nothing appended: another secret, label or context, or changed
// bytes.
enum err e2e_open(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    struct bytes_view sealed, struct bytes *out) ERR_CHECKED;

// e2e_seal_key derives the key of one sealed thing, which opens nothing else; e2e_open_with_key uses it. For reports of
// abuse.
enum err e2e_seal_key(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    struct bytes_view sealed, uint8_t key_out[E2E_MESSAGE_KEY_BYTES]) ERR_CHECKED;
enum err e2e_open_with_key(const uint8_t key[E2E_MESSAGE_KEY_BYTES], struct bytes_view context,
    struct bytes_view sealed, struct bytes *out) ERR_CHECKED;

// e2e_derive is HKDF-SHA256(secret, salt empty, info = label ‖ 0x00 ‖ context, 32 bytes).
enum err e2e_derive(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    uint8_t out[E2E_SECRET_BYTES]) ERR_CHECKED;

// e2e_hpke_seal is single-shot HPKE in base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
// Appends ciphertext ‖ tag to ciphertext_out.
enum err e2e_hpke_seal(const uint8_t receiver_public[CRYPTO_KEY_BYTES], struct bytes_view info, struct bytes_view aad,
    struct bytes_view plain, uint8_t enc_out[E2E_WRAP_ENC_BYTES], struct bytes *ciphertext_out) ERR_CHECKED;
// ERR_CORRUPT: not for this receiver, or changed.
enum err e2e_hpke_open(const uint8_t receiver_private[CRYPTO_KEY_BYTES], const uint8_t enc[E2E_WRAP_ENC_BYTES],
    struct bytes_view info, struct bytes_view aad, struct bytes_view ciphertext, struct bytes *plain_out) ERR_CHECKED;

// e2e_sign signs context ‖ 0x00 ‖ parts..., e2e_verify checks it (ERR_CORRUPT).
enum err e2e_sign(const uint8_t private_key[CRYPTO_KEY_BYTES], const char *context, struct bytes_view first,
    struct bytes_view second, uint8_t signature_out[CRYPTO_SIGNATURE_BYTES]) ERR_CHECKED;
enum err e2e_verify(const uint8_t public_key[CRYPTO_KEY_BYTES], const char *context, struct bytes_view first,
    struct bytes_view second, struct bytes_view signature) ERR_CHECKED;

#define E2E_CONTEXT_USER "fc/1 sig user"
#define E2E_CONTEXT_ROOM "fc/1 sig room"
#define E2E_CONTEXT_JOIN "fc/1 sig join"
#define E2E_CONTEXT_MESSAGE "fc/1 sig msg"
#define E2E_LABEL_MESSAGE "fc/1 msg"
#define E2E_LABEL_LADDER "fc/1 hist"
#define E2E_LABEL_SENDER "fc/1 snd"
#define E2E_LABEL_COMMITMENT "fc/1 kc"
#define E2E_LABEL_WRAP "fc/1 wrap"
#define E2E_LABEL_FILE "fc/1 file"
#define E2E_LABEL_RECOVERY_KEY "fc/1 recovery" // the recovery key under the backup key; context: user_id
#define E2E_LABEL_IDENTITY "fc/1 identity"     // the identity key under the recovery key; context: user_id
#define E2E_LABEL_LINK_INFO "fc/1 link"        // what a link's holders need to know; context: link_id

#endif
