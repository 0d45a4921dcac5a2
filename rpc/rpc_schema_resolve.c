// The references of a schema: fields to their types, methods to their messages, and the indexes by name and number.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc_schema_priv.h"

enum {
    FIELD_NUMBER_MAX = (1 << 29) - 1,
};

typedef Google__Protobuf__FieldDescriptorProto field_descriptor;
typedef Google__Protobuf__EnumValueDescriptorProto value_descriptor;

#define TYPE(name) GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_##name
#define LABEL(name) GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_##name

struct resolver {
    struct rpc_schema *schema;
    const struct rpc_symbol *symbol; // at work on it
    struct err_detail *why;
};

static enum err
fail(const struct resolver *resolver, const char *part, const char *problem)
{
    return err_fail(resolver->why, ERR_PROTOCOL, "the descriptor of %s is not valid: \"%s\" %s", resolver->symbol->name,
        part, problem);
}

static enum err
fail_for_memory(const struct resolver *resolver)
{
    return err_fail(resolver->why, ERR_NO_MEMORY, "there is no memory for the descriptors");
}

static void *
alloc_array(const struct resolver *resolver, size_t count, size_t entry_bytes)
{
    return arena_alloc(&resolver->schema->arena, count * entry_bytes);
}

// find_type looks up a reference, which compilers write with a leading dot when it is a full name.
static const struct rpc_symbol *
find_type(const struct resolver *resolver, const char *type_name, enum rpc_symbol_kind kind)
{
    if (type_name[0] != '.' || strchr(type_name, '/') != NULL) {
        return NULL;
    }
    const struct rpc_symbol *found = rpc_schema_find(resolver->schema, type_name + 1);
    return found != NULL && found->kind == kind ? found : NULL;
}

// --- Fields ---------------------------------------------------------------------------------------------------------

bool
rpc_schema_type_is_packable(rpc_schema_type type)
{
    return type != TYPE(STRING) && type != TYPE(BYTES) && type != TYPE(MESSAGE);
}

// make_json_name makes lowerCamelCase of a name, for a compiler that left it out.
static const char *
make_json_name(const struct resolver *resolver, const char *name)
{
    char *made = arena_copy_text(&resolver->schema->arena, name);
    if (made == NULL) {
        return NULL;
    }
    char *to = made;
    bool is_after_underscore = false;
    for (const char *from = name; *from != '\0'; from++) {
        if (*from == '_') {
            is_after_underscore = true;
            continue;
        }
        bool is_raised = is_after_underscore && *from >= 'a' && *from <= 'z';
        *to = *from;
        if (is_raised) {
            *to = (char)(*from - 'a' + 'A');
        }
        to++;
        is_after_underscore = false;
    }
    *to = '\0';
    return made;
}

static enum err
resolve_type(const struct resolver *resolver, struct rpc_schema_field *field)
{
    const char *type_name = field->descriptor->type_name;
    if (field->type == TYPE(MESSAGE)) {
        const struct rpc_symbol *found = find_type(resolver, type_name, RPC_SYMBOL_MESSAGE);
        if (found == NULL) {
            return fail(resolver, field->name, "refers to a message that is not there");
        }
        field->message = found->message;
    } else if (field->type == TYPE(ENUM)) {
        const struct rpc_symbol *found = find_type(resolver, type_name, RPC_SYMBOL_ENUM);
        if (found == NULL) {
            return fail(resolver, field->name, "refers to an enum that is not there");
        }
        field->enumeration = found->enumeration;
    } else if (field->type == TYPE(GROUP)) {
        return fail(resolver, field->name, "is a group, which this program does not support");
    } else if (field->type < TYPE(DOUBLE) || field->type > TYPE(SINT64)) {
        return fail(resolver, field->name, "has an unknown type");
    }
    return ERR_OK;
}

