// A peer: what a connection sent and what it is owed.
//
// Three parties meet here: the listener, which says what arrived and what became of the connection, one call at a time;
// the workers, which take calls and send replies; and whoever answers later. The transport is only used under the
// peer's lock and while it is not closed, which is what lets rpc_peer_closed promise that it is used no more.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "rpc/rpc_server_priv.h"

enum {
    BATCH_FIRST_CALLS = 8,
    BATCH_MAX_CALLS = 32,
    // A batch that takes longer keeps calls from other workers and other peers from this one.
    BATCH_LONG_US = 1000,
    BATCH_SHORT_US = 250,
    // Replies after which the transport is asked how much waits. Asking each time would cost a lock per reply.
    REPLY_CHECK_BYTES = 256 * 1024,
};

void
rpc_peer_hold(struct rpc_peer *peer)
{
    atomic_fetch_add_explicit(&peer->references, 1, memory_order_relaxed);
}

void
rpc_peer_release(struct rpc_peer *peer, size_t references)
{
    if (atomic_fetch_sub_explicit(&peer->references, references, memory_order_acq_rel) != references) {
        return;
    }
    struct rpc_server *server = peer->server;
    digest_wipe(&peer->locked.token, sizeof(peer->locked.token));
    pthread_mutex_destroy(&peer->mutex);
    free(peer->locked.cancelled);
    free(peer->address);
    free(peer);
    rpc_server_release(server);
}

enum err
rpc_peer_new(struct rpc_server *server, const struct rpc_transport_ops *ops, void *transport, const char *address,
    struct rpc_peer **out)
{
    struct rpc_peer *peer = calloc(1, sizeof(*peer));
    char *address_copy = strdup(address);
    if (peer == NULL || address_copy == NULL) {
        free(peer);
        free(address_copy);
        return ERR_NO_MEMORY;
    }
    peer->server = server;
    peer->ops = ops;
    peer->transport = transport;
    peer->address = address_copy;
    atomic_init(&peer->references, 1);
    STAILQ_INIT(&peer->arrived);
    STAILQ_INIT(&peer->locked.waiting);
    peer->locked.batch_calls = BATCH_FIRST_CALLS;
    (void)pthread_mutex_init(&peer->mutex, NULL);
    rpc_server_hold(server);

    pthread_mutex_lock(&server->mutex);
    enum err err = server->locked.peer_count >= server->options.max_connections ? ERR_LIMIT : ERR_OK;
    if (atomic_load(&server->is_draining)) {
        err = ERR_CLOSED;
    }
    if (err == ERR_OK) {
        LIST_INSERT_HEAD(&server->locked.peers, peer, link);
        server->locked.peer_count++;
        server->locked.accepted_peers++;
    } else {
        server->locked.refused_peers++;
    }
    pthread_mutex_unlock(&server->mutex);
    if (err != ERR_OK) {
        rpc_peer_release(peer, 1);
        return err;
    }
    *out = peer;
    return ERR_OK;
}

static enum err
admit(const struct rpc_peer *peer, struct bytes_view frame, const char **why_out)
{
    struct rpc_server *server = peer->server;
    if (frame.size > RPC_MESSAGE_MAX_BYTES) {
        *why_out = "the message is larger than this server takes";
        return ERR_TOO_BIG;
    }
    if (atomic_load_explicit(&server->is_draining, memory_order_relaxed) && !rpc_call_is_for_draining(server, frame)) {
        *why_out = "the server is shutting down";
        return ERR_UNAVAILABLE;
    }
    size_t of_peer = atomic_load_explicit(&peer->calls, memory_order_relaxed) + peer->arrived_calls;
    if (of_peer >= server->options.max_calls_per_connection) {
        *why_out = "too many calls are in flight on this connection; wait for some of the answers";
        return ERR_LIMIT;
    }
    size_t in_all = atomic_load_explicit(&server->call_count, memory_order_relaxed) + peer->arrived_calls;
    if (in_all >= server->options.max_calls) {
        *why_out = "the server has too many calls in flight; try again later";
        return ERR_LIMIT;
    }
    return ERR_OK;
}

enum err
rpc_peer_new_call(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes, struct bytes *large,
    struct rpc_call **out)
{
    const char *why = NULL;
    bool is_draining = atomic_load_explicit(&peer->server->is_draining, memory_order_relaxed);
    struct bytes_view route = bytes_view_of(data.data, route_bytes);
    enum err err = admit(peer, bytes_view_of(data.data + route_bytes, data.size - route_bytes), &why);
    *out = NULL;
    if (err != ERR_OK) {
        (void)rpc_call_refuse(peer, route, err, why, is_draining ? RPC_REASON_NOT_EXECUTED : NULL);
        peer->has_answered = true;
        return ERR_OK;
    }
    rpc_peer_reuses_id(peer, route);
    if (peer->arrived_calls == 0) {
        peer->arrived_us = clock_monotonic_us();
    }
    return rpc_call_new(peer, data, route_bytes, large, peer->arrived_us, out);
}

