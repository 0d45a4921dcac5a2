// What each change of an entry does to a room, and who may make it.
#include <stdlib.h>
#include <string.h>

#include "e2e/e2e_room_priv.h"

typedef Fc__E2e__V1__RoomMember room_member;
typedef Fc__E2e__V1__RoomState room_state;

static bool
is_direct(const room_state *state)
{
    return state->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
}

static bool
is_author(const struct e2e_room_draft *draft, ProtobufCBinaryData user_id)
{
    return e2e_room_is_id(user_id, draft->entry->user_id.data);
}

Fc__E2e__V1__Role
e2e_room_author_role(const struct e2e_room_draft *draft)
{
    const room_member *author = e2e_room_find_member(draft->state, draft->entry->user_id.data);
    return author == NULL || author->is_invited ? FC__E2E__V1__ROLE__ROLE_UNSPECIFIED : author->role;
}

enum err
e2e_room_require_role(const struct e2e_room_draft *draft, Fc__E2e__V1__Role role, const char *what,
    struct err_detail *why)
{
    Fc__E2e__V1__Role has = e2e_room_author_role(draft);
    if (has == FC__E2E__V1__ROLE__ROLE_UNSPECIFIED) {
        return err_fail(why, ERR_DENIED, "only members may change a room; join it first");
    }
    if (has < role) {
        return err_fail(why, ERR_DENIED, "only %s may %s; ask one of them",
            role == FC__E2E__V1__ROLE__OWNER ? "an owner of the room" : "admins and owners of the room", what);
    }
    return ERR_OK;
}

enum err
e2e_room_refuse_direct(const struct e2e_room_draft *draft, struct err_detail *why)
{
    return is_direct(draft->state) ? err_fail(why, ERR_INVALID,
                                         "a direct room is of two, and nothing else about who is "
                                         "in it changes; make a room for more people")
                                   : ERR_OK;
}

enum err
e2e_room_check_id(ProtobufCBinaryData id, const char *what, struct err_detail *why)
{
    return id.len == E2E_ID_BYTES
               ? ERR_OK
               : err_fail(why, ERR_INVALID, "%s is named by %d bytes, not %zu", what, E2E_ID_BYTES, id.len);
}

static enum err
check_role(Fc__E2e__V1__Role role, struct err_detail *why)
{
    bool is_known =
        role == FC__E2E__V1__ROLE__MEMBER || role == FC__E2E__V1__ROLE__ADMIN || role == FC__E2E__V1__ROLE__OWNER;
    return is_known ? ERR_OK : err_fail(why, ERR_INVALID, "a role is member, admin or owner");
}

// How many are in the room; not those who are only invited.
static size_t
count_members(const room_state *state, Fc__E2e__V1__Role at_least)
{
    size_t count = 0;
    for (size_t i = 0; i < state->n_members; i++) {
        count += !state->members[i]->is_invited && state->members[i]->role >= at_least ? 1 : 0;
    }
    return count;
}

// The identity and head of somebody who comes into an encrypted room.
static enum err
set_identity(const struct e2e_room_draft *draft, room_member *member, const char *claimed_name, struct err_detail *why)
{
    if (draft->heads == NULL) {
        return ERR_OK;
    }
    const struct e2e_room_seen *seen = e2e_room_heads_find(draft->heads, member->user_id.data);
    if (seen == NULL) {
        return err_fail(why, ERR_INVALID, "the room entry lets somebody in without naming the head of their chain");
    }
    if (claimed_name != NULL && strcmp(claimed_name, seen->name) != 0) {
        return err_fail(why, ERR_INVALID, "the room entry calls %s by another name than their chain", seen->name);
    }
    enum err err = e2e_room_set_text(&member->user_name, seen->name);
    if (err == ERR_OK) {
        err = e2e_room_set_bytes(&member->identity_key, seen->identity_key, CRYPTO_KEY_BYTES);
    }
    if (err == ERR_OK && member->head == NULL) {
        member->head = malloc(sizeof(*member->head));
        if (member->head == NULL) {
            return ERR_NO_MEMORY;
        }
        fc__e2e__v1__user_head__init(member->head);
    }
    if (err == ERR_OK) {
        err = e2e_room_set_bytes(&member->head->user_id, member->user_id.data, E2E_ID_BYTES);
    }
    if (err == ERR_OK) {
        member->head->seq = seen->head->seq;
        err = e2e_room_set_bytes(&member->head->hash, seen->head->hash.data, E2E_HASH_BYTES);
    }
    return err;
}

