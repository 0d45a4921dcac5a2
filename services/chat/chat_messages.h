// The decisions of the Chat service about messages: appending them once (reading them: chat_history.h). As chat_core.h.
#ifndef CHAT_CHAT_MESSAGES_H
#define CHAT_CHAT_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"
#include "services/chat/chat_core.h"
#include "services/store/store.h"

enum {
    CHAT_TEXT_MAX_BYTES = 65536,
    CHAT_REACTION_MAX_BYTES = 32,
    CHAT_THREAD_MAX_BYTES = 64, // Message.topic
    CHAT_MENTIONS_MAX = 64,
    CHAT_MIME_TYPE_MAX_BYTES = 127,
    CHAT_PREVIEW_MAX_BYTES = 16 * 1024,
    CHAT_SEALED_MAX_BYTES = 70000,
    CHAT_HASH_BYTES = 32,
};

#define CHAT_MENTION_EVERYBODY "@room"

// The numbers are those of fc.chat.v1.MessageType, and stand in the database.
enum chat_message_type {
    CHAT_MESSAGE_TEXT = 0,
    CHAT_MESSAGE_EMOTE = 1,
    CHAT_MESSAGE_EDIT = 2,
    CHAT_MESSAGE_DELETE = 3,
    CHAT_MESSAGE_REACTION = 4,
    CHAT_MESSAGE_UNREACTION = 5,
};

// chat_file is a file as a message announces it. Its preview borrows.
struct chat_file {
    uint8_t file_id[CHAT_ID_BYTES];
    char name[TEXT_FILE_NAME_MAX_BYTES + 1];
    uint64_t size_bytes;
    uint8_t md5[16];
    char mime_type[CHAT_MIME_TYPE_MAX_BYTES + 1]; // empty: unknown
    uint32_t width_px;                            // 0: unknown
    uint32_t height_px;
    struct bytes_view preview; // empty: none
};

// chat_message borrows everything it points to.
struct chat_message {
    const uint8_t *room_id;
    uint64_t seq;
    const uint8_t *id; // the request id that sent it
    const uint8_t *sender_id;
    const char *sender;
    int64_t sent_at_ms;
    enum chat_message_type type;
    const char *text;
    const struct chat_file *file; // NULL: announces none
    uint64_t target_seq;          // 0: none
    uint64_t reply_to_seq;        // 0: none
    const char *const *mentions;
    size_t mention_count;
    const char *topic;
    int64_t edited_at_ms; // 0: never
    bool is_deleted;

    // Of encrypted rooms; empty in plain ones.
    struct bytes_view sealed;      // empty after a deletion
    struct bytes_view sealed_hash; // what it was; empty before
    struct bytes_view chain;
};

// chat_find_file_fn says what is known of a file that is shared with a room. ERR_NOT_FOUND: it is not.
typedef enum err chat_find_file_fn(void *context, struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t file_id[CHAT_ID_BYTES], struct chat_file *file_out);

// chat_outgoing_file is the announcement of a file, as the sender made it. It borrows.
struct chat_outgoing_file {
    struct bytes_view file_id;
    const char *mime_type;
    uint32_t width_px;
    uint32_t height_px;
    struct bytes_view preview;
};

// chat_outgoing_sealed is what the header of a sealed message says, after it has been checked (chat_sealed.h).
struct chat_outgoing_sealed {
    struct bytes_view sealed; // all of it
    uint64_t epoch;
    uint64_t target_seq;       // of a deletion, else 0
    struct bytes_view file_id; // of the file that it announces; empty: none
    // What its sender claims to have seen.
    uint8_t log_head[CHAT_HASH_BYTES];
    uint64_t seen_seq; // 0: no message
    uint8_t seen_chain[CHAT_HASH_BYTES];
};

// chat_outgoing is a message to be appended; it borrows.
struct chat_outgoing {
    struct chat_user sender;
    struct bytes_view request_id;
    const char *room;
    enum chat_message_type type;
    const char *text;
    const struct chat_outgoing_file *file; // NULL: none
    uint64_t target_seq;
    uint64_t reply_to_seq;
    const char *const *mentions;
    size_t mention_count;
    const char *topic;                         // NULL: none
    const struct chat_outgoing_sealed *sealed; // NULL: for a plain room. Else nothing but the room counts.
    chat_find_file_fn *find_file;              // NULL: no file can be announced
    void *find_file_context;
};

// chat_sent is what became of it.
struct chat_sent {
    uint8_t room_id[CHAT_ID_BYTES];
    uint64_t seq;
    int64_t sent_at_ms;
    bool is_resend;      // it had been appended before: not to be published again
    bool is_epoch_stale; // why it was refused with ERR_CONFLICT
    struct chat_file file;
    uint8_t chain[CHAT_HASH_BYTES]; // of encrypted rooms
};

// chat_messages_check says what is wrong with a message for a plain room, as far as that can be said without looking at
// the room. ERR_INVALID.
enum err chat_messages_check(const struct chat_outgoing *outgoing, struct err_detail *why) ERR_CHECKED;

// chat_messages_send appends a message and gives it the room's next number; an edit or deletion is applied to the
// message that it names. The request_id becomes its id, unique within the room: a resend by the same sender gets the
// first answer, even after the sender has left.
// ERR_INVALID: chat_messages_check. ERR_DENIED: not a member; somebody else's message; blocked. ERR_NOT_FOUND: no such
// target or file. ERR_EXISTS: the reaction is there already. ERR_PRECONDITION: archived; the target cannot be changed
// like that. ERR_CONFLICT: somebody else's request id; is_epoch_stale.
enum err chat_messages_send(struct store_tx *tx, const struct chat_outgoing *outgoing, struct chat_sent *out,
    struct err_detail *why) ERR_CHECKED;

// chat_messages_find_room finds the room that a message is for, and what this request id appended to it before: then
// out->is_resend is set, and room_out is not if the sender may no longer see the room. ERR_NOT_FOUND: no such room.
// ERR_CONFLICT: somebody else's request id.
enum err chat_messages_find_room(struct store_tx *tx, const struct chat_user *sender, struct bytes_view request_id,
    const char *room, struct chat_room *room_out, struct chat_sent *out, struct err_detail *why) ERR_CHECKED;

#endif
