// From the server into the local store.
//
// Of a long way three pages are under way at once: one is asked for, one is opened by other threads (fc_chat_ahead.c),
// and one is written. They belong to one room, or to several that are behind.
#include <stdlib.h>
#include <string.h>

#include "client/fc_chat_priv.h"

#include "fc/chat/v1/chat.stub.h"

// --- Into the store -------------------------------------------------------------------------------------------------

// keep writes opened messages, and how far the room has come, at once.
static enum err
keep(struct fc_chat *chat, struct fc_chat_place *place, const struct fc_chat_opened *opened, size_t count,
    struct err_detail *why)
{
    static const uint8_t no_chain[E2E_HASH_BYTES];
    struct fc_store_message *messages = calloc(count, sizeof(*messages));
    size_t repeated = 0;
    if (messages == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        messages[i] = opened[i].message;
    }
    uint64_t last_seq = messages[count - 1].seq;
    const uint8_t *chain = place->row.is_plain ? no_chain : place->chains[last_seq % FC_CHAT_CHAINS_KEPT];
    enum err err = fc_store_begin(chat->store, why);
    if (err == ERR_OK) {
        err = fc_store_messages_put(chat->store, messages, count, &repeated, why);
    }
    if (err == ERR_OK && repeated > 0 && !place->row.is_plain) {
        // Each id is taken once by a server, whoever sends it.
        err = err_fail(why, ERR_UNTRUSTED,
            "the server repeats %zu earlier messages of \"%s\" as new ones, between %llu and %llu", repeated,
            place->row.name, (unsigned long long)messages[0].seq, (unsigned long long)last_seq);
    }
    if (err == ERR_OK) {
        err = fc_chat_deleted_note(chat, place, opened, count, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_own_check(chat, place, opened, count, why);
    }
    if (err == ERR_OK) {
        err = fc_store_room_set_head(chat->store, place->row.room_id, last_seq, why);
    }
    if (err == ERR_OK) {
        err = fc_store_room_set_synced(chat->store, place->row.room_id, last_seq, chain, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_chains_save(chat, place, last_seq, why);
    }
    if (err == ERR_OK) {
        err = fc_store_commit(chat->store, why);
    } else {
        fc_store_rollback(chat->store);
    }
    free(messages);
    if (err == ERR_CONFLICT) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server shows other messages of \"%s\" than before under the same numbers", place->row.name);
    }
    if (err == ERR_OK) {
        place->row.synced_seq = last_seq;
        place->row.head_seq = last_seq > place->row.head_seq ? last_seq : place->row.head_seq;
    }
    return err;
}

static enum err
fail_gap(const struct fc_chat_place *place, uint64_t seq, struct err_detail *why)
{
    return err_fail(why, place->row.is_plain ? ERR_PROTOCOL : ERR_UNTRUSTED,
        "the server keeps back the messages after %llu of \"%s\"", (unsigned long long)seq, place->row.name);
}

static enum err
take_history(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__HistoryResponse *page,
    struct fc_chat_ahead *ahead, struct err_detail *why)
{
    uint64_t after_seq = place->row.synced_seq;
    size_t count = 0;
    struct fc_chat_opened *opened = calloc(page->n_messages + 1, sizeof(*opened));
    enum err err = opened == NULL ? ERR_NO_MEMORY : ERR_OK;
    while (err == ERR_OK && count < page->n_messages) {
        const Fc__Chat__V1__Message *wire = page->messages[count];
        if (wire->seq != after_seq + 1 + count) {
            err = fail_gap(place, after_seq + count, why);
            break;
        }
        err = fc_chat_open_message(chat, place, wire, fc_chat_ahead_get(ahead, count), &opened[count], why);
        count += err == ERR_OK;
    }
    if (count > 0 && (err == ERR_OK || err == ERR_UNTRUSTED)) {
        // What came before the first wrong one is good.
        enum err kept = keep(chat, place, opened, count, err == ERR_OK ? why : NULL);
        err = err == ERR_OK ? kept : err;
    }
    for (size_t i = 0; i <= count && opened != NULL && i < page->n_messages; i++) {
        fc_chat_opened_deinit(&opened[i]);
    }
    free(opened);
    return err;
}

// --- Pages under way ------------------------------------------------------------------------------------------------

// page is one call of History.
struct page {
    struct fc_chat_place *place; // NULL: there is none
    uint64_t after_seq;
    uint64_t known_seq; // there have been as many messages when it was asked for
    struct rpc_unary call;
    const Fc__Chat__V1__HistoryResponse *response; // once it has been received
    struct fc_chat_ahead *ahead;
};

