// A channel: one connection, made when a call needs it, and the calls in flight on it.
//
// A call is in the channel's table from its start until somebody claims it: the answer, its deadline, a cancel, the end
// of the connection, or rpc_channel_free. Who claims it completes it, without the lock; so each call ends once.
//
// Answers carry a request id that is not used again before 2^31 further calls, so a late one meets nobody. One timer
// per channel stands for the earliest deadline: calls that end in time, nearly all, never touch it.
//
// Lock order: the channel's, then the pipe's or nng's own. Completions run without any.
#include "rpc/rpc_channel.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/timer.h"
#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_dial.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_unary_table.h"
#include "rpc/sp_pipe.h"

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
};

struct rpc_channel {
    // Immutable after new.
    struct rpc_url url;
    unsigned connect_timeout_ms;
    struct timer_queue *timers;

    struct timer timer; // expires at locked.armed_ms

    pthread_mutex_t mutex;
    pthread_cond_t quiet; // a connection or an attempt has ended
    struct {
        bool is_freeing;
        char token[RPC_TOKEN_MAX_BYTES + 1];

        // At most one of the two; neither: not connected.
        struct rpc_dial *dial;
        struct sp_pipe *pipe;
        bool has_peer;   // the pipe's peer has shaken hands
        unsigned active; // attempts and pipes whose last callback has not returned

        struct rpc_unary_table calls; // in flight

        struct rpc_unary_list ended; // complete but for their completion, which the timer thread runs
        uint64_t armed_ms;           // UINT64_MAX: the timer is idle
    } locked;
};

// The channel whose answers this thread is delivering. Calls that are started from their completions leave together at
// the end of the batch.
static _Thread_local struct rpc_channel *delivering;

static void
lock(struct rpc_channel *channel)
{
    (void)pthread_mutex_lock(&channel->mutex);
}

static void
unlock(struct rpc_channel *channel)
{
    (void)pthread_mutex_unlock(&channel->mutex);
}

bool
rpc_channel_claim(struct rpc_channel *channel, struct rpc_unary *call)
{
    lock(channel);
    bool is_mine = call->locked.state == RPC_UNARY_WAITS || call->locked.state == RPC_UNARY_SENT;
    if (is_mine) {
        rpc_unary_table_claim(&channel->locked.calls, call);
    }
    unlock(channel);
    return is_mine;
}

// ---- Completion ----

// Completes a claimed call. It may be gone afterwards.
static void
complete(struct rpc_channel *channel, struct rpc_unary *call)
{
    lock(channel);
    call->locked.state = RPC_UNARY_DONE;
    ProtobufCClosure closure = call->closure;
    rpc_unary_done_fn *on_done = call->on_done;
    if (closure == NULL && on_done == NULL && call->locked.waiter != NULL) {
        // Under the lock: the waiter's condition and the call are gone as soon as it sees the state.
        (void)pthread_cond_signal(call->locked.waiter);
    }
    unlock(channel);
    if (closure != NULL) {
        closure(call->response, call->closure_data);
    } else if (on_done != NULL) {
        on_done(call);
    }
}

static void
complete_all(struct rpc_channel *channel, struct rpc_unary_list *claimed)
{
    struct rpc_unary *call;
    while ((call = TAILQ_FIRST(claimed)) != NULL) {
        TAILQ_REMOVE(claimed, call, locked.link);
        complete(channel, call);
    }
}

static void
set_status_of_all(struct rpc_unary_list *claimed, enum rpc_code code, const char *message)
{
    struct rpc_unary *call;
    TAILQ_FOREACH(call, claimed, locked.link)
    {
        rpc_unary_set_status(call, code, "%s", message);
    }
}

static void
arm_locked(struct rpc_channel *channel, uint64_t expires_ms)
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

void
rpc_channel_reject(struct rpc_channel *channel, struct rpc_unary *call)
{
    // A completion never runs inside the function that started or cancelled the call, where its owner may hold a lock.
    bool is_deferred = call->closure != NULL || call->on_done != NULL;
    if (is_deferred) {
        lock(channel);
        arm_locked(channel, 0);
        is_deferred = channel->locked.armed_ms == 0; // else there is no memory for the timer
        if (is_deferred) {
            call->locked.state = RPC_UNARY_CLAIMED;
            TAILQ_INSERT_TAIL(&channel->locked.ended, call, locked.link);
        }
        unlock(channel);
    }
    if (!is_deferred) {
        complete(channel, call);
    }
}

