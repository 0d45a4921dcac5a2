#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/tui_wrap.h"

// wrapped joins the lines with '|'. The text is copied without slack, so that reading past its end is noticed.
static const char *
wrapped(const char *text, int first, int rest, size_t max_lines)
{
    static char joined[4096];
    struct tui_lines lines = {0};
    size_t size = strlen(text);
    uint8_t *copy = malloc(size + (size == 0));
    assert_non_null(copy);
    memcpy(copy, text, size);
    assert_int_equal(tui_wrap(bytes_view_of(copy, size), first, rest, max_lines, &lines), ERR_OK);
    joined[0] = '\0';
    for (size_t i = 0; i < lines.count; i++) {
        assert_true(lines.items[i].start + lines.items[i].size <= size);
        strcat(joined, i > 0 ? "|" : "");
        strncat(joined, (const char *)copy + lines.items[i].start, lines.items[i].size);
    }
    tui_lines_free(&lines);
    free(copy);
    return joined;
}

static void
test_breaks_at_spaces(void **state)
{
    (void)state;
    assert_string_equal(wrapped("one two three", 20, 20, 9), "one two three");
    assert_string_equal(wrapped("one two three", 7, 7, 9), "one two|three");
    assert_string_equal(wrapped("one two three", 8, 8, 9), "one two|three");
    assert_string_equal(wrapped("one   two", 4, 4, 9), "one|two");
    assert_string_equal(wrapped("one two", 3, 3, 9), "one|two");
    assert_string_equal(wrapped("one two three", 3, 9, 9), "one|two three");
}

static void
test_breaks_inside_of_long_words(void **state)
{
    (void)state;
    assert_string_equal(wrapped("abcdefghij", 4, 4, 9), "abcd|efgh|ij");
    assert_string_equal(wrapped("a bcdefghij", 4, 4, 9), "a|bcde|fghi|j");
    assert_string_equal(wrapped("abcd", 4, 4, 9), "abcd");
}

static void
test_newlines_begin_lines(void **state)
{
    (void)state;
    assert_string_equal(wrapped("", 10, 10, 9), "");
    assert_string_equal(wrapped("a\nb", 10, 10, 9), "a|b");
    assert_string_equal(wrapped("a\n\nb", 10, 10, 9), "a||b");
    assert_string_equal(wrapped("a\n", 10, 10, 9), "a|");
    assert_string_equal(wrapped("abcdef\ng", 3, 3, 9), "abc|def|g");
}

static void
test_there_is_an_end_to_lines(void **state)
{
    (void)state;
    assert_string_equal(wrapped("a\nb\nc\nd", 10, 10, 2), "a|b");
    assert_string_equal(wrapped("abcdef", 1, 1, 3), "a|b|c");
}

static void
test_wide_characters_take_two_columns(void **state)
{
    (void)state;
    assert_int_equal(tui_columns(bytes_view_of_text("日本語")), 6);
    assert_int_equal(tui_columns(bytes_view_of_text("e\xcc\x81")), 1); // with a combining accent
    assert_string_equal(wrapped("日本語", 4, 4, 9), "日本|語");
    assert_string_equal(wrapped("日本語", 5, 5, 9), "日本|語");
    // Wider than there is room for: goes in all the same, and it ends.
    assert_string_equal(wrapped("日本", 1, 1, 9), "日|本");
}

static void
test_what_combines_stays_with_its_character(void **state)
{
    (void)state;
    assert_string_equal(wrapped("ae\xcc\x81z", 2, 2, 9), "ae\xcc\x81|z");
    assert_int_equal(tui_fit(bytes_view_of_text("e\xcc\x81z"), 1), 3);
    assert_int_equal(tui_fit(bytes_view_of_text("日本"), 3), 3);
    assert_int_equal(tui_fit_end(bytes_view_of_text("日本"), 3), 3);
    assert_int_equal(tui_fit_end(bytes_view_of_text("abc"), 2), 1);
}

static void
test_broken_utf8_is_taken_a_byte_at_a_time(void **state)
{
    (void)state;
    static const char *const broken[] = {"\x80", "\xe6\x97", "\xff", "\xf0\x9f\x98", "\xe0\x80\x80", "\xc3("};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        size_t size = strlen(broken[i]);
        uint8_t *copy = malloc(size);
        uint32_t code = 0;
        int columns = 0;
        assert_non_null(copy);
        memcpy(copy, broken[i], size);
        assert_int_equal(tui_take_char(bytes_view_of(copy, size), &code, &columns), 1);
        assert_int_equal(code, 0xfffd);
        assert_int_equal(columns, 1);
        free(copy);
    }
}

static void
assert_plain(const char *text, bool keep_newlines, const char *expected)
{
    struct bytes out = {0};
    assert_int_equal(tui_append_plain(&out, text, keep_newlines), ERR_OK);
    assert_int_equal(bytes_append(&out, bytes_view_of("", 1)), ERR_OK);
    assert_string_equal((const char *)out.data, expected);
    bytes_free(&out);
}

static void
test_text_from_outside_is_made_harmless(void **state)
{
    (void)state;
    assert_plain("a\x1b[31mb", true, "a\\x1b[31mb");
    assert_plain("a\nb\n\n", true, "a\nb");
    assert_plain("a\nb", false, "a\\x0ab");
    assert_plain("a\tb", true, "a    b");
    assert_plain("a\xe2\x80\xae"
                 "b",
        true, "a\\u{202e}b");
    assert_plain("a\xc2\x9b"
                 "31mb",
        true, "a\\u{9b}31mb");
    assert_plain("\xf3\xb0\x80\x80\xee\x80\x80", true, "\xf3\xb0\x80\x80\xee\x80\x80"); // for private use
    assert_plain("\xef\xbf\xbe", true, "\xef\xbf\xbd");                                 // not a character
}

int
main(void)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breaks_at_spaces),
        cmocka_unit_test(test_breaks_inside_of_long_words),
        cmocka_unit_test(test_newlines_begin_lines),
        cmocka_unit_test(test_there_is_an_end_to_lines),
        cmocka_unit_test(test_wide_characters_take_two_columns),
        cmocka_unit_test(test_what_combines_stays_with_its_character),
        cmocka_unit_test(test_broken_utf8_is_taken_a_byte_at_a_time),
        cmocka_unit_test(test_text_from_outside_is_made_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