static enum err
append_member(room_state *state, const uint8_t user_id[E2E_ID_BYTES], room_member **out, struct err_detail *why)
{
    if (state->n_members == E2E_ROOM_MEMBERS_MAX) {
        return err_fail(why, ERR_LIMIT, "the room has %d members and invited users, which is the most",
            E2E_ROOM_MEMBERS_MAX);
    }
    room_member **members = realloc(state->members, (state->n_members + 1) * sizeof(room_member *));
    if (members == NULL) {
        return ERR_NO_MEMORY;
    }
    state->members = members;
    room_member *member = malloc(sizeof(*member));
    if (member == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__room_member__init(member);
    state->members[state->n_members++] = member;
    *out = member;
    return e2e_room_set_bytes(&member->user_id, user_id, E2E_ID_BYTES);
}

static void
drop_member(room_state *state, const room_member *member)
{
    size_t at = 0;
    while (state->members[at] != member) {
        at++;
    }
    fc__e2e__v1__room_member__free_unpacked(state->members[at], NULL);
    state->n_members--;
    memmove(&state->members[at], &state->members[at + 1], (state->n_members - at) * sizeof(room_member *));
}

enum err
e2e_room_let_in(struct e2e_room_draft *draft, const uint8_t user_id[E2E_ID_BYTES], const char *user_name,
    Fc__E2e__V1__Role role, bool is_invited, struct err_detail *why)
{
    room_member *member = e2e_room_find_member(draft->state, user_id);
    bool is_first = !is_invited && count_members(draft->state, FC__E2E__V1__ROLE__MEMBER) == 0;
    if (draft->heads == NULL && user_name != NULL) {
        enum err err = text_check_user_name(user_name, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    enum err err = member == NULL ? append_member(draft->state, user_id, &member, why) : ERR_OK;
    if (err == ERR_OK) {
        member->role = is_first ? FC__E2E__V1__ROLE__OWNER : role;
        member->is_invited = is_invited;
        if (draft->heads == NULL && user_name != NULL) {
            err = e2e_room_set_text(&member->user_name, user_name);
        }
    }
    return err == ERR_OK ? set_identity(draft, member, user_name, why) : err;
}

static enum err
apply_create(struct e2e_room_draft *draft, const Fc__E2e__V1__CreateRoom *create, struct err_detail *why)
{
    bool is_for_two = create->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    if (create->kind != FC__E2E__V1__ROOM_KIND__PRIVATE && create->kind != FC__E2E__V1__ROOM_KIND__PUBLIC &&
        !is_for_two) {
        return err_fail(why, ERR_INVALID, "a room is private, public or direct");
    }
    if (create->kind == FC__E2E__V1__ROOM_KIND__PUBLIC && !create->is_plain) {
        return err_fail(why, ERR_INVALID, "a room that everybody may enter has no secrets: make it plain or private");
    }
    if (create->history != FC__E2E__V1__HISTORY__HISTORY_ALL &&
        create->history != FC__E2E__V1__HISTORY__HISTORY_JOINED) {
        return err_fail(why, ERR_INVALID, "new members read either everything or what is sent after they joined");
    }
    if (create->is_plain != (draft->heads == NULL)) {
        return err_fail(why, ERR_INVALID, "entries of plain rooms are not signed, those of others are");
    }
    if (is_for_two && create->name[0] != '\0') {
        return err_fail(why, ERR_INVALID, "a direct room has no name of its own");
    }
    enum err err = is_for_two ? ERR_OK : text_check_room_name(create->name, why);
    if (err != ERR_OK) {
        return err;
    }
    draft->state = malloc(sizeof(*draft->state));
    if (draft->state == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__room_state__init(draft->state);
    draft->state->kind = create->kind;
    draft->state->history = create->history;
    draft->state->is_plain = create->is_plain;
    err = e2e_room_set_bytes(&draft->state->room_id, draft->entry->room_id.data, E2E_ID_BYTES);
    if (err == ERR_OK) {
        err = e2e_room_set_text(&draft->state->name, create->name);
    }
    return err == ERR_OK
               ? e2e_room_let_in(draft, draft->entry->user_id.data, NULL, FC__E2E__V1__ROLE__OWNER, false, why)
               : err;
}

// By oneself: in a public room, and in the first entry of a plain one, which says the author's name.
static enum err
add_oneself(struct e2e_room_draft *draft, const Fc__E2e__V1__AddMember *add, struct err_detail *why)
{
    bool is_naming = draft->entry->seq == 1 && draft->heads == NULL;
    Fc__E2e__V1__Role role = is_naming ? FC__E2E__V1__ROLE__OWNER : FC__E2E__V1__ROLE__MEMBER;
    if (add->role != role || add->is_invited) {
        return err_fail(why, ERR_INVALID, "who adds themselves does so as %s", is_naming ? "owner" : "member");
    }
    if (!is_naming && draft->state->kind != FC__E2E__V1__ROOM_KIND__PUBLIC) {
        return err_fail(why, ERR_DENIED, "nobody adds themselves to a room that is not public; ask to be invited");
    }
    const room_member *self = e2e_room_find_member(draft->state, add->user_id.data);
    if (self != NULL && (is_naming ? self->user_name[0] != '\0' : !self->is_invited)) {
        return err_fail(why, ERR_INVALID, "the author is in the room already");
    }
    // An invitation may have given more.
    if (self != NULL && self->role > role) {
        role = self->role;
    }
    return e2e_room_let_in(draft, add->user_id.data, add->user_name, role, false, why);
}

static enum err
apply_add_member(struct e2e_room_draft *draft, const Fc__E2e__V1__AddMember *add, struct err_detail *why)
{
    enum err err = e2e_room_check_id(add->user_id, "a user", why);
    if (err == ERR_OK) {
        err = check_role(add->role, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (is_author(draft, add->user_id)) {
        return add_oneself(draft, add, why);
    }
    err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__ADMIN, "add or invite people", why);
    if (err != ERR_OK) {
        return err;
    }
    if (add->role > e2e_room_author_role(draft)) {
        return err_fail(why, ERR_DENIED, "nobody gives a higher role than their own; ask an owner of the room");
    }
    const room_member *present = e2e_room_find_member(draft->state, add->user_id.data);
    if (present != NULL && (!present->is_invited || add->is_invited || is_direct(draft->state))) {
        return err_fail(why, ERR_INVALID, "%s is %s already", add->user_name,
            present->is_invited ? "invited" : "in the room");
    }
    return e2e_room_let_in(draft, add->user_id.data, add->user_name, add->role, add->is_invited, why);
}

static enum err
leave(struct e2e_room_draft *draft, room_member *member, struct err_detail *why)
{
    if (is_direct(draft->state)) {
        if (member->is_invited) {
            return err_fail(why, ERR_INVALID, "the author has left this direct room already");
        }
        member->is_invited = true; // keeps the way back open
        return ERR_OK;
    }
    bool is_only_owner = !member->is_invited && member->role == FC__E2E__V1__ROLE__OWNER &&
                         count_members(draft->state, FC__E2E__V1__ROLE__OWNER) == 1;
    if (is_only_owner && count_members(draft->state, FC__E2E__V1__ROLE__MEMBER) > 1) {
        return err_fail(why, ERR_PRECONDITION,
            "you are the only owner of a room with others in it; make somebody else "
            "its owner before you leave");
    }
    drop_member(draft->state, member);
    draft->state->is_rekey_needed = !draft->state->is_plain;
    return ERR_OK;
}

static enum err
apply_remove_member(struct e2e_room_draft *draft, ProtobufCBinaryData user_id, struct err_detail *why)
{
    enum err err = e2e_room_check_id(user_id, "a user", why);
    if (err != ERR_OK) {
        return err;
    }
    room_member *member = e2e_room_find_member(draft->state, user_id.data);
    if (is_author(draft, user_id)) {
        return member == NULL ? err_fail(why, ERR_DENIED, "the author is not in the room, so there is nothing to leave")
                              : leave(draft, member, why);
    }
    err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__ADMIN, "remove people", why);
    if (err != ERR_OK) {
        return err;
    }
    if (member == NULL) {
        return err_fail(why, ERR_INVALID, "who is to be removed is neither in the room nor invited");
    }
    if (member->role >= FC__E2E__V1__ROLE__ADMIN) {
        err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__OWNER, "remove admins and owners", why);
        if (err != ERR_OK) {
            return err;
        }
    }
    drop_member(draft->state, member);
    return ERR_OK;
}

static enum err
apply_set_role(struct e2e_room_draft *draft, const Fc__E2e__V1__SetRole *change, struct err_detail *why)
{
    enum err err = e2e_room_check_id(change->user_id, "a user", why);
    if (err == ERR_OK) {
        err = check_role(change->role, why);
    }
    if (err == ERR_OK) {
        err = e2e_room_refuse_direct(draft, why);
    }
    if (err == ERR_OK) {
        err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__OWNER, "change roles", why);
    }
    if (err != ERR_OK) {
        return err;
    }
    room_member *member = e2e_room_find_member(draft->state, change->user_id.data);
    if (member == NULL) {
        return err_fail(why, ERR_INVALID, "who is to get another role is not in the room");
    }
    member->role = change->role;
    return ERR_OK;
}

static enum err
apply_accept(struct e2e_room_draft *draft, struct err_detail *why)
{
    const room_member *author = e2e_room_find_member(draft->state, draft->entry->user_id.data);
    if (author == NULL) {
        return err_fail(why, ERR_DENIED, "the author has not been invited to the room");
    }
    if (!author->is_invited) {
        return err_fail(why, ERR_INVALID, "the author is in the room already");
    }
    room_member *member = e2e_room_find_member(draft->state, draft->entry->user_id.data);
    if (count_members(draft->state, FC__E2E__V1__ROLE__MEMBER) == 0) {
        member->role = FC__E2E__V1__ROLE__OWNER;
    }
    member->is_invited = false;
    return ERR_OK;
}

static enum err
apply_set_name(struct e2e_room_draft *draft, const char *name, struct err_detail *why)
{
    enum err err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__ADMIN, "rename it", why);
    if (err == ERR_OK && is_direct(draft->state)) {
        err = err_fail(why, ERR_INVALID, "a direct room has no name of its own");
    }
    if (err == ERR_OK) {
        err = text_check_room_name(name, why);
    }
    return err == ERR_OK ? e2e_room_set_text(&draft->state->name, name) : err;
}

static enum err
apply_set_topic(struct e2e_room_draft *draft, const char *topic, struct err_detail *why)
{
    enum err err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__ADMIN, "set the topic", why);
    if (err == ERR_OK && (strlen(topic) > E2E_TOPIC_MAX_BYTES || !text_is_utf8(bytes_view_of_text(topic)))) {
        err = err_fail(why, ERR_INVALID, "a room's topic is at most %d bytes of UTF-8", E2E_TOPIC_MAX_BYTES);
    }
    return err == ERR_OK ? e2e_room_set_text(&draft->state->topic, topic) : err;
}

