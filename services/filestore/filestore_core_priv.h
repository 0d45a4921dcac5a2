// For the sources of the core only: how a row becomes a struct filestore_file.
#ifndef FILESTORE_FILESTORE_CORE_PRIV_H
#define FILESTORE_FILESTORE_CORE_PRIV_H

#include "services/filestore/filestore_core.h"

// The columns that filestore_core_read_row expects, in its order.
#define FILESTORE_COLUMNS                                                                                              \
    "file_id, owner_id, owner_name, name, room_id, size_bytes, chunk_bytes, created_ms, md5, sha256, version, "        \
    "blob_id, mime_type, modified_ms, mode, expires_ms, deleted_ms, is_size_unknown, expected_version"

enum {
    FILESTORE_COLUMN_COUNT = 19,
};

// The same of a table called f, where others stand beside it.
#define FILESTORE_F_COLUMNS                                                                                            \
    "f.file_id, f.owner_id, f.owner_name, f.name, f.room_id, f.size_bytes, f.chunk_bytes, f.created_ms, f.md5, "       \
    "f.sha256, f.version, f.blob_id, f.mime_type, f.modified_ms, f.mode, f.expires_ms, f.deleted_ms, "                 \
    "f.is_size_unknown, f.expected_version"

// filestore_core_copy_blob copies a column of exactly this size. ERR_CORRUPT if it has another.
enum err filestore_core_copy_blob(struct store_rows *rows, int column, uint8_t *out, size_t size) ERR_CHECKED;

// filestore_core_read_row reads the current row. ERR_CORRUPT: no row that this program wrote.
enum err filestore_core_read_row(struct store_rows *rows, struct filestore_file *file_out) ERR_CHECKED;

// filestore_core_query_file reads the first row of a query. ERR_NOT_FOUND: there is none.
enum err filestore_core_query_file(struct store_tx *tx, const char *sql, const struct store_value *args,
    size_t arg_count, struct filestore_file *file_out) ERR_CHECKED;

// filestore_core_query_int runs a query of one row with one number.
enum err filestore_core_query_int(struct store_tx *tx, const char *sql, const struct store_value *args,
    size_t arg_count, int64_t *value_out) ERR_CHECKED;

#endif
