// Streams of a client whose server misbehaves. What they do with a good one is a matter of the conformance tests.
#include "echo_server.h"
#include "rpc/rpc_client_stream.h"

#include "fc/test/v1/conformance.pb-c.h"

static const char method[] = "fc.test.v1.Conformance/Mirror";

static void
begin(struct rpc_client_stream *stream, struct rpc_channel *channel)
{
    rpc_client_stream_init(stream, channel, &fc__test__v1__conformance_data__descriptor);
    stream->call.timeout_ms = wire_limit_ms(20000);
}

static void
write_data(struct server *server, uint32_t id, size_t size)
{
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    data.data.data = calloc(1, size + 1);
    data.data.len = size;
    assert_non_null(data.data.data);
    write_frame(server, id, RPC_FRAME_MESSAGE, NULL, &data.base);
    free(data.data.data);
}

static void
overrun(struct server *server, uint32_t id, const struct rpc_frame *frame)
{
    if ((frame->flags & RPC_FRAME_OPEN) != 0) {
        for (size_t sent = 0; sent <= RPC_STREAM_CREDIT_BYTES + 10000; sent += 10000) {
            write_data(server, id, 10000);
        }
    }
}

static void
endless_credit(struct server *server, uint32_t id, const struct rpc_frame *frame)
{
    Fc__Rpc__V1__Credit credit = FC__RPC__V1__CREDIT__INIT;
    credit.bytes = UINT32_MAX;
    if ((frame->flags & RPC_FRAME_OPEN) != 0) {
        write_frame(server, id, RPC_FRAME_CREDIT, &credit.base, NULL);
    }
}

static void
unreadable_credit(struct server *server, uint32_t id, const struct rpc_frame *frame)
{
    Fc__Test__V1__ConformanceNothing nothing = FC__TEST__V1__CONFORMANCE_NOTHING__INIT;
    ProtobufCMessageUnknownField field = {.tag = 1, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = 1};
    uint8_t zero = 0;
    field.data = &zero;
    nothing.base.n_unknown_fields = 1;
    nothing.base.unknown_fields = &field;
    if ((frame->flags & RPC_FRAME_OPEN) != 0) {
        write_frame(server, id, RPC_FRAME_CREDIT, &nothing.base, NULL);
    }
}

static void
cancel_from_server(struct server *server, uint32_t id, const struct rpc_frame *frame)
{
    if ((frame->flags & RPC_FRAME_OPEN) != 0) {
        write_frame(server, id, RPC_FRAME_CANCEL, NULL, NULL);
    }
}

static void
one_reply(struct server *server, uint32_t id, const struct rpc_frame *frame)
{
    if ((frame->flags & RPC_FRAME_OPEN) != 0) {
        write_frame(server, id, 0, NULL, NULL);
    }
}

