// Changing rooms. In plain ones the server is asked; in encrypted ones an entry of the log says what changes, gives keys
// to exactly those who shall have them, and counts when the server has put it into the log: own entries are applied, as
// everybody's, when they come back from there. When others were faster the entry is made anew on top of theirs.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"

#include "fc/chat/v1/chat.stub.h"

static ProtobufCBinaryData
lend(const void *data, size_t size)
{
    // protobuf-c has no const; what is only packed is not written to.
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static char *
lend_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static char **
lend_texts(const char *const *texts)
{
    return (char **)(uintptr_t)texts;
}

// --- Changes of an entry --------------------------------------------------------------------------------------------

static enum err
add_member(struct fc_chat_entry *entry, const struct e2e_user *user, Fc__E2e__V1__Role role, bool is_invited)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER);
    Fc__E2e__V1__AddMember *member = fc_chat_entry_new(entry, sizeof(*member));
    if (change == NULL || member == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__add_member__init(member);
    change->add_member = member;
    member->role = role;
    member->is_invited = is_invited;
    member->user_name = fc_chat_entry_text(entry, user->name);
    if (member->user_name == NULL) {
        return ERR_NO_MEMORY;
    }
    return fc_chat_entry_bytes(entry, user->id, E2E_ID_BYTES, &member->user_id);
}

static enum err
set_text(struct fc_chat_entry *entry, Fc__E2e__V1__RoomChange__KindCase kind, const char *text)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, kind);
    char *copy = fc_chat_entry_text(entry, text);
    if (change == NULL || copy == NULL) {
        return ERR_NO_MEMORY;
    }
    if (kind == FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME) {
        change->set_name = copy;
    } else {
        change->set_topic = copy;
    }
    return ERR_OK;
}

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
            err = add_member(entry, user, FC__E2E__V1__ROLE__MEMBER, is_invited);
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
            err = change == NULL ? ERR_NO_MEMORY
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

// revoke_spent_links takes out links that have expired or are used up, which any rekey does.
static enum err
revoke_spent_links(struct fc_chat_entry *entry, const struct fc_chat_place *place)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    enum err err = ERR_OK;
    for (size_t i = 0; i < state->n_links && err == ERR_OK; i++) {
        const Fc__E2e__V1__InviteLink *link = state->links[i]->link;
        bool is_spent = (link->expires_at_ms != 0 && link->expires_at_ms <= clock_unix_ms()) ||
                        (link->max_uses != 0 && state->links[i]->use_count >= link->max_uses);
        if (is_spent) {
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
    enum err err = add_people(chat, entry, amendment->add, amendment->add_count, false, why);
    if (err == ERR_OK) {
        err = add_people(chat, entry, amendment->invite, amendment->invite_count, true, why);
    }
    if (err == ERR_OK) {
        err = set_roles(entry, place, amendment, why);
    }
    if (err == ERR_OK) {
        err = remove_people(entry, place, amendment->remove, amendment->remove_count, why);
    }
    if (err == ERR_OK && amendment->name != NULL) {
        err = set_text(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME, amendment->name);
    }
    if (err == ERR_OK && amendment->topic != NULL) {
        err = set_text(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC, amendment->topic);
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

// --- Keys of an entry -----------------------------------------------------------------------------------------------

// receivers is who is in the room after an entry.
struct receivers {
    const uint8_t **ids; // members and invited users
    size_t id_count;
    struct fc_chat_target *targets;
    size_t target_count;
};

static void
receivers_deinit(struct receivers *receivers)
{
    free(receivers->ids);
    free(receivers->targets);
}

static bool
is_id(ProtobufCBinaryData one, const uint8_t other[E2E_ID_BYTES])
{
    return one.len == E2E_ID_BYTES && memcmp(one.data, other, E2E_ID_BYTES) == 0;
}

static void
drop_id(struct receivers *receivers, const uint8_t id[E2E_ID_BYTES])
{
    for (size_t i = 0; i < receivers->id_count; i++) {
        if (memcmp(receivers->ids[i], id, E2E_ID_BYTES) == 0) {
            receivers->ids[i] = receivers->ids[--receivers->id_count];
            return;
        }
    }
}

// list_people follows the entry's changes.
static enum err
list_people(const struct fc_chat_place *place, const struct fc_chat_entry *entry, struct receivers *out)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    size_t member_count = state == NULL ? 0 : state->n_members;
    out->ids = calloc(member_count + entry->entry.n_changes + 1, sizeof(*out->ids));
    if (out->ids == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < member_count; i++) {
        out->ids[out->id_count++] = state->members[i]->user_id.data;
    }
    for (size_t i = 0; i < entry->entry.n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->entry.changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER) {
            drop_id(out, change->remove_member.data);
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER) {
            drop_id(out, change->add_member->user_id.data);
            out->ids[out->id_count++] = change->add_member->user_id.data;
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK ||
                   change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_CREATE) {
            drop_id(out, entry->entry.user_id.data);
            out->ids[out->id_count++] = entry->entry.user_id.data;
        }
    }
    return ERR_OK;
}

static bool
is_link_revoked(const struct fc_chat_entry *entry, const Fc__E2e__V1__InviteLink *link)
{
    for (size_t i = 0; i < entry->entry.n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->entry.changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK &&
            is_id(change->revoke_link, link->link_id.data)) {
            return true;
        }
    }
    return false;
}

