// Checking a server: everything that it has of a room is fetched anew, replayed from the first entry on, and held
// against what the local store remembers.
#include <stdlib.h>
#include <string.h>

#include "client/fc_chat_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    MESSAGES_MAX = 50 * 1000 * 1000, // 1.6 GB of chains; more than any room's
};

enum err
fc_chat_fingerprint(struct fc_chat *chat, const char *room, char out[FC_CHAT_FINGERPRINT_BYTES], struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    _Static_assert((int)FC_CHAT_FINGERPRINT_BYTES == (int)E2E_SAFETY_NUMBER_BYTES, "one is written as the other");
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        err = err_fail(why, ERR_INVALID,
            "\"%s\" is not encrypted: the server says who is in it, so there is nothing to "
            "compare",
            place->row.name);
    }
    if (err == ERR_OK) {
        err = fc_chat_sync_log(chat, place, why);
    }
    if (err == ERR_OK) {
        err = e2e_room_fingerprint(&place->state, out);
    }
    fc_chat_unlock(chat);
    return err;
}

// --- The log --------------------------------------------------------------------------------------------------------

// same_entry compares an entry with the one that is kept.
struct same_entry {
    const Fc__E2e__V1__Signed *wire;
    bool is_same;
};

static bool
compare_entry(void *context, const struct fc_store_entry *kept)
{
    struct same_entry *same = context;
    same->is_same = bytes_view_equal(kept->body, bytes_view_of(same->wire->body.data, same->wire->body.len));
    return false;
}

static enum err
replay_entry(struct fc_chat *chat, const struct fc_chat_place *place, struct e2e_room *replayed,
    const Fc__E2e__V1__Signed *wire, struct err_detail *why)
{
    struct same_entry same = {.wire = wire};
    struct err_detail cause = {0};
    uint64_t seq = replayed->state == NULL ? 1 : replayed->state->seq + 1;
    enum err err = e2e_room_apply(replayed, place->row.room_id, wire, 0, fc_chat_find_head, chat, &cause);
    if (err != ERR_OK) {
        return err_fail(why, err == ERR_NO_MEMORY ? err : ERR_UNTRUSTED, "entry %llu of the log of \"%s\" is wrong: %s",
            (unsigned long long)seq, place->row.name, err_message(&cause, err));
    }
    err = fc_store_room_entries(chat->store, place->row.room_id, seq - 1, compare_entry, &same, why);
    if (err == ERR_OK && !same.is_same) {
        return err_fail(why, ERR_UNTRUSTED,
            "entry %llu of the log of \"%s\" is not the one that the server showed before", (unsigned long long)seq,
            place->row.name);
    }
    return err;
}

static enum err
replay_log(struct fc_chat *chat, struct fc_chat_place *place, struct fc_chat_audit *out, struct err_detail *why)
{
    struct e2e_room replayed = {0};
    uint64_t wanted = place->state.state->seq;
    enum err err = ERR_OK;
    while (err == ERR_OK && (replayed.state == NULL || replayed.state->seq < wanted)) {
        struct rpc_unary call;
        const Fc__Chat__V1__GetLogResponse *page = NULL;
        Fc__Chat__V1__GetLogRequest request = FC__CHAT__V1__GET_LOG_REQUEST__INIT;
        request.room = place->id_text;
        request.after_seq = replayed.state == NULL ? 0 : replayed.state->seq;
        fc_chat_start_call(chat, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_get_log(&call, &request, &page), why);
        if (err == ERR_OK && page->n_entries == 0) {
            err = err_fail(why, ERR_UNTRUSTED, "the server keeps back the log of \"%s\" after entry %llu",
                place->row.name, (unsigned long long)request.after_seq);
        }
        for (size_t i = 0; err == ERR_OK && i < page->n_entries; i++) {
            if (replayed.state != NULL && replayed.state->seq == wanted) {
                break; // it has grown meanwhile
            }
            err = replay_entry(chat, place, &replayed, page->entries[i], why);
        }
        rpc_unary_deinit(&call);
    }
    out->log_entries = wanted;
    e2e_room_deinit(&replayed);
    return err;
}

// --- The messages ---------------------------------------------------------------------------------------------------

