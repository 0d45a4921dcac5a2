// For the tests of channels: a server that misbehaves as a test wants it, one connection at a time, and calls to it.
#ifndef TESTS_UNIT_ECHO_SERVER_H
#define TESTS_UNIT_ECHO_SERVER_H

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
    FAILS,         // with status and ErrorInfo, failures_left times; then echoes
    UNKNOWN_CODE,  // status 99
    SPEAKS_HTTP,   // instead of a handshake
    NO_HANDSHAKE,  // says nothing at all
    HANGS_UP,      // closes each connection at once
};

struct server {
    int listener;
    char url[128];
    bool is_ipc;
    _Atomic(enum behaviour) behaviour; // a test may change it
    size_t close_after;
    int failure_code;
    const char *failure_reason; // NULL: TOO_MANY_ECHOES
    uint32_t retry_after_ms;
    atomic_size_t failures_left;
    pthread_t thread;
    atomic_int connection; // that is being served
    atomic_size_t calls;
    atomic_size_t connections;
    bool takes_flags; // else it is one of the days before flags
    bool hides;       // takes flags, and answers no ping
    atomic_size_t hellos;
    atomic_size_t pings;
    atomic_size_t cancels;
    _Atomic(uint32_t) last_cancel;
    _Atomic(uint32_t) last_id;
    void (*on_stream)(struct server *server, uint32_t id, const struct rpc_frame *frame); // takes frames of streams
    atomic_size_t stream_frames;
    uint32_t cpu_permille;
    uint32_t last_timeout_ms;
    uint8_t last_request_id[16];
    char last_token[64];
    char last_method[64];
    atomic_bool is_stopping;
};

static inline void
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

static inline void
write_frame(struct server *server, uint32_t id, uint8_t flags, const ProtobufCMessage *header,
    const ProtobufCMessage *message)
{
    struct bytes out = {0};
    struct bytes framed = {0};
    uint8_t route[4];
    bytes_store_be32(route, id);
    assert_int_equal(bytes_append(&out, bytes_view_of(route, sizeof route)), ERR_OK);
    assert_int_equal(rpc_frame_append(&out, flags, header, message, NULL), ERR_OK);
    wire_append_message(&framed, server->is_ipc, out.data, out.size);
    (void)!send(atomic_load(&server->connection), framed.data, framed.size, MSG_NOSIGNAL); // the client may have gone
    bytes_free(&out);
    bytes_free(&framed);
}

static inline void
write_control(struct server *server, Fc__Rpc__V1__Control__KindCase kind, void *body)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    control.kind_case = kind;
    control.hello = body; // one of a union of pointers
    write_frame(server, RPC_FRAME_CONTROL_ID, RPC_FRAME_CONTROL, &control.base, NULL);
}

static inline void
serve_control(struct server *server, struct bytes_view encoded)
{
    Fc__Rpc__V1__Control *control = fc__rpc__v1__control__unpack(NULL, encoded.size, encoded.data);
    Fc__Rpc__V1__Load load = FC__RPC__V1__LOAD__INIT;
    assert_non_null(control);
    load.cpu_permille = server->cpu_permille;
    if (control->kind_case == FC__RPC__V1__CONTROL__KIND_HELLO) {
        Fc__Rpc__V1__Hello hello = FC__RPC__V1__HELLO__INIT;
        hello.load = &load;
        write_control(server, FC__RPC__V1__CONTROL__KIND_HELLO, &hello);
        atomic_fetch_add(&server->hellos, 1);
    } else if (control->kind_case == FC__RPC__V1__CONTROL__KIND_PING) {
        Fc__Rpc__V1__Pong pong = FC__RPC__V1__PONG__INIT;
        pong.load = &load;
        if (!server->hides) {
            write_control(server, FC__RPC__V1__CONTROL__KIND_PONG, &pong);
        }
        atomic_fetch_add(&server->pings, 1);
    }
    fc__rpc__v1__control__free_unpacked(control, NULL);
}

// What a server of the days before flags makes of any of them.
static inline void
refuse_flags(struct server *server, uint32_t id)
{
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    char message[] = "this server knows no frame with flags";
    header.code = FC__RPC__V1__CODE__UNIMPLEMENTED;
    header.message = message;
    write_frame(server, id, 0, &header.base, NULL);
}

// Takes a frame with flags. False: it has none.
static inline bool
serve_flags(struct server *server, const struct bytes *call)
{
    struct rpc_frame frame;
    uint32_t id = bytes_load_be32(call->data);
    assert_int_equal(rpc_frame_parse(bytes_view_of(call->data + 4, call->size - 4), &frame), ERR_OK);
    if (frame.flags == 0) {
        atomic_store(&server->last_id, id);
        return false;
    }
    if (!server->takes_flags) {
        refuse_flags(server, id);
    } else if (frame.flags == RPC_FRAME_CONTROL) {
        assert_int_equal(id, RPC_FRAME_CONTROL_ID);
        serve_control(server, frame.header);
    } else if (frame.flags == RPC_FRAME_CANCEL) {
        atomic_store(&server->last_cancel, id);
        atomic_fetch_add(&server->cancels, 1);
    } else if (server->on_stream != NULL) {
        server->on_stream(server, id, &frame);
        atomic_fetch_add(&server->stream_frames, 1);
    }
    return true;
}

