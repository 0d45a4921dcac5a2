// CreateLink, ListLinks and RevokeLink.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_links.h"
#include "services/filestore/filestore_service_priv.h"

static ProtobufCBinaryData
wire_bytes(uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = data};
}

static void
link_to_wire(struct filestore_link *link, Fc__Filestore__V1__Link *out)
{
    fc__filestore__v1__link__init(out);
    out->id = wire_bytes(link->id, sizeof(link->id));
    out->file_name = link->file_name;
    out->file_id = wire_bytes(link->file_id, sizeof(link->file_id));
    out->created_at_ms = link->created_unix_ms;
    out->expires_at_ms = link->expires_unix_ms;
    out->fetch_count = link->fetch_count;
}

// --- CreateLink -----------------------------------------------------------------------------------------------------

struct create_op {
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    const Fc__Filestore__V1__CreateLinkRequest *request;
    Fc__Filestore__V1__CreateLinkResponse_Closure reply;
    struct filestore_link link;
    char token[FILESTORE_LINK_TOKEN_CHARACTERS + 1];
    struct bytes path;
    struct err_detail why;
};

static void
create_finish(struct create_op *op, enum err result)
{
    static const uint8_t end = 0;
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__CreateLinkResponse response = FC__FILESTORE__V1__CREATE_LINK_RESPONSE__INIT;
    Fc__Filestore__V1__Link link;
    char base_url[FILESTORE_URL_MAX_BYTES];

    pthread_mutex_lock(&filestore->locked.mutex);
    memcpy(base_url, filestore->locked.base_url, sizeof(base_url));
    pthread_mutex_unlock(&filestore->locked.mutex);
    if (result == ERR_OK) {
        result = filestore_links_path(op->token, op->link.file_name, &op->path);
    }
    if (result == ERR_OK) {
        result = bytes_append(&op->path, bytes_view_of(&end, 1));
    }
    if (result == ERR_OK) {
        link_to_wire(&op->link, &link);
        response.link = &link;
        response.path = (char *)op->path.data;
        response.base_url = base_url;
        op->reply(&response, op->call);
    } else {
        filestore_fail(op->call, result, &op->why, NULL);
    }
    digest_wipe(op->token, sizeof(op->token));
    bytes_free_secret(&op->path);
    free(op);
    filestore_end(filestore);
}

// check_room refuses files that were uploaded for a room whose members alone can read them.
static enum err
check_room(struct create_op *op, struct store_tx *tx, const struct filestore_file *file)
{
    const struct filestore_rooms *rooms = &op->filestore->rooms;
    struct filestore_file uploaded;
    bool is_encrypted = false;

    // As the row has it: file->room is one of the rooms that the caller is in now.
    enum err err = filestore_core_find_any(tx, file->id, &uploaded);
    if (err == ERR_OK && uploaded.has_room && rooms->is_encrypted != NULL) {
        err = rooms->is_encrypted(rooms->context, tx, uploaded.room.room_id, &is_encrypted);
    }
    if (err == ERR_OK && is_encrypted) {
        return err_fail(&op->why, ERR_PRECONDITION,
            "\"%s\" is sealed for the members of %s, so a link would lead to bytes that nobody else can read: upload "
            "the file again without --room, and make a link to that",
            file->name, file->room.name[0] != '\0' ? file->room.name : "its room");
    }
    return err;
}

static enum err
create_run(struct store_tx *tx, struct store_job *job)
{
    struct create_op *op = (void *)((char *)job - offsetof(struct create_op, job));
    const struct rpc_identity *caller = rpc_call_identity(op->call);
    struct filestore_file file;

    memset(&op->why, 0, sizeof(op->why));
    enum err err =
        filestore_access_find_own(tx, &op->filestore->rooms, op->request->file, caller->subject_id, &file, &op->why);
    if (err == ERR_OK) {
        err = check_room(op, tx, &file);
    }
    if (err == ERR_OK) {
        memcpy(op->link.file_id, file.id, sizeof(op->link.file_id));
        memcpy(op->link.file_name, file.name, sizeof(op->link.file_name));
        err = filestore_links_add(tx, &op->link, &op->why);
    }
    return err;
}

static void
create_done(struct store_job *job, enum err result)
{
    create_finish((void *)((char *)job - offsetof(struct create_op, job)), result);
}

