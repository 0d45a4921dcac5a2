// The adapter between fc.segment.v1.SegmentServer and a backend. The order of a request: state, grant, its place in the
// file, its turn under the upload limit, the backend, the answer.
//
// Segments that have to wait for the limit stand in a list, first come first served, and nothing of them has been read
// yet: what waits costs the memory of a call. Lock order: the server's mutex comes before those of rpc/; the backend is
// called without it.
#include "swarm/swarm_server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/timer.h"
#include "rpc/rpc_call.h"
#include "swarm/swarm_grants_priv.h"

enum {
    REQUEST_MAX_BYTES = 1024, // ids, numbers and a grant
    IN_FLIGHT_DEFAULT = 1024,
    BURST_US = 100 * 1000, // an idle server sends this much at once, and no more
    RATE_SAMPLE_MS = 1000, // over which the speed is told
    BUSY_RETRY_MS = 200,
    US_PER_MS = 1000,
    US_PER_S = 1000 * 1000,
    MS_PER_S = 1000,
};

#define REASON_STOPPED "STOPPED"
#define REASON_EXPIRED "GRANT_EXPIRED"
#define REASON_NOT_HERE "SEGMENT_NOT_HERE"

struct ask_op {
    struct swarm_ask ask; // first: the backend gives its address
    struct swarm_server *swarm;
    struct rpc_call *call;
    ProtobufCClosure reply;
    bool is_segment;
    TAILQ_ENTRY(ask_op) link; // guarded by the server's mutex, while it waits
};

TAILQ_HEAD(ask_list, ask_op);

struct swarm_server {
    Fc__Segment__V1__SegmentServer_Service rpc; // first: handlers get its address

    // Immutable after new.
    struct rpc_server *server;
    struct swarm_backend backend;
    size_t max_in_flight;

    struct timer turn; // of the first that waits
    struct swarm_grants *grants;
    pthread_mutex_t mutex;
    pthread_cond_t is_idle;
    struct {
        enum swarm_state state;
        bool is_stopping;
        uint64_t limit_bytes_per_s;
        uint64_t free_us; // when the next segment may be sent
        struct ask_list waiting;
        size_t segments; // asked for and not answered
        size_t asks;     // in the hands of the backend, or waiting
        uint64_t sent_bytes;
        uint64_t sent_segments;
        uint64_t refused;
        // The speed of the last sample.
        uint64_t sample_ms;
        uint64_t sample_bytes; // of sent_bytes, when it began
        uint64_t bytes_per_s;
    } locked;
};

static ProtobufCBinaryData
wire_bytes(struct bytes_view view)
{
    return (ProtobufCBinaryData){.len = view.size, .data = (uint8_t *)(uintptr_t)view.data}; // a reply is only read
}

// --- Answers --------------------------------------------------------------------------------------------------------

// Frees; after it the server may be gone.
static void
ask_end(struct ask_op *op)
{
    struct swarm_server *swarm = op->swarm;
    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.segments -= op->is_segment;
    swarm->locked.asks--;
    if (swarm->locked.asks == 0) {
        pthread_cond_broadcast(&swarm->is_idle);
    }
    pthread_mutex_unlock(&swarm->mutex);
    free(op);
}

static void
fail_stopped(struct rpc_call *call)
{
    struct err_detail why;
    enum err err = err_fail(&why, ERR_UNAVAILABLE, "this server of segments has been stopped: ask another");
    rpc_call_fail_detail(call, err, &why, REASON_STOPPED, 0);
}

bool
swarm_ask_is_cancelled(const struct swarm_ask *ask)
{
    return rpc_call_is_cancelled(((const struct ask_op *)ask)->call);
}

void
swarm_ask_fail(struct swarm_ask *ask, enum err code, const struct err_detail *why)
{
    struct ask_op *op = (struct ask_op *)ask;
    struct err_detail general;
    const char *reason = NULL;
    if (code == ERR_NOT_FOUND && op->is_segment) {
        reason = REASON_NOT_HERE;
    }
    if (code == ERR_NOT_FOUND && (why == NULL || why->message[0] == '\0')) {
        err_fail(&general, code, op->is_segment ? "segment %llu is not here" : "nothing of this file is here",
            (unsigned long long)ask->index);
        why = &general;
    }
    rpc_call_fail_detail(op->call, code, why, reason, code == ERR_LIMIT ? BUSY_RETRY_MS : 0);
    ask_end(op);
}

