// Put: many small files, checked on a thread of the pool and stored in one transaction, which costs one sync for all.
//
// Their contents are kept in the database: a file and a folder to sync for each would cost more than the content. A
// file's id follows from the request and its place in it, so that a request that comes again finds what it stored.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_service_priv.h"

struct put_file {
    struct filestore_file file;
    struct bytes_view data;
    enum err checked; // what was wrong with the request
    enum err result;
    struct err_detail why;
};

struct put_op {
    struct work work; // first: the pool gives its address
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__PutRequest *request;
    Fc__Filestore__V1__PutResponse_Closure reply;
    struct put_file *files;
    bool has_room;
    struct filestore_room room;
    uint64_t left_bytes; // of the quotas
    struct err_detail why;
};

// put_code is the google.rpc.Code of a refusal.
static uint32_t
put_code(enum err err)
{
    switch ((int)err) {
    case ERR_OK:
        return 0;
    case ERR_INVALID:
        return 3;
    case ERR_LIMIT:
        return 8;
    case ERR_CONFLICT:
        return 10;
    case ERR_CORRUPT:
        return 15;
    default:
        return 13;
    }
}

static enum err
put_answer(const struct put_op *op)
{
    size_t count = op->request->n_files;
    Fc__Filestore__V1__PutResponse response = FC__FILESTORE__V1__PUT_RESPONSE__INIT;
    Fc__Filestore__V1__PutResult *results = calloc(count + 1, sizeof(*results));
    Fc__Filestore__V1__PutResult **pointers = calloc(count + 1, sizeof(*pointers));
    Fc__Filestore__V1__File *files = calloc(count + 1, sizeof(*files));
    enum err err = results == NULL || pointers == NULL || files == NULL ? ERR_NO_MEMORY : ERR_OK;

    if (err == ERR_OK) {
        for (size_t i = 0; i < count; i++) {
            const struct put_file *put = &op->files[i];
            fc__filestore__v1__put_result__init(&results[i]);
            results[i].code = put_code(put->result);
            pointers[i] = &results[i];
            if (put->result == ERR_OK) {
                filestore_file_to_wire(&put->file, &files[i]);
                results[i].file = &files[i];
            } else {
                results[i].message = filestore_wire_text(err_message(&put->why, put->result));
            }
        }
        response.results = pointers;
        response.n_results = count;
        op->reply(&response, op->call);
    }
    free(files);
    free(pointers);
    free(results);
    return err;
}

static void
put_finish(struct put_op *op, enum err result)
{
    struct filestore_service *filestore = op->filestore;

    if (result == ERR_NO_SPACE) {
        err_fail(&op->why, result, "the server's disk is full: nothing was stored");
    }
    if (result == ERR_OK) {
        result = put_answer(op);
    }
    if (result != ERR_OK) {
        filestore_fail(op->call, result, &op->why, NULL);
    }
    free(op->files);
    free(op);
    filestore_end(filestore);
}

static enum err
put_add_chunks(struct store_tx *tx, const struct put_file *put)
{
    const struct filestore_file *file = &put->file;
    enum err err = ERR_OK;

    for (uint64_t i = 0; err == ERR_OK && i < filestore_core_chunk_count(file); i++) {
        struct filestore_chunk chunk;
        uint32_t size = 0;
        err = filestore_core_chunk_size(file, i, &size);
        struct bytes_view data = bytes_view_of(put->data.data + i * file->chunk_bytes, size);
        if (err == ERR_OK && size == file->size_bytes) {
            memcpy(chunk.md5, file->md5, sizeof(chunk.md5));
            memcpy(chunk.sha256, file->sha256, sizeof(chunk.sha256));
        } else if (err == ERR_OK) {
            err = digest_of(DIGEST_MD5, data, chunk.md5);
            if (err == ERR_OK) {
                err = digest_of(DIGEST_SHA256, data, chunk.sha256);
            }
        }
        if (err == ERR_OK) {
            err = filestore_core_add_chunk(tx, file->id, i, &chunk, size);
        }
    }
    return err;
}

