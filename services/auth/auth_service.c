// The Auth service on the wire: fc.auth.v1.Auth.
//
// A login or sign-up goes through three threads: a worker of the server checks the request, the hashing thread spends
// some 100 ms and 32 MiB on it, and the store's writer thread stores the outcome and answers. There is one hashing
// thread, so that logins can use one processor at most, and each attempt is judged when those before it have been
// counted. Whatever is between request and answer is an operation; auth_service_free waits until there is none.
//
// Lock order: `mutex` is taken last and held for counting only.
#include "services/auth/auth_service.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/random.h"
#include "base/work_pool.h"
#include "rpc/rpc_call.h"
#include "services/auth/auth_attempts.h"
#include "services/auth/auth_core.h"

#include "fc/auth/v1/auth.pb-c.h"

enum {
    // Hashes that may wait: some 13 s of work, which ends within the 30 s that callers wait.
    HASH_QUEUE_MAX = 128,
    HASH_QUEUE_RETRY_MS = 5000,
};

static const uint64_t token_lifetime_default_ms = UINT64_C(30) * 24 * 3600 * 1000;

struct auth_service {
    Fc__Auth__V1__Auth_Service rpc; // first: what the handlers get

    // Immutable after new.
    struct auth_service_options options;
    struct work_pool *hashing;
    struct auth_attempts *attempts;
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

struct sign_up_op {
    struct auth_op op;                          // first
    const Fc__Auth__V1__SignUpRequest *request; // valid until the answer
    Fc__Auth__V1__SignUpResponse_Closure answer;
    struct auth_kdf kdf;
    struct auth_verifier verifier;
    struct auth_account account;
};

struct login_op {
    struct auth_op op;                         // first
    const Fc__Auth__V1__LoginRequest *request; // valid until the answer
    Fc__Auth__V1__LoginResponse_Closure answer;
    struct auth_verifier verifier;
    struct auth_session session;
    char token[AUTH_TOKEN_TEXT_BYTES];
};

struct logout_op {
    struct auth_op op; // first
    Fc__Auth__V1__LogoutResponse_Closure answer;
    uint8_t session_id[AUTH_ID_BYTES];
};

static struct auth_service *
auth_from_rpc(Fc__Auth__V1__Auth_Service *rpc)
{
    return (struct auth_service *)rpc;
}

static struct auth_op *
op_from_job(struct store_job *job)
{
    return (struct auth_op *)((char *)job - offsetof(struct auth_op, job));
}

static struct bytes_view
view_of(ProtobufCBinaryData data)
{
    return bytes_view_of(data.data, data.len);
}

static ProtobufCBinaryData
binary_of(uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = data};
}

// Makes an operation of `size` bytes. When there is no memory it answers the call itself and returns NULL.
static void *
op_new(struct auth_service *auth, struct rpc_call *call, size_t size)
{
    struct auth_op *op = calloc(1, size);
    if (op == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "the server is out of memory");
        return NULL;
    }
    op->auth = auth;
    op->call = call;
    pthread_mutex_lock(&auth->mutex);
    auth->locked.operations++;
    pthread_mutex_unlock(&auth->mutex);
    return op;
}

// Frees an operation whose call has been answered.
static void
op_free(struct auth_op *op, size_t size)
{
    struct auth_service *auth = op->auth;
    digest_wipe(op, size);
    free(op);
    pthread_mutex_lock(&auth->mutex);
    auth->locked.operations--;
    if (auth->locked.operations == 0) {
        pthread_cond_broadcast(&auth->idle);
    }
    pthread_mutex_unlock(&auth->mutex);
}

// Queues an operation for the hashing thread, or returns false when too many wait there.
static bool
op_hash(struct auth_op *op, work_fn *run)
{
    struct auth_service *auth = op->auth;
    pthread_mutex_lock(&auth->mutex);
    bool has_room = auth->locked.hashes < HASH_QUEUE_MAX;
    if (has_room) {
        auth->locked.hashes++;
    }
    pthread_mutex_unlock(&auth->mutex);
    if (has_room) {
        op->work.run = run;
        work_pool_submit(auth->hashing, &op->work);
    }
    return has_room;
}

static void
op_hash_begun(struct auth_op *op)
{
    pthread_mutex_lock(&op->auth->mutex);
    op->auth->locked.hashes--;
    pthread_mutex_unlock(&op->auth->mutex);
}

static void
op_write(struct auth_op *op, enum err (*run)(struct store_tx *, struct store_job *),
    void (*done)(struct store_job *, enum err))
{
    op->job.run = run;
    op->job.done = done;
    store_write(op->auth->options.store, &op->job);
}

