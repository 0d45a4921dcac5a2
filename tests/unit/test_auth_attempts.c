// Limits on attempts: when a name has to wait, for how long, and what a full table forgets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "services/auth/auth_attempts.h"

static struct auth_attempts *attempts;

static int
make(void **state)
{
    (void)state;
    return auth_attempts_new(&attempts) == ERR_OK ? 0 : -1;
}

static int
destroy(void **state)
{
    (void)state;
    auth_attempts_free(&attempts);
    auth_attempts_free(&attempts);
    return 0;
}

static void
fail_times(const char *name, unsigned times, uint64_t now_ms)
{
    for (unsigned i = 0; i < times; i++) {
        auth_attempts_failed(attempts, name, now_ms);
    }
}

static void
test_first_failures_are_free_and_the_fifth_starts_a_pause(void **state)
{
    (void)state;
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000), 0);
    fail_times("ann", AUTH_ATTEMPTS_FREE - 1, 1000);
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000), 0);
    fail_times("ann", 1, 1000);
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000), AUTH_ATTEMPTS_FIRST_PAUSE_MS);
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1001), AUTH_ATTEMPTS_FIRST_PAUSE_MS - 1);
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000 + AUTH_ATTEMPTS_FIRST_PAUSE_MS), 0);
    assert_int_equal(auth_attempts_pause_ms(attempts, "bob", 1000), 0);
}

static void
test_pauses_double_up_to_a_quarter_of_an_hour(void **state)
{
    (void)state;
    uint64_t now_ms = 5000;
    uint64_t expected_ms = AUTH_ATTEMPTS_FIRST_PAUSE_MS;
    fail_times("ann", AUTH_ATTEMPTS_FREE - 1, now_ms);
    for (unsigned i = 0; i < 100; i++) {
        fail_times("ann", 1, now_ms);
        assert_int_equal(auth_attempts_pause_ms(attempts, "ann", now_ms), expected_ms);
        now_ms += expected_ms;
        expected_ms = expected_ms * 2 < AUTH_ATTEMPTS_MAX_PAUSE_MS ? expected_ms * 2 : AUTH_ATTEMPTS_MAX_PAUSE_MS;
    }
    assert_int_equal(expected_ms, AUTH_ATTEMPTS_MAX_PAUSE_MS);
}

static void
test_success_clears_the_count(void **state)
{
    (void)state;
    fail_times("ann", AUTH_ATTEMPTS_FREE + 3, 1000);
    fail_times("bob", AUTH_ATTEMPTS_FREE, 1000);
    auth_attempts_succeeded(attempts, "ann");
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000), 0);
    assert_int_equal(auth_attempts_pause_ms(attempts, "bob", 1000), AUTH_ATTEMPTS_FIRST_PAUSE_MS);
    fail_times("ann", AUTH_ATTEMPTS_FREE - 1, 1000);
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000), 0);
    auth_attempts_succeeded(attempts, "nobody");
}

static void
test_old_failures_are_forgotten(void **state)
{
    (void)state;
    uint64_t later_ms = 1000 + (uint64_t)AUTH_ATTEMPTS_FORGET_MS + 1;
    fail_times("ann", AUTH_ATTEMPTS_FREE + 3, 1000);
    fail_times("ann", 1, later_ms);
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", later_ms), 0);
}

static void
test_a_flood_of_names_does_not_free_the_one_under_attack(void **state)
{
    (void)state;
    char name[16];
    fail_times("ann", AUTH_ATTEMPTS_FREE, 1000);
    for (int i = 0; i < AUTH_ATTEMPTS_MAX_NAMES + 100; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        fail_times(name, 1, 1001);
    }
    assert_int_equal(auth_attempts_pause_ms(attempts, "ann", 1000), AUTH_ATTEMPTS_FIRST_PAUSE_MS);
    // The last name has found room, in place of another with a single failure.
    fail_times(name, AUTH_ATTEMPTS_FREE - 1, 1001);
    assert_int_equal(auth_attempts_pause_ms(attempts, name, 1001), AUTH_ATTEMPTS_FIRST_PAUSE_MS);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_first_failures_are_free_and_the_fifth_starts_a_pause),
        TEST(test_pauses_double_up_to_a_quarter_of_an_hour),
        TEST(test_success_clears_the_count),
        TEST(test_old_failures_are_forgotten),
        TEST(test_a_flood_of_names_does_not_free_the_one_under_attack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
