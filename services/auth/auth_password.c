// ChangePassword: checked on a worker, hashed on the hashing thread, stored and answered on the writer thread.
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/auth/auth_keys_core.h"
#include "services/auth/auth_service_priv.h"

struct password_op {
    struct auth_op op;                                  // first
    const Fc__Auth__V1__ChangePasswordRequest *request; // valid until the answer
    Fc__Auth__V1__ChangePasswordResponse_Closure answer;
    char user_name[TEXT_USER_NAME_MAX_BYTES + 1];
    struct auth_account account;
    struct auth_verifier old_verifier;
    struct auth_kdf kdf;
    struct auth_verifier verifier;
};

static void
password_end(struct password_op *op, enum err result)
{
    struct rpc_call *call = op->op.call;
    struct err_detail why = {0};
    switch ((int)result) {
    case ERR_OK: {
        Fc__Auth__V1__ChangePasswordResponse response = FC__AUTH__V1__CHANGE_PASSWORD_RESPONSE__INIT;
        op->answer(&response, call);
        break;
    }
    case ERR_UNAUTHENTICATED:
        err_fail(&why, result, "the old password is wrong");
        rpc_call_fail_detail(call, result, &why, "WRONG_CREDENTIALS", 0);
        break;
    case ERR_CONFLICT:
        err_fail(&why, result, "the password was changed from elsewhere at the same time: try again with that one");
        rpc_call_fail_detail(call, result, &why, NULL, 0);
        break;
    case ERR_PRECONDITION:
        err_fail(&why, result,
            "the recovery key that is kept here is sealed under the old password: it has to be sealed anew");
        rpc_call_fail_detail(call, result, &why, "RECOVERY_NOT_RESEALED", 0);
        break;
    default:
        auth_op_fail_internally(call, result, "the password could not be changed");
        break;
    }
    auth_op_free(&op->op, sizeof(*op));
}

static enum err
password_store(struct store_tx *tx, struct store_job *job)
{
    struct password_op *op = (struct password_op *)auth_op_from_job(job);
    struct auth_account account;
    struct auth_verifier verifier;
    enum err err = auth_core_find_account(tx, op->user_name, &account, NULL, &verifier);
    // Of two changes at once only one has proved the key that was replaced.
    if (err == ERR_OK && memcmp(&verifier, &op->old_verifier, sizeof(verifier)) != 0) {
        return ERR_CONFLICT;
    }
    if (err == ERR_OK) {
        err = auth_core_change_key(tx, account.user_id, &op->kdf, &op->verifier);
    }
    if (err == ERR_OK) {
        err = auth_keys_core_reseal(tx, account.user_id, auth_op_view_of(op->request->sealed_recovery_key));
    }
    return err;
}

static void
password_stored(struct store_job *job, enum err result)
{
    struct password_op *op = (struct password_op *)auth_op_from_job(job);
    if (result == ERR_OK) {
        log_info("AUTH-PASSWORD", NULL, "\"%s\" has a new password", op->user_name);
    }
    password_end(op, result);
}

static enum err
password_look(struct store_tx *tx, void *context)
{
    struct password_op *op = context;
    return auth_core_find_account(tx, op->user_name, &op->account, NULL, &op->old_verifier);
}

static void
password_hash(struct work *work)
{
    struct password_op *op = (struct password_op *)work;
    struct auth_service *auth = op->op.auth;
    auth_op_hash_begun(&op->op);
    if (rpc_call_is_cancelled(op->op.call)) {
        rpc_call_fail(op->op.call, ERR_CANCELLED, "given up by the caller");
        auth_op_free(&op->op, sizeof(*op));
        return;
    }
    // Whoever has stolen a token must not guess faster than others.
    if (auth_op_is_paused(auth, op->op.call, op->user_name)) {
        auth_op_free(&op->op, sizeof(*op));
        return;
    }
    enum err err = store_read(auth->options.store, password_look, op);
    if (err == ERR_OK) {
        err = auth_core_check_key(&op->old_verifier, auth_op_view_of(op->request->old_auth_key));
        if (err == ERR_UNAUTHENTICATED) {
            auth_attempts_failed(auth->attempts, op->user_name, clock_monotonic_ms());
        } else if (err == ERR_OK) {
            auth_attempts_succeeded(auth->attempts, op->user_name);
        }
    }
    if (err == ERR_OK) {
        err = auth_core_make_verifier(auth_op_view_of(op->request->auth_key), &op->verifier);
    }
    if (err != ERR_OK) {
        password_end(op, err);
        return;
    }
    auth_op_write(&op->op, password_store, password_stored);
}

void
auth_password_handle(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__ChangePasswordRequest *request,
    Fc__Auth__V1__ChangePasswordResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = (struct auth_service *)rpc;
    struct rpc_call *call = closure_data;
    const char *user_name = rpc_call_identity(call)->subject_name;
    struct auth_kdf kdf;
    if (!auth_op_check_credentials(call, user_name, request->old_auth_key) ||
        !auth_op_check_credentials(call, user_name, request->auth_key) ||
        !auth_op_check_kdf(call, request->kdf, &kdf)) {
        return;
    }
    if (request->sealed_recovery_key.len > AUTH_SEALED_KEY_MAX_BYTES) {
        rpc_call_fail(call, ERR_INVALID, "sealed_recovery_key has %zu bytes; at most %d are allowed",
            request->sealed_recovery_key.len, AUTH_SEALED_KEY_MAX_BYTES);
        return;
    }
    if (auth_op_is_paused(auth, call, user_name)) {
        return;
    }
    struct password_op *op = auth_op_new(auth, call, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->request = request;
    op->answer = answer;
    op->kdf = kdf;
    memcpy(op->user_name, user_name, strlen(user_name) + 1); // which was checked just now
    if (!auth_op_hash(&op->op, password_hash)) {
        auth_op_fail_queue_full(call);
        auth_op_free(&op->op, sizeof(*op));
    }
}
