// Sessions against a server that this test plays: what leaves the client, and what a client does not do for a server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "client/fc_derive_priv.h"
#include "client/fc_session.h"

#include "fc/auth/v1/auth.pb-c.h"

static const char password[] = "correct horse battery staple";
static const char token[] = "fct_0123456789012345678901234567890123456789012";

// HKDF-SHA256(scrypt(password, 00 01 .. 0f, 2^15, 8, 1), "", "fc/1 auth"), computed with Python's hashlib and hmac.
static const char golden_key[] = "8036a1075e153d6a1bae0308ceeafa456955568604cb2ca5d9c7c342edb84cf7";
// The same with "fc/1 backup".
static const char golden_backup_key[] = "8116b2cde3f1119bdc5a88a42c5c775c0bfd575b20a87313660c1c191ec04d91";

// --- The server ---------------------------------------------------------------------------------------------------

struct rpc_channel {
    char token[RPC_TOKEN_MAX_BYTES + 1];
};

static struct {
    // What it answers.
    enum err result;
    Fc__Auth__V1__KdfParameters kdf;
    const char *token;
    const char *user_name;

    // What it was asked.
    char asked_name[64];
    char device_name[128];
    uint8_t key[32];
    uint8_t salt[64];
    unsigned calls;
} server;

static uint8_t salt_of_server[64];

enum {
    SIGN_UP,
    GET_LOGIN_PARAMETERS,
    LOGIN,
    WHO_AM_I,
    LOGOUT,
};

static void
keep_key(ProtobufCBinaryData key)
{
    assert_int_equal(key.len, sizeof(server.key));
    memcpy(server.key, key.data, key.len);
}

static void
answer(ProtobufCService *service, unsigned method, const ProtobufCMessage *input, ProtobufCClosure closure, void *data)
{
    static Fc__Auth__V1__GetLoginParametersResponse parameters;
    static Fc__Auth__V1__LoginResponse login;
    static Fc__Auth__V1__WhoAmIResponse who;
    struct rpc_unary *call = (struct rpc_unary *)service;
    (void)closure;
    (void)data;
    server.calls++;
    if (method == SIGN_UP) {
        const Fc__Auth__V1__SignUpRequest *request = (const Fc__Auth__V1__SignUpRequest *)input;
        snprintf(server.asked_name, sizeof(server.asked_name), "%s", request->user_name);
        assert_int_equal(request->kdf->salt.len, 16);
        memcpy(server.salt, request->kdf->salt.data, request->kdf->salt.len);
        keep_key(request->auth_key);
    } else if (method == GET_LOGIN_PARAMETERS) {
        parameters = (Fc__Auth__V1__GetLoginParametersResponse)FC__AUTH__V1__GET_LOGIN_PARAMETERS_RESPONSE__INIT;
        parameters.kdf = server.kdf.salt.data != NULL ? &server.kdf : NULL;
        call->response = &parameters.base;
    } else if (method == LOGIN) {
        const Fc__Auth__V1__LoginRequest *request = (const Fc__Auth__V1__LoginRequest *)input;
        snprintf(server.asked_name, sizeof(server.asked_name), "%s", request->user_name);
        snprintf(server.device_name, sizeof(server.device_name), "%s", request->device_name);
        keep_key(request->auth_key);
        login = (Fc__Auth__V1__LoginResponse)FC__AUTH__V1__LOGIN_RESPONSE__INIT;
        login.token = strdup(server.token);
        call->response = &login.base;
    } else if (method == WHO_AM_I) {
        who = (Fc__Auth__V1__WhoAmIResponse)FC__AUTH__V1__WHO_AM_IRESPONSE__INIT;
        who.user_name = strdup(server.user_name);
        who.user_id = (ProtobufCBinaryData){.len = 16, .data = salt_of_server};
        call->response = &who.base;
    }
}

void
rpc_unary_init(struct rpc_unary *call, struct rpc_channel *channel, const ProtobufCServiceDescriptor *service)
{
    memset(call, 0, sizeof(*call));
    call->service.descriptor = service;
    call->service.invoke = answer;
    call->channel = channel;
}

enum err
rpc_unary_wait(struct rpc_unary *call)
{
    if (server.result != ERR_OK) {
        err_fail(&call->status.detail, server.result, "the server's explanation");
    }
    return server.result;
}

const void *
rpc_unary_response(const struct rpc_unary *call)
{
    return call->response;
}

void
rpc_unary_deinit(struct rpc_unary *call)
{
    if (call->response != NULL && call->response->descriptor == &fc__auth__v1__login_response__descriptor) {
        free(((Fc__Auth__V1__LoginResponse *)call->response)->token);
    }
    if (call->response != NULL && call->response->descriptor == &fc__auth__v1__who_am_iresponse__descriptor) {
        free(((Fc__Auth__V1__WhoAmIResponse *)call->response)->user_name);
    }
}

