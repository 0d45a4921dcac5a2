// fc ls and fc stat.
#include <inttypes.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_message.h"
#include "client/fc_file.h"

struct listing {
    const struct cli_options *options;
    const char *user_name; // empty: not known
    enum err code;         // of printing
    struct err_detail *why;
};

static void
add_mode(struct cli_text *text, uint32_t mode)
{
    static const char letters[] = "rwxrwxrwx";
    char shown[sizeof letters] = "---------";

    for (unsigned i = 0; i < sizeof letters - 1; i++) {
        if ((mode >> (sizeof letters - 2 - i) & 1) != 0) {
            shown[i] = letters[i];
        }
    }
    cli_text_add(text, "%s  ", mode != 0 ? shown : "?        ");
}

static enum err
print_row(const struct fc_file *file, const struct cli_options *options, const char *user_name, struct err_detail *why)
{
    struct cli_text text = {0};
    bool is_long = cli_options_has(options, CLI_OPTION_LONG);
    int64_t time_ms = file->created_unix_ms;
    if (is_long) {
        add_mode(&text, file->mode);
        time_ms = file->modified_unix_ms != 0 ? file->modified_unix_ms : time_ms;
    }
    if (cli_options_has(options, CLI_OPTION_DELETED)) {
        time_ms = file->deleted_unix_ms;
    }
    cli_text_add(&text, "%14" PRIu64 "  ", file->size_bytes);
    cli_text_add_local_time(&text, time_ms);
    cli_text_add(&text, "  ");
    cli_text_add_printable(&text, file->owner);
    cli_text_add(&text, "  ");
    if (cli_options_has(options, CLI_OPTION_VERSIONS) || cli_options_has(options, CLI_OPTION_DELETED)) {
        cli_text_add_hex(&text, file->id, sizeof file->id);
        cli_text_add(&text, "  ");
    }
    if (is_long) {
        cli_text_add_printable(&text, file->mime_type[0] != '\0' ? file->mime_type : "-");
        cli_text_add(&text, "  ");
    }
    if (file->room[0] != '\0') {
        cli_text_add_printable(&text, file->room);
        cli_text_add(&text, "/");
    } else if (user_name[0] != '\0' && strcmp(user_name, file->owner) != 0) {
        cli_text_add(&text, "@");
        cli_text_add_printable(&text, file->owner);
        cli_text_add(&text, "/");
    }
    cli_text_add_printable(&text, file->name);
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

static bool
on_file(void *context, const struct fc_file *file)
{
    struct listing *listing = context;
    bool is_json = cli_options_has(listing->options, CLI_OPTION_JSON);
    listing->code = is_json ? cli_file_print_json(file, listing->why)
                            : print_row(file, listing->options, listing->user_name, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_ls(struct cli *cli, struct err_detail *why)
{
    const struct fc_file_query query = {
        .prefix = cli->argument_count > 0 ? cli->arguments[0] : NULL,
        .room = cli->options.values[CLI_OPTION_ROOM],
        .has_all_versions = cli_options_has(&cli->options, CLI_OPTION_VERSIONS),
        .is_deleted = cli_options_has(&cli->options, CLI_OPTION_DELETED),
    };
    struct listing listing = {.options = &cli->options, .why = why};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        listing.user_name = fc_session_user_name(cli->session);
        code = fc_file_query_each(cli->session, &query, on_file, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static void
add_digest(struct cli_text *text, const char *label, const uint8_t *digest, size_t size)
{
    cli_text_add(text, "%s", label);
    cli_text_add_hex(text, digest, size);
    cli_text_add(text, "\n");
}

static enum err
print_details(const struct fc_file *file, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_text_add(&text, "name     ");
    cli_text_add_printable(&text, file->name);
    cli_text_add(&text, "\nsize     %" PRIu64 " bytes\n", file->size_bytes);
    add_digest(&text, "md5      ", file->md5, sizeof file->md5);
    add_digest(&text, "sha256   ", file->sha256, sizeof file->sha256);
    add_digest(&text, "id       ", file->id, sizeof file->id);
    cli_text_add(&text, "owner    ");
    cli_text_add_printable(&text, file->owner);
    if (file->room[0] != '\0') {
        cli_text_add(&text, "\nroom     ");
        cli_text_add_printable(&text, file->room);
    }
    if (file->mime_type[0] != '\0') {
        cli_text_add(&text, "\ntype     ");
        cli_text_add_printable(&text, file->mime_type);
    }
    if (file->mode != 0) {
        cli_text_add(&text, "\nmode     %04o", (unsigned)file->mode);
    }
    if (file->modified_unix_ms != 0) {
        cli_text_add(&text, "\nchanged  ");
        cli_text_add_local_time(&text, file->modified_unix_ms);
    }
    cli_text_add(&text, "\ncreated  ");
    cli_text_add_local_time(&text, file->created_unix_ms);
    if (file->expires_unix_ms != 0) {
        cli_text_add(&text, "\nexpires  ");
        cli_text_add_local_time(&text, file->expires_unix_ms);
    }
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

static enum err
run_stat(struct cli *cli, struct err_detail *why)
{
    struct fc_file file = {0};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_file_stat(cli->session, cli->arguments[0], &file, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    return cli_options_has(&cli->options, CLI_OPTION_JSON) ? cli_file_print_json(&file, why)
                                                           : print_details(&file, why);
}

const struct cli_command cmd_ls = {
    .name = "ls",
    .synopsis = "[PREFIX] [-l] [--versions|--deleted] [--room ROOM]",
    .summary = "list your files and those shared with you and your rooms",
    .details = "Shows size, time, owner and name of the files whose names begin with PREFIX;\n"
               "one shared with a room as ROOM/NAME, one shared with you as @OWNER/NAME. With\n"
               "-l also permissions, type and the time of the last change; with --versions and\n"
               "--deleted also the id, by which fc download and fc restore find them.\n",
    .options = CLI_ALLOWS(CLI_OPTION_LONG) | CLI_ALLOWS(CLI_OPTION_VERSIONS) | CLI_ALLOWS(CLI_OPTION_DELETED) |
               CLI_ALLOWS(CLI_OPTION_ROOM),
    .arguments_max = 1,
    .run = run_ls,
};

const struct cli_command cmd_stat = {
    .name = "stat",
    .synopsis = "FILE",
    .summary = "show what is known of a file",
    .details = "FILE is a name, ROOM/NAME, @OWNER/NAME, or an id.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_stat,
};
