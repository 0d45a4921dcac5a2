// Reading messages: pages of history, search, what is unread, and reports.
#include "chat_support.h"
#include "services/chat/chat_reads.h"
#include "services/chat/chat_reports.h"

#include "fc/chat/v1/chat.pb-c.h"

static int
setup(void **state)
{
    (void)state;
    return open_room(true);
}

static void
send_many(int count)
{
    for (int i = 0; i < count; i++) {
        send_text(&alice, "hello");
    }
}

static void
expect_page(struct chat_history_query query, uint64_t first_seq, size_t count)
{
    struct reading reading = {.query = query};
    assert_int_equal(read_page(&reading), ERR_OK);
    assert_int_equal(reading.page.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(reading.page.messages[i].seq, first_seq + i);
    }
    chat_history_deinit(&reading.page);
}

static void
test_pages_before_and_around(void **state)
{
    (void)state;
    expect_page((struct chat_history_query){.before_seq = 5}, 0, 0);
    expect_page((struct chat_history_query){.around_seq = 5}, 0, 0);
    expect_page((struct chat_history_query){.since_ms = 1}, 0, 0);
    send_many(30);
    expect_page((struct chat_history_query){.before_seq = 11, .limit = 4}, 7, 4);
    expect_page((struct chat_history_query){.before_seq = 3, .limit = 4}, 1, 2);
    expect_page((struct chat_history_query){.before_seq = 1, .limit = 4}, 0, 0);
    expect_page((struct chat_history_query){.before_seq = UINT64_MAX, .limit = 4}, 27, 4);
    expect_page((struct chat_history_query){.around_seq = 10, .limit = 5}, 8, 5);
    expect_page((struct chat_history_query){.around_seq = 10, .limit = 4}, 9, 4);
    expect_page((struct chat_history_query){.around_seq = 10, .limit = 1}, 10, 1);
    expect_page((struct chat_history_query){.around_seq = 1, .limit = 5}, 1, 5);
    expect_page((struct chat_history_query){.around_seq = 30, .limit = 5}, 28, 3);
    expect_page((struct chat_history_query){.around_seq = UINT64_MAX, .limit = 5}, 29, 2);
}

static void
test_page_around_a_message_has_it_however_large_its_neighbours(void **state)
{
    (void)state;
    char *text = malloc(CHAT_TEXT_MAX_BYTES + 1);
    assert_non_null(text);
    memset(text, 'x', CHAT_TEXT_MAX_BYTES);
    text[CHAT_TEXT_MAX_BYTES] = '\0';
    for (int i = 0; i < 40; i++) {
        send_text(&alice, text);
    }
    free(text);
    struct reading reading = {.query = {.around_seq = 20, .limit = 1000}};
    assert_int_equal(read_page(&reading), ERR_OK);
    assert_in_range(reading.page.count, 12, 16);
    assert_true(reading.page.messages[0].seq < 20);
    assert_true(reading.page.messages[reading.page.count - 1].seq > 20);
    chat_history_deinit(&reading.page);
}

static void
test_pages_since_a_time(void **state)
{
    (void)state;
    for (int64_t i = 1; i <= 20; i++) {
        clock_set_unix_ms_for_test(1000 * ((i + 1) / 2)); // two in each second
        send_text(&alice, "hello");
    }
    expect_page((struct chat_history_query){.since_ms = 1, .limit = 3}, 1, 3);
    expect_page((struct chat_history_query){.since_ms = 1000, .limit = 3}, 1, 3);
    expect_page((struct chat_history_query){.since_ms = 1001, .limit = 3}, 3, 3);
    expect_page((struct chat_history_query){.since_ms = 5000, .limit = 3}, 9, 3);
    expect_page((struct chat_history_query){.since_ms = 10000, .limit = 3}, 19, 2);
    expect_page((struct chat_history_query){.since_ms = 10001, .limit = 3}, 0, 0);
    expect_page((struct chat_history_query){.since_ms = INT64_MIN, .limit = 3}, 1, 3);
}

