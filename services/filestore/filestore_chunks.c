// Chunks: Upload and Download.
//
// Upload: look (worker) -> hash (filestore_whole.c) -> write and sync (blob store) -> record (store) -> answer. The row
// of a chunk comes after its bytes and never changes, so a chunk that counts as arrived is whole after any crash, and
// one without a row is simply sent again. A chunk being stored is on the service's list from before the look until
// after its row is durable; so of two with other content one always meets the other, on the list or as a row.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_service_priv.h"

struct filestore_upload_op {
    struct filestore_part part;
    struct blob_write write;
    struct store_job job;
    TAILQ_ENTRY(filestore_upload_op) link; // guarded by the service's mutex

    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__UploadRequest *request;
    Fc__Filestore__V1__UploadResponse_Closure reply;
    bool is_listed;
    bool is_in_hand; // of the service's wholes

    // Found by the look.
    bool is_large;
    bool has_arrived;
    const char *reason;
    struct err_detail why;
};

static bool
is_same_place(const struct filestore_upload_op *a, const struct filestore_upload_op *b)
{
    return a->part.index == b->part.index && memcmp(a->part.upload_id, b->part.upload_id, FILESTORE_ID_BYTES) == 0;
}

// upload_enter puts the chunk on the list, unless one with other content is being stored at the same place.
static enum err
upload_enter(struct filestore_upload_op *op)
{
    struct filestore_service *filestore = op->filestore;
    struct filestore_upload_op *other;
    enum err err = ERR_OK;

    pthread_mutex_lock(&filestore->locked.mutex);
    TAILQ_FOREACH(other, &filestore->locked.uploads, link)
    {
        if (is_same_place(op, other) &&
            memcmp(op->part.announced_md5, other->part.announced_md5, DIGEST_MD5_BYTES) != 0) {
            err = err_fail(&op->why, ERR_CONFLICT,
                "chunk %llu is being stored with other content at this moment: send it again",
                (unsigned long long)op->part.index);
            break;
        }
    }
    if (err == ERR_OK) {
        TAILQ_INSERT_TAIL(&filestore->locked.uploads, op, link);
        op->is_listed = true;
    }
    pthread_mutex_unlock(&filestore->locked.mutex);
    return err;
}

// upload_finish answers and frees.
static void
upload_finish(struct filestore_upload_op *op, enum err result, const char *reason)
{
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__UploadResponse response = FC__FILESTORE__V1__UPLOAD_RESPONSE__INIT;

    if (op->is_in_hand) {
        filestore_wholes_leave(&op->part, result == ERR_OK);
    }
    if (op->is_listed) {
        pthread_mutex_lock(&filestore->locked.mutex);
        TAILQ_REMOVE(&filestore->locked.uploads, op, link);
        pthread_mutex_unlock(&filestore->locked.mutex);
    }
    if (result == ERR_NOT_FOUND) {
        err_fail(&op->why, result, "you have no such upload: it was cancelled, or is older than 7 days");
    } else if (result == ERR_NO_SPACE) {
        err_fail(&op->why, result,
            "the server's disk is full: chunk %llu was not stored; the upload can go on when its operator has made "
            "room",
            (unsigned long long)op->part.index);
    } else if (result == ERR_IO) {
        // The next try writes the same bytes again, and a disk that has failed once may take them.
        result = err_fail(&op->why, ERR_UNAVAILABLE, "the server's disk has failed, and chunk %llu was not stored",
            (unsigned long long)op->part.index);
    }
    if (result == ERR_OK) {
        response.md5.data = op->part.announced_md5; // and proven
        response.md5.len = sizeof(op->part.announced_md5);
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, result, &op->why, reason != NULL ? reason : op->reason);
    }
    free(op);
    filestore_end(filestore);
}

static enum err
upload_run_record(struct store_tx *tx, struct store_job *job)
{
    const struct filestore_upload_op *op =
        (const void *)((const char *)job - offsetof(struct filestore_upload_op, job));
    const struct filestore_part *part = &op->part;
    return filestore_core_add_chunk(tx, part->upload_id, part->index, &part->digests, (uint32_t)part->data.size);
}

static void
upload_recorded(struct store_job *job, enum err result)
{
    struct filestore_upload_op *op = (void *)((char *)job - offsetof(struct filestore_upload_op, job));
    upload_finish(op, result, NULL);
}

static void
upload_written(struct blob_write *write, enum err result)
{
    struct filestore_upload_op *op = (void *)((char *)write - offsetof(struct filestore_upload_op, write));

    if (result != ERR_OK) {
        upload_finish(op, result, NULL);
        return;
    }
    op->job.run = upload_run_record;
    op->job.done = upload_recorded;
    store_write(op->filestore->store, &op->job);
}

static bool
upload_is_cancelled(struct filestore_part *part)
{
    return rpc_call_is_cancelled(((struct filestore_upload_op *)part)->call);
}

