// The JSON mapping both ways: a table of what is taken and given, and what is refused with which words.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_json.h"
#include "schema_support.h"

static struct rpc_schema *schema;
static const struct rpc_schema_message *everything;

static int
start(void **state)
{
    (void)state;
    schema = schema_of_set(bytes_view_of(fc_proto_json_descriptors, fc_proto_json_descriptors_bytes));
    everything = rpc_schema_find(schema, "fc.test.v1.Everything")->message;
    return 0;
}

static int
end(void **state)
{
    (void)state;
    rpc_schema_free(&schema);
    return 0;
}

static enum err
to_wire(const char *json, struct bytes *out, struct err_detail *why)
{
    return rpc_json_to_wire(everything, bytes_view_of_text(json), out, why);
}

// assert_wire compares with hexadecimal digits; blanks between them are for the reader.
static void
assert_wire(const char *json, const char *hex)
{
    struct bytes wire = {0};
    struct err_detail why = {0};
    char digits[512] = "";
    if (to_wire(json, &wire, &why) != ERR_OK) {
        fail_msg("%s: %s", json, why.message);
    }
    for (size_t i = 0; i < wire.size; i++) {
        snprintf(digits + 2 * i, sizeof(digits) - 2 * i, "%02x", wire.data[i]);
    }
    const char *expected = hex;
    for (const char *c = digits; *c != '\0' || *expected != '\0';) {
        if (*expected == ' ') {
            expected++;
        } else if (*c++ != *expected++) {
            fail_msg("%s became %s, not %s", json, digits, hex);
        }
    }
    bytes_free(&wire);
}

static void
assert_from(const struct rpc_schema_message *message, struct bytes_view wire, bool with_defaults, const char *expected)
{
    struct bytes json = {0};
    struct err_detail why = {0};
    if (rpc_json_from_wire(message, wire, with_defaults, &json, &why) != ERR_OK) {
        fail_msg("%s instead of %s", why.message, expected);
    }
    assert_int_equal(ERR_OK, bytes_append(&json, bytes_view_of("", 1)));
    assert_string_equal(expected, (const char *)json.data);
    bytes_free(&json);
}

#define WIRE(literal) bytes_view_of(literal, sizeof(literal) - 1)

// --- Both ways ------------------------------------------------------------------------------------------------------

