// The Auth service on the wire: fc.auth.v1.Auth.
//
// A login or sign-up goes through three threads: a worker of the server checks the request, the hashing thread spends
// some 100 ms and 32 MiB on it, and the store's writer thread stores the outcome and answers. There is one hashing
// thread, so that logins can use one processor at most, and each attempt is judged when those before it have been
// counted. Whatever is between request and answer is an operation; auth_service_free waits until there is none.
//
// Lock order: `mutex` is taken last and held for counting only.
#include "services/auth/auth_service.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/text.h"
#include "services/auth/auth_service_priv.h"

static const uint64_t token_lifetime_default_ms = UINT64_C(30) * 24 * 3600 * 1000;

struct logout_op {
    struct auth_op op; // first
    Fc__Auth__V1__LogoutResponse_Closure answer;
    uint8_t session_id[AUTH_ID_BYTES];
};

// --- GetLoginParameters -------------------------------------------------------------------------------------------

struct login_kdf_query {
    const struct auth_service *auth;
    const char *user_name;
    struct auth_kdf kdf;
};

static enum err
login_kdf_read(struct store_tx *tx, void *context)
{
    struct login_kdf_query *query = context;
    return auth_core_login_kdf(tx, query->auth->secret, query->user_name, &query->kdf);
}

static void
handle_get_login_parameters(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__GetLoginParametersRequest *request,
    Fc__Auth__V1__GetLoginParametersResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = (struct auth_service *)rpc;
    struct rpc_call *call = closure_data;
    struct err_detail why = {0};
    struct login_kdf_query query = {.auth = auth, .user_name = request->user_name};
    enum err err = text_check_user_name(request->user_name, &why);
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
        return;
    }
    err = store_read(auth->options.store, login_kdf_read, &query);
    if (err != ERR_OK) {
        auth_op_fail_internally(call, err, "the login parameters could not be read");
        return;
    }
    Fc__Auth__V1__KdfParameters kdf = FC__AUTH__V1__KDF_PARAMETERS__INIT;
    kdf.salt = auth_op_binary_of(query.kdf.salt, query.kdf.salt_size);
    kdf.log2_n = query.kdf.log2_n;
    kdf.r = query.kdf.r;
    kdf.p = query.kdf.p;
    Fc__Auth__V1__GetLoginParametersResponse response = FC__AUTH__V1__GET_LOGIN_PARAMETERS_RESPONSE__INIT;
    response.kdf = &kdf;
    answer(&response, call);
}

// --- WhoAmI -------------------------------------------------------------------------------------------------------

static void
handle_who_am_i(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__WhoAmIRequest *request,
    Fc__Auth__V1__WhoAmIResponse_Closure answer, void *closure_data)
{
    (void)rpc;
    (void)request;
    struct rpc_identity identity = *rpc_call_identity(closure_data);
    Fc__Auth__V1__WhoAmIResponse response = FC__AUTH__V1__WHO_AM_IRESPONSE__INIT;
    response.user_id = auth_op_binary_of(identity.subject_id, sizeof(identity.subject_id));
    response.user_name = identity.subject_name;
    response.is_admin = identity.is_admin;
    response.token_expires_at_ms = identity.expires_unix_ms;
    answer(&response, closure_data);
}

// --- Logout -------------------------------------------------------------------------------------------------------

static enum err
logout_store(struct store_tx *tx, struct store_job *job)
{
    struct logout_op *op = (struct logout_op *)auth_op_from_job(job);
    return auth_core_remove_session(tx, op->session_id);
}

static void
logout_stored(struct store_job *job, enum err result)
{
    struct logout_op *op = (struct logout_op *)auth_op_from_job(job);
    const struct auth_service_options *options = &op->op.auth->options;
    if (result == ERR_OK) {
        Fc__Auth__V1__LogoutResponse response = FC__AUTH__V1__LOGOUT_RESPONSE__INIT;
        // Before the answer: the next call must not find the token cached.
        if (options->on_revoked != NULL) {
            options->on_revoked(options->context, op->session_id);
        }
        op->answer(&response, op->op.call);
    } else {
        auth_op_fail_internally(op->op.call, result, "the token could not be revoked");
    }
    auth_op_free(&op->op, sizeof(*op));
}

