// What surrounds calls on a channel: Hello, cancels, signs of life, going away, load; and servers that know none of it.
#include "echo_server.h"

static bool
is_cancelled(void *context)
{
    return atomic_load(&((struct server *)context)->cancels) > 0;
}

static struct rpc_channel *
patient_channel(const char *urls, enum rpc_strategy strategy, unsigned keepalive_ms)
{
    struct rpc_channel *channel = NULL;
    struct rpc_channel_options options = {.url = urls, .strategy = strategy, .keepalive_ms = keepalive_ms};
    assert_int_equal(rpc_channel_new(&options, &channel, NULL), ERR_OK);
    return channel;
}

static void
test_an_older_server_is_told_nothing_with_flags(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, ECHO);
    struct rpc_channel *channel = patient_channel(server.url, RPC_PICK_FIRST, 20);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    server.behaviour = SILENT;
    init_echo(&call, channel);
    call.timeout_ms = 200; // several keepalives
    start_echo(&call, "hello");
    assert_int_equal(rpc_unary_wait(&call), ERR_TIMEOUT);
    rpc_unary_deinit(&call);
    server.behaviour = ECHO;
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    assert_int_equal(server.connections, 1);
    assert_int_equal(server.cancels + server.pings + server.hellos, 0);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_server_learns_that_nobody_waits(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, ECHO);
    server.takes_flags = true;
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    assert_int_equal(server.hellos, 1);
    server.behaviour = SILENT;
    // A cancel.
    size_t calls = server.calls;
    init_echo(&call, channel);
    start_echo(&call, "hello");
    server_wait_for_count(&server.calls, calls + 1);
    rpc_unary_cancel(&call);
    assert_int_equal(rpc_unary_wait(&call), ERR_CANCELLED);
    rpc_unary_deinit(&call);
    assert_true(wire_wait_until(is_cancelled, &server, 10000));
    assert_int_equal(server.last_cancel, server.last_id);
    // A deadline.
    atomic_store(&server.cancels, 0);
    init_echo(&call, channel);
    call.timeout_ms = 20;
    start_echo(&call, "hello");
    assert_int_equal(rpc_unary_wait(&call), ERR_TIMEOUT);
    rpc_unary_deinit(&call);
    assert_true(wire_wait_until(is_cancelled, &server, 10000));
    assert_int_equal(server.last_cancel, server.last_id);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_silent_server_is_asked_and_left(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, ECHO);
    server.takes_flags = true;
    struct rpc_channel *channel = patient_channel(server.url, RPC_PICK_FIRST, 30);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    // One that answers pings may take its time for a call.
    server.behaviour = SILENT;
    init_echo(&call, channel);
    start_echo(&call, "hello");
    server_wait_for_count(&server.pings, 3);
    assert_int_equal(server.connections, 1);
    // One that does not is dead.
    server.hides = true;
    assert_int_equal(rpc_unary_wait(&call), ERR_UNAVAILABLE);
    assert_non_null(strstr(call.status.detail.message, "no sign of life"));
    assert_true(call.was_sent);
    rpc_unary_deinit(&call);
    server.behaviour = ECHO;
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    assert_int_equal(server.connections, 2);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_server_that_leaves_gets_no_more_calls(void **state)
{
    (void)state;
    struct server first;
    struct server second;
    struct rpc_unary call;
    struct rpc_unary old;
    char urls[256];
    Fc__Rpc__V1__GoingAway going_away = FC__RPC__V1__GOING_AWAY__INIT;
    server_start(&first, false, ECHO);
    server_start(&second, false, ECHO);
    first.takes_flags = second.takes_flags = true;
    (void)snprintf(urls, sizeof urls, "%s,%s", first.url, second.url);
    struct rpc_channel *channel = patient_channel(urls, RPC_PICK_FIRST, 0);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    assert_int_equal(first.calls, 1);
    first.behaviour = REVERSED; // keeps the next call until another one comes
    init_echo(&old, channel);
    start_echo(&old, "old");
    server_wait_for_count(&first.calls, 2);
    write_control(&first, FC__RPC__V1__CONTROL__KIND_GOING_AWAY, &going_away);
    // It may take a moment to arrive; then the second one has every call.
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(10000);
    while (second.calls == 0) {
        init_echo(&call, channel);
        call.is_waiting_for_ready = true;
        start_echo(&call, "new");
        assert_int_equal(rpc_unary_wait(&call), ERR_OK);
        rpc_unary_deinit(&call);
        assert_true(clock_monotonic_ms() < end_ms);
    }
    size_t calls = first.calls;
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    assert_int_equal(first.calls, calls);
    // What it had it may still answer, or lose.
    server_kill(&first);
    (void)!rpc_unary_wait(&old);
    assert_int_equal(old.status.code == RPC_OK || old.status.code == RPC_UNAVAILABLE, true);
    rpc_unary_deinit(&old);
    rpc_channel_free(&channel);
    server_stop(&first);
    server_stop(&second);
}

