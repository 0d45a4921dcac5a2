#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

enum {
    CAPTURE_BYTES = 8192,
    FIXED_UNIX_MS = 1000,
};

// Runs code with stderr in a temporary file and leaves what was written in captured.
static char captured[CAPTURE_BYTES];
static FILE *capture_file;
static int real_stderr;

static int
begin_capture(void **state)
{
    (void)state;
    clock_set_unix_ms_for_test(FIXED_UNIX_MS);
    log_set_level(LOG_INFO);
    capture_file = tmpfile();
    real_stderr = dup(STDERR_FILENO);
    return capture_file != NULL && dup2(fileno(capture_file), STDERR_FILENO) >= 0 ? 0 : -1;
}

static const char *
written(void)
{
    rewind(capture_file);
    captured[fread(captured, 1, sizeof(captured) - 1, capture_file)] = '\0';
    return captured;
}

static int
end_capture(void **state)
{
    (void)state;
    (void)dup2(real_stderr, STDERR_FILENO);
    (void)close(real_stderr);
    (void)fclose(capture_file);
    clock_set_unix_ms_for_test(-1);
    return 0;
}

static void
test_line_has_time_level_id_context_and_sentence(void **state)
{
    (void)state;
    log_warn("RPC-FRAME-TOO-BIG", "peer=tcp://127.0.0.1:4711", "a frame of %d bytes", 7);
    assert_string_equal(written(), "1970-01-01T00:00:01.000Z warn RPC-FRAME-TOO-BIG peer=tcp://127.0.0.1:4711 "
                                   "\"a frame of 7 bytes\"\n");
}

static void
test_line_without_context_has_no_gap(void **state)
{
    (void)state;
    log_info("UP", NULL, "%s", "");
    log_error("DOWN", "", "gone");
    assert_string_equal(written(), "1970-01-01T00:00:01.000Z info UP \"\"\n"
                                   "1970-01-01T00:00:01.000Z error DOWN \"gone\"\n");
}

static void
test_what_drives_a_terminal_or_forges_a_line_is_escaped(void **state)
{
    (void)state;
    log_info("X", "user=\x1b[2J\n", "say \"%s\" \\", "a\nb\xff\xc2\x9b");
    assert_string_equal(written(), "1970-01-01T00:00:01.000Z info X user=\\x1b[2J\\x0a "
                                   "\"say \\\"a\\x0ab\\xff\\u{9b}\\\" \\\\\"\n");
}

static void
test_long_line_is_cut_and_still_ends_well(void **state)
{
    (void)state;
    static char text[5000];
    for (size_t i = 0; i + 2 < sizeof(text); i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    log_info("X", NULL, "%s", text);
    size_t size = strlen(written());
    assert_in_range(size, 2040, 2048);
    assert_string_equal(captured + size - 2, "\"\n");
    assert_true(text_is_utf8(bytes_view_of(captured, size - 12)));

    log_info("X", text, "the rest");
    size = strlen(written());
    assert_string_equal(captured + size - 2, "\"\n");
}

static void
test_level_drops_what_is_below_it(void **state)
{
    (void)state;
    log_debug("D", NULL, "no");
    log_set_level(LOG_ERROR);
    log_warn("W", NULL, "no");
    log_error("E", NULL, "yes");
    log_set_level(LOG_DEBUG);
    log_debug("D", NULL, "yes");
    assert_string_equal(written(), "1970-01-01T00:00:01.000Z error E \"yes\"\n"
                                   "1970-01-01T00:00:01.000Z debug D \"yes\"\n");
}

static void
test_level_from_text(void **state)
{
    (void)state;
    enum log_level level = LOG_INFO;
    assert_int_equal(log_level_from_text("debug", &level), ERR_OK);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_from_text("error", &level), ERR_OK);
    assert_int_equal(level, LOG_ERROR);
    assert_int_equal(log_level_from_text("", &level), ERR_INVALID);
    assert_int_equal(log_level_from_text("ERROR", &level), ERR_INVALID);
    assert_int_equal(log_level_from_text("errors", &level), ERR_INVALID);
    assert_int_equal(level, LOG_ERROR);
}

int
main(void)
{
#define CAPTURED(test) cmocka_unit_test_setup_teardown(test, begin_capture, end_capture)
    const struct CMUnitTest tests[] = {
        CAPTURED(test_line_has_time_level_id_context_and_sentence),
        CAPTURED(test_line_without_context_has_no_gap),
        CAPTURED(test_what_drives_a_terminal_or_forges_a_line_is_escaped),
        CAPTURED(test_long_line_is_cut_and_still_ends_well),
        CAPTURED(test_level_drops_what_is_below_it),
        cmocka_unit_test(test_level_from_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
