#include "cli/tui_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_ENTRIES = 32,
};

// rank orders entries: by number, notes behind the message with theirs, pending ones last.
static int
compare(const struct tui_entry *a, const struct tui_entry *b)
{
    bool a_is_pending = a->kind == TUI_ENTRY_PENDING;
    bool b_is_pending = b->kind == TUI_ENTRY_PENDING;
    if (a_is_pending != b_is_pending) {
        return a_is_pending ? 1 : -1;
    }
    uint64_t a_rank = a_is_pending ? a->token : a->seq;
    uint64_t b_rank = b_is_pending ? b->token : b->seq;
    if (a_rank != b_rank) {
        return a_rank < b_rank ? -1 : 1;
    }
    if (a->kind == TUI_ENTRY_NOTE || b->kind == TUI_ENTRY_NOTE) {
        return b->kind == TUI_ENTRY_NOTE && a->kind != TUI_ENTRY_NOTE ? -1 : 1; // a new note goes behind older ones
    }
    return 0;
}

// place is the index of the first entry that is not before this one.
static size_t
place(const struct tui_log *log, const struct tui_entry *entry)
{
    size_t low = 0;
    size_t high = log->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(entry, log->entries[middle]) > 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void
remove_at(struct tui_log *log, size_t at)
{
    tui_entry_free(&log->entries[at]);
    log->count--;
    memmove(log->entries + at, log->entries + at + 1, (log->count - at) * sizeof(struct tui_entry *));
    if (log->is_scrolled && log->anchor >= at && log->anchor > 0) {
        log->hidden_rows = log->anchor == at ? 0 : log->hidden_rows;
        log->anchor--;
    }
    if (log->count == 0) {
        log->is_scrolled = false;
    }
}

static enum err
insert_at(struct tui_log *log, size_t at, struct tui_entry *entry)
{
    if (log->count == log->capacity) {
        size_t capacity = log->capacity == 0 ? FIRST_ENTRIES : 2 * log->capacity;
        struct tui_entry **entries = realloc(log->entries, capacity * sizeof(struct tui_entry *));
        if (entries == NULL) {
            return ERR_NO_MEMORY;
        }
        log->entries = entries;
        log->capacity = capacity;
    }
    memmove(log->entries + at + 1, log->entries + at, (log->count - at) * sizeof(struct tui_entry *));
    log->entries[at] = entry;
    log->count++;
    if (log->is_scrolled && at <= log->anchor) {
        log->anchor++;
    }
    return ERR_OK;
}

// drop_pending removes what was pending of a message that is here now.
static void
drop_pending(struct tui_log *log, const struct tui_entry *message)
{
    size_t found = log->count;
    for (size_t i = log->count; i > 0 && log->entries[i - 1]->kind == TUI_ENTRY_PENDING; i--) {
        const struct tui_entry *entry = log->entries[i - 1];
        if (entry->sent_seq == message->seq) {
            found = i - 1;
            break;
        }
        // The answer to the call may come later than the message. The oldest with the same text is the one.
        if (entry->sent_seq == 0 && bytes_view_equal(bytes_as_view(&entry->parts[TUI_PART_TEXT]),
                                        bytes_as_view(&message->parts[TUI_PART_TEXT]))) {
            found = i - 1;
        }
    }
    if (found < log->count) {
        remove_at(log, found);
    }
}

// quote says what a reply answers: its number, and what it says if that is here.
static enum err
quote(const struct tui_log *log, struct tui_entry *entry)
{
    const struct tui_entry *target = tui_log_find(log, entry->reply_to_seq);
    struct bytes_view text = target != NULL ? bytes_as_view(&target->parts[TUI_PART_TEXT]) : bytes_view_of(NULL, 0);
    const uint8_t *newline = text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    struct bytes *out = &entry->parts[TUI_PART_QUOTE];
    char number[40];
    (void)snprintf(number, sizeof number, "> #%" PRIu64 "%s", entry->reply_to_seq, target != NULL ? " " : "");
    text.size = newline != NULL ? (size_t)(newline - text.data) : text.size;
    bytes_clear(out);
    entry->rows_columns = 0;
    enum err code = bytes_append(out, bytes_view_of_text(number));
    if (code == ERR_OK && target != NULL) {
        code = bytes_append(out, bytes_view_of_text(target->sender));
    }
    if (code == ERR_OK && target != NULL) {
        code = bytes_append(out, bytes_view_of_text(": "));
    }
    return code == ERR_OK ? bytes_append(out, text) : code;
}

// quote_again lets answers to a message say what it says now: it may have been edited, or taken back.
static enum err
quote_again(const struct tui_log *log, uint64_t seq)
{
    enum err code = ERR_OK;
    for (size_t i = 0; i < log->count && code == ERR_OK; i++) {
        if (log->entries[i]->reply_to_seq == seq) {
            code = quote(log, log->entries[i]);
        }
    }
    return code;
}

static enum err
put(struct tui_log *log, struct tui_entry *new)
{
    size_t at = place(log, new);
    if (at < log->count && new->kind != TUI_ENTRY_NOTE && compare(new, log->entries[at]) == 0) {
        tui_entry_free(&log->entries[at]);
        log->entries[at] = new;
        return ERR_OK;
    }
    enum err code = insert_at(log, at, new);
    if (code != ERR_OK) {
        tui_entry_free(&new);
    }
    return code;
}

enum err
tui_log_put(struct tui_log *log, struct tui_entry **entry)
{
    struct tui_entry *new = *entry;
    enum tui_entry_kind kind = new->kind;
    *entry = NULL;
    enum err code = new->reply_to_seq != 0 ? quote(log, new) : ERR_OK;
    if (code != ERR_OK) {
        tui_entry_free(&new);
        return code;
    }
    if (kind == TUI_ENTRY_NOTE) {
        new->seq = tui_log_last_seq(log);
    }
    uint64_t seq = new->seq;
    if (kind == TUI_ENTRY_MESSAGE && new->is_own && tui_log_find(log, seq) == NULL) {
        drop_pending(log, new);
    }
    code = put(log, new);
    return code == ERR_OK && kind == TUI_ENTRY_MESSAGE ? quote_again(log, seq) : code;
}

struct tui_entry *
tui_log_find(const struct tui_log *log, uint64_t seq)
{
    struct tui_entry wanted = {.kind = TUI_ENTRY_MESSAGE, .seq = seq};
    size_t at = place(log, &wanted);
    bool is_found = at < log->count && log->entries[at]->kind == TUI_ENTRY_MESSAGE && log->entries[at]->seq == seq;
    return is_found ? log->entries[at] : NULL;
}

void
tui_log_sent(struct tui_log *log, uint64_t token, uint64_t seq)
{
    for (size_t i = log->count; i > 0 && log->entries[i - 1]->kind == TUI_ENTRY_PENDING; i--) {
        if (log->entries[i - 1]->token != token) {
            continue;
        }
        if (seq == 0 || tui_log_find(log, seq) != NULL) {
            remove_at(log, i - 1);
        } else {
            log->entries[i - 1]->sent_seq = seq;
        }
        return;
    }
}

uint64_t
tui_log_first_seq(const struct tui_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        if (log->entries[i]->kind == TUI_ENTRY_MESSAGE) {
            return log->entries[i]->seq;
        }
    }
    return 0;
}

