// Tables of the Chat service, and its rooms as users see them. How they change: chat_rooms.h.
//
// Numbers: a room's head_seq moves by one with each message inside the message's own transaction, so numbers are dense.
// The row of the room is updated before the message is inserted, which on a database with several writers makes
// senders to one room take turns.
#include "services/chat/chat_core.h"

#include <string.h>

#include "services/chat/chat_messages_schema.h"
#include "services/chat/chat_rows.h"

enum {
    ROOM_ID_HEX_DIGITS = 2 * CHAT_ID_BYTES,
};

static const struct store_migration migrations[] = {
    {"CREATE TABLE chat_rooms ("
     "  room_id BLOB NOT NULL PRIMARY KEY,"
     "  name TEXT NOT NULL UNIQUE,"
     "  head_seq BIGINT NOT NULL,"
     "  last_sent_at_ms BIGINT NOT NULL,"
     "  member_count BIGINT NOT NULL,"
     "  created_at_ms BIGINT NOT NULL);"
     "CREATE TABLE chat_members ("
     "  room_id BLOB NOT NULL,"
     "  user_id BLOB NOT NULL,"
     "  user_name TEXT NOT NULL,"
     "  is_owner BIGINT NOT NULL,"
     "  joined_at_ms BIGINT NOT NULL,"
     "  PRIMARY KEY (room_id, user_id));"
     "CREATE TABLE chat_membership_log ("
     "  user_id BLOB NOT NULL,"
     "  request_id BLOB,"
     "  room_id BLOB NOT NULL,"
     "  change TEXT NOT NULL,"
     "  changed_at_ms BIGINT NOT NULL,"
     "  UNIQUE (user_id, request_id));"
     "CREATE TABLE chat_messages ("
     "  room_id BLOB NOT NULL,"
     "  seq BIGINT NOT NULL,"
     "  message_id BLOB NOT NULL,"
     "  sender_id BLOB NOT NULL,"
     "  sender_name TEXT NOT NULL,"
     "  sent_at_ms BIGINT NOT NULL,"
     "  text TEXT NOT NULL,"
     "  file_id BLOB,"
     "  file_name TEXT,"
     "  file_size_bytes BIGINT,"
     "  file_md5 BLOB,"
     "  PRIMARY KEY (room_id, seq),"
     "  UNIQUE (room_id, message_id));"},
    {"ALTER TABLE chat_rooms ADD COLUMN is_plain BIGINT NOT NULL DEFAULT 1;"
     "ALTER TABLE chat_rooms ADD COLUMN is_archived BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE chat_rooms ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE chat_rooms ADD COLUMN is_rekey_needed BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE chat_rooms ADD COLUMN chain BLOB;"
     "ALTER TABLE chat_members ADD COLUMN role BIGINT NOT NULL DEFAULT 1;"
     "ALTER TABLE chat_members ADD COLUMN read_seq BIGINT NOT NULL DEFAULT 0;"
     // A room's state is what its log has made of it; the columns beside it and chat_members are taken from it. NULL: a
     // room of before there were logs.
     "ALTER TABLE chat_rooms ADD COLUMN state BLOB;"
     "ALTER TABLE chat_rooms ADD COLUMN kind BIGINT NOT NULL DEFAULT 2;"
     "ALTER TABLE chat_rooms ADD COLUMN history BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE chat_rooms ADD COLUMN topic TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE chat_rooms ADD COLUMN log_seq BIGINT NOT NULL DEFAULT 0;"
     "ALTER TABLE chat_rooms ADD COLUMN log_hash BLOB;"
     "ALTER TABLE chat_rooms ADD COLUMN direct_key BLOB;" // the ids of the two, sorted
     "CREATE UNIQUE INDEX chat_rooms_direct ON chat_rooms (direct_key);"
     "ALTER TABLE chat_members ADD COLUMN is_invited BIGINT NOT NULL DEFAULT 0;"
     "CREATE INDEX chat_members_user ON chat_members (user_id);"
     "UPDATE chat_members SET role = 3 WHERE is_owner = 1;"
     "CREATE TABLE chat_log ("
     "  room_id BLOB NOT NULL,"
     "  seq BIGINT NOT NULL,"
     "  body BLOB NOT NULL,"
     "  signature BLOB,"
     "  link_signature BLOB,"
     "  PRIMARY KEY (room_id, seq));"
     "CREATE TABLE chat_links ("
     "  link_id BLOB NOT NULL PRIMARY KEY,"
     "  room_id BLOB NOT NULL,"
     "  info BLOB);"
     "CREATE TABLE chat_blocks ("
     "  user_id BLOB NOT NULL,"
     "  blocked_id BLOB NOT NULL,"
     "  blocked_name TEXT NOT NULL,"
     "  PRIMARY KEY (user_id, blocked_id));"},
    CHAT_MESSAGES_MIGRATIONS,
};

