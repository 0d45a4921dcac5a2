// Entries of a log: what they say, and the rows that it takes.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/tui_log.h"

enum {
    INDENT = 8,          // of what follows the first row, so that no text can pretend to begin a message
    NARROW_COLUMNS = 24, // less is too little for text beside time and name
};

// What a part may take; of a message that is longer the rest is in 'fc history'.
static const size_t row_limits[TUI_PART_NUMBER_OF] = {
    [TUI_PART_DAY] = 1,
    [TUI_PART_QUOTE] = 1,
    [TUI_PART_TEXT] = 1000,
    [TUI_PART_FILE] = 4,
    [TUI_PART_REACTIONS] = 4,
};

// What no text of others can stand below, and as wide as their indent.
static const char note_stamp[] = "  ---   ";
_Static_assert(sizeof note_stamp - 1 == INDENT, "all rows of a note begin in the same column");

// add appends to a part; the first failure stays in *code.
static void
add(enum err *code, struct bytes *part, const char *own_text)
{
    if (*code == ERR_OK) {
        *code = bytes_append(part, bytes_view_of_text(own_text));
    }
}

static void
add_outside(enum err *code, struct bytes *part, const char *text, bool keep_newlines)
{
    if (*code == ERR_OK) {
        *code = tui_append_plain(part, text, keep_newlines);
    }
}

static void
set_stamp(struct tui_entry *entry, int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    char clock[16] = "--:--";
    // A server can send any number.
    if (localtime_r(&seconds, &parts) != NULL && parts.tm_year >= 0 && parts.tm_year < 8000) {
        (void)strftime(clock, sizeof clock, "%H:%M", &parts);
        entry->day = (parts.tm_year + 1900) * 10000 + (parts.tm_mon + 1) * 100 + parts.tm_mday;
    }
    if (entry->kind == TUI_ENTRY_MESSAGE) {
        (void)snprintf(entry->stamp, sizeof entry->stamp, "%s #%" PRIu64 " ", clock, entry->seq);
    } else {
        (void)snprintf(entry->stamp, sizeof entry->stamp, "%s ... ", clock);
    }
}

static void
set_sender(enum err *code, struct tui_entry *entry, const char *sender)
{
    struct bytes plain = {0};
    add_outside(code, &plain, sender, false);
    struct bytes_view view = bytes_as_view(&plain);
    size_t size = view.size < sizeof entry->sender ? view.size : tui_fit(view, (int)sizeof entry->sender / 4);
    if (*code == ERR_OK && size > 0 && size < sizeof entry->sender) {
        memcpy(entry->sender, view.data, size);
    }
    bytes_free(&plain);
}

static void
add_file(enum err *code, struct bytes *part, const struct fc_message *message)
{
    char size[TEXT_SIZE_BYTES];
    text_format_size((double)message->file_size_bytes, size);
    add(code, part, "[file ");
    add_outside(code, part, message->file_name != NULL ? message->file_name : "", false);
    add(code, part, ", ");
    add(code, part, size);
    add(code, part, "]");
}

// add_reactions writes each emoji once, with who reacted so: "[+1 alice, bob]".
static void
add_reactions(enum err *code, struct bytes *part, const struct fc_message *message)
{
    const struct fc_reaction *reactions = message->reactions;
    for (size_t i = 0; i < message->reaction_count; i++) {
        bool is_known = false;
        for (size_t j = 0; j < i; j++) {
            is_known = is_known || strcmp(reactions[i].emoji, reactions[j].emoji) == 0;
        }
        if (is_known) {
            continue;
        }
        add(code, part, part->size > 0 ? " [" : "[");
        add_outside(code, part, reactions[i].emoji, false);
        for (size_t j = i; j < message->reaction_count; j++) {
            if (strcmp(reactions[i].emoji, reactions[j].emoji) == 0) {
                add(code, part, j == i ? " " : ", ");
                add_outside(code, part, reactions[j].user_name, false);
            }
        }
        add(code, part, "]");
    }
}

static void
note_own_reactions(enum err *code, struct bytes *out, const struct fc_message *message, const char *own_name)
{
    for (size_t i = 0; i < message->reaction_count; i++) {
        if (strcmp(message->reactions[i].user_name, own_name) == 0) {
            add(code, out, message->reactions[i].emoji);
            add(code, out, "\n");
        }
    }
}

