#include <stdatomic.h>

#include <nng/nng.h>

#include "rpc/sp_pipe.h"
#include "wire_support.h"

enum {
    MAX_MESSAGE_BYTES = 8 * 1024 * 1024 + 1024,
};

// What a test sees of a pipe, and what it wants done in the handlers.
struct recorder {
    struct sp_pipe *pipe;
    bool is_echoing;
    bool is_pausing; // stops reading at each message
    bool is_taking_large;
    enum err on_peer_result;
    atomic_int inside; // handlers running now

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum sp_protocol peer;
    struct bytes received; // contents of all messages, one after the other
    size_t messages;
    size_t batches;
    size_t drained;
    size_t closed;
    enum err reason;
};

static void
enter(struct recorder *recorder)
{
    assert_int_equal(atomic_fetch_add(&recorder->inside, 1), 0);
    (void)pthread_mutex_lock(&recorder->mutex);
}

static void
leave(struct recorder *recorder)
{
    atomic_fetch_sub(&recorder->inside, 1);
    (void)pthread_cond_broadcast(&recorder->changed);
    (void)pthread_mutex_unlock(&recorder->mutex);
}

static enum err
on_peer(void *owner, enum sp_protocol peer, enum sp_protocol *own_out)
{
    struct recorder *recorder = owner;
    enter(recorder);
    recorder->peer = peer;
    if (peer == SP_REQ) {
        *own_out = SP_REP;
    }
    enum err err = recorder->on_peer_result;
    leave(recorder);
    return err;
}

static void
on_message(void *owner, struct sp_message *message)
{
    struct recorder *recorder = owner;
    enter(recorder);
    recorder->messages++;
    assert_int_equal(recorder->closed, 0);
    assert_int_equal(bytes_append(&recorder->received, message->data), ERR_OK);
    if (recorder->is_echoing) {
        assert_int_equal(sp_pipe_queue(recorder->pipe, &message->data, 1), ERR_OK);
    }
    if (recorder->is_pausing) {
        sp_pipe_set_reading(recorder->pipe, false);
    }
    if (recorder->is_taking_large && message->large != NULL) {
        struct bytes taken = *message->large;
        *message->large = (struct bytes){0};
        bytes_free(&taken);
    }
    leave(recorder);
}

static void
on_batch_end(void *owner)
{
    struct recorder *recorder = owner;
    enter(recorder);
    recorder->batches++;
    leave(recorder);
    sp_pipe_flush(recorder->pipe);
    if (sp_pipe_tell_drained(recorder->pipe)) {
        enter(recorder);
        recorder->drained++;
        leave(recorder);
    }
}

static void
on_drained(void *owner)
{
    struct recorder *recorder = owner;
    enter(recorder);
    recorder->drained++;
    leave(recorder);
}

static void
on_closed(void *owner, enum err reason)
{
    struct recorder *recorder = owner;
    enter(recorder);
    recorder->closed++;
    recorder->reason = reason;
    leave(recorder);
}

