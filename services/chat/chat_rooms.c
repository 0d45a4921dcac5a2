#include "services/chat/chat_rooms.h"

#include <string.h>

#include "base/random.h"
#include "services/chat/chat_once.h"
#include "services/chat/chat_plain.h"

// find_resend answers for a request that has been executed before. ERR_NOT_FOUND: it is new.
static enum err
find_resend(const struct chat_change *change, const char *what, struct chat_outcome *out)
{
    uint8_t room_id[CHAT_ID_BYTES];
    enum err err = chat_once_find(change, what, room_id);
    if (err == ERR_OK) {
        out->is_resend = true;
        err = chat_core_get_room(change->tx, room_id, change->user.id, &out->room);
    }
    return err;
}

// parse_entry reads an entry that the caller has signed; whether it is valid is for later.
static enum err
parse_entry(const struct chat_change *change, const Fc__E2e__V1__Signed *wire, Fc__E2e__V1__RoomEntry **out)
{
    Fc__E2e__V1__RoomEntry *entry = NULL;
    enum err err = e2e_room_parse(bytes_view_of(wire->body.data, wire->body.len), &entry, change->why);
    if (err == ERR_TOO_BIG) {
        err = ERR_INVALID;
    }
    if (err == ERR_OK &&
        (entry->user_id.len != CHAT_ID_BYTES || memcmp(entry->user_id.data, change->user.id, CHAT_ID_BYTES) != 0)) {
        err = err_fail(change->why, ERR_INVALID, "the room entry is by another user than the one who sends it");
    }
    if (err == ERR_OK && entry->room_id.len != CHAT_ID_BYTES) {
        err =
            err_fail(change->why, ERR_INVALID, "a room's id has %d bytes, not %zu", CHAT_ID_BYTES, entry->room_id.len);
    }
    if (err != ERR_OK) {
        fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
        return err;
    }
    *out = entry;
    return ERR_OK;
}

// check_form says whether an entry goes with this room, or is missing.
static enum err
check_form(const struct chat_change *change, const struct chat_room *room, const Fc__E2e__V1__Signed *entry)
{
    if (room->is_plain && entry != NULL) {
        return err_fail(change->why, ERR_INVALID, "\"%s\" is a plain room, whose entries the server makes", room->name);
    }
    if (!room->is_plain && entry == NULL) {
        return err_fail(change->why, ERR_PRECONDITION,
            "\"%s\" is encrypted: it changes by signed entries, for which your program needs your keys", room->name);
    }
    return ERR_OK;
}

// finish_plain appends the entry and stores what it changes.
static enum err
finish_plain(const struct chat_change *change, struct chat_draft *draft, const struct chat_plain *plain,
    const char *what, struct bytes_view link_info, struct chat_outcome *out)
{
    enum err err = chat_plain_finish(plain, change->why);
    if (err == ERR_OK) {
        err = chat_draft_append_plain(draft, change, &plain->entry);
    }
    if (err == ERR_OK) {
        err = chat_draft_store(draft, change, link_info, out);
    }
    return err == ERR_OK ? chat_once_keep(change, what, out->room.id) : err;
}

// --- CreateRoom ----------------------------------------------------------------------------------------------------

static enum err
add_named(const struct chat_change *change, struct chat_plain *plain, const char *name, Fc__E2e__V1__Role role,
    bool is_invited)
{
    uint8_t user_id[CHAT_ID_BYTES];
    enum err err = chat_people_find_id(change->people, change->tx, name, user_id, change->why);
    uint8_t *copy = err == ERR_OK ? chat_plain_copy_id(plain, user_id) : NULL;
    if (err == ERR_OK && copy != NULL) {
        chat_plain_add(plain, &(struct chat_user){.id = copy, .name = name}, role, is_invited);
    }
    return err;
}

