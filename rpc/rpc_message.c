// Checking and unpacking what strangers sent.
//
// The check walks the encoding once, with a stack of its own, so that depth costs no recursion. It is stricter than
// protobuf-c in what it lets through, so that what protobuf-c does with the rest stays within the arena's ceiling.
#include "rpc/rpc_message.h"

#include <inttypes.h>
#include <stdbool.h>

#include "base/text.h"
#include "rpc/rpc_limits.h"

enum {
    VARINT_MAX_BYTES = 10,
    TAG_MAX_BYTES = 5, // of a 32-bit tag
    TAG_WIRE_TYPE_BITS = 3,
};

// The wire types that protobuf-c knows; 3 and 4 are the groups of old, which proto3 has not.
enum wire_type {
    WIRE_VARINT = 0,
    WIRE_64BIT = 1,
    WIRE_LENGTH_PREFIXED = 2,
    WIRE_32BIT = 5,
};

struct level {
    const ProtobufCMessageDescriptor *descriptor;
    const uint8_t *end;
};

struct walk {
    const uint8_t *at;
    struct level levels[RPC_NESTING_MAX_DEPTH];
    size_t depth; // levels in use; the outermost message is one
    size_t elements;
    struct err_detail *why;
};

// One occurrence of a field, after its tag.
struct occurrence {
    const ProtobufCFieldDescriptor *field; // NULL: one that we do not know
    uint32_t number;
    enum wire_type wire_type;
    struct bytes_view value; // without the length of a length-prefixed one
};

static enum err
fail(struct walk *walk, const struct occurrence *occurrence, const char *problem)
{
    const char *message = walk->levels[walk->depth - 1].descriptor->short_name;
    if (occurrence->field != NULL) {
        return err_fail(walk->why, ERR_INVALID, "field \"%s\" of %s %s", occurrence->field->name, message, problem);
    }
    return err_fail(walk->why, ERR_INVALID, "field %" PRIu32 " of %s %s", occurrence->number, message, problem);
}

