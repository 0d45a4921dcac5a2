// Listing messages: by number, by time, by topic, and what stands beside them.
#include <stdio.h>

#include "client/fc_store_db_priv.h"
#include "client/fc_store_messages_priv.h"

enum {
    SQL_MAX_BYTES = 1024,
};

static const uint8_t *
id_or_null(struct db_rows *rows, int column, bool *is_valid)
{
    struct bytes_view id = db_rows_blob(rows, column);
    *is_valid = *is_valid && (id.size == E2E_ID_BYTES || id.size == 0);
    return id.size == E2E_ID_BYTES ? id.data : NULL;
}

static enum err
read_message(struct db_rows *rows, struct fc_store_message *out)
{
    bool is_valid = true;
    *out = (struct fc_store_message){
        .room_id = id_or_null(rows, 1, &is_valid),
        .seq = (uint64_t)db_rows_int(rows, 2),
        .message_id = id_or_null(rows, 3, &is_valid),
        .sender_id = id_or_null(rows, 4, &is_valid),
        .sender_name = db_rows_text(rows, 5),
        .device_id = id_or_null(rows, 6, &is_valid),
        .sent_ms = db_rows_int(rows, 7),
        .type = (Fc__Chat__V1__MessageType)db_rows_int(rows, 8),
        .text = db_rows_text(rows, 9),
        .target_seq = (uint64_t)db_rows_int(rows, 10),
        .reply_to_seq = (uint64_t)db_rows_int(rows, 11),
        .topic = db_rows_text(rows, 12),
        .mentions = db_rows_text(rows, 13),
        .file = db_rows_blob(rows, 14),
        .file_name = db_rows_text(rows, 15),
        .edited_ms = db_rows_int(rows, 16),
        .is_deleted = db_rows_int(rows, 17) != 0,
        .is_void = db_rows_int(rows, 18) != 0,
        .unread = (enum fc_store_unread)db_rows_int(rows, 19),
        .sealed = db_rows_blob(rows, 20),
    };
    is_valid = is_valid && out->room_id != NULL && out->message_id != NULL && out->sender_id != NULL;
    return is_valid ? ERR_OK : ERR_CORRUPT;
}

enum err
fc_store_each_message(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count,
    fc_store_message_fn *fn, void *context, int64_t *last_id_out, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    struct fc_store_message message;
    enum err err = fc_store_select(store, sql, args, arg_count, &rows, why);
    for (; err == ERR_OK; err = fc_store_next(store, rows, why)) {
        if (read_message(rows, &message) != ERR_OK) {
            err = fc_store_fail(store, ERR_CORRUPT, why);
            break;
        }
        if (last_id_out != NULL) {
            *last_id_out = db_rows_int(rows, 0);
        }
        if (!fn(context, &message)) {
            break;
        }
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

struct db_value
fc_store_limit(uint64_t limit)
{
    return fc_store_number(limit == 0 ? INT64_MAX : limit);
}

// Lists one stretch of a room: `where` narrows it with $2, `order` says from which end the limit counts.
static enum err
each_where(struct fc_store *store, const struct fc_store_selection *selection, const char *where, const char *order,
    struct db_value position, uint64_t limit, fc_store_message_fn *fn, void *context, struct err_detail *why)
{
    char sql[SQL_MAX_BYTES];
    int length = snprintf(sql, sizeof(sql),
        "SELECT * FROM (SELECT " FC_STORE_MESSAGE_COLUMNS " FROM room r JOIN message m ON m.room = r.id "
        "WHERE r.room_id = $1 AND %s %s AND %s ORDER BY %s LIMIT $4) ORDER BY seq",
        where, selection->is_everything ? "" : "AND m.type IN (0, 1)",
        selection->topic == NULL      ? "$3 IS NULL"
        : selection->topic[0] == '\0' ? "m.topic = $3"
                                      : "m.topic = $3 AND m.topic <> ''",
        order);
    if (length < 0 || length >= (int)sizeof(sql)) {
        return err_fail(why, ERR_INTERNAL, "a statement is too long");
    }
    return fc_store_each_message(store, sql,
        DB_ARGS(db_blob(selection->room_id, E2E_ID_BYTES), position, db_text(selection->topic), fc_store_limit(limit)),
        fn, context, NULL, why);
}

static enum err
each_after(struct fc_store *store, const struct fc_store_selection *selection, uint64_t seq, uint64_t limit,
    fc_store_message_fn *fn, void *context, struct err_detail *why)
{
    return each_where(store, selection, "m.seq > $2", "m.seq", fc_store_number(seq), limit, fn, context, why);
}

static enum err
each_before(struct fc_store *store, const struct fc_store_selection *selection, uint64_t seq, uint64_t limit,
    fc_store_message_fn *fn, void *context, struct err_detail *why)
{
    return each_where(store, selection, "m.seq < $2", "m.seq DESC", fc_store_number(seq), limit, fn, context, why);
}

// Remembers whether fn wanted to stop, so that the second half is not begun.
struct first_half {
    fc_store_message_fn *fn;
    void *context;
    bool is_stopped;
};

static bool
pass_on(void *context, const struct fc_store_message *message)
{
    struct first_half *half = context;
    half->is_stopped = !half->fn(half->context, message);
    return !half->is_stopped;
}

static enum err
each_around(struct fc_store *store, const struct fc_store_selection *selection, fc_store_message_fn *fn, void *context,
    struct err_detail *why)
{
    uint64_t seq = selection->seq > 0 ? selection->seq : 1;
    uint64_t before = selection->limit > 0 ? (selection->limit - 1) / 2 : 0;
    if (selection->limit == 0) {
        return each_after(store, selection, 0, 0, fn, context, why);
    }
    struct first_half half = {.fn = fn, .context = context};
    enum err err = ERR_OK;
    if (before > 0) {
        err = each_before(store, selection, seq, before, pass_on, &half, why);
    }
    if (err != ERR_OK || half.is_stopped) {
        return err;
    }
    return each_after(store, selection, seq - 1, selection->limit - before, fn, context, why);
}

enum err
fc_store_messages_each(struct fc_store *store, const struct fc_store_selection *selection, fc_store_message_fn *fn,
    void *context, struct err_detail *why)
{
    switch (selection->select) {
    case FC_STORE_NEWEST:
        return each_where(store, selection, "m.seq <= $2", "m.seq DESC", db_int(INT64_MAX), selection->limit, fn,
            context, why);
    case FC_STORE_AFTER:
        return each_after(store, selection, selection->seq, selection->limit, fn, context, why);
    case FC_STORE_BEFORE:
        return each_before(store, selection, selection->seq, selection->limit, fn, context, why);
    case FC_STORE_AROUND:
        return each_around(store, selection, fn, context, why);
    case FC_STORE_SINCE:
        return each_where(store, selection, "m.id >= $2", "m.id", db_int(fc_store_time_id(selection->since_ms)),
            selection->limit, fn, context, why);
    }
    return err_fail(why, ERR_INVALID, "no such selection of messages");
}

// Sees one message and remembers that there was one.
struct one {
    fc_store_message_fn *fn;
    void *context;
    bool is_found;
};

static bool
see_one(void *context, const struct fc_store_message *message)
{
    struct one *one = context;
    one->is_found = true;
    return one->fn(one->context, message);
}

enum err
fc_store_messages_get(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t seq,
    fc_store_message_fn *fn, void *context, struct err_detail *why)
{
    struct one one = {.fn = fn, .context = context};
    enum err err = fc_store_each_message(store,
        "SELECT " FC_STORE_MESSAGE_COLUMNS " FROM room r JOIN message m ON m.room = r.id "
        "WHERE r.room_id = $1 AND m.seq = $2",
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES), fc_store_number(seq)), see_one, &one, NULL, why);
    return err == ERR_OK && !one.is_found ? ERR_NOT_FOUND : err;
}

