// Metadata: what a call carries besides its message, both ways. Text and bytes alike, in order, and keys may repeat.
#ifndef RPC_METADATA_H
#define RPC_METADATA_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"

// rpc_metadata is one entry. Keys are 1 to RPC_METADATA_KEY_MAX_BYTES lower-case letters, digits, '-', '_' and '.';
// those that begin with "fc-" are reserved. At most RPC_METADATA_MAX_ENTRIES and RPC_METADATA_MAX_BYTES, keys and
// values.
struct rpc_metadata {
    const char *key;
    struct bytes_view value;
};

// rpc_metadata_check says whether a call may carry these. ERR_INVALID: a key; ERR_LIMIT: too many or too much.
enum err rpc_metadata_check(const struct rpc_metadata *entries, size_t count, struct err_detail *why) ERR_CHECKED;

#endif
