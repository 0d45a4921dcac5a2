// For the sources of the FileStore service only: the service, and the methods that take several steps.
//
// Threads: a handler begins on a worker of the server, which only checks values and makes small queries. Chunks are
// hashed and read on chunk_pool, what waits for the disk or reads whole files runs on plan_pool, so that small calls
// never wait for either. Between their steps operations are in the hands of the blob store and the store, whose
// threads call back.
#ifndef FILESTORE_FILESTORE_SERVICE_PRIV_H
#define FILESTORE_FILESTORE_SERVICE_PRIV_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/crypto.h"
#include "base/timer.h"
#include "base/work_pool.h"
#include "rpc/rpc_call.h"
#include "services/filestore/filestore_contents.h"
#include "services/filestore/filestore_core.h"
#include "services/filestore/filestore_names.h"
#include "services/filestore/filestore_service.h"
#include "services/filestore/filestore_whole.h"

#include "fc/filestore/v1/filestore.pb-c.h"

enum {
    FILESTORE_PUT_MAX_BYTES = 1024 * 1024, // of content in one call
    FILESTORE_PUT_FILES_MAX = 1000,
};

struct filestore_upload_op;

TAILQ_HEAD(filestore_upload_list, filestore_upload_op);

struct filestore_service {
    Fc__Filestore__V1__FileStore_Service rpc; // first: handlers get its address

    // Immutable after new.
    struct store *store;
    struct blob_store *blobs;
    struct filestore_rooms rooms;
    struct work_pool *chunk_pool;
    struct filestore_wholes wholes;
    struct work_pool *plan_pool;
    struct filestore_http *http;
    bool has_links;
    bool has_grants;
    uint8_t grant_key[CRYPTO_KEY_BYTES];
    uint8_t grant_public_key[CRYPTO_KEY_BYTES];
    enum err (*find_user)(void *context, struct store_tx *tx, const char *name, uint8_t id_out[FILESTORE_ID_BYTES]);
    struct filestore_quotas quotas;
    int64_t delete_grace_ms;
    int backup_lock_fd;

    // The sweep: a timer that hands it to a thread of its own.
    struct timer_queue *timers;
    struct timer sweep_timer;
    struct work_pool *sweep_pool;
    struct work sweep_work;

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t is_idle;
        char base_url[FILESTORE_URL_MAX_BYTES]; // of the web listener; empty: not known
        size_t operations;                      // begun and not yet answered
        // Chunks being stored: two with other content may not be written to the same place at once.
        struct filestore_upload_list uploads;
        bool is_sweep_queued;
        bool is_sweep_wanted; // once more, when the one that runs has ended
        bool is_stopping;
    } locked;
};

// filestore_grants_open_key reads the key that signs grants, or makes it. ERR_CORRUPT: it is none.
enum err filestore_grants_open_key(struct filestore_service *filestore, const char *path,
    struct err_detail *why) ERR_CHECKED;

// filestore_grants_root computes the root that a grant of a file commits to. ERR_CANCELLED: the call, which may be
// NULL, was.
enum err filestore_grants_root(struct store_tx *tx, const struct filestore_file *file, const struct rpc_call *call,
    uint8_t root_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

// filestore_begin and filestore_end surround an operation that leaves its handler, so that
// filestore_service_free can wait for it. After filestore_end the service may be gone.
void filestore_begin(struct filestore_service *filestore);
void filestore_end(struct filestore_service *filestore);

// filestore_fail answers with an error. An empty explanation of an error that is the server's own is replaced by a
// general one, and goes to the log.
void filestore_fail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason);

// filestore_wire_bytes and filestore_wire_text drop const, which protobuf-c has not: a reply is only read.
ProtobufCBinaryData filestore_wire_bytes(const uint8_t *data, size_t size);
char *filestore_wire_text(const char *text);

// filestore_file_to_wire fills a message that borrows from file.
void filestore_file_to_wire(const struct filestore_file *file, Fc__Filestore__V1__File *out);

// filestore_check_id copies an id from a request; answers by itself when it is none.
bool filestore_check_id(struct rpc_call *call, const char *field, const ProtobufCBinaryData *id,
    uint8_t out[FILESTORE_ID_BYTES]);

