// Streams on the server, above a transport that the test plays.
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "frame_support.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_server_priv.h"

enum {
    OPEN = RPC_FRAME_OPEN,
    MESSAGE = RPC_FRAME_MESSAGE,
    END = RPC_FRAME_END,
    PIECE_BYTES = 16 * 1024,
};

// What the handlers have seen.
static struct {
    atomic_size_t opened;
    atomic_size_t messages;
    atomic_size_t ended;
    atomic_size_t writable;
    atomic_size_t closed;
    atomic_size_t running; // handlers of one stream at a time
    atomic_bool has_overlapped;
    _Atomic(struct rpc_server_stream *) last;
} seen;

static void
enter(void)
{
    if (atomic_fetch_add(&seen.running, 1) != 0) {
        atomic_store(&seen.has_overlapped, true);
    }
}

static void
leave(void)
{
    atomic_fetch_sub(&seen.running, 1);
}

static void
on_open(struct rpc_server_stream *stream, ProtobufCService *service)
{
    (void)service;
    enter();
    atomic_store(&seen.last, stream);
    atomic_fetch_add(&seen.opened, 1);
    leave();
}

static void
on_closed(struct rpc_server_stream *stream)
{
    (void)stream;
    enter();
    atomic_fetch_add(&seen.closed, 1);
    leave();
}

static void
mirror(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    enter();
    atomic_fetch_add(&seen.messages, 1);
    assert_int_not_equal(ERR_BUSY, rpc_server_stream_send(stream, message));
    leave();
}

static void
finish(struct rpc_server_stream *stream)
{
    atomic_fetch_add(&seen.ended, 1);
    rpc_server_stream_finish(stream);
    rpc_server_stream_fail(stream, ERR_INTERNAL, "the second end is none");
}

static const struct rpc_stream_handlers mirror_handlers = {on_open, mirror, finish, NULL, on_closed};

// Stream: sends pieces for as long as there is credit, for ever.
static void
pour(struct rpc_server_stream *stream)
{
    static uint8_t piece[PIECE_BYTES];
    Fc__Test__V1__ConformanceData message = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    message.data.data = piece;
    message.data.len = sizeof(piece);
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        err = rpc_server_stream_send(stream, &message.base);
    }
    assert_true(err == ERR_BUSY || err == ERR_CLOSED);
}

static void
pour_first(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    (void)message;
    atomic_fetch_add(&seen.messages, 1);
    pour(stream);
}

static void
pour_on(struct rpc_server_stream *stream)
{
    atomic_fetch_add(&seen.writable, 1);
    pour(stream);
}

static const struct rpc_stream_handlers pour_handlers = {on_open, pour_first, NULL, pour_on, on_closed};

// Upload: counts.
static void
count_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    (void)stream;
    (void)message;
    atomic_fetch_add(&seen.messages, 1);
}

static const struct rpc_stream_handlers count_handlers = {on_open, count_message, finish, NULL, on_closed};

// Stall: takes nothing.
static void
pause_first(struct rpc_server_stream *stream, ProtobufCService *service)
{
    rpc_server_stream_pause(stream);
    on_open(stream, service);
}

static const struct rpc_stream_handlers stall_handlers = {pause_first, count_message, finish, NULL, on_closed};

static void
invoke(ProtobufCService *service, unsigned method, const ProtobufCMessage *input, ProtobufCClosure closure,
    void *closure_data)
{
    (void)service;
    (void)method;
    closure(input, closure_data); // only asked for Echo and Empty
}

static ProtobufCService service = {&fc__test__v1__conformance__descriptor, invoke, NULL};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC},
    {.method = "Empty", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sized", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sleep", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sleepers", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC},
    {.method = "CountOf", .access = RPC_ACCESS_PUBLIC},
    {.method = "Metadata", .access = RPC_ACCESS_PUBLIC},
    {.method = "TimeLeft", .access = RPC_ACCESS_PUBLIC},
    {.method = "WhoAmI", .access = RPC_ACCESS_PUBLIC},
    {.method = "Stream", .access = RPC_ACCESS_PUBLIC, .stream = &pour_handlers},
    {.method = "Upload", .access = RPC_ACCESS_PUBLIC, .stream = &count_handlers, .max_request_bytes = 1024 * 1024},
    {.method = "Mirror", .access = RPC_ACCESS_PUBLIC, .stream = &mirror_handlers},
    {.method = "Stall", .access = RPC_ACCESS_PUBLIC, .stream = &stall_handlers},
};

