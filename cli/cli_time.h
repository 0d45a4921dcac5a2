// Times and durations as people type them.
#ifndef CLI_CLI_TIME_H
#define CLI_CLI_TIME_H

#include <stdint.h>

#include "base/err.h"

// cli_duration_parse reads a number and a unit: 30s, 30m, 12h, 7d or 2w. option is the option's name, for the message.
enum err cli_duration_parse(const char *option, const char *text, int64_t *ms_out, struct err_detail *why) ERR_CHECKED;

// cli_time_parse reads a time: 2026-01-31, 2026-01-31 12:00, 2026-01-31T12:00:05, which are local, the same with Z or
// an offset at the end (+02:00), or a duration, which is so long before now_unix_ms.
enum err cli_time_parse(const char *option, const char *text, int64_t now_unix_ms, int64_t *unix_ms_out,
    struct err_detail *why) ERR_CHECKED;

#endif
