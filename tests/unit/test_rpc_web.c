// The web listener with a peer that the test scripts, and a client made of a socket.
//
// The functions of rpc_peer are defined here, so the linker does not take those of the library.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rpc/rpc_metrics.h"
#include "rpc/rpc_peer_priv.h"

enum {
    WAIT_MS = 10 * 1000,
    BLOCKED_MS = 300, // a socket that takes nothing for so long is blocked
    BINARY = 0x82,
    CLOSE = 0x88,
};

// ---------------------------------------------------------------- the peer

struct rpc_peer {
    const struct rpc_transport_ops *ops;
    void *transport;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct rpc_peer *last; // the newest peer that lives
    unsigned created;
    unsigned closed;
    unsigned batches;
    size_t received_bytes;
    bool is_full;
    bool takes_large;
    bool pauses; // stops reading after each message
} peers = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct rpc_tls_server *
rpc_server_tls(struct rpc_server *server)
{
    (void)server;
    return NULL;
}

static const struct rpc_content_handler *content_handler;

const struct rpc_content_handler *
rpc_server_content(const struct rpc_server *server)
{
    (void)server;
    return content_handler;
}

enum err
rpc_peer_new(struct rpc_server *server, const struct rpc_transport_ops *ops, void *transport, const char *address,
    struct rpc_peer **out)
{
    assert_null(server);
    assert_int_equal(strncmp(address, "127.0.0.1:", 10), 0);
    if (peers.is_full) {
        return ERR_LIMIT;
    }
    struct rpc_peer *peer = calloc(1, sizeof(*peer));
    assert_non_null(peer);
    peer->ops = ops;
    peer->transport = transport;
    pthread_mutex_lock(&peers.mutex);
    peers.last = peer;
    peers.created++;
    pthread_mutex_unlock(&peers.mutex);
    *out = peer;
    return ERR_OK;
}

// Sends back what it gets.
enum err
rpc_peer_receive(struct rpc_peer *peer, struct bytes_view data, struct bytes *large)
{
    if (large != NULL) {
        assert_ptr_equal(large->data, data.data);
        assert_int_equal(large->size, data.size);
    }
    enum err err = data.size < 4 ? ERR_PROTOCOL : peer->ops->queue(peer->transport, &data, 1);
    if (large != NULL && peers.takes_large) {
        free(large->data);
        *large = (struct bytes){0};
    }
    pthread_mutex_lock(&peers.mutex);
    peers.received_bytes += data.size;
    if (peers.pauses) {
        peer->ops->set_reading(peer->transport, false);
    }
    pthread_mutex_unlock(&peers.mutex);
    return err;
}

void
rpc_peer_batch_end(struct rpc_peer *peer)
{
    peers.batches++;
    peer->ops->flush(peer->transport);
}

enum err
rpc_peer_subscribe(struct rpc_peer *peer, struct bytes_view ticket)
{
    const struct bytes_view parts[] = {bytes_view_of_text("topic"), bytes_view_of_text("payload")};
    if (!bytes_view_equal(ticket, bytes_view_of_text("good"))) {
        return ERR_NOT_FOUND;
    }
    enum err err = peer->ops->queue(peer->transport, parts, 2);
    peer->ops->flush(peer->transport);
    return err;
}

void
rpc_peer_drained(struct rpc_peer *peer)
{
    (void)peer;
}

void
rpc_peer_closed(struct rpc_peer *peer)
{
    pthread_mutex_lock(&peers.mutex);
    if (peers.last == peer) {
        peers.last = NULL;
    }
    peers.closed++;
    pthread_cond_broadcast(&peers.changed);
    pthread_mutex_unlock(&peers.mutex);
    free(peer);
}

static void
wait_until_closed(unsigned count)
{
    pthread_mutex_lock(&peers.mutex);
    while (peers.closed < count) {
        pthread_cond_wait(&peers.changed, &peers.mutex);
    }
    pthread_mutex_unlock(&peers.mutex);
}

// ---------------------------------------------------------------- the client

static void *listener;
static char url[RPC_URL_MAX_BYTES];

