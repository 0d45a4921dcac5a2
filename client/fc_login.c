// The account's logins, on this machine and elsewhere.
#include <string.h>

#include "client/fc_session.h"

#include "fc/auth/v1/auth.stub.h"

enum err
fc_session_each_login(struct fc_session *session, bool (*fn)(void *context, const struct fc_login *login),
    void *context, struct err_detail *why)
{
    Fc__Auth__V1__ListSessionsRequest request = FC__AUTH__V1__LIST_SESSIONS_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Auth__V1__ListSessionsResponse *response = NULL;
    fc_auth_v1_auth_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_list_sessions(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && i < response->n_sessions; i++) {
        const Fc__Auth__V1__Session *wire = response->sessions[i];
        struct fc_login login = {.device_name = wire->device_name,
            .created_unix_ms = wire->created_at_ms,
            .expires_unix_ms = wire->expires_at_ms,
            .is_current = wire->is_current};
        if (wire->session_id.len != sizeof(login.id)) {
            err = err_fail(why, ERR_PROTOCOL, "the server listed a login without an id");
            break;
        }
        memcpy(login.id, wire->session_id.data, sizeof(login.id));
        if (!fn(context, &login)) {
            break;
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_session_end_login(struct fc_session *session, const uint8_t id[16], struct err_detail *why)
{
    Fc__Auth__V1__RevokeSessionRequest request = FC__AUTH__V1__REVOKE_SESSION_REQUEST__INIT;
    struct rpc_unary call;
    uint8_t session_id[16];
    memcpy(session_id, id, sizeof(session_id));
    request.session_id = (ProtobufCBinaryData){.len = sizeof(session_id), .data = session_id};
    fc_auth_v1_auth_init(&call, fc_session_channel(session));
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_revoke_session(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}
