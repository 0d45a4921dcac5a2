// An encrypted room through a real server: sealed messages are published and chained, and what ends an epoch or a
// device ends what it may send.
#include "chat_server_support.h"
#include "people_support.h"

static struct person alice_person;
static struct person bob_person;
static struct e2e_room room_state; // as a client keeps it
static const uint8_t team_id[CHAT_ID_BYTES] = {0x7e, 0xa4};
static struct listener listener;

static const struct person *
person_of(uint8_t first_letter)
{
    return first_letter == 'a' ? &alice_person : first_letter == 'b' ? &bob_person : NULL;
}

// The store's threads ask while the test waits for its call.
static enum err
find_chain(void *context, struct store_tx *tx, const uint8_t user_id[16], struct e2e_user *out)
{
    (void)context;
    (void)tx;
    const struct person *person = person_of(user_id[0]);
    if (person == NULL) {
        return ERR_NOT_FOUND;
    }
    size_t size = person->chain.device_count * sizeof(*person->chain.devices);
    *out = person->chain;
    out->devices = malloc(size);
    assert_non_null(out->devices);
    memcpy(out->devices, person->chain.devices, size);
    return ERR_OK;
}

static enum err
find_user_name(void *context, struct store_tx *tx, const uint8_t user_id[16], char name_out[])
{
    (void)context;
    (void)tx;
    const struct person *person = person_of(user_id[0]);
    if (person == NULL) {
        return ERR_NOT_FOUND;
    }
    memcpy(name_out, person->name, strlen(person->name) + 1);
    return ERR_OK;
}

static enum err
find_user(void *context, struct store_tx *tx, const char *name, uint8_t id_out[16])
{
    (void)context;
    (void)tx;
    const struct person *person = person_of((uint8_t)name[0]);
    if (person == NULL || strcmp(person->name, name) != 0) {
        return ERR_NOT_FOUND;
    }
    memcpy(id_out, person->id, sizeof(person->id));
    return ERR_OK;
}

static enum err
lend_chain(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *why)
{
    (void)context;
    (void)why;
    const struct person *person = person_of(head->user_id.data[0]);
    *out = person == NULL ? NULL : &person->chain;
    return person == NULL ? ERR_NOT_FOUND : ERR_OK;
}