bool
tui_entry_has_reaction(const struct tui_entry *entry, struct bytes_view emoji)
{
    struct bytes_view rest = bytes_as_view(&entry->own_reactions);
    while (rest.size > 0) {
        const uint8_t *end = memchr(rest.data, '\n', rest.size);
        size_t size = end != NULL ? (size_t)(end - rest.data) : rest.size - 1;
        if (bytes_view_equal(bytes_view_of(rest.data, size), emoji)) {
            return true;
        }
        rest = bytes_view_of(rest.data + size + 1, rest.size - size - 1);
    }
    return false;
}

static void
add_text(enum err *code, struct tui_entry *entry, const struct fc_message *message)
{
    struct bytes *part = &entry->parts[TUI_PART_TEXT];
    if (message->unreadable != NULL) {
        entry->style = TUI_STYLE_FAINT;
        add(code, part, "(cannot be read: ");
        add_outside(code, part, message->unreadable, false);
        add(code, part, ")");
        return;
    }
    if (message->is_deleted) {
        entry->style = TUI_STYLE_FAINT;
        add(code, part, "(deleted)");
        return;
    }
    if (message->topic != NULL && message->topic[0] != '\0') {
        add(code, part, "[");
        add_outside(code, part, message->topic, false);
        add(code, part, "] ");
    }
    add_outside(code, part, message->text, true);
    if (message->edited_unix_ms != 0) {
        add(code, part, " (edited)");
    }
}

static bool
mentions(const struct fc_message *message, const char *name)
{
    for (size_t i = 0; i < message->mention_count; i++) {
        if (strcmp(message->mentions[i], name) == 0 || strcmp(message->mentions[i], "@room") == 0) {
            return true;
        }
    }
    return false;
}

static enum err
finish(struct tui_entry *entry, enum err code, struct tui_entry **out)
{
    if (code != ERR_OK) {
        tui_entry_free(&entry);
        return code;
    }
    *out = entry;
    return ERR_OK;
}

enum err
tui_entry_new(const struct fc_message *message, const char *own_name, struct tui_entry **out)
{
    struct tui_entry *entry = calloc(1, sizeof *entry);
    enum err code = entry != NULL ? ERR_OK : ERR_NO_MEMORY;
    if (code != ERR_OK) {
        return code;
    }
    entry->kind = TUI_ENTRY_MESSAGE;
    entry->seq = message->seq;
    entry->is_own = strcmp(message->sender, own_name) == 0;
    entry->is_emote = message->type == FC_MESSAGE_EMOTE;
    entry->style = mentions(message, own_name) && !entry->is_own ? TUI_STYLE_MENTION : TUI_STYLE_NORMAL;
    set_stamp(entry, message->sent_unix_ms);
    set_sender(&code, entry, message->sender);
    add_text(&code, entry, message);
    if (!message->is_deleted && message->unreadable == NULL) {
        entry->reply_to_seq = message->reply_to_seq;
        if (message->has_file) {
            add_file(&code, &entry->parts[TUI_PART_FILE], message);
        }
        add_reactions(&code, &entry->parts[TUI_PART_REACTIONS], message);
        note_own_reactions(&code, &entry->own_reactions, message, own_name);
    }
    return finish(entry, code, out);
}

enum err
tui_entry_new_note(const char *text, enum tui_style style, struct tui_entry **out)
{
    struct tui_entry *entry = calloc(1, sizeof *entry);
    enum err code = entry != NULL ? ERR_OK : ERR_NO_MEMORY;
    if (code != ERR_OK) {
        return code;
    }
    entry->kind = TUI_ENTRY_NOTE;
    entry->style = style;
    memcpy(entry->stamp, note_stamp, sizeof note_stamp);
    add_outside(&code, &entry->parts[TUI_PART_TEXT], text, true);
    return finish(entry, code, out);
}

enum err
tui_entry_new_pending(const char *own_name, const char *text, bool is_emote, uint64_t reply_to_seq, uint64_t token,
    int64_t now_unix_ms, struct tui_entry **out)
{
    struct tui_entry *entry = calloc(1, sizeof *entry);
    enum err code = entry != NULL ? ERR_OK : ERR_NO_MEMORY;
    if (code != ERR_OK) {
        return code;
    }
    entry->kind = TUI_ENTRY_PENDING;
    entry->token = token;
    entry->is_own = true;
    entry->is_emote = is_emote;
    entry->style = TUI_STYLE_FAINT;
    set_stamp(entry, now_unix_ms);
    entry->day = 0;
    set_sender(&code, entry, own_name);
    entry->reply_to_seq = reply_to_seq;
    add_outside(&code, &entry->parts[TUI_PART_TEXT], text, true);
    return finish(entry, code, out);
}

