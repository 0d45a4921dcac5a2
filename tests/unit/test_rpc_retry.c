#include "echo_server.h"
#include "rpc/rpc_retry.h"

static void
test_what_is_sent_again(void **state)
{
    (void)state;
    static const struct {
        enum rpc_code code;
        uint32_t retry_after_ms;
        uint32_t attempts;
        bool is_idempotent;
        bool is_wanted;
    } cases[] = {
        {RPC_UNAVAILABLE, 0, 1, true, true},
        {RPC_UNAVAILABLE, 0, 3, true, true},
        {RPC_UNAVAILABLE, 0, 4, true, false},
        {RPC_UNAVAILABLE, 0, 0, true, false},
        {RPC_UNAVAILABLE, 0, 1, false, false},
        {RPC_UNAVAILABLE, 100, 1, false, false},
        {RPC_RESOURCE_EXHAUSTED, 1, 1, true, true},
        {RPC_RESOURCE_EXHAUSTED, 0, 1, true, false},
        {RPC_RESOURCE_EXHAUSTED, 1, 1, false, false},
        {RPC_OK, 0, 1, true, false},
        {RPC_CANCELLED, 0, 1, true, false},
        {RPC_DEADLINE_EXCEEDED, 1, 1, true, false},
        {RPC_INTERNAL, 1, 1, true, false},
        {RPC_ABORTED, 1, 1, true, false},
    };
    uint8_t kept[] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rpc_unary call = {.is_idempotent = cases[i].is_idempotent};
        call.status.code = cases[i].code;
        call.status.retry_after_ms = cases[i].retry_after_ms;
        call.status.attempts = cases[i].attempts;
        assert_false(rpc_retry_is_wanted(&call)); // its frame is gone
        call.locked.frame = (struct bytes){.data = kept, .size = sizeof kept};
        assert_int_equal(rpc_retry_is_wanted(&call), cases[i].is_wanted);
        call.status.is_untrusted = true;
        assert_false(rpc_retry_is_wanted(&call));
    }
}

static void
test_the_budget(void **state)
{
    (void)state;
    struct rpc_retry_budget budget = {0};
    rpc_retry_budget_add(&budget); // full is full
    for (int i = 0; i < 10; i++) {
        assert_true(rpc_retry_budget_take(&budget));
    }
    assert_false(rpc_retry_budget_take(&budget));
    for (int i = 0; i < 9; i++) {
        rpc_retry_budget_add(&budget);
    }
    assert_false(rpc_retry_budget_take(&budget));
    rpc_retry_budget_add(&budget);
    assert_true(rpc_retry_budget_take(&budget));
    assert_false(rpc_retry_budget_take(&budget));
}

static void
start_idempotent_echo(struct rpc_unary *call, struct rpc_channel *channel)
{
    init_echo(call, channel);
    call->is_idempotent = true;
    start_echo(call, "again and again");
}

static enum err
idempotent_echo(struct rpc_channel *channel, struct rpc_unary *call)
{
    start_idempotent_echo(call, channel);
    enum err err = rpc_unary_wait(call);
    const Fc__Test__V1__EchoResponse *response = rpc_unary_response(call);
    if (err == ERR_OK) {
        assert_string_equal(response->text, "again and again");
    }
    rpc_unary_deinit(call);
    return err;
}

