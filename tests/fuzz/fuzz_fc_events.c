// A client follows a room on a hostile server: whatever is answered and published, the messages come in order, without
// gaps, and with all their parts.
//
// After a byte for where the client begins, the input is a list of answers to its calls and of messages that are
// published to it, each behind its kind (1 byte) and size (2). The functions of a channel, a session and a subscriber
// that the stream uses are below: this list is what they are connected to.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The stream's own functions, which run on its thread elsewhere.
#include "base/text.h"
#include "client/fc_room_stream.c"
#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HEAD_BYTES = 3,
};

enum kind {
    KIND_ANSWER,    // the frame that answers the next call
    KIND_PUBLISHED, // a message of the subscription: topic and batch
    KIND_EVENTS,    // a batch for the room that is followed
    KIND_GAP,       // there was no memory for a batch
    KIND_END,       // of the connection of the subscription
    KIND_COUNT,
};

struct item {
    enum kind kind;
    struct bytes_view bytes;
};

// What the server does, and what the stream has told.
static struct {
    struct bytes_view answers;   // what is left of the list, of which only the answers count
    struct bytes_view published; // what is left of it, of which only the others count
    uint64_t last_seq;
    bool has_message; // last_seq is that of one
} played;

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

// ---- The server

static bool
take_item(struct bytes_view *list, struct item *item_out)
{
    if (list->size < HEAD_BYTES) {
        return false;
    }
    const uint8_t *bytes = list->data + HEAD_BYTES;
    const size_t left = list->size - HEAD_BYTES;
    size_t size = bytes_load_be16(list->data + 1);
    size = size > left ? left : size;
    *item_out = (struct item){(enum kind)(list->data[0] % KIND_COUNT), bytes_view_of(bytes, size)};
    *list = bytes_view_of(bytes + size, left - size);
    return true;
}

static bool
take_answer(struct bytes_view *frame_out)
{
    struct item item;
    while (take_item(&played.answers, &item)) {
        if (item.kind == KIND_ANSWER) {
            *frame_out = item.bytes;
            return true;
        }
    }
    return false;
}

// What a subscriber does with a message (rpc_subscriber.c). Returns whether its connection stays.
static bool
publish(struct fc_room_stream *stream, const struct item *item)
{
    switch (item->kind) {
    case KIND_ANSWER:
        return true;
    case KIND_PUBLISHED:
        if (item->bytes.size < RPC_TOPIC_BYTES) {
            return false;
        }
        on_event(stream, item->bytes.data,
            bytes_view_of(item->bytes.data + RPC_TOPIC_BYTES, item->bytes.size - RPC_TOPIC_BYTES));
        return true;
    case KIND_EVENTS:
        on_event(stream, stream->rooms[0].id, item->bytes);
        return true;
    case KIND_GAP:
        stream->inbox.locked.has_gap = true;
        return true;
    case KIND_END:
    case KIND_COUNT:
        break;
    }
    return false;
}

// ---- In place of a channel (rpc_channel_priv.h): each call is answered when it is sent.

const char *
rpc_channel_url(const struct rpc_channel *channel)
{
    (void)channel;
    return "ipc:///played";
}

void
rpc_channel_copy_token(struct rpc_channel *channel, char token_out[RPC_TOKEN_MAX_BYTES + 1])
{
    (void)channel;
    token_out[0] = '\0';
}

void
rpc_channel_submit(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk)
{
    struct rpc_frame request;
    struct bytes_view answer;
    (void)channel;
    require(rpc_frame_parse(bytes_view_of(frame->data + 4, frame->size - 4), &request) == ERR_OK && bulk.size == 0);
    if (take_answer(&answer)) {
        rpc_unary_take_answer(call, answer, NULL);
    } else {
        rpc_unary_set_status(call, RPC_UNAVAILABLE, "the server has gone");
    }
}

void
rpc_channel_reject(struct rpc_channel *channel, struct rpc_unary *call)
{
    (void)channel;
    (void)call;
    abort(); // what the stream asks for can be sent
}

bool
rpc_channel_cancel(struct rpc_channel *channel, struct rpc_unary *call)
{
    (void)channel;
    (void)call;
    return false;
}

void
rpc_channel_wait(struct rpc_channel *channel, struct rpc_unary *call)
{
    (void)channel;
    (void)call;
}