// What goes in, and what comes back; NULL: the same text.
static const struct {
    const char *in;
    const char *out;
} round_trips[] = {
    {"{}", NULL},
    {" {\n} ", "{}"},
    {"{\"aDouble\":1.5,\"aFloat\":0.1}", NULL},
    {"{\"aDouble\":0.1}", NULL},
    {"{\"aDouble\":1e+300}", NULL},
    {"{\"aDouble\":5e-324}", "{\"aDouble\":4.94065645841247e-324}"},
    {"{\"aDouble\":1.7976931348623157e+308}", NULL},
    {"{\"aDouble\":\"NaN\",\"aFloat\":\"-Infinity\"}", NULL},
    {"{\"aDouble\":\"Infinity\",\"aFloat\":\"NaN\"}", NULL},
    {"{\"aDouble\":\"1.5\",\"aFloat\":\"-2e1\"}", "{\"aDouble\":1.5,\"aFloat\":-20}"},
    {"{\"aDouble\":-0.0,\"aFloat\":\"-0\"}", "{\"aDouble\":-0.0,\"aFloat\":-0.0}"},
    {"{\"aDouble\":-0}", "{}"},
    {"{\"aFloat\":3.4028235e+38}", NULL},
    {"{\"doubles\":[1,2,3.25]}", NULL},
    {"{\"anInt64\":\"-9223372036854775808\",\"aUint64\":\"18446744073709551615\"}", NULL},
    {"{\"anInt64\":9223372036854775807,\"aUint64\":1}", "{\"anInt64\":\"9223372036854775807\",\"aUint64\":\"1\"}"},
    {"{\"anInt32\":-2147483648,\"aUint32\":4294967295}", NULL},
    {"{\"anInt32\":\"2147483647\",\"aUint32\":\"0\"}", "{\"anInt32\":2147483647}"},
    {"{\"anInt32\":1e3,\"aUint32\":100.0}", "{\"anInt32\":1000,\"aUint32\":100}"},
    {"{\"anInt32\":\"1e3\",\"aUint32\":\"1.0\"}", "{\"anInt32\":1000,\"aUint32\":1}"},
    {"{\"aFixed32\":4294967295,\"anSfixed32\":-1}", NULL},
    {"{\"aFixed64\":\"18446744073709551615\",\"anSfixed64\":\"-1\"}", NULL},
    {"{\"anSint32\":-2147483648,\"anSint64\":\"-9223372036854775808\"}", NULL},
    {"{\"anSint32\":2147483647,\"anSint64\":\"9223372036854775807\"}", NULL},
    {"{\"aBool\":true}", NULL},
    {"{\"aBool\":false,\"aString\":\"\",\"aBytes\":\"\",\"anInt32\":0,\"aColour\":\"COLOUR_NONE\",\"numbers\":[]}",
        "{}"},
    {"{\"aBool\":null,\"inner\":null,\"numbers\":null,\"labels\":null,\"left\":null,\"maybe\":null}", "{}"},
    {"{\"aString\":\"\\u00e9\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
        "{\"aString\":\"\xc3\xa9\xf0\x9f\x98\x80 \\\"\\\\/\\b\\f\\n\\r\\t\"}"},
    {"{\"aString\":\"\x7f\\u001b[31m\\u202e\"}", "{\"aString\":\"\\u007f\\u001b[31m\\u202e\"}"},
    {"{\"aBytes\":\"AP8=\"}", NULL},
    {"{\"aBytes\":\"-_-_\"}", "{\"aBytes\":\"+/+/\"}"},
    {"{\"aBytes\":\"Zg\"}", "{\"aBytes\":\"Zg==\"}"},
    {"{\"aColour\":\"GREEN\"}", NULL},
    {"{\"aColour\":\"BLUE\"}", NULL},
    {"{\"aColour\":2}", "{\"aColour\":\"GREEN\"}"},
    {"{\"aColour\":77}", NULL}, // an enum of proto3 is open
    {"{\"aColour\":-77}", NULL},
    {"{\"anAlias\":\"ALIAS_EINS\"}", "{\"anAlias\":\"ALIAS_ONE\"}"},
    {"{\"inner\":{}}", NULL},
    {"{\"inner\":{\"name\":\"a\",\"inner\":{\"name\":\"b\"},\"inners\":[{},{\"name\":\"c\"}]}}", NULL},
    {"{\"numbers\":[1,-1,0,2147483647],\"texts\":[\"a\",\"\"],\"inners\":[{},{\"name\":\"x\"}]}", NULL},
    {"{\"colours\":[\"RED\",3,-3],\"sint64s\":[-1,\"2\"]}",
        "{\"colours\":[\"RED\",3,\"BLUE\"],\"sint64s\":[\"-1\",\"2\"]}"},
    {"{\"fixed32s\":[1,2],\"blobs\":[\"Zg==\",\"\"],\"bools\":[true,false]}", NULL},
    {"{\"labels\":{\"a\":\"1\",\"\":\"\"}}", "{\"labels\":{\"\":\"\",\"a\":\"1\"}}"},
    {"{\"innerByNumber\":{\"-1\":{\"name\":\"x\"},\"7\":{}}}", NULL},
    {"{\"colourByTruth\":{\"true\":\"RED\",\"false\":0}}",
        "{\"colourByTruth\":{\"false\":\"COLOUR_NONE\",\"true\":\"RED\"}}"},
    {"{\"blobByNumber\":{\"18446744073709551615\":\"Zg==\"}}", NULL},
    {"{\"left\":\"\"}", NULL}, // a member of a oneof shows that it is set
    {"{\"right\":{}}", NULL},
    {"{\"middle\":0}", NULL},
    {"{\"maybe\":0,\"maybeText\":\"\"}", NULL},
    {"{\"an other\\\"name\":\"x\"}", NULL},
    {"{\"renamed\":\"x\"}", "{\"an other\\\"name\":\"x\"}"},
    {"{\"a_string\":\"x\",\"inner_by_number\":{\"1\":{}}}", "{\"aString\":\"x\",\"innerByNumber\":{\"1\":{}}}"},
    {"{\"texts\":[\"b\"],\"aDouble\":1}", "{\"aDouble\":1,\"texts\":[\"b\"]}"},
};