static void
test_a_passing_failure_passes(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, FAILS);
    server.failure_code = RPC_UNAVAILABLE;
    server.retry_after_ms = 0;
    server.failures_left = 2;
    struct rpc_channel *channel = channel_to(server.url);
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(idempotent_echo(channel, &call), ERR_OK);
    assert_true(clock_monotonic_ms() - start_ms >= 80 + 128 - 2); // two pauses
    assert_int_equal(call.status.attempts, 3);
    assert_int_equal(call.status.code, RPC_OK);
    assert_string_equal(call.status.detail.message, "");
    assert_string_equal(call.status.reason, "");
    assert_int_equal(server.calls, 3);
    assert_memory_equal(server.last_request_id, call.request_id, sizeof call.request_id);
    assert_true(server.last_timeout_ms < call.timeout_ms);

    server.failures_left = 1;
    assert_int_equal(echo(channel, "once", &call), ERR_UNAVAILABLE); // not idempotent
    assert_int_equal(call.status.attempts, 1);
    assert_int_equal(server.calls, 4);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_server_that_always_fails_is_spared(void **state)
{
    (void)state;
    enum {
        CALLS = 200,
    };
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, FAILS);
    server.failure_code = RPC_UNAVAILABLE;
    server.retry_after_ms = 0;
    struct rpc_channel *channel = channel_to(server.url);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(idempotent_echo(channel, &call), ERR_UNAVAILABLE);
        assert_string_equal(call.status.detail.message, "there are too many echoes");
        assert_int_equal(call.status.attempts, i < 3 ? 4 : i == 3 ? 2 : 1);
    }
    assert_true(server.calls > CALLS);
    assert_true(server.calls < CALLS * 12 / 10);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_the_server_says_when(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, FAILS);
    server.retry_after_ms = 400;
    server.failures_left = 1;
    struct rpc_channel *channel = channel_to(server.url);
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(idempotent_echo(channel, &call), ERR_OK);
    assert_true(clock_monotonic_ms() - start_ms >= 400);
    assert_int_equal(call.status.attempts, 2);

    // Without a time there is no retry, and none when it is past the deadline: then the status tells the caller.
    server.retry_after_ms = 0;
    server.failures_left = 1;
    assert_int_equal(idempotent_echo(channel, &call), ERR_LIMIT);
    assert_int_equal(call.status.attempts, 1);
    server.retry_after_ms = wire_limit_ms(10000) + 1;
    server.failures_left = 1;
    start_ms = clock_monotonic_ms();
    assert_int_equal(idempotent_echo(channel, &call), ERR_LIMIT);
    assert_int_equal(call.status.retry_after_ms, wire_limit_ms(10000) + 1);
    assert_int_equal(server.calls, 4);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_connection_that_breaks(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, CLOSES);
    server.close_after = 1;
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(idempotent_echo(channel, &call), ERR_OK);
    assert_int_equal(call.status.attempts, 2);
    assert_int_equal(server.connections, 2);
    assert_int_equal(server.calls, 2);
    assert_memory_equal(server.last_request_id, call.request_id, sizeof call.request_id);
    rpc_channel_free(&channel);
    server_stop(&server);

    // Any other call is executed at most once.
    server_start(&server, false, CLOSES);
    server.close_after = 1;
    channel = channel_to(server.url);
    assert_int_equal(echo(channel, "once", &call), ERR_UNAVAILABLE);
    assert_int_equal(call.status.attempts, 1);
    assert_non_null(strstr(call.status.detail.message, "may have been executed"));
    rpc_channel_free(&channel);
    server_stop(&server);
    assert_int_equal(server.calls, 1);
}

