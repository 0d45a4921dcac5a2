// Following rooms: a subscription for what happens, History for what was missed.
//
// The server says with the ticket where each room's head is and delivers everything after that. So the stream, on a
// thread of its own, fetches up to the heads, then takes what arrives in order of seq: what it has already is dropped,
// and when a number is missing, or a heartbeat is ahead, it fetches again. Whatever goes wrong with the live side, a
// queue that is full, a payload that cannot be read, a connection that breaks, can thus cost time but no message.
//
// Threads: the subscriber's handlers (nng's threads) only queue payloads. Everything else that is not `locked` belongs
// to the stream's thread once it runs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "client/fc_lend_priv.h"
#include "client/fc_room.h"
#include "client/fc_room_inbox_priv.h"
#include "client/fc_room_priv.h"
#include "rpc/rpc_backoff.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_subscriber.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    UNPACKED_MAX_BYTES = 32 * 1024 * 1024, // a payload in memory; a larger one is fetched instead
    // Three heartbeats without one: the connection is dead though nobody said so.
    SILENCE_MAX_MS = 45 * 1000,
    PAUSE_LONGEST_MS = 5 * 1000,
};

// followed_room is one of the rooms that a stream follows.
struct followed_room {
    char *wanted; // as the caller named it
    // Set once, before the first subscriber is made.
    uint8_t id[FC_ROOM_ID_BYTES];
    char id_text[2 * FC_ROOM_ID_BYTES + 1];
    char name[65];
    bool is_known;       // id and name, and where to begin
    bool is_over;        // the membership ended while others are followed
    uint64_t last_seq;   // everything up to it has been delivered, or was not asked for
    uint64_t server_seq; // the newest number that the server has ever told
};

struct fc_room_stream {
    // Immutable after open.
    struct fc_session *session;
    struct fc_room_stream_options options;

    // On the stream's thread.
    pthread_t thread;
    struct rpc_subscriber *subscriber;
    struct followed_room *rooms;
    size_t room_count;
    bool has_opened;       // the first attempt has been reported
    bool is_stopped_by_fn; // on_message returned false
    bool has_state;        // on_state has been called; `state` is what it said last
    enum fc_stream_state state;
    struct rpc_backoff backoff; // of attempts
    struct err_detail cause;    // of the error that is being handled

    struct fc_room_inbox inbox;

    pthread_mutex_t mutex;
    pthread_cond_t opened;
    struct {
        struct rpc_unary *call; // under way on the stream's thread, for close to cancel
        bool is_opened;         // the first attempt has ended
        enum err open_result;
    } locked;
};

static void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view data)
{
    struct fc_room_stream *stream = context;
    fc_room_inbox_put(&stream->inbox, topic, data);
}

static void
on_subscription_closed(void *context, enum err reason)
{
    struct fc_room_stream *stream = context;
    fc_room_inbox_end(&stream->inbox, reason);
}

static const struct rpc_subscriber_handlers subscriber_handlers = {
    .on_event = on_event,
    .on_closed = on_subscription_closed,
};

// begin_call and end_call surround a call on the stream's thread, so that close can cancel it. begin_call returns with
// the mutex held, for the start of the call; ERR_CANCELLED without it.
static enum err
begin_call(struct fc_room_stream *stream, struct rpc_unary *call)
{
    fc_chat_v1_chat_init(call, fc_session_channel(stream->session));
    call->is_idempotent = true;
    pthread_mutex_lock(&stream->mutex);
    if (fc_room_inbox_is_closed(&stream->inbox)) {
        pthread_mutex_unlock(&stream->mutex);
        return ERR_CANCELLED;
    }
    stream->locked.call = call;
    return ERR_OK;
}

static enum err
end_call(struct fc_room_stream *stream, struct rpc_unary *call)
{
    pthread_mutex_unlock(&stream->mutex);
    enum err err = fc_session_explain(call, rpc_unary_wait(call), &stream->cause);
    pthread_mutex_lock(&stream->mutex);
    stream->locked.call = NULL;
    pthread_mutex_unlock(&stream->mutex);
    return err;
}

