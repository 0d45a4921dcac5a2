// Users, rooms, their chains and secrets, and the outbox in the local store.
#include <unistd.h>

#include "fc_store_support.h"

static struct fc_store_user
make_user(uint8_t id, const char *name)
{
    struct fc_store_user user = {.first_seen_ms = 1700000000000};
    memcpy(user.user_id, filled(id), sizeof(user.user_id));
    (void)snprintf(user.name, sizeof(user.name), "%s", name);
    return user;
}

static void
test_a_user_keeps_pin_and_warning(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct fc_store_user user = make_user(2, "bob");
    struct fc_store_user found;
    assert_int_equal(fc_store_user_find(store, "bob", &found, &why), ERR_NOT_FOUND);
    DO(fc_store_user_put(store, &user, &why));
    DO(fc_store_user_find(store, "bob", &found, &why));
    assert_memory_equal(&found, &user, sizeof(user));

    user.has_pin = true;
    memcpy(user.identity_key, filled(3), sizeof(user.identity_key));
    user.is_verified = true;
    user.has_pending_key = true;
    memcpy(user.pending_key, filled(4), sizeof(user.pending_key));
    DO(fc_store_user_put(store, &user, &why));
    DO(fc_store_user_get(store, filled(2), &found, &why));
    assert_memory_equal(&found, &user, sizeof(user));
    fc_store_close(&store);
}

static bool
append_name(void *context, const struct fc_store_user *user)
{
    strcat(strcat(context, user->name), " ");
    return strcmp(user->name, "carl") != 0;
}

static void
test_a_name_is_of_one_user(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct fc_store_user bob = make_user(2, "bob");
    struct fc_store_user impostor = make_user(3, "bob");
    struct fc_store_user carl = make_user(4, "carl");
    struct fc_store_user dora = make_user(5, "dora");
    struct fc_store_user found;
    char names[64] = "";
    DO(fc_store_user_put(store, &bob, &why));
    assert_int_equal(fc_store_user_put(store, &impostor, &why), ERR_EXISTS);
    assert_non_null(strstr(why.message, "bob"));
    DO(fc_store_user_forget_name(store, "bob", &why));
    DO(fc_store_user_put(store, &impostor, &why));
    DO(fc_store_user_find(store, "bob", &found, &why));
    assert_memory_equal(found.user_id, filled(3), sizeof(found.user_id));
    DO(fc_store_user_get(store, filled(2), &found, &why));
    assert_string_equal(found.name, "");
    DO(fc_store_user_put(store, &dora, &why));
    DO(fc_store_user_put(store, &carl, &why));
    DO(fc_store_user_each(store, append_name, names, &why));
    assert_string_equal(names, " bob carl ");
    fc_store_close(&store);
}

static struct fc_store_entry
make_entry(uint64_t seq)
{
    static const char *const bodies[] = {"", "one", "two", "three"};
    return (struct fc_store_entry){.seq = seq,
        .body = bytes_view_of_text(bodies[seq < 4 ? seq : 0]),
        .signature = bytes_view_of_text("signed")};
}

static bool
append_body(void *context, const struct fc_store_entry *entry)
{
    assert_true(bytes_view_equal(entry->signature, bytes_view_of_text("signed")));
    strcat(strncat(context, (const char *)entry->body.data, entry->body.size), " ");
    return entry->seq < 3;
}

