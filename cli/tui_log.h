// What a room shows: its messages in order, what waits to be sent, and notes of our own; broken into rows, and how far
// it is scrolled. Pure: draws nothing.
#ifndef CLI_TUI_LOG_H
#define CLI_TUI_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "cli/tui_wrap.h"
#include "client/fc_room.h"

enum tui_entry_kind {
    TUI_ENTRY_MESSAGE,
    TUI_ENTRY_NOTE,    // of this program; stays behind the message that it came after
    TUI_ENTRY_PENDING, // not yet on the server; behind everything else
};

enum tui_style {
    TUI_STYLE_NORMAL,
    TUI_STYLE_FAINT,
    TUI_STYLE_MENTION,
    TUI_STYLE_ERROR,
};

// What an entry is made of, from top to bottom.
enum tui_part { TUI_PART_DAY, TUI_PART_QUOTE, TUI_PART_TEXT, TUI_PART_FILE, TUI_PART_REACTIONS, TUI_PART_NUMBER_OF };

struct tui_row {
    enum tui_part part;
    size_t start; // bytes of the part's text
    size_t size;
    int indent;   // columns before it
    bool is_head; // time, number and sender stand in these
};

// tui_entry is one of them. All its text can be drawn as it is.
struct tui_entry {
    enum tui_entry_kind kind;
    uint64_t seq;          // of a note: of the message before it
    uint64_t token;        // of a pending one
    uint64_t sent_seq;     // of a pending one that is on the server, and not here yet
    uint64_t reply_to_seq; // 0: no reply
    int day;               // yyyymmdd of the local calendar; 0: shows none
    bool is_emote;
    bool is_own;
    enum tui_style style;
    char sender[129];           // empty: none
    struct bytes own_reactions; // emojis, each followed by a newline, as they came
    char stamp[40];             // "09:31 #12 "
    struct bytes parts[TUI_PART_NUMBER_OF];

    struct tui_row *rows;
    size_t row_count;
    int rows_columns; // what they are made for; 0: not made
    bool has_day;
};

// tui_entry_new makes one of a message. own_name: whose screen it is. ERR_NO_MEMORY.
enum err tui_entry_new(const struct fc_message *message, const char *own_name, struct tui_entry **out) ERR_CHECKED;
enum err tui_entry_new_note(const char *text, enum tui_style style, struct tui_entry **out) ERR_CHECKED;
// now_unix_ms: when it was typed.
enum err tui_entry_new_pending(const char *own_name, const char *text, bool is_emote, uint64_t reply_to_seq,
    uint64_t token, int64_t now_unix_ms, struct tui_entry **out) ERR_CHECKED;
void tui_entry_free(struct tui_entry **entry);
// tui_entry_head_columns is how much the time, number and sender of the first row take.
int tui_entry_head_columns(const struct tui_entry *entry);

// tui_entry_has_reaction tells whether one has reacted oneself with this.
bool tui_entry_has_reaction(const struct tui_entry *entry, struct bytes_view emoji);

// tui_log is all of it. All zero is empty, and shows its end.
struct tui_log {
    struct tui_entry **entries;
    size_t count;
    size_t capacity;
    bool has_first; // there are no older messages

    // Where the window ends when it does not show the end.
    bool is_scrolled;
    size_t anchor;      // the last entry shown
    size_t hidden_rows; // of it
};

// tui_log_put takes over the entry and puts it where it belongs. A message replaces the one with its number, and what
// was pending of it. On failure the entry is freed.
enum err tui_log_put(struct tui_log *log, struct tui_entry **entry) ERR_CHECKED;
struct tui_entry *tui_log_find(const struct tui_log *log, uint64_t seq); // a message, or NULL
// tui_log_sent says that the pending one with this token is message seq now; seq 0: it is not sent, and goes.
void tui_log_sent(struct tui_log *log, uint64_t token, uint64_t seq);
uint64_t tui_log_first_seq(const struct tui_log *log); // 0: there are no messages
uint64_t tui_log_last_seq(const struct tui_log *log);
// tui_log_trim forgets the oldest messages, of a log that shows its end, so that `keep` entries stay.
void tui_log_trim(struct tui_log *log, size_t keep);
// tui_log_forget forgets all messages; what is pending stays.
void tui_log_forget(struct tui_log *log);
void tui_log_free(struct tui_log *log);

// tui_log_layout makes the rows for this width. ERR_NO_MEMORY.
enum err tui_log_layout(struct tui_log *log, int columns) ERR_CHECKED;

// These need the layout, of everything that is there now.

// tui_log_scroll moves by so many rows, up when positive, in a window of `height`. It returns whether the top was
// reached.
bool tui_log_scroll(struct tui_log *log, long rows, size_t height);
void tui_log_scroll_to(struct tui_log *log, uint64_t seq, size_t height);

struct tui_shown {
    const struct tui_entry *entry;
    const struct tui_row *row;
};
// tui_log_window gives the rows of a window, top to bottom; returns how many there are, at most height.
size_t tui_log_window(const struct tui_log *log, size_t height, struct tui_shown *out);

#endif
