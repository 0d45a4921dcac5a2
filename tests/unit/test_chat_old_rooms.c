// Rooms from a database of before rooms had logs: they get one that leads to their members.
#include "tests/unit/rooms_support.h"

// ----------------------------------------------------------------------------------

static const struct store_migration old_tables[] = {
    {"CREATE TABLE chat_rooms ("
     "  room_id BLOB NOT NULL PRIMARY KEY,"
     "  name TEXT NOT NULL UNIQUE,"
     "  head_seq BIGINT NOT NULL,"
     "  last_sent_at_ms BIGINT NOT NULL,"
     "  member_count BIGINT NOT NULL,"
     "  created_at_ms BIGINT NOT NULL);"
     "CREATE TABLE chat_members ("
     "  room_id BLOB NOT NULL,"
     "  user_id BLOB NOT NULL,"
     "  user_name TEXT NOT NULL,"
     "  is_owner BIGINT NOT NULL,"
     "  joined_at_ms BIGINT NOT NULL,"
     "  PRIMARY KEY (room_id, user_id));"
     "CREATE TABLE chat_membership_log ("
     "  user_id BLOB NOT NULL,"
     "  request_id BLOB,"
     "  room_id BLOB NOT NULL,"
     "  change TEXT NOT NULL,"
     "  changed_at_ms BIGINT NOT NULL,"
     "  UNIQUE (user_id, request_id));"
     "CREATE TABLE chat_messages ("
     "  room_id BLOB NOT NULL,"
     "  seq BIGINT NOT NULL,"
     "  message_id BLOB NOT NULL,"
     "  sender_id BLOB NOT NULL,"
     "  sender_name TEXT NOT NULL,"
     "  sent_at_ms BIGINT NOT NULL,"
     "  text TEXT NOT NULL,"
     "  file_id BLOB,"
     "  file_name TEXT,"
     "  file_size_bytes BIGINT,"
     "  file_md5 BLOB,"
     "  PRIMARY KEY (room_id, seq),"
     "  UNIQUE (room_id, message_id));"},
};

static enum err
insert_old_room(struct store_tx *tx, uint8_t first_byte, const char *name)
{
    const uint8_t id[CHAT_ID_BYTES] = {first_byte};
    enum err err = store_exec(tx,
        "INSERT INTO chat_rooms (room_id, name, head_seq, last_sent_at_ms, member_count, created_at_ms)"
        " VALUES ($1, $2, 0, 0, 0, 7)",
        STORE_ARGS(store_blob(id, sizeof(id)), store_text(name)), NULL);
    return err != ERR_OK
               ? err
               : store_exec(tx,
                     "INSERT INTO chat_membership_log (user_id, room_id, change, changed_at_ms)"
                     " VALUES ($1, $2, 'create', 7)",
                     STORE_ARGS(store_blob(people[ALICE].id, CHAT_ID_BYTES), store_blob(id, sizeof(id))), NULL);
}

static enum err
insert_old_member(struct store_tx *tx, uint8_t first_byte, const struct chat_user *user, bool is_owner)
{
    const uint8_t id[CHAT_ID_BYTES] = {first_byte};
    enum err err = store_exec(tx,
        "INSERT INTO chat_members (room_id, user_id, user_name, is_owner, joined_at_ms) VALUES ($1, $2, $3, $4, 7)",
        STORE_ARGS(store_blob(id, sizeof(id)), store_blob(user->id, CHAT_ID_BYTES), store_text(user->name),
            store_int(is_owner ? 1 : 0)),
        NULL);
    return err != ERR_OK ? err
                         : store_exec(tx, "UPDATE chat_rooms SET member_count = member_count + 1 WHERE room_id = $1",
                               STORE_ARGS(store_blob(id, sizeof(id))), NULL);
}

enum { CROWD = 2500 };

