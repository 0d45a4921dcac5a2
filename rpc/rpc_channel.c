// A channel: how calls are started, wait and are sent. Which connection carries them is decided in rpc_channel_route.c,
// how they end in rpc_channel_end.c.
//
// Lock order: the channel's, then the pipe's or nng's own.
#include "rpc/rpc_channel.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "rpc/rpc_channel_core.h"
#include "rpc/rpc_client_stream_priv.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_tls_priv.h"
#include "rpc/sp_pipe.h"

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
    KEEPALIVE_DEFAULT_MS = 10 * 1000,
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

// Sees to it that the calls that wait get their connection, and ends those that cannot or would not wait longer.
static void
serve_waiting_locked(struct rpc_channel *channel, uint64_t now_ms, struct rpc_unary_list *ended)
{
    struct err_detail why = {0};
    enum err err = rpc_channel_connect_locked(channel, now_ms);
    bool has_failed = err != ERR_OK;
    if (!has_failed && !rpc_channel_is_down_locked(channel)) {
        return;
    }
    if (!has_failed) {
        err = rpc_channel_explain_locked(channel, 0, &why);
    }
    struct rpc_unary *call = TAILQ_FIRST(&channel->locked.calls.calls);
    while (call != NULL) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        bool goes_on = !has_failed && is_patient(call) && err == ERR_UNAVAILABLE;
        if (call->locked.state == RPC_UNARY_WAITS && !goes_on) {
            call->status.is_untrusted = err == ERR_UNTRUSTED;
            rpc_channel_end_locked(channel, call, rpc_code_from_err(err), err_message(&why, err), ended);
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
        err = rpc_channel_send_locked(channel, call, &call->locked.frame, bytes_view_of(NULL, 0), now_ms);
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
        sp_pipe_flush(call->locked.connection->locked.pipe);
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
deliver_to_stream_and_unlock(struct rpc_channel *channel, struct rpc_unary *call, struct bytes_view data,
    struct bytes *large)
{
    struct rpc_client_stream *stream = call->stream;
    bool has_ended = rpc_client_stream_take_locked(stream, data, large);
    if (has_ended) {
        rpc_channel_claim_locked(channel, call);
    }
    bool is_told = !has_ended && rpc_client_stream_begin_locked(stream);
    rpc_channel_unlock(channel);
    if (has_ended) {
        rpc_channel_complete(channel, call); // and tells
    } else if (is_told) {
        rpc_client_stream_tell(stream);
    }
}

static void
on_message(void *owner, struct rpc_connection *connection, struct sp_message *message)
{
    struct rpc_channel *channel = owner;
    delivering = connection;
    uint32_t id = bytes_load_be32(message->data.data);
    rpc_channel_lock(channel);
    struct rpc_unary *call = rpc_unary_table_find(&channel->locked.calls, id);
    // Else it has timed out or was cancelled, or another server was asked.
    bool is_asked = call != NULL && call->locked.state == RPC_UNARY_SENT && call->locked.connection == connection;
    struct bytes_view data = bytes_view_of(message->data.data + sizeof id, message->data.size - sizeof id);
    if (is_asked && call->stream != NULL) {
        deliver_to_stream_and_unlock(channel, call, data, message->large);
        return;
    }
    if (is_asked) {
        rpc_channel_answered_locked(channel, call);
        rpc_channel_claim_locked(channel, call);
    }
    rpc_channel_unlock(channel);
    if (is_asked) {
        rpc_unary_take_answer(call, data, message->large);
        if (call->status.code == RPC_UNAVAILABLE) {
            rpc_channel_lock(channel);
            rpc_balancer_shun(&channel->locked.servers[connection - channel->connections], clock_monotonic_ms());
            rpc_channel_unlock(channel);
        }
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

// Has the next call look for another server.
static void
move_on_locked(struct rpc_channel *channel, const struct rpc_connection *connection)
{
    if (channel->locked.balancer.strategy == RPC_PICK_FIRST) {
        size_t lost = (size_t)(connection - channel->connections);
        channel->locked.balancer.current = (lost + 1) % channel->connection_count;
    }
}

static void
on_leaving_locked(void *owner, struct rpc_connection *connection, struct rpc_unary_list *ended)
{
    (void)ended;
    move_on_locked(owner, connection);
}

static void
on_down_locked(void *owner, struct rpc_connection *connection, bool was_ready, struct rpc_unary_list *ended)
{
    struct rpc_channel *channel = owner;
    bool has_waiting = false;
    struct rpc_unary *call = TAILQ_FIRST(&channel->locked.calls.calls);
    if (was_ready) {
        move_on_locked(channel, connection);
    }
    while (call != NULL) {
        struct rpc_unary *next = TAILQ_NEXT(call, locked.link);
        has_waiting = has_waiting || call->locked.state == RPC_UNARY_WAITS;
        if (call->locked.state == RPC_UNARY_SENT && call->locked.connection == connection) {
            rpc_channel_end_locked(channel, call, RPC_UNAVAILABLE, connection->locked.cause.message, ended);
        }
        call = next;
    }
    if (has_waiting) {
        serve_waiting_locked(channel, clock_monotonic_ms(), ended);
    }
}

static const struct rpc_connection_handlers connection_handlers = {
    .on_ready_locked = on_ready_locked,
    .on_message = on_message,
    .on_leaving_locked = on_leaving_locked,
    .on_batch_end = on_batch_end,
    .on_down_locked = on_down_locked,
    .complete_all = rpc_channel_complete_all,
};

// ---- Time ----

// Explains a deadline that has come.
static void
end_late_locked(struct rpc_channel *channel, struct rpc_unary *call, struct rpc_unary_list *ended)
{
    const char *url = channel->url;
    struct err_detail why = {0};
    struct err_detail causes = {0};
    if (call->was_sent && call->locked.state != RPC_UNARY_SENT) {
        (void)err_fail(&why, ERR_TIMEOUT,
            "the connection to %s was lost and has not come back within %u ms; the call may have been executed", url,
            call->timeout_ms);
    } else if (call->was_sent) {
        (void)err_fail(&why, ERR_TIMEOUT, "no answer from %s within %u ms", call->locked.connection->url.text,
            call->timeout_ms);
    } else {
        (void)rpc_channel_explain_locked(channel, 0, &causes);
        (void)err_fail(&why, ERR_TIMEOUT, "no connection to %s within %u ms%s%s", url, call->timeout_ms,
            causes.message[0] == '\0' ? "" : ": ", causes.message);
    }
    rpc_channel_give_up_locked(call);
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
    if (channel->locked.is_watching) {
        next_ms = rpc_channel_watch_locked(channel, now_ms);
    }
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
    enum err err =
        channel->locked.is_freeing ? ERR_CANCELLED : rpc_channel_send_locked(channel, call, frame, bulk, now_ms);
    if (err == ERR_OK && (call->is_idempotent || bulk.size == 0) && bytes_append(frame, bulk) == ERR_OK) {
        call->locked.frame = *frame;
        *frame = (struct bytes){0}; // transferred
    }
    if (err == ERR_CLOSED) { // not connected, or no longer
        err = rpc_channel_connect_locked(channel, now_ms);
        if (err == ERR_OK && !call->is_waiting_for_ready && rpc_channel_is_down_locked(channel)) {
            return rpc_channel_explain_locked(channel, now_ms, why);
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
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "cannot send to %s: %s", channel->url, err_sentence(err));
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
        rpc_channel_claim_locked(channel, call);
    } else {
        rpc_channel_arm_locked(channel, call->locked.deadline_ms);
        if (call->locked.state == RPC_UNARY_SENT && delivering != call->locked.connection) {
            pipe = call->locked.connection->locked.pipe;
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

void
rpc_channel_connect(struct rpc_channel *channel)
{
    rpc_channel_lock(channel);
    if (!channel->locked.is_freeing && rpc_channel_is_down_locked(channel)) {
        (void)!rpc_channel_connect_locked(channel, clock_monotonic_ms()); // a call tries again and tells
    }
    rpc_channel_unlock(channel);
}

uint64_t
rpc_channel_received_bytes(struct rpc_channel *channel)
{
    uint64_t bytes = 0;
    rpc_channel_lock(channel);
    for (size_t i = 0; i < channel->connection_count; i++) {
        bytes += rpc_connection_received_locked(&channel->connections[i]);
    }
    rpc_channel_unlock(channel);
    return bytes;
}

const char *
rpc_channel_url(const struct rpc_channel *channel)
{
    return channel->url;
}

static enum err
set_up_connection(struct rpc_channel *channel, struct rpc_connection *connection, const char *text,
    const struct rpc_channel_options *options, struct err_detail *why)
{
    struct rpc_url *url = &connection->url;
    enum err err = rpc_url_parse(text, url, why);
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
    connection->locked.reason = ERR_UNAVAILABLE;
    return err;
}

// Makes a connection for each address of the list.
static enum err
set_up_connections(struct rpc_channel *channel, const struct rpc_channel_options *options, struct err_detail *why)
{
    size_t count = 1;
    for (const char *at = options->url; *at != '\0'; at++) {
        count += *at == ',';
    }
    if (count > RPC_SERVERS_MAX) {
        return err_fail(why, ERR_INVALID, "%zu addresses are more than the %d that one client may balance between",
            count, RPC_SERVERS_MAX);
    }
    char *list = strdup(options->url);
    channel->url = strdup(options->url);
    channel->connections = calloc(count, sizeof *channel->connections);
    enum err err = list == NULL || channel->url == NULL || channel->connections == NULL ? ERR_NO_MEMORY : ERR_OK;
    char *rest = list;
    while (err == ERR_OK && rest != NULL) {
        const char *text = strsep(&rest, ",");
        struct rpc_connection *connection = &channel->connections[channel->connection_count++];
        err = set_up_connection(channel, connection, text, options, why);
    }
    free(list);
    return err;
}

// For a channel that is idle or was never used.
static void
channel_free(struct rpc_channel *channel)
{
    for (size_t i = 0; i < channel->connection_count; i++) {
        rpc_tls_client_free(&channel->connections[i].tls);
    }
    rpc_unary_table_deinit(&channel->locked.calls);
    digest_wipe(channel->locked.token, sizeof channel->locked.token);
    (void)pthread_cond_destroy(&channel->quiet);
    (void)pthread_mutex_destroy(&channel->mutex);
    free(channel->connections);
    free(channel->url);
    free(channel);
}

enum err
rpc_channel_new(const struct rpc_channel_options *options, struct rpc_channel **out, struct err_detail *why)
{
    struct rpc_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&channel->mutex, NULL);
    (void)pthread_cond_init(&channel->quiet, NULL);
    channel->timer.on_expiry = on_timer;
    TAILQ_INIT(&channel->locked.ended);
    channel->keepalive_ms = options->keepalive_ms == 0 ? (unsigned)KEEPALIVE_DEFAULT_MS : options->keepalive_ms;
    channel->locked.armed_ms = UINT64_MAX;
    channel->locked.balancer.strategy = options->strategy;
    random_bytes(&channel->locked.random, sizeof channel->locked.random);
    channel->locked.random |= 1;
    enum err err = set_up_connections(channel, options, why);
    if (err == ERR_OK) {
        channel->timers = rpc_nng_timers();
        err = channel->timers == NULL ? ERR_NO_MEMORY : rpc_unary_table_init(&channel->locked.calls);
    }
    if (err != ERR_OK) {
        channel_free(channel);
        return err;
    }
    *out = channel;
    return ERR_OK;
}

// Waits until no callback of a connection runs or will.
static void
wait_until_quiet(struct rpc_channel *channel)
{
    rpc_channel_lock(channel);
    for (size_t i = 0; i < channel->connection_count; i++) {
        while (channel->connections[i].locked.active > 0) {
            (void)pthread_cond_wait(&channel->quiet, &channel->mutex);
        }
    }
    rpc_channel_unlock(channel);
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
    for (size_t i = 0; i < channel->connection_count; i++) {
        rpc_connection_close_locked(&channel->connections[i]);
    }
    rpc_channel_unlock(channel);
    rpc_channel_complete_all(channel, &cancelled);

    wait_until_quiet(channel);
    // What completions have started meanwhile was rejected, and waits for the timer.
    do {
        (void)timer_stop(channel->timers, &channel->timer);
        on_timer(&channel->timer);
    } while (!TAILQ_EMPTY(&channel->locked.ended));
    (void)timer_stop(channel->timers, &channel->timer);
    channel_free(channel);
    *channel_in = NULL;
}
