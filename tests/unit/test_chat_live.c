// What the Chat service tells those who follow a room beside its messages: who writes, who is there, how far one has
// read; and the methods around it, through a real server.
#include "base/clock.h"
#include "chat_server_support.h"

#define MESSAGE FC__CHAT__V1__EVENT__KIND_MESSAGE
#define HEARTBEAT FC__CHAT__V1__EVENT__KIND_HEARTBEAT
#define TYPING FC__CHAT__V1__EVENT__KIND_TYPING
#define PRESENCE FC__CHAT__V1__EVENT__KIND_PRESENCE_CHANGED
#define READ_MOVED FC__CHAT__V1__EVENT__KIND_READ_MOVED
#define LOG_GROWN FC__CHAT__V1__EVENT__KIND_LOG_GROWN

static struct listener first;
static struct listener second;
static struct listener third;

// alice makes the room "team", and bob joins it.
static void
make_team(void)
{
    create(alice, "team");
    join_room(bob, "team");
}

static void
listen_with(const char *ticket, struct listener *listener)
{
    struct err_detail why = {0};
    memset(listener, 0, sizeof(*listener));
    assert_int_equal(rpc_subscriber_new(url, NULL, ticket, &handlers, listener, &listener->subscriber, &why), ERR_OK);
}

static int
setup(void **state)
{
    (void)state;
    if (make_folder() != 0) {
        return -1;
    }
    start(&(const struct chat_service_options){0});
    make_team();
    return 0;
}

static int
setup_with_limit(void **state)
{
    (void)state;
    if (make_folder() != 0) {
        return -1;
    }
    start(&(const struct chat_service_options){.sends_per_second = 1});
    make_team();
    return 0;
}

static enum err
type_in_team(struct rpc_channel *who)
{
    Fc__Chat__V1__TypingRequest request = FC__CHAT__V1__TYPING_REQUEST__INIT;
    request.room = lend_text("team");
    CALL(who, typing, &request);
    rpc_unary_deinit(&call);
    return err;
}

static enum err
mark_read(struct rpc_channel *who, uint64_t seq, uint64_t *read_seq_out)
{
    Fc__Chat__V1__MarkReadRequest request = FC__CHAT__V1__MARK_READ_REQUEST__INIT;
    request.room = lend_text("team");
    request.seq = seq;
    CALL(who, mark_read, &request);
    const Fc__Chat__V1__MarkReadResponse *response = rpc_unary_response(&call);
    *read_seq_out = response == NULL ? 0 : response->read_seq;
    rpc_unary_deinit(&call);
    return err;
}

static void
set_presence(struct rpc_channel *who, bool is_shown)
{
    Fc__Chat__V1__SetPresenceRequest request = FC__CHAT__V1__SET_PRESENCE_REQUEST__INIT;
    request.is_shown = is_shown;
    CALL(who, set_presence, &request);
    assert_int_equal(err, ERR_OK);
    rpc_unary_deinit(&call);
}

// expect_present compares with up to two names; NULL for none.
static void
expect_present(const char *one, const char *two)
{
    Fc__Chat__V1__GetPresenceRequest request = FC__CHAT__V1__GET_PRESENCE_REQUEST__INIT;
    request.room = lend_text("team");
    CALL(alice, get_presence, &request);
    assert_int_equal(err, ERR_OK);
    const Fc__Chat__V1__GetPresenceResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_present_user_names, (one != NULL) + (two != NULL));
    if (one != NULL) {
        assert_string_equal(response->present_user_names[0], one);
    }
    if (two != NULL) {
        assert_string_equal(response->present_user_names[1], two);
    }
    rpc_unary_deinit(&call);
}

static void
test_typing_is_told_to_others_once_a_second(void **state)
{
    (void)state;
    listen_to(alice, team, 1, &first);
    listen_to(bob, team, 1, &second);
    uint64_t started_ms = clock_monotonic_ms();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(type_in_team(bob), ERR_OK);
    }
    uint64_t took_ms = clock_monotonic_ms() - started_ms;
    assert_int_equal(type_in_team(carol), ERR_DENIED);
    assert_int_equal(send_as(alice, "team", "end", NULL), 1);
    WAIT_UNTIL(count_locked(&first, MESSAGE) == 1 && count_locked(&second, MESSAGE) == 1);
    assert_in_range(count_locked(&first, TYPING), 1, 1 + took_ms / 1000);
    assert_string_equal(first.events[0].text, "bob");
    assert_int_equal(count_locked(&second, TYPING), 0);
    rpc_subscriber_free(&first.subscriber);
    rpc_subscriber_free(&second.subscriber);
}

