// Accounts from the client's side: sign-up, logins and who is logged in.
#include "client/fc_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/text.h"
#include "client/fc_derive_priv.h"

#include "fc/auth/v1/auth.stub.h"

enum {
    DEVICE_NAME_BYTES = 65, // with its NUL
};

struct fc_session {
    struct rpc_tls_client *tls; // NULL without TLS
    struct rpc_channel *channel;
    struct fc_credential credential;
    bool has_backup_key;
    uint8_t backup_key[FC_DERIVED_KEY_BYTES]; // of the password given last
};

enum err
fc_session_open(const struct fc_credential *credential, const struct fc_trust *trust, struct fc_session **out,
    struct err_detail *why)
{
    struct fc_session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return ERR_NO_MEMORY;
    }
    session->credential = *credential;
    enum err err = fc_trust_server(session->credential.server_url, trust, &session->tls, why);
    const struct rpc_channel_options options = {
        .url = session->credential.server_url,
        .tls = session->tls,
        .longest_backoff_ms = FC_SESSION_LONGEST_BACKOFF_MS,
    };
    if (err == ERR_OK) {
        err = rpc_channel_new(&options, &session->channel, why);
    }
    if (err == ERR_OK && credential->token[0] != '\0') {
        err = rpc_channel_set_token(session->channel, credential->token);
    }
    if (err != ERR_OK) {
        fc_session_close(&session);
        return err;
    }
    *out = session;
    return ERR_OK;
}

void
fc_session_close(struct fc_session **session)
{
    if (*session == NULL) {
        return;
    }
    rpc_channel_free(&(*session)->channel);
    rpc_tls_client_free(&(*session)->tls);
    digest_wipe(*session, sizeof(**session));
    free(*session);
    *session = NULL;
}

struct rpc_channel *
fc_session_channel(struct fc_session *session)
{
    return session->channel;
}

const char *
fc_session_server_url(const struct fc_session *session)
{
    return session->credential.server_url;
}

struct rpc_tls_client *
fc_session_tls(const struct fc_session *session)
{
    return session->tls;
}

const char *
fc_session_token(const struct fc_session *session)
{
    return session->credential.token;
}

const char *
fc_session_user_name(const struct fc_session *session)
{
    return session->credential.user_name;
}

enum err
fc_session_explain(const struct rpc_unary *call, enum err err, struct err_detail *why)
{
    if (err != ERR_OK) {
        return err_fail(why, err, "%s", err_message(&call->status.detail, err));
    }
    return ERR_OK;
}

const uint8_t *
fc_derive_backup_key(const struct fc_session *session)
{
    return session->has_backup_key ? session->backup_key : NULL;
}

void
fc_derive_keep_backup_key(struct fc_session *session, const uint8_t key[FC_DERIVED_KEY_BYTES])
{
    memcpy(session->backup_key, key, sizeof(session->backup_key));
    session->has_backup_key = true;
}

static enum err
check_name_and_password(const char *user_name, struct bytes_view password, struct err_detail *why)
{
    enum err err = text_check_user_name(user_name, why);
    return err == ERR_OK ? fc_derive_check_password(password, why) : err;
}

enum err
fc_session_sign_up(struct fc_session *session, const char *user_name, struct bytes_view password,
    struct err_detail *why)
{
    uint8_t salt[FC_DERIVE_SALT_BYTES];
    struct fc_derived derived;
    char name[FC_USER_NAME_MAX_BYTES];
    Fc__Auth__V1__KdfParameters kdf;
    Fc__Auth__V1__SignUpRequest request = FC__AUTH__V1__SIGN_UP_REQUEST__INIT;
    struct rpc_unary call;
    enum err err = check_name_and_password(user_name, password, why);
    if (err != ERR_OK) {
        return err;
    }
    fc_derive_new_kdf(salt, &kdf);
    err = fc_derive(password, &kdf, &derived, why);
    if (err == ERR_OK) {
        (void)snprintf(name, sizeof(name), "%s", user_name);
        request.user_name = name;
        request.kdf = &kdf;
        request.auth_key = (ProtobufCBinaryData){.len = sizeof(derived.auth_key), .data = derived.auth_key};
        fc_auth_v1_auth_init(&call, session->channel);
        err = fc_session_explain(&call, fc_auth_v1_auth_sign_up(&call, &request, NULL), why);
        rpc_unary_deinit(&call);
    }
    digest_wipe(&derived, sizeof(derived));
    return err;
}

// By what the owner will recognise the login in a list.
static void
write_device_name(char out[DEVICE_NAME_BYTES])
{
    char host[DEVICE_NAME_BYTES - sizeof("fc on ")] = "";
    if (gethostname(host, sizeof(host) - 1) != 0 || !text_is_utf8(bytes_view_of_text(host))) {
        (void)snprintf(host, sizeof(host), "an unnamed machine");
    }
    (void)snprintf(out, DEVICE_NAME_BYTES, "fc on %s", host);
}