static enum err
check_create_plain(const struct chat_change *change, const Fc__Chat__V1__CreateRoomRequest *request)
{
    bool is_direct = request->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    if (is_direct && (request->n_members != 1 || strcmp(request->members[0], change->user.name) == 0)) {
        return err_fail(change->why, ERR_INVALID, "a direct room is with exactly one other user");
    }
    if (is_direct && request->name[0] != '\0') {
        return err_fail(change->why, ERR_INVALID, "a direct room has no name of its own");
    }
    return is_direct ? ERR_OK : chat_core_name_is_free(change->tx, request->name, change->why);
}

static enum err
create_plain(const struct chat_change *change, const Fc__Chat__V1__CreateRoomRequest *request, struct chat_outcome *out)
{
    uint8_t room_id[CHAT_ID_BYTES];
    struct chat_draft draft = {0};
    struct chat_plain plain;
    bool is_direct = request->kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    Fc__E2e__V1__RoomKind kind =
        request->kind == FC__E2E__V1__ROOM_KIND__ROOM_KIND_UNSPECIFIED ? FC__E2E__V1__ROOM_KIND__PUBLIC : request->kind;
    enum err err = check_create_plain(change, request);
    if (err != ERR_OK) {
        return err;
    }
    random_bytes(room_id, sizeof(room_id));
    chat_plain_init(&plain, &draft.after, room_id, change->user.id);
    chat_plain_create(&plain, request->name, kind);
    chat_plain_add(&plain, &change->user, FC__E2E__V1__ROLE__OWNER, false);
    if (request->topic[0] != '\0') {
        Fc__E2e__V1__RoomChange *topic = chat_plain_change(&plain, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC);
        if (topic != NULL) {
            topic->set_topic = request->topic;
        }
    }
    for (size_t i = 0; err == ERR_OK && i < request->n_members; i++) {
        err = add_named(change, &plain, request->members[i],
            is_direct ? FC__E2E__V1__ROLE__OWNER : FC__E2E__V1__ROLE__MEMBER, false);
    }
    if (err == ERR_OK) {
        err = finish_plain(change, &draft, &plain, "create", (struct bytes_view){0}, out);
    }
    chat_plain_deinit(&plain);
    chat_draft_deinit(&draft);
    return err;
}

