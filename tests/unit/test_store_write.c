#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "services/store/store.h"

static char folder[256];

static int
setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    (void)state;
    char command[sizeof(folder) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

enum {
    MANY = 200, // jobs that fit into one batch
    WAIT_S = 10,
};

static const struct store_migration numbers[] = {{"CREATE TABLE number (id INTEGER PRIMARY KEY)"}};

static struct store *
open_numbers(void)
{
    struct store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(store_open(folder, &store, &why), ERR_OK);
    assert_int_equal(store_migrate(store, "numbers", numbers, 1, &why), ERR_OK);
    return store;
}

static void
wait_for(sem_t *semaphore)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S * (scale == NULL ? 1 : atol(scale));
    assert_int_equal(sem_timedwait(semaphore, &until), 0);
}

static enum err
read_count(struct store_tx *tx, void *context)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT count(*) FROM number", STORE_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *(int64_t *)context = store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err;
}

static int64_t
count_of(struct store *store)
{
    int64_t count = -1;
    assert_int_equal(store_read(store, read_count, &count), ERR_OK);
    return count;
}

// What the jobs of a test share.
struct shared {
    struct store *store;
    sem_t is_running;
    sem_t may_go_on;
    sem_t is_done;
    int done_count;         // only on the writer thread, then after is_done
    int64_t seen_when_done; // rows visible to a reader inside the first done
};

struct insert {
    struct store_job job; // first, so that a pointer to it is one to the insert
    struct shared *shared;
    int64_t id;
    enum err fails_with; // after the row has been inserted
    int runs;
    int done_place;
    enum err result;
};

static void
shared_init(struct shared *shared, struct store *store)
{
    *shared = (struct shared){.store = store, .seen_when_done = -1};
    (void)sem_init(&shared->is_running, 0, 0);
    (void)sem_init(&shared->may_go_on, 0, 0);
    (void)sem_init(&shared->is_done, 0, 0);
}

static void
shared_deinit(struct shared *shared)
{
    (void)sem_destroy(&shared->is_running);
    (void)sem_destroy(&shared->may_go_on);
    (void)sem_destroy(&shared->is_done);
}

static enum err
run_insert(struct store_tx *tx, struct store_job *job)
{
    struct insert *insert = (struct insert *)job;
    insert->runs++;
    enum err err = store_exec(tx, "INSERT INTO number VALUES ($1)", STORE_ARGS(store_int(insert->id)), NULL);
    return err != ERR_OK ? err : insert->fails_with;
}

static void
note_done(struct store_job *job, enum err result)
{
    struct insert *insert = (struct insert *)job;
    insert->result = result;
    insert->done_place = insert->shared->done_count++;
    if (insert->done_place == 0) {
        insert->shared->seen_when_done = count_of(insert->shared->store);
    }
    sem_post(&insert->shared->is_done);
}

static struct insert
insert_of(struct shared *shared, int64_t id)
{
    return (struct insert){.job = {.run = run_insert, .done = note_done}, .shared = shared, .id = id};
}

// Keeps the writer busy until the test has queued what is to be one batch.
static enum err
run_gate(struct store_tx *tx, struct store_job *job)
{
    (void)tx;
    struct insert *gate = (struct insert *)job;
    sem_post(&gate->shared->is_running);
    wait_for(&gate->shared->may_go_on);
    return ERR_OK;
}

static void
gate_done(struct store_job *job, enum err result)
{
    ((struct insert *)job)->result = result;
}

static struct insert
close_gate(struct shared *shared)
{
    return (struct insert){.job = {.run = run_gate, .done = gate_done}, .shared = shared};
}

static void
wait_for_done(struct shared *shared, int count)
{
    for (int i = 0; i < count; i++) {
        wait_for(&shared->is_done);
    }
}

static void
test_jobs_that_wait_together_share_a_commit_and_end_in_order(void **state)
{
    (void)state;
    static struct insert jobs[MANY];
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct insert gate = close_gate(&shared);
    store_write(store, &gate.job);
    wait_for(&shared.is_running);
    for (int i = 0; i < MANY; i++) {
        jobs[i] = insert_of(&shared, MANY - i);
        store_write(store, &jobs[i].job);
    }
    sem_post(&shared.may_go_on);
    wait_for_done(&shared, MANY);

    // When the first was told, all of them had been committed.
    assert_int_equal(shared.seen_when_done, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(jobs[i].result, ERR_OK);
        assert_int_equal(jobs[i].done_place, i);
        assert_int_equal(jobs[i].runs, 1);
    }
    store_close(&store);
    shared_deinit(&shared);
}

