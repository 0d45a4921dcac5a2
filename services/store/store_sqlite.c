// The store's transactions on SQLite: each is a connection of db/, which does the work.
#include <assert.h>

#include "services/store/store_priv.h"

// A struct store_tx is the struct db of its connection, and a struct store_rows the struct db_rows of its query: both
// names stand for what only the backend knows.
static struct db *
db_of(struct store_tx *tx)
{
    return (struct db *)tx;
}

static struct db_rows *
rows_of(struct store_rows *rows)
{
    return (struct db_rows *)rows;
}

static_assert(sizeof(struct store_value) == sizeof(struct db_value), "an array of one is an array of the other");

static const struct db_value *
values_of(const struct store_value *args)
{
    return (const struct db_value *)args;
}

struct store_value
store_int(int64_t value)
{
    return (struct store_value){db_int(value)};
}

struct store_value
store_text(const char *text)
{
    return (struct store_value){db_text(text)};
}

struct store_value
store_blob(const void *data, size_t size)
{
    return (struct store_value){db_blob(data, size)};
}

struct store_value
store_null(void)
{
    return (struct store_value){db_null()};
}

enum err
store_exec(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count, int64_t *changed_out)
{
    return db_exec(db_of(tx), sql, values_of(args), arg_count, changed_out);
}

enum err
store_query(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    struct store_rows **rows_out)
{
    struct db_rows *rows = NULL;
    enum err err = db_query(db_of(tx), sql, values_of(args), arg_count, &rows);
    if (err == ERR_OK) {
        *rows_out = (struct store_rows *)rows;
    }
    return err;
}

enum err
store_rows_next(struct store_rows *rows)
{
    return db_rows_next(rows_of(rows));
}

int64_t
store_rows_int(struct store_rows *rows, int column)
{
    return db_rows_int(rows_of(rows), column);
}

struct bytes_view
store_rows_blob(struct store_rows *rows, int column)
{
    return db_rows_blob(rows_of(rows), column);
}

const char *
store_rows_text(struct store_rows *rows, int column)
{
    return db_rows_text(rows_of(rows), column);
}

bool
store_rows_is_null(struct store_rows *rows, int column)
{
    return db_rows_is_null(rows_of(rows), column);
}

void
store_rows_free(struct store_rows **rows)
{
    struct db_rows *ended = rows_of(*rows);
    db_rows_free(&ended);
    *rows = NULL;
}

enum err
store_tx_open(const char *path, enum store_tx_role role, struct store_tx **out, struct err_detail *why)
{
    struct db *db = NULL;
    enum err err = db_open(path, role == STORE_TX_WRITER ? DB_WRITER : DB_READER, &db, why);
    if (err == ERR_OK) {
        *out = (struct store_tx *)db;
    }
    return err;
}

void
store_tx_close(struct store_tx **tx)
{
    struct db *db = db_of(*tx);
    db_close(&db);
    *tx = NULL;
}

enum err
store_tx_begin(struct store_tx *tx)
{
    return db_begin(db_of(tx));
}

enum err
store_tx_commit(struct store_tx *tx)
{
    return db_commit(db_of(tx));
}

void
store_tx_rollback(struct store_tx *tx)
{
    db_rollback(db_of(tx));
}

bool
store_tx_is_open(struct store_tx *tx)
{
    return db_is_in_transaction(db_of(tx));
}

enum err
store_tx_script(struct store_tx *tx, const char *sql)
{
    return db_script(db_of(tx), sql);
}
