// fc download.
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli_command.h"
#include "cli/cli_download.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_list.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "client/fc_chat_file.h"

enum {
    ROOM_BYTES = 66,      // a room, or "@USER"
    CONNECTIONS_MAX = 16, // the client's limit
};

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

// into_output writes a file to standard output.
static enum err
into_output(struct cli *cli, const char *name, const struct fc_transfer_options *transfer, struct fc_file *out,
    struct err_detail *why)
{
    char room[ROOM_BYTES];
    bool is_encrypted = false;
    enum err code = find_room(cli, name, room, &is_encrypted, why);
    if (code != ERR_OK) {
        return code;
    }
    code = is_encrypted
               ? fc_chat_download_to(cli->chat, room, name + strlen(room) + 1, STDOUT_FILENO, transfer, out, why)
               : fc_file_download_to(cli->session, name, STDOUT_FILENO, transfer, out, why);
    if (code == ERR_IO || code == ERR_CLOSED) {
        cli_output_check_reader();
    }
    return code;
}

static enum fc_download_policy
policy_of(const struct cli_options *options, const char *path)
{
    if (cli_options_has(options, CLI_OPTION_SKIP)) {
        return FC_DOWNLOAD_SKIP;
    }
    if (cli_options_has(options, CLI_OPTION_NEWER)) {
        return FC_DOWNLOAD_NEWER;
    }
    return path != NULL || cli_options_has(options, CLI_OPTION_FORCE) ? FC_DOWNLOAD_REPLACE : FC_DOWNLOAD_FAIL;
}

// into_file moves one file to a path; NULL: under its own name.
static enum err
into_file(struct cli *cli, const char *path, const struct fc_transfer_options *transfer, struct fc_file *out,
    bool *is_skipped_out, struct err_detail *why)
{
    const char *name = cli->arguments[0];
    char room[ROOM_BYTES];
    bool is_encrypted = false;
    const struct fc_download what = {
        .file = name,
        .path = path,
        .policy = policy_of(&cli->options, path),
        .is_without_times = cli_options_has(&cli->options, CLI_OPTION_NO_TIMES),
    };
    enum err code = find_room(cli, name, room, &is_encrypted, why);
    if (code != ERR_OK) {
        return code;
    }
    if (!is_encrypted) {
        return fc_file_fetch(cli->session, &what, transfer, out, is_skipped_out, why);
    }
    if (what.policy == FC_DOWNLOAD_NEWER) {
        return err_fail(why, ERR_INVALID, "nobody knows when a file of an encrypted room was changed: use --skip");
    }
    code = fc_chat_download(cli->chat, room, name + strlen(room) + 1, path, what.policy == FC_DOWNLOAD_REPLACE,
        transfer, out, why);
    *is_skipped_out = code == ERR_EXISTS && what.policy == FC_DOWNLOAD_SKIP;
    return *is_skipped_out ? ERR_OK : code;
}

static enum err
parse_balance(const char *name, enum fc_balance *out, struct err_detail *why)
{
    for (int i = 0; i < FC_BALANCE_COUNT; i++) {
        if (name != NULL && strcmp(name, fc_balance_name((enum fc_balance)i)) == 0) {
            *out = (enum fc_balance)i;
            return ERR_OK;
        }
    }
    return name == NULL
               ? ERR_OK
               : err_fail(why, ERR_INVALID,
                     "--balance is adaptive, round-robin, random, least-cpu, two-choices or mediator, not \"%s\"",
                     name);
}

