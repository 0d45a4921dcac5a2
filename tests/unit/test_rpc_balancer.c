#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_balancer.h"

enum {
    SERVERS = 4,
    PICKS = 10000,
};

// A generator with a seed (xorshift), so that every run sees the same numbers.
static uint32_t
draw(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void
make_ready(struct rpc_balancer_server *servers)
{
    memset(servers, 0, SERVERS * sizeof *servers);
    for (size_t i = 0; i < SERVERS; i++) {
        servers[i].is_ready = true;
    }
}

static void
test_none_is_ready(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[SERVERS] = {0};
    for (int strategy = RPC_PICK_FIRST; strategy <= RPC_TWO_CHOICES; strategy++) {
        struct rpc_balancer balancer = {.strategy = (enum rpc_strategy)strategy};
        assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, UINT32_MAX), SERVERS);
        assert_int_equal(rpc_balancer_pick(&balancer, servers, 0, 0, 0), 0);
        servers[2].is_ready = true;
        assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, UINT32_MAX), 2);
        assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 0), 2);
        servers[2].is_ready = false;
    }
}

static void
test_shunned_ones_are_the_last_resort(void **state)
{
    (void)state;
    for (int strategy = RPC_PICK_FIRST; strategy <= RPC_TWO_CHOICES; strategy++) {
        struct rpc_balancer_server servers[SERVERS];
        struct rpc_balancer balancer = {.strategy = (enum rpc_strategy)strategy};
        uint32_t seed = 1;
        make_ready(servers);
        for (size_t i = 0; i < SERVERS; i++) {
            if (i != 1) {
                rpc_balancer_shun(&servers[i], 5000);
            }
        }
        for (int i = 0; i < 100; i++) {
            assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 5999, draw(&seed)), 1);
        }
        servers[1].is_ready = false;
        assert_int_not_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 5999, draw(&seed)), SERVERS);
    }
    // After a while it counts again.
    struct rpc_balancer_server servers[SERVERS];
    struct rpc_balancer balancer = {.strategy = RPC_PICK_FIRST};
    make_ready(servers);
    rpc_balancer_shun(&servers[0], 5000);
    assert_int_equal(rpc_balancer_pick(&balancer, servers, 1, 6000, 0), 0);
}

static void
test_pick_first_stays(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[SERVERS];
    struct rpc_balancer balancer = {.strategy = RPC_PICK_FIRST};
    make_ready(servers);
    assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 7), 0);
    servers[0].is_ready = false;
    assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 7), 1);
    servers[0].is_ready = true; // is back, but nobody moves without need
    assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 7), 1);
    servers[1].is_ready = servers[2].is_ready = servers[3].is_ready = false;
    assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 7), 0);
}

static void
test_round_robin_is_even(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[SERVERS];
    struct rpc_balancer balancer = {.strategy = RPC_ROUND_ROBIN};
    make_ready(servers);
    for (size_t i = 0; i < PICKS; i++) {
        assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 0), i % SERVERS);
    }
    servers[1].is_ready = false;
    static const size_t expected[] = {0, 2, 3, 0, 2, 3};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(rpc_balancer_pick(&balancer, servers, SERVERS, 0, 0), expected[i]);
    }
}

static void
test_random_is_even_in_the_end(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[SERVERS];
    struct rpc_balancer balancer = {.strategy = RPC_RANDOM};
    unsigned picked[SERVERS] = {0};
    uint32_t seed = 42;
    make_ready(servers);
    for (int i = 0; i < PICKS; i++) {
        picked[rpc_balancer_pick(&balancer, servers, SERVERS, 0, draw(&seed))]++;
    }
    for (size_t i = 0; i < SERVERS; i++) {
        assert_in_range(picked[i], PICKS / SERVERS * 9 / 10, PICKS / SERVERS * 11 / 10);
    }
}

static void
test_two_choices_spare_the_slow_and_the_busy(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[SERVERS];
    struct rpc_balancer balancer = {.strategy = RPC_TWO_CHOICES};
    unsigned picked[SERVERS] = {0};
    uint32_t seed = 42;
    make_ready(servers);
    for (size_t i = 0; i < SERVERS; i++) {
        rpc_balancer_measure(&servers[i], i == 3 ? 50000 : 1000, 0);
    }
    servers[2].outstanding = 9;
    for (int i = 0; i < PICKS; i++) {
        picked[rpc_balancer_pick(&balancer, servers, SERVERS, 0, draw(&seed))]++;
    }
    assert_int_equal(picked[3], 0);                                      // loses against each other one
    assert_in_range(picked[2], PICKS / 6 * 8 / 10, PICKS / 6 * 12 / 10); // wins against the slow one only
    assert_true(picked[0] > PICKS / 3 && picked[1] > PICKS / 4);
}

