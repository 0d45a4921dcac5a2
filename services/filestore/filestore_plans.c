// What begins an upload and what drops it: Save and Cancel.
//
// The order of the steps makes every crash harmless. Save: content file, then row; a content file without a row is
// swept at start-up. Cancel: row, then content file.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/filestore/filestore_access.h"
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
    bool is_planned; // by this request before
    bool was_garbage;
    const char *reason;
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
        response.chunk_count = op->plan.is_size_unknown ? 0 : filestore_core_chunk_count(&op->plan);
        response.is_complete = op->plan.is_committed || filestore_core_is_content_known(&op->plan);
        response.arrived.data = op->arrived.data;
        response.arrived.len = op->arrived.size;
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, result, &op->why, op->reason);
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
    bool is_same_size = existing.size_bytes == plan->size_bytes || existing.is_size_unknown;
    if (existing.is_size_unknown != plan->is_size_unknown || !is_same_size || strcmp(existing.name, plan->name) != 0 ||
        existing.has_room != plan->has_room ||
        memcmp(existing.room.room_id, plan->room.room_id, FILESTORE_ID_BYTES) != 0) {
        return err_fail(&op->why, ERR_CONFLICT,
            "this request_id has planned the upload of \"%s\" (%llu bytes): take another one for another file",
            existing.name, (unsigned long long)existing.size_bytes);
    }
    op->plan = existing;
    return filestore_core_arrived(tx, plan, &op->arrived);
}

// save_find_content looks whether what the caller is about to send is here already, in a file that the caller may read:
// who can name a content has not shown to have it.
static enum err
save_find_content(struct store_tx *tx, struct save_op *op)
{
    struct filestore_file *plan = &op->plan;
    struct filestore_content content;

    if (!plan->has_md5 || !plan->has_sha256 || plan->is_size_unknown) {
        return ERR_OK;
    }
    enum err err = filestore_contents_find_same(tx, plan->md5, plan->sha256, plan->size_bytes, &content);
    if (err == ERR_OK && content.is_damaged) {
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        err = filestore_access_find_content(tx, &op->filestore->rooms, content.blob_id, plan->owner_id);
    }
    if (err == ERR_OK) {
        memcpy(plan->blob_id, content.blob_id, sizeof(plan->blob_id));
        plan->chunk_bytes = content.chunk_bytes;
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// save_check refuses what could not be committed.
static enum err
save_check(struct store_tx *tx, struct save_op *op)
{
    const struct filestore_file *plan = &op->plan;

    enum err err = filestore_core_check_version(tx, plan, &op->why);
    if (err != ERR_OK) {
        return err;
    }
    err = filestore_names_check_quota(tx, &op->filestore->quotas, plan->owner_id,
        plan->has_room ? plan->room.room_id : NULL, plan->size_bytes, true, &op->why);
    if (err == ERR_LIMIT) {
        op->reason = "QUOTA";
    }
    return err;
}

// save_look finds the room and the plan, if it was made before, or what can be known before it is made.
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
    enum err err = save_find_existing(tx, op);
    op->is_planned = err == ERR_OK;
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = save_check(tx, op);
    return err == ERR_OK ? save_find_content(tx, op) : err;
}

static enum err
save_run_record(struct store_tx *tx, struct store_job *job)
{
    struct save_op *op = (void *)((char *)job - offsetof(struct save_op, job));
    struct filestore_content content;

    memset(&op->why, 0, sizeof(op->why));
    op->reason = NULL;
    op->was_garbage = false;
    // The same request may have come twice at once.
    enum err err = save_find_existing(tx, op);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = save_check(tx, op);
    if (err == ERR_OK && filestore_core_is_content_known(&op->plan) &&
        filestore_contents_find(tx, op->plan.blob_id, &content) != ERR_OK) {
        return err_fail(&op->why, ERR_CONFLICT, "\"%s\" has changed just now: ask again", op->plan.name);
    }
    if (err == ERR_OK) {
        err = filestore_core_add_upload(tx, &op->plan, &op->was_garbage, &op->why);
    }
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

    if (!filestore_core_is_content_known(&op->plan) &&
        store_read(op->filestore->store, save_find_any, op) == ERR_NOT_FOUND) {
        enum err ignored = blob_upload_cancel(op->filestore->blobs, op->plan.id);
        (void)ignored; // what is left is swept at the next start
    }
    save_finish(op, op->result);
}

// save_create_again makes the content file of an upload whose id was just being cleared away. Nobody removes it now.
static void
save_create_again(struct work *work)
{
    struct save_op *op = (struct save_op *)work;
    save_finish(op, blob_upload_create(op->filestore->blobs, op->plan.id, op->plan.size_bytes));
}

static void
save_recorded(struct store_job *job, enum err result)
{
    struct save_op *op = (void *)((char *)job - offsetof(struct save_op, job));

    if (result == ERR_OK && op->was_garbage && !filestore_core_is_content_known(&op->plan)) {
        op->work.run = save_create_again;
        work_pool_submit(op->filestore->plan_pool, &op->work);
        return;
    }
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
    if (err != ERR_OK || op->is_planned) {
        save_finish(op, err);
        return;
    }
    if (!filestore_core_is_content_known(&op->plan)) {
        err = blob_upload_create(filestore->blobs, op->plan.id, op->plan.size_bytes);
    }
    if (err != ERR_OK) {
        save_finish(op, err);
        return;
    }
    op->job.run = save_run_record;
    op->job.done = save_recorded;
    store_write(filestore->store, &op->job);
}

static enum err
save_take_digest(const char *field, const ProtobufCBinaryData *digest, uint8_t *out, size_t size, bool *has_out,
    struct err_detail *why)
{
    if (digest->len != 0 && digest->len != size) {
        return err_fail(why, ERR_INVALID, "%s has %zu bytes; it has %zu, or is empty", field, digest->len, size);
    }
    *has_out = digest->len != 0;
    if (*has_out) {
        memcpy(out, digest->data, size);
    }
    return ERR_OK;
}

// save_check_request checks the values of a request.
static enum err
save_check_request(const Fc__Filestore__V1__SaveRequest *request, struct err_detail *why)
{
    enum err err = filestore_check_metadata(request->name, request->mime_type, request->mode, why);
    if (err != ERR_OK) {
        return err;
    }
    if (request->size_bytes > FILESTORE_FILE_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "\"%s\" has %llu bytes; the largest file has %llu", request->name,
            (unsigned long long)request->size_bytes, (unsigned long long)FILESTORE_FILE_MAX_BYTES);
    }
    if (request->is_size_unknown && request->size_bytes != 0) {
        return err_fail(why, ERR_INVALID, "size_bytes is %llu although is_size_unknown is set",
            (unsigned long long)request->size_bytes);
    }
    if (request->expires_at_ms != 0 && request->expires_at_ms <= clock_unix_ms()) {
        return err_fail(why, ERR_INVALID, "expires_at_ms is in the past");
    }
    return ERR_OK;
}

