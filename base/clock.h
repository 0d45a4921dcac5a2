// Time. Milliseconds everywhere.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

// clock_monotonic_ms never goes back; its zero is arbitrary. For deadlines and durations.
uint64_t clock_monotonic_ms(void);

// clock_monotonic_us is the same in microseconds, for measuring.
uint64_t clock_monotonic_us(void);

// clock_unix_ms is milliseconds since 1970-01-01 UTC; it may jump. For people and expiry dates.
int64_t clock_unix_ms(void);

// clock_set_unix_ms_for_test makes clock_unix_ms return fixed_ms from now on; a negative value ends it.
// Test programs only.
void clock_set_unix_ms_for_test(int64_t fixed_ms);

enum {
    CLOCK_RFC3339_BYTES = 25, // "2026-01-02T03:04:05.678Z" and NUL
};

// clock_format_rfc3339 writes a time in UTC with milliseconds.
void clock_format_rfc3339(int64_t unix_ms, char text_out[CLOCK_RFC3339_BYTES]);

#endif
