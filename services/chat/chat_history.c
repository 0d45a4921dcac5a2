// Pages of history. Numbers are dense and times never decrease within a room, so a time is found by halving.
#include "services/chat/chat_history.h"

#include <string.h>

#include "services/chat/chat_history_priv.h"
#include "services/chat/chat_mentions.h"
#include "services/chat/chat_rows.h"

enum {
    // What a message takes in a reply beside its texts: ids, numbers, hashes, tags.
    MESSAGE_OVERHEAD_BYTES = 240,
    MENTION_OVERHEAD_BYTES = 48,
    // A page's text, once more for the message that went over the limit and rounding, and CHAT_HISTORY_MAX structs.
    HISTORY_ARENA_BYTES = 2 * CHAT_HISTORY_MAX_BYTES + CHAT_HISTORY_MAX * 2560,
};

static enum err
copy_blob(struct arena *arena, struct bytes_view blob, struct bytes_view *out)
{
    *out = (struct bytes_view){0};
    if (blob.size == 0) {
        return ERR_OK;
    }
    uint8_t *copy = arena_alloc(arena, blob.size);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, blob.data, blob.size);
    *out = bytes_view_of(copy, blob.size);
    return ERR_OK;
}

static enum err
copy_id(struct arena *arena, struct store_rows *rows, int column, const uint8_t **out)
{
    uint8_t *id = arena_alloc(arena, CHAT_ID_BYTES);
    if (id == NULL) {
        return ERR_NO_MEMORY;
    }
    *out = id;
    return chat_rows_read_fixed(rows, column, id, CHAT_ID_BYTES);
}

static enum err
read_file(struct store_rows *rows, struct arena *arena, const struct chat_file **out)
{
    *out = NULL;
    // A sealed message keeps only the id of its file, for nobody to read here.
    if (store_rows_is_null(rows, 5) || store_rows_is_null(rows, 6)) {
        return ERR_OK;
    }
    struct chat_file *file = arena_alloc(arena, sizeof(*file));
    if (file == NULL) {
        return ERR_NO_MEMORY;
    }
    memset(file, 0, sizeof(*file));
    chat_rows_copy_text(file->name, sizeof(file->name), store_rows_text(rows, 6));
    file->size_bytes = (uint64_t)store_rows_int(rows, 7);
    chat_rows_copy_text(file->mime_type, sizeof(file->mime_type), store_rows_text(rows, 17));
    file->width_px = (uint32_t)store_rows_int(rows, 18);
    file->height_px = (uint32_t)store_rows_int(rows, 19);
    *out = file;
    enum err err = copy_blob(arena, store_rows_blob(rows, 20), &file->preview);
    if (err == ERR_OK) {
        err = chat_rows_read_fixed(rows, 5, file->file_id, sizeof(file->file_id));
    }
    return err == ERR_OK ? chat_rows_read_fixed(rows, 8, file->md5, sizeof(file->md5)) : err;
}

static enum err
read_sealed(struct store_rows *rows, struct arena *arena, struct chat_message *out)
{
    enum err err = copy_blob(arena, store_rows_blob(rows, 21), &out->sealed);
    if (err == ERR_OK) {
        err = copy_blob(arena, store_rows_blob(rows, 22), &out->sealed_hash);
    }
    return err == ERR_OK ? copy_blob(arena, store_rows_blob(rows, 23), &out->chain) : err;
}

