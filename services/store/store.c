// The writer thread with its shared transactions, the pool of readers, and the versions of tables.
//
// Threads: anybody queues jobs and reads; jobs run and end on the writer thread, which alone uses the writing
// connection. One mutex guards the queue and the pool; nothing else is called under it.
#include "services/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "services/store/store_priv.h"

enum {
    // Reads are short and mostly served from memory: more connections would cost memory and bring nothing.
    READERS_MAX = 4,
    // Bounds how long the first job of a batch waits for the last.
    BATCH_JOBS_MAX = 512,
    // After a job that failed, so many transactions have a savepoint for each job, since more may fail.
    CAREFUL_BATCHES = 64,
};

static const char file_name[] = "fc.db";

struct store {
    // Immutable after open.
    char *path;
    pthread_t writer_thread;
    bool is_writer_started;

    // Only on the writer thread once that runs.
    struct store_tx *writer;
    unsigned careful_batches; // left

    pthread_mutex_t mutex;
    pthread_cond_t writer_wake;
    pthread_cond_t reader_free;
    struct {
        struct store_job *first_job;
        struct store_job **end_of_jobs; // where the next one is linked in
        struct store_stats stats;
        bool is_writer_idle;
        bool is_closing;
        struct store_tx *idle_readers[READERS_MAX];
        unsigned idle_reader_count;
        unsigned reader_count;
    } locked; // guarded by mutex
};

// Runs a job so that an error undoes only what it did. When even that fails no transaction is open afterwards.
static enum err
run_apart(struct store_tx *tx, struct store_job *job)
{
    enum err err = store_exec(tx, "SAVEPOINT job", STORE_NO_ARGS, NULL);
    if (err == ERR_OK) {
        err = job->run(tx, job);
    }
    if (err == ERR_OK) {
        err = store_exec(tx, "RELEASE job", STORE_NO_ARGS, NULL);
    }
    if (err != ERR_OK && store_tx_is_open(tx)) {
        enum err undone = store_exec(tx, "ROLLBACK TO job", STORE_NO_ARGS, NULL);
        if (undone == ERR_OK) {
            undone = store_exec(tx, "RELEASE job", STORE_NO_ARGS, NULL);
        }
        if (undone != ERR_OK) {
            store_tx_rollback(tx);
        }
    }
    return err;
}

// Runs the jobs of a batch in one transaction and leaves in each how it ended. Returns false when one of them has lost
// the transaction for all: that one has moved to `lost`, and the others have to run again.
static bool
run_together(struct store_tx *tx, struct store_job **batch, struct store_job **lost)
{
    enum err err = store_tx_begin(tx);
    bool has_begun = err == ERR_OK;
    for (struct store_job **at = batch; has_begun && *at != NULL; at = &(*at)->next) {
        struct store_job *job = *at;
        job->result = run_apart(tx, job);
        if (!store_tx_is_open(tx)) {
            *at = job->next;
            job->next = *lost;
            *lost = job;
            return false;
        }
    }
    if (has_begun) {
        err = store_tx_commit(tx);
    }
    for (struct store_job *job = *batch; err != ERR_OK && job != NULL; job = job->next) {
        if (!has_begun || job->result == ERR_OK) {
            job->result = err;
        }
    }
    return true;
}

// Runs the jobs of a batch in one transaction without savepoints, which cost more than the smallest jobs. Returns
// false, with nothing done, when one of several has failed: then each has to be run apart.
static bool
run_freely(struct store_tx *tx, struct store_job *batch)
{
    enum err err = store_tx_begin(tx);
    for (struct store_job *job = batch; err == ERR_OK && job != NULL; job = job->next) {
        err = job->run(tx, job);
        if (err != ERR_OK || !store_tx_is_open(tx)) {
            store_tx_rollback(tx);
            if (err == ERR_OK || batch->next != NULL) {
                return false;
            }
        }
    }
    if (err == ERR_OK) {
        err = store_tx_commit(tx);
    }
    for (struct store_job *job = batch; job != NULL; job = job->next) {
        job->result = err;
    }
    return true;
}

static void
tell(struct store_job *job)
{
    while (job != NULL) {
        struct store_job *next = job->next; // done may free the job
        job->done(job, job->result);
        job = next;
    }
}

static void
run_batch(struct store *store, struct store_job *batch)
{
    struct store_tx *tx = store->writer;
    struct store_job *lost = NULL;
    if (store->careful_batches > 0 && batch->next != NULL) {
        store->careful_batches--;
    } else if (run_freely(tx, batch)) {
        tell(batch);
        return;
    } else {
        store->careful_batches = CAREFUL_BATCHES;
    }
    while (!run_together(tx, &batch, &lost)) {
        if (lost->result == ERR_OK) {
            lost->result = ERR_INTERNAL; // its own SQL has ended the transaction
        }
    }
    tell(batch);
    tell(lost);
}

