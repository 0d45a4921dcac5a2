// The frame around a call.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_frame.h"
#include "rpc/rpc_limits.h"

#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

static void
make_frame(struct bytes *out)
{
    Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    header.method = "fc.test.v1.Echo/Echo";
    request.text = "hello";
    assert_int_equal(ERR_OK, rpc_frame_append(out, 7, &header.base, &request.base, NULL));
}

static void
test_append_and_parse_agree(void **state)
{
    (void)state;
    struct bytes out = {0};
    struct rpc_frame frame;
    assert_int_equal(ERR_OK, bytes_append(&out, bytes_view_of_text("before")));
    make_frame(&out);
    assert_memory_equal("before", out.data, 6);
    assert_int_equal(ERR_OK, rpc_frame_parse(bytes_view_of(out.data + 6, out.size - 6), &frame));
    assert_int_equal(7, frame.flags);
    assert_int_equal(2 + strlen("fc.test.v1.Echo/Echo"), frame.header.size);
    assert_memory_equal("\x0a\x14"
                        "fc.test.v1.Echo/Echo",
        frame.header.data, frame.header.size);
    assert_int_equal(7, frame.message.size);
    assert_memory_equal("\x0a\x05hello", frame.message.data, 7);
    bytes_free(&out);
}

static void
test_frame_of_an_empty_header_and_no_message(void **state)
{
    (void)state;
    struct bytes out = {0};
    struct rpc_frame frame;
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    assert_int_equal(ERR_OK, rpc_frame_append(&out, 0, &header.base, NULL, NULL));
    assert_int_equal(RPC_FRAME_PREFIX_BYTES, out.size);
    assert_memory_equal("\x01\x00\x00\x00", out.data, 4);
    assert_int_equal(ERR_OK, rpc_frame_parse(bytes_as_view(&out), &frame));
    assert_int_equal(0, frame.header.size);
    assert_int_equal(0, frame.message.size);
    bytes_free(&out);
}

static void
test_parse_rejects_truncation_inside_prefix_and_header(void **state)
{
    (void)state;
    struct bytes out = {0};
    struct rpc_frame whole;
    make_frame(&out);
    assert_int_equal(ERR_OK, rpc_frame_parse(bytes_as_view(&out), &whole));
    size_t header_end = RPC_FRAME_PREFIX_BYTES + whole.header.size;
    for (size_t size = 0; size < header_end; size++) {
        struct rpc_frame frame;
        // A copy of exactly that size, so that reading past it is seen by the sanitizer.
        uint8_t *cut = malloc(size > 0 ? size : 1);
        assert_non_null(cut);
        memcpy(cut, out.data, size);
        assert_int_equal(ERR_PROTOCOL, rpc_frame_parse(bytes_view_of(cut, size), &frame));
        free(cut);
    }
    bytes_free(&out);
}

static void
test_parse_names_another_version_even_when_cut(void **state)
{
    (void)state;
    struct rpc_frame frame;
    const uint8_t other[] = {2, 0, 0xff, 0xff};
    assert_int_equal(ERR_VERSION, rpc_frame_parse(bytes_view_of(other, sizeof other), &frame));
    assert_int_equal(ERR_VERSION, rpc_frame_parse(bytes_view_of(other, 1), &frame));
    const uint8_t zero[] = {0, 0, 0, 0};
    assert_int_equal(ERR_VERSION, rpc_frame_parse(bytes_view_of(zero, sizeof zero), &frame));
}

static void
test_parse_bounds_the_header(void **state)
{
    (void)state;
    struct rpc_frame frame;
    size_t size = RPC_FRAME_PREFIX_BYTES + RPC_HEADER_MAX_BYTES + 1;
    uint8_t *data = calloc(1, size);
    assert_non_null(data);
    data[0] = RPC_FRAME_VERSION;
    bytes_store_be16(data + 2, RPC_HEADER_MAX_BYTES);
    assert_int_equal(ERR_OK, rpc_frame_parse(bytes_view_of(data, size), &frame));
    assert_int_equal(1, frame.message.size);
    bytes_store_be16(data + 2, RPC_HEADER_MAX_BYTES + 1);
    assert_int_equal(ERR_TOO_BIG, rpc_frame_parse(bytes_view_of(data, size), &frame));
    free(data);
}