static void
test_chains_of_users_grow_one_by_one(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct fc_store_user bob = make_user(2, "bob");
    struct fc_store_entry entry = make_entry(1);
    char bodies[64] = "";
    assert_int_equal(fc_store_user_append(store, filled(2), &entry, &why), ERR_CONFLICT); // nobody yet
    DO(fc_store_user_put(store, &bob, &why));
    DO(fc_store_user_append(store, filled(2), &entry, &why));
    assert_int_equal(fc_store_user_append(store, filled(2), &entry, &why), ERR_CONFLICT);
    entry = make_entry(3);
    assert_int_equal(fc_store_user_append(store, filled(2), &entry, &why), ERR_CONFLICT);
    entry = make_entry(2);
    DO(fc_store_user_append(store, filled(2), &entry, &why));
    entry.seq = UINT64_MAX;
    assert_int_equal(fc_store_user_append(store, filled(2), &entry, &why), ERR_INVALID);
    DO(fc_store_user_put(store, &bob, &why)); // leaves the chain as it is
    DO(fc_store_user_get(store, filled(2), &bob, &why));
    assert_int_equal(bob.chain_seq, 2);
    DO(fc_store_user_entries(store, filled(2), 0, append_body, bodies, &why));
    assert_string_equal(bodies, "one two ");
    bodies[0] = '\0';
    DO(fc_store_user_entries(store, filled(2), 1, append_body, bodies, &why));
    assert_string_equal(bodies, "two ");
    fc_store_close(&store);
}

static void
test_a_log_and_its_state_move_together(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct bytes packed = {0};
    char bodies[64] = "";
    struct fc_store_entry entry = make_entry(1);
    assert_int_equal(fc_store_room_append(store, filled(1), &entry, bytes_view_of_text("s1"), &why), ERR_NOT_FOUND);
    put_room(store, 1, "lobby");
    DO(fc_store_room_state(store, filled(1), &packed, &why));
    assert_int_equal(packed.size, 0);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        entry = make_entry(seq);
        DO(fc_store_room_append(store, filled(1), &entry, bytes_view_of_text(seq == 3 ? "s3" : "s"), &why));
    }
    assert_int_equal(fc_store_room_append(store, filled(1), &entry, bytes_view_of_text("again"), &why), ERR_CONFLICT);
    DO(fc_store_room_state(store, filled(1), &packed, &why));
    assert_true(bytes_view_equal(bytes_as_view(&packed), bytes_view_of_text("s3")));
    bytes_free(&packed);
    assert_int_equal(get_room(store, 1).log_seq, 3);
    DO(fc_store_room_entries(store, filled(1), 1, append_body, bodies, &why));
    assert_string_equal(bodies, "two three ");
    fc_store_close(&store);
}

static void
test_numbers_of_a_room_never_go_back(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    assert_int_equal(fc_store_room_set_head(store, filled(1), 1, &why), ERR_NOT_FOUND);
    put_room(store, 1, "lobby");
    DO(fc_store_room_set_synced(store, filled(1), 7, filled(7), &why));
    DO(fc_store_room_set_synced(store, filled(1), 5, filled(5), &why));
    DO(fc_store_room_set_head(store, filled(1), 3, &why));
    DO(fc_store_room_set_read(store, filled(1), 4, &why));
    DO(fc_store_room_set_read(store, filled(1), 2, &why));
    DO(fc_store_room_set_muted(store, filled(1), true, &why));
    put_room(store, 1, "hall"); // leaves them as they are
    struct fc_store_room room = get_room(store, 1);
    assert_string_equal(room.name, "hall");
    assert_int_equal(room.synced_seq, 7);
    assert_memory_equal(room.chain, filled(7), sizeof(room.chain));
    assert_int_equal(room.head_seq, 7);
    assert_int_equal(room.read_seq, 4);
    assert_true(room.is_muted);
    DO(fc_store_room_set_head(store, filled(1), UINT64_MAX, &why)); // what a server may say
    assert_true(get_room(store, 1).head_seq == INT64_MAX);
    fc_store_close(&store);
}

static void
test_an_encrypted_room_never_becomes_plain(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    put_room(store, 1, "lobby");
    struct fc_store_room room = get_room(store, 1);
    room.is_plain = true;
    assert_int_equal(fc_store_room_put(store, &room, &why), ERR_CONFLICT);
    assert_non_null(strstr(why.message, "lobby"));
    assert_false(get_room(store, 1).is_plain);
    fc_store_close(&store);
}

