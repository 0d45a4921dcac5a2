// The web listener: WebSockets for calls and subscriptions, on libwebsockets (docs/protocol.md, "WebSocket").
//
// Each listener has its own libwebsockets context and one service thread, which runs everything in here but the
// functions at the end and web_listener_wake. The listening socket is ours, so that errors of bind are told as they
// are, accepting can stop while the connections stay, and a lack of descriptors makes it pause instead of spin.
//
// libwebsockets closes what has not finished its HTTP request within RPC_HANDSHAKE_TIMEOUT_MS, and pings WebSockets
// that are idle.
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "rpc/rpc_tls_priv.h"
#include "rpc/rpc_web_priv.h"

enum {
    ACCEPTS_AT_ONCE = 64, // before connections get their turn
    ACCEPT_PAUSE_MS = 100,
    // Sockets that have not said what they are, above which new ones are closed at once. It is more than honest peers
    // need within RPC_HANDSHAKE_TIMEOUT_MS, and leaves descriptors for the others.
    STRANGERS_MAX = 4096,
    // Of one request's headers.
    HTTP_HEADERS_MAX_BYTES = 8 * 1024,
    KEEPALIVE_S = 60,
    PING_AFTER_S = 60,
    HANG_UP_AFTER_S = 90,
};

// Marks a wsi that is counted as a stranger.
static struct web_owner stranger = {WEB_OWNER_STRANGER};

static const lws_retry_bo_t idle_policy = {
    .secs_since_valid_ping = PING_AFTER_S,
    .secs_since_valid_hangup = HANG_UP_AFTER_S,
};

// ---------------------------------------------------------------- waking the service thread

void
web_listener_wake(struct web_listener *listener, struct web_connection *connection)
{
    pthread_mutex_lock(&listener->locked.mutex);
    bool is_first = TAILQ_EMPTY(&listener->locked.pending);
    if (!connection->is_pending) {
        connection->is_pending = true;
        TAILQ_INSERT_TAIL(&listener->locked.pending, connection, pending_link);
    }
    pthread_mutex_unlock(&listener->locked.mutex);
    if (is_first) {
        lws_cancel_service(listener->context);
    }
}

void
web_listener_wake_content(struct web_listener *listener, struct rpc_content *content)
{
    pthread_mutex_lock(&listener->locked.mutex);
    if (!content->is_pending) {
        content->is_pending = true;
        TAILQ_INSERT_TAIL(&listener->locked.pending_contents, content, pending_link);
    }
    pthread_mutex_unlock(&listener->locked.mutex);
    lws_cancel_service(listener->context);
}

static struct rpc_content *
take_pending_content(struct web_listener *listener)
{
    pthread_mutex_lock(&listener->locked.mutex);
    struct rpc_content *content = TAILQ_FIRST(&listener->locked.pending_contents);
    if (content != NULL) {
        TAILQ_REMOVE(&listener->locked.pending_contents, content, pending_link);
        content->is_pending = false;
    }
    pthread_mutex_unlock(&listener->locked.mutex);
    return content;
}

static struct web_connection *
take_pending(struct web_listener *listener)
{
    pthread_mutex_lock(&listener->locked.mutex);
    struct web_connection *connection = TAILQ_FIRST(&listener->locked.pending);
    if (connection != NULL) {
        TAILQ_REMOVE(&listener->locked.pending, connection, pending_link);
        connection->is_pending = false;
    }
    pthread_mutex_unlock(&listener->locked.mutex);
    return connection;
}

