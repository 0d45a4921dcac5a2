// The live side of the Chat service: who watches which room, and what is pushed to them.
//
// Functions may be called from any thread. What is published for one room must come from one thread, in order: the
// store's writer.
#ifndef CHAT_CHAT_FANOUT_H
#define CHAT_CHAT_FANOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_server.h"
#include "services/chat/chat_messages.h"

enum {
    CHAT_HEARTBEAT_MS = 15 * 1000,
    CHAT_SUBSCRIPTIONS_PER_USER_MAX = 64, // each may hold RPC_FEED_MAX_BYTES
};

struct chat_fanout;

// chat_subscription is one feed and the rooms that it watches.
struct chat_subscription;

// chat_fanout_new starts sending heartbeats every heartbeat_ms. The server outlives the feeds, not the fanout.
enum err chat_fanout_new(struct rpc_server *server, uint64_t heartbeat_ms, struct chat_fanout **out) ERR_CHECKED;

// chat_fanout_open makes a feed for the caller of a method and watches rooms with it from now on. The caller then reads
// whether the user is (still) a member of each, and where its head is: whatever is appended after that read is
// delivered. It ends with chat_subscription_release, after chat_subscription_close when the user may not have it.
// ERR_LIMIT: too many.
enum err chat_fanout_open(struct chat_fanout *fanout, const struct rpc_identity *owner, const struct chat_room *rooms,
    size_t room_count, struct chat_subscription **out, struct err_detail *why) ERR_CHECKED;

// chat_subscription_ticket is valid until the release.
const char *chat_subscription_ticket(const struct chat_subscription *subscription);
void chat_subscription_close(struct chat_subscription *subscription);
void chat_subscription_release(struct chat_subscription *subscription);

// chat_subscription_show lets others see that the user is there, as long as the subscription lasts. False, and nothing
// is shown: somebody has changed their setting since chat_fanout_presence_version, so the caller reads it again.
bool chat_subscription_show(struct chat_subscription *subscription, uint64_t presence_version) ERR_CHECKED;
uint64_t chat_fanout_presence_version(struct chat_fanout *fanout);

// chat_fanout_note_heads tells of a room's newest message and log entry, for its heartbeats.
void chat_fanout_note_heads(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES], uint64_t head_seq,
    uint64_t log_seq);

// chat_fanout_publish pushes a message to all who watch its room, chat_fanout_publish_log that the room's log has
// grown.
void chat_fanout_publish(struct chat_fanout *fanout, const struct chat_message *message);
void chat_fanout_publish_log(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES], uint64_t log_seq);

// chat_fanout_publish_typing tells the others that a user, who is a member, is writing; at most once a second.
void chat_fanout_publish_typing(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES],
    const struct chat_user *user);

// chat_fanout_publish_read tells the user's own subscriptions how far the user has read.
void chat_fanout_publish_read(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t user_id[CHAT_ID_BYTES], uint64_t read_seq);

// chat_fanout_set_shown changes whether others see the user, in the subscriptions that are open now.
void chat_fanout_set_shown(struct chat_fanout *fanout, const uint8_t user_id[CHAT_ID_BYTES], bool is_shown);

// chat_fanout_present makes an array of the names of those who watch a room and are shown, by name and each once. One
// free gives it back. ERR_NO_MEMORY.
enum err chat_fanout_present(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES], char ***names_out,
    size_t *count_out) ERR_CHECKED;

// chat_fanout_end_membership ends delivery of a room to a user: when it returns nothing more of it begins to leave but
// the event that says so.
void chat_fanout_end_membership(struct chat_fanout *fanout, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t user_id[CHAT_ID_BYTES]);

// chat_fanout_end_session closes the feeds of a session whose token has been revoked.
void chat_fanout_end_session(struct chat_fanout *fanout, const uint8_t session_id[CHAT_ID_BYTES]);

// chat_fanout_stop ends the heartbeats, closes the feeds and refuses new ones. Twice is no error. Not while the
// server's timers wait for the caller.
void chat_fanout_stop(struct chat_fanout *fanout);

// chat_fanout_free comes after the server has been freed, when every feed has been closed.
void chat_fanout_free(struct chat_fanout **fanout);

#endif