// Whether the server's token is one that can be kept and sent.
static bool
is_token(const char *token)
{
    size_t size = strlen(token);
    if (size == 0 || size >= FC_TOKEN_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (token[i] <= ' ' || token[i] > '~') {
            return false;
        }
    }
    return true;
}

static enum err
use_token(struct fc_session *session, const char *user_name, const char *token, struct err_detail *why)
{
    if (!is_token(token)) {
        return err_fail(why, ERR_PROTOCOL, "the server answered the login with something that is no token");
    }
    enum err err = rpc_channel_set_token(session->channel, token);
    if (err == ERR_OK) {
        (void)snprintf(session->credential.user_name, sizeof(session->credential.user_name), "%s", user_name);
        (void)snprintf(session->credential.token, sizeof(session->credential.token), "%s", token);
    }
    return err;
}

enum err
fc_session_log_in(struct fc_session *session, const char *user_name, struct bytes_view password,
    struct fc_credential *credential_out, struct err_detail *why)
{
    struct fc_derived derived;
    char name[FC_USER_NAME_MAX_BYTES];
    char device_name[DEVICE_NAME_BYTES];
    Fc__Auth__V1__LoginRequest request = FC__AUTH__V1__LOGIN_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Auth__V1__LoginResponse *response = NULL;
    enum err err = check_name_and_password(user_name, password, why);
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(name, sizeof(name), "%s", user_name);
    err = fc_derive_fetch(session, name, password, &derived, why);
    if (err != ERR_OK) {
        return err;
    }
    write_device_name(device_name);
    request.user_name = name;
    request.auth_key = (ProtobufCBinaryData){.len = sizeof(derived.auth_key), .data = derived.auth_key};
    request.device_name = device_name;
    fc_auth_v1_auth_init(&call, session->channel);
    err = fc_session_explain(&call, fc_auth_v1_auth_login(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = use_token(session, name, response->token, why);
    }
    if (err == ERR_OK) {
        fc_derive_keep_backup_key(session, derived.backup_key);
        *credential_out = session->credential;
    }
    rpc_unary_deinit(&call);
    digest_wipe(&derived, sizeof(derived));
    return err;
}

enum err
fc_session_prove(struct fc_session *session, struct bytes_view password, struct err_detail *why)
{
    struct fc_account account;
    struct fc_credential before = session->credential;
    struct fc_credential proof = {0};
    enum err err = fc_session_who_am_i(session, &account, why);
    if (err == ERR_OK) {
        err = fc_session_log_in(session, account.user_name, password, &proof, why);
    }
    if (err == ERR_OK) {
        err = fc_session_log_out(session, why);
        session->credential = before;
        enum err restored = rpc_channel_set_token(session->channel, before.token);
        err = err == ERR_OK ? restored : err;
    }
    digest_wipe(&proof, sizeof(proof));
    digest_wipe(&before, sizeof(before));
    return err;
}

enum err
fc_session_log_out(struct fc_session *session, struct err_detail *why)
{
    Fc__Auth__V1__LogoutRequest request = FC__AUTH__V1__LOGOUT_REQUEST__INIT;
    struct rpc_unary call;
    fc_auth_v1_auth_init(&call, session->channel);
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_logout(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    if (err == ERR_OK) {
        digest_wipe(session->credential.token, sizeof(session->credential.token));
        err = rpc_channel_set_token(session->channel, NULL);
    }
    return err;
}

enum err
fc_session_who_am_i(struct fc_session *session, struct fc_account *out, struct err_detail *why)
{
    Fc__Auth__V1__WhoAmIRequest request = FC__AUTH__V1__WHO_AM_IREQUEST__INIT;
    struct rpc_unary call;
    const Fc__Auth__V1__WhoAmIResponse *response = NULL;
    fc_auth_v1_auth_init(&call, session->channel);
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_who_am_i(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = text_check_user_name(response->user_name, NULL);
        if (err == ERR_OK && response->user_id.len != sizeof(out->user_id)) {
            err = err_fail(why, ERR_PROTOCOL, "the server answered with a user id that is none");
        } else if (err == ERR_OK) {
            *out = (struct fc_account){.is_admin = response->is_admin,
                .token_expires_unix_ms = response->token_expires_at_ms};
            memcpy(out->user_id, response->user_id.data, sizeof(out->user_id));
            (void)snprintf(out->user_name, sizeof(out->user_name), "%s", response->user_name);
        } else {
            err = err_fail(why, ERR_PROTOCOL, "the server answered with a user name that is none");
        }
    }
    rpc_unary_deinit(&call);
    return err;
}
