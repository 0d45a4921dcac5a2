// fc download.
#include <string.h>
#include <unistd.h>

#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "client/fc_chat_file.h"

enum {
    ROOM_BYTES = 66, // a room, or "@USER"
};

// last_component is what fc_file_download names the file by itself.
static const char *
last_component(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash != NULL ? slash + 1 : name;
}

// find_room tells whether a name is that of a file in an encrypted room, whose members alone know its name: ROOM/NAME.
// Other names are the server's to find.
static enum err
find_room(struct cli *cli, const char *name, char room_out[ROOM_BYTES], bool *is_encrypted_out, struct err_detail *why)
{
    const char *slash = strchr(name, '/');
    *is_encrypted_out = false;
    if (slash == NULL || slash == name || slash - name >= ROOM_BYTES) {
        return ERR_OK;
    }
    memcpy(room_out, name, (size_t)(slash - name));
    room_out[slash - name] = '\0';
    enum err code = fc_chat_is_encrypted(cli->chat, room_out, is_encrypted_out, why);
    // It may be the beginning of a name that has nothing to do with rooms.
    return code == ERR_NOT_FOUND || code == ERR_INVALID ? ERR_OK : code;
}

// fetch moves one file, to a path or, with "-", to standard output.
static enum err
fetch(struct cli *cli, const char *path, bool is_forced, const struct fc_transfer_options *transfer,
    struct fc_file *out, struct err_detail *why)
{
    const char *name = cli->arguments[0];
    char room[ROOM_BYTES];
    bool is_stdout = path != NULL && strcmp(path, "-") == 0;
    bool is_replacing = path != NULL || is_forced;
    bool is_encrypted = false;
    enum err code = find_room(cli, name, room, &is_encrypted, why);
    if (code == ERR_OK && is_encrypted) {
        const char *rest = name + strlen(room) + 1;
        return is_stdout ? fc_chat_download_to(cli->chat, room, rest, STDOUT_FILENO, transfer, out, why)
                         : fc_chat_download(cli->chat, room, rest, path, is_replacing, transfer, out, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    return is_stdout ? fc_file_download_to(cli->session, name, STDOUT_FILENO, transfer, out, why)
                     : fc_file_download(cli->session, name, path, is_replacing, transfer, out, why);
}

static enum err
download(struct cli *cli, const char *path, bool is_forced, struct err_detail *why)
{
    const char *name = cli->arguments[0];
    bool is_stdout = path != NULL && strcmp(path, "-") == 0;
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};
    cli_progress_begin(&progress, last_component(name), &transfer);
    enum err code = fetch(cli, path, is_forced, &transfer, &file, why);
    cli_progress_end(&progress);
    if (is_stdout && (code == ERR_IO || code == ERR_CLOSED)) {
        cli_output_check_reader();
    }
    if (code == ERR_EXISTS) {
        return err_fail(why, code, "there is a file \"%s\" here already; -o PATH writes elsewhere, --force replaces it",
            file.name[0] != '\0' ? last_component(file.name) : last_component(name));
    }
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON) && !is_stdout) {
        return cli_file_print_json(&file, why);
    }
    return is_stdout ? ERR_OK : cli_file_print_md5(&file, path != NULL ? path : last_component(file.name), why);
}

static enum err
run_download(struct cli *cli, struct err_detail *why)
{
    const char *path = cli->options.values[CLI_OPTION_OUTPUT];
    bool is_forced = cli_options_has(&cli->options, CLI_OPTION_FORCE);
    if (path != NULL && strcmp(path, "-") == 0 && isatty(STDOUT_FILENO) && !is_forced) {
        return err_fail(why, ERR_INVALID,
            "a file may hold anything, and a terminal obeys some of it; pipe it on, or "
            "insist with --force");
    }
    bool may_be_in_room = strchr(cli->arguments[0], '/') != NULL;
    enum err code = may_be_in_room ? cli_chat_open(cli, why) : cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    return code == ERR_OK ? download(cli, path, is_forced, why) : code;
}

const struct cli_command cmd_download = {
    .name = "download",
    .synopsis = "FILE [-o PATH|-] [--force]",
    .summary = "get a file from the server",
    .details = "FILE is a name, ROOM/NAME, or an id. Without -o it goes to the current folder\n"
               "under its own name, unless there is one already; -o PATH replaces what is at\n"
               "PATH, in one step and only when all of it has arrived and been checked. Prints\n"
               "the MD5 and the path, as md5sum would; nothing with -o -.\n",
    .options = CLI_ALLOWS(CLI_OPTION_OUTPUT) | CLI_ALLOWS(CLI_OPTION_FORCE),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_download,
};
