// The loop of a download: what has ended is told to the plan, and what the plan says is done.
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "client/fc_swarm_core_priv.h"
#include "client/fc_transfer_priv.h"

enum {
    POLL_MS = 20, // between looks at sources, and for cancellation
    REPORT_US = 50 * 1000,
    MEASURE_US = 250 * 1000,
    IN_FLIGHT_BYTES = 32 * 1024 * 1024,
    LOOK_AHEAD_BYTES = 32 * 1024 * 1024, // in order: what is held in memory until its turn
    LOOK_AHEAD_LEAST = 4,                // segments, however large
    POOL_THREADS_LEAST = 2,
    POOL_THREADS_MOST = 8,
    PATIENCE_DEFAULT_S = 30,
    WAIT_TOLD_US = 400 * 1000, // at the beginning, and after a lost connection, somebody may be back at once
    US_PER_S = 1000 * 1000,
};

const char *
fc_balance_name(enum fc_balance balance)
{
    static const char *const names[FC_BALANCE_COUNT] = {"adaptive", "round-robin", "random", "least-cpu", "two-choices",
        "mediator"};
    return names[balance];
}

const char *
fc_swarm_kind_name(enum fc_swarm_kind kind)
{
    static const char *const names[] = {"origin", "mirror", "peer"};
    return names[kind];
}

const char *
fc_swarm_state_name(enum fc_swarm_state state)
{
    static const char *const names[] = {"up", "draining", "stalled", "stopped", "down", "banned"};
    return names[state];
}

uint64_t
fc_swarm_now_us(void)
{
    return clock_monotonic_us();
}

void
fc_swarm_wake(struct fc_swarm *swarm)
{
    pthread_mutex_lock(&swarm->mutex);
    pthread_cond_signal(&swarm->changed);
    pthread_mutex_unlock(&swarm->mutex);
}

void
fc_swarm_fail(struct fc_swarm *swarm, enum err err, const char *message)
{
    if (swarm->fatal == ERR_OK) {
        swarm->fatal = err_fail(&swarm->fatal_why, err, "%s", message);
    }
}

void
fc_swarm_say(struct fc_swarm *swarm, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(swarm->message.message, sizeof(swarm->message.message), format, args);
    va_end(args);
    swarm->is_message_new = true;
}

// ---- Calls ----

// put_ended runs on a thread of the channel or the pool.
static void
put_ended(struct fc_swarm_call *call)
{
    struct fc_swarm *swarm = call->swarm;

    pthread_mutex_lock(&swarm->mutex);
    STAILQ_INSERT_TAIL(&swarm->locked.ended, call, ended);
    pthread_cond_signal(&swarm->changed);
    pthread_mutex_unlock(&swarm->mutex);
}

static void
on_done(struct rpc_unary *rpc)
{
    put_ended(rpc->context);
}

void
fc_swarm_checked(struct fc_swarm_call *call)
{
    put_ended(call);
}

struct fc_swarm_call *
fc_swarm_call_new(struct fc_swarm *swarm, enum fc_swarm_call_kind kind, unsigned source)
{
    struct fc_swarm_call *call = calloc(1, sizeof(*call));

    if (call == NULL) {
        fc_swarm_fail(swarm, ERR_NO_MEMORY, err_sentence(ERR_NO_MEMORY));
        return NULL;
    }
    call->swarm = swarm;
    call->kind = kind;
    call->source = source;
    call->started_us = fc_swarm_now_us();
    TAILQ_INSERT_TAIL(&swarm->calls, call, link);
    swarm->call_count++;
    return call;
}

void
fc_swarm_call_init(struct fc_swarm_call *call, struct rpc_channel *channel, const ProtobufCServiceDescriptor *service,
    uint32_t timeout_ms)
{
    rpc_unary_init(&call->rpc, channel, service);
    call->rpc.timeout_ms = timeout_ms;
    call->rpc.on_done = on_done;
    call->rpc.context = call;
}

void
fc_swarm_call_free(struct fc_swarm_call *call)
{
    TAILQ_REMOVE(&call->swarm->calls, call, link);
    call->swarm->call_count--;
    rpc_unary_deinit(&call->rpc);
    free(call);
}

static void
look_at_ended(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    switch (call->kind) {
    case FC_SWARM_CALL_SEGMENT:
    case FC_SWARM_CALL_DOWNLOAD:
        fc_swarm_segment_ended(swarm, call);
        return;
    case FC_SWARM_CALL_PROBE:
    case FC_SWARM_CALL_HEALTH:
        fc_swarm_probe_ended(swarm, call);
        break;
    case FC_SWARM_CALL_GRANT:
        fc_swarm_grant_ended(swarm, call);
        break;
    case FC_SWARM_CALL_PICK:
        fc_swarm_pick_ended(swarm, call);
        break;
    case FC_SWARM_CALL_REPORT:
    default:
        break;
    }
    fc_swarm_call_free(call);
}

