#include <stdatomic.h>

#include "rpc/rpc_channel.h"
#include "rpc/rpc_frame.h"
#include "rpc/sp_pipe.h"
#include "wire_support.h"

#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

// What the server of a test does with a call.
enum behaviour {
    ECHO,
    SILENT,        // reads and never answers
    REVERSED,      // answers every two calls in reverse order
    CLOSES,        // after close_after calls
    NEWER_VERSION, // answers in version 2
    MALFORMED,     // answers with half a frame
    BAD_MESSAGE,   // answers with a message that is none
    FAILS,         // with status and ErrorInfo
    UNKNOWN_CODE,  // status 99
    SPEAKS_HTTP,   // instead of a handshake
    NO_HANDSHAKE,  // says nothing at all
};

struct server {
    int listener;
    char url[128];
    bool is_ipc;
    _Atomic(enum behaviour) behaviour; // a test may change it
    size_t close_after;
    pthread_t thread;
    atomic_size_t calls;
    atomic_size_t connections;
    char last_token[64];
    char last_method[64];
    atomic_bool is_stopping;
};

static void
answer(struct server *server, int fd, const uint8_t *id, uint8_t version, const Fc__Rpc__V1__ResponseHeader *header,
    struct bytes_view message)
{
    struct bytes out = {0};
    struct bytes framed = {0};
    assert_int_equal(bytes_append(&out, bytes_view_of(id, 4)), ERR_OK);
    assert_int_equal(rpc_frame_append(&out, 0, &header->base, NULL, NULL), ERR_OK);
    out.data[4] = version;
    assert_int_equal(bytes_append(&out, message), ERR_OK);
    wire_append_message(&framed, server->is_ipc, out.data, out.size);
    const uint8_t *from = framed.data;
    size_t size = framed.size;
    while (size > 0) { // the client may have gone
        ssize_t n = send(fd, from, size, MSG_NOSIGNAL);
        if (n <= 0) {
            break;
        }
        from += n;
        size -= (size_t)n;
    }
    bytes_free(&out);
    bytes_free(&framed);
}

static void
note_header(struct server *server, struct bytes_view encoded)
{
    Fc__Rpc__V1__RequestHeader *header = fc__rpc__v1__request_header__unpack(NULL, encoded.size, encoded.data);
    assert_non_null(header);
    (void)snprintf(server->last_token, sizeof server->last_token, "%s", header->token);
    (void)snprintf(server->last_method, sizeof server->last_method, "%s", header->method);
    assert_int_equal(header->request_id.len, 16);
    assert_true(header->timeout_ms > 0);
    fc__rpc__v1__request_header__free_unpacked(header, NULL);
}

static void
answer_failure(struct server *server, int fd, const uint8_t *id, int code)
{
    uint8_t packed[64];
    Fc__Rpc__V1__ErrorInfo info = FC__RPC__V1__ERROR_INFO__INIT;
    Fc__Rpc__V1__Detail other = FC__RPC__V1__DETAIL__INIT;
    Fc__Rpc__V1__Detail detail = FC__RPC__V1__DETAIL__INIT;
    Fc__Rpc__V1__Detail *details[] = {&other, &detail};
    char reason[] = "TOO_MANY_ECHOES";
    char other_type[] = "some.other.Type";
    char type[] = "fc.rpc.v1.ErrorInfo";
    char message[] = "there are too many echoes";
    info.reason = reason;
    info.retry_after_ms = 1500;
    other.type = other_type;
    detail.type = type;
    detail.value.data = packed;
    detail.value.len = fc__rpc__v1__error_info__pack(&info, packed);
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    header.code = (Fc__Rpc__V1__Code)code;
    header.message = message;
    header.n_details = 2;
    header.details = details;
    answer(server, fd, id, 1, &header, bytes_view_of(NULL, 0));
}

static void
serve_call(struct server *server, int fd, struct bytes *call, struct bytes *kept)
{
    struct rpc_frame frame;
    struct bytes_view data = bytes_view_of(call->data + 4, call->size - 4);
    Fc__Rpc__V1__ResponseHeader ok = FC__RPC__V1__RESPONSE_HEADER__INIT;
    assert_true(call->data[0] & 0x80);
    assert_int_equal(rpc_frame_parse(data, &frame), ERR_OK);
    note_header(server, frame.header);
    enum behaviour behaviour = server->behaviour;
    switch (behaviour) {
    case ECHO:
    case CLOSES:
        answer(server, fd, call->data, 1, &ok, frame.message);
        break;
    case REVERSED:
        if (kept->size == 0) {
            *kept = *call;
            *call = (struct bytes){0};
        } else {
            answer(server, fd, call->data, 1, &ok, frame.message);
            data = bytes_view_of(kept->data + 4, kept->size - 4);
            assert_int_equal(rpc_frame_parse(data, &frame), ERR_OK);
            answer(server, fd, kept->data, 1, &ok, frame.message);
            bytes_free(kept);
        }
        break;
    case NEWER_VERSION:
        answer(server, fd, call->data, 2, &ok, frame.message);
        break;
    case MALFORMED: {
        struct bytes framed = {0};
        wire_append_message(&framed, server->is_ipc, call->data, 6);
        wire_write(fd, framed.data, framed.size);
        bytes_free(&framed);
        break;
    }
    case BAD_MESSAGE:
        answer(server, fd, call->data, 1, &ok, bytes_view_of_text("\x0a\x50too short"));
        break;
    case FAILS:
        answer_failure(server, fd, call->data, FC__RPC__V1__CODE__RESOURCE_EXHAUSTED);
        break;
    case UNKNOWN_CODE:
        answer_failure(server, fd, call->data, 99);
        break;
    case SILENT:
    case SPEAKS_HTTP:
    case NO_HANDSHAKE:
        break;
    }
}

