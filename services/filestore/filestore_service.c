// The adapter between fc.filestore.v1.FileStore and the core: the service's lifecycle, its rules, and what all methods
// need. The methods are in files of their own.
#include "services/filestore/filestore_service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_http.h"
#include "services/filestore/filestore_links.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    // Threads that hash and read chunks. Two keep two cores busy at some 0.5 GB/s each, and leave the workers alone.
    CHUNK_THREADS = 2,
    // Threads that wait for syncs and read whole files: several, so that the commit of a large file does not hold up
    // those of small ones.
    PLAN_THREADS = 4,
    UPLOAD_REQUEST_MAX_BYTES = FILESTORE_CHUNK_MAX_BYTES + 1024, // the largest chunk, and the fields beside it
    // The content, and 1,000 names of the greatest length with what else is said of each file.
    PUT_REQUEST_MAX_BYTES = FILESTORE_PUT_MAX_BYTES + FILESTORE_PUT_FILES_MAX * 1280,
};

void
filestore_begin(struct filestore_service *filestore)
{
    pthread_mutex_lock(&filestore->locked.mutex);
    filestore->locked.operations++;
    pthread_mutex_unlock(&filestore->locked.mutex);
}

void
filestore_end(struct filestore_service *filestore)
{
    pthread_mutex_lock(&filestore->locked.mutex);
    filestore->locked.operations--;
    if (filestore->locked.operations == 0) {
        pthread_cond_broadcast(&filestore->locked.is_idle);
    }
    pthread_mutex_unlock(&filestore->locked.mutex);
}

void
filestore_fail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason)
{
    bool is_explained = why != NULL && why->message[0] != '\0';

    if (!is_explained && (code == ERR_IO || code == ERR_CORRUPT || code == ERR_INTERNAL)) {
        log_error("FILE-CALL-FAILED", NULL, "a call failed: %s", err_sentence(code));
        code = ERR_INTERNAL;
    }
    struct err_detail unwritable = {0};
    if (!is_explained && code == ERR_DENIED) {
        // Callers who may not do something are told why: this is the disk's refusal, as of one that is read-only.
        log_error("FILE-UNWRITABLE", NULL, "the data folder cannot be written: is its disk read-only?");
        code = err_fail(&unwritable, ERR_INTERNAL, "the server's disk cannot be written: tell its operator");
        why = &unwritable;
        is_explained = true;
    }
    if (reason == NULL && code == ERR_NO_SPACE) {
        reason = "NO_SPACE";
    }
    rpc_call_fail_detail(call, code, is_explained ? why : NULL, reason, 0);
}

bool
filestore_check_id(struct rpc_call *call, const char *field, const ProtobufCBinaryData *id,
    uint8_t out[FILESTORE_ID_BYTES])
{
    if (id->len != FILESTORE_ID_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "%s has %zu bytes; an id has %d", field, id->len, FILESTORE_ID_BYTES);
        return false;
    }
    memcpy(out, id->data, FILESTORE_ID_BYTES);
    return true;
}

