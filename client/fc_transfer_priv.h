// For the sources of libfc's transfers only: a fixed number of chunks under way at a time, over connections of their
// own.
//
// Threads: the caller's thread runs fc_transfer_run and makes all decisions. A slot holds one chunk; while it is busy
// it belongs to the pool (hashing, checking, writing) or to its connection, and comes back through fc_slot_end.
#ifndef CLIENT_FC_TRANSFER_PRIV_H
#define CLIENT_FC_TRANSFER_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/md5.h"
#include "base/work_pool.h"
#include "client/fc_file.h"
#include "client/fc_session.h"
#include "rpc/rpc_channel.h"

#include "fc/filestore/v1/filestore.pb-c.h"

enum {
    // By default so many bytes: each chunk of an upload waits for its share of two syncs, so there must be enough of
    // them to keep the server busy meanwhile, and both sides hold them in memory.
    FC_TRANSFER_IN_FLIGHT_BYTES = 8 * 1024 * 1024,
    // As many as it may become while more of them make it faster.
    FC_TRANSFER_IN_FLIGHT_MOST_BYTES = 16 * 1024 * 1024,
    FC_TRANSFER_IN_FLIGHT_LEAST = 4, // chunks, however large
    FC_TRANSFER_IN_FLIGHT_MAX = 64,
    FC_TRANSFER_CONNECTIONS_DEFAULT = 2,
    FC_TRANSFER_CONNECTIONS_MAX = 16,
};

struct fc_transfer;

enum fc_slot_state {
    FC_SLOT_FREE,    // no chunk
    FC_SLOT_WAITING, // a chunk that is to be started
    FC_SLOT_BUSY,    // with the pool or a connection
    FC_SLOT_ENDED,   // result says how
    FC_SLOT_KEPT,    // has succeeded, and waits for its turn
};

struct fc_slot {
    struct work work; // first: the pool gives its address
    struct rpc_unary call;
    struct fc_transfer *transfer;

    // While not busy: the caller's thread only.
    uint64_t index;
    uint32_t size;
    uint8_t *data;                 // an upload's: room for one chunk
    uint8_t md5[DIGEST_MD5_BYTES]; // of an upload, once it was computed; of a download, what it must be
    uint8_t sha256[DIGEST_SHA256_BYTES];
    uint8_t hints[MD5_HINTS_BYTES]; // of an upload, for the server
    bool has_md5;
    bool has_hints;
    bool is_there;     // the server has it: it only counts for the digest of the whole
    bool has_response; // a download's: `call` holds the segment
    bool is_kept;      // the state is FC_SLOT_KEPT
    unsigned tries;
    enum err result;
    bool is_damaged;   // with ERR_CORRUPT: on the way, so that another try may help
    bool is_disk_full; // with ERR_NO_SPACE: the server's disk, and not a quota
    struct err_detail why;

    enum fc_slot_state state; // guarded by the transfer's mutex
};

struct fc_transfer_ops {
    // Gives a free slot its chunk (slot->index and size are set; of one of size 0 nothing becomes). *is_needed_out =
    // false: there is nothing to do for it.
    enum err (
        *prepare)(struct fc_transfer *transfer, struct fc_slot *slot, bool *is_needed_out, struct err_detail *why);
    // Begins the work on a slot, which ends with fc_slot_end.
    void (*launch)(struct fc_transfer *transfer, struct fc_slot *slot);
    // A chunk has succeeded: fc_slot_release, or fc_slot_keep until it is its turn.
    enum err (*settle)(struct fc_transfer *transfer, struct fc_slot *slot, struct err_detail *why);
    // Finds out, after the connection was lost and while no slot is busy, whether the server is back. May release
    // waiting slots. An error for which fc_transfer_is_passing means not yet.
    enum err (*recover)(struct fc_transfer *transfer, struct err_detail *why);
};

struct fc_transfer {
    // Immutable after open.
    struct fc_session *session;
    const struct fc_transfer_options *options;
    const struct fc_transfer_ops *ops;
    void *owner;
    struct rpc_channel *channels[FC_TRANSFER_CONNECTIONS_MAX];
    unsigned channel_count;
    struct work_pool *pool;
    struct fc_slot *slots;
    unsigned slot_count;

