// The client's side: a channel to one server, and calls on it.
//
// The channel connects when a call needs it. While that fails it pauses between attempts, first for 100 ms, then each
// time 1.6 times as long, plus or minus a fifth. A call that comes in a pause fails at once with UNAVAILABLE, naming
// the address, the cause and when the next attempt is due; one that is waiting for ready (see below) waits for a
// connection within its deadline. After a connection was lost the next call connects at once.
//
// A call that its caller declares idempotent is sent again, under the same request id, when its connection was lost or
// the server said UNAVAILABLE, or RESOURCE_EXHAUSTED with a time to retry after: up to four times in all, within its
// deadline, after pauses as above, and no earlier than the server asked for. From its second attempt on it waits for a
// connection. A channel spends at most ten retries and one more for each ten calls that succeed, so that a server in
// trouble is not made to answer every call four times. All other calls are sent once at most, but for those that a
// server refuses saying that it has not begun them (the reason NOT_EXECUTED, as while it shuts down): they are sent
// again likewise.
//
// With several addresses the channel has one connection for each that it uses. RPC_PICK_FIRST tries them one after the
// other and stays with the first that works; when that is lost it moves on to the next. The other strategies connect to
// all and choose for each call. The pauses are each address's own. A call fails for want of a connection only when no
// address has one or is about to; and a server that said UNAVAILABLE is not asked for a second while others are
// connected. A server that says that it shuts down gets no further calls, and answers those that it has. What makes
// calls on one server differ from those on another, as a ticket that only one knows, is the caller's concern.
//
// Calls are made with functions that are generated for each service (chat.stub.h beside chat.pb-c.h), which say the
// types of a method:
//
//     struct rpc_unary call;
//     const Fc__Chat__V1__SendResponse *response = NULL;
//     fc_chat_v1_chat_init(&call, channel);
//     err = fc_chat_v1_chat_send(&call, &request, &response);
//     ...
//     rpc_unary_deinit(&call);
//
// or protobuf-c's own, since a struct rpc_unary is a ProtobufCService; rpc_client_stream.h is for methods that stream.
#ifndef RPC_CHANNEL_H
#define RPC_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_backoff.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_metadata.h"
#include "rpc/rpc_status.h"
#include "rpc/rpc_strategy.h"
#include "rpc/rpc_tls.h"

struct rpc_channel;
struct rpc_client_stream;
struct rpc_connection;

struct rpc_channel_options {
    const char *url;             // tls+tcp://HOST:PORT, tcp://HOST:PORT or ipc://PATH, or up to RPC_SERVERS_MAX of them
                                 // with commas between; copied
    enum rpc_strategy strategy;  // among several
    struct rpc_tls_client *tls;  // whom to trust behind tls+tcp://, which needs it; the channel keeps it
    unsigned connect_timeout_ms; // 0: 5,000
    uint32_t longest_backoff_ms; // between attempts to connect; 0: 30,000
    unsigned keepalive_ms; // a server that has been silent for this long while calls wait for it is asked for a sign
                           // of life, and its connection closed after as long again; 0: 10,000
};

// rpc_channel_new checks the options (ERR_INVALID) and opens nothing yet. Any thread may use a channel.
enum err rpc_channel_new(const struct rpc_channel_options *options, struct rpc_channel **out,
    struct err_detail *why) ERR_CHECKED;

// rpc_channel_set_token sets what later calls carry; NULL for none. Copied, and wiped when replaced or freed.
// ERR_TOO_BIG, ERR_NO_MEMORY.
enum err rpc_channel_set_token(struct rpc_channel *channel, const char *token) ERR_CHECKED;

// rpc_channel_connect begins to connect, as the first call otherwise does, and does not wait for it. Calls tell when it
// fails.
void rpc_channel_connect(struct rpc_channel *channel);

const char *rpc_channel_url(const struct rpc_channel *channel);

// rpc_channel_received_bytes is how many bytes have come from its servers in all: a large answer can be seen to grow.
uint64_t rpc_channel_received_bytes(struct rpc_channel *channel);

// rpc_channel_free cancels the calls in flight, which complete with CANCELLED, and waits for their callbacks. At any
// time, also while it connects or pauses; not from one of the callbacks.
void rpc_channel_free(struct rpc_channel **channel);

