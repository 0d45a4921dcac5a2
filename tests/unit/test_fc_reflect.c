// Descriptions: every construct of a .proto file, and a server's words on a terminal.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/fc_reflect_priv.h"
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
    return 0;
}

static char *
print(const struct rpc_schema *from, const char *name)
{
    struct bytes out = {0};
    assert_int_equal(ERR_OK, fc_reflect_print(from, rpc_schema_find(from, name), &out));
    assert_int_equal(ERR_OK, bytes_append(&out, bytes_view_of("", 1)));
    return (char *)out.data;
}

static void
assert_printed(const char *name, const char *expected)
{
    char *text = print(schema, name);
    assert_string_equal(expected, text);
    free(text);
}

static void
test_enums_and_services(void **state)
{
    (void)state;
    assert_printed("fc.test.v1.Colour", "// What a field of type Colour may be.\n"
                                        "enum fc.test.v1.Colour {\n"
                                        "  COLOUR_NONE = 0;\n"
                                        "  // the first one\n"
                                        "  RED = 1;\n"
                                        "  GREEN = 2;\n"
                                        "  BLUE = -3;\n"
                                        "}\n");
    assert_printed("fc.test.v1.Json",
        "service fc.test.v1.Json {\n"
        "  // Takes everything.\n"
        "  rpc Take(fc.test.v1.Everything) returns (fc.test.v1.Everything);\n"
        "  rpc Watch(fc.test.v1.Everything.Inner) returns (stream fc.test.v1.Everything);\n"
        "}\n");
}

static void
test_messages(void **state)
{
    (void)state;
    assert_printed("fc.test.v1.Older", "message fc.test.v1.Older {\n"
                                       "  required int32 needed = 1;\n"
                                       "  optional int32 possible = 2;\n"
                                       "  repeated int32 numbers = 3;\n"
                                       "  fc.test.v1.Everything everything = 4;\n"
                                       "}\n");
    char *text = print(schema, "fc.test.v1.Everything");
    const char *parts[] = {"// All types, by themselves and in lists and maps.\nmessage fc.test.v1.Everything {\n",
        "\n  double a_double = 1;\n", "\n  fc.test.v1.Colour a_colour = 12;\n",
        "\n  fc.test.v1.Everything.Inner inner = 18;\n", "\n  repeated fc.test.v1.Everything.Inner inners = 22;\n",
        "\n  map<string, string> labels = 30;\n", "\n  map<int32, fc.test.v1.Everything.Inner> inner_by_number = 31;\n",
        "\n  oneof choice {\n    string left = 40;\n    fc.test.v1.Everything.Inner right = 41;\n    int32 middle = "
        "42;\n"
        "  }\n  optional int32 maybe = 50;\n"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strstr(text, parts[i]) == NULL) {
            fail_msg("%s is not in\n%s", parts[i], text);
        }
    }
    free(text);
    assert_printed("fc.test.v1.Everything.Inner", "// Inner nests.\n"
                                                  "message fc.test.v1.Everything.Inner {\n"
                                                  "  string name = 1;\n"
                                                  "  fc.test.v1.Everything.Inner inner = 2;\n"
                                                  "  repeated fc.test.v1.Everything.Inner inners = 3;\n"
                                                  "}\n");
}

static void
test_a_method_comes_with_its_messages(void **state)
{
    (void)state;
    char *text = print(schema, "fc.test.v1.Json/Watch");
    const char *first =
        "rpc Watch(fc.test.v1.Everything.Inner) returns (stream fc.test.v1.Everything);\n\n// Inner nests.\n";
    assert_memory_equal(first, text, strlen(first));
    assert_non_null(strstr(text, "\n}\n\n// All types"));
    free(text);
    // One message that is both stands there once.
    text = print(schema, "fc.test.v1.Json/Take");
    assert_null(strstr(strstr(text, "message fc.test.v1.Everything {") + 1, "message "));
    free(text);
}

static void
test_a_comment_cannot_drive_a_terminal(void **state)
{
    (void)state;
    rpc_schema_file file = GOOGLE__PROTOBUF__FILE_DESCRIPTOR_PROTO__INIT;
    Google__Protobuf__DescriptorProto message = GOOGLE__PROTOBUF__DESCRIPTOR_PROTO__INIT;
    Google__Protobuf__SourceCodeInfo info = GOOGLE__PROTOBUF__SOURCE_CODE_INFO__INIT;
    Google__Protobuf__SourceCodeInfo__Location places[2] = {GOOGLE__PROTOBUF__SOURCE_CODE_INFO__LOCATION__INIT,
        GOOGLE__PROTOBUF__SOURCE_CODE_INFO__LOCATION__INIT};
    Google__Protobuf__SourceCodeInfo__Location *place_list[] = {&places[0], &places[1]};
    Google__Protobuf__DescriptorProto *message_list[] = {&message};
    int32_t path[] = {4, 0};
    char leading[] = " red \x1b[31m\r\n\n}\n";
    char trailing[] = "no end";
    char name[] = "M";
    message.name = name;
    places[0].path = path; // a path that leads nowhere
    places[0].n_path = 1;
    places[1].path = path;
    places[1].n_path = 2;
    places[1].leading_comments = leading;
    places[1].trailing_comments = trailing;
    info.location = place_list;
    info.n_location = 2;
    file.message_type = message_list;
    file.n_message_type = 1;
    file.source_code_info = &info;
    uint8_t packed[256];
    struct bytes_view view = bytes_view_of(packed, protobuf_c_message_pack(&file.base, packed));
    struct rpc_schema *hostile = NULL;
    assert_int_equal(ERR_OK, rpc_schema_new(&view, 1, &hostile, NULL));
    char *text = print(hostile, "M");
    assert_string_equal("// red \\x1b[31m\\x0d\n//\n//}\n//no end\nmessage M {\n}\n", text);
    free(text);
    rpc_schema_free(&hostile);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enums_and_services),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_a_method_comes_with_its_messages),
        cmocka_unit_test(test_a_comment_cannot_drive_a_terminal),
    };
    return cmocka_run_group_tests(tests, start, end);
}
