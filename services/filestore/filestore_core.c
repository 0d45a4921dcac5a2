// Uploads and their chunks. What is committed, and who may read it, is in filestore_names.c.
//
// One row is an upload while its version is NULL and a file afterwards, under the same id; so there is no moment in
// which it is both or neither. A chunk's row says that its bytes are on disk and never changes once it is there.
#include "services/filestore/filestore_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_contents.h"
#include "services/filestore/filestore_core_priv.h"

enum {
    MISSING_NAMED_MAX = 8, // chunks that the message about missing ones names
};

uint32_t
filestore_core_chunk_bytes(uint64_t size_bytes)
{
    uint32_t chunk_bytes = FILESTORE_CHUNK_MIN_BYTES;

    while (chunk_bytes < FILESTORE_CHUNK_MAX_BYTES && size_bytes / chunk_bytes >= FILESTORE_CHUNKS_WANTED) {
        chunk_bytes *= 2;
    }
    return chunk_bytes;
}

uint64_t
filestore_core_chunk_count(const struct filestore_file *file)
{
    return file->size_bytes / file->chunk_bytes + (file->size_bytes % file->chunk_bytes != 0);
}

enum err
filestore_core_chunk_size(const struct filestore_file *file, uint64_t index, uint32_t *size_out)
{
    if (index >= filestore_core_chunk_count(file)) {
        return ERR_OUT_OF_RANGE;
    }
    uint64_t left = file->size_bytes - index * file->chunk_bytes;
    *size_out = left < file->chunk_bytes ? (uint32_t)left : file->chunk_bytes;
    return ERR_OK;
}

enum err
filestore_core_upload_id(const uint8_t owner_id[FILESTORE_ID_BYTES], struct bytes_view request_id,
    uint8_t id_out[FILESTORE_ID_BYTES])
{
    static const char purpose[] = "fc filestore upload";
    struct digest *digest = NULL;
    uint8_t sha256[DIGEST_SHA256_BYTES];

    if (request_id.size == 0) {
        random_bytes(id_out, FILESTORE_ID_BYTES);
        return ERR_OK;
    }
    enum err err = digest_new(DIGEST_SHA256, &digest);
    if (err == ERR_OK) {
        err = digest_update(digest, bytes_view_of_text(purpose));
    }
    if (err == ERR_OK) {
        err = digest_update(digest, bytes_view_of(owner_id, FILESTORE_ID_BYTES));
    }
    if (err == ERR_OK) {
        err = digest_update(digest, request_id);
    }
    if (err == ERR_OK) {
        err = digest_final(digest, sha256);
    }
    if (err == ERR_OK) {
        memcpy(id_out, sha256, FILESTORE_ID_BYTES);
    }
    digest_free(&digest);
    return err;
}

enum err
filestore_core_find_any(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    return filestore_core_query_file(tx, "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE file_id = $1",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES)), file_out);
}

enum err
filestore_core_find_own(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES],
    const uint8_t owner_id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    return filestore_core_query_file(tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE file_id = $1 AND owner_id = $2",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES), store_blob(owner_id, FILESTORE_ID_BYTES)), file_out);
}

enum err
filestore_core_query_int(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    int64_t *value_out)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx, sql, args, arg_count, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *value_out = store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err;
}

bool
filestore_core_is_content_known(const struct filestore_file *file)
{
    return !file->is_committed && memcmp(file->id, file->blob_id, FILESTORE_ID_BYTES) != 0;
}

enum err
filestore_core_add_upload(struct store_tx *tx, const struct filestore_file *file, bool *was_garbage_out,
    struct err_detail *why)
{
    int64_t open_count = 0;