static void
ask(struct fc_chat *chat, struct fc_chat_place *place, uint64_t after_seq, struct page *out)
{
    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    *out = (struct page){.place = place, .after_seq = after_seq, .known_seq = after_seq};
    if (!place->row.is_plain && place->row.head_seq > after_seq) {
        out->known_seq = place->row.head_seq;
    }
    request.room = place->id_text;
    request.after_seq = after_seq;
    request.limit = FC_ROOM_HISTORY_PAGE;
    fc_chat_start_call(chat, &out->call);
    fc_chat_v1_chat_history_start(&out->call, &request);
}

static enum err
receive_page(struct fc_chat *chat, struct page *page, struct err_detail *why)
{
    const struct fc_store_room *row = &page->place->row;
    enum err err = fc_session_explain(&page->call, rpc_unary_wait(&page->call), why);
    err = fc_chat_note_gone(chat, page->place, err, why);
    if (err != ERR_OK) {
        return err;
    }
    const Fc__Chat__V1__HistoryResponse *response = fc_chat_v1_chat_history_response(&page->call);
    if (response->head_seq < page->known_seq) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server's history of \"%s\" ends at %llu, and %llu had been seen: messages were taken back, or the "
            "server restored from a backup",
            row->name, (unsigned long long)response->head_seq, (unsigned long long)page->known_seq);
    }
    if (response->n_messages == 0 && response->head_seq > page->after_seq) {
        return fail_gap(page->place, page->after_seq, why);
    }
    page->response = response;
    page->ahead = fc_chat_ahead_start(chat, page->place, response->messages, response->n_messages);
    return ERR_OK;
}

static enum err
receive(struct fc_chat *chat, struct page *page, struct err_detail *why)
{
    return fc_chat_judge(chat, page->place, FC_CHAT_DOUBT_SYNC, receive_page(chat, page, why), why);
}

static void
end_page(struct page *page)
{
    if (page->place == NULL) {
        return;
    }
    if (page->response == NULL) {
        rpc_unary_cancel(&page->call);
        (void)!rpc_unary_wait(&page->call);
    }
    fc_chat_ahead_free(&page->ahead);
    rpc_unary_deinit(&page->call);
    page->place = NULL;
    page->response = NULL;
}

// --- Rooms ----------------------------------------------------------------------------------------------------------

// begin_room asks for the room's next page, after its log, which the messages refer to.
static enum err
begin_room(struct fc_chat *chat, struct fc_chat_place *place, struct page *out, struct err_detail *why)
{
    enum err err = place->row.is_plain ? ERR_OK : fc_chat_sync_log(chat, place, why);
    if (err == ERR_OK) {
        ask(chat, place, place->row.synced_seq, out);
    }
    return err;
}

// finish_room fetches one page after the other, each after what is here then.
static enum err
finish_room(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    bool is_behind = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && is_behind) {
        struct page page;
        ask(chat, place, place->row.synced_seq, &page);
        err = receive(chat, &page, why);
        if (err == ERR_OK) {
            fc_chat_ahead_wait(page.ahead);
            err = take_history(chat, place, page.response, page.ahead, why);
        }
        is_behind = err == ERR_OK && place->row.synced_seq < page.response->head_seq;
        end_page(&page);
    }
    return err;
}

// write_page keeps a page that has been received. When another process has written meanwhile, it is of no use.
static enum err
write_page(struct fc_chat *chat, struct page *page, struct err_detail *why)
{
    struct fc_chat_place *place = page->place;
    struct err_detail detail = {0};
    enum err err = ERR_OK;
    if (page->after_seq != place->row.synced_seq) {
        err = finish_room(chat, place, &detail);
    } else {
        fc_chat_ahead_wait(page->ahead);
        err = take_history(chat, place, page->response, page->ahead, &detail);
    }
    if (err == ERR_OK && !place->row.is_plain && place->row.synced_seq >= page->response->head_seq) {
        err = fc_chat_deleted_check(chat, place, &detail);
        if (err == ERR_OK) {
            err = fc_chat_absolve(chat, place, FC_CHAT_DOUBT_SYNC, &detail);
        }
    }
    if (why != NULL && err != ERR_OK) {
        *why = detail;
    }
    return fc_chat_judge(chat, place, FC_CHAT_DOUBT_SYNC, err, &detail);
}

