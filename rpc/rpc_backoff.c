#include "rpc/rpc_backoff.h"

#include "base/random.h"

uint32_t
rpc_backoff_next_ms(struct rpc_backoff *backoff, uint32_t random)
{
    uint64_t longest_ms = backoff->longest_ms == 0 ? RPC_BACKOFF_LONGEST_MS : backoff->longest_ms;
    uint64_t pause_ms = backoff->last_ms == 0 ? RPC_BACKOFF_FIRST_MS : (uint64_t)backoff->last_ms * 8 / 5;
    if (pause_ms > longest_ms) {
        pause_ms = longest_ms;
    }
    backoff->last_ms = (uint32_t)pause_ms;
    uint64_t spread_ms = pause_ms * 2 / 5;
    return (uint32_t)(pause_ms - spread_ms / 2 + ((spread_ms + 1) * random >> 32));
}

uint32_t
rpc_backoff_draw_ms(struct rpc_backoff *backoff)
{
    uint32_t random;
    random_bytes(&random, sizeof random);
    return rpc_backoff_next_ms(backoff, random);
}

void
rpc_backoff_reset(struct rpc_backoff *backoff)
{
    backoff->last_ms = 0;
}
