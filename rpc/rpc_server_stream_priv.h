// For the server's side of rpc/ only: what peers, workers and the dispatch know of a stream.
//
// Life: a stream is referred to from its opening until its last handler has run, by whoever has found it in its peer's
// table, and by rpc_server_stream_hold. It holds its peer and owns its call, which stands in the peer's list of waiting
// calls whenever the stream has something for a worker to do.
#ifndef RPC_SERVER_STREAM_PRIV_H
#define RPC_SERVER_STREAM_PRIV_H

#include <sys/queue.h>

#include "rpc/rpc_call_priv.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_server_stream.h"

enum {
    RPC_STREAM_BUCKETS = 16, // of a peer's table
};

LIST_HEAD(rpc_stream_list, rpc_server_stream);

// rpc_peer_open_stream takes a frame with OPEN. As rpc_peer_receive.
enum err rpc_peer_open_stream(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes,
    const struct rpc_frame *frame, struct bytes *large) ERR_CHECKED;

// rpc_peer_find_stream returns a reference, or NULL.
struct rpc_server_stream *rpc_peer_find_stream(struct rpc_peer *peer, struct bytes_view route);

// rpc_server_stream_receive takes another frame of a stream. When `large` is not NULL it holds the frame.
// ERR_NO_MEMORY.
enum err rpc_server_stream_receive(struct rpc_server_stream *stream, const struct rpc_frame *frame,
    struct bytes *large) ERR_CHECKED;

// rpc_server_stream_run does what is due. Worker, one at a time.
void rpc_server_stream_run(struct rpc_batch *batch, struct rpc_server_stream *stream);

// rpc_server_stream_discard frees one that was never counted as in flight.
void rpc_server_stream_discard(struct rpc_server_stream *stream);

// rpc_peer_end_streams ends all streams of a peer that has gone.
void rpc_peer_end_streams(struct rpc_peer *peer);

#endif
