// Encrypted rooms over the wire: entries that their authors sign, what the server refuses of them, and who is told.
#include <pthread.h>
#include <time.h>

#include "rpc/rpc_subscriber.h"
#include "tests/unit/rooms_support.h"

// Every room of these tests has the same id, which is client's choice.
static const uint8_t room_id[CHAT_ID_BYTES] = {0x40, 0x01};
static const char room_text[] = "40010000000000000000000000000000";

static struct e2e_room room; // as a client sees it, who has read the log
static struct e2e_keys link_keys;

static enum err
lend_chain(void *context, const Fc__E2e__V1__UserHead *head, const struct e2e_user **out, struct err_detail *detail)
{
    (void)context;
    (void)detail;
    for (size_t i = 0; i < PEOPLE; i++) {
        if (memcmp(people[i].id, head->user_id.data, CHAT_ID_BYTES) == 0) {
            *out = &people[i].chain;
            return ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

// read_log brings `room` up to date as `who`, verifying all of it.
static void
read_log(int who)
{
    assert_int_equal(get_log(who, room_text, NULL, room.state == NULL ? 0 : room.state->seq), ERR_OK);
    const Fc__Chat__V1__GetLogResponse *response = rpc_unary_response(&call);
    for (size_t i = 0; i < response->n_entries; i++) {
        if (e2e_room_apply(&room, room_id, response->entries[i], 0, lend_chain, NULL, &why) != ERR_OK) {
            fail_msg("%s", why.message);
        }
    }
    assert_int_equal(room.state->seq, response->head_seq);
}

static Fc__E2e__V1__RoomEntry *
entry_by(int who)
{
    return entry_new(&room, room_id, &people[who]);
}

static Fc__E2e__V1__RoomEntry *
small_entry_by(int who)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(who);
    entry_head(entry, &people[who]);
    return entry;
}

static void
rekey_for(Fc__E2e__V1__RoomEntry *entry, const char *initials)
{
    uint64_t epoch = room.state == NULL ? 1 : room.state->epoch + 1;
    entry_rekey(entry, epoch);
    for (; *initials != '\0'; initials++) {
        entry_give(entry, &people[*initials - 'a'], epoch);
    }
}

static enum err
create_by(int who, Fc__E2e__V1__RoomEntry *entry)
{
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    struct signed_entry wire;
    entry_sign(entry, &people[who].devices[0], NULL, &wire);
    request.entry = &wire.wire;
    enum err err = CALL(who, create_room, &request);
    signed_entry_deinit(&wire);
    return err;
}

static enum err
amend_by(int who, Fc__E2e__V1__RoomEntry *entry)
{
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    struct signed_entry wire;
    entry_sign(entry, &people[who].devices[0], NULL, &wire);
    request.entry = &wire.wire;
    enum err err = amend(who, room_text, &request);
    signed_entry_deinit(&wire);
    return err;
}

static enum err
join_by(int who, Fc__E2e__V1__RoomEntry *entry, const struct e2e_keys *link)
{
    Fc__Chat__V1__JoinRequest request = FC__CHAT__V1__JOIN_REQUEST__INIT;
    struct signed_entry wire;
    entry_sign(entry, &people[who].devices[0], link, &wire);
    request.entry = &wire.wire;
    request.room = text(link == NULL ? room_text : "");
    request.link_id = lend(link == NULL ? NULL : link->id, link == NULL ? 0 : CHAT_ID_BYTES);
    enum err err = CALL(who, join, &request);
    signed_entry_deinit(&wire);
    return err;
}

static enum err
leave_by(int who, Fc__E2e__V1__RoomEntry *entry)
{
    struct signed_entry wire;
    entry_sign(entry, &people[who].devices[0], NULL, &wire);
    enum err err = leave(who, room_text, &wire.wire);
    signed_entry_deinit(&wire);
    return err;
}

static Fc__E2e__V1__RoomEntry *
create_entry(const char *name)
{
    Fc__E2e__V1__RoomEntry *entry = entry_by(ALICE);
    entry_create(entry, name, FC__E2E__V1__ROOM_KIND__PRIVATE, FC__E2E__V1__HISTORY__HISTORY_ALL, false);
    entry_add(entry, &people[BOB], FC__E2E__V1__ROLE__MEMBER, false);
    rekey_for(entry, "ab");
    return entry;
}

static int
setup_room(void **state)
{
    setup(state);
    assert_int_equal(create_by(ALICE, create_entry("secrets")), ERR_OK);
    read_log(ALICE);
    return 0;
}

static int
teardown_room(void **state)
{
    e2e_room_deinit(&room);
    return teardown(state);
}

static Fc__E2e__V1__RoomEntry *
topic_by(int who, const char *topic)
{
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(who);
    entry_change(entry, FC__E2E__V1__ROOM_CHANGE__KIND_SET_TOPIC)->set_topic = heap_text(topic);
    return entry;
}

// --- Entries -------------------------------------------------------------------------------------------------------

static void
test_signed_entry_makes_a_room(void **state)
{
    (void)state;
    assert_int_equal(get_room(BOB, "secrets"), ERR_OK);
    const Fc__Chat__V1__GetRoomResponse *response = rpc_unary_response(&call);
    assert_memory_equal(response->room->id.data, room_id, CHAT_ID_BYTES);
    assert_false(response->room->is_plain);
    assert_int_equal(response->room->log_seq, 1);
    assert_int_equal(response->room->log_hash.len, E2E_HASH_BYTES);
    assert_memory_equal(response->room->log_hash.data, room.state->head_hash.data, E2E_HASH_BYTES);
    assert_int_equal(response->n_members, 2);
    assert_int_equal(get_room(DAVE, "secrets"), ERR_NOT_FOUND);
    assert_int_equal(get_log(DAVE, room_text, NULL, 0), ERR_NOT_FOUND);
}

static void
test_room_is_refused_when_its_entry_is_wrong(void **state)
{
    (void)state;
    Fc__Chat__V1__CreateRoomRequest request = FC__CHAT__V1__CREATE_ROOM_REQUEST__INIT;
    struct signed_entry wire;
    e2e_room_deinit(&room);
    // The same id, or the same name, once more.
    assert_int_equal(create_by(ALICE, create_entry("others")), ERR_EXISTS);
    Fc__E2e__V1__RoomEntry *entry = create_entry("secrets");
    entry->room_id.data[2] ^= 1;
    assert_int_equal(create_by(ALICE, entry), ERR_EXISTS);
    // By somebody else.
    entry = create_entry("others");
    entry->room_id.data[2] ^= 1;
    entry_sign(entry, &people[ALICE].devices[0], NULL, &wire);
    request.entry = &wire.wire;
    assert_int_equal(CALL(DAVE, create_room, &request), ERR_INVALID);
    expect_why("another user");
    // A forged signature.
    wire.signature[0] ^= 1;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_INVALID);
    expect_why("not signed by the device");
    wire.signature[0] ^= 1;
    // Plain and signed.
    request.is_plain = true;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_INVALID);
    request.is_plain = false;
    wire.wire.body.len--;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_INVALID);
    wire.wire.body.len++;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_OK);
    is_resend = true;
    assert_int_equal(CALL(ALICE, create_room, &request), ERR_OK);
    signed_entry_deinit(&wire);
}