static void
on_woken(struct web_listener *listener)
{
    struct web_connection *connection;
    while ((connection = take_pending(listener)) != NULL) {
        web_connection_pending(connection);
    }
    struct rpc_content *content;
    while ((content = take_pending_content(listener)) != NULL) {
        web_content_pending(content);
    }
    pthread_mutex_lock(&listener->locked.mutex);
    bool wants_stop = listener->locked.wants_stop;
    bool wants_end = listener->locked.wants_end;
    pthread_mutex_unlock(&listener->locked.mutex);
    if (wants_stop && listener->listening != NULL) {
        lws_set_timeout(listener->listening, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
    }
    if (wants_end) {
        TAILQ_FOREACH(connection, &listener->connections, link)
        {
            lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        }
        TAILQ_FOREACH(content, &listener->contents, link)
        {
            lws_set_timeout(content->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        }
    }
}

// ---------------------------------------------------------------- accepting

static void
set_socket_options(int socket_fd)
{
    int on = 1;
    int keepalive_s = KEEPALIVE_S;
    // Without them connections are slower, or dead peers are noticed by pings only: no reason to refuse anybody.
    (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(socket_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_s, sizeof(keepalive_s));
}

static void
on_acceptable(struct web_listener *listener, struct lws *listening)
{
    int listening_fd = lws_get_socket_fd(listening);
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int socket_fd = accept4(listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket_fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                log_warn("RPC-WEB-ACCEPT", NULL, "accepting pauses: %s", strerror(errno));
                (void)lws_rx_flow_control(listening, 0);
                lws_set_timer_usecs(listening, (lws_usec_t)ACCEPT_PAUSE_MS * LWS_USEC_PER_SEC / 1000);
            }
            return;
        }
        if (listener->stranger_count >= STRANGERS_MAX) {
            (void)close(socket_fd);
            continue;
        }
        set_socket_options(socket_fd);
        (void)lws_adopt_socket_vhost(listener->vhost, socket_fd); // closes it when it fails
    }
}

static void
tell_stopped(struct web_listener *listener)
{
    listener->listening = NULL;
    pthread_mutex_lock(&listener->locked.mutex);
    listener->locked.has_stopped = true;
    pthread_cond_broadcast(&listener->locked.has_stopped_changed);
    pthread_mutex_unlock(&listener->locked.mutex);
}

// ---------------------------------------------------------------- libwebsockets' events

static bool
has_ended(struct web_listener *listener)
{
    pthread_mutex_lock(&listener->locked.mutex);
    bool wants_end = listener->locked.wants_end;
    pthread_mutex_unlock(&listener->locked.mutex);
    return wants_end && TAILQ_EMPTY(&listener->connections) && TAILQ_EMPTY(&listener->contents);
}

static void
on_wsi_destroyed(struct web_listener *listener, struct lws *wsi)
{
    if (wsi == listener->listening) {
        tell_stopped(listener); // its descriptor has been closed
        return;
    }
    struct web_owner *owner = lws_get_opaque_user_data(wsi);
    lws_set_opaque_user_data(wsi, NULL);
    if (owner == &stranger) {
        listener->stranger_count--;
    } else if (owner != NULL) {
        if (owner->kind == WEB_OWNER_CONTENT) {
            struct rpc_content *content = (struct rpc_content *)owner;
            web_content_free(&content);
        } else {
            struct web_connection *connection = (struct web_connection *)owner;
            web_connection_free(&connection);
        }
        if (has_ended(listener)) {
            // The library kills connections before it waits for events, and would wait before serve looks.
            lws_cancel_service(listener->context);
        }
    }
}

// The connection of a wsi; NULL when it is something else.
static struct web_connection *
connection_of(struct lws *wsi)
{
    struct web_owner *owner = lws_get_opaque_user_data(wsi);
    return owner != NULL && owner->kind == WEB_OWNER_CONNECTION ? (struct web_connection *)owner : NULL;
}

static struct rpc_content *
content_of(struct lws *wsi)
{
    struct web_owner *owner = lws_get_opaque_user_data(wsi);
    return owner != NULL && owner->kind == WEB_OWNER_CONTENT ? (struct rpc_content *)owner : NULL;
}

static int
on_upgrade(struct web_listener *listener, struct lws *wsi, const char *upgrade)
{
    int result = web_http_upgrade(listener, wsi, upgrade);
    if (result == 0) {
        listener->stranger_count--;
    }
    return result;
}

static int
on_connection_event(struct lws *wsi, enum lws_callback_reasons reason, const void *data, size_t size)
{
    struct web_connection *connection = connection_of(wsi);
    if (connection == NULL) {
        // A WebSocket that web_http_upgrade has not seen.
        return -1;
    }
    switch ((int)reason) {
    case LWS_CALLBACK_ESTABLISHED:
        return web_connection_established(connection);
    case LWS_CALLBACK_RECEIVE:
        return web_connection_received(connection, bytes_view_of(data, size));
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return web_connection_writable(connection);
    case LWS_CALLBACK_TIMER:
        lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        return 0;
    default:
        return 0;
    }
}

static int
on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *data, size_t size)
{
    struct web_listener *listener = lws_context_user(lws_get_context(wsi));
    switch ((int)reason) {
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
        return rpc_tls_server_configure(listener->tls, user) == ERR_OK ? 0 : -1;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        on_woken(listener);
        return 0;
    case LWS_CALLBACK_RAW_RX_FILE:
        on_acceptable(listener, wsi);
        return 0;
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        lws_set_opaque_user_data(wsi, &stranger);
        listener->stranger_count++;
        return 0;
    case LWS_CALLBACK_HTTP:
        return web_http_request(listener, wsi);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(listener, wsi, data);
    case LWS_CALLBACK_TIMER:
        if (wsi == listener->listening) {
            (void)lws_rx_flow_control(wsi, 1);
            return 0;
        }
        return content_of(wsi) != NULL ? web_content_timer(content_of(wsi))
                                       : on_connection_event(wsi, reason, data, size);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return content_of(wsi) != NULL ? web_content_writable(content_of(wsi)) : 0;
    case LWS_CALLBACK_RAW_ADOPT: // the library makes a raw socket of a CONNECT request
    case LWS_CALLBACK_RAW_SKT_BIND_PROTOCOL:
    case LWS_CALLBACK_RAW_RX:
        return -1;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_connection_event(wsi, reason, data, size);
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY:
        on_wsi_destroyed(listener, wsi);
        return 0;
    default:
        return 0;
    }
}

