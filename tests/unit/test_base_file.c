#include <dirent.h>
#include <errno.h>
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

#include "base/file.h"

enum {
    PATH_BYTES = 256,
};

static char folder[PATH_BYTES];

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
    char command[PATH_BYTES + 16];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static const char *
path_of(const char *name, char path[2 * PATH_BYTES])
{
    (void)snprintf(path, 2 * PATH_BYTES, "%s/%s", folder, name);
    return path;
}

static size_t
count_entries(void)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t count = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

static void
assert_content(const char *path, const char *expected)
{
    struct bytes content = {0};
    assert_int_equal(file_read(path, 1 << 20, &content), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&content), bytes_view_of_text(expected)));
    bytes_free(&content);
}

static void
test_replace_leaves_new_content_the_mode_and_nothing_else(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    path_of("state", path);
    mode_t before = umask(077);
    assert_int_equal(file_replace(path, bytes_view_of_text("one"), 0644), ERR_OK);
    umask(before);
    assert_content(path, "one");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0644);

    assert_int_equal(file_replace(path, bytes_view_of_text("two, longer"), 0600), ERR_OK);
    assert_content(path, "two, longer");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(file_replace(path, bytes_view_of(NULL, 0), 0600), ERR_OK);
    assert_content(path, "");
    assert_int_equal(count_entries(), 1);
}

static void
test_replace_in_the_current_folder(void **state)
{
    (void)state;
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(file_replace("plain", bytes_view_of_text("x"), 0600), ERR_OK);
    assert_content("plain", "x");
    assert_int_equal(chdir(before), 0);
}

static void
test_failed_replace_keeps_the_old_content(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    path_of("state", path);
    assert_int_equal(file_replace(path, bytes_view_of_text("old"), 0600), ERR_OK);

    // A limit on the size of files stands for a full disk.
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 1000, .rlim_max = before.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static const uint8_t large[5000];
    enum err err = file_replace(path, bytes_view_of(large, sizeof(large)), 0600);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(err, ERR_NO_SPACE);
    assert_content(path, "old");
    assert_int_equal(count_entries(), 1);

    assert_int_equal(file_replace(path_of("no/such", path), bytes_view_of_text("x"), 0600), ERR_NOT_FOUND);
}

static void
test_replace_of_a_folder_fails_and_leaves_nothing(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    assert_int_equal(mkdir(path_of("folder", path), 0700), 0);
    assert_int_not_equal(file_replace(path, bytes_view_of_text("x"), 0600), ERR_OK);
    assert_int_equal(count_entries(), 1);
}

static void
test_read_appends_up_to_the_limit(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    static uint8_t large[200000];
    memset(large, 'x', sizeof(large));
    assert_int_equal(file_replace(path_of("large", path), bytes_view_of(large, sizeof(large)), 0600), ERR_OK);
    struct bytes out = {0};
    assert_int_equal(bytes_append(&out, bytes_view_of_text("before")), ERR_OK);
    assert_int_equal(file_read(path, sizeof(large) - 1, &out), ERR_TOO_BIG);
    assert_int_equal(out.size, 6);
    assert_int_equal(file_read(path, sizeof(large), &out), ERR_OK);
    assert_int_equal(out.size, 6 + sizeof(large));
    assert_memory_equal(out.data + 6, large, sizeof(large));
    assert_int_equal(file_read(path, 0, &out), ERR_TOO_BIG);
    assert_int_equal(out.size, 6 + sizeof(large));
    bytes_free(&out);
}

static void
test_read_says_what_is_wrong(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    struct bytes out = {0};
    assert_int_equal(file_read(path_of("absent", path), 10, &out), ERR_NOT_FOUND);
    assert_int_equal(file_read(folder, 10, &out), ERR_INVALID);
    assert_int_equal(file_replace(path_of("empty", path), bytes_view_of(NULL, 0), 0600), ERR_OK);
    assert_int_equal(file_read(path, 0, &out), ERR_OK);
    assert_int_equal(out.size, 0);
    if (geteuid() != 0) { // root may read everything
        assert_int_equal(chmod(path, 0), 0);
        assert_int_equal(file_read(path, 10, &out), ERR_DENIED);
    }
    bytes_free(&out);
}

static void
test_make_dirs(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    struct stat status;
    assert_int_equal(file_make_dirs(path_of("a/b//c/", path), 0700), ERR_OK);
    assert_int_equal(stat(path_of("a/b/c", path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(file_make_dirs(path, 0700), ERR_OK);
    assert_int_equal(file_make_dirs("/", 0700), ERR_OK);
    assert_int_equal(file_make_dirs("", 0700), ERR_INVALID);
    assert_int_equal(file_replace(path_of("a/file", path), bytes_view_of_text("x"), 0600), ERR_OK);
    assert_int_equal(file_make_dirs(path, 0700), ERR_EXISTS);
    assert_int_equal(file_make_dirs(path_of("a/file/below", path), 0700), ERR_EXISTS);
}

static void
test_sync_dir(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    assert_int_equal(file_sync_dir(folder), ERR_OK);
    assert_int_equal(file_sync_dir(path_of("absent", path)), ERR_NOT_FOUND);
}

static void
test_write_and_read_at_an_offset(void **state)
{
    (void)state;
    char path[2 * PATH_BYTES];
    int fd = open(path_of("sparse", path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(file_write_at(fd, bytes_view_of_text("world"), 100), ERR_OK);
    assert_int_equal(file_write_at(fd, bytes_view_of(NULL, 0), 1000), ERR_OK);
    char out[8] = {0};
    assert_int_equal(file_read_at(fd, out, 5, 100), ERR_OK);
    assert_string_equal(out, "world");
    assert_int_equal(file_read_at(fd, out, 2, 99), ERR_OK);
    assert_memory_equal(out, "\0w", 2);
    assert_int_equal(file_read_at(fd, out, 6, 100), ERR_OUT_OF_RANGE);
    assert_int_equal(file_read_at(fd, out, 1, 105), ERR_OUT_OF_RANGE);
    assert_int_equal(file_read_at(fd, out, 0, 105), ERR_OK);
    (void)close(fd);
    assert_int_equal(file_read_at(-1, out, 1, 0), ERR_IO);
    assert_int_equal(file_write_at(-1, bytes_view_of_text("x"), 0), ERR_IO);
}

static void
test_write_to_a_full_device_says_so(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        skip();
    }
    assert_int_equal(file_write_at(fd, bytes_view_of_text("x"), 0), ERR_NO_SPACE);
    (void)close(fd);
}

int
main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_replace_leaves_new_content_the_mode_and_nothing_else),
        IN_FOLDER(test_replace_in_the_current_folder),
        IN_FOLDER(test_failed_replace_keeps_the_old_content),
        IN_FOLDER(test_replace_of_a_folder_fails_and_leaves_nothing),
        IN_FOLDER(test_read_appends_up_to_the_limit),
        IN_FOLDER(test_read_says_what_is_wrong),
        IN_FOLDER(test_make_dirs),
        IN_FOLDER(test_sync_dir),
        IN_FOLDER(test_write_and_read_at_an_offset),
        IN_FOLDER(test_write_to_a_full_device_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
