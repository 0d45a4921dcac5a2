// For the sources of the Chat service only: its structs as protobuf messages.
#ifndef CHAT_CHAT_WIRE_H
#define CHAT_CHAT_WIRE_H

#include "base/bytes.h"
#include "base/err.h"
#include "services/chat/chat_core.h"
#include "services/chat/chat_messages.h"

#include "fc/chat/v1/chat.pb-c.h"

// chat_wire_room and chat_wire_message fill `out` so that it borrows from the struct. file_storage becomes the
// message's announcement if it has one.
void chat_wire_room(const struct chat_room *room, Fc__Chat__V1__Room *out);
void chat_wire_message(const struct chat_message *message, Fc__Chat__V1__Message *out,
    Fc__Chat__V1__FileAnnouncement *file_storage);

// chat_wire_rooms makes `*out` an array of protobuf rooms that borrow from rooms; one free gives it back.
// ERR_NO_MEMORY.
enum err chat_wire_rooms(const struct chat_room *rooms, size_t count, Fc__Chat__V1__Room ***out) ERR_CHECKED;

// chat_wire_append_event encodes an EventBatch of one event at the end of out.
enum err chat_wire_append_event(struct bytes *out, Fc__Chat__V1__Event *event) ERR_CHECKED;

#endif
