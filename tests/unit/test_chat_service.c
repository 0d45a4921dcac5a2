// The Chat service on a real server and store: what is published to whom, and when it stops.
#include <sched.h>

#include "chat_server_support.h"

enum {
    SENDERS = 3,
    SENT_BY_EACH = 40,
};

static const struct chat_service_options no_options;

static int
setup(void **state)
{
    (void)state;
    if (make_folder() != 0) {
        return -1;
    }
    start(&no_options);
    return 0;
}

static struct listener first;
static struct listener second;

static void
test_messages_reach_every_listener_in_order(void **state)
{
    (void)state;
    create(alice, "team");
    join_room(bob, "team");
    assert_int_equal(send_as(alice, "team", "before", NULL), 1);
    assert_int_equal(listen_to(alice, team, 1, &first), 1);
    assert_int_equal(listen_to(bob, team, 1, &second), 1);
    assert_int_equal(send_as(alice, "team", "hello", NULL), 2);
    assert_int_equal(send_as(bob, "team", "hi", NULL), 3);
    WAIT_UNTIL(first.count == 2 && second.count == 2);
    for (struct listener *listener = &first; listener != NULL; listener = listener == &first ? &second : NULL) {
        assert_int_equal(listener->events[0].kind, FC__CHAT__V1__EVENT__KIND_MESSAGE);
        assert_int_equal(listener->events[0].seq, 2);
        assert_string_equal(listener->events[0].text, "hello");
        assert_int_equal(listener->events[1].seq, 3);
    }
    rpc_subscriber_free(&first.subscriber);
    rpc_subscriber_free(&second.subscriber);
}

static void
test_resend_is_published_once_also_after_a_restart(void **state)
{
    (void)state;
    static const uint8_t request_id[RPC_REQUEST_ID_BYTES] = {5};
    create(alice, "team");
    listen_to(alice, team, 1, &first);
    assert_int_equal(send_as(alice, "team", "once", request_id), 1);
    assert_int_equal(send_as(alice, "team", "once", request_id), 1);
    assert_int_equal(send_as(alice, "team", "next", NULL), 2);
    WAIT_UNTIL(first.count >= 2);
    assert_int_equal(first.events[1].seq, 2);
    rpc_subscriber_free(&first.subscriber);
    stop();
    start(&no_options);
    listen_to(alice, team, 1, &first);
    assert_int_equal(send_as(alice, "team", "once", request_id), 1);
    assert_int_equal(send_as(alice, "team", "third", NULL), 3);
    WAIT_UNTIL(first.count >= 1);
    assert_int_equal(first.events[0].seq, 3);
    rpc_subscriber_free(&first.subscriber);
}

static void
test_leaving_ends_delivery_before_the_answer(void **state)
{
    (void)state;
    create(alice, "team");
    join_room(bob, "team");
    listen_to(bob, team, 1, &first);
    assert_int_equal(send_as(alice, "team", "seen", NULL), 1);
    WAIT_UNTIL(first.count == 1);
    leave_room(bob, "team");
    assert_int_equal(send_as(alice, "team", "secret", NULL), 2);
    WAIT_UNTIL(first.count >= 2);
    assert_int_equal(first.events[1].kind, FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED);
    // Joining again does not revive the old subscription.
    join_room(bob, "team");
    listen_to(bob, team, 1, &second);
    assert_int_equal(send_as(alice, "team", "again", NULL), 3);
    WAIT_UNTIL(second.count == 1);
    assert_int_equal(first.count, 2);
    rpc_subscriber_free(&first.subscriber);
    rpc_subscriber_free(&second.subscriber);
}

static void
test_what_waited_when_the_membership_ended_is_not_delivered(void **state)
{
    (void)state;
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    uint64_t head_seq;
    struct err_detail why = {0};
    create(alice, "team");
    join_room(bob, "team");
    assert_int_equal(get_ticket(bob, team, 1, ticket, &head_seq, &why), ERR_OK);
    // It waits for bob's connection, and bob leaves before that comes.
    assert_int_equal(send_as(alice, "team", "secret", NULL), 1);
    leave_room(bob, "team");
    memset(&first, 0, sizeof(first));
    assert_int_equal(rpc_subscriber_new(url, NULL, ticket, &handlers, &first, &first.subscriber, &why), ERR_OK);
    WAIT_UNTIL(first.count >= 1);
    assert_int_equal(first.events[0].kind, FC__CHAT__V1__EVENT__KIND_MEMBERSHIP_ENDED);
    rpc_subscriber_free(&first.subscriber);
}