ProtobufCBinaryData
filestore_wire_bytes(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

char *
filestore_wire_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

void
filestore_file_to_wire(const struct filestore_file *file, Fc__Filestore__V1__File *out)
{
    fc__filestore__v1__file__init(out);
    out->id = filestore_wire_bytes(file->id, sizeof(file->id));
    out->name = filestore_wire_text(file->name);
    out->size_bytes = file->size_bytes;
    out->md5 = filestore_wire_bytes(file->md5, sizeof(file->md5));
    out->sha256 = filestore_wire_bytes(file->sha256, sizeof(file->sha256));
    out->chunk_size_bytes = file->chunk_bytes;
    out->created_at_ms = file->created_unix_ms;
    out->owner = filestore_wire_text(file->owner_name);
    out->room = filestore_wire_text(file->room.name);
    out->mime_type = filestore_wire_text(file->mime_type);
    out->modified_at_ms = file->modified_unix_ms;
    out->mode = file->mode;
    out->version = file->version;
    out->deleted_at_ms = file->deleted_unix_ms;
    out->expires_at_ms = file->expires_unix_ms;
}

static const struct rpc_method_rule rules[] = {
    {.method = "Save", .access = RPC_ACCESS_TOKEN},
    {.method = "Upload", .access = RPC_ACCESS_TOKEN, .max_request_bytes = UPLOAD_REQUEST_MAX_BYTES},
    {.method = "Commit", .access = RPC_ACCESS_TOKEN},
    {.method = "Cancel", .access = RPC_ACCESS_TOKEN},
    {.method = "ListUploads", .access = RPC_ACCESS_TOKEN},
    {.method = "Stat", .access = RPC_ACCESS_TOKEN},
    {.method = "List", .access = RPC_ACCESS_TOKEN},
    {.method = "Download", .access = RPC_ACCESS_TOKEN},
    {.method = "Put", .access = RPC_ACCESS_TOKEN, .max_request_bytes = PUT_REQUEST_MAX_BYTES},
    {.method = "Rename", .access = RPC_ACCESS_TOKEN},
    {.method = "Delete", .access = RPC_ACCESS_TOKEN},
    {.method = "Restore", .access = RPC_ACCESS_TOKEN},
    {.method = "Share", .access = RPC_ACCESS_TOKEN},
    {.method = "CreateLink", .access = RPC_ACCESS_TOKEN, .executes_once = true},
    {.method = "ListLinks", .access = RPC_ACCESS_TOKEN},
    {.method = "RevokeLink", .access = RPC_ACCESS_TOKEN},
    {.method = "GetGrant", .access = RPC_ACCESS_TOKEN},
    {.method = "GetUsage", .access = RPC_ACCESS_TOKEN},
};

enum err
filestore_service_new(const struct filestore_service_options *options, struct filestore_service **out,
    struct err_detail *why)
{
    struct filestore_service *filestore = calloc(1, sizeof(*filestore));
    if (filestore == NULL) {
        return ERR_NO_MEMORY;
    }
    filestore->rpc = (Fc__Filestore__V1__FileStore_Service){
        .base = {.descriptor = &fc__filestore__v1__file_store__descriptor,
            .invoke = protobuf_c_service_invoke_internal},
        .save = filestore_plans_save,
        .upload = filestore_chunks_upload,
        .commit = filestore_plans_commit,
        .cancel = filestore_plans_cancel,
        .list_uploads = filestore_list_uploads,
        .stat = filestore_stat,
        .list = filestore_list_files,
        .download = filestore_chunks_download,
        .put = filestore_put,
        .rename = filestore_rename,
        .delete = filestore_delete,
        .restore = filestore_restore,
        .share = filestore_share,
        .create_link = filestore_create_link,
        .list_links = filestore_list_links,
        .revoke_link = filestore_revoke_link,
        .get_grant = filestore_get_grant,
        .get_usage = filestore_get_usage,
    };
    filestore->store = options->store;
    filestore->blobs = options->blobs;
    filestore->rooms = (struct filestore_rooms){
        .find_member_room = options->find_member_room,
        .is_member = options->is_member,
        .is_encrypted = options->is_encrypted,
        .context = options->context,
    };
    pthread_mutex_init(&filestore->locked.mutex, NULL);
    pthread_cond_init(&filestore->locked.is_idle, NULL);
    TAILQ_INIT(&filestore->locked.uploads);

    filestore->has_links = !options->has_no_links;
    filestore->find_user = options->find_user;
    filestore->quotas = (struct filestore_quotas){options->user_quota_bytes, options->room_quota_bytes};
    filestore->delete_grace_ms = options->delete_grace_ms;
    filestore->backup_lock_fd = -1;
    enum err err = filestore_core_migrate(options->store, why);
    if (err == ERR_OK && options->backup_lock_path != NULL) {
        filestore->backup_lock_fd = open(options->backup_lock_path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
        if (filestore->backup_lock_fd < 0) {
            err = err_fail(why, err_from_errno(errno), "%s cannot be opened: %s", options->backup_lock_path,
                strerror(errno));
        }
    }
    if (err == ERR_OK) {
        err = filestore_links_migrate(options->store, why);
    }
    if (err == ERR_OK && options->grant_key_path != NULL) {
        err = filestore_grants_open_key(filestore, options->grant_key_path, why);
    }
    if (err == ERR_OK) {
        err = filestore_http_new(filestore, &filestore->http);
    }
    if (err == ERR_OK) {
        err = filestore_sweep_start(filestore, why);
    }
    if (err == ERR_OK) {
        err = work_pool_new_patient("file-chunks", CHUNK_THREADS, &filestore->chunk_pool);
    }
    if (err == ERR_OK) {
        filestore_wholes_init(&filestore->wholes, filestore->chunk_pool, filestore->timers);
    }
    if (err == ERR_OK) {
        err = work_pool_new_patient("file-plans", PLAN_THREADS, &filestore->plan_pool);
    }
    if (err != ERR_OK) {
        filestore_service_free(&filestore);
        return err;
    }
    *out = filestore;
    return ERR_OK;
}

ProtobufCService *
filestore_service_rpc(struct filestore_service *filestore)
{
    return &filestore->rpc.base;
}

const struct rpc_method_rule *
filestore_service_rules(size_t *count_out)
{
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

const struct rpc_content_handler *
filestore_service_content(const struct filestore_service *filestore)
{
    return filestore->has_links ? filestore_http_handler(filestore->http) : NULL;
}

void
filestore_service_set_base_url(struct filestore_service *filestore, const char *url)
{
    pthread_mutex_lock(&filestore->locked.mutex);
    (void)snprintf(filestore->locked.base_url, sizeof(filestore->locked.base_url), "%s", url);
    pthread_mutex_unlock(&filestore->locked.mutex);
}

enum err
filestore_service_find_shared(struct filestore_service *filestore, struct store_tx *tx, const uint8_t room_id[16],
    const uint8_t file_id[16], struct filestore_shared_file *out)
{
    struct filestore_file file;

    (void)filestore;
    enum err err = filestore_access_find_in_room(tx, room_id, file_id, &file);
    if (err == ERR_OK) {
        memcpy(out->name, file.name, sizeof(out->name));
        out->size_bytes = file.size_bytes;
        memcpy(out->md5, file.md5, sizeof(out->md5));
    }
    return err;
}

void
filestore_service_free(struct filestore_service **filestore_ref)
{
    struct filestore_service *filestore = *filestore_ref;

    if (filestore == NULL) {
        return;
    }
    pthread_mutex_lock(&filestore->locked.mutex);
    while (filestore->locked.operations != 0) {
        pthread_cond_wait(&filestore->locked.is_idle, &filestore->locked.mutex);
    }
    pthread_mutex_unlock(&filestore->locked.mutex);
    filestore_wholes_deinit(&filestore->wholes);
    filestore_sweep_stop(filestore);
    work_pool_free(&filestore->plan_pool);
    work_pool_free(&filestore->chunk_pool);
    filestore_http_free(&filestore->http);
    digest_wipe(filestore->grant_key, sizeof(filestore->grant_key));
    if (filestore->backup_lock_fd >= 0) {
        (void)close(filestore->backup_lock_fd);
    }
    pthread_cond_destroy(&filestore->locked.is_idle);
    pthread_mutex_destroy(&filestore->locked.mutex);
    free(filestore);
    *filestore_ref = NULL;
}
