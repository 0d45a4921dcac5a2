// The line that is being typed: editing, history, and completion. Pure: draws nothing.
#ifndef CLI_TUI_INPUT_H
#define CLI_TUI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    TUI_INPUT_MAX_BYTES = 65536, // a message's text, by SendRequest.text
    TUI_HISTORY_MAX = 200,
};

// tui_input is UTF-8 with a cursor between two characters. All zero is empty. What does not fit, or finds no memory, is
// not inserted.
struct tui_input {
    struct bytes text;
    size_t cursor; // in bytes

    // The completion that Tab goes through; ended by any other change.
    size_t completed_start;
    size_t completed_size; // 0: none
    size_t completed_index;
    struct bytes completed_word; // as it was typed
};

enum tui_move {
    TUI_MOVE_LEFT,
    TUI_MOVE_RIGHT,
    TUI_MOVE_WORD_LEFT,
    TUI_MOVE_WORD_RIGHT,
    TUI_MOVE_HOME,
    TUI_MOVE_END,
};

struct bytes_view tui_input_view(const struct tui_input *input);
// tui_input_put inserts a character at the cursor; controls but newline are left out.
void tui_input_put(struct tui_input *input, uint32_t code);
void tui_input_move(struct tui_input *input, enum tui_move move);
// tui_input_erase removes what lies between the cursor and where this move would take it.
void tui_input_erase(struct tui_input *input, enum tui_move move);
// tui_input_set replaces everything; the cursor goes to the end.
void tui_input_set(struct tui_input *input, struct bytes_view text);
void tui_input_free(struct tui_input *input);

// tui_completer gives the index-th of the words that may stand for `word`, which `line` ends with; NULL after the last.
typedef const char *tui_completer(void *context, struct bytes_view line, struct bytes_view word, size_t index);

// tui_input_complete replaces the word before the cursor by the first word that the completer gives, and when called
// again by the next one; after the last comes what was typed. A space follows. Returns false when there is none.
bool tui_input_complete(struct tui_input *input, tui_completer *complete, void *context);

// tui_history is what was entered before. All zero is empty.
struct tui_history {
    char *lines[TUI_HISTORY_MAX]; // oldest first
    size_t count;
    size_t at;   // == count: the line being typed
    char *typed; // that line, while an older one is shown
};

void tui_history_add(struct tui_history *history, struct bytes_view line);
// tui_history_step shows the line before (-1) or after (+1); nothing at the ends.
void tui_history_step(struct tui_history *history, int step, struct tui_input *input);
void tui_history_free(struct tui_history *history);

#endif
