// The Chat service: rooms, messages, subscriptions. fc.chat.v1.Chat
#ifndef CHAT_CHAT_SERVICE_H
#define CHAT_CHAT_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"
#include "rpc/rpc_server.h"
#include "services/chat/chat_messages.h"
#include "services/chat/chat_people.h"
#include "services/chat/chat_sealed.h"
#include "services/store/store.h"

struct chat_service;

struct chat_service_options {
    struct store *store;
    struct rpc_server *server; // for feeds and timers
    // Says what is known of a file that is shared with a room: ERR_NOT_FOUND if it is not. Inside the transaction of
    // the message. NULL: no file can be announced.
    chat_find_file_fn *find_shared_file;
    // Reads the chain of a user, who seals messages. NULL: nobody has keys.
    chat_find_chain_fn *find_chain;
    // Say who has a name, or which name somebody has: ERR_NOT_FOUND if nobody. NULL: nobody can be added by name.
    chat_find_user_fn *find_user;
    chat_find_user_name_fn *find_user_name;
    void *context;               // of all these
    uint32_t sends_per_second;   // messages that a user may send; 0: no limit
    uint32_t max_rooms_per_user; // that a user is in or invited to; 0: CHAT_ROOMS_PER_USER_DEFAULT
    uint32_t max_members;        // of a room, with those invited; 0: E2E_ROOM_MEMBERS_MAX
};

enum err chat_service_new(const struct chat_service_options *options, struct chat_service **out,
    struct err_detail *why) ERR_CHECKED;
ProtobufCService *chat_service_rpc(struct chat_service *chat);
const struct rpc_method_rule *chat_service_rules(size_t *count_out);

// chat_service_find_member_room finds a room by name or id in hexadecimal for a user who is in it. ERR_NOT_FOUND: no
// such room that the user may see; ERR_DENIED: not a member. For the sibling that shares files with rooms, inside its
// transaction.
struct chat_room_ref {
    uint8_t room_id[16];
    char name[65];
};
enum err chat_service_find_member_room(struct chat_service *chat, struct store_tx *tx, const char *room,
    const uint8_t user_id[16], struct chat_room_ref *out, struct err_detail *why) ERR_CHECKED;

// chat_service_is_member says whether a user is in a room now.
enum err chat_service_is_member(struct chat_service *chat, struct store_tx *tx, const uint8_t room_id[16],
    const uint8_t user_id[16], bool *is_member_out) ERR_CHECKED;

// chat_service_is_encrypted says whether what a room's members send is sealed for them.
enum err chat_service_is_encrypted(struct chat_service *chat, struct store_tx *tx, const uint8_t room_id[16],
    bool *is_encrypted_out) ERR_CHECKED;

// chat_service_device_revoked makes the next senders in all encrypted rooms of a user rekey first, since one of the
// user's devices has ended. Inside the transaction that ends it.
enum err chat_service_device_revoked(struct chat_service *chat, struct store_tx *tx,
    const uint8_t user_id[16]) ERR_CHECKED;

// chat_service_end_session ends the subscriptions of a session whose token has been revoked. Any thread.
void chat_service_end_session(struct chat_service *chat, const uint8_t session_id[16]);

// chat_service_stop closes the subscriptions and timers; before the server is freed. chat_service_free comes after it,
// and waits for the changes that the store still has to make.
void chat_service_stop(struct chat_service *chat);
void chat_service_free(struct chat_service **chat);

#endif
