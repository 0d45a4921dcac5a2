// The native listener with the real server: stock nng clients, subscribers, and people with bad intentions.
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "echo_support.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_feed.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_subscriber.h"
#include "rpc/sp_pipe.h"
#include "wire_support.h"

#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

enum {
    SP_PAIR = 0x10,
};

struct fixture {
    struct rpc_server *server;
    char url[RPC_URL_MAX_BYTES];
    char path[64];
    bool is_ipc;
    struct rpc_channel *channel;
};

static void
fixture_begin(struct fixture *fixture, bool is_ipc, size_t max_connections)
{
    static unsigned serial;
    const struct rpc_server_options options = {.max_connections = max_connections};
    char url[RPC_URL_MAX_BYTES] = "tcp://127.0.0.1:0";
    struct err_detail why = {0};
    memset(fixture, 0, sizeof *fixture);
    fixture->is_ipc = is_ipc;
    (void)snprintf(fixture->path, sizeof fixture->path, "/tmp/test_rpc_native.%d.%u", (int)getpid(), serial++);
    if (is_ipc) {
        (void)snprintf(url, sizeof url, "ipc://%s", fixture->path);
    }
    assert_int_equal(rpc_server_new(&options, &fixture->server), ERR_OK);
    assert_int_equal(rpc_server_add_service(fixture->server, &service.base, rules, sizeof rules / sizeof rules[0]),
        ERR_OK);
    assert_int_equal(rpc_server_listen(fixture->server, url, fixture->url, &why), ERR_OK);
    struct rpc_channel_options channel_options = {.url = fixture->url};
    assert_int_equal(rpc_channel_new(&channel_options, &fixture->channel, NULL), ERR_OK);
}

static void
fixture_end(struct fixture *fixture)
{
    rpc_channel_free(&fixture->channel);
    rpc_server_free(&fixture->server);
    sp_pipe_drain_reaper();
}

static int
connect_raw(const struct fixture *fixture)
{
    if (fixture->is_ipc) {
        return wire_connect_ipc(fixture->path);
    }
    return wire_connect_tcp((uint16_t)strtoul(strrchr(fixture->url, ':') + 1, NULL, 10));
}

static enum err
call_once(struct fixture *fixture)
{
    struct rpc_unary call;
    char text[] = "hello";
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.text = text;
    rpc_unary_init(&call, fixture->channel, &fc__test__v1__echo__descriptor);
    call.timeout_ms = wire_limit_ms(5000);
    fc__test__v1__echo__echo(&call.service, &request, NULL, NULL);
    enum err err = rpc_unary_wait(&call);
    if (err == ERR_OK) {
        const Fc__Test__V1__EchoResponse *response = rpc_unary_response(&call);
        assert_string_equal(response->text, "hello");
    }
    rpc_unary_deinit(&call);
    return err;
}

// A call as bytes: frame, without request id.
static struct bytes
make_frame(const char *method, const ProtobufCMessage *message)
{
    struct bytes frame = {0};
    char name[64];
    Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
    (void)snprintf(name, sizeof name, "fc.test.v1.Echo/%s", method);
    header.method = name;
    assert_int_equal(rpc_frame_append(&frame, 0, &header.base, message, NULL), ERR_OK);
    return frame;
}

static struct bytes
make_request(const char *method, const ProtobufCMessage *message, uint32_t id)
{
    struct bytes request = {0};
    uint8_t id_bytes[4];
    struct bytes frame = make_frame(method, message);
    bytes_store_be32(id_bytes, id);
    assert_int_equal(bytes_append(&request, bytes_view_of(id_bytes, 4)), ERR_OK);
    assert_int_equal(bytes_append(&request, bytes_as_view(&frame)), ERR_OK);
    bytes_free(&frame);
    return request;
}

static void
test_a_channel_over_tcp_and_ipc(void **state)
{
    (void)state;
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        fixture_begin(&fixture, is_ipc, 0);
        for (int i = 0; i < 50; i++) {
            assert_int_equal(call_once(&fixture), ERR_OK);
        }
        struct rpc_unary call;
        Fc__Test__V1__FailRequest request = FC__TEST__V1__FAIL_REQUEST__INIT;
        rpc_unary_init(&call, fixture.channel, &fc__test__v1__echo__descriptor);
        fc__test__v1__echo__fail(&call.service, &request, NULL, NULL);
        assert_int_equal(rpc_unary_wait(&call), ERR_NOT_FOUND);
        assert_string_equal(call.status.detail.message, "no such thing");
        rpc_unary_deinit(&call);
        fixture_end(&fixture);
    }
}

