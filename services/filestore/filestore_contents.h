// The contents of files, each stored once however many files have it, and what is to be removed.
//
// A content is there as long as a file or an upload names its blob. The transaction in which the last of them goes
// writes the blob down as garbage, and only what is garbage is ever removed from the disk: so no crash can leave
// behind what nobody knows of, and none can take away what somebody needs.
#ifndef FILESTORE_FILESTORE_CONTENTS_H
#define FILESTORE_FILESTORE_CONTENTS_H

#include "services/filestore/filestore_core.h"

enum {
    FILESTORE_INLINE_MAX_BYTES = 1024 * 1024, // contents up to this may be kept in the database
};

struct filestore_content {
    uint8_t blob_id[FILESTORE_ID_BYTES];
    uint64_t size_bytes;
    uint32_t chunk_bytes;
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
    bool is_damaged; // found not to be what was stored: an upload of the same takes its place
};

enum err filestore_contents_find(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES],
    struct filestore_content *out) ERR_CHECKED;

// filestore_contents_find_same finds the content with these digests and this size; a damaged one only when there is no
// other. ERR_NOT_FOUND.
enum err filestore_contents_find_same(struct store_tx *tx, const uint8_t md5[DIGEST_MD5_BYTES],
    const uint8_t sha256[DIGEST_SHA256_BYTES], uint64_t size_bytes, struct filestore_content *out) ERR_CHECKED;

// filestore_contents_after finds the next content in the order of the blobs' ids; blob_id is NULL for the first.
enum err filestore_contents_after(struct store_tx *tx, const uint8_t *blob_id,
    struct filestore_content *out) ERR_CHECKED;

enum err filestore_contents_add(struct store_tx *tx, const struct filestore_content *content) ERR_CHECKED;

// filestore_contents_add_inline keeps the bytes of a content, at most FILESTORE_INLINE_MAX_BYTES, in the database.
enum err filestore_contents_add_inline(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES],
    struct bytes_view data) ERR_CHECKED;

// filestore_contents_read_inline reads a part of them. ERR_NOT_FOUND: they are not in the database; ERR_OUT_OF_RANGE.
enum err filestore_contents_read_inline(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], uint64_t offset,
    void *out, size_t size) ERR_CHECKED;

// filestore_contents_replace gives all files of a damaged content the new one.
enum err filestore_contents_replace(struct store_tx *tx, const uint8_t old_blob_id[FILESTORE_ID_BYTES],
    const struct filestore_content *content) ERR_CHECKED;

enum err filestore_contents_mark(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES],
    bool is_damaged) ERR_CHECKED;

// filestore_contents_release is called after a file or upload has given up this blob: if it was the last one, the blob
// becomes garbage.
enum err filestore_contents_release(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES]) ERR_CHECKED;

// filestore_contents_keep takes a blob out of the garbage.
enum err filestore_contents_keep(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES],
    bool *was_garbage_out) ERR_CHECKED;

// filestore_contents_garbage appends the ids of at most `limit` blobs that are to be removed.
enum err filestore_contents_garbage(struct store_tx *tx, size_t limit, struct bytes *ids) ERR_CHECKED;

// filestore_contents_is_garbage: ERR_NOT_FOUND if it is not.
enum err filestore_contents_is_garbage(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES]) ERR_CHECKED;

#endif