// put_one stores one file, or leaves in it why not: only an error of the store is returned.
static enum err
put_one(struct store_tx *tx, struct put_op *op, struct put_file *put)
{
    struct filestore_file found;
    struct filestore_content same;
    bool was_garbage = false;

    enum err err = filestore_core_find_own(tx, put->file.id, put->file.owner_id, &found);
    if (err == ERR_OK && found.is_committed && memcmp(found.sha256, put->file.sha256, sizeof(found.sha256)) == 0) {
        put->file = found;
        put->file.room = op->room;
        return ERR_OK;
    }
    if (err != ERR_NOT_FOUND) {
        put->result = err != ERR_OK ? err : err_fail(&put->why, ERR_CONFLICT, "this request_id has stored other files");
        return err;
    }
    put->result = filestore_core_check_version(tx, &put->file, &put->why);
    if (put->result == ERR_OK && put->file.size_bytes > op->left_bytes) {
        put->result = err_fail(&put->why, ERR_LIMIT,
            "\"%s\" has %llu bytes, and the quota leaves %llu: delete some files, or ask the server's operator for "
            "more",
            put->file.name, (unsigned long long)put->file.size_bytes, (unsigned long long)op->left_bytes);
    }
    if (put->result != ERR_OK) {
        return put->result == ERR_CONFLICT || put->result == ERR_LIMIT ? ERR_OK : put->result;
    }
    err = filestore_core_add_upload(tx, &put->file, &was_garbage, &put->why);
    if (err == ERR_CONFLICT || err == ERR_LIMIT) {
        put->result = err;
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = filestore_contents_find_same(tx, put->file.md5, put->file.sha256, put->file.size_bytes, &same);
        if (err == ERR_NOT_FOUND || (err == ERR_OK && same.is_damaged)) {
            err = filestore_contents_add_inline(tx, put->file.id, put->data);
            if (err == ERR_OK) {
                err = put_add_chunks(tx, put);
            }
        }
    }
    if (err == ERR_OK) {
        err = filestore_core_commit(tx, &put->file, clock_unix_ms(), &put->why);
    }
    if (err == ERR_OK) {
        err = filestore_core_find_any(tx, put->file.id, &put->file);
        put->file.room = op->room;
        op->left_bytes -= put->file.size_bytes;
    }
    return err;
}

static enum err
put_run_record(struct store_tx *tx, struct store_job *job)
{
    struct put_op *op = (void *)((char *)job - offsetof(struct put_op, job));
    const struct filestore_rooms *rooms = &op->filestore->rooms;
    const uint8_t *user_id = rpc_call_identity(op->call)->subject_id;
    enum err err = ERR_OK;

    memset(&op->why, 0, sizeof(op->why));
    op->has_room = op->request->room[0] != '\0';
    if (op->has_room) {
        err = rooms->find_member_room(rooms->context, tx, op->request->room, user_id, &op->room, &op->why);
    }
    if (err == ERR_OK) {
        err = filestore_names_quota_left(tx, &op->filestore->quotas, user_id, op->has_room ? op->room.room_id : NULL,
            &op->left_bytes);
    }
    for (size_t i = 0; err == ERR_OK && i < op->request->n_files; i++) {
        struct put_file *put = &op->files[i];
        put->result = put->checked;
        put->file.has_room = op->has_room;
        put->file.room = op->room;
        if (put->result == ERR_OK) {
            err = put_one(tx, op, put);
        }
    }
    if (err == ERR_OK) {
        err = filestore_names_yield_deleted(tx, &op->filestore->quotas, user_id);
    }
    return err;
}

static void
put_recorded(struct store_job *job, enum err result)
{
    put_finish((void *)((char *)job - offsetof(struct put_op, job)), result);
}

// put_id derives a file's id from the request's and its place. Those of one request follow each other, so that their
// rows are neighbours in every index, and share its pages, which is most of what there is to be written.
static enum err
put_id(const struct put_op *op, uint32_t place, uint8_t id_out[FILESTORE_ID_BYTES])
{
    static const char purpose[] = "put";
    struct bytes_view request_id = rpc_call_request_id(op->call);
    const uint8_t *user_id = rpc_call_identity(op->call)->subject_id;
    uint8_t text[FILESTORE_ID_BYTES + sizeof(purpose)];

    if (request_id.size != FILESTORE_ID_BYTES) {
        return filestore_core_upload_id(user_id, bytes_view_of(NULL, 0), id_out);
    }
    memcpy(text, request_id.data, request_id.size);
    memcpy(text + request_id.size, purpose, sizeof(purpose));
    enum err err = filestore_core_upload_id(user_id, bytes_view_of(text, sizeof(text)), id_out);
    if (err == ERR_OK) {
        bytes_store_be32(id_out + FILESTORE_ID_BYTES - sizeof(place), place);
    }
    return err;
}

