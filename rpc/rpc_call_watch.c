// Cancellation: which calls a client has given up, and who is told.
//
// A peer remembers the request ids of the calls that its client has given up, so that whoever works on one can look
// (rpc_call_is_cancelled) and no list of all calls has to be kept. It forgets one when the client uses the id again.
#include <stdlib.h>

#include "base/clock.h"
#include "rpc/rpc_server_priv.h"

enum {
    WORD_BYTES = 4,
};

// The slot of a call's request id; NULL for one that came through a device, which has no cancels.
static uint32_t *
slot_locked(const struct rpc_peer *peer, struct bytes_view route, uint32_t *id_out)
{
    if (route.size != WORD_BYTES || peer->locked.cancelled == NULL) {
        return NULL;
    }
    *id_out = bytes_load_be32(route.data);
    return &peer->locked.cancelled[*id_out % RPC_PEER_CANCELLED_SLOTS];
}

bool
rpc_peer_has_cancelled(struct rpc_peer *peer, struct bytes_view route)
{
    uint32_t id = 0;
    if (!atomic_load_explicit(&peer->has_cancels, memory_order_acquire)) {
        return false;
    }
    pthread_mutex_lock(&peer->mutex);
    const uint32_t *slot = slot_locked(peer, route, &id);
    bool is_cancelled = slot != NULL && *slot == id;
    pthread_mutex_unlock(&peer->mutex);
    return is_cancelled;
}

void
rpc_peer_reuses_id(struct rpc_peer *peer, struct bytes_view route)
{
    uint32_t id = 0;
    if (!atomic_load_explicit(&peer->has_cancels, memory_order_relaxed)) {
        return;
    }
    pthread_mutex_lock(&peer->mutex);
    uint32_t *slot = slot_locked(peer, route, &id);
    if (slot != NULL && *slot == id) {
        *slot = 0; // no request id, since those have their highest bit set
    }
    pthread_mutex_unlock(&peer->mutex);
}

// tell calls what has been claimed for it.
static void
tell(struct rpc_call_watch *watch)
{
    (void)timer_stop(watch->call->peer->server->timers, &watch->deadline);
    watch->on_cancelled(watch);
}

static void
claim_locked(struct rpc_call_watch *watch)
{
    watch->is_claimed = true;
    LIST_REMOVE(watch, link);
}

void
rpc_peer_cancel(struct rpc_peer *peer, struct bytes_view route)
{
    uint32_t id = 0;
    struct rpc_call_watch *watch;
    pthread_mutex_lock(&peer->mutex);
    if (peer->locked.cancelled == NULL) {
        peer->locked.cancelled = calloc(RPC_PEER_CANCELLED_SLOTS, sizeof(*peer->locked.cancelled));
    }
    uint32_t *slot = slot_locked(peer, route, &id);
    if (slot != NULL) { // else there is no memory, and the call goes on for nobody
        *slot = id;
        atomic_store_explicit(&peer->has_cancels, true, memory_order_release);
    }
    LIST_FOREACH(watch, &peer->locked.watches, link)
    {
        if (bytes_view_equal(watch->call->route, route)) {
            claim_locked(watch);
            break;
        }
    }
    pthread_mutex_unlock(&peer->mutex);
    if (watch != NULL) {
        tell(watch);
    }
}

void
rpc_peer_cancel_watched(struct rpc_peer *peer)
{
    struct rpc_call_watch *watch;
    do {
        pthread_mutex_lock(&peer->mutex);
        watch = LIST_FIRST(&peer->locked.watches);
        if (watch != NULL) {
            claim_locked(watch);
        }
        pthread_mutex_unlock(&peer->mutex);
        if (watch != NULL) {
            tell(watch);
        }
    } while (watch != NULL);
}

static void
on_deadline(struct timer *timer)
{
    struct rpc_call_watch *watch = (struct rpc_call_watch *)((char *)timer - offsetof(struct rpc_call_watch, deadline));
    if (rpc_call_watch_claim(watch)) {
        watch->on_cancelled(watch);
    }
}

enum err
rpc_call_watch_start(struct rpc_call_watch *watch, struct rpc_call *call, rpc_call_cancelled_fn *on_cancelled)
{
    struct rpc_peer *peer = call->peer;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t left_ms = call->deadline_ms > now_ms ? call->deadline_ms - now_ms : 0;
    *watch = (struct rpc_call_watch){.call = call,
        .on_cancelled = on_cancelled,
        .is_claimed = true,
        .deadline.on_expiry = on_deadline};
    enum err err = timer_start(peer->server->timers, &watch->deadline, left_ms);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t id = 0;
    pthread_mutex_lock(&peer->mutex);
    const uint32_t *slot = slot_locked(peer, call->route, &id);
    bool is_over = atomic_load(&peer->is_closed) || (slot != NULL && *slot == id) || rpc_call_is_late(call);
    if (!is_over) {
        watch->is_claimed = false;
        LIST_INSERT_HEAD(&peer->locked.watches, watch, link);
    }
    pthread_mutex_unlock(&peer->mutex);
    // From here on the call may be cancelled, answered and gone at any time, unless it never was in the list.
    if (is_over) {
        (void)timer_stop(peer->server->timers, &watch->deadline);
        return ERR_CANCELLED;
    }
    return ERR_OK;
}

bool
rpc_call_watch_claim(struct rpc_call_watch *watch)
{
    struct rpc_peer *peer = watch->call->peer;
    pthread_mutex_lock(&peer->mutex);
    bool is_mine = !watch->is_claimed;
    if (is_mine) {
        claim_locked(watch);
    }
    pthread_mutex_unlock(&peer->mutex);
    if (is_mine) {
        (void)timer_stop(peer->server->timers, &watch->deadline);
    }
    return is_mine;
}
