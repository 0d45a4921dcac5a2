// Rooms as their members use them, plain and encrypted alike: over fc_room.h's calls, with the local store, the own
// keys, and an outbox. What can be read is read from the local store, so it works while the server is away.
//
// Blocking functions; any thread may call them, one runs at a time. Callbacks may not call the same chat.
#ifndef CLIENT_FC_CHAT_H
#define CLIENT_FC_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_room.h"
#include "client/fc_session.h"

struct fc_chat;

// fc_chat_warn_fn is told, once, what a person should know and nothing fails of: somebody's keys have changed, a member
// lost their identity.
typedef void fc_chat_warn_fn(void *context, const char *warning);

struct fc_chat_options {
    fc_chat_warn_fn *warn; // may be NULL
    void *context;
    // Send JPEG pictures to rooms with all that they say. Otherwise location, camera and the like are taken out first;
    // how a picture is to be turned stays.
    bool keeps_metadata;
};

// fc_chat_open opens the local store and the keys of the session's account; the session outlives it. Asks the server
// for nothing, but whose token it is where only that is known. options may be NULL. ERR_PRECONDITION: others could read
// the store; `why` says how to mend it.
enum err fc_chat_open(struct fc_session *session, const struct fc_chat_options *options, struct fc_chat **out,
    struct err_detail *why) ERR_CHECKED;
void fc_chat_close(struct fc_chat **chat);

// --- Rooms ----------------------------------------------------------------------------------------------------------

// fc_chat_room is a room as the local store knows it.
struct fc_chat_room {
    struct fc_room room;
    uint64_t synced_seq; // messages up to it are here
    uint32_t unread_count;
    uint32_t mention_count;
};

// fc_chat_refresh fetches the list of one's own rooms into the local store.
enum err fc_chat_refresh(struct fc_chat *chat, struct err_detail *why) ERR_CHECKED;

// fc_chat_each_room calls fn for one's own rooms as the local store has them, by name.
enum err fc_chat_each_room(struct fc_chat *chat, bool (*fn)(void *context, const struct fc_chat_room *room),
    void *context, struct err_detail *why) ERR_CHECKED;

struct fc_chat_new_room {
    const char *name; // NULL for a direct room
    bool is_plain;
    bool is_public;         // needs is_plain
    bool is_direct;         // with members[0]
    bool is_history_joined; // new members read from when they joined; else everything
    const char *topic;
    const char *const *members; // user names
    size_t member_count;
};

enum err fc_chat_create(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_room *out,
    struct err_detail *why) ERR_CHECKED;

// fc_chat_direct finds the direct room with a user, or makes it (encrypted).
enum err fc_chat_direct(struct fc_chat *chat, const char *user_name, struct fc_room *out,
    struct err_detail *why) ERR_CHECKED;

enum fc_role { FC_ROLE_NONE, FC_ROLE_MEMBER, FC_ROLE_ADMIN, FC_ROLE_OWNER };

struct fc_chat_role_change {
    const char *user_name;
    enum fc_role role;
};

// What is to change in a room: all of it in one step, or nothing.
struct fc_chat_amendment {
    const char *const *add; // user names
    size_t add_count;
    const char *const *remove;
    size_t remove_count;
    const char *const *invite;
    size_t invite_count;
    const struct fc_chat_role_change *roles;
    size_t role_count;
    const char *name;  // NULL: stays
    const char *topic; // NULL: stays
    bool archive;
    bool revive;
    bool rekey; // encrypted rooms: also when nothing asks for it
};

// fc_chat_amend: ERR_DENIED: the role does not allow it; ERR_NOT_FOUND: no such user; ERR_CONFLICT: others were faster,
// again and again.
enum err fc_chat_amend(struct fc_chat *chat, const char *room, const struct fc_chat_amendment *amendment,
    struct err_detail *why) ERR_CHECKED;

// fc_chat_join enters a public room, or one that the user was invited to. Being in it already is no error.
enum err fc_chat_join(struct fc_chat *chat, const char *room, struct fc_room *out, struct err_detail *why) ERR_CHECKED;
enum err fc_chat_leave(struct fc_chat *chat, const char *room, struct err_detail *why) ERR_CHECKED;

