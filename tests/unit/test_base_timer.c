#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/timer.h"

enum {
    FAR_MS = 1000000, // longer than any test runs
    WAIT_S = 10,
};

struct probe {
    struct timer timer; // first, so that a pointer to it is one to the probe
    struct timer_queue *queue;
    sem_t *fired;
    sem_t *may_return;
    atomic_int *order; // counts up
    int place;         // what order was when this one fired
    uint64_t fired_ms;
    int again; // how often it starts itself once more
};

static void
wait_for(sem_t *semaphore)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S * (scale == NULL ? 1 : atol(scale));
    assert_int_equal(sem_timedwait(semaphore, &until), 0);
}

static void
record(struct timer *timer)
{
    struct probe *probe = (struct probe *)timer;
    probe->fired_ms = clock_monotonic_ms();
    probe->place = atomic_fetch_add(probe->order, 1);
    if (probe->again > 0) {
        probe->again--;
        assert_int_equal(timer_start(probe->queue, timer, 1), ERR_OK);
    }
    sem_post(probe->fired);
}

struct fixture {
    struct timer_queue *queue;
    sem_t fired;
    sem_t may_return;
    atomic_int order;
};

static int
setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.order = 0};
    sem_init(&fixture.fired, 0, 0);
    sem_init(&fixture.may_return, 0, 0);
    *state = &fixture;
    return timer_queue_new(&fixture.queue) == ERR_OK ? 0 : -1;
}

static int
teardown(void **state)
{
    struct fixture *fixture = *state;
    timer_queue_free(&fixture->queue);
    timer_queue_free(&fixture->queue);
    sem_destroy(&fixture->fired);
    sem_destroy(&fixture->may_return);
    return 0;
}

static struct probe
probe_of(struct fixture *fixture, timer_fn *on_expiry)
{
    return (struct probe){
        .timer.on_expiry = on_expiry,
        .queue = fixture->queue,
        .fired = &fixture->fired,
        .may_return = &fixture->may_return,
        .order = &fixture->order,
    };
}

static void
test_fires_in_order_of_expiry_and_not_early(void **state)
{
    struct fixture *fixture = *state;
    enum {
        COUNT = 50,
        GAP_MS = 3,
    };
    struct probe probes[COUNT];
    uint64_t begun_ms = clock_monotonic_ms();
    for (int i = 0; i < COUNT; i++) {
        probes[i] = probe_of(fixture, record);
    }
    // Started in an order that has nothing to do with their expiry: 7 and 50 share no divisor.
    for (int i = 0; i < COUNT; i++) {
        int k = i * 7 % COUNT;
        assert_int_equal(timer_start(fixture->queue, &probes[k].timer, (uint64_t)(20 + k * GAP_MS)), ERR_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        wait_for(&fixture->fired);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(probes[i].fired_ms - begun_ms >= (uint64_t)(20 + i * GAP_MS));
        // Starting all of them may take longer than a gap, so only far neighbours are sure of their order.
        if (i >= 20) {
            assert_true(probes[i].place > probes[i - 20].place);
        }
    }
}

static void
test_an_earlier_timer_overtakes_one_that_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    struct probe late = probe_of(fixture, record);
    struct probe early = probe_of(fixture, record);
    assert_int_equal(timer_start(fixture->queue, &late.timer, FAR_MS), ERR_OK);
    assert_int_equal(timer_start(fixture->queue, &early.timer, 5), ERR_OK);
    wait_for(&fixture->fired);
    assert_int_equal(atomic_load(&fixture->order), 1);
    assert_true(timer_stop(fixture->queue, &late.timer));
    assert_false(timer_stop(fixture->queue, &early.timer));
}

static void
test_start_moves_an_armed_timer(void **state)
{
    struct fixture *fixture = *state;
    struct probe probe = probe_of(fixture, record);
    assert_int_equal(timer_start(fixture->queue, &probe.timer, FAR_MS), ERR_OK);
    assert_int_equal(timer_start(fixture->queue, &probe.timer, 1), ERR_OK); // nearer
    wait_for(&fixture->fired);

    struct probe other = probe_of(fixture, record);
    assert_int_equal(timer_start(fixture->queue, &probe.timer, 1000), ERR_OK);
    assert_int_equal(timer_start(fixture->queue, &probe.timer, FAR_MS), ERR_OK); // farther
    assert_int_equal(timer_start(fixture->queue, &other.timer, 1010), ERR_OK);
    wait_for(&fixture->fired);
    assert_int_equal(other.place, 1);
    assert_int_equal(atomic_load(&fixture->order), 2);
    assert_true(timer_stop(fixture->queue, &probe.timer));
    assert_false(timer_stop(fixture->queue, &probe.timer));
}

static void
test_callback_may_start_its_timer_again(void **state)
{
    struct fixture *fixture = *state;
    struct probe probe = probe_of(fixture, record);
    probe.again = 3;
    assert_int_equal(timer_start(fixture->queue, &probe.timer, 0), ERR_OK);
    for (int i = 0; i < 4; i++) {
        wait_for(&fixture->fired);
    }
    assert_false(timer_stop(fixture->queue, &probe.timer));
    assert_int_equal(atomic_load(&fixture->order), 4);
}