// filestore_read_content reads a part of a content, wherever it is; one whose commit was cut short between its row and
// the move of its bytes is moved now. Blocks for the disk. ERR_NOT_FOUND, ERR_OUT_OF_RANGE.
enum err filestore_read_content(struct filestore_service *filestore, const uint8_t blob_id[FILESTORE_ID_BYTES],
    uint64_t size_bytes, uint64_t offset, void *out, size_t size) ERR_CHECKED;

// filestore_verify_content reads a content through: ERR_CORRUPT if it cannot be read as it was stored.
enum err filestore_verify_content(struct filestore_service *filestore,
    const struct filestore_content *content) ERR_CHECKED;

// filestore_note_damage has an upload of the same content take the place of this one. Blocks: not on the writer thread.
void filestore_note_damage(struct filestore_service *filestore, const uint8_t blob_id[FILESTORE_ID_BYTES]);

// filestore_check_metadata checks what is said of a file. ERR_INVALID.
enum err filestore_check_metadata(const char *name, const char *mime_type, uint32_t mode,
    struct err_detail *why) ERR_CHECKED;

// In filestore_sweep.c: what removes what is due and what nobody needs any more, by a timer and when it is told.
enum err filestore_sweep_start(struct filestore_service *filestore, struct err_detail *why) ERR_CHECKED;
void filestore_sweep_stop(struct filestore_service *filestore);
void filestore_sweep_soon(struct filestore_service *filestore);

// The handlers in filestore_plans.c.
void filestore_plans_save(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__SaveRequest *request,
    Fc__Filestore__V1__SaveResponse_Closure reply, void *closure_data);
void filestore_plans_commit(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__CommitRequest *request, Fc__Filestore__V1__CommitResponse_Closure reply,
    void *closure_data);
void filestore_plans_cancel(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__CancelRequest *request, Fc__Filestore__V1__CancelResponse_Closure reply,
    void *closure_data);

// The handlers in filestore_chunks.c.
void filestore_chunks_upload(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__UploadRequest *request, Fc__Filestore__V1__UploadResponse_Closure reply,
    void *closure_data);
void filestore_chunks_download(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__DownloadRequest *request, Fc__Filestore__V1__DownloadResponse_Closure reply,
    void *closure_data);

// The other handlers, each named as its method.
void filestore_stat(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__StatRequest *request,
    Fc__Filestore__V1__StatResponse_Closure reply, void *closure_data);
void filestore_list_uploads(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__ListUploadsRequest *request, Fc__Filestore__V1__ListUploadsResponse_Closure reply,
    void *closure_data);
void filestore_list_files(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ListRequest *request,
    Fc__Filestore__V1__ListResponse_Closure reply, void *closure_data);
void filestore_put(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__PutRequest *request,
    Fc__Filestore__V1__PutResponse_Closure reply, void *closure_data);
void filestore_rename(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__RenameRequest *request,
    Fc__Filestore__V1__RenameResponse_Closure reply, void *closure_data);
void filestore_delete(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__DeleteRequest *request,
    Fc__Filestore__V1__DeleteResponse_Closure reply, void *closure_data);
void filestore_restore(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__RestoreRequest *request,
    Fc__Filestore__V1__RestoreResponse_Closure reply, void *closure_data);
void filestore_share(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__ShareRequest *request,
    Fc__Filestore__V1__ShareResponse_Closure reply, void *closure_data);
void filestore_create_link(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__CreateLinkRequest *request, Fc__Filestore__V1__CreateLinkResponse_Closure reply,
    void *closure_data);
void filestore_list_links(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__ListLinksRequest *request, Fc__Filestore__V1__ListLinksResponse_Closure reply,
    void *closure_data);
void filestore_revoke_link(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__RevokeLinkRequest *request, Fc__Filestore__V1__RevokeLinkResponse_Closure reply,
    void *closure_data);
void filestore_get_grant(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__GetGrantRequest *request, Fc__Filestore__V1__GetGrantResponse_Closure reply,
    void *closure_data);
void filestore_get_usage(Fc__Filestore__V1__FileStore_Service *service,
    const Fc__Filestore__V1__GetUsageRequest *request, Fc__Filestore__V1__GetUsageResponse_Closure reply,
    void *closure_data);

#endif
