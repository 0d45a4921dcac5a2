#include "echo_server.h"

enum {
    SERVERS = 3,
};

// A channel to all servers.
static struct rpc_channel *
channel_to_all(const struct server *servers, size_t count, enum rpc_strategy strategy)
{
    char urls[512] = "";
    struct rpc_channel *channel = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(urls);
        (void)snprintf(urls + used, sizeof urls - used, "%s%s", i == 0 ? "" : ",", servers[i].url);
    }
    struct rpc_channel_options options = {.url = urls, .strategy = strategy};
    assert_int_equal(rpc_channel_new(&options, &channel, NULL), ERR_OK);
    assert_string_equal(rpc_channel_url(channel), urls);
    return channel;
}

static void
start_all(struct server *servers, enum behaviour behaviour)
{
    for (int i = 0; i < SERVERS; i++) {
        server_start(&servers[i], false, behaviour);
    }
}

static void
stop_all(struct server *servers)
{
    for (int i = 0; i < SERVERS; i++) {
        server_stop(&servers[i]);
    }
}

static void
echo_many(struct rpc_channel *channel, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct rpc_unary call;
        assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    }
}

// Calls until each server has a connection: the first that is ready takes the first calls alone.
static void
connect_to_all(struct rpc_channel *channel, const struct server *servers)
{
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(10000);
    for (int i = 0; i < SERVERS; i++) {
        while (servers[i].calls == 0) {
            echo_many(channel, 1);
            assert_true(clock_monotonic_ms() < end_ms);
        }
    }
}

static void
test_lists_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        ",",
        "tcp://127.0.0.1:1,",
        ",tcp://127.0.0.1:1",
        "tcp://127.0.0.1:1,,tcp://127.0.0.1:2",
        "tcp://127.0.0.1:1,http://127.0.0.1:2",
        "tcp://127.0.0.1:1, tcp://127.0.0.1:2",
        ("ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,"
         "ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a,ipc://a"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_detail why = {0};
        struct rpc_channel *channel = NULL;
        struct rpc_channel_options options = {.url = bad[i]};
        assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_INVALID);
        assert_null(channel);
        assert_true(why.message[0] != '\0');
    }
}

static void
test_the_first_that_works_is_kept(void **state)
{
    (void)state;
    struct server servers[SERVERS];
    server_bind(&servers[0], false, ECHO); // refuses
    server_start(&servers[1], false, ECHO);
    server_start(&servers[2], false, ECHO);
    struct rpc_channel *channel = channel_to_all(servers, SERVERS, RPC_PICK_FIRST);
    echo_many(channel, 50); // the first of them too, though the first address fails
    assert_int_equal(servers[1].calls, 50);
    assert_int_equal(servers[1].connections, 1);
    assert_int_equal(servers[2].connections, 0);
    rpc_channel_free(&channel);
    (void)close(servers[0].listener);
    server_stop(&servers[1]);
    server_stop(&servers[2]);
}

static void
test_none_can_be_reached(void **state)
{
    (void)state;
    for (int strategy = RPC_PICK_FIRST; strategy <= RPC_TWO_CHOICES; strategy++) {
        struct server servers[2];
        struct rpc_unary call;
        server_bind(&servers[0], false, ECHO);
        server_bind(&servers[1], false, ECHO);
        struct rpc_channel *channel = channel_to_all(servers, 2, (enum rpc_strategy)strategy);
        assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
        assert_false(call.was_sent);
        for (int i = 0; i < 2; i++) {
            assert_non_null(strstr(call.status.detail.message, servers[i].url));
        }
        // Either one ends the wait.
        init_echo(&call, channel);
        call.is_waiting_for_ready = true;
        start_echo(&call, "patience");
        server_run(&servers[1]);
        assert_int_equal(rpc_unary_wait(&call), ERR_OK);
        rpc_unary_deinit(&call);
        rpc_channel_free(&channel);
        server_stop(&servers[1]);
        (void)close(servers[0].listener);
    }
}

static void
test_round_robin(void **state)
{
    (void)state;
    struct server servers[SERVERS];
    size_t before[SERVERS];
    start_all(servers, ECHO);
    struct rpc_channel *channel = channel_to_all(servers, SERVERS, RPC_ROUND_ROBIN);
    connect_to_all(channel, servers);
    for (int i = 0; i < SERVERS; i++) {
        before[i] = servers[i].calls;
    }
    echo_many(channel, 300);
    for (int i = 0; i < SERVERS; i++) {
        assert_int_equal(servers[i].calls - before[i], 100);
        assert_int_equal(servers[i].connections, 1);
    }
    rpc_channel_free(&channel);
    stop_all(servers);
}

