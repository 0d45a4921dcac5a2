// What a user has begun to upload and not ended: ListUploads.
#include <stdlib.h>
#include <string.h>

#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_core_priv.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    REQUEST_ID_BYTES = 16,
};

// unfinished is a row in the words of the wire, with what it points to.
struct unfinished {
    Fc__Filestore__V1__UnfinishedUpload message;
    struct filestore_file file;
    uint8_t request_id[REQUEST_ID_BYTES];
};

struct uploads_query {
    struct filestore_service *filestore;
    struct rpc_call *call;
    struct unfinished *uploads; // FILESTORE_UPLOADS_PER_USER_MAX
    size_t count;
};

static enum err
read_upload(struct store_rows *rows, struct unfinished *out)
{
    struct filestore_file *file = &out->file;
    Fc__Filestore__V1__UnfinishedUpload *message = &out->message;

    enum err err = filestore_core_read_row(rows, file);
    if (err != ERR_OK) {
        return err;
    }
    fc__filestore__v1__unfinished_upload__init(message);
    message->upload_id = (ProtobufCBinaryData){.data = file->id, .len = sizeof(file->id)};
    if (filestore_core_copy_blob(rows, FILESTORE_COLUMN_COUNT, out->request_id, sizeof(out->request_id)) == ERR_OK) {
        message->request_id = (ProtobufCBinaryData){.data = out->request_id, .len = sizeof(out->request_id)};
    }
    message->name = file->name;
    message->size_bytes = file->is_size_unknown ? 0 : file->size_bytes;
    message->is_size_unknown = file->is_size_unknown;
    message->arrived_bytes = (uint64_t)store_rows_int(rows, FILESTORE_COLUMN_COUNT + 1);
    message->created_at_ms = file->created_unix_ms;
    message->expires_at_ms = file->created_unix_ms + FILESTORE_UPLOAD_LIFETIME_MS;
    return ERR_OK;
}

static enum err
name_rooms(struct store_tx *tx, struct uploads_query *query)
{
    const uint8_t *user_id = rpc_call_identity(query->call)->subject_id;

    for (size_t i = 0; i < query->count; i++) {
        struct filestore_file *file = &query->uploads[i].file;
        enum err err = file->has_room ? filestore_access_room(tx, &query->filestore->rooms, file->room.room_id, user_id,
                                            &file->room)
                                      : ERR_NOT_FOUND;
        if (err == ERR_OK) {
            query->uploads[i].message.room = file->room.name;
        } else if (err != ERR_NOT_FOUND) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err
uploads_read(struct store_tx *tx, void *context)
{
    struct uploads_query *query = context;
    struct store_rows *rows = NULL;

    enum err err = store_query(tx,
        "SELECT " FILESTORE_F_COLUMNS ", f.request_id, (SELECT COALESCE(SUM(c.size_bytes), 0) FROM filestore_chunks c "
        "WHERE c.blob_id = f.file_id) FROM filestore_files f WHERE f.owner_id = $1 AND f.version IS NULL "
        "ORDER BY f.created_ms, f.file_id LIMIT $2",
        STORE_ARGS(store_blob(rpc_call_identity(query->call)->subject_id, FILESTORE_ID_BYTES),
            store_int(FILESTORE_UPLOADS_PER_USER_MAX)),
        &rows);
    query->count = 0;
    while (err == ERR_OK && query->count < FILESTORE_UPLOADS_PER_USER_MAX) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = read_upload(rows, &query->uploads[query->count]);
            query->count += err == ERR_OK;
        }
    }
    store_rows_free(&rows);
    err = err == ERR_NOT_FOUND ? ERR_OK : err;
    return err == ERR_OK ? name_rooms(tx, query) : err;
}

static enum err
uploads_reply(const struct uploads_query *query, Fc__Filestore__V1__ListUploadsResponse_Closure reply)
{
    Fc__Filestore__V1__ListUploadsResponse response = FC__FILESTORE__V1__LIST_UPLOADS_RESPONSE__INIT;
    Fc__Filestore__V1__UnfinishedUpload **pointers =
        calloc(query->count + 1, sizeof(Fc__Filestore__V1__UnfinishedUpload *));

    if (pointers == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < query->count; i++) {
        pointers[i] = &query->uploads[i].message;
    }
    response.uploads = pointers;
    response.n_uploads = query->count;
    reply(&response, query->call);
    free(pointers);
    return ERR_OK;
}

void
filestore_list_uploads(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__ListUploadsRequest *request, Fc__Filestore__V1__ListUploadsResponse_Closure reply,
    void *closure_data)
{
    struct uploads_query query = {.filestore = (struct filestore_service *)service, .call = closure_data};

    (void)request;
    query.uploads = calloc(FILESTORE_UPLOADS_PER_USER_MAX, sizeof(query.uploads[0]));
    enum err err = query.uploads == NULL ? ERR_NO_MEMORY : store_read(query.filestore->store, uploads_read, &query);
    if (err == ERR_OK) {
        err = uploads_reply(&query, reply);
    }
    if (err != ERR_OK) {
        filestore_fail(query.call, err, NULL, NULL);
    }
    free(query.uploads);
}