static void
test_failing_job_is_undone_without_hurting_others(void **state)
{
    (void)state;
    enum {
        COUNT = 5,
    };
    struct insert jobs[COUNT];
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct insert gate = close_gate(&shared);
    store_write(store, &gate.job);
    wait_for(&shared.is_running);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = insert_of(&shared, i);
    }
    jobs[1].fails_with = ERR_DENIED; // by the service's decision
    jobs[3].id = 2;                  // by a constraint
    for (int i = 0; i < COUNT; i++) {
        store_write(store, &jobs[i].job);
    }
    sem_post(&shared.may_go_on);
    wait_for_done(&shared, COUNT);
    static const enum err expected[COUNT] = {ERR_OK, ERR_DENIED, ERR_OK, ERR_EXISTS, ERR_OK};
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(jobs[i].result, expected[i]);
        assert_int_equal(jobs[i].runs, i <= 1 ? 2 : 1); // once without savepoints, until one failed
    }
    assert_int_equal(count_of(store), 3);

    // After a failure each has a savepoint from the beginning.
    gate = close_gate(&shared);
    store_write(store, &gate.job);
    wait_for(&shared.is_running);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = insert_of(&shared, 10 + i);
    }
    jobs[2].fails_with = ERR_DENIED;
    for (int i = 0; i < COUNT; i++) {
        store_write(store, &jobs[i].job);
    }
    sem_post(&shared.may_go_on);
    wait_for_done(&shared, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(jobs[i].result, i == 2 ? ERR_DENIED : ERR_OK);
        assert_int_equal(jobs[i].runs, 1);
    }
    assert_int_equal(count_of(store), 3 + COUNT - 1);
    store_close(&store);
    shared_deinit(&shared);
}

static enum err
run_rollback(struct store_tx *tx, struct store_job *job)
{
    enum err err = run_insert(tx, job);
    return err != ERR_OK ? err : store_exec(tx, "ROLLBACK", STORE_NO_ARGS, NULL);
}

// As the database itself does it when the disk is full in the middle of a statement.
static void
test_others_run_again_when_one_loses_the_transaction(void **state)
{
    (void)state;
    enum {
        COUNT = 5,
    };
    struct insert jobs[COUNT];
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct insert gate = close_gate(&shared);
    store_write(store, &gate.job);
    wait_for(&shared.is_running);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = insert_of(&shared, i);
        jobs[i].job.run = i == 1 || i == 3 ? run_rollback : run_insert;
        store_write(store, &jobs[i].job);
    }
    sem_post(&shared.may_go_on);
    wait_for_done(&shared, COUNT);
    for (int i = 0; i < COUNT; i++) {
        bool is_lost = i == 1 || i == 3;
        assert_int_equal(jobs[i].result, is_lost ? ERR_INTERNAL : ERR_OK);
        // The first two also once without savepoints.
        static const int expected_runs[COUNT] = {4, 2, 2, 1, 1};
        assert_int_equal(jobs[i].runs, expected_runs[i]);
    }
    assert_int_equal(count_of(store), 3);
    store_close(&store);
    shared_deinit(&shared);
}

static enum err
insert_and_wait(struct store_tx *tx, struct store_job *job)
{
    enum err err = run_insert(tx, job);
    (void)run_gate(tx, job);
    return err;
}

static void
test_reads_see_only_what_is_committed(void **state)
{
    (void)state;
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct insert job = insert_of(&shared, 1);
    job.job.run = insert_and_wait;
    store_write(store, &job.job);
    wait_for(&shared.is_running);
    assert_int_equal(count_of(store), 0);
    sem_post(&shared.may_go_on);
    wait_for_done(&shared, 1);
    assert_int_equal(shared.seen_when_done, 1);
    assert_int_equal(count_of(store), 1);
    store_close(&store);
    shared_deinit(&shared);
}

// Writes in the middle of its own read.
static enum err
read_around_a_write(struct store_tx *tx, void *context)
{
    struct shared *shared = context;
    int64_t before = -1;
    int64_t after = -1;
    assert_int_equal(read_count(tx, &before), ERR_OK);
    struct insert insert = insert_of(shared, 77);
    assert_int_equal(store_write_wait(shared->store, &insert.job), ERR_OK);
    assert_int_equal(read_count(tx, &after), ERR_OK);
    assert_int_equal(after, before);
    return ERR_LIMIT; // is handed on
}

