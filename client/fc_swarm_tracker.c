// What a download asks of the session's server besides segments: grants, and who has what. Nothing of it is needed to
// go on with the sources that are known; it fails and is tried again.
#include <stdio.h>
#include <string.h>

#include "client/fc_lend_priv.h"
#include "client/fc_swarm_core_priv.h"
#include "client/fc_transfer_priv.h"

#include "fc/filestore/v1/filestore.stub.h"
#include "fc/tracker/v1/tracker.stub.h"

enum {
    US_PER_S = 1000 * 1000,
    GRANT_RENEW_US = 240 * US_PER_S, // it lasts ten minutes
    RETRY_US = US_PER_S,
    CALL_TIMEOUT_MS = 10 * 1000,
    PICKS_AT_ONCE = 4,
    RECENT_US = US_PER_S / 2, // a source that has sent something since is not dead, whoever says so
    ID_BYTES = 16,
};

// ---- Grants ----

void
fc_swarm_tend_grant(struct fc_swarm *swarm)
{
    uint64_t now_us = fc_swarm_now_us();
    Fc__Filestore__V1__GetGrantRequest request = FC__FILESTORE__V1__GET_GRANT_REQUEST__INIT;

    if (!swarm->grant.is_wanted || swarm->grant.is_asked || now_us < swarm->grant.renew_us ||
        now_us < swarm->grant.retry_us) {
        return;
    }
    struct fc_swarm_call *call = fc_swarm_call_new(swarm, FC_SWARM_CALL_GRANT, 0);
    if (call == NULL) {
        return;
    }
    swarm->grant.is_asked = true;
    request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
    fc_swarm_call_init(call, fc_session_channel(swarm->job->session), &fc__filestore__v1__file_store__descriptor,
        CALL_TIMEOUT_MS);
    fc_filestore_v1_file_store_get_grant_start(&call->rpc, &request);
}

static void
probe_waiting(struct fc_swarm *swarm)
{
    for (unsigned i = 0; i < swarm->peer_count; i++) {
        if (swarm->peers[i].is_waiting) {
            swarm->peers[i].is_waiting = false;
            fc_swarm_probe(swarm, i);
        }
    }
}

void
fc_swarm_grant_ended(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    const Fc__Filestore__V1__GetGrantResponse *response = fc_filestore_v1_file_store_get_grant_response(&call->rpc);
    enum err err = fc_transfer_error(&call->rpc);
    uint64_t now_us = fc_swarm_now_us();

    swarm->grant.is_asked = false;
    swarm->grant.retry_us = now_us + RETRY_US;
    if (err == ERR_OK && response->grant.len <= sizeof(swarm->grant.bytes) &&
        response->signature.len == sizeof(swarm->grant.signature)) {
        memcpy(swarm->grant.bytes, response->grant.data, response->grant.len);
        swarm->grant.size = response->grant.len;
        memcpy(swarm->grant.signature, response->signature.data, response->signature.len);
        swarm->grant.is_there = true;
        swarm->grant.renew_us = now_us + GRANT_RENEW_US;
        probe_waiting(swarm);
        return;
    }
    if (err == ERR_UNIMPLEMENTED) {
        swarm->grant.is_wanted = false;
        if (swarm->origin < 0) {
            fc_swarm_fail(swarm, err, "this server gives no grants, so that a file can be fetched from it alone");
        }
    } else if (!fc_transfer_is_passing(err) && err != ERR_OK && (!swarm->grant.is_there || err != ERR_INTERNAL)) {
        fc_swarm_fail(swarm, err, err_message(&call->rpc.status.detail, err));
    }
}

// ---- Who has what ----

static int
find_peer(const struct fc_swarm *swarm, ProtobufCBinaryData id)
{
    for (unsigned i = 0; i < swarm->peer_count && id.len == ID_BYTES; i++) {
        if (swarm->peers[i].has_id && memcmp(swarm->peers[i].id, id.data, ID_BYTES) == 0) {
            return (int)i;
        }
    }
    return -1;
}

enum err
fc_swarm_take_holding(struct fc_swarm *swarm, unsigned number, const Fc__Segment__V1__Holding *holding)
{
    if (holding->segment_count != 0 && holding->segment_count != swarm->segment_count) {
        return ERR_PROTOCOL;
    }
    return fc_swarm_plan_holding(swarm->plan, number, holding->is_complete || holding->is_pull_through,
        bytes_view_of(holding->segments.data, holding->segments.len));
}

