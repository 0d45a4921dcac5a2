// For the sources of the store only: what it is made of, and its index files.
//
// Of each file there is ID.index in the folder: a header of SWARM_INDEX_HEADER_BYTES, the digests of the segments, and
// a byte for each segment, 1 when it is here. The segments of owned files are in ID.data, each at its place, with holes
// between.
//
// One lock guards all that is in memory. Segments are read and written without it, under a hold on their entry; what is
// being read is pinned as well. Giving up segments happens under the lock as a whole, so that a mark and its segment
// never part.
#ifndef SWARM_SWARM_STORE_PRIV_H
#define SWARM_SWARM_STORE_PRIV_H

#include <limits.h>
#include <pthread.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/text.h"
#include "swarm/swarm_store.h"

enum {
    SWARM_PATH_MAX_BYTES = PATH_MAX, // with its NUL
    SWARM_INDEX_HEADER_BYTES = 12 * 1024,
    SWARM_SEGMENTS_MAX = 1 << 24, // of a file (128 TiB): 2 MiB of bits
    SWARM_FILES_MAX = 100000,
    SWARM_BUCKETS = 4096,
};

// By what a shared file is known to be the same.
struct swarm_identity {
    uint64_t device;
    uint64_t inode;
    uint64_t modified_ns; // 0: it is still being written to
};

struct swarm_entry {
    TAILQ_ENTRY(swarm_entry) link; // by last use, the latest last
    LIST_ENTRY(swarm_entry) bucket;
    struct swarm_file file;
    uint64_t segment_count;
    uint64_t held_count;
    uint8_t *held;
    uint8_t *checked; // of those held: since the system was started
    uint64_t sent_segments;
    uint64_t cursor; // where to look first for a segment to give up
    unsigned holds;  // operations under way
    bool is_gone;    // the last of them frees it

    bool is_shared;
    char *name;
    char *path;
    char *final_path; // NULL: it is at path
    struct swarm_identity identity;
};

// A segment that is being read.
struct swarm_pin {
    LIST_ENTRY(swarm_pin) link;
    const struct swarm_entry *entry;
    uint64_t index;
};

struct swarm_store {
    // Immutable after open.
    char *dir;
    int lock_fd;
    uint64_t budget_bytes;
    bool is_same_boot;
    swarm_store_change_fn *on_change;
    void *context;

    struct {
        pthread_mutex_t mutex;
        TAILQ_HEAD(, swarm_entry) entries;
        LIST_HEAD(, swarm_entry) buckets[SWARM_BUCKETS];
        LIST_HEAD(, swarm_pin) pins;
        uint64_t owned_bytes; // of owned files, with what is being written: what the budget is for
        uint64_t held_bytes;  // of all files
        uint64_t segment_count;
        uint64_t file_count;
    } locked;
};

// In swarm_store_index.c.

// swarm_index_path writes the path of a file's index or data (".index", ".data").
void swarm_index_path(const struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES], const char *ending,
    char out[SWARM_PATH_MAX_BYTES]);

// swarm_index_create writes the index of an entry with these digests. The marks are those of entry->held.
enum err swarm_index_create(const struct swarm_store *store, const struct swarm_entry *entry,
    struct bytes_view sha256s) ERR_CHECKED;

// swarm_index_rewrite writes what an entry says of a shared file anew.
enum err swarm_index_rewrite(const struct swarm_store *store, const struct swarm_entry *entry) ERR_CHECKED;

// swarm_index_mark notes that a segment is here, or is not.
enum err swarm_index_mark(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t index,
    bool is_held) ERR_CHECKED;

// swarm_index_load makes an entry of an index file. ERR_CORRUPT: it is none.
enum err swarm_index_load(const struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES],
    struct swarm_entry **out) ERR_CHECKED;

// swarm_index_digests appends digests from the file.
enum err swarm_index_digests(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t first,
    uint64_t count, struct bytes *out) ERR_CHECKED;

// In swarm_store.c.

// swarm_entry_new makes an entry with nothing held. ERR_INVALID, ERR_TOO_BIG: no file that a store takes.
enum err swarm_entry_new(const struct swarm_file *file, struct swarm_entry **out) ERR_CHECKED;
void swarm_entry_free(struct swarm_entry **entry);

struct swarm_entry *swarm_store_find_locked(struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES]);

// swarm_store_hold takes a hold on an entry, NULL when it is not known, and counts it as used last if is_use.
struct swarm_entry *swarm_store_hold(struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES], bool is_use);
void swarm_store_release(struct swarm_store *store, struct swarm_entry *entry);

// swarm_store_remove_locked takes an entry out and deletes what is the store's of it. Without holds it is freed.
void swarm_store_remove_locked(struct swarm_store *store, struct swarm_entry *entry);

// swarm_store_tell_locked tells of a change.
void swarm_store_tell_locked(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t first,
    uint64_t count, bool is_gone);

// In swarm_store_segment.c.

// swarm_store_note_locked changes whether a segment is here, in memory and in the index, and tells of it.
void swarm_store_note_locked(struct swarm_store *store, struct swarm_entry *entry, uint64_t index, bool is_held);

// swarm_store_make_room_locked gives up segments until there is room for so many more bytes in the budget. ERR_LIMIT.
enum err swarm_store_make_room_locked(struct swarm_store *store, uint64_t needed) ERR_CHECKED;

void swarm_identity_of(const struct stat *status, struct swarm_identity *out);

#endif
