// Watch, and the thread that tells watchers what is new and looks after the time.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "services/tracker/tracker_service_priv.h"

enum {
    TICK_MS = 50, // deaths are noticed this late at most
    EVENTS_PER_TURN = 256,
    MS_PER_S = 1000,
    NS_PER_MS = 1000 * 1000,
};

// Freed by on_closed.
struct watching {
    struct tracker_service *tracker;
    struct rpc_server_stream *stream;
    struct tracker_watch *watch; // under the tracker's lock; NULL: not begun
    bool is_blocked;             // the same: on_writable will come
};

// --- Telling --------------------------------------------------------------------------------------------------------

static enum err
send_event(struct watching *watching, const struct tracker_event *event)
{
    Fc__Tracker__V1__Event wire = FC__TRACKER__V1__EVENT__INIT;
    struct tracker_wire_source source;
    Fc__Tracker__V1__SourceHolding holding = FC__TRACKER__V1__SOURCE_HOLDING__INIT;
    Fc__Segment__V1__Holding segments;
    Fc__Tracker__V1__Caught caught = FC__TRACKER__V1__CAUGHT__INIT;
    switch (event->kind) {
    case TRACKER_EVENT_SOURCE:
        tracker_wire_from_source(event->source, &source);
        wire.what_case = FC__TRACKER__V1__EVENT__WHAT_SOURCE;
        wire.source = &source.message;
        break;
    case TRACKER_EVENT_HOLDING:
        // The source itself has been told before: its id and incarnation say which it is.
        tracker_wire_from_source(event->source, &source);
        tracker_wire_from_holding(&event->holding, &segments);
        holding.source = &source.message;
        holding.holding = &segments;
        wire.what_case = FC__TRACKER__V1__EVENT__WHAT_HOLDING;
        wire.holding = &holding;
        break;
    case TRACKER_EVENT_CHANGE:
        return ERR_INTERNAL; // send_change's
    case TRACKER_EVENT_CAUGHT_UP:
        wire.what_case = FC__TRACKER__V1__EVENT__WHAT_CAUGHT_UP;
        wire.caught_up = &caught;
        break;
    }
    return rpc_server_stream_send(watching->stream, &wire.base);
}

static enum err
send_change(struct watching *watching, const struct tracker_event *event)
{
    Fc__Tracker__V1__Event wire = FC__TRACKER__V1__EVENT__INIT;
    Fc__Tracker__V1__SourceChange of_source = FC__TRACKER__V1__SOURCE_CHANGE__INIT;
    Fc__Tracker__V1__HoldingChange change = FC__TRACKER__V1__HOLDING_CHANGE__INIT;
    Fc__Tracker__V1__SegmentRange *ranges = calloc(event->range_count + 1, sizeof(*ranges));
    Fc__Tracker__V1__SegmentRange **pointers = calloc(event->range_count + 1, sizeof(*pointers));
    enum err err = ranges == NULL || pointers == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < event->range_count; i++) {
        fc__tracker__v1__segment_range__init(&ranges[i]);
        ranges[i].first = event->ranges[i].first;
        ranges[i].count = event->ranges[i].count;
        ranges[i].is_gone = event->ranges[i].is_gone;
        pointers[i] = &ranges[i];
    }
    if (err == ERR_OK) {
        change.file_id = tracker_wire_bytes(event->holding.file_id, TRACKER_ID_BYTES);
        change.segment_count = event->holding.segment_count;
        change.ranges = pointers;
        change.n_ranges = event->range_count;
        of_source.source_id = tracker_wire_bytes(event->source->id, TRACKER_ID_BYTES);
        of_source.incarnation = event->source->incarnation;
        of_source.change = &change;
        wire.what_case = FC__TRACKER__V1__EVENT__WHAT_CHANGE;
        wire.change = &of_source;
        err = rpc_server_stream_send(watching->stream, &wire.base);
    }
    free(pointers);
    free(ranges);
    return err;
}