    enum err err =
        filestore_core_query_int(tx, "SELECT COUNT(*) FROM filestore_files WHERE owner_id = $1 AND version IS NULL",
            STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES)), &open_count);
    if (err != ERR_OK) {
        return err;
    }
    if (open_count >= FILESTORE_UPLOADS_PER_USER_MAX) {
        return err_fail(why, ERR_LIMIT, "%s has %d unfinished uploads: finish or cancel some first", file->owner_name,
            FILESTORE_UPLOADS_PER_USER_MAX);
    }
    // The file that this request once made may be gone, and its content may still be that of others.
    struct filestore_content content;
    err = filestore_core_is_content_known(file) ? ERR_NOT_FOUND : filestore_contents_find(tx, file->id, &content);
    if (err != ERR_NOT_FOUND) {
        return err != ERR_OK ? err : err_fail(why, ERR_CONFLICT, "this request_id has planned an upload long ago");
    }
    err = store_exec(tx,
        "INSERT INTO filestore_files (file_id, owner_id, owner_name, name, room_id, size_bytes, chunk_bytes, "
        "created_ms, md5, sha256, blob_id, mime_type, modified_ms, mode, expires_ms, is_size_unknown, "
        "expected_version, request_id) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        STORE_ARGS(store_blob(file->id, FILESTORE_ID_BYTES), store_blob(file->owner_id, FILESTORE_ID_BYTES),
            store_text(file->owner_name), store_text(file->name),
            file->has_room ? store_blob(file->room.room_id, FILESTORE_ID_BYTES) : store_null(),
            store_int((int64_t)file->size_bytes), store_int(file->chunk_bytes), store_int(file->created_unix_ms),
            file->has_md5 ? store_blob(file->md5, DIGEST_MD5_BYTES) : store_null(),
            file->has_sha256 ? store_blob(file->sha256, DIGEST_SHA256_BYTES) : store_null(),
            store_blob(file->blob_id, FILESTORE_ID_BYTES), store_text(file->mime_type),
            store_int(file->modified_unix_ms), store_int(file->mode), store_int(file->expires_unix_ms),
            store_int(file->is_size_unknown),
            file->has_expected_version ? store_int((int64_t)file->expected_version) : store_null(),
            store_blob(file->request_id.data, file->request_id.size)),
        NULL);
    if (err != ERR_OK) {
        return err;
    }
    return filestore_contents_keep(tx, file->blob_id, was_garbage_out);
}

enum err
filestore_core_arrived(struct store_tx *tx, const struct filestore_file *file, struct bytes *bitmap)
{
    struct store_rows *rows = NULL;
    uint64_t needed = (filestore_core_chunk_count(file) + 7) / 8;
    size_t size = needed < FILESTORE_BITMAP_MAX_BYTES ? (size_t)needed : FILESTORE_BITMAP_MAX_BYTES;

    bytes_clear(bitmap);
    enum err err = bytes_reserve(bitmap, size);
    if (err != ERR_OK || size == 0) {
        return err;
    }
    memset(bitmap->data, 0, size);
    bitmap->size = size;
    err = store_query(tx, "SELECT chunk FROM filestore_chunks WHERE blob_id = $1 AND chunk < $2",
        STORE_ARGS(store_blob(file->blob_id, FILESTORE_ID_BYTES), store_int((int64_t)size * 8)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            uint64_t chunk = (uint64_t)store_rows_int(rows, 0);
            if (chunk / 8 >= size) {
                err = ERR_CORRUPT;
                break;
            }
            bitmap->data[chunk / 8] |= (uint8_t)(1U << (chunk % 8));
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_core_find_chunk(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], uint64_t index,
    struct filestore_chunk *chunk_out)
{
    struct store_rows *rows = NULL;
    struct filestore_chunk chunk;

    enum err err = store_query(tx, "SELECT md5, sha256 FROM filestore_chunks WHERE blob_id = $1 AND chunk = $2",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES), store_int((int64_t)index)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 0, chunk.md5, sizeof(chunk.md5));
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 1, chunk.sha256, sizeof(chunk.sha256));
    }
    if (err == ERR_OK) {
        *chunk_out = chunk;
    }
    store_rows_free(&rows);
    return err;
}

