// Invite links: pseudo-members, with which people let themselves in.
#include <stdlib.h>
#include <string.h>

#include "e2e/e2e_room_priv.h"

typedef Fc__E2e__V1__RoomMember room_member;
typedef Fc__E2e__V1__RoomState room_state;

enum err
e2e_room_apply_add_link(struct e2e_room_draft *draft, const Fc__E2e__V1__InviteLink *link, struct err_detail *why)
{
    room_state *state = draft->state;
    enum err err = e2e_room_refuse_direct(draft, why);
    if (err == ERR_OK) {
        err = e2e_room_require_role(draft, FC__E2E__V1__ROLE__ADMIN, "make invite links", why);
    }
    if (err == ERR_OK) {
        err = e2e_room_check_id(link->link_id, "an invite link", why);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (link->sign_key.len != CRYPTO_KEY_BYTES || link->box_key.len != CRYPTO_KEY_BYTES || link->expires_at_ms < 0) {
        return err_fail(why, ERR_INVALID, "an invite link has two keys of %d bytes and no time before 1970",
            CRYPTO_KEY_BYTES);
    }
    if ((link->role != FC__E2E__V1__ROLE__MEMBER && link->role != FC__E2E__V1__ROLE__ADMIN) ||
        link->role > e2e_room_author_role(draft)) {
        return err_fail(why, ERR_INVALID, "an invite link makes members or admins");
    }
    if (e2e_room_find_link(state, link->link_id.data) != NULL) {
        return err_fail(why, ERR_INVALID, "the room has this invite link already");
    }
    if (state->n_links == E2E_ROOM_LINKS_MAX) {
        return err_fail(why, ERR_LIMIT, "the room has %d invite links, which is the most; revoke one first",
            E2E_ROOM_LINKS_MAX);
    }
    Fc__E2e__V1__RoomLink **links = realloc(state->links, (state->n_links + 1) * sizeof(Fc__E2e__V1__RoomLink *));
    if (links == NULL) {
        return ERR_NO_MEMORY;
    }
    state->links = links;
    Fc__E2e__V1__RoomLink *added = malloc(sizeof(*added));
    Fc__E2e__V1__InviteLink *copy = malloc(sizeof(*copy));
    if (added == NULL || copy == NULL) {
        free(added);
        free(copy);
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__room_link__init(added);
    fc__e2e__v1__invite_link__init(copy);
    added->link = copy;
    state->links[state->n_links++] = added;
    copy->role = link->role;
    copy->expires_at_ms = link->expires_at_ms;
    copy->max_uses = link->max_uses;
    err = e2e_room_set_bytes(&copy->link_id, link->link_id.data, E2E_ID_BYTES);
    if (err == ERR_OK) {
        err = e2e_room_set_bytes(&copy->sign_key, link->sign_key.data, CRYPTO_KEY_BYTES);
    }
    return err == ERR_OK ? e2e_room_set_bytes(&copy->box_key, link->box_key.data, CRYPTO_KEY_BYTES) : err;
}

bool
e2e_room_has_link_keys(const Fc__E2e__V1__RoomState *state)
{
    return !state->is_plain && state->history == FC__E2E__V1__HISTORY__HISTORY_ALL;
}

bool
e2e_room_is_link_used_up(const Fc__E2e__V1__RoomLink *link)
{
    return link->link->max_uses != 0 && link->use_count >= link->link->max_uses;
}

bool
e2e_room_is_link_expired(const Fc__E2e__V1__RoomLink *link, int64_t now_unix_ms)
{
    return link->link->expires_at_ms != 0 && now_unix_ms >= link->link->expires_at_ms;
}

enum err
e2e_room_apply_revoke_link(struct e2e_room_draft *draft, ProtobufCBinaryData link_id, struct err_detail *why)
{
    room_state *state = draft->state;
    enum err err = e2e_room_check_id(link_id, "an invite link", why);
    if (err != ERR_OK) {
        return err;
    }
    const Fc__E2e__V1__RoomLink *link = e2e_room_find_link(state, link_id.data);
    if (link == NULL) {
        return err_fail(why, ERR_NOT_FOUND, "the room has no such invite link");
    }
    // Whoever replays the log does not know what time it was, and goes by what the author said.
    int64_t now = draft->now_unix_ms != 0 ? draft->now_unix_ms : draft->entry->created_at_ms;
    bool is_over = e2e_room_is_link_used_up(link) || e2e_room_is_link_expired(link, now);
    err = e2e_room_require_role(draft, is_over ? FC__E2E__V1__ROLE__MEMBER : FC__E2E__V1__ROLE__ADMIN,
        "revoke invite links", why);
    if (err != ERR_OK) {
        return err;
    }
    size_t at = 0;
    while (state->links[at] != link) {
        at++;
    }
    fc__e2e__v1__room_link__free_unpacked(state->links[at], NULL);
    state->n_links--;
    memmove(&state->links[at], &state->links[at + 1], (state->n_links - at) * sizeof(Fc__E2e__V1__RoomLink *));
    return ERR_OK;
}

enum err
e2e_room_apply_join_by_link(struct e2e_room_draft *draft, const Fc__E2e__V1__JoinByLink *join, struct err_detail *why)
{
    enum err err = e2e_room_check_id(join->link_id, "an invite link", why);
    if (err != ERR_OK) {
        return err;
    }
    const room_member *author = e2e_room_find_member(draft->state, draft->entry->user_id.data);
    if (author != NULL && !author->is_invited) {
        return err_fail(why, ERR_INVALID, "the author is in the room already");
    }
    Fc__E2e__V1__RoomLink *link = e2e_room_find_link(draft->state, join->link_id.data);
    if (link == NULL) {
        return err_fail(why, ERR_DENIED, "this invite link has been revoked or never was; ask for a new one");
    }
    if (e2e_room_is_link_used_up(link)) {
        return err_fail(why, ERR_DENIED, "this invite link has been used as often as it may; ask for a new one");
    }
    if (e2e_room_is_link_expired(link, draft->now_unix_ms)) {
        return err_fail(why, ERR_DENIED, "this invite link has expired; ask for a new one");
    }
    Fc__E2e__V1__Role role = link->link->role;
    if (author != NULL && author->role > role) {
        role = author->role;
    }
    link->use_count++;
    // Whoever has the link has the present key, too: what follows is not for them.
    draft->state->is_rekey_needed |= e2e_room_has_link_keys(draft->state) && e2e_room_is_link_used_up(link);
    return e2e_room_let_in(draft, draft->entry->user_id.data, join->user_name, role, false, why);
}
