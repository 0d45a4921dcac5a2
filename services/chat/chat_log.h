// The logs of rooms, and what they make of the tables: state, columns and members change with an entry or not at all.
// As chat_core.h.
#ifndef CHAT_CHAT_LOG_H
#define CHAT_CHAT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "e2e/e2e_room.h"
#include "services/chat/chat_core.h"
#include "services/chat/chat_people.h"
#include "services/store/store.h"

enum {
    CHAT_LINK_INFO_MAX_BYTES = 4096,
    CHAT_LOG_PAGE_MAX_BYTES = 1024 * 1024, // a single entry is always returned
};

// chat_change is a call that changes a room; it borrows.
struct chat_change {
    struct store_tx *tx;
    struct chat_user user;
    struct bytes_view request_id;
    const struct chat_people *people;
    struct err_detail *why;
};

struct chat_member_id {
    uint8_t bytes[CHAT_ID_BYTES];
};

// chat_outcome is what came of it. All zero is an empty one.
struct chat_outcome {
    struct chat_room room;        // as the caller sees it now
    bool is_resend;               // nobody has to be told
    uint64_t log_seq;             // of the newest entry that was appended; 0: none
    struct chat_member_id *ended; // those who were members before; owned
    size_t ended_count;
};
void chat_outcome_deinit(struct chat_outcome *outcome);

// chat_draft is a room between an entry and the tables. All zero is one that is being made.
struct chat_draft {
    struct e2e_room before;
    struct e2e_room after;
    uint64_t appended_seq; // 0: none
};

// chat_draft_open reads the room's state. A room of before there were logs gets one that leads to its members.
enum err chat_draft_open(struct chat_draft *draft, const struct chat_change *change,
    const uint8_t room_id[CHAT_ID_BYTES]) ERR_CHECKED;
void chat_draft_deinit(struct chat_draft *draft);

// chat_draft_append_plain and _signed apply an entry and append it to the log. ERR_CONFLICT, ERR_DENIED,
// ERR_PRECONDITION, ERR_LIMIT; ERR_INVALID: against the rules, or with a bad signature.
enum err chat_draft_append_plain(struct chat_draft *draft, const struct chat_change *change,
    const Fc__E2e__V1__RoomEntry *entry) ERR_CHECKED;
enum err chat_draft_append_signed(struct chat_draft *draft, const struct chat_change *change,
    const uint8_t room_id[CHAT_ID_BYTES], const Fc__E2e__V1__Signed *entry) ERR_CHECKED;

// chat_draft_store writes what has changed. link_info (may be empty) is of the one link that is new. ERR_EXISTS: the
// name is taken. ERR_LIMIT: the operator's limits. ERR_DENIED: somebody does not want to be added by the caller.
enum err chat_draft_store(const struct chat_draft *draft, const struct chat_change *change, struct bytes_view link_info,
    struct chat_outcome *out) ERR_CHECKED;

// chat_log_read reads entries after after_seq into an array in the arena.
enum err chat_log_read(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t after_seq,
    struct arena *arena, Fc__E2e__V1__Signed ***entries_out, size_t *count_out) ERR_CHECKED;

// chat_log_find_link finds the room of an invite link; info_out (may be NULL) is appended to. ERR_NOT_FOUND.
enum err chat_log_find_link(struct store_tx *tx, struct bytes_view link_id, uint8_t room_id_out[CHAT_ID_BYTES],
    struct bytes *info_out, struct err_detail *why) ERR_CHECKED;

// chat_log_read_state unpacks a room's state; state NULL: the room has no log yet.
enum err chat_log_read_state(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    struct e2e_room *out) ERR_CHECKED;

// chat_log_ask_rekey makes the next senders in the user's encrypted rooms rekey first.
enum err chat_log_ask_rekey(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES]) ERR_CHECKED;

#endif
