// Sending what the arguments or standard input say.
#ifndef CLI_CLI_SEND_H
#define CLI_CLI_SEND_H

#include "cli/cli_command.h"

// What cli_send_run understands beside --json.
#define CLI_SEND_ALLOWS (CLI_ALLOWS(CLI_OPTION_REPLY) | CLI_ALLOWS(CLI_OPTION_TOPIC) | CLI_ALLOWS(CLI_OPTION_ME))

// cli_send_check reads the options and leaves the rest; for before anything is done.
enum err cli_send_check(const struct cli *cli, struct err_detail *why) ERR_CHECKED;

// cli_send_run sends the arguments from `first` on as one message, or with a lone "-" each line of standard input.
// cli->chat is open. ERR_QUEUED: all of it has gone as far as the outbox.
enum err cli_send_run(struct cli *cli, const char *room, size_t first, struct err_detail *why) ERR_CHECKED;

// cli_send_draft sends one message and prints it as --json asks for.
enum err cli_send_draft(struct cli *cli, const char *room, const struct fc_chat_draft *draft,
    struct err_detail *why) ERR_CHECKED;

#endif