static void
test_two_selectors_and_outsiders_are_refused(void **state)
{
    (void)state;
    struct reading reading = {.query = {.before_seq = 1, .newest = true}};
    assert_int_equal(read_page(&reading), ERR_INVALID);
    chat_history_deinit(&reading.page);
    reading = (struct reading){.query = {.around_seq = 1, .since_ms = 1}};
    assert_int_equal(read_page(&reading), ERR_INVALID);
    chat_history_deinit(&reading.page);
    reading = (struct reading){.query = {.around_seq = 1, .user_id = carol.id}};
    assert_int_equal(read_page(&reading), ERR_DENIED);
    chat_history_deinit(&reading.page);
}

struct searching {
    struct chat_search_query query;
    struct chat_history page;
    struct err_detail why;
};

static enum err
run_search(struct store_tx *tx, void *context)
{
    struct searching *searching = context;
    return chat_search(tx, &searching->query, &searching->page, &searching->why);
}

static enum err
search_for(struct searching *searching)
{
    searching->query.room = "team";
    searching->query.user_id = searching->query.user_id == NULL ? bob.id : searching->query.user_id;
    searching->query.sender = searching->query.sender == NULL ? "" : searching->query.sender;
    return store_read(store, run_search, searching);
}

static void
expect_found(const char *words, const char *sender, uint64_t newest_seq, size_t count)
{
    struct searching searching = {.query = {.words = words, .sender = sender}};
    assert_int_equal(search_for(&searching), ERR_OK);
    assert_int_equal(searching.page.count, count);
    assert_int_equal(searching.page.next_before_seq, 0);
    if (count > 0) {
        assert_int_equal(searching.page.messages[0].seq, newest_seq);
    }
    chat_history_deinit(&searching.page);
}

static void
test_search_finds_words_in_any_case(void **state)
{
    (void)state;
    send_text(&alice, "The Quick brown fox");
    send_text(&bob, "a quick answer, 100%_sure");
    send_text(&bob,
        "\xc3\x84pfel und \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xce\xa9mega"); // Äpfel, Привет, Ωmega
    expect_found("quick", NULL, 2, 2);
    expect_found("QUICK  fox\t", NULL, 1, 1);
    expect_found("quick", "alice", 1, 1);
    expect_found("quick", "carol", 0, 0);
    expect_found("quick slow", NULL, 0, 0);
    expect_found("100%_", NULL, 2, 1);
    expect_found("%", NULL, 2, 1);
    expect_found("q_ick", NULL, 0, 0);
    expect_found("\xc3\xa4PFEL", NULL, 3, 1);
    expect_found("\xd0\xbf\xd1\x80\xd0\x98\xd0\xb2", NULL, 3, 1);
    expect_found("\xcf\x89MEGA", NULL, 3, 1);
}

static void
test_search_finds_what_texts_are_now(void **state)
{
    (void)state;
    send_text(&alice, "old words");
    struct sending edit = {
        .outgoing = {.sender = alice, .type = CHAT_MESSAGE_EDIT, .target_seq = 1, .text = "new words"}};
    assert_int_equal(send_outgoing(&edit), ERR_OK);
    expect_found("old", NULL, 0, 0);
    expect_found("new", NULL, 1, 1); // the message, not its edit
    struct sending deletion = {.outgoing = {.sender = alice, .type = CHAT_MESSAGE_DELETE, .target_seq = 1}};
    assert_int_equal(send_outgoing(&deletion), ERR_OK);
    expect_found("new", NULL, 0, 0);
}

static void
test_search_goes_on_where_it_stopped(void **state)
{
    (void)state;
    send_many(25);
    struct searching searching = {.query = {.words = "hello", .limit = 10}};
    uint64_t expected = 25;
    size_t pages = 0;
    do {
        assert_int_equal(search_for(&searching), ERR_OK);
        for (size_t i = 0; i < searching.page.count; i++) {
            assert_int_equal(searching.page.messages[i].seq, expected--);
        }
        searching.query.before_seq = searching.page.next_before_seq;
        chat_history_deinit(&searching.page);
        pages++;
    } while (searching.query.before_seq != 0);
    assert_int_equal(expected, 0);
    assert_int_equal(pages, 3);
}

