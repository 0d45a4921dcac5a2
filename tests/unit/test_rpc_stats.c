// What a server counts: the buckets of the histogram, and calls, bytes and connections by what really happened.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_feed.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_stats.h"
#include "rpc/rpc_stats_priv.h"
#include "tests/unit/fake_wire.h"

#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct rpc_call *later;
    Fc__Test__V1__EchoResponse_Closure later_reply;
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void
echo(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    reply(&response, closure_data);
}

static void
echo_later(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoLaterRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    pthread_mutex_lock(&shared.mutex);
    shared.later = closure_data;
    shared.later_reply = reply;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mutex);
}

static void
fail_handler(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__FailRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    (void)reply;
    rpc_call_fail(closure_data, ERR_NOT_FOUND, "there is none");
}

static void
count(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__CountRequest *request,
    Fc__Test__V1__CountResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    reply(NULL, closure_data);
}

static Fc__Test__V1__Echo_Service service = {
    .base = {&fc__test__v1__echo__descriptor, protobuf_c_service_invoke_internal, NULL},
    .echo = echo,
    .echo_as_user = echo,
    .echo_later = echo_later,
    .fail = fail_handler,
    .count = count,
};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC},
    {.method = "EchoAsUser", .access = RPC_ACCESS_TOKEN},
    {.method = "EchoLater", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC},
};

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    (void)token;
    (void)identity_out;
    return ERR_UNAUTHENTICATED;
}

static struct rpc_server *
server_new(struct rpc_server_options options)
{
    struct rpc_server *server = NULL;
    options.authenticate = authenticate;
    shared.later = NULL;
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service.base, rules, sizeof(rules) / sizeof(rules[0])));
    return server;
}

// append_call appends a message with an empty request, as a peer receives it. Returns its size.
static size_t
append_call(struct bytes *out, const char *method)
{
    Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
    char name[64];
    struct bytes_view bulk;
    size_t before = out->size;
    strcpy(name, method);
    header.method = name;
    assert_int_equal(ERR_OK, bytes_append(out, bytes_view_of("\x80\0\0\1", 4)));
    assert_int_equal(ERR_OK, rpc_frame_append(out, 0, &header.base, NULL, &bulk));
    return out->size - before;
}

static size_t
receive(struct wire *wire, const char *method)
{
    struct bytes data = {0};
    size_t size = append_call(&data, method);
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_as_view(&data), NULL));
    bytes_free(&data);
    return size;
}

static size_t
call(struct wire *wire, const char *method)
{
    size_t size = receive(wire, method);
    rpc_peer_batch_end(wire->peer);
    return size;
}

static struct rpc_stats
read_stats(struct rpc_server *server)
{
    struct rpc_stats stats;
    assert_int_equal(ERR_OK, rpc_stats_read(server, &stats));
    return stats;
}

static uint64_t
sum(const uint64_t *values, size_t value_count)
{
    uint64_t total = 0;
    for (size_t i = 0; i < value_count; i++) {
        total += values[i];
    }
    return total;
}

// assert_method looks at one method: so many calls with this code, and so many in all.
static void
assert_method(const struct rpc_stats *stats, const char *name, enum rpc_code code, uint64_t with_code, uint64_t in_all)
{
    for (size_t i = 0; i < stats->method_count; i++) {
        const struct rpc_method_stats *method = &stats->methods[i];
        if (strcmp(method->method, name) == 0) {
            assert_int_equal(with_code, method->calls[code]);
            assert_int_equal(in_all, sum(method->calls, RPC_CODE_COUNT));
            return;
        }
    }
    fail_msg("%s is not among the methods", name);
}

static void
test_a_bucket_includes_its_bound(void **state)
{
    (void)state;
    assert_int_equal(0, rpc_stats_bucket_of(0));
    assert_int_equal(0, rpc_stats_bucket_of(1));
    uint64_t bound_us = RPC_LATENCY_FIRST_US;
    for (size_t i = 0; i < RPC_LATENCY_BUCKETS - 1; i++) {
        assert_int_equal(i, rpc_stats_bucket_of(bound_us));
        assert_int_equal(i + 1, rpc_stats_bucket_of(bound_us + 1));
        bound_us *= 2;
    }
    assert_int_equal(RPC_LATENCY_BUCKETS - 1, rpc_stats_bucket_of(bound_us));
    assert_int_equal(RPC_LATENCY_BUCKETS - 1, rpc_stats_bucket_of(UINT64_MAX));
}