// deliver hands a message on if it is the next one; older ones have been delivered. ERR_OUT_OF_RANGE: some before it
// are missing. ERR_CANCELLED: the caller wants no more.
static enum err
deliver(struct fc_room_stream *stream, struct followed_room *room, const Fc__Chat__V1__Message *wire)
{
    struct fc_message message;
    enum err err = fc_room_message_from_wire(wire, room->name, &message, &stream->cause);
    if (err == ERR_OK && memcmp(message.room_id, room->id, sizeof(room->id)) != 0) {
        err = err_fail(&stream->cause, ERR_PROTOCOL, "the server sent a message of another room");
    }
    if (err != ERR_OK) {
        return err;
    }
    if (message.seq > room->server_seq) {
        room->server_seq = message.seq;
    }
    if (message.seq <= room->last_seq) {
        return ERR_OK;
    }
    if (message.seq != room->last_seq + 1) {
        return ERR_OUT_OF_RANGE;
    }
    room->last_seq = message.seq;
    rpc_backoff_reset(&stream->backoff);
    if (!stream->options.on_message(stream->options.context, &message)) {
        stream->is_stopped_by_fn = true;
        return ERR_CANCELLED;
    }
    return ERR_OK;
}

static enum err
deliver_page(struct fc_room_stream *stream, struct followed_room *room, const Fc__Chat__V1__HistoryResponse *page)
{
    uint64_t before = room->last_seq;
    enum err err = ERR_OK;
    for (size_t i = 0; i < page->n_messages && err == ERR_OK; i++) {
        err = fc_room_inbox_is_closed(&stream->inbox) ? ERR_CANCELLED : deliver(stream, room, page->messages[i]);
    }
    if (err == ERR_OUT_OF_RANGE || (err == ERR_OK && room->last_seq == before && before < page->head_seq)) {
        return err_fail(&stream->cause, ERR_PROTOCOL, "the server keeps back the messages after %llu of \"%s\"",
            (unsigned long long)before, room->name);
    }
    return err;
}

// fetch delivers what History has after last_seq, until it has reached the room's head.
static enum err
fetch(struct fc_room_stream *stream, struct followed_room *room)
{
    bool is_behind = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && is_behind) {
        struct rpc_unary call;
        Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
        request.room = room->id_text;
        request.after_seq = room->last_seq;
        request.limit = FC_ROOM_HISTORY_PAGE;
        err = begin_call(stream, &call);
        if (err != ERR_OK) {
            return err;
        }
        fc_chat_v1_chat_history_start(&call, &request);
        err = end_call(stream, &call);
        if (err == ERR_OK) {
            const Fc__Chat__V1__HistoryResponse *page = fc_chat_v1_chat_history_response(&call);
            err = deliver_page(stream, room, page);
            is_behind = room->last_seq < page->head_seq;
        }
        rpc_unary_deinit(&call);
    }
    return err;
}

// fetch_behind fetches what is known to be missing of each room.
static enum err
fetch_behind(struct fc_room_stream *stream)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < stream->room_count && err == ERR_OK; i++) {
        struct followed_room *room = &stream->rooms[i];
        if (!room->is_over && room->last_seq < room->server_seq) {
            err = fetch(stream, room);
        }
    }
    return err;
}

// fetch_all asks for each room, after something was dropped without saying whose it was.
static enum err
fetch_all(struct fc_room_stream *stream)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < stream->room_count && err == ERR_OK; i++) {
        err = stream->rooms[i].is_over ? ERR_OK : fetch(stream, &stream->rooms[i]);
    }
    return err;
}

static uint64_t
start_of(const struct fc_room_stream *stream, const struct fc_room *room)
{
    const struct fc_room_stream_options *options = &stream->options;
    if (options->start_after != NULL) {
        return options->start_after(options->context, room);
    }
    return options->is_from_head ? room->head_seq : options->after_seq;
}

// meet_room takes what Subscribe said of the room. A room that has lost messages or changed its id since the last time
// is not the one that was followed.
static enum err
meet_room(struct fc_room_stream *stream, struct followed_room *followed, const Fc__Chat__V1__Room *wire)
{
    struct fc_room room;
    enum err err = fc_room_from_wire(wire, &room, &stream->cause);
    if (err != ERR_OK) {
        return err;
    }
    if (!followed->is_known) {
        memcpy(followed->id, room.id, sizeof(room.id));
        memcpy(followed->name, room.name, sizeof(room.name));
        bytes_to_hex(bytes_view_of(room.id, sizeof(room.id)), followed->id_text);
        followed->last_seq = start_of(stream, &room);
        followed->is_known = true;
    } else if (memcmp(followed->id, room.id, sizeof(room.id)) != 0 || room.head_seq < followed->server_seq) {
        return err_fail(&stream->cause, ERR_CONFLICT,
            "the server's history of \"%s\" is not the one that was being followed: it ends at %llu, and %llu had been "
            "seen; was the server restored from a backup? Start again to follow it",
            room.name, (unsigned long long)room.head_seq, (unsigned long long)followed->server_seq);
    }
    if (room.head_seq > followed->server_seq) {
        followed->server_seq = room.head_seq;
    }
    return ERR_OK;
}