static struct fc_swarm_call *
take_ended(struct fc_swarm *swarm)
{
    pthread_mutex_lock(&swarm->mutex);
    struct fc_swarm_call *call = STAILQ_FIRST(&swarm->locked.ended);
    if (call != NULL) {
        STAILQ_REMOVE_HEAD(&swarm->locked.ended, ended);
    }
    pthread_mutex_unlock(&swarm->mutex);
    return call;
}

static void
wait_for_change(struct fc_swarm *swarm)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)POLL_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&swarm->mutex);
    if (STAILQ_EMPTY(&swarm->locked.ended) && !swarm->locked.is_tracker_heard) {
        pthread_cond_timedwait(&swarm->changed, &swarm->mutex, &until);
    }
    pthread_mutex_unlock(&swarm->mutex);
}

// ---- Telling ----

// measure reckons how fast each source is, over some seconds.
static void
measure(struct fc_swarm *swarm, uint64_t now_us)
{
    uint64_t passed_us = now_us - swarm->measured_us;

    if (passed_us < MEASURE_US) {
        return;
    }
    swarm->measured_us = now_us;
    swarm->progress.bytes_per_s = 0;
    for (unsigned i = 0; i < swarm->peer_count; i++) {
        struct fc_swarm_peer *peer = &swarm->peers[i];
        uint64_t bytes = swarm->shown[i].bytes - peer->speed.bytes;
        double share = (double)passed_us / (US_PER_S + (double)passed_us);
        peer->speed.bytes = swarm->shown[i].bytes;
        peer->speed.per_us += ((double)bytes / (double)passed_us - peer->speed.per_us) * share;
        swarm->shown[i].bytes_per_s = (uint64_t)(peer->speed.per_us * US_PER_S);
        swarm->progress.bytes_per_s += swarm->shown[i].bytes_per_s;
    }
}

static void
fill_progress(struct fc_swarm *swarm, uint64_t now_us)
{
    struct fc_progress *progress = &swarm->progress;
    struct fc_swarm_plan_totals totals;
    uint64_t received = 0;

    fc_swarm_plan_totals(swarm->plan, &totals);
    for (unsigned i = 0; i < swarm->peer_count; i++) {
        memcpy(swarm->shown[i].name, swarm->peers[i].name, sizeof(swarm->shown[i].name));
        fc_swarm_plan_progress(swarm->plan, i, &swarm->shown[i]);
        received += fc_swarm_received(&swarm->peers[i]);
    }
    measure(swarm, now_us);
    bool is_in_order = swarm->job->part == NULL;
    uint64_t written_bytes = swarm->next_written * swarm->job->file->chunk_size_bytes;
    progress->done_bytes = !is_in_order
                               ? totals.bytes_there
                               : (written_bytes < progress->total_bytes ? written_bytes : progress->total_bytes);
    progress->chunks_done = is_in_order ? swarm->next_written : totals.segments_there;
    progress->chunks_resent = swarm->resent;
    progress->sources = swarm->shown;
    progress->source_count = swarm->peer_count;
    progress->duplicates = totals.duplicates;
    progress->stolen = totals.stolen;
    progress->wasted_bytes = totals.segments_in_flight == 0 && received > swarm->verified_bytes
                                 ? received - swarm->verified_bytes
                                 : progress->wasted_bytes;
    progress->is_waiting = swarm->waiting_since_us != 0 && swarm->is_wait_told;
    progress->message = swarm->message.message[0] != '\0' ? swarm->message.message : NULL;
}

static void
report(struct fc_swarm *swarm, bool is_last)
{
    uint64_t now_us = fc_swarm_now_us();

    if (swarm->options->on_progress == NULL ||
        (!is_last && !swarm->is_message_new && now_us - swarm->reported_us < REPORT_US)) {
        return;
    }
    swarm->reported_us = now_us;
    swarm->is_message_new = false;
    fill_progress(swarm, now_us);
    swarm->options->on_progress(swarm->options->context, &swarm->progress);
}

// ---- When nobody is there ----

