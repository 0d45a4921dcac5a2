#include "cli/tui_wrap.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/text.h"

enum {
    REPLACEMENT = 0xfffd,
    FIRST_LINES = 4,
};

size_t
tui_take_char(struct bytes_view rest, uint32_t *code_out, int *columns_out)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *at = rest.data;
    size_t size = at[0] < 0x80 ? 1 : at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc2 ? 2 : 0;
    uint32_t code = size == 1 ? at[0] : at[0] & (0xffU >> (size + 1));
    bool is_whole = size > 0 && size <= rest.size;
    for (size_t i = 1; is_whole && i < size; i++) {
        is_whole = (at[i] & 0xc0) == 0x80;
        code = code << 6 | (at[i] & 0x3fU);
    }
    if (!is_whole || code < smallest[size]) {
        *code_out = REPLACEMENT;
        *columns_out = 1;
        return 1;
    }
    int columns = wcwidth((wchar_t)code);
    *code_out = code;
    *columns_out = columns < 0 ? 1 : columns;
    return size;
}

static struct bytes_view
without(struct bytes_view text, size_t n)
{
    return bytes_view_of(text.data + n, text.size - n);
}

int
tui_columns(struct bytes_view text)
{
    int total = 0;
    while (text.size > 0) {
        uint32_t code;
        int columns;
        text = without(text, tui_take_char(text, &code, &columns));
        total += columns;
    }
    return total;
}

size_t
tui_fit(struct bytes_view text, int columns)
{
    size_t taken = 0;
    while (taken < text.size) {
        uint32_t code;
        int needed;
        size_t size = tui_take_char(without(text, taken), &code, &needed);
        if (needed > columns) {
            break;
        }
        columns -= needed;
        taken += size;
    }
    return taken;
}

size_t
tui_fit_end(struct bytes_view text, int columns)
{
    size_t skipped = 0;
    int total = tui_columns(text);
    while (skipped < text.size && total > columns) {
        uint32_t code;
        int has;
        skipped += tui_take_char(without(text, skipped), &code, &has);
        total -= has;
    }
    return skipped;
}

static enum err
add_line(struct tui_lines *lines, size_t start, size_t size)
{
    if (lines->count == lines->capacity) {
        size_t capacity = lines->capacity == 0 ? FIRST_LINES : 2 * lines->capacity;
        struct tui_line *items = realloc(lines->items, capacity * sizeof *items);
        if (items == NULL) {
            return ERR_NO_MEMORY;
        }
        lines->items = items;
        lines->capacity = capacity;
    }
    lines->items[lines->count++] = (struct tui_line){.start = start, .size = size};
    return ERR_OK;
}

// cut finds the first line of text, which holds no newline: its size, and where the next one begins.
static size_t
cut(struct bytes_view text, int columns, size_t *next_out)
{
    size_t size = tui_fit(text, columns);
    if (size == text.size) {
        *next_out = size;
        return size;
    }
    if (size == 0) {
        // Wider than the line is. It has to go somewhere, or this would never end.
        uint32_t code;
        int ignored;
        size = tui_take_char(text, &code, &ignored);
        *next_out = size;
        return size;
    }
    size_t end = size;
    if (text.data[size] != ' ') {
        while (end > 0 && text.data[end - 1] != ' ') {
            end--;
        }
    }
    size_t line = end;
    while (line > 0 && text.data[line - 1] == ' ') {
        line--;
    }
    if (line == 0) {
        *next_out = size; // one long word
        return size;
    }
    while (end < text.size && text.data[end] == ' ') {
        end++;
    }
    *next_out = end;
    return line;
}

enum err
tui_wrap(struct bytes_view text, int first_columns, int rest_columns, size_t max_lines, struct tui_lines *lines)
{
    size_t at = 0;
    size_t count = 0;
    int columns = first_columns > 0 ? first_columns : 1;
    rest_columns = rest_columns > 0 ? rest_columns : 1;
    bool is_open = true; // a line has begun that is not there yet
    while (is_open && count < max_lines) {
        struct bytes_view rest = without(text, at);
        const uint8_t *newline = rest.size > 0 ? memchr(rest.data, '\n', rest.size) : NULL;
        size_t paragraph = newline != NULL ? (size_t)(newline - rest.data) : rest.size;
        size_t next = 0;
        size_t size = cut(bytes_view_of(rest.data, paragraph), columns, &next);
        enum err code = add_line(lines, at, size);
        if (code != ERR_OK) {
            return code;
        }
        at += next;
        is_open = next < paragraph || newline != NULL;
        at += next == paragraph && newline != NULL;
        columns = rest_columns;
        count++;
    }
    return ERR_OK;
}

void
tui_lines_free(struct tui_lines *lines)
{
    free(lines->items);
    *lines = (struct tui_lines){0};
}

enum err
tui_append_plain(struct bytes *out, const char *from_outside, bool keep_newlines)
{
    struct bytes printable = {0};
    enum err code = text_append_printable(&printable, bytes_view_of_text(from_outside), keep_newlines);
    struct bytes_view rest = bytes_as_view(&printable);
    while (keep_newlines && rest.size > 0 && rest.data[rest.size - 1] == '\n') {
        rest.size--;
    }
    while (code == ERR_OK && rest.size > 0) {
        uint32_t character;
        int ignored;
        size_t size = tui_take_char(rest, &character, &ignored);
        struct bytes_view shown = bytes_view_of(rest.data, size);
        if (character == '\t') {
            shown = bytes_view_of_text("    ");
        } else if (character != '\n' && wcwidth((wchar_t)character) < 0) {
            shown = bytes_view_of_text("\xef\xbf\xbd");
        }
        code = bytes_append(out, shown);
        rest = without(rest, size);
    }
    bytes_free(&printable);
    return code;
}
