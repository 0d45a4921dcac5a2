// The local store: whose files it accepts, what it keeps, and what it says when the file is of no use.
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "db/db.h"
#include "fc_store_support.h"

static void
test_the_folder_and_the_file_are_private(void **state)
{
    (void)state;
    char deep[sizeof(data_dir) + 8];
    struct stat status;
    (void)snprintf(deep, sizeof(deep), "%s/a/b", data_dir);
    setenv("FC_DATA_DIR", deep, 1);
    mode_t mask = umask(0);
    struct fc_store *store = open_store("ann");
    umask(mask);
    assert_int_equal(stat(deep, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(stat(fc_store_path(store), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_non_null(strstr(fc_store_path(store), "/a/b/ann@127.0.0.1_7420-"));
    fc_store_close(&store);
    assert_null(store);
    fc_store_close(&store);
}

static void
test_the_folder_follows_the_environment(void **state)
{
    (void)state;
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    setenv("FC_DATA_DIR", "/own", 1);
    setenv("XDG_DATA_HOME", "/xdg", 1);
    setenv("HOME", "/home/a", 1);
    DO(fc_store_dir(dir, &why));
    assert_string_equal(dir, "/own");
    unsetenv("FC_DATA_DIR");
    DO(fc_store_dir(dir, &why));
    assert_string_equal(dir, "/xdg/fc");
    setenv("XDG_DATA_HOME", "relative", 1);
    DO(fc_store_dir(dir, &why));
    assert_string_equal(dir, "/home/a/.local/share/fc");
    setenv("HOME", "", 1);
    assert_int_equal(fc_store_dir(dir, &why), ERR_PRECONDITION);
    assert_non_null(strstr(why.message, "FC_DATA_DIR"));
}

static void
refuse(enum err expected, const char *advice)
{
    struct fc_store *store = NULL;
    assert_int_equal(fc_store_open(SERVER_URL, "ann", &store, &why), expected);
    assert_null(store);
    if (strstr(why.message, advice) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", why.message, advice);
    }
}

static void
test_what_others_can_read_or_write_is_refused(void **state)
{
    (void)state;
    char path[512];
    struct fc_store *store = open_store("ann");
    (void)snprintf(path, sizeof(path), "%s", fc_store_path(store));
    fc_store_close(&store);
    assert_int_equal(chmod(path, 0640), 0);
    refuse(ERR_DENIED, "run chmod 600 '");
    assert_int_equal(chmod(path, 0602), 0);
    refuse(ERR_DENIED, "run chmod 600 '");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(data_dir, 0720), 0);
    refuse(ERR_DENIED, "run chmod 700 '");
    assert_int_equal(chmod(data_dir, 0700), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    refuse(ERR_DENIED, "not a regular file");
    assert_int_equal(unlink(path), 0);
    store = open_store("ann");
    fc_store_close(&store);
}

static void
test_every_account_has_its_own(void **state)
{
    (void)state;
    struct fc_store *ann = open_store("ann");
    struct fc_store *bob = open_store("bob");
    struct fc_store *elsewhere = NULL;
    struct bytes out = {0};
    DO(fc_store_open("tcp://127.0.0.1.7420", "ann", &elsewhere, &why)); // the same but for what a name cannot show
    DO(fc_store_note_put(ann, "x", bytes_view_of_text("1"), &why));
    assert_int_equal(fc_store_note_get(bob, "x", &out, &why), ERR_NOT_FOUND);
    assert_int_equal(fc_store_note_get(elsewhere, "x", &out, &why), ERR_NOT_FOUND);
    DO(fc_store_note_get(ann, "x", &out, &why));
    assert_true(bytes_view_equal(bytes_as_view(&out), bytes_view_of_text("1")));
    bytes_free(&out);
    DO(fc_store_note_put(ann, "x", bytes_view_of_text(""), &why));
    assert_int_equal(fc_store_note_get(ann, "x", &out, &why), ERR_NOT_FOUND);
    fc_store_close(&elsewhere);
    fc_store_close(&bob);
    fc_store_close(&ann);
    struct fc_store *none = NULL;
    assert_int_equal(fc_store_open(SERVER_URL, "../ann", &none, &why), ERR_INVALID);
    assert_int_equal(fc_store_open(SERVER_URL, "", &none, &why), ERR_INVALID);
}

static void
test_keys_come_back_as_they_were(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct fc_store_keys keys = {.is_recovery_offline = true};
    struct fc_store_keys found;
    assert_int_equal(fc_store_keys_get(store, &found, &why), ERR_NOT_FOUND);
    memset(keys.user_id, 1, sizeof(keys.user_id));
    memset(&keys.device, 2, sizeof(keys.device));
    DO(fc_store_keys_put(store, &keys, &why));
    fc_store_close(&store);

    store = open_store("ann");
    DO(fc_store_keys_get(store, &found, &why));
    assert_memory_equal(found.user_id, keys.user_id, sizeof(keys.user_id));
    assert_memory_equal(&found.device, &keys.device, sizeof(keys.device));
    assert_true(found.is_recovery_offline);
    assert_false(found.has_identity);

    keys.has_identity = true;
    memset(keys.identity_private, 3, sizeof(keys.identity_private));
    DO(fc_store_keys_put(store, &keys, &why));
    DO(fc_store_keys_get(store, &found, &why));
    assert_true(found.has_identity);
    assert_memory_equal(found.identity_private, keys.identity_private, sizeof(keys.identity_private));

    put_room(store, 1, "lobby");
    DO(fc_store_epoch_put(store, filled(1), 1, filled(9), &why));
    DO(fc_store_keys_remove(store, &why));
    uint8_t secret[E2E_SECRET_BYTES];
    assert_int_equal(fc_store_keys_get(store, &found, &why), ERR_NOT_FOUND);
    assert_int_equal(fc_store_epoch_get(store, filled(1), 1, secret, &why), ERR_NOT_FOUND);
    fc_store_close(&store);
}

static void
test_a_transaction_is_kept_or_undone_as_a_whole(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct bytes out = {0};
    DO(fc_store_begin(store, &why));
    DO(fc_store_note_put(store, "a", bytes_view_of_text("1"), &why));
    put_room(store, 1, "lobby");
    fc_store_rollback(store);
    assert_int_equal(fc_store_note_get(store, "a", &out, &why), ERR_NOT_FOUND);
    DO(fc_store_begin(store, &why));
    DO(fc_store_note_put(store, "a", bytes_view_of_text("2"), &why));
    put_room(store, 1, "lobby");
    DO(fc_store_keys_remove(store, &why)); // has a transaction of its own otherwise
    DO(fc_store_commit(store, &why));
    fc_store_close(&store);
    store = open_store("ann");
    DO(fc_store_note_get(store, "a", &out, &why));
    assert_int_equal(out.size, 1);
    bytes_free(&out);
    fc_store_close(&store);
}

static void
overwrite(const char *path, off_t offset, size_t size)
{
    uint8_t junk[4096];
    memset(junk, 0x5a, sizeof(junk));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t at = 0; at < size; at += sizeof(junk)) {
        assert_int_equal(file_write_at(fd, bytes_view_of(junk, sizeof(junk)), offset + (off_t)at), ERR_OK);
    }
    close(fd);
}

static void
test_a_damaged_file_says_how_to_go_on(void **state)
{
    (void)state;
    char path[512];
    struct stat status;
    struct fc_store *store = open_store("ann");
    (void)snprintf(path, sizeof(path), "%s", fc_store_path(store));
    put_room(store, 1, "lobby");
    fc_store_close(&store);

    // A server's connection copies the log into the file when it closes.
    struct db *db = NULL;
    DO(db_open(path, DB_WRITER, &db, &why));
    db_close(&db);
    // Not its first page, so that it opens, but all tables.
    assert_int_equal(stat(path, &status), 0);
    overwrite(path, 4096, (size_t)status.st_size - 4096);
    enum err err = fc_store_open(SERVER_URL, "ann", &store, &why);
    if (err == ERR_OK) {
        struct fc_store_room room;
        err = fc_store_room_get(store, filled(1), &room, &why);
        fc_store_close(&store);
    }
    assert_int_equal(err, ERR_CORRUPT);
    assert_non_null(strstr(why.message, "fc recover"));
    assert_non_null(strstr(why.message, "mv '"));

    overwrite(path, 0, 4096);
    refuse(ERR_CORRUPT, "fc recover");
}

static void
test_a_file_that_was_moved_away_leaves_nothing_behind(void **state)
{
    (void)state;
    char path[512];
    char moved[520];
    struct bytes out = {0};
    struct fc_store *store = open_store("ann");
    (void)snprintf(path, sizeof(path), "%s", fc_store_path(store));
    (void)snprintf(moved, sizeof(moved), "%s.damaged", path);
    DO(fc_store_note_put(store, "x", bytes_view_of_text("1"), &why));
    fc_store_close(&store);
    assert_int_equal(rename(path, moved), 0);
    store = open_store("ann");
    assert_int_equal(fc_store_note_get(store, "x", &out, &why), ERR_NOT_FOUND);
    DO(fc_store_note_put(store, "x", bytes_view_of_text("2"), &why));
    fc_store_close(&store);
    store = open_store("ann");
    DO(fc_store_note_get(store, "x", &out, &why));
    assert_true(bytes_view_equal(bytes_as_view(&out), bytes_view_of_text("2")));
    bytes_free(&out);
    fc_store_close(&store);
}

static void
test_a_newer_file_is_left_alone(void **state)
{
    (void)state;
    struct fc_store *store = open_store("ann");
    struct db *db = NULL;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s", fc_store_path(store));
    fc_store_close(&store);
    DO(db_open(path, DB_PRIVATE, &db, &why));
    DO(db_script(db, "PRAGMA user_version = 1000"));
    db_close(&db);
    refuse(ERR_VERSION, "newer fc");
}

// Runs act in processes of their own, all at once.
static void
in_processes(int count, void (*act)(int number))
{
    int go[2];
    assert_int_equal(pipe(go), 0);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            char byte;
            close(go[1]);
            (void)!read(go[0], &byte, 1); // until the parent closes its end
            act(i);
            _exit(0);
        }
    }
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < count; i++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

enum {
    PROCESSES = 4,
    NOTES = 25,
};

static void
write_notes(int number)
{
    struct fc_store *store = NULL;
    for (int i = 0; i < NOTES; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%d.%d", number, i);
        enum err err = fc_store_open(SERVER_URL, "ann", &store, &why);
        if (err == ERR_OK) {
            err = fc_store_note_put(store, name, bytes_view_of_text("x"), &why);
        }
        if (err != ERR_OK) {
            fprintf(stderr, "%s\n", why.message);
            _exit(1);
        }
        fc_store_close(&store);
    }
}

static void
test_several_processes_make_and_write_it_at_once(void **state)
{
    (void)state;
    in_processes(PROCESSES, write_notes);
    struct fc_store *store = open_store("ann");
    for (int i = 0; i < PROCESSES * NOTES; i++) {
        char name[32];
        struct bytes out = {0};
        (void)snprintf(name, sizeof(name), "%d.%d", i / NOTES, i % NOTES);
        DO(fc_store_note_get(store, name, &out, &why));
        bytes_free(&out);
    }
    fc_store_close(&store);
}

static void
test_a_full_disk_is_told_and_does_no_harm(void **state)
{
    (void)state;
    if (mount("tmpfs", data_dir, "tmpfs", 0, "size=1m,mode=0700") != 0) {
        assert_true(errno == EPERM || errno == EACCES);
        skip(); // only root mounts
    }
    struct fc_store *store = open_store("ann");
    static const uint8_t much[64 * 1024];
    enum err err = ERR_OK;
    int written = 0;
    while (err == ERR_OK && written < 100) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%d", written);
        err = fc_store_note_put(store, name, bytes_view_of(much, sizeof(much)), &why);
        written += err == ERR_OK;
    }
    assert_int_equal(err, ERR_NO_SPACE);
    assert_non_null(strstr(why.message, "no space left"));
    assert_true(written > 0);
    for (int i = 0; i < written; i++) {
        char name[32];
        struct bytes out = {0};
        (void)snprintf(name, sizeof(name), "%d", i);
        DO(fc_store_note_get(store, name, &out, &why));
        assert_int_equal(out.size, sizeof(much));
        bytes_free(&out);
    }
    fc_store_close(&store);
    assert_int_equal(umount(data_dir), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_data_dir, remove_data_dir)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_folder_and_the_file_are_private),
        TEST(test_the_folder_follows_the_environment),
        TEST(test_what_others_can_read_or_write_is_refused),
        TEST(test_every_account_has_its_own),
        TEST(test_keys_come_back_as_they_were),
        TEST(test_a_transaction_is_kept_or_undone_as_a_whole),
        TEST(test_a_damaged_file_says_how_to_go_on),
        TEST(test_a_file_that_was_moved_away_leaves_nothing_behind),
        TEST(test_a_newer_file_is_left_alone),
        TEST(test_several_processes_make_and_write_it_at_once),
        TEST(test_a_full_disk_is_told_and_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
