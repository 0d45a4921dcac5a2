// Rooms: making, listing, sending, reading, and following one as it happens. Blocking functions; any thread may call
// them.
#ifndef CLIENT_FC_ROOM_H
#define CLIENT_FC_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_session.h"

struct fc_room {
    uint8_t id[16];
    char name[65];
    uint64_t head_seq; // newest message; 0: none
    bool is_member;
    uint32_t member_count;
    bool is_plain;
    int64_t created_unix_ms;
    bool is_public;
    bool is_direct;
    bool is_invited;
    bool is_archived;
    char topic[251];
    int role; // enum fc_role of fc_chat.h
    uint64_t read_seq;
    uint64_t log_seq;
};

// As in proto/fc/chat/v1/chat.proto, MessageType.
enum fc_message_type {
    FC_MESSAGE_TEXT,
    FC_MESSAGE_EMOTE,
    FC_MESSAGE_EDIT,
    FC_MESSAGE_DELETE,
    FC_MESSAGE_REACTION,
    FC_MESSAGE_UNREACTION,
};

struct fc_reaction {
    const char *emoji;
    const char *user_name;
};

struct Fc__Chat__V1__Message;

// A message as a callback gets it: everything borrowed, valid during the call.
struct fc_message {
    const char *room; // the room's name
    const uint8_t *room_id;
    uint64_t seq;
    const uint8_t *id; // 16 bytes
    const char *sender;
    const char *text;
    int64_t sent_unix_ms;
    // The announced file, if has_file.
    bool has_file;
    const uint8_t *file_id; // 16 bytes
    const char *file_name;
    uint64_t file_size_bytes;
    const uint8_t *file_md5;    // 16 bytes
    const char *file_mime_type; // empty: unknown
    uint32_t file_width_px;     // of a picture; 0: unknown
    uint32_t file_height_px;
    struct bytes_view file_preview; // a small picture of it; empty: none

    enum fc_message_type type;
    uint64_t target_seq;         // of an edit, deletion or reaction
    uint64_t reply_to_seq;       // 0: no reply
    const char *topic;           // empty: none
    const char *const *mentions; // user names
    size_t mention_count;
    const struct fc_reaction *reactions; // from the local store only
    size_t reaction_count;
    int64_t edited_unix_ms; // 0: never
    bool is_deleted;
    bool is_encrypted;
    // Encrypted and not opened: why, and what can be done; text is empty then. NULL: fine.
    const char *unreadable;
    // As it came; NULL from the local store. Encrypted messages have to be opened with it (fc_chat.h does).
    const struct Fc__Chat__V1__Message *wire;
};

// fc_message_fn returns false to stop.
typedef bool fc_message_fn(void *context, const struct fc_message *message);

enum err fc_room_create(struct fc_session *session, const char *name, bool is_plain, struct fc_room *out,
    struct err_detail *why) ERR_CHECKED;

// fc_room_each calls fn for the rooms that the user may see, by name, over as many pages as it takes.
enum err fc_room_each(struct fc_session *session, bool (*fn)(void *context, const struct fc_room *room), void *context,
    struct err_detail *why) ERR_CHECKED;

// fc_room_get asks for one room. ERR_NOT_FOUND.
enum err fc_room_get(struct fc_session *session, const char *room, struct fc_room *out,
    struct err_detail *why) ERR_CHECKED;

enum err fc_room_join(struct fc_session *session, const char *room, struct fc_room *out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_room_leave(struct fc_session *session, const char *room, struct err_detail *why) ERR_CHECKED;

struct fc_sent {
    uint8_t room_id[16];
    uint64_t seq;
    int64_t sent_unix_ms;
};

// fc_room_send returns when the message is on the server's disk. file_id (16 bytes) announces a file, or is NULL. When
// the connection breaks before the answer it is sent again under the same request id, so that it appears once.
enum err fc_room_send(struct fc_session *session, const char *room, struct bytes_view text, const uint8_t *file_id,
    struct fc_sent *out, struct err_detail *why) ERR_CHECKED;

// fc_room_history calls fn for messages in order: those after after_seq, oldest first, at most limit (0: all); or with
// newest set the last `limit` ones.
enum err fc_room_history(struct fc_session *session, const char *room, uint64_t after_seq, uint64_t limit, bool newest,
    fc_message_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

struct fc_room_stream;

enum fc_stream_state {
    FC_STREAM_LIVE,         // messages arrive as they are sent
    FC_STREAM_RECONNECTING, // the server is away; `why` says the cause. It tries again by itself, with growing pauses
                            // up to 5 s
    FC_STREAM_ENDED,        // for good: fn returned false, the membership or the login ended
};

enum fc_room_event_kind {
    FC_ROOM_EVENT_LOG,     // the room's log has grown, to seq
    FC_ROOM_EVENT_TYPING,  // user_name is writing
    FC_ROOM_EVENT_PRESENT, // user_name is there, or no longer
    FC_ROOM_EVENT_ABSENT,
    FC_ROOM_EVENT_READ, // oneself has read up to seq, maybe on another device
    FC_ROOM_EVENT_OVER, // one's membership has ended; other rooms go on
};

// What happens in a room beside its messages. Borrowed, valid during the call.
struct fc_room_event {
    const char *room;
    const uint8_t *room_id;
    enum fc_room_event_kind kind;
    uint64_t seq;
    const char *user_name;
};

struct fc_room_stream_options {
    const char *const *rooms; // 1 to 1,000; copied
    size_t room_count;
    bool is_from_head; // only what is sent from now on; else everything after after_seq
    uint64_t after_seq;
    // Says for each room after which message to begin, instead of the two above; may be NULL.
    uint64_t (*start_after)(void *context, const struct fc_room *room);
    // Every message once, in order of seq without gaps within its room, on one thread of the stream. May block: what
    // arrives meanwhile waits on the server.
    fc_message_fn *on_message;
    // May be NULL. On the same thread.
    void (*on_event)(void *context, const struct fc_room_event *event);
    // On the same thread. `code` and `why` explain RECONNECTING and ENDED.
    void (*on_state)(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why);
    void *context;
};

// fc_room_stream_open subscribes and returns when the stream is live for the first time (so that what is sent
// afterwards will be seen), or with the error that prevents it. The session must outlive it.
enum err fc_room_stream_open(struct fc_session *session, const struct fc_room_stream_options *options,
    struct fc_room_stream **out, struct err_detail *why) ERR_CHECKED;

// fc_room_stream_close ends it and waits for its thread. Not from a callback.
void fc_room_stream_close(struct fc_room_stream **stream);

#endif