enum err
cli_download_options(struct cli *cli, struct cli_list *from, struct cli_progress *progress,
    struct fc_transfer_options *transfer, struct err_detail *why)
{
    uint64_t connections = 0;
    enum err code = cli_list_add_option(from, &cli->options, CLI_OPTION_FROM, why);
    if (code == ERR_OK) {
        code = parse_balance(cli->options.values[CLI_OPTION_BALANCE], &transfer->balance, why);
    }
    if (code == ERR_OK) {
        code = cli_options_u64(&cli->options, CLI_OPTION_CONNECTIONS, 1, 0, &connections, why);
    }
    if (code == ERR_OK) {
        code = cli_progress_patience(&cli->options, transfer, why);
    }
    if (code == ERR_OK) {
        code = cli_progress_follow(progress, cli->command->name, &cli->options, transfer, why);
    }
    transfer->connections = connections < CONNECTIONS_MAX ? (unsigned)connections : CONNECTIONS_MAX;
    transfer->from = cli_list_view(from);
    transfer->from_count = from->count;
    return code;
}

static enum err
download(struct cli *cli, const char *path, struct fc_rate *rate, struct err_detail *why)
{
    struct cli_list from = {0};
    const char *name = cli->arguments[0];
    bool is_stdout = path != NULL && strcmp(path, "-") == 0;
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};
    bool is_skipped = false;
    cli_progress_begin(&progress, text_last_component(name), &transfer);
    transfer.rate = rate;
    enum err code = cli_download_options(cli, &from, &progress, &transfer, why);
    if (code == ERR_OK && is_stdout) {
        progress.is_json = false; // the output is the file
    }
    if (code == ERR_OK) {
        code = is_stdout ? into_output(cli, name, &transfer, &file, why)
                         : into_file(cli, path, &transfer, &file, &is_skipped, why);
    }
    cli_progress_end(&progress);
    cli_list_free(&from);
    if (code == ERR_OK) {
        cli_progress_sum_up(&progress);
    }
    if (code == ERR_EXISTS) {
        return err_fail(why, code, "there is a file \"%s\" here already; -o PATH writes elsewhere, --force replaces it",
            file.name[0] != '\0' ? text_last_component(file.name) : text_last_component(name));
    }
    if (code != ERR_OK || is_stdout || is_skipped) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        return cli_file_print_json(&file, why);
    }
    return cli_file_print_md5(&file, path != NULL ? path : text_last_component(file.name), why);
}

// refuse_terminal keeps files from driving a terminal.
static enum err
refuse_terminal(const struct cli *cli, struct err_detail *why)
{
    if (isatty(STDOUT_FILENO) && !cli_options_has(&cli->options, CLI_OPTION_FORCE)) {
        return err_fail(why, ERR_INVALID,
            "a file may hold anything, and a terminal obeys some of it; pipe it on, or "
            "insist with --force");
    }
    return ERR_OK;
}

static enum err
open_for(struct cli *cli, const char *name, struct err_detail *why)
{
    if (cli->session != NULL && (cli->chat != NULL || strchr(name, '/') == NULL)) {
        return ERR_OK;
    }
    // A name with a slash may be that of a file in an encrypted room.
    return strchr(name, '/') != NULL ? cli_chat_open(cli, why) : cli_session_open(cli, true, why);
}

