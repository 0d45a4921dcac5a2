// Sealed messages and file keys from outside. The first byte says what the rest is:
//     0    a sealed message as it arrives; what is taken has the one form that it can have
//     1    the length of a header in a byte, the header, and what its author, who holds all keys, sealed as padded
//     content 2    content that is sealed and has to arrive 3    a file's key; where it can be a key, its commitment is
//     made to fit and its last segment arrives 4    a recovery key as somebody typed it

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/e2e_message.h"
#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t epoch_secret[E2E_SECRET_BYTES] = {1};
static const uint8_t sign_private[CRYPTO_KEY_BYTES] = {2};
static uint8_t id[E2E_ID_BYTES] = {3};
static uint8_t hash[E2E_HASH_BYTES] = {4};

static void
must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static ProtobufCBinaryData
field(const void *data, size_t size)
{
    union {
        const void *in;
        uint8_t *out;
    } address = {.in = data};
    return (ProtobufCBinaryData){.data = address.out, .len = size};
}

static enum err
receive(struct bytes_view sealed, struct bytes *content)
{
    struct e2e_message message = {0};
    struct err_detail why = {0};
    enum err err = e2e_message_parse(sealed, &message, &why);
    if (err != ERR_OK) {
        must((err == ERR_INVALID || err == ERR_TOO_BIG) && why.message[0] != '\0' && message.wire == NULL);
        return err;
    }
    struct bytes again = {0};
    must(e2e_wire_append(&message.wire->base, &again) == ERR_OK);
    must(bytes_view_equal(bytes_as_view(&again), sealed));
    bytes_free(&again);

    struct e2e_device device = {.added_seq = 1};
    struct e2e_user sender = {.seq = 1, .devices = &device, .device_count = 1};
    memcpy(device.id, message.header->device_id.data, E2E_ID_BYTES);
    memcpy(sender.id, message.header->user_id.data, E2E_ID_BYTES);
    must(crypto_sign_public(sign_private, device.sign_key) == ERR_OK);
    err = e2e_message_verify(&message, &sender);
    must(err == ERR_OK || err == ERR_CORRUPT);
    enum err opened = e2e_message_open(&message, epoch_secret, content);
    must(opened == ERR_OK || (opened == ERR_CORRUPT && content->size == 0));
    e2e_message_deinit(&message);
    return err == ERR_OK ? opened : err;
}

// Seals what no honest device would.
static void
receive_from_liar(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return;
    }
    size_t header_size = data[0] < size - 1 ? data[0] : size - 1;
    struct bytes_view header = bytes_view_of(data + 1, header_size);
    struct bytes_view padded = bytes_view_of(data + 1 + header_size, size - 1 - header_size);
    Fc__E2e__V1__Header *unpacked = fc__e2e__v1__header__unpack(NULL, header.size, header.data);
    struct bytes_view device_id =
        unpacked == NULL ? bytes_view_of(NULL, 0) : bytes_view_of(unpacked->device_id.data, unpacked->device_id.len);
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    struct bytes sealed = {0};
    struct bytes wire_bytes = {0};
    struct bytes content = {0};
    must(e2e_derive(epoch_secret, E2E_LABEL_SENDER, device_id, secret) == ERR_OK);
    must(e2e_seal(secret, E2E_LABEL_MESSAGE, header, padded, &sealed) == ERR_OK);
    must(e2e_sign(sign_private, E2E_CONTEXT_MESSAGE, header, bytes_as_view(&sealed), signature) == ERR_OK);
    Fc__E2e__V1__SealedMessage wire = FC__E2E__V1__SEALED_MESSAGE__INIT;
    wire.header = field(header.data, header.size);
    wire.sealed = field(sealed.data, sealed.size);
    wire.signature = field(signature, sizeof(signature));
    must(e2e_wire_append(&wire.base, &wire_bytes) == ERR_OK);
    if (receive(bytes_as_view(&wire_bytes), &content) == ERR_OK) {
        must(padded.size >= 4 && content.size <= padded.size - 4);
        must(memcmp(padded.data + 4, content.data == NULL ? padded.data + 4 : content.data, content.size) == 0);
    }
    bytes_free(&content);
    bytes_free(&wire_bytes);
    bytes_free(&sealed);
    if (unpacked != NULL) {
        fc__e2e__v1__header__free_unpacked(unpacked, NULL);
    }
}

