// Search in plain rooms, without an index of words: one search looks at a bounded number of messages, newest first, and
// says where the next one goes on.
#include <string.h>

#include "services/chat/chat_history.h"
#include "services/chat/chat_history_priv.h"
#include "services/chat/chat_rows.h"

struct words {
    char text[CHAT_SEARCH_WORDS_MAX_BYTES + 1]; // in lower case, each with a NUL behind it
    const char *words[CHAT_SEARCH_WORDS_MAX];
    size_t count;
};

// to_lower is for the letters of two bytes in UTF-8 that have cases: Latin, Greek and Cyrillic. Both cases have two
// bytes, so that text keeps its size.
static unsigned
to_lower(unsigned c)
{
    if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9) || (c >= 0x410 && c <= 0x42f)) {
        return c + 0x20;
    }
    if (c >= 0x400 && c <= 0x40f) {
        return c + 0x50;
    }
    bool has_odd_lower = (c >= 0x100 && c <= 0x137 && c != 0x130 && c != 0x131) || (c >= 0x14a && c <= 0x177) ||
                         (c >= 0x460 && c <= 0x481) || (c >= 0x48a && c <= 0x4bf) || (c >= 0x4d0 && c <= 0x52f);
    if (has_odd_lower) {
        return c | 1;
    }
    bool has_even_lower = (c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e) || (c >= 0x4c1 && c <= 0x4ce);
    return has_even_lower ? c + (c & 1) : c;
}

// lower_text writes what is in text in lower case, and a NUL.
static void
lower_text(struct bytes_view text, char *out)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if ((c & 0xe0) == 0xc0 && i + 1 < text.size) {
            unsigned lower = to_lower((unsigned)(c & 0x1f) << 6 | (text.data[i + 1] & 0x3f));
            out[i] = (char)(0xc0 | lower >> 6);
            out[i + 1] = (char)(0x80 | (lower & 0x3f));
            i++;
        } else {
            out[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        }
    }
    out[text.size] = '\0';
}

static enum err
split_words(const char *text, struct words *out, struct err_detail *why)
{
    size_t size = strlen(text);
    if (size > CHAT_SEARCH_WORDS_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "the words to search for have %zu bytes, the limit is %d", size,
            CHAT_SEARCH_WORDS_MAX_BYTES);
    }
    lower_text(bytes_view_of(text, size), out->text);
    out->count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(out->text, " \t\r\n", &rest); word != NULL; word = strtok_r(NULL, " \t\r\n", &rest)) {
        if (out->count == CHAT_SEARCH_WORDS_MAX) {
            return err_fail(why, ERR_INVALID, "a search is for at most %d words", CHAT_SEARCH_WORDS_MAX);
        }
        out->words[out->count++] = word;
    }
    return out->count == 0 ? err_fail(why, ERR_INVALID, "there are no words to search for") : ERR_OK;
}

static bool
has_all(struct bytes_view text, const struct words *words, char *lower)
{
    lower_text(text, lower);
    for (size_t i = 0; i < words->count; i++) {
        if (strstr(lower, words->words[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static enum err
check_query(const struct chat_search_query *query, struct words *words, struct err_detail *why)
{
    if (query->limit > CHAT_SEARCH_MAX) {
        return err_fail(why, ERR_INVALID, "a limit of %u messages is too large, the largest is %d; ask again for more",
            (unsigned)query->limit, CHAT_SEARCH_MAX);
    }
    if (query->sender[0] != '\0') {
        enum err err = text_check_user_name(query->sender, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    return split_words(query->words, words, why);
}

// scan looks at rows, newest first, until the page is full or enough has been looked at.
static enum err
scan(struct store_rows *rows, const struct chat_search_query *query, const struct words *words, uint32_t limit,
    struct chat_history *out)
{
    char *lower = arena_alloc(&out->arena, CHAT_TEXT_MAX_BYTES + 1);
    if (lower == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t found_bytes = 0;
    size_t scanned_bytes = 0;
    for (size_t i = 0;; i++) {
        enum err err = store_rows_next(rows);
        if (err != ERR_OK) {
            return err == ERR_NOT_FOUND ? ERR_OK : err;
        }
        struct bytes_view text = bytes_view_of_text(store_rows_text(rows, 4));
        if (out->count == limit || i == CHAT_SEARCH_SCAN_MAX || scanned_bytes > CHAT_SEARCH_SCAN_MAX_BYTES) {
            out->next_before_seq = (uint64_t)store_rows_int(rows, 0) + 1;
            return ERR_OK;
        }
        scanned_bytes += text.size;
        bool is_by = query->sender[0] == '\0' || strcmp(query->sender, store_rows_text(rows, 2)) == 0;
        if (!is_by || text.size > CHAT_TEXT_MAX_BYTES || !has_all(text, words, lower)) {
            continue;
        }
        struct chat_message *message = &out->messages[out->count];
        err = chat_history_read_row(rows, out, message);
        if (err != ERR_OK) {
            return err;
        }
        found_bytes += chat_history_message_bytes(message);
        if (found_bytes > CHAT_HISTORY_MAX_BYTES && out->count > 0) {
            out->next_before_seq = message->seq + 1;
            return ERR_OK;
        }
        out->count++;
    }
}

enum err
chat_search(struct store_tx *tx, const struct chat_search_query *query, struct chat_history *out,
    struct err_detail *why)
{
    struct words words;
    memset(out, 0, sizeof(*out));
    enum err err = check_query(query, &words, why);
    if (err == ERR_OK) {
        err = chat_core_find_member_room(tx, query->room, query->user_id, &out->room, why);
    }
    if (err == ERR_OK && !out->room.is_plain) {
        err = err_fail(why, ERR_PRECONDITION,
            "\"%s\" is encrypted, so the server cannot search it; fc room search looks at what this device has",
            out->room.name);
    }
    uint32_t limit = query->limit == 0 ? CHAT_SEARCH_DEFAULT : query->limit;
    if (err == ERR_OK) {
        err = chat_history_init(out, limit);
    }
    if (err != ERR_OK) {
        return err;
    }
    bool is_bounded = query->before_seq != 0 && query->before_seq <= INT64_MAX;
    struct store_rows *rows = NULL;
    // The newest one that is not shown any more says that there are more.
    err = store_query(tx,
        "SELECT " CHAT_MESSAGE_COLUMNS " FROM chat_messages WHERE room_id = $1 AND seq < $2 AND type < 2"
        " AND is_deleted = 0 ORDER BY seq DESC LIMIT $3",
        STORE_ARGS(chat_rows_id(out->room.id), store_int(is_bounded ? (int64_t)query->before_seq : INT64_MAX),
            store_int(CHAT_SEARCH_SCAN_MAX + 1)),
        &rows);
    if (err == ERR_OK) {
        err = scan(rows, query, &words, limit, out);
    }
    store_rows_free(&rows);
    return err;
}
