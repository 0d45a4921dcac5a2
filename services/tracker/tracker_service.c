// The adapter between fc.tracker.v1.Tracker and the core: the service's lifecycle, its rules, and the methods that are
// answered at once.
#include "services/tracker/tracker_service.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "services/tracker/tracker_service_priv.h"

enum {
    PROBE_THREADS = 8,
    CHECK_THREADS = 2,
    REPORTS_PER_S = 20,                                    // of one user: sources that cannot be reached
    BLAMES_PER_S = 2,                                      // each may cost the tracker a segment
    ANNOUNCE_MAX_BYTES = TRACKER_HOLDING_MAX_BYTES + 1024, // a bitmap, or TRACKER_RANGES_MAX ranges
    FIND_BITMAPS_MAX_BYTES = 4 * 1024 * 1024,              // in one answer; sources beyond it are left out
    LIST_MAX_BYTES = 7 * 1024 * 1024,                      // of an answer: the rest is cut, and would be read by nobody
};

struct tracker_now
tracker_service_now(void)
{
    return (struct tracker_now){.ms = clock_monotonic_ms(), .unix_ms = clock_unix_ms()};
}

void
tracker_service_wake_locked(struct tracker_service *tracker)
{
    tracker->locked.is_woken = true;
    pthread_cond_signal(&tracker->wake);
}

enum err
tracker_service_check_id(const char *field, const ProtobufCBinaryData *id, uint8_t out[TRACKER_ID_BYTES],
    struct err_detail *why)
{
    if (id->len != TRACKER_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "%s has %zu bytes; an id has %d", field, id->len, TRACKER_ID_BYTES);
    }
    memcpy(out, id->data, TRACKER_ID_BYTES);
    return ERR_OK;
}

enum err
tracker_service_may_read(struct tracker_service *tracker, const uint8_t *user_id,
    const uint8_t file_id[TRACKER_ID_BYTES], uint64_t *segment_count_out, struct err_detail *why)
{
    const struct tracker_service_options *options = &tracker->options;
    enum err err = options->may_read(options->context, user_id, file_id, segment_count_out);
    return err == ERR_NOT_FOUND ? err_fail(why, err, "there is no such file") : err;
}

// --- Find and Pick --------------------------------------------------------------------------------------------------

// Fills a reply from what was found, as much of it as fits into a message.
static void
fill_found(const struct tracker_found *found, size_t count, Fc__Tracker__V1__SourceHolding *wire,
    struct tracker_wire_source *sources, Fc__Segment__V1__Holding *holdings, Fc__Tracker__V1__SourceHolding **pointers,
    Fc__Tracker__V1__FindResponse *response)
{
    size_t bitmaps = 0;
    for (size_t i = 0; i < count; i++) {
        bitmaps += found[i].holding.segments.size;
        if (bitmaps > FIND_BITMAPS_MAX_BYTES) {
            break;
        }
        tracker_wire_from_source(found[i].source, &sources[i]);
        tracker_wire_from_holding(&found[i].holding, &holdings[i]);
        fc__tracker__v1__source_holding__init(&wire[i]);
        wire[i].source = &sources[i].message;
        wire[i].holding = &holdings[i];
        pointers[i] = &wire[i];
        response->n_sources = i + 1;
    }
    response->sources = pointers;
}

static void
find(Fc__Tracker__V1__Tracker_Service *service, const Fc__Tracker__V1__FindRequest *request,
    Fc__Tracker__V1__FindResponse_Closure reply, void *closure_data)
{
    struct tracker_service *tracker = (struct tracker_service *)service;
    struct rpc_call *call = closure_data;
    struct err_detail why = {0};
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment_count = 0;
    size_t limit = request->limit == 0 ? (size_t)TRACKER_SAMPLE_DEFAULT : request->limit;
    enum err err = tracker_service_check_id("file_id", &request->file_id, file_id, &why);
    if (err == ERR_OK && limit > TRACKER_SAMPLE_MAX) {
        err = err_fail(&why, ERR_INVALID, "limit is %zu; it is at most %d", limit, TRACKER_SAMPLE_MAX);
    }
    if (err == ERR_OK) {
        err = tracker_service_may_read(tracker, rpc_call_identity(call)->subject_id, file_id, &segment_count, &why);
    }
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
        return;
    }
    Fc__Tracker__V1__FindResponse response = FC__TRACKER__V1__FIND_RESPONSE__INIT;
    struct tracker_found found[TRACKER_SAMPLE_MAX];
    struct tracker_wire_source sources[TRACKER_SAMPLE_MAX];
    Fc__Segment__V1__Holding holdings[TRACKER_SAMPLE_MAX];
    Fc__Tracker__V1__SourceHolding wire[TRACKER_SAMPLE_MAX];
    Fc__Tracker__V1__SourceHolding *pointers[TRACKER_SAMPLE_MAX];
    pthread_mutex_lock(&tracker->mutex);
    size_t count =
        tracker_core_find(tracker->locked.core, file_id, segment_count, limit, found, &response.source_count);
    fill_found(found, count, wire, sources, holdings, pointers, &response);
    reply(&response, call); // packed before it returns: what it borrows is the core's
    pthread_mutex_unlock(&tracker->mutex);
}

