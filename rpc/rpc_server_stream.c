// Streams on the server, as rpc_server_stream.h and docs/protocol.md promise them.
//
// Frames arrive in the listener's calls and are put into the inbox; a worker takes them out and runs the handlers. What
// has come is bounded by the credit that the client was given. Nothing is kept of what is sent: the transport has it,
// and the credit that the client gives bounds that too.
//
// A stream ends once (end_locked), by its handlers, its client or its deadline. Then, or as soon as the handler that
// runs has returned, on_closed follows. Lock order: a stream's comes before the server's and the peers'.
#include "rpc/rpc_server_stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_server_priv.h"

enum {
    STEPS_MAX = 32, // handlers that run before the stream goes to the end of its connection's queue
    CREDIT_STEP_BYTES = RPC_STREAM_CREDIT_BYTES / 4, // given back at least this much at a time
    CREDIT_ARENA_BYTES = 1024,
};

// A message of the client that waits.
struct stream_message {
    STAILQ_ENTRY(stream_message) link;
    struct bytes_view data;
    struct bytes large; // holds it if it is large
    size_t held_bytes;
    uint8_t small[]; // else this, unless it came with OPEN and is in the call
};
STAILQ_HEAD(stream_inbox, stream_message);

// Why a stream ends that its handlers have not ended.
enum verdict {
    VERDICT_NONE,
    VERDICT_GONE,      // the connection
    VERDICT_CANCELLED, // by the client
    VERDICT_LATE,      // its deadline
    VERDICT_OVERRUN,   // the client has sent more than it had credit for
    VERDICT_FULL,      // the server holds too many received bytes
    VERDICT_CREDIT,    // the client has given more credit than there is
};

static const struct {
    enum err code;
    const char *message;
} verdicts[] = {
    [VERDICT_NONE] = {ERR_OK, ""},
    [VERDICT_GONE] = {ERR_CANCELLED, ""},
    [VERDICT_CANCELLED] = {ERR_CANCELLED, ""},
    [VERDICT_LATE] = {ERR_TIMEOUT, "the stream was not finished before its deadline"},
    [VERDICT_OVERRUN] = {ERR_INVALID, "the client sent more than it had credit for"},
    [VERDICT_FULL] = {ERR_LIMIT, "the server holds too much that it has not worked off; try again later"},
    [VERDICT_CREDIT] = {ERR_INVALID, "the client gave more credit than can be counted"},
};

struct rpc_server_stream {
    struct rpc_call *call;
    struct rpc_peer *peer; // a reference
    void *context;         // the handlers'
    struct timer deadline;
    LIST_ENTRY(rpc_server_stream) link; // guarded by the peer's lock
    bool is_linked;                     // the same
    atomic_uint references;

    pthread_mutex_t mutex;
    struct {
        struct stream_inbox inbox;
        int64_t receive_credit; // what the client may still send
        size_t owed_credit;     // taken out and not given back yet
        int64_t send_credit;
        bool is_scheduled; // its call waits, or a worker has it
        bool is_opened;
        bool has_handlers; // on_open has been called, so on_closed will be
        bool has_sent;
        bool has_client_ended;
        bool is_end_told;
        bool is_paused;
        bool wants_writable;
        enum verdict verdict;
        bool has_ended;
        bool is_close_told;
    } locked;
};

static void
lock(struct rpc_server_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
}

static void
unlock(struct rpc_server_stream *stream)
{
    pthread_mutex_unlock(&stream->mutex);
}

// ---- Memory

void
rpc_server_stream_hold(struct rpc_server_stream *stream)
{
    atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed);
}

static void
empty_inbox_locked(struct rpc_server_stream *stream)
{
    struct rpc_server *server = stream->peer->server;
    while (!STAILQ_EMPTY(&stream->locked.inbox)) {
        struct stream_message *message = STAILQ_FIRST(&stream->locked.inbox);
        STAILQ_REMOVE_HEAD(&stream->locked.inbox, link);
        rpc_server_give_back_bytes(server, message->held_bytes);
        bytes_free(&message->large);
        free(message);
    }
}

