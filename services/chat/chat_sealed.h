// Messages of encrypted rooms, before they are appended: what can be checked without the room's keys. On a worker
// thread, since checking a signature takes its time; what depends on the room's present epoch is checked again by
// chat_messages_send.
#ifndef CHAT_CHAT_SEALED_H
#define CHAT_CHAT_SEALED_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "e2e/e2e_user.h"
#include "services/chat/chat_messages.h"
#include "services/store/store.h"

// chat_find_chain_fn reads the chain of a user, with all its devices; the caller deinits it. ERR_NOT_FOUND: the user
// has none.
typedef enum err chat_find_chain_fn(void *context, struct store_tx *tx, const uint8_t user_id[16],
    struct e2e_user *out);

// chat_sealed_query borrows.
struct chat_sealed_query {
    struct chat_user sender;
    struct bytes_view request_id;
    const char *room;
    struct bytes_view sealed;
    struct bytes_view file_id; // empty: none
    chat_find_chain_fn *find_chain;
    void *find_chain_context;
};

// chat_sealed_check says what is wrong with a sealed message and fills `out`, which borrows from the query. A message
// that has been sent before is not checked again. ERR_INVALID: not a sealed message, of another room, user or request,
// or its signature is wrong. ERR_DENIED: not a member; not a device of the sender's, or one that has been revoked.
// ERR_NOT_FOUND: no such room. ERR_PRECONDITION: the sender has no keys.
enum err chat_sealed_check(struct store *store, const struct chat_sealed_query *query, struct chat_outgoing_sealed *out,
    struct err_detail *why) ERR_CHECKED;

// chat_sealed_check_claims holds what the sender claims to have seen against what there is, in the transaction that
// appends the message: members take a claim that is wrong for proof that the server lies, so that nobody may make one.
// ERR_INVALID. ERR_CONFLICT: they have not seen the log for long.
enum err chat_sealed_check_claims(struct store_tx *tx, const struct chat_room *room,
    const struct chat_outgoing_sealed *sealed, struct err_detail *why) ERR_CHECKED;

#endif
