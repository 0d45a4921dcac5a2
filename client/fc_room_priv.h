// For fc_room.c and fc_room_stream.c only: what a server says, checked.
#ifndef CLIENT_FC_ROOM_PRIV_H
#define CLIENT_FC_ROOM_PRIV_H

#include "base/err.h"
#include "client/fc_room.h"

#include "fc/chat/v1/chat.pb-c.h"

enum {
    FC_ROOM_ID_BYTES = 16,
    FC_ROOM_HISTORY_PAGE = 1000, // the most that one History call returns
};

// fc_room_from_wire and fc_room_message_from_wire check sizes and fill `out`; the message borrows from wire. `name` is
// the room's. ERR_PROTOCOL: a server of ours would not say that.
enum err fc_room_from_wire(const Fc__Chat__V1__Room *wire, struct fc_room *out, struct err_detail *why) ERR_CHECKED;
enum err fc_room_message_from_wire(const Fc__Chat__V1__Message *wire, const char *name, struct fc_message *out,
    struct err_detail *why) ERR_CHECKED;

#endif
