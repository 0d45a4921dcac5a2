// A call on the server, as a handler sees it.
//
// Handlers are the functions of protobuf-c's generated service structs. They run on the server's worker threads and may
// answer later, from any thread, exactly once: with the closure that they were given, or with rpc_call_fail. The
// closure_data that a handler is given is the call. The request and everything it points to stays valid until the
// answer. A handler blocks for disk reads and small queries only; what takes longer goes to a queue of its own.
//
//     static void
//     chat_send(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SendRequest *request,
//         Fc__Chat__V1__SendResponse_Closure reply, void *closure_data)
//     {
//         struct rpc_call *call = closure_data;
//         ...
//         reply(&response, call);
//     }
#ifndef RPC_CALL_H
#define RPC_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_limits.h"

struct rpc_call;

enum {
    RPC_SUBJECT_NAME_MAX_BYTES = 64, // with its NUL
};

// rpc_identity is who makes the call, as the server's authenticate function said.
struct rpc_identity {
    uint8_t subject_id[16];
    uint8_t session_id[16];
    char subject_name[RPC_SUBJECT_NAME_MAX_BYTES];
    bool is_admin;
    int64_t expires_unix_ms;
};

// rpc_call_identity is never NULL in a method whose rule asks for a token; NULL in others. Valid until the answer.
const struct rpc_identity *rpc_call_identity(const struct rpc_call *call);

// rpc_call_request_id is 16 bytes, or empty when the caller sent none.
struct bytes_view rpc_call_request_id(const struct rpc_call *call);

// rpc_call_deadline_ms is on clock_monotonic_ms.
uint64_t rpc_call_deadline_ms(const struct rpc_call *call);

// rpc_call_is_cancelled: the peer has gone or the deadline has passed, so that an answer would reach nobody.
bool rpc_call_is_cancelled(const struct rpc_call *call);

// rpc_call_fail answers with an error and ends the call. code must not be ERR_OK.
void rpc_call_fail(struct rpc_call *call, enum err code, const char *format, ...) __attribute__((format(printf, 3, 4)));

// rpc_call_fail_detail is the same for an explanation made elsewhere, with an ErrorInfo: reason (NULL for none) and
// retry_after_ms (0 for none). why may be NULL.
void rpc_call_fail_detail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason,
    uint32_t retry_after_ms);

#endif
