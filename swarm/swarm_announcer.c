// One thread runs everything. It opens a stream, says who it is, waits for the welcome, tells all that the store has,
// and then what changes, what load there is, at the pace that the welcome named. A stream may last for an hour at most:
// before that another is opened, and the first ends when the tracker knows the second.
//
// Lock order: the store's lock, which is held when changes are told, comes before this one's.
#include "swarm/swarm_announcer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "rpc/rpc_backoff.h"
#include "rpc/rpc_channel.h"
#include "swarm/swarm_bits.h"
#include "swarm/swarm_changes.h"

#include "fc/tracker/v1/tracker.stub.h"

enum {
    LONGEST_BACKOFF_MS = 2000,
    REFUSED_PAUSE_MS = 10 * 1000, // after an answer that will hardly be another one soon
    STREAM_LIFE_MS = RPC_TIMEOUT_MAX_MS - 5 * 60 * 1000,
    GOODBYE_MS = 2000,
    BATCH_MS = 100, // between two batches of changes
    HEARTBEAT_MIN_MS = 20,
    HEARTBEAT_MAX_MS = 10 * 1000,
    NS_PER_MS = 1000 * 1000,
    MS_PER_S = 1000,
    RANGES_AT_ONCE = 512, // in a message
};

// A file that the tracker has been told of: what is new about it is sent as a change.
struct told_file {
    uint8_t id[E2E_GRANT_ID_BYTES];
    UT_hash_handle hh;
};

struct swarm_announcer {
    // Immutable after new.
    struct swarm_store *store;
    struct swarm_server *server;
    struct work_pool *pool;
    struct rpc_channel *channel;
    const struct swarm_self *self;
    void (*on_key)(void *context, const uint8_t key[CRYPTO_KEY_BYTES]);
    void *context;
    pthread_t thread;
    bool has_thread;

    // The thread's own.
    struct rpc_client_stream *stream; // NULL: none; replaced under the lock
    uint64_t opened_ms;
    uint64_t incarnation;
    uint32_t heartbeat_ms;
    uint64_t beaten_ms;
    uint64_t changes_ms;
    struct told_file *told;
    struct rpc_backoff backoff;

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        bool is_stopping;
        bool has_ended; // the thread
        bool is_known;
        bool is_event; // of the stream
        bool is_everything_due;
        struct swarm_change_list changes;
        enum err failure; // of the last attempt
        struct err_detail why;
    } locked;
};

// --- Waiting --------------------------------------------------------------------------------------------------------

static void
on_event(struct rpc_client_stream *stream)
{
    struct swarm_announcer *announcer = stream->context;
    pthread_mutex_lock(&announcer->locked.mutex);
    announcer->locked.is_event = true;
    pthread_cond_broadcast(&announcer->locked.changed);
    pthread_mutex_unlock(&announcer->locked.mutex);
}

static void
wait_locked(struct swarm_announcer *announcer, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / MS_PER_S);
    until.tv_nsec += (long)(ms % MS_PER_S) * NS_PER_MS;
    if (until.tv_nsec >= (long)MS_PER_S * NS_PER_MS) {
        until.tv_nsec -= (long)MS_PER_S * NS_PER_MS;
        until.tv_sec++;
    }
    (void)pthread_cond_timedwait(&announcer->locked.changed, &announcer->locked.mutex, &until);
}

static bool
is_stopping(struct swarm_announcer *announcer)
{
    pthread_mutex_lock(&announcer->locked.mutex);
    bool is_stopping = announcer->locked.is_stopping;
    pthread_mutex_unlock(&announcer->locked.mutex);
    return is_stopping;
}

static void
set_known(struct swarm_announcer *announcer, bool is_known, enum err failure, const struct err_detail *why)
{
    pthread_mutex_lock(&announcer->locked.mutex);
    announcer->locked.is_known = is_known;
    announcer->locked.failure = failure;
    announcer->locked.why = why != NULL ? *why : (struct err_detail){0};
    pthread_cond_broadcast(&announcer->locked.changed);
    pthread_mutex_unlock(&announcer->locked.mutex);
}

// --- What is sent ---------------------------------------------------------------------------------------------------

static enum err
send(struct swarm_announcer *announcer, const Fc__Tracker__V1__AnnounceRequest *request)
{
    return fc_tracker_v1_tracker_announce_send(announcer->stream, request);
}

