#include "e2e/e2e_wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

static bool is_sound(const ProtobufCMessage *message);

// One value of a field: of a single field, or an element of a repeated one.
static bool
is_sound_value(const ProtobufCFieldDescriptor *field, const void *value)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *message = *(const ProtobufCMessage *const *)value;
        return message == NULL || is_sound(message);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(const char *const *)value;
        return text == NULL || text_is_utf8(bytes_view_of_text(text));
    }
    return true;
}

static bool
is_sound_field(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_STRING) {
            return true;
        }
        size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
        const void *const *elements = *(const void *const *const *)(const void *)(base + field->offset);
        for (size_t i = 0; i < count; i++) {
            if (!is_sound_value(field, &elements[i])) {
                return false;
            }
        }
        return true;
    }
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
        *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id) {
        return true; // another member of the oneof lies there
    }
    return is_sound_value(field, base + field->offset);
}

// The messages that are signed do not contain themselves, so that this goes no deeper than they do.
static bool
is_sound(const ProtobufCMessage *message)
{
    if (message->n_unknown_fields > 0) {
        return false;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (!is_sound_field(message, &message->descriptor->fields[i])) {
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
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, data.size, data.data);
    if (message == NULL) {
        return err_fail(why, ERR_INVALID, "the %s cannot be read", what);
    }
    enum err err = ERR_OK;
    if (!is_sound(message)) {
        err = err_fail(why, ERR_INVALID, "the %s has fields that are not known, or text that is not UTF-8", what);
    } else {
        err = check_canonical(message, data, what, why);
    }
    if (err != ERR_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
        return err;
    }
    *out = message;
    return ERR_OK;
}
