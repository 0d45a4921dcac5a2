// For fc_chat*.c only: what they share. All functions are called with the chat's lock held.
#ifndef CLIENT_FC_CHAT_PRIV_H
#define CLIENT_FC_CHAT_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "client/fc_chat.h"
#include "client/fc_identity_priv.h"
#include "client/fc_room_priv.h"
#include "client/fc_store_messages_priv.h"
#include "client/fc_store_priv.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_room.h"
#include "e2e/e2e_user.h"
#include "rpc/rpc_channel.h"

#include "fc/chat/v1/chat.pb-c.h"

enum {
    // The newest places in a message chain that are remembered, to compare with what senders say they saw.
    FC_CHAT_CHAINS_KEPT = 1024,
    // How often a change is made anew when others were faster.
    FC_CHAT_ATTEMPTS = 8,
    FC_CHAT_ROOM_ID_TEXT_BYTES = 2 * E2E_ID_BYTES + 1,
};

// fc_chat_place is a room in memory while a chat is open.
struct fc_chat_place {
    struct fc_store_room row;
    char id_text[FC_CHAT_ROOM_ID_TEXT_BYTES];
    struct e2e_room state; // encrypted rooms; as far as the log has been applied
    // chains[seq % FC_CHAT_CHAINS_KEPT] is the chain after message seq, for chain_first <= seq <= row.synced_seq.
    uint8_t (*chains)[E2E_HASH_BYTES];
    uint64_t chain_first;
    uint8_t known_head[E2E_HASH_BYTES]; // the hash that was last found in the log, which the next message names too
    UT_hash_handle hh;                  // by row.room_id
};

// fc_chat_user_kept is somebody's chain in memory while a chat is open.
struct fc_chat_user_kept {
    uint8_t id[E2E_ID_BYTES];
    struct e2e_user user;
    UT_hash_handle hh; // by id
};

struct fc_chat {
    struct fc_chat_options options;
    struct fc_session *session;
    struct fc_identity *identity;
    bool is_identity_lent;
    struct fc_store *store; // the identity's
    pthread_mutex_t mutex;
    struct fc_chat_place *places;    // hash table
    struct fc_chat_user_kept *users; // hash table
    struct e2e_user earlier;         // lent by fc_chat_find_head: a chain as it was before a reset
    // While a room is entered by a link: further keys that wraps may be for. NULL: none.
    const struct e2e_keys *further_keys;
    struct work_pool *pool; // NULL until there is much to open
    unsigned pool_threads;
    // The last epoch secret that was asked for, which the next message needs too.
    struct {
        uint8_t room_id[E2E_ID_BYTES];
        uint64_t epoch; // 0: none
        uint8_t secret[E2E_SECRET_BYTES];
    } last_secret;
};

// --- fc_chat.c

// fc_chat_lend opens a chat on an identity that stays the caller's.
enum err fc_chat_lend(struct fc_identity *identity, struct fc_chat **out) ERR_CHECKED;
void fc_chat_lock(struct fc_chat *chat);
void fc_chat_unlock(struct fc_chat *chat);
void fc_chat_warn(struct fc_chat *chat, const char *format, ...) __attribute__((format(printf, 2, 3)));

// fc_chat_start_call prepares a call that is safe to repeat.
void fc_chat_start_call(struct fc_chat *chat, struct rpc_unary *call);

