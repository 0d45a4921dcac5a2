// What surrounds calls on the server: Hello, Ping, going away, cancels, metadata, calls that execute once, and rates.
#include <stdatomic.h>
#include <stdio.h>

#include "frame_support.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_server_priv.h"

enum {
    CONTROL = RPC_FRAME_CONTROL,
    CANCEL = RPC_FRAME_CANCEL,
};

// The handlers and what they have seen. Sleep waits until it is cancelled; Count until the test answers.
static struct {
    atomic_size_t executed;
    atomic_size_t asleep;
    atomic_size_t given_up;
    atomic_size_t polled; // calls of Sized, which look until they are cancelled
    _Atomic(struct rpc_call *) waiting;
    Fc__Test__V1__ExecuteResponse_Closure waiting_reply;
} seen;

struct sleeper {
    struct rpc_call_watch watch; // first
};

static void
on_given_up(struct rpc_call_watch *watch)
{
    atomic_fetch_add(&seen.given_up, 1);
    rpc_call_fail(watch->call, ERR_CANCELLED, "given up");
    free(watch);
}

static void
answer_execution(struct rpc_call *call, ProtobufCClosure closure)
{
    Fc__Test__V1__ExecuteResponse response = FC__TEST__V1__EXECUTE_RESPONSE__INIT;
    response.executions = atomic_load(&seen.executed);
    closure(&response.base, call);
}

static void
invoke(ProtobufCService *service, unsigned method, const ProtobufCMessage *input, ProtobufCClosure closure,
    void *closure_data)
{
    const char *name = service->descriptor->methods[method].name;
    struct rpc_call *call = closure_data;
    if (strcmp(name, "Sleep") == 0) {
        struct sleeper *sleeper = calloc(1, sizeof(*sleeper));
        assert_non_null(sleeper);
        if (rpc_call_watch_start(&sleeper->watch, call, on_given_up) == ERR_OK) {
            atomic_fetch_add(&seen.asleep, 1);
        } else {
            on_given_up(&sleeper->watch);
        }
    } else if (strcmp(name, "Sized") == 0) {
        atomic_fetch_add(&seen.polled, 1);
        while (!rpc_call_is_cancelled(call)) {
            (void)sched_yield();
        }
        rpc_call_fail(call, ERR_CANCELLED, "given up");
    } else if (strcmp(name, "Count") == 0) {
        const Fc__Test__V1__ExecuteRequest *request = (const Fc__Test__V1__ExecuteRequest *)input;
        atomic_fetch_add(&seen.executed, 1);
        if (strcmp(request->label, "fail") == 0) {
            rpc_call_fail(call, ERR_PRECONDITION, "failed");
        } else if (strcmp(request->label, "busy") == 0) {
            rpc_call_fail(call, ERR_UNAVAILABLE, "busy");
        } else if (request->delay_ms > 0) {
            atomic_store(&seen.waiting, call);
        } else {
            answer_execution(call, closure);
        }
    } else {
        closure(input, call);
    }
}

static ProtobufCService service = {&fc__test__v1__conformance__descriptor, invoke, NULL};

static const struct rpc_stream_handlers no_stream = {.on_message = NULL};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC},
    {.method = "Empty", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sized", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sleep", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sleepers", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC, .executes_once = true},
    {.method = "CountOf", .access = RPC_ACCESS_PUBLIC, .executes_once = true},
    {.method = "Metadata", .access = RPC_ACCESS_PUBLIC},
    {.method = "TimeLeft", .access = RPC_ACCESS_PUBLIC},
    {.method = "WhoAmI", .access = RPC_ACCESS_PUBLIC},
    {.method = "Stream", .access = RPC_ACCESS_PUBLIC, .stream = &no_stream},
    {.method = "Upload", .access = RPC_ACCESS_PUBLIC, .stream = &no_stream},
    {.method = "Mirror", .access = RPC_ACCESS_PUBLIC, .stream = &no_stream},
    {.method = "Stall", .access = RPC_ACCESS_PUBLIC, .stream = &no_stream},
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

static void
send_control(struct wire *wire, Fc__Rpc__V1__Control__KindCase kind, void *body)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    control.kind_case = kind;
    control.hello = body; // one of a union of pointers
    send_frame(wire, &(struct frame){.flags = CONTROL, .header = &control.base});
}