// is_added: the entry takes the user in anew, with whatever identity they have now.
static bool
is_added(const struct fc_chat_entry *entry, const uint8_t user_id[E2E_ID_BYTES])
{
    for (size_t i = 0; i < entry->entry.n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->entry.changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER &&
            is_id(change->add_member->user_id, user_id)) {
            return true;
        }
    }
    return false;
}

// list_targets names the head of everybody who is in the room then, and lists those who get keys: not those who have
// another identity than the room knows.
static enum err
list_targets(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_chat_entry *entry,
    struct receivers *receivers, struct err_detail *why)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    size_t link_count = state == NULL ? 0 : state->n_links;
    receivers->targets =
        calloc(receivers->id_count + link_count + entry->entry.n_changes + 1, sizeof(*receivers->targets));
    if (receivers->targets == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = fc_chat_users_sync(chat, receivers->ids, receivers->id_count, why);
    for (size_t i = 0; i < receivers->id_count && err == ERR_OK; i++) {
        const Fc__E2e__V1__RoomMember *member = e2e_room_member(&place->state, receivers->ids[i]);
        const struct e2e_user *user = NULL;
        err = fc_chat_user(chat, receivers->ids[i], 0, &user, why);
        if (err == ERR_OK) {
            err = fc_chat_entry_name_head(entry, user);
        }
        if (err != ERR_OK) {
            break;
        }
        bool is_known = member == NULL || is_added(entry, user->id) ||
                        memcmp(member->identity_key.data, user->identity_key, CRYPTO_KEY_BYTES) == 0;
        if (is_known) {
            receivers->targets[receivers->target_count++].user = user;
        } else {
            fc_chat_warn(chat, "%s has a new identity and gets no key of \"%s\" until somebody removes and adds them again",
                user->name, place->row.name);
        }
    }
    for (size_t i = 0; i < link_count && err == ERR_OK; i++) {
        if (!is_link_revoked(entry, state->links[i]->link)) {
            receivers->targets[receivers->target_count++].link = state->links[i]->link;
        }
    }
    for (size_t i = 0; i < entry->entry.n_changes; i++) {
        if (entry->entry.changes[i]->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK) {
            receivers->targets[receivers->target_count++].link = entry->entry.changes[i]->add_link;
        }
    }
    return err;
}

