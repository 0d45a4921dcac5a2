// Structured log lines on stderr: time, level, a stable id, key=value context, and a sentence.
//
//     2026-01-02T03:04:05.678Z warn RPC-FRAME-TOO-BIG peer=tcp://127.0.0.1:4711 "a frame of ..."
//
// Any thread may call these. A line is written with one write(2), so lines never mix.
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level {
    LOG_ERROR, // the operator has to act
    LOG_WARN,  // the operator should look
    LOG_INFO,  // start, stop, and other rare events
    LOG_DEBUG, // what a developer wants to see
};

// log_set_level drops lines below it from now on. LOG_INFO at the start.
void log_set_level(enum log_level level);

// log_is_on says whether lines of this level are written, for when it would cost something to make one.
bool log_is_on(enum log_level level);

// log_level_from_text reads "error", "warn", "info" or "debug".
enum err log_level_from_text(const char *text, enum log_level *level_out) ERR_CHECKED;

// log_write writes one line. id is stable, upper case with dashes. context is "key=value key=value" or NULL.
// Control characters in context and sentence are escaped; a line is cut at 2 KiB. Never pass secrets.
void log_write(enum log_level level, const char *id, const char *context, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif
