// Connections to SQLite: settings, prepared statements and what its result codes mean.
//
// A connection keeps the statements that it has prepared, found by their text; a running one is the struct db_rows of
// its query, so a query allocates nothing.
#include "db/db.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1 // a statement that cannot be kept is prepared again next time
#include <uthash.h>

#include <sqlite3.h>

#include "base/log.h"

enum {
    // More than programs have; bounds what SQL made at run time may occupy.
    STATEMENTS_MAX = 128,
    // Another process (a backup, an operator's shell) may hold a lock for this long.
    BUSY_TIMEOUT_MS = 5000,
    // The log is copied into the database when it has become this long, in pages of 4 KiB: SQLite's own default.
    LOG_MAX_PAGES = 1000,
    // A private connection leaves a log of up to this length to the next one, which reads it in less than 1 ms. What is
    // in the log is on disk; copying it would keep every short program waiting.
    LOG_LEFT_MAX_PAGES = 128,
};

// Page caches in KiB: the system's own cache holds the file anyway. The log shrinks to 16 MiB after a burst.
#define SETTINGS_OF_ALL                                                                                                \
    "PRAGMA synchronous = FULL;"                                                                                       \
    "PRAGMA foreign_keys = ON;"                                                                                        \
    "PRAGMA temp_store = MEMORY;"                                                                                      \
    "PRAGMA journal_size_limit = 16777216;"
static const char settings_of_writer[] = SETTINGS_OF_ALL "PRAGMA cache_size = -4096;";
static const char settings_of_reader[] = SETTINGS_OF_ALL "PRAGMA cache_size = -1024; PRAGMA query_only = ON;";
// Keys and messages that have been deleted are overwritten.
static const char settings_of_private[] = SETTINGS_OF_ALL "PRAGMA cache_size = -2048; PRAGMA secure_delete = ON;";

struct db_rows {
    struct db *db;
    sqlite3_stmt *statement;
    UT_hash_handle hh;
    bool is_kept; // in db->statements
    bool is_running;
    bool is_at_end;
    enum err failed; // of reading a column, told by the next step
    char sql[];
};

struct db {
    sqlite3 *sqlite;
    enum db_role role;
    struct db_rows *statements; // oldest first
    unsigned running;           // queries not yet freed
    int log_pages;              // in the write-ahead log after the last commit of a private connection
    bool is_relaxed;            // the open transaction
    char message[256];          // of the last failure: SQLite forgets its own in a rollback
};

struct db_value
db_int(int64_t value)
{
    return (struct db_value){.kind = DB_INT, .integer = value};
}

struct db_value
db_text(const char *text)
{
    if (text == NULL) {
        return db_null();
    }
    return (struct db_value){.kind = DB_TEXT, .bytes = bytes_view_of_text(text)};
}

struct db_value
db_blob(const void *data, size_t size)
{
    return (struct db_value){.kind = DB_BLOB, .bytes = bytes_view_of(data, size)};
}

struct db_value
db_null(void)
{
    return (struct db_value){.kind = DB_NULL};
}

static bool
is_out_of_space(sqlite3 *sqlite)
{
    return err_from_errno(sqlite3_system_errno(sqlite)) == ERR_NO_SPACE;
}

static enum err
err_from_sqlite(sqlite3 *sqlite, int code)
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
        return is_out_of_space(sqlite) ? ERR_NO_SPACE : ERR_IO;
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

// Translates the failure of a statement. A server logs it, unless it is one that services expect.
static enum err
fail(struct db *db, int code, const char *sql)
{
    enum err err = err_from_sqlite(db->sqlite, code);
    (void)sqlite3_snprintf((int)sizeof(db->message), db->message, "%s", sqlite3_errmsg(db->sqlite));
    if (err != ERR_EXISTS && db->role != DB_PRIVATE) {
        log_error("DB-SQL", NULL, "%s (%s) in: %s", sqlite3_errmsg(db->sqlite), err_name(err), sql);
    }
    return err;
}