// fetching is a way through rooms.
struct fetching {
    struct fc_chat *chat;
    const char *const *rooms; // names or ids; NULL: there is only first_place
    size_t room_count;
    size_t next; // of rooms
    struct fc_chat_place *first_place;
};

// next_place goes on to the next room that there is, and that is not up to date. *out stays NULL after the last one.
static enum err
next_place(struct fetching *fetching, struct fc_chat_place **out, struct err_detail *why)
{
    if (fetching->first_place != NULL) {
        *out = fetching->first_place;
        fetching->first_place = NULL;
        return ERR_OK;
    }
    if (fetching->next == fetching->room_count) {
        return ERR_OK;
    }
    return fc_chat_find_place(fetching->chat, fetching->rooms[fetching->next++], out, why);
}

static bool
is_over(enum err err)
{
    return err == ERR_DENIED || err == ERR_NOT_FOUND; // the membership has ended just now
}

// ask_next asks for what follows a page that has been received, or for the first one. *next_out stays empty at the end.
static enum err
ask_next(struct fetching *fetching, const struct page *last, struct page *next_out, struct err_detail *why)
{
    if (last != NULL && last->response != NULL && last->response->n_messages > 0) {
        uint64_t last_seq = last->response->messages[last->response->n_messages - 1]->seq;
        if (last_seq > last->after_seq && last_seq < last->response->head_seq) {
            ask(fetching->chat, last->place, last_seq, next_out);
            return ERR_OK;
        }
    }
    bool goes_on = true;
    enum err err = ERR_OK;
    while (goes_on) {
        struct fc_chat_place *place = NULL;
        err = next_place(fetching, &place, why);
        if (err == ERR_OK && place != NULL) {
            err = begin_room(fetching->chat, place, next_out, why);
        }
        goes_on = fetching->rooms != NULL && is_over(err);
    }
    return err;
}

// fetch_all moves three pages on, as on a belt. What was received before a failure is kept.
static enum err
fetch_all(struct fetching *fetching, struct err_detail *why)
{
    struct page pages[3] = {0};
    struct page *received = &pages[0];
    struct page *asked = &pages[1];
    struct page *next = &pages[2];
    struct err_detail cause = {0};
    enum err written = ERR_OK;
    enum err err = ask_next(fetching, NULL, asked, &cause);
    while (written == ERR_OK && (received->place != NULL || asked->place != NULL)) {
        if (asked->place != NULL) {
            err = receive(fetching->chat, asked, &cause);
            if (err == ERR_OK || (fetching->rooms != NULL && is_over(err))) {
                err = ask_next(fetching, asked, next, &cause);
            }
        }
        if (received->place != NULL) {
            written = write_page(fetching->chat, received, why);
        }
        end_page(received);
        if (asked->response == NULL) {
            end_page(asked);
        }
        struct page *free_page = received;
        received = asked;
        asked = next;
        next = free_page;
    }
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        end_page(&pages[i]);
    }
    if (written == ERR_OK && err != ERR_OK && why != NULL) {
        *why = cause;
    }
    return written == ERR_OK ? err : written;
}

enum err
fc_chat_sync_place(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct fetching fetching = {.chat = chat, .first_place = place};
    return fetch_all(&fetching, why);
}

enum err
fc_chat_sync(struct fc_chat *chat, const char *room, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK) {
        err = fc_chat_sync_place(chat, place, why);
    }
    fc_chat_unlock(chat);
    return err;
}

enum err
fc_chat_sync_rooms(struct fc_chat *chat, const char *const *rooms, size_t room_count, struct err_detail *why)
{
    struct fetching fetching = {.chat = chat, .rooms = rooms, .room_count = room_count};
    fc_chat_lock(chat);
    enum err err = room_count == 0 ? ERR_OK : fetch_all(&fetching, why);
    fc_chat_unlock(chat);
    return err;
}

enum err
fc_chat_take(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct err_detail *why)
{
    struct fc_chat_opened opened;
    struct err_detail detail = {0};
    if (wire->seq <= place->row.synced_seq) {
        return ERR_OK;
    }
    if (wire->seq != place->row.synced_seq + 1) {
        return ERR_OUT_OF_RANGE;
    }
    enum err err = fc_chat_open_message(chat, place, wire, NULL, &opened, &detail);
    if (err == ERR_OK) {
        err = keep(chat, place, &opened, 1, &detail);
    }
    fc_chat_opened_deinit(&opened);
    if (why != NULL && err != ERR_OK) {
        *why = detail;
    }
    return fc_chat_judge(chat, place, FC_CHAT_DOUBT_SYNC, err, &detail);
}
