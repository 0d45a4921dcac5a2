// The chat of an account: its parts, and the rooms that it knows.
#include "client/fc_chat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1

#include "base/digest.h"
#include "base/work_pool.h"
#include "client/fc_chat_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    // Short calls, so this is how long a server that went away in the midst of one is waited for: a restart fits.
    CALL_TIMEOUT_MS = 10 * 1000,
    ROOMS_PAGE = 1000,
    WARNING_MAX_BYTES = 512,
};

void
fc_chat_lock(struct fc_chat *chat)
{
    pthread_mutex_lock(&chat->mutex);
}

void
fc_chat_unlock(struct fc_chat *chat)
{
    pthread_mutex_unlock(&chat->mutex);
}

void
fc_chat_warn(struct fc_chat *chat, const char *format, ...)
{
    char warning[WARNING_MAX_BYTES];
    va_list arguments;
    if (chat->options.warn == NULL) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(warning, sizeof(warning), format, arguments);
    va_end(arguments);
    chat->options.warn(chat->options.context, warning);
}

void
fc_chat_start_call(struct fc_chat *chat, struct rpc_unary *call)
{
    fc_chat_v1_chat_init(call, fc_session_channel(chat->session));
    call->is_idempotent = true; // all its methods execute once for each request id
    call->timeout_ms = CALL_TIMEOUT_MS;
}

enum err
fc_chat_lend(struct fc_identity *identity, struct fc_chat **out)
{
    struct fc_chat *chat = calloc(1, sizeof(*chat));
    if (chat == NULL) {
        return ERR_NO_MEMORY;
    }
    // With default attributes it cannot fail on Linux.
    pthread_mutex_init(&chat->mutex, NULL);
    chat->identity = identity;
    chat->is_identity_lent = true;
    chat->session = identity->session;
    chat->store = identity->store;
    chat->options.warn = identity->options.warn;
    chat->options.context = identity->options.context;
    *out = chat;
    return ERR_OK;
}

enum err
fc_chat_open(struct fc_session *session, const struct fc_chat_options *options, struct fc_chat **out,
    struct err_detail *why)
{
    struct fc_identity_options identity_options = {0};
    struct fc_identity *identity = NULL;
    if (options != NULL) {
        identity_options.warn = options->warn;
        identity_options.context = options->context;
    }
    enum err err = fc_identity_open(session, &identity_options, &identity, why);
    if (err == ERR_OK) {
        err = fc_chat_lend(identity, out);
    }
    if (err != ERR_OK) {
        fc_identity_close(&identity);
        return err;
    }
    (*out)->is_identity_lent = false;
    (*out)->options.keeps_metadata = options != NULL && options->keeps_metadata;
    return ERR_OK;
}

static void
free_place(struct fc_chat_place *place)
{
    e2e_room_deinit(&place->state);
    free(place->chains);
    free(place);
}

void
fc_chat_close(struct fc_chat **chat)
{
    struct fc_chat *self = *chat;
    if (self == NULL) {
        return;
    }
    if (self->pool != NULL) {
        work_pool_free(&self->pool);
    }
    digest_wipe(&self->last_secret, sizeof(self->last_secret));
    struct fc_chat_place *place;
    struct fc_chat_place *next;
    HASH_ITER(hh, self->places, place, next)
    {
        HASH_DEL(self->places, place);
        free_place(place);
    }
    struct fc_chat_user_kept *user;
    struct fc_chat_user_kept *next_user;
    HASH_ITER(hh, self->users, user, next_user)
    {
        HASH_DEL(self->users, user);
        e2e_user_deinit(&user->user);
        free(user);
    }
    e2e_user_deinit(&self->earlier);
    if (!self->is_identity_lent) {
        fc_identity_close(&self->identity);
    }
    pthread_mutex_destroy(&self->mutex);
    free(self);
    *chat = NULL;
}

// --- Rooms in memory ------------------------------------------------------------------------------------------------

