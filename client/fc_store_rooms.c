// Rooms: what is known of each, how far its messages and its log are kept, its secrets and drafts.
#include <string.h>

#include "client/fc_store_db_priv.h"

#define COLUMNS                                                                                                        \
    "r.room_id, r.name, r.topic, r.kind, r.is_plain, r.is_member, r.is_muted, r.head_seq, r.synced_seq, r.chain, "     \
    "r.read_seq, r.log_seq, r.learned_seq"
// These take as long as there are messages to count.
#define COUNTS                                                                                                         \
    "(SELECT COUNT(*) FROM message m WHERE m.room = r.id AND m.seq > r.read_seq AND m.is_counted = 1), "               \
    "(SELECT COUNT(*) FROM message m WHERE m.room = r.id AND m.seq > r.read_seq AND m.is_mention = 1)"

static enum err
read_room(struct db_rows *rows, struct fc_store_room *out)
{
    *out = (struct fc_store_room){
        .kind = (Fc__E2e__V1__RoomKind)db_rows_int(rows, 3),
        .is_plain = db_rows_int(rows, 4) != 0,
        .is_member = db_rows_int(rows, 5) != 0,
        .is_muted = db_rows_int(rows, 6) != 0,
        .head_seq = (uint64_t)db_rows_int(rows, 7),
        .synced_seq = (uint64_t)db_rows_int(rows, 8),
        .read_seq = (uint64_t)db_rows_int(rows, 10),
        .log_seq = (uint64_t)db_rows_int(rows, 11),
        .learned_seq = (uint64_t)db_rows_int(rows, 12),
    };
    fc_store_copy_text(rows, 1, out->name, sizeof(out->name));
    fc_store_copy_text(rows, 2, out->topic, sizeof(out->topic));
    enum err err = fc_store_copy_blob(rows, 0, out->room_id, sizeof(out->room_id));
    return err == ERR_OK ? fc_store_copy_blob(rows, 9, out->chain, sizeof(out->chain)) : err;
}

static enum err
get_room(struct fc_store *store, const char *sql, struct db_value key, struct fc_store_room *out,
    struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, sql, DB_ARGS(key), &rows, why);
    if (err == ERR_OK && read_room(rows, out) != ERR_OK) {
        err = fc_store_fail(store, ERR_CORRUPT, why);
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_room_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct fc_store_room *out,
    struct err_detail *why)
{
    return get_room(store, "SELECT " COLUMNS " FROM room r WHERE r.room_id = $1", db_blob(room_id, E2E_ID_BYTES), out,
        why);
}

enum err
fc_store_room_find(struct fc_store *store, const char *name, struct fc_store_room *out, struct err_detail *why)
{
    return get_room(store,
        "SELECT " COLUMNS " FROM room r WHERE r.name = $1 ORDER BY r.is_member DESC, r.id DESC LIMIT 1", db_text(name),
        out, why);
}

enum err
fc_store_room_each(struct fc_store *store, fc_store_room_fn *fn, void *context, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    struct fc_store_room room;
    enum err err = fc_store_select(store, "SELECT " COLUMNS ", " COUNTS " FROM room r ORDER BY r.name, r.id",
        DB_NO_ARGS, &rows, why);
    for (; err == ERR_OK; err = fc_store_next(store, rows, why)) {
        if (read_room(rows, &room) != ERR_OK) {
            err = fc_store_fail(store, ERR_CORRUPT, why);
            break;
        }
        room.unread_count = (uint64_t)db_rows_int(rows, 13);
        room.mention_count = (uint64_t)db_rows_int(rows, 14);
        if (!fn(context, &room)) {
            break;
        }
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
no_room(struct err_detail *why)
{
    return err_fail(why, ERR_NOT_FOUND, "this machine does not know the room yet");
}

enum err
fc_store_room_row(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], int64_t *row_out, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, "SELECT id FROM room WHERE room_id = $1",
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES)), &rows, why);
    if (err == ERR_OK) {
        *row_out = db_rows_int(rows, 0);
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? no_room(why) : err;
}

