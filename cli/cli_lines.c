#include "cli/cli_lines.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_BYTES = 16 * 1024,
};

enum err
cli_lines_read(struct cli_lines *lines, struct err_detail *why)
{
    bytes_consume(&lines->pending, lines->taken);
    lines->taken = 0;
    enum err code = bytes_reserve(&lines->pending, READ_BYTES);
    if (code != ERR_OK) {
        return code;
    }
    ssize_t n = read(STDIN_FILENO, lines->pending.data + lines->pending.size, READ_BYTES);
    if (n < 0) {
        if (errno == EINTR) {
            return ERR_OK;
        }
        if (errno == EAGAIN) {
            // Another process that shares it made it non-blocking.
            struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
            (void)poll(&input, 1, -1);
            return ERR_OK;
        }
        return err_fail(why, err_from_errno(errno), "cannot read standard input: %s", strerror(errno));
    }
    lines->pending.size += (size_t)n;
    lines->is_at_end = n == 0;
    return ERR_OK;
}

bool
cli_lines_next(struct cli_lines *lines, struct bytes_view *line_out)
{
    for (;;) {
        // Many lines come with one read: what was given out stays in front until the next read, or moving the rest
        // each time would cost the square of their number.
        const uint8_t *from = lines->pending.data + lines->taken;
        size_t left = lines->pending.size - lines->taken;
        const uint8_t *newline = left > 0 ? memchr(from, '\n', left) : NULL;
        if (newline == NULL && (!lines->is_at_end || left == 0)) {
            return false;
        }
        size_t size = newline != NULL ? (size_t)(newline - from) : left;
        lines->taken += size + (newline != NULL ? 1 : 0);
        lines->number++;
        if (size > 0 && from[size - 1] == '\r') {
            size--;
        }
        if (size > 0) {
            *line_out = bytes_view_of(from, size);
            return true;
        }
    }
}

bool
cli_lines_is_too_long(const struct cli_lines *lines)
{
    return lines->pending.size - lines->taken > CLI_LINE_MAX_BYTES;
}

enum err
cli_lines_read_all(size_t max_bytes, struct bytes *out, struct err_detail *why)
{
    struct cli_lines lines = {0};
    enum err code = ERR_OK;
    while (code == ERR_OK && !lines.is_at_end) {
        code = cli_lines_read(&lines, why);
        if (code == ERR_OK && lines.pending.size > max_bytes) {
            code = err_fail(why, ERR_TOO_BIG, "standard input has more than %zu bytes", max_bytes);
        }
    }
    if (code == ERR_OK) {
        *out = lines.pending;
        lines.pending = (struct bytes){0}; // transferred
    }
    cli_lines_free(&lines);
    return code;
}

void
cli_lines_free(struct cli_lines *lines)
{
    bytes_free(&lines->pending);
    *lines = (struct cli_lines){0};
}
