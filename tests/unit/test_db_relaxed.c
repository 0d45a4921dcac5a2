// Transactions that do not wait for the disk: only they, and whatever becomes of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/db.h"

enum {
    NORMAL = 1, // what PRAGMA synchronous answers
    FULL = 2,
};

static char folder[256];

static int
make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/fc-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int
remove_folder(void **state)
{
    (void)state;
    char command[sizeof(folder) + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static struct db *
open_db(void)
{
    char path[sizeof(folder) + 16];
    struct db *db = NULL;
    (void)snprintf(path, sizeof(path), "%s/db", folder);
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(db_open(path, DB_PRIVATE, &db, NULL), ERR_OK);
    assert_int_equal(db_script(db, "CREATE TABLE IF NOT EXISTS thing (id INTEGER PRIMARY KEY)"), ERR_OK);
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

static void
test_only_the_relaxed_transaction_is(void **state)
{
    (void)state;
    struct db *db = open_db();
    assert_int_equal(get_int(db, "PRAGMA synchronous"), FULL);
    assert_int_equal(db_begin_relaxed(db), ERR_OK);
    assert_int_equal(get_int(db, "PRAGMA synchronous"), NORMAL);
    assert_int_equal(db_exec(db, "INSERT INTO thing VALUES (1)", DB_NO_ARGS, NULL), ERR_OK);
    assert_int_equal(db_commit(db), ERR_OK);
    assert_int_equal(get_int(db, "PRAGMA synchronous"), FULL);

    assert_int_equal(db_begin_relaxed(db), ERR_OK);
    assert_int_equal(db_exec(db, "INSERT INTO thing VALUES (2)", DB_NO_ARGS, NULL), ERR_OK);
    db_rollback(db);
    assert_int_equal(get_int(db, "PRAGMA synchronous"), FULL);

    assert_int_equal(db_begin(db), ERR_OK);
    assert_int_equal(get_int(db, "PRAGMA synchronous"), FULL);
    assert_int_equal(db_commit(db), ERR_OK);
    db_close(&db);

    db = open_db();
    assert_int_equal(get_int(db, "SELECT COUNT(*) FROM thing"), 1);
    db_close(&db);
}

static void
test_one_that_cannot_begin_leaves_nothing_behind(void **state)
{
    (void)state;
    struct db *db = open_db();
    assert_int_equal(db_begin(db), ERR_OK);
    assert_int_not_equal(db_begin_relaxed(db), ERR_OK);
    assert_true(db_is_in_transaction(db));
    assert_int_equal(db_commit(db), ERR_OK);
    assert_int_equal(get_int(db, "PRAGMA synchronous"), FULL);
    db_close(&db);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_the_relaxed_transaction_is, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_one_that_cannot_begin_leaves_nothing_behind, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
