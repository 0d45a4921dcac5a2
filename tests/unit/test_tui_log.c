#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/tui_log.h"

static struct tui_entry *
make(const struct fc_message *message)
{
    struct tui_entry *entry = NULL;
    assert_int_equal(tui_entry_new(message, "alice", &entry), ERR_OK);
    return entry;
}

static void
put(struct tui_log *log, struct tui_entry *entry)
{
    assert_int_equal(tui_log_put(log, &entry), ERR_OK);
    assert_null(entry);
}

static void
put_text(struct tui_log *log, uint64_t seq, const char *sender, const char *text)
{
    struct fc_message message = {.room = "kitchen", .seq = seq, .sender = sender, .text = text};
    put(log, make(&message));
}

static void
put_pending(struct tui_log *log, uint64_t token, const char *text)
{
    struct tui_entry *entry = NULL;
    assert_int_equal(tui_entry_new_pending("alice", text, false, token % 5, token, 0, &entry), ERR_OK);
    put(log, entry);
}

static void
put_note(struct tui_log *log, const char *text)
{
    struct tui_entry *entry = NULL;
    assert_int_equal(tui_entry_new_note(text, TUI_STYLE_FAINT, &entry), ERR_OK);
    put(log, entry);
}

// part is the text of one, for comparing.
static const char *
part(const struct tui_entry *entry, enum tui_part which)
{
    static char text[4096];
    const struct bytes *bytes = &entry->parts[which];
    (void)snprintf(text, sizeof text, "%.*s", (int)bytes->size, bytes->size > 0 ? (const char *)bytes->data : "");
    return text;
}

// order lists the entries' texts.
static const char *
order(const struct tui_log *log)
{
    static char joined[4096];
    joined[0] = '\0';
    for (size_t i = 0; i < log->count; i++) {
        strcat(joined, i > 0 ? " " : "");
        strcat(joined, part(log->entries[i], TUI_PART_TEXT));
    }
    return joined;
}

static void
test_messages_stand_in_order(void **state)
{
    (void)state;
    struct tui_log log = {0};
    put_text(&log, 5, "bob", "five");
    put_text(&log, 2, "bob", "two");
    put_pending(&log, 1, "p1");
    put_note(&log, "note");
    put_text(&log, 7, "bob", "seven");
    put_text(&log, 5, "bob", "FIVE");
    put_pending(&log, 2, "p2");
    assert_string_equal(order(&log), "two FIVE note seven p1 p2");
    assert_int_equal(tui_log_first_seq(&log), 2);
    assert_int_equal(tui_log_last_seq(&log), 7);
    assert_null(tui_log_find(&log, 3));
    assert_non_null(tui_log_find(&log, 5));
    tui_log_free(&log);
}

static void
test_pending_ones_go_when_they_are_there(void **state)
{
    (void)state;
    struct tui_log log = {0};
    put_pending(&log, 1, "same");
    put_pending(&log, 2, "same");
    put_pending(&log, 3, "other");
    put_text(&log, 1, "bob", "same"); // somebody else's
    assert_string_equal(order(&log), "same same same other");
    put_text(&log, 2, "alice", "same");
    tui_log_sent(&log, 1, 2); // the answer comes later
    assert_string_equal(order(&log), "same same same other");
    tui_log_sent(&log, 2, 3); // before the message
    put_text(&log, 3, "alice", "same");
    assert_string_equal(order(&log), "same same same other");
    assert_int_equal(log.entries[3]->kind, TUI_ENTRY_PENDING);
    tui_log_sent(&log, 3, 0); // never
    assert_string_equal(order(&log), "same same same");
    tui_log_free(&log);
}