void
rpc_server_stream_release(struct rpc_server_stream *stream)
{
    if (atomic_fetch_sub_explicit(&stream->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct rpc_peer *peer = stream->peer;
    empty_inbox_locked(stream);
    rpc_call_free(stream->call);
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
    rpc_peer_release(peer, 1);
}

static struct rpc_stream_list *
bucket_of(struct rpc_peer *peer, struct bytes_view route)
{
    return &peer->locked.streams[route.data[route.size - 1] % RPC_STREAM_BUCKETS];
}

static void
unlink_stream(struct rpc_server_stream *stream)
{
    struct rpc_peer *peer = stream->peer;
    pthread_mutex_lock(&peer->mutex);
    if (stream->is_linked) {
        stream->is_linked = false;
        LIST_REMOVE(stream, link);
        peer->locked.stream_count--;
    }
    pthread_mutex_unlock(&peer->mutex);
}

struct rpc_server_stream *
rpc_peer_find_stream(struct rpc_peer *peer, struct bytes_view route)
{
    struct rpc_server_stream *stream;
    pthread_mutex_lock(&peer->mutex);
    LIST_FOREACH(stream, bucket_of(peer, route), link)
    {
        if (bytes_view_equal(stream->call->route, route)) {
            rpc_server_stream_hold(stream);
            break;
        }
    }
    pthread_mutex_unlock(&peer->mutex);
    return stream;
}

void
rpc_server_stream_discard(struct rpc_server_stream *stream)
{
    unlink_stream(stream);
    rpc_server_stream_release(stream);
}

// ---- Waking and ending

// Has a worker look at the stream, unless one will.
static void
wake_and_unlock(struct rpc_server_stream *stream)
{
    bool must_wake = !stream->locked.is_scheduled && !stream->locked.is_close_told;
    stream->locked.is_scheduled = stream->locked.is_scheduled || must_wake;
    unlock(stream);
    if (must_wake) {
        rpc_peer_enqueue(stream->peer, stream->call);
    }
}

// Ends the stream, with a last frame unless nobody would read it.
static void
end_locked(struct rpc_server_stream *stream, enum err code, const char *message, uint32_t retry_after_ms, bool is_told)
{
    struct rpc_call *call = stream->call;
    stream->locked.has_ended = true;
    unlink_stream(stream);
    empty_inbox_locked(stream);
    rpc_call_account_here(call, rpc_code_from_err(code));
    rpc_peer_answers(stream->peer);
    if (is_told && rpc_call_send_end(call, !stream->locked.has_sent, code, message, retry_after_ms) != ERR_OK) {
        rpc_peer_close(stream->peer, 0); // without memory for some bytes it had better learn it from the connection
    }
    rpc_peer_settle(stream->peer, 1, call->held_bytes);
}

// finish ends a stream unless it has ended.
static void
finish(struct rpc_server_stream *stream, enum err code, const char *message, uint32_t retry_after_ms)
{
    lock(stream);
    if (!stream->locked.has_ended) {
        bool is_cancelled = stream->locked.verdict == VERDICT_GONE || stream->locked.verdict == VERDICT_CANCELLED;
        end_locked(stream, is_cancelled ? ERR_CANCELLED : code, message, retry_after_ms, !is_cancelled);
    }
    wake_and_unlock(stream);
}

void
rpc_server_stream_finish(struct rpc_server_stream *stream)
{
    finish(stream, ERR_OK, "", 0);
}

void
rpc_server_stream_fail(struct rpc_server_stream *stream, enum err code, const char *format, ...)
{
    struct err_detail why;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why.message, sizeof(why.message), format, arguments);
    va_end(arguments);
    finish(stream, code == ERR_OK ? ERR_INTERNAL : code, why.message, 0);
}

static void
condemn(struct rpc_server_stream *stream, enum verdict verdict)
{
    lock(stream);
    if (stream->locked.verdict == VERDICT_NONE) {
        stream->locked.verdict = verdict;
    }
    wake_and_unlock(stream);
}

static void
on_deadline(struct timer *timer)
{
    condemn((struct rpc_server_stream *)((char *)timer - offsetof(struct rpc_server_stream, deadline)), VERDICT_LATE);
}

void
rpc_peer_end_streams(struct rpc_peer *peer)
{
    for (size_t i = 0; i < RPC_STREAM_BUCKETS;) {
        pthread_mutex_lock(&peer->mutex);
        struct rpc_server_stream *stream = LIST_FIRST(&peer->locked.streams[i]);
        if (stream != NULL) {
            rpc_server_stream_hold(stream);
            LIST_REMOVE(stream, link);
            stream->is_linked = false;
            peer->locked.stream_count--;
        }
        pthread_mutex_unlock(&peer->mutex);
        if (stream != NULL) {
            condemn(stream, VERDICT_GONE);
            rpc_server_stream_release(stream);
        } else {
            i++;
        }
    }
}

// ---- What arrives

// put_message puts a message of the client into the inbox, if it has credit for it.
static enum err
put_message_locked(struct rpc_server_stream *stream, struct bytes_view data, bool is_in_call, struct bytes *large)
{
    struct rpc_server *server = stream->peer->server;
    if (stream->locked.receive_credit <= 0) {
        stream->locked.verdict = VERDICT_OVERRUN;
        return ERR_OK;
    }
    size_t copied_bytes = is_in_call || large != NULL ? 0 : data.size;
    struct stream_message *message = malloc(sizeof(*message) + copied_bytes);
    if (message == NULL) {
        return ERR_NO_MEMORY;
    }
    *message = (struct stream_message){.data = data, .held_bytes = sizeof(*message) + (is_in_call ? 0 : data.size)};
    if (copied_bytes > 0) {
        memcpy(message->small, data.data, copied_bytes);
        message->data.data = message->small;
    } else if (!is_in_call && large != NULL) {
        message->large = *large;
        *large = (struct bytes){0}; // transferred
    }
    stream->locked.receive_credit -= (int64_t)(data.size + RPC_STREAM_MESSAGE_COST_BYTES);
    STAILQ_INSERT_TAIL(&stream->locked.inbox, message, link);
    if (!rpc_server_take_bytes(server, message->held_bytes)) {
        stream->locked.verdict = VERDICT_FULL;
    }
    return ERR_OK;
}

static void
take_credit_locked(struct rpc_server_stream *stream, struct bytes_view header)
{
    struct arena arena;
    ProtobufCMessage *credit = NULL;
    arena_init(&arena, CREDIT_ARENA_BYTES);
    if (rpc_message_unpack(&fc__rpc__v1__credit__descriptor, header, &arena, &credit, NULL) != ERR_OK) {
        stream->locked.verdict = VERDICT_CREDIT;
    } else {
        stream->locked.send_credit += ((const Fc__Rpc__V1__Credit *)credit)->bytes;
        if (stream->locked.send_credit > INT32_MAX) {
            stream->locked.verdict = VERDICT_CREDIT;
        }
    }
    arena_deinit(&arena);
}

enum err
rpc_server_stream_receive(struct rpc_server_stream *stream, const struct rpc_frame *frame, struct bytes *large)
{
    enum err err = ERR_OK;
    lock(stream);
    if (stream->locked.has_ended || stream->locked.verdict != VERDICT_NONE) {
        unlock(stream);
        return ERR_OK;
    }
    if (frame->flags == RPC_FRAME_CANCEL) {
        stream->locked.verdict = VERDICT_CANCELLED;
    } else if (frame->flags == RPC_FRAME_CREDIT) {
        take_credit_locked(stream, frame->header);
    } else if (!stream->locked.has_client_ended) {
        if ((frame->flags & RPC_FRAME_MESSAGE) != 0) {
            err = put_message_locked(stream, frame->message, false, large);
        }
        stream->locked.has_client_ended = (frame->flags & RPC_FRAME_END) != 0;
    }
    wake_and_unlock(stream);
    return err;
}

static enum err
admit_stream(struct rpc_peer *peer, struct bytes_view route, const char **why_out)
{
    struct rpc_server_stream *same = rpc_peer_find_stream(peer, route);
    if (same != NULL) {
        rpc_server_stream_release(same);
        return ERR_PROTOCOL;
    }
    pthread_mutex_lock(&peer->mutex);
    size_t count = peer->locked.stream_count;
    pthread_mutex_unlock(&peer->mutex);
    if (count >= peer->server->options.max_streams_per_connection) {
        *why_out = "too many streams are open on this connection; wait until some of them have ended";
        return ERR_LIMIT;
    }
    return ERR_OK;
}

// stream_new takes the call.
static enum err
stream_new(struct rpc_peer *peer, struct rpc_call *call, struct rpc_server_stream **out)
{
    struct rpc_server_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        rpc_call_free(call);
        return ERR_NO_MEMORY;
    }
    rpc_peer_hold(peer);
    stream->peer = peer;
    stream->call = call;
    call->stream = stream;
    atomic_init(&stream->references, 1);
    stream->deadline.on_expiry = on_deadline;
    (void)pthread_mutex_init(&stream->mutex, NULL);
    STAILQ_INIT(&stream->locked.inbox);
    stream->locked.receive_credit = RPC_STREAM_CREDIT_BYTES;
    stream->locked.send_credit = RPC_STREAM_CREDIT_BYTES;
    stream->locked.is_scheduled = true; // its call is about to be
    *out = stream;
    return ERR_OK;
}

