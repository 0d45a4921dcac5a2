// Tables of the Chat service, its rooms and members.
//
// Numbers: a room's head_seq moves by one with each message inside the message's own transaction, so numbers are dense.
// The row of the room is updated before the message is inserted, which on a database with several writers makes
// senders to one room take turns.
//
// Once only: a message's id is the request id that sent it, unique in its room. Changes of membership are written to a
// log in which (user, request id) is unique; they are rare, so it is kept for good.
#include "services/chat/chat_core.h"

#include <string.h>

#include "base/clock.h"
#include "base/random.h"
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
     "ALTER TABLE chat_members ADD COLUMN read_seq BIGINT NOT NULL DEFAULT 0;"},
    CHAT_MESSAGES_MIGRATIONS,
};

enum err
chat_core_migrate(struct store *store, struct err_detail *why)
{
    return store_migrate(store, "chat", migrations, sizeof(migrations) / sizeof(migrations[0]), why);
}

// The columns that read_room expects; m is the caller's row in chat_members, or NULLs.
#define ROOM_COLUMNS "r.room_id, r.name, r.head_seq, r.member_count, r.created_at_ms, m.user_id"
#define ROOM_TABLES "chat_rooms r LEFT JOIN chat_members m ON m.room_id = r.room_id AND m.user_id = $1"

