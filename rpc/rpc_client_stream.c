// Streams as a client: rpc_client_stream.h and docs/protocol.md say what is promised.
//
// The call behind a stream is in its channel's table like any other, so deadline, cancel and lost connections end it in
// the same way. The channel's lock guards the stream as well. The stream's owner waits for the call's end in deinit, so
// that the channel never has a stream that is gone.
#include "rpc/rpc_client_stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/rpc_channel_core.h"
#include "rpc/rpc_client_stream_priv.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"

#include "fc/rpc/v1/rpc.pb-c.h"

enum {
    CREDIT_STEP_BYTES = RPC_STREAM_CREDIT_BYTES / 4, // given back at least this much at a time
    CREDIT_ARENA_BYTES = 1024,
    OPEN_WITH = RPC_FRAME_OPEN | RPC_FRAME_MESSAGE | RPC_FRAME_END,
};

// A message of the server that waits to be received.
struct rpc_client_message {
    STAILQ_ENTRY(rpc_client_message) link;
    struct bytes_view data;
    struct bytes large; // holds it if it is large
    uint8_t small[];    // else this
};

static size_t
cost_of(size_t message_bytes)
{
    return message_bytes + RPC_STREAM_MESSAGE_COST_BYTES;
}

// ---- What the server sends

void
rpc_client_stream_wake_locked(struct rpc_client_stream *stream)
{
    (void)pthread_cond_broadcast(&stream->changed);
}

bool
rpc_client_stream_begin_locked(struct rpc_client_stream *stream)
{
    stream->locked.tellers += stream->on_event != NULL;
    return stream->on_event != NULL;
}

void
rpc_client_stream_tell(struct rpc_client_stream *stream)
{
    struct rpc_channel *channel = stream->call.channel;
    stream->on_event(stream);
    rpc_channel_lock(channel);
    stream->locked.tellers--;
    rpc_client_stream_wake_locked(stream); // under the lock: deinit may be waiting for this
    rpc_channel_unlock(channel);
}

static bool
fail_locked(struct rpc_client_stream *stream, const char *what)
{
    struct rpc_unary *call = &stream->call;
    rpc_connection_cancel_locked(call->locked.connection, call->locked.id);
    rpc_unary_set_status(call, RPC_INTERNAL, "the server at %s %s", call->locked.connection->url.text, what);
    return true;
}

static bool
put_message_locked(struct rpc_client_stream *stream, const struct rpc_frame *frame, struct bytes *large)
{
    size_t size = frame->message.size;
    if (stream->locked.receive_credit <= 0) {
        return fail_locked(stream, "has sent more than it had credit for");
    }
    struct rpc_client_message *message = malloc(sizeof *message + (large == NULL ? size : 0));
    if (message == NULL) {
        return fail_locked(stream, "has sent a message for which there is no memory");
    }
    *message = (struct rpc_client_message){.data = frame->message};
    if (large != NULL) {
        message->large = *large;
        *large = (struct bytes){0}; // transferred
    } else if (size > 0) {
        memcpy(message->small, frame->message.data, size);
        message->data.data = message->small;
    }
    stream->locked.receive_credit -= (int64_t)cost_of(size);
    STAILQ_INSERT_TAIL(&stream->locked.inbox, message, link);
    return false;
}

static bool
take_credit_locked(struct rpc_client_stream *stream, struct bytes_view header)
{
    struct arena arena;
    ProtobufCMessage *credit = NULL;
    arena_init(&arena, CREDIT_ARENA_BYTES);
    enum err err = rpc_message_unpack(&fc__rpc__v1__credit__descriptor, header, &arena, &credit, NULL);
    if (err == ERR_OK) {
        stream->locked.send_credit += ((const Fc__Rpc__V1__Credit *)credit)->bytes;
    }
    arena_deinit(&arena);
    if (err != ERR_OK || stream->locked.send_credit > INT32_MAX) {
        return fail_locked(stream, "has given credit that cannot be counted");
    }
    return false;
}

bool
rpc_client_stream_take_locked(struct rpc_client_stream *stream, struct bytes_view data, struct bytes *large)
{
    struct rpc_frame frame;
    struct rpc_unary *call = &stream->call;
    bool has_ended = false;
    if (rpc_frame_parse(data, &frame) != ERR_OK) {
        has_ended = fail_locked(stream, "has sent a frame that cannot be read");
    } else if (frame.flags == RPC_FRAME_MESSAGE) {
        if (frame.header.size > 0) {
            rpc_unary_take_header(call, frame.header);
        }
        has_ended = call->status.code != RPC_OK || put_message_locked(stream, &frame, large);
    } else if (frame.flags == RPC_FRAME_CREDIT) {
        has_ended = take_credit_locked(stream, frame.header);
    } else if (frame.flags == RPC_FRAME_END || frame.flags == 0) {
        // Without flags it is a refusal, as that of a server that does not know them.
        rpc_unary_take_header(call, frame.header);
        has_ended = true;
        if (frame.flags == 0 && call->status.code == RPC_OK) {
            rpc_unary_set_status(call, RPC_INTERNAL, "the server at %s has answered a stream with one reply",
                call->locked.connection->url.text);
        }
    } else {
        has_ended = fail_locked(stream, "has sent a frame that does not belong to a stream");
    }
    rpc_client_stream_wake_locked(stream);
    return has_ended;
}

