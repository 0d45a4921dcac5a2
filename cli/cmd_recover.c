// fc recover: with the recovery key, or without anything.
#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_identity.h"
#include "cli/cli_output.h"
#include "cli/cli_password.h"

static enum err
print_line(struct cli *cli, struct fc_identity *identity, const char *what, const char *recovery_text,
    struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", fc_identity_user_name(identity));
        if (recovery_text[0] != '\0') {
            cli_json_text(&text, "recovery_key", recovery_text);
        }
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s\n", what);
        cli_recovery_add(&text, recovery_text);
    }
    return cli_text_print(&text, why);
}

static enum err
recover(struct cli *cli, struct fc_identity *identity, struct err_detail *why)
{
    bool is_test = cli_options_has(&cli->options, CLI_OPTION_TEST);
    struct bytes key = {0};
    enum err code = cli_password_read_recovery_key(&key, why);
    if (code == ERR_OK) {
        code = fc_identity_recover(identity, (const char *)key.data, is_test, why);
    }
    bytes_free_secret(&key);
    if (code != ERR_OK) {
        return code;
    }
    return print_line(cli, identity, is_test ? "The recovery key is right." : "This computer has your keys now.", "",
        why);
}

static enum err
prove(struct cli *cli, struct err_detail *why)
{
    struct bytes password = {0};
    enum err code = cli_password_read(cli_options_has(&cli->options, CLI_OPTION_PASSWORD_STDIN), false, &password, why);
    if (code == ERR_OK) {
        code = fc_session_prove(cli->session, bytes_as_view(&password), why);
    }
    bytes_free_secret(&password);
    return code;
}

static enum err
reset(struct cli *cli, struct fc_identity *identity, struct err_detail *why)
{
    struct fc_identity_outcome outcome = {0};
    bool is_offline = false;
    enum err code = cli_identity_is_offline(cli, &is_offline, why);
    if (code == ERR_OK) {
        code = cli_confirm(cli,
            "This makes new keys. All your devices end, what was encrypted for you before stays closed for\n"
            "good, and those who talk to you are warned.",
            fc_identity_user_name(identity), why);
    }
    if (code == ERR_OK && !is_offline) {
        code = prove(cli, why);
    }
    if (code == ERR_OK) {
        code = fc_identity_reset(identity, is_offline, &outcome, why);
    }
    if (code == ERR_OK) {
        code = print_line(cli, identity,
            "You have new keys. Older encrypted messages stay closed, and others are told of the change.",
            outcome.recovery_text, why);
    }
    digest_wipe(&outcome, sizeof outcome);
    return code;
}

static enum err
run_recover(struct cli *cli, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    bool is_reset = cli_options_has(&cli->options, CLI_OPTION_RESET);
    if (is_reset && cli_options_has(&cli->options, CLI_OPTION_TEST)) {
        return err_fail(why, ERR_INVALID, "--test and --reset do not go together");
    }
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK) {
        code = is_reset ? reset(cli, identity, why) : recover(cli, identity, why);
    }
    fc_identity_close(&identity);
    return code;
}

const struct cli_command cmd_recover = {
    .name = "recover",
    .synopsis = "[--test | --reset [--recovery offline] [--yes]]",
    .summary = "bring your keys here with the recovery key",
    .details = "Asks for the recovery key on the terminal, or reads it from standard input. Any\n"
               "case will do, with dashes or without. --test only says whether it is right.\n"
               "\n"
               "--reset is for when the recovery key and all devices are lost: it makes new\n"
               "keys. Older encrypted messages stay closed, and others are warned. It asks for\n"
               "the password, and for the user name as a confirmation, which --yes gives.\n",
    .options = CLI_ALLOWS(CLI_OPTION_TEST) | CLI_ALLOWS(CLI_OPTION_RESET) | CLI_ALLOWS(CLI_OPTION_RECOVERY) |
               CLI_ALLOWS(CLI_OPTION_PASSWORD_STDIN) | CLI_ALLOWS(CLI_OPTION_YES),
    .run = run_recover,
};