static enum err
create_signed(const struct chat_change *change, const Fc__E2e__V1__Signed *wire, struct chat_outcome *out)
{
    Fc__E2e__V1__RoomEntry *entry = NULL;
    struct chat_draft draft = {0};
    enum err err = parse_entry(change, wire, &entry);
    if (err != ERR_OK) {
        return err;
    }
    err = chat_draft_append_signed(&draft, change, entry->room_id.data, wire);
    if (err == ERR_EXISTS) { // of a log, whose room is there
        err = err_fail(change->why, err, "there is a room with this id already; draw another");
    }
    if (err == ERR_OK) {
        err = chat_draft_store(&draft, change, (struct bytes_view){0}, out);
    }
    if (err == ERR_OK) {
        err = chat_once_keep(change, "create", out->room.id);
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    chat_draft_deinit(&draft);
    return err;
}

enum err
chat_rooms_create(const struct chat_change *change, const Fc__Chat__V1__CreateRoomRequest *request,
    struct chat_outcome *out)
{
    enum err err = chat_once_require(change, "making");
    if (err == ERR_OK) {
        err = find_resend(change, "create", out);
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    if (request->is_plain && request->entry != NULL) {
        return err_fail(change->why, ERR_INVALID, "a room is either plain or made by a signed entry");
    }
    if (request->is_plain) {
        return create_plain(change, request, out);
    }
    if (request->entry == NULL) {
        return err_fail(change->why, ERR_PRECONDITION,
            "an encrypted room is made by a signed entry; fc room create --plain makes one whose messages the server "
            "can "
            "read");
    }
    return create_signed(change, request->entry, out);
}

// --- Join ----------------------------------------------------------------------------------------------------------

// The room that is to be joined: by its name, or by what a link leads to.
static enum err
find_join_room(const struct chat_change *change, const Fc__Chat__V1__JoinRequest *request, struct chat_room *out)
{
    if (request->link_id.len == 0) {
        return chat_core_find_room(change->tx, request->room, change->user.id, out, change->why);
    }
    uint8_t room_id[CHAT_ID_BYTES];
    enum err err = chat_log_find_link(change->tx, bytes_view_of(request->link_id.data, request->link_id.len), room_id,
        NULL, change->why);
    return err == ERR_OK ? chat_core_get_room(change->tx, room_id, change->user.id, out) : err;
}

// Who joins by a link of a plain room shows that they have its secret.
static enum err
check_link_signature(const struct chat_change *change, const struct chat_draft *draft,
    const Fc__Chat__V1__JoinRequest *request)
{
    const Fc__E2e__V1__RoomLink *link = e2e_room_link(&draft->after, request->link_id.data);
    if (link == NULL) {
        return ERR_CORRUPT;
    }
    enum err err = e2e_verify(link->link->sign_key.data, E2E_CONTEXT_JOIN,
        bytes_view_of(request->link_id.data, CHAT_ID_BYTES), bytes_view_of(change->user.id, CHAT_ID_BYTES),
        bytes_view_of(request->link_signature.data, request->link_signature.len));
    return err == ERR_CORRUPT ? err_fail(change->why, ERR_DENIED, "this is not signed by the invite link that it names")
                              : err;
}

static enum err
join_plain(const struct chat_change *change, const Fc__Chat__V1__JoinRequest *request, const struct chat_room *room,
    struct chat_outcome *out)
{
    struct chat_draft draft = {0};
    struct chat_plain plain;
    enum err err = chat_draft_open(&draft, change, room->id);
    if (err == ERR_OK && request->link_id.len != 0) {
        err = check_link_signature(change, &draft, request);
    }
    if (err == ERR_OK) {
        chat_plain_init(&plain, &draft.after, room->id, change->user.id);
        if (request->link_id.len != 0) {
            chat_plain_join_by_link(&plain, request->link_id.data, change->user.name);
        } else if (room->is_invited) {
            chat_plain_accept(&plain);
        } else {
            chat_plain_add(&plain, &change->user, FC__E2E__V1__ROLE__MEMBER, false);
        }
        err = finish_plain(change, &draft, &plain, "join", (struct bytes_view){0}, out);
        chat_plain_deinit(&plain);
    }
    chat_draft_deinit(&draft);
    return err;
}

// apply_signed appends the caller's entry to an encrypted room.
static enum err
apply_signed(const struct chat_change *change, const struct chat_room *room, const Fc__E2e__V1__Signed *wire,
    struct bytes_view link_info, struct chat_outcome *out)
{
    Fc__E2e__V1__RoomEntry *entry = NULL;
    struct chat_draft draft = {0};
    enum err err = parse_entry(change, wire, &entry);
    if (err == ERR_OK) {
        err = chat_draft_open(&draft, change, room->id);
    }
    if (err == ERR_OK) {
        err = chat_draft_append_signed(&draft, change, room->id, wire);
    }
    if (err == ERR_OK) {
        err = chat_draft_store(&draft, change, link_info, out);
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    chat_draft_deinit(&draft);
    return err;
}

static enum err
join_signed(const struct chat_change *change, const struct chat_room *room, const Fc__E2e__V1__Signed *wire,
    struct chat_outcome *out)
{
    enum err err = apply_signed(change, room, wire, (struct bytes_view){0}, out);
    if (err == ERR_OK && !out->room.is_member) {
        return err_fail(change->why, ERR_INVALID, "the room entry does not make its author a member");
    }
    return err == ERR_OK ? chat_once_keep(change, "join", room->id) : err;
}

enum err
chat_rooms_join(const struct chat_change *change, const Fc__Chat__V1__JoinRequest *request, struct chat_outcome *out)
{
    struct chat_room room = {0};
    enum err err = find_resend(change, "join", out);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = find_join_room(change, request, &room);
    if (err != ERR_OK) {
        return err;
    }
    if (room.is_member) {
        out->room = room;
        return ERR_OK;
    }
    err = check_form(change, &room, request->entry);
    if (err != ERR_OK) {
        return err;
    }
    return room.is_plain ? join_plain(change, request, &room, out) : join_signed(change, &room, request->entry, out);
}

// --- Leave ---------------------------------------------------------------------------------------------------------

static enum err
leave_plain(const struct chat_change *change, const struct chat_room *room, struct chat_outcome *out)
{
    struct chat_draft draft = {0};
    struct chat_plain plain;
    enum err err = chat_draft_open(&draft, change, room->id);
    if (err == ERR_OK) {
        chat_plain_init(&plain, &draft.after, room->id, change->user.id);
        chat_plain_remove(&plain, change->user.id);
        err = finish_plain(change, &draft, &plain, "leave", (struct bytes_view){0}, out);
        chat_plain_deinit(&plain);
    }
    chat_draft_deinit(&draft);
    return err;
}

static enum err
leave_signed(const struct chat_change *change, const struct chat_room *room, const Fc__E2e__V1__Signed *wire,
    struct chat_outcome *out)
{
    enum err err = apply_signed(change, room, wire, (struct bytes_view){0}, out);
    bool has_left = room->is_member ? !out->room.is_member : !out->room.is_invited && !out->room.is_member;
    if (err == ERR_OK && !has_left) {
        return err_fail(change->why, ERR_INVALID, "the room entry does not end its author's membership");
    }
    return err == ERR_OK ? chat_once_keep(change, "leave", room->id) : err;
}

enum err
chat_rooms_leave(const struct chat_change *change, const Fc__Chat__V1__LeaveRequest *request, struct chat_outcome *out)
{
    struct chat_room room = {0};
    enum err err = find_resend(change, "leave", out);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = chat_core_find_room(change->tx, request->room, change->user.id, &room, change->why);
    if (err != ERR_OK) {
        return err;
    }
    bool is_left_direct = room.is_invited && room.kind == FC__E2E__V1__ROOM_KIND__DIRECT;
    if (is_left_direct || (!room.is_member && !room.is_invited)) {
        return err_fail(change->why, ERR_PRECONDITION, "you are not in \"%s\", so there is nothing to leave",
            room.name);
    }
    err = check_form(change, &room, request->entry);
    if (err != ERR_OK) {
        return err;
    }
    return room.is_plain ? leave_plain(change, &room, out) : leave_signed(change, &room, request->entry, out);
}

// --- Amend ---------------------------------------------------------------------------------------------------------

// find_in_room finds somebody by name among those in the room, who may have no account any more.
static enum err
find_in_room(const struct chat_change *change, const struct chat_draft *draft, const char *name, const uint8_t **id_out)
{
    const Fc__E2e__V1__RoomState *state = draft->before.state;
    for (size_t i = 0; i < state->n_members; i++) {
        if (strcmp(state->members[i]->user_name, name) == 0) {
            *id_out = state->members[i]->user_id.data;
            return ERR_OK;
        }
    }
    return err_fail(change->why, ERR_NOT_FOUND, "\"%s\" is neither in the room nor invited; fc room show lists who is",
        name);
}

static enum err
amend_people(const struct chat_change *change, const Fc__Chat__V1__AmendRequest *request,
    const struct chat_draft *draft, struct chat_plain *plain)
{
    const uint8_t *user_id = NULL;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < request->n_remove; i++) {
        err = find_in_room(change, draft, request->remove[i], &user_id);
        if (err == ERR_OK) {
            chat_plain_remove(plain, user_id);
        }
    }
    for (size_t i = 0; err == ERR_OK && i < request->n_add; i++) {
        err = add_named(change, plain, request->add[i], FC__E2E__V1__ROLE__MEMBER, false);
    }
    for (size_t i = 0; err == ERR_OK && i < request->n_invite; i++) {
        err = add_named(change, plain, request->invite[i], FC__E2E__V1__ROLE__MEMBER, true);
    }
    for (size_t i = 0; err == ERR_OK && i < request->n_roles; i++) {
        uint8_t found[CHAT_ID_BYTES];
        err = find_in_room(change, draft, request->roles[i]->user_name, &user_id);
        if (err == ERR_NOT_FOUND) { // maybe added just now
            err = chat_people_find_id(change->people, change->tx, request->roles[i]->user_name, found, change->why);
            user_id = err == ERR_OK ? chat_plain_copy_id(plain, found) : NULL;
        }
        if (err == ERR_OK && user_id != NULL) {
            chat_plain_set_role(plain, user_id, request->roles[i]->role);
        }
    }
    return err;
}

static void
amend_room(const Fc__Chat__V1__AmendRequest *request, struct chat_plain *plain)
{
    Fc__E2e__V1__RoomChange *change = NULL;
    if (request->name[0] != '\0') {
        change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME);
        if (change != NULL) {
            change->set_name = request->name;
        }
    }
    if (request->is_topic_set) {
        static char nothing[1]; // unlike protobuf-c's own empty text, this one is sent
        change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC);
        if (change != NULL) {
            change->set_topic = request->topic[0] == '\0' ? nothing : request->topic;
        }
    }
    if (request->archive || request->revive) {
        change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED);
        if (change != NULL) {
            change->set_archived = request->archive;
        }
    }
    if (request->revoke_link.len != 0) {
        change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK);
        if (change != NULL) {
            change->revoke_link = request->revoke_link;
        }
    }
    if (request->add_link != NULL) {
        change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK);
        if (change != NULL) {
            change->add_link = request->add_link;
        }
    }
}