static void
test_what_messages_say(void **state)
{
    (void)state;
    static const struct fc_reaction reactions[] = {{"+1", "bob"}, {"*", "alice"}, {"+1", "carol"}};
    static const char *const mentions[] = {"alice"};
    struct tui_log log = {0};
    put_text(&log, 1, "bob", "are we there?\nyet?");
    struct fc_message message = {.seq = 2,
        .sender = "bob",
        .text = "@alice look",
        .reply_to_seq = 1,
        .mentions = mentions,
        .mention_count = 1,
        .edited_unix_ms = 5,
        .reactions = reactions,
        .reaction_count = 3,
        .has_file = true,
        .file_name = "a\x1b.txt",
        .file_size_bytes = 2048};
    put(&log, make(&message));
    const struct tui_entry *entry = tui_log_find(&log, 2);
    assert_string_equal(part(entry, TUI_PART_TEXT), "@alice look (edited)");
    assert_string_equal(part(entry, TUI_PART_QUOTE), "> #1 bob: are we there?");
    assert_string_equal(part(entry, TUI_PART_REACTIONS), "[+1 bob, carol] [* alice]");
    assert_string_equal(part(entry, TUI_PART_FILE), "[file a\\x1b.txt, 2.0 KiB]");
    assert_int_equal(entry->style, TUI_STYLE_MENTION);
    assert_true(tui_entry_has_reaction(entry, bytes_view_of_text("*")));
    assert_false(tui_entry_has_reaction(entry, bytes_view_of_text("+1")));

    message = (struct fc_message){.seq = 3, .sender = "bob", .text = "gone", .is_deleted = true, .reply_to_seq = 1};
    put(&log, make(&message));
    assert_string_equal(part(tui_log_find(&log, 3), TUI_PART_TEXT), "(deleted)");
    assert_string_equal(part(tui_log_find(&log, 3), TUI_PART_QUOTE), "");

    message = (struct fc_message){.seq = 4, .sender = "b\x1b[2J", .text = "", .unreadable = "no key\x07"};
    put(&log, make(&message));
    entry = tui_log_find(&log, 4);
    assert_string_equal(part(entry, TUI_PART_TEXT), "(cannot be read: no key\\x07)");
    assert_string_equal(entry->sender, "b\\x1b[2J");
    tui_log_free(&log);
}

static void
test_answers_say_what_the_other_says_now(void **state)
{
    (void)state;
    struct tui_log log = {0};
    struct fc_message message = {.seq = 5, .sender = "bob", .text = "no", .reply_to_seq = 2};
    put(&log, make(&message));
    const struct tui_entry *answer = tui_log_find(&log, 5);
    assert_string_equal(part(answer, TUI_PART_QUOTE), "> #2");
    put_text(&log, 2, "carol", "old"); // fetched later
    assert_string_equal(part(answer, TUI_PART_QUOTE), "> #2 carol: old");
    put_text(&log, 2, "carol", "new");
    assert_string_equal(part(answer, TUI_PART_QUOTE), "> #2 carol: new");
    message = (struct fc_message){.seq = 2, .sender = "carol", .text = "new", .is_deleted = true};
    put(&log, make(&message));
    assert_string_equal(part(answer, TUI_PART_QUOTE), "> #2 carol: (deleted)");
    tui_log_free(&log);
}

static void
test_names_that_are_too_long(void **state)
{
    (void)state;
    char name[1000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    struct fc_message message = {.seq = 1, .sender = name, .text = ""};
    struct tui_entry *entry = make(&message);
    assert_in_range(strlen(entry->sender), 1, sizeof entry->sender - 1);
    tui_entry_free(&entry);
}

// window joins the rows' texts with '|', heads as '>'.
static const char *
window(const struct tui_log *log, size_t height)
{
    static char joined[4096];
    struct tui_shown shown[64];
    size_t count = tui_log_window(log, height, shown);
    assert_true(count <= height);
    joined[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct tui_row *row = shown[i].row;
        const struct bytes *text = &shown[i].entry->parts[row->part];
        strcat(joined, i > 0 ? "|" : "");
        strcat(joined, row->is_head ? ">" : "");
        strncat(joined, row->size > 0 ? (const char *)text->data + row->start : "", row->size);
    }
    return joined;
}

static void
fill(struct tui_log *log, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        char text[16];
        (void)snprintf(text, sizeof text, "m%u", (unsigned)seq);
        put_text(log, seq, "bob", text);
    }
    assert_int_equal(tui_log_layout(log, 60), ERR_OK);
}

static void
test_the_window_moves(void **state)
{
    (void)state;
    struct tui_log log = {0};
    fill(&log, 11, 20);
    assert_string_equal(window(&log, 3), ">m18|>m19|>m20");
    assert_false(tui_log_scroll(&log, 2, 3));
    assert_string_equal(window(&log, 3), ">m16|>m17|>m18");
    // What comes at the end does not move it, nor does what comes before.
    fill(&log, 21, 21);
    fill(&log, 9, 10);
    assert_string_equal(window(&log, 3), ">m16|>m17|>m18");
    assert_true(tui_log_scroll(&log, 1000, 3));
    assert_string_equal(window(&log, 3), "--- 1970-01-01 ---|>m9|>m10");
    assert_false(tui_log_scroll(&log, -1000, 3));
    assert_string_equal(window(&log, 3), ">m19|>m20|>m21");
    assert_false(log.is_scrolled);
    assert_true(tui_log_scroll(&log, 5, 50)); // all of it can be seen
    assert_false(log.is_scrolled);
    tui_log_free(&log);
}

