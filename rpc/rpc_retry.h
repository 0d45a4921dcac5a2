// For rpc_channel_end.c: which failed calls are sent again. Decides; what follows from it is the channel's.
#ifndef RPC_RETRY_H
#define RPC_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/rpc_channel.h"

enum {
    RPC_RETRY_ATTEMPTS_MAX = 4, // the first included
    // In tenths of a retry, so that a server that always fails sees at most ten calls more, and one that fails now and
    // then a tenth more.
    RPC_RETRY_BUDGET_MAX = 100,
    RPC_RETRY_COST = 10,
    RPC_RETRY_GAIN = 1, // of a call that succeeds
};

// rpc_retry_is_wanted says whether a call that has failed may be sent again, the budget and the deadline permitting: it
// is idempotent, has attempts left, and the failure is one that passes.
bool rpc_retry_is_wanted(const struct rpc_unary *call);

// rpc_retry_pause_ms is how long to wait before: as the call's backoff says, but not shorter than the server asked for.
uint32_t rpc_retry_pause_ms(struct rpc_unary *call);

// rpc_retry_budget is what a channel may spend on retries.
struct rpc_retry_budget {
    unsigned spent; // 0: full
};

bool rpc_retry_budget_take(struct rpc_retry_budget *budget);
void rpc_retry_budget_add(struct rpc_retry_budget *budget);

#endif
