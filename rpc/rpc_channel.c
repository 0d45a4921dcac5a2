// A channel: the calls in flight to a server, and the connection that carries them.
//
// A call is in the channel's table from its start until somebody claims it: the answer, its deadline, a cancel, the end
// of the connection, or rpc_channel_free. Who claims it completes it, without the lock; so each call ends once.
//
// Answers carry a request id that is not used again before 2^31 further calls, so a late one meets nobody. One timer
// per channel stands for the earliest deadline, or the next attempt to connect while calls wait for it: calls that end
// in time, nearly all, never touch it.
//
// Lock order: the channel's, then the pipe's or nng's own. Completions run without any.
#include "rpc/rpc_channel.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/timer.h"
#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_connection.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_tls_priv.h"
#include "rpc/rpc_unary_table.h"
#include "rpc/sp_pipe.h"

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
};

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

        struct rpc_unary_list ended; // complete but for their completion, which the timer thread runs
        uint64_t armed_ms;           // UINT64_MAX: the timer is idle
    } locked;
};

// The connection whose answers this thread is delivering. Calls that are started on it from their completions leave
// together at the end of the batch.
static _Thread_local const struct rpc_connection *delivering;

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
complete_all(void *owner, struct rpc_unary_list *claimed)
{
    struct rpc_channel *channel = owner;
    struct rpc_unary *call;
    while ((call = TAILQ_FIRST(claimed)) != NULL) {
        TAILQ_REMOVE(claimed, call, locked.link);
        complete(channel, call);
    }
}

// Takes a call out of the table with a status, for completion once the lock is given up.
static void
end_locked(struct rpc_channel *channel, struct rpc_unary *call, enum rpc_code code, const char *message,
    struct rpc_unary_list *ended)
{
    rpc_unary_table_claim(&channel->locked.calls, call);
    rpc_unary_set_status(call, code, "%s", message);
    TAILQ_INSERT_TAIL(ended, call, locked.link);
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

// Hands a call's frame to the connection. On failure the call is as it was.
static enum err
send_locked(struct rpc_channel *channel, struct rpc_unary *call, const struct bytes *frame, struct bytes_view bulk)
{
    bytes_store_be32(frame->data, call->locked.id);
    const struct bytes_view parts[] = {bytes_as_view(frame), bulk};
    enum err err = rpc_connection_send_locked(&channel->connection, parts, bulk.size > 0 ? 2 : 1);
    if (err == ERR_OK) {
        call->locked.state = RPC_UNARY_SENT;
        call->was_sent = true;
    }
    return err;
}

// Begins to connect, or has the timer do it as soon as the pause is over.
static enum err
connect_locked(struct rpc_channel *channel, uint64_t now_ms)
{
    enum err err = rpc_connection_connect_locked(&channel->connection, now_ms);
    if (err == ERR_OK && channel->connection.locked.state == RPC_CONNECTION_BACKING_OFF) {
        arm_locked(channel, channel->connection.locked.next_attempt_ms);
    }
    return err;
}

// Sees to it that the calls that wait get their connection.
static void
serve_waiting_locked(struct rpc_channel *channel, uint64_t now_ms, struct rpc_unary_list *ended)
{
    enum err err = connect_locked(channel, now_ms);
    struct rpc_unary *call = err == ERR_OK ? NULL : TAILQ_FIRST(&channel->locked.calls.calls);
    while (call != NULL) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        if (call->locked.state == RPC_UNARY_WAITS) {
            end_locked(channel, call, rpc_code_from_err(err), err_sentence(err), ended);
        }
        call = next;
    }
}

// Sends a call that has waited, telling the server what is left of its time.
static enum err
send_late_locked(struct rpc_channel *channel, struct rpc_unary *call, uint64_t now_ms)
{
    uint64_t left_ms = call->locked.deadline_ms > now_ms ? call->locked.deadline_ms - now_ms : 1;
    enum err err = rpc_unary_renew_frame(&call->locked.frame, (uint32_t)left_ms);
    if (err == ERR_OK) {
        err = send_locked(channel, call, &call->locked.frame, bytes_view_of(NULL, 0));
    }
    if (err == ERR_OK) {
        bytes_free(&call->locked.frame);
    }
    return err;
}