void
rpc_peer_call_arrived(struct rpc_peer *peer, struct rpc_call *call)
{
    STAILQ_INSERT_TAIL(&peer->arrived, call, link);
    peer->arrived_calls++;
    peer->arrived_bytes += call->held_bytes;
}

enum err
rpc_peer_receive(struct rpc_peer *peer, struct bytes_view data, struct bytes *large)
{
    size_t route_bytes = rpc_call_find_route(data);
    if (route_bytes == 0) {
        return ERR_PROTOCOL;
    }
    peer->arrived_message_bytes += data.size;
    if (rpc_frame_has_flags(bytes_view_of(data.data + route_bytes, data.size - route_bytes))) {
        return rpc_peer_receive_flagged(peer, data, route_bytes, large);
    }
    struct rpc_call *call = NULL;
    enum err err = rpc_peer_new_call(peer, data, route_bytes, large, &call);
    if (call != NULL) {
        rpc_peer_call_arrived(peer, call);
    }
    return err;
}

static bool
must_schedule_locked(struct rpc_peer *peer)
{
    if (peer->locked.is_scheduled || STAILQ_EMPTY(&peer->locked.waiting) ||
        (peer->locked.pauses & RPC_PAUSE_REPLIES) != 0) {
        return false;
    }
    peer->locked.is_scheduled = true;
    return true;
}

static void
schedule(struct rpc_peer *peer)
{
    rpc_peer_hold(peer);
    rpc_workers_schedule(peer->server, peer);
}

void
rpc_peer_batch_end(struct rpc_peer *peer)
{
    if (peer->has_answered) {
        peer->has_answered = false;
        rpc_peer_flush(peer);
    }
    if (peer->arrived_calls == 0) {
        return;
    }
    struct rpc_server *server = peer->server;
    size_t calls = peer->arrived_calls;
    size_t bytes = peer->arrived_bytes;
    peer->arrived_calls = 0;
    peer->arrived_bytes = 0;
    // Counted before a worker can see and end them.
    atomic_fetch_add_explicit(&peer->references, calls, memory_order_relaxed);
    atomic_fetch_add_explicit(&peer->calls, calls, memory_order_relaxed);
    atomic_fetch_add(&server->call_count, calls);
    size_t received_bytes = atomic_fetch_add(&server->received_bytes, bytes) + bytes;

    pthread_mutex_lock(&peer->mutex);
    STAILQ_CONCAT(&peer->locked.waiting, &peer->arrived);
    peer->locked.waiting_calls += calls;
    peer->locked.received_bytes += peer->arrived_message_bytes;
    peer->arrived_message_bytes = 0;
    bool must_schedule = must_schedule_locked(peer);
    pthread_mutex_unlock(&peer->mutex);
    if (must_schedule) {
        schedule(peer);
    }
    if (received_bytes > server->options.max_received_bytes) {
        rpc_server_pause_peer(server, peer);
    }
}

void
rpc_peer_enqueue(struct rpc_peer *peer, struct rpc_call *call)
{
    pthread_mutex_lock(&peer->mutex);
    STAILQ_INSERT_TAIL(&peer->locked.waiting, call, link);
    peer->locked.waiting_calls++;
    bool must_schedule = must_schedule_locked(peer);
    pthread_mutex_unlock(&peer->mutex);
    if (must_schedule) {
        schedule(peer);
    }
}

bool
rpc_peer_take(struct rpc_peer *peer, struct rpc_call_list *calls, struct rpc_token_cache *token_out)
{
    pthread_mutex_lock(&peer->mutex);
    bool is_paused = (peer->locked.pauses & RPC_PAUSE_REPLIES) != 0;
    for (unsigned i = 0; i < peer->locked.batch_calls && !is_paused; i++) {
        struct rpc_call *call = STAILQ_FIRST(&peer->locked.waiting);
        if (call == NULL) {
            break;
        }
        STAILQ_REMOVE_HEAD(&peer->locked.waiting, link);
        STAILQ_INSERT_TAIL(calls, call, link);
        peer->locked.waiting_calls--;
    }
    peer->locked.is_scheduled = !is_paused && !STAILQ_EMPTY(&peer->locked.waiting);
    bool has_more = peer->locked.is_scheduled;
    *token_out = peer->locked.token;
    pthread_mutex_unlock(&peer->mutex);
    return has_more;
}