static void
handle_logout(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__LogoutRequest *request,
    Fc__Auth__V1__LogoutResponse_Closure answer, void *closure_data)
{
    (void)request;
    struct auth_service *auth = (struct auth_service *)rpc;
    struct rpc_call *call = closure_data;
    struct logout_op *op = auth_op_new(auth, call, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->answer = answer;
    memcpy(op->session_id, rpc_call_identity(call)->session_id, sizeof(op->session_id));
    auth_op_write(&op->op, logout_store, logout_stored);
}

// --- What the server asks -----------------------------------------------------------------------------------------

struct session_query {
    struct bytes_view token;
    struct auth_session session;
};

static enum err
session_read(struct store_tx *tx, void *context)
{
    struct session_query *query = context;
    return auth_core_find_session(tx, query->token, clock_unix_ms(), &query->session);
}

enum err
auth_service_authenticate(void *auth, struct bytes_view token, struct rpc_identity *identity_out)
{
    _Static_assert(sizeof(((struct auth_account *)0)->user_name) <= RPC_SUBJECT_NAME_MAX_BYTES, "a user name fits");
    struct auth_service *self = auth;
    struct session_query query = {.token = token};
    enum err err = store_read(self->options.store, session_read, &query);
    if (err != ERR_OK) {
        return err;
    }
    const struct auth_account *account = &query.session.account;
    struct rpc_identity identity = {.is_admin = account->is_admin, .expires_unix_ms = query.session.expires_ms};
    memcpy(identity.subject_id, account->user_id, sizeof(identity.subject_id));
    memcpy(identity.session_id, query.session.session_id, sizeof(identity.session_id));
    memcpy(identity.subject_name, account->user_name, sizeof(account->user_name));
    *identity_out = identity;
    return ERR_OK;
}

static const struct rpc_method_rule rules[] = {
    {.method = "SignUp", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = 1024},
    {.method = "GetLoginParameters", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = 1024},
    {.method = "Login", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = 1024},
    {.method = "WhoAmI", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "Logout", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "ChangePassword", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024, .executes_once = true},
    {.method = "ListSessions", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "RevokeSession", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024, .executes_once = true},
};

const struct rpc_method_rule *
auth_service_rules(size_t *count_out)
{
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

ProtobufCService *
auth_service_rpc(struct auth_service *auth)
{
    return &auth->rpc.base;
}

enum err
auth_service_new(const struct auth_service_options *options, struct auth_service **out, struct err_detail *why)
{
    struct auth_service *auth = calloc(1, sizeof(*auth));
    if (auth == NULL) {
        return ERR_NO_MEMORY;
    }
    auth->rpc = (Fc__Auth__V1__Auth_Service){
        .base = FC__AUTH__V1__AUTH__BASE_INIT,
        .sign_up = auth_sign_up_handle,
        .get_login_parameters = handle_get_login_parameters,
        .login = auth_login_handle,
        .who_am_i = handle_who_am_i,
        .logout = handle_logout,
        .change_password = auth_password_handle,
        .list_sessions = auth_sessions_handle_list,
        .revoke_session = auth_sessions_handle_revoke,
    };
    auth_keys_init(auth);
    auth->options = *options;
    if (auth->options.token_lifetime_ms == 0) {
        auth->options.token_lifetime_ms = token_lifetime_default_ms;
    }
    random_bytes(&auth->nobody, sizeof(auth->nobody));
    pthread_mutex_init(&auth->mutex, NULL);
    pthread_cond_init(&auth->idle, NULL);
    enum err err = auth_core_migrate(options->store, auth->secret, why);
    if (err == ERR_OK) {
        err = auth_attempts_new(&auth->attempts);
    }
    if (err == ERR_OK) {
        err = auth_chains_new(&auth->chains);
    }
    if (err == ERR_OK) {
        err = work_pool_new_patient("auth-hash", 1, &auth->hashing);
    }
    if (err != ERR_OK) {
        auth_service_free(&auth);
        return err;
    }
    *out = auth;
    return ERR_OK;
}

void
auth_service_free(struct auth_service **auth)
{
    struct auth_service *self = *auth;
    if (self == NULL) {
        return;
    }
    pthread_mutex_lock(&self->mutex);
    while (self->locked.operations > 0) {
        pthread_cond_wait(&self->idle, &self->mutex);
    }
    pthread_mutex_unlock(&self->mutex);
    work_pool_free(&self->hashing);
    auth_chains_free(&self->chains);
    auth_attempts_free(&self->attempts);
    pthread_cond_destroy(&self->idle);
    pthread_mutex_destroy(&self->mutex);
    digest_wipe(self, sizeof(*self));
    free(self);
    *auth = NULL;
}
