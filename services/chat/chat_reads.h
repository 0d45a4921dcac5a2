// How far users have read, what waits for them, and whether others see them. As chat_core.h.
#ifndef CHAT_CHAT_READS_H
#define CHAT_CHAT_READS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "services/chat/chat_core.h"
#include "services/store/store.h"

enum {
    CHAT_UNREAD_MAX = 1000, // counts stop there
};

// chat_reads_mark moves on how far a member has read, to seq, or to the room's newest message if that is less; never
// back. room_out has what it is now; is_moved_out says whether it moved. ERR_DENIED: not a member.
enum err chat_reads_mark(struct store_tx *tx, const struct chat_user *user, const char *room, uint64_t seq,
    struct chat_room *room_out, bool *is_moved_out, struct err_detail *why) ERR_CHECKED;

// chat_unread is what a user has not read of a plain room: texts and emotes by others that have not been deleted, and
// those of them that mention the user or everybody.
struct chat_unread {
    uint32_t unread_count;
    uint32_t mention_count;
};

// chat_messages_unread counts after read_seq. It looks at no more than some thousand rows of an index.
enum err chat_messages_unread(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], const struct chat_user *user,
    uint64_t read_seq, struct chat_unread *out) ERR_CHECKED;

// chat_settings_get says whether others may see that a user is there; chat_settings_set changes it.
enum err chat_settings_get(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], bool *is_shown_out) ERR_CHECKED;
enum err chat_settings_set(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], bool is_shown) ERR_CHECKED;

#endif
