// fc session ls, fc session revoke.
#include <string.h>

#include "base/bytes.h"
#include "cli/cli_command.h"
#include "cli/cli_output.h"

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_login(void *context, const struct fc_login *login)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_hex(&text, "id", login->id, sizeof login->id);
        cli_json_text(&text, "device", login->device_name);
        cli_json_time(&text, "created_at", login->created_unix_ms);
        cli_json_time(&text, "expires_at", login->expires_unix_ms);
        cli_json_bool(&text, "is_this", login->is_current);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%c ", login->is_current ? '*' : ' ');
        cli_text_add_hex(&text, login->id, sizeof login->id);
        cli_text_add(&text, "  ");
        cli_text_add_local_time(&text, login->created_unix_ms);
        cli_text_add(&text, "  ");
        cli_text_add_printable(&text, login->device_name);
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
        code = fc_session_each_login(cli->session, on_login, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

// The login whose id begins with some digits.
struct search {
    const char *prefix;
    size_t count;
    uint8_t id[16];
};

static bool
match(void *context, const struct fc_login *login)
{
    struct search *search = context;
    char hex[2 * sizeof login->id + 1];
    bytes_to_hex(bytes_view_of(login->id, sizeof login->id), hex);
    if (strncmp(hex, search->prefix, strlen(search->prefix)) == 0) {
        memcpy(search->id, login->id, sizeof search->id);
        search->count++;
    }
    return true;
}

static enum err
run_revoke(struct cli *cli, struct err_detail *why)
{
    struct search search = {.prefix = cli->arguments[0]};
    if (strlen(search.prefix) < 4 || strspn(search.prefix, "0123456789abcdef") != strlen(search.prefix)) {
        return err_fail(why, ERR_INVALID,
            "\"%s\" is no id: give at least its first 4 digits, as 'fc session ls' shows it", search.prefix);
    }
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_session_each_login(cli->session, match, &search, why);
    }
    if (code == ERR_OK && search.count == 0) {
        code = err_fail(why, ERR_NOT_FOUND, "there is no login %s", search.prefix);
    }
    if (code == ERR_OK && search.count > 1) {
        code = err_fail(why, ERR_INVALID, "several logins begin with %s: give more of the id", search.prefix);
    }
    return code == ERR_OK ? fc_session_end_login(cli->session, search.id, why) : code;
}

const struct cli_command cmd_session_ls = {
    .name = "session ls",
    .synopsis = "",
    .summary = "list your logins, here and elsewhere",
    .details = "Shows a * where it is the one in use here, the id, when it began, and on which\n"
               "computer. The newest come first.\n",
    .run = run_ls,
};

const struct cli_command cmd_session_revoke = {
    .name = "session revoke",
    .synopsis = "ID",
    .summary = "end a login",
    .details = "ID is an id of 'fc session ls', or its beginning. The keys that the computer has\n"
               "stay there; 'fc device remove' makes them useless.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_revoke,
};