// replayed_chain is the chain after each message from the first on.
struct replayed_chain {
    uint8_t (*after)[E2E_HASH_BYTES];
    size_t capacity;
    uint64_t taken_seq; // a message that is here and that the server shows as deleted; 0: none
};

static enum err
remember_chain(struct replayed_chain *chain, uint64_t seq, const uint8_t after[E2E_HASH_BYTES])
{
    if (seq >= MESSAGES_MAX) {
        return ERR_LIMIT;
    }
    if (seq >= chain->capacity) {
        size_t capacity = chain->capacity == 0 ? 1024 : 2 * chain->capacity;
        void *grown = realloc(chain->after, capacity * sizeof(*chain->after));
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        chain->after = grown;
        chain->capacity = capacity;
    }
    memcpy(chain->after[seq], after, E2E_HASH_BYTES);
    return ERR_OK;
}

// check_claim compares what the sender says they had seen with what there was, however long ago.
static enum err
check_claim(const struct fc_chat_place *replay, const struct replayed_chain *chain, const Fc__Chat__V1__Message *wire,
    struct err_detail *why)
{
    struct e2e_message message = {0};
    if (wire->sealed.len == 0) {
        return ERR_OK;
    }
    enum err err = e2e_message_parse(bytes_view_of(wire->sealed.data, wire->sealed.len), &message, why);
    if (err == ERR_OK && message.header->seen_seq > 0 &&
        (message.header->seen_seq >= wire->seq ||
            memcmp(message.header->seen_chain.data, chain->after[message.header->seen_seq], E2E_HASH_BYTES) != 0)) {
        err = err_fail(why, ERR_UNTRUSTED, "who sent message %llu of \"%s\" had been shown other messages before it",
            (unsigned long long)wire->seq, replay->row.name);
    }
    e2e_message_deinit(&message);
    return err;
}

static bool
take_is_deleted(void *context, const struct fc_store_message *message)
{
    bool *is_deleted = context;
    *is_deleted = message->is_deleted;
    return true;
}

// is_gone_here: the local store has it as deleted, too, which takes a message of somebody who may.
static bool
is_gone_here(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t seq)
{
    bool is_deleted = false;
    return fc_store_messages_get(chat->store, place->row.room_id, seq, take_is_deleted, &is_deleted, NULL) == ERR_OK &&
           is_deleted;
}

static enum err
replay_message(struct fc_chat *chat, struct fc_chat_place *replay, struct replayed_chain *chain,
    const Fc__Chat__V1__Message *wire, struct fc_chat_opening *known, struct fc_chat_audit *out, struct err_detail *why)
{
    struct fc_chat_opened opened = {0};
    if (wire->seq != replay->row.synced_seq + 1) {
        return err_fail(why, ERR_UNTRUSTED, "the server keeps back the messages after %llu of \"%s\"",
            (unsigned long long)replay->row.synced_seq, replay->row.name);
    }
    enum err err = fc_chat_open_message(chat, replay, wire, known, &opened, why);
    if (err == ERR_OK) {
        err = check_claim(replay, chain, wire, why);
    }
    if (err == ERR_OK && opened.message.unread == FC_STORE_INVALID) {
        err = err_fail(why, ERR_UNTRUSTED, "message %llu of \"%s\" is not by %s, or was changed",
            (unsigned long long)wire->seq, replay->row.name, wire->sender);
    }
    if (err == ERR_OK) {
        err = remember_chain(chain, wire->seq, replay->chains[wire->seq % FC_CHAT_CHAINS_KEPT]);
    }
    if (err == ERR_OK) {
        replay->row.synced_seq = wire->seq;
        out->messages++;
        out->unreadable += opened.message.unread == FC_STORE_NO_KEY || opened.message.unread == FC_STORE_NO_ENTRY;
    }
    if (err == ERR_OK && opened.message.is_deleted && chain->taken_seq == 0 && !is_gone_here(chat, replay, wire->seq)) {
        chain->taken_seq = wire->seq;
    }
    fc_chat_opened_deinit(&opened);
    return err;
}

