// Login: checked on a worker, hashed on the hashing thread, stored and answered on the writer thread.
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "services/auth/auth_service_priv.h"

struct login_op {
    struct auth_op op;                         // first
    const Fc__Auth__V1__LoginRequest *request; // valid until the answer
    Fc__Auth__V1__LoginResponse_Closure answer;
    struct auth_verifier verifier;
    struct auth_session session;
    char token[AUTH_TOKEN_TEXT_BYTES];
};

static void
login_fail(struct login_op *op, enum err code, const struct err_detail *why, const char *reason, uint32_t retry_ms)
{
    rpc_call_fail_detail(op->op.call, code, why, reason, retry_ms);
    auth_op_free(&op->op, sizeof(*op));
}

static enum err
login_store(struct store_tx *tx, struct store_job *job)
{
    struct login_op *op = (struct login_op *)auth_op_from_job(job);
    return auth_core_add_session(tx, op->token, &op->session, op->request->device_name, clock_unix_ms());
}

static void
login_stored(struct store_job *job, enum err result)
{
    struct login_op *op = (struct login_op *)auth_op_from_job(job);
    if (result == ERR_OK) {
        Fc__Auth__V1__LoginResponse response = FC__AUTH__V1__LOGIN_RESPONSE__INIT;
        response.token = op->token;
        response.expires_at_ms = op->session.expires_ms;
        response.user_id = auth_op_binary_of(op->session.account.user_id, sizeof(op->session.account.user_id));
        op->answer(&response, op->op.call);
    } else {
        auth_op_fail_internally(op->op.call, result, "the login could not be stored");
    }
    auth_op_free(&op->op, sizeof(*op));
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
    enum err err = auth_core_check_key(&op->verifier, auth_op_view_of(op->request->auth_key));
    return err == ERR_OK && found != ERR_OK ? ERR_UNAUTHENTICATED : err;
}

static void
login_hash(struct work *work)
{
    struct login_op *op = (struct login_op *)work;
    struct auth_service *auth = op->op.auth;
    const char *user_name = op->request->user_name;
    struct err_detail why = {0};
    auth_op_hash_begun(&op->op);
    if (rpc_call_is_cancelled(op->op.call)) {
        login_fail(op, ERR_CANCELLED, NULL, NULL, 0);
        return;
    }
    // Asked again: attempts that waited together with this one have been counted meanwhile.
    if (auth_op_is_paused(auth, op->op.call, user_name)) {
        auth_op_free(&op->op, sizeof(*op));
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
        auth_op_fail_internally(op->op.call, err, "the account could not be read");
        auth_op_free(&op->op, sizeof(*op));
        return;
    }
    auth_attempts_succeeded(auth->attempts, user_name);
    random_bytes(op->session.session_id, sizeof(op->session.session_id));
    op->session.expires_ms = clock_unix_ms() + (int64_t)auth->options.token_lifetime_ms;
    err = auth_core_make_token(op->token);
    if (err != ERR_OK) {
        auth_op_fail_internally(op->op.call, err, "no token could be made");
        auth_op_free(&op->op, sizeof(*op));
        return;
    }
    auth_op_write(&op->op, login_store, login_stored);
}

void
auth_login_handle(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__LoginRequest *request,
    Fc__Auth__V1__LoginResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = (struct auth_service *)rpc;
    struct rpc_call *call = closure_data;
    if (!auth_op_check_credentials(call, request->user_name, request->auth_key)) {
        return;
    }
    if (strlen(request->device_name) > AUTH_DEVICE_NAME_MAX_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "device_name has %zu bytes; at most %d are allowed",
            strlen(request->device_name), AUTH_DEVICE_NAME_MAX_BYTES);
        return;
    }
    if (auth_op_is_paused(auth, call, request->user_name)) {
        return;
    }
    struct login_op *op = auth_op_new(auth, call, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->request = request;
    op->answer = answer;
    if (!auth_op_hash(&op->op, login_hash)) {
        auth_op_fail_queue_full(call);
        auth_op_free(&op->op, sizeof(*op));
    }
}