static const struct sp_pipe_handlers handlers = {
    .on_peer = on_peer,
    .on_message = on_message,
    .on_batch_end = on_batch_end,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

// A listener on nng's streams, a plain socket connected to it, and the pipe at its end.
struct fixture {
    struct recorder recorder;
    nng_stream_listener *listener;
    nng_aio *accept_aio;
    uint16_t port;
    char path[64];
    int fd;
};

static nng_stream *
accept_stream(struct fixture *fixture)
{
    nng_stream_listener_accept(fixture->listener, fixture->accept_aio);
    nng_aio_wait(fixture->accept_aio);
    assert_int_equal(nng_aio_result(fixture->accept_aio), 0);
    return nng_aio_get_output(fixture->accept_aio, 0);
}

static void
begin(struct fixture *fixture, bool is_ipc)
{
    char url[96] = "tcp://127.0.0.1:0";
    memset(fixture, 0, sizeof *fixture);
    (void)pthread_mutex_init(&fixture->recorder.mutex, NULL);
    (void)pthread_cond_init(&fixture->recorder.changed, NULL);
    if (is_ipc) {
        static unsigned serial;
        (void)snprintf(fixture->path, sizeof fixture->path, "/tmp/test_sp_pipe.%d.%u", (int)getpid(), serial++);
        (void)snprintf(url, sizeof url, "ipc://%s", fixture->path);
    }
    assert_int_equal(nng_stream_listener_alloc(&fixture->listener, url), 0);
    assert_int_equal(nng_stream_listener_listen(fixture->listener), 0);
    assert_int_equal(nng_aio_alloc(&fixture->accept_aio, NULL, NULL), 0);
    if (!is_ipc) {
        int port = 0;
        assert_int_equal(nng_stream_listener_get_int(fixture->listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
        fixture->port = (uint16_t)port;
    }
}

static void
connect_pipe(struct fixture *fixture, unsigned handshake_timeout_ms)
{
    bool is_ipc = fixture->path[0] != '\0';
    fixture->fd = is_ipc ? wire_connect_ipc(fixture->path) : wire_connect_tcp(fixture->port);
    const struct sp_pipe_options options = {
        .handlers = &handlers,
        .owner = &fixture->recorder,
        .max_message_bytes = MAX_MESSAGE_BYTES,
        .handshake_timeout_ms = handshake_timeout_ms,
        .is_ipc = is_ipc,
    };
    assert_int_equal(sp_pipe_new(accept_stream(fixture), &options, &fixture->recorder.pipe), ERR_OK);
    sp_pipe_start(fixture->recorder.pipe);
}

static void
shake_hands(struct fixture *fixture)
{
    wire_send_header(fixture->fd, SP_REQ);
    wire_expect_header(fixture->fd, SP_REP);
}

static void
wait_closed(struct recorder *recorder, enum err reason)
{
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
    (void)pthread_mutex_lock(&recorder->mutex);
    while (recorder->closed == 0) {
        assert_true(wire_wait(&recorder->changed, &recorder->mutex, end_ms));
    }
    assert_int_equal(recorder->reason, reason);
    assert_int_equal(recorder->closed, 1);
    (void)pthread_mutex_unlock(&recorder->mutex);
}

static void
wait_messages(struct recorder *recorder, size_t count)
{
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
    (void)pthread_mutex_lock(&recorder->mutex);
    while (recorder->messages < count) {
        assert_true(wire_wait(&recorder->changed, &recorder->mutex, end_ms));
    }
    assert_int_equal(recorder->messages, count);
    (void)pthread_mutex_unlock(&recorder->mutex);
}

// Releases a pipe that has closed, so that another can be connected.
static void
release(struct fixture *fixture)
{
    (void)close(fixture->fd);
    sp_pipe_release(fixture->recorder.pipe);
    sp_pipe_drain_reaper();
    assert_int_equal(fixture->recorder.closed, 1);
    bytes_free(&fixture->recorder.received);
    fixture->recorder.messages = 0;
    fixture->recorder.batches = 0;
    fixture->recorder.drained = 0;
    fixture->recorder.closed = 0;
}

static void
end(struct fixture *fixture)
{
    nng_stream_listener_close(fixture->listener);
    nng_aio_free(fixture->accept_aio);
    nng_stream_listener_free(fixture->listener);
    (void)pthread_cond_destroy(&fixture->recorder.changed);
    (void)pthread_mutex_destroy(&fixture->recorder.mutex);
}

static void
test_handshake_byte_by_byte_then_echo(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    connect_pipe(&fixture, 0);
    fixture.recorder.is_echoing = true;
    assert_memory_equal(sp_pipe_address(fixture.recorder.pipe), "127.0.0.1:", 10);
    struct bytes out = {0};
    wire_append_header(&out, SP_REQ);
    wire_append_message(&out, false, "hello", 5);
    for (size_t i = 0; i < out.size; i++) {
        wire_write(fixture.fd, out.data + i, 1);
    }
    bytes_free(&out);
    wire_expect_header(fixture.fd, SP_REP);
    struct bytes echo = wire_read_message(fixture.fd, false);
    assert_true(bytes_view_equal(bytes_as_view(&echo), bytes_view_of_text("hello")));
    bytes_free(&echo);
    assert_int_equal(fixture.recorder.peer, SP_REQ);
    (void)shutdown(fixture.fd, SHUT_WR);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);
    end(&fixture);
}

static void
test_many_messages_in_one_write(void **state)
{
    (void)state;
    enum {
        COUNT = 20000,
    };
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        begin(&fixture, is_ipc);
        connect_pipe(&fixture, 0);
        shake_hands(&fixture);
        struct bytes out = {0};
        for (uint32_t i = 0; i < COUNT; i++) {
            uint8_t content[16] = {0};
            bytes_store_be32(content, i);
            wire_append_message(&out, is_ipc, content, sizeof content);
        }
        wire_write(fixture.fd, out.data, out.size);
        bytes_free(&out);
        wait_messages(&fixture.recorder, COUNT);
        (void)close(fixture.fd);
        fixture.fd = -1;
        wait_closed(&fixture.recorder, ERR_CLOSED);
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_int_equal(bytes_load_be32(fixture.recorder.received.data + 16 * (size_t)i), i);
        }
        assert_true(fixture.recorder.batches > 0);
        assert_true(fixture.recorder.batches < COUNT / 10);
        release(&fixture);
        end(&fixture);
    }
}