// Servers of equal speed that hold their calls: the outstanding stay within a call or two of each other.
static void
test_two_choices_fill_evenly(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[SERVERS];
    struct rpc_balancer balancer = {.strategy = RPC_TWO_CHOICES};
    uint32_t seed = 7;
    make_ready(servers);
    for (size_t i = 0; i < SERVERS; i++) {
        rpc_balancer_measure(&servers[i], 1000, 0);
    }
    for (int i = 0; i < PICKS; i++) {
        servers[rpc_balancer_pick(&balancer, servers, SERVERS, 0, draw(&seed))].outstanding++;
    }
    for (size_t i = 0; i < SERVERS; i++) {
        assert_in_range(servers[i].outstanding, PICKS / SERVERS - 5, PICKS / SERVERS + 5);
    }
}

static void
test_an_unknown_server_gets_one_call(void **state)
{
    (void)state;
    struct rpc_balancer_server servers[2] = {{.is_ready = true}, {.is_ready = true}};
    struct rpc_balancer balancer = {.strategy = RPC_TWO_CHOICES};
    uint32_t seed = 7;
    rpc_balancer_measure(&servers[0], 1000, 0);
    assert_int_equal(rpc_balancer_pick(&balancer, servers, 2, 0, draw(&seed)), 1);
    servers[1].outstanding = 1;
    servers[0].outstanding = 500;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rpc_balancer_pick(&balancer, servers, 2, 0, draw(&seed)), 0);
    }
}

static void
test_latency_jumps_up_and_decays(void **state)
{
    (void)state;
    struct rpc_balancer_server server = {0};
    assert_int_equal(rpc_balancer_latency_us(&server, 0), 0);
    rpc_balancer_measure(&server, 1000, 0);
    rpc_balancer_measure(&server, 8000, 0);
    assert_int_equal(rpc_balancer_latency_us(&server, 0), 8000);
    rpc_balancer_measure(&server, 1000, 0); // one quick answer does not make up for it
    assert_int_equal(rpc_balancer_latency_us(&server, 0), 8000);
    assert_int_equal(rpc_balancer_latency_us(&server, RPC_BALANCER_HALF_LIFE_MS), 4000);
    assert_int_equal(rpc_balancer_latency_us(&server, RPC_BALANCER_HALF_LIFE_MS * 3 / 2), 3000);
    assert_int_equal(rpc_balancer_latency_us(&server, RPC_BALANCER_HALF_LIFE_MS * 3), 1000);
    assert_int_equal(rpc_balancer_latency_us(&server, UINT64_MAX), 1);
    rpc_balancer_measure(&server, 500, (uint64_t)RPC_BALANCER_HALF_LIFE_MS * 3);
    assert_int_equal(rpc_balancer_latency_us(&server, RPC_BALANCER_HALF_LIFE_MS * 3), 1000);
    rpc_balancer_measure(&server, 500, (uint64_t)RPC_BALANCER_HALF_LIFE_MS * 5);
    assert_int_equal(rpc_balancer_latency_us(&server, RPC_BALANCER_HALF_LIFE_MS * 5), 500);

    // Quick answers all the time do not keep it from fading.
    server = (struct rpc_balancer_server){0};
    rpc_balancer_measure(&server, 1500, 0);
    for (uint64_t ms = 0; ms <= RPC_BALANCER_HALF_LIFE_MS; ms++) {
        rpc_balancer_measure(&server, 100, ms);
    }
    assert_int_equal(rpc_balancer_latency_us(&server, RPC_BALANCER_HALF_LIFE_MS), 750);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none_is_ready),
        cmocka_unit_test(test_shunned_ones_are_the_last_resort),
        cmocka_unit_test(test_pick_first_stays),
        cmocka_unit_test(test_round_robin_is_even),
        cmocka_unit_test(test_random_is_even_in_the_end),
        cmocka_unit_test(test_two_choices_spare_the_slow_and_the_busy),
        cmocka_unit_test(test_two_choices_fill_evenly),
        cmocka_unit_test(test_an_unknown_server_gets_one_call),
        cmocka_unit_test(test_latency_jumps_up_and_decays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
