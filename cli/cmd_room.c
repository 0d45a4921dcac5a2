// fc room create, room list, leave.
#include <inttypes.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_list.h"
#include "cli/cli_output.h"
#include "cli/cli_room.h"

static enum err
check_create(const struct cli *cli, struct fc_chat_new_room *wanted, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    const char *history = options->values[CLI_OPTION_HISTORY];
    wanted->name = cli->arguments[0];
    wanted->is_plain = cli_options_has(options, CLI_OPTION_PLAIN);
    wanted->is_public = wanted->is_plain && !cli_options_has(options, CLI_OPTION_PRIVATE);
    wanted->topic = options->values[CLI_OPTION_TOPIC];
    if (history != NULL && strcmp(history, "all") != 0 && strcmp(history, "joined") != 0) {
        return err_fail(why, ERR_INVALID, "--history is all or joined, not \"%s\"", history);
    }
    wanted->is_history_joined = history != NULL && strcmp(history, "joined") == 0;
    if (wanted->is_plain && wanted->is_history_joined) {
        return err_fail(why, ERR_INVALID, "--history joined needs an encrypted room");
    }
    return ERR_OK;
}

static enum err
run_create(struct cli *cli, struct err_detail *why)
{
    struct fc_chat_new_room wanted = {0};
    struct fc_chat_room made = {0};
    struct cli_list members = {0};
    struct cli_text text = {0};
    enum err code = check_create(cli, &wanted, why);
    if (code == ERR_OK) {
        code = cli_list_add_option(&members, &cli->options, CLI_OPTION_MEMBER, why);
    }
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK) {
        wanted.members = cli_list_view(&members);
        wanted.member_count = members.count;
        code = fc_chat_create(cli->chat, &wanted, &made.room, why);
    }
    cli_list_free(&members);
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        code = cli_room_complete(cli, &made, why);
        return code == ERR_OK ? cli_room_print_json(&made, why) : code;
    }
    cli_text_add(&text, "made the %sroom ", made.room.is_plain ? "" : "encrypted ");
    cli_text_add_printable(&text, made.room.name);
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static void
add_counts(struct cli_text *text, const struct fc_chat_room *room)
{
    if (room->unread_count > 0) {
        cli_text_add(text, "  (%" PRIu32 " new", room->unread_count);
        if (room->mention_count > 0) {
            cli_text_add(text, ", %" PRIu32 " for you", room->mention_count);
        }
        cli_text_add(text, ")");
    }
    if (room->room.is_invited) {
        cli_text_add(text, "  (invited)");
    }
    if (room->room.is_archived) {
        cli_text_add(text, "  (archived)");
    }
}

static bool
on_room(void *context, const struct fc_chat_room *room)
{
    struct listing *listing = context;
    if (listing->is_json) {
        listing->code = cli_room_print_json(room, listing->why);
        return listing->code == ERR_OK;
    }
    struct cli_text text = {0};
    cli_text_add(&text, "%c %6" PRIu32 " %8" PRIu64 "  ", room->room.is_member ? '*' : ' ', room->room.member_count,
        room->room.head_seq);
    cli_text_add_printable(&text, room->room.name);
    add_counts(&text, room);
    if (room->room.topic[0] != '\0') {
        cli_text_add(&text, "  ");
        cli_text_add_printable(&text, room->room.topic);
    }
    cli_text_add(&text, "\n");
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_list(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = cli_room_each(cli, cli_options_has(&cli->options, CLI_OPTION_ALL), on_room, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_leave(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_chat_open(cli, why);
    return code == ERR_OK ? fc_chat_leave(cli->chat, cli->arguments[0], why) : code;
}

const struct cli_command cmd_room_create = {
    .name = "room create",
    .synopsis = "NAME [--plain] [--private] [--member USER,...]",
    .summary = "make a room",
    .details = "NAME is 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or\n"
               "a digit. Whoever makes a room is its owner and in it.\n"
               "\n"
               "A room is encrypted: only its members can read what is sent, and others enter by\n"
               "invitation. The server can read a --plain one, and everybody on it can enter,\n"
               "unless it is --private.\n"
               "\n"
               "With --history joined new members of an encrypted room cannot read what was sent\n"
               "before them.\n",
    .options = CLI_ALLOWS(CLI_OPTION_PLAIN) | CLI_ALLOWS(CLI_OPTION_PRIVATE) | CLI_ALLOWS(CLI_OPTION_MEMBER) |
               CLI_ALLOWS(CLI_OPTION_TOPIC) | CLI_ALLOWS(CLI_OPTION_HISTORY),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_create,
};

const struct cli_command cmd_room_list = {
    .name = "room list",
    .synopsis = "[--all]",
    .summary = "list your rooms",
    .details = "Shows for each room a * when you are in it, how many members and messages it\n"
               "has, its name, what is new for you, and its topic. --all adds the public rooms\n"
               "that you are not in.\n",
    .options = CLI_ALLOWS(CLI_OPTION_ALL),
    .run = run_list,
};

const struct cli_command cmd_leave = {
    .name = "leave",
    .synopsis = "ROOM",
    .summary = "leave a room, or refuse an invitation to it",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_leave,
};