static void
test_long_texts_are_indented(void **state)
{
    (void)state;
    struct tui_log log = {0};
    put_text(&log, 1, "bob", "one two three four five six seven eight\n00:00 #1 eve: no");
    assert_int_equal(tui_log_layout(&log, 40), ERR_OK);
    assert_string_equal(window(&log, 10),
        "--- 1970-01-01 ---|>one two three four five|six seven eight|00:00 #1 eve: no");
    for (size_t i = 0; i < log.entries[0]->row_count; i++) {
        const struct tui_row *row = &log.entries[0]->rows[i];
        assert_true(row->part == TUI_PART_DAY || row->indent > 0);
    }
    // Again for another width, however small.
    for (int columns = 1; columns < 100; columns++) {
        assert_int_equal(tui_log_layout(&log, columns), ERR_OK);
        assert_int_equal(log.entries[0]->rows_columns, columns);
    }
    tui_log_free(&log);
}

static void
test_days_are_told_once(void **state)
{
    (void)state;
    struct tui_log log = {0};
    static const int64_t day_ms = 24 * 3600 * 1000;
    for (uint64_t seq = 1; seq <= 4; seq++) {
        struct fc_message message = {.seq = seq,
            .sender = "bob",
            .text = "x",
            .sent_unix_ms = day_ms * (seq <= 2 ? 1 : 3)};
        put(&log, make(&message));
    }
    assert_int_equal(tui_log_layout(&log, 60), ERR_OK);
    assert_string_equal(window(&log, 10), "--- 1970-01-02 ---|>x|>x|--- 1970-01-04 ---|>x|>x");
    tui_log_free(&log);
}

static void
test_times_that_no_calendar_has(void **state)
{
    (void)state;
    static const int64_t times[] = {INT64_MIN, INT64_MAX, -1};
    for (size_t i = 0; i < 3; i++) {
        struct fc_message message = {.seq = UINT64_MAX, .sender = "bob", .text = "x", .sent_unix_ms = times[i]};
        struct tui_entry *entry = make(&message);
        assert_non_null(strstr(entry->stamp, "#18446744073709551615 "));
        tui_entry_free(&entry);
    }
}

static void
test_old_ones_are_forgotten(void **state)
{
    (void)state;
    struct tui_log log = {.has_first = true};
    fill(&log, 1, 20);
    tui_log_trim(&log, 5);
    assert_string_equal(order(&log), "m16 m17 m18 m19 m20");
    assert_false(log.has_first);
    put_pending(&log, 1, "p");
    tui_log_forget(&log);
    assert_string_equal(order(&log), "p");
    tui_log_free(&log);
}

static uint32_t
next_random(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

// Whatever happens in whichever order: the sanitizers watch, and a window never has more rows than it holds.
static void
test_anything_in_any_order(void **state)
{
    (void)state;
    struct tui_log log = {0};
    uint32_t seed = 7;
    uint64_t token = 0;
    static const char *const texts[] = {"", "x", "one two three four five six seven eight nine ten", "a\nb\nc", "same"};
    for (int i = 0; i < 3000; i++) {
        uint32_t choice = next_random(&seed) % 12;
        uint64_t seq = 1 + next_random(&seed) % 60;
        const char *text = texts[next_random(&seed) % 5];
        size_t height = 1 + next_random(&seed) % 30;
        if (choice < 4) {
            put_text(&log, seq, choice == 0 ? "alice" : "bob", text);
        } else if (choice == 4) {
            put_pending(&log, ++token, text);
        } else if (choice == 5) {
            put_note(&log, text);
        } else if (choice == 6) {
            tui_log_sent(&log, token - next_random(&seed) % 3, seq % 4 == 0 ? 0 : seq);
        } else if (choice == 7 && seq == 1) {
            tui_log_forget(&log);
        } else if (choice == 8 && seq < 4) {
            tui_log_trim(&log, seq);
        } else {
            (void)tui_log_scroll(&log, (long)(next_random(&seed) % 80) - 40, height);
        }
        assert_int_equal(tui_log_layout(&log, choice < 9 ? 40 : 1 + (int)seq), ERR_OK);
        struct tui_shown shown[30];
        size_t count = tui_log_window(&log, height, shown);
        assert_true(count <= height);
        assert_true(count > 0 || log.count == 0);
        assert_true(!log.is_scrolled || log.anchor < log.count);
    }
    tui_log_free(&log);
}

int
main(void)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        return 1;
    }
    if (setenv("TZ", "UTC", 1) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_stand_in_order),
        cmocka_unit_test(test_pending_ones_go_when_they_are_there),
        cmocka_unit_test(test_what_messages_say),
        cmocka_unit_test(test_answers_say_what_the_other_says_now),
        cmocka_unit_test(test_names_that_are_too_long),
        cmocka_unit_test(test_the_window_moves),
        cmocka_unit_test(test_long_texts_are_indented),
        cmocka_unit_test(test_days_are_told_once),
        cmocka_unit_test(test_times_that_no_calendar_has),
        cmocka_unit_test(test_old_ones_are_forgotten),
        cmocka_unit_test(test_anything_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
