// The tracker's own connections to sources: whether they answer, and whether a segment that a reader calls bad is bad.
// Both wait for the network, on threads of their own.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/log.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_tls.h"
#include "services/tracker/tracker_service_priv.h"

#include "fc/rpc/v1/health.stub.h"
#include "fc/segment/v1/segment.stub.h"

enum {
    PROBES_MAX = 8,  // at once; as many threads
    CHECKS_MAX = 16, // waiting or under way
    CONNECT_TIMEOUT_MS = 1000,
    PROBE_TIMEOUT_MS = 1500,
    CHECK_TIMEOUT_MS = 5000,
    URLS_BYTES = TRACKER_URLS_MAX * RPC_URL_MAX_BYTES,
};

// A source as it was when the work began.
struct visit {
    struct work work; // first: the pool gives its address
    struct tracker_service *tracker;
    struct tracker_source *source; // a reference
    uint64_t incarnation;
    enum tracker_kind kind;
    char urls[URLS_BYTES];
    bool has_certificate;
    uint8_t certificate_sha256[TRACKER_CERTIFICATE_BYTES];
    uint8_t file_id[TRACKER_ID_BYTES];
    uint64_t segment;
};

static struct visit *
visit_new(struct tracker_service *tracker, struct tracker_source *source, work_fn *run)
{
    struct visit *visit = calloc(1, sizeof(*visit));
    size_t used = 0;
    if (visit == NULL) {
        return NULL;
    }
    visit->work.run = run;
    visit->tracker = tracker;
    visit->source = source;
    visit->incarnation = source->incarnation;
    visit->kind = source->kind;
    for (size_t i = 0; i < source->url_count && used < sizeof(visit->urls); i++) {
        used += (size_t)snprintf(visit->urls + used, sizeof(visit->urls) - used, "%s%s", i == 0 ? "" : ",",
            source->urls[i]);
    }
    visit->has_certificate = source->has_certificate;
    memcpy(visit->certificate_sha256, source->certificate_sha256, sizeof(visit->certificate_sha256));
    return visit;
}

static enum err
open_channel(const struct visit *visit, struct rpc_channel **out)
{
    struct rpc_tls_client *tls = NULL;
    enum err err = ERR_OK;
    if (visit->has_certificate) {
        struct rpc_tls_client_options trust = {.fingerprint = visit->certificate_sha256};
        err = rpc_tls_client_new(&trust, &tls, NULL);
    }
    if (err == ERR_OK) {
        struct rpc_channel_options options = {
            .url = visit->urls,
            .tls = tls,
            .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        };
        err = rpc_channel_new(&options, out, NULL);
    }
    rpc_tls_client_free(&tls);
    return err;
}

// --- Whether it answers ---------------------------------------------------------------------------------------------

static bool
answers(const struct visit *visit)
{
    Fc__Rpc__V1__HealthCheckRequest request = FC__RPC__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_channel *channel = NULL;
    struct rpc_unary call;
    if (open_channel(visit, &channel) != ERR_OK) {
        return false;
    }
    fc_rpc_v1_health_init(&call, channel);
    call.timeout_ms = PROBE_TIMEOUT_MS;
    enum err err = fc_rpc_v1_health_check(&call, &request, NULL);
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    return err == ERR_OK;
}

static void
run_probe(struct work *work)
{
    struct visit *visit = (struct visit *)work;
    struct tracker_service *tracker = visit->tracker;
    bool is_reachable = answers(visit);
    pthread_mutex_lock(&tracker->mutex);
    tracker_core_probed(tracker->locked.core, visit->source, visit->incarnation, is_reachable, tracker_service_now());
    tracker_source_release(tracker->locked.core, visit->source);
    tracker->locked.probes--;
    tracker_service_wake_locked(tracker);
    pthread_mutex_unlock(&tracker->mutex);
    free(visit);
}

uint64_t
tracker_probe_due_locked(struct tracker_service *tracker, uint64_t now_ms)
{
    uint64_t wait_ms = UINT64_MAX;
    while (tracker->locked.probes < PROBES_MAX && !tracker->locked.is_stopping) {
        struct tracker_source *source = tracker_core_take_probe(tracker->locked.core, now_ms, &wait_ms);
        if (source == NULL) {
            break;
        }
        struct visit *visit = visit_new(tracker, source, run_probe);
        if (visit == NULL) {
            tracker_core_unprobed(tracker->locked.core, source);
            break;
        }
        tracker->locked.probes++;
        work_pool_submit(tracker->probe_pool, &visit->work);
    }
    return wait_ms;
}