enum err
chat_core_migrate(struct store *store, struct err_detail *why)
{
    return store_migrate(store, "chat", migrations, sizeof(migrations) / sizeof(migrations[0]), why);
}

// The columns that read_room expects; m is the caller's row in chat_members, or NULLs.
#define ROOM_COLUMNS                                                                                                   \
    "r.room_id, r.name, r.head_seq, r.member_count, r.created_at_ms, r.is_plain, r.kind, r.history, r.topic,"          \
    " r.is_archived, r.log_seq, r.log_hash, m.role, m.is_invited, m.read_seq,"                                         \
    " CASE WHEN r.kind = 3 THEN (SELECT MIN(o.user_name) FROM chat_members o"                                          \
    " WHERE o.room_id = r.room_id AND o.user_id <> $1) END"
#define ROOM_TABLES "chat_rooms r LEFT JOIN chat_members m ON m.room_id = r.room_id AND m.user_id = $1"

static enum err
read_room(struct store_rows *rows, struct chat_room *out)
{
    memset(out, 0, sizeof(*out));
    enum err err = chat_rows_read_fixed(rows, 0, out->id, sizeof(out->id));
    if (err != ERR_OK) {
        return err;
    }
    chat_rows_copy_text(out->sort_name, sizeof(out->sort_name), store_rows_text(rows, 1));
    memcpy(out->name, out->sort_name, sizeof(out->name));
    out->head_seq = (uint64_t)store_rows_int(rows, 2);
    out->member_count = (uint32_t)store_rows_int(rows, 3);
    out->created_at_ms = store_rows_int(rows, 4);
    out->is_plain = store_rows_int(rows, 5) != 0;
    out->kind = (Fc__E2e__V1__RoomKind)store_rows_int(rows, 6);
    out->history = (Fc__E2e__V1__History)store_rows_int(rows, 7);
    chat_rows_copy_text(out->topic, sizeof(out->topic), store_rows_text(rows, 8));
    out->is_archived = store_rows_int(rows, 9) != 0;
    out->log_seq = (uint64_t)store_rows_int(rows, 10);
    out->role = (Fc__E2e__V1__Role)store_rows_int(rows, 12); // 0 without a row
    out->is_invited = store_rows_int(rows, 13) != 0;
    out->is_member = !store_rows_is_null(rows, 12) && !out->is_invited;
    out->read_seq = (uint64_t)store_rows_int(rows, 14);
    if (!store_rows_is_null(rows, 15)) {
        out->name[0] = '@';
        chat_rows_copy_text(out->name + 1, sizeof(out->name) - 1, store_rows_text(rows, 15));
    }
    return out->is_plain || store_rows_is_null(rows, 11)
               ? ERR_OK
               : chat_rows_read_fixed(rows, 11, out->log_hash, sizeof(out->log_hash));
}

static enum err
query_room(struct store_tx *tx, const char *sql, const uint8_t user_id[CHAT_ID_BYTES], struct store_value key,
    struct chat_room *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, sql, STORE_ARGS(chat_rows_id(user_id), key), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = read_room(rows, out);
    }
    store_rows_free(&rows);
    return err;
}

enum err
chat_core_get_room(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out)
{
    return query_room(tx, "SELECT " ROOM_COLUMNS " FROM " ROOM_TABLES " WHERE r.room_id = $2", user_id,
        chat_rows_id(room_id), out);
}

static enum err
get_room_by_name(struct store_tx *tx, const char *name, const uint8_t user_id[CHAT_ID_BYTES], struct chat_room *out)
{
    return query_room(tx, "SELECT " ROOM_COLUMNS " FROM " ROOM_TABLES " WHERE r.name = $2", user_id, store_text(name),
        out);
}

// The direct room with a user: one that both have a row in.
static enum err
get_direct_room(struct store_tx *tx, const char *user_name, const uint8_t user_id[CHAT_ID_BYTES], struct chat_room *out)
{
    return query_room(tx,
        "SELECT " ROOM_COLUMNS " FROM chat_members m JOIN chat_rooms r ON r.room_id = m.room_id"
        " WHERE m.user_id = $1 AND r.kind = 3 AND EXISTS (SELECT 1 FROM chat_members w"
        " WHERE w.room_id = r.room_id AND w.user_id <> $1 AND w.user_name = $2)",
        user_id, store_text(user_name), out);
}

