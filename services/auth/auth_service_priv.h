// For the Auth service's own files only: the service, and the operations between a request and its answer.
#ifndef AUTH_AUTH_SERVICE_PRIV_H
#define AUTH_AUTH_SERVICE_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/work_pool.h"
#include "rpc/rpc_call.h"
#include "services/auth/auth_attempts.h"
#include "services/auth/auth_chains.h"
#include "services/auth/auth_core.h"
#include "services/auth/auth_service.h"
#include "services/store/store.h"

#include "fc/auth/v1/auth.pb-c.h"
#include "fc/auth/v1/keys.pb-c.h"

struct auth_service {
    Fc__Auth__V1__Auth_Service rpc; // first: what the handlers get
    Fc__Auth__V1__Keys_Service keys_rpc;

    // Immutable after new.
    struct auth_service_options options;
    struct work_pool *hashing;
    struct auth_attempts *attempts;
    struct auth_chains *chains;
    uint8_t secret[AUTH_SECRET_BYTES];
    struct auth_verifier nobody; // what keys for unknown names are compared with; no key matches it

    pthread_mutex_t mutex;
    pthread_cond_t idle; // operations became 0
    struct {
        unsigned hashes;     // submitted and not begun
        unsigned operations; // begun and not answered
    } locked;
};

// What every operation begins with.
struct auth_op {
    struct work work; // first
    struct store_job job;
    struct auth_service *auth;
    struct rpc_call *call;
};

// auth_op_new makes an operation of `size` bytes, which begins with a struct auth_op. When there is no memory it
// answers the call itself and returns NULL.
void *auth_op_new(struct auth_service *auth, struct rpc_call *call, size_t size);

// auth_op_free wipes and frees an operation whose call has been answered.
void auth_op_free(struct auth_op *op, size_t size);

// auth_op_hash queues an operation for the hashing thread, or returns false when too many wait there already: then
// auth_op_fail_queue_full answers. What it runs calls auth_op_hash_begun first.
bool auth_op_hash(struct auth_op *op, work_fn *run);
void auth_op_hash_begun(struct auth_op *op);
void auth_op_fail_queue_full(struct rpc_call *call);

// auth_op_write queues an operation for the store's writer thread. Both get op->job: auth_op_from_job.
void auth_op_write(struct auth_op *op, enum err (*run)(struct store_tx *tx, struct store_job *job),
    void (*done)(struct store_job *job, enum err result));
struct auth_op *auth_op_from_job(struct store_job *job);

// auth_op_fail_internally answers with an error that is the server's own, and logs it.
void auth_op_fail_internally(struct rpc_call *call, enum err code, const char *what);

// auth_op_check_kdf answers and returns false when what a client wants to derive its key with is out of bounds.
bool auth_op_check_kdf(struct rpc_call *call, const Fc__Auth__V1__KdfParameters *wire, struct auth_kdf *out);

// auth_op_is_paused answers and returns true when the name has to wait after failed attempts.
bool auth_op_is_paused(struct auth_service *auth, struct rpc_call *call, const char *user_name);

// auth_op_check_credentials answers and returns false when a request breaks the rules in the .proto.
bool auth_op_check_credentials(struct rpc_call *call, const char *user_name, ProtobufCBinaryData auth_key);

struct bytes_view auth_op_view_of(ProtobufCBinaryData data);
ProtobufCBinaryData auth_op_binary_of(uint8_t *data, size_t size);

// The handlers that have a file of their own.
void auth_sign_up_handle(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__SignUpRequest *request,
    Fc__Auth__V1__SignUpResponse_Closure answer, void *closure_data);
void auth_login_handle(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__LoginRequest *request,
    Fc__Auth__V1__LoginResponse_Closure answer, void *closure_data);
void auth_password_handle(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__ChangePasswordRequest *request,
    Fc__Auth__V1__ChangePasswordResponse_Closure answer, void *closure_data);
void auth_sessions_handle_list(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__ListSessionsRequest *request,
    Fc__Auth__V1__ListSessionsResponse_Closure answer, void *closure_data);
void auth_sessions_handle_revoke(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__RevokeSessionRequest *request,
    Fc__Auth__V1__RevokeSessionResponse_Closure answer, void *closure_data);

void auth_keys_handle_get_users(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__GetUsersRequest *request,
    Fc__Auth__V1__GetUsersResponse_Closure answer, void *closure_data);

// auth_keys_service is the service that a handler of Keys belongs to.
struct auth_service *auth_keys_service(Fc__Auth__V1__Keys_Service *rpc);

// auth_keys_init fills keys_rpc.
void auth_keys_init(struct auth_service *auth);

#endif
