// Who watches which room.
//
//     fanout -- hash by room id --> watched_room -- list --> watch <-- array -- chat_subscription -- feed
//
// A watch stands in the list of its room until the membership or the subscription ends. A room without watches is
// forgotten. A subscription has two references: its feed's, until on_closed, and that of the Subscribe call which makes
// it. Feeds are pushed to under the lock, so that after a watch has been removed under it nobody pushes there any more;
// they are closed without it, since on_closed takes it.
//
// Lock order: the fanout's mutex, then what is inside rpc_feed_push and the timer queue.
#include "services/chat/chat_fanout.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/chat/chat_fanout_priv.h"

static_assert((int)RPC_TOPIC_BYTES == (int)CHAT_ID_BYTES, "a room's id is its topic");

struct watched_room *
chat_fanout_find_locked(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES])
{
    struct watched_room *room = NULL;
    HASH_FIND(hh, fanout->locked.rooms, room_id, CHAT_ID_BYTES, room);
    return room;
}

static struct watched_room *
find_or_add_room_locked(struct chat_fanout *fanout, const struct chat_room *from)
{
    struct watched_room *room = chat_fanout_find_locked(fanout, from->id);
    if (room != NULL) {
        return room;
    }
    room = calloc(1, sizeof(*room));
    if (room == NULL) {
        return NULL;
    }
    memcpy(room->room_id, from->id, sizeof(room->room_id));
    room->head_seq = from->head_seq;
    room->log_seq = from->log_seq;
    LIST_INIT(&room->watches);
    if (rpc_feed_group_new(fanout->server, room->room_id, &room->group) != ERR_OK) {
        free(room);
        return NULL;
    }
    HASH_ADD(hh, fanout->locked.rooms, room_id, sizeof(room->room_id), room);
    if (room->hh.tbl == NULL) {
        rpc_feed_group_free(&room->group);
        free(room);
        return NULL;
    }
    return room;
}

static void
remove_watch_locked(struct chat_fanout *fanout, struct watch *watch)
{
    struct watched_room *room = watch->room;
    if (room == NULL) {
        return;
    }
    watch->room = NULL;
    LIST_REMOVE(watch, in_room);
    rpc_feed_group_remove(&watch->member);
    if (LIST_EMPTY(&room->watches)) {
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the table has this room, so it is there.
        HASH_DEL(fanout->locked.rooms, room);
        rpc_feed_group_free(&room->group);
        free(room);
    } else if (watch->subscription->is_shown && !fanout->locked.is_stopping) {
        chat_events_presence_locked(fanout, room, watch->subscription, false);
    }
}

static void
remove_watches_locked(struct chat_subscription *subscription)
{
    for (size_t i = 0; i < subscription->watch_count; i++) {
        remove_watch_locked(subscription->fanout, &subscription->watches[i]);
    }
    subscription->watch_count = 0;
}

static enum err
add_watches_locked(struct chat_subscription *subscription, const struct chat_room *rooms, size_t room_count)
{
    for (size_t i = 0; i < room_count; i++) {
        struct watched_room *room = find_or_add_room_locked(subscription->fanout, &rooms[i]);
        if (room == NULL) {
            return ERR_NO_MEMORY;
        }
        // A room that is named twice: its first watch was put in front a moment ago.
        struct watch *newest = LIST_FIRST(&room->watches);
        if (newest != NULL && newest->subscription == subscription) {
            continue;
        }
        struct watch *watch = &subscription->watches[subscription->watch_count++];
        watch->room = room;
        watch->subscription = subscription;
        LIST_INSERT_HEAD(&room->watches, watch, in_room);
        rpc_feed_group_add(room->group, &watch->member, subscription->feed);
    }
    return ERR_OK;
}

void
chat_subscription_release(struct chat_subscription *subscription)
{
    struct chat_fanout *fanout = subscription->fanout;
    pthread_mutex_lock(&fanout->mutex);
    bool is_last = --subscription->references == 0;
    if (is_last) {
        LIST_REMOVE(subscription, in_fanout);
    }
    pthread_mutex_unlock(&fanout->mutex);
    if (is_last) {
        rpc_feed_release(subscription->feed);
        free(subscription);
    }
}

static void
on_feed_closed(void *context, struct rpc_feed *feed)
{
    struct chat_subscription *subscription = context;
    (void)feed;
    pthread_mutex_lock(&subscription->fanout->mutex);
    subscription->is_closed = true;
    remove_watches_locked(subscription);
    pthread_mutex_unlock(&subscription->fanout->mutex);
    chat_subscription_release(subscription);
}

void
chat_subscription_close(struct chat_subscription *subscription)
{
    pthread_mutex_lock(&subscription->fanout->mutex);
    bool is_first = !subscription->is_closing && !subscription->is_closed;
    subscription->is_closing = true;
    remove_watches_locked(subscription);
    pthread_mutex_unlock(&subscription->fanout->mutex);
    if (is_first) {
        rpc_feed_close(subscription->feed);
    }
}