static void
test_round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(round_trips) / sizeof(round_trips[0]); i++) {
        struct bytes wire = {0};
        struct err_detail why = {0};
        if (to_wire(round_trips[i].in, &wire, &why) != ERR_OK) {
            fail_msg("%s: %s", round_trips[i].in, why.message);
        }
        assert_from(everything, bytes_as_view(&wire), false,
            round_trips[i].out != NULL ? round_trips[i].out : round_trips[i].in);
        bytes_free(&wire);
    }
}

static void
test_the_encoding_is_that_of_protobuf(void **state)
{
    (void)state;
    assert_wire("{}", "");
    assert_wire("{\"anInt32\":150}", "28 9601");
    assert_wire("{\"anInt32\":-1}", "28 ffffffffffffffffff01"); // as 64 bits
    assert_wire("{\"aColour\":\"BLUE\"}", "60 fdffffffffffffffff01");
    assert_wire("{\"anSint32\":-1,\"anSint64\":-2}", "78 01 8001 03");
    assert_wire("{\"aString\":\"testing\"}", "4a 07 74657374696e67");
    assert_wire("{\"aFloat\":1,\"aDouble\":1}", "09 000000000000f03f 15 0000803f"); // by number
    assert_wire("{\"aFixed64\":1,\"anSfixed32\":-2}", "31 0100000000000000 6d feffffff");
    assert_wire("{\"numbers\":[3,270,86942]}", "a201 06 03 8e02 9ea705");              // packed
    assert_wire("{\"doubles\":[1,1]}", "c101 000000000000f03f c101 000000000000f03f"); // says that it is not
    assert_wire("{\"inner\":{\"inner\":{\"name\":\"a\"}}}", "9201 05 12 03 0a 01 61");
    assert_wire("{\"labels\":{\"a\":\"b\"}}", "f201 06 0a 01 61 12 01 62");
    assert_wire("{\"numbers\":[]}", "");
}

static void
test_both_fields_of_older_files(void **state)
{
    (void)state;
    const struct rpc_schema_message *older = rpc_schema_find(schema, "fc.test.v1.Older")->message;
    assert_from(older, WIRE("\x08\x00\x10\x00\x18\x01\x18\x02"), false,
        "{\"needed\":0,\"possible\":0,\"numbers\":[1,2]}");
    assert_from(older, WIRE(""), true, "{\"numbers\":[]}");
}

// --- From the wire --------------------------------------------------------------------------------------------------

static void
test_defaults_are_given_when_asked_for(void **state)
{
    (void)state;
    assert_from(everything, WIRE(""), true,
        "{\"aDouble\":0,\"aFloat\":0,\"anInt64\":\"0\",\"aUint64\":\"0\",\"anInt32\":0,\"aFixed64\":\"0\",\"aFixed32\":"
        "0,"
        "\"aBool\":false,\"aString\":\"\",\"aBytes\":\"\",\"aUint32\":0,\"aColour\":\"COLOUR_NONE\",\"anSfixed32\":0,"
        "\"anSfixed64\":\"0\",\"anSint32\":0,\"anSint64\":\"0\",\"anAlias\":\"ALIAS_ZERO\",\"numbers\":[],\"texts\":[],"
        "\"inners\":[],\"colours\":[],\"doubles\":[],\"sint64s\":[],\"fixed32s\":[],\"blobs\":[],\"bools\":[],"
        "\"labels\":{},\"innerByNumber\":{},\"colourByTruth\":{},\"blobByNumber\":{},\"an other\\\"name\":\"\"}");
    const struct rpc_schema_message *inner = rpc_schema_find(schema, "fc.test.v1.Everything.Inner")->message;
    assert_from(inner, WIRE("\x12\x00"), true, "{\"name\":\"\",\"inner\":{\"name\":\"\",\"inners\":[]},\"inners\":[]}");
}