static void
test_a_name_finds_the_room_that_the_user_is_in(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    put_room(store, 1, "lobby");
    put_room(store, 2, "lobby");
    struct fc_store_room room = get_room(store, 2);
    room.is_member = false;
    DO(fc_store_room_put(store, &room, &why));
    DO(fc_store_room_find(store, "lobby", &room, &why));
    assert_memory_equal(room.room_id, filled(1), sizeof(room.room_id));
    DO(fc_store_room_remove(store, filled(1), &why));
    DO(fc_store_room_find(store, "lobby", &room, &why));
    assert_memory_equal(room.room_id, filled(2), sizeof(room.room_id));
    assert_int_equal(fc_store_room_find(store, "hall", &room, &why), ERR_NOT_FOUND);
    fc_store_close(&store);
}

static void
test_rooms_are_forgotten_until_they_are_put_again(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    put_room(store, 1, "lobby");
    put_room(store, 2, "hall");
    DO(fc_store_room_forget_all(store, &why));
    assert_false(get_room(store, 1).is_member);
    put_room(store, 2, "hall");
    assert_false(get_room(store, 1).is_member);
    assert_true(get_room(store, 2).is_member);
    fc_store_close(&store);
}

static void
test_what_was_learned_of_a_log_does_not_go_back(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    put_room(store, 1, "lobby");
    assert_int_equal(get_room(store, 1).learned_seq, 0);
    DO(fc_store_room_set_learned(store, filled(1), 5, &why));
    DO(fc_store_room_set_learned(store, filled(1), 3, &why));
    assert_int_equal(get_room(store, 1).learned_seq, 5);
    assert_int_equal(fc_store_room_set_learned(store, filled(9), 1, &why), ERR_NOT_FOUND);
    fc_store_close(&store);
}

static void
test_epoch_secrets_stay_what_they_were(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    uint8_t secret[E2E_SECRET_BYTES];
    uint64_t oldest = 0;
    put_room(store, 1, "lobby");
    assert_int_equal(fc_store_epoch_oldest(store, filled(1), &oldest, &why), ERR_NOT_FOUND);
    DO(fc_store_epoch_put(store, filled(1), 3, filled(33), &why));
    DO(fc_store_epoch_put(store, filled(1), 2, filled(22), &why));
    DO(fc_store_epoch_put(store, filled(1), 2, filled(22), &why));
    assert_int_equal(fc_store_epoch_put(store, filled(1), 2, filled(99), &why), ERR_CONFLICT);
    DO(fc_store_epoch_get(store, filled(1), 2, secret, &why));
    assert_memory_equal(secret, filled(22), sizeof(secret));
    assert_int_equal(fc_store_epoch_get(store, filled(1), 1, secret, &why), ERR_NOT_FOUND);
    DO(fc_store_epoch_oldest(store, filled(1), &oldest, &why));
    assert_int_equal(oldest, 2);
    fc_store_close(&store);
}

static void
test_drafts_are_kept_until_they_are_empty(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct bytes text = {0};
    put_room(store, 1, "lobby");
    DO(fc_store_draft_put(store, filled(1), bytes_view_of_text("half a sen"), &why));
    DO(fc_store_draft_get(store, filled(1), &text, &why));
    assert_true(bytes_view_equal(bytes_as_view(&text), bytes_view_of_text("half a sen")));
    bytes_clear(&text);
    DO(fc_store_draft_put(store, filled(1), bytes_view_of_text(""), &why));
    DO(fc_store_draft_get(store, filled(1), &text, &why));
    assert_int_equal(text.size, 0);
    bytes_free(&text);
    fc_store_close(&store);
}

static void
add_outgoing(struct fc_store *store, uint8_t id, const char *request)
{
    char room_name[] = "lobby";
    struct fc_store_outgoing outgoing = {.room_name = room_name, .created_ms = 1700000000000};
    memcpy(outgoing.message_id, filled(id), sizeof(outgoing.message_id));
    assert_int_equal(bytes_append(&outgoing.request, bytes_view_of_text(request)), ERR_OK);
    enum err err = fc_store_outbox_add(store, &outgoing, &why);
    bytes_free(&outgoing.request);
    DO(err);
    assert_true(outgoing.position > 0);
}