static struct rpc_server *
server_new(struct rpc_server_options options)
{
    struct rpc_server *server = NULL;
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service, rules, sizeof(rules) / sizeof(rules[0])));
    return server;
}

// server_free also sees that every stream that was opened was closed.
static void
server_free(struct rpc_server **server)
{
    rpc_server_free(server);
    assert_int_equal(atomic_load(&seen.opened), atomic_load(&seen.closed));
    assert_false(atomic_load(&seen.has_overlapped));
}

static void
send_data(struct wire *wire, uint32_t id, uint8_t flags, const char *text, size_t size)
{
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    char copy[64];
    uint8_t *bytes = calloc(1, size + 1);
    assert_non_null(bytes);
    strcpy(copy, text);
    data.text = copy;
    data.data.data = bytes;
    data.data.len = size;
    send_frame(wire, &(struct frame){.id = id, .flags = flags, .message = &data.base});
    free(bytes);
}

static void
send_credit(struct wire *wire, uint32_t id, uint32_t bytes)
{
    Fc__Rpc__V1__Credit credit = FC__RPC__V1__CREDIT__INIT;
    credit.bytes = bytes;
    send_frame(wire, &(struct frame){.id = id, .flags = RPC_FRAME_CREDIT, .header = &credit.base});
}

static void
test_messages_come_back_in_order(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN, .method = METHOD("Mirror")});
    for (int i = 0; i < 100; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        send_data(wire, 1, i == 99 ? MESSAGE | END : MESSAGE, text, 0);
    }
    wire_wait(wire, 101);
    for (int i = 0; i < 100; i++) {
        struct answer answer = answer_at(wire, (size_t)i);
        Fc__Test__V1__ConformanceData *data = data_of(answer.message);
        assert_int_equal(MESSAGE, answer.flags);
        assert_int_equal(1, answer.id);
        assert_int_equal(0, answer.header.size);
        assert_int_equal(i, atoi(data->text));
        fc__test__v1__conformance_data__free_unpacked(data, NULL);
    }
    assert_status(wire, 100, END, RPC_OK, NULL);
    wait_for(&seen.closed, 1);
    // What comes for a stream that has ended is nobody's.
    send_data(wire, 1, MESSAGE, "late", 0);
    send_credit(wire, 1, 100);
    send_frame(wire, &(struct frame){.id = 2, .method = METHOD("Echo")});
    wire_wait(wire, 102);
    assert_status(wire, 101, 0, RPC_OK, NULL);
    wire_free(wire);
    server_free(&server);
}

static void
test_a_stream_of_no_messages(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN | END, .method = METHOD("Mirror")});
    wire_wait(wire, 1);
    assert_status(wire, 0, END, RPC_OK, NULL);
    assert_int_equal(0, seen.messages);
    // An empty message is one.
    Fc__Test__V1__ConformanceData nothing = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    send_frame(wire,
        &(struct frame){.id = 2, .flags = OPEN | MESSAGE | END, .method = METHOD("Mirror"), .message = &nothing.base});
    wire_wait(wire, 3);
    assert_int_equal(MESSAGE, answer_at(wire, 1).flags);
    assert_int_equal(0, answer_at(wire, 1).message.size);
    assert_status(wire, 2, END, RPC_OK, NULL);
    wire_free(wire);
    server_free(&server);
}

