// Keeping messages, and doing to others what they say.
//
// Nothing depends on the order of arrival: what a message looks like is made anew from the edits and deletions that are
// kept of it (fold) whenever one of them or the message itself comes. `base_text` is what it was without them.
//
// Words are indexed after the messages of one call, all at once: FTS5 writes out what it has gathered whenever a
// statement begins that could fail half-way. A statement that changes messages, whose triggers take the old words out
// of the index, is preceded by the words of those that are new (change).
//
// Indexes are named where SQLite, which keeps no statistics here, would go through a whole room.
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/fc_store_db_priv.h"
#include "client/fc_store_messages_priv.h"

enum {
    // Row ids grow with the time of sending: milliseconds, then room for this many bits to tell messages apart.
    ID_LOW_BITS = 20,
    ID_TRIES_MAX = 1000,
    FOLD_DEPTH_MAX = 2, // a deletion of an edit of a message
    ID_TEXT_BYTES = 24,
};

// Until the year 2109, so that an id fits into 63 bits.
#define ID_TIME_MAX_MS ((INT64_C(1) << 42) - 1)

static_assert(FC__CHAT__V1__MESSAGE_TYPE__TEXT == 0 && FC__CHAT__V1__MESSAGE_TYPE__EMOTE == 1 &&
                  FC__CHAT__V1__MESSAGE_TYPE__EDIT == 2 && FC__CHAT__V1__MESSAGE_TYPE__DELETE == 3,
    "as in the SQL");
static_assert(FC_STORE_READABLE == 0 && FC_STORE_NO_KEY == 1 && FC_STORE_NO_ENTRY == 2 && FC_STORE_REPEATED == 4,
    "as in the SQL");

int64_t
fc_store_time_id(int64_t sent_ms)
{
    int64_t time_ms = sent_ms < 0 ? 0 : sent_ms;
    return (time_ms > ID_TIME_MAX_MS ? ID_TIME_MAX_MS : time_ms) << ID_LOW_BITS;
}

static bool
is_shown(Fc__Chat__V1__MessageType type)
{
    return type == FC__CHAT__V1__MESSAGE_TYPE__TEXT || type == FC__CHAT__V1__MESSAGE_TYPE__EMOTE;
}

static const char *
or_empty(const char *text)
{
    return text != NULL ? text : "";
}

// Whether the lines have this user or everybody among them.
static bool
mentions_user(const char *mentions, const char *user_name)
{
    for (const char *line = or_empty(mentions); *line != '\0';) {
        size_t size = strcspn(line, "\n");
        struct bytes_view name = bytes_view_of(line, size);
        if (bytes_view_equal(name, bytes_view_of_text(user_name)) ||
            bytes_view_equal(name, bytes_view_of_text("@room"))) {
            return true;
        }
        line += size + (line[size] == '\n' ? 1 : 0);
    }
    return false;
}

static struct db_value
blob_or_null(struct bytes_view blob)
{
    return blob.size == 0 ? db_null() : db_blob(blob.data, blob.size);
}

// note_words remembers to index the words of a new row, if it has any.
static enum err
note_words(struct fc_store *store, int64_t id, const struct fc_store_message *message)
{
    char text[ID_TEXT_BYTES];
    if (!is_shown(message->type) || (or_empty(message->text)[0] == '\0' && or_empty(message->file_name)[0] == '\0')) {
        return ERR_OK;
    }
    (void)snprintf(text, sizeof(text), "%s%" PRId64, store->new_words.size == 0 ? "[" : ",", id);
    return bytes_append(&store->new_words, bytes_view_of_text(text));
}

static enum err
index_words(struct fc_store *store, struct err_detail *why)
{
    if (store->new_words.size == 0) {
        return ERR_OK;
    }
    enum err err = bytes_append(&store->new_words, bytes_view_of("]", 2));
    if (err == ERR_OK) {
        err = fc_store_exec(store,
            "INSERT INTO message_words (rowid, text, file_name) SELECT id, text, file_name FROM message "
            "WHERE id IN (SELECT value FROM json_each($1))",
            DB_ARGS(db_text((const char *)store->new_words.data)), NULL, why);
    }
    bytes_clear(&store->new_words);
    return err;
}

// change runs a statement that may change words.
static enum err
change(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count, struct err_detail *why)
{
    enum err err = index_words(store, why);
    return err == ERR_OK ? fc_store_exec(store, sql, args, arg_count, NULL, why) : err;
}

