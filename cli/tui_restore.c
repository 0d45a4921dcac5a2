#include "cli/tui_restore.h"

#include <curses.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

static const int crash_signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

enum {
    CRASH_SIGNALS = sizeof crash_signals / sizeof crash_signals[0],
};

static struct {
    struct termios modes;
    bool has_modes;
    char sequence[256]; // leaves the second screen, shows the cursor, ends mouse and paste marks
    size_t sequence_size;
    struct sigaction before[CRASH_SIGNALS];
    bool is_armed;
} restore;

static void
add(const char *capability)
{
    if (capability == NULL || capability == (const char *)-1) {
        return;
    }
    size_t size = strlen(capability);
    if (restore.sequence_size + size <= sizeof restore.sequence) {
        memcpy(restore.sequence + restore.sequence_size, capability, size);
        restore.sequence_size += size;
    }
}

bool
tui_restore_prepare(void)
{
    int status = 0;
    restore.has_modes = tcgetattr(STDIN_FILENO, &restore.modes) == 0;
    if (setupterm(NULL, STDOUT_FILENO, &status) != OK) {
        return false;
    }
    (void)del_curterm(cur_term); // ncurses makes its own
    return true;
}

// on_crash does only what a signal handler may, and lets the crash go on as it would have.
static void
on_crash(int number)
{
    ssize_t ignored = write(STDOUT_FILENO, restore.sequence, restore.sequence_size);
    (void)ignored;
    if (restore.has_modes) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &restore.modes);
    }
    for (size_t i = 0; i < CRASH_SIGNALS; i++) {
        if (crash_signals[i] == number) {
            (void)sigaction(number, &restore.before[i], NULL);
        }
    }
    (void)raise(number);
}

void
tui_restore_arm(void)
{
    restore.sequence_size = 0;
    add("\033[?2004l\033[?1006;1000l");
    add(tigetstr("sgr0"));
    add(tigetstr("cnorm"));
    add(tigetstr("rmkx"));
    add(tigetstr("rmcup"));
    struct sigaction action = {.sa_handler = on_crash};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CRASH_SIGNALS; i++) {
        (void)sigaction(crash_signals[i], &action, &restore.before[i]);
    }
    restore.is_armed = true;
}

void
tui_restore_disarm(void)
{
    for (size_t i = 0; restore.is_armed && i < CRASH_SIGNALS; i++) {
        (void)sigaction(crash_signals[i], &restore.before[i], NULL);
    }
    restore.is_armed = false;
}
