// fc history.
#include "cli/cli_command.h"
#include "cli/cli_message.h"
#include "client/fc_room.h"

enum {
    NEWEST_DEFAULT = 50,
};

struct printing {
    bool is_json;
    enum err code;
    struct err_detail *why;
};

static bool
on_message(void *context, const struct fc_message *message)
{
    struct printing *printing = context;
    printing->code = cli_message_print(message, printing->is_json, printing->why);
    return printing->code == ERR_OK;
}

static enum err
run_history(struct cli *cli, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    struct printing printing = {.is_json = cli_options_has(options, CLI_OPTION_JSON), .why = why};
    bool is_newest = !cli_options_has(options, CLI_OPTION_SINCE);
    uint64_t since = 0;
    uint64_t limit = 0;
    enum err code = cli_options_u64(options, CLI_OPTION_SINCE, 0, 0, &since, why);
    if (code == ERR_OK) {
        code = cli_options_u64(options, CLI_OPTION_LIMIT, 0, is_newest ? NEWEST_DEFAULT : 0, &limit, why);
    }
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        // The newest of all is all, from the first on.
        code = fc_room_history(cli->session, cli->arguments[0], since, limit, is_newest && limit > 0, on_message,
            &printing, why);
    }
    return printing.code != ERR_OK ? printing.code : code;
}

const struct cli_command cmd_history = {
    .name = "history",
    .synopsis = "ROOM [--since SEQ] [--limit N]",
    .summary = "print messages of a room",
    .details = "Without --since the newest ones, 50 unless --limit says otherwise; with --since\n"
               "all that follow message SEQ, or the first --limit of them. Oldest first.\n",
    .options = CLI_ALLOWS(CLI_OPTION_SINCE) | CLI_ALLOWS(CLI_OPTION_LIMIT),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_history,
};
