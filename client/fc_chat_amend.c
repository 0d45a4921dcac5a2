// Changing rooms. In plain ones the server is asked; in encrypted ones an entry of the log says what changes, gives
// keys to exactly those who shall have them, and counts when the server has put it into the log: own entries are
// applied, as everybody's, when they come back from there. When others were faster the entry is made anew on top of
// theirs.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    CLOCKS_APART_MAX_MS = 10 * 60 * 1000, // of a server and its clients
};

// --- Changes of an entry --------------------------------------------------------------------------------------------

// member_named finds somebody of the room by name.
static enum err
member_named(const struct fc_chat_place *place, const char *name, const Fc__E2e__V1__RoomMember **out,
    struct err_detail *why)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    for (size_t i = 0; i < state->n_members; i++) {
        if (strcmp(state->members[i]->user_name, name) == 0) {
            *out = state->members[i];
            return ERR_OK;
        }
    }
    return err_fail(why, ERR_NOT_FOUND, "%s is not in \"%s\"; fc room show %s lists who is", name, place->row.name,
        place->row.name);
}

static enum err
add_people(struct fc_chat *chat, struct fc_chat_entry *entry, const char *const *names, size_t count, bool is_invited,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        const struct e2e_user *user = NULL;
        err = fc_chat_user_named(chat, names[i], &user, why);
        if (err == ERR_OK) {
            err = fc_chat_entry_add_member(entry, user, FC__E2E__V1__ROLE__MEMBER, is_invited);
        }
    }
    return err;
}

static enum err
remove_people(struct fc_chat_entry *entry, const struct fc_chat_place *place, const char *const *names, size_t count,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        const Fc__E2e__V1__RoomMember *member = NULL;
        err = member_named(place, names[i], &member, why);
        Fc__E2e__V1__RoomChange *change =
            err == ERR_OK ? fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER) : NULL;
        if (err == ERR_OK) {
            err = change == NULL
                      ? ERR_NO_MEMORY
                      : fc_chat_entry_bytes(entry, member->user_id.data, E2E_ID_BYTES, &change->remove_member);
        }
    }
    return err;
}

static enum err
set_roles(struct fc_chat_entry *entry, const struct fc_chat_place *place, const struct fc_chat_amendment *amendment,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < amendment->role_count && err == ERR_OK; i++) {
        const Fc__E2e__V1__RoomMember *member = NULL;
        err = member_named(place, amendment->roles[i].user_name, &member, why);
        if (err != ERR_OK) {
            break;
        }
        Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ROLE);
        Fc__E2e__V1__SetRole *set = fc_chat_entry_new(entry, sizeof(*set));
        if (change == NULL || set == NULL) {
            return ERR_NO_MEMORY;
        }
        fc__e2e__v1__set_role__init(set);
        set->role = (Fc__E2e__V1__Role)amendment->roles[i].role;
        change->set_role = set;
        err = fc_chat_entry_bytes(entry, member->user_id.data, E2E_ID_BYTES, &set->user_id);
    }
    return err;
}

bool
fc_chat_is_link_spent(const struct fc_chat *chat, const struct fc_chat_place *place, const Fc__E2e__V1__RoomLink *link)
{
    const Fc__E2e__V1__RoomMember *self = e2e_room_member(&place->state, fc_chat_own_id(chat));
    bool is_admin = self != NULL && self->role >= FC__E2E__V1__ROLE__ADMIN;
    // Only admins may take out what by another's clock has not expired.
    return e2e_room_is_link_used_up(link) ||
           e2e_room_is_link_expired(link, clock_unix_ms() - (is_admin ? 0 : CLOCKS_APART_MAX_MS));
}

// revoke_spent_links takes out links that have expired or are used up, which any rekey does.
static enum err
revoke_spent_links(const struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    enum err err = ERR_OK;
    for (size_t i = 0; i < state->n_links && err == ERR_OK; i++) {
        const Fc__E2e__V1__InviteLink *link = state->links[i]->link;
        if (fc_chat_is_link_spent(chat, place, state->links[i]) && !fc_chat_entry_revokes(entry, link)) {
            Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK);
            err = change == NULL ? ERR_NO_MEMORY
                                 : fc_chat_entry_bytes(entry, link->link_id.data, E2E_ID_BYTES, &change->revoke_link);
        }
    }
    return err;
}

static enum err
write_amendment(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place,
    const struct fc_chat_amendment *amendment, struct err_detail *why)
{
    enum err err = set_roles(entry, place, amendment, why);
    // Who is removed and added in one step comes back with the keys that they have now.
    if (err == ERR_OK) {
        err = remove_people(entry, place, amendment->remove, amendment->remove_count, why);
    }
    if (err == ERR_OK) {
        err = add_people(chat, entry, amendment->add, amendment->add_count, false, why);
    }
    if (err == ERR_OK) {
        err = add_people(chat, entry, amendment->invite, amendment->invite_count, true, why);
    }
    if (err == ERR_OK && amendment->name != NULL) {
        err = fc_chat_entry_set_text(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME, amendment->name);
    }
    if (err == ERR_OK && amendment->topic != NULL) {
        err = fc_chat_entry_set_text(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC, amendment->topic);
    }
    if (err == ERR_OK && (amendment->archive || amendment->revive)) {
        Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED);
        err = change == NULL ? ERR_NO_MEMORY : ERR_OK;
        if (err == ERR_OK) {
            change->set_archived = amendment->archive;
        }
    }
    return err;
}

