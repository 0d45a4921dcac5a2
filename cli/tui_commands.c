#include "cli/tui_commands.h"

#include <string.h>

const struct tui_command_row tui_command_rows[TUI_COMMAND_NUMBER_OF] = {
#define TUI_COMMAND_ROW(kind, name, synopsis, summary, parts) [kind] = {name, synopsis, summary, parts},
    TUI_COMMAND_MAP(TUI_COMMAND_ROW)
#undef TUI_COMMAND_ROW
};

enum {
    SHOWN_BYTES = 40, // of what somebody typed wrong
};

static bool
is_space(uint8_t c)
{
    return c == ' ' || c == '\n';
}

static struct bytes_view
trim(struct bytes_view text)
{
    while (text.size > 0 && is_space(text.data[0])) {
        text = bytes_view_of(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && is_space(text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

// take_word takes the first word off text, and the spaces behind it.
static struct bytes_view
take_word(struct bytes_view *text)
{
    struct bytes_view word = *text;
    size_t size = 0;
    while (size < text->size && !is_space(text->data[size])) {
        size++;
    }
    word.size = size;
    *text = trim(bytes_view_of(text->data + size, text->size - size));
    return word;
}

static bool
read_seq(struct bytes_view word, uint64_t *out)
{
    uint64_t number = 0;
    if (word.size > 0 && word.data[0] == '#') {
        word = bytes_view_of(word.data + 1, word.size - 1);
    }
    for (size_t i = 0; i < word.size; i++) {
        uint64_t digit = (uint64_t)word.data[i] - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    *out = number;
    return number > 0;
}

static enum err
read_arguments(const struct tui_command_row *row, struct bytes_view rest, struct tui_command *out,
    struct err_detail *why)
{
    bool is_complete = true;
    switch (row->parts) {
    case TUI_NONE:
        is_complete = rest.size == 0;
        break;
    case TUI_ROOM:
    case TUI_USER:
        out->word = take_word(&rest);
        if (row->parts == TUI_USER && out->word.size > 0 && out->word.data[0] == '@') {
            out->word = bytes_view_of(out->word.data + 1, out->word.size - 1);
        }
        is_complete = out->word.size > 0 && rest.size == 0;
        break;
    case TUI_REST:
        out->rest = rest;
        is_complete = rest.size > 0;
        break;
    case TUI_WORD_REST:
        out->word = take_word(&rest);
        out->rest = rest;
        is_complete = out->word.size > 0;
        break;
    case TUI_SEQ:
    case TUI_SEQ_REST:
        is_complete = read_seq(take_word(&rest), &out->seq) && (rest.size > 0) == (row->parts == TUI_SEQ_REST);
        out->rest = rest;
        break;
    }
    return is_complete ? ERR_OK
                       : err_fail(why, ERR_INVALID, "usage: /%s%s%s", row->name, row->synopsis[0] != '\0' ? " " : "",
                             row->synopsis);
}

enum err
tui_command_parse(struct bytes_view line, struct tui_command *out, struct err_detail *why)
{
    *out = (struct tui_command){.kind = TUI_TEXT, .rest = line};
    if (line.size == 0 || line.data[0] != '/') {
        return ERR_OK;
    }
    struct bytes_view rest = bytes_view_of(line.data + 1, line.size - 1);
    if (rest.size > 0 && rest.data[0] == '/') {
        out->rest = rest;
        return ERR_OK;
    }
    rest = trim(rest);
    struct bytes_view name = take_word(&rest);
    for (unsigned i = 0; i < TUI_COMMAND_NUMBER_OF; i++) {
        const struct tui_command_row *row = &tui_command_rows[i];
        if (bytes_view_equal(name, bytes_view_of_text(row->name))) {
            *out = (struct tui_command){.kind = (enum tui_command_kind)i};
            return read_arguments(row, rest, out, why);
        }
    }
    int shown = (int)(name.size > SHOWN_BYTES ? SHOWN_BYTES : name.size);
    return err_fail(why, ERR_INVALID, "there is no command /%.*s; /help lists them, // begins a text with a slash",
        shown, (const char *)name.data);
}