// save_plan fills in what follows from the request and its caller alone.
static enum err
save_plan(struct save_op *op)
{
    const struct rpc_identity *caller = rpc_call_identity(op->call);
    const Fc__Filestore__V1__SaveRequest *request = op->request;
    struct filestore_file *plan = &op->plan;

    enum err err = save_check_request(request, &op->why);
    if (err == ERR_OK) {
        err = save_take_digest("md5", &request->md5, plan->md5, sizeof(plan->md5), &plan->has_md5, &op->why);
    }
    if (err == ERR_OK) {
        err = save_take_digest("sha256", &request->sha256, plan->sha256, sizeof(plan->sha256), &plan->has_sha256,
            &op->why);
    }
    if (err != ERR_OK) {
        return err;
    }
    memcpy(plan->owner_id, caller->subject_id, sizeof(plan->owner_id));
    memcpy(plan->owner_name, caller->subject_name, sizeof(caller->subject_name));
    memcpy(plan->name, request->name, strlen(request->name) + 1);
    memcpy(plan->mime_type, request->mime_type, strlen(request->mime_type) + 1);
    plan->size_bytes = request->size_bytes;
    plan->is_size_unknown = request->is_size_unknown;
    plan->chunk_bytes = request->is_size_unknown ? (uint32_t)FILESTORE_UNKNOWN_CHUNK_BYTES
                                                 : filestore_core_chunk_bytes(request->size_bytes);
    plan->modified_unix_ms = request->modified_at_ms;
    plan->mode = request->mode;
    plan->expires_unix_ms = request->expires_at_ms;
    plan->has_expected_version = request->is_version_checked;
    plan->expected_version = request->expected_version;
    plan->created_unix_ms = clock_unix_ms();
    plan->request_id = rpc_call_request_id(op->call);
    err = filestore_core_upload_id(plan->owner_id, rpc_call_request_id(op->call), plan->id);
    memcpy(plan->blob_id, plan->id, sizeof(plan->blob_id));
    return err;
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

    filestore_sweep_soon(op->filestore);
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
