#include "cli/top_screen.h"

#include <curses.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli_output.h"
#include "cli/cli_source.h"

enum {
    ROWS_ABOVE = 3, // the server, nothing, the head
    ROWS_BELOW = 2, // the status, the keys
    TITLE_BYTES = 512,
};

static void
add_line(int row, const char *text)
{
    (void)move(row, 0);
    (void)clrtoeol();
    (void)addnstr(text, COLS);
}

static void
draw_title(const struct top_view *view)
{
    char title[TITLE_BYTES];
    char rate[TEXT_SIZE_BYTES];
    uint64_t bytes_per_s = 0;
    size_t up_count = 0;
    for (size_t i = 0; i < view->count; i++) {
        bool is_up = view->sources[i].state == FC_SOURCE_UP;
        up_count += is_up;
        bytes_per_s += is_up || view->sources[i].state == FC_SOURCE_DRAINING ? view->sources[i].sent_bytes_per_s : 0;
    }
    text_format_size((double)bytes_per_s, rate);
    (void)snprintf(title, sizeof title, "%s%s  %zu of %zu up, %s/s", view->server_url,
        view->is_connected ? "" : " (not connected)", up_count, view->count, rate);
    add_line(0, title);
}

static void
draw_source(int row, const struct fc_source *source, bool is_chosen)
{
    struct cli_text text = {0};
    cli_source_add(&text, source);
    if (text.bytes.size > 0) {
        text.bytes.data[text.bytes.size - 1] = '\0'; // the end of the line
    }
    attr_t shown = is_chosen ? A_REVERSE : source->state == FC_SOURCE_UP ? A_NORMAL : A_BOLD;
    (void)attron((int)shown);
    add_line(row, text.bytes.size > 0 ? (const char *)text.bytes.data : "");
    (void)attroff((int)shown);
    bytes_free(&text.bytes);
}

void
top_screen_draw(const struct top_view *view)
{
    int room = LINES - ROWS_ABOVE - ROWS_BELOW;
    size_t shown = room > 0 ? (size_t)room : 0;
    size_t first = shown != 0 && view->chosen >= shown ? view->chosen - shown + 1 : 0;
    (void)erase();
    draw_title(view);
    (void)attron(A_BOLD);
    add_line(ROWS_ABOVE - 1, cli_source_head);
    (void)attroff(A_BOLD);
    for (size_t i = 0; i < shown && first + i < view->count; i++) {
        draw_source(ROWS_ABOVE + (int)i, &view->sources[first + i], first + i == view->chosen);
    }
    add_line(LINES - 2, view->status);
    add_line(LINES - 1, "s stop   w wake   d drain   up/down choose   q quit");
    (void)move(LINES - 1, 0);
    (void)refresh();
}
