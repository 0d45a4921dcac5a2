// The server's life: services, listeners, the limits in all, and the way to its end.
//
// The end, in order: refuse new calls and stop accepting; wait for the calls in flight; close the connections, which
// writes what they are owed; free the listeners, after which no peer has a connection; end the workers and the timers.
// What is still referred to (calls that nobody has answered yet, feeds not yet released) keeps the memory, and nothing
// else.
#include "rpc/rpc_server.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/rpc_health.h"
#include "rpc/rpc_reflection.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats_service.h"

enum {
    DEFAULT_WORKER_THREADS = 4,
    DEFAULT_MAX_CONNECTIONS = 10000,
    DEFAULT_MAX_CALLS_PER_CONNECTION = 1024,
    DEFAULT_MAX_CALLS = 16384,
    DEFAULT_MAX_STREAMS_PER_CONNECTION = 128,
    DEFAULT_KEEPALIVE_MS = 30 * 1000,
    DEFAULT_MAX_RECEIVED_BYTES = 256 * 1024 * 1024,
    DEFAULT_MAX_REPLY_BYTES = 16 * 1024 * 1024,
    // For the last replies to reach a client that reads, when draining has any patience at all.
    LINGER_MS = 1000,
};

// The transports, by the beginning of their URLs.
static const struct scheme {
    const char *prefix;
    enum err (*listen)(struct rpc_server *server, const char *url, char *bound_url_out, void **listener_out,
        struct err_detail *why);
    const struct rpc_listener_ops *ops;
} schemes[] = {
    {"tcp://", rpc_native_listen, &rpc_native_listener_ops},
    {"tls+tcp://", rpc_native_listen, &rpc_native_listener_ops},
    {"ipc://", rpc_native_listen, &rpc_native_listener_ops},
    {"http://", rpc_web_listen, &rpc_web_listener_ops},
    {"https://", rpc_web_listen, &rpc_web_listener_ops},
};

void
rpc_server_hold(struct rpc_server *server)
{
    atomic_fetch_add_explicit(&server->references, 1, memory_order_relaxed);
}

void
rpc_server_release(struct rpc_server *server)
{
    if (atomic_fetch_sub_explicit(&server->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rpc_method_table_deinit(&server->methods);
    rpc_stats_service_free(&server->stats_service);
    rpc_health_free(&server->health);
    rpc_reflection_free(&server->reflection);
    rpc_rate_free(&server->rate);
    rpc_once_free(&server->once);
    free(server->stats.unknown_method);
    free(server->metrics);
    pthread_mutex_destroy(&server->load.mutex);
    pthread_mutex_destroy(&server->feeds_mutex);
    pthread_cond_destroy(&server->rounds.wake);
    pthread_mutex_destroy(&server->rounds.mutex);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->run.wake);
    pthread_mutex_destroy(&server->run.mutex);
    free(server);
}

static void
set_default(size_t *option, size_t value)
{
    if (*option == 0) {
        *option = value;
    }
}

static void
init_locks(struct rpc_server *server)
{
    // With these attributes none of them can fail on Linux.
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_cond_init(&server->run.wake, NULL);
    (void)pthread_mutex_init(&server->run.mutex, NULL);
    (void)pthread_mutex_init(&server->mutex, NULL);
    (void)pthread_mutex_init(&server->feeds_mutex, NULL);
    (void)pthread_mutex_init(&server->rounds.mutex, NULL);
    (void)pthread_cond_init(&server->rounds.wake, NULL);
    STAILQ_INIT(&server->rounds.due);
    (void)pthread_mutex_init(&server->load.mutex, NULL);
}

static void
on_keepalive(struct timer *timer)
{
    struct rpc_server *server = (struct rpc_server *)((char *)timer - offsetof(struct rpc_server, keepalive));
    struct rpc_peer *peer;
    pthread_mutex_lock(&server->mutex);
    LIST_FOREACH(peer, &server->locked.peers, link)
    {
        rpc_peer_keep_alive(peer);
    }
    pthread_mutex_unlock(&server->mutex);
    if (timer_start(server->timers, timer, server->options.keepalive_ms) != ERR_OK) {
        log_warn("RPC-KEEPALIVE-ENDS", NULL, "no memory for the timer: clients that vanish are not noticed any more");
    }
}

// What every server offers.
static enum err
add_own_services(struct rpc_server *server)
{
    enum err err = rpc_reflection_new(server, &server->methods, &server->reflection);
    if (err == ERR_OK) {
        err = rpc_health_new(server, &server->health);
    }
    if (err == ERR_OK && server->options.authenticate != NULL) {
        err = rpc_stats_service_new(server, &server->stats_service);
    }
    return err;
}

enum err
rpc_server_new(const struct rpc_server_options *options, struct rpc_server **out)
{
    struct rpc_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return ERR_NO_MEMORY;
    }
    server->options = *options;
    if (server->options.worker_threads == 0) {
        server->options.worker_threads = DEFAULT_WORKER_THREADS;
    }
    if (server->options.keepalive_ms == 0) {
        server->options.keepalive_ms = DEFAULT_KEEPALIVE_MS;
    }
    set_default(&server->options.max_connections, DEFAULT_MAX_CONNECTIONS);
    set_default(&server->options.max_calls_per_connection, DEFAULT_MAX_CALLS_PER_CONNECTION);
    set_default(&server->options.max_calls, DEFAULT_MAX_CALLS);
    set_default(&server->options.max_streams_per_connection, DEFAULT_MAX_STREAMS_PER_CONNECTION);
    set_default(&server->options.max_received_bytes, DEFAULT_MAX_RECEIVED_BYTES);
    set_default(&server->options.max_reply_bytes_per_connection, DEFAULT_MAX_REPLY_BYTES);
    server->ticket_lifetime_ms = RPC_TICKET_LIFETIME_MS;
    atomic_init(&server->references, 1);
    LIST_INIT(&server->listeners);
    TAILQ_INIT(&server->run.locked.peers);
    LIST_INIT(&server->locked.peers);
    TAILQ_INIT(&server->locked.paused);
    init_locks(server);
    server->stats.started_ms = clock_monotonic_ms();
    server->methods.writer_count = 1 + server->options.worker_threads;
    server->stats.unknown_method = rpc_stats_cells_new(server->methods.writer_count);
    enum err err = server->stats.unknown_method != NULL ? timer_queue_new(&server->timers) : ERR_NO_MEMORY;
    if (err == ERR_OK) {
        err = rpc_once_new(&server->once);
    }
    if (err == ERR_OK && server->options.calls_per_second > 0) {
        err = rpc_rate_new(server->options.calls_per_second, &server->rate);
    }
    if (err == ERR_OK) {
        err = add_own_services(server);
    }
    if (err == ERR_OK) {
        err = rpc_workers_start(server);
    }
    if (err == ERR_OK) {
        err = rpc_feed_rounds_start(server);
    }
    if (err == ERR_OK) {
        server->keepalive.on_expiry = on_keepalive;
        err = timer_start(server->timers, &server->keepalive, server->options.keepalive_ms);
    }
    if (err != ERR_OK) {
        rpc_server_free(&server);
        return err;
    }
    *out = server;
    return ERR_OK;
}