static void
test_sends_no_more_than_it_has_credit_for(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    Fc__Test__V1__StreamRequest request = FC__TEST__V1__STREAM_REQUEST__INIT;
    send_frame(wire,
        &(struct frame){.id = 1, .flags = OPEN | MESSAGE | END, .method = METHOD("Stream"), .message = &request.base});
    size_t cost = answer_at(wire, (wire_wait(wire, 1), 0)).message.size + RPC_STREAM_MESSAGE_COST_BYTES;
    size_t first = (RPC_STREAM_CREDIT_BYTES + cost - 1) / cost;
    wire_wait(wire, first);
    send_credit(wire, 1, (uint32_t)cost); // pays what the last one owed, so at most two more go
    wait_for(&seen.writable, 1);
    // A call behind it is answered, so whatever was to come has come.
    send_frame(wire, &(struct frame){.id = 2, .method = METHOD("Echo")});
    struct timespec until = limit();
    size_t others = 0;
    for (size_t at = first; others == 0; at++) {
        struct timespec now;
        wire_wait(wire, at + 1);
        others += answer_at(wire, at).id == 2;
        assert_true(at - first <= 2);
        clock_gettime(CLOCK_REALTIME, &now);
        assert_true(now.tv_sec <= until.tv_sec);
    }
    // More credit than can be counted ends the stream.
    send_credit(wire, 1, UINT32_MAX);
    wait_for(&seen.closed, 1);
    wire_free(wire);
    server_free(&server);
}

static void
test_a_client_without_credit_is_refused(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN, .method = METHOD("Stall")});
    wait_for(&seen.opened, 1);
    for (size_t sent = 0; sent <= RPC_STREAM_CREDIT_BYTES; sent += PIECE_BYTES) {
        send_data(wire, 1, MESSAGE, "", PIECE_BYTES);
    }
    wire_wait(wire, 1);
    assert_status(wire, 0, END, RPC_INVALID_ARGUMENT, "credit");
    assert_int_equal(0, seen.messages);
    wait_for(&seen.closed, 1);
    wire_free(wire);
    server_free(&server);
}

static void
test_gives_credit_back_as_messages_are_taken(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    int64_t credit = RPC_STREAM_CREDIT_BYTES;
    size_t answers = 0;
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN, .method = METHOD("Upload")});
    for (size_t i = 0; i < 200; i++) {
        while (credit <= 0) {
            wire_wait(wire, answers + 1);
            struct answer answer = answer_at(wire, answers++);
            assert_int_equal(RPC_FRAME_CREDIT, answer.flags);
            Fc__Rpc__V1__Credit *given = fc__rpc__v1__credit__unpack(NULL, answer.header.size, answer.header.data);
            assert_non_null(given);
            credit += given->bytes;
            fc__rpc__v1__credit__free_unpacked(given, NULL);
        }
        send_data(wire, 1, i == 199 ? MESSAGE | END : MESSAGE, "", PIECE_BYTES);
        credit -= PIECE_BYTES + RPC_STREAM_MESSAGE_COST_BYTES + 4; // and the field's own bytes
    }
    wait_for(&seen.closed, 1);
    assert_int_equal(200, seen.messages);
    assert_int_equal(1, seen.ended);
    assert_int_equal(0, atomic_load(&server->received_bytes));
    wire_free(wire);
    server_free(&server);
}

static void
test_cancel_ends_a_stream_without_an_answer(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN, .method = METHOD("Stall")});
    send_data(wire, 1, MESSAGE, "", PIECE_BYTES);
    wait_for(&seen.opened, 1);
    send_frame(wire, &(struct frame){.id = 1, .flags = RPC_FRAME_CANCEL});
    wait_for(&seen.closed, 1);
    assert_int_equal(0, atomic_load(&server->call_count));
    assert_int_equal(0, atomic_load(&server->received_bytes));
    // Before it was opened: in one batch.
    assert_int_equal(ERR_OK, try_frame(wire, &(struct frame){.id = 2, .flags = OPEN, .method = METHOD("Stall")}));
    assert_int_equal(ERR_OK, try_frame(wire, &(struct frame){.id = 2, .flags = RPC_FRAME_CANCEL}));
    rpc_peer_batch_end(wire->peer);
    send_frame(wire, &(struct frame){.id = 3, .method = METHOD("Echo")});
    wire_wait(wire, 1);
    assert_int_equal(3, answer_at(wire, 0).id);
    wire_free(wire);
    server_free(&server);
}