// meet_rooms takes them in the order in which they were named.
static enum err
meet_rooms(struct fc_room_stream *stream, const Fc__Chat__V1__SubscribeResponse *response)
{
    size_t taken = 0;
    enum err err = ERR_OK;
    for (size_t i = 0; i < stream->room_count && err == ERR_OK; i++) {
        if (!stream->rooms[i].is_over) {
            err = meet_room(stream, &stream->rooms[i], taken < response->n_rooms ? response->rooms[taken] : NULL);
            taken++;
        }
    }
    return err;
}

// name_rooms fills names with those that are still followed.
static size_t
name_rooms(const struct fc_room_stream *stream, char **names)
{
    size_t count = 0;
    for (size_t i = 0; i < stream->room_count; i++) {
        const struct followed_room *room = &stream->rooms[i];
        if (!room->is_over) {
            names[count++] = fc_lend_text(room->is_known ? room->id_text : room->wanted);
        }
    }
    return count;
}

// subscribe gets a ticket and connects with it: from then on what is sent will be seen.
static enum err
subscribe(struct fc_room_stream *stream)
{
    struct rpc_unary call;
    Fc__Chat__V1__SubscribeRequest request = FC__CHAT__V1__SUBSCRIBE_REQUEST__INIT;
    char **names = calloc(stream->room_count, sizeof(*names));
    if (names == NULL) {
        return ERR_NO_MEMORY;
    }
    request.n_rooms = name_rooms(stream, names);
    request.rooms = names;
    enum err err = begin_call(stream, &call);
    if (err != ERR_OK) {
        free(names);
        return err;
    }
    call.is_waiting_for_ready = stream->has_opened; // the first attempt tells at once that there is no server
    fc_chat_v1_chat_subscribe_start(&call, &request);
    err = end_call(stream, &call);
    if (err == ERR_OK) {
        const Fc__Chat__V1__SubscribeResponse *response = fc_chat_v1_chat_subscribe_response(&call);
        err = meet_rooms(stream, response);
        if (err == ERR_OK) {
            err = rpc_subscriber_new(fc_session_server_url(stream->session), fc_session_tls(stream->session),
                response->ticket, &subscriber_handlers, stream, &stream->subscriber, &stream->cause);
        }
    }
    rpc_unary_deinit(&call);
    free(names);
    return err;
}

static void
set_state(struct fc_room_stream *stream, enum fc_stream_state state, enum err code)
{
    if (!stream->has_state || stream->state != state) {
        stream->has_state = true;
        stream->state = state;
        stream->options.on_state(stream->options.context, state, code, &stream->cause);
    }
}

static enum err
take_message(struct fc_room_stream *stream, struct followed_room *room, const Fc__Chat__V1__Message *message)
{
    enum err err = deliver(stream, room, message);
    if (err != ERR_OUT_OF_RANGE && err != ERR_PROTOCOL) {
        return err;
    }
    // It is in the history too, behind what is missing.
    return fetch(stream, room);
}

static enum err
tell(struct fc_room_stream *stream, const struct followed_room *room, enum fc_room_event_kind kind, uint64_t seq,
    const char *user_name)
{
    const struct fc_room_event event = {
        .room = room->name,
        .room_id = room->id,
        .kind = kind,
        .seq = seq,
        .user_name = user_name,
    };
    if (stream->options.on_event != NULL) {
        stream->options.on_event(stream->options.context, &event);
    }
    return ERR_OK;
}

static enum err
end_room(struct fc_room_stream *stream, struct followed_room *room)
{
    room->is_over = true;
    (void)tell(stream, room, FC_ROOM_EVENT_OVER, 0, "");
    for (size_t i = 0; i < stream->room_count; i++) {
        if (!stream->rooms[i].is_over) {
            return ERR_OK;
        }
    }
    return err_fail(&stream->cause, ERR_DENIED, "you are no longer in \"%s\"; fc join %s", room->name, room->name);
}