// make_tls makes what channels to a source need: the tracker says by which certificate it is known. ERR_INVALID: it
// says nothing that could be trusted.
static enum err
make_tls(const Fc__Tracker__V1__Source *source, const char *url, struct rpc_tls_client **out)
{
    *out = NULL;
    if (strncmp(url, "tls+tcp://", 10) != 0) {
        return ERR_OK;
    }
    if (source->certificate_sha256.len != RPC_TLS_FINGERPRINT_BYTES) {
        return ERR_INVALID;
    }
    return rpc_tls_client_new(&(struct rpc_tls_client_options){.fingerprint = source->certificate_sha256.data}, out,
        NULL);
}

static void
add_source(struct fc_swarm *swarm, const Fc__Tracker__V1__Source *source)
{
    struct rpc_tls_client *tls = NULL;
    struct rpc_channel *channel = NULL;
    unsigned number = 0;

    if (source->n_urls == 0 || source->state != FC__TRACKER__V1__SOURCE_STATE__UP ||
        strchr(source->urls[0], ',') != NULL || make_tls(source, source->urls[0], &tls) != ERR_OK) {
        return;
    }
    enum err err = rpc_channel_new(&(struct rpc_channel_options){.url = source->urls[0], .tls = tls}, &channel, NULL);
    rpc_channel_free(&channel);
    if (err != ERR_OK) {
        rpc_tls_client_free(&tls);
        return;
    }
    enum fc_swarm_kind kind =
        source->kind == FC__TRACKER__V1__SOURCE_KIND__MIRROR ? FC_SWARM_KIND_MIRROR : FC_SWARM_KIND_PEER;
    if (fc_swarm_add_peer(swarm, kind, source->name, source->urls[0], tls, &number) == ERR_OK) {
        struct fc_swarm_peer *peer = &swarm->peers[number];
        memcpy(peer->id, source->id.data, ID_BYTES);
        peer->has_id = true;
        peer->incarnation = source->incarnation;
    }
}

// follow_state does what a new state asks for, at once.
static void
follow_state(struct fc_swarm *swarm, unsigned number, const Fc__Tracker__V1__Source *source)
{
    uint64_t now_us = fc_swarm_now_us();

    switch ((int)source->state) {
    case FC__TRACKER__V1__SOURCE_STATE__UP:
        fc_swarm_plan_woken(swarm->plan, number, now_us);
        break;
    case FC__TRACKER__V1__SOURCE_STATE__DRAINING:
        fc_swarm_plan_down(swarm->plan, number, FC_SWARM_STATE_DRAINING, now_us);
        break;
    case FC__TRACKER__V1__SOURCE_STATE__STOPPED:
        fc_swarm_plan_down(swarm->plan, number, FC_SWARM_STATE_STOPPED, now_us);
        break;
    case FC__TRACKER__V1__SOURCE_STATE__DEAD:
        if (!fc_swarm_plan_is_heard(swarm->plan, number, now_us - RECENT_US)) {
            fc_swarm_plan_down(swarm->plan, number, FC_SWARM_STATE_DOWN, now_us);
        }
        break;
    case FC__TRACKER__V1__SOURCE_STATE__QUARANTINED:
        fc_swarm_plan_down(swarm->plan, number, FC_SWARM_STATE_BANNED, now_us);
        break;
    case FC__TRACKER__V1__SOURCE_STATE__SOURCE_STATE_UNSPECIFIED:
    default:
        break;
    }
}

static void
take_source(struct fc_swarm *swarm, const Fc__Tracker__V1__Source *source)
{
    if (source->id.len != ID_BYTES) {
        return;
    }
    if (source->kind == FC__TRACKER__V1__SOURCE_KIND__ORIGIN) {
        if (swarm->origin >= 0) {
            struct fc_swarm_peer *peer = &swarm->peers[swarm->origin];
            memcpy(peer->id, source->id.data, ID_BYTES);
            peer->has_id = true;
            peer->incarnation = source->incarnation;
            // Its server of segments may be stopped; whether it is there we see ourselves.
            if (source->state != FC__TRACKER__V1__SOURCE_STATE__DEAD) {
                follow_state(swarm, (unsigned)swarm->origin, source);
            }
        }
        return;
    }
    int number = find_peer(swarm, source->id);
    if (number < 0) {
        add_source(swarm, source);
        return;
    }
    struct fc_swarm_peer *peer = &swarm->peers[number];
    if (source->incarnation < peer->incarnation) {
        return; // of before
    }
    if (source->n_urls != 0 && strcmp(source->urls[0], peer->url) != 0) {
        struct rpc_tls_client *tls = NULL;
        if (strchr(source->urls[0], ',') == NULL && make_tls(source, source->urls[0], &tls) == ERR_OK) {
            fc_swarm_plan_down(swarm->plan, (unsigned)number, FC_SWARM_STATE_DOWN, fc_swarm_now_us());
            fc_swarm_move_peer(swarm, (unsigned)number, source->urls[0], tls);
        }
    }
    peer->incarnation = source->incarnation;
    if (source->load != NULL) {
        fc_swarm_plan_load(swarm->plan, (unsigned)number, source->load->cpu_permille);
    }
    follow_state(swarm, (unsigned)number, source);
}

