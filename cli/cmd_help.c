// fc help.
#include <stdio.h>

#include "cli/cli_command.h"
#include "cli/cli_output.h"

static void
add_options(struct cli_text *text, cli_option_set options)
{
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        const struct cli_option_row *row = &cli_option_rows[i];
        if ((options & CLI_ALLOWS(i)) == 0) {
            continue;
        }
        char form[48];
        (void)snprintf(form, sizeof form, "%c%c%s--%s%s%s", row->letter != 0 ? '-' : ' ',
            row->letter != 0 ? row->letter : ' ', row->letter != 0 ? ", " : "  ", row->name,
            row->value != NULL ? " " : "", row->value != NULL ? row->value : "");
        cli_text_add(text, "  %-24s  %s\n", form, row->summary);
    }
}

static void
add_everything(struct cli_text *text)
{
    cli_text_add(text, "usage: fc COMMAND [ARGUMENT...] [OPTION...]\n\n");
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        cli_text_add(text, "  %-18s%s\n", (*command)->name, (*command)->summary);
    }
    cli_text_add(text, "\noptions of every command:\n");
    add_options(text, CLI_ALLOWS_ALWAYS);
    cli_text_add(text, "\nFC_SERVER names the server, FC_TOKEN holds a login, and FC_CONFIG_DIR is the folder\n"
                       "of the stored logins. 'fc COMMAND --help' explains a command, and 'man fc' lists\n"
                       "the exit codes.\n");
}

static void
add_command(struct cli_text *text, const struct cli_command *command)
{
    cli_text_add(text, "usage: fc %s%s%s\n\n%s\n", command->name, command->synopsis[0] != '\0' ? " " : "",
        command->synopsis, command->summary);
    if (command->details != NULL) {
        cli_text_add(text, "\n%s", command->details);
    }
    cli_text_add(text, "\noptions:\n");
    add_options(text, command->options | CLI_ALLOWS_ALWAYS);
}

// run_help explains every command whose name begins with the words: "room" is two of them.
static enum err
run_help(struct cli *cli, struct err_detail *why)
{
    struct cli_text text = {0};
    bool is_found = cli->argument_count == 0;
    if (is_found) {
        add_everything(&text);
    }
    for (const struct cli_command *const *command = cli_commands; cli->argument_count > 0 && *command != NULL;
         command++) {
        if (cli_command_match(*command, cli->arguments, cli->argument_count) == cli->argument_count) {
            cli_text_add(&text, "%s", is_found ? "\n" : "");
            add_command(&text, *command);
            is_found = true;
        }
    }
    if (!is_found) {
        return err_fail(why, ERR_INVALID, "there is no command \"%s\"; 'fc help' lists them", cli->arguments[0]);
    }
    return cli_text_print(&text, why);
}

const struct cli_command cmd_help = {
    .name = "help",
    .synopsis = "[COMMAND]",
    .summary = "list the commands, or explain one",
    .arguments_max = 2,
    .argument = CLI_ARGUMENT_COMMAND,
    .run = run_help,
};
