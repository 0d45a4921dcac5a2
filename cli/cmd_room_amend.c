// fc room amend, room transfer.
#include <stdlib.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_list.h"

#define CHANGES                                                                                                        \
    (CLI_ALLOWS(CLI_OPTION_ADD) | CLI_ALLOWS(CLI_OPTION_REMOVE) | CLI_ALLOWS(CLI_OPTION_INVITE) |                      \
        CLI_ALLOWS(CLI_OPTION_ROLE) | CLI_ALLOWS(CLI_OPTION_TOPIC) | CLI_ALLOWS(CLI_OPTION_NAME) |                     \
        CLI_ALLOWS(CLI_OPTION_ARCHIVE) | CLI_ALLOWS(CLI_OPTION_REVIVE) | CLI_ALLOWS(CLI_OPTION_REKEY))

// What the amendment points into.
struct lists {
    struct cli_list add;
    struct cli_list remove;
    struct cli_list invite;
    struct cli_list roles; // "USER=ROLE", cut at the =
    struct fc_chat_role_change *changes;
};

static void
free_lists(struct lists *lists)
{
    cli_list_free(&lists->add);
    cli_list_free(&lists->remove);
    cli_list_free(&lists->invite);
    cli_list_free(&lists->roles);
    free(lists->changes);
}

static enum err
read_roles(const struct cli *cli, struct lists *lists, struct err_detail *why)
{
    enum err code = cli_list_add_option(&lists->roles, &cli->options, CLI_OPTION_ROLE, why);
    if (code != ERR_OK || lists->roles.count == 0) {
        return code;
    }
    lists->changes = calloc(lists->roles.count, sizeof(*lists->changes));
    if (lists->changes == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < lists->roles.count && code == ERR_OK; i++) {
        char *name = lists->roles.names[i];
        char *equals = strchr(name, '=');
        if (equals == NULL || equals == name) {
            return err_fail(why, ERR_INVALID, "--role needs USER=ROLE here, not \"%s\"", name);
        }
        *equals = '\0';
        lists->changes[i].user_name = name;
        code = cli_role_parse(equals + 1, &lists->changes[i].role, why);
    }
    return code;
}

static enum err
read_lists(const struct cli *cli, struct lists *lists, struct err_detail *why)
{
    enum err code = cli_list_add_option(&lists->add, &cli->options, CLI_OPTION_ADD, why);
    if (code == ERR_OK) {
        code = cli_list_add_option(&lists->remove, &cli->options, CLI_OPTION_REMOVE, why);
    }
    if (code == ERR_OK) {
        code = cli_list_add_option(&lists->invite, &cli->options, CLI_OPTION_INVITE, why);
    }
    return code == ERR_OK ? read_roles(cli, lists, why) : code;
}

static enum err
run_amend(struct cli *cli, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    struct lists lists = {0};
    if ((options->given & CHANGES) == 0) {
        return err_fail(why, ERR_INVALID, "what is to change? See 'fc help room amend'");
    }
    if (cli_options_has(options, CLI_OPTION_ARCHIVE) && cli_options_has(options, CLI_OPTION_REVIVE)) {
        return err_fail(why, ERR_INVALID, "--archive and --revive exclude each other");
    }
    enum err code = read_lists(cli, &lists, why);
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK) {
        const struct fc_chat_amendment amendment = {
            .add = cli_list_view(&lists.add),
            .add_count = lists.add.count,
            .remove = cli_list_view(&lists.remove),
            .remove_count = lists.remove.count,
            .invite = cli_list_view(&lists.invite),
            .invite_count = lists.invite.count,
            .roles = lists.changes,
            .role_count = lists.roles.count,
            .name = options->values[CLI_OPTION_NAME],
            .topic = options->values[CLI_OPTION_TOPIC],
            .archive = cli_options_has(options, CLI_OPTION_ARCHIVE),
            .revive = cli_options_has(options, CLI_OPTION_REVIVE),
            .rekey = cli_options_has(options, CLI_OPTION_REKEY),
        };
        code = fc_chat_amend(cli->chat, cli->arguments[0], &amendment, why);
    }
    free_lists(&lists);
    return code;
}

static enum err
run_transfer(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK && strcmp(cli->arguments[1], cli->credential.user_name) == 0) {
        return err_fail(why, ERR_INVALID, "the room is to be somebody else's, not your own");
    }
    if (code != ERR_OK) {
        return code;
    }
    const struct fc_chat_role_change roles[] = {
        {.user_name = cli->arguments[1], .role = FC_ROLE_OWNER},
        {.user_name = cli->credential.user_name, .role = FC_ROLE_ADMIN},
    };
    const struct fc_chat_amendment amendment = {.roles = roles, .role_count = sizeof roles / sizeof roles[0]};
    return fc_chat_amend(cli->chat, cli->arguments[0], &amendment, why);
}

const struct cli_command cmd_room_amend = {
    .name = "room amend",
    .synopsis = "ROOM [--add USER,...] [--remove USER,...] [...]",
    .summary = "change a room and who is in it",
    .details = "All that is asked for happens in one step, or nothing does. Lists may be given\n"
               "several times: --role alice=admin,bob=member --role carol=owner.\n"
               "\n"
               "Those who are removed from an encrypted room cannot read what is sent\n"
               "afterwards: the others take new keys. --rekey does that without a reason.\n",
    .options = CHANGES,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_amend,
};

const struct cli_command cmd_room_transfer = {
    .name = "room transfer",
    .synopsis = "ROOM USER",
    .summary = "make a member the owner of your room, and yourself an admin",
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_transfer,
};