static ProtobufCBinaryData
wire_bytes(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = size}; // it is only read
}

static Fc__Tracker__V1__SourceState
state_of(const struct swarm_announcer *announcer)
{
    switch (swarm_server_state(announcer->server)) {
    case SWARM_DRAINING:
        return FC__TRACKER__V1__SOURCE_STATE__DRAINING;
    case SWARM_STOPPED:
        return FC__TRACKER__V1__SOURCE_STATE__STOPPED;
    case SWARM_UP:
        break;
    }
    return FC__TRACKER__V1__SOURCE_STATE__UP;
}

static enum err
send_hello(struct swarm_announcer *announcer)
{
    const struct swarm_self *self = announcer->self;
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__Source source = FC__TRACKER__V1__SOURCE__INIT;
    Fc__Segment__V1__Load load;
    char *urls[SWARM_URLS_MAX];
    for (size_t i = 0; i < self->url_count; i++) {
        urls[i] = (char *)(uintptr_t)self->urls[i];
    }
    swarm_server_read_load(announcer->server, &load);
    source.id = wire_bytes(self->id, sizeof(self->id));
    source.incarnation = announcer->incarnation;
    source.name = (char *)(uintptr_t)self->name;
    source.kind =
        self->kind == SWARM_MIRROR ? FC__TRACKER__V1__SOURCE_KIND__MIRROR : FC__TRACKER__V1__SOURCE_KIND__PEER;
    source.state = state_of(announcer);
    source.urls = urls;
    source.n_urls = self->url_count;
    source.load = &load;
    if (self->certificate_sha256 != NULL) {
        source.certificate_sha256 = wire_bytes(self->certificate_sha256, DIGEST_SHA256_BYTES);
    }
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HELLO;
    request.hello = &source;
    return send(announcer, &request);
}

static enum err
send_heartbeat(struct swarm_announcer *announcer, uint64_t now_ms)
{
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__Heartbeat heartbeat = FC__TRACKER__V1__HEARTBEAT__INIT;
    Fc__Segment__V1__Load load;
    swarm_server_read_load(announcer->server, &load);
    heartbeat.load = &load;
    heartbeat.state = state_of(announcer);
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HEARTBEAT;
    request.heartbeat = &heartbeat;
    announcer->beaten_ms = now_ms;
    return send(announcer, &request);
}

// What the store has of a file, copied out of its lock.
struct snapshot {
    bool is_complete;
    uint64_t segment_count;
    struct bytes segments;
    enum err err;
};

static void
take_snapshot(void *context, const struct swarm_store_item *item)
{
    struct snapshot *snapshot = context;
    size_t size = swarm_bits_bytes(swarm_file_segment_count(item->file));
    snapshot->segment_count = swarm_file_segment_count(item->file);
    snapshot->is_complete = item->held_count == snapshot->segment_count;
    if (!snapshot->is_complete) {
        snapshot->err = bytes_append(&snapshot->segments,
            bytes_view_of(item->held, size < SWARM_HOLDING_MAX_BYTES ? size : SWARM_HOLDING_MAX_BYTES));
    }
}

static void
note_told(struct swarm_announcer *announcer, const uint8_t id[E2E_GRANT_ID_BYTES])
{
    struct told_file *told = NULL;
    HASH_FIND(hh, announcer->told, id, E2E_GRANT_ID_BYTES, told);
    if (told == NULL) {
        told = calloc(1, sizeof(*told));
    } else {
        return;
    }
    if (told != NULL) { // else all of it is told again the next time
        memcpy(told->id, id, sizeof(told->id));
        HASH_ADD(hh, announcer->told, id, E2E_GRANT_ID_BYTES, told);
    }
}

static void
forget_told(struct swarm_announcer *announcer)
{
    struct told_file *told = NULL;
    struct told_file *next = NULL;
    HASH_ITER(hh, announcer->told, told, next)
    {
        HASH_DEL(announcer->told, told);
        free(told);
    }
}

