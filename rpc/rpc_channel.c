// A channel: how calls are started, and the connection that carries them. How they end is in rpc_channel_end.c.
//
// Lock order: the channel's, then the pipe's or nng's own.
#include "rpc/rpc_channel.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "rpc/rpc_channel_core.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_tls_priv.h"
#include "rpc/sp_pipe.h"

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
};

// The connection whose answers this thread is delivering. Calls that are started on it from their completions leave
// together at the end of the batch.
static _Thread_local const struct rpc_connection *delivering;

// ---- The connection ----

// Whether a call waits for a connection that cannot be made at present. One that is sent again does: it is not known
// whether it was executed, and only the server can tell.
static bool
is_patient(const struct rpc_unary *call)
{
    return call->is_waiting_for_ready || call->was_sent;
}

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
        call->status.attempts++;
    }
    return err;
}

// Begins to connect, or has the timer do it as soon as the pause is over.
static enum err
connect_locked(struct rpc_channel *channel, uint64_t now_ms)
{
    enum err err = rpc_connection_connect_locked(&channel->connection, now_ms);
    if (err == ERR_OK && channel->connection.locked.state == RPC_CONNECTION_BACKING_OFF) {
        rpc_channel_arm_locked(channel, channel->connection.locked.next_attempt_ms);
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
            rpc_channel_end_locked(channel, call, rpc_code_from_err(err), err_sentence(err), ended);
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
    if (err == ERR_OK && !call->is_idempotent) {
        bytes_free(&call->locked.frame);
    }
    return err;
}

// Sends a call whose pause is over, or has it wait for a connection.
static void
resume_locked(struct rpc_channel *channel, struct rpc_unary *call, uint64_t now_ms, struct rpc_unary_list *ended)
{
    call->locked.state = RPC_UNARY_WAITS;
    enum err err = send_late_locked(channel, call, now_ms);
    if (err == ERR_OK) {
        sp_pipe_flush(channel->connection.locked.pipe);
    } else if (err != ERR_CLOSED) {
        rpc_channel_end_locked(channel, call, rpc_code_from_err(err), err_sentence(err), ended);
    }
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
            rpc_channel_end_locked(channel, call, rpc_code_from_err(err), why.message, ended);
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
    rpc_channel_lock(channel);
    struct rpc_unary *call = rpc_unary_table_find(&channel->locked.calls, id);
    if (call != NULL) {
        rpc_unary_table_claim(&channel->locked.calls, call);
    }
    rpc_channel_unlock(channel);
    if (call != NULL) { // else it has timed out or was cancelled
        size_t size = message->data.size - sizeof id;
        rpc_unary_take_answer(call, bytes_view_of(message->data.data + sizeof id, size), message->large);
        rpc_channel_complete(channel, call);
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
        bool is_waiting = call->locked.state == RPC_UNARY_WAITS;
        // After a loss those that wait have found the connection ending: they are worth an attempt.
        bool goes_on = was_ready || (is_patient(call) && reason == ERR_UNAVAILABLE);
        bool is_over = call->locked.state == RPC_UNARY_SENT || (is_waiting && !goes_on);
        if (is_over) {
            call->status.is_untrusted = reason == ERR_UNTRUSTED;
            rpc_channel_end_locked(channel, call, rpc_code_from_err(reason), connection->locked.cause.message, ended);
        }
        has_waiting = has_waiting || (is_waiting && !is_over);
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
    .complete_all = rpc_channel_complete_all,
};

// ---- Time ----

// Explains a deadline that has come.
static void
end_late_locked(struct rpc_channel *channel, struct rpc_unary *call, struct rpc_unary_list *ended)
{
    const struct rpc_connection *connection = &channel->connection;
    struct err_detail why = {0};
    if (call->was_sent && call->locked.state != RPC_UNARY_SENT) {
        (void)err_fail(&why, ERR_TIMEOUT,
            "the connection to %s was lost and has not come back within %u ms; the call may have been executed",
            connection->url.text, call->timeout_ms);
    } else if (call->was_sent) {
        (void)err_fail(&why, ERR_TIMEOUT, "no answer from %s within %u ms", connection->url.text, call->timeout_ms);
    } else {
        const char *cause = connection->locked.cause.message;
        (void)err_fail(&why, ERR_TIMEOUT, "no connection to %s within %u ms%s%s", connection->url.text,
            call->timeout_ms, cause[0] == '\0' ? "" : ": ", cause);
    }
    rpc_channel_end_locked(channel, call, RPC_DEADLINE_EXCEEDED, why.message, ended);
}

static void
on_timer(struct timer *timer)
{
    struct rpc_channel *channel = (struct rpc_channel *)((char *)timer - offsetof(struct rpc_channel, timer));
    struct rpc_unary_list due = TAILQ_HEAD_INITIALIZER(due);
    struct rpc_unary *call;
    rpc_channel_lock(channel);
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
            if (call->locked.state == RPC_UNARY_PAUSES && call->locked.retry_ms <= now_ms) {
                resume_locked(channel, call, now_ms, &due);
            } else if (call->locked.state == RPC_UNARY_PAUSES && call->locked.retry_ms < next_ms) {
                next_ms = call->locked.retry_ms;
            }
            has_waiting = has_waiting || call->locked.state == RPC_UNARY_WAITS;
        }
        call = next;
    }
    if (next_ms != UINT64_MAX) {
        rpc_channel_arm_locked(channel, next_ms);
    }
    if (has_waiting) {
        serve_waiting_locked(channel, now_ms, &due);
    }
    rpc_channel_unlock(channel);
    rpc_channel_complete_all(channel, &due);
}

