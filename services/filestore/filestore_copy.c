// Takes the contents that a copy of a database names.
//
// The database comes first. Contents never change once a database names them, and while a backup runs the server
// removes none: so all of them are there to be fetched, however long that takes.
#include <stdio.h>

#include "services/filestore/filestore_check.h"
#include "services/filestore/filestore_contents.h"
#include "services/filestore/filestore_core_priv.h"

enum {
    LINE_BYTES = 256,
    PURGE_STEP = 200,
};

struct purge_job {
    struct store_job job; // first
    size_t count;
};

// purge_run takes unfinished uploads out: their contents still change.
static enum err
purge_run(struct store_tx *tx, struct store_job *job)
{
    const struct filestore_due due = {.uploads_before_unix_ms = INT64_MAX};
    return filestore_core_purge_due(tx, &due, PURGE_STEP, &((struct purge_job *)job)->count);
}

static enum err
forget_garbage(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    return store_exec(tx, "DELETE FROM filestore_garbage", STORE_NO_ARGS, NULL);
}

struct next_content {
    struct filestore_content content;
    bool is_first;
    bool is_inline;
};

static enum err
next_read(struct store_tx *tx, void *context)
{
    struct next_content *next = context;
    int64_t count = 0;

    enum err err = filestore_contents_after(tx, next->is_first ? NULL : next->content.blob_id, &next->content);
    next->is_first = false;
    if (err == ERR_OK) {
        err = filestore_core_query_int(tx, "SELECT COUNT(*) FROM filestore_inline WHERE blob_id = $1",
            STORE_ARGS(store_blob(next->content.blob_id, FILESTORE_ID_BYTES)), &count);
    }
    next->is_inline = count != 0;
    return err;
}

static enum err
copy_all(struct filestore_copy *copy)
{
    struct next_content next = {.is_first = true};
    char hex[2 * FILESTORE_ID_BYTES + 1];
    char line[LINE_BYTES];
    enum err err;

    while ((err = store_read(copy->store, next_read, &next)) == ERR_OK) {
        err = next.is_inline ? ERR_OK : blob_copy(copy->blobs, copy->from_dir, next.content.blob_id, copy->may_link);
        copy->content_count++;
        if (err == ERR_NOT_FOUND) {
            bytes_to_hex(bytes_view_of(next.content.blob_id, FILESTORE_ID_BYTES), hex);
            (void)snprintf(line, sizeof(line), "missing: the content %s, which the database names", hex);
            copy->report(copy->context, line);
            copy->missing_count++;
        } else if (err != ERR_OK) {
            return err;
        }
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_copy_contents(struct filestore_copy *copy, struct err_detail *why)
{
    struct purge_job purge = {.job = {.run = purge_run}, .count = 1};
    struct store_job forget = {.run = forget_garbage};

    copy->content_count = 0;
    copy->missing_count = 0;
    enum err err = filestore_core_migrate(copy->store, why);
    while (err == ERR_OK && purge.count != 0) {
        err = store_write_wait(copy->store, &purge.job);
    }
    if (err == ERR_OK) {
        err = store_write_wait(copy->store, &forget);
    }
    if (err == ERR_OK) {
        err = copy_all(copy);
    }
    if (err != ERR_OK && (why == NULL || why->message[0] == '\0')) {
        err = err_fail(why, err, "the contents could not be copied: %s", err_sentence(err));
    }
    return err;
}
