// Sealed messages and files of encrypted rooms. Any thread.
#ifndef E2E_E2E_MESSAGE_H
#define E2E_E2E_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "e2e/e2e_seal.h"
#include "e2e/e2e_user.h"

#include "fc/e2e/v1/message.pb-c.h"

enum {
    E2E_CONTENT_MAX_BYTES = 66 * 1024,
    E2E_SEALED_MESSAGE_MAX_BYTES = 72 * 1024,
};

// e2e_message_seal pads, seals and signs content and appends an encoded SealedMessage to out. The header says epoch,
// user and device; epoch_secret is that epoch's.
enum err e2e_message_seal(const Fc__E2e__V1__Header *header, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    const uint8_t sign_key[CRYPTO_KEY_BYTES], struct bytes_view content, struct bytes *out) ERR_CHECKED;

// e2e_message is a SealedMessage taken apart.
struct e2e_message {
    Fc__E2e__V1__SealedMessage *wire; // owned
    Fc__E2e__V1__Header *header;      // owned; lengths of its fields have been checked
};

// e2e_message_parse takes apart what came from outside. ERR_INVALID, ERR_TOO_BIG.
enum err e2e_message_parse(struct bytes_view sealed, struct e2e_message *out, struct err_detail *why) ERR_CHECKED;
void e2e_message_deinit(struct e2e_message *message);

// e2e_message_verify checks the signature by the device that the header names. ERR_CORRUPT; ERR_NOT_FOUND: not a device
// of this user's.
enum err e2e_message_verify(const struct e2e_message *message, const struct e2e_user *sender) ERR_CHECKED;
// e2e_message_verify_by is the costly part of it, with the key of a device that has been found. ERR_CORRUPT.
enum err e2e_message_verify_by(const struct e2e_message *message, const uint8_t sign_key[CRYPTO_KEY_BYTES]) ERR_CHECKED;

// e2e_message_open appends the content to out, after e2e_message_verify. ERR_CORRUPT.
enum err e2e_message_open(const struct e2e_message *message, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    struct bytes *content_out) ERR_CHECKED;

// e2e_message_key derives the key of this one message for a report of abuse; e2e_message_open_with_key is for those who
// get the report.
enum err e2e_message_key(const struct e2e_message *message, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    uint8_t key_out[E2E_MESSAGE_KEY_BYTES]) ERR_CHECKED;
enum err e2e_message_open_with_key(const struct e2e_message *message, const uint8_t key[E2E_MESSAGE_KEY_BYTES],
    struct bytes *content_out) ERR_CHECKED;

// e2e_message_chain is the chain after a message: SHA-256(before ‖ SHA-256(sealed)). before is 32 zero bytes at first.
enum err e2e_message_chain(const uint8_t before[E2E_HASH_BYTES], struct bytes_view sealed,
    uint8_t after_out[E2E_HASH_BYTES]) ERR_CHECKED;
// The same when only SHA-256(sealed) is left, after a deletion.
enum err e2e_message_chain_hash(const uint8_t before[E2E_HASH_BYTES], const uint8_t sealed_hash[E2E_HASH_BYTES],
    uint8_t after_out[E2E_HASH_BYTES]) ERR_CHECKED;

// Epoch secrets (proto/fc/e2e/v1/chain.proto).
enum err e2e_epoch_commitment(const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, uint8_t out[E2E_COMMITMENT_BYTES]) ERR_CHECKED;
enum err e2e_epoch_wrap(const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    struct bytes_view prev_hash, const uint8_t device_id[E2E_ID_BYTES], const uint8_t box_key[CRYPTO_KEY_BYTES],
    uint8_t enc_out[E2E_WRAP_ENC_BYTES], uint8_t ciphertext_out[E2E_WRAP_CIPHERTEXT_BYTES]) ERR_CHECKED;
