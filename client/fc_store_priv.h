// For libfc only: what this machine keeps of an account: keys, users, rooms, messages, and what waits to be sent.
//
// One SQLite database for each account (a user on a server), in $FC_DATA_DIR, else $XDG_DATA_HOME/fc, else
// ~/.local/share/fc: a folder of mode 0700 with files of mode 0600, refused when others can read or write them. Several
// processes may have it open; each write is a transaction of its own, on disk when the function returns, unless
// fc_store_begin has begun one. Messages are in fc_store_messages_priv.h.
//
// One thread at a time uses a struct fc_store; another thread opens one of its own. What callbacks get is borrowed,
// valid during the call; they may read from the store but not write to it.
#ifndef CLIENT_FC_STORE_PRIV_H
#define CLIENT_FC_STORE_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"
#include "client/fc_config.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_room.h"
#include "e2e/e2e_seal.h"

#include "fc/e2e/v1/chain.pb-c.h"

struct fc_store;

// fc_store_dir writes the folder's path; it need not exist. ERR_PRECONDITION: no home folder.
enum err fc_store_dir(char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why) ERR_CHECKED;

// fc_store_open opens or creates the database of an account. ERR_DENIED: others can read it. ERR_CORRUPT: damaged.
// ERR_VERSION: a newer program has written it. `why` says what to do about each.
enum err fc_store_open(const char *server_url, const char *user_name, struct fc_store **out,
    struct err_detail *why) ERR_CHECKED;

// fc_store_close undoes an open transaction; NULL is fine.
void fc_store_close(struct fc_store **store);

// fc_store_path is the database's path, for messages to people.
const char *fc_store_path(const struct fc_store *store);

// fc_store_begin starts a transaction for all that is written until fc_store_commit; other processes wait meanwhile, so
// nothing slow belongs in it. After a failed write only fc_store_rollback is sensible, which is fine without one, too.
enum err fc_store_begin(struct fc_store *store, struct err_detail *why) ERR_CHECKED;
// fc_store_begin_relaxed: as fc_store_begin, but the commit does not wait for the disk. For what the server knows as
// well.
enum err fc_store_begin_relaxed(struct fc_store *store, struct err_detail *why) ERR_CHECKED;
enum err fc_store_commit(struct fc_store *store, struct err_detail *why) ERR_CHECKED;
void fc_store_rollback(struct fc_store *store);

// --- The account's own keys

struct fc_store_keys {
    uint8_t user_id[E2E_ID_BYTES];
    struct e2e_keys device;
    bool has_identity;
    uint8_t identity_private[CRYPTO_KEY_BYTES];
    bool is_recovery_offline; // the recovery key is not on the server
};

// fc_store_keys_get reads them; wipe them after use. ERR_NOT_FOUND: this machine has none yet.
enum err fc_store_keys_get(struct fc_store *store, struct fc_store_keys *out, struct err_detail *why) ERR_CHECKED;
enum err fc_store_keys_put(struct fc_store *store, const struct fc_store_keys *keys,
    struct err_detail *why) ERR_CHECKED;
// fc_store_keys_remove forgets them and all epoch secrets, as after a logout that is meant to be one.
enum err fc_store_keys_remove(struct fc_store *store, struct err_detail *why) ERR_CHECKED;

// --- Notes: small values under a name, for example how far something has been fetched

// fc_store_note_get appends the value to out. ERR_NOT_FOUND.
enum err fc_store_note_get(struct fc_store *store, const char *name, struct bytes *out,
    struct err_detail *why) ERR_CHECKED;
// fc_store_note_put replaces it; an empty one is removed.
enum err fc_store_note_put(struct fc_store *store, const char *name, struct bytes_view value,
    struct err_detail *why) ERR_CHECKED;

// --- Users

struct fc_store_user {
    uint8_t user_id[E2E_ID_BYTES];
    char name[TEXT_USER_NAME_MAX_BYTES + 1];
    bool has_pin;
    uint8_t identity_key[CRYPTO_KEY_BYTES]; // the pin: the key that this account talks to
    int64_t first_seen_ms;                  // when it was pinned
    bool is_verified;                       // compared by people
    bool has_pending_key;
    uint8_t pending_key[CRYPTO_KEY_BYTES]; // another key, not accepted yet
    uint64_t chain_seq;                    // entries of the chain that are kept; not written by fc_store_user_put
};