bool
rpc_peer_put_back(struct rpc_peer *peer, struct rpc_call_list *calls)
{
    struct rpc_call *call;
    pthread_mutex_lock(&peer->mutex);
    STAILQ_FOREACH(call, calls, link)
    {
        peer->locked.waiting_calls++;
    }
    STAILQ_CONCAT(calls, &peer->locked.waiting);
    STAILQ_CONCAT(&peer->locked.waiting, calls);
    bool must_schedule = must_schedule_locked(peer);
    pthread_mutex_unlock(&peer->mutex);
    return must_schedule;
}

static bool
is_open_locked(const struct rpc_peer *peer)
{
    return !atomic_load_explicit(&peer->is_closed, memory_order_relaxed);
}

static void
set_pause_locked(struct rpc_peer *peer, enum rpc_pause pause, bool is_paused)
{
    unsigned before = peer->locked.pauses;
    unsigned after = is_paused ? before | pause : before & ~(unsigned)pause;
    peer->locked.pauses = after;
    if ((before == 0) != (after == 0) && is_open_locked(peer)) {
        peer->ops->set_reading(peer->transport, after == 0);
    }
}

void
rpc_peer_end_batch(struct rpc_peer *peer, size_t calls, uint64_t took_us)
{
    pthread_mutex_lock(&peer->mutex);
    if (is_open_locked(peer)) {
        peer->ops->flush(peer->transport);
    }
    unsigned *batch_calls = &peer->locked.batch_calls;
    if (took_us > BATCH_LONG_US && *batch_calls > 1) {
        *batch_calls /= 2;
    } else if (took_us < BATCH_SHORT_US && calls >= *batch_calls && *batch_calls < BATCH_MAX_CALLS) {
        *batch_calls *= 2;
    }
    pthread_mutex_unlock(&peer->mutex);
}

unsigned
rpc_peer_progress(struct rpc_peer *peer)
{
    pthread_mutex_lock(&peer->mutex);
    unsigned progress = is_open_locked(peer) ? peer->ops->progress(peer->transport) : 0;
    pthread_mutex_unlock(&peer->mutex);
    return progress;
}

void
rpc_peer_flush(struct rpc_peer *peer)
{
    pthread_mutex_lock(&peer->mutex);
    if (is_open_locked(peer)) {
        peer->ops->flush(peer->transport);
    }
    pthread_mutex_unlock(&peer->mutex);
}

bool
rpc_peer_flush_all(struct rpc_peer *peer)
{
    bool is_written = false;
    pthread_mutex_lock(&peer->mutex);
    if (is_open_locked(peer)) {
        peer->ops->flush(peer->transport);
        is_written = peer->ops->tell_drained != NULL && peer->ops->tell_drained(peer->transport);
    }
    pthread_mutex_unlock(&peer->mutex);
    return is_written;
}

static void
check_reply_bytes_locked(struct rpc_peer *peer, size_t added)
{
    size_t max_bytes = peer->server->options.max_reply_bytes_per_connection;
    peer->locked.unchecked_bytes += added;
    if (peer->locked.unchecked_bytes < REPLY_CHECK_BYTES && peer->locked.unchecked_bytes < max_bytes) {
        return;
    }
    peer->locked.unchecked_bytes = 0;
    if (peer->ops->queued_bytes(peer->transport) > max_bytes) {
        // Undone by rpc_peer_drained, which comes after the flush that follows every reply.
        set_pause_locked(peer, RPC_PAUSE_REPLIES, true);
    }
}

void
rpc_peer_answers(struct rpc_peer *peer)
{
    atomic_fetch_sub_explicit(&peer->calls, 1, memory_order_relaxed);
}

bool
rpc_peer_send(struct rpc_peer *peer, const struct bytes_view *parts, size_t part_count, bool is_last)
{
    size_t added = 0;
    for (size_t i = 0; i < part_count; i++) {
        added += parts[i].size;
    }
    pthread_mutex_lock(&peer->mutex);
    if (is_open_locked(peer)) {
        enum err err = peer->ops->queue(peer->transport, parts, part_count);
        if (err == ERR_OK) {
            peer->locked.sent_bytes += added;
            check_reply_bytes_locked(peer, added);
        } else if (err != ERR_CLOSED) {
            // A caller that waits for a reply that was lost would wait until its deadline.
            peer->ops->close(peer->transport, 0);
        }
        if (is_last) {
            peer->ops->flush(peer->transport);
        }
    }
    bool can_go_on = (peer->locked.pauses & RPC_PAUSE_REPLIES) == 0;
    pthread_mutex_unlock(&peer->mutex);
    return can_go_on;
}

void
rpc_peer_drained(struct rpc_peer *peer)
{
    if (peer->feed != NULL) {
        rpc_feed_written(peer->feed);
        return;
    }
    pthread_mutex_lock(&peer->mutex);
    set_pause_locked(peer, RPC_PAUSE_REPLIES, false);
    bool must_schedule = must_schedule_locked(peer);
    pthread_mutex_unlock(&peer->mutex);
    if (must_schedule) {
        schedule(peer);
    }
}

