#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// What is left after the process dies in the middle, and after the disk is full.
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
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

static const struct store_migration rows_table[] = {{"CREATE TABLE line (id INTEGER PRIMARY KEY, data BLOB)"}};

static struct store *
open_lines(void)
{
    struct store *store = NULL;
    struct err_detail why = {0};
    if (store_open(folder, &store, &why) != ERR_OK || store_migrate(store, "lines", rows_table, 1, &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
    return store;
}

struct line {
    struct store_job job; // first, so that a pointer to it is one to the line
    struct store *store;
    int64_t id;
    int acknowledge_fd;
    size_t data_size;
    enum err result;
    sem_t *is_done;
};

static enum err
run_line(struct store_tx *tx, struct store_job *job)
{
    struct line *line = (struct line *)job;
    static uint8_t data[256 * 1024]; // only on the writer thread
    random_bytes(data, line->data_size);
    return store_exec(tx, "INSERT INTO line VALUES ($1, $2)",
        STORE_ARGS(store_int(line->id), store_blob(data, line->data_size)), NULL);
}

static enum err
is_line_there(struct store_tx *tx, void *context)
{
    struct store_rows *rows = NULL;
    enum err err =
        store_query(tx, "SELECT 1 FROM line WHERE id = $1", STORE_ARGS(store_int(*(int64_t *)context)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    store_rows_free(&rows);
    return err;
}

// Acknowledges the id to the parent and goes on with another one, for ever.
static void
acknowledge(struct store_job *job, enum err result)
{
    struct line *line = (struct line *)job;
    if (result != ERR_OK || write(line->acknowledge_fd, &line->id, sizeof(line->id)) != sizeof(line->id)) {
        _exit(1);
    }
    line->id += 1000;
    store_write(line->store, &line->job);
}

static _Noreturn void
write_until_killed(int acknowledge_fd)
{
    enum {
        AT_ONCE = 50,
    };
    static struct line lines[AT_ONCE];
    struct store *store = open_lines();
    for (int i = 0; i < AT_ONCE; i++) {
        lines[i] = (struct line){.job = {.run = run_line, .done = acknowledge},
            .store = store,
            .id = i,
            .acknowledge_fd = acknowledge_fd,
            .data_size = 500};
        store_write(store, &lines[i].job);
    }
    for (;;) {
        pause();
    }
}

static void
test_what_was_acknowledged_survives_kill_9(void **state)
{
    (void)state;
    enum {
        ENOUGH = 2000,
        MOST = 100000,
    };
    static int64_t ids[MOST];
    size_t count = 0;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        write_until_killed(ends[1]);
    }
    (void)close(ends[1]);
    for (ssize_t got = 1; got > 0 && count < MOST;) {
        got = read(ends[0], &ids[count], sizeof(ids[0])); // a pipe does not tear what is smaller than PIPE_BUF
        count += got == (ssize_t)sizeof(ids[0]);
        if (count == ENOUGH) {
            assert_int_equal(kill(child, SIGKILL), 0);
        }
    }
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_true(count >= ENOUGH);

    struct store *store = open_lines();
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(store_read(store, is_line_there, &ids[i]), ERR_OK);
    }
    store_close(&store);
}

static void
note_result(struct store_job *job, enum err result)
{
    struct line *line = (struct line *)job;
    line->result = result;
    sem_post(line->is_done);
}

enum {
    BATCH = 8,
};

// Writes 2 MiB in jobs that are queued at once. Returns the result that they have in common.
static enum err
write_much(struct store *store, int64_t first_id)
{
    struct line lines[BATCH];
    sem_t is_done;
    (void)sem_init(&is_done, 0, 0);
    for (int i = 0; i < BATCH; i++) {
        lines[i] = (struct line){.job = {.run = run_line, .done = note_result},
            .id = first_id + i,
            .data_size = 256 * 1024,
            .is_done = &is_done};
        store_write(store, &lines[i].job);
    }
    enum err common = ERR_OK;
    for (int i = 0; i < BATCH; i++) {
        while (sem_wait(&is_done) != 0) {
            assert_int_equal(errno, EINTR);
        }
    }
    for (int i = 0; i < BATCH; i++) {
        if (lines[i].result != ERR_OK) {
            common = lines[i].result;
        }
        // Told is what is true.
        int64_t id = lines[i].id;
        assert_int_equal(store_read(store, is_line_there, &id), lines[i].result == ERR_OK ? ERR_OK : ERR_NOT_FOUND);
    }
    (void)sem_destroy(&is_done);
    return common;
}

static enum err
delete_all(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    return store_exec(tx, "DELETE FROM line", STORE_NO_ARGS, NULL);
}

static enum err
write_one(struct store *store, int64_t id)
{
    struct line line = {.job = {.run = run_line}, .id = id, .data_size = 10};
    return store_write_wait(store, &line.job);
}

static void
fill_until_it_fails(struct store *store)
{
    enum err err = ERR_OK;
    for (int64_t round = 1; err == ERR_OK; round++) {
        assert_true(round < 100);
        err = write_much(store, round * 1000);
    }
    assert_int_equal(err, ERR_NO_SPACE);
}

static void
test_file_that_may_not_grow_fails_jobs_and_leaves_the_database_usable(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct store *store = open_lines();
    assert_int_equal(write_one(store, 1), ERR_OK);

    struct rlimit small = {.rlim_cur = 5 * 1024 * 1024, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fill_until_it_fails(store);
    int64_t first = 1;
    assert_int_equal(store_read(store, is_line_there, &first), ERR_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);

    assert_int_equal(write_one(store, 2), ERR_OK);
    store_close(&store);
    store = open_lines();
    assert_int_equal(store_read(store, is_line_there, &(int64_t){1}), ERR_OK);
    assert_int_equal(store_read(store, is_line_there, &(int64_t){2}), ERR_OK);
    store_close(&store);
}

static void
test_full_disk_fails_jobs_and_leaves_the_database_usable(void **state)
{
    (void)state;
    if (mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=8m") != 0) {
        print_message("skipped: mounting a small disk needs more rights (%s)\n", strerror(errno));
        skip();
    }
    struct store *store = open_lines();
    assert_int_equal(write_one(store, 1), ERR_OK);
    fill_until_it_fails(store);
    assert_int_equal(store_read(store, is_line_there, &(int64_t){1}), ERR_OK);

    // Somebody makes room.
    assert_int_equal(mount("tmpfs", folder, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    assert_int_equal(write_much(store, 1000000), ERR_OK);
    struct store_job job = {.run = delete_all};
    assert_int_equal(store_write_wait(store, &job), ERR_OK);
    assert_int_equal(write_one(store, 2), ERR_OK);
    store_close(&store);
    store = open_lines();
    assert_int_equal(store_read(store, is_line_there, &(int64_t){1}), ERR_NOT_FOUND);
    assert_int_equal(store_read(store, is_line_there, &(int64_t){2}), ERR_OK);
    store_close(&store);
    assert_int_equal(umount(folder), 0);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_what_was_acknowledged_survives_kill_9), // first: it forks, before there are threads
        IN_FOLDER(test_file_that_may_not_grow_fails_jobs_and_leaves_the_database_usable),
        IN_FOLDER(test_full_disk_fails_jobs_and_leaves_the_database_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
