// The decisions of the Auth service on base and store: accounts, their verifiers, and login tokens. Knows no rpc.
//
// What the server keeps of a password is a verifier: a slow hash of auth_key, which the client derived from the
// password (proto/fc/auth/v1/auth.proto). Of a token it keeps the SHA-256.
#ifndef AUTH_AUTH_CORE_H
#define AUTH_AUTH_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"
#include "services/store/store.h"

enum {
    AUTH_ID_BYTES = 16,
    AUTH_KEY_BYTES = 32,
    AUTH_SECRET_BYTES = 32,
    AUTH_SALT_MIN_BYTES = 16,
    AUTH_SALT_MAX_BYTES = 64,
    AUTH_VERIFIER_SALT_BYTES = 16,
    AUTH_VERIFIER_HASH_BYTES = 32,
    AUTH_TOKEN_TEXT_BYTES = 48, // "fct_", 43 characters, NUL
    AUTH_DEVICE_NAME_MAX_BYTES = 64,
    AUTH_SESSIONS_LISTED_MAX = 1000,
};

// auth_kdf is how a client derives auth_key from its password.
struct auth_kdf {
    uint8_t salt[AUTH_SALT_MAX_BYTES];
    size_t salt_size;
    unsigned log2_n;
    unsigned r;
    unsigned p;
};

struct auth_verifier {
    uint8_t salt[AUTH_VERIFIER_SALT_BYTES];
    uint8_t hash[AUTH_VERIFIER_HASH_BYTES];
};

struct auth_account {
    uint8_t user_id[AUTH_ID_BYTES];
    char user_name[TEXT_USER_NAME_MAX_BYTES + 1];
    bool is_admin;
};

// auth_core_migrate brings the tables up to date, and makes the server's secret when there is none yet: 32 random bytes
// that salts for unknown names come from. ERR_VERSION as store_migrate.
enum err auth_core_migrate(struct store *store, uint8_t secret_out[AUTH_SECRET_BYTES],
    struct err_detail *why) ERR_CHECKED;

// auth_core_check_kdf says what is wrong with parameters that a client chose: ERR_INVALID.
enum err auth_core_check_kdf(const struct auth_kdf *kdf, struct err_detail *why) ERR_CHECKED;

// auth_core_make_verifier draws a salt and hashes. Blocks for about 100 ms and takes 32 MiB meanwhile.
enum err auth_core_make_verifier(struct bytes_view auth_key, struct auth_verifier *out) ERR_CHECKED;

// auth_core_check_key takes as long whether or not the key matches. ERR_UNAUTHENTICATED: it does not.
enum err auth_core_check_key(const struct auth_verifier *verifier, struct bytes_view auth_key) ERR_CHECKED;

// auth_core_add_account inserts. The caller fills user_id and user_name; is_admin is set for the first account of all.
// When request_id has made an account of this name already, writes that one and succeeds. ERR_EXISTS: the name is
// taken; ERR_CONFLICT: request_id belongs to another name.
enum err auth_core_add_account(struct store_tx *tx, struct bytes_view request_id, const struct auth_kdf *kdf,
    const struct auth_verifier *verifier, int64_t now_ms, struct auth_account *account) ERR_CHECKED;

// auth_core_check_new_account tells before the costly hash how auth_core_add_account would end: ERR_OK, and writes the
// account, when request_id has made it; ERR_NOT_FOUND when the way is clear; ERR_EXISTS and ERR_CONFLICT as above.
enum err auth_core_check_new_account(struct store_tx *tx, struct bytes_view request_id, const char *user_name,
    struct auth_account *account_out) ERR_CHECKED;

// auth_core_find_account finds by name. Any of the outputs may be NULL. ERR_NOT_FOUND.
enum err auth_core_find_account(struct store_tx *tx, const char *user_name, struct auth_account *account_out,
    struct auth_kdf *kdf_out, struct auth_verifier *verifier_out) ERR_CHECKED;

enum err auth_core_find_account_by_id(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct auth_account *account_out) ERR_CHECKED;

enum err auth_core_count_accounts(struct store_tx *tx, uint64_t *out) ERR_CHECKED;

// auth_core_change_key replaces what a login is checked with.
enum err auth_core_change_key(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], const struct auth_kdf *kdf,
    const struct auth_verifier *verifier) ERR_CHECKED;

// auth_core_login_kdf is what a client that wants to log in is told: the account's parameters, or for a name without an
// account the default ones and a salt that is always the same for that name.
enum err auth_core_login_kdf(struct store_tx *tx, const uint8_t secret[AUTH_SECRET_BYTES], const char *user_name,
    struct auth_kdf *out) ERR_CHECKED;

// auth_session is one login.
struct auth_session {
    struct auth_account account;
    uint8_t session_id[AUTH_ID_BYTES];
    int64_t expires_ms;
};

// auth_core_make_token draws a new token. The text is a secret. ERR_NO_MEMORY.
enum err auth_core_make_token(char text_out[AUTH_TOKEN_TEXT_BYTES]) ERR_CHECKED;

// auth_core_add_session stores a login under the hash of its token; sessions that have expired are removed on the way.
enum err auth_core_add_session(struct store_tx *tx, const char *token, const struct auth_session *session,
    const char *device_name, int64_t now_ms) ERR_CHECKED;

// auth_core_find_session finds the login that a token stands for. ERR_UNAUTHENTICATED: no token of ours, unknown,
// revoked, or expired.
enum err auth_core_find_session(struct store_tx *tx, struct bytes_view token, int64_t now_ms,
    struct auth_session *out) ERR_CHECKED;

// auth_core_remove_session ends a login; one that has ended already is no error.
enum err auth_core_remove_session(struct store_tx *tx, const uint8_t session_id[AUTH_ID_BYTES]) ERR_CHECKED;

// auth_core_find_own_session: ERR_NOT_FOUND when the user has no such login.
enum err auth_core_find_own_session(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t session_id[AUTH_ID_BYTES]) ERR_CHECKED;

// auth_core_each_session tells of the user's logins that have not expired, the newest first, until fn fails.
struct auth_session_row {
    uint8_t session_id[AUTH_ID_BYTES];
    char device_name[AUTH_DEVICE_NAME_MAX_BYTES + 1];
    int64_t created_ms;
    int64_t expires_ms;
};
typedef enum err auth_core_session_fn(void *context, const struct auth_session_row *row);
enum err auth_core_each_session(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], int64_t now_ms,
    auth_core_session_fn *fn, void *context) ERR_CHECKED;

#endif