// Four rooms: of Alice (owner) and Bob; of Bob alone, whom nobody made owner; of nobody; and of Alice with a crowd.
static enum err
run_insert_old(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    const struct chat_user alice = {.id = people[ALICE].id, .name = "alice"};
    const struct chat_user bob = {.id = people[BOB].id, .name = "bob"};
    const char *const names[] = {"both", "bobs", "empty", "crowd"};
    enum err err = ERR_OK;
    for (uint8_t i = 0; err == ERR_OK && i < 4; i++) {
        err = insert_old_room(tx, (uint8_t)(i + 1), names[i]);
    }
    err = err != ERR_OK ? err : insert_old_member(tx, 1, &bob, false);
    err = err != ERR_OK ? err : insert_old_member(tx, 1, &alice, true);
    err = err != ERR_OK ? err : insert_old_member(tx, 2, &bob, false);
    err = err != ERR_OK ? err : insert_old_member(tx, 4, &alice, true);
    for (uint32_t i = 0; err == ERR_OK && i < CROWD; i++) {
        uint8_t id[CHAT_ID_BYTES] = {0xcc};
        bytes_store_be32(id + 4, i);
        err = insert_old_member(tx, 4, &(struct chat_user){.id = id, .name = "somebody"}, false);
    }
    return err;
}

static int
setup_old(void **state)
{
    (void)state;
    struct err_detail detail = {0};
    struct store_job job = {.run = run_insert_old};
    make_people();
    assert_int_equal(store_open(folder, &store, &detail), ERR_OK);
    assert_int_equal(store_migrate(store, "chat", old_tables, 1, &detail), ERR_OK);
    assert_int_equal(store_write_wait(store, &job), ERR_OK);
    start(0, 0);
    return 0;
}

static void
test_old_rooms_get_a_log_when_they_change(void **state)
{
    (void)state;
    // Nothing has to be changed to be read.
    assert_int_equal(member_role(BOB, "both", "alice"), FC__E2E__V1__ROLE__OWNER);
    assert_int_equal(get_log(BOB, "both", NULL, 0), ERR_OK);
    assert_int_equal(send_text(BOB, "both"), ERR_OK);
    assert_int_equal(join(CAROL, "both", NULL), ERR_OK);
    assert_int_equal(member_role(BOB, "both", "alice"), FC__E2E__V1__ROLE__OWNER);
    assert_int_equal(member_role(BOB, "both", "carol"), FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(get_log(CAROL, "both", NULL, 0), ERR_OK);
    const Fc__Chat__V1__GetLogResponse *log = rpc_unary_response(&call);
    assert_int_equal(log->n_entries, 2);
    assert_int_equal(amend_one(BOB, "both", NULL, NULL, "carol"), ERR_DENIED);
    assert_int_equal(amend_one(ALICE, "both", NULL, NULL, "carol"), ERR_OK);
    // Without an owner the one who is there becomes it.
    assert_int_equal(set_topic(BOB, "bobs", "mine"), ERR_OK);
    assert_int_equal(member_role(BOB, "bobs", "bob"), FC__E2E__V1__ROLE__OWNER);
    // Who enters an empty one owns it.
    assert_int_equal(join(DAVE, "empty", NULL), ERR_OK);
    assert_int_equal(member_role(DAVE, "empty", "dave"), FC__E2E__V1__ROLE__OWNER);
    assert_int_equal(member_role(DAVE, "empty", "alice"), 0);
}

static void
test_old_crowd_gets_several_entries(void **state)
{
    (void)state;
    assert_int_equal(leave(ALICE, "crowd", NULL), ERR_PRECONDITION);
    assert_int_equal(join(BOB, "crowd", NULL), ERR_OK);
    const Fc__Chat__V1__JoinResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->room->member_count, CROWD + 2);
    assert_int_equal(response->room->log_seq, 4);
    assert_int_equal(set_role(ALICE, "crowd", "bob", FC__E2E__V1__ROLE__OWNER), ERR_OK);
    assert_int_equal(leave(ALICE, "crowd", NULL), ERR_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_old_rooms_get_a_log_when_they_change, setup_old, teardown),
        cmocka_unit_test_setup_teardown(test_old_crowd_gets_several_entries, setup_old, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
