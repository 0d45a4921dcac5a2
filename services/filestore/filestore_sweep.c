// What goes by itself: uploads and deleted files whose time is over, files that have expired, and blobs that nothing
// names any more.
//
// Rows go first. The transaction that forgets the last file of a content writes its blob down as garbage; a later one
// removes the content file and only then the note. A content file is removed inside a transaction that finds the note
// still there: an upload that takes the same id again has taken the note away, or finds out that it has to make the
// file anew (filestore_plans.c).
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    SWEEP_INTERVAL_MS = 60 * 1000,
    DUE_MAX = 200,    // rows of each kind in one transaction
    GARBAGE_MAX = 64, // content files removed in one transaction
};

// At start-up: what is on disk as an upload is an upload, or a content whose last step is missing, or nothing.

struct leftovers {
    struct bytes ids; // one after the other
    enum err err;
};

static void
leftovers_collect(void *context, const uint8_t id[BLOB_ID_BYTES])
{
    struct leftovers *leftovers = context;

    if (leftovers->err == ERR_OK) {
        leftovers->err = bytes_append(&leftovers->ids, bytes_view_of(id, BLOB_ID_BYTES));
    }
}

struct leftover {
    const uint8_t *id;
    bool is_content;
    bool is_upload;
};

static enum err
leftover_read(struct store_tx *tx, void *context)
{
    struct leftover *leftover = context;
    struct filestore_content content;
    struct filestore_file file;

    enum err err = filestore_contents_find(tx, leftover->id, &content);
    leftover->is_content = err == ERR_OK;
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = filestore_core_find_any(tx, leftover->id, &file);
    leftover->is_upload = err == ERR_OK && !file.is_committed && !filestore_core_is_content_known(&file);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
leftovers_settle(struct filestore_service *filestore, struct err_detail *why)
{
    struct leftovers leftovers = {.err = ERR_OK};
    size_t removed_count = 0;

    enum err err = blob_upload_each(filestore->blobs, leftovers_collect, &leftovers);
    if (err == ERR_OK) {
        err = leftovers.err;
    }
    for (size_t at = 0; err == ERR_OK && at < leftovers.ids.size; at += BLOB_ID_BYTES) {
        struct leftover leftover = {.id = leftovers.ids.data + at};

        err = store_read(filestore->store, leftover_read, &leftover);
        if (err == ERR_OK && leftover.is_content) {
            err = blob_upload_finish(filestore->blobs, leftover.id);
        } else if (err == ERR_OK && !leftover.is_upload) {
            err = blob_upload_cancel(filestore->blobs, leftover.id);
            removed_count++;
        }
    }
    bytes_free(&leftovers.ids);
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot tidy up the uploads on disk: %s", err_sentence(err));
    }
    if (removed_count != 0) {
        log_info("FILE-SWEPT", NULL, "removed what %zu abandoned uploads had left", removed_count);
    }
    return ERR_OK;
}

// Rows that are due.

struct due_job {
    struct store_job job; // first
    struct filestore_due due;
    size_t count;
};

static enum err
due_run(struct store_tx *tx, struct store_job *job)
{
    struct due_job *self = (struct due_job *)job;
    return filestore_core_purge_due(tx, &self->due, DUE_MAX, &self->count);
}

static enum err
sweep_due(struct filestore_service *filestore)
{
    size_t total = 0;
    enum err err = ERR_OK;
    struct due_job job = {.job = {.run = due_run}, .count = 1};

    while (err == ERR_OK && job.count != 0) {
        int64_t now_ms = clock_unix_ms();
        job.due = (struct filestore_due){
            .uploads_before_unix_ms = now_ms - FILESTORE_UPLOAD_LIFETIME_MS,
            .deleted_before_unix_ms = now_ms - filestore->delete_grace_ms,
            .now_unix_ms = now_ms,
        };
        err = store_write_wait(filestore->store, &job.job);
        total += err == ERR_OK ? job.count : 0;
    }
    if (total != 0) {
        log_info("FILE-DUE", NULL, "%zu old uploads, deleted and expired files are gone for good", total);
    }
    return err;
}

// Garbage.

struct garbage_job {
    struct store_job job; // first
    struct filestore_service *filestore;
    struct bytes_view ids;
};

