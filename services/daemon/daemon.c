// Wiring. The services do not know each other: what one needs of a sibling is a callback that is made here. They are
// freed after the server, whose calls they answer, and before the store, whose writer thread calls them.
#include "services/daemon/daemon.h"

#include <errno.h>
#include <fc_proto_services_descriptors.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/file.h"
#include "rpc/rpc_server.h"
#include "services/auth/auth_service.h"
#include "services/chat/chat_service.h"
#include "services/daemon/daemon_lock.h"
#include "services/filestore/filestore_service.h"
#include "services/store/blob.h"
#include "services/store/store.h"

struct daemon {
    char data_dir[DAEMON_PATH_MAX_BYTES]; // absolute
    int lock_fd;
    struct store *store;
    struct blob_store *blobs;
    struct auth_service *auth;
    struct rpc_server *server;
    struct filestore_service *filestore;
    struct chat_service *chat;
    struct bytes ready_line;
};

_Static_assert(DAEMON_PATH_MAX_BYTES >= PATH_MAX, "realpath writes up to PATH_MAX bytes");

// --- What the services ask each other ------------------------------------------------------------------------------

static void
on_revoked(void *context, const uint8_t session_id[16])
{
    const struct daemon *daemon = context;
    rpc_server_forget_tokens(daemon->server);
    chat_service_end_session(daemon->chat, session_id);
}

static enum err
find_shared_file(void *context, struct store_tx *tx, const uint8_t room_id[16], const uint8_t file_id[16],
    struct chat_file *file_out)
{
    _Static_assert(sizeof(file_out->name) == sizeof(((struct filestore_shared_file *)0)->name), "names fit both ways");
    const struct daemon *daemon = context;
    struct filestore_shared_file file;
    enum err err = filestore_service_find_shared(daemon->filestore, tx, room_id, file_id, &file);
    if (err != ERR_OK) {
        return err;
    }
    memset(file_out, 0, sizeof(*file_out));
    memcpy(file_out->file_id, file_id, sizeof(file_out->file_id));
    memcpy(file_out->name, file.name, sizeof(file_out->name));
    memcpy(file_out->md5, file.md5, sizeof(file_out->md5));
    file_out->size_bytes = file.size_bytes;
    return ERR_OK;
}

static enum err
find_member_room(void *context, struct store_tx *tx, const char *room, const uint8_t user_id[16],
    struct filestore_room *room_out, struct err_detail *why)
{
    _Static_assert(sizeof(room_out->name) == sizeof(((struct chat_room_ref *)0)->name), "names fit both ways");
    const struct daemon *daemon = context;
    struct chat_room_ref found;
    enum err err = chat_service_find_member_room(daemon->chat, tx, room, user_id, &found, why);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(room_out->room_id, found.room_id, sizeof(room_out->room_id));
    memcpy(room_out->name, found.name, sizeof(room_out->name));
    return ERR_OK;
}

static enum err
is_member(void *context, struct store_tx *tx, const uint8_t room_id[16], const uint8_t user_id[16], bool *is_member_out)
{
    const struct daemon *daemon = context;
    return chat_service_is_member(daemon->chat, tx, room_id, user_id, is_member_out);
}

// --- Start ----------------------------------------------------------------------------------------------------------

static enum err
open_data_dir(struct daemon *daemon, const char *dir, struct err_detail *why)
{
    enum err err = file_make_dirs(dir, S_IRWXU);
    if (err != ERR_OK) {
        return err_fail(why, err, "the data folder %s cannot be made: %s; give another with --data", dir,
            err == ERR_EXISTS ? "a file is in the way" : err_sentence(err));
    }
    if (realpath(dir, daemon->data_dir) == NULL) {
        return err_fail(why, err_from_errno(errno), "the data folder %s cannot be used: %s", dir, strerror(errno));
    }
    err = daemon_lock_take(daemon->data_dir, &daemon->lock_fd, why);
    if (err == ERR_OK) {
        err = store_open(daemon->data_dir, &daemon->store, why);
    }
    if (err == ERR_OK) {
        err = blob_store_open(daemon->data_dir, &daemon->blobs, why);
    }
    return err;
}

