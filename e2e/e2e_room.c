// A room's state, and how an entry gets into it: on a copy, which takes the state's place when nothing was wrong.
#include "e2e/e2e_room.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "e2e/e2e_room_priv.h"
#include "e2e/e2e_wire.h"

enum {
    // Links and 10,000 members with names of full length stay well below it.
    STATE_MAX_BYTES = 8 * 1024 * 1024,
    NUMBER_GROUPS = 12,
    NUMBER_GROUP_BYTES = 5,
    NUMBER_GROUP_MODULUS = 100000,
};

#define LABEL_NUMBER "fc/1 room number"

bool
e2e_room_is_id(ProtobufCBinaryData field, const uint8_t id[E2E_ID_BYTES])
{
    return field.len == E2E_ID_BYTES && memcmp(field.data, id, E2E_ID_BYTES) == 0;
}

Fc__E2e__V1__RoomMember *
e2e_room_find_member(const Fc__E2e__V1__RoomState *state, const uint8_t user_id[E2E_ID_BYTES])
{
    for (size_t i = 0; state != NULL && i < state->n_members; i++) {
        if (memcmp(state->members[i]->user_id.data, user_id, E2E_ID_BYTES) == 0) {
            return state->members[i];
        }
    }
    return NULL;
}

Fc__E2e__V1__RoomLink *
e2e_room_find_link(const Fc__E2e__V1__RoomState *state, const uint8_t link_id[E2E_ID_BYTES])
{
    for (size_t i = 0; state != NULL && i < state->n_links; i++) {
        if (memcmp(state->links[i]->link->link_id.data, link_id, E2E_ID_BYTES) == 0) {
            return state->links[i];
        }
    }
    return NULL;
}

enum err
e2e_room_set_bytes(ProtobufCBinaryData *field, const uint8_t *data, size_t size)
{
    uint8_t *copy = NULL;
    if (size > 0) {
        copy = malloc(size);
        if (copy == NULL) {
            return ERR_NO_MEMORY;
        }
        memcpy(copy, data, size);
    }
    free(field->data);
    *field = (ProtobufCBinaryData){.len = size, .data = copy};
    return ERR_OK;
}

enum err
e2e_room_set_text(char **field, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    // What protobuf-c puts in place of an empty text is nobody's to free.
    if (*field != (const char *)protobuf_c_empty_string) {
        free(*field);
    }
    *field = copy;
    return ERR_OK;
}

// is_sound: the lengths on which everything here relies.
static bool
is_sound(const Fc__E2e__V1__RoomState *state)
{
    bool is_sound = state->room_id.len == E2E_ID_BYTES && state->n_members <= E2E_ROOM_MEMBERS_MAX &&
                    state->n_links <= E2E_ROOM_LINKS_MAX &&
                    state->head_hash.len == (state->is_plain ? 0 : (size_t)E2E_HASH_BYTES);
    for (size_t i = 0; is_sound && i < state->n_members; i++) {
        const Fc__E2e__V1__RoomMember *member = state->members[i];
        is_sound = member->user_id.len == E2E_ID_BYTES;
        if (is_sound && !state->is_plain) {
            is_sound = member->identity_key.len == CRYPTO_KEY_BYTES && member->head != NULL &&
                       member->head->hash.len == E2E_HASH_BYTES;
        }
    }
    for (size_t i = 0; is_sound && i < state->n_links; i++) {
        const Fc__E2e__V1__InviteLink *link = state->links[i]->link;
        is_sound = link != NULL && link->link_id.len == E2E_ID_BYTES && link->sign_key.len == CRYPTO_KEY_BYTES;
    }
    return is_sound;
}

static enum err
unpack(struct bytes_view packed, Fc__E2e__V1__RoomState **out)
{
    if (packed.size > STATE_MAX_BYTES) {
        return ERR_CORRUPT;
    }
    Fc__E2e__V1__RoomState *state = fc__e2e__v1__room_state__unpack(NULL, packed.size, packed.data);
    if (state == NULL || !is_sound(state)) {
        fc__e2e__v1__room_state__free_unpacked(state, NULL);
        return ERR_CORRUPT;
    }
    *out = state;
    return ERR_OK;
}

