// What a server was found to lie about. Where that is noticed, while messages or a log are fetched, is not always where
// it matters, when something is sent; so it is remembered until all is right again.
#include <stdio.h>
#include <string.h>

#include "client/fc_chat_priv.h"

enum {
    NOTE_NAME_MAX_BYTES = 64,
};

// The first byte of a note.
static const char doubt_marks[] = {[FC_CHAT_DOUBT_SYNC] = 's', [FC_CHAT_DOUBT_AUDIT] = 'a'};

static void
name_note(const struct fc_chat_place *place, char out[NOTE_NAME_MAX_BYTES])
{
    (void)snprintf(out, NOTE_NAME_MAX_BYTES, "doubt %s", place->id_text);
}

// read_note appends the note and a NUL. Nothing: there is none.
static enum err
read_note(struct fc_chat *chat, const struct fc_chat_place *place, struct bytes *out, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    name_note(place, name);
    enum err err = fc_store_note_get(chat->store, name, out, why);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    return err == ERR_OK ? bytes_append(out, bytes_view_of("", 1)) : err;
}

enum err
fc_chat_judge(struct fc_chat *chat, const struct fc_chat_place *place, enum fc_chat_doubt doubt, enum err err,
    const struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    struct bytes note = {0};
    if (err != ERR_UNTRUSTED || place->row.is_plain) {
        return err;
    }
    name_note(place, name);
    enum err kept = bytes_append(&note, bytes_view_of(&doubt_marks[doubt], 1));
    if (kept == ERR_OK) {
        kept = bytes_append(&note, bytes_view_of_text(err_message(why, err)));
    }
    if (kept == ERR_OK) {
        kept = fc_store_note_put(chat->store, name, bytes_as_view(&note), NULL);
    }
    bytes_free(&note);
    (void)kept; // what was found is told in any case
    return err;
}

enum err
fc_chat_absolve(struct fc_chat *chat, const struct fc_chat_place *place, enum fc_chat_doubt doubt,
    struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    struct bytes note = {0};
    struct bytes_view nothing = {0};
    name_note(place, name);
    enum err err = read_note(chat, place, &note, why);
    if (err == ERR_OK && note.size > 0 &&
        (doubt == FC_CHAT_DOUBT_AUDIT || note.data[0] == doubt_marks[FC_CHAT_DOUBT_SYNC])) {
        err = fc_store_note_put(chat->store, name, nothing, why);
    }
    bytes_free(&note);
    return err;
}

enum err
fc_chat_settle(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct bytes note = {0};
    if (place->row.is_plain) {
        return ERR_OK;
    }
    enum err err = read_note(chat, place, &note, why);
    if (err == ERR_OK && note.size > 0 && note.data[0] == doubt_marks[FC_CHAT_DOUBT_SYNC]) {
        err = fc_chat_sync_place(chat, place, why);
    } else if (err == ERR_OK && note.size > 0) {
        err = err_fail(why, ERR_UNTRUSTED,
            "an audit of \"%s\" failed: %s; nothing is sent there before fc audit %s succeeds", place->row.name,
            (const char *)note.data + 1, place->row.name);
    }
    bytes_free(&note);
    return err;
}

// --- Names ----------------------------------------------------------------------------------------------------------

// name_by_log is what the members call the room: of a direct one "@" and the other's name. False: not known.
static bool
name_by_log(const struct fc_chat *chat, const struct fc_chat_place *place, char out[FC_STORE_ROOM_NAME_MAX_BYTES])
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    if (state == NULL || strlen(state->name) >= FC_STORE_ROOM_NAME_MAX_BYTES) {
        return false;
    }
    if (state->kind != FC__E2E__V1__ROOM_KIND__DIRECT) {
        (void)snprintf(out, FC_STORE_ROOM_NAME_MAX_BYTES, "%s", state->name);
        return true;
    }
    for (size_t i = 0; i < state->n_members; i++) {
        if (memcmp(state->members[i]->user_id.data, fc_chat_own_id(chat), E2E_ID_BYTES) != 0) {
            (void)snprintf(out, FC_STORE_ROOM_NAME_MAX_BYTES, "@%s", state->members[i]->user_name);
            return true;
        }
    }
    return false;
}

enum err
fc_chat_check_name(struct fc_chat *chat, struct fc_chat_place *place, const char *name, struct err_detail *why)
{
    char by_log[FC_STORE_ROOM_NAME_MAX_BYTES];
    enum err err = ERR_OK;
    if (place->row.is_plain || !place->row.is_member) {
        return ERR_OK;
    }
    if (!name_by_log(chat, place, by_log) || strcmp(by_log, name) != 0) {
        err = fc_chat_sync_log(chat, place, why);
    }
    if (err == ERR_OK && name_by_log(chat, place, by_log) && strcmp(by_log, name) != 0) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server leads you to another room than \"%s\": the members of that one call it \"%s\"", name, by_log);
    }
    return err;
}

enum err
fc_chat_keep_name(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    char by_log[FC_STORE_ROOM_NAME_MAX_BYTES];
    struct fc_store_room row = place->row;
    const Fc__E2e__V1__RoomState *state = place->state.state;
    if (!name_by_log(chat, place, by_log) || strlen(state->topic) >= sizeof(row.topic) ||
        (strcmp(row.name, by_log) == 0 && strcmp(row.topic, state->topic) == 0)) {
        return ERR_OK;
    }
    (void)snprintf(row.name, sizeof(row.name), "%s", by_log);
    (void)snprintf(row.topic, sizeof(row.topic), "%s", state->topic);
    row.kind = state->kind;
    enum err err = fc_store_room_put(chat->store, &row, why);
    return err == ERR_OK ? fc_chat_reload(chat, place, why) : err;
}
