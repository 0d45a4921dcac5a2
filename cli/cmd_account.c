// fc signup, login, logout, whoami, passwd.
#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_identity.h"
#include "cli/cli_output.h"
#include "cli/cli_password.h"

static const char password_details[] =
    "The password is asked for on the terminal, or read from standard input with\n"
    "--password-stdin; it is never an argument, and never leaves this computer: the\n"
    "server gets a key derived from it.\n"
    "\n"
    "An account without keys for encryption gets them. The recovery key is kept on\n"
    "the server, sealed under the password, so that the password is enough on the\n"
    "next computer, too. With --recovery offline it is printed instead, once.\n";

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

// establish makes the account's keys or brings them to this computer.
static enum err
establish(struct cli *cli, bool is_offline, struct fc_identity_outcome *outcome, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK) {
        code = fc_identity_establish(identity, is_offline, outcome, why);
    }
    fc_identity_close(&identity);
    return code;
}

static const char *
state_name(enum fc_identity_state state)
{
    switch (state) {
    case FC_IDENTITY_READY:
        return "ready";
    case FC_IDENTITY_MADE:
        return "made";
    case FC_IDENTITY_RECOVERED:
        return "recovered";
    case FC_IDENTITY_WAITING:
        return "waiting";
    case FC_IDENTITY_NONE:
        break;
    }
    return "none";
}

static enum err
print_login(struct cli *cli, const char *what, const struct fc_identity_outcome *outcome, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", cli->arguments[0]);
        cli_json_text(&text, "server", fc_session_server_url(cli->session));
        cli_json_text(&text, "keys", state_name(outcome->state));
        if (outcome->recovery_text[0] != '\0') {
            cli_json_text(&text, "recovery_key", outcome->recovery_text);
        }
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s as ", what);
        cli_text_add_printable(&text, cli->arguments[0]);
        cli_text_add(&text, " on ");
        cli_text_add_printable(&text, fc_session_server_url(cli->session));
        cli_text_add(&text, "\n");
        cli_recovery_add(&text, outcome->recovery_text);
        if (outcome->state == FC_IDENTITY_WAITING) {
            cli_text_add(&text,
                "This computer has none of your keys yet, so it cannot read encrypted rooms. Either run\n"
                "'fc device offer' here and 'fc device add' on a computer that has them, or type the\n"
                "recovery key into 'fc recover'.\n");
        }
    }
    return cli_text_print(&text, why);
}

// finish_login sees to the keys after a login that has succeeded. `what` begins the sentence for people.
static enum err
finish_login(struct cli *cli, const char *what, bool is_offline, struct err_detail *why)
{
    struct fc_identity_outcome outcome = {0};
    struct err_detail cause = {0};
    enum err code = establish(cli, is_offline, &outcome, &cause);
    if (code == ERR_OK) {
        code = print_login(cli, what, &outcome, why);
    } else {
        (void)err_fail(why, code, "%s, but without keys for encrypted rooms: %s", what, err_message(&cause, code));
    }
    digest_wipe(&outcome, sizeof outcome);
    return code;
}

static enum err
run_signup(struct cli *cli, struct err_detail *why)
{
    struct bytes password = {0};
    bool is_offline = false;
    enum err code = cli_identity_is_offline(cli, &is_offline, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, false, why);
    }
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
    return code == ERR_OK ? finish_login(cli, "signed up and logged in", is_offline, why) : code;
}

static enum err
run_login(struct cli *cli, struct err_detail *why)
{
    struct bytes password = {0};
    bool is_offline = false;
    enum err code = cli_identity_is_offline(cli, &is_offline, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, false, why);
    }
    if (code == ERR_OK) {
        code = cli_password_read(cli_options_has(&cli->options, CLI_OPTION_PASSWORD_STDIN), false, &password, why);
    }
    if (code == ERR_OK) {
        code = log_in(cli, bytes_as_view(&password), why);
    }
    bytes_free_secret(&password);
    return code == ERR_OK ? finish_login(cli, "logged in", is_offline, why) : code;
}

// forget deletes what this computer keeps of the account, when its owner says so.
static enum err
forget(struct cli *cli, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK) {
        code = cli_confirm(cli,
            "This deletes your keys and messages from this computer. Without another device or the recovery key\n"
            "encrypted messages are lost.",
            fc_identity_user_name(identity), why);
    }
    if (code == ERR_OK) {
        code = fc_identity_forget(&identity, why);
    }
    fc_identity_close(&identity);
    return code;
}

static enum err
run_logout(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK && cli_options_has(&cli->options, CLI_OPTION_FORGET)) {
        code = forget(cli, why);
    }
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
run_passwd(struct cli *cli, struct err_detail *why)
{
    struct bytes old = {0};
    struct bytes fresh = {0};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = cli_password_read_change(cli_options_has(&cli->options, CLI_OPTION_PASSWORD_STDIN), &old, &fresh, why);
    }
    if (code == ERR_OK) {
        code = fc_session_change_password(cli->session, bytes_as_view(&old), bytes_as_view(&fresh), why);
    }
    bytes_free_secret(&old);
    bytes_free_secret(&fresh);
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
    .synopsis = "USER [--password-stdin] [--recovery offline]",
    .summary = "make an account and log in",
    .details = password_details,
    .options = CLI_ALLOWS(CLI_OPTION_PASSWORD_STDIN) | CLI_ALLOWS(CLI_OPTION_RECOVERY),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_signup,
};

const struct cli_command cmd_login = {
    .name = "login",
    .synopsis = "USER [--password-stdin] [--recovery offline]",
    .summary = "log in and remember it",
    .details = password_details,
    .options = CLI_ALLOWS(CLI_OPTION_PASSWORD_STDIN) | CLI_ALLOWS(CLI_OPTION_RECOVERY),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_login,
};

const struct cli_command cmd_logout = {
    .name = "logout",
    .synopsis = "[--forget] [--yes]",
    .summary = "end the login, here and on the server",
    .details = "Keys and messages stay on this computer for the next login, unless --forget is\n"
               "given, which asks first.\n",
    .options = CLI_ALLOWS(CLI_OPTION_FORGET) | CLI_ALLOWS(CLI_OPTION_YES),
    .run = run_logout,
};

const struct cli_command cmd_whoami = {
    .name = "whoami",
    .synopsis = "",
    .summary = "show who is logged in",
    .run = run_whoami,
};

const struct cli_command cmd_passwd = {
    .name = "passwd",
    .synopsis = "[--password-stdin]",
    .summary = "change the password",
    .details = "Asks for the old password and, twice, for the new one. With --password-stdin the\n"
               "first line of standard input is the old one, and the rest the new one. Logins go\n"
               "on working; 'fc session revoke' ends them.\n",
    .options = CLI_ALLOWS(CLI_OPTION_PASSWORD_STDIN),
    .run = run_passwd,
};
