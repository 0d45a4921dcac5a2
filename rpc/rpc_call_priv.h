// For the server's side of rpc/ only: a call, and the batch in which a worker runs it.
#ifndef RPC_CALL_PRIV_H
#define RPC_CALL_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_status.h"

#include "fc/rpc/v1/rpc.pb-c.h"

struct rpc_method;
struct rpc_once_entry;
struct rpc_peer;
struct rpc_server_stream;
struct rpc_server;

enum {
    RPC_ROUTE_MAX_WORDS = 16, // hops that a request may have made, with its request id
};

struct rpc_call {
    STAILQ_ENTRY(rpc_call) link;
    struct rpc_peer *peer;           // a reference, once it is waiting
    const struct rpc_method *method; // NULL until it has been found
    struct bytes_view route;         // what goes back in front of the reply: hops and request id
    struct bytes_view frame;
    struct bytes large; // holds both when they are large
    size_t held_bytes;  // what it counts for in received_bytes
    uint64_t arrived_us;
    uint64_t deadline_ms; // when it arrived, until its header has been read
    struct bytes_view request_id;
    struct arena arena;                       // header and request
    struct rpc_server_stream *stream;         // NULL: one request, one response
    const Fc__Rpc__V1__RequestHeader *header; // NULL until it has been read
    Fc__Rpc__V1__Metadata **reply_metadata;   // in the arena; NULL: none
    size_t reply_metadata_count;
    struct rpc_once_entry *once; // whose answer others may wait for; NULL: nobody
    bool has_identity;
    struct rpc_identity identity;
    uint8_t small[]; // holds route and frame when they are small
};
STAILQ_HEAD(rpc_call_list, rpc_call);

// The token that a peer sent last and whose it is.
struct rpc_token_cache {
    uint8_t token[RPC_TOKEN_MAX_BYTES];
    size_t token_bytes;  // 0: none
    unsigned generation; // of server->token_generation when it was checked
    struct rpc_identity identity;
};

// What a worker has in hand: calls of one peer, whose replies leave together. Only on its thread.
struct rpc_batch {
    struct rpc_peer *peer;
    struct rpc_call *current;
    bool is_current_answered;
    bool is_stopped; // too many reply bytes wait: the rest of the calls has to
    size_t ended_calls;
    size_t ended_bytes;
    struct rpc_token_cache token;
    struct bytes reply;    // kept for its memory
    unsigned stats_writer; // the worker's number
};

// Why a call does not get to its handler.
struct rpc_refusal {
    struct err_detail why;
    uint32_t retry_after_ms; // 0: there is no such time
};

// rpc_call_find_route says how many bytes of a REQ peer's message come before the frame: words until one has the high
// bit set. 0 when there is no such word.
size_t rpc_call_find_route(struct bytes_view data);

// rpc_call_new copies data, or takes it when `large` holds it. ERR_NO_MEMORY.
enum err rpc_call_new(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes, struct bytes *large,
    uint64_t arrived_us, struct rpc_call **out) ERR_CHECKED;

// rpc_call_free frees the memory and settles nothing.
void rpc_call_free(struct rpc_call *call);

// rpc_call_answer is the closure that handlers are given.
void rpc_call_answer(const ProtobufCMessage *response, void *closure_data);

// rpc_call_fail_now answers with an error, also when the deadline has passed.
void rpc_call_fail_now(struct rpc_call *call, enum err code, const char *message, const char *reason,
    uint32_t retry_after_ms);

// rpc_call_repeat answers with a frame that an earlier attempt was answered with.
void rpc_call_repeat(struct rpc_call *call, struct bytes_view frame);

// rpc_call_end gives up a call that was answered or needs no answer. Its memory goes at once, except that of the call
// whose handler runs on this thread: that goes when the handler has returned.
void rpc_call_end(struct rpc_call *call);

bool rpc_call_is_late(const struct rpc_call *call);

// rpc_call_is_given_up: the client has sent CANCEL for it.
bool rpc_call_is_given_up(const struct rpc_call *call);

// rpc_call_open checks a streaming call as rpc_call_run does another one, but for its messages.
enum err rpc_call_open(struct rpc_batch *batch, struct rpc_call *call, struct rpc_refusal *refusal) ERR_CHECKED;

// rpc_call_send_message and rpc_call_send_end write the frames of a stream. The first one carries the reply's metadata.
// ERR_TOO_BIG, ERR_NO_MEMORY: nothing was sent. message is empty with ERR_OK.
enum err rpc_call_send_message(struct rpc_call *call, bool is_first, const ProtobufCMessage *message) ERR_CHECKED;
enum err rpc_call_send_end(struct rpc_call *call, bool is_first, enum err code, const char *message,
    uint32_t retry_after_ms) ERR_CHECKED;
enum err rpc_call_send_credit(struct rpc_call *call, const Fc__Rpc__V1__Credit *credit) ERR_CHECKED;

// rpc_call_account_here is rpc_call_account with the counters of this thread.
void rpc_call_account_here(const struct rpc_call *call, enum rpc_code code);

// rpc_call_run checks a call and runs its handler, or refuses it.
void rpc_call_run(struct rpc_batch *batch, struct rpc_call *call);

// rpc_call_is_for_draining looks whether a frame calls a method that is answered also while the server drains.
bool rpc_call_is_for_draining(const struct rpc_server *server, struct bytes_view frame);

// rpc_call_account counts a call and writes it to the log, when its reply is ready and before it leaves. Once for each
// call that is answered. stats_writer: the batch's, or RPC_STATS_SHARED.
void rpc_call_account(const struct rpc_call *call, enum rpc_code code, uint64_t now_us, unsigned stats_writer);

// rpc_call_refuse answers a message that never became a call. Returns as rpc_peer_send.
// reason is for programs, or NULL.
bool rpc_call_refuse(struct rpc_peer *peer, struct bytes_view route, enum err code, const char *message,
    const char *reason);

// rpc_batch_enter makes the batch the one of this thread, so that answers given on it are gathered; rpc_batch_leave
// ends that.
void rpc_batch_enter(struct rpc_batch *batch);
void rpc_batch_leave(void);

// rpc_batch_of returns the batch of this thread if it is of the same peer as the call, else NULL.
struct rpc_batch *rpc_batch_of(const struct rpc_call *call);

#endif
