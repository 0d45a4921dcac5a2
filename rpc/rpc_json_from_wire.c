// From the wire to JSON. Each message is walked once, and the parts of its fields are sorted by the fields' numbers;
// then every field is written from its parts: a later one replaces an earlier one, messages merge.
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/text.h"
#include "rpc/rpc_json.h"
#include "rpc/rpc_json_priv.h"

enum {
    NUMBER_MAX_BYTES = 32, // as text, with its NUL
};

struct reader {
    struct rpc_json_path path;
    size_t depth; // messages that are open
    bool with_defaults;
    struct bytes *out;
};

static enum err put_message(struct reader *reader, const struct rpc_schema_message *message, struct bytes_view encoded);

static enum err
fail(const struct reader *reader, const char *problem)
{
    return rpc_json_path_fail(&reader->path, ERR_PROTOCOL, "%s", problem);
}

static enum err
fail_for_memory(const struct reader *reader)
{
    return rpc_json_path_fail(&reader->path, ERR_NO_MEMORY, "there is no memory for it");
}

// --- Writing --------------------------------------------------------------------------------------------------------

static enum err
check_size(const struct reader *reader, enum err err)
{
    if (err == ERR_OK && reader->out->size > RPC_JSON_MAX_BYTES) {
        return err_fail(reader->path.why, ERR_TOO_BIG, "the message has more than %d bytes as JSON",
            RPC_JSON_MAX_BYTES);
    }
    return err == ERR_NO_MEMORY ? fail_for_memory(reader) : err;
}

static enum err
put(const struct reader *reader, const char *text)
{
    return check_size(reader, bytes_append(reader->out, bytes_view_of_text(text)));
}

static enum err
put_string(const struct reader *reader, struct bytes_view text)
{
    return check_size(reader, text_append_json_string(reader->out, text));
}

// format_real writes the shortest number that reads back as the same.
static void
format_real(double real, bool is_float, char out[NUMBER_MAX_BYTES])
{
    if (real == 0) {
        // "-0" would be an integer, of which there is no negative zero.
        (void)snprintf(out, NUMBER_MAX_BYTES, signbit(real) ? "-0.0" : "0");
        return;
    }
    int digits = is_float ? FLT_DIG : DBL_DIG;
    int most = is_float ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
    for (; digits <= most; digits++) {
        (void)snprintf(out, NUMBER_MAX_BYTES, "%.*g", digits, real);
        double read = strtod(out, NULL);
        if (is_float ? (float)read == (float)real : read == real) {
            return;
        }
    }
}