static void *
skip_everything(void *arg)
{
    uint8_t skipped[4096];
    while (recv(*(int *)arg, skipped, sizeof skipped, 0) > 0) {
    }
    return NULL;
}

// Every handler asserts that no other is running (enter).
static void
test_handlers_never_overlap(void **state)
{
    (void)state;
    enum {
        COUNT = 3000,
    };
    struct fixture fixture;
    pthread_t reader;
    begin(&fixture, false);
    connect_pipe(&fixture, 0);
    fixture.recorder.is_echoing = true;
    shake_hands(&fixture);
    assert_int_equal(pthread_create(&reader, NULL, skip_everything, &fixture.fd), 0);
    for (int i = 0; i < COUNT; i++) {
        wire_send_message(fixture.fd, false, "ping", 4);
    }
    wait_messages(&fixture.recorder, COUNT);
    assert_true(fixture.recorder.drained > 0);
    sp_pipe_close(fixture.recorder.pipe, 0);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    assert_int_equal(pthread_join(reader, NULL), 0);
    release(&fixture);
    end(&fixture);
}

static void
test_a_stranger_is_cut_off(void **state)
{
    (void)state;
    struct {
        const char *bytes;
        size_t size;
        enum err reason;
    } cases[] = {
        {"GET / HTTP/1.1\r\n", 16, ERR_PROTOCOL}, {"\0SP\0\0\x30\0\0\x80\0\0\0\0\0\0\0", 16, ERR_TOO_BIG},
        {"\0SP\0\0\x30\0\0\0\0\0\0\0\x80\x04\x01", 16, ERR_TOO_BIG}, // one over the limit
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture fixture;
        begin(&fixture, false);
        connect_pipe(&fixture, 0);
        wire_write(fixture.fd, cases[i].bytes, cases[i].size);
        wait_closed(&fixture.recorder, cases[i].reason);
        wire_expect_end(fixture.fd);
        assert_int_equal(fixture.recorder.messages, 0);
        release(&fixture);
        end(&fixture);
    }
}

static void
test_the_owner_refuses_a_peer(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    fixture.recorder.on_peer_result = ERR_DENIED;
    connect_pipe(&fixture, 0);
    struct bytes_view part = bytes_view_of_text("too early");
    assert_int_equal(sp_pipe_queue(fixture.recorder.pipe, &part, 1), ERR_PRECONDITION);
    wire_send_header(fixture.fd, SP_SUB);
    wait_closed(&fixture.recorder, ERR_DENIED);
    wire_expect_end(fixture.fd);
    assert_int_equal(sp_pipe_queue(fixture.recorder.pipe, &part, 1), ERR_CLOSED);
    release(&fixture);
    end(&fixture);
}

