// For e2e/ and its tests: what e2e_message.h draws at random is given here. Whoever calls these twice with the same
// salt or ephemeral key gives the plaintexts away.
#ifndef E2E_E2E_MESSAGE_PRIV_H
#define E2E_E2E_MESSAGE_PRIV_H

#include "e2e/e2e_message.h"

enum err e2e_message_seal_with_salt(const Fc__E2e__V1__Header *header, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    const uint8_t sign_key[CRYPTO_KEY_BYTES], const uint8_t salt[E2E_SALT_BYTES], struct bytes_view content,
    struct bytes *out) ERR_CHECKED;

// e2e_message_padded_size is what content of this size is sealed as, its length included.
size_t e2e_message_padded_size(size_t content_size);

enum err e2e_epoch_wrap_with_ephemeral(const uint8_t ephemeral_private[CRYPTO_KEY_BYTES],
    const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    struct bytes_view prev_hash, const uint8_t device_id[E2E_ID_BYTES], const uint8_t box_key[CRYPTO_KEY_BYTES],
    uint8_t enc_out[E2E_WRAP_ENC_BYTES], uint8_t ciphertext_out[E2E_WRAP_CIPHERTEXT_BYTES]) ERR_CHECKED;
enum err e2e_epoch_seal_previous_with_salt(const uint8_t next_secret[E2E_SECRET_BYTES],
    const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch, const uint8_t salt[E2E_SALT_BYTES],
    const uint8_t secret[E2E_SECRET_BYTES], struct bytes *out) ERR_CHECKED;

// e2e_file_key_derive fills in the commitment and the key. ERR_INVALID: sizes that no file has.
enum err e2e_file_key_derive(uint32_t segment_plain_bytes, uint64_t plain_size_bytes, struct e2e_file_secret *secret,
    struct e2e_file_key *out) ERR_CHECKED;

#endif
