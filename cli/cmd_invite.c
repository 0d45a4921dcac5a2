// fc invite, invite ls, invite revoke.
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_link.h"
#include "cli/cli_list.h"
#include "cli/cli_output.h"
#include "cli/cli_time.h"

#define LINK_ONLY (CLI_ALLOWS(CLI_OPTION_USES) | CLI_ALLOWS(CLI_OPTION_EXPIRES) | CLI_ALLOWS(CLI_OPTION_ROLE))

static enum err
check_link(const struct cli *cli, struct fc_chat_new_link *wanted, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    uint64_t uses = 0;
    int64_t duration_ms = 0;
    if (cli->argument_count > 1) {
        return err_fail(why, ERR_INVALID, "a link is for whoever has it; invite \"%s\" without --link",
            cli->arguments[1]);
    }
    enum err code = cli_options_u64(options, CLI_OPTION_USES, 1, 0, &uses, why);
    if (code == ERR_OK && uses > UINT32_MAX) {
        code = err_fail(why, ERR_INVALID, "--uses is at most %u", UINT32_MAX);
    }
    if (code == ERR_OK && cli_options_has(options, CLI_OPTION_EXPIRES)) {
        code = cli_duration_parse("expires", options->values[CLI_OPTION_EXPIRES], &duration_ms, why);
        wanted->expires_unix_ms = clock_unix_ms() + duration_ms;
    }
    if (code == ERR_OK && cli_options_has(options, CLI_OPTION_ROLE)) {
        code = cli_role_parse(options->values[CLI_OPTION_ROLE], &wanted->role, why);
    }
    if (code == ERR_OK && wanted->role == FC_ROLE_OWNER) {
        code = err_fail(why, ERR_INVALID, "a link makes members and admins; see 'fc room transfer' for owners");
    }
    wanted->max_uses = (uint32_t)uses;
    return code;
}

static enum err
print_link(const struct cli *cli, const char *link, const struct fc_chat_new_link *wanted, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "room", cli->arguments[0]);
        cli_json_text(&text, "link", link);
        cli_json_text(&text, "role", cli_role_name(wanted->role == FC_ROLE_NONE ? FC_ROLE_MEMBER : (int)wanted->role));
        if (wanted->max_uses > 0) {
            cli_json_u64(&text, "max_uses", wanted->max_uses);
        }
        if (wanted->expires_unix_ms > 0) {
            cli_json_time(&text, "expires_at", wanted->expires_unix_ms);
        }
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s\n", link);
    }
    return cli_text_print(&text, why);
}

static enum err
make_link(struct cli *cli, struct err_detail *why)
{
    struct fc_chat_new_link wanted = {0};
    char link[FC_CHAT_LINK_MAX_BYTES] = "";
    enum err code = check_link(cli, &wanted, why);
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK) {
        code = fc_chat_link_create(cli->chat, cli->arguments[0], &wanted, link, why);
    }
    if (code == ERR_OK) {
        code = print_link(cli, link, &wanted, why);
    }
    digest_wipe(link, sizeof link);
    return code;
}

static enum err
run_invite(struct cli *cli, struct err_detail *why)
{
    if (cli_options_has(&cli->options, CLI_OPTION_LINK)) {
        return make_link(cli, why);
    }
    if ((cli->options.given & LINK_ONLY) != 0) {
        return err_fail(why, ERR_INVALID, "--uses, --expires and --role are for a --link");
    }
    if (cli->argument_count < 2) {
        return err_fail(why, ERR_INVALID, "who is to be invited? Name users, or make a --link");
    }
    const struct fc_chat_amendment amendment = {
        .invite = (const char *const *)cli->arguments + 1,
        .invite_count = cli->argument_count - 1,
    };
    enum err code = cli_chat_open(cli, why);
    return code == ERR_OK ? fc_chat_amend(cli->chat, cli->arguments[0], &amendment, why) : code;
}

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_link(void *context, const struct fc_chat_link *link)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (!cli_link_works(link)) {
        return true;
    }
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_link_add_json(&text, link);
        cli_json_close_line(&text);
    } else {
        cli_link_add_line(&text, link);
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_ls(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = fc_chat_each_link(cli->chat, cli->arguments[0], on_link, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_revoke(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_chat_open(cli, why);
    return code == ERR_OK ? fc_chat_link_revoke(cli->chat, cli->arguments[0], cli->arguments[1], why) : code;
}

const struct cli_command cmd_invite = {
    .name = "invite",
    .synopsis = "ROOM USER... | ROOM --link [--uses N] [--expires TIME]",
    .summary = "invite users to a room, or make a link to it",
    .details = "Users enter with 'fc join ROOM'. With --link a link is printed: whoever has it\n"
               "can join, so send it on as you would a key. It works for ever and for everybody\n"
               "unless --uses and --expires (30m, 12h, 7d) say otherwise.\n",
    .options = CLI_ALLOWS(CLI_OPTION_LINK) | LINK_ONLY,
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_invite,
};

const struct cli_command cmd_invite_ls = {
    .name = "invite ls",
    .synopsis = "ROOM",
    .summary = "list the links of a room that still work",
    .details = "Only for admins of the room.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_ls,
};

const struct cli_command cmd_invite_revoke = {
    .name = "invite revoke",
    .synopsis = "ROOM ID",
    .summary = "make a link useless",
    .details = "ID is what 'fc invite ls' shows, or the whole link.\n",
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_revoke,
};
