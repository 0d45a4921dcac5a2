// What makes an upload a file: Commit.
//
// Digests, then the row (from here on the file exists), then the content moves to its final place; a move that did not
// happen is made up for by Commit asked again, by the first Download, and at start-up. When the same content is here
// already, the file gets that, and what was sent becomes garbage in the same transaction.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/filestore/filestore_service_priv.h"

struct commit_op {
    struct work work; // first: the pool gives its address
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__CommitRequest *request;
    Fc__Filestore__V1__CommitResponse_Closure reply;
    uint8_t upload_id[FILESTORE_ID_BYTES];
    struct filestore_file file;
    bool has_damaged; // content of the same digests that does not have them any more
    uint8_t damaged_id[FILESTORE_ID_BYTES];
    struct err_detail why;
    const char *reason;
};

static void
commit_finish(struct commit_op *op, enum err result)
{
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__CommitResponse response = FC__FILESTORE__V1__COMMIT_RESPONSE__INIT;
    Fc__Filestore__V1__File file;

    if (result == ERR_NOT_FOUND) {
        err_fail(&op->why, result, "you have no such upload: it was cancelled, or is older than 7 days");
    } else if (result == ERR_NO_SPACE) {
        err_fail(&op->why, result, "the server's disk is full: commit \"%s\" again when its operator has made room",
            op->file.name);
    }
    if (result == ERR_OK) {
        filestore_file_to_wire(&op->file, &file);
        response.file = &file;
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, result, &op->why, op->reason);
    }
    free(op);
    filestore_end(filestore);
}

// commit_look finds the upload and checks that it may be committed; for one that is committed, whether it is the same.
static enum err
commit_look(struct store_tx *tx, void *context)
{
    struct commit_op *op = context;
    const struct filestore_rooms *rooms = &op->filestore->rooms;
    const uint8_t *user_id = rpc_call_identity(op->call)->subject_id;

    enum err err = filestore_core_find_own(tx, op->upload_id, user_id, &op->file);
    if (err != ERR_OK) {
        return err;
    }
    if (op->file.has_room) {
        char hex[2 * FILESTORE_ID_BYTES + 1];
        bytes_to_hex(bytes_view_of(op->file.room.room_id, FILESTORE_ID_BYTES), hex);
        err = rooms->find_member_room(rooms->context, tx, hex, user_id, &op->file.room, &op->why);
        if ((err == ERR_NOT_FOUND || err == ERR_DENIED) && !op->file.is_committed) {
            return err_fail(&op->why, ERR_DENIED,
                "you are no longer in the room that \"%s\" was to be shared with: cancel the upload", op->file.name);
        }
        if (err != ERR_OK && err != ERR_NOT_FOUND && err != ERR_DENIED) {
            return err;
        }
    }
    if (op->file.is_committed) {
        return ERR_OK;
    }
    err = op->file.is_size_unknown ? filestore_core_settle_size(tx, &op->file, op->request->size_bytes, &op->why)
                                   : filestore_core_check_complete(tx, &op->file, &op->why);
    if (err == ERR_PRECONDITION) {
        op->reason = "CHUNKS_MISSING";
    }
    return err;
}

static enum err
commit_compare_one(struct commit_op *op, const uint8_t *wanted, const uint8_t *md5)
{
    if (memcmp(wanted, md5, DIGEST_MD5_BYTES) == 0) {
        return ERR_OK;
    }
    char have[2 * DIGEST_MD5_BYTES + 1];
    bytes_to_hex(bytes_view_of(md5, DIGEST_MD5_BYTES), have);
    op->reason = "FILE_MD5_MISMATCH";
    return err_fail(&op->why, ERR_CORRUPT,
        "what the server has stored of \"%s\" has the MD5 %s, not the one given: cancel the upload and begin again",
        op->file.name, have);
}

// commit_compare compares with what was said at Commit, and at Save.
static enum err
commit_compare(struct commit_op *op, const uint8_t *md5, const uint8_t *planned_md5)
{
    const ProtobufCBinaryData *wanted = &op->request->md5;

    enum err err = wanted->len != 0 ? commit_compare_one(op, wanted->data, md5) : ERR_OK;
    return err == ERR_OK && planned_md5 != NULL ? commit_compare_one(op, planned_md5, md5) : err;
}