// check_taken: what was not deleted a moment ago may have been since; then there is a message that says so.
static enum err
check_taken(struct fc_chat *chat, struct fc_chat_place *place, uint64_t seq, struct err_detail *why)
{
    enum err err = fc_chat_sync_place(chat, place, why);
    if (err == ERR_OK && !is_gone_here(chat, place, seq)) {
        err = err_fail(why, ERR_UNTRUSTED,
            "message %llu of \"%s\" was taken away by the server: nobody who may has deleted it",
            (unsigned long long)seq, place->row.name);
    }
    return err;
}

// replay_messages opens all up to the one that the local store has, whose chain has to be the same.
static enum err
replay_messages(struct fc_chat *chat, struct fc_chat_place *place, struct fc_chat_audit *out, struct err_detail *why)
{
    struct replayed_chain chain = {0};
    struct fc_chat_place replay = *place; // the state is lent
    replay.row.synced_seq = 0;
    replay.chain_first = 0;
    replay.chains = calloc(FC_CHAT_CHAINS_KEPT, sizeof(*replay.chains));
    enum err err = replay.chains == NULL ? ERR_NO_MEMORY : ERR_OK;
    while (err == ERR_OK && replay.row.synced_seq < place->row.synced_seq) {
        struct rpc_unary call;
        const Fc__Chat__V1__HistoryResponse *page = NULL;
        Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
        request.room = replay.id_text;
        request.after_seq = replay.row.synced_seq;
        request.limit = FC_ROOM_HISTORY_PAGE;
        fc_chat_start_call(chat, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_history(&call, &request, &page), why);
        if (err == ERR_OK && page->n_messages == 0) {
            err = err_fail(why, ERR_UNTRUSTED, "the server's history of \"%s\" ends at %llu, and %llu had been seen",
                place->row.name, (unsigned long long)replay.row.synced_seq, (unsigned long long)place->row.synced_seq);
        }
        struct fc_chat_ahead *ahead =
            err == ERR_OK ? fc_chat_ahead_start(chat, &replay, page->messages, page->n_messages) : NULL;
        fc_chat_ahead_wait(ahead);
        for (size_t i = 0; err == ERR_OK && i < page->n_messages && page->messages[i]->seq <= place->row.synced_seq;
             i++) {
            err = replay_message(chat, &replay, &chain, page->messages[i], fc_chat_ahead_get(ahead, i), out, why);
        }
        fc_chat_ahead_free(&ahead);
        rpc_unary_deinit(&call);
    }
    if (err == ERR_OK && place->row.synced_seq > 0 &&
        memcmp(chain.after[place->row.synced_seq], place->row.chain, E2E_HASH_BYTES) != 0) {
        err = err_fail(why, ERR_UNTRUSTED, "the server shows other messages of \"%s\" than before", place->row.name);
    }
    place->state = replay.state; // the log may have grown, and with it the state that was lent
    if (err == ERR_OK && chain.taken_seq != 0) {
        err = check_taken(chat, place, chain.taken_seq, why);
    }
    free(replay.chains);
    free(chain.after);
    return err;
}

enum err
fc_chat_audit(struct fc_chat *chat, const char *room, struct fc_chat_audit *out, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    struct err_detail detail = {0};
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, &detail);
    if (err == ERR_OK && place->row.is_plain) {
        err = err_fail(&detail, ERR_INVALID,
            "\"%s\" is not encrypted: there is nothing that its server could not change", place->row.name);
    }
    if (err == ERR_OK) {
        memset(out, 0, sizeof(*out));
        err = fc_chat_sync_place(chat, place, &detail);
    }
    if (err == ERR_OK) {
        err = fc_chat_reload(chat, place, &detail);
    }
    if (err == ERR_OK) {
        out->room = place->row.name;
        err = replay_log(chat, place, out, &detail);
        if (err == ERR_OK) {
            err = replay_messages(chat, place, out, &detail);
        }
        err = fc_chat_judge(chat, place, FC_CHAT_DOUBT_AUDIT, err, &detail);
    }
    if (err == ERR_OK) {
        err = fc_chat_absolve(chat, place, FC_CHAT_DOUBT_AUDIT, &detail);
    }
    if (err == ERR_OK) {
        err = e2e_room_fingerprint(&place->state, out->fingerprint);
    }
    fc_chat_unlock(chat);
    if (why != NULL && err != ERR_OK) {
        *why = detail;
    }
    return err;
}
