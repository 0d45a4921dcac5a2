// A room's log as this client believes it: every entry is checked before it counts, and once it counts the server has
// to stand by it.
//
// Epoch secrets come out of the log: wrapped for one of our devices, or down the ladder from a later epoch. Each is
// compared with the commitment that its epoch's entry made, so that all members have the same.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "client/fc_chat_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/chat/v1/chat.stub.h"

// epoch_row is what the log says of an epoch.
struct epoch_row {
    uint64_t epoch;
    uint8_t commitment[E2E_COMMITMENT_BYTES];
    struct bytes previous;
};

struct epoch_table {
    struct epoch_row *rows; // by epoch, from 1 on
    size_t count;
    enum err err;
};

static void
free_table(struct epoch_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        bytes_free(&table->rows[i].previous);
    }
    free(table->rows);
}

static enum err
add_epoch(struct epoch_table *table, const Fc__E2e__V1__Rekey *rekey)
{
    struct epoch_row *grown = realloc(table->rows, (table->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    table->rows = grown;
    struct epoch_row *row = &grown[table->count++];
    memset(row, 0, sizeof(*row));
    row->epoch = rekey->epoch;
    memcpy(row->commitment, rekey->commitment.data, sizeof(row->commitment));
    return bytes_append(&row->previous, bytes_view_of(rekey->previous.data, rekey->previous.len));
}

// unpack_entry parses an entry that has been checked before it was kept. NULL: no memory, or a damaged store.
static Fc__E2e__V1__RoomEntry *
unpack_entry(struct bytes_view body)
{
    return fc__e2e__v1__room_entry__unpack(NULL, body.size, body.data);
}

static bool
collect_epoch(void *context, const struct fc_store_entry *kept)
{
    struct epoch_table *table = context;
    Fc__E2e__V1__RoomEntry *entry = unpack_entry(kept->body);
    if (entry == NULL) {
        table->err = ERR_CORRUPT;
    } else if (entry->rekey != NULL) {
        table->err = add_epoch(table, entry->rekey);
    }
    if (entry != NULL) {
        fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    }
    return table->err == ERR_OK;
}

static const struct epoch_row *
find_epoch(const struct epoch_table *table, uint64_t epoch)
{
    return epoch >= 1 && epoch <= table->count ? &table->rows[epoch - 1] : NULL;
}

// keep_secret keeps a secret if it is the one that the epoch's author committed to. giver: who gave it; NULL: the
// ladder.
static enum err
keep_secret(struct fc_chat *chat, const struct fc_chat_place *place, const struct epoch_row *row, const uint8_t *giver,
    const uint8_t secret[E2E_SECRET_BYTES], struct err_detail *why)
{
    uint8_t commitment[E2E_COMMITMENT_BYTES];
    enum err err = e2e_epoch_commitment(secret, place->row.room_id, row->epoch, commitment);
    if (err != ERR_OK) {
        return err;
    }
    if (!bytes_view_equal_secret(bytes_view_of(commitment, sizeof(commitment)),
            bytes_view_of(row->commitment, sizeof(row->commitment)))) {
        const struct e2e_user *user = NULL;
        bool is_known = giver != NULL && fc_chat_user(chat, giver, 0, &user, NULL) == ERR_OK;
        fc_chat_warn(chat, "%s gave this device a wrong key for \"%s\" (epoch %llu), which is not used",
            is_known ? user->name : "somebody", place->row.name, (unsigned long long)row->epoch);
        return ERR_OK;
    }
    return fc_store_epoch_put(chat->store, place->row.room_id, row->epoch, secret, why);
}

// open_wrap keeps the secret of a wrap that is for these keys. Ids of devices are their users' choice, so that one that
// cannot be opened may be another's.
static enum err
open_wrap(struct fc_chat *chat, const struct fc_chat_place *place, const struct epoch_row *row,
    const Fc__E2e__V1__RoomEntry *entry, const Fc__E2e__V1__Wrap *wrap, const struct e2e_keys *keys,
    struct err_detail *why)
{
    uint8_t secret[E2E_SECRET_BYTES];
    if (keys == NULL || row == NULL || wrap->device_id.len != E2E_ID_BYTES ||
        memcmp(wrap->device_id.data, keys->id, E2E_ID_BYTES) != 0) {
        return ERR_OK;
    }
    enum err err = e2e_epoch_unwrap(keys->box_private, place->row.room_id, wrap->epoch,
        bytes_view_of(entry->prev_hash.data, entry->prev_hash.len), keys->id,
        bytes_view_of(wrap->enc.data, wrap->enc.len), bytes_view_of(wrap->ciphertext.data, wrap->ciphertext.len),
        secret);
    if (err == ERR_OK) {
        err = keep_secret(chat, place, row, entry->user_id.data, secret, why);
    }
    digest_wipe(secret, sizeof(secret));
    return err == ERR_CORRUPT ? ERR_OK : err;
}

// unwrap keeps the secrets that an entry has for us.
static enum err
unwrap(struct fc_chat *chat, const struct fc_chat_place *place, const struct epoch_table *table,
    const Fc__E2e__V1__RoomEntry *entry, struct err_detail *why)
{
    const struct e2e_keys *keys[] = {
        fc_identity_device(chat->identity),
        fc_identity_recovery_keys(chat->identity),
        chat->further_keys,
    };
    enum err err = ERR_OK;
    for (size_t i = 0; i < entry->n_wraps; i++) {
        const struct epoch_row *row = find_epoch(table, entry->wraps[i]->epoch);
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]) && err == ERR_OK; k++) {
            err = open_wrap(chat, place, row, entry, entry->wraps[i], keys[k], why);
        }
    }
    return err;
}

