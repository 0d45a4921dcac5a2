// Files that fc chat sends and fetches: one at a time, on a thread of its own.
#ifndef CLI_TUI_TRANSFER_H
#define CLI_TUI_TRANSFER_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/tui_event.h"
#include "cli/tui_work.h"

struct tui_transfer;

// tui_transfer_new starts nothing. All that it is given outlives it.
enum err tui_transfer_new(struct fc_session *session, struct tui_events *events, struct tui_work *work,
    struct tui_transfer **out) ERR_CHECKED;
// tui_transfer_stop gives up what is under way, and frees. It returns false when that takes longer than patience_ms,
// and then may be called again. Before tui_work_stop.
bool tui_transfer_stop(struct tui_transfer **transfer, uint64_t patience_ms);

struct tui_transfer_wish {
    bool is_upload;
    const char *room;
    const char *path; // of an upload; else the file's name
};

// tui_transfer_start: the progress, and what comes of it, are events; a file that is sent is announced in the room.
// ERR_BUSY: one is under way.
enum err tui_transfer_start(struct tui_transfer *transfer, const struct tui_transfer_wish *wish,
    struct err_detail *why) ERR_CHECKED;

#endif