static void
test_number_of_those_who_type_is_bounded(void **state)
{
    (void)state;
    uint8_t team_id[CHAT_ID_BYTES] = {3};
    struct chat_room room = {.id = {3}};
    struct chat_fanout *fanout = NULL;
    struct chat_subscription *subscription = NULL;
    struct rpc_identity identity = {.expires_unix_ms = INT64_MAX};
    struct err_detail why = {0};
    assert_int_equal(chat_fanout_new(server, 1000 * 1000, &fanout), ERR_OK);
    assert_int_equal(chat_fanout_open(fanout, &identity, &room, 1, &subscription, &why), ERR_OK);
    uint64_t started_ms = clock_monotonic_ms();
    for (int i = 1; i <= 100; i++) {
        uint8_t user_id[CHAT_ID_BYTES] = {(uint8_t)i};
        chat_fanout_publish_typing(fanout, team_id, &(const struct chat_user){.id = user_id, .name = "somebody"});
    }
    uint64_t took_ms = clock_monotonic_ms() - started_ms;
    listen_with(chat_subscription_ticket(subscription), &first);
    chat_subscription_release(subscription);
    WAIT_UNTIL(first.count >= 1);
    assert_in_range(count_locked(&first, TYPING), 8, 8 * (1 + took_ms / 1000));
    chat_fanout_stop(fanout);
    rpc_subscriber_free(&first.subscriber);
    stop();
    chat_fanout_free(&fanout);
    start(&(const struct chat_service_options){0});
}

static void
test_read_markers_go_to_ones_own_devices_only(void **state)
{
    (void)state;
    uint64_t read_seq = 0;
    assert_int_equal(send_as(alice, "team", "one", NULL), 1);
    assert_int_equal(send_as(alice, "team", "two", NULL), 2);
    listen_to(alice, team, 1, &first);
    listen_to(bob, team, 1, &second);
    listen_to(bob, team, 1, &third);
    assert_int_equal(mark_read(bob, 1, &read_seq), ERR_OK);
    assert_int_equal(read_seq, 1);
    assert_int_equal(mark_read(bob, 77, &read_seq), ERR_OK);
    assert_int_equal(read_seq, 2);
    assert_int_equal(mark_read(bob, 1, &read_seq), ERR_OK);
    assert_int_equal(read_seq, 2);
    assert_int_equal(mark_read(carol, 1, &read_seq), ERR_DENIED);
    assert_int_equal(send_as(alice, "team", "end", NULL), 3);
    WAIT_UNTIL(count_locked(&first, MESSAGE) == 1 && count_locked(&second, MESSAGE) == 1 &&
               count_locked(&third, MESSAGE) == 1);
    assert_int_equal(count_locked(&first, READ_MOVED), 0);
    assert_int_equal(count_locked(&second, READ_MOVED), 2);
    assert_int_equal(count_locked(&third, READ_MOVED), 2);
    assert_int_equal(second.events[newest_locked(&second, READ_MOVED)].seq, 2);
    rpc_subscriber_free(&first.subscriber);
    rpc_subscriber_free(&second.subscriber);
    rpc_subscriber_free(&third.subscriber);
}

static void
test_nobody_is_shown_who_does_not_want_it(void **state)
{
    (void)state;
    listen_to(alice, team, 1, &first);
    listen_to(bob, team, 1, &second);
    expect_present(NULL, NULL);
    rpc_subscriber_free(&second.subscriber);
    assert_int_equal(send_as(alice, "team", "end", NULL), 1);
    WAIT_UNTIL(count_locked(&first, MESSAGE) == 1);
    assert_int_equal(count_locked(&first, PRESENCE), 0);
    rpc_subscriber_free(&first.subscriber);
    Fc__Chat__V1__GetPresenceRequest request = FC__CHAT__V1__GET_PRESENCE_REQUEST__INIT;
    request.room = lend_text("team");
    CALL(carol, get_presence, &request);
    assert_int_equal(err, ERR_DENIED);
    rpc_unary_deinit(&call);
}

static void
test_first_and_last_subscription_are_told(void **state)
{
    (void)state;
    set_presence(bob, true);
    stop(); // it is kept
    start(&(const struct chat_service_options){0});
    listen_to(alice, team, 1, &first);
    listen_to(bob, team, 1, &second);
    WAIT_UNTIL(count_locked(&first, PRESENCE) == 1);
    assert_string_equal(first.events[newest_locked(&first, PRESENCE)].text, "bob");
    assert_true(first.events[newest_locked(&first, PRESENCE)].is_present);
    expect_present("bob", NULL);
    // A second device changes nothing, neither when it comes nor when it goes.
    listen_to(bob, team, 1, &third);
    expect_present("bob", NULL);
    rpc_subscriber_free(&second.subscriber);
    set_presence(alice, true);
    expect_present("alice", "bob");
    WAIT_UNTIL(count_locked(&third, PRESENCE) == 1);
    rpc_subscriber_free(&third.subscriber);
    WAIT_UNTIL(count_locked(&first, PRESENCE) == 2);
    assert_false(first.events[newest_locked(&first, PRESENCE)].is_present);
    expect_present("alice", NULL);
    rpc_subscriber_free(&first.subscriber);
}

