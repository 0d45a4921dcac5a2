#include "cli/tui_screen.h"

#include <curses.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/tui_restore.h"
#include "cli/tui_screen_priv.h"

enum {
    ROOMS_COLUMNS = 24,
    ROOMS_SHARE = 4,     // the list of rooms has a quarter of the width at most
    WIDE_COLUMNS = 48,   // less, and there is none
    ROWS_BESIDE_LOG = 4, // topic, typing, input, connection
    USER_COLOURS = 6,
    PAIR_PROBLEM = 7,
    PAIR_GOOD = 8,
};

// There is one terminal.
static struct {
    bool is_open;
    bool has_colours;
    int rows;
    int columns;
    int list_columns;  // of the rooms; 0: none
    size_t first_room; // shown
    struct tui_shown *shown;
    size_t shown_capacity;
} screen;

// --- Opening and closing --------------------------------------------------------------------------------------------

// use_utf8 makes sure that the C library knows the characters: all text here is UTF-8, whatever the locale says.
static void
use_utf8(void)
{
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    }
}

static void
start_colours(void)
{
    const char *no_color = getenv("NO_COLOR");
    if ((no_color != NULL && no_color[0] != '\0') || !has_colors()) {
        return;
    }
    static const short colours[] = {COLOR_CYAN, COLOR_GREEN, COLOR_YELLOW, COLOR_BLUE, COLOR_MAGENTA, COLOR_RED};
    screen.has_colours = start_color() == OK && use_default_colors() == OK;
    for (short i = 0; screen.has_colours && i < USER_COLOURS; i++) {
        (void)init_pair((short)(i + 1), colours[i], -1);
    }
    if (screen.has_colours) {
        (void)init_pair(PAIR_PROBLEM, COLOR_RED, -1);
        (void)init_pair(PAIR_GOOD, COLOR_GREEN, -1);
    }
}

static void
measure(void)
{
    getmaxyx(stdscr, screen.rows, screen.columns);
    int share = screen.columns / ROOMS_SHARE;
    screen.list_columns = screen.columns < WIDE_COLUMNS ? 0 : share < ROOMS_COLUMNS ? share : ROOMS_COLUMNS;
}

enum err
tui_screen_open(struct err_detail *why)
{
    use_utf8();
    const char *term = getenv("TERM");
    if (!tui_restore_prepare() || newterm(NULL, stdout, stdin) == NULL) {
        return err_fail(why, ERR_PRECONDITION, "the terminal \"%s\" cannot show a full screen; try fc join",
            term != NULL ? term : "");
    }
    screen.is_open = true;
    (void)cbreak();
    (void)noecho();
    (void)nonl();
    (void)intrflush(stdscr, FALSE);
    (void)keypad(stdscr, TRUE);
    (void)nodelay(stdscr, TRUE);
    tui_keys_open();
    tui_restore_arm();
    start_colours();
    measure();
    return ERR_OK;
}

void
tui_screen_close(void)
{
    if (!screen.is_open) {
        return;
    }
    screen.is_open = false;
    tui_keys_close();
    (void)endwin();
    tui_restore_disarm();
    free(screen.shown);
    screen.shown = NULL;
    screen.shown_capacity = 0;
}

void
tui_screen_leave(void)
{
    tui_keys_close();
    (void)endwin();
}

void
tui_screen_return(void)
{
    tui_keys_open();
    (void)refresh();
    tui_screen_resize(); // it may have been while nobody looked
}

void
tui_screen_resize(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        (void)resizeterm(size.ws_row, size.ws_col);
    }
    measure();
    tui_screen_repaint();
}

void
tui_screen_repaint(void)
{
    (void)clearok(stdscr, TRUE);
}

int
tui_screen_columns(void)
{
    return screen.columns;
}

size_t
tui_screen_log_height(void)
{
    return screen.rows > ROWS_BESIDE_LOG ? (size_t)(screen.rows - ROWS_BESIDE_LOG) : 0;
}

// --- Drawing --------------------------------------------------------------------------------------------------------

static int
log_column(void)
{
    return screen.list_columns > 0 ? screen.list_columns + 1 : 0;
}

static int
log_columns(void)
{
    return screen.columns - log_column();
}

// put draws as much of text as fits into so many columns, and returns how many it took.
static int
put(int row, int column, int columns, attr_t look, struct bytes_view text)
{
    if (row < 0 || row >= screen.rows || columns <= 0) {
        return 0;
    }
    text.size = tui_fit(text, columns);
    (void)attrset((int)look);
    if (text.size > 0) {
        (void)mvaddnstr(row, column, (const char *)text.data, (int)text.size);
    }
    (void)attrset(A_NORMAL);
    return tui_columns(text);
}