bool
chat_core_is_room_id(const char *room, uint8_t room_id_out[CHAT_ID_BYTES])
{
    return strlen(room) == ROOM_ID_HEX_DIGITS && bytes_from_hex(room, room_id_out, CHAT_ID_BYTES) == ERR_OK;
}

enum err
chat_core_name_is_free(struct store_tx *tx, const char *name, struct err_detail *why)
{
    static const uint8_t nobody[CHAT_ID_BYTES];
    uint8_t room_id[CHAT_ID_BYTES];
    struct chat_room found;
    if (chat_core_is_room_id(name, room_id)) {
        return err_fail(why, ERR_INVALID, "\"%s\" reads as a room's id; choose another name", name);
    }
    enum err err = text_check_room_name(name, why);
    if (err != ERR_OK) {
        return err;
    }
    err = get_room_by_name(tx, name, nobody, &found);
    if (err == ERR_OK) {
        return err_fail(why, ERR_EXISTS, "there is a room \"%s\" already; fc join %s, or choose another name", name,
            name);
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
chat_core_find_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES], struct chat_room *out,
    struct err_detail *why)
{
    uint8_t room_id[CHAT_ID_BYTES];
    bool is_by_id = chat_core_is_room_id(room, room_id);
    enum err err = ERR_OK;
    if (is_by_id) {
        err = chat_core_get_room(tx, room_id, user_id, out);
    } else if (room[0] == '@') {
        err = text_check_user_name(room + 1, why);
        if (err != ERR_OK) {
            return err;
        }
        err = get_direct_room(tx, room + 1, user_id, out);
    } else {
        err = text_check_room_name(room, why);
        if (err != ERR_OK) {
            return err;
        }
        err = get_room_by_name(tx, room, user_id, out);
    }
    bool is_hidden =
        err == ERR_OK && !out->is_member && !out->is_invited && out->kind != FC__E2E__V1__ROOM_KIND__PUBLIC;
    if (is_hidden) {
        memset(out, 0, sizeof(*out));
    }
    if ((is_hidden || err == ERR_NOT_FOUND) && is_by_id) {
        // The person who reads this has named the room otherwise.
        return err_fail(why, ERR_NOT_FOUND,
            "there is no such room, or you are not in it; fc room list shows those you can join");
    }
    if (is_hidden || err == ERR_NOT_FOUND) {
        return err_fail(why, ERR_NOT_FOUND, "no room \"%s\"; fc room list shows those you can join", room);
    }
    return err;
}

enum err
chat_core_fail_not_member(const struct chat_room *room, enum err code, struct err_detail *why)
{
    if (room->is_invited) {
        return err_fail(why, code, "you are invited to \"%s\" but not in it yet; fc join %s", room->name, room->name);
    }
    return err_fail(why, code, "you are not in \"%s\"; fc join %s", room->name, room->name);
}

enum err
chat_core_find_member_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES],
    struct chat_room *out, struct err_detail *why)
{
    enum err err = chat_core_find_room(tx, room, user_id, out, why);
    if (err != ERR_OK) {
        return err;
    }
    return out->is_member ? ERR_OK : chat_core_fail_not_member(out, ERR_DENIED, why);
}

enum err
chat_core_list_rooms(struct store_tx *tx, const struct chat_list_query *query, struct chat_room *rooms,
    size_t *count_out, bool *has_more_out)
{
    struct store_rows *result = NULL;
    size_t count = 0;
    static const char all[] = "SELECT " ROOM_COLUMNS " FROM " ROOM_TABLES
                              " WHERE r.name > $2 AND (m.user_id IS NOT NULL OR r.kind = 2) ORDER BY r.name LIMIT $3";
    static const char mine[] = "SELECT " ROOM_COLUMNS " FROM chat_members m JOIN chat_rooms r ON r.room_id = m.room_id"
                               " WHERE m.user_id = $1 AND r.name > $2 ORDER BY r.name LIMIT $3";
    enum err err = store_query(tx, query->is_mine_only ? mine : all,
        STORE_ARGS(chat_rows_id(query->user_id), store_text(query->after_name),
            store_int((int64_t)query->max_rooms + 1)),
        &result);
    while (err == ERR_OK) {
        err = store_rows_next(result);
        if (err != ERR_OK || count == query->max_rooms) {
            break;
        }
        err = read_room(result, &rooms[count]);
        count++;
    }
    store_rows_free(&result);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    *has_more_out = err == ERR_OK;
    *count_out = count;
    return ERR_OK;
}
