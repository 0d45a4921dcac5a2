// The rules of encrypted rooms: what an entry may do, who has to get keys, and that a refused one changes nothing.
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
static enum err
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

static enum err
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

static enum err
apply(Fc__E2e__V1__RoomEntry *entry, const struct person *author)
{
    return apply_at(entry, &author->devices[0], NULL, 0);
}

static void
expect(Fc__E2e__V1__RoomEntry *entry, const struct person *author, enum err expected, const char *words)
{
    enum err err = apply(entry, author);
    if (err != expected || (words != NULL && strstr(why.message, words) == NULL)) {
        fail_msg("%s: %s, not %s about \"%s\"", err_name(err), why.message, err_name(expected), words);
    }
}

static Fc__E2e__V1__RoomEntry *
entry_by(const struct person *author)
{
    return entry_new(&room, room_id, author);
}

// An entry that only needs its author's head.
static Fc__E2e__V1__RoomEntry *
small_entry_by(const struct person *author)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(author);
    entry_head(entry, author);
    return entry;
}

// Starts the next epoch for these people, a NULL at the end.
static void
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
static void
make_room(Fc__E2e__V1__RoomKind kind, Fc__E2e__V1__History history)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "team", kind, history, false);
    entry_add(entry, carol, FC__E2E__V1__ROLE__ADMIN, false);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, alice, ERR_OK, NULL);
}

static void
make_direct_room(void)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "", FC__E2E__V1__ROOM_KIND__DIRECT, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_add(entry, bob, FC__E2E__V1__ROLE__OWNER, false);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_OK, NULL);
}

static void
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

static int
setup_people(void **state)
{
    (void)state;
    static const char *const names[PEOPLE] = {"alice", "bob", "carol", "dave"};
    for (size_t i = 0; i < PEOPLE; i++) {
        person_init(&people[i], names[i]);
    }
    return 0;
}

static int
setup(void **state)
{
    setup_people(state);
    make_room(FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL);
    return 0;
}

static int
setup_joined(void **state)
{
    setup_people(state);
    make_room(FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_JOINED);
    return 0;
}

static int
setup_direct(void **state)
{
    setup_people(state);
    make_direct_room();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    e2e_room_deinit(&room);
    for (size_t i = 0; i < PEOPLE; i++) {
        person_deinit(&people[i]);
    }
    return 0;
}

static Fc__E2e__V1__Role
role_of(const struct person *who)
{
    const Fc__E2e__V1__RoomMember *member = e2e_room_member(&room, who->id);
    return member == NULL ? FC__E2E__V1__ROLE__ROLE_UNSPECIFIED : member->role;
}

// --- The first entry -------------------------------------------------------------------------------------------------