enum err
fc_trust_server(const char *url, const struct fc_trust *trust, struct rpc_tls_client **out, struct err_detail *why)
{
    (void)url;
    (void)trust;
    (void)why;
    *out = NULL;
    return ERR_OK;
}

enum err
rpc_channel_new(const struct rpc_channel_options *options, struct rpc_channel **out, struct err_detail *why)
{
    (void)why;
    if (strncmp(options->url, "tcp://", 6) != 0) {
        return ERR_INVALID;
    }
    *out = calloc(1, sizeof(**out));
    return *out != NULL ? ERR_OK : ERR_NO_MEMORY;
}

enum err
rpc_channel_set_token(struct rpc_channel *channel, const char *text)
{
    snprintf(channel->token, sizeof(channel->token), "%s", text != NULL ? text : "");
    return ERR_OK;
}

void
rpc_channel_free(struct rpc_channel **channel)
{
    free(*channel);
    *channel = NULL;
}

// --- Tests --------------------------------------------------------------------------------------------------------

static struct fc_session *session;

static int
make(void **state)
{
    (void)state;
    struct fc_credential credential = {.server_url = "tcp://example:1"};
    memset(&server, 0, sizeof(server));
    for (size_t i = 0; i < sizeof(salt_of_server); i++) {
        salt_of_server[i] = (uint8_t)i;
    }
    server.kdf = (Fc__Auth__V1__KdfParameters)FC__AUTH__V1__KDF_PARAMETERS__INIT;
    server.kdf.salt = (ProtobufCBinaryData){.len = 16, .data = salt_of_server};
    server.kdf.log2_n = 15;
    server.kdf.r = 8;
    server.kdf.p = 1;
    server.token = token;
    server.user_name = "ann";
    return fc_session_open(&credential, NULL, &session, NULL) == ERR_OK ? 0 : -1;
}

static int
destroy(void **state)
{
    (void)state;
    fc_session_close(&session);
    fc_session_close(&session);
    return 0;
}

static enum err
log_in(const char *user_name, struct fc_credential *out, struct err_detail *why)
{
    return fc_session_log_in(session, user_name, bytes_view_of_text(password), out, why);
}

static void
test_login_sends_the_derived_key_and_keeps_the_token(void **state)
{
    (void)state;
    char hex[65];
    struct fc_credential credential = {0};
    assert_int_equal(log_in("ann", &credential, NULL), ERR_OK);
    bytes_to_hex(bytes_view_of(server.key, sizeof(server.key)), hex);
    assert_string_equal(hex, golden_key);
    assert_string_equal(server.asked_name, "ann");
    assert_memory_equal(server.device_name, "fc on ", 6);
    assert_in_range(strlen(server.device_name), 7, 64);
    assert_string_equal(credential.server_url, "tcp://example:1");
    assert_string_equal(credential.user_name, "ann");
    assert_string_equal(credential.token, token);
    assert_string_equal(fc_session_token(session), token);
    assert_string_equal(fc_session_channel(session)->token, token);
}

static void
test_login_keeps_the_backup_key_and_does_not_send_it(void **state)
{
    (void)state;
    char hex[65];
    struct fc_credential credential = {0};
    assert_null(fc_derive_backup_key(session));
    assert_int_equal(log_in("ann", &credential, NULL), ERR_OK);
    bytes_to_hex(bytes_view_of(fc_derive_backup_key(session), 32), hex);
    assert_string_equal(hex, golden_backup_key);
    bytes_to_hex(bytes_view_of(server.key, sizeof(server.key)), hex);
    assert_string_not_equal(hex, golden_backup_key);
}

static void
test_sign_up_sends_the_key_for_the_salt_that_it_made(void **state)
{
    (void)state;
    uint8_t master[32];
    uint8_t key[32];
    uint8_t first_salt[16];
    struct bytes_view text = bytes_view_of_text(password);
    assert_int_equal(fc_session_sign_up(session, "ann", text, NULL), ERR_OK);
    assert_int_equal(digest_scrypt(text, bytes_view_of(server.salt, 16), 15, 8, 1, master, sizeof(master)), ERR_OK);
    assert_int_equal(digest_hkdf_sha256(bytes_view_of(master, sizeof(master)), bytes_view_of(NULL, 0),
                         bytes_view_of_text("fc/1 auth"), key, sizeof(key)),
        ERR_OK);
    assert_memory_equal(server.key, key, sizeof(key));
    memcpy(first_salt, server.salt, sizeof(first_salt));
    assert_int_equal(fc_session_sign_up(session, "ann", text, NULL), ERR_OK);
    assert_memory_not_equal(server.salt, first_salt, sizeof(first_salt));
}

