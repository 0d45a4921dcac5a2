#include "cli/cli_givers.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"

enum {
    MS_PER_S = 1000,
    NAME_COLUMNS = 24,
    LINE_BYTES = 192,
};

// put writes what was gathered to standard error or, of JSON, to standard output, where a reader who has gone shows
// when the result is printed.
static void
put(struct cli_text *text, bool is_json)
{
    if (text->code == ERR_OK) {
        ssize_t ignored = write(is_json ? STDOUT_FILENO : STDERR_FILENO, text->bytes.data, text->bytes.size);
        (void)ignored;
    }
    bytes_free(&text->bytes);
}

// add_source_line writes the figures of a source and then its name, since that comes from outside and may be long.
static void
add_source_line(struct cli_text *text, const struct fc_source_progress *source, uint64_t bytes_per_s)
{
    char bytes[TEXT_SIZE_BYTES];
    char speed[TEXT_SIZE_BYTES];

    text_format_size((double)source->bytes, bytes);
    text_format_size((double)bytes_per_s, speed);
    cli_text_add(text, "%7" PRIu64 " segments %10s %10s/s  %-8s  ", source->segments, bytes, speed,
        fc_swarm_state_name(source->state));
    cli_text_add_printable(text, source->name);
}

void
cli_givers_draw(struct cli_text *text, const struct fc_progress *state, int columns)
{
    for (unsigned i = 0; i < state->source_count; i++) {
        struct cli_text line = {0};
        add_source_line(&line, &state->sources[i], state->sources[i].bytes_per_s);
        // Wider ones would go on in the next line. Cutting may end within a character of the name, which a terminal
        // shows as one that it does not know.
        int size = (int)line.bytes.size < columns - 1 ? (int)line.bytes.size : columns - 1;
        if (line.code == ERR_OK && size > 0) {
            cli_text_add(text, "%.*s\033[K\n", size, (const char *)line.bytes.data);
        } else {
            cli_text_add(text, "\033[K\n");
        }
        bytes_free(&line.bytes);
    }
}

static void
add_json_sources(struct cli_text *text, const struct fc_progress *state, const uint64_t *speeds)
{
    cli_json_open_list(text, "sources");
    for (unsigned i = 0; i < state->source_count; i++) {
        const struct fc_source_progress *source = &state->sources[i];
        cli_json_open(text, NULL);
        cli_json_text(text, "name", source->name);
        cli_json_text(text, "kind", fc_swarm_kind_name(source->kind));
        cli_json_text(text, "state", fc_swarm_state_name(source->state));
        cli_json_u64(text, "segments", source->segments);
        cli_json_u64(text, "bytes", source->bytes);
        cli_json_u64(text, "bytes_per_s", speeds[i]);
        cli_json_u64(text, "segments_in_flight", source->in_flight_segments);
        cli_json_u64(text, "retries", source->retries);
        cli_json_u64(text, "corrupt_segments", source->corrupt_segments);
        cli_json_close(text);
    }
    cli_json_close_list(text);
}

static void
add_json_totals(struct cli_text *text, const struct fc_progress *state, uint64_t bytes_per_s)
{
    cli_json_u64(text, "done_bytes", state->done_bytes);
    cli_json_u64(text, "total_bytes", state->total_bytes);
    cli_json_u64(text, "done_segments", state->chunks_done);
    cli_json_u64(text, "total_segments", state->chunks_total);
    cli_json_u64(text, "bytes_per_s", bytes_per_s);
    cli_json_u64(text, "retries", state->chunks_resent);
    cli_json_u64(text, "duplicates", state->duplicates);
    cli_json_u64(text, "stolen", state->stolen);
    cli_json_u64(text, "wasted_bytes", state->wasted_bytes);
    cli_json_bool(text, "is_waiting", state->is_waiting);
}

static void
tell(const struct fc_progress *state, const uint64_t *speeds, uint64_t total, bool is_json)
{
    struct cli_text text = {0};
    char done[TEXT_SIZE_BYTES];
    char all[TEXT_SIZE_BYTES];
    char speed[TEXT_SIZE_BYTES];

    if (is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "event", "progress");
        add_json_totals(&text, state, total);
        add_json_sources(&text, state, speeds);
        cli_json_close_line(&text);
        put(&text, true);
        return;
    }
    for (unsigned i = 0; i < state->source_count; i++) {
        add_source_line(&text, &state->sources[i], speeds[i]);
        cli_text_add(&text, "\n");
    }
    text_format_size((double)state->done_bytes, done);
    text_format_size((double)state->total_bytes, all);
    text_format_size((double)total, speed);
    cli_text_add(&text, "%7" PRIu64 " segments %10s %10s/s  of %s", state->chunks_done, done, speed, all);
    if (total != 0) {
        cli_text_add(&text, ", %" PRIu64 " s left", (state->total_bytes - state->done_bytes) / total);
    }
    cli_text_add(&text, "\n");
    put(&text, false);
}

void
cli_givers_tell(struct cli_givers *givers, const struct fc_progress *state, uint64_t now_ms, bool is_json)
{
    uint64_t passed_ms = now_ms > givers->told_ms ? now_ms - givers->told_ms : 1;
    uint64_t speeds[CLI_GIVERS_MAX] = {0};
    uint64_t total = 0;

    for (unsigned i = 0; i < state->source_count && i < CLI_GIVERS_MAX; i++) {
        speeds[i] = (state->sources[i].bytes - givers->bytes[i]) * MS_PER_S / passed_ms;
        givers->bytes[i] = state->sources[i].bytes;
        total += speeds[i];
    }
    givers->told_ms = now_ms;
    tell(state, speeds, total, is_json);
}

void
cli_givers_sum_up(const struct fc_progress *state, uint64_t elapsed_ms, bool is_json)
{
    uint64_t speeds[CLI_GIVERS_MAX] = {0};
    uint64_t total = 0;
    struct cli_text text = {0};
    char wasted[TEXT_SIZE_BYTES];

    elapsed_ms = elapsed_ms == 0 ? 1 : elapsed_ms;
    for (unsigned i = 0; i < state->source_count && i < CLI_GIVERS_MAX; i++) {
        speeds[i] = state->sources[i].bytes * MS_PER_S / elapsed_ms;
        total += speeds[i];
    }
    if (is_json) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "event", "summary");
        cli_json_u64(&text, "elapsed_ms", elapsed_ms);
        add_json_totals(&text, state, total);
        add_json_sources(&text, state, speeds);
        cli_json_close_line(&text);
        put(&text, true);
        return;
    }
    for (unsigned i = 0; i < state->source_count; i++) {
        const struct fc_source_progress *source = &state->sources[i];
        add_source_line(&text, source, speeds[i]);
        if (source->retries != 0) {
            cli_text_add(&text, ", %" PRIu64 " asked in vain", source->retries);
        }
        if (source->corrupt_segments != 0) {
            cli_text_add(&text, ", %" PRIu64 " CORRUPT", source->corrupt_segments);
        }
        cli_text_add(&text, "\n");
    }
    text_format_size((double)state->wasted_bytes, wasted);
    cli_text_add(&text,
        "%7" PRIu64 " segments; %" PRIu64 " asked twice, %" PRIu64 " taken from slow servers, %s wasted\n",
        state->chunks_done, state->duplicates, state->stolen, wasted);
    put(&text, false);
}