static void
test_first_entry_makes_the_room(void **state)
{
    (void)state;
    assert_int_equal(room.state->seq, 1);
    assert_int_equal(room.state->epoch, 1);
    assert_int_equal(room.state->head_hash.len, E2E_HASH_BYTES);
    assert_string_equal(room.state->name, "team");
    assert_int_equal(role_of(alice), FC__E2E__V1__ROLE__OWNER);
    assert_int_equal(role_of(carol), FC__E2E__V1__ROLE__ADMIN);
    assert_int_equal(role_of(bob), FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(role_of(dave), FC__E2E__V1__ROLE__ROLE_UNSPECIFIED);
    assert_string_equal(e2e_room_member(&room, alice->id)->user_name, "alice");
}

static void
test_first_entry_has_to_make_a_room(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_INVALID, "begin with its making");

    entry = entry_by(alice);
    entry_create(entry, "team", FC__E2E__V1__ROOM_KIND__PUBLIC, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, "plain or private");

    entry = entry_by(alice);
    entry_create(entry, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, true);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, "not signed");

    entry = entry_by(alice);
    entry_create(entry, "team", FC__E2E__V1__ROOM_KIND__ROOM_KIND_UNSPECIFIED, FC__E2E__V1__HISTORY__HISTORY_ALL,
        false);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, "private, public or direct");

    entry = entry_by(alice);
    entry_create(entry, "a b", FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, NULL);

    entry = entry_by(alice);
    entry_create(entry, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, (Fc__E2e__V1__History)7, false);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, "new members read");

    entry = entry_by(alice);
    entry_create(entry, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_head(entry, alice);
    expect(entry, alice, ERR_INVALID, "new epoch");

    entry = entry_by(alice);
    entry_create(entry, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    rekey_for(entry, EVERYBODY(alice));
    static const uint8_t ladder[E2E_SECRET_BYTES + E2E_SEAL_OVERHEAD_BYTES];
    entry->rekey->previous = heap_bytes(ladder, sizeof(ladder));
    expect(entry, alice, ERR_INVALID, "must not get the epoch before");

    assert_null(room.state);
}

static void
test_room_is_made_once(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(alice);
    entry_create(entry, "other", FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    expect(entry, alice, ERR_INVALID, "only the first change");
}

// --- Place and signature ---------------------------------------------------------------------------------------------

static Fc__E2e__V1__RoomEntry *
topic_by(const struct person *author, const char *topic)
{
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(author);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text(topic);
    return entry;
}

static void
test_entries_follow_each_other(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = topic_by(alice, "x");
    entry->seq = 1;
    expect(entry, alice, ERR_CONFLICT, "next one is 2");
    entry = topic_by(alice, "x");
    entry->seq = 3;
    expect(entry, alice, ERR_CONFLICT, "next one is 2");
    entry = topic_by(alice, "x");
    entry->prev_hash.data[0] ^= 1;
    expect(entry, alice, ERR_CONFLICT, "does not follow");
    entry = topic_by(alice, "x");
    entry->prev_hash.len = 0;
    expect(entry, alice, ERR_CONFLICT, "does not follow");
    entry = topic_by(alice, "x");
    entry->room_id.data[1] ^= 1;
    expect(entry, alice, ERR_INVALID, "another room");
    entry = topic_by(alice, "x");
    entry->suite = 2;
    expect(entry, alice, ERR_INVALID, "suite");
    expect(topic_by(alice, "x"), alice, ERR_OK, NULL);
    assert_int_equal(room.state->seq, 2);
    assert_string_equal(room.state->topic, "x");
}

static void
test_signature_is_by_an_active_device_of_the_author(void **state)
{
    (void)state;
    // By somebody else's key in the name of Alice's device.
    Fc__E2e__V1__RoomEntry *entry = topic_by(alice, "x");
    entry->device_id = heap_bytes(alice->devices[0].id, E2E_ID_BYTES);
    expect(entry, carol, ERR_CORRUPT, "not signed by the device");
    // By a device that is not Alice's.
    expect(topic_by(alice, "x"), carol, ERR_NOT_FOUND, "none of alice's");
    // With another head than the author's.
    entry = entry_by(alice);
    entry_head(entry, carol);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text("x");
    expect(entry, alice, ERR_INVALID, "head of its author");
    // By a device that has been revoked.
    person_add_device(alice);
    person_revoke_device(alice, 0);
    expect(topic_by(alice, "x"), alice, ERR_DENIED, "revoked");
    assert_int_equal(apply_at(topic_by(alice, "x"), &alice->devices[1], NULL, 0), ERR_OK);
}

static void
test_changed_bytes_are_noticed(void **state)
{
    (void)state;
    struct signed_entry wire;
    entry_sign(topic_by(alice, "a topic"), &alice->devices[0], NULL, &wire);
    for (size_t i = 0; i < wire.body.size; i++) {
        wire.body.data[i] ^= 1;
        assert_int_not_equal(e2e_room_apply(&room, room_id, &wire.wire, 0, find_user, NULL, NULL), ERR_OK);
        wire.body.data[i] ^= 1;
    }
    for (size_t size = 0; size < wire.body.size; size++) {
        wire.wire.body.len = size;
        assert_int_not_equal(e2e_room_apply(&room, room_id, &wire.wire, 0, find_user, NULL, NULL), ERR_OK);
    }
    wire.wire.body.len = wire.body.size;
    wire.wire.signature.len = 63;
    assert_int_equal(e2e_room_apply(&room, room_id, &wire.wire, 0, find_user, NULL, NULL), ERR_CORRUPT);
    wire.wire.signature.len = 64;
    wire.wire.link_signature = lend(wire.signature, 64);
    assert_int_equal(e2e_room_apply(&room, room_id, &wire.wire, 0, find_user, NULL, NULL), ERR_INVALID);
    wire.wire.link_signature = (ProtobufCBinaryData){0};
    assert_int_equal(e2e_room_apply(&room, room_id, &wire.wire, 0, find_user, NULL, NULL), ERR_OK);
    signed_entry_deinit(&wire);
}

static void
test_unknown_fields_are_refused(void **state)
{
    (void)state;
    struct signed_entry wire;
    static const uint8_t unknown[] = {0xf8, 0x07, 0x01}; // field 127, a varint
    entry_sign(topic_by(alice, "x"), &alice->devices[0], NULL, &wire);
    assert_int_equal(bytes_append(&wire.body, bytes_view_of(unknown, sizeof(unknown))), ERR_OK);
    assert_int_equal(e2e_sign(alice->devices[0].sign_private, E2E_CONTEXT_ROOM, bytes_as_view(&wire.body),
                         (struct bytes_view){0}, wire.signature),
        ERR_OK);
    wire.wire.body = lend(wire.body.data, wire.body.size);
    assert_int_equal(e2e_room_apply(&room, room_id, &wire.wire, 0, find_user, NULL, &why), ERR_INVALID);
    signed_entry_deinit(&wire);
}

static void
test_entry_is_at_most_one_mebibyte_with_a_thousand_changes(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(alice);
    for (size_t i = 0; i <= E2E_ROOM_CHANGES_MAX; i++) {
        entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text("x");
    }
    expect(entry, alice, ERR_INVALID, "at most 1000 changes");

    entry = small_entry_by(alice);
    for (size_t i = 0; i < 12000; i++) {
        entry_wrap(entry, alice->devices[0].id, 1);
    }
    expect(entry, alice, ERR_TOO_BIG, NULL);

    expect(small_entry_by(alice), alice, ERR_INVALID, "does nothing");
    entry = small_entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND__NOT_SET);
    expect(entry, alice, ERR_INVALID, "no kind");
}

// --- Roles -----------------------------------------------------------------------------------------------------------

static void
test_topic_and_name_are_for_admins(void **state)
{
    (void)state;
    char long_topic[E2E_TOPIC_MAX_BYTES + 2];
    memset(long_topic, 'x', sizeof(long_topic));
    long_topic[sizeof(long_topic) - 1] = '\0';
    expect(topic_by(bob, "mine"), bob, ERR_DENIED, "admins and owners");
    expect(topic_by(dave, "mine"), dave, ERR_DENIED, "only members");
    expect(topic_by(carol, long_topic), carol, ERR_INVALID, "250");
    long_topic[E2E_TOPIC_MAX_BYTES] = '\0';
    expect(topic_by(carol, long_topic), carol, ERR_OK, NULL);
    expect(topic_by(carol, ""), carol, ERR_OK, NULL);
    assert_string_equal(room.state->topic, "");

    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME)->set_name = heap_text("squad");
    expect(entry, carol, ERR_OK, NULL);
    assert_string_equal(room.state->name, "squad");
    entry = small_entry_by(bob);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME)->set_name = heap_text("bobs");
    expect(entry, bob, ERR_DENIED, NULL);
    entry = small_entry_by(carol);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME)->set_name = heap_text("../x");
    expect(entry, carol, ERR_INVALID, NULL);
}