static void
pick(Fc__Tracker__V1__Tracker_Service *service, const Fc__Tracker__V1__PickRequest *request,
    Fc__Tracker__V1__PickResponse_Closure reply, void *closure_data)
{
    struct tracker_service *tracker = (struct tracker_service *)service;
    struct rpc_call *call = closure_data;
    struct err_detail why = {0};
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment_count = 0;
    enum err err = tracker_service_check_id("file_id", &request->file_id, file_id, &why);
    if (err == ERR_OK && (request->strategy < FC__TRACKER__V1__STRATEGY__ROUND_ROBIN ||
                             request->strategy > FC__TRACKER__V1__STRATEGY__TWO_CHOICES)) {
        err = err_fail(&why, ERR_INVALID, "there is no strategy %d", (int)request->strategy);
    }
    if (err == ERR_OK) {
        err = tracker_service_may_read(tracker, rpc_call_identity(call)->subject_id, file_id, &segment_count, &why);
    }
    if (err == ERR_OK && request->segment >= segment_count) {
        err = err_fail(&why, ERR_OUT_OF_RANGE, "the file has %llu segments, counted from 0",
            (unsigned long long)segment_count);
    }
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
        return;
    }
    Fc__Tracker__V1__PickResponse response = FC__TRACKER__V1__PICK_RESPONSE__INIT;
    struct tracker_wire_source source;
    pthread_mutex_lock(&tracker->mutex);
    const struct tracker_source *picked = tracker_core_pick(tracker->locked.core, file_id, request->segment,
        (enum tracker_strategy)request->strategy, clock_monotonic_ms());
    if (picked != NULL) {
        tracker_wire_from_source(picked, &source);
        response.source = &source.message;
        reply(&response, call);
    }
    pthread_mutex_unlock(&tracker->mutex);
    if (picked == NULL) {
        rpc_call_fail(call, ERR_UNAVAILABLE, "no source of this file is up");
    }
}

// --- Report ---------------------------------------------------------------------------------------------------------

static void
take_unreachable(struct tracker_service *tracker, const uint8_t source_id[TRACKER_ID_BYTES], uint64_t incarnation)
{
    pthread_mutex_lock(&tracker->mutex);
    struct tracker_source *source = tracker_core_find_id(tracker->locked.core, source_id);
    if (source != NULL) {
        tracker_core_suspect(tracker->locked.core, source, incarnation, clock_monotonic_ms());
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
}

// A report of a source that is not known is no error: it may have gone meanwhile.
static void
report(Fc__Tracker__V1__Tracker_Service *service, const Fc__Tracker__V1__ReportRequest *request,
    Fc__Tracker__V1__ReportResponse_Closure reply, void *closure_data)
{
    struct tracker_service *tracker = (struct tracker_service *)service;
    struct rpc_call *call = closure_data;
    Fc__Tracker__V1__ReportResponse response = FC__TRACKER__V1__REPORT_RESPONSE__INIT;
    const uint8_t *user_id = rpc_call_identity(call)->subject_id;
    struct err_detail why = {0};
    uint8_t source_id[TRACKER_ID_BYTES];
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment_count = 0;
    uint32_t retry_after_ms = 0;
    bool is_blame = request->failure == FC__TRACKER__V1__FAILURE__CORRUPT;
    enum err err = tracker_service_check_id("source_id", &request->source_id, source_id, &why);
    if (err == ERR_OK && !is_blame && request->failure != FC__TRACKER__V1__FAILURE__UNREACHABLE) {
        err = err_fail(&why, ERR_INVALID, "a source is reported as UNREACHABLE or CORRUPT");
    }
    if (err == ERR_OK && !rpc_rate_take(is_blame ? tracker->blames : tracker->reports,
                             bytes_view_of(user_id, TRACKER_ID_BYTES), clock_monotonic_us(), &retry_after_ms)) {
        err = err_fail(&why, ERR_LIMIT, "you report more than the tracker looks after");
    }
    if (err == ERR_OK && is_blame) {
        err = tracker_service_check_id("file_id", &request->file_id, file_id, &why);
    }
    if (err == ERR_OK && is_blame) {
        err = tracker_service_may_read(tracker, user_id, file_id, &segment_count, &why);
    }
    if (err == ERR_OK && is_blame && request->segment >= segment_count) {
        err = err_fail(&why, ERR_OUT_OF_RANGE, "the file has %llu segments, counted from 0",
            (unsigned long long)segment_count);
    }
    if (err == ERR_OK && is_blame) {
        err = tracker_probe_check(tracker, source_id, request->incarnation, file_id, request->segment);
    } else if (err == ERR_OK) {
        take_unreachable(tracker, source_id, request->incarnation);
    }
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, retry_after_ms);
    } else {
        reply(&response, call);
    }
}