// has_ladder: later members may read what is sealed before the entry.
static bool
has_ladder(const struct fc_chat_place *place, const struct fc_chat_entry *entry)
{
    for (size_t i = 0; i < entry->entry.n_changes; i++) {
        if (entry->entry.changes[i]->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY) {
            return false;
        }
    }
    return place->state.state != NULL && place->state.state->history == FC__E2E__V1__HISTORY__HISTORY_ALL;
}

static enum err
write_rekey(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_chat_entry *entry,
    struct err_detail *why)
{
    struct receivers receivers = {0};
    uint8_t previous[E2E_SECRET_BYTES];
    uint64_t epoch = place->state.state == NULL ? 0 : place->state.state->epoch;
    bool is_linked = has_ladder(place, entry);
    enum err err = list_people(place, entry, &receivers);
    if (err == ERR_OK) {
        err = list_targets(chat, place, entry, &receivers, why);
    }
    if (err == ERR_OK && is_linked) {
        err = fc_chat_epoch_secret(chat, place, epoch, previous, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_rekey(entry, epoch + 1, is_linked ? previous : NULL, receivers.targets,
            receivers.target_count);
    }
    digest_wipe(previous, sizeof(previous));
    receivers_deinit(&receivers);
    return err;
}

// write_wraps gives the present key to those who come in without a rekey.
static enum err
write_wraps(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_chat_entry *entry,
    struct err_detail *why)
{
    uint8_t secret[E2E_SECRET_BYTES];
    uint64_t epoch = place->state.state->epoch;
    bool has_secret = false;
    enum err err = ERR_OK;
    for (size_t i = 0; i < entry->entry.n_changes && err == ERR_OK; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->entry.changes[i];
        struct fc_chat_target target = {0};
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER) {
            err = fc_chat_user(chat, change->add_member->user_id.data, 0, &target.user, why);
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK) {
            err = fc_chat_user(chat, entry->entry.user_id.data, 0, &target.user, why);
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK &&
                   place->state.state->history == FC__E2E__V1__HISTORY__HISTORY_ALL) {
            target.link = change->add_link;
        } else {
            continue;
        }
        if (err == ERR_OK && !has_secret) {
            err = fc_chat_epoch_secret(chat, place, epoch, secret, why);
            has_secret = err == ERR_OK;
        }
        if (err == ERR_OK) {
            err = fc_chat_entry_wrap(entry, &target, epoch, secret);
        }
    }
    digest_wipe(secret, sizeof(secret));
    return err;
}