static enum err
insert_row(struct fc_store *store, int64_t room, int64_t id, const struct fc_store_message *message,
    enum fc_store_unread unread, struct err_detail *why)
{
    static const char sql[] =
        "INSERT INTO message (id, room, seq, message_id, sender_id, sender_name, device_id, sent_ms, type, text, "
        "target_seq, reply_to_seq, topic, mentions, file, file_name, edited_ms, base_edited_ms, is_deleted, is_void, "
        "unread, sealed, is_counted, is_mention) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
        "$15, $16, $17, $17, $18, $19, $20, $21, $22, $23)";
    const struct fc_store_message *m = message;
    bool has_content = unread == FC_STORE_READABLE && !m->is_deleted;
    bool is_sealed = (unread == FC_STORE_NO_KEY || unread == FC_STORE_NO_ENTRY) && !m->is_deleted;
    bool is_counted =
        (has_content || is_sealed) && is_shown(m->type) && strcmp(or_empty(m->sender_name), store->user_name) != 0;
    bool is_mention = is_counted && has_content && mentions_user(m->mentions, store->user_name);
    struct bytes_view nothing = {0};
    enum err err = fc_store_exec(store, sql,
        DB_ARGS(db_int(id), db_int(room), fc_store_number(m->seq), db_blob(m->message_id, E2E_ID_BYTES),
            db_blob(m->sender_id, E2E_ID_BYTES), db_text(or_empty(m->sender_name)),
            m->device_id != NULL ? db_blob(m->device_id, E2E_ID_BYTES) : db_null(), db_int(m->sent_ms), db_int(m->type),
            db_text(has_content ? or_empty(m->text) : ""), fc_store_number(m->target_seq),
            fc_store_number(m->reply_to_seq), db_text(or_empty(m->topic)),
            db_text(has_content ? or_empty(m->mentions) : ""), blob_or_null(has_content ? m->file : nothing),
            db_text(has_content ? or_empty(m->file_name) : ""), db_int(has_content ? m->edited_ms : 0),
            db_int(m->is_deleted), db_int(m->is_void), db_int(unread), blob_or_null(is_sealed ? m->sealed : nothing),
            db_int(is_counted), db_int(is_mention)),
        NULL, why);
    return err == ERR_OK && has_content ? note_words(store, id, m) : err;
}

// Several rooms may have messages of the same time and number: the next free id is taken.
static enum err
insert_new(struct fc_store *store, int64_t room, const struct fc_store_message *message, enum fc_store_unread unread,
    struct err_detail *why)
{
    int64_t id = fc_store_time_id(message->sent_ms) | (int64_t)(message->seq & ((1U << ID_LOW_BITS) - 1));
    enum err err = ERR_EXISTS;
    for (int i = 0; err == ERR_EXISTS && i < ID_TRIES_MAX; i++) {
        err = insert_row(store, room, id + i, message, unread, why);
    }
    return err == ERR_EXISTS ? err_fail(why, ERR_LIMIT, "too many messages were sent in one millisecond") : err;
}

// Takes away what a message said, for good.
static enum err
wipe_row(struct fc_store *store, int64_t id, struct err_detail *why)
{
    return change(store,
        "UPDATE message SET text = '', base_text = NULL, mentions = '', file = NULL, file_name = '', sealed = NULL, "
        "edited_ms = 0, base_edited_ms = 0, unread = 0, is_deleted = 1, is_counted = 0, is_mention = 0 WHERE id = $1",
        DB_ARGS(db_int(id)), why);
}

// A message that is there already.
struct known {
    int64_t id;
    bool is_same;    // has the message_id that was asked for
    bool was_opened; // has the device that sent it, as what was opened in an encrypted room
    uint8_t sender_id[E2E_ID_BYTES];
    Fc__Chat__V1__MessageType type;
    uint64_t target_seq;
    enum fc_store_unread unread;
    bool is_deleted;
    bool is_edited; // by an edit that is kept
    int64_t base_edited_ms;
};

// ERR_NOT_FOUND. message_id may be NULL.
static enum err
find_known(struct fc_store *store, int64_t room, uint64_t seq, const uint8_t *message_id, struct known *out,
    struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT id, message_id, sender_id, type, target_seq, unread, is_deleted, base_edited_ms, base_text IS NOT "
        "NULL, "
        "device_id IS NOT NULL FROM message "
        "WHERE room = $1 AND seq = $2",
        DB_ARGS(db_int(room), fc_store_number(seq)), &rows, why);
    if (err == ERR_OK) {
        *out = (struct known){
            .id = db_rows_int(rows, 0),
            .is_same =
                message_id != NULL && bytes_view_equal(db_rows_blob(rows, 1), bytes_view_of(message_id, E2E_ID_BYTES)),
            .type = (Fc__Chat__V1__MessageType)db_rows_int(rows, 3),
            .target_seq = (uint64_t)db_rows_int(rows, 4),
            .unread = (enum fc_store_unread)db_rows_int(rows, 5),
            .is_deleted = db_rows_int(rows, 6) != 0,
            .base_edited_ms = db_rows_int(rows, 7),
            .is_edited = db_rows_int(rows, 8) != 0,
            .was_opened = db_rows_int(rows, 9) != 0,
        };
        if (fc_store_copy_blob(rows, 2, out->sender_id, sizeof(out->sender_id)) != ERR_OK) {
            err = fc_store_fail(store, ERR_CORRUPT, why);
        }
    }
    db_rows_free(&rows);
    return err;
}