// The first one is bound to whatever has not been upgraded. libwebsockets picks the others by the subprotocol asked
// for; web_http_upgrade has made sure that it belongs to the path.
static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = on_event, .rx_buffer_size = WEB_READ_BYTES},
    {
        .name = "rep.sp.nanomsg.org",
        .callback = on_event,
        .rx_buffer_size = WEB_READ_BYTES,
        .tx_packet_size = WEB_WRITE_BYTES,
    },
    {
        .name = "pub.sp.nanomsg.org",
        .callback = on_event,
        .rx_buffer_size = 1024,
        .tx_packet_size = WEB_WRITE_BYTES,
    },
    {.name = NULL},
};

// ---------------------------------------------------------------- the service thread

static void
end_batches(struct web_listener *listener)
{
    struct web_connection *connection;
    while ((connection = TAILQ_FIRST(&listener->with_batches)) != NULL) {
        TAILQ_REMOVE(&listener->with_batches, connection, batch_link);
        connection->has_batch = false;
        rpc_peer_batch_end(connection->peer);
    }
}

static void *
serve(void *argument)
{
    struct web_listener *listener = argument;
    while (!has_ended(listener)) {
        if (lws_service(listener->context, 0) < 0) {
            log_error("RPC-WEB-SERVICE", NULL, "the web listener has failed and serves nobody: %s", strerror(errno));
            break;
        }
        end_batches(listener);
    }
    tell_stopped(listener);
    return NULL;
}

// ---------------------------------------------------------------- making one

static void
log_library(int level, const char *line)
{
    (void)level;
    log_debug("RPC-WEB-LIBRARY", NULL, "%.*s", (int)strcspn(line, "\n"), line);
}