static enum err
resolve_field(const struct resolver *resolver, const field_descriptor *descriptor, struct rpc_schema_field *field)
{
    const struct rpc_schema_message *message = resolver->symbol->message;
    const char *syntax = resolver->schema->files[resolver->symbol->file]->syntax;
    if (!rpc_schema_is_identifier(descriptor->name)) {
        return fail(resolver, descriptor->name, "cannot be a field's name");
    }
    if (descriptor->number < 1 || descriptor->number > FIELD_NUMBER_MAX) {
        return fail(resolver, descriptor->name, "has a number that no field can have");
    }
    bool is_in_oneof = descriptor->membership_case == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__MEMBERSHIP_ONEOF_INDEX;
    if (is_in_oneof &&
        (descriptor->oneof_index < 0 || (size_t)descriptor->oneof_index >= message->descriptor->n_oneof_decl)) {
        return fail(resolver, descriptor->name, "is in a oneof that is not there");
    }
    bool is_repeated = descriptor->label == LABEL(REPEATED);
    if (is_repeated && is_in_oneof) {
        return fail(resolver, descriptor->name, "is repeated in a oneof");
    }
    *field = (struct rpc_schema_field){
        .name = descriptor->name,
        .json_name =
            descriptor->json_name[0] != '\0' ? descriptor->json_name : make_json_name(resolver, descriptor->name),
        .number = (uint32_t)descriptor->number,
        .type = descriptor->type,
        .is_repeated = is_repeated,
        .has_presence =
            !is_repeated && (descriptor->type == TYPE(MESSAGE) || is_in_oneof || strcmp(syntax, "proto3") != 0),
        // The compiler puts an optional field of proto3 into a oneof of its own, which is no part of the language.
        .oneof = is_in_oneof && !descriptor->proto3_optional ? descriptor->oneof_index : -1,
        .descriptor = descriptor,
    };
    bool is_packed = syntax[0] != '\0' && strcmp(syntax, "proto2") != 0;
    if (descriptor->options != NULL &&
        descriptor->options->packing_case == GOOGLE__PROTOBUF__FIELD_OPTIONS__PACKING_PACKED) {
        is_packed = descriptor->options->packed;
    }
    field->is_packed = is_packed && is_repeated && rpc_schema_type_is_packable(field->type);
    return field->json_name != NULL ? resolve_type(resolver, field) : fail_for_memory(resolver);
}

static int
compare_numbers(const void *a, const void *b)
{
    const struct rpc_schema_field *left = a;
    const struct rpc_schema_field *right = b;
    return left->number < right->number ? -1 : left->number > right->number;
}