static void
test_a_read_is_one_snapshot(void **state)
{
    (void)state;
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    assert_int_equal(store_read(store, read_around_a_write, &shared), ERR_LIMIT);
    assert_int_equal(count_of(store), 1);
    store_close(&store);
    shared_deinit(&shared);
}

static void
test_write_wait_runs_done_and_returns_the_result(void **state)
{
    (void)state;
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct insert first = insert_of(&shared, 1);
    struct insert second = insert_of(&shared, 1);
    struct insert third = insert_of(&shared, 3);
    third.job.done = NULL;
    assert_int_equal(store_write_wait(store, &first.job), ERR_OK);
    assert_int_equal(first.result, ERR_OK);
    assert_int_equal(store_write_wait(store, &second.job), ERR_EXISTS);
    assert_int_equal(second.result, ERR_EXISTS);
    assert_int_equal(store_write_wait(store, &third.job), ERR_OK);
    assert_int_equal(shared.done_count, 2);
    store_close(&store);
    shared_deinit(&shared);
}

// Queues the next job of a chain and frees its own.
static void
continue_chain(struct store_job *job, enum err result)
{
    struct insert *insert = (struct insert *)job;
    assert_int_equal(result, ERR_OK);
    insert->shared->done_count++;
    if (insert->id < MANY) {
        struct insert *next = malloc(sizeof(*next));
        assert_non_null(next);
        *next = insert_of(insert->shared, insert->id + 1);
        next->job.done = continue_chain;
        store_write(insert->shared->store, &next->job);
    }
    free(insert);
}

static void
test_close_finishes_what_is_queued_and_what_that_queues(void **state)
{
    (void)state;
    enum {
        COUNT = 2000, // more than one batch
    };
    static struct insert jobs[COUNT];
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct insert *first = malloc(sizeof(*first));
    assert_non_null(first);
    *first = insert_of(&shared, 1);
    first->job.done = continue_chain;
    store_write(store, &first->job);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = insert_of(&shared, 1000 + i);
        store_write(store, &jobs[i].job);
    }
    store_close(&store);
    assert_int_equal(shared.done_count, COUNT + MANY);
    store = open_numbers();
    assert_int_equal(count_of(store), COUNT + MANY);
    store_close(&store);
    store_close(&store);
    shared_deinit(&shared);
}

enum {
    THREADS = 8, // twice as many as there are connections
    ROUNDS = 100,
};

struct crowd {
    struct store *store;
    struct shared *shared;
    int number;
    bool has_failed;
};

// cmocka's assertions belong to the main thread.
static void *
write_and_read(void *context)
{
    struct crowd *crowd = context;
    int64_t before = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct insert insert = insert_of(crowd->shared, crowd->number * ROUNDS + i);
        insert.job.done = NULL;
        int64_t count = -1;
        enum err wrote = store_write_wait(crowd->store, &insert.job);
        enum err read = store_read(crowd->store, read_count, &count);
        crowd->has_failed |= wrote != ERR_OK || read != ERR_OK || count <= before;
        before = count;
    }
    return NULL;
}

static void
test_many_threads_write_and_read(void **state)
{
    (void)state;
    struct store *store = open_numbers();
    struct shared shared;
    shared_init(&shared, store);
    struct crowd crowd[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        crowd[i] = (struct crowd){.store = store, .shared = &shared, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, &crowd[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(crowd[i].has_failed);
    }
    assert_int_equal(count_of(store), THREADS * ROUNDS);
    store_close(&store);
    shared_deinit(&shared);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_jobs_that_wait_together_share_a_commit_and_end_in_order),
        IN_FOLDER(test_failing_job_is_undone_without_hurting_others),
        IN_FOLDER(test_others_run_again_when_one_loses_the_transaction),
        IN_FOLDER(test_reads_see_only_what_is_committed),
        IN_FOLDER(test_a_read_is_one_snapshot),
        IN_FOLDER(test_write_wait_runs_done_and_returns_the_result),
        IN_FOLDER(test_close_finishes_what_is_queued_and_what_that_queues),
        IN_FOLDER(test_many_threads_write_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
