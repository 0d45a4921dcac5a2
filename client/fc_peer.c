// The peer's parts, their start and their end.
#include "client/fc_peer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "client/fc_peer_priv.h"
#include "swarm/swarm_url.h"

enum {
    ANNOUNCE_WAIT_MS = 5000, // beyond it the peer goes on trying by itself
    DRAIN_MS = 5000,         // for those who are being sent something
    POOL_THREADS = 2,        // one may look through folders while downloads are told of
};

#define DEFAULT_URL_LOCAL "tcp://127.0.0.1:0"
#define DEFAULT_URL "tls+tcp://0.0.0.0:0"

bool
fc_peer_is_stopping(struct fc_peer *peer)
{
    pthread_mutex_lock(&peer->locked.mutex);
    bool is_stopping = peer->locked.is_stopping;
    pthread_mutex_unlock(&peer->locked.mutex);
    return is_stopping;
}

// make_dir makes the peer's own folder, and its path absolute: the current folder may change.
static enum err
make_dir(struct fc_peer *peer, struct err_detail *why)
{
    enum err err = file_make_dirs(peer->dir, S_IRWXU);
    if (err != ERR_OK) {
        return err_fail(why, err, "the folder %s cannot be made: %s", peer->dir, err_sentence(err));
    }
    char *absolute = realpath(peer->dir, NULL);
    if (absolute == NULL || strlen(absolute) >= sizeof(peer->dir)) {
        free(absolute);
        return err_fail(why, ERR_PRECONDITION, "the folder %s cannot be used", peer->dir);
    }
    memcpy(peer->dir, absolute, strlen(absolute) + 1);
    free(absolute);
    return ERR_OK;
}

static enum err
resolve_folders(struct fc_peer *peer, const struct fc_peer_options *options, struct err_detail *why)
{
    struct stat status;
    peer->folders = calloc(options->folder_count + 1, sizeof(peer->folders[0]));
    if (peer->folders == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < options->folder_count; i++) {
        const char *folder = options->folders[i];
        peer->folders[i] = realpath(folder, NULL);
        if (peer->folders[i] == NULL) {
            return err_fail(why, err_from_errno(errno), "the folder \"%s\" cannot be shared: %s", folder,
                strerror(errno));
        }
        peer->folder_count++;
        if (stat(peer->folders[i], &status) != 0 || !S_ISDIR(status.st_mode)) {
            return err_fail(why, ERR_INVALID, "\"%s\" is no folder", folder);
        }
    }
    return ERR_OK;
}

static enum err
open_tls(struct fc_peer *peer, struct err_detail *why)
{
    static const char *const names[] = {"localhost"}; // it is known by its fingerprint
    char folder[FC_CONFIG_PATH_MAX_BYTES];
    char certificate[FC_CONFIG_PATH_MAX_BYTES + sizeof("/certificate.pem")];
    char key[FC_CONFIG_PATH_MAX_BYTES + sizeof("/key.pem")];
    int length = snprintf(folder, sizeof(folder), "%s/tls", peer->dir);
    if (length < 0 || (size_t)length >= sizeof(folder)) {
        return err_fail(why, ERR_PRECONDITION, "the path of the data folder is too long: set FC_DATA_DIR");
    }
    (void)snprintf(certificate, sizeof(certificate), "%s/certificate.pem", folder);
    (void)snprintf(key, sizeof(key), "%s/key.pem", folder);
    enum err err = file_make_dirs(folder, S_IRWXU);
    if (err == ERR_OK && access(certificate, F_OK) != 0) {
        err = rpc_tls_server_make_certificate(certificate, key, names, sizeof(names) / sizeof(names[0]), why);
    }
    if (err == ERR_OK) {
        err = rpc_tls_server_new(&(struct rpc_tls_server_options){.certificate_path = certificate, .key_path = key},
            &peer->tls, why);
    }
    return err;
}

static enum err
choose_url(struct fc_peer *peer, const struct fc_peer_options *options, const char **url_out, struct err_detail *why)
{
    const char *url = options->listen_url;
    if (url == NULL) {
        url = swarm_url_is_local(fc_session_server_url(peer->session)) ? DEFAULT_URL_LOCAL : DEFAULT_URL;
    }
    bool has_tls = strncmp(url, "tls+tcp://", strlen("tls+tcp://")) == 0;
    if (!has_tls && strncmp(url, "tcp://", strlen("tcp://")) != 0) {
        return err_fail(why, ERR_INVALID, "a peer listens at tls+tcp://HOST:PORT, or tcp:// on loopback, not \"%s\"",
            url);
    }
    if (!has_tls && !swarm_url_is_local(url)) {
        return err_fail(why, ERR_INVALID, "%s could be reached from other machines, without encryption: use tls+tcp",
            url);
    }
    *url_out = url;
    return has_tls ? open_tls(peer, why) : ERR_OK;
}

static enum err
make_node(struct fc_peer *peer, const struct fc_peer_options *options, struct err_detail *why)
{
    char name[SWARM_NAME_MAX_BYTES];
    char host[SWARM_NAME_MAX_BYTES - FC_USER_NAME_MAX_BYTES] = "";
    if (gethostname(host, sizeof(host) - 1) != 0 || !text_is_utf8(bytes_view_of_text(host)) || host[0] == '\0') {
        (void)snprintf(host, sizeof(host), "a machine");
    }
    const char *user_name = fc_session_user_name(peer->session);
    (void)snprintf(name, sizeof(name), "%s%s%s", user_name, user_name[0] != '\0' ? "@" : "", host);
    const struct swarm_node_options node = {
        .kind = SWARM_PEER,
        .data_dir = peer->dir,
        .name = name,
        .limit_bytes_per_s = options->limit_bytes_per_s,
        .origin_url = fc_session_server_url(peer->session),
        .origin_tls = fc_session_tls(peer->session),
        .token = fc_session_token(peer->session),
        .tls = peer->tls,
    };
    enum err err = swarm_node_new(&node, &peer->node, why);
    return err == ERR_BUSY ? err_fail(why, ERR_CONFLICT, "a peer of this account runs already; see fc peer status")
                           : err;
}