// Tells a watcher what is new, as far as it takes it now. One whose stream has ended will be gone soon.
static void
tell_locked(struct tracker_service *tracker, struct tracker_watch *watch)
{
    struct watching *watching = tracker_watch_owner(watch);
    struct tracker_core *core = tracker->locked.core;
    struct tracker_event event;
    for (unsigned i = 0; !watching->is_blocked && tracker_watch_next(core, watch, &event); i++) {
        if (i == EVENTS_PER_TURN) {
            tracker_watch_again(core, watch); // others first
            return;
        }
        enum err err =
            event.kind == TRACKER_EVENT_CHANGE ? send_change(watching, &event) : send_event(watching, &event);
        if (err != ERR_OK) {
            watching->is_blocked = err == ERR_BUSY;
            return;
        }
        tracker_watch_told(core, watch);
    }
}

// --- The thread -----------------------------------------------------------------------------------------------------

static void
refresh_origin_locked(struct tracker_service *tracker, struct tracker_now now)
{
    const struct tracker_service_options *options = &tracker->options;
    struct tracker_source *origin = tracker_core_origin(tracker->locked.core);
    struct tracker_load load = {0};
    enum tracker_state state = TRACKER_UP;
    options->read_origin(options->context, &load, &state);
    tracker_core_heartbeat(tracker->locked.core, origin, origin->incarnation, &load, state, now);
}

static void
wait_locked(struct tracker_service *tracker, uint64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + wait_ms % MS_PER_S * NS_PER_MS;
    until.tv_sec += (time_t)(wait_ms / MS_PER_S + ns / ((uint64_t)MS_PER_S * NS_PER_MS));
    until.tv_nsec = (long)(ns % ((uint64_t)MS_PER_S * NS_PER_MS));
    int result = 0;
    while (!tracker->locked.is_woken && !tracker->locked.is_stopping && result == 0) {
        result = pthread_cond_timedwait(&tracker->wake, &tracker->mutex, &until);
    }
    tracker->locked.is_woken = false;
}

static uint64_t
earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void *
run(void *context)
{
    struct tracker_service *tracker = context;
    uint64_t origin_ms = 0;
    pthread_mutex_lock(&tracker->mutex);
    while (!tracker->locked.is_stopping) {
        struct tracker_now now = tracker_service_now();
        struct tracker_watch *watch;
        uint64_t watch_ms = 0;
        if (now.ms - origin_ms >= TRACKER_HEARTBEAT_MS) {
            origin_ms = now.ms;
            refresh_origin_locked(tracker, now);
        }
        tracker_core_tick(tracker->locked.core, now);
        uint64_t probe_ms = tracker_probe_due_locked(tracker, now.ms);
        while ((watch = tracker_core_take_due(tracker->locked.core, now.ms, &watch_ms)) != NULL) {
            tell_locked(tracker, watch);
            // Handlers that wait for the lock come in between.
            pthread_mutex_unlock(&tracker->mutex);
            pthread_mutex_lock(&tracker->mutex);
        }
        wait_locked(tracker, earlier(TICK_MS, earlier(watch_ms, probe_ms)));
    }
    pthread_mutex_unlock(&tracker->mutex);
    return NULL;
}

enum err
tracker_watching_start(struct tracker_service *tracker)
{
    enum err err = thread_start(&tracker->thread, "tracker", run, tracker);
    tracker->is_started = err == ERR_OK;
    return err;
}

static void
end_watch_locked(struct tracker_watch *watch, const void *context)
{
    struct watching *watching = tracker_watch_owner(watch);
    (void)context;
    rpc_server_stream_fail(watching->stream, ERR_UNAVAILABLE, "the tracker is shutting down");
}

void
tracker_watching_stop(struct tracker_service *tracker)
{
    if (tracker->is_started) {
        tracker->is_started = false;
        pthread_join(tracker->thread, NULL);
    }
    pthread_mutex_lock(&tracker->mutex);
    tracker_core_each_watch(tracker->locked.core, end_watch_locked, NULL);
    pthread_mutex_unlock(&tracker->mutex);
}

static void
end_watch_of_session(struct tracker_watch *watch, const void *session_id)
{
    struct watching *watching = tracker_watch_owner(watch);
    const struct rpc_identity *who = rpc_call_identity(rpc_server_stream_call(watching->stream));
    if (memcmp(who->session_id, session_id, sizeof(who->session_id)) == 0) {
        rpc_server_stream_fail(watching->stream, ERR_UNAUTHENTICATED, "the login has ended");
    }
}

