// The rules of rooms: which entries follow, who may change what, and that a refused one changes nothing.
#include "tests/unit/e2e_room_support.h"

// --- The first entry -----------------------------------------------------------------------------------------------

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

// --- Place and signature -------------------------------------------------------------------------------------------

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

// --- Roles ---------------------------------------------------------------------------------------------------------

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

// --- Plain rooms ---------------------------------------------------------------------------------------------------

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

// --- State ---------------------------------------------------------------------------------------------------------

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
        WITHOUT_ROOM(test_plain_room_has_the_same_rules_without_keys),
        WITHOUT_ROOM(test_plain_private_room_is_not_entered_uninvited),
        IN_ROOM(test_plain_entries_do_not_go_into_encrypted_rooms),
        WITHOUT_ROOM(test_ten_thousand_members_are_the_most),
        IN_ROOM(test_state_survives_packing),
        IN_ROOM(test_fingerprint_tells_logs_and_identities_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
