// What begins and ends an upload: Save, Commit, Cancel.
//
// The order of the steps makes every crash harmless. Save: content file, then row; a content file without a row is
// swept at start-up. Commit: digests, then the row (from here on the file exists), then the content moves to its final
// place; a move that did not happen is made up for by Commit asked again, by the first Download, and at start-up.
// Cancel: row, then content file.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "services/filestore/filestore_service_priv.h"

struct save_op {
    struct work work; // first: the pool gives its address
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__SaveRequest *request;
    Fc__Filestore__V1__SaveResponse_Closure reply;
    struct filestore_file plan;
    struct bytes arrived;
    enum err result;
    struct err_detail why;
};

static void
save_finish(struct save_op *op, enum err result)
{
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__SaveResponse response = FC__FILESTORE__V1__SAVE_RESPONSE__INIT;

    if (result == ERR_NO_SPACE) {
        err_fail(&op->why, result,
            "the server's disk has no room for \"%s\" (%llu bytes): ask its operator to make some", op->plan.name,
            (unsigned long long)op->plan.size_bytes);
    }
    if (result == ERR_OK) {
        response.upload_id.data = op->plan.id;
        response.upload_id.len = sizeof(op->plan.id);
        response.chunk_size_bytes = op->plan.chunk_bytes;
        response.chunk_count = filestore_core_chunk_count(&op->plan);
        response.arrived.data = op->arrived.data;
        response.arrived.len = op->arrived.size;
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, result, &op->why, NULL);
    }
    bytes_free(&op->arrived);
    free(op);
    filestore_end(filestore);
}

// save_find_existing looks whether this plan was made before, and what has arrived since. ERR_NOT_FOUND: it was not.
static enum err
save_find_existing(struct store_tx *tx, struct save_op *op)
{
    const struct filestore_file *plan = &op->plan;
    struct filestore_file existing;

    enum err err = filestore_core_find_own(tx, plan->id, plan->owner_id, &existing);
    if (err != ERR_OK) {
        return err;
    }
    if (existing.size_bytes != plan->size_bytes || strcmp(existing.name, plan->name) != 0 ||
        existing.has_room != plan->has_room ||
        memcmp(existing.room.room_id, plan->room.room_id, FILESTORE_ID_BYTES) != 0) {
        return err_fail(&op->why, ERR_CONFLICT,
            "this request_id has planned the upload of \"%s\" (%llu bytes): take another one for another file",
            existing.name, (unsigned long long)existing.size_bytes);
    }
    op->plan = existing;
    return filestore_core_arrived(tx, plan, &op->arrived);
}

// save_look finds the room and the plan, if it was made before. ERR_NOT_FOUND is a room that is not there; a new plan
// is told by op->result.
static enum err
save_look(struct store_tx *tx, void *context)
{
    struct save_op *op = context;
    const struct filestore_rooms *rooms = &op->filestore->rooms;

    op->plan.has_room = op->request->room[0] != '\0';
    if (op->plan.has_room) {
        enum err err =
            rooms->find_member_room(rooms->context, tx, op->request->room, op->plan.owner_id, &op->plan.room, &op->why);
        if (err != ERR_OK) {
            return err;
        }
    }
    op->result = save_find_existing(tx, op);
    return op->result == ERR_NOT_FOUND ? ERR_OK : op->result;
}

static enum err
save_run_record(struct store_tx *tx, struct store_job *job)
{
    struct save_op *op = (void *)((char *)job - offsetof(struct save_op, job));

    memset(&op->why, 0, sizeof(op->why));
    // The same request may have come twice at once.
    enum err err = save_find_existing(tx, op);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = filestore_core_add_upload(tx, &op->plan, &op->why);
    return err == ERR_OK ? filestore_core_arrived(tx, &op->plan, &op->arrived) : err;
}

static enum err
save_find_any(struct store_tx *tx, void *context)
{
    struct save_op *op = context;
    struct filestore_file existing;

    return filestore_core_find_any(tx, op->plan.id, &existing);
}

// save_undo removes the content file of a plan that could not be recorded, unless the same request has succeeded
// meanwhile.
static void
save_undo(struct work *work)
{
    struct save_op *op = (struct save_op *)work;

    if (store_read(op->filestore->store, save_find_any, op) == ERR_NOT_FOUND) {
        enum err ignored = blob_upload_cancel(op->filestore->blobs, op->plan.id);
        (void)ignored; // what is left is swept at the next start
    }
    save_finish(op, op->result);
}

