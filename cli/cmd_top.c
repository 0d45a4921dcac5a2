// fc top: all servers of segments as they are now, on a screen or line by line.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"
#include "cli/cli_source.h"
#include "cli/top_screen.h"
#include "cli/tui_screen.h"
#include "client/fc_tracker.h"

enum {
    POLL_MS = 100,
    RETRY_MS = 1000, // after the connection was lost
    MS_PER_S = 1000,
    INTERVAL_MAX_S = 24 * 3600,
    STATUS_BYTES = 256,
    SOURCES_FIRST = 16,
};

struct top {
    struct cli *cli;
    struct fc_tracker_watch *watch; // NULL: none at present
    struct fc_source *sources;      // by kind and name
    size_t count;
    size_t capacity;
    enum err failure; // of keeping what was heard
    bool has_caught_up;
    bool is_changed;
    uint64_t retry_ms;
    uint8_t chosen_id[16];
    size_t chosen;
    char status[STATUS_BYTES];
};

// --- What is known --------------------------------------------------------------------------------------------------

static int
compare(const void *a, const void *b)
{
    const struct fc_source *left = a;
    const struct fc_source *right = b;
    if (left->kind != right->kind) {
        return left->kind < right->kind ? -1 : 1;
    }
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : memcmp(left->id, right->id, sizeof left->id);
}

static struct fc_source *
find(struct top *top, const uint8_t id[16])
{
    for (size_t i = 0; i < top->count; i++) {
        if (memcmp(top->sources[i].id, id, sizeof top->sources[i].id) == 0) {
            return &top->sources[i];
        }
    }
    return NULL;
}

static void
on_source(void *context, const struct fc_source *source)
{
    struct top *top = context;
    struct fc_source *known = find(top, source->id);
    top->is_changed = true;
    if (known == NULL && top->count == top->capacity) {
        size_t capacity = top->capacity == 0 ? (size_t)SOURCES_FIRST : top->capacity * 2;
        struct fc_source *sources = realloc(top->sources, capacity * sizeof sources[0]);
        if (sources == NULL) {
            top->failure = ERR_NO_MEMORY;
            return;
        }
        top->sources = sources;
        top->capacity = capacity;
    }
    if (known == NULL) {
        known = &top->sources[top->count++];
    }
    *known = *source;
}

static void
settle(struct top *top)
{
    if (top->count == 0) {
        return;
    }
    qsort(top->sources, top->count, sizeof top->sources[0], compare);
    const struct fc_source *chosen = find(top, top->chosen_id);
    top->chosen = chosen != NULL ? (size_t)(chosen - top->sources) : 0;
    memcpy(top->chosen_id, top->sources[top->chosen].id, sizeof top->chosen_id);
}

// hear takes what has come. A connection that was lost is made again; what does not pass is an error.
static enum err
hear(struct top *top, struct err_detail *why)
{
    uint64_t now_ms = clock_monotonic_ms();
    enum err code = ERR_OK;
    if (top->watch == NULL && now_ms >= top->retry_ms) {
        code = fc_tracker_watch_open(top->cli->session, &top->watch, why);
    }
    if (code == ERR_OK && top->watch != NULL) {
        code = fc_tracker_watch_take(top->watch, on_source, top, &top->has_caught_up, why);
        code = code == ERR_OK ? top->failure : code;
    }
    if (code != ERR_OK) {
        fc_tracker_watch_close(&top->watch);
        top->retry_ms = now_ms + RETRY_MS;
        top->is_changed = true;
    }
    bool is_passing = code == ERR_UNAVAILABLE || code == ERR_TIMEOUT || code == ERR_CLOSED;
    if (is_passing && top->has_caught_up) {
        (void)snprintf(top->status, sizeof top->status, "%s", err_message(why, code));
        memset(why, 0, sizeof *why);
        code = ERR_OK;
    }
    return code;
}

// --- The screen -----------------------------------------------------------------------------------------------------

static volatile sig_atomic_t is_resized;

static void
on_resize(int number)
{
    (void)number;
    is_resized = 1;
}

static void
order(struct top *top, enum fc_source_order what, const char *done)
{
    struct err_detail why = {0};
    struct fc_source source;
    char id[33];
    if (top->count == 0) {
        return;
    }
    bytes_to_hex(bytes_view_of(top->chosen_id, sizeof top->chosen_id), id);
    enum err code = fc_tracker_order(top->cli->session, id, what, &source, &why);
    if (code == ERR_OK) {
        on_source(top, &source);
        (void)snprintf(top->status, sizeof top->status, "%s %s", source.name, done);
    } else {
        (void)snprintf(top->status, sizeof top->status, "%s", err_message(&why, code));
    }
}

static void
choose(struct top *top, size_t index)
{
    if (index < top->count) {
        top->chosen = index;
        memcpy(top->chosen_id, top->sources[index].id, sizeof top->chosen_id);
    }
}

