// For tui_screen.c and tui_keys.c only.
#ifndef CLI_TUI_SCREEN_PRIV_H
#define CLI_TUI_SCREEN_PRIV_H

#include <stdbool.h>
#include <stddef.h>

// tui_keys_open asks the terminal for mouse clicks and marked pastes, tui_keys_close for the opposite.
void tui_keys_open(void);
void tui_keys_close(void);

// tui_screen_room_at says which room of the list stands there. It may be past the last one.
bool tui_screen_room_at(int row, int column, size_t *index_out);

#endif
