#include "services/chat/chat_plain.h"

#include <string.h>

#include "base/clock.h"

enum {
    // A thousand changes, each with an id.
    PLAIN_MAX_BYTES = 1024 * 1024,
};

static ProtobufCBinaryData
lend(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

// protobuf-c has no const; what is only packed is not written to.
static char *
lend_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void *
take(struct chat_plain *plain, size_t size)
{
    void *memory = arena_alloc(&plain->arena, size);
    if (memory == NULL && plain->err == ERR_OK) {
        plain->err = ERR_NO_MEMORY;
    }
    return memory;
}

void
chat_plain_init(struct chat_plain *plain, const struct e2e_room *room, const uint8_t room_id[CHAT_ID_BYTES],
    const uint8_t author_id[CHAT_ID_BYTES])
{
    *plain = (struct chat_plain){.err = ERR_OK};
    arena_init(&plain->arena, PLAIN_MAX_BYTES);
    fc__e2e__v1__room_entry__init(&plain->entry);
    plain->entry.suite = E2E_SUITE;
    plain->entry.room_id = lend(room_id, CHAT_ID_BYTES);
    plain->entry.seq = room->state == NULL ? 1 : room->state->seq + 1;
    plain->entry.user_id = lend(author_id, CHAT_ID_BYTES);
    plain->entry.created_at_ms = clock_unix_ms();
    plain->entry.changes = take(plain, E2E_ROOM_CHANGES_MAX * sizeof(Fc__E2e__V1__RoomChange *));
}

void
chat_plain_deinit(struct chat_plain *plain)
{
    arena_deinit(&plain->arena);
}

Fc__E2e__V1__RoomChange *
chat_plain_change(struct chat_plain *plain, Fc__E2e__V1__RoomChange__KindCase kind)
{
    if (plain->entry.n_changes == E2E_ROOM_CHANGES_MAX && plain->err == ERR_OK) {
        plain->err = ERR_INVALID;
    }
    Fc__E2e__V1__RoomChange *change = plain->err == ERR_OK ? take(plain, sizeof(*change)) : NULL;
    if (change == NULL) {
        return NULL;
    }
    fc__e2e__v1__room_change__init(change);
    change->kind_case = kind;
    plain->entry.changes[plain->entry.n_changes++] = change;
    return change;
}

void
chat_plain_create(struct chat_plain *plain, const char *name, Fc__E2e__V1__RoomKind kind)
{
    Fc__E2e__V1__CreateRoom *create = take(plain, sizeof(*create));
    Fc__E2e__V1__RoomChange *change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_CREATE);
    if (create == NULL || change == NULL) {
        return;
    }
    fc__e2e__v1__create_room__init(create);
    create->name = lend_text(name);
    create->kind = kind;
    create->is_plain = true;
    change->create = create;
}

void
chat_plain_add(struct chat_plain *plain, const struct chat_user *user, Fc__E2e__V1__Role role, bool is_invited)
{
    Fc__E2e__V1__AddMember *add = take(plain, sizeof(*add));
    Fc__E2e__V1__RoomChange *change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER);
    if (add == NULL || change == NULL) {
        return;
    }
    fc__e2e__v1__add_member__init(add);
    add->user_id = lend(user->id, CHAT_ID_BYTES);
    add->user_name = lend_text(user->name);
    add->role = role;
    add->is_invited = is_invited;
    change->add_member = add;
}

void
chat_plain_remove(struct chat_plain *plain, const uint8_t user_id[CHAT_ID_BYTES])
{
    Fc__E2e__V1__RoomChange *change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER);
    if (change != NULL) {
        change->remove_member = lend(user_id, CHAT_ID_BYTES);
    }
}

void
chat_plain_set_role(struct chat_plain *plain, const uint8_t user_id[CHAT_ID_BYTES], Fc__E2e__V1__Role role)
{
    Fc__E2e__V1__SetRole *set = take(plain, sizeof(*set));
    Fc__E2e__V1__RoomChange *change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ROLE);
    if (set == NULL || change == NULL) {
        return;
    }
    fc__e2e__v1__set_role__init(set);
    set->user_id = lend(user_id, CHAT_ID_BYTES);
    set->role = role;
    change->set_role = set;
}

void
chat_plain_accept(struct chat_plain *plain)
{
    Fc__E2e__V1__Accept *accept = take(plain, sizeof(*accept));
    Fc__E2e__V1__RoomChange *change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_ACCEPT);
    if (accept != NULL && change != NULL) {
        fc__e2e__v1__accept__init(accept);
        change->accept = accept;
    }
}

void
chat_plain_join_by_link(struct chat_plain *plain, const uint8_t link_id[CHAT_ID_BYTES], const char *user_name)
{
    Fc__E2e__V1__JoinByLink *join = take(plain, sizeof(*join));
    Fc__E2e__V1__RoomChange *change = chat_plain_change(plain, FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK);
    if (join == NULL || change == NULL) {
        return;
    }
    fc__e2e__v1__join_by_link__init(join);
    join->link_id = lend(link_id, CHAT_ID_BYTES);
    join->user_name = lend_text(user_name);
    change->join_by_link = join;
}

uint8_t *
chat_plain_copy_id(struct chat_plain *plain, const uint8_t id[CHAT_ID_BYTES])
{
    uint8_t *copy = take(plain, CHAT_ID_BYTES);
    if (copy != NULL) {
        memcpy(copy, id, CHAT_ID_BYTES);
    }
    return copy;
}

enum err
chat_plain_finish(const struct chat_plain *plain, struct err_detail *why)
{
    if (plain->err == ERR_INVALID) {
        return err_fail(why, ERR_INVALID, "one call changes at most %d things of a room; make it several calls",
            E2E_ROOM_CHANGES_MAX);
    }
    return plain->err;
}
