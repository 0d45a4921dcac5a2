// For the server's side of rpc/ only: the methods that can be called, by their full names.
#ifndef RPC_METHOD_PRIV_H
#define RPC_METHOD_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_stats_priv.h"

struct rpc_method {
    ProtobufCService *service;
    unsigned index; // in the service
    const ProtobufCMessageDescriptor *input;
    enum rpc_access access;
    size_t max_request_bytes;
    const struct rpc_stream_handlers *stream; // NULL: one request, one response
    bool executes_once;
    struct rpc_stats_cell *cells; // one for each writer
    uint32_t hash;
    size_t name_bytes;
    char name[]; // "package.Service/Method"
};

static inline bool
rpc_access_needs_token(enum rpc_access access)
{
    return access == RPC_ACCESS_TOKEN || access == RPC_ACCESS_ADMIN;
}

// rpc_method_table is a hash table without deletion. All zero is an empty one.
struct rpc_method_table {
    struct rpc_method **slots;
    size_t slot_count; // a power of two, at least twice the count
    size_t count;
    unsigned writer_count; // of statistics; set before the first method is added
};

// rpc_method_table_add adds the methods of a service. ERR_INVALID as rpc_server_add_service, ERR_EXISTS, ERR_NO_MEMORY;
// then some of its methods may have been added.
enum err rpc_method_table_add(struct rpc_method_table *table, ProtobufCService *service,
    const struct rpc_method_rule *rules, size_t rule_count, bool can_authenticate) ERR_CHECKED;

// rpc_method_table_find returns NULL when there is none.
const struct rpc_method *rpc_method_table_find(const struct rpc_method_table *table, struct bytes_view name);

// rpc_method_table_has_service says whether "package.Service" has methods, so that a refusal can say what is unknown.
bool rpc_method_table_has_service(const struct rpc_method_table *table, struct bytes_view service_name);

void rpc_method_table_deinit(struct rpc_method_table *table);

#endif
