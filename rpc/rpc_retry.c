#include "rpc/rpc_retry.h"

#include <string.h>

bool
rpc_retry_is_wanted(const struct rpc_unary *call)
{
    bool is_passing = call->status.code == RPC_UNAVAILABLE ||
                      (call->status.code == RPC_RESOURCE_EXHAUSTED && call->status.retry_after_ms > 0);
    is_passing = is_passing && !call->status.is_untrusted;
    bool is_safe = call->is_idempotent || strcmp(call->status.reason, RPC_REASON_NOT_EXECUTED) == 0;
    // Without its frame there was no memory to keep it, or bulk went with it.
    return is_passing && is_safe && call->stream == NULL && call->locked.frame.size > 0 && call->status.attempts > 0 &&
           call->status.attempts < RPC_RETRY_ATTEMPTS_MAX;
}

uint32_t
rpc_retry_pause_ms(struct rpc_unary *call)
{
    uint32_t pause_ms = rpc_backoff_draw_ms(&call->locked.backoff);
    return pause_ms < call->status.retry_after_ms ? call->status.retry_after_ms : pause_ms;
}

bool
rpc_retry_budget_take(struct rpc_retry_budget *budget)
{
    if (budget->spent + RPC_RETRY_COST > RPC_RETRY_BUDGET_MAX) {
        return false;
    }
    budget->spent += RPC_RETRY_COST;
    return true;
}

void
rpc_retry_budget_add(struct rpc_retry_budget *budget)
{
    budget->spent = budget->spent > RPC_RETRY_GAIN ? budget->spent - RPC_RETRY_GAIN : 0;
}
