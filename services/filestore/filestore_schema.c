// The tables of the FileStore.
#include "services/filestore/filestore_core.h"

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
    // Content apart from files, so that one may serve many; who may read is said of names.
    {"ALTER TABLE filestore_files ADD COLUMN blob_id BLOB;"
     "ALTER TABLE filestore_files ADD COLUMN mime_type TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE filestore_files ADD COLUMN modified_ms BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE filestore_files ADD COLUMN mode BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE filestore_files ADD COLUMN expires_ms BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE filestore_files ADD COLUMN deleted_ms BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE filestore_files ADD COLUMN is_size_unknown BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE filestore_files ADD COLUMN expected_version BIGINT;"
     "UPDATE filestore_files SET blob_id = file_id;"
     "CREATE INDEX filestore_files_blob ON filestore_files (blob_id);"
     "CREATE INDEX filestore_files_usage ON filestore_files (owner_id, deleted_ms, expires_ms, size_bytes) "
     "  WHERE version IS NOT NULL;"
     "CREATE INDEX filestore_files_deleted ON filestore_files (deleted_ms) WHERE deleted_ms > 0;"
     "CREATE INDEX filestore_files_expiring ON filestore_files (expires_ms) WHERE expires_ms > 0;"
     "DROP INDEX filestore_files_room;"
     "ALTER TABLE filestore_chunks RENAME COLUMN file_id TO blob_id;"
     "ALTER TABLE filestore_chunks ADD COLUMN size_bytes BIGINT NOT NULL DEFAULT 0;"
     "CREATE TABLE filestore_contents ("
     "  blob_id BLOB NOT NULL PRIMARY KEY,"
     "  size_bytes BIGINT NOT NULL,"
     "  chunk_bytes BIGINT NOT NULL,"
     "  md5 BLOB NOT NULL,"
     "  sha256 BLOB NOT NULL,"
     "  is_damaged BIGINT NOT NULL DEFAULT 0);"
     "CREATE INDEX filestore_contents_digest ON filestore_contents (sha256, size_bytes);"
     "INSERT INTO filestore_contents (blob_id, size_bytes, chunk_bytes, md5, sha256) "
     "  SELECT file_id, size_bytes, chunk_bytes, md5, sha256 FROM filestore_files WHERE version IS NOT NULL;"
     "CREATE TABLE filestore_inline (blob_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL);"
     "CREATE TABLE filestore_garbage (blob_id BLOB NOT NULL PRIMARY KEY);"
     "CREATE TABLE filestore_shares ("
     "  owner_id BLOB NOT NULL,"
     "  name TEXT NOT NULL,"
     "  kind BIGINT NOT NULL," // enum filestore_share_kind
     "  subject_id BLOB NOT NULL,"
     "  PRIMARY KEY (owner_id, name, kind, subject_id));"
     "CREATE INDEX filestore_shares_subject ON filestore_shares (kind, subject_id, name, owner_id);"
     "INSERT INTO filestore_shares (owner_id, name, kind, subject_id) SELECT DISTINCT owner_id, name, 1, room_id "
     "  FROM filestore_files WHERE version IS NOT NULL AND room_id IS NOT NULL;"
     "CREATE TABLE filestore_versions (version BIGINT NOT NULL);"
     "INSERT INTO filestore_versions (version) SELECT COALESCE(MAX(version), 0) FROM filestore_files;"},
    // Another machine goes on with an upload by the request that planned it.
    {"ALTER TABLE filestore_files ADD COLUMN request_id BLOB;"},
};

enum err
filestore_core_migrate(struct store *store, struct err_detail *why)
{
    return store_migrate(store, "filestore", migrations, sizeof(migrations) / sizeof(migrations[0]), why);
}