// garbage_run removes the content files. What it does to the disk it may do again.
static enum err
garbage_run(struct store_tx *tx, struct store_job *job)
{
    struct garbage_job *self = (struct garbage_job *)job;
    enum err err = ERR_OK;

    for (size_t at = 0; err == ERR_OK && at < self->ids.size; at += FILESTORE_ID_BYTES) {
        err = filestore_contents_is_garbage(tx, self->ids.data + at);
        if (err == ERR_OK) {
            err = blob_remove(self->filestore->blobs, self->ids.data + at);
        }
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    return err;
}

static enum err
garbage_forget(struct store_tx *tx, struct store_job *job)
{
    struct garbage_job *self = (struct garbage_job *)job;
    bool was_garbage = false;
    enum err err = ERR_OK;

    for (size_t at = 0; err == ERR_OK && at < self->ids.size; at += FILESTORE_ID_BYTES) {
        err = filestore_contents_keep(tx, self->ids.data + at, &was_garbage);
    }
    return err;
}

static enum err
garbage_read(struct store_tx *tx, void *context)
{
    return filestore_contents_garbage(tx, GARBAGE_MAX, context);
}

static enum err
sweep_garbage(struct filestore_service *filestore)
{
    struct bytes ids = {0};
    enum err err = ERR_OK;

    do {
        bytes_clear(&ids);
        err = store_read(filestore->store, garbage_read, &ids);
        if (err != ERR_OK || ids.size == 0) {
            break;
        }
        struct garbage_job job = {.job = {.run = garbage_run}, .filestore = filestore, .ids = bytes_as_view(&ids)};
        err = store_write_wait(filestore->store, &job.job);
        if (err == ERR_OK) {
            err = blob_sync_removed(filestore->blobs, job.ids);
        }
        if (err == ERR_OK) {
            job.job = (struct store_job){.run = garbage_forget};
            err = store_write_wait(filestore->store, &job.job);
        }
    } while (err == ERR_OK && ids.size == GARBAGE_MAX * FILESTORE_ID_BYTES);
    bytes_free(&ids);
    return err;
}

// sweep_all is one round. A backup that is running needs the contents that its copy of the database names.
static void
sweep_all(struct filestore_service *filestore)
{
    enum err err = sweep_due(filestore);
    int lock = filestore->backup_lock_fd;
    bool is_free = lock < 0 || flock(lock, LOCK_EX | LOCK_NB) == 0;

    if (err == ERR_OK && is_free) {
        err = sweep_garbage(filestore);
    }
    if (lock >= 0 && is_free) {
        (void)flock(lock, LOCK_UN);
    }
    if (err != ERR_OK) {
        log_error("FILE-SWEEP", NULL, "what is no longer needed could not be removed, and is tried again: %s",
            err_sentence(err));
    }
}

static void
sweep_run(struct work *work)
{
    struct filestore_service *filestore = (void *)((char *)work - offsetof(struct filestore_service, sweep_work));

    sweep_all(filestore);
    pthread_mutex_lock(&filestore->locked.mutex);
    bool is_wanted = filestore->locked.is_sweep_wanted && !filestore->locked.is_stopping;
    filestore->locked.is_sweep_wanted = false;
    filestore->locked.is_sweep_queued = is_wanted;
    pthread_mutex_unlock(&filestore->locked.mutex);
    if (is_wanted) {
        work_pool_submit(filestore->sweep_pool, &filestore->sweep_work);
    }
}

void
filestore_sweep_soon(struct filestore_service *filestore)
{
    pthread_mutex_lock(&filestore->locked.mutex);
    bool is_first = !filestore->locked.is_sweep_queued && !filestore->locked.is_stopping;
    filestore->locked.is_sweep_wanted = filestore->locked.is_sweep_queued;
    filestore->locked.is_sweep_queued = is_first || filestore->locked.is_sweep_queued;
    pthread_mutex_unlock(&filestore->locked.mutex);
    if (is_first) {
        work_pool_submit(filestore->sweep_pool, &filestore->sweep_work);
    }
}

static void
sweep_expired(struct timer *timer)
{
    struct filestore_service *filestore = (void *)((char *)timer - offsetof(struct filestore_service, sweep_timer));

    filestore_sweep_soon(filestore);
    enum err err = timer_start(filestore->timers, timer, SWEEP_INTERVAL_MS);
    if (err != ERR_OK) {
        log_error("FILE-SWEEP", NULL, "no more sweeps by the clock: %s", err_sentence(err));
    }
}

enum err
filestore_sweep_start(struct filestore_service *filestore, struct err_detail *why)
{
    enum err err = sweep_due(filestore);
    if (err != ERR_OK) {
        // As on a full disk, where the server has to start nevertheless.
        log_error("FILE-SWEEP", NULL, "what is due could not be removed, and is tried again: %s", err_sentence(err));
    }
    err = leftovers_settle(filestore, why);
    filestore->sweep_work.run = sweep_run;
    filestore->sweep_timer.on_expiry = sweep_expired;
    if (err == ERR_OK) {
        err = work_pool_new_patient("file-sweep", 1, &filestore->sweep_pool);
    }
    if (err == ERR_OK) {
        err = timer_queue_new(&filestore->timers);
    }
    if (err == ERR_OK) {
        filestore_sweep_soon(filestore);
        err = timer_start(filestore->timers, &filestore->sweep_timer, SWEEP_INTERVAL_MS);
    }
    return err;
}

void
filestore_sweep_stop(struct filestore_service *filestore)
{
    pthread_mutex_lock(&filestore->locked.mutex);
    filestore->locked.is_stopping = true;
    pthread_mutex_unlock(&filestore->locked.mutex);
    if (filestore->timers != NULL) {
        (void)timer_stop(filestore->timers, &filestore->sweep_timer);
    }
    work_pool_free(&filestore->sweep_pool);
    timer_queue_free(&filestore->timers);
}
