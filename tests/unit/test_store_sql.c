#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

// A job that runs what the test gives it.
struct step {
    struct store_job job; // first, so that a pointer to it is one to the step
    enum err (*act)(struct store_tx *tx, void *context);
    void *context;
};

static enum err
run_step(struct store_tx *tx, struct store_job *job)
{
    struct step *step = (struct step *)job;
    return step->act(tx, step->context);
}

static enum err
write_wait(struct store *store, enum err (*act)(struct store_tx *tx, void *context), void *context)
{
    struct step step = {.job.run = run_step, .act = act, .context = context};
    return store_write_wait(store, &step.job);
}

static const struct store_migration things[] = {
    {"CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB);"
     "CREATE TABLE part (thing BIGINT NOT NULL REFERENCES thing (id), number BIGINT NOT NULL,"
     "    PRIMARY KEY (thing, number));"},
};

static struct store *
open_with_things(void)
{
    struct store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(store_open(folder, &store, &why), ERR_OK);
    assert_int_equal(store_migrate(store, "things", things, 1, &why), ERR_OK);
    return store;
}

static enum err
insert_values(struct store_tx *tx, void *context)
{
    (void)context;
    static const char sql[] = "INSERT INTO thing (id, name, data) VALUES ($1, $2, $3)";
    int64_t changed = -1;
    assert_int_equal(
        store_exec(tx, sql, STORE_ARGS(store_int(INT64_MAX), store_text("h\xc3\xa9"), store_blob("\0\1", 2)), &changed),
        ERR_OK);
    assert_int_equal(changed, 1);
    assert_int_equal(store_exec(tx, sql, STORE_ARGS(store_int(INT64_MIN), store_text(""), store_blob(NULL, 0)), NULL),
        ERR_OK);
    assert_int_equal(store_exec(tx, sql, STORE_ARGS(store_int(0), store_text(NULL), store_null()), NULL), ERR_OK);
    assert_int_equal(store_exec(tx, "UPDATE thing SET data = NULL WHERE id = $1", STORE_ARGS(store_int(77)), &changed),
        ERR_OK);
    assert_int_equal(changed, 0);
    return ERR_OK;
}

static enum err
check_values(struct store_tx *tx, void *context)
{
    (void)context;
    struct store_rows *rows = NULL;
    assert_int_equal(store_query(tx, "SELECT id, name, data FROM thing ORDER BY id", STORE_NO_ARGS, &rows), ERR_OK);

    assert_int_equal(store_rows_next(rows), ERR_OK);
    assert_int_equal(store_rows_int(rows, 0), INT64_MIN);
    assert_string_equal(store_rows_text(rows, 1), "");
    assert_false(store_rows_is_null(rows, 1));
    assert_int_equal(store_rows_blob(rows, 2).size, 0);
    assert_false(store_rows_is_null(rows, 2));

    assert_int_equal(store_rows_next(rows), ERR_OK);
    assert_int_equal(store_rows_int(rows, 0), 0);
    assert_true(store_rows_is_null(rows, 1));
    assert_string_equal(store_rows_text(rows, 1), "");
    assert_int_equal(store_rows_int(rows, 1), 0);
    assert_int_equal(store_rows_blob(rows, 1).size, 0);
    assert_true(store_rows_is_null(rows, 2));

    assert_int_equal(store_rows_next(rows), ERR_OK);
    assert_int_equal(store_rows_int(rows, 0), INT64_MAX);
    struct bytes_view name = store_rows_blob(rows, 1);
    assert_int_equal(name.size, 3);
    assert_string_equal((const char *)name.data, "h\xc3\xa9"); // followed by NUL
    assert_true(bytes_view_equal(store_rows_blob(rows, 2), bytes_view_of("\0\1", 2)));

    assert_int_equal(store_rows_next(rows), ERR_NOT_FOUND);
    assert_int_equal(store_rows_next(rows), ERR_NOT_FOUND); // and does not begin again
    store_rows_free(&rows);
    assert_null(rows);
    store_rows_free(&rows);
    return ERR_OK;
}

