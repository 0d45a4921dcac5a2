// The server: listeners, services, dispatch, limits.
//
// What comes in is checked in this order, and refused by the first that fails: size, limits on calls in flight, frame,
// method, the method's rule (token, largest request), calls a second, deadline, message. Only then a handler runs, on
// one of the worker threads. Workers take turns among connections, a batch from each, so that no connection with many
// calls outstanding holds up the others.
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/timer.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_server_stream.h"
#include "rpc/rpc_tls.h"

struct rpc_server;

// rpc_authenticate_fn says whose token this is. Any worker thread, several at once; it may read a database but must not
// wait for long. ERR_UNAUTHENTICATED for one that is unknown, expired or revoked; the caller of the method is told so.
typedef enum err rpc_authenticate_fn(void *context, struct bytes_view token, struct rpc_identity *identity_out);

// All zero but authenticate means the defaults in brackets.
struct rpc_server_options {
    rpc_authenticate_fn *authenticate; // NULL: no method may ask for a token
    void *authenticate_context;
    struct rpc_tls_server *tls;            // for listeners with TLS; outlives the server. NULL: there can be none
    unsigned worker_threads;               // [4]
    size_t max_connections;                // [10,000] further ones are closed at once
    size_t max_calls_per_connection;       // [1,024] further ones are RESOURCE_EXHAUSTED
    size_t max_calls;                      // [16,384] in all
    size_t max_streams_per_connection;     // [128] of those calls; further ones are RESOURCE_EXHAUSTED
    size_t max_received_bytes;             // [256 MiB] requests held in all; beyond it connections are not read
    size_t max_reply_bytes_per_connection; // [16 MiB] waiting to be written; beyond it the connection is not read
    uint32_t calls_per_second; // [no limit] of a user, or of an address as long as there is no user; RESOURCE_EXHAUSTED
    unsigned keepalive_ms;     // [30,000] a client that takes frames with flags and has been silent for this long is
                               // pinged, and cut off after as long again
    bool has_public_metrics;   // /metrics of the web listener is for everyone, not for this machine only
};

enum rpc_access {
    RPC_ACCESS_TOKEN,  // a valid token; the default of a zeroed rule
    RPC_ACCESS_PUBLIC, // anyone
    RPC_ACCESS_ALWAYS, // anyone, also while the server drains, when all others are refused
    RPC_ACCESS_ADMIN,  // a token with is_admin
};

// rpc_method_rule is policy as data: one row for each method of a service.
struct rpc_method_rule {
    const char *method; // short name, as in the .proto
    enum rpc_access access;
    size_t max_request_bytes;                 // 0: RPC_UNARY_DEFAULT_MAX_BYTES; of a streaming method for each message
    const struct rpc_stream_handlers *stream; // of a streaming method, which has no handler in the service; else NULL
    bool executes_once; // for each request id of a user: a resend gets the answer of the first attempt. For what
                        // changes something and has no store that sees to it; does not hold over a restart
};

enum err rpc_server_new(const struct rpc_server_options *options, struct rpc_server **out) ERR_CHECKED;

// rpc_server_add_service makes the methods of a generated service callable. The service and the rules stay the caller's
// and outlive the server. Before the first rpc_server_listen. ERR_INVALID: a method without a rule or handler, or a
// rule without a method.
enum err rpc_server_add_service(struct rpc_server *server, ProtobufCService *service,
    const struct rpc_method_rule *rules, size_t rule_count) ERR_CHECKED;

// rpc_server_describe lets fc.rpc.v1.Reflection, which every server has, tell what these services take and return. The
// set is an encoded google.protobuf.FileDescriptorSet, as fc_proto embeds it; it is borrowed and outlives the server.
// Before the first rpc_server_listen. ERR_INVALID: it cannot be read.
enum err rpc_server_describe(struct rpc_server *server, struct bytes_view descriptor_set) ERR_CHECKED;

// rpc_metric is a figure that a service adds to those of the server (rpc_stats.h).
struct rpc_metric {
    const char *name;                // "fc_" and words in lower case; a counter's ends in "_total"
    const char *help;                // a sentence
    bool is_counter;                 // it only grows; others go up and down
    uint64_t (*read)(void *context); // any thread, several at once; must not wait
    void *context;
};

// rpc_server_add_metric copies the struct; what it points to outlives the server. Before the first rpc_server_listen.
// ERR_NO_MEMORY.
enum err rpc_server_add_metric(struct rpc_server *server, const struct rpc_metric *metric) ERR_CHECKED;

// rpc_server_listen opens one more listener: tls+tcp://HOST:PORT, tcp://HOST:PORT, ipc://PATH, https://HOST:PORT or
// http://HOST:PORT. Port 0 takes a free one; bound_url_out gets the URL as it really is. A stale ipc socket file is
// replaced. ERR_BUSY: the address is in use; ERR_INVALID: not such a URL. `why` says which.
enum err rpc_server_listen(struct rpc_server *server, const char *url, char bound_url_out[RPC_URL_MAX_BYTES],
    struct err_detail *why) ERR_CHECKED;

// How busy a server is.
struct rpc_load {
    uint32_t cpu_permille; // this process's share of all processors, measured every half second
    uint32_t calls_in_flight;
    uint32_t connections;
};

void rpc_server_read_load(struct rpc_server *server, struct rpc_load *out);

// rpc_server_timers is the server's timer thread, for services that need one too.
struct timer_queue *rpc_server_timers(struct rpc_server *server);

// rpc_server_forget_tokens makes connections ask authenticate again for every token, after one has been revoked.
void rpc_server_forget_tokens(struct rpc_server *server);

// rpc_server_drain closes the listeners, lets calls in flight finish for at most timeout_ms, writes their answers, and
// closes the connections. New calls meanwhile are UNAVAILABLE. Blocks; not from a handler.
void rpc_server_drain(struct rpc_server *server, unsigned timeout_ms);

// rpc_server_free drains with no patience if rpc_server_drain was not called, and frees. After it no handler runs.
void rpc_server_free(struct rpc_server **server);

#endif
