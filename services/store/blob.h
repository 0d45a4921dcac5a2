// The content of files: what an upload has brought so far, and finished objects.
//
// Below the folder: uploads/<32 hex digits> while it arrives, objects/<2 digits>/<32 hex digits> when it is complete.
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/md5.h"
#include "base/sha256.h"

enum {
    BLOB_ID_BYTES = 16,
    // Uploads from this size on pass by the system's cache, where the file system can: they would drive everything else
    // out of it, and half of what writing costs is the copy.
    BLOB_LARGE_BYTES = 64 * 1024 * 1024,
    BLOB_ALIGNMENT_BYTES = 4096, // enough for any file system to pass by its cache
};

struct blob_store;

// blob_store_open creates the folders if they are missing.
enum err blob_store_open(const char *dir, struct blob_store **out, struct err_detail *why) ERR_CHECKED;
void blob_store_close(struct blob_store **store);

// blob_upload_create makes an empty upload. ERR_NO_SPACE when the disk has not size_bytes free beyond a reserve of 16
// MiB. Creating one that is there already keeps it.
enum err blob_upload_create(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t size_bytes) ERR_CHECKED;

// blob_write is one piece of an upload, embedded in the operation that it belongs to.
struct blob_write {
    uint8_t id[BLOB_ID_BYTES];
    uint64_t offset;
    struct bytes_view data; // borrowed until done
    bool is_large;          // a piece of an upload of BLOB_LARGE_BYTES or more
    // Runs on a thread of the store, once: ERR_OK means on disk. ERR_NO_SPACE, ERR_NOT_FOUND, ERR_IO. Must not block
    // for long.
    void (*done)(struct blob_write *write, enum err result);

    struct blob_write *next; // private
    enum err result;         // private
};

// blob_upload_write queues a piece. Pieces that wait together share one sync. Any thread; never blocks.
void blob_upload_write(struct blob_store *store, struct blob_write *write);

// blob_upload_digest goes on with digests that have the same beginning of an upload, to its first size_bytes. Blocks
// while it reads: not on a worker thread.
enum err blob_upload_digest(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t size_bytes,
    struct md5_chain *md5, struct sha256_chain *sha256) ERR_CHECKED;

// blob_upload_finish turns the upload into the object of the same id, durably. Done twice is no error.
enum err blob_upload_finish(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES]) ERR_CHECKED;

// blob_upload_cancel removes an upload; one that is not there is no error.
enum err blob_upload_cancel(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES]) ERR_CHECKED;

// blob_read reads exactly size bytes of an object. ERR_NOT_FOUND, ERR_OUT_OF_RANGE, ERR_IO. Any thread; blocks for the
// disk. What is read of a large object passes by the system's cache, too, until that much was read that it is worth
// keeping, when memory and place are multiples of BLOB_ALIGNMENT_BYTES.
enum err blob_read(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t offset, void *out,
    size_t size) ERR_CHECKED;

// blob_memory is memory that a part of a large object may be read into past the cache, for the caller to free. NULL.
uint8_t *blob_memory(size_t size);

// blob_read_upload reads exactly size bytes of an upload, as far as they have been written.
enum err blob_read_upload(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t offset, void *out,
    size_t size) ERR_CHECKED;

// blob_remove removes the upload and the object of this id; those that are not there are no error. It lasts once
// blob_sync_removed has been called with the id.
enum err blob_remove(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES]) ERR_CHECKED;
enum err blob_sync_removed(struct blob_store *store, struct bytes_view ids) ERR_CHECKED;

// blob_object_each calls fn with the id of every object on disk.
enum err blob_object_each(struct blob_store *store, void (*fn)(void *context, const uint8_t id[BLOB_ID_BYTES]),
    void *context) ERR_CHECKED;

// blob_upload_each, for the sweep at start-up, calls fn with the id of every upload on disk.
enum err blob_upload_each(struct blob_store *store, void (*fn)(void *context, const uint8_t id[BLOB_ID_BYTES]),
    void *context) ERR_CHECKED;

// blob_copy puts the object of this id, or the upload if it is not an object yet, among the objects of another folder,
// which has been opened as a store before: as a link where that is possible and links are wanted, else as a copy.
// ERR_NOT_FOUND.
enum err blob_copy(struct blob_store *to, const char *from_dir, const uint8_t id[BLOB_ID_BYTES],
    bool may_link) ERR_CHECKED;

#endif