enum err
filestore_core_add_chunk(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES], uint64_t index,
    const struct filestore_chunk *chunk, uint32_t size)
{
    struct filestore_chunk recorded;
    int64_t changed = 0;

    // The SELECT makes it one step with the look whether the upload is still there.
    enum err err = store_exec(tx,
        "INSERT INTO filestore_chunks (blob_id, chunk, md5, sha256, size_bytes) "
        "SELECT file_id, $1, $2, $3, $4 FROM filestore_files WHERE file_id = $5 AND version IS NULL "
        "ON CONFLICT (blob_id, chunk) DO NOTHING",
        STORE_ARGS(store_int((int64_t)index), store_blob(chunk->md5, sizeof(chunk->md5)),
            store_blob(chunk->sha256, sizeof(chunk->sha256)), store_int(size), store_blob(id, FILESTORE_ID_BYTES)),
        &changed);
    if (err == ERR_OK && changed == 1) {
        // Of an upload of unknown size that is what has come so far.
        return store_exec(tx,
            "UPDATE filestore_files SET size_bytes = MAX(size_bytes, chunk_bytes * $1 + $2) "
            "WHERE file_id = $3 AND is_size_unknown = 1",
            STORE_ARGS(store_int((int64_t)index), store_int(size), store_blob(id, FILESTORE_ID_BYTES)), NULL);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = filestore_core_find_chunk(tx, id, index, &recorded);
    if (err != ERR_OK) {
        return err;
    }
    return memcmp(&recorded, chunk, sizeof(recorded)) == 0 ? ERR_OK : ERR_CONFLICT;
}

// The first chunks without a row, as they are collected from the rows in order.
struct missing {
    uint64_t named[MISSING_NAMED_MAX];
    size_t named_count;
    uint64_t count;
};

static void
missing_add_range(struct missing *missing, uint64_t from, uint64_t to)
{
    for (uint64_t index = from; index < to && missing->named_count < MISSING_NAMED_MAX; index++) {
        missing->named[missing->named_count] = index;
        missing->named_count++;
    }
    missing->count += to - from;
}

static enum err
missing_fail(const struct missing *missing, uint64_t chunk_count, struct err_detail *why)
{
    char list[MISSING_NAMED_MAX * 24] = "";
    size_t used = 0;

    for (size_t i = 0; i < missing->named_count; i++) {
        int written = snprintf(list + used, sizeof(list) - used, "%s%llu", i == 0 ? "" : ", ",
            (unsigned long long)missing->named[i]);
        used += written > 0 ? (size_t)written : 0;
    }
    return err_fail(why, ERR_PRECONDITION,
        "%llu of %llu chunks have not arrived (counted from 0: %s%s): send them first",
        (unsigned long long)missing->count, (unsigned long long)chunk_count, list,
        missing->count > missing->named_count ? " and others" : "");
}

enum err
filestore_core_check_complete(struct store_tx *tx, const struct filestore_file *file, struct err_detail *why)
{
    struct store_rows *rows = NULL;
    struct missing missing = {.count = 0};
    uint64_t chunk_count = filestore_core_chunk_count(file);
    uint64_t expected = 0;

    enum err err = store_query(tx, "SELECT chunk FROM filestore_chunks WHERE blob_id = $1 ORDER BY chunk",
        STORE_ARGS(store_blob(file->blob_id, FILESTORE_ID_BYTES)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            uint64_t chunk = (uint64_t)store_rows_int(rows, 0);
            if (chunk >= chunk_count) {
                err = err_fail(why, ERR_PRECONDITION,
                    "chunk %llu has arrived, which is beyond the size of %llu bytes: cancel the upload and begin again",
                    (unsigned long long)chunk, (unsigned long long)file->size_bytes);
                break;
            }
            missing_add_range(&missing, expected, chunk);
            expected = chunk + 1;
        }
    }
    store_rows_free(&rows);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    missing_add_range(&missing, expected, chunk_count);
    return missing.count == 0 ? ERR_OK : missing_fail(&missing, chunk_count, why);
}

// check_sizes is for an upload whose size was not known when its chunks came: only the last may be short.
static enum err
check_sizes(struct store_tx *tx, const struct filestore_file *file, struct err_detail *why)
{
    int64_t wrong = 0;
    uint64_t chunk_count = filestore_core_chunk_count(file);
    uint64_t last_size = chunk_count == 0 ? 0 : file->size_bytes - (chunk_count - 1) * file->chunk_bytes;

    enum err err = filestore_core_query_int(tx,
        "SELECT COUNT(*) FROM filestore_chunks WHERE blob_id = $1 AND "
        "size_bytes <> CASE WHEN chunk = $2 THEN $3 ELSE $4 END",
        STORE_ARGS(store_blob(file->blob_id, FILESTORE_ID_BYTES), store_int((int64_t)chunk_count - 1),
            store_int((int64_t)last_size), store_int(file->chunk_bytes)),
        &wrong);
    if (err == ERR_OK && wrong != 0) {
        return err_fail(why, ERR_PRECONDITION,
            "the chunks that have arrived do not make a file of %llu bytes: cancel the upload and begin again",
            (unsigned long long)file->size_bytes);
    }
    return err;
}

enum err
filestore_core_settle_size(struct store_tx *tx, struct filestore_file *file, uint64_t size_bytes,
    struct err_detail *why)
{
    if (!file->is_size_unknown || file->is_committed) {
        return ERR_OK;
    }
    if (size_bytes > FILESTORE_FILE_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "size_bytes is %llu; the largest file has %llu",
            (unsigned long long)size_bytes, (unsigned long long)FILESTORE_FILE_MAX_BYTES);
    }
    file->size_bytes = size_bytes;
    enum err err = filestore_core_check_complete(tx, file, why);
    return err == ERR_OK ? check_sizes(tx, file, why) : err;
}