static enum err
start_library(struct web_listener *listener)
{
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .user = listener,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME |
                   LWS_SERVER_OPTION_NO_LWS_SYSTEM_STATES | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .pt_serv_buf_size = WEB_READ_BYTES,
        .max_http_header_data = HTTP_HEADERS_MAX_BYTES,
        .timeout_secs = RPC_HANDSHAKE_TIMEOUT_MS / 1000,
        .timeout_secs_ah_idle = RPC_HANDSHAKE_TIMEOUT_MS / 1000,
        .retry_and_idle_policy = &idle_policy,
        .vhost_name = "fcd",
        .alpn = "http/1.1", // no HTTP/2, whose WebSockets are another matter
    };
    if (listener->tls != NULL) {
        // Without files: the context gets its certificate in LOAD_EXTRA_SERVER_VERIFY_CERTS.
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX;
    }
    lws_set_log_level(LLL_ERR | LLL_WARN, log_library);
    listener->context = lws_create_context(&info);
    if (listener->context == NULL) {
        return ERR_NO_MEMORY;
    }
    listener->vhost = lws_create_vhost(listener->context, &info);
    return listener->vhost == NULL ? ERR_NO_MEMORY : ERR_OK;
}

static enum err
init_locked(struct web_listener *listener)
{
    if (pthread_mutex_init(&listener->locked.mutex, NULL) != 0) {
        return ERR_NO_MEMORY;
    }
    if (pthread_cond_init(&listener->locked.has_stopped_changed, NULL) != 0) {
        pthread_mutex_destroy(&listener->locked.mutex);
        return ERR_NO_MEMORY;
    }
    return ERR_OK;
}

static void
request(struct web_listener *listener, bool *what)
{
    pthread_mutex_lock(&listener->locked.mutex);
    *what = true;
    pthread_mutex_unlock(&listener->locked.mutex);
    lws_cancel_service(listener->context);
}

static void
web_stop(void *argument)
{
    struct web_listener *listener = argument;
    request(listener, &listener->locked.wants_stop);
    pthread_mutex_lock(&listener->locked.mutex);
    while (!listener->locked.has_stopped) {
        pthread_cond_wait(&listener->locked.has_stopped_changed, &listener->locked.mutex);
    }
    pthread_mutex_unlock(&listener->locked.mutex);
}

static void
web_free(void *argument)
{
    struct web_listener *listener = argument;
    if (listener->has_thread) {
        request(listener, &listener->locked.wants_end);
        (void)pthread_join(listener->thread, NULL);
    }
    if (listener->context != NULL) {
        lws_context_destroy(listener->context);
    }
    pthread_cond_destroy(&listener->locked.has_stopped_changed);
    pthread_mutex_destroy(&listener->locked.mutex);
    free(listener);
}

enum err
rpc_web_listen(struct rpc_server *server, const char *url, char *bound_url_out, void **listener_out,
    struct err_detail *why)
{
    lws_sock_file_fd_type listening = {.filefd = -1};
    struct web_listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL || init_locked(listener) != ERR_OK) {
        free(listener);
        return ERR_NO_MEMORY;
    }
    listener->server = server;
    TAILQ_INIT(&listener->connections);
    TAILQ_INIT(&listener->with_batches);
    TAILQ_INIT(&listener->contents);
    TAILQ_INIT(&listener->locked.pending);
    TAILQ_INIT(&listener->locked.pending_contents);

    listener->tls = strncmp(url, "https:", strlen("https:")) == 0 ? rpc_server_tls(server) : NULL;
    enum err err = web_socket_listen(url, bound_url_out, &listening.filefd, why);
    if (err == ERR_OK) {
        err = start_library(listener);
    }
    if (err == ERR_OK) {
        listener->listening =
            lws_adopt_descriptor_vhost(listener->vhost, LWS_ADOPT_RAW_FILE_DESC, listening, protocols[0].name, NULL);
        if (listener->listening == NULL) {
            err = ERR_NO_MEMORY;
        } else {
            listening.filefd = -1; // libwebsockets closes it
        }
    }
    if (err == ERR_OK) {
        err = thread_start(&listener->thread, "fc-web", serve, listener);
    }
    if (err != ERR_OK) {
        if (listening.filefd >= 0) {
            (void)close(listening.filefd);
        }
        web_free(listener);
        return err;
    }
    listener->has_thread = true;
    *listener_out = listener;
    return ERR_OK;
}

const struct rpc_listener_ops rpc_web_listener_ops = {
    .stop = web_stop,
    .free = web_free,
};