enum err
rpc_peer_open_stream(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes, const struct rpc_frame *frame,
    struct bytes *large)
{
    struct rpc_server_stream *stream = NULL;
    struct rpc_call *call = NULL;
    struct bytes_view route = bytes_view_of(data.data, route_bytes);
    const char *why = NULL;
    enum err err = admit_stream(peer, route, &why);
    if (err == ERR_PROTOCOL) {
        return err; // two streams under one request id: nothing that follows could be told apart
    }
    if (err != ERR_OK) {
        (void)rpc_call_refuse(peer, route, err, why, NULL);
        peer->has_answered = true;
        return ERR_OK;
    }
    size_t message_at = (size_t)(frame->message.data - data.data);
    err = rpc_peer_new_call(peer, data, route_bytes, large, &call);
    if (err == ERR_OK && call == NULL) {
        return ERR_OK; // refused
    }
    if (err == ERR_OK) {
        err = stream_new(peer, call, &stream);
    }
    if (err != ERR_OK) {
        return err;
    }
    if ((frame->flags & RPC_FRAME_MESSAGE) != 0) {
        struct bytes_view message = bytes_view_of(call->route.data + message_at, frame->message.size);
        err = put_message_locked(stream, message, true, NULL); // nobody else knows it yet
    }
    stream->locked.has_client_ended = (frame->flags & RPC_FRAME_END) != 0;
    if (err != ERR_OK) {
        rpc_server_stream_release(stream);
        return err;
    }
    pthread_mutex_lock(&peer->mutex);
    LIST_INSERT_HEAD(bucket_of(peer, call->route), stream, link);
    stream->is_linked = true;
    peer->locked.stream_count++;
    pthread_mutex_unlock(&peer->mutex);
    rpc_peer_call_arrived(peer, call);
    return ERR_OK;
}