// ---- Starting calls ----

// Sends the call, or has it wait for a connection.
static enum err
submit_locked(struct rpc_channel *channel, struct rpc_unary *call, struct bytes *frame, struct bytes_view bulk,
    uint64_t now_ms, struct err_detail *why)
{
    const struct rpc_connection *connection = &channel->connection;
    enum err err = channel->locked.is_freeing ? ERR_CANCELLED : send_locked(channel, call, frame, bulk);
    if (err == ERR_OK && call->is_idempotent && bytes_append(frame, bulk) == ERR_OK) {
        call->locked.frame = *frame;
        *frame = (struct bytes){0}; // transferred
    }
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
    rpc_channel_lock(channel);
    call->locked.deadline_ms = now_ms + call->timeout_ms;
    rpc_unary_table_insert(&channel->locked.calls, call);
    enum err err = submit_locked(channel, call, frame, bulk, now_ms, &why);
    if (err != ERR_OK) {
        rpc_unary_table_claim(&channel->locked.calls, call);
    } else {
        rpc_channel_arm_locked(channel, call->locked.deadline_ms);
        if (call->locked.state == RPC_UNARY_SENT && delivering != &channel->connection) {
            pipe = channel->connection.locked.pipe;
            sp_pipe_hold(pipe);
        }
    }
    rpc_channel_unlock(channel);
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
    rpc_channel_lock(channel);
    digest_wipe(channel->locked.token, sizeof channel->locked.token);
    memcpy(channel->locked.token, size == 0 ? "" : token, size);
    channel->locked.token[size] = '\0';
    rpc_channel_unlock(channel);
    return ERR_OK;
}

void
rpc_channel_copy_token(struct rpc_channel *channel, char token_out[RPC_TOKEN_MAX_BYTES + 1])
{
    rpc_channel_lock(channel);
    strcpy(token_out, channel->locked.token);
    rpc_channel_unlock(channel);
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
    rpc_channel_lock(channel);
    channel->locked.is_freeing = true;
    struct rpc_unary *call;
    while ((call = TAILQ_FIRST(&channel->locked.calls.calls)) != NULL) {
        rpc_channel_end_locked(channel, call, RPC_CANCELLED, err_sentence(ERR_CANCELLED), &cancelled);
    }
    rpc_connection_close_locked(&channel->connection);
    rpc_channel_unlock(channel);
    rpc_channel_complete_all(channel, &cancelled);

    rpc_channel_lock(channel);
    while (channel->connection.locked.active > 0) {
        (void)pthread_cond_wait(&channel->quiet, &channel->mutex);
    }
    rpc_channel_unlock(channel);
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
