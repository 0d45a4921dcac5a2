// Plain rooms over the wire: who sees them, who may change what, invitations, links, blocks and limits.
#include "tests/unit/rooms_support.h"

static const uint8_t *
room_id_of(int who, const char *room)
{
    static uint8_t room_id[CHAT_ID_BYTES];
    assert_int_equal(get_room(who, room), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = rpc_unary_response(&call);
    memcpy(room_id, response->room->id.data, sizeof(room_id));
    return room_id;
}

static size_t
listed(int who, const char *name, bool is_mine_only)
{
    Fc__Chat__V1__ListRoomsRequest request = FC__CHAT__V1__LIST_ROOMS_REQUEST__INIT;
    request.is_mine_only = is_mine_only;
    assert_int_equal(CALL(who, list_rooms, &request), ERR_OK);
    const Fc__Chat__V1__ListRoomsResponse *response = rpc_unary_response(&call);
    size_t count = 0;
    for (size_t i = 0; i < response->n_rooms; i++) {
        count += strcmp(response->rooms[i]->name, name) == 0 ? 1 : 0;
    }
    return count;
}

// --- Who sees what -------------------------------------------------------------------------------------------------

static void
test_private_room_does_not_exist_for_outsiders(void **state)
{
    (void)state;
    char id_text[2 * CHAT_ID_BYTES + 1];
    assert_int_equal(create_plain(ALICE, "den", FC__E2E__V1__ROOM_KIND__PRIVATE, "bob"), ERR_OK);
    bytes_to_hex(bytes_view_of(room_id_of(ALICE, "den"), CHAT_ID_BYTES), id_text);
    const char *const names[] = {"den", id_text};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(get_room(DAVE, names[i]), ERR_NOT_FOUND);
        assert_int_equal(join(DAVE, names[i], NULL), ERR_NOT_FOUND);
        assert_int_equal(leave(DAVE, names[i], NULL), ERR_NOT_FOUND);
        assert_int_equal(amend_one(DAVE, names[i], "dave", NULL, NULL), ERR_NOT_FOUND);
        assert_int_equal(get_log(DAVE, names[i], NULL, 0), ERR_NOT_FOUND);
        assert_int_equal(send_text(DAVE, names[i]), ERR_NOT_FOUND);
        assert_int_equal(get_room(BOB, names[i]), ERR_OK);
    }
    assert_int_equal(listed(DAVE, "den", false), 0);
    assert_int_equal(listed(BOB, "den", false), 1);
    assert_int_equal(create_plain(DAVE, "den", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_EXISTS);
}

static void
test_public_room_is_seen_by_all_and_changed_by_members(void **state)
{
    (void)state;
    assert_int_equal(create_plain(ALICE, "hall", FC__E2E__V1__ROOM_KIND__ROOM_KIND_UNSPECIFIED, NULL), ERR_OK);
    assert_int_equal(get_room(DAVE, "hall"), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_members, 0);
    assert_int_equal(response->room->kind, FC__E2E__V1__ROOM_KIND__PUBLIC);
    assert_int_equal(response->room->role, FC__E2E__V1__ROLE__ROLE_UNSPECIFIED);
    assert_int_equal(get_log(DAVE, "hall", NULL, 0), ERR_DENIED);
    assert_int_equal(amend_one(DAVE, "hall", "bob", NULL, NULL), ERR_DENIED);
    assert_int_equal(leave(DAVE, "hall", NULL), ERR_PRECONDITION);
    assert_int_equal(listed(DAVE, "hall", false), 1);
    assert_int_equal(listed(DAVE, "hall", true), 0);
    assert_int_equal(join(DAVE, "hall", NULL), ERR_OK);
    assert_int_equal(listed(DAVE, "hall", true), 1);
    assert_int_equal(member_role(DAVE, "hall", "dave"), FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(member_role(DAVE, "hall", "alice"), FC__E2E__V1__ROLE__OWNER);
}

static void
test_room_says_what_it_is(void **state)
{
    (void)state;
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    char *members[] = {text("bob"), text("carol")};
    request.name = text("team");
    request.is_plain = true;
    request.kind = FC__E2E__V1__ROOM_KIND__PRIVATE;
    request.topic = text("work");
    request.n_members = 2;
    request.members = members;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_OK);
    const Fc__Chat__V1__CreateRoomResponse *response = rpc_unary_response(&call);
    assert_string_equal(response->room->topic, "work");
    assert_int_equal(response->room->member_count, 3);
    assert_int_equal(response->room->role, FC__E2E__V1__ROLE__OWNER);
    assert_int_equal(response->room->log_seq, 1);
    assert_int_equal(response->room->log_hash.len, 0);
    assert_true(response->room->is_plain);
    assert_int_equal(send_text(ALICE, "team"), ERR_OK);
    assert_int_equal(get_room(BOB, "team"), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *seen = rpc_unary_response(&call);
    assert_int_equal(seen->room->unread_count, 1);
    assert_int_equal(seen->n_members, 3);

    members[1] = text("nobody");
    request.name = text("other");
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_NOT_FOUND);
    expect_why("no user \"nobody\"");
    assert_int_equal(get_room(ALICE, "other"), ERR_NOT_FOUND);
    members[1] = text("bob");
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_INVALID);
    request.n_members = 0;
    request.kind = (Fc__E2e__V1__RoomKind)9;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_INVALID);
}