// --- Whether a segment is bad ---------------------------------------------------------------------------------------

// False also when it cannot be fetched: only what was seen counts.
static bool
is_bad(const struct visit *visit, const struct tracker_proof *proof)
{
    Fc__Segment__V1__GetSegmentRequest request = FC__SEGMENT__V1__GET_SEGMENT_REQUEST__INIT;
    Fc__Segment__V1__SignedGrant grant = FC__SEGMENT__V1__SIGNED_GRANT__INIT;
    const Fc__Segment__V1__GetSegmentResponse *response = NULL;
    struct rpc_channel *channel = NULL;
    struct rpc_unary call;
    uint8_t sha256[sizeof(proof->sha256)];
    if (open_channel(visit, &channel) != ERR_OK) {
        return false;
    }
    grant.grant = tracker_wire_bytes(proof->grant.data, proof->grant.size);
    grant.signature = tracker_wire_bytes(proof->signature, sizeof(proof->signature));
    request.file_id = tracker_wire_bytes(visit->file_id, sizeof(visit->file_id));
    request.grant = &grant;
    request.index = visit->segment;
    fc_segment_v1_segment_server_init(&call, channel);
    call.timeout_ms = CHECK_TIMEOUT_MS;
    enum err err = fc_segment_v1_segment_server_get_segment(&call, &request, &response);
    bool is_fetched = err == ERR_OK;
    if (is_fetched) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(response->data.data, response->data.len), sha256);
    }
    bool is_other = is_fetched && err == ERR_OK && memcmp(sha256, proof->sha256, sizeof(sha256)) != 0;
    rpc_unary_deinit(&call);
    rpc_channel_free(&channel);
    return is_other;
}

static void
blame_locked(struct tracker_service *tracker, const struct visit *visit)
{
    struct tracker_source *source = visit->source;
    log_warn("TRACKER-BAD-SEGMENT", NULL, "the source \"%s\" of %s has sent a bad segment", source->name,
        source->user_name);
    tracker_core_blame(tracker->locked.core, source, visit->incarnation, tracker_service_now());
    if (source->owner != NULL && source->incarnation == visit->incarnation) {
        tracker_announce_suspect_locked(source->owner, visit->file_id, visit->segment);
    }
    tracker_service_wake_locked(tracker);
}

static void
run_check(struct work *work)
{
    struct visit *visit = (struct visit *)work;
    struct tracker_service *tracker = visit->tracker;
    const struct tracker_service_options *options = &tracker->options;
    struct tracker_proof proof = {0};
    bool was_bad = false;
    if (visit->kind == TRACKER_ORIGIN) {
        options->check_origin(options->context, visit->file_id, visit->segment);
    } else if (options->prove(options->context, visit->file_id, visit->segment, &proof) == ERR_OK) {
        was_bad = is_bad(visit, &proof);
    }
    bytes_free(&proof.grant);
    pthread_mutex_lock(&tracker->mutex);
    if (was_bad) {
        blame_locked(tracker, visit);
    }
    tracker_source_release(tracker->locked.core, visit->source);
    tracker->locked.checks--;
    pthread_mutex_unlock(&tracker->mutex);
    free(visit);
}

enum err
tracker_probe_check(struct tracker_service *tracker, const uint8_t source_id[TRACKER_ID_BYTES], uint64_t incarnation,
    const uint8_t file_id[TRACKER_ID_BYTES], uint64_t segment)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&tracker->mutex);
    struct tracker_source *source = tracker_core_find_id(tracker->locked.core, source_id);
    bool is_there = source != NULL && source->incarnation == incarnation && source->state != TRACKER_DEAD &&
                    source->state != TRACKER_QUARANTINED && !tracker->locked.is_stopping;
    if (is_there && tracker->locked.checks >= CHECKS_MAX) {
        err = ERR_LIMIT;
    } else if (is_there) {
        struct visit *visit = visit_new(tracker, source, run_check);
        err = visit == NULL ? ERR_NO_MEMORY : ERR_OK;
        if (visit != NULL) {
            memcpy(visit->file_id, file_id, sizeof(visit->file_id));
            visit->segment = segment;
            tracker_source_hold(source);
            tracker->locked.checks++;
            work_pool_submit(tracker->check_pool, &visit->work);
        }
    }
    pthread_mutex_unlock(&tracker->mutex);
    return err;
}
