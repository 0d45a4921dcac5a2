#include "cli/cli_progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"

enum {
    DRAW_INTERVAL_MS = 50,
    NUMBERS_TEXT_BYTES = 128,
    NAME_SHARE = 4,      // the name gets a quarter of the terminal's width at most
    FIXED_COLUMNS = 10,  // " [] 100% " and one free
    BAR_COLUMNS_MIN = 8, // a shorter one says nothing
    BAR_COLUMNS_MAX = 30,
    COLUMNS_DEFAULT = 80,
    ETA_MAX_S = 99 * 3600,
    INTERVAL_MAX_S = 24 * 3600,
};

static void
format_eta(uint64_t seconds, char out[TEXT_SIZE_BYTES])
{
    if (seconds > ETA_MAX_S) {
        (void)snprintf(out, TEXT_SIZE_BYTES, "--:--");
    } else if (seconds >= 3600) {
        (void)snprintf(out, TEXT_SIZE_BYTES, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, seconds / 3600, seconds / 60 % 60,
            seconds % 60);
    } else {
        (void)snprintf(out, TEXT_SIZE_BYTES, "%" PRIu64 ":%02" PRIu64, seconds / 60, seconds % 60);
    }
}

static int
terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return COLUMNS_DEFAULT;
}

// add_name appends the name, cut to a number of characters, and returns how many they are.
static int
add_name(struct cli_text *line, const char *name, int characters_max)
{
    struct cli_text printable = {0};
    cli_text_add_printable(&printable, name);
    struct bytes_view whole = bytes_as_view(&printable.bytes);
    size_t end = 0;
    int characters = 0;
    while (end < whole.size && characters < characters_max) {
        do {
            end++;
        } while (end < whole.size && (whole.data[end] & 0xc0) == 0x80);
        characters++;
    }
    cli_text_add(line, "%.*s", (int)end, end > 0 ? (const char *)whole.data : "");
    bytes_free(&printable.bytes);
    return characters;
}

// format_numbers keeps the widths alike, so that the bar does not dance.
static void
format_numbers(const struct fc_progress *state, uint64_t elapsed_ms, char out[NUMBERS_TEXT_BYTES])
{
    double speed = elapsed_ms > 0 ? (double)state->done_bytes * 1000 / (double)elapsed_ms : 0;
    double left_bytes = (double)state->total_bytes - (double)state->done_bytes;
    double left_s = speed > 0 ? left_bytes / speed : ETA_MAX_S + 1.0;
    char done[TEXT_SIZE_BYTES];
    char total[TEXT_SIZE_BYTES];
    char per_second[TEXT_SIZE_BYTES];
    char eta[TEXT_SIZE_BYTES];
    text_format_size((double)state->done_bytes, done);
    text_format_size((double)state->total_bytes, total);
    text_format_size(speed, per_second);
    format_eta(left_s > ETA_MAX_S ? ETA_MAX_S + 1 : (uint64_t)left_s, eta);
    (void)snprintf(out, NUMBERS_TEXT_BYTES, "%s / %s  %9s/s  ETA %5s", done, total, per_second, eta);
}

static void
draw(struct cli_progress *progress, const struct fc_progress *state, uint64_t now_ms)
{
    char numbers[NUMBERS_TEXT_BYTES];
    format_numbers(state, now_ms - progress->started_ms, numbers);
    double fraction = 1;
    if (state->done_bytes < state->total_bytes) {
        fraction = (double)state->done_bytes / (double)state->total_bytes;
    }
    struct cli_text line = {0};
    int columns = terminal_columns();
    cli_text_add(&line, "\r");
    if (progress->drawn_lines != 0) {
        cli_text_add(&line, "\033[%uA", progress->drawn_lines);
    }
    progress->drawn_lines = state->source_count > 1 ? state->source_count : 0;
    if (progress->drawn_lines != 0) {
        cli_givers_draw(&line, state, columns);
    }
    int left_columns = columns - add_name(&line, progress->name, columns / NAME_SHARE) - FIXED_COLUMNS;
    int bar_columns = left_columns - (int)strlen(numbers);
    if (bar_columns >= BAR_COLUMNS_MIN) {
        bar_columns = bar_columns > BAR_COLUMNS_MAX ? BAR_COLUMNS_MAX : bar_columns;
        cli_text_add(&line, " [%-*.*s]", bar_columns, (int)(fraction * bar_columns), "##############################");
    }
    // What is wider than the terminal would go on in the next line, and be drawn there again each time.
    cli_text_add(&line, " %3d%% %.*s\033[K", (int)(fraction * 100), left_columns > 0 ? left_columns : 0, numbers);
    if (line.code == ERR_OK) {
        ssize_t ignored = write(STDERR_FILENO, line.bytes.data, line.bytes.size);
        (void)ignored;
    }
    bytes_free(&line.bytes);
    progress->is_drawn = true;
    progress->drawn_ms = now_ms;
}

