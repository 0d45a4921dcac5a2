#include "echo_server.h"

static void
start_waiting_echo(struct rpc_unary *call, struct rpc_channel *channel)
{
    init_echo(call, channel);
    call->is_waiting_for_ready = true;
    start_echo(call, "patience");
}

static void
test_calls_in_a_pause_fail_at_once(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_bind(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_null(strstr(call.status.detail.message, "next attempt"));
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    if (clock_monotonic_ms() - start_ms < 50) { // the pause was not over
        assert_non_null(strstr(call.status.detail.message, "connection refused"));
        assert_non_null(strstr(call.status.detail.message, server.url));
        assert_non_null(strstr(call.status.detail.message, "; the next attempt is in "));
    }
    assert_false(call.was_sent);
    rpc_channel_free(&channel);
    (void)close(server.listener);
}

static void
test_attempts_follow_the_schedule(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, HANGS_UP);
    struct rpc_channel *channel = channel_to(server.url);
    uint64_t start_ms = clock_monotonic_ms();
    // Calls without a break: attempts are made as the schedule allows, whatever it takes.
    while (atomic_load(&server.connections) < 5) {
        assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
        assert_false(call.was_sent);
        assert_true(clock_monotonic_ms() - start_ms < wire_limit_ms(10000));
    }
    // Four pauses: 100, 160, 256 and 409 ms, less a fifth.
    assert_true(clock_monotonic_ms() - start_ms >= 740 - 5);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_waiting_calls_get_their_connection(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary calls[3];
    struct rpc_unary call;
    server_bind(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE); // so the channel pauses
    for (int i = 0; i < 3; i++) {
        start_waiting_echo(&calls[i], channel);
    }
    server_run(&server);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_OK);
        rpc_unary_deinit(&calls[i]);
    }
    assert_int_equal(server.connections, 1);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    rpc_channel_free(&channel);
    server_stop(&server);
}

// The connection is made again without a call that asks for it, and the server is told what is left of the time.
static void
test_a_waiting_call_outlives_many_attempts(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, HANGS_UP);
    struct rpc_channel *channel = channel_to(server.url);
    start_waiting_echo(&call, channel);
    server_wait_for_count(&server.connections, 4);
    server.behaviour = ECHO;
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    assert_true(call.was_sent);
    assert_int_equal(server.calls, 1);
    assert_true(server.last_timeout_ms <= call.timeout_ms - 400);
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_the_deadline_rules_a_waiting_call(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_bind(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    uint64_t start_ms = clock_monotonic_ms();
    init_echo(&call, channel);
    call.is_waiting_for_ready = true;
    call.timeout_ms = 150;
    start_echo(&call, "hello");
    assert_int_equal(rpc_unary_wait(&call), ERR_TIMEOUT);
    assert_true(clock_monotonic_ms() - start_ms >= 150);
    assert_false(call.was_sent);
    assert_non_null(strstr(call.status.detail.message, "within 150 ms: cannot connect to "));
    assert_non_null(strstr(call.status.detail.message, "connection refused"));
    rpc_channel_free(&channel);
    (void)close(server.listener);
}

// A server that does not shake hands holds the call in another way than one that refuses.
static void
test_the_deadline_rules_while_connecting(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, NO_HANDSHAKE);
    struct rpc_channel *channel = channel_to(server.url);
    init_echo(&call, channel);
    call.timeout_ms = 30;
    start_echo(&call, "hello");
    assert_int_equal(rpc_unary_wait(&call), ERR_TIMEOUT);
    assert_false(call.was_sent);
    assert_non_null(strstr(call.status.detail.message, "no connection to "));
    rpc_channel_free(&channel); // while it connects
    server_stop(&server);
}

static void
test_cancel_and_free_while_pausing(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary calls[4];
    server_start(&server, false, HANGS_UP);
    struct rpc_channel *channel = channel_to(server.url);
    for (int i = 0; i < 4; i++) {
        start_waiting_echo(&calls[i], channel);
    }
    server_wait_for_count(&server.connections, 2);
    rpc_unary_cancel(&calls[0]);
    assert_int_equal(rpc_unary_wait(&calls[0]), ERR_CANCELLED);
    rpc_channel_free(&channel);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(calls[i].status.code, RPC_CANCELLED);
        assert_false(calls[i].was_sent);
    }
    server_stop(&server);
}

static void
test_pauses_begin_anew_after_a_connection(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, HANGS_UP);
    struct rpc_channel *channel = channel_to(server.url);
    start_waiting_echo(&call, channel);
    server_wait_for_count(&server.connections, 4);
    server.close_after = 1; // takes the call and closes
    server.behaviour = CLOSES;
    assert_int_equal(rpc_unary_wait(&call), ERR_UNAVAILABLE);
    assert_true(call.was_sent);
    rpc_unary_deinit(&call);
    // After a connection that worked: at once, and the pause after a failure is a first one.
    server.behaviour = HANGS_UP;
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    uint64_t failed_ms = clock_monotonic_ms();
    server.behaviour = ECHO;
    enum err err = echo(channel, "hello", &call);
    if (clock_monotonic_ms() - failed_ms < 50) {
        const char *told = strstr(call.status.detail.message, "; the next attempt is in ");
        assert_int_equal(err, ERR_UNAVAILABLE);
        assert_non_null(told);
        assert_true(strtoul(told + strlen("; the next attempt is in "), NULL, 10) <= 120);
    }
    start_waiting_echo(&call, channel);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_in_a_pause_fail_at_once),
        cmocka_unit_test(test_attempts_follow_the_schedule),
        cmocka_unit_test(test_waiting_calls_get_their_connection),
        cmocka_unit_test(test_a_waiting_call_outlives_many_attempts),
        cmocka_unit_test(test_the_deadline_rules_a_waiting_call),
        cmocka_unit_test(test_the_deadline_rules_while_connecting),
        cmocka_unit_test(test_cancel_and_free_while_pausing),
        cmocka_unit_test(test_pauses_begin_anew_after_a_connection),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sp_pipe_drain_reaper();
    return failures;
}
