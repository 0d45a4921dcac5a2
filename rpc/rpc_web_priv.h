// For rpc_web*.c only: the web listener's insides.
//
// Everything that touches libwebsockets runs on the listener's service thread. Other threads reach a connection through
// the rpc_transport_ops: they leave what they want under the connection's lock, put the connection on the listener's
// list of pending ones and wake the service thread, which looks at the list. Lock order: connection, then listener;
// neither is held while rpc_peer or libwebsockets is called.
#ifndef RPC_WEB_PRIV_H
#define RPC_WEB_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <libwebsockets.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_content.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_peer_priv.h"

enum {
    // What one read takes from a socket: small calls arrive many at a time, a chunk in a few hundred reads.
    WEB_READ_BYTES = 32 * 1024,
    // What one write offers to a socket, before the next connection has its turn.
    WEB_WRITE_BYTES = 256 * 1024,
    // Buffers that have grown beyond this are given back when they are empty.
    WEB_BUFFER_KEEP_BYTES = 64 * 1024,
    WEB_ADDRESS_MAX_BYTES = 64, // with its NUL
};

struct web_connection;
TAILQ_HEAD(web_connection_list, web_connection);
TAILQ_HEAD(web_content_list, rpc_content);

// What a wsi belongs to: the first member of it.
struct web_owner {
    enum {
        WEB_OWNER_STRANGER, // it has not said what it is
        WEB_OWNER_CONNECTION,
        WEB_OWNER_CONTENT,
    } kind;
};

struct web_listener {
    // Immutable after new.
    struct rpc_server *server;
    struct rpc_tls_server *tls; // NULL: without TLS
    struct lws_context *context;
    struct lws_vhost *vhost;
    pthread_t thread;
    bool has_thread;

    // Only on the service thread.
    struct lws *listening;                   // NULL when it has stopped
    size_t stranger_count;                   // sockets that have not become a connection yet
    struct web_connection_list connections;  // all of them
    struct web_connection_list with_batches; // those with messages since the last rpc_peer_batch_end
    struct web_content_list contents;        // HTTP requests being answered

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t has_stopped_changed;
        struct web_connection_list pending; // those that want something of the service thread
        struct web_content_list pending_contents;
        bool wants_stop;
        bool has_stopped;
        bool wants_end;
    } locked;
};

struct web_connection {
    struct web_owner owner; // first: the wsi has its address
    // Immutable after new.
    struct web_listener *listener;
    struct lws *wsi;
    struct rpc_peer *peer;
    bool is_subscriber;

    atomic_uint progress; // reads and writes so far
    // Only on the service thread.
    TAILQ_ENTRY(web_connection) link;
    TAILQ_ENTRY(web_connection) batch_link;
    bool has_batch;
    bool is_established;   // the upgrade has been answered
    bool is_closing;       // what is queued is written, then it ends
    struct bytes incoming; // the fragments of an unfinished message
    struct bytes sending;  // WebSocket frames being written
    size_t sent_bytes;     // of them

    // Guarded by the listener's lock.
    TAILQ_ENTRY(web_connection) pending_link;
    bool is_pending;

    struct {
        pthread_mutex_t mutex;
        struct bytes outgoing; // WebSocket frames to be written after those in `sending`
        size_t queued_bytes;   // in `outgoing` and `sending`
        bool is_closed;        // nothing more may be queued
        bool wants_flush;
        bool wants_reading_change;
        bool is_reading;
        bool wants_close;
        unsigned linger_ms;
    } locked;
};

// One request for content, and its answer.
struct rpc_content {
    struct web_owner owner; // first: the wsi has its address
    // Immutable after new.
    struct web_listener *listener;
    const struct rpc_content_handler *handler;
    struct lws *wsi;
    bool is_head;
    void *user;

    // Only on the service thread.
    TAILQ_ENTRY(rpc_content) link;
    bool has_begun;      // the head has been written
    uint64_t sent_bytes; // head and body, given to libwebsockets
    uint64_t stalled_at; // sent_bytes and those in the kernel when the timer looked last
    int stalled_unsent;

    // Guarded by the listener's lock.
    TAILQ_ENTRY(rpc_content) pending_link;
    bool is_pending;

    struct {
        pthread_mutex_t mutex;
        bool is_gone;  // the connection has ended
        bool is_asked; // an open or a next has not been answered
        bool is_aborted;
        struct bytes outgoing;
        uint64_t missing_bytes; // of the body, beyond `outgoing`
    } locked;
};

// rpc_web_http.c: what is answered in HTTP, before there is a connection. Service thread.

// web_http_answer writes a whole response. The caller then closes the connection by returning its result, -1.
int web_http_answer(struct lws *wsi, unsigned status, const char *text);

// web_http_request answers an ordinary request.
int web_http_request(struct web_listener *listener, struct lws *wsi);

// web_http_upgrade decides about a request for a WebSocket: 0 goes on with the upgrade, after the connection has been
// made; -1 closes, after the reason has been answered.
int web_http_upgrade(struct web_listener *listener, struct lws *wsi, const char *upgrade);

// rpc_web_content.c. Service thread.

// web_content_request takes a request that is for the server's content; false: it is not. *result_out is for
// libwebsockets.
bool web_content_request(struct web_listener *listener, struct lws *wsi, int *result_out);
// web_content_writable and _timer are libwebsockets' events; -1 closes.
int web_content_writable(struct rpc_content *content);
int web_content_timer(struct rpc_content *content);
// web_content_pending does what an answer has asked for.
void web_content_pending(struct rpc_content *content);
// web_content_free: the wsi is closing. What is outstanding keeps the memory.
void web_content_free(struct rpc_content **content);

// rpc_web_connection.c. Service thread.

// web_connection_new makes the connection with its peer and hands it to the wsi. ticket is NULL for calls.
// ERR_LIMIT, ERR_NOT_FOUND (no such ticket), ERR_NO_MEMORY.
enum err web_connection_new(struct web_listener *listener, struct lws *wsi, const char *ticket) ERR_CHECKED;

// web_connection_established, _received and _writable are libwebsockets' events; -1 closes.
int web_connection_established(struct web_connection *connection);
int web_connection_received(struct web_connection *connection, struct bytes_view data);
int web_connection_writable(struct web_connection *connection);

// web_connection_pending does what other threads have asked for.
void web_connection_pending(struct web_connection *connection);

// web_connection_free ends the peer as well. The wsi is closing.
void web_connection_free(struct web_connection **connection);

// rpc_web_socket.c

// web_socket_listen opens the socket of https://HOST:PORT or http://HOST:PORT. bound_url_out (RPC_URL_MAX_BYTES) has
// the port that it got. ERR_INVALID: not such a URL, or no such host; ERR_BUSY: the address is in use.
enum err web_socket_listen(const char *url, char *bound_url_out, int *fd_out, struct err_detail *why) ERR_CHECKED;

// rpc_web.c. Any thread.

// web_listener_wake lets the service thread look at the connection soon.
void web_listener_wake(struct web_listener *listener, struct web_connection *connection);
void web_listener_wake_content(struct web_listener *listener, struct rpc_content *content);

#endif