void
tui_entry_free(struct tui_entry **entry)
{
    if (*entry == NULL) {
        return;
    }
    for (size_t i = 0; i < TUI_PART_NUMBER_OF; i++) {
        bytes_free(&(*entry)->parts[i]);
    }
    bytes_free(&(*entry)->own_reactions);
    free((*entry)->rows);
    free(*entry);
    *entry = NULL;
}

int
tui_entry_head_columns(const struct tui_entry *entry)
{
    int columns = tui_columns(bytes_view_of_text(entry->stamp));
    if (entry->sender[0] != '\0') {
        columns += tui_columns(bytes_view_of_text(entry->sender)) + 2; // "alice: " or "* alice "
        columns += entry->is_emote ? 1 : 0;
    }
    return columns;
}

// add_rows breaks a part and appends its rows.
static enum err
add_rows(struct tui_entry *entry, enum tui_part part, int columns, struct tui_lines *lines)
{
    bool is_text = part == TUI_PART_TEXT;
    int indent = columns > NARROW_COLUMNS && part != TUI_PART_DAY ? INDENT : 0;
    int head = is_text ? tui_entry_head_columns(entry) : indent;
    int first = columns - head;
    struct bytes_view text = bytes_as_view(&entry->parts[part]);
    bool is_beside = first >= NARROW_COLUMNS / 2 || tui_columns(text) <= first;
    lines->count = 0;
    enum err code = ERR_OK;
    if (is_text && !is_beside) {
        // The head gets a row of its own.
        code = tui_wrap(bytes_view_of(NULL, 0), 1, 1, 1, lines);
        first = columns - indent;
    }
    if (code == ERR_OK) {
        code = tui_wrap(text, first, columns - indent, row_limits[part], lines);
    }
    struct tui_row *rows =
        code == ERR_OK ? realloc(entry->rows, (entry->row_count + lines->count) * sizeof *rows) : NULL;
    if (rows == NULL) {
        return ERR_NO_MEMORY;
    }
    entry->rows = rows;
    for (size_t i = 0; i < lines->count; i++) {
        entry->rows[entry->row_count++] = (struct tui_row){
            .part = part,
            .start = lines->items[i].start,
            .size = lines->items[i].size,
            .indent = i == 0 ? head : indent,
            .is_head = is_text && i == 0,
        };
    }
    return ERR_OK;
}

static enum err
set_day(struct tui_entry *entry)
{
    char text[32];
    (void)snprintf(text, sizeof text, "--- %04d-%02d-%02d ---", entry->day / 10000, entry->day / 100 % 100,
        entry->day % 100);
    bytes_clear(&entry->parts[TUI_PART_DAY]);
    return entry->has_day ? bytes_append(&entry->parts[TUI_PART_DAY], bytes_view_of_text(text)) : ERR_OK;
}

static enum err
make_rows(struct tui_entry *entry, int columns, struct tui_lines *lines)
{
    enum err code = set_day(entry);
    entry->row_count = 0;
    for (unsigned part = 0; part < TUI_PART_NUMBER_OF && code == ERR_OK; part++) {
        // An empty text has a row as well: the head stands there.
        if (part == TUI_PART_TEXT || entry->parts[part].size > 0) {
            code = add_rows(entry, (enum tui_part)part, columns, lines);
        }
    }
    entry->rows_columns = code == ERR_OK ? columns : 0;
    return code;
}

enum err
tui_log_layout(struct tui_log *log, int columns)
{
    struct tui_lines lines = {0};
    enum err code = ERR_OK;
    int day = 0;
    for (size_t i = 0; i < log->count && code == ERR_OK; i++) {
        struct tui_entry *entry = log->entries[i];
        bool has_day = entry->day != 0 && entry->day != day;
        day = entry->day != 0 ? entry->day : day;
        if (entry->rows_columns != columns || entry->has_day != has_day) {
            entry->has_day = has_day;
            code = make_rows(entry, columns, &lines);
        }
    }
    tui_lines_free(&lines);
    return code;
}
