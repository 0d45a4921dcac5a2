#include "e2e/e2e_message.h"

#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_seal_priv.h"
#include "e2e/e2e_wire.h"

enum {
    LENGTH_BYTES = 4,
    PADDING_STEP_BYTES = 64,
    PADDING_STEP_UP_TO_BYTES = 1024,
};

static size_t
log2_floor(size_t value)
{
    size_t result = 0;
    while (value > 1) {
        value >>= 1;
        result++;
    }
    return result;
}

// Padmé: behind the highest bit of a size, the one worth 2^E, only log2(E) + 1 bits stay. It costs at most 12 %.
static size_t
padme(size_t size)
{
    size_t exponent = log2_floor(size);
    size_t kept = log2_floor(exponent) + 1;
    size_t mask = ((size_t)1 << (exponent - kept)) - 1;
    return (size + mask) & ~mask;
}

size_t
e2e_message_padded_size(size_t content_size)
{
    size_t size = LENGTH_BYTES + content_size;
    if (size <= PADDING_STEP_UP_TO_BYTES) {
        return (size + PADDING_STEP_BYTES - 1) / PADDING_STEP_BYTES * PADDING_STEP_BYTES;
    }
    return padme(size);
}

// Appends length ‖ content ‖ zeros.
static enum err
pad(struct bytes_view content, struct bytes *out)
{
    size_t padded_size = e2e_message_padded_size(content.size);
    enum err err = bytes_reserve(out, padded_size);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t *to = out->data + out->size;
    memset(to, 0, padded_size);
    bytes_store_be32(to, (uint32_t)content.size);
    if (content.size > 0) {
        memcpy(to + LENGTH_BYTES, content.data, content.size);
    }
    out->size += padded_size;
    return ERR_OK;
}

static enum err
unpad(struct bytes_view padded, struct bytes *out)
{
    if (padded.size < LENGTH_BYTES) {
        return ERR_CORRUPT;
    }
    size_t content_size = bytes_load_be32(padded.data);
    if (content_size > padded.size - LENGTH_BYTES) {
        return ERR_CORRUPT;
    }
    for (size_t i = LENGTH_BYTES + content_size; i < padded.size; i++) {
        if (padded.data[i] != 0) {
            return ERR_CORRUPT;
        }
    }
    return bytes_append(out, bytes_view_of(padded.data + LENGTH_BYTES, content_size));
}

static struct bytes_view
view_of(ProtobufCBinaryData field)
{
    return bytes_view_of(field.data, field.len);
}

static enum err
check_header(const Fc__E2e__V1__Header *header, struct err_detail *why)
{
    if (header->suite != E2E_SUITE) {
        return err_fail(why, ERR_INVALID, "the message is of suite %" PRIu32 "; only %d is known", header->suite,
            E2E_SUITE);
    }
    if (header->room_id.len != E2E_ID_BYTES || header->user_id.len != E2E_ID_BYTES ||
        header->device_id.len != E2E_ID_BYTES || header->message_id.len != E2E_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "an id in the message's header does not have %d bytes", E2E_ID_BYTES);
    }
    if (header->epoch == 0) {
        return err_fail(why, ERR_INVALID, "the message's header names no epoch");
    }
    if (header->log_head.len != E2E_HASH_BYTES) {
        return err_fail(why, ERR_INVALID, "the message's header does not name an entry of the room's log");
    }
    if (header->seen_chain.len != (header->seen_seq == 0 ? 0 : E2E_HASH_BYTES)) {
        return err_fail(why, ERR_INVALID, "the message's header does not say what its sender had seen");
    }
    if (header->type != FC__E2E__V1__TYPE__MESSAGE && header->type != FC__E2E__V1__TYPE__DELETE) {
        return err_fail(why, ERR_INVALID, "the message is of a type that is not known");
    }
    if ((header->type == FC__E2E__V1__TYPE__DELETE) != (header->target_seq != 0)) {
        return err_fail(why, ERR_INVALID, "the message's header names another message without deleting it, or none");
    }
    return ERR_OK;
}

