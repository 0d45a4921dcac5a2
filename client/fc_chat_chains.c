// The newest places of a room's message chain, kept from one process to the next: senders say what they had seen, which
// may be a while ago, and what is compared has to be here.
#include <stdio.h>
#include <string.h>

#include "client/fc_chat_priv.h"

enum {
    NOTE_NAME_MAX_BYTES = 64,
    SAVED = 64,
};

static void
name_note(const struct fc_chat_place *place, char out[NOTE_NAME_MAX_BYTES])
{
    (void)snprintf(out, NOTE_NAME_MAX_BYTES, "chains %s", place->id_text);
}

enum err
fc_chat_chains_save(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t last_seq, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    uint8_t number[8];
    struct bytes note = {0};
    if (place->row.is_plain) {
        return ERR_OK;
    }
    uint64_t first = last_seq >= SAVED ? last_seq + 1 - SAVED : 0;
    first = first < place->chain_first ? place->chain_first : first;
    name_note(place, name);
    bytes_store_be64(number, first);
    enum err err = bytes_append(&note, bytes_view_of(number, sizeof(number)));
    for (uint64_t seq = first; seq <= last_seq && err == ERR_OK; seq++) {
        err = bytes_append(&note, bytes_view_of(place->chains[seq % FC_CHAT_CHAINS_KEPT], E2E_HASH_BYTES));
    }
    if (err == ERR_OK) {
        err = fc_store_note_put(chat->store, name, bytes_as_view(&note), why);
    }
    bytes_free(&note);
    return err;
}

enum err
fc_chat_chains_load(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    char name[NOTE_NAME_MAX_BYTES];
    struct bytes note = {0};
    uint64_t synced = place->row.synced_seq;
    memcpy(place->chains[synced % FC_CHAT_CHAINS_KEPT], place->row.chain, E2E_HASH_BYTES);
    place->chain_first = synced;
    name_note(place, name);
    enum err err = fc_store_note_get(chat->store, name, &note, why);
    size_t count = note.size < 8 ? 0 : (note.size - 8) / E2E_HASH_BYTES;
    // Another version of this program may have moved on without it.
    if (err == ERR_OK && count > 0 && count <= SAVED && bytes_load_be64(note.data) + count == synced + 1 &&
        memcmp(note.data + 8 + (count - 1) * E2E_HASH_BYTES, place->row.chain, E2E_HASH_BYTES) == 0) {
        place->chain_first = bytes_load_be64(note.data);
        for (size_t i = 0; i < count; i++) {
            memcpy(place->chains[(place->chain_first + i) % FC_CHAT_CHAINS_KEPT], note.data + 8 + i * E2E_HASH_BYTES,
                E2E_HASH_BYTES);
        }
    }
    bytes_free(&note);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