static void
look_for_anybody(struct fc_swarm *swarm)
{
    struct fc_swarm_plan_totals totals;
    uint64_t now_us = fc_swarm_now_us();
    uint64_t patience_s = swarm->options->patience_s != 0 ? swarm->options->patience_s : PATIENCE_DEFAULT_S;

    fc_swarm_plan_totals(swarm->plan, &totals);
    uint64_t missing = swarm->segment_count - totals.segments_there;
    if (totals.is_nobody_left && totals.segments_in_flight == 0 && missing != 0) {
        fc_swarm_fail(swarm, ERR_CORRUPT,
            swarm->last_failure.message[0] != '\0' ? swarm->last_failure.message
                                                   : "none of the servers can be believed: see above");
        return;
    }
    if (!totals.is_nobody_up || totals.segments_in_flight != 0 || missing == 0) {
        if (swarm->waiting_since_us != 0) {
            swarm->waiting_since_us = 0;
            if (swarm->is_wait_told) {
                fc_swarm_say(swarm, "a server is back: going on");
            }
        }
        return;
    }
    if (swarm->waiting_since_us == 0) {
        swarm->waiting_since_us = now_us;
        swarm->is_wait_told = false;
    }
    if (!swarm->is_wait_told && now_us - swarm->waiting_since_us > WAIT_TOLD_US) {
        swarm->is_wait_told = true;
        fc_swarm_say(swarm,
            "no server can be reached; %" PRIu64 " of %" PRIu64 " segments are missing; waiting for one to return%s%s",
            missing, swarm->segment_count, swarm->last_failure.message[0] != '\0' ? ": " : "",
            swarm->last_failure.message);
    }
    if (patience_s < FC_PATIENCE_ENDLESS && now_us - swarm->waiting_since_us > patience_s * US_PER_S) {
        fc_swarm_fail(swarm, ERR_UNAVAILABLE, err_message(&swarm->last_failure, ERR_UNAVAILABLE));
    }
}

// ---- The loop ----

static void
hear(struct fc_swarm *swarm)
{
    uint64_t now_us = fc_swarm_now_us();

    for (unsigned i = 0; i < swarm->peer_count; i++) {
        fc_swarm_plan_heard(swarm->plan, i, fc_swarm_received(&swarm->peers[i]), now_us);
    }
}

// obey does what the plan says; whether it did anything.
static bool
obey(struct fc_swarm *swarm)
{
    struct fc_swarm_order order;
    bool has_acted = false;

    while (swarm->fatal == ERR_OK &&
           fc_swarm_plan_next(swarm->plan, fc_swarm_now_us(), !fc_rate_is_spent(swarm->options->rate), &order)) {
        has_acted = true;
        switch (order.act) {
        case FC_SWARM_ASK:
            fc_swarm_ask(swarm, &order);
            break;
        case FC_SWARM_CANCEL:
            fc_swarm_cancel(swarm, order.request);
            break;
        case FC_SWARM_PROBE:
        default:
            fc_swarm_probe(swarm, order.source);
            break;
        }
    }
    return has_acted;
}

static bool
is_done(const struct fc_swarm *swarm)
{
    struct fc_swarm_plan_totals totals;

    if (swarm->job->part == NULL) {
        return swarm->next_written == swarm->segment_count;
    }
    fc_swarm_plan_totals(swarm->plan, &totals);
    return totals.segments_there == swarm->segment_count;
}

static enum err
run(struct fc_swarm *swarm, struct err_detail *why)
{
    while (!is_done(swarm)) {
        bool has_acted = false;
        struct fc_swarm_call *call = NULL;

        if (swarm->options->is_cancelled != NULL && swarm->options->is_cancelled(swarm->options->context)) {
            return ERR_CANCELLED;
        }
        hear(swarm);
        while (swarm->fatal == ERR_OK && (call = take_ended(swarm)) != NULL) {
            has_acted = true;
            look_at_ended(swarm, call);
        }
        fc_swarm_tend_grant(swarm);
        fc_swarm_tend_tracker(swarm);
        has_acted = obey(swarm) || has_acted;
        look_for_anybody(swarm);
        if (swarm->fatal != ERR_OK) {
            *why = swarm->fatal_why;
            return swarm->fatal;
        }
        report(swarm, false);
        if (!has_acted) {
            wait_for_change(swarm);
        }
    }
    return ERR_OK;
}

// ---- Life ----