void
swarm_ask_answer_segment(struct swarm_ask *ask, struct bytes_view data)
{
    struct ask_op *op = (struct ask_op *)ask;
    struct swarm_server *swarm = op->swarm;
    Fc__Segment__V1__GetSegmentResponse response = FC__SEGMENT__V1__GET_SEGMENT_RESPONSE__INIT;
    Fc__Segment__V1__Load load;
    swarm_server_read_load(swarm, &load);
    response.load = &load;
    response.data = wire_bytes(data);
    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.sent_bytes += data.size;
    swarm->locked.sent_segments++;
    pthread_mutex_unlock(&swarm->mutex);
    op->reply(&response.base, op->call);
    ask_end(op);
}

void
swarm_ask_answer_digests(struct swarm_ask *ask, struct bytes_view sha256s)
{
    struct ask_op *op = (struct ask_op *)ask;
    Fc__Segment__V1__GetManifestResponse response = FC__SEGMENT__V1__GET_MANIFEST_RESPONSE__INIT;
    response.segment_sha256s = wire_bytes(sha256s);
    op->reply(&response.base, op->call);
    ask_end(op);
}

void
swarm_ask_answer_holding(struct swarm_ask *ask, const struct swarm_holding *holding)
{
    struct ask_op *op = (struct ask_op *)ask;
    Fc__Segment__V1__GetHoldingsResponse response = FC__SEGMENT__V1__GET_HOLDINGS_RESPONSE__INIT;
    Fc__Segment__V1__Holding wire = FC__SEGMENT__V1__HOLDING__INIT;
    Fc__Segment__V1__Load load;
    swarm_server_read_load(op->swarm, &load);
    wire.file_id = wire_bytes(bytes_view_of(ask->grant.file_id, sizeof(ask->grant.file_id)));
    wire.segment_count = ask->segment_count;
    wire.is_complete = holding->is_complete;
    wire.is_pull_through = holding->is_pull_through;
    wire.segments = wire_bytes(holding->segments);
    response.holding = &wire;
    response.load = &load;
    op->reply(&response.base, op->call);
    ask_end(op);
}

// --- Turns under the upload limit -----------------------------------------------------------------------------------

static void
serve(struct ask_op *op)
{
    const struct swarm_backend *backend = &op->swarm->backend;
    if (rpc_call_is_cancelled(op->call)) {
        swarm_ask_fail(&op->ask, ERR_CANCELLED, NULL);
    } else {
        backend->read_segment(backend->context, &op->ask);
    }
}

// Takes the first that waits if it is its turn. Those whose callers have gone cost nothing.
static struct ask_op *
take_due_locked(struct swarm_server *swarm, uint64_t now_us)
{
    struct ask_op *op = TAILQ_FIRST(&swarm->locked.waiting);
    uint64_t limit = swarm->locked.limit_bytes_per_s;
    if (op == NULL) {
        return NULL;
    }
    bool is_gone = rpc_call_is_cancelled(op->call);
    if (limit != 0 && !is_gone) {
        if (now_us < swarm->locked.free_us) {
            return NULL;
        }
        uint64_t since_us = now_us > BURST_US ? now_us - BURST_US : 0;
        uint64_t from_us = swarm->locked.free_us > since_us ? swarm->locked.free_us : since_us;
        swarm->locked.free_us = from_us + (uint64_t)op->ask.size * US_PER_S / limit;
    }
    TAILQ_REMOVE(&swarm->locked.waiting, op, link);
    return op;
}

// Serves all whose turn it is, and has the timer come for the next.
static void
serve_due(struct swarm_server *swarm)
{
    for (;;) {
        enum err err = ERR_OK;
        uint64_t now_us = clock_monotonic_us();
        pthread_mutex_lock(&swarm->mutex);
        struct ask_op *op = take_due_locked(swarm, now_us);
        struct ask_op *next = TAILQ_FIRST(&swarm->locked.waiting);
        if (op == NULL && next != NULL) {
            err = timer_start(rpc_server_timers(swarm->server), &swarm->turn,
                (swarm->locked.free_us - now_us) / US_PER_MS + 1);
            if (err != ERR_OK) {
                TAILQ_REMOVE(&swarm->locked.waiting, next, link);
            }
        }
        pthread_mutex_unlock(&swarm->mutex);
        if (op != NULL) {
            serve(op);
        } else if (err != ERR_OK) {
            swarm_ask_fail(&next->ask, err, NULL); // no memory for a timer: it cannot wait
        } else {
            return;
        }
    }
}

static void
on_turn(struct timer *timer)
{
    serve_due((struct swarm_server *)((char *)timer - offsetof(struct swarm_server, turn)));
}

