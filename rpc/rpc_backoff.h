// Growing pauses between attempts, each a little random so that many clients do not come back together.
#ifndef RPC_BACKOFF_H
#define RPC_BACKOFF_H

#include <stdint.h>

enum {
    RPC_BACKOFF_FIRST_MS = 100,
    RPC_BACKOFF_LONGEST_MS = 30 * 1000,
};

// rpc_backoff is where a row of attempts stands. Zeroed but for longest_ms it is before its first pause.
struct rpc_backoff {
    uint32_t longest_ms; // 0: RPC_BACKOFF_LONGEST_MS
    uint32_t last_ms;    // before its jitter; 0: there was none since the last success
};

// rpc_backoff_next_ms returns how long to wait: 100 ms the first time, then each time 1.6 times as long up to the
// longest, plus or minus a fifth. `random` is any 32 random bits; a test gives its own.
uint32_t rpc_backoff_next_ms(struct rpc_backoff *backoff, uint32_t random);

// rpc_backoff_draw_ms is the same with random bits of the kernel's.
uint32_t rpc_backoff_draw_ms(struct rpc_backoff *backoff);

// rpc_backoff_reset is for after a success.
void rpc_backoff_reset(struct rpc_backoff *backoff);

#endif
