// The structs of the Chat service as protobuf messages.
#include "services/chat/chat_wire.h"

#include <stdlib.h>

_Static_assert((int)CHAT_MESSAGE_UNREACTION == (int)FC__CHAT__V1__MESSAGE_TYPE__UNREACTION, "types have equal numbers");

// borrow_bytes and borrow_text lend to protobuf-c, whose structs have no const: what is only packed is not written to.
static ProtobufCBinaryData
borrow_bytes(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static char *
borrow_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

void
chat_wire_room(const struct chat_room *room, Fc__Chat__V1__Room *out)
{
    fc__chat__v1__room__init(out);
    out->id = borrow_bytes(room->id, sizeof(room->id));
    out->name = borrow_text(room->name);
    out->head_seq = room->head_seq;
    out->is_member = room->is_member;
    out->member_count = room->member_count;
    out->is_plain = room->is_plain;
    out->created_at_ms = room->created_at_ms;
    out->kind = room->kind;
    out->topic = borrow_text(room->topic);
    out->role = room->role;
    out->is_invited = room->is_invited;
    out->is_archived = room->is_archived;
    out->read_seq = room->read_seq;
    out->log_seq = room->log_seq;
    out->log_hash = borrow_bytes(room->log_hash, room->is_plain ? 0 : sizeof(room->log_hash));
    out->unread_count = room->unread_count;
    out->mention_count = room->mention_count;
    out->history = room->history;
}

enum err
chat_wire_rooms(const struct chat_room *rooms, size_t count, Fc__Chat__V1__Room ***out)
{
    Fc__Chat__V1__Room **pointers = malloc(count * (sizeof(void *) + sizeof(Fc__Chat__V1__Room)) + 1);
    if (pointers == NULL) {
        return ERR_NO_MEMORY;
    }
    Fc__Chat__V1__Room *structs = (Fc__Chat__V1__Room *)(void *)(pointers + count);
    for (size_t i = 0; i < count; i++) {
        chat_wire_room(&rooms[i], &structs[i]);
        pointers[i] = &structs[i];
    }
    *out = pointers;
    return ERR_OK;
}

static void
wire_file(const struct chat_file *file, Fc__Chat__V1__FileAnnouncement *out)
{
    fc__chat__v1__file_announcement__init(out);
    out->file_id = borrow_bytes(file->file_id, sizeof(file->file_id));
    out->name = borrow_text(file->name);
    out->size_bytes = file->size_bytes;
    out->md5 = borrow_bytes(file->md5, sizeof(file->md5));
    out->mime_type = borrow_text(file->mime_type);
    out->width_px = file->width_px;
    out->height_px = file->height_px;
    out->preview = borrow_bytes(file->preview.data, file->preview.size);
}

void
chat_wire_message(const struct chat_message *message, Fc__Chat__V1__Message *out,
    Fc__Chat__V1__FileAnnouncement *file_storage)
{
    fc__chat__v1__message__init(out);
    out->room_id = borrow_bytes(message->room_id, CHAT_ID_BYTES);
    out->seq = message->seq;
    out->id = borrow_bytes(message->id, CHAT_ID_BYTES);
    out->sender_id = borrow_bytes(message->sender_id, CHAT_ID_BYTES);
    out->sender = borrow_text(message->sender);
    out->sent_at_ms = message->sent_at_ms;
    if (message->chain.size > 0) {
        out->sealed = borrow_bytes(message->sealed.data, message->sealed.size);
        out->sealed_hash = borrow_bytes(message->sealed_hash.data, message->sealed_hash.size);
        out->chain = borrow_bytes(message->chain.data, message->chain.size);
        out->is_deleted = message->is_deleted;
        return;
    }
    out->type = (Fc__Chat__V1__MessageType)message->type;
    out->text = borrow_text(message->text);
    out->target_seq = message->target_seq;
    out->reply_to_seq = message->reply_to_seq;
    out->n_mentions = message->mention_count;
    out->mentions = (char **)(uintptr_t)message->mentions;
    out->topic = borrow_text(message->topic);
    out->edited_at_ms = message->edited_at_ms;
    out->is_deleted = message->is_deleted;
    if (message->file != NULL) {
        wire_file(message->file, file_storage);
        out->file = file_storage;
    }
}

enum err
chat_wire_append_event(struct bytes *out, Fc__Chat__V1__Event *event)
{
    Fc__Chat__V1__EventBatch batch = FC__CHAT__V1__EVENT_BATCH__INIT;
    batch.n_events = 1;
    batch.events = &event;
    size_t size = fc__chat__v1__event_batch__get_packed_size(&batch);
    enum err err = bytes_reserve(out, size);
    if (err != ERR_OK) {
        return err;
    }
    out->size += fc__chat__v1__event_batch__pack(&batch, out->data + out->size);
    return ERR_OK;
}
