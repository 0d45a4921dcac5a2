// From JSON to the wire. jansson parses the text; a walk over its values, with the schema beside it, encodes.
//
// A message's length stands before it, so each is encoded into a buffer of its own and then appended.
#include <float.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/text.h"
#include "rpc/rpc_json.h"
#include "rpc/rpc_json_priv.h"

struct writer {
    struct rpc_json_path path;
    size_t depth; // messages that are open
};

// A member of a JSON object, and the field that it gives.
struct member {
    const struct rpc_schema_field *field;
    json_t *value;
};

static enum err put_message(struct writer *writer, const struct rpc_schema_message *message, json_t *object,
    struct bytes *out);

static enum err
fail_for_memory(const struct writer *writer)
{
    return rpc_json_path_fail(&writer->path, ERR_NO_MEMORY, "there is no memory for it");
}

// --- The wire -------------------------------------------------------------------------------------------------------

static enum err
append(const struct writer *writer, struct bytes *out, struct bytes_view data)
{
    if (out->size + data.size > RPC_MESSAGE_MAX_BYTES) {
        return err_fail(writer->path.why, ERR_TOO_BIG,
            "the message is larger than the %d bytes that one call may carry", RPC_MESSAGE_MAX_BYTES);
    }
    return bytes_append(out, data) == ERR_OK ? ERR_OK : fail_for_memory(writer);
}