static void
test_a_silent_peer_is_cut_off(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    connect_pipe(&fixture, 20);
    wire_write(fixture.fd, "\0SP\0\0", 5); // most of a header is not a header
    wait_closed(&fixture.recorder, ERR_TIMEOUT);
    wire_expect_end(fixture.fd);
    release(&fixture);
    end(&fixture);
}

static void
test_large_messages_and_messages_of_nothing(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 8 * 1024 * 1024, 0, 300000, 65536, 1, 65528, MAX_MESSAGE_BYTES};
    for (int variant = 0; variant < 4; variant++) {
        bool is_ipc = variant % 2 == 1;
        struct fixture fixture;
        begin(&fixture, is_ipc);
        connect_pipe(&fixture, 0);
        fixture.recorder.is_echoing = true;
        fixture.recorder.is_taking_large = variant >= 2;
        shake_hands(&fixture);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            uint8_t *content = malloc(sizes[i] + 1);
            assert_non_null(content);
            memset(content, (int)(i + 1), sizes[i]);
            wire_send_message(fixture.fd, is_ipc, content, sizes[i]);
            struct bytes echo = wire_read_message(fixture.fd, is_ipc);
            assert_int_equal(echo.size, sizes[i]);
            assert_memory_equal(echo.data, content, sizes[i]);
            bytes_free(&echo);
            free(content);
        }
        (void)shutdown(fixture.fd, SHUT_WR);
        wait_closed(&fixture.recorder, ERR_CLOSED);
        assert_true(fixture.recorder.drained > 0);
        release(&fixture);
        end(&fixture);
    }
}

static void
test_a_message_cut_short_is_an_error(void **state)
{
    (void)state;
    static const size_t sizes[] = {100, 1024 * 1024};
    for (size_t i = 0; i < 2; i++) {
        struct fixture fixture;
        begin(&fixture, false);
        connect_pipe(&fixture, 0);
        shake_hands(&fixture);
        struct bytes out = {0};
        wire_append_length(&out, false, sizes[i]);
        assert_int_equal(bytes_append(&out, bytes_view_of_text("beginning")), ERR_OK);
        wire_write(fixture.fd, out.data, out.size);
        bytes_free(&out);
        (void)shutdown(fixture.fd, SHUT_WR);
        wait_closed(&fixture.recorder, ERR_IO);
        assert_int_equal(fixture.recorder.messages, 0);
        release(&fixture);
        end(&fixture);
    }
}

static void
test_back_pressure(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    connect_pipe(&fixture, 0);
    fixture.recorder.is_pausing = true;
    shake_hands(&fixture);
    wire_send_message(fixture.fd, false, "one", 3);
    wait_messages(&fixture.recorder, 1);
    // More than the sockets' buffers hold cannot be written while nobody reads.
    struct timeval at_once = {.tv_usec = 50 * 1000};
    assert_int_equal(setsockopt(fixture.fd, SOL_SOCKET, SO_SNDTIMEO, &at_once, sizeof at_once), 0);
    struct bytes out = {0};
    char *content = calloc(1, 1024 * 1024);
    assert_non_null(content);
    wire_append_message(&out, false, content, 1024 * 1024);
    free(content);
    size_t messages = 0;
    ssize_t n = 0;
    for (; messages < 64; messages++) {
        n = send(fixture.fd, out.data, out.size, MSG_NOSIGNAL);
        if (n < (ssize_t)out.size) {
            break;
        }
    }
    assert_true(messages < 64);
    wait_messages(&fixture.recorder, 1);

    (void)pthread_mutex_lock(&fixture.recorder.mutex);
    fixture.recorder.is_pausing = false;
    (void)pthread_mutex_unlock(&fixture.recorder.mutex);
    sp_pipe_set_reading(fixture.recorder.pipe, true);
    wire_set_limits(fixture.fd);
    size_t sent = n < 0 ? 0 : (size_t)n;
    wire_write(fixture.fd, out.data + sent, out.size - sent);
    wait_messages(&fixture.recorder, 1 + messages + 1);
    bytes_free(&out);
    sp_pipe_close(fixture.recorder.pipe, 0);
    sp_pipe_close(fixture.recorder.pipe, 0);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);
    end(&fixture);
}

