// The credentials file: what is found in which order, what is refused, and that several processes can write it.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "client/fc_config.h"

static char home[64];

static const char *
in_home(const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", home, name);
    return path;
}

static int
make_home(void **state)
{
    (void)state;
    snprintf(home, sizeof(home), "/tmp/fc-config-XXXXXX");
    if (mkdtemp(home) == NULL) {
        return -1;
    }
    unsetenv("FC_SERVER");
    unsetenv("FC_TOKEN");
    unsetenv("XDG_CONFIG_HOME");
    setenv("HOME", home, 1);
    return setenv("FC_CONFIG_DIR", in_home("conf"), 1);
}

static int
remove_home(void **state)
{
    (void)state;
    unlink(in_home("conf/credentials"));
    unlink(in_home("conf/credentials.lock"));
    rmdir(in_home("conf"));
    return rmdir(home);
}

static void
write_file(const char *text, mode_t mode)
{
    assert_int_equal(file_make_dirs(in_home("conf"), 0700), ERR_OK);
    assert_int_equal(file_replace(in_home("conf/credentials"), bytes_view_of_text(text), mode), ERR_OK);
}

static void
assert_file(const char *text)
{
    struct bytes content = {0};
    assert_int_equal(file_read(in_home("conf/credentials"), 4096, &content), ERR_OK);
    assert_int_equal(bytes_append(&content, bytes_view_of("", 1)), ERR_OK);
    assert_string_equal((const char *)content.data, text);
    bytes_free(&content);
}

static enum err
save(const char *url, const char *user, const char *token)
{
    struct fc_credential credential = {0};
    snprintf(credential.server_url, sizeof(credential.server_url), "%s", url);
    snprintf(credential.user_name, sizeof(credential.user_name), "%s", user);
    snprintf(credential.token, sizeof(credential.token), "%s", token);
    return fc_config_save(&credential, NULL);
}

static void
assert_load(const char *server_url, const char *url, const char *user, const char *token)
{
    struct fc_credential found;
    struct err_detail why = {0};
    assert_int_equal(fc_config_load(server_url, &found, &why), ERR_OK);
    assert_string_equal(found.server_url, url);
    assert_string_equal(found.user_name, user);
    assert_string_equal(found.token, token);
}

static void
test_dir_prefers_own_variable_then_xdg_then_home(void **state)
{
    (void)state;
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    struct err_detail why = {0};
    setenv("FC_CONFIG_DIR", "/own", 1);
    setenv("XDG_CONFIG_HOME", "/xdg", 1);
    setenv("HOME", "/home/a", 1);
    assert_int_equal(fc_config_dir(dir, &why), ERR_OK);
    assert_string_equal(dir, "/own");
    unsetenv("FC_CONFIG_DIR");
    assert_int_equal(fc_config_dir(dir, &why), ERR_OK);
    assert_string_equal(dir, "/xdg/fc");
    setenv("XDG_CONFIG_HOME", "relative", 1);
    assert_int_equal(fc_config_dir(dir, &why), ERR_OK);
    assert_string_equal(dir, "/home/a/.config/fc");
    setenv("HOME", "", 1);
    assert_int_equal(fc_config_dir(dir, &why), ERR_PRECONDITION);
    assert_non_null(strstr(why.message, "FC_CONFIG_DIR"));
}

static void
test_load_without_file_gives_default_server_and_no_token(void **state)
{
    (void)state;
    assert_load(NULL, FC_DEFAULT_SERVER_URL, "", "");
    assert_load("tcp://other:1", "tcp://other:1", "", "");
    assert_int_equal(access(in_home("conf"), F_OK), -1);
}

static void
test_save_puts_the_last_login_first_and_replaces_that_of_the_same_server(void **state)
{
    (void)state;
    assert_int_equal(save("tcp://a:1", "ann", "fct_a"), ERR_OK);
    assert_int_equal(save("tcp://b:2", "bob", "fct_b"), ERR_OK);
    assert_file("tcp://b:2 bob fct_b\ntcp://a:1 ann fct_a\n");
    assert_load(NULL, "tcp://b:2", "bob", "fct_b");
    assert_load("tcp://a:1", "tcp://a:1", "ann", "fct_a");
    assert_int_equal(save("tcp://a:1", "amy", "fct_c"), ERR_OK);
    assert_file("tcp://a:1 amy fct_c\ntcp://b:2 bob fct_b\n");
}

