#include "services/chat/chat_reads.h"

#include <string.h>

#include "services/chat/chat_messages.h"
#include "services/chat/chat_rows.h"

enum {
    // One's own messages are in the index as well, and are passed over.
    UNREAD_ROWS_MAX = 4 * CHAT_UNREAD_MAX,
};

enum err
chat_reads_mark(struct store_tx *tx, const struct chat_user *user, const char *room, uint64_t seq,
    struct chat_room *room_out, bool *is_moved_out, struct err_detail *why)
{
    *is_moved_out = false;
    enum err err = chat_core_find_member_room(tx, room, user->id, room_out, why);
    if (err != ERR_OK) {
        return err;
    }
    seq = seq < room_out->head_seq ? seq : room_out->head_seq;
    if (seq <= room_out->read_seq) {
        return ERR_OK;
    }
    room_out->read_seq = seq;
    *is_moved_out = true;
    return store_exec(tx, "UPDATE chat_members SET read_seq = $1 WHERE room_id = $2 AND user_id = $3",
        STORE_ARGS(store_int((int64_t)seq), chat_rows_id(room_out->id), chat_rows_id(user->id)), NULL);
}

static enum err
count(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count, uint32_t *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, sql, args, arg_count, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        int64_t found = store_rows_int(rows, 0);
        *out = (uint32_t)(found > CHAT_UNREAD_MAX ? CHAT_UNREAD_MAX : found);
    }
    store_rows_free(&rows);
    return err;
}

enum err
chat_messages_unread(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], const struct chat_user *user,
    uint64_t read_seq, struct chat_unread *out)
{
    memset(out, 0, sizeof(*out));
    const struct store_value after = store_int((int64_t)(read_seq > INT64_MAX ? INT64_MAX : read_seq));
    enum err err = count(tx,
        "SELECT COUNT(*) FROM (SELECT sender_id FROM chat_messages WHERE room_id = $1 AND seq > $2 AND type < 2"
        " AND is_deleted = 0 ORDER BY seq LIMIT $3) AS newer WHERE sender_id <> $4",
        STORE_ARGS(chat_rows_id(room_id), after, store_int(UNREAD_ROWS_MAX), chat_rows_id(user->id)),
        &out->unread_count);
    if (err == ERR_OK && out->unread_count > 0) {
        err = count(tx,
            "SELECT COUNT(DISTINCT seq) FROM (SELECT seq, sender_id FROM chat_mentions WHERE room_id = $1"
            " AND user_name IN ($2, '" CHAT_MENTION_EVERYBODY "') AND seq > $3 LIMIT $4) AS newer"
            " WHERE sender_id <> $5",
            STORE_ARGS(chat_rows_id(room_id), store_text(user->name), after, store_int(UNREAD_ROWS_MAX),
                chat_rows_id(user->id)),
            &out->mention_count);
    }
    return err;
}

enum err
chat_settings_get(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], bool *is_shown_out)
{
    struct store_rows *rows = NULL;
    *is_shown_out = false;
    enum err err = store_query(tx, "SELECT is_shown FROM chat_settings WHERE user_id = $1",
        STORE_ARGS(chat_rows_id(user_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *is_shown_out = store_rows_int(rows, 0) != 0;
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
chat_settings_set(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], bool is_shown)
{
    return store_exec(tx,
        "INSERT INTO chat_settings (user_id, is_shown) VALUES ($1, $2)"
        " ON CONFLICT (user_id) DO UPDATE SET is_shown = $2",
        STORE_ARGS(chat_rows_id(user_id), store_int(is_shown)), NULL);
}
