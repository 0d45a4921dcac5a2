#include "cli/tui_input.h"

#include <stdlib.h>
#include <string.h>

struct bytes_view
tui_input_view(const struct tui_input *input)
{
    return bytes_as_view(&input->text);
}

static void
end_completion(struct tui_input *input)
{
    input->completed_size = 0;
}

static bool
is_inside_char(const struct tui_input *input, size_t at)
{
    return at < input->text.size && (input->text.data[at] & 0xc0) == 0x80;
}

// replace puts text where `size` bytes from start are, and the cursor behind it.
static bool
replace(struct tui_input *input, size_t start, size_t size, struct bytes_view text)
{
    size_t rest = input->text.size - start - size;
    if (input->text.size - size + text.size > TUI_INPUT_MAX_BYTES || bytes_reserve(&input->text, text.size) != ERR_OK) {
        return false;
    }
    uint8_t *at = input->text.data;
    if (at == NULL) {
        return true; // nothing by nothing
    }
    memmove(at + start + text.size, at + start + size, rest);
    if (text.size > 0) {
        memcpy(at + start, text.data, text.size);
    }
    input->text.size = start + text.size + rest;
    input->cursor = start + text.size;
    return true;
}

static size_t
encode(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    static const uint8_t first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (uint8_t)(first[size] | code);
    return size;
}

void
tui_input_put(struct tui_input *input, uint32_t code)
{
    bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    if ((is_control && code != '\n') || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return;
    }
    uint8_t encoded[4];
    size_t size = encode(code, encoded);
    end_completion(input);
    (void)replace(input, input->cursor, 0, bytes_view_of(encoded, size));
}

static bool
is_space(const struct tui_input *input, size_t at)
{
    return input->text.data[at] == ' ' || input->text.data[at] == '\n';
}

static size_t
target(const struct tui_input *input, enum tui_move move)
{
    size_t at = input->cursor;
    size_t size = input->text.size;
    switch (move) {
    case TUI_MOVE_LEFT:
        while (at > 0 && is_inside_char(input, --at)) {
        }
        return at;
    case TUI_MOVE_RIGHT:
        at += at < size;
        while (is_inside_char(input, at)) {
            at++;
        }
        return at;
    case TUI_MOVE_WORD_LEFT:
        while (at > 0 && is_space(input, at - 1)) {
            at--;
        }
        while (at > 0 && !is_space(input, at - 1)) {
            at--;
        }
        return at;
    case TUI_MOVE_WORD_RIGHT:
        while (at < size && is_space(input, at)) {
            at++;
        }
        while (at < size && !is_space(input, at)) {
            at++;
        }
        return at;
    case TUI_MOVE_HOME:
        return 0;
    case TUI_MOVE_END:
        return size;
    }
    return at;
}

void
tui_input_move(struct tui_input *input, enum tui_move move)
{
    end_completion(input);
    input->cursor = target(input, move);
}

void
tui_input_erase(struct tui_input *input, enum tui_move move)
{
    size_t other = target(input, move);
    size_t start = other < input->cursor ? other : input->cursor;
    size_t end = other < input->cursor ? input->cursor : other;
    end_completion(input);
    (void)replace(input, start, end - start, bytes_view_of(NULL, 0));
}

void
tui_input_set(struct tui_input *input, struct bytes_view text)
{
    end_completion(input);
    (void)replace(input, 0, input->text.size, text);
}

void
tui_input_free(struct tui_input *input)
{
    // What somebody has written and not sent is nobody else's business.
    bytes_free_secret(&input->text);
    bytes_free_secret(&input->completed_word);
    *input = (struct tui_input){0};
}

static bool
begin_completion(struct tui_input *input)
{
    size_t start = input->cursor;
    while (start > 0 && !is_space(input, start - 1)) {
        start--;
    }
    bytes_clear(&input->completed_word);
    struct bytes_view word = bytes_view_of(input->text.data + start, input->cursor - start);
    if (word.size == 0 || bytes_append(&input->completed_word, word) != ERR_OK) {
        return false;
    }
    input->completed_start = start;
    input->completed_size = word.size;
    input->completed_index = 0;
    return true;
}

bool
tui_input_complete(struct tui_input *input, tui_completer *complete, void *context)
{
    if (input->completed_size == 0 && (input->text.size == 0 || !begin_completion(input))) {
        return false;
    }
    size_t start = input->completed_start;
    struct bytes_view line = bytes_view_of(input->text.data, start);
    struct bytes_view typed = bytes_as_view(&input->completed_word);
    const char *found = complete(context, line, typed, input->completed_index);
    if (found == NULL && input->completed_index == 0) {
        end_completion(input);
        return false;
    }
    struct bytes text = {0};
    if (bytes_append(&text, found != NULL ? bytes_view_of_text(found) : typed) == ERR_OK &&
        (found == NULL || bytes_append(&text, bytes_view_of_text(" ")) == ERR_OK) &&
        replace(input, start, input->completed_size, bytes_as_view(&text))) {
        input->completed_size = text.size;
        input->completed_index = found != NULL ? input->completed_index + 1 : 0;
    }
    bytes_free(&text);
    return true;
}

void
tui_history_add(struct tui_history *history, struct bytes_view line)
{
    free(history->typed);
    history->typed = NULL;
    bool is_repeated =
        history->count > 0 && bytes_view_equal(bytes_view_of_text(history->lines[history->count - 1]), line);
    char *copy = line.size > 0 && !is_repeated ? strndup((const char *)line.data, line.size) : NULL;
    if (copy != NULL && history->count == TUI_HISTORY_MAX) {
        free(history->lines[0]);
        memmove(history->lines, history->lines + 1, (TUI_HISTORY_MAX - 1) * sizeof history->lines[0]);
        history->count--;
    }
    if (copy != NULL) {
        history->lines[history->count++] = copy;
    }
    history->at = history->count;
}

void
tui_history_step(struct tui_history *history, int step, struct tui_input *input)
{
    if ((step < 0 && history->at == 0) || (step > 0 && history->at == history->count)) {
        return;
    }
    if (history->at == history->count) {
        free(history->typed);
        history->typed = input->text.size > 0 ? strndup((const char *)input->text.data, input->text.size) : NULL;
    }
    history->at = step < 0 ? history->at - 1 : history->at + 1;
    const char *line = history->at == history->count ? history->typed : history->lines[history->at];
    tui_input_set(input, bytes_view_of_text(line));
}

void
tui_history_free(struct tui_history *history)
{
    for (size_t i = 0; i < history->count; i++) {
        free(history->lines[i]);
    }
    free(history->typed);
    *history = (struct tui_history){0};
}
