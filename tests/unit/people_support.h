// People with chains and devices, and room entries by them: for tests of the rules of rooms and of the server.
#ifndef PEOPLE_SUPPORT_H
#define PEOPLE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_room.h"
#include "e2e/e2e_user.h"
#include "e2e/e2e_wire.h"

enum { PERSON_DEVICES_MAX = 4 };

struct person {
    uint8_t id[E2E_ID_BYTES];
    const char *name;
    uint8_t identity_key[CRYPTO_KEY_BYTES]; // private
    struct e2e_user chain;
    struct e2e_keys devices[PERSON_DEVICES_MAX];
    size_t device_count;
};

static inline ProtobufCBinaryData
lend(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static inline ProtobufCBinaryData
heap_bytes(const void *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    assert_non_null(copy);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return (ProtobufCBinaryData){.len = size, .data = copy};
}

static inline char *
heap_text(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    return copy;
}

// --- Chains --------------------------------------------------------------------------------------------------------

// person_append signs an entry of one or two changes with the identity key and applies it.
static inline void
person_append(struct person *person, Fc__E2e__V1__UserChange **changes, size_t change_count)
{
    Fc__E2e__V1__UserEntry entry = FC__E2E__V1__USER_ENTRY__INIT;
    struct bytes body = {0};
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    struct err_detail why = {0};
    entry.suite = E2E_SUITE;
    entry.user_id = lend(person->id, E2E_ID_BYTES);
    entry.seq = person->chain.seq + 1;
    entry.prev_hash = lend(person->chain.head_hash, person->chain.seq == 0 ? 0 : E2E_HASH_BYTES);
    entry.created_at_ms = 1;
    entry.n_changes = change_count;
    entry.changes = changes;
    assert_int_equal(e2e_wire_append(&entry.base, &body), ERR_OK);
    assert_int_equal(
        e2e_sign(person->identity_key, E2E_CONTEXT_USER, bytes_as_view(&body), (struct bytes_view){0}, signature),
        ERR_OK);
    if (e2e_user_apply(&person->chain, person->id, bytes_as_view(&body), bytes_view_of(signature, sizeof(signature)),
            &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
    bytes_free(&body);
}

static inline void
person_add_device(struct person *person)
{
    Fc__E2e__V1__Device device = FC__E2E__V1__DEVICE__INIT;
    Fc__E2e__V1__UserChange change = FC__E2E__V1__USER_CHANGE__INIT;
    Fc__E2e__V1__UserChange *changes[] = {&change};
    assert_true(person->device_count < PERSON_DEVICES_MAX);
    struct e2e_keys *keys = &person->devices[person->device_count++];
    assert_int_equal(e2e_keys_generate(keys), ERR_OK);
    device.device_id = lend(keys->id, E2E_ID_BYTES);
    device.sign_key = lend(keys->sign_public, CRYPTO_KEY_BYTES);
    device.box_key = lend(keys->box_public, CRYPTO_KEY_BYTES);
    change.kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    change.add_device = &device;
    person_append(person, changes, 1);
}

static inline void
person_revoke_device(struct person *person, size_t index)
{
    Fc__E2e__V1__UserChange change = FC__E2E__V1__USER_CHANGE__INIT;
    Fc__E2e__V1__UserChange *changes[] = {&change};
    change.kind_case = FC__E2E__V1__USER_CHANGE__KIND_REVOKE_DEVICE;
    change.revoke_device = lend(person->devices[index].id, E2E_ID_BYTES);
    person_append(person, changes, 1);
}

// person_set_identity is a new identity, all devices gone.
static inline void
person_set_identity(struct person *person)
{
    Fc__E2e__V1__Identity identity = FC__E2E__V1__IDENTITY__INIT;
    Fc__E2e__V1__UserChange change = FC__E2E__V1__USER_CHANGE__INIT;
    Fc__E2e__V1__UserChange *changes[] = {&change};
    uint8_t public_key[CRYPTO_KEY_BYTES];
    random_bytes(person->identity_key, sizeof(person->identity_key));
    assert_int_equal(crypto_sign_public(person->identity_key, public_key), ERR_OK);
    identity.user_name = (char *)(uintptr_t)person->name;
    identity.identity_key = lend(public_key, sizeof(public_key));
    change.kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
    change.set_identity = &identity;
    person_append(person, changes, 1);
    person->device_count = 0;
}

// person_init makes somebody with one device, whose id begins with the first letter of the name.
static inline void
person_init(struct person *person, const char *name)
{
    memset(person, 0, sizeof(*person));
    person->id[0] = (uint8_t)name[0];
    person->name = name;
    person_set_identity(person);
    person_add_device(person);
}

static inline void
person_deinit(struct person *person)
{
    e2e_user_deinit(&person->chain);
}

// --- Entries -------------------------------------------------------------------------------------------------------

// entry_new is the next entry of the room, without changes. On the heap, all of it, for
// fc__e2e__v1__room_entry__free_unpacked.
static inline Fc__E2e__V1__RoomEntry *
entry_new(const struct e2e_room *room, const uint8_t room_id[E2E_ID_BYTES], const struct person *author)
{
    Fc__E2e__V1__RoomEntry *entry = malloc(sizeof(*entry));
    assert_non_null(entry);
    fc__e2e__v1__room_entry__init(entry);
    entry->suite = E2E_SUITE;
    entry->room_id = heap_bytes(room_id, E2E_ID_BYTES);
    entry->seq = room->state == NULL ? 1 : room->state->seq + 1;
    if (room->state != NULL) {
        entry->prev_hash = heap_bytes(room->state->head_hash.data, room->state->head_hash.len);
    }
    entry->user_id = heap_bytes(author->id, E2E_ID_BYTES);
    entry->created_at_ms = 1000;
    return entry;
}

// GROW makes room for one more pointer in a repeated field.
#define GROW(owner, array)                                                                                             \
    do {                                                                                                               \
        (owner)->array = realloc((owner)->array, ((owner)->n_##array + 1) * sizeof(void *));                           \
        assert_non_null((owner)->array);                                                                               \
    } while (0)

static inline Fc__E2e__V1__RoomChange *
entry_change(Fc__E2e__V1__RoomEntry *entry, Fc__E2e__V1__RoomChange__KindCase kind)
{
    GROW(entry, changes);
    Fc__E2e__V1__RoomChange *change = malloc(sizeof(*change));
    assert_non_null(change);
    fc__e2e__v1__room_change__init(change);
    change->kind_case = kind;
    entry->changes[entry->n_changes++] = change;
    return change;
}

static inline Fc__E2e__V1__CreateRoom *
entry_create(Fc__E2e__V1__RoomEntry *entry, const char *name, Fc__E2e__V1__RoomKind kind, Fc__E2e__V1__History history,
    bool is_plain)
{
    Fc__E2e__V1__CreateRoom *create = malloc(sizeof(*create));
    assert_non_null(create);
    fc__e2e__v1__create_room__init(create);
    create->name = heap_text(name);
    create->kind = kind;
    create->history = history;
    create->is_plain = is_plain;
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_CREATE)->create = create;
    return create;
}

static inline Fc__E2e__V1__AddMember *
entry_add(Fc__E2e__V1__RoomEntry *entry, const struct person *who, Fc__E2e__V1__Role role, bool is_invited)
{
    Fc__E2e__V1__AddMember *add = malloc(sizeof(*add));
    assert_non_null(add);
    fc__e2e__v1__add_member__init(add);
    add->user_id = heap_bytes(who->id, E2E_ID_BYTES);
    add->user_name = heap_text(who->name);
    add->role = role;
    add->is_invited = is_invited;
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER)->add_member = add;
    return add;
}

static inline void
entry_remove(Fc__E2e__V1__RoomEntry *entry, const struct person *who)
{
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_REMOVE_MEMBER)->remove_member =
        heap_bytes(who->id, E2E_ID_BYTES);
}

static inline void
entry_set_role(Fc__E2e__V1__RoomEntry *entry, const struct person *who, Fc__E2e__V1__Role role)
{
    Fc__E2e__V1__SetRole *change = malloc(sizeof(*change));
    assert_non_null(change);
    fc__e2e__v1__set_role__init(change);
    change->user_id = heap_bytes(who->id, E2E_ID_BYTES);
    change->role = role;
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ROLE)->set_role = change;
}

static inline void
entry_accept(Fc__E2e__V1__RoomEntry *entry)
{
    Fc__E2e__V1__Accept *accept = malloc(sizeof(*accept));
    assert_non_null(accept);
    fc__e2e__v1__accept__init(accept);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ACCEPT)->accept = accept;
}

