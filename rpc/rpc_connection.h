// For rpc_channel.c: the connection to one address. It is made when it is asked for, and made again after it was lost,
// with growing pauses while that fails.
//
// The mutex is the owner's. It guards the `locked` part, is held by those who call functions that end in _locked, and
// by the connection when it calls handlers that do.
#ifndef RPC_CONNECTION_H
#define RPC_CONNECTION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_backoff.h"
#include "rpc/rpc_dial.h"
#include "rpc/rpc_nng.h"
#include "rpc/rpc_unary_table.h"
#include "rpc/sp_pipe.h"

struct rpc_connection;

enum rpc_connection_state {
    RPC_CONNECTION_IDLE,        // connects at once when it is asked to
    RPC_CONNECTION_CONNECTING,  // until the server has shaken hands
    RPC_CONNECTION_READY,       // calls can be sent
    RPC_CONNECTION_LEAVING,     // the server shuts down: calls in flight are answered, and no others can be sent
    RPC_CONNECTION_ENDING,      // was ready and is lost; on_down_locked comes
    RPC_CONNECTION_BACKING_OFF, // the last attempt has failed; the next one begins at next_attempt_ms or later
};

// The handlers run on nng's threads. Those that are given a list may put calls there that have ended; the connection
// hands them to complete_all once it has given up the lock.
struct rpc_connection_handlers {
    void (*on_ready_locked)(void *owner, struct rpc_connection *connection, struct rpc_unary_list *ended);
    void (*on_message)(void *owner, struct rpc_connection *connection, struct sp_message *message);
    // The server shuts down: the connection takes no more calls, and locked.cause says so.
    void (*on_leaving_locked)(void *owner, struct rpc_connection *connection, struct rpc_unary_list *ended);
    void (*on_batch_end)(void *owner, struct rpc_connection *connection);
    // An attempt has failed, or a connection that was ready is lost: locked.cause says why. The connection is backing
    // off or idle.
    void (
        *on_down_locked)(void *owner, struct rpc_connection *connection, bool was_ready, struct rpc_unary_list *ended);
    void (*complete_all)(void *owner, struct rpc_unary_list *ended);
};

struct rpc_connection {
    // Immutable after they were set by the owner.
    const struct rpc_connection_handlers *handlers;
    void *owner;
    pthread_mutex_t *mutex;
    pthread_cond_t *quiet; // signalled when `active` falls
    struct rpc_url url;
    struct rpc_tls_client *tls; // the owner's; NULL without TLS
    unsigned connect_timeout_ms;

    struct {
        enum rpc_connection_state state;
        bool is_closing; // for good
        // At most one of the two.
        struct rpc_dial *dial;
        struct sp_pipe *pipe;
        unsigned active; // attempts and pipes whose last callback has not returned
        struct rpc_backoff backoff;
        uint64_t next_attempt_ms;
        uint64_t received_bytes; // over pipes that have ended

        // What the server has said of itself, and whether it lives. Anew with each connection.
        bool takes_flags;
        uint32_t cpu_permille;
        unsigned seen_progress; // of the pipe, at the last look
        uint64_t progress_ms;   // when it was another one
        uint64_t pinged_ms;
        bool is_pinged;          // and has given no sign of life since
        bool is_dead;            // and was closed for it
        struct err_detail cause; // why it is not connected, once it has failed
        enum err reason;         // the same: ERR_UNTRUSTED and ERR_DENIED, which waiting does not help, else
                                 // ERR_UNAVAILABLE
    } locked;
};

// rpc_connection_is_due_locked: asked to connect it would try now.
bool rpc_connection_is_due_locked(const struct rpc_connection *connection, uint64_t now_ms);

// rpc_connection_connect_locked begins an attempt when one is due, else does nothing. ERR_NO_MEMORY and the like.
enum err rpc_connection_connect_locked(struct rpc_connection *connection, uint64_t now_ms) ERR_CHECKED;

// rpc_connection_send_locked queues a message on a connection that is ready; the caller flushes the pipe. ERR_CLOSED:
// it is ready no longer.
enum err rpc_connection_send_locked(struct rpc_connection *connection, const struct bytes_view *parts,
    size_t part_count) ERR_CHECKED;

// A frame with flags.
struct rpc_flagged {
    uint8_t flags;
    const ProtobufCMessage *header;  // NULL: none
    const ProtobufCMessage *message; // NULL: `encoded` is it
    struct bytes_view encoded;
};

// rpc_connection_frame_locked queues a frame with flags, also while the server leaves. One that cannot be sent is lost
// with its connection. The caller flushes.
void rpc_connection_frame_locked(struct rpc_connection *connection, uint32_t id, const struct rpc_flagged *flagged);

// rpc_connection_cancel_locked tells the server that a call is given up, if it takes that. Flushes.
void rpc_connection_cancel_locked(struct rpc_connection *connection, uint32_t id);

// rpc_connection_hello_locked is the first that is said on a connection.
void rpc_connection_hello_locked(struct rpc_connection *connection);

// rpc_connection_control_locked takes what the server says about the connection: the frame, without its request id.
void rpc_connection_control_locked(struct rpc_connection *connection, struct bytes_view data,
    struct rpc_unary_list *ended);

// rpc_connection_look_locked asks a server that has been silent for keepalive_ms for a sign of life, and closes the
// connection when as long again has passed without one. With load_ms, that is how often it is asked for its load.
void rpc_connection_look_locked(struct rpc_connection *connection, uint64_t now_ms, unsigned keepalive_ms,
    unsigned load_ms);

// rpc_connection_received_locked is how many bytes have come in all, over this connection and those before.
uint64_t rpc_connection_received_locked(const struct rpc_connection *connection);

// rpc_connection_close_locked ends it for good. The owner waits until `active` is 0 before it frees the memory.
void rpc_connection_close_locked(struct rpc_connection *connection);

#endif
