// The decisions of the FileStore: plans of uploads, which chunks have arrived, versions of names, who may read what.
//
// It works on the database only; content is the blob store's, the wire is filestore_service.c's. All functions with a
// store_tx run on the thread of that transaction; the others on any.
#ifndef FILESTORE_FILESTORE_CORE_H
#define FILESTORE_FILESTORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "services/store/store.h"

enum {
    FILESTORE_ID_BYTES = 16,
    FILESTORE_NAME_BYTES = 1025,     // with its NUL
    FILESTORE_OWNER_NAME_BYTES = 65, // with its NUL
    FILESTORE_MIME_TYPE_BYTES = 128, // with its NUL
    FILESTORE_MODE_MAX = 07777,
    FILESTORE_UNKNOWN_CHUNK_BYTES = 1024 * 1024, // of uploads whose size is not known
    FILESTORE_CHUNK_MIN_BYTES = 256 * 1024,
    FILESTORE_CHUNK_MAX_BYTES = 8 * 1024 * 1024,
    FILESTORE_CHUNKS_WANTED = 2048,
    FILESTORE_BITMAP_MAX_BYTES = 4 * 1024 * 1024, // of SaveResponse.arrived, so that the reply fits into a message
    FILESTORE_DIGESTS_MAX = 32768,                // segments described by one StatResponse
    FILESTORE_LIST_MAX = 1000,                    // files in one ListResponse
    FILESTORE_UPLOADS_PER_USER_MAX = 1000,        // open at once: plans cost the server rows and file names
};

#define FILESTORE_FILE_MAX_BYTES (UINT64_C(1) << 50)
#define FILESTORE_UPLOAD_LIFETIME_MS (INT64_C(7) * 24 * 3600 * 1000)

// A room, as the service that keeps rooms names it.
struct filestore_room {
    uint8_t room_id[FILESTORE_ID_BYTES];
    char name[65];
};

// What the FileStore asks the service that keeps rooms.
struct filestore_rooms {
    // The room with this name or id, for a user who is in it. ERR_NOT_FOUND, or ERR_DENIED for one who is not.
    enum err (*find_member_room)(void *context, struct store_tx *tx, const char *room,
        const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_room *room_out, struct err_detail *why);
    enum err (*is_member)(void *context, struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES],
        const uint8_t user_id[FILESTORE_ID_BYTES], bool *is_member_out);
    // Whether what the room's members share is sealed for them. NULL: of no room.
    enum err (*is_encrypted)(void *context, struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES],
        bool *is_encrypted_out);
    void *context;
};

// filestore_file is an upload or, once it is committed, the file of the same id.
struct filestore_file {
    uint8_t id[FILESTORE_ID_BYTES];
    // Where its content is: another than the id when the content was there before.
    uint8_t blob_id[FILESTORE_ID_BYTES];
    uint8_t owner_id[FILESTORE_ID_BYTES];
    char owner_name[FILESTORE_OWNER_NAME_BYTES];
    char name[FILESTORE_NAME_BYTES];
    bool has_room;
    struct filestore_room room; // name: empty when it was not asked for, or the reader is not in that room
    uint64_t size_bytes;        // of an upload of unknown size what has arrived so far
    bool is_size_unknown;
    uint32_t chunk_bytes;
    int64_t created_unix_ms; // of the upload, then of the commit
    bool is_committed;
    uint64_t version; // of a committed one
    bool has_md5;     // always of a committed one; of an upload when its sender has said it
    bool has_sha256;
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
    char mime_type[FILESTORE_MIME_TYPE_BYTES];
    int64_t modified_unix_ms; // 0: unknown
    uint32_t mode;            // 0: unknown
    int64_t expires_unix_ms;  // 0: it stays
    int64_t deleted_unix_ms;  // 0: it is there
    bool has_expected_version;
    uint64_t expected_version;    // of the name when the upload is committed
    struct bytes_view request_id; // of a new plan: what it was asked with; borrowed
};

struct filestore_chunk {
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
};

// filestore_core_migrate creates the tables.
enum err filestore_core_migrate(struct store *store, struct err_detail *why) ERR_CHECKED;

// Plans.

// filestore_core_chunk_bytes chooses the chunk size for a file: the smallest power of two that makes fewer than
// FILESTORE_CHUNKS_WANTED chunks, between the limits. A chunk is what is lost when a connection breaks, and what both
// sides hold in memory several times, so it should be small; each costs a call, a row and a share of two syncs, so
// there should not be many more than keep a transfer busy and its progress smooth.
uint32_t filestore_core_chunk_bytes(uint64_t size_bytes);

uint64_t filestore_core_chunk_count(const struct filestore_file *file);

// filestore_core_chunk_size gives the bytes of one chunk: the last one has what is left. ERR_OUT_OF_RANGE.
enum err filestore_core_chunk_size(const struct filestore_file *file, uint64_t index, uint32_t *size_out) ERR_CHECKED;

