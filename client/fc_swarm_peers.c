// The sources of a download: their connections, and whether they are there.
#include <stdio.h>
#include <string.h>

#include "client/fc_lend_priv.h"
#include "client/fc_swarm_core_priv.h"

#include "fc/filestore/v1/filestore.stub.h"
#include "fc/segment/v1/segment.stub.h"

enum {
    PROBE_TIMEOUT_MS = 3000,
    CONNECT_TIMEOUT_MS = 3000,
    LONGEST_BACKOFF_MS = 500, // the plan has its own pauses
};

static enum err
open_channel(struct fc_swarm *swarm, unsigned number, struct rpc_channel **out, struct err_detail *why)
{
    const struct fc_swarm_peer *peer = &swarm->peers[number];
    const struct rpc_channel_options options = {
        .url = peer->url,
        .tls = peer->tls,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .longest_backoff_ms = LONGEST_BACKOFF_MS,
    };

    enum err err = rpc_channel_new(&options, out, why);
    // Nobody but the session's server ever sees the token.
    if (err == ERR_OK && (int)number == swarm->origin) {
        err = rpc_channel_set_token(*out, fc_session_token(swarm->job->session));
    }
    return err;
}

struct rpc_channel *
fc_swarm_channel(struct fc_swarm *swarm, unsigned number)
{
    struct fc_swarm_peer *peer = &swarm->peers[number];
    struct err_detail why = {0};
    unsigned best = 0;

    for (unsigned i = 1; i < peer->channel_count; i++) {
        best = peer->in_flight[i] < peer->in_flight[best] ? i : best;
    }
    if (peer->channel_count == 0 || (peer->in_flight[best] != 0 && peer->channel_count < swarm->connections)) {
        enum err err = open_channel(swarm, number, &peer->channels[peer->channel_count], &why);
        if (err != ERR_OK) {
            fc_swarm_fail(swarm, err, err_message(&why, err));
            return NULL;
        }
        best = peer->channel_count++;
        peer->in_flight[best] = 0;
    }
    return peer->channels[best];
}

void
fc_swarm_count_call(struct fc_swarm *swarm, const struct fc_swarm_call *call, int by)
{
    struct fc_swarm_peer *peer = &swarm->peers[call->source];

    for (unsigned i = 0; i < peer->channel_count; i++) {
        if (peer->channels[i] == call->rpc.channel) {
            peer->in_flight[i] = (unsigned)((int)peer->in_flight[i] + by);
        }
    }
}

uint64_t
fc_swarm_received(const struct fc_swarm_peer *peer)
{
    uint64_t bytes = peer->received_bytes;

    for (unsigned i = 0; i < peer->channel_count; i++) {
        bytes += rpc_channel_received_bytes(peer->channels[i]);
    }
    return bytes;
}

// ---- Who there is ----

enum err
fc_swarm_add_peer(struct fc_swarm *swarm, enum fc_swarm_kind kind, const char *name, const char *url,
    struct rpc_tls_client *tls, unsigned *number_out)
{
    unsigned number = 0;

    enum err err = fc_swarm_plan_add(swarm->plan, kind, fc_swarm_now_us(), &number);
    if (err != ERR_OK) {
        rpc_tls_client_free(&tls);
        return err;
    }
    struct fc_swarm_peer *peer = &swarm->peers[number];
    memset(peer, 0, sizeof(*peer));
    (void)snprintf(peer->name, sizeof(peer->name), "%s", name);
    (void)snprintf(peer->url, sizeof(peer->url), "%s", url);
    peer->tls = tls;
    swarm->peer_count = number + 1;
    *number_out = number;
    return ERR_OK;
}

static const char *
host_of(const char *url)
{
    const char *host = strstr(url, "://");
    return host != NULL ? host + 3 : url;
}

static enum err
add_origin(struct fc_swarm *swarm)
{
    const char *url = fc_session_server_url(swarm->job->session);
    unsigned number = 0;

    enum err err = fc_swarm_add_peer(swarm, FC_SWARM_KIND_ORIGIN, host_of(url), url, NULL, &number);
    if (err == ERR_OK) {
        swarm->peers[number].tls = fc_session_tls(swarm->job->session);
        swarm->origin = (int)number;
        err = fc_swarm_plan_holding(swarm->plan, number, true, bytes_view_of(NULL, 0));
    }
    if (err == ERR_OK) {
        fc_swarm_plan_up(swarm->plan, number, fc_swarm_now_us(), 0);
    }
    return err;
}

