// For libfc only: the messages that this machine keeps, which is how they are read without the server and the only way
// in which those of encrypted rooms are searched. Threads and transactions as in fc_store_priv.h.
//
// Every message is kept under its number, what it does to others as well. What an edit or a deletion does is done to
// its target as soon as both are there, in whichever order they come.
#ifndef CLIENT_FC_STORE_MESSAGES_PRIV_H
#define CLIENT_FC_STORE_MESSAGES_PRIV_H

#include "client/fc_store_priv.h"

#include "fc/chat/v1/chat.pb-c.h"

// Why a message cannot be read.
enum fc_store_unread {
    FC_STORE_READABLE,
    FC_STORE_NO_KEY,   // `sealed` is kept until there is one
    FC_STORE_NO_ENTRY, // the same, until the room's log has come that far
    FC_STORE_INVALID,  // not by whom it says, or against the rules
    FC_STORE_REPEATED, // a copy of a message with a smaller number
};

// A message as it is put and listed. Everything is borrowed.
struct fc_store_message {
    const uint8_t *room_id; // 16 bytes
    uint64_t seq;
    const uint8_t *message_id; // 16 bytes
    const uint8_t *sender_id;  // 16 bytes
    const char *sender_name;
    const uint8_t *device_id; // 16 bytes; NULL in plain rooms
    int64_t sent_ms;
    Fc__Chat__V1__MessageType type;
    const char *text; // after an edit the newest; empty after a deletion
    uint64_t target_seq;
    uint64_t reply_to_seq;
    const char *topic;
    const char *mentions;   // user names, each followed by a newline
    struct bytes_view file; // an encoded fc.chat.v1.FileAnnouncement, or empty
    const char *file_name;  // empty without a file
    int64_t edited_ms;      // 0: never
    bool is_deleted;
    // An EDIT, DELETE, REACTION or UNREACTION that is not to have an effect, for example a deletion by somebody who may
    // not. That an edit is by the author of its target, the store sees to.
    bool is_void;
    enum fc_store_unread unread;
    struct bytes_view sealed; // with FC_STORE_NO_KEY and FC_STORE_NO_ENTRY: an encoded fc.e2e.v1.SealedMessage
};

typedef bool fc_store_message_fn(void *context, const struct fc_store_message *message); // returns false to stop

// fc_store_messages_put keeps a batch at once, of one or several rooms that have been put. Pointers to text may be
// NULL. A number that is there already: what could not be read is replaced by what can; an edit and a deletion that the
// server reports of it are taken over; else nothing happens. Does not move synced_seq.
// repeated_out (may be NULL) counts the messages of encrypted rooms whose (device, message_id) had another number
// before: they are kept as FC_STORE_REPEATED without their content. ERR_CONFLICT: under this number there is a message
// with another id. ERR_NOT_FOUND: no such room. Nothing is kept then.
enum err fc_store_messages_put(struct fc_store *store, const struct fc_store_message *messages, size_t message_count,
    size_t *repeated_out, struct err_detail *why) ERR_CHECKED;

enum fc_store_select {
    FC_STORE_NEWEST, // the last `limit` ones
    FC_STORE_AFTER,  // the first `limit` ones after seq
    FC_STORE_BEFORE, // the last `limit` ones before seq
    FC_STORE_AROUND, // seq, half of the others before it and half after it
    FC_STORE_SINCE,  // the first `limit` ones that were sent at since_ms or later
};

struct fc_store_selection {
    const uint8_t *room_id; // 16 bytes
    enum fc_store_select select;
    uint64_t seq;
    int64_t since_ms;
    const char *topic;  // NULL: of any topic
    uint64_t limit;     // 0: no limit
    bool is_everything; // edits, deletions and reactions as well
};

// fc_store_messages_each calls fn for messages in order of their numbers. An unknown room has none.
enum err fc_store_messages_each(struct fc_store *store, const struct fc_store_selection *selection,
    fc_store_message_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

// fc_store_messages_get calls fn for one message. ERR_NOT_FOUND.
enum err fc_store_messages_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t seq,
    fc_store_message_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

// fc_store_messages_sealed calls fn for those that wait for a key or an entry, after after_seq, in order, at most
// limit.
enum err fc_store_messages_sealed(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t after_seq,
    uint64_t limit, fc_store_message_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

struct fc_store_reaction {
    const char *text;
    const char *sender_name;
    const uint8_t *sender_id; // 16 bytes
    uint64_t seq;
};

typedef bool fc_store_reaction_fn(void *context, const struct fc_store_reaction *reaction); // returns false to stop

// fc_store_messages_reactions calls fn for each reaction to a message that has not been taken back, those with the same
// text together, in the order in which the texts came first.
enum err fc_store_messages_reactions(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t target_seq,
    fc_store_reaction_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

// fc_store_messages_search calls fn for messages, newest first, that have every word of the query in their text or
// file name, each as the beginning of a word, in any case of letters and with or without accents. "Words in quotes"
// stand side by side. from:USER, in:ROOM and has:file narrow it down, and may stand alone. before_id (0: none) goes on
// where a search has stopped: the id that next_before_out (may be NULL) got.
// ERR_INVALID: nothing to look for, more than 16 words, or over 256 bytes. ERR_NOT_FOUND: no room of that name.
enum err fc_store_messages_search(struct fc_store *store, const char *query, uint64_t limit, int64_t before_id,
    fc_store_message_fn *fn, void *context, int64_t *next_before_out, struct err_detail *why) ERR_CHECKED;

#endif
