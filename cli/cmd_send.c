// fc send.
#include <inttypes.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_lines.h"
#include "cli/cli_output.h"
#include "client/fc_room.h"

static enum err
send_one(struct cli *cli, struct bytes_view text, struct err_detail *why)
{
    struct fc_sent sent = {0};
    if (text.size > CLI_LINE_MAX_BYTES) {
        return err_fail(why, ERR_TOO_BIG, "the message has more than %d bytes; send it as a file", CLI_LINE_MAX_BYTES);
    }
    enum err code = fc_room_send(cli->session, cli->arguments[0], text, NULL, &sent, why);
    if (code != ERR_OK || !cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        return code;
    }
    struct cli_text out = {0};
    cli_json_open(&out, NULL);
    cli_json_text(&out, "room", cli->arguments[0]);
    cli_json_u64(&out, "seq", sent.seq);
    cli_json_time(&out, "sent_at", sent.sent_unix_ms);
    cli_json_close_line(&out);
    return cli_text_print(&out, why);
}

// send_words joins the arguments with spaces, as echo does.
static enum err
send_words(struct cli *cli, struct err_detail *why)
{
    struct bytes text = {0};
    enum err code = ERR_OK;
    for (size_t i = 1; i < cli->argument_count && code == ERR_OK; i++) {
        if (i > 1) {
            code = bytes_append(&text, bytes_view_of_text(" "));
        }
        if (code == ERR_OK) {
            code = bytes_append(&text, bytes_view_of_text(cli->arguments[i]));
        }
    }
    if (code == ERR_OK && text.size == 0) {
        code = err_fail(why, ERR_INVALID, "the message is empty");
    }
    if (code == ERR_OK) {
        code = send_one(cli, bytes_as_view(&text), why);
    }
    bytes_free(&text);
    return code;
}

// send_lines ends with the first line that cannot be sent and says which it is, so that a script can go on from there.
static enum err
send_lines(struct cli *cli, struct err_detail *why)
{
    struct cli_lines lines = {0};
    struct err_detail cause = {0};
    enum err code = ERR_OK;
    while (code == ERR_OK && !lines.is_at_end) {
        struct bytes_view line;
        code = cli_lines_read(&lines, &cause);
        while (code == ERR_OK && cli_lines_next(&lines, &line)) {
            code = send_one(cli, line, &cause);
        }
        if (code == ERR_OK && cli_lines_is_too_long(&lines)) {
            lines.number++;
            code = send_one(cli, bytes_view_of(lines.pending.data + lines.taken, CLI_LINE_MAX_BYTES + 1), &cause);
        }
    }
    if (code != ERR_OK) {
        (void)err_fail(why, code, "line %" PRIu64 ": %s", lines.number, err_message(&cause, code));
    }
    cli_lines_free(&lines);
    return code;
}

static enum err
run_send(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    if (code != ERR_OK) {
        return code;
    }
    bool is_stdin = cli->argument_count == 2 && strcmp(cli->arguments[1], "-") == 0;
    return is_stdin ? send_lines(cli, why) : send_words(cli, why);
}

const struct cli_command cmd_send = {
    .name = "send",
    .synopsis = "ROOM TEXT... | ROOM -",
    .summary = "send a message to a room",
    .details = "The words of TEXT are joined by spaces. With - each line of standard input is a\n"
               "message, and empty ones are left out. Returns when the server has it on disk.\n"
               "You have to be in the room: see 'fc join'. Put -- before words that begin with a\n"
               "dash.\n",
    .arguments_min = 2,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_send,
};
