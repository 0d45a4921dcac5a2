// Rows of files, and what the owner of a name does to it.
#include "services/filestore/filestore_names.h"

#include <string.h>

#include "base/clock.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_core_priv.h"

enum err
filestore_core_copy_blob(struct store_rows *rows, int column, uint8_t *out, size_t size)
{
    struct bytes_view blob = store_rows_blob(rows, column);

    if (blob.size != size) {
        return ERR_CORRUPT;
    }
    memcpy(out, blob.data, size);
    return ERR_OK;
}

static enum err
copy_text(struct store_rows *rows, int column, char *out, size_t capacity)
{
    const char *text = store_rows_text(rows, column);
    size_t size = strlen(text) + 1;

    if (size > capacity) {
        return ERR_CORRUPT;
    }
    memcpy(out, text, size);
    return ERR_OK;
}

enum err
filestore_core_read_row(struct store_rows *rows, struct filestore_file *file_out)
{
    struct filestore_file *file = file_out;
    int64_t size_bytes = store_rows_int(rows, 5);
    int64_t chunk_bytes = store_rows_int(rows, 6);

    memset(file, 0, sizeof(*file));
    if (size_bytes < 0 || (uint64_t)size_bytes > FILESTORE_FILE_MAX_BYTES || chunk_bytes < FILESTORE_CHUNK_MIN_BYTES ||
        chunk_bytes > FILESTORE_CHUNK_MAX_BYTES) {
        return ERR_CORRUPT;
    }
    file->size_bytes = (uint64_t)size_bytes;
    file->chunk_bytes = (uint32_t)chunk_bytes;
    file->created_unix_ms = store_rows_int(rows, 7);
    file->has_room = !store_rows_is_null(rows, 4);
    file->has_md5 = !store_rows_is_null(rows, 8);
    file->has_sha256 = !store_rows_is_null(rows, 9);
    file->is_committed = !store_rows_is_null(rows, 10);
    file->version = (uint64_t)store_rows_int(rows, 10);
    file->modified_unix_ms = store_rows_int(rows, 13);
    file->mode = (uint32_t)store_rows_int(rows, 14) & FILESTORE_MODE_MAX;
    file->expires_unix_ms = store_rows_int(rows, 15);
    file->deleted_unix_ms = store_rows_int(rows, 16);
    file->is_size_unknown = store_rows_int(rows, 17) != 0;
    file->has_expected_version = !store_rows_is_null(rows, 18);
    file->expected_version = (uint64_t)store_rows_int(rows, 18);

    enum err err = filestore_core_copy_blob(rows, 0, file->id, sizeof(file->id));
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 1, file->owner_id, sizeof(file->owner_id));
    }
    if (err == ERR_OK) {
        err = copy_text(rows, 2, file->owner_name, sizeof(file->owner_name));
    }
    if (err == ERR_OK) {
        err = copy_text(rows, 3, file->name, sizeof(file->name));
    }
    if (err == ERR_OK && file->has_room) {
        err = filestore_core_copy_blob(rows, 4, file->room.room_id, sizeof(file->room.room_id));
    }
    if (err == ERR_OK && (file->has_md5 || file->is_committed)) {
        err = filestore_core_copy_blob(rows, 8, file->md5, sizeof(file->md5));
    }
    if (err == ERR_OK && (file->has_sha256 || file->is_committed)) {
        err = filestore_core_copy_blob(rows, 9, file->sha256, sizeof(file->sha256));
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 11, file->blob_id, sizeof(file->blob_id));
    }
    if (err == ERR_OK) {
        err = copy_text(rows, 12, file->mime_type, sizeof(file->mime_type));
    }
    return err;
}

enum err
filestore_core_query_file(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    struct filestore_file *file_out)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx, sql, args, arg_count, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = filestore_core_read_row(rows, file_out);
    }
    store_rows_free(&rows);
    return err;
}