static enum err
take_event(struct fc_room_stream *stream, struct followed_room *room, const Fc__Chat__V1__Event *event)
{
    switch (event->kind_case) {
    case FC__CHAT__V1__EVENT__KIND_MESSAGE:
        return take_message(stream, room, event->message);
    case FC__CHAT__V1__EVENT__KIND_HEARTBEAT:
        rpc_backoff_reset(&stream->backoff);
        return event->heartbeat->head_seq > room->last_seq ? fetch(stream, room) : ERR_OK;
    case FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED:
        return end_room(stream, room);
    case FC__CHAT__V1__EVENT__KIND_LOG_GROWN:
        return tell(stream, room, FC_ROOM_EVENT_LOG, event->log_grown->log_seq, "");
    case FC__CHAT__V1__EVENT__KIND_TYPING:
        return tell(stream, room, FC_ROOM_EVENT_TYPING, 0, event->typing->user_name);
    case FC__CHAT__V1__EVENT__KIND_PRESENCE_CHANGED:
        return tell(stream, room, event->presence_changed->is_present ? FC_ROOM_EVENT_PRESENT : FC_ROOM_EVENT_ABSENT, 0,
            event->presence_changed->user_name);
    case FC__CHAT__V1__EVENT__KIND_READ_MOVED:
        return tell(stream, room, FC_ROOM_EVENT_READ, event->read_moved->read_seq, "");
    case FC__CHAT__V1__EVENT__KIND__NOT_SET: // of a kind that a newer server knows
    case _FC__CHAT__V1__EVENT__KIND__CASE_IS_INT_SIZE:
        break;
    }
    return ERR_OK;
}

static struct followed_room *
find_room(struct fc_room_stream *stream, const uint8_t id[FC_ROOM_ID_BYTES])
{
    for (size_t i = 0; i < stream->room_count; i++) {
        if (memcmp(stream->rooms[i].id, id, FC_ROOM_ID_BYTES) == 0) {
            return &stream->rooms[i];
        }
    }
    return NULL;
}

static enum err
take_payload(struct fc_room_stream *stream, const struct fc_room_payload *payload)
{
    struct arena arena;
    ProtobufCMessage *unpacked = NULL;
    struct followed_room *room = find_room(stream, payload->topic);
    if (room == NULL || room->is_over) {
        return ERR_OK;
    }
    arena_init(&arena, UNPACKED_MAX_BYTES);
    enum err err = rpc_message_unpack(&fc__chat__v1__event_batch__descriptor,
        bytes_view_of(payload->data, payload->size), &arena, &unpacked, NULL);
    if (err != ERR_OK) {
        err = fetch(stream, room);
        goto out;
    }
    const Fc__Chat__V1__EventBatch *batch = (const Fc__Chat__V1__EventBatch *)unpacked;
    for (size_t i = 0; i < batch->n_events && err == ERR_OK && !room->is_over; i++) {
        err = fc_room_inbox_is_closed(&stream->inbox) ? ERR_CANCELLED : take_event(stream, room, batch->events[i]);
    }
out:
    arena_deinit(&arena);
    return err;
}

// explain_end says why nothing more comes, for what the inbox cannot explain.
static enum err
explain_end(struct fc_room_stream *stream, enum err err, enum err end_reason)
{
    if (err == ERR_UNAVAILABLE) {
        return err_fail(&stream->cause, err, "the connection for what happens in \"%s\"%s has ended: %s",
            stream->rooms[0].name, stream->room_count > 1 ? " and others" : "", err_sentence(end_reason));
    }
    if (err == ERR_TIMEOUT) {
        return err_fail(&stream->cause, err, "the server has said nothing for %d s", SILENCE_MAX_MS / 1000);
    }
    return err;
}

// follow delivers what happens until something ends it. Never ERR_OK.
static enum err
follow(struct fc_room_stream *stream)
{
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        struct fc_room_payload *payload = NULL;
        enum err end_reason = ERR_OK;
        err = fc_room_inbox_take(&stream->inbox, SILENCE_MAX_MS, &payload, &end_reason);
        if (err != ERR_OK) {
            return explain_end(stream, err, end_reason);
        }
        err = payload == NULL ? fetch_all(stream) : take_payload(stream, payload);
        free(payload);
    }
    return err;
}

static void
report_open(struct fc_room_stream *stream, enum err result)
{
    pthread_mutex_lock(&stream->mutex);
    stream->locked.is_opened = true;
    stream->locked.open_result = result;
    pthread_cond_signal(&stream->opened);
    pthread_mutex_unlock(&stream->mutex);
}

// live makes one connection and follows the room until it ends. Never ERR_OK.
static enum err
live(struct fc_room_stream *stream)
{
    enum err err = subscribe(stream);
    if (err == ERR_OK) {
        if (!stream->has_opened) {
            stream->has_opened = true;
            report_open(stream, ERR_OK);
        }
        err = fetch_behind(stream);
    }
    if (err == ERR_OK) {
        set_state(stream, FC_STREAM_LIVE, ERR_OK);
        err = follow(stream);
    }
    rpc_subscriber_free(&stream->subscriber);
    fc_room_inbox_clear(&stream->inbox);
    return err;
}

