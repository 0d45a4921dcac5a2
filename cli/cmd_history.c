// fc history, search.
#include "base/clock.h"
#include "cli/cli_command.h"
#include "cli/cli_message.h"
#include "cli/cli_room.h"
#include "cli/cli_time.h"
#include "cli/cli_words.h"

enum {
    NEWEST_DEFAULT = 50,
    FOUND_DEFAULT = 20,
};

struct printing {
    struct cli_message_style style;
    enum err code;
    struct err_detail *why;
};

static bool
on_message(void *context, const struct fc_message *message)
{
    struct printing *printing = context;
    printing->code = cli_message_print(message, &printing->style, printing->why);
    return printing->code == ERR_OK;
}

// read_range: --since and --after-time go forward from there to the end, the others end somewhere and show the last
// ones.
static enum err
read_range(const struct cli_options *options, struct fc_chat_range *out, struct err_detail *why)
{
    unsigned selectors = 0;
    bool is_forward = cli_options_has(options, CLI_OPTION_SINCE) || cli_options_has(options, CLI_OPTION_AFTER_TIME);
    *out = (struct fc_chat_range){
        .has_after = cli_options_has(options, CLI_OPTION_SINCE),
        .topic = options->values[CLI_OPTION_TOPIC],
        .with_events = cli_options_has(options, CLI_OPTION_EVENTS),
    };
    static const enum cli_option all[] = {CLI_OPTION_SINCE, CLI_OPTION_BEFORE, CLI_OPTION_AROUND,
        CLI_OPTION_AFTER_TIME};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        selectors += cli_options_has(options, all[i]);
    }
    if (selectors > 1) {
        return err_fail(why, ERR_INVALID, "only one of --since, --before, --around and --after-time can be given");
    }
    enum err code = cli_options_u64(options, CLI_OPTION_SINCE, 0, 0, &out->after_seq, why);
    if (code == ERR_OK) {
        code = cli_options_u64(options, CLI_OPTION_BEFORE, 1, 0, &out->before_seq, why);
    }
    if (code == ERR_OK) {
        code = cli_options_u64(options, CLI_OPTION_AROUND, 1, 0, &out->around_seq, why);
    }
    if (code == ERR_OK && cli_options_has(options, CLI_OPTION_AFTER_TIME)) {
        code = cli_time_parse("after-time", options->values[CLI_OPTION_AFTER_TIME], clock_unix_ms(),
            &out->since_unix_ms, why);
    }
    if (code == ERR_OK) {
        code = cli_options_u64(options, CLI_OPTION_LIMIT, 0, is_forward ? 0 : NEWEST_DEFAULT, &out->limit, why);
    }
    return code;
}

static enum err
run_history(struct cli *cli, struct err_detail *why)
{
    struct printing printing = {.style = cli_message_style_from(&cli->options), .why = why};
    struct fc_chat_range range;
    enum err code = read_range(&cli->options, &range, why);
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK && !cli_options_has(&cli->options, CLI_OPTION_OFFLINE)) {
        code = fc_chat_sync(cli->chat, cli->arguments[0], why);
        code = cli_room_is_away(cli, cli->arguments[0], code, why) ? ERR_OK : code;
    }
    if (code == ERR_OK) {
        code = fc_chat_history(cli->chat, cli->arguments[0], &range, on_message, &printing, why);
    }
    return printing.code != ERR_OK ? printing.code : code;
}

static enum err
run_search(struct cli *cli, struct err_detail *why)
{
    const char *room = cli->options.values[CLI_OPTION_ROOM];
    struct printing printing = {.style = cli_message_style_from(&cli->options), .why = why};
    struct bytes query = {0};
    uint64_t limit = 0;
    bool is_away = false;
    printing.style.has_room = true;
    printing.style.has_number = true;
    enum err code = cli_options_u64(&cli->options, CLI_OPTION_LIMIT, 0, FOUND_DEFAULT, &limit, why);
    if (code == ERR_OK) {
        code = cli_words_join(cli, 0, "what to look for", &query, why);
    }
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK && !cli_options_has(&cli->options, CLI_OPTION_OFFLINE)) {
        code = cli_room_sync_all(cli, &is_away, why);
    }
    if (code == ERR_OK) {
        code = fc_chat_search(cli->chat, room, (const char *)query.data, (size_t)limit, on_message, &printing, why);
    }
    bytes_free(&query);
    return printing.code != ERR_OK ? printing.code : code;
}

const struct cli_command cmd_history = {
    .name = "history",
    .synopsis = "ROOM [--since SEQ | --before SEQ | --around SEQ | ...]",
    .summary = "print messages of a room",
    .details = "The newest ones, 50 unless --limit says otherwise, or those before or around a\n"
               "message. With --since all that follow message SEQ, and with --after-time all\n"
               "that were sent since then, or the first --limit of them. Oldest first.\n"
               "\n"
               "What is edited or deleted is shown as it is now; --events shows each step. When\n"
               "the server cannot be reached, what this machine has is printed.\n",
    .options = CLI_ALLOWS(CLI_OPTION_SINCE) | CLI_ALLOWS(CLI_OPTION_BEFORE) | CLI_ALLOWS(CLI_OPTION_AROUND) |
               CLI_ALLOWS(CLI_OPTION_AFTER_TIME) | CLI_ALLOWS(CLI_OPTION_LIMIT) | CLI_ALLOWS(CLI_OPTION_TOPIC) |
               CLI_ALLOWS(CLI_OPTION_EVENTS) | CLI_ALLOWS(CLI_OPTION_NUMBER) | CLI_ALLOWS(CLI_OPTION_OFFLINE),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_history,
};

const struct cli_command cmd_search = {
    .name = "search",
    .synopsis = "WORD... [--room ROOM] [--limit N]",
    .summary = "find messages",
    .details = "Prints the newest 20 messages that have all the words, or words that begin so;\n"
               "\"words in quotes\" stand side by side. from:USER, in:ROOM and has:file narrow it\n"
               "down. It looks on this machine, after fetching what is new: no server can search\n"
               "encrypted rooms.\n",
    .options = CLI_ALLOWS(CLI_OPTION_ROOM) | CLI_ALLOWS(CLI_OPTION_LIMIT) | CLI_ALLOWS(CLI_OPTION_OFFLINE),
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_search,
};
