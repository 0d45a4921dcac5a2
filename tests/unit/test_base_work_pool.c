#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/work_pool.h"

enum {
    WORK_COUNT = 10000,
};

struct item {
    struct work work; // first, so that a pointer to it is one to the item
    struct work_pool *pool;
    atomic_int *ran;
    int children;
    int number;
    pthread_barrier_t *barrier;
};

static void
count(struct work *work)
{
    struct item *item = (struct item *)work;
    atomic_fetch_add(item->ran, 1);
}

static void
test_free_runs_everything_queued(void **state)
{
    (void)state;
    static struct item items[WORK_COUNT];
    for (unsigned threads = 1; threads <= 4; threads++) {
        struct work_pool *pool = NULL;
        atomic_int ran = 0;
        assert_int_equal(work_pool_new("test", threads, &pool), ERR_OK);
        for (int i = 0; i < WORK_COUNT; i++) {
            items[i] = (struct item){.work.run = count, .ran = &ran};
            work_pool_submit(pool, &items[i].work);
        }
        work_pool_free(&pool);
        assert_null(pool);
        assert_int_equal(atomic_load(&ran), WORK_COUNT);
    }
}

static void
note_priority(struct work *work)
{
    struct item *item = (struct item *)work;
    errno = 0;
    item->number = getpriority(PRIO_PROCESS, (id_t)gettid());
    assert_int_equal(errno, 0);
}

static void
test_patient_threads_let_others_go_first(void **state)
{
    (void)state;
    struct work_pool *pool = NULL;
    struct work_pool *patient = NULL;
    struct item items[] = {{.work.run = note_priority}, {.work.run = note_priority}};
    assert_int_equal(work_pool_new("test", 1, &pool), ERR_OK);
    assert_int_equal(work_pool_new_patient("test", 1, &patient), ERR_OK);
    work_pool_submit(pool, &items[0].work);
    work_pool_submit(patient, &items[1].work);
    work_pool_free(&pool);
    work_pool_free(&patient);
    assert_true(items[1].number > items[0].number || items[1].number == 19);
}

// Frees itself and submits two more, until its generation is the last.
static void
breed(struct work *work)
{
    struct item *item = (struct item *)work;
    atomic_fetch_add(item->ran, 1);
    for (int i = 0; item->children > 0 && i < 2; i++) {
        struct item *child = calloc(1, sizeof(*child));
        assert_non_null(child);
        *child = *item;
        child->children--;
        work_pool_submit(item->pool, &child->work);
    }
    free(item);
}

static void
test_free_runs_what_queued_work_queues(void **state)
{
    (void)state;
    struct work_pool *pool = NULL;
    atomic_int ran = 0;
    assert_int_equal(work_pool_new("test", 3, &pool), ERR_OK);
    struct item *first = calloc(1, sizeof(*first));
    assert_non_null(first);
    *first = (struct item){.work.run = breed, .pool = pool, .ran = &ran, .children = 10};
    work_pool_submit(pool, &first->work);
    work_pool_free(&pool);
    assert_int_equal(atomic_load(&ran), (1 << 11) - 1);
}

static void
check_order(struct work *work)
{
    struct item *item = (struct item *)work;
    // Stays at the first number that came out of order.
    if (atomic_load(item->ran) == item->number) {
        atomic_fetch_add(item->ran, 1);
    }
}

static void
test_one_thread_runs_in_order(void **state)
{
    (void)state;
    static struct item items[WORK_COUNT];
    struct work_pool *pool = NULL;
    atomic_int ran = 0;
    assert_int_equal(work_pool_new("test", 1, &pool), ERR_OK);
    for (int i = 0; i < WORK_COUNT; i++) {
        items[i] = (struct item){.work.run = check_order, .ran = &ran, .number = i};
        work_pool_submit(pool, &items[i].work);
    }
    work_pool_free(&pool);
    assert_int_equal(atomic_load(&ran), WORK_COUNT);
}

static void
meet(struct work *work)
{
    struct item *item = (struct item *)work;
    pthread_barrier_wait(item->barrier);
    atomic_fetch_add(item->ran, 1);
}

// Every thread has to be woken: the works wait for each other.
static void
test_all_threads_work_at_once(void **state)
{
    (void)state;
    enum {
        THREADS = 4,
        ROUNDS = 200,
    };
    struct work_pool *pool = NULL;
    atomic_int ran = 0;
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS + 1), 0);
    assert_int_equal(work_pool_new("a name longer than fits", THREADS, &pool), ERR_OK);
    struct item items[THREADS];
    for (int round = 0; round < ROUNDS; round++) {
        int before = atomic_load(&ran);
        for (int i = 0; i < THREADS; i++) {
            items[i] = (struct item){.work.run = meet, .ran = &ran, .barrier = &barrier};
            work_pool_submit(pool, &items[i].work);
        }
        pthread_barrier_wait(&barrier);
        while (atomic_load(&ran) != before + THREADS) {
            sched_yield();
        }
    }
    work_pool_free(&pool);
    assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

static void
look_at_signal_mask(struct work *work)
{
    struct item *item = (struct item *)work;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    atomic_store(item->ran, sigismember(&blocked, SIGTERM) + sigismember(&blocked, SIGINT));
}

static void
test_threads_block_signals_and_the_caller_does_not(void **state)
{
    (void)state;
    struct work_pool *pool = NULL;
    atomic_int ran = 0;
    struct item item = {.work.run = look_at_signal_mask, .ran = &ran};
    assert_int_equal(work_pool_new("test", 1, &pool), ERR_OK);
    work_pool_submit(pool, &item.work);
    work_pool_free(&pool);
    assert_int_equal(atomic_load(&ran), 2);
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_int_equal(sigismember(&blocked, SIGTERM), 0);
}

static void
test_free_without_work_and_twice(void **state)
{
    (void)state;
    struct work_pool *pool = NULL;
    work_pool_free(&pool);
    assert_int_equal(work_pool_new("test", 2, &pool), ERR_OK);
    work_pool_free(&pool);
    work_pool_free(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_runs_everything_queued),
        cmocka_unit_test(test_patient_threads_let_others_go_first),
        cmocka_unit_test(test_free_runs_what_queued_work_queues),
        cmocka_unit_test(test_one_thread_runs_in_order),
        cmocka_unit_test(test_all_threads_work_at_once),
        cmocka_unit_test(test_threads_block_signals_and_the_caller_does_not),
        cmocka_unit_test(test_free_without_work_and_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