enum err
filestore_core_next_version(struct store_tx *tx, int64_t *version_out)
{
    enum err err = store_exec(tx, "UPDATE filestore_versions SET version = version + 1", STORE_NO_ARGS, NULL);
    if (err != ERR_OK) {
        return err;
    }
    return filestore_core_query_int(tx, "SELECT version FROM filestore_versions", STORE_NO_ARGS, version_out);
}

enum err
filestore_core_check_version(struct store_tx *tx, const struct filestore_file *file, struct err_detail *why)
{
    int64_t newest = 0;

    if (!file->has_expected_version) {
        return ERR_OK;
    }
    enum err err = filestore_core_query_int(tx,
        "SELECT COALESCE(MAX(version), 0) FROM filestore_files WHERE owner_id = $1 AND name = $2 AND "
        "version IS NOT NULL AND deleted_ms = 0 AND (expires_ms = 0 OR expires_ms > $3)",
        STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES), store_text(file->name), store_int(clock_unix_ms())),
        &newest);
    if (err == ERR_OK && (uint64_t)newest != file->expected_version) {
        return err_fail(why, ERR_CONFLICT, "the newest version of \"%s\" is %lld, not %llu: somebody else changed it",
            file->name, (long long)newest, (unsigned long long)file->expected_version);
    }
    return err;
}

// settle_content gives a complete upload its content: that which is there already, or its own.
static enum err
settle_content(struct store_tx *tx, struct filestore_file *file)
{
    struct filestore_content own = {.size_bytes = file->size_bytes, .chunk_bytes = file->chunk_bytes};
    struct filestore_content same;

    if (filestore_core_is_content_known(file)) {
        return ERR_OK;
    }
    memcpy(own.blob_id, file->blob_id, sizeof(own.blob_id));
    memcpy(own.md5, file->md5, sizeof(own.md5));
    memcpy(own.sha256, file->sha256, sizeof(own.sha256));
    enum err err = filestore_contents_find_same(tx, own.md5, own.sha256, own.size_bytes, &same);
    if (err == ERR_NOT_FOUND) {
        return filestore_contents_add(tx, &own);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (same.is_damaged) {
        err = filestore_contents_add(tx, &own);
        return err == ERR_OK ? filestore_contents_replace(tx, same.blob_id, &own) : err;
    }
    memcpy(file->blob_id, same.blob_id, sizeof(file->blob_id));
    file->chunk_bytes = same.chunk_bytes;
    err = store_exec(tx, "UPDATE filestore_files SET blob_id = $1, chunk_bytes = $2 WHERE file_id = $3",
        STORE_ARGS(store_blob(same.blob_id, FILESTORE_ID_BYTES), store_int(same.chunk_bytes),
            store_blob(file->id, FILESTORE_ID_BYTES)),
        NULL);
    return err == ERR_OK ? filestore_contents_release(tx, own.blob_id) : err;
}

// end_old_shares: whoever read a file that has expired or was deleted is not to read another one of its name.
static enum err
end_old_shares(struct store_tx *tx, const struct filestore_file *file)
{
    int64_t count = 0;

    enum err err = filestore_core_query_int(tx,
        "SELECT COUNT(*) FROM filestore_files WHERE owner_id = $1 AND name = $2 AND version IS NOT NULL AND "
        "deleted_ms = 0 AND (expires_ms = 0 OR expires_ms > $3)",
        STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES), store_text(file->name), store_int(clock_unix_ms())),
        &count);
    return err == ERR_OK && count == 0 ? filestore_access_remove_shares(tx, file->owner_id, file->name) : err;
}

