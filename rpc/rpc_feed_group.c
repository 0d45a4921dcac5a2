// What is pushed to a group, and the round that hands it out.
//
//     push --> incoming --(the round)--> log: chunk, chunk, ... --> members, those that have had the least first
//
// While anything has not been handed out a round is under way. The thread that pushed does it for the first few
// members, then the server's feed thread. A member that has had the rest of a chunk moves behind those that have had no
// more, so the first member needs the first chunk, and chunks that it has passed are freed.
//
// A round holds the members' lock for a few of them at a time. Who adds or removes one waits at the gate, which the
// round has to pass as well, and so is the next.
//
// Lock order: the gate, the members' lock, then what is inside rpc_feed_push. `incoming` and the due list are taken
// last and alone.
#include "rpc/rpc_feed_group.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "rpc/rpc_server_priv.h"

enum {
    CHUNK_BYTES = 64 * 1024, // that members get at once, unless one payload is larger
    MEMBERS_AT_ONCE = 16,    // handed to before others may take the members' lock
    MEMBERS_OF_PUSH = 4,     // that a push hands to itself: a small room waits for no other thread
};

struct chunk {
    TAILQ_ENTRY(chunk) link;
    uint64_t start; // of one in the log: counted from the group's beginning
    size_t size;
    size_t capacity;
    uint8_t data[];
};

TAILQ_HEAD(chunk_list, chunk);

TAILQ_HEAD(member_list, rpc_feed_member);

struct rpc_feed_group {
    // Immutable after new.
    struct rpc_server *server; // a reference
    uint8_t topic[RPC_TOPIC_BYTES];

    atomic_uint references; // the owner's and the due list's

    pthread_mutex_t incoming_mutex;
    struct {
        struct chunk_list chunks;
        size_t bytes;
        bool is_in_round;
    } incoming; // guarded by incoming_mutex

    STAILQ_ENTRY(rpc_feed_group) due_link; // guarded by the due list's mutex

    pthread_mutex_t gate;
    pthread_mutex_t members_mutex;
    // Guarded by members_mutex.
    struct member_list members; // those that have had the least first
    struct chunk_list log;
    uint64_t log_end;
};

static void
free_chunks(struct chunk_list *list)
{
    while (!TAILQ_EMPTY(list)) {
        struct chunk *chunk = TAILQ_FIRST(list);
        TAILQ_REMOVE(list, chunk, link);
        free(chunk);
    }
}

