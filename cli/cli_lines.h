// Standard input, as messages of a line each or as a whole.
#ifndef CLI_CLI_LINES_H
#define CLI_CLI_LINES_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    CLI_LINE_MAX_BYTES = 65536, // a message's text, by SendRequest.text
};

// cli_lines gathers bytes into lines. All zero is fine.
struct cli_lines {
    struct bytes pending;
    size_t taken;    // bytes of pending that belong to the line given out last
    bool is_at_end;  // nothing more will come
    uint64_t number; // of the line given out last, from 1
};

// cli_lines_read reads once from standard input; it blocks unless there is something.
enum err cli_lines_read(struct cli_lines *lines, struct err_detail *why) ERR_CHECKED;

// cli_lines_next gives the next whole line without its end, or what is left at the end of input; false when there is
// none yet. Empty ones are left out, since there are no empty messages. It stays valid until the next call.
bool cli_lines_next(struct cli_lines *lines, struct bytes_view *line_out);

// cli_lines_is_too_long tells that a line is longer than CLI_LINE_MAX_BYTES. Asked after cli_lines_next returned
// false; reading more would only fill the memory.
bool cli_lines_is_too_long(const struct cli_lines *lines);

// cli_lines_read_all reads all of standard input instead. ERR_TOO_BIG.
enum err cli_lines_read_all(size_t max_bytes, struct bytes *out, struct err_detail *why) ERR_CHECKED;

void cli_lines_free(struct cli_lines *lines);

#endif