void
tracker_watching_end_session_locked(struct tracker_service *tracker, const uint8_t session_id[16])
{
    tracker_core_each_watch(tracker->locked.core, end_watch_of_session, session_id);
}

// --- The stream -----------------------------------------------------------------------------------------------------

static enum err
begin(struct watching *watching, const Fc__Tracker__V1__WatchRequest *request, struct err_detail *why)
{
    struct tracker_service *tracker = watching->tracker;
    const struct rpc_identity *who = rpc_call_identity(rpc_server_stream_call(watching->stream));
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment_count = 0;
    bool is_of_all = request->file_id.len == 0;
    size_t limit = request->limit == 0 ? (size_t)TRACKER_SAMPLE_DEFAULT : request->limit;
    enum err err = ERR_OK;
    if (is_of_all && !who->is_admin) {
        return err_fail(why, ERR_DENIED, "only administrators watch all sources: say which file");
    }
    if (limit > TRACKER_SAMPLE_MAX) {
        return err_fail(why, ERR_INVALID, "limit is %zu; it is at most %d", limit, TRACKER_SAMPLE_MAX);
    }
    if (!is_of_all) {
        err = tracker_service_check_id("file_id", &request->file_id, file_id, why);
    }
    if (!is_of_all && err == ERR_OK) {
        err = tracker_service_may_read(tracker, who->subject_id, file_id, &segment_count, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    pthread_mutex_lock(&tracker->mutex);
    if (tracker->locked.is_stopping) {
        err = err_fail(why, ERR_UNAVAILABLE, "the tracker is shutting down");
    } else {
        err = tracker_core_watch(tracker->locked.core, is_of_all ? NULL : file_id, segment_count, limit,
            who->subject_id, watching, &watching->watch, why);
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
    return err;
}

static void
on_open(struct rpc_server_stream *stream, ProtobufCService *service)
{
    struct watching *watching = calloc(1, sizeof(*watching));
    if (watching == NULL) {
        rpc_server_stream_fail(stream, ERR_NO_MEMORY, "%s", err_sentence(ERR_NO_MEMORY));
        return;
    }
    watching->tracker = (struct tracker_service *)service;
    watching->stream = stream;
    rpc_server_stream_set_context(stream, watching);
}

static void
on_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    struct watching *watching = rpc_server_stream_context(stream);
    struct err_detail why = {0};
    enum err err = ERR_OK;
    if (watching->watch != NULL) {
        err = err_fail(&why, ERR_PROTOCOL, "Watch takes one request");
    } else {
        err = begin(watching, (const Fc__Tracker__V1__WatchRequest *)message, &why);
    }
    if (err != ERR_OK) {
        rpc_server_stream_fail(stream, err, "%s", err_message(&why, err));
    }
}

static void
on_end(struct rpc_server_stream *stream)
{
    struct watching *watching = rpc_server_stream_context(stream);
    if (watching->watch == NULL) {
        rpc_server_stream_fail(stream, ERR_PROTOCOL, "Watch needs its request");
    }
}

static void
on_writable(struct rpc_server_stream *stream)
{
    struct watching *watching = rpc_server_stream_context(stream);
    struct tracker_service *tracker = watching->tracker;
    pthread_mutex_lock(&tracker->mutex);
    watching->is_blocked = false;
    if (watching->watch != NULL) {
        tracker_watch_again(tracker->locked.core, watching->watch);
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
}

static void
on_closed(struct rpc_server_stream *stream)
{
    struct watching *watching = rpc_server_stream_context(stream);
    if (watching == NULL) {
        return;
    }
    pthread_mutex_lock(&watching->tracker->mutex);
    tracker_watch_free(watching->tracker->locked.core, &watching->watch);
    pthread_mutex_unlock(&watching->tracker->mutex);
    free(watching);
}

const struct rpc_stream_handlers tracker_watching_handlers = {
    .on_open = on_open,
    .on_message = on_message,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
};
