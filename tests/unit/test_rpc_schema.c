// Schemas: what is found in descriptors, and which descriptors are refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema_support.h"

static struct rpc_schema *schema;

static int
start(void **state)
{
    (void)state;
    schema = schema_of_set(bytes_view_of(fc_proto_json_descriptors, fc_proto_json_descriptors_bytes));
    return 0;
}

static int
end(void **state)
{
    (void)state;
    rpc_schema_free(&schema);
    rpc_schema_free(&schema); // may run twice
    return 0;
}

static void
test_symbols_are_found_by_their_full_names(void **state)
{
    (void)state;
    assert_int_equal(RPC_SYMBOL_MESSAGE, rpc_schema_find(schema, "fc.test.v1.Everything")->kind);
    assert_int_equal(RPC_SYMBOL_MESSAGE, rpc_schema_find(schema, "fc.test.v1.Everything.Inner")->kind);
    assert_int_equal(RPC_SYMBOL_ENUM, rpc_schema_find(schema, "fc.test.v1.Colour")->kind);
    assert_int_equal(RPC_SYMBOL_SERVICE, rpc_schema_find(schema, "fc.test.v1.Json")->kind);
    const struct rpc_symbol *method = rpc_schema_find(schema, "fc.test.v1.Json/Watch");
    assert_ptr_equal(method, rpc_schema_find(schema, "fc.test.v1.Json.Watch"));
    assert_int_equal(RPC_SYMBOL_METHOD, method->kind);
    assert_string_equal("fc.test.v1.Everything.Inner", method->method->input->name);
    assert_true(method->method->descriptor->server_streaming);
    assert_int_equal(4, method->path_size);
    assert_int_equal(6, method->path[0]);
    assert_int_equal(1, method->path[3]);

    char long_name[2 * RPC_SYMBOL_MAX_BYTES];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *none[] = {"", ".", "/", "fc", "fc.test.v1", ".fc.test.v1.Json", "fc.test.v1.json", "fc.test/v1/Json",
        "fc.test.v1.Json.", long_name};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        assert_null(rpc_schema_find(schema, none[i]));
    }
}

static void
test_fields_are_found_by_number_and_both_names(void **state)
{
    (void)state;
    const struct rpc_schema_message *message = rpc_schema_find(schema, "fc.test.v1.Everything")->message;
    const struct rpc_schema_field *field = rpc_schema_field_by_number(message, 31);
    assert_string_equal("inner_by_number", field->name);
    assert_ptr_equal(field, rpc_schema_field_by_name(message, "inner_by_number"));
    assert_ptr_equal(field, rpc_schema_field_by_name(message, "innerByNumber"));
    assert_true(field->is_repeated);
    assert_true(field->message->is_map_entry);
    assert_null(rpc_schema_field_by_name(message, "InnerByNumber"));
    assert_null(rpc_schema_field_by_number(message, 29));
    assert_true(rpc_schema_field_by_name(message, "numbers")->is_packed);
    assert_false(rpc_schema_field_by_name(message, "doubles")->is_packed);
    assert_false(rpc_schema_field_by_name(message, "texts")->is_packed);
    assert_false(rpc_schema_field_by_name(message, "anInt32")->has_presence);
    assert_true(rpc_schema_field_by_name(message, "maybe")->has_presence);
    assert_int_equal(-1, rpc_schema_field_by_name(message, "maybe")->oneof);
    assert_true(rpc_schema_field_by_name(message, "left")->has_presence);
    assert_int_equal(0, rpc_schema_field_by_name(message, "left")->oneof);

    const struct rpc_schema_message *older = rpc_schema_find(schema, "fc.test.v1.Older")->message;
    assert_false(rpc_schema_field_by_name(older, "numbers")->is_packed);
    assert_true(rpc_schema_field_by_name(older, "possible")->has_presence);
}

