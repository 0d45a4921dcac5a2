// For rpc_schema*.c only: a schema, and what resolves its references.
#ifndef RPC_SCHEMA_PRIV_H
#define RPC_SCHEMA_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "rpc/rpc_schema.h"

struct rpc_schema {
    struct arena arena; // holds all that the arrays point to
    rpc_schema_file **files;
    size_t file_count;
    struct rpc_symbol *symbols; // sorted by name, once all are there
    size_t symbol_count;
    size_t symbol_capacity;
};

// rpc_schema_is_identifier: a letter or '_', then letters, digits and '_'.
bool rpc_schema_is_identifier(const char *name);

// rpc_schema_resolve fills what the messages, enums and methods of the sorted symbols say of each other. Errors as
// rpc_schema_new.
enum err rpc_schema_resolve(struct rpc_schema *schema, struct err_detail *why) ERR_CHECKED;

#endif
