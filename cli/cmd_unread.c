// fc unread, read, outbox, outbox flush.
#include <inttypes.h>

#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "cli/cli_room.h"
#include "cli/cli_words.h"

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_unread(void *context, const struct fc_chat_room *room)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (room->unread_count == 0 && !room->room.is_invited) {
        return true;
    }
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "room", room->room.name);
        cli_json_u64(&text, "unread_count", room->unread_count);
        cli_json_u64(&text, "mention_count", room->mention_count);
        cli_json_u64(&text, "read_seq", room->room.read_seq);
        cli_json_u64(&text, "head_seq", room->room.head_seq);
        cli_json_bool(&text, "is_invited", room->room.is_invited);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%6" PRIu32 " %6" PRIu32 "  ", room->unread_count, room->mention_count);
        cli_text_add_printable(&text, room->room.name);
        cli_text_add(&text, "%s\n", room->room.is_invited ? "  (invited)" : "");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_unread(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK && cli_options_has(&cli->options, CLI_OPTION_OFFLINE)) {
        code = fc_chat_each_room(cli->chat, on_unread, &listing, why);
    } else if (code == ERR_OK) {
        code = cli_room_each(cli, false, on_unread, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_read(struct cli *cli, struct err_detail *why)
{
    uint64_t seq = 0;
    enum err code = cli->argument_count > 1 ? cli_words_seq(cli->arguments[1], &seq, why) : ERR_OK;
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK) {
        code = fc_chat_sync(cli->chat, cli->arguments[0], why);
    }
    return code == ERR_OK ? fc_chat_mark_read(cli->chat, cli->arguments[0], seq, why) : code;
}

static bool
on_queued(void *context, const struct fc_chat_queued *queued)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "room", queued->room);
        cli_json_hex(&text, "id", queued->message_id, 16);
        cli_json_time(&text, "created_at", queued->created_unix_ms);
        if (queued->last_error[0] != '\0') {
            cli_json_text(&text, "last_error", queued->last_error);
        }
        cli_json_close_line(&text);
    } else {
        cli_text_add_local_time(&text, queued->created_unix_ms);
        cli_text_add(&text, "  ");
        cli_text_add_printable(&text, queued->room);
        if (queued->last_error[0] != '\0') {
            cli_text_add(&text, "  (");
            cli_text_add_printable(&text, queued->last_error);
            cli_text_add(&text, ")");
        }
        cli_text_add(&text, "\n");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_outbox(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = fc_chat_each_queued(cli->chat, on_queued, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_flush(struct cli *cli, struct err_detail *why)
{
    size_t count = 0;
    struct cli_text text = {0};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = fc_chat_flush(cli->chat, &count, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_u64(&text, "sent_count", count);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "sent %zu\n", count);
    }
    return cli_text_print(&text, why);
}

const struct cli_command cmd_unread = {
    .name = "unread",
    .synopsis = "",
    .summary = "list the rooms with something new for you",
    .details = "Shows for each room how many messages you have not read, how many of them\n"
               "mention you, and its name. 'fc read' marks them as read.\n",
    .options = CLI_ALLOWS(CLI_OPTION_OFFLINE),
    .run = run_unread,
};

const struct cli_command cmd_read = {
    .name = "read",
    .synopsis = "ROOM [SEQ]",
    .summary = "mark messages as read, on all your devices",
    .details = "Up to message number SEQ, or all of them.\n",
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run_read,
};

const struct cli_command cmd_outbox = {
    .name = "outbox",
    .synopsis = "",
    .summary = "list what waits to be sent",
    .details = "Messages that could not be sent since the server was away. They go with the next\n"
               "command that reaches it, or with 'fc outbox flush'.\n",
    .run = run_outbox,
};

const struct cli_command cmd_outbox_flush = {
    .name = "outbox flush",
    .synopsis = "",
    .summary = "send what waits",
    .run = run_flush,
};
