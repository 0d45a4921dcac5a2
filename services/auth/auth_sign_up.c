// SignUp: checked on a worker, hashed on the hashing thread, stored and answered on the writer thread.
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "services/auth/auth_service_priv.h"

struct sign_up_op {
    struct auth_op op;                          // first
    const Fc__Auth__V1__SignUpRequest *request; // valid until the answer
    Fc__Auth__V1__SignUpResponse_Closure answer;
    struct auth_kdf kdf;
    struct auth_verifier verifier;
    struct auth_account account;
};

static void
sign_up_end(struct sign_up_op *op, enum err result)
{
    struct rpc_call *call = op->op.call;
    struct err_detail why = {0};
    switch ((int)result) {
    case ERR_OK: {
        Fc__Auth__V1__SignUpResponse response = FC__AUTH__V1__SIGN_UP_RESPONSE__INIT;
        response.user_id = auth_op_binary_of(op->account.user_id, sizeof(op->account.user_id));
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
    case ERR_LIMIT:
        err_fail(&why, result, "this server has all the accounts that its operator allows: ask them for room");
        rpc_call_fail_detail(call, result, &why, "TOO_MANY_USERS", 0);
        break;
    default:
        auth_op_fail_internally(call, result, "the account could not be made");
        break;
    }
    auth_op_free(&op->op, sizeof(*op));
}

// How the sign-up would end: ERR_NOT_FOUND when the way is clear. ERR_LIMIT: the server is full.
static enum err
sign_up_look(struct store_tx *tx, void *context)
{
    struct sign_up_op *op = context;
    uint64_t max_users = op->op.auth->options.max_users;
    uint64_t count = 0;
    enum err err =
        auth_core_check_new_account(tx, rpc_call_request_id(op->op.call), op->request->user_name, &op->account);
    if (err != ERR_NOT_FOUND || max_users == 0) {
        return err;
    }
    err = auth_core_count_accounts(tx, &count);
    if (err == ERR_OK) {
        return count < max_users ? ERR_NOT_FOUND : ERR_LIMIT;
    }
    return err;
}

static enum err
sign_up_store(struct store_tx *tx, struct store_job *job)
{
    struct sign_up_op *op = (struct sign_up_op *)auth_op_from_job(job);
    // Asked again: others may have signed up meanwhile.
    enum err err = sign_up_look(tx, op);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    return auth_core_add_account(tx, rpc_call_request_id(op->op.call), &op->kdf, &op->verifier, clock_unix_ms(),
        &op->account);
}

static void
sign_up_stored(struct store_job *job, enum err result)
{
    struct sign_up_op *op = (struct sign_up_op *)auth_op_from_job(job);
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
    auth_op_hash_begun(&op->op);
    if (rpc_call_is_cancelled(op->op.call)) {
        rpc_call_fail(op->op.call, ERR_CANCELLED, "given up by the caller");
        auth_op_free(&op->op, sizeof(*op));
        return;
    }
    enum err err = auth_core_make_verifier(auth_op_view_of(op->request->auth_key), &op->verifier);
    if (err != ERR_OK) {
        sign_up_end(op, err);
        return;
    }
    auth_op_write(&op->op, sign_up_store, sign_up_stored);
}

static bool
sign_up_check(struct rpc_call *call, const Fc__Auth__V1__SignUpRequest *request, struct auth_kdf *kdf_out)
{
    struct auth_kdf kdf;
    if (!auth_op_check_credentials(call, request->user_name, request->auth_key) ||
        !auth_op_check_kdf(call, request->kdf, &kdf)) {
        return false;
    }
    if (rpc_call_request_id(call).size != RPC_REQUEST_ID_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "SignUp needs a request_id of %d random bytes", RPC_REQUEST_ID_BYTES);
        return false;
    }
    *kdf_out = kdf;
    return true;
}

void
auth_sign_up_handle(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__SignUpRequest *request,
    Fc__Auth__V1__SignUpResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = (struct auth_service *)rpc;
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
    struct sign_up_op *op = auth_op_new(auth, call, sizeof(*op));
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
    if (!auth_op_hash(&op->op, sign_up_hash)) {
        auth_op_fail_queue_full(call);
        auth_op_free(&op->op, sizeof(*op));
    }
}
