// What a server has done so far and does now, in figures. docs/operations.md explains them to who reads them.
#ifndef RPC_STATS_H
#define RPC_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_status.h"

enum {
    // The latencies of a method are counted in buckets, each twice as wide as the one before: up to 8 us, 16 us and so
    // on to 33.6 s, which is a little more than a call may take by default, and one for all that took longer.
    RPC_LATENCY_FIRST_US = 8,
    RPC_LATENCY_BUCKETS = 24,
};

// In place of a method's name: calls that were refused before it was known which method they meant.
#define RPC_STATS_UNKNOWN_METHOD "unknown"

struct rpc_method_stats {
    const char *method;                            // lives as long as the server
    uint64_t calls[RPC_CODE_COUNT];                // by the code that they ended with
    uint64_t latency_buckets[RPC_LATENCY_BUCKETS]; // not cumulative
    uint64_t latency_sum_us;                       // from the arrival to the answer
};

// rpc_stats is read while the server works, so figures may differ by the calls that ended meanwhile.
struct rpc_stats {
    uint64_t uptime_ms;
    uint64_t cpu_us;         // of the process
    uint64_t resident_bytes; // of the process; 0: the system does not say
    bool is_draining;
    uint64_t connections;                // open now
    uint64_t accepted_connections;       // so far
    uint64_t refused_connections;        // above max_connections, or while draining
    uint64_t calls_in_flight;            // from their arrival to their answer
    uint64_t calls_waiting;              // of them: no worker has taken them yet
    uint64_t dropped_calls;              // never started, because their connection had gone
    uint64_t received_bytes;             // of messages, without what the transport puts around them
    uint64_t sent_bytes;                 // the same
    uint64_t subscriptions;              // with the tickets that have not been used yet
    uint64_t dropped_subscription_bytes; // forgotten because their subscribers read too slowly
    size_t method_count;
    struct rpc_method_stats *methods; // those that have been called, by name
};

// rpc_stats_read fills the figures; rpc_stats_deinit frees them. Any thread. It looks at each connection for a moment,
// so it is meant for every few seconds. ERR_NO_MEMORY.
enum err rpc_stats_read(struct rpc_server *server, struct rpc_stats *out) ERR_CHECKED;
void rpc_stats_deinit(struct rpc_stats *stats);

#endif