static void
assert_next(struct fc_store *store, int64_t *position, const char *request, const char *last_error)
{
    struct fc_store_outgoing outgoing;
    DO(fc_store_outbox_next(store, *position, &outgoing, &why));
    assert_true(bytes_view_equal(bytes_as_view(&outgoing.request), bytes_view_of_text(request)));
    assert_string_equal(outgoing.room_name, "lobby");
    assert_string_equal(outgoing.last_error, last_error);
    assert_int_equal(outgoing.created_ms, 1700000000000);
    *position = outgoing.position;
    fc_store_outgoing_deinit(&outgoing);
}

static void
test_the_outbox_keeps_order_and_bytes(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct fc_store_outgoing first;
    uint64_t count = 99;
    int64_t position = 0;
    add_outgoing(store, 9, "first");
    add_outgoing(store, 1, "second");
    add_outgoing(store, 5, "third");
    fc_store_close(&store);

    store = open_store("ann");
    DO(fc_store_outbox_count(store, &count, &why));
    assert_int_equal(count, 3);
    DO(fc_store_outbox_next(store, 0, &first, &why));
    assert_false(first.has_room_id);
    first.has_room_id = true;
    memcpy(first.room_id, filled(3), sizeof(first.room_id));
    free(first.last_error);
    first.last_error = strdup("not reachable");
    DO(fc_store_outbox_update(store, &first, &why));
    assert_next(store, &position, "first", "not reachable");
    assert_next(store, &position, "second", "");
    DO(fc_store_outbox_remove(store, filled(5), &why)); // the third, before its turn
    struct fc_store_outgoing none;
    assert_int_equal(fc_store_outbox_next(store, position, &none, &why), ERR_NOT_FOUND);
    assert_int_equal(fc_store_outbox_remove(store, filled(5), &why), ERR_NOT_FOUND);

    DO(fc_store_outbox_remove(store, filled(1), &why));
    add_outgoing(store, 7, "fourth"); // behind those that are gone, so that nobody meets it twice
    assert_next(store, &position, "fourth", "");
    DO(fc_store_outbox_remove(store, filled(9), &why));
    assert_int_equal(fc_store_outbox_update(store, &first, &why), ERR_NOT_FOUND);
    fc_store_outgoing_deinit(&first);
    fc_store_close(&store);
}

static void
test_a_message_waits_once(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    char room_name[] = "lobby";
    struct fc_store_outgoing outgoing = {.room_name = room_name};
    DO(fc_store_outbox_add(store, &outgoing, &why));
    assert_int_equal(fc_store_outbox_add(store, &outgoing, &why), ERR_EXISTS);
    fc_store_close(&store);
}

static void
test_one_process_sends_at_a_time(void **state)
{
    (void)state;
    struct fc_store *one = open_store("ann");
    struct fc_store *other = open_store("ann");
    int fd = -1;
    int other_fd = -1;
    DO(fc_store_outbox_lock(one, false, &fd, &why));
    assert_int_equal(fc_store_outbox_lock(other, false, &other_fd, &why), ERR_BUSY);
    close(fd);
    DO(fc_store_outbox_lock(other, true, &other_fd, &why));
    close(other_fd);
    fc_store_close(&other);
    fc_store_close(&one);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_data_dir, remove_data_dir)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_user_keeps_pin_and_warning),
        TEST(test_a_name_is_of_one_user),
        TEST(test_chains_of_users_grow_one_by_one),
        TEST(test_a_log_and_its_state_move_together),
        TEST(test_numbers_of_a_room_never_go_back),
        TEST(test_an_encrypted_room_never_becomes_plain),
        TEST(test_a_name_finds_the_room_that_the_user_is_in),
        TEST(test_rooms_are_forgotten_until_they_are_put_again),
        TEST(test_what_was_learned_of_a_log_does_not_go_back),
        TEST(test_epoch_secrets_stay_what_they_were),
        TEST(test_drafts_are_kept_until_they_are_empty),
        TEST(test_the_outbox_keeps_order_and_bytes),
        TEST(test_a_message_waits_once),
        TEST(test_one_process_sends_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