struct fc_chat_member {
    const char *user_name;
    enum fc_role role;
    bool is_invited;
};
enum err fc_chat_each_member(struct fc_chat *chat, const char *room,
    bool (*fn)(void *context, const struct fc_chat_member *member), void *context, struct err_detail *why) ERR_CHECKED;

// --- Invite links
// -----------------------------------------------------------------------------------------------------

enum { FC_CHAT_LINK_MAX_BYTES = 160 };

struct fc_chat_new_link {
    enum fc_role role;       // FC_ROLE_NONE: member
    int64_t expires_unix_ms; // 0: never
    uint32_t max_uses;       // 0: any number
};

// fc_chat_link_create writes fc://j/ID#SECRET. The secret is in the text alone: whoever has it can join.
enum err fc_chat_link_create(struct fc_chat *chat, const char *room, const struct fc_chat_new_link *wanted,
    char link_out[FC_CHAT_LINK_MAX_BYTES], struct err_detail *why) ERR_CHECKED;
enum err fc_chat_link_join(struct fc_chat *chat, const char *link, struct fc_room *out,
    struct err_detail *why) ERR_CHECKED;
// id is the link's, as 32 hexadecimal digits, or the whole link.
enum err fc_chat_link_revoke(struct fc_chat *chat, const char *room, const char *id,
    struct err_detail *why) ERR_CHECKED;

struct fc_chat_link {
    const uint8_t *id; // 16 bytes
    enum fc_role role;
    int64_t expires_unix_ms;
    uint32_t max_uses;
    uint32_t use_count;
};
enum err fc_chat_each_link(struct fc_chat *chat, const char *room,
    bool (*fn)(void *context, const struct fc_chat_link *link), void *context, struct err_detail *why) ERR_CHECKED;

// --- Messages
// ---------------------------------------------------------------------------------------------------------

// What a message says of the file that it announces: of a picture its size; in encrypted rooms also name and key.
struct fc_chat_file {
    const char *mime_type; // NULL: unknown
    uint32_t width_px;     // of a picture; 0: unknown
    uint32_t height_px;
    struct bytes_view preview; // a small JPEG picture of it; empty: none
    const char *name;          // NULL in plain rooms, and all that follows zero
    uint64_t sealed_size_bytes;
    uint8_t sealed_md5[16];
    uint8_t secret[32]; // and the rest of fc.e2e.v1.FileKey
    uint8_t salt[24];
    uint8_t commitment[32];
    uint8_t seal_id[16];
    uint8_t sealed_sha256[32];
    uint32_t segment_plain_bytes;
    uint64_t plain_size_bytes;
};

// What is to be sent. Zeroed but for text: a text.
struct fc_chat_draft {
    enum fc_message_type type;
    struct bytes_view text;
    uint64_t target_seq;             // of an edit, deletion or reaction
    uint64_t reply_to_seq;           // 0: no reply
    const char *topic;               // NULL: none
    const uint8_t *file_id;          // 16 bytes: announces a file that was shared with the room; or NULL
    const struct fc_chat_file *file; // NULL: nothing more to say; encrypted rooms need it
    const uint8_t *message_id;       // 16 bytes: of two drafts with the same one is sent; NULL: a new one
};

// fc_chat_send returns when the message is on the server's disk. It is written to the outbox first, so that it is sent
// once even when this process dies. Mentions are the "@name"s in the text.
// ERR_QUEUED: it stays in the outbox, and goes with the next send or flush that reaches the server.
enum err fc_chat_send(struct fc_chat *chat, const char *room, const struct fc_chat_draft *draft, struct fc_sent *out,
    struct err_detail *why) ERR_CHECKED;

// fc_chat_flush sends what is in the outbox, in order. count_out: how many went.
enum err fc_chat_flush(struct fc_chat *chat, size_t *count_out, struct err_detail *why) ERR_CHECKED;

// A message that waits in the outbox. Borrowed, valid during the call.
struct fc_chat_queued {
    const char *room;          // its name, where that is known
    const uint8_t *message_id; // 16 bytes
    int64_t created_unix_ms;
    const char *last_error; // empty: none yet
};

// fc_chat_each_queued calls fn for what is in the outbox, in order, until it returns false.
enum err fc_chat_each_queued(struct fc_chat *chat, bool (*fn)(void *context, const struct fc_chat_queued *queued),
    void *context, struct err_detail *why) ERR_CHECKED;