static void
test_the_only_server_leaves(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    Fc__Rpc__V1__GoingAway going_away = FC__RPC__V1__GOING_AWAY__INIT;
    server_start(&server, false, ECHO);
    server.takes_flags = true;
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    write_control(&server, FC__RPC__V1__CONTROL__KIND_GOING_AWAY, &going_away);
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(10000);
    while (echo(channel, "hello", &call) == ERR_OK) {
        assert_true(clock_monotonic_ms() < end_ms);
    }
    assert_int_equal(call.status.code, RPC_UNAVAILABLE);
    assert_non_null(strstr(call.status.detail.message, "is shutting down"));
    assert_false(call.was_sent);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_what_was_not_begun_is_sent_again(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, FAILS);
    server.failure_code = RPC_UNAVAILABLE;
    server.failure_reason = RPC_REASON_NOT_EXECUTED;
    server.retry_after_ms = 0;
    server.failures_left = 2;
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK); // and it is not said to be idempotent
    assert_int_equal(server.calls, 3);
    // With another reason it may have been begun.
    server.failure_reason = NULL;
    server.failures_left = 1;
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_int_equal(server.calls, 4);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_the_least_busy_server_is_asked(void **state)
{
    (void)state;
    struct server busy;
    struct server idle;
    struct rpc_unary call;
    char urls[256];
    server_start(&busy, false, ECHO);
    server_start(&idle, false, ECHO);
    busy.takes_flags = idle.takes_flags = true;
    busy.cpu_permille = 900;
    idle.cpu_permille = 100;
    (void)snprintf(urls, sizeof urls, "%s,%s", busy.url, idle.url);
    struct rpc_channel *channel = patient_channel(urls, RPC_LEAST_CPU, 0);
    // Calls until both have said how they are.
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(10000);
    while (busy.hellos == 0 || idle.hellos == 0) {
        init_echo(&call, channel);
        call.is_waiting_for_ready = true;
        start_echo(&call, "hello");
        assert_int_equal(rpc_unary_wait(&call), ERR_OK);
        rpc_unary_deinit(&call);
        assert_true(clock_monotonic_ms() < end_ms);
    }
    size_t streak = 0; // of calls that the idle one got, since the answers to the Hellos may be under way
    while (streak < 50) {
        size_t calls = busy.calls;
        assert_int_equal(echo(channel, "hello", &call), ERR_OK);
        streak = busy.calls == calls ? streak + 1 : 0;
        assert_true(clock_monotonic_ms() < end_ms);
    }
    rpc_channel_free(&channel);
    server_stop(&busy);
    server_stop(&idle);
}

static void
test_metadata_is_checked_before_it_is_sent(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    static const char long_key[] = "key-of-more-than-sixty-four-characters-which-are-more-than-a-key-has";
    static const struct rpc_metadata bad[] = {{.key = ""}, {.key = "Upper"}, {.key = "fc-x"}, {.key = long_key}};
    static struct rpc_metadata many[RPC_METADATA_MAX_ENTRIES + 1];
    server_start(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        init_echo(&call, channel);
        call.metadata = &bad[i];
        call.metadata_count = 1;
        start_echo(&call, "hello");
        assert_int_equal(rpc_unary_wait(&call), ERR_INVALID);
        assert_false(call.was_sent);
        rpc_unary_deinit(&call);
    }
    for (size_t i = 0; i <= RPC_METADATA_MAX_ENTRIES; i++) {
        many[i].key = "key";
    }
    init_echo(&call, channel);
    call.metadata = many;
    call.metadata_count = RPC_METADATA_MAX_ENTRIES + 1;
    start_echo(&call, "hello");
    assert_int_equal(rpc_unary_wait(&call), ERR_LIMIT);
    rpc_unary_deinit(&call);
    assert_int_equal(server.calls, 0);
    rpc_channel_free(&channel);
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_older_server_is_told_nothing_with_flags),
        cmocka_unit_test(test_a_server_learns_that_nobody_waits),
        cmocka_unit_test(test_a_silent_server_is_asked_and_left),
        cmocka_unit_test(test_a_server_that_leaves_gets_no_more_calls),
        cmocka_unit_test(test_the_only_server_leaves),
        cmocka_unit_test(test_what_was_not_begun_is_sent_again),
        cmocka_unit_test(test_the_least_busy_server_is_asked),
        cmocka_unit_test(test_metadata_is_checked_before_it_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
