// The decisions of the Chat service about messages: appending them once, and reading them back. As chat_core.h.
#ifndef CHAT_CHAT_MESSAGES_H
#define CHAT_CHAT_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"
#include "services/chat/chat_core.h"
#include "services/store/store.h"

enum {
    CHAT_TEXT_MAX_BYTES = 65536,
    CHAT_HISTORY_DEFAULT = 100,
    CHAT_HISTORY_MAX = 1000,
    CHAT_HISTORY_MAX_BYTES = 1024 * 1024, // of one page; a single message is always returned
};

// chat_file is a file as a message announces it.
struct chat_file {
    uint8_t file_id[CHAT_ID_BYTES];
    char name[TEXT_FILE_NAME_MAX_BYTES + 1];
    uint64_t size_bytes;
    uint8_t md5[16];
};

// chat_message borrows everything it points to.
struct chat_message {
    const uint8_t *room_id;
    uint64_t seq;
    const uint8_t *id; // the request id that sent it
    const char *sender;
    const char *text;
    int64_t sent_at_ms;
    const struct chat_file *file; // NULL: announces none
};

// chat_find_file_fn says what is known of a file that is shared with a room. ERR_NOT_FOUND: it is not.
typedef enum err chat_find_file_fn(void *context, struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t file_id[CHAT_ID_BYTES], struct chat_file *file_out);

// chat_outgoing is a message to be appended; it borrows.
struct chat_outgoing {
    struct chat_user sender;
    struct bytes_view request_id;
    const char *room;
    const char *text;
    bool has_file;
    struct bytes_view file_id;
    chat_find_file_fn *find_file;
    void *find_file_context;
};

// chat_sent is what became of it.
struct chat_sent {
    uint8_t room_id[CHAT_ID_BYTES];
    uint64_t seq;
    int64_t sent_at_ms;
    bool is_resend; // it had been appended before: not to be published again
    struct chat_file file;
};

// chat_messages_send appends a message and gives it the room's next number. The request_id becomes its id, unique
// within the room: a resend by the same sender gets the first answer, even after the sender has left. ERR_INVALID: no
// request id, empty or too long. ERR_DENIED: not a member. ERR_CONFLICT: somebody else's request id.
enum err chat_messages_send(struct store_tx *tx, const struct chat_outgoing *outgoing, struct chat_sent *out,
    struct err_detail *why) ERR_CHECKED;

// chat_history is one page of messages, oldest first. The messages live in the arena. All zero is an empty one.
struct chat_history {
    struct chat_room room; // as it was when the page was read
    struct chat_message *messages;
    size_t count;
    struct arena arena;
};

// chat_messages_history reads up to limit messages (0: CHAT_HISTORY_DEFAULT) after after_seq, or with newest set the
// last ones. The caller deinits `out` also after a failure. ERR_DENIED: not a member. ERR_INVALID: limit too large.
enum err chat_messages_history(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const char *room,
    uint64_t after_seq, uint32_t limit, bool newest, struct chat_history *out, struct err_detail *why) ERR_CHECKED;
void chat_history_deinit(struct chat_history *history);

#endif
