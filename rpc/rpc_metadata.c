#include "rpc/rpc_metadata.h"

#include <string.h>

#include "rpc/rpc_limits.h"

#define RESERVED_PREFIX "fc-"

enum err
rpc_metadata_check(const struct rpc_metadata *entries, size_t count, struct err_detail *why)
{
    size_t bytes = 0;
    if (count > RPC_METADATA_MAX_ENTRIES) {
        return err_fail(why, ERR_LIMIT, "a call carries at most %d entries of metadata, and this one %zu",
            RPC_METADATA_MAX_ENTRIES, count);
    }
    for (size_t i = 0; i < count; i++) {
        const char *key = entries[i].key;
        size_t key_bytes = strlen(key);
        bytes += key_bytes + entries[i].value.size;
        if (key_bytes == 0 || key_bytes > RPC_METADATA_KEY_MAX_BYTES ||
            strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != key_bytes) {
            return err_fail(why, ERR_INVALID,
                "a key of metadata is 1 to %d lower-case letters, digits, '-', '_' and '.'",
                RPC_METADATA_KEY_MAX_BYTES);
        }
        if (strncmp(key, RESERVED_PREFIX, strlen(RESERVED_PREFIX)) == 0) {
            return err_fail(why, ERR_INVALID, "keys of metadata that begin with \"" RESERVED_PREFIX "\" are reserved");
        }
    }
    if (bytes > RPC_METADATA_MAX_BYTES) {
        return err_fail(why, ERR_LIMIT, "a call carries at most %d bytes of metadata, and this one %zu",
            RPC_METADATA_MAX_BYTES, bytes);
    }
    return ERR_OK;
}
