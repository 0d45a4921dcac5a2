#include "cli/cli_room.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli_output.h"

enum {
    ID_DIGITS = 32,
};

static const char *
kind_name(const struct fc_room *room)
{
    if (room->is_direct) {
        return "direct";
    }
    return room->is_public ? "public" : "private";
}

enum err
cli_room_print_json(const struct fc_chat_room *room, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_json_open(&text, NULL);
    cli_json_text(&text, "room", room->room.name);
    cli_json_hex(&text, "id", room->room.id, sizeof room->room.id);
    cli_json_u64(&text, "head_seq", room->room.head_seq);
    cli_json_bool(&text, "is_member", room->room.is_member);
    cli_json_u64(&text, "member_count", room->room.member_count);
    cli_json_bool(&text, "is_plain", room->room.is_plain);
    cli_json_time(&text, "created_at", room->room.created_unix_ms);
    cli_json_text(&text, "kind", kind_name(&room->room));
    cli_json_text(&text, "topic", room->room.topic);
    cli_json_text(&text, "role", cli_role_name(room->room.role));
    cli_json_bool(&text, "is_invited", room->room.is_invited);
    cli_json_bool(&text, "is_archived", room->room.is_archived);
    cli_json_u64(&text, "read_seq", room->room.read_seq);
    cli_json_u64(&text, "unread_count", room->unread_count);
    cli_json_u64(&text, "mention_count", room->mention_count);
    cli_json_close_line(&text);
    return cli_text_print(&text, why);
}

struct finding {
    const char *room; // NULL: any
    bool is_found;
    struct fc_chat_room *out;
};

static bool
on_find(void *context, const struct fc_chat_room *room)
{
    struct finding *finding = context;
    char id[ID_DIGITS + 1];
    bytes_to_hex(bytes_view_of(room->room.id, sizeof room->room.id), id);
    if (finding->room == NULL || strcmp(room->room.name, finding->room) == 0 || strcmp(id, finding->room) == 0) {
        *finding->out = *room;
        finding->is_found = true;
    }
    return !finding->is_found;
}

bool
cli_room_is_away(struct cli *cli, const char *room, enum err code, const struct err_detail *why)
{
    struct fc_chat_room ignored;
    struct finding finding = {.room = room, .out = &ignored};
    if (code != ERR_UNAVAILABLE && code != ERR_TIMEOUT && code != ERR_CLOSED) {
        return false;
    }
    if (fc_chat_each_room(cli->chat, on_find, &finding, NULL) != ERR_OK || !finding.is_found) {
        return false;
    }
    cli_output_error("fc %s: note: %s; this is what was here already", cli->command->name, err_message(why, code));
    return true;
}

struct gathering {
    bool is_encrypted_only;
    bool is_stale_only; // with messages that are not here
    struct cli_list *list;
    enum err code;
};

static bool
on_gather(void *context, const struct fc_chat_room *room)
{
    struct gathering *gathering = context;
    char id[ID_DIGITS + 1];
    if (!room->room.is_member || (gathering->is_encrypted_only && room->room.is_plain) ||
        (gathering->is_stale_only && room->synced_seq >= room->room.head_seq)) {
        return true;
    }
    bytes_to_hex(bytes_view_of(room->room.id, sizeof room->room.id), id);
    gathering->code = cli_list_add(gathering->list, id);
    return gathering->code == ERR_OK;
}

static enum err
gather(struct cli *cli, struct gathering *gathering, struct err_detail *why)
{
    enum err code = fc_chat_each_room(cli->chat, on_gather, gathering, why);
    return gathering->code != ERR_OK ? gathering->code : code;
}

enum err
cli_room_ids(struct cli *cli, bool is_encrypted_only, struct cli_list *out, struct err_detail *why)
{
    struct gathering gathering = {.is_encrypted_only = is_encrypted_only, .list = out};
    return gather(cli, &gathering, why);
}

