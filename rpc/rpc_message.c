// Checking and unpacking what strangers sent: one walk over the encoding, with a stack of its own, so that depth costs
// no recursion. It checks each field and, when it unpacks, stores it (rpc_message_store.c).
#include "rpc/rpc_message.h"

#include <inttypes.h>
#include <stdbool.h>

#include "base/text.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_message_priv.h"

enum {
    TAG_MAX_BYTES = 5, // of a 32-bit tag
    TAG_WIRE_TYPE_BITS = 3,
};

struct level {
    const ProtobufCMessageDescriptor *descriptor;
    const uint8_t *end;
    ProtobufCMessage *message; // what it is unpacked into; NULL in a mere check
};

struct walk {
    const uint8_t *at;
    struct arena *arena; // NULL in a mere check
    bool is_in_place;    // fields of bytes borrow from the encoding
    struct level levels[RPC_NESTING_MAX_DEPTH];
    size_t depth; // levels in use; the outermost message is one
    size_t elements;
    struct err_detail *why;
};

static enum err
fail(struct walk *walk, const struct rpc_occurrence *occurrence, const char *problem)
{
    const char *message = walk->levels[walk->depth - 1].descriptor->short_name;
    if (occurrence->field != NULL) {
        return err_fail(walk->why, ERR_INVALID, "field \"%s\" of %s %s", occurrence->field->name, message, problem);
    }
    return err_fail(walk->why, ERR_INVALID, "field %" PRIu32 " of %s %s", occurrence->number, message, problem);
}

static enum err
read_tag(struct walk *walk, struct rpc_occurrence *occurrence)
{
    const struct level *level = &walk->levels[walk->depth - 1];
    uint64_t tag = 0;
    size_t length = rpc_varint_read(walk->at, level->end, TAG_MAX_BYTES, &tag);
    occurrence->number = (uint32_t)(tag >> TAG_WIRE_TYPE_BITS);
    occurrence->field = NULL;
    if (length == 0 || tag > UINT32_MAX) {
        return err_fail(walk->why, ERR_INVALID, "%s has a field whose tag cannot be read",
            level->descriptor->short_name);
    }
    if (occurrence->number == 0) {
        return fail(walk, occurrence, "cannot exist");
    }
    walk->at += length;
    occurrence->wire_type = (enum rpc_wire_type)(tag & ((1u << TAG_WIRE_TYPE_BITS) - 1));
    occurrence->field = protobuf_c_message_descriptor_get_field(level->descriptor, occurrence->number);
    return ERR_OK;
}

static enum err
read_value(struct walk *walk, struct rpc_occurrence *occurrence)
{
    const uint8_t *end = walk->levels[walk->depth - 1].end;
    size_t left = (size_t)(end - walk->at);
    size_t size = 0;
    switch (occurrence->wire_type) {
    case RPC_WIRE_VARINT:
        size = rpc_varint_read(walk->at, end, RPC_VARINT_MAX_BYTES, &occurrence->number_value);
        if (size == 0) {
            return fail(walk, occurrence, "is cut short or longer than a number can be");
        }
        break;
    case RPC_WIRE_64BIT:
        size = 8;
        break;
    case RPC_WIRE_32BIT:
        size = 4;
        break;
    case RPC_WIRE_LENGTH_PREFIXED: {
        uint64_t length = 0;
        size_t prefix = rpc_varint_read(walk->at, end, RPC_VARINT_MAX_BYTES, &length);
        if (prefix == 0 || length > left - prefix) {
            return fail(walk, occurrence, "is cut short");
        }
        walk->at += prefix;
        left -= prefix;
        size = (size_t)length;
        break;
    }
    default:
        return fail(walk, occurrence, "has a wire type that is not supported");
    }
    if (size > left) {
        return fail(walk, occurrence, "is cut short");
    }
    occurrence->value = bytes_view_of(walk->at, size);
    walk->at += size;
    return ERR_OK;
}

static enum rpc_wire_type
wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return RPC_WIRE_32BIT;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return RPC_WIRE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return RPC_WIRE_LENGTH_PREFIXED;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return RPC_WIRE_VARINT;
}

// packed_count counts the entries of a packed list; false when it does not consist of whole ones.
static bool
packed_count(enum rpc_wire_type entry_type, struct bytes_view value, size_t *count_out)
{
    if (entry_type == RPC_WIRE_32BIT || entry_type == RPC_WIRE_64BIT) {
        size_t entry_bytes = entry_type == RPC_WIRE_32BIT ? 4 : 8;
        *count_out = value.size / entry_bytes;
        return value.size % entry_bytes == 0;
    }
    size_t count = 0;
    size_t run = 0; // bytes of the varint so far
    for (size_t i = 0; i < value.size; i++) {
        run++;
        if (run > RPC_VARINT_MAX_BYTES) {
            return false;
        }
        if ((value.data[i] & 0x80) == 0) {
            count++;
            run = 0;
        }
    }
    *count_out = count;
    return run == 0;
}

static enum err
add_elements(struct walk *walk, const struct rpc_occurrence *occurrence, size_t count)
{
    if (count > RPC_ELEMENTS_MAX - walk->elements) {
        return fail(walk, occurrence, "brings the message over its largest number of elements");
    }
    walk->elements += count;
    return ERR_OK;
}