enum err
fc_store_room_put(struct fc_store *store, const struct fc_store_room *room, struct err_detail *why)
{
    int64_t changed = 0;
    enum err err = fc_store_exec(store,
        "INSERT INTO room (room_id, name, topic, kind, is_plain, is_member) VALUES ($1, $2, $3, $4, $5, $6) "
        "ON CONFLICT (room_id) DO UPDATE SET name = excluded.name, topic = excluded.topic, kind = excluded.kind, "
        "is_member = excluded.is_member WHERE room.is_plain = excluded.is_plain",
        DB_ARGS(db_blob(room->room_id, sizeof(room->room_id)), db_text(room->name), db_text(room->topic),
            db_int(room->kind), db_int(room->is_plain), db_int(room->is_member)),
        &changed, why);
    if (err == ERR_OK && changed == 0) {
        return err_fail(why, ERR_CONFLICT, "the server says that room \"%s\" is %s, which it was not before",
            room->name, room->is_plain ? "plain" : "encrypted");
    }
    return err;
}

enum err
fc_store_room_forget_all(struct fc_store *store, struct err_detail *why)
{
    return fc_store_exec(store, "UPDATE room SET is_member = 0 WHERE is_member <> 0", DB_NO_ARGS, NULL, why);
}

// Runs an UPDATE of one room.
static enum err
update(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count, struct err_detail *why)
{
    int64_t changed = 0;
    enum err err = fc_store_exec(store, sql, args, arg_count, &changed, why);
    return err == ERR_OK && changed == 0 ? no_room(why) : err;
}

enum err
fc_store_room_remove(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct err_detail *why)
{
    return fc_store_exec(store, "DELETE FROM room WHERE room_id = $1", DB_ARGS(db_blob(room_id, E2E_ID_BYTES)), NULL,
        why);
}

enum err
fc_store_room_set_head(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t head_seq,
    struct err_detail *why)
{
    return update(store, "UPDATE room SET head_seq = MAX(head_seq, $1) WHERE room_id = $2",
        DB_ARGS(fc_store_number(head_seq), db_blob(room_id, E2E_ID_BYTES)), why);
}

enum err
fc_store_room_set_synced(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t synced_seq,
    const uint8_t chain[E2E_HASH_BYTES], struct err_detail *why)
{
    return update(store,
        "UPDATE room SET chain = CASE WHEN $1 > synced_seq THEN $2 ELSE chain END, synced_seq = MAX(synced_seq, $1), "
        "head_seq = MAX(head_seq, $1) WHERE room_id = $3",
        DB_ARGS(fc_store_number(synced_seq), db_blob(chain, E2E_HASH_BYTES), db_blob(room_id, E2E_ID_BYTES)), why);
}

enum err
fc_store_room_set_learned(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t learned_seq,
    struct err_detail *why)
{
    return update(store, "UPDATE room SET learned_seq = MAX(learned_seq, $1) WHERE room_id = $2",
        DB_ARGS(fc_store_number(learned_seq), db_blob(room_id, E2E_ID_BYTES)), why);
}

enum err
fc_store_room_set_read(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t read_seq,
    struct err_detail *why)
{
    return update(store, "UPDATE room SET read_seq = MAX(read_seq, $1) WHERE room_id = $2",
        DB_ARGS(fc_store_number(read_seq), db_blob(room_id, E2E_ID_BYTES)), why);
}

enum err
fc_store_room_set_muted(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], bool is_muted,
    struct err_detail *why)
{
    return update(store, "UPDATE room SET is_muted = $1 WHERE room_id = $2",
        DB_ARGS(db_int(is_muted), db_blob(room_id, E2E_ID_BYTES)), why);
}

// Appends one column of a room's row to out.
static enum err
append_column(struct fc_store *store, const char *sql, const uint8_t room_id[E2E_ID_BYTES], struct bytes *out,
    struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, sql, DB_ARGS(db_blob(room_id, E2E_ID_BYTES)), &rows, why);
    if (err == ERR_OK) {
        err = fc_store_append_blob(rows, 0, out);
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? no_room(why) : err;
}

enum err
fc_store_room_state(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct bytes *out,
    struct err_detail *why)
{
    return append_column(store, "SELECT state FROM room WHERE room_id = $1", room_id, out, why);
}

enum err
fc_store_draft_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct bytes *out,
    struct err_detail *why)
{
    return append_column(store, "SELECT draft FROM room WHERE room_id = $1", room_id, out, why);
}

enum err
fc_store_draft_put(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], struct bytes_view text,
    struct err_detail *why)
{
    return update(store, "UPDATE room SET draft = $1 WHERE room_id = $2",
        DB_ARGS(text.size == 0 ? db_null() : db_blob(text.data, text.size), db_blob(room_id, E2E_ID_BYTES)), why);
}