static void
test_login_refuses_a_server_that_asks_for_an_unsafe_key(void **state)
{
    (void)state;
    const Fc__Auth__V1__KdfParameters good = server.kdf;
    for (int i = 0; i < 9; i++) {
        struct fc_credential credential;
        struct err_detail why = {0};
        server.kdf = good;
        server.calls = 0;
        switch (i) {
        case 0:
            server.kdf.log2_n = 14;
            break;
        case 1:
            server.kdf.log2_n = 21;
            break;
        case 2:
            server.kdf.r = 7;
            break;
        case 3:
            server.kdf.r = 33;
            break;
        case 4:
            server.kdf.p = 0;
            break;
        case 5:
            server.kdf.p = 5;
            break;
        case 6:
            server.kdf.salt.len = 15;
            break;
        case 7:
            server.kdf.salt.len = 65;
            break;
        default:
            server.kdf.salt.data = NULL; // no parameters at all
            break;
        }
        assert_int_equal(log_in("ann", &credential, &why), ERR_PROTOCOL);
        assert_non_null(strstr(why.message, "not safe"));
        assert_int_equal(server.calls, 1); // nothing was sent after the parameters
    }
}

static void
test_login_refuses_what_is_no_token(void **state)
{
    (void)state;
    char too_long[FC_TOKEN_MAX_BYTES + 1];
    memset(too_long, 'a', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    const char *const bad[] = {"", "a b", "a\nb", "\x1b[31m", too_long};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fc_credential credential;
        server.token = bad[i];
        assert_int_equal(log_in("ann", &credential, NULL), ERR_PROTOCOL);
        assert_string_equal(fc_session_token(session), "");
    }
}

static void
test_names_and_passwords_are_checked_before_anything_is_sent(void **state)
{
    (void)state;
    struct fc_credential credential;
    uint8_t long_password[1025] = {1};
    assert_int_equal(log_in("Not A Name", &credential, NULL), ERR_INVALID);
    assert_int_equal(fc_session_sign_up(session, "", bytes_view_of_text(password), NULL), ERR_INVALID);
    assert_int_equal(fc_session_sign_up(session, "ann", bytes_view_of(NULL, 0), NULL), ERR_INVALID);
    assert_int_equal(fc_session_sign_up(session, "ann", bytes_view_of(long_password, sizeof(long_password)), NULL),
        ERR_INVALID);
    assert_int_equal(server.calls, 0);
}

static void
test_failures_carry_the_servers_explanation(void **state)
{
    (void)state;
    struct fc_credential credential;
    struct err_detail why = {0};
    server.result = ERR_UNAUTHENTICATED;
    assert_int_equal(log_in("ann", &credential, &why), ERR_UNAUTHENTICATED);
    assert_string_equal(why.message, "the server's explanation");
    assert_int_equal(fc_session_log_out(session, NULL), ERR_UNAUTHENTICATED);
}

static void
test_logout_drops_the_token(void **state)
{
    (void)state;
    struct fc_credential credential;
    assert_int_equal(log_in("ann", &credential, NULL), ERR_OK);
    server.result = ERR_UNAVAILABLE;
    assert_int_equal(fc_session_log_out(session, NULL), ERR_UNAVAILABLE);
    assert_string_equal(fc_session_token(session), token);
    server.result = ERR_OK;
    assert_int_equal(fc_session_log_out(session, NULL), ERR_OK);
    assert_string_equal(fc_session_token(session), "");
    assert_string_equal(fc_session_channel(session)->token, "");
}

static void
test_who_am_i_refuses_what_is_no_name(void **state)
{
    (void)state;
    struct fc_account account;
    assert_int_equal(fc_session_who_am_i(session, &account, NULL), ERR_OK);
    assert_string_equal(account.user_name, "ann");
    server.user_name = "an\x1b[2Jn";
    assert_int_equal(fc_session_who_am_i(session, &account, NULL), ERR_PROTOCOL);
}

static void
test_open_uses_a_stored_token_and_refuses_a_bad_url(void **state)
{
    (void)state;
    struct fc_session *other = NULL;
    struct fc_credential credential = {.server_url = "tcp://example:2", .user_name = "ann"};
    snprintf(credential.token, sizeof(credential.token), "%s", token);
    assert_int_equal(fc_session_open(&credential, NULL, &other, NULL), ERR_OK);
    assert_string_equal(fc_session_channel(other)->token, token);
    assert_string_equal(fc_session_server_url(other), "tcp://example:2");
    fc_session_close(&other);
    snprintf(credential.server_url, sizeof(credential.server_url), "nonsense");
    assert_int_equal(fc_session_open(&credential, NULL, &other, NULL), ERR_INVALID);
    assert_null(other);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_login_sends_the_derived_key_and_keeps_the_token),
        TEST(test_login_keeps_the_backup_key_and_does_not_send_it),
        TEST(test_sign_up_sends_the_key_for_the_salt_that_it_made),
        TEST(test_login_refuses_a_server_that_asks_for_an_unsafe_key),
        TEST(test_login_refuses_what_is_no_token),
        TEST(test_names_and_passwords_are_checked_before_anything_is_sent),
        TEST(test_failures_carry_the_servers_explanation),
        TEST(test_logout_drops_the_token),
        TEST(test_who_am_i_refuses_what_is_no_name),
        TEST(test_open_uses_a_stored_token_and_refuses_a_bad_url),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
