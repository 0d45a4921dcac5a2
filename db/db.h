// A connection to an SQLite database: statements, their values and rows, transactions, and the version of its tables.
// The one place that knows sqlite3. One thread at a time uses a connection.
//
// SQL is the part that SQLite and PostgreSQL have in common wherever services may run on either: parameters are $1, $2
// ... in order of first use. Prepared statements are kept and found by their text.
#ifndef DB_DB_H
#define DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct db;
struct db_rows; // a running query

enum db_role {
    DB_WRITER,  // of a server: the only one that writes; failures are logged
    DB_READER,  // of a server, beside the writer
    DB_PRIVATE, // of a program that starts, does little and ends; others like it use the same file. Failures are left
                // to the caller, with db_message
};

// db_open connects to a file, which exists (it may be empty). ERR_CORRUPT: not a database. ERR_DENIED, ERR_IO,
// ERR_BUSY.
enum err db_open(const char *path, enum db_role role, struct db **out, struct err_detail *why) ERR_CHECKED;

// db_close undoes an open transaction; NULL is fine. Every query has been ended before.
void db_close(struct db **db);

// db_copy writes a copy of a database, which other processes may be using, to a file that is not there yet, and sees to
// it that it is on disk. ERR_EXISTS: the file is there.
enum err db_copy(const char *from_path, const char *to_path, struct err_detail *why) ERR_CHECKED;

// db_message says what was wrong with the last statement. Valid until the next one.
const char *db_message(const struct db *db);

enum db_value_kind { DB_NULL, DB_INT, DB_TEXT, DB_BLOB };

// db_value is a parameter of a statement; it borrows.
struct db_value {
    enum db_value_kind kind;
    int64_t integer;
    struct bytes_view bytes; // text or blob
};

struct db_value db_int(int64_t value);
struct db_value db_text(const char *text); // NULL gives DB_NULL
struct db_value db_blob(const void *data, size_t size);
struct db_value db_null(void);

// DB_ARGS(...) makes the two arguments `args, arg_count` of the functions below.
#define DB_ARGS(...)                                                                                                   \
    (const struct db_value[]){__VA_ARGS__}, sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value)
#define DB_NO_ARGS NULL, 0

// db_exec runs a statement that returns no rows. changed_out (may be NULL) gets the number of rows that it changed.
// ERR_EXISTS: a UNIQUE or PRIMARY KEY constraint; ERR_NO_SPACE; ERR_IO; ERR_INTERNAL for a mistake in the SQL.
enum err db_exec(struct db *db, const char *sql, const struct db_value *args, size_t arg_count,
    int64_t *changed_out) ERR_CHECKED;

// db_script runs one or more statements without parameters.
enum err db_script(struct db *db, const char *sql) ERR_CHECKED;

// db_query starts a statement that returns rows, before the first of them.
enum err db_query(struct db *db, const char *sql, const struct db_value *args, size_t arg_count,
    struct db_rows **rows_out) ERR_CHECKED;

// db_rows_next moves to the next row. ERR_NOT_FOUND: there is none.
enum err db_rows_next(struct db_rows *rows) ERR_CHECKED;

// Columns of the current row from 0 on. Text and blobs are valid until the next db_rows_next or db_rows_free; a NULL
// column is 0 or empty. Text is followed by a NUL that its size does not count.
int64_t db_rows_int(struct db_rows *rows, int column);
struct bytes_view db_rows_blob(struct db_rows *rows, int column);
const char *db_rows_text(struct db_rows *rows, int column); // never NULL
bool db_rows_is_null(struct db_rows *rows, int column);

// db_rows_free ends the query; NULL is fine. Every query is ended before its transaction.
void db_rows_free(struct db_rows **rows);

// db_begin starts a transaction: that of a writer takes the write lock, a reader's is a snapshot from its first query
// on.
enum err db_begin(struct db *db) ERR_CHECKED;

// db_begin_relaxed is the same for what may be lost when the machine fails soon after, though not when the process
// does: its commit does not wait for the disk. In whichever order they come, no later commit survives without it.
enum err db_begin_relaxed(struct db *db) ERR_CHECKED;

// db_commit makes it durable. After an error the transaction is undone and the connection usable.
enum err db_commit(struct db *db) ERR_CHECKED;

// db_rollback undoes the transaction, if one is open.
void db_rollback(struct db *db);

// db_is_in_transaction: after some errors (a full disk, no memory) the database itself has undone the whole
// transaction.
bool db_is_in_transaction(const struct db *db);

// db_migrate brings the tables of the file to version step_count, each step (one or more statements) and the version
// together; asking whether there is anything to do costs one look at the file's header. Steps are never changed once
// released. ERR_VERSION: a newer program has written the file; `why` says what to do.
enum err db_migrate(struct db *db, const char *const *steps, size_t step_count, struct err_detail *why) ERR_CHECKED;

#endif
