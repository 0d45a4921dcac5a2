// Copies for a backup: of a database that is written to meanwhile, and of contents, as links and as bytes.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "services/store/blob.h"
#include "services/store/store.h"

enum {
    CONTENT_BYTES = 300 * 1000,
    ROWS_AT_LEAST = 50,
};

static const uint8_t id[BLOB_ID_BYTES] = {0xab, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
#define HEX "abcd0102030405060708090a0b0c0d0e"

static char from_dir[256];
static char to_dir[256];
static uint8_t content[CONTENT_BYTES];
static uint8_t found[CONTENT_BYTES];

static int
setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(from_dir, sizeof(from_dir), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    (void)snprintf(to_dir, sizeof(to_dir), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    for (size_t i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i * 31 >> 3);
    }
    return mkdtemp(from_dir) == NULL || mkdtemp(to_dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    (void)state;
    char command[2 * sizeof(from_dir) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s' '%s'", from_dir, to_dir);
    return system(command);
}

static struct blob_store *
open_blobs(const char *dir)
{
    struct blob_store *blobs = NULL;
    struct err_detail why = {0};
    assert_int_equal(blob_store_open(dir, &blobs, &why), ERR_OK);
    return blobs;
}

struct waited {
    struct blob_write write; // first
    pthread_mutex_t mutex;
    pthread_cond_t done;
    bool is_done;
    enum err result;
};

static void
on_written(struct blob_write *write, enum err result)
{
    struct waited *waited = (struct waited *)write;
    pthread_mutex_lock(&waited->mutex);
    waited->is_done = true;
    waited->result = result;
    pthread_cond_signal(&waited->done);
    pthread_mutex_unlock(&waited->mutex);
}

static void
write_content(struct blob_store *blobs)
{
    struct waited waited = {.mutex = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    assert_int_equal(blob_upload_create(blobs, id, CONTENT_BYTES), ERR_OK);
    memcpy(waited.write.id, id, sizeof(id));
    waited.write.data = bytes_view_of(content, CONTENT_BYTES);
    waited.write.done = on_written;
    blob_upload_write(blobs, &waited.write);
    pthread_mutex_lock(&waited.mutex);
    while (!waited.is_done) {
        pthread_cond_wait(&waited.done, &waited.mutex);
    }
    pthread_mutex_unlock(&waited.mutex);
    assert_int_equal(waited.result, ERR_OK);
}

static nlink_t
links_of(const char *dir, const char *folder)
{
    char path[512];
    struct stat status;
    (void)snprintf(path, sizeof(path), "%s/%s/" HEX, dir, folder);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(status.st_size, CONTENT_BYTES);
    return status.st_nlink;
}

static void
assert_copied(struct blob_store *to)
{
    memset(found, 0, sizeof(found));
    assert_int_equal(blob_read(to, id, 0, found, CONTENT_BYTES), ERR_OK);
    assert_memory_equal(found, content, CONTENT_BYTES);
}

static void
copy_content(bool is_finished, bool may_link, nlink_t links)
{
    struct blob_store *from = open_blobs(from_dir);
    struct blob_store *to = open_blobs(to_dir);
    write_content(from);
    if (is_finished) {
        assert_int_equal(blob_upload_finish(from, id), ERR_OK);
    }
    assert_int_equal(blob_copy(to, from_dir, id, may_link), ERR_OK);
    assert_int_equal(links_of(to_dir, "objects/ab"), links);
    assert_copied(to);
    // The original may go.
    assert_int_equal(blob_remove(from, id), ERR_OK);
    assert_copied(to);
    blob_store_close(&to);
    blob_store_close(&from);
}

static void
test_a_content_is_linked_where_that_is_wanted(void **state)
{
    (void)state;
    copy_content(true, true, 2);
}

static void
test_a_content_is_copied(void **state)
{
    (void)state;
    copy_content(true, false, 1);
}

// A commit that was cut short has its content among the uploads. Its link must not be written to by a later upload.
static void
test_an_upload_becomes_a_content_of_the_copy(void **state)
{
    (void)state;
    copy_content(false, false, 1);
}

static void
test_what_is_not_there_cannot_be_copied(void **state)
{
    (void)state;
    struct blob_store *from = open_blobs(from_dir);
    struct blob_store *to = open_blobs(to_dir);
    char path[512];
    assert_int_equal(blob_copy(to, from_dir, id, true), ERR_NOT_FOUND);
    assert_int_equal(blob_read(to, id, 0, found, 1), ERR_NOT_FOUND);
    (void)snprintf(path, sizeof(path), "%s/objects/ab/" HEX, to_dir);
    assert_int_not_equal(access(path, F_OK), 0);
    blob_store_close(&to);
    blob_store_close(&from);
}

// --- The database ---------------------------------------------------------------------------------------------------

static const struct store_migration tables[] = {
    {"CREATE TABLE pair (number BIGINT NOT NULL PRIMARY KEY, half BIGINT NOT NULL);"},
};

struct pair_job {
    struct store_job job; // first
    int64_t number;
};

// A pair is two rows that are written together, so that a copy has both or neither.
static enum err
run_pair(struct store_tx *tx, struct store_job *job)
{
    int64_t number = ((struct pair_job *)job)->number;
    enum err err = store_exec(tx, "INSERT INTO pair VALUES ($1, 0)", STORE_ARGS(store_int(2 * number)), NULL);
    return err == ERR_OK
               ? store_exec(tx, "INSERT INTO pair VALUES ($1, 1)", STORE_ARGS(store_int(2 * number + 1)), NULL)
               : err;
}

struct writer {
    struct store *store;
    atomic_bool is_over;
    atomic_int count; // acknowledged
};

static void *
write_pairs(void *context)
{
    struct writer *writer = context;
    while (!atomic_load(&writer->is_over)) {
        struct pair_job job = {.job = {.run = run_pair}, .number = atomic_load(&writer->count)};
        if (store_write_wait(writer->store, &job.job) != ERR_OK) {
            return writer; // told by the test
        }
        atomic_fetch_add(&writer->count, 1);
    }
    return NULL;
}

static enum err
count_rows(struct store_tx *tx, void *context)
{
    int64_t *counts = context;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*), COALESCE(SUM(half), 0), COALESCE(MAX(number), -1) FROM pair",
        STORE_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    for (int i = 0; i < 3 && err == ERR_OK; i++) {
        counts[i] = store_rows_int(rows, i);
    }
    store_rows_free(&rows);
    return err;
}

static void
test_a_copy_of_a_database_at_work_is_one_moment_of_it(void **state)
{
    (void)state;
    struct writer writer = {.store = NULL};
    struct err_detail why = {0};
    struct store *copy = NULL;
    int64_t counts[3] = {0};
    pthread_t thread;
    void *failed = NULL;

    assert_int_equal(store_open(from_dir, &writer.store, &why), ERR_OK);
    assert_int_equal(store_migrate(writer.store, "pairs", tables, 1, &why), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, write_pairs, &writer), 0);
    while (atomic_load(&writer.count) < ROWS_AT_LEAST) {
        usleep(100);
    }
    int before = atomic_load(&writer.count);
    assert_int_equal(store_back_up(from_dir, to_dir, &why), ERR_OK);
    int after = atomic_load(&writer.count);
    atomic_store(&writer.is_over, true);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);

    assert_int_equal(store_open(to_dir, &copy, &why), ERR_OK);
    assert_int_equal(store_check(copy, &why), ERR_OK);
    assert_int_equal(store_migrate(copy, "pairs", tables, 1, &why), ERR_OK);
    assert_int_equal(store_read(copy, count_rows, counts), ERR_OK);
    assert_int_equal(counts[0], 2 * counts[1]);
    assert_int_equal(counts[2], counts[0] - 1);
    assert_true(counts[1] >= before);
    assert_true(counts[1] <= after + 1);
    // It is a database of its own.
    struct pair_job job = {.job = {.run = run_pair}, .number = 1000 * 1000};
    assert_int_equal(store_write_wait(copy, &job.job), ERR_OK);
    store_close(&copy);
    // And never takes the place of one that is there.
    assert_int_not_equal(store_back_up(from_dir, to_dir, &why), ERR_OK);
    store_close(&writer.store);
}

static void
test_no_copy_of_no_database(void **state)
{
    (void)state;
    struct err_detail why = {0};
    char path[512];
    assert_int_not_equal(store_back_up(from_dir, to_dir, &why), ERR_OK);
    assert_true(why.message[0] != '\0');
    (void)snprintf(path, sizeof(path), "%s/fc.db", from_dir);
    assert_int_not_equal(access(path, F_OK), 0);
}

#define IN_FOLDERS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDERS(test_a_content_is_linked_where_that_is_wanted),
        IN_FOLDERS(test_a_content_is_copied),
        IN_FOLDERS(test_an_upload_becomes_a_content_of_the_copy),
        IN_FOLDERS(test_what_is_not_there_cannot_be_copied),
        IN_FOLDERS(test_a_copy_of_a_database_at_work_is_one_moment_of_it),
        IN_FOLDERS(test_no_copy_of_no_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