enum err
e2e_room_unpack(struct e2e_room *room, struct bytes_view packed)
{
    Fc__E2e__V1__RoomState *state = NULL;
    enum err err = unpack(packed, &state);
    if (err == ERR_OK) {
        e2e_room_deinit(room);
        room->state = state;
    }
    return err;
}

enum err
e2e_room_pack(const struct e2e_room *room, struct bytes *out)
{
    return room->state == NULL ? ERR_PRECONDITION : e2e_wire_append(&room->state->base, out);
}

void
e2e_room_deinit(struct e2e_room *room)
{
    fc__e2e__v1__room_state__free_unpacked(room->state, NULL);
    room->state = NULL;
}

const Fc__E2e__V1__RoomMember *
e2e_room_member(const struct e2e_room *room, const uint8_t user_id[E2E_ID_BYTES])
{
    return e2e_room_find_member(room->state, user_id);
}

bool
e2e_room_is_member(const struct e2e_room *room, const uint8_t user_id[E2E_ID_BYTES])
{
    const Fc__E2e__V1__RoomMember *member = e2e_room_find_member(room->state, user_id);
    return member != NULL && !member->is_invited;
}

const Fc__E2e__V1__RoomLink *
e2e_room_link(const struct e2e_room *room, const uint8_t link_id[E2E_ID_BYTES])
{
    return e2e_room_find_link(room->state, link_id);
}

enum err
e2e_room_entry_hash(struct bytes_view body, uint8_t hash_out[E2E_HASH_BYTES])
{
    return digest_of(DIGEST_SHA256, body, hash_out);
}

enum err
e2e_room_parse(struct bytes_view body, Fc__E2e__V1__RoomEntry **out, struct err_detail *why)
{
    ProtobufCMessage *message = NULL;
    enum err err =
        e2e_wire_unpack(&fc__e2e__v1__room_entry__descriptor, body, E2E_ENTRY_MAX_BYTES, "room entry", &message, why);
    if (err == ERR_OK) {
        *out = (Fc__E2e__V1__RoomEntry *)message;
    }
    return err;
}

bool
e2e_room_needs_rekey(const struct e2e_room *room, const Fc__E2e__V1__RoomEntry *entry)
{
    const Fc__E2e__V1__RoomState *state = room->state;
    if (state == NULL) {
        bool has_create = entry->n_changes > 0 && entry->changes[0]->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_CREATE;
        return !has_create || !entry->changes[0]->create->is_plain;
    }
    for (size_t i = 0; !state->is_plain && i < entry->n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->changes[i];
        switch (change->kind_case) {
        case FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER:
            if (entry->user_id.len != E2E_ID_BYTES || !e2e_room_is_id(change->remove_member, entry->user_id.data)) {
                return true;
            }
            break;
        case FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK:
        case FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY:
            return true;
        case FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER:
        case FC__E2E__V1__ROOM_CHANGE__KIND_ACCEPT:
        case FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK:
            if (state->history == FC__E2E__V1__HISTORY__HISTORY_JOINED) {
                return true;
            }
            break;
        case FC__E2E__V1__ROOM_CHANGE__KIND_CREATE:
        case FC__E2E__V1__ROOM_CHANGE__KIND_SET_ROLE:
        case FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK:
        case FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME:
        case FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC:
        case FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED:
        case FC__E2E__V1__ROOM_CHANGE__KIND__NOT_SET:
        case _FC__E2E__V1__ROOM_CHANGE__KIND__CASE_IS_INT_SIZE:
        default:
            break;
        }
    }
    return false;
}