// commit_move is the last step. Done again it changes nothing. A file that was deleted for good meanwhile has been
// committed as well.
static void
commit_move(struct work *work)
{
    struct commit_op *op = (struct commit_op *)work;

    if (memcmp(op->file.blob_id, op->upload_id, FILESTORE_ID_BYTES) != 0) {
        filestore_sweep_soon(op->filestore); // the content was here before; what was sent can go
        commit_finish(op, ERR_OK);
        return;
    }
    if (op->has_damaged) {
        filestore_sweep_soon(op->filestore); // the damaged copy can go
    }
    enum err err = blob_upload_finish(op->filestore->blobs, op->upload_id);
    commit_finish(op, err == ERR_NOT_FOUND ? ERR_OK : err);
}

static enum err
commit_run_record(struct store_tx *tx, struct store_job *job)
{
    struct commit_op *op = (void *)((char *)job - offsetof(struct commit_op, job));
    struct filestore_room room = op->file.room;
    enum err err = ERR_OK;

    memset(&op->why, 0, sizeof(op->why));
    op->reason = NULL;
    if (op->has_damaged) {
        err = filestore_contents_mark(tx, op->damaged_id, true);
    }
    if (err == ERR_OK) {
        err = filestore_names_check_quota(tx, &op->filestore->quotas, op->file.owner_id,
            op->file.has_room ? op->file.room.room_id : NULL, op->file.size_bytes, false, &op->why);
        op->reason = err == ERR_LIMIT ? "QUOTA" : NULL;
    }
    if (err == ERR_OK) {
        err = filestore_core_commit(tx, &op->file, clock_unix_ms(), &op->why);
    }
    if (err == ERR_OK) {
        err = filestore_names_yield_deleted(tx, &op->filestore->quotas, op->file.owner_id);
    }
    if (err == ERR_OK) {
        err = filestore_core_find_any(tx, op->upload_id, &op->file);
        op->file.room = room;
    }
    return err;
}

static void
commit_recorded(struct store_job *job, enum err result)
{
    struct commit_op *op = (void *)((char *)job - offsetof(struct commit_op, job));

    if (result != ERR_OK) {
        commit_finish(op, result);
        return;
    }
    op->work.run = commit_move;
    work_pool_submit(op->filestore->plan_pool, &op->work);
}

static enum err
commit_find_same(struct store_tx *tx, void *context)
{
    struct filestore_content *content = context;
    return filestore_contents_find_same(tx, content->md5, content->sha256, content->size_bytes, content);
}

// commit_check_same reads the content that would take the place of what was sent: what was sent is known to be whole.
static enum err
commit_check_same(struct commit_op *op)
{
    struct filestore_content content = {.size_bytes = op->file.size_bytes};

    memcpy(content.md5, op->file.md5, sizeof(content.md5));
    memcpy(content.sha256, op->file.sha256, sizeof(content.sha256));
    enum err err = store_read(op->filestore->store, commit_find_same, &content);
    if (err == ERR_OK && !content.is_damaged) {
        err = filestore_verify_content(op->filestore, &content);
        op->has_damaged = err == ERR_CORRUPT;
        memcpy(op->damaged_id, content.blob_id, sizeof(op->damaged_id));
    }
    return err == ERR_NOT_FOUND || err == ERR_CORRUPT ? ERR_OK : err;
}

// commit_digest_known checks a content that was not sent, because it was here.
static enum err
commit_digest_known(struct commit_op *op)
{
    struct filestore_content content = {.size_bytes = op->file.size_bytes};

    memcpy(content.blob_id, op->file.blob_id, sizeof(content.blob_id));
    memcpy(content.md5, op->file.md5, sizeof(content.md5));
    memcpy(content.sha256, op->file.sha256, sizeof(content.sha256));
    enum err err = filestore_verify_content(op->filestore, &content);
    if (err == ERR_CORRUPT) {
        filestore_note_damage(op->filestore, op->file.blob_id);
        return err_fail(&op->why, ERR_CONFLICT,
            "the copy of \"%s\" that the server has is damaged: cancel this upload and begin again, and it is sent",
            op->file.name);
    }
    return err;
}