static void
on_timer(struct timer *timer)
{
    struct rpc_channel *channel = (struct rpc_channel *)((char *)timer - offsetof(struct rpc_channel, timer));
    struct rpc_unary_list due = TAILQ_HEAD_INITIALIZER(due);
    struct rpc_unary *call;
    lock(channel);
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t next_ms = UINT64_MAX;
    channel->locked.armed_ms = UINT64_MAX;
    TAILQ_CONCAT(&due, &channel->locked.ended, locked.link);
    for (call = TAILQ_FIRST(&channel->locked.calls.calls); call != NULL;) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        if (call->locked.deadline_ms <= now_ms) {
            rpc_unary_table_claim(&channel->locked.calls, call);
            rpc_unary_set_status(call, RPC_DEADLINE_EXCEEDED,
                call->was_sent ? "no answer from %s within %u ms" : "no connection to %s within %u ms",
                channel->url.text, call->timeout_ms);
            TAILQ_INSERT_TAIL(&due, call, locked.link);
        } else if (call->locked.deadline_ms < next_ms) {
            next_ms = call->locked.deadline_ms;
        }
        call = next;
    }
    if (next_ms != UINT64_MAX) {
        arm_locked(channel, next_ms);
    }
    unlock(channel);
    complete_all(channel, &due);
}

void
rpc_channel_wait(struct rpc_channel *channel, struct rpc_unary *call)
{
    pthread_cond_t done;
    (void)pthread_cond_init(&done, NULL);
    lock(channel);
    call->locked.waiter = &done;
    while (call->locked.state != RPC_UNARY_DONE) {
        (void)pthread_cond_wait(&done, &channel->mutex);
    }
    call->locked.waiter = NULL;
    unlock(channel);
    (void)pthread_cond_destroy(&done);
}

// ---- The connection ----

static enum err
on_peer(void *owner, enum sp_protocol peer, enum sp_protocol *own_out)
{
    struct rpc_channel *channel = owner;
    (void)own_out;
    lock(channel);
    channel->locked.has_peer = true;
    unlock(channel);
    return peer == SP_REP ? ERR_OK : ERR_PROTOCOL;
}

static void
on_message(void *owner, struct sp_message *message)
{
    struct rpc_channel *channel = owner;
    delivering = channel;
    if (message->data.size < sizeof(uint32_t)) {
        return; // belongs to nobody
    }
    uint32_t id = bytes_load_be32(message->data.data);
    lock(channel);
    struct rpc_unary *call = rpc_unary_table_find(&channel->locked.calls, id);
    if (call != NULL) {
        rpc_unary_table_claim(&channel->locked.calls, call);
    }
    unlock(channel);
    if (call != NULL) { // else it has timed out or was cancelled
        size_t size = message->data.size - sizeof id;
        rpc_unary_take_answer(call, bytes_view_of(message->data.data + sizeof id, size), message->large);
        complete(channel, call);
    }
}

static void
on_batch_end(void *owner)
{
    struct rpc_channel *channel = owner;
    delivering = NULL;
    lock(channel);
    struct sp_pipe *pipe = channel->locked.pipe; // whose handler this is, so it stays
    unlock(channel);
    sp_pipe_flush(pipe);
}

static void
explain_closed(const struct rpc_channel *channel, bool has_peer, enum err reason, struct err_detail *why)
{
    if (has_peer) {
        (void)err_fail(why, reason, "the connection to %s was lost before the answer; the call may have been executed",
            channel->url.text);
    } else if (reason == ERR_PROTOCOL) {
        (void)err_fail(why, reason, "what listens on %s is no fcd", channel->url.text);
    } else if (reason == ERR_TIMEOUT) {
        (void)err_fail(why, reason, "what listens on %s does not answer; is it an fcd?", channel->url.text);
    } else {
        (void)err_fail(why, reason, "%s closed the connection at once; it may be shutting down or have too many",
            channel->url.text);
    }
}

static void
end_activity(struct rpc_channel *channel)
{
    lock(channel);
    channel->locked.active--;
    (void)pthread_cond_broadcast(&channel->quiet);
    unlock(channel);
}

static enum err start_dial_locked(struct rpc_channel *channel);

static void
on_closed(void *owner, enum err reason)
{
    struct rpc_channel *channel = owner;
    struct rpc_unary_list lost = TAILQ_HEAD_INITIALIZER(lost);
    struct err_detail why = {0};
    lock(channel);
    struct sp_pipe *pipe = channel->locked.pipe;
    explain_closed(channel, channel->locked.has_peer, reason, &why);
    channel->locked.pipe = NULL;
    rpc_unary_table_claim_sent(&channel->locked.calls, &lost);
    // Calls that found the pipe closing have waited for this.
    if (channel->locked.calls.count > 0 && start_dial_locked(channel) != ERR_OK) {
        rpc_unary_table_claim_all(&channel->locked.calls, &lost);
    }
    unlock(channel);
    set_status_of_all(&lost, RPC_UNAVAILABLE, why.message);
    complete_all(channel, &lost);
    sp_pipe_release(pipe);
    end_activity(channel);
}