// is_for_good: trying again would end the same way.
static bool
is_for_good(enum err code)
{
    return code == ERR_INVALID || code == ERR_VERSION || code == ERR_NOT_FOUND || code == ERR_PRECONDITION ||
           code == ERR_CONFLICT || code == ERR_UNAUTHENTICATED || code == ERR_DENIED || code == ERR_UNIMPLEMENTED ||
           code == ERR_PROTOCOL;
}

static void *
run(void *context)
{
    struct fc_room_stream *stream = context;
    bool goes_on = true;
    while (goes_on) {
        memset(&stream->cause, 0, sizeof(stream->cause));
        enum err err = live(stream);
        if (!stream->has_opened) {
            report_open(stream, err);
            break;
        }
        if (stream->is_stopped_by_fn) {
            memset(&stream->cause, 0, sizeof(stream->cause));
            set_state(stream, FC_STREAM_ENDED, ERR_OK);
            break;
        }
        if (fc_room_inbox_is_closed(&stream->inbox)) {
            break;
        }
        if (is_for_good(err)) {
            set_state(stream, FC_STREAM_ENDED, err);
            break;
        }
        set_state(stream, FC_STREAM_RECONNECTING, err);
        goes_on = fc_room_inbox_pause(&stream->inbox, rpc_backoff_draw_ms(&stream->backoff));
    }
    return NULL;
}

static enum err
stream_new(struct fc_room_stream **out)
{
    struct fc_room_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL || fc_room_inbox_init(&stream->inbox) != ERR_OK) {
        free(stream);
        return ERR_NO_MEMORY;
    }
    // With default attributes these two cannot fail on Linux.
    pthread_mutex_init(&stream->mutex, NULL);
    pthread_cond_init(&stream->opened, NULL);
    *out = stream;
    return ERR_OK;
}

static void
stream_free(struct fc_room_stream **stream)
{
    pthread_cond_destroy(&(*stream)->opened);
    pthread_mutex_destroy(&(*stream)->mutex);
    fc_room_inbox_deinit(&(*stream)->inbox);
    for (size_t i = 0; i < (*stream)->room_count; i++) {
        free((*stream)->rooms[i].wanted);
    }
    free((*stream)->rooms);
    free(*stream);
    *stream = NULL;
}

// start runs the thread and waits for the result of its first attempt.
static enum err
start(struct fc_room_stream *stream, struct err_detail *why)
{
    int error = pthread_create(&stream->thread, NULL, run, stream);
    if (error != 0) {
        return err_from_errno(error);
    }
    pthread_mutex_lock(&stream->mutex);
    while (!stream->locked.is_opened) {
        pthread_cond_wait(&stream->opened, &stream->mutex);
    }
    enum err err = stream->locked.open_result;
    pthread_mutex_unlock(&stream->mutex);
    if (err != ERR_OK) {
        pthread_join(stream->thread, NULL);
        if (why != NULL) {
            *why = stream->cause;
        }
    }
    return err;
}

static enum err
copy_rooms(struct fc_room_stream *stream, const struct fc_room_stream_options *options)
{
    stream->rooms = calloc(options->room_count, sizeof(*stream->rooms));
    if (stream->rooms == NULL) {
        return ERR_NO_MEMORY;
    }
    stream->room_count = options->room_count;
    for (size_t i = 0; i < options->room_count; i++) {
        stream->rooms[i].wanted = strdup(options->rooms[i]);
        if (stream->rooms[i].wanted == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    return ERR_OK;
}

enum err
fc_room_stream_open(struct fc_session *session, const struct fc_room_stream_options *options,
    struct fc_room_stream **out, struct err_detail *why)
{
    struct fc_room_stream *stream = NULL;
    enum err err = stream_new(&stream);
    if (err != ERR_OK) {
        return err;
    }
    stream->session = session;
    stream->options = *options;
    stream->options.rooms = NULL;
    stream->backoff.longest_ms = PAUSE_LONGEST_MS;
    err = copy_rooms(stream, options);
    if (err == ERR_OK) {
        err = start(stream, why);
    }
    if (err != ERR_OK) {
        stream_free(&stream);
        return err;
    }
    *out = stream;
    return ERR_OK;
}

void
fc_room_stream_close(struct fc_room_stream **stream)
{
    if (*stream == NULL) {
        return;
    }
    // First the flag, then the call: a call that begins in between sees the flag.
    fc_room_inbox_close(&(*stream)->inbox);
    pthread_mutex_lock(&(*stream)->mutex);
    if ((*stream)->locked.call != NULL) {
        rpc_unary_cancel((*stream)->locked.call);
    }
    pthread_mutex_unlock(&(*stream)->mutex);
    pthread_join((*stream)->thread, NULL);
    stream_free(stream);
}
