// The values of an encoded message, by field: one walk through it, which stores nothing of the values themselves.
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc_json_priv.h"

enum {
    TAG_MAX_BYTES = 5,
    WIRE_TYPE_MASK = 7,
    WIRE_TYPE_BITS = 3,
};

// take_fixed reads a little-endian number; false when the encoding ends before.
static bool
take_fixed(struct bytes_view *rest, size_t size, uint64_t *number_out)
{
    if (rest->size < size) {
        return false;
    }
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        number |= (uint64_t)rest->data[i] << (8 * i);
    }
    *rest = bytes_view_of(rest->data + size, rest->size - size);
    *number_out = number;
    return true;
}

static bool
take_varint(struct bytes_view *rest, size_t max_bytes, uint64_t *number_out)
{
    if (rest->size == 0) {
        return false;
    }
    size_t size = rpc_varint_read(rest->data, rest->data + rest->size, max_bytes, number_out);
    *rest = bytes_view_of(rest->data + size, rest->size - size);
    return size > 0;
}

bool
rpc_json_take_number(struct bytes_view *rest, enum rpc_wire_type wire_type, uint64_t *number_out)
{
    switch (wire_type) {
    case RPC_WIRE_VARINT:
        return take_varint(rest, RPC_VARINT_MAX_BYTES, number_out);
    case RPC_WIRE_64BIT:
        return take_fixed(rest, 8, number_out);
    case RPC_WIRE_32BIT:
        return take_fixed(rest, 4, number_out);
    case RPC_WIRE_LENGTH_PREFIXED:
        break;
    }
    return false; // also for the groups of old
}

// take_part reads what follows a tag.
static bool
take_part(struct bytes_view *rest, struct rpc_json_part *part)
{
    if (part->wire_type != RPC_WIRE_LENGTH_PREFIXED) {
        return rpc_json_take_number(rest, part->wire_type, &part->number);
    }
    uint64_t size = 0;
    if (!take_varint(rest, RPC_VARINT_MAX_BYTES, &size) || size > rest->size) {
        return false;
    }
    part->data = bytes_view_of(rest->data, (size_t)size);
    *rest = bytes_view_of(rest->data + size, rest->size - (size_t)size);
    return true;
}

static enum err
add_part(struct rpc_json_path *path, struct rpc_json_parts *parts, const struct rpc_json_part *part)
{
    enum {
        FIRST_CAPACITY = 16,
    };
    if (path->elements == RPC_ELEMENTS_MAX) {
        return rpc_json_path_fail(path, ERR_PROTOCOL, "brings the message over its largest number of elements");
    }
    path->elements++;
    if (parts->count == parts->capacity) {
        size_t capacity = parts->capacity == 0 ? (size_t)FIRST_CAPACITY : 2 * parts->capacity;
        struct rpc_json_part *larger = realloc(parts->list, capacity * sizeof(*larger));
        if (larger == NULL) {
            return rpc_json_path_fail(path, ERR_NO_MEMORY, "there is no memory for it");
        }
        parts->list = larger;
        parts->capacity = capacity;
    }
    parts->list[parts->count] = *part;
    parts->list[parts->count].index = parts->count;
    parts->count++;
    return ERR_OK;
}

static bool
is_right_wire_type(const struct rpc_schema_field *field, enum rpc_wire_type wire_type)
{
    return wire_type == rpc_json_wire_type(field->type) ||
           (wire_type == RPC_WIRE_LENGTH_PREFIXED && field->is_repeated && rpc_schema_type_is_packable(field->type));
}

// read_part reads the next value, whose field is NULL when the schema does not know it.
static enum err
read_part(struct rpc_json_path *path, const struct rpc_schema_message *message, struct bytes_view *rest,
    struct rpc_json_part *part)
{
    uint64_t tag = 0;
    if (!take_varint(rest, TAG_MAX_BYTES, &tag) || tag > UINT32_MAX || tag >> WIRE_TYPE_BITS == 0) {
        return rpc_json_path_fail(path, ERR_PROTOCOL, "has a field whose tag cannot be read");
    }
    *part = (struct rpc_json_part){
        .field = rpc_schema_field_by_number(message, (uint32_t)(tag >> WIRE_TYPE_BITS)),
        .wire_type = (enum rpc_wire_type)(tag & WIRE_TYPE_MASK),
    };
    size_t outside = path->size;
    if (part->field != NULL) {
        (void)rpc_json_path_enter_field(path, part->field->json_name);
    }
    if (!take_part(rest, part)) {
        return rpc_json_path_fail(path, ERR_PROTOCOL, "cannot be read to its end");
    }
    if (part->field != NULL && !is_right_wire_type(part->field, part->wire_type)) {
        return rpc_json_path_fail(path, ERR_PROTOCOL, "has another wire type than its type asks for");
    }
    rpc_json_path_leave(path, outside);
    return ERR_OK;
}

static int
compare_parts(const void *a, const void *b)
{
    const struct rpc_json_part *left = a;
    const struct rpc_json_part *right = b;
    if (left->field->number != right->field->number) {
        return left->field->number < right->field->number ? -1 : 1;
    }
    return left->index < right->index ? -1 : left->index > right->index;
}

// drop_replaced removes the values of a oneof's members that came before those of another member of it.
static enum err
drop_replaced(struct rpc_json_path *path, const struct rpc_schema_message *message, struct rpc_json_parts *parts)
{
    size_t oneof_count = message->descriptor->n_oneof_decl;
    if (oneof_count == 0) {
        return ERR_OK;
    }
    // Of each oneof: the member that is set, found from the end, and whether another one has been met before it.
    struct {
        const struct rpc_schema_field *field;
        bool is_over;
    } *oneofs = calloc(oneof_count, sizeof(*oneofs));
    if (oneofs == NULL) {
        return rpc_json_path_fail(path, ERR_NO_MEMORY, "there is no memory for it");
    }
    size_t kept = parts->count; // those at the end
    for (size_t i = parts->count; i-- > 0;) {
        const struct rpc_schema_field *field = parts->list[i].field;
        if (field->oneof >= 0) {
            if (oneofs[field->oneof].field == NULL) {
                oneofs[field->oneof].field = field;
            }
            oneofs[field->oneof].is_over |= oneofs[field->oneof].field != field;
            if (oneofs[field->oneof].is_over) {
                continue;
            }
        }
        parts->list[--kept] = parts->list[i];
    }
    free(oneofs);
    parts->count -= kept;
    if (parts->count > 0) {
        memmove(parts->list, parts->list + kept, parts->count * sizeof(parts->list[0]));
    }
    return ERR_OK;
}

enum err
rpc_json_parts_read(struct rpc_json_path *path, const struct rpc_schema_message *message, struct bytes_view encoded,
    struct rpc_json_parts *parts)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && encoded.size > 0) {
        struct rpc_json_part part = {0};
        err = read_part(path, message, &encoded, &part);
        if (err == ERR_OK && part.field != NULL) {
            err = add_part(path, parts, &part);
        }
    }
    if (err == ERR_OK) {
        err = drop_replaced(path, message, parts);
    }
    if (err == ERR_OK && parts->count > 0) {
        qsort(parts->list, parts->count, sizeof(parts->list[0]), compare_parts);
    }
    return err;
}
