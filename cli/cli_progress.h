// The bar of a transfer, drawn on standard error when that is a terminal, and the transfer's question whether to go on.
#ifndef CLI_CLI_PROGRESS_H
#define CLI_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli_givers.h"
#include "cli/cli_options.h"
#include "client/fc_file.h"

// cli_progress belongs to one transfer. Its fields are used by the thread that reports, one at a time.
struct cli_progress {
    const char *name; // borrowed
    bool is_drawn;
    uint64_t started_ms;
    uint64_t drawn_ms;
    unsigned drawn_lines; // above the bar

    // Of a download, as cli_progress_follow was told.
    const char *command; // whose messages are said; NULL: none are
    bool is_terminal;
    bool is_json;
    bool is_verbose;
    uint64_t interval_ms; // 0: none
    char said[ERR_DETAIL_MAX_BYTES];
    struct cli_givers givers;
    struct fc_progress last; // its sources are the copies below
    struct fc_source_progress sources[CLI_GIVERS_MAX];
};

// cli_progress_begin sets options up so that they draw the bar of this transfer and end it on Ctrl-C
// (cli_interrupt_watch comes before).
void cli_progress_begin(struct cli_progress *progress, const char *name, struct fc_transfer_options *options);

// cli_progress_patience reads --timeout, how long a transfer goes on while it cannot: for ever when it was not given.
enum err cli_progress_patience(const struct cli_options *options, struct fc_transfer_options *transfer,
    struct err_detail *why) ERR_CHECKED;

// cli_progress_follow has a transfer say why it waits, and a download also tell, as the options say, which server gives
// what: each interval and at the end. command is its name, for messages; borrowed. ERR_INVALID: the interval.
enum err cli_progress_follow(struct cli_progress *progress, const char *command, const struct cli_options *options,
    struct fc_transfer_options *transfer, struct err_detail *why) ERR_CHECKED;

// cli_progress_sum_up says after the end of a download who gave what, when it was asked for, or there were several
// and standard error is a terminal.
void cli_progress_sum_up(const struct cli_progress *progress);

// cli_progress_end takes the bar off the terminal.
void cli_progress_end(struct cli_progress *progress);

#endif