static void
refuse_waiting(struct swarm_server *swarm)
{
    struct ask_list waiting = TAILQ_HEAD_INITIALIZER(waiting);
    pthread_mutex_lock(&swarm->mutex);
    TAILQ_CONCAT(&waiting, &swarm->locked.waiting, link);
    pthread_mutex_unlock(&swarm->mutex);
    while (!TAILQ_EMPTY(&waiting)) {
        struct ask_op *op = TAILQ_FIRST(&waiting);
        TAILQ_REMOVE(&waiting, op, link);
        fail_stopped(op->call);
        ask_end(op);
    }
}

// --- Requests -------------------------------------------------------------------------------------------------------

static void
count_refusal(struct swarm_server *swarm)
{
    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.refused++;
    pthread_mutex_unlock(&swarm->mutex);
}

// Checks the grant of a request and fills what follows from it. Answers by itself when it is none.
static bool
check_grant(struct swarm_server *swarm, struct rpc_call *call, const ProtobufCBinaryData *file_id,
    const Fc__Segment__V1__SignedGrant *wire, struct swarm_ask *ask)
{
    struct err_detail why = {0};
    const char *reason = NULL;
    enum err err = ERR_OK;
    if (file_id->len != E2E_GRANT_ID_BYTES) {
        err = err_fail(&why, ERR_INVALID, "file_id has %zu bytes; an id has %d", file_id->len, E2E_GRANT_ID_BYTES);
    } else if (wire == NULL) {
        err = err_fail(&why, ERR_DENIED, "the request has no grant: ask the file store for one");
    } else {
        ask->encoded_grant = bytes_view_of(wire->grant.data, wire->grant.len);
        ask->signature = bytes_view_of(wire->signature.data, wire->signature.len);
        err = swarm_grants_check(swarm->grants, ask->encoded_grant, ask->signature, file_id->data, clock_unix_ms(),
            &ask->grant, &why);
    }
    if (err == ERR_TIMEOUT) {
        err = ERR_UNAUTHENTICATED;
        reason = REASON_EXPIRED;
    }
    if (err == ERR_OK && ask->grant.size_bytes > 0 &&
        (ask->grant.segment_size_bytes == 0 || ask->grant.segment_size_bytes > SWARM_SEGMENT_MAX_BYTES)) {
        err = err_fail(&why, ERR_INVALID, "the grant is for segments of %lu bytes",
            (unsigned long)ask->grant.segment_size_bytes);
    }
    if (err != ERR_OK) {
        count_refusal(swarm);
        rpc_call_fail_detail(call, err, &why, reason, 0);
        return false;
    }
    if (ask->grant.size_bytes > 0) {
        ask->segment_count = (ask->grant.size_bytes - 1) / ask->grant.segment_size_bytes + 1;
    }
    return true;
}

static bool
check_index(struct rpc_call *call, struct swarm_ask *ask, uint64_t index)
{
    if (index >= ask->segment_count) {
        rpc_call_fail(call, ERR_OUT_OF_RANGE, "the file has %llu segments, counted from 0: there is no segment %llu",
            (unsigned long long)ask->segment_count, (unsigned long long)index);
        return false;
    }
    uint64_t left = ask->grant.size_bytes - index * ask->grant.segment_size_bytes;
    ask->index = index;
    ask->size = left < ask->grant.segment_size_bytes ? (uint32_t)left : ask->grant.segment_size_bytes;
    return true;
}

// Counts a request in. Answers by itself when the server takes none.
static struct ask_op *
admit(struct swarm_server *swarm, struct rpc_call *call, const struct swarm_ask *ask, bool is_segment,
    ProtobufCClosure reply)
{
    struct ask_op *op = malloc(sizeof(*op));
    if (op == NULL) {
        rpc_call_fail_detail(call, ERR_NO_MEMORY, NULL, NULL, BUSY_RETRY_MS);
        return NULL;
    }
    *op = (struct ask_op){.ask = *ask, .swarm = swarm, .call = call, .reply = reply, .is_segment = is_segment};
    pthread_mutex_lock(&swarm->mutex);
    bool is_stopped = swarm->locked.is_stopping || swarm->locked.state != SWARM_UP;
    bool is_full = is_segment && swarm->locked.segments >= swarm->max_in_flight;
    if (!is_stopped && !is_full) {
        swarm->locked.asks++;
        swarm->locked.segments += is_segment;
        if (is_segment) {
            TAILQ_INSERT_TAIL(&swarm->locked.waiting, op, link);
        }
    }
    pthread_mutex_unlock(&swarm->mutex);
    if (is_stopped) {
        fail_stopped(call);
    } else if (is_full) {
        struct err_detail why;
        enum err err = err_fail(&why, ERR_LIMIT, "this server of segments has enough to do: ask another, or later");
        rpc_call_fail_detail(call, err, &why, NULL, BUSY_RETRY_MS);
    } else {
        return op;
    }
    free(op);
    return NULL;
}

static void
get_manifest(Fc__Segment__V1__SegmentServer_Service *service, const Fc__Segment__V1__GetManifestRequest *request,
    Fc__Segment__V1__GetManifestResponse_Closure reply, void *closure_data)
{
    struct swarm_server *swarm = (struct swarm_server *)service;
    struct swarm_ask ask = {0};
    if (!check_grant(swarm, closure_data, &request->file_id, request->grant, &ask) ||
        !check_index(closure_data, &ask, request->first_segment)) {
        return;
    }
    struct ask_op *op = admit(swarm, closure_data, &ask, false, (ProtobufCClosure)reply);
    if (op != NULL) {
        swarm->backend.read_digests(swarm->backend.context, &op->ask);
    }
}

static void
get_segment(Fc__Segment__V1__SegmentServer_Service *service, const Fc__Segment__V1__GetSegmentRequest *request,
    Fc__Segment__V1__GetSegmentResponse_Closure reply, void *closure_data)
{
    struct swarm_server *swarm = (struct swarm_server *)service;
    struct swarm_ask ask = {0};
    if (check_grant(swarm, closure_data, &request->file_id, request->grant, &ask) &&
        check_index(closure_data, &ask, request->index) &&
        admit(swarm, closure_data, &ask, true, (ProtobufCClosure)reply) != NULL) {
        serve_due(swarm);
    }
}

static void
get_holdings(Fc__Segment__V1__SegmentServer_Service *service, const Fc__Segment__V1__GetHoldingsRequest *request,
    Fc__Segment__V1__GetHoldingsResponse_Closure reply, void *closure_data)
{
    struct swarm_server *swarm = (struct swarm_server *)service;
    struct swarm_ask ask = {0};
    if (!check_grant(swarm, closure_data, &request->file_id, request->grant, &ask)) {
        return;
    }
    struct ask_op *op = admit(swarm, closure_data, &ask, false, (ProtobufCClosure)reply);
    if (op != NULL) {
        swarm->backend.read_holding(swarm->backend.context, &op->ask);
    }
}

static const struct rpc_method_rule rules[] = {
    {.method = "GetManifest", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = REQUEST_MAX_BYTES},
    {.method = "GetSegment", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = REQUEST_MAX_BYTES},
    {.method = "GetHoldings", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = REQUEST_MAX_BYTES},
};

// --- State and figures ----------------------------------------------------------------------------------------------

void
swarm_server_set_key(struct swarm_server *swarm, const uint8_t key[CRYPTO_KEY_BYTES])
{
    swarm_grants_set_key(swarm->grants, key);
}

void
swarm_server_set_state(struct swarm_server *swarm, enum swarm_state state)
{
    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.state = state;
    pthread_mutex_unlock(&swarm->mutex);
    if (state == SWARM_STOPPED) {
        refuse_waiting(swarm);
    }
}

enum swarm_state
swarm_server_state(struct swarm_server *swarm)
{
    pthread_mutex_lock(&swarm->mutex);
    enum swarm_state state = swarm->locked.state;
    pthread_mutex_unlock(&swarm->mutex);
    return state;
}

void
swarm_server_set_limit(struct swarm_server *swarm, uint64_t bytes_per_s)
{
    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.limit_bytes_per_s = bytes_per_s;
    swarm->locked.free_us = 0;
    pthread_mutex_unlock(&swarm->mutex);
    serve_due(swarm);
}

void
swarm_server_read_load(struct swarm_server *swarm, Fc__Segment__V1__Load *out)
{
    struct swarm_stored stored = {0};
    struct rpc_load load;
    uint64_t now_ms = clock_monotonic_ms();
    rpc_server_read_load(swarm->server, &load);
    if (swarm->backend.read_stored != NULL) {
        swarm->backend.read_stored(swarm->backend.context, &stored);
    }
    fc__segment__v1__load__init(out);
    out->cpu_permille = load.cpu_permille;
    out->connections = load.connections;
    out->stored_bytes = stored.bytes;
    out->budget_bytes = stored.budget_bytes;
    out->file_count = stored.file_count;
    out->segment_count = stored.segment_count;
    pthread_mutex_lock(&swarm->mutex);
    uint64_t passed_ms = now_ms - swarm->locked.sample_ms;
    if (passed_ms >= RATE_SAMPLE_MS) {
        swarm->locked.bytes_per_s = (swarm->locked.sent_bytes - swarm->locked.sample_bytes) * MS_PER_S / passed_ms;
        swarm->locked.sample_bytes = swarm->locked.sent_bytes;
        swarm->locked.sample_ms = now_ms;
    }
    out->sent_bytes_per_s = swarm->locked.bytes_per_s;
    out->segments_in_flight = (uint32_t)swarm->locked.segments;
    out->sent_bytes = swarm->locked.sent_bytes;
    out->sent_segments = swarm->locked.sent_segments;
    out->limit_bytes_per_s = swarm->locked.limit_bytes_per_s;
    pthread_mutex_unlock(&swarm->mutex);
}

