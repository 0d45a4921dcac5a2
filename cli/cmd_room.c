// fc room create, room list, leave.
#include <inttypes.h>

#include "cli/cli_command.h"
#include "cli/cli_output.h"
#include "client/fc_room.h"

static enum err
print_json(const struct fc_room *room, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_json_open(&text, NULL);
    cli_json_text(&text, "room", room->name);
    cli_json_hex(&text, "id", room->id, sizeof room->id);
    cli_json_u64(&text, "head_seq", room->head_seq);
    cli_json_bool(&text, "is_member", room->is_member);
    cli_json_u64(&text, "member_count", room->member_count);
    cli_json_bool(&text, "is_plain", room->is_plain);
    cli_json_time(&text, "created_at", room->created_unix_ms);
    cli_json_close_line(&text);
    return cli_text_print(&text, why);
}

static enum err
run_create(struct cli *cli, struct err_detail *why)
{
    struct fc_room room = {0};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_room_create(cli->session, cli->arguments[0], true, &room, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (!cli_options_has(&cli->options, CLI_OPTION_PLAIN)) {
        cli_output_error("fc room create: note: the server can read the messages of %s, since it offers no encrypted "
                         "rooms; --plain says that this is wanted",
            room.name);
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        return print_json(&room, why);
    }
    struct cli_text text = {0};
    cli_text_add(&text, "made the room ");
    cli_text_add_printable(&text, room.name);
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static bool
on_room(void *context, const struct fc_room *room)
{
    struct listing *listing = context;
    if (listing->is_json) {
        listing->code = print_json(room, listing->why);
    } else {
        struct cli_text text = {0};
        cli_text_add(&text, "%c %6" PRIu32 " %8" PRIu64 "  ", room->is_member ? '*' : ' ', room->member_count,
            room->head_seq);
        cli_text_add_printable(&text, room->name);
        cli_text_add(&text, "\n");
        listing->code = cli_text_print(&text, listing->why);
    }
    return listing->code == ERR_OK;
}

static enum err
run_list(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_room_each(cli->session, on_room, &listing, why);
    }
    return listing.code != ERR_OK ? listing.code : code;
}

static enum err
run_leave(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = fc_room_leave(cli->session, cli->arguments[0], why);
    }
    return code;
}

const struct cli_command cmd_room_create = {
    .name = "room create",
    .synopsis = "NAME [--plain]",
    .summary = "make a room",
    .details = "NAME is 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or\n"
               "a digit. Whoever makes a room is in it.\n"
               "The server offers no encrypted rooms, so it can read the messages. --plain says\n"
               "that this is wanted; without it the room is made too, and a note says so.\n",
    .options = CLI_ALLOWS(CLI_OPTION_PLAIN),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_create,
};

const struct cli_command cmd_room_list = {
    .name = "room list",
    .synopsis = "",
    .summary = "list the rooms",
    .details = "Shows for each room a * when you are in it, how many members and messages it\n"
               "has, and its name.\n",
    .run = run_list,
};

const struct cli_command cmd_leave = {
    .name = "leave",
    .synopsis = "ROOM",
    .summary = "leave a room",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_leave,
};