enum err
filestore_core_commit(struct store_tx *tx, const struct filestore_file *upload, int64_t now_unix_ms,
    struct err_detail *why)
{
    struct filestore_file file;
    int64_t version = 0;

    enum err err = filestore_core_find_any(tx, upload->id, &file);
    if (err != ERR_OK || file.is_committed) {
        return err;
    }
    err = filestore_core_check_version(tx, &file, why);
    if (err == ERR_OK) {
        err = filestore_core_settle_size(tx, &file, upload->size_bytes, why);
    }
    memcpy(file.md5, upload->md5, sizeof(file.md5));
    memcpy(file.sha256, upload->sha256, sizeof(file.sha256));
    if (err == ERR_OK) {
        err = settle_content(tx, &file);
    }
    if (err == ERR_OK) {
        err = end_old_shares(tx, &file);
    }
    if (err == ERR_OK) {
        err = filestore_core_next_version(tx, &version);
    }
    if (err == ERR_OK) {
        err = store_exec(tx,
            "UPDATE filestore_files SET md5 = $1, sha256 = $2, created_ms = $3, version = $4, size_bytes = $5 "
            "WHERE file_id = $6",
            STORE_ARGS(store_blob(file.md5, DIGEST_MD5_BYTES), store_blob(file.sha256, DIGEST_SHA256_BYTES),
                store_int(now_unix_ms), store_int(version), store_int((int64_t)file.size_bytes),
                store_blob(file.id, FILESTORE_ID_BYTES)),
            NULL);
    }
    if (err == ERR_OK && file.has_room) {
        err = filestore_access_add_share(tx, file.owner_id, file.name, FILESTORE_SHARE_ROOM, file.room.room_id, why);
    }
    return err;
}

enum err
filestore_core_remove_upload(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES],
    const uint8_t owner_id[FILESTORE_ID_BYTES], struct err_detail *why)
{
    struct filestore_file file;

    enum err err = filestore_core_find_own(tx, id, owner_id, &file);
    if (err != ERR_OK) {
        return err;
    }
    if (file.is_committed) {
        return err_fail(why, ERR_PRECONDITION, "the upload is complete: \"%s\" is a file now and cannot be cancelled",
            file.name);
    }
    return filestore_core_purge(tx, &file);
}

enum err
filestore_core_purge(struct store_tx *tx, const struct filestore_file *file)
{
    enum err err = store_exec(tx, "DELETE FROM filestore_files WHERE file_id = $1",
        STORE_ARGS(store_blob(file->id, FILESTORE_ID_BYTES)), NULL);
    if (err == ERR_OK && file->is_committed) {
        err = end_old_shares(tx, file);
    }
    return err == ERR_OK ? filestore_contents_release(tx, file->blob_id) : err;
}

// purge_where removes the files that a query of one time and one limit finds.
static enum err
purge_where(struct store_tx *tx, const char *sql, int64_t before_unix_ms, size_t limit, size_t *count_out)
{
    struct store_rows *rows = NULL;
    struct filestore_file *files = calloc(limit, sizeof(*files));
    size_t count = 0;
    if (files == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = store_query(tx, sql, STORE_ARGS(store_int(before_unix_ms), store_int((int64_t)limit)), &rows);
    while (err == ERR_OK && count < limit) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_read_row(rows, &files[count]);
            count += err == ERR_OK;
        }
    }
    store_rows_free(&rows);
    err = err == ERR_NOT_FOUND ? ERR_OK : err;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = filestore_core_purge(tx, &files[i]);
    }
    free(files);
    *count_out += count;
    return err;
}

enum err
filestore_core_purge_due(struct store_tx *tx, const struct filestore_due *due, size_t limit, size_t *count_out)
{
    *count_out = 0;
    enum err err = purge_where(tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE version IS NULL AND created_ms < $1 LIMIT $2",
        due->uploads_before_unix_ms, limit, count_out);
    if (err == ERR_OK) {
        err = purge_where(tx,
            "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE deleted_ms > 0 AND deleted_ms <= $1 LIMIT $2",
            due->deleted_before_unix_ms, limit, count_out);
    }
    if (err == ERR_OK) {
        err = purge_where(tx,
            "SELECT " FILESTORE_COLUMNS
            " FROM filestore_files WHERE expires_ms > 0 AND expires_ms <= $1 AND version IS NOT NULL LIMIT $2",
            due->now_unix_ms, limit, count_out);
    }
    return err;
}
