// The native listener: SP over TCP, with TLS or without, and Unix sockets. It accepts whatever happens, and is the
// transport of each peer.
//
// A connection exists from its accept to the on_closed of its pipe, which ends the peer and frees it. A listener is
// freed when all its connections have ended.
//
// Threads: accepts and pipes on nng's threads, retries on the timer thread. Lock order: none is held while calling the
// server, but for `birth`, which nothing else takes meanwhile.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nng/nng.h>

#include "base/log.h"
#include "base/timer.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_peer_priv.h"
#include "rpc/sp_pipe.h"

enum {
    ACCEPT_PAUSE_MS = 20, // after an accept that failed: usually for want of descriptors, which need time to come back
};

enum connection_kind {
    CONNECTION_UNKNOWN,
    CONNECTION_CALLER,        // REQ
    CONNECTION_AWAITS_TICKET, // SUB
    CONNECTION_SUBSCRIBED,
};

struct listener {
    // Immutable after listen.
    struct rpc_server *server;
    struct rpc_tls_server *tls; // NULL: without TLS
    struct rpc_url url;
    nng_stream_listener *stream_listener;
    nng_aio *accept_aio;
    struct timer_queue *timers;

    struct timer retry;
    // Held while a connection gets its peer: the server may close the peer as soon as it exists, and the end of the
    // connection must not come before its beginning.
    pthread_mutex_t birth;

    pthread_mutex_t mutex;
    pthread_cond_t emptied;
    struct {
        LIST_HEAD(, connection) connections;
        bool is_stopping;
    } locked;
};

struct connection {
    LIST_ENTRY(connection) link; // guarded by the listener's mutex
    struct listener *listener;
    struct sp_pipe *pipe;
    struct rpc_peer *peer; // NULL: the server did not want one
    struct timer ticket_deadline;
    enum connection_kind kind; // in the pipe's handlers only
};

// ---- The transport of a peer ----

static enum err
transport_queue(void *transport, const struct bytes_view *parts, size_t part_count)
{
    struct connection *connection = transport;
    return sp_pipe_queue(connection->pipe, parts, part_count);
}

static void
transport_flush(void *transport)
{
    struct connection *connection = transport;
    sp_pipe_flush(connection->pipe);
}

static bool
transport_tell_drained(void *transport)
{
    struct connection *connection = transport;
    return sp_pipe_tell_drained(connection->pipe);
}

static size_t
transport_queued_bytes(void *transport)
{
    struct connection *connection = transport;
    return sp_pipe_queued_bytes(connection->pipe);
}

static unsigned
transport_progress(void *transport)
{
    struct connection *connection = transport;
    return sp_pipe_progress(connection->pipe);
}

static void
transport_set_reading(void *transport, bool is_reading)
{
    struct connection *connection = transport;
    sp_pipe_set_reading(connection->pipe, is_reading);
}

static void
transport_close(void *transport, unsigned linger_ms)
{
    struct connection *connection = transport;
    sp_pipe_close(connection->pipe, linger_ms);
}

static const struct rpc_transport_ops transport_ops = {
    .queue = transport_queue,
    .flush = transport_flush,
    .tell_drained = transport_tell_drained,
    .queued_bytes = transport_queued_bytes,
    .progress = transport_progress,
    .set_reading = transport_set_reading,
    .close = transport_close,
};

// ---- What arrives on a connection ----

static void
on_ticket_deadline(struct timer *timer)
{
    struct connection *connection = (struct connection *)((char *)timer - offsetof(struct connection, ticket_deadline));
    sp_pipe_close(connection->pipe, 0);
}

static enum err
on_peer(void *owner, enum sp_protocol peer, enum sp_protocol *own_out)
{
    struct connection *connection = owner;
    if (peer == SP_REQ) {
        connection->kind = CONNECTION_CALLER;
        *own_out = SP_REP;
        return ERR_OK;
    }
    if (peer == SP_SUB) {
        connection->kind = CONNECTION_AWAITS_TICKET;
        *own_out = SP_PUB;
        return timer_start(connection->listener->timers, &connection->ticket_deadline, RPC_HANDSHAKE_TIMEOUT_MS);
    }
    return ERR_PROTOCOL;
}