static const struct sp_pipe_handlers pipe_handlers = {
    .on_peer = on_peer,
    .on_message = on_message,
    .on_batch_end = on_batch_end,
    .on_closed = on_closed,
};

// Hands a call's frame to the pipe. On failure the call is as it was.
static enum err
send_locked(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk)
{
    bytes_store_be32(frame->data, call->locked.id);
    const struct bytes_view parts[] = {bytes_as_view(frame), bulk};
    enum err err = sp_pipe_queue(channel->locked.pipe, parts, bulk.size > 0 ? 2 : 1);
    if (err == ERR_OK) {
        call->locked.state = RPC_UNARY_SENT;
        call->was_sent = true;
    }
    return err;
}

// Sends what has waited for the connection; what cannot be sent goes to `failed`.
static void
send_waiting_locked(struct rpc_channel *channel, struct rpc_unary_list *failed)
{
    struct rpc_unary *call = TAILQ_FIRST(&channel->locked.calls.calls);
    while (call != NULL) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        enum err err = send_locked(channel, call, &call->locked.frame, bytes_view_of(NULL, 0));
        if (err == ERR_OK) {
            bytes_free(&call->locked.frame);
        } else {
            rpc_unary_table_claim(&channel->locked.calls, call);
            rpc_unary_set_status(call, rpc_code_from_err(err), "cannot send to %s: %s", channel->url.text,
                err_sentence(err));
            TAILQ_INSERT_TAIL(failed, call, locked.link);
        }
        call = next;
    }
}

static enum err
open_pipe_locked(struct rpc_channel *channel, nng_stream *stream)
{
    const struct sp_pipe_options options = {
        .handlers = &pipe_handlers,
        .owner = channel,
        .max_message_bytes = RPC_MESSAGE_MAX_BYTES,
        .handshake_timeout_ms = channel->connect_timeout_ms,
        .is_ipc = channel->url.is_ipc,
        .is_dialled = true,
        .dialled_as = SP_REQ,
    };
    enum err err = sp_pipe_new(stream, &options, &channel->locked.pipe);
    if (err == ERR_OK) {
        channel->locked.has_peer = false;
        channel->locked.active++;
    }
    return err;
}

static void
on_dialled(void *context, nng_stream *stream, int nng_error)
{
    struct rpc_channel *channel = context;
    struct rpc_unary_list failed = TAILQ_HEAD_INITIALIZER(failed);
    struct sp_pipe *pipe = NULL;
    enum err err = err_from_nng(nng_error);
    lock(channel);
    channel->locked.dial = NULL;
    if (stream != NULL && channel->locked.is_freeing) {
        nng_stream_free(stream);
    } else if (stream != NULL) {
        err = open_pipe_locked(channel, stream);
    }
    if (err == ERR_OK && channel->locked.pipe != NULL) {
        send_waiting_locked(channel, &failed);
        pipe = channel->locked.pipe;
        sp_pipe_hold(pipe);
    } else {
        rpc_unary_table_claim_all(&channel->locked.calls, &failed);
    }
    unlock(channel);
    if (pipe != NULL) {
        sp_pipe_start(pipe);
        sp_pipe_release(pipe);
    } else {
        char message[ERR_DETAIL_MAX_BYTES];
        (void)snprintf(message, sizeof message, "cannot connect to %s: %s; is fcd running there?", channel->url.text,
            nng_error != 0 ? rpc_nng_explain(nng_error) : err_sentence(err));
        set_status_of_all(&failed, RPC_UNAVAILABLE, message);
    }
    complete_all(channel, &failed);

    end_activity(channel);
}

static enum err
start_dial_locked(struct rpc_channel *channel)
{
    enum err err =
        rpc_dial_start(&channel->url, channel->connect_timeout_ms, on_dialled, channel, &channel->locked.dial);
    if (err == ERR_OK) {
        channel->locked.active++;
    }
    return err;
}

// ---- Starting calls ----

// Sends the call, or has it wait for a connection that is being made.
static enum err
submit_locked(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk)
{
    if (channel->locked.pipe != NULL) {
        enum err err = send_locked(channel, call, frame, bulk);
        if (err != ERR_CLOSED) {
            return err;
        }
        // It has begun to close: its on_closed connects again.
    } else if (channel->locked.dial == NULL) {
        enum err err = start_dial_locked(channel);
        if (err != ERR_OK) {
            return err;
        }
    }
    enum err err = bytes_append(frame, bulk);
    if (err != ERR_OK) {
        return err;
    }
    call->locked.state = RPC_UNARY_WAITS;
    call->locked.frame = *frame;
    *frame = (struct bytes){0}; // transferred
    return ERR_OK;
}

