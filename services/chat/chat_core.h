// The rooms of the Chat service as users see them (how they change: chat_rooms.h; messages: chat_messages.h). No wire,
// no subscriptions.
//
// Every function works inside the caller's transaction: those that change something in a store_job, the others also in
// a store_read. `why` (may be NULL) says what a person can do about an error.
#ifndef CHAT_CHAT_CORE_H
#define CHAT_CHAT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"
#include "e2e/e2e_room.h"
#include "services/store/store.h"

enum {
    CHAT_ID_BYTES = 16,
    CHAT_ROOMS_PAGE_MAX = 1000,
};

// chat_user is who acts; it borrows.
struct chat_user {
    const uint8_t *id; // CHAT_ID_BYTES
    const char *name;
};

// chat_room is a room as one user sees it.
struct chat_room {
    uint8_t id[CHAT_ID_BYTES];
    char name[TEXT_ROOM_NAME_MAX_BYTES + 1];      // of a direct room "@" and the other's
    char sort_name[TEXT_ROOM_NAME_MAX_BYTES + 1]; // by which rooms are listed
    char topic[E2E_TOPIC_MAX_BYTES + 1];
    Fc__E2e__V1__RoomKind kind;
    Fc__E2e__V1__History history;
    bool is_plain;
    bool is_archived;
    uint64_t head_seq; // the newest message; 0: none
    uint64_t log_seq;
    uint8_t log_hash[E2E_HASH_BYTES]; // of an encrypted room
    uint32_t member_count;
    int64_t created_at_ms;

    // Of the user.
    bool is_member;
    bool is_invited;
    Fc__E2e__V1__Role role;
    uint64_t read_seq;
    uint32_t unread_count; // filled by whoever answers with it
    uint32_t mention_count;
};

// chat_core_migrate brings the tables up to date.
enum err chat_core_migrate(struct store *store, struct err_detail *why) ERR_CHECKED;

// chat_core_find_room finds a room by name, by id as 32 hexadecimal digits, or the direct room with a user as "@NAME".
// ERR_NOT_FOUND, also for those that the user may not see; ERR_INVALID for what is none of these.
enum err chat_core_find_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out, struct err_detail *why) ERR_CHECKED;

// chat_core_find_member_room is the same for what only members may do: ERR_DENIED for others.
enum err chat_core_find_member_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out, struct err_detail *why) ERR_CHECKED;

// chat_core_fail_not_member returns code, with an explanation for somebody who is not in the room.
enum err chat_core_fail_not_member(const struct chat_room *room, enum err code, struct err_detail *why) ERR_CHECKED;

// chat_core_get_room reads a room by its id, whoever asks. ERR_NOT_FOUND.
enum err chat_core_get_room(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t user_id[CHAT_ID_BYTES], struct chat_room *out) ERR_CHECKED;

// chat_core_is_room_id: such text is always an id, never a name, so that nobody can make a room named like another's
// id.
bool chat_core_is_room_id(const char *room, uint8_t room_id_out[CHAT_ID_BYTES]);

// chat_core_name_is_free says whether a room may be called so. ERR_INVALID; ERR_EXISTS.
enum err chat_core_name_is_free(struct store_tx *tx, const char *name, struct err_detail *why) ERR_CHECKED;

// chat_core_list_rooms fills at most max_rooms rooms that the user may see with names after after_name, by name.
struct chat_list_query {
    const uint8_t *user_id;
    const char *after_name;
    size_t max_rooms;
    bool is_mine_only; // those that the user is in or invited to
};
enum err chat_core_list_rooms(struct store_tx *tx, const struct chat_list_query *query, struct chat_room *rooms,
    size_t *count_out, bool *has_more_out) ERR_CHECKED;

#endif
