// Whom users do not want to hear from. As chat_core.h.
#ifndef CHAT_CHAT_BLOCKS_H
#define CHAT_CHAT_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "services/chat/chat_core.h"
#include "services/store/store.h"

enum {
    CHAT_BLOCKS_MAX = 10000, // of one user
};

// chat_blocks_set begins or ends a block; twice is no error. ERR_INVALID: oneself. ERR_LIMIT.
enum err chat_blocks_set(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const struct chat_user *blocked,
    bool is_blocked, struct err_detail *why) ERR_CHECKED;

// chat_blocks_has says whether the user blocks the other.
enum err chat_blocks_has(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES],
    const uint8_t other_id[CHAT_ID_BYTES], bool *is_blocked_out) ERR_CHECKED;

// chat_blocks_silences says whether what a user sends to a direct room is blocked by the other one in it.
enum err chat_blocks_silences(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t sender_id[CHAT_ID_BYTES], bool *is_blocked_out) ERR_CHECKED;

// chat_blocks_list gives the names of those whom the user blocks, by name, in the arena.
enum err chat_blocks_list(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], struct arena *arena,
    char ***names_out, size_t *count_out) ERR_CHECKED;

#endif
