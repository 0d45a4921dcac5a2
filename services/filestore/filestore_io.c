// Contents, wherever they are: as an object, as an upload that still has to become one, or in the database.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "services/filestore/filestore_service_priv.h"

enum {
    VERIFY_STEP_BYTES = 256 * 1024, // stays in the processor's cache from one digest to the other
};

enum err
filestore_check_metadata(const char *name, const char *mime_type, uint32_t mode, struct err_detail *why)
{
    enum err err = text_check_file_name(name, why);
    if (err != ERR_OK) {
        return err;
    }
    bool is_plain = strlen(mime_type) < FILESTORE_MIME_TYPE_BYTES;
    for (const char *c = mime_type; is_plain && *c != '\0'; c++) {
        is_plain = *c >= ' ' && *c <= '~';
    }
    if (!is_plain) {
        return err_fail(why, ERR_INVALID, "the MIME type of \"%s\" is not one: at most %d printable ASCII characters",
            name, FILESTORE_MIME_TYPE_BYTES - 1);
    }
    if (mode > FILESTORE_MODE_MAX) {
        return err_fail(why, ERR_INVALID, "the mode of \"%s\" is %#o; permissions are up to %#o", name, mode,
            (unsigned)FILESTORE_MODE_MAX);
    }
    return ERR_OK;
}

struct inline_read {
    const uint8_t *blob_id;
    uint64_t offset;
    void *out;
    size_t size;
};

static enum err
inline_run(struct store_tx *tx, void *context)
{
    struct inline_read *read = context;
    return filestore_contents_read_inline(tx, read->blob_id, read->offset, read->out, read->size);
}

enum err
filestore_read_content(struct filestore_service *filestore, const uint8_t blob_id[FILESTORE_ID_BYTES],
    uint64_t size_bytes, uint64_t offset, void *out, size_t size)
{
    enum err err = ERR_NOT_FOUND;

    if (size_bytes <= FILESTORE_INLINE_MAX_BYTES) {
        struct inline_read read = {.blob_id = blob_id, .offset = offset, .out = out, .size = size};
        err = store_read(filestore->store, inline_run, &read);
    }
    if (err == ERR_NOT_FOUND) {
        err = blob_read(filestore->blobs, blob_id, offset, out, size);
    }
    if (err == ERR_NOT_FOUND) {
        err = blob_upload_finish(filestore->blobs, blob_id);
        if (err == ERR_OK) {
            err = blob_read(filestore->blobs, blob_id, offset, out, size);
        }
    }
    return err;
}

enum err
filestore_verify_content(struct filestore_service *filestore, const struct filestore_content *content)
{
    struct digest *md5 = NULL;
    struct digest *sha256 = NULL;
    uint8_t found_md5[DIGEST_MD5_BYTES];
    uint8_t found_sha256[DIGEST_SHA256_BYTES];
    uint8_t *step = malloc(VERIFY_STEP_BYTES);
    enum err err = step == NULL ? ERR_NO_MEMORY : digest_new(DIGEST_MD5, &md5);

    if (err == ERR_OK) {
        err = digest_new(DIGEST_SHA256, &sha256);
    }
    for (uint64_t offset = 0; err == ERR_OK && offset < content->size_bytes;) {
        uint64_t left = content->size_bytes - offset;
        size_t size = left < VERIFY_STEP_BYTES ? (size_t)left : VERIFY_STEP_BYTES;
        err = filestore_read_content(filestore, content->blob_id, content->size_bytes, offset, step, size);
        if (err == ERR_NOT_FOUND || err == ERR_OUT_OF_RANGE || err == ERR_IO) {
            err = ERR_CORRUPT;
        }
        if (err == ERR_OK) {
            err = digest_update(md5, bytes_view_of(step, size));
        }
        if (err == ERR_OK) {
            err = digest_update(sha256, bytes_view_of(step, size));
        }
        offset += size;
    }
    if (err == ERR_OK) {
        err = digest_final(md5, found_md5);
    }
    if (err == ERR_OK) {
        err = digest_final(sha256, found_sha256);
    }
    if (err == ERR_OK && (memcmp(found_md5, content->md5, sizeof(found_md5)) != 0 ||
                             memcmp(found_sha256, content->sha256, sizeof(found_sha256)) != 0)) {
        err = ERR_CORRUPT;
    }
    digest_free(&sha256);
    digest_free(&md5);
    free(step);
    return err;
}

struct damage_job {
    struct store_job job; // first
    const uint8_t *blob_id;
};

static enum err
damage_run(struct store_tx *tx, struct store_job *job)
{
    return filestore_contents_mark(tx, ((struct damage_job *)job)->blob_id, true);
}

void
filestore_note_damage(struct filestore_service *filestore, const uint8_t blob_id[FILESTORE_ID_BYTES])
{
    struct damage_job job = {.job = {.run = damage_run}, .blob_id = blob_id};

    enum err err = store_write_wait(filestore->store, &job.job);
    if (err != ERR_OK) {
        log_error("FILE-DAMAGE-LOST", NULL, "the damage could not be noted: %s", err_sentence(err));
    }
}