static void
test_values_are_found_by_number_and_name(void **state)
{
    (void)state;
    const struct rpc_schema_enum *colour = rpc_schema_find(schema, "fc.test.v1.Colour")->enumeration;
    assert_int_equal(-3, rpc_schema_value_by_name(colour, "BLUE")->number);
    assert_string_equal("GREEN", rpc_schema_value_by_number(colour, 2)->name);
    assert_null(rpc_schema_value_by_name(colour, "green"));
    assert_null(rpc_schema_value_by_number(colour, 3));
    const struct rpc_schema_enum *alias = rpc_schema_find(schema, "fc.test.v1.Alias")->enumeration;
    assert_string_equal("ALIAS_ONE", rpc_schema_value_by_number(alias, 1)->name);
    assert_int_equal(1, rpc_schema_value_by_name(alias, "ALIAS_EINS")->number);
}

// --- Descriptors that are refused -----------------------------------------------------------------------------------

typedef Google__Protobuf__FieldDescriptorProto field_descriptor;

// A small valid file, of which each test spoils something before it is packed.
static struct {
    rpc_schema_file file;
    Google__Protobuf__DescriptorProto message, entry;
    field_descriptor fields[2], entry_fields[2];
    Google__Protobuf__OneofDescriptorProto oneof;
    Google__Protobuf__EnumDescriptorProto enumeration;
    Google__Protobuf__EnumValueDescriptorProto values[2];
    Google__Protobuf__ServiceDescriptorProto service;
    Google__Protobuf__MethodDescriptorProto method;
    Google__Protobuf__MessageOptions options;
    Google__Protobuf__DescriptorProto *message_list[2];
    field_descriptor *field_list[2], *entry_field_list[2];
    Google__Protobuf__OneofDescriptorProto *oneof_list[1];
    Google__Protobuf__EnumDescriptorProto *enum_list[1];
    Google__Protobuf__EnumValueDescriptorProto *value_list[2];
    Google__Protobuf__ServiceDescriptorProto *service_list[1];
    Google__Protobuf__MethodDescriptorProto *method_list[1];
} it;

#define TYPE(name) GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_##name
#define LABEL(name) GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_##name
#define IN_ONEOF GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__MEMBERSHIP_ONEOF_INDEX
#define TEXT(literal) ((char[]){literal})

static field_descriptor
field_of(char *name, int32_t number, Google__Protobuf__FieldDescriptorProto__Type type)
{
    field_descriptor field = GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__INIT;
    field.name = name;
    field.number = number;
    field.type = type;
    field.label = LABEL(OPTIONAL);
    return field;
}

static void
make_it(void)
{
    static char first[] = "first", second[] = "second", key[] = "key", value[] = "value", map[] = ".p.M.MapEntry";
    google__protobuf__file_descriptor_proto__init(&it.file);
    google__protobuf__descriptor_proto__init(&it.message);
    google__protobuf__descriptor_proto__init(&it.entry);
    google__protobuf__oneof_descriptor_proto__init(&it.oneof);
    google__protobuf__enum_descriptor_proto__init(&it.enumeration);
    google__protobuf__enum_value_descriptor_proto__init(&it.values[0]);
    google__protobuf__enum_value_descriptor_proto__init(&it.values[1]);
    google__protobuf__service_descriptor_proto__init(&it.service);
    google__protobuf__method_descriptor_proto__init(&it.method);
    google__protobuf__message_options__init(&it.options);
    static char file_name[] = "p.proto", package[] = "p", syntax[] = "proto3", message[] = "M", entry[] = "MapEntry",
                oneof[] = "o", enumeration[] = "E", zero[] = "ZERO", one[] = "ONE", service[] = "S", method[] = "Do",
                type[] = ".p.M";
    it.file.name = file_name;
    it.file.package = package;
    it.file.syntax = syntax;
    it.message.name = message;
    it.entry.name = entry;
    it.oneof.name = oneof;
    it.enumeration.name = enumeration;
    it.values[0].name = zero;
    it.values[1].name = one;
    it.values[1].number = 1;
    it.service.name = service;
    it.method.name = method;
    it.method.input_type = it.method.output_type = type;
    it.options.map_entry = true;
    it.entry.options = &it.options;
    it.fields[0] = field_of(first, 1, TYPE(INT32));
    it.fields[1] = field_of(second, 2, TYPE(MESSAGE));
    it.fields[1].label = LABEL(REPEATED);
    it.fields[1].type_name = map;
    it.entry_fields[0] = field_of(key, 1, TYPE(STRING));
    it.entry_fields[1] = field_of(value, 2, TYPE(INT32));
    for (size_t i = 0; i < 2; i++) {
        it.field_list[i] = &it.fields[i];
        it.entry_field_list[i] = &it.entry_fields[i];
        it.value_list[i] = &it.values[i];
    }
    it.message_list[0] = &it.message;
    it.message_list[1] = &it.entry;
    it.oneof_list[0] = &it.oneof;
    it.enum_list[0] = &it.enumeration;
    it.service_list[0] = &it.service;
    it.method_list[0] = &it.method;
    it.file.message_type = &it.message_list[0];
    it.file.n_message_type = 1;
    it.file.enum_type = it.enum_list;
    it.file.n_enum_type = 1;
    it.file.service = it.service_list;
    it.file.n_service = 1;
    it.message.field = it.field_list;
    it.message.n_field = 2;
    it.message.nested_type = &it.message_list[1];
    it.message.n_nested_type = 1;
    it.message.oneof_decl = it.oneof_list;
    it.message.n_oneof_decl = 1;
    it.entry.field = it.entry_field_list;
    it.entry.n_field = 2;
    it.enumeration.value = it.value_list;
    it.enumeration.n_value = 2;
    it.service.method = it.method_list;
    it.service.n_method = 1;
}

