#include "cli/cli_time.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    DIGITS_MAX = 9, // of the number of a duration
};

static bool
read_duration(const char *text, int64_t *ms_out)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60 * 1000}, {'h', 3600 * 1000}, {'d', 86400 * 1000}, {'w', 7 * 86400 * 1000}};
    int64_t number = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > DIGITS_MAX || text[digits] == '\0' || text[digits + 1] != '\0') {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        number = number * 10 + (text[i] - '0');
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].unit == text[digits]) {
            *ms_out = number * units[i].ms;
            return number > 0;
        }
    }
    return false;
}

enum err
cli_duration_parse(const char *option, const char *text, int64_t *ms_out, struct err_detail *why)
{
    if (!read_duration(text, ms_out)) {
        return err_fail(why, ERR_INVALID, "--%s needs a duration such as 30m, 12h or 7d, not \"%s\"", option, text);
    }
    return ERR_OK;
}

// read_offset reads what may stand after a time: nothing, which is local, or Z, or +HH:MM.
static bool
read_offset(const char *text, bool *is_local_out, int64_t *offset_s_out)
{
    int hours = 0;
    int minutes = 0;
    int used = 0;
    *is_local_out = *text == '\0';
    *offset_s_out = 0;
    if (*text == '\0' || strcmp(text, "Z") == 0) {
        return true;
    }
    if ((*text != '+' && *text != '-') || sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 ||
        text[1 + used] != '\0' || hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return false;
    }
    *offset_s_out = (*text == '-' ? -1 : 1) * (3600 * (int64_t)hours + 60 * (int64_t)minutes);
    return true;
}

static bool
read_time(const char *text, int64_t *unix_ms_out)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M",
        "%Y-%m-%d"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm parts = {.tm_isdst = -1};
        bool is_local = false;
        int64_t offset_s = 0;
        const char *rest = strptime(text, forms[i], &parts);
        if (rest == NULL) {
            continue;
        }
        // A fraction of a second says less than anybody needs here.
        if (*rest == '.') {
            rest += 1 + strspn(rest + 1, "0123456789");
        }
        if (read_offset(rest, &is_local, &offset_s)) {
            time_t seconds = is_local ? mktime(&parts) : timegm(&parts);
            *unix_ms_out = ((int64_t)seconds - offset_s) * 1000;
            return true;
        }
    }
    return false;
}

enum err
cli_time_parse(const char *option, const char *text, int64_t now_unix_ms, int64_t *unix_ms_out, struct err_detail *why)
{
    int64_t ago_ms = 0;
    if (read_duration(text, &ago_ms)) {
        *unix_ms_out = now_unix_ms - ago_ms;
        return ERR_OK;
    }
    if (!read_time(text, unix_ms_out)) {
        return err_fail(why, ERR_INVALID,
            "--%s needs a time such as 2026-01-31, 2026-01-31T12:00 or 2h (ago), not \"%s\"", option, text);
    }
    return ERR_OK;
}