// store puts a checked value where it belongs. child_out gets the message to go on with when it is one.
static enum err
store(struct walk *walk, const struct rpc_occurrence *occurrence, ProtobufCMessage **child_out)
{
    struct level *level = &walk->levels[walk->depth - 1];
    if (walk->arena == NULL || rpc_message_store(level->message, occurrence, walk->arena, child_out)) {
        return ERR_OK;
    }
    return err_fail(walk->why, ERR_NO_MEMORY, "%s takes more memory than a message of its size may",
        walk->levels[0].descriptor->short_name);
}

static enum err
check_packed(struct walk *walk, struct rpc_occurrence *occurrence, enum rpc_wire_type entry_type)
{
    if (occurrence->field->label != PROTOBUF_C_LABEL_REPEATED || occurrence->wire_type != RPC_WIRE_LENGTH_PREFIXED) {
        return fail(walk, occurrence, "has another wire type than its type asks for");
    }
    occurrence->is_packed = true;
    if (!packed_count(entry_type, occurrence->value, &occurrence->packed_count)) {
        return fail(walk, occurrence, "has an entry that is cut short");
    }
    return add_elements(walk, occurrence, occurrence->packed_count + 1);
}

static enum err
check_value(struct walk *walk, struct rpc_occurrence *occurrence)
{
    const ProtobufCFieldDescriptor *field = occurrence->field;
    occurrence->is_packed = false;
    enum rpc_wire_type expected = wire_type_of(field->type);
    if (occurrence->wire_type != expected) {
        return check_packed(walk, occurrence, expected);
    }
    enum err err = add_elements(walk, occurrence, 1);
    if (err == ERR_OK && field->type == PROTOBUF_C_TYPE_STRING && !text_is_utf8(occurrence->value)) {
        err = fail(walk, occurrence, "is not UTF-8 text, or holds U+0000");
    }
    if (err == ERR_OK && field->type == PROTOBUF_C_TYPE_MESSAGE && walk->depth == RPC_NESTING_MAX_DEPTH) {
        err = fail(walk, occurrence, "is nested too deeply");
    }
    return err;
}

static enum err
take_occurrence(struct walk *walk, struct rpc_occurrence *occurrence)
{
    if (occurrence->field == NULL) {
        return add_elements(walk, occurrence, 1); // skipped
    }
    ProtobufCMessage *child = NULL;
    enum err err = check_value(walk, occurrence);
    if (err == ERR_OK) {
        err = store(walk, occurrence, &child);
    }
    if (err == ERR_OK && occurrence->field->type == PROTOBUF_C_TYPE_MESSAGE) {
        // The walk goes on inside; the level below is continued when this one has been used up.
        walk->levels[walk->depth++] = (struct level){
            .descriptor = occurrence->field->descriptor,
            .end = occurrence->value.data + occurrence->value.size,
            .message = child,
        };
        walk->at = occurrence->value.data;
    }
    return err;
}

static enum err
run(struct walk *walk)
{
    while (walk->depth > 0) {
        if (walk->at == walk->levels[walk->depth - 1].end) {
            walk->depth--;
            continue;
        }
        struct rpc_occurrence occurrence;
        occurrence.is_borrowed = walk->is_in_place;
        enum err err = read_tag(walk, &occurrence);
        if (err == ERR_OK) {
            err = read_value(walk, &occurrence);
        }
        if (err == ERR_OK) {
            err = take_occurrence(walk, &occurrence);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

// start sets only what is used: clearing all levels would cost more than unpacking most messages.
static void
start(struct walk *walk, const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct err_detail *why)
{
    walk->at = data.data;
    walk->arena = NULL;
    walk->is_in_place = false;
    walk->levels[0] = (struct level){
        .descriptor = descriptor,
        .end = data.size > 0 ? data.data + data.size : data.data,
    };
    walk->depth = 1;
    walk->elements = 0;
    walk->why = why;
}

enum err
rpc_message_check(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct err_detail *why)
{
    struct walk walk;
    start(&walk, descriptor, data, why);
    return run(&walk);
}

static enum err
unpack(struct walk *walk, struct arena *arena, ProtobufCMessage **message_out)
{
    const ProtobufCMessageDescriptor *descriptor = walk->levels[0].descriptor;
    ProtobufCMessage *message = rpc_message_begin(descriptor, arena);
    if (message == NULL) {
        return err_fail(walk->why, ERR_NO_MEMORY, "there is no memory for %s", descriptor->short_name);
    }
    walk->arena = arena;
    walk->levels[0].message = message;
    enum err err = run(walk);
    if (err == ERR_OK) {
        *message_out = message;
    }
    return err;
}

enum err
rpc_message_unpack(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct arena *arena,
    ProtobufCMessage **message_out, struct err_detail *why)
{
    struct walk walk;
    start(&walk, descriptor, data, why);
    return unpack(&walk, arena, message_out);
}

enum err
rpc_message_unpack_in_place(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct arena *arena,
    ProtobufCMessage **message_out, struct err_detail *why)
{
    struct walk walk;
    start(&walk, descriptor, data, why);
    walk.is_in_place = true;
    return unpack(&walk, arena, message_out);
}

size_t
rpc_message_arena_limit(size_t encoded_bytes)
{
    enum {
        BASE_BYTES = 64 * 1024,
        FACTOR = 16,
    };
    return BASE_BYTES + FACTOR * encoded_bytes;
}