static int
compare_names(const void *a, const void *b)
{
    const struct rpc_schema_field *const *left = a;
    const struct rpc_schema_field *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static int
compare_json_names(const void *a, const void *b)
{
    const struct rpc_schema_field *const *left = a;
    const struct rpc_schema_field *const *right = b;
    return strcmp((*left)->json_name, (*right)->json_name);
}

static enum err
index_fields(const struct resolver *resolver, struct rpc_schema_message *message)
{
    size_t count = message->field_count;
    qsort(message->fields, count, sizeof(message->fields[0]), compare_numbers);
    for (size_t i = 0; i < count; i++) {
        message->by_name[i] = &message->fields[i];
        message->by_json_name[i] = &message->fields[i];
    }
    qsort(message->by_name, count, sizeof(message->by_name[0]), compare_names);
    qsort(message->by_json_name, count, sizeof(message->by_json_name[0]), compare_json_names);
    for (size_t i = 1; i < count; i++) {
        if (message->fields[i - 1].number == message->fields[i].number) {
            return fail(resolver, message->fields[i].name, "has the number of another field");
        }
        if (compare_names(&message->by_name[i - 1], &message->by_name[i]) == 0 ||
            compare_json_names(&message->by_json_name[i - 1], &message->by_json_name[i]) == 0) {
            return fail(resolver, message->by_name[i]->name, "is there twice, or a field has the same name in JSON");
        }
    }
    return ERR_OK;
}

static enum err
resolve_message(const struct resolver *resolver)
{
    struct rpc_schema_message *message = resolver->symbol->message;
    const Google__Protobuf__DescriptorProto *descriptor = message->descriptor;
    size_t count = descriptor->n_field;
    for (size_t i = 0; i < descriptor->n_oneof_decl; i++) {
        if (!rpc_schema_is_identifier(descriptor->oneof_decl[i]->name)) {
            return fail(resolver, descriptor->oneof_decl[i]->name, "cannot be a oneof's name");
        }
    }
    message->field_count = count;
    message->fields = alloc_array(resolver, count, sizeof(message->fields[0]));
    message->by_name = alloc_array(resolver, count, sizeof(message->by_name[0]));
    message->by_json_name = alloc_array(resolver, count, sizeof(message->by_json_name[0]));
    if (message->fields == NULL || message->by_name == NULL || message->by_json_name == NULL) {
        return fail_for_memory(resolver);
    }
    for (size_t i = 0; i < count; i++) {
        enum err err = resolve_field(resolver, descriptor->field[i], &message->fields[i]);
        if (err != ERR_OK) {
            return err;
        }
    }
    return index_fields(resolver, message);
}

// An entry of a map has a key, of a type that keys may have, and a value; once the fields are sorted by number.
static enum err
check_map_entry(const struct resolver *resolver)
{
    const struct rpc_schema_message *message = resolver->symbol->message;
    if (!message->is_map_entry) {
        return ERR_OK;
    }
    const struct rpc_schema_field *fields = message->fields;
    if (message->field_count != 2 || fields[0].number != 1 || fields[1].number != 2 || fields[0].is_repeated ||
        fields[1].is_repeated || fields[0].type == TYPE(DOUBLE) || fields[0].type == TYPE(FLOAT) ||
        fields[0].type == TYPE(BYTES) || fields[0].type == TYPE(MESSAGE) || fields[0].type == TYPE(ENUM)) {
        return fail(resolver, message->name, "is no entry of a map, as it says it is");
    }
    return ERR_OK;
}

// A map's entry is a message in a list, and nothing else may be of that type.
static enum err
check_uses_of_map_entries(const struct resolver *resolver)
{
    const struct rpc_schema_message *message = resolver->symbol->message;
    for (size_t i = 0; i < message->field_count; i++) {
        const struct rpc_schema_field *field = &message->fields[i];
        if (field->message != NULL && field->message->is_map_entry && !field->is_repeated) {
            return fail(resolver, field->name, "is the entry of a map, and not in one");
        }
    }
    return ERR_OK;
}

// --- Enums and methods ----------------------------------------------------------------------------------------------

static int
compare_value_names(const void *a, const void *b)
{
    value_descriptor **const *left = a;
    value_descriptor **const *right = b;
    return strcmp((**left)->name, (**right)->name);
}

static int
compare_value_numbers(const void *a, const void *b)
{
    value_descriptor **const *left = a;
    value_descriptor **const *right = b;
    return (**left)->number < (**right)->number ? -1 : (**left)->number > (**right)->number;
}

// Equal numbers, which an enum may have, stay in the order of their declaration.
static int
compare_values(const void *a, const void *b)
{
    value_descriptor **const *left = a;
    value_descriptor **const *right = b;
    int order = compare_value_numbers(a, b);
    return order != 0 ? order : *left < *right ? -1 : *left > *right;
}

static void
index_numbers(struct rpc_schema_enum *enumeration)
{
    size_t kept = 0;
    qsort(enumeration->by_number, enumeration->name_count, sizeof(enumeration->by_number[0]), compare_values);
    for (size_t i = 0; i < enumeration->name_count; i++) {
        if (kept == 0 || compare_value_numbers(&enumeration->by_number[kept - 1], &enumeration->by_number[i]) != 0) {
            enumeration->by_number[kept++] = enumeration->by_number[i];
        }
    }
    enumeration->number_count = kept;
}

static enum err
resolve_enum(const struct resolver *resolver)
{
    struct rpc_schema_enum *enumeration = resolver->symbol->enumeration;
    const Google__Protobuf__EnumDescriptorProto *descriptor = enumeration->descriptor;
    size_t count = descriptor->n_value;
    if (count == 0) {
        return fail(resolver, enumeration->name, "has no values");
    }
    enumeration->name_count = count;
    enumeration->by_name = alloc_array(resolver, count, sizeof(enumeration->by_name[0]));
    enumeration->by_number = alloc_array(resolver, count, sizeof(enumeration->by_number[0]));
    if (enumeration->by_name == NULL || enumeration->by_number == NULL) {
        return fail_for_memory(resolver);
    }
    for (size_t i = 0; i < count; i++) {
        if (!rpc_schema_is_identifier(descriptor->value[i]->name)) {
            return fail(resolver, descriptor->value[i]->name, "cannot be a value's name");
        }
        enumeration->by_name[i] = &descriptor->value[i];
        enumeration->by_number[i] = &descriptor->value[i];
    }
    index_numbers(enumeration);
    qsort(enumeration->by_name, count, sizeof(enumeration->by_name[0]), compare_value_names);
    for (size_t i = 1; i < count; i++) {
        if (compare_value_names(&enumeration->by_name[i - 1], &enumeration->by_name[i]) == 0) {
            return fail(resolver, (*enumeration->by_name[i])->name, "is there twice");
        }
    }
    return ERR_OK;
}

static enum err
resolve_method(const struct resolver *resolver)
{
    struct rpc_schema_method *method = resolver->symbol->method;
    const struct rpc_symbol *input = find_type(resolver, method->descriptor->input_type, RPC_SYMBOL_MESSAGE);
    const struct rpc_symbol *output = find_type(resolver, method->descriptor->output_type, RPC_SYMBOL_MESSAGE);
    if (input == NULL || output == NULL) {
        return fail(resolver, method->descriptor->name, "takes or returns a message that is not there");
    }
    method->input = input->message;
    method->output = output->message;
    return ERR_OK;
}

enum err
rpc_schema_resolve(struct rpc_schema *schema, struct err_detail *why)
{
    struct resolver resolver = {.schema = schema, .why = why};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < schema->symbol_count; i++) {
        resolver.symbol = &schema->symbols[i];
        if (resolver.symbol->kind == RPC_SYMBOL_MESSAGE) {
            err = resolve_message(&resolver);
            err = err == ERR_OK ? check_map_entry(&resolver) : err;
        } else if (resolver.symbol->kind == RPC_SYMBOL_ENUM) {
            err = resolve_enum(&resolver);
        } else if (resolver.symbol->kind == RPC_SYMBOL_METHOD) {
            err = resolve_method(&resolver);
        }
    }
    for (size_t i = 0; err == ERR_OK && i < schema->symbol_count; i++) {
        resolver.symbol = &schema->symbols[i];
        if (resolver.symbol->kind == RPC_SYMBOL_MESSAGE) {
            err = check_uses_of_map_entries(&resolver);
        }
    }
    return err;
}