static void
test_entries_go_in_one_after_the_other(void **state)
{
    (void)state;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    Fc__E2e__V1__RoomEntry *late = topic_by(ALICE, "second");
    assert_int_equal(amend_by(ALICE, topic_by(ALICE, "first")), ERR_OK);
    assert_int_equal(amend_by(ALICE, late), ERR_CONFLICT);
    expect_why("try again");
    read_log(BOB);
    assert_string_equal(room.state->topic, "first");
    assert_int_equal(amend_by(BOB, topic_by(BOB, "mine")), ERR_DENIED);
    // Someone else's entry; what is asked for beside the entry; no entry.
    struct signed_entry wire;
    entry_sign(topic_by(ALICE, "third"), &people[ALICE].devices[0], NULL, &wire);
    request.entry = &wire.wire;
    assert_int_equal(amend(BOB, room_text, &request), ERR_INVALID);
    request.archive = true;
    assert_int_equal(amend(ALICE, room_text, &request), ERR_INVALID);
    request.archive = false;
    assert_int_equal(amend(ALICE, room_text, &request), ERR_OK);
    is_resend = true;
    assert_int_equal(amend(ALICE, room_text, &request), ERR_OK);
    signed_entry_deinit(&wire);
    assert_int_equal(set_topic(ALICE, room_text, "fourth"), ERR_PRECONDITION);
    expect_why("encrypted");
    read_log(BOB);
    assert_string_equal(room.state->topic, "third");
    assert_int_equal(amend_by(DAVE, topic_by(DAVE, "mine")), ERR_NOT_FOUND);
    // A plain room takes no entries.
    assert_int_equal(create_plain(ALICE, "hall", FC__E2E__V1__ROOM_KIND__PUBLIC, NULL), ERR_OK);
    entry_sign(topic_by(ALICE, "third"), &people[ALICE].devices[0], NULL, &wire);
    request.entry = &wire.wire;
    assert_int_equal(amend(ALICE, "hall", &request), ERR_INVALID);
    assert_int_equal(join(BOB, "hall", &wire.wire), ERR_INVALID);
    signed_entry_deinit(&wire);
}