static void
on_ready_locked(void *owner, struct rpc_connection *connection, struct rpc_unary_list *ended)
{
    struct rpc_channel *channel = owner;
    uint64_t now_ms = clock_monotonic_ms();
    struct rpc_unary *call = TAILQ_FIRST(&channel->locked.calls.calls);
    while (call != NULL && connection->locked.state == RPC_CONNECTION_READY) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        enum err err = call->locked.state == RPC_UNARY_WAITS ? send_late_locked(channel, call, now_ms) : ERR_OK;
        if (err != ERR_OK && err != ERR_CLOSED) { // else it goes on waiting
            struct err_detail why = {0};
            (void)err_fail(&why, err, "cannot send to %s: %s", connection->url.text, err_sentence(err));
            end_locked(channel, call, rpc_code_from_err(err), why.message, ended);
        }
        call = next;
    }
}

static void
on_message(void *owner, struct rpc_connection *connection, struct sp_message *message)
{
    struct rpc_channel *channel = owner;
    delivering = connection;
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
on_batch_end(void *owner, struct rpc_connection *connection)
{
    (void)owner;
    (void)connection;
    delivering = NULL;
}

static void
on_down_locked(void *owner, struct rpc_connection *connection, bool was_ready, struct rpc_unary_list *ended)
{
    struct rpc_channel *channel = owner;
    enum err reason = was_ready ? ERR_UNAVAILABLE : connection->locked.reason;
    bool has_waiting = false;
    struct rpc_unary *call = TAILQ_FIRST(&channel->locked.calls.calls);
    while (call != NULL) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        // After a loss those that wait have found the connection ending: they are worth an attempt.
        bool is_waiting = call->is_waiting_for_ready && reason == ERR_UNAVAILABLE;
        bool is_over = call->locked.state == RPC_UNARY_SENT || (!was_ready && !is_waiting);
        if (is_over) {
            call->status.is_untrusted = reason == ERR_UNTRUSTED;
            end_locked(channel, call, rpc_code_from_err(reason), connection->locked.cause.message, ended);
        }
        has_waiting = has_waiting || !is_over;
        call = next;
    }
    if (has_waiting) {
        serve_waiting_locked(channel, clock_monotonic_ms(), ended);
    }
}

static const struct rpc_connection_handlers connection_handlers = {
    .on_ready_locked = on_ready_locked,
    .on_message = on_message,
    .on_batch_end = on_batch_end,
    .on_down_locked = on_down_locked,
    .complete_all = complete_all,
};

// ---- Time ----

// Explains a deadline that has come.
static void
end_late_locked(struct rpc_channel *channel, struct rpc_unary *call, struct rpc_unary_list *ended)
{
    const struct rpc_connection *connection = &channel->connection;
    struct err_detail why = {0};
    if (call->was_sent) {
        (void)err_fail(&why, ERR_TIMEOUT, "no answer from %s within %u ms", connection->url.text, call->timeout_ms);
    } else {
        const char *cause = connection->locked.cause.message;
        (void)err_fail(&why, ERR_TIMEOUT, "no connection to %s within %u ms%s%s", connection->url.text,
            call->timeout_ms, cause[0] == '\0' ? "" : ": ", cause);
    }
    end_locked(channel, call, RPC_DEADLINE_EXCEEDED, why.message, ended);
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
    bool has_waiting = false;
    channel->locked.armed_ms = UINT64_MAX;
    TAILQ_CONCAT(&due, &channel->locked.ended, locked.link);
    for (call = TAILQ_FIRST(&channel->locked.calls.calls); call != NULL;) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        if (call->locked.deadline_ms <= now_ms) {
            end_late_locked(channel, call, &due);
        } else {
            next_ms = call->locked.deadline_ms < next_ms ? call->locked.deadline_ms : next_ms;
            has_waiting = has_waiting || call->locked.state == RPC_UNARY_WAITS;
        }
        call = next;
    }
    if (next_ms != UINT64_MAX) {
        arm_locked(channel, next_ms);
    }
    if (has_waiting) {
        serve_waiting_locked(channel, now_ms, &due);
    }
    unlock(channel);
    complete_all(channel, &due);
}

// ---- Starting calls ----

