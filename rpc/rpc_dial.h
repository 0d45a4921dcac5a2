// For insiders of rpc/: one attempt to connect.
#ifndef RPC_DIAL_H
#define RPC_DIAL_H

#include <nng/nng.h>

#include "base/err.h"
#include "rpc/rpc_nng.h"

struct rpc_dial;

// rpc_dial_done_fn runs once, on one of nng's threads, and must not block. It owns the stream, which is NULL after a
// failure; nng_error then says why (NNG_ETIMEDOUT, NNG_ECANCELED and so on). The attempt frees itself afterwards.
typedef void rpc_dial_done_fn(void *context, nng_stream *stream, int nng_error);

// rpc_dial_start begins to connect; on_done may run before it returns. For a host name that has addresses of both
// families IPv4 is tried as well: "localhost" often means ::1 first, where a server on 127.0.0.1 does not listen.
enum err rpc_dial_start(const struct rpc_url *url, unsigned timeout_ms, rpc_dial_done_fn *on_done, void *context,
    struct rpc_dial **out) ERR_CHECKED;

// rpc_dial_cancel makes the attempt end soon. Only while on_done has not returned; a lock that on_done takes may be
// held.
void rpc_dial_cancel(struct rpc_dial *dial);

#endif
