// A streaming call on the server, as its handlers see it.
//
// A method whose rule names handlers is a streaming one, whichever of its sides the .proto says streams. The handlers
// of a stream run on the server's worker threads, one at a time for a stream, and must not block. The stream is also a
// call: rpc_server_stream_call gives its identity, deadline and metadata.
//
//     static void
//     mirror_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
//     {
//         if (rpc_server_stream_send(stream, message) != ERR_OK) {
//             ... the stream has ended, and on_closed comes
//         }
//     }
#ifndef RPC_SERVER_STREAM_H
#define RPC_SERVER_STREAM_H

#include <stdbool.h>

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"
#include "rpc/rpc_call.h"

struct rpc_server_stream;

// Any but on_message may be NULL. No handler runs after on_closed.
struct rpc_stream_handlers {
    // The stream has been opened. `service` is what rpc_server_add_service was given.
    void (*on_open)(struct rpc_server_stream *stream, ProtobufCService *service);
    // The client's next message, valid during the handler. It comes only while a message can be sent, so that a handler
    // that answers each with one never finds ERR_BUSY; unless rpc_server_stream_pause was called, the next one comes
    // when this returns.
    void (*on_message)(struct rpc_server_stream *stream, const ProtobufCMessage *message);
    // The client sends no more. The stream goes on until rpc_server_stream_finish or rpc_server_stream_fail.
    void (*on_end)(struct rpc_server_stream *stream);
    // After rpc_server_stream_send has returned ERR_BUSY: it will take a message again.
    void (*on_writable)(struct rpc_server_stream *stream);
    // The last handler, once, for every stream that was opened: the call was finished, failed, cancelled or timed out,
    // or the client has gone. What the handlers keep is freed here.
    void (*on_closed)(struct rpc_server_stream *stream);
};

// rpc_server_stream_set_context keeps a pointer for the handlers. From a handler.
void rpc_server_stream_set_context(struct rpc_server_stream *stream, void *context);
void *rpc_server_stream_context(const struct rpc_server_stream *stream);

// rpc_server_stream_call is the call behind the stream, for the functions of rpc_call.h that ask about it. It is never
// answered by those of them that answer.
struct rpc_call *rpc_server_stream_call(struct rpc_server_stream *stream);

// rpc_server_stream_send sends one message of the method's output type; it is packed before the function returns. Any
// thread. ERR_BUSY: the client has not made room; on_writable follows when it has. ERR_CLOSED: the stream has ended.
// ERR_TOO_BIG, ERR_NO_MEMORY: it ends with INTERNAL.
enum err rpc_server_stream_send(struct rpc_server_stream *stream, const ProtobufCMessage *message) ERR_CHECKED;

// rpc_server_stream_pause takes no further messages from the client, whose credit then runs out;
// rpc_server_stream_resume takes them again. Any thread.
void rpc_server_stream_pause(struct rpc_server_stream *stream);
void rpc_server_stream_resume(struct rpc_server_stream *stream);

// rpc_server_stream_finish ends the stream with OK, after everything that was sent; rpc_server_stream_fail with an
// error. on_closed follows. Any thread; the second of two does nothing.
void rpc_server_stream_finish(struct rpc_server_stream *stream);
void rpc_server_stream_fail(struct rpc_server_stream *stream, enum err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// rpc_server_stream_hold and rpc_server_stream_release are for other threads, so that the stream's memory outlives
// on_closed.
void rpc_server_stream_hold(struct rpc_server_stream *stream);
void rpc_server_stream_release(struct rpc_server_stream *stream);

#endif