typedef bool fc_store_user_fn(void *context, const struct fc_store_user *user); // returns false to stop

// fc_store_user_get and fc_store_user_find (by name): ERR_NOT_FOUND.
enum err fc_store_user_get(struct fc_store *store, const uint8_t user_id[E2E_ID_BYTES], struct fc_store_user *out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_user_find(struct fc_store *store, const char *name, struct fc_store_user *out,
    struct err_detail *why) ERR_CHECKED;
// fc_store_user_each calls fn for all, by name.
enum err fc_store_user_each(struct fc_store *store, fc_store_user_fn *fn, void *context,
    struct err_detail *why) ERR_CHECKED;

// fc_store_user_put adds or replaces a user. ERR_EXISTS: another user has this name here, so somebody has to decide who
// is meant; fc_store_user_forget_name takes it from that one.
enum err fc_store_user_put(struct fc_store *store, const struct fc_store_user *user,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_user_forget_name(struct fc_store *store, const char *name, struct err_detail *why) ERR_CHECKED;

// An entry of a user's chain or a room's log, as it was signed.
struct fc_store_entry {
    uint64_t seq;
    struct bytes_view body;
    struct bytes_view signature;      // empty in plain rooms
    struct bytes_view link_signature; // or empty
};

typedef bool fc_store_entry_fn(void *context, const struct fc_store_entry *entry); // returns false to stop

// fc_store_user_append keeps the next entry of the chain of a user who has been put before. ERR_CONFLICT: not the next.
enum err fc_store_user_append(struct fc_store *store, const uint8_t user_id[E2E_ID_BYTES],
    const struct fc_store_entry *entry, struct err_detail *why) ERR_CHECKED;
// fc_store_user_entries calls fn for the entries after after_seq, in order; none for an unknown user.
enum err fc_store_user_entries(struct fc_store *store, const uint8_t user_id[E2E_ID_BYTES], uint64_t after_seq,
    fc_store_entry_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

// --- Rooms

enum {
    FC_STORE_ROOM_NAME_MAX_BYTES = TEXT_ROOM_NAME_MAX_BYTES + 1, // with its NUL
};

struct fc_store_room {
    uint8_t room_id[E2E_ID_BYTES];
    // Written by fc_store_room_put.
    char name[FC_STORE_ROOM_NAME_MAX_BYTES]; // of a direct room "@" and the other's name
    char topic[E2E_TOPIC_MAX_BYTES + 1];
    bool is_plain;
    bool is_member; // else only what was kept from before
    Fc__E2e__V1__RoomKind kind;
    // Written one by one.
    bool is_muted;
    uint64_t head_seq;             // the newest message that the server has told of
    uint64_t synced_seq;           // all messages up to it are kept
    uint8_t chain[E2E_HASH_BYTES]; // the message chain there
    uint64_t read_seq;
    uint64_t log_seq;     // entries of the log that are kept
    uint64_t learned_seq; // those of them whose secrets for us have been kept
    // Of the messages kept. Only fc_store_room_each counts them.
    uint64_t unread_count;  // after read_seq, by others
    uint64_t mention_count; // those of them that mention this account's user, or everybody
};

typedef bool fc_store_room_fn(void *context, const struct fc_store_room *room); // returns false to stop

// fc_store_room_get and fc_store_room_find (by name; of several, the one that the user is in): ERR_NOT_FOUND.
enum err fc_store_room_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct fc_store_room *out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_find(struct fc_store *store, const char *name, struct fc_store_room *out,
    struct err_detail *why) ERR_CHECKED;
// fc_store_room_each calls fn for all, by name.
enum err fc_store_room_each(struct fc_store *store, fc_store_room_fn *fn, void *context,
    struct err_detail *why) ERR_CHECKED;

// fc_store_room_put adds a room or replaces its name, topic, kind, is_plain and is_member. ERR_CONFLICT: a room that
// was encrypted is to be plain or the reverse, which no room ever becomes.
enum err fc_store_room_put(struct fc_store *store, const struct fc_store_room *room,
    struct err_detail *why) ERR_CHECKED;
// fc_store_room_remove forgets it with its messages and secrets; none is no error.
enum err fc_store_room_remove(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES],
    struct err_detail *why) ERR_CHECKED;

// fc_store_room_forget_all makes all rooms those of former days; those that are put afterwards are not.
enum err fc_store_room_forget_all(struct fc_store *store, struct err_detail *why) ERR_CHECKED;

// The following are for rooms that have been put: ERR_NOT_FOUND. The numbers never go back: a smaller one, as from a
// process that has seen less, changes nothing.
enum err fc_store_room_set_head(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t head_seq,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_set_synced(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t synced_seq,
    const uint8_t chain[E2E_HASH_BYTES], struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_set_learned(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t learned_seq,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_set_read(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t read_seq,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_set_muted(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], bool is_muted,
    struct err_detail *why) ERR_CHECKED;

// fc_store_room_state appends the packed RoomState to out (nothing, before the first was put). fc_store_room_append
// keeps the next entry of the log with the state that it makes, at once. ERR_CONFLICT: not the next.
enum err fc_store_room_state(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct bytes *out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_append(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES],
    const struct fc_store_entry *entry, struct bytes_view state, struct err_detail *why) ERR_CHECKED;
enum err fc_store_room_entries(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t after_seq,
    fc_store_entry_fn *fn, void *context, struct err_detail *why) ERR_CHECKED;

// Epoch secrets. Putting one that is kept already is no error. ERR_CONFLICT: another one is.
enum err fc_store_epoch_put(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    const uint8_t secret[E2E_SECRET_BYTES], struct err_detail *why) ERR_CHECKED;
// ERR_NOT_FOUND.
enum err fc_store_epoch_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    uint8_t secret_out[E2E_SECRET_BYTES], struct err_detail *why) ERR_CHECKED;
// fc_store_epoch_oldest: the smallest epoch whose secret is kept, from which the ladder leads on. ERR_NOT_FOUND: none.
enum err fc_store_epoch_oldest(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t *epoch_out,
    struct err_detail *why) ERR_CHECKED;

// Drafts stay on this machine. fc_store_draft_get appends the text to out. An empty draft is none.
enum err fc_store_draft_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct bytes *out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_draft_put(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct bytes_view text,
    struct err_detail *why) ERR_CHECKED;

// --- Outbox: requests whose bytes do not change any more, in the order in which they were added

struct fc_store_outgoing {
    int64_t position;                 // grows; given by fc_store_outbox_add
    uint8_t message_id[E2E_ID_BYTES]; // the call's request_id
    char *room_name;                  // as it was typed
    bool has_room_id;
    uint8_t room_id[E2E_ID_BYTES];
    struct bytes request; // an encoded fc.chat.v1.SendRequest
    int64_t created_ms;
    char *last_error; // empty: none yet
};

void fc_store_outgoing_deinit(struct fc_store_outgoing *outgoing);

// fc_store_outbox_add appends one; it sets position and reads the rest (last_error may be NULL). ERR_EXISTS: this
// message_id is waiting already.
enum err fc_store_outbox_add(struct fc_store *store, struct fc_store_outgoing *outgoing,
    struct err_detail *why) ERR_CHECKED;
// fc_store_outbox_next finds the first one after a position, 0 at first. Deinit it. ERR_NOT_FOUND: there is none.
enum err fc_store_outbox_next(struct fc_store *store, int64_t after_position, struct fc_store_outgoing *out,
    struct err_detail *why) ERR_CHECKED;
// fc_store_outbox_update replaces room_id, request and last_error. ERR_NOT_FOUND: it has been sent or removed
// meanwhile.
enum err fc_store_outbox_update(struct fc_store *store, const struct fc_store_outgoing *outgoing,
    struct err_detail *why) ERR_CHECKED;
// ERR_NOT_FOUND.
enum err fc_store_outbox_remove(struct fc_store *store, const uint8_t message_id[E2E_ID_BYTES],
    struct err_detail *why) ERR_CHECKED;
enum err fc_store_outbox_count(struct fc_store *store, uint64_t *count_out, struct err_detail *why) ERR_CHECKED;

// fc_store_outbox_lock makes this process the one that sends. The lock ends with the descriptor. ERR_BUSY: another
// process is sending, and is_waiting was not set.
enum err fc_store_outbox_lock(struct fc_store *store, bool is_waiting, int *fd_out, struct err_detail *why) ERR_CHECKED;

#endif