static enum err
take_change(struct fc_swarm *swarm, const Fc__Tracker__V1__SourceChange *what)
{
    int number = find_peer(swarm, what->source_id);
    enum err err = ERR_OK;

    if (number < 0 || what->change == NULL || what->change->segment_count != swarm->segment_count ||
        what->incarnation < swarm->peers[number].incarnation) {
        return ERR_OK;
    }
    for (size_t i = 0; i < what->change->n_ranges && err == ERR_OK; i++) {
        const Fc__Tracker__V1__SegmentRange *range = what->change->ranges[i];
        err = fc_swarm_plan_change(swarm->plan, (unsigned)number, range->first, range->count, range->is_gone);
    }
    return err;
}

static enum err
take_event(struct fc_swarm *swarm, const Fc__Tracker__V1__Event *event)
{
    int number = -1;

    switch ((int)event->what_case) {
    case FC__TRACKER__V1__EVENT__WHAT_SOURCE:
        take_source(swarm, event->source);
        return ERR_OK;
    case FC__TRACKER__V1__EVENT__WHAT_HOLDING:
        if (event->holding->source == NULL || event->holding->holding == NULL) {
            return ERR_OK;
        }
        take_source(swarm, event->holding->source);
        number = find_peer(swarm, event->holding->source->id);
        return number >= 0 && number != swarm->origin
                   ? fc_swarm_take_holding(swarm, (unsigned)number, event->holding->holding)
                   : ERR_OK;
    case FC__TRACKER__V1__EVENT__WHAT_CHANGE:
        return take_change(swarm, event->change);
    case FC__TRACKER__V1__EVENT__WHAT_CAUGHT_UP:
    case FC__TRACKER__V1__EVENT__WHAT__NOT_SET:
    default:
        return ERR_OK;
    }
}

static void
on_event(struct rpc_client_stream *stream)
{
    struct fc_swarm *swarm = stream->context;

    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.is_tracker_heard = true;
    pthread_cond_signal(&swarm->changed);
    pthread_mutex_unlock(&swarm->mutex);
}

static void
open_watch(struct fc_swarm *swarm)
{
    Fc__Tracker__V1__WatchRequest request = FC__TRACKER__V1__WATCH_REQUEST__INIT;
    struct rpc_client_stream *stream = &swarm->tracker.stream;

    request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
    request.limit = FC_SWARM_SOURCES_MAX;
    fc_tracker_v1_tracker_watch_init(stream, fc_session_channel(swarm->job->session));
    stream->call.timeout_ms = RPC_TIMEOUT_MAX_MS;
    stream->on_event = on_event;
    stream->context = swarm;
    fc_tracker_v1_tracker_watch_open(stream, &request);
    swarm->tracker.is_open = true;
}

static void
close_watch(struct fc_swarm *swarm)
{
    struct rpc_client_stream *stream = &swarm->tracker.stream;

    (void)!rpc_client_stream_finish(stream);
    // A server without a tracker is as good as it was before there were any.
    swarm->tracker.is_wanted =
        stream->call.status.code != RPC_UNIMPLEMENTED && stream->call.status.code != RPC_PERMISSION_DENIED;
    rpc_client_stream_deinit(stream);
    swarm->tracker.is_open = false;
    swarm->tracker.retry_us = fc_swarm_now_us() + RETRY_US;
}