static enum err
read_it(struct err_detail *why)
{
    struct rpc_schema *read = NULL;
    size_t size = protobuf_c_message_get_packed_size(&it.file.base);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    protobuf_c_message_pack(&it.file.base, packed);
    struct bytes_view view = bytes_view_of(packed, size);
    enum err err = rpc_schema_new(&view, 1, &read, why);
    rpc_schema_free(&read);
    free(packed);
    make_it();
    return err;
}

static void
refused(const char *expected)
{
    struct err_detail why = {0};
    assert_int_equal(ERR_PROTOCOL, read_it(&why));
    if (strstr(why.message, expected) == NULL) {
        fail_msg("\"%s\" says nothing of \"%s\"", why.message, expected);
    }
}

static void
test_faults_in_descriptors_are_named(void **state)
{
    (void)state;
    struct err_detail why = {0};
    make_it();
    assert_int_equal(ERR_OK, read_it(&why));
    const char *names[] = {"", "1a", "a b", "a.b", "a-b", "a\x1b[1m", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[16];
        snprintf(name, sizeof(name), "%s", names[i]);
        it.message.name = name, refused("name that cannot be one");
        it.enumeration.name = name, refused("name that cannot be one");
        it.service.name = name, refused("name that cannot be one");
        it.method.name = name, refused("name that cannot be one");
        it.fields[0].name = name, refused("cannot be a field's name");
        it.values[0].name = name, refused("cannot be a value's name");
        it.oneof.name = name, refused("cannot be a oneof's name");
    }
    const char *packages[] = {".", "a.", ".a", "a..b", "a.1", "1", "a b"};
    for (size_t i = 0; i < sizeof(packages) / sizeof(packages[0]); i++) {
        char package[16];
        snprintf(package, sizeof(package), "%s", packages[i]);
        it.file.package = package, refused("package");
    }
    char long_name[RPC_SYMBOL_MAX_BYTES + 2];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    it.message.name = long_name, refused("name");
    it.file.package = long_name, refused("package");
    long_name[RPC_SYMBOL_MAX_BYTES - 2] = '\0'; // as long as it may be, with its package
    it.enumeration.name = long_name;
    assert_int_equal(ERR_OK, read_it(&why));
    long_name[RPC_SYMBOL_MAX_BYTES - 2] = 'a';
    long_name[RPC_SYMBOL_MAX_BYTES - 1] = '\0';
    it.enumeration.name = long_name, refused("name");

    int32_t numbers[] = {0, -1, INT32_MIN, INT32_MAX, 1 << 29};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        it.fields[0].number = numbers[i], refused("number that no field can have");
    }
    it.fields[0].number = 2, refused("number of another field");
    it.fields[0].name = it.fields[1].name, refused("twice");
    it.fields[0].json_name = TEXT("second"), it.fields[1].json_name = TEXT("second"), refused("JSON");
    it.fields[0].type = TYPE(GROUP), refused("group");
    it.fields[0].type = 0, refused("unknown type");
    it.fields[0].type = 19, refused("unknown type");
    it.fields[0].type = TYPE(MESSAGE), refused("message that is not there");
    it.fields[0].type = TYPE(MESSAGE), it.fields[0].type_name = TEXT("p.M"), refused("message that is not there");
    it.fields[0].type = TYPE(MESSAGE), it.fields[0].type_name = TEXT(".p.E"), refused("message that is not there");
    it.fields[0].type = TYPE(ENUM), it.fields[0].type_name = TEXT(".p.M"), refused("enum that is not there");
    it.fields[0].membership_case = IN_ONEOF, it.fields[0].oneof_index = 1, refused("oneof that is not there");
    it.fields[0].membership_case = IN_ONEOF, it.fields[0].oneof_index = -1, refused("oneof that is not there");
    it.fields[1].membership_case = IN_ONEOF, refused("repeated in a oneof");
    it.fields[1].label = LABEL(OPTIONAL), refused("entry of a map");
    it.entry_fields[0].type = TYPE(DOUBLE), refused("no entry of a map");
    it.entry_fields[0].type = TYPE(BYTES), refused("no entry of a map");
    it.entry_fields[0].number = 3, refused("no entry of a map");
    it.entry_fields[1].label = LABEL(REPEATED), refused("no entry of a map");
    it.entry.n_field = 1, refused("no entry of a map");
    it.enumeration.n_value = 0, refused("no values");
    it.values[1].name = it.values[0].name, refused("twice");
    it.enumeration.name = it.message.name, refused("p.M twice");
    it.method.input_type = TEXT(".p.X"), refused("takes or returns");
    it.method.output_type = TEXT(""), refused("takes or returns");
    it.method.output_type = TEXT(".p.S/Do"), refused("takes or returns");
}

