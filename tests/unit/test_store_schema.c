#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
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

static const struct store_migration steps[] = {
    {"CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO note VALUES (1, 'kept');"},
    {"ALTER TABLE note ADD COLUMN color TEXT; UPDATE note SET color = 'green';"},
    {"CREATE TABLE third (id INTEGER PRIMARY KEY); CREATE TABLE note (id INTEGER PRIMARY KEY);"}, // exists already
};

static struct store *
open_store(void)
{
    struct store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(store_open(folder, &store, &why), ERR_OK);
    assert_string_equal(why.message, "");
    return store;
}

static enum err
read_color(struct store_tx *tx, void *context)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT text || ' ' || color FROM note", STORE_NO_ARGS, &rows);
    if (err == ERR_OK) {
        assert_int_equal(store_rows_next(rows), ERR_OK);
        (void)snprintf(context, 16, "%s", store_rows_text(rows, 0));
    }
    store_rows_free(&rows);
    return err;
}

static enum err
count_third(struct store_tx *tx, void *context)
{
    (void)context;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT count(*) FROM third", STORE_NO_ARGS, &rows);
    store_rows_free(&rows);
    return err;
}

static void
test_tables_of_version_1_become_version_2(void **state)
{
    (void)state;
    struct err_detail why = {0};
    char color[16] = "";
    struct store *store = open_store();
    assert_int_equal(store_migrate(store, "notes", steps, 1, &why), ERR_OK);
    assert_int_equal(store_read(store, read_color, color), ERR_INTERNAL);    // no such column
    assert_int_equal(store_migrate(store, "notes", steps, 1, &why), ERR_OK); // nothing to do
    store_close(&store);

    store = open_store();
    assert_int_equal(store_migrate(store, "notes", steps, 2, &why), ERR_OK);
    assert_int_equal(store_read(store, read_color, color), ERR_OK);
    assert_string_equal(color, "kept green");
    store_close(&store);
}

static void
test_services_have_versions_of_their_own(void **state)
{
    (void)state;
    static const struct store_migration others[] = {{"CREATE TABLE other (id INTEGER PRIMARY KEY)"}};
    struct err_detail why = {0};
    struct store *store = open_store();
    assert_int_equal(store_migrate(store, "notes", steps, 2, &why), ERR_OK);
    assert_int_equal(store_migrate(store, "others", others, 1, &why), ERR_OK);
    store_close(&store);
}

static void
test_newer_tables_are_refused_and_left_alone(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct store *store = open_store();
    assert_int_equal(store_migrate(store, "notes", steps, 2, &why), ERR_OK);
    assert_int_equal(store_migrate(store, "notes", steps, 1, &why), ERR_VERSION);
    assert_non_null(strstr(why.message, "\"notes\""));
    assert_non_null(strstr(why.message, folder));
    assert_non_null(strstr(why.message, "version 2"));
    assert_non_null(strstr(why.message, "newer program"));
    assert_int_equal(store_migrate(store, "notes", steps, 1, NULL), ERR_VERSION);
    assert_int_equal(store_migrate(store, "notes", steps, 2, NULL), ERR_OK);
    store_close(&store);
}

static enum err
pretend_newer_layout(struct store_tx *tx, struct store_job *job)
{
    (void)job;
    return store_exec(tx, "INSERT INTO schema_version VALUES ('store', 1)", STORE_NO_ARGS, NULL);
}

static void
test_newer_layout_is_not_opened(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct store *store = open_store();
    struct store_job job = {.run = pretend_newer_layout};
    assert_int_equal(store_write_wait(store, &job), ERR_OK);
    store_close(&store);
    assert_int_equal(store_open(folder, &store, &why), ERR_VERSION);
    assert_null(store);
    assert_non_null(strstr(why.message, "newer program"));
}

static void
test_failed_step_is_undone_as_a_whole(void **state)
{
    (void)state;
    struct err_detail why = {0};
    char color[16] = "";
    struct store *store = open_store();
    assert_int_equal(store_migrate(store, "notes", steps, 3, &why), ERR_INTERNAL);
    assert_non_null(strstr(why.message, "version 3"));
    // The first two are there and the table that the third had made already is not.
    assert_int_equal(store_read(store, read_color, color), ERR_OK);
    assert_int_equal(store_read(store, count_third, NULL), ERR_INTERNAL);
    assert_int_equal(store_migrate(store, "notes", steps, 2, &why), ERR_OK);
    store_close(&store);
}

static void
test_files_are_private(void **state)
{
    (void)state;
    static const char *const names[] = {"fc.db", "fc.db-wal", "fc.db-shm"};
    mode_t before = umask(0);
    struct store *store = open_store();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[512];
        struct stat status;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0600);
    }
    umask(before);
    store_close(&store);
}

static void
test_folder_is_made(void **state)
{
    (void)state;
    char path[512];
    struct store *store = NULL;
    struct err_detail why = {0};
    (void)snprintf(path, sizeof(path), "%s/a/b", folder);
    assert_int_equal(store_open(path, &store, &why), ERR_OK);
    store_close(&store);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
}

static void
test_what_is_no_database_is_not_opened(void **state)
{
    (void)state;
    char path[512];
    static char garbage[8192];
    memset(garbage, 'x', sizeof(garbage));
    (void)snprintf(path, sizeof(path), "%s/fc.db", folder);
    assert_int_equal(file_replace(path, bytes_view_of(garbage, sizeof(garbage)), 0600), ERR_OK);
    struct store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(store_open(folder, &store, &why), ERR_CORRUPT);
    assert_null(store);
    assert_non_null(strstr(why.message, path));
    // And is not touched.
    struct bytes content = {0};
    assert_int_equal(file_read(path, sizeof(garbage), &content), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&content), bytes_view_of(garbage, sizeof(garbage))));
    bytes_free(&content);
}

static void
test_folder_that_cannot_be_says_so(void **state)
{
    (void)state;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/file", folder);
    assert_int_equal(file_replace(path, bytes_view_of_text("x"), 0600), ERR_OK);
    struct store *store = NULL;
    struct err_detail why = {0};
    assert_int_equal(store_open(path, &store, &why), ERR_EXISTS);
    assert_non_null(strstr(why.message, path));
    assert_int_equal(store_open("/proc/nowhere", &store, &why), ERR_NOT_FOUND);
    assert_null(store);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_tables_of_version_1_become_version_2),
        IN_FOLDER(test_services_have_versions_of_their_own),
        IN_FOLDER(test_newer_tables_are_refused_and_left_alone),
        IN_FOLDER(test_newer_layout_is_not_opened),
        IN_FOLDER(test_failed_step_is_undone_as_a_whole),
        IN_FOLDER(test_files_are_private),
        IN_FOLDER(test_folder_is_made),
        IN_FOLDER(test_what_is_no_database_is_not_opened),
        IN_FOLDER(test_folder_that_cannot_be_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