static int
try_connect(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void
send_all(int fd, const void *data, size_t size)
{
    assert_int_equal(send(fd, data, size, MSG_NOSIGNAL), size);
}

// Receives exactly so many bytes; false when the connection ends before.
static bool
receive_all(int fd, void *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
        ssize_t n = recv(fd, (uint8_t *)data + at, size - at, 0);
        if (n <= 0) {
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

// Asks for a WebSocket and returns the status of the answer.
static unsigned
upgrade(int fd, const char *path, const char *protocol)
{
    char text[1024];
    size_t size = 0;
    int length = snprintf(text, sizeof(text),
        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: %s\r\n\r\n",
        path, protocol);
    send_all(fd, text, (size_t)length);
    do {
        assert_true(size < sizeof(text) - 1);
        assert_true(receive_all(fd, text + size, 1));
        text[++size] = '\0';
    } while (strstr(text, "\r\n\r\n") == NULL);
    return (unsigned)atoi(text + sizeof("HTTP/1.1 ") - 1);
}

static int
connect_for_calls(void)
{
    int fd = try_connect();
    assert_true(fd >= 0);
    assert_int_equal(upgrade(fd, "/rpc", "rep.sp.nanomsg.org"), 101);
    return fd;
}

// Sends one frame; its mask is zero.
static void
send_frame(int fd, uint8_t first_byte, const void *payload, size_t size)
{
    uint8_t header[14] = {first_byte};
    size_t header_size = 2;
    if (size < 126) {
        header[1] = (uint8_t)(0x80 | size);
    } else if (size <= UINT16_MAX) {
        header[1] = 0x80 | 126;
        bytes_store_be16(header + 2, (uint16_t)size);
        header_size = 4;
    } else {
        header[1] = 0x80 | 127;
        bytes_store_be64(header + 2, size);
        header_size = 10;
    }
    send_all(fd, header, header_size + 4);
    send_all(fd, payload, size);
}

// Receives one frame into memory that the caller frees; NULL when the connection has ended.
static uint8_t *
receive_frame(int fd, uint8_t *first_byte_out, size_t *size_out)
{
    uint8_t header[10];
    if (!receive_all(fd, header, 2)) {
        return NULL;
    }
    size_t size = header[1];
    if (size == 126) {
        assert_true(receive_all(fd, header + 2, 2));
        size = bytes_load_be16(header + 2);
    } else if (size == 127) {
        assert_true(receive_all(fd, header + 2, 8));
        size = bytes_load_be64(header + 2);
    }
    uint8_t *payload = malloc(size + 1);
    assert_non_null(payload);
    if (!receive_all(fd, payload, size)) {
        free(payload);
        return NULL;
    }
    *first_byte_out = header[0];
    *size_out = size;
    return payload;
}

static void
assert_receives(int fd, uint8_t first_byte, const void *expected, size_t expected_size)
{
    uint8_t received_first_byte = 0;
    size_t size = 0;
    uint8_t *payload = receive_frame(fd, &received_first_byte, &size);
    assert_non_null(payload);
    assert_int_equal(received_first_byte, first_byte);
    assert_int_equal(size, expected_size);
    assert_memory_equal(payload, expected, size);
    free(payload);
}

static void
assert_closed_with(int fd, uint16_t code)
{
    uint8_t expected[2];
    bytes_store_be16(expected, code);
    assert_receives(fd, CLOSE, expected, sizeof(expected));
}

// ---------------------------------------------------------------- the metrics

static struct {
    bool are_public;
    size_t bytes;
    enum err result;
} metrics;

bool
rpc_metrics_are_public(const struct rpc_server *server)
{
    assert_null(server);
    return metrics.are_public;
}

enum err
rpc_metrics_write(struct rpc_server *server, struct bytes *out)
{
    assert_null(server);
    for (size_t i = 0; i < metrics.bytes; i++) {
        assert_int_equal(ERR_OK, bytes_append(out, bytes_view_of(&"0123456789"[i % 10], 1)));
    }
    return metrics.result;
}

static int
set_up(void **state)
{
    (void)state;
    peers.last = NULL;
    peers.created = peers.closed = peers.batches = 0;
    peers.received_bytes = 0;
    peers.is_full = peers.takes_large = peers.pauses = false;
    metrics.are_public = false;
    metrics.bytes = 10;
    metrics.result = ERR_OK;
    return rpc_web_listen(NULL, "http://127.0.0.1:0", url, &listener, NULL) == ERR_OK ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    rpc_web_listener_ops.stop(listener);
    rpc_web_listener_ops.free(listener);
    return peers.created == peers.closed ? 0 : -1;
}

// ---------------------------------------------------------------- the tests

static void
test_listen_refuses_what_is_no_url(void **state)
{
    static const char *const wrong[] = {"", "http://", "http://127.0.0.1", "tcp://127.0.0.1:0", "http://:80",
        "http://127.0.0.1:", "http://127.0.0.1:x", "http://127.0.0.1:65536", "http://127.0.0.1:0/", "http://[]:0",
        "http://no such host:0"};
    char bound[RPC_URL_MAX_BYTES];
    void *none = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct err_detail why = {0};
        assert_int_equal(rpc_web_listen(NULL, wrong[i], bound, &none, &why), ERR_INVALID);
        assert_true(why.message[0] != '\0');
    }
    struct err_detail why = {0};
    assert_int_equal(rpc_web_listen(NULL, url, bound, &none, &why), ERR_BUSY);
    assert_non_null(strstr(why.message, url));
}

static void
test_messages_of_every_size_come_back(void **state)
{
    static const size_t sizes[] = {4, 125, 126, 127, 32767, 32768, 65535, 65536, 1000000, RPC_MESSAGE_MAX_BYTES};
    (void)state;
    uint8_t *message = malloc(RPC_MESSAGE_MAX_BYTES);
    assert_non_null(message);
    for (size_t i = 0; i < RPC_MESSAGE_MAX_BYTES; i++) {
        message[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    int fd = connect_for_calls();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        peers.takes_large = i % 2 == 0;
        send_frame(fd, BINARY, message, sizes[i]);
        assert_receives(fd, BINARY, message, sizes[i]);
    }
    free(message);
    (void)close(fd);
}

static void
test_fragments_are_one_message(void **state)
{
    (void)state;
    int fd = connect_for_calls();
    send_frame(fd, 0x02, "one ", 4);
    send_frame(fd, 0x00, "two ", 4);
    send_frame(fd, 0x89, "beat", 4);
    send_frame(fd, 0x00, "", 0);
    send_frame(fd, 0x80, "three", 5);
    assert_receives(fd, 0x8a, "beat", 4);
    assert_receives(fd, BINARY, "one two three", 13);
    (void)close(fd);
}

static void
test_messages_of_one_read_are_one_batch(void **state)
{
    uint8_t frames[100 * 10];
    (void)state;
    int fd = connect_for_calls();
    for (size_t i = 0; i < sizeof(frames); i += 10) {
        memcpy(frames + i, "\x82\x84\0\0\0\0call", 10);
    }
    send_all(fd, frames, sizeof(frames));
    for (size_t i = 0; i < 100; i++) {
        assert_receives(fd, BINARY, "call", 4);
    }
    assert_in_range(peers.batches, 1, 10);
    (void)close(fd);
}

static void
test_what_breaks_the_protocol_is_closed_with_a_code(void **state)
{
    uint8_t too_large[14] = {BINARY, 0x80 | 127};
    (void)state;
    int fd = connect_for_calls();
    send_frame(fd, 0x81, "text", 4);
    assert_closed_with(fd, 1003);
    (void)close(fd);

    fd = connect_for_calls();
    send_frame(fd, BINARY, "abc", 3);
    assert_closed_with(fd, 1002);
    (void)close(fd);

    fd = connect_for_calls();
    bytes_store_be64(too_large + 2, RPC_MESSAGE_MAX_BYTES + 1);
    send_all(fd, too_large, sizeof(too_large));
    send_all(fd, "some", 4);
    assert_closed_with(fd, 1009);
    (void)close(fd);
}

static void
test_a_ticket_brings_what_was_pushed_before(void **state)
{
    (void)state;
    int fd = try_connect();
    assert_int_equal(upgrade(fd, "/events/good", "pub.sp.nanomsg.org"), 101);
    assert_receives(fd, BINARY, "topicpayload", 12);
    send_frame(fd, BINARY, "call", 4);
    assert_closed_with(fd, 1008);
    (void)close(fd);

    fd = try_connect();
    assert_int_equal(upgrade(fd, "/events/bad", "pub.sp.nanomsg.org"), 404);
    (void)close(fd);
}

static void
test_a_full_server_says_so(void **state)
{
    (void)state;
    peers.is_full = true;
    int fd = try_connect();
    assert_int_equal(upgrade(fd, "/rpc", "rep.sp.nanomsg.org"), 503);
    (void)close(fd);
}

static void
test_a_peer_that_is_not_read_is_held_back(void **state)
{
    uint8_t frame[8 + 1024] = {BINARY, 0x80 | 126};
    size_t sent = 0;
    (void)state;
    bytes_store_be16(frame + 2, 1024);
    int fd = connect_for_calls();
    peers.pauses = true;
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        if (poll(&poll_fd, 1, BLOCKED_MS) == 0) {
            break;
        }
        size_t at = sent % sizeof(frame);
        ssize_t n = send(fd, frame + at, sizeof(frame) - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
        assert_true(sent < 64 * 1024 * 1024);
    }
    pthread_mutex_lock(&peers.mutex);
    assert_in_range(peers.received_bytes, 1024, 256 * 1024);
    peers.pauses = false;
    peers.last->ops->set_reading(peers.last->transport, true);
    pthread_mutex_unlock(&peers.mutex);
    for (size_t i = 0; i < sent / sizeof(frame); i++) {
        assert_receives(fd, BINARY, frame + 8, 1024);
    }
    (void)close(fd);
}

static void *
push_numbers(void *argument)
{
    struct rpc_peer *peer = argument;
    for (uint32_t i = 0; i < 10000; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        struct bytes_view part = bytes_view_of(number, sizeof(number));
        assert_int_equal(peer->ops->queue(peer->transport, &part, 1), ERR_OK);
        peer->ops->flush(peer->transport);
    }
    return NULL;
}

static void
test_what_another_thread_queues_arrives_in_order(void **state)
{
    pthread_t thread;
    (void)state;
    int fd = connect_for_calls();
    assert_int_equal(pthread_create(&thread, NULL, push_numbers, peers.last), 0);
    for (uint32_t i = 0; i < 10000; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        assert_receives(fd, BINARY, number, sizeof(number));
    }
    pthread_join(thread, NULL);
    assert_int_equal(peers.last->ops->queued_bytes(peers.last->transport), 0);
    (void)close(fd);
}

static void
queue_and_close(unsigned linger_ms)
{
    static const uint8_t block[1024 * 1024];
    struct bytes_view part = bytes_view_of(block, sizeof(block));
    pthread_mutex_lock(&peers.mutex);
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(peers.last->ops->queue(peers.last->transport, &part, 1), ERR_OK);
    }
    assert_in_range(peers.last->ops->queued_bytes(peers.last->transport), 16 * sizeof(block), 17 * sizeof(block));
    peers.last->ops->flush(peers.last->transport);
    peers.last->ops->close(peers.last->transport, linger_ms);
    assert_int_equal(peers.last->ops->queue(peers.last->transport, &part, 1), ERR_CLOSED);
    pthread_mutex_unlock(&peers.mutex);
}

static void
test_closing_with_patience_writes_what_is_queued(void **state)
{
    uint8_t first_byte = 0;
    size_t size = 0;
    (void)state;
    int fd = connect_for_calls();
    queue_and_close(WAIT_MS);
    for (size_t i = 0; i < 16; i++) {
        uint8_t *payload = receive_frame(fd, &first_byte, &size);
        assert_non_null(payload);
        free(payload);
        assert_int_equal(first_byte, BINARY);
        assert_int_equal(size, 1024 * 1024);
    }
    assert_closed_with(fd, 1001);
    wait_until_closed(1); // though the client does not answer the close
    (void)close(fd);
}

static void
test_closing_without_patience_ends_at_once(void **state)
{
    (void)state;
    int fd = connect_for_calls();
    queue_and_close(0);
    wait_until_closed(1);
    (void)close(fd);
}

static void
test_patience_ends_when_the_client_does_not_read(void **state)
{
    (void)state;
    int fd = connect_for_calls();
    queue_and_close(1);
    wait_until_closed(1);
    (void)close(fd);
}

static void
test_stopping_keeps_the_connections(void **state)
{
    (void)state;
    int fd = connect_for_calls();
    rpc_web_listener_ops.stop(listener);
    assert_int_equal(try_connect(), -1);
    send_frame(fd, BINARY, "call", 4);
    assert_receives(fd, BINARY, "call", 4);
    (void)close(fd);
    wait_until_closed(1);
}

static void
test_freeing_closes_them(void **state)
{
    uint8_t byte;
    (void)state;
    int fd = connect_for_calls();
    int stranger = try_connect();
    uint64_t started_ms = clock_monotonic_ms();
    rpc_web_listener_ops.stop(listener);
    rpc_web_listener_ops.free(listener);
    assert_in_range(clock_monotonic_ms() - started_ms, 0, RPC_HANDSHAKE_TIMEOUT_MS / 2); // it waits for no stranger
    assert_int_equal(peers.closed, 1);
    assert_false(receive_all(fd, &byte, 1));
    assert_false(receive_all(stranger, &byte, 1));
    (void)close(fd);
    (void)close(stranger);
    assert_int_equal(rpc_web_listen(NULL, "http://[::1]:0", url, &listener, NULL), ERR_OK);
}

// Sends a request and reads until the server closes. The caller frees the answer, which ends with NUL.
static char *
fetch(int fd, const char *request)
{
    struct bytes answer = {0};
    static uint8_t some[64 * 1024];
    ssize_t size;
    send_all(fd, request, strlen(request));
    while ((size = recv(fd, some, sizeof(some), 0)) > 0) {
        assert_int_equal(ERR_OK, bytes_append(&answer, bytes_view_of(some, (size_t)size)));
    }
    assert_int_equal(0, size);
    assert_int_equal(ERR_OK, bytes_append(&answer, bytes_view_of("", 1)));
    (void)close(fd);
    return (char *)answer.data;
}

static void
assert_answers(const char *request, const char *status_line, const char *body)
{
    char *answer = fetch(try_connect(), request);
    assert_int_equal(0, strncmp(answer, status_line, strlen(status_line)));
    const char *end = strstr(answer, "\r\n\r\n");
    assert_non_null(end);
    assert_non_null(strstr(end, body));
    free(answer);
}

#define GET_METRICS "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"

static void
test_metrics_are_what_the_server_says(void **state)
{
    (void)state;
    char *answer = fetch(try_connect(), GET_METRICS "\r\n");
    assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Length: 10\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n0123456789");
    free(answer);
    assert_answers("GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ", "nothing");
    assert_answers("GET /metric HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404 ", "nothing");
    assert_answers("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 404 ",
        "nothing");
    metrics.result = ERR_NO_MEMORY;
    assert_answers(GET_METRICS "\r\n", "HTTP/1.1 503 ", "memory");
}

static void
test_metrics_are_not_for_those_behind_a_proxy(void **state)
{
    (void)state;
    static const char forwarded[] = GET_METRICS "X-Forwarded-For: 192.0.2.7\r\n\r\n";
    assert_answers(forwarded, "HTTP/1.1 403 ", "--metrics public");
    metrics.are_public = true;
    assert_answers(forwarded, "HTTP/1.1 200 ", "0123456789");
}

static void
test_metrics_reach_a_slow_reader_whole(void **state)
{
    (void)state;
    enum { SIZE = 8 * 1000 * 1000 }; // more than the sockets between us take
    metrics.bytes = SIZE;
    char *answer = fetch(try_connect(), GET_METRICS "\r\n");
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(SIZE, strlen(body + 4));
    assert_int_equal('9', body[4 + SIZE - 1]);
    free(answer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_listen_refuses_what_is_no_url, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_messages_of_every_size_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fragments_are_one_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_messages_of_one_read_are_one_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_breaks_the_protocol_is_closed_with_a_code, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_ticket_brings_what_was_pushed_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_server_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_peer_that_is_not_read_is_held_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_another_thread_queues_arrives_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closing_with_patience_writes_what_is_queued, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closing_without_patience_ends_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patience_ends_when_the_client_does_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopping_keeps_the_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metrics_are_what_the_server_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metrics_are_not_for_those_behind_a_proxy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metrics_reach_a_slow_reader_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_freeing_closes_them, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
