#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

// Copies to the heap without slack, so that reading past the end is noticed.
static bool
is_utf8(const char *text, size_t size)
{
    char *copy = malloc(size == 0 ? 1 : size);
    assert_non_null(copy);
    memcpy(copy, text, size);
    bool result = text_is_utf8(bytes_view_of(copy, size));
    free(copy);
    return result;
}

static void
test_utf8_accepts_the_edges_of_every_length(void **state)
{
    (void)state;
    static const char *const good[] = {"", "\x01", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
        "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a\xc3\xa9z"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(is_utf8(good[i], strlen(good[i])));
    }
    assert_true(text_is_utf8(bytes_view_of(NULL, 0)));
}

static void
test_utf8_rejects_what_rfc_3629_forbids(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80", "\xbf", "\xbf\x80", "\xc0\x80", "\xc1\xbf",   // lone continuations, overlong in two bytes
        "\xe0\x80\x80", "\xe0\x9f\xbf",                       // overlong in three
        "\xed\xa0\x80", "\xed\xbf\xbf",                       // surrogates
        "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",               // overlong in four
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",               // over U+10FFFF
        "\xf8\x88\x80\x80\x80", "\xfe", "\xff", "ok\xff",     // never in UTF-8
        "\xc3(", "\xe2\x28\xa1", "\xe2\x82(", "\xf0\x9f\x98(" // a broken continuation
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(is_utf8(bad[i], strlen(bad[i])));
    }
    assert_false(is_utf8("a\0b", 3));
}

static void
test_utf8_rejects_a_character_cut_at_every_byte(void **state)
{
    (void)state;
    static const char *const whole[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        for (size_t size = 1; size < strlen(whole[i]); size++) {
            assert_false(is_utf8(whole[i], size));
        }
    }
}

typedef enum err append_fn(struct bytes *out, struct bytes_view text);

static enum err
append_line(struct bytes *out, struct bytes_view text)
{
    return text_append_printable(out, text, false);
}

static enum err
append_lines(struct bytes *out, struct bytes_view text)
{
    return text_append_printable(out, text, true);
}

static void
assert_shown(append_fn *append, const char *text, const char *expected)
{
    struct bytes out = {0};
    assert_int_equal(append(&out, bytes_view_of_text(text)), ERR_OK);
    assert_int_equal(bytes_append(&out, bytes_view_of("", 1)), ERR_OK);
    assert_string_equal((const char *)out.data, expected);
    bytes_free(&out);
}

static void
test_printable_makes_controls_visible(void **state)
{
    (void)state;
    assert_shown(append_line, "", "");
    assert_shown(append_line, "h\xc3\xa9llo \xf0\x9f\x98\x80", "h\xc3\xa9llo \xf0\x9f\x98\x80");
    assert_shown(append_line, "\x1b[2J", "\\x1b[2J");
    assert_shown(append_line, "a\nb\tc\rd\x7f", "a\\x0ab\\x09c\\x0dd\\x7f");
    assert_shown(append_lines, "a\nb\tc\rd", "a\nb\tc\\x0dd");
    assert_shown(append_line, "\xc2\x9b", "\\u{9b}");          // CSI in one character
    assert_shown(append_line, "\xe2\x80\xae", "\\u{202e}");    // right-to-left override
    assert_shown(append_lines, "\xe2\x81\xa6x", "\\u{2066}x"); // isolate
    assert_shown(append_lines, "\xe2\x80\xa8", "\\u{2028}");
    assert_shown(append_line, "\xff\x80x\xe2\x82", "\\xff\\x80x\\xe2\\x82");
    assert_shown(append_line, "\xe2\x80\x9cquoted\xe2\x80\x9d", "\xe2\x80\x9cquoted\xe2\x80\x9d");
}

static void
test_printable_shows_nul(void **state)
{
    (void)state;
    struct bytes out = {0};
    assert_int_equal(text_append_printable(&out, bytes_view_of("a\0b", 3), true), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&out), bytes_view_of_text("a\\x00b")));
    bytes_free(&out);
}

static void
test_json_strings(void **state)
{
    (void)state;
    assert_shown(text_append_json_string, "", "\"\"");
    assert_shown(text_append_json_string, "h\xc3\xa9 \xf0\x9f\x98\x80 /", "\"h\xc3\xa9 \xf0\x9f\x98\x80 /\"");
    assert_shown(text_append_json_string, "\"\\\b\f\n\r\t", "\"\\\"\\\\\\b\\f\\n\\r\\t\"");
    assert_shown(text_append_json_string, "\x01\x1b\x7f\xc2\x9b\xe2\x80\xae",
        "\"\\u0001\\u001b\\u007f\\u009b\\u202e\"");
    assert_shown(text_append_json_string, "a\xff\xc3", "\"a\xef\xbf\xbd\xef\xbf\xbd\"");

    struct bytes out = {0};
    assert_int_equal(text_append_json_string(&out, bytes_view_of("a\0b", 3)), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&out), bytes_view_of_text("\"a\\u0000b\"")));
    bytes_free(&out);
}

typedef enum err check_fn(const char *name, struct err_detail *why);

