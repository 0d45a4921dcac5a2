// Whom messages of plain rooms mention. As chat_core.h.
#ifndef CHAT_CHAT_MENTIONS_H
#define CHAT_CHAT_MENTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "services/chat/chat_messages.h"

enum {
    CHAT_MENTIONS_TEXT_MAX_BYTES = CHAT_MENTIONS_MAX * (TEXT_USER_NAME_MAX_BYTES + 1) + 1,
};

// chat_mentions_join writes checked names as one text, for a column; chat_mentions_split makes an array of it again.
// ERR_NO_MEMORY.
void chat_mentions_join(const char *const *names, size_t count, char out[CHAT_MENTIONS_TEXT_MAX_BYTES]);
enum err chat_mentions_split(struct arena *arena, const char *joined, const char *const **names_out,
    size_t *count_out) ERR_CHECKED;

// chat_mentions_keep makes the mentions of a message countable; chat_mentions_forget ends that.
enum err chat_mentions_keep(struct store_tx *tx, const struct chat_outgoing *outgoing,
    const uint8_t room_id[CHAT_ID_BYTES], uint64_t seq) ERR_CHECKED;
enum err chat_mentions_forget(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t seq) ERR_CHECKED;

#endif