// ---- In place of a session

struct rpc_channel *
fc_session_channel(struct fc_session *session)
{
    (void)session;
    return NULL;
}

const char *
fc_session_server_url(const struct fc_session *session)
{
    (void)session;
    return rpc_channel_url(NULL);
}

struct rpc_tls_client *
fc_session_tls(const struct fc_session *session)
{
    (void)session;
    return NULL;
}

enum err
fc_session_explain(const struct rpc_unary *call, enum err err, struct err_detail *why)
{
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "%s", err_message(&call->status.detail, err));
}

// ---- In place of a subscriber: all that its connection brings is there at once.

enum err
rpc_subscriber_new(const char *url, struct rpc_tls_client *tls, const char *ticket,
    const struct rpc_subscriber_handlers *handlers, void *context, struct rpc_subscriber **out, struct err_detail *why)
{
    struct item item;
    (void)url;
    (void)tls;
    (void)out;
    (void)why;
    require(strlen(ticket) < RPC_MESSAGE_MAX_BYTES && handlers == &subscriber_handlers);
    while (take_item(&played.published, &item) && publish(context, &item)) {
    }
    handlers->on_closed(context, ERR_CLOSED);
    return ERR_OK;
}

void
rpc_subscriber_free(struct rpc_subscriber **subscriber)
{
    *subscriber = NULL;
}

// ---- The caller

static void
check_text(const char *text)
{
    require(text != NULL && text_is_utf8(bytes_view_of_text(text)));
}

static bool
on_message(void *context, const struct fc_message *message)
{
    const struct fc_room_stream *stream = context;
    static const uint8_t zeros[16];
    require(stream->rooms[0].is_known && message->seq > stream->options.after_seq);
    require(!played.has_message || message->seq == played.last_seq + 1);
    require(played.has_message || stream->options.is_from_head || message->seq == stream->options.after_seq + 1);
    played.has_message = true;
    played.last_seq = message->seq;
    check_text(message->room);
    check_text(message->sender);
    check_text(message->text);
    (void)!memcmp(message->room_id, zeros, sizeof(zeros));
    (void)!memcmp(message->id, zeros, sizeof(zeros));
    if (message->has_file) {
        check_text(message->file_name);
        (void)!memcmp(message->file_id, zeros, sizeof(zeros));
        (void)!memcmp(message->file_md5, zeros, sizeof(zeros));
    }
    return strcmp(message->text, "stop") != 0;
}

static void
on_state(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why)
{
    const struct fc_room_stream *stream = context;
    require(state == FC_STREAM_LIVE);
    require(code == ERR_OK && why == &stream->cause);
}

// live_once is a turn of the stream's loop. Returns whether it would go on.
static bool
live_once(struct fc_room_stream *stream)
{
    memset(&stream->cause, 0, sizeof(stream->cause));
    const enum err err = live(stream);
    require(err != ERR_OK);
    require(!stream->is_stopped_by_fn || err == ERR_CANCELLED);
    require(stream->is_stopped_by_fn || stream->cause.message[0] != '\0'); // a refusal says why
    stream->has_state = false;
    if (!stream->has_opened) {
        report_open(stream, err);
    }
    return stream->has_opened && !stream->is_stopped_by_fn && !is_for_good(err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fc_room_stream *stream = NULL;
    if (size < 1) {
        return 0;
    }
    memset(&played, 0, sizeof(played));
    played.answers = bytes_view_of(data + 1, size - 1);
    played.published = played.answers;
    require(stream_new(&stream) == ERR_OK);
    stream->options = (struct fc_room_stream_options){
        .is_from_head = (data[0] & 1) != 0,
        .after_seq = data[0] >> 1,
        .on_message = on_message,
        .on_state = on_state,
        .context = stream,
    };
    if (stream->options.is_from_head) {
        stream->options.after_seq = 0;
    }
    const char *const rooms[] = {"kitchen"};
    const struct fc_room_stream_options wanted = {.rooms = rooms, .room_count = 1};
    require(copy_rooms(stream, &wanted) == ERR_OK);
    const struct followed_room *room = &stream->rooms[0];
    while (live_once(stream) && played.answers.size >= HEAD_BYTES) {
        require(room->last_seq <= room->server_seq || room->last_seq <= stream->options.after_seq);
    }
    stream_free(&stream);
    return 0;
}
