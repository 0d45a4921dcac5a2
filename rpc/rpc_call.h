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
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/timer.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_metadata.h"

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

// rpc_call_peer_address is where the caller is, as "127.0.0.1:4711" or "ipc". Valid until the answer.
const char *rpc_call_peer_address(const struct rpc_call *call);

// rpc_call_is_cancelled: the caller has given up or gone, or the deadline has passed, so that an answer would reach
// nobody. For handlers that work for long: they look now and then.
bool rpc_call_is_cancelled(const struct rpc_call *call);

struct rpc_call_watch;

// rpc_call_cancelled_fn is called once, on any thread, and must not block. From then on nobody else may answer the
// call, and it does so, with ERR_CANCELLED.
typedef void rpc_call_cancelled_fn(struct rpc_call_watch *watch);

// rpc_call_watch is for handlers that wait: it is told when its call is cancelled. Embedded in the handler's own state.
struct rpc_call_watch {
    struct rpc_call *call;
    rpc_call_cancelled_fn *on_cancelled;

    // Private. Guarded by the lock of the call's connection.
    LIST_ENTRY(rpc_call_watch) link;
    bool is_claimed;
    struct timer deadline;
};

// rpc_call_watch_start begins to watch, in the handler. ERR_CANCELLED: it is cancelled already, and on_cancelled is not
// called; ERR_NO_MEMORY.
enum err rpc_call_watch_start(struct rpc_call_watch *watch, struct rpc_call *call,
    rpc_call_cancelled_fn *on_cancelled) ERR_CHECKED;

// rpc_call_watch_claim ends it, before the call is answered. False: on_cancelled has been or is being called, and
// answers; the caller leaves the call alone. So before on_cancelled answers, it sees to it that nobody claims any more,
// as by stopping the timer whose expiry would. The watch must stay where it is until it has returned or this was true.
bool rpc_call_watch_claim(struct rpc_call_watch *watch) ERR_CHECKED;

// rpc_call_metadata is what the caller sent along, in order. Valid until the answer. index < count.
size_t rpc_call_metadata_count(const struct rpc_call *call);
struct rpc_metadata rpc_call_metadata(const struct rpc_call *call, size_t index);

// rpc_call_add_metadata sends an entry with the answer, also with an error; of a stream before its first message.
// Copied. In the handler or by whoever answers. ERR_INVALID: no key that is allowed; ERR_LIMIT: too many;
// ERR_NO_MEMORY.
enum err rpc_call_add_metadata(struct rpc_call *call, const char *key, struct bytes_view value) ERR_CHECKED;

// rpc_call_fail answers with an error and ends the call. code must not be ERR_OK.
void rpc_call_fail(struct rpc_call *call, enum err code, const char *format, ...) __attribute__((format(printf, 3, 4)));

// rpc_call_fail_detail is the same for an explanation made elsewhere, with an ErrorInfo: reason (NULL for none) and
// retry_after_ms (0 for none). why may be NULL.
void rpc_call_fail_detail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason,
    uint32_t retry_after_ms);

// rpc_call_fail_code is the same for whoever passes on how another call ended: any number but 0, and a message of up to
// RPC_STATUS_MESSAGE_MAX_BYTES, which is cut there.
void rpc_call_fail_code(struct rpc_call *call, int code, const char *message, const char *reason,
    uint32_t retry_after_ms);

#endif