static void
fail_queue_full(struct rpc_call *call)
{
    struct err_detail why = {0};
    enum err err = err_fail(&why, ERR_LIMIT, "too many people are logging in just now: try again in %d s",
        HASH_QUEUE_RETRY_MS / 1000);
    rpc_call_fail_detail(call, err, &why, "TOO_MANY_LOGINS", HASH_QUEUE_RETRY_MS);
}

static void
fail_internally(struct rpc_call *call, enum err code, const char *what)
{
    log_error("AUTH-STORE", NULL, "%s: %s", what, err_sentence(code));
    rpc_call_fail(call, code, "%s: %s", what, err_sentence(code));
}

// Answers with ERR_INVALID and returns false when a request breaks the rules in the .proto.
static bool
check_credentials(struct rpc_call *call, const char *user_name, ProtobufCBinaryData auth_key)
{
    struct err_detail why = {0};
    enum err err = text_check_user_name(user_name, &why);
    if (err == ERR_OK && auth_key.len != AUTH_KEY_BYTES) {
        err = err_fail(&why, ERR_INVALID, "auth_key has %zu bytes; it must have %d", auth_key.len, AUTH_KEY_BYTES);
    }
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
    }
    return err == ERR_OK;
}

// --- SignUp -------------------------------------------------------------------------------------------------------

static void
sign_up_end(struct sign_up_op *op, enum err result)
{
    struct rpc_call *call = op->op.call;
    struct err_detail why = {0};
    switch ((int)result) {
    case ERR_OK: {
        Fc__Auth__V1__SignUpResponse response = FC__AUTH__V1__SIGN_UP_RESPONSE__INIT;
        response.user_id = binary_of(op->account.user_id, sizeof(op->account.user_id));
        response.is_admin = op->account.is_admin;
        op->answer(&response, call);
        break;
    }
    case ERR_EXISTS:
        err_fail(&why, result, "the user name \"%s\" is taken: choose another", op->request->user_name);
        rpc_call_fail_detail(call, result, &why, "USER_NAME_TAKEN", 0);
        break;
    case ERR_CONFLICT:
        err_fail(&why, result, "this request_id has made another account already: draw a new one for each call");
        rpc_call_fail_detail(call, result, &why, "REQUEST_ID_REUSED", 0);
        break;
    default:
        fail_internally(call, result, "the account could not be made");
        break;
    }
    op_free(&op->op, sizeof(*op));
}

static enum err
sign_up_store(struct store_tx *tx, struct store_job *job)
{
    struct sign_up_op *op = (struct sign_up_op *)op_from_job(job);
    return auth_core_add_account(tx, rpc_call_request_id(op->op.call), &op->kdf, &op->verifier, clock_unix_ms(),
        &op->account);
}

static void
sign_up_stored(struct store_job *job, enum err result)
{
    struct sign_up_op *op = (struct sign_up_op *)op_from_job(job);
    if (result == ERR_OK) {
        log_info("AUTH-SIGN-UP", NULL, "made the account \"%s\"%s", op->account.user_name,
            op->account.is_admin ? ", which may administer this server" : "");
    }
    sign_up_end(op, result);
}

static void
sign_up_hash(struct work *work)
{
    struct sign_up_op *op = (struct sign_up_op *)work;
    op_hash_begun(&op->op);
    if (rpc_call_is_cancelled(op->op.call)) {
        rpc_call_fail(op->op.call, ERR_CANCELLED, "given up by the caller");
        op_free(&op->op, sizeof(*op));
        return;
    }
    enum err err = auth_core_make_verifier(view_of(op->request->auth_key), &op->verifier);
    if (err != ERR_OK) {
        sign_up_end(op, err);
        return;
    }
    op_write(&op->op, sign_up_store, sign_up_stored);
}

static enum err
sign_up_look(struct store_tx *tx, void *context)
{
    struct sign_up_op *op = context;
    return auth_core_check_new_account(tx, rpc_call_request_id(op->op.call), op->request->user_name, &op->account);
}

static bool
sign_up_check(struct rpc_call *call, const Fc__Auth__V1__SignUpRequest *request, struct auth_kdf *kdf_out)
{
    struct err_detail why = {0};
    if (!check_credentials(call, request->user_name, request->auth_key)) {
        return false;
    }
    if (request->kdf == NULL) {
        rpc_call_fail(call, ERR_INVALID, "kdf is missing");
        return false;
    }
    struct bytes_view salt = view_of(request->kdf->salt);
    struct auth_kdf kdf = {.salt_size = salt.size,
        .log2_n = request->kdf->log2_n,
        .r = request->kdf->r,
        .p = request->kdf->p};
    enum err err = auth_core_check_kdf(&kdf, &why);
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
        return false;
    }
    memcpy(kdf.salt, salt.data, salt.size);
    if (rpc_call_request_id(call).size != RPC_REQUEST_ID_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "SignUp needs a request_id of %d random bytes", RPC_REQUEST_ID_BYTES);
        return false;
    }
    *kdf_out = kdf;
    return true;
}