static void
test_append_refuses_what_parse_would(void **state)
{
    (void)state;
    struct bytes out = {0};
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    char *message = malloc(RPC_HEADER_MAX_BYTES + 1);
    assert_non_null(message);
    memset(message, 'x', RPC_HEADER_MAX_BYTES);
    message[RPC_HEADER_MAX_BYTES] = '\0';
    header.message = message; // with its tag and length it is over the limit
    assert_int_equal(ERR_OK, bytes_append(&out, bytes_view_of_text("kept")));
    assert_int_equal(ERR_TOO_BIG, rpc_frame_append(&out, 0, &header.base, NULL, NULL));
    assert_int_equal(4, out.size);
    message[RPC_HEADER_MAX_BYTES - 4] = '\0';
    assert_int_equal(ERR_OK, rpc_frame_append(&out, 0, &header.base, NULL, NULL));
    free(message);
    bytes_free(&out);
}

static void
test_append_refuses_a_message_over_the_limit(void **state)
{
    (void)state;
    struct bytes out = {0};
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    size_t overhead = 1 + 4; // tag and length of `data`
    response.data.len = RPC_MESSAGE_MAX_BYTES - RPC_FRAME_PREFIX_BYTES - overhead + 1;
    response.data.data = calloc(1, response.data.len);
    assert_non_null(response.data.data);
    assert_int_equal(ERR_TOO_BIG, rpc_frame_append(&out, 0, &header.base, &response.base, NULL));
    assert_int_equal(0, out.size);
    response.data.len--;
    assert_int_equal(ERR_OK, rpc_frame_append(&out, 0, &header.base, &response.base, NULL));
    assert_int_equal(RPC_MESSAGE_MAX_BYTES, out.size);
    free(response.data.data);
    bytes_free(&out);
}

// Appends with and without leaving bulk out: the bytes on the wire must not differ. Returns what was left out.
static size_t
compare_bulk(const ProtobufCMessage *message)
{
    struct bytes whole = {0};
    struct bytes out = {0};
    struct bytes_view bulk = bytes_view_of("not set", 7);
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    assert_int_equal(ERR_OK, rpc_frame_append(&whole, 3, &header.base, message, NULL));
    assert_int_equal(ERR_OK, rpc_frame_append(&out, 3, &header.base, message, &bulk));
    assert_int_equal(whole.size, out.size + bulk.size);
    assert_int_equal(ERR_OK, bytes_append(&out, bulk));
    assert_memory_equal(whole.data, out.data, whole.size);
    bytes_free(&whole);
    bytes_free(&out);
    return bulk.size;
}

static void
test_bulk_is_left_where_it_is(void **state)
{
    (void)state;
    static uint8_t data[RPC_FRAME_BULK_BYTES + 1];
    memset(data, 'd', sizeof data);
    Fc__Test__V1__EchoRequest child = FC__TEST__V1__ECHO_REQUEST__INIT;
    Fc__Test__V1__EchoRequest *children[] = {&child};
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    child.data.data = data;
    child.data.len = sizeof data;
    request.text = "beside it";
    request.children = children;
    request.n_children = 1;
    assert_int_equal(0, compare_bulk(&request.base)); // the child's is not at the end by its place alone

    request.data.data = data;
    for (size_t less = 0; less < 2; less++) {
        request.data.len = RPC_FRAME_BULK_BYTES + 1 - less;
        assert_int_equal(request.data.len, compare_bulk(&request.base));
    }
    request.data.len = RPC_FRAME_BULK_BYTES - 1;
    assert_int_equal(0, compare_bulk(&request.base));

    // Fields that the message was received with and that are not known here are packed last.
    ProtobufCMessageUnknownField unknown = {.tag = 99,
        .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT,
        .len = 1,
        .data = (uint8_t[]){7}};
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.data.data = data;
    response.data.len = sizeof data;
    assert_int_equal(sizeof data, compare_bulk(&response.base));
    response.base.n_unknown_fields = 1;
    response.base.unknown_fields = &unknown;
    assert_int_equal(0, compare_bulk(&response.base));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_parse_agree),
        cmocka_unit_test(test_frame_of_an_empty_header_and_no_message),
        cmocka_unit_test(test_parse_rejects_truncation_inside_prefix_and_header),
        cmocka_unit_test(test_parse_names_another_version_even_when_cut),
        cmocka_unit_test(test_parse_bounds_the_header),
        cmocka_unit_test(test_append_refuses_what_parse_would),
        cmocka_unit_test(test_append_refuses_a_message_over_the_limit),
        cmocka_unit_test(test_bulk_is_left_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