static void
test_roles_are_for_owners(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_set_role(entry, bob, FC__E2E__V1__ROLE__ADMIN);
    expect(entry, carol, ERR_DENIED, "owner");
    entry = small_entry_by(bob);
    entry_set_role(entry, bob, FC__E2E__V1__ROLE__OWNER);
    expect(entry, bob, ERR_DENIED, "owner");
    entry = small_entry_by(alice);
    entry_set_role(entry, dave, FC__E2E__V1__ROLE__ADMIN);
    expect(entry, alice, ERR_INVALID, "not in the room");
    entry = small_entry_by(alice);
    entry_set_role(entry, bob, (Fc__E2e__V1__Role)4);
    expect(entry, alice, ERR_INVALID, "a role is");
    entry = small_entry_by(alice);
    entry_set_role(entry, alice, FC__E2E__V1__ROLE__MEMBER);
    expect(entry, alice, ERR_PRECONDITION, "without an owner");
    entry = small_entry_by(alice);
    entry_set_role(entry, bob, FC__E2E__V1__ROLE__OWNER);
    entry_set_role(entry, alice, FC__E2E__V1__ROLE__MEMBER);
    expect(entry, alice, ERR_OK, NULL);
    assert_int_equal(role_of(alice), FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(role_of(bob), FC__E2E__V1__ROLE__OWNER);
    // What an entry does first counts for what comes next in it.
    entry = small_entry_by(bob);
    entry_set_role(entry, carol, FC__E2E__V1__ROLE__OWNER);
    entry_set_role(entry, bob, FC__E2E__V1__ROLE__MEMBER);
    entry_set_role(entry, alice, FC__E2E__V1__ROLE__OWNER);
    expect(entry, bob, ERR_DENIED, NULL);
}

static void
test_archive_and_history_are_for_owners(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED)->set_archived = true;
    expect(entry, carol, ERR_DENIED, NULL);
    entry = small_entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_ARCHIVED)->set_archived = true;
    expect(entry, alice, ERR_OK, NULL);
    assert_true(room.state->is_archived);

    entry = entry_by(carol);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY)->set_history = FC__E2E__V1__HISTORY__HISTORY_JOINED;
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, carol, ERR_DENIED, NULL);
    entry = small_entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY)->set_history = FC__E2E__V1__HISTORY__HISTORY_JOINED;
    expect(entry, alice, ERR_INVALID, "new epoch");
    entry = entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY)->set_history = FC__E2E__V1__HISTORY__HISTORY_JOINED;
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    static const uint8_t ladder[E2E_SECRET_BYTES + E2E_SEAL_OVERHEAD_BYTES];
    entry->rekey->previous = heap_bytes(ladder, sizeof(ladder));
    expect(entry, alice, ERR_INVALID, "must not get the epoch before");
    entry = entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_HISTORY)->set_history = FC__E2E__V1__HISTORY__HISTORY_JOINED;
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, alice, ERR_OK, NULL);
    assert_int_equal(room.state->history, FC__E2E__V1__HISTORY__HISTORY_JOINED);
}

// --- Coming and going
// -------------------------------------------------------------------------------------------------

static void
test_admins_add_up_to_their_own_role(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(bob);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    entry_give(entry, dave, 1);
    expect(entry, bob, ERR_DENIED, "admins and owners");
    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__OWNER, false);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_DENIED, "higher role");
    entry = small_entry_by(dave);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    expect(entry, dave, ERR_DENIED, "not public");
    entry = small_entry_by(carol);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    entry_give(entry, bob, 1);
    expect(entry, carol, ERR_INVALID, "in the room already");
    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__ROLE_UNSPECIFIED, false);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_INVALID, "a role is");
    entry = small_entry_by(carol);
    Fc__E2e__V1__AddMember *add = entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    free(add->user_name);
    add->user_name = heap_text("david");
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_INVALID, "another name");
    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__ADMIN, false);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_OK, NULL);
    assert_true(e2e_room_is_member(&room, dave->id));
    assert_int_equal(role_of(dave), FC__E2E__V1__ROLE__ADMIN);
}

static void
test_added_ones_get_the_key_for_each_device(void **state)
{
    (void)state;
    person_add_device(dave);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    expect(entry, carol, ERR_INVALID, "without naming the head");
    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    entry_head(entry, dave);
    entry_wrap(entry, dave->devices[1].id, 1);
    expect(entry, carol, ERR_INVALID, "without the key for each device");
    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_OK, NULL);
}

static void
test_stale_heads_are_refused(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, false);
    entry_give(entry, dave, 1);
    person_add_device(dave);
    expect(entry, carol, ERR_CONFLICT, "newest");
}

static void
test_invited_ones_accept_or_refuse(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(dave);
    entry_accept(entry);
    expect(entry, dave, ERR_DENIED, "not been invited");
    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, true);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_OK, NULL);
    assert_false(e2e_room_is_member(&room, dave->id));
    assert_non_null(e2e_room_member(&room, dave->id));
    // Only invited: changes nothing, gives nothing.
    expect(topic_by(dave, "x"), dave, ERR_DENIED, "only members");
    entry = small_entry_by(dave);
    entry_wrap(entry, dave->devices[0].id, 1);
    expect(entry, dave, ERR_DENIED, "only members give");

    entry = small_entry_by(dave);
    entry_remove(entry, dave);
    expect(entry, dave, ERR_OK, NULL);
    assert_null(e2e_room_member(&room, dave->id));
    assert_true(room.state->is_rekey_needed);

    entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, true);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_OK, NULL);
    entry = small_entry_by(dave);
    entry_accept(entry);
    expect(entry, dave, ERR_OK, NULL);
    assert_true(e2e_room_is_member(&room, dave->id));
    entry = small_entry_by(dave);
    entry_accept(entry);
    expect(entry, dave, ERR_INVALID, "already");
}

