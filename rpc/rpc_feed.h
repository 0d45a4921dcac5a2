// Subscriptions on the server: what is published to the holder of a ticket.
//
// A service creates a feed, tells its client the ticket, and pushes payloads under 16-byte topics. A SUB peer that
// presents the ticket gets them, each message being a topic followed by payloads of that topic, concatenated: for
// encoded protobuf messages the concatenation is the encoding of their merge, so repeated fields gather into one batch
// without being decoded.
//
// What has gathered while the connection was writing leaves together; when it is idle a payload leaves at once. A feed
// holds at most RPC_FEED_MAX_BYTES: beyond that a topic keeps only its newest payload, and the receiver sees the gap by
// the numbers inside.
#ifndef RPC_FEED_H
#define RPC_FEED_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_server.h"

enum {
    RPC_FEED_MAX_BYTES = 1024 * 1024, // for one subscriber
};

struct rpc_feed;

// rpc_feed_closed_fn runs once, on any thread, when the connection has gone, the ticket was never used, rpc_feed_close
// was called, or the server drains. It must not block. The service then forgets the feed and calls rpc_feed_release.
typedef void rpc_feed_closed_fn(void *context, struct rpc_feed *feed);

// rpc_feed_new makes a feed with a ticket that is valid for RPC_TICKET_LIFETIME_MS and one connection. What is pushed
// before the connection comes waits for it. ERR_LIMIT: too many feeds.
enum err rpc_feed_new(struct rpc_server *server, rpc_feed_closed_fn *on_closed, void *context,
    struct rpc_feed **out) ERR_CHECKED;

// rpc_feed_ticket is printable ASCII of at most RPC_TICKET_MAX_BYTES. A secret. Valid as long as the feed.
const char *rpc_feed_ticket(const struct rpc_feed *feed);

// rpc_feed_push queues a copy and starts writing it if nothing is being written. Any thread; order is kept within a
// topic. Never blocks.
void rpc_feed_push(struct rpc_feed *feed, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload);

// rpc_feed_drop_topic discards what is queued under a topic: after it returns nothing pushed before it begins to leave.
void rpc_feed_drop_topic(struct rpc_feed *feed, const uint8_t topic[RPC_TOPIC_BYTES]);

// rpc_feed_close ends the subscription; on_closed follows.
void rpc_feed_close(struct rpc_feed *feed);

// rpc_feed_release gives up the service's reference. Only after on_closed, also from inside it.
void rpc_feed_release(struct rpc_feed *feed);

#endif