enum err
chat_history_read_row(struct store_rows *rows, struct chat_history *page, struct chat_message *out)
{
    struct arena *arena = &page->arena;
    memset(out, 0, sizeof(*out));
    out->room_id = page->room.id;
    out->seq = (uint64_t)store_rows_int(rows, 0);
    out->sent_at_ms = store_rows_int(rows, 3);
    out->type = (enum chat_message_type)store_rows_int(rows, 10);
    out->target_seq = (uint64_t)store_rows_int(rows, 11);
    out->reply_to_seq = (uint64_t)store_rows_int(rows, 12);
    out->edited_at_ms = store_rows_int(rows, 15);
    out->is_deleted = store_rows_int(rows, 16) != 0;
    out->sender = arena_copy_text(arena, store_rows_text(rows, 2));
    out->text = arena_copy_text(arena, store_rows_text(rows, 4));
    out->topic = arena_copy_text(arena, store_rows_text(rows, 14));
    if (out->sender == NULL || out->text == NULL || out->topic == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = copy_id(arena, rows, 1, &out->id);
    if (err == ERR_OK) {
        err = copy_id(arena, rows, 9, &out->sender_id);
    }
    if (err == ERR_OK) {
        err = chat_mentions_split(arena, store_rows_text(rows, 13), &out->mentions, &out->mention_count);
    }
    if (err == ERR_OK) {
        err = read_sealed(rows, arena, out);
    }
    return err == ERR_OK ? read_file(rows, arena, &out->file) : err;
}

size_t
chat_history_message_bytes(const struct chat_message *message)
{
    size_t bytes = MESSAGE_OVERHEAD_BYTES + strlen(message->text) + strlen(message->topic) + message->sealed.size;
    bytes += message->mention_count * MENTION_OVERHEAD_BYTES;
    if (message->file != NULL) {
        bytes += strlen(message->file->name) + message->file->preview.size;
    }
    return bytes;
}

enum err
chat_history_init(struct chat_history *page, uint32_t limit)
{
    arena_init(&page->arena, HISTORY_ARENA_BYTES);
    page->messages = arena_alloc(&page->arena, limit * sizeof(*page->messages));
    page->count = 0;
    return page->messages == NULL ? ERR_NO_MEMORY : ERR_OK;
}

// span is a part of a page: up to limit messages from a number on, upwards or downwards.
struct span {
    bool is_down;
    uint64_t bound_seq; // not part of it
    uint32_t limit;
    size_t max_bytes;
};

static enum err
read_rows(struct store_rows *rows, const struct span *span, struct chat_history *page)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < span->limit; i++) {
        enum err err = store_rows_next(rows);
        if (err != ERR_OK) {
            return err == ERR_NOT_FOUND ? ERR_OK : err;
        }
        struct chat_message *message = &page->messages[page->count];
        err = chat_history_read_row(rows, page, message);
        if (err != ERR_OK) {
            return err;
        }
        bytes += chat_history_message_bytes(message);
        if (bytes > span->max_bytes && i > 0) {
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

// read_span appends to the page, oldest first.
static enum err
read_span(struct store_tx *tx, const struct span *span, struct chat_history *page)
{
    size_t start = page->count;
    int64_t bound = (int64_t)(span->bound_seq > INT64_MAX ? INT64_MAX : span->bound_seq);
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        span->is_down ? "SELECT " CHAT_MESSAGE_COLUMNS " FROM chat_messages WHERE room_id = $1 AND seq < $2"
                        " ORDER BY seq DESC LIMIT $3"
                      : "SELECT " CHAT_MESSAGE_COLUMNS
                        " FROM chat_messages WHERE room_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        STORE_ARGS(chat_rows_id(page->room.id), store_int(bound), store_int(span->limit)), &rows);
    if (err == ERR_OK) {
        err = read_rows(rows, span, page);
    }
    store_rows_free(&rows);
    if (span->is_down) {
        reverse(page->messages + start, page->count - start);
    }
    return err;
}

// read_around reads what is before first, with half of what a page holds.
static enum err
read_around(struct store_tx *tx, uint64_t seq, uint32_t limit, struct chat_history *page)
{
    struct span before = {.is_down = true,
        .bound_seq = seq,
        .limit = (limit - 1) / 2,
        .max_bytes = CHAT_HISTORY_MAX_BYTES / 2};
    enum err err = before.limit == 0 ? ERR_OK : read_span(tx, &before, page);
    if (err != ERR_OK) {
        return err;
    }
    struct span rest = {.bound_seq = seq - 1,
        .limit = limit - (uint32_t)page->count,
        .max_bytes = CHAT_HISTORY_MAX_BYTES / 2};
    return read_span(tx, &rest, page);
}

static enum err
read_time(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t seq, int64_t *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT sent_at_ms FROM chat_messages WHERE room_id = $1 AND seq = $2",
        STORE_ARGS(chat_rows_id(room_id), store_int((int64_t)seq)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *out = store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err; // numbers have no gaps
}

// find_since finds the last message that was sent before since_ms; 0: none.
static enum err
find_since(struct store_tx *tx, const struct chat_room *room, int64_t since_ms, uint64_t *seq_out)
{
    uint64_t before = 0;
    uint64_t after = room->head_seq + 1;
    while (after - before > 1) {
        uint64_t middle = before + (after - before) / 2;
        int64_t sent_at_ms = 0;
        enum err err = read_time(tx, room->id, middle, &sent_at_ms);
        if (err != ERR_OK) {
            return err;
        }
        if (sent_at_ms < since_ms) {
            before = middle;
        } else {
            after = middle;
        }
    }
    *seq_out = before;
    return ERR_OK;
}

static enum err
check_query(const struct chat_history_query *query, struct err_detail *why)
{
    if (query->limit > CHAT_HISTORY_MAX) {
        return err_fail(why, ERR_INVALID, "a limit of %u messages is too large, the largest is %d; ask again for more",
            (unsigned)query->limit, CHAT_HISTORY_MAX);
    }
    if (query->newest + (query->before_seq != 0) + (query->around_seq != 0) + (query->since_ms != 0) > 1) {
        return err_fail(why, ERR_INVALID, "give one of newest, before_seq, around_seq and since_ms");
    }
    return ERR_OK;
}

enum err
chat_history_read(struct store_tx *tx, const struct chat_history_query *query, struct chat_history *out,
    struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    enum err err = check_query(query, why);
    if (err == ERR_OK) {
        err = chat_core_find_member_room(tx, query->room, query->user_id, &out->room, why);
    }
    uint32_t limit = query->limit == 0 ? CHAT_HISTORY_DEFAULT : query->limit;
    if (err == ERR_OK) {
        err = chat_history_init(out, limit);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (query->around_seq != 0) {
        return read_around(tx, query->around_seq, limit, out);
    }
    struct span span = {.limit = limit, .max_bytes = CHAT_HISTORY_MAX_BYTES, .bound_seq = query->after_seq};
    if (query->newest || query->before_seq != 0) {
        span.is_down = true;
        span.bound_seq = query->newest ? INT64_MAX : query->before_seq;
    } else if (query->since_ms != 0) {
        err = find_since(tx, &out->room, query->since_ms, &span.bound_seq);
    }
    return err == ERR_OK ? read_span(tx, &span, out) : err;
}

enum err
chat_history_get(struct store_tx *tx, const struct chat_room *room, uint64_t seq, struct chat_history *out,
    struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    out->room = *room;
    enum err err = chat_history_init(out, 1);
    struct span span = {.bound_seq = seq - 1, .limit = 1, .max_bytes = CHAT_HISTORY_MAX_BYTES};
    if (err == ERR_OK && seq != 0) {
        err = read_span(tx, &span, out);
    }
    if (err == ERR_OK && out->count == 0) {
        return err_fail(why, ERR_NOT_FOUND, "there is no message %llu in \"%s\"", (unsigned long long)seq, room->name);
    }
    return err;
}

void
chat_history_deinit(struct chat_history *history)
{
    arena_deinit(&history->arena);
    memset(history, 0, sizeof(*history));
}
