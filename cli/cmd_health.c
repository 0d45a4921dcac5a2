// fc health.
#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "client/fc_health.h"

static enum err
print_status(const struct cli *cli, const char *service, bool is_serving, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "server", fc_session_server_url(cli->session));
        cli_json_text(&text, "service", service);
        cli_json_text(&text, "status", is_serving ? "SERVING" : "NOT_SERVING");
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, is_serving ? "serving\n" : "not serving\n");
    }
    return cli_text_print(&text, why);
}

static enum err
run_health(struct cli *cli, struct err_detail *why)
{
    const char *service = cli->argument_count > 0 ? cli->arguments[0] : "";
    bool is_serving = false;
    enum err code = cli_session_open(cli, false, why);
    if (code == ERR_OK) {
        code = fc_health_check(cli->session, service, &is_serving, why);
    }
    if (code == ERR_OK) {
        code = print_status(cli, service, is_serving, why);
    }
    if (code == ERR_OK && !is_serving) {
        return err_fail(why, ERR_PRECONDITION, "%s takes no calls, because it is shutting down",
            fc_session_server_url(cli->session));
    }
    return code;
}

const struct cli_command cmd_health = {
    .name = "health",
    .synopsis = "[SERVICE]",
    .summary = "tell whether the server takes calls",
    .details = "Needs no login. Ends with 0 when it does, with 1 when it is shutting down, and\n"
               "with 3 when it cannot be reached. SERVICE, such as fc.chat.v1.Chat, asks about\n"
               "one service; it ends with 11 when the server has none of that name.\n",
    .arguments_max = 1,
    .run = run_health,
};
