#include "rpc/rpc_rate.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/random.h"

enum {
    SLOTS = 4096, // a power of two
    PROBES = 8,
    US_PER_S = 1000000,
    US_PER_MS = 1000,
};

// One caller. Unused, or idle for long enough to be forgotten, when full_us is not ahead of now.
struct slot {
    uint64_t caller;  // a hash
    uint64_t full_us; // when its bucket will be full again
};

struct rpc_rate {
    uint64_t interval_us; // between two calls in the long run
    uint64_t burst_us;    // how far ahead full_us may be
    uint64_t seed;        // so that nobody can choose a name that meets another one's
    pthread_mutex_t mutex;
    struct slot slots[SLOTS]; // guarded by mutex
};

enum err
rpc_rate_new(uint32_t per_second, struct rpc_rate **out)
{
    struct rpc_rate *rate = calloc(1, sizeof(*rate));
    if (rate == NULL) {
        return ERR_NO_MEMORY;
    }
    rate->interval_us = US_PER_S / per_second;
    rate->burst_us = (uint64_t)RPC_RATE_BURST_S * US_PER_S;
    random_bytes(&rate->seed, sizeof(rate->seed));
    (void)pthread_mutex_init(&rate->mutex, NULL);
    *out = rate;
    return ERR_OK;
}

void
rpc_rate_free(struct rpc_rate **rate)
{
    if (*rate != NULL) {
        pthread_mutex_destroy(&(*rate)->mutex);
        free(*rate);
        *rate = NULL;
    }
}

static uint64_t
hash_of(const struct rpc_rate *rate, struct bytes_view caller)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ rate->seed; // FNV-1a
    for (size_t i = 0; i < caller.size; i++) {
        hash = (hash ^ caller.data[i]) * UINT64_C(1099511628211);
    }
    return hash ^ hash >> 32;
}

// The caller's slot, or the one that is forgotten for it: the one that will be full first.
static struct slot *
slot_locked(struct rpc_rate *rate, uint64_t caller)
{
    struct slot *first = &rate->slots[caller % SLOTS];
    for (size_t i = 0; i < PROBES; i++) {
        struct slot *slot = &rate->slots[(caller + i) % SLOTS];
        if (slot->caller == caller) {
            return slot;
        }
        first = slot->full_us < first->full_us ? slot : first;
    }
    *first = (struct slot){.caller = caller};
    return first;
}

bool
rpc_rate_take(struct rpc_rate *rate, struct bytes_view caller, uint64_t now_us, uint32_t *retry_after_ms_out)
{
    uint64_t hash = hash_of(rate, caller);
    pthread_mutex_lock(&rate->mutex);
    struct slot *slot = slot_locked(rate, hash);
    uint64_t full_us = slot->full_us > now_us ? slot->full_us : now_us;
    uint64_t after_us = full_us + rate->interval_us;
    bool is_allowed = after_us <= now_us + rate->burst_us;
    if (is_allowed) {
        slot->full_us = after_us;
    } else {
        *retry_after_ms_out = (uint32_t)((after_us - now_us - rate->burst_us) / US_PER_MS + 1);
    }
    pthread_mutex_unlock(&rate->mutex);
    return is_allowed;
}
