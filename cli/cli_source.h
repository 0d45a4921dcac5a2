// How a server of segments is printed.
#ifndef CLI_CLI_SOURCE_H
#define CLI_CLI_SOURCE_H

#include "cli/cli_output.h"
#include "client/fc_tracker.h"

enum {
    CLI_SOURCE_LINE_BYTES = 256, // with its NUL
};

// cli_source_json writes it as one object and ends the line.
void cli_source_json(struct cli_text *text, const struct fc_source *source);

// cli_source_head is the line above, cli_source_line what stands below it, without the name.
extern const char cli_source_head[];
void cli_source_line(const struct fc_source *source, char out[CLI_SOURCE_LINE_BYTES]);

// cli_source_add writes that line and the name, and ends the line.
void cli_source_add(struct cli_text *text, const struct fc_source *source);

#endif