// --- Roles ---------------------------------------------------------------------------------------------------------

static void
make_team(void)
{
    assert_int_equal(create_plain(ALICE, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, "bob"), ERR_OK);
    assert_int_equal(amend_one(ALICE, "team", "carol", NULL, NULL), ERR_OK);
    assert_int_equal(set_role(ALICE, "team", "carol", FC__E2E__V1__ROLE__ADMIN), ERR_OK);
}

static void
test_members_change_nothing(void **state)
{
    (void)state;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    make_team();
    assert_int_equal(amend_one(BOB, "team", "dave", NULL, NULL), ERR_DENIED);
    assert_int_equal(amend_one(BOB, "team", NULL, "dave", NULL), ERR_DENIED);
    assert_int_equal(amend_one(BOB, "team", NULL, NULL, "carol"), ERR_DENIED);
    assert_int_equal(set_role(BOB, "team", "bob", FC__E2E__V1__ROLE__OWNER), ERR_DENIED);
    assert_int_equal(set_topic(BOB, "team", "mine"), ERR_DENIED);
    request.name = text("bobs");
    assert_int_equal(amend(BOB, "team", &request), ERR_DENIED);
    request.name = text("");
    request.archive = true;
    assert_int_equal(amend(BOB, "team", &request), ERR_DENIED);
    request.archive = false;
    assert_int_equal(amend(BOB, "team", &request), ERR_INVALID); // nothing
    expect_why("does nothing");
}

static void
test_admins_manage_people_and_owners_roles(void **state)
{
    (void)state;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    make_team();
    assert_int_equal(set_topic(CAROL, "team", "plans"), ERR_OK);
    assert_int_equal(amend_one(CAROL, "team", "dave", NULL, NULL), ERR_OK);
    assert_int_equal(amend_one(CAROL, "team", "dave", NULL, NULL), ERR_INVALID);
    assert_int_equal(send_text(DAVE, "team"), ERR_OK);
    assert_int_equal(amend_one(CAROL, "team", NULL, NULL, "dave"), ERR_OK);
    assert_int_equal(send_text(DAVE, "team"), ERR_NOT_FOUND);
    assert_int_equal(amend_one(CAROL, "team", NULL, NULL, "dave"), ERR_NOT_FOUND);
    assert_int_equal(amend_one(CAROL, "team", NULL, NULL, "alice"), ERR_DENIED);
    assert_int_equal(set_role(CAROL, "team", "bob", FC__E2E__V1__ROLE__ADMIN), ERR_DENIED);
    request.archive = true;
    assert_int_equal(amend(CAROL, "team", &request), ERR_DENIED);
    assert_int_equal(amend(ALICE, "team", &request), ERR_OK);
    assert_int_equal(send_text(BOB, "team"), ERR_PRECONDITION);
    request.revive = true;
    assert_int_equal(amend(ALICE, "team", &request), ERR_INVALID);
    request.archive = false;
    assert_int_equal(amend(ALICE, "team", &request), ERR_OK);
    assert_int_equal(send_text(BOB, "team"), ERR_OK);
    // All at once or not at all.
    char *added[] = {text("dave")};
    char *removed[] = {text("bob"), text("nobody")};
    request.revive = false;
    request.n_add = 1;
    request.add = added;
    request.n_remove = 2;
    request.remove = removed;
    assert_int_equal(amend(ALICE, "team", &request), ERR_NOT_FOUND);
    assert_int_equal(member_role(ALICE, "team", "bob"), FC__E2E__V1__ROLE__MEMBER);
    request.n_remove = 1;
    assert_int_equal(amend(ALICE, "team", &request), ERR_OK);
    assert_int_equal(member_role(ALICE, "team", "bob"), 0);
    assert_int_equal(member_role(ALICE, "team", "dave"), FC__E2E__V1__ROLE__MEMBER);
}

