// Epoch secrets: what commits to them, how devices get them, and the ladder back.

#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_seal_priv.h"

enum {
    PLACE_BYTES = E2E_ID_BYTES + sizeof(uint64_t),
    WRAP_INFO_MAX_BYTES = E2E_LABEL_MAX_BYTES + 1 + PLACE_BYTES + E2E_HASH_BYTES + E2E_ID_BYTES,
};

// room_id ‖ epoch
static struct bytes_view
place_of(const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch, uint8_t place[PLACE_BYTES])
{
    memcpy(place, room_id, E2E_ID_BYTES);
    bytes_store_be64(place + E2E_ID_BYTES, epoch);
    return bytes_view_of(place, PLACE_BYTES);
}

enum err
e2e_epoch_commitment(const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    uint8_t out[E2E_COMMITMENT_BYTES])
{
    uint8_t place[PLACE_BYTES];
    return e2e_derive(secret, E2E_LABEL_COMMITMENT, place_of(room_id, epoch, place), out);
}

// label ‖ 0x00 ‖ room_id ‖ epoch ‖ prev_hash ‖ device_id
static enum err
wrap_info(const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch, struct bytes_view prev_hash,
    const uint8_t device_id[E2E_ID_BYTES], uint8_t buffer[WRAP_INFO_MAX_BYTES], struct bytes_view *out)
{
    if (prev_hash.size != 0 && prev_hash.size != E2E_HASH_BYTES) {
        return ERR_INVALID;
    }
    size_t size = sizeof(E2E_LABEL_WRAP);
    memcpy(buffer, E2E_LABEL_WRAP, size);
    (void)place_of(room_id, epoch, buffer + size);
    size += PLACE_BYTES;
    if (prev_hash.size > 0) {
        memcpy(buffer + size, prev_hash.data, prev_hash.size);
        size += prev_hash.size;
    }
    memcpy(buffer + size, device_id, E2E_ID_BYTES);
    *out = bytes_view_of(buffer, size + E2E_ID_BYTES);
    return ERR_OK;
}

enum err
e2e_epoch_wrap_with_ephemeral(const uint8_t ephemeral_private[CRYPTO_KEY_BYTES], const uint8_t secret[E2E_SECRET_BYTES],
    const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch, struct bytes_view prev_hash,
    const uint8_t device_id[E2E_ID_BYTES], const uint8_t box_key[CRYPTO_KEY_BYTES], uint8_t enc_out[E2E_WRAP_ENC_BYTES],
    uint8_t ciphertext_out[E2E_WRAP_CIPHERTEXT_BYTES])
{
    uint8_t buffer[WRAP_INFO_MAX_BYTES];
    struct bytes_view info;
    struct bytes ciphertext = {0};
    enum err err = wrap_info(room_id, epoch, prev_hash, device_id, buffer, &info);
    if (err == ERR_OK) {
        err = e2e_hpke_seal_with_ephemeral(ephemeral_private, box_key, info, bytes_view_of(NULL, 0),
            bytes_view_of(secret, E2E_SECRET_BYTES), enc_out, &ciphertext);
    }
    if (err == ERR_OK) {
        memcpy(ciphertext_out, ciphertext.data, E2E_WRAP_CIPHERTEXT_BYTES);
    }
    bytes_free(&ciphertext);
    return err;
}

enum err
e2e_epoch_wrap(const uint8_t secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    struct bytes_view prev_hash, const uint8_t device_id[E2E_ID_BYTES], const uint8_t box_key[CRYPTO_KEY_BYTES],
    uint8_t enc_out[E2E_WRAP_ENC_BYTES], uint8_t ciphertext_out[E2E_WRAP_CIPHERTEXT_BYTES])
{
    uint8_t ephemeral_private[CRYPTO_KEY_BYTES];
    random_bytes(ephemeral_private, sizeof(ephemeral_private));
    enum err err = e2e_epoch_wrap_with_ephemeral(ephemeral_private, secret, room_id, epoch, prev_hash, device_id,
        box_key, enc_out, ciphertext_out);
    digest_wipe(ephemeral_private, sizeof(ephemeral_private));
    return err;
}

// Takes a secret out of what was opened, which has to hold nothing else.
static enum err
take_secret(struct bytes *opened, enum err err, uint8_t secret_out[E2E_SECRET_BYTES])
{
    if (err == ERR_OK && opened->size != E2E_SECRET_BYTES) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        memcpy(secret_out, opened->data, E2E_SECRET_BYTES);
    }
    bytes_free_secret(opened);
    return err;
}

enum err
e2e_epoch_unwrap(const uint8_t box_private[CRYPTO_KEY_BYTES], const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    struct bytes_view prev_hash, const uint8_t device_id[E2E_ID_BYTES], struct bytes_view enc,
    struct bytes_view ciphertext, uint8_t secret_out[E2E_SECRET_BYTES])
{
    uint8_t buffer[WRAP_INFO_MAX_BYTES];
    struct bytes_view info;
    struct bytes opened = {0};
    if (enc.size != E2E_WRAP_ENC_BYTES || ciphertext.size != E2E_WRAP_CIPHERTEXT_BYTES) {
        return ERR_CORRUPT;
    }
    enum err err = wrap_info(room_id, epoch, prev_hash, device_id, buffer, &info);
    if (err == ERR_OK) {
        err = e2e_hpke_open(box_private, enc.data, info, bytes_view_of(NULL, 0), ciphertext, &opened);
    }
    return take_secret(&opened, err, secret_out);
}

enum err
e2e_epoch_seal_previous_with_salt(const uint8_t next_secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, const uint8_t salt[E2E_SALT_BYTES], const uint8_t secret[E2E_SECRET_BYTES], struct bytes *out)
{
    uint8_t place[PLACE_BYTES];
    return e2e_seal_with_salt(next_secret, E2E_LABEL_LADDER, place_of(room_id, epoch, place), salt,
        bytes_view_of(secret, E2E_SECRET_BYTES), out);
}

enum err
e2e_epoch_seal_previous(const uint8_t next_secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, const uint8_t secret[E2E_SECRET_BYTES], struct bytes *out)
{
    uint8_t salt[E2E_SALT_BYTES];
    random_bytes(salt, sizeof(salt));
    return e2e_epoch_seal_previous_with_salt(next_secret, room_id, epoch, salt, secret, out);
}

enum err
e2e_epoch_open_previous(const uint8_t next_secret[E2E_SECRET_BYTES], const uint8_t room_id[E2E_ID_BYTES],
    uint64_t epoch, struct bytes_view sealed, uint8_t secret_out[E2E_SECRET_BYTES])
{
    uint8_t place[PLACE_BYTES];
    struct bytes opened = {0};
    enum err err = e2e_open(next_secret, E2E_LABEL_LADDER, place_of(room_id, epoch, place), sealed, &opened);
    return take_secret(&opened, err, secret_out);
}
