// For rpc_channel.c and rpc_unary.c: the channel keeps calls in flight, a call knows its own bytes.
#ifndef RPC_CHANNEL_PRIV_H
#define RPC_CHANNEL_PRIV_H

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_channel.h"

enum rpc_unary_state {
    RPC_UNARY_NEW,
    RPC_UNARY_WAITS,   // for a connection; its frame is kept
    RPC_UNARY_SENT,    // handed to a connection
    RPC_UNARY_PAUSES,  // before it is sent again
    RPC_UNARY_CLAIMED, // whoever took it from the channel completes it
    RPC_UNARY_DONE,
};

// rpc_channel_submit takes a call that has been prepared, and its frame (4 bytes for the request id in front; `bulk`
// goes behind and is borrowed). What it keeps of the frame it moves out. From here on the call ends by itself, maybe
// before the function returns.
void rpc_channel_submit(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame,
    struct bytes_view bulk);

// rpc_channel_reject ends a call that could not be prepared; its status says why.
void rpc_channel_reject(struct rpc_channel *channel, struct rpc_unary *call);

// rpc_channel_cancel takes a call out for good, so that the caller completes it; false when somebody else does.
bool rpc_channel_cancel(struct rpc_channel *channel, struct rpc_unary *call);

// rpc_channel_wait blocks until the call is done.
void rpc_channel_wait(struct rpc_channel *channel, struct rpc_unary *call);

// rpc_channel_copy_token writes the token and its NUL.
void rpc_channel_copy_token(struct rpc_channel *channel, char token_out[RPC_TOKEN_MAX_BYTES + 1]);

// rpc_unary_set_status fills the status of a claimed call.
void rpc_unary_set_status(struct rpc_unary *call, enum rpc_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// rpc_unary_renew_frame writes what is left of a call's time into its frame (4 bytes for the request id in front), for
// one that is sent later than it was made. On failure the frame is as it was.
enum err rpc_unary_renew_frame(struct bytes *frame, uint32_t timeout_ms) ERR_CHECKED;

// rpc_unary_start_flagged starts the call of a stream: what rpc_unary_start_raw does, with these flags. message NULL:
// `encoded` is it.
void rpc_unary_start_flagged(struct rpc_unary *call, const char *method, uint8_t flags, const ProtobufCMessage *message,
    struct bytes_view encoded);

// rpc_unary_take_header fills status and metadata of a claimed call from an encoded ResponseHeader. An empty one is
// success.
void rpc_unary_take_header(struct rpc_unary *call, struct bytes_view encoded);

// rpc_unary_take_answer fills status and response of a claimed call from the data of a frame. When `large` is not NULL
// it holds the data, and may be taken.
void rpc_unary_take_answer(struct rpc_unary *call, struct bytes_view data, struct bytes *large);

#endif