static enum err
make_plan(struct fc_swarm *swarm)
{
    const struct fc_file *file = swarm->job->file;
    uint64_t seed = 0;
    uint64_t least = LOOK_AHEAD_BYTES / file->chunk_size_bytes;
    unsigned wanted = swarm->options->chunks_in_flight;

    swarm->kept_count = wanted != 0 ? wanted : least > LOOK_AHEAD_LEAST ? (unsigned)least : LOOK_AHEAD_LEAST;
    random_bytes(&seed, sizeof(seed));
    const struct fc_swarm_plan_options options = {
        .size_bytes = file->size_bytes,
        .segment_bytes = file->chunk_size_bytes,
        .balance = swarm->options->balance,
        .is_in_order = swarm->job->part == NULL,
        .look_ahead_segments = swarm->kept_count,
        .in_flight_max_bytes = IN_FLIGHT_BYTES,
        .requests_max = wanted,
        .seed = seed,
    };
    enum err err = fc_swarm_plan_new(&options, &swarm->plan);
    for (uint64_t i = 0; err == ERR_OK && swarm->job->part != NULL && i < swarm->segment_count; i++) {
        if (fc_part_has(swarm->job->part, i, swarm->job->sha256s + i * DIGEST_SHA256_BYTES)) {
            fc_swarm_plan_has(swarm->plan, i);
            fc_peer_share_note(swarm->job->share, i);
        }
    }
    if (err == ERR_OK && swarm->job->part == NULL) {
        swarm->kept = calloc(swarm->kept_count, sizeof(swarm->kept[0]));
        err = swarm->kept == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    return err;
}

static enum err
begin(struct fc_swarm *swarm, struct err_detail *why)
{
    const struct fc_file *file = swarm->job->file;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t threads = cores > POOL_THREADS_MOST ? POOL_THREADS_MOST : (uint64_t)cores;

    swarm->segment_count = file->size_bytes / file->chunk_size_bytes + (file->size_bytes % file->chunk_size_bytes != 0);
    swarm->progress.total_bytes = file->size_bytes;
    swarm->progress.chunks_total = swarm->segment_count;
    unsigned connections = swarm->options->connections;
    swarm->connections = connections == 0                         ? FC_SWARM_CONNECTIONS_DEFAULT
                         : connections < FC_SWARM_CONNECTIONS_MAX ? connections
                                                                  : FC_SWARM_CONNECTIONS_MAX;
    threads = threads < POOL_THREADS_LEAST ? POOL_THREADS_LEAST : threads;
    threads = threads < swarm->segment_count ? threads : swarm->segment_count;
    enum err err = make_plan(swarm);
    if (err == ERR_OK) {
        err = work_pool_new("fc-segments", (unsigned)threads, &swarm->pool);
    }
    return err == ERR_OK ? fc_swarm_begin_peers(swarm, why) : err;
}

static void
wait_for_calls(struct fc_swarm *swarm)
{
    struct fc_swarm_call *call = NULL;

    TAILQ_FOREACH(call, &swarm->calls, link)
    {
        // What has ended, or is with the pool, is not hurt.
        rpc_unary_cancel(&call->rpc);
    }
    // The pool first: what it has put into `ended` is all there then.
    work_pool_free(&swarm->pool);
    fc_swarm_end_peers(swarm);
    for (unsigned i = 0; i < swarm->kept_count && swarm->kept != NULL; i++) {
        if (swarm->kept[i] != NULL) {
            fc_swarm_call_free(swarm->kept[i]);
        }
    }
    while (swarm->call_count != 0) {
        call = take_ended(swarm);
        if (call == NULL) {
            wait_for_change(swarm);
        } else {
            fc_swarm_call_free(call);
        }
    }
}

enum err
fc_swarm_fetch(const struct fc_swarm_job *job, struct err_detail *why)
{
    static const struct fc_transfer_options defaults;
    struct fc_swarm *swarm = calloc(1, sizeof(*swarm));
    pthread_condattr_t attributes;

    if (swarm == NULL) {
        return ERR_NO_MEMORY;
    }
    swarm->job = job;
    swarm->options = job->options != NULL ? job->options : &defaults;
    swarm->origin = -1;
    swarm->measured_us = fc_swarm_now_us();
    TAILQ_INIT(&swarm->calls);
    STAILQ_INIT(&swarm->locked.ended);
    pthread_mutex_init(&swarm->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&swarm->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    enum err err = begin(swarm, why);
    if (err == ERR_OK) {
        err = run(swarm, why);
    }
    if (err == ERR_OK) {
        report(swarm, true);
    }
    fc_swarm_end_tracker(swarm);
    wait_for_calls(swarm);
    fc_swarm_plan_free(&swarm->plan);
    free(swarm->kept);
    pthread_cond_destroy(&swarm->changed);
    pthread_mutex_destroy(&swarm->mutex);
    free(swarm);
    return err;
}