static enum err
send_holding(struct swarm_announcer *announcer, const uint8_t id[E2E_GRANT_ID_BYTES], uint64_t segment_count)
{
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Segment__V1__Holding holding = FC__SEGMENT__V1__HOLDING__INIT;
    struct snapshot snapshot = {.segment_count = segment_count};
    bool is_there = swarm_store_look(announcer->store, id, take_snapshot, &snapshot);
    enum err err = snapshot.err;
    holding.file_id = wire_bytes(id, E2E_GRANT_ID_BYTES);
    holding.segment_count = snapshot.segment_count;
    holding.is_complete = is_there && snapshot.is_complete;
    holding.is_pull_through = announcer->self->kind == SWARM_MIRROR;
    holding.segments = wire_bytes(snapshot.segments.data, snapshot.segments.size);
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HOLDING;
    request.holding = &holding;
    if (err == ERR_OK) {
        err = send(announcer, &request);
    }
    if (err == ERR_OK) {
        note_told(announcer, id);
    }
    bytes_free(&snapshot.segments);
    return err;
}

static enum err
send_ranges(struct swarm_announcer *announcer, const struct swarm_change *change)
{
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__HoldingChange wire = FC__TRACKER__V1__HOLDING_CHANGE__INIT;
    Fc__Tracker__V1__SegmentRange ranges[RANGES_AT_ONCE];
    Fc__Tracker__V1__SegmentRange *pointers[RANGES_AT_ONCE];
    enum err err = ERR_OK;
    wire.file_id = wire_bytes(change->file_id, sizeof(change->file_id));
    wire.segment_count = change->segment_count;
    wire.ranges = pointers;
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_CHANGE;
    request.change = &wire;
    for (size_t at = 0; err == ERR_OK && at < change->range_count; at += wire.n_ranges) {
        size_t left = change->range_count - at;
        wire.n_ranges = left < RANGES_AT_ONCE ? left : RANGES_AT_ONCE;
        for (size_t i = 0; i < wire.n_ranges; i++) {
            fc__tracker__v1__segment_range__init(&ranges[i]);
            ranges[i].first = change->ranges[at + i].first;
            ranges[i].count = change->ranges[at + i].count;
            ranges[i].is_gone = change->ranges[at + i].is_gone;
            pointers[i] = &ranges[i];
        }
        err = send(announcer, &request);
    }
    return err;
}

static void
gather_id(void *context, const struct swarm_store_item *item)
{
    struct bytes *ids = context;
    if (item->held_count != 0 && bytes_append(ids, bytes_view_of(item->file->id, sizeof(item->file->id))) != ERR_OK) {
        log_warn("SWARM-NO-MEMORY", NULL, "a file is not announced: out of memory");
    }
}

static enum err
send_everything(struct swarm_announcer *announcer)
{
    struct bytes ids = {0};
    enum err err = ERR_OK;
    swarm_store_each(announcer->store, gather_id, &ids);
    for (size_t at = 0; err == ERR_OK && at < ids.size; at += E2E_GRANT_ID_BYTES) {
        err = send_holding(announcer, ids.data + at, 0);
        // Many files take their time: the tracker hears meanwhile that this server lives.
        uint64_t now_ms = clock_monotonic_ms();
        if (err == ERR_OK && now_ms - announcer->beaten_ms >= announcer->heartbeat_ms) {
            err = send_heartbeat(announcer, now_ms);
        }
    }
    bytes_free(&ids);
    return err;
}

static enum err
send_change(struct swarm_announcer *announcer, const struct swarm_change *change)
{
    struct told_file *told = NULL;
    HASH_FIND(hh, announcer->told, change->file_id, E2E_GRANT_ID_BYTES, told);
    if (told == NULL || change->is_whole) {
        return send_holding(announcer, change->file_id, change->segment_count);
    }
    return send_ranges(announcer, change);
}

static enum err
send_changes(struct swarm_announcer *announcer)
{
    struct swarm_change_list changes = STAILQ_HEAD_INITIALIZER(changes);
    enum err err = ERR_OK;
    pthread_mutex_lock(&announcer->locked.mutex);
    STAILQ_CONCAT(&changes, &announcer->locked.changes);
    bool is_everything_due = announcer->locked.is_everything_due;
    announcer->locked.is_everything_due = false;
    pthread_mutex_unlock(&announcer->locked.mutex);
    announcer->changes_ms = clock_monotonic_ms();
    while (err == ERR_OK && !is_everything_due && !STAILQ_EMPTY(&changes)) {
        struct swarm_change *change = STAILQ_FIRST(&changes);
        STAILQ_REMOVE_HEAD(&changes, link);
        err = send_change(announcer, change);
        swarm_change_free(&change);
    }
    swarm_changes_clear(&changes);
    return is_everything_due ? send_everything(announcer) : err;
}