static void
save_recorded(struct store_job *job, enum err result)
{
    struct save_op *op = (void *)((char *)job - offsetof(struct save_op, job));

    if (result == ERR_OK) {
        save_finish(op, ERR_OK);
        return;
    }
    op->result = result;
    op->work.run = save_undo;
    work_pool_submit(op->filestore->plan_pool, &op->work);
}

static void
save_run(struct work *work)
{
    struct save_op *op = (struct save_op *)work;
    struct filestore_service *filestore = op->filestore;

    enum err err = store_read(filestore->store, save_look, op);
    if (err != ERR_OK || op->result == ERR_OK) {
        save_finish(op, err);
        return;
    }
    err = blob_upload_create(filestore->blobs, op->plan.id, op->plan.size_bytes);
    if (err != ERR_OK) {
        save_finish(op, err);
        return;
    }
    op->job.run = save_run_record;
    op->job.done = save_recorded;
    store_write(filestore->store, &op->job);
}

// save_plan fills in what follows from the request and its caller alone.
static enum err
save_plan(struct save_op *op)
{
    const struct rpc_identity *caller = rpc_call_identity(op->call);
    const Fc__Filestore__V1__SaveRequest *request = op->request;
    struct filestore_file *plan = &op->plan;

    enum err err = text_check_file_name(request->name, &op->why);
    if (err != ERR_OK) {
        return err;
    }
    if (request->size_bytes > FILESTORE_FILE_MAX_BYTES) {
        return err_fail(&op->why, ERR_INVALID, "\"%s\" has %llu bytes; the largest file has %llu", request->name,
            (unsigned long long)request->size_bytes, (unsigned long long)FILESTORE_FILE_MAX_BYTES);
    }
    memcpy(plan->owner_id, caller->subject_id, sizeof(plan->owner_id));
    memcpy(plan->owner_name, caller->subject_name, sizeof(caller->subject_name));
    memcpy(plan->name, request->name, strlen(request->name) + 1);
    plan->size_bytes = request->size_bytes;
    plan->chunk_bytes = filestore_core_chunk_bytes(request->size_bytes);
    plan->created_unix_ms = clock_unix_ms();
    return filestore_core_upload_id(plan->owner_id, rpc_call_request_id(op->call), plan->id);
}

