// Everything is looked at in one snapshot of the database; what is to be changed is gathered and done afterwards.
#include "services/filestore/filestore_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/filestore/filestore_contents.h"
#include "services/filestore/filestore_core_priv.h"

enum {
    SEGMENTS_NAMED_MAX = 16,
    LINE_BYTES = FILESTORE_NAME_BYTES + 512,
};

struct check {
    const struct filestore_check_options *options;
    struct filestore_check_result *result;
    struct store_tx *tx;
    uint8_t *data; // of one chunk
    struct bytes damaged;
    struct bytes whole; // marked as damaged, and not
    struct bytes orphans;
    struct bytes bad_chunks; // of uploads: id and index
    enum err collected;
};

// What was found of one blob.
struct findings {
    uint64_t named[SEGMENTS_NAMED_MAX];
    size_t named_count;
    uint64_t count;
    bool is_missing;
    bool is_other_whole; // each segment is right, the whole is not
};

static void report(const struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
report(const struct check *check, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    check->options->report(check->options->context, line);
}

// read_blob reads a part of a content, wherever it is.
static enum err
read_blob(struct check *check, const uint8_t *blob_id, uint64_t offset, size_t size)
{
    struct blob_store *blobs = check->options->blobs;
    enum err err = filestore_contents_read_inline(check->tx, blob_id, offset, check->data, size);
    if (err == ERR_NOT_FOUND) {
        err = blob_read(blobs, blob_id, offset, check->data, size);
    }
    return err == ERR_NOT_FOUND ? blob_read_upload(blobs, blob_id, offset, check->data, size) : err;
}

static void
note_segment(struct findings *findings, uint64_t index)
{
    if (findings->named_count < SEGMENTS_NAMED_MAX) {
        findings->named[findings->named_count++] = index;
    }
    findings->count++;
}

// check_segment reads a segment and compares it with its row. *is_right_out: check->data has what was stored.
static enum err
check_segment(struct check *check, const uint8_t *blob_id, uint64_t offset, size_t size, uint64_t index,
    struct findings *findings)
{
    struct filestore_chunk row;
    struct filestore_chunk found;

    enum err err = filestore_core_find_chunk(check->tx, blob_id, index, &row);
    if (err == ERR_OK) {
        err = read_blob(check, blob_id, offset, size);
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_MD5, bytes_view_of(check->data, size), found.md5);
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(check->data, size), found.sha256);
    }
    findings->is_missing = findings->is_missing || err == ERR_NOT_FOUND;
    if (err == ERR_NOT_FOUND || err == ERR_OUT_OF_RANGE || err == ERR_IO ||
        (err == ERR_OK && memcmp(&row, &found, sizeof(row)) != 0)) {
        note_segment(findings, index);
        return ERR_OK;
    }
    return err;
}

static enum err
check_segments(struct check *check, const struct filestore_content *content, struct digest *md5, struct digest *sha256,
    struct findings *findings)
{
    struct filestore_file shape = {.size_bytes = content->size_bytes, .chunk_bytes = content->chunk_bytes};
    uint8_t whole_md5[DIGEST_MD5_BYTES];
    uint8_t whole_sha256[DIGEST_SHA256_BYTES];
    uint32_t size = 0;
    enum err err = ERR_OK;

    for (uint64_t i = 0; err == ERR_OK && i < filestore_core_chunk_count(&shape) && !findings->is_missing; i++) {
        err = filestore_core_chunk_size(&shape, i, &size);
        if (err == ERR_OK) {
            err = check_segment(check, content->blob_id, i * shape.chunk_bytes, size, i, findings);
        }
        if (err == ERR_OK && findings->count == 0) {
            err = digest_update(md5, bytes_view_of(check->data, size));
        }
        if (err == ERR_OK && findings->count == 0) {
            err = digest_update(sha256, bytes_view_of(check->data, size));
        }
    }
    if (err == ERR_OK) {
        err = digest_final(md5, whole_md5);
    }
    if (err == ERR_OK) {
        err = digest_final(sha256, whole_sha256);
    }
    findings->is_other_whole =
        findings->count == 0 && (memcmp(whole_md5, content->md5, sizeof(whole_md5)) != 0 ||
                                    memcmp(whole_sha256, content->sha256, sizeof(whole_sha256)) != 0);
    return err;
}

static void
describe(const struct findings *findings, char *out, size_t capacity)
{
    size_t used = 0;

    if (findings->is_missing) {
        (void)snprintf(out, capacity, "the content is not there");
        return;
    }
    if (findings->is_other_whole) {
        (void)snprintf(out, capacity, "each segment is right, and the whole is not");
        return;
    }
    int written =
        snprintf(out, capacity, "%llu damaged segments, counted from 0:", (unsigned long long)findings->count);
    for (size_t i = 0; i < findings->named_count && written >= 0; i++) {
        used += (size_t)written;
        written = snprintf(out + used, capacity - used, " %llu", (unsigned long long)findings->named[i]);
    }
    if (findings->count > findings->named_count && written >= 0) {
        used += (size_t)written;
        (void)snprintf(out + used, capacity - used, " and others");
    }
}