static void
test_what_a_server_must_not_do(void **state)
{
    (void)state;
    static const struct {
        void (*on_stream)(struct server *server, uint32_t id, const struct rpc_frame *frame);
        const char *word;
        bool is_cancelled;
    } cases[] = {
        {overrun, "credit", true},
        {endless_credit, "credit", true},
        {unreadable_credit, "credit", true},
        {cancel_from_server, "belong", true},
        {one_reply, "one reply", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server server;
        struct rpc_unary call;
        struct rpc_client_stream stream;
        server_start(&server, false, ECHO);
        server.takes_flags = true;
        server.on_stream = cases[i].on_stream;
        struct rpc_channel *channel = channel_to(server.url);
        assert_int_equal(echo(channel, "hello", &call), ERR_OK);
        begin(&stream, channel);
        rpc_client_stream_open(&stream, method);
        assert_int_equal(rpc_client_stream_finish(&stream), ERR_INTERNAL);
        assert_non_null(strstr(stream.call.status.detail.message, cases[i].word));
        if (cases[i].is_cancelled) {
            server_wait_for_count(&server.cancels, 1);
        }
        rpc_client_stream_deinit(&stream);
        assert_int_equal(echo(channel, "hello", &call), ERR_OK); // the connection goes on
        assert_int_equal(server.connections, 1);
        rpc_channel_free(&channel);
        server_stop(&server);
    }
}

static void
send_garbage(struct server *server, uint32_t id, const struct rpc_frame *frame)
{
    if ((frame->flags & RPC_FRAME_OPEN) != 0) {
        Fc__Test__V1__UploadResponse other = FC__TEST__V1__UPLOAD_RESPONSE__INIT;
        other.bytes = 7; // a varint, where the client's type has a string
        write_data(server, id, 1);
        write_frame(server, id, RPC_FRAME_MESSAGE, NULL, &other.base);
    }
}

static void
test_a_message_that_cannot_be_read(void **state)
{
    (void)state;
    struct server server;
    struct rpc_client_stream stream;
    const void *message = NULL;
    server_start(&server, false, ECHO);
    server.takes_flags = true;
    server.on_stream = send_garbage;
    struct rpc_channel *channel = channel_to(server.url);
    begin(&stream, channel);
    rpc_client_stream_open(&stream, method);
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_OK);
    assert_non_null(message);
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_PROTOCOL);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_CANCELLED);
    rpc_client_stream_deinit(&stream);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_server_that_knows_no_streams(void **state)
{
    (void)state;
    struct server server;
    struct rpc_client_stream stream;
    const void *message = &server;
    server_start(&server, false, ECHO); // of the days before flags
    struct rpc_channel *channel = channel_to(server.url);
    begin(&stream, channel);
    rpc_client_stream_open(&stream, method);
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_OK);
    assert_null(message);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_UNIMPLEMENTED);
    rpc_client_stream_deinit(&stream);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_lost_connection_ends_a_stream(void **state)
{
    (void)state;
    struct server server;
    struct rpc_client_stream stream;
    const void *message = NULL;
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    server_start(&server, false, ECHO);
    server.takes_flags = true;
    server.on_stream = send_garbage; // a good message first
    struct rpc_channel *channel = channel_to(server.url);
    begin(&stream, channel);
    rpc_client_stream_open(&stream, method);
    assert_int_equal(rpc_client_stream_send(&stream, &data.base), ERR_OK);
    server_wait_for_count(&server.stream_frames, 2);
    (void)shutdown(atomic_load(&server.connection), SHUT_RDWR);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_UNAVAILABLE);
    assert_int_equal(rpc_client_stream_send(&stream, &data.base), ERR_CLOSED);
    // What came before is still there.
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_OK);
    assert_non_null(message);
    rpc_client_stream_deinit(&stream);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_stream_waits_for_its_server(void **state)
{
    (void)state;
    struct server server;
    struct rpc_client_stream stream;
    const void *message = NULL;
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    server_bind(&server, false, ECHO);
    server.takes_flags = true;
    server.on_stream = send_garbage;
    struct rpc_channel *channel = channel_to(server.url);
    // One that does not wait fails at once.
    begin(&stream, channel);
    rpc_client_stream_open(&stream, method);
    assert_int_equal(rpc_client_stream_send(&stream, &data.base), ERR_CLOSED);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_UNAVAILABLE);
    rpc_client_stream_deinit(&stream);
    begin(&stream, channel);
    stream.call.is_waiting_for_ready = true;
    rpc_client_stream_open(&stream, method);
    assert_int_equal(rpc_client_stream_try_send(&stream, &data.base), ERR_BUSY);
    server_run(&server);
    assert_int_equal(rpc_client_stream_send(&stream, &data.base), ERR_OK);
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_OK);
    assert_non_null(message);
    rpc_client_stream_cancel(&stream);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_CANCELLED);
    rpc_client_stream_deinit(&stream);
    rpc_channel_free(&channel);
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_server_must_not_do),
        cmocka_unit_test(test_a_message_that_cannot_be_read),
        cmocka_unit_test(test_a_server_that_knows_no_streams),
        cmocka_unit_test(test_a_lost_connection_ends_a_stream),
        cmocka_unit_test(test_a_stream_waits_for_its_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