static void
test_stock_nng_req_socket(void **state)
{
    (void)state;
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        nng_socket socket;
        fixture_begin(&fixture, is_ipc, 0);
        assert_int_equal(nng_req0_open(&socket), 0);
        assert_int_equal(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, (nng_duration)wire_limit_ms(5000)), 0);
        assert_int_equal(nng_dial(socket, fixture.url, NULL, 0), 0);
        for (size_t size = 0; size < 2 * 1024 * 1024; size = size * 7 + 1) {
            Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
            request.data.len = size;
            request.data.data = malloc(size + 1);
            assert_non_null(request.data.data);
            memset(request.data.data, 'n', size);
            struct bytes frame = make_frame("Echo", &request.base);
            assert_int_equal(nng_send(socket, frame.data, frame.size, 0), 0);
            void *answer;
            size_t answer_size;
            assert_int_equal(nng_recv(socket, &answer, &answer_size, NNG_FLAG_ALLOC), 0);
            struct rpc_frame parsed;
            assert_int_equal(rpc_frame_parse(bytes_view_of(answer, answer_size), &parsed), ERR_OK);
            assert_int_equal(parsed.header.size, 0); // success
            Fc__Test__V1__EchoResponse *response =
                fc__test__v1__echo_response__unpack(NULL, parsed.message.size, parsed.message.data);
            assert_non_null(response);
            assert_int_equal(response->data.len, size);
            fc__test__v1__echo_response__free_unpacked(response, NULL);
            nng_free(answer, answer_size);
            bytes_free(&frame);
            free(request.data.data);
        }
        assert_int_equal(nng_close(socket), 0);
        fixture_end(&fixture);
    }
}

static bool
are_fds_back(void *context)
{
    return wire_count_fds() <= *(size_t *)context;
}

static void
test_peers_that_connect_and_go(void **state)
{
    (void)state;
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        fixture_begin(&fixture, is_ipc, 0);
        assert_int_equal(call_once(&fixture), ERR_OK);
        size_t fds = wire_count_fds();
        for (int i = 0; i < 3000; i++) {
            int fd = connect_raw(&fixture);
            (void)shutdown(fd, SHUT_WR);
            wire_reset(fd);
        }
        assert_int_equal(call_once(&fixture), ERR_OK);
        rpc_channel_free(&fixture.channel);
        struct rpc_channel_options options = {.url = fixture.url};
        assert_int_equal(rpc_channel_new(&options, &fixture.channel, NULL), ERR_OK);
        assert_int_equal(call_once(&fixture), ERR_OK); // a new connection too
        assert_true(wire_wait_until(are_fds_back, &fds, 5000));
        fixture_end(&fixture);
    }
}

static void
test_peers_that_die_with_calls_in_flight(void **state)
{
    (void)state;
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        fixture_begin(&fixture, is_ipc, 0);
        assert_int_equal(call_once(&fixture), ERR_OK);
        size_t fds = wire_count_fds();
        Fc__Test__V1__EchoRequest message = FC__TEST__V1__ECHO_REQUEST__INIT;
        uint8_t data[20000] = {0};
        message.data.data = data;
        message.data.len = sizeof data;
        struct bytes request = make_request("Echo", &message.base, 0x80000001);
        struct bytes out = {0};
        wire_append_header(&out, SP_REQ);
        for (int i = 0; i < 3; i++) {
            wire_append_message(&out, is_ipc, request.data, request.size);
        }
        for (int i = 0; i < 3000; i++) {
            int fd = connect_raw(&fixture);
            // Every third one leaves in the middle of a message.
            wire_write(fd, out.data, i % 3 == 0 ? out.size - 1000 : out.size);
            if (i % 5 == 0) {
                wire_expect_header(fd, SP_REP);
            }
            wire_reset(fd);
        }
        bytes_free(&out);
        bytes_free(&request);
        assert_int_equal(call_once(&fixture), ERR_OK);
        assert_true(wire_wait_until(are_fds_back, &fds, 10000));
        fixture_end(&fixture);
    }
}

