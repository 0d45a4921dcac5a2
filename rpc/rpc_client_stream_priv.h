// For rpc_channel*.c: what a channel tells its streams.
#ifndef RPC_CLIENT_STREAM_PRIV_H
#define RPC_CLIENT_STREAM_PRIV_H

#include "rpc/rpc_client_stream.h"

// rpc_client_stream_take_locked takes what the server has sent under the call's request id: `data` is the frame, and
// `large` as in sp_message. Returns whether the call has ended with it; then the caller claims it, whose status has
// been filled.
bool rpc_client_stream_take_locked(struct rpc_client_stream *stream, struct bytes_view data,
    struct bytes *large) ERR_CHECKED;

// rpc_client_stream_wake_locked wakes who waits for the stream.
void rpc_client_stream_wake_locked(struct rpc_client_stream *stream);

// rpc_client_stream_begin_locked and rpc_client_stream_tell call on_event: the first with the lock, the second, if that
// was true, without. In between the stream stays.
bool rpc_client_stream_begin_locked(struct rpc_client_stream *stream) ERR_CHECKED;
void rpc_client_stream_tell(struct rpc_client_stream *stream);

#endif
