// fc upload.
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "client/fc_chat_file.h"

static enum err
upload_one(struct cli *cli, const char *path, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    const char *room = options->values[CLI_OPTION_ROOM];
    const char *name = options->values[CLI_OPTION_NAME];
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};
    cli_progress_begin(&progress, path, &transfer);
    enum err code = room != NULL ? fc_chat_upload(cli->chat, room, path, name, &transfer, &file, why)
                                 : fc_file_upload(cli->session, path, name, NULL, &transfer, &file, why);
    cli_progress_end(&progress);
    if (code != ERR_OK) {
        return code;
    }
    return cli_options_has(options, CLI_OPTION_JSON) ? cli_file_print_json(&file, why)
                                                     : cli_file_print_md5(&file, file.name, why);
}

static enum err
run_upload(struct cli *cli, struct err_detail *why)
{
    if (cli_options_has(&cli->options, CLI_OPTION_NAME) && cli->argument_count > 1) {
        return err_fail(why, ERR_INVALID, "--name is for one file, and there are %zu", cli->argument_count);
    }
    bool is_for_room = cli_options_has(&cli->options, CLI_OPTION_ROOM);
    enum err code = is_for_room ? cli_chat_open(cli, why) : cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    for (size_t i = 0; i < cli->argument_count && code == ERR_OK; i++) {
        code = upload_one(cli, cli->arguments[i], why);
    }
    return code;
}

const struct cli_command cmd_upload = {
    .name = "upload",
    .synopsis = "FILE... [--name NAME] [--room ROOM]",
    .summary = "send files to the server",
    .details = "Prints the MD5 and the name of each, as md5sum would: the server computed the\n"
               "MD5 from what it stored, and it has been compared. Ends with the first file that\n"
               "fails. Ctrl-C leaves nothing of an unfinished one behind.\n"
               "\n"
               "With --room the files are announced there. In an encrypted room the server gets\n"
               "neither their content nor their names; the MD5 is that of the file itself.\n",
    .options = CLI_ALLOWS(CLI_OPTION_NAME) | CLI_ALLOWS(CLI_OPTION_ROOM),
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .argument = CLI_ARGUMENT_PATH,
    .run = run_upload,
};