static enum err
read_room(struct store_rows *rows, struct chat_room *out)
{
    memset(out, 0, sizeof(*out));
    enum err err = chat_rows_read_fixed(rows, 0, out->id, sizeof(out->id));
    if (err != ERR_OK) {
        return err;
    }
    chat_rows_copy_text(out->name, sizeof(out->name), store_rows_text(rows, 1));
    out->head_seq = (uint64_t)store_rows_int(rows, 2);
    out->member_count = (uint32_t)store_rows_int(rows, 3);
    out->created_at_ms = store_rows_int(rows, 4);
    out->is_member = !store_rows_is_null(rows, 5);
    return ERR_OK;
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

// is_room_id_text: such text is always an id, never a name, so that nobody can make a room named like another's id.
static bool
is_room_id_text(const char *room, uint8_t room_id_out[CHAT_ID_BYTES])
{
    return strlen(room) == ROOM_ID_HEX_DIGITS && bytes_from_hex(room, room_id_out, CHAT_ID_BYTES) == ERR_OK;
}

enum err
chat_core_find_room(struct store_tx *tx, const char *room, const uint8_t user_id[CHAT_ID_BYTES], struct chat_room *out,
    struct err_detail *why)
{
    uint8_t room_id[CHAT_ID_BYTES];
    enum err err;
    if (is_room_id_text(room, room_id)) {
        err = chat_core_get_room(tx, room_id, user_id, out);
    } else {
        err = text_check_room_name(room, why);
        if (err != ERR_OK) {
            return err;
        }
        err = get_room_by_name(tx, room, user_id, out);
    }
    if (err == ERR_NOT_FOUND) {
        return err_fail(why, err, "no room \"%s\"; fc room list shows those you can join", room);
    }
    return err;
}

enum err
chat_core_fail_not_member(const struct chat_room *room, enum err code, struct err_detail *why)
{
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
chat_core_list_rooms(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const char *after_name,
    struct chat_room *rooms, size_t max_rooms, size_t *count_out, bool *has_more_out)
{
    struct store_rows *result = NULL;
    size_t count = 0;
    enum err err =
        store_query(tx, "SELECT " ROOM_COLUMNS " FROM " ROOM_TABLES " WHERE r.name > $2 ORDER BY r.name LIMIT $3",
            STORE_ARGS(chat_rows_id(user_id), store_text(after_name), store_int((int64_t)max_rooms + 1)), &result);
    while (err == ERR_OK) {
        err = store_rows_next(result);
        if (err != ERR_OK || count == max_rooms) {
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

// find_change looks for a change of membership that this request made before. ERR_NOT_FOUND: it is new. ERR_CONFLICT:
// the request id belongs to another method's call.
static enum err
find_change(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id, const char *change,
    uint8_t room_id_out[CHAT_ID_BYTES], struct err_detail *why)
{
    if (request_id.size == 0) {
        return ERR_NOT_FOUND;
    }
    struct store_rows *rows = NULL;
    enum err err =
        store_query(tx, "SELECT room_id, change FROM chat_membership_log WHERE user_id = $1 AND request_id = $2",
            STORE_ARGS(chat_rows_id(user->id), store_blob(request_id.data, request_id.size)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK && strcmp(store_rows_text(rows, 1), change) != 0) {
        err = err_fail(why, ERR_CONFLICT, "this request_id was used for another call (%s); use a new one for each call",
            store_rows_text(rows, 1));
    }
    if (err == ERR_OK) {
        err = chat_rows_read_fixed(rows, 0, room_id_out, CHAT_ID_BYTES);
    }
    store_rows_free(&rows);
    return err;
}

static enum err
log_change(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id, const char *change,
    const uint8_t room_id[CHAT_ID_BYTES])
{
    struct store_value request = request_id.size == 0 ? store_null() : store_blob(request_id.data, request_id.size);
    return store_exec(tx,
        "INSERT INTO chat_membership_log (user_id, request_id, room_id, change, changed_at_ms)"
        " VALUES ($1, $2, $3, $4, $5)",
        STORE_ARGS(chat_rows_id(user->id), request, chat_rows_id(room_id), store_text(change),
            store_int(clock_unix_ms())),
        NULL);
}

static enum err
add_member(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], const struct chat_user *user, bool is_owner)
{
    return store_exec(tx,
        "INSERT INTO chat_members (room_id, user_id, user_name, is_owner, joined_at_ms) VALUES ($1, $2, $3, $4, $5)",
        STORE_ARGS(chat_rows_id(room_id), chat_rows_id(user->id), store_text(user->name), store_int(is_owner ? 1 : 0),
            store_int(clock_unix_ms())),
        NULL);
}

static enum err
change_member_count(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], int difference)
{
    return store_exec(tx, "UPDATE chat_rooms SET member_count = member_count + $1 WHERE room_id = $2",
        STORE_ARGS(store_int(difference), chat_rows_id(room_id)), NULL);
}

static enum err
check_new_room_name(const char *name, struct err_detail *why)
{
    uint8_t room_id[CHAT_ID_BYTES];
    if (is_room_id_text(name, room_id)) {
        return err_fail(why, ERR_INVALID, "\"%s\" reads as a room's id; choose another name", name);
    }
    return text_check_room_name(name, why);
}

static enum err
insert_room(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id, const char *name,
    const uint8_t room_id[CHAT_ID_BYTES])
{
    enum err err = store_exec(tx,
        "INSERT INTO chat_rooms (room_id, name, head_seq, last_sent_at_ms, member_count, created_at_ms)"
        " VALUES ($1, $2, 0, 0, 1, $3)",
        STORE_ARGS(chat_rows_id(room_id), store_text(name), store_int(clock_unix_ms())), NULL);
    if (err == ERR_OK) {
        err = add_member(tx, room_id, user, true);
    }
    if (err == ERR_OK) {
        err = log_change(tx, user, request_id, "create", room_id);
    }
    return err;
}

enum err
chat_core_create_room(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id, const char *name,
    struct chat_room *out, struct err_detail *why)
{
    if (request_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID,
            "making a room needs a request_id of %d random bytes in the call's header, so that it is made once only",
            CHAT_ID_BYTES);
    }
    enum err err = check_new_room_name(name, why);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t room_id[CHAT_ID_BYTES];
    err = find_change(tx, user, request_id, "create", room_id, why);
    if (err == ERR_NOT_FOUND) {
        err = get_room_by_name(tx, name, user->id, out);
        if (err == ERR_NOT_FOUND) {
            random_bytes(room_id, sizeof(room_id));
            err = insert_room(tx, user, request_id, name, room_id);
        } else if (err == ERR_OK) {
            err = ERR_EXISTS;
        }
    }
    if (err == ERR_EXISTS) {
        return err_fail(why, err, "there is a room \"%s\" already; fc join %s, or choose another name", name, name);
    }
    return err == ERR_OK ? chat_core_get_room(tx, room_id, user->id, out) : err;
}

enum err
chat_core_join(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id, const char *room,
    struct chat_room *out, struct err_detail *why)
{
    uint8_t room_id[CHAT_ID_BYTES];
    enum err err = find_change(tx, user, request_id, "join", room_id, why);
    if (err == ERR_OK) {
        return chat_core_get_room(tx, room_id, user->id, out);
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = chat_core_find_room(tx, room, user->id, out, why);
    if (err != ERR_OK || out->is_member) {
        return err;
    }
    err = add_member(tx, out->id, user, false);
    if (err == ERR_OK) {
        err = change_member_count(tx, out->id, 1);
    }
    if (err == ERR_OK) {
        err = log_change(tx, user, request_id, "join", out->id);
    }
    if (err == ERR_OK) {
        out->is_member = true;
        out->member_count++;
    }
    return err;
}

enum err
chat_core_leave(struct store_tx *tx, const struct chat_user *user, struct bytes_view request_id, const char *room,
    uint8_t room_id_out[CHAT_ID_BYTES], bool *is_resend_out, struct err_detail *why)
{
    enum err err = find_change(tx, user, request_id, "leave", room_id_out, why);
    if (err == ERR_OK) {
        *is_resend_out = true;
        return ERR_OK;
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    struct chat_room found = {0};
    err = chat_core_find_room(tx, room, user->id, &found, why);
    if (err != ERR_OK) {
        return err;
    }
    if (!found.is_member) {
        return err_fail(why, ERR_PRECONDITION, "you are not in \"%s\", so there is nothing to leave", found.name);
    }
    err = store_exec(tx, "DELETE FROM chat_members WHERE room_id = $1 AND user_id = $2",
        STORE_ARGS(chat_rows_id(found.id), chat_rows_id(user->id)), NULL);
    if (err == ERR_OK) {
        err = change_member_count(tx, found.id, -1);
    }
    if (err == ERR_OK) {
        err = log_change(tx, user, request_id, "leave", found.id);
    }
    if (err == ERR_OK) {
        memcpy(room_id_out, found.id, CHAT_ID_BYTES);
        *is_resend_out = false;
    }
    return err;
}
