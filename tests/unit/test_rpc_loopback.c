// Server and client of the runtime together, over real sockets: calls, subscriptions, and a server that goes away.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_feed.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_subscriber.h"
#include "rpc/sp_pipe.h"

#include "fc/test/v1/echo.pb-c.h"

enum {
    SLOTS = 64,
    WAIT_MS = 10 * 1000,
};

static uint64_t
limit_ms(void)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    return clock_monotonic_ms() + WAIT_MS * (uint64_t)(scale != NULL ? atoi(scale) : 1);
}

// wait_for polls a count with a limit.
static void
wait_for(atomic_size_t *count, size_t value)
{
    uint64_t until_ms = limit_ms();
    while (atomic_load(count) < value) {
        assert_true(clock_monotonic_ms() < until_ms);
        nanosleep(&(struct timespec){.tv_nsec = 1000 * 1000}, NULL);
    }
}

static void
echo(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.text = request->text;
    response.data = request->data;
    reply(&response, closure_data);
}

struct later {
    Fc__Test__V1__EchoResponse_Closure reply;
    void *closure_data;
};

static void *
answer_later(void *context)
{
    struct later *later = context;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    later->reply(&response, later->closure_data);
    free(later);
    return NULL;
}

static void
echo_later(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoLaterRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    pthread_t thread;
    struct later *later = malloc(sizeof(*later));
    assert_non_null(later);
    *later = (struct later){reply, closure_data};
    assert_int_equal(0, pthread_create(&thread, NULL, answer_later, later));
    pthread_detach(thread);
}

static void
fail_handler(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__FailRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)reply;
    rpc_call_fail(closure_data, ERR_CONFLICT, "as asked: %s", request->message);
}

static void
count(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__CountRequest *request,
    Fc__Test__V1__CountResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    Fc__Test__V1__CountResponse response = FC__TEST__V1__COUNT_RESPONSE__INIT;
    response.count = rpc_call_request_id(closure_data).size;
    reply(&response, closure_data);
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
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = RPC_MESSAGE_MAX_BYTES},
    {.method = "EchoAsUser", .access = RPC_ACCESS_TOKEN},
    {.method = "EchoLater", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC},
};

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    identity_out->expires_unix_ms = INT64_MAX;
    return bytes_view_equal(token, bytes_view_of_text("good")) ? ERR_OK : ERR_UNAUTHENTICATED;
}

