// fc link, link ls, link revoke.
#include <inttypes.h>

#include "base/clock.h"
#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "cli/cli_time.h"
#include "client/fc_link.h"

static void
add_json(struct cli_text *text, const struct fc_link *link)
{
    cli_json_hex(text, "id", link->id, sizeof link->id);
    cli_json_text(text, "file", link->file_name);
    cli_json_hex(text, "file_id", link->file_id, sizeof link->file_id);
    cli_json_time(text, "created_at", link->created_unix_ms);
    cli_json_time(text, "expires_at", link->expires_unix_ms);
    cli_json_u64(text, "fetches", link->fetch_count);
}

static enum err
print_created(const struct cli *cli, const struct fc_link *link, const char *url, bool is_path, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, is_path ? "path" : "url", url);
        add_json(&text, link);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s\n", url);
    }
    enum err code = cli_text_print(&text, why);
    if (code == ERR_OK && is_path) {
        cli_output_error("fc link: put the address of the server's web listener before it, as http://HOST:7421; its "
                         "operator can have links begin with it by fcd --public-url");
    }
    return code;
}

static enum err
run_link(struct cli *cli, struct err_detail *why)
{
    struct fc_link link = {0};
    char url[FC_LINK_URL_MAX_BYTES] = "";
    bool is_path = false;
    int64_t expires_unix_ms = 0;
    enum err code = ERR_OK;
    if (cli_options_has(&cli->options, CLI_OPTION_EXPIRES)) {
        code = cli_duration_parse("expires", cli->options.values[CLI_OPTION_EXPIRES], &expires_unix_ms, why);
        expires_unix_ms += clock_unix_ms();
    }
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = fc_link_create(cli->session, cli->arguments[0], expires_unix_ms, &link, url, &is_path, why);
    }
    if (code == ERR_OK) {
        code = print_created(cli, &link, url, is_path, why);
    }
    digest_wipe(url, sizeof url);
    return code;
}

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_link(void *context, const struct fc_link *link)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        add_json(&text, link);
        cli_json_close_line(&text);
    } else {
        cli_text_add_hex(&text, link->id, sizeof link->id);
        cli_text_add(&text, "  until ");
        cli_text_add_local_time(&text, link->expires_unix_ms);
        cli_text_add(&text, "  fetched %" PRIu64 "  ", link->fetch_count);
        cli_text_add_printable(&text, link->file_name[0] != '\0' ? link->file_name : "(the file has gone)");
        cli_text_add(&text, "\n");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_ls(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_link_each(cli->session, on_link, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_revoke(struct cli *cli, struct err_detail *why)
{
    uint8_t id[16];
    if (bytes_from_hex(cli->arguments[0], id, sizeof id) != ERR_OK) {
        return err_fail(why, ERR_INVALID, "\"%s\" is no id of a link: see 'fc link ls'", cli->arguments[0]);
    }
    enum err code = cli_session_open(cli, true, why);
    return code == ERR_OK ? fc_link_revoke(cli->session, id, why) : code;
}

const struct cli_command cmd_link = {
    .name = "link",
    .synopsis = "FILE [--expires TIME]",
    .summary = "make a link by which anybody can read a file of yours",
    .details = "Prints a URL for browsers, curl and other programs: whoever has it needs no\n"
               "account. It leads to the file as it is now, also when a newer version comes,\n"
               "and ends after 7 days unless --expires says otherwise. Files in encrypted\n"
               "rooms cannot be linked: nobody else could read them.\n",
    .options = CLI_ALLOWS(CLI_OPTION_EXPIRES),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_link,
};

const struct cli_command cmd_link_ls = {
    .name = "link ls",
    .synopsis = "",
    .summary = "list your links to files",
    .details = "Shows id, end, how often it was fetched, and the file.\n",
    .run = run_ls,
};

const struct cli_command cmd_link_revoke = {
    .name = "link revoke",
    .synopsis = "ID",
    .summary = "end a link to a file",
    .details = "Downloads that are under way break off.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_revoke,
};