static void
queue_megabytes(struct fixture *fixture, size_t count)
{
    char *content = malloc(1024 * 1024);
    assert_non_null(content);
    memset(content, 'q', 1024 * 1024);
    for (size_t i = 0; i < count; i++) {
        struct bytes_view parts[] = {bytes_view_of(content, 1000), bytes_view_of(content, 1024 * 1024 - 1000)};
        assert_int_equal(sp_pipe_queue(fixture->recorder.pipe, parts, 2), ERR_OK);
    }
    free(content);
    sp_pipe_flush(fixture->recorder.pipe);
}

// Queues a message with a large last part, and uses the part's memory for something else at once.
static void
queue_and_overwrite(struct sp_pipe *pipe, uint8_t *content, size_t size, int value)
{
    for (size_t i = 0; i < size; i++) {
        content[i] = (uint8_t)((i + (size_t)value) % 251);
    }
    struct bytes_view parts[] = {bytes_view_of_text("head"), bytes_view_of(content, size)};
    assert_int_equal(sp_pipe_queue(pipe, parts, 2), ERR_OK);
    memset(content, 0xff, size);
}

static void
expect_filled_message(int fd, bool is_ipc, size_t size, int value)
{
    struct bytes message = wire_read_message(fd, is_ipc);
    assert_int_equal(message.size, 4 + size);
    assert_memory_equal(message.data, "head", 4);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(message.data[4 + i], (i + (size_t)value) % 251);
    }
    bytes_free(&message);
}

static void
test_large_parts_are_borrowed_and_keep_their_place(void **state)
{
    (void)state;
    enum {
        FITS = 64 * 1024,           // the socket's buffer
        DOES_NOT = 7 * 1024 * 1024, // so its end has to wait for the reader
    };
    uint8_t *content = malloc(DOES_NOT);
    assert_non_null(content);
    for (int is_ipc = 0; is_ipc < 2; is_ipc++) {
        struct fixture fixture;
        begin(&fixture, is_ipc);
        connect_pipe(&fixture, 0);
        shake_hands(&fixture);
        struct sp_pipe *pipe = fixture.recorder.pipe;
        struct bytes_view small = bytes_view_of_text("small");
        assert_int_equal(sp_pipe_queue(pipe, &small, 1), ERR_OK); // not flushed, and yet before the next
        queue_and_overwrite(pipe, content, FITS, 1);
        queue_and_overwrite(pipe, content, DOES_NOT, 2);
        assert_true(sp_pipe_queued_bytes(pipe) > 0);
        queue_and_overwrite(pipe, content, FITS, 3); // while the one before is being written
        assert_int_equal(sp_pipe_queue(pipe, &small, 1), ERR_OK);

        for (int value = 0; value < 5; value++) {
            if (value == 0 || value == 4) {
                struct bytes message = wire_read_message(fixture.fd, is_ipc);
                assert_true(bytes_view_equal(bytes_as_view(&message), small));
                bytes_free(&message);
            } else {
                expect_filled_message(fixture.fd, is_ipc, value == 2 ? DOES_NOT : FITS, value);
            }
        }
        (void)shutdown(fixture.fd, SHUT_WR);
        wait_closed(&fixture.recorder, ERR_CLOSED);
        release(&fixture);
        end(&fixture);
    }
    free(content);
}

static void
test_close_while_writing(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    connect_pipe(&fixture, 0);
    shake_hands(&fixture);
    queue_megabytes(&fixture, 32);
    assert_true(sp_pipe_queued_bytes(fixture.recorder.pipe) > 1024 * 1024);
    sp_pipe_close(fixture.recorder.pipe, 0);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);

    // The same with a peer that goes.
    connect_pipe(&fixture, 0);
    shake_hands(&fixture);
    queue_megabytes(&fixture, 32);
    wire_reset(fixture.fd);
    fixture.fd = -1;
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
    (void)pthread_mutex_lock(&fixture.recorder.mutex);
    while (fixture.recorder.closed == 0) {
        assert_true(wire_wait(&fixture.recorder.changed, &fixture.recorder.mutex, end_ms));
    }
    (void)pthread_mutex_unlock(&fixture.recorder.mutex);
    release(&fixture);
    end(&fixture);
}

