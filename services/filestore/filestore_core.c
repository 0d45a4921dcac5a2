// Uploads and their chunks. What is committed, and who may read it, is in filestore_names.c.
//
// One row is an upload while its version is NULL and a file afterwards, under the same id; so there is no moment in
// which it is both or neither. A chunk's row says that its bytes are on disk and never changes once it is there.
#include "services/filestore/filestore_core.h"

#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "services/filestore/filestore_core_priv.h"

static const struct store_migration migrations[] = {
    {"CREATE TABLE filestore_files ("
     "  file_id BLOB NOT NULL PRIMARY KEY,"
     "  owner_id BLOB NOT NULL,"
     "  owner_name TEXT NOT NULL,"
     "  name TEXT NOT NULL,"
     "  room_id BLOB,"
     "  size_bytes BIGINT NOT NULL,"
     "  chunk_bytes BIGINT NOT NULL,"
     "  created_ms BIGINT NOT NULL,"
     "  md5 BLOB,"
     "  sha256 BLOB,"
     "  version BIGINT UNIQUE);" // NULL: still an upload
     "CREATE INDEX filestore_files_own ON filestore_files (owner_id, name, version);"
     "CREATE INDEX filestore_files_room ON filestore_files (room_id, name, version) WHERE room_id IS NOT NULL;"
     "CREATE INDEX filestore_files_open ON filestore_files (owner_id, created_ms) WHERE version IS NULL;"
     "CREATE TABLE filestore_chunks ("
     "  file_id BLOB NOT NULL,"
     "  chunk BIGINT NOT NULL,"
     "  md5 BLOB NOT NULL,"
     "  sha256 BLOB NOT NULL,"
     "  PRIMARY KEY (file_id, chunk));"},
};

enum {
    MISSING_NAMED_MAX = 8, // chunks that the message about missing ones names
};

enum err
filestore_core_migrate(struct store *store, struct err_detail *why)
{
    return store_migrate(store, "filestore", migrations, sizeof(migrations) / sizeof(migrations[0]), why);
}

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

// query_int runs a query of one row with one number.
static enum err
query_int(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count, int64_t *value_out)
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

enum err
filestore_core_add_upload(struct store_tx *tx, const struct filestore_file *file, struct err_detail *why)
{
    int64_t open_count = 0;

    enum err err = query_int(tx, "SELECT COUNT(*) FROM filestore_files WHERE owner_id = $1 AND version IS NULL",
        STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES)), &open_count);
    if (err != ERR_OK) {
        return err;
    }
    if (open_count >= FILESTORE_UPLOADS_PER_USER_MAX) {
        return err_fail(why, ERR_LIMIT, "%s has %d unfinished uploads: finish or cancel some first", file->owner_name,
            FILESTORE_UPLOADS_PER_USER_MAX);
    }
    return store_exec(tx,
        "INSERT INTO filestore_files (file_id, owner_id, owner_name, name, room_id, size_bytes, chunk_bytes, "
        "created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        STORE_ARGS(store_blob(file->id, FILESTORE_ID_BYTES), store_blob(file->owner_id, FILESTORE_ID_BYTES),
            store_text(file->owner_name), store_text(file->name),
            file->has_room ? store_blob(file->room.room_id, FILESTORE_ID_BYTES) : store_null(),
            store_int((int64_t)file->size_bytes), store_int(file->chunk_bytes), store_int(file->created_unix_ms)),
        NULL);
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
    err = store_query(tx, "SELECT chunk FROM filestore_chunks WHERE file_id = $1 AND chunk < $2",
        STORE_ARGS(store_blob(file->id, FILESTORE_ID_BYTES), store_int((int64_t)size * 8)), &rows);
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
filestore_core_find_chunk(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES], uint64_t index,
    struct filestore_chunk *chunk_out)
{
    struct store_rows *rows = NULL;
    struct filestore_chunk chunk;

    enum err err = store_query(tx, "SELECT md5, sha256 FROM filestore_chunks WHERE file_id = $1 AND chunk = $2",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES), store_int((int64_t)index)), &rows);
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
    const struct filestore_chunk *chunk)
{
    struct filestore_chunk recorded;
    int64_t changed = 0;

    // The SELECT makes it one step with the look whether the upload is still there.
    enum err err = store_exec(tx,
        "INSERT INTO filestore_chunks (file_id, chunk, md5, sha256) "
        "SELECT file_id, $1, $2, $3 FROM filestore_files WHERE file_id = $4 AND version IS NULL "
        "ON CONFLICT (file_id, chunk) DO NOTHING",
        STORE_ARGS(store_int((int64_t)index), store_blob(chunk->md5, sizeof(chunk->md5)),
            store_blob(chunk->sha256, sizeof(chunk->sha256)), store_blob(id, FILESTORE_ID_BYTES)),
        &changed);
    if (err != ERR_OK || changed == 1) {
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

    enum err err = store_query(tx, "SELECT chunk FROM filestore_chunks WHERE file_id = $1 ORDER BY chunk",
        STORE_ARGS(store_blob(file->id, FILESTORE_ID_BYTES)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            uint64_t chunk = (uint64_t)store_rows_int(rows, 0);
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

enum err
filestore_core_commit(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES], const uint8_t md5[DIGEST_MD5_BYTES],
    const uint8_t sha256[DIGEST_SHA256_BYTES], int64_t now_unix_ms)
{
    struct filestore_file file;
    int64_t newest = 0;

    enum err err = filestore_core_find_any(tx, id, &file);
    if (err != ERR_OK || file.is_committed) {
        return err;
    }
    err = query_int(tx, "SELECT COALESCE(MAX(version), 0) FROM filestore_files", STORE_NO_ARGS, &newest);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx,
        "UPDATE filestore_files SET md5 = $1, sha256 = $2, created_ms = $3, version = $4 WHERE file_id = $5",
        STORE_ARGS(store_blob(md5, DIGEST_MD5_BYTES), store_blob(sha256, DIGEST_SHA256_BYTES), store_int(now_unix_ms),
            store_int(newest + 1), store_blob(id, FILESTORE_ID_BYTES)),
        NULL);
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
    err = store_exec(tx, "DELETE FROM filestore_chunks WHERE file_id = $1",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES)), NULL);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx, "DELETE FROM filestore_files WHERE file_id = $1",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES)), NULL);
}

enum err
filestore_core_remove_older_uploads(struct store_tx *tx, int64_t before_unix_ms)
{
    enum err err = store_exec(tx,
        "DELETE FROM filestore_chunks WHERE file_id IN "
        "(SELECT file_id FROM filestore_files WHERE version IS NULL AND created_ms < $1)",
        STORE_ARGS(store_int(before_unix_ms)), NULL);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx, "DELETE FROM filestore_files WHERE version IS NULL AND created_ms < $1",
        STORE_ARGS(store_int(before_unix_ms)), NULL);
}