void
rpc_channel_submit(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk)
{
    struct sp_pipe *pipe = NULL;
    uint64_t now_ms = clock_monotonic_ms();
    lock(channel);
    call->locked.deadline_ms = now_ms + call->timeout_ms;
    rpc_unary_table_insert(&channel->locked.calls, call);
    enum err err = channel->locked.is_freeing ? ERR_CANCELLED : submit_locked(channel, call, frame, bulk);
    if (err != ERR_OK) {
        rpc_unary_table_claim(&channel->locked.calls, call);
    } else {
        arm_locked(channel, call->locked.deadline_ms);
        if (channel->locked.pipe != NULL && delivering != channel) {
            pipe = channel->locked.pipe;
            sp_pipe_hold(pipe);
        }
    }
    unlock(channel);
    if (err != ERR_OK) {
        rpc_unary_set_status(call, rpc_code_from_err(err), "cannot send to %s: %s", channel->url.text,
            err_sentence(err));
        rpc_channel_reject(channel, call);
    }
    if (pipe != NULL) {
        sp_pipe_flush(pipe);
        sp_pipe_release(pipe);
    }
}

// ---- Life ----

enum err
rpc_channel_set_token(struct rpc_channel *channel, const char *token)
{
    size_t size = token == NULL ? 0 : strlen(token);
    if (size > RPC_TOKEN_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    lock(channel);
    digest_wipe(channel->locked.token, sizeof channel->locked.token);
    memcpy(channel->locked.token, size == 0 ? "" : token, size);
    channel->locked.token[size] = '\0';
    unlock(channel);
    return ERR_OK;
}

void
rpc_channel_copy_token(struct rpc_channel *channel, char token_out[RPC_TOKEN_MAX_BYTES + 1])
{
    lock(channel);
    strcpy(token_out, channel->locked.token);
    unlock(channel);
}

const char *
rpc_channel_url(const struct rpc_channel *channel)
{
    return channel->url.text;
}

enum err
rpc_channel_new(const struct rpc_channel_options *options, struct rpc_channel **out, struct err_detail *why)
{
    struct rpc_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = rpc_url_parse(options->url, &channel->url, why);
    if (err != ERR_OK) {
        goto fail;
    }
    if (!channel->url.is_ipc &&
        (channel->url.port == 0 || channel->url.host[0] == '\0' || channel->url.host[0] == '*')) {
        err = err_fail(why, ERR_INVALID, "\"%s\" names no server to connect to", channel->url.text);
        goto fail;
    }
    err = ERR_NO_MEMORY;
    channel->timers = rpc_nng_timers();
    if (channel->timers == NULL || rpc_unary_table_init(&channel->locked.calls) != ERR_OK) {
        goto fail;
    }
    (void)pthread_mutex_init(&channel->mutex, NULL);
    (void)pthread_cond_init(&channel->quiet, NULL);
    channel->connect_timeout_ms =
        options->connect_timeout_ms == 0 ? (unsigned)CONNECT_TIMEOUT_DEFAULT_MS : options->connect_timeout_ms;
    channel->timer.on_expiry = on_timer;
    TAILQ_INIT(&channel->locked.ended);
    channel->locked.armed_ms = UINT64_MAX;
    *out = channel;
    return ERR_OK;

fail:
    rpc_unary_table_deinit(&channel->locked.calls);
    free(channel);
    return err;
}

void
rpc_channel_free(struct rpc_channel **channel_in)
{
    struct rpc_channel *channel = *channel_in;
    struct rpc_unary_list cancelled = TAILQ_HEAD_INITIALIZER(cancelled);
    if (channel == NULL) {
        return;
    }
    lock(channel);
    channel->locked.is_freeing = true;
    rpc_unary_table_claim_all(&channel->locked.calls, &cancelled);
    if (channel->locked.dial != NULL) {
        rpc_dial_cancel(channel->locked.dial);
    }
    if (channel->locked.pipe != NULL) {
        sp_pipe_close(channel->locked.pipe, 0);
    }
    unlock(channel);
    set_status_of_all(&cancelled, RPC_CANCELLED, err_sentence(ERR_CANCELLED));
    complete_all(channel, &cancelled);

    lock(channel);
    while (channel->locked.active > 0) {
        (void)pthread_cond_wait(&channel->quiet, &channel->mutex);
    }
    unlock(channel);
    // What completions have started meanwhile was rejected, and waits for the timer.
    do {
        (void)timer_stop(channel->timers, &channel->timer);
        on_timer(&channel->timer);
    } while (!TAILQ_EMPTY(&channel->locked.ended));
    (void)timer_stop(channel->timers, &channel->timer);

    (void)pthread_cond_destroy(&channel->quiet);
    (void)pthread_mutex_destroy(&channel->mutex);
    rpc_unary_table_deinit(&channel->locked.calls);
    digest_wipe(channel->locked.token, sizeof channel->locked.token);
    free(channel);
    *channel_in = NULL;
}
