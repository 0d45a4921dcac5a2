// fc peer start, status, update, stop.
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "cli/cli_background.h"
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"
#include "client/fc_peer.h"

// --- start ----------------------------------------------------------------------------------------------------------

static void
describe(const struct cli *cli, const struct fc_peer *peer, struct cli_text *text)
{
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(text, NULL);
        cli_json_text(text, "server", fc_session_server_url(cli->session));
        cli_json_text(text, "url", fc_peer_url(peer));
        cli_json_close_line(text);
    } else {
        cli_text_add(text, "this machine shares files at %s; fc peer stop ends it\n", fc_peer_url(peer));
    }
}

// begin starts the peer; the caller frees it.
static enum err
begin(struct cli *cli, struct fc_peer **out, struct err_detail *why)
{
    struct fc_peer_options options = {
        .folders = (const char *const *)cli->arguments,
        .folder_count = cli->argument_count,
        .listen_url = cli->options.values[CLI_OPTION_LISTEN],
    };
    enum err code = cli_options_rate(&cli->options, &options.limit_bytes_per_s, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    return code == ERR_OK ? fc_peer_start(cli->session, &options, out, why) : code;
}

static enum err
run_foreground(struct cli *cli, struct err_detail *why)
{
    struct fc_peer *peer = NULL;
    struct cli_text text = {0};
    enum err code = begin(cli, &peer, why);
    if (code == ERR_OK) {
        describe(cli, peer, &text);
        code = cli_text_print(&text, why);
    }
    if (code == ERR_OK) {
        fc_peer_wait(peer, cli_interrupt_fd());
    }
    fc_peer_free(&peer);
    return code;
}

static enum err
run_background(struct cli *cli, struct err_detail *why)
{
    struct fc_peer *peer = NULL;
    struct cli_text text = {0};
    char dir[FC_CONFIG_PATH_MAX_BYTES] = "";
    char log_path[FC_CONFIG_PATH_MAX_BYTES + sizeof "/log"] = "";
    bool is_worker = false;
    enum err code = cli_background_split(&is_worker, why);
    if (code != ERR_OK || !is_worker) {
        return code;
    }
    log_set_level(LOG_WARN); // as long as there is a terminal
    code = begin(cli, &peer, why);
    if (code == ERR_OK) {
        describe(cli, peer, &text);
        code = text.code;
    }
    if (code == ERR_OK) {
        code = fc_peer_dir(cli->session, dir, why);
    }
    if (code != ERR_OK) {
        fc_peer_free(&peer);
    }
    (void)snprintf(log_path, sizeof log_path, "%s/log", dir);
    code = cli_background_tell(code, bytes_as_view(&text.bytes), log_path, why);
    log_set_level(LOG_INFO);
    if (code == ERR_OK) {
        fc_peer_wait(peer, cli_interrupt_fd());
    }
    bytes_free(&text.bytes);
    fc_peer_free(&peer);
    return code;
}

static enum err
run_start(struct cli *cli, struct err_detail *why)
{
    return cli_options_has(&cli->options, CLI_OPTION_FOREGROUND) ? run_foreground(cli, why) : run_background(cli, why);
}

// --- status ---------------------------------------------------------------------------------------------------------

struct showing {
    struct cli_text text;
    bool is_json;
};

static void
show_state(void *context, const struct fc_peer_state *state)
{
    struct showing *showing = context;
    struct cli_text *text = &showing->text;
    if (showing->is_json) {
        cli_json_open(text, NULL);
        cli_json_text(text, "server", state->server_url);
        cli_json_open_list(text, "urls");
        for (size_t i = 0; i < state->url_count; i++) {
            cli_json_text(text, NULL, state->urls[i]);
        }
        cli_json_close_list(text);
        cli_json_bool(text, "is_announced", state->is_announced);
        cli_json_u64(text, "connections", state->connections);
        cli_json_u64(text, "sent_bytes", state->sent_bytes);
        cli_json_u64(text, "sent_bytes_per_s", state->sent_bytes_per_s);
        cli_json_u64(text, "sent_segments", state->sent_segments);
        cli_json_u64(text, "limit_bytes_per_s", state->limit_bytes_per_s);
        cli_json_u64(text, "shared_bytes", state->shared_bytes);
        cli_json_u64(text, "files", state->file_count);
        cli_json_open_list(text, "shared");
        return;
    }
    char sent[TEXT_SIZE_BYTES];
    char rate[TEXT_SIZE_BYTES];
    text_format_size((double)state->sent_bytes, sent);
    text_format_size((double)state->sent_bytes_per_s, rate);
    cli_text_add(text, "%s ", state->is_announced ? "known to" : "not known to");
    cli_text_add_printable(text, state->server_url);
    cli_text_add(text, " as ");
    for (size_t i = 0; i < state->url_count; i++) {
        cli_text_add(text, "%s", i != 0 ? ", " : "");
        cli_text_add_printable(text, state->urls[i]);
    }
    cli_text_add(text, "\n%zu files, %s sent, %s/s now, %" PRIu32 " connections\n", state->file_count, sent, rate,
        state->connections);
}

static void
show_file(void *context, const struct fc_peer_file *file)
{
    struct showing *showing = context;
    struct cli_text *text = &showing->text;
    if (showing->is_json) {
        cli_json_open(text, NULL);
        cli_json_hex(text, "id", file->id, sizeof file->id);
        cli_json_text(text, "name", file->name);
        cli_json_text(text, "path", file->path);
        cli_json_u64(text, "size_bytes", file->size_bytes);
        cli_json_u64(text, "segments", file->segment_count);
        cli_json_u64(text, "held_segments", file->held_segments);
        cli_json_u64(text, "sent_segments", file->sent_segments);
        cli_json_close(text);
        return;
    }
    cli_text_add(text, "%6" PRIu64 " of %6" PRIu64 " segments, %8" PRIu64 " sent  ", file->held_segments,
        file->segment_count, file->sent_segments);
    cli_text_add_printable(text, file->path);
    cli_text_add(text, "\n");
}

static enum err
run_status(struct cli *cli, struct err_detail *why)
{
    struct showing showing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON)};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_peer_ask(cli->session, show_state, show_file, &showing, why);
    }
    if (code != ERR_OK) {
        bytes_free(&showing.text.bytes);
        return code;
    }
    if (showing.is_json) {
        cli_json_close_list(&showing.text);
        cli_json_close_line(&showing.text);
    }
    return cli_text_print(&showing.text, why);
}