bool
chat_subscription_show(struct chat_subscription *subscription, uint64_t presence_version)
{
    struct chat_fanout *fanout = subscription->fanout;
    pthread_mutex_lock(&fanout->mutex);
    bool is_current = presence_version == fanout->locked.presence_version;
    if (is_current && !subscription->is_closing && !subscription->is_closed) {
        subscription->is_shown = true;
        for (size_t i = 0; i < subscription->watch_count; i++) {
            if (subscription->watches[i].room != NULL) {
                chat_events_presence_locked(fanout, subscription->watches[i].room, subscription, true);
            }
        }
    }
    pthread_mutex_unlock(&fanout->mutex);
    return is_current;
}

const char *
chat_subscription_ticket(const struct chat_subscription *subscription)
{
    return rpc_feed_ticket(subscription->feed);
}

static size_t
count_subscriptions_locked(struct chat_fanout *fanout, const uint8_t user_id[CHAT_ID_BYTES])
{
    size_t count = 0;
    struct chat_subscription *subscription;
    LIST_FOREACH(subscription, &fanout->locked.subscriptions, in_fanout)
    {
        if (!subscription->is_closed && memcmp(subscription->user_id, user_id, CHAT_ID_BYTES) == 0) {
            count++;
        }
    }
    return count;
}

// register_subscription puts a new one into the list with both its references.
static enum err
register_subscription(struct chat_subscription *subscription, struct err_detail *why)
{
    struct chat_fanout *fanout = subscription->fanout;
    enum err err = ERR_OK;
    pthread_mutex_lock(&fanout->mutex);
    if (fanout->locked.is_stopping) {
        err = err_fail(why, ERR_UNAVAILABLE, "the server is shutting down; try again in a moment");
    } else if (count_subscriptions_locked(fanout, subscription->user_id) >= CHAT_SUBSCRIPTIONS_PER_USER_MAX) {
        err = err_fail(why, ERR_LIMIT,
            "you have %d subscriptions open already; end some of the programs that follow rooms",
            CHAT_SUBSCRIPTIONS_PER_USER_MAX);
    } else {
        subscription->references = 2;
        LIST_INSERT_HEAD(&fanout->locked.subscriptions, subscription, in_fanout);
    }
    pthread_mutex_unlock(&fanout->mutex);
    return err;
}

enum err
chat_fanout_open(struct chat_fanout *fanout, const struct rpc_identity *owner, const struct chat_room *rooms,
    size_t room_count, struct chat_subscription **out, struct err_detail *why)
{
    struct chat_subscription *subscription =
        calloc(1, sizeof(*subscription) + room_count * sizeof(subscription->watches[0]));
    if (subscription == NULL) {
        return ERR_NO_MEMORY;
    }
    subscription->fanout = fanout;
    memcpy(subscription->user_id, owner->subject_id, sizeof(subscription->user_id));
    snprintf(subscription->user_name, sizeof(subscription->user_name), "%s", owner->subject_name);
    memcpy(subscription->session_id, owner->session_id, sizeof(subscription->session_id));
    subscription->expires_unix_ms = owner->expires_unix_ms;
    enum err err = register_subscription(subscription, why);
    if (err != ERR_OK) {
        free(subscription);
        return err;
    }
    struct rpc_feed *feed = NULL;
    err = rpc_feed_new(fanout->server, on_feed_closed, subscription, &feed);
    if (err != ERR_OK) {
        // Nobody else has taken a reference, since there is no feed.
        pthread_mutex_lock(&fanout->mutex);
        LIST_REMOVE(subscription, in_fanout);
        pthread_mutex_unlock(&fanout->mutex);
        free(subscription);
        return err;
    }
    pthread_mutex_lock(&fanout->mutex);
    subscription->feed = feed;
    if (!subscription->is_closed && !fanout->locked.is_stopping) {
        err = add_watches_locked(subscription, rooms, room_count);
    } else {
        err = ERR_UNAVAILABLE;
    }
    pthread_mutex_unlock(&fanout->mutex);
    if (err != ERR_OK) {
        chat_subscription_close(subscription);
        chat_subscription_release(subscription);
        return err;
    }
    *out = subscription;
    return ERR_OK;
}

static void
end_watch_locked(struct chat_fanout *fanout, struct watch *watch, const uint8_t room_id[CHAT_ID_BYTES])
{
    struct rpc_feed *feed = watch->subscription->feed;
    Fc__Chat__V1__MembershipEnded ended = FC__CHAT__V1__MEMBERSHIP_ENDED__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    event.kind_case = FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED;
    event.membership_ended = &ended;
    remove_watch_locked(fanout, watch);
    rpc_feed_drop_topic(feed, room_id);
    if (chat_events_encode_locked(fanout, &event)) {
        rpc_feed_push(feed, room_id, bytes_as_view(&fanout->locked.scratch));
    }
}

