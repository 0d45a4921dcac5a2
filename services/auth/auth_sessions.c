// ListSessions and RevokeSession: the logins of the caller's own account.
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "services/auth/auth_service_priv.h"

enum {
    LIST_MAX_BYTES = 512 * 1024, // of memory; 1,000 sessions fit
};

// --- ListSessions -------------------------------------------------------------------------------------------------

struct list_query {
    const struct rpc_identity *caller;
    struct arena arena;
    Fc__Auth__V1__Session *sessions[AUTH_SESSIONS_LISTED_MAX];
    size_t count;
};

static enum err
list_add(void *context, const struct auth_session_row *row)
{
    struct list_query *query = context;
    Fc__Auth__V1__Session *session = arena_alloc(&query->arena, sizeof(*session));
    uint8_t *id = arena_alloc(&query->arena, sizeof(row->session_id));
    char *device_name = arena_copy_text(&query->arena, row->device_name);
    if (session == NULL || id == NULL || device_name == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(id, row->session_id, sizeof(row->session_id));
    *session = (Fc__Auth__V1__Session)FC__AUTH__V1__SESSION__INIT;
    session->session_id = auth_op_binary_of(id, sizeof(row->session_id));
    session->device_name = device_name;
    session->created_at_ms = row->created_ms;
    session->expires_at_ms = row->expires_ms;
    session->is_current = memcmp(row->session_id, query->caller->session_id, sizeof(row->session_id)) == 0;
    query->sessions[query->count++] = session;
    return ERR_OK;
}

static enum err
list_read(struct store_tx *tx, void *context)
{
    struct list_query *query = context;
    return auth_core_each_session(tx, query->caller->subject_id, clock_unix_ms(), list_add, query);
}

void
auth_sessions_handle_list(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__ListSessionsRequest *request,
    Fc__Auth__V1__ListSessionsResponse_Closure answer, void *closure_data)
{
    (void)request;
    struct auth_service *auth = (struct auth_service *)rpc;
    struct list_query query = {.caller = rpc_call_identity(closure_data)};
    arena_init(&query.arena, LIST_MAX_BYTES);
    enum err err = store_read(auth->options.store, list_read, &query);
    if (err == ERR_OK) {
        Fc__Auth__V1__ListSessionsResponse response = FC__AUTH__V1__LIST_SESSIONS_RESPONSE__INIT;
        response.sessions = query.sessions;
        response.n_sessions = query.count;
        answer(&response, closure_data);
    } else {
        auth_op_fail_internally(closure_data, err, "the logins could not be read");
    }
    arena_deinit(&query.arena);
}

// --- RevokeSession ------------------------------------------------------------------------------------------------

struct revoke_op {
    struct auth_op op; // first
    Fc__Auth__V1__RevokeSessionResponse_Closure answer;
    uint8_t user_id[AUTH_ID_BYTES];
    uint8_t session_id[AUTH_ID_BYTES];
};

static enum err
revoke_store(struct store_tx *tx, struct store_job *job)
{
    struct revoke_op *op = (struct revoke_op *)auth_op_from_job(job);
    enum err err = auth_core_find_own_session(tx, op->user_id, op->session_id);
    return err == ERR_OK ? auth_core_remove_session(tx, op->session_id) : err;
}

static void
revoke_stored(struct store_job *job, enum err result)
{
    struct revoke_op *op = (struct revoke_op *)auth_op_from_job(job);
    const struct auth_service_options *options = &op->op.auth->options;
    if (result == ERR_OK) {
        Fc__Auth__V1__RevokeSessionResponse response = FC__AUTH__V1__REVOKE_SESSION_RESPONSE__INIT;
        // Before the answer: no call after it must find the token cached.
        if (options->on_revoked != NULL) {
            options->on_revoked(options->context, op->session_id);
        }
        op->answer(&response, op->op.call);
    } else if (result == ERR_NOT_FOUND) {
        rpc_call_fail(op->op.call, result, "there is no such login of this account");
    } else {
        auth_op_fail_internally(op->op.call, result, "the login could not be ended");
    }
    auth_op_free(&op->op, sizeof(*op));
}

void
auth_sessions_handle_revoke(Fc__Auth__V1__Auth_Service *rpc, const Fc__Auth__V1__RevokeSessionRequest *request,
    Fc__Auth__V1__RevokeSessionResponse_Closure answer, void *closure_data)
{
    struct auth_service *auth = (struct auth_service *)rpc;
    if (request->session_id.len != AUTH_ID_BYTES) {
        rpc_call_fail(closure_data, ERR_INVALID, "session_id has %zu bytes; it must have %d", request->session_id.len,
            AUTH_ID_BYTES);
        return;
    }
    struct revoke_op *op = auth_op_new(auth, closure_data, sizeof(*op));
    if (op == NULL) {
        return;
    }
    op->answer = answer;
    memcpy(op->user_id, rpc_call_identity(closure_data)->subject_id, sizeof(op->user_id));
    memcpy(op->session_id, request->session_id.data, sizeof(op->session_id));
    auth_op_write(&op->op, revoke_store, revoke_stored);
}
