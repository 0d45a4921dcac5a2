// A group of feeds that get the same payloads, under one topic: all who follow a room.
//
// A payload is kept once for all members. A thread of the server's goes from member to member and hands each what it
// has not had yet, so that what is pushed while it is on its way leaves together, in one write for each of the rest. A
// push never writes to more than a few members itself.
#ifndef RPC_FEED_GROUP_H
#define RPC_FEED_GROUP_H

#include <stdint.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_feed.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_server.h"

enum {
    // What a group keeps for members that have not had it; of more the oldest is forgotten, as by a feed that is full.
    RPC_FEED_GROUP_MAX_BYTES = 16 * 1024 * 1024,
};

struct rpc_feed_group;

// rpc_feed_member is a feed's place in a group. Storage is the caller's; zero it at first.
struct rpc_feed_member {
    // Private.
    TAILQ_ENTRY(rpc_feed_member) link;
    struct rpc_feed_group *group; // NULL: in none
    struct rpc_feed *feed;
    uint64_t had; // of the group's bytes, counted from its beginning
};

enum err rpc_feed_group_new(struct rpc_server *server, const uint8_t topic[RPC_TOPIC_BYTES],
    struct rpc_feed_group **out) ERR_CHECKED;

// rpc_feed_group_free comes when there are no members any more.
void rpc_feed_group_free(struct rpc_feed_group **group);

// rpc_feed_group_add gives the feed what is pushed from now on, and maybe what was pushed just before. The feed
// outlives its membership.
void rpc_feed_group_add(struct rpc_feed_group *group, struct rpc_feed_member *member, struct rpc_feed *feed);

// rpc_feed_group_remove ends it: when it returns nothing more goes to the feed. In no group is no error.
void rpc_feed_group_remove(struct rpc_feed_member *member);

// rpc_feed_group_push queues a copy for all members, in the order of the pushes. Any thread; does not wait for members.
// ERR_NO_MEMORY: nobody gets it.
enum err rpc_feed_group_push(struct rpc_feed_group *group, struct bytes_view payload) ERR_CHECKED;

// rpc_feed_group_push_one queues a copy for one member, behind all that was pushed to the group before. Without memory
// the member does not get it.
void rpc_feed_group_push_one(struct rpc_feed_member *member, struct bytes_view payload);

#endif