static void
upload_hashed(struct filestore_part *part, enum err result)
{
    struct filestore_upload_op *op = (struct filestore_upload_op *)part;

    if (result == ERR_CORRUPT) {
        err_fail(&op->why, result,
            "chunk %llu was damaged on its way: its bytes do not have the MD5 that came with it; send it again",
            (unsigned long long)part->index);
        upload_finish(op, result, "CHUNK_MD5_MISMATCH");
        return;
    }
    if (result != ERR_OK) {
        upload_finish(op, result, NULL);
        return;
    }
    memcpy(op->write.id, part->upload_id, sizeof(op->write.id));
    op->write.offset = part->offset;
    op->write.data = part->data;
    op->write.is_large = op->is_large;
    op->write.done = upload_written;
    blob_upload_write(op->filestore->blobs, &op->write);
}

// upload_check_unknown checks a chunk of an upload of unknown size: each may be the last, and what has come so far
// counts as what the file will have.
static enum err
upload_check_unknown(struct store_tx *tx, struct filestore_upload_op *op, const struct filestore_file *file)
{
    size_t size = op->request->data.len;

    if (op->part.index >= FILESTORE_FILE_MAX_BYTES / file->chunk_bytes || size == 0 || size > file->chunk_bytes) {
        return err_fail(&op->why, ERR_OUT_OF_RANGE,
            "chunk %llu of \"%s\" cannot have %zu bytes: each has %lu, but for the last",
            (unsigned long long)op->part.index, file->name, size, (unsigned long)file->chunk_bytes);
    }
    uint64_t end = op->part.index * file->chunk_bytes + size;
    if (end <= file->size_bytes) {
        return ERR_OK;
    }
    enum err err = filestore_names_check_quota(tx, &op->filestore->quotas, file->owner_id,
        file->has_room ? file->room.room_id : NULL, end - file->size_bytes, true, &op->why);
    if (err == ERR_LIMIT) {
        op->reason = "QUOTA";
    }
    return err;
}

// upload_look checks the chunk against the plan and what has arrived.
static enum err
upload_look(struct store_tx *tx, void *context)
{
    struct filestore_upload_op *op = context;
    struct filestore_file file;
    struct filestore_chunk arrived;
    uint32_t size = 0;

    enum err err = filestore_core_find_own(tx, op->part.upload_id, rpc_call_identity(op->call)->subject_id, &file);
    if (err != ERR_OK) {
        return err;
    }
    if (file.is_size_unknown && !file.is_committed) {
        err = upload_check_unknown(tx, op, &file);
        if (err != ERR_OK) {
            return err;
        }
        size = (uint32_t)op->request->data.len;
    } else if (filestore_core_chunk_size(&file, op->part.index, &size) != ERR_OK) {
        return err_fail(&op->why, ERR_OUT_OF_RANGE, "\"%s\" has %llu chunks, counted from 0: there is no chunk %llu",
            file.name, (unsigned long long)filestore_core_chunk_count(&file), (unsigned long long)op->part.index);
    }
    if (op->request->data.len != size) {
        return err_fail(&op->why, ERR_OUT_OF_RANGE, "chunk %llu of \"%s\" has %lu bytes, not %zu",
            (unsigned long long)op->part.index, file.name, (unsigned long)size, op->request->data.len);
    }
    op->part.offset = op->part.index * file.chunk_bytes;
    op->is_large = file.size_bytes >= BLOB_LARGE_BYTES;
    err = filestore_core_find_chunk(tx, file.blob_id, op->part.index, &arrived);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    op->has_arrived = err == ERR_OK;
    if (err == ERR_OK && memcmp(arrived.md5, op->part.announced_md5, sizeof(arrived.md5)) != 0) {
        err = err_fail(&op->why, ERR_CONFLICT,
            "chunk %llu of \"%s\" has arrived with other content: cancel the upload and begin again",
            (unsigned long long)op->part.index, file.name);
    }
    return err;
}

void
filestore_chunks_upload(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__UploadRequest *request,
    Fc__Filestore__V1__UploadResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    uint8_t upload_id[FILESTORE_ID_BYTES];

    if (!filestore_check_id(call, "upload_id", &request->upload_id, upload_id)) {
        return;
    }
    if (request->md5.len != DIGEST_MD5_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "md5 has %zu bytes; it is the MD5 of data, %d bytes", request->md5.len,
            DIGEST_MD5_BYTES);
        return;
    }
    struct filestore_upload_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->filestore = filestore;
    op->call = call;
    op->request = request;
    op->reply = reply;
    op->part.index = request->index;
    memcpy(op->part.upload_id, upload_id, sizeof(upload_id));
    op->part.data = bytes_view_of(request->data.data, request->data.len);
    op->part.hints = bytes_view_of(request->md5_hints.data, request->md5_hints.len);
    op->part.is_cancelled = upload_is_cancelled;
    op->part.done = upload_hashed;
    memcpy(op->part.announced_md5, request->md5.data, sizeof(op->part.announced_md5));

    enum err err = upload_enter(op);
    if (err == ERR_OK) {
        err = store_read(filestore->store, upload_look, op);
    }
    if (err != ERR_OK || op->has_arrived) {
        upload_finish(op, err, NULL);
        return;
    }
    op->is_in_hand = true;
    filestore_wholes_hash(&filestore->wholes, &op->part);
}

