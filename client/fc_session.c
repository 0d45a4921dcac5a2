// Accounts from the client's side. The password stays here: the server gets a key derived from it, with parameters that
// it may choose only within bounds, since it might want a key that is easy to search, or a client without memory.
#include "client/fc_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/random.h"
#include "base/text.h"

#include "fc/auth/v1/auth.stub.h"

enum {
    PASSWORD_MAX_BYTES = 1024,
    KEY_BYTES = 32,
    SALT_BYTES = 16,

    // What this client chooses at sign-up: 32 MiB and some 100 ms.
    KDF_LOG2_N = 15,
    KDF_R = 8,
    KDF_P = 1,

    // What it accepts from a server: proto/fc/auth/v1/auth.proto.
    KDF_SALT_MIN_BYTES = 16,
    KDF_SALT_MAX_BYTES = 64,
    KDF_LOG2_N_MIN = 15,
    KDF_LOG2_N_MAX = 20,
    KDF_R_MIN = 8,
    KDF_R_MAX = 32,
    KDF_P_MIN = 1,
    KDF_P_MAX = 4,

    DEVICE_NAME_BYTES = 65, // with its NUL
};

static const char key_info[] = "fc/1 auth";

struct fc_session {
    struct rpc_tls_client *tls; // NULL without TLS
    struct rpc_channel *channel;
    struct fc_credential credential;
};

static bool
is_in_range(uint32_t value, uint32_t min, uint32_t max)
{
    return value >= min && value <= max;
}

static enum err
check_kdf(const Fc__Auth__V1__KdfParameters *kdf, struct err_detail *why)
{
    if (kdf == NULL || kdf->salt.len < KDF_SALT_MIN_BYTES || kdf->salt.len > KDF_SALT_MAX_BYTES ||
        !is_in_range(kdf->log2_n, KDF_LOG2_N_MIN, KDF_LOG2_N_MAX) || !is_in_range(kdf->r, KDF_R_MIN, KDF_R_MAX) ||
        !is_in_range(kdf->p, KDF_P_MIN, KDF_P_MAX)) {
        return err_fail(why, ERR_PROTOCOL,
            "the server asks for a key derived in a way that is not safe: this is not done, and the password stays "
            "here");
    }
    return ERR_OK;
}

static enum err
check_password(struct bytes_view password, struct err_detail *why)
{
    if (password.size == 0 || password.size > PASSWORD_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "the password has %zu bytes; it must have from 1 to %d", password.size,
            PASSWORD_MAX_BYTES);
    }
    return ERR_OK;
}

static enum err
derive_key(struct bytes_view password, const Fc__Auth__V1__KdfParameters *kdf, uint8_t key_out[KEY_BYTES],
    struct err_detail *why)
{
    uint8_t master[KEY_BYTES];
    enum err err = digest_scrypt(password, bytes_view_of(kdf->salt.data, kdf->salt.len), kdf->log2_n, kdf->r, kdf->p,
        master, sizeof(master));
    if (err == ERR_OK) {
        err = digest_hkdf_sha256(bytes_view_of(master, sizeof(master)), bytes_view_of(NULL, 0),
            bytes_view_of_text(key_info), key_out, KEY_BYTES);
    }
    digest_wipe(master, sizeof(master));
    if (err != ERR_OK) {
        return err_fail(why, err, "the key cannot be derived from the password: %s", err_sentence(err));
    }
    return ERR_OK;
}

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

enum err
fc_session_explain(const struct rpc_unary *call, enum err err, struct err_detail *why)
{
    if (err != ERR_OK) {
        return err_fail(why, err, "%s", err_message(&call->status.detail, err));
    }
    return ERR_OK;
}

enum err
fc_session_sign_up(struct fc_session *session, const char *user_name, struct bytes_view password,
    struct err_detail *why)
{
    uint8_t salt[SALT_BYTES];
    uint8_t key[KEY_BYTES];
    char name[FC_USER_NAME_MAX_BYTES];
    Fc__Auth__V1__KdfParameters kdf = FC__AUTH__V1__KDF_PARAMETERS__INIT;
    Fc__Auth__V1__SignUpRequest request = FC__AUTH__V1__SIGN_UP_REQUEST__INIT;
    struct rpc_unary call;
    enum err err = text_check_user_name(user_name, why);
    if (err == ERR_OK) {
        err = check_password(password, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    random_bytes(salt, sizeof(salt));
    kdf.salt = (ProtobufCBinaryData){.len = sizeof(salt), .data = salt};
    kdf.log2_n = KDF_LOG2_N;
    kdf.r = KDF_R;
    kdf.p = KDF_P;
    err = derive_key(password, &kdf, key, why);
    if (err == ERR_OK) {
        (void)snprintf(name, sizeof(name), "%s", user_name);
        request.user_name = name;
        request.kdf = &kdf;
        request.auth_key = (ProtobufCBinaryData){.len = sizeof(key), .data = key};
        fc_auth_v1_auth_init(&call, session->channel);
        err = fc_session_explain(&call, fc_auth_v1_auth_sign_up(&call, &request, NULL), why);
        rpc_unary_deinit(&call);
    }
    digest_wipe(key, sizeof(key));
    return err;
}

// Asks how this name's key is derived, and derives it.
static enum err
fetch_key(struct fc_session *session, char *user_name, struct bytes_view password, uint8_t key_out[KEY_BYTES],
    struct err_detail *why)
{
    Fc__Auth__V1__GetLoginParametersRequest request = FC__AUTH__V1__GET_LOGIN_PARAMETERS_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Auth__V1__GetLoginParametersResponse *response = NULL;
    request.user_name = user_name;
    fc_auth_v1_auth_init(&call, session->channel);
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_get_login_parameters(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = check_kdf(response->kdf, why);
        if (err == ERR_OK) {
            err = derive_key(password, response->kdf, key_out, why);
        }
    }
    rpc_unary_deinit(&call);
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
    uint8_t key[KEY_BYTES];
    char name[FC_USER_NAME_MAX_BYTES];
    char device_name[DEVICE_NAME_BYTES];
    Fc__Auth__V1__LoginRequest request = FC__AUTH__V1__LOGIN_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Auth__V1__LoginResponse *response = NULL;
    enum err err = text_check_user_name(user_name, why);
    if (err == ERR_OK) {
        err = check_password(password, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(name, sizeof(name), "%s", user_name);
    err = fetch_key(session, name, password, key, why);
    if (err == ERR_OK) {
        write_device_name(device_name);
        request.user_name = name;
        request.auth_key = (ProtobufCBinaryData){.len = sizeof(key), .data = key};
        request.device_name = device_name;
        fc_auth_v1_auth_init(&call, session->channel);
        err = fc_session_explain(&call, fc_auth_v1_auth_login(&call, &request, &response), why);
        if (err == ERR_OK) {
            err = use_token(session, name, response->token, why);
        }
        if (err == ERR_OK) {
            *credential_out = session->credential;
        }
        rpc_unary_deinit(&call);
    }
    digest_wipe(key, sizeof(key));
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
        if (err == ERR_OK) {
            *out = (struct fc_account){.is_admin = response->is_admin,
                .token_expires_unix_ms = response->token_expires_at_ms};
            (void)snprintf(out->user_name, sizeof(out->user_name), "%s", response->user_name);
        } else {
            err = err_fail(why, ERR_PROTOCOL, "the server answered with a user name that is none");
        }
    }
    rpc_unary_deinit(&call);
    return err;
}
