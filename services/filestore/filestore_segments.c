#include "services/filestore/filestore_segments.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "e2e/e2e_grant.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_service_priv.h"

void
filestore_segments_run(struct filestore_service *filestore, struct work *work)
{
    work_pool_submit(filestore->chunk_pool, work);
}

struct lookup {
    struct filestore_service *filestore;
    const uint8_t *user_id; // NULL: anybody
    const uint8_t *file_id;
    struct filestore_file file;
    // What else is wanted, if anything.
    uint64_t index;
    struct filestore_chunk *chunk_out;
    struct bytes *sha256s_out;
    uint8_t *root_out;
};

static enum err
find_file(struct store_tx *tx, struct lookup *lookup)
{
    if (lookup->user_id != NULL) {
        return filestore_access_find_id(tx, &lookup->filestore->rooms, lookup->file_id, lookup->user_id, &lookup->file);
    }
    enum err err = filestore_core_find_any(tx, lookup->file_id, &lookup->file);
    return err == ERR_OK && !filestore_access_is_there(&lookup->file) ? ERR_NOT_FOUND : err;
}

static enum err
look(struct store_tx *tx, void *context)
{
    struct lookup *lookup = context;
    struct bytes md5s = {0};
    enum err err = find_file(tx, lookup);
    if (err == ERR_OK && lookup->chunk_out != NULL) {
        err = filestore_core_find_chunk(tx, lookup->file.blob_id, lookup->index, lookup->chunk_out);
        err = err == ERR_NOT_FOUND ? ERR_OUT_OF_RANGE : err;
    }
    if (err == ERR_OK && lookup->sha256s_out != NULL) {
        err = filestore_core_digests(tx, lookup->file.blob_id, lookup->index, &md5s, lookup->sha256s_out);
    }
    if (err == ERR_OK && lookup->root_out != NULL) {
        err = filestore_grants_root(tx, &lookup->file, NULL, lookup->root_out);
    }
    bytes_free(&md5s);
    return err;
}

enum err
filestore_segments_count(struct filestore_service *filestore, const uint8_t *user_id,
    const uint8_t file_id[FILESTORE_ID_BYTES], uint64_t *count_out)
{
    struct lookup lookup = {.filestore = filestore, .user_id = user_id, .file_id = file_id};
    enum err err = store_read(filestore->store, look, &lookup);
    if (err == ERR_OK) {
        *count_out = filestore_core_chunk_count(&lookup.file);
    }
    return err;
}

enum err
filestore_segments_read(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES], uint64_t index,
    uint8_t *out, uint32_t size)
{
    struct lookup lookup = {.filestore = filestore, .file_id = file_id};
    uint32_t real_size = 0;
    enum err err = store_read(filestore->store, look, &lookup);
    if (err == ERR_OK) {
        err = filestore_core_chunk_size(&lookup.file, index, &real_size);
    }
    if (err == ERR_OK && real_size != size) {
        err = ERR_OUT_OF_RANGE;
    }
    if (err != ERR_OK) {
        return err;
    }
    err = filestore_read_content(filestore, lookup.file.blob_id, lookup.file.size_bytes,
        index * lookup.file.chunk_bytes, out, size);
    return err == ERR_NOT_FOUND || err == ERR_OUT_OF_RANGE || err == ERR_IO ? ERR_CORRUPT : err;
}

enum err
filestore_segments_digests(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES],
    uint64_t first, struct bytes *sha256s)
{
    struct lookup lookup = {.filestore = filestore, .file_id = file_id, .index = first, .sha256s_out = sha256s};
    return store_read(filestore->store, look, &lookup);
}

void
filestore_segments_check(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES], uint64_t index)
{
    struct filestore_chunk chunk;
    struct lookup lookup = {.filestore = filestore, .file_id = file_id, .index = index, .chunk_out = &chunk};
    uint8_t sha256[DIGEST_SHA256_BYTES];
    uint32_t size = 0;
    enum err err = store_read(filestore->store, look, &lookup);
    if (err == ERR_OK) {
        err = filestore_core_chunk_size(&lookup.file, index, &size);
    }
    uint8_t *data = err == ERR_OK ? malloc(size) : NULL;
    if (data == NULL) {
        return;
    }
    err = filestore_segments_read(filestore, file_id, index, data, size);
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(data, size), sha256);
    }
    if (err == ERR_CORRUPT || (err == ERR_OK && memcmp(sha256, chunk.sha256, sizeof(sha256)) != 0)) {
        char id[2 * FILESTORE_ID_BYTES + 1];
        bytes_to_hex(bytes_view_of(lookup.file.blob_id, sizeof(lookup.file.blob_id)), id);
        log_error("FILE-DAMAGED", NULL,
            "segment %llu of file %s is not as it was stored: restore objects/%.2s/%s from a backup, or have the file "
            "uploaded again",
            (unsigned long long)index, id, id, id);
        filestore_note_damage(filestore, lookup.file.blob_id);
    }
    free(data);
}

enum err
filestore_segments_key(const struct filestore_service *filestore, uint8_t key_out[CRYPTO_KEY_BYTES])
{
    if (!filestore->has_grants) {
        return ERR_UNIMPLEMENTED;
    }
    memcpy(key_out, filestore->grant_public_key, CRYPTO_KEY_BYTES);
    return ERR_OK;
}

enum err
filestore_segments_prove(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES], uint64_t index,
    struct filestore_proof *out)
{
    struct filestore_chunk chunk;
    struct e2e_grant grant = {.expires_at_ms = clock_unix_ms() + E2E_GRANT_LIFETIME_MS};
    struct lookup lookup = {
        .filestore = filestore,
        .file_id = file_id,
        .index = index,
        .chunk_out = &chunk,
        .root_out = grant.root,
    };
    memset(out, 0, sizeof(*out));
    enum err err = store_read(filestore->store, look, &lookup);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(grant.file_id, lookup.file.id, sizeof(grant.file_id));
    grant.size_bytes = lookup.file.size_bytes;
    grant.segment_size_bytes = lookup.file.chunk_bytes;
    memcpy(out->sha256, chunk.sha256, sizeof(out->sha256));
    err = e2e_grant_sign(&grant, filestore->grant_key, &out->grant, out->signature);
    if (err != ERR_OK) {
        bytes_free(&out->grant);
    }
    return err;
}