// --- What is heard --------------------------------------------------------------------------------------------------

struct suspicion {
    struct work work; // first: the pool gives its address
    struct swarm_store *store;
    uint8_t file_id[E2E_GRANT_ID_BYTES];
    uint64_t segment;
};

static void
look_at_suspect(struct work *work)
{
    struct suspicion *suspicion = (struct suspicion *)work;
    enum err err = swarm_store_check(suspicion->store, suspicion->file_id, suspicion->segment);
    if (err != ERR_OK) {
        log_warn("SWARM-SUSPECT", NULL, "a segment that a reader complained about is dropped: %s", err_sentence(err));
    }
    free(suspicion);
}

static void
take_suspicion(struct swarm_announcer *announcer, const Fc__Tracker__V1__Suspicion *wire)
{
    struct suspicion *suspicion = calloc(1, sizeof(*suspicion));
    if (suspicion == NULL || wire->file_id.len != sizeof(suspicion->file_id)) {
        free(suspicion);
        return;
    }
    suspicion->work.run = look_at_suspect;
    suspicion->store = announcer->store;
    memcpy(suspicion->file_id, wire->file_id.data, sizeof(suspicion->file_id));
    suspicion->segment = wire->segment;
    work_pool_submit(announcer->pool, &suspicion->work);
}

// take_command does what an operator wants, and says at once that it is done.
static enum err
take_command(struct swarm_announcer *announcer, Fc__Tracker__V1__Command command)
{
    enum swarm_state state = SWARM_UP;
    if (command == FC__TRACKER__V1__COMMAND__STOP) {
        state = SWARM_STOPPED;
    } else if (command == FC__TRACKER__V1__COMMAND__DRAIN) {
        state = SWARM_DRAINING;
    } else if (command != FC__TRACKER__V1__COMMAND__WAKE) {
        return ERR_OK; // of a newer tracker
    }
    log_info("SWARM-COMMAND", NULL, "an operator has %s this server",
        state == SWARM_UP        ? "woken"
        : state == SWARM_STOPPED ? "stopped"
                                 : "drained");
    swarm_server_set_state(announcer->server, state);
    return send_heartbeat(announcer, clock_monotonic_ms());
}

static enum err
take_message(struct swarm_announcer *announcer, const Fc__Tracker__V1__AnnounceResponse *message)
{
    if (message->what_case == FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_COMMAND) {
        return take_command(announcer, message->command);
    }
    if (message->what_case == FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_SUSPICION) {
        take_suspicion(announcer, message->suspicion);
    } else if (message->what_case == FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_REFUSAL) {
        log_info("SWARM-REFUSED", NULL, "the tracker tells nobody of a file: it is gone, or not for this user");
    }
    return ERR_OK;
}

// --- The stream -----------------------------------------------------------------------------------------------------

static void
close_stream(struct rpc_client_stream **stream)
{
    if (*stream != NULL) {
        rpc_client_stream_deinit(*stream);
        free(*stream);
        *stream = NULL;
    }
}

// set_stream makes a stream the one that swarm_announcer_stop cancels, and returns the one before.
static struct rpc_client_stream *
set_stream(struct swarm_announcer *announcer, struct rpc_client_stream *stream)
{
    pthread_mutex_lock(&announcer->locked.mutex);
    struct rpc_client_stream *before = announcer->stream;
    announcer->stream = stream;
    pthread_mutex_unlock(&announcer->locked.mutex);
    return before;
}