static enum err
run_download(struct cli *cli, struct err_detail *why)
{
    const char *path = cli->options.values[CLI_OPTION_OUTPUT];
    bool is_recursive = cli_options_has(&cli->options, CLI_OPTION_RECURSIVE);
    bool is_stdout = path != NULL && strcmp(path, "-") == 0;
    struct fc_rate rate = {0};
    if (is_stdout && is_recursive) {
        return err_fail(why, ERR_INVALID, "several files do not fit into one stream: -o names a folder with -r");
    }
    if (!is_recursive && (cli->options.given & (CLI_ALLOWS(CLI_OPTION_ROOM) | CLI_ALLOWS(CLI_OPTION_DRY_RUN))) != 0) {
        return err_fail(why, ERR_INVALID, "--room and --dry-run are for -r");
    }
    enum err code = is_stdout ? refuse_terminal(cli, why) : ERR_OK;
    if (code == ERR_OK) {
        code = cli_options_rate(&cli->options, &rate.bytes_per_s, why);
    }
    if (code == ERR_OK) {
        code = is_recursive ? cli_session_open(cli, true, why) : open_for(cli, cli->arguments[0], why);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    if (code == ERR_OK && is_recursive) {
        return cli_download_folder(cli, cli->arguments[0], &rate, why);
    }
    return code == ERR_OK ? download(cli, path, &rate, why) : code;
}

static enum err
run_cat(struct cli *cli, struct err_detail *why)
{
    enum err code = refuse_terminal(cli, why);
    bool is_in_room = false;
    for (size_t i = 0; i < cli->argument_count; i++) {
        is_in_room = is_in_room || strchr(cli->arguments[i], '/') != NULL;
    }
    if (code == ERR_OK) {
        code = is_in_room ? cli_chat_open(cli, why) : cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    for (size_t i = 0; i < cli->argument_count && code == ERR_OK; i++) {
        struct cli_progress progress;
        struct fc_transfer_options transfer;
        struct fc_file file = {0};
        cli_progress_begin(&progress, text_last_component(cli->arguments[i]), &transfer);
        transfer.patience_s = FC_PATIENCE_ENDLESS;
        code = into_output(cli, cli->arguments[i], &transfer, &file, why);
        cli_progress_end(&progress);
    }
    return code;
}

const struct cli_command cmd_download = {
    .name = "download",
    .synopsis = "FILE [-o PATH|-] [--force|--skip|--newer]",
    .summary = "get a file from the server",
    .details = "FILE is a name, ROOM/NAME, @OWNER/NAME, or an id. Without -o it goes to the\n"
               "current folder under its own name, unless there is one already; -o PATH\n"
               "replaces what is at PATH, in one step and only when all of it has arrived and\n"
               "been checked. Prints the MD5 and the path, as md5sum would; nothing with -o -.\n"
               "\n"
               "After a lost connection or the end of fc without warning the same command goes\n"
               "on with what PATH.part holds. Time and permissions are those that the file was\n"
               "uploaded with, unless --no-times is given.\n"
               "\n"
               "The segments come from the server and from all mirrors and peers that it knows,\n"
               "each checked by its SHA-256; --from names servers instead. While none can be\n"
               "reached, or the disk is full, it says so and waits, for ever unless --timeout\n"
               "says how many seconds. -i S prints\n"
               "every S seconds what each of them gives. --balance is adaptive, round-robin,\n"
               "random, least-cpu, two-choices or mediator (the server chooses).\n"
               "\n"
               "With -r all files below the name FILE come into the folder PATH, or FILE without\n"
               "-o; with --room those of a room. Those whose size and time are the same are not\n"
               "fetched again.\n",
    .options = CLI_ALLOWS(CLI_OPTION_OUTPUT) | CLI_ALLOWS(CLI_OPTION_FORCE) | CLI_ALLOWS(CLI_OPTION_SKIP) |
               CLI_ALLOWS(CLI_OPTION_NEWER) | CLI_ALLOWS(CLI_OPTION_NO_TIMES) | CLI_ALLOWS(CLI_OPTION_LIMIT_RATE) |
               CLI_ALLOWS(CLI_OPTION_RECURSIVE) | CLI_ALLOWS(CLI_OPTION_DRY_RUN) | CLI_ALLOWS(CLI_OPTION_ROOM) |
               CLI_ALLOWS(CLI_OPTION_FROM) | CLI_ALLOWS(CLI_OPTION_CONNECTIONS) | CLI_ALLOWS(CLI_OPTION_BALANCE) |
               CLI_ALLOWS(CLI_OPTION_TIMEOUT) | CLI_ALLOWS(CLI_OPTION_INTERVAL) | CLI_ALLOWS(CLI_OPTION_VERBOSE),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_download,
};

const struct cli_command cmd_cat = {
    .name = "cat",
    .synopsis = "FILE...",
    .summary = "write files to standard output",
    .details = "FILE is a name, ROOM/NAME, @OWNER/NAME, or an id. A terminal gets it only with\n"
               "--force.\n",
    .options = CLI_ALLOWS(CLI_OPTION_FORCE),
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_cat,
};