static void
test_rooms_are_renamed_to_free_names(void **state)
{
    (void)state;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    make_team();
    assert_int_equal(create_plain(DAVE, "daves", FC__E2E__V1__ROOM_KIND__PRIVATE, NULL), ERR_OK);
    const char *const names[] = {"daves", "0123456789abcdefABCDEF0123456789", "a b", "@bob"};
    const enum err errs[] = {ERR_EXISTS, ERR_INVALID, ERR_INVALID, ERR_INVALID};
    for (size_t i = 0; i < 4; i++) {
        request.name = text(names[i]);
        assert_int_equal(amend(ALICE, "team", &request), errs[i]);
    }
    request.name = text("squad");
    assert_int_equal(amend(ALICE, "team", &request), ERR_OK);
    assert_int_equal(get_room(BOB, "squad"), ERR_OK);
    assert_int_equal(get_room(BOB, "team"), ERR_NOT_FOUND);
    request.name = text("team");
    assert_int_equal(amend(ALICE, "squad", &request), ERR_OK);
}

static void
test_only_owner_does_not_leave_others_behind(void **state)
{
    (void)state;
    make_team();
    assert_int_equal(leave(ALICE, "team", NULL), ERR_PRECONDITION);
    expect_why("owner");
    assert_int_equal(set_role(ALICE, "team", "bob", FC__E2E__V1__ROLE__OWNER), ERR_OK);
    assert_int_equal(leave(ALICE, "team", NULL), ERR_OK);
    assert_int_equal(leave(ALICE, "team", NULL), ERR_NOT_FOUND);
    assert_int_equal(member_role(BOB, "team", "alice"), 0);
}

static void
test_amend_executes_once(void **state)
{
    (void)state;
    make_team();
    assert_int_equal(amend_one(ALICE, "team", "dave", NULL, NULL), ERR_OK);
    const Fc__Chat__V1__AmendResponse *response = rpc_unary_response(&call);
    uint64_t log_seq = response->room->log_seq;
    is_resend = true;
    assert_int_equal(amend_one(ALICE, "team", "dave", NULL, NULL), ERR_OK);
    response = rpc_unary_response(&call);
    assert_int_equal(response->room->log_seq, log_seq);
    // Late, after something else.
    memcpy(request_id, call.request_id, sizeof(request_id));
    is_resend = true;
    assert_int_equal(set_role(ALICE, "team", "dave", FC__E2E__V1__ROLE__ADMIN), ERR_OK);
    assert_int_equal(member_role(ALICE, "team", "dave"), FC__E2E__V1__ROLE__MEMBER);
}

// --- Invitations ---------------------------------------------------------------------------------------------------

