#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

// Negative: the real clock.
static atomic_int_least64_t fixed_unix_ms = -1;

static uint64_t
monotonic_ns(void)
{
    struct timespec now;
    // Cannot fail: the clock exists and the address is good.
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t
clock_monotonic_ms(void)
{
    return monotonic_ns() / 1000000U;
}

uint64_t
clock_monotonic_us(void)
{
    return monotonic_ns() / 1000U;
}

int64_t
clock_unix_ms(void)
{
    int64_t fixed = atomic_load_explicit(&fixed_unix_ms, memory_order_relaxed);
    if (fixed >= 0) {
        return fixed;
    }
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
clock_set_unix_ms_for_test(int64_t fixed_ms)
{
    atomic_store(&fixed_unix_ms, fixed_ms);
}

static char *
put_digits(char *to, int value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        to[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return to + digits;
}

void
clock_format_rfc3339(int64_t unix_ms, char text_out[CLOCK_RFC3339_BYTES])
{
    // The years that four digits can say; times come from files and peers too.
    const int64_t earliest_ms = -62167219200000; // 0000-01-01T00:00:00.000Z
    const int64_t latest_ms = 253402300799999;   // 9999-12-31T23:59:59.999Z
    if (unix_ms < earliest_ms) {
        unix_ms = earliest_ms;
    }
    if (unix_ms > latest_ms) {
        unix_ms = latest_ms;
    }
    int64_t ms = unix_ms % 1000;
    if (ms < 0) {
        ms += 1000;
    }
    time_t seconds = (time_t)((unix_ms - ms) / 1000);
    struct tm utc = {0};
    (void)gmtime_r(&seconds, &utc);

    char *to = put_digits(text_out, utc.tm_year + 1900, 4);
    *to++ = '-';
    to = put_digits(to, utc.tm_mon + 1, 2);
    *to++ = '-';
    to = put_digits(to, utc.tm_mday, 2);
    *to++ = 'T';
    to = put_digits(to, utc.tm_hour, 2);
    *to++ = ':';
    to = put_digits(to, utc.tm_min, 2);
    *to++ = ':';
    to = put_digits(to, utc.tm_sec, 2);
    *to++ = '.';
    to = put_digits(to, (int)ms, 3);
    *to++ = 'Z';
    *to = '\0';
}
