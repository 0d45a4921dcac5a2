// The account's keys, as commands need them.
#ifndef CLI_CLI_IDENTITY_H
#define CLI_CLI_IDENTITY_H

#include <stdbool.h>

#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "client/fc_identity.h"

// cli_identity_open opens the session, which has to be logged in, and its account's keys. The caller closes them.
// Warnings go to standard error.
enum err cli_identity_open(struct cli *cli, struct fc_identity **out, struct err_detail *why) ERR_CHECKED;

// cli_identity_is_offline reads --recovery. ERR_INVALID.
enum err cli_identity_is_offline(const struct cli *cli, bool *out, struct err_detail *why) ERR_CHECKED;

// cli_recovery_add tells people what to do with a new recovery key; nothing for an empty one.
void cli_recovery_add(struct cli_text *text, const char *recovery_text);

// cli_confirm wants `word` typed on the terminal after the question, unless --yes is given. ERR_PRECONDITION: there is
// no terminal, or another word was typed.
enum err cli_confirm(const struct cli *cli, const char *question, const char *word, struct err_detail *why) ERR_CHECKED;

#endif
