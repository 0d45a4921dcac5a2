// What waits to be sent, for people to see.
#include "client/fc_chat_priv.h"

static enum err
tell(struct fc_chat *chat, const struct fc_store_outgoing *outgoing,
    bool (*fn)(void *context, const struct fc_chat_queued *queued), void *context, bool *goes_on_out,
    struct err_detail *why)
{
    struct fc_store_room room;
    enum err err = ERR_NOT_FOUND;
    if (outgoing->has_room_id) {
        err = fc_store_room_get(chat->store, outgoing->room_id, &room, why);
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    const struct fc_chat_queued queued = {
        .room = err == ERR_OK ? room.name : outgoing->room_name,
        .message_id = outgoing->message_id,
        .created_unix_ms = outgoing->created_ms,
        .last_error = outgoing->last_error != NULL ? outgoing->last_error : "",
    };
    *goes_on_out = fn(context, &queued);
    return ERR_OK;
}

enum err
fc_chat_each_queued(struct fc_chat *chat, bool (*fn)(void *context, const struct fc_chat_queued *queued), void *context,
    struct err_detail *why)
{
    bool goes_on = true;
    int64_t position = 0;
    enum err err = ERR_OK;
    fc_chat_lock(chat);
    while (err == ERR_OK && goes_on) {
        struct fc_store_outgoing outgoing = {0};
        err = fc_store_outbox_next(chat->store, position, &outgoing, why);
        if (err == ERR_NOT_FOUND) {
            err = ERR_OK;
            break;
        }
        if (err == ERR_OK) {
            position = outgoing.position;
            err = tell(chat, &outgoing, fn, context, &goes_on, why);
        }
        fc_store_outgoing_deinit(&outgoing);
    }
    fc_chat_unlock(chat);
    return err;
}
