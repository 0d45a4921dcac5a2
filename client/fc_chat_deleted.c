// Messages that the server shows without what they said. A member has to have taken each back, in a message of their
// own that comes later: until that has been seen, the server owes it.
//
// What is owed is kept in the local store, each by its number and the hash of what it was. A server that shows it after
// all owes nothing.
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "client/fc_chat_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    NOTE_NAME_MAX_BYTES = 64,
    OWED_BYTES = 8 + E2E_HASH_BYTES, // seq ‖ hash
    // A room with more is fetched by one who has time for it.
    OWED_MAX = 10000,
};

static void
name_note(const struct fc_chat_place *place, char out[NOTE_NAME_MAX_BYTES])
{
    (void)snprintf(out, NOTE_NAME_MAX_BYTES, "owed %s", place->id_text);
}

static enum err
read_owed(struct fc_chat *chat, const struct fc_chat_place *place, struct bytes *out, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    name_note(place, name);
    enum err err = fc_store_note_get(chat->store, name, out, why);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
write_owed(struct fc_chat *chat, const struct fc_chat_place *place, const struct bytes *owed, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    name_note(place, name);
    return fc_store_note_put(chat->store, name, bytes_as_view(owed), why);
}

static void
strike(struct bytes *owed, uint64_t seq)
{
    for (size_t at = 0; at + OWED_BYTES <= owed->size; at += OWED_BYTES) {
        if (bytes_load_be64(owed->data + at) == seq) {
            memmove(owed->data + at, owed->data + at + OWED_BYTES, owed->size - at - OWED_BYTES);
            owed->size -= OWED_BYTES;
            return;
        }
    }
}

static enum err
add(struct bytes *owed, const struct fc_chat_opened *opened, struct err_detail *why)
{
    uint8_t seq[8];
    if (owed->size >= (size_t)OWED_MAX * OWED_BYTES) {
        return err_fail(why, ERR_LIMIT, "more than %d messages of a room are shown without what they said", OWED_MAX);
    }
    bytes_store_be64(seq, opened->message.seq);
    enum err err = bytes_append(owed, bytes_view_of(seq, sizeof(seq)));
    return err == ERR_OK ? bytes_append(owed, bytes_view_of(opened->sealed_hash, sizeof(opened->sealed_hash))) : err;
}

// is_deletion: the message takes another back, as far as can be told: without the room's key not who wrote that one.
static bool
is_deletion(const struct fc_store_message *message)
{
    return message->type == FC__CHAT__V1__MESSAGE_TYPE__DELETE && !message->is_void && !message->is_deleted &&
           message->unread != FC_STORE_INVALID && message->unread != FC_STORE_REPEATED;
}

enum err
fc_chat_deleted_note(struct fc_chat *chat, const struct fc_chat_place *place, const struct fc_chat_opened *opened,
    size_t count, struct err_detail *why)
{
    struct bytes owed = {0};
    bool is_concerned = false;
    for (size_t i = 0; i < count; i++) {
        is_concerned = is_concerned || opened[i].message.is_deleted || is_deletion(&opened[i].message);
    }
    if (!is_concerned || place->row.is_plain) {
        return ERR_OK;
    }
    enum err err = read_owed(chat, place, &owed, why);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        if (opened[i].message.is_deleted) {
            err = add(&owed, &opened[i], why);
        } else if (is_deletion(&opened[i].message)) {
            strike(&owed, opened[i].message.target_seq);
        }
    }
    if (err == ERR_OK) {
        err = write_owed(chat, place, &owed, why);
    }
    bytes_free(&owed);
    return err;
}

// take_back keeps a message that the server shows after all. *is_back_out: it does.
static enum err
take_back(struct fc_chat *chat, struct fc_chat_place *place, uint64_t seq, const uint8_t hash[E2E_HASH_BYTES],
    bool *is_back_out, struct err_detail *why)
{
    struct rpc_unary call;
    uint8_t shown[E2E_HASH_BYTES];
    const Fc__Chat__V1__HistoryResponse *page = NULL;
    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    request.room = place->id_text;
    request.after_seq = seq - 1;
    request.limit = 1;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_history(&call, &request, &page), why);
    const Fc__Chat__V1__Message *wire = err == ERR_OK && page->n_messages == 1 ? page->messages[0] : NULL;
    if (wire != NULL && wire->seq == seq && wire->sealed.len > 0) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(wire->sealed.data, wire->sealed.len), shown);
        if (err == ERR_OK && memcmp(shown, hash, sizeof(shown)) == 0) {
            struct fc_chat_opened opened = {0};
            err = fc_chat_open_again(chat, place, wire, &opened, why);
            if (err == ERR_OK) {
                err = fc_store_messages_put(chat->store, &opened.message, 1, NULL, why);
            }
            *is_back_out = err == ERR_OK;
            fc_chat_opened_deinit(&opened);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_chat_deleted_check(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct bytes owed = {0};
    uint64_t missing_seq = 0;
    enum err err = read_owed(chat, place, &owed, why);
    while (err == ERR_OK && missing_seq == 0 && owed.size >= OWED_BYTES) {
        uint64_t seq = bytes_load_be64(owed.data);
        bool is_back = false;
        err = take_back(chat, place, seq, owed.data + 8, &is_back, why);
        if (err == ERR_OK && is_back) {
            strike(&owed, seq);
            err = write_owed(chat, place, &owed, why);
        } else {
            missing_seq = seq;
        }
    }
    bytes_free(&owed);
    if (err == ERR_OK && missing_seq != 0) {
        return err_fail(why, ERR_UNTRUSTED,
            "message %llu of \"%s\" was taken away by the server: nobody who may has deleted it",
            (unsigned long long)missing_seq, place->row.name);
    }
    return err;
}