static int
put_text(int row, int column, int columns, attr_t look, const char *text)
{
    return put(row, column, columns, look, bytes_view_of_text(text));
}

static attr_t
colour(short pair)
{
    return screen.has_colours ? (attr_t)COLOR_PAIR(pair) : A_NORMAL;
}

// user_colour is the same for a user always and everywhere.
static attr_t
user_colour(const char *name)
{
    uint32_t hash = 2166136261U; // FNV-1a
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619U;
    }
    return colour((short)(hash % USER_COLOURS + 1)) | A_BOLD;
}

static void
draw_room(int row, const struct tui_room *room, bool is_current)
{
    char count[24] = "";
    uint32_t unread = room->unread_count;
    if (unread > 0) {
        (void)snprintf(count, sizeof count, "%s%u", room->mention_count > 0 ? "@" : "", unread > 999 ? 999 : unread);
    }
    if (room->is_invited) {
        (void)snprintf(count, sizeof count, "invited");
    }
    attr_t look = is_current ? A_REVERSE : unread > 0 ? A_BOLD : A_NORMAL;
    look |= room->is_archived ? A_DIM : 0;
    int count_columns = (int)strlen(count);
    int columns = screen.list_columns;
    (void)attrset((int)look);
    (void)mvhline(row, 0, ' ', columns);
    (void)put_text(row, 0, columns - count_columns - 1, look, room->name);
    (void)put_text(row, columns - count_columns, count_columns, look | (room->mention_count > 0 ? A_BOLD : 0), count);
}

static void
draw_rooms(const struct tui_rooms *rooms)
{
    if (screen.list_columns == 0) {
        return;
    }
    size_t height = (size_t)(screen.rows - 1);
    if (rooms->current < screen.first_room) {
        screen.first_room = rooms->current;
    }
    if (height > 0 && rooms->current >= screen.first_room + height) {
        screen.first_room = rooms->current - height + 1;
    }
    if (screen.first_room >= rooms->count) {
        screen.first_room = 0;
    }
    for (size_t i = 0; i < height; i++) {
        size_t index = screen.first_room + i;
        if (index < rooms->count) {
            draw_room((int)i, rooms->items[index], index == rooms->current);
        }
        (void)put_text((int)i, screen.list_columns, 1, A_DIM, "\xe2\x94\x82"); // a vertical line
    }
}

static attr_t
look_of(enum tui_style style)
{
    switch (style) {
    case TUI_STYLE_NORMAL:
        return A_NORMAL;
    case TUI_STYLE_FAINT:
        return A_DIM;
    case TUI_STYLE_MENTION:
        return A_BOLD | A_UNDERLINE;
    case TUI_STYLE_ERROR:
        return colour(PAIR_PROBLEM);
    }
    return A_NORMAL;
}

// draw_head draws time, number and sender.
static void
draw_head(int row, const struct tui_entry *entry)
{
    int column = log_column();
    int end = screen.columns;
    column += put_text(row, column, end - column, A_DIM, entry->stamp);
    if (entry->sender[0] == '\0') {
        return;
    }
    if (entry->is_emote) {
        column += put_text(row, column, end - column, A_NORMAL, "* ");
    }
    attr_t look = entry->kind == TUI_ENTRY_PENDING ? A_DIM : user_colour(entry->sender);
    column += put_text(row, column, end - column, look, entry->sender);
    (void)put_text(row, column, end - column, A_NORMAL, entry->is_emote ? " " : ": ");
}

static void
draw_row(int row, const struct tui_shown *shown)
{
    const struct tui_entry *entry = shown->entry;
    const struct tui_row *part = shown->row;
    attr_t look = part->part == TUI_PART_TEXT ? look_of(entry->style) : A_DIM;
    look = part->part == TUI_PART_FILE ? A_UNDERLINE : look;
    if (part->is_head) {
        draw_head(row, entry);
    }
    const struct bytes *text = &entry->parts[part->part];
    int column = log_column() + part->indent;
    if (part->size > 0) {
        (void)put(row, column, screen.columns - column, look, bytes_view_of(text->data + part->start, part->size));
    }
}