static inline Fc__E2e__V1__InviteLink *
entry_add_link(Fc__E2e__V1__RoomEntry *entry, const struct e2e_keys *keys, Fc__E2e__V1__Role role)
{
    Fc__E2e__V1__InviteLink *link = malloc(sizeof(*link));
    assert_non_null(link);
    fc__e2e__v1__invite_link__init(link);
    link->link_id = heap_bytes(keys->id, E2E_ID_BYTES);
    link->sign_key = heap_bytes(keys->sign_public, CRYPTO_KEY_BYTES);
    link->box_key = heap_bytes(keys->box_public, CRYPTO_KEY_BYTES);
    link->role = role;
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_ADD_LINK)->add_link = link;
    return link;
}

static inline void
entry_revoke_link(Fc__E2e__V1__RoomEntry *entry, const struct e2e_keys *keys)
{
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_REVOKE_LINK)->revoke_link = heap_bytes(keys->id, E2E_ID_BYTES);
}

static inline void
entry_join_by_link(Fc__E2e__V1__RoomEntry *entry, const struct e2e_keys *keys, const struct person *who)
{
    Fc__E2e__V1__JoinByLink *join = malloc(sizeof(*join));
    assert_non_null(join);
    fc__e2e__v1__join_by_link__init(join);
    join->link_id = heap_bytes(keys->id, E2E_ID_BYTES);
    join->user_name = heap_text(who->name);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_JOIN_BY_LINK)->join_by_link = join;
}

