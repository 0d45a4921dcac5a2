// Asking whether a server is the right one.
#ifndef CLI_CLI_TRUST_H
#define CLI_CLI_TRUST_H

#include "cli/cli_options.h"
#include "client/fc_trust.h"

// cli_trust_fill takes what the options say, and the question if there is a terminal for it. Borrows from options.
void cli_trust_fill(const struct cli_options *options, struct fc_trust *out);

#endif
