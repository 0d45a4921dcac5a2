// Storing checked values in protobuf-c's generated structs, as their descriptors lay them out.
//
// protobuf-c's own unpacking first lists every field of a message, at 32 to 64 bytes each, and fails to merge messages
// that have a oneof; both matter for what strangers send, and it would read a second time what has just been checked.
#include <string.h>

#include "rpc/rpc_message_priv.h"

enum {
    LIST_FIRST_CAPACITY = 4,
};

static void *
member_of(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

ProtobufCMessage *
rpc_message_begin(const ProtobufCMessageDescriptor *descriptor, struct arena *arena)
{
    ProtobufCMessage *message = arena_alloc(arena, descriptor->sizeof_message);
    if (message != NULL) {
        protobuf_c_message_init(descriptor, message);
    }
    return message;
}

static size_t
size_of_type(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return sizeof(void *);
}

static uint64_t
load_little_endian(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

// put_number stores a number as its type wants it; one that is too large for its type is cut, as protobuf says.
static void
put_number(void *to, ProtobufCType type, uint64_t value)
{
    uint32_t half = (uint32_t)value;
    if (type == PROTOBUF_C_TYPE_SINT32) {
        half = (half >> 1) ^ (0u - (half & 1)); // zigzag
    } else if (type == PROTOBUF_C_TYPE_SINT64) {
        value = (value >> 1) ^ (UINT64_C(0) - (value & 1));
    }
    if (type == PROTOBUF_C_TYPE_BOOL) {
        protobuf_c_boolean is_set = value != 0;
        memcpy(to, &is_set, sizeof(is_set));
    } else if (size_of_type(type) == sizeof(half)) {
        memcpy(to, &half, sizeof(half));
    } else {
        memcpy(to, &value, sizeof(value));
    }
}

static bool
put_text(char **to, struct bytes_view value, struct arena *arena)
{
    char *text = arena_alloc(arena, value.size + 1);
    if (text == NULL) {
        return false;
    }
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    *to = text;
    return true;
}

static bool
put_bytes(ProtobufCBinaryData *to, const struct rpc_occurrence *occurrence, struct arena *arena)
{
    struct bytes_view value = occurrence->value;
    *to = (ProtobufCBinaryData){0};
    if (occurrence->is_borrowed) {
        // Through memcpy, since the generated type has no const; readers of a request have.
        memcpy(&to->data, &value.data, sizeof(to->data));
        to->len = value.size;
    } else if (value.size > 0) {
        to->data = arena_alloc(arena, value.size);
        if (to->data == NULL) {
            return false;
        }
        memcpy(to->data, value.data, value.size);
        to->len = value.size;
    }
    return true;
}

// put stores one value. `earlier` is the message to merge into, if there is one.
static bool
put(void *to, const struct rpc_occurrence *occurrence, struct arena *arena, ProtobufCMessage *earlier,
    ProtobufCMessage **child_out)
{
    ProtobufCType type = occurrence->field->type;
    switch (occurrence->wire_type) {
    case RPC_WIRE_VARINT:
        put_number(to, type, occurrence->number_value);
        return true;
    case RPC_WIRE_64BIT:
    case RPC_WIRE_32BIT:
        put_number(to, type, load_little_endian(occurrence->value.data, occurrence->value.size));
        return true;
    case RPC_WIRE_LENGTH_PREFIXED:
        break;
    }
    if (type == PROTOBUF_C_TYPE_STRING) {
        return put_text(to, occurrence->value, arena);
    }
    if (type == PROTOBUF_C_TYPE_BYTES) {
        return put_bytes(to, occurrence, arena);
    }
    *child_out = earlier != NULL ? earlier : rpc_message_begin(occurrence->field->descriptor, arena);
    memcpy(to, child_out, sizeof(*child_out));
    return *child_out != NULL;
}

// Lists grow by doubling, so their capacity follows from their count and needs no place in the generated struct.
static size_t
list_capacity(size_t count)
{
    size_t capacity = count == 0 ? 0 : LIST_FIRST_CAPACITY;
    while (capacity < count) {
        capacity *= 2;
    }
    return capacity;
}

// list_extend makes room for more entries and returns the first of them; NULL when the arena is exhausted.
static uint8_t *
list_extend(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t more, struct arena *arena)
{
    size_t *count = member_of(message, field->quantifier_offset);
    void **list = member_of(message, field->offset);
    size_t entry_bytes = size_of_type(field->type);
    size_t capacity = list_capacity(*count + more);
    if (capacity != list_capacity(*count)) {
        void *larger = arena_alloc(arena, capacity * entry_bytes);
        if (larger == NULL) {
            return NULL;
        }
        if (*count > 0) {
            memcpy(larger, *list, *count * entry_bytes);
        }
        *list = larger;
    }
    uint8_t *first = (uint8_t *)*list + *count * entry_bytes;
    *count += more;
    return first;
}

static bool
store_packed(ProtobufCMessage *message, const struct rpc_occurrence *occurrence, struct arena *arena)
{
    const ProtobufCFieldDescriptor *field = occurrence->field;
    size_t entry_bytes = size_of_type(field->type);
    if (occurrence->packed_count == 0) {
        return true;
    }
    uint8_t *to = list_extend(message, field, occurrence->packed_count, arena);
    if (to == NULL) {
        return false;
    }
    const uint8_t *at = occurrence->value.data;
    const uint8_t *end = at + occurrence->value.size;
    bool is_fixed = field->type == PROTOBUF_C_TYPE_FIXED32 || field->type == PROTOBUF_C_TYPE_SFIXED32 ||
                    field->type == PROTOBUF_C_TYPE_FLOAT || field->type == PROTOBUF_C_TYPE_FIXED64 ||
                    field->type == PROTOBUF_C_TYPE_SFIXED64 || field->type == PROTOBUF_C_TYPE_DOUBLE;
    for (size_t i = 0; i < occurrence->packed_count; i++, to += entry_bytes) {
        uint64_t value = 0;
        if (is_fixed) {
            value = load_little_endian(at, entry_bytes);
            at += entry_bytes;
        } else {
            at += rpc_varint_read(at, end, RPC_VARINT_MAX_BYTES, &value);
        }
        put_number(to, field->type, value);
    }
    return true;
}

// store_single stores a field that is not repeated: a later value replaces an earlier one, but messages merge. The
// members of a oneof share their memory, so what is there only counts when it is of the same member.
static bool
store_single(ProtobufCMessage *message, const struct rpc_occurrence *occurrence, struct arena *arena,
    ProtobufCMessage **child_out)
{
    const ProtobufCFieldDescriptor *field = occurrence->field;
    void *to = member_of(message, field->offset);
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    uint32_t *oneof_case = is_oneof ? member_of(message, field->quantifier_offset) : NULL;
    ProtobufCMessage *earlier = NULL;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE && (!is_oneof || *oneof_case == field->id)) {
        memcpy(&earlier, to, sizeof(earlier));
    }
    if (!put(to, occurrence, arena, earlier, child_out)) {
        return false;
    }
    if (is_oneof) {
        *oneof_case = field->id;
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0) {
        protobuf_c_boolean *has = member_of(message, field->quantifier_offset);
        *has = 1;
    }
    return true;
}

bool
rpc_message_store(ProtobufCMessage *message, const struct rpc_occurrence *occurrence, struct arena *arena,
    ProtobufCMessage **child_out)
{
    if (occurrence->is_packed) {
        return store_packed(message, occurrence, arena);
    }
    if (occurrence->field->label == PROTOBUF_C_LABEL_REPEATED) {
        uint8_t *to = list_extend(message, occurrence->field, 1, arena);
        return to != NULL && put(to, occurrence, arena, NULL, child_out);
    }
    return store_single(message, occurrence, arena, child_out);
}