struct rpc_unary;

// rpc_unary_done_fn runs once when the call has ended, on a thread of the channel; it must not block. It may deinit the
// call and may start others.
typedef void rpc_unary_done_fn(struct rpc_unary *call);

// rpc_unary is one call. Initialised by rpc_unary_init, then the public fields may be set, then a generated function
// starts it. It is used for one call only and must stay where it is until the call has ended.
struct rpc_unary {
    ProtobufCService service; // first, so that the generated functions take its address

    // Public, before the start.
    uint32_t timeout_ms;                      // RPC_TIMEOUT_DEFAULT_MS
    uint8_t request_id[RPC_REQUEST_ID_BYTES]; // random; set it to repeat an earlier call
    bool is_waiting_for_ready;                // has it wait while the server cannot be reached, rather than fail
    const struct rpc_metadata *metadata;      // sent along; borrowed until the start
    size_t metadata_count;
    bool is_idempotent; // changes nothing, or executes once for each request id, as all methods of this project do that
                        // a user calls: it may be sent again. Its request is kept in memory until it has ended
    rpc_unary_done_fn *on_done; // NULL: somebody calls rpc_unary_wait
    void *context;              // the caller's

    // Public, after the end.
    struct rpc_status status;
    bool was_sent; // handed to a connection: also after a failure the server may have executed it. False when it was
                   // never reached

    // Private to the channel.
    struct rpc_channel *channel;
    struct rpc_client_stream *stream;       // that it is part of; NULL: one request, one response
    struct rpc_metadata *response_metadata; // in header_arena
    size_t response_metadata_count;
    struct arena header_arena; // holds it
    ProtobufCMessage *response;
    const ProtobufCMessageDescriptor *response_type; // NULL: a raw call
    struct bytes raw_response;
    struct arena response_arena; // holds it
    struct bytes response_bytes; // what its fields of bytes point into, when the answer was large
    ProtobufCClosure closure;
    void *closure_data;
    struct { // guarded by the channel's lock
        TAILQ_ENTRY(rpc_unary) link;
        struct rpc_unary *next_in_bucket;
        int state;
        uint32_t id;
        struct rpc_connection *connection; // that it was sent on
        uint64_t sent_us;                  // when; with RPC_TWO_CHOICES
        uint64_t deadline_ms;
        uint64_t retry_ms;          // while it pauses
        struct rpc_backoff backoff; // of its retries
        bool is_cancelled;          // while claimed by another
        struct bytes frame;         // until the end, unless bulk was sent with it and it is not idempotent
        void *waiter;
    } locked;
};

// rpc_unary_init prepares a call of a method of this service. It allocates nothing.
void rpc_unary_init(struct rpc_unary *call, struct rpc_channel *channel, const ProtobufCServiceDescriptor *service);

// rpc_unary_start_raw starts a call whose messages are encoded and decoded elsewhere, of a method named as
// "package.Service/Method". The call was initialised without a service (NULL). The request is copied.
void rpc_unary_start_raw(struct rpc_unary *call, const char *method, struct bytes_view request);

// rpc_unary_wait blocks until the call has ended and returns its status as an error; call->status has the explanation.
// Not from a callback, and not when on_done is set.
enum err rpc_unary_wait(struct rpc_unary *call) ERR_CHECKED;

// rpc_unary_response is the unpacked response after success, of the type that the method returns; else NULL. It belongs
// to the call.
const void *rpc_unary_response(const struct rpc_unary *call);

// rpc_unary_raw_response is the encoded response of a raw call after success. It belongs to the call, and nothing about
// it has been checked.
struct bytes_view rpc_unary_raw_response(const struct rpc_unary *call);

// rpc_unary_metadata is what came with the answer, also with an error. Valid until rpc_unary_deinit; index < count.
size_t rpc_unary_metadata_count(const struct rpc_unary *call);
struct rpc_metadata rpc_unary_metadata(const struct rpc_unary *call, size_t index);

// rpc_unary_cancel ends the call with CANCELLED, unless it has ended already. The server is told, and may have executed
// it.
void rpc_unary_cancel(struct rpc_unary *call);

// rpc_unary_deinit frees the response. After the end only.
void rpc_unary_deinit(struct rpc_unary *call);

#endif