static void
test_linger_writes_everything_first(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    connect_pipe(&fixture, 0);
    shake_hands(&fixture);
    queue_megabytes(&fixture, 16);
    // What the peer says meanwhile is of no interest, and must not reset the connection either.
    wire_send_message(fixture.fd, false, "ignored", 7);
    sp_pipe_close(fixture.recorder.pipe, wire_limit_ms(5000));
    struct bytes_view part = bytes_view_of_text("too late");
    assert_int_equal(sp_pipe_queue(fixture.recorder.pipe, &part, 1), ERR_CLOSED);
    for (int i = 0; i < 16; i++) {
        struct bytes message = wire_read_message(fixture.fd, false);
        assert_int_equal(message.size, 1024 * 1024);
        bytes_free(&message);
    }
    wire_expect_end(fixture.fd);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);
    end(&fixture);
}

static void
test_linger_ends(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    connect_pipe(&fixture, 0);
    shake_hands(&fixture);
    queue_megabytes(&fixture, 32);
    sp_pipe_close(fixture.recorder.pipe, 20);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);

    // Nothing to write: at once.
    connect_pipe(&fixture, 0);
    shake_hands(&fixture);
    sp_pipe_close(fixture.recorder.pipe, 3600 * 1000);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);
    end(&fixture);
}

static void
test_closed_before_it_was_started(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    fixture.fd = wire_connect_tcp(fixture.port);
    const struct sp_pipe_options options = {
        .handlers = &handlers,
        .owner = &fixture.recorder,
        .max_message_bytes = MAX_MESSAGE_BYTES,
    };
    assert_int_equal(sp_pipe_new(accept_stream(&fixture), &options, &fixture.recorder.pipe), ERR_OK);
    sp_pipe_close(fixture.recorder.pipe, 0);
    sp_pipe_start(fixture.recorder.pipe);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    release(&fixture);
    end(&fixture);
}

static void
test_dialled_pipe_speaks_first(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    uint16_t port;
    char url[64];
    int listener = wire_listen_tcp(&port);
    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", port);
    nng_stream_dialer *dialer;
    assert_int_equal(nng_stream_dialer_alloc(&dialer, url), 0);
    nng_stream_dialer_dial(dialer, fixture.accept_aio);
    nng_aio_wait(fixture.accept_aio);
    assert_int_equal(nng_aio_result(fixture.accept_aio), 0);
    const struct sp_pipe_options options = {
        .handlers = &handlers,
        .owner = &fixture.recorder,
        .max_message_bytes = 100,
        .is_dialled = true,
        .dialled_as = SP_REQ,
    };
    nng_stream *stream = nng_aio_get_output(fixture.accept_aio, 0);
    assert_int_equal(sp_pipe_new(stream, &options, &fixture.recorder.pipe), ERR_OK);
    // A call need not wait for the peer's half of the handshake.
    struct bytes_view parts[] = {bytes_view_of_text("first "), bytes_view_of_text("call")};
    assert_int_equal(sp_pipe_queue(fixture.recorder.pipe, parts, 2), ERR_OK);
    sp_pipe_start(fixture.recorder.pipe);
    fixture.fd = wire_accept(listener);
    wire_expect_header(fixture.fd, SP_REQ);
    struct bytes call = wire_read_message(fixture.fd, false);
    assert_true(bytes_view_equal(bytes_as_view(&call), bytes_view_of_text("first call")));
    bytes_free(&call);
    wire_send_header(fixture.fd, SP_REP);
    wire_send_message(fixture.fd, false, "answer", 6);
    wait_messages(&fixture.recorder, 1);
    assert_int_equal(fixture.recorder.peer, SP_REP);
    sp_pipe_close(fixture.recorder.pipe, 0);
    wait_closed(&fixture.recorder, ERR_CLOSED);
    wire_expect_end(fixture.fd);
    release(&fixture);
    nng_stream_dialer_free(dialer);
    (void)close(listener);
    end(&fixture);
}