static void
handle_sign_up(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__SignUpRequest *request,
    Fc__Auth__V1__SignUpResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = auth_from_rpc(rpc);
    struct rpc_call *call = closure_data;
    struct auth_kdf kdf;
    if (auth->options.is_signup_closed) {
        struct err_detail why = {0};
        enum err err = err_fail(&why, ERR_DENIED, "sign-up is closed on this server: ask its operator for an account");
        rpc_call_fail_detail(call, err, &why, "SIGN_UP_CLOSED", 0);
        return;
    }
    if (!sign_up_check(call, request, &kdf)) {
        return;
    }
    struct sign_up_op *op = op_new(auth, call, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->request = request;
    op->answer = answer;
    op->kdf = kdf;
    enum err err = store_read(auth->options.store, sign_up_look, op);
    if (err != ERR_NOT_FOUND) {
        sign_up_end(op, err); // a resend, or bound to fail: no hash is spent on it
        return;
    }
    random_bytes(op->account.user_id, sizeof(op->account.user_id));
    memcpy(op->account.user_name, request->user_name, strlen(request->user_name) + 1);
    if (!op_hash(&op->op, sign_up_hash)) {
        fail_queue_full(call);
        op_free(&op->op, sizeof(*op));
    }
}

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
    struct auth_service *auth = auth_from_rpc(rpc);
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
        fail_internally(call, err, "the login parameters could not be read");
        return;
    }
    Fc__Auth__V1__KdfParameters kdf = FC__AUTH__V1__KDF_PARAMETERS__INIT;
    kdf.salt = binary_of(query.kdf.salt, query.kdf.salt_size);
    kdf.log2_n = query.kdf.log2_n;
    kdf.r = query.kdf.r;
    kdf.p = query.kdf.p;
    Fc__Auth__V1__GetLoginParametersResponse response = FC__AUTH__V1__GET_LOGIN_PARAMETERS_RESPONSE__INIT;
    response.kdf = &kdf;
    answer(&response, call);
}

// --- Login --------------------------------------------------------------------------------------------------------

static void
login_fail(struct login_op *op, enum err code, const struct err_detail *why, const char *reason, uint32_t retry_ms)
{
    rpc_call_fail_detail(op->op.call, code, why, reason, retry_ms);
    op_free(&op->op, sizeof(*op));
}

// Answers and returns true when the name has to wait.
static bool
login_is_paused(struct rpc_call *call, struct auth_service *auth, const char *user_name)
{
    struct err_detail why = {0};
    uint32_t pause_ms = auth_attempts_pause_ms(auth->attempts, user_name, clock_monotonic_ms());
    if (pause_ms == 0) {
        return false;
    }
    enum err err = err_fail(&why, ERR_LIMIT, "too many failed logins as \"%s\": try again in %u s", user_name,
        (pause_ms + 999) / 1000);
    rpc_call_fail_detail(call, err, &why, "TOO_MANY_ATTEMPTS", pause_ms);
    return true;
}

static enum err
login_store(struct store_tx *tx, struct store_job *job)
{
    struct login_op *op = (struct login_op *)op_from_job(job);
    return auth_core_add_session(tx, op->token, &op->session, op->request->device_name, clock_unix_ms());
}

static void
login_stored(struct store_job *job, enum err result)
{
    struct login_op *op = (struct login_op *)op_from_job(job);
    if (result == ERR_OK) {
        Fc__Auth__V1__LoginResponse response = FC__AUTH__V1__LOGIN_RESPONSE__INIT;
        response.token = op->token;
        response.expires_at_ms = op->session.expires_ms;
        response.user_id = binary_of(op->session.account.user_id, sizeof(op->session.account.user_id));
        op->answer(&response, op->op.call);
    } else {
        fail_internally(op->op.call, result, "the login could not be stored");
    }
    op_free(&op->op, sizeof(*op));
}

static enum err
login_look(struct store_tx *tx, void *context)
{
    struct login_op *op = context;
    return auth_core_find_account(tx, op->request->user_name, &op->session.account, NULL, &op->verifier);
}

// Compares the key. An unknown name costs the same hash and fails the same way as a wrong key.
static enum err
login_check_key(struct login_op *op)
{
    struct auth_service *auth = op->op.auth;
    enum err found = store_read(auth->options.store, login_look, op);
    if (found == ERR_NOT_FOUND) {
        op->verifier = auth->nobody;
    } else if (found != ERR_OK) {
        return found;
    }
    enum err err = auth_core_check_key(&op->verifier, view_of(op->request->auth_key));
    return err == ERR_OK && found != ERR_OK ? ERR_UNAUTHENTICATED : err;
}