enum err
filestore_core_digests(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], uint64_t first,
    struct bytes *md5s, struct bytes *sha256s)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx,
        "SELECT md5, sha256 FROM filestore_chunks WHERE blob_id = $1 AND chunk >= $2 ORDER BY chunk LIMIT $3",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES), store_int((int64_t)first),
            store_int(FILESTORE_DIGESTS_MAX)),
        &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = bytes_append(md5s, store_rows_blob(rows, 0));
        }
        if (err == ERR_OK) {
            err = bytes_append(sha256s, store_rows_blob(rows, 1));
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// Names.

enum err
filestore_names_rename(struct store_tx *tx, const struct filestore_file *file, const char *new_name,
    struct err_detail *why)
{
    const struct store_value owner = store_blob(file->owner_id, FILESTORE_ID_BYTES);
    int64_t taken = 0;

    if (strcmp(file->name, new_name) == 0) {
        return ERR_OK;
    }
    enum err err = filestore_core_query_int(tx,
        "SELECT COUNT(*) FROM filestore_files WHERE owner_id = $1 AND name = $2 AND version IS NOT NULL AND "
        "deleted_ms = 0 AND (expires_ms = 0 OR expires_ms > $3)",
        STORE_ARGS(owner, store_text(new_name), store_int(clock_unix_ms())), &taken);
    if (err == ERR_OK && taken != 0) {
        return err_fail(why, ERR_EXISTS, "there is a file \"%s\" already: delete or rename it first", new_name);
    }
    if (err == ERR_OK) {
        err = store_exec(tx,
            "UPDATE filestore_files SET name = $1 "
            "WHERE owner_id = $2 AND name = $3 AND version IS NOT NULL AND deleted_ms = 0",
            STORE_ARGS(store_text(new_name), owner, store_text(file->name)), NULL);
    }
    return err == ERR_OK ? filestore_access_rename_shares(tx, file->owner_id, file->name, new_name) : err;
}

enum err
filestore_names_delete(struct store_tx *tx, const struct filestore_file *file, uint64_t version, int64_t now_unix_ms,
    size_t *count_out, struct err_detail *why)
{
    const struct store_value owner = store_blob(file->owner_id, FILESTORE_ID_BYTES);
    int64_t changed = 0;
    int64_t left = 0;

    enum err err = store_exec(tx,
        "UPDATE filestore_files SET deleted_ms = $1 WHERE owner_id = $2 AND name = $3 AND version IS NOT NULL AND "
        "deleted_ms = 0 AND ($4 = 0 OR version = $4)",
        STORE_ARGS(store_int(now_unix_ms), owner, store_text(file->name), store_int((int64_t)version)), &changed);
    if (err == ERR_OK && changed == 0) {
        return err_fail(why, ERR_NOT_FOUND, "\"%s\" has no version %llu", file->name, (unsigned long long)version);
    }
    *count_out = (size_t)changed;
    // Whoever read the old file is not to read another one that gets its name later.
    if (err == ERR_OK) {
        err = filestore_core_query_int(tx,
            "SELECT COUNT(*) FROM filestore_files WHERE owner_id = $1 AND name = $2 AND version IS NOT NULL AND "
            "deleted_ms = 0",
            STORE_ARGS(owner, store_text(file->name)), &left);
    }
    if (err == ERR_OK && left == 0) {
        err = filestore_access_remove_shares(tx, file->owner_id, file->name);
    }
    return err;
}

enum err
filestore_names_find_deleted(struct store_tx *tx, const char *text, const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_file *file_out)
{
    uint8_t id[FILESTORE_ID_BYTES];
    enum err err = ERR_NOT_FOUND;

    if (bytes_from_hex(text, id, sizeof(id)) == ERR_OK) {
        err = filestore_core_query_file(tx,
            "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE file_id = $1 AND owner_id = $2 AND "
            "deleted_ms > 0",
            STORE_ARGS(store_blob(id, sizeof(id)), store_blob(user_id, FILESTORE_ID_BYTES)), file_out);
    }
    if (err == ERR_NOT_FOUND) {
        err = filestore_core_query_file(tx,
            "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE owner_id = $1 AND name = $2 AND "
            "deleted_ms > 0 ORDER BY deleted_ms DESC, version DESC LIMIT 1",
            STORE_ARGS(store_blob(user_id, FILESTORE_ID_BYTES), store_text(text)), file_out);
    }
    return err;
}

enum err
filestore_names_restore(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES])
{
    return store_exec(tx, "UPDATE filestore_files SET deleted_ms = 0 WHERE file_id = $1",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES)), NULL);
}