static uint64_t
read_locked(struct swarm_server *swarm, const uint64_t *figure)
{
    pthread_mutex_lock(&swarm->mutex);
    uint64_t value = *figure;
    pthread_mutex_unlock(&swarm->mutex);
    return value;
}

static uint64_t
read_sent_segments(void *context)
{
    struct swarm_server *swarm = context;
    return read_locked(swarm, &swarm->locked.sent_segments);
}

static uint64_t
read_sent_bytes(void *context)
{
    struct swarm_server *swarm = context;
    return read_locked(swarm, &swarm->locked.sent_bytes);
}

static uint64_t
read_refused(void *context)
{
    struct swarm_server *swarm = context;
    return read_locked(swarm, &swarm->locked.refused);
}

enum err
swarm_server_add_metrics(struct swarm_server *swarm)
{
    const struct rpc_metric metrics[] = {
        {"fc_segments_sent_total", "Segments sent to readers.", true, read_sent_segments, swarm},
        {"fc_segment_bytes_sent_total", "Content of the segments sent to readers.", true, read_sent_bytes, swarm},
        {"fc_segment_grants_refused_total", "Requests for segments without a grant that holds.", true, read_refused,
            swarm},
    };
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        err = rpc_server_add_metric(swarm->server, &metrics[i]);
    }
    return err;
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

enum err
swarm_server_new(const struct swarm_server_options *options, struct swarm_server **out)
{
    struct swarm_server *swarm = calloc(1, sizeof(*swarm));
    if (swarm == NULL) {
        return ERR_NO_MEMORY;
    }
    swarm->rpc = (Fc__Segment__V1__SegmentServer_Service){
        .base = {.descriptor = &fc__segment__v1__segment_server__descriptor,
            .invoke = protobuf_c_service_invoke_internal},
        .get_manifest = get_manifest,
        .get_segment = get_segment,
        .get_holdings = get_holdings,
    };
    swarm->server = options->server;
    swarm->backend = options->backend;
    swarm->max_in_flight =
        options->max_segments_in_flight != 0 ? options->max_segments_in_flight : (size_t)IN_FLIGHT_DEFAULT;
    swarm->turn.on_expiry = on_turn;
    pthread_mutex_init(&swarm->mutex, NULL);
    pthread_cond_init(&swarm->is_idle, NULL);
    TAILQ_INIT(&swarm->locked.waiting);
    swarm->locked.limit_bytes_per_s = options->limit_bytes_per_s;
    swarm->locked.sample_ms = clock_monotonic_ms();
    enum err err = swarm_grants_new(&swarm->grants);
    if (err != ERR_OK) {
        swarm_server_free(&swarm);
        return err;
    }
    *out = swarm;
    return ERR_OK;
}

ProtobufCService *
swarm_server_rpc(struct swarm_server *swarm)
{
    return &swarm->rpc.base;
}

const struct rpc_method_rule *
swarm_server_rules(size_t *count_out)
{
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

void
swarm_server_stop(struct swarm_server *swarm)
{
    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.is_stopping = true;
    pthread_mutex_unlock(&swarm->mutex);
    refuse_waiting(swarm);
    (void)timer_stop(rpc_server_timers(swarm->server), &swarm->turn);
}

void
swarm_server_free(struct swarm_server **swarm_ref)
{
    struct swarm_server *swarm = *swarm_ref;
    if (swarm == NULL) {
        return;
    }
    pthread_mutex_lock(&swarm->mutex);
    while (swarm->locked.asks != 0) {
        pthread_cond_wait(&swarm->is_idle, &swarm->mutex);
    }
    pthread_mutex_unlock(&swarm->mutex);
    swarm_grants_free(&swarm->grants);
    pthread_cond_destroy(&swarm->is_idle);
    pthread_mutex_destroy(&swarm->mutex);
    free(swarm);
    *swarm_ref = NULL;
}
