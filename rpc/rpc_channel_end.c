// How the calls of a channel end: completed, or returned to the table to be sent again.
#include <string.h>

#include "base/clock.h"
#include "rpc/rpc_channel_core.h"
#include "rpc/rpc_client_stream_priv.h"

void
rpc_channel_lock(struct rpc_channel *channel)
{
    (void)pthread_mutex_lock(&channel->mutex);
}

void
rpc_channel_unlock(struct rpc_channel *channel)
{
    (void)pthread_mutex_unlock(&channel->mutex);
}

static bool
is_in_table_locked(const struct rpc_unary *call)
{
    return call->locked.state == RPC_UNARY_WAITS || call->locked.state == RPC_UNARY_SENT ||
           call->locked.state == RPC_UNARY_PAUSES;
}

bool
rpc_channel_cancel(struct rpc_channel *channel, struct rpc_unary *call)
{
    rpc_channel_lock(channel);
    bool is_mine = is_in_table_locked(call);
    if (is_mine) {
        rpc_channel_give_up_locked(call);
        rpc_channel_claim_locked(channel, call);
    }
    call->locked.is_cancelled = true; // else whoever has it must not return it to the table
    rpc_channel_unlock(channel);
    return is_mine;
}

void
rpc_channel_arm_locked(struct rpc_channel *channel, uint64_t expires_ms)
{
    if (expires_ms >= channel->locked.armed_ms) {
        return;
    }
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t delay_ms = expires_ms > now_ms ? expires_ms - now_ms : 0;
    if (timer_start(channel->timers, &channel->timer, delay_ms) == ERR_OK) {
        channel->locked.armed_ms = expires_ms;
    }
}

// Returns a claimed call that has failed to the table, if it is to be sent again.
static bool
retry(struct rpc_channel *channel, struct rpc_unary *call)
{
    if (!rpc_retry_is_wanted(call)) {
        return false;
    }
    uint32_t pause_ms = rpc_retry_pause_ms(call);
    rpc_channel_lock(channel);
    uint64_t retry_ms = clock_monotonic_ms() + pause_ms;
    bool is_retried = !channel->locked.is_freeing && !call->locked.is_cancelled &&
                      retry_ms < call->locked.deadline_ms && rpc_retry_budget_take(&channel->locked.budget);
    if (is_retried) {
        // One that was certainly not executed need not wait for the only server that could tell.
        call->was_sent = call->was_sent && strcmp(call->status.reason, RPC_REASON_NOT_EXECUTED) != 0;
        call->status = (struct rpc_status){.attempts = call->status.attempts};
        call->locked.retry_ms = retry_ms;
        call->locked.state = RPC_UNARY_PAUSES;
        rpc_unary_table_insert(&channel->locked.calls, call);
        rpc_channel_arm_locked(channel, retry_ms);
        rpc_channel_arm_locked(channel, call->locked.deadline_ms);
    }
    rpc_channel_unlock(channel);
    return is_retried;
}

void
rpc_channel_complete(struct rpc_channel *channel, struct rpc_unary *call)
{
    bool is_success = call->status.code == RPC_OK;
    if (!is_success && retry(channel, call)) {
        return;
    }
    bytes_free(&call->locked.frame);
    rpc_channel_lock(channel);
    if (is_success) {
        rpc_retry_budget_add(&channel->locked.budget);
    }
    call->locked.state = RPC_UNARY_DONE;
    ProtobufCClosure closure = call->closure;
    rpc_unary_done_fn *on_done = call->on_done;
    if (closure == NULL && on_done == NULL && call->locked.waiter != NULL) {
        // Under the lock: the waiter's condition and the call are gone as soon as it sees the state.
        (void)pthread_cond_signal(call->locked.waiter);
    }
    // A stream's waiters too; it may be gone once the lock is given up, unless it is to be told.
    struct rpc_client_stream *stream = call->stream;
    bool is_told = false;
    if (stream != NULL) {
        rpc_client_stream_wake_locked(stream);
        is_told = rpc_client_stream_begin_locked(stream);
    }
    rpc_channel_unlock(channel);
    if (is_told) {
        rpc_client_stream_tell(stream);
    } else if (closure != NULL) {
        closure(call->response, call->closure_data);
    } else if (on_done != NULL) {
        on_done(call);
    }
}

void
rpc_channel_complete_all(void *owner, struct rpc_unary_list *claimed)
{
    struct rpc_channel *channel = owner;
    struct rpc_unary *call;
    while ((call = TAILQ_FIRST(claimed)) != NULL) {
        TAILQ_REMOVE(claimed, call, locked.link);
        rpc_channel_complete(channel, call);
    }
}

void
rpc_channel_end_locked(struct rpc_channel *channel, struct rpc_unary *call, enum rpc_code code, const char *message,
    struct rpc_unary_list *ended)
{
    rpc_channel_claim_locked(channel, call);
    rpc_unary_set_status(call, code, "%s", message);
    TAILQ_INSERT_TAIL(ended, call, locked.link);
}

void
rpc_channel_reject(struct rpc_channel *channel, struct rpc_unary *call)
{
    // A completion never runs inside the function that started or cancelled the call, where its owner may hold a lock.
    bool is_deferred =
        call->closure != NULL || call->on_done != NULL || (call->stream != NULL && call->stream->on_event != NULL);
    if (is_deferred) {
        rpc_channel_lock(channel);
        rpc_channel_arm_locked(channel, 0);
        is_deferred = channel->locked.armed_ms == 0; // else there is no memory for the timer
        if (is_deferred) {
            call->locked.state = RPC_UNARY_CLAIMED;
            TAILQ_INSERT_TAIL(&channel->locked.ended, call, locked.link);
        }
        rpc_channel_unlock(channel);
    }
    if (!is_deferred) {
        rpc_channel_complete(channel, call);
    }
}

void
rpc_channel_wait(struct rpc_channel *channel, struct rpc_unary *call)
{
    pthread_cond_t done;
    (void)pthread_cond_init(&done, NULL);
    rpc_channel_lock(channel);
    call->locked.waiter = &done;
    while (call->locked.state != RPC_UNARY_DONE) {
        (void)pthread_cond_wait(&done, &channel->mutex);
    }
    call->locked.waiter = NULL;
    rpc_channel_unlock(channel);
    (void)pthread_cond_destroy(&done);
}
