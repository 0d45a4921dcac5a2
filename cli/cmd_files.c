// fc find, mv, rm, restore, share and du.
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "cli/cli_command.h"
#include "cli/cli_message.h"
#include "client/fc_file.h"
#include "client/fc_tree.h"

enum {
    NAME_MAX_BYTES = 2048, // longer than any that the server takes
    ID_HEX_BYTES = 33,
};

static enum err
print_name(const char *room, const char *name, struct err_detail *why)
{
    struct cli_text text = {0};
    if (room[0] != '\0') {
        cli_text_add_printable(&text, room);
        cli_text_add(&text, "/");
    }
    cli_text_add_printable(&text, name);
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

// --- find

struct finding {
    const char *pattern;
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_found(void *context, const struct fc_file *file)
{
    struct finding *finding = context;
    if (fnmatch(finding->pattern, file->name, 0) != 0 &&
        fnmatch(finding->pattern, text_last_component(file->name), 0) != 0) {
        return true;
    }
    finding->code =
        finding->is_json ? cli_file_print_json(file, finding->why) : print_name(file->room, file->name, finding->why);
    return finding->code == ERR_OK;
}

static enum err
run_find(struct cli *cli, struct err_detail *why)
{
    struct finding finding = {
        .pattern = cli->arguments[0],
        .is_json = cli_options_has(&cli->options, CLI_OPTION_JSON),
        .why = why,
    };
    const struct fc_file_query query = {.room = cli->options.values[CLI_OPTION_ROOM]};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_file_query_each(cli->session, &query, on_found, &finding, why);
    }
    return finding.code != ERR_OK ? finding.code : code;
}

const struct cli_command cmd_find = {
    .name = "find",
    .synopsis = "PATTERN [--room ROOM]",
    .summary = "list the files whose names match a pattern",
    .details = "PATTERN is as in the shell, such as '*.pdf', and matches the whole name or what\n"
               "follows its last slash. * also matches slashes.\n",
    .options = CLI_ALLOWS(CLI_OPTION_ROOM),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_find,
};

// --- mv

static enum err
run_mv(struct cli *cli, struct err_detail *why)
{
    const char *to = cli->arguments[1];
    size_t size = strlen(to);
    char name[NAME_MAX_BYTES];
    struct fc_file file = {0};
    if (size > 0 && to[size - 1] == '/') {
        if (snprintf(name, sizeof name, "%s%s", to, text_last_component(cli->arguments[0])) >= (int)sizeof name) {
            return err_fail(why, ERR_INVALID, "the name is too long");
        }
        to = name;
    }
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_file_rename(cli->session, cli->arguments[0], to, &file, why);
    }
    if (code == ERR_OK && cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        code = cli_file_print_json(&file, why);
    }
    return code;
}

const struct cli_command cmd_mv = {
    .name = "mv",
    .synopsis = "FILE NAME|FOLDER/",
    .summary = "give a file and all its versions another name",
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_mv,
};

// --- rm

// remove_below removes all files whose names begin with name and a slash.
static enum err
remove_below(struct cli *cli, const char *name, struct err_detail *why)
{
    struct fc_remote_list remotes = {0};
    char prefix[NAME_MAX_BYTES];
    size_t size = strlen(name);
    while (size > 0 && name[size - 1] == '/') {
        size--;
    }
    if (size == 0 || snprintf(prefix, sizeof prefix, "%.*s/", (int)size, name) >= (int)sizeof prefix) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not a name that files can be below", name);
    }
    enum err code = fc_remote_list_fill(&remotes, cli->session, prefix, NULL, why);
    if (code == ERR_OK && remotes.count == 0) {
        code = err_fail(why, ERR_NOT_FOUND, "you have no files below \"%s\"", name);
    }
    for (size_t i = 0; i < remotes.count && code == ERR_OK; i++) {
        code = cli_options_has(&cli->options, CLI_OPTION_DRY_RUN)
                   ? print_name("", remotes.files[i].name, why)
                   : fc_file_remove(cli->session, remotes.files[i].name, 0, why);
    }
    fc_remote_list_free(&remotes);
    return code;
}

