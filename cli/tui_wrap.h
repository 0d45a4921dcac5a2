// Text in the columns of a terminal. Pure: draws nothing.
//
// Text is UTF-8 without controls but newlines (text_append_printable). How wide a character is says the C library for
// the locale's LC_CTYPE.
#ifndef CLI_TUI_WRAP_H
#define CLI_TUI_WRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

// tui_take_char takes the first character off rest, which is not empty, and says how many columns it has: 0 to 2. A
// byte that begins none counts as U+FFFD. Returns its size in bytes.
size_t tui_take_char(struct bytes_view rest, uint32_t *code_out, int *columns_out);

// tui_columns is how many columns text takes on one line.
int tui_columns(struct bytes_view text);

// tui_fit is how many bytes of text fit into so many columns, whole characters with what combines with them.
size_t tui_fit(struct bytes_view text, int columns);

// tui_fit_end is where the end of text that fits into so many columns begins.
size_t tui_fit_end(struct bytes_view text, int columns);

struct tui_line {
    size_t start;
    size_t size;
};

struct tui_lines {
    struct tui_line *items;
    size_t count;
    size_t capacity;
};

// tui_wrap appends the lines into which text breaks: the first has first_columns, the others rest_columns, each at
// least 1. It breaks at newlines and spaces, and inside of a word that is wider than a line. There is always a line.
// What does not fit into max_lines is left out. ERR_NO_MEMORY.
enum err tui_wrap(struct bytes_view text, int first_columns, int rest_columns, size_t max_lines,
    struct tui_lines *lines) ERR_CHECKED;

void tui_lines_free(struct tui_lines *lines);

// tui_append_plain appends text from outside as the functions here want it: harmless, tabs as spaces, and what the
// C library does not know how to show as U+FFFD. Newlines stay with keep_newlines, without those at the end.
enum err tui_append_plain(struct bytes *out, const char *from_outside, bool keep_newlines) ERR_CHECKED;

#endif