// wipe takes what is drawn off the terminal.
static void
wipe(struct cli_progress *progress)
{
    if (progress->is_drawn) {
        struct cli_text text = {0};
        cli_text_add(&text, "\r");
        if (progress->drawn_lines != 0) {
            cli_text_add(&text, "\033[%uA\033[J", progress->drawn_lines);
        }
        cli_text_add(&text, "\033[K");
        ssize_t ignored = text.code == ERR_OK ? write(STDERR_FILENO, text.bytes.data, text.bytes.size) : 0;
        (void)ignored;
        bytes_free(&text.bytes);
    }
    progress->is_drawn = false;
    progress->drawn_lines = 0;
}

// follow remembers the sources, and says what there is to be said.
static void
follow(struct cli_progress *progress, const struct fc_progress *state, uint64_t now_ms)
{
    progress->last = *state;
    progress->last.source_count = state->source_count < CLI_GIVERS_MAX ? state->source_count : CLI_GIVERS_MAX;
    if (progress->last.source_count != 0) {
        memcpy(progress->sources, state->sources, progress->last.source_count * sizeof progress->sources[0]);
    }
    progress->last.sources = progress->sources;
    if (state->message != NULL && strcmp(state->message, progress->said) != 0) {
        wipe(progress);
        (void)snprintf(progress->said, sizeof progress->said, "%s", state->message);
        cli_output_error("fc %s: %s", progress->command, state->message);
    }
    if (progress->interval_ms != 0 && now_ms - progress->givers.told_ms >= progress->interval_ms) {
        cli_givers_tell(&progress->givers, &progress->last, now_ms, progress->is_json);
    }
}

static void
on_progress(void *context, const struct fc_progress *state)
{
    struct cli_progress *progress = context;
    uint64_t now_ms = clock_monotonic_ms();
    bool is_due = !progress->is_drawn || now_ms - progress->drawn_ms >= DRAW_INTERVAL_MS;
    if (progress->command != NULL) {
        follow(progress, state, now_ms);
    }
    if (progress->is_terminal && (is_due || state->done_bytes == state->total_bytes)) {
        draw(progress, state, now_ms);
    }
}

static bool
is_cancelled(void *context)
{
    (void)context;
    return cli_interrupt_signal() != 0;
}

void
cli_progress_begin(struct cli_progress *progress, const char *name, struct fc_transfer_options *options)
{
    *progress = (struct cli_progress){.name = name, .started_ms = clock_monotonic_ms()};
    *options = (struct fc_transfer_options){.context = progress, .is_cancelled = is_cancelled};
    progress->is_terminal = isatty(STDERR_FILENO);
    if (progress->is_terminal) {
        options->on_progress = on_progress;
    }
}

enum err
cli_progress_patience(const struct cli_options *options, struct fc_transfer_options *transfer, struct err_detail *why)
{
    uint64_t patience_s = FC_PATIENCE_ENDLESS;
    enum err code = cli_options_u64(options, CLI_OPTION_TIMEOUT, 1, patience_s, &patience_s, why);
    transfer->patience_s = patience_s < FC_PATIENCE_ENDLESS ? (uint32_t)patience_s : FC_PATIENCE_ENDLESS;
    return code;
}

enum err
cli_progress_follow(struct cli_progress *progress, const char *command, const struct cli_options *options,
    struct fc_transfer_options *transfer, struct err_detail *why)
{
    uint64_t interval_s = 0;
    enum err code = cli_options_u64(options, CLI_OPTION_INTERVAL, 1, 0, &interval_s, why);
    if (code != ERR_OK) {
        return code;
    }
    if (interval_s > INTERVAL_MAX_S) {
        return err_fail(why, ERR_INVALID, "--interval takes at most %d seconds", INTERVAL_MAX_S);
    }
    progress->command = command;
    progress->is_json = cli_options_has(options, CLI_OPTION_JSON);
    progress->is_verbose = cli_options_has(options, CLI_OPTION_VERBOSE);
    progress->interval_ms = interval_s * 1000;
    progress->givers.told_ms = progress->started_ms;
    progress->is_terminal = progress->is_terminal && interval_s == 0;
    transfer->on_progress = on_progress;
    return ERR_OK;
}

void
cli_progress_sum_up(const struct cli_progress *progress)
{
    unsigned givers = 0;
    for (unsigned i = 0; i < progress->last.source_count; i++) {
        givers += progress->sources[i].segments != 0 || progress->sources[i].corrupt_segments != 0;
    }
    // A script gets what it asked for, and no more.
    bool is_wanted = progress->is_verbose || progress->interval_ms != 0 || (givers > 1 && isatty(STDERR_FILENO));
    if (progress->last.source_count != 0 && is_wanted) {
        cli_givers_sum_up(&progress->last, clock_monotonic_ms() - progress->started_ms, progress->is_json);
    }
}

void
cli_progress_end(struct cli_progress *progress)
{
    wipe(progress);
}
