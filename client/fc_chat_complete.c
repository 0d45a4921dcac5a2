// Who gets keys by an entry: with a rekey exactly everybody who is in the room after it, else those who come in.
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"

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

bool
fc_chat_entry_revokes(const struct fc_chat_entry *entry, const Fc__E2e__V1__InviteLink *link)
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

// gives_links_keys: as the room is after the entry.
static bool
gives_links_keys(const struct fc_chat_place *place, const struct fc_chat_entry *entry)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    Fc__E2e__V1__History history = state == NULL ? FC__E2E__V1__HISTORY__HISTORY_ALL : state->history;
    for (size_t i = 0; i < entry->entry.n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->entry.changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_CREATE) {
            history = change->create->history;
        } else if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY) {
            history = change->set_history;
        }
    }
    return history == FC__E2E__V1__HISTORY__HISTORY_ALL;
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
            fc_chat_warn(chat,
                "%s has a new identity and gets no key of \"%s\" until somebody removes and adds them again",
                user->name, place->row.name);
        }
    }
    if (err != ERR_OK || !gives_links_keys(place, entry)) {
        return err;
    }
    for (size_t i = 0; i < link_count; i++) {
        if (!fc_chat_entry_revokes(entry, state->links[i]->link)) {
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

// check_own: this device still speaks for its user. Anybody can sign a reset, so that a server could show one to have a
// key of a new room made for itself.
static enum err
check_own(const struct e2e_user *self, const struct e2e_keys *device, struct err_detail *why)
{
    const struct e2e_device *known = e2e_user_device(self, device->id);
    if (known != NULL && !known->is_revoked) {
        return ERR_OK;
    }
    if (known != NULL && known->revoked_seq != self->identity_seq) {
        return err_fail(why, ERR_DENIED, "this device of yours has ended; log in again with fc login");
    }
    return err_fail(why, ERR_UNTRUSTED,
        "the server shows a reset of your account, after which this device is none of yours: nothing was sealed. If "
        "you did "
        "that, log in again with fc login; else somebody else is in your account, or the server lies");
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
        err = check_own(author, device, why);
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
