#include "cli/cli_output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

enum {
    HEX_MAX_BYTES = 64, // the longest thing shown in hexadecimal is a SHA-256
};

// A room's stream prints from its own thread while main reads it.
static atomic_bool is_closed;

enum err
cli_output_write(struct bytes_view text, struct err_detail *why)
{
    while (text.size > 0) {
        ssize_t n = write(STDOUT_FILENO, text.data, text.size);
        if (n >= 0) {
            text.data += n;
            text.size -= (size_t)n;
        } else if (errno == EPIPE) {
            atomic_store(&is_closed, true);
            return err_fail(why, ERR_CLOSED, "nobody reads the output any more");
        } else if (errno != EINTR) {
            return err_fail(why, err_from_errno(errno), "cannot write the output: %s", strerror(errno));
        }
    }
    return ERR_OK;
}

void
cli_output_check_reader(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO};
    if (poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0) {
        atomic_store(&is_closed, true);
    }
}

bool
cli_output_is_closed(void)
{
    return atomic_load(&is_closed);
}

void
cli_output_error(const char *format, ...)
{
    char line[2 * ERR_DETAIL_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0) {
        return;
    }
    struct bytes out = {0};
    if (text_append_printable(&out, bytes_view_of_text(line), false) == ERR_OK &&
        bytes_append(&out, bytes_view_of_text("\n")) == ERR_OK) {
        ssize_t ignored = write(STDERR_FILENO, out.data, out.size);
        (void)ignored;
    }
    bytes_free(&out);
}

static void
add(struct cli_text *text, struct bytes_view data)
{
    if (text->code == ERR_OK) {
        text->code = bytes_append(&text->bytes, data);
    }
}

void
cli_text_add(struct cli_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *formatted = NULL;
    int length = vasprintf(&formatted, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->code = ERR_NO_MEMORY;
        return;
    }
    add(text, bytes_view_of(formatted, (size_t)length));
    free(formatted);
}

void
cli_text_add_printable(struct cli_text *text, const char *from_outside)
{
    if (text->code == ERR_OK) {
        text->code = text_append_printable(&text->bytes, bytes_view_of_text(from_outside), false);
    }
}

void
cli_text_add_hex(struct cli_text *text, const uint8_t *data, size_t size)
{
    char digits[2 * HEX_MAX_BYTES + 1];
    if (size > HEX_MAX_BYTES) {
        size = HEX_MAX_BYTES;
    }
    bytes_to_hex(bytes_view_of(data, size), digits);
    add(text, bytes_view_of_text(digits));
}

void
cli_text_add_local_time(struct cli_text *text, int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    char formatted[32];
    // A server can send any number: one without a calendar date is shown as it is.
    if (localtime_r(&seconds, &parts) == NULL ||
        strftime(formatted, sizeof formatted, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
        cli_text_add(text, "%" PRId64, unix_ms);
        return;
    }
    add(text, bytes_view_of_text(formatted));
}

enum err
cli_text_print(struct cli_text *text, struct err_detail *why)
{
    enum err code = text->code;
    if (code == ERR_OK) {
        code = cli_output_write(bytes_as_view(&text->bytes), why);
    }
    bytes_free(&text->bytes);
    *text = (struct cli_text){0};
    return code;
}

// add_key writes what stands before a value. Keys are our own words and need no escapes.
static void
add_key(struct cli_text *text, const char *key)
{
    if (text->has_members) {
        add(text, bytes_view_of_text(","));
    }
    if (key != NULL) {
        cli_text_add(text, "\"%s\":", key);
    }
    text->has_members = true;
}

void
cli_json_open(struct cli_text *text, const char *key)
{
    add_key(text, key);
    add(text, bytes_view_of_text("{"));
    text->has_members = false;
}

void
cli_json_text(struct cli_text *text, const char *key, const char *value)
{
    add_key(text, key);
    if (text->code == ERR_OK) {
        text->code = text_append_json_string(&text->bytes, bytes_view_of_text(value));
    }
}

void
cli_json_u64(struct cli_text *text, const char *key, uint64_t value)
{
    add_key(text, key);
    cli_text_add(text, "%" PRIu64, value);
}

void
cli_json_bool(struct cli_text *text, const char *key, bool value)
{
    add_key(text, key);
    add(text, bytes_view_of_text(value ? "true" : "false"));
}

void
cli_json_hex(struct cli_text *text, const char *key, const uint8_t *data, size_t size)
{
    add_key(text, key);
    add(text, bytes_view_of_text("\""));
    cli_text_add_hex(text, data, size);
    add(text, bytes_view_of_text("\""));
}

void
cli_json_time(struct cli_text *text, const char *key, int64_t unix_ms)
{
    char formatted[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(unix_ms, formatted);
    cli_json_text(text, key, formatted);
}

void
cli_json_close(struct cli_text *text)
{
    add(text, bytes_view_of_text("}"));
    text->has_members = true;
}

void
cli_json_open_list(struct cli_text *text, const char *key)
{
    add_key(text, key);
    add(text, bytes_view_of_text("["));
    text->has_members = false;
}

void
cli_json_close_list(struct cli_text *text)
{
    add(text, bytes_view_of_text("]"));
    text->has_members = true;
}

void
cli_json_close_line(struct cli_text *text)
{
    add(text, bytes_view_of_text("}\n"));
    text->has_members = false;
}
