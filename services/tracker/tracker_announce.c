// Announce: one stream for each source.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "services/tracker/tracker_service_priv.h"

// Freed by on_closed. The source names it as its owner as long as this stream is the source's.
struct announce {
    // Immutable.
    struct tracker_service *tracker;
    struct rpc_server_stream *stream;

    // Under the tracker's lock, but that only this stream's handlers write it.
    struct tracker_source *source; // a reference; NULL: no hello yet
    uint64_t incarnation;
    enum tracker_state command; // that could not be sent yet; 0: none
};

static const struct rpc_identity *
identity(const struct announce *announce)
{
    return rpc_call_identity(rpc_server_stream_call(announce->stream));
}

// --- What the tracker says ------------------------------------------------------------------------------------------

// A source that does not read misses it. What must not be missed is kept by the caller.
static enum err
say(struct announce *announce, Fc__Tracker__V1__AnnounceResponse *response)
{
    return rpc_server_stream_send(announce->stream, &response->base);
}

static void
say_refusal(struct announce *announce, const uint8_t file_id[TRACKER_ID_BYTES])
{
    Fc__Tracker__V1__AnnounceResponse response = FC__TRACKER__V1__ANNOUNCE_RESPONSE__INIT;
    Fc__Tracker__V1__Refusal refusal = FC__TRACKER__V1__REFUSAL__INIT;
    refusal.file_id = tracker_wire_bytes(file_id, TRACKER_ID_BYTES);
    response.what_case = FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_REFUSAL;
    response.refusal = &refusal;
    (void)!say(announce, &response);
}

void
tracker_announce_command_locked(struct announce *announce, enum tracker_state state)
{
    Fc__Tracker__V1__AnnounceResponse response = FC__TRACKER__V1__ANNOUNCE_RESPONSE__INIT;
    response.what_case = FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_COMMAND;
    response.command = state == TRACKER_UP         ? FC__TRACKER__V1__COMMAND__WAKE
                       : state == TRACKER_DRAINING ? FC__TRACKER__V1__COMMAND__DRAIN
                                                   : FC__TRACKER__V1__COMMAND__STOP;
    announce->command = say(announce, &response) == ERR_BUSY ? state : 0;
}

void
tracker_announce_suspect_locked(struct announce *announce, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment)
{
    Fc__Tracker__V1__AnnounceResponse response = FC__TRACKER__V1__ANNOUNCE_RESPONSE__INIT;
    Fc__Tracker__V1__Suspicion suspicion = FC__TRACKER__V1__SUSPICION__INIT;
    suspicion.file_id = tracker_wire_bytes(file_id, TRACKER_ID_BYTES);
    suspicion.segment = segment;
    response.what_case = FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_SUSPICION;
    response.suspicion = &suspicion;
    (void)!say(announce, &response);
}

void
tracker_announce_end_locked(struct announce *announce, enum err code, const char *message)
{
    rpc_server_stream_fail(announce->stream, code, "%s", message);
}

bool
tracker_announce_is_of(const struct announce *announce, const uint8_t session_id[16])
{
    return memcmp(identity(announce)->session_id, session_id, sizeof(identity(announce)->session_id)) == 0;
}

static void
say_welcome(struct announce *announce)
{
    Fc__Tracker__V1__AnnounceResponse response = FC__TRACKER__V1__ANNOUNCE_RESPONSE__INIT;
    Fc__Tracker__V1__Welcome welcome = FC__TRACKER__V1__WELCOME__INIT;
    welcome.incarnation = announce->incarnation;
    welcome.heartbeat_ms = TRACKER_HEARTBEAT_MS;
    welcome.grant_key = tracker_wire_bytes(announce->tracker->grant_key, CRYPTO_KEY_BYTES);
    response.what_case = FC__TRACKER__V1__ANNOUNCE_RESPONSE__WHAT_WELCOME;
    response.welcome = &welcome;
    (void)!say(announce, &response); // the first message, for which there is room
}

// --- Hello ----------------------------------------------------------------------------------------------------------

// Whether an address means the machine of whoever uses it, or its link.
static bool
is_near(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0 ||
           strncmp(address, "localhost", 9) == 0 || strncmp(address, "0.0.0.0", 7) == 0 ||
           strncmp(address, "[::]", 4) == 0 || strncmp(address, "169.254.", 8) == 0 ||
           strncmp(address, "[fe80:", 6) == 0 || strncmp(address, "[::ffff:", 8) == 0 ||
           strncmp(address, "ipc", 3) == 0;
}

// The tracker and readers connect to where a source says that it is: not to their own machines, unless the source is
// on this one.
static enum err
check_reach(const struct announce *announce, const Fc__Tracker__V1__Source *hello, struct err_detail *why)
{
    if (is_near(rpc_call_peer_address(rpc_server_stream_call(announce->stream)))) {
        return ERR_OK;
    }
    for (size_t i = 0; i < hello->n_urls; i++) {
        const char *host = strstr(hello->urls[i], "://");
        if (host != NULL && is_near(host + strlen("://"))) {
            return err_fail(why, ERR_INVALID, "others cannot reach %s: give an address of this machine in the network",
                hello->urls[i]);
        }
    }
    return ERR_OK;
}

static enum err
read_hello(const struct announce *announce, const Fc__Tracker__V1__Source *wire, struct tracker_hello *out,
    struct err_detail *why)
{
    const struct rpc_identity *who = identity(announce);
    if (wire->id.len != TRACKER_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "id has %zu bytes; an id has %d", wire->id.len, TRACKER_ID_BYTES);
    }
    if (wire->certificate_sha256.len != 0 && wire->certificate_sha256.len != TRACKER_CERTIFICATE_BYTES) {
        return err_fail(why, ERR_INVALID, "certificate_sha256 has %zu bytes, and not %d", wire->certificate_sha256.len,
            TRACKER_CERTIFICATE_BYTES);
    }
    if (wire->kind == FC__TRACKER__V1__SOURCE_KIND__MIRROR && !who->is_admin) {
        return err_fail(why, ERR_DENIED, "only an administrator's token makes a mirror, which sees grants of others");
    }
    *out = (struct tracker_hello){
        .id = wire->id.data,
        .incarnation = wire->incarnation,
        .name = wire->name,
        .kind = (enum tracker_kind)wire->kind,
        .url_count = wire->n_urls,
        .urls = wire->urls,
        .certificate_sha256 = wire->certificate_sha256.len != 0 ? wire->certificate_sha256.data : NULL,
        .user_id = who->subject_id,
        .user_name = who->subject_name,
        .is_admin = who->is_admin,
        .state = wire->state == FC__TRACKER__V1__SOURCE_STATE__SOURCE_STATE_UNSPECIFIED
                     ? TRACKER_UP
                     : (enum tracker_state)wire->state,
    };
    tracker_wire_to_load(wire->load, &out->load);
    return check_reach(announce, wire, why);
}