// Makes the services and the server, each after those that it takes at birth. What they call back comes later.
static enum err
make_services(struct daemon *daemon, const struct daemon_options *options, struct err_detail *why)
{
    struct auth_service_options auth = {
        .store = daemon->store,
        .is_signup_closed = options->is_signup_closed,
        .token_lifetime_ms = options->token_lifetime_ms,
        .on_revoked = on_revoked,
        .context = daemon,
    };
    enum err err = auth_service_new(&auth, &daemon->auth, why);
    if (err != ERR_OK) {
        return err;
    }
    struct rpc_server_options server = {
        .authenticate = auth_service_authenticate,
        .authenticate_context = daemon->auth,
        .has_public_metrics = options->has_public_metrics,
    };
    err = rpc_server_new(&server, &daemon->server);
    if (err != ERR_OK) {
        return err;
    }
    struct filestore_service_options filestore = {
        .store = daemon->store,
        .blobs = daemon->blobs,
        .find_member_room = find_member_room,
        .is_member = is_member,
        .context = daemon,
    };
    err = filestore_service_new(&filestore, &daemon->filestore, why);
    if (err != ERR_OK) {
        return err;
    }
    struct chat_service_options chat = {.store = daemon->store,
        .server = daemon->server,
        .find_shared_file = find_shared_file,
        .context = daemon};
    return chat_service_new(&chat, &daemon->chat, why);
}

static enum err
add_service(struct daemon *daemon, ProtobufCService *service, const struct rpc_method_rule *(*rules)(size_t *count_out))
{
    size_t count = 0;
    const struct rpc_method_rule *rows = rules(&count);
    return rpc_server_add_service(daemon->server, service, rows, count);
}

static enum err
add_services(struct daemon *daemon)
{
    enum err err = add_service(daemon, auth_service_rpc(daemon->auth), auth_service_rules);
    if (err == ERR_OK) {
        err = add_service(daemon, chat_service_rpc(daemon->chat), chat_service_rules);
    }
    if (err == ERR_OK) {
        err = add_service(daemon, filestore_service_rpc(daemon->filestore), filestore_service_rules);
    }
    if (err == ERR_OK) {
        err = rpc_server_describe(daemon->server,
            bytes_view_of(fc_proto_services_descriptors, fc_proto_services_descriptors_bytes));
    }
    return err;
}

static uint64_t
read_store_transactions(void *store)
{
    struct store_stats stats;
    store_read_stats(store, &stats);
    return stats.transactions;
}

static uint64_t
read_store_jobs(void *store)
{
    struct store_stats stats;
    store_read_stats(store, &stats);
    return stats.jobs;
}

static uint64_t
read_store_waiting_jobs(void *store)
{
    struct store_stats stats;
    store_read_stats(store, &stats);
    return stats.waiting_jobs;
}

static enum err
add_metrics(struct daemon *daemon)
{
    const struct rpc_metric metrics[] = {
        {"fc_store_transactions_total", "Transactions that wrote to the database.", true, read_store_transactions,
            daemon->store},
        {"fc_store_jobs_total", "Writes to the database; many of them share a transaction.", true, read_store_jobs,
            daemon->store},
        {"fc_store_jobs_waiting", "Writes that wait for a transaction.", false, read_store_waiting_jobs, daemon->store},
    };
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        err = rpc_server_add_metric(daemon->server, &metrics[i]);
    }
    return err;
}

// --- Listeners ------------------------------------------------------------------------------------------------------

static bool
has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

// Whether only this machine can reach a URL.
static bool
is_local(const char *url)
{
    const char *host = strstr(url, "://");
    return host == NULL || has_prefix(url, "ipc://") || has_prefix(host, "://127.") || has_prefix(host, "://[::1]") ||
           has_prefix(host, "://localhost:");
}

static enum err
listen_on(struct daemon *daemon, const char *url, const char *separator, struct err_detail *why)
{
    char bound[RPC_URL_MAX_BYTES];
    enum err err = rpc_server_listen(daemon->server, url, bound, why);
    if (err == ERR_BUSY) {
        return err_fail(why, err, "%s is in use by another program: end it, or give another address", url);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!is_local(bound)) {
        log_warn("FCD-NO-TLS", NULL,
            "%s can be reached from other machines and is not encrypted: whoever is in between can read messages and"
            " files and take over logins; listen on 127.0.0.1 behind ssh, a VPN or a TLS proxy instead",
            bound);
    }
    err = bytes_append(&daemon->ready_line, bytes_view_of_text(separator));
    return err == ERR_OK ? bytes_append(&daemon->ready_line, bytes_view_of_text(bound)) : err;
}

