// A call on the server: its memory, and what its handler may ask of it. How it is answered is in rpc_reply.c.
//
// One thread has a call at a time: the listener's, then a worker, then whoever answers. The answer frees it, except
// that a call answered inside its handler lives until the handler has returned.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/rpc_call_priv.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_server_priv.h"

enum {
    US_PER_MS = 1000,
    WORD_BYTES = 4,
    WORD_LAST_BIT = 0x80, // in the first byte of the request id, and of no hop before it
};

// The batch that the worker on this thread has in hand.
static _Thread_local struct rpc_batch *batch_here;

void
rpc_batch_enter(struct rpc_batch *batch)
{
    batch_here = batch;
}

void
rpc_batch_leave(void)
{
    batch_here = NULL;
}

struct rpc_batch *
rpc_batch_of(const struct rpc_call *call)
{
    return batch_here != NULL && batch_here->peer == call->peer ? batch_here : NULL;
}

size_t
rpc_call_find_route(struct bytes_view data)
{
    for (size_t i = 0; i < RPC_ROUTE_MAX_WORDS && (i + 1) * WORD_BYTES <= data.size; i++) {
        if ((data.data[i * WORD_BYTES] & WORD_LAST_BIT) != 0) {
            return (i + 1) * WORD_BYTES;
        }
    }
    return 0;
}

enum err
rpc_call_new(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes, struct bytes *large,
    uint64_t arrived_us, struct rpc_call **out)
{
    size_t copied_bytes = large == NULL ? data.size : 0;
    struct rpc_call *call = malloc(sizeof(*call) + copied_bytes);
    if (call == NULL) {
        return ERR_NO_MEMORY;
    }
    // Member by member, since clearing the identity in each call would cost more than all the rest.
    const uint8_t *held = data.data;
    call->held_bytes = sizeof(*call) + data.size;
    call->large = (struct bytes){0};
    if (large != NULL) {
        call->large = *large;
        *large = (struct bytes){0};
        call->held_bytes = sizeof(*call) + call->large.capacity;
    } else {
        memcpy(call->small, data.data, data.size);
        held = call->small;
    }
    call->peer = peer;
    call->route = bytes_view_of(held, route_bytes);
    call->frame = bytes_view_of(held + route_bytes, data.size - route_bytes);
    call->method = NULL;
    call->arrived_us = arrived_us;
    call->deadline_ms = arrived_us / US_PER_MS;
    call->request_id = bytes_view_of(NULL, 0);
    call->has_identity = false;
    call->stream = NULL;
    call->once = NULL;
    call->header = NULL;
    call->reply_metadata = NULL;
    call->reply_metadata_count = 0;
    arena_init(&call->arena, rpc_message_arena_limit(call->frame.size));
    *out = call;
    return ERR_OK;
}

void
rpc_call_free(struct rpc_call *call)
{
    arena_deinit(&call->arena);
    bytes_free(&call->large);
    free(call);
}

const struct rpc_identity *
rpc_call_identity(const struct rpc_call *call)
{
    return call->has_identity ? &call->identity : NULL;
}

struct bytes_view
rpc_call_request_id(const struct rpc_call *call)
{
    return call->request_id;
}

uint64_t
rpc_call_deadline_ms(const struct rpc_call *call)
{
    return call->deadline_ms;
}

bool
rpc_call_is_late(const struct rpc_call *call)
{
    return clock_monotonic_ms() >= call->deadline_ms;
}

bool
rpc_call_is_given_up(const struct rpc_call *call)
{
    return rpc_peer_has_cancelled(call->peer, call->route);
}

bool
rpc_call_is_cancelled(const struct rpc_call *call)
{
    return atomic_load_explicit(&call->peer->is_closed, memory_order_acquire) || rpc_call_is_given_up(call) ||
           rpc_call_is_late(call);
}

const char *
rpc_call_peer_address(const struct rpc_call *call)
{
    return call->peer->address;
}

size_t
rpc_call_metadata_count(const struct rpc_call *call)
{
    return call->header != NULL ? call->header->n_metadata : 0;
}

struct rpc_metadata
rpc_call_metadata(const struct rpc_call *call, size_t index)
{
    const Fc__Rpc__V1__Metadata *entry = call->header->metadata[index];
    return (struct rpc_metadata){.key = entry->key, .value = bytes_view_of(entry->value.data, entry->value.len)};
}

static enum err
check_reply_metadata(const struct rpc_call *call, const struct rpc_metadata *added)
{
    struct rpc_metadata entries[RPC_METADATA_MAX_ENTRIES + 1];
    size_t count = call->reply_metadata_count;
    for (size_t i = 0; i < count; i++) {
        const Fc__Rpc__V1__Metadata *entry = call->reply_metadata[i];
        entries[i] =
            (struct rpc_metadata){.key = entry->key, .value = bytes_view_of(entry->value.data, entry->value.len)};
    }
    entries[count] = *added;
    return rpc_metadata_check(entries, count + 1, NULL);
}

enum err
rpc_call_add_metadata(struct rpc_call *call, const char *key, struct bytes_view value)
{
    enum err err = check_reply_metadata(call, &(struct rpc_metadata){.key = key, .value = value});
    if (err != ERR_OK) {
        return err;
    }
    Fc__Rpc__V1__Metadata **list = call->reply_metadata;
    if (list == NULL) {
        list = arena_alloc(&call->arena, RPC_METADATA_MAX_ENTRIES * sizeof(*list));
    }
    Fc__Rpc__V1__Metadata *entry = arena_alloc(&call->arena, sizeof(*entry));
    char *key_copy = arena_copy_text(&call->arena, key);
    uint8_t *value_copy = arena_alloc(&call->arena, value.size + 1); // so that an empty one is no special case
    if (list == NULL || entry == NULL || key_copy == NULL || value_copy == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__rpc__v1__metadata__init(entry);
    entry->key = key_copy;
    entry->value.data = value_copy;
    entry->value.len = value.size;
    if (value.size > 0) {
        memcpy(value_copy, value.data, value.size);
    }
    call->reply_metadata = list;
    list[call->reply_metadata_count++] = entry;
    return ERR_OK;
}

void
rpc_call_end(struct rpc_call *call)
{
    struct rpc_batch *batch = rpc_batch_of(call);
    struct rpc_peer *peer = call->peer;
    size_t held_bytes = call->held_bytes;
    if (batch != NULL && batch->current == call) {
        batch->is_current_answered = true;
    } else {
        rpc_call_free(call);
    }
    if (batch != NULL) {
        batch->ended_calls++;
        batch->ended_bytes += held_bytes;
    } else {
        rpc_peer_settle(peer, 1, held_bytes);
    }
}