static void
test_invited_ones_join_or_refuse(void **state)
{
    (void)state;
    make_team();
    assert_int_equal(amend_one(CAROL, "team", NULL, "dave", NULL), ERR_OK);
    assert_int_equal(amend_one(CAROL, "team", NULL, "dave", NULL), ERR_INVALID);
    assert_int_equal(member_role(DAVE, "team", "dave"), 100 + FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(get_log(DAVE, "team", NULL, 0), ERR_OK);
    assert_int_equal(send_text(DAVE, "team"), ERR_DENIED);
    expect_why("invited");
    assert_int_equal(amend_one(DAVE, "team", NULL, NULL, "bob"), ERR_DENIED);
    assert_int_equal(leave(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(get_room(DAVE, "team"), ERR_NOT_FOUND);
    assert_int_equal(amend_one(CAROL, "team", NULL, "dave", NULL), ERR_OK);
    assert_int_equal(join(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(join(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(send_text(DAVE, "team"), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = NULL;
    assert_int_equal(get_room(DAVE, "team"), ERR_OK);
    response = rpc_unary_response(&call);
    assert_int_equal(response->room->member_count, 4);
    // An invitation that an admin makes a membership.
    assert_int_equal(leave(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(amend_one(CAROL, "team", NULL, "dave", NULL), ERR_OK);
    assert_int_equal(amend_one(CAROL, "team", "dave", NULL, NULL), ERR_OK);
    assert_int_equal(member_role(DAVE, "team", "dave"), FC__E2E__V1__ROLE__MEMBER);
}

// --- Direct rooms --------------------------------------------------------------------------------------------------

static void
test_direct_room_is_one_of_two(void **state)
{
    (void)state;
    assert_int_equal(create_plain(ALICE, "", FC__E2E__V1__ROOM_KIND__DIRECT, "bob"), ERR_OK);
    const Fc__Chat__V1__CreateRoomResponse *made = rpc_unary_response(&call);
    assert_string_equal(made->room->name, "@bob");
    assert_int_equal(get_room(BOB, "@alice"), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = rpc_unary_response(&call);
    assert_string_equal(response->room->name, "@alice");
    assert_int_equal(response->room->role, FC__E2E__V1__ROLE__OWNER);
    assert_int_equal(send_text(BOB, "@alice"), ERR_OK);
    assert_int_equal(listed(BOB, "@alice", true), 1);
    assert_int_equal(get_room(DAVE, "@alice"), ERR_NOT_FOUND);
    assert_int_equal(create_plain(BOB, "", FC__E2E__V1__ROOM_KIND__DIRECT, "alice"), ERR_EXISTS);
    expect_why("@alice");
    assert_int_equal(create_plain(ALICE, "", FC__E2E__V1__ROOM_KIND__DIRECT, NULL), ERR_INVALID);
    assert_int_equal(create_plain(ALICE, "", FC__E2E__V1__ROOM_KIND__DIRECT, "alice"), ERR_INVALID);
    assert_int_equal(create_plain(ALICE, "x", FC__E2E__V1__ROOM_KIND__DIRECT, "dave"), ERR_INVALID);
    assert_int_equal(amend_one(ALICE, "@bob", "dave", NULL, NULL), ERR_INVALID);
    assert_int_equal(amend_one(ALICE, "@bob", NULL, NULL, "bob"), ERR_INVALID);
    assert_int_equal(leave(BOB, "@alice", NULL), ERR_OK);
    assert_int_equal(leave(BOB, "@alice", NULL), ERR_PRECONDITION);
    assert_int_equal(send_text(BOB, "@alice"), ERR_DENIED);
    assert_int_equal(send_text(ALICE, "@bob"), ERR_OK);
    assert_int_equal(join(BOB, "@alice", NULL), ERR_OK);
    assert_int_equal(send_text(BOB, "@alice"), ERR_OK);
}

static void
test_direct_rooms_are_listed_page_by_page(void **state)
{
    (void)state;
    Fc__Chat__V1__ListRoomsRequest request = FC__CHAT__V1__LIST_ROOMS_REQUEST__INIT;
    char after[TEXT_ROOM_NAME_MAX_BYTES + 1] = "";
    size_t count = 0;
    const char *const others[] = {"bob", "carol", "dave"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(create_plain(ALICE, "", FC__E2E__V1__ROOM_KIND__DIRECT, others[i]), ERR_OK);
    }
    assert_int_equal(create_plain(ALICE, "1st", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_OK);
    assert_int_equal(create_plain(ALICE, "zoo", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_OK);
    bool has_more = true;
    while (has_more) {
        request.after_name = after;
        request.limit = 1;
        assert_int_equal(CALL(ALICE, list_rooms, &request), ERR_OK);
        const Fc__Chat__V1__ListRoomsResponse *response = rpc_unary_response(&call);
        assert_int_equal(response->n_rooms, 1);
        assert_true(strcmp(response->next_after_name, after) > 0);
        snprintf(after, sizeof(after), "%s", response->next_after_name);
        has_more = response->has_more;
        count++;
    }
    assert_int_equal(count, 5);
}

// --- Links ---------------------------------------------------------------------------------------------------------

static struct e2e_keys link_keys;

static enum err
add_link(int who, uint32_t max_uses, const void *info, size_t info_size)
{
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    Fc__E2e__V1__InviteLink link = FC__E2E__V1__INVITE_LINK__INIT;
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    link.link_id = lend(link_keys.id, CHAT_ID_BYTES);
    link.sign_key = lend(link_keys.sign_public, CRYPTO_KEY_BYTES);
    link.box_key = lend(link_keys.box_public, CRYPTO_KEY_BYTES);
    link.role = FC__E2E__V1__ROLE__MEMBER;
    link.max_uses = max_uses;
    request.add_link = &link;
    request.link_info = lend(info, info_size);
    return amend(who, "team", &request);
}

static enum err
join_by_link(int who, int signed_for)
{
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    assert_int_equal(e2e_sign(link_keys.sign_private, E2E_CONTEXT_JOIN, bytes_view_of(link_keys.id, CHAT_ID_BYTES),
                         bytes_view_of(people[signed_for].id, CHAT_ID_BYTES), signature),
        ERR_OK);
    request.link_id = lend(link_keys.id, CHAT_ID_BYTES);
    request.link_signature = lend(signature, sizeof(signature));
    return CALL(who, join, &request);
}

static enum err
get_link(int who, size_t id_size)
{
    Fc__Chat__V1__GetLinkRequest request = FC__CHAT__V1__GET_LINK_REQUEST__INIT;
    request.link_id = lend(link_keys.id, id_size);
    return CALL(who, get_link, &request);
}

static void
test_link_leads_into_the_room(void **state)
{
    (void)state;
    static const uint8_t info[CHAT_LINK_INFO_MAX_BYTES + 1] = {7};
    make_team();
    assert_int_equal(add_link(BOB, 0, NULL, 0), ERR_DENIED);
    assert_int_equal(add_link(CAROL, 0, info, sizeof(info)), ERR_INVALID);
    assert_int_equal(add_link(CAROL, 1, info, 8), ERR_OK);
    assert_int_equal(get_link(DAVE, CHAT_ID_BYTES - 1), ERR_INVALID);
    assert_int_equal(get_link(DAVE, CHAT_ID_BYTES), ERR_OK);
    const Fc__Chat__V1__GetLinkResponse *response = rpc_unary_response(&call);
    assert_string_equal(response->room_name, "team");
    assert_int_equal(response->member_count, 3);
    assert_int_equal(response->link_info.len, 8);
    assert_true(response->is_plain);
    assert_int_equal(get_log(DAVE, "", link_keys.id, 0), ERR_OK);
    assert_int_equal(join_by_link(DAVE, BOB), ERR_DENIED);
    expect_why("not signed by the invite link");
    assert_int_equal(join_by_link(DAVE, DAVE), ERR_OK);
    assert_int_equal(member_role(DAVE, "team", "dave"), FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(leave(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(join_by_link(DAVE, DAVE), ERR_DENIED);
    expect_why("used as often");
    assert_int_equal(get_link(DAVE, CHAT_ID_BYTES), ERR_DENIED);
    assert_int_equal(get_log(DAVE, "", link_keys.id, 0), ERR_DENIED);
    expect_why("used up");
}

static void
test_links_are_shown_to_admins_and_revoked(void **state)
{
    (void)state;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    make_team();
    assert_int_equal(add_link(ALICE, 0, NULL, 0), ERR_OK);
    assert_int_equal(get_room(CAROL, "team"), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_links, 1);
    assert_int_equal(get_room(BOB, "team"), ERR_OK);
    response = rpc_unary_response(&call);
    assert_int_equal(response->n_links, 0);
    request.revoke_link = lend(link_keys.id, CHAT_ID_BYTES);
    assert_int_equal(amend(BOB, "team", &request), ERR_DENIED);
    assert_int_equal(amend(CAROL, "team", &request), ERR_OK);
    assert_int_equal(get_link(DAVE, CHAT_ID_BYTES), ERR_NOT_FOUND);
    assert_int_equal(join_by_link(DAVE, DAVE), ERR_NOT_FOUND);
    assert_int_equal(get_log(DAVE, "", link_keys.id, 0), ERR_NOT_FOUND);
    request.revoke_link = (ProtobufCBinaryData){0};
    request.link_info = lend("x", 1);
    request.is_topic_set = true;
    assert_int_equal(amend(ALICE, "team", &request), ERR_INVALID);
    expect_why("link_info");
}

// --- Blocks --------------------------------------------------------------------------------------------------------

static void
test_blocked_ones_do_not_add_or_invite(void **state)
{
    (void)state;
    Fc__Chat__V1__ListBlocksRequest request = FC__CHAT__V1__LIST_BLOCKS_REQUEST__INIT;
    make_team();
    assert_int_equal(block(DAVE, "alice", false), ERR_OK);
    assert_int_equal(block(DAVE, "alice", false), ERR_OK);
    assert_int_equal(block(DAVE, "dave", false), ERR_INVALID);
    assert_int_equal(block(DAVE, "nobody", false), ERR_NOT_FOUND);
    assert_int_equal(CALL(DAVE, list_blocks, &request), ERR_OK);
    const Fc__Chat__V1__ListBlocksResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_user_names, 1);
    assert_string_equal(response->user_names[0], "alice");
    assert_int_equal(CALL(ALICE, list_blocks, &request), ERR_OK);
    response = rpc_unary_response(&call);
    assert_int_equal(response->n_user_names, 0);
    assert_int_equal(amend_one(ALICE, "team", "dave", NULL, NULL), ERR_DENIED);
    assert_null(strstr(why.message, "block"));
    assert_int_equal(amend_one(ALICE, "team", NULL, "dave", NULL), ERR_DENIED);
    assert_int_equal(create_plain(ALICE, "", FC__E2E__V1__ROOM_KIND__DIRECT, "dave"), ERR_DENIED);
    assert_int_equal(create_plain(ALICE, "new", FC__E2E__V1__ROOM_KIND__PRIVATE, "dave"), ERR_DENIED);
    assert_int_equal(amend_one(CAROL, "team", "dave", NULL, NULL), ERR_OK);
    assert_int_equal(leave(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(block(DAVE, "alice", true), ERR_OK);
    assert_int_equal(amend_one(ALICE, "team", "dave", NULL, NULL), ERR_OK);
}

static void
test_blocked_ones_do_not_write_directly(void **state)
{
    (void)state;
    assert_int_equal(create_plain(ALICE, "", FC__E2E__V1__ROOM_KIND__DIRECT, "bob"), ERR_OK);
    assert_int_equal(create_plain(ALICE, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, "bob"), ERR_OK);
    assert_int_equal(block(BOB, "alice", false), ERR_OK);
    assert_int_equal(send_text(ALICE, "@bob"), ERR_DENIED);
    assert_null(strstr(why.message, "block"));
    assert_int_equal(send_text(BOB, "@alice"), ERR_OK);
    assert_int_equal(send_text(ALICE, "team"), ERR_OK);
    assert_int_equal(block(BOB, "alice", true), ERR_OK);
    assert_int_equal(send_text(ALICE, "@bob"), ERR_OK);
}

// --- Limits --------------------------------------------------------------------------------------------------------

static int
setup_small(void **state)
{
    (void)state;
    make_people();
    start(2, 3);
    return 0;
}

static void
test_operator_limits_rooms_of_a_user(void **state)
{
    (void)state;
    assert_int_equal(create_plain(ALICE, "one", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_OK);
    assert_int_equal(create_plain(ALICE, "two", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_OK);
    assert_int_equal(create_plain(ALICE, "three", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_LIMIT);
    expect_why("leave one");
    assert_int_equal(create_plain(BOB, "bobs", FC__E2E__V1__ROOM_KIND__PRIVATE, "alice"), ERR_LIMIT);
    expect_why("alice");
    assert_int_equal(leave(ALICE, "two", NULL), ERR_OK);
    assert_int_equal(create_plain(BOB, "bobs", FC__E2E__V1__ROOM_KIND__PRIVATE, "alice"), ERR_OK);
    assert_int_equal(join(ALICE, "two", NULL), ERR_LIMIT);
}

static void
test_operator_limits_members_of_a_room(void **state)
{
    (void)state;
    assert_int_equal(create_plain(ALICE, "one", FC__E2E__V1__ROOM_KIND__PUBLIC, "bob"), ERR_OK);
    assert_int_equal(join(CAROL, "one", NULL), ERR_OK);
    assert_int_equal(join(DAVE, "one", NULL), ERR_LIMIT);
    expect_why("at most 3");
    assert_int_equal(amend_one(ALICE, "one", NULL, "dave", NULL), ERR_LIMIT);
    assert_int_equal(leave(CAROL, "one", NULL), ERR_OK);
    assert_int_equal(join(DAVE, "one", NULL), ERR_OK);
}

// --- Logs ----------------------------------------------------------------------------------------------------------

static void
test_log_replays_to_the_room(void **state)
{
    (void)state;
    struct e2e_room room = {0};
    make_team();
    assert_int_equal(amend_one(CAROL, "team", "dave", NULL, "bob"), ERR_OK);
    assert_int_equal(leave(DAVE, "team", NULL), ERR_OK);
    assert_int_equal(get_log(DAVE, "team", NULL, 0), ERR_NOT_FOUND);
    assert_int_equal(get_log(ALICE, "team", NULL, 0), ERR_OK);
    const Fc__Chat__V1__GetLogResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_entries, 5);
    assert_int_equal(response->head_seq, 5);
    for (size_t i = 0; i < response->n_entries; i++) {
        Fc__E2e__V1__RoomEntry *entry = NULL;
        const Fc__E2e__V1__Signed *wire = response->entries[i];
        assert_int_equal(wire->signature.len, 0);
        assert_int_equal(e2e_room_parse(bytes_view_of(wire->body.data, wire->body.len), &entry, &why), ERR_OK);
        assert_int_equal(e2e_room_apply_plain(&room, entry, 0, &why), ERR_OK);
        fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    }
    assert_int_equal(room.state->n_members, 2);
    assert_true(e2e_room_is_member(&room, people[CAROL].id));
    assert_string_equal(e2e_room_member(&room, people[ALICE].id)->user_name, "alice");
    e2e_room_deinit(&room);
    assert_int_equal(get_log(ALICE, "team", NULL, 4), ERR_OK);
    response = rpc_unary_response(&call);
    assert_int_equal(response->n_entries, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_private_room_does_not_exist_for_outsiders),
        TEST(test_public_room_is_seen_by_all_and_changed_by_members),
        TEST(test_room_says_what_it_is),
        TEST(test_members_change_nothing),
        TEST(test_admins_manage_people_and_owners_roles),
        TEST(test_rooms_are_renamed_to_free_names),
        TEST(test_only_owner_does_not_leave_others_behind),
        TEST(test_amend_executes_once),
        TEST(test_invited_ones_join_or_refuse),
        TEST(test_direct_room_is_one_of_two),
        TEST(test_direct_rooms_are_listed_page_by_page),
        TEST(test_link_leads_into_the_room),
        TEST(test_links_are_shown_to_admins_and_revoked),
        TEST(test_blocked_ones_do_not_add_or_invite),
        TEST(test_blocked_ones_do_not_write_directly),
        cmocka_unit_test_setup_teardown(test_operator_limits_rooms_of_a_user, setup_small, teardown),
        cmocka_unit_test_setup_teardown(test_operator_limits_members_of_a_room, setup_small, teardown),
        TEST(test_log_replays_to_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
