// The stream's queue: order, what happens when it is full, ended or closed.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/fc_room_inbox_priv.h"

static const uint8_t topic[RPC_TOPIC_BYTES] = {0x77};

enum {
    SOON_MS = 1,
    LONG_MS = 600 * 1000, // a test that gets here is stopped by ctest
};

static struct fc_room_inbox inbox;

static int
setup(void **state)
{
    (void)state;
    return fc_room_inbox_init(&inbox) == ERR_OK ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    fc_room_inbox_deinit(&inbox);
    return 0;
}

static enum err
take(struct fc_room_payload **out)
{
    enum err end_reason = ERR_OK;
    *out = NULL;
    return fc_room_inbox_take(&inbox, SOON_MS, out, &end_reason);
}

static void
expect_text(const char *text)
{
    struct fc_room_payload *payload = NULL;
    assert_int_equal(take(&payload), ERR_OK);
    assert_non_null(payload);
    assert_true(bytes_view_equal(bytes_view_of(payload->data, payload->size), bytes_view_of_text(text)));
    free(payload);
}

static void
test_payloads_come_in_order_and_then_silence(void **state)
{
    (void)state;
    struct fc_room_payload *payload = NULL;
    fc_room_inbox_put(&inbox, topic, bytes_view_of_text("one"));
    fc_room_inbox_put(&inbox, topic, bytes_view_of(NULL, 0));
    fc_room_inbox_put(&inbox, topic, bytes_view_of_text("two"));
    expect_text("one");
    expect_text("");
    expect_text("two");
    assert_int_equal(take(&payload), ERR_TIMEOUT);
}

static void
test_what_does_not_fit_leaves_one_gap_behind_the_rest(void **state)
{
    (void)state;
    struct fc_room_payload *payload = NULL;
    uint8_t *large = calloc(1, FC_ROOM_INBOX_MAX_BYTES);
    assert_non_null(large);
    fc_room_inbox_put(&inbox, topic, bytes_view_of_text("first"));
    fc_room_inbox_put(&inbox, topic, bytes_view_of(large, FC_ROOM_INBOX_MAX_BYTES));
    fc_room_inbox_put(&inbox, topic, bytes_view_of(large, FC_ROOM_INBOX_MAX_BYTES));
    fc_room_inbox_put(&inbox, topic, bytes_view_of_text("last"));
    expect_text("first");
    expect_text("last");
    assert_int_equal(take(&payload), ERR_OK);
    assert_null(payload);
    assert_int_equal(take(&payload), ERR_TIMEOUT);
    // Once empty it takes as much again.
    fc_room_inbox_put(&inbox, topic, bytes_view_of(large, FC_ROOM_INBOX_MAX_BYTES));
    assert_int_equal(take(&payload), ERR_OK);
    assert_non_null(payload);
    free(payload);
    free(large);
}

static void
test_the_end_comes_after_what_was_queued(void **state)
{
    (void)state;
    struct fc_room_payload *payload = NULL;
    enum err end_reason = ERR_OK;
    fc_room_inbox_put(&inbox, topic, bytes_view_of_text("one"));
    fc_room_inbox_end(&inbox, ERR_IO);
    expect_text("one");
    assert_int_equal(fc_room_inbox_take(&inbox, LONG_MS, &payload, &end_reason), ERR_UNAVAILABLE);
    assert_int_equal(end_reason, ERR_IO);
    fc_room_inbox_clear(&inbox);
    assert_int_equal(take(&payload), ERR_TIMEOUT);
}

static void *
close_inbox(void *context)
{
    (void)context;
    fc_room_inbox_close(&inbox);
    return NULL;
}

static void
test_closing_wakes_whoever_waits(void **state)
{
    (void)state;
    pthread_t thread;
    struct fc_room_payload *payload = NULL;
    enum err end_reason = ERR_OK;
    assert_true(fc_room_inbox_pause(&inbox, SOON_MS));
    assert_false(fc_room_inbox_is_closed(&inbox));
    assert_int_equal(pthread_create(&thread, NULL, close_inbox, NULL), 0);
    assert_int_equal(fc_room_inbox_take(&inbox, LONG_MS, &payload, &end_reason), ERR_CANCELLED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(fc_room_inbox_pause(&inbox, LONG_MS));
    assert_true(fc_room_inbox_is_closed(&inbox));
    fc_room_inbox_put(&inbox, topic, bytes_view_of_text("late"));
    assert_int_equal(take(&payload), ERR_CANCELLED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_payloads_come_in_order_and_then_silence),
        TEST(test_what_does_not_fit_leaves_one_gap_behind_the_rest),
        TEST(test_the_end_comes_after_what_was_queued),
        TEST(test_closing_wakes_whoever_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
