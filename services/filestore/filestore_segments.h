// Files for the swarm: by their ids, for servers of segments that have checked a grant, and for the tracker. All but
// filestore_segments_run may read the disk or the database, and block for that.
#ifndef FILESTORE_FILESTORE_SEGMENTS_H
#define FILESTORE_FILESTORE_SEGMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/err.h"
#include "base/work_pool.h"
#include "services/filestore/filestore_service.h"

// filestore_segments_run runs work on the threads that read chunks.
void filestore_segments_run(struct filestore_service *filestore, struct work *work);

// filestore_segments_count says how many segments a file has that is there: for a user who may read it, or (NULL)
// whoever asks. ERR_NOT_FOUND.
enum err filestore_segments_count(struct filestore_service *filestore, const uint8_t *user_id,
    const uint8_t file_id[FILESTORE_ID_BYTES], uint64_t *count_out) ERR_CHECKED;

// filestore_segments_read reads a segment of `size` bytes, as a grant said. Nothing is verified: who reads it does
// that. ERR_NOT_FOUND; ERR_OUT_OF_RANGE: it has another size; ERR_CORRUPT: it is not there any more.
enum err filestore_segments_read(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES],
    uint64_t index, uint8_t *out, uint32_t size) ERR_CHECKED;

// filestore_segments_digests appends the SHA-256 of segments from `first` on, FILESTORE_DIGESTS_MAX at most.
enum err filestore_segments_digests(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES],
    uint64_t first, struct bytes *sha256s) ERR_CHECKED;

// filestore_segments_check reads a segment that somebody calls damaged, and notes it if it is. A second report of it
// finds that out again.
void filestore_segments_check(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES],
    uint64_t index);

// filestore_segments_key is the public key of its grants. ERR_UNIMPLEMENTED: it gives none.
enum err filestore_segments_key(const struct filestore_service *filestore,
    uint8_t key_out[CRYPTO_KEY_BYTES]) ERR_CHECKED;

// filestore_segments_prove makes a grant of a file for nobody, with which the tracker looks at a segment elsewhere, and
// says what digest that has. ERR_NOT_FOUND; ERR_OUT_OF_RANGE.
struct filestore_proof {
    struct bytes grant; // the caller frees it
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
};
enum err filestore_segments_prove(struct filestore_service *filestore, const uint8_t file_id[FILESTORE_ID_BYTES],
    uint64_t index, struct filestore_proof *out) ERR_CHECKED;

#endif