// Sends the call, or has it wait for a connection.
static enum err
submit_locked(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk,
    uint64_t now_ms, struct err_detail *why)
{
    const struct rpc_connection *connection = &channel->connection;
    enum err err = channel->locked.is_freeing ? ERR_CANCELLED : send_locked(channel, call, frame, bulk);
    if (err == ERR_CLOSED) { // not connected, or no longer
        err = connect_locked(channel, now_ms);
        if (err == ERR_OK && connection->locked.state == RPC_CONNECTION_BACKING_OFF && !call->is_waiting_for_ready) {
            return err_fail(why, connection->locked.reason, "%s; the next attempt is in %llu ms",
                connection->locked.cause.message, (unsigned long long)(connection->locked.next_attempt_ms - now_ms));
        }
        if (err == ERR_OK) {
            err = bytes_append(frame, bulk);
        }
        if (err == ERR_OK) {
            call->locked.state = RPC_UNARY_WAITS;
            call->locked.frame = *frame;
            *frame = (struct bytes){0}; // transferred
        }
    }
    return err == ERR_OK ? ERR_OK
                         : err_fail(why, err, "cannot send to %s: %s", connection->url.text, err_sentence(err));
}

void
rpc_channel_submit(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk)
{
    struct sp_pipe *pipe = NULL;
    struct err_detail why = {0};
    uint64_t now_ms = clock_monotonic_ms();
    lock(channel);
    call->locked.deadline_ms = now_ms + call->timeout_ms;
    rpc_unary_table_insert(&channel->locked.calls, call);
    enum err err = submit_locked(channel, call, frame, bulk, now_ms, &why);
    if (err != ERR_OK) {
        rpc_unary_table_claim(&channel->locked.calls, call);
    } else {
        arm_locked(channel, call->locked.deadline_ms);
        if (call->locked.state == RPC_UNARY_SENT && delivering != &channel->connection) {
            pipe = channel->connection.locked.pipe;
            sp_pipe_hold(pipe);
        }
    }
    unlock(channel);
    if (err != ERR_OK) {
        call->status.is_untrusted = err == ERR_UNTRUSTED;
        rpc_unary_set_status(call, rpc_code_from_err(err), "%s", why.message);
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
    return channel->connection.url.text;
}

static enum err
set_up_connection(struct rpc_channel *channel, const struct rpc_channel_options *options, struct err_detail *why)
{
    struct rpc_connection *connection = &channel->connection;
    struct rpc_url *url = &connection->url;
    enum err err = rpc_url_parse(options->url, url, why);
    if (err == ERR_OK && !url->is_ipc && (url->port == 0 || url->host[0] == '\0' || url->host[0] == '*')) {
        err = err_fail(why, ERR_INVALID, "\"%s\" names no server to connect to", url->text);
    }
    if (err == ERR_OK && url->is_tls && options->tls == NULL) {
        err = err_fail(why, ERR_INVALID, "\"%s\" needs to be told whom to trust", url->text);
    }
    connection->tls = rpc_tls_client_hold(url->is_tls ? options->tls : NULL);
    connection->handlers = &connection_handlers;
    connection->owner = channel;
    connection->mutex = &channel->mutex;
    connection->quiet = &channel->quiet;
    connection->connect_timeout_ms =
        options->connect_timeout_ms == 0 ? (unsigned)CONNECT_TIMEOUT_DEFAULT_MS : options->connect_timeout_ms;
    connection->locked.backoff.longest_ms = options->longest_backoff_ms;
    return err;
}

enum err
rpc_channel_new(const struct rpc_channel_options *options, struct rpc_channel **out, struct err_detail *why)
{
    struct rpc_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = set_up_connection(channel, options, why);
    if (err != ERR_OK) {
        goto fail;
    }
    err = ERR_NO_MEMORY;
    channel->timers = rpc_nng_timers();
    if (channel->timers == NULL || rpc_unary_table_init(&channel->locked.calls) != ERR_OK) {
        goto fail;
    }
    (void)pthread_mutex_init(&channel->mutex, NULL);
    (void)pthread_cond_init(&channel->quiet, NULL);
    channel->timer.on_expiry = on_timer;
    TAILQ_INIT(&channel->locked.ended);
    channel->locked.armed_ms = UINT64_MAX;
    *out = channel;
    return ERR_OK;

fail:
    rpc_unary_table_deinit(&channel->locked.calls);
    rpc_tls_client_free(&channel->connection.tls);
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
    struct rpc_unary *call;
    while ((call = TAILQ_FIRST(&channel->locked.calls.calls)) != NULL) {
        end_locked(channel, call, RPC_CANCELLED, err_sentence(ERR_CANCELLED), &cancelled);
    }
    rpc_connection_close_locked(&channel->connection);
    unlock(channel);
    complete_all(channel, &cancelled);

    lock(channel);
    while (channel->connection.locked.active > 0) {
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
    rpc_tls_client_free(&channel->connection.tls);
    free(channel);
    *channel_in = NULL;
}
