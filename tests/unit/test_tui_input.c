#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/tui_commands.h"
#include "cli/tui_input.h"

static void
type(struct tui_input *input, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        tui_input_put(input, (uint8_t)*c);
    }
}

static void
assert_text(const struct tui_input *input, const char *expected, size_t cursor)
{
    char text[256];
    struct bytes_view view = tui_input_view(input);
    (void)snprintf(text, sizeof text, "%.*s", (int)view.size, view.size > 0 ? (const char *)view.data : "");
    assert_string_equal(text, expected);
    assert_int_equal(input->cursor, cursor);
}

static void
test_typing_and_moving(void **state)
{
    (void)state;
    struct tui_input input = {0};
    tui_input_erase(&input, TUI_MOVE_LEFT);
    tui_input_move(&input, TUI_MOVE_WORD_LEFT);
    tui_input_move(&input, TUI_MOVE_RIGHT);
    assert_text(&input, "", 0);
    type(&input, "one two");
    tui_input_move(&input, TUI_MOVE_WORD_LEFT);
    assert_int_equal(input.cursor, 4);
    type(&input, "x");
    assert_text(&input, "one xtwo", 5);
    tui_input_move(&input, TUI_MOVE_HOME);
    tui_input_move(&input, TUI_MOVE_WORD_RIGHT);
    assert_int_equal(input.cursor, 3);
    tui_input_move(&input, TUI_MOVE_END);
    tui_input_erase(&input, TUI_MOVE_WORD_LEFT);
    assert_text(&input, "one ", 4);
    tui_input_move(&input, TUI_MOVE_HOME);
    tui_input_erase(&input, TUI_MOVE_RIGHT);
    assert_text(&input, "ne ", 0);
    tui_input_erase(&input, TUI_MOVE_END);
    assert_text(&input, "", 0);
    tui_input_free(&input);
}

static void
test_characters_are_whole(void **state)
{
    (void)state;
    struct tui_input input = {0};
    tui_input_put(&input, 0xe9);    // 2 bytes
    tui_input_put(&input, 0x65e5);  // 3
    tui_input_put(&input, 0x1f600); // 4
    assert_text(&input, "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80", 9);
    tui_input_move(&input, TUI_MOVE_LEFT);
    assert_int_equal(input.cursor, 5);
    tui_input_erase(&input, TUI_MOVE_LEFT);
    assert_text(&input, "\xc3\xa9\xf0\x9f\x98\x80", 2);
    tui_input_erase(&input, TUI_MOVE_RIGHT);
    assert_text(&input, "\xc3\xa9", 2);
    tui_input_free(&input);
}

static void
test_controls_are_not_typed(void **state)
{
    (void)state;
    struct tui_input input = {0};
    static const uint32_t refused[] = {0, 0x1b, 0x7f, 0x9b, 0xd800, 0x110000};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        tui_input_put(&input, refused[i]);
    }
    tui_input_put(&input, '\n'); // of a text that was pasted
    assert_text(&input, "\n", 1);
    tui_input_free(&input);
}

static void
test_no_more_than_a_message_holds(void **state)
{
    (void)state;
    struct tui_input input = {0};
    for (size_t i = 0; i < TUI_INPUT_MAX_BYTES - 1; i++) {
        tui_input_put(&input, 'x');
    }
    tui_input_put(&input, 0xe9);
    assert_int_equal(input.text.size, TUI_INPUT_MAX_BYTES - 1);
    tui_input_put(&input, 'x');
    tui_input_put(&input, 'x');
    assert_int_equal(input.text.size, TUI_INPUT_MAX_BYTES);
    tui_input_free(&input);
}

static const char *
complete_users(void *context, struct bytes_view line, struct bytes_view word, size_t index)
{
    static const char *const users[] = {"@alice", "@albert", "@bob"};
    (void)line;
    (void)context;
    for (size_t i = 0; i < 3; i++) {
        if (strncmp(users[i], (const char *)word.data, word.size) == 0 && index-- == 0) {
            return users[i];
        }
    }
    return NULL;
}

static void
test_completion_goes_around(void **state)
{
    (void)state;
    struct tui_input input = {0};
    assert_false(tui_input_complete(&input, complete_users, NULL));
    type(&input, "hi @al!");
    tui_input_move(&input, TUI_MOVE_LEFT);
    assert_true(tui_input_complete(&input, complete_users, NULL));
    assert_text(&input, "hi @alice !", 10);
    assert_true(tui_input_complete(&input, complete_users, NULL));
    assert_text(&input, "hi @albert !", 11);
    assert_true(tui_input_complete(&input, complete_users, NULL));
    assert_text(&input, "hi @al!", 6);
    assert_true(tui_input_complete(&input, complete_users, NULL));
    assert_text(&input, "hi @alice !", 10);
    type(&input, "x"); // ends it
    assert_false(tui_input_complete(&input, complete_users, NULL));
    assert_text(&input, "hi @alice x!", 11);
    tui_input_free(&input);
}