static void
test_strangers_and_silent_ones(void **state)
{
    (void)state;
    enum {
        COUNT = 200,
    };
    struct fixture fixture;
    int silent[COUNT];
    fixture_begin(&fixture, false, 0);
    for (int i = 0; i < COUNT; i++) {
        silent[i] = connect_raw(&fixture);
        wire_write(silent[i], "\0SP\0", (size_t)(i % 5));
    }
    static const uint16_t strangers[] = {SP_PAIR, SP_PUB, SP_REP, 0, 0xffff};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        int fd = connect_raw(&fixture);
        wire_send_header(fd, strangers[i]);
        wire_expect_end(fd);
        (void)close(fd);
    }
    // A request id without its mark, a message shorter than an id, and a length beyond the limit.
    for (int i = 0; i < 3; i++) {
        int fd = connect_raw(&fixture);
        struct bytes out = {0};
        wire_append_header(&out, SP_REQ);
        if (i == 0) {
            wire_append_message(&out, false, "\0\0\0\1\1\0\0\0", 8);
        } else if (i == 1) {
            wire_append_message(&out, false, "\x80\0\0", 3);
        } else {
            wire_append_length(&out, false, RPC_MESSAGE_MAX_BYTES + 1);
        }
        wire_write(fd, out.data, out.size);
        bytes_free(&out);
        wire_expect_end(fd);
        (void)close(fd);
    }
    assert_int_equal(call_once(&fixture), ERR_OK);
    for (int i = 0; i < COUNT; i++) {
        (void)close(silent[i]);
    }
    fixture_end(&fixture);
}

static void
test_too_many_connections(void **state)
{
    (void)state;
    enum {
        LIMIT = 20,
    };
    struct fixture fixture;
    int fds[LIMIT];
    fixture_begin(&fixture, false, LIMIT);
    for (int i = 0; i < LIMIT; i++) {
        fds[i] = connect_raw(&fixture);
        wire_send_header(fds[i], SP_REQ);
        wire_expect_header(fds[i], SP_REP);
    }
    int extra = connect_raw(&fixture);
    wire_expect_end(extra);
    (void)close(extra);
    assert_int_equal(call_once(&fixture), ERR_UNAVAILABLE);
    for (int i = 0; i < LIMIT; i++) {
        (void)close(fds[i]);
    }
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
    while (call_once(&fixture) != ERR_OK) {
        assert_true(clock_monotonic_ms() < end_ms);
    }
    fixture_end(&fixture);
}

static void
test_out_of_descriptors(void **state)
{
    (void)state;
    enum {
        COUNT = 40,
    };
    struct fixture fixture;
    struct rlimit before;
    int fds[COUNT];
    fixture_begin(&fixture, false, 0);
    assert_int_equal(call_once(&fixture), ERR_OK);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
    }
    // The clients have their descriptors; their other ends get none.
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons((uint16_t)strtoul(strrchr(fixture.url, ':') + 1, NULL, 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(connect(fds[i], (struct sockaddr *)&address, sizeof address), 0);
        wire_set_limits(fds[i]);
        wire_send_header(fds[i], SP_REQ);
    }
    assert_int_equal(call_once(&fixture), ERR_OK); // who was connected goes on
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < COUNT; i++) {
        wire_expect_header(fds[i], SP_REP);
        (void)close(fds[i]);
    }
    fixture_end(&fixture);
}

