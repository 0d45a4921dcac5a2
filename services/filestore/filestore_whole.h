// The digests of uploads while their chunks arrive, so that Commit need not read the file again.
//
// A chunk's digests and its share of the whole's are computed in one pass, which asks for order: a chunk that comes
// before its predecessor waits for it, as long as others of the upload are under way, and a moment longer. When nothing
// comes the order is given up for this upload: its chunks are hashed by themselves from then on, and Commit reads from
// the file what the whole lacks. That is also what happens after a restart. Nothing here has to survive.
#ifndef FILESTORE_FILESTORE_WHOLE_H
#define FILESTORE_FILESTORE_WHOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/md5.h"
#include "base/sha256.h"
#include "base/timer.h"
#include "base/work_pool.h"
#include "services/filestore/filestore_core.h"

struct filestore_whole; // of one upload

TAILQ_HEAD(filestore_whole_list, filestore_whole);

// Embedded in the service.
struct filestore_wholes {
    // Immutable after init.
    struct work_pool *pool;
    struct timer_queue *timers;
    struct timer timer; // for those whose next chunk does not come

    struct {
        pthread_mutex_t mutex;
        struct filestore_whole_list recent; // used last first
        unsigned count;
        bool is_timer_set;
    } locked;
};

// filestore_part is a chunk that is to be hashed, embedded in the operation that it belongs to.
struct filestore_part {
    struct work work; // first: the pool gives its address
    TAILQ_ENTRY(filestore_part) link;

    // Set by the caller.
    uint8_t upload_id[FILESTORE_ID_BYTES];
    uint64_t index;
    uint64_t offset;
    struct bytes_view data;  // borrowed until filestore_wholes_leave
    struct bytes_view hints; // struct md5_chain's, or empty
    uint8_t announced_md5[DIGEST_MD5_BYTES];
    // Asked before the work begins: then it is not done, and the result is ERR_CANCELLED.
    bool (*is_cancelled)(struct filestore_part *part);
    // Runs on the pool, once. ERR_CORRUPT: the data have another MD5 than was announced.
    void (*done)(struct filestore_part *part, enum err result);

    struct filestore_chunk digests; // the result

    // Private.
    struct filestore_wholes *wholes;
    struct filestore_whole *whole; // NULL: it is hashed by itself
    bool is_in_whole;
};

// filestore_wholes_init: the pool and the timers outlive it.
void filestore_wholes_init(struct filestore_wholes *wholes, struct work_pool *pool, struct timer_queue *timers);

// filestore_wholes_deinit: no part is under way.
void filestore_wholes_deinit(struct filestore_wholes *wholes);

// filestore_wholes_hash begins with a part, which ends with its done and then filestore_wholes_leave.
void filestore_wholes_hash(struct filestore_wholes *wholes, struct filestore_part *part);

// filestore_wholes_leave says that the part is stored, or has failed, and does not go on. Any thread; once after done.
void filestore_wholes_leave(struct filestore_part *part, bool is_stored);

// What is known of a whole: digests of its first size_bytes.
struct filestore_whole_digests {
    uint64_t size_bytes;
    struct md5_chain md5;
    struct sha256_chain *sha256; // the caller's; never NULL after ERR_OK
};

// filestore_wholes_take gives what is known of an upload that is complete, and forgets it: at worst nothing, of no
// bytes. ERR_NO_MEMORY.
enum err filestore_wholes_take(struct filestore_wholes *wholes, const uint8_t upload_id[FILESTORE_ID_BYTES],
    struct filestore_whole_digests *out) ERR_CHECKED;

#endif
