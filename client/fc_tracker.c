#include "client/fc_tracker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/fc_lend_priv.h"

#include "fc/tracker/v1/tracker.stub.h"

enum {
    CALL_TIMEOUT_MS = 10 * 1000,
};

struct fc_tracker_watch {
    struct rpc_client_stream stream;
};

const char *
fc_source_kind_name(enum fc_source_kind kind)
{
    switch (kind) {
    case FC_SOURCE_ORIGIN:
        return "origin";
    case FC_SOURCE_MIRROR:
        return "mirror";
    case FC_SOURCE_PEER:
        return "peer";
    }
    return "unknown";
}

const char *
fc_source_state_name(enum fc_source_state state)
{
    switch (state) {
    case FC_SOURCE_UP:
        return "up";
    case FC_SOURCE_DRAINING:
        return "draining";
    case FC_SOURCE_STOPPED:
        return "stopped";
    case FC_SOURCE_DEAD:
        return "dead";
    case FC_SOURCE_QUARANTINED:
        return "quarantined";
    }
    return "unknown";
}

static enum err
from_wire(const Fc__Tracker__V1__Source *wire, struct fc_source *out, struct err_detail *why)
{
    if (wire == NULL || wire->id.len != sizeof(out->id) || strlen(wire->name) >= sizeof(out->name) ||
        strlen(wire->user_name) >= sizeof(out->user_name)) {
        return err_fail(why, ERR_PROTOCOL, "what the tracker says of a server makes no sense");
    }
    memset(out, 0, sizeof(*out));
    memcpy(out->id, wire->id.data, sizeof(out->id));
    out->incarnation = wire->incarnation;
    (void)snprintf(out->name, sizeof(out->name), "%s", wire->name);
    (void)snprintf(out->user_name, sizeof(out->user_name), "%s", wire->user_name);
    out->kind = (enum fc_source_kind)wire->kind;
    out->state = (enum fc_source_state)wire->state;
    out->since_unix_ms = wire->since_ms;
    out->bad_segments = wire->bad_segments;
    for (size_t i = 0; i < wire->n_urls && i < FC_SOURCE_URLS_MAX; i++) {
        if (strlen(wire->urls[i]) < sizeof(out->urls[0])) {
            (void)snprintf(out->urls[out->url_count++], sizeof(out->urls[0]), "%s", wire->urls[i]);
        }
    }
    if (wire->load != NULL) {
        out->cpu_permille = wire->load->cpu_permille;
        out->connections = wire->load->connections;
        out->segments_in_flight = wire->load->segments_in_flight;
        out->sent_bytes = wire->load->sent_bytes;
        out->sent_bytes_per_s = wire->load->sent_bytes_per_s;
        out->sent_segments = wire->load->sent_segments;
        out->limit_bytes_per_s = wire->load->limit_bytes_per_s;
        out->stored_bytes = wire->load->stored_bytes;
        out->budget_bytes = wire->load->budget_bytes;
        out->file_count = wire->load->file_count;
        out->segment_count = wire->load->segment_count;
    }
    return ERR_OK;
}

enum err
fc_tracker_each(struct fc_session *session, bool (*fn)(void *context, const struct fc_source *source), void *context,
    struct err_detail *why)
{
    const Fc__Tracker__V1__ListSourcesRequest request = FC__TRACKER__V1__LIST_SOURCES_REQUEST__INIT;
    const Fc__Tracker__V1__ListSourcesResponse *response = NULL;
    struct rpc_unary call;
    struct fc_source source;
    fc_tracker_v1_tracker_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    call.timeout_ms = CALL_TIMEOUT_MS;
    enum err err = fc_session_explain(&call, fc_tracker_v1_tracker_list_sources(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && i < response->n_sources; i++) {
        err = from_wire(response->sources[i], &source, why);
        if (err == ERR_OK && !fn(context, &source)) {
            break;
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_tracker_order(struct fc_session *session, const char *source, enum fc_source_order order, struct fc_source *out,
    struct err_detail *why)
{
    static const Fc__Tracker__V1__Command commands[] = {
        [FC_SOURCE_STOP] = FC__TRACKER__V1__COMMAND__STOP,
        [FC_SOURCE_WAKE] = FC__TRACKER__V1__COMMAND__WAKE,
        [FC_SOURCE_DRAIN] = FC__TRACKER__V1__COMMAND__DRAIN,
    };
    Fc__Tracker__V1__ControlSourceRequest request = FC__TRACKER__V1__CONTROL_SOURCE_REQUEST__INIT;
    const Fc__Tracker__V1__ControlSourceResponse *response = NULL;
    struct rpc_unary call;
    request.source = fc_lend_text(source);
    request.command = commands[order];
    fc_tracker_v1_tracker_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    call.timeout_ms = CALL_TIMEOUT_MS;
    enum err err = fc_session_explain(&call, fc_tracker_v1_tracker_control_source(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = from_wire(response->source, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_tracker_watch_open(struct fc_session *session, struct fc_tracker_watch **out, struct err_detail *why)
{
    const Fc__Tracker__V1__WatchRequest request = FC__TRACKER__V1__WATCH_REQUEST__INIT;
    struct fc_tracker_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "%s", err_sentence(ERR_NO_MEMORY));
    }
    fc_tracker_v1_tracker_watch_init(&watch->stream, fc_session_channel(session));
    watch->stream.call.timeout_ms = RPC_TIMEOUT_MAX_MS;
    fc_tracker_v1_tracker_watch_open(&watch->stream, &request);
    *out = watch;
    return ERR_OK;
}

enum err
fc_tracker_watch_take(struct fc_tracker_watch *watch, void (*fn)(void *context, const struct fc_source *source),
    void *context, bool *caught_up_out, struct err_detail *why)
{
    const void *message = NULL;
    struct fc_source source;
    enum err err;
    while ((err = rpc_client_stream_try_receive(&watch->stream, &message)) == ERR_OK && message != NULL) {
        const Fc__Tracker__V1__Event *event = message;
        if (event->what_case == FC__TRACKER__V1__EVENT__WHAT_CAUGHT_UP) {
            *caught_up_out = true;
        } else if (event->what_case == FC__TRACKER__V1__EVENT__WHAT_SOURCE) {
            err = from_wire(event->source, &source, why);
            if (err != ERR_OK) {
                return err;
            }
            fn(context, &source);
        }
    }
    if (err == ERR_BUSY) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = rpc_client_stream_finish(&watch->stream);
        err = fc_session_explain(&watch->stream.call, err == ERR_OK ? ERR_UNAVAILABLE : err, why);
    }
    return err;
}

void
fc_tracker_watch_close(struct fc_tracker_watch **watch)
{
    if (*watch != NULL) {
        rpc_client_stream_deinit(&(*watch)->stream);
        free(*watch);
        *watch = NULL;
    }
}