uint64_t
tui_log_last_seq(const struct tui_log *log)
{
    for (size_t i = log->count; i > 0; i--) {
        if (log->entries[i - 1]->kind == TUI_ENTRY_MESSAGE) {
            return log->entries[i - 1]->seq;
        }
    }
    return 0;
}

void
tui_log_trim(struct tui_log *log, size_t keep)
{
    if (log->is_scrolled || log->count <= keep) {
        return;
    }
    size_t gone = log->count - keep;
    for (size_t i = 0; i < gone; i++) {
        tui_entry_free(&log->entries[i]);
    }
    memmove(log->entries, log->entries + gone, keep * sizeof(struct tui_entry *));
    log->count = keep;
    log->has_first = false;
}

void
tui_log_forget(struct tui_log *log)
{
    size_t kept = 0;
    for (size_t i = 0; i < log->count; i++) {
        if (log->entries[i]->kind == TUI_ENTRY_PENDING) {
            log->entries[kept++] = log->entries[i];
        } else {
            tui_entry_free(&log->entries[i]);
        }
    }
    log->count = kept;
    log->has_first = false;
    log->is_scrolled = false;
}

void
tui_log_free(struct tui_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        tui_entry_free(&log->entries[i]);
    }
    free(log->entries);
    *log = (struct tui_log){0};
}

// total_rows counts those of the first `count` entries.
static size_t
total_rows(const struct tui_log *log, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += log->entries[i]->row_count;
    }
    return total;
}

// end_row is how many rows are above the window's end.
static size_t
end_row(const struct tui_log *log)
{
    if (!log->is_scrolled) {
        return total_rows(log, log->count);
    }
    size_t end = total_rows(log, log->anchor + 1);
    size_t hidden = log->hidden_rows;
    size_t last = log->entries[log->anchor]->row_count;
    return end - (hidden < last ? hidden : last); // it may have fewer now
}

static void
set_end_row(struct tui_log *log, size_t end)
{
    size_t rows = 0;
    for (size_t i = 0; i < log->count; i++) {
        rows += log->entries[i]->row_count;
        if (rows >= end && log->entries[i]->row_count > 0) {
            log->anchor = i;
            log->hidden_rows = rows - end;
            break;
        }
    }
    log->is_scrolled = end < total_rows(log, log->count);
}

bool
tui_log_scroll(struct tui_log *log, long rows, size_t height)
{
    size_t total = total_rows(log, log->count);
    size_t end = end_row(log);
    size_t smallest = height < total ? height : total;
    if (rows >= 0) {
        end = end > smallest + (size_t)rows ? end - (size_t)rows : smallest;
    } else {
        end += (size_t)-rows;
    }
    end = end < smallest ? smallest : end > total ? total : end;
    set_end_row(log, end);
    return end <= height;
}

void
tui_log_scroll_to(struct tui_log *log, uint64_t seq, size_t height)
{
    for (size_t i = 0; i < log->count; i++) {
        if (log->entries[i]->kind == TUI_ENTRY_MESSAGE && log->entries[i]->seq == seq) {
            set_end_row(log, total_rows(log, i + 1));
            (void)tui_log_scroll(log, 0, height);
            return;
        }
    }
}

size_t
tui_log_window(const struct tui_log *log, size_t height, struct tui_shown *out)
{
    size_t total = total_rows(log, log->count);
    size_t end = end_row(log);
    if (end < height) {
        end = height < total ? height : total; // something has become smaller, or the window larger
    }
    size_t start = end > height ? end - height : 0;
    size_t row = 0;
    size_t count = 0;
    for (size_t i = 0; i < log->count && row < end; i++) {
        const struct tui_entry *entry = log->entries[i];
        for (size_t j = 0; j < entry->row_count; j++, row++) {
            if (row >= start && row < end) {
                out[count++] = (struct tui_shown){.entry = entry, .row = &entry->rows[j]};
            }
        }
    }
    return count;
}