static void
test_saved_file_and_folder_are_private(void **state)
{
    (void)state;
    struct stat status;
    mode_t mask = umask(0);
    assert_int_equal(save("tcp://a:1", "ann", "fct_a"), ERR_OK);
    umask(mask);
    assert_int_equal(stat(in_home("conf/credentials"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(stat(in_home("conf"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
}

static void
test_environment_overrides_the_file(void **state)
{
    (void)state;
    assert_int_equal(save("tcp://a:1", "ann", "fct_a"), ERR_OK);
    assert_int_equal(save("tcp://b:2", "bob", "fct_b"), ERR_OK);
    setenv("FC_SERVER", "tcp://a:1", 1);
    assert_load(NULL, "tcp://a:1", "ann", "fct_a");
    assert_load("tcp://b:2", "tcp://b:2", "bob", "fct_b");
    setenv("FC_TOKEN", "fct_env", 1);
    assert_load(NULL, "tcp://a:1", "", "fct_env");
    unsetenv("FC_SERVER");
    assert_load(NULL, "tcp://b:2", "", "fct_env");
    setenv("FC_TOKEN", "", 1); // empty is not set
    assert_load(NULL, "tcp://b:2", "bob", "fct_b");
}

static void
test_load_refuses_a_file_that_others_can_use(void **state)
{
    (void)state;
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610};
    struct fc_credential found;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct err_detail why = {0};
        write_file("tcp://a:1 ann fct_a\n", modes[i]);
        assert_int_equal(fc_config_load(NULL, &found, &why), ERR_DENIED);
        assert_non_null(strstr(why.message, "chmod 600"));
        assert_int_equal(save("tcp://b:2", "bob", "fct_b"), ERR_DENIED);
        assert_int_equal(fc_config_forget("tcp://a:1", &why), ERR_DENIED);
    }
    // Whoever names server and token needs no file.
    setenv("FC_TOKEN", "fct_env", 1);
    assert_load("tcp://a:1", "tcp://a:1", "", "fct_env");
}

static void
test_load_refuses_what_is_no_file(void **state)
{
    (void)state;
    struct fc_credential found;
    assert_int_equal(file_make_dirs(in_home("conf"), 0700), ERR_OK);
    assert_int_equal(mkfifo(in_home("conf/credentials"), 0600), 0);
    assert_int_equal(fc_config_load(NULL, &found, NULL), ERR_DENIED);
}

static void
test_load_refuses_lines_that_are_not_logins(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\n",
        "tcp://a:1\n",
        "tcp://a:1 ann\n",
        "tcp://a:1 ann \n",
        "tcp://a:1  fct_a\n",
        " ann fct_a\n",
        "tcp://a:1 ann fct_a more\n",
        "tcp://a:1 ann fct_\x01\n",
        "tcp://a:1 abcdefghijklmnopqrstuvwxyz0123456 fct_a\n",
        "tcp://a:1 ann fct_a\n\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fc_credential found;
        struct err_detail why = {0};
        write_file(texts[i], 0600);
        enum err err = fc_config_load("tcp://absent:1", &found, &why);
        assert_int_equal(err, ERR_INVALID);
        assert_non_null(strstr(why.message, "credentials"));
    }
}

static void
test_load_reads_a_last_line_without_newline_and_an_empty_file(void **state)
{
    (void)state;
    write_file("tcp://a:1 ann fct_a", 0600);
    assert_load(NULL, "tcp://a:1", "ann", "fct_a");
    write_file("", 0600);
    assert_load(NULL, FC_DEFAULT_SERVER_URL, "", "");
}

static void
test_values_that_would_break_a_line_are_refused(void **state)
{
    (void)state;
    struct fc_credential found;
    char long_url[FC_SERVER_URL_MAX_BYTES + 1];
    memset(long_url, 'a', sizeof(long_url) - 1);
    long_url[sizeof(long_url) - 1] = '\0';
    assert_int_equal(save("tcp://a:1 x", "ann", "fct_a"), ERR_INVALID);
    assert_int_equal(save("tcp://a:1", "an\nn", "fct_a"), ERR_INVALID);
    assert_int_equal(save("tcp://a:1", "ann", ""), ERR_INVALID);
    assert_int_equal(save("tcp://a:1", "", "fct_a"), ERR_INVALID);
    assert_int_equal(fc_config_load(long_url, &found, NULL), ERR_INVALID);
    assert_int_equal(fc_config_load("", &found, NULL), ERR_INVALID);
    setenv("FC_TOKEN", "with space", 1);
    assert_int_equal(fc_config_load(NULL, &found, NULL), ERR_INVALID);
    assert_int_equal(access(in_home("conf"), F_OK), -1);
}

static void
test_forget_removes_one_login_and_may_be_repeated(void **state)
{
    (void)state;
    assert_int_equal(fc_config_forget("tcp://a:1", NULL), ERR_OK);
    assert_int_equal(access(in_home("conf"), F_OK), -1);
    assert_int_equal(save("tcp://a:1", "ann", "fct_a"), ERR_OK);
    assert_int_equal(save("tcp://b:2", "bob", "fct_b"), ERR_OK);
    assert_int_equal(fc_config_forget("tcp://b:2", NULL), ERR_OK);
    assert_file("tcp://a:1 ann fct_a\n");
    assert_int_equal(fc_config_forget("tcp://b:2", NULL), ERR_OK);
    assert_int_equal(fc_config_forget("tcp://a:1", NULL), ERR_OK);
    assert_file("");
}

static void
test_processes_that_save_together_lose_nothing(void **state)
{
    (void)state;
    enum { PROCESSES = 8, LOGINS = 5 };
    char url[32];
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            int failures = 0;
            for (int k = 0; k < LOGINS; k++) {
                snprintf(url, sizeof(url), "tcp://h%d:%d", i, k + 1);
                failures += save(url, "ann", "fct_a") != ERR_OK;
            }
            _exit(failures);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        for (int k = 0; k < LOGINS; k++) {
            snprintf(url, sizeof(url), "tcp://h%d:%d", i, k + 1);
            assert_load(url, url, "ann", "fct_a");
        }
    }
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)
    const struct CMUnitTest tests[] = {
        TEST(test_load_without_file_gives_default_server_and_no_token),
        TEST(test_save_puts_the_last_login_first_and_replaces_that_of_the_same_server),
        TEST(test_saved_file_and_folder_are_private),
        TEST(test_environment_overrides_the_file),
        TEST(test_load_refuses_a_file_that_others_can_use),
        TEST(test_load_refuses_what_is_no_file),
        TEST(test_load_refuses_lines_that_are_not_logins),
        TEST(test_load_reads_a_last_line_without_newline_and_an_empty_file),
        TEST(test_values_that_would_break_a_line_are_refused),
        TEST(test_forget_removes_one_login_and_may_be_repeated),
        TEST(test_processes_that_save_together_lose_nothing),
        TEST(test_dir_prefers_own_variable_then_xdg_then_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