static void
test_history_keeps_what_is_being_typed(void **state)
{
    (void)state;
    struct tui_input input = {0};
    struct tui_history history = {0};
    tui_history_step(&history, -1, &input);
    tui_history_add(&history, bytes_view_of_text("one"));
    tui_history_add(&history, bytes_view_of_text("two"));
    tui_history_add(&history, bytes_view_of_text("two")); // once is enough
    type(&input, "half");
    tui_history_step(&history, -1, &input);
    assert_text(&input, "two", 3);
    tui_history_step(&history, -1, &input);
    tui_history_step(&history, -1, &input);
    assert_text(&input, "one", 3);
    tui_history_step(&history, 1, &input);
    tui_history_step(&history, 1, &input);
    tui_history_step(&history, 1, &input);
    assert_text(&input, "half", 4);
    tui_history_free(&history);
    tui_input_free(&input);
}

static void
test_history_forgets_the_oldest(void **state)
{
    (void)state;
    struct tui_history history = {0};
    char line[16];
    for (int i = 0; i < TUI_HISTORY_MAX + 5; i++) {
        (void)snprintf(line, sizeof line, "%d", i);
        tui_history_add(&history, bytes_view_of_text(line));
    }
    assert_int_equal(history.count, TUI_HISTORY_MAX);
    assert_string_equal(history.lines[0], "5");
    tui_history_free(&history);
}

static enum err
parse(const char *line, struct tui_command *out)
{
    return tui_command_parse(bytes_view_of_text(line), out, NULL);
}

static bool
is(struct bytes_view view, const char *text)
{
    return bytes_view_equal(view, bytes_view_of_text(text));
}

static void
test_commands(void **state)
{
    (void)state;
    struct tui_command command;
    assert_int_equal(parse("hello /join", &command), ERR_OK);
    assert_true(command.kind == TUI_TEXT && is(command.rest, "hello /join"));
    assert_int_equal(parse("//etc", &command), ERR_OK);
    assert_true(command.kind == TUI_TEXT && is(command.rest, "/etc"));
    assert_int_equal(parse("/join  kitchen ", &command), ERR_OK);
    assert_true(command.kind == TUI_JOIN && is(command.word, "kitchen"));
    assert_int_equal(parse("/dm @bob", &command), ERR_OK);
    assert_true(command.kind == TUI_DM && is(command.word, "bob"));
    assert_int_equal(parse("/reply #12 yes  of course", &command), ERR_OK);
    assert_true(command.kind == TUI_REPLY && command.seq == 12 && is(command.rest, "yes  of course"));
    assert_int_equal(parse("/delete 3", &command), ERR_OK);
    assert_true(command.kind == TUI_DELETE && command.seq == 3);
    assert_int_equal(parse("/create den plain", &command), ERR_OK);
    assert_true(command.kind == TUI_CREATE && is(command.word, "den") && is(command.rest, "plain"));
    assert_int_equal(parse("/me waves\nand goes", &command), ERR_OK);
    assert_true(command.kind == TUI_ME && is(command.rest, "waves\nand goes"));
    assert_int_equal(parse("/edit 18446744073709551615 x", &command), ERR_OK);
    assert_true(command.seq == UINT64_MAX);
}

static void
test_wrong_commands_say_how(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *says;
    } wrong[] = {
        {"/jion kitchen", "there is no command /jion"},
        {"/", "there is no command /"},
        {"/ join x", NULL}, // a space is fine
        {"/join", "usage: /join ROOM"},
        {"/join a b", "usage: /join ROOM"},
        {"/reply x text", "usage: /reply SEQ TEXT"},
        {"/reply 0 text", "usage: /reply SEQ TEXT"},
        {"/reply 1", "usage: /reply SEQ TEXT"},
        {"/delete 1 2", "usage: /delete SEQ"},
        {"/edit 18446744073709551616 x", "usage: /edit"},
        {"/quit now", "usage: /quit"},
        {"/dm @", "usage: /dm USER"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct tui_command command;
        struct err_detail why = {0};
        enum err code = tui_command_parse(bytes_view_of_text(wrong[i].line), &command, &why);
        assert_int_equal(code, wrong[i].says == NULL ? ERR_OK : ERR_INVALID);
        if (wrong[i].says != NULL) {
            assert_non_null(strstr(why.message, wrong[i].says));
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typing_and_moving),
        cmocka_unit_test(test_characters_are_whole),
        cmocka_unit_test(test_controls_are_not_typed),
        cmocka_unit_test(test_no_more_than_a_message_holds),
        cmocka_unit_test(test_completion_goes_around),
        cmocka_unit_test(test_history_keeps_what_is_being_typed),
        cmocka_unit_test(test_history_forgets_the_oldest),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_wrong_commands_say_how),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
