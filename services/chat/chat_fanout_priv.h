// For chat_fanout.c and chat_events.c: who watches which room. Told in chat_fanout.c.
#ifndef CHAT_CHAT_FANOUT_PRIV_H
#define CHAT_CHAT_FANOUT_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/timer.h"
#include "rpc/rpc_feed_group.h"
#include "services/chat/chat_fanout.h"
#include "services/chat/chat_wire.h"

enum {
    CHAT_TYPISTS_MAX = 8, // more than these at once are not told of
};

struct typist {
    uint8_t user_id[CHAT_ID_BYTES];
    uint64_t typed_ms; // on clock_monotonic_ms; 0: nobody
};

struct watch {
    LIST_ENTRY(watch) in_room;
    struct rpc_feed_member member; // of the room's group
    struct watched_room *room;     // NULL: ended
    struct chat_subscription *subscription;
};

struct watched_room {
    uint8_t room_id[CHAT_ID_BYTES];
    uint64_t head_seq;
    uint64_t log_seq;
    struct typist typists[CHAT_TYPISTS_MAX]; // who have written in the last second
    LIST_HEAD(, watch) watches;
    struct rpc_feed_group *group;
    UT_hash_handle hh;
};

struct chat_subscription {
    // Immutable after open.
    struct chat_fanout *fanout;
    uint8_t user_id[CHAT_ID_BYTES];
    char user_name[RPC_SUBJECT_NAME_MAX_BYTES];
    uint8_t session_id[CHAT_ID_BYTES];
    int64_t expires_unix_ms; // the session

    // Under the fanout's lock.
    struct rpc_feed *feed; // set once, while open holds a reference
    LIST_ENTRY(chat_subscription) in_fanout;
    unsigned references;
    bool is_closing; // rpc_feed_close has been called or is about to be
    bool is_closed;  // on_closed has been called
    bool is_shown;   // others may see that the user is there
    size_t watch_count;
    struct watch watches[];
};

struct chat_fanout {
    // Immutable after new.
    struct rpc_server *server;
    uint64_t heartbeat_ms;

    struct timer heartbeat;
    pthread_mutex_t mutex;
    struct {
        struct watched_room *rooms; // hash table
        LIST_HEAD(, chat_subscription) subscriptions;
        struct bytes scratch;      // for encoding
        uint64_t presence_version; // grows when somebody changes whether they are shown
        bool is_stopping;
    } locked;
};

// chat_fanout_find_locked finds a room that is watched, or NULL.
struct watched_room *chat_fanout_find_locked(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES]);

// chat_events_encode_locked encodes an event into the scratch buffer. Without memory an event is left out: the next
// heartbeat tells its receivers to fetch it.
bool chat_events_encode_locked(struct chat_fanout *fanout, Fc__Chat__V1__Event *event);

// chat_events_push_locked pushes an event to all who watch the room.
void chat_events_push_locked(struct chat_fanout *fanout, struct watched_room *room, Fc__Chat__V1__Event *event);

// chat_events_heartbeat_locked pushes the room's numbers.
void chat_events_heartbeat_locked(struct chat_fanout *fanout, struct watched_room *room);

// chat_events_presence_locked tells the others in a room that a user has come or gone, unless another subscription
// shows the user there as well.
void chat_events_presence_locked(struct chat_fanout *fanout, struct watched_room *room,
    const struct chat_subscription *subscription, bool is_present);

#endif