static void
say_hello(struct wire *wire)
{
    Fc__Rpc__V1__Hello hello = FC__RPC__V1__HELLO__INIT;
    send_control(wire, FC__RPC__V1__CONTROL__KIND_HELLO, &hello);
}

static Fc__Rpc__V1__Control *
control_at(struct wire *wire, size_t index)
{
    struct answer answer = answer_at(wire, index);
    assert_int_equal(CONTROL, answer.flags);
    assert_int_equal(0, answer.id);
    Fc__Rpc__V1__Control *control = fc__rpc__v1__control__unpack(NULL, answer.header.size, answer.header.data);
    assert_non_null(control);
    return control;
}

static void
assert_control(struct wire *wire, size_t index, Fc__Rpc__V1__Control__KindCase kind)
{
    Fc__Rpc__V1__Control *control = control_at(wire, index);
    assert_int_equal(kind, control->kind_case);
    fc__rpc__v1__control__free_unpacked(control, NULL);
}

static void
test_hello_and_ping_are_answered(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    Fc__Rpc__V1__Ping ping = FC__RPC__V1__PING__INIT;
    ping.number = 4711;
    say_hello(wire);
    send_control(wire, FC__RPC__V1__CONTROL__KIND_PING, &ping);
    send_control(wire, FC__RPC__V1__CONTROL__KIND_PONG, &ping); // needs no answer
    send_control(wire, FC__RPC__V1__CONTROL__KIND__NOT_SET, NULL);
    send_frame(wire, &(struct frame){.id = 1, .method = METHOD("Echo")});
    wire_wait(wire, 3);
    Fc__Rpc__V1__Control *hello = control_at(wire, 0);
    assert_int_equal(FC__RPC__V1__CONTROL__KIND_HELLO, hello->kind_case);
    assert_int_equal(RPC_MESSAGE_MAX_BYTES, hello->hello->max_message_bytes);
    assert_true(hello->hello->load->cpu_permille <= 1000);
    fc__rpc__v1__control__free_unpacked(hello, NULL);
    Fc__Rpc__V1__Control *pong = control_at(wire, 1);
    assert_int_equal(FC__RPC__V1__CONTROL__KIND_PONG, pong->kind_case);
    assert_int_equal(4711, pong->pong->number);
    assert_non_null(pong->pong->load);
    fc__rpc__v1__control__free_unpacked(pong, NULL);
    assert_status(wire, 2, 0, RPC_OK, NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_a_silent_client_is_pinged_and_cut_off(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.keepalive_ms = 20});
    struct wire *old = wire_new(server); // takes no flags, so it cannot be asked
    struct wire *wire = wire_new(server);
    say_hello(wire);
    wire_wait(wire, 2);
    assert_control(wire, 1, FC__RPC__V1__CONTROL__KIND_PING);
    wire_wait_closed(wire);
    assert_int_equal(0, old->closes);
    assert_int_equal(0, old->sent_count);
    wire_free(wire);
    wire_free(old);
    rpc_server_free(&server);
}

static void *
drain(void *server)
{
    rpc_server_drain(server, 60000);
    return NULL;
}

static void
test_a_server_that_shuts_down_says_so(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *old = wire_new(server);
    struct wire *wire = wire_new(server);
    pthread_t thread;
    say_hello(wire);
    send_frame(wire, &(struct frame){.id = 1, .method = METHOD("Sleep"), .timeout_ms = 60000});
    wait_for(&seen.asleep, 1);
    assert_int_equal(0, pthread_create(&thread, NULL, drain, server));
    wire_wait(wire, 2);
    assert_control(wire, 1, FC__RPC__V1__CONTROL__KIND_GOING_AWAY);
    assert_int_equal(0, old->sent_count);
    // What comes now is refused in a way that tells that it was not executed.
    send_frame(wire, &(struct frame){.id = 2, .method = METHOD("Echo")});
    wire_wait(wire, 3);
    assert_status(wire, 2, 0, RPC_UNAVAILABLE, "shutting down");
    struct bytes_view header = answer_at(wire, 2).header;
    assert_non_null(memmem(header.data, header.size, RPC_REASON_NOT_EXECUTED, strlen(RPC_REASON_NOT_EXECUTED)));
    // One that says Hello only now learns it as well.
    say_hello(old);
    wire_wait(old, 2);
    assert_control(old, 1, FC__RPC__V1__CONTROL__KIND_GOING_AWAY);
    // The last call ends, and with it the patience.
    send_frame(wire, &(struct frame){.id = 1, .flags = CANCEL});
    wire_wait_closed(wire);
    wire_free(wire);
    wire_free(old);
    assert_int_equal(0, pthread_join(thread, NULL));
    rpc_server_free(&server);
}

