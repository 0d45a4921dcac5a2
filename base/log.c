#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text_priv.h"

enum {
    LINE_MAX_BYTES = 2048,
};

static atomic_int lowest_level = LOG_INFO;

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

void
log_set_level(enum log_level level)
{
    atomic_store(&lowest_level, (int)level);
}

bool
log_is_on(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&lowest_level, memory_order_relaxed);
}

enum err
log_level_from_text(const char *text, enum log_level *level_out)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level_out = (enum log_level)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

struct line {
    char text[LINE_MAX_BYTES];
    size_t size;
};

// Appends text, made visible. Stops before a character that does not fit with the quote and newline still to come.
static void
append(struct line *line, const char *text, bool is_quoted)
{
    const size_t usable = sizeof(line->text) - 2;
    struct bytes_view rest = bytes_view_of_text(text);
    while (rest.size > 0) {
        char visible[TEXT_VISIBLE_MAX_BYTES];
        size_t size = 0;
        if (is_quoted && (rest.data[0] == '"' || rest.data[0] == '\\')) {
            visible[size++] = '\\';
        }
        size += text_take_visible(&rest, false, visible + size);
        if (line->size + size > usable) {
            return;
        }
        memcpy(line->text + line->size, visible, size);
        line->size += size;
    }
}

void
log_write(enum log_level level, const char *id, const char *context, const char *format, ...)
{
    if (!log_is_on(level)) {
        return;
    }
    char sentence[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    if (vsnprintf(sentence, sizeof(sentence), format, args) < 0) {
        sentence[0] = '\0';
    }
    va_end(args);

    char now[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_unix_ms(), now);
    struct line line = {.size = 0};
    append(&line, now, false);
    append(&line, " ", false);
    append(&line, level_names[level], false);
    append(&line, " ", false);
    append(&line, id, false);
    if (context != NULL && context[0] != '\0') {
        append(&line, " ", false);
        append(&line, context, false);
    }
    append(&line, " \"", false);
    append(&line, sentence, true);
    line.text[line.size++] = '"';
    line.text[line.size++] = '\n';
    // There is nobody to tell when this fails.
    ssize_t written = write(STDERR_FILENO, line.text, line.size);
    (void)written;
}
