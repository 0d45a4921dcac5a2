// How a call ended: google.rpc.Code and what goes with it.
#ifndef RPC_STATUS_H
#define RPC_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

// The numbers of fc.rpc.v1.Code, which are those of google.rpc.Code.
enum rpc_code {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_ABORTED = 10,
    RPC_OUT_OF_RANGE = 11,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
    RPC_DATA_LOSS = 15,
    RPC_UNAUTHENTICATED = 16,
};

enum {
    RPC_CODE_COUNT = RPC_UNAUTHENTICATED + 1,
};

enum {
    RPC_REASON_MAX_BYTES = 48, // with its NUL
};

// The reason of a refusal before a call was begun: it was certainly not executed.
#define RPC_REASON_NOT_EXECUTED "NOT_EXECUTED"

// rpc_status is the outcome of a call as its caller sees it. All zero is success.
struct rpc_status {
    enum rpc_code code;
    int raw_code;                      // the number that the server sent, also one that is UNKNOWN here; else 0
    struct err_detail detail;          // for a person; empty on success
    char reason[RPC_REASON_MAX_BYTES]; // ErrorInfo.reason, or empty
    uint32_t retry_after_ms;           // ErrorInfo.retry_after_ms, or 0
    bool is_untrusted;                 // UNAVAILABLE, because the server's certificate is not trusted
    uint32_t attempts;                 // how often the call was sent; 0: no server was reached
};

// rpc_code_name returns "NOT_FOUND" and so on; "UNKNOWN" for numbers that are none.
const char *rpc_code_name(enum rpc_code code);

// rpc_code_from_err and rpc_code_to_err are the only places where the two vocabularies meet. rpc_code_to_err maps an
// unknown number to ERR_INTERNAL, and RPC_OK to ERR_OK.
enum rpc_code rpc_code_from_err(enum err code);
enum err rpc_code_to_err(enum rpc_code code);

// rpc_status_to_err is rpc_code_to_err, but ERR_UNTRUSTED when that is the reason.
enum err rpc_status_to_err(const struct rpc_status *status);

#endif