static struct rpc_server *
server_new(const char *url, char bound_url[RPC_URL_MAX_BYTES])
{
    struct rpc_server *server = NULL;
    struct rpc_server_options options = {.authenticate = authenticate};
    struct err_detail why = {0};
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service.base, rules, sizeof(rules) / sizeof(rules[0])));
    if (rpc_server_listen(server, url, bound_url, &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
    return server;
}

static struct rpc_channel *
channel_new(const char *url)
{
    struct rpc_channel *channel = NULL;
    struct err_detail why = {0};
    assert_int_equal(ERR_OK, rpc_channel_new(&(struct rpc_channel_options){.url = url}, &channel, &why));
    assert_int_equal(ERR_OK, rpc_channel_set_token(channel, "good"));
    return channel;
}

static void
call_each_method(const char *url)
{
    struct rpc_channel *channel = channel_new(url);
    struct rpc_unary call;
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.text = (char[]){"hello"};
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    fc__test__v1__echo__echo_as_user(&call.service, &request, NULL, NULL);
    assert_int_equal(ERR_OK, rpc_unary_wait(&call));
    assert_string_equal("hello", ((const Fc__Test__V1__EchoResponse *)rpc_unary_response(&call))->text);
    rpc_unary_deinit(&call);

    // As large as a chunk.
    request.data.len = 8 * 1024 * 1024;
    request.data.data = malloc(request.data.len);
    assert_non_null(request.data.data);
    for (size_t i = 0; i < request.data.len; i++) {
        request.data.data[i] = (uint8_t)(i % 251);
    }
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    fc__test__v1__echo__echo(&call.service, &request, NULL, NULL);
    assert_int_equal(ERR_OK, rpc_unary_wait(&call));
    const Fc__Test__V1__EchoResponse *echo = rpc_unary_response(&call);
    assert_int_equal(request.data.len, echo->data.len);
    assert_memory_equal(request.data.data, echo->data.data, request.data.len);
    assert_string_equal("hello", echo->text);
    rpc_unary_deinit(&call);
    free(request.data.data);

    Fc__Test__V1__EchoLaterRequest later = FC__TEST__V1__ECHO_LATER_REQUEST__INIT;
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    fc__test__v1__echo__echo_later(&call.service, &later, NULL, NULL);
    assert_int_equal(ERR_OK, rpc_unary_wait(&call));
    rpc_unary_deinit(&call);

    Fc__Test__V1__FailRequest failing = FC__TEST__V1__FAIL_REQUEST__INIT;
    failing.message = (char[]){"so"};
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    fc__test__v1__echo__fail(&call.service, &failing, NULL, NULL);
    assert_int_equal(ERR_CONFLICT, rpc_unary_wait(&call));
    assert_string_equal("as asked: so", call.status.detail.message);
    rpc_unary_deinit(&call);

    Fc__Test__V1__CountRequest counting = FC__TEST__V1__COUNT_REQUEST__INIT;
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    fc__test__v1__echo__count(&call.service, &counting, NULL, NULL);
    assert_int_equal(ERR_OK, rpc_unary_wait(&call));
    assert_int_equal(RPC_REQUEST_ID_BYTES, ((const Fc__Test__V1__CountResponse *)rpc_unary_response(&call))->count);
    rpc_unary_deinit(&call);

    assert_int_equal(ERR_OK, rpc_channel_set_token(channel, "revoked"));
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    request.data.len = 0;
    fc__test__v1__echo__echo_as_user(&call.service, &request, NULL, NULL);
    assert_int_equal(ERR_UNAUTHENTICATED, rpc_unary_wait(&call));
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
}

static void
test_each_method_over_tcp_and_ipc(void **state)
{
    (void)state;
    char bound_url[RPC_URL_MAX_BYTES];
    char ipc_url[RPC_URL_MAX_BYTES];
    struct err_detail why = {0};
    struct rpc_server *server = server_new("tcp://127.0.0.1:0", bound_url);
    call_each_method(bound_url);
    (void)snprintf(ipc_url, sizeof(ipc_url), "ipc:///tmp/test_rpc_loopback.%d", (int)getpid());
    assert_int_equal(ERR_OK, rpc_server_listen(server, ipc_url, bound_url, &why));
    call_each_method(bound_url);
    rpc_server_free(&server);
}

// A slot makes one call after the other until one fails.
struct slot {
    struct rpc_unary call;
    struct rpc_channel *channel;
    size_t index;
};

static struct {
    atomic_size_t done;
    atomic_size_t ended;
    atomic_size_t failed_otherwise; // neither answered nor refused or cut off
} traffic;

static void on_done(struct rpc_unary *call);

static void
start(struct slot *slot)
{
    rpc_unary_init(&slot->call, slot->channel, &fc__test__v1__echo__descriptor);
    slot->call.on_done = on_done;
    slot->call.context = slot;
    if (slot->index % 8 == 0) {
        Fc__Test__V1__EchoLaterRequest later = FC__TEST__V1__ECHO_LATER_REQUEST__INIT;
        fc__test__v1__echo__echo_later(&slot->call.service, &later, NULL, NULL);
    } else {
        Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
        fc__test__v1__echo__echo_as_user(&slot->call.service, &request, NULL, NULL);
    }
}

static void
on_done(struct rpc_unary *call)
{
    struct slot *slot = call->context;
    enum rpc_code code = call->status.code;
    rpc_unary_deinit(call);
    if (code == RPC_OK) {
        atomic_fetch_add(&traffic.done, 1);
        start(slot);
        return;
    }
    atomic_fetch_add(&traffic.failed_otherwise, code != RPC_UNAVAILABLE && code != RPC_CANCELLED);
    atomic_fetch_add(&traffic.ended, 1);
}

static void
end_server_under_traffic(unsigned drain_ms)
{
    static struct slot slots[SLOTS];
    char bound_url[RPC_URL_MAX_BYTES];
    struct rpc_server *server = server_new("tcp://127.0.0.1:0", bound_url);
    struct rpc_channel *channels[4];
    atomic_store(&traffic.done, 0);
    atomic_store(&traffic.ended, 0);
    for (size_t i = 0; i < 4; i++) {
        channels[i] = channel_new(bound_url);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        slots[i].channel = channels[i % 4];
        slots[i].index = i;
        start(&slots[i]);
    }
    wait_for(&traffic.done, 500);
    if (drain_ms > 0) {
        rpc_server_drain(server, drain_ms);
    }
    rpc_server_free(&server);
    wait_for(&traffic.ended, SLOTS);
    assert_int_equal(0, atomic_load(&traffic.failed_otherwise));
    for (size_t i = 0; i < 4; i++) {
        rpc_channel_free(&channels[i]);
    }
}

static void
test_a_server_ends_under_traffic(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        end_server_under_traffic(i % 2 * 1000);
    }
}

