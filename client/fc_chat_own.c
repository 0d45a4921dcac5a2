// What a server has acknowledged, it has to show: the own messages under the numbers that it gave them, the own entries
// in the log.
#include <stdio.h>
#include <string.h>

#include "client/fc_chat_priv.h"

enum {
    NOTE_NAME_MAX_BYTES = 64,
    SENT_BYTES = 8 + E2E_ID_BYTES, // seq ‖ message_id
    // Messages sent and not fetched yet that are remembered; of more the oldest are forgotten.
    SENT_MAX = 1000,
};

static void
name_note(const struct fc_chat_place *place, char out[NOTE_NAME_MAX_BYTES])
{
    (void)snprintf(out, NOTE_NAME_MAX_BYTES, "sent %s", place->id_text);
}

static enum err
read_sent(struct fc_chat *chat, const struct fc_chat_place *place, struct bytes *out, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    name_note(place, name);
    enum err err = fc_store_note_get(chat->store, name, out, why);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
write_sent(struct fc_chat *chat, const struct fc_chat_place *place, const struct bytes *sent, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    name_note(place, name);
    return fc_store_note_put(chat->store, name, bytes_as_view(sent), why);
}

static void
cut(struct bytes *sent, size_t at)
{
    memmove(sent->data + at, sent->data + at + SENT_BYTES, sent->size - at - SENT_BYTES);
    sent->size -= SENT_BYTES;
}

static enum err
fail_message(const struct fc_chat_place *place, uint64_t seq, struct err_detail *why)
{
    return err_fail(why, ERR_UNTRUSTED,
        "the server acknowledged a message of yours as number %llu of \"%s\" and shows another one there",
        (unsigned long long)seq, place->row.name);
}

static bool
compare_id(void *context, const struct fc_store_message *message)
{
    const uint8_t **id = context; // NULL when it is the same
    if (memcmp(message->message_id, *id, E2E_ID_BYTES) == 0) {
        *id = NULL;
    }
    return false;
}

enum err
fc_chat_own_note(struct fc_chat *chat, struct fc_chat_place *place, uint64_t seq,
    const uint8_t message_id[E2E_ID_BYTES], struct err_detail *why)
{
    uint8_t number[8];
    struct bytes sent = {0};
    if (place->row.is_plain) {
        return ERR_OK;
    }
    enum err err = fc_chat_reload(chat, place, why);
    if (err == ERR_OK && seq <= place->row.synced_seq) {
        // A follower was faster than the answer.
        const uint8_t *id = message_id;
        err = fc_store_messages_get(chat->store, place->row.room_id, seq, compare_id, &id, why);
        return err == ERR_OK && id != NULL ? fail_message(place, seq, why) : err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    if (err == ERR_OK) {
        err = read_sent(chat, place, &sent, why);
    }
    if (err == ERR_OK && sent.size >= (size_t)SENT_MAX * SENT_BYTES) {
        cut(&sent, 0);
    }
    bytes_store_be64(number, seq);
    if (err == ERR_OK) {
        err = bytes_append(&sent, bytes_view_of(number, sizeof(number)));
    }
    if (err == ERR_OK) {
        err = bytes_append(&sent, bytes_view_of(message_id, E2E_ID_BYTES));
    }
    if (err == ERR_OK) {
        err = write_sent(chat, place, &sent, why);
    }
    bytes_free(&sent);
    // It is there now, whatever the server says later.
    return err == ERR_OK ? fc_store_room_set_head(chat->store, place->row.room_id, seq, why) : err;
}

enum err
fc_chat_own_check(struct fc_chat *chat, const struct fc_chat_place *place, const struct fc_chat_opened *opened,
    size_t count, struct err_detail *why)
{
    struct bytes sent = {0};
    if (place->row.is_plain) {
        return ERR_OK;
    }
    enum err err = read_sent(chat, place, &sent, why);
    size_t size = sent.size;
    uint64_t first_seq = opened[0].message.seq;
    for (size_t at = 0; err == ERR_OK && at + SENT_BYTES <= sent.size;) {
        uint64_t seq = bytes_load_be64(sent.data + at);
        if (seq < first_seq || seq - first_seq >= count) {
            at += SENT_BYTES;
            continue;
        }
        if (memcmp(opened[seq - first_seq].message.message_id, sent.data + at + 8, E2E_ID_BYTES) != 0) {
            err = fail_message(place, seq, why);
        }
        cut(&sent, at);
    }
    if (err == ERR_OK && sent.size != size) {
        err = write_sent(chat, place, &sent, why);
    }
    bytes_free(&sent);
    return err;
}

enum err
fc_chat_own_entry_check(struct fc_chat *chat, struct fc_chat_place *place, const uint8_t hash[E2E_HASH_BYTES],
    struct err_detail *why)
{
    bool has_it = false;
    struct err_detail detail = {0};
    enum err err = fc_chat_sync_log(chat, place, &detail);
    if (err == ERR_OK) {
        err = fc_chat_log_has(chat, place, bytes_view_of(hash, E2E_HASH_BYTES), &has_it, &detail);
    }
    if (err == ERR_OK && !has_it) {
        err = err_fail(&detail, ERR_UNTRUSTED,
            "the server acknowledged your change of \"%s\", and the log that it shows has none of it", place->row.name);
    }
    if (why != NULL && err != ERR_OK) {
        *why = detail;
    }
    return fc_chat_judge(chat, place, FC_CHAT_DOUBT_SYNC, err, &detail);
}
