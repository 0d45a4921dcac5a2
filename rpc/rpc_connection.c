// Nothing is sent before the server has shaken hands: what fails until then has certainly not been executed.
#include "rpc/rpc_connection.h"

#include "base/clock.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_tls_priv.h"

static void
lock(struct rpc_connection *connection)
{
    (void)pthread_mutex_lock(connection->mutex);
}

static void
unlock(struct rpc_connection *connection)
{
    (void)pthread_mutex_unlock(connection->mutex);
}

static void
end_activity(struct rpc_connection *connection)
{
    lock(connection);
    connection->locked.active--;
    (void)pthread_cond_broadcast(connection->quiet);
    unlock(connection);
}

// Leaves the state for what comes after an attempt or a connection, and tells the owner. locked.cause has been set.
static void
go_down_locked(struct rpc_connection *connection, bool was_ready, struct rpc_unary_list *ended)
{
    connection->locked.state = RPC_CONNECTION_IDLE;
    if (!was_ready) {
        connection->locked.state = RPC_CONNECTION_BACKING_OFF;
        connection->locked.next_attempt_ms = clock_monotonic_ms() + rpc_backoff_draw_ms(&connection->locked.backoff);
    }
    connection->handlers->on_down_locked(connection->owner, connection, was_ready, ended);
}

// ---- The pipe's handlers ----

static enum err
on_peer(void *owner, enum sp_protocol peer, enum sp_protocol *own_out)
{
    struct rpc_connection *connection = owner;
    struct rpc_unary_list ended = TAILQ_HEAD_INITIALIZER(ended);
    (void)own_out;
    if (peer != SP_REP) {
        return ERR_PROTOCOL;
    }
    lock(connection);
    if (!connection->locked.is_closing) {
        connection->locked.state = RPC_CONNECTION_READY;
        connection->locked.cause.message[0] = '\0';
        rpc_backoff_reset(&connection->locked.backoff);
        rpc_connection_hello_locked(connection);
        // The pipe flushes after this handler.
        connection->handlers->on_ready_locked(connection->owner, connection, &ended);
    }
    unlock(connection);
    connection->handlers->complete_all(connection->owner, &ended);
    return ERR_OK;
}

static void
on_message(void *owner, struct sp_message *message)
{
    struct rpc_connection *connection = owner;
    struct rpc_unary_list ended = TAILQ_HEAD_INITIALIZER(ended);
    size_t id_bytes = sizeof(uint32_t);
    if (message->data.size < id_bytes) {
        return; // belongs to nobody
    }
    if (bytes_load_be32(message->data.data) != RPC_FRAME_CONTROL_ID) {
        connection->handlers->on_message(connection->owner, connection, message);
        return;
    }
    lock(connection);
    rpc_connection_control_locked(connection,
        bytes_view_of(message->data.data + id_bytes, message->data.size - id_bytes), &ended);
    unlock(connection);
    connection->handlers->complete_all(connection->owner, &ended);
}

static void
on_batch_end(void *owner)
{
    struct rpc_connection *connection = owner;
    connection->handlers->on_batch_end(connection->owner, connection);
    lock(connection);
    struct sp_pipe *pipe = connection->locked.pipe; // whose handler this is, so it stays
    unlock(connection);
    sp_pipe_flush(pipe);
}

static void
explain_closed(const struct rpc_connection *connection, bool was_ready, enum err reason, struct err_detail *why)
{
    const struct rpc_url *url = &connection->url;
    bool may_want_tls = !url->is_ipc && !url->is_tls;
    bool is_of_tls = reason == ERR_UNTRUSTED || reason == ERR_DENIED || reason == ERR_PROTOCOL;
    struct err_detail failure;
    if (!was_ready && url->is_tls && is_of_tls && rpc_tls_client_explain(connection->tls, &failure)) {
        (void)err_fail(why, reason, "no connection to %s: %s", url->text, failure.message);
    } else if (connection->locked.is_dead) {
        (void)err_fail(why, reason,
            "the server at %s has given no sign of life for too long, so the connection was closed; "
            "the call may have been executed",
            url->text);
    } else if (was_ready) {
        (void)err_fail(why, reason, "the connection to %s was lost before the answer; the call may have been executed",
            url->text);
    } else if (reason == ERR_PROTOCOL) {
        (void)err_fail(why, reason, "what listens on %s is no fcd%s", url->text,
            may_want_tls ? ", or wants tls+tcp:// instead" : "");
    } else if (reason == ERR_TIMEOUT) {
        (void)err_fail(why, reason, "what listens on %s does not answer; is it an fcd?", url->text);
    } else {
        (void)err_fail(why, reason, "%s closed the connection at once; it may be shutting down%s have too many",
            url->text, may_want_tls ? ", want tls+tcp:// instead, or" : " or");
    }
}