static enum err
sender_key(const Fc__E2e__V1__Header *header, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    uint8_t out[E2E_SECRET_BYTES])
{
    return e2e_derive(epoch_secret, E2E_LABEL_SENDER, view_of(header->device_id), out);
}

static ProtobufCBinaryData
field_of(struct bytes *bytes)
{
    return (ProtobufCBinaryData){.data = bytes->data, .len = bytes->size};
}

// Signs and packs what has been sealed.
static enum err
finish(struct bytes *header, struct bytes *sealed, const uint8_t sign_key[CRYPTO_KEY_BYTES], struct bytes *out)
{
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    enum err err = e2e_sign(sign_key, E2E_CONTEXT_MESSAGE, bytes_as_view(header), bytes_as_view(sealed), signature);
    if (err != ERR_OK) {
        return err;
    }
    Fc__E2e__V1__SealedMessage wire = FC__E2E__V1__SEALED_MESSAGE__INIT;
    wire.header = field_of(header);
    wire.sealed = field_of(sealed);
    wire.signature = (ProtobufCBinaryData){.data = signature, .len = sizeof(signature)};
    return e2e_wire_append(&wire.base, out);
}

enum err
e2e_message_seal_with_salt(const Fc__E2e__V1__Header *header, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    const uint8_t sign_key[CRYPTO_KEY_BYTES], const uint8_t salt[E2E_SALT_BYTES], struct bytes_view content,
    struct bytes *out)
{
    if (content.size > E2E_CONTENT_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    struct bytes packed = {0};
    struct bytes padded = {0};
    struct bytes sealed = {0};
    uint8_t secret[E2E_SECRET_BYTES];
    enum err err = check_header(header, NULL);
    if (err == ERR_OK) {
        err = e2e_wire_append(&header->base, &packed);
    }
    if (err == ERR_OK) {
        err = sender_key(header, epoch_secret, secret);
    }
    if (err == ERR_OK) {
        err = pad(content, &padded);
    }
    if (err == ERR_OK) {
        err = e2e_seal_with_salt(secret, E2E_LABEL_MESSAGE, bytes_as_view(&packed), salt, bytes_as_view(&padded),
            &sealed);
    }
    if (err == ERR_OK) {
        err = finish(&packed, &sealed, sign_key, out);
    }
    digest_wipe(secret, sizeof(secret));
    bytes_free(&sealed);
    bytes_free_secret(&padded);
    bytes_free(&packed);
    return err;
}

enum err
e2e_message_seal(const Fc__E2e__V1__Header *header, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    const uint8_t sign_key[CRYPTO_KEY_BYTES], struct bytes_view content, struct bytes *out)
{
    uint8_t salt[E2E_SALT_BYTES];
    random_bytes(salt, sizeof(salt));
    return e2e_message_seal_with_salt(header, epoch_secret, sign_key, salt, content, out);
}

enum err
e2e_message_parse(struct bytes_view sealed, struct e2e_message *out, struct err_detail *why)
{
    struct e2e_message message = {0};
    ProtobufCMessage *unpacked = NULL;
    enum err err = e2e_wire_unpack(&fc__e2e__v1__sealed_message__descriptor, sealed, E2E_SEALED_MESSAGE_MAX_BYTES,
        "sealed message", &unpacked, why);
    if (err != ERR_OK) {
        goto out;
    }
    message.wire = (Fc__E2e__V1__SealedMessage *)unpacked;
    if (message.wire->signature.len != CRYPTO_SIGNATURE_BYTES ||
        message.wire->sealed.len < E2E_SEAL_OVERHEAD_BYTES + LENGTH_BYTES) {
        err = err_fail(why, ERR_INVALID, "the sealed message lacks its signature or its content");
        goto out;
    }
    err = e2e_wire_unpack(&fc__e2e__v1__header__descriptor, view_of(message.wire->header), E2E_CONTEXT_MAX_BYTES,
        "message's header", &unpacked, why);
    if (err != ERR_OK) {
        goto out;
    }
    message.header = (Fc__E2e__V1__Header *)unpacked;
    err = check_header(message.header, why);
    if (err != ERR_OK) {
        goto out;
    }
    *out = message;
    message = (struct e2e_message){0}; // transferred
out:
    e2e_message_deinit(&message);
    return err;
}

void
e2e_message_deinit(struct e2e_message *message)
{
    if (message->header != NULL) {
        fc__e2e__v1__header__free_unpacked(message->header, NULL);
    }
    if (message->wire != NULL) {
        fc__e2e__v1__sealed_message__free_unpacked(message->wire, NULL);
    }
    *message = (struct e2e_message){0};
}

enum err
e2e_message_verify_by(const struct e2e_message *message, const uint8_t sign_key[CRYPTO_KEY_BYTES])
{
    return e2e_verify(sign_key, E2E_CONTEXT_MESSAGE, view_of(message->wire->header), view_of(message->wire->sealed),
        view_of(message->wire->signature));
}

enum err
e2e_message_verify(const struct e2e_message *message, const struct e2e_user *sender)
{
    if (sender->seq == 0 || memcmp(message->header->user_id.data, sender->id, E2E_ID_BYTES) != 0) {
        return ERR_NOT_FOUND;
    }
    const struct e2e_device *device = e2e_user_device(sender, message->header->device_id.data);
    if (device == NULL) {
        return ERR_NOT_FOUND;
    }
    return e2e_message_verify_by(message, device->sign_key);
}

enum err
e2e_message_key(const struct e2e_message *message, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    uint8_t key_out[E2E_MESSAGE_KEY_BYTES])
{
    uint8_t secret[E2E_SECRET_BYTES];
    enum err err = sender_key(message->header, epoch_secret, secret);
    if (err == ERR_OK) {
        err = e2e_seal_key(secret, E2E_LABEL_MESSAGE, view_of(message->wire->header), view_of(message->wire->sealed),
            key_out);
    }
    digest_wipe(secret, sizeof(secret));
    return err;
}

enum err
e2e_message_open_with_key(const struct e2e_message *message, const uint8_t key[E2E_MESSAGE_KEY_BYTES],
    struct bytes *content_out)
{
    struct bytes padded = {0};
    enum err err = e2e_open_with_key(key, view_of(message->wire->header), view_of(message->wire->sealed), &padded);
    if (err == ERR_OK) {
        err = unpad(bytes_as_view(&padded), content_out);
    }
    bytes_free_secret(&padded);
    return err;
}

enum err
e2e_message_open(const struct e2e_message *message, const uint8_t epoch_secret[E2E_SECRET_BYTES],
    struct bytes *content_out)
{
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    enum err err = e2e_message_key(message, epoch_secret, key);
    if (err == ERR_OK) {
        err = e2e_message_open_with_key(message, key, content_out);
    }
    digest_wipe(key, sizeof(key));
    return err;
}

enum err
e2e_message_chain_hash(const uint8_t before[E2E_HASH_BYTES], const uint8_t sealed_hash[E2E_HASH_BYTES],
    uint8_t after_out[E2E_HASH_BYTES])
{
    uint8_t input[2 * E2E_HASH_BYTES];
    memcpy(input, before, E2E_HASH_BYTES);
    memcpy(input + E2E_HASH_BYTES, sealed_hash, E2E_HASH_BYTES);
    return digest_of(DIGEST_SHA256, bytes_view_of(input, sizeof(input)), after_out);
}

enum err
e2e_message_chain(const uint8_t before[E2E_HASH_BYTES], struct bytes_view sealed, uint8_t after_out[E2E_HASH_BYTES])
{
    uint8_t hash[E2E_HASH_BYTES];
    enum err err = digest_of(DIGEST_SHA256, sealed, hash);
    return err == ERR_OK ? e2e_message_chain_hash(before, hash, after_out) : err;
}
