// Invite links: describing one, and telling one from the name of a room.
#ifndef CLI_CLI_LINK_H
#define CLI_CLI_LINK_H

#include <stdbool.h>

#include "cli/cli_output.h"
#include "client/fc_chat.h"

// cli_link_is tells a link from a room.
bool cli_link_is(const char *text);

// cli_link_works tells that it has not been used up or ended.
bool cli_link_works(const struct fc_chat_link *link);

// cli_link_add_json appends members to an object that is open; cli_link_add_line a line.
void cli_link_add_json(struct cli_text *text, const struct fc_chat_link *link);
void cli_link_add_line(struct cli_text *text, const struct fc_chat_link *link);

#endif