// ---- Running the handlers

enum step {
    STEP_NOTHING,
    STEP_YIELD,
    STEP_OPEN,
    STEP_MESSAGE,
    STEP_END,
    STEP_WRITABLE,
    STEP_CLOSE,
};

static void
obey_verdict_locked(struct rpc_server_stream *stream)
{
    enum verdict verdict = stream->locked.verdict;
    if (verdict != VERDICT_NONE && !stream->locked.has_ended) {
        bool is_told = verdict != VERDICT_GONE && verdict != VERDICT_CANCELLED;
        end_locked(stream, verdicts[verdict].code, verdicts[verdict].message, 0, is_told);
    }
}

// A message is handed out only while one can be sent, so that a handler that answers each with one never has to wait.
static enum step
next_step_locked(struct rpc_server_stream *stream, unsigned done, struct stream_message **message_out)
{
    bool has_room = stream->locked.send_credit > 0;
    struct stream_message *first = STAILQ_FIRST(&stream->locked.inbox);
    obey_verdict_locked(stream);
    if (stream->locked.has_ended) {
        return stream->locked.is_close_told ? STEP_NOTHING : STEP_CLOSE;
    }
    if (done >= STEPS_MAX) {
        return STEP_YIELD;
    }
    if (!stream->locked.is_opened) {
        return STEP_OPEN;
    }
    if (stream->locked.wants_writable && has_room) {
        stream->locked.wants_writable = false;
        return STEP_WRITABLE;
    }
    if (first != NULL) {
        if (stream->locked.is_paused || !has_room) {
            return STEP_NOTHING;
        }
        STAILQ_REMOVE_HEAD(&stream->locked.inbox, link);
        *message_out = first;
        return STEP_MESSAGE;
    }
    if (stream->locked.has_client_ended && !stream->locked.is_end_told) {
        stream->locked.is_end_told = true;
        return STEP_END;
    }
    return STEP_NOTHING;
}

