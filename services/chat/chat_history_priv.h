// For chat_history.c and chat_search.c: rows of chat_messages as structs.
#ifndef CHAT_CHAT_HISTORY_PRIV_H
#define CHAT_CHAT_HISTORY_PRIV_H

#include "services/chat/chat_history.h"

// The columns that chat_history_read_row expects.
#define CHAT_MESSAGE_COLUMNS                                                                                           \
    "seq, message_id, sender_name, sent_at_ms, text, file_id, file_name, file_size_bytes, file_md5, sender_id, type,"  \
    " target_seq, reply_to_seq, mentions, topic, edited_at_ms, is_deleted, file_mime_type, file_width_px,"             \
    " file_height_px, file_preview, sealed, sealed_hash, chain"

// chat_history_init makes an empty page with room for limit messages. ERR_NO_MEMORY.
enum err chat_history_init(struct chat_history *page, uint32_t limit) ERR_CHECKED;

// chat_history_read_row copies a row into the page's arena.
enum err chat_history_read_row(struct store_rows *rows, struct chat_history *page,
    struct chat_message *out) ERR_CHECKED;

// chat_history_message_bytes is about what a message takes in a reply.
size_t chat_history_message_bytes(const struct chat_message *message);

#endif
