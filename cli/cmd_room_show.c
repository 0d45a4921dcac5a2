// fc room show, room fingerprint, audit.
#include <inttypes.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_link.h"
#include "cli/cli_list.h"
#include "cli/cli_output.h"
#include "cli/cli_room.h"

struct showing {
    struct cli_text text;
    bool is_json;
};

static bool
on_member(void *context, const struct fc_chat_member *member)
{
    struct showing *showing = context;
    struct cli_text *text = &showing->text;
    if (showing->is_json) {
        cli_json_open(text, NULL);
        cli_json_text(text, "user", member->user_name);
        cli_json_text(text, "role", cli_role_name((int)member->role));
        cli_json_bool(text, "is_invited", member->is_invited);
        cli_json_close(text);
    } else {
        cli_text_add(text, "%-8s  %-6s  ", member->is_invited ? "invited" : "member", cli_role_name((int)member->role));
        cli_text_add_printable(text, member->user_name);
        cli_text_add(text, "\n");
    }
    return text->code == ERR_OK;
}

static bool
on_link(void *context, const struct fc_chat_link *link)
{
    struct showing *showing = context;
    struct cli_text *text = &showing->text;
    if (!cli_link_works(link)) {
        return true;
    }
    if (showing->is_json) {
        cli_json_open(text, NULL);
        cli_link_add_json(text, link);
        cli_json_close(text);
    } else {
        cli_text_add(text, "link      ");
        cli_link_add_line(text, link);
    }
    return text->code == ERR_OK;
}

static void
add_head(struct showing *showing, const struct fc_room *room)
{
    struct cli_text *text = &showing->text;
    const char *kind = room->is_direct ? "direct" : (room->is_public ? "public" : "private");
    if (showing->is_json) {
        cli_json_open(text, NULL);
        cli_json_text(text, "room", room->name);
        cli_json_hex(text, "id", room->id, sizeof room->id);
        cli_json_text(text, "kind", kind);
        cli_json_bool(text, "is_plain", room->is_plain);
        cli_json_text(text, "topic", room->topic);
        cli_json_bool(text, "is_archived", room->is_archived);
        cli_json_u64(text, "head_seq", room->head_seq);
        cli_json_u64(text, "log_seq", room->log_seq);
        cli_json_time(text, "created_at", room->created_unix_ms);
        return;
    }
    cli_text_add(text, "room      ");
    cli_text_add_printable(text, room->name);
    cli_text_add(text, "\nid        ");
    cli_text_add_hex(text, room->id, sizeof room->id);
    cli_text_add(text, "\nkind      %s, %s%s\n", kind,
        room->is_plain ? "readable by the server" : "encrypted: readable by its members only",
        room->is_archived ? ", archived" : "");
    if (room->topic[0] != '\0') {
        cli_text_add(text, "topic     ");
        cli_text_add_printable(text, room->topic);
        cli_text_add(text, "\n");
    }
    cli_text_add(text, "messages  %" PRIu64 "\n", room->head_seq);
}

// add_people adds members and, for those who may see them, links.
static enum err
add_people(struct cli *cli, struct showing *showing, const struct fc_room *room, struct err_detail *why)
{
    char id[33];
    bytes_to_hex(bytes_view_of(room->id, sizeof room->id), id);
    if (showing->is_json) {
        cli_json_open_list(&showing->text, "members");
    }
    enum err code = fc_chat_each_member(cli->chat, id, on_member, showing, why);
    if (showing->is_json) {
        cli_json_close_list(&showing->text);
    }
    if (code == ERR_OK && room->role >= FC_ROLE_ADMIN && !room->is_invited) {
        if (showing->is_json) {
            cli_json_open_list(&showing->text, "links");
        }
        code = fc_chat_each_link(cli->chat, id, on_link, showing, why);
        if (showing->is_json) {
            cli_json_close_list(&showing->text);
        }
    }
    return cli_room_is_away(cli, NULL, code, why) ? ERR_OK : code;
}