static void
test_rekey_has_to_know_the_newest_devices(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = entry_by(BOB);
    rekey_for(entry, "ab");
    person_add_device(&people[ALICE]);
    assert_int_equal(amend_by(BOB, entry), ERR_CONFLICT);
    expect_why("other devices");
    entry = entry_by(BOB);
    rekey_for(entry, "ab");
    assert_int_equal(amend_by(BOB, entry), ERR_OK);
    // Somebody without keys.
    entry = small_entry_by(ALICE);
    struct person nobody = {.id = {0xee}, .name = "nobody"};
    entry->seq++;
    free(entry->prev_hash.data);
    read_log(ALICE);
    entry->prev_hash = heap_bytes(room.state->head_hash.data, E2E_HASH_BYTES);
    entry->seq = room.state->seq + 1;
    entry_add(entry, &nobody, FC__E2E__V1__ROLE__MEMBER, false);
    entry_head(entry, &nobody);
    entry->heads[1]->seq = 1;
    assert_int_equal(amend_by(ALICE, entry), ERR_INVALID);
    expect_why("no keys");
}

static void
test_members_come_and_go_by_entries(void **state)
{
    (void)state;
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(ALICE);
    entry_add(entry, &people[DAVE], FC__E2E__V1__ROLE__MEMBER, true);
    entry_give(entry, &people[DAVE], 1);
    assert_int_equal(amend_by(ALICE, entry), ERR_OK);
    read_log(DAVE); // who is invited
    assert_int_equal(member_role(DAVE, room_text, "dave"), 100 + FC__E2E__V1__ROLE__MEMBER);
    assert_int_equal(join(DAVE, room_text, NULL), ERR_PRECONDITION);
    // An entry that does something else.
    entry = small_entry_by(DAVE);
    entry_remove(entry, &people[DAVE]);
    assert_int_equal(join_by(DAVE, entry, NULL), ERR_INVALID);
    expect_why("does not make its author a member");
    entry = small_entry_by(DAVE);
    entry_accept(entry);
    assert_int_equal(leave_by(DAVE, entry), ERR_INVALID);
    entry = small_entry_by(DAVE);
    entry_accept(entry);
    assert_int_equal(join_by(DAVE, entry, NULL), ERR_OK);
    assert_int_equal(join(DAVE, room_text, NULL), ERR_OK); // is in it already
    read_log(BOB);
    assert_int_equal(leave(BOB, room_text, NULL), ERR_PRECONDITION);
    entry = small_entry_by(BOB);
    entry_remove(entry, &people[BOB]);
    assert_int_equal(leave_by(BOB, entry), ERR_OK);
    assert_int_equal(get_room(BOB, room_text), ERR_NOT_FOUND);
    read_log(DAVE);
    assert_true(room.state->is_rekey_needed);
    entry = small_entry_by(ALICE);
    entry_remove(entry, &people[ALICE]);
    assert_int_equal(leave_by(ALICE, entry), ERR_PRECONDITION);
    entry = entry_by(ALICE);
    entry_remove(entry, &people[DAVE]);
    rekey_for(entry, "a");
    assert_int_equal(amend_by(ALICE, entry), ERR_OK);
    assert_int_equal(get_log(DAVE, room_text, NULL, 0), ERR_NOT_FOUND);
}

