// The two vocabularies of failure, and the tables between them.
#include "rpc/rpc_status.h"

#include <assert.h>

#include "fc/rpc/v1/rpc.pb-c.h"

// The numbers travel; these would be the first to notice that the enums have come apart.
static_assert((int)RPC_OK == (int)FC__RPC__V1__CODE__OK, "code numbers");
static_assert((int)RPC_NOT_FOUND == (int)FC__RPC__V1__CODE__NOT_FOUND, "code numbers");
static_assert((int)RPC_UNIMPLEMENTED == (int)FC__RPC__V1__CODE__UNIMPLEMENTED, "code numbers");
static_assert((int)RPC_UNAUTHENTICATED == (int)FC__RPC__V1__CODE__UNAUTHENTICATED, "code numbers");

// What each code is called, and what it means to the code that made the call.
static const struct {
    const char *name;
    enum err err;
} codes[] = {
    [RPC_OK] = {"OK", ERR_OK},
    [RPC_CANCELLED] = {"CANCELLED", ERR_CANCELLED},
    [RPC_UNKNOWN] = {"UNKNOWN", ERR_INTERNAL},
    [RPC_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", ERR_INVALID},
    [RPC_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", ERR_TIMEOUT},
    [RPC_NOT_FOUND] = {"NOT_FOUND", ERR_NOT_FOUND},
    [RPC_ALREADY_EXISTS] = {"ALREADY_EXISTS", ERR_EXISTS},
    [RPC_PERMISSION_DENIED] = {"PERMISSION_DENIED", ERR_DENIED},
    [RPC_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", ERR_LIMIT},
    [RPC_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", ERR_PRECONDITION},
    [RPC_ABORTED] = {"ABORTED", ERR_CONFLICT},
    [RPC_OUT_OF_RANGE] = {"OUT_OF_RANGE", ERR_OUT_OF_RANGE},
    [RPC_UNIMPLEMENTED] = {"UNIMPLEMENTED", ERR_UNIMPLEMENTED},
    [RPC_INTERNAL] = {"INTERNAL", ERR_INTERNAL},
    [RPC_UNAVAILABLE] = {"UNAVAILABLE", ERR_UNAVAILABLE},
    [RPC_DATA_LOSS] = {"DATA_LOSS", ERR_CORRUPT},
    [RPC_UNAUTHENTICATED] = {"UNAUTHENTICATED", ERR_UNAUTHENTICATED},
};
static_assert(sizeof codes / sizeof codes[0] == RPC_CODE_COUNT, "a row for each code");

const char *
rpc_code_name(enum rpc_code code)
{
    // Through unsigned, since the number may be whatever a peer sent.
    return (unsigned)code < RPC_CODE_COUNT ? codes[code].name : codes[RPC_UNKNOWN].name;
}

enum err
rpc_code_to_err(enum rpc_code code)
{
    return (unsigned)code < RPC_CODE_COUNT ? codes[code].err : ERR_INTERNAL;
}

enum err
rpc_status_to_err(const struct rpc_status *status)
{
    return status->is_untrusted ? ERR_UNTRUSTED : rpc_code_to_err(status->code);
}

enum rpc_code
rpc_code_from_err(enum err code)
{
    switch (code) {
    case ERR_OK:
        return RPC_OK;
    case ERR_INVALID:
    case ERR_PROTOCOL: // what does not decode is the caller's fault
        return RPC_INVALID_ARGUMENT;
    case ERR_VERSION:
    case ERR_UNIMPLEMENTED:
        return RPC_UNIMPLEMENTED;
    case ERR_NO_MEMORY:
    case ERR_TOO_BIG:
    case ERR_LIMIT:
    case ERR_NO_SPACE:
        return RPC_RESOURCE_EXHAUSTED;
    case ERR_OUT_OF_RANGE:
        return RPC_OUT_OF_RANGE;
    case ERR_NOT_FOUND:
        return RPC_NOT_FOUND;
    case ERR_EXISTS:
        return RPC_ALREADY_EXISTS;
    case ERR_PRECONDITION:
        return RPC_FAILED_PRECONDITION;
    case ERR_CONFLICT:
        return RPC_ABORTED;
    case ERR_UNAUTHENTICATED:
        return RPC_UNAUTHENTICATED;
    case ERR_DENIED:
        return RPC_PERMISSION_DENIED;
    case ERR_CORRUPT:
        return RPC_DATA_LOSS;
    case ERR_BUSY:
    case ERR_UNAVAILABLE:
    case ERR_CLOSED:
    case ERR_UNTRUSTED: // never from a server
    case ERR_NO_KEY:
    case ERR_QUEUED:
        return RPC_UNAVAILABLE;
    case ERR_TIMEOUT:
        return RPC_DEADLINE_EXCEEDED;
    case ERR_CANCELLED:
        return RPC_CANCELLED;
    case ERR_IO:
    case ERR_INTERNAL:
    case ERR_COUNT:
        break;
    }
    return RPC_INTERNAL;
}
