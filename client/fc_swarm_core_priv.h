// For fc_swarm*.c: what a download is made of.
//
// Threads: the thread that called fc_swarm_fetch decides everything. Calls end on threads of their channels, and the
// pool checks and writes; both only put what has ended into `locked.ended` and wake the first.
#ifndef CLIENT_FC_SWARM_CORE_PRIV_H
#define CLIENT_FC_SWARM_CORE_PRIV_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/work_pool.h"
#include "client/fc_swarm_plan_priv.h"
#include "client/fc_swarm_priv.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_client_stream.h"

#include "fc/segment/v1/segment.pb-c.h"

enum {
    FC_SWARM_CONNECTIONS_DEFAULT = 2, // to each source
    FC_SWARM_CONNECTIONS_MAX = 16,
    FC_SWARM_URL_MAX_BYTES = RPC_URL_MAX_BYTES,
    FC_SWARM_GRANT_MAX_BYTES = 256,
    FC_SWARM_SIGNATURE_BYTES = 64,
    FC_SWARM_RETIRED_MAX = 64, // connections to addresses that sources have left
};

struct fc_swarm;

enum fc_swarm_call_kind {
    FC_SWARM_CALL_SEGMENT,  // GetSegment
    FC_SWARM_CALL_DOWNLOAD, // a segment by FileStore/Download: of the session's server
    FC_SWARM_CALL_PROBE,    // GetHoldings
    FC_SWARM_CALL_HEALTH,   // the same for a server without segments
    FC_SWARM_CALL_GRANT,
    FC_SWARM_CALL_PICK,
    FC_SWARM_CALL_REPORT,
};

// fc_swarm_call is a call from its start until the deciding thread has looked at it for the last time.
struct fc_swarm_call {
    struct work work; // first: the pool gives its address
    struct rpc_unary rpc;
    struct fc_swarm *swarm;
    enum fc_swarm_call_kind kind;
    uint64_t request; // of the plan
    unsigned source;
    uint64_t segment;
    uint32_t size;
    uint64_t started_us;
    bool is_checked; // has been with the pool
    enum err result; // of the check
    struct err_detail why;
    TAILQ_ENTRY(fc_swarm_call) link;   // of all
    STAILQ_ENTRY(fc_swarm_call) ended; // guarded by the mutex
};

struct fc_swarm_peer {
    char name[FC_SWARM_NAME_MAX_BYTES];
    char url[FC_SWARM_URL_MAX_BYTES];
    bool has_id;
    uint8_t id[16];
    uint64_t incarnation;
    struct rpc_tls_client *tls; // owned unless it is the session's server
    struct rpc_channel *channels[FC_SWARM_CONNECTIONS_MAX];
    unsigned in_flight[FC_SWARM_CONNECTIONS_MAX];
    unsigned channel_count;
    uint64_t received_bytes; // over channels that are retired
    bool is_waiting;         // to be probed as soon as there is a grant
    struct {
        uint64_t bytes; // at the last look
        double per_us;
    } speed;
};

TAILQ_HEAD(fc_swarm_calls, fc_swarm_call);
STAILQ_HEAD(fc_swarm_ended, fc_swarm_call);

struct fc_swarm {
    // Immutable after the start.
    const struct fc_swarm_job *job;
    const struct fc_transfer_options *options;
    struct work_pool *pool;
    uint64_t segment_count;
    unsigned connections;

    // The deciding thread's.
    struct fc_swarm_plan *plan;
    struct fc_swarm_peer peers[FC_SWARM_SOURCES_MAX]; // by the plan's numbers
    struct fc_source_progress shown[FC_SWARM_SOURCES_MAX];
    unsigned peer_count;
    struct rpc_channel *retired[FC_SWARM_RETIRED_MAX];
    unsigned retired_count;
    int origin;           // its number; -1: it is not fetched from
    bool has_no_segments; // the session's server knows no SegmentServer
    struct fc_swarm_calls calls;
    unsigned call_count;
    struct fc_progress progress;
    uint64_t reported_us;
    uint64_t measured_us;
    uint64_t resent;
    uint64_t verified_bytes;
    uint64_t waiting_since_us; // 0: somebody is there
    bool is_wait_told;
    struct err_detail last_failure; // why a source could not be reached
    struct err_detail message;
    bool is_message_new;
    enum err fatal; // what ends the download, with fatal_why
    struct err_detail fatal_why;

    // In order: segments that wait for their turn.
    struct fc_swarm_call **kept; // by segment modulo kept_count
    unsigned kept_count;
    uint64_t next_written;