// ---- Life

void
rpc_client_stream_init(struct rpc_client_stream *stream, struct rpc_channel *channel,
    const ProtobufCMessageDescriptor *output)
{
    *stream = (struct rpc_client_stream){.output = output};
    rpc_unary_init(&stream->call, channel, NULL);
    stream->call.stream = stream;
    (void)pthread_cond_init(&stream->changed, NULL);
    STAILQ_INIT(&stream->locked.inbox);
    stream->locked.send_credit = RPC_STREAM_CREDIT_BYTES;
    stream->locked.receive_credit = RPC_STREAM_CREDIT_BYTES;
}

void
rpc_client_stream_open(struct rpc_client_stream *stream, const char *method)
{
    rpc_unary_start_flagged(&stream->call, method, RPC_FRAME_OPEN, NULL, bytes_view_of(NULL, 0));
}

void
rpc_client_stream_open_with(struct rpc_client_stream *stream, const char *method, const ProtobufCMessage *only)
{
    stream->locked.has_ended_sending = true; // nobody else knows the stream yet
    rpc_unary_start_flagged(&stream->call, method, OPEN_WITH, only, bytes_view_of(NULL, 0));
}

void
rpc_client_stream_open_with_encoded(struct rpc_client_stream *stream, const char *method, struct bytes_view only)
{
    stream->locked.has_ended_sending = true;
    rpc_unary_start_flagged(&stream->call, method, OPEN_WITH, NULL, only);
}

static void
free_message(struct rpc_client_message *message)
{
    if (message != NULL) {
        bytes_free(&message->large);
        free(message);
    }
}

// is_over_locked: nothing more will come or go.
static bool
is_over_locked(const struct rpc_client_stream *stream)
{
    int state = stream->call.locked.state;
    return state == RPC_UNARY_CLAIMED || state == RPC_UNARY_DONE;
}

void
rpc_client_stream_cancel(struct rpc_client_stream *stream)
{
    rpc_unary_cancel(&stream->call);
}

enum err
rpc_client_stream_finish(struct rpc_client_stream *stream)
{
    return rpc_unary_wait(&stream->call);
}

void
rpc_client_stream_deinit(struct rpc_client_stream *stream)
{
    struct rpc_channel *channel = stream->call.channel;
    if (stream->call.locked.state != RPC_UNARY_NEW) {
        rpc_client_stream_cancel(stream);
        (void)!rpc_client_stream_finish(stream);
    }
    rpc_channel_lock(channel);
    while (stream->locked.tellers > 0) {
        (void)pthread_cond_wait(&stream->changed, &channel->mutex);
    }
    rpc_channel_unlock(channel);
    while (!STAILQ_EMPTY(&stream->locked.inbox)) {
        struct rpc_client_message *message = STAILQ_FIRST(&stream->locked.inbox);
        STAILQ_REMOVE_HEAD(&stream->locked.inbox, link);
        free_message(message);
    }
    free_message(stream->current);
    stream->current = NULL;
    arena_deinit(&stream->arena);
    rpc_unary_deinit(&stream->call);
    (void)pthread_cond_destroy(&stream->changed);
}

// ---- Sending

// Waits until a message can go, if it may. Anything but ERR_OK leaves the stream as it was.
static enum err
wait_for_room_locked(struct rpc_client_stream *stream, bool may_wait)
{
    struct rpc_channel *channel = stream->call.channel;
    for (;;) {
        bool is_sent = stream->call.locked.state == RPC_UNARY_SENT;
        if (is_over_locked(stream) || stream->locked.has_ended_sending) {
            return ERR_CLOSED;
        }
        if (is_sent && stream->locked.send_credit > 0) {
            return ERR_OK;
        }
        if (!may_wait) {
            return ERR_BUSY;
        }
        (void)pthread_cond_wait(&stream->changed, &channel->mutex);
    }
}

static void
send_frame_locked(struct rpc_client_stream *stream, const struct rpc_flagged *frame)
{
    struct rpc_connection *connection = stream->call.locked.connection;
    rpc_connection_frame_locked(connection, stream->call.locked.id, frame);
    if (connection->locked.pipe != NULL) {
        sp_pipe_flush(connection->locked.pipe);
    }
}