static struct store_job *
take_batch_locked(struct store *store)
{
    struct store_job *first = store->locked.first_job;
    struct store_job *last = first;
    uint64_t jobs = 1;
    while (jobs < BATCH_JOBS_MAX && last->next != NULL) {
        last = last->next;
        jobs++;
    }
    store->locked.stats.transactions++;
    store->locked.stats.jobs += jobs;
    store->locked.stats.waiting_jobs -= jobs;
    store->locked.first_job = last->next;
    last->next = NULL;
    if (store->locked.first_job == NULL) {
        store->locked.end_of_jobs = &store->locked.first_job;
    }
    return first;
}

static void *
run_writer(void *context)
{
    struct store *store = context;
    pthread_mutex_lock(&store->mutex);
    for (;;) {
        if (store->locked.first_job != NULL) {
            struct store_job *batch = take_batch_locked(store);
            pthread_mutex_unlock(&store->mutex);
            run_batch(store, batch);
            pthread_mutex_lock(&store->mutex);
        } else if (store->locked.is_closing) {
            break;
        } else {
            store->locked.is_writer_idle = true;
            pthread_cond_wait(&store->writer_wake, &store->mutex);
            store->locked.is_writer_idle = false;
        }
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

void
store_read_stats(struct store *store, struct store_stats *out)
{
    pthread_mutex_lock(&store->mutex);
    *out = store->locked.stats;
    pthread_mutex_unlock(&store->mutex);
}

void
store_write(struct store *store, struct store_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&store->mutex);
    *store->locked.end_of_jobs = job;
    store->locked.end_of_jobs = &job->next;
    store->locked.stats.waiting_jobs++;
    if (store->locked.is_writer_idle) {
        pthread_cond_signal(&store->writer_wake);
    }
    pthread_mutex_unlock(&store->mutex);
}

// A job that runs another one and wakes who waits for it.
struct waiting_job {
    struct store_job job;
    struct store_job *inner;
    enum err result;
    sem_t is_done;
};

static enum err
run_inner(struct store_tx *tx, struct store_job *job)
{
    struct waiting_job *waiting = (struct waiting_job *)job;
    return waiting->inner->run(tx, waiting->inner);
}

static void
wake_waiter(struct store_job *job, enum err result)
{
    struct waiting_job *waiting = (struct waiting_job *)job;
    if (waiting->inner->done != NULL) {
        waiting->inner->done(waiting->inner, result);
    }
    waiting->result = result;
    (void)sem_post(&waiting->is_done);
}

enum err
store_write_wait(struct store *store, struct store_job *job)
{
    struct waiting_job waiting = {.job = {.run = run_inner, .done = wake_waiter}, .inner = job};
    (void)sem_init(&waiting.is_done, 0, 0);
    store_write(store, &waiting.job);
    while (sem_wait(&waiting.is_done) != 0) {
        // interrupted by a signal
    }
    (void)sem_destroy(&waiting.is_done);
    return waiting.result;
}

static enum err
take_reader(struct store *store, struct store_tx **reader_out)
{
    pthread_mutex_lock(&store->mutex);
    while (store->locked.idle_reader_count == 0 && store->locked.reader_count == READERS_MAX) {
        pthread_cond_wait(&store->reader_free, &store->mutex);
    }
    struct store_tx *reader = NULL;
    if (store->locked.idle_reader_count > 0) {
        reader = store->locked.idle_readers[--store->locked.idle_reader_count];
    } else {
        store->locked.reader_count++;
    }
    pthread_mutex_unlock(&store->mutex);
    enum err err = ERR_OK;
    if (reader == NULL) {
        struct err_detail why = {0};
        err = store_tx_open(store->path, STORE_TX_READER, &reader, &why);
        if (err != ERR_OK) {
            log_error("STORE-OPEN", NULL, "%s", err_message(&why, err));
            pthread_mutex_lock(&store->mutex);
            store->locked.reader_count--;
            pthread_cond_signal(&store->reader_free);
            pthread_mutex_unlock(&store->mutex);
            return err;
        }
    }
    *reader_out = reader;
    return ERR_OK;
}

static void
give_back_reader(struct store *store, struct store_tx *reader)
{
    pthread_mutex_lock(&store->mutex);
    store->locked.idle_readers[store->locked.idle_reader_count++] = reader;
    pthread_cond_signal(&store->reader_free);
    pthread_mutex_unlock(&store->mutex);
}

enum err
store_read(struct store *store, store_read_fn *fn, void *context)
{
    struct store_tx *reader = NULL;
    enum err err = take_reader(store, &reader);
    if (err != ERR_OK) {
        return err;
    }
    err = store_tx_begin(reader);
    if (err == ERR_OK) {
        err = fn(reader, context);
        store_tx_rollback(reader);
    }
    give_back_reader(store, reader);
    return err;
}

// A step of a service's schema, or only the question for its version.
struct migration_job {
    struct store_job job;
    const char *service;
    const char *sql; // NULL: leave in `version` what it is
    int64_t version; // that sql leads to
};

static enum err
read_version(struct store_tx *tx, struct store_job *job)
{
    struct migration_job *migration = (struct migration_job *)job;
    migration->version = 0;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT version FROM schema_version WHERE service = $1",
        STORE_ARGS(store_text(migration->service)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        migration->version = store_rows_int(rows, 0);
    } else if (err == ERR_NOT_FOUND) {
        err = ERR_OK; // it has no tables yet
    }
    store_rows_free(&rows);
    return err;
}

static enum err
run_migration(struct store_tx *tx, struct store_job *job)
{
    struct migration_job *migration = (struct migration_job *)job;
    enum err err = store_tx_script(tx, migration->sql);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx,
        "INSERT INTO schema_version (service, version) VALUES ($1, $2) "
        "ON CONFLICT (service) DO UPDATE SET version = excluded.version",
        STORE_ARGS(store_text(migration->service), store_int(migration->version)), NULL);
}

