// What is pushed to those who watch a room.
//
// A feed that is full keeps only the newest payload of each topic, and its receiver notices by the numbers inside that
// something is missing. So events without such numbers go together with a heartbeat, which has them.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/chat/chat_fanout_priv.h"

enum {
    TYPING_INTERVAL_MS = 1000,
};

// selection says to whose subscriptions an event goes: all but except_id's, or only only_id's. NULL: does not matter.
struct selection {
    const uint8_t *except_id;
    const uint8_t *only_id;
};

static bool
is_user(const struct chat_subscription *subscription, const uint8_t *user_id)
{
    return memcmp(subscription->user_id, user_id, CHAT_ID_BYTES) == 0;
}

static void
warn_dropped(void)
{
    log_warn("CHAT-EVENT-DROPPED", NULL, "out of memory: an event was not published; its receivers fetch it later");
}

bool
chat_events_encode_locked(struct chat_fanout *fanout, Fc__Chat__V1__Event *event)
{
    bytes_clear(&fanout->locked.scratch);
    if (chat_wire_append_event(&fanout->locked.scratch, event) != ERR_OK) {
        warn_dropped();
        return false;
    }
    return true;
}

static void
push_scratch_locked(struct chat_fanout *fanout, struct watched_room *room)
{
    if (rpc_feed_group_push(room->group, bytes_as_view(&fanout->locked.scratch)) != ERR_OK) {
        warn_dropped();
    }
}

void
chat_events_push_locked(struct chat_fanout *fanout, struct watched_room *room, Fc__Chat__V1__Event *event)
{
    if (chat_events_encode_locked(fanout, event)) {
        push_scratch_locked(fanout, room);
    }
}

static void
set_heartbeat(const struct watched_room *room, Fc__Chat__V1__Heartbeat *heartbeat, Fc__Chat__V1__Event *event)
{
    fc__chat__v1__heartbeat__init(heartbeat);
    fc__chat__v1__event__init(event);
    heartbeat->head_seq = room->head_seq;
    heartbeat->log_seq = room->log_seq;
    event->kind_case = FC__CHAT__V1__EVENT__KIND_HEARTBEAT;
    event->heartbeat = heartbeat;
}

void
chat_events_heartbeat_locked(struct chat_fanout *fanout, struct watched_room *room)
{
    Fc__Chat__V1__Heartbeat heartbeat;
    Fc__Chat__V1__Event event;
    set_heartbeat(room, &heartbeat, &event);
    chat_events_push_locked(fanout, room, &event);
}

// push_with_heads_locked is for events without numbers.
static void
push_with_heads_locked(struct chat_fanout *fanout, struct watched_room *room, Fc__Chat__V1__Event *event,
    struct selection to)
{
    Fc__Chat__V1__Heartbeat heartbeat;
    Fc__Chat__V1__Event heads;
    set_heartbeat(room, &heartbeat, &heads);
    if (!chat_events_encode_locked(fanout, event) ||
        chat_wire_append_event(&fanout->locked.scratch, &heads) != ERR_OK) {
        return;
    }
    if (to.except_id == NULL && to.only_id == NULL) {
        push_scratch_locked(fanout, room);
        return;
    }
    struct watch *watch;
    LIST_FOREACH(watch, &room->watches, in_room)
    {
        const struct chat_subscription *subscription = watch->subscription;
        if ((to.except_id == NULL || !is_user(subscription, to.except_id)) &&
            (to.only_id == NULL || is_user(subscription, to.only_id))) {
            rpc_feed_group_push_one(&watch->member, bytes_as_view(&fanout->locked.scratch));
        }
    }
}

static uint64_t
larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void
chat_fanout_note_heads(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES], uint64_t head_seq,
    uint64_t log_seq)
{
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room = chat_fanout_find_locked(fanout, room_id);
    if (room != NULL) {
        room->head_seq = larger(room->head_seq, head_seq);
        room->log_seq = larger(room->log_seq, log_seq);
    }
    pthread_mutex_unlock(&fanout->mutex);
}

void
chat_fanout_publish(struct chat_fanout *fanout, const struct chat_message *message)
{
    Fc__Chat__V1__Message encoded;
    Fc__Chat__V1__FileAnnouncement file;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room = chat_fanout_find_locked(fanout, message->room_id);
    if (room != NULL) {
        room->head_seq = larger(room->head_seq, message->seq);
        chat_wire_message(message, &encoded, &file);
        event.kind_case = FC__CHAT__V1__EVENT__KIND_MESSAGE;
        event.message = &encoded;
        chat_events_push_locked(fanout, room, &event);
    }
    pthread_mutex_unlock(&fanout->mutex);
}

void
chat_fanout_publish_log(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES], uint64_t log_seq)
{
    Fc__Chat__V1__LogGrown grown = FC__CHAT__V1__LOG_GROWN__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room = chat_fanout_find_locked(fanout, room_id);
    if (room != NULL) {
        room->log_seq = larger(room->log_seq, log_seq);
        grown.log_seq = log_seq;
        event.kind_case = FC__CHAT__V1__EVENT__KIND_LOG_GROWN;
        event.log_grown = &grown;
        push_with_heads_locked(fanout, room, &event, (struct selection){0});
    }
    pthread_mutex_unlock(&fanout->mutex);
}

