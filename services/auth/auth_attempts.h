// Limits on attempts to log in, by user name, in memory.
//
// After ATTEMPTS_FREE failures in a row the name has to wait: 1 s, then twice as long after each further failure, up to
// 15 minutes. What is tried during a pause is refused unseen and does not make it longer, a success clears the count,
// and logins that exist go on working. So whoever knows only a name can delay its owner, but never lock the account.
//
// Names without an account are counted like others. The table is bounded; when it is full, the entry with the fewest
// failures makes room, so that failing once for many names does not make the server forget the one under attack.
#ifndef AUTH_AUTH_ATTEMPTS_H
#define AUTH_AUTH_ATTEMPTS_H

#include <stdint.h>

#include "base/err.h"

enum {
    AUTH_ATTEMPTS_FREE = 5,
    AUTH_ATTEMPTS_FIRST_PAUSE_MS = 1000,
    AUTH_ATTEMPTS_MAX_PAUSE_MS = 15 * 60 * 1000,
    AUTH_ATTEMPTS_FORGET_MS = 24 * 3600 * 1000, // an entry this long without a failure counts as none
    AUTH_ATTEMPTS_MAX_NAMES = 4096,
};

struct auth_attempts;

// Times are on clock_monotonic_ms, given by the caller. Any thread may call these.
enum err auth_attempts_new(struct auth_attempts **out) ERR_CHECKED;

// auth_attempts_pause_ms returns how long this name still has to wait; 0: it may try.
uint32_t auth_attempts_pause_ms(struct auth_attempts *attempts, const char *user_name, uint64_t now_ms);

void auth_attempts_failed(struct auth_attempts *attempts, const char *user_name, uint64_t now_ms);
void auth_attempts_succeeded(struct auth_attempts *attempts, const char *user_name);
void auth_attempts_free(struct auth_attempts **attempts);

#endif