static enum err
put_real(const struct reader *reader, rpc_schema_type type, uint64_t bits)
{
    char text[NUMBER_MAX_BYTES];
    double real = 0;
    bool is_float = type == RPC_JSON_TYPE(FLOAT);
    if (is_float) {
        uint32_t half = (uint32_t)bits;
        float single = 0;
        memcpy(&single, &half, sizeof(single));
        real = (double)single;
    } else {
        memcpy(&real, &bits, sizeof(real));
    }
    if (isnan(real)) {
        return put(reader, "\"NaN\"");
    }
    if (isinf(real)) {
        return put(reader, real > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    }
    format_real(real, is_float, text);
    return put(reader, text);
}

static enum err
put_enum(const struct reader *reader, const struct rpc_schema_enum *enumeration, int32_t number)
{
    const Google__Protobuf__EnumValueDescriptorProto *found = rpc_schema_value_by_number(enumeration, number);
    if (found != NULL) {
        return put_string(reader, bytes_view_of_text(found->name));
    }
    char text[NUMBER_MAX_BYTES];
    (void)snprintf(text, sizeof(text), "%" PRId32, number);
    return put(reader, text);
}

// put_integer writes a number that is cut to its type; quoted if it is a key, or has 64 bits, which the numbers of
// JavaScript have not.
static enum err
put_integer(const struct reader *reader, rpc_schema_type type, uint64_t number, bool is_key)
{
    char text[NUMBER_MAX_BYTES];
    int32_t half = (int32_t)(uint32_t)number;
    const char *quote = is_key ? "\"" : "";
    if (type == RPC_JSON_TYPE(SINT32)) {
        uint32_t cut = (uint32_t)number;
        half = (int32_t)(cut >> 1 ^ (0u - (cut & 1))); // zigzag
    } else if (type == RPC_JSON_TYPE(SINT64)) {
        number = number >> 1 ^ (UINT64_C(0) - (number & 1));
    }
    if (type == RPC_JSON_TYPE(UINT32) || type == RPC_JSON_TYPE(FIXED32)) {
        (void)snprintf(text, sizeof(text), "%s%" PRIu32 "%s", quote, (uint32_t)number, quote);
    } else if (type == RPC_JSON_TYPE(UINT64) || type == RPC_JSON_TYPE(FIXED64)) {
        (void)snprintf(text, sizeof(text), "\"%" PRIu64 "\"", number);
    } else if (type == RPC_JSON_TYPE(INT64) || type == RPC_JSON_TYPE(SINT64) || type == RPC_JSON_TYPE(SFIXED64)) {
        (void)snprintf(text, sizeof(text), "\"%" PRId64 "\"", (int64_t)number);
    } else {
        (void)snprintf(text, sizeof(text), "%s%" PRId32 "%s", quote, half, quote);
    }
    return put(reader, text);
}

static enum err
put_number(const struct reader *reader, const struct rpc_schema_field *field, uint64_t number)
{
    if (field->type == RPC_JSON_TYPE(DOUBLE) || field->type == RPC_JSON_TYPE(FLOAT)) {
        return put_real(reader, field->type, number);
    }
    if (field->type == RPC_JSON_TYPE(BOOL)) {
        return put(reader, number != 0 ? "true" : "false");
    }
    if (field->type == RPC_JSON_TYPE(ENUM)) {
        return put_enum(reader, field->enumeration, (int32_t)(uint32_t)number);
    }
    return put_integer(reader, field->type, number, false);
}

static enum err
put_text(const struct reader *reader, struct bytes_view text)
{
    return text_is_utf8(text) ? put_string(reader, text) : fail(reader, "is not UTF-8 text, or holds U+0000");
}

static enum err
put_bytes(const struct reader *reader, struct bytes_view data)
{
    enum err err = put(reader, "\"");
    if (err == ERR_OK) {
        err = check_size(reader, base64_append(reader->out, data));
    }
    return err == ERR_OK ? put(reader, "\"") : err;
}

// put_merged writes the message that several encodings give together: that of their concatenation.
static enum err
put_merged(struct reader *reader, const struct rpc_schema_message *message, const struct rpc_json_part *parts,
    size_t count)
{
    if (count == 1) {
        return put_message(reader, message, parts[0].data);
    }
    struct bytes joined = {0};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = bytes_append(&joined, parts[i].data);
    }
    err = err == ERR_OK ? put_message(reader, message, bytes_as_view(&joined)) : fail_for_memory(reader);
    bytes_free(&joined);
    return err;
}

// put_single writes the one value that several of a field give. Without any it is the default value.
static enum err
put_single(struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count)
{
    static const struct rpc_json_part none;
    const struct rpc_json_part *last = count > 0 ? &parts[count - 1] : &none;
    if (field->type == RPC_JSON_TYPE(MESSAGE)) {
        return put_merged(reader, field->message, count > 0 ? parts : &none, count > 0 ? count : 1);
    }
    if (field->type == RPC_JSON_TYPE(STRING)) {
        return put_text(reader, last->data);
    }
    if (field->type == RPC_JSON_TYPE(BYTES)) {
        return put_bytes(reader, last->data);
    }
    return put_number(reader, field, last->number);
}

// --- Lists ----------------------------------------------------------------------------------------------------------

static enum err
put_packed(struct reader *reader, const struct rpc_schema_field *field, struct bytes_view packed, bool *is_first)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && packed.size > 0) {
        uint64_t number = 0;
        if (!rpc_json_take_number(&packed, rpc_json_wire_type(field->type), &number)) {
            return fail(reader, "has an entry that is cut short");
        }
        err = put(reader, *is_first ? "" : ",");
        *is_first = false;
        if (err == ERR_OK) {
            err = put_number(reader, field, number);
        }
    }
    return err;
}

static enum err
put_list(struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count)
{
    bool is_first = true;
    enum err err = put(reader, "[");
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        size_t outside = rpc_json_path_enter_index(&reader->path, i);
        if (parts[i].wire_type != rpc_json_wire_type(field->type)) {
            err = put_packed(reader, field, parts[i].data, &is_first);
        } else {
            err = put(reader, is_first ? "" : ",");
            is_first = false;
            if (err == ERR_OK) {
                err = put_single(reader, field, &parts[i], 1);
            }
        }
        rpc_json_path_leave(&reader->path, outside);
    }
    return err == ERR_OK ? put(reader, "]") : err;
}