static enum err
apply_set_history(struct e2e_room_draft *draft, Fc__E2e__V1__History history, struct err_detail *why)
{
    enum err err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__OWNER, "change what new members read", why);
    if (err == ERR_OK && history != FC__E2E__V1__HISTORY__HISTORY_ALL &&
        history != FC__E2E__V1__HISTORY__HISTORY_JOINED) {
        err = err_fail(why, ERR_INVALID, "new members read either everything or what is sent after they joined");
    }
    if (err == ERR_OK) {
        draft->state->history = history;
    }
    return err;
}

static enum err
apply_set_archived(struct e2e_room_draft *draft, bool is_archived, struct err_detail *why)
{
    enum err err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__OWNER, "archive or revive it", why);
    if (err == ERR_OK) {
        draft->state->is_archived = is_archived;
    }
    return err;
}

// The author's identity is no more the one that the room knows: the way out is all that is left.
static enum err
check_identity(const struct e2e_room_draft *draft, const Fc__E2e__V1__RoomChange *change, struct err_detail *why)
{
    const uint8_t *author_id = draft->entry->user_id.data;
    const room_member *author = e2e_room_find_member(draft->state, author_id);
    if (draft->heads == NULL || author == NULL) {
        return ERR_OK;
    }
    const struct e2e_room_seen *seen = e2e_room_heads_find(draft->heads, author_id);
    if (seen != NULL && memcmp(seen->identity_key, author->identity_key.data, CRYPTO_KEY_BYTES) == 0) {
        return ERR_OK;
    }
    if (change != NULL && change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER &&
        is_author(draft, change->remove_member)) {
        return ERR_OK;
    }
    return err_fail(why, ERR_DENIED,
        "your identity was reset after you came into this room; ask an admin of it to remove "
        "you and add you again");
}