static void
test_descriptors_cut_anywhere_are_refused_or_smaller(void **state)
{
    (void)state;
    struct bytes_view set = bytes_view_of(fc_proto_json_descriptors, fc_proto_json_descriptors_bytes);
    struct bytes_view files[SCHEMA_FILES_MAX];
    struct arena arena;
    assert_int_equal(2, schema_split_set(set, &arena, files));
    size_t whole = files[0].size;
    size_t refusals = 0;
    for (files[0].size = 0; files[0].size < whole; files[0].size++) {
        struct rpc_schema *read = NULL;
        struct err_detail why = {0};
        enum err err = rpc_schema_new(files, 1, &read, &why);
        assert_true(err == ERR_OK || (err == ERR_PROTOCOL && why.message[0] != '\0'));
        refusals += err != ERR_OK;
        rpc_schema_free(&read);
    }
    assert_true(refusals > whole / 2);
    arena_deinit(&arena);
}

static void
test_nesting_has_a_limit(void **state)
{
    (void)state;
    enum {
        LEVELS = 40,
    };
    static Google__Protobuf__DescriptorProto messages[LEVELS];
    static Google__Protobuf__DescriptorProto *lists[LEVELS];
    static char name[] = "N";
    make_it();
    for (size_t i = 0; i < LEVELS; i++) {
        google__protobuf__descriptor_proto__init(&messages[i]);
        messages[i].name = name;
        lists[i] = &messages[i];
        if (i > 0) {
            messages[i].nested_type = &lists[i - 1];
            messages[i].n_nested_type = 1;
        }
    }
    struct err_detail why = {0};
    it.file.message_type = &lists[RPC_NESTING_MAX_DEPTH - 2];
    it.file.n_service = 0;
    assert_int_equal(ERR_OK, read_it(&why));
    it.file.message_type = &lists[RPC_NESTING_MAX_DEPTH - 1];
    it.file.n_service = 0;
    refused("nested too deeply");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_symbols_are_found_by_their_full_names),
        cmocka_unit_test(test_fields_are_found_by_number_and_both_names),
        cmocka_unit_test(test_values_are_found_by_number_and_name),
        cmocka_unit_test(test_faults_in_descriptors_are_named),
        cmocka_unit_test(test_descriptors_cut_anywhere_are_refused_or_smaller),
        cmocka_unit_test(test_nesting_has_a_limit),
    };
    return cmocka_run_group_tests(tests, start, end);
}
