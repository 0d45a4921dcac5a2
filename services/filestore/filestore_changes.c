// What the owner of a name does to it: Rename, Delete, Restore, Share. Each is one transaction.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_service_priv.h"

struct change_op {
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    const ProtobufCMessage *request;
    void (*reply)(struct change_op *op);
    ProtobufCClosure closure;
    struct filestore_file file;
    size_t count;
    struct err_detail why;
    const char *reason;
};

static const uint8_t *
caller_of(const struct change_op *op)
{
    return rpc_call_identity(op->call)->subject_id;
}

static struct change_op *
op_of(struct store_job *job)
{
    struct change_op *op = (void *)((char *)job - offsetof(struct change_op, job));
    memset(&op->why, 0, sizeof(op->why)); // a job may run again
    op->reason = NULL;
    return op;
}

static void
change_done(struct store_job *job, enum err result)
{
    struct change_op *op = (void *)((char *)job - offsetof(struct change_op, job));
    struct filestore_service *filestore = op->filestore;

    if (result == ERR_OK) {
        op->reply(op);
    } else {
        filestore_fail(op->call, result, &op->why, op->reason);
    }
    free(op);
    filestore_end(filestore);
}

static void
change_start(struct filestore_service *filestore, struct rpc_call *call, const ProtobufCMessage *request,
    enum err (*run)(struct store_tx *tx, struct store_job *job), void (*reply)(struct change_op *op),
    ProtobufCClosure closure)
{
    struct change_op *op = calloc(1, sizeof(*op));

    if (op == NULL) {
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->filestore = filestore;
    op->call = call;
    op->request = request;
    op->reply = reply;
    op->closure = closure;
    op->job.run = run;
    op->job.done = change_done;
    store_write(filestore->store, &op->job);
}

// find_again reads a file that has just been changed.
static enum err
find_again(struct store_tx *tx, struct change_op *op)
{
    enum err err = filestore_core_find_any(tx, op->file.id, &op->file);
    return err == ERR_OK ? filestore_access_fill_room(tx, &op->filestore->rooms, caller_of(op), &op->file) : err;
}

static enum err
rename_run(struct store_tx *tx, struct store_job *job)
{
    struct change_op *op = op_of(job);
    const Fc__Filestore__V1__RenameRequest *request = (const void *)op->request;

    enum err err =
        filestore_access_find_own(tx, &op->filestore->rooms, request->file, caller_of(op), &op->file, &op->why);
    if (err == ERR_OK) {
        err = filestore_names_rename(tx, &op->file, request->new_name, &op->why);
    }
    return err == ERR_OK ? find_again(tx, op) : err;
}

static void
rename_reply(struct change_op *op)
{
    Fc__Filestore__V1__RenameResponse response = FC__FILESTORE__V1__RENAME_RESPONSE__INIT;
    Fc__Filestore__V1__File file;

    filestore_file_to_wire(&op->file, &file);
    response.file = &file;
    op->closure(&response.base, op->call);
}

void
filestore_rename(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__RenameRequest *request,
    Fc__Filestore__V1__RenameResponse_Closure reply, void *closure_data)
{
    struct err_detail why = {0};

    enum err err = text_check_file_name(request->new_name, &why);
    if (err != ERR_OK) {
        filestore_fail(closure_data, err, &why, NULL);
        return;
    }
    change_start((struct filestore_service *)service, closure_data, &request->base, rename_run, rename_reply,
        (ProtobufCClosure)reply);
}

static enum err
delete_run(struct store_tx *tx, struct store_job *job)
{
    struct change_op *op = op_of(job);
    const Fc__Filestore__V1__DeleteRequest *request = (const void *)op->request;

    enum err err =
        filestore_access_find_own(tx, &op->filestore->rooms, request->file, caller_of(op), &op->file, &op->why);
    if (err != ERR_OK) {
        return err;
    }
    return filestore_names_delete(tx, &op->file, request->version, clock_unix_ms(), &op->count, &op->why);
}

static void
delete_reply(struct change_op *op)
{
    Fc__Filestore__V1__DeleteResponse response = FC__FILESTORE__V1__DELETE_RESPONSE__INIT;

    if (op->filestore->delete_grace_ms == 0) {
        filestore_sweep_soon(op->filestore);
    }
    response.version_count = (uint32_t)op->count;
    op->closure(&response.base, op->call);
}

void
filestore_delete(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__DeleteRequest *request,
    Fc__Filestore__V1__DeleteResponse_Closure reply, void *closure_data)
{
    if (request->version > INT64_MAX) {
        rpc_call_fail(closure_data, ERR_NOT_FOUND, "there is no version %llu", (unsigned long long)request->version);
        return;
    }
    change_start((struct filestore_service *)service, closure_data, &request->base, delete_run, delete_reply,
        (ProtobufCClosure)reply);
}

static enum err
restore_run(struct store_tx *tx, struct store_job *job)
{
    struct change_op *op = op_of(job);
    const Fc__Filestore__V1__RestoreRequest *request = (const void *)op->request;

    enum err err = filestore_names_find_deleted(tx, request->file, caller_of(op), &op->file);
    if (err == ERR_NOT_FOUND) {
        return err_fail(&op->why, err, "there is no deleted file \"%s\" of yours", request->file);
    }
    if (err == ERR_OK) {
        err = filestore_names_check_quota(tx, &op->filestore->quotas, caller_of(op), NULL, op->file.size_bytes, false,
            &op->why);
        op->reason = err == ERR_LIMIT ? "QUOTA" : NULL;
    }
    if (err == ERR_OK) {
        err = filestore_names_restore(tx, op->file.id);
    }
    return err == ERR_OK ? find_again(tx, op) : err;
}

static void
restore_reply(struct change_op *op)
{
    Fc__Filestore__V1__RestoreResponse response = FC__FILESTORE__V1__RESTORE_RESPONSE__INIT;
    Fc__Filestore__V1__File file;

    filestore_file_to_wire(&op->file, &file);
    response.file = &file;
    op->closure(&response.base, op->call);
}

void
filestore_restore(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__RestoreRequest *request,
    Fc__Filestore__V1__RestoreResponse_Closure reply, void *closure_data)
{
    change_start((struct filestore_service *)service, closure_data, &request->base, restore_run, restore_reply,
        (ProtobufCClosure)reply);
}

// share_find_subject finds whom the request names. A room that the caller has left can still be taken away by its id.
static enum err
share_find_subject(struct store_tx *tx, struct change_op *op, const Fc__Filestore__V1__ShareRequest *request,
    enum filestore_share_kind *kind_out, uint8_t id_out[FILESTORE_ID_BYTES])
{
    const struct filestore_rooms *rooms = &op->filestore->rooms;
    struct filestore_room room;

    if (request->room[0] != '\0') {
        *kind_out = FILESTORE_SHARE_ROOM;
        if (request->is_unshare && bytes_from_hex(request->room, id_out, FILESTORE_ID_BYTES) == ERR_OK) {
            return ERR_OK;
        }
        enum err err = rooms->find_member_room(rooms->context, tx, request->room, caller_of(op), &room, &op->why);
        if (err == ERR_OK) {
            memcpy(id_out, room.room_id, FILESTORE_ID_BYTES);
        }
        return err;
    }
    *kind_out = FILESTORE_SHARE_USER;
    enum err err = op->filestore->find_user == NULL
                       ? ERR_NOT_FOUND
                       : op->filestore->find_user(rooms->context, tx, request->user_name, id_out);
    return err == ERR_NOT_FOUND ? err_fail(&op->why, err, "there is no user \"%s\"", request->user_name) : err;
}

static enum err
share_add(struct store_tx *tx, struct change_op *op, enum filestore_share_kind kind,
    const uint8_t subject_id[FILESTORE_ID_BYTES])
{
    const struct filestore_quotas quotas = {.room_bytes = op->filestore->quotas.room_bytes};
    int64_t bytes = 0;
    enum err err = ERR_OK;

    if (kind == FILESTORE_SHARE_USER && memcmp(subject_id, op->file.owner_id, FILESTORE_ID_BYTES) == 0) {
        return err_fail(&op->why, ERR_INVALID, "\"%s\" is your own: it is shared with others", op->file.name);
    }
    if (kind == FILESTORE_SHARE_ROOM && quotas.room_bytes != 0) {
        err = filestore_names_size_of_new_share(tx, &op->file, subject_id, &bytes);
        if (err == ERR_OK) {
            err = filestore_names_check_quota(tx, &quotas, op->file.owner_id, subject_id, (uint64_t)bytes, false,
                &op->why);
            op->reason = err == ERR_LIMIT ? "QUOTA" : NULL;
        }
    }
    return err == ERR_OK ? filestore_access_add_share(tx, op->file.owner_id, op->file.name, kind, subject_id, &op->why)
                         : err;
}

static enum err
share_run(struct store_tx *tx, struct store_job *job)
{
    struct change_op *op = op_of(job);
    const Fc__Filestore__V1__ShareRequest *request = (const void *)op->request;
    enum filestore_share_kind kind = FILESTORE_SHARE_ROOM;
    uint8_t subject_id[FILESTORE_ID_BYTES] = {0};

    enum err err =
        filestore_access_find_own(tx, &op->filestore->rooms, request->file, caller_of(op), &op->file, &op->why);
    if (err == ERR_OK) {
        err = share_find_subject(tx, op, request, &kind, subject_id);
    }
    if (err == ERR_OK && !request->is_unshare) {
        return share_add(tx, op, kind, subject_id);
    }
    if (err == ERR_OK) {
        err = filestore_access_remove_share(tx, op->file.owner_id, op->file.name, kind, subject_id);
        if (err == ERR_NOT_FOUND) {
            return err_fail(&op->why, err, "\"%s\" is not shared with \"%s\"", op->file.name,
                request->room[0] != '\0' ? request->room : request->user_name);
        }
    }
    return err;
}

static void
share_reply(struct change_op *op)
{
    Fc__Filestore__V1__ShareResponse response = FC__FILESTORE__V1__SHARE_RESPONSE__INIT;
    op->closure(&response.base, op->call);
}

void
filestore_share(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ShareRequest *request,
    Fc__Filestore__V1__ShareResponse_Closure reply, void *closure_data)
{
    if ((request->room[0] == '\0') == (request->user_name[0] == '\0')) {
        rpc_call_fail(closure_data, ERR_INVALID, "a file is shared with a room or with a user: one of the two");
        return;
    }
    change_start((struct filestore_service *)service, closure_data, &request->base, share_run, share_reply,
        (ProtobufCClosure)reply);
}