// fc_chat_sync fetches and opens what the local store lacks of a room.
enum err fc_chat_sync(struct fc_chat *chat, const char *room, struct err_detail *why) ERR_CHECKED;
// fc_chat_sync_rooms does so for many, faster than one after the other. Rooms that one is in no more are left out.
enum err fc_chat_sync_rooms(struct fc_chat *chat, const char *const *rooms, size_t room_count,
    struct err_detail *why) ERR_CHECKED;

// Which messages: the newest, but for one selector that is set.
struct fc_chat_range {
    bool has_after;
    uint64_t after_seq;
    uint64_t before_seq;
    uint64_t around_seq;
    int64_t since_unix_ms;
    uint64_t limit;    // 0: all
    const char *topic; // only of this one; NULL: any
    bool with_events;  // edits, deletions and reactions too, which otherwise show in their targets only
};

// fc_chat_history calls fn for messages of the local store, oldest first.
enum err fc_chat_history(struct fc_chat *chat, const char *room, const struct fc_chat_range *range, fc_message_fn *fn,
    void *context, struct err_detail *why) ERR_CHECKED;

// fc_chat_search looks in the local store, newest first: words, and from:USER, in:ROOM, has:file. room may be NULL.
enum err fc_chat_search(struct fc_chat *chat, const char *room, const char *query, size_t limit, fc_message_fn *fn,
    void *context, struct err_detail *why) ERR_CHECKED;

// fc_chat_mark_read: up to seq, or everything that is here (0).
enum err fc_chat_mark_read(struct fc_chat *chat, const char *room, uint64_t seq, struct err_detail *why) ERR_CHECKED;

enum err fc_chat_typing(struct fc_chat *chat, const char *room, struct err_detail *why) ERR_CHECKED;

// --- Following
// --------------------------------------------------------------------------------------------------------

struct fc_chat_follower;

struct fc_chat_follow_options {
    const char *const *rooms; // NULL: all of one's own
    size_t room_count;
    bool is_from_head; // only what is sent from now on; else everything after after_seq (of one room)
    uint64_t after_seq;
    // In order of seq for each room, without gaps, opened and in the local store already. On the follower's thread.
    fc_message_fn *on_message;
    // A person is writing; may be NULL.
    void (*on_typing)(void *context, const char *room, const char *user_name);
    void (*on_state)(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why);
    void *context;
};

enum err fc_chat_follow(struct fc_chat *chat, const struct fc_chat_follow_options *options,
    struct fc_chat_follower **out, struct err_detail *why) ERR_CHECKED;
void fc_chat_follow_end(struct fc_chat_follower **follower);

// --- Trust
// ------------------------------------------------------------------------------------------------------------

enum { FC_CHAT_FINGERPRINT_BYTES = 72 };

// fc_chat_fingerprint is one number for a room and all its members' identities: equal for all members who have seen the
// same log.
enum err fc_chat_fingerprint(struct fc_chat *chat, const char *room, char out[FC_CHAT_FINGERPRINT_BYTES],
    struct err_detail *why) ERR_CHECKED;

enum { FC_CHAT_MESSAGE_KEY_BYTES = 76 };

// fc_chat_message_key gives the key of one message of an encrypted room, which opens no other, for fc_people_report.
// ERR_NO_KEY; ERR_NOT_FOUND: no such message, or deleted; ERR_PRECONDITION: the room is plain.
enum err fc_chat_message_key(struct fc_chat *chat, const char *room, uint64_t seq,
    uint8_t key_out[FC_CHAT_MESSAGE_KEY_BYTES], struct err_detail *why) ERR_CHECKED;

// What fc_chat_audit found in one room.
struct fc_chat_audit {
    const char *room;
    uint64_t log_entries;
    uint64_t messages;
    uint64_t unreadable; // for want of a key, for which there may be good reasons
    char fingerprint[FC_CHAT_FINGERPRINT_BYTES];
};

// fc_chat_audit fetches everything anew and replays it: the users' chains, the room's log, the chain of messages and
// each signature, against what the local store remembers. ERR_UNTRUSTED names the first thing that is wrong.
enum err fc_chat_audit(struct fc_chat *chat, const char *room, struct fc_chat_audit *out,
    struct err_detail *why) ERR_CHECKED;

#endif