// act does what a key means. false: to end.
static bool
act(struct top *top, struct tui_key key)
{
    top->is_changed = true;
    switch ((int)key.kind) {
    case TUI_KEY_UP:
        choose(top, top->chosen - 1);
        return true;
    case TUI_KEY_DOWN:
        choose(top, top->chosen + 1);
        return true;
    case TUI_KEY_REPAINT:
        tui_screen_repaint();
        return true;
    case TUI_KEY_END_OF_INPUT:
        return false;
    case TUI_KEY_CHAR:
        break;
    default:
        return true;
    }
    if (key.code == 's') {
        order(top, FC_SOURCE_STOP, "is told to stop");
    } else if (key.code == 'w') {
        order(top, FC_SOURCE_WAKE, "is told to wake");
    } else if (key.code == 'd') {
        order(top, FC_SOURCE_DRAIN, "is told to drain");
    }
    return key.code != 'q';
}

static enum err
run_screen(struct top *top, struct err_detail *why)
{
    struct pollfd fds[] = {{.fd = cli_interrupt_fd(), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    enum err code = hear(top, why); // a refusal is told before there is a screen
    if (code != ERR_OK) {
        return code;
    }
    const struct sigaction resized = {.sa_handler = on_resize};
    (void)sigaction(SIGWINCH, &resized, NULL);
    log_set_level(LOG_ERROR); // others would write over the screen
    code = tui_screen_open(why);
    if (code != ERR_OK) {
        return err_fail(why, code, "the terminal cannot show a full screen; try fc segment ls");
    }
    bool is_ended = false;
    top->is_changed = true;
    while (code == ERR_OK && !is_ended && cli_interrupt_signal() == 0) {
        if (top->is_changed) {
            top->is_changed = false;
            settle(top);
            top_screen_draw(&(struct top_view){
                .server_url = fc_session_server_url(top->cli->session),
                .sources = top->sources,
                .count = top->count,
                .chosen = top->chosen,
                .status = top->status,
                .is_connected = top->watch != NULL,
            });
        }
        if (poll(fds, sizeof fds / sizeof fds[0], POLL_MS) < 0 && errno != EINTR) {
            code = err_fail(why, ERR_IO, "cannot wait for keys: %s", strerror(errno));
        }
        if (is_resized) {
            is_resized = 0;
            tui_screen_resize();
            top->is_changed = true;
        }
        for (struct tui_key key = tui_screen_read_key(); !is_ended && key.kind != TUI_KEY_NONE;
             key = tui_screen_read_key()) {
            is_ended = !act(top, key);
        }
        is_ended = is_ended || (fds[1].revents & (POLLHUP | POLLERR)) != 0;
        if (code == ERR_OK) {
            code = hear(top, why);
        }
    }
    tui_screen_close();
    return code;
}

// --- Lines ----------------------------------------------------------------------------------------------------------

static enum err
print_all(struct top *top, bool is_json, struct err_detail *why)
{
    struct cli_text text = {0};
    settle(top);
    if (!is_json) {
        cli_text_add(&text, "%s\n", cli_source_head);
    }
    for (size_t i = 0; i < top->count; i++) {
        if (is_json) {
            cli_source_json(&text, &top->sources[i]);
        } else {
            cli_source_add(&text, &top->sources[i]);
        }
    }
    return cli_text_print(&text, why);
}

static enum err
run_lines(struct top *top, uint64_t interval_ms, bool is_json, struct err_detail *why)
{
    struct pollfd wake = {.fd = cli_interrupt_fd(), .events = POLLIN};
    uint64_t due_ms = 0;
    enum err code = ERR_OK;
    while (code == ERR_OK && cli_interrupt_signal() == 0) {
        code = hear(top, why);
        uint64_t now_ms = clock_monotonic_ms();
        if (code == ERR_OK && top->has_caught_up && now_ms >= due_ms) {
            due_ms = now_ms + interval_ms;
            code = print_all(top, is_json, why);
        }
        (void)poll(&wake, 1, POLL_MS);
    }
    return code;
}

static enum err
run_top(struct cli *cli, struct err_detail *why)
{
    struct top top = {.cli = cli};
    uint64_t interval_s = 0;
    bool is_json = cli_options_has(&cli->options, CLI_OPTION_JSON);
    bool is_screen = !is_json && !cli_options_has(&cli->options, CLI_OPTION_INTERVAL) && isatty(STDOUT_FILENO) == 1 &&
                     isatty(STDIN_FILENO) == 1;
    enum err code = cli_options_u64(&cli->options, CLI_OPTION_INTERVAL, 1, 1, &interval_s, why);
    if (code == ERR_OK && interval_s > INTERVAL_MAX_S) {
        code = err_fail(why, ERR_INVALID, "--interval is at most %d seconds", INTERVAL_MAX_S);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = is_screen ? run_screen(&top, why) : run_lines(&top, interval_s * MS_PER_S, is_json, why);
    }
    fc_tracker_watch_close(&top.watch);
    free(top.sources);
    return code;
}

const struct cli_command cmd_top = {
    .name = "top",
    .synopsis = "[-i S]",
    .summary = "watch the servers that files come from",
    .details = "For administrators of the server. On a terminal it fills the screen: the arrow\n"
               "keys choose a server, s stops it, w wakes it, d drains it, q ends. Otherwise,\n"
               "with -i or --json, it prints a line for each server, again every S seconds.\n",
    .options = CLI_ALLOWS(CLI_OPTION_INTERVAL),
    .run = run_top,
};
