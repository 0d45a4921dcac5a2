// fc signup, login, logout, whoami.
#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "cli/cli_password.h"

static const char password_details[] =
    "The password is asked for on the terminal, or read from standard input with\n"
    "--password-stdin; it is never an argument, and never leaves this computer: the\n"
    "server gets a key derived from it.\n";

// log_in gets a token and keeps it, for this server first in the list.
static enum err
log_in(struct cli *cli, struct bytes_view password, struct err_detail *why)
{
    struct fc_credential credential = {0};
    enum err code = fc_session_log_in(cli->session, cli->arguments[0], password, &credential, why);
    if (code == ERR_OK) {
        code = fc_config_save(&credential, why);
    }
    digest_wipe(&credential, sizeof credential);
    return code == ERR_DENIED ? ERR_PRECONDITION : code;
}

static enum err
print_login(struct cli *cli, const char *what, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", cli->arguments[0]);
        cli_json_text(&text, "server", fc_session_server_url(cli->session));
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s as ", what);
        cli_text_add_printable(&text, cli->arguments[0]);
        cli_text_add(&text, " on ");
        cli_text_add_printable(&text, fc_session_server_url(cli->session));
        cli_text_add(&text, "\n");
    }
    return cli_text_print(&text, why);
}

static enum err
run_signup(struct cli *cli, struct err_detail *why)
{
    struct bytes password = {0};
    enum err code = cli_session_open(cli, false, why);
    if (code == ERR_OK) {
        code = cli_password_read(cli_options_has(&cli->options, CLI_OPTION_PASSWORD_STDIN), true, &password, why);
    }
    if (code == ERR_OK) {
        code = fc_session_sign_up(cli->session, cli->arguments[0], bytes_as_view(&password), why);
    }
    if (code == ERR_OK) {
        struct err_detail cause = {0};
        code = log_in(cli, bytes_as_view(&password), &cause);
        if (code != ERR_OK) {
            (void)err_fail(why, code, "the account is made, but logging in failed: %s; try 'fc login %s'",
                err_message(&cause, code), cli->arguments[0]);
        }
    }
    bytes_free_secret(&password);
    return code == ERR_OK ? print_login(cli, "signed up and logged in", why) : code;
}

static enum err
run_login(struct cli *cli, struct err_detail *why)
{
    struct bytes password = {0};
    enum err code = cli_session_open(cli, false, why);
    if (code == ERR_OK) {
        code = cli_password_read(cli_options_has(&cli->options, CLI_OPTION_PASSWORD_STDIN), false, &password, why);
    }
    if (code == ERR_OK) {
        code = log_in(cli, bytes_as_view(&password), why);
    }
    bytes_free_secret(&password);
    return code == ERR_OK ? print_login(cli, "logged in", why) : code;
}

static enum err
run_logout(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_session_log_out(cli->session, why);
    }
    // A token that no longer works is as good as revoked, and is not worth keeping.
    if (code == ERR_UNAUTHENTICATED && cli->session != NULL) {
        code = ERR_OK;
    }
    // A token from FC_TOKEN, which has no name to it, is not the one in the file.
    if (code == ERR_OK && cli->credential.user_name[0] != '\0') {
        code = fc_config_forget(cli->credential.server_url, why);
    }
    return code;
}

static enum err
run_whoami(struct cli *cli, struct err_detail *why)
{
    struct fc_account account = {0};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_session_who_am_i(cli->session, &account, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", account.user_name);
        cli_json_text(&text, "server", fc_session_server_url(cli->session));
        cli_json_bool(&text, "is_admin", account.is_admin);
        cli_json_time(&text, "token_expires_at", account.token_expires_unix_ms);
        cli_json_close_line(&text);
    } else {
        cli_text_add_printable(&text, account.user_name);
        cli_text_add(&text, "\n");
    }
    return cli_text_print(&text, why);
}

const struct cli_command cmd_signup = {
    .name = "signup",
    .synopsis = "USER [--password-stdin]",
    .summary = "make an account and log in",
    .details = password_details,
    .options = CLI_ALLOWS(CLI_OPTION_PASSWORD_STDIN),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_signup,
};

const struct cli_command cmd_login = {
    .name = "login",
    .synopsis = "USER [--password-stdin]",
    .summary = "log in and remember it",
    .details = password_details,
    .options = CLI_ALLOWS(CLI_OPTION_PASSWORD_STDIN),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_login,
};

const struct cli_command cmd_logout = {
    .name = "logout",
    .synopsis = "",
    .summary = "end the login, here and on the server",
    .run = run_logout,
};

const struct cli_command cmd_whoami = {
    .name = "whoami",
    .synopsis = "",
    .summary = "show who is logged in",
    .run = run_whoami,
};