static void
test_values_come_back_as_they_were(void **state)
{
    (void)state;
    struct store *store = open_with_things();
    assert_int_equal(write_wait(store, insert_values, NULL), ERR_OK);
    assert_int_equal(store_read(store, check_values, NULL), ERR_OK);
    store_close(&store);
    assert_null(store);

    store = open_with_things(); // and after opening it again
    assert_int_equal(store_read(store, check_values, NULL), ERR_OK);
    store_close(&store);
}

static enum err
break_constraints(struct store_tx *tx, void *context)
{
    (void)context;
    assert_int_equal(store_exec(tx, "INSERT INTO thing (id, name) VALUES (1, 'a')", STORE_NO_ARGS, NULL), ERR_OK);
    assert_int_equal(store_exec(tx, "INSERT INTO thing (id, name) VALUES (2, 'a')", STORE_NO_ARGS, NULL), ERR_EXISTS);
    assert_int_equal(store_exec(tx, "INSERT INTO thing (id, name) VALUES (1, 'b')", STORE_NO_ARGS, NULL), ERR_EXISTS);
    assert_int_equal(store_exec(tx, "INSERT INTO part VALUES (1, 1)", STORE_NO_ARGS, NULL), ERR_OK);
    assert_int_equal(store_exec(tx, "INSERT INTO part VALUES (1, 1)", STORE_NO_ARGS, NULL), ERR_EXISTS);
    assert_int_equal(store_exec(tx, "INSERT INTO part VALUES (9, 1)", STORE_NO_ARGS, NULL), ERR_INTERNAL);
    // A failed statement leaves the job going on.
    assert_int_equal(store_exec(tx, "INSERT INTO part VALUES (1, 2)", STORE_NO_ARGS, NULL), ERR_OK);
    return ERR_OK;
}

static void
test_constraints(void **state)
{
    (void)state;
    struct store *store = open_with_things();
    assert_int_equal(write_wait(store, break_constraints, NULL), ERR_OK);
    store_close(&store);
}

static enum err
make_mistakes(struct store_tx *tx, void *context)
{
    (void)context;
    assert_int_equal(store_exec(tx, "INSRT INTO thing", STORE_NO_ARGS, NULL), ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "", STORE_NO_ARGS, NULL), ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "DELETE FROM part; DELETE FROM thing", STORE_NO_ARGS, NULL), ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "DELETE FROM part ; \n", STORE_NO_ARGS, NULL), ERR_OK);
    assert_int_equal(store_exec(tx, "SELECT 1", STORE_NO_ARGS, NULL), ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "DELETE FROM thing WHERE id = $1", STORE_NO_ARGS, NULL), ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "DELETE FROM thing WHERE id = $1", STORE_ARGS(store_int(1), store_int(2)), NULL),
        ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "DELETE FROM part WHERE thing = $2 AND number = $1",
                         STORE_ARGS(store_int(1), store_int(2)), NULL),
        ERR_INTERNAL);
    assert_int_equal(store_exec(tx, "DELETE FROM thing WHERE id = ?", STORE_ARGS(store_int(1)), NULL), ERR_INTERNAL);
    // One value may be used twice.
    assert_int_equal(store_exec(tx, "DELETE FROM part WHERE thing = $1 OR number = $1", STORE_ARGS(store_int(1)), NULL),
        ERR_OK);
    return ERR_OK;
}

static enum err
write_in_a_read(struct store_tx *tx, void *context)
{
    (void)context;
    return store_exec(tx, "DELETE FROM thing", STORE_NO_ARGS, NULL);
}

static void
test_mistakes_in_sql_are_errors(void **state)
{
    (void)state;
    struct store *store = open_with_things();
    assert_int_equal(write_wait(store, make_mistakes, NULL), ERR_OK);
    assert_int_equal(store_read(store, write_in_a_read, NULL), ERR_DENIED);
    store_close(&store);
}

