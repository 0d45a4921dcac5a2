// For rpc_channel.c: the calls in flight of a channel, by request id and in the order of their start.
//
// The channel's lock guards a table and the `locked` part of the calls in it.
#ifndef RPC_UNARY_TABLE_H
#define RPC_UNARY_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "rpc/rpc_channel_priv.h"

TAILQ_HEAD(rpc_unary_list, rpc_unary);

struct rpc_unary_table {
    struct rpc_unary_list calls;
    size_t count;
    struct rpc_unary **buckets;
    size_t bucket_count; // a power of two
    uint32_t last_id;
};

enum err rpc_unary_table_init(struct rpc_unary_table *table) ERR_CHECKED;
void rpc_unary_table_deinit(struct rpc_unary_table *table);

// rpc_unary_table_insert gives the call an id that none in the table has, and that does not come again for 2^31 calls.
void rpc_unary_table_insert(struct rpc_unary_table *table, struct rpc_unary *call);

// rpc_unary_table_find returns NULL when the call has ended.
struct rpc_unary *rpc_unary_table_find(const struct rpc_unary_table *table, uint32_t id);

// rpc_unary_table_claim takes a call out: whoever does that completes it.
void rpc_unary_table_claim(struct rpc_unary_table *table, struct rpc_unary *call);

#endif
