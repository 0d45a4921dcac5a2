#include "services/chat/chat_once.h"

#include <string.h>

#include "base/clock.h"
#include "services/chat/chat_rows.h"

enum err
chat_once_find(const struct chat_change *change, const char *what, uint8_t room_id_out[CHAT_ID_BYTES])
{
    if (change->request_id.size == 0) {
        return ERR_NOT_FOUND;
    }
    struct store_rows *rows = NULL;
    enum err err = store_query(change->tx,
        "SELECT room_id, change FROM chat_membership_log WHERE user_id = $1 AND request_id = $2",
        STORE_ARGS(chat_rows_id(change->user.id), store_blob(change->request_id.data, change->request_id.size)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK && strcmp(store_rows_text(rows, 1), what) != 0) {
        err = err_fail(change->why, ERR_CONFLICT,
            "this request_id was used for another call (%s); use a new one for each call", store_rows_text(rows, 1));
    }
    if (err == ERR_OK) {
        err = chat_rows_read_fixed(rows, 0, room_id_out, CHAT_ID_BYTES);
    }
    store_rows_free(&rows);
    return err;
}

enum err
chat_once_require(const struct chat_change *change, const char *what)
{
    return change->request_id.size == CHAT_ID_BYTES ? ERR_OK
                                                    : err_fail(change->why, ERR_INVALID,
                                                          "%s a room needs a request_id of %d random bytes in the "
                                                          "call's header, so that it is done once only",
                                                          what, CHAT_ID_BYTES);
}

enum err
chat_once_keep(const struct chat_change *change, const char *what, const uint8_t room_id[CHAT_ID_BYTES])
{
    struct store_value request =
        change->request_id.size == 0 ? store_null() : store_blob(change->request_id.data, change->request_id.size);
    return store_exec(change->tx,
        "INSERT INTO chat_membership_log (user_id, request_id, room_id, change, changed_at_ms)"
        " VALUES ($1, $2, $3, $4, $5)",
        STORE_ARGS(chat_rows_id(change->user.id), request, chat_rows_id(room_id), store_text(what),
            store_int(clock_unix_ms())),
        NULL);
}