static enum err
load_state(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct bytes packed = {0};
    enum err err = fc_store_room_state(chat->store, place->row.room_id, &packed, why);
    if (err == ERR_OK && packed.size > 0) {
        struct e2e_room state = {0};
        err = e2e_room_unpack(&state, bytes_as_view(&packed));
        if (err == ERR_OK) {
            e2e_room_deinit(&place->state);
            place->state = state;
        } else {
            err = err_fail(why, err, "what is kept here of \"%s\" is damaged (%s)", place->row.name,
                fc_store_path(chat->store));
        }
    }
    bytes_free(&packed);
    return err;
}

static enum err
make_place(struct fc_chat *chat, const struct fc_store_room *row, struct fc_chat_place **out, struct err_detail *why)
{
    struct fc_chat_place *place = calloc(1, sizeof(*place));
    if (place == NULL) {
        return ERR_NO_MEMORY;
    }
    place->row = *row;
    bytes_to_hex(bytes_view_of(row->room_id, sizeof(row->room_id)), place->id_text);
    enum err err = ERR_OK;
    if (!row->is_plain) {
        place->chains = calloc(FC_CHAT_CHAINS_KEPT, sizeof(*place->chains));
        err = place->chains == NULL ? ERR_NO_MEMORY : load_state(chat, place, why);
    }
    if (err == ERR_OK && !row->is_plain) {
        err = fc_chat_chains_load(chat, place, why);
    }
    if (err == ERR_OK) {
        HASH_ADD(hh, chat->places, row.room_id, sizeof(place->row.room_id), place);
        err = place->hh.tbl == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        free_place(place);
        return err;
    }
    *out = place;
    return ERR_OK;
}

enum err
fc_chat_reload(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct fc_store_room row;
    enum err err = fc_store_room_get(chat->store, place->row.room_id, &row, why);
    if (err != ERR_OK) {
        return err;
    }
    bool has_new_messages = !row.is_plain && row.synced_seq != place->row.synced_seq;
    bool has_new_entries = !row.is_plain && row.log_seq != (place->state.state == NULL ? 0 : place->state.state->seq);
    place->row = row;
    if (has_new_messages) {
        // Another process has fetched more: the chain goes on from there.
        err = fc_chat_chains_load(chat, place, why);
    }
    return err == ERR_OK && has_new_entries ? load_state(chat, place, why) : err;
}

enum err
fc_chat_get_place(struct fc_chat *chat, const uint8_t room_id[E2E_ID_BYTES], struct fc_chat_place **out,
    struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    struct fc_store_room row;
    HASH_FIND(hh, chat->places, room_id, E2E_ID_BYTES, place);
    if (place != NULL) {
        *out = place;
        return fc_chat_reload(chat, place, why);
    }
    enum err err = fc_store_room_get(chat->store, room_id, &row, why);
    return err == ERR_OK ? make_place(chat, &row, out, why) : err;
}

enum err
fc_chat_take_room(struct fc_chat *chat, const Fc__Chat__V1__Room *wire, struct fc_chat_place **out,
    struct err_detail *why)
{
    struct fc_room room;
    struct fc_store_room row = {0};
    enum err err = fc_room_from_wire(wire, &room, why);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(row.room_id, room.id, sizeof(row.room_id));
    memcpy(row.name, room.name, sizeof(row.name));
    memcpy(row.topic, room.topic, sizeof(row.topic));
    row.is_plain = room.is_plain;
    row.is_member = room.is_member || room.is_invited;
    row.kind = wire->kind;
    err = fc_store_room_put(chat->store, &row, why);
    if (err == ERR_CONFLICT) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server says that \"%s\" is %s now, which no room ever becomes: it, or somebody in between, is not "
            "honest",
            room.name, room.is_plain ? "not encrypted" : "encrypted");
    }
    if (err == ERR_OK) {
        err = fc_store_room_set_head(chat->store, room.id, room.head_seq, why);
    }
    if (err == ERR_OK) {
        err = fc_store_room_set_read(chat->store, room.id, room.read_seq, why);
    }
    return err == ERR_OK ? fc_chat_get_place(chat, room.id, out, why) : err;
}