static enum err
take_ticket(struct connection *connection, struct bytes_view ticket)
{
    connection->kind = CONNECTION_SUBSCRIBED;
    (void)timer_stop(connection->listener->timers, &connection->ticket_deadline);
    return rpc_peer_subscribe(connection->peer, ticket);
}

static void
on_message(void *owner, struct sp_message *message)
{
    struct connection *connection = owner;
    enum err err = ERR_PROTOCOL; // a subscriber says nothing after its ticket
    if (connection->kind == CONNECTION_CALLER) {
        err = rpc_peer_receive(connection->peer, message->data, message->large);
    } else if (connection->kind == CONNECTION_AWAITS_TICKET) {
        err = take_ticket(connection, message->data);
    }
    if (err != ERR_OK) {
        sp_pipe_close(connection->pipe, 0);
    }
}

static void
on_batch_end(void *owner)
{
    struct connection *connection = owner;
    if (connection->kind == CONNECTION_CALLER) {
        rpc_peer_batch_end(connection->peer);
    }
}

static void
on_drained(void *owner)
{
    struct connection *connection = owner;
    rpc_peer_drained(connection->peer);
}

static void
on_closed(void *owner, enum err reason)
{
    struct connection *connection = owner;
    struct listener *listener = connection->listener;
    (void)pthread_mutex_lock(&listener->birth);
    struct rpc_peer *peer = connection->peer;
    (void)pthread_mutex_unlock(&listener->birth);

    (void)timer_stop(listener->timers, &connection->ticket_deadline);
    if (reason == ERR_PROTOCOL || reason == ERR_TOO_BIG || reason == ERR_TIMEOUT || reason == ERR_DENIED) {
        log_debug("RPC-PEER-CUT-OFF", NULL, "closed the connection of %s: %s", sp_pipe_address(connection->pipe),
            err_sentence(reason));
    }
    if (peer != NULL) {
        rpc_peer_closed(peer);
    }

    struct sp_pipe *pipe = connection->pipe;
    (void)pthread_mutex_lock(&listener->mutex);
    LIST_REMOVE(connection, link);
    free(connection);
    if (LIST_EMPTY(&listener->locked.connections)) {
        // Under the lock, since the listener is freed as soon as the waiter sees this.
        (void)pthread_cond_broadcast(&listener->emptied);
    }
    (void)pthread_mutex_unlock(&listener->mutex);
    // Last, because whoever finds the connection in the list may close its pipe.
    sp_pipe_release(pipe);
}

static const struct sp_pipe_handlers pipe_handlers = {
    .on_peer = on_peer,
    .on_message = on_message,
    .on_batch_end = on_batch_end,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

// ---- Accepting ----

// Takes the stream, also on failure.
static enum err
open_pipe(struct connection *connection, nng_stream *stream)
{
    const struct listener *listener = connection->listener;
    struct sp_pipe_options options = {
        .handlers = &pipe_handlers,
        .owner = connection,
        .max_message_bytes = RPC_MESSAGE_MAX_BYTES,
        .is_ipc = listener->url.is_ipc,
    };
    enum err err = listener->tls == NULL ? ERR_OK : rpc_tls_codec_accept(listener->tls, &options.tls);
    if (err != ERR_OK) {
        nng_stream_free(stream);
        return err;
    }
    return sp_pipe_new(stream, &options, &connection->pipe);
}

static void
adopt(struct listener *listener, nng_stream *stream)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        nng_stream_free(stream);
        return;
    }
    connection->listener = listener;
    connection->ticket_deadline.on_expiry = on_ticket_deadline;
    if (open_pipe(connection, stream) != ERR_OK) {
        free(connection);
        return;
    }
    (void)pthread_mutex_lock(&listener->mutex);
    LIST_INSERT_HEAD(&listener->locked.connections, connection, link);
    (void)pthread_mutex_unlock(&listener->mutex);

    // From here on the server may close the peer, which frees the connection.
    struct sp_pipe *pipe = connection->pipe;
    sp_pipe_hold(pipe);
    (void)pthread_mutex_lock(&listener->birth);
    enum err err = rpc_peer_new(listener->server, &transport_ops, connection, sp_pipe_address(pipe), &connection->peer);
    (void)pthread_mutex_unlock(&listener->birth);
    if (err == ERR_OK) {
        sp_pipe_start(pipe);
    } else {
        sp_pipe_close(pipe, 0);
    }
    sp_pipe_release(pipe);
}