// How much is stored.

static enum err
query_usage(struct store_tx *tx, const char *sql, const uint8_t whose[FILESTORE_ID_BYTES], struct filestore_usage *out)
{
    struct store_rows *rows = NULL;

    enum err err =
        store_query(tx, sql, STORE_ARGS(store_blob(whose, FILESTORE_ID_BYTES), store_int(clock_unix_ms())), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *out = (struct filestore_usage){.used_bytes = (uint64_t)store_rows_int(rows, 0),
            .file_count = (uint64_t)store_rows_int(rows, 1)};
    }
    store_rows_free(&rows);
    return err;
}

enum err
filestore_names_user_usage(struct store_tx *tx, const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_usage *out)
{
    int64_t open_bytes = 0;

    enum err err = query_usage(tx,
        "SELECT COALESCE(SUM(size_bytes), 0), COUNT(*) FROM filestore_files WHERE owner_id = $1 AND "
        "version IS NOT NULL AND deleted_ms = 0 AND (expires_ms = 0 OR expires_ms > $2)",
        user_id, out);
    if (err == ERR_OK) {
        err = filestore_core_query_int(tx,
            "SELECT COALESCE(SUM(size_bytes), 0) FROM filestore_files WHERE owner_id = $1 AND version IS NULL",
            STORE_ARGS(store_blob(user_id, FILESTORE_ID_BYTES)), &open_bytes);
        out->open_bytes = (uint64_t)open_bytes;
    }
    return err;
}

enum err
filestore_names_room_usage(struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES], struct filestore_usage *out)
{
    return query_usage(tx,
        "SELECT COALESCE(SUM(f.size_bytes), 0), COUNT(*) FROM filestore_shares s JOIN filestore_files f "
        "ON f.owner_id = s.owner_id AND f.name = s.name WHERE s.subject_id = $1 AND s.kind = 1 AND "
        "f.version IS NOT NULL AND f.deleted_ms = 0 AND (f.expires_ms = 0 OR f.expires_ms > $2)",
        room_id, out);
}

enum err
filestore_names_size_of_new_share(struct store_tx *tx, const struct filestore_file *file,
    const uint8_t room_id[FILESTORE_ID_BYTES], int64_t *bytes_out)
{
    return filestore_core_query_int(tx,
        "SELECT COALESCE(SUM(size_bytes), 0) FROM filestore_files WHERE owner_id = $1 AND name = $2 AND "
        "version IS NOT NULL AND deleted_ms = 0 AND NOT EXISTS (SELECT 1 FROM filestore_shares s WHERE "
        "s.owner_id = $1 AND s.name = $2 AND s.kind = 1 AND s.subject_id = $3)",
        STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES), store_text(file->name),
            store_blob(room_id, FILESTORE_ID_BYTES)),
        bytes_out);
}

enum err
filestore_names_check_quota(struct store_tx *tx, const struct filestore_quotas *quotas,
    const uint8_t user_id[FILESTORE_ID_BYTES], const uint8_t *room_id, uint64_t more_bytes, bool counts_open,
    struct err_detail *why)
{
    struct filestore_usage usage = {0};
    enum err err = ERR_OK;