enum err e2e_epoch_unwrap(const uint8_t box_private[CRYPTO_KEY_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, struct bytes_view prev_hash, const uint8_t device_id[E2E_ID_BYTES], struct bytes_view enc,
    struct bytes_view ciphertext, uint8_t secret_out[E2E_SECRET_BYTES]) ERR_CHECKED;
// The ladder: seal(next_secret, "fc/1 hist", room_id ‖ epoch as 8 bytes big-endian, the secret of `epoch`).
enum err e2e_epoch_seal_previous(const uint8_t next_secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, const uint8_t secret[E2E_SECRET_BYTES], struct bytes *out) ERR_CHECKED;
enum err e2e_epoch_open_previous(const uint8_t next_secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, struct bytes_view sealed, uint8_t secret_out[E2E_SECRET_BYTES]) ERR_CHECKED;

// e2e_keys is what a recovery key or the secret of an invite link becomes: the keys of a pseudo-device.
//   HKDF(secret, info = label ‖ 0x00, 64 bytes) = sign key ‖ box key
//   id = the first 16 bytes of SHA-256(sign key's public half)
struct e2e_keys {
    uint8_t id[E2E_ID_BYTES];
    uint8_t sign_private[CRYPTO_KEY_BYTES];
    uint8_t sign_public[CRYPTO_KEY_BYTES];
    uint8_t box_private[CRYPTO_KEY_BYTES];
    uint8_t box_public[CRYPTO_KEY_BYTES];
};
#define E2E_LABEL_RECOVERY_DEVICE "fc/1 recovery device"
#define E2E_LABEL_LINK_KEYS "fc/1 link keys"
enum err e2e_keys_derive(struct bytes_view secret, const char *label, struct e2e_keys *out) ERR_CHECKED;
// e2e_keys_generate makes those of a device, id random.
enum err e2e_keys_generate(struct e2e_keys *out) ERR_CHECKED;

// A recovery key is 20 random bytes, written as 8 groups of 4 characters of Crockford's base32 and a ninth of 4 that
// checks them (the first 20 bits of SHA-256).
enum { E2E_RECOVERY_KEY_BYTES = 20, E2E_RECOVERY_TEXT_BYTES = 45 };
enum err e2e_recovery_format(const uint8_t key[E2E_RECOVERY_KEY_BYTES], char out[E2E_RECOVERY_TEXT_BYTES]) ERR_CHECKED;
// Any case, spaces and dashes; o, i and l are taken for 0 and 1. ERR_INVALID: mistyped.
enum err e2e_recovery_parse(const char *text, uint8_t key_out[E2E_RECOVERY_KEY_BYTES],
    struct err_detail *why) ERR_CHECKED;

// e2e_file seals and opens the segments of one file (FileKey). Segments in any order, from any thread.
enum { E2E_FILE_SEGMENT_MAX_BYTES = 16 * 1024 * 1024 };
struct e2e_file_key {
    uint8_t key[CRYPTO_KEY_BYTES];
    uint8_t base_nonce[CRYPTO_NONCE_BYTES];
    uint32_t segment_plain_bytes;
    uint64_t plain_size_bytes;
};
// e2e_file_key_generate draws the secret, the salt and the seal id, and fills a FileKey's arrays, which borrow from
// storage.
struct e2e_file_secret {
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t salt[E2E_SALT_BYTES];
    uint8_t commitment[E2E_COMMITMENT_BYTES];
    uint8_t seal_id[E2E_ID_BYTES];
};
enum err e2e_file_key_generate(uint32_t segment_plain_bytes, uint64_t plain_size_bytes,
    struct e2e_file_secret *secret_out, struct e2e_file_key *out) ERR_CHECKED;
// ERR_CORRUPT: the commitment is another key's. ERR_INVALID.
enum err e2e_file_key_open(const Fc__E2e__V1__FileKey *wire, struct e2e_file_key *out) ERR_CHECKED;
uint64_t e2e_file_segment_count(const struct e2e_file_key *key);
uint64_t e2e_file_sealed_size(const struct e2e_file_key *key);
// ERR_INVALID: no such segment, or not of its size. No segment is sealed twice with different content.
enum err e2e_file_seal_segment(const struct e2e_file_key *key, uint64_t index, struct bytes_view plain,
    struct bytes *out) ERR_CHECKED;
// ERR_CORRUPT: changed, swapped, or cut.
enum err e2e_file_open_segment(const struct e2e_file_key *key, uint64_t index, struct bytes_view sealed,
    struct bytes *out) ERR_CHECKED;

#endif