// --- Looking up -----------------------------------------------------------------------------------------------------

const struct rpc_schema_field *
rpc_schema_field_by_number(const struct rpc_schema_message *message, uint32_t number)
{
    const struct rpc_schema_field key = {.number = number};
    return bsearch(&key, message->fields, message->field_count, sizeof(key), compare_numbers);
}

const struct rpc_schema_field *
rpc_schema_field_by_name(const struct rpc_schema_message *message, const char *name)
{
    const struct rpc_schema_field key = {.name = name, .json_name = name};
    const struct rpc_schema_field *at = &key;
    const struct rpc_schema_field **found =
        bsearch(&at, message->by_json_name, message->field_count, sizeof(at), compare_json_names);
    if (found == NULL) {
        found = bsearch(&at, message->by_name, message->field_count, sizeof(at), compare_names);
    }
    return found != NULL ? *found : NULL;
}

const value_descriptor *
rpc_schema_value_by_number(const struct rpc_schema_enum *enumeration, int32_t number)
{
    value_descriptor key = {.number = number};
    value_descriptor *at = &key;
    value_descriptor **place = &at;
    value_descriptor ***found =
        bsearch(&place, enumeration->by_number, enumeration->number_count, sizeof(place), compare_value_numbers);
    return found != NULL ? **found : NULL;
}

const value_descriptor *
rpc_schema_value_by_name(const struct rpc_schema_enum *enumeration, const char *name)
{
    value_descriptor key = {0};
    // The key is only read; generated structs have no const inside.
    memcpy(&key.name, &name, sizeof(key.name));
    value_descriptor *at = &key;
    value_descriptor **place = &at;
    value_descriptor ***found =
        bsearch(&place, enumeration->by_name, enumeration->name_count, sizeof(place), compare_value_names);
    return found != NULL ? **found : NULL;
}
