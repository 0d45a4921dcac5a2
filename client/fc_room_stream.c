// Following a room: a subscription for what happens, History for what was missed.
//
// The server says with the ticket where the room's head is and delivers everything after that. So the stream, on a
// thread of its own, fetches up to the head, then takes what arrives in order of seq: what it has already is dropped,
// and when a number is missing, or a heartbeat is ahead, it fetches again. Whatever goes wrong with the live side, a
// queue that is full, a payload that cannot be read, a connection that breaks, can thus cost time but no message.
//
// Threads: the subscriber's handlers (nng's threads) only queue payloads. Everything else that is not `locked` belongs
// to the stream's thread once it runs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/random.h"
#include "client/fc_room.h"
#include "client/fc_room_priv.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_subscriber.h"

enum {
    QUEUE_MAX_BYTES = 4 * 1024 * 1024,     // payloads that wait for on_message; what is beyond is fetched later
    UNPACKED_MAX_BYTES = 32 * 1024 * 1024, // a payload in memory; a larger one is fetched instead
    // Three heartbeats without one: the connection is dead though nobody said so.
    SILENCE_MAX_MS = 45 * 1000,
    PAUSE_FIRST_MS = 100,
    PAUSE_MAX_MS = 5 * 1000,
};

struct payload {
    STAILQ_ENTRY(payload) link;
    size_t size;
    uint8_t data[];
};

struct fc_room_stream {
    // Immutable after open.
    struct fc_session *session;
    struct fc_room_stream_options options;
    char *room; // as the caller named it

    // On the stream's thread; the room's id and name are set once, before the first subscriber is made.
    pthread_t thread;
    struct rpc_subscriber *subscriber;
    uint8_t room_id[FC_ROOM_ID_BYTES];
    char room_id_text[2 * FC_ROOM_ID_BYTES + 1];
    char room_name[65];
    bool is_known;         // the room's id and name, and where to begin
    bool is_stopped_by_fn; // on_message returned false
    bool has_state; // on_state has been called; `state` is what it said last
    enum fc_stream_state state;
    uint64_t last_seq;       // everything up to it has been delivered, or was not asked for
    uint64_t server_seq;     // the newest number that the server has ever told
    unsigned pause_ms;       // before the next attempt
    struct err_detail cause; // of the error that is being handled

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        STAILQ_HEAD(, payload) payloads;
        size_t payload_bytes;
        bool has_dropped; // a payload did not fit
        bool is_subscription_closed;
        enum err closed_reason;
        bool is_closing;        // fc_room_stream_close was called
        struct rpc_unary *call; // under way on the stream's thread, for close to cancel
        bool is_opened;         // the first attempt has ended
        enum err open_result;
    } locked;
};

static void
clear_queue_locked(struct fc_room_stream *stream)
{
    struct payload *payload;
    while ((payload = STAILQ_FIRST(&stream->locked.payloads)) != NULL) {
        STAILQ_REMOVE_HEAD(&stream->locked.payloads, link);
        free(payload);
    }
    stream->locked.payload_bytes = 0;
    stream->locked.has_dropped = false;
    stream->locked.is_subscription_closed = false;
}