static enum err
remove_one(struct cli *cli, const char *name, struct err_detail *why)
{
    struct fc_file file = {0};
    bool is_dry = cli_options_has(&cli->options, CLI_OPTION_DRY_RUN);
    enum err code = is_dry ? fc_file_stat(cli->session, name, &file, why) : fc_file_remove(cli->session, name, 0, why);
    if (code == ERR_NOT_FOUND && cli_options_has(&cli->options, CLI_OPTION_RECURSIVE)) {
        return remove_below(cli, name, why);
    }
    return code == ERR_OK && is_dry ? print_name("", file.name, why) : code;
}

static enum err
run_rm(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    for (size_t i = 0; i < cli->argument_count && code == ERR_OK; i++) {
        code = remove_one(cli, cli->arguments[i], why);
    }
    return code;
}

const struct cli_command cmd_rm = {
    .name = "rm",
    .synopsis = "FILE... [-r] [--dry-run]",
    .summary = "delete files, with all their versions",
    .details = "For some days fc restore brings them back, as fc ls --deleted shows. With -r\n"
               "FILE may also be a folder: then all files below it go.\n",
    .options = CLI_ALLOWS(CLI_OPTION_RECURSIVE) | CLI_ALLOWS(CLI_OPTION_DRY_RUN),
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_rm,
};

// --- restore

static enum err
run_restore(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    for (size_t i = 0; i < cli->argument_count && code == ERR_OK; i++) {
        struct fc_file file = {0};
        code = fc_file_restore(cli->session, cli->arguments[i], &file, why);
        if (code == ERR_OK) {
            code = cli_options_has(&cli->options, CLI_OPTION_JSON) ? cli_file_print_json(&file, why)
                                                                   : cli_file_print_md5(&file, file.name, why);
        }
    }
    return code;
}

const struct cli_command cmd_restore = {
    .name = "restore",
    .synopsis = "FILE...",
    .summary = "bring back what was deleted",
    .details = "FILE is a name, which means the newest that was deleted, or an id out of\n"
               "fc ls --deleted.\n",
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_restore,
};

// --- share

static enum err
run_share(struct cli *cli, struct err_detail *why)
{
    bool is_undone = cli_options_has(&cli->options, CLI_OPTION_UNDO);
    enum err code = cli_session_open(cli, true, why);
    for (size_t i = 1; i < cli->argument_count && code == ERR_OK; i++) {
        const char *with = cli->arguments[i];
        bool is_user = with[0] == '@';
        code = fc_file_share(cli->session, cli->arguments[0], is_user ? NULL : with, is_user ? with + 1 : NULL,
            is_undone, why);
    }
    return code;
}

const struct cli_command cmd_share = {
    .name = "share",
    .synopsis = "FILE @USER|ROOM... [--undo]",
    .summary = "let users, or the members of rooms, read a file",
    .details = "They can read all versions of the name, now and later, until --undo.\n",
    .options = CLI_ALLOWS(CLI_OPTION_UNDO),
    .arguments_min = 2,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_share,
};

// --- du

static enum err
run_du(struct cli *cli, struct err_detail *why)
{
    struct fc_usage usage = {0};
    struct cli_text text = {0};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_file_usage(cli->session, cli->options.values[CLI_OPTION_ROOM], &usage, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_u64(&text, "used", usage.used_bytes);
        cli_json_u64(&text, "files", usage.file_count);
        if (usage.quota_bytes != 0) {
            cli_json_u64(&text, "quota", usage.quota_bytes);
        }
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%" PRIu64 " bytes in %" PRIu64 " files", usage.used_bytes, usage.file_count);
        if (usage.quota_bytes != 0) {
            cli_text_add(&text, ", of at most %" PRIu64 " bytes", usage.quota_bytes);
        }
        cli_text_add(&text, "\n");
    }
    return cli_text_print(&text, why);
}

const struct cli_command cmd_du = {
    .name = "du",
    .synopsis = "[--room ROOM]",
    .summary = "show how much you store, or a room, and may store",
    .options = CLI_ALLOWS(CLI_OPTION_ROOM),
    .run = run_du,
};
