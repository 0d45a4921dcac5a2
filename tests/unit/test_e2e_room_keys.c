// The rules of rooms: who has to get keys, and who must not.
#include "tests/unit/e2e_room_support.h"

// --- Rekeys and wraps ----------------------------------------------------------------------------------------------

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
test_heads_are_of_no_more_people_than_there_are(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(alice);
    for (size_t i = 0; i < 4; i++) { // with Alice's one more than three members, and one who might leave
        entry_head(entry, dave);
    }
    entry_wrap(entry, alice->devices[0].id, 1);
    expect(entry, alice, ERR_INVALID, "more people than there can be");
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

// --- New members read what is sent after they joined ---------------------------------------------------------------

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

static void
test_links_get_no_key_where_history_begins_with_joining(void **state)
{
    (void)state;
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(carol);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
    entry_wrap(entry, link_keys.id, 1);
    expect(entry, carol, ERR_INVALID, "no device or link of the room");
    entry = small_entry_by(carol);
    Fc__E2e__V1__InviteLink *link = entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER);
    link->max_uses = 1;
    expect(entry, carol, ERR_OK, NULL);
    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    entry_wrap(entry, link_keys.id, 2);
    expect(entry, bob, ERR_INVALID, "exactly the 3 devices and links");
    entry = entry_by(bob);
    rekey_for(entry, EVERYBODY(alice, bob, carol));
    expect(entry, bob, ERR_OK, NULL);
    // Who joins makes a new key, which the link does not get either: nothing is left to be done.
    entry = entry_by(dave);
    entry_join_by_link(entry, &link_keys, dave);
    rekey_for(entry, EVERYBODY(alice, bob, carol, dave));
    assert_int_equal(apply_at(entry, &dave->devices[0], &link_keys, 0), ERR_OK);
    assert_false(room.state->is_rekey_needed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ROOM(test_any_member_rekeys_for_everybody),
        IN_ROOM(test_rekey_is_for_all_devices_no_more_no_fewer),
        IN_ROOM(test_heads_are_of_no_more_people_than_there_are),
        IN_ROOM(test_revoked_devices_get_no_key),
        IN_ROOM(test_later_devices_get_keys_that_exist),
        IN_ROOM(test_same_device_id_of_two_users_gets_two_keys),
        IN_ROOM(test_heads_never_go_back),
        IN_ROOM(test_reset_identity_gets_no_keys_until_added_again),
        IN_ROOM(test_reset_identity_may_leave),
        cmocka_unit_test_setup_teardown(test_joined_history_rekeys_for_newcomers, setup_joined, teardown),
        cmocka_unit_test_setup_teardown(test_links_get_no_key_where_history_begins_with_joining, setup_joined,
            teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
