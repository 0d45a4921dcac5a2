// fc segment ls, stop, wake, drain.
#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "cli/cli_source.h"
#include "client/fc_tracker.h"

struct listing {
    bool is_json;
    struct cli_text text;
};

static bool
on_source(void *context, const struct fc_source *source)
{
    struct listing *listing = context;
    if (listing->is_json) {
        cli_source_json(&listing->text, source);
    } else {
        cli_source_add(&listing->text, source);
    }
    return listing->text.code == ERR_OK;
}

static enum err
run_ls(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON)};
    if (!listing.is_json) {
        cli_text_add(&listing.text, "%s\n", cli_source_head);
    }
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_tracker_each(cli->session, on_source, &listing, why);
    }
    if (code == ERR_OK) {
        return cli_text_print(&listing.text, why);
    }
    bytes_free(&listing.text.bytes);
    return code;
}

static enum err
run_order(struct cli *cli, enum fc_source_order order, struct err_detail *why)
{
    struct fc_source source;
    struct cli_text text = {0};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_tracker_order(cli->session, cli->arguments[0], order, &source, why);
    }
    if (code != ERR_OK || !cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        return code;
    }
    cli_source_json(&text, &source);
    return cli_text_print(&text, why);
}

static enum err
run_stop(struct cli *cli, struct err_detail *why)
{
    return run_order(cli, FC_SOURCE_STOP, why);
}

static enum err
run_wake(struct cli *cli, struct err_detail *why)
{
    return run_order(cli, FC_SOURCE_WAKE, why);
}

static enum err
run_drain(struct cli *cli, struct err_detail *why)
{
    return run_order(cli, FC_SOURCE_DRAIN, why);
}

const struct cli_command cmd_segment_ls = {
    .name = "segment ls",
    .synopsis = "",
    .summary = "list the servers that files come from",
    .details = "For administrators of the server. Shows of each its state, what it is (the\n"
               "origin, a mirror or a member's peer), how busy it is, what it has sent, and\n"
               "what it has.\n",
    .run = run_ls,
};

#define SOURCE_DETAILS "For administrators of the server. SOURCE is a name of 'fc segment ls', or an id.\n"

const struct cli_command cmd_segment_stop = {
    .name = "segment stop",
    .synopsis = "SOURCE",
    .summary = "stop a server of segments until it is woken",
    .details = SOURCE_DETAILS "It goes on running, and refuses to send anything; downloads go on elsewhere.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_stop,
};

const struct cli_command cmd_segment_wake = {
    .name = "segment wake",
    .synopsis = "SOURCE",
    .summary = "let a stopped or drained server serve again",
    .details = SOURCE_DETAILS,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_wake,
};

const struct cli_command cmd_segment_drain = {
    .name = "segment drain",
    .synopsis = "SOURCE",
    .summary = "let a server finish, and take nothing new",
    .details = SOURCE_DETAILS "What it was asked before is still sent.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_drain,
};
