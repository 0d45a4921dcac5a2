// The rules of rooms: coming, going, invite links and direct rooms.
#include "tests/unit/e2e_room_support.h"

// --- Coming and going ----------------------------------------------------------------------------------------------

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

// --- Links ---------------------------------------------------------------------------------------------------------

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
    expect(entry, carol, ERR_NOT_FOUND, "no such invite link");
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

// --- Direct rooms --------------------------------------------------------------------------------------------------

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ROOM(test_admins_add_up_to_their_own_role),
        IN_ROOM(test_added_ones_get_the_key_for_each_device),
        IN_ROOM(test_stale_heads_are_refused),
        IN_ROOM(test_invited_ones_accept_or_refuse),
        IN_ROOM(test_removal_follows_roles_and_rekeys),
        IN_ROOM(test_leaving_asks_for_a_rekey),
        IN_ROOM(test_last_one_may_leave),
        IN_ROOM(test_links_are_made_by_admins),
        IN_ROOM(test_hundred_links_are_the_most),
        IN_ROOM(test_who_has_the_link_joins),
        IN_ROOM(test_links_end),
        IN_ROOM(test_only_admins_revoke_links_in_use),
        WITHOUT_ROOM(test_direct_room_is_of_two_owners),
        IN_DIRECT_ROOM(test_direct_room_is_left_and_entered_again),
        IN_DIRECT_ROOM(test_direct_room_takes_over_a_new_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
