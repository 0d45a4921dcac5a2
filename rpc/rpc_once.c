#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/rpc_once_priv.h"

enum {
    BUCKETS = 2048,
};

struct rpc_once_entry {
    LIST_ENTRY(rpc_once_entry) link;
    TAILQ_ENTRY(rpc_once_entry) finished_link; // once it has its answer
    uint8_t subject_id[16];
    uint8_t request_id[RPC_REQUEST_ID_BYTES];
    const struct rpc_method *method;
    bool is_finished;
    uint64_t finished_ms;
    struct bytes frame;
    struct rpc_call_list waiting;
};
LIST_HEAD(entry_list, rpc_once_entry);

struct rpc_once {
    pthread_mutex_t mutex;
    struct entry_list buckets[BUCKETS];
    TAILQ_HEAD(, rpc_once_entry) finished; // the oldest first
    size_t count;
    size_t bytes; // of the frames
};

enum err
rpc_once_new(struct rpc_once **out)
{
    struct rpc_once *once = calloc(1, sizeof(*once));
    if (once == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&once->mutex, NULL);
    TAILQ_INIT(&once->finished);
    *out = once;
    return ERR_OK;
}

static void
remove_locked(struct rpc_once *once, struct rpc_once_entry *entry)
{
    if (entry->is_finished) {
        TAILQ_REMOVE(&once->finished, entry, finished_link);
    }
    LIST_REMOVE(entry, link);
    once->count--;
    once->bytes -= entry->frame.size;
    bytes_free(&entry->frame);
    free(entry);
}

void
rpc_once_free(struct rpc_once **once)
{
    struct rpc_once *self = *once;
    *once = NULL;
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        while (!LIST_EMPTY(&self->buckets[i])) {
            remove_locked(self, LIST_FIRST(&self->buckets[i]));
        }
    }
    pthread_mutex_destroy(&self->mutex);
    free(self);
}

// Makes room for one more.
static bool
trim_locked(struct rpc_once *once, uint64_t now_ms)
{
    struct rpc_once_entry *oldest;
    while ((oldest = TAILQ_FIRST(&once->finished)) != NULL &&
           (now_ms - oldest->finished_ms >= RPC_ONCE_KEPT_MS || once->count >= RPC_ONCE_MAX ||
               once->bytes > RPC_ONCE_MAX_BYTES)) {
        remove_locked(once, oldest);
    }
    return once->count < RPC_ONCE_MAX;
}

static struct entry_list *
bucket_of(struct rpc_once *once, const uint8_t *request_id)
{
    return &once->buckets[bytes_load_be16(request_id) % BUCKETS]; // random bytes, if the client is any good
}

static struct rpc_once_entry *
find_locked(struct rpc_once *once, const struct rpc_call *call)
{
    struct rpc_once_entry *entry;
    LIST_FOREACH(entry, bucket_of(once, call->request_id.data), link)
    {
        if (memcmp(entry->request_id, call->request_id.data, sizeof(entry->request_id)) == 0 &&
            (!call->has_identity ||
                memcmp(entry->subject_id, call->identity.subject_id, sizeof(entry->subject_id)) == 0)) {
            return entry;
        }
    }
    return NULL;
}

static enum rpc_once_role
add_locked(struct rpc_once *once, struct rpc_call *call)
{
    struct rpc_once_entry *entry = trim_locked(once, clock_monotonic_ms()) ? calloc(1, sizeof(*entry)) : NULL;
    if (entry == NULL) {
        return RPC_ONCE_FULL;
    }
    if (call->has_identity) {
        memcpy(entry->subject_id, call->identity.subject_id, sizeof(entry->subject_id));
    }
    memcpy(entry->request_id, call->request_id.data, sizeof(entry->request_id));
    entry->method = call->method;
    STAILQ_INIT(&entry->waiting);
    LIST_INSERT_HEAD(bucket_of(once, entry->request_id), entry, link);
    once->count++;
    call->once = entry;
    return RPC_ONCE_FIRST;
}

enum rpc_once_role
rpc_once_enter(struct rpc_once *once, struct rpc_call *call, struct bytes *frame_out)
{
    enum rpc_once_role role = RPC_ONCE_WAITS;
    pthread_mutex_lock(&once->mutex);
    struct rpc_once_entry *entry = find_locked(once, call);
    if (entry == NULL) {
        role = add_locked(once, call);
    } else if (entry->method != call->method) {
        role = RPC_ONCE_OTHER;
    } else if (entry->is_finished) {
        role = bytes_append(frame_out, bytes_as_view(&entry->frame)) == ERR_OK ? RPC_ONCE_REPEAT : RPC_ONCE_FULL;
    } else {
        STAILQ_INSERT_TAIL(&entry->waiting, call, link);
    }
    pthread_mutex_unlock(&once->mutex);
    return role;
}

void
rpc_once_leave(struct rpc_once *once, struct rpc_call *call, struct bytes_view frame, bool is_kept,
    struct rpc_call_list *waiting)
{
    pthread_mutex_lock(&once->mutex);
    struct rpc_once_entry *entry = call->once;
    call->once = NULL;
    STAILQ_CONCAT(waiting, &entry->waiting);
    if (is_kept && bytes_append(&entry->frame, frame) == ERR_OK) {
        entry->is_finished = true;
        entry->finished_ms = clock_monotonic_ms();
        TAILQ_INSERT_TAIL(&once->finished, entry, finished_link);
        once->bytes += entry->frame.size;
    } else {
        remove_locked(once, entry);
    }
    pthread_mutex_unlock(&once->mutex);
}
