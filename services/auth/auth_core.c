#include "services/auth/auth_core.h"

#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/digest.h"
#include "base/random.h"

enum {
    // The slow hash of auth_key: 32 MiB and some 100 ms.
    VERIFIER_LOG2_N = 15,
    VERIFIER_R = 8,
    VERIFIER_P = 1,

    // What proto/fc/auth/v1/auth.proto allows a client to choose.
    KDF_LOG2_N_MIN = 15,
    KDF_LOG2_N_MAX = 20,
    KDF_R_MIN = 8,
    KDF_R_MAX = 32,
    KDF_P_MIN = 1,
    KDF_P_MAX = 4,

    // What our own clients choose, and so what an unknown name seems to have.
    KDF_DEFAULT_SALT_BYTES = 16,
    KDF_DEFAULT_LOG2_N = 15,
    KDF_DEFAULT_R = 8,
    KDF_DEFAULT_P = 1,

    TOKEN_RANDOM_BYTES = 32,
};

#define TOKEN_PREFIX "fct_"
#define SECRET_NAME "login-parameters"

// BYTEA and BIGINT are PostgreSQL's names; SQLite keeps blobs and integers in such columns as they are.
static const struct store_migration migrations[] = {
    {"CREATE TABLE auth_secrets (name TEXT PRIMARY KEY, value BYTEA NOT NULL);"
     "CREATE TABLE auth_accounts ("
     "    user_id BYTEA PRIMARY KEY,"
     "    user_name TEXT NOT NULL UNIQUE,"
     "    is_admin BIGINT NOT NULL,"
     "    kdf_salt BYTEA NOT NULL,"
     "    kdf_log2_n BIGINT NOT NULL,"
     "    kdf_r BIGINT NOT NULL,"
     "    kdf_p BIGINT NOT NULL,"
     "    verifier_salt BYTEA NOT NULL,"
     "    verifier_hash BYTEA NOT NULL,"
     "    created_ms BIGINT NOT NULL,"
     "    request_id BYTEA NOT NULL UNIQUE);"
     "CREATE TABLE auth_sessions ("
     "    token_hash BYTEA PRIMARY KEY,"
     "    session_id BYTEA NOT NULL UNIQUE,"
     "    user_id BYTEA NOT NULL REFERENCES auth_accounts (user_id),"
     "    device_name TEXT NOT NULL,"
     "    created_ms BIGINT NOT NULL,"
     "    expires_ms BIGINT NOT NULL);"
     "CREATE INDEX auth_sessions_by_expiry ON auth_sessions (expires_ms);"},
    {"CREATE INDEX auth_sessions_by_user ON auth_sessions (user_id);"
     "CREATE TABLE auth_chain ("
     "    user_id BYTEA NOT NULL REFERENCES auth_accounts (user_id),"
     "    seq BIGINT NOT NULL,"
     "    body BYTEA NOT NULL,"
     "    signature BYTEA NOT NULL,"
     "    PRIMARY KEY (user_id, seq));"
     "CREATE TABLE auth_recovery ("
     "    user_id BYTEA PRIMARY KEY REFERENCES auth_accounts (user_id),"
     "    sealed_recovery_key BYTEA NOT NULL,"
     "    sealed_identity_key BYTEA NOT NULL);"
     "CREATE TABLE auth_offers ("
     "    user_id BYTEA NOT NULL REFERENCES auth_accounts (user_id),"
     "    device_id BYTEA NOT NULL,"
     "    device BYTEA NOT NULL,"
     "    created_ms BIGINT NOT NULL,"
     "    PRIMARY KEY (user_id, device_id));"
     "CREATE INDEX auth_offers_by_time ON auth_offers (created_ms);"
     "CREATE TABLE auth_device_secrets ("
     "    user_id BYTEA NOT NULL REFERENCES auth_accounts (user_id),"
     "    device_id BYTEA NOT NULL,"
     "    enc BYTEA NOT NULL,"
     "    ciphertext BYTEA NOT NULL,"
     "    PRIMARY KEY (user_id, device_id));"},
};

struct secret_job {
    struct store_job job; // first
    uint8_t secret[AUTH_SECRET_BYTES];
};