static void
test_who_has_a_link_joins_by_entry(void **state)
{
    (void)state;
    Fc__Chat__V1__AmendRequest request = FC__CHAT__V1__AMEND_REQUEST__INIT;
    struct signed_entry wire;
    assert_int_equal(e2e_keys_generate(&link_keys), ERR_OK);
    Fc__E2e__V1__RoomEntry *entry = small_entry_by(ALICE);
    entry_add_link(entry, &link_keys, FC__E2E__V1__ROLE__MEMBER)->max_uses = 1;
    entry_wrap(entry, link_keys.id, 1);
    entry_sign(entry, &people[ALICE].devices[0], NULL, &wire);
    request.entry = &wire.wire;
    request.link_info = lend("sealed", 6);
    assert_int_equal(amend(ALICE, room_text, &request), ERR_OK);
    signed_entry_deinit(&wire);
    read_log(BOB);
    assert_int_equal(get_log(DAVE, "", link_keys.id, 0), ERR_OK);
    for (int try = 0; try < 2; try++) {
        entry = entry_by(DAVE);
        entry_join_by_link(entry, &link_keys, &people[DAVE]);
        entry_give(entry, &people[DAVE], 1);
        if (try == 0) { // without the link's signature
            entry_sign(entry, &people[DAVE].devices[0], NULL, &wire);
            Fc__Chat__V1__JoinRequest joining = FC__CHAT__V1__JOIN_REQUEST__INIT;
            joining.entry = &wire.wire;
            joining.link_id = lend(link_keys.id, CHAT_ID_BYTES);
            assert_int_equal(CALL(DAVE, join, &joining), ERR_INVALID);
            signed_entry_deinit(&wire);
        } else {
            assert_int_equal(join_by(DAVE, entry, &link_keys), ERR_OK);
        }
    }
    assert_int_equal(member_role(DAVE, room_text, "dave"), FC__E2E__V1__ROLE__MEMBER);
    read_log(DAVE);
    entry = entry_by(CAROL);
    entry_join_by_link(entry, &link_keys, &people[CAROL]);
    entry_give(entry, &people[CAROL], 1);
    assert_int_equal(join_by(CAROL, entry, &link_keys), ERR_DENIED);
    expect_why("used as often");
}

static enum err
run_revoked(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    return chat_service_device_revoked(chat, tx, people[BOB].id);
}

// What the server's own state says, which is for its gate to messages.
static enum err
run_read_state(struct store_tx *tx, void *context)
{
    return chat_log_read_state(tx, room_id, context);
}

static bool
is_rekey_needed(void)
{
    struct e2e_room kept = {0};
    assert_int_equal(store_read(store, run_read_state, &kept), ERR_OK);
    bool is_needed = kept.state->is_rekey_needed;
    e2e_room_deinit(&kept);
    return is_needed;
}

static void
test_ended_device_asks_for_a_rekey(void **state)
{
    (void)state;
    struct store_job job = {.run = run_revoked};
    person_add_device(&people[BOB]);
    person_revoke_device(&people[BOB], 0);
    assert_false(is_rekey_needed());
    assert_int_equal(store_write_wait(store, &job), ERR_OK);
    assert_true(is_rekey_needed());
    // Other entries do not settle it.
    assert_int_equal(amend_by(ALICE, topic_by(ALICE, "x")), ERR_OK);
    assert_true(is_rekey_needed());
    read_log(ALICE);
    Fc__E2e__V1__RoomEntry *entry = entry_by(ALICE);
    rekey_for(entry, "ab");
    assert_int_equal(amend_by(ALICE, entry), ERR_OK);
    read_log(ALICE);
    assert_int_equal(room.state->epoch, 2);
    assert_false(is_rekey_needed());
    // Twice, and for somebody in no room, is no error.
    assert_int_equal(store_write_wait(store, &job), ERR_OK);
    assert_int_equal(store_write_wait(store, &job), ERR_OK);
}