static enum err
listen_for_readers(struct fc_peer *peer, const char *url, struct err_detail *why)
{
    enum err err = rpc_server_listen(swarm_node_server(peer->node), url, peer->url, why);
    if (err == ERR_OK) {
        const char *const urls[] = {peer->url};
        err = swarm_node_announce(peer->node, urls, 1, why);
    }
    if (err == ERR_OK) {
        err = swarm_node_wait(peer->node, ANNOUNCE_WAIT_MS, why);
    }
    return err == ERR_TIMEOUT ? ERR_OK : err;
}

static enum err
listen_for_control(struct fc_peer *peer, struct err_detail *why)
{
    char path[FC_CONFIG_PATH_MAX_BYTES];
    char url[RPC_URL_MAX_BYTES];
    char bound[RPC_URL_MAX_BYTES];
    size_t rule_count = 0;
    enum err err = fc_peer_socket_path(peer->dir, path, why);
    if (err == ERR_OK) {
        err = rpc_server_new(&(struct rpc_server_options){.worker_threads = 1}, &peer->control);
    }
    if (err == ERR_OK) {
        const struct rpc_method_rule *rules = fc_peer_service_rules(&rule_count);
        fc_peer_service_init(peer);
        err = rpc_server_add_service(peer->control, &peer->rpc.base, rules, rule_count);
    }
    if (err == ERR_OK) {
        (void)snprintf(url, sizeof(url), "ipc://%.*s", (int)sizeof(url) - (int)sizeof("ipc://"), path);
        err = rpc_server_listen(peer->control, url, bound, why);
    }
    return err;
}

// The first look through the folders.
struct first_scan {
    struct work work; // first: the pool gives its address
    struct fc_peer *peer;
};

static void
run_first_scan(struct work *work)
{
    struct first_scan *scan = (struct first_scan *)work;
    struct err_detail why = {0};
    uint32_t unknown_count = 0;
    enum err err = fc_peer_scan(scan->peer, &unknown_count, &why);
    if (err != ERR_OK && err != ERR_CANCELLED) {
        log_warn("PEER-SCAN", NULL, "the folders could not be looked through; try fc peer update: %s",
            err_message(&why, err));
    }
    free(scan);
}

static enum err
begin_scan(struct fc_peer *peer)
{
    struct first_scan *scan = malloc(sizeof(*scan));
    if (scan == NULL) {
        return ERR_NO_MEMORY;
    }
    *scan = (struct first_scan){.work = {.run = run_first_scan}, .peer = peer};
    work_pool_submit(peer->pool, &scan->work);
    return ERR_OK;
}

enum err
fc_peer_start(struct fc_session *session, const struct fc_peer_options *options, struct fc_peer **out,
    struct err_detail *why)
{
    const char *url = NULL;
    struct fc_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return ERR_NO_MEMORY;
    }
    peer->session = session;
    pthread_mutex_init(&peer->scan_mutex, NULL);
    pthread_mutex_init(&peer->locked.mutex, NULL);
    peer->stop_fd = eventfd(0, EFD_CLOEXEC);
    enum err err = peer->stop_fd >= 0 ? fc_peer_dir(session, peer->dir, why) : err_from_errno(errno);
    if (err == ERR_OK) {
        err = make_dir(peer, why);
    }
    if (err == ERR_OK) {
        err = resolve_folders(peer, options, why);
    }
    if (err == ERR_OK) {
        err = choose_url(peer, options, &url, why);
    }
    if (err == ERR_OK) {
        err = work_pool_new("peer", POOL_THREADS, &peer->pool);
    }
    if (err == ERR_OK) {
        err = make_node(peer, options, why);
    }
    if (err == ERR_OK) {
        err = listen_for_readers(peer, url, why);
    }
    if (err == ERR_OK) {
        err = listen_for_control(peer, why);
    }
    if (err == ERR_OK) {
        err = begin_scan(peer);
    }
    if (err != ERR_OK) {
        fc_peer_free(&peer);
        return err;
    }
    *out = peer;
    return ERR_OK;
}

const char *
fc_peer_url(const struct fc_peer *peer)
{
    return peer->url;
}

void
fc_peer_wait(struct fc_peer *peer, int stop_fd)
{
    struct pollfd fds[] = {{.fd = peer->stop_fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
    while (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0 && errno == EINTR) {
    }
}

// The order: no more orders, no more readers, then what the pool has begun, then what it used.
void
fc_peer_free(struct fc_peer **peer_ref)
{
    struct fc_peer *peer = *peer_ref;
    if (peer == NULL) {
        return;
    }
    pthread_mutex_lock(&peer->locked.mutex);
    peer->locked.is_stopping = true;
    pthread_mutex_unlock(&peer->locked.mutex);
    if (peer->node != NULL) {
        swarm_node_drain(peer->node, DRAIN_MS);
    }
    rpc_server_free(&peer->control);
    work_pool_free(&peer->pool);
    swarm_node_free(&peer->node);
    rpc_tls_server_free(&peer->tls);
    for (size_t i = 0; i < peer->folder_count; i++) {
        free(peer->folders[i]);
    }
    free(peer->folders);
    if (peer->stop_fd >= 0) {
        (void)close(peer->stop_fd);
    }
    pthread_mutex_destroy(&peer->locked.mutex);
    pthread_mutex_destroy(&peer->scan_mutex);
    free(peer);
    *peer_ref = NULL;
}
