// The decisions of the Chat service about rooms and members (messages: chat_messages.h). No wire, no subscriptions.
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
    char name[TEXT_ROOM_NAME_MAX_BYTES + 1];
    uint64_t head_seq; // the newest message; 0: none
    bool is_member;
    uint32_t member_count;
    int64_t created_at_ms;
};

// chat_core_migrate brings the tables up to date.
enum err chat_core_migrate(struct store *store, struct err_detail *why) ERR_CHECKED;

// chat_core_find_room finds a room by name, or by id as 32 hexadecimal digits. ERR_NOT_FOUND; ERR_INVALID for what is
// neither.
enum err chat_core_find_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out, struct err_detail *why) ERR_CHECKED;

// chat_core_find_member_room is the same for what only members may do: ERR_DENIED for others.
enum err chat_core_find_member_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out, struct err_detail *why) ERR_CHECKED;

// chat_core_fail_not_member returns code, with an explanation for somebody who is not in the room.
enum err chat_core_fail_not_member(const struct chat_room *room, enum err code, struct err_detail *why) ERR_CHECKED;

// chat_core_get_room reads a room by its id. ERR_NOT_FOUND.
enum err chat_core_get_room(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t user_id[CHAT_ID_BYTES], struct chat_room *out) ERR_CHECKED;

// chat_core_list_rooms fills at most max_rooms rooms with names after after_name, by name.
enum err chat_core_list_rooms(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const char *after_name,
    struct chat_room *rooms, size_t max_rooms, size_t *count_out, bool *has_more_out) ERR_CHECKED;

// chat_core_create_room makes a room with its creator as owner and first member. request_id is 16 bytes (else
// ERR_INVALID): the same one again returns the room that it made. ERR_EXISTS: the name is taken.
enum err chat_core_create_room(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id,
    const char *name, struct chat_room *out, struct err_detail *why) ERR_CHECKED;

// chat_core_join makes the user a member; already being one is no error. With a request_id (may be empty) a late
// resend does not undo a leave that came after it.
enum err chat_core_join(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id,
    const char *room, struct chat_room *out, struct err_detail *why) ERR_CHECKED;

// chat_core_leave ends a membership. ERR_PRECONDITION: there is none. A resend of the same request_id (may be empty)
// changes nothing, succeeds, and sets *is_resend_out.
enum err chat_core_leave(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id,
    const char *room, uint8_t room_id_out[CHAT_ID_BYTES], bool *is_resend_out, struct err_detail *why) ERR_CHECKED;

#endif
