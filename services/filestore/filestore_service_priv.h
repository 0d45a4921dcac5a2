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
#include "base/work_pool.h"
#include "rpc/rpc_call.h"
#include "services/filestore/filestore_core.h"
#include "services/filestore/filestore_service.h"

#include "fc/filestore/v1/filestore.pb-c.h"

struct filestore_upload_op;

TAILQ_HEAD(filestore_upload_list, filestore_upload_op);

struct filestore_service {
    Fc__Filestore__V1__FileStore_Service rpc; // first: handlers get its address

    // Immutable after new.
    struct store *store;
    struct blob_store *blobs;
    struct filestore_rooms rooms;
    struct work_pool *chunk_pool;
    struct work_pool *plan_pool;
    struct filestore_http *http;
    bool has_links;
    bool has_grants;
    uint8_t grant_key[CRYPTO_KEY_BYTES];
    uint8_t grant_public_key[CRYPTO_KEY_BYTES];

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t is_idle;
        char base_url[FILESTORE_URL_MAX_BYTES]; // of the web listener; empty: not known
        size_t operations;                      // begun and not yet answered
        // Chunks being stored: two with other content may not be written to the same place at once.
        struct filestore_upload_list uploads;
    } locked;
};

// filestore_grants_open_key reads the key that signs grants, or makes it. ERR_CORRUPT: it is none.
enum err filestore_grants_open_key(struct filestore_service *filestore, const char *path,
    struct err_detail *why) ERR_CHECKED;

// filestore_begin and filestore_end surround an operation that leaves its handler, so that
// filestore_service_free can wait for it. After filestore_end the service may be gone.
void filestore_begin(struct filestore_service *filestore);
void filestore_end(struct filestore_service *filestore);

// filestore_fail answers with an error. An empty explanation of an error that is the server's own is replaced by a
// general one, and goes to the log.
void filestore_fail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason);

// filestore_file_to_wire fills a message that borrows from file.
void filestore_file_to_wire(const struct filestore_file *file, Fc__Filestore__V1__File *out);

// filestore_check_id copies an id from a request; answers by itself when it is none.
bool filestore_check_id(struct rpc_call *call, const char *field, const ProtobufCBinaryData *id,
    uint8_t out[FILESTORE_ID_BYTES]);

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

// The other handlers, each named as its method: in filestore_not_offered.c until there is more to them.
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