// --- Sending entries ------------------------------------------------------------------------------------------------

// amend_with sends an entry of the room and applies what has become of the log.
static enum err
amend_with(struct fc_chat *chat, struct fc_chat_place *place, struct fc_chat_entry *entry, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    request.room = place->id_text;
    request.entry = &entry->wire;
    request.link_info = entry->link_info;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_amend(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_chat_amend_log(struct fc_chat *chat, struct fc_chat_place *place, fc_chat_write_fn *write, const void *context,
    bool is_rekey_wanted, struct err_detail *why)
{
    uint8_t hash[E2E_HASH_BYTES];
    enum err err = fc_chat_settle(chat, place, why);
    err = err == ERR_OK ? ERR_CONFLICT : err;
    for (unsigned i = 0; i < FC_CHAT_ATTEMPTS && err == ERR_CONFLICT; i++) {
        struct fc_chat_entry entry = {0};
        const struct e2e_keys *device = NULL;
        err = fc_chat_sync_log(chat, place, why);
        if (err == ERR_OK) {
            err = fc_chat_own_device(chat, &device, why);
        }
        if (err == ERR_OK) {
            err = fc_chat_entry_init(&entry, &place->state, place->row.room_id, fc_chat_own_id(chat), device->id);
        }
        if (err == ERR_OK) {
            err = write(chat, &entry, place, context, why);
        }
        if (err == ERR_OK) {
            bool is_rekey = is_rekey_wanted || place->state.state->is_rekey_needed ||
                            e2e_room_needs_rekey(&place->state, &entry.entry);
            err = is_rekey ? revoke_spent_links(chat, &entry, place) : ERR_OK;
            if (err == ERR_OK) {
                err = fc_chat_entry_complete(chat, place, &entry, is_rekey, NULL, why);
            }
        }
        if (err == ERR_OK) {
            err = amend_with(chat, place, &entry, why);
        }
        if (err == ERR_OK) {
            err = e2e_room_entry_hash(bytes_as_view(&entry.body), hash);
        }
        fc_chat_entry_deinit(&entry);
    }
    return err == ERR_OK ? fc_chat_own_entry_check(chat, place, hash, why) : err;
}

static enum err
write_nothing(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place, const void *context,
    struct err_detail *why)
{
    (void)chat;
    (void)entry;
    (void)place;
    (void)context;
    (void)why;
    return ERR_OK;
}

enum err
fc_chat_rekey(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    return fc_chat_amend_log(chat, place, write_nothing, NULL, true, why);
}

static enum err
write_change(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place, const void *context,
    struct err_detail *why)
{
    return write_amendment(chat, entry, place, context, why);
}

// --- Amending -------------------------------------------------------------------------------------------------------

static enum err
amend_plain(struct fc_chat *chat, struct fc_chat_place *place, const struct fc_chat_amendment *amendment,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__AmendResponse *response = NULL;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    Fc__Chat__V1__RoleChange *roles = calloc(amendment->role_count + 1, sizeof(*roles));
    Fc__Chat__V1__RoleChange **pointers = calloc(amendment->role_count + 1, sizeof(*pointers));
    enum err err = roles == NULL || pointers == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; i < amendment->role_count && err == ERR_OK; i++) {
        fc__chat__v1__role_change__init(&roles[i]);
        roles[i].user_name = fc_lend_text(amendment->roles[i].user_name);
        roles[i].role = (Fc__E2e__V1__Role)amendment->roles[i].role;
        pointers[i] = &roles[i];
    }
    request.room = place->id_text;
    request.add = fc_lend_texts(amendment->add);
    request.n_add = amendment->add_count;
    request.remove = fc_lend_texts(amendment->remove);
    request.n_remove = amendment->remove_count;
    request.invite = fc_lend_texts(amendment->invite);
    request.n_invite = amendment->invite_count;
    request.roles = pointers;
    request.n_roles = amendment->role_count;
    request.archive = amendment->archive;
    request.revive = amendment->revive;
    if (amendment->name != NULL) {
        request.name = fc_lend_text(amendment->name);
    }
    if (amendment->topic != NULL) {
        request.topic = fc_lend_text(amendment->topic);
        request.is_topic_set = true;
    }
    if (err == ERR_OK) {
        fc_chat_start_call(chat, &call);
        err = fc_session_explain(&call, fc_chat_v1_chat_amend(&call, &request, &response), why);
        if (err == ERR_OK) {
            err = fc_chat_take_room(chat, response->room, &place, why);
        }
        rpc_unary_deinit(&call);
    }
    free(pointers);
    free(roles);
    return err;
}

enum err
fc_chat_amend(struct fc_chat *chat, const char *room, const struct fc_chat_amendment *amendment, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        err = amendment->rekey ? err_fail(why, ERR_INVALID, "\"%s\" is not encrypted: it has no keys", place->row.name)
                               : amend_plain(chat, place, amendment, why);
    } else if (err == ERR_OK) {
        err = fc_chat_amend_log(chat, place, write_change, amendment, amendment->rekey, why);
    }
    fc_chat_unlock(chat);
    return err;
}
