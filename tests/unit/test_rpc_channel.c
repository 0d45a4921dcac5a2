#include "echo_server.h"

static void
test_calls_over_tcp_and_ipc(void **state)
{
    (void)state;
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct server server;
        struct rpc_unary call;
        server_start(&server, is_ipc, ECHO);
        struct rpc_channel *channel = channel_to(server.url);
        assert_int_equal(rpc_channel_set_token(channel, "fct_secret"), ERR_OK);
        for (int i = 0; i < 100; i++) {
            assert_int_equal(echo(channel, "hello", &call), ERR_OK);
        }
        assert_int_equal(call.status.code, RPC_OK);
        assert_string_equal(server.last_token, "fct_secret");
        assert_string_equal(server.last_method, "fc.test.v1.Echo/Echo");
        assert_int_equal(rpc_channel_set_token(channel, NULL), ERR_OK);
        assert_int_equal(echo(channel, "", &call), ERR_OK);
        assert_string_equal(server.last_token, "");
        assert_int_equal(server.connections, 1);
        rpc_channel_free(&channel);
        assert_null(channel);
        rpc_channel_free(&channel);
        server_stop(&server);
    }
}

static void
test_addresses_and_tokens_are_checked(void **state)
{
    (void)state;
    static const char too_long_for_a_socket[] =
        "ipc:///0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789";
    static const char *const bad[] = {
        "",
        "127.0.0.1:1",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:70000",
        "tcp://:7420",
        "tcp://*:1",
        "tcp://127.0.0.1:0",
        "tcp://[::1:5",
        "tcp://::1:5",
        "tcp://a/b:5",
        "ipc://",
        "http://127.0.0.1:5",
        "tcp://127.0.0.1:5x",
        too_long_for_a_socket,
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_detail why = {0};
        struct rpc_channel *channel = NULL;
        struct rpc_channel_options options = {.url = bad[i]};
        assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_INVALID);
        assert_null(channel);
        assert_true(why.message[0] != '\0');
    }
    static const char *const good[] = {"tcp://127.0.0.1:1", "tcp://[::1]:65535", "tcp://example.org:7420", "ipc://x"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct rpc_channel *channel = channel_to(good[i]);
        char token[RPC_TOKEN_MAX_BYTES + 2];
        memset(token, 't', sizeof token);
        token[sizeof token - 1] = '\0';
        assert_int_equal(rpc_channel_set_token(channel, token), ERR_TOO_BIG);
        token[sizeof token - 2] = '\0';
        assert_int_equal(rpc_channel_set_token(channel, token), ERR_OK);
        rpc_channel_free(&channel);
    }
}

static void
test_nobody_listens(void **state)
{
    (void)state;
    uint16_t port;
    char url[64];
    char expected[256];
    struct rpc_unary call;
    int listener = wire_listen_tcp(&port); // bound but refusing, so that nobody else takes the port
    assert_int_equal(shutdown(listener, SHUT_RDWR), 0);
    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", port);
    struct rpc_channel *channel = channel_to(url);
    (void)snprintf(expected, sizeof expected, "cannot connect to %s: connection refused; is fcd running there?", url);
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_int_equal(call.status.code, RPC_UNAVAILABLE);
    assert_false(call.was_sent);
    assert_string_equal(call.status.detail.message, expected);
    rpc_channel_free(&channel);
    (void)close(listener);

    channel = channel_to("ipc:///nonexistent/fcd.sock");
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_non_null(strstr(call.status.detail.message, "ipc:///nonexistent/fcd.sock"));
    rpc_channel_free(&channel);
}

static void
test_a_channel_connects_before_the_first_call(void **state)
{
    (void)state;
    uint16_t port;
    char url[64];
    int listener = wire_listen_tcp(&port);
    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", port);
    struct rpc_channel *channel = channel_to(url);
    rpc_channel_connect(channel);
    rpc_channel_connect(channel); // which it is doing
    int fd = wire_accept(listener);
    assert_true(fd >= 0);
    rpc_channel_free(&channel);
    (void)close(fd);
    (void)close(listener);
}

