// What is on the server. Moving files is in fc_transfer_upload.c and fc_transfer_download.c.
#include "client/fc_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/fc_transfer_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    CHUNK_MIN_BYTES = 256 * 1024,
    CHUNK_MAX_BYTES = 8 * 1024 * 1024,
    FILE_MODE_MASK = 07777,
};

#define FILE_MAX_BYTES (UINT64_C(1) << 50)

static bool
copy_text(char *out, size_t capacity, const char *text)
{
    size_t size = strlen(text) + 1;

    if (size > capacity) {
        return false;
    }
    memcpy(out, text, size);
    return true;
}

static bool
copy_bytes(uint8_t *out, size_t size, const ProtobufCBinaryData *from)
{
    if (from->len != size) {
        return false;
    }
    memcpy(out, from->data, size);
    return true;
}

static bool
is_chunk_size(uint32_t size)
{
    return size >= CHUNK_MIN_BYTES && size <= CHUNK_MAX_BYTES && (size & (size - 1)) == 0;
}

enum err
fc_file_from_wire(const Fc__Filestore__V1__File *wire, struct fc_file *out, struct err_detail *why)
{
    struct fc_file file = {.size_bytes = 0};

    bool is_good =
        wire != NULL && wire->size_bytes <= FILE_MAX_BYTES && is_chunk_size(wire->chunk_size_bytes) &&
        copy_bytes(file.id, sizeof(file.id), &wire->id) && copy_bytes(file.md5, sizeof(file.md5), &wire->md5) &&
        copy_bytes(file.sha256, sizeof(file.sha256), &wire->sha256) &&
        text_check_file_name(wire->name, NULL) == ERR_OK && copy_text(file.name, sizeof(file.name), wire->name) &&
        text_check_user_name(wire->owner, NULL) == ERR_OK && copy_text(file.owner, sizeof(file.owner), wire->owner) &&
        (wire->room[0] == '\0' || text_check_room_name(wire->room, NULL) == ERR_OK) &&
        copy_text(file.room, sizeof(file.room), wire->room) && text_is_utf8(bytes_view_of_text(wire->mime_type)) &&
        copy_text(file.mime_type, sizeof(file.mime_type), wire->mime_type);
    if (!is_good) {
        return err_fail(why, ERR_PROTOCOL, "what the server says of a file makes no sense");
    }
    file.size_bytes = wire->size_bytes;
    file.chunk_size_bytes = wire->chunk_size_bytes;
    file.created_unix_ms = wire->created_at_ms;
    file.modified_unix_ms = wire->modified_at_ms;
    file.mode = wire->mode & FILE_MODE_MASK;
    file.version = wire->version;
    file.deleted_unix_ms = wire->deleted_at_ms;
    file.expires_unix_ms = wire->expires_at_ms;
    *out = file;
    return ERR_OK;
}

enum err
fc_file_stat(struct fc_session *session, const char *file, struct fc_file *out, struct err_detail *why)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Filestore__V1__StatResponse *response = NULL;

    request.file = (char *)(uintptr_t)file; // protobuf-c has no const; it is only read
    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_stat(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_file_from_wire(response->file, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

// each_of_page calls fn for the files of one page. Returns whether to go on, in *is_wanted.
static enum err
each_of_page(const Fc__Filestore__V1__ListResponse *page, bool (*fn)(void *context, const struct fc_file *file),
    void *context, bool *is_wanted, struct err_detail *why)
{
    for (size_t i = 0; i < page->n_files && *is_wanted; i++) {
        struct fc_file file;
        enum err err = fc_file_from_wire(page->files[i], &file, why);
        if (err != ERR_OK) {
            return err;
        }
        *is_wanted = fn(context, &file);
    }
    return ERR_OK;
}

static void
fill_list(const struct fc_file_query *query, char *token, Fc__Filestore__V1__ListRequest *request)
{
    request->page_token = token;
    if (query->prefix != NULL) {
        request->prefix = (char *)(uintptr_t)query->prefix; // protobuf-c has no const; it is only read
    }
    if (query->room != NULL) {
        request->room = (char *)(uintptr_t)query->room;
    }
    request->mine_only = query->is_mine_only;
    request->all_versions = query->has_all_versions;
    request->deleted = query->is_deleted;
}

enum err
fc_file_query_each(struct fc_session *session, const struct fc_file_query *query,
    bool (*fn)(void *context, const struct fc_file *file), void *context, struct err_detail *why)
{
    char *token = strdup("");
    bool is_wanted = true;
    enum err err = token != NULL ? ERR_OK : ERR_NO_MEMORY;

    while (err == ERR_OK && is_wanted) {
        Fc__Filestore__V1__ListRequest request = FC__FILESTORE__V1__LIST_REQUEST__INIT;
        struct rpc_unary call;
        const Fc__Filestore__V1__ListResponse *page = NULL;

        fill_list(query, token, &request);
        fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
        call.is_idempotent = true;
        err = fc_session_explain(&call, fc_filestore_v1_file_store_list(&call, &request, &page), why);
        if (err == ERR_OK) {
            err = each_of_page(page, fn, context, &is_wanted, why);
            free(token);
            token = strdup(page->next_page_token);
            is_wanted = is_wanted && page->next_page_token[0] != '\0';
        }
        rpc_unary_deinit(&call);
        if (err == ERR_OK && token == NULL) {
            err = ERR_NO_MEMORY;
        }
    }
    free(token);
    return err;
}

enum err
fc_file_each(struct fc_session *session, const char *prefix, bool (*fn)(void *context, const struct fc_file *file),
    void *context, struct err_detail *why)
{
    const struct fc_file_query query = {.prefix = prefix};
    return fc_file_query_each(session, &query, fn, context, why);
}

// tell_upload passes on one that can be gone on with; others end with their time.
static bool
tell_upload(const Fc__Filestore__V1__UnfinishedUpload *wire,
    bool (*fn)(void *context, const struct fc_unfinished *unfinished), void *context)
{
    struct fc_unfinished unfinished = {
        .name = wire->name,
        .room = wire->room,
        .size_bytes = wire->size_bytes,
        .arrived_bytes = wire->arrived_bytes,
    };

    return !copy_bytes(unfinished.request_id, sizeof(unfinished.request_id), &wire->request_id) ||
           text_check_file_name(wire->name, NULL) != ERR_OK || fn(context, &unfinished);
}

enum err
fc_file_each_upload(struct fc_session *session, bool (*fn)(void *context, const struct fc_unfinished *unfinished),
    void *context, struct err_detail *why)
{
    Fc__Filestore__V1__ListUploadsRequest request = FC__FILESTORE__V1__LIST_UPLOADS_REQUEST__INIT;
    const Fc__Filestore__V1__ListUploadsResponse *response = NULL;
    struct rpc_unary call;
    bool is_wanted = true;

    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_list_uploads(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && is_wanted && i < response->n_uploads; i++) {
        is_wanted = tell_upload(response->uploads[i], fn, context);
    }
    rpc_unary_deinit(&call);
    return err;
}