static void
test_removal_follows_roles_and_rekeys(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    entry_remove(entry, carol);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, bob, ERR_DENIED, NULL);
    entry = entry_by(carol);
    entry_remove(entry, alice);
    rekey_for(entry, EVERYBODY(bob, carol));
    expect(entry, carol, ERR_DENIED, "owner");
    entry = entry_by(carol);
    entry_remove(entry, dave);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, carol, ERR_INVALID, "neither in the room");
    entry = small_entry_by(carol);
    entry_remove(entry, bob);
    expect(entry, carol, ERR_INVALID, "new epoch");
    entry = entry_by(carol);
    entry_remove(entry, bob);
    rekey_for(entry, EVERYBODY(alice, carol));
    expect(entry, carol, ERR_OK, NULL);
    assert_null(e2e_room_member(&room, bob->id));
    assert_int_equal(room.state->epoch, 2);
    entry = entry_by(alice);
    entry_remove(entry, carol);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_OK, NULL);
}

static void
test_leaving_asks_for_a_rekey(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(alice);
    entry_remove(entry, alice);
    expect(entry, alice, ERR_PRECONDITION, "only owner");
    // Who leaves does not make the next key.
    entry = entry_by(bob);
    entry_remove(entry, bob);
    rekey_for(entry, EVERYBODY(alice, carol));
    entry_head(entry, bob);
    expect(entry, bob, ERR_DENIED, "only members give");
    entry = small_entry_by(bob);
    entry_remove(entry, bob);
    expect(entry, bob, ERR_OK, NULL);
    assert_true(room.state->is_rekey_needed);
    entry = small_entry_by(bob);
    entry_remove(entry, bob);
    expect(entry, bob, ERR_DENIED, "nothing to leave");
    entry = entry_by(carol);
    rekey_for(entry, EVERYBODY(alice, carol));
    expect(entry, carol, ERR_OK, NULL);
    assert_false(room.state->is_rekey_needed);
    assert_int_equal(room.state->epoch, 2);
}

static void
test_last_one_may_leave(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, true);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_OK, NULL);
    struct person *const leaving[] = {bob, carol, alice};
    for (size_t i = 0; i < 3; i++) {
        entry = small_entry_by(leaving[i]);
        entry_remove(entry, leaving[i]);
        expect(entry, leaving[i], ERR_OK, NULL);
    }
    // Whoever comes next owns it.
    entry = small_entry_by(dave);
    entry_accept(entry);
    expect(entry, dave, ERR_OK, NULL);
    assert_int_equal(role_of(dave), FC__E2E__V1__ROLE__OWNER);
}

// --- Rekeys and wraps
// -------------------------------------------------------------------------------------------------

static void
test_any_member_rekeys_for_everybody(void **state)
{
    (void)state;
    person_add_device(alice);
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    static const uint8_t ladder[E2E_SECRET_BYTES + E2E_SEAL_OVERHEAD_BYTES];
    entry->rekey->previous = heap_bytes(ladder, sizeof(ladder));
    expect(entry, bob, ERR_OK, NULL);
    assert_int_equal(room.state->epoch, 2);
    assert_int_equal(room.state->epoch_started_at_ms, 1000);
    assert_int_equal(e2e_room_member(&room, alice->id)->head->seq, alice->chain.seq);
    entry = entry_by(dave);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_head(entry, dave);
    expect(entry, dave, ERR_DENIED, NULL);
}

static void
test_rekey_is_for_all_devices_no_more_no_fewer(void **state)
{
    (void)state;
    person_add_device(alice);
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(bob, carol));
    expect(entry, bob, ERR_INVALID, "leaves out alice");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    free(entry->wraps[1]->device_id.data); // Alice's second device
    entry->wraps[1]->device_id = heap_bytes(bob->devices[0].id, E2E_ID_BYTES);
    expect(entry, bob, ERR_INVALID, "exactly the 4");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_wrap(entry, dave->devices[0].id, 2);
    expect(entry, bob, ERR_INVALID, "exactly the 4");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol, dave));
    expect(entry, bob, ERR_INVALID, "not in the room");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_wrap(entry, bob->devices[0].id, 2);
    expect(entry, bob, ERR_INVALID, "exactly the 4");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry->wraps[0]->epoch = 1;
    expect(entry, bob, ERR_INVALID, "exactly the 4");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry->rekey->epoch = 3;
    expect(entry, bob, ERR_INVALID, "next one is 2");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry->rekey->commitment.len = 31;
    expect(entry, bob, ERR_INVALID, "commitment");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry->rekey->previous = heap_bytes("short", 5);
    expect(entry, bob, ERR_INVALID, "sealed as it should");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry->wraps[0]->ciphertext.len = 47;
    expect(entry, bob, ERR_INVALID, "not one");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_head(entry, bob);
    expect(entry, bob, ERR_INVALID, "twice");

    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, bob, ERR_OK, NULL);
}

static void
test_revoked_devices_get_no_key(void **state)
{
    (void)state;
    person_add_device(alice);
    uint8_t revoked_id[E2E_ID_BYTES];
    memcpy(revoked_id, alice->devices[1].id, sizeof(revoked_id));
    person_revoke_device(alice, 1);
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_wrap(entry, revoked_id, 2);
    expect(entry, bob, ERR_INVALID, "exactly the 3");
    entry = small_entry_by(bob);
    entry_head(entry, alice);
    entry_wrap(entry, revoked_id, 1);
    expect(entry, bob, ERR_INVALID, "no device or link");
}