    if (quotas->user_bytes != 0) {
        err = filestore_names_user_usage(tx, user_id, &usage);
        uint64_t open_bytes = counts_open ? usage.open_bytes : 0;
        if (err == ERR_OK && usage.used_bytes + open_bytes + more_bytes > quotas->user_bytes) {
            return err_fail(why, ERR_LIMIT,
                "%llu bytes more do not fit: you may store %llu and store %llu, and %llu in unfinished uploads; "
                "delete some files, or ask the server's operator for a larger quota",
                (unsigned long long)more_bytes, (unsigned long long)quotas->user_bytes,
                (unsigned long long)usage.used_bytes, (unsigned long long)open_bytes);
        }
    }
    if (err == ERR_OK && room_id != NULL && quotas->room_bytes != 0) {
        err = filestore_names_room_usage(tx, room_id, &usage);
        if (err == ERR_OK && usage.used_bytes + more_bytes > quotas->room_bytes) {
            return err_fail(why, ERR_LIMIT,
                "%llu bytes more do not fit: files of %llu bytes may be shared with a room, and this one has %llu",
                (unsigned long long)more_bytes, (unsigned long long)quotas->room_bytes,
                (unsigned long long)usage.used_bytes);
        }
    }
    return err;
}

static uint64_t
left_of(uint64_t quota, uint64_t used)
{
    return used < quota ? quota - used : 0;
}

enum err
filestore_names_quota_left(struct store_tx *tx, const struct filestore_quotas *quotas,
    const uint8_t user_id[FILESTORE_ID_BYTES], const uint8_t *room_id, uint64_t *left_out)
{
    struct filestore_usage usage = {0};
    enum err err = ERR_OK;

    *left_out = UINT64_MAX;
    if (quotas->user_bytes != 0) {
        err = filestore_names_user_usage(tx, user_id, &usage);
        *left_out = left_of(quotas->user_bytes, usage.used_bytes + usage.open_bytes);
    }
    if (err == ERR_OK && room_id != NULL && quotas->room_bytes != 0) {
        err = filestore_names_room_usage(tx, room_id, &usage);
        uint64_t left = left_of(quotas->room_bytes, usage.used_bytes);
        *left_out = left < *left_out ? left : *left_out;
    }
    return err;
}

// yield_one lets go of the file that was deleted first. ERR_NOT_FOUND: there is none.
static enum err
yield_one(struct store_tx *tx, const uint8_t user_id[FILESTORE_ID_BYTES])
{
    struct filestore_file file;

    enum err err = filestore_core_query_file(tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE owner_id = $1 AND deleted_ms > 0 AND "
        "version IS NOT NULL ORDER BY deleted_ms, version LIMIT 1",
        STORE_ARGS(store_blob(user_id, FILESTORE_ID_BYTES)), &file);
    return err == ERR_OK ? filestore_core_purge(tx, &file) : err;
}

enum err
filestore_names_yield_deleted(struct store_tx *tx, const struct filestore_quotas *quotas,
    const uint8_t user_id[FILESTORE_ID_BYTES])
{
    struct filestore_usage usage = {0};
    int64_t deleted_bytes = 0;
    enum err err = ERR_OK;

    if (quotas->user_bytes == 0) {
        return ERR_OK;
    }
    do {
        err = filestore_names_user_usage(tx, user_id, &usage);
        if (err == ERR_OK) {
            err = filestore_core_query_int(tx,
                "SELECT COALESCE(SUM(size_bytes), 0) FROM filestore_files WHERE owner_id = $1 AND deleted_ms > 0 AND "
                "version IS NOT NULL",
                STORE_ARGS(store_blob(user_id, FILESTORE_ID_BYTES)), &deleted_bytes);
        }
        if (err == ERR_OK && deleted_bytes == 0) {
            return ERR_OK;
        }
        if (err == ERR_OK && usage.used_bytes + (uint64_t)deleted_bytes <= quotas->user_bytes) {
            return ERR_OK;
        }
        err = err == ERR_OK ? yield_one(tx, user_id) : err;
    } while (err == ERR_OK);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
