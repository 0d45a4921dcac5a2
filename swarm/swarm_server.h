// The service fc.segment.v1.SegmentServer over whatever has the segments: the origin's FileStore, a mirror's disk, a
// member's files. It checks grants, keeps to an upload limit, and says STOPPED when it was told to; what has the
// segments is a backend, which is asked for segments that a grant covers and for nothing else.
//
// Any thread may call these functions, but for the lifecycle.
#ifndef SWARM_SWARM_SERVER_H
#define SWARM_SWARM_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/err.h"
#include "e2e/e2e_grant.h"
#include "rpc/rpc_server.h"

#include "fc/segment/v1/segment.pb-c.h"

enum {
    SWARM_SEGMENT_MAX_BYTES = 8 * 1024 * 1024,
    SWARM_DIGESTS_MAX = 32768,             // in one answer
    SWARM_HOLDING_MAX_BYTES = 1024 * 1024, // of a bitmap; nothing is said of segments beyond it
};

struct swarm_server;

// What a backend is asked for. It is answered exactly once with one of swarm_ask_answer_* or swarm_ask_fail, inside the
// function that asks or later, from any thread; it is gone after that.
struct swarm_ask {
    // Of the caller's grant, which is checked: for which file, of what size, who asks, and the tree's root.
    struct e2e_grant grant;
    uint64_t segment_count; // that the file has
    uint64_t index;         // of the segment, or of the first digest: below segment_count
    uint32_t size;          // of the segment
    // The grant as it came, with which a mirror asks the origin. Valid until the answer.
    struct bytes_view encoded_grant;
    struct bytes_view signature;
};

// swarm_ask_is_cancelled: an answer would reach nobody. For backends that wait before they work.
bool swarm_ask_is_cancelled(const struct swarm_ask *ask);

// swarm_ask_answer_segment sends the segment, ask->size bytes. They are borrowed for the call and go to the connection
// without another copy.
void swarm_ask_answer_segment(struct swarm_ask *ask, struct bytes_view data);

// swarm_ask_answer_digests sends the SHA-256 of segments from ask->index on: at least one, up to SWARM_DIGESTS_MAX.
void swarm_ask_answer_digests(struct swarm_ask *ask, struct bytes_view sha256s);

// swarm_ask_answer_holding says what of the file is here; `segments` is borrowed for the call. A file of which nothing
// is here is ERR_NOT_FOUND, unless it is pulled through.
struct swarm_holding {
    bool is_complete;
    bool is_pull_through;
    struct bytes_view segments; // as Holding.segments
};
void swarm_ask_answer_holding(struct swarm_ask *ask, const struct swarm_holding *holding);

// swarm_ask_fail answers with an error. ERR_NOT_FOUND: this server has not got it; ERR_CORRUPT: it is damaged here;
// ERR_LIMIT: busy; ERR_UNAVAILABLE: the origin, from where it would come, cannot be reached. why may be NULL.
void swarm_ask_fail(struct swarm_ask *ask, enum err code, const struct err_detail *why);

// Figures of what is stored, for Load.
struct swarm_stored {
    uint64_t bytes;
    uint64_t budget_bytes; // 0: no limit
    uint64_t file_count;
    uint64_t segment_count;
};

// swarm_backend: none of these functions may block, not for a disk either: they hand it to threads of their own. Called
// from several threads at once.
struct swarm_backend {
    void (*read_segment)(void *context, struct swarm_ask *ask);
    void (*read_digests)(void *context, struct swarm_ask *ask);
    void (*read_holding)(void *context, struct swarm_ask *ask);
    void (*read_stored)(void *context, struct swarm_stored *out); // NULL: nothing is told
    void *context;
};

enum swarm_state {
    SWARM_UP,
    SWARM_DRAINING, // ends what it has begun, and refuses what is new
    SWARM_STOPPED,  // also refuses what waits for its turn
};

struct swarm_server_options {
    struct rpc_server *server; // where it will be added; its timers are used
    struct swarm_backend backend;
    uint64_t limit_bytes_per_s;    // of content sent; 0: no limit
    size_t max_segments_in_flight; // [1,024] asked for and not answered; further ones are RESOURCE_EXHAUSTED
};

enum err swarm_server_new(const struct swarm_server_options *options, struct swarm_server **out) ERR_CHECKED;

// swarm_server_rpc and swarm_server_rules are for rpc_server_add_service. Its methods need no token.
ProtobufCService *swarm_server_rpc(struct swarm_server *swarm);
const struct rpc_method_rule *swarm_server_rules(size_t *count_out);

// swarm_server_add_metrics adds what it has done to the figures of the server that it was made for.
enum err swarm_server_add_metrics(struct swarm_server *swarm) ERR_CHECKED;

// swarm_server_set_key says by which FileStore's key grants are checked. Until then every request is UNAVAILABLE.
void swarm_server_set_key(struct swarm_server *swarm, const uint8_t key[CRYPTO_KEY_BYTES]);

void swarm_server_set_state(struct swarm_server *swarm, enum swarm_state state);
enum swarm_state swarm_server_state(struct swarm_server *swarm);

// swarm_server_set_limit changes the limit from now on. 0: none.
void swarm_server_set_limit(struct swarm_server *swarm, uint64_t bytes_per_s);

// swarm_server_read_load says how busy it is. The message borrows nothing. cpu_permille is this process's.
void swarm_server_read_load(struct swarm_server *swarm, Fc__Segment__V1__Load *out);

// swarm_server_stop refuses what waits and what comes. Before rpc_server_free, whose timers it uses; not from a timer.
void swarm_server_stop(struct swarm_server *swarm);

// swarm_server_free waits until the backend has answered all that it was asked. After rpc_server_free.
void swarm_server_free(struct swarm_server **swarm);

#endif
