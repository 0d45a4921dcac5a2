// The loop that keeps chunks under way, in either direction.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/random.h"
#include "client/fc_transfer_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    TRIES_PER_CHUNK_MAX = 5, // of a chunk that arrives damaged
    PATIENCE_DEFAULT_S = 30,
    MS_PER_S = 1000,
    TOLD_AFTER_MS = 5000, // a server that is started anew is not worth a word
    PAUSE_FIRST_MS = 100,
    PAUSE_LONGEST_MS = 1000, // it goes on soon after the server is back,
    PAUSE_SPREAD_MS = 500,   // and not at the same moment as everybody else
    PAUSE_DOUBLINGS_MAX = 10,
    POLL_MS = 50,            // between looks for cancellation
    REPORT_MS = 50,          // between reports of progress
    GROWTH_WORTH_SHARE = 10, // faster by a tenth is worth more chunks in memory
    US_PER_S = 1000 * 1000,
    RATE_CREDIT_US = 200 * 1000, // what was not used so long ago may be caught up with
};

void
fc_transfer_init(struct fc_transfer *transfer, struct fc_session *session, const struct fc_transfer_options *options,
    const struct fc_transfer_ops *ops, void *owner)
{
    static const struct fc_transfer_options defaults;
    pthread_condattr_t attributes;

    memset(transfer, 0, sizeof(*transfer));
    transfer->session = session;
    transfer->options = options != NULL ? options : &defaults;
    transfer->ops = ops;
    transfer->owner = owner;
    pthread_mutex_init(&transfer->locked.mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&transfer->locked.changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static unsigned
choose(unsigned wanted, unsigned standard, unsigned max)
{
    unsigned chosen = wanted == 0 ? standard : wanted;
    return chosen < max ? chosen : max;
}

static unsigned
chunks_of(unsigned bytes, uint32_t chunk_bytes)
{
    unsigned chunks = bytes / chunk_bytes;
    return chunks > FC_TRANSFER_IN_FLIGHT_LEAST ? chunks : FC_TRANSFER_IN_FLIGHT_LEAST;
}

static enum err
open_channels(struct fc_transfer *transfer, unsigned count, struct err_detail *why)
{
    struct rpc_channel_options options = {
        .url = fc_session_server_url(transfer->session),
        .tls = fc_session_tls(transfer->session),
        .longest_backoff_ms = FC_SESSION_LONGEST_BACKOFF_MS,
    };

    while (transfer->channel_count < count) {
        struct rpc_channel **channel = &transfer->channels[transfer->channel_count];
        enum err err = rpc_channel_new(&options, channel, why);
        if (err != ERR_OK) {
            return err;
        }
        transfer->channel_count++;
        err = rpc_channel_set_token(*channel, fc_session_token(transfer->session));
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err
fc_transfer_open(struct fc_transfer *transfer, uint64_t size_bytes, uint32_t chunk_bytes, bool has_buffers,
    struct err_detail *why)
{
    uint64_t chunk_count = size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0);
    unsigned wanted = transfer->options->chunks_in_flight;
    unsigned slot_count =
        choose(wanted, chunks_of(FC_TRANSFER_IN_FLIGHT_MOST_BYTES, chunk_bytes), FC_TRANSFER_IN_FLIGHT_MAX);
    unsigned window = choose(wanted, chunks_of(FC_TRANSFER_IN_FLIGHT_BYTES, chunk_bytes), slot_count);
    unsigned connections =
        choose(transfer->options->connections, FC_TRANSFER_CONNECTIONS_DEFAULT, FC_TRANSFER_CONNECTIONS_MAX);

    transfer->size_bytes = size_bytes;
    transfer->chunk_bytes = chunk_bytes;
    transfer->progress.total_bytes = transfer->is_endless ? 0 : size_bytes;
    transfer->progress.chunks_total = chunk_count;
    if (chunk_count == 0) {
        return ERR_OK;
    }
    if (chunk_count < slot_count) {
        slot_count = (unsigned)chunk_count;
    }
    if (slot_count < connections) {
        connections = slot_count;
    }
    transfer->slots = calloc(slot_count, sizeof(transfer->slots[0]));
    if (transfer->slots == NULL) {
        return ERR_NO_MEMORY;
    }
    transfer->slot_count = slot_count;
    transfer->window = window < slot_count ? window : slot_count;
    transfer->growth.first = transfer->window;
    transfer->growth.is_settled = wanted != 0;
    transfer->growth.since_us = clock_monotonic_us();
    for (unsigned i = 0; i < slot_count; i++) {
        transfer->slots[i].transfer = transfer;
        if (has_buffers) {
            transfer->slots[i].data = malloc(size_bytes < chunk_bytes ? (size_t)size_bytes : chunk_bytes);
            if (transfer->slots[i].data == NULL) {
                return err_fail(why, ERR_NO_MEMORY, "there is no memory for %u chunks of %lu bytes: ask for fewer",
                    slot_count, (unsigned long)chunk_bytes);
            }
        }
    }
    enum err err = open_channels(transfer, connections, why);
    return err == ERR_OK ? work_pool_new("fc-chunks", connections, &transfer->pool) : err;
}

void
fc_transfer_deinit(struct fc_transfer *transfer)
{
    pthread_mutex_lock(&transfer->locked.mutex);
    transfer->locked.is_stopping = true;
    pthread_mutex_unlock(&transfer->locked.mutex);
    // First the pool, so that every call is started that will be; then the connections, which end those calls.
    work_pool_free(&transfer->pool);
    for (unsigned i = 0; i < transfer->channel_count; i++) {
        rpc_channel_free(&transfer->channels[i]);
    }
    for (unsigned i = 0; i < transfer->slot_count; i++) {
        free(transfer->slots[i].data);
    }
    free(transfer->slots);
    pthread_cond_destroy(&transfer->locked.changed);
    pthread_mutex_destroy(&transfer->locked.mutex);
    memset(transfer, 0, sizeof(*transfer));
}

void
fc_slot_end(struct fc_slot *slot, enum err result)
{
    struct fc_transfer *transfer = slot->transfer;

    slot->result = result;
    pthread_mutex_lock(&transfer->locked.mutex);
    slot->state = FC_SLOT_ENDED;
    transfer->locked.busy_count--;
    pthread_cond_broadcast(&transfer->locked.changed);
    pthread_mutex_unlock(&transfer->locked.mutex);
}

void
fc_slot_submit(struct fc_slot *slot)
{
    struct fc_transfer *transfer = slot->transfer;
    bool is_stopping;

    // Inside the lock, so that nothing is submitted once fc_transfer_deinit frees the pool.
    pthread_mutex_lock(&transfer->locked.mutex);
    is_stopping = transfer->locked.is_stopping;
    if (!is_stopping) {
        work_pool_submit(transfer->pool, &slot->work);
    }
    pthread_mutex_unlock(&transfer->locked.mutex);
    if (is_stopping) {
        fc_slot_end(slot, ERR_CANCELLED);
    }
}

static void
set_state(struct fc_slot *slot, enum fc_slot_state state)
{
    struct fc_transfer *transfer = slot->transfer;

    pthread_mutex_lock(&transfer->locked.mutex);
    slot->state = state;
    transfer->locked.busy_count += state == FC_SLOT_BUSY;
    pthread_mutex_unlock(&transfer->locked.mutex);
}

void
fc_slot_release(struct fc_slot *slot)
{
    struct fc_transfer *transfer = slot->transfer;

    transfer->progress.done_bytes += slot->size;
    transfer->progress.chunks_done++;
    set_state(slot, FC_SLOT_FREE);
}

struct rpc_channel *
fc_slot_channel(struct fc_slot *slot)
{
    return slot->transfer->channels[slot->index % slot->transfer->channel_count];
}

bool
fc_transfer_is_cancelled(const struct fc_transfer *transfer)
{
    const struct fc_transfer_options *options = transfer->options;
    return options->is_cancelled != NULL && options->is_cancelled(options->context);
}

void
fc_transfer_report(struct fc_transfer *transfer, bool is_last)
{
    const struct fc_transfer_options *options = transfer->options;
    uint64_t now_ms = clock_monotonic_ms();

    if (options->on_progress == NULL || (!is_last && now_ms - transfer->reported_ms < REPORT_MS)) {
        return;
    }
    transfer->reported_ms = now_ms;
    options->on_progress(options->context, &transfer->progress);
}

enum err
fc_transfer_error(const struct rpc_unary *call)
{
    const char *reason = call->status.reason;
    if (call->status.code == RPC_RESOURCE_EXHAUSTED &&
        (strcmp(reason, "NO_SPACE") == 0 || strcmp(reason, "QUOTA") == 0)) {
        return ERR_NO_SPACE;
    }
    return rpc_status_to_err(&call->status);
}

bool
fc_transfer_is_passing(enum err code)
{
    return code == ERR_UNAVAILABLE || code == ERR_CLOSED || code == ERR_TIMEOUT || code == ERR_LIMIT;
}

bool
fc_transfer_waits_for_room(const struct fc_transfer *transfer, enum err code)
{
    return code == ERR_NO_SPACE && transfer->options->patience_s != 0;
}

// has_moved ends a row of failures.
static void
has_moved(struct fc_transfer *transfer)
{
    transfer->failures = 0;
    transfer->progress.is_waiting = false;
    transfer->progress.message = NULL;
    if (transfer->narrowed_from != 0) {
        transfer->window = transfer->narrowed_from;
        transfer->narrowed_from = 0;
    }
}

// wait_for_change waits with the lock held until something is signalled, or it is time to look for cancellation.
static void
wait_for_change_locked(struct fc_transfer *transfer, uint64_t at_most_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(at_most_ms % 1000) * 1000000;
    until.tv_sec += (time_t)(at_most_ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&transfer->locked.changed, &transfer->locked.mutex, &until);
}

static void
on_call_done(struct rpc_unary *call)
{
    struct fc_transfer *transfer = call->context;

    pthread_mutex_lock(&transfer->locked.mutex);
    transfer->locked.is_call_done = true;
    pthread_cond_broadcast(&transfer->locked.changed);
    pthread_mutex_unlock(&transfer->locked.mutex);
}

void
fc_transfer_prepare_call(struct fc_transfer *transfer, struct rpc_unary *call, uint32_t timeout_ms)
{
    fc_filestore_v1_file_store_init(call, fc_session_channel(transfer->session));
    call->timeout_ms = timeout_ms;
    call->is_idempotent = true; // as all methods of the FileStore are
    call->on_done = on_call_done;
    call->context = transfer;
    transfer->locked.is_call_done = false;
}

enum err
fc_transfer_wait(struct fc_transfer *transfer, struct rpc_unary *call, struct err_detail *why)
{
    bool is_cancelled = false;

    pthread_mutex_lock(&transfer->locked.mutex);
    while (!transfer->locked.is_call_done) {
        wait_for_change_locked(transfer, POLL_MS);
        if (!is_cancelled && !transfer->locked.is_call_done) {
            pthread_mutex_unlock(&transfer->locked.mutex);
            is_cancelled = fc_transfer_is_cancelled(transfer);
            if (is_cancelled) {
                rpc_unary_cancel(call);
            }
            pthread_mutex_lock(&transfer->locked.mutex);
        }
    }
    pthread_mutex_unlock(&transfer->locked.mutex);
    enum err err = fc_transfer_error(call);
    if (err != ERR_OK) {
        return err_fail(why, err, "%s", err_message(&call->status.detail, err));
    }
    return ERR_OK;
}

enum err
fc_transfer_pause(struct fc_transfer *transfer, enum err last, const struct err_detail *why)
{
    uint64_t patience_s = transfer->options->patience_s != 0 ? transfer->options->patience_s : PATIENCE_DEFAULT_S;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t pause_ms = (uint64_t)PAUSE_FIRST_MS << transfer->failures;
    uint16_t spread = 0;

    if (transfer->failures == 0) {
        transfer->waiting_since_ms = now_ms;
    }
    uint64_t waited_ms = now_ms - transfer->waiting_since_ms;
    if (patience_s < FC_PATIENCE_ENDLESS && waited_ms >= patience_s * MS_PER_S) {
        return last;
    }
    random_bytes(&spread, sizeof(spread));
    if (pause_ms > PAUSE_LONGEST_MS) {
        pause_ms = PAUSE_LONGEST_MS + spread % PAUSE_SPREAD_MS;
    }
    transfer->failures += transfer->failures < PAUSE_DOUBLINGS_MAX;
    if (waited_ms >= TOLD_AFTER_MS && !transfer->progress.is_waiting) {
        (void)snprintf(transfer->waiting_for, sizeof(transfer->waiting_for), "%.*s: waiting for it",
            (int)sizeof(transfer->waiting_for) - 32, err_message(why, last));
        transfer->progress.is_waiting = true;
        transfer->progress.message = transfer->waiting_for;
        fc_transfer_report(transfer, true);
    }
    uint64_t until_ms = now_ms + pause_ms;
    while (clock_monotonic_ms() < until_ms) {
        if (fc_transfer_is_cancelled(transfer)) {
            return ERR_CANCELLED;
        }
        pthread_mutex_lock(&transfer->locked.mutex);
        wait_for_change_locked(transfer, POLL_MS);
        pthread_mutex_unlock(&transfer->locked.mutex);
    }
    return ERR_OK;
}

static enum fc_slot_state
get_state(struct fc_slot *slot)
{
    pthread_mutex_lock(&slot->transfer->locked.mutex);
    enum fc_slot_state state = slot->state;
    pthread_mutex_unlock(&slot->transfer->locked.mutex);
    return state;
}

// watch_growth measures each windowful of chunks, and widens the window as long as the last widening has made them
// faster.
static void
watch_growth(struct fc_transfer *transfer, uint32_t size)
{
    uint64_t now_us = clock_monotonic_us();

    transfer->growth.chunks++;
    transfer->growth.bytes += size;
    if (transfer->growth.is_settled || transfer->growth.chunks < transfer->window ||
        now_us == transfer->growth.since_us) {
        return;
    }
    uint64_t speed = transfer->growth.bytes * US_PER_S / (now_us - transfer->growth.since_us);
    if (speed > transfer->growth.best + transfer->growth.best / GROWTH_WORTH_SHARE) {
        unsigned wider = transfer->window + transfer->window / 2 + 1;
        transfer->window = wider < transfer->slot_count ? wider : transfer->slot_count;
        transfer->growth.best = speed;
    } else {
        unsigned narrower = transfer->window * 2 / 3;
        transfer->window = narrower > transfer->growth.first ? narrower : transfer->growth.first;
        transfer->growth.is_settled = true;
    }
    transfer->growth.chunks = 0;
    transfer->growth.bytes = 0;
    transfer->growth.since_us = now_us;
}

// look_at_ended decides what becomes of a slot that came back.
static enum err
look_at_ended(struct fc_transfer *transfer, struct fc_slot *slot, struct err_detail *why)
{
    if (slot->result == ERR_OK) {
        has_moved(transfer);
        watch_growth(transfer, slot->size);
        return transfer->ops->settle(transfer, slot, why);
    }
    if (slot->result == ERR_CORRUPT && slot->is_damaged && slot->tries < TRIES_PER_CHUNK_MAX) {
        transfer->progress.chunks_resent++;
        set_state(slot, FC_SLOT_WAITING);
        return ERR_OK;
    }
    if (fc_transfer_is_passing(slot->result) ||
        (slot->is_disk_full && fc_transfer_waits_for_room(transfer, slot->result))) {
        if (slot->result == ERR_TIMEOUT && transfer->window > 1) {
            transfer->window /= 2; // a slow line carries fewer chunks in the time that one has
            transfer->growth.is_settled = true;
        }
        if (slot->result == ERR_NO_SPACE && transfer->narrowed_from == 0) {
            // One chunk is enough to find out whether there is room again.
            transfer->narrowed_from = transfer->window;
            transfer->window = 1;
        }
        transfer->progress.chunks_resent++;
        transfer->is_broken = true;
        transfer->broken_by = slot->result;
        slot->tries = 0;
        set_state(slot, FC_SLOT_WAITING);
        *why = slot->why;
        return ERR_OK;
    }
    *why = slot->why;
    return slot->result;
}

static enum err
look_at_all_ended(struct fc_transfer *transfer, bool *has_acted, struct err_detail *why)
{
    for (unsigned i = 0; i < transfer->slot_count; i++) {
        if (get_state(&transfer->slots[i]) == FC_SLOT_ENDED) {
            *has_acted = true;
            enum err err = look_at_ended(transfer, &transfer->slots[i], why);
            if (err != ERR_OK) {
                return err;
            }
        }
    }
    return ERR_OK;
}

static unsigned
get_busy_count(struct fc_transfer *transfer)
{
    pthread_mutex_lock(&transfer->locked.mutex);
    unsigned busy_count = transfer->locked.busy_count;
    pthread_mutex_unlock(&transfer->locked.mutex);
    return busy_count;
}

void
fc_rate_charge(struct fc_rate *rate, uint32_t size)
{
    if (rate != NULL && rate->bytes_per_s != 0) {
        uint64_t now_us = clock_monotonic_us();
        uint64_t earliest_us = now_us > RATE_CREDIT_US ? now_us - RATE_CREDIT_US : 0;
        uint64_t from_us = rate->next_us > earliest_us ? rate->next_us : earliest_us;
        rate->next_us = from_us + (uint64_t)size * US_PER_S / rate->bytes_per_s;
    }
}

bool
fc_rate_is_spent(const struct fc_rate *rate)
{
    return rate != NULL && rate->bytes_per_s != 0 && clock_monotonic_us() < rate->next_us;
}

static void
launch(struct fc_transfer *transfer, struct fc_slot *slot)
{
    slot->tries++;
    slot->is_damaged = false;
    slot->is_disk_full = false;
    fc_rate_charge(transfer->options->rate, slot->size);
    memset(&slot->why, 0, sizeof(slot->why));
    set_state(slot, FC_SLOT_BUSY);
    transfer->ops->launch(transfer, slot);
}

static enum err
take_next_chunk(struct fc_transfer *transfer, struct fc_slot *slot, struct err_detail *why)
{
    uint64_t left = transfer->size_bytes - transfer->next_index * transfer->chunk_bytes;
    bool is_needed = true;

    slot->index = transfer->next_index;
    slot->size = left < transfer->chunk_bytes ? (uint32_t)left : transfer->chunk_bytes;
    slot->tries = 0;
    slot->has_md5 = false;
    slot->has_hints = false;
    slot->is_there = false;
    enum err err = transfer->ops->prepare(transfer, slot, &is_needed, why);
    if (err != ERR_OK) {
        return err;
    }
    if (transfer->is_endless) {
        transfer->progress.total_bytes = transfer->next_index * transfer->chunk_bytes + slot->size;
    }
    if (slot->size < transfer->chunk_bytes && transfer->is_endless) {
        transfer->is_endless = false;
        transfer->size_bytes = transfer->progress.total_bytes;
        transfer->progress.chunks_total = transfer->next_index + (slot->size != 0);
        if (slot->size == 0) {
            return ERR_OK;
        }
    }
    transfer->next_index++;
    if (is_needed) {
        launch(transfer, slot);
    } else {
        fc_slot_release(slot);
    }
    return ERR_OK;
}

// start_one starts one slot, if there is one to start: first those that have to be tried again.
static enum err
start_one(struct fc_transfer *transfer, bool *has_acted, struct err_detail *why)
{
    struct fc_slot *free_slot = NULL;

    if (get_busy_count(transfer) >= transfer->window || fc_rate_is_spent(transfer->options->rate)) {
        return ERR_OK;
    }
    for (unsigned i = 0; i < transfer->slot_count; i++) {
        struct fc_slot *slot = &transfer->slots[i];
        enum fc_slot_state state = get_state(slot);
        if (state == FC_SLOT_WAITING) {
            *has_acted = true;
            launch(transfer, slot);
            return ERR_OK;
        }
        if (state == FC_SLOT_FREE) {
            free_slot = slot;
        }
    }
    if (free_slot != NULL && transfer->next_index < transfer->progress.chunks_total) {
        *has_acted = true;
        return take_next_chunk(transfer, free_slot, why);
    }
    return ERR_OK;
}

// recover waits until the server is back. `why` says what was wrong last, which is `broken_by`.
static enum err
recover(struct fc_transfer *transfer, struct err_detail *why)
{
    enum err err = transfer->broken_by;

    while (fc_transfer_is_passing(err) || fc_transfer_waits_for_room(transfer, err)) {
        enum err pause = fc_transfer_pause(transfer, err, why);
        if (pause != ERR_OK) {
            return pause;
        }
        err = transfer->ops->recover(transfer, why);
    }
    transfer->is_broken = err != ERR_OK;
    return err;
}

// wait_for_slots waits until a slot comes back.
static void
wait_for_slots(struct fc_transfer *transfer)
{
    bool has_ended = false;

    pthread_mutex_lock(&transfer->locked.mutex);
    for (unsigned i = 0; i < transfer->slot_count; i++) {
        has_ended = has_ended || transfer->slots[i].state == FC_SLOT_ENDED;
    }
    if (!has_ended) {
        wait_for_change_locked(transfer, POLL_MS);
    }
    pthread_mutex_unlock(&transfer->locked.mutex);
}

enum err
fc_transfer_run(struct fc_transfer *transfer, struct err_detail *why)
{
    while (transfer->progress.chunks_done < transfer->progress.chunks_total) {
        bool has_acted = false;

        if (fc_transfer_is_cancelled(transfer)) {
            return ERR_CANCELLED;
        }
        enum err err = look_at_all_ended(transfer, &has_acted, why);
        if (err == ERR_OK && transfer->is_broken && get_busy_count(transfer) == 0) {
            has_acted = true;
            err = recover(transfer, why);
        } else if (err == ERR_OK && !transfer->is_broken) {
            err = start_one(transfer, &has_acted, why);
        }
        if (err != ERR_OK) {
            return err;
        }
        fc_transfer_report(transfer, false);
        if (!has_acted) {
            wait_for_slots(transfer);
        }
    }
    return ERR_OK;
}