// fc_chat_find_place finds a room by name, "@USER" or id, in the local store, or asks the server. The place stays valid
// until the chat is closed. ERR_NOT_FOUND.
enum err fc_chat_find_place(struct fc_chat *chat, const char *room, struct fc_chat_place **out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_chat_get_place(struct fc_chat *chat, const uint8_t room_id[E2E_ID_BYTES], struct fc_chat_place **out,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_take_room keeps what the server says of a room.
enum err fc_chat_take_room(struct fc_chat *chat, const Fc__Chat__V1__Room *wire, struct fc_chat_place **out,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_find_kept is the same for what only reads the local store: also a room that the user is no longer in.
enum err fc_chat_find_kept(struct fc_chat *chat, const char *room, struct fc_chat_place **out,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_note_gone looks at how a call about a room of the user's ended: a server that does not know the room says
// that the membership is over, which is noted and told by name. Returns the error to go on with.
enum err fc_chat_note_gone(struct fc_chat *chat, struct fc_chat_place *place, enum err err,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_ask_gone is for calls that can miss other things than the room: it asks the server which it was.
enum err fc_chat_ask_gone(struct fc_chat *chat, struct fc_chat_place *place, enum err err,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_reload reads the place's row anew, after others may have written.
enum err fc_chat_reload(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;
void fc_chat_describe(const struct fc_chat_place *place, struct fc_room *out);

// --- fc_chat_doubt.c

enum fc_chat_doubt {
    FC_CHAT_DOUBT_SYNC,  // over as soon as everything new can be fetched and is right
    FC_CHAT_DOUBT_AUDIT, // only an audit says so
};

// fc_chat_judge passes err on. ERR_UNTRUSTED is remembered: nothing is sent to the room before it is settled.
enum err fc_chat_judge(struct fc_chat *chat, const struct fc_chat_place *place, enum fc_chat_doubt doubt, enum err err,
    const struct err_detail *why) ERR_CHECKED;
// fc_chat_absolve ends a doubt. An audit ends all, a sync only that of one.
enum err fc_chat_absolve(struct fc_chat *chat, const struct fc_chat_place *place, enum fc_chat_doubt doubt,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_settle: ERR_UNTRUSTED: the server is still found to lie about the room.
enum err fc_chat_settle(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;
// fc_chat_check_name: the room is called so by its members, and not by the server alone.
enum err fc_chat_check_name(struct fc_chat *chat, struct fc_chat_place *place, const char *name,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_keep_name keeps the name and topic that an encrypted room's log says.
enum err fc_chat_keep_name(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;

// --- fc_chat_users.c: people, and one's own keys

// fc_chat_own_device gives the keys of this device. ERR_NO_KEY: it has none, or does not speak for the account (any
// more). fc_chat_own_id is the account's user.
enum err fc_chat_own_device(struct fc_chat *chat, const struct e2e_keys **out, struct err_detail *why) ERR_CHECKED;
const uint8_t *fc_chat_own_id(const struct fc_chat *chat);
// fc_chat_user_named asks the server for the newest chain. ERR_NOT_FOUND: no such user; ERR_NO_KEY: has no keys yet.
enum err fc_chat_user_named(struct fc_chat *chat, const char *name, const struct e2e_user **out,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_user takes the chain as it is here if it reaches min_seq, else asks.
enum err fc_chat_user(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES], uint64_t min_seq,
    const struct e2e_user **out, struct err_detail *why) ERR_CHECKED;
// fc_chat_user_here takes the chain as it is here, and asks nobody. NULL: none.
const struct e2e_user *fc_chat_user_here(struct fc_chat *chat, const uint8_t user_id[E2E_ID_BYTES]);
// fc_chat_users_sync asks for what is new on the chains of many at once.
enum err fc_chat_users_sync(struct fc_chat *chat, const uint8_t *const *user_ids, size_t count,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_find_head is an e2e_find_user_fn with the chat as its context.
enum err fc_chat_find_head(void *chat, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out,
    struct err_detail *why);

// --- fc_chat_log.c

// fc_chat_sync_log fetches, checks and applies what the room's log has more. ERR_UNTRUSTED: the server shows a log that
// cannot be, or not the one that it showed before.
enum err fc_chat_sync_log(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;
// fc_chat_epoch_secret: ERR_NO_KEY.
enum err fc_chat_epoch_secret(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t epoch,
    uint8_t secret_out[E2E_SECRET_BYTES], struct err_detail *why) ERR_CHECKED;
// fc_chat_log_has says whether an entry with this hash is in the log, and whether a user has ever been a member.
enum err fc_chat_log_has(struct fc_chat *chat, struct fc_chat_place *place, struct bytes_view hash, bool *has_out,
    struct err_detail *why) ERR_CHECKED;
enum err fc_chat_log_names(struct fc_chat *chat, const struct fc_chat_place *place, const uint8_t user_id[E2E_ID_BYTES],
    bool *names_out, struct err_detail *why) ERR_CHECKED;

// --- fc_chat_amend.c and fc_chat_complete.c

struct fc_chat_entry;

// fc_chat_entry_complete adds what the changes of an entry need, heads, wraps and a new epoch where one is wanted or
// needed, and signs it. link: the keys of the link by which the author joins, or NULL.
enum err fc_chat_entry_complete(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_chat_entry *entry,
    bool is_rekey_wanted, const struct e2e_keys *link, struct err_detail *why) ERR_CHECKED;

bool fc_chat_entry_revokes(const struct fc_chat_entry *entry, const Fc__E2e__V1__InviteLink *link);

// fc_chat_is_link_spent: the link is used up or has expired, and the next rekey of one's own takes it out.
bool fc_chat_is_link_spent(const struct fc_chat *chat, const struct fc_chat_place *place,
    const Fc__E2e__V1__RoomLink *link);

// fc_chat_write_fn puts changes into an entry that follows the place's newest one.
typedef enum err fc_chat_write_fn(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place,
    const void *context, struct err_detail *why);

// fc_chat_amend_log makes an entry of what `write` says, sends it, and applies what has become of the log. Others may
// be faster: then it is made anew. ERR_CONFLICT: again and again.
enum err fc_chat_amend_log(struct fc_chat *chat, struct fc_chat_place *place, fc_chat_write_fn *write,
    const void *context, bool is_rekey_wanted, struct err_detail *why) ERR_CHECKED;

// fc_chat_rekey starts a new epoch, as fc_chat_send does when one is due.
enum err fc_chat_rekey(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;

// --- fc_chat_ahead.c

// fc_chat_opening is what has been found out about a sealed message before its turn.
struct fc_chat_opening {
    struct e2e_message message; // wire is NULL: not parsed
    // By which device's key the signature was checked.
    bool has_key;
    bool has_verdict;
    uint8_t sign_key[CRYPTO_KEY_BYTES];
    enum err verdict;
    // With which epoch secret it was opened.
    bool has_secret;
    bool is_opened;
    uint8_t secret[E2E_SECRET_BYTES];
    enum err opened;
    struct bytes content;
};

struct fc_chat_ahead;

// fc_chat_ahead_start begins to open messages on other threads, with the keys that are here, and borrows nothing. NULL
// is fine: nothing is known ahead. fc_chat_ahead_wait helps until all are opened; then fc_chat_ahead_get gives what has
// been found out about one.
struct fc_chat_ahead *fc_chat_ahead_start(struct fc_chat *chat, const struct fc_chat_place *place,
    Fc__Chat__V1__Message *const *messages, size_t count);
void fc_chat_ahead_wait(struct fc_chat_ahead *ahead);
struct fc_chat_opening *fc_chat_ahead_get(struct fc_chat_ahead *ahead, size_t index);
void fc_chat_ahead_free(struct fc_chat_ahead **ahead);

// --- fc_chat_open.c

// fc_chat_opened is a message as the store takes it, with what it borrows from.
struct fc_chat_opened {
    struct fc_store_message message;
    struct bytes content;            // of an encrypted one
    Fc__Chat__V1__Content *unpacked; // owned
    struct bytes mentions;
    struct bytes file;
    uint8_t device_id[E2E_ID_BYTES];
    char *sender;                        // owned, of an encrypted one: as the sender's chain says
    uint8_t sealed_hash[E2E_HASH_BYTES]; // of an encrypted one that the server shows without what it said
};

// fc_chat_open_message checks and opens a message as the server sent it, which is the next one after place's
// synced_seq, and moves the place's chain on (not the store's). What cannot be opened is said in `unread`. ahead: what
// is known of it already, which is used up, or NULL. ERR_UNTRUSTED: the chain is broken.
enum err fc_chat_open_message(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct fc_chat_opening *ahead, struct fc_chat_opened *out, struct err_detail *why) ERR_CHECKED;
// fc_chat_open_again opens a message wherever it stands; the chain is the caller's affair.
enum err fc_chat_open_again(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct fc_chat_opened *out, struct err_detail *why) ERR_CHECKED;
void fc_chat_opened_deinit(struct fc_chat_opened *opened);
// fc_chat_open_waiting opens those that waited for a key that is here now.
enum err fc_chat_open_waiting(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;

// --- fc_chat_chains.c

// fc_chat_chains_save keeps the places of the chain up to last_seq; in the transaction that keeps the messages.
enum err fc_chat_chains_save(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t last_seq,
    struct err_detail *why) ERR_CHECKED;
// fc_chat_chains_load makes those of an encrypted room, after row has been read.
enum err fc_chat_chains_load(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;

// --- fc_chat_deleted.c

// fc_chat_deleted_note remembers which of these messages the server shows without what they said, and which of those
// before a member has taken back. In the transaction that keeps them.
enum err fc_chat_deleted_note(struct fc_chat *chat, const struct fc_chat_place *place,
    const struct fc_chat_opened *opened, size_t count, struct err_detail *why) ERR_CHECKED;
// fc_chat_deleted_check: everything is here, so that each of them has to have been taken back. ERR_UNTRUSTED: by
// nobody.
enum err fc_chat_deleted_check(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;

// --- fc_chat_own.c

// fc_chat_own_note remembers that the server has given an own message a number. ERR_UNTRUSTED: another one has it.
enum err fc_chat_own_note(struct fc_chat *chat, struct fc_chat_place *place, uint64_t seq,
    const uint8_t message_id[E2E_ID_BYTES], struct err_detail *why) ERR_CHECKED;
// fc_chat_own_check holds messages, in order and without gaps, against that. In the transaction that keeps them.
enum err fc_chat_own_check(struct fc_chat *chat, const struct fc_chat_place *place, const struct fc_chat_opened *opened,
    size_t count, struct err_detail *why) ERR_CHECKED;
// fc_chat_own_entry_check fetches the log, which has to have an entry that the server has acknowledged.
enum err fc_chat_own_entry_check(struct fc_chat *chat, struct fc_chat_place *place, const uint8_t hash[E2E_HASH_BYTES],
    struct err_detail *why) ERR_CHECKED;

// --- fc_chat_fetch.c

enum err fc_chat_sync_place(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why) ERR_CHECKED;
// fc_chat_take keeps one message that follows those that are here. ERR_OUT_OF_RANGE: it does not.
enum err fc_chat_take(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct err_detail *why) ERR_CHECKED;

// --- fc_chat_sync.c

// fc_chat_tell calls fn with a message of the store.
bool fc_chat_tell(struct fc_chat *chat, const struct fc_chat_place *place, const struct fc_store_message *kept,
    fc_message_fn *fn, void *context);

#endif
