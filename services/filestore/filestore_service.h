// The FileStore service: planned, chunked uploads and downloads by segment. fc.filestore.v1.FileStore
#ifndef FILESTORE_FILESTORE_SERVICE_H
#define FILESTORE_FILESTORE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"
#include "rpc/rpc_content.h"
#include "rpc/rpc_server.h"
#include "services/filestore/filestore_core.h"
#include "services/store/blob.h"
#include "services/store/store.h"

struct filestore_service;

enum {
    FILESTORE_URL_MAX_BYTES = 1024, // with its NUL
};

// What is known of a file that is shared with a room.
struct filestore_shared_file {
    char name[1025];
    uint64_t size_bytes;
    uint8_t md5[16];
};

struct filestore_service_options {
    struct store *store;
    struct blob_store *blobs;
    // The room with this name or id, for a user who is in it. ERR_NOT_FOUND, or ERR_DENIED for one who is not.
    enum err (*find_member_room)(void *context, struct store_tx *tx, const char *room, const uint8_t user_id[16],
        struct filestore_room *room_out, struct err_detail *why);
    enum err (*is_member)(void *context, struct store_tx *tx, const uint8_t room_id[16], const uint8_t user_id[16],
        bool *is_member_out);
    // Whether what the room's members share is sealed for them. NULL: of no room.
    enum err (*is_encrypted)(void *context, struct store_tx *tx, const uint8_t room_id[16], bool *is_encrypted_out);
    const char *grant_key_path; // the key that signs grants, made when it is missing; NULL: no grants
    bool has_no_links;
    // The user with this name. ERR_NOT_FOUND. May be NULL: then nothing can be shared with users.
    enum err (*find_user)(void *context, struct store_tx *tx, const char *name, uint8_t id_out[16]);
    void *context;
    uint64_t user_quota_bytes;    // 0: no limit
    uint64_t room_quota_bytes;    // 0: no limit
    int64_t delete_grace_ms;      // how long what was deleted can be restored
    const char *backup_lock_path; // a file that a running backup locks, so that nothing is removed meanwhile; or NULL
};

// filestore_service_new migrates its tables and removes what abandoned uploads (older than 7 days, or unknown to the
// database) left on disk.
enum err filestore_service_new(const struct filestore_service_options *options, struct filestore_service **out,
    struct err_detail *why) ERR_CHECKED;
ProtobufCService *filestore_service_rpc(struct filestore_service *filestore);
const struct rpc_method_rule *filestore_service_rules(size_t *count_out);

// filestore_service_content is what the web listeners serve: files behind links. NULL: there are none.
const struct rpc_content_handler *filestore_service_content(const struct filestore_service *filestore);

// filestore_service_set_base_url says where browsers reach the web listener: what links begin with. Any thread.
void filestore_service_set_base_url(struct filestore_service *filestore, const char *url);

// filestore_service_find_shared says what is known of a file that is shared with a room: ERR_NOT_FOUND if it is not.
// For the sibling that announces files.
enum err filestore_service_find_shared(struct filestore_service *filestore, struct store_tx *tx,
    const uint8_t room_id[16], const uint8_t file_id[16], struct filestore_shared_file *out) ERR_CHECKED;

// filestore_service_free waits for what is being hashed. After rpc_server_free, when no handler runs any more.
void filestore_service_free(struct filestore_service **filestore);

#endif
