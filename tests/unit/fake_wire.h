// A transport that the test plays: it keeps what peers send, and says that it was written when the test says so.
#ifndef TESTS_UNIT_FAKE_WIRE_H
#define TESTS_UNIT_FAKE_WIRE_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "rpc/rpc_peer_priv.h"

enum {
    SENT_MAX = 4096,
    WAIT_MS = 5000,
};

static inline struct timespec
limit(void)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000 * (scale != NULL ? atoi(scale) : 1);
    return until;
}

// The transport. Everything is guarded by the mutex.
struct wire {
    struct rpc_peer *peer;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct bytes sent[SENT_MAX];
    size_t sent_count;
    size_t flushed_count; // messages that were there at the last flush
    size_t flushes;
    size_t queued_bytes;
    unsigned closes;
    unsigned linger_ms;
    unsigned progress; // set by tests
    bool is_paused;
    bool is_gone;
    enum err queue_result;
};

static inline enum err
wire_queue(void *transport, const struct bytes_view *parts, size_t part_count)
{
    struct wire *wire = transport;
    pthread_mutex_lock(&wire->mutex);
    assert_false(wire->is_gone);
    enum err err = wire->queue_result;
    if (err == ERR_OK) {
        assert_true(wire->sent_count < SENT_MAX);
        struct bytes *message = &wire->sent[wire->sent_count++];
        for (size_t i = 0; i < part_count; i++) {
            assert_int_equal(ERR_OK, bytes_append(message, parts[i]));
            wire->queued_bytes += parts[i].size;
        }
    }
    pthread_mutex_unlock(&wire->mutex);
    return err;
}

static inline void
wire_flush(void *transport)
{
    struct wire *wire = transport;
    pthread_mutex_lock(&wire->mutex);
    assert_false(wire->is_gone);
    wire->flushes += wire->flushed_count != wire->sent_count;
    wire->flushed_count = wire->sent_count;
    pthread_cond_broadcast(&wire->changed);
    pthread_mutex_unlock(&wire->mutex);
}

static inline size_t
wire_queued_bytes(void *transport)
{
    struct wire *wire = transport;
    pthread_mutex_lock(&wire->mutex);
    assert_false(wire->is_gone);
    size_t bytes = wire->queued_bytes;
    pthread_mutex_unlock(&wire->mutex);
    return bytes;
}

static inline unsigned
wire_progress(void *transport)
{
    struct wire *wire = transport;
    pthread_mutex_lock(&wire->mutex);
    unsigned progress = wire->progress;
    pthread_mutex_unlock(&wire->mutex);
    return progress;
}

static inline void
wire_set_reading(void *transport, bool is_reading)
{
    struct wire *wire = transport;
    pthread_mutex_lock(&wire->mutex);
    assert_false(wire->is_gone);
    assert_int_equal(wire->is_paused, is_reading); // only told what is new
    wire->is_paused = !is_reading;
    pthread_cond_broadcast(&wire->changed);
    pthread_mutex_unlock(&wire->mutex);
}

static inline void
wire_close(void *transport, unsigned linger_ms)
{
    struct wire *wire = transport;
    pthread_mutex_lock(&wire->mutex);
    assert_false(wire->is_gone);
    wire->closes++;
    wire->linger_ms = linger_ms;
    pthread_cond_broadcast(&wire->changed);
    pthread_mutex_unlock(&wire->mutex);
}

static const struct rpc_transport_ops wire_ops = {
    .queue = wire_queue,
    .flush = wire_flush,
    .queued_bytes = wire_queued_bytes,
    .progress = wire_progress,
    .set_reading = wire_set_reading,
    .close = wire_close,
};

static inline struct wire *
wire_new(struct rpc_server *server)
{
    struct wire *wire = calloc(1, sizeof(*wire));
    assert_non_null(wire);
    pthread_mutex_init(&wire->mutex, NULL);
    pthread_cond_init(&wire->changed, NULL);
    assert_int_equal(ERR_OK, rpc_peer_new(server, &wire_ops, wire, "test", &wire->peer));
    return wire;
}

// wire_lose ends the connection; the peer may live on behind calls in flight.
static inline void
wire_lose(struct wire *wire)
{
    rpc_peer_closed(wire->peer);
    pthread_mutex_lock(&wire->mutex);
    wire->is_gone = true;
    pthread_mutex_unlock(&wire->mutex);
}

static inline void
wire_free(struct wire *wire)
{
    if (!wire->is_gone) {
        wire_lose(wire);
    }
    for (size_t i = 0; i < wire->sent_count; i++) {
        bytes_free(&wire->sent[i]);
    }
    pthread_cond_destroy(&wire->changed);
    pthread_mutex_destroy(&wire->mutex);
    free(wire);
}

// wire_wait waits until so many messages have been flushed.
static inline void
wire_wait(struct wire *wire, size_t messages)
{
    struct timespec until = limit();
    pthread_mutex_lock(&wire->mutex);
    while (wire->flushed_count < messages) {
        if (pthread_cond_timedwait(&wire->changed, &wire->mutex, &until) == ETIMEDOUT) {
            fail_msg("%zu messages instead of %zu", wire->flushed_count, messages);
        }
    }
    pthread_mutex_unlock(&wire->mutex);
}

static inline void
wire_wait_paused(struct wire *wire, bool is_paused)
{
    struct timespec until = limit();
    pthread_mutex_lock(&wire->mutex);
    while (wire->is_paused != is_paused) {
        assert_int_not_equal(ETIMEDOUT, pthread_cond_timedwait(&wire->changed, &wire->mutex, &until));
    }
    pthread_mutex_unlock(&wire->mutex);
}

static inline void
wire_wait_closed(struct wire *wire)
{
    struct timespec until = limit();
    pthread_mutex_lock(&wire->mutex);
    while (wire->closes == 0) {
        assert_int_not_equal(ETIMEDOUT, pthread_cond_timedwait(&wire->changed, &wire->mutex, &until));
    }
    pthread_mutex_unlock(&wire->mutex);
}

// wire_write plays the kernel taking everything that was queued.
static inline void
wire_write(struct wire *wire)
{
    pthread_mutex_lock(&wire->mutex);
    wire->queued_bytes = 0;
    pthread_mutex_unlock(&wire->mutex);
    rpc_peer_drained(wire->peer);
}

#endif