enum err
fc_store_messages_sealed(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t after_seq,
    uint64_t limit, fc_store_message_fn *fn, void *context, struct err_detail *why)
{
    return fc_store_each_message(store,
        "SELECT " FC_STORE_MESSAGE_COLUMNS " FROM room r JOIN message m ON m.room = r.id "
        "WHERE r.room_id = $1 AND m.seq > $2 AND m.unread IN (1, 2) ORDER BY m.seq LIMIT $3",
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES), fc_store_number(after_seq), fc_store_limit(limit)), fn, context, NULL,
        why);
}

// Of what a user did with one text the newest counts; SQLite takes the other columns from the row of the maximum.
static const char reactions_sql[] =
    "SELECT a.text, a.sender_name, a.sender_id, a.seq FROM ("
    "    SELECT m.text, m.sender_name, m.sender_id, m.type, MAX(m.seq) AS seq"
    "    FROM room r JOIN message m INDEXED BY message_target ON m.room = r.id"
    "    WHERE r.room_id = $1 AND m.target_seq = $2 AND m.target_seq <> 0 AND m.type IN (4, 5) AND m.unread = 0"
    "        AND m.is_void = 0 AND m.is_deleted = 0"
    "    GROUP BY m.sender_id, m.text) a "
    "WHERE a.type = 4 ORDER BY MIN(a.seq) OVER (PARTITION BY a.text), a.seq";

enum err
fc_store_messages_reactions(struct fc_store *store, const uint8_t room_id[E2E_ID_BYTES], uint64_t target_seq,
    fc_store_reaction_fn *fn, void *context, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, reactions_sql,
        DB_ARGS(db_blob(room_id, E2E_ID_BYTES), fc_store_number(target_seq)), &rows, why);
    for (; err == ERR_OK; err = fc_store_next(store, rows, why)) {
        struct bytes_view sender_id = db_rows_blob(rows, 2);
        if (sender_id.size != E2E_ID_BYTES) {
            err = fc_store_fail(store, ERR_CORRUPT, why);
            break;
        }
        struct fc_store_reaction reaction = {
            .text = db_rows_text(rows, 0),
            .sender_name = db_rows_text(rows, 1),
            .sender_id = sender_id.data,
            .seq = (uint64_t)db_rows_int(rows, 3),
        };
        if (!fn(context, &reaction)) {
            break;
        }
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