// Copies a column of a fixed size. A row of another size was not written by this program.
static enum err
read_fixed(struct store_rows *rows, int column, uint8_t *out, size_t size)
{
    struct bytes_view value = store_rows_blob(rows, column);
    if (value.size != size) {
        return ERR_CORRUPT;
    }
    memcpy(out, value.data, size);
    return ERR_OK;
}

static enum err
load_or_make_secret(struct store_tx *tx, struct store_job *job)
{
    struct secret_job *op = (struct secret_job *)job;
    struct store_rows *rows = NULL;
    random_bytes(op->secret, sizeof(op->secret));
    enum err err =
        store_exec(tx, "INSERT INTO auth_secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            STORE_ARGS(store_text(SECRET_NAME), store_blob(op->secret, sizeof(op->secret))), NULL);
    if (err != ERR_OK) {
        return err;
    }
    err = store_query(tx, "SELECT value FROM auth_secrets WHERE name = $1", STORE_ARGS(store_text(SECRET_NAME)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        err = read_fixed(rows, 0, op->secret, sizeof(op->secret));
    }
    store_rows_free(&rows);
    return err;
}

enum err
auth_core_migrate(struct store *store, uint8_t secret_out[AUTH_SECRET_BYTES], struct err_detail *why)
{
    struct secret_job op = {.job.run = load_or_make_secret};
    enum err err = store_migrate(store, "auth", migrations, sizeof(migrations) / sizeof(migrations[0]), why);
    if (err != ERR_OK) {
        return err;
    }
    err = store_write_wait(store, &op.job);
    if (err == ERR_OK) {
        memcpy(secret_out, op.secret, sizeof(op.secret));
    } else {
        err = err_fail(why, err, "the database of accounts cannot be prepared: %s", err_sentence(err));
    }
    digest_wipe(op.secret, sizeof(op.secret));
    return err;
}

static enum err
check_range(const char *name, unsigned value, unsigned min, unsigned max, struct err_detail *why)
{
    if (value < min || value > max) {
        return err_fail(why, ERR_INVALID, "kdf.%s is %u; it must be from %u to %u", name, value, min, max);
    }
    return ERR_OK;
}

enum err
auth_core_check_kdf(const struct auth_kdf *kdf, struct err_detail *why)
{
    if (kdf->salt_size < AUTH_SALT_MIN_BYTES || kdf->salt_size > AUTH_SALT_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "kdf.salt has %zu bytes; it must have from %d to %d", kdf->salt_size,
            AUTH_SALT_MIN_BYTES, AUTH_SALT_MAX_BYTES);
    }
    enum err err = check_range("log2_n", kdf->log2_n, KDF_LOG2_N_MIN, KDF_LOG2_N_MAX, why);
    if (err == ERR_OK) {
        err = check_range("r", kdf->r, KDF_R_MIN, KDF_R_MAX, why);
    }
    if (err == ERR_OK) {
        err = check_range("p", kdf->p, KDF_P_MIN, KDF_P_MAX, why);
    }
    return err;
}

static enum err
hash_key(const uint8_t salt[AUTH_VERIFIER_SALT_BYTES], struct bytes_view auth_key, uint8_t *out)
{
    return digest_scrypt(auth_key, bytes_view_of(salt, AUTH_VERIFIER_SALT_BYTES), VERIFIER_LOG2_N, VERIFIER_R,
        VERIFIER_P, out, AUTH_VERIFIER_HASH_BYTES);
}

enum err
auth_core_make_verifier(struct bytes_view auth_key, struct auth_verifier *out)
{
    random_bytes(out->salt, sizeof(out->salt));
    return hash_key(out->salt, auth_key, out->hash);
}

enum err
auth_core_check_key(const struct auth_verifier *verifier, struct bytes_view auth_key)
{
    uint8_t hash[AUTH_VERIFIER_HASH_BYTES];
    enum err err = hash_key(verifier->salt, auth_key, hash);
    if (err == ERR_OK && !bytes_view_equal_secret(bytes_view_of(hash, sizeof(hash)),
                             bytes_view_of(verifier->hash, sizeof(verifier->hash)))) {
        err = ERR_UNAUTHENTICATED;
    }
    digest_wipe(hash, sizeof(hash));
    return err;
}

static enum err
read_account(struct store_rows *rows, struct auth_account *out)
{
    struct auth_account account = {0};
    enum err err = read_fixed(rows, 0, account.user_id, sizeof(account.user_id));
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(account.user_name, sizeof(account.user_name), "%s", store_rows_text(rows, 1));
    account.is_admin = store_rows_int(rows, 2) != 0;
    *out = account;
    return ERR_OK;
}

enum err
auth_core_check_new_account(struct store_tx *tx, struct bytes_view request_id, const char *user_name,
    struct auth_account *account_out)
{
    struct auth_account account;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT user_id, user_name, is_admin FROM auth_accounts WHERE request_id = $1",
        STORE_ARGS(store_blob(request_id.data, request_id.size)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        err = read_account(rows, &account);
    }
    store_rows_free(&rows);
    if (err == ERR_OK) {
        if (strcmp(account.user_name, user_name) != 0) {
            return ERR_CONFLICT;
        }
        *account_out = account;
        return ERR_OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = auth_core_find_account(tx, user_name, NULL, NULL, NULL);
    return err == ERR_OK ? ERR_EXISTS : err;
}

static enum err
has_accounts(struct store_tx *tx, bool *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT 1 FROM auth_accounts LIMIT 1", STORE_NO_ARGS, &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    store_rows_free(&rows);
    if (err == ERR_OK || err == ERR_NOT_FOUND) {
        *out = err == ERR_OK;
        return ERR_OK;
    }
    return err;
}

enum err
auth_core_add_account(struct store_tx *tx, struct bytes_view request_id, const struct auth_kdf *kdf,
    const struct auth_verifier *verifier, int64_t now_ms, struct auth_account *account)
{
    bool has_others = true;
    enum err err = auth_core_check_new_account(tx, request_id, account->user_name, account);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = has_accounts(tx, &has_others);
    if (err != ERR_OK) {
        return err;
    }
    account->is_admin = !has_others;
    return store_exec(tx,
        "INSERT INTO auth_accounts (user_id, user_name, is_admin, kdf_salt, kdf_log2_n, kdf_r, kdf_p,"
        " verifier_salt, verifier_hash, created_ms, request_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        STORE_ARGS(store_blob(account->user_id, sizeof(account->user_id)), store_text(account->user_name),
            store_int(account->is_admin), store_blob(kdf->salt, kdf->salt_size), store_int(kdf->log2_n),
            store_int(kdf->r), store_int(kdf->p), store_blob(verifier->salt, sizeof(verifier->salt)),
            store_blob(verifier->hash, sizeof(verifier->hash)), store_int(now_ms),
            store_blob(request_id.data, request_id.size)),
        NULL);
}

static enum err
read_kdf(struct store_rows *rows, int first_column, struct auth_kdf *out)
{
    struct bytes_view salt = store_rows_blob(rows, first_column);
    struct auth_kdf kdf = {
        .salt_size = salt.size,
        .log2_n = (unsigned)store_rows_int(rows, first_column + 1),
        .r = (unsigned)store_rows_int(rows, first_column + 2),
        .p = (unsigned)store_rows_int(rows, first_column + 3),
    };
    if (salt.size > sizeof(kdf.salt)) {
        return ERR_CORRUPT;
    }
    memcpy(kdf.salt, salt.data, salt.size);
    *out = kdf;
    return ERR_OK;
}

static enum err
read_verifier(struct store_rows *rows, int first_column, struct auth_verifier *out)
{
    enum err err = read_fixed(rows, first_column, out->salt, sizeof(out->salt));
    return err != ERR_OK ? err : read_fixed(rows, first_column + 1, out->hash, sizeof(out->hash));
}

enum err
auth_core_find_account(struct store_tx *tx, const char *user_name, struct auth_account *account_out,
    struct auth_kdf *kdf_out, struct auth_verifier *verifier_out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT user_id, user_name, is_admin, kdf_salt, kdf_log2_n, kdf_r, kdf_p, verifier_salt, verifier_hash"
        " FROM auth_accounts WHERE user_name = $1",
        STORE_ARGS(store_text(user_name)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK && account_out != NULL) {
        err = read_account(rows, account_out);
    }
    if (err == ERR_OK && kdf_out != NULL) {
        err = read_kdf(rows, 3, kdf_out);
    }
    if (err == ERR_OK && verifier_out != NULL) {
        err = read_verifier(rows, 7, verifier_out);
    }
    store_rows_free(&rows);
    return err;
}

enum err
auth_core_find_account_by_id(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct auth_account *account_out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT user_id, user_name, is_admin FROM auth_accounts WHERE user_id = $1",
        STORE_ARGS(store_blob(user_id, AUTH_ID_BYTES)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        err = read_account(rows, account_out);
    }
    store_rows_free(&rows);
    return err;
}

enum err
auth_core_count_accounts(struct store_tx *tx, uint64_t *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*) FROM auth_accounts", STORE_NO_ARGS, &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        *out = (uint64_t)store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err;
}