// commit_hash completes the digests that were computed while the chunks came.
static enum err
commit_hash(struct commit_op *op)
{
    struct filestore_whole_digests whole;
    struct filestore_file *file = &op->file;

    enum err err = filestore_wholes_take(&op->filestore->wholes, op->upload_id, &whole);
    if (err != ERR_OK) {
        return err;
    }
    if (whole.size_bytes > file->size_bytes) {
        err = ERR_INTERNAL; // what is in it was recorded as chunks of this file
    } else if (whole.size_bytes < file->size_bytes) {
        err = blob_upload_digest(op->filestore->blobs, op->upload_id, file->size_bytes, &whole.md5, whole.sha256);
    }
    if (err == ERR_OK) {
        md5_chain_final(&whole.md5, file->md5);
        err = sha256_chain_final(whole.sha256, file->sha256);
    }
    sha256_chain_free(&whole.sha256);
    return err;
}

// commit_digest computes the digests of what was sent and compares them with what was said.
static enum err
commit_digest(struct commit_op *op)
{
    struct filestore_file *file = &op->file;
    uint8_t planned_md5[DIGEST_MD5_BYTES];
    uint8_t planned_sha256[DIGEST_SHA256_BYTES];

    memcpy(planned_md5, file->md5, sizeof(planned_md5));
    memcpy(planned_sha256, file->sha256, sizeof(planned_sha256));
    enum err err = commit_hash(op);
    if (err == ERR_OK) {
        err = commit_compare(op, file->md5, file->has_md5 ? planned_md5 : NULL);
    }
    if (err == ERR_OK && file->has_sha256 && memcmp(planned_sha256, file->sha256, sizeof(planned_sha256)) != 0) {
        op->reason = "FILE_MD5_MISMATCH";
        err = err_fail(&op->why, ERR_CORRUPT,
            "what the server has stored of \"%s\" has another SHA-256 than was said: cancel the upload and begin again",
            file->name);
    }
    return err == ERR_OK ? commit_check_same(op) : err;
}

static void
commit_run(struct work *work)
{
    struct commit_op *op = (struct commit_op *)work;
    struct filestore_service *filestore = op->filestore;

    enum err err = store_read(filestore->store, commit_look, op);
    if (err == ERR_OK && op->file.is_committed) {
        err = commit_compare(op, op->file.md5, NULL);
        if (err == ERR_OK) {
            commit_move(work);
        } else {
            commit_finish(op, err);
        }
        return;
    }
    if (err == ERR_OK && filestore_core_is_content_known(&op->file)) {
        err = commit_compare(op, op->file.md5, NULL);
        if (err == ERR_OK) {
            err = commit_digest_known(op);
        }
    } else if (err == ERR_OK) {
        err = commit_digest(op);
    }
    if (err != ERR_OK) {
        commit_finish(op, err);
        return;
    }
    op->job.run = commit_run_record;
    op->job.done = commit_recorded;
    store_write(filestore->store, &op->job);
}

void
filestore_plans_commit(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__CommitRequest *request,
    Fc__Filestore__V1__CommitResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    uint8_t upload_id[FILESTORE_ID_BYTES];

    if (!filestore_check_id(call, "upload_id", &request->upload_id, upload_id)) {
        return;
    }
    if (request->md5.len != 0 && request->md5.len != DIGEST_MD5_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "md5 has %zu bytes; it is the MD5 of the file, %d bytes, or empty",
            request->md5.len, DIGEST_MD5_BYTES);
        return;
    }
    struct commit_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->work.run = commit_run;
    op->filestore = filestore;
    op->call = call;
    op->request = request;
    op->reply = reply;
    memcpy(op->upload_id, upload_id, sizeof(upload_id));
    work_pool_submit(filestore->plan_pool, &op->work);
}