// --- Maps -----------------------------------------------------------------------------------------------------------

// The entry of a map. Its key is as JSON has it, in a text of all keys.
struct entry {
    struct bytes_view key;
    size_t index;
    struct bytes_view encoded;
};

static int
compare_keys(const struct entry *left, const struct entry *right)
{
    size_t common = left->key.size < right->key.size ? left->key.size : right->key.size;
    int order = memcmp(left->key.data, right->key.data, common);
    return order != 0 ? order : left->key.size < right->key.size ? -1 : left->key.size > right->key.size;
}

static int
compare_entries(const void *a, const void *b)
{
    const struct entry *left = a;
    const struct entry *right = b;
    int order = compare_keys(left, right);
    return order != 0 ? order : left->index < right->index ? -1 : left->index > right->index;
}

// put_key writes the key of an entry, always as a string.
static enum err
put_key(struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count)
{
    uint64_t number = count > 0 ? parts[count - 1].number : 0;
    if (field->type == RPC_JSON_TYPE(STRING)) {
        return put_single(reader, field, parts, count);
    }
    if (field->type == RPC_JSON_TYPE(BOOL)) {
        return put(reader, number != 0 ? "\"true\"" : "\"false\"");
    }
    return put_integer(reader, field->type, number, true);
}

// put_entry_part writes the key or the value of an entry.
static enum err
put_entry_part(struct reader *reader, const struct rpc_schema_message *type, struct bytes_view encoded, bool is_key)
{
    struct rpc_json_parts parts = {0};
    if (reader->depth == RPC_NESTING_MAX_DEPTH) {
        return fail(reader, "is nested too deeply");
    }
    reader->depth++;
    enum err err = rpc_json_parts_read(&reader->path, type, encoded, &parts);
    size_t keys = 0;
    while (err == ERR_OK && keys < parts.count && parts.list[keys].field == &type->fields[0]) {
        keys++;
    }
    if (err == ERR_OK) {
        err = is_key ? put_key(reader, &type->fields[0], parts.list, keys)
                     : put_single(reader, &type->fields[1], parts.count > keys ? parts.list + keys : NULL,
                           parts.count - keys);
    }
    free(parts.list);
    reader->depth--;
    return err;
}

// read_keys writes the keys of all entries into a text of their own. Their elements count when the entries are written.
static enum err
read_keys(struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count,
    struct entry *entries, struct bytes *keys)
{
    struct reader key_reader = *reader;
    key_reader.out = keys;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        size_t before = keys->size;
        err = put_entry_part(&key_reader, field->message, parts[i].data, true);
        entries[i] = (struct entry){.key.size = keys->size - before, .index = i, .encoded = parts[i].data};
    }
    // Now that the text does not move any more.
    size_t at = 0;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        entries[i].key.data = keys->data + at;
        at += entries[i].key.size;
    }
    return err;
}

static enum err
put_entry(struct reader *reader, const struct rpc_schema_message *type, const struct entry *entry, bool is_first)
{
    enum err err = put(reader, is_first ? "" : ",");
    if (err == ERR_OK) {
        err = check_size(reader, bytes_append(reader->out, entry->key));
    }
    if (err == ERR_OK) {
        err = put(reader, ":");
    }
    return err == ERR_OK ? put_entry_part(reader, type, entry->encoded, false) : err;
}

// put_map writes the entries in the order of their keys; of several with one key the last counts.
static enum err
put_map(struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count)
{
    struct bytes keys = {0};
    struct entry *entries = calloc(count + 1, sizeof(*entries));
    bool is_first = true;
    if (entries == NULL) {
        return fail_for_memory(reader);
    }
    enum err err = read_keys(reader, field, parts, count, entries, &keys);
    if (err == ERR_OK) {
        qsort(entries, count, sizeof(*entries), compare_entries);
        err = put(reader, "{");
    }
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        if (i + 1 < count && compare_keys(&entries[i], &entries[i + 1]) == 0) {
            continue;
        }
        err = put_entry(reader, field->message, &entries[i], is_first);
        is_first = false;
    }
    free(entries);
    bytes_free(&keys);
    return err == ERR_OK ? put(reader, "}") : err;
}