static void
test_all_get_calls(void **state)
{
    (void)state;
    static const enum rpc_strategy strategies[] = {RPC_RANDOM, RPC_TWO_CHOICES};
    for (int i = 0; i < 2; i++) {
        struct server servers[SERVERS];
        start_all(servers, ECHO);
        struct rpc_channel *channel = channel_to_all(servers, SERVERS, strategies[i]);
        connect_to_all(channel, servers);
        echo_many(channel, 100);
        rpc_channel_free(&channel);
        stop_all(servers);
    }
}

// A server dies with calls outstanding: those that may be are executed elsewhere, the others say so.
static void
test_a_server_that_comes_later_gets_calls_too(void **state)
{
    (void)state;
    static const enum rpc_strategy strategies[] = {RPC_ROUND_ROBIN, RPC_RANDOM, RPC_LEAST_CPU, RPC_TWO_CHOICES};
    for (size_t i = 0; i < sizeof strategies / sizeof strategies[0]; i++) {
        struct server servers[2];
        struct rpc_unary call;
        server_start(&servers[0], false, ECHO);
        server_bind(&servers[1], false, ECHO); // refuses
        struct rpc_channel *channel = channel_to_all(servers, 2, strategies[i]);
        echo_many(channel, 20);
        server_run(&servers[1]);
        uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(20000);
        while (servers[1].calls == 0) {
            assert_int_equal(echo(channel, "hello", &call), ERR_OK);
            assert_true(clock_monotonic_ms() < end_ms);
        }
        rpc_channel_free(&channel);
        server_stop(&servers[0]);
        server_stop(&servers[1]);
    }
}

static void
test_a_server_dies_with_calls_outstanding(void **state)
{
    (void)state;
    for (int strategy = RPC_PICK_FIRST; strategy <= RPC_TWO_CHOICES; strategy++) {
        enum {
            CALLS = 8,
        };
        struct server servers[2];
        struct rpc_unary calls[CALLS];
        struct rpc_unary once;
        server_start(&servers[0], false, SILENT);
        server_bind(&servers[1], false, ECHO); // refuses, so that the first gets all
        struct rpc_channel *channel = channel_to_all(servers, 2, (enum rpc_strategy)strategy);
        init_echo(&once, channel);
        start_echo(&once, "once");
        for (int i = 0; i < CALLS; i++) {
            init_echo(&calls[i], channel);
            calls[i].is_idempotent = true;
            start_echo(&calls[i], "anywhere");
        }
        server_wait_for_count(&servers[0].calls, CALLS + 1);
        server_run(&servers[1]);
        server_kill(&servers[0]);
        assert_int_equal(rpc_unary_wait(&once), ERR_UNAVAILABLE);
        assert_int_equal(once.status.attempts, 1);
        assert_non_null(strstr(once.status.detail.message, servers[0].url));
        for (int i = 0; i < CALLS; i++) {
            assert_int_equal(rpc_unary_wait(&calls[i]), ERR_OK);
            assert_int_equal(calls[i].status.attempts, 2);
            rpc_unary_deinit(&calls[i]);
        }
        assert_int_equal(servers[0].calls, CALLS + 1);
        assert_int_equal(servers[1].calls, CALLS);
        echo_many(channel, 20);
        assert_int_equal(servers[1].calls, CALLS + 20);
        rpc_channel_free(&channel);
        server_stop(&servers[0]);
        server_stop(&servers[1]);
    }
}

// A server that says UNAVAILABLE is not asked again while another one is there.
static void
test_a_server_that_drains_is_avoided(void **state)
{
    (void)state;
    struct server servers[SERVERS];
    struct rpc_unary call;
    start_all(servers, ECHO);
    struct rpc_channel *channel = channel_to_all(servers, SERVERS, RPC_ROUND_ROBIN);
    connect_to_all(channel, servers);
    for (int i = 0; i < SERVERS; i++) {
        servers[i].failure_code = RPC_UNAVAILABLE;
        servers[i].retry_after_ms = 0;
    }
    servers[1].behaviour = FAILS;
    for (int i = 0; i < 6; i++) {
        init_echo(&call, channel);
        call.is_idempotent = true;
        start_echo(&call, "anywhere");
        assert_int_equal(rpc_unary_wait(&call), ERR_OK);
        assert_true(call.status.attempts <= 2);
        rpc_unary_deinit(&call);
    }
    rpc_channel_free(&channel);
    stop_all(servers);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_are_checked),
        cmocka_unit_test(test_the_first_that_works_is_kept),
        cmocka_unit_test(test_none_can_be_reached),
        cmocka_unit_test(test_round_robin),
        cmocka_unit_test(test_all_get_calls),
        cmocka_unit_test(test_a_server_that_comes_later_gets_calls_too),
        cmocka_unit_test(test_a_server_dies_with_calls_outstanding),
        cmocka_unit_test(test_a_server_that_drains_is_avoided),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sp_pipe_drain_reaper();
    return failures;
}
