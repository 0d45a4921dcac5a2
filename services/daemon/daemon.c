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
#include "services/auth/auth_keys.h"
#include "services/auth/auth_service.h"
#include "services/chat/chat_service.h"
#include "services/daemon/daemon_listen.h"
#include "services/daemon/daemon_lock.h"
#include "services/daemon/daemon_swarm.h"
#include "services/daemon/daemon_tls.h"
#include "services/filestore/filestore_service.h"
#include "services/store/blob.h"
#include "services/store/store.h"

struct daemon {
    char data_dir[DAEMON_PATH_MAX_BYTES]; // absolute
    int lock_fd;
    struct store *store;
    struct blob_store *blobs;
    struct auth_service *auth;
    struct rpc_tls_server *tls;
    struct rpc_server *server;
    struct filestore_service *filestore;
    struct daemon_swarm *swarm;
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
    daemon_swarm_end_session(daemon->swarm, session_id);
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
find_user(void *context, struct store_tx *tx, const char *name, uint8_t id_out[16])
{
    const struct daemon *daemon = context;
    return auth_service_find_user(daemon->auth, tx, name, id_out);
}

static enum err
find_user_name(void *context, struct store_tx *tx, const uint8_t user_id[16],
    char name_out[TEXT_USER_NAME_MAX_BYTES + 1])
{
    const struct daemon *daemon = context;
    return auth_service_find_user_name(daemon->auth, tx, user_id, name_out);
}

static enum err
find_chain(void *context, struct store_tx *tx, const uint8_t user_id[16], struct e2e_user *out)
{
    const struct daemon *daemon = context;
    enum err err = auth_service_find_chain(daemon->auth, tx, user_id, out);
    if (err == ERR_OK && out->seq == 0) {
        e2e_user_deinit(out);
        err = ERR_NOT_FOUND;
    }
    return err;
}

static enum err
on_device_revoked(void *context, struct store_tx *tx, const uint8_t user_id[16])
{
    const struct daemon *daemon = context;
    return chat_service_device_revoked(daemon->chat, tx, user_id);
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

static enum err
is_encrypted(void *context, struct store_tx *tx, const uint8_t room_id[16], bool *is_encrypted_out)
{
    const struct daemon *daemon = context;
    return chat_service_is_encrypted(daemon->chat, tx, room_id, is_encrypted_out);
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

static void
log_fingerprint(const struct daemon *daemon)
{
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    rpc_tls_server_fingerprint(daemon->tls, fingerprint);
    rpc_tls_fingerprint_format(fingerprint, text);
    log_info("FCD-FINGERPRINT", NULL, "the certificate's SHA-256 fingerprint, to compare on first use, is %s", text);
}

// Makes the services and the server, each after those that it takes at birth. What they call back comes later.
static enum err
make_services(struct daemon *daemon, const struct daemon_options *options, struct err_detail *why)
{
    struct auth_service_options auth = {
        .store = daemon->store,
        .is_signup_closed = options->is_signup_closed,
        .max_users = options->max_users,
        .token_lifetime_ms = options->token_lifetime_ms,
        .on_revoked = on_revoked,
        .on_device_revoked = on_device_revoked,
        .context = daemon,
    };
    enum err err = auth_service_new(&auth, &daemon->auth, why);
    if (err != ERR_OK) {
        return err;
    }
    struct rpc_server_options server = {
        .authenticate = auth_service_authenticate,
        .authenticate_context = daemon->auth,
        .tls = daemon->tls,
        .has_public_metrics = options->has_public_metrics,
        .calls_per_second = options->calls_per_second,
    };
    err = rpc_server_new(&server, &daemon->server);
    if (err != ERR_OK) {
        return err;
    }
    char grant_key_path[DAEMON_PATH_MAX_BYTES + sizeof("/grant.key")];
    (void)snprintf(grant_key_path, sizeof(grant_key_path), "%s/grant.key", daemon->data_dir);
    char backup_lock_path[DAEMON_PATH_MAX_BYTES + sizeof("/" DAEMON_BACKUP_LOCK)];
    (void)snprintf(backup_lock_path, sizeof(backup_lock_path), "%s/" DAEMON_BACKUP_LOCK, daemon->data_dir);
    struct filestore_service_options filestore = {
        .store = daemon->store,
        .blobs = daemon->blobs,
        .find_member_room = find_member_room,
        .is_member = is_member,
        .is_encrypted = is_encrypted,
        .grant_key_path = grant_key_path,
        .has_no_links = options->has_no_links,
        .find_user = find_user,
        .context = daemon,
        .user_quota_bytes = options->user_quota_bytes,
        .room_quota_bytes = options->room_quota_bytes,
        .delete_grace_ms = options->delete_grace_ms,
        .backup_lock_path = backup_lock_path,
    };
    err = filestore_service_new(&filestore, &daemon->filestore, why);
    if (err != ERR_OK) {
        return err;
    }
    struct chat_service_options chat = {.store = daemon->store,
        .server = daemon->server,
        .find_shared_file = find_shared_file,
        .find_user = find_user,
        .find_user_name = find_user_name,
        .find_chain = find_chain,
        .context = daemon,
        .max_rooms_per_user = options->max_rooms_per_user,
        .max_members = options->max_members,
        .sends_per_second = options->sends_per_second};
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
add_services(struct daemon *daemon, const struct daemon_options *options)
{
    enum err err = add_service(daemon, auth_service_rpc(daemon->auth), auth_service_rules);
    if (err == ERR_OK) {
        err = add_service(daemon, auth_keys_rpc(daemon->auth), auth_keys_rules);
    }
    if (err == ERR_OK) {
        err = add_service(daemon, chat_service_rpc(daemon->chat), chat_service_rules);
    }
    if (err == ERR_OK) {
        err = add_service(daemon, filestore_service_rpc(daemon->filestore), filestore_service_rules);
    }
    if (err == ERR_OK) {
        err = daemon_swarm_new(options, daemon->server, daemon->filestore, &daemon->swarm);
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

// What links begin with, where the operator has not said: the web listener's address, unless it is no address that
// anybody could go to.
static void
tell_base_url(const struct daemon *daemon, const struct daemon_options *options)
{
    char url[RPC_URL_MAX_BYTES] = "";
    const struct bytes *line = &daemon->ready_line;
    const char *http = memmem(line->data, line->size, " http=", strlen(" http="));
    if (http != NULL && options->http_url != NULL) {
        http += strlen(" http=");
        size_t size = line->size - 1 - (size_t)(http - (const char *)line->data); // without the end of the line
        (void)snprintf(url, sizeof(url), "%.*s", (int)size, http);
    }
    if (options->public_url != NULL) {
        filestore_service_set_base_url(daemon->filestore, options->public_url);
    } else if (strstr(url, "//0.0.0.0:") == NULL && strstr(url, "//[::]:") == NULL) {
        filestore_service_set_base_url(daemon->filestore, url);
    }
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
        err = daemon_tls_open(options, daemon->data_dir, true, &daemon->tls, why);
    }
    if (err == ERR_OK) {
        err = make_services(daemon, options, why);
    }
    if (err == ERR_OK) {
        err = add_services(daemon, options);
    }
    if (err == ERR_OK) {
        err = add_metrics(daemon);
    }
    if (err == ERR_OK) {
        rpc_server_set_content(daemon->server, filestore_service_content(daemon->filestore));
        err = daemon_listen(daemon->server, options, daemon->data_dir, &daemon->ready_line, why);
    }
    if (err == ERR_OK) {
        err = daemon_swarm_start(daemon->swarm);
    }
    if (err != ERR_OK) {
        daemon_free(&daemon);
        return err;
    }
    tell_base_url(daemon, options);
    log_fingerprint(daemon);
    *out = daemon;
    return ERR_OK;
}

struct bytes_view
daemon_ready_line(const struct daemon *daemon)
{
    return bytes_as_view(&daemon->ready_line);
}

void
daemon_reload_tls(struct daemon *daemon)
{
    struct err_detail why = {0};
    enum err err = rpc_tls_server_reload(daemon->tls, &why);
    if (err == ERR_OK) {
        log_info("FCD-TLS-RELOADED", NULL, "new connections get the certificate as it is now on disk");
        log_fingerprint(daemon);
    } else {
        log_error("FCD-TLS-NOT-RELOADED", NULL, "the certificate in use stays, because %s", err_message(&why, err));
    }
}

void
daemon_drain(struct daemon *daemon, unsigned timeout_ms)
{
    daemon_swarm_stop(daemon->swarm);
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
    if (self->swarm != NULL) {
        daemon_swarm_stop(self->swarm);
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
    daemon_swarm_free(&self->swarm);
    filestore_service_free(&self->filestore);
    chat_service_free(&self->chat);
    blob_store_close(&self->blobs);
    rpc_tls_server_free(&self->tls);
    store_close(&self->store);
    daemon_lock_release(&self->lock_fd);
    bytes_free(&self->ready_line);
    free(self);
    *daemon = NULL;
}