static void
release(struct rpc_feed_group *group)
{
    if (atomic_fetch_sub_explicit(&group->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct rpc_server *server = group->server;
    free_chunks(&group->incoming.chunks);
    free_chunks(&group->log);
    pthread_mutex_destroy(&group->incoming_mutex);
    pthread_mutex_destroy(&group->gate);
    pthread_mutex_destroy(&group->members_mutex);
    free(group);
    rpc_server_release(server);
}

enum err
rpc_feed_group_new(struct rpc_server *server, const uint8_t topic[RPC_TOPIC_BYTES], struct rpc_feed_group **out)
{
    struct rpc_feed_group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return ERR_NO_MEMORY;
    }
    group->server = server;
    memcpy(group->topic, topic, sizeof(group->topic));
    atomic_init(&group->references, 1);
    // With default attributes these cannot fail on Linux.
    (void)pthread_mutex_init(&group->incoming_mutex, NULL);
    (void)pthread_mutex_init(&group->gate, NULL);
    (void)pthread_mutex_init(&group->members_mutex, NULL);
    TAILQ_INIT(&group->incoming.chunks);
    TAILQ_INIT(&group->log);
    TAILQ_INIT(&group->members);
    rpc_server_hold(server);
    *out = group;
    return ERR_OK;
}

void
rpc_feed_group_free(struct rpc_feed_group **group)
{
    if (*group != NULL) {
        release(*group);
        *group = NULL;
    }
}

static void
lock_members(struct rpc_feed_group *group)
{
    pthread_mutex_lock(&group->gate);
    pthread_mutex_lock(&group->members_mutex);
    pthread_mutex_unlock(&group->gate);
}

static void
insert_locked(struct rpc_feed_group *group, struct rpc_feed_member *member)
{
    struct rpc_feed_member *before;
    // Only who was added during the round has had more than the one that was handed something last.
    TAILQ_FOREACH_REVERSE(before, &group->members, member_list, link)
    {
        if (before->had <= member->had) {
            TAILQ_INSERT_AFTER(&group->members, before, member, link);
            return;
        }
    }
    TAILQ_INSERT_HEAD(&group->members, member, link);
}

void
rpc_feed_group_add(struct rpc_feed_group *group, struct rpc_feed_member *member, struct rpc_feed *feed)
{
    member->group = group;
    member->feed = feed;
    lock_members(group);
    member->had = group->log_end;
    insert_locked(group, member);
    pthread_mutex_unlock(&group->members_mutex);
}

void
rpc_feed_group_remove(struct rpc_feed_member *member)
{
    struct rpc_feed_group *group = member->group;
    if (group == NULL) {
        return;
    }
    lock_members(group);
    TAILQ_REMOVE(&group->members, member, link);
    pthread_mutex_unlock(&group->members_mutex);
    member->group = NULL;
}

// append puts a payload behind the last chunk, or into it if it fits there: members get whole chunks.
static enum err
append(struct chunk_list *list, struct bytes_view payload)
{
    struct chunk *last = TAILQ_LAST(list, chunk_list);
    if (last == NULL || last->capacity - last->size < payload.size) {
        const size_t capacity = payload.size > CHUNK_BYTES ? payload.size : CHUNK_BYTES;
        last = malloc(sizeof(*last) + capacity);
        if (last == NULL) {
            return ERR_NO_MEMORY;
        }
        last->size = 0;
        last->capacity = capacity;
        TAILQ_INSERT_TAIL(list, last, link);
    }
    memcpy(last->data + last->size, payload.data, payload.size);
    last->size += payload.size;
    return ERR_OK;
}

static void
count_dropped(struct rpc_feed_group *group, uint64_t bytes)
{
    atomic_fetch_add_explicit(&group->server->stats.dropped_subscription_bytes, bytes, memory_order_relaxed);
}

// Takes what has come into the log.
static void
take_incoming_locked(struct rpc_feed_group *group)
{
    struct chunk_list taken = TAILQ_HEAD_INITIALIZER(taken);
    pthread_mutex_lock(&group->incoming_mutex);
    TAILQ_CONCAT(&taken, &group->incoming.chunks, link);
    group->incoming.bytes = 0;
    pthread_mutex_unlock(&group->incoming_mutex);
    while (!TAILQ_EMPTY(&taken)) {
        struct chunk *chunk = TAILQ_FIRST(&taken);
        struct chunk *last = TAILQ_LAST(&group->log, chunk_list);
        TAILQ_REMOVE(&taken, chunk, link);
        if (last != NULL && last->capacity - last->size >= chunk->size) {
            memcpy(last->data + last->size, chunk->data, chunk->size);
            last->size += chunk->size;
            group->log_end += chunk->size;
            free(chunk);
        } else {
            chunk->start = group->log_end;
            group->log_end += chunk->size;
            TAILQ_INSERT_TAIL(&group->log, chunk, link);
        }
    }
}

static void
free_first_chunk(struct rpc_feed_group *group)
{
    struct chunk *chunk = TAILQ_FIRST(&group->log);
    TAILQ_REMOVE(&group->log, chunk, link);
    free(chunk);
}

// Frees what all members have had, and of too much what only the slowest have not.
static void
trim_log_locked(struct rpc_feed_group *group, uint64_t needed_from)
{
    struct chunk *first = TAILQ_FIRST(&group->log);
    while (first != NULL && (first->start + first->size <= needed_from ||
                                group->log_end - first->start > RPC_FEED_GROUP_MAX_BYTES + first->size)) {
        free_first_chunk(group);
        first = TAILQ_FIRST(&group->log);
    }
}

// Hands a member the rest of the chunk that it needs next.
static void
hand_out_locked(struct rpc_feed_group *group, struct rpc_feed_member *member)
{
    struct chunk *chunk = TAILQ_FIRST(&group->log);
    while (chunk->start + chunk->size <= member->had) {
        chunk = TAILQ_NEXT(chunk, link); // the first in the list needs the first
    }
    if (member->had < chunk->start) {
        count_dropped(group, chunk->start - member->had);
        member->had = chunk->start;
    }
    const size_t from = (size_t)(member->had - chunk->start);
    rpc_feed_push(member->feed, group->topic, bytes_view_of(chunk->data + from, chunk->size - from));
    member->had = chunk->start + chunk->size;
    TAILQ_REMOVE(&group->members, member, link);
    insert_locked(group, member);
}

// Goes on with the round for at most so many members. Returns whether all have had all.
static bool
serve(struct rpc_feed_group *group, unsigned member_count)
{
    bool has_all = false;
    lock_members(group);
    while (!has_all && member_count-- > 0) {
        take_incoming_locked(group);
        struct rpc_feed_member *member = TAILQ_FIRST(&group->members);
        const uint64_t needed_from = member == NULL ? group->log_end : member->had;
        trim_log_locked(group, needed_from);
        has_all = needed_from == group->log_end;
        if (!has_all) {
            hand_out_locked(group, member);
        }
    }
    pthread_mutex_unlock(&group->members_mutex);
    return has_all;
}

// Ends the round, unless something has come since.
static bool
end_round(struct rpc_feed_group *group)
{
    pthread_mutex_lock(&group->incoming_mutex);
    const bool is_over = TAILQ_EMPTY(&group->incoming.chunks);
    group->incoming.is_in_round = !is_over;
    pthread_mutex_unlock(&group->incoming_mutex);
    return is_over;
}

// Leaves the round to the feed thread.
static void
pass_round(struct rpc_feed_group *group)
{
    struct rpc_feed_rounds *rounds = &group->server->rounds;
    pthread_mutex_lock(&rounds->mutex);
    const bool is_taken = !rounds->is_stopping;
    if (is_taken) {
        atomic_fetch_add_explicit(&group->references, 1, memory_order_relaxed);
        STAILQ_INSERT_TAIL(&rounds->due, group, due_link);
        pthread_cond_signal(&rounds->wake);
    }
    pthread_mutex_unlock(&rounds->mutex);
}

// Forgets the oldest of what has come and nobody has taken, until so much more is not too much.
static void
make_room_incoming(struct rpc_feed_group *group, size_t needed_bytes)
{
    while (!TAILQ_EMPTY(&group->incoming.chunks) && group->incoming.bytes + needed_bytes > RPC_FEED_GROUP_MAX_BYTES) {
        struct chunk *chunk = TAILQ_FIRST(&group->incoming.chunks);
        TAILQ_REMOVE(&group->incoming.chunks, chunk, link);
        group->incoming.bytes -= chunk->size;
        count_dropped(group, chunk->size);
        free(chunk);
    }
}

enum err
rpc_feed_group_push(struct rpc_feed_group *group, struct bytes_view payload)
{
    pthread_mutex_lock(&group->incoming_mutex);
    make_room_incoming(group, payload.size);
    enum err err = append(&group->incoming.chunks, payload);
    const bool is_mine = err == ERR_OK && !group->incoming.is_in_round;
    if (err == ERR_OK) {
        group->incoming.bytes += payload.size;
        group->incoming.is_in_round = true;
    }
    pthread_mutex_unlock(&group->incoming_mutex);
    if (is_mine && !(serve(group, MEMBERS_OF_PUSH + 1) && end_round(group))) {
        pass_round(group);
    }
    return err;
}

void
rpc_feed_group_push_one(struct rpc_feed_member *member, struct bytes_view payload)
{
    struct rpc_feed_group *group = member->group;
    lock_members(group);
    take_incoming_locked(group);
    while (member->had < group->log_end) {
        hand_out_locked(group, member);
    }
    rpc_feed_push(member->feed, group->topic, payload);
    pthread_mutex_unlock(&group->members_mutex);
}

static void *
run_rounds(void *context)
{
    struct rpc_feed_rounds *rounds = context;
    pthread_mutex_lock(&rounds->mutex);
    while (!rounds->is_stopping) {
        struct rpc_feed_group *group = STAILQ_FIRST(&rounds->due);
        if (group == NULL) {
            pthread_cond_wait(&rounds->wake, &rounds->mutex);
            continue;
        }
        STAILQ_REMOVE_HEAD(&rounds->due, due_link);
        pthread_mutex_unlock(&rounds->mutex);
        // Groups take turns.
        if (!(serve(group, MEMBERS_AT_ONCE) && end_round(group))) {
            pass_round(group);
        }
        release(group);
        pthread_mutex_lock(&rounds->mutex);
    }
    pthread_mutex_unlock(&rounds->mutex);
    return NULL;
}

enum err
rpc_feed_rounds_start(struct rpc_server *server)
{
    struct rpc_feed_rounds *rounds = &server->rounds;
    enum err err = thread_start(&rounds->thread, "rpc-feeds", run_rounds, rounds);
    rounds->is_started = err == ERR_OK;
    return err;
}

void
rpc_feed_rounds_stop(struct rpc_server *server)
{
    struct rpc_feed_rounds *rounds = &server->rounds;
    pthread_mutex_lock(&rounds->mutex);
    rounds->is_stopping = true;
    pthread_cond_signal(&rounds->wake);
    pthread_mutex_unlock(&rounds->mutex);
    if (rounds->is_started) {
        (void)pthread_join(rounds->thread, NULL);
    }
    while (!STAILQ_EMPTY(&rounds->due)) {
        struct rpc_feed_group *group = STAILQ_FIRST(&rounds->due);
        STAILQ_REMOVE_HEAD(&rounds->due, due_link);
        release(group);
    }
}