static enum err
create_plan(struct create_op *op)
{
    int64_t now = clock_unix_ms();
    int64_t expires = op->request->expires_at_ms;

    if (!op->filestore->has_links) {
        return err_fail(&op->why, ERR_PRECONDITION, "the operator of this server allows no links");
    }
    if (expires == 0) {
        expires = now + FILESTORE_LINK_LIFETIME_MS;
    }
    if (expires <= now || expires - now > FILESTORE_LINK_LIFETIME_MAX_MS) {
        return err_fail(&op->why, ERR_INVALID, "a link ends in the future, and in a year at the latest");
    }
    op->link.created_unix_ms = now;
    op->link.expires_unix_ms = expires;
    memcpy(op->link.owner_id, rpc_call_identity(op->call)->subject_id, sizeof(op->link.owner_id));
    random_bytes(op->link.id, sizeof(op->link.id));
    return filestore_links_make_token(op->token, op->link.token_sha256);
}

void
filestore_create_link(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__CreateLinkRequest *request, Fc__Filestore__V1__CreateLinkResponse_Closure reply,
    void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct create_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(closure_data, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->filestore = filestore;
    op->call = closure_data;
    op->request = request;
    op->reply = reply;
    op->job.run = create_run;
    op->job.done = create_done;
    enum err err = create_plan(op);
    if (err != ERR_OK) {
        create_finish(op, err);
        return;
    }
    store_write(filestore->store, &op->job);
}

// --- ListLinks ------------------------------------------------------------------------------------------------------

struct links_query {
    const uint8_t *owner_id;
    struct filestore_link *links;
    size_t count;
};

static enum err
list_read(struct store_tx *tx, void *context)
{
    struct links_query *query = context;
    return filestore_links_list(tx, query->owner_id, clock_unix_ms(), &query->links, &query->count);
}

void
filestore_list_links(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ListLinksRequest *request,
    Fc__Filestore__V1__ListLinksResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct links_query query = {.owner_id = rpc_call_identity(closure_data)->subject_id};
    Fc__Filestore__V1__ListLinksResponse response = FC__FILESTORE__V1__LIST_LINKS_RESPONSE__INIT;
    Fc__Filestore__V1__Link *links = NULL;
    Fc__Filestore__V1__Link **pointers = NULL;

    (void)request;
    enum err err = store_read(filestore->store, list_read, &query);
    if (err == ERR_OK) {
        links = calloc(query.count + 1, sizeof(*links));
        pointers = calloc(query.count + 1, sizeof(*pointers));
        err = links != NULL && pointers != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        for (size_t i = 0; i < query.count; i++) {
            link_to_wire(&query.links[i], &links[i]);
            pointers[i] = &links[i];
        }
        response.links = pointers;
        response.n_links = query.count;
        reply(&response, closure_data);
    } else {
        filestore_fail(closure_data, err, NULL, NULL);
    }
    free(pointers);
    free(links);
    free(query.links);
}

// --- RevokeLink -----------------------------------------------------------------------------------------------------

struct revoke_op {
    struct store_job job;
    struct filestore_service *filestore;
    struct rpc_call *call;
    Fc__Filestore__V1__RevokeLinkResponse_Closure reply;
    uint8_t id[FILESTORE_ID_BYTES];
};

static enum err
revoke_run(struct store_tx *tx, struct store_job *job)
{
    struct revoke_op *op = (void *)((char *)job - offsetof(struct revoke_op, job));
    return filestore_links_remove(tx, rpc_call_identity(op->call)->subject_id, op->id);
}

static void
revoke_done(struct store_job *job, enum err result)
{
    struct revoke_op *op = (void *)((char *)job - offsetof(struct revoke_op, job));
    struct filestore_service *filestore = op->filestore;
    Fc__Filestore__V1__RevokeLinkResponse response = FC__FILESTORE__V1__REVOKE_LINK_RESPONSE__INIT;
    struct err_detail why = {0};

    if (result == ERR_OK) {
        op->reply(&response, op->call);
    } else {
        if (result == ERR_NOT_FOUND) {
            (void)err_fail(&why, result, "you have no such link: it has expired, or was revoked before");
        }
        filestore_fail(op->call, result, &why, NULL);
    }
    free(op);
    filestore_end(filestore);
}

void
filestore_revoke_link(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__RevokeLinkRequest *request, Fc__Filestore__V1__RevokeLinkResponse_Closure reply,
    void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    uint8_t id[FILESTORE_ID_BYTES];

    if (!filestore_check_id(closure_data, "id", &request->id, id)) {
        return;
    }
    struct revoke_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(closure_data, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->filestore = filestore;
    op->call = closure_data;
    op->reply = reply;
    memcpy(op->id, id, sizeof(id));
    op->job.run = revoke_run;
    op->job.done = revoke_done;
    store_write(filestore->store, &op->job);
}