enum err
auth_core_change_key(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], const struct auth_kdf *kdf,
    const struct auth_verifier *verifier)
{
    return store_exec(tx,
        "UPDATE auth_accounts SET kdf_salt = $1, kdf_log2_n = $2, kdf_r = $3, kdf_p = $4, verifier_salt = $5,"
        " verifier_hash = $6 WHERE user_id = $7",
        STORE_ARGS(store_blob(kdf->salt, kdf->salt_size), store_int(kdf->log2_n), store_int(kdf->r), store_int(kdf->p),
            store_blob(verifier->salt, sizeof(verifier->salt)), store_blob(verifier->hash, sizeof(verifier->hash)),
            store_blob(user_id, AUTH_ID_BYTES)),
        NULL);
}

enum err
auth_core_login_kdf(struct store_tx *tx, const uint8_t secret[AUTH_SECRET_BYTES], const char *user_name,
    struct auth_kdf *out)
{
    // Made for every name, so that the time of the answer does not tell the names apart.
    uint8_t fake[DIGEST_SHA256_BYTES];
    enum err err = digest_hmac_sha256(bytes_view_of(secret, AUTH_SECRET_BYTES), bytes_view_of_text(user_name), fake);
    if (err != ERR_OK) {
        return err;
    }
    err = auth_core_find_account(tx, user_name, NULL, out, NULL);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    *out = (struct auth_kdf){
        .salt_size = KDF_DEFAULT_SALT_BYTES,
        .log2_n = KDF_DEFAULT_LOG2_N,
        .r = KDF_DEFAULT_R,
        .p = KDF_DEFAULT_P,
    };
    memcpy(out->salt, fake, KDF_DEFAULT_SALT_BYTES);
    return ERR_OK;
}