void
chat_fanout_end_membership(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t user_id[CHAT_ID_BYTES])
{
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room = chat_fanout_find_locked(fanout, room_id);
    struct watch *watch = room == NULL ? NULL : LIST_FIRST(&room->watches);
    while (watch != NULL) {
        // Removing the last watch frees the room, so the next one is taken first.
        struct watch *next = LIST_NEXT(watch, in_room);
        if (memcmp(watch->subscription->user_id, user_id, CHAT_ID_BYTES) == 0) {
            end_watch_locked(fanout, watch, room_id);
        }
        watch = next;
    }
    pthread_mutex_unlock(&fanout->mutex);
}

// due_fn says whether a subscription has to be closed.
typedef bool due_fn(const struct chat_subscription *subscription, const void *context);

// close_due closes the feeds that are due, one at a time, since a feed is closed without the lock.
static void
close_due(struct chat_fanout *fanout, due_fn *is_due, const void *context)
{
    struct chat_subscription *subscription;
    do {
        pthread_mutex_lock(&fanout->mutex);
        LIST_FOREACH(subscription, &fanout->locked.subscriptions, in_fanout)
        {
            if (!subscription->is_closing && !subscription->is_closed && subscription->feed != NULL &&
                is_due(subscription, context)) {
                subscription->references++;
                break;
            }
        }
        pthread_mutex_unlock(&fanout->mutex);
        if (subscription != NULL) {
            chat_subscription_close(subscription);
            chat_subscription_release(subscription);
        }
    } while (subscription != NULL);
}

static bool
is_any(const struct chat_subscription *subscription, const void *context)
{
    (void)subscription;
    (void)context;
    return true;
}

static bool
is_expired(const struct chat_subscription *subscription, const void *now_unix_ms)
{
    return subscription->expires_unix_ms <= *(const int64_t *)now_unix_ms;
}

static bool
is_of_session(const struct chat_subscription *subscription, const void *session_id)
{
    return memcmp(subscription->session_id, session_id, CHAT_ID_BYTES) == 0;
}

void
chat_fanout_end_session(struct chat_fanout *fanout, const uint8_t session_id[CHAT_ID_BYTES])
{
    close_due(fanout, is_of_session, session_id);
}

static void
on_heartbeat(struct timer *timer)
{
    struct chat_fanout *fanout = (struct chat_fanout *)((char *)timer - offsetof(struct chat_fanout, heartbeat));
    int64_t now_unix_ms = clock_unix_ms();
    close_due(fanout, is_expired, &now_unix_ms);
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room;
    struct watched_room *next;
    HASH_ITER(hh, fanout->locked.rooms, room, next)
    {
        chat_events_heartbeat_locked(fanout, room);
    }
    if (!fanout->locked.is_stopping &&
        timer_start(rpc_server_timers(fanout->server), &fanout->heartbeat, fanout->heartbeat_ms) != ERR_OK) {
        log_error("CHAT-HEARTBEAT-LOST", NULL, "out of memory: rooms have no more heartbeats; restart the server");
    }
    pthread_mutex_unlock(&fanout->mutex);
}

enum err
chat_fanout_new(struct rpc_server *server, uint64_t heartbeat_ms, struct chat_fanout **out)
{
    struct chat_fanout *fanout = calloc(1, sizeof(*fanout));
    if (fanout == NULL) {
        return ERR_NO_MEMORY;
    }
    fanout->server = server;
    fanout->heartbeat_ms = heartbeat_ms;
    fanout->heartbeat.on_expiry = on_heartbeat;
    LIST_INIT(&fanout->locked.subscriptions);
    if (pthread_mutex_init(&fanout->mutex, NULL) != 0) {
        free(fanout);
        return ERR_NO_MEMORY;
    }
    enum err err = timer_start(rpc_server_timers(server), &fanout->heartbeat, heartbeat_ms);
    if (err != ERR_OK) {
        chat_fanout_free(&fanout);
        return err;
    }
    *out = fanout;
    return ERR_OK;
}

void
chat_fanout_stop(struct chat_fanout *fanout)
{
    pthread_mutex_lock(&fanout->mutex);
    fanout->locked.is_stopping = true;
    pthread_mutex_unlock(&fanout->mutex);
    timer_stop(rpc_server_timers(fanout->server), &fanout->heartbeat);
    close_due(fanout, is_any, NULL);
}

void
chat_fanout_free(struct chat_fanout **fanout)
{
    if (*fanout == NULL) {
        return;
    }
    bytes_free(&(*fanout)->locked.scratch);
    pthread_mutex_destroy(&(*fanout)->mutex);
    free(*fanout);
    *fanout = NULL;
}
