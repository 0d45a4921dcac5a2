// Searching messages: from what a person types to a query of the index of words.
#include <string.h>

#include "client/fc_store_db_priv.h"
#include "client/fc_store_messages_priv.h"

enum {
    QUERY_MAX_BYTES = 256,
    WORDS_MAX = 16,
};

struct search {
    struct bytes match; // in the language of FTS5, with a NUL
    size_t word_count;
    char sender[TEXT_USER_NAME_MAX_BYTES + 1]; // empty: anybody
    char room[FC_STORE_ROOM_NAME_MAX_BYTES];   // empty: all
    bool has_file;
};

// A word in double quotes has no meaning but its own; the star makes it a beginning.
static enum err
add_word(struct search *search, struct bytes_view word, bool is_quoted)
{
    enum err err = bytes_append(&search->match, bytes_view_of_text("\""));
    for (size_t i = 0; err == ERR_OK && i < word.size; i++) {
        err = bytes_append(&search->match,
            word.data[i] == '"' ? bytes_view_of_text(" ") : bytes_view_of(&word.data[i], 1));
    }
    if (err == ERR_OK) {
        err = bytes_append(&search->match, bytes_view_of_text(is_quoted ? "\" " : "\" * "));
    }
    search->word_count++;
    return err;
}

// Takes `prefix` off the beginning of a word.
static bool
take_prefix(struct bytes_view *word, const char *prefix)
{
    size_t size = strlen(prefix);
    if (word->size < size || memcmp(word->data, prefix, size) != 0) {
        return false;
    }
    *word = bytes_view_of(word->data + size, word->size - size);
    return true;
}

static enum err
set_name(char *out, size_t out_size, struct bytes_view name, const char *what, struct err_detail *why)
{
    if (name.size == 0 || name.size >= out_size) {
        return err_fail(why, ERR_INVALID, "\"%s\" needs a name behind it", what);
    }
    memcpy(out, name.data, name.size);
    out[name.size] = '\0';
    return ERR_OK;
}

static enum err
take_word(struct search *search, struct bytes_view word, struct err_detail *why)
{
    if (take_prefix(&word, "from:")) {
        (void)take_prefix(&word, "@");
        return set_name(search->sender, sizeof(search->sender), word, "from:", why);
    }
    if (take_prefix(&word, "in:")) {
        return set_name(search->room, sizeof(search->room), word, "in:", why);
    }
    if (take_prefix(&word, "has:")) {
        if (!bytes_view_equal(word, bytes_view_of_text("file"))) {
            return err_fail(why, ERR_INVALID, "of \"has:\" there is only \"has:file\"");
        }
        search->has_file = true;
        return ERR_OK;
    }
    return add_word(search, word, false);
}

static enum err
parse(const char *query, struct search *search, struct err_detail *why)
{
    size_t size = strlen(query);
    if (size > QUERY_MAX_BYTES || !text_is_utf8(bytes_view_of(query, size))) {
        return err_fail(why, ERR_INVALID, "what to search for has to be at most %d bytes of UTF-8", QUERY_MAX_BYTES);
    }
    enum err err = ERR_OK;
    const char *at = query + strspn(query, " \t\n");
    while (err == ERR_OK && *at != '\0') {
        bool is_quoted = *at == '"';
        at += is_quoted ? 1 : 0;
        size_t word_size = strcspn(at, is_quoted ? "\"" : " \t\n");
        struct bytes_view word = bytes_view_of(at, word_size);
        if (!is_quoted) {
            err = take_word(search, word, why);
        } else if (word_size > 0) {
            err = add_word(search, word, true);
        }
        at += word_size;
        at += is_quoted && *at == '"' ? 1 : 0;
        at += strspn(at, " \t\n");
    }
    if (err == ERR_OK && search->word_count > WORDS_MAX) {
        return err_fail(why, ERR_INVALID, "at most %d words can be searched for", WORDS_MAX);
    }
    if (err == ERR_OK && search->word_count == 0 && search->sender[0] == '\0' && search->room[0] == '\0' &&
        !search->has_file) {
        return err_fail(why, ERR_INVALID, "there is nothing to search for");
    }
    return err == ERR_OK ? bytes_append(&search->match, bytes_view_of("", 1)) : err;
}

#define CONDITIONS                                                                                                     \
    "AND ($3 IS NULL OR m.sender_name = $3) AND ($4 IS NULL OR r.name = $4) AND ($5 = 0 OR m.file IS NOT NULL) "

static const char with_words[] =
    "SELECT " FC_STORE_MESSAGE_COLUMNS
    " FROM message_words CROSS JOIN message m ON m.id = message_words.rowid JOIN room r ON r.id = m.room "
    "WHERE message_words MATCH $1 AND message_words.rowid < $2 " CONDITIONS
    "ORDER BY message_words.rowid DESC LIMIT $6";
#define WITHOUT_WORDS(from)                                                                                            \
    "SELECT " FC_STORE_MESSAGE_COLUMNS " FROM " from " CROSS JOIN room r ON r.id = m.room "                            \
    "WHERE $1 IS NOT NULL AND m.id < $2 " CONDITIONS "AND m.type IN (0, 1) AND m.unread = 0 AND m.is_deleted = 0 "
static const char without_words[] = WITHOUT_WORDS("message m") "ORDER BY m.id DESC LIMIT $6";
static const char files_only[] =
    WITHOUT_WORDS("message m INDEXED BY message_file") "AND m.file IS NOT NULL ORDER BY m.id DESC LIMIT $6";

static const char *
statement_of(const struct search *search)
{
    if (search->word_count > 0) {
        return with_words;
    }
    return search->has_file ? files_only : without_words;
}

enum err
fc_store_messages_search(struct fc_store *store, const char *query, uint64_t limit, int64_t before_id,
    fc_store_message_fn *fn, void *context, int64_t *next_before_out, struct err_detail *why)
{
    struct search search = {0};
    enum err err = parse(query, &search, why);
    if (err == ERR_OK && search.room[0] != '\0') {
        struct fc_store_room room;
        err = fc_store_room_find(store, search.room, &room, why);
        if (err == ERR_NOT_FOUND) {
            err = err_fail(why, err, "this machine knows no room \"%s\"", search.room);
        }
    }
    if (err == ERR_OK) {
        err = fc_store_each_message(store, statement_of(&search),
            DB_ARGS(db_text((const char *)search.match.data), db_int(before_id > 0 ? before_id : INT64_MAX),
                db_text(search.sender[0] != '\0' ? search.sender : NULL),
                db_text(search.room[0] != '\0' ? search.room : NULL), db_int(search.has_file), fc_store_limit(limit)),
            fn, context, next_before_out, why);
    }
    bytes_free(&search.match);
    return err;
}
