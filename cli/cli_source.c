#include "cli/cli_source.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"

enum {
    PERMILLE_PER_PERCENT = 10,
};

void
cli_source_json(struct cli_text *text, const struct fc_source *source)
{
    cli_json_open(text, NULL);
    cli_json_hex(text, "id", source->id, sizeof source->id);
    cli_json_text(text, "name", source->name);
    cli_json_text(text, "kind", fc_source_kind_name(source->kind));
    cli_json_text(text, "state", fc_source_state_name(source->state));
    cli_json_time(text, "since", source->since_unix_ms);
    cli_json_text(text, "user", source->user_name);
    cli_json_open_list(text, "urls");
    for (size_t i = 0; i < source->url_count; i++) {
        cli_json_text(text, NULL, source->urls[i]);
    }
    cli_json_close_list(text);
    cli_json_u64(text, "incarnation", source->incarnation);
    cli_json_u64(text, "cpu_permille", source->cpu_permille);
    cli_json_u64(text, "connections", source->connections);
    cli_json_u64(text, "segments_in_flight", source->segments_in_flight);
    cli_json_u64(text, "sent_bytes", source->sent_bytes);
    cli_json_u64(text, "sent_bytes_per_s", source->sent_bytes_per_s);
    cli_json_u64(text, "sent_segments", source->sent_segments);
    cli_json_u64(text, "limit_bytes_per_s", source->limit_bytes_per_s);
    cli_json_u64(text, "stored_bytes", source->stored_bytes);
    cli_json_u64(text, "budget_bytes", source->budget_bytes);
    cli_json_u64(text, "files", source->file_count);
    cli_json_u64(text, "segments", source->segment_count);
    cli_json_u64(text, "bad_segments", source->bad_segments);
    cli_json_close_line(text);
}

const char cli_source_head[] =
    "state        kind    cpu  conns  busy        rate        sent  segments   files      stored  name";

void
cli_source_line(const struct fc_source *source, char out[CLI_SOURCE_LINE_BYTES])
{
    char rate[TEXT_SIZE_BYTES];
    char sent[TEXT_SIZE_BYTES];
    char stored[TEXT_SIZE_BYTES];
    text_format_size((double)source->sent_bytes_per_s, rate);
    text_format_size((double)source->sent_bytes, sent);
    text_format_size((double)source->stored_bytes, stored);
    (void)snprintf(out, CLI_SOURCE_LINE_BYTES,
        "%-11s  %-6s %3" PRIu32 "%%  %5" PRIu32 "  %4" PRIu32 "  %8s/s  %10s  %8" PRIu64 "  %6" PRIu64 "  %10s  ",
        fc_source_state_name(source->state), fc_source_kind_name(source->kind),
        source->cpu_permille / PERMILLE_PER_PERCENT, source->connections, source->segments_in_flight, rate, sent,
        source->segment_count, source->file_count, stored);
}

void
cli_source_add(struct cli_text *text, const struct fc_source *source)
{
    char line[CLI_SOURCE_LINE_BYTES];
    cli_source_line(source, line);
    cli_text_add(text, "%s", line);
    cli_text_add_printable(text, source->name);
    cli_text_add(text, "\n");
}
