// The key of one message, for those who are told of it.
#include "base/digest.h"
#include "client/fc_chat_priv.h"

_Static_assert((int)FC_CHAT_MESSAGE_KEY_BYTES == (int)E2E_MESSAGE_KEY_BYTES, "the public size is the real one");

struct sealed_copy {
    uint64_t seq;
    bool is_found;
    struct bytes sealed; // empty: deleted
    enum err err;
};

static bool
copy_sealed(void *context, const struct fc_message *message)
{
    struct sealed_copy *copy = context;
    const Fc__Chat__V1__Message *wire = message->wire;
    if (message->seq == copy->seq && wire != NULL) {
        copy->is_found = true;
        copy->err = bytes_append(&copy->sealed, bytes_view_of(wire->sealed.data, wire->sealed.len));
    }
    return false;
}

static enum err
derive_key(struct fc_chat *chat, const struct fc_chat_place *place, struct bytes_view sealed,
    uint8_t key_out[FC_CHAT_MESSAGE_KEY_BYTES], struct err_detail *why)
{
    struct e2e_message message = {0};
    uint8_t secret[E2E_SECRET_BYTES];
    enum err err = e2e_message_parse(sealed, &message, why);
    if (err != ERR_OK) {
        return err;
    }
    err = fc_chat_epoch_secret(chat, place, message.header->epoch, secret, why);
    if (err == ERR_OK) {
        err = e2e_message_key(&message, secret, key_out);
        digest_wipe(secret, sizeof(secret));
    }
    e2e_message_deinit(&message);
    return err;
}

enum err
fc_chat_message_key(struct fc_chat *chat, const char *room, uint64_t seq, uint8_t key_out[FC_CHAT_MESSAGE_KEY_BYTES],
    struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    struct sealed_copy copy = {.seq = seq};
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK && place->row.is_plain) {
        err = err_fail(why, ERR_PRECONDITION, "\"%s\" is not encrypted, so that its messages have no keys", room);
    }
    if (err == ERR_OK) {
        err = fc_chat_sync_log(chat, place, why); // which brings the keys
    }
    if (err == ERR_OK) {
        err = fc_room_history(chat->session, place->id_text, seq > 0 ? seq - 1 : 0, 1, false, copy_sealed, &copy, why);
    }
    err = err == ERR_OK ? copy.err : err;
    if (err == ERR_OK && !copy.is_found) {
        err = err_fail(why, ERR_NOT_FOUND, "there is no message #%llu in \"%s\"", (unsigned long long)seq, room);
    } else if (err == ERR_OK && copy.sealed.size == 0) {
        err = err_fail(why, ERR_NOT_FOUND, "message #%llu of \"%s\" is deleted", (unsigned long long)seq, room);
    }
    if (err == ERR_OK) {
        err = derive_key(chat, place, bytes_as_view(&copy.sealed), key_out, why);
    }
    fc_chat_unlock(chat);
    bytes_free(&copy.sealed);
    return err;
}
