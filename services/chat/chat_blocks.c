#include "services/chat/chat_blocks.h"

#include <string.h>

#include "services/chat/chat_rows.h"

static enum err
count_blocks(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], int64_t *count_out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*) FROM chat_blocks WHERE user_id = $1",
        STORE_ARGS(chat_rows_id(user_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *count_out = store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err;
}

enum err
chat_blocks_set(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const struct chat_user *blocked,
    bool is_blocked, struct err_detail *why)
{
    int64_t count = 0;
    if (!is_blocked) {
        return store_exec(tx, "DELETE FROM chat_blocks WHERE user_id = $1 AND blocked_id = $2",
            STORE_ARGS(chat_rows_id(user_id), chat_rows_id(blocked->id)), NULL);
    }
    if (memcmp(user_id, blocked->id, CHAT_ID_BYTES) == 0) {
        return err_fail(why, ERR_INVALID, "nobody can block themselves; name another user");
    }
    enum err err = count_blocks(tx, user_id, &count);
    if (err == ERR_OK && count >= CHAT_BLOCKS_MAX) {
        return err_fail(why, ERR_LIMIT, "you block %d users, which is the most; unblock some first", CHAT_BLOCKS_MAX);
    }
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx,
        "INSERT INTO chat_blocks (user_id, blocked_id, blocked_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        STORE_ARGS(chat_rows_id(user_id), chat_rows_id(blocked->id), store_text(blocked->name)), NULL);
}

// Whether a query has a row.
static enum err
has_row(struct store_tx *tx, const char *sql, const uint8_t first_id[CHAT_ID_BYTES],
    const uint8_t second_id[CHAT_ID_BYTES], bool *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, sql, STORE_ARGS(chat_rows_id(first_id), chat_rows_id(second_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    *out = err == ERR_OK;
    return ERR_OK;
}

enum err
chat_blocks_has(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const uint8_t other_id[CHAT_ID_BYTES],
    bool *is_blocked_out)
{
    return has_row(tx, "SELECT 1 FROM chat_blocks WHERE user_id = $1 AND blocked_id = $2", user_id, other_id,
        is_blocked_out);
}

enum err
chat_blocks_silences(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], const uint8_t sender_id[CHAT_ID_BYTES],
    bool *is_blocked_out)
{
    return has_row(tx,
        "SELECT 1 FROM chat_rooms r JOIN chat_members m ON m.room_id = r.room_id"
        " JOIN chat_blocks b ON b.user_id = m.user_id WHERE r.room_id = $1 AND r.kind = 3 AND b.blocked_id = $2",
        room_id, sender_id, is_blocked_out);
}

enum err
chat_blocks_list(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], struct arena *arena, char ***names_out,
    size_t *count_out)
{
    struct store_rows *rows = NULL;
    int64_t expected = 0;
    size_t count = 0;
    enum err err = count_blocks(tx, user_id, &expected);
    char **names = err == ERR_OK ? arena_alloc(arena, ((size_t)expected + 1) * sizeof(*names)) : NULL;
    if (names == NULL) {
        return err == ERR_OK ? ERR_NO_MEMORY : err;
    }
    err = store_query(tx, "SELECT blocked_name FROM chat_blocks WHERE user_id = $1 ORDER BY blocked_name",
        STORE_ARGS(chat_rows_id(user_id)), &rows);
    while (err == ERR_OK && count < (size_t)expected) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            names[count] = arena_copy_text(arena, store_rows_text(rows, 0));
            err = names[count] == NULL ? ERR_NO_MEMORY : ERR_OK;
            count++;
        }
    }
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    *names_out = names;
    *count_out = count;
    return ERR_OK;
}