static void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view data)
{
    struct fc_room_stream *stream = context;
    if (memcmp(topic, stream->room_id, sizeof(stream->room_id)) != 0) {
        return;
    }
    struct payload *payload = malloc(sizeof(*payload) + data.size);
    if (payload != NULL) {
        payload->size = data.size;
        if (data.size > 0) {
            memcpy(payload->data, data.data, data.size);
        }
    }
    pthread_mutex_lock(&stream->mutex);
    if (payload != NULL && stream->locked.payload_bytes + data.size <= QUEUE_MAX_BYTES) {
        STAILQ_INSERT_TAIL(&stream->locked.payloads, payload, link);
        stream->locked.payload_bytes += data.size;
        payload = NULL;
    } else {
        stream->locked.has_dropped = true;
    }
    pthread_cond_signal(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
    free(payload);
}

static void
on_subscription_closed(void *context, enum err reason)
{
    struct fc_room_stream *stream = context;
    pthread_mutex_lock(&stream->mutex);
    stream->locked.is_subscription_closed = true;
    stream->locked.closed_reason = reason;
    pthread_cond_signal(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
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
    rpc_unary_init(call, fc_session_channel(stream->session), &fc__chat__v1__chat__descriptor);
    pthread_mutex_lock(&stream->mutex);
    if (stream->locked.is_closing) {
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
    enum err err = fc_session_finish(call, &stream->cause);
    pthread_mutex_lock(&stream->mutex);
    stream->locked.call = NULL;
    pthread_mutex_unlock(&stream->mutex);
    return err;
}

// deliver hands a message on if it is the next one; older ones have been delivered. ERR_OUT_OF_RANGE: some before it
// are missing. ERR_CANCELLED: the caller wants no more.
static enum err
deliver(struct fc_room_stream *stream, const Fc__Chat__V1__Message *wire)
{
    struct fc_message message;
    enum err err = fc_room_message_from_wire(wire, stream->room_name, &message, &stream->cause);
    if (err != ERR_OK) {
        return err;
    }
    if (message.seq > stream->server_seq) {
        stream->server_seq = message.seq;
    }
    if (message.seq <= stream->last_seq) {
        return ERR_OK;
    }
    if (message.seq != stream->last_seq + 1) {
        return ERR_OUT_OF_RANGE;
    }
    stream->last_seq = message.seq;
    stream->pause_ms = PAUSE_FIRST_MS;
    if (!stream->options.on_message(stream->options.context, &message)) {
        stream->is_stopped_by_fn = true;
        return ERR_CANCELLED;
    }
    return ERR_OK;
}

static bool
is_closing(struct fc_room_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    bool result = stream->locked.is_closing;
    pthread_mutex_unlock(&stream->mutex);
    return result;
}

static enum err
deliver_page(struct fc_room_stream *stream, const Fc__Chat__V1__HistoryResponse *page)
{
    uint64_t before = stream->last_seq;
    enum err err = ERR_OK;
    for (size_t i = 0; i < page->n_messages && err == ERR_OK; i++) {
        err = is_closing(stream) ? ERR_CANCELLED : deliver(stream, page->messages[i]);
    }
    if (err == ERR_OUT_OF_RANGE || (err == ERR_OK && stream->last_seq == before && before < page->head_seq)) {
        return err_fail(&stream->cause, ERR_PROTOCOL, "the server keeps back the messages after %llu of \"%s\"",
            (unsigned long long)before, stream->room_name);
    }
    return err;
}

// fetch delivers what History has after last_seq, until it has reached the room's head.
static enum err
fetch(struct fc_room_stream *stream)
{
    bool is_behind = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && is_behind) {
        struct rpc_unary call;
        Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
        request.room = stream->room_id_text;
        request.after_seq = stream->last_seq;
        request.limit = FC_ROOM_HISTORY_PAGE;
        err = begin_call(stream, &call);
        if (err != ERR_OK) {
            return err;
        }
        fc__chat__v1__chat__history(&call.service, &request, NULL, NULL);
        err = end_call(stream, &call);
        if (err == ERR_OK) {
            const Fc__Chat__V1__HistoryResponse *page = rpc_unary_response(&call);
            err = deliver_page(stream, page);
            is_behind = stream->last_seq < page->head_seq;
        }
        rpc_unary_deinit(&call);
    }
    return err;
}

// meet_room takes what Subscribe said of the room. A room that has lost messages or changed its id since the last time
// is not the one that was followed.
static enum err
meet_room(struct fc_room_stream *stream, const Fc__Chat__V1__Room *wire)
{
    struct fc_room room;
    enum err err = fc_room_from_wire(wire, &room, &stream->cause);
    if (err != ERR_OK) {
        return err;
    }
    if (!stream->is_known) {
        memcpy(stream->room_id, room.id, sizeof(room.id));
        memcpy(stream->room_name, room.name, sizeof(room.name));
        bytes_to_hex(bytes_view_of(room.id, sizeof(room.id)), stream->room_id_text);
        stream->last_seq = stream->options.is_from_head ? room.head_seq : stream->options.after_seq;
        stream->is_known = true;
    } else if (memcmp(stream->room_id, room.id, sizeof(room.id)) != 0 || room.head_seq < stream->server_seq) {
        return err_fail(&stream->cause, ERR_CONFLICT,
            "the server's history of \"%s\" is not the one that was being followed: it ends at %llu, and %llu had been "
            "seen; was the server restored from a backup? Start again to follow it",
            room.name, (unsigned long long)room.head_seq, (unsigned long long)stream->server_seq);
    }
    if (room.head_seq > stream->server_seq) {
        stream->server_seq = room.head_seq;
    }
    return ERR_OK;
}

// subscribe gets a ticket and connects with it: from then on what is sent will be seen.
static enum err
subscribe(struct fc_room_stream *stream)
{
    struct rpc_unary call;
    char *name = stream->is_known ? stream->room_id_text : stream->room;
    Fc__Chat__V1__SubscribeRequest request = FC__CHAT__V1__SUBSCRIBE_REQUEST__INIT;
    request.n_rooms = 1;
    request.rooms = &name;
    enum err err = begin_call(stream, &call);
    if (err != ERR_OK) {
        return err;
    }
    fc__chat__v1__chat__subscribe(&call.service, &request, NULL, NULL);
    err = end_call(stream, &call);
    if (err == ERR_OK) {
        const Fc__Chat__V1__SubscribeResponse *response = rpc_unary_response(&call);
        err = meet_room(stream, response->n_rooms == 1 ? response->rooms[0] : NULL);
        if (err == ERR_OK) {
            err = rpc_subscriber_new(fc_session_server_url(stream->session), response->ticket, &subscriber_handlers,
                stream, &stream->subscriber, &stream->cause);
        }
    }
    rpc_unary_deinit(&call);
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

static struct timespec
after_ms(uint64_t delay_ms)
{
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec += (time_t)(delay_ms / 1000);
    when.tv_nsec += (long)(delay_ms % 1000) * 1000000L;
    if (when.tv_nsec >= 1000000000L) {
        when.tv_nsec -= 1000000000L;
        when.tv_sec++;
    }
    return when;
}

// next_payload waits for the next thing to do. ERR_OK: a payload, which the caller frees, or NULL for a gap in what was
// queued. ERR_UNAVAILABLE: the subscription has ended. ERR_TIMEOUT: silence. ERR_CANCELLED: the stream is closing.
static enum err
next_payload(struct fc_room_stream *stream, struct payload **out)
{
    struct timespec silence_ends = after_ms(SILENCE_MAX_MS);
    enum err err = ERR_OK;
    *out = NULL;
    pthread_mutex_lock(&stream->mutex);
    while (err == ERR_OK) {
        struct payload *payload = STAILQ_FIRST(&stream->locked.payloads);
        if (stream->locked.is_closing) {
            err = ERR_CANCELLED;
        } else if (payload != NULL) {
            STAILQ_REMOVE_HEAD(&stream->locked.payloads, link);
            stream->locked.payload_bytes -= payload->size;
            *out = payload;
            break;
        } else if (stream->locked.has_dropped) {
            stream->locked.has_dropped = false;
            break;
        } else if (stream->locked.is_subscription_closed) {
            err = err_fail(&stream->cause, ERR_UNAVAILABLE, "the connection for what happens in \"%s\" has ended: %s",
                stream->room_name, err_sentence(stream->locked.closed_reason));
        } else if (pthread_cond_timedwait(&stream->changed, &stream->mutex, &silence_ends) != 0) {
            err = err_fail(&stream->cause, ERR_TIMEOUT, "the server has said nothing for %d s", SILENCE_MAX_MS / 1000);
        }
    }
    pthread_mutex_unlock(&stream->mutex);
    return err;
}

static enum err
take_message(struct fc_room_stream *stream, const Fc__Chat__V1__Message *message)
{
    enum err err = deliver(stream, message);
    if (err != ERR_OUT_OF_RANGE && err != ERR_PROTOCOL) {
        return err;
    }
    // It is in the history too, behind what is missing.
    return fetch(stream);
}

static enum err
take_event(struct fc_room_stream *stream, const Fc__Chat__V1__Event *event)
{
    switch (event->kind_case) {
    case FC__CHAT__V1__EVENT__KIND_MESSAGE:
        return take_message(stream, event->message);
    case FC__CHAT__V1__EVENT__KIND_HEARTBEAT:
        stream->pause_ms = PAUSE_FIRST_MS;
        return event->heartbeat->head_seq > stream->last_seq ? fetch(stream) : ERR_OK;
    case FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED:
        return err_fail(&stream->cause, ERR_DENIED, "you are no longer in \"%s\"; fc join %s", stream->room_name,
            stream->room_name);
    case FC__CHAT__V1__EVENT__KIND__NOT_SET: // of a kind that a newer server knows
    case _FC__CHAT__V1__EVENT__KIND__CASE_IS_INT_SIZE:
        break;
    }
    return ERR_OK;
}

static enum err
take_payload(struct fc_room_stream *stream, const struct payload *payload)
{
    struct arena arena;
    ProtobufCMessage *unpacked = NULL;
    arena_init(&arena, UNPACKED_MAX_BYTES);
    enum err err = rpc_message_unpack(&fc__chat__v1__event_batch__descriptor,
        bytes_view_of(payload->data, payload->size), &arena, &unpacked, NULL);
    if (err != ERR_OK) {
        err = fetch(stream);
        goto out;
    }
    const Fc__Chat__V1__EventBatch *batch = (const Fc__Chat__V1__EventBatch *)unpacked;
    for (size_t i = 0; i < batch->n_events && err == ERR_OK; i++) {
        err = is_closing(stream) ? ERR_CANCELLED : take_event(stream, batch->events[i]);
    }
out:
    arena_deinit(&arena);
    return err;
}

// follow delivers what happens until something ends it. Never ERR_OK.
static enum err
follow(struct fc_room_stream *stream)
{
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        struct payload *payload = NULL;
        err = next_payload(stream, &payload);
        if (err == ERR_OK) {
            err = payload == NULL ? fetch(stream) : take_payload(stream, payload);
        }
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
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
}

// live makes one connection and follows the room until it ends. Never ERR_OK. *is_opened says whether the first attempt
// has been reported.
static enum err
live(struct fc_room_stream *stream, bool *is_opened)
{
    enum err err = subscribe(stream);
    if (err == ERR_OK) {
        if (!*is_opened) {
            *is_opened = true;
            report_open(stream, ERR_OK);
        }
        err = stream->last_seq < stream->server_seq ? fetch(stream) : ERR_OK;
    }
    if (err == ERR_OK) {
        set_state(stream, FC_STREAM_LIVE, ERR_OK);
        err = follow(stream);
    }
    rpc_subscriber_free(&stream->subscriber);
    pthread_mutex_lock(&stream->mutex);
    clear_queue_locked(stream);
    pthread_mutex_unlock(&stream->mutex);
    return err;
}

// pause_attempts waits for half to all of the present pause, and doubles it. Returns false when the stream is closing.
static bool
pause_attempts(struct fc_room_stream *stream)
{
    uint32_t random;
    random_bytes(&random, sizeof(random));
    struct timespec ends = after_ms(stream->pause_ms / 2 + random % (stream->pause_ms / 2 + 1));
    stream->pause_ms = stream->pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : stream->pause_ms * 2;
    pthread_mutex_lock(&stream->mutex);
    while (!stream->locked.is_closing && pthread_cond_timedwait(&stream->changed, &stream->mutex, &ends) == 0) {
    }
    bool goes_on = !stream->locked.is_closing;
    pthread_mutex_unlock(&stream->mutex);
    return goes_on;
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
    bool is_opened = false;
    bool goes_on = true;
    while (goes_on) {
        memset(&stream->cause, 0, sizeof(stream->cause));
        enum err err = live(stream, &is_opened);
        if (!is_opened) {
            report_open(stream, err);
            break;
        }
        if (stream->is_stopped_by_fn) {
            memset(&stream->cause, 0, sizeof(stream->cause));
            set_state(stream, FC_STREAM_ENDED, ERR_OK);
            break;
        }
        if (is_closing(stream)) {
            break;
        }
        if (is_for_good(err)) {
            set_state(stream, FC_STREAM_ENDED, err);
            break;
        }
        set_state(stream, FC_STREAM_RECONNECTING, err);
        goes_on = pause_attempts(stream);
    }
    return NULL;
}

static enum err
init_waiting(struct fc_room_stream *stream)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    if (pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&stream->changed, &attributes) != 0) {
        err = ERR_NO_MEMORY;
    } else if (pthread_mutex_init(&stream->mutex, NULL) != 0) {
        pthread_cond_destroy(&stream->changed);
        err = ERR_NO_MEMORY;
    }
    pthread_condattr_destroy(&attributes);
    return err;
}

static void
stream_free(struct fc_room_stream **stream)
{
    pthread_mutex_destroy(&(*stream)->mutex);
    pthread_cond_destroy(&(*stream)->changed);
    free((*stream)->room);
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
        pthread_cond_wait(&stream->changed, &stream->mutex);
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

enum err
fc_room_stream_open(struct fc_session *session, const struct fc_room_stream_options *options,
    struct fc_room_stream **out, struct err_detail *why)
{
    struct fc_room_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = init_waiting(stream);
    if (err != ERR_OK) {
        free(stream);
        return err;
    }
    stream->session = session;
    stream->options = *options;
    stream->options.room = NULL;
    stream->pause_ms = PAUSE_FIRST_MS;
    STAILQ_INIT(&stream->locked.payloads);
    stream->room = strdup(options->room);
    err = stream->room == NULL ? ERR_NO_MEMORY : start(stream, why);
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
    pthread_mutex_lock(&(*stream)->mutex);
    (*stream)->locked.is_closing = true;
    if ((*stream)->locked.call != NULL) {
        rpc_unary_cancel((*stream)->locked.call);
    }
    pthread_cond_broadcast(&(*stream)->changed);
    pthread_mutex_unlock(&(*stream)->mutex);
    pthread_join((*stream)->thread, NULL);
    stream_free(stream);
}