// Which room, and whether the entry is the next: before anything else is looked at.
static enum err
check_place(const struct e2e_room *room, const uint8_t *room_id, const Fc__E2e__V1__RoomEntry *entry,
    struct err_detail *why)
{
    const Fc__E2e__V1__RoomState *state = room->state;
    if (entry->suite != E2E_SUITE) {
        return err_fail(why, ERR_INVALID, "the room entry is of suite %" PRIu32 "; only %d is known", entry->suite,
            E2E_SUITE);
    }
    if (!e2e_room_is_id(entry->room_id, room_id) || (state != NULL && !e2e_room_is_id(state->room_id, room_id))) {
        return err_fail(why, ERR_INVALID, "the room entry is of another room");
    }
    if (entry->user_id.len != E2E_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "the author of a room entry is named by %d bytes, not %zu", E2E_ID_BYTES,
            entry->user_id.len);
    }
    uint64_t next = state == NULL ? 1 : state->seq + 1;
    if (entry->seq != next) {
        return err_fail(why, ERR_CONFLICT,
            "the room entry is number %" PRIu64 " and the next one is %" PRIu64 "; read the room's log and try again",
            entry->seq, next);
    }
    struct bytes_view head = {0};
    if (state != NULL) {
        head = bytes_view_of(state->head_hash.data, state->head_hash.len);
    }
    if (!bytes_view_equal(bytes_view_of(entry->prev_hash.data, entry->prev_hash.len), head)) {
        return err_fail(why, ERR_CONFLICT,
            "the room entry does not follow the newest one; read the room's log and "
            "try again");
    }
    return ERR_OK;
}

static enum err
check_size(const struct e2e_room *room, const Fc__E2e__V1__RoomEntry *entry, struct err_detail *why)
{
    // Those in the room, those who come in, and the author: for each a chain has to be read.
    size_t heads_max = (room->state == NULL ? 0 : room->state->n_members) + entry->n_changes + 1;
    if (entry->n_changes > E2E_ROOM_CHANGES_MAX) {
        return err_fail(why, ERR_INVALID, "a room entry makes at most %d changes, not %zu", E2E_ROOM_CHANGES_MAX,
            entry->n_changes);
    }
    if (entry->n_wraps > E2E_ROOM_WRAPS_MAX) {
        return err_fail(why, ERR_INVALID, "a room entry has at most %d wraps, not %zu", E2E_ROOM_WRAPS_MAX,
            entry->n_wraps);
    }
    if (entry->n_heads > heads_max) {
        return err_fail(why, ERR_INVALID, "the room entry names %zu heads, of more people than there can be",
            entry->n_heads);
    }
    if (entry->n_changes == 0 && entry->rekey == NULL && entry->n_wraps == 0) {
        return err_fail(why, ERR_INVALID, "the room entry does nothing");
    }
    return ERR_OK;
}

static enum err
draft_init(struct e2e_room_draft *draft, const struct e2e_room *room)
{
    struct bytes packed = {0};
    enum err err = ERR_OK;
    if (room->state != NULL) {
        err = e2e_room_pack(room, &packed);
        if (err == ERR_OK) {
            err = unpack(bytes_as_view(&packed), &draft->state);
        }
    }
    bytes_free(&packed);
    return err;
}

// draft_finish makes the draft the room's state.
static enum err
draft_finish(struct e2e_room_draft *draft, struct e2e_room *room, const uint8_t *hash)
{
    enum err err = e2e_room_set_bytes(&draft->state->head_hash, hash, hash == NULL ? 0 : E2E_HASH_BYTES);
    if (err == ERR_OK) {
        draft->state->seq = draft->entry->seq;
        e2e_room_deinit(room);
        room->state = draft->state;
        draft->state = NULL;
    }
    return err;
}

static void
draft_deinit(struct e2e_room_draft *draft)
{
    fc__e2e__v1__room_state__free_unpacked(draft->state, NULL);
    draft->state = NULL;
}

