#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/tui_rooms.h"

static struct fc_chat_room
room(uint8_t id, const char *name, uint32_t unread_count)
{
    struct fc_chat_room made = {.unread_count = unread_count};
    made.room.id[0] = id;
    made.room.is_member = true;
    (void)snprintf(made.room.name, sizeof made.room.name, "%s", name);
    return made;
}

static const char *
names(const struct tui_rooms *rooms)
{
    static char joined[1024];
    joined[0] = '\0';
    for (size_t i = 0; i < rooms->count; i++) {
        strcat(joined, i > 0 ? " " : "");
        strcat(joined, rooms->items[i]->name);
    }
    return joined;
}

static void
test_rooms_stand_by_name_and_keep_what_they_have(void **state)
{
    (void)state;
    struct tui_rooms rooms = {0};
    struct fc_chat_room list[] = {room(1, "@bob", 0), room(2, "kitchen", 1), room(3, "attic", 0), room(4, "@ann", 0)};
    assert_null(tui_rooms_current(&rooms));
    assert_int_equal(tui_rooms_update(&rooms, list, 4), ERR_OK);
    assert_string_equal(names(&rooms), "attic kitchen @ann @bob");
    tui_rooms_select(&rooms, tui_rooms_by_name(&rooms, "kitchen"));
    tui_input_set(&tui_rooms_current(&rooms)->draft, bytes_view_of_text("half a"));

    struct fc_chat_room changed[] = {room(2, "kitchen", 7), room(5, "den", 0), room(6, "aaa", 0)};
    (void)snprintf(changed[0].room.topic, sizeof changed[0].room.topic, "food\x1b[2J");
    assert_int_equal(tui_rooms_update(&rooms, changed, 3), ERR_OK);
    assert_string_equal(names(&rooms), "aaa den kitchen");
    const struct tui_room *current = tui_rooms_current(&rooms);
    assert_string_equal(current->name, "kitchen");
    assert_string_equal(current->topic, "food\\x1b[2J");
    assert_int_equal(current->unread_count, 7);
    assert_int_equal(tui_input_view(&current->draft).size, 6);

    assert_int_equal(tui_rooms_update(&rooms, NULL, 0), ERR_OK);
    assert_null(tui_rooms_current(&rooms));
    tui_rooms_step(&rooms, 1);
    tui_rooms_free(&rooms);
}

static void
test_steps_go_around(void **state)
{
    (void)state;
    struct tui_rooms rooms = {0};
    struct fc_chat_room list[] = {room(1, "a", 0), room(2, "b", 0), room(3, "c", 0)};
    assert_int_equal(tui_rooms_update(&rooms, list, 3), ERR_OK);
    tui_rooms_step(&rooms, -1);
    assert_string_equal(tui_rooms_current(&rooms)->name, "c");
    tui_rooms_step(&rooms, 1);
    tui_rooms_step(&rooms, 1);
    assert_string_equal(tui_rooms_current(&rooms)->name, "b");
    tui_rooms_free(&rooms);
}

static void
test_a_name_that_is_none_is_not_shown(void **state)
{
    (void)state;
    struct tui_rooms rooms = {0};
    struct fc_chat_room list[] = {room(0xab, "\x1b[2J", 0)};
    assert_int_equal(tui_rooms_update(&rooms, list, 1), ERR_OK);
    assert_string_equal(rooms.items[0]->name, "ab000000000000000000000000000000");
    tui_rooms_free(&rooms);
}

static void
test_who_is_typing(void **state)
{
    (void)state;
    struct tui_room kitchen = {0};
    char text[200];
    assert_int_equal(tui_room_typing_text(&kitchen, 100, text, sizeof text), 0);
    assert_string_equal(text, "");
    tui_room_typing(&kitchen, "bob", 100);
    tui_room_typing(&kitchen, "bob", 200);
    tui_room_typing(&kitchen, "\x1b[2J", 200);
    assert_int_equal(tui_room_typing_text(&kitchen, 300, text, sizeof text), 200 + TUI_TYPING_MS);
    assert_string_equal(text, "bob is typing");
    tui_room_typing(&kitchen, "carol", 300);
    (void)tui_room_typing_text(&kitchen, 300, text, sizeof text);
    assert_string_equal(text, "bob, carol are typing");
    (void)tui_room_typing_text(&kitchen, 200 + TUI_TYPING_MS, text, sizeof text);
    assert_string_equal(text, "carol is typing");
    tui_room_typing_end(&kitchen, "carol");
    assert_int_equal(tui_room_typing_text(&kitchen, 200 + TUI_TYPING_MS, text, sizeof text), 0);
    for (int i = 0; i < 2 * TUI_TYPING_MAX; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "u%d", i);
        tui_room_typing(&kitchen, name, 1000000);
    }
    char small[12];
    (void)tui_room_typing_text(&kitchen, 1000000, small, sizeof small);
    assert_true(strlen(small) < sizeof small);
}

static void
test_names_are_a_set(void **state)
{
    (void)state;
    struct tui_names set = {0};
    tui_names_add(&set, "carol");
    tui_names_add(&set, "alice");
    tui_names_add(&set, "bob");
    tui_names_add(&set, "alice");
    tui_names_add(&set, "\x1b");
    assert_int_equal(set.count, 3);
    assert_string_equal(set.items[0], "alice");
    assert_string_equal(set.items[2], "carol");
    tui_names_free(&set);
}

int
main(void)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rooms_stand_by_name_and_keep_what_they_have),
        cmocka_unit_test(test_steps_go_around),
        cmocka_unit_test(test_a_name_that_is_none_is_not_shown),
        cmocka_unit_test(test_who_is_typing),
        cmocka_unit_test(test_names_are_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