static enum err
amend_plain(const struct chat_change *change, const Fc__Chat__V1__AmendRequest *request, const struct chat_room *room,
    struct chat_outcome *out)
{
    struct chat_draft draft = {0};
    struct chat_plain plain;
    if (request->archive && request->revive) {
        return err_fail(change->why, ERR_INVALID, "a room is either archived or revived");
    }
    enum err err = chat_draft_open(&draft, change, room->id);
    if (err == ERR_OK) {
        chat_plain_init(&plain, &draft.after, room->id, change->user.id);
        err = amend_people(change, request, &draft, &plain);
        amend_room(request, &plain);
        if (err == ERR_OK) {
            err = finish_plain(change, &draft, &plain, "amend",
                bytes_view_of(request->link_info.data, request->link_info.len), out);
        }
        chat_plain_deinit(&plain);
    }
    chat_draft_deinit(&draft);
    return err;
}

static bool
says_more_than_entry(const Fc__Chat__V1__AmendRequest *request)
{
    return request->n_add != 0 || request->n_remove != 0 || request->n_invite != 0 || request->n_roles != 0 ||
           request->name[0] != '\0' || request->topic[0] != '\0' || request->is_topic_set || request->archive ||
           request->revive || request->add_link != NULL || request->revoke_link.len != 0;
}

static enum err
amend_signed(const struct chat_change *change, const Fc__Chat__V1__AmendRequest *request, const struct chat_room *room,
    struct chat_outcome *out)
{
    if (says_more_than_entry(request)) {
        return err_fail(change->why, ERR_INVALID, "\"%s\" is encrypted: all changes of it stand in the signed entry",
            room->name);
    }
    enum err err =
        apply_signed(change, room, request->entry, bytes_view_of(request->link_info.data, request->link_info.len), out);
    return err == ERR_OK ? chat_once_keep(change, "amend", room->id) : err;
}

enum err
chat_rooms_amend(const struct chat_change *change, const Fc__Chat__V1__AmendRequest *request, struct chat_outcome *out)
{
    struct chat_room room = {0};
    enum err err = chat_once_require(change, "changing");
    if (err == ERR_OK) {
        err = find_resend(change, "amend", out);
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = chat_core_find_member_room(change->tx, request->room, change->user.id, &room, change->why);
    if (err == ERR_OK) {
        err = check_form(change, &room, request->entry);
    }
    if (err != ERR_OK) {
        return err;
    }
    return room.is_plain ? amend_plain(change, request, &room, out) : amend_signed(change, request, &room, out);
}