enum err
auth_core_make_token(char text_out[AUTH_TOKEN_TEXT_BYTES])
{
    uint8_t secret[TOKEN_RANDOM_BYTES];
    struct bytes text = {0};
    random_bytes(secret, sizeof(secret));
    enum err err = bytes_append(&text, bytes_view_of_text(TOKEN_PREFIX));
    if (err == ERR_OK) {
        err = base64_append_url(&text, bytes_view_of(secret, sizeof(secret)));
    }
    if (err == ERR_OK) {
        memcpy(text_out, text.data, AUTH_TOKEN_TEXT_BYTES - 1);
        text_out[AUTH_TOKEN_TEXT_BYTES - 1] = '\0';
    }
    digest_wipe(secret, sizeof(secret));
    bytes_free_secret(&text);
    return err;
}

enum err
auth_core_add_session(struct store_tx *tx, const char *token, const struct auth_session *session,
    const char *device_name, int64_t now_ms)
{
    uint8_t hash[DIGEST_SHA256_BYTES];
    enum err err = digest_of(DIGEST_SHA256, bytes_view_of_text(token), hash);
    if (err != ERR_OK) {
        return err;
    }
    err = store_exec(tx, "DELETE FROM auth_sessions WHERE expires_ms <= $1", STORE_ARGS(store_int(now_ms)), NULL);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx,
        "INSERT INTO auth_sessions (token_hash, session_id, user_id, device_name, created_ms, expires_ms)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        STORE_ARGS(store_blob(hash, sizeof(hash)), store_blob(session->session_id, sizeof(session->session_id)),
            store_blob(session->account.user_id, sizeof(session->account.user_id)), store_text(device_name),
            store_int(now_ms), store_int(session->expires_ms)),
        NULL);
}

