// Copies of a database that is in use: one snapshot of what was committed, and nothing when it cannot be had.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/db.h"

static char folder[256];
static char from[300];
static char to[300];

static int
set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(from, sizeof(from), "%s/from", folder);
    (void)snprintf(to, sizeof(to), "%s/to", folder);
    int fd = open(from, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : close(fd);
}

static int
tear_down(void **state)
{
    (void)state;
    char command[sizeof(folder) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static struct db *
open_db(const char *path, enum db_role role)
{
    struct db *db = NULL;
    struct err_detail why = {0};
    assert_int_equal(db_open(path, role, &db, &why), ERR_OK);
    return db;
}

static int64_t
count_things(struct db *db)
{
    struct db_rows *rows = NULL;
    assert_int_equal(db_query(db, "SELECT COUNT(*) FROM thing", DB_NO_ARGS, &rows), ERR_OK);
    assert_int_equal(db_rows_next(rows), ERR_OK);
    int64_t value = db_rows_int(rows, 0);
    db_rows_free(&rows);
    return value;
}

static void
add_thing(struct db *db, size_t size)
{
    uint8_t *data = calloc(1, size);
    assert_non_null(data);
    assert_int_equal(db_exec(db, "INSERT INTO thing (data) VALUES ($1)", DB_ARGS(db_blob(data, size)), NULL), ERR_OK);
    free(data);
}

static struct db *
make_db(void)
{
    struct db *db = open_db(from, DB_WRITER);
    assert_int_equal(db_script(db, "CREATE TABLE thing (id INTEGER PRIMARY KEY, data BLOB)"), ERR_OK);
    add_thing(db, 10);
    add_thing(db, 10);
    return db;
}

static void
test_a_copy_has_what_was_committed(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct stat status;
    struct db *db = make_db();
    // Somebody is just writing, and what was committed may still be in the log beside the file.
    assert_int_equal(db_begin(db), ERR_OK);
    add_thing(db, 10);
    assert_int_equal(db_copy(from, to, &why), ERR_OK);
    assert_int_equal(db_commit(db), ERR_OK);
    assert_int_equal(count_things(db), 3);
    db_close(&db);
    assert_int_equal(stat(to, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    db = open_db(to, DB_WRITER);
    assert_int_equal(count_things(db), 2);
    add_thing(db, 10);
    db_close(&db);
}

static void
test_a_copy_replaces_nothing(void **state)
{
    (void)state;
    struct err_detail why = {0};
    char text[8] = "";
    struct db *db = make_db();
    int fd = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    assert_int_equal(db_copy(from, to, &why), ERR_EXISTS);
    assert_non_null(strstr(why.message, to));
    assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
    assert_string_equal(text, "mine");
    close(fd);
    db_close(&db);
}

static void
test_what_is_no_database_is_not_copied(void **state)
{
    (void)state;
    struct err_detail why = {0};
    int fd = open(from, O_WRONLY | O_CLOEXEC);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(write(fd, "not a database", 14), 14);
    }
    close(fd);
    assert_int_equal(db_copy(from, to, &why), ERR_CORRUPT);
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(unlink(from), 0);
    assert_int_not_equal(db_copy(from, to, &why), ERR_OK);
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(access(from, F_OK), -1); // nor made by asking for it
}

static void
test_a_copy_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct rlimit before;
    struct db *db = make_db();
    add_thing(db, 200000);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit small = {.rlim_cur = 50000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum err err = db_copy(from, to, &why);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_not_equal(err, ERR_OK);
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(db_copy(from, to, &why), ERR_OK);
    assert_int_equal(count_things(db), 3);
    db_close(&db);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_a_copy_has_what_was_committed),
        IN_FOLDER(test_a_copy_replaces_nothing),
        IN_FOLDER(test_what_is_no_database_is_not_copied),
        IN_FOLDER(test_a_copy_that_does_not_fit_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