static enum err
append_entry(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], const struct fc_store_entry *entry,
    struct bytes_view state, struct err_detail *why)
{
    int64_t row = 0;
    int64_t changed = 0;
    enum err err = fc_store_room_row(store, room_id, &row, why);
    if (err == ERR_OK) {
        err = fc_store_exec(store, "UPDATE room SET log_seq = $1, state = $2 WHERE id = $3 AND log_seq + 1 = $1",
            DB_ARGS(fc_store_number(entry->seq), db_blob(state.data, state.size), db_int(row)), &changed, why);
    }
    if (err == ERR_OK && changed == 0) {
        err = err_fail(why, ERR_CONFLICT, "entry %llu is not the next one of this room's log",
            (unsigned long long)entry->seq);
    }
    if (err == ERR_OK) {
        err = fc_store_exec(store,
            "INSERT INTO room_entry (room, seq, body, signature, link_signature) VALUES ($1, $2, $3, $4, $5)",
            DB_ARGS(db_int(row), fc_store_number(entry->seq), db_blob(entry->body.data, entry->body.size),
                db_blob(entry->signature.data, entry->signature.size),
                db_blob(entry->link_signature.data, entry->link_signature.size)),
            NULL, why);
    }
    return err;
}

enum err
fc_store_room_append(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], const struct fc_store_entry *entry,
    struct bytes_view state, struct err_detail *why)
{
    enum err err = fc_store_check_number(entry->seq, why);
    if (err == ERR_OK) {
        err = fc_store_enter(store, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    return fc_store_leave(store, append_entry(store, room_id, entry, state, why), why);
}

enum err
fc_store_room_entries(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t after_seq,
    fc_store_entry_fn *fn, void *context, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT e.seq, e.body, e.signature, e.link_signature FROM room r JOIN room_entry e ON e.room = r.id "
        "WHERE r.room_id = $1 AND e.seq > $2 ORDER BY e.seq",
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES), fc_store_number(after_seq)), &rows, why);
    for (; err == ERR_OK; err = fc_store_next(store, rows, why)) {
        struct fc_store_entry entry = {
            .seq = (uint64_t)db_rows_int(rows, 0),
            .body = db_rows_blob(rows, 1),
            .signature = db_rows_blob(rows, 2),
            .link_signature = db_rows_blob(rows, 3),
        };
        if (!fn(context, &entry)) {
            break;
        }
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
fc_store_epoch_put(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    const uint8_t secret[E2E_SECRET_BYTES], struct err_detail *why)
{
    int64_t row = 0;
    int64_t changed = 0;
    enum err err = fc_store_check_number(epoch, why);
    if (err == ERR_OK) {
        err = fc_store_room_row(store, room_id, &row, why);
    }
    if (err == ERR_OK) {
        err = fc_store_exec(store,
            "INSERT INTO epoch (room, epoch, secret) VALUES ($1, $2, $3) "
            "ON CONFLICT (room, epoch) DO UPDATE SET secret = excluded.secret WHERE epoch.secret = excluded.secret",
            DB_ARGS(db_int(row), fc_store_number(epoch), db_blob(secret, E2E_SECRET_BYTES)), &changed, why);
    }
    if (err == ERR_OK && changed == 0) {
        return err_fail(why, ERR_CONFLICT, "another secret of epoch %llu is known already", (unsigned long long)epoch);
    }
    return err;
}

enum err
fc_store_epoch_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t epoch,
    uint8_t secret_out[E2E_SECRET_BYTES], struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT e.secret FROM room r JOIN epoch e ON e.room = r.id WHERE r.room_id = $1 AND e.epoch = $2",
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES), fc_store_number(epoch)), &rows, why);
    if (err == ERR_OK && fc_store_copy_blob(rows, 0, secret_out, E2E_SECRET_BYTES) != ERR_OK) {
        err = fc_store_fail(store, ERR_CORRUPT, why);
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_epoch_oldest(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t *epoch_out,
    struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT e.epoch FROM room r JOIN epoch e ON e.room = r.id WHERE r.room_id = $1 ORDER BY e.epoch LIMIT 1",
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES)), &rows, why);
    if (err == ERR_OK) {
        *epoch_out = (uint64_t)db_rows_int(rows, 0);
    }
    db_rows_free(&rows);
    return err;
}
