// Connections to SQLite: settings, prepared statements and what its result codes mean.
//
// A connection is a struct store_tx. It keeps the statements that it has prepared, found by their text; a running one
// is the struct store_rows of its query, so a query allocates nothing.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1 // a statement that cannot be kept is prepared again next time
#include <uthash.h>

#include <sqlite3.h>

#include "base/log.h"
#include "services/store/store_priv.h"

enum {
    // More than the services have; bounds what SQL made at run time may occupy.
    STATEMENTS_MAX = 128,
    // Another process (a backup, an operator's shell) may hold a lock for this long.
    BUSY_TIMEOUT_MS = 5000,
};

// Page caches in KiB: the system's own cache holds the file anyway. The log shrinks to 16 MiB after a burst.
#define SETTINGS_OF_ALL                                                                                                \
    "PRAGMA synchronous = FULL;"                                                                                       \
    "PRAGMA foreign_keys = ON;"                                                                                        \
    "PRAGMA temp_store = MEMORY;"                                                                                      \
    "PRAGMA journal_size_limit = 16777216;"
static const char settings_of_writer[] = SETTINGS_OF_ALL "PRAGMA cache_size = -4096;";
static const char settings_of_reader[] = SETTINGS_OF_ALL "PRAGMA cache_size = -1024; PRAGMA query_only = ON;";

struct store_rows {
    struct store_tx *tx;
    sqlite3_stmt *statement;
    UT_hash_handle hh;
    bool is_kept; // in tx->statements
    bool is_running;
    bool is_at_end;
    enum err failed; // of reading a column, told by the next step
    char sql[];
};

struct store_tx {
    sqlite3 *db;
    enum store_tx_role role;
    struct store_rows *statements; // oldest first
    unsigned running;              // queries not yet freed
};

static bool
is_out_of_space(sqlite3 *db)
{
    return err_from_errno(sqlite3_system_errno(db)) == ERR_NO_SPACE;
}

static enum err
err_from_sqlite(sqlite3 *db, int code)
{
    switch (code) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return ERR_EXISTS;
    case SQLITE_IOERR_NOMEM:
        return ERR_NO_MEMORY;
    default:
        break;
    }
    switch (code & 0xff) {
    case SQLITE_OK:
        return ERR_OK;
    case SQLITE_FULL:
        return ERR_NO_SPACE;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return is_out_of_space(db) ? ERR_NO_SPACE : ERR_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    case SQLITE_NOMEM:
        return ERR_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_BUSY;
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return ERR_DENIED;
    case SQLITE_TOOBIG:
        return ERR_TOO_BIG;
    default:
        return ERR_INTERNAL;
    }
}

// Translates the failure of a statement and logs it, unless it is one that services expect.
static enum err
fail(struct store_tx *tx, int code, const char *sql)
{
    enum err err = err_from_sqlite(tx->db, code);
    if (err != ERR_EXISTS) {
        log_error("STORE-SQL", NULL, "%s (%s) in: %s", sqlite3_errmsg(tx->db), err_name(err), sql);
    }
    return err;
}

static enum err
mistake(const char *sql, const char *what)
{
    log_error("STORE-SQL", NULL, "%s in: %s", what, sql);
    return ERR_INTERNAL;
}

static void
discard(struct store_rows *rows)
{
    if (rows->is_kept) {
        HASH_DEL(rows->tx->statements, rows);
    }
    (void)sqlite3_finalize(rows->statement);
    free(rows);
}

// In SQLite $1 is only a name and parameters are numbered as they appear; both are the same when the names say so.
static bool
has_parameters_in_order(sqlite3_stmt *statement)
{
    for (int i = 1; i <= sqlite3_bind_parameter_count(statement); i++) {
        char expected[16];
        (void)sqlite3_snprintf((int)sizeof(expected), expected, "$%d", i);
        const char *name = sqlite3_bind_parameter_name(statement, i);
        if (name == NULL || strcmp(name, expected) != 0) {
            return false;
        }
    }
    return true;
}

static enum err
prepare(struct store_tx *tx, const char *sql, struct store_rows **out)
{
    size_t sql_size = strlen(sql) + 1;
    struct store_rows *rows = calloc(1, sizeof(*rows) + sql_size);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    rows->tx = tx;
    memcpy(rows->sql, sql, sql_size);
    enum err err = ERR_OK;
    const char *rest = NULL;
    int code = sqlite3_prepare_v3(tx->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &rows->statement, &rest);
    if (code != SQLITE_OK) {
        err = fail(tx, code, sql);
    } else if (rows->statement == NULL || rest[strspn(rest, "; \n\t")] != '\0') {
        err = mistake(sql, "not exactly one statement");
    } else if (!has_parameters_in_order(rows->statement)) {
        err = mistake(sql, "parameters that are not $1, $2, ... in order of first use");
    }
    if (err != ERR_OK) {
        discard(rows);
        return err;
    }
    *out = rows;
    return ERR_OK;
}