static void
test_outsiders_get_no_ticket(void **state)
{
    (void)state;
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    uint64_t head_seq;
    struct err_detail why = {0};
    static const char *const mixed[] = {"bobs", "team"};
    static const char *const unknown[] = {"nowhere"};
    create(alice, "team");
    create(bob, "bobs");
    assert_int_equal(get_ticket(bob, mixed, 2, ticket, &head_seq, &why), ERR_DENIED);
    assert_string_equal(why.message, "you are not in \"team\"; fc join team");
    assert_int_equal(get_ticket(bob, unknown, 1, ticket, &head_seq, &why), ERR_NOT_FOUND);
    assert_int_equal(get_ticket(bob, unknown, 0, ticket, &head_seq, &why), ERR_INVALID);
}

static void
test_one_subscription_carries_several_rooms_and_none_twice(void **state)
{
    (void)state;
    static const char *const rooms[] = {"team", "other", "team"};
    create(alice, "team");
    create(alice, "other");
    listen_to(alice, rooms, 3, &first);
    assert_int_equal(send_as(alice, "team", "one", NULL), 1);
    assert_int_equal(send_as(alice, "other", "two", NULL), 1);
    assert_int_equal(send_as(alice, "team", "three", NULL), 2);
    WAIT_UNTIL(first.count >= 3);
    rpc_subscriber_free(&first.subscriber);
    assert_int_equal(first.count, 3);
}

static void
test_encrypted_rooms_are_refused_with_advice(void **state)
{
    (void)state;
    struct err_detail why = {0};
    assert_int_equal(create_room(alice, "team", false, &why), ERR_PRECONDITION);
    assert_non_null(strstr(why.message, "--plain"));
}

static void
test_number_of_subscriptions_is_bounded(void **state)
{
    (void)state;
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    uint64_t head_seq;
    struct err_detail why = {0};
    create(alice, "team");
    join_room(bob, "team");
    for (int i = 0; i < CHAT_SUBSCRIPTIONS_PER_USER_MAX; i++) {
        assert_int_equal(get_ticket(alice, team, 1, ticket, &head_seq, &why), ERR_OK);
    }
    assert_int_equal(get_ticket(alice, team, 1, ticket, &head_seq, &why), ERR_LIMIT);
    assert_int_equal(get_ticket(bob, team, 1, ticket, &head_seq, &why), ERR_OK);
}

static void *
send_many(void *context)
{
    uint64_t *sent = context;
    for (int i = 0; i < SENT_BY_EACH; i++) {
        *sent += send_as(alice, "team", "hello", NULL) == 0 ? 0 : 1;
    }
    return NULL;
}

static void
test_concurrent_messages_are_published_in_order(void **state)
{
    (void)state;
    pthread_t threads[SENDERS];
    uint64_t sent[SENDERS] = {0};
    create(alice, "team");
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &sent[i]), 0);
    }
    // Subscribing in the middle: everything after head_seq comes.
    uint64_t head_seq = listen_to(alice, team, 1, &first);
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(sent[i], SENT_BY_EACH);
    }
    WAIT_UNTIL(first.count > 0 && first.events[first.count - 1].seq == SENDERS * SENT_BY_EACH);
    assert_true(first.events[0].seq <= head_seq + 1);
    for (size_t i = 1; i < first.count; i++) {
        assert_int_equal(first.events[i].seq, first.events[i - 1].seq + 1);
    }
    rpc_subscriber_free(&first.subscriber);
}

static void
test_heartbeats_tell_the_head(void **state)
{
    (void)state;
    struct chat_fanout *fanout = NULL;
    struct chat_subscription *subscription = NULL;
    struct rpc_identity identity = {.expires_unix_ms = INT64_MAX};
    struct chat_room room = {.id = {1}, .head_seq = 41};
    struct err_detail why = {0};
    memset(&first, 0, sizeof(first));
    assert_int_equal(chat_fanout_new(server, 10, &fanout), ERR_OK);
    assert_int_equal(chat_fanout_open(fanout, &identity, &room, 1, &subscription, &why), ERR_OK);
    assert_int_equal(rpc_subscriber_new(url, NULL, chat_subscription_ticket(subscription), &handlers, &first,
                         &first.subscriber, &why),
        ERR_OK);
    chat_subscription_release(subscription);
    WAIT_UNTIL(first.count >= 2);
    assert_int_equal(first.events[0].kind, FC__CHAT__V1__EVENT__KIND_HEARTBEAT);
    assert_int_equal(first.events[0].seq, 41);
    chat_fanout_note_heads(fanout, room.id, 42, 3);
    chat_fanout_note_heads(fanout, room.id, 7, 2); // an older reading
    WAIT_UNTIL(first.events[first.count - 1].seq == 42);
    chat_fanout_stop(fanout);
    WAIT_UNTIL(first.is_closed);
    rpc_subscriber_free(&first.subscriber);
    // The fanout goes after the server.
    stop();
    chat_fanout_free(&fanout);
    start(&no_options);
}