    // The caller's thread only.
    uint64_t size_bytes;
    uint32_t chunk_bytes;
    uint64_t next_index; // first chunk that no slot has had yet
    struct fc_progress progress;
    uint64_t reported_ms;
    unsigned window; // slots that may be busy at once
    struct {
        unsigned first; // the window at the beginning
        bool is_settled;
        unsigned chunks; // that ended since
        uint64_t bytes;
        uint64_t since_us;
        uint64_t best; // bytes per second
    } growth;
    bool is_endless;   // the size is not known yet: the operation `prepare` makes slot->size smaller for the last chunk
    unsigned failures; // in a row
    uint64_t waiting_since_ms;
    char waiting_for[ERR_DETAIL_MAX_BYTES];
    unsigned narrowed_from; // the window before the first of them; 0: none has failed
    bool is_broken;         // the connection was lost
    enum err broken_by;

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        unsigned busy_count;
        bool is_call_done; // of fc_transfer_wait
        bool is_stopping;  // nothing is started any more
    } locked;
};

// fc_transfer_init starts nothing. options may be NULL and outlive the transfer, as ops and owner do.
void fc_transfer_init(struct fc_transfer *transfer, struct fc_session *session,
    const struct fc_transfer_options *options, const struct fc_transfer_ops *ops, void *owner);

// fc_transfer_open opens connections and makes slots, for a file of this size. has_buffers gives each slot room for a
// chunk.
enum err fc_transfer_open(struct fc_transfer *transfer, uint64_t size_bytes, uint32_t chunk_bytes, bool has_buffers,
    struct err_detail *why) ERR_CHECKED;

// fc_transfer_run moves all chunks.
enum err fc_transfer_run(struct fc_transfer *transfer, struct err_detail *why) ERR_CHECKED;

// fc_transfer_deinit ends what is under way and frees. After fc_transfer_init, opened or not.
void fc_transfer_deinit(struct fc_transfer *transfer);

// fc_slot_end gives a busy slot back. From any thread; it may be the last thing that this thread does with it.
void fc_slot_end(struct fc_slot *slot, enum err result);

// fc_slot_submit hands a busy slot to the pool, which runs slot->work.run; when the transfer is stopping, the slot ends
// with ERR_CANCELLED instead.
void fc_slot_submit(struct fc_slot *slot);

// fc_slot_release makes a slot free, and counts its chunk as moved.
void fc_slot_release(struct fc_slot *slot);

// fc_slot_keep sets a slot that has succeeded aside until fc_slot_release.
void fc_slot_keep(struct fc_slot *slot);

// fc_slot_channel is the connection that carries a slot's calls.
struct rpc_channel *fc_slot_channel(struct fc_slot *slot);

// fc_transfer_prepare_call readies a call on the session's own channel; the caller starts it with a generated function,
// and then fc_transfer_wait waits for its end while it looks for cancellation. The caller deinits the call.
void fc_transfer_prepare_call(struct fc_transfer *transfer, struct rpc_unary *call, uint32_t timeout_ms);
enum err fc_transfer_wait(struct fc_transfer *transfer, struct rpc_unary *call, struct err_detail *why) ERR_CHECKED;

// fc_transfer_pause waits before another try, longer each time up to a second or so, and says why in the progress. The
// last error comes back when that has gone on for too long since the last success. fc_transfer_is_passing says whether
// an error is worth another try; a full disk is waited for only when the caller has said how long.
enum err fc_transfer_pause(struct fc_transfer *transfer, enum err last, const struct err_detail *why) ERR_CHECKED;
bool fc_transfer_waits_for_room(const struct fc_transfer *transfer, enum err code);
bool fc_transfer_is_passing(enum err code);

bool fc_transfer_is_cancelled(const struct fc_transfer *transfer);

// fc_transfer_report tells the progress, not too often unless is_last.
void fc_transfer_report(struct fc_transfer *transfer, bool is_last);

// fc_rate_charge puts off what may begin next; fc_rate_is_spent says that it is not yet time. rate may be NULL.
void fc_rate_charge(struct fc_rate *rate, uint32_t size);
bool fc_rate_is_spent(const struct fc_rate *rate);

// fc_transfer_error is the outcome of a call of the FileStore, with the reasons that have a code of their own.
enum err fc_transfer_error(const struct rpc_unary *call);

// fc_file_from_wire checks what a server says of a file. ERR_PROTOCOL.
enum err fc_file_from_wire(const Fc__Filestore__V1__File *wire, struct fc_file *out,
    struct err_detail *why) ERR_CHECKED;

#endif