static inline void
entry_head(Fc__E2e__V1__RoomEntry *entry, const struct person *who)
{
    GROW(entry, heads);
    Fc__E2e__V1__UserHead *head = malloc(sizeof(*head));
    assert_non_null(head);
    fc__e2e__v1__user_head__init(head);
    head->user_id = heap_bytes(who->id, E2E_ID_BYTES);
    head->seq = who->chain.seq;
    head->hash = heap_bytes(who->chain.head_hash, E2E_HASH_BYTES);
    entry->heads[entry->n_heads++] = head;
}

// entry_wrap gives bytes of the right size that open nothing: who cannot read cannot tell.
static inline Fc__E2e__V1__Wrap *
entry_wrap(Fc__E2e__V1__RoomEntry *entry, const uint8_t device_id[E2E_ID_BYTES], uint64_t epoch)
{
    static const uint8_t nothing[E2E_WRAP_CIPHERTEXT_BYTES];
    GROW(entry, wraps);
    Fc__E2e__V1__Wrap *wrap = malloc(sizeof(*wrap));
    assert_non_null(wrap);
    fc__e2e__v1__wrap__init(wrap);
    wrap->device_id = heap_bytes(device_id, E2E_ID_BYTES);
    wrap->epoch = epoch;
    wrap->enc = heap_bytes(nothing, E2E_WRAP_ENC_BYTES);
    wrap->ciphertext = heap_bytes(nothing, E2E_WRAP_CIPHERTEXT_BYTES);
    entry->wraps[entry->n_wraps++] = wrap;
    return wrap;
}

// entry_give names a person's head and gives a key to each device in use.
static inline void
entry_give(Fc__E2e__V1__RoomEntry *entry, const struct person *who, uint64_t epoch)
{
    entry_head(entry, who);
    for (size_t i = 0; i < who->chain.device_count; i++) {
        if (!who->chain.devices[i].is_revoked) {
            entry_wrap(entry, who->chain.devices[i].id, epoch);
        }
    }
}

static inline Fc__E2e__V1__Rekey *
entry_rekey(Fc__E2e__V1__RoomEntry *entry, uint64_t epoch)
{
    static const uint8_t commitment[E2E_COMMITMENT_BYTES] = {0xc0};
    Fc__E2e__V1__Rekey *rekey = malloc(sizeof(*rekey));
    assert_non_null(rekey);
    fc__e2e__v1__rekey__init(rekey);
    rekey->epoch = epoch;
    rekey->commitment = heap_bytes(commitment, sizeof(commitment));
    entry->rekey = rekey;
    return rekey;
}

// signed_entry is an entry as it travels.
struct signed_entry {
    Fc__E2e__V1__Signed wire;
    struct bytes body;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t link_signature[CRYPTO_SIGNATURE_BYTES];
};

// entry_sign encodes and signs, with the link as well if there is one, and frees the entry.
static inline void
entry_sign(Fc__E2e__V1__RoomEntry *entry, const struct e2e_keys *device, const struct e2e_keys *link,
    struct signed_entry *out)
{
    struct bytes_view none = {0};
    memset(out, 0, sizeof(*out));
    if (entry->device_id.len == 0) {
        free(entry->device_id.data);
        entry->device_id = heap_bytes(device->id, E2E_ID_BYTES);
    }
    assert_int_equal(e2e_wire_append(&entry->base, &out->body), ERR_OK);
    assert_int_equal(e2e_sign(device->sign_private, E2E_CONTEXT_ROOM, bytes_as_view(&out->body), none, out->signature),
        ERR_OK);
    fc__e2e__v1__signed__init(&out->wire);
    out->wire.body = lend(out->body.data, out->body.size);
    out->wire.signature = lend(out->signature, sizeof(out->signature));
    if (link != NULL) {
        assert_int_equal(
            e2e_sign(link->sign_private, E2E_CONTEXT_JOIN, bytes_as_view(&out->body), none, out->link_signature),
            ERR_OK);
        out->wire.link_signature = lend(out->link_signature, sizeof(out->link_signature));
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
}

static inline void
signed_entry_deinit(struct signed_entry *entry)
{
    bytes_free(&entry->body);
}

#endif