static void
test_ended_session_ends_its_subscriptions_only(void **state)
{
    (void)state;
    static const uint8_t session_id[16] = {'b'};
    create(alice, "team");
    join_room(bob, "team");
    listen_to(alice, team, 1, &first);
    listen_to(bob, team, 1, &second);
    chat_service_end_session(chat, session_id);
    WAIT_UNTIL(second.is_closed);
    assert_int_equal(send_as(alice, "team", "hello", NULL), 1);
    WAIT_UNTIL(first.count == 1);
    assert_false(first.is_closed);
    assert_int_equal(second.count, 0);
    rpc_subscriber_free(&first.subscriber);
    rpc_subscriber_free(&second.subscriber);
}

struct blocker {
    struct store_job job;
    bool is_freed;
};

// Keeps the writer until the service has been freed, which with a change in the queue it must not be: then not for
// long.
static enum err
block_writer(struct store_tx *tx, struct store_job *job)
{
    struct blocker *blocker = (struct blocker *)job;
    struct timespec until;
    (void)tx;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&mutex);
    while (!blocker->is_freed && pthread_cond_timedwait(&changed, &mutex, &until) == 0) {
    }
    pthread_mutex_unlock(&mutex);
    return ERR_OK;
}

static void
unblock_done(struct store_job *job, enum err result)
{
    (void)job;
    (void)result;
}

// ctest ends it if it never comes.
static void
wait_for_operations(size_t count)
{
    bool is_there = false;
    while (!is_there) {
        pthread_mutex_lock(&chat->mutex);
        is_there = chat->locked.operations == count;
        pthread_mutex_unlock(&chat->mutex);
        sched_yield();
    }
}

static void
test_free_waits_for_a_message_in_the_store_queue(void **state)
{
    (void)state;
    static struct blocker blocker;
    struct rpc_unary call;
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    char room[] = "team";
    char text[] = "late";
    create(alice, "team");
    wait_for_operations(0); // it is counted a little longer than its caller waits
    blocker = (struct blocker){.job = {.run = block_writer, .done = unblock_done}};
    store_write(store, &blocker.job);
    request.room = room;
    request.text = text;
    rpc_unary_init(&call, alice, &fc__chat__v1__chat__descriptor);
    fc__chat__v1__chat__send(&call.service, &request, NULL, NULL);
    wait_for_operations(1);
    chat_service_stop(chat);
    rpc_server_free(&server);
    chat_service_free(&chat);
    pthread_mutex_lock(&mutex);
    blocker.is_freed = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    enum err err = rpc_unary_wait(&call);
    assert_true(err == ERR_OK || err == ERR_UNAVAILABLE);
    rpc_unary_deinit(&call);
    disconnect();
    store_close(&store);
    start(&no_options);
    // It was in the queue, so it was made.
    assert_int_equal(send_as(alice, "team", "next", NULL), 2);
}

static void
test_expired_token_ends_its_subscription(void **state)
{
    (void)state;
    struct chat_fanout *fanout = NULL;
    struct chat_subscription *subscription = NULL;
    struct rpc_identity identity = {.expires_unix_ms = 1};
    struct chat_room room = {.id = {1}};
    struct err_detail why = {0};
    memset(&first, 0, sizeof(first));
    assert_int_equal(chat_fanout_new(server, 200, &fanout), ERR_OK);
    assert_int_equal(chat_fanout_open(fanout, &identity, &room, 1, &subscription, &why), ERR_OK);
    assert_int_equal(rpc_subscriber_new(url, NULL, chat_subscription_ticket(subscription), &handlers, &first,
                         &first.subscriber, &why),
        ERR_OK);
    chat_subscription_release(subscription);
    WAIT_UNTIL(first.is_closed);
    rpc_subscriber_free(&first.subscriber);
    chat_fanout_stop(fanout);
    stop();
    chat_fanout_free(&fanout);
    start(&no_options);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_messages_reach_every_listener_in_order),
        TEST(test_resend_is_published_once_also_after_a_restart),
        TEST(test_leaving_ends_delivery_before_the_answer),
        TEST(test_what_waited_when_the_membership_ended_is_not_delivered),
        TEST(test_outsiders_get_no_ticket),
        TEST(test_one_subscription_carries_several_rooms_and_none_twice),
        TEST(test_encrypted_rooms_are_refused_with_advice),
        TEST(test_number_of_subscriptions_is_bounded),
        TEST(test_concurrent_messages_are_published_in_order),
        TEST(test_heartbeats_tell_the_head),
        TEST(test_ended_session_ends_its_subscriptions_only),
        TEST(test_free_waits_for_a_message_in_the_store_queue),
        TEST(test_expired_token_ends_its_subscription),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