// The server takes the call, dies, and needs some time to start again.
static void
test_a_server_that_restarts(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, CLOSES);
    server.close_after = 1;
    struct rpc_channel *channel = channel_to(server.url);
    start_idempotent_echo(&call, channel);
    server_wait_for_count(&server.calls, 1);
    server.behaviour = HANGS_UP;
    server_wait_for_count(&server.connections, 4);
    server.behaviour = ECHO;
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    assert_int_equal(call.status.attempts, 2);
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_server_that_does_not_return(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, CLOSES);
    server.close_after = 1;
    struct rpc_channel *channel = channel_to(server.url);
    init_echo(&call, channel);
    call.timeout_ms = 400;
    call.is_idempotent = true;
    start_echo(&call, "hello");
    server_wait_for_count(&server.calls, 1);
    server.behaviour = HANGS_UP;
    assert_int_equal(rpc_unary_wait(&call), ERR_TIMEOUT);
    assert_int_equal(call.status.attempts, 1);
    assert_true(call.was_sent);
    assert_non_null(strstr(call.status.detail.message, "may have been executed"));
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_server_never_reached_is_told_at_once(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_bind(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(idempotent_echo(channel, &call), ERR_UNAVAILABLE);
    assert_int_equal(call.status.attempts, 0);
    assert_false(call.was_sent);
    rpc_channel_free(&channel);
    (void)close(server.listener);
}

struct ends {
    atomic_size_t count;
};

static void
on_end(struct rpc_unary *call)
{
    struct ends *ends = call->context;
    assert_true(call->status.code == RPC_CANCELLED || call->status.code == RPC_UNAVAILABLE);
    rpc_unary_deinit(call);
    atomic_fetch_add(&ends->count, 1);
}

static void
test_cancel_and_free_between_attempts(void **state)
{
    (void)state;
    enum {
        CALLS = 100,
    };
    struct server server;
    struct rpc_unary *calls = calloc(CALLS, sizeof *calls);
    struct ends ends = {0};
    server_start(&server, false, FAILS);
    server.failure_code = RPC_UNAVAILABLE;
    server.retry_after_ms = wire_limit_ms(5000);
    struct rpc_channel *channel = channel_to(server.url);
    for (int i = 0; i < CALLS; i++) {
        init_echo(&calls[i], channel);
        calls[i].is_idempotent = true;
        calls[i].on_done = on_end;
        calls[i].context = &ends;
        start_echo(&calls[i], "hello");
    }
    // The budget is for ten; the others end. Cancels meet the ten in their pauses, or just before.
    server_wait_for_count(&ends.count, CALLS - 10);
    for (int i = 0; i < CALLS / 2; i++) {
        rpc_unary_cancel(&calls[i]);
    }
    rpc_channel_free(&channel);
    assert_int_equal(ends.count, CALLS);
    assert_int_equal(server.calls, CALLS);
    server_stop(&server);
    free(calls);
}

// A call that is cancelled while its failure is on its way does not come back to life. The cancels come at all moments
// around the answer; a channel whose budget is spent would not show anything.
static void
test_cancel_races_with_retries(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, false, FAILS);
    server.failure_code = RPC_UNAVAILABLE;
    server.retry_after_ms = 1;
    for (size_t round = 0; round < 100; round++) {
        struct rpc_channel *channel = channel_to(server.url);
        struct rpc_unary calls[8];
        uint64_t cancelled_ms[8]; // after its start
        for (size_t i = 0; i < 8; i++) {
            size_t before = server.calls;
            uint64_t start_ms = clock_monotonic_ms();
            start_idempotent_echo(&calls[i], channel);
            while (server.calls == before) { // not wire_wait_until, which would always come too late
            }
            uint64_t cancel_us = clock_monotonic_us() + (round * 8 + i) % 200;
            while (clock_monotonic_us() < cancel_us) {
            }
            rpc_unary_cancel(&calls[i]);
            cancelled_ms[i] = clock_monotonic_ms() - start_ms;
        }
        for (size_t i = 0; i < 8; i++) {
            enum err err = rpc_unary_wait(&calls[i]);
            assert_true(err == ERR_CANCELLED || err == ERR_UNAVAILABLE);
            // On a machine that is very busy the cancel may come after the pause.
            assert_true(calls[i].status.attempts == 1 || cancelled_ms[i] >= 79);
            rpc_unary_deinit(&calls[i]);
        }
        rpc_channel_free(&channel);
    }
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_sent_again),
        cmocka_unit_test(test_the_budget),
        cmocka_unit_test(test_a_passing_failure_passes),
        cmocka_unit_test(test_a_server_that_always_fails_is_spared),
        cmocka_unit_test(test_the_server_says_when),
        cmocka_unit_test(test_a_connection_that_breaks),
        cmocka_unit_test(test_a_server_that_restarts),
        cmocka_unit_test(test_a_server_that_does_not_return),
        cmocka_unit_test(test_a_server_never_reached_is_told_at_once),
        cmocka_unit_test(test_cancel_and_free_between_attempts),
        cmocka_unit_test(test_cancel_races_with_retries),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sp_pipe_drain_reaper();
    return failures;
}