static enum err
append_varint(const struct writer *writer, struct bytes *out, uint64_t value)
{
    uint8_t encoded[RPC_VARINT_MAX_BYTES];
    size_t size = 0;
    while (value >= 0x80) {
        encoded[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    encoded[size++] = (uint8_t)value;
    return append(writer, out, bytes_view_of(encoded, size));
}

static enum err
append_fixed(const struct writer *writer, struct bytes *out, uint64_t value, size_t size)
{
    uint8_t encoded[sizeof(value)];
    for (size_t i = 0; i < size; i++) {
        encoded[i] = (uint8_t)(value >> (8 * i)); // little-endian
    }
    return append(writer, out, bytes_view_of(encoded, size));
}

static enum err
append_tag(const struct writer *writer, struct bytes *out, uint32_t number, enum rpc_wire_type wire_type)
{
    return append_varint(writer, out, (uint64_t)number << 3 | wire_type);
}

static enum err
append_prefixed(const struct writer *writer, struct bytes *out, struct bytes_view data)
{
    enum err err = append_varint(writer, out, data.size);
    return err == ERR_OK ? append(writer, out, data) : err;
}

// --- Numbers --------------------------------------------------------------------------------------------------------

static uint64_t
zigzag(uint64_t twos_complement)
{
    return twos_complement << 1 ^ (UINT64_C(0) - (twos_complement >> 63));
}

static enum err
put_integer(const struct writer *writer, rpc_schema_type type, const json_t *value, struct bytes *out)
{
    bool is_64 = type == RPC_JSON_TYPE(INT64) || type == RPC_JSON_TYPE(UINT64) || type == RPC_JSON_TYPE(SINT64) ||
                 type == RPC_JSON_TYPE(FIXED64) || type == RPC_JSON_TYPE(SFIXED64);
    bool is_unsigned = type == RPC_JSON_TYPE(UINT32) || type == RPC_JSON_TYPE(UINT64) ||
                       type == RPC_JSON_TYPE(FIXED32) || type == RPC_JSON_TYPE(FIXED64);
    uint64_t half = is_64 ? UINT64_C(1) << 63 : UINT64_C(1) << 31;
    uint64_t whole_range_max = is_64 ? UINT64_MAX : UINT32_MAX;
    struct rpc_json_whole whole;
    enum err err = rpc_json_read_whole(&writer->path, value, is_unsigned ? 0 : half,
        is_unsigned ? whole_range_max : half - 1, &whole);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t number = whole.is_negative ? UINT64_C(0) - whole.magnitude : whole.magnitude;
    if (type == RPC_JSON_TYPE(SINT32) || type == RPC_JSON_TYPE(SINT64)) {
        number = zigzag(number);
    }
    enum rpc_wire_type wire_type = rpc_json_wire_type(type);
    if (wire_type == RPC_WIRE_VARINT) {
        return append_varint(writer, out, number);
    }
    return append_fixed(writer, out, number, wire_type == RPC_WIRE_64BIT ? 8 : 4);
}

static enum err
put_real(const struct writer *writer, rpc_schema_type type, const json_t *value, struct bytes *out)
{
    double real = 0;
    bool is_float = type == RPC_JSON_TYPE(FLOAT);
    enum err err = rpc_json_read_real(&writer->path, value, is_float, &real);
    if (err != ERR_OK) {
        return err;
    }
    if (is_float) {
        float single = (float)real;
        uint32_t bits = 0;
        memcpy(&bits, &single, sizeof(bits));
        return append_fixed(writer, out, bits, sizeof(bits));
    }
    uint64_t bits = 0;
    memcpy(&bits, &real, sizeof(bits));
    return append_fixed(writer, out, bits, sizeof(bits));
}

static enum err
put_enum(const struct writer *writer, const struct rpc_schema_enum *enumeration, const json_t *value, struct bytes *out)
{
    uint64_t number = 0;
    if (json_is_string(value)) {
        const Google__Protobuf__EnumValueDescriptorProto *found =
            rpc_schema_value_by_name(enumeration, rpc_json_text_of(value));
        if (found == NULL) {
            return rpc_json_path_fail(&writer->path, ERR_INVALID, "%s has no value \"%s\"", enumeration->name,
                rpc_json_text_of(value));
        }
        number = (uint64_t)(int64_t)found->number;
    } else if (json_is_number(value)) {
        struct rpc_json_whole whole;
        enum err err = rpc_json_read_whole(&writer->path, value, UINT64_C(1) << 31, INT32_MAX, &whole);
        if (err != ERR_OK) {
            return err;
        }
        number = whole.is_negative ? UINT64_C(0) - whole.magnitude : whole.magnitude;
    } else {
        return rpc_json_fail_expected(&writer->path, "a string or a number", value);
    }
    return append_varint(writer, out, number);
}

// --- Values ---------------------------------------------------------------------------------------------------------

static enum err
put_text(const struct writer *writer, const json_t *value, struct bytes *out)
{
    if (!json_is_string(value)) {
        return rpc_json_fail_expected(&writer->path, "a string", value);
    }
    struct bytes_view text = bytes_view_of(json_string_value(value), json_string_length(value));
    if (!text_is_utf8(text)) {
        return rpc_json_path_fail(&writer->path, ERR_INVALID, "holds U+0000, which no text may");
    }
    return append_prefixed(writer, out, text);
}

static enum err
put_bytes(const struct writer *writer, const json_t *value, struct bytes *out)
{
    if (!json_is_string(value)) {
        return rpc_json_fail_expected(&writer->path, "a string in base64", value);
    }
    struct bytes decoded = {0};
    enum err err = base64_append_decoded(&decoded, bytes_view_of(json_string_value(value), json_string_length(value)));
    if (err == ERR_INVALID) {
        err = rpc_json_path_fail(&writer->path, err, "expected base64");
    } else if (err == ERR_NO_MEMORY) {
        err = fail_for_memory(writer);
    }
    if (err == ERR_OK) {
        err = append_prefixed(writer, out, bytes_as_view(&decoded));
    }
    bytes_free(&decoded);
    return err;
}

static enum err
put_submessage(struct writer *writer, const struct rpc_schema_message *message, json_t *value, struct bytes *out)
{
    struct bytes encoded = {0};
    enum err err = put_message(writer, message, value, &encoded);
    if (err == ERR_OK) {
        err = append_prefixed(writer, out, bytes_as_view(&encoded));
    }
    bytes_free(&encoded);
    return err;
}

// put_value appends one value without its tag.
static enum err
put_value(struct writer *writer, const struct rpc_schema_field *field, json_t *value, struct bytes *out)
{
    rpc_schema_type type = field->type;
    if (type == RPC_JSON_TYPE(STRING)) {
        return put_text(writer, value, out);
    }
    if (type == RPC_JSON_TYPE(BYTES)) {
        return put_bytes(writer, value, out);
    }
    if (type == RPC_JSON_TYPE(MESSAGE)) {
        return put_submessage(writer, field->message, value, out);
    }
    if (type == RPC_JSON_TYPE(ENUM)) {
        return put_enum(writer, field->enumeration, value, out);
    }
    if (type == RPC_JSON_TYPE(BOOL)) {
        return json_is_boolean(value) ? append_varint(writer, out, json_is_true(value))
                                      : rpc_json_fail_expected(&writer->path, "true or false", value);
    }
    if (type == RPC_JSON_TYPE(DOUBLE) || type == RPC_JSON_TYPE(FLOAT)) {
        return put_real(writer, type, value, out);
    }
    return put_integer(writer, type, value, out);
}

static enum err
put_tagged(struct writer *writer, const struct rpc_schema_field *field, json_t *value, struct bytes *out)
{
    enum err err = append_tag(writer, out, field->number, rpc_json_wire_type(field->type));
    return err == ERR_OK ? put_value(writer, field, value, out) : err;
}

// put_list appends the entries: each with the field's tag, or packed into one value.
static enum err
put_list(struct writer *writer, const struct rpc_schema_field *field, json_t *value, struct bytes *out)
{
    if (!json_is_array(value)) {
        return rpc_json_fail_expected(&writer->path, "an array", value);
    }
    struct bytes packed = {0};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < json_array_size(value); i++) {
        size_t outside = rpc_json_path_enter_index(&writer->path, i);
        json_t *entry = json_array_get(value, i);
        err = field->is_packed ? put_value(writer, field, entry, &packed) : put_tagged(writer, field, entry, out);
        rpc_json_path_leave(&writer->path, outside);
    }
    if (err == ERR_OK && packed.size > 0) {
        err = append_tag(writer, out, field->number, RPC_WIRE_LENGTH_PREFIXED);
        if (err == ERR_OK) {
            err = append_prefixed(writer, out, bytes_as_view(&packed));
        }
    }
    bytes_free(&packed);
    return err;
}

// --- Maps -----------------------------------------------------------------------------------------------------------

// put_key appends the key of an entry, which JSON has as a string whatever its type is.
static enum err
put_key(struct writer *writer, const struct rpc_schema_field *field, const char *key, struct bytes *out)
{
    enum err err = ERR_OK;
    json_t *value = NULL;
    if (field->type == RPC_JSON_TYPE(BOOL)) {
        bool is_true = strcmp(key, "true") == 0;
        if (!is_true && strcmp(key, "false") != 0) {
            return rpc_json_path_fail(&writer->path, ERR_INVALID, "expected the key \"true\" or \"false\"");
        }
        value = json_boolean(is_true);
    } else {
        value = json_string(key);
    }
    err = value != NULL ? put_tagged(writer, field, value, out) : fail_for_memory(writer);
    json_decref(value);
    return err;
}

static enum err
put_entry(struct writer *writer, const struct rpc_schema_message *type, const char *key, json_t *value,
    struct bytes *entry)
{
    if (writer->depth == RPC_NESTING_MAX_DEPTH) {
        return rpc_json_path_fail(&writer->path, ERR_INVALID, "is nested too deeply");
    }
    writer->depth++;
    enum err err = put_key(writer, &type->fields[0], key, entry);
    if (err == ERR_OK) {
        err = put_tagged(writer, &type->fields[1], value, entry);
    }
    writer->depth--;
    return err;
}

static enum err
put_map(struct writer *writer, const struct rpc_schema_field *field, json_t *value, struct bytes *out)
{
    if (!json_is_object(value)) {
        return rpc_json_fail_expected(&writer->path, "an object", value);
    }
    struct bytes entry = {0};
    const char *key = NULL;
    json_t *entry_value = NULL;
    json_object_foreach(value, key, entry_value)
    {
        size_t outside = rpc_json_path_enter_key(&writer->path, key);
        bytes_clear(&entry);
        enum err err = put_entry(writer, field->message, key, entry_value, &entry);
        if (err == ERR_OK) {
            err = append_tag(writer, out, field->number, RPC_WIRE_LENGTH_PREFIXED);
        }
        if (err == ERR_OK) {
            err = append_prefixed(writer, out, bytes_as_view(&entry));
        }
        if (err != ERR_OK) {
            bytes_free(&entry);
            return err;
        }
        rpc_json_path_leave(&writer->path, outside);
    }
    bytes_free(&entry);
    return ERR_OK;
}

// --- Messages -------------------------------------------------------------------------------------------------------

static int
compare_members(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;
    return left->field->number < right->field->number ? -1 : left->field->number > right->field->number;
}

// take_members finds the fields that an object gives, in the order of their numbers. A null is as if it were not there.
static enum err
take_members(struct writer *writer, const struct rpc_schema_message *message, json_t *object, struct member *members,
    size_t *count_out)
{
    const char *name = NULL;
    json_t *value = NULL;
    size_t count = 0;
    json_object_foreach(object, name, value)
    {
        const struct rpc_schema_field *field = rpc_schema_field_by_name(message, name);
        if (field == NULL) {
            (void)rpc_json_path_enter_field(&writer->path, name);
            return rpc_json_path_fail(&writer->path, ERR_INVALID, "there is no such field in %s", message->name);
        }
        if (!json_is_null(value)) {
            members[count++] = (struct member){.field = field, .value = value};
        }
    }
    qsort(members, count, sizeof(*members), compare_members);
    *count_out = count;
    return ERR_OK;
}

// check_members refuses two values for one field, under its two names, and two fields of one oneof. oneofs has room for
// the message's.
static enum err
check_members(struct writer *writer, const struct member *members, size_t count, const struct rpc_schema_field **oneofs)
{
    for (size_t i = 0; i < count; i++) {
        const struct rpc_schema_field *field = members[i].field;
        size_t outside = rpc_json_path_enter_field(&writer->path, field->json_name);
        if (i > 0 && members[i - 1].field == field) {
            return rpc_json_path_fail(&writer->path, ERR_INVALID, "is given twice, also as \"%s\"", field->name);
        }
        if (field->oneof >= 0 && oneofs[field->oneof] != NULL) {
            return rpc_json_path_fail(&writer->path, ERR_INVALID, "cannot be given together with \"%s\"",
                oneofs[field->oneof]->json_name);
        }
        if (field->oneof >= 0) {
            oneofs[field->oneof] = field;
        }
        rpc_json_path_leave(&writer->path, outside);
    }
    return ERR_OK;
}

static enum err
put_members(struct writer *writer, const struct member *members, size_t count, struct bytes *out)
{
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        const struct rpc_schema_field *field = members[i].field;
        size_t outside = rpc_json_path_enter_field(&writer->path, field->json_name);
        if (!field->is_repeated) {
            err = put_tagged(writer, field, members[i].value, out);
        } else if (field->message != NULL && field->message->is_map_entry) {
            err = put_map(writer, field, members[i].value, out);
        } else {
            err = put_list(writer, field, members[i].value, out);
        }
        rpc_json_path_leave(&writer->path, outside);
    }
    return err;
}