// One subscriber's view, and the service's.
static struct {
    atomic_size_t events;
    atomic_size_t subscriber_closed;
    atomic_size_t feed_closed;
    atomic_size_t bytes;
} seen;

static void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    (void)context;
    assert_memory_equal("0123456789abcdef", topic, RPC_TOPIC_BYTES);
    atomic_fetch_add(&seen.bytes, payload.size);
    atomic_fetch_add(&seen.events, 1);
}

static void
on_subscriber_closed(void *context, enum err reason)
{
    (void)context;
    (void)reason;
    atomic_fetch_add(&seen.subscriber_closed, 1);
}

static void
on_feed_closed(void *context, struct rpc_feed *feed)
{
    (void)context;
    rpc_feed_release(feed);
    atomic_fetch_add(&seen.feed_closed, 1);
}

static void
test_a_subscriber_gets_all_bytes_until_the_server_drains(void **state)
{
    (void)state;
    static const struct rpc_subscriber_handlers handlers = {on_event, on_subscriber_closed};
    char bound_url[RPC_URL_MAX_BYTES];
    struct rpc_server *server = server_new("tcp://127.0.0.1:0", bound_url);
    struct rpc_feed *feed = NULL;
    struct rpc_subscriber *subscriber = NULL;
    struct rpc_subscriber *refused = NULL;
    struct err_detail why = {0};
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    assert_int_equal(ERR_OK, rpc_feed_new(server, on_feed_closed, NULL, &feed));
    strcpy(ticket, rpc_feed_ticket(feed));
    assert_int_equal(ERR_OK, rpc_subscriber_new(bound_url, NULL, ticket, &handlers, NULL, &subscriber, &why));
    enum {
        PUSHES = 10000,
    };
    for (size_t i = 0; i < PUSHES; i++) {
        rpc_feed_push(feed, (const uint8_t *)"0123456789abcdef", bytes_view_of("twelve bytes", 12));
    }
    wait_for(&seen.bytes, (size_t)PUSHES * 12);
    assert_true(atomic_load(&seen.events) <= PUSHES); // they gathered
    assert_int_equal(ERR_OK, rpc_subscriber_new(bound_url, NULL, ticket, &handlers, NULL, &refused, &why));
    wait_for(&seen.subscriber_closed, 1);
    rpc_server_drain(server, 1000);
    wait_for(&seen.feed_closed, 1);
    wait_for(&seen.subscriber_closed, 2);
    rpc_server_free(&server);
    rpc_subscriber_free(&subscriber);
    rpc_subscriber_free(&refused);
    assert_int_equal((size_t)PUSHES * 12, atomic_load(&seen.bytes));
}

static int
end(void **state)
{
    (void)state;
    sp_pipe_drain_reaper();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_method_over_tcp_and_ipc),
        cmocka_unit_test(test_a_server_ends_under_traffic),
        cmocka_unit_test(test_a_subscriber_gets_all_bytes_until_the_server_drains),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
