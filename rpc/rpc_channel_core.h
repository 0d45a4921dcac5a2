// For rpc_channel.c and rpc_channel_end.c: what a channel is made of, and what they need of each other.
//
// A call is in the channel's table from its start until somebody claims it: the answer, its deadline, a cancel, the end
// of the connection, or rpc_channel_free. Who claims it completes it, without the lock; so each call ends once.
// Whoever completes a failed call may find that it is to be sent again, and returns it to the table.
//
// Answers carry a request id that is not used again before 2^31 further attempts, so a late one meets nobody. One timer
// per channel stands for the earliest deadline or retry, or the next attempt to connect while calls wait for it: calls
// that end in time, nearly all, never touch it.
#ifndef RPC_CHANNEL_CORE_H
#define RPC_CHANNEL_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/timer.h"
#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_connection.h"
#include "rpc/rpc_retry.h"
#include "rpc/rpc_unary_table.h"

struct rpc_channel {
    struct timer_queue *timers; // immutable after new
    struct timer timer;         // expires at locked.armed_ms

    pthread_mutex_t mutex;
    pthread_cond_t quiet; // a connection or an attempt has ended
    struct rpc_connection connection;
    struct {
        bool is_freeing;
        char token[RPC_TOKEN_MAX_BYTES + 1];

        struct rpc_unary_table calls; // in flight
        struct rpc_retry_budget budget;

        struct rpc_unary_list ended; // complete but for their completion, which the timer thread runs
        uint64_t armed_ms;           // UINT64_MAX: the timer is idle
    } locked;
};

void rpc_channel_lock(struct rpc_channel *channel);
void rpc_channel_unlock(struct rpc_channel *channel);

// rpc_channel_arm_locked has the timer expire at that time or earlier.
void rpc_channel_arm_locked(struct rpc_channel *channel, uint64_t expires_ms);

// rpc_channel_end_locked takes a call out of the table with a status, for completion once the lock is given up.
void rpc_channel_end_locked(struct rpc_channel *channel, struct rpc_unary *call, enum rpc_code code,
    const char *message, struct rpc_unary_list *ended);

// rpc_channel_complete completes a claimed call, which may be gone afterwards; or sends it again. Without the lock.
void rpc_channel_complete(struct rpc_channel *channel, struct rpc_unary *call);

// rpc_channel_complete_all does so with a list. The owner is a channel.
void rpc_channel_complete_all(void *owner, struct rpc_unary_list *claimed);

#endif