static enum err
read_session(struct store_rows *rows, const uint8_t hash[DIGEST_SHA256_BYTES], struct auth_session *out)
{
    // The index has compared the hash already, in a time that depends on it. That tells nothing of a token, of which
    // only SHA-256 knows the hash; the comparison here does not rely on that.
    if (!bytes_view_equal_secret(store_rows_blob(rows, 3), bytes_view_of(hash, DIGEST_SHA256_BYTES))) {
        return ERR_NOT_FOUND;
    }
    struct auth_session session = {.expires_ms = store_rows_int(rows, 5)};
    enum err err = read_account(rows, &session.account);
    if (err == ERR_OK) {
        err = read_fixed(rows, 4, session.session_id, sizeof(session.session_id));
    }
    if (err == ERR_OK) {
        *out = session;
    }
    return err;
}

enum err
auth_core_find_session(struct store_tx *tx, struct bytes_view token, int64_t now_ms, struct auth_session *out)
{
    uint8_t hash[DIGEST_SHA256_BYTES];
    struct auth_session session;
    struct store_rows *rows = NULL;
    if (token.size != AUTH_TOKEN_TEXT_BYTES - 1 || memcmp(token.data, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) != 0) {
        return ERR_UNAUTHENTICATED;
    }
    enum err err = digest_of(DIGEST_SHA256, token, hash);
    if (err != ERR_OK) {
        return err;
    }
    err = store_query(tx,
        "SELECT a.user_id, a.user_name, a.is_admin, s.token_hash, s.session_id, s.expires_ms"
        " FROM auth_sessions s JOIN auth_accounts a ON a.user_id = s.user_id WHERE s.token_hash = $1",
        STORE_ARGS(store_blob(hash, sizeof(hash))), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        err = read_session(rows, hash, &session);
    }
    store_rows_free(&rows);
    if (err == ERR_NOT_FOUND || (err == ERR_OK && session.expires_ms <= now_ms)) {
        return ERR_UNAUTHENTICATED;
    }
    if (err == ERR_OK) {
        *out = session;
    }
    return err;
}

enum err
auth_core_remove_session(struct store_tx *tx, const uint8_t session_id[AUTH_ID_BYTES])
{
    return store_exec(tx, "DELETE FROM auth_sessions WHERE session_id = $1",
        STORE_ARGS(store_blob(session_id, AUTH_ID_BYTES)), NULL);
}

enum err
auth_core_find_own_session(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t session_id[AUTH_ID_BYTES])
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT 1 FROM auth_sessions WHERE session_id = $1 AND user_id = $2",
        STORE_ARGS(store_blob(session_id, AUTH_ID_BYTES), store_blob(user_id, AUTH_ID_BYTES)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    store_rows_free(&rows);
    return err;
}

enum err
auth_core_each_session(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], int64_t now_ms,
    auth_core_session_fn *fn, void *context)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT session_id, device_name, created_ms, expires_ms FROM auth_sessions"
        " WHERE user_id = $1 AND expires_ms > $2 ORDER BY created_ms DESC, session_id LIMIT $3",
        STORE_ARGS(store_blob(user_id, AUTH_ID_BYTES), store_int(now_ms), store_int(AUTH_SESSIONS_LISTED_MAX)), &rows);
    while (err == ERR_OK) {
        struct auth_session_row row = {0};
        err = store_rows_next(rows);
        if (err == ERR_NOT_FOUND) {
            err = ERR_OK;
            break;
        }
        if (err == ERR_OK) {
            err = read_fixed(rows, 0, row.session_id, sizeof(row.session_id));
        }
        if (err == ERR_OK) {
            (void)snprintf(row.device_name, sizeof(row.device_name), "%s", store_rows_text(rows, 1));
            row.created_ms = store_rows_int(rows, 2);
            row.expires_ms = store_rows_int(rows, 3);
            err = fn(context, &row);
        }
    }
    store_rows_free(&rows);
    return err;
}