enum err
e2e_room_apply_plain(struct e2e_room *room, const Fc__E2e__V1__RoomEntry *entry, int64_t now_unix_ms,
    struct err_detail *why)
{
    if (room->state != NULL && !room->state->is_plain) {
        return err_fail(why, ERR_INVALID, "the room is encrypted: its entries have to be signed");
    }
    if (entry->device_id.len != 0 || entry->rekey != NULL || entry->n_heads != 0 || entry->n_wraps != 0) {
        return err_fail(why, ERR_INVALID, "entries of plain rooms carry no keys");
    }
    struct e2e_room_draft draft = {.entry = entry, .now_unix_ms = now_unix_ms};
    if (entry->room_id.len != E2E_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "a room's id has %d bytes, not %zu", E2E_ID_BYTES, entry->room_id.len);
    }
    enum err err = check_place(room, room->state == NULL ? entry->room_id.data : room->state->room_id.data, entry, why);
    if (err == ERR_OK) {
        err = check_size(room, entry, why);
    }
    if (err == ERR_OK) {
        err = draft_init(&draft, room);
    }
    if (err == ERR_OK) {
        err = e2e_room_rules_apply(&draft, why);
    }
    if (err == ERR_OK) {
        err = draft_finish(&draft, room, NULL);
    }
    draft_deinit(&draft);
    return err;
}

static bool
has_join_by_link(const Fc__E2e__V1__RoomEntry *entry, const uint8_t **link_id_out)
{
    for (size_t i = 0; i < entry->n_changes; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->changes[i];
        if (change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK) {
            *link_id_out =
                change->join_by_link->link_id.len == E2E_ID_BYTES ? change->join_by_link->link_id.data : NULL;
            return true;
        }
    }
    return false;
}

// The author's signature, and that of the invite link if the author joins by one.
static enum err
check_signatures(const struct e2e_room *room, const Fc__E2e__V1__Signed *wire, const struct e2e_room_draft *draft,
    struct err_detail *why)
{
    struct bytes_view body = bytes_view_of(wire->body.data, wire->body.len);
    struct bytes_view none = {0};
    enum err err = e2e_verify(draft->heads->author_key, E2E_CONTEXT_ROOM, body, none,
        bytes_view_of(wire->signature.data, wire->signature.len));
    if (err == ERR_CORRUPT) {
        return err_fail(why, err, "the room entry is not signed by the device that it names");
    }
    const uint8_t *link_id = NULL;
    if (err != ERR_OK || !has_join_by_link(draft->entry, &link_id)) {
        bool is_superfluous = err == ERR_OK && wire->link_signature.len != 0;
        return is_superfluous ? err_fail(why, ERR_INVALID, "the room entry has a link's signature, but joins by none")
                              : err;
    }
    const Fc__E2e__V1__RoomLink *link = link_id == NULL ? NULL : e2e_room_link(room, link_id);
    if (link == NULL) {
        return err_fail(why, ERR_DENIED, "this invite link has been revoked or never was; ask for a new one");
    }
    err = e2e_verify(link->link->sign_key.data, E2E_CONTEXT_JOIN, body, none,
        bytes_view_of(wire->link_signature.data, wire->link_signature.len));
    return err == ERR_CORRUPT ? err_fail(why, err, "the room entry is not signed by the invite link that it names")
                              : err;
}

// Whether those who come later may read what was before the entry: as the room was and will be.
static bool
reads_all(const Fc__E2e__V1__RoomState *state)
{
    return state != NULL && state->history == FC__E2E__V1__HISTORY__HISTORY_ALL;
}

static enum err
apply_signed(struct e2e_room *room, const Fc__E2e__V1__Signed *wire, struct e2e_room_draft *draft,
    struct err_detail *why)
{
    uint8_t hash[E2E_HASH_BYTES];
    enum err err = check_signatures(room, wire, draft, why);
    if (err == ERR_OK) {
        err = draft_init(draft, room);
    }
    if (err == ERR_OK) {
        err = e2e_room_rules_apply(draft, why);
    }
    if (err == ERR_OK && draft->state->is_plain) {
        err = err_fail(why, ERR_INVALID, "the first entry of an encrypted room says that the room is plain");
    }
    if (err == ERR_OK) {
        err = e2e_room_keys_apply(draft, e2e_room_needs_rekey(room, draft->entry),
            reads_all(room->state) && reads_all(draft->state), why);
    }
    if (err == ERR_OK) {
        err = e2e_room_entry_hash(bytes_view_of(wire->body.data, wire->body.len), hash);
    }
    return err == ERR_OK ? draft_finish(draft, room, hash) : err;
}