static void
test_one_search_looks_at_a_bounded_number_of_messages(void **state)
{
    (void)state;
    send_text(&alice, "needle");
    send_text(&alice, "hay");
    // As many rows as no test can send one by one.
    execute("INSERT INTO chat_messages (room_id, seq, message_id, sender_id, sender_name, sent_at_ms, text)"
            " WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < $1)"
            " SELECT room_id, i, CAST(i AS BLOB), sender_id, sender_name, sent_at_ms, text FROM n"
            " JOIN chat_messages ON seq = 2",
        STORE_ARGS(store_int(CHAT_SEARCH_SCAN_MAX + 10)));
    struct searching searching = {.query = {.words = "needle"}};
    assert_int_equal(search_for(&searching), ERR_OK);
    assert_int_equal(searching.page.count, 0);
    assert_int_equal(searching.page.next_before_seq, 11);
    chat_history_deinit(&searching.page);
    searching.query.before_seq = 11;
    assert_int_equal(search_for(&searching), ERR_OK);
    assert_int_equal(searching.page.count, 1);
    assert_int_equal(searching.page.next_before_seq, 0);
    chat_history_deinit(&searching.page);
}

static void
test_searches_that_are_refused(void **state)
{
    (void)state;
    static const char *const bad_words[] = {"", "  \n", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"};
    for (size_t i = 0; i < sizeof(bad_words) / sizeof(bad_words[0]); i++) {
        struct searching searching = {.query = {.words = bad_words[i]}};
        assert_int_equal(search_for(&searching), ERR_INVALID);
        chat_history_deinit(&searching.page);
    }
    char large[CHAT_SEARCH_WORDS_MAX_BYTES + 2];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    struct searching searching = {.query = {.words = large}};
    assert_int_equal(search_for(&searching), ERR_INVALID);
    chat_history_deinit(&searching.page);
    searching = (struct searching){.query = {.words = "x", .limit = CHAT_SEARCH_MAX + 1}};
    assert_int_equal(search_for(&searching), ERR_INVALID);
    chat_history_deinit(&searching.page);
    searching = (struct searching){.query = {.words = "x", .sender = "not a name"}};
    assert_int_equal(search_for(&searching), ERR_INVALID);
    chat_history_deinit(&searching.page);
    searching = (struct searching){.query = {.words = "x", .user_id = carol.id}};
    assert_int_equal(search_for(&searching), ERR_DENIED);
    chat_history_deinit(&searching.page);
    execute("UPDATE chat_rooms SET is_plain = 0", STORE_NO_ARGS);
    searching = (struct searching){.query = {.words = "x"}};
    assert_int_equal(search_for(&searching), ERR_PRECONDITION);
    chat_history_deinit(&searching.page);
}

struct marking {
    struct store_job job;
    const struct chat_user *user;
    uint64_t seq;
    struct chat_room room;
    bool is_moved;
    struct err_detail why;
};

static enum err
run_mark(struct store_tx *tx, struct store_job *job)
{
    struct marking *marking = (struct marking *)job;
    return chat_reads_mark(tx, marking->user, "team", marking->seq, &marking->room, &marking->is_moved, &marking->why);
}

static void
mark(const struct chat_user *user, uint64_t seq, uint64_t read_seq, bool is_moved)
{
    struct marking marking = {.job = {.run = run_mark}, .user = user, .seq = seq};
    assert_int_equal(store_write_wait(store, &marking.job), ERR_OK);
    assert_int_equal(marking.room.read_seq, read_seq);
    assert_int_equal(marking.is_moved, is_moved);
}

static void
test_read_markers_only_move_on(void **state)
{
    (void)state;
    mark(&bob, 5, 0, false);
    send_many(10);
    mark(&bob, 4, 4, true);
    mark(&bob, 4, 4, false);
    mark(&bob, 2, 4, false);
    mark(&bob, 0, 4, false);
    mark(&bob, UINT64_MAX, 10, true);
    mark(&alice, 1, 1, true); // each has their own
    struct marking outsider = {.job = {.run = run_mark}, .user = &carol, .seq = 1};
    assert_int_equal(store_write_wait(store, &outsider.job), ERR_DENIED);
}

struct counting {
    const struct chat_user *user;
    uint64_t read_seq;
    struct chat_unread unread;
};

static enum err
run_count(struct store_tx *tx, void *context)
{
    struct counting *counting = context;
    return chat_messages_unread(tx, team_id, counting->user, counting->read_seq, &counting->unread);
}

static void
expect_unread(const struct chat_user *user, uint64_t read_seq, uint32_t unread_count, uint32_t mention_count)
{
    struct counting counting = {.user = user, .read_seq = read_seq};
    assert_int_equal(store_read(store, run_count, &counting), ERR_OK);
    assert_int_equal(counting.unread.unread_count, unread_count);
    assert_int_equal(counting.unread.mention_count, mention_count);
}

static uint64_t
send_mentioning(const struct chat_user *user, const char *first, const char *second)
{
    const char *const mentions[] = {first, second};
    struct sending sending = {.outgoing = {.sender = *user, .text = "you", .mentions = mentions, .mention_count = 2}};
    assert_int_equal(send_outgoing(&sending), ERR_OK);
    return sending.sent.seq;
}

static void
test_unread_counts_what_others_wrote_and_mentions(void **state)
{
    (void)state;
    expect_unread(&bob, 0, 0, 0);
    send_text(&alice, "one");                // 1
    send_text(&bob, "two");                  // 2
    send_mentioning(&alice, "bob", "bob");   // 3
    send_mentioning(&alice, "@room", "bob"); // 4: counts once
    send_mentioning(&bob, "bob", "alice");   // 5: nobody mentions themselves
    expect_unread(&bob, 0, 3, 2);
    expect_unread(&bob, 1, 2, 2);
    expect_unread(&bob, 3, 1, 1);
    expect_unread(&bob, 5, 0, 0);
    expect_unread(&bob, UINT64_MAX, 0, 0);
    expect_unread(&alice, 0, 2, 1);
    // Reactions, edits and what has been deleted are nothing to read; an edit may take a mention away.
    struct sending about = {
        .outgoing = {.sender = alice, .type = CHAT_MESSAGE_REACTION, .target_seq = 2, .text = "+1"}};
    assert_int_equal(send_outgoing(&about), ERR_OK);
    about.outgoing = (struct chat_outgoing){.sender = alice, .type = CHAT_MESSAGE_EDIT, .target_seq = 3, .text = "-"};
    assert_int_equal(send_outgoing(&about), ERR_OK);
    expect_unread(&bob, 0, 3, 1);
    about.outgoing = (struct chat_outgoing){.sender = alice, .type = CHAT_MESSAGE_DELETE, .target_seq = 4};
    assert_int_equal(send_outgoing(&about), ERR_OK);
    expect_unread(&bob, 0, 2, 0);
}

static void
test_unread_counts_stop_at_a_thousand(void **state)
{
    (void)state;
    send_text(&alice, "one");
    execute("INSERT INTO chat_messages (room_id, seq, message_id, sender_id, sender_name, sent_at_ms, text)"
            " WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " SELECT room_id, i, CAST(i AS BLOB), sender_id, sender_name, sent_at_ms, text FROM n"
            " JOIN chat_messages ON seq = 1",
        STORE_NO_ARGS);
    expect_unread(&bob, 0, CHAT_UNREAD_MAX, 0);
    expect_unread(&bob, 2500, 500, 0);
    expect_unread(&alice, 0, 0, 0);
}

struct reporting {
    struct store_job job;
    struct chat_complaint complaint;
    struct err_detail why;
};

static enum err
run_report(struct store_tx *tx, struct store_job *job)
{
    struct reporting *reporting = (struct reporting *)job;
    return chat_reports_add(tx, &reporting->complaint, &reporting->why);
}

static enum err
report(const struct chat_user *user, uint64_t seq, const char *reason, size_t key_size)
{
    static const uint8_t key[100];
    struct reporting reporting = {.job = {.run = run_report},
        .complaint = {.reporter = *user, .room = "team", .seq = seq, .reason = reason}};
    reporting.complaint.message_key = bytes_view_of(key, key_size);
    return store_write_wait(store, &reporting.job);
}

struct listing {
    uint64_t after_id;
    struct chat_reports_page page;
};

static enum err
run_list(struct store_tx *tx, void *context)
{
    struct listing *listing = context;
    return chat_reports_list(tx, listing->after_id, &listing->page);
}

static void
test_reports_keep_the_message_as_it_was(void **state)
{
    (void)state;
    static struct listing listing;
    send_text(&alice, "an insult");
    clock_set_unix_ms_for_test(5000);
    assert_int_equal(report(&bob, 1, "rude", 0), ERR_OK);
    struct sending deletion = {.outgoing = {.sender = alice, .type = CHAT_MESSAGE_DELETE, .target_seq = 1}};
    assert_int_equal(send_outgoing(&deletion), ERR_OK);
    assert_int_equal(report(&bob, 1, "again", 0), ERR_OK); // is no second report
    assert_int_equal(report(&alice, 1, "late", 0), ERR_PRECONDITION);
    memset(&listing, 0, sizeof(listing));
    assert_int_equal(store_read(store, run_list, &listing), ERR_OK);
    assert_int_equal(listing.page.count, 1);
    const struct chat_report *kept = &listing.page.reports[0];
    assert_int_equal(kept->id, 1);
    assert_string_equal(kept->reporter, "bob");
    assert_string_equal(kept->reason, "rude");
    assert_string_equal(kept->room_name, "team");
    assert_int_equal(kept->reported_at_ms, 5000);
    Fc__Chat__V1__Message *message = fc__chat__v1__message__unpack(NULL, kept->message.size, kept->message.data);
    assert_non_null(message);
    assert_string_equal(message->text, "an insult");
    assert_string_equal(message->sender, "alice");
    fc__chat__v1__message__free_unpacked(message, NULL);
    arena_deinit(&listing.page.arena);
    listing.after_id = 1;
    assert_int_equal(store_read(store, run_list, &listing), ERR_OK);
    assert_int_equal(listing.page.count, 0);
    arena_deinit(&listing.page.arena);
}

static void
test_reports_that_are_refused(void **state)
{
    (void)state;
    char reason[CHAT_REPORT_REASON_MAX_BYTES + 2];
    memset(reason, 'x', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    send_many(CHAT_REPORTS_A_DAY_MAX + 2);
    assert_int_equal(report(&carol, 1, "", 0), ERR_DENIED);
    assert_int_equal(report(&bob, 0, "", 0), ERR_NOT_FOUND);
    assert_int_equal(report(&bob, UINT64_MAX, "", 0), ERR_NOT_FOUND);
    assert_int_equal(report(&bob, 1, reason, 0), ERR_INVALID);
    assert_int_equal(report(&bob, 1, "", 75), ERR_INVALID);
    assert_int_equal(report(&bob, 1, "", CHAT_REPORT_KEY_BYTES), ERR_INVALID); // a plain room has no keys
    clock_set_unix_ms_for_test(1000);
    for (uint64_t i = 1; i <= CHAT_REPORTS_A_DAY_MAX; i++) {
        assert_int_equal(report(&bob, i, "", 0), ERR_OK);
    }
    assert_int_equal(report(&bob, CHAT_REPORTS_A_DAY_MAX + 1, "", 0), ERR_LIMIT);
    assert_int_equal(report(&alice, CHAT_REPORTS_A_DAY_MAX + 1, "", 0), ERR_OK);
    clock_set_unix_ms_for_test(INT64_C(1000) + 24 * 60 * 60 * 1000);
    assert_int_equal(report(&bob, CHAT_REPORTS_A_DAY_MAX + 1, "", 0), ERR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, close_store)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pages_before_and_around),
        TEST(test_page_around_a_message_has_it_however_large_its_neighbours),
        TEST(test_pages_since_a_time),
        TEST(test_two_selectors_and_outsiders_are_refused),
        TEST(test_search_finds_words_in_any_case),
        TEST(test_search_finds_what_texts_are_now),
        TEST(test_search_goes_on_where_it_stopped),
        TEST(test_one_search_looks_at_a_bounded_number_of_messages),
        TEST(test_searches_that_are_refused),
        TEST(test_read_markers_only_move_on),
        TEST(test_unread_counts_what_others_wrote_and_mentions),
        TEST(test_unread_counts_stop_at_a_thousand),
        TEST(test_reports_keep_the_message_as_it_was),
        TEST(test_reports_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
