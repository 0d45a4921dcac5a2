// fc upload.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "cli/cli_upload.h"
#include "client/fc_chat_file.h"

enum {
    ID_BYTES = 16,
    ID_HEX_BYTES = 33,
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

static enum err
send_file(struct cli *cli, const struct fc_upload *what, struct fc_rate *rate, struct err_detail *why)
{
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};

    cli_progress_begin(&progress, what->path, &transfer);
    transfer.rate = rate;
    enum err code = what->room != NULL
                        ? fc_chat_upload(cli->chat, what->room, what->path, what->name, &transfer, &file, why)
                        : fc_file_send(cli->session, what, &transfer, &file, why);
    cli_progress_end(&progress);
    return code == ERR_OK ? cli_upload_print(cli, &file, why) : explain(code, what, why);
}

// plan_file tells what would be sent.
static enum err
plan_file(struct cli *cli, const struct fc_upload *what, struct err_detail *why)
{
    const char *slash = strrchr(what->path, '/');
    const char *name = what->name;
    struct stat status;

    if (name == NULL) {
        name = slash != NULL ? slash + 1 : what->path;
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
    return cli_options_has(options, CLI_OPTION_DRY_RUN) ? plan_file(cli, &what, why) : send_file(cli, &what, rate, why);
}

// --- Going on -------------------------------------------------------------------------------------------------------

struct kept_upload {
    char id[ID_HEX_BYTES];
    char *path;
    char *name;
    char *room;
    uint64_t size_bytes;
};

struct kept_list {
    struct kept_upload *uploads;
    size_t count;
    const char *only_id; // NULL: all
    enum err err;
};

static bool
keep_one(void *context, const struct fc_unfinished *unfinished)
{
    struct kept_list *list = context;
    char id[ID_HEX_BYTES];

    bytes_to_hex(bytes_view_of(unfinished->request_id, sizeof unfinished->request_id), id);
    if (list->only_id != NULL && strcmp(list->only_id, id) != 0) {
        return true;
    }
    struct kept_upload *grown = realloc(list->uploads, (list->count + 1) * sizeof *grown);
    if (grown == NULL) {
        list->err = ERR_NO_MEMORY;
        return false;
    }
    list->uploads = grown;
    struct kept_upload *kept = &grown[list->count++];
    memcpy(kept->id, id, sizeof id);
    kept->path = strdup(unfinished->path);
    kept->name = strdup(unfinished->name);
    kept->room = strdup(unfinished->room);
    kept->size_bytes = unfinished->size_bytes;
    if (kept->path == NULL || kept->name == NULL || kept->room == NULL) {
        list->err = ERR_NO_MEMORY;
    }
    return list->err == ERR_OK;
}

static void
free_kept(struct kept_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->uploads[i].path);
        free(list->uploads[i].name);
        free(list->uploads[i].room);
    }
    free(list->uploads);
}

static enum err
print_kept(const struct kept_upload *kept, struct err_detail *why)
{
    struct cli_text text = {0};

    cli_text_add(&text, "%s  %14llu  ", kept->id, (unsigned long long)kept->size_bytes);
    cli_text_add_printable(&text, kept->name);
    cli_text_add(&text, "  ");
    cli_text_add_printable(&text, kept->path);
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

// resume_kept goes on with what this machine remembers. Sealed files belong to a command with --room, which knows what
// to announce.
static enum err
resume_kept(struct cli *cli, const char *id, struct fc_rate *rate, struct err_detail *why)
{
    struct kept_list list = {.only_id = id};

    enum err code = fc_file_each_unfinished(cli->session, keep_one, &list, why);
    if (code == ERR_OK) {
        code = list.err;
    }
    if (code == ERR_OK && id != NULL && list.count == 0) {
        code = err_fail(why, ERR_NOT_FOUND,
            "no upload %s was begun here; name its file, too, if it was begun on another machine", id);
    }
    for (size_t i = 0; i < list.count && code == ERR_OK; i++) {
        const struct kept_upload *kept = &list.uploads[i];
        const struct fc_upload what = {.path = kept->path, .name = kept->name};
        if (cli_options_has(&cli->options, CLI_OPTION_DRY_RUN)) {
            code = print_kept(kept, why);
        } else if (kept->room[0] == '\0') {
            code = send_file(cli, &what, rate, why);
        } else {
            struct cli_text note = {0};
            cli_text_add_printable(&note, kept->path);
            cli_output_error("fc upload: note: %.*s is for a room: give its own command again", (int)note.bytes.size,
                (const char *)note.bytes.data);
            bytes_free(&note.bytes);
        }
    }
    free_kept(&list);
    return code;
}

// resume goes on with all, with one, or with one that was begun on another machine: then its file is named.
static enum err
resume(struct cli *cli, struct fc_rate *rate, struct err_detail *why)
{
    uint8_t id[ID_BYTES];

    if (cli->argument_count == 0) {
        return resume_kept(cli, NULL, rate, why);
    }
    if (cli->argument_count > 2 || bytes_from_hex(cli->arguments[0], id, sizeof id) != ERR_OK) {
        return err_fail(why, ERR_INVALID, "usage: fc upload --resume [ID [FILE]]; a file by itself needs no --resume");
    }
    if (cli->argument_count == 1) {
        return resume_kept(cli, cli->arguments[0], rate, why);
    }
    const struct fc_upload what = {
        .path = cli->arguments[1],
        .name = cli->options.values[CLI_OPTION_NAME],
        .request_id = id,
    };
    return send_file(cli, &what, rate, why);
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
        return resume(cli, &rate, why);
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
               "\n"
               "With --resume all unfinished files of this machine go on; --resume ID is one of\n"
               "them, --resume ID FILE one that was begun on another machine, and --dry-run\n"
               "lists them.\n"
               "\n"
               "With -r a folder is sent with all that is in it, as FOLDER/PATH or NAME/PATH.\n"
               "Files whose size and time are those on the server are not sent again; symbolic\n"
               "links are left out with a note.\n"
               "\n"
               "With --room the files are announced there. In an encrypted room the server gets\n"
               "neither their content nor their names; the MD5 is that of the file itself.\n",
    .options = CLI_ALLOWS(CLI_OPTION_NAME) | CLI_ALLOWS(CLI_OPTION_ROOM) | CLI_ALLOWS(CLI_OPTION_RESUME) |
               CLI_ALLOWS(CLI_OPTION_RECURSIVE) | CLI_ALLOWS(CLI_OPTION_DRY_RUN) | CLI_ALLOWS(CLI_OPTION_LIMIT_RATE),
    .arguments_max = CLI_ARGUMENTS_ANY,
    .argument = CLI_ARGUMENT_PATH,
    .run = run_upload,
};