void
filestore_plans_save(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__SaveRequest *request,
    Fc__Filestore__V1__SaveResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct save_op *op = calloc(1, sizeof(*op));

    if (op == NULL) {
        filestore_fail(closure_data, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->work.run = save_run;
    op->filestore = filestore;
    op->call = closure_data;
    op->request = request;
    op->reply = reply;
    enum err err = save_plan(op);
    if (err != ERR_OK) {
        save_finish(op, err);
        return;
    }
    work_pool_submit(filestore->plan_pool, &op->work);
}

struct commit_op {
    struct work work; // first: the pool gives its address
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__CommitRequest *request;
    Fc__Filestore__V1__CommitResponse_Closure reply;
    uint8_t upload_id[FILESTORE_ID_BYTES];
    struct filestore_file file;
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
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
    err = filestore_core_check_complete(tx, &op->file, &op->why);
    if (err == ERR_PRECONDITION) {
        op->reason = "CHUNKS_MISSING";
    }
    return err;
}

static enum err
commit_compare(struct commit_op *op, const uint8_t md5[DIGEST_MD5_BYTES])
{
    const ProtobufCBinaryData *wanted = &op->request->md5;

    if (wanted->len == 0 || memcmp(wanted->data, md5, DIGEST_MD5_BYTES) == 0) {
        return ERR_OK;
    }
    char have[2 * DIGEST_MD5_BYTES + 1];
    bytes_to_hex(bytes_view_of(md5, DIGEST_MD5_BYTES), have);
    op->reason = "FILE_MD5_MISMATCH";
    return err_fail(&op->why, ERR_CORRUPT,
        "what the server has stored of \"%s\" has the MD5 %s, not the one given: cancel the upload and begin again",
        op->file.name, have);
}

// commit_move is the last step. Done again it changes nothing.
static void
commit_move(struct work *work)
{
    struct commit_op *op = (struct commit_op *)work;
    commit_finish(op, blob_upload_finish(op->filestore->blobs, op->upload_id));
}

static enum err
commit_run_record(struct store_tx *tx, struct store_job *job)
{
    struct commit_op *op = (void *)((char *)job - offsetof(struct commit_op, job));
    struct filestore_room room = op->file.room;

    enum err err = filestore_core_commit(tx, op->upload_id, op->md5, op->sha256, clock_unix_ms());
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

static void
commit_run(struct work *work)
{
    struct commit_op *op = (struct commit_op *)work;
    struct filestore_service *filestore = op->filestore;

    enum err err = store_read(filestore->store, commit_look, op);
    if (err == ERR_OK && op->file.is_committed) {
        err = commit_compare(op, op->file.md5);
        if (err == ERR_OK) {
            err = blob_upload_finish(filestore->blobs, op->upload_id);
        }
        commit_finish(op, err);
        return;
    }
    if (err == ERR_OK) {
        err = blob_upload_digest(filestore->blobs, op->upload_id, op->file.size_bytes, op->md5, op->sha256);
    }
    if (err == ERR_OK) {
        err = commit_compare(op, op->md5);
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

struct cancel_op {
    struct work work; // first: the pool gives its address
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    Fc__Filestore__V1__CancelResponse_Closure reply;
    uint8_t upload_id[FILESTORE_ID_BYTES];
    bool is_own; // there is such an upload of the caller's
    bool has_made_room;
    struct err_detail why;
};

static void
cancel_finish(struct cancel_op *op, enum err result)
{
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__CancelResponse response = FC__FILESTORE__V1__CANCEL_RESPONSE__INIT;

    if (result == ERR_OK) {
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, result, &op->why, NULL);
    }
    free(op);
    filestore_end(filestore);
}

static enum err
cancel_run_record(struct store_tx *tx, struct store_job *job)
{
    struct cancel_op *op = (void *)((char *)job - offsetof(struct cancel_op, job));

    memset(&op->why, 0, sizeof(op->why));
    enum err err = filestore_core_remove_upload(tx, op->upload_id, rpc_call_identity(op->call)->subject_id, &op->why);
    op->is_own = err == ERR_OK || err == ERR_NO_SPACE;
    return err;
}

static void
cancel_remove(struct work *work)
{
    struct cancel_op *op = (struct cancel_op *)work;
    cancel_finish(op, blob_upload_cancel(op->filestore->blobs, op->upload_id));
}

// cancel_make_room is for a disk so full that the database cannot even forget: the content goes first, and leaves room
// for another try.
static void
cancel_make_room(struct work *work)
{
    struct cancel_op *op = (struct cancel_op *)work;

    enum err err = blob_upload_cancel(op->filestore->blobs, op->upload_id);
    if (err != ERR_OK) {
        cancel_finish(op, err);
        return;
    }
    op->has_made_room = true;
    store_write(op->filestore->store, &op->job);
}

static void
cancel_recorded(struct store_job *job, enum err result)
{
    struct cancel_op *op = (void *)((char *)job - offsetof(struct cancel_op, job));

    if (result == ERR_NO_SPACE && op->is_own && !op->has_made_room) {
        op->work.run = cancel_make_room;
        work_pool_submit(op->filestore->plan_pool, &op->work);
        return;
    }
    if (result != ERR_OK) {
        // One that is not there, or not the caller's, has nothing to drop.
        cancel_finish(op, result == ERR_NOT_FOUND ? ERR_OK : result);
        return;
    }
    op->work.run = cancel_remove;
    work_pool_submit(op->filestore->plan_pool, &op->work);
}

void
filestore_plans_cancel(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__CancelRequest *request,
    Fc__Filestore__V1__CancelResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    uint8_t upload_id[FILESTORE_ID_BYTES];

    if (!filestore_check_id(call, "upload_id", &request->upload_id, upload_id)) {
        return;
    }
    struct cancel_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->filestore = filestore;
    op->call = call;
    op->reply = reply;
    memcpy(op->upload_id, upload_id, sizeof(upload_id));
    op->job.run = cancel_run_record;
    op->job.done = cancel_recorded;
    store_write(filestore->store, &op->job);
}