static void
test_later_devices_get_keys_that_exist(void **state)
{
    (void)state;
    person_add_device(bob);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(bob);
    entry_wrap(entry, bob->devices[1].id, 2);
    expect(entry, bob, ERR_INVALID, "epoch 2");
    entry = small_entry_by(bob);
    entry_wrap(entry, bob->devices[1].id, 0);
    expect(entry, bob, ERR_INVALID, "epoch 0");
    entry = small_entry_by(bob);
    entry_wrap(entry, bob->devices[1].id, 1);
    entry_wrap(entry, bob->devices[1].id, 1);
    expect(entry, bob, ERR_INVALID, "twice");
    entry = small_entry_by(bob);
    entry_wrap(entry, dave->devices[0].id, 1);
    expect(entry, bob, ERR_INVALID, "no device or link");
    entry = small_entry_by(bob);
    entry_wrap(entry, alice->devices[0].id, 1); // whose head is not named
    expect(entry, bob, ERR_INVALID, "no device or link");
    entry = small_entry_by(bob);
    entry_wrap(entry, bob->devices[1].id, 1);
    expect(entry, bob, ERR_OK, NULL);
    assert_int_equal(e2e_room_member(&room, bob->id)->head->seq, bob->chain.seq);
}

static void
test_same_device_id_of_two_users_gets_two_keys(void **state)
{
    (void)state;
    // Bob has stolen the id of Alice's device, in the hope that she gets no keys any more.
    memcpy(bob->chain.devices[0].id, alice->devices[0].id, E2E_ID_BYTES);
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, alice, ERR_OK, NULL);
    entry = entry_by(alice);
    rekey_for(entry, EVERYBODY(alice, carol));
    entry_head(entry, bob);
    expect(entry, alice, ERR_INVALID, "exactly the 3");
}

static void
test_heads_never_go_back(void **state)
{
    (void)state;
    struct person before = *alice;
    before.chain.devices = malloc(sizeof(*before.chain.devices));
    assert_non_null(before.chain.devices);
    before.chain.devices[0] = alice->chain.devices[0];
    person_add_device(alice);
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_give(entry, alice, 1);
    expect(entry, alice, ERR_OK, NULL);
    // Now everybody is shown the chain as it was.
    struct e2e_user newer = alice->chain;
    alice->chain = before.chain;
    entry = small_entry_by(bob);
    entry_head(entry, alice);
    entry_wrap(entry, alice->devices[0].id, 1);
    expect(entry, bob, ERR_CONFLICT, "goes back");
    // The same length, another hash.
    before.chain = newer;
    free(alice->chain.devices);
    alice->chain = newer;
    alice->chain.head_hash[0] ^= 1;
    entry = small_entry_by(bob);
    entry_head(entry, alice);
    entry_wrap(entry, alice->devices[0].id, 1);
    expect(entry, bob, ERR_CONFLICT, "goes back");
}

static void
test_reset_identity_gets_no_keys_until_added_again(void **state)
{
    (void)state;
    person_set_identity(bob);
    person_add_device(bob);
    expect(topic_by(bob, "x"), bob, ERR_DENIED, "identity was reset");
    Fc__E2e__V1__RoomEntry *entry = entry_by(carol);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, carol, ERR_INVALID, "exactly the 2");
    entry = entry_by(carol);
    rekey_for(entry, EVERYBODY(alice, carol));
    expect(entry, carol, ERR_INVALID, "leaves out bob");
    entry = entry_by(carol);
    rekey_for(entry, EVERYBODY(alice, carol));
    entry_head(entry, bob);
    expect(entry, carol, ERR_OK, NULL);
    assert_true(e2e_room_is_member(&room, bob->id));
    entry = entry_by(carol);
    entry_remove(entry, bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, carol, ERR_OK, NULL);
    expect(topic_by(bob, "x"), bob, ERR_DENIED, "admins");
}

static void
test_reset_identity_may_leave(void **state)
{
    (void)state;
    person_set_identity(bob);
    person_add_device(bob);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(bob);
    entry_remove(entry, bob);
    expect(entry, bob, ERR_OK, NULL);
    assert_null(e2e_room_member(&room, bob->id));
}

// --- New members read what is sent after they joined
// -------------------------------------------------------------------

static void
test_joined_history_rekeys_for_newcomers(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, true);
    entry_give(entry, dave, 1);
    expect(entry, carol, ERR_INVALID, "new epoch");
    static const uint8_t ladder[E2E_SECRET_BYTES + E2E_SEAL_OVERHEAD_BYTES];
    entry = entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, true);
    rekey_for(entry, EVERYBODY(alice, bob, carol, dave));
    entry->rekey->previous = heap_bytes(ladder, sizeof(ladder));
    expect(entry, carol, ERR_INVALID, "must not get the epoch before");
    entry = entry_by(carol);
    entry_add(entry, dave, FC__E2E__V1__ROLE__MEMBER, true);
    rekey_for(entry, EVERYBODY(alice, bob, carol, dave));
    expect(entry, carol, ERR_OK, NULL);
    entry = small_entry_by(dave);
    entry_accept(entry);
    expect(entry, dave, ERR_INVALID, "new epoch");
    entry = entry_by(dave);
    entry_accept(entry);
    rekey_for(entry, EVERYBODY(alice, bob, carol, dave));
    expect(entry, dave, ERR_OK, NULL);
    assert_int_equal(room.state->epoch, 3);
    // Rekeys without newcomers have no ladder either.
    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol, dave));
    entry->rekey->previous = heap_bytes(ladder, sizeof(ladder));
    expect(entry, bob, ERR_INVALID, "must not get the epoch before");
}

// --- Links
// ------------------------------------------------------------------------------------------------------------

static Fc__E2e__V1__RoomEntry *
join_by(struct person *who)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(who);
    entry_join_by_link(entry, &link_keys, who);
    entry_give(entry, who, room.state->epoch);
    return entry;
}

