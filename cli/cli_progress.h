// The bar of a transfer, drawn on standard error when that is a terminal, and the transfer's question whether to go on.
#ifndef CLI_CLI_PROGRESS_H
#define CLI_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/fc_file.h"

// cli_progress belongs to one transfer. Its fields are used by the thread that reports, one at a time.
struct cli_progress {
    const char *name; // borrowed
    bool is_drawn;
    uint64_t started_ms;
    uint64_t drawn_ms;
};

// cli_progress_begin sets options up so that they draw the bar of this transfer and end it on Ctrl-C
// (cli_interrupt_watch comes before).
void cli_progress_begin(struct cli_progress *progress, const char *name, struct fc_transfer_options *options);

// cli_progress_end takes the bar off the terminal.
void cli_progress_end(struct cli_progress *progress);

#endif