struct download_op {
    struct work work; // first: the pool gives its address
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__DownloadRequest *request;
    Fc__Filestore__V1__DownloadResponse_Closure reply;
    uint8_t file_id[FILESTORE_ID_BYTES];
    struct filestore_file file;
    struct filestore_chunk chunk;
    uint32_t size;
    struct err_detail why;
};

static enum err
download_look(struct store_tx *tx, void *context)
{
    struct download_op *op = context;
    uint64_t index = op->request->index;

    enum err err = filestore_access_find_id(tx, &op->filestore->rooms, op->file_id,
        rpc_call_identity(op->call)->subject_id, &op->file);
    if (err == ERR_NOT_FOUND) {
        return err_fail(&op->why, err, "there is no such file");
    }
    if (err != ERR_OK) {
        return err;
    }
    if (filestore_core_chunk_size(&op->file, index, &op->size) != ERR_OK) {
        return err_fail(&op->why, ERR_OUT_OF_RANGE,
            "\"%s\" has %llu segments, counted from 0: there is no segment %llu", op->file.name,
            (unsigned long long)filestore_core_chunk_count(&op->file), (unsigned long long)index);
    }
    err = filestore_core_find_chunk(tx, op->file.blob_id, index, &op->chunk);
    return err == ERR_NOT_FOUND ? ERR_INTERNAL : err;
}

// download_damaged says so to the caller and to the operator, who has to restore the file.
static enum err
download_damaged(struct download_op *op, enum err cause)
{
    char id[2 * FILESTORE_ID_BYTES + 1];

    bytes_to_hex(bytes_view_of(op->file.blob_id, sizeof(op->file.blob_id)), id);
    log_error("FILE-DAMAGED", NULL,
        "segment %llu of file %s cannot be read as it was stored (%s): restore objects/%.2s/%s from a backup, or have "
        "the file uploaded again",
        (unsigned long long)op->request->index, id, err_name(cause), id, id);
    if (cause != ERR_IO) {
        filestore_note_damage(op->filestore, op->file.blob_id);
    }
    return err_fail(&op->why, ERR_CORRUPT,
        "segment %llu of \"%s\" is damaged on the server's disk: ask its owner to upload the file again",
        (unsigned long long)op->request->index, op->file.name);
}

static void
download_run(struct work *work)
{
    struct download_op *op = (struct download_op *)work;
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__DownloadResponse response = FC__FILESTORE__V1__DOWNLOAD_RESPONSE__INIT;
    uint8_t sha256[DIGEST_SHA256_BYTES];
    uint8_t *data = NULL;
    enum err err = rpc_call_is_cancelled(op->call) ? ERR_CANCELLED : ERR_OK;

    if (err == ERR_OK) {
        err = store_read(filestore->store, download_look, op);
    }
    if (err == ERR_OK) {
        data = blob_memory(op->size);
        err = data != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        err = filestore_read_content(filestore, op->file.blob_id, op->file.size_bytes,
            op->request->index * op->file.chunk_bytes, data, op->size);
        if (err == ERR_OK && !op->request->is_checked_by_caller) {
            err = digest_of(DIGEST_SHA256, bytes_view_of(data, op->size), sha256);
            if (err == ERR_OK && memcmp(sha256, op->chunk.sha256, sizeof(sha256)) != 0) {
                err = ERR_CORRUPT;
            }
        }
        if (err == ERR_CORRUPT || err == ERR_NOT_FOUND || err == ERR_OUT_OF_RANGE || err == ERR_IO) {
            err = download_damaged(op, err);
        }
    }
    if (err == ERR_OK) {
        response.md5.data = op->chunk.md5;
        response.md5.len = sizeof(op->chunk.md5);
        response.sha256.data = op->chunk.sha256;
        response.sha256.len = sizeof(op->chunk.sha256);
        response.data.data = data;
        response.data.len = op->size;
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, err, &op->why, NULL);
    }
    free(data);
    free(op);
    filestore_end(filestore);
}

void
filestore_chunks_download(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__DownloadRequest *request, Fc__Filestore__V1__DownloadResponse_Closure reply,
    void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    uint8_t file_id[FILESTORE_ID_BYTES];

    if (!filestore_check_id(call, "file_id", &request->file_id, file_id)) {
        return;
    }
    struct download_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->work.run = download_run;
    op->filestore = filestore;
    op->call = call;
    op->request = request;
    op->reply = reply;
    memcpy(op->file_id, file_id, sizeof(file_id));
    work_pool_submit(filestore->chunk_pool, &op->work);
}