void
rpc_peer_remember_token(struct rpc_peer *peer, const struct rpc_token_cache *token)
{
    pthread_mutex_lock(&peer->mutex);
    peer->locked.token = *token;
    pthread_mutex_unlock(&peer->mutex);
}

void
rpc_peer_set_received_pause(struct rpc_peer *peer, bool is_paused)
{
    pthread_mutex_lock(&peer->mutex);
    set_pause_locked(peer, RPC_PAUSE_RECEIVED, is_paused);
    pthread_mutex_unlock(&peer->mutex);
}

void
rpc_peer_close(struct rpc_peer *peer, unsigned linger_ms)
{
    pthread_mutex_lock(&peer->mutex);
    if (is_open_locked(peer)) {
        peer->ops->close(peer->transport, linger_ms);
    }
    pthread_mutex_unlock(&peer->mutex);
}

void
rpc_peer_settle(struct rpc_peer *peer, size_t calls, size_t held_bytes)
{
    struct rpc_server *server = peer->server;
    rpc_server_give_back_bytes(server, held_bytes);
    if (atomic_fetch_sub(&server->call_count, calls) == calls) {
        rpc_server_call_ended(server);
    }
    rpc_peer_release(peer, calls);
}

enum err
rpc_peer_subscribe(struct rpc_peer *peer, struct bytes_view ticket)
{
    if (peer->feed != NULL) {
        return ERR_NOT_FOUND;
    }
    return rpc_feed_claim(peer->server, ticket, peer, &peer->feed);
}

// Frees calls that nobody has begun.
static size_t
free_calls(struct rpc_call_list *calls, size_t *bytes_out)
{
    size_t count = 0;
    *bytes_out = 0;
    while (!STAILQ_EMPTY(calls)) {
        struct rpc_call *call = STAILQ_FIRST(calls);
        STAILQ_REMOVE_HEAD(calls, link);
        *bytes_out += call->held_bytes;
        count++;
        if (call->stream != NULL) {
            rpc_server_stream_discard(call->stream);
        } else {
            rpc_call_free(call);
        }
    }
    return count;
}

// Takes the waiting calls out. Those of streams stay, since a worker has to run their last handlers.
static void
take_waiting_locked(struct rpc_peer *peer, struct rpc_call_list *calls)
{
    struct rpc_call_list all = STAILQ_HEAD_INITIALIZER(all);
    STAILQ_CONCAT(&all, &peer->locked.waiting);
    peer->locked.waiting_calls = 0;
    while (!STAILQ_EMPTY(&all)) {
        struct rpc_call *call = STAILQ_FIRST(&all);
        STAILQ_REMOVE_HEAD(&all, link);
        if (call->stream != NULL) {
            STAILQ_INSERT_TAIL(&peer->locked.waiting, call, link);
            peer->locked.waiting_calls++;
        } else {
            STAILQ_INSERT_TAIL(calls, call, link);
        }
    }
}

void
rpc_peer_closed(struct rpc_peer *peer)
{
    struct rpc_server *server = peer->server;
    struct rpc_call_list waiting = STAILQ_HEAD_INITIALIZER(waiting);
    size_t bytes = 0;
    pthread_mutex_lock(&peer->mutex);
    atomic_store(&peer->is_closed, true);
    take_waiting_locked(peer, &waiting);
    peer->locked.pauses = 0; // nothing will be written any more
    bool must_schedule = must_schedule_locked(peer);
    peer->locked.received_bytes += peer->arrived_message_bytes;
    uint64_t received_bytes = peer->locked.received_bytes; // final, as is what was sent
    uint64_t sent_bytes = peer->locked.sent_bytes;
    pthread_mutex_unlock(&peer->mutex);
    if (must_schedule) {
        schedule(peer);
    }
    // Never counted as in flight, because its batch has not ended.
    size_t dropped_calls = free_calls(&peer->arrived, &bytes);
    size_t calls = free_calls(&waiting, &bytes);
    atomic_fetch_add(&server->stats.dropped_calls, dropped_calls + calls);
    if (calls > 0) {
        rpc_peer_settle(peer, calls, bytes);
    }
    rpc_peer_cancel_watched(peer);
    rpc_peer_end_streams(peer);
    if (peer->feed != NULL) {
        rpc_feed_lost(peer->feed);
        peer->feed = NULL;
    }
    pthread_mutex_lock(&server->mutex);
    LIST_REMOVE(peer, link);
    server->locked.peer_count--;
    server->locked.gone_received_bytes += received_bytes;
    server->locked.gone_sent_bytes += sent_bytes;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
    rpc_peer_release(peer, 1);
}