static enum err
put_message(struct writer *writer, const struct rpc_schema_message *message, json_t *object, struct bytes *out)
{
    if (!json_is_object(object)) {
        return rpc_json_fail_expected(&writer->path, "an object", object);
    }
    if (writer->depth == RPC_NESTING_MAX_DEPTH) {
        return rpc_json_path_fail(&writer->path, ERR_INVALID, "is nested too deeply");
    }
    writer->depth++;
    size_t count = 0;
    struct member *members = calloc(json_object_size(object) + 1, sizeof(*members));
    const struct rpc_schema_field **oneofs = calloc(message->descriptor->n_oneof_decl + 1, sizeof(*oneofs));
    enum err err = members != NULL && oneofs != NULL ? take_members(writer, message, object, members, &count)
                                                     : fail_for_memory(writer);
    if (err == ERR_OK) {
        err = check_members(writer, members, count, oneofs);
    }
    if (err == ERR_OK) {
        err = put_members(writer, members, count, out);
    }
    free(oneofs);
    free(members);
    writer->depth--;
    return err;
}

// explain_error says where the text is no JSON. jansson refuses integers beyond 64 bits with a sign while it parses.
static enum err
explain_error(const json_error_t *error, struct err_detail *why)
{
    enum json_error_code code = json_error_code(error);
    if (code == json_error_out_of_memory) {
        return err_fail(why, ERR_NO_MEMORY, "there is no memory for the JSON");
    }
    bool is_integer = code == json_error_numeric_overflow && strstr(error->text, "integer") != NULL;
    const char *advice = is_integer ? " (integers over 9223372036854775807 are written as strings)" : "";
    return err_fail(why, ERR_INVALID, "this is no JSON: line %d, column %d: %s%s", error->line, error->column,
        error->text, advice);
}

enum err
rpc_json_to_wire(const struct rpc_schema_message *message, struct bytes_view json, struct bytes *out,
    struct err_detail *why)
{
    struct writer writer = {.path = {.why = why}};
    struct bytes encoded = {0};
    json_error_t error;
    if (json.size > RPC_JSON_MAX_BYTES) {
        return err_fail(why, ERR_TOO_BIG, "the JSON has %zu bytes, and at most %d are read", json.size,
            RPC_JSON_MAX_BYTES);
    }
    // Any value is read, so that it can be told that an object is wanted. U+0000 is told with its field.
    json_t *root = json_loadb(json.size > 0 ? (const char *)json.data : "", json.size,
        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (root == NULL) {
        return explain_error(&error, why);
    }
    enum err err = put_message(&writer, message, root, &encoded);
    if (err == ERR_OK && bytes_append(out, bytes_as_view(&encoded)) != ERR_OK) {
        err = fail_for_memory(&writer);
    }
    bytes_free(&encoded);
    json_decref(root);
    return err;
}