static void
send_and_receive(struct bytes_view content)
{
    Fc__E2e__V1__Header header = FC__E2E__V1__HEADER__INIT;
    header.suite = E2E_SUITE;
    header.epoch = 1;
    header.room_id = header.user_id = header.device_id = header.message_id = field(id, sizeof(id));
    header.log_head = field(hash, sizeof(hash));
    struct bytes sealed = {0};
    struct bytes opened = {0};
    must(e2e_message_seal(&header, epoch_secret, sign_private, content, &sealed) == ERR_OK);
    must(receive(bytes_as_view(&sealed), &opened) == ERR_OK);
    must(bytes_view_equal(bytes_as_view(&opened), content));
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
use_file_key(const struct e2e_file_key *key)
{
    uint64_t last = e2e_file_segment_count(key) - 1;
    must(e2e_file_sealed_size(key) > key->plain_size_bytes);
    size_t size = (size_t)(key->plain_size_bytes - last * key->segment_plain_bytes);
    must(size < key->segment_plain_bytes);
    if (size > 65536) {
        return; // would only be slow
    }
    static const uint8_t plain[65536];
    struct bytes sealed = {0};
    struct bytes opened = {0};
    must(e2e_file_seal_segment(key, last, bytes_view_of(plain, size), &sealed) == ERR_OK);
    must(e2e_file_open_segment(key, last, bytes_as_view(&sealed), &opened) == ERR_OK && opened.size == size);
    must(e2e_file_open_segment(key, last + 1, bytes_as_view(&sealed), &opened) == ERR_INVALID);
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
open_file_key(const uint8_t *data, size_t size)
{
    Fc__E2e__V1__FileKey *wire = fc__e2e__v1__file_key__unpack(NULL, size, data);
    struct e2e_file_key key;
    if (wire == NULL) {
        return;
    }
    enum err err = e2e_file_key_open(wire, &key);
    must(err == ERR_OK || err == ERR_CORRUPT || err == ERR_INVALID);
    if (err == ERR_CORRUPT) {
        struct e2e_file_secret secret;
        memcpy(secret.secret, wire->secret.data, E2E_SECRET_BYTES);
        memcpy(secret.salt, wire->salt.data, E2E_SALT_BYTES);
        memcpy(secret.seal_id, wire->seal_id.data, E2E_ID_BYTES);
        must(e2e_file_key_derive(wire->segment_plain_bytes, wire->plain_size_bytes, &secret, &key) == ERR_OK);
        memcpy(wire->commitment.data, secret.commitment, E2E_COMMITMENT_BYTES);
        err = e2e_file_key_open(wire, &key);
        must(err == ERR_OK);
    }
    if (err == ERR_OK) {
        use_file_key(&key);
    }
    fc__e2e__v1__file_key__free_unpacked(wire, NULL);
}

static void
read_recovery_key(const uint8_t *data, size_t size)
{
    char *text = calloc(1, size + 1);
    uint8_t key[E2E_RECOVERY_KEY_BYTES];
    uint8_t again[E2E_RECOVERY_KEY_BYTES];
    char formatted[E2E_RECOVERY_TEXT_BYTES];
    struct err_detail why = {0};
    must(text != NULL);
    memcpy(text, data, size);
    enum err err = e2e_recovery_parse(text, key, &why);
    free(text);
    if (err != ERR_OK) {
        must(err == ERR_INVALID && why.message[0] != '\0');
        return;
    }
    must(e2e_recovery_format(key, formatted) == ERR_OK && e2e_recovery_parse(formatted, again, NULL) == ERR_OK);
    must(memcmp(key, again, sizeof(key)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes content = {0};
    if (size == 0) {
        return 0;
    }
    switch (data[0]) {
    case 0:
        (void)receive(bytes_view_of(data + 1, size - 1), &content);
        break;
    case 1:
        receive_from_liar(data + 1, size - 1);
        break;
    case 2:
        send_and_receive(bytes_view_of(data + 1, size - 1));
        break;
    case 3:
        open_file_key(data + 1, size - 1);
        break;
    case 4:
        read_recovery_key(data + 1, size - 1);
        break;
    default:
        break;
    }
    bytes_free(&content);
    return 0;
}