static enum step
take_step(struct rpc_server_stream *stream, unsigned done, struct stream_message **message_out)
{
    lock(stream);
    enum step step = next_step_locked(stream, done, message_out);
    if (step == STEP_OPEN) {
        stream->locked.is_opened = true;
    } else if (step == STEP_CLOSE) {
        stream->locked.is_close_told = true;
    } else if (step == STEP_NOTHING) {
        stream->locked.is_scheduled = false;
    }
    unlock(stream);
    return step;
}

static void
open_stream(struct rpc_batch *batch, struct rpc_server_stream *stream)
{
    struct rpc_call *call = stream->call;
    struct rpc_refusal refusal = {.retry_after_ms = 0};
    enum err err = rpc_call_open(batch, call, &refusal);
    if (err == ERR_OK) {
        uint64_t now_ms = clock_monotonic_ms();
        uint64_t left_ms = call->deadline_ms > now_ms ? call->deadline_ms - now_ms : 0;
        err = timer_start(stream->peer->server->timers, &stream->deadline, left_ms);
    }
    if (err != ERR_OK) {
        finish(stream, err, err_message(&refusal.why, err), refusal.retry_after_ms);
        return;
    }
    lock(stream);
    stream->locked.has_handlers = true;
    unlock(stream);
    if (call->method->stream->on_open != NULL) {
        call->method->stream->on_open(stream, call->method->service);
    }
}

// Gives credit back for what was taken out, in steps that are worth a frame.
static void
give_credit(struct rpc_server_stream *stream, size_t bytes)
{
    Fc__Rpc__V1__Credit credit = FC__RPC__V1__CREDIT__INIT;
    lock(stream);
    stream->locked.owed_credit += bytes;
    bool is_due = stream->locked.owed_credit >= CREDIT_STEP_BYTES && !stream->locked.has_client_ended &&
                  !stream->locked.has_ended;
    if (is_due) {
        credit.bytes = (uint32_t)stream->locked.owed_credit;
        stream->locked.receive_credit += credit.bytes;
        stream->locked.owed_credit = 0;
    }
    unlock(stream);
    if (is_due && rpc_call_send_credit(stream->call, &credit) != ERR_OK) {
        condemn(stream, VERDICT_FULL);
    }
}

