#include "services/filestore/filestore_contents.h"

#include <string.h>

#include "services/filestore/filestore_core_priv.h"

#define CONTENT_COLUMNS "blob_id, size_bytes, chunk_bytes, md5, sha256, is_damaged"

static enum err
query_content(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    struct filestore_content *out)
{
    struct store_rows *rows = NULL;
    struct filestore_content content = {.size_bytes = 0};

    enum err err = store_query(tx, sql, args, arg_count, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        content.size_bytes = (uint64_t)store_rows_int(rows, 1);
        content.chunk_bytes = (uint32_t)store_rows_int(rows, 2);
        content.is_damaged = store_rows_int(rows, 5) != 0;
        err = filestore_core_copy_blob(rows, 0, content.blob_id, sizeof(content.blob_id));
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 3, content.md5, sizeof(content.md5));
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 4, content.sha256, sizeof(content.sha256));
    }
    store_rows_free(&rows);
    if (err == ERR_OK &&
        (content.size_bytes > FILESTORE_FILE_MAX_BYTES || content.chunk_bytes < FILESTORE_CHUNK_MIN_BYTES ||
            content.chunk_bytes > FILESTORE_CHUNK_MAX_BYTES)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        *out = content;
    }
    return err;
}

enum err
filestore_contents_find(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], struct filestore_content *out)
{
    return query_content(tx, "SELECT " CONTENT_COLUMNS " FROM filestore_contents WHERE blob_id = $1",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES)), out);
}

enum err
filestore_contents_find_same(struct store_tx *tx, const uint8_t md5[DIGEST_MD5_BYTES],
    const uint8_t sha256[DIGEST_SHA256_BYTES], uint64_t size_bytes, struct filestore_content *out)
{
    return query_content(tx,
        "SELECT " CONTENT_COLUMNS " FROM filestore_contents WHERE sha256 = $1 AND size_bytes = $2 AND md5 = $3 "
        "ORDER BY is_damaged LIMIT 1",
        STORE_ARGS(store_blob(sha256, DIGEST_SHA256_BYTES), store_int((int64_t)size_bytes),
            store_blob(md5, DIGEST_MD5_BYTES)),
        out);
}

enum err
filestore_contents_after(struct store_tx *tx, const uint8_t *blob_id, struct filestore_content *out)
{
    return query_content(tx,
        "SELECT " CONTENT_COLUMNS " FROM filestore_contents WHERE blob_id > $1 ORDER BY blob_id LIMIT 1",
        STORE_ARGS(store_blob(blob_id, blob_id != NULL ? FILESTORE_ID_BYTES : 0)), out);
}

enum err
filestore_contents_add(struct store_tx *tx, const struct filestore_content *content)
{
    return store_exec(tx,
        "INSERT INTO filestore_contents (blob_id, size_bytes, chunk_bytes, md5, sha256) VALUES ($1, $2, $3, $4, $5)",
        STORE_ARGS(store_blob(content->blob_id, FILESTORE_ID_BYTES), store_int((int64_t)content->size_bytes),
            store_int(content->chunk_bytes), store_blob(content->md5, DIGEST_MD5_BYTES),
            store_blob(content->sha256, DIGEST_SHA256_BYTES)),
        NULL);
}

enum err
filestore_contents_add_inline(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], struct bytes_view data)
{
    return store_exec(tx, "INSERT INTO filestore_inline (blob_id, data) VALUES ($1, $2)",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES), store_blob(data.data, data.size)), NULL);
}

enum err
filestore_contents_read_inline(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], uint64_t offset,
    void *out, size_t size)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx, "SELECT data FROM filestore_inline WHERE blob_id = $1",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        struct bytes_view data = store_rows_blob(rows, 0);
        if (offset > data.size || size > data.size - offset) {
            err = ERR_OUT_OF_RANGE;
        } else if (size != 0) {
            memcpy(out, data.data + offset, size);
        }
    }
    store_rows_free(&rows);
    return err;
}

enum err
filestore_contents_replace(struct store_tx *tx, const uint8_t old_blob_id[FILESTORE_ID_BYTES],
    const struct filestore_content *content)
{
    enum err err = store_exec(tx, "UPDATE filestore_files SET blob_id = $1, chunk_bytes = $2 WHERE blob_id = $3",
        STORE_ARGS(store_blob(content->blob_id, FILESTORE_ID_BYTES), store_int(content->chunk_bytes),
            store_blob(old_blob_id, FILESTORE_ID_BYTES)),
        NULL);
    return err == ERR_OK ? filestore_contents_release(tx, old_blob_id) : err;
}

enum err
filestore_contents_mark(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], bool is_damaged)
{
    return store_exec(tx, "UPDATE filestore_contents SET is_damaged = $1 WHERE blob_id = $2",
        STORE_ARGS(store_int(is_damaged), store_blob(blob_id, FILESTORE_ID_BYTES)), NULL);
}

enum err
filestore_contents_release(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES])
{
    const struct store_value id = store_blob(blob_id, FILESTORE_ID_BYTES);
    int64_t users = 0;
    int64_t inline_count = 0;

    enum err err = filestore_core_query_int(tx, "SELECT EXISTS (SELECT 1 FROM filestore_files WHERE blob_id = $1)",
        STORE_ARGS(id), &users);
    if (err != ERR_OK || users != 0) {
        return err;
    }
    err = store_exec(tx, "DELETE FROM filestore_contents WHERE blob_id = $1", STORE_ARGS(id), NULL);
    if (err == ERR_OK) {
        err = store_exec(tx, "DELETE FROM filestore_chunks WHERE blob_id = $1", STORE_ARGS(id), NULL);
    }
    if (err == ERR_OK) {
        err = store_exec(tx, "DELETE FROM filestore_inline WHERE blob_id = $1", STORE_ARGS(id), &inline_count);
    }
    if (err == ERR_OK && inline_count == 0) {
        err = store_exec(tx, "INSERT INTO filestore_garbage (blob_id) VALUES ($1) ON CONFLICT DO NOTHING",
            STORE_ARGS(id), NULL);
    }
    return err;
}

enum err
filestore_contents_keep(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], bool *was_garbage_out)
{
    int64_t changed = 0;

    enum err err = store_exec(tx, "DELETE FROM filestore_garbage WHERE blob_id = $1",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES)), &changed);
    *was_garbage_out = changed != 0;
    return err;
}

enum err
filestore_contents_garbage(struct store_tx *tx, size_t limit, struct bytes *ids)
{
    struct store_rows *rows = NULL;
    uint8_t id[FILESTORE_ID_BYTES];

    enum err err =
        store_query(tx, "SELECT blob_id FROM filestore_garbage LIMIT $1", STORE_ARGS(store_int((int64_t)limit)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_copy_blob(rows, 0, id, sizeof(id));
        }
        if (err == ERR_OK) {
            err = bytes_append(ids, bytes_view_of(id, sizeof(id)));
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_contents_is_garbage(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES])
{
    int64_t count = 0;

    enum err err = filestore_core_query_int(tx, "SELECT COUNT(*) FROM filestore_garbage WHERE blob_id = $1",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES)), &count);
    return err == ERR_OK && count == 0 ? ERR_NOT_FOUND : err;
}