static void
test_what_other_encoders_write_is_understood(void **state)
{
    (void)state;
    // Unknown fields of every wire type.
    assert_from(everything,
        WIRE("\xc8\x3e\x01\xc9\x3e"
             "12345678"
             "\xca\x3e\x02xy"
             "\xcd\x3e"
             "1234"
             "\x28\x07"),
        false, "{\"anInt32\":7}");
    // The last of several counts; messages merge; order does not matter.
    assert_from(everything,
        WIRE("\x4a\x01"
             "b\x28\x01\x28\x02\x4a\x01"
             "c"),
        false, "{\"anInt32\":2,\"aString\":\"c\"}");
    assert_from(everything,
        WIRE("\x92\x01\x03\x0a\x01"
             "a\x92\x01\x02\x12\x00"),
        false, "{\"inner\":{\"name\":\"a\",\"inner\":{}}}");
    assert_from(everything, WIRE("\x28\x01\x28\x00"), false, "{}");
    // Lists packed, not packed, and both.
    assert_from(everything, WIRE("\xa0\x01\x01\xa2\x01\x02\x02\x03\xa0\x01\x04"), false, "{\"numbers\":[1,2,3,4]}");
    assert_from(everything, WIRE("\xc2\x01\x08\0\0\0\0\0\0\xf0\x3f"), false, "{\"doubles\":[1]}");
    assert_from(everything, WIRE("\xa2\x01\x00"), false, "{}");
    assert_from(everything, WIRE("\xa2\x01\x00\xa2\x01\x00"), false, "{}");
    assert_from(everything, WIRE("\x78\xff\xff\xff\xff\xff\x01"), false, "{\"anSint32\":-2147483648}");
    assert_from(everything, WIRE("\x28\x80\x80\x80\x80\x10"), false, "{}"); // cut to 0
    assert_from(everything, WIRE("\xa2\x01\x00\xa2\x01\x01\x07"), false, "{\"numbers\":[7]}");
    // Numbers longer than their type are cut.
    assert_from(everything, WIRE("\x28\xff\xff\xff\xff\xff\x01\x40\x80\x80\x80\x80\x10"), false,
        "{\"anInt32\":-1,\"aBool\":true}");
    // Of a oneof the member counts that came last, and only what belongs to it since.
    assert_from(everything,
        WIRE("\xc2\x02\x01"
             "x\xd0\x02\x05"),
        false, "{\"middle\":5}");
    assert_from(everything,
        WIRE("\xca\x02\x03\x0a\x01"
             "a\xd0\x02\x05\xca\x02\x02\x12\x00"),
        false, "{\"right\":{\"inner\":{}}}");
    assert_from(everything,
        WIRE("\xca\x02\x03\x0a\x01"
             "a\xca\x02\x02\x12\x00"),
        false, "{\"right\":{\"name\":\"a\",\"inner\":{}}}");
    // Entries of maps without key or value, with both twice, and with a key that is there twice.
    assert_from(everything, WIRE("\xf2\x01\x00"), false, "{\"labels\":{\"\":\"\"}}");
    assert_from(everything, WIRE("\xfa\x01\x02\x08\x05"), false, "{\"innerByNumber\":{\"5\":{}}}");
    assert_from(everything,
        WIRE("\xf2\x01\x0c\x0a\x01"
             "a\x12\x01"
             "1\x12\x01"
             "2\x0a\x01"
             "b"),
        false, "{\"labels\":{\"b\":\"2\"}}");
    assert_from(everything,
        WIRE("\xf2\x01\x06\x12\x01"
             "1\x0a\x01"
             "a\xf2\x01\x06\x12\x01"
             "2\x0a\x01"
             "a"),
        false, "{\"labels\":{\"a\":\"2\"}}");
}

