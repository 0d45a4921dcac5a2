// Messages: a row each. What makes them appear once and in order is told in chat_core.c.
#include "services/chat/chat_messages.h"

#include <string.h>

#include "base/clock.h"
#include "services/chat/chat_rows.h"

enum {
    // What a message takes in a reply beside its text and file name: ids, numbers, sender, tags.
    MESSAGE_OVERHEAD_BYTES = 160,
    // A page's text, once more for the message that went over the limit and rounding, and CHAT_HISTORY_MAX structs.
    HISTORY_ARENA_BYTES = 2 * CHAT_HISTORY_MAX_BYTES + CHAT_HISTORY_MAX * 1536,
};

static enum err
check_outgoing(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    size_t text_size = strlen(outgoing->text);
    if (outgoing->request_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID,
            "sending needs a request_id of %d random bytes in the call's header, so that the message appears once only",
            CHAT_ID_BYTES);
    }
    if (outgoing->has_file && outgoing->file_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "a file's id has %d bytes, not %zu", CHAT_ID_BYTES, outgoing->file_id.size);
    }
    if (text_size == 0 && !outgoing->has_file) {
        return err_fail(why, ERR_INVALID, "the message is empty; give it text or a file");
    }
    if (text_size > CHAT_TEXT_MAX_BYTES) {
        return err_fail(why, ERR_INVALID,
            "the message has %zu bytes, the limit is %d; send it in parts, or as a file with fc upload", text_size,
            CHAT_TEXT_MAX_BYTES);
    }
    return ERR_OK;
}

// find_sent looks for what this request id appended before. ERR_NOT_FOUND: nothing.
static enum err
find_sent(struct store_tx *tx, const struct chat_outgoing *outgoing, struct chat_sent *out, struct err_detail *why)
{
    struct store_rows *rows = NULL;
    enum err err =
        store_query(tx, "SELECT seq, sent_at_ms, sender_id FROM chat_messages WHERE room_id = $1 AND message_id = $2",
            STORE_ARGS(chat_rows_id(out->room_id), store_blob(outgoing->request_id.data, outgoing->request_id.size)),
            &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        struct bytes_view sender_id = store_rows_blob(rows, 2);
        if (bytes_view_equal(sender_id, bytes_view_of(outgoing->sender.id, CHAT_ID_BYTES))) {
            out->seq = (uint64_t)store_rows_int(rows, 0);
            out->sent_at_ms = store_rows_int(rows, 1);
            out->is_resend = true;
        } else {
            err = err_fail(why, ERR_CONFLICT,
                "this request_id is the id of somebody else's message; use 16 random bytes for each message");
        }
    }
    store_rows_free(&rows);
    return err;
}

// advance_head gives the message its number and time. The clock may have been set back; a room's times are not.
static enum err
advance_head(struct store_tx *tx, struct chat_sent *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "UPDATE chat_rooms SET head_seq = head_seq + 1,"
        " last_sent_at_ms = CASE WHEN last_sent_at_ms > $1 THEN last_sent_at_ms ELSE $1 END"
        " WHERE room_id = $2 RETURNING head_seq, last_sent_at_ms",
        STORE_ARGS(store_int(clock_unix_ms()), chat_rows_id(out->room_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        out->seq = (uint64_t)store_rows_int(rows, 0);
        out->sent_at_ms = store_rows_int(rows, 1);
    }
    store_rows_free(&rows);
    return err;
}

static enum err
insert_message(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_sent *sent)
{
    const struct chat_file *file = outgoing->has_file ? &sent->file : NULL;
    return store_exec(tx,
        "INSERT INTO chat_messages (room_id, seq, message_id, sender_id, sender_name, sent_at_ms, text,"
        " file_id, file_name, file_size_bytes, file_md5) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        STORE_ARGS(chat_rows_id(sent->room_id), store_int((int64_t)sent->seq),
            store_blob(outgoing->request_id.data, outgoing->request_id.size), chat_rows_id(outgoing->sender.id),
            store_text(outgoing->sender.name), store_int(sent->sent_at_ms), store_text(outgoing->text),
            file == NULL ? store_null() : chat_rows_id(file->file_id), store_text(file == NULL ? NULL : file->name),
            file == NULL ? store_null() : store_int((int64_t)file->size_bytes),
            file == NULL ? store_null() : store_blob(file->md5, sizeof(file->md5))),
        NULL);
}

static enum err
find_file(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room,
    struct chat_sent *out, struct err_detail *why)
{
    enum err err = ERR_NOT_FOUND;
    if (outgoing->find_file != NULL) {
        err = outgoing->find_file(outgoing->find_file_context, tx, room->id, outgoing->file_id.data, &out->file);
    }
    if (err == ERR_NOT_FOUND) {
        return err_fail(why, err, "that file is not shared with \"%s\"; fc upload --room %s shares and announces one",
            room->name, room->name);
    }
    memcpy(out->file.file_id, outgoing->file_id.data, sizeof(out->file.file_id));
    return err;
}