static void
test_links_are_made_by_admins(void **state)
{
    (void)state;
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(bob);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, bob, ERR_DENIED, "admins");
    entry = small_entry_by(alice);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__OWNER);
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, alice, ERR_INVALID, "members or admins");
    entry = small_entry_by(carol);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__ADMIN);
    expect(entry, carol, ERR_INVALID, "without the key");
    entry = small_entry_by(carol);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__ADMIN)->sign_key.len = 31;
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, carol, ERR_INVALID, "two keys");
    entry = small_entry_by(carol);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__ADMIN)->link_id.len = 15;
    expect(entry, carol, ERR_INVALID, "named by 16");
    entry = small_entry_by(carol);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__ADMIN);
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, carol, ERR_OK, NULL);
    entry = small_entry_by(carol);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__ADMIN);
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, carol, ERR_INVALID, "already");
    // A link is a receiver of rekeys.
    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, bob, ERR_INVALID, "exactly the 4");
    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_wrap(entry, link_keys.id, 2);
    expect(entry, bob, ERR_OK, NULL);
}

static void
test_hundred_links_are_the_most(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    for (size_t i = 0; i < E2E_ROOM_LINKS_MAX; i++) {
        assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
        entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
        entry_wrap(entry, link_keys.id, 1);
    }
    expect(entry, carol, ERR_OK, NULL);
    entry = small_entry_by(carol);
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, carol, ERR_LIMIT, "100");
}

static void
test_who_has_the_link_joins(void **state)
{
    (void)state;
    struct e2e_keys forged;
    assert_int_equal(e2e_keys_generate(&forged), ERR_OK);
    add_link(FC__E2E__V1__ROLE__MEMBER, 0, 0);
    // Without the link's signature, or another's.
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], NULL, 0), ERR_CORRUPT);
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], &forged, 0), ERR_CORRUPT);
    // Without keys for one's own devices.
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(dave);
    entry_join_by_link(entry, &link_keys, dave);
    assert_int_equal(apply_at(entry, &dave->devices[0], &link_keys, 0), ERR_INVALID);
    // Under another's name.
    entry = entry_by(dave);
    entry_join_by_link(entry, &link_keys, carol);
    entry_give(entry, dave, 1);
    assert_int_equal(apply_at(entry, &dave->devices[0], &link_keys, 0), ERR_INVALID);
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], &link_keys, 0), ERR_OK);
    assert_int_equal(role_of(dave), FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(e2e_room_link(&room, link_keys.id)->use_count, 1);
    assert_int_equal(apply_at(join_by(bob), &bob->devices[0], &link_keys, 0), ERR_INVALID);
}

static void
test_links_end(void **state)
{
    (void)state;
    add_link(FC__E2E__V1__ROLE__MEMBER, 5000, 1);
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], &link_keys, 5000), ERR_DENIED);
    assert_non_null(strstr(why.message, "expired"));
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], &link_keys, 4999), ERR_OK);
    // Its holder has the key, and is to lose it.
    assert_true(room.state->is_rekey_needed);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(dave);
    entry_remove(entry, dave);
    expect(entry, dave, ERR_OK, NULL);
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], &link_keys, 0), ERR_DENIED);
    assert_non_null(strstr(why.message, "used as often"));
    // Used up, so that every member may take it away with a rekey.
    entry = small_entry_by(bob);
    entry_revoke_link(entry, &link_keys);
    expect(entry, bob, ERR_INVALID, "new epoch");
    entry = entry_by(bob);
    entry_revoke_link(entry, &link_keys);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, bob, ERR_OK, NULL);
    assert_false(room.state->is_rekey_needed);
    assert_int_equal(apply_at(join_by(dave), &dave->devices[0], &link_keys, 0), ERR_DENIED);
    assert_non_null(strstr(why.message, "revoked"));
    entry = entry_by(carol);
    entry_revoke_link(entry, &link_keys);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, carol, ERR_INVALID, "no such invite link");
}

static void
test_only_admins_revoke_links_in_use(void **state)
{
    (void)state;
    add_link(FC__E2E__V1__ROLE__MEMBER, 5000, 0);
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    entry_revoke_link(entry, &link_keys);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, bob, ERR_DENIED, "admins");
    entry = entry_by(bob);
    entry->created_at_ms = 5000; // which the server does not believe
    entry_revoke_link(entry, &link_keys);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    assert_int_equal(apply_at(entry, &bob->devices[0], NULL, 4999), ERR_DENIED);
    entry = entry_by(carol);
    entry_revoke_link(entry, &link_keys);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, carol, ERR_OK, NULL);
}

// --- Direct rooms
// -----------------------------------------------------------------------------------------------------

static void
test_direct_room_is_of_two_owners(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "", FC__E2E__V1__ROOM_KIND__DIRECT, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, "the same two");
    entry = entry_by(alice);
    entry_create(entry, "", FC__E2E__V1__ROOM_KIND__DIRECT, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_INVALID, "the same two");
    entry = entry_by(alice);
    entry_create(entry, "named", FC__E2E__V1__ROOM_KIND__DIRECT, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_add(entry, bob, FC__E2E__V1__ROLE__OWNER, false);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_INVALID, "no name");
    make_direct_room();

    entry = small_entry_by(alice);
    entry_add(entry, dave, FC__E2E__V1__ROLE__OWNER, false);
    entry_give(entry, dave, 1);
    expect(entry, alice, ERR_INVALID, "the same two");
    entry = entry_by(alice);
    entry_remove(entry, bob);
    entry_add(entry, dave, FC__E2E__V1__ROLE__OWNER, false);
    rekey_for(entry, EVERYBODY(alice, dave));
    expect(entry, alice, ERR_INVALID, "the same two");
    entry = entry_by(alice);
    entry_remove(entry, bob);
    rekey_for(entry, EVERYBODY(alice));
    expect(entry, alice, ERR_INVALID, "the same two");
    entry = small_entry_by(alice);
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
    expect(entry, alice, ERR_INVALID, "of two");
    entry = small_entry_by(alice);
    entry_set_role(entry, bob, FC__E2E__V1__ROLE__MEMBER);
    expect(entry, alice, ERR_INVALID, "of two");
    entry = small_entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_NAME)->set_name = heap_text("x");
    expect(entry, alice, ERR_INVALID, "no name");
    expect(topic_by(bob, "lunch"), bob, ERR_OK, NULL);
}