static bool
is_stopping(struct listener *listener)
{
    (void)pthread_mutex_lock(&listener->mutex);
    bool result = listener->locked.is_stopping;
    (void)pthread_mutex_unlock(&listener->mutex);
    return result;
}

static void
on_retry(struct timer *timer)
{
    struct listener *listener = (struct listener *)((char *)timer - offsetof(struct listener, retry));
    nng_stream_listener_accept(listener->stream_listener, listener->accept_aio);
}

static void
on_accepted(void *arg)
{
    struct listener *listener = arg;
    int result = nng_aio_result(listener->accept_aio);
    if (result == 0) {
        nng_stream *stream = nng_aio_get_output(listener->accept_aio, 0);
        if (is_stopping(listener)) {
            nng_stream_free(stream);
            return;
        }
        adopt(listener, stream);
    } else if (is_stopping(listener)) {
        return;
    } else {
        // Whatever it was, one failed accept must not be the last.
        log_debug("RPC-ACCEPT-FAILED", NULL, "cannot accept on %s: %s; trying again", listener->url.text,
            rpc_nng_explain(result));
        if (timer_start(listener->timers, &listener->retry, ACCEPT_PAUSE_MS) == ERR_OK) {
            return;
        }
    }
    nng_stream_listener_accept(listener->stream_listener, listener->accept_aio);
}

// ---- Listening ----

// Removes a socket file that nobody listens on. nng would remove any file there.
static enum err
remove_stale_socket(const char *path, struct err_detail *why)
{
    struct stat info;
    if (lstat(path, &info) != 0) {
        return errno == ENOENT ? ERR_OK
                               : err_fail(why, err_from_errno(errno), "cannot use %s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(info.st_mode)) {
        return err_fail(why, ERR_BUSY, "%s exists and is not a socket; choose another path or remove it", path);
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1)); // rpc_url_parse has checked the length
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_fail(why, err_from_errno(errno), "cannot make a socket: %s", strerror(errno));
    }
    int error = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    (void)close(fd);
    if (error != ECONNREFUSED) {
        return err_fail(why, ERR_BUSY, "another process listens on %s", path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return err_fail(why, err_from_errno(errno), "cannot replace the old socket %s: %s", path, strerror(errno));
    }
    return ERR_OK;
}

static enum err
explain_listen_failure(const struct listener *listener, int result, struct err_detail *why)
{
    return err_fail(why, err_from_nng(result), "cannot listen on %s: %s", listener->url.text, rpc_nng_explain(result));
}

static enum err
open_stream_listener(struct listener *listener, struct err_detail *why)
{
    int result = nng_stream_listener_alloc(&listener->stream_listener, rpc_url_stream(&listener->url));
    if (result == 0 && listener->url.is_ipc) {
        enum err err = remove_stale_socket(listener->url.path, why);
        if (err != ERR_OK) {
            return err;
        }
        result = nng_stream_listener_set_int(listener->stream_listener, NNG_OPT_IPC_PERMISSIONS, S_IRUSR | S_IWUSR);
    }
    if (result == 0) {
        result = nng_aio_alloc(&listener->accept_aio, on_accepted, listener);
    }
    if (result == 0) {
        result = nng_stream_listener_listen(listener->stream_listener);
    }
    return result == 0 ? ERR_OK : explain_listen_failure(listener, result, why);
}