static enum err
take_welcome(struct swarm_announcer *announcer, struct err_detail *why)
{
    const Fc__Tracker__V1__AnnounceResponse *message = NULL;
    enum err err = fc_tracker_v1_tracker_announce_receive(announcer->stream, &message);
    if (err == ERR_OK && message == NULL) {
        err = rpc_client_stream_finish(announcer->stream);
        err = err == ERR_OK ? ERR_CLOSED : err;
        return err_fail(why, err, "%s", err_message(&announcer->stream->call.status.detail, err));
    }
    if (err != ERR_OK) {
        return err;
    }
    const Fc__Tracker__V1__Welcome *welcome =
        message->what_case == FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_WELCOME ? message->welcome : NULL;
    if (welcome == NULL || welcome->grant_key.len != CRYPTO_KEY_BYTES) {
        return err_fail(why, ERR_PROTOCOL, "the tracker's first word is no welcome");
    }
    announcer->incarnation = welcome->incarnation;
    announcer->heartbeat_ms = welcome->heartbeat_ms < HEARTBEAT_MIN_MS   ? (uint32_t)HEARTBEAT_MIN_MS
                              : welcome->heartbeat_ms > HEARTBEAT_MAX_MS ? (uint32_t)HEARTBEAT_MAX_MS
                                                                         : welcome->heartbeat_ms;
    announcer->on_key(announcer->context, welcome->grant_key.data);
    return ERR_OK;
}

// open_stream introduces itself to the tracker. The stream before, if there is one, ends afterwards.
static enum err
open_stream(struct swarm_announcer *announcer, struct err_detail *why)
{
    struct rpc_client_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return ERR_NO_MEMORY;
    }
    fc_tracker_v1_tracker_announce_init(stream, announcer->channel);
    stream->call.timeout_ms = RPC_TIMEOUT_MAX_MS;
    stream->on_event = on_event;
    stream->context = announcer;
    fc_tracker_v1_tracker_announce_open(stream);
    struct rpc_client_stream *before = set_stream(announcer, stream);
    announcer->opened_ms = clock_monotonic_ms();
    announcer->beaten_ms = announcer->opened_ms;
    enum err err = send_hello(announcer);
    // A stream that has ended tells why when it is asked for its first message.
    if (err == ERR_OK || err == ERR_CLOSED) {
        err = is_stopping(announcer) ? ERR_CANCELLED : take_welcome(announcer, why);
    }
    close_stream(&before);
    forget_told(announcer);
    if (err == ERR_OK) {
        set_known(announcer, true, ERR_OK, NULL);
        err = send_everything(announcer);
    }
    return err;
}

// step does what is due, and then waits for what comes next. ERR_CLOSED: the stream has ended.
static enum err
step(struct swarm_announcer *announcer)
{
    const Fc__Tracker__V1__AnnounceResponse *message = NULL;
    const void *received = NULL;
    enum err err = ERR_OK;
    while ((err = rpc_client_stream_try_receive(announcer->stream, &received)) == ERR_OK) {
        message = received;
        err = message != NULL ? take_message(announcer, message) : ERR_CLOSED;
        if (err != ERR_OK) {
            return err;
        }
    }
    if (err != ERR_BUSY) {
        return err;
    }
    uint64_t now_ms = clock_monotonic_ms();
    err = now_ms - announcer->beaten_ms >= announcer->heartbeat_ms ? send_heartbeat(announcer, now_ms) : ERR_OK;
    if (err == ERR_OK && now_ms - announcer->changes_ms >= BATCH_MS) {
        err = send_changes(announcer);
    }
    if (err != ERR_OK) {
        return err;
    }
    uint64_t wait_ms = announcer->beaten_ms + announcer->heartbeat_ms - now_ms;
    pthread_mutex_lock(&announcer->locked.mutex);
    bool has_changes = !STAILQ_EMPTY(&announcer->locked.changes) || announcer->locked.is_everything_due;
    uint64_t changes_due_ms = announcer->changes_ms + BATCH_MS;
    if (has_changes && changes_due_ms < now_ms + wait_ms) {
        wait_ms = changes_due_ms > now_ms ? changes_due_ms - now_ms : 0;
    }
    if (!announcer->locked.is_event && !announcer->locked.is_stopping && wait_ms != 0) {
        wait_locked(announcer, wait_ms);
    }
    announcer->locked.is_event = false;
    pthread_mutex_unlock(&announcer->locked.mutex);
    return ERR_OK;
}

static void
say_goodbye(struct swarm_announcer *announcer)
{
    Fc__Tracker__V1__AnnounceRequest request = FC__TRACKER__V1__ANNOUNCE_REQUEST__INIT;
    Fc__Tracker__V1__Goodbye goodbye = FC__TRACKER__V1__GOODBYE__INIT;
    request.what_case = FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_GOODBYE;
    request.goodbye = &goodbye;
    const void *message = NULL;
    if (rpc_client_stream_try_send(announcer->stream, &request.base) != ERR_OK) {
        return; // it is taken for dead
    }
    rpc_client_stream_end(announcer->stream);
    // The tracker ends the call when it has heard it; a connection that is gone ends it, too.
    while (rpc_client_stream_receive(announcer->stream, &message) == ERR_OK && message != NULL) {
    }
}