static enum err
ask_for_room(struct fc_chat *chat, const char *room, struct fc_chat_place **out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__GetRoomResponse *response = NULL;
    Fc__Chat__V1__GetRoomRequest request = FC__CHAT__V1__GET_ROOM_REQUEST__INIT;
    request.room = fc_lend_text(room);
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_get_room(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_chat_take_room(chat, response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
fail_gone(const char *name, struct err_detail *why)
{
    return err_fail(why, ERR_DENIED, "you are no longer in \"%s\"; fc history %s --offline shows what is here of it",
        name, name);
}

enum err
fc_chat_note_gone(struct fc_chat *chat, struct fc_chat_place *place, enum err err, struct err_detail *why)
{
    struct fc_store_room row = place->row;
    if (err != ERR_NOT_FOUND || !row.is_member) {
        return err;
    }
    row.is_member = false;
    err = fc_store_room_put(chat->store, &row, why);
    if (err != ERR_OK) {
        return err;
    }
    place->row.is_member = false;
    return fail_gone(row.name, why);
}

enum err
fc_chat_ask_gone(struct fc_chat *chat, struct fc_chat_place *place, enum err err, struct err_detail *why)
{
    struct fc_chat_place *found = NULL;
    if (err == ERR_NOT_FOUND && ask_for_room(chat, place->id_text, &found, NULL) == ERR_NOT_FOUND) {
        return fc_chat_note_gone(chat, place, err, why);
    }
    return err;
}

static enum err
find_row(struct fc_chat *chat, const char *room, struct fc_store_room *out, struct err_detail *why)
{
    uint8_t room_id[E2E_ID_BYTES];
    bool is_id = strlen(room) == 2 * E2E_ID_BYTES && bytes_from_hex(room, room_id, sizeof(room_id)) == ERR_OK;
    return is_id ? fc_store_room_get(chat->store, room_id, out, why) : fc_store_room_find(chat->store, room, out, why);
}

enum err
fc_chat_find_kept(struct fc_chat *chat, const char *room, struct fc_chat_place **out, struct err_detail *why)
{
    struct fc_store_room row;
    enum err err = find_row(chat, room, &row, why);
    return err == ERR_OK ? fc_chat_get_place(chat, row.room_id, out, why) : fc_chat_find_place(chat, room, out, why);
}

enum err
fc_chat_find_place(struct fc_chat *chat, const char *room, struct fc_chat_place **out, struct err_detail *why)
{
    uint8_t room_id[E2E_ID_BYTES];
    struct fc_store_room row;
    bool is_id = strlen(room) == 2 * E2E_ID_BYTES && bytes_from_hex(room, room_id, sizeof(room_id)) == ERR_OK;
    enum err err = find_row(chat, room, &row, why);
    bool is_kept = err == ERR_OK;
    if (is_kept && row.is_member) {
        err = fc_chat_get_place(chat, row.room_id, out, why);
    } else if (is_kept || err == ERR_NOT_FOUND) {
        err = ask_for_room(chat, room, out, why);
    }
    if (err == ERR_NOT_FOUND && is_kept) {
        return fail_gone(row.name, why);
    }
    if (err == ERR_OK && is_id && memcmp((*out)->row.room_id, room_id, sizeof(room_id)) != 0) {
        return err_fail(why, ERR_UNTRUSTED, "the server leads you to another room than the one with this id");
    }
    return err == ERR_OK && !is_id ? fc_chat_check_name(chat, *out, room, why) : err;
}

// --- Listing --------------------------------------------------------------------------------------------------------

static enum err
take_page(struct fc_chat *chat, const Fc__Chat__V1__ListRoomsResponse *page, struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < page->n_rooms && err == ERR_OK; i++) {
        struct fc_chat_place *place;
        err = fc_chat_take_room(chat, page->rooms[i], &place, why);
    }
    return err;
}

// keep_page writes a page at once; with the first one rooms that are in no page stop being the user's.
static enum err
keep_page(struct fc_chat *chat, const Fc__Chat__V1__ListRoomsResponse *page, bool is_first, struct err_detail *why)
{
    enum err err = fc_store_begin(chat->store, why);
    if (err == ERR_OK && is_first) {
        err = fc_store_room_forget_all(chat->store, why);
    }
    if (err == ERR_OK) {
        err = take_page(chat, page, why);
    }
    if (err == ERR_OK) {
        return fc_store_commit(chat->store, why);
    }
    fc_store_rollback(chat->store);
    return err;
}

static enum err
refresh(struct fc_chat *chat, struct err_detail *why)
{
    char after_name[FC_STORE_ROOM_NAME_MAX_BYTES] = "";
    bool is_first = true;
    bool goes_on = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && goes_on) {
        struct rpc_unary call;
        const Fc__Chat__V1__ListRoomsResponse *page = NULL;
        Fc__Chat__V1__ListRoomsRequest request = FC__CHAT__V1__LIST_ROOMS_REQUEST__INIT;
        request.after_name = after_name;
        request.limit = ROOMS_PAGE;
        request.is_mine_only = true;
        fc_chat_start_call(chat, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_list_rooms(&call, &request, &page), why);
        if (err == ERR_OK) {
            err = keep_page(chat, page, is_first, why);
        }
        if (err == ERR_OK) {
            size_t size = strlen(page->next_after_name) + 1;
            goes_on = page->has_more && size <= sizeof(after_name) && strcmp(page->next_after_name, after_name) != 0;
            if (goes_on) {
                memcpy(after_name, page->next_after_name, size);
            }
        }
        is_first = false;
        rpc_unary_deinit(&call);
    }
    return err;
}

enum err
fc_chat_refresh(struct fc_chat *chat, struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = refresh(chat, why);
    fc_chat_unlock(chat);
    return err;
}

void
fc_chat_describe(const struct fc_chat_place *place, struct fc_room *out)
{
    const struct fc_store_room *row = &place->row;
    memset(out, 0, sizeof(*out));
    memcpy(out->id, row->room_id, sizeof(out->id));
    memcpy(out->name, row->name, sizeof(out->name));
    memcpy(out->topic, row->topic, sizeof(out->topic));
    out->head_seq = row->head_seq;
    out->is_member = row->is_member;
    out->is_plain = row->is_plain;
    out->is_public = row->kind == FC__E2E__V1__ROOM_KIND__PUBLIC;
    out->is_direct = row->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    out->read_seq = row->read_seq;
    out->log_seq = row->log_seq;
    if (place->state.state != NULL) {
        out->member_count = (uint32_t)place->state.state->n_members;
        out->is_archived = place->state.state->is_archived;
    }
}

struct room_walk {
    struct fc_chat *chat;
    struct fc_chat_room *rooms;
    size_t count;
    enum err err;
};

static bool
collect_room(void *context, const struct fc_store_room *row)
{
    struct room_walk *walk = context;
    if (!row->is_member) {
        return true;
    }
    struct fc_chat_room *grown = realloc(walk->rooms, (walk->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        walk->err = ERR_NO_MEMORY;
        return false;
    }
    walk->rooms = grown;
    const struct fc_chat_place place = {.row = *row};
    struct fc_chat_room *room = &grown[walk->count++];
    *room = (struct fc_chat_room){
        .synced_seq = row->synced_seq,
        .unread_count = (uint32_t)row->unread_count,
        .mention_count = (uint32_t)row->mention_count,
    };
    fc_chat_describe(&place, &room->room);
    return true;
}

enum err
fc_chat_each_room(struct fc_chat *chat, bool (*fn)(void *context, const struct fc_chat_room *room), void *context,
    struct err_detail *why)
{
    struct room_walk walk = {.chat = chat};
    fc_chat_lock(chat);
    enum err err = fc_store_room_each(chat->store, collect_room, &walk, why);
    err = err == ERR_OK ? walk.err : err;
    fc_chat_unlock(chat);
    for (size_t i = 0; i < walk.count && err == ERR_OK; i++) {
        if (!fn(context, &walk.rooms[i])) {
            break;
        }
    }
    free(walk.rooms);
    return err;
}