static void
test_writers_add_up(void **state)
{
    (void)state;
    struct rpc_stats_cell *cells = rpc_stats_cells_new(3);
    assert_non_null(cells);
    for (unsigned writer = 0; writer < 3; writer++) {
        rpc_stats_count_call(cells, writer, RPC_OK, 9);
        rpc_stats_count_call(cells, writer, RPC_UNAUTHENTICATED, 100);
        assert_int_equal(1, cells[writer].calls[RPC_OK]);
        assert_int_equal(1, cells[writer].calls[RPC_UNAUTHENTICATED]);
        assert_int_equal(1, cells[writer].latency_buckets[1]);
        assert_int_equal(1, cells[writer].latency_buckets[4]);
        assert_int_equal(109, cells[writer].latency_sum_us);
    }
    rpc_stats_count_refusal(cells, RPC_OK);
    assert_int_equal(2, cells[RPC_STATS_SHARED].calls[RPC_OK]);
    assert_int_equal(1, cells[RPC_STATS_SHARED].latency_buckets[1]);
    free(cells);
}

static void
test_a_new_server_has_done_nothing(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct rpc_stats stats = read_stats(server);
    assert_int_equal(0, stats.method_count);
    assert_int_equal(0, stats.connections);
    assert_int_equal(0, stats.accepted_connections);
    assert_int_equal(0, stats.calls_in_flight);
    assert_int_equal(0, stats.received_bytes);
    assert_int_equal(0, stats.sent_bytes);
    assert_int_equal(0, stats.subscriptions);
    assert_false(stats.is_draining);
    assert_true(stats.resident_bytes > 1024 * 1024);
    assert_true(stats.cpu_us > 0);
    rpc_stats_deinit(&stats);
    rpc_stats_deinit(&stats);
    rpc_server_drain(server, 0);
    stats = read_stats(server);
    assert_true(stats.is_draining);
    rpc_stats_deinit(&stats);
    rpc_server_free(&server);
}

static void
test_calls_count_under_their_method_and_code(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    static const char *const methods[] = {"fc.test.v1.Echo/Echo", "fc.test.v1.Echo/Echo", "fc.test.v1.Echo/EchoAsUser",
        "fc.test.v1.Echo/Fail", "fc.test.v1.Echo/Count", "fc.test.v1.Echo/Nothing", "no method"};
    size_t received = 0;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        received += call(wire, methods[i]);
        wire_wait(wire, i + 1);
    }
    struct rpc_stats stats = read_stats(server);
    assert_int_equal(5, stats.method_count);
    assert_method(&stats, "fc.test.v1.Echo/Echo", RPC_OK, 2, 2);
    assert_method(&stats, "fc.test.v1.Echo/EchoAsUser", RPC_UNAUTHENTICATED, 1, 1);
    assert_method(&stats, "fc.test.v1.Echo/Fail", RPC_NOT_FOUND, 1, 1);
    assert_method(&stats, "fc.test.v1.Echo/Count", RPC_INTERNAL, 1, 1); // a reply that could not be made, counted once
    assert_method(&stats, RPC_STATS_UNKNOWN_METHOD, RPC_UNIMPLEMENTED, 2, 2);
    for (size_t i = 0; i < stats.method_count; i++) {
        assert_int_equal(sum(stats.methods[i].calls, RPC_CODE_COUNT),
            sum(stats.methods[i].latency_buckets, RPC_LATENCY_BUCKETS));
        assert_true(i == 0 || strcmp(stats.methods[i - 1].method, stats.methods[i].method) < 0);
    }
    size_t sent = 0;
    for (size_t i = 0; i < wire->sent_count; i++) {
        sent += wire->sent[i].size;
    }
    assert_int_equal(received, stats.received_bytes);
    assert_int_equal(sent, stats.sent_bytes);
    assert_int_equal(1, stats.connections);
    rpc_stats_deinit(&stats);

    wire_free(wire);
    stats = read_stats(server);
    assert_int_equal(received, stats.received_bytes); // although the connection has gone
    assert_int_equal(sent, stats.sent_bytes);
    assert_int_equal(0, stats.connections);
    assert_int_equal(1, stats.accepted_connections);
    rpc_stats_deinit(&stats);
    rpc_server_free(&server);
}