static void
from_refused(struct bytes_view wire, enum err code, const char *expected)
{
    struct bytes json = {0};
    struct err_detail why = {0};
    assert_int_equal(code, rpc_json_from_wire(everything, wire, false, &json, &why));
    if (strstr(why.message, expected) == NULL) {
        fail_msg("\"%s\" does not say: %s", why.message, expected);
    }
    bytes_free(&json);
}

static void
test_hostile_encodings_are_refused(void **state)
{
    (void)state;
    from_refused(WIRE("\x80"), ERR_PROTOCOL, "tag cannot be read");
    from_refused(WIRE("\x00\x01"), ERR_PROTOCOL, "tag cannot be read");
    from_refused(WIRE("\xff\xff\xff\xff\x7f\x01"), ERR_PROTOCOL, "tag cannot be read");
    from_refused(WIRE("\x28"), ERR_PROTOCOL, "field \"anInt32\": cannot be read to its end");
    from_refused(WIRE("\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ERR_PROTOCOL, "anInt32");
    from_refused(WIRE("\x4a\x05"
                      "abc"),
        ERR_PROTOCOL, "aString");
    from_refused(WIRE("\x4a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ERR_PROTOCOL, "aString");
    from_refused(WIRE("\x09"
                      "1234567"),
        ERR_PROTOCOL, "aDouble");
    from_refused(WIRE("\x2b\x2c"), ERR_PROTOCOL, "anInt32"); // a group
    from_refused(WIRE("\x2d"
                      "1234"),
        ERR_PROTOCOL, "field \"anInt32\": has another wire type");
    from_refused(WIRE("\x2a\x01\x01"), ERR_PROTOCOL, "another wire type");
    from_refused(WIRE("\x4a\x01\xff"), ERR_PROTOCOL, "field \"aString\": is not UTF-8");
    from_refused(WIRE("\x4a\x01\x00"), ERR_PROTOCOL, "U+0000");
    from_refused(WIRE("\xa2\x01\x02\x01\x80"), ERR_PROTOCOL, "field \"numbers[0]\": has an entry that is cut short");
    from_refused(WIRE("\xd2\x01\x03"
                      "abc"),
        ERR_PROTOCOL, "fixed32s");
    from_refused(WIRE("\xb2\x01\x00\xb2\x01\x04\x1a\x02\x0a\x05"), ERR_PROTOCOL,
        "field \"inners[1].inners[0].name\": cannot be read to its end");
    from_refused(WIRE("\xf2\x01\x03\x0a\x01\xff"), ERR_PROTOCOL, "labels");
}

static void
test_encodings_cut_anywhere_are_refused_or_smaller(void **state)
{
    (void)state;
    struct bytes wire = {0};
    struct err_detail why = {0};
    assert_int_equal(ERR_OK,
        to_wire("{\"aString\":\"abc\",\"inners\":[{\"name\":\"x\",\"inner\":{}},{}],\"numbers\":[1,2,300],"
                "\"innerByNumber\":{\"300\":{\"name\":\"y\"}},\"aDouble\":1,\"right\":{\"name\":\"z\"}}",
            &wire, &why));
    size_t refusals = 0;
    for (size_t size = 0; size < wire.size; size++) {
        struct bytes json = {0};
        enum err err = rpc_json_from_wire(everything, bytes_view_of(wire.data, size), false, &json, &why);
        assert_true(err == ERR_OK || err == ERR_PROTOCOL);
        refusals += err == ERR_PROTOCOL;
        bytes_free(&json);
    }
    assert_true(refusals > wire.size / 2);
    bytes_free(&wire);
}

// nest makes a message of so many levels within `inner`, by wrapping one level after the other.
static struct bytes
nest(size_t levels)
{
    struct bytes wire = {0};
    for (size_t i = 1; i < levels; i++) {
        struct bytes outer = {0};
        uint8_t tag[2] = {0x92, 0x01};
        uint8_t inner_tag = 0x12;
        assert_true(wire.size < 128);
        uint8_t size = (uint8_t)wire.size;
        bool is_outermost = i + 1 == levels;
        assert_int_equal(ERR_OK,
            bytes_append(&outer, is_outermost ? bytes_view_of(tag, 2) : bytes_view_of(&inner_tag, 1)));
        assert_int_equal(ERR_OK, bytes_append(&outer, bytes_view_of(&size, 1)));
        assert_int_equal(ERR_OK, bytes_append(&outer, bytes_as_view(&wire)));
        bytes_free(&wire);
        wire = outer;
    }
    return wire;
}

static void
test_depth_and_size_are_limited(void **state)
{
    (void)state;
    struct bytes json = {0};
    struct err_detail why = {0};
    struct bytes wire = nest(RPC_NESTING_MAX_DEPTH);
    assert_int_equal(ERR_OK, rpc_json_from_wire(everything, bytes_as_view(&wire), false, &json, &why));
    struct bytes again = {0};
    assert_int_equal(ERR_OK, rpc_json_to_wire(everything, bytes_as_view(&json), &again, &why));
    assert_true(bytes_view_equal(bytes_as_view(&wire), bytes_as_view(&again)));
    bytes_free(&again);
    bytes_free(&wire);
    wire = nest(RPC_NESTING_MAX_DEPTH + 1);
    from_refused(bytes_as_view(&wire), ERR_PROTOCOL, "nested too deeply");
    bytes_free(&wire);

    // One level more in JSON.
    bytes_clear(&json);
    for (size_t i = 0; i < RPC_NESTING_MAX_DEPTH; i++) {
        assert_int_equal(ERR_OK, bytes_append(&json, bytes_view_of_text("{\"inner\":")));
    }
    assert_int_equal(ERR_OK, bytes_append(&json, bytes_view_of_text("{}")));
    for (size_t i = 0; i < RPC_NESTING_MAX_DEPTH; i++) {
        assert_int_equal(ERR_OK, bytes_append(&json, bytes_view_of_text("}")));
    }
    assert_int_equal(ERR_INVALID, rpc_json_to_wire(everything, bytes_as_view(&json), &wire, &why));
    assert_non_null(strstr(why.message, "nested too deeply"));

    // Many elements.
    for (size_t i = 0; i <= RPC_ELEMENTS_MAX; i++) {
        assert_int_equal(ERR_OK, bytes_append(&wire, WIRE("\xb2\x01\x00")));
    }
    from_refused(bytes_as_view(&wire), ERR_PROTOCOL, "largest number of elements");
    bytes_free(&wire);

    // Control characters take six times as much.
    size_t size = RPC_JSON_MAX_BYTES / 6 + 1;
    uint8_t head[] = {0x4a, (uint8_t)(size | 0x80), (uint8_t)(size >> 7 | 0x80), (uint8_t)(size >> 14 | 0x80),
        (uint8_t)(size >> 21)};
    assert_int_equal(ERR_OK, bytes_append(&wire, bytes_view_of(head, sizeof(head))));
    assert_int_equal(ERR_OK, bytes_reserve(&wire, size));
    memset(wire.data + wire.size, 1, size);
    wire.size += size;
    from_refused(bytes_as_view(&wire), ERR_TOO_BIG, "as JSON");
    bytes_free(&wire);

    bytes_clear(&json);
    assert_int_equal(ERR_OK, bytes_reserve(&json, RPC_JSON_MAX_BYTES + 1));
    memset(json.data, ' ', RPC_JSON_MAX_BYTES + 1);
    json.size = RPC_JSON_MAX_BYTES + 1;
    assert_int_equal(ERR_TOO_BIG, rpc_json_to_wire(everything, bytes_as_view(&json), &wire, &why));
    // A text within its limit, and a message over its own.
    memcpy(json.data, "{\"aString\":\"", 12);
    memcpy(json.data + RPC_JSON_MAX_BYTES - 2, "\"}", 2);
    json.size = RPC_JSON_MAX_BYTES;
    assert_int_equal(ERR_TOO_BIG, rpc_json_to_wire(everything, bytes_as_view(&json), &wire, &why));
    assert_non_null(strstr(why.message, "one call may carry"));
    assert_int_equal(0, wire.size);
    bytes_free(&json);
}

// --- To the wire ----------------------------------------------------------------------------------------------------

static const struct {
    const char *json;
    const char *expected; // part of the message
} refusals[] = {
    {"", "this is no JSON: line 1, column 0"},
    {"nope", "this is no JSON"},
    {"{", "this is no JSON"},
    {"{} {}", "this is no JSON"},
    {"{\"aString\":'x'}", "this is no JSON"},
    {"{\"aString\":\"\xff\"}", "this is no JSON"},
    {"{\"aString\":\"\\ud800\"}", "this is no JSON"},
    {"{\"aString\":\"a\",\"aString\":\"b\"}", "duplicate"},
    {"{\"aDouble\":NaN}", "this is no JSON"},
    {"{\"anInt32\":01}", "this is no JSON"},
    {"{\"aUint64\":18446744073709551615}", "written as strings"},
    {"{\"aDouble\":1e400}", "this is no JSON"},
    {"[]", "expected an object, not an array"},
    {"\"x\"", "expected an object, not a string"},
    {"null", "expected an object, not null"},
    {"{\"nope\":1}", "field \"nope\": there is no such field in fc.test.v1.Everything"},
    {"{\"nope\":null}", "there is no such field"},
    {"{\"AString\":\"x\"}", "there is no such field"},
    {"{\"inner\":{\"inners\":[{},{\"name\":1}]}}", "field \"inner.inners[1].name\": expected a string, not a number"},
    {"{\"inners\":[{\"nope\":1}]}", "field \"inners[0].nope\": there is no such field in fc.test.v1.Everything.Inner"},
    {"{\"innerByNumber\":{\"7\":{\"name\":true}}}", "field \"innerByNumber[\"7\"].name\": expected a string, not true"},
    {"{\"innerByNumber\":{\"x\":{}}}", "field \"innerByNumber[\"x\"]\": expected an integer"},
    {"{\"innerByNumber\":{\"2147483648\":{}}}", "expected an integer from -2147483648 to 2147483647"},
    {"{\"blobByNumber\":{\"-1\":\"\"}}", "expected an integer from 0 to 18446744073709551615"},
    {"{\"colourByTruth\":{\"TRUE\":0}}", "expected the key \"true\" or \"false\""},
    {"{\"labels\":{\"a\":null}}", "field \"labels[\"a\"]\": expected a string, not null"},
    {"{\"labels\":[]}", "expected an object, not an array"},
    {"{\"labels\":{\"a\":1}}", "expected a string, not a number"},
    {"{\"inner\":[]}", "field \"inner\": expected an object, not an array"},
    {"{\"numbers\":1}", "field \"numbers\": expected an array, not a number"},
    {"{\"numbers\":[1,null]}", "field \"numbers[1]\": expected an integer, not null"},
    {"{\"numbers\":[[1]]}", "field \"numbers[0]\": expected an integer, not an array"},
    {"{\"aString\":\"a\",\"a_string\":\"b\"}", "field \"aString\": is given twice"},
    {"{\"left\":\"a\",\"middle\":1}", "field \"middle\": cannot be given together with \"left\""},
    {"{\"anInt32\":2147483648}", "field \"anInt32\": expected an integer from -2147483648 to 2147483647"},
    {"{\"anInt32\":-2147483649}", "from -2147483648"},
    {"{\"aUint32\":-1}", "from 0 to 4294967295"},
    {"{\"aUint32\":4294967296}", "from 0 to 4294967295"},
    {"{\"anInt64\":\"9223372036854775808\"}", "from -9223372036854775808 to 9223372036854775807"},
    {"{\"aUint64\":\"18446744073709551616\"}", "expected an integer"},
    {"{\"aUint64\":1e20}", "expected an integer"},
    {"{\"anInt32\":0.5}", "expected an integer"},
    {"{\"anInt32\":\"0.5\"}", "expected an integer"},
    {"{\"anInt32\":\"\"}", "expected an integer"},
    {"{\"anInt32\":\" 1\"}", "expected an integer"},
    {"{\"anInt32\":\"1 \"}", "expected an integer"},
    {"{\"anInt32\":\"0x1\"}", "expected an integer"},
    {"{\"anInt32\":\"+1\"}", "expected an integer"},
    {"{\"anInt32\":\"1\\u0000\"}", "expected an integer"},
    {"{\"anInt32\":\"Infinity\"}", "expected an integer"},
    {"{\"anInt32\":true}", "expected an integer, not true"},
    {"{\"aFloat\":3.5e38}", "expected a number of at most"},
    {"{\"aFloat\":\"1e400\"}", "expected a number of at most"},
    {"{\"aDouble\":\"inf\"}", "expected a number, \"NaN\""},
    {"{\"aDouble\":\"nan\"}", "expected a number, \"NaN\""},
    {"{\"aDouble\":\"1.\"}", "expected a number"},
    {"{\"aDouble\":\".1\"}", "expected a number"},
    {"{\"aDouble\":\"1e\"}", "expected a number"},
    {"{\"aDouble\":\"0x1p3\"}", "expected a number"},
    {"{\"aDouble\":false}", "expected a number, not false"},
    {"{\"aBool\":1}", "expected true or false, not a number"},
    {"{\"aBool\":\"true\"}", "expected true or false, not a string"},
    {"{\"aString\":\"a\\u0000b\"}", "U+0000"},
    {"{\"aString\":{}}", "expected a string, not an object"},
    {"{\"aBytes\":\"Z\"}", "field \"aBytes\": expected base64"},
    {"{\"aBytes\":[1]}", "expected a string in base64, not an array"},
    {"{\"aColour\":\"PURPLE\"}", "field \"aColour\": fc.test.v1.Colour has no value \"PURPLE\""},
    {"{\"aColour\":\"RED\\u0000\"}", "has no value"},
    {"{\"aColour\":\"1\"}", "has no value \"1\""},
    {"{\"aColour\":1.5}", "expected an integer"},
    {"{\"aColour\":2147483648}", "expected an integer from"},
    {"{\"aColour\":[]}", "expected a string or a number, not an array"},
};

static void
test_refusals_name_the_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct bytes wire = {0};
        struct err_detail why = {0};
        if (to_wire(refusals[i].json, &wire, &why) != ERR_INVALID) {
            fail_msg("%s was taken", refusals[i].json);
        }
        if (strstr(why.message, refusals[i].expected) == NULL) {
            fail_msg("%s: \"%s\" does not say: %s", refusals[i].json, why.message, refusals[i].expected);
        }
        assert_int_equal(0, wire.size);
    }
}

static void
test_a_long_path_is_cut(void **state)
{
    (void)state;
    char json[1000] = "{\"labels\":{\"";
    memset(json + strlen(json), 'k', 900);
    strcat(json, "\":1}}");
    struct bytes wire = {0};
    struct err_detail why = {0};
    assert_int_equal(ERR_INVALID, to_wire(json, &wire, &why));
    assert_non_null(strstr(why.message, "kkkk\": expected a string"));
    // Deep, and then something beside it.
    assert_int_equal(ERR_INVALID,
        to_wire("{\"inner\":{\"inner\":{\"inner\":{\"inners\":[{}]}}},\"aString\":1}", &wire, &why));
    assert_non_null(strstr(why.message, "field \"aString\": "));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_the_encoding_is_that_of_protobuf),
        cmocka_unit_test(test_both_fields_of_older_files),
        cmocka_unit_test(test_defaults_are_given_when_asked_for),
        cmocka_unit_test(test_what_other_encoders_write_is_understood),
        cmocka_unit_test(test_hostile_encodings_are_refused),
        cmocka_unit_test(test_encodings_cut_anywhere_are_refused_or_smaller),
        cmocka_unit_test(test_depth_and_size_are_limited),
        cmocka_unit_test(test_refusals_name_the_field),
        cmocka_unit_test(test_a_long_path_is_cut),
    };
    return cmocka_run_group_tests(tests, start, end);
}