static void
test_a_name_with_two_families(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    char url[64];
    server_start(&server, false, ECHO); // on 127.0.0.1 only
    (void)snprintf(url, sizeof url, "tcp://localhost:%s", strrchr(server.url, ':') + 1);
    struct rpc_channel *channel = channel_to(url);
    assert_int_equal(echo(channel, "hello", &call), ERR_OK);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_what_listens_is_no_fcd(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, SPEAKS_HTTP);
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_non_null(strstr(call.status.detail.message, "is no fcd"));
    rpc_channel_free(&channel);
    server_stop(&server);

    server_start(&server, false, NO_HANDSHAKE);
    struct rpc_channel_options options = {.url = server.url, .connect_timeout_ms = 30};
    assert_int_equal(rpc_channel_new(&options, &channel, NULL), ERR_OK);
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_non_null(strstr(call.status.detail.message, "does not answer"));
    assert_false(call.was_sent);
    rpc_channel_free(&channel);
    server_stop(&server);
}

// Many calls with on_done.
struct crowd {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t ended;
    size_t succeeded;
    enum rpc_code expected_failure;
};

static void
crowd_init(struct crowd *crowd)
{
    memset(crowd, 0, sizeof *crowd);
    (void)pthread_mutex_init(&crowd->mutex, NULL);
    (void)pthread_cond_init(&crowd->changed, NULL);
}

static void
crowd_wait(struct crowd *crowd, size_t count)
{
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(10000);
    (void)pthread_mutex_lock(&crowd->mutex);
    while (crowd->ended < count) {
        assert_true(wire_wait(&crowd->changed, &crowd->mutex, end_ms));
    }
    assert_int_equal(crowd->ended, count);
    (void)pthread_mutex_unlock(&crowd->mutex);
}

struct member {
    struct rpc_unary call;
    struct crowd *crowd;
    char text[32];
};

static void
on_member_done(struct rpc_unary *call)
{
    struct member *member = call->context;
    struct crowd *crowd = member->crowd;
    const Fc__Test__V1__EchoResponse *response = rpc_unary_response(call);
    bool is_success = call->status.code == RPC_OK;
    if (is_success) {
        assert_non_null(response);
        assert_string_equal(response->text, member->text);
    } else {
        assert_int_equal(call->status.code, crowd->expected_failure);
    }
    rpc_unary_deinit(call);
    (void)pthread_mutex_lock(&crowd->mutex);
    crowd->ended++;
    crowd->succeeded += is_success;
    (void)pthread_cond_broadcast(&crowd->changed);
    (void)pthread_mutex_unlock(&crowd->mutex);
}

static struct member *
start_members(struct crowd *crowd, struct rpc_channel *channel, size_t count, unsigned timeout_ms)
{
    struct member *members = calloc(count, sizeof *members);
    assert_non_null(members);
    for (size_t i = 0; i < count; i++) {
        members[i].crowd = crowd;
        (void)snprintf(members[i].text, sizeof members[i].text, "member %zu", i);
        init_echo(&members[i].call, channel);
        members[i].call.timeout_ms = timeout_ms;
        members[i].call.on_done = on_member_done;
        members[i].call.context = &members[i];
        start_echo(&members[i].call, members[i].text);
    }
    return members;
}

static void
test_ten_thousand_calls_at_once(void **state)
{
    (void)state;
    enum {
        COUNT = 10000,
    };
    static const enum behaviour behaviours[] = {ECHO, REVERSED};
    for (int i = 0; i < 2; i++) {
        struct server server;
        struct crowd crowd;
        crowd_init(&crowd);
        server_start(&server, false, behaviours[i]);
        struct rpc_channel *channel = channel_to(server.url);
        struct member *members = start_members(&crowd, channel, COUNT, wire_limit_ms(20000));
        crowd_wait(&crowd, COUNT);
        assert_int_equal(crowd.succeeded, COUNT);
        assert_int_equal(server.connections, 1);
        rpc_channel_free(&channel);
        server_stop(&server);
        free(members);
    }
}

