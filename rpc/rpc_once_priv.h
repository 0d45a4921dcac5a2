// For the server's side of rpc/ only: calls that execute once for each request id.
//
// The answers of methods whose rule says so are kept for a while, by user and request id. A resend gets the answer of
// the first attempt, or waits for it. Answers that say that nothing was done and the call may be tried again
// (UNAVAILABLE, RESOURCE_EXHAUSTED and the like) are not kept. All of it is in memory, so it does not hold over a
// restart: what has to is a matter of the service's own store.
#ifndef RPC_ONCE_PRIV_H
#define RPC_ONCE_PRIV_H

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_call_priv.h"

enum {
    RPC_ONCE_KEPT_MS = 10 * 60 * 1000, // a resend that comes later executes again; stock REQ sockets resend after 60 s
    RPC_ONCE_MAX = 8192,               // kept answers and calls that run; beyond it the oldest answers go
    RPC_ONCE_MAX_BYTES = 16 * 1024 * 1024,
};

struct rpc_once;

enum rpc_once_role {
    RPC_ONCE_FIRST,  // runs
    RPC_ONCE_WAITS,  // the table has the call, and it is answered with the first one's answer
    RPC_ONCE_REPEAT, // *frame_out is the answer
    RPC_ONCE_OTHER,  // the request id belongs to another method's call
    RPC_ONCE_FULL,
};

enum err rpc_once_new(struct rpc_once **out) ERR_CHECKED;
void rpc_once_free(struct rpc_once **once);

// rpc_once_enter is called for a call with a request id before its handler. *frame_out belongs to the caller.
enum rpc_once_role rpc_once_enter(struct rpc_once *once, struct rpc_call *call, struct bytes *frame_out);

// rpc_once_leave takes the answer of a call that was RPC_ONCE_FIRST. The calls that have waited for it go to `waiting`,
// and the caller sends each the same frame.
void rpc_once_leave(struct rpc_once *once, struct rpc_call *call, struct bytes_view frame, bool is_kept,
    struct rpc_call_list *waiting);

#endif