// --- For administrators ---------------------------------------------------------------------------------------------

static size_t
count_sources(struct tracker_core *core)
{
    size_t count = 0;
    for (struct tracker_source *s = tracker_core_first(core); s != NULL; s = tracker_core_next(core, s)) {
        count++;
    }
    return count;
}

static void
list_sources(Fc__Tracker__V1__Tracker_Service *service, const Fc__Tracker__V1__ListSourcesRequest *request,
    Fc__Tracker__V1__ListSourcesResponse_Closure reply, void *closure_data)
{
    struct tracker_service *tracker = (struct tracker_service *)service;
    struct rpc_call *call = closure_data;
    Fc__Tracker__V1__ListSourcesResponse response = FC__TRACKER__V1__LIST_SOURCES_RESPONSE__INIT;
    size_t packed = 0;
    (void)request;
    pthread_mutex_lock(&tracker->mutex);
    struct tracker_core *core = tracker->locked.core;
    size_t count = count_sources(core);
    struct tracker_wire_source *sources = calloc(count, sizeof(*sources));
    Fc__Tracker__V1__Source **pointers = calloc(count, sizeof(*pointers));
    bool has_memory = sources != NULL && pointers != NULL;
    struct tracker_source *source = tracker_core_first(core);
    for (size_t i = 0; has_memory && source != NULL && packed < LIST_MAX_BYTES; i++) {
        tracker_wire_from_source(source, &sources[i]);
        packed += fc__tracker__v1__source__get_packed_size(&sources[i].message);
        pointers[i] = &sources[i].message;
        response.n_sources = i + 1;
        source = tracker_core_next(core, source);
    }
    response.sources = pointers;
    if (has_memory) {
        reply(&response, call);
    }
    pthread_mutex_unlock(&tracker->mutex);
    if (!has_memory) {
        rpc_call_fail_detail(call, ERR_NO_MEMORY, NULL, NULL, 0);
    }
    free(pointers);
    free(sources);
}

static enum err
state_of_command(Fc__Tracker__V1__Command command, enum tracker_state *out, struct err_detail *why)
{
    switch (command) {
    case FC__TRACKER__V1__COMMAND__STOP:
        *out = TRACKER_STOPPED;
        return ERR_OK;
    case FC__TRACKER__V1__COMMAND__WAKE:
        *out = TRACKER_UP;
        return ERR_OK;
    case FC__TRACKER__V1__COMMAND__DRAIN:
        *out = TRACKER_DRAINING;
        return ERR_OK;
    case FC__TRACKER__V1__COMMAND__COMMAND_UNSPECIFIED:
    case _FC__TRACKER__V1__COMMAND_IS_INT_SIZE:
    default:
        return err_fail(why, ERR_INVALID, "there is no command %d", (int)command);
    }
}