static void
test_direct_room_is_left_and_entered_again(void **state)
{
    (void)state;
    struct person *const both[] = {bob, alice};
    for (size_t i = 0; i < 2; i++) {
        Fc__E2e__V1__RoomEntry *entry = small_entry_by(both[i]);
        entry_remove(entry, both[i]);
        expect(entry, both[i], ERR_OK, NULL);
        assert_false(e2e_room_is_member(&room, both[i]->id));
        entry = small_entry_by(both[i]);
        entry_remove(entry, both[i]);
        expect(entry, both[i], ERR_INVALID, "left this direct room");
    }
    for (size_t i = 0; i < 2; i++) {
        Fc__E2e__V1__RoomEntry *entry = small_entry_by(both[i]);
        entry_accept(entry);
        expect(entry, both[i], ERR_OK, NULL);
        assert_true(e2e_room_is_member(&room, both[i]->id));
        assert_int_equal(role_of(both[i]), FC__E2E__V1__ROLE__OWNER);
    }
}

static void
test_direct_room_takes_over_a_new_identity(void **state)
{
    (void)state;
    person_set_identity(bob);
    person_add_device(bob);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(bob);
    entry_remove(entry, bob);
    expect(entry, bob, ERR_OK, NULL);
    // Bob cannot bring it in by himself, and Alice cannot bring him back against his will.
    entry = small_entry_by(bob);
    entry_accept(entry);
    expect(entry, bob, ERR_DENIED, "identity was reset");
    entry = entry_by(alice);
    entry_remove(entry, bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__OWNER, false);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_INVALID, "the same two");
    entry = entry_by(alice);
    entry_remove(entry, bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__OWNER, true);
    rekey_for(entry, EVERYBODY(alice, bob));
    expect(entry, alice, ERR_OK, NULL);
    entry = small_entry_by(bob);
    entry_accept(entry);
    expect(entry, bob, ERR_OK, NULL);
}

// --- Plain rooms
// ------------------------------------------------------------------------------------------------------

static void
expect_plain(Fc__E2e__V1__RoomEntry *entry, enum err expected, const char *words)
{
    memset(&why, 0, sizeof(why));
    enum err err = e2e_room_apply_plain(&room, entry, 0, &why);
    if (err != expected || (words != NULL && strstr(why.message, words) == NULL)) {
        fail_msg("%s: %s, not %s about \"%s\"", err_name(err), why.message, err_name(expected), words);
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
}

static void
make_plain_room(Fc__E2e__V1__RoomKind kind)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_create(entry, "hall", kind, FC__E2E__V1__HISTORY__HISTORY_ALL, true);
    entry_add(entry, alice, FC__E2E__V1__ROLE__OWNER, false);
    entry_add(entry, carol, FC__E2E__V1__ROLE__ADMIN, false);
    expect_plain(entry, ERR_OK, NULL);
}

static void
test_plain_room_has_the_same_rules_without_keys(void **state)
{
    (void)state;
    make_plain_room(FC__E2E__V1__ROOM_KIND__PUBLIC);
    assert_string_equal(e2e_room_member(&room, alice->id)->user_name, "alice");
    assert_int_equal(room.state->head_hash.len, 0);
    // In a public room people add themselves, as members.
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__ADMIN, false);
    expect_plain(entry, ERR_INVALID, "as member");
    entry = entry_by(bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    expect_plain(entry, ERR_OK, NULL);
    entry = entry_by(bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    expect_plain(entry, ERR_INVALID, "already");
    entry = entry_by(bob);
    entry_remove(entry, carol);
    expect_plain(entry, ERR_DENIED, NULL);
    entry = entry_by(carol);
    entry_remove(entry, bob);
    expect_plain(entry, ERR_OK, NULL);
    entry = entry_by(carol);
    entry_remove(entry, carol);
    expect_plain(entry, ERR_OK, NULL);
    assert_false(room.state->is_rekey_needed);
    entry = entry_by(alice);
    entry_rekey(entry, 1);
    expect_plain(entry, ERR_INVALID, "no keys");
    entry = entry_by(alice);
    entry_wrap(entry, alice->devices[0].id, 1);
    expect_plain(entry, ERR_INVALID, "no keys");
    entry = entry_by(alice);
    entry_head(entry, alice);
    expect_plain(entry, ERR_INVALID, "no keys");
    entry = entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text("x");
    expect(entry, alice, ERR_INVALID, "plain");
}

static void
test_plain_private_room_is_not_entered_uninvited(void **state)
{
    (void)state;
    make_plain_room(FC__E2E__V1__ROOM_KIND__PRIVATE);
    Fc__E2e__V1__RoomEntry *entry = entry_by(bob);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    expect_plain(entry, ERR_DENIED, "not public");
    entry = entry_by(bob);
    entry_join_by_link(entry, &link_keys, bob);
    expect_plain(entry, ERR_DENIED, "invite link");
    entry = entry_by(carol);
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
    expect_plain(entry, ERR_OK, NULL);
    entry = entry_by(bob);
    entry_join_by_link(entry, &link_keys, bob);
    expect_plain(entry, ERR_OK, NULL);
    assert_string_equal(e2e_room_member(&room, bob->id)->user_name, "bob");
}

static void
test_plain_entries_do_not_go_into_encrypted_rooms(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text("x");
    expect_plain(entry, ERR_INVALID, "signed");
}

static void
test_ten_thousand_members_are_the_most(void **state)
{
    (void)state;
    make_plain_room(FC__E2E__V1__ROOM_KIND__PRIVATE);
    uint32_t number = 0;
    struct person somebody = {.name = "somebody"};
    while (room.state->n_members < E2E_ROOM_MEMBERS_MAX) {
        Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
        size_t left = E2E_ROOM_MEMBERS_MAX - room.state->n_members;
        for (size_t i = 0; i < left && i < E2E_ROOM_CHANGES_MAX; i++) {
            bytes_store_be32(somebody.id + 4, ++number);
            entry_add(entry, &somebody, FC__E2E__V1__ROLE__MEMBER, false);
        }
        expect_plain(entry, ERR_OK, NULL);
    }
    Fc__E2e__V1__RoomEntry *entry = entry_by(alice);
    entry_add(entry, bob, FC__E2E__V1__ROLE__MEMBER, false);
    expect_plain(entry, ERR_LIMIT, "10000");
}

// --- State
// ------------------------------------------------------------------------------------------------------------

static void
test_state_survives_packing(void **state)
{
    (void)state;
    struct bytes packed = {0};
    struct bytes again = {0};
    struct e2e_room copy = {0};
    char number[E2E_SAFETY_NUMBER_BYTES];
    char same[E2E_SAFETY_NUMBER_BYTES];
    add_link(FC__E2E__V1__ROLE__ADMIN, 1, 2);
    assert_int_equal(e2e_room_pack(&room, &packed), ERR_OK);
    assert_int_equal(e2e_room_unpack(&copy, bytes_as_view(&packed)), ERR_OK);
    assert_int_equal(e2e_room_pack(&copy, &again), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&packed), bytes_as_view(&again)));
    assert_int_equal(e2e_room_fingerprint(&room, number), ERR_OK);
    assert_int_equal(e2e_room_fingerprint(&copy, same), ERR_OK);
    assert_string_equal(number, same);
    assert_int_equal(strlen(number), E2E_SAFETY_NUMBER_BYTES - 1);
    assert_int_equal(strspn(number, "0123456789 "), E2E_SAFETY_NUMBER_BYTES - 1);
    // Cut anywhere it is either another sound state or said to be damaged.
    for (size_t size = 0; size < packed.size; size++) {
        struct e2e_room cut = {0};
        enum err err = e2e_room_unpack(&cut, bytes_view_of(packed.data, size));
        assert_true(err == ERR_OK || err == ERR_CORRUPT);
        e2e_room_deinit(&cut);
    }
    e2e_room_deinit(&copy);
    bytes_free(&packed);
    bytes_free(&again);
}