static void
take_events(struct fc_swarm *swarm)
{
    const void *message = NULL;
    enum err err = ERR_OK;

    pthread_mutex_lock(&swarm->mutex);
    swarm->locked.is_tracker_heard = false;
    pthread_mutex_unlock(&swarm->mutex);
    while (swarm->tracker.is_open && err == ERR_OK) {
        err = rpc_client_stream_try_receive(&swarm->tracker.stream, &message);
        if (err == ERR_OK && message != NULL) {
            err = take_event(swarm, message);
        } else if (err != ERR_BUSY) {
            close_watch(swarm);
            return;
        }
    }
    if (err == ERR_NO_MEMORY) {
        fc_swarm_fail(swarm, err, err_sentence(err));
    }
}

// ---- The mediator ----

static Fc__Tracker__V1__Strategy
strategy_of(enum fc_balance balance)
{
    return balance == FC_BALANCE_MEDIATOR ? FC__TRACKER__V1__STRATEGY__ROUND_ROBIN
                                          : FC__TRACKER__V1__STRATEGY__STRATEGY_UNSPECIFIED;
}

static void
ask_for_picks(struct fc_swarm *swarm)
{
    unsigned wanted = fc_swarm_plan_picks_wanted(swarm->plan);

    while (swarm->tracker.picks < wanted && swarm->tracker.picks < PICKS_AT_ONCE) {
        Fc__Tracker__V1__PickRequest request = FC__TRACKER__V1__PICK_REQUEST__INIT;
        struct fc_swarm_call *call = fc_swarm_call_new(swarm, FC_SWARM_CALL_PICK, 0);
        if (call == NULL) {
            return;
        }
        swarm->tracker.picks++;
        request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
        request.strategy = strategy_of(swarm->options->balance);
        fc_swarm_call_init(call, fc_session_channel(swarm->job->session), &fc__tracker__v1__tracker__descriptor,
            CALL_TIMEOUT_MS);
        fc_tracker_v1_tracker_pick_start(&call->rpc, &request);
    }
}

void
fc_swarm_pick_ended(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    const Fc__Tracker__V1__PickResponse *response = fc_tracker_v1_tracker_pick_response(&call->rpc);

    swarm->tracker.picks--;
    if (call->rpc.status.code == RPC_UNIMPLEMENTED) {
        fc_swarm_fail(swarm, ERR_UNIMPLEMENTED, "this server has no tracker that could be asked for each segment");
    }
    if (call->rpc.status.code != RPC_OK || response->source == NULL) {
        return;
    }
    int number = response->source->kind == FC__TRACKER__V1__SOURCE_KIND__ORIGIN
                     ? swarm->origin
                     : find_peer(swarm, response->source->id);
    if (number >= 0) {
        fc_swarm_plan_picked(swarm->plan, (unsigned)number);
    }
}

void
fc_swarm_tend_tracker(struct fc_swarm *swarm)
{
    if (!swarm->tracker.is_open && swarm->tracker.is_wanted && swarm->grant.is_there &&
        fc_swarm_now_us() >= swarm->tracker.retry_us) {
        open_watch(swarm);
    }
    if (swarm->tracker.is_open) {
        take_events(swarm);
    }
    ask_for_picks(swarm);
}

void
fc_swarm_report(struct fc_swarm *swarm, unsigned number, bool is_corrupt, uint64_t segment)
{
    const struct fc_swarm_peer *peer = &swarm->peers[number];
    Fc__Tracker__V1__ReportRequest request = FC__TRACKER__V1__REPORT_REQUEST__INIT;

    if (!peer->has_id || !swarm->tracker.is_wanted) {
        return;
    }
    struct fc_swarm_call *call = fc_swarm_call_new(swarm, FC_SWARM_CALL_REPORT, number);
    if (call == NULL) {
        return;
    }
    request.source_id = fc_lend(peer->id, sizeof(peer->id));
    request.incarnation = peer->incarnation;
    request.failure = is_corrupt ? FC__TRACKER__V1__FAILURE__CORRUPT : FC__TRACKER__V1__FAILURE__UNREACHABLE;
    request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
    request.segment = segment;
    fc_swarm_call_init(call, fc_session_channel(swarm->job->session), &fc__tracker__v1__tracker__descriptor,
        CALL_TIMEOUT_MS);
    fc_tracker_v1_tracker_report_start(&call->rpc, &request);
}

void
fc_swarm_end_tracker(struct fc_swarm *swarm)
{
    if (swarm->tracker.is_open) {
        rpc_client_stream_cancel(&swarm->tracker.stream);
        rpc_client_stream_deinit(&swarm->tracker.stream);
        swarm->tracker.is_open = false;
    }
}