// descend follows the ladder: from each epoch whose secret is here to the one before, as far as it goes.
static enum err
descend(struct fc_chat *chat, const struct fc_chat_place *place, const struct epoch_table *table,
    struct err_detail *why)
{
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t before[E2E_SECRET_BYTES];
    enum err err = ERR_OK;
    for (size_t i = table->count; i > 1 && err == ERR_OK; i--) {
        const struct epoch_row *row = &table->rows[i - 1];
        if (row->previous.size == 0 ||
            fc_store_epoch_get(chat->store, place->row.room_id, row->epoch, secret, NULL) != ERR_OK ||
            fc_store_epoch_get(chat->store, place->row.room_id, row->epoch - 1, before, NULL) == ERR_OK) {
            continue;
        }
        err =
            e2e_epoch_open_previous(secret, place->row.room_id, row->epoch - 1, bytes_as_view(&row->previous), before);
        if (err == ERR_OK) {
            err = keep_secret(chat, place, &table->rows[i - 2], NULL, before, why);
        } else if (err == ERR_CORRUPT) {
            err = ERR_OK; // a member who spoils it spoils it for all; each entry's author is on record
        }
    }
    digest_wipe(secret, sizeof(secret));
    digest_wipe(before, sizeof(before));
    return err;
}

struct unwrap_walk {
    struct fc_chat *chat;
    const struct fc_chat_place *place;
    const struct epoch_table *table;
    enum err err;
    struct err_detail *why;
    struct bytes bodies; // of entries with wraps, each behind its size: the store is not written to while it is read
};

static bool
collect_wraps(void *context, const struct fc_store_entry *kept)
{
    struct unwrap_walk *walk = context;
    uint8_t size[4];
    bytes_store_be32(size, (uint32_t)kept->body.size);
    walk->err = bytes_append(&walk->bodies, bytes_view_of(size, sizeof(size)));
    if (walk->err == ERR_OK) {
        walk->err = bytes_append(&walk->bodies, kept->body);
    }
    return walk->err == ERR_OK;
}

