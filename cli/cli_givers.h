// The servers that a download comes from: a line for each, at an interval and at the end.
#ifndef CLI_CLI_GIVERS_H
#define CLI_CLI_GIVERS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli_output.h"
#include "client/fc_file.h"

enum {
    CLI_GIVERS_MAX = 64, // the client's limit
};

// cli_givers remembers what was there at the last line. All zero is the beginning.
struct cli_givers {
    uint64_t bytes[CLI_GIVERS_MAX];
    uint64_t told_ms;
};

// cli_givers_draw adds a line for each source, for a terminal so wide; each ends with a new line.
void cli_givers_draw(struct cli_text *text, const struct fc_progress *state, int columns);

// cli_givers_tell writes what has come since the last time and how fast, to standard error, or as JSON to standard
// output. The speeds of the sources add up to the total.
void cli_givers_tell(struct cli_givers *givers, const struct fc_progress *state, uint64_t now_ms, bool is_json);

// cli_givers_sum_up writes who gave what in all, and what was asked for or sent in vain.
void cli_givers_sum_up(const struct fc_progress *state, uint64_t elapsed_ms, bool is_json);

#endif
