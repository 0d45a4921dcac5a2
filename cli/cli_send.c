#include "cli/cli_send.h"

#include <inttypes.h>
#include <string.h>

#include "cli/cli_lines.h"
#include "cli/cli_output.h"
#include "cli/cli_words.h"

static enum err
print_sent(const char *room, const struct fc_sent *sent, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_json_open(&text, NULL);
    cli_json_text(&text, "room", room);
    if (sent != NULL) {
        cli_json_u64(&text, "seq", sent->seq);
        cli_json_time(&text, "sent_at", sent->sent_unix_ms);
    } else {
        cli_json_bool(&text, "is_queued", true);
    }
    cli_json_close_line(&text);
    return cli_text_print(&text, why);
}

enum err
cli_send_draft(struct cli *cli, const char *room, const struct fc_chat_draft *draft, struct err_detail *why)
{
    struct fc_sent sent = {0};
    struct err_detail ignored = {0};
    bool is_json = cli_options_has(&cli->options, CLI_OPTION_JSON);
    enum err code = fc_chat_send(cli->chat, room, draft, &sent, why);
    if (code == ERR_QUEUED && is_json && print_sent(room, NULL, &ignored) != ERR_OK) {
        return ERR_CLOSED;
    }
    return code == ERR_OK && is_json ? print_sent(room, &sent, why) : code;
}

static enum err
read_draft(const struct cli *cli, struct fc_chat_draft *out, struct err_detail *why)
{
    *out = (struct fc_chat_draft){
        .type = cli_options_has(&cli->options, CLI_OPTION_ME) ? FC_MESSAGE_EMOTE : FC_MESSAGE_TEXT,
        .topic = cli->options.values[CLI_OPTION_TOPIC],
    };
    return cli_options_u64(&cli->options, CLI_OPTION_REPLY, 1, 0, &out->reply_to_seq, why);
}

enum err
cli_send_check(const struct cli *cli, struct err_detail *why)
{
    struct fc_chat_draft ignored;
    return read_draft(cli, &ignored, why);
}

static enum err
send_text(struct cli *cli, const char *room, struct bytes_view text, struct err_detail *why)
{
    struct fc_chat_draft draft;
    enum err code = read_draft(cli, &draft, why);
    if (code != ERR_OK) {
        return code;
    }
    if (text.size > CLI_LINE_MAX_BYTES) {
        return err_fail(why, ERR_TOO_BIG, "the message has more than %d bytes; send it as a file", CLI_LINE_MAX_BYTES);
    }
    draft.text = text;
    return cli_send_draft(cli, room, &draft, why);
}

static enum err
send_words(struct cli *cli, const char *room, size_t first, struct err_detail *why)
{
    struct bytes text = {0};
    enum err code = cli_words_join(cli, first, "the message", &text, why);
    if (code == ERR_OK) {
        code = send_text(cli, room, bytes_as_view(&text), why);
    }
    bytes_free(&text);
    return code;
}

// send_line goes on when a line has come as far as the outbox: what is piped in cannot be had again.
static enum err
send_line(struct cli *cli, const char *room, struct bytes_view line, bool *is_queued, struct err_detail *why)
{
    enum err code = send_text(cli, room, line, why);
    *is_queued = *is_queued || code == ERR_QUEUED;
    return code == ERR_QUEUED ? ERR_OK : code;
}

// send_lines ends with the first line that cannot be sent and says which it is, so that a script can go on from there.
static enum err
send_lines(struct cli *cli, const char *room, struct err_detail *why)
{
    struct cli_lines lines = {0};
    struct err_detail cause = {0};
    bool is_queued = false;
    enum err code = ERR_OK;
    while (code == ERR_OK && !lines.is_at_end) {
        struct bytes_view line;
        code = cli_lines_read(&lines, &cause);
        while (code == ERR_OK && cli_lines_next(&lines, &line)) {
            code = send_line(cli, room, line, &is_queued, &cause);
        }
        if (code == ERR_OK && cli_lines_is_too_long(&lines)) {
            lines.number++;
            code = send_line(cli, room, bytes_view_of(lines.pending.data + lines.taken, CLI_LINE_MAX_BYTES + 1),
                &is_queued, &cause);
        }
    }
    if (code != ERR_OK) {
        (void)err_fail(why, code, "line %" PRIu64 ": %s", lines.number, err_message(&cause, code));
    } else if (is_queued) {
        code = err_fail(why, ERR_QUEUED, "not all of it is sent yet; the rest is kept to be sent");
    }
    cli_lines_free(&lines);
    return code;
}

enum err
cli_send_run(struct cli *cli, const char *room, size_t first, struct err_detail *why)
{
    bool is_stdin = cli->argument_count == first + 1 && strcmp(cli->arguments[first], "-") == 0;
    return is_stdin ? send_lines(cli, room, why) : send_words(cli, room, first, why);
}