// learn takes what the entries after after_seq up to log_seq, which have been kept, have for our keys.
static enum err
learn(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t after_seq, uint64_t log_seq,
    struct err_detail *why)
{
    struct epoch_table table = {0};
    struct unwrap_walk walk = {.chat = chat, .place = place, .table = &table, .why = why};
    enum err err = fc_store_room_entries(chat->store, place->row.room_id, 0, collect_epoch, &table, why);
    err = err == ERR_OK ? table.err : err;
    if (err == ERR_OK) {
        err = fc_store_room_entries(chat->store, place->row.room_id, after_seq, collect_wraps, &walk, why);
        err = err == ERR_OK ? walk.err : err;
    }
    for (size_t at = 0; at < walk.bodies.size && err == ERR_OK;) {
        uint32_t size = bytes_load_be32(walk.bodies.data + at);
        Fc__E2e__V1__RoomEntry *entry = unpack_entry(bytes_view_of(walk.bodies.data + at + 4, size));
        err = entry == NULL ? ERR_NO_MEMORY : unwrap(chat, place, &table, entry, why);
        if (entry != NULL) {
            fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
        }
        at += 4 + size;
    }
    if (err == ERR_OK) {
        err = descend(chat, place, &table, why);
    }
    if (err == ERR_OK) {
        err = fc_store_room_set_learned(chat->store, place->row.room_id, log_seq, why);
    }
    bytes_free(&walk.bodies);
    free_table(&table);
    return err;
}

static enum err
accuse(const struct fc_chat_place *place, uint64_t seq, enum err err, const struct err_detail *cause,
    struct err_detail *why)
{
    if (err == ERR_NO_MEMORY || err == ERR_UNAVAILABLE || err == ERR_TIMEOUT || err == ERR_UNTRUSTED ||
        err == ERR_INTERNAL) {
        return err_fail(why, err, "%s", err_message(cause, err));
    }
    return err_fail(why, ERR_UNTRUSTED,
        "the log of \"%s\" is not to be trusted from entry %llu on: %s. The server, or somebody in between, changes "
        "who is "
        "in the room or hides changes from you; nothing more is sent there",
        place->row.name, (unsigned long long)seq, err_message(cause, err));
}

// apply_entry checks one entry and keeps it. ERR_CONFLICT: another process has kept it meanwhile.
static enum err
apply_entry(struct fc_chat *chat, struct fc_chat_place *place, const Fc__E2e__V1__Signed *wire, struct err_detail *why)
{
    struct err_detail cause = {0};
    struct bytes packed = {0};
    enum err err = e2e_room_apply(&place->state, place->row.room_id, wire, 0, fc_chat_find_head, chat, &cause);
    if (err != ERR_OK) {
        uint64_t seq = place->state.state == NULL ? 1 : place->state.state->seq + 1;
        return accuse(place, seq, err, &cause, why);
    }
    const struct fc_store_entry entry = {
        .seq = place->state.state->seq,
        .body = bytes_view_of(wire->body.data, wire->body.len),
        .signature = bytes_view_of(wire->signature.data, wire->signature.len),
        .link_signature = bytes_view_of(wire->link_signature.data, wire->link_signature.len),
    };
    err = e2e_room_pack(&place->state, &packed);
    if (err == ERR_OK) {
        err = fc_store_room_append(chat->store, place->row.room_id, &entry, bytes_as_view(&packed), why);
    }
    bytes_free(&packed);
    return err;
}

static enum err
apply_page(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__GetLogResponse *page,
    struct err_detail *why)
{
    uint64_t before = place->state.state == NULL ? 0 : place->state.state->seq;
    enum err err = ERR_OK;
    if (page->head_seq < before) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server shows an older log of \"%s\" than before (%llu entries, and there were %llu): it takes changes "
            "back, or was restored from a backup; nothing more is sent there",
            place->row.name, (unsigned long long)page->head_seq, (unsigned long long)before);
    }
    for (size_t i = 0; i < page->n_entries && err == ERR_OK; i++) {
        err = apply_entry(chat, place, page->entries[i], why);
    }
    if (err == ERR_OK && page->n_entries == 0 && page->head_seq > before) {
        err = err_fail(why, ERR_UNTRUSTED, "the server keeps back the log of \"%s\" after entry %llu", place->row.name,
            (unsigned long long)before);
    }
    return err;
}