static void
test_a_late_answer_took_as_long_as_it_did(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct timespec until = limit();
    uint64_t start_us = clock_monotonic_us();
    (void)call(wire, "fc.test.v1.Echo/EchoLater");
    pthread_mutex_lock(&shared.mutex);
    while (shared.later == NULL) {
        assert_int_not_equal(ETIMEDOUT, pthread_cond_timedwait(&shared.changed, &shared.mutex, &until));
    }
    pthread_mutex_unlock(&shared.mutex);
    uint64_t taken_us = clock_monotonic_us();
    struct rpc_stats stats = read_stats(server);
    assert_int_equal(1, stats.calls_in_flight);
    assert_int_equal(0, stats.calls_waiting);
    assert_int_equal(0, stats.method_count); // counted when it has been answered
    rpc_stats_deinit(&stats);

    while (clock_monotonic_us() < taken_us + 2000) {
    }
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    shared.later_reply(&response, shared.later);
    wire_wait(wire, 1);
    uint64_t end_us = clock_monotonic_us();
    stats = read_stats(server);
    assert_int_equal(0, stats.calls_in_flight);
    assert_method(&stats, "fc.test.v1.Echo/EchoLater", RPC_OK, 1, 1);
    assert_in_range(stats.methods[0].latency_sum_us, 2000, end_us - start_us);
    assert_int_equal(1, stats.methods[0].latency_buckets[rpc_stats_bucket_of(stats.methods[0].latency_sum_us)]);
    rpc_stats_deinit(&stats);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_refused_calls_and_connections_count(void **state)
{
    (void)state;
    struct rpc_server *server =
        server_new((struct rpc_server_options){.max_connections = 1, .max_calls_per_connection = 2});
    struct wire *wire = wire_new(server);
    struct rpc_peer *second = NULL;
    assert_int_equal(ERR_LIMIT, rpc_peer_new(server, &wire_ops, wire, "test", &second));
    (void)receive(wire, "fc.test.v1.Echo/Echo");
    (void)receive(wire, "fc.test.v1.Echo/Echo");
    (void)call(wire, "fc.test.v1.Echo/Echo");
    wire_wait(wire, 3);
    struct rpc_stats stats = read_stats(server);
    assert_int_equal(1, stats.accepted_connections);
    assert_int_equal(1, stats.refused_connections);
    assert_method(&stats, "fc.test.v1.Echo/Echo", RPC_OK, 2, 2);
    assert_method(&stats, RPC_STATS_UNKNOWN_METHOD, RPC_RESOURCE_EXHAUSTED, 1, 1);
    rpc_stats_deinit(&stats);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_calls_of_a_lost_connection_were_dropped(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    size_t received = receive(wire, "fc.test.v1.Echo/Echo"); // its batch never ends
    wire_free(wire);
    struct rpc_stats stats = read_stats(server);
    assert_int_equal(1, stats.dropped_calls);
    assert_int_equal(0, stats.method_count);
    assert_int_equal(received, stats.received_bytes);
    rpc_stats_deinit(&stats);
    rpc_server_free(&server);
}

static void
on_feed_closed(void *context, struct rpc_feed *feed)
{
    (void)context;
    (void)feed;
}

static void
test_what_a_slow_subscriber_misses_counts(void **state)
{
    (void)state;
    enum { PAYLOAD_BYTES = RPC_FEED_MAX_BYTES / 4, PAYLOADS = 10 };
    static const uint8_t topic[RPC_TOPIC_BYTES];
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct rpc_feed *feed = NULL;
    uint8_t *payload = calloc(1, PAYLOAD_BYTES);
    assert_non_null(payload);
    assert_int_equal(ERR_OK, rpc_feed_new(server, on_feed_closed, NULL, &feed));
    struct rpc_stats stats = read_stats(server);
    assert_int_equal(1, stats.subscriptions);
    assert_int_equal(0, stats.dropped_subscription_bytes);
    rpc_stats_deinit(&stats);
    for (int i = 0; i < PAYLOADS; i++) {
        rpc_feed_push(feed, topic, bytes_view_of(payload, PAYLOAD_BYTES));
    }
    // Three wait at most, since each costs a little more than itself; the fourth makes them go.
    stats = read_stats(server);
    assert_int_equal(9 * PAYLOAD_BYTES, stats.dropped_subscription_bytes);
    rpc_stats_deinit(&stats);
    rpc_feed_release(feed);
    free(payload);
    rpc_server_free(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bucket_includes_its_bound),
        cmocka_unit_test(test_writers_add_up),
        cmocka_unit_test(test_a_new_server_has_done_nothing),
        cmocka_unit_test(test_calls_count_under_their_method_and_code),
        cmocka_unit_test(test_a_late_answer_took_as_long_as_it_did),
        cmocka_unit_test(test_refused_calls_and_connections_count),
        cmocka_unit_test(test_calls_of_a_lost_connection_were_dropped),
        cmocka_unit_test(test_what_a_slow_subscriber_misses_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