static void
assert_name(check_fn *check, const char *name, bool is_good)
{
    struct err_detail why = {0};
    char *copy = strdup(name);
    assert_non_null(copy);
    assert_int_equal(check(copy, &why), is_good ? ERR_OK : ERR_INVALID);
    assert_int_equal(why.message[0] == '\0', is_good);
    assert_true(text_is_utf8(bytes_view_of_text(why.message)));
    assert_int_equal(check(copy, NULL), is_good ? ERR_OK : ERR_INVALID);
    free(copy);
}

// Fills text with size times the character.
static const char *
repeated(char character, size_t size, char text[2048])
{
    memset(text, character, size);
    text[size] = '\0';
    return text;
}

static void
test_user_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0", "alice", "a.b-c_d9"};
    static const char *const bad[] = {"", "Alice", ".a", "-a", "_a", "a b", "a/b", "../x", "a\n", "\x1b[2J",
        "\xc3\xa9t\xc3\xa9", "a@b", "a\xff"};
    char text[2048];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_name(text_check_user_name, good[i], true);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_name(text_check_user_name, bad[i], false);
    }
    assert_name(text_check_user_name, repeated('a', 32, text), true);
    assert_name(text_check_user_name, repeated('a', 33, text), false);
    assert_name(text_check_user_name, repeated('a', 300, text), false);
}

static void
test_room_names(void **state)
{
    (void)state;
    static const char *const good[] = {"Kitchen", "a", "9", "team.A_b-c"};
    static const char *const bad[] = {"", ".hidden", "-x", "../x", "a b", "a/b", "caf\xc3\xa9", "a\x7f", "#room"};
    char text[2048];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_name(text_check_room_name, good[i], true);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_name(text_check_room_name, bad[i], false);
    }
    assert_name(text_check_room_name, repeated('R', 64, text), true);
    assert_name(text_check_room_name, repeated('R', 65, text), false);
    assert_name(text_check_room_name, repeated('R', 300, text), false);
}

static void
test_file_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "report 1.pdf", "caf\xc3\xa9/men\xc3\xbc.txt", ".hidden", "...", "a/.b/..c",
        "a\\b", "-rf", "x:y"};
    static const char *const bad[] = {"", "../x", "x/..", "a/../b", ".", "..", "./a", "a/.", "/etc/passwd", "a/",
        "a//b", "/", "a\nb", "a\x1b[2J", "a\x7f", "a\xc2\x85", "a\xff", "a\xc3"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_name(text_check_file_name, good[i], true);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_name(text_check_file_name, bad[i], false);
    }
}

static void
test_file_names_at_their_limits(void **state)
{
    (void)state;
    char text[2048];
    assert_name(text_check_file_name, repeated('f', 255, text), true);
    assert_name(text_check_file_name, repeated('f', 256, text), false);
    assert_name(text_check_file_name, repeated('f', 300, text), false);
    repeated('f', 1024, text);
    text[255] = text[511] = text[767] = text[1000] = '/';
    assert_name(text_check_file_name, text, true);
    (void)repeated('f', 1025, text);
    text[255] = text[511] = text[767] = text[1000] = '/';
    assert_name(text_check_file_name, text, false);
}

static void
test_bad_bytes_are_found_at_every_place(void **state)
{
    (void)state;
    const uint8_t bad[] = {0x00, 0x80, 0xff};
    for (size_t size = 1; size <= 40; size++) {
        for (size_t at = 0; at < size; at++) {
            uint8_t text[40];
            memset(text, 'a', sizeof(text));
            text[at == 0 ? size - 1 : at - 1] = 0x01; // the smallest that is allowed, beside it
            assert_true(text_is_utf8(bytes_view_of(text, size)));
            for (size_t i = 0; i < sizeof(bad); i++) {
                text[at] = bad[i];
                assert_false(text_is_utf8(bytes_view_of(text, size)));
            }
        }
    }
}

static void
test_last_components(void **state)
{
    (void)state;
    assert_string_equal(text_last_component("a"), "a");
    assert_string_equal(text_last_component("a/b c"), "b c");
    assert_string_equal(text_last_component("/a//b"), "b");
    assert_string_equal(text_last_component("a/"), "");
}

static void
test_sizes_for_people(void **state)
{
    static const struct {
        double bytes;
        const char *text;
    } sizes[] = {{0, "0 B"}, {1023, "1023 B"}, {1023.6, "1.0 KiB"}, {1536, "1.5 KiB"}, {1048576, "1.0 MiB"},
        {1e18, "888.2 PiB"}, {1e22, "8673.6 EiB"}};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char text[TEXT_SIZE_BYTES];
        text_format_size(sizes[i].bytes, text);
        assert_string_equal(text, sizes[i].text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_bytes_are_found_at_every_place),
        cmocka_unit_test(test_utf8_accepts_the_edges_of_every_length),
        cmocka_unit_test(test_utf8_rejects_what_rfc_3629_forbids),
        cmocka_unit_test(test_utf8_rejects_a_character_cut_at_every_byte),
        cmocka_unit_test(test_printable_makes_controls_visible),
        cmocka_unit_test(test_printable_shows_nul),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_user_names),
        cmocka_unit_test(test_room_names),
        cmocka_unit_test(test_file_names),
        cmocka_unit_test(test_file_names_at_their_limits),
        cmocka_unit_test(test_last_components),
        cmocka_unit_test(test_sizes_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
