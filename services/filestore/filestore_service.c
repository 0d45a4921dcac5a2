// The adapter between fc.filestore.v1.FileStore and the core: the methods that only read the database, which run on the
// server's worker threads, and the service's lifecycle. Those that move bytes or change something are in
// filestore_chunks.c and filestore_plans.c.
#include "services/filestore/filestore_service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/filestore/filestore_http.h"
#include "services/filestore/filestore_links.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    // Threads that hash and read chunks. Two keep two cores busy at some 0.5 GB/s each, and leave the workers alone.
    CHUNK_THREADS = 2,
    // Threads that wait for syncs and read whole files: several, so that the commit of a large file does not hold up
    // those of small ones.
    PLAN_THREADS = 4,
    ID_HEX_BYTES = 2 * FILESTORE_ID_BYTES,
    UPLOAD_REQUEST_MAX_BYTES = FILESTORE_CHUNK_MAX_BYTES + 1024, // the largest chunk, and the fields beside it
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

// wire_bytes and wire_text drop const, which protobuf-c has not: a reply is only read.
static ProtobufCBinaryData
wire_bytes(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static char *
wire_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

void
filestore_file_to_wire(const struct filestore_file *file, Fc__Filestore__V1__File *out)
{
    fc__filestore__v1__file__init(out);
    out->id = wire_bytes(file->id, sizeof(file->id));
    out->name = wire_text(file->name);
    out->size_bytes = file->size_bytes;
    out->md5 = wire_bytes(file->md5, sizeof(file->md5));
    out->sha256 = wire_bytes(file->sha256, sizeof(file->sha256));
    out->chunk_size_bytes = file->chunk_bytes;
    out->created_at_ms = file->created_unix_ms;
    out->owner = wire_text(file->owner_name);
    out->room = wire_text(file->room.name);
}

struct stat_query {
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__StatRequest *request;
    struct filestore_file file;
    struct bytes md5s;
    struct bytes sha256s;
    struct err_detail why;
};

static enum err
stat_read(struct store_tx *tx, void *context)
{
    struct stat_query *query = context;
    uint64_t first = query->request->first_segment;

    enum err err = filestore_core_find_file(tx, &query->filestore->rooms, query->request->file,
        rpc_call_identity(query->call)->subject_id, &query->file);
    if (err == ERR_NOT_FOUND) {
        return err_fail(&query->why, err, "there is no file \"%s\"", query->request->file);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (first > filestore_core_chunk_count(&query->file)) {
        return err_fail(&query->why, ERR_OUT_OF_RANGE, "\"%s\" has %llu segments", query->file.name,
            (unsigned long long)filestore_core_chunk_count(&query->file));
    }
    return filestore_core_digests(tx, query->file.id, first, &query->md5s, &query->sha256s);
}

static void
stat_file(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__StatRequest *request,
    Fc__Filestore__V1__StatResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    struct stat_query query = {.filestore = filestore, .call = call, .request = request};
    Fc__Filestore__V1__StatResponse response = FC__FILESTORE__V1__STAT_RESPONSE__INIT;
    Fc__Filestore__V1__File file;

    enum err err = store_read(filestore->store, stat_read, &query);
    if (err == ERR_OK) {
        filestore_file_to_wire(&query.file, &file);
        response.file = &file;
        response.segment_md5s = wire_bytes(query.md5s.data, query.md5s.size);
        response.segment_sha256s = wire_bytes(query.sha256s.data, query.sha256s.size);
        reply(&response, call);
    } else {
        filestore_fail(call, err, &query.why, NULL);
    }
    bytes_free(&query.md5s);
    bytes_free(&query.sha256s);
}

struct list_query {
    struct filestore_service *filestore;
    struct rpc_call *call;
    const char *prefix;
    const char *after_name; // NULL: the first page
    uint8_t after_id[FILESTORE_ID_BYTES];
    size_t limit;
    struct filestore_file *files;
    size_t count;
    bool has_more;
    struct err_detail why;
};

static enum err
list_read(struct store_tx *tx, void *context)
{
    struct list_query *query = context;

    return filestore_core_list(tx, &query->filestore->rooms, rpc_call_identity(query->call)->subject_id, query->prefix,
        query->after_name, query->after_name != NULL ? query->after_id : NULL, query->limit, &query->files,
        &query->count, &query->has_more);
}

// list_parse_token reads a page token: the id of the last file of the page before, in hexadecimal, and its name.
static enum err
list_parse_token(const char *token, struct list_query *query)
{
    char hex[ID_HEX_BYTES + 1];

    if (token[0] == '\0') {
        return ERR_OK;
    }
    enum err err = strlen(token) > ID_HEX_BYTES ? ERR_OK : ERR_INVALID;
    if (err == ERR_OK) {
        memcpy(hex, token, ID_HEX_BYTES);
        hex[ID_HEX_BYTES] = '\0';
        err = bytes_from_hex(hex, query->after_id, sizeof(query->after_id));
    }
    if (err != ERR_OK || strncmp(token + ID_HEX_BYTES, query->prefix, strlen(query->prefix)) != 0) {
        return err_fail(&query->why, ERR_INVALID, "page_token is not from a reply to a List with this prefix");
    }
    query->after_name = token + ID_HEX_BYTES;
    return ERR_OK;
}

static enum err
list_reply(const struct list_query *query, Fc__Filestore__V1__ListResponse_Closure reply)
{
    Fc__Filestore__V1__ListResponse response = FC__FILESTORE__V1__LIST_RESPONSE__INIT;
    Fc__Filestore__V1__File *files = calloc(query->count + 1, sizeof(*files));
    Fc__Filestore__V1__File **pointers = calloc(query->count + 1, sizeof(*pointers));
    char token[ID_HEX_BYTES + FILESTORE_NAME_BYTES];
    enum err err = files == NULL || pointers == NULL ? ERR_NO_MEMORY : ERR_OK;

    if (err == ERR_OK) {
        for (size_t i = 0; i < query->count; i++) {
            filestore_file_to_wire(&query->files[i], &files[i]);
            pointers[i] = &files[i];
        }
        if (query->has_more) {
            const struct filestore_file *last = &query->files[query->count - 1];
            bytes_to_hex(bytes_view_of(last->id, sizeof(last->id)), token);
            memcpy(token + ID_HEX_BYTES, last->name, strlen(last->name) + 1);
            response.next_page_token = token;
        }
        response.files = pointers;
        response.n_files = query->count;
        reply(&response, query->call);
    }
    free(pointers);
    free(files);
    return err;
}

static void
list(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ListRequest *request,
    Fc__Filestore__V1__ListResponse_Closure reply, void *closure_data)
{
    struct list_query query = {
        .filestore = (struct filestore_service *)service,
        .call = closure_data,
        .prefix = request->prefix,
        .limit = request->limit == 0 ? FILESTORE_LIST_MAX : request->limit,
    };
    enum err err = ERR_OK;

    if (query.limit > FILESTORE_LIST_MAX) {
        err = err_fail(&query.why, ERR_INVALID, "limit is %zu; a page has at most %d files", query.limit,
            FILESTORE_LIST_MAX);
    }
    if (err == ERR_OK) {
        err = list_parse_token(request->page_token, &query);
    }
    if (err == ERR_OK) {
        err = store_read(query.filestore->store, list_read, &query);
    }
    if (err == ERR_OK) {
        err = list_reply(&query, reply);
    }
    if (err != ERR_OK) {
        filestore_fail(query.call, err, &query.why, NULL);
    }
    free(query.files);
}

static const struct rpc_method_rule rules[] = {
    {.method = "Save", .access = RPC_ACCESS_TOKEN},
    {.method = "Upload", .access = RPC_ACCESS_TOKEN, .max_request_bytes = UPLOAD_REQUEST_MAX_BYTES},
    {.method = "Commit", .access = RPC_ACCESS_TOKEN},
    {.method = "Cancel", .access = RPC_ACCESS_TOKEN},
    {.method = "Stat", .access = RPC_ACCESS_TOKEN},
    {.method = "List", .access = RPC_ACCESS_TOKEN},
    {.method = "Download", .access = RPC_ACCESS_TOKEN},
    {.method = "Put", .access = RPC_ACCESS_TOKEN},
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

// The sweep at start-up: what is on disk as an upload is an upload, or a file whose last step is missing, or nothing.

struct sweep {
    struct bytes ids; // one after the other
    enum err err;
};

static void
sweep_collect(void *context, const uint8_t id[BLOB_ID_BYTES])
{
    struct sweep *sweep = context;

    if (sweep->err == ERR_OK) {
        sweep->err = bytes_append(&sweep->ids, bytes_view_of(id, BLOB_ID_BYTES));
    }
}

struct sweep_query {
    const uint8_t *id;
    struct filestore_file file;
};

static enum err
sweep_read(struct store_tx *tx, void *context)
{
    struct sweep_query *query = context;
    return filestore_core_find_any(tx, query->id, &query->file);
}

static enum err
sweep_one(struct filestore_service *filestore, const uint8_t id[BLOB_ID_BYTES], size_t *removed_count)
{
    struct sweep_query query = {.id = id};

    enum err err = store_read(filestore->store, sweep_read, &query);
    if (err == ERR_NOT_FOUND) {
        (*removed_count)++;
        return blob_upload_cancel(filestore->blobs, id);
    }
    if (err == ERR_OK && query.file.is_committed) {
        return blob_upload_finish(filestore->blobs, id);
    }
    return err;
}

static enum err
sweep_run_expire(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    return filestore_core_remove_older_uploads(tx, clock_unix_ms() - FILESTORE_UPLOAD_LIFETIME_MS);
}

static enum err
sweep_all(struct filestore_service *filestore, struct err_detail *why)
{
    struct sweep sweep = {.err = ERR_OK};
    struct store_job expire = {.run = sweep_run_expire};
    size_t removed_count = 0;

    enum err err = store_write_wait(filestore->store, &expire);
    if (err == ERR_OK) {
        err = blob_upload_each(filestore->blobs, sweep_collect, &sweep);
    }
    if (err == ERR_OK) {
        err = sweep.err;
    }
    for (size_t at = 0; err == ERR_OK && at < sweep.ids.size; at += BLOB_ID_BYTES) {
        err = sweep_one(filestore, sweep.ids.data + at, &removed_count);
    }
    bytes_free(&sweep.ids);
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot tidy up the uploads on disk: %s", err_sentence(err));
    }
    if (removed_count != 0) {
        log_info("FILE-SWEPT", NULL, "removed what %zu abandoned uploads had left", removed_count);
    }
    return ERR_OK;
}

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
        .stat = stat_file,
        .list = list,
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

    enum err err = filestore_core_migrate(options->store, why);
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
        err = sweep_all(filestore, why);
    }
    if (err == ERR_OK) {
        err = work_pool_new("file-chunks", CHUNK_THREADS, &filestore->chunk_pool);
    }
    if (err == ERR_OK) {
        err = work_pool_new("file-plans", PLAN_THREADS, &filestore->plan_pool);
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
    enum err err = filestore_core_find_shared(tx, room_id, file_id, &file);
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
    work_pool_free(&filestore->plan_pool);
    work_pool_free(&filestore->chunk_pool);
    filestore_http_free(&filestore->http);
    digest_wipe(filestore->grant_key, sizeof(filestore->grant_key));
    pthread_cond_destroy(&filestore->locked.is_idle);
    pthread_mutex_destroy(&filestore->locked.mutex);
    free(filestore);
    *filestore_ref = NULL;
}
