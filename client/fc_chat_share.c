// What a device that has been let in gets from the rooms of its account.
//
// The device itself, when it came in by the recovery key, opens what the log has wrapped for that key. For another
// device this one adds wraps to each room's log: of the present epoch, and where the ladder does not lead further back,
// of all that are known here.
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "client/fc_chat_entry_priv.h"
#include "client/fc_chat_priv.h"

struct encrypted_rooms {
    uint8_t (*ids)[E2E_ID_BYTES];
    size_t count;
    enum err err;
};

static bool
collect(void *context, const struct fc_store_room *row)
{
    struct encrypted_rooms *rooms = context;
    if (row->is_plain || !row->is_member) {
        return true;
    }
    void *grown = realloc(rooms->ids, (rooms->count + 1) * sizeof(*rooms->ids));
    if (grown == NULL) {
        rooms->err = ERR_NO_MEMORY;
        return false;
    }
    rooms->ids = grown;
    memcpy(rooms->ids[rooms->count++], row->room_id, E2E_ID_BYTES);
    return true;
}

static enum err
wrap_for(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place,
    const struct e2e_device *device, uint64_t epoch)
{
    uint8_t secret[E2E_SECRET_BYTES];
    enum err err = fc_chat_epoch_secret(chat, place, epoch, secret, NULL);
    if (err == ERR_NO_KEY) {
        return ERR_OK; // from before this account was in the room
    }
    if (err == ERR_OK) {
        err = fc_chat_entry_wrap_device(entry, device->id, device->box_key, epoch, secret);
    }
    digest_wipe(secret, sizeof(secret));
    return err;
}

static enum err
write_wraps(struct fc_chat *chat, struct fc_chat_entry *entry, const struct fc_chat_place *place, const void *context,
    struct err_detail *why)
{
    const struct e2e_device *device = context;
    uint64_t epoch = place->state.state->epoch;
    enum err err = ERR_OK;
    (void)why;
    if (place->state.state->is_rekey_needed) {
        return ERR_OK; // the rekey that comes with the entry is for this device too
    }
    for (uint64_t at = place->state.state->history == FC__E2E__V1__HISTORY__HISTORY_ALL ? epoch : 1;
         at <= epoch && err == ERR_OK; at++) {
        err = wrap_for(chat, entry, place, device, at);
    }
    return err;
}

static enum err
share_room(struct fc_chat *chat, const uint8_t room_id[E2E_ID_BYTES], const struct e2e_device *device, bool is_own,
    struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    enum err err = fc_chat_get_place(chat, room_id, &place, why);
    if (err == ERR_OK && is_own) {
        return fc_chat_sync_log(chat, place, why);
    }
    return err == ERR_OK ? fc_chat_amend_log(chat, place, write_wraps, device, false, why) : err;
}

enum err
fc_identity_share(struct fc_identity *identity, const struct e2e_device *device, struct err_detail *why)
{
    struct fc_chat *chat = NULL;
    struct encrypted_rooms rooms = {0};
    const struct e2e_keys *own = fc_identity_device(identity);
    bool is_own = own != NULL && memcmp(own->id, device->id, E2E_ID_BYTES) == 0;
    enum err err = fc_chat_lend(identity, &chat);
    if (err == ERR_OK) {
        err = fc_chat_refresh(chat, why);
    }
    if (err == ERR_OK) {
        err = fc_store_room_each(chat->store, collect, &rooms, why);
        err = err == ERR_OK ? rooms.err : err;
    }
    for (size_t i = 0; i < rooms.count && err == ERR_OK; i++) {
        struct err_detail cause = {0};
        err = share_room(chat, rooms.ids[i], device, is_own, &cause);
        if (err != ERR_OK && err != ERR_NO_MEMORY && err != ERR_UNAVAILABLE) {
            // One room with trouble of its own does not keep the device from the others.
            fc_chat_warn(chat, "the new device gets no key of one room: %s", err_message(&cause, err));
            err = ERR_OK;
        } else if (err != ERR_OK && why != NULL) {
            *why = cause;
        }
    }
    free(rooms.ids);
    fc_chat_close(&chat);
    return err;
}
