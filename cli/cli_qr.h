// QR codes on a terminal.
#ifndef CLI_CLI_QR_H
#define CLI_CLI_QR_H

#include "cli/cli_output.h"

// cli_qr_add appends a QR code of the text: two modules a character, dark on light with the margin that readers need.
// ERR_TOO_BIG: too much text for one.
enum err cli_qr_add(struct cli_text *out, const char *text) ERR_CHECKED;

#endif
