// fc upload.
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "client/fc_room.h"

static enum err
upload_one(struct cli *cli, const char *path, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    const char *room = options->values[CLI_OPTION_ROOM];
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};
    cli_progress_begin(&progress, path, &transfer);
    enum err code = fc_file_upload(cli->session, path, options->values[CLI_OPTION_NAME], room, &transfer, &file, why);
    cli_progress_end(&progress);
    if (code != ERR_OK) {
        return code;
    }
    if (room != NULL) {
        struct fc_sent sent;
        struct err_detail cause = {0};
        code = fc_room_send(cli->session, room, bytes_view_of_text(""), file.id, &sent, &cause);
        if (code != ERR_OK) {
            return err_fail(why, code, "\"%s\" is uploaded, but not announced in the room: %s", file.name,
                err_message(&cause, code));
        }
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
    enum err code = cli_session_open(cli, true, why);
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
               "fails. Ctrl-C leaves nothing of an unfinished one behind.\n",
    .options = CLI_ALLOWS(CLI_OPTION_NAME) | CLI_ALLOWS(CLI_OPTION_ROOM),
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .argument = CLI_ARGUMENT_PATH,
    .run = run_upload,
};