enum err
e2e_room_apply(struct e2e_room *room, const uint8_t room_id[E2E_ID_BYTES], const Fc__E2e__V1__Signed *wire,
    int64_t now_unix_ms, e2e_find_user_fn *find_user, void *context, struct err_detail *why)
{
    if (room->state != NULL && room->state->is_plain) {
        return err_fail(why, ERR_INVALID, "the room is plain: its entries are not signed");
    }
    Fc__E2e__V1__RoomEntry *entry = NULL;
    enum err err = e2e_room_parse(bytes_view_of(wire->body.data, wire->body.len), &entry, why);
    if (err != ERR_OK) {
        return err;
    }
    struct e2e_room_heads heads = {0};
    struct e2e_room_draft draft = {.entry = entry, .heads = &heads, .now_unix_ms = now_unix_ms};
    err = check_place(room, room_id, entry, why);
    if (err == ERR_OK) {
        err = check_size(room, entry, why);
    }
    if (err == ERR_OK) {
        err = e2e_room_heads_read(&heads, entry, find_user, context, why);
    }
    if (err == ERR_OK) {
        err = apply_signed(room, wire, &draft, why);
    }
    draft_deinit(&draft);
    e2e_room_heads_deinit(&heads);
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    return err;
}

static int
compare_members(const void *a, const void *b)
{
    const Fc__E2e__V1__RoomMember *const *one = a;
    const Fc__E2e__V1__RoomMember *const *other = b;
    return memcmp((*one)->user_id.data, (*other)->user_id.data, E2E_ID_BYTES);
}

static enum err
append_members(const Fc__E2e__V1__RoomState *state, struct bytes *out)
{
    const Fc__E2e__V1__RoomMember **members = calloc(state->n_members + 1, sizeof(*members));
    if (members == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    for (size_t i = 0; i < state->n_members; i++) {
        members[i] = state->members[i];
    }
    qsort(members, state->n_members, sizeof(*members), compare_members);
    for (size_t i = 0; err == ERR_OK && i < state->n_members; i++) {
        err = bytes_append(out, bytes_view_of(members[i]->user_id.data, members[i]->user_id.len));
        if (err == ERR_OK) {
            err = bytes_append(out, bytes_view_of(members[i]->identity_key.data, members[i]->identity_key.len));
        }
    }
    free(members);
    return err;
}

enum err
e2e_room_fingerprint(const struct e2e_room *room, char out[E2E_SAFETY_NUMBER_BYTES])
{
    const Fc__E2e__V1__RoomState *state = room->state;
    if (state == NULL) {
        return ERR_PRECONDITION;
    }
    uint8_t seq[8];
    uint8_t groups[NUMBER_GROUPS * NUMBER_GROUP_BYTES];
    struct bytes input = {0};
    bytes_store_be64(seq, state->seq);
    enum err err = bytes_append(&input, bytes_view_of(state->room_id.data, state->room_id.len));
    if (err == ERR_OK) {
        err = bytes_append(&input, bytes_view_of(seq, sizeof(seq)));
    }
    if (err == ERR_OK) {
        err = bytes_append(&input, bytes_view_of(state->head_hash.data, state->head_hash.len));
    }
    if (err == ERR_OK) {
        err = append_members(state, &input);
    }
    if (err == ERR_OK) {
        err = digest_hkdf_sha256(bytes_as_view(&input), (struct bytes_view){0}, bytes_view_of_text(LABEL_NUMBER),
            groups, sizeof(groups));
    }
    bytes_free(&input);
    for (size_t group = 0; err == ERR_OK && group < NUMBER_GROUPS; group++) {
        const uint8_t *from = groups + group * NUMBER_GROUP_BYTES;
        uint64_t value = (uint64_t)from[0] << 32 | bytes_load_be32(from + 1);
        snprintf(out + group * 6, 7, "%05u%s", (unsigned)(value % NUMBER_GROUP_MODULUS),
            group + 1 < NUMBER_GROUPS ? " " : "");
    }
    return err;
}
