// fc chat as a whole: what the person does with it, and what the other threads tell. The screen's thread only.
#ifndef CLI_TUI_APP_H
#define CLI_TUI_APP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/tui_event.h"
#include "cli/tui_rooms.h"
#include "cli/tui_screen.h"
#include "cli/tui_transfer.h"
#include "cli/tui_work.h"

enum {
    TUI_STATUS_BYTES = 512,
};

// tui is all of it. work, transfer and events belong to whoever starts them.
struct tui {
    struct tui_work *work;
    struct tui_transfer *transfer;
    const char *own_name;
    const char *wanted_room; // to be shown first; NULL: none, or done

    struct tui_rooms rooms;
    struct tui_room lobby; // shown while there are no rooms
    struct tui_history history;
    uint64_t last_token;
    char completion[TUI_NAME_BYTES + 2];

    enum tui_state state;
    int64_t state_since_unix_ms;
    char state_why[TUI_STATUS_BYTES];
    char status[TUI_STATUS_BYTES];
    bool is_problem;
    char progress[TUI_STATUS_BYTES];
    uint64_t queued_count; // in the outbox
    uint64_t typing_told_ms;
    bool is_done;
};

void tui_init(struct tui *tui);
void tui_deinit(struct tui *tui);

// tui_shown_room is never NULL.
struct tui_room *tui_shown_room(struct tui *tui);
void tui_say(struct tui *tui, bool is_problem, const char *text);
// tui_note puts a note into a room's log.
void tui_note(struct tui *tui, struct tui_room *room, enum tui_style style, const char *text);
// tui_ask adds a job; when that is not possible it says so.
bool tui_ask(struct tui *tui, struct tui_job *job);
// tui_show makes a room the shown one.
void tui_show(struct tui *tui, const struct tui_room *room);
// tui_enter does what was typed.
void tui_enter(struct tui *tui);

void tui_take_event(struct tui *tui, struct tui_event *event);
void tui_take_key(struct tui *tui, const struct tui_key *key);
// tui_draw returns the time, by the monotonic clock, at which something will look different by itself; 0: never.
enum err tui_draw(struct tui *tui, uint64_t *next_ms_out) ERR_CHECKED;

#endif