static enum err
put_check(struct put_op *op, size_t place)
{
    const struct rpc_identity *caller = rpc_call_identity(op->call);
    const Fc__Filestore__V1__PutFile *request = op->request->files[place];
    struct put_file *put = &op->files[place];
    struct filestore_file *file = &put->file;
    uint8_t md5[DIGEST_MD5_BYTES];

    put->data = bytes_view_of(request->data.data, request->data.len);
    enum err err = filestore_check_metadata(request->name, request->mime_type, request->mode, &put->why);
    if (err != ERR_OK) {
        return err;
    }
    if (request->md5.len != DIGEST_MD5_BYTES) {
        return err_fail(&put->why, ERR_INVALID, "md5 of \"%s\" has %zu bytes; it is the MD5 of data, %d bytes",
            request->name, request->md5.len, DIGEST_MD5_BYTES);
    }
    memcpy(file->owner_id, caller->subject_id, sizeof(file->owner_id));
    memcpy(file->owner_name, caller->subject_name, sizeof(caller->subject_name));
    memcpy(file->name, request->name, strlen(request->name) + 1);
    memcpy(file->mime_type, request->mime_type, strlen(request->mime_type) + 1);
    file->size_bytes = put->data.size;
    file->chunk_bytes = filestore_core_chunk_bytes(file->size_bytes);
    file->modified_unix_ms = request->modified_at_ms;
    file->mode = request->mode;
    file->has_expected_version = request->is_version_checked;
    file->expected_version = request->expected_version;
    file->created_unix_ms = clock_unix_ms();
    err = put_id(op, (uint32_t)place, file->id);
    memcpy(file->blob_id, file->id, sizeof(file->blob_id));
    if (err == ERR_OK) {
        err = digest_of(DIGEST_MD5, put->data, md5);
    }
    if (err == ERR_OK && memcmp(md5, request->md5.data, sizeof(md5)) != 0) {
        return err_fail(&put->why, ERR_CORRUPT, "\"%s\" was damaged on its way: send it again", request->name);
    }
    memcpy(file->md5, md5, sizeof(file->md5));
    return err == ERR_OK ? digest_of(DIGEST_SHA256, put->data, file->sha256) : err;
}

static void
put_run(struct work *work)
{
    struct put_op *op = (struct put_op *)work;

    if (rpc_call_is_cancelled(op->call)) {
        put_finish(op, ERR_CANCELLED);
        return;
    }
    for (size_t i = 0; i < op->request->n_files; i++) {
        op->files[i].checked = put_check(op, i);
    }
    op->job.run = put_run_record;
    op->job.done = put_recorded;
    store_write(op->filestore->store, &op->job);
}

void
filestore_put(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__PutRequest *request,
    Fc__Filestore__V1__PutResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    size_t bytes = 0;

    for (size_t i = 0; i < request->n_files; i++) {
        bytes += request->files[i]->data.len;
    }
    if (request->n_files > FILESTORE_PUT_FILES_MAX || bytes > FILESTORE_PUT_MAX_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "%zu files with %zu bytes; one call takes %d files with %d bytes in all",
            request->n_files, bytes, FILESTORE_PUT_FILES_MAX, FILESTORE_PUT_MAX_BYTES);
        return;
    }
    struct put_op *op = calloc(1, sizeof(*op));
    struct put_file *files = calloc(request->n_files + 1, sizeof(*files));
    if (op == NULL || files == NULL) {
        free(files);
        free(op);
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->work.run = put_run;
    op->filestore = filestore;
    op->call = call;
    op->request = request;
    op->reply = reply;
    op->files = files;
    work_pool_submit(filestore->plan_pool, &op->work);
}
