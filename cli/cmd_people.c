// fc block, unblock, blocks, presence, who, report, reports.
#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_message.h"
#include "cli/cli_output.h"
#include "cli/cli_words.h"
#include "client/fc_people.h"

static enum err
run_block(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    return code == ERR_OK ? fc_people_block(cli->session, cli->arguments[0], false, why) : code;
}

static enum err
run_unblock(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    return code == ERR_OK ? fc_people_block(cli->session, cli->arguments[0], true, why) : code;
}

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_user(void *context, const char *user_name)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", user_name);
        cli_json_close_line(&text);
    } else {
        cli_text_add_printable(&text, user_name);
        cli_text_add(&text, "\n");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_blocks(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_people_each_block(cli->session, on_user, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_presence(struct cli *cli, struct err_detail *why)
{
    const char *wanted = cli->arguments[0];
    bool is_on = strcmp(wanted, "on") == 0;
    if (!is_on && strcmp(wanted, "off") != 0) {
        return err_fail(why, ERR_INVALID, "it is \"on\" or \"off\", not \"%s\"", wanted);
    }
    enum err code = cli_session_open(cli, true, why);
    return code == ERR_OK ? fc_people_show_presence(cli->session, is_on, why) : code;
}

static enum err
run_who(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_people_each_present(cli->session, cli->arguments[0], on_user, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_report(struct cli *cli, struct err_detail *why)
{
    struct bytes reason = {0};
    struct fc_report report = {.room = cli->arguments[0]};
    uint8_t key[FC_CHAT_MESSAGE_KEY_BYTES];
    enum err code = cli_words_seq(cli->arguments[1], &report.seq, why);
    if (code == ERR_OK) {
        code = cli_words_join(cli, 2, "the reason", &reason, why);
    }
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK && cli_options_has(&cli->options, CLI_OPTION_REVEAL)) {
        code = fc_chat_message_key(cli->chat, report.room, report.seq, key, why);
        report.message_key = key;
    }
    if (code == ERR_OK) {
        report.reason = (const char *)reason.data;
        code = fc_people_report(cli->session, &report, why);
    }
    digest_wipe(key, sizeof key);
    bytes_free(&reason);
    return code;
}

static bool
on_report(void *context, const struct fc_reported *reported)
{
    struct listing *listing = context;
    const struct fc_message *message = &reported->message;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_u64(&text, "id", reported->id);
        cli_json_text(&text, "reporter", reported->reporter);
        cli_json_text(&text, "reason", reported->reason);
        cli_json_time(&text, "reported_at", reported->reported_unix_ms);
        cli_json_text(&text, "room", reported->room);
        cli_json_u64(&text, "seq", message->seq);
        cli_json_text(&text, "sender", message->sender);
        cli_json_text(&text, "text", message->text);
        cli_json_time(&text, "sent_at", message->sent_unix_ms);
        cli_json_bool(&text, "is_encrypted", message->is_encrypted);
        cli_json_bool(&text, "is_revealed", reported->is_revealed);
        cli_json_close_line(&text);
    } else {
        cli_text_add_local_time(&text, reported->reported_unix_ms);
        cli_text_add(&text, "  ");
        cli_text_add_printable(&text, reported->reporter);
        cli_text_add(&text, " reported %s", message->is_encrypted ? "encrypted " : "");
        cli_text_add_printable(&text, reported->room);
        cli_text_add(&text, " #%" PRIu64 " of ", message->seq);
        cli_text_add_printable(&text, message->sender);
        cli_text_add(&text, ": ");
        cli_text_add_printable(&text, reported->reason);
        cli_text_add(&text, "%s", message->text[0] != '\0' ? "\n    " : "");
        cli_text_add_printable(&text, message->text);
        cli_text_add(&text, "\n");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_reports(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    uint64_t after_id = 0;
    enum err code = cli_options_u64(&cli->options, CLI_OPTION_SINCE, 0, 0, &after_id, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = fc_people_each_report(cli->session, after_id, on_report, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

const struct cli_command cmd_block = {
    .name = "block",
    .synopsis = "USER",
    .summary = "let a user neither write to you directly nor add or invite you",
    .details = "The user is not told.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_block,
};

const struct cli_command cmd_unblock = {
    .name = "unblock",
    .synopsis = "USER",
    .summary = "undo fc block",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_unblock,
};

const struct cli_command cmd_blocks = {
    .name = "blocks",
    .synopsis = "",
    .summary = "list whom you have blocked",
    .run = run_blocks,
};

const struct cli_command cmd_presence = {
    .name = "presence",
    .synopsis = "on|off",
    .summary = "let others see, or not, that you follow a room",
    .details = "It is off at first. Nothing of it is kept but whether it is on.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_presence,
};

const struct cli_command cmd_who = {
    .name = "who",
    .synopsis = "ROOM",
    .summary = "list who follows a room now",
    .details = "Those who have said 'fc presence on' and have 'fc join' or 'fc chat' running.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_who,
};

const struct cli_command cmd_report = {
    .name = "report",
    .synopsis = "ROOM SEQ REASON... [--reveal]",
    .summary = "report a message to those who run the server",
    .details = "They learn who sent it and when, and see its text. Of an encrypted room they see\n"
               "it with --reveal only, which gives them the key of this one message. SEQ is the\n"
               "message's number: 'fc history -n' shows it.\n",
    .options = CLI_ALLOWS(CLI_OPTION_REVEAL),
    .arguments_min = 3,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_report,
};

const struct cli_command cmd_reports = {
    .name = "reports",
    .synopsis = "[--since ID]",
    .summary = "list what was reported, as an admin of the server",
    .details = "--since begins after the report of that id, which --json shows.\n",
    .options = CLI_ALLOWS(CLI_OPTION_SINCE),
    .run = run_reports,
};
