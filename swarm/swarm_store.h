// Segments on disk: what a mirror has fetched, and files elsewhere on disk that a peer shares.
//
// What was fetched (`owned` files) lies in the store's folder, within a budget: when that is used up, segments of the
// file that was not asked for the longest go first, but none that is being read. Shared files stay where they are and
// whose they are; one that is not as it was any more is forgotten.
//
// Nothing is synced: a segment is marked after it was written, and marks of an earlier start of the system count as
// hearsay, so that the segment is checked by its digest before it is served. What is damaged is forgotten, and fetched
// again when somebody asks for it.
//
// Any thread may call these functions, but for the lifecycle. They block for the disk.
#ifndef SWARM_SWARM_STORE_H
#define SWARM_SWARM_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "e2e/e2e_grant.h"
#include "swarm/swarm_server.h"

struct swarm_store;

// What identifies a file and its content. Segments are segment_bytes long but for the last.
struct swarm_file {
    uint8_t id[E2E_GRANT_ID_BYTES];
    uint64_t size_bytes;
    uint32_t segment_bytes;
    uint8_t root[DIGEST_SHA256_BYTES]; // of the tree over the digests
};

uint64_t swarm_file_segment_count(const struct swarm_file *file);
uint32_t swarm_file_segment_size(const struct swarm_file *file, uint64_t index); // index < count

// Segments first .. first + count - 1 have come or gone. Called under the store's lock: it may neither call the store
// nor wait.
typedef void swarm_store_change_fn(void *context, const struct swarm_file *file, uint64_t first, uint64_t count,
    bool is_gone);

struct swarm_store_options {
    const char *dir;       // made if it is missing
    uint64_t budget_bytes; // of owned segments; 0: no limit
    swarm_store_change_fn *on_change;
    void *context;
};

// swarm_store_open takes over what is in the folder. ERR_BUSY: another process has it open.
enum err swarm_store_open(const struct swarm_store_options *options, struct swarm_store **out,
    struct err_detail *why) ERR_CHECKED;
void swarm_store_close(struct swarm_store **store);

// swarm_store_add makes an owned file known, without segments; one that is known already stays as it is. ERR_CORRUPT:
// the digests do not lead to file->root. ERR_TOO_BIG: of more segments than a store keeps account of.
enum err swarm_store_add(struct swarm_store *store, const struct swarm_file *file,
    struct bytes_view sha256s) ERR_CHECKED;

// A file that lies elsewhere. The paths are absolute.
struct swarm_shared {
    const char *name;           // for people
    const char *path;           // where the bytes are now
    const char *final_path;     // where they will be when all are there; NULL: they are
    struct bytes_view segments; // which are there, as Holding.segments, when it is not is_complete
    bool is_complete;
};

// swarm_store_share makes a shared file known, or says more of it: what was said to be there before stays so. An owned
// file of the same id is given up. Errors as above; ERR_NOT_FOUND, ERR_INVALID: there is no such file at path, or it
// has another size.
enum err swarm_store_share(struct swarm_store *store, const struct swarm_file *file, struct bytes_view sha256s,
    const struct swarm_shared *shared) ERR_CHECKED;

// swarm_store_check reads a segment and compares its digest: from then on it is here, or is not (ERR_CORRUPT, or
// ERR_NOT_FOUND when the file is unknown). Looks at segments of shared files that nobody said are there, too.
enum err swarm_store_check(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES],
    uint64_t index) ERR_CHECKED;

// swarm_store_remove forgets a file; of an owned one its segments are deleted.
void swarm_store_remove(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES]);

// swarm_store_look_again forgets the shared files that are not as they were.
void swarm_store_look_again(struct swarm_store *store);

// swarm_store_find tells whether a file is known, and what it is.
bool swarm_store_find(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], struct swarm_file *out);

bool swarm_store_has(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index);

// swarm_store_next_missing is the first segment from `from` on that is not here; the number of segments when there is
// none, or no such file.
uint64_t swarm_store_next_missing(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t from);

// swarm_store_read appends a segment. ERR_NOT_FOUND: it is not here.
enum err swarm_store_read(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index,
    struct bytes *out) ERR_CHECKED;

// swarm_store_write keeps a segment of an owned file. ERR_CORRUPT: it has another digest. ERR_LIMIT, ERR_NO_SPACE:
// there is no room for it, and none can be made. ERR_NOT_FOUND: the file is not known.
enum err swarm_store_write(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index,
    struct bytes_view data) ERR_CHECKED;

// swarm_store_digests appends the SHA-256 of segments from first on, of at most `most`. ERR_NOT_FOUND.
enum err swarm_store_digests(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t first,
    uint64_t most, struct bytes *out) ERR_CHECKED;

// What is known of a file. Borrowed during the call.
struct swarm_store_item {
    const struct swarm_file *file;
    uint64_t held_count;
    const uint8_t *held; // a bit for each segment, lowest bit of the first byte first
    const char *name;    // of a shared file; else NULL
    const char *path;    // the same; the final one
    uint64_t sent_segments;
};
typedef void swarm_store_item_fn(void *context, const struct swarm_store_item *item);

// swarm_store_look calls fn for a file; swarm_store_each for all. Under the store's lock: fn may neither call the store
// nor wait. swarm_store_look: false when the file is not known.
bool swarm_store_look(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], swarm_store_item_fn *fn,
    void *context);
void swarm_store_each(struct swarm_store *store, swarm_store_item_fn *fn, void *context);

void swarm_store_read_stored(struct swarm_store *store, struct swarm_stored *out);

#endif