static void
test_fingerprint_tells_logs_and_identities_apart(void **state)
{
    (void)state;
    char before[E2E_SAFETY_NUMBER_BYTES];
    char after[E2E_SAFETY_NUMBER_BYTES];
    assert_int_equal(e2e_room_fingerprint(&room, before), ERR_OK);
    expect(topic_by(alice, "x"), alice, ERR_OK, NULL);
    assert_int_equal(e2e_room_fingerprint(&room, after), ERR_OK);
    assert_string_not_equal(before, after);
    room.state->members[1]->identity_key.data[0] ^= 1;
    assert_int_equal(e2e_room_fingerprint(&room, before), ERR_OK);
    assert_string_not_equal(before, after);
}

#define IN_ROOM(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define WITHOUT_ROOM(test) cmocka_unit_test_setup_teardown(test, setup_people, teardown)
#define IN_DIRECT_ROOM(test) cmocka_unit_test_setup_teardown(test, setup_direct, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ROOM(test_first_entry_makes_the_room),
        WITHOUT_ROOM(test_first_entry_has_to_make_a_room),
        IN_ROOM(test_room_is_made_once),
        IN_ROOM(test_entries_follow_each_other),
        IN_ROOM(test_signature_is_by_an_active_device_of_the_author),
        IN_ROOM(test_changed_bytes_are_noticed),
        IN_ROOM(test_unknown_fields_are_refused),
        IN_ROOM(test_entry_is_at_most_one_mebibyte_with_a_thousand_changes),
        IN_ROOM(test_topic_and_name_are_for_admins),
        IN_ROOM(test_roles_are_for_owners),
        IN_ROOM(test_archive_and_history_are_for_owners),
        IN_ROOM(test_admins_add_up_to_their_own_role),
        IN_ROOM(test_added_ones_get_the_key_for_each_device),
        IN_ROOM(test_stale_heads_are_refused),
        IN_ROOM(test_invited_ones_accept_or_refuse),
        IN_ROOM(test_removal_follows_roles_and_rekeys),
        IN_ROOM(test_leaving_asks_for_a_rekey),
        IN_ROOM(test_last_one_may_leave),
        IN_ROOM(test_any_member_rekeys_for_everybody),
        IN_ROOM(test_rekey_is_for_all_devices_no_more_no_fewer),
        IN_ROOM(test_revoked_devices_get_no_key),
        IN_ROOM(test_later_devices_get_keys_that_exist),
        IN_ROOM(test_same_device_id_of_two_users_gets_two_keys),
        IN_ROOM(test_heads_never_go_back),
        IN_ROOM(test_reset_identity_gets_no_keys_until_added_again),
        IN_ROOM(test_reset_identity_may_leave),
        cmocka_unit_test_setup_teardown(test_joined_history_rekeys_for_newcomers, setup_joined, teardown),
        IN_ROOM(test_links_are_made_by_admins),
        IN_ROOM(test_hundred_links_are_the_most),
        IN_ROOM(test_who_has_the_link_joins),
        IN_ROOM(test_links_end),
        IN_ROOM(test_only_admins_revoke_links_in_use),
        WITHOUT_ROOM(test_direct_room_is_of_two_owners),
        IN_DIRECT_ROOM(test_direct_room_is_left_and_entered_again),
        IN_DIRECT_ROOM(test_direct_room_takes_over_a_new_identity),
        WITHOUT_ROOM(test_plain_room_has_the_same_rules_without_keys),
        WITHOUT_ROOM(test_plain_private_room_is_not_entered_uninvited),
        IN_ROOM(test_plain_entries_do_not_go_into_encrypted_rooms),
        WITHOUT_ROOM(test_ten_thousand_members_are_the_most),
        IN_ROOM(test_state_survives_packing),
        IN_ROOM(test_fingerprint_tells_logs_and_identities_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
