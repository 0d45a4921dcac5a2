// Ctrl-C, SIGTERM and SIGHUP as something to ask for, so that a command can tidy up. A second signal of the same kind
// ends the process at once, as if nobody had asked.
#ifndef CLI_CLI_INTERRUPT_H
#define CLI_CLI_INTERRUPT_H

#include <stdbool.h>

#include "base/err.h"

// cli_interrupt_watch begins to catch them. Until then they end the process.
enum err cli_interrupt_watch(struct err_detail *why) ERR_CHECKED;

// cli_interrupt_signal is the signal that came first, or 0. Any thread.
int cli_interrupt_signal(void);

// cli_interrupt_fd becomes readable, for good, with the signal or with cli_interrupt_wake.
int cli_interrupt_fd(void);

// cli_interrupt_wake makes cli_interrupt_fd readable, so that another thread can end a poll of the main one.
void cli_interrupt_wake(void);

#endif
