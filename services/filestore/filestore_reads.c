// The methods that only read the database, which run on the server's worker threads: Stat, List, GetUsage.
#include <stdlib.h>
#include <string.h>

#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_names.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    VERSION_HEX_BYTES = 2 * sizeof(uint64_t),
};

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

    enum err err = filestore_access_find(tx, &query->filestore->rooms, query->request->file,
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
    return filestore_core_digests(tx, query->file.blob_id, first, &query->md5s, &query->sha256s);
}

void
filestore_stat(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__StatRequest *request,
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
        response.segment_md5s = filestore_wire_bytes(query.md5s.data, query.md5s.size);
        response.segment_sha256s = filestore_wire_bytes(query.sha256s.data, query.sha256s.size);
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
    const Fc__Filestore__V1__ListRequest *request;
    struct filestore_list list;
    struct filestore_room room;
    struct filestore_file *files;
    size_t count;
    bool has_more;
    struct err_detail why;
};

static enum err
list_read(struct store_tx *tx, void *context)
{
    struct list_query *query = context;
    const struct filestore_rooms *rooms = &query->filestore->rooms;
    const uint8_t *user_id = rpc_call_identity(query->call)->subject_id;

    if (query->request->room[0] != '\0') {
        enum err err =
            rooms->find_member_room(rooms->context, tx, query->request->room, user_id, &query->room, &query->why);
        if (err != ERR_OK) {
            return err;
        }
        query->list.room = &query->room;
    }
    return filestore_names_list(tx, rooms, user_id, &query->list, &query->files, &query->count, &query->has_more);
}

// list_parse_token reads a page token: the version of the last file of the page before, in hexadecimal, and its name.
static enum err
list_parse_token(const char *token, struct list_query *query)
{
    char hex[VERSION_HEX_BYTES + 1];
    uint8_t version[sizeof(uint64_t)];
    const char *prefix = query->list.prefix;

    if (token[0] == '\0') {
        return ERR_OK;
    }
    enum err err = strlen(token) > VERSION_HEX_BYTES ? ERR_OK : ERR_INVALID;
    if (err == ERR_OK) {
        memcpy(hex, token, VERSION_HEX_BYTES);
        hex[VERSION_HEX_BYTES] = '\0';
        err = bytes_from_hex(hex, version, sizeof(version));
    }
    if (err != ERR_OK || strncmp(token + VERSION_HEX_BYTES, prefix, strlen(prefix)) != 0) {
        return err_fail(&query->why, ERR_INVALID, "page_token is not from a reply to a List with this prefix");
    }
    query->list.after_name = token + VERSION_HEX_BYTES;
    query->list.after_version = bytes_load_be64(version);
    return ERR_OK;
}

static enum err
list_reply(const struct list_query *query, Fc__Filestore__V1__ListResponse_Closure reply)
{
    Fc__Filestore__V1__ListResponse response = FC__FILESTORE__V1__LIST_RESPONSE__INIT;
    Fc__Filestore__V1__File *files = calloc(query->count + 1, sizeof(*files));
    Fc__Filestore__V1__File **pointers = calloc(query->count + 1, sizeof(*pointers));
    char token[VERSION_HEX_BYTES + FILESTORE_NAME_BYTES];
    uint8_t version[sizeof(uint64_t)];
    enum err err = files == NULL || pointers == NULL ? ERR_NO_MEMORY : ERR_OK;

    if (err == ERR_OK) {
        for (size_t i = 0; i < query->count; i++) {
            filestore_file_to_wire(&query->files[i], &files[i]);
            pointers[i] = &files[i];
        }
        if (query->has_more) {
            const struct filestore_file *last = &query->files[query->count - 1];
            bytes_store_be64(version, last->version);
            bytes_to_hex(bytes_view_of(version, sizeof(version)), token);
            memcpy(token + VERSION_HEX_BYTES, last->name, strlen(last->name) + 1);
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

void
filestore_list_files(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ListRequest *request,
    Fc__Filestore__V1__ListResponse_Closure reply, void *closure_data)
{
    struct list_query query = {
        .filestore = (struct filestore_service *)service,
        .call = closure_data,
        .request = request,
        .list =
            {
                .prefix = request->prefix,
                .limit = request->limit == 0 ? FILESTORE_LIST_MAX : request->limit,
                .has_all_versions = request->all_versions,
                .is_deleted = request->deleted,
                .is_mine_only = request->mine_only,
            },
    };
    enum err err = ERR_OK;

    if (query.list.limit > FILESTORE_LIST_MAX) {
        err = err_fail(&query.why, ERR_INVALID, "limit is %zu; a page has at most %d files", query.list.limit,
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

struct usage_query {
    struct filestore_service *filestore;
    struct rpc_call *call;
    const char *room; // empty: the caller
    struct filestore_usage usage;
    struct err_detail why;
};

static enum err
usage_read(struct store_tx *tx, void *context)
{
    struct usage_query *query = context;
    const struct filestore_rooms *rooms = &query->filestore->rooms;
    const uint8_t *user_id = rpc_call_identity(query->call)->subject_id;
    struct filestore_room room;

    if (query->room[0] == '\0') {
        return filestore_names_user_usage(tx, user_id, &query->usage);
    }
    enum err err = rooms->find_member_room(rooms->context, tx, query->room, user_id, &room, &query->why);
    return err == ERR_OK ? filestore_names_room_usage(tx, room.room_id, &query->usage) : err;
}

void
filestore_get_usage(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__GetUsageRequest *request,
    Fc__Filestore__V1__GetUsageResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct usage_query query = {.filestore = filestore, .call = closure_data, .room = request->room};
    Fc__Filestore__V1__GetUsageResponse response = FC__FILESTORE__V1__GET_USAGE_RESPONSE__INIT;

    enum err err = store_read(filestore->store, usage_read, &query);
    if (err != ERR_OK) {
        filestore_fail(query.call, err, &query.why, NULL);
        return;
    }
    response.used_bytes = query.usage.used_bytes;
    response.file_count = query.usage.file_count;
    response.quota_bytes = request->room[0] == '\0' ? filestore->quotas.user_bytes : filestore->quotas.room_bytes;
    reply(&response, query.call);
}
