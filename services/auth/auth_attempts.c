// Limits on attempts to log in. A plain array searched from end to end: every entry was paid for with a slow hash of
// some 100 ms, beside which some microseconds do not count.
#include "services/auth/auth_attempts.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

struct attempts_entry {
    char user_name[TEXT_USER_NAME_MAX_BYTES + 1];
    unsigned failures; // in a row
    uint64_t last_failure_ms;
};

struct auth_attempts {
    pthread_mutex_t mutex;
    struct {
        struct attempts_entry *entries; // AUTH_ATTEMPTS_MAX_NAMES
        size_t count;
    } locked;
};

static uint64_t
pause_after(unsigned failures)
{
    uint64_t pause_ms = AUTH_ATTEMPTS_FIRST_PAUSE_MS;
    if (failures < AUTH_ATTEMPTS_FREE) {
        return 0;
    }
    for (unsigned i = AUTH_ATTEMPTS_FREE; i < failures && pause_ms < AUTH_ATTEMPTS_MAX_PAUSE_MS; i++) {
        pause_ms *= 2;
    }
    return pause_ms < AUTH_ATTEMPTS_MAX_PAUSE_MS ? pause_ms : AUTH_ATTEMPTS_MAX_PAUSE_MS;
}

static struct attempts_entry *
find_locked(struct auth_attempts *attempts, const char *user_name)
{
    for (size_t i = 0; i < attempts->locked.count; i++) {
        if (strcmp(attempts->locked.entries[i].user_name, user_name) == 0) {
            return &attempts->locked.entries[i];
        }
    }
    return NULL;
}

static bool
is_stale(const struct attempts_entry *entry, uint64_t now_ms)
{
    return now_ms - entry->last_failure_ms > AUTH_ATTEMPTS_FORGET_MS;
}

// Whether a should make room rather than b.
static bool
is_less_needed(const struct attempts_entry *a, const struct attempts_entry *b, uint64_t now_ms)
{
    if (is_stale(a, now_ms) != is_stale(b, now_ms)) {
        return is_stale(a, now_ms);
    }
    if (a->failures != b->failures) {
        return a->failures < b->failures;
    }
    return a->last_failure_ms < b->last_failure_ms;
}

static struct attempts_entry *
add_locked(struct auth_attempts *attempts, const char *user_name, uint64_t now_ms)
{
    struct attempts_entry *entry = &attempts->locked.entries[0];
    if (attempts->locked.count < AUTH_ATTEMPTS_MAX_NAMES) {
        entry = &attempts->locked.entries[attempts->locked.count++];
    } else {
        for (size_t i = 1; i < AUTH_ATTEMPTS_MAX_NAMES; i++) {
            if (is_less_needed(&attempts->locked.entries[i], entry, now_ms)) {
                entry = &attempts->locked.entries[i];
            }
        }
    }
    memset(entry, 0, sizeof(*entry));
    (void)snprintf(entry->user_name, sizeof(entry->user_name), "%s", user_name);
    return entry;
}

uint32_t
auth_attempts_pause_ms(struct auth_attempts *attempts, const char *user_name, uint64_t now_ms)
{
    uint64_t left_ms = 0;
    pthread_mutex_lock(&attempts->mutex);
    const struct attempts_entry *entry = find_locked(attempts, user_name);
    if (entry != NULL && !is_stale(entry, now_ms)) {
        uint64_t end_ms = entry->last_failure_ms + pause_after(entry->failures);
        left_ms = end_ms > now_ms ? end_ms - now_ms : 0;
    }
    pthread_mutex_unlock(&attempts->mutex);
    return (uint32_t)left_ms;
}

void
auth_attempts_failed(struct auth_attempts *attempts, const char *user_name, uint64_t now_ms)
{
    pthread_mutex_lock(&attempts->mutex);
    struct attempts_entry *entry = find_locked(attempts, user_name);
    if (entry == NULL) {
        entry = add_locked(attempts, user_name, now_ms);
    } else if (is_stale(entry, now_ms)) {
        entry->failures = 0;
    }
    entry->failures++;
    entry->last_failure_ms = now_ms;
    pthread_mutex_unlock(&attempts->mutex);
}

void
auth_attempts_succeeded(struct auth_attempts *attempts, const char *user_name)
{
    pthread_mutex_lock(&attempts->mutex);
    struct attempts_entry *entry = find_locked(attempts, user_name);
    if (entry != NULL) {
        *entry = attempts->locked.entries[--attempts->locked.count];
    }
    pthread_mutex_unlock(&attempts->mutex);
}

enum err
auth_attempts_new(struct auth_attempts **out)
{
    struct auth_attempts *attempts = calloc(1, sizeof(*attempts));
    if (attempts == NULL) {
        return ERR_NO_MEMORY;
    }
    // Pages of this that were never written cost nothing.
    attempts->locked.entries = calloc(AUTH_ATTEMPTS_MAX_NAMES, sizeof(*attempts->locked.entries));
    if (attempts->locked.entries == NULL || pthread_mutex_init(&attempts->mutex, NULL) != 0) {
        free(attempts->locked.entries);
        free(attempts);
        return ERR_NO_MEMORY;
    }
    *out = attempts;
    return ERR_OK;
}

void
auth_attempts_free(struct auth_attempts **attempts)
{
    if (*attempts == NULL) {
        return;
    }
    pthread_mutex_destroy(&(*attempts)->mutex);
    free((*attempts)->locked.entries);
    free(*attempts);
    *attempts = NULL;
}
