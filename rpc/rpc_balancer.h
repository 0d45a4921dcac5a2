// Which of several servers gets the next call. Pure decisions: no clock, no random source, no lock of its own.
#ifndef RPC_BALANCER_H
#define RPC_BALANCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/rpc_strategy.h"

enum {
    RPC_BALANCER_SHUN_MS = 1000,      // after a server has said UNAVAILABLE others are preferred
    RPC_BALANCER_HALF_LIFE_MS = 1000, // of a latency that was measured
};

// rpc_balancer_server is what is known of one server. Zeroed, nothing is.
struct rpc_balancer_server {
    bool is_ready;
    unsigned outstanding; // calls that it has not answered
    uint64_t shunned_until_ms;
    uint32_t cpu_permille; // how busy it says that it is; 0 until it has said so
    uint64_t latency_us;   // jumps up to a longer one at once, and otherwise halves with each half-life
    uint64_t latency_ms;   // when that was
};

struct rpc_balancer {
    enum rpc_strategy strategy;
    size_t current; // of RPC_PICK_FIRST
    size_t next;    // of RPC_ROUND_ROBIN
};

// rpc_balancer_pick returns the index of the server to use: of those that are ready, and rather one that is not
// shunned; `count` when none is ready. random is any 32 random bits.
size_t rpc_balancer_pick(struct rpc_balancer *balancer, const struct rpc_balancer_server *servers, size_t count,
    uint64_t now_ms, uint32_t random);

// rpc_balancer_measure takes how long an answer took.
void rpc_balancer_measure(struct rpc_balancer_server *server, uint64_t took_us, uint64_t now_ms);

// rpc_balancer_latency_us is the latency to expect now. 0: not known.
uint64_t rpc_balancer_latency_us(const struct rpc_balancer_server *server, uint64_t now_ms);

// rpc_balancer_shun has other servers preferred for a while.
void rpc_balancer_shun(struct rpc_balancer_server *server, uint64_t now_ms);

#endif