// filestore_core_upload_id derives the id from the owner and the request that plans the upload, so that the same
// request finds the same upload without a table of requests. An empty request_id gives a random id.
enum err filestore_core_upload_id(const uint8_t owner_id[FILESTORE_ID_BYTES], struct bytes_view request_id,
    uint8_t id_out[FILESTORE_ID_BYTES]) ERR_CHECKED;

// Uploads.

// filestore_core_find_own finds an upload or file by its id for its owner. ERR_NOT_FOUND also for somebody else's.
enum err filestore_core_find_own(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES],
    const uint8_t owner_id[FILESTORE_ID_BYTES], struct filestore_file *file_out) ERR_CHECKED;

// filestore_core_is_content_known: the upload's content was there before, nothing needs to be sent.
bool filestore_core_is_content_known(const struct filestore_file *file);

// filestore_core_add_upload records a plan. ERR_EXISTS: it is there already; ERR_LIMIT: too many uploads open.
// *was_garbage_out: an earlier upload of this id was to be removed, and its content file may just have been.
enum err filestore_core_add_upload(struct store_tx *tx, const struct filestore_file *file, bool *was_garbage_out,
    struct err_detail *why) ERR_CHECKED;

// filestore_core_arrived makes the bitmap of SaveResponse.arrived. What bitmap held before is dropped.
enum err filestore_core_arrived(struct store_tx *tx, const struct filestore_file *file,
    struct bytes *bitmap) ERR_CHECKED;

// filestore_core_find_chunk finds what is recorded of a chunk that has arrived. ERR_NOT_FOUND.
enum err filestore_core_find_chunk(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], uint64_t index,
    struct filestore_chunk *chunk_out) ERR_CHECKED;

// filestore_core_add_chunk records that a chunk is on disk. Twice with the same digests is no error; with others it is
// ERR_CONFLICT. ERR_NOT_FOUND: the upload was cancelled meanwhile.
enum err filestore_core_add_chunk(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES], uint64_t index,
    const struct filestore_chunk *chunk, uint32_t size) ERR_CHECKED;

// filestore_core_check_complete: ERR_PRECONDITION names the first chunks that have not arrived.
enum err filestore_core_check_complete(struct store_tx *tx, const struct filestore_file *file,
    struct err_detail *why) ERR_CHECKED;

// filestore_core_settle_size gives an upload of unknown size the one that its sender says now, and checks that the
// chunks make it up: ERR_PRECONDITION. Nothing is written.
enum err filestore_core_settle_size(struct store_tx *tx, struct filestore_file *file, uint64_t size_bytes,
    struct err_detail *why) ERR_CHECKED;

// filestore_core_check_version: ERR_CONFLICT when the name's newest version is not the one that the upload expects.
enum err filestore_core_check_version(struct store_tx *tx, const struct filestore_file *file,
    struct err_detail *why) ERR_CHECKED;

// filestore_core_next_version gives the next version of all.
enum err filestore_core_next_version(struct store_tx *tx, int64_t *version_out) ERR_CHECKED;

// filestore_core_commit makes an upload the newest version of its name, with the id, the digests and (if it was not
// known) the size of `upload`. Content that is there already takes the place of what was uploaded. Done twice it
// changes nothing. ERR_NOT_FOUND: it was cancelled meanwhile; ERR_CONFLICT: another version was expected.
enum err filestore_core_commit(struct store_tx *tx, const struct filestore_file *upload, int64_t now_unix_ms,
    struct err_detail *why) ERR_CHECKED;

// filestore_core_remove_upload forgets an upload and its chunks. ERR_NOT_FOUND: no such upload of this owner;
// ERR_PRECONDITION: it is committed.
enum err filestore_core_remove_upload(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES],
    const uint8_t owner_id[FILESTORE_ID_BYTES], struct err_detail *why) ERR_CHECKED;

// filestore_core_purge forgets an upload or file for good, and its content unless others have it.
enum err filestore_core_purge(struct store_tx *tx, const struct filestore_file *file) ERR_CHECKED;

// What filestore_core_purge_due removes: uploads planned before a time, files deleted before or at a time, and those
// that have expired.
struct filestore_due {
    int64_t uploads_before_unix_ms;
    int64_t deleted_before_unix_ms;
    int64_t now_unix_ms;
};

// filestore_core_purge_due removes at most `limit` of each kind; *count_out is how many there were.
enum err filestore_core_purge_due(struct store_tx *tx, const struct filestore_due *due, size_t limit,
    size_t *count_out) ERR_CHECKED;

// filestore_core_find_any is filestore_core_find_own for the sweep: whoever owns it.
enum err filestore_core_find_any(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES],
    struct filestore_file *file_out) ERR_CHECKED;

// filestore_core_digests appends the digests of at most FILESTORE_DIGESTS_MAX segments from `first` on.
enum err filestore_core_digests(struct store_tx *tx, const uint8_t blob_id[FILESTORE_ID_BYTES], uint64_t first,
    struct bytes *md5s, struct bytes *sha256s) ERR_CHECKED;

#endif