static enum err
send(struct rpc_client_stream *stream, const struct rpc_flagged *frame, size_t size, bool may_wait)
{
    struct rpc_channel *channel = stream->call.channel;
    if (size > RPC_MESSAGE_MAX_BYTES - RPC_HEADER_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    rpc_channel_lock(channel);
    enum err err = wait_for_room_locked(stream, may_wait);
    if (err == ERR_OK) {
        stream->locked.send_credit -= (int64_t)cost_of(size);
        send_frame_locked(stream, frame);
    }
    rpc_channel_unlock(channel);
    return err;
}

enum err
rpc_client_stream_send(struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
    const struct rpc_flagged frame = {.flags = RPC_FRAME_MESSAGE, .message = message};
    return send(stream, &frame, protobuf_c_message_get_packed_size(message), true);
}

enum err
rpc_client_stream_send_encoded(struct rpc_client_stream *stream, struct bytes_view message)
{
    return send(stream, &(struct rpc_flagged){.flags = RPC_FRAME_MESSAGE, .encoded = message}, message.size, true);
}

enum err
rpc_client_stream_try_send(struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
    const struct rpc_flagged frame = {.flags = RPC_FRAME_MESSAGE, .message = message};
    return send(stream, &frame, protobuf_c_message_get_packed_size(message), false);
}

void
rpc_client_stream_end(struct rpc_client_stream *stream)
{
    struct rpc_channel *channel = stream->call.channel;
    rpc_channel_lock(channel);
    while (stream->call.locked.state != RPC_UNARY_SENT && !is_over_locked(stream)) {
        (void)pthread_cond_wait(&stream->changed, &channel->mutex); // for its connection
    }
    if (!is_over_locked(stream) && !stream->locked.has_ended_sending) {
        stream->locked.has_ended_sending = true;
        send_frame_locked(stream, &(struct rpc_flagged){.flags = RPC_FRAME_END});
    }
    rpc_channel_unlock(channel);
}

// ---- Receiving

// Gives credit back for what was received, in steps that are worth a frame.
static void
give_credit_locked(struct rpc_client_stream *stream, size_t bytes)
{
    Fc__Rpc__V1__Credit credit = FC__RPC__V1__CREDIT__INIT;
    stream->locked.owed_credit += bytes;
    if (stream->locked.owed_credit < CREDIT_STEP_BYTES || stream->call.locked.state != RPC_UNARY_SENT) {
        return;
    }
    credit.bytes = (uint32_t)stream->locked.owed_credit;
    stream->locked.receive_credit += credit.bytes;
    stream->locked.owed_credit = 0;
    send_frame_locked(stream, &(struct rpc_flagged){.flags = RPC_FRAME_CREDIT, .header = &credit.base});
}

// Takes the next message out of the inbox. *out is NULL when there are no more.
static enum err
take(struct rpc_client_stream *stream, bool may_wait, struct rpc_client_message **out)
{
    struct rpc_channel *channel = stream->call.channel;
    enum err err = ERR_OK;
    rpc_channel_lock(channel);
    while (may_wait && STAILQ_EMPTY(&stream->locked.inbox) && !is_over_locked(stream)) {
        (void)pthread_cond_wait(&stream->changed, &channel->mutex);
    }
    *out = STAILQ_FIRST(&stream->locked.inbox);
    if (*out != NULL) {
        STAILQ_REMOVE_HEAD(&stream->locked.inbox, link);
        give_credit_locked(stream, cost_of((*out)->data.size));
    } else if (!is_over_locked(stream)) {
        err = ERR_BUSY;
    }
    rpc_channel_unlock(channel);
    return err;
}

static enum err
receive(struct rpc_client_stream *stream, bool may_wait, const void **message_out)
{
    struct rpc_client_message *message = NULL;
    ProtobufCMessage *unpacked = NULL;
    enum err err = take(stream, may_wait, &message);
    if (err != ERR_OK) {
        return err;
    }
    free_message(stream->current);
    arena_deinit(&stream->arena);
    stream->current = message;
    if (message == NULL) {
        *message_out = NULL;
        return ERR_OK;
    }
    if (stream->output == NULL) {
        *message_out = &message->data;
        return ERR_OK;
    }
    arena_init(&stream->arena, rpc_message_arena_limit(message->data.size));
    err = rpc_message_unpack_in_place(stream->output, message->data, &stream->arena, &unpacked, NULL);
    if (err == ERR_OK) {
        *message_out = unpacked;
    } else {
        rpc_client_stream_cancel(stream);
    }
    return err == ERR_OK || err == ERR_NO_MEMORY ? err : ERR_PROTOCOL;
}

enum err
rpc_client_stream_receive(struct rpc_client_stream *stream, const void **message_out)
{
    return receive(stream, true, message_out);
}

enum err
rpc_client_stream_try_receive(struct rpc_client_stream *stream, const void **message_out)
{
    return receive(stream, false, message_out);
}
