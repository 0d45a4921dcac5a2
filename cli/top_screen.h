// What fc top draws, on the screen that tui_screen.h opens.
#ifndef CLI_TOP_SCREEN_H
#define CLI_TOP_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

#include "client/fc_tracker.h"

struct top_view {
    const char *server_url;
    const struct fc_source *sources;
    size_t count;
    size_t chosen;      // index of the one that keys mean
    const char *status; // of what was done last, or empty
    bool is_connected;
};

// top_screen_draw draws it. The chosen one is always to be seen.
void top_screen_draw(const struct top_view *view);

#endif