enum err
fc_chat_entry_complete(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_chat_entry *entry,
    bool is_rekey_wanted, const struct e2e_keys *link, struct err_detail *why)
{
    const struct e2e_keys *device = NULL;
    const struct e2e_user *author = NULL;
    enum err err = fc_chat_own_device(chat, &device, why);
    const uint8_t *own_id = fc_chat_own_id(chat);
    if (err == ERR_OK) {
        err = fc_chat_users_sync(chat, &own_id, 1, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_user(chat, own_id, 0, &author, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_name_head(entry, author);
    }
    if (err == ERR_OK) {
        bool is_rekey = is_rekey_wanted || e2e_room_needs_rekey(&place->state, &entry->entry);
        err = is_rekey ? write_rekey(chat, place, entry, why) : write_wraps(chat, place, entry, why);
    }
    return err == ERR_OK ? fc_chat_entry_sign(entry, device->sign_private, link) : err;
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
    enum err err = ERR_CONFLICT;
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
            err = is_rekey ? revoke_spent_links(&entry, place) : ERR_OK;
            if (err == ERR_OK) {
                err = fc_chat_entry_complete(chat, place, &entry, is_rekey, NULL, why);
            }
        }
        if (err == ERR_OK) {
            err = amend_with(chat, place, &entry, why);
        }
        fc_chat_entry_deinit(&entry);
    }
    return err == ERR_OK ? fc_chat_sync_log(chat, place, why) : err;
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
        roles[i].user_name = lend_text(amendment->roles[i].user_name);
        roles[i].role = (Fc__E2e__V1__Role)amendment->roles[i].role;
        pointers[i] = &roles[i];
    }
    request.room = place->id_text;
    request.add = lend_texts(amendment->add);
    request.n_add = amendment->add_count;
    request.remove = lend_texts(amendment->remove);
    request.n_remove = amendment->remove_count;
    request.invite = lend_texts(amendment->invite);
    request.n_invite = amendment->invite_count;
    request.roles = pointers;
    request.n_roles = amendment->role_count;
    request.archive = amendment->archive;
    request.revive = amendment->revive;
    if (amendment->name != NULL) {
        request.name = lend_text(amendment->name);
    }
    if (amendment->topic != NULL) {
        request.topic = lend_text(amendment->topic);
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

// take_name keeps a new name or topic of an encrypted room, which its log says.
static enum err
take_name(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct fc_store_room row = place->row;
    const Fc__E2e__V1__RoomState *state = place->state.state;
    if (row.kind == FC__E2E__V1__ROOM_KIND__DIRECT || strlen(state->name) >= sizeof(row.name) ||
        strlen(state->topic) >= sizeof(row.topic)) {
        return ERR_OK;
    }
    memset(row.name, 0, sizeof(row.name));
    memcpy(row.name, state->name, strlen(state->name));
    memset(row.topic, 0, sizeof(row.topic));
    memcpy(row.topic, state->topic, strlen(state->topic));
    enum err err = fc_store_room_put(chat->store, &row, why);
    return err == ERR_OK ? fc_chat_reload(chat, place, why) : err;
}

enum err
fc_chat_amend(struct fc_chat *chat, const char *room, const struct fc_chat_amendment *amendment,
    struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        err = amendment->rekey ? err_fail(why, ERR_INVALID, "\"%s\" is not encrypted: it has no keys", place->row.name)
                               : amend_plain(chat, place, amendment, why);
    } else if (err == ERR_OK) {
        err = fc_chat_amend_log(chat, place, write_change, amendment, amendment->rekey, why);
        if (err == ERR_OK) {
            err = take_name(chat, place, why);
        }
    }
    fc_chat_unlock(chat);
    return err;
}

// --- Making rooms ---------------------------------------------------------------------------------------------------