static void
test_presence_can_be_ended(void **state)
{
    (void)state;
    listen_to(alice, team, 1, &first);
    listen_to(bob, team, 1, &second);
    set_presence(bob, true);
    WAIT_UNTIL(count_locked(&first, PRESENCE) == 1);
    set_presence(bob, true); // no change
    set_presence(bob, false);
    WAIT_UNTIL(count_locked(&first, PRESENCE) == 2);
    assert_false(first.events[newest_locked(&first, PRESENCE)].is_present);
    expect_present(NULL, NULL);
    assert_int_equal(count_locked(&second, PRESENCE), 0); // nobody is told of themselves
    rpc_subscriber_free(&first.subscriber);
    rpc_subscriber_free(&second.subscriber);
}

static void
test_log_and_its_heartbeats(void **state)
{
    (void)state;
    struct chat_room room = {.id = {3}, .head_seq = 41};
    struct chat_fanout *fanout = NULL;
    struct chat_subscription *subscription = NULL;
    struct rpc_identity identity = {.expires_unix_ms = INT64_MAX};
    struct err_detail why = {0};
    assert_int_equal(chat_fanout_new(server, 10, &fanout), ERR_OK);
    assert_int_equal(chat_fanout_open(fanout, &identity, &room, 1, &subscription, &why), ERR_OK);
    listen_with(chat_subscription_ticket(subscription), &first);
    chat_subscription_release(subscription);
    chat_fanout_note_heads(fanout, room.id, 41, 6);
    WAIT_UNTIL(count_locked(&first, HEARTBEAT) > 0 && first.events[newest_locked(&first, HEARTBEAT)].log_seq == 6);
    chat_fanout_publish_log(fanout, room.id, 7);
    WAIT_UNTIL(count_locked(&first, LOG_GROWN) == 1);
    WAIT_UNTIL(first.events[newest_locked(&first, HEARTBEAT)].log_seq == 7);
    assert_int_equal(first.events[newest_locked(&first, LOG_GROWN)].seq, 7);
    assert_int_equal(first.events[newest_locked(&first, HEARTBEAT)].seq, 41);
    chat_fanout_stop(fanout);
    rpc_subscriber_free(&first.subscriber);
    stop();
    chat_fanout_free(&fanout);
    start(&(const struct chat_service_options){0});
}

// What a full feed keeps of a room may be an event without a number; it comes with the newest message's.
static void
test_slow_subscriber_sees_that_it_missed_something(void **state)
{
    (void)state;
    enum {
        LARGE = 20,
    };
    char ticket[RPC_TICKET_MAX_BYTES + 1];
    uint64_t head_seq = 0;
    struct err_detail why = {0};
    char *text = malloc(CHAT_TEXT_MAX_BYTES + 1);
    assert_non_null(text);
    memset(text, 'x', CHAT_TEXT_MAX_BYTES);
    text[CHAT_TEXT_MAX_BYTES] = '\0';
    assert_int_equal(get_ticket(alice, team, 1, ticket, &head_seq, &why), ERR_OK);
    for (uint64_t i = 1; i <= LARGE; i++) {
        assert_int_equal(send_as(bob, "team", text, NULL), i);
        if (i == LARGE) {
            assert_int_equal(type_in_team(bob), ERR_OK);
        }
    }
    free(text);
    listen_with(ticket, &first);
    WAIT_UNTIL(first.count >= 1);
    assert_true(count_locked(&first, MESSAGE) < LARGE);
    assert_int_equal(first.events[newest_locked(&first, HEARTBEAT)].seq, LARGE);
    rpc_subscriber_free(&first.subscriber);
}

static void
test_messages_a_second_are_limited(void **state)
{
    (void)state;
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    request.room = lend_text("team");
    request.text = lend_text("hello");
    uint64_t started_ms = clock_monotonic_ms();
    uint64_t allowed = 0;
    bool is_refused = false;
    // A machine that takes a second for each of these makes no use of the limit.
    while (!is_refused && clock_monotonic_ms() - started_ms < 60 * 1000) {
        CALL(alice, send, &request);
        is_refused = err == ERR_LIMIT;
        if (is_refused) {
            assert_string_equal(call.status.reason, "TOO_MANY_MESSAGES");
            assert_in_range(call.status.retry_after_ms, 1, 1001);
        } else {
            assert_int_equal(err, ERR_OK);
            allowed++;
        }
        rpc_unary_deinit(&call);
    }
    assert_true(is_refused);
    assert_in_range(allowed, 2, 3 + (clock_monotonic_ms() - started_ms) / 1000);
    assert_true(send_as(bob, "team", "mine", NULL) > 0); // each has their own
}