enum err
rpc_server_add_service(struct rpc_server *server, ProtobufCService *service, const struct rpc_method_rule *rules,
    size_t rule_count)
{
    return rpc_method_table_add(&server->methods, service, rules, rule_count, server->options.authenticate != NULL);
}

enum err
rpc_server_describe(struct rpc_server *server, struct bytes_view descriptor_set)
{
    return rpc_reflection_describe(server->reflection, descriptor_set);
}

enum err
rpc_server_add_metric(struct rpc_server *server, const struct rpc_metric *metric)
{
    size_t size = (server->metric_count + 1) * sizeof(*metric);
    struct rpc_metric *metrics = realloc(server->metrics, size);
    if (metrics == NULL) {
        return ERR_NO_MEMORY;
    }
    server->metrics = metrics;
    metrics[server->metric_count++] = *metric;
    return ERR_OK;
}

static const struct scheme *
find_scheme(const char *url)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0) {
            return &schemes[i];
        }
    }
    return NULL;
}

enum err
rpc_server_listen(struct rpc_server *server, const char *url, char bound_url_out[RPC_URL_MAX_BYTES],
    struct err_detail *why)
{
    const struct scheme *scheme = find_scheme(url);
    if (scheme == NULL) {
        return err_fail(why, ERR_INVALID,
            "\"%s\" is no address to listen on; use tls+tcp://HOST:PORT, tcp://HOST:PORT, ipc://PATH or "
            "http://HOST:PORT",
            url);
    }
    if (server->options.tls == NULL &&
        (strncmp(url, "tls+", strlen("tls+")) == 0 || strncmp(url, "https:", strlen("https:")) == 0)) {
        return err_fail(why, ERR_PRECONDITION, "%s needs a certificate", url);
    }
    struct rpc_listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL) {
        return ERR_NO_MEMORY;
    }
    listener->ops = scheme->ops;
    enum err err = scheme->listen(server, url, bound_url_out, &listener->listener, why);
    if (err != ERR_OK) {
        free(listener);
        return err;
    }
    LIST_INSERT_HEAD(&server->listeners, listener, link);
    return ERR_OK;
}

struct rpc_tls_server *
rpc_server_tls(struct rpc_server *server)
{
    return server->options.tls;
}

void
rpc_server_set_content(struct rpc_server *server, const struct rpc_content_handler *handler)
{
    server->content = handler;
}

const struct rpc_content_handler *
rpc_server_content(const struct rpc_server *server)
{
    return server->content;
}

struct timer_queue *
rpc_server_timers(struct rpc_server *server)
{
    return server->timers;
}