// --- Messages -------------------------------------------------------------------------------------------------------

// has_entries: a list is not empty. Packed entries may be none.
static bool
has_entries(const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (parts[i].wire_type == rpc_json_wire_type(field->type) || parts[i].data.size > 0) {
            return true;
        }
    }
    return false;
}

// is_default: a number, text or bytes that stand for nothing. Numbers of 32 bits are cut to that.
static bool
is_default(const struct rpc_schema_field *field, const struct rpc_json_part *part)
{
    rpc_schema_type type = field->type;
    bool is_cut = type == RPC_JSON_TYPE(INT32) || type == RPC_JSON_TYPE(UINT32) || type == RPC_JSON_TYPE(SINT32) ||
                  type == RPC_JSON_TYPE(ENUM);
    return (is_cut ? (uint32_t)part->number : part->number) == 0 && part->data.size == 0;
}

// is_shown: the field is written, having these parts.
static bool
is_shown(const struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts,
    size_t count)
{
    if (field->has_presence) {
        return count > 0;
    }
    if (reader->with_defaults) {
        return true;
    }
    return field->is_repeated ? has_entries(field, parts, count) : count > 0 && !is_default(field, &parts[count - 1]);
}

static enum err
put_field(struct reader *reader, const struct rpc_schema_field *field, const struct rpc_json_part *parts, size_t count,
    bool is_first)
{
    size_t outside = rpc_json_path_enter_field(&reader->path, field->json_name);
    enum err err = put(reader, is_first ? "" : ",");
    if (err == ERR_OK) {
        err = put_string(reader, bytes_view_of_text(field->json_name));
    }
    if (err == ERR_OK) {
        err = put(reader, ":");
    }
    if (err == ERR_OK && !field->is_repeated) {
        err = put_single(reader, field, parts, count);
    } else if (err == ERR_OK && field->message != NULL && field->message->is_map_entry) {
        err = put_map(reader, field, parts, count);
    } else if (err == ERR_OK) {
        err = put_list(reader, field, parts, count);
    }
    rpc_json_path_leave(&reader->path, outside);
    return err;
}

// put_fields goes through the fields that have parts, or through all when those with defaults are wanted too; both are
// in the order of their numbers.
static enum err
put_fields(struct reader *reader, const struct rpc_schema_message *message, const struct rpc_json_parts *parts)
{
    bool is_first = true;
    size_t at = 0;
    const struct rpc_schema_field *end = message->fields + message->field_count;
    const struct rpc_schema_field *field = message->fields;
    while (field < end && (reader->with_defaults || at < parts->count)) {
        if (!reader->with_defaults) {
            field = parts->list[at].field;
        }
        size_t count = 0;
        while (at + count < parts->count && parts->list[at + count].field == field) {
            count++;
        }
        const struct rpc_json_part *list = count > 0 ? parts->list + at : NULL;
        if (is_shown(reader, field, list, count)) {
            enum err err = put_field(reader, field, list, count, is_first);
            if (err != ERR_OK) {
                return err;
            }
            is_first = false;
        }
        at += count;
        field++;
    }
    return ERR_OK;
}

static enum err
put_message(struct reader *reader, const struct rpc_schema_message *message, struct bytes_view encoded)
{
    struct rpc_json_parts parts = {0};
    if (reader->depth == RPC_NESTING_MAX_DEPTH) {
        return fail(reader, "is nested too deeply");
    }
    reader->depth++;
    enum err err = rpc_json_parts_read(&reader->path, message, encoded, &parts);
    if (err == ERR_OK) {
        err = put(reader, "{");
    }
    if (err == ERR_OK) {
        err = put_fields(reader, message, &parts);
    }
    if (err == ERR_OK) {
        err = put(reader, "}");
    }
    free(parts.list);
    reader->depth--;
    return err;
}

enum err
rpc_json_from_wire(const struct rpc_schema_message *message, struct bytes_view encoded, bool with_defaults,
    struct bytes *out, struct err_detail *why)
{
    struct bytes json = {0};
    struct reader reader = {.path = {.why = why}, .with_defaults = with_defaults, .out = &json};
    enum err err = put_message(&reader, message, encoded);
    if (err == ERR_OK && bytes_append(out, bytes_as_view(&json)) != ERR_OK) {
        err = fail_for_memory(&reader);
    }
    bytes_free(&json);
    return err;
}
