#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rpc/rpc_backoff.h"

static void
test_pauses_grow_up_to_the_longest(void **state)
{
    (void)state;
    static const uint32_t expected[] = {100, 160, 256, 409, 654, 1046, 1673, 2676, 4281, 6849, 10958, 17532, 28051,
        30000, 30000};
    struct rpc_backoff lowest = {0};
    struct rpc_backoff middle = {0};
    struct rpc_backoff highest = {0};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        uint32_t at_least = expected[i] - expected[i] / 5;
        uint32_t at_most = expected[i] + expected[i] / 5;
        assert_in_range(rpc_backoff_next_ms(&lowest, 0), at_least - 1, at_least + 1);
        assert_in_range(rpc_backoff_next_ms(&middle, UINT32_C(1) << 31), expected[i] - 1, expected[i] + 1);
        assert_in_range(rpc_backoff_next_ms(&highest, UINT32_MAX), at_most - 1, at_most + 1);
    }
    rpc_backoff_reset(&middle);
    assert_in_range(rpc_backoff_next_ms(&middle, UINT32_C(1) << 31), 99, 101);
}

static void
test_a_longest_pause_of_ones_own(void **state)
{
    (void)state;
    struct rpc_backoff backoff = {.longest_ms = 2000};
    for (int i = 0; i < 100; i++) {
        assert_true(rpc_backoff_draw_ms(&backoff) <= 2400);
    }
    assert_true(rpc_backoff_draw_ms(&backoff) >= 1600);
    struct rpc_backoff short_one = {.longest_ms = 1};
    assert_int_equal(rpc_backoff_next_ms(&short_one, UINT32_MAX), 1);
}

// 200 clients that lose their server at the same moment.
static void
test_many_clients_do_not_come_back_together(void **state)
{
    (void)state;
    enum {
        CLIENTS = 200,
        FIRST_MS = 80,
        LAST_MS = 120,
    };
    unsigned arrivals[LAST_MS + 1] = {0};
    for (int i = 0; i < CLIENTS; i++) {
        struct rpc_backoff backoff = {0};
        uint32_t pause_ms = rpc_backoff_draw_ms(&backoff);
        assert_in_range(pause_ms, FIRST_MS, LAST_MS);
        arrivals[pause_ms]++;
    }
    // About five arrive in each of 41 ms; 25 in one would be a matter of luck that nobody lives to see.
    for (int ms = FIRST_MS; ms <= LAST_MS; ms++) {
        assert_true(arrivals[ms] < 25);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses_grow_up_to_the_longest),
        cmocka_unit_test(test_a_longest_pause_of_ones_own),
        cmocka_unit_test(test_many_clients_do_not_come_back_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
