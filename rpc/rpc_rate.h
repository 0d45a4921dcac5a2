// How many calls a second one caller may make: the generic cell rate algorithm (ITU-T I.371), a bucket of tokens kept
// as one time for each caller.
#ifndef RPC_RATE_H
#define RPC_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct rpc_rate;

enum {
    RPC_RATE_BURST_S = 2, // a caller that was idle may make as many calls at once as in this many seconds
};

// rpc_rate_new allows per_second calls, 1 to 1,000,000, to each caller. Any thread may use it.
enum err rpc_rate_new(uint32_t per_second, struct rpc_rate **out) ERR_CHECKED;
void rpc_rate_free(struct rpc_rate **rate);

// rpc_rate_take takes one call of a caller, which any bytes may name, at a time on clock_monotonic_us. False: too many;
// then the next one is allowed after *retry_after_ms_out. Of more than some thousand callers that are over half their
// limit at the same time some are forgotten, which allows them more.
bool rpc_rate_take(struct rpc_rate *rate, struct bytes_view caller, uint64_t now_us,
    uint32_t *retry_after_ms_out) ERR_CHECKED;

#endif
