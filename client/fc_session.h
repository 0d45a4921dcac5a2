// A session with one server: its channel, its token, and the account behind it. All functions block, and any thread may
// call them.
#ifndef CLIENT_FC_SESSION_H
#define CLIENT_FC_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_config.h"
#include "client/fc_trust.h"
#include "rpc/rpc_channel.h"

enum {
    // Somebody sits and waits: a server that returns is noticed within about 2 s.
    FC_SESSION_LONGEST_BACKOFF_MS = 2000,
};

struct fc_session;

// fc_session_open takes server and token from credential, which is copied. Nothing is connected before the first call,
// except to find out who a server is that is not known yet, and maybe to ask about it (fc_trust.h). trust may be NULL.
// ERR_UNTRUSTED, here and from all calls: the server is not the right one; nothing was sent to it.
enum err fc_session_open(const struct fc_credential *credential, const struct fc_trust *trust, struct fc_session **out,
    struct err_detail *why) ERR_CHECKED;
void fc_session_close(struct fc_session **session);

// fc_session_channel is for calls that have no function here. It belongs to the session.
struct rpc_channel *fc_session_channel(struct fc_session *session);
const char *fc_session_server_url(const struct fc_session *session);
// fc_session_tls is for further channels to the server; NULL without TLS. It belongs to the session.
struct rpc_tls_client *fc_session_tls(const struct fc_session *session);
const char *fc_session_token(const struct fc_session *session);

// fc_session_explain returns `err`, with which a call has ended, and after a failure puts the explanation into `why`.
// The caller still deinits the call.
enum err fc_session_explain(const struct rpc_unary *call, enum err err, struct err_detail *why) ERR_CHECKED;

// fc_session_sign_up makes an account. The password is 1 to 1,024 bytes; it is used to derive a key and does not leave
// the process. Takes some 100 ms. ERR_EXISTS: the name is taken; ERR_INVALID; ERR_DENIED: sign-up is closed.
enum err fc_session_sign_up(struct fc_session *session, const char *user_name, struct bytes_view password,
    struct err_detail *why) ERR_CHECKED;

// fc_session_log_in gets a token, uses it from now on, and writes server, user and token to credential_out for
// fc_config_save. ERR_UNAUTHENTICATED: wrong name or password; ERR_LIMIT: too many attempts.
enum err fc_session_log_in(struct fc_session *session, const char *user_name, struct bytes_view password,
    struct fc_credential *credential_out, struct err_detail *why) ERR_CHECKED;

// fc_session_log_out revokes the token on the server.
enum err fc_session_log_out(struct fc_session *session, struct err_detail *why) ERR_CHECKED;

// fc_session_prove checks the password of the account that is logged in, without a new login that stays.
// ERR_UNAUTHENTICATED: wrong; ERR_LIMIT: too many attempts.
enum err fc_session_prove(struct fc_session *session, struct bytes_view password, struct err_detail *why) ERR_CHECKED;

// fc_session_change_password replaces the password; logins go on working. What the server keeps sealed under the old
// one is sealed anew. ERR_UNAUTHENTICATED: the old one is wrong.
enum err fc_session_change_password(struct fc_session *session, struct bytes_view old_password,
    struct bytes_view new_password, struct err_detail *why) ERR_CHECKED;

struct fc_account {
    uint8_t user_id[16];
    char user_name[FC_USER_NAME_MAX_BYTES];
    bool is_admin;
    int64_t token_expires_unix_ms;
};

enum err fc_session_who_am_i(struct fc_session *session, struct fc_account *out, struct err_detail *why) ERR_CHECKED;

// fc_session_user_name is that of the credential or of the last login; empty when the token came from FC_TOKEN.
const char *fc_session_user_name(const struct fc_session *session);

// fc_login is one of the account's logins.
struct fc_login {
    uint8_t id[16];
    const char *device_name; // as the device called itself; borrowed
    int64_t created_unix_ms;
    int64_t expires_unix_ms;
    bool is_current;
};

// fc_session_each_login calls fn for the account's logins, the newest first, until it returns false.
enum err fc_session_each_login(struct fc_session *session, bool (*fn)(void *context, const struct fc_login *login),
    void *context, struct err_detail *why) ERR_CHECKED;

// fc_session_end_login revokes a login of this account. ERR_NOT_FOUND.
enum err fc_session_end_login(struct fc_session *session, const uint8_t id[16], struct err_detail *why) ERR_CHECKED;

#endif