static enum err
fetch_page(struct fc_chat *chat, struct fc_chat_place *place, bool *is_behind_out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__GetLogResponse *page = NULL;
    Fc__Chat__V1__GetLogRequest request = FC__CHAT__V1__GET_LOG_REQUEST__INIT;
    if (chat->further_keys != NULL) {
        request.link_id = fc_lend(chat->further_keys->id, E2E_ID_BYTES);
    } else {
        request.room = place->id_text;
    }
    request.after_seq = place->state.state == NULL ? 0 : place->state.state->seq;
    fc_chat_start_call(chat, &call);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_get_log(&call, &request, &page), why);
    err = fc_chat_note_gone(chat, place, err, why);
    if (err == ERR_OK) {
        err = apply_page(chat, place, page, why);
        *is_behind_out = err == ERR_OK && place->state.state != NULL && place->state.state->seq < page->head_seq;
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
sync_log(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    bool is_behind = true;
    unsigned attempts = 0;
    enum err err = ERR_OK;
    while (is_behind && err == ERR_OK) {
        err = fetch_page(chat, place, &is_behind, why);
        if (err == ERR_CONFLICT && ++attempts < FC_CHAT_ATTEMPTS) {
            err = fc_chat_reload(chat, place, why);
            is_behind = true;
        }
    }
    if (err != ERR_OK) {
        // What was applied and not kept does not count.
        struct fc_store_room row = place->row;
        if (fc_chat_reload(chat, place, NULL) != ERR_OK) {
            place->row = row;
        }
        return err;
    }
    uint64_t after = place->state.state == NULL ? 0 : place->state.state->seq;
    bool has_more_keys = chat->further_keys != NULL || fc_identity_recovery_keys(chat->identity) != NULL;
    place->row.log_seq = after;
    if (after == place->row.learned_seq && !has_more_keys) {
        return ERR_OK;
    }
    err = learn(chat, place, has_more_keys ? 0 : place->row.learned_seq, after, why);
    if (err == ERR_OK) {
        place->row.learned_seq = after;
        err = fc_chat_open_waiting(chat, place, why);
    }
    return err;
}

// get_secret reads a secret, also one that another of our processes has the entry of and has not taken out of it yet,
// or ended before it did. ERR_NOT_FOUND.
static enum err
get_secret(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t epoch,
    uint8_t secret_out[E2E_SECRET_BYTES], struct err_detail *why)
{
    struct fc_store_room row;
    enum err err = fc_store_epoch_get(chat->store, place->row.room_id, epoch, secret_out, why);
    if (err != ERR_NOT_FOUND || fc_store_room_get(chat->store, place->row.room_id, &row, why) != ERR_OK ||
        row.learned_seq >= row.log_seq) {
        return err;
    }
    err = learn(chat, place, row.learned_seq, row.log_seq, why);
    return err == ERR_OK ? fc_store_epoch_get(chat->store, place->row.room_id, epoch, secret_out, why) : err;
}

enum err
fc_chat_sync_log(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct err_detail detail = {0};
    enum err err = sync_log(chat, place, &detail);
    if (err == ERR_OK) {
        err = fc_chat_keep_name(chat, place, &detail);
    }
    if (why != NULL && err != ERR_OK) {
        *why = detail;
    }
    return fc_chat_judge(chat, place, FC_CHAT_DOUBT_SYNC, err, &detail);
}

enum err
fc_chat_epoch_secret(struct fc_chat *chat, const struct fc_chat_place *place, uint64_t epoch,
    uint8_t secret_out[E2E_SECRET_BYTES], struct err_detail *why)
{
    if (epoch != 0 && chat->last_secret.epoch == epoch &&
        memcmp(chat->last_secret.room_id, place->row.room_id, E2E_ID_BYTES) == 0) {
        memcpy(secret_out, chat->last_secret.secret, E2E_SECRET_BYTES);
        return ERR_OK;
    }
    enum err err = get_secret(chat, place, epoch, secret_out, why);
    if (err == ERR_OK) {
        memcpy(chat->last_secret.room_id, place->row.room_id, E2E_ID_BYTES);
        memcpy(chat->last_secret.secret, secret_out, E2E_SECRET_BYTES);
        chat->last_secret.epoch = epoch;
    }
    if (err == ERR_NOT_FOUND) {
        return err_fail(why, ERR_NO_KEY,
            "this device has no key of \"%s\" for epoch %llu yet; any other device of yours gives it with fc device "
            "add, "
            "or fc recover with the recovery key",
            place->row.name, (unsigned long long)epoch);
    }
    return err;
}

struct log_search {
    struct bytes_view wanted; // a hash, or a user's id
    bool is_found;
};

static bool
match_hash(void *context, const struct fc_store_entry *kept)
{
    struct log_search *search = context;
    uint8_t hash[E2E_HASH_BYTES];
    search->is_found = e2e_room_entry_hash(kept->body, hash) == ERR_OK &&
                       bytes_view_equal(bytes_view_of(hash, sizeof(hash)), search->wanted);
    return !search->is_found;
}

enum err
fc_chat_log_has(struct fc_chat *chat, struct fc_chat_place *place, struct bytes_view hash, bool *has_out,
    struct err_detail *why)
{
    struct log_search search = {.wanted = hash};
    const Fc__E2e__V1__RoomState *state = place->state.state;
    if ((state != NULL && bytes_view_equal(bytes_view_of(state->head_hash.data, state->head_hash.len), hash)) ||
        bytes_view_equal(bytes_view_of(place->known_head, sizeof(place->known_head)), hash)) {
        *has_out = true;
        return ERR_OK;
    }
    enum err err = fc_store_room_entries(chat->store, place->row.room_id, 0, match_hash, &search, why);
    if (err == ERR_OK && search.is_found) {
        memcpy(place->known_head, hash.data, sizeof(place->known_head));
    }
    *has_out = search.is_found;
    return err;
}

// match_user looks for entries by a user, or that add one: nobody has been a member without either.
static bool
match_user(void *context, const struct fc_store_entry *kept)
{
    struct log_search *search = context;
    Fc__E2e__V1__RoomEntry *entry = unpack_entry(kept->body);
    if (entry == NULL) {
        return true;
    }
    search->is_found = bytes_view_equal(bytes_view_of(entry->user_id.data, entry->user_id.len), search->wanted);
    for (size_t i = 0; i < entry->n_changes && !search->is_found; i++) {
        const Fc__E2e__V1__RoomChange *change = entry->changes[i];
        search->is_found =
            change->kind_case == FC__E2E__V1__ROOM_CHANGE__KIND_ADD_MEMBER && !change->add_member->is_invited &&
            bytes_view_equal(bytes_view_of(change->add_member->user_id.data, change->add_member->user_id.len),
                search->wanted);
    }
    fc__e2e__v1__room_entry__free_unpacked(entry, NULL);
    return !search->is_found;
}

enum err
fc_chat_log_names(struct fc_chat *chat, const struct fc_chat_place *place, const uint8_t user_id[E2E_ID_BYTES],
    bool *names_out, struct err_detail *why)
{
    struct log_search search = {.wanted = bytes_view_of(user_id, E2E_ID_BYTES)};
    *names_out = e2e_room_is_member(&place->state, user_id);
    if (*names_out) {
        return ERR_OK;
    }
    enum err err = fc_store_room_entries(chat->store, place->row.room_id, 0, match_user, &search, why);
    *names_out = search.is_found;
    return err;
}