enum err
chat_messages_send(struct store_tx *tx, const struct chat_outgoing *outgoing, struct chat_sent *out,
    struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    enum err err = check_outgoing(outgoing, why);
    if (err != ERR_OK) {
        return err;
    }
    struct chat_room room;
    err = chat_core_find_room(tx, outgoing->room, outgoing->sender.id, &room, why);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(out->room_id, room.id, sizeof(out->room_id));
    err = find_sent(tx, outgoing, out, why);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    if (!room.is_member) {
        return chat_core_fail_not_member(&room, ERR_DENIED, why);
    }
    if (outgoing->has_file) {
        err = find_file(tx, outgoing, &room, out, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = advance_head(tx, out);
    return err == ERR_OK ? insert_message(tx, outgoing, out) : err;
}

static enum err
arena_copy_id(struct arena *arena, struct store_rows *rows, int column, const uint8_t **out)
{
    uint8_t *id = arena_alloc(arena, CHAT_ID_BYTES);
    if (id == NULL) {
        return ERR_NO_MEMORY;
    }
    *out = id;
    return chat_rows_read_fixed(rows, column, id, CHAT_ID_BYTES);
}

static enum err
read_message_file(struct store_rows *rows, struct arena *arena, const struct chat_file **out)
{
    if (store_rows_is_null(rows, 5)) {
        *out = NULL;
        return ERR_OK;
    }
    struct chat_file *file = arena_alloc(arena, sizeof(*file));
    if (file == NULL) {
        return ERR_NO_MEMORY;
    }
    memset(file, 0, sizeof(*file));
    chat_rows_copy_text(file->name, sizeof(file->name), store_rows_text(rows, 6));
    file->size_bytes = (uint64_t)store_rows_int(rows, 7);
    *out = file;
    enum err err = chat_rows_read_fixed(rows, 5, file->file_id, sizeof(file->file_id));
    return err == ERR_OK ? chat_rows_read_fixed(rows, 8, file->md5, sizeof(file->md5)) : err;
}

// read_message copies a row of MESSAGE_COLUMNS into the arena.
#define MESSAGE_COLUMNS "seq, message_id, sender_name, sent_at_ms, text, file_id, file_name, file_size_bytes, file_md5"

static enum err
read_message(struct store_rows *rows, struct chat_history *page, struct chat_message *out)
{
    memset(out, 0, sizeof(*out));
    out->room_id = page->room.id;
    out->seq = (uint64_t)store_rows_int(rows, 0);
    out->sent_at_ms = store_rows_int(rows, 3);
    out->sender = arena_copy_text(&page->arena, store_rows_text(rows, 2));
    out->text = arena_copy_text(&page->arena, store_rows_text(rows, 4));
    if (out->sender == NULL || out->text == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = arena_copy_id(&page->arena, rows, 1, &out->id);
    return err == ERR_OK ? read_message_file(rows, &page->arena, &out->file) : err;
}

static size_t
message_bytes(const struct chat_message *message)
{
    size_t file_bytes = message->file == NULL ? 0 : strlen(message->file->name);
    return MESSAGE_OVERHEAD_BYTES + strlen(message->text) + file_bytes;
}

static enum err
read_page(struct store_rows *rows, uint32_t limit, struct chat_history *page)
{
    size_t page_bytes = 0;
    while (page->count < limit) {
        enum err err = store_rows_next(rows);
        if (err != ERR_OK) {
            return err == ERR_NOT_FOUND ? ERR_OK : err;
        }
        struct chat_message *message = &page->messages[page->count];
        err = read_message(rows, page, message);
        if (err != ERR_OK) {
            return err;
        }
        page_bytes += message_bytes(message);
        if (page_bytes > CHAT_HISTORY_MAX_BYTES && page->count > 0) {
            return ERR_OK;
        }
        page->count++;
    }
    return ERR_OK;
}

static void
reverse(struct chat_message *messages, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct chat_message swapped = messages[i];
        messages[i] = messages[count - 1 - i];
        messages[count - 1 - i] = swapped;
    }
}

enum err
chat_messages_history(struct store_tx *tx, const uint8_t user_id[CHAT_ID_BYTES], const char *room, uint64_t after_seq,
    uint32_t limit, bool newest, struct chat_history *out, struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    arena_init(&out->arena, HISTORY_ARENA_BYTES);
    if (limit > CHAT_HISTORY_MAX) {
        return err_fail(why, ERR_INVALID, "a limit of %u messages is too large, the largest is %d; ask again for more",
            (unsigned)limit, CHAT_HISTORY_MAX);
    }
    limit = limit == 0 ? CHAT_HISTORY_DEFAULT : limit;
    enum err err = chat_core_find_member_room(tx, room, user_id, &out->room, why);
    if (err != ERR_OK) {
        return err;
    }
    out->messages = arena_alloc(&out->arena, limit * sizeof(*out->messages));
    if (out->messages == NULL) {
        return ERR_NO_MEMORY;
    }
    int64_t after = newest ? 0 : (int64_t)(after_seq > INT64_MAX ? INT64_MAX : after_seq);
    struct store_rows *rows = NULL;
    err = store_query(tx,
        newest ? "SELECT " MESSAGE_COLUMNS " FROM chat_messages WHERE room_id = $1 AND seq > $2"
                 " ORDER BY seq DESC LIMIT $3"
               : "SELECT " MESSAGE_COLUMNS " FROM chat_messages WHERE room_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        STORE_ARGS(chat_rows_id(out->room.id), store_int(after), store_int(limit)), &rows);
    if (err == ERR_OK) {
        err = read_page(rows, limit, out);
    }
    store_rows_free(&rows);
    if (newest) {
        reverse(out->messages, out->count);
    }
    return err;
}

void
chat_history_deinit(struct chat_history *history)
{
    arena_deinit(&history->arena);
    memset(history, 0, sizeof(*history));
}