enum err
store_migrate(struct store *store, const char *service, const struct store_migration *migrations,
    size_t migration_count, struct err_detail *why)
{
    struct migration_job migration = {.job.run = read_version, .service = service};
    enum err err = store_write_wait(store, &migration.job);
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot read the version of the \"%s\" tables in %s: %s", service, store->path,
            err_sentence(err));
    }
    if (migration.version > (int64_t)migration_count) {
        return err_fail(why, ERR_VERSION,
            "the \"%s\" tables in %s have version %lld, written by a newer program; this one knows versions up to "
            "%zu. Install the newer program again, or use another data folder",
            service, store->path, (long long)migration.version, migration_count);
    }
    migration.job.run = run_migration;
    for (size_t done = (size_t)migration.version; done < migration_count; done++) {
        migration.sql = migrations[done].sql;
        migration.version = (int64_t)done + 1;
        err = store_write_wait(store, &migration.job);
        if (err != ERR_OK) {
            return err_fail(why, err, "cannot bring the \"%s\" tables in %s to version %lld: %s", service, store->path,
                (long long)migration.version, err_sentence(err));
        }
    }
    return ERR_OK;
}

// SQLite gives the files beside it the mode of this one.
static enum err
create_file(const char *dir, const char *path)
{
    enum err err = file_make_dirs(dir, 0700);
    if (err != ERR_OK) {
        return err;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    (void)close(fd);
    return file_sync_dir(dir);
}

static enum err
create_version_table(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    return store_tx_script(tx,
        "CREATE TABLE IF NOT EXISTS schema_version (service TEXT PRIMARY KEY, version BIGINT NOT NULL)");
}

enum err
store_open(const char *dir, struct store **out, struct err_detail *why)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the database in %s", dir);
    }
    // With default attributes these cannot fail on Linux.
    (void)pthread_mutex_init(&store->mutex, NULL);
    (void)pthread_cond_init(&store->writer_wake, NULL);
    (void)pthread_cond_init(&store->reader_free, NULL);
    store->locked.end_of_jobs = &store->locked.first_job;

    enum err err = ERR_OK;
    if (asprintf(&store->path, "%s/%s", dir, file_name) < 0) {
        store->path = NULL; // undefined after a failure
        err = err_fail(why, ERR_NO_MEMORY, "no memory to open the database in %s", dir);
        goto out;
    }
    err = create_file(dir, store->path);
    if (err != ERR_OK) {
        err = err_fail(why, err, "cannot create the database %s: %s", store->path, err_sentence(err));
        goto out;
    }
    err = store_tx_open(store->path, STORE_TX_WRITER, &store->writer, why);
    if (err != ERR_OK) {
        goto out;
    }
    err = thread_start(&store->writer_thread, "store-writer", run_writer, store);
    if (err != ERR_OK) {
        err = err_fail(why, err, "cannot start the thread that writes the database: %s", err_sentence(err));
        goto out;
    }
    store->is_writer_started = true;
    struct store_job create = {.run = create_version_table};
    err = store_write_wait(store, &create);
    if (err != ERR_OK) {
        err = err_fail(why, err, "cannot write the database %s: %s", store->path, err_sentence(err));
        goto out;
    }
    // The layout that all services share: no steps so far, but a later program may have taken some.
    err = store_migrate(store, "store", NULL, 0, why);
    if (err != ERR_OK) {
        goto out;
    }
    *out = store;
    store = NULL; // transferred
out:
    store_close(&store);
    return err;
}

void
store_close(struct store **store_in)
{
    struct store *store = *store_in;
    if (store == NULL) {
        return;
    }
    if (store->is_writer_started) {
        pthread_mutex_lock(&store->mutex);
        store->locked.is_closing = true;
        pthread_cond_signal(&store->writer_wake);
        pthread_mutex_unlock(&store->mutex);
        (void)pthread_join(store->writer_thread, NULL);
    }
    while (store->locked.idle_reader_count > 0) {
        store_tx_close(&store->locked.idle_readers[--store->locked.idle_reader_count]);
    }
    // Last, so that it copies the write-ahead log into the database and removes it.
    store_tx_close(&store->writer);
    pthread_cond_destroy(&store->reader_free);
    pthread_cond_destroy(&store->writer_wake);
    pthread_mutex_destroy(&store->mutex);
    free(store->path);
    free(store);
    *store_in = NULL;
}
