// fc presence, who.
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "client/fc_people.h"

static enum err
run_presence(struct cli *cli, struct err_detail *why)
{
    const char *wanted = cli->arguments[0];
    bool is_on = strcmp(wanted, "on") == 0;
    if (!is_on && strcmp(wanted, "off") != 0) {
        return err_fail(why, ERR_INVALID, "it is \"on\" or \"off\", not \"%s\"", wanted);
    }
    enum err code = cli_session_open(cli, true, why);
    return code == ERR_OK ? fc_people_show_presence(cli->session, is_on, why) : code;
}

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_present(void *context, const char *user_name)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", user_name);
        cli_json_close_line(&text);
    } else {
        cli_text_add_printable(&text, user_name);
        cli_text_add(&text, "\n");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_who(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_people_each_present(cli->session, cli->arguments[0], on_present, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

const struct cli_command cmd_presence = {
    .name = "presence",
    .synopsis = "on|off",
    .summary = "let others see, or not, that you follow a room",
    .details = "It is off at first. Nothing of it is kept but whether it is on.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_presence,
};

const struct cli_command cmd_who = {
    .name = "who",
    .synopsis = "ROOM",
    .summary = "list who follows a room now",
    .details = "Those who have said 'fc presence on' and have 'fc join' or 'fc chat' running.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_who,
};