const char *
db_message(const struct db *db)
{
    return db->message;
}

static enum err
mistake(const char *sql, const char *what)
{
    log_error("DB-SQL", NULL, "%s in: %s", what, sql);
    return ERR_INTERNAL;
}

static void
discard(struct db_rows *rows)
{
    if (rows->is_kept) {
        HASH_DEL(rows->db->statements, rows);
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
prepare(struct db *db, const char *sql, struct db_rows **out)
{
    size_t sql_size = strlen(sql) + 1;
    struct db_rows *rows = calloc(1, sizeof(*rows) + sql_size);
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    rows->db = db;
    memcpy(rows->sql, sql, sql_size);
    enum err err = ERR_OK;
    const char *rest = NULL;
    int code = sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, &rows->statement, &rest);
    if (code != SQLITE_OK) {
        err = fail(db, code, sql);
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
keep(struct db *db, struct db_rows *rows)
{
    if (HASH_COUNT(db->statements) >= STATEMENTS_MAX) {
        struct db_rows *oldest = db->statements;
        while (oldest != NULL && oldest->is_running) {
            oldest = oldest->hh.next;
        }
        if (oldest == NULL) {
            return;
        }
        discard(oldest);
    }
    HASH_ADD_KEYPTR(hh, db->statements, rows->sql, strlen(rows->sql), rows);
    rows->is_kept = rows->hh.tbl != NULL;
}

static enum err
bind_value(struct db_rows *rows, int index, const struct db_value *value, sqlite3_destructor_type lifetime)
{
    // A NULL address would make SQLite store NULL in place of something empty.
    const void *data = value->bytes.size == 0 ? "" : (const void *)value->bytes.data;
    int code = SQLITE_MISUSE;
    switch (value->kind) {
    case DB_NULL:
        code = sqlite3_bind_null(rows->statement, index);
        break;
    case DB_INT:
        code = sqlite3_bind_int64(rows->statement, index, value->integer);
        break;
    case DB_TEXT:
        code = sqlite3_bind_text64(rows->statement, index, data, value->bytes.size, lifetime, SQLITE_UTF8);
        break;
    case DB_BLOB:
        code = sqlite3_bind_blob64(rows->statement, index, data, value->bytes.size, lifetime);
        break;
    }
    return code == SQLITE_OK ? ERR_OK : fail(rows->db, code, rows->sql);
}

// Makes a statement ready to step, with lifetime saying whether SQLite has to copy the values.
static enum err
start(struct db *db, const char *sql, const struct db_value *args, size_t arg_count, sqlite3_destructor_type lifetime,
    struct db_rows **out)
{
    struct db_rows *rows = NULL;
    HASH_FIND_STR(db->statements, sql, rows);
    if (rows == NULL || rows->is_running) {
        bool is_new = rows == NULL;
        enum err err = prepare(db, sql, &rows);
        if (err != ERR_OK) {
            return err;
        }
        if (is_new) {
            keep(db, rows);
        }
    }
    rows->is_running = true;
    rows->is_at_end = false;
    rows->failed = ERR_OK;
    db->running++;
    enum err err = ERR_OK;
    if ((size_t)sqlite3_bind_parameter_count(rows->statement) != arg_count) {
        err = mistake(sql, "another number of parameters than values");
    }
    for (size_t i = 0; err == ERR_OK && i < arg_count; i++) {
        err = bind_value(rows, (int)i + 1, &args[i], lifetime);
    }
    if (err != ERR_OK) {
        db_rows_free(&rows);
        return err;
    }
    *out = rows;
    return ERR_OK;
}

void
db_rows_free(struct db_rows **rows)
{
    if (*rows == NULL) {
        return;
    }
    (*rows)->db->running--;
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
db_query(struct db *db, const char *sql, const struct db_value *args, size_t arg_count, struct db_rows **rows_out)
{
    // Copied, because the rows may outlive the caller's values.
    return start(db, sql, args, arg_count, SQLITE_TRANSIENT, rows_out);
}

enum err
db_rows_next(struct db_rows *rows)
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
    rows->failed = fail(rows->db, code, rows->sql);
    return rows->failed;
}

enum err
db_exec(struct db *db, const char *sql, const struct db_value *args, size_t arg_count, int64_t *changed_out)
{
    struct db_rows *rows = NULL;
    enum err err = start(db, sql, args, arg_count, SQLITE_STATIC, &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = db_rows_next(rows);
    if (err == ERR_OK) {
        err = mistake(sql, "rows that nobody reads");
    } else if (err == ERR_NOT_FOUND) {
        err = ERR_OK;
        if (changed_out != NULL) {
            *changed_out = sqlite3_changes64(db->sqlite);
        }
    }
    db_rows_free(&rows);
    return err;
}

int64_t
db_rows_int(struct db_rows *rows, int column)
{
    return sqlite3_column_int64(rows->statement, column);
}

struct bytes_view
db_rows_blob(struct db_rows *rows, int column)
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
db_rows_text(struct db_rows *rows, int column)
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
db_rows_is_null(struct db_rows *rows, int column)
{
    return sqlite3_column_type(rows->statement, column) == SQLITE_NULL;
}

enum err
db_script(struct db *db, const char *sql)
{
    int code = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ERR_OK : fail(db, code, sql);
}

bool
db_is_in_transaction(const struct db *db)
{
    return sqlite3_get_autocommit(db->sqlite) == 0;
}

static void
end_relaxed(struct db *db)
{
    if (db->is_relaxed && !db_is_in_transaction(db)) {
        db->is_relaxed = false;
        enum err err = db_script(db, "PRAGMA synchronous = FULL");
        assert(err == ERR_OK); // it only sets a field of the connection
        (void)err;
    }
}

enum err
db_begin(struct db *db)
{
    return db_exec(db, db->role == DB_READER ? "BEGIN" : "BEGIN IMMEDIATE", DB_NO_ARGS, NULL);
}

enum err
db_begin_relaxed(struct db *db)
{
    // Not possible within a transaction.
    enum err err = db_script(db, "PRAGMA synchronous = NORMAL");
    if (err == ERR_OK) {
        db->is_relaxed = true;
        err = db_begin(db);
    }
    if (err != ERR_OK) {
        end_relaxed(db);
    }
    return err;
}

enum err
db_commit(struct db *db)
{
    assert(db->running == 0);
    enum err err = db_exec(db, "COMMIT", DB_NO_ARGS, NULL);
    if (err != ERR_OK) {
        db_rollback(db);
    }
    end_relaxed(db);
    return err;
}

void
db_rollback(struct db *db)
{
    assert(db->running == 0);
    if (db_is_in_transaction(db)) {
        // Even when it reports an error the transaction has ended.
        enum err err = db_exec(db, "ROLLBACK", DB_NO_ARGS, NULL);
        (void)err;
    }
    end_relaxed(db);
}

// Write-ahead logging is a property of the file; SQLite answers with the mode that it could set.
static enum err
set_write_ahead_log(struct db *db)
{
    static const char sql[] = "PRAGMA journal_mode = WAL";
    struct db_rows *rows = NULL;
    enum err err = db_query(db, sql, DB_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = db_rows_next(rows);
    }
    if (err == ERR_OK && strcmp(db_rows_text(rows, 0), "wal") != 0) {
        (void)sqlite3_snprintf((int)sizeof(db->message), db->message,
            "this file system cannot hold a database with a write-ahead log");
        err = ERR_IO;
    }
    db_rows_free(&rows);
    return err;
}

// Takes the place of SQLite's own hook, which copies the log. One that cannot be copied now will be later.
static int
note_log_pages(void *context, sqlite3 *sqlite, const char *name, int pages)
{
    struct db *db = context;
    db->log_pages = pages;
    if (pages >= LOG_MAX_PAGES) {
        (void)sqlite3_wal_checkpoint_v2(sqlite, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    return SQLITE_OK;
}

static const char *
settings_of(enum db_role role)
{
    switch (role) {
    case DB_WRITER:
        return settings_of_writer;
    case DB_READER:
        return settings_of_reader;
    case DB_PRIVATE:
        break;
    }
    return settings_of_private;
}

enum err
db_open(const char *path, enum db_role role, struct db **out, struct err_detail *why)
{
    struct db *db = calloc(1, sizeof(*db));
    if (db == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the database %s", path);
    }
    db->role = role;
    enum err err = ERR_OK;
    int code =
        sqlite3_open_v2(path, &db->sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK) {
        err = db->sqlite == NULL ? ERR_NO_MEMORY : err_from_sqlite(db->sqlite, code);
        goto out;
    }
    (void)sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
    // Otherwise a statement in whose plan a parameter plays a role, as beside a partial index, is prepared again
    // whenever that has another value: which costs more than running it.
    (void)sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_ENABLE_QPSG, 1, NULL);
    if (role == DB_PRIVATE) {
        (void)sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        (void)sqlite3_wal_hook(db->sqlite, note_log_pages, db);
    }
    if (role != DB_READER) {
        err = set_write_ahead_log(db);
    }
    if (err == ERR_OK) {
        err = db_script(db, settings_of(role));
    }
out:
    if (err != ERR_OK) {
        const char *cause = db->sqlite == NULL ? err_sentence(err) : sqlite3_errmsg(db->sqlite);
        err = err_fail(why, err, "cannot open the database %s: %s", path, db->message[0] != '\0' ? db->message : cause);
        db_close(&db);
        return err;
    }
    *out = db;
    return ERR_OK;
}

void
db_close(struct db **db)
{
    if (*db == NULL) {
        return;
    }
    assert((*db)->running == 0);
    struct db_rows *rows = NULL;
    struct db_rows *next = NULL;
    HASH_ITER(hh, (*db)->statements, rows, next)
    {
        discard(rows);
    }
    if ((*db)->log_pages > LOG_LEFT_MAX_PAGES) {
        (void)sqlite3_db_config((*db)->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    }
    // Undoes what is open.
    int code = sqlite3_close((*db)->sqlite);
    assert(code == SQLITE_OK);
    (void)code;
    free(*db);
    *db = NULL;
}

static enum err
read_version(struct db *db, int64_t *version_out)
{
    struct db_rows *rows = NULL;
    enum err err = db_query(db, "PRAGMA user_version", DB_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = db_rows_next(rows);
    }
    if (err == ERR_OK) {
        *version_out = db_rows_int(rows, 0);
    }
    db_rows_free(&rows);
    return err;
}

// In a transaction, so that another process that does the same waits and then finds nothing left to do.
static enum err
take_steps(struct db *db, const char *const *steps, size_t step_count)
{
    int64_t version = 0;
    enum err err = read_version(db, &version);
    for (size_t i = (size_t)version; err == ERR_OK && i < step_count; i++) {
        char set_version[64];
        (void)sqlite3_snprintf((int)sizeof(set_version), set_version, "PRAGMA user_version = %d", (int)i + 1);
        err = db_script(db, steps[i]);
        if (err == ERR_OK) {
            err = db_script(db, set_version);
        }
    }
    return err;
}

enum err
db_migrate(struct db *db, const char *const *steps, size_t step_count, struct err_detail *why)
{
    int64_t version = 0;
    enum err err = read_version(db, &version);
    if (err == ERR_OK && (version < 0 || version > (int64_t)step_count)) {
        return err_fail(why, ERR_VERSION,
            "the tables have version %lld, written by a newer program; this one knows versions up to %zu. Install the "
            "newer program again",
            (long long)version, step_count);
    }
    if (err == ERR_OK && version < (int64_t)step_count) {
        err = db_begin(db);
        if (err == ERR_OK) {
            err = take_steps(db, steps, step_count);
            if (err == ERR_OK) {
                err = db_commit(db);
            }
            db_rollback(db);
        }
    }
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "the tables cannot be prepared: %s", db_message(db));
}