// varint_length returns the bytes of the varint at the start, 0 when it does not end within the maximum.
static size_t
varint_length(const uint8_t *at, const uint8_t *end, size_t max_bytes)
{
    for (size_t i = 0; i < max_bytes && at + i < end; i++) {
        if ((at[i] & 0x80) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static uint64_t
varint_value(const uint8_t *at, size_t length)
{
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        value |= (uint64_t)(at[i] & 0x7f) << (7 * i);
    }
    return value;
}

static enum err
read_tag(struct walk *walk, struct occurrence *occurrence)
{
    const struct level *level = &walk->levels[walk->depth - 1];
    size_t length = varint_length(walk->at, level->end, TAG_MAX_BYTES);
    uint64_t tag = varint_value(walk->at, length);
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
    occurrence->wire_type = (enum wire_type)(tag & ((1u << TAG_WIRE_TYPE_BITS) - 1));
    occurrence->field = protobuf_c_message_descriptor_get_field(level->descriptor, occurrence->number);
    return ERR_OK;
}

static enum err
read_value(struct walk *walk, struct occurrence *occurrence)
{
    const uint8_t *end = walk->levels[walk->depth - 1].end;
    size_t left = (size_t)(end - walk->at);
    size_t size = 0;
    switch (occurrence->wire_type) {
    case WIRE_VARINT:
        size = varint_length(walk->at, end, VARINT_MAX_BYTES);
        if (size == 0) {
            return fail(walk, occurrence, "is cut short or longer than a number can be");
        }
        break;
    case WIRE_64BIT:
        size = 8;
        break;
    case WIRE_32BIT:
        size = 4;
        break;
    case WIRE_LENGTH_PREFIXED: {
        size_t prefix = varint_length(walk->at, end, VARINT_MAX_BYTES);
        uint64_t length = varint_value(walk->at, prefix);
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

static enum wire_type
wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32BIT;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LENGTH_PREFIXED;
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
    return WIRE_VARINT;
}

// packed_count counts the entries of a packed list; false when it does not consist of whole ones.
static bool
packed_count(enum wire_type entry_type, struct bytes_view value, size_t *count_out)
{
    if (entry_type == WIRE_32BIT || entry_type == WIRE_64BIT) {
        size_t entry_bytes = entry_type == WIRE_32BIT ? 4 : 8;
        *count_out = value.size / entry_bytes;
        return value.size % entry_bytes == 0;
    }
    size_t count = 0;
    size_t run = 0; // bytes of the varint so far
    for (size_t i = 0; i < value.size; i++) {
        run++;
        if (run > VARINT_MAX_BYTES) {
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
add_elements(struct walk *walk, const struct occurrence *occurrence, size_t count)
{
    if (count > RPC_ELEMENTS_MAX - walk->elements) {
        return fail(walk, occurrence, "brings the message over its largest number of elements");
    }
    walk->elements += count;
    return ERR_OK;
}

static enum err
enter_message(struct walk *walk, const struct occurrence *occurrence)
{
    if (walk->depth == RPC_NESTING_MAX_DEPTH) {
        return fail(walk, occurrence, "is nested too deeply");
    }
    // The walk goes on inside; the level below is continued when this one has been used up.
    walk->levels[walk->depth++] = (struct level){
        .descriptor = occurrence->field->descriptor,
        .end = occurrence->value.data + occurrence->value.size,
    };
    walk->at = occurrence->value.data;
    return ERR_OK;
}

static enum err
check_occurrence(struct walk *walk, const struct occurrence *occurrence)
{
    const ProtobufCFieldDescriptor *field = occurrence->field;
    if (field == NULL) {
        return add_elements(walk, occurrence, 1);
    }
    enum wire_type expected = wire_type_of(field->type);
    if (occurrence->wire_type != expected) {
        size_t count = 0;
        bool is_packed = field->label == PROTOBUF_C_LABEL_REPEATED && occurrence->wire_type == WIRE_LENGTH_PREFIXED;
        if (!is_packed) {
            return fail(walk, occurrence, "has another wire type than its type asks for");
        }
        if (!packed_count(expected, occurrence->value, &count)) {
            return fail(walk, occurrence, "has an entry that is cut short");
        }
        return add_elements(walk, occurrence, count + 1);
    }
    enum err err = add_elements(walk, occurrence, 1);
    if (err == ERR_OK && field->type == PROTOBUF_C_TYPE_STRING && !text_is_utf8(occurrence->value)) {
        err = fail(walk, occurrence, "is not UTF-8 text, or holds U+0000");
    }
    if (err == ERR_OK && field->type == PROTOBUF_C_TYPE_MESSAGE) {
        err = enter_message(walk, occurrence);
    }
    return err;
}

enum err
rpc_message_check(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct err_detail *why)
{
    if (data.size == 0) {
        return ERR_OK;
    }
    struct walk walk;
    walk.at = data.data;
    walk.levels[0] = (struct level){.descriptor = descriptor, .end = data.data + data.size};
    walk.depth = 1;
    walk.elements = 0;
    walk.why = why;
    while (walk.depth > 0) {
        if (walk.at == walk.levels[walk.depth - 1].end) {
            walk.depth--;
            continue;
        }
        struct occurrence occurrence;
        enum err err = read_tag(&walk, &occurrence);
        if (err == ERR_OK) {
            err = read_value(&walk, &occurrence);
        }
        if (err == ERR_OK) {
            err = check_occurrence(&walk, &occurrence);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

// What protobuf-c allocates from. It reports every failure as NULL, so this remembers which kind it was.
struct source {
    struct arena *arena;
    bool is_exhausted;
};

static void *
source_alloc(void *context, size_t size)
{
    struct source *source = context;
    void *memory = arena_alloc(source->arena, size);
    if (memory == NULL) {
        source->is_exhausted = true;
    }
    return memory;
}

static void
source_free(void *context, void *memory)
{
    // The arena frees all of it at once.
    (void)context;
    (void)memory;
}

enum err
rpc_message_unpack(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct arena *arena,
    ProtobufCMessage **message_out, struct err_detail *why)
{
    enum err err = rpc_message_check(descriptor, data, why);
    if (err != ERR_OK) {
        return err;
    }
    struct source source = {.arena = arena};
    ProtobufCAllocator allocator = {.alloc = source_alloc, .free = source_free, .allocator_data = &source};
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, data.size, data.data);
    if (message == NULL && source.is_exhausted) {
        return err_fail(why, ERR_NO_MEMORY, "%s takes more memory than a message of its size may",
            descriptor->short_name);
    }
    if (message == NULL) {
        return err_fail(why, ERR_INVALID, "%s cannot be decoded", descriptor->short_name);
    }
    *message_out = message;
    return ERR_OK;
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