static void
test_cancels(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.worker_threads = 1});
    struct wire *wire = wire_new(server);
    // A call that is watched.
    send_frame(wire, &(struct frame){.id = 1, .method = METHOD("Sleep"), .timeout_ms = 60000});
    wait_for(&seen.asleep, 1);
    send_frame(wire, &(struct frame){.id = 1, .flags = CANCEL});
    wait_for(&seen.given_up, 1);
    // One that looks by itself, and behind it one that waits for the only worker.
    send_frame(wire, &(struct frame){.id = 2, .method = METHOD("Sized"), .timeout_ms = 60000});
    wait_for(&seen.polled, 1);
    send_frame(wire, &(struct frame){.id = 3, .method = METHOD("Count")});
    send_frame(wire, &(struct frame){.id = 3, .flags = CANCEL});
    send_frame(wire, &(struct frame){.id = 2, .flags = CANCEL});
    // One that was never made, and one whose id is used again.
    send_frame(wire, &(struct frame){.id = 4, .flags = CANCEL});
    send_frame(wire, &(struct frame){.id = 4, .method = METHOD("Echo")});
    wire_wait(wire, 1);
    assert_int_equal(4, answer_at(wire, 0).id);
    assert_status(wire, 0, 0, RPC_OK, NULL);
    assert_int_equal(0, seen.executed);
    assert_int_equal(1, wire->sent_count);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_watched_calls_end_with_deadline_and_connection(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    send_frame(wire, &(struct frame){.id = 1, .method = METHOD("Sleep"), .timeout_ms = 20});
    wait_for(&seen.given_up, 1);
    wire_wait(wire, 1);
    assert_status(wire, 0, 0, RPC_DEADLINE_EXCEEDED, NULL);
    for (uint32_t i = 0; i < 20; i++) {
        send_frame(wire, &(struct frame){.id = 2 + i, .method = METHOD("Sleep"), .timeout_ms = 60000});
    }
    wait_for(&seen.asleep, 21);
    wire_lose(wire);
    wait_for(&seen.given_up, 21);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
send_count(struct wire *wire, uint32_t id, const char *request_id, const char *label, uint32_t delay_ms)
{
    Fc__Test__V1__ExecuteRequest request = FC__TEST__V1__EXECUTE_REQUEST__INIT;
    char copy[16];
    strcpy(copy, label);
    request.label = copy;
    request.delay_ms = delay_ms;
    send_frame(wire, &(struct frame){.id = id,
                         .method = METHOD("Count"),
                         .request_id = request_id,
                         .message = &request.base,
                         .timeout_ms = 60000});
}

static void
assert_executions(struct wire *wire, size_t index, uint64_t executions)
{
    struct bytes_view message = answer_at(wire, index).message;
    assert_status(wire, index, 0, RPC_OK, NULL);
    Fc__Test__V1__ExecuteResponse *response = fc__test__v1__execute_response__unpack(NULL, message.size, message.data);
    assert_non_null(response);
    assert_int_equal(executions, response->executions);
    fc__test__v1__execute_response__free_unpacked(response, NULL);
}

static void
test_a_resend_gets_the_first_answer(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct wire *other = wire_new(server); // the same request over another connection
    send_count(wire, 1, "0123456789abcdef", "", 0);
    wire_wait(wire, 1);
    send_count(other, 9, "0123456789abcdef", "", 0);
    wire_wait(other, 1);
    assert_executions(wire, 0, 1);
    assert_executions(other, 0, 1);
    assert_int_equal(9, answer_at(other, 0).id);
    // Another request id, and none at all.
    send_count(wire, 2, "0123456789abcdeg", "", 0);
    wire_wait(wire, 2);
    assert_executions(wire, 1, 2);
    send_count(wire, 3, NULL, "", 0);
    wire_wait(wire, 3);
    assert_executions(wire, 2, 3);
    // A failure that is final is an answer too; one that is not is tried again.
    for (uint32_t i = 0; i < 2; i++) {
        send_count(wire, 4, "a final failure!", "fail", 0);
        send_count(wire, 5, "a passing one...", "busy", 0);
    }
    wire_wait(wire, 7);
    assert_int_equal(3 + 1 + 2, seen.executed);
    // The request id of another method's call.
    send_frame(wire, &(struct frame){.id = 6, .method = METHOD("CountOf"), .request_id = "0123456789abcdef"});
    wire_wait(wire, 8);
    assert_status(wire, 7, 0, RPC_INVALID_ARGUMENT, "another method");
    wire_free(other);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_a_resend_waits_for_the_first_attempt(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *first = wire_new(server);
    struct wire *second = wire_new(server);
    struct timespec until = limit();
    send_count(first, 1, "0123456789abcdef", "", 1);
    while (atomic_load(&seen.waiting) == NULL) {
        (void)sched_yield();
        assert_false(is_over(&until));
    }
    for (uint32_t i = 0; i < 10; i++) {
        send_count(second, 2 + i, "0123456789abcdef", "", 1);
    }
    wire_lose(first); // its connection breaks meanwhile
    send_frame(second, &(struct frame){.id = 99, .method = METHOD("Echo")});
    wire_wait(second, 1);
    assert_int_equal(99, answer_at(second, 0).id);
    answer_execution(atomic_load(&seen.waiting), rpc_call_answer);
    wire_wait(second, 11);
    for (size_t i = 1; i <= 10; i++) {
        assert_executions(second, i, 1);
    }
    wire_free(first);
    wire_free(second);
    rpc_server_free(&server);
}

static void
test_calls_a_second_are_limited(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.calls_per_second = 1});
    struct wire *wire = wire_new(server);
    for (uint32_t i = 0; i < 3; i++) { // in a burst as many as in two seconds
        send_frame(wire, &(struct frame){.id = 1 + i, .method = METHOD("Echo")});
        wire_wait(wire, 1 + i);
    }
    assert_status(wire, 1, 0, RPC_OK, NULL);
    assert_status(wire, 2, 0, RPC_RESOURCE_EXHAUSTED, "wait");
    // Health is always answered.
    send_frame(wire, &(struct frame){.id = 9, .method = "fc.rpc.v1.Health/Check"});
    wire_wait(wire, 4);
    assert_status(wire, 3, 0, RPC_OK, NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_rates(void **state)
{
    (void)state;
    struct rpc_rate *rate = NULL;
    uint32_t retry_after_ms = 0;
    uint64_t now_us = 1000000;
    assert_int_equal(ERR_OK, rpc_rate_new(100, &rate));
    for (int i = 0; i < 100 * RPC_RATE_BURST_S; i++) {
        assert_true(rpc_rate_take(rate, bytes_view_of_text("a"), now_us, &retry_after_ms));
    }
    assert_false(rpc_rate_take(rate, bytes_view_of_text("a"), now_us, &retry_after_ms));
    assert_in_range(retry_after_ms, 10, 11);
    assert_true(rpc_rate_take(rate, bytes_view_of_text("b"), now_us, &retry_after_ms));
    now_us += 10 * 1000;
    assert_true(rpc_rate_take(rate, bytes_view_of_text("a"), now_us, &retry_after_ms));
    assert_false(rpc_rate_take(rate, bytes_view_of_text("a"), now_us, &retry_after_ms));
    // Very many callers do not lock each other out.
    for (uint32_t i = 0; i < 100000; i++) {
        assert_true(rpc_rate_take(rate, bytes_view_of(&i, sizeof(i)), now_us, &retry_after_ms));
    }
    rpc_rate_free(&rate);
    rpc_rate_free(&rate);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_and_ping_are_answered),
        cmocka_unit_test(test_a_silent_client_is_pinged_and_cut_off),
        cmocka_unit_test(test_a_server_that_shuts_down_says_so),
        cmocka_unit_test(test_cancels),
        cmocka_unit_test(test_watched_calls_end_with_deadline_and_connection),
        cmocka_unit_test(test_a_resend_gets_the_first_answer),
        cmocka_unit_test(test_a_resend_waits_for_the_first_attempt),
        cmocka_unit_test(test_calls_a_second_are_limited),
        cmocka_unit_test(test_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