// --- update, stop ---------------------------------------------------------------------------------------------------

static enum err
run_update(struct cli *cli, struct err_detail *why)
{
    struct cli_text text = {0};
    uint32_t shared = 0;
    uint32_t unknown = 0;
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_peer_update(cli->session, &shared, &unknown, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_u64(&text, "shared", shared);
        cli_json_u64(&text, "unknown", unknown);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%" PRIu32 " files are shared; the server does not know %" PRIu32 "\n", shared, unknown);
    }
    return cli_text_print(&text, why);
}

static enum err
run_stop(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    return code == ERR_OK ? fc_peer_stop(cli->session, why) : code;
}

const struct cli_command cmd_peer_start = {
    .name = "peer start",
    .synopsis = "[DIR...]",
    .summary = "share files from this machine",
    .details = "In the background, until 'fc peer stop', this machine sends parts of files to\n"
               "others who are downloading them and may read them. Shared are the files below\n"
               "each DIR that the server knows, and what you download here from now on; it goes\n"
               "on with both when it is started again. Files that change are shared no more.\n"
               "\n"
               "It listens at a free port: with TLS at all addresses of this machine, or, when\n"
               "the server is on this machine, for this machine only. --listen chooses another.\n"
               "Its log is in the data folder, at peer/.../log.\n",
    .options = CLI_ALLOWS(CLI_OPTION_LISTEN) | CLI_ALLOWS(CLI_OPTION_LIMIT_RATE) | CLI_ALLOWS(CLI_OPTION_FOREGROUND),
    .arguments_max = CLI_ARGUMENTS_ANY,
    .argument = CLI_ARGUMENT_PATH,
    .run = run_start,
};

const struct cli_command cmd_peer_status = {
    .name = "peer status",
    .synopsis = "",
    .summary = "show what this machine shares",
    .details = "Shows whether the server knows of it, what was sent, and how much of each file\n"
               "is here. Ends with 11 when no peer runs.\n",
    .run = run_status,
};

const struct cli_command cmd_peer_update = {
    .name = "peer update",
    .synopsis = "",
    .summary = "look through the shared folders again",
    .details = "Shares what is new in them, and what the server has got to know since. Files\n"
               "that have changed or gone are not shared any more.\n",
    .run = run_update,
};

const struct cli_command cmd_peer_stop = {
    .name = "peer stop",
    .synopsis = "",
    .summary = "stop sharing from this machine",
    .details = "Tells the server, and lets those finish who are being sent something. Your\n"
               "files stay as they are.\n",
    .run = run_stop,
};

const struct cli_command cmd_peer_end = {
    .name = "peer end",
    .synopsis = "",
    .summary = "the same as peer stop",
    .details = "Tells the server, and lets those finish who are being sent something. Your\n"
               "files stay as they are.\n",
    .run = run_stop,
};