static void
on_closed(void *owner, enum err reason)
{
    struct rpc_connection *connection = owner;
    struct rpc_unary_list ended = TAILQ_HEAD_INITIALIZER(ended);
    lock(connection);
    struct sp_pipe *pipe = connection->locked.pipe;
    bool was_ready = connection->locked.state != RPC_CONNECTION_CONNECTING;
    connection->locked.pipe = NULL;
    connection->locked.received_bytes += sp_pipe_received_bytes(pipe);
    explain_closed(connection, was_ready, reason, &connection->locked.cause);
    connection->locked.reason = reason == ERR_UNTRUSTED || reason == ERR_DENIED ? reason : ERR_UNAVAILABLE;
    go_down_locked(connection, was_ready, &ended);
    unlock(connection);
    connection->handlers->complete_all(connection->owner, &ended);
    sp_pipe_release(pipe);
    end_activity(connection);
}

static const struct sp_pipe_handlers pipe_handlers = {
    .on_peer = on_peer,
    .on_message = on_message,
    .on_batch_end = on_batch_end,
    .on_closed = on_closed,
};

// ---- Connecting ----

// Takes the stream, also on failure.
static enum err
open_pipe_locked(struct rpc_connection *connection, nng_stream *stream)
{
    struct sp_pipe_options options = {
        .handlers = &pipe_handlers,
        .owner = connection,
        .max_message_bytes = RPC_MESSAGE_MAX_BYTES,
        .handshake_timeout_ms = connection->connect_timeout_ms,
        .is_ipc = connection->url.is_ipc,
        .is_dialled = true,
        .dialled_as = SP_REQ,
    };
    enum err err =
        connection->url.is_tls ? rpc_tls_codec_connect(connection->tls, connection->url.host, &options.tls) : ERR_OK;
    if (err != ERR_OK) {
        nng_stream_free(stream);
        return err;
    }
    err = sp_pipe_new(stream, &options, &connection->locked.pipe);
    if (err == ERR_OK) {
        connection->locked.active++;
    }
    return err;
}

static void
on_dialled(void *context, nng_stream *stream, int nng_error)
{
    struct rpc_connection *connection = context;
    struct rpc_unary_list ended = TAILQ_HEAD_INITIALIZER(ended);
    struct sp_pipe *pipe = NULL;
    enum err err = err_from_nng(nng_error);
    lock(connection);
    connection->locked.dial = NULL;
    if (stream != NULL && connection->locked.is_closing) {
        nng_stream_free(stream);
        err = ERR_CANCELLED;
    } else if (stream != NULL) {
        err = open_pipe_locked(connection, stream);
    }
    if (err == ERR_OK) {
        pipe = connection->locked.pipe;
        sp_pipe_hold(pipe);
    } else {
        (void)err_fail(&connection->locked.cause, err, "cannot connect to %s: %s; is fcd running there?",
            connection->url.text, nng_error != 0 ? rpc_nng_explain(nng_error) : err_sentence(err));
        connection->locked.reason = ERR_UNAVAILABLE;
        go_down_locked(connection, false, &ended);
    }
    unlock(connection);
    if (pipe != NULL) {
        sp_pipe_start(pipe);
        sp_pipe_release(pipe);
    }
    connection->handlers->complete_all(connection->owner, &ended);
    end_activity(connection);
}

bool
rpc_connection_is_due_locked(const struct rpc_connection *connection, uint64_t now_ms)
{
    return connection->locked.state == RPC_CONNECTION_IDLE ||
           (connection->locked.state == RPC_CONNECTION_BACKING_OFF && connection->locked.next_attempt_ms <= now_ms);
}

enum err
rpc_connection_connect_locked(struct rpc_connection *connection, uint64_t now_ms)
{
    if (connection->locked.is_closing || !rpc_connection_is_due_locked(connection, now_ms)) {
        return ERR_OK;
    }
    enum err err = rpc_dial_start(&connection->url, connection->connect_timeout_ms, on_dialled, connection,
        &connection->locked.dial);
    if (err == ERR_OK) {
        connection->locked.state = RPC_CONNECTION_CONNECTING;
        connection->locked.active++;
    }
    return err;
}

// ---- Use and end ----

enum err
rpc_connection_send_locked(struct rpc_connection *connection, const struct bytes_view *parts, size_t part_count)
{
    if (connection->locked.state != RPC_CONNECTION_READY) {
        return ERR_CLOSED;
    }
    enum err err = sp_pipe_queue(connection->locked.pipe, parts, part_count);
    if (err == ERR_CLOSED) {
        connection->locked.state = RPC_CONNECTION_ENDING;
    }
    return err;
}

uint64_t
rpc_connection_received_locked(const struct rpc_connection *connection)
{
    uint64_t bytes = connection->locked.received_bytes;
    return connection->locked.pipe != NULL ? bytes + sp_pipe_received_bytes(connection->locked.pipe) : bytes;
}

void
rpc_connection_close_locked(struct rpc_connection *connection)
{
    connection->locked.is_closing = true;
    if (connection->locked.dial != NULL) {
        rpc_dial_cancel(connection->locked.dial);
    }
    if (connection->locked.pipe != NULL) {
        sp_pipe_close(connection->locked.pipe, 0);
    }
}