static inline void
note_header(struct server *server, struct bytes_view encoded)
{
    Fc__Rpc__V1__RequestHeader *header = fc__rpc__v1__request_header__unpack(NULL, encoded.size, encoded.data);
    assert_non_null(header);
    (void)snprintf(server->last_token, sizeof server->last_token, "%s", header->token);
    (void)snprintf(server->last_method, sizeof server->last_method, "%s", header->method);
    assert_int_equal(header->request_id.len, 16);
    assert_true(header->timeout_ms > 0);
    server->last_timeout_ms = header->timeout_ms;
    memcpy(server->last_request_id, header->request_id.data, sizeof server->last_request_id);
    fc__rpc__v1__request_header__free_unpacked(header, NULL);
}

static inline void
answer_failure(struct server *server, int fd, const uint8_t *id, int code)
{
    uint8_t packed[64];
    Fc__Rpc__V1__ErrorInfo info = FC__RPC__V1__ERROR_INFO__INIT;
    Fc__Rpc__V1__Detail other = FC__RPC__V1__DETAIL__INIT;
    Fc__Rpc__V1__Detail detail = FC__RPC__V1__DETAIL__INIT;
    Fc__Rpc__V1__Detail *details[] = {&other, &detail};
    char reason[32];
    char other_type[] = "some.other.Type";
    char type[] = "fc.rpc.v1.ErrorInfo";
    char message[] = "there are too many echoes";
    (void)snprintf(reason, sizeof reason, "%s",
        server->failure_reason != NULL ? server->failure_reason : "TOO_MANY_ECHOES");
    info.reason = reason;
    info.retry_after_ms = server->retry_after_ms;
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

static inline void
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
        if (server->failures_left == 0) {
            answer(server, fd, call->data, 1, &ok, frame.message);
        } else {
            server->failures_left--;
            answer_failure(server, fd, call->data, server->failure_code);
        }
        break;
    case UNKNOWN_CODE:
        answer_failure(server, fd, call->data, 99);
        break;
    case SILENT:
    case SPEAKS_HTTP:
    case NO_HANDSHAKE:
    case HANGS_UP:
        break;
    }
}

// Reads a message, or finds the connection at its end.
static inline bool
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

static inline void
serve_connection(struct server *server, int fd)
{
    struct bytes kept = {0};
    struct bytes call = {0};
    size_t calls = 0;
    if (server->behaviour == HANGS_UP) {
        return;
    }
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
        if (serve_flags(server, &call)) {
            bytes_free(&call);
            continue;
        }
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

static inline void *
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
            atomic_store(&server->connection, fd);
            serve_connection(server, fd);
            (void)close(fd);
        }
    }
}

// server_bind takes an address that refuses connections until server_run.
static inline void
server_bind(struct server *server, bool is_ipc, enum behaviour behaviour)
{
    memset(server, 0, sizeof *server);
    server->behaviour = behaviour;
    server->failure_code = RPC_RESOURCE_EXHAUSTED;
    server->retry_after_ms = 1500;
    server->failures_left = SIZE_MAX;
    server->is_ipc = is_ipc;
    if (is_ipc) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        (void)snprintf(address.sun_path, sizeof address.sun_path, "/tmp/test_rpc_channel.%d", (int)getpid());
        (void)snprintf(server->url, sizeof server->url, "ipc://%s", address.sun_path);
        (void)unlink(address.sun_path);
        server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    } else {
        uint16_t port;
        server->listener = wire_bind_tcp(&port);
        (void)snprintf(server->url, sizeof server->url, "tcp://127.0.0.1:%u", port);
    }
}

static inline void
server_run(struct server *server)
{
    assert_int_equal(listen(server->listener, 128), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static inline void
server_start(struct server *server, bool is_ipc, enum behaviour behaviour)
{
    server_bind(server, is_ipc, behaviour);
    server_run(server);
}

// server_kill ends a server that has a connection and takes no other.
static inline void
server_kill(struct server *server)
{
    atomic_store(&server->is_stopping, true);
    (void)shutdown(server->listener, SHUT_RDWR);
    (void)shutdown(atomic_load(&server->connection), SHUT_RDWR);
}

static inline void
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

// One of the counters of the server, for wire_wait_until.
struct server_count {
    const atomic_size_t *counter;
    size_t wanted;
};

static inline bool
server_has_counted(void *context)
{
    const struct server_count *count = context;
    return atomic_load(count->counter) >= count->wanted;
}

static inline void
server_wait_for_count(const atomic_size_t *counter, size_t wanted)
{
    struct server_count count = {.counter = counter, .wanted = wanted};
    assert_true(wire_wait_until(server_has_counted, &count, 10000));
}

static inline struct rpc_channel *
channel_to(const char *url)
{
    struct err_detail why = {0};
    struct rpc_channel *channel = NULL;
    struct rpc_channel_options options = {.url = url};
    assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_OK);
    assert_string_equal(rpc_channel_url(channel), url);
    return channel;
}

static inline void
start_echo(struct rpc_unary *call, const char *text)
{
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    char copy[64];
    (void)snprintf(copy, sizeof copy, "%s", text);
    request.text = copy;
    fc__test__v1__echo__echo(&call->service, &request, NULL, NULL);
}

static inline void
init_echo(struct rpc_unary *call, struct rpc_channel *channel)
{
    rpc_unary_init(call, channel, &fc__test__v1__echo__descriptor);
    call->timeout_ms = wire_limit_ms(10000);
}

// A whole call. Returns its error; why_out gets the status.
static inline enum err
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

#endif