enum err
cli_room_sync_all(struct cli *cli, bool *is_away_out, struct err_detail *why)
{
    struct cli_list stale = {0};
    struct gathering gathering = {.is_stale_only = true, .list = &stale};
    enum err code = fc_chat_refresh(cli->chat, why);
    if (code == ERR_OK) {
        code = gather(cli, &gathering, why);
    }
    if (code == ERR_OK) {
        code = fc_chat_sync_rooms(cli->chat, cli_list_view(&stale), stale.count, why);
    }
    cli_list_free(&stale);
    *is_away_out = cli_room_is_away(cli, NULL, code, why);
    return *is_away_out ? ERR_OK : code;
}

// The rooms that are known here, to go with what the server says of them.
struct known {
    struct fc_chat_room *rooms;
    size_t count;
    bool is_away;
    bool is_all;
    bool (*fn)(void *context, const struct fc_chat_room *room);
    void *context;
    enum err code;
};

static bool
on_known(void *context, const struct fc_chat_room *room)
{
    struct known *known = context;
    struct fc_chat_room *grown = realloc(known->rooms, (known->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        known->code = ERR_NO_MEMORY;
        return false;
    }
    known->rooms = grown;
    known->rooms[known->count++] = *room;
    return true;
}

// complete replaces what is known here by what the server says, which has more, but for what only we can count.
static void
complete(struct fc_chat_room *room, const struct fc_room *from_server)
{
    uint64_t read_seq = room->room.read_seq;
    room->room = *from_server;
    room->room.read_seq = read_seq > from_server->read_seq ? read_seq : from_server->read_seq;
}

static bool
on_listed(void *context, const struct fc_room *room)
{
    struct known *known = context;
    struct fc_chat_room listed = {0};
    for (size_t i = 0; i < known->count; i++) {
        if (memcmp(known->rooms[i].room.id, room->id, sizeof(room->id)) == 0) {
            listed = known->rooms[i];
        }
    }
    complete(&listed, room);
    return (!known->is_all && !room->is_member && !room->is_invited) || known->fn(known->context, &listed);
}

enum err
cli_room_each(struct cli *cli, bool is_all, bool (*fn)(void *context, const struct fc_chat_room *room), void *context,
    struct err_detail *why)
{
    struct known known = {.is_all = is_all, .fn = fn, .context = context};
    enum err code = cli_room_sync_all(cli, &known.is_away, why);
    if (code == ERR_OK) {
        code = fc_chat_each_room(cli->chat, on_known, &known, why);
        code = code == ERR_OK ? known.code : code;
    }
    if (code == ERR_OK && !known.is_away) {
        code = fc_room_each(cli->session, on_listed, &known, why);
        known.is_away = cli_room_is_away(cli, NULL, code, why);
    } else if (code == ERR_OK) {
        for (size_t i = 0; i < known.count && fn(context, &known.rooms[i]); i++) {
        }
    }
    free(known.rooms);
    return known.is_away ? ERR_OK : code;
}

enum err
cli_room_complete(struct cli *cli, struct fc_chat_room *room, struct err_detail *why)
{
    struct fc_room from_server;
    char id[ID_DIGITS + 1];
    bytes_to_hex(bytes_view_of(room->room.id, sizeof room->room.id), id);
    enum err code = fc_room_get(cli->session, id, &from_server, why);
    if (code == ERR_OK) {
        complete(room, &from_server);
    }
    return cli_room_is_away(cli, NULL, code, why) ? ERR_OK : code;
}

enum err
cli_room_find(struct cli *cli, const char *room, struct fc_chat_room *out, struct err_detail *why)
{
    struct finding finding = {.room = room, .out = out};
    *out = (struct fc_chat_room){0};
    enum err code = fc_chat_each_room(cli->chat, on_find, &finding, why);
    if (code != ERR_OK) {
        return code;
    }
    if (finding.is_found) {
        return cli_room_complete(cli, out, why);
    }
    code = fc_room_get(cli->session, room, &out->room, why);
    if (code == ERR_OK && !out->room.is_member && !out->room.is_invited) {
        code = err_fail(why, ERR_DENIED, "you are not in \"%s\"", room);
    }
    return code;
}
