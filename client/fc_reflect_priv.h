// For fc_reflect*.c only.
#ifndef CLIENT_FC_REFLECT_PRIV_H
#define CLIENT_FC_REFLECT_PRIV_H

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_schema.h"

// fc_reflect_print appends a symbol as the text of a .proto file, with its comments. ERR_NO_MEMORY.
enum err fc_reflect_print(const struct rpc_schema *schema, const struct rpc_symbol *symbol,
    struct bytes *out) ERR_CHECKED;

#endif