    struct {
        bool is_there;
        bool is_asked;
        bool is_wanted; // more than one segment, or other servers than the session's
        uint8_t bytes[FC_SWARM_GRANT_MAX_BYTES];
        size_t size;
        uint8_t signature[FC_SWARM_SIGNATURE_BYTES];
        uint64_t renew_us;
        uint64_t retry_us;
    } grant;

    struct {
        bool is_wanted;
        bool is_open;
        uint64_t retry_us;
        struct rpc_client_stream stream;
        unsigned picks; // calls under way
    } tracker;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        struct fc_swarm_ended ended;
        bool is_stopping;
        bool is_tracker_heard;
    } locked;
};

uint64_t fc_swarm_now_us(void);
void fc_swarm_wake(struct fc_swarm *swarm);

// fc_swarm_call_new makes a call that ends in locked.ended; NULL: no memory, which ends the download.
struct fc_swarm_call *fc_swarm_call_new(struct fc_swarm *swarm, enum fc_swarm_call_kind kind, unsigned source);
// fc_swarm_call_init prepares its rpc, before a generated function starts it.
void fc_swarm_call_init(struct fc_swarm_call *call, struct rpc_channel *channel,
    const ProtobufCServiceDescriptor *service, uint32_t timeout_ms);
// fc_swarm_checked gives a call back from the pool.
void fc_swarm_checked(struct fc_swarm_call *call);
void fc_swarm_call_free(struct fc_swarm_call *call);

// fc_swarm_fail ends the download with the first of such errors.
void fc_swarm_fail(struct fc_swarm *swarm, enum err err, const char *message);
// fc_swarm_say has the user told.
void fc_swarm_say(struct fc_swarm *swarm, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- fc_swarm_peers.c: who there is ----

// fc_swarm_begin_peers adds those that are known from the beginning.
enum err fc_swarm_begin_peers(struct fc_swarm *swarm, struct err_detail *why) ERR_CHECKED;
// fc_swarm_add_peer adds a source at a URL; tls is taken, also on failure.
enum err fc_swarm_add_peer(struct fc_swarm *swarm, enum fc_swarm_kind kind, const char *name, const char *url,
    struct rpc_tls_client *tls, unsigned *number_out) ERR_CHECKED;
// fc_swarm_move_peer gives it another URL.
void fc_swarm_move_peer(struct fc_swarm *swarm, unsigned number, const char *url, struct rpc_tls_client *tls);
// fc_swarm_channel is one of its connections, the one with the least under way; NULL: the download has failed.
struct rpc_channel *fc_swarm_channel(struct fc_swarm *swarm, unsigned number);
// fc_swarm_count_call counts a call for a segment as under way on its connection, or (by -1) not any more.
void fc_swarm_count_call(struct fc_swarm *swarm, const struct fc_swarm_call *call, int by);
uint64_t fc_swarm_received(const struct fc_swarm_peer *peer);
void fc_swarm_probe(struct fc_swarm *swarm, unsigned number);
void fc_swarm_probe_ended(struct fc_swarm *swarm, struct fc_swarm_call *call);
void fc_swarm_end_peers(struct fc_swarm *swarm);

// ---- fc_swarm_tracker.c: grants, and what the tracker says ----

void fc_swarm_tend_grant(struct fc_swarm *swarm);
// fc_swarm_take_holding tells the plan what a source has. ERR_PROTOCOL, ERR_NO_MEMORY.
enum err fc_swarm_take_holding(struct fc_swarm *swarm, unsigned number,
    const Fc__Segment__V1__Holding *holding) ERR_CHECKED;
void fc_swarm_grant_ended(struct fc_swarm *swarm, struct fc_swarm_call *call);
// fc_swarm_tend_tracker opens the watch, takes what has come, and asks for picks.
void fc_swarm_tend_tracker(struct fc_swarm *swarm);
void fc_swarm_pick_ended(struct fc_swarm *swarm, struct fc_swarm_call *call);
// fc_swarm_report tells the tracker that a source cannot be reached, or (is_corrupt) has sent a bad segment.
void fc_swarm_report(struct fc_swarm *swarm, unsigned number, bool is_corrupt, uint64_t segment);
void fc_swarm_end_tracker(struct fc_swarm *swarm);

// ---- fc_swarm_segments.c: asking, checking, writing ----

void fc_swarm_ask(struct fc_swarm *swarm, const struct fc_swarm_order *order);
void fc_swarm_cancel(struct fc_swarm *swarm, uint64_t request);
void fc_swarm_segment_ended(struct fc_swarm *swarm, struct fc_swarm_call *call);

#endif