static enum err
create_with(struct fc_chat *chat, const Fc__Chat__V1__CreateRoomRequest *request, struct fc_chat_place **out,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__CreateRoomResponse *response = NULL;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_create_room(&call, request, &response), why);
    if (err == ERR_OK) {
        err = fc_chat_take_room(chat, response->room, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
create_plain(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_chat_place **out,
    struct err_detail *why)
{
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    request.name = lend_text(wanted->name == NULL ? "" : wanted->name);
    request.is_plain = true;
    request.kind = wanted->is_direct   ? FC__E2E__V1__ROOM_KIND__DIRECT
                   : wanted->is_public ? FC__E2E__V1__ROOM_KIND__PUBLIC
                                       : FC__E2E__V1__ROOM_KIND__PRIVATE;
    request.topic = lend_text(wanted->topic == NULL ? "" : wanted->topic);
    request.members = lend_texts(wanted->members);
    request.n_members = wanted->member_count;
    return create_with(chat, &request, out, why);
}

static enum err
write_creation(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_new_room *wanted,
    struct err_detail *why)
{
    Fc__E2e__V1__RoomChange *change = fc_chat_entry_add(entry, FC__E2E__V1__ROOM_CHANGE__KIND_CREATE);
    Fc__E2e__V1__CreateRoom *create = fc_chat_entry_new(entry, sizeof(*create));
    char *name = fc_chat_entry_text(entry, wanted->name == NULL ? "" : wanted->name);
    if (change == NULL || create == NULL || name == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__create_room__init(create);
    create->name = name;
    create->kind = wanted->is_direct ? FC__E2E__V1__ROOM_KIND__DIRECT : FC__E2E__V1__ROOM_KIND__PRIVATE;
    create->history = wanted->is_history_joined ? FC__E2E__V1__HISTORY__HISTORY_JOINED
                                                : FC__E2E__V1__HISTORY__HISTORY_ALL;
    change->create = create;
    enum err err = ERR_OK;
    for (size_t i = 0; i < wanted->member_count && err == ERR_OK; i++) {
        const struct e2e_user *user = NULL;
        err = fc_chat_user_named(chat, wanted->members[i], &user, why);
        if (err == ERR_OK) {
            err = add_member(entry, user, wanted->is_direct ? FC__E2E__V1__ROLE__OWNER : FC__E2E__V1__ROLE__MEMBER,
                false);
        }
    }
    if (err == ERR_OK && wanted->topic != NULL && wanted->topic[0] != '\0') {
        err = set_text(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC, wanted->topic);
    }
    return err;
}

static enum err
create_encrypted(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_chat_place **out,
    struct err_detail *why)
{
    uint8_t room_id[E2E_ID_BYTES];
    struct fc_chat_entry entry = {0};
    const struct fc_chat_place nowhere = {0};
    const struct e2e_keys *device = NULL;
    enum err err = fc_chat_own_device(chat, &device, why);
    random_bytes(room_id, sizeof(room_id));
    if (err == ERR_OK) {
        err = fc_chat_entry_init(&entry, &nowhere.state, room_id, fc_chat_own_id(chat), device->id);
    }
    if (err == ERR_OK) {
        err = write_creation(chat, &entry, wanted, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_complete(chat, &nowhere, &entry, true, NULL, why);
    }
    if (err == ERR_OK) {
        Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
        request.name = lend_text(wanted->name == NULL ? "" : wanted->name);
        request.entry = &entry.wire;
        err = create_with(chat, &request, out, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_sync_log(chat, *out, why);
    }
    fc_chat_entry_deinit(&entry);
    return err;
}

static enum err
create(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_room *out, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    if (wanted->is_public && !wanted->is_plain) {
        return err_fail(why, ERR_INVALID,
            "everybody on the server may enter and read a public room, so that there is nothing to encrypt: make it with "
            "--plain");
    }
    enum err err = wanted->is_plain ? create_plain(chat, wanted, &place, why) : create_encrypted(chat, wanted, &place, why);
    if (err == ERR_OK) {
        fc_chat_describe(place, out);
    }
    return err;
}

enum err
fc_chat_create(struct fc_chat *chat, const struct fc_chat_new_room *wanted, struct fc_room *out,
    struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = create(chat, wanted, out, why);
    fc_chat_unlock(chat);
    return err;
}

static enum err
find_direct(struct fc_chat *chat, const char *user_name, struct fc_room *out, struct err_detail *why)
{
    char name[TEXT_USER_NAME_MAX_BYTES + 2] = "@";
    struct fc_chat_place *place = NULL;
    enum err err = text_check_user_name(user_name, why);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(name + 1, user_name, strlen(user_name) + 1);
    err = fc_chat_find_place(chat, name, &place, why);
    if (err == ERR_OK) {
        fc_chat_describe(place, out);
        return ERR_OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    const struct fc_chat_new_room wanted = {.is_direct = true, .members = &user_name, .member_count = 1};
    err = create(chat, &wanted, out, why);
    if (err == ERR_EXISTS) {
        // The other was faster.
        err = fc_chat_find_place(chat, name, &place, why);
        if (err == ERR_OK) {
            fc_chat_describe(place, out);
        }
    }
    return err;
}

enum err
fc_chat_direct(struct fc_chat *chat, const char *user_name, struct fc_room *out, struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = find_direct(chat, user_name, out, why);
    fc_chat_unlock(chat);
    return err;
}