static void
keep(struct store_tx *tx, struct store_rows *rows)
{
    if (HASH_COUNT(tx->statements) >= STATEMENTS_MAX) {
        struct store_rows *oldest = tx->statements;
        while (oldest != NULL && oldest->is_running) {
            oldest = oldest->hh.next;
        }
        if (oldest == NULL) {
            return;
        }
        discard(oldest);
    }
    HASH_ADD_KEYPTR(hh, tx->statements, rows->sql, strlen(rows->sql), rows);
    rows->is_kept = rows->hh.tbl != NULL;
}

static enum err
bind_value(struct store_rows *rows, int index, const struct store_value *value, sqlite3_destructor_type lifetime)
{
    // A NULL address would make SQLite store NULL in place of something empty.
    const void *data = value->bytes.size == 0 ? "" : (const void *)value->bytes.data;
    int code = SQLITE_MISUSE;
    switch (value->kind) {
    case STORE_NULL:
        code = sqlite3_bind_null(rows->statement, index);
        break;
    case STORE_INT:
        code = sqlite3_bind_int64(rows->statement, index, value->integer);
        break;
    case STORE_TEXT:
        code = sqlite3_bind_text64(rows->statement, index, data, value->bytes.size, lifetime, SQLITE_UTF8);
        break;
    case STORE_BLOB:
        code = sqlite3_bind_blob64(rows->statement, index, data, value->bytes.size, lifetime);
        break;
    }
    return code == SQLITE_OK ? ERR_OK : fail(rows->tx, code, rows->sql);
}

// Makes a statement ready to step, with lifetime saying whether SQLite has to copy the values.
static enum err
start(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    sqlite3_destructor_type lifetime, struct store_rows **out)
{
    struct store_rows *rows = NULL;
    HASH_FIND_STR(tx->statements, sql, rows);
    if (rows == NULL || rows->is_running) {
        bool is_new = rows == NULL;
        enum err err = prepare(tx, sql, &rows);
        if (err != ERR_OK) {
            return err;
        }
        if (is_new) {
            keep(tx, rows);
        }
    }
    rows->is_running = true;
    rows->is_at_end = false;
    rows->failed = ERR_OK;
    tx->running++;
    enum err err = ERR_OK;
    if ((size_t)sqlite3_bind_parameter_count(rows->statement) != arg_count) {
        err = mistake(sql, "another number of parameters than values");
    }
    for (size_t i = 0; err == ERR_OK && i < arg_count; i++) {
        err = bind_value(rows, (int)i + 1, &args[i], lifetime);
    }
    if (err != ERR_OK) {
        store_rows_free(&rows);
        return err;
    }
    *out = rows;
    return ERR_OK;
}

void
store_rows_free(struct store_rows **rows)
{
    if (*rows == NULL) {
        return;
    }
    (*rows)->tx->running--;
    (*rows)->is_running = false;
    if ((*rows)->is_kept) {
        // It repeats the error of the last step, which has been reported.
        (void)sqlite3_reset((*rows)->statement);
        (void)sqlite3_clear_bindings((*rows)->statement);
    } else {
        discard(*rows);
    }
    *rows = NULL;
}

enum err
store_query(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    struct store_rows **rows_out)
{
    // Copied, because the rows may outlive the caller's values.
    return start(tx, sql, args, arg_count, SQLITE_TRANSIENT, rows_out);
}

enum err
store_rows_next(struct store_rows *rows)
{
    if (rows->failed != ERR_OK) {
        return rows->failed;
    }
    if (rows->is_at_end) {
        return ERR_NOT_FOUND; // one more step would start again
    }
    int code = sqlite3_step(rows->statement);
    if (code == SQLITE_ROW) {
        return ERR_OK;
    }
    rows->is_at_end = true;
    if (code == SQLITE_DONE) {
        return ERR_NOT_FOUND;
    }
    rows->failed = fail(rows->tx, code, rows->sql);
    return rows->failed;
}

enum err
store_exec(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count, int64_t *changed_out)
{
    struct store_rows *rows = NULL;
    enum err err = start(tx, sql, args, arg_count, SQLITE_STATIC, &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        err = mistake(sql, "rows that nobody reads");
    } else if (err == ERR_NOT_FOUND) {
        err = ERR_OK;
        if (changed_out != NULL) {
            *changed_out = sqlite3_changes64(tx->db);
        }
    }
    store_rows_free(&rows);
    return err;
}

