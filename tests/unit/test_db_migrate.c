// Versions of a file's tables: steps are taken once, in order, and all or none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/db.h"

static char path[256];

static int
make_file(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(path, sizeof(path), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int
remove_file(void **state)
{
    (void)state;
    char command[sizeof(path) + 16];
    (void)snprintf(command, sizeof(command), "rm -f '%s'*", path);
    return system(command);
}

static struct db *
open_db(void)
{
    struct db *db = NULL;
    struct err_detail why = {0};
    assert_int_equal(db_open(path, DB_PRIVATE, &db, &why), ERR_OK);
    return db;
}

static int64_t
get_int(struct db *db, const char *sql)
{
    struct db_rows *rows = NULL;
    assert_int_equal(db_query(db, sql, DB_NO_ARGS, &rows), ERR_OK);
    assert_int_equal(db_rows_next(rows), ERR_OK);
    int64_t value = db_rows_int(rows, 0);
    db_rows_free(&rows);
    return value;
}

static const char *const steps[] = {
    "CREATE TABLE thing (id INTEGER PRIMARY KEY); INSERT INTO thing VALUES (1), (2);",
    "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 7;",
};

static void
test_an_old_file_is_brought_up_to_date_once(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct db *db = open_db();
    assert_int_equal(db_migrate(db, steps, 1, &why), ERR_OK);
    db_close(&db);
    db = open_db();
    assert_int_equal(db_migrate(db, steps, 2, &why), ERR_OK);
    assert_int_equal(db_migrate(db, steps, 2, &why), ERR_OK);
    assert_int_equal(get_int(db, "SELECT SUM(size) FROM thing"), 14);
    assert_int_equal(get_int(db, "PRAGMA user_version"), 2);
    db_close(&db);
}

static void
test_a_step_that_fails_changes_nothing(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "CREATE TABLE thing (id INTEGER PRIMARY KEY);",
        "CREATE TABLE other (id INTEGER PRIMARY KEY); INSERT INTO nowhere VALUES (1);",
    };
    struct err_detail why = {0};
    struct db *db = open_db();
    assert_int_equal(db_migrate(db, broken, 2, &why), ERR_INTERNAL);
    assert_non_null(strstr(why.message, "nowhere"));
    assert_false(db_is_in_transaction(db));
    assert_int_equal(get_int(db, "PRAGMA user_version"), 0);
    assert_int_equal(get_int(db, "SELECT COUNT(*) FROM sqlite_schema"), 0);
    db_close(&db);
}

static void
test_a_newer_file_is_refused(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct db *db = open_db();
    assert_int_equal(db_migrate(db, steps, 2, &why), ERR_OK);
    assert_int_equal(db_migrate(db, steps, 1, &why), ERR_VERSION);
    assert_non_null(strstr(why.message, "newer"));
    db_close(&db);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_file, remove_file)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_old_file_is_brought_up_to_date_once),
        TEST(test_a_step_that_fails_changes_nothing),
        TEST(test_a_newer_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
