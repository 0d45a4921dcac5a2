// Rooms: printing them, finding one, and bringing what is on this machine up to date.
#ifndef CLI_CLI_ROOM_H
#define CLI_CLI_ROOM_H

#include "cli/cli_command.h"
#include "cli/cli_list.h"
#include "client/fc_chat.h"

// cli_room_print_json writes an object on a line.
enum err cli_room_print_json(const struct fc_chat_room *room, struct err_detail *why) ERR_CHECKED;

// cli_room_is_away tells of an error whether the server was away, and says so on standard error: what is on this
// machine is to be used then.
bool cli_room_is_away(const struct cli *cli, enum err code, const struct err_detail *why);

// cli_room_refresh fetches the list of one's rooms. A server that is away is no error.
enum err cli_room_refresh(struct cli *cli, struct err_detail *why) ERR_CHECKED;

// cli_room_sync_all fetches it and the messages of all rooms. A server that is away is no error.
enum err cli_room_sync_all(struct cli *cli, struct err_detail *why) ERR_CHECKED;

// cli_room_find looks among one's rooms for a name, "@USER" or an id of 32 hexadecimal digits. ERR_NOT_FOUND.
enum err cli_room_find(struct cli *cli, const char *room, struct fc_chat_room *out, struct err_detail *why) ERR_CHECKED;

// cli_room_ids adds the ids of one's encrypted rooms, or of all of them.
enum err cli_room_ids(struct cli *cli, bool is_encrypted_only, struct cli_list *out,
    struct err_detail *why) ERR_CHECKED;

#endif