static void
control_source(Fc__Tracker__V1__Tracker_Service *service, const Fc__Tracker__V1__ControlSourceRequest *request,
    Fc__Tracker__V1__ControlSourceResponse_Closure reply, void *closure_data)
{
    struct tracker_service *tracker = (struct tracker_service *)service;
    const struct tracker_service_options *options = &tracker->options;
    struct rpc_call *call = closure_data;
    Fc__Tracker__V1__ControlSourceResponse response = FC__TRACKER__V1__CONTROL_SOURCE_RESPONSE__INIT;
    struct tracker_wire_source wire;
    struct tracker_source *source = NULL;
    enum tracker_state state = TRACKER_UP;
    struct err_detail why = {0};
    enum err err = state_of_command(request->command, &state, &why);
    pthread_mutex_lock(&tracker->mutex);
    struct tracker_core *core = tracker->locked.core;
    if (err == ERR_OK) {
        err = tracker_core_find_text(core, request->source, &source, &why);
    }
    if (err == ERR_OK && source == tracker_core_origin(core)) {
        options->control_origin(options->context, state);
    } else if (err == ERR_OK && source->owner == NULL) {
        err = err_fail(&why, ERR_PRECONDITION, "the source \"%s\" has left: it cannot be told anything", source->name);
    } else if (err == ERR_OK) {
        tracker_announce_command_locked(source->owner, state);
    }
    if (err == ERR_OK) {
        tracker_core_command(core, source, state, tracker_service_now());
        tracker_service_wake_locked(tracker);
        tracker_wire_from_source(source, &wire);
        response.source = &wire.message;
        reply(&response, call);
    }
    pthread_mutex_unlock(&tracker->mutex);
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
    }
}

static const struct rpc_method_rule rules[] = {
    {.method = "Announce",
        .access = RPC_ACCESS_TOKEN,
        .max_request_bytes = ANNOUNCE_MAX_BYTES,
        .stream = &tracker_announce_handlers},
    {.method = "Find", .access = RPC_ACCESS_TOKEN},
    {.method = "Watch", .access = RPC_ACCESS_TOKEN, .stream = &tracker_watching_handlers},
    {.method = "Pick", .access = RPC_ACCESS_TOKEN},
    {.method = "Report", .access = RPC_ACCESS_TOKEN},
    {.method = "ListSources", .access = RPC_ACCESS_ADMIN},
    {.method = "ControlSource", .access = RPC_ACCESS_ADMIN},
};

// --- Figures --------------------------------------------------------------------------------------------------------

static struct tracker_figures
read_figures(struct tracker_service *tracker)
{
    struct tracker_figures figures;
    pthread_mutex_lock(&tracker->mutex);
    tracker_core_read_figures(tracker->locked.core, &figures);
    pthread_mutex_unlock(&tracker->mutex);
    return figures;
}

#define FIGURE(name, field)                                                                                            \
    static uint64_t read_##name(void *tracker)                                                                         \
    {                                                                                                                  \
        return read_figures(tracker).field;                                                                            \
    }
FIGURE(up, sources[TRACKER_UP])
FIGURE(draining, sources[TRACKER_DRAINING])
FIGURE(stopped, sources[TRACKER_STOPPED])
FIGURE(dead, sources[TRACKER_DEAD])
FIGURE(quarantined, sources[TRACKER_QUARANTINED])
FIGURE(files, files)
FIGURE(watches, watches)
FIGURE(announcements, announcements)
FIGURE(deaths, deaths)
FIGURE(bad_segments, bad_segments)
#undef FIGURE

enum err
tracker_service_add_metrics(struct tracker_service *tracker)
{
    const struct rpc_metric metrics[] = {
        {"fc_tracker_sources_up", "Sources of files that serve, with this server itself.", false, read_up, tracker},
        {"fc_tracker_sources_draining", "Sources that take nothing new.", false, read_draining, tracker},
        {"fc_tracker_sources_stopped", "Sources that an operator has stopped.", false, read_stopped, tracker},
        {"fc_tracker_sources_dead", "Sources that have left or cannot be reached, of the last ten minutes.", false,
            read_dead, tracker},
        {"fc_tracker_sources_quarantined", "Sources that have sent bad segments.", false, read_quarantined, tracker},
        {"fc_tracker_files", "Files that sources have announced or somebody watches.", false, read_files, tracker},
        {"fc_tracker_watches", "Readers and operators that are told of changes.", false, read_watches, tracker},
        {"fc_tracker_announcements_total", "What sources have said of themselves and their files, but heartbeats.",
            true, read_announcements, tracker},
        {"fc_tracker_deaths_total", "Sources that have died.", true, read_deaths, tracker},
        {"fc_tracker_bad_segments_total", "Bad segments that readers reported and the tracker found, too.", true,
            read_bad_segments, tracker},
    };
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        err = rpc_server_add_metric(tracker->options.server, &metrics[i]);
    }
    return err;
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

static void
init_locks(struct tracker_service *tracker)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&tracker->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&tracker->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