static enum err
draw_log(struct tui_log *log, uint64_t *last_seq_out)
{
    size_t height = tui_screen_log_height();
    if (height > screen.shown_capacity) {
        struct tui_shown *shown = realloc(screen.shown, height * sizeof *shown);
        if (shown == NULL) {
            return ERR_NO_MEMORY;
        }
        screen.shown = shown;
        screen.shown_capacity = height;
    }
    enum err code = tui_log_layout(log, log_columns());
    if (code != ERR_OK || height == 0) {
        return code;
    }
    size_t count = tui_log_window(log, height, screen.shown);
    for (size_t i = 0; i < count; i++) {
        draw_row((int)(1 + height - count + i), &screen.shown[i]);
        const struct tui_entry *entry = screen.shown[i].entry;
        if (entry->kind == TUI_ENTRY_MESSAGE && entry->seq > *last_seq_out) {
            *last_seq_out = entry->seq;
        }
    }
    return ERR_OK;
}

static void
draw_topic(const struct tui_room *room)
{
    int column = log_column();
    column += put_text(0, column, screen.columns - column, A_BOLD, room->name);
    if (room->is_plain) {
        column += put_text(0, column, screen.columns - column, A_DIM, " (the server can read it)");
    }
    if (room->is_invited) {
        column += put_text(0, column, screen.columns - column, A_BOLD, " (you are invited: /join it)");
    }
    if (room->is_archived) {
        column += put_text(0, column, screen.columns - column, A_DIM, " (archived)");
    }
    if (room->topic[0] != '\0') {
        column += put_text(0, column, screen.columns - column, A_DIM, " - ");
        (void)put_text(0, column, screen.columns - column, A_NORMAL, room->topic);
    }
}

// draw_input shows the part of the line around the cursor, and returns the cursor's column.
static int
draw_input(int row, const struct tui_input *input)
{
    enum { MARGIN = 3 };
    struct bytes_view text = tui_input_view(input);
    int column = log_column();
    column += put_text(row, column, screen.columns - column, A_BOLD, "> ");
    int columns = screen.columns - column - 1; // the cursor may stand behind the last character
    struct bytes_view before = bytes_view_of(text.data, input->cursor);
    size_t start = tui_columns(before) > columns - MARGIN ? tui_fit_end(before, columns - MARGIN) : 0;
    int at = column;
    int cursor = column;
    while (start <= text.size) {
        if (start == input->cursor) {
            cursor = at;
        }
        if (start == text.size) {
            break;
        }
        struct bytes_view rest = bytes_view_of(text.data + start, text.size - start);
        uint32_t code;
        int needed;
        size_t size = tui_take_char(rest, &code, &needed);
        bool is_newline = code == '\n';
        needed = is_newline ? 1 : needed;
        if (at + needed > column + columns) {
            break;
        }
        at += is_newline ? put_text(row, at, 1, A_DIM, "|") : put(row, at, 2, A_NORMAL, bytes_view_of(rest.data, size));
        start += size;
    }
    return cursor;
}

static void
draw_bar(const struct tui_view *view)
{
    int row = screen.rows - 1;
    attr_t look = A_REVERSE | colour(view->is_connected ? PAIR_GOOD : PAIR_PROBLEM);
    (void)attrset(A_REVERSE);
    (void)mvhline(row, 0, ' ', screen.columns);
    int column = put_text(row, 0, screen.columns, look, view->connection);
    if (view->status[0] != '\0') {
        column += put_text(row, column, screen.columns - column, A_REVERSE, " | ");
        attr_t status_look = A_REVERSE | (view->is_problem ? colour(PAIR_PROBLEM) | A_BOLD : 0);
        (void)put_text(row, column, screen.columns - column, status_look, view->status);
    }
}

enum err
tui_screen_draw(const struct tui_view *view, uint64_t *last_seq_out)
{
    enum err code = ERR_OK;
    *last_seq_out = 0;
    (void)erase();
    draw_rooms(view->rooms);
    if (screen.rows > ROWS_BESIDE_LOG) {
        draw_topic(view->room);
        (void)put_text(screen.rows - 3, log_column(), log_columns(), A_DIM, view->typing);
        code = draw_log(&view->room->log, last_seq_out);
    }
    draw_bar(view);
    // Last, so that the cursor stays there.
    int cursor = draw_input(screen.rows > 1 ? screen.rows - 2 : 0, view->input);
    (void)move(screen.rows > 1 ? screen.rows - 2 : 0, cursor);
    (void)refresh();
    return code;
}

bool
tui_screen_room_at(int row, int column, size_t *index_out)
{
    if (column < 0 || column >= screen.list_columns || row < 0 || row >= screen.rows - 1) {
        return false;
    }
    *index_out = screen.first_room + (size_t)row;
    return true;
}