static void
login_hash(struct work *work)
{
    struct login_op *op = (struct login_op *)work;
    struct auth_service *auth = op->op.auth;
    const char *user_name = op->request->user_name;
    struct err_detail why = {0};
    op_hash_begun(&op->op);
    if (rpc_call_is_cancelled(op->op.call)) {
        login_fail(op, ERR_CANCELLED, NULL, NULL, 0);
        return;
    }
    // Asked again: attempts that waited together with this one have been counted meanwhile.
    if (login_is_paused(op->op.call, auth, user_name)) {
        op_free(&op->op, sizeof(*op));
        return;
    }
    enum err err = login_check_key(op);
    if (err == ERR_UNAUTHENTICATED) {
        auth_attempts_failed(auth->attempts, user_name, clock_monotonic_ms());
        err_fail(&why, err, "wrong user name or password");
        login_fail(op, err, &why, "WRONG_CREDENTIALS", 0);
        return;
    }
    if (err != ERR_OK) {
        fail_internally(op->op.call, err, "the account could not be read");
        op_free(&op->op, sizeof(*op));
        return;
    }
    auth_attempts_succeeded(auth->attempts, user_name);
    random_bytes(op->session.session_id, sizeof(op->session.session_id));
    op->session.expires_ms = clock_unix_ms() + (int64_t)auth->options.token_lifetime_ms;
    auth_core_make_token(op->token);
    op_write(&op->op, login_store, login_stored);
}

static void
handle_login(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__LoginRequest *request,
    Fc__Auth__V1__LoginResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = auth_from_rpc(rpc);
    struct rpc_call *call = closure_data;
    if (!check_credentials(call, request->user_name, request->auth_key)) {
        return;
    }
    if (strlen(request->device_name) > AUTH_DEVICE_NAME_MAX_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "device_name has %zu bytes; at most %d are allowed",
            strlen(request->device_name), AUTH_DEVICE_NAME_MAX_BYTES);
        return;
    }
    if (login_is_paused(call, auth, request->user_name)) {
        return;
    }
    struct login_op *op = op_new(auth, call, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->request = request;
    op->answer = answer;
    if (!op_hash(&op->op, login_hash)) {
        fail_queue_full(call);
        op_free(&op->op, sizeof(*op));
    }
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
    response.user_id = binary_of(identity.subject_id, sizeof(identity.subject_id));
    response.user_name = identity.subject_name;
    response.is_admin = identity.is_admin;
    response.token_expires_at_ms = identity.expires_unix_ms;
    answer(&response, closure_data);
}

// --- Logout -------------------------------------------------------------------------------------------------------

static enum err
logout_store(struct store_tx *tx, struct store_job *job)
{
    struct logout_op *op = (struct logout_op *)op_from_job(job);
    return auth_core_remove_session(tx, op->session_id);
}

static void
logout_stored(struct store_job *job, enum err result)
{
    struct logout_op *op = (struct logout_op *)op_from_job(job);
    const struct auth_service_options *options = &op->op.auth->options;
    if (result == ERR_OK) {
        Fc__Auth__V1__LogoutResponse response = FC__AUTH__V1__LOGOUT_RESPONSE__INIT;
        if (options->on_revoked != NULL) {
            options->on_revoked(options->context); // before the answer: the next call must not find the token cached
        }
        op->answer(&response, op->op.call);
    } else {
        fail_internally(op->op.call, result, "the token could not be revoked");
    }
    op_free(&op->op, sizeof(*op));
}

static void
handle_logout(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__LogoutRequest *request,
    Fc__Auth__V1__LogoutResponse_Closure answer, void *closure_data)
{
    (void)request;
    struct auth_service *auth = auth_from_rpc(rpc);
    struct rpc_call *call = closure_data;
    struct logout_op *op = op_new(auth, call, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->answer = answer;
    memcpy(op->session_id, rpc_call_identity(call)->session_id, sizeof(op->session_id));
    op_write(&op->op, logout_store, logout_stored);
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
    auth->rpc = (Fc__Auth__V1__Auth_Service)FC__AUTH__V1__AUTH__INIT(handle_);
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
        err = work_pool_new("auth-hash", 1, &auth->hashing);
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
    auth_attempts_free(&self->attempts);
    pthread_cond_destroy(&self->idle);
    pthread_mutex_destroy(&self->mutex);
    digest_wipe(self, sizeof(*self));
    free(self);
    *auth = NULL;
}
