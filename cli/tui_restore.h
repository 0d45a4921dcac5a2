// Giving the terminal back when nobody is left to do it: after an abort or a crash.
#ifndef CLI_TUI_RESTORE_H
#define CLI_TUI_RESTORE_H

#include <stdbool.h>

// tui_restore_prepare notes the terminal's modes, before ncurses changes them. false: nobody knows such a terminal.
bool tui_restore_prepare(void);
// tui_restore_arm takes over the signals of crashes, when ncurses knows the terminal; tui_restore_disarm leaves them.
void tui_restore_arm(void);
void tui_restore_disarm(void);

#endif