int64_t
store_rows_int(struct store_rows *rows, int column)
{
    return sqlite3_column_int64(rows->statement, column);
}

struct bytes_view
store_rows_blob(struct store_rows *rows, int column)
{
    int type = sqlite3_column_type(rows->statement, column);
    if (type == SQLITE_NULL) {
        return bytes_view_of(NULL, 0);
    }
    // Asked for as text, because only that is followed by a NUL.
    const void *data = type == SQLITE_BLOB ? sqlite3_column_blob(rows->statement, column)
                                           : (const void *)sqlite3_column_text(rows->statement, column);
    int size = sqlite3_column_bytes(rows->statement, column);
    if (data == NULL) {
        if (size > 0 || type != SQLITE_BLOB) {
            rows->failed = ERR_NO_MEMORY;
        }
        return bytes_view_of(NULL, 0);
    }
    return bytes_view_of(data, (size_t)size);
}

const char *
store_rows_text(struct store_rows *rows, int column)
{
    const char *text = (const char *)sqlite3_column_text(rows->statement, column);
    if (text != NULL) {
        return text;
    }
    if (sqlite3_column_type(rows->statement, column) != SQLITE_NULL) {
        rows->failed = ERR_NO_MEMORY;
    }
    return "";
}

bool
store_rows_is_null(struct store_rows *rows, int column)
{
    return sqlite3_column_type(rows->statement, column) == SQLITE_NULL;
}

enum err
store_tx_script(struct store_tx *tx, const char *sql)
{
    int code = sqlite3_exec(tx->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ERR_OK : fail(tx, code, sql);
}

bool
store_tx_is_open(const struct store_tx *tx)
{
    return sqlite3_get_autocommit(tx->db) == 0;
}

enum err
store_tx_begin(struct store_tx *tx)
{
    return store_exec(tx, tx->role == STORE_TX_WRITER ? "BEGIN IMMEDIATE" : "BEGIN", STORE_NO_ARGS, NULL);
}

enum err
store_tx_commit(struct store_tx *tx)
{
    assert(tx->running == 0);
    enum err err = store_exec(tx, "COMMIT", STORE_NO_ARGS, NULL);
    if (err != ERR_OK) {
        store_tx_rollback(tx);
    }
    return err;
}

void
store_tx_rollback(struct store_tx *tx)
{
    assert(tx->running == 0);
    if (store_tx_is_open(tx)) {
        // Even when it reports an error the transaction has ended.
        enum err err = store_exec(tx, "ROLLBACK", STORE_NO_ARGS, NULL);
        (void)err;
    }
}

// Write-ahead logging is a property of the file; SQLite answers with the mode that it could set.
static enum err
set_write_ahead_log(struct store_tx *tx)
{
    static const char sql[] = "PRAGMA journal_mode = WAL";
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, sql, STORE_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK && strcmp(store_rows_text(rows, 0), "wal") != 0) {
        log_error("STORE-SQL", NULL, "this file system cannot hold a database with a write-ahead log");
        err = ERR_IO;
    }
    store_rows_free(&rows);
    return err;
}

enum err
store_tx_open(const char *path, enum store_tx_role role, struct store_tx **out, struct err_detail *why)
{
    struct store_tx *tx = calloc(1, sizeof(*tx));
    if (tx == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the database %s", path);
    }
    tx->role = role;
    enum err err = ERR_OK;
    int code =
        sqlite3_open_v2(path, &tx->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK) {
        err = tx->db == NULL ? ERR_NO_MEMORY : err_from_sqlite(tx->db, code);
        goto out;
    }
    (void)sqlite3_busy_timeout(tx->db, BUSY_TIMEOUT_MS);
    if (role == STORE_TX_WRITER) {
        err = set_write_ahead_log(tx);
    }
    if (err == ERR_OK) {
        err = store_tx_script(tx, role == STORE_TX_WRITER ? settings_of_writer : settings_of_reader);
    }
out:
    if (err != ERR_OK) {
        err = err_fail(why, err, "cannot open the database %s: %s", path,
            tx->db == NULL ? err_sentence(err) : sqlite3_errmsg(tx->db));
        store_tx_close(&tx);
        return err;
    }
    *out = tx;
    return ERR_OK;
}

void
store_tx_close(struct store_tx **tx)
{
    if (*tx == NULL) {
        return;
    }
    assert((*tx)->running == 0);
    struct store_rows *rows = NULL;
    struct store_rows *next = NULL;
    HASH_ITER(hh, (*tx)->statements, rows, next)
    {
        discard(rows);
    }
    // Undoes what is open.
    int code = sqlite3_close((*tx)->db);
    assert(code == SQLITE_OK);
    (void)code;
    free(*tx);
    *tx = NULL;
}