static void
test_reports_are_for_admins_of_the_server(void **state)
{
    (void)state;
    assert_int_equal(send_as(alice, "team", "an insult", NULL), 1);
    {
        Fc__Chat__V1__ReportRequest request = FC__CHAT__V1__REPORT_REQUEST__INIT;
        request.room = lend_text("team");
        request.seq = 1;
        request.reason = lend_text("rude");
        CALL(bob, report, &request);
        assert_int_equal(err, ERR_OK);
        rpc_unary_deinit(&call);
        struct rpc_unary outsiders;
        rpc_unary_init(&outsiders, carol, &fc__chat__v1__chat__descriptor);
        fc__chat__v1__chat__report(&outsiders.service, &request, NULL, NULL);
        assert_int_equal(rpc_unary_wait(&outsiders), ERR_DENIED);
        rpc_unary_deinit(&outsiders);
    }
    Fc__Chat__V1__ListReportsRequest request = FC__CHAT__V1__LIST_REPORTS_REQUEST__INIT;
    {
        CALL(alice, list_reports, &request);
        assert_int_equal(err, ERR_DENIED);
        rpc_unary_deinit(&call);
    }
    CALL(root, list_reports, &request);
    assert_int_equal(err, ERR_OK);
    const Fc__Chat__V1__ListReportsResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_reports, 1);
    assert_string_equal(response->reports[0]->reporter, "bob");
    assert_string_equal(response->reports[0]->message->text, "an insult");
    rpc_unary_deinit(&call);
}

static void
test_history_and_search_through_the_wire(void **state)
{
    (void)state;
    char *mentions[] = {lend_text("bob")};
    {
        Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
        request.room = lend_text("team");
        request.type = FC__CHAT__V1__MESSAGE_TYPE__EMOTE;
        request.text = lend_text("waves");
        request.mentions = mentions;
        request.n_mentions = 1;
        request.topic = lend_text("lunch");
        CALL(alice, send, &request);
        assert_int_equal(err, ERR_OK);
        rpc_unary_deinit(&call);
    }
    {
        Fc__Chat__V1__HistoryRequest request = FC__CHAT__V1__HISTORY_REQUEST__INIT;
        request.room = lend_text("team");
        request.around_seq = 1;
        CALL(bob, history, &request);
        assert_int_equal(err, ERR_OK);
        const Fc__Chat__V1__HistoryResponse *response = rpc_unary_response(&call);
        assert_int_equal(response->n_messages, 1);
        const Fc__Chat__V1__Message *message = response->messages[0];
        assert_int_equal(message->type, FC__CHAT__V1__MESSAGE_TYPE__EMOTE);
        assert_int_equal(message->n_mentions, 1);
        assert_string_equal(message->mentions[0], "bob");
        assert_string_equal(message->topic, "lunch");
        assert_int_equal(message->sender_id.data[0], 'a');
        rpc_unary_deinit(&call);
    }
    Fc__Chat__V1__SearchRequest request = FC__CHAT__V1__SEARCH_REQUEST__INIT;
    request.room = lend_text("team");
    request.words = lend_text("WAVES");
    {
        CALL(carol, search, &request);
        assert_int_equal(err, ERR_DENIED);
        rpc_unary_deinit(&call);
    }
    CALL(bob, search, &request);
    assert_int_equal(err, ERR_OK);
    const Fc__Chat__V1__SearchResponse *response = rpc_unary_response(&call);
    assert_int_equal(response->n_messages, 1);
    assert_false(response->has_more);
    rpc_unary_deinit(&call);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_typing_is_told_to_others_once_a_second),
        TEST(test_number_of_those_who_type_is_bounded),
        TEST(test_read_markers_go_to_ones_own_devices_only),
        TEST(test_nobody_is_shown_who_does_not_want_it),
        TEST(test_first_and_last_subscription_are_told),
        TEST(test_presence_can_be_ended),
        TEST(test_log_and_its_heartbeats),
        TEST(test_slow_subscriber_sees_that_it_missed_something),
        cmocka_unit_test_setup_teardown(test_messages_a_second_are_limited, setup_with_limit, teardown),
        TEST(test_reports_are_for_admins_of_the_server),
        TEST(test_history_and_search_through_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