// may_type_locked notes that a user writes; false: told of less than a second ago, or too many do.
static bool
may_type_locked(struct watched_room *room, const uint8_t user_id[CHAT_ID_BYTES], uint64_t now_ms)
{
    struct typist *oldest = &room->typists[0];
    for (size_t i = 0; i < CHAT_TYPISTS_MAX; i++) {
        struct typist *typist = &room->typists[i];
        bool is_recent = typist->typed_ms != 0 && now_ms - typist->typed_ms < TYPING_INTERVAL_MS;
        if (is_recent && memcmp(typist->user_id, user_id, CHAT_ID_BYTES) == 0) {
            return false;
        }
        oldest = typist->typed_ms < oldest->typed_ms ? typist : oldest;
    }
    if (oldest->typed_ms != 0 && now_ms - oldest->typed_ms < TYPING_INTERVAL_MS) {
        return false;
    }
    memcpy(oldest->user_id, user_id, CHAT_ID_BYTES);
    oldest->typed_ms = now_ms;
    return true;
}

void
chat_fanout_publish_typing(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES],
    const struct chat_user *user)
{
    Fc__Chat__V1__Typed typed = FC__CHAT__V1__TYPED__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    uint64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room = chat_fanout_find_locked(fanout, room_id);
    if (room != NULL && may_type_locked(room, user->id, now_ms)) {
        typed.user_name = (char *)(uintptr_t)user->name; // protobuf-c has no const
        event.kind_case = FC__CHAT__V1__EVENT__KIND_TYPING;
        event.typing = &typed;
        push_with_heads_locked(fanout, room, &event, (struct selection){.except_id = user->id});
    }
    pthread_mutex_unlock(&fanout->mutex);
}

void
chat_fanout_publish_read(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t user_id[CHAT_ID_BYTES], uint64_t read_seq)
{
    Fc__Chat__V1__ReadMoved moved = FC__CHAT__V1__READ_MOVED__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    pthread_mutex_lock(&fanout->mutex);
    struct watched_room *room = chat_fanout_find_locked(fanout, room_id);
    if (room != NULL) {
        moved.read_seq = read_seq;
        event.kind_case = FC__CHAT__V1__EVENT__KIND_READ_MOVED;
        event.read_moved = &moved;
        push_with_heads_locked(fanout, room, &event, (struct selection){.only_id = user_id});
    }
    pthread_mutex_unlock(&fanout->mutex);
}

void
chat_events_presence_locked(struct chat_fanout *fanout, struct watched_room *room,
    const struct chat_subscription *subscription, bool is_present)
{
    struct watch *watch;
    LIST_FOREACH(watch, &room->watches, in_room)
    {
        const struct chat_subscription *other = watch->subscription;
        if (other != subscription && other->is_shown && is_user(other, subscription->user_id)) {
            return;
        }
    }
    Fc__Chat__V1__PresenceChanged changed = FC__CHAT__V1__PRESENCE_CHANGED__INIT;
    Fc__Chat__V1__Event event = FC__CHAT__V1__EVENT__INIT;
    changed.user_name = (char *)(uintptr_t)subscription->user_name;
    changed.is_present = is_present;
    event.kind_case = FC__CHAT__V1__EVENT__KIND_PRESENCE_CHANGED;
    event.presence_changed = &changed;
    push_with_heads_locked(fanout, room, &event, (struct selection){.except_id = subscription->user_id});
}

uint64_t
chat_fanout_presence_version(struct chat_fanout *fanout)
{
    pthread_mutex_lock(&fanout->mutex);
    uint64_t version = fanout->locked.presence_version;
    pthread_mutex_unlock(&fanout->mutex);
    return version;
}

void
chat_fanout_set_shown(struct chat_fanout *fanout, const uint8_t user_id[CHAT_ID_BYTES], bool is_shown)
{
    struct chat_subscription *subscription;
    pthread_mutex_lock(&fanout->mutex);
    fanout->locked.presence_version++;
    LIST_FOREACH(subscription, &fanout->locked.subscriptions, in_fanout)
    {
        if (subscription->is_shown == is_shown || !is_user(subscription, user_id)) {
            continue;
        }
        subscription->is_shown = is_shown;
        for (size_t i = 0; i < subscription->watch_count; i++) {
            if (subscription->watches[i].room != NULL) {
                chat_events_presence_locked(fanout, subscription->watches[i].room, subscription, is_shown);
            }
        }
    }
    pthread_mutex_unlock(&fanout->mutex);
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// list_shown_locked copies the names behind the array of pointers to them.
static enum err
list_shown_locked(const struct watched_room *room, char ***names_out, size_t *count_out)
{
    const struct watch *watch;
    size_t watch_count = 0;
    LIST_FOREACH(watch, &room->watches, in_room)
    {
        watch_count++;
    }
    char **names = malloc(watch_count * (sizeof(*names) + RPC_SUBJECT_NAME_MAX_BYTES) + 1);
    if (names == NULL) {
        return ERR_NO_MEMORY;
    }
    char *text = (char *)(names + watch_count);
    size_t count = 0;
    LIST_FOREACH(watch, &room->watches, in_room)
    {
        if (watch->subscription->is_shown) {
            names[count] = text + count * RPC_SUBJECT_NAME_MAX_BYTES;
            memcpy(names[count], watch->subscription->user_name, RPC_SUBJECT_NAME_MAX_BYTES);
            count++;
        }
    }
    *names_out = names;
    *count_out = count;
    return ERR_OK;
}

enum err
chat_fanout_present(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES], char ***names_out,
    size_t *count_out)
{
    char **names = NULL;
    size_t count = 0;
    enum err err = ERR_OK;
    pthread_mutex_lock(&fanout->mutex);
    const struct watched_room *room = chat_fanout_find_locked(fanout, room_id);
    if (room != NULL) {
        err = list_shown_locked(room, &names, &count);
    }
    pthread_mutex_unlock(&fanout->mutex);
    size_t kept = 0;
    if (count > 1) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0) {
            names[kept++] = names[i];
        }
    }
    *names_out = names;
    *count_out = kept;
    return err;
}
