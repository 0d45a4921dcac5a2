// Following a room: printing its messages as they come, or running a command for each, and sending what is typed.
#ifndef CLI_CLI_FOLLOW_H
#define CLI_CLI_FOLLOW_H

#include "cli/cli_command.h"
#include "client/fc_room.h"

// What cli_follow_run understands beside --json.
#define CLI_FOLLOW_ALLOWS                                                                                              \
    (CLI_ALLOWS(CLI_OPTION_SINCE) | CLI_ALLOWS(CLI_OPTION_COUNT) | CLI_ALLOWS(CLI_OPTION_NUMBER) |                     \
        CLI_ALLOWS(CLI_OPTION_EXEC) | CLI_ALLOWS(CLI_OPTION_OWN))

// cli_follow_check reads the options; for before anything is joined.
enum err cli_follow_check(const struct cli *cli, struct err_detail *why) ERR_CHECKED;

// cli_follow_run follows a room that the user is in, until something ends it. cli->chat is open.
enum err cli_follow_run(struct cli *cli, const struct fc_room *room, struct err_detail *why) ERR_CHECKED;

#endif