// finish gives the epoch's keys to both, signs as alice, and applies the entry at home.
static void
finish(Fc__E2e__V1__RoomEntry *entry, uint64_t epoch, struct signed_entry *out)
{
    static const uint8_t previous[E2E_SECRET_BYTES + E2E_SEAL_OVERHEAD_BYTES]; // opens nothing
    struct err_detail why = {0};
    entry_rekey(entry, epoch);
    if (epoch > 1) {
        entry->rekey->previous = heap_bytes(previous, sizeof(previous));
    }
    entry_give(entry, &alice_person, epoch);
    entry_give(entry, &bob_person, epoch);
    entry_sign(entry, &alice_person.devices[0], NULL, out);
    if (e2e_room_apply(&room_state, team_id, &out->wire, 0, lend_chain, NULL, &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
}

static void
make_encrypted_team(void)
{
    struct signed_entry entry;
    Fc__E2e__V1__RoomEntry *first = entry_new(&room_state, team_id, &alice_person);
    entry_create(first, "team", FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_add(first, &bob_person, FC__E2E__V1__ROLE__MEMBER, false);
    finish(first, 1, &entry);
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    request.name = lend_text("team");
    request.entry = &entry.wire;
    CALL(alice, create_room, &request);
    if (err != ERR_OK) {
        fail_msg("%s", call.status.detail.message);
    }
    rpc_unary_deinit(&call);
    signed_entry_deinit(&entry);
}

static int
setup(void **state)
{
    (void)state;
    if (make_folder() != 0) {
        return -1;
    }
    memset(&room_state, 0, sizeof(room_state));
    person_init(&alice_person, "alice");
    person_init(&bob_person, "bob");
    person_add_device(&bob_person);
    start(&(const struct chat_service_options){.find_chain = find_chain,
        .find_user = find_user,
        .find_user_name = find_user_name});
    make_encrypted_team();
    return 0;
}

static int
teardown_people(void **state)
{
    int result = teardown(state);
    e2e_room_deinit(&room_state);
    person_deinit(&alice_person);
    person_deinit(&bob_person);
    return result;
}

// What a sealed message is made with, and what came of it.
struct letter {
    struct rpc_channel *who;
    const struct person *person;
    size_t device;
    uint64_t epoch;
    uint64_t delete_seq;
    const char *text_beside; // of what is sealed
    struct rpc_status status;
    uint64_t seq;
    uint8_t chain[CHAT_HASH_BYTES];
};

static void
send_letter(struct letter *letter)
{
    static const uint8_t secret[E2E_SECRET_BYTES] = {1};
    struct bytes sealed = {0};
    struct rpc_unary call;
    rpc_unary_init(&call, letter->who, &fc__chat__v1__chat__descriptor);
    Fc__E2e__V1__Header header = FC__E2E__V1__HEADER__INIT;
    header.suite = E2E_SUITE;
    header.epoch = letter->epoch;
    header.room_id = lend(team_id, sizeof(team_id));
    header.user_id = lend(letter->person->id, E2E_ID_BYTES);
    header.device_id = lend(letter->person->devices[letter->device].id, E2E_ID_BYTES);
    header.message_id = lend(call.request_id, sizeof(call.request_id));
    header.log_head = room_state.state->head_hash;
    header.type = letter->delete_seq == 0 ? FC__E2E__V1__TYPE__MESSAGE : FC__E2E__V1__TYPE__DELETE;
    header.target_seq = letter->delete_seq;
    assert_int_equal(e2e_message_seal(&header, secret, letter->person->devices[letter->device].sign_private,
                         bytes_view_of("hi", 2), &sealed),
        ERR_OK);
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    request.room = lend_text("team");
    request.text = lend_text(letter->text_beside == NULL ? "" : letter->text_beside);
    request.sealed = lend(sealed.data, sealed.size);
    fc__chat__v1__chat__send(&call.service, &request, NULL, NULL);
    enum err err = rpc_unary_wait(&call);
    const Fc__Chat__V1__SendResponse *response = rpc_unary_response(&call);
    if (err == ERR_OK) {
        letter->seq = response->seq;
        assert_int_equal(response->chain.len, CHAT_HASH_BYTES);
        memcpy(letter->chain, response->chain.data, CHAT_HASH_BYTES);
    }
    letter->status = call.status;
    rpc_unary_deinit(&call);
    bytes_free(&sealed);
}

static void
expect_sent(struct letter letter, uint64_t seq)
{
    send_letter(&letter);
    assert_int_equal(letter.status.code, RPC_OK);
    assert_int_equal(letter.seq, seq);
}

static void
expect_refused(struct letter letter, enum rpc_code code, const char *reason)
{
    send_letter(&letter);
    assert_int_equal(letter.status.code, code);
    assert_string_equal(letter.status.reason, reason);
    assert_true(letter.status.detail.message[0] != '\0');
}

static void
test_sealed_messages_are_published_and_chained(void **state)
{
    (void)state;
    uint8_t chain[CHAT_HASH_BYTES] = {0};
    listen_to(bob, team, 1, &listener);
    struct letter letter = {.who = alice, .person = &alice_person, .epoch = 1};
    send_letter(&letter);
    assert_int_equal(letter.status.code, RPC_OK);
    expect_sent((struct letter){.who = bob, .person = &bob_person, .device = 1, .epoch = 1}, 2);
    WAIT_UNTIL(listener.count >= 2);
    assert_int_equal(listener.events[0].kind, FC__CHAT__V1__EVENT__KIND_MESSAGE);
    assert_true(listener.events[0].sealed_size > 0);
    assert_string_equal(listener.events[0].text, "");
    rpc_subscriber_free(&listener.subscriber);

    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    request.room = lend_text("team");
    CALL(bob, history, &request);
    assert_int_equal(err, ERR_OK);
    const Fc__Chat__V1__HistoryResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_messages, 2);
    assert_int_equal(response->log_seq, 1);
    for (size_t i = 0; i < response->n_messages; i++) {
        const Fc__Chat__V1__Message *message = response->messages[i];
        assert_int_equal(e2e_message_chain(chain, bytes_view_of(message->sealed.data, message->sealed.len), chain),
            ERR_OK);
        assert_int_equal(message->chain.len, sizeof(chain));
        assert_memory_equal(message->chain.data, chain, sizeof(chain));
    }
    rpc_unary_deinit(&call);
}

static void
test_only_sealed_messages_are_taken(void **state)
{
    (void)state;
    assert_int_equal(send_as(alice, "team", "readable", NULL), 0);
    expect_refused((struct letter){.who = alice, .person = &alice_person, .epoch = 1, .text_beside = "readable"},
        RPC_INVALID_ARGUMENT, "");
    expect_refused((struct letter){.who = bob, .person = &alice_person, .epoch = 1}, RPC_INVALID_ARGUMENT, "");
    // carol sees no such room, and cannot ask it for anything.
    expect_refused((struct letter){.who = carol, .person = &alice_person, .epoch = 1}, RPC_INVALID_ARGUMENT, "");
    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    request.room = lend_text("team");
    CALL(carol, history, &request);
    assert_int_equal(err, ERR_NOT_FOUND);
    rpc_unary_deinit(&call);
    expect_sent((struct letter){.who = bob, .person = &bob_person, .epoch = 1}, 1);
}

static void
test_new_epoch_ends_the_one_before(void **state)
{
    (void)state;
    struct signed_entry entry;
    expect_refused((struct letter){.who = alice, .person = &alice_person, .epoch = 2}, RPC_ABORTED, "EPOCH_STALE");
    expect_sent((struct letter){.who = alice, .person = &alice_person, .epoch = 1}, 1);
    listen_to(bob, team, 1, &listener);
    finish(entry_new(&room_state, team_id, &alice_person), 2, &entry);
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    request.room = lend_text("team");
    request.entry = &entry.wire;
    CALL(alice, amend, &request);
    if (err != ERR_OK) {
        fail_msg("%s", call.status.detail.message);
    }
    rpc_unary_deinit(&call);
    signed_entry_deinit(&entry);
    WAIT_UNTIL(count_locked(&listener, FC__CHAT__V1__EVENT__KIND_LOG_GROWN) == 1);
    assert_int_equal(listener.events[newest_locked(&listener, FC__CHAT__V1__EVENT__KIND_LOG_GROWN)].seq, 2);
    rpc_subscriber_free(&listener.subscriber);
    expect_refused((struct letter){.who = bob, .person = &bob_person, .epoch = 1}, RPC_ABORTED, "EPOCH_STALE");
    expect_sent((struct letter){.who = bob, .person = &bob_person, .epoch = 2}, 2);
}

struct revocation {
    struct store_job job;
    uint8_t user_id[CHAT_ID_BYTES];
};

static enum err
run_revocation(struct store_tx *tx, struct store_job *job)
{
    const struct revocation *revocation = (struct revocation *)job;
    return chat_service_device_revoked(chat, tx, revocation->user_id);
}

static void
test_revoked_device_sends_nothing_and_makes_others_rekey(void **state)
{
    (void)state;
    struct revocation revocation = {.job = {.run = run_revocation}, .user_id = {'b'}};
    expect_sent((struct letter){.who = bob, .person = &bob_person, .device = 1, .epoch = 1}, 1);
    person_revoke_device(&bob_person, 1);
    assert_int_equal(store_write_wait(store, &revocation.job), ERR_OK);
    expect_refused((struct letter){.who = bob, .person = &bob_person, .device = 1, .epoch = 1}, RPC_PERMISSION_DENIED,
        "");
    // The others' messages would be readable for it.
    expect_refused((struct letter){.who = bob, .person = &bob_person, .epoch = 1}, RPC_ABORTED, "EPOCH_STALE");
    expect_refused((struct letter){.who = alice, .person = &alice_person, .epoch = 1}, RPC_ABORTED, "EPOCH_STALE");
}

static void
test_deletion_by_an_admin(void **state)
{
    (void)state;
    expect_sent((struct letter){.who = bob, .person = &bob_person, .epoch = 1}, 1);
    expect_sent((struct letter){.who = alice, .person = &alice_person, .epoch = 1}, 2);
    expect_refused((struct letter){.who = bob, .person = &bob_person, .epoch = 1, .delete_seq = 2},
        RPC_PERMISSION_DENIED, "");
    expect_sent((struct letter){.who = alice, .person = &alice_person, .epoch = 1, .delete_seq = 1}, 3);
    Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
    request.room = lend_text("team");
    request.limit = 1;
    CALL(bob, history, &request);
    assert_int_equal(err, ERR_OK);
    const Fc__Chat__V1__HistoryResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_messages, 1);
    assert_true(response->messages[0]->is_deleted);
    assert_int_equal(response->messages[0]->sealed.len, 0);
    assert_int_equal(response->messages[0]->sealed_hash.len, CHAT_HASH_BYTES);
    rpc_unary_deinit(&call);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown_people)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sealed_messages_are_published_and_chained),
        TEST(test_only_sealed_messages_are_taken),
        TEST(test_new_epoch_ends_the_one_before),
        TEST(test_revoked_device_sends_nothing_and_makes_others_rekey),
        TEST(test_deletion_by_an_admin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