// Deletes a message if one of the deletions that are kept says so.
static enum err
fold_deletion(struct fc_store *store, int64_t room, uint64_t seq, struct known *target, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT 1 FROM message INDEXED BY message_target WHERE room = $1 AND target_seq = $2 AND target_seq <> 0 AND "
        "type = 3 AND unread = 0 "
        "AND is_void = 0",
        DB_ARGS(db_int(room), fc_store_number(seq)), &rows, why);
    db_rows_free(&rows);
    if (err == ERR_OK) {
        target->is_deleted = true;
        err = wipe_row(store, target->id, why);
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// Gives a message the text of its newest edit, or its own when there is none.
static enum err
fold_edits(struct fc_store *store, int64_t room, uint64_t seq, const struct known *target, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT text, sent_ms FROM message INDEXED BY message_target WHERE room = $1 AND target_seq = $2 AND "
        "target_seq <> 0 AND type = 2 "
        "AND unread = 0 AND is_void = 0 AND is_deleted = 0 AND sender_id = $3 ORDER BY seq DESC LIMIT 1",
        DB_ARGS(db_int(room), fc_store_number(seq), db_blob(target->sender_id, sizeof(target->sender_id))), &rows, why);
    if (err == ERR_OK && db_rows_int(rows, 1) >= target->base_edited_ms) {
        err = change(store,
            "UPDATE message SET base_text = COALESCE(base_text, text), text = $1, edited_ms = $2 WHERE id = $3",
            DB_ARGS(db_text(db_rows_text(rows, 0)), db_int(db_rows_int(rows, 1)), db_int(target->id)), why);
    } else if ((err == ERR_OK || err == ERR_NOT_FOUND) && target->is_edited) {
        err = change(store,
            "UPDATE message SET text = base_text, base_text = NULL, edited_ms = base_edited_ms "
            "WHERE id = $1",
            DB_ARGS(db_int(target->id)), why);
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// Makes a message what the others that are kept have made of it. One that is not there yet is no error.
static enum err
fold(struct fc_store *store, int64_t room, uint64_t seq, unsigned depth, struct err_detail *why)
{
    struct known target;
    enum err err = find_known(store, room, seq, NULL, &target, why);
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    bool was_deleted = target.is_deleted;
    if (!target.is_deleted) {
        err = fold_deletion(store, room, seq, &target, why);
    }
    if (err == ERR_OK && target.is_deleted) {
        err = change(store,
            "UPDATE message INDEXED BY message_target SET text = '', mentions = '' WHERE room = $1 AND target_seq = $2 "
            "AND target_seq <> 0 "
            "AND type = 2",
            DB_ARGS(db_int(room), fc_store_number(seq)), why);
    } else if (err == ERR_OK && is_shown(target.type) && target.unread == FC_STORE_READABLE) {
        err = fold_edits(store, room, seq, &target, why);
    }
    bool is_edit_gone = target.type == FC__CHAT__V1__MESSAGE_TYPE__EDIT && target.is_deleted && !was_deleted;
    if (err == ERR_OK && is_edit_gone && depth < FOLD_DEPTH_MAX) {
        err = fold(store, room, target.target_seq, depth + 1, why);
    }
    return err;
}

// Looks for a message of the same device with the same id. The one with the smallest number is the message; what has
// come before it with a greater one is made a copy now.
static enum err
find_copy(struct fc_store *store, int64_t room, const struct fc_store_message *message, enum fc_store_unread *unread,
    size_t *repeated, struct err_detail *why)
{
    if (message->device_id == NULL || message->unread != FC_STORE_READABLE) {
        return ERR_OK;
    }
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT id, seq, type, target_seq FROM message INDEXED BY message_request WHERE message_id = $1 AND room = $2 "
        "AND device_id = $3 AND seq <> $4 AND unread = 0",
        DB_ARGS(db_blob(message->message_id, E2E_ID_BYTES), db_int(room), db_blob(message->device_id, E2E_ID_BYTES),
            fc_store_number(message->seq)),
        &rows, why);
    if (err != ERR_OK) {
        db_rows_free(&rows);
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    int64_t copy_id = db_rows_int(rows, 0);
    uint64_t copy_seq = (uint64_t)db_rows_int(rows, 1);
    int64_t copy_type = db_rows_int(rows, 2);
    uint64_t copy_target_seq = (uint64_t)db_rows_int(rows, 3);
    db_rows_free(&rows);
    (*repeated)++;
    if (copy_seq < message->seq) {
        *unread = FC_STORE_REPEATED;
        return ERR_OK;
    }
    err = change(store,
        "UPDATE message SET text = '', base_text = NULL, mentions = '', file = NULL, file_name = '', unread = 4, "
        "is_counted = 0, is_mention = 0 WHERE id = $1",
        DB_ARGS(db_int(copy_id)), why);
    if (err == ERR_OK && copy_type == FC__CHAT__V1__MESSAGE_TYPE__EDIT) {
        err = fold(store, room, copy_target_seq, 0, why);
    }
    return err;
}

// Takes over what the server says has become of a message that could be read before.
static enum err
renew(struct fc_store *store, int64_t room, const struct known *known, const struct fc_store_message *message,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    if (known->is_deleted || known->unread == FC_STORE_REPEATED) {
        return ERR_OK;
    }
    if (message->is_deleted) {
        err = wipe_row(store, known->id, why);
    } else if (message->unread == FC_STORE_READABLE && message->edited_ms > known->base_edited_ms) {
        err = change(store,
            "UPDATE message SET text = $1, base_text = NULL, edited_ms = $2, base_edited_ms = $2 WHERE id = $3",
            DB_ARGS(db_text(or_empty(message->text)), db_int(message->edited_ms), db_int(known->id)), why);
    } else {
        return ERR_OK;
    }
    return err == ERR_OK ? fold(store, room, message->seq, 0, why) : err;
}

static enum err
put_message(struct fc_store *store, int64_t room, const struct fc_store_message *message, size_t *repeated,
    struct err_detail *why)
{
    struct known known;
    enum fc_store_unread unread = message->unread;
    enum err err = fc_store_check_number(message->seq, why);
    if (err != ERR_OK) {
        return err;
    }
    err = find_known(store, room, message->seq, message->message_id, &known, why);
    bool is_known = err == ERR_OK;
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (is_known && !known.is_same) {
        return err_fail(why, ERR_CONFLICT, "the server shows another message under the number %llu than before",
            (unsigned long long)message->seq);
    }
    // One that the server has shown as deleted, in an encrypted room, and shows now.
    bool is_back =
        is_known && known.is_deleted && !known.was_opened && message->device_id != NULL && !message->is_deleted;
    if (is_known && !is_back &&
        (known.is_deleted || known.unread == FC_STORE_READABLE || known.unread == FC_STORE_REPEATED)) {
        return renew(store, room, &known, message, why);
    }
    err = find_copy(store, room, message, &unread, repeated, why);
    if (err == ERR_OK && is_known) {
        err = change(store, "DELETE FROM message WHERE id = $1", DB_ARGS(db_int(known.id)), why);
        if (err == ERR_OK) {
            err = insert_row(store, room, known.id, message, unread, why);
        }
    } else if (err == ERR_OK) {
        err = insert_new(store, room, message, unread, why);
    }
    if (err == ERR_OK) {
        err = fold(store, room, message->seq, 0, why);
    }
    bool is_acting =
        message->type == FC__CHAT__V1__MESSAGE_TYPE__EDIT || message->type == FC__CHAT__V1__MESSAGE_TYPE__DELETE;
    if (err == ERR_OK && is_acting && message->target_seq != 0) {
        err = fold(store, room, message->target_seq, 0, why);
    }
    return err;
}

enum err
fc_store_messages_put(struct fc_store *store, const struct fc_store_message *messages, size_t message_count,
    size_t *repeated_out, struct err_detail *why)
{
    size_t repeated = 0;
    int64_t room = 0;
    enum err err = fc_store_enter(store, why);
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; err == ERR_OK && i < message_count; i++) {
        if (i == 0 || memcmp(messages[i].room_id, messages[i - 1].room_id, E2E_ID_BYTES) != 0) {
            err = fc_store_room_row(store, messages[i].room_id, &room, why);
        }
        if (err == ERR_OK) {
            err = put_message(store, room, &messages[i], &repeated, why);
        }
    }
    if (err == ERR_OK) {
        err = index_words(store, why);
    }
    bytes_clear(&store->new_words);
    err = fc_store_leave(store, err, why);
    if (err == ERR_OK && repeated_out != NULL) {
        *repeated_out = repeated;
    }
    return err;
}