static void
test_addresses_that_are_taken(void **state)
{
    (void)state;
    struct fixture fixture;
    struct stat info;
    char bound[RPC_URL_MAX_BYTES];
    struct err_detail why = {0};
    fixture_begin(&fixture, false, 0);
    assert_int_equal(rpc_server_listen(fixture.server, fixture.url, bound, &why), ERR_BUSY);
    assert_non_null(strstr(why.message, fixture.url));
    assert_int_equal(rpc_server_listen(fixture.server, "tcp://127.0.0.1:99999", bound, &why), ERR_INVALID);
    assert_int_equal(rpc_server_listen(fixture.server, "tcp://[::1", bound, &why), ERR_INVALID);
    fixture_end(&fixture);

    fixture_begin(&fixture, true, 0);
    assert_int_equal(stat(fixture.path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(rpc_server_listen(fixture.server, fixture.url, bound, &why), ERR_BUSY);
    assert_non_null(strstr(why.message, "another process listens"));
    assert_int_equal(call_once(&fixture), ERR_OK);
    fixture_end(&fixture);
    assert_int_equal(stat(fixture.path, &info), -1);
}

static void
test_stale_sockets_are_replaced_and_files_are_not(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char url[RPC_URL_MAX_BYTES];
    char bound[RPC_URL_MAX_BYTES];
    struct err_detail why = {0};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/tmp/test_rpc_native.%d.stale", (int)getpid());
    (void)snprintf(url, sizeof url, "ipc://%s", address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    (void)close(fd);
    fixture_begin(&fixture, false, 0);
    assert_int_equal(rpc_server_listen(fixture.server, url, bound, &why), ERR_OK);
    assert_string_equal(bound, url);
    fixture_end(&fixture);

    fd = open(address.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    fixture_begin(&fixture, false, 0);
    assert_int_equal(rpc_server_listen(fixture.server, url, bound, &why), ERR_BUSY);
    assert_non_null(strstr(why.message, "is not a socket"));
    fixture_end(&fixture);
    assert_int_equal(unlink(address.sun_path), 0);
}

// Subscriptions.
struct audience {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t bytes;
    size_t closed;
    enum err reason;
    atomic_bool is_feed_closed;
};

static void
audience_init(struct audience *audience)
{
    memset(audience, 0, sizeof *audience);
    (void)pthread_mutex_init(&audience->mutex, NULL);
    (void)pthread_cond_init(&audience->changed, NULL);
}

static void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    struct audience *audience = context;
    assert_memory_equal(topic, "topic of a room.", RPC_TOPIC_BYTES);
    (void)pthread_mutex_lock(&audience->mutex);
    audience->bytes += payload.size;
    (void)pthread_cond_broadcast(&audience->changed);
    (void)pthread_mutex_unlock(&audience->mutex);
}

static void
on_subscription_closed(void *context, enum err reason)
{
    struct audience *audience = context;
    (void)pthread_mutex_lock(&audience->mutex);
    audience->closed++;
    audience->reason = reason;
    (void)pthread_cond_broadcast(&audience->changed);
    (void)pthread_mutex_unlock(&audience->mutex);
}

static const struct rpc_subscriber_handlers subscriber_handlers = {
    .on_event = on_event,
    .on_closed = on_subscription_closed,
};

static void
wait_audience(struct audience *audience, size_t bytes, size_t closed)
{
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
    (void)pthread_mutex_lock(&audience->mutex);
    while (audience->bytes < bytes || audience->closed < closed) {
        assert_true(wire_wait(&audience->changed, &audience->mutex, end_ms));
    }
    assert_int_equal(audience->bytes, bytes);
    assert_int_equal(audience->closed, closed);
    (void)pthread_mutex_unlock(&audience->mutex);
}

static void
on_feed_closed(void *context, struct rpc_feed *feed)
{
    struct audience *audience = context;
    atomic_store(&audience->is_feed_closed, true);
    rpc_feed_release(feed);
}

static bool
is_feed_closed(void *context)
{
    struct audience *audience = context;
    return atomic_load(&audience->is_feed_closed);
}

static void
test_a_subscription(void **state)
{
    (void)state;
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        struct audience audience;
        struct rpc_feed *feed;
        struct rpc_subscriber *subscriber;
        const uint8_t *topic = (const uint8_t *)"topic of a room.";
        audience_init(&audience);
        fixture_begin(&fixture, is_ipc, 0);
        assert_int_equal(rpc_feed_new(fixture.server, on_feed_closed, &audience, &feed), ERR_OK);
        rpc_feed_push(feed, topic, bytes_view_of_text("before "));
        assert_int_equal(rpc_subscriber_new(fixture.url, NULL, rpc_feed_ticket(feed), &subscriber_handlers, &audience,
                             &subscriber, NULL),
            ERR_OK);
        wait_audience(&audience, 7, 0);
        for (int i = 0; i < 1000; i++) {
            rpc_feed_push(feed, topic, bytes_view_of_text("0123456789"));
        }
        wait_audience(&audience, 10007, 0);
        if (is_ipc) {
            rpc_subscriber_free(&subscriber);
            assert_int_equal(audience.closed, 1);
            assert_true(wire_wait_until(is_feed_closed, &audience, 5000));
        } else {
            rpc_feed_close(feed);
            wait_audience(&audience, 10007, 1);
            assert_int_equal(audience.reason, ERR_CLOSED);
            rpc_subscriber_free(&subscriber);
        }
        assert_null(subscriber);
        fixture_end(&fixture);
    }
}

static void
test_subscriptions_that_are_refused(void **state)
{
    (void)state;
    struct fixture fixture;
    struct audience audience;
    struct rpc_subscriber *subscriber;
    struct err_detail why = {0};
    audience_init(&audience);
    fixture_begin(&fixture, false, 0);
    assert_int_equal(
        rpc_subscriber_new(fixture.url, NULL, "no such ticket", &subscriber_handlers, &audience, &subscriber, NULL),
        ERR_OK);
    wait_audience(&audience, 0, 1);
    rpc_subscriber_free(&subscriber);

    // Nobody there.
    assert_int_equal(rpc_subscriber_new("ipc:///nonexistent/socket", NULL, "ticket", &subscriber_handlers, &audience,
                         &subscriber, NULL),
        ERR_OK);
    wait_audience(&audience, 0, 2);
    assert_int_equal(audience.reason, ERR_UNAVAILABLE);
    rpc_subscriber_free(&subscriber);
    assert_int_equal(rpc_subscriber_new("nonsense", NULL, "ticket", &subscriber_handlers, &audience, &subscriber, &why),
        ERR_INVALID);
    assert_int_equal(rpc_subscriber_new(fixture.url, NULL, "", &subscriber_handlers, &audience, &subscriber, &why),
        ERR_INVALID);

    // Freed at once.
    for (int i = 0; i < 50; i++) {
        assert_int_equal(
            rpc_subscriber_new(fixture.url, NULL, "ticket", &subscriber_handlers, &audience, &subscriber, NULL),
            ERR_OK);
        rpc_subscriber_free(&subscriber);
    }
    assert_int_equal(audience.closed, 52);
    fixture_end(&fixture);
}

static void
test_a_subscriber_says_nothing_more(void **state)
{
    (void)state;
    struct fixture fixture;
    struct audience audience;
    struct rpc_feed *feed;
    audience_init(&audience);
    fixture_begin(&fixture, false, 0);
    assert_int_equal(rpc_feed_new(fixture.server, on_feed_closed, &audience, &feed), ERR_OK);
    int fd = connect_raw(&fixture);
    wire_send_header(fd, SP_SUB);
    wire_expect_header(fd, SP_PUB);
    wire_send_message(fd, false, rpc_feed_ticket(feed), strlen(rpc_feed_ticket(feed)));
    wire_send_message(fd, false, "more", 4);
    wire_expect_end(fd);
    assert_true(wire_wait_until(is_feed_closed, &audience, 5000));
    (void)close(fd);
    fixture_end(&fixture);
}

static void
test_free_with_everything_going_on(void **state)
{
    (void)state;
    enum {
        ROUNDS = 20,
        CALLS = 20,
    };
    for (int round = 0; round < ROUNDS; round++) {
        struct fixture fixture;
        struct rpc_unary calls[CALLS];
        Fc__Test__V1__EchoLaterRequest request = FC__TEST__V1__ECHO_LATER_REQUEST__INIT;
        request.delay_ms = 1;
        fixture_begin(&fixture, round % 2 == 1, 0);
        int silent = connect_raw(&fixture);
        atomic_store(&slow_calls, 0);
        for (int i = 0; i < CALLS; i++) {
            rpc_unary_init(&calls[i], fixture.channel, &fc__test__v1__echo__descriptor);
            fc__test__v1__echo__echo_later(&calls[i].service, &request, NULL, NULL);
        }
        if (round % 3 == 0) {
            rpc_server_drain(fixture.server, wire_limit_ms(5000));
        }
        rpc_server_free(&fixture.server);
        for (int i = 0; i < CALLS; i++) {
            enum err err = rpc_unary_wait(&calls[i]);
            assert_true(err == ERR_OK || err == ERR_UNAVAILABLE);
            rpc_unary_deinit(&calls[i]);
        }
        wire_expect_end(silent);
        (void)close(silent);
        fixture_end(&fixture);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_channel_over_tcp_and_ipc),
        cmocka_unit_test(test_stock_nng_req_socket),
        cmocka_unit_test(test_peers_that_connect_and_go),
        cmocka_unit_test(test_peers_that_die_with_calls_in_flight),
        cmocka_unit_test(test_strangers_and_silent_ones),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_out_of_descriptors),
        cmocka_unit_test(test_addresses_that_are_taken),
        cmocka_unit_test(test_stale_sockets_are_replaced_and_files_are_not),
        cmocka_unit_test(test_a_subscription),
        cmocka_unit_test(test_subscriptions_that_are_refused),
        cmocka_unit_test(test_a_subscriber_says_nothing_more),
        cmocka_unit_test(test_free_with_everything_going_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