static void
test_a_stream_ends_at_its_deadline(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN, .method = METHOD("Stall"), .timeout_ms = 20});
    wire_wait(wire, 1);
    assert_status(wire, 0, END, RPC_DEADLINE_EXCEEDED, NULL);
    wire_free(wire);
    server_free(&server);
}

static void
test_a_lost_connection_closes_its_streams(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    for (uint32_t i = 0; i < 50; i++) {
        send_frame(wire, &(struct frame){.id = 1 + i, .flags = OPEN, .method = METHOD("Stall")});
        send_data(wire, 1 + i, MESSAGE, "", 100);
    }
    wait_for(&seen.opened, 50);
    // One that is held by another thread, and one that never became part of a batch.
    struct rpc_server_stream *held = atomic_load(&seen.last);
    rpc_server_stream_hold(held);
    assert_int_equal(ERR_OK, try_frame(wire, &(struct frame){.id = 100, .flags = OPEN, .method = METHOD("Stall")}));
    wire_lose(wire);
    wait_for(&seen.closed, 50);
    Fc__Test__V1__UploadResponse response = FC__TEST__V1__UPLOAD_RESPONSE__INIT;
    assert_int_equal(ERR_CLOSED, rpc_server_stream_send(held, &response.base));
    rpc_server_stream_finish(held);
    rpc_server_stream_resume(held);
    rpc_server_stream_release(held);
    assert_int_equal(0, atomic_load(&server->call_count));
    wire_free(wire);
    server_free(&server);
}

static void
test_refusals(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.max_streams_per_connection = 2});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .flags = OPEN, .method = METHOD("Echo")});
    wire_wait(wire, 1);
    assert_status(wire, 0, END, RPC_UNIMPLEMENTED, "no stream");
    send_frame(wire, &(struct frame){.id = 2, .method = METHOD("Mirror")});
    wire_wait(wire, 2);
    assert_status(wire, 1, 0, RPC_UNIMPLEMENTED, "OPEN");
    send_frame(wire, &(struct frame){.id = 3, .flags = OPEN, .method = "fc.test.v1.Conformance/Fly"});
    wire_wait(wire, 3);
    assert_status(wire, 2, END, RPC_UNIMPLEMENTED, "Fly");
    // A message that is too large for the method, and one that is none.
    send_frame(wire, &(struct frame){.id = 4, .flags = OPEN, .method = METHOD("Mirror")});
    send_data(wire, 4, MESSAGE, "", RPC_UNARY_DEFAULT_MAX_BYTES);
    wire_wait(wire, 4);
    assert_status(wire, 3, END, RPC_RESOURCE_EXHAUSTED, "at most");
    // A third stream.
    send_frame(wire, &(struct frame){.id = 5, .flags = OPEN, .method = METHOD("Stall")});
    send_frame(wire, &(struct frame){.id = 6, .flags = OPEN, .method = METHOD("Stall")});
    send_frame(wire, &(struct frame){.id = 7, .flags = OPEN, .method = METHOD("Stall")});
    wire_wait(wire, 5);
    assert_status(wire, 4, 0, RPC_RESOURCE_EXHAUSTED, "streams");
    // Two under one request id.
    assert_int_equal(ERR_PROTOCOL, try_frame(wire, &(struct frame){.id = 6, .flags = OPEN, .method = METHOD("Stall")}));
    wire_free(wire);
    server_free(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_come_back_in_order),
        cmocka_unit_test(test_a_stream_of_no_messages),
        cmocka_unit_test(test_sends_no_more_than_it_has_credit_for),
        cmocka_unit_test(test_a_client_without_credit_is_refused),
        cmocka_unit_test(test_gives_credit_back_as_messages_are_taken),
        cmocka_unit_test(test_cancel_ends_a_stream_without_an_answer),
        cmocka_unit_test(test_a_stream_ends_at_its_deadline),
        cmocka_unit_test(test_a_lost_connection_closes_its_streams),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