// --- Who is told ---------------------------------------------------------------------------------------------------

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct listener {
    struct rpc_subscriber *subscriber;
    uint64_t log_seq;
    bool is_over;
};

static void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    struct listener *listener = context;
    (void)topic;
    Fc__Chat__V1__EventBatch *batch = fc__chat__v1__event_batch__unpack(NULL, payload.size, payload.data);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; batch != NULL && i < batch->n_events; i++) {
        if (batch->events[i]->kind_case == FC__CHAT__V1__EVENT__KIND_LOG_GROWN) {
            assert_false(listener->is_over);
            listener->log_seq = batch->events[i]->log_grown->log_seq;
        } else if (batch->events[i]->kind_case == FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED) {
            listener->is_over = true;
        }
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    fc__chat__v1__event_batch__free_unpacked(batch, NULL);
}

static void
on_closed(void *context, enum err reason)
{
    (void)context;
    (void)reason;
}

static void
listen_to(int who, const char *name, struct listener *listener)
{
    static const struct rpc_subscriber_handlers handlers = {.on_event = on_event, .on_closed = on_closed};
    Fc__Chat__V1__SubscribeRequest request = FC__CHAT__V1__SUBSCRIBE_REQUEST__INIT;
    char *names[] = {text(name)};
    *listener = (struct listener){.is_over = false};
    request.n_rooms = 1;
    request.rooms = names;
    assert_int_equal(CALL(who, subscribe, &request), ERR_OK);
    const Fc__Chat__V1__SubscribeResponse *response = rpc_unary_response(&call);
    assert_int_equal(rpc_subscriber_new(url, NULL, response->ticket, &handlers, listener, &listener->subscriber, &why),
        ERR_OK);
}

// Waits under the mutex until condition holds.
#define WAIT_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");                                                           \
        struct timespec until;                                                                                         \
        clock_gettime(CLOCK_REALTIME, &until);                                                                         \
        until.tv_sec += 10 * (scale == NULL ? 1 : atoi(scale));                                                        \
        pthread_mutex_lock(&mutex);                                                                                    \
        while (!(condition)) {                                                                                         \
            if (pthread_cond_timedwait(&changed, &mutex, &until) != 0) {                                               \
                pthread_mutex_unlock(&mutex);                                                                          \
                fail_msg("waited in vain for %s", #condition);                                                         \
            }                                                                                                          \
        }                                                                                                              \
        pthread_mutex_unlock(&mutex);                                                                                  \
    } while (0)

static void
test_removal_ends_delivery_and_others_hear_of_the_log(void **state)
{
    (void)state;
    struct listener alices;
    struct listener bobs;
    listen_to(ALICE, room_text, &alices);
    listen_to(BOB, room_text, &bobs);
    assert_int_equal(amend_by(ALICE, topic_by(ALICE, "x")), ERR_OK);
    WAIT_UNTIL(alices.log_seq == 2 && bobs.log_seq == 2);
    read_log(ALICE);
    Fc__E2e__V1__RoomEntry *entry = entry_by(ALICE);
    entry_remove(entry, &people[BOB]);
    rekey_for(entry, "a");
    assert_int_equal(amend_by(ALICE, entry), ERR_OK);
    WAIT_UNTIL(alices.log_seq == 3 && bobs.is_over);
    read_log(ALICE);
    assert_int_equal(amend_by(ALICE, topic_by(ALICE, "y")), ERR_OK);
    WAIT_UNTIL(alices.log_seq == 4);
    rpc_subscriber_free(&alices.subscriber);
    rpc_subscriber_free(&bobs.subscriber);
    assert_int_equal(bobs.log_seq, 2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup_room, teardown_room)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_signed_entry_makes_a_room),
        TEST(test_room_is_refused_when_its_entry_is_wrong),
        TEST(test_entries_go_in_one_after_the_other),
        TEST(test_rekey_has_to_know_the_newest_devices),
        TEST(test_members_come_and_go_by_entries),
        TEST(test_who_has_a_link_joins_by_entry),
        TEST(test_ended_device_asks_for_a_rekey),
        TEST(test_removal_ends_delivery_and_others_hear_of_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