// report_content names every file that has the content.
static enum err
report_content(struct check *check, const uint8_t *blob_id, const struct findings *findings)
{
    struct store_rows *rows = NULL;
    struct filestore_file file;
    char what[512];
    char hex[2 * FILESTORE_ID_BYTES + 1];

    describe(findings, what, sizeof(what));
    bytes_to_hex(bytes_view_of(blob_id, FILESTORE_ID_BYTES), hex);
    enum err err = store_query(check->tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE blob_id = $1 AND version IS NOT NULL ORDER BY version",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_read_row(rows, &file);
        }
        if (err == ERR_OK) {
            report(check, "damaged: \"%s\" of %s, version %llu, %s%s (objects/%.2s/%s)", file.name, file.owner_name,
                (unsigned long long)file.version, file.deleted_unix_ms != 0 ? "deleted, " : "", what, hex, hex);
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
check_content(struct check *check, const struct filestore_content *content)
{
    struct findings findings = {.count = 0};
    struct digest *md5 = NULL;
    struct digest *sha256 = NULL;

    enum err err = digest_new(DIGEST_MD5, &md5);
    if (err == ERR_OK) {
        err = digest_new(DIGEST_SHA256, &sha256);
    }
    if (err == ERR_OK) {
        err = check_segments(check, content, md5, sha256, &findings);
    }
    digest_free(&sha256);
    digest_free(&md5);
    if (err != ERR_OK) {
        return err;
    }
    check->result->content_count++;
    check->result->content_bytes += content->size_bytes;
    struct bytes_view id = bytes_view_of(content->blob_id, FILESTORE_ID_BYTES);
    if (findings.count == 0 && !findings.is_other_whole) {
        return content->is_damaged ? bytes_append(&check->whole, id) : ERR_OK;
    }
    check->result->damaged_count++;
    err = report_content(check, content->blob_id, &findings);
    return err == ERR_OK ? bytes_append(&check->damaged, id) : err;
}

static enum err
check_contents(struct check *check)
{
    struct filestore_content content;
    const uint8_t *after = NULL;
    enum err err;

    while ((err = filestore_contents_after(check->tx, after, &content)) == ERR_OK) {
        err = check_content(check, &content);
        if (err != ERR_OK) {
            return err;
        }
        after = content.blob_id;
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// check_nameless reports files whose content is not even known.
static enum err
check_nameless(struct check *check)
{
    struct store_rows *rows = NULL;
    struct filestore_file file;

    enum err err = store_query(check->tx,
        "SELECT " FILESTORE_F_COLUMNS " FROM filestore_files f WHERE f.version IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM filestore_contents c WHERE c.blob_id = f.blob_id)",
        STORE_NO_ARGS, &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_read_row(rows, &file);
        }
        if (err == ERR_OK) {
            report(check, "damaged: \"%s\" of %s, version %llu, the database knows no content of it", file.name,
                file.owner_name, (unsigned long long)file.version);
            check->result->damaged_count++;
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// check_upload reads the chunks of an upload that have arrived.
static enum err
check_upload(struct check *check, const struct filestore_file *file)
{
    struct store_rows *rows = NULL;
    uint8_t place[FILESTORE_ID_BYTES + sizeof(uint64_t)];

    check->result->upload_count++;
    enum err err = store_query(check->tx, "SELECT chunk, size_bytes FROM filestore_chunks WHERE blob_id = $1",
        STORE_ARGS(store_blob(file->id, FILESTORE_ID_BYTES)), &rows);
    while (err == ERR_OK) {
        struct findings findings = {.count = 0};
        uint32_t size = 0;
        err = store_rows_next(rows);
        if (err != ERR_OK) {
            break;
        }
        uint64_t index = (uint64_t)store_rows_int(rows, 0);
        size = (uint32_t)store_rows_int(rows, 1);
        // Rows of an older program do not say the size.
        err = size != 0 ? ERR_OK : filestore_core_chunk_size(file, index, &size);
        if (err == ERR_OK) {
            err = size <= FILESTORE_CHUNK_MAX_BYTES
                      ? check_segment(check, file->id, index * file->chunk_bytes, size, index, &findings)
                      : ERR_CORRUPT;
        }
        if (err == ERR_OK && findings.count != 0) {
            report(check, "damaged: chunk %llu of %s's unfinished upload of \"%s\"", (unsigned long long)index,
                file->owner_name, file->name);
            check->result->chunk_count++;
            memcpy(place, file->id, FILESTORE_ID_BYTES);
            bytes_store_be64(place + FILESTORE_ID_BYTES, index);
            err = bytes_append(&check->bad_chunks, bytes_view_of(place, sizeof(place)));
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
check_uploads(struct check *check)
{
    struct store_rows *rows = NULL;
    struct filestore_file file;

    enum err err = store_query(check->tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE version IS NULL AND blob_id = file_id", STORE_NO_ARGS,
        &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_read_row(rows, &file);
        }
        if (err == ERR_OK) {
            err = check_upload(check, &file);
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// is_named: an upload, a content or garbage, which the server removes when it runs.
static enum err
is_named(struct check *check, const uint8_t *id, bool *is_named_out)
{
    struct filestore_content content;
    struct filestore_file file;

    enum err err = filestore_contents_find(check->tx, id, &content);
    if (err == ERR_NOT_FOUND) {
        err = filestore_contents_is_garbage(check->tx, id);
    }
    if (err == ERR_NOT_FOUND) {
        err = filestore_core_find_any(check->tx, id, &file);
        if (err == ERR_OK && file.is_committed) {
            err = ERR_NOT_FOUND; // it has another content
        }
    }
    *is_named_out = err == ERR_OK;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static void
check_file(void *context, const uint8_t id[BLOB_ID_BYTES])
{
    struct check *check = context;
    bool is_known = true;
    char hex[2 * FILESTORE_ID_BYTES + 1];

    if (check->collected == ERR_OK) {
        check->collected = is_named(check, id, &is_known);
    }
    if (check->collected == ERR_OK && !is_known) {
        bytes_to_hex(bytes_view_of(id, BLOB_ID_BYTES), hex);
        report(check, "orphan: nothing names the content %s", hex);
        check->result->orphan_count++;
        check->collected = bytes_append(&check->orphans, bytes_view_of(id, BLOB_ID_BYTES));
    }
}

static enum err
check_orphans(struct check *check)
{
    enum err err = blob_object_each(check->options->blobs, check_file, check);
    if (err == ERR_OK) {
        err = blob_upload_each(check->options->blobs, check_file, check);
    }
    return err == ERR_OK ? check->collected : err;
}

static enum err
check_run(struct store_tx *tx, void *context)
{
    struct check *check = context;

    check->tx = tx;
    enum err err = check_contents(check);
    if (err == ERR_OK) {
        err = check_nameless(check);
    }
    if (err == ERR_OK) {
        err = check_uploads(check);
    }
    return err == ERR_OK ? check_orphans(check) : err;
}

struct repair_job {
    struct store_job job; // first
    const struct check *check;
};

static enum err
repair_run(struct store_tx *tx, struct store_job *job)
{
    const struct check *check = ((struct repair_job *)job)->check;
    enum { PLACE_BYTES = FILESTORE_ID_BYTES + sizeof(uint64_t) };
    enum err err = ERR_OK;

    for (size_t at = 0; err == ERR_OK && at < check->damaged.size; at += FILESTORE_ID_BYTES) {
        err = filestore_contents_mark(tx, check->damaged.data + at, true);
    }
    for (size_t at = 0; err == ERR_OK && at < check->whole.size; at += FILESTORE_ID_BYTES) {
        err = filestore_contents_mark(tx, check->whole.data + at, false);
    }
    for (size_t at = 0; err == ERR_OK && at < check->bad_chunks.size; at += PLACE_BYTES) {
        const uint8_t *place = check->bad_chunks.data + at;
        err = store_exec(tx, "DELETE FROM filestore_chunks WHERE blob_id = $1 AND chunk = $2",
            STORE_ARGS(store_blob(place, FILESTORE_ID_BYTES),
                store_int((int64_t)bytes_load_be64(place + FILESTORE_ID_BYTES))),
            NULL);
    }
    return err;
}

static enum err
repair(struct check *check)
{
    struct repair_job job = {.job = {.run = repair_run}, .check = check};
    struct blob_store *blobs = check->options->blobs;

    enum err err = store_write_wait(check->options->store, &job.job);
    for (size_t at = 0; err == ERR_OK && at < check->orphans.size; at += FILESTORE_ID_BYTES) {
        err = blob_remove(blobs, check->orphans.data + at);
    }
    return err == ERR_OK ? blob_sync_removed(blobs, bytes_as_view(&check->orphans)) : err;
}

enum err
filestore_check(const struct filestore_check_options *options, struct filestore_check_result *out,
    struct err_detail *why)
{
    struct check check = {.options = options, .result = out, .data = malloc(FILESTORE_CHUNK_MAX_BYTES)};

    *out = (struct filestore_check_result){0};
    enum err err = check.data == NULL ? ERR_NO_MEMORY : filestore_core_migrate(options->store, why);
    if (err == ERR_OK) {
        err = store_read(options->store, check_run, &check);
    }
    if (err == ERR_OK && options->is_repairing) {
        err = repair(&check);
    }
    bytes_free(&check.damaged);
    bytes_free(&check.whole);
    bytes_free(&check.orphans);
    bytes_free(&check.bad_chunks);
    free(check.data);
    if (err != ERR_OK && (why == NULL || why->message[0] == '\0')) {
        err = err_fail(why, err, "the check could not be completed: %s", err_sentence(err));
    }
    return err;
}
