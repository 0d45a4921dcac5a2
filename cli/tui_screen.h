// The screen of fc chat, by ncurses: its layout, drawing, colours and keys. One at a time, on one thread.
#ifndef CLI_TUI_SCREEN_H
#define CLI_TUI_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/tui_rooms.h"

// tui_screen_open takes the terminal. It is given back by tui_screen_close, and when the process aborts or crashes.
// cli_interrupt_watch comes before, so that signals end it in good order. ERR_PRECONDITION: the terminal cannot do it.
enum err tui_screen_open(struct err_detail *why) ERR_CHECKED;
void tui_screen_close(void); // may run twice

// tui_screen_leave gives the terminal back for a while, until tui_screen_return.
void tui_screen_leave(void);
void tui_screen_return(void);

// What is to be seen. Everything can be drawn as it is.
struct tui_view {
    const struct tui_rooms *rooms;
    struct tui_room *room; // shown; its log is laid out
    const struct tui_input *input;
    const char *typing; // "bob is typing", or empty
    const char *connection;
    bool is_connected;
    const char *status; // of what was done last, or empty
    bool is_problem;
};

// tui_screen_draw draws what has changed. *last_seq_out: the newest message of the room that can be seen; 0: none.
enum err tui_screen_draw(const struct tui_view *view, uint64_t *last_seq_out) ERR_CHECKED;

// tui_screen_resize follows the terminal's size. tui_screen_repaint draws all of it anew with the next draw.
void tui_screen_resize(void);
void tui_screen_repaint(void);

int tui_screen_columns(void);
// tui_screen_log_height is how many rows of messages there are.
size_t tui_screen_log_height(void);

enum tui_key_kind {
    TUI_KEY_NONE, // nothing more was typed
    TUI_KEY_OTHER,
    TUI_KEY_CHAR, // code
    TUI_KEY_ENTER,
    TUI_KEY_TAB,
    TUI_KEY_ESCAPE,
    TUI_KEY_UP,
    TUI_KEY_DOWN,
    TUI_KEY_MOVE, // move
    TUI_KEY_ERASE,
    TUI_KEY_PAGE_UP,
    TUI_KEY_PAGE_DOWN,
    TUI_KEY_WHEEL_UP,
    TUI_KEY_WHEEL_DOWN,
    TUI_KEY_NEXT_ROOM,
    TUI_KEY_PREVIOUS_ROOM,
    TUI_KEY_ROOM, // room: index of the one that was clicked
    TUI_KEY_REPAINT,
    TUI_KEY_END_OF_INPUT, // Ctrl-D
};

struct tui_key {
    enum tui_key_kind kind;
    uint32_t code;
    enum tui_move move;
    size_t room;
};

// tui_screen_read_key takes the next key that was typed, without waiting.
struct tui_key tui_screen_read_key(void);

#endif