static enum err
write_bound_url(const struct listener *listener, char *bound_url_out, struct err_detail *why)
{
    if (listener->url.is_ipc) {
        strcpy(bound_url_out, listener->url.text);
        return ERR_OK;
    }
    int port = 0;
    int result = nng_stream_listener_get_int(listener->stream_listener, NNG_OPT_TCP_BOUND_PORT, &port);
    if (result != 0) {
        return explain_listen_failure(listener, result, why);
    }
    bool has_colons = strchr(listener->url.host, ':') != NULL;
    int size = snprintf(bound_url_out, RPC_URL_MAX_BYTES, "%stcp://%s%s%s:%d", listener->url.is_tls ? "tls+" : "",
        has_colons ? "[" : "", listener->url.host, has_colons ? "]" : "", port);
    return size < RPC_URL_MAX_BYTES ? ERR_OK : err_fail(why, ERR_INVALID, "%s is too long", listener->url.text);
}

static void
stop(void *arg)
{
    struct listener *listener = arg;
    (void)pthread_mutex_lock(&listener->mutex);
    listener->locked.is_stopping = true;
    (void)pthread_mutex_unlock(&listener->mutex);
    if (listener->stream_listener != NULL) {
        nng_stream_listener_close(listener->stream_listener);
    }
}

static void
listener_free(void *arg)
{
    struct listener *listener = arg;
    struct connection *connection;
    stop(listener);
    if (listener->timers != NULL) {
        (void)timer_stop(listener->timers, &listener->retry);
    }
    if (listener->accept_aio != NULL) {
        nng_aio_stop(listener->accept_aio); // no connection is added after this
    }
    if (listener->timers != NULL) {
        (void)timer_stop(listener->timers, &listener->retry); // which the last accept may have started
    }

    (void)pthread_mutex_lock(&listener->mutex);
    LIST_FOREACH(connection, &listener->locked.connections, link)
    {
        sp_pipe_close(connection->pipe, 0);
    }
    while (!LIST_EMPTY(&listener->locked.connections)) {
        (void)pthread_cond_wait(&listener->emptied, &listener->mutex);
    }
    (void)pthread_mutex_unlock(&listener->mutex);

    nng_aio_free(listener->accept_aio);
    nng_stream_listener_free(listener->stream_listener);
    (void)pthread_cond_destroy(&listener->emptied);
    (void)pthread_mutex_destroy(&listener->mutex);
    (void)pthread_mutex_destroy(&listener->birth);
    free(listener);
}

enum err
rpc_native_listen(struct rpc_server *server, const char *url, char *bound_url_out, void **listener_out,
    struct err_detail *why)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&listener->birth, NULL);
    (void)pthread_mutex_init(&listener->mutex, NULL);
    (void)pthread_cond_init(&listener->emptied, NULL);
    LIST_INIT(&listener->locked.connections);
    listener->server = server;
    listener->retry.on_expiry = on_retry;
    enum err err = rpc_url_parse(url, &listener->url, why);
    if (err != ERR_OK) {
        goto out;
    }
    listener->tls = listener->url.is_tls ? rpc_server_tls(server) : NULL;
    listener->timers = rpc_nng_timers();
    if (listener->timers == NULL) {
        err = ERR_NO_MEMORY;
        goto out;
    }
    err = open_stream_listener(listener, why);
    if (err == ERR_OK) {
        err = write_bound_url(listener, bound_url_out, why);
    }
    if (err != ERR_OK) {
        goto out;
    }
    nng_stream_listener_accept(listener->stream_listener, listener->accept_aio);
    *listener_out = listener;
    listener = NULL; // transferred

out:
    if (listener != NULL) {
        listener_free(listener);
    }
    return err;
}

const struct rpc_listener_ops rpc_native_listener_ops = {
    .stop = stop,
    .free = listener_free,
};