static enum err
apply_change(struct e2e_room_draft *draft, const Fc__E2e__V1__RoomChange *change, struct err_detail *why)
{
    switch (change->kind_case) {
    case FC__E2E__V1__ROOM_CHANGE__KIND_CREATE:
        return err_fail(why, ERR_INVALID, "only the first change of a room's first entry makes the room");
    case FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER:
        return apply_add_member(draft, change->add_member, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER:
        return apply_remove_member(draft, change->remove_member, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_SET_ROLE:
        return apply_set_role(draft, change->set_role, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_ACCEPT:
        return apply_accept(draft, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK:
        return e2e_room_apply_add_link(draft, change->add_link, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK:
        return e2e_room_apply_revoke_link(draft, change->revoke_link, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK:
        return e2e_room_apply_join_by_link(draft, change->join_by_link, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME:
        return apply_set_name(draft, change->set_name, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC:
        return apply_set_topic(draft, change->set_topic, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY:
        return apply_set_history(draft, change->set_history, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED:
        return apply_set_archived(draft, change->set_archived, why);
    case FC__E2E__V1__ROOM_CHANGE__KIND__NOT_SET:
    case _FC__E2E__V1__ROOM_CHANGE__KIND__CASE_IS_INT_SIZE:
    default:
        return err_fail(why, ERR_INVALID, "the room entry has a change of no kind");
    }
}

static const room_member *
other_of_direct(const room_state *state, const uint8_t author_id[E2E_ID_BYTES])
{
    for (size_t i = 0; i < state->n_members; i++) {
        if (memcmp(state->members[i]->user_id.data, author_id, E2E_ID_BYTES) != 0) {
            return state->members[i];
        }
    }
    return NULL;
}

// A direct room stays one of the same two, both owners, and nobody comes in but by their own will.
static enum err
check_direct(const struct e2e_room_draft *draft, const uint8_t *other_id, bool was_invited, struct err_detail *why)
{
    const uint8_t *author_id = draft->entry->user_id.data;
    const room_member *author = e2e_room_find_member(draft->state, author_id);
    const room_member *other = other_of_direct(draft->state, author_id);
    bool is_sound = draft->state->n_members == 2 && author != NULL && other != NULL &&
                    author->role == FC__E2E__V1__ROLE__OWNER && other->role == FC__E2E__V1__ROLE__OWNER;
    if (is_sound && other_id != NULL) {
        is_sound = memcmp(other->user_id.data, other_id, E2E_ID_BYTES) == 0 && other->is_invited == was_invited;
    }
    return is_sound ? ERR_OK
                    : err_fail(why, ERR_INVALID, "a direct room is of the same two people for good, both its owners");
}

static enum err
apply_changes(struct e2e_room_draft *draft, struct err_detail *why)
{
    const Fc__E2e__V1__RoomEntry *entry = draft->entry;
    enum err err = ERR_OK;
    size_t first = 0;
    if (draft->state == NULL) {
        if (entry->n_changes == 0 || entry->changes[0]->kind_case != FC__E2E__V1__ROOM_CHANGE__KIND_CREATE) {
            return err_fail(why, ERR_INVALID, "a room's first entry has to begin with its making");
        }
        err = apply_create(draft, entry->changes[0]->create, why);
        first = 1;
    }
    for (size_t i = first; err == ERR_OK && i < entry->n_changes; i++) {
        err = check_identity(draft, entry->changes[i], why);
        if (err == ERR_OK) {
            err = apply_change(draft, entry->changes[i], why);
        }
    }
    return err;
}

enum err
e2e_room_rules_apply(struct e2e_room_draft *draft, struct err_detail *why)
{
    const Fc__E2e__V1__RoomEntry *entry = draft->entry;
    uint8_t other_id[E2E_ID_BYTES];
    bool has_other = false;
    bool was_invited = false;
    if (draft->state != NULL && is_direct(draft->state)) {
        const room_member *other = other_of_direct(draft->state, entry->user_id.data);
        has_other = other != NULL;
        was_invited = has_other && other->is_invited;
        if (has_other) {
            memcpy(other_id, other->user_id.data, E2E_ID_BYTES);
        }
    }
    enum err err = apply_changes(draft, why);
    if (err == ERR_OK && entry->n_changes == 0) {
        err = check_identity(draft, NULL, why);
    }
    // Keys are given by those who are in the room when the entry has been applied: who leaves does not know the next.
    if (err == ERR_OK && (entry->n_changes == 0 || entry->rekey != NULL || entry->n_wraps != 0) &&
        e2e_room_author_role(draft) == FC__E2E__V1__ROLE__ROLE_UNSPECIFIED) {
        err = err_fail(why, ERR_DENIED, "only members give others the room's keys");
    }
    if (err == ERR_OK && is_direct(draft->state)) {
        return check_direct(draft, has_other ? other_id : NULL, was_invited, why);
    }
    if (err == ERR_OK && count_members(draft->state, FC__E2E__V1__ROLE__MEMBER) > 0 &&
        count_members(draft->state, FC__E2E__V1__ROLE__OWNER) == 0) {
        err =
            err_fail(why, ERR_PRECONDITION, "the room would be left without an owner; make somebody else owner first");
    }
    return err;
}
