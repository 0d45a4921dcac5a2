// fc upload.
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "cli/cli_upload.h"
#include "client/fc_chat_file.h"

enum {
    KEPT_MIN_BYTES = 256 * 1024, // smaller ones are one chunk
};

enum err
cli_upload_print(const struct cli *cli, const struct fc_file *file, struct err_detail *why)
{
    return cli_options_has(&cli->options, CLI_OPTION_JSON) ? cli_file_print_json(file, why)
                                                           : cli_file_print_md5(file, file->name, why);
}

enum err
cli_upload_print_plan(const struct cli *cli, const char *name, uint64_t size_bytes, struct err_detail *why)
{
    struct cli_text text = {0};

    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "name", name);
        cli_json_u64(&text, "size", size_bytes);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%14llu  ", (unsigned long long)size_bytes);
        cli_text_add_printable(&text, name);
        cli_text_add(&text, "\n");
    }
    return cli_text_print(&text, why);
}

// explain adds to a failure that passes how to go on, when there is something to go on with.
static enum err
explain(enum err code, const struct fc_upload *what, struct err_detail *why)
{
    struct err_detail cause = *why;
    struct stat status;

    if ((code != ERR_UNAVAILABLE && code != ERR_CLOSED && code != ERR_TIMEOUT) || what->has_fd ||
        stat(what->path, &status) != 0 || status.st_size <= KEPT_MIN_BYTES) {
        return code;
    }
    return err_fail(why, code, "%.300s; the same command goes on with what has not arrived", err_message(&cause, code));
}

enum err
cli_upload_send(struct cli *cli, const struct fc_upload *what, struct fc_rate *rate, struct err_detail *why)
{
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};

    cli_progress_begin(&progress, what->path, &transfer);
    transfer.rate = rate;
    enum err code = cli_progress_patience(&cli->options, &transfer, why);
    if (code == ERR_OK) {
        code = cli_progress_follow(&progress, cli->command->name, &cli->options, &transfer, why);
    }
    if (code == ERR_OK) {
        code = what->room != NULL ? fc_chat_upload(cli->chat, what->room, what->path, what->name, &transfer, &file, why)
                                  : fc_file_send(cli->session, what, &transfer, &file, why);
    }
    cli_progress_end(&progress);
    return code == ERR_OK ? cli_upload_print(cli, &file, why) : explain(code, what, why);
}

// plan_file tells what would be sent.
static enum err
plan_file(struct cli *cli, const struct fc_upload *what, struct err_detail *why)
{
    const char *name = what->name;
    struct stat status;

    if (name == NULL) {
        name = text_last_component(what->path);
    }
    if (what->has_fd) {
        return cli_upload_print_plan(cli, name, 0, why);
    }
    if (stat(what->path, &status) != 0) {
        return err_fail(why, ERR_NOT_FOUND, "there is no file \"%s\"", what->path);
    }
    if (!S_ISREG(status.st_mode)) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not a regular file", what->path);
    }
    return cli_upload_print_plan(cli, name, (uint64_t)status.st_size, why);
}

static enum err
upload_one(struct cli *cli, const char *path, struct fc_rate *rate, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    struct fc_upload what = {
        .path = path,
        .name = options->values[CLI_OPTION_NAME],
        .room = options->values[CLI_OPTION_ROOM],
        .has_fd = strcmp(path, "-") == 0,
        .fd = STDIN_FILENO,
    };
    struct stat status;

    if (what.has_fd && (what.name == NULL || what.room != NULL)) {
        return err_fail(why, ERR_INVALID,
            what.name == NULL ? "standard input has no name: say --name NAME"
                              : "for a room it must be a file, not standard input");
    }
    if (cli_options_has(options, CLI_OPTION_RECURSIVE) && !what.has_fd && stat(path, &status) == 0 &&
        S_ISDIR(status.st_mode)) {
        return cli_upload_folder(cli, path, rate, why);
    }
    return cli_options_has(options, CLI_OPTION_DRY_RUN) ? plan_file(cli, &what, why)
                                                        : cli_upload_send(cli, &what, rate, why);
}