// add_named adds a server that the user has named: URL, or URL#FINGERPRINT.
static enum err
add_named(struct fc_swarm *swarm, const char *from, struct err_detail *why)
{
    const char *hash = strchr(from, '#');
    char url[FC_SWARM_URL_MAX_BYTES];
    struct rpc_tls_client *tls = NULL;
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    unsigned number = 0;
    int size = snprintf(url, sizeof(url), "%.*s", hash != NULL ? (int)(hash - from) : (int)strlen(from), from);

    if (size >= (int)sizeof(url) || strchr(url, ',') != NULL) {
        return err_fail(why, ERR_INVALID, "\"%s\" is no URL of a server", from);
    }
    if (strcmp(url, fc_session_server_url(swarm->job->session)) == 0) {
        return add_origin(swarm);
    }
    enum err err = ERR_OK;
    if (hash == NULL) {
        err = fc_trust_server(url, NULL, &tls, why);
    } else if (rpc_tls_fingerprint_parse(hash + 1, fingerprint) != ERR_OK) {
        err = err_fail(why, ERR_INVALID, "\"%s\" is no fingerprint; 'fcd --fingerprint' prints it", hash + 1);
    } else {
        err = rpc_tls_client_new(&(struct rpc_tls_client_options){.fingerprint = fingerprint}, &tls, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    // Checks the URL, too.
    struct rpc_channel *channel = NULL;
    err = rpc_channel_new(&(struct rpc_channel_options){.url = url, .tls = tls}, &channel, why);
    rpc_channel_free(&channel);
    if (err != ERR_OK) {
        rpc_tls_client_free(&tls);
        return err;
    }
    err = fc_swarm_add_peer(swarm, FC_SWARM_KIND_MIRROR, host_of(url), url, tls, &number);
    return err == ERR_LIMIT ? err_fail(why, err, "at most %d servers can be named", FC_SWARM_SOURCES_MAX) : err;
}

enum err
fc_swarm_begin_peers(struct fc_swarm *swarm, struct err_detail *why)
{
    enum err err = ERR_OK;

    if (swarm->options->from_count == 0) {
        swarm->grant.is_wanted = swarm->segment_count > 1;
        swarm->tracker.is_wanted = swarm->segment_count > 1;
        return add_origin(swarm);
    }
    swarm->grant.is_wanted = true;
    for (size_t i = 0; i < swarm->options->from_count && err == ERR_OK; i++) {
        err = add_named(swarm, swarm->options->from[i], why);
    }
    return err;
}

void
fc_swarm_move_peer(struct fc_swarm *swarm, unsigned number, const char *url, struct rpc_tls_client *tls)
{
    struct fc_swarm_peer *peer = &swarm->peers[number];

    if (peer->channel_count > FC_SWARM_RETIRED_MAX - swarm->retired_count) {
        rpc_tls_client_free(&tls); // it has moved too often
        return;
    }
    // They are kept until the end, since calls on them may not have been looked at yet.
    peer->received_bytes = fc_swarm_received(peer);
    for (unsigned i = 0; i < peer->channel_count; i++) {
        swarm->retired[swarm->retired_count++] = peer->channels[i];
    }
    peer->channel_count = 0;
    rpc_tls_client_free(&peer->tls);
    peer->tls = tls;
    (void)snprintf(peer->url, sizeof(peer->url), "%s", url);
}

void
fc_swarm_end_peers(struct fc_swarm *swarm)
{
    for (unsigned i = 0; i < swarm->retired_count; i++) {
        rpc_channel_free(&swarm->retired[i]);
    }
    for (unsigned i = 0; i < swarm->peer_count; i++) {
        struct fc_swarm_peer *peer = &swarm->peers[i];
        for (unsigned j = 0; j < peer->channel_count; j++) {
            rpc_channel_free(&peer->channels[j]);
        }
        if ((int)i != swarm->origin) {
            rpc_tls_client_free(&peer->tls);
        }
    }
}

// ---- Whether they are there ----

void
fc_swarm_probe(struct fc_swarm *swarm, unsigned number)
{
    bool is_origin = (int)number == swarm->origin;

    if (!swarm->grant.is_there && !is_origin) {
        swarm->peers[number].is_waiting = true;
        return;
    }
    bool is_health = is_origin && (swarm->has_no_segments || !swarm->grant.is_there);
    struct fc_swarm_call *call =
        fc_swarm_call_new(swarm, is_health ? FC_SWARM_CALL_HEALTH : FC_SWARM_CALL_PROBE, number);
    struct rpc_channel *channel = call != NULL ? fc_swarm_channel(swarm, number) : NULL;
    if (channel == NULL) {
        if (call != NULL) {
            fc_swarm_call_free(call);
        }
        return;
    }
    if (is_health) {
        fc_swarm_call_init(call, channel, NULL, PROBE_TIMEOUT_MS);
        rpc_unary_start_raw(&call->rpc, "fc.rpc.v1.Health/Check", bytes_view_of(NULL, 0));
        return;
    }
    Fc__Segment__V1__GetHoldingsRequest request = FC__SEGMENT__V1__GET_HOLDINGS_REQUEST__INIT;
    Fc__Segment__V1__SignedGrant grant = FC__SEGMENT__V1__SIGNED_GRANT__INIT;
    grant.grant = fc_lend(swarm->grant.bytes, swarm->grant.size);
    grant.signature = fc_lend(swarm->grant.signature, sizeof(swarm->grant.signature));
    request.file_id = fc_lend(swarm->job->file->id, sizeof(swarm->job->file->id));
    request.grant = &grant;
    fc_swarm_call_init(call, channel, &fc__segment__v1__segment_server__descriptor, PROBE_TIMEOUT_MS);
    fc_segment_v1_segment_server_get_holdings_start(&call->rpc, &request);
}

static enum err
take_holding(struct fc_swarm *swarm, const struct fc_swarm_call *call)
{
    const Fc__Segment__V1__GetHoldingsResponse *response =
        fc_segment_v1_segment_server_get_holdings_response(&call->rpc);

    if ((int)call->source == swarm->origin) {
        return ERR_OK; // has all
    }
    return response->holding != NULL ? fc_swarm_take_holding(swarm, call->source, response->holding) : ERR_NOT_FOUND;
}

static enum fc_swarm_state
state_after(const struct fc_swarm_call *call)
{
    const struct rpc_status *status = &call->rpc.status;

    if (status->is_untrusted || status->code == RPC_PERMISSION_DENIED || status->code == RPC_UNIMPLEMENTED) {
        return FC_SWARM_STATE_BANNED;
    }
    return status->code == RPC_UNAVAILABLE && strcmp(status->reason, "STOPPED") == 0 ? FC_SWARM_STATE_STOPPED
                                                                                     : FC_SWARM_STATE_DOWN;
}

void
fc_swarm_probe_ended(struct fc_swarm *swarm, struct fc_swarm_call *call)
{
    uint64_t now_us = fc_swarm_now_us();
    const struct rpc_status *status = &call->rpc.status;

    if (status->code == RPC_OK) {
        enum err err = call->kind == FC_SWARM_CALL_PROBE ? take_holding(swarm, call) : ERR_OK;
        if (err == ERR_NO_MEMORY) {
            fc_swarm_fail(swarm, err, err_sentence(err));
        } else if (err == ERR_OK) {
            fc_swarm_plan_up(swarm->plan, call->source, now_us, now_us - call->started_us);
        } else {
            fc_swarm_plan_probe_failed(swarm->plan, call->source, FC_SWARM_STATE_DOWN, now_us);
        }
        return;
    }
    if (status->code == RPC_NOT_FOUND && call->kind == FC_SWARM_CALL_PROBE && (int)call->source != swarm->origin) {
        // It is there, and has none of the file yet.
        enum err err = fc_swarm_plan_holding(swarm->plan, call->source, false, bytes_view_of(NULL, 0));
        if (err == ERR_OK) {
            fc_swarm_plan_up(swarm->plan, call->source, now_us, now_us - call->started_us);
        }
        return;
    }
    if (strcmp(status->reason, "GRANT_EXPIRED") == 0) {
        swarm->grant.renew_us = 0;
    }
    if ((int)call->source == swarm->origin && (status->code == RPC_UNIMPLEMENTED || status->code == RPC_NOT_FOUND)) {
        swarm->has_no_segments = true;
        fc_swarm_plan_up(swarm->plan, call->source, now_us, 0);
        return;
    }
    swarm->last_failure = status->detail;
    enum fc_swarm_state state = state_after(call);
    fc_swarm_plan_probe_failed(swarm->plan, call->source, state, now_us);
    if (state == FC_SWARM_STATE_BANNED) {
        fc_swarm_say(swarm, "%s: %s", swarm->peers[call->source].name, err_message(&status->detail, ERR_UNTRUSTED));
    }
}
