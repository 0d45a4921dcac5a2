#include "e2e/e2e_wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

// protobuf-c spends memory on whatever it is given, so that an encoding is walked before it gets it: only known fields
// of the right type, text in UTF-8, no deeper than what is signed goes, and no more messages than their bytes deserve.
enum {
    DEPTH_MAX = 4,
    MESSAGES_MIN = 2048,    // as many small changes as an entry may have, of two messages each
    BYTES_OF_A_MESSAGE = 8, // what all others have on average at least
    VARINT_MAX_BYTES = 10,
    WIRE_TYPE_BITS = 3,
};

struct walk {
    const uint8_t *at;
    const uint8_t *end;
};

static bool
take_varint(struct walk *walk, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_MAX_BYTES && walk->at < walk->end; i++) {
        uint8_t byte = *walk->at++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool
take_bytes(struct walk *walk, uint64_t size, struct bytes_view *out)
{
    if (size > (uint64_t)(walk->end - walk->at)) {
        return false;
    }
    *out = bytes_view_of(walk->at, (size_t)size);
    walk->at += size;
    return true;
}

static bool is_sound(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, unsigned depth,
    size_t *messages_left);

// Numbers and enums are varints in all that is signed; anything else is text, bytes or a message.
static bool
is_sound_value(const ProtobufCFieldDescriptor *field, struct walk *walk, unsigned wire_type, unsigned depth,
    size_t *messages_left)
{
    uint64_t number;
    struct bytes_view value;
    bool is_sized = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES ||
                    field->type == PROTOBUF_C_TYPE_MESSAGE;
    if (wire_type != (is_sized ? PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED : PROTOBUF_C_WIRE_TYPE_VARINT) ||
        !take_varint(walk, &number)) {
        return false;
    }
    if (!is_sized) {
        return true;
    }
    if (!take_bytes(walk, number, &value)) {
        return false;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return is_sound(field->descriptor, value, depth + 1, messages_left);
    }
    return field->type != PROTOBUF_C_TYPE_STRING || text_is_utf8(value);
}

static bool
is_sound(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, unsigned depth, size_t *messages_left)
{
    if (depth > DEPTH_MAX || *messages_left == 0) {
        return false;
    }
    (*messages_left)--;
    if (data.size == 0) {
        return true; // and maybe no address
    }
    struct walk walk = {.at = data.data, .end = data.data + data.size};
    while (walk.at < walk.end) {
        uint64_t tag;
        if (!take_varint(&walk, &tag) || tag > UINT32_MAX) {
            return false;
        }
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> WIRE_TYPE_BITS));
        unsigned wire_type = (unsigned)tag & ((1U << WIRE_TYPE_BITS) - 1);
        if (field == NULL || !is_sound_value(field, &walk, wire_type, depth, messages_left)) {
            return false;
        }
    }
    return true;
}

enum err
e2e_wire_append(const ProtobufCMessage *message, struct bytes *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    enum err err = bytes_reserve(out, size);
    if (err == ERR_OK && size > 0) {
        out->size += protobuf_c_message_pack(message, out->data + out->size);
    }
    return err;
}

// Packing again shows a field twice, a needless default or long varint, a NUL in a text, and another order.
static enum err
check_canonical(const ProtobufCMessage *message, struct bytes_view data, const char *what, struct err_detail *why)
{
    struct bytes again = {0};
    enum err err = e2e_wire_append(message, &again);
    if (err == ERR_OK && !bytes_view_equal(bytes_as_view(&again), data)) {
        err = err_fail(why, ERR_INVALID, "the %s is not in the form that all agree on", what);
    }
    bytes_free(&again);
    return err;
}

enum err
e2e_wire_unpack(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, size_t max_bytes,
    const char *what, ProtobufCMessage **out, struct err_detail *why)
{
    if (data.size > max_bytes) {
        return err_fail(why, ERR_TOO_BIG, "the %s has %zu bytes; at most %zu are allowed", what, data.size, max_bytes);
    }
    size_t messages_left = MESSAGES_MIN + data.size / BYTES_OF_A_MESSAGE;
    if (!is_sound(descriptor, data, 1, &messages_left)) {
        return err_fail(why, ERR_INVALID, "the %s is cut, or has unknown fields or text that is not UTF-8", what);
    }
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, data.size, data.data);
    if (message == NULL) {
        return err_fail(why, ERR_INVALID, "the %s cannot be read", what);
    }
    enum err err = check_canonical(message, data, what, why);
    if (err != ERR_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
        return err;
    }
    *out = message;
    return ERR_OK;
}