static enum err
take_hello(struct announce *announce, const Fc__Tracker__V1__Source *wire, struct err_detail *why)
{
    struct tracker_service *tracker = announce->tracker;
    struct tracker_hello hello;
    void *previous = NULL;
    enum err err = read_hello(announce, wire, &hello, why);
    if (err != ERR_OK) {
        return err;
    }
    pthread_mutex_lock(&tracker->mutex);
    if (tracker->locked.is_stopping) {
        err = err_fail(why, ERR_UNAVAILABLE, "the tracker is shutting down");
    } else {
        err = tracker_core_announce(tracker->locked.core, &hello, announce, tracker_service_now(), &announce->source,
            &previous, why);
    }
    if (err == ERR_OK) {
        announce->incarnation = announce->source->incarnation;
        if (previous != NULL) {
            tracker_announce_end_locked(previous, ERR_CONFLICT, "the source has announced itself anew");
        }
        say_welcome(announce);
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
    return err;
}

// --- What it has ----------------------------------------------------------------------------------------------------

// Mirrors may have any file; a member's machine what its user may read.
static enum err
may_have(const struct announce *announce, const uint8_t file_id[TRACKER_ID_BYTES], uint64_t *segment_count_out)
{
    const struct tracker_service_options *options = &announce->tracker->options;
    bool is_mirror = announce->source->kind == TRACKER_MIRROR;
    return options->may_read(options->context, is_mirror ? NULL : identity(announce)->subject_id, file_id,
        segment_count_out);
}

static enum err
take_holding(struct announce *announce, const Fc__Segment__V1__Holding *wire, struct err_detail *why)
{
    struct tracker_service *tracker = announce->tracker;
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment_count = 0;
    enum err err = tracker_service_check_id("file_id", &wire->file_id, file_id, why);
    if (err != ERR_OK) {
        return err;
    }
    err = may_have(announce, file_id, &segment_count);
    if (err == ERR_NOT_FOUND) {
        say_refusal(announce, file_id);
        return ERR_OK;
    }
    if (err == ERR_OK && wire->segment_count != segment_count) {
        return err_fail(why, ERR_INVALID, "the file has %llu segments, not %llu", (unsigned long long)segment_count,
            (unsigned long long)wire->segment_count);
    }
    struct tracker_holding_view view = {
        .file_id = file_id,
        .segment_count = segment_count,
        .is_complete = wire->is_complete,
        .is_pull_through = wire->is_pull_through,
        .segments = bytes_view_of(wire->segments.data, wire->segments.len),
    };
    pthread_mutex_lock(&tracker->mutex);
    if (err == ERR_OK) {
        err = tracker_core_set_holding(tracker->locked.core, announce->source, announce->incarnation, &view, why);
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
    return err;
}

static enum err
apply_change(struct announce *announce, const struct tracker_change *change, bool may_add, struct err_detail *why)
{
    struct tracker_service *tracker = announce->tracker;
    pthread_mutex_lock(&tracker->mutex);
    enum err err = tracker_core_change_holding(tracker->locked.core, announce->source, announce->incarnation, change,
        may_add, why);
    tracker_service_wake_locked(tracker);
    pthread_mutex_unlock(&tracker->mutex);
    return err;
}

static enum err
take_change(struct announce *announce, const Fc__Tracker__V1__HoldingChange *wire, struct err_detail *why)
{
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment_count = 0;
    enum err err = tracker_service_check_id("file_id", &wire->file_id, file_id, why);
    if (err == ERR_OK && wire->n_ranges > TRACKER_RANGES_MAX) {
        err = err_fail(why, ERR_INVALID, "a change has at most %d ranges", TRACKER_RANGES_MAX);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct tracker_range *ranges = calloc(wire->n_ranges + 1, sizeof(*ranges));
    if (ranges == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < wire->n_ranges; i++) {
        const Fc__Tracker__V1__SegmentRange *range = wire->ranges[i];
        ranges[i] = (struct tracker_range){.first = range->first, .count = range->count, .is_gone = range->is_gone};
    }
    struct tracker_change change = {
        .file_id = file_id,
        .segment_count = wire->segment_count,
        .ranges = ranges,
        .range_count = wire->n_ranges,
    };
    err = apply_change(announce, &change, false, why);
    if (err == ERR_NOT_FOUND) {
        err = may_have(announce, file_id, &segment_count);
        if (err == ERR_OK && segment_count != change.segment_count) {
            err = err_fail(why, ERR_INVALID, "the file has %llu segments", (unsigned long long)segment_count);
        }
        if (err == ERR_OK) {
            err = apply_change(announce, &change, true, why);
        } else if (err == ERR_NOT_FOUND) {
            say_refusal(announce, file_id);
            err = ERR_OK;
        }
    }
    free(ranges);
    return err;
}

static void
take_heartbeat(struct announce *announce, const Fc__Tracker__V1__Heartbeat *wire)
{
    struct tracker_service *tracker = announce->tracker;
    struct tracker_load load;
    tracker_wire_to_load(wire->load, &load);
    pthread_mutex_lock(&tracker->mutex);
    enum tracker_state before = announce->source->state;
    tracker_core_heartbeat(tracker->locked.core, announce->source, announce->incarnation, &load,
        (enum tracker_state)wire->state, tracker_service_now());
    if (announce->source->state != before) {
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
}

static void
leave(struct announce *announce, bool is_goodbye)
{
    struct tracker_service *tracker = announce->tracker;
    pthread_mutex_lock(&tracker->mutex);
    if (announce->source != NULL) {
        tracker_core_leave(tracker->locked.core, announce->source, announce->incarnation, is_goodbye,
            tracker_service_now());
        tracker_service_wake_locked(tracker);
    }
    pthread_mutex_unlock(&tracker->mutex);
}

// --- The stream -----------------------------------------------------------------------------------------------------

static void
on_open(struct rpc_server_stream *stream, ProtobufCService *service)
{
    struct announce *announce = calloc(1, sizeof(*announce));
    if (announce == NULL) {
        rpc_server_stream_fail(stream, ERR_NO_MEMORY, "%s", err_sentence(ERR_NO_MEMORY));
        return;
    }
    announce->tracker = (struct tracker_service *)service;
    announce->stream = stream;
    rpc_server_stream_set_context(stream, announce);
}

static void
on_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    struct announce *announce = rpc_server_stream_context(stream);
    const Fc__Tracker__V1__AnnounceRequest *request = (const Fc__Tracker__V1__AnnounceRequest *)message;
    bool is_hello = request->what_case == FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HELLO;
    struct err_detail why = {0};
    enum err err = ERR_OK;
    if (is_hello != (announce->source == NULL)) {
        rpc_server_stream_fail(stream, ERR_PROTOCOL, "a source says hello, first and once");
        return;
    }
    switch (request->what_case) {
    case FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HELLO:
        err = take_hello(announce, request->hello, &why);
        break;
    case FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HEARTBEAT:
        take_heartbeat(announce, request->heartbeat);
        break;
    case FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_HOLDING:
        err = take_holding(announce, request->holding, &why);
        break;
    case FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_CHANGE:
        err = take_change(announce, request->change, &why);
        break;
    case FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT_GOODBYE:
        leave(announce, true);
        rpc_server_stream_finish(stream);
        break;
    case FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT__NOT_SET:
    case _FC__TRACKER__V1__ANNOUNCE_REQUEST__WHAT__CASE_IS_INT_SIZE:
        break; // of a later version
    }
    if (err != ERR_OK) {
        rpc_server_stream_fail(stream, err, "%s", err_message(&why, err));
    }
}

static void
on_end(struct rpc_server_stream *stream)
{
    rpc_server_stream_finish(stream);
}

static void
on_writable(struct rpc_server_stream *stream)
{
    struct announce *announce = rpc_server_stream_context(stream);
    pthread_mutex_lock(&announce->tracker->mutex);
    if (announce->command != 0) {
        tracker_announce_command_locked(announce, announce->command);
    }
    pthread_mutex_unlock(&announce->tracker->mutex);
}

static void
on_closed(struct rpc_server_stream *stream)
{
    struct announce *announce = rpc_server_stream_context(stream);
    if (announce == NULL) {
        return;
    }
    leave(announce, false);
    pthread_mutex_lock(&announce->tracker->mutex);
    if (announce->source != NULL) {
        tracker_source_release(announce->tracker->locked.core, announce->source);
    }
    pthread_mutex_unlock(&announce->tracker->mutex);
    free(announce);
}

const struct rpc_stream_handlers tracker_announce_handlers = {
    .on_open = on_open,
    .on_message = on_message,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
};
