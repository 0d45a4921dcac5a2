// Rooms: printing them, finding one, and bringing what is on this machine up to date.
#ifndef CLI_CLI_ROOM_H
#define CLI_CLI_ROOM_H

#include "cli/cli_command.h"
#include "cli/cli_list.h"
#include "client/fc_chat.h"

// cli_room_print_json writes an object on a line.
enum err cli_room_print_json(const struct fc_chat_room *room, struct err_detail *why) ERR_CHECKED;

// cli_room_is_away tells of an error whether the server was away while this machine knows the room (NULL: any room),
// and says so on standard error: what is here is to be used then.
bool cli_room_is_away(struct cli *cli, const char *room, enum err code, const struct err_detail *why);

// cli_room_sync_all fetches the list of one's rooms and the messages of all of them. A server that is away is no error:
// is_away_out.
enum err cli_room_sync_all(struct cli *cli, bool *is_away_out, struct err_detail *why) ERR_CHECKED;

// cli_room_find finds one of the user's rooms, or one with an invitation, by name, "@USER" or id in 32 hexadecimal
// digits. ERR_NOT_FOUND.
enum err cli_room_find(struct cli *cli, const char *room, struct fc_chat_room *out, struct err_detail *why) ERR_CHECKED;

// cli_room_each calls fn for the rooms of the user and those with an invitation, as the server has them now; with
// is_all for the other public ones, too. While the server is away, for those that are known here.
enum err cli_room_each(struct cli *cli, bool is_all, bool (*fn)(void *context, const struct fc_chat_room *room),
    void *context, struct err_detail *why) ERR_CHECKED;

// cli_room_complete asks the server for what is not kept here: people and times. A server that is away is no error.
enum err cli_room_complete(struct cli *cli, struct fc_chat_room *room, struct err_detail *why) ERR_CHECKED;

// cli_room_ids adds the ids of one's encrypted rooms, or of all of them.
enum err cli_room_ids(struct cli *cli, bool is_encrypted_only, struct cli_list *out,
    struct err_detail *why) ERR_CHECKED;

#endif