static enum err
run_show(struct cli *cli, struct err_detail *why)
{
    struct fc_chat_room room = {0};
    struct showing showing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON)};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = cli_room_find(cli, cli->arguments[0], &room, why);
    }
    if (code == ERR_OK) {
        add_head(&showing, &room.room);
        code = add_people(cli, &showing, &room.room, why);
    }
    if (code != ERR_OK) {
        bytes_free(&showing.text.bytes);
        return code;
    }
    if (showing.is_json) {
        cli_json_close_line(&showing.text);
    }
    return cli_text_print(&showing.text, why);
}

static enum err
run_fingerprint(struct cli *cli, struct err_detail *why)
{
    char fingerprint[FC_CHAT_FINGERPRINT_BYTES];
    struct cli_text text = {0};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = fc_chat_fingerprint(cli->chat, cli->arguments[0], fingerprint, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "room", cli->arguments[0]);
        cli_json_text(&text, "fingerprint", fingerprint);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s\n", fingerprint);
    }
    return cli_text_print(&text, why);
}

static enum err
print_audit(const struct fc_chat_audit *audit, bool is_json, struct err_detail *why)
{
    struct cli_text text = {0};
    if (is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "room", audit->room);
        cli_json_u64(&text, "log_entries", audit->log_entries);
        cli_json_u64(&text, "messages", audit->messages);
        cli_json_u64(&text, "unreadable", audit->unreadable);
        cli_json_text(&text, "fingerprint", audit->fingerprint);
        cli_json_close_line(&text);
    } else {
        cli_text_add_printable(&text, audit->room);
        cli_text_add(&text, ": %" PRIu64 " log entries and %" PRIu64 " messages are sound", audit->log_entries,
            audit->messages);
        if (audit->unreadable > 0) {
            cli_text_add(&text, ", %" PRIu64 " of them unreadable here", audit->unreadable);
        }
        cli_text_add(&text, "\n    %s\n", audit->fingerprint);
    }
    return cli_text_print(&text, why);
}

static enum err
audit_one(struct cli *cli, const char *room, struct err_detail *why)
{
    struct fc_chat_audit audit = {0};
    enum err code = fc_chat_audit(cli->chat, room, &audit, why);
    return code == ERR_OK ? print_audit(&audit, cli_options_has(&cli->options, CLI_OPTION_JSON), why) : code;
}

static enum err
run_audit(struct cli *cli, struct err_detail *why)
{
    struct cli_list rooms = {0};
    enum err code = cli_chat_open(cli, why);
    if (code == ERR_OK) {
        code = fc_chat_refresh(cli->chat, why);
    }
    if (code == ERR_OK) {
        code = cli->argument_count > 0 ? cli_list_add(&rooms, cli->arguments[0]) : cli_room_ids(cli, true, &rooms, why);
    }
    for (size_t i = 0; i < rooms.count && code == ERR_OK; i++) {
        code = audit_one(cli, rooms.names[i], why);
    }
    cli_list_free(&rooms);
    return code;
}

const struct cli_command cmd_room_show = {
    .name = "room show",
    .synopsis = "ROOM",
    .summary = "show a room, its people and links",
    .details = "Only rooms that you are in or invited to. Links are shown to admins.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_show,
};

const struct cli_command cmd_room_fingerprint = {
    .name = "room fingerprint",
    .synopsis = "ROOM",
    .summary = "print one number for a room and the keys of all its members",
    .details = "It is the same for all members who have seen the same: compare it by voice or\n"
               "in person to know that nobody stands between.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_fingerprint,
};

const struct cli_command cmd_audit = {
    .name = "audit",
    .synopsis = "[ROOM]",
    .summary = "check everything that the server says about encrypted rooms",
    .details = "Fetches keys, logs and messages anew and checks every signature and hash,\n"
               "against what this machine has seen before. Without ROOM all encrypted rooms.\n"
               "Ends with 6 at the first thing that is wrong.\n",
    .arguments_max = 1,
    .run = run_audit,
};
