#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"

static void
test_monotonic_clocks_agree_and_never_go_back(void **state)
{
    (void)state;
    uint64_t before_ms = clock_monotonic_ms();
    uint64_t before_us = clock_monotonic_us();
    for (int i = 0; i < 1000; i++) {
        uint64_t now_us = clock_monotonic_us();
        assert_true(now_us >= before_us);
        before_us = now_us;
    }
    assert_true(before_us / 1000 >= before_ms);
    assert_true(clock_monotonic_ms() >= before_us / 1000);
}

static void
test_unix_clock_can_be_set(void **state)
{
    (void)state;
    clock_set_unix_ms_for_test(1234);
    assert_int_equal(clock_unix_ms(), 1234);
    clock_set_unix_ms_for_test(0);
    assert_int_equal(clock_unix_ms(), 0);
    clock_set_unix_ms_for_test(-1);
    assert_true(clock_unix_ms() > 1700000000000);
}

static void
assert_formatted(int64_t unix_ms, const char *expected)
{
    char text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(unix_ms, text);
    assert_string_equal(text, expected);
}

static void
test_rfc3339(void **state)
{
    (void)state;
    assert_formatted(0, "1970-01-01T00:00:00.000Z");
    assert_formatted(1767323045678, "2026-01-02T03:04:05.678Z");
    assert_formatted(951782399999, "2000-02-28T23:59:59.999Z");
    assert_formatted(951782400000, "2000-02-29T00:00:00.000Z");
    assert_formatted(-1, "1969-12-31T23:59:59.999Z");
    assert_formatted(-1000, "1969-12-31T23:59:59.000Z");
}

static void
test_rfc3339_of_absurd_times_stays_in_its_width(void **state)
{
    (void)state;
    assert_formatted(INT64_MAX, "9999-12-31T23:59:59.999Z");
    assert_formatted(INT64_MIN, "0000-01-01T00:00:00.000Z");
}

static void
test_random_fills_exactly_what_is_asked(void **state)
{
    (void)state;
    uint8_t once[66] = {0};
    uint8_t again[66] = {0};
    random_bytes(once + 1, 64);
    random_bytes(again + 1, 64);
    random_bytes(again, 0);
    assert_memory_not_equal(once, again, sizeof(once));
    assert_int_equal(once[0], 0);
    assert_int_equal(once[65], 0);
    // More than one getrandom call may give at once without interruption (256 bytes).
    static uint8_t many[1 << 16];
    random_bytes(many, sizeof(many));
    size_t zeros = 0;
    for (size_t i = sizeof(many) - 4096; i < sizeof(many); i++) {
        zeros += many[i] == 0;
    }
    assert_true(zeros < 256);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_clocks_agree_and_never_go_back),
        cmocka_unit_test(test_unix_clock_can_be_set),
        cmocka_unit_test(test_rfc3339),
        cmocka_unit_test(test_rfc3339_of_absurd_times_stays_in_its_width),
        cmocka_unit_test(test_random_fills_exactly_what_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