// Reads a message, or finds the connection at its end.
static bool
read_call(struct server *server, int fd, struct bytes *call)
{
    uint8_t prefix[9];
    size_t prefix_size = server->is_ipc ? 9 : 8;
    if (recv(fd, prefix, prefix_size, MSG_WAITALL) != (ssize_t)prefix_size) {
        return false;
    }
    size_t size = (size_t)bytes_load_be64(prefix + prefix_size - 8);
    assert_int_equal(bytes_reserve(call, size), ERR_OK);
    call->size = size;
    if (recv(fd, call->data, size, MSG_WAITALL) != (ssize_t)size) {
        bytes_free(call);
        return false;
    }
    return true;
}

static void
serve_connection(struct server *server, int fd)
{
    struct bytes kept = {0};
    struct bytes call = {0};
    size_t calls = 0;
    if (server->behaviour == SPEAKS_HTTP) {
        wire_write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        wire_expect_end(fd);
        return;
    }
    if (server->behaviour == NO_HANDSHAKE) {
        wire_expect_end(fd);
        return;
    }
    // The client may have gone already; that is for the test to notice.
    uint8_t header[8];
    (void)send(fd, "\0SP\0\0\x31\0\0", 8, MSG_NOSIGNAL);
    if (recv(fd, header, sizeof header, MSG_WAITALL) != (ssize_t)sizeof header) {
        return;
    }
    assert_memory_equal(header, "\0SP\0\0\x30\0\0", sizeof header);
    while (read_call(server, fd, &call)) {
        atomic_fetch_add(&server->calls, 1);
        calls++;
        if (server->behaviour != CLOSES || server->close_after == 0) {
            serve_call(server, fd, &call, &kept);
        }
        bytes_free(&call);
        if (server->behaviour == CLOSES && calls == server->close_after) {
            server->close_after = 0;
            break;
        }
    }
    bytes_free(&kept);
}

static void *
serve(void *arg)
{
    struct server *server = arg;
    for (;;) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EAGAIN) {
            return NULL;
        }
        if (atomic_load(&server->is_stopping)) {
            (void)close(fd);
            return NULL;
        }
        if (fd >= 0) {
            wire_set_limits(fd);
            atomic_fetch_add(&server->connections, 1);
            serve_connection(server, fd);
            (void)close(fd);
        }
    }
}

static void
server_start(struct server *server, bool is_ipc, enum behaviour behaviour)
{
    memset(server, 0, sizeof *server);
    server->behaviour = behaviour;
    server->is_ipc = is_ipc;
    if (is_ipc) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        (void)snprintf(address.sun_path, sizeof address.sun_path, "/tmp/test_rpc_channel.%d", (int)getpid());
        (void)snprintf(server->url, sizeof server->url, "ipc://%s", address.sun_path);
        (void)unlink(address.sun_path);
        server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(server->listener, 16), 0);
    } else {
        uint16_t port;
        server->listener = wire_listen_tcp(&port);
        (void)snprintf(server->url, sizeof server->url, "tcp://127.0.0.1:%u", port);
    }
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void
server_stop(struct server *server)
{
    atomic_store(&server->is_stopping, true);
    (void)shutdown(server->listener, SHUT_RDWR);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    (void)close(server->listener);
    if (server->is_ipc) {
        (void)unlink(server->url + strlen("ipc://"));
    }
}

static struct rpc_channel *
channel_to(const char *url)
{
    struct err_detail why = {0};
    struct rpc_channel *channel = NULL;
    struct rpc_channel_options options = {.url = url};
    assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_OK);
    assert_string_equal(rpc_channel_url(channel), url);
    return channel;
}

static void
start_echo(struct rpc_unary *call, const char *text)
{
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    char copy[64];
    (void)snprintf(copy, sizeof copy, "%s", text);
    request.text = copy;
    fc__test__v1__echo__echo(&call->service, &request, NULL, NULL);
}

static void
init_echo(struct rpc_unary *call, struct rpc_channel *channel)
{
    rpc_unary_init(call, channel, &fc__test__v1__echo__descriptor);
    call->timeout_ms = wire_limit_ms(10000);
}

// A whole call. Returns its error; why_out gets the status.
static enum err
echo(struct rpc_channel *channel, const char *text, struct rpc_unary *call)
{
    init_echo(call, channel);
    start_echo(call, text);
    enum err err = rpc_unary_wait(call);
    const Fc__Test__V1__EchoResponse *response = rpc_unary_response(call);
    if (err == ERR_OK) {
        assert_string_equal(response->text, text);
        assert_true(call->was_sent);
    } else {
        assert_null(response);
    }
    rpc_unary_deinit(call);
    return err;
}

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
    for (int i = 0; i < 3; i++) {
        assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
        assert_int_equal(call.status.code, RPC_UNAVAILABLE);
        assert_false(call.was_sent);
        (void)snprintf(expected, sizeof expected, "cannot connect to %s: connection refused; is fcd running there?",
            url);
        assert_string_equal(call.status.detail.message, expected);
    }
    rpc_channel_free(&channel);
    (void)close(listener);

    channel = channel_to("ipc:///nonexistent/fcd.sock");
    assert_int_equal(echo(channel, "hello", &call), ERR_UNAVAILABLE);
    assert_non_null(strstr(call.status.detail.message, "ipc:///nonexistent/fcd.sock"));
    rpc_channel_free(&channel);
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
