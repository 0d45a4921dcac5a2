// The database of a server: SQL statements, read on a pool of connections, written by one thread in shared
// transactions.
//
// SQL is the part that SQLite and PostgreSQL have in common: parameters are $1, $2 ... in order of first use; ON
// CONFLICT and RETURNING are available. Each service owns the tables that it creates; no other service reads them.
//
// Group commit: store_write queues a job; the writer thread runs all jobs that are waiting inside one transaction,
// commits once, and only then tells each how it ended. So an acknowledged write is on disk, and many writers at once
// cost one sync. If a job fails, the transaction is repeated with a savepoint for each.
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "db/db.h"

struct store;
struct store_tx;   // a transaction or a read snapshot, used by one thread
struct store_rows; // a running query

// store_open opens or creates the database in a folder. ERR_VERSION: a newer program has written it. ERR_IO,
// ERR_CORRUPT.
enum err store_open(const char *dir, struct store **out, struct err_detail *why) ERR_CHECKED;

// store_back_up writes a copy of the database in one folder, which a server may be using, into another that has none.
enum err store_back_up(const char *from_dir, const char *to_dir, struct err_detail *why) ERR_CHECKED;

// store_check reads the whole database. ERR_CORRUPT: it is damaged; `why` says where.
enum err store_check(struct store *store, struct err_detail *why) ERR_CHECKED;

// What the writer has done since store_open: jobs per transaction say how much a sync is shared.
struct store_stats {
    uint64_t transactions;
    uint64_t jobs;
    uint64_t waiting_jobs; // queued now
};

// store_read_stats is for any thread.
void store_read_stats(struct store *store, struct store_stats *out);

// store_close finishes the queued writes and closes. After the last service has stopped.
void store_close(struct store **store);

// One step of a service's schema. Steps are never changed once released; a new one is added at the end.
struct store_migration {
    const char *sql; // one or more statements
};

// store_migrate brings the tables of `service` to the version migration_count, each step in a transaction that also
// records it. ERR_VERSION: the tables are newer than this program; `why` says what to do.
enum err store_migrate(struct store *store, const char *service, const struct store_migration *migrations,
    size_t migration_count, struct err_detail *why) ERR_CHECKED;

// store_value is a parameter of a statement; it borrows.
struct store_value {
    struct db_value value;
};

struct store_value store_int(int64_t value);
struct store_value store_text(const char *text); // NULL gives store_null()
struct store_value store_blob(const void *data, size_t size);
struct store_value store_null(void);

// STORE_ARGS(...) makes the two arguments `args, arg_count` of the functions below.
#define STORE_ARGS(...)                                                                                                \
    (const struct store_value[]){__VA_ARGS__},                                                                         \
        sizeof((const struct store_value[]){__VA_ARGS__}) / sizeof(struct store_value)
#define STORE_NO_ARGS NULL, 0

// store_exec runs a statement that returns no rows. changed_out (may be NULL) gets the number of rows that it changed.
// ERR_EXISTS: a UNIQUE or PRIMARY KEY constraint; ERR_NO_SPACE; ERR_IO; ERR_INTERNAL for a mistake in the SQL.
enum err store_exec(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    int64_t *changed_out) ERR_CHECKED;

// store_query starts a statement that returns rows, before the first of them.
enum err store_query(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    struct store_rows **rows_out) ERR_CHECKED;

// store_rows_next moves to the next row. ERR_NOT_FOUND: there is none.
enum err store_rows_next(struct store_rows *rows) ERR_CHECKED;

// Columns of the current row from 0 on. Text and blobs are valid until the next store_rows call; a NULL column is 0 or
// empty. Text is followed by a NUL that its size does not count.
int64_t store_rows_int(struct store_rows *rows, int column);
struct bytes_view store_rows_blob(struct store_rows *rows, int column);
const char *store_rows_text(struct store_rows *rows, int column); // never NULL
bool store_rows_is_null(struct store_rows *rows, int column);

// store_rows_free ends the query; NULL is fine. Every query is ended before its transaction.
void store_rows_free(struct store_rows **rows);

// store_read_fn reads from one consistent snapshot.
typedef enum err store_read_fn(struct store_tx *tx, void *context);

// store_read runs fn on the calling thread with a connection of the pool and returns what fn returned. Any thread;
// waits when all connections are in use.
enum err store_read(struct store *store, store_read_fn *fn, void *context) ERR_CHECKED;

// store_job is a queued write, embedded in the operation that it belongs to.
struct store_job {
    // Runs on the writer thread. An error undoes what this job did and nothing else. May run again when the shared
    // transaction has to be repeated, so it only changes the database and its own operation.
    enum err (*run)(struct store_tx *tx, struct store_job *job);
    // Runs on the writer thread, once, in the order of the commits: ERR_OK means on disk. Must not block.
    void (*done)(struct store_job *job, enum err result);

    struct store_job *next; // private
    enum err result;        // private
};

// store_write queues a job. Any thread; never blocks.
void store_write(struct store *store, struct store_job *job);

// store_write_wait runs a job and waits for it. For start-up, tests and tools, never on the writer thread. job->done
// may be NULL.
enum err store_write_wait(struct store *store, struct store_job *job) ERR_CHECKED;

#endif
