// The keyboard and the mouse.
#include <curses.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/tui_screen.h"
#include "cli/tui_screen_priv.h"

enum {
    ESCAPE_MS = 25, // a terminal sends a key's sequence at once

    // Codes of our own for sequences that terminfo may not name, above ncurses' own.
    KEY_ALT_UP = 4000,
    KEY_ALT_DOWN,
    KEY_WORD_LEFT,
    KEY_WORD_RIGHT,
    KEY_PASTE_BEGIN,
    KEY_PASTE_END,
};

static bool is_pasting;

static void
ask_terminal(const char *sequence)
{
    (void)fputs(sequence, stdout);
    (void)fflush(stdout);
}

void
tui_keys_open(void)
{
    static const struct {
        const char *sequence;
        int key;
    } keys[] = {
        {"\033[1;3A", KEY_ALT_UP},
        {"\033[1;3B", KEY_ALT_DOWN},
        {"\033\033[A", KEY_ALT_UP},
        {"\033\033[B", KEY_ALT_DOWN},
        {"\033[1;5D", KEY_WORD_LEFT},
        {"\033[1;5C", KEY_WORD_RIGHT},
        {"\033b", KEY_WORD_LEFT},
        {"\033f", KEY_WORD_RIGHT},
        {"\033[200~", KEY_PASTE_BEGIN},
        {"\033[201~", KEY_PASTE_END},
    };
    (void)set_escdelay(ESCAPE_MS);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        (void)define_key(keys[i].sequence, keys[i].key);
    }
    (void)mousemask(BUTTON1_PRESSED | BUTTON1_CLICKED | BUTTON4_PRESSED | BUTTON5_PRESSED, NULL);
    (void)mouseinterval(0);
    ask_terminal("\033[?2004h"); // what is pasted comes between marks, and sends nothing by its newlines
}

void
tui_keys_close(void)
{
    ask_terminal("\033[?2004l");
    (void)mousemask(0, NULL);
    is_pasting = false;
}

static struct tui_key
simple(enum tui_key_kind kind)
{
    return (struct tui_key){.kind = kind};
}

static struct tui_key
with_move(enum tui_key_kind kind, enum tui_move move)
{
    return (struct tui_key){.kind = kind, .move = move};
}

static struct tui_key
read_mouse(void)
{
    MEVENT event;
    struct tui_key key = {.kind = TUI_KEY_OTHER};
    if (getmouse(&event) != OK) {
        return key;
    }
    if ((event.bstate & BUTTON4_PRESSED) != 0) {
        key.kind = TUI_KEY_WHEEL_UP;
    } else if ((event.bstate & BUTTON5_PRESSED) != 0) {
        key.kind = TUI_KEY_WHEEL_DOWN;
    } else if ((event.bstate & (BUTTON1_PRESSED | BUTTON1_CLICKED)) != 0 &&
               tui_screen_room_at(event.y, event.x, &key.room)) {
        key.kind = TUI_KEY_ROOM;
    }
    return key;
}

static struct tui_key
from_code(wint_t code)
{
    switch (code) {
    case KEY_UP:
        return simple(TUI_KEY_UP);
    case KEY_DOWN:
        return simple(TUI_KEY_DOWN);
    case KEY_LEFT:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_LEFT);
    case KEY_RIGHT:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_RIGHT);
    case KEY_HOME:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_HOME);
    case KEY_END:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_END);
    case KEY_WORD_LEFT:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_WORD_LEFT);
    case KEY_WORD_RIGHT:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_WORD_RIGHT);
    case KEY_BACKSPACE:
        return with_move(TUI_KEY_ERASE, TUI_MOVE_LEFT);
    case KEY_DC:
        return with_move(TUI_KEY_ERASE, TUI_MOVE_RIGHT);
    case KEY_ENTER:
        return simple(TUI_KEY_ENTER);
    case KEY_PPAGE:
        return simple(TUI_KEY_PAGE_UP);
    case KEY_NPAGE:
        return simple(TUI_KEY_PAGE_DOWN);
    case KEY_ALT_UP:
        return simple(TUI_KEY_PREVIOUS_ROOM);
    case KEY_ALT_DOWN:
        return simple(TUI_KEY_NEXT_ROOM);
    case KEY_MOUSE:
        return read_mouse();
    case KEY_PASTE_BEGIN:
        is_pasting = true;
        break;
    case KEY_PASTE_END:
        is_pasting = false;
        break;
    default:
        break;
    }
    return simple(TUI_KEY_OTHER);
}

static struct tui_key
from_char(wint_t code)
{
    enum { CTRL = 0x1f };
    switch (code) {
    case '\r':
    case '\n':
        return is_pasting ? (struct tui_key){.kind = TUI_KEY_CHAR, .code = '\n'} : simple(TUI_KEY_ENTER);
    case '\t':
        return is_pasting ? (struct tui_key){.kind = TUI_KEY_CHAR, .code = ' '} : simple(TUI_KEY_TAB);
    case 0x7f:
    case '\b':
        return with_move(TUI_KEY_ERASE, TUI_MOVE_LEFT);
    case 0x1b:
        return simple(TUI_KEY_ESCAPE);
    case 'A' & CTRL:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_HOME);
    case 'B' & CTRL:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_LEFT);
    case 'D' & CTRL:
        return simple(TUI_KEY_END_OF_INPUT);
    case 'E' & CTRL:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_END);
    case 'F' & CTRL:
        return with_move(TUI_KEY_MOVE, TUI_MOVE_RIGHT);
    case 'K' & CTRL:
        return with_move(TUI_KEY_ERASE, TUI_MOVE_END);
    case 'L' & CTRL:
        return simple(TUI_KEY_REPAINT);
    case 'N' & CTRL:
        return simple(TUI_KEY_NEXT_ROOM);
    case 'P' & CTRL:
        return simple(TUI_KEY_PREVIOUS_ROOM);
    case 'U' & CTRL:
        return with_move(TUI_KEY_ERASE, TUI_MOVE_HOME);
    case 'W' & CTRL:
        return with_move(TUI_KEY_ERASE, TUI_MOVE_WORD_LEFT);
    default:
        break;
    }
    return code < 0x20 ? simple(TUI_KEY_OTHER) : (struct tui_key){.kind = TUI_KEY_CHAR, .code = (uint32_t)code};
}

struct tui_key
tui_screen_read_key(void)
{
    wint_t code = 0;
    int result = get_wch(&code);
    if (result == ERR) {
        return simple(TUI_KEY_NONE);
    }
    return result == KEY_CODE_YES ? from_code(code) : from_char(code);
}