// rest waits before another attempt.
static void
rest(struct swarm_announcer *announcer, enum err err)
{
    bool is_passing = err == ERR_UNAVAILABLE || err == ERR_CLOSED || err == ERR_TIMEOUT || err == ERR_CANCELLED;
    uint64_t until_ms =
        clock_monotonic_ms() + (is_passing ? rpc_backoff_draw_ms(&announcer->backoff) : (uint32_t)REFUSED_PAUSE_MS);
    pthread_mutex_lock(&announcer->locked.mutex);
    for (uint64_t now_ms = clock_monotonic_ms(); now_ms < until_ms && !announcer->locked.is_stopping;
         now_ms = clock_monotonic_ms()) {
        wait_locked(announcer, until_ms - now_ms);
    }
    pthread_mutex_unlock(&announcer->locked.mutex);
}

// serve_stream keeps one stream going until it breaks, is due to be replaced, or the announcer is stopped.
static enum err
serve_stream(struct swarm_announcer *announcer, struct err_detail *why)
{
    enum err err = open_stream(announcer, why);
    if (err == ERR_OK) {
        rpc_backoff_reset(&announcer->backoff);
    }
    while (err == ERR_OK && !is_stopping(announcer) && clock_monotonic_ms() - announcer->opened_ms < STREAM_LIFE_MS) {
        err = step(announcer);
    }
    if (err != ERR_OK && why->message[0] == '\0' && announcer->stream != NULL) {
        rpc_client_stream_cancel(announcer->stream); // unless it has ended
        enum err end = rpc_client_stream_finish(announcer->stream);
        err = end != ERR_OK ? end : err;
        err_fail(why, err, "%s", err_message(&announcer->stream->call.status.detail, err));
    }
    return err;
}

static void *
run(void *context)
{
    struct swarm_announcer *announcer = context;
    while (!is_stopping(announcer)) {
        struct err_detail why = {0};
        enum err err = serve_stream(announcer, &why);
        if (err == ERR_OK) {
            continue; // its time is over, or ours
        }
        bool was_known = swarm_announcer_is_known(announcer);
        struct rpc_client_stream *stream = set_stream(announcer, NULL);
        close_stream(&stream);
        set_known(announcer, false, err, &why);
        if (was_known && !is_stopping(announcer)) {
            log_warn("SWARM-UNKNOWN", NULL, "the tracker does not hear this server any more: %s",
                err_message(&why, err));
        }
        rest(announcer, err);
    }
    if (announcer->stream != NULL) {
        if (swarm_announcer_is_known(announcer)) {
            say_goodbye(announcer);
        }
        struct rpc_client_stream *stream = set_stream(announcer, NULL);
        close_stream(&stream);
    }
    pthread_mutex_lock(&announcer->locked.mutex);
    announcer->locked.is_known = false;
    announcer->locked.has_ended = true;
    pthread_cond_broadcast(&announcer->locked.changed);
    pthread_mutex_unlock(&announcer->locked.mutex);
    return NULL;
}

// --- From outside ---------------------------------------------------------------------------------------------------

void
swarm_announcer_changed(void *context, const struct swarm_file *file, uint64_t first, uint64_t count, bool is_gone)
{
    struct swarm_announcer *announcer = context;
    pthread_mutex_lock(&announcer->locked.mutex);
    bool was_empty = STAILQ_EMPTY(&announcer->locked.changes);
    // Without a connection all is told anew at the next one.
    if (announcer->locked.is_known &&
        swarm_changes_add(&announcer->locked.changes, file, first, count, is_gone) != ERR_OK) {
        announcer->locked.is_everything_due = true;
    }
    if (was_empty) {
        pthread_cond_broadcast(&announcer->locked.changed);
    }
    pthread_mutex_unlock(&announcer->locked.mutex);
}

