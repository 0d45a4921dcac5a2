// For the server's side of rpc/ only: where calls are counted.
//
// Millions of calls a second are counted, so their workers share nothing: for each method there is one cell for each
// writer, and a reader adds them up. A worker is the only one who writes to its cells, so that it needs no atomic
// addition; all other threads share the cell of RPC_STATS_SHARED.
#ifndef RPC_STATS_PRIV_H
#define RPC_STATS_PRIV_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/rpc_stats.h"

enum {
    RPC_STATS_SHARED = 0,          // the writer's number for every thread that is no worker; theirs begin with 1
    RPC_STATS_CELL_ALIGNMENT = 64, // a line of the processors' caches, so that writers do not disturb each other
};

struct rpc_stats_cell {
    _Alignas(RPC_STATS_CELL_ALIGNMENT) atomic_uint_least64_t calls[RPC_CODE_COUNT];
    atomic_uint_least64_t latency_buckets[RPC_LATENCY_BUCKETS];
    atomic_uint_least64_t latency_sum_us;
};

// rpc_stats_cells_new makes the cells of one method, which are freed by free(). NULL: no memory.
struct rpc_stats_cell *rpc_stats_cells_new(unsigned writer_count);

// rpc_stats_count_call counts a call that has been answered.
void rpc_stats_count_call(struct rpc_stats_cell *cells, unsigned writer, enum rpc_code code, uint64_t took_us);

// rpc_stats_count_refusal counts a message that never became a call, and so took no time.
void rpc_stats_count_refusal(struct rpc_stats_cell *cells, enum rpc_code code);

// rpc_stats_bucket_of says which bucket a latency belongs to. A bucket's bound belongs to it.
size_t rpc_stats_bucket_of(uint64_t took_us);

// rpc_stats_cpu_us is the processor time that the process has used.
uint64_t rpc_stats_cpu_us(void);

#endif