// The origin's id follows from its key, so that it is the same after a restart.
static enum err
make_core(struct tracker_service *tracker)
{
    uint8_t digest[DIGEST_SHA256_BYTES];
    uint64_t seed;
    enum err err = digest_of(DIGEST_SHA256, bytes_view_of(tracker->grant_key, sizeof(tracker->grant_key)), digest);
    if (err != ERR_OK) {
        return err;
    }
    random_bytes(&seed, sizeof(seed));
    return tracker_core_new(digest, tracker->options.origin_name, seed, tracker_service_now(), &tracker->locked.core);
}

enum err
tracker_service_new(const struct tracker_service_options *options, struct tracker_service **out)
{
    struct tracker_service *tracker = calloc(1, sizeof(*tracker));
    if (tracker == NULL) {
        return ERR_NO_MEMORY;
    }
    tracker->rpc = (Fc__Tracker__V1__Tracker_Service){
        .base = {.descriptor = &fc__tracker__v1__tracker__descriptor, .invoke = protobuf_c_service_invoke_internal},
        .find = find,
        .pick = pick,
        .report = report,
        .list_sources = list_sources,
        .control_source = control_source,
    };
    tracker->options = *options;
    memcpy(tracker->grant_key, options->grant_key, sizeof(tracker->grant_key));
    tracker->options.grant_key = tracker->grant_key;
    init_locks(tracker);
    enum err err = make_core(tracker);
    if (err == ERR_OK) {
        err = rpc_rate_new(REPORTS_PER_S, &tracker->reports);
    }
    if (err == ERR_OK) {
        err = rpc_rate_new(BLAMES_PER_S, &tracker->blames);
    }
    if (err == ERR_OK) {
        err = work_pool_new("tracker-probe", PROBE_THREADS, &tracker->probe_pool);
    }
    if (err == ERR_OK) {
        err = work_pool_new("tracker-check", CHECK_THREADS, &tracker->check_pool);
    }
    if (err != ERR_OK) {
        tracker_service_free(&tracker);
        return err;
    }
    *out = tracker;
    return ERR_OK;
}

ProtobufCService *
tracker_service_rpc(struct tracker_service *tracker)
{
    return &tracker->rpc.base;
}

const struct rpc_method_rule *
tracker_service_rules(size_t *count_out)
{
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

enum err
tracker_service_start(struct tracker_service *tracker)
{
    return tracker_watching_start(tracker);
}

void
tracker_service_end_session(struct tracker_service *tracker, const uint8_t session_id[16])
{
    pthread_mutex_lock(&tracker->mutex);
    struct tracker_core *core = tracker->locked.core;
    for (struct tracker_source *s = tracker_core_first(core); s != NULL; s = tracker_core_next(core, s)) {
        if (s->owner != NULL && tracker_announce_is_of(s->owner, session_id)) {
            tracker_announce_end_locked(s->owner, ERR_UNAUTHENTICATED, "the login has ended");
        }
    }
    tracker_watching_end_session_locked(tracker, session_id);
    pthread_mutex_unlock(&tracker->mutex);
}

void
tracker_service_stop(struct tracker_service *tracker)
{
    pthread_mutex_lock(&tracker->mutex);
    tracker->locked.is_stopping = true;
    pthread_cond_signal(&tracker->wake);
    struct tracker_core *core = tracker->locked.core;
    for (struct tracker_source *s = tracker_core_first(core); s != NULL; s = tracker_core_next(core, s)) {
        if (s->owner != NULL) {
            tracker_announce_end_locked(s->owner, ERR_UNAVAILABLE, "the tracker is shutting down");
        }
    }
    pthread_mutex_unlock(&tracker->mutex);
    tracker_watching_stop(tracker);
    work_pool_free(&tracker->check_pool);
    work_pool_free(&tracker->probe_pool);
}

void
tracker_service_free(struct tracker_service **tracker_ref)
{
    struct tracker_service *tracker = *tracker_ref;
    if (tracker == NULL) {
        return;
    }
    work_pool_free(&tracker->check_pool);
    work_pool_free(&tracker->probe_pool);
    tracker_core_free(&tracker->locked.core);
    rpc_rate_free(&tracker->reports);
    rpc_rate_free(&tracker->blames);
    pthread_cond_destroy(&tracker->wake);
    pthread_mutex_destroy(&tracker->mutex);
    free(tracker);
    *tracker_ref = NULL;
}