static enum err
run_upload(struct cli *cli, struct err_detail *why)
{
    struct fc_rate rate = {0};
    bool is_for_room = cli_options_has(&cli->options, CLI_OPTION_ROOM);
    bool is_resuming = cli_options_has(&cli->options, CLI_OPTION_RESUME);

    if (cli_options_has(&cli->options, CLI_OPTION_NAME) && cli->argument_count > 1 && !is_resuming) {
        return err_fail(why, ERR_INVALID, "--name is for one file, and there are %zu", cli->argument_count);
    }
    if (cli->argument_count == 0 && !is_resuming) {
        return err_fail(why, ERR_INVALID, "something is missing; usage: fc upload %s", cmd_upload.synopsis);
    }
    if (cli_options_has(&cli->options, CLI_OPTION_KEEP_METADATA) && !is_for_room) {
        return err_fail(why, ERR_INVALID, "--keep-metadata goes with --room: other files are sent as they are");
    }
    if (is_resuming && is_for_room) {
        return err_fail(why, ERR_INVALID, "an upload to a room goes on when its own command is given again");
    }
    enum err code = cli_options_rate(&cli->options, &rate.bytes_per_s, why);
    if (code == ERR_OK) {
        code = is_for_room ? cli_chat_open(cli, why) : cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    if (code == ERR_OK && is_resuming) {
        return cli_upload_resume(cli, &rate, why);
    }
    for (size_t i = 0; i < cli->argument_count && code == ERR_OK; i++) {
        code = upload_one(cli, cli->arguments[i], &rate, why);
    }
    return code;
}

const struct cli_command cmd_upload = {
    .name = "upload",
    .synopsis = "FILE|FOLDER|-... [--name NAME] [--room ROOM]",
    .summary = "send files to the server",
    .details = "Prints the MD5 and the name of each, as md5sum would: the server computed the\n"
               "MD5 from what it stored, and it has been compared. Ends with the first file that\n"
               "fails. - is standard input, which needs --name. What the server has already\n"
               "under another name is not sent again. Ctrl-C leaves nothing of an unfinished\n"
               "file behind; but after a lost connection or the end of fc without warning the\n"
               "same command goes on with what has not arrived.\n"
               "When the server is gone meanwhile, or its disk is full, fc says so, waits, for\n"
               "ever unless --timeout says how many seconds, and goes on by itself.\n"
               "\n"
               "With --resume all unfinished files of this machine go on; --resume ID is one of\n"
               "them, --resume ID FILE one that was begun on another machine. --resume --dry-run\n"
               "lists them, those of other machines with - for their path.\n"
               "\n"
               "With -r a folder is sent with all that is in it, as FOLDER/PATH or NAME/PATH.\n"
               "Files whose size and time are those on the server are not sent again; symbolic\n"
               "links are left out with a note.\n"
               "\n"
               "With --room the files are announced there. In an encrypted room the server gets\n"
               "neither their content nor their names; the MD5 is that of the file itself.\n"
               "JPEG pictures are sent without what they say of place, camera and people, unless\n"
               "--keep-metadata is given; the MD5 is then that of what was sent.\n",
    .options = CLI_ALLOWS(CLI_OPTION_NAME) | CLI_ALLOWS(CLI_OPTION_ROOM) | CLI_ALLOWS(CLI_OPTION_RESUME) |
               CLI_ALLOWS(CLI_OPTION_RECURSIVE) | CLI_ALLOWS(CLI_OPTION_DRY_RUN) | CLI_ALLOWS(CLI_OPTION_LIMIT_RATE) |
               CLI_ALLOWS(CLI_OPTION_TIMEOUT) | CLI_ALLOWS(CLI_OPTION_KEEP_METADATA),
    .arguments_max = CLI_ARGUMENTS_ANY,
    .argument = CLI_ARGUMENT_PATH,
    .run = run_upload,
};