static void
test_deadlines(void **state)
{
    (void)state;
    enum {
        COUNT = 1000,
    };
    struct server server;
    struct crowd crowd;
    crowd_init(&crowd);
    crowd.expected_failure = RPC_DEADLINE_EXCEEDED;
    server_start(&server, false, SILENT);
    struct rpc_channel *channel = channel_to(server.url);
    struct member *members = start_members(&crowd, channel, COUNT, 50);
    crowd_wait(&crowd, COUNT);
    assert_int_equal(crowd.succeeded, 0);
    free(members);

    struct rpc_unary call;
    uint64_t start_ms = clock_monotonic_ms();
    init_echo(&call, channel);
    call.timeout_ms = 30;
    start_echo(&call, "hello");
    assert_int_equal(rpc_unary_wait(&call), ERR_TIMEOUT);
    assert_true(call.was_sent);
    assert_true(clock_monotonic_ms() - start_ms >= 30);
    assert_non_null(strstr(call.status.detail.message, "within 30 ms"));
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_an_earlier_deadline_moves_the_timer(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary patient;
    struct rpc_unary hasty;
    server_start(&server, false, SILENT);
    struct rpc_channel *channel = channel_to(server.url);
    init_echo(&patient, channel);
    patient.timeout_ms = RPC_TIMEOUT_MAX_MS;
    start_echo(&patient, "patient");
    init_echo(&hasty, channel);
    hasty.timeout_ms = 10;
    start_echo(&hasty, "hasty");
    assert_int_equal(rpc_unary_wait(&hasty), ERR_TIMEOUT);
    rpc_unary_cancel(&patient);
    rpc_unary_cancel(&patient);
    assert_int_equal(rpc_unary_wait(&patient), ERR_CANCELLED);
    rpc_unary_cancel(&patient);
    assert_int_equal(patient.status.code, RPC_CANCELLED);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_late_answer_meets_nobody(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary first;
    struct rpc_unary second;
    server_start(&server, false, REVERSED);
    struct rpc_channel *channel = channel_to(server.url);
    init_echo(&first, channel);
    first.timeout_ms = 20;
    start_echo(&first, "first");
    assert_int_equal(rpc_unary_wait(&first), ERR_TIMEOUT);
    assert_int_equal(echo(channel, "second", &second), ERR_OK); // the first's answer comes with it
    init_echo(&first, channel);
    start_echo(&first, "third");
    rpc_unary_cancel(&first);
    assert_int_equal(rpc_unary_wait(&first), ERR_CANCELLED);
    assert_int_equal(echo(channel, "fourth", &second), ERR_OK);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_cancel_with_callbacks(void **state)
{
    (void)state;
    enum {
        COUNT = 500,
    };
    struct server server;
    struct crowd crowd;
    crowd_init(&crowd);
    crowd.expected_failure = RPC_CANCELLED;
    server_start(&server, false, SILENT);
    struct rpc_channel *channel = channel_to(server.url);
    struct member *members = start_members(&crowd, channel, COUNT, wire_limit_ms(20000));
    for (size_t i = 0; i < COUNT; i += 2) {
        rpc_unary_cancel(&members[i].call);
    }
    crowd_wait(&crowd, COUNT / 2);
    rpc_channel_free(&channel); // cancels the others
    assert_int_equal(crowd.ended, COUNT);
    server_stop(&server);
    free(members);
}

static void
test_cancel_races_with_answers(void **state)
{
    (void)state;
    enum {
        COUNT = 2000,
    };
    struct server server;
    struct crowd crowd;
    crowd_init(&crowd);
    crowd.expected_failure = RPC_CANCELLED;
    server_start(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    struct member *members = start_members(&crowd, channel, COUNT, wire_limit_ms(20000));
    for (size_t i = 0; i < COUNT; i++) {
        rpc_unary_cancel(&members[i].call);
    }
    crowd_wait(&crowd, COUNT);
    rpc_channel_free(&channel);
    server_stop(&server);
    free(members);
}

static void
test_server_gone_with_calls_in_flight(void **state)
{
    (void)state;
    enum {
        COUNT = 64,
    };
    struct server server;
    struct crowd crowd;
    struct rpc_unary call;
    crowd_init(&crowd);
    crowd.expected_failure = RPC_UNAVAILABLE;
    server_start(&server, false, CLOSES);
    server.close_after = COUNT;
    struct rpc_channel *channel = channel_to(server.url);
    struct member *members = start_members(&crowd, channel, COUNT, wire_limit_ms(20000));
    crowd_wait(&crowd, COUNT);
    assert_int_equal(crowd.succeeded, 0);
    assert_true(members[0].call.was_sent);
    assert_non_null(strstr(members[0].call.status.detail.message, "may have been executed"));
    // The next one connects again.
    assert_int_equal(echo(channel, "again", &call), ERR_OK);
    assert_int_equal(server.connections, 2);
    rpc_channel_free(&channel);
    server_stop(&server);
    free(members);
}

static void
test_answers_that_make_no_sense(void **state)
{
    (void)state;
    static const struct {
        enum behaviour behaviour;
        enum rpc_code code;
        const char *text;
    } cases[] = {
        {NEWER_VERSION, RPC_UNIMPLEMENTED, "speaks protocol version 2, this program version 1"},
        {MALFORMED, RPC_INTERNAL, "is malformed"},
        {BAD_MESSAGE, RPC_INTERNAL, "cannot be read"},
        {UNKNOWN_CODE, RPC_UNKNOWN, "too many echoes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server server;
        struct rpc_unary call;
        server_start(&server, false, cases[i].behaviour);
        struct rpc_channel *channel = channel_to(server.url);
        (void)echo(channel, "hello", &call);
        assert_int_equal(call.status.code, cases[i].code);
        assert_non_null(strstr(call.status.detail.message, cases[i].text));
        rpc_channel_free(&channel);
        server_stop(&server);
    }
}

static void
test_a_status_with_its_details(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, FAILS);
    struct rpc_channel *channel = channel_to(server.url);
    assert_int_equal(echo(channel, "hello", &call), ERR_LIMIT);
    assert_int_equal(call.status.code, RPC_RESOURCE_EXHAUSTED);
    assert_string_equal(call.status.detail.message, "there are too many echoes");
    assert_string_equal(call.status.reason, "TOO_MANY_ECHOES");
    assert_int_equal(call.status.retry_after_ms, 1500);
    rpc_channel_free(&channel);
    server_stop(&server);
}

static void
test_a_request_over_the_limit_is_not_sent(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    server_start(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.data.len = RPC_MESSAGE_MAX_BYTES;
    request.data.data = calloc(1, request.data.len);
    assert_non_null(request.data.data);
    init_echo(&call, channel);
    fc__test__v1__echo__echo(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_LIMIT);
    assert_false(call.was_sent);
    assert_int_equal(server.connections, 0);

    // The largest that fits: header and prefixes take 100 bytes or so.
    request.data.len = RPC_MESSAGE_MAX_BYTES - 200;
    init_echo(&call, channel);
    fc__test__v1__echo__echo(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    const Fc__Test__V1__EchoResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->data.len, request.data.len);
    rpc_unary_deinit(&call);
    rpc_unary_deinit(&call);
    free(request.data.data);
    rpc_channel_free(&channel);
    server_stop(&server);
}

// A chain: each completion starts the next call.
struct chain {
    struct rpc_unary calls[2];
    struct rpc_channel *channel;
    struct crowd crowd;
    size_t left;
};

static void
on_link_done(struct rpc_unary *call)
{
    struct chain *chain = call->context;
    rpc_unary_deinit(call);
    (void)pthread_mutex_lock(&chain->crowd.mutex);
    chain->crowd.ended++;
    chain->crowd.succeeded += call->status.code == RPC_OK;
    bool is_last = chain->left == 0;
    chain->left -= !is_last;
    (void)pthread_cond_broadcast(&chain->crowd.changed);
    (void)pthread_mutex_unlock(&chain->crowd.mutex);
    if (!is_last) {
        init_echo(call, chain->channel);
        call->on_done = on_link_done;
        call->context = chain;
        start_echo(call, "link");
    }
}

static void
test_completions_start_calls(void **state)
{
    (void)state;
    struct server server;
    struct chain chain = {.left = 1000};
    crowd_init(&chain.crowd);
    server_start(&server, false, ECHO);
    chain.channel = channel_to(server.url);
    for (int i = 0; i < 2; i++) {
        init_echo(&chain.calls[i], chain.channel);
        chain.calls[i].on_done = on_link_done;
        chain.calls[i].context = &chain;
        start_echo(&chain.calls[i], "link");
    }
    crowd_wait(&chain.crowd, 1002);
    assert_int_equal(chain.crowd.succeeded, 1002);
    rpc_channel_free(&chain.channel);
    server_stop(&server);
}

static void
on_response(const Fc__Test__V1__EchoResponse *response, void *closure_data)
{
    struct crowd *crowd = closure_data;
    (void)pthread_mutex_lock(&crowd->mutex);
    crowd->ended++;
    crowd->succeeded += response != NULL;
    (void)pthread_cond_broadcast(&crowd->changed);
    (void)pthread_mutex_unlock(&crowd->mutex);
}

static void
test_closures(void **state)
{
    (void)state;
    struct server server;
    struct rpc_unary call;
    struct crowd crowd;
    crowd_init(&crowd);
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    server_start(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    init_echo(&call, channel);
    fc__test__v1__echo__echo(&call.service, &request, on_response, &crowd);
    crowd_wait(&crowd, 1);
    assert_int_equal(crowd.succeeded, 1);
    rpc_unary_deinit(&call);
    server.behaviour = FAILS;
    init_echo(&call, channel);
    fc__test__v1__echo__echo(&call.service, &request, on_response, &crowd);
    crowd_wait(&crowd, 2);
    assert_int_equal(crowd.succeeded, 1);
    assert_int_equal(call.status.code, RPC_RESOURCE_EXHAUSTED);
    rpc_channel_free(&channel);
    server_stop(&server);
}

struct caller {
    pthread_t thread;
    struct rpc_channel *channel;
    size_t succeeded;
};

static void *
call_repeatedly(void *arg)
{
    struct caller *caller = arg;
    for (int i = 0; i < 300; i++) {
        struct rpc_unary call;
        caller->succeeded += echo(caller->channel, "from a thread", &call) == ERR_OK;
    }
    return NULL;
}

static void
test_threads_share_a_channel(void **state)
{
    (void)state;
    enum {
        COUNT = 8,
    };
    struct server server;
    struct caller callers[COUNT] = {0};
    server_start(&server, false, ECHO);
    struct rpc_channel *channel = channel_to(server.url);
    for (int i = 0; i < COUNT; i++) {
        callers[i].channel = channel;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_repeatedly, &callers[i]), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_int_equal(callers[i].succeeded, 300);
    }
    assert_int_equal(server.connections, 1);
    rpc_channel_free(&channel);
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_over_tcp_and_ipc),
        cmocka_unit_test(test_addresses_and_tokens_are_checked),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_a_channel_connects_before_the_first_call),
        cmocka_unit_test(test_a_name_with_two_families),
        cmocka_unit_test(test_what_listens_is_no_fcd),
        cmocka_unit_test(test_ten_thousand_calls_at_once),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_an_earlier_deadline_moves_the_timer),
        cmocka_unit_test(test_a_late_answer_meets_nobody),
        cmocka_unit_test(test_cancel_with_callbacks),
        cmocka_unit_test(test_cancel_races_with_answers),
        cmocka_unit_test(test_server_gone_with_calls_in_flight),
        cmocka_unit_test(test_answers_that_make_no_sense),
        cmocka_unit_test(test_a_status_with_its_details),
        cmocka_unit_test(test_a_request_over_the_limit_is_not_sent),
        cmocka_unit_test(test_completions_start_calls),
        cmocka_unit_test(test_closures),
        cmocka_unit_test(test_threads_share_a_channel),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sp_pipe_drain_reaper();
    return failures;
}