enum err
swarm_announcer_wait(struct swarm_announcer *announcer, unsigned timeout_ms, struct err_detail *why)
{
    uint64_t until_ms = clock_monotonic_ms() + timeout_ms;
    enum err err = ERR_TIMEOUT;
    pthread_mutex_lock(&announcer->locked.mutex);
    for (;;) {
        uint64_t now_ms = clock_monotonic_ms();
        enum err failure = announcer->locked.failure;
        bool is_final = failure != ERR_OK && failure != ERR_UNAVAILABLE && failure != ERR_TIMEOUT &&
                        failure != ERR_CLOSED && failure != ERR_CANCELLED;
        if (announcer->locked.is_known || is_final || now_ms >= until_ms) {
            err = announcer->locked.is_known ? ERR_OK : is_final ? failure : ERR_TIMEOUT;
            break;
        }
        wait_locked(announcer, until_ms - now_ms);
    }
    if (err != ERR_OK && announcer->locked.why.message[0] != '\0') {
        err_fail(why, err, "%s", announcer->locked.why.message);
    }
    pthread_mutex_unlock(&announcer->locked.mutex);
    return err;
}

bool
swarm_announcer_is_known(struct swarm_announcer *announcer)
{
    pthread_mutex_lock(&announcer->locked.mutex);
    bool is_known = announcer->locked.is_known;
    pthread_mutex_unlock(&announcer->locked.mutex);
    return is_known;
}

enum err
swarm_announcer_new(const struct swarm_announcer_options *options, struct swarm_announcer **out, struct err_detail *why)
{
    const struct rpc_channel_options channel = {
        .url = options->origin_url,
        .tls = options->origin_tls,
        .longest_backoff_ms = LONGEST_BACKOFF_MS,
    };
    pthread_condattr_t attributes;
    struct swarm_announcer *announcer = calloc(1, sizeof(*announcer));
    if (announcer == NULL) {
        return ERR_NO_MEMORY;
    }
    announcer->store = options->store;
    announcer->server = options->server;
    announcer->pool = options->pool;
    announcer->self = options->self;
    announcer->on_key = options->on_key;
    announcer->context = options->context;
    announcer->backoff.longest_ms = LONGEST_BACKOFF_MS;
    STAILQ_INIT(&announcer->locked.changes);
    pthread_mutex_init(&announcer->locked.mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&announcer->locked.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    enum err err = rpc_channel_new(&channel, &announcer->channel, why);
    if (err == ERR_OK) {
        err = rpc_channel_set_token(announcer->channel, options->token);
    }
    if (err != ERR_OK) {
        swarm_announcer_free(&announcer);
        return err;
    }
    *out = announcer;
    return ERR_OK;
}

enum err
swarm_announcer_start(struct swarm_announcer *announcer)
{
    enum err err = thread_start(&announcer->thread, "announcer", run, announcer);
    announcer->has_thread = err == ERR_OK;
    return err;
}

void
swarm_announcer_stop(struct swarm_announcer *announcer)
{
    uint64_t until_ms = clock_monotonic_ms() + GOODBYE_MS;
    pthread_mutex_lock(&announcer->locked.mutex);
    announcer->locked.is_stopping = true;
    pthread_cond_broadcast(&announcer->locked.changed);
    // A tracker that does not answer is not waited for.
    for (uint64_t now_ms = clock_monotonic_ms();
         announcer->has_thread && !announcer->locked.has_ended && announcer->locked.is_known && now_ms < until_ms;
         now_ms = clock_monotonic_ms()) {
        wait_locked(announcer, until_ms - now_ms);
    }
    if (announcer->stream != NULL) {
        rpc_client_stream_cancel(announcer->stream);
    }
    pthread_mutex_unlock(&announcer->locked.mutex);
    if (announcer->has_thread) {
        pthread_join(announcer->thread, NULL);
        announcer->has_thread = false;
    }
}

void
swarm_announcer_free(struct swarm_announcer **announcer_ref)
{
    struct swarm_announcer *announcer = *announcer_ref;
    if (announcer == NULL) {
        return;
    }
    swarm_announcer_stop(announcer);
    rpc_channel_free(&announcer->channel);
    forget_told(announcer);
    swarm_changes_clear(&announcer->locked.changes);
    pthread_cond_destroy(&announcer->locked.changed);
    pthread_mutex_destroy(&announcer->locked.mutex);
    free(announcer);
    *announcer_ref = NULL;
}
