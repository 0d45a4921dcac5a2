// For the listeners inside rpc/ only: the server's side of one connected party, whatever carries it.
//
// A listener (native or web) owns the connection, tells the peer what arrives, and carries out the transport
// operations. The peer keeps the calls in flight, the token that was last checked, and the feed, if it is a subscriber.
#ifndef RPC_PEER_PRIV_H
#define RPC_PEER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_content.h"
#include "rpc/rpc_server.h"

struct rpc_peer;

// What a listener does for a peer. Any thread may call these, until the listener has called rpc_peer_closed; none
// blocks or calls back into the peer from inside.
struct rpc_transport_ops {
    // Queues the parts as one message, without starting to write. ERR_CLOSED, ERR_NO_MEMORY.
    enum err (*queue)(void *transport, const struct bytes_view *parts, size_t part_count);
    // Starts to write what is queued.
    void (*flush)(void *transport);
    // Whether everything queued has been written. If not, rpc_peer_drained follows. NULL: it follows every write.
    bool (*tell_drained)(void *transport);
    size_t (*queued_bytes)(void *transport);
    // Counts signs of life of the other end: a number that is still the same tells of a silence.
    unsigned (*progress)(void *transport);
    void (*set_reading)(void *transport, bool is_reading);
    void (*close)(void *transport, unsigned linger_ms);
};

// rpc_peer_new counts against max_connections: ERR_LIMIT. ERR_CLOSED: the server drains. address is copied, for logs.
// Of the functions below a listener calls one at a time for a peer; each receive is followed by a batch_end.
enum err rpc_peer_new(struct rpc_server *server, const struct rpc_transport_ops *ops, void *transport,
    const char *address, struct rpc_peer **out) ERR_CHECKED;

// rpc_peer_receive takes one message of a REQ peer: the request id with what was in front of it, and a frame. When
// `large` is not NULL it holds `data` and may be taken. Never blocks; answers and handlers run elsewhere. ERR_PROTOCOL
// or ERR_NO_MEMORY: the listener closes the connection.
enum err rpc_peer_receive(struct rpc_peer *peer, struct bytes_view data, struct bytes *large) ERR_CHECKED;

// rpc_peer_batch_end wakes the workers for what rpc_peer_receive has taken since the last time.
void rpc_peer_batch_end(struct rpc_peer *peer);

// rpc_peer_subscribe makes the peer a subscriber. ERR_NOT_FOUND: no such ticket, used or expired.
enum err rpc_peer_subscribe(struct rpc_peer *peer, struct bytes_view ticket) ERR_CHECKED;

// rpc_peer_drained: everything queued has been written.
void rpc_peer_drained(struct rpc_peer *peer);

// rpc_peer_closed: the connection has gone. Drops queued calls and ends the feed. The transport's operations are never
// called again once it has returned, and the peer is freed when the last call in flight has been answered.
void rpc_peer_closed(struct rpc_peer *peer);

// rpc_server_tls is the certificate for listeners; NULL: there is none.
struct rpc_tls_server *rpc_server_tls(struct rpc_server *server);

// rpc_server_content is what web listeners serve beside calls; NULL: nothing.
const struct rpc_content_handler *rpc_server_content(const struct rpc_server *server);

// A listener, as the server keeps it. The table of schemes in rpc_server.c names the constructors.
struct rpc_listener_ops {
    // Stops accepting, keeps the connections.
    void (*stop)(void *listener);
    // Closes the connections as well, waits until all of them are gone, and frees the listener.
    void (*free)(void *listener);
};

enum err rpc_native_listen(struct rpc_server *server, const char *url, char *bound_url_out, void **listener_out,
    struct err_detail *why) ERR_CHECKED;
enum err rpc_web_listen(struct rpc_server *server, const char *url, char *bound_url_out, void **listener_out,
    struct err_detail *why) ERR_CHECKED;
extern const struct rpc_listener_ops rpc_native_listener_ops;
extern const struct rpc_listener_ops rpc_web_listener_ops;

#endif