// Starts a query whose values are gone when it runs.
static struct store_rows *
find_by_name(struct store_tx *tx, const char *name)
{
    char copy[16];
    (void)snprintf(copy, sizeof(copy), "%s", name);
    struct store_rows *rows = NULL;
    assert_int_equal(store_query(tx, "SELECT id FROM thing WHERE name = $1", STORE_ARGS(store_text(copy)), &rows),
        ERR_OK);
    memset(copy, 'x', sizeof(copy) - 1);
    return rows;
}

static enum err
query_inside_the_same_query(struct store_tx *tx, void *context)
{
    (void)context;
    assert_int_equal(store_exec(tx, "INSERT INTO thing (id, name) VALUES (1, 'a'), (2, 'b')", STORE_NO_ARGS, NULL),
        ERR_OK);
    for (int round = 0; round < 2; round++) {
        struct store_rows *outer = find_by_name(tx, "a");
        struct store_rows *inner = find_by_name(tx, "b");
        assert_int_equal(store_rows_next(outer), ERR_OK);
        assert_int_equal(store_rows_next(inner), ERR_OK);
        assert_int_equal(store_rows_int(outer, 0), 1);
        assert_int_equal(store_rows_int(inner, 0), 2);
        store_rows_free(&outer);
        store_rows_free(&inner);
    }
    struct store_rows *none = find_by_name(tx, "c");
    assert_int_equal(store_rows_next(none), ERR_NOT_FOUND);
    store_rows_free(&none);
    return ERR_OK;
}

static void
test_query_may_run_inside_the_same_query(void **state)
{
    (void)state;
    struct store *store = open_with_things();
    assert_int_equal(write_wait(store, query_inside_the_same_query, NULL), ERR_OK);
    store_close(&store);
}

static enum err
use_many_statements(struct store_tx *tx, void *context)
{
    (void)context;
    enum {
        COUNT = 1000, // many more than are kept
    };
    struct store_rows *running = find_by_name(tx, "a"); // must survive that the others push it out
    for (int64_t i = 0; i < COUNT; i++) {
        char sql[64];
        (void)snprintf(sql, sizeof(sql), "SELECT %d + $1", (int)i);
        struct store_rows *rows = NULL;
        assert_int_equal(store_query(tx, sql, STORE_ARGS(store_int(i)), &rows), ERR_OK);
        assert_int_equal(store_rows_next(rows), ERR_OK);
        assert_int_equal(store_rows_int(rows, 0), 2 * i);
        store_rows_free(&rows);
    }
    assert_int_equal(store_rows_next(running), ERR_NOT_FOUND);
    store_rows_free(&running);
    return ERR_OK;
}

static void
test_more_statements_than_are_kept(void **state)
{
    (void)state;
    struct store *store = open_with_things();
    assert_int_equal(store_read(store, use_many_statements, NULL), ERR_OK);
    assert_int_equal(store_read(store, use_many_statements, NULL), ERR_OK);
    store_close(&store);
}

static enum err
insert_returning(struct store_tx *tx, void *context)
{
    (void)context;
    struct store_rows *rows = NULL;
    assert_int_equal(store_query(tx,
                         "INSERT INTO thing (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET "
                         "name = excluded.name RETURNING id, name",
                         STORE_ARGS(store_int(5), store_text("five")), &rows),
        ERR_OK);
    assert_int_equal(store_rows_next(rows), ERR_OK);
    assert_int_equal(store_rows_int(rows, 0), 5);
    assert_string_equal(store_rows_text(rows, 1), "five");
    store_rows_free(&rows); // before its end
    return ERR_OK;
}

static void
test_returning(void **state)
{
    (void)state;
    struct store *store = open_with_things();
    assert_int_equal(write_wait(store, insert_returning, NULL), ERR_OK);
    assert_int_equal(write_wait(store, insert_returning, NULL), ERR_OK);
    store_close(&store);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_values_come_back_as_they_were),
        IN_FOLDER(test_constraints),
        IN_FOLDER(test_mistakes_in_sql_are_errors),
        IN_FOLDER(test_query_may_run_inside_the_same_query),
        IN_FOLDER(test_more_statements_than_are_kept),
        IN_FOLDER(test_returning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
