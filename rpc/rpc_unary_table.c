#include "rpc/rpc_unary_table.h"

#include <stdlib.h>

#include "rpc/rpc_frame.h"

enum {
    FIRST_BUCKETS = 64, // doubled whenever there are as many calls
};

static const uint32_t ID_MARK = UINT32_C(0x80000000); // SP: set in the last id of a request

enum err
rpc_unary_table_init(struct rpc_unary_table *table)
{
    *table = (struct rpc_unary_table){.bucket_count = FIRST_BUCKETS};
    TAILQ_INIT(&table->calls);
    table->buckets = calloc(FIRST_BUCKETS, sizeof(struct rpc_unary *));
    return table->buckets == NULL ? ERR_NO_MEMORY : ERR_OK;
}

void
rpc_unary_table_deinit(struct rpc_unary_table *table)
{
    free(table->buckets);
    table->buckets = NULL;
}

// Ids are counted up, so their low bits spread the calls evenly.
static struct rpc_unary **
bucket_of(const struct rpc_unary_table *table, uint32_t id)
{
    return &table->buckets[id & (table->bucket_count - 1)];
}

static void
link_to_bucket(struct rpc_unary_table *table, struct rpc_unary *call)
{
    struct rpc_unary **bucket = bucket_of(table, call->locked.id);
    call->locked.next_in_bucket = *bucket;
    *bucket = call;
}

static void
grow(struct rpc_unary_table *table)
{
    struct rpc_unary **grown = calloc(2 * table->bucket_count, sizeof(struct rpc_unary *));
    if (grown == NULL) {
        return; // longer chains are slower, not wrong
    }
    free(table->buckets);
    table->buckets = grown;
    table->bucket_count *= 2;
    struct rpc_unary *call;
    TAILQ_FOREACH(call, &table->calls, locked.link)
    {
        link_to_bucket(table, call);
    }
}

struct rpc_unary *
rpc_unary_table_find(const struct rpc_unary_table *table, uint32_t id)
{
    struct rpc_unary *call = *bucket_of(table, id);
    while (call != NULL && call->locked.id != id) {
        call = call->locked.next_in_bucket;
    }
    return call;
}

void
rpc_unary_table_insert(struct rpc_unary_table *table, struct rpc_unary *call)
{
    if (table->count == table->bucket_count) {
        grow(table);
    }
    do {
        table->last_id = (table->last_id + 1) | ID_MARK;
    } while (table->last_id == RPC_FRAME_CONTROL_ID || rpc_unary_table_find(table, table->last_id) != NULL);
    call->locked.id = table->last_id;
    link_to_bucket(table, call);
    TAILQ_INSERT_TAIL(&table->calls, call, locked.link);
    table->count++;
}

void
rpc_unary_table_claim(struct rpc_unary_table *table, struct rpc_unary *call)
{
    struct rpc_unary **at = bucket_of(table, call->locked.id);
    while (*at != call) {
        at = &(*at)->locked.next_in_bucket;
    }
    *at = call->locked.next_in_bucket;
    TAILQ_REMOVE(&table->calls, call, locked.link);
    table->count--;
    call->locked.state = RPC_UNARY_CLAIMED;
}
