// A room of Alice (owner), Carol (admin) and Bob (member) with Dave outside, and entries that are tried on it.
#ifndef E2E_ROOM_SUPPORT_H
#define E2E_ROOM_SUPPORT_H

#include "tests/unit/people_support.h"

static const uint8_t room_id[E2E_ID_BYTES] = {0x40, 1};

enum { ALICE, BOB, CAROL, DAVE, PEOPLE };

static struct person people[PEOPLE];
static struct person *const alice = &people[ALICE]; // owner of the room
static struct person *const bob = &people[BOB];     // member
static struct person *const carol = &people[CAROL]; // admin
static struct person *const dave = &people[DAVE];   // outside
static struct e2e_room room;
static struct e2e_keys link_keys;
static struct err_detail why;

// A server's: only the newest heads will do.
static inline enum err
find_user(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *detail)
{
    (void)context;
    for (size_t i = 0; i < PEOPLE; i++) {
        const struct e2e_user *chain = &people[i].chain;
        if (memcmp(chain->id, head->user_id.data, E2E_ID_BYTES) != 0) {
            continue;
        }
        if (head->seq != chain->seq || memcmp(head->hash.data, chain->head_hash, E2E_HASH_BYTES) != 0) {
            return err_fail(detail, ERR_CONFLICT, "not the newest head");
        }
        *out = chain;
        return ERR_OK;
    }
    return err_fail(detail, ERR_NOT_FOUND, "no such user");
}

static inline enum err
apply_at(Fc__E2e__V1__RoomEntry *entry, const struct e2e_keys *device, const struct e2e_keys *link, int64_t now_ms)
{
    struct signed_entry wire;
    struct bytes before = {0};
    struct bytes after = {0};
    if (room.state != NULL) {
        assert_int_equal(e2e_room_pack(&room, &before), ERR_OK);
    }
    memset(&why, 0, sizeof(why));
    entry_sign(entry, device, link, &wire);
    enum err err = e2e_room_apply(&room, room_id, &wire.wire, now_ms, find_user, NULL, &why);
    if (err != ERR_OK) {
        assert_true(why.message[0] != '\0');
        if (room.state != NULL) {
            assert_int_equal(e2e_room_pack(&room, &after), ERR_OK);
        }
        assert_true(bytes_view_equal(bytes_as_view(&before), bytes_as_view(&after)));
    }
    bytes_free(&before);
    bytes_free(&after);
    signed_entry_deinit(&wire);
    return err;
}

static inline enum err
apply(Fc__E2e__V1__RoomEntry *entry, const struct person *author)
{
    return apply_at(entry, &author->devices[0], NULL, 0);
}

static inline void
expect(Fc__E2e__V1__RoomEntry *entry, const struct person *author, enum err expected, const char *words)
{
    enum err err = apply(entry, author);
    if (err != expected || (words != NULL && strstr(why.message, words) == NULL)) {
        fail_msg("%s: %s, not %s about \"%s\"", err_name(err), why.message, err_name(expected), words);
    }
}

static inline Fc__E2e__V1__RoomEntry *
entry_by(const struct person *author)
{
    return entry_new(&room, room_id, author);
}

// An entry that only needs its author's head.
static inline Fc__E2e__V1__RoomEntry *
small_entry_by(const struct person *author)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(author);
    entry_head(entry, author);
    return entry;
}

// Starts the next epoch for these people, a NULL at the end.
static inline void
rekey_for(Fc__E2e__V1__RoomEntry *entry, struct person *const *who)
{
    uint64_t epoch = room.state == NULL ? 1 : room.state->epoch + 1;
    entry_rekey(entry, epoch);
    for (; *who != NULL; who++) {
        entry_give(entry, *who, epoch);
    }
}

#define EVERYBODY(...)                                                                                                 \
    (struct person *const[])                                                                                           \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }

// Alice owns the room, Carol is its admin, Bob a member.
static inline void
make_room(Fc__E2e__V1__RoomKind kind, Fc__E2e__V1__History history)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "team", kind, history, false);
    entry_add(entry, carol, FC__E2E__V1__ROLE__ADMIN, false);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, alice, ERR_OK, NULL);
}

static inline void
make_direct_room(void)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "", FC__E2E__V1__ROOM_KIND__DIRECT, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_add(entry, bob, FC__E2E__V1__ROLE__OWNER, false);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_OK, NULL);
}

static inline void
add_link(Fc__E2e__V1__Role role, int64_t expires_at_ms, uint32_t max_uses)
{
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    Fc__E2e__V1__InviteLink *link = entry_add_link(entry, &link_keys, role);
    link->expires_at_ms = expires_at_ms;
    link->max_uses = max_uses;
    entry_wrap(entry, link_keys.id, room.state->epoch);
    expect(entry, carol, ERR_OK, NULL);
}

static inline int
setup_people(void **state)
{
    (void)state;
    static const char *const names[PEOPLE] = {"alice", "bob", "carol", "dave"};
    for (size_t i = 0; i < PEOPLE; i++) {
        person_init(&people[i], names[i]);
    }
    return 0;
}

static inline int
setup(void **state)
{
    setup_people(state);
    make_room(FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL);
    return 0;
}

static inline int
setup_joined(void **state)
{
    setup_people(state);
    make_room(FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_JOINED);
    return 0;
}

static inline int
setup_direct(void **state)
{
    setup_people(state);
    make_direct_room();
    return 0;
}

static inline int
teardown(void **state)
{
    (void)state;
    e2e_room_deinit(&room);
    for (size_t i = 0; i < PEOPLE; i++) {
        person_deinit(&people[i]);
    }
    return 0;
}

static inline Fc__E2e__V1__Role
role_of(const struct person *who)
{
    const Fc__E2e__V1__RoomMember *member = e2e_room_member(&room, who->id);
    return member == NULL ? FC__E2E__V1__ROLE__ROLE_UNSPECIFIED : member->role;
}

static inline Fc__E2e__V1__RoomEntry *
topic_by(const struct person *author, const char *topic)
{
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(author);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text(topic);
    return entry;
}

static inline void
expect_plain(Fc__E2e__V1__RoomEntry *entry, enum err expected, const char *words)
{
    memset(&why, 0, sizeof(why));
    enum err err = e2e_room_apply_plain(&room, entry, 0, &why);
    if (err != expected || (words != NULL && strstr(why.message, words) == NULL)) {
        fail_msg("%s: %s, not %s about \"%s\"", err_name(err), why.message, err_name(expected), words);
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
}

static inline void
make_plain_room(Fc__E2e__V1__RoomKind kind)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "hall", kind, FC__E2E__V1__HISTORY__HISTORY_ALL, true);
    entry_add(entry, alice, FC__E2E__V1__ROLE__OWNER, false);
    entry_add(entry, carol, FC__E2E__V1__ROLE__ADMIN, false);
    expect_plain(entry, ERR_OK, NULL);
}

#define IN_ROOM(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define WITHOUT_ROOM(test) cmocka_unit_test_setup_teardown(test, setup_people, teardown)
#define IN_DIRECT_ROOM(test) cmocka_unit_test_setup_teardown(test, setup_direct, teardown)

#endif
