// A streaming call on a channel: messages both ways under one call.
//
//     struct rpc_client_stream stream;
//     rpc_client_stream_init(&stream, channel, &fc__test__v1__conformance_data__descriptor);
//     rpc_client_stream_open(&stream, "fc.test.v1.Conformance/Mirror");
//     err = rpc_client_stream_send(&stream, &data.base);
//     err = rpc_client_stream_receive(&stream, &message);   // NULL: there are no more
//     rpc_client_stream_end(&stream);
//     err = rpc_client_stream_finish(&stream);               // how the call ended, as rpc_unary_wait
//     rpc_client_stream_deinit(&stream);
//
// One thread may send while another receives. A stream is never sent again by itself. What the server has sent waits in
// memory, at most RPC_STREAM_CREDIT_BYTES and one message, until it is received; a client that does not receive so
// stops the server, and nothing else on the channel.
#ifndef RPC_CLIENT_STREAM_H
#define RPC_CLIENT_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_channel.h"

struct rpc_client_message;
struct rpc_client_stream;

// rpc_client_stream_event_fn runs when there is something to receive, room to send after ERR_BUSY, or the call has
// ended; on a thread of the channel, also while an earlier run has not returned. It must not block, and not deinit the
// stream.
typedef void rpc_client_stream_event_fn(struct rpc_client_stream *stream);

// rpc_client_stream must stay where it is until rpc_client_stream_deinit, which comes before its channel is freed.
struct rpc_client_stream {
    // Timeout for the whole stream, request id, metadata and is_waiting_for_ready may be set before the stream is
    // opened; its status and rpc_unary_metadata are there after the end. Its on_done and is_idempotent are not used.
    struct rpc_unary call;
    rpc_client_stream_event_fn *on_event; // NULL: the caller waits
    void *context;                        // the caller's

    // Private.
    const ProtobufCMessageDescriptor *output; // NULL: messages are received as they are encoded
    pthread_cond_t changed;
    struct arena arena; // of the message that was received last
    struct rpc_client_message *current;
    struct { // guarded by the channel's lock
        STAILQ_HEAD(, rpc_client_message) inbox;
        int64_t send_credit;
        int64_t receive_credit; // what the server may still send
        size_t owed_credit;     // received and not given back yet
        bool has_ended_sending;
        unsigned tellers; // runs of on_event that have not returned
    } locked;
};

// rpc_client_stream_init prepares a stream whose answers have this type; NULL: they are not unpacked, and received as a
// struct bytes_view.
void rpc_client_stream_init(struct rpc_client_stream *stream, struct rpc_channel *channel,
    const ProtobufCMessageDescriptor *output);

// rpc_client_stream_open begins the call of "package.Service/Method". It does not wait; what is wrong shows in what
// follows. rpc_client_stream_open_with also sends the only message of a method that streams just its answer.
void rpc_client_stream_open(struct rpc_client_stream *stream, const char *method);
void rpc_client_stream_open_with(struct rpc_client_stream *stream, const char *method, const ProtobufCMessage *only);
void rpc_client_stream_open_with_encoded(struct rpc_client_stream *stream, const char *method, struct bytes_view only);

// rpc_client_stream_send waits until the server has room, and sends a message; _send_encoded one that has been encoded
// elsewhere. ERR_CLOSED: the call has ended, and rpc_client_stream_finish tells how; or rpc_client_stream_end was
// called.
enum err rpc_client_stream_send(struct rpc_client_stream *stream, const ProtobufCMessage *message) ERR_CHECKED;
enum err rpc_client_stream_send_encoded(struct rpc_client_stream *stream, struct bytes_view message) ERR_CHECKED;

// rpc_client_stream_try_send does not wait: ERR_BUSY, and on_event when there is room.
enum err rpc_client_stream_try_send(struct rpc_client_stream *stream, const ProtobufCMessage *message) ERR_CHECKED;

// rpc_client_stream_end says that no further message follows. The server goes on until it has answered.
void rpc_client_stream_end(struct rpc_client_stream *stream);

// rpc_client_stream_receive waits for the next message, which is valid until the next receive or deinit. NULL: there
// are no more, for whatever reason. ERR_PROTOCOL: a message that cannot be read; the call was cancelled. ERR_NO_MEMORY.
enum err rpc_client_stream_receive(struct rpc_client_stream *stream, const void **message_out) ERR_CHECKED;

// rpc_client_stream_try_receive does not wait: ERR_BUSY, and on_event when there is one.
enum err rpc_client_stream_try_receive(struct rpc_client_stream *stream, const void **message_out) ERR_CHECKED;

// rpc_client_stream_finish waits for the end of the call and returns its status as an error; messages that were not
// received are dropped.
enum err rpc_client_stream_finish(struct rpc_client_stream *stream) ERR_CHECKED;

// rpc_client_stream_cancel ends the call with CANCELLED, unless it has ended. Any thread.
void rpc_client_stream_cancel(struct rpc_client_stream *stream);

// rpc_client_stream_deinit cancels a stream that has not ended, waits for its end, and frees. Not from on_event.
void rpc_client_stream_deinit(struct rpc_client_stream *stream);

#endif