// Waits inside the callback, then arms itself for at once.
static void
linger(struct timer *timer)
{
    struct probe *probe = (struct probe *)timer;
    sem_post(probe->fired);
    sem_wait(probe->may_return);
    assert_int_equal(timer_start(probe->queue, timer, 0), ERR_OK);
    atomic_fetch_add(probe->order, 1);
}

struct stopper {
    struct probe *probe;
    atomic_int stopped;
};

static void *
stop(void *context)
{
    struct stopper *stopper = context;
    (void)timer_stop(stopper->probe->queue, &stopper->probe->timer);
    // The callback had returned, so the memory is ours.
    atomic_store(&stopper->stopped, atomic_load(stopper->probe->order));
    free(stopper->probe);
    return NULL;
}

static void
test_stop_waits_for_a_running_callback_even_if_it_starts_again(void **state)
{
    struct fixture *fixture = *state;
    struct probe *probe = malloc(sizeof(*probe));
    assert_non_null(probe);
    *probe = probe_of(fixture, linger);
    struct stopper stopper = {.probe = probe};
    assert_int_equal(timer_start(fixture->queue, &probe->timer, 0), ERR_OK);
    wait_for(&fixture->fired);

    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop, &stopper), 0);
    // It cannot have come back. Yielding gives a wrong one the chance to.
    for (int i = 0; i < 1000; i++) {
        sched_yield();
        assert_int_equal(atomic_load(&stopper.stopped), 0);
    }
    // For the callback that runs, and for as many rounds more as begin before the other thread comes to call stop.
    while (atomic_load(&stopper.stopped) == 0) {
        sem_post(&fixture->may_return);
        sched_yield();
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
}

// Stops and frees itself in its own callback.
static void
vanish(struct timer *timer)
{
    struct probe *probe = (struct probe *)timer;
    sem_t *fired = probe->fired;
    assert_int_equal(timer_start(probe->queue, timer, FAR_MS), ERR_OK);
    assert_true(timer_stop(probe->queue, timer));
    assert_false(timer_stop(probe->queue, timer));
    free(probe);
    sem_post(fired);
}

static void
test_callback_may_stop_and_free_its_own_timer(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 10; i++) {
        struct probe *probe = malloc(sizeof(*probe));
        assert_non_null(probe);
        *probe = probe_of(fixture, vanish);
        assert_int_equal(timer_start(fixture->queue, &probe->timer, 0), ERR_OK);
        wait_for(&fixture->fired);
    }
}

static void
test_many_timers_started_and_stopped_in_any_order(void **state)
{
    struct fixture *fixture = *state;
    enum {
        COUNT = 1000,
    };
    static struct probe probes[COUNT];
    unsigned seed = 1;
    for (int i = 0; i < COUNT; i++) {
        probes[i] = probe_of(fixture, record);
        seed = seed * 1103515245 + 12345;
        assert_int_equal(timer_start(fixture->queue, &probes[i].timer, FAR_MS + (seed >> 16) % 1000), ERR_OK);
    }
    // Two thirds are stopped, the others moved to now.
    for (int i = 0; i < COUNT; i++) {
        if (i % 3 != 0) {
            assert_true(timer_stop(fixture->queue, &probes[i].timer));
        }
    }
    for (int i = 0; i < COUNT; i += 3) {
        assert_int_equal(timer_start(fixture->queue, &probes[i].timer, 0), ERR_OK);
    }
    for (int i = 0; i < COUNT; i += 3) {
        wait_for(&fixture->fired);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_false(timer_stop(fixture->queue, &probes[i].timer));
        assert_int_equal(probes[i].fired_ms != 0, i % 3 == 0);
    }
}

static void
test_endless_delay_does_not_wrap_around(void **state)
{
    struct fixture *fixture = *state;
    struct probe never = probe_of(fixture, record);
    struct probe soon = probe_of(fixture, record);
    assert_int_equal(timer_start(fixture->queue, &never.timer, UINT64_MAX), ERR_OK);
    assert_int_equal(timer_start(fixture->queue, &soon.timer, 1), ERR_OK);
    wait_for(&fixture->fired);
    assert_int_equal(atomic_load(&fixture->order), 1);
    assert_true(timer_stop(fixture->queue, &never.timer));
}

static void
test_armed_timers_do_not_fire_after_free(void **state)
{
    struct fixture *fixture = *state;
    struct probe probe = probe_of(fixture, record);
    assert_int_equal(timer_start(fixture->queue, &probe.timer, FAR_MS), ERR_OK);
    timer_queue_free(&fixture->queue);
    assert_int_equal(atomic_load(&fixture->order), 0);
}

int
main(void)
{
#define WITH_QUEUE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_QUEUE(test_fires_in_order_of_expiry_and_not_early),
        WITH_QUEUE(test_an_earlier_timer_overtakes_one_that_is_waited_for),
        WITH_QUEUE(test_start_moves_an_armed_timer),
        WITH_QUEUE(test_callback_may_start_its_timer_again),
        WITH_QUEUE(test_stop_waits_for_a_running_callback_even_if_it_starts_again),
        WITH_QUEUE(test_callback_may_stop_and_free_its_own_timer),
        WITH_QUEUE(test_many_timers_started_and_stopped_in_any_order),
        WITH_QUEUE(test_endless_delay_does_not_wrap_around),
        WITH_QUEUE(test_armed_timers_do_not_fire_after_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