static enum err
listen_default(struct daemon *daemon, struct err_detail *why)
{
    char url[DAEMON_PATH_MAX_BYTES + sizeof("ipc:///fcd.sock")];
    enum err err = listen_on(daemon, DAEMON_DEFAULT_TCP_URL, " rpc=", why);
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(url, sizeof(url), "ipc://%s/fcd.sock", daemon->data_dir);
    if (strlen(url) - strlen("ipc://") >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        log_warn("FCD-NO-IPC", NULL, "the data folder's path is too long for %s, so only TCP is offered", url);
        return ERR_OK;
    }
    return listen_on(daemon, url, ",", why);
}

static enum err
check_scheme(const char *option, const char *url, bool is_right, const char *expected, struct err_detail *why)
{
    if (!is_right) {
        return err_fail(why, ERR_INVALID, "%s takes %s, not \"%s\"", option, expected, url);
    }
    return ERR_OK;
}

static enum err
listen_all(struct daemon *daemon, const struct daemon_options *options, struct err_detail *why)
{
    enum err err = bytes_append(&daemon->ready_line, bytes_view_of_text("ready"));
    if (err == ERR_OK && options->listen_count == 0) {
        err = listen_default(daemon, why);
    }
    for (size_t i = 0; err == ERR_OK && i < options->listen_count; i++) {
        const char *url = options->listen_urls[i];
        err = check_scheme("--listen", url, has_prefix(url, "tcp://") || has_prefix(url, "ipc://"),
            "tcp://HOST:PORT or ipc://PATH", why);
        if (err == ERR_OK) {
            err = listen_on(daemon, url, i == 0 ? " rpc=" : ",", why);
        }
    }
    if (err == ERR_OK && options->http_url == NULL) {
        err = bytes_append(&daemon->ready_line, bytes_view_of_text(" http=off"));
    } else if (err == ERR_OK) {
        err = check_scheme("--http", options->http_url, has_prefix(options->http_url, "http://"),
            "http://HOST:PORT or off", why);
        if (err == ERR_OK) {
            err = listen_on(daemon, options->http_url, " http=", why);
        }
    }
    return err == ERR_OK ? bytes_append(&daemon->ready_line, bytes_view_of_text("\n")) : err;
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

enum err
daemon_new(const struct daemon_options *options, struct daemon **out, struct err_detail *why)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    if (daemon == NULL) {
        return ERR_NO_MEMORY;
    }
    daemon->lock_fd = -1;
    enum err err = open_data_dir(daemon, options->data_dir, why);
    if (err == ERR_OK) {
        err = make_services(daemon, options, why);
    }
    if (err == ERR_OK) {
        err = add_services(daemon);
    }
    if (err == ERR_OK) {
        err = add_metrics(daemon);
    }
    if (err == ERR_OK) {
        err = listen_all(daemon, options, why);
    }
    if (err != ERR_OK) {
        daemon_free(&daemon);
        return err;
    }
    *out = daemon;
    return ERR_OK;
}

struct bytes_view
daemon_ready_line(const struct daemon *daemon)
{
    return bytes_as_view(&daemon->ready_line);
}

void
daemon_drain(struct daemon *daemon, unsigned timeout_ms)
{
    rpc_server_drain(daemon->server, timeout_ms);
}

static enum err
do_nothing(struct store_tx *tx, struct store_job *job)
{
    (void)tx;
    (void)job;
    return ERR_OK;
}

// Waits until the writes that are queued have ended, whose operations belong to services.
static void
flush_store(struct store *store)
{
    struct store_job job = {.run = do_nothing};
    enum err err = store_write_wait(store, &job);
    if (err != ERR_OK) {
        log_error("FCD-STORE", NULL, "the last write to the database failed: %s", err_sentence(err));
    }
}

void
daemon_free(struct daemon **daemon)
{
    struct daemon *self = *daemon;
    if (self == NULL) {
        return;
    }
    if (self->chat != NULL) {
        chat_service_stop(self->chat);
    }
    // A logout that waits for the store still calls on_revoked: its call keeps the server's memory, and self->server
    // has to go on saying where that is.
    struct rpc_server *server = self->server;
    rpc_server_free(&server);
    if (self->store != NULL) {
        flush_store(self->store);
    }
    // Those first that wait for their operations, which may still call the others.
    auth_service_free(&self->auth);
    filestore_service_free(&self->filestore);
    chat_service_free(&self->chat);
    blob_store_close(&self->blobs);
    store_close(&self->store);
    daemon_lock_release(&self->lock_fd);
    bytes_free(&self->ready_line);
    free(self);
    *daemon = NULL;
}
