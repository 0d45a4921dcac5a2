// Reading logs and states, and applying entries. What an entry changes in the tables: chat_draft.c.
#include "services/chat/chat_log.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "e2e/e2e_wire.h"
#include "services/chat/chat_plain.h"
#include "services/chat/chat_rows.h"

static struct store_value
bytes_or_null(const uint8_t *data, size_t size)
{
    return size == 0 ? store_null() : store_blob(data, size);
}

enum err
chat_log_read_state(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], struct e2e_room *out)
{
    struct store_rows *rows = NULL;
    enum err err =
        store_query(tx, "SELECT state FROM chat_rooms WHERE room_id = $1", STORE_ARGS(chat_rows_id(room_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK && !store_rows_is_null(rows, 0)) {
        err = e2e_room_unpack(out, store_rows_blob(rows, 0));
    }
    store_rows_free(&rows);
    return err;
}

static enum err
insert_entry(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t seq, struct bytes_view body,
    const Fc__E2e__V1__Signed *wire)
{
    return store_exec(tx,
        "INSERT INTO chat_log (room_id, seq, body, signature, link_signature) VALUES ($1, $2, $3, $4, $5)",
        STORE_ARGS(chat_rows_id(room_id), store_int((int64_t)seq), store_blob(body.data, body.size),
            wire == NULL ? store_null() : bytes_or_null(wire->signature.data, wire->signature.len),
            wire == NULL ? store_null() : bytes_or_null(wire->link_signature.data, wire->link_signature.len)),
        NULL);
}

static enum err
append_plain(struct e2e_room *room, const struct chat_change *change, const Fc__E2e__V1__RoomEntry *entry)
{
    struct bytes body = {0};
    enum err err = e2e_room_apply_plain(room, entry, clock_unix_ms(), change->why);
    if (err == ERR_OK) {
        err = e2e_wire_append(&entry->base, &body);
    }
    if (err == ERR_OK) {
        err = insert_entry(change->tx, entry->room_id.data, entry->seq, bytes_as_view(&body), NULL);
    }
    bytes_free(&body);
    return err;
}

enum err
chat_draft_append_plain(struct chat_draft *draft, const struct chat_change *change, const Fc__E2e__V1__RoomEntry *entry)
{
    enum err err = append_plain(&draft->after, change, entry);
    if (err == ERR_OK) {
        draft->appended_seq = entry->seq;
    }
    return err;
}

enum err
chat_draft_append_signed(struct chat_draft *draft, const struct chat_change *change,
    const uint8_t room_id[CHAT_ID_BYTES], const Fc__E2e__V1__Signed *wire)
{
    struct chat_chains chains = {.people = change->people, .tx = change->tx};
    enum err err =
        e2e_room_apply(&draft->after, room_id, wire, clock_unix_ms(), chat_chains_find, &chains, change->why);
    chat_chains_deinit(&chains);
    // What the entry names or how it is signed is its author's mistake, not a missing room or a damaged database.
    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT || err == ERR_TOO_BIG) {
        err = ERR_INVALID;
    }
    if (err == ERR_OK) {
        draft->appended_seq = draft->after.state->seq;
        err = insert_entry(change->tx, room_id, draft->appended_seq, bytes_view_of(wire->body.data, wire->body.len),
            wire);
    }
    return err;
}

// --- Rooms of before there were logs -------------------------------------------------------------------------------

// One of those who are in such a room.
struct old_member {
    uint8_t id[CHAT_ID_BYTES];
    char name[TEXT_USER_NAME_MAX_BYTES + 1];
    bool is_owner;
};

struct old_room {
    uint8_t id[CHAT_ID_BYTES];
    char name[TEXT_ROOM_NAME_MAX_BYTES + 1];
    uint8_t creator_id[CHAT_ID_BYTES];
    struct old_member *members; // owned
    size_t count;
    size_t author; // whose name the log begins with
};

static enum err
read_old_creator(struct store_tx *tx, struct old_room *old)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT r.name, l.user_id FROM chat_rooms r LEFT JOIN chat_membership_log l"
        " ON l.room_id = r.room_id AND l.change = 'create' WHERE r.room_id = $1",
        STORE_ARGS(chat_rows_id(old->id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        chat_rows_copy_text(old->name, sizeof(old->name), store_rows_text(rows, 0));
        if (!store_rows_is_null(rows, 1)) {
            err = chat_rows_read_fixed(rows, 1, old->creator_id, sizeof(old->creator_id));
        }
    }
    store_rows_free(&rows);
    return err;
}

static enum err
read_old_members(struct store_tx *tx, struct old_room *old)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT user_id, user_name, is_owner FROM chat_members WHERE room_id = $1 ORDER BY joined_at_ms, user_id",
        STORE_ARGS(chat_rows_id(old->id)), &rows);
    size_t capacity = 0;
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK && old->count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            struct old_member *members = realloc(old->members, capacity * sizeof(*members));
            if (members == NULL) {
                err = ERR_NO_MEMORY;
                break;
            }
            old->members = members;
        }
        if (err == ERR_OK) {
            struct old_member *member = &old->members[old->count++];
            err = chat_rows_read_fixed(rows, 0, member->id, sizeof(member->id));
            chat_rows_copy_text(member->name, sizeof(member->name), store_rows_text(rows, 1));
            member->is_owner = store_rows_int(rows, 2) != 0;
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// write_old_entry writes the next entry: the first makes the room, all add as many members as fit.
static enum err
write_old_entry(const struct chat_change *change, const struct old_room *old, size_t *next, struct e2e_room *room)
{
    struct chat_plain plain;
    const struct old_member *author = old->count == 0 ? NULL : &old->members[old->author];
    bool is_first = room->state == NULL;
    chat_plain_init(&plain, room, old->id, author == NULL ? old->creator_id : author->id);
    if (is_first) {
        chat_plain_create(&plain, old->name, FC__E2E__V1__ROOM_KIND__PUBLIC);
        if (author == NULL) {
            chat_plain_remove(&plain, old->creator_id); // the last one has left
        } else {
            chat_plain_add(&plain, &(struct chat_user){.id = author->id, .name = author->name},
                FC__E2E__V1__ROLE__OWNER, false);
        }
    }
    while (*next < old->count && plain.entry.n_changes < E2E_ROOM_CHANGES_MAX) {
        const struct old_member *member = &old->members[*next];
        if (*next != old->author) {
            chat_plain_add(&plain, &(struct chat_user){.id = member->id, .name = member->name},
                member->is_owner ? FC__E2E__V1__ROLE__OWNER : FC__E2E__V1__ROLE__MEMBER, false);
        }
        (*next)++;
    }
    enum err err = chat_plain_finish(&plain, change->why);
    if (err == ERR_OK && plain.entry.n_changes > 0) {
        err = append_plain(room, change, &plain.entry);
    }
    chat_plain_deinit(&plain);
    return err;
}

// Without an owner the one who has been in the room longest becomes it.
static enum err
choose_author(const struct chat_change *change, struct old_room *old)
{
    for (size_t i = 0; i < old->count; i++) {
        if (old->members[i].is_owner) {
            old->author = i;
            return ERR_OK;
        }
    }
    return old->count == 0 ? ERR_OK
                           : store_exec(change->tx,
                                 "UPDATE chat_members SET role = 3, is_owner = 1 WHERE room_id = $1 AND user_id = $2",
                                 STORE_ARGS(chat_rows_id(old->id), chat_rows_id(old->members[0].id)), NULL);
}

// begin_log makes the log of a room that has none, so that it leads to the members that the room has.
static enum err
begin_log(const struct chat_change *change, const uint8_t room_id[CHAT_ID_BYTES], struct e2e_room *room)
{
    struct old_room old = {0};
    size_t next = 0;
    memcpy(old.id, room_id, sizeof(old.id));
    enum err err = read_old_creator(change->tx, &old);
    if (err == ERR_OK) {
        err = read_old_members(change->tx, &old);
    }
    if (err == ERR_OK) {
        err = choose_author(change, &old);
    }
    do {
        if (err == ERR_OK) {
            err = write_old_entry(change, &old, &next, room);
        }
    } while (err == ERR_OK && next < old.count);
    free(old.members);
    return err;
}

enum err
chat_draft_open(struct chat_draft *draft, const struct chat_change *change, const uint8_t room_id[CHAT_ID_BYTES])
{
    struct bytes packed = {0};
    enum err err = chat_log_read_state(change->tx, room_id, &draft->before);
    if (err == ERR_OK && draft->before.state == NULL) {
        err = begin_log(change, room_id, &draft->before);
    }
    if (err == ERR_OK) {
        err = e2e_room_pack(&draft->before, &packed);
    }
    if (err == ERR_OK) {
        err = e2e_room_unpack(&draft->after, bytes_as_view(&packed));
    }
    bytes_free(&packed);
    return err;
}

void
chat_draft_deinit(struct chat_draft *draft)
{
    e2e_room_deinit(&draft->before);
    e2e_room_deinit(&draft->after);
}

// --- Reading -------------------------------------------------------------------------------------------------------

static enum err
copy_blob(struct store_rows *rows, int column, struct arena *arena, ProtobufCBinaryData *out)
{
    struct bytes_view blob = store_rows_blob(rows, column);
    if (blob.size == 0) {
        return ERR_OK;
    }
    out->data = arena_alloc(arena, blob.size);
    if (out->data == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(out->data, blob.data, blob.size);
    out->len = blob.size;
    return ERR_OK;
}

static enum err
read_entry(struct store_rows *rows, struct arena *arena, Fc__E2e__V1__Signed **out)
{
    Fc__E2e__V1__Signed *entry = arena_alloc(arena, sizeof(*entry));
    if (entry == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__e2e__v1__signed__init(entry);
    enum err err = copy_blob(rows, 0, arena, &entry->body);
    if (err == ERR_OK) {
        err = copy_blob(rows, 1, arena, &entry->signature);
    }
    if (err == ERR_OK) {
        err = copy_blob(rows, 2, arena, &entry->link_signature);
    }
    *out = entry;
    return err;
}

enum err
chat_log_read(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t after_seq, struct arena *arena,
    Fc__E2e__V1__Signed ***entries_out, size_t *count_out)
{
    enum {
        ENTRIES_MAX = 4096, // so that the array has a size
        ENTRY_COST_BYTES = 160,
    };
    struct store_rows *rows = NULL;
    size_t count = 0;
    size_t size = 0;
    Fc__E2e__V1__Signed **entries = arena_alloc(arena, ENTRIES_MAX * sizeof(Fc__E2e__V1__Signed *));
    if (entries == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = store_query(tx,
        "SELECT body, signature, link_signature FROM chat_log WHERE room_id = $1 AND seq > $2 ORDER BY seq",
        STORE_ARGS(chat_rows_id(room_id), store_int((int64_t)(after_seq > INT64_MAX ? INT64_MAX : after_seq))), &rows);
    while (err == ERR_OK && count < ENTRIES_MAX) {
        err = store_rows_next(rows);
        if (err != ERR_OK) {
            break;
        }
        size += store_rows_blob(rows, 0).size + ENTRY_COST_BYTES;
        if (count > 0 && size > CHAT_LOG_PAGE_MAX_BYTES) {
            break;
        }
        err = read_entry(rows, arena, &entries[count]);
        count++;
    }
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    *entries_out = entries;
    *count_out = count;
    return ERR_OK;
}

enum err
chat_log_find_link(struct store_tx *tx, struct bytes_view link_id, uint8_t room_id_out[CHAT_ID_BYTES],
    struct bytes *info_out, struct err_detail *why)
{
    struct store_rows *rows = NULL;
    if (link_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "an invite link is named by %d bytes, not %zu", CHAT_ID_BYTES, link_id.size);
    }
    enum err err = store_query(tx, "SELECT room_id, info FROM chat_links WHERE link_id = $1",
        STORE_ARGS(chat_rows_id(link_id.data)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = chat_rows_read_fixed(rows, 0, room_id_out, CHAT_ID_BYTES);
    }
    if (err == ERR_OK && info_out != NULL) {
        err = bytes_append(info_out, store_rows_blob(rows, 1));
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND
               ? err_fail(why, err, "this invite link has been revoked or never was; ask for a new one")
               : err;
}
