// For rpc_channel.c, rpc_channel_end.c and rpc_channel_route.c: what a channel is made of, and what they need of each
// other.
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
#include "rpc/rpc_balancer.h"
#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_connection.h"
#include "rpc/rpc_retry.h"
#include "rpc/rpc_unary_table.h"

struct rpc_channel {
    struct timer_queue *timers; // immutable after new
    struct timer timer;         // expires at locked.armed_ms

    pthread_mutex_t mutex;
    pthread_cond_t quiet;               // a connection or an attempt has ended
    struct rpc_connection *connections; // one for each address
    size_t connection_count;
    char *url; // as it was given
    unsigned keepalive_ms;
    struct {
        bool is_freeing;
        char token[RPC_TOKEN_MAX_BYTES + 1];

        struct rpc_unary_table calls; // in flight
        struct rpc_retry_budget budget;
        struct rpc_balancer balancer;
        struct rpc_balancer_server servers[RPC_SERVERS_MAX]; // as `connections`
        uint32_t random;                                     // of the balancer; never 0

        struct rpc_unary_list ended; // complete but for their completion, which the timer thread runs
        uint64_t armed_ms;           // UINT64_MAX: the timer is idle
        bool is_watching;            // the timer looks after connections with calls in flight
    } locked;
};

void rpc_channel_lock(struct rpc_channel *channel);
void rpc_channel_unlock(struct rpc_channel *channel);

// rpc_channel_arm_locked has the timer expire at that time or earlier.
void rpc_channel_arm_locked(struct rpc_channel *channel, uint64_t expires_ms);

// rpc_channel_claim_locked takes a call out of the table.
void rpc_channel_claim_locked(struct rpc_channel *channel, struct rpc_unary *call);

// rpc_channel_send_locked hands a call's frame to the connection that the balancer picks; the caller flushes.
// ERR_CLOSED when none is ready. On failure the call is as it was.
enum err rpc_channel_send_locked(struct rpc_channel *channel, struct rpc_unary *call, const struct bytes *frame,
    struct bytes_view bulk, uint64_t now_ms) ERR_CHECKED;

// rpc_channel_give_up_locked tells the server that nobody waits for a call any more, if it has been sent.
void rpc_channel_give_up_locked(const struct rpc_unary *call);

// rpc_channel_watch_locked looks after the connections with calls in flight. Returns when to look again; UINT64_MAX:
// when a call has been sent.
uint64_t rpc_channel_watch_locked(struct rpc_channel *channel, uint64_t now_ms);

// rpc_channel_answered_locked tells the balancer of an answer to a call that has not been claimed yet.
void rpc_channel_answered_locked(struct rpc_channel *channel, const struct rpc_unary *call);

// rpc_channel_connect_locked begins to connect where that is due and of use, or has the timer do it as soon as the
// first pause is over.
enum err rpc_channel_connect_locked(struct rpc_channel *channel, uint64_t now_ms) ERR_CHECKED;

// rpc_channel_is_down_locked: no connection is ready or being made; one whose server shuts down is not. Then
// rpc_channel_explain_locked says why, and how long the pause is if now_ms is not 0; its result is ERR_UNAVAILABLE or
// what waiting does not help.
bool rpc_channel_is_down_locked(const struct rpc_channel *channel);
enum err rpc_channel_explain_locked(const struct rpc_channel *channel, uint64_t now_ms, struct err_detail *why);

// rpc_channel_end_locked takes a call out of the table with a status, for completion once the lock is given up.
void rpc_channel_end_locked(struct rpc_channel *channel, struct rpc_unary *call, enum rpc_code code,
    const char *message, struct rpc_unary_list *ended);

// rpc_channel_complete completes a claimed call, which may be gone afterwards; or sends it again. Without the lock.
void rpc_channel_complete(struct rpc_channel *channel, struct rpc_unary *call);

// rpc_channel_complete_all does so with a list. The owner is a channel.
void rpc_channel_complete_all(void *owner, struct rpc_unary_list *claimed);

#endif