void
rpc_server_forget_tokens(struct rpc_server *server)
{
    atomic_fetch_add_explicit(&server->token_generation, 1, memory_order_acq_rel);
}

void
rpc_server_pause_peer(struct rpc_server *server, struct rpc_peer *peer)
{
    rpc_peer_set_received_pause(peer, true);
    pthread_mutex_lock(&server->mutex);
    if (!peer->is_in_paused) {
        peer->is_in_paused = true;
        rpc_peer_hold(peer);
        TAILQ_INSERT_TAIL(&server->locked.paused, peer, paused_link);
    }
    atomic_store(&server->has_paused, true);
    pthread_mutex_unlock(&server->mutex);
    // Whoever freed the bytes meanwhile may not have seen that there is somebody to resume.
    if (atomic_load(&server->received_bytes) <= server->options.max_received_bytes / 2) {
        rpc_server_resume_peers(server);
    }
}

bool
rpc_server_take_bytes(struct rpc_server *server, size_t bytes)
{
    return atomic_fetch_add(&server->received_bytes, bytes) + bytes <= server->options.max_received_bytes;
}

void
rpc_server_give_back_bytes(struct rpc_server *server, size_t bytes)
{
    size_t received_bytes = atomic_fetch_sub(&server->received_bytes, bytes) - bytes;
    if (atomic_load(&server->has_paused) && received_bytes <= server->options.max_received_bytes / 2) {
        rpc_server_resume_peers(server);
    }
}

static struct rpc_peer *
pop_paused(struct rpc_server *server)
{
    pthread_mutex_lock(&server->mutex);
    struct rpc_peer *peer = TAILQ_FIRST(&server->locked.paused);
    if (peer != NULL) {
        TAILQ_REMOVE(&server->locked.paused, peer, paused_link);
        peer->is_in_paused = false;
    } else {
        atomic_store(&server->has_paused, false);
    }
    pthread_mutex_unlock(&server->mutex);
    return peer;
}

void
rpc_server_resume_peers(struct rpc_server *server)
{
    struct rpc_peer *peer;
    while ((peer = pop_paused(server)) != NULL) {
        rpc_peer_set_received_pause(peer, false);
        rpc_peer_release(peer, 1);
    }
}

void
rpc_server_call_ended(struct rpc_server *server)
{
    if (atomic_load(&server->is_draining)) {
        pthread_mutex_lock(&server->mutex);
        pthread_cond_broadcast(&server->changed);
        pthread_mutex_unlock(&server->mutex);
    }
}

// wait_locked waits for a change until a time on clock_monotonic_ms. Returns false when it has come.
static bool
wait_locked(struct rpc_server *server, uint64_t until_ms)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ms / 1000),
        .tv_nsec = (long)(until_ms % 1000) * 1000000,
    };
    return pthread_cond_timedwait(&server->changed, &server->mutex, &until) == 0;
}

void
rpc_server_drain(struct rpc_server *server, unsigned timeout_ms)
{
    uint64_t until_ms = clock_monotonic_ms() + timeout_ms;
    pthread_mutex_lock(&server->mutex);
    bool is_first = !atomic_exchange(&server->is_draining, true);
    pthread_mutex_unlock(&server->mutex);
    if (!is_first) {
        return;
    }
    struct rpc_listener *listener;
    LIST_FOREACH(listener, &server->listeners, link)
    {
        listener->ops->stop(listener->listener);
    }
    struct rpc_peer *peer;
    pthread_mutex_lock(&server->mutex);
    LIST_FOREACH(peer, &server->locked.peers, link)
    {
        rpc_peer_say_going_away(peer);
    }
    while (atomic_load(&server->call_count) > 0 && wait_locked(server, until_ms)) {
    }
    pthread_mutex_unlock(&server->mutex);
    rpc_feeds_end(server);

    uint64_t now_ms = clock_monotonic_ms();
    uint64_t linger_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    if (timeout_ms > 0 && linger_ms < LINGER_MS) {
        linger_ms = LINGER_MS;
    }
    pthread_mutex_lock(&server->mutex);
    LIST_FOREACH(peer, &server->locked.peers, link)
    {
        rpc_peer_close(peer, (unsigned)linger_ms);
    }
    while (server->locked.peer_count > 0 && wait_locked(server, now_ms + linger_ms)) {
    }
    pthread_mutex_unlock(&server->mutex);
}

void
rpc_server_free(struct rpc_server **server)
{
    if (*server == NULL) {
        return;
    }
    struct rpc_server *self = *server;
    *server = NULL;
    rpc_server_drain(self, 0);
    while (!LIST_EMPTY(&self->listeners)) {
        struct rpc_listener *listener = LIST_FIRST(&self->listeners);
        LIST_REMOVE(listener, link);
        listener->ops->free(listener->listener);
        free(listener);
    }
    rpc_workers_stop(self);
    rpc_feed_rounds_stop(self);
    timer_queue_free(&self->timers);
    rpc_server_release(self);
}
