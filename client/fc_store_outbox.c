// Requests that wait to be sent. Their bytes are made once: what is sent again is what was sent before, so that it
// appears once.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/fc_store_db_priv.h"

void
fc_store_outgoing_deinit(struct fc_store_outgoing *outgoing)
{
    bytes_free(&outgoing->request);
    free(outgoing->room_name);
    free(outgoing->last_error);
    outgoing->room_name = NULL;
    outgoing->last_error = NULL;
}

static struct db_value
room_id_of(const struct fc_store_outgoing *outgoing)
{
    return outgoing->has_room_id ? db_blob(outgoing->room_id, sizeof(outgoing->room_id)) : db_null();
}

static struct db_value
last_error_of(const struct fc_store_outgoing *outgoing)
{
    return db_text(outgoing->last_error != NULL ? outgoing->last_error : "");
}

enum err
fc_store_outbox_add(struct fc_store *store, struct fc_store_outgoing *outgoing, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = db_query(store->db,
        "INSERT INTO outgoing (message_id, room_name, room_id, request, created_ms, last_error) "
        "VALUES ($1, $2, $3, $4, $5, $6) RETURNING position",
        DB_ARGS(db_blob(outgoing->message_id, sizeof(outgoing->message_id)), db_text(outgoing->room_name),
            room_id_of(outgoing), db_blob(outgoing->request.data, outgoing->request.size), db_int(outgoing->created_ms),
            last_error_of(outgoing)),
        &rows);
    if (err == ERR_OK) {
        err = db_rows_next(rows);
    }
    if (err == ERR_OK) {
        outgoing->position = db_rows_int(rows, 0);
        err = db_rows_next(rows); // the row is on disk when the statement has ended
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    db_rows_free(&rows);
    if (err == ERR_EXISTS) {
        return err_fail(why, err, "this message waits to be sent already");
    }
    return err == ERR_OK ? ERR_OK : fc_store_fail(store, err, why);
}

static enum err
read_outgoing(struct db_rows *rows, struct fc_store_outgoing *out)
{
    *out = (struct fc_store_outgoing){
        .position = db_rows_int(rows, 0),
        .room_name = strdup(db_rows_text(rows, 2)),
        .has_room_id = !db_rows_is_null(rows, 3),
        .created_ms = db_rows_int(rows, 5),
        .last_error = strdup(db_rows_text(rows, 6)),
    };
    enum err err = out->room_name == NULL || out->last_error == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        err = fc_store_copy_blob(rows, 1, out->message_id, sizeof(out->message_id));
    }
    if (err == ERR_OK && out->has_room_id) {
        err = fc_store_copy_blob(rows, 3, out->room_id, sizeof(out->room_id));
    }
    if (err == ERR_OK) {
        err = fc_store_append_blob(rows, 4, &out->request);
    }
    if (err != ERR_OK) {
        fc_store_outgoing_deinit(out);
    }
    return err;
}

enum err
fc_store_outbox_next(struct fc_store *store, int64_t after_position, struct fc_store_outgoing *out,
    struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT position, message_id, room_name, room_id, request, created_ms, last_error FROM outgoing "
        "WHERE position > $1 ORDER BY position LIMIT 1",
        DB_ARGS(db_int(after_position)), &rows, why);
    if (err == ERR_OK) {
        err = read_outgoing(rows, out);
        if (err != ERR_OK) {
            err = fc_store_fail(store, err, why);
        }
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_outbox_update(struct fc_store *store, const struct fc_store_outgoing *outgoing, struct err_detail *why)
{
    int64_t changed = 0;
    enum err err =
        fc_store_exec(store, "UPDATE outgoing SET room_id = $1, request = $2, last_error = $3 WHERE message_id = $4",
            DB_ARGS(room_id_of(outgoing), db_blob(outgoing->request.data, outgoing->request.size),
                last_error_of(outgoing), db_blob(outgoing->message_id, sizeof(outgoing->message_id))),
            &changed, why);
    return err == ERR_OK && changed == 0 ? err_fail(why, ERR_NOT_FOUND, "the message does not wait any more") : err;
}

enum err
fc_store_outbox_remove(struct fc_store *store, const uint8_t message_id[E2E_ID_BYTES], struct err_detail *why)
{
    int64_t changed = 0;
    enum err err = fc_store_exec(store, "DELETE FROM outgoing WHERE message_id = $1",
        DB_ARGS(db_blob(message_id, E2E_ID_BYTES)), &changed, why);
    return err == ERR_OK && changed == 0 ? err_fail(why, ERR_NOT_FOUND, "no such message waits to be sent") : err;
}

enum err
fc_store_outbox_count(struct fc_store *store, uint64_t *count_out, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, "SELECT COUNT(*) FROM outgoing", DB_NO_ARGS, &rows, why);
    if (err == ERR_OK) {
        *count_out = (uint64_t)db_rows_int(rows, 0);
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_outbox_lock(struct fc_store *store, bool is_waiting, int *fd_out, struct err_detail *why)
{
    const char *path = store->lock_path;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        int error = errno;
        return err_fail(why, err_from_errno(error), "%s cannot be opened: %s", path, strerror(error));
    }
    while (flock(fd, is_waiting ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
        int error = errno;
        if (error == EINTR) {
            continue;
        }
        (void)close(fd);
        if (error == EWOULDBLOCK) {
            return err_fail(why, ERR_BUSY, "another process is sending what waits");
        }
        return err_fail(why, err_from_errno(error), "%s cannot be locked: %s", path, strerror(error));
    }
    *fd_out = fd;
    return ERR_OK;
}