// Threads that write while the pipe closes under them.
struct writer {
    struct sp_pipe *pipe;
    pthread_t thread;
};

static void *
write_until_closed(void *arg)
{
    struct writer *writer = arg;
    struct bytes_view part = bytes_view_of_text("some bytes of a message");
    while (sp_pipe_queue(writer->pipe, &part, 1) != ERR_CLOSED) {
        sp_pipe_flush(writer->pipe);
    }
    sp_pipe_set_reading(writer->pipe, true);
    sp_pipe_flush(writer->pipe);
    sp_pipe_release(writer->pipe);
    return NULL;
}

static void
test_close_under_traffic(void **state)
{
    (void)state;
    enum {
        ROUNDS = 100,
        WRITERS = 2,
    };
    struct fixture fixture;
    begin(&fixture, false);
    for (int round = 0; round < ROUNDS; round++) {
        connect_pipe(&fixture, 0);
        fixture.recorder.is_echoing = false;
        shake_hands(&fixture);
        struct writer writers[WRITERS];
        for (int i = 0; i < WRITERS; i++) {
            writers[i].pipe = fixture.recorder.pipe;
            sp_pipe_hold(fixture.recorder.pipe);
            assert_int_equal(pthread_create(&writers[i].thread, NULL, write_until_closed, &writers[i]), 0);
        }
        for (int i = 0; i < 20; i++) {
            wire_send_message(fixture.fd, false, "to be read", 10);
        }
        struct bytes message = wire_read_message(fixture.fd, false);
        bytes_free(&message);
        if (round % 3 == 0) {
            wire_reset(fixture.fd);
            fixture.fd = -1;
        } else {
            sp_pipe_close(fixture.recorder.pipe, round % 3 == 1 ? 0 : 1);
        }
        uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
        (void)pthread_mutex_lock(&fixture.recorder.mutex);
        while (fixture.recorder.closed == 0) {
            assert_true(wire_wait(&fixture.recorder.changed, &fixture.recorder.mutex, end_ms));
        }
        (void)pthread_mutex_unlock(&fixture.recorder.mutex);
        for (int i = 0; i < WRITERS; i++) {
            assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        }
        release(&fixture);
    }
    end(&fixture);
}

static bool
are_fds_back(void *context)
{
    return wire_count_fds() <= *(size_t *)context;
}

static void
test_no_descriptor_is_left(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, false);
    size_t before = wire_count_fds();
    for (int i = 0; i < 300; i++) {
        connect_pipe(&fixture, 0);
        if (i % 2 == 0) {
            wire_send_header(fixture.fd, SP_REQ);
        }
        wire_reset(fixture.fd);
        fixture.fd = -1;
        uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(5000);
        (void)pthread_mutex_lock(&fixture.recorder.mutex);
        while (fixture.recorder.closed == 0) {
            assert_true(wire_wait(&fixture.recorder.changed, &fixture.recorder.mutex, end_ms));
        }
        (void)pthread_mutex_unlock(&fixture.recorder.mutex);
        release(&fixture);
    }
    assert_true(wire_wait_until(are_fds_back, &before, 5000));
    end(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_byte_by_byte_then_echo),
        cmocka_unit_test(test_many_messages_in_one_write),
        cmocka_unit_test(test_handlers_never_overlap),
        cmocka_unit_test(test_a_stranger_is_cut_off),
        cmocka_unit_test(test_the_owner_refuses_a_peer),
        cmocka_unit_test(test_a_silent_peer_is_cut_off),
        cmocka_unit_test(test_large_messages_and_messages_of_nothing),
        cmocka_unit_test(test_a_message_cut_short_is_an_error),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_large_parts_are_borrowed_and_keep_their_place),
        cmocka_unit_test(test_close_while_writing),
        cmocka_unit_test(test_linger_writes_everything_first),
        cmocka_unit_test(test_linger_ends),
        cmocka_unit_test(test_closed_before_it_was_started),
        cmocka_unit_test(test_dialled_pipe_speaks_first),
        cmocka_unit_test(test_close_under_traffic),
        cmocka_unit_test(test_no_descriptor_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