static void
hand_out_message(struct rpc_server_stream *stream, struct stream_message *message)
{
    const struct rpc_method *method = stream->call->method;
    struct arena arena;
    struct err_detail why;
    ProtobufCMessage *unpacked = NULL;
    size_t size = message->data.size;
    enum err err = ERR_OK;
    why.message[0] = '\0';
    arena_init(&arena, rpc_message_arena_limit(size));
    if (size > method->max_request_bytes) {
        err = err_fail(&why, ERR_TOO_BIG, "a message of %s has at most %zu bytes, and this one %zu", method->name,
            method->max_request_bytes, size);
    } else {
        err = rpc_message_unpack_in_place(method->input, message->data, &arena, &unpacked, &why);
    }
    if (err == ERR_OK) {
        method->stream->on_message(stream, unpacked);
    } else {
        finish(stream, err, err_message(&why, err), 0);
    }
    arena_deinit(&arena);
    rpc_server_give_back_bytes(stream->peer->server, message->held_bytes);
    bytes_free(&message->large);
    free(message);
    give_credit(stream, size + RPC_STREAM_MESSAGE_COST_BYTES);
}

// The end of the worker's part in the stream's life.
static void
close_stream(struct rpc_server_stream *stream)
{
    (void)timer_stop(stream->peer->server->timers, &stream->deadline);
    lock(stream);
    bool has_handlers = stream->locked.has_handlers;
    unlock(stream);
    if (has_handlers && stream->call->method->stream->on_closed != NULL) {
        stream->call->method->stream->on_closed(stream);
    }
    rpc_server_stream_release(stream);
}

void
rpc_server_stream_run(struct rpc_batch *batch, struct rpc_server_stream *stream)
{
    struct stream_message *message = NULL;
    for (unsigned done = 0;; done++) {
        switch (take_step(stream, done, &message)) {
        case STEP_NOTHING:
            return; // the stream may be gone as soon as it is scheduled no more
        case STEP_YIELD:
            rpc_peer_enqueue(stream->peer, stream->call);
            return;
        case STEP_OPEN:
            open_stream(batch, stream);
            break;
        case STEP_MESSAGE:
            hand_out_message(stream, message);
            break;
        case STEP_END:
            if (stream->call->method->stream->on_end != NULL) {
                stream->call->method->stream->on_end(stream);
            }
            break;
        case STEP_WRITABLE:
            if (stream->call->method->stream->on_writable != NULL) {
                stream->call->method->stream->on_writable(stream);
            }
            break;
        case STEP_CLOSE:
            close_stream(stream);
            return;
        }
    }
}

// ---- For the handlers

void
rpc_server_stream_set_context(struct rpc_server_stream *stream, void *context)
{
    stream->context = context;
}

void *
rpc_server_stream_context(const struct rpc_server_stream *stream)
{
    return stream->context;
}

struct rpc_call *
rpc_server_stream_call(struct rpc_server_stream *stream)
{
    return stream->call;
}

enum err
rpc_server_stream_send(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    enum err err = ERR_OK;
    lock(stream);
    if (stream->locked.has_ended || stream->locked.verdict != VERDICT_NONE) {
        err = ERR_CLOSED;
    } else if (stream->locked.send_credit <= 0) {
        stream->locked.wants_writable = true;
        err = ERR_BUSY;
    } else {
        err = rpc_call_send_message(stream->call, !stream->locked.has_sent, message);
        if (err == ERR_OK) {
            stream->locked.has_sent = true;
            stream->locked.send_credit -=
                (int64_t)(protobuf_c_message_get_packed_size(message) + RPC_STREAM_MESSAGE_COST_BYTES);
        }
    }
    unlock(stream);
    if (err == ERR_TOO_BIG || err == ERR_NO_MEMORY) {
        log_error("RPC-REPLY-UNSENDABLE", NULL, "a message of %s: %s", stream->call->method->name, err_sentence(err));
        finish(stream, ERR_INTERNAL, "a message cannot be sent, because it is too large or memory is short", 0);
    }
    return err;
}

void
rpc_server_stream_pause(struct rpc_server_stream *stream)
{
    lock(stream);
    stream->locked.is_paused = true;
    unlock(stream);
}

void
rpc_server_stream_resume(struct rpc_server_stream *stream)
{
    lock(stream);
    stream->locked.is_paused = false;
    wake_and_unlock(stream);
}
