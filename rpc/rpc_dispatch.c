// What happens to a call around its handler, in this order:
//
//     before    read_frame      is it a frame, and its header one of ours
//               find_method     which method it means; from here on it is counted under that method's name
//               check_kind      whether it is called as a stream, if it is one
//               authenticate    whose token it carries, when the method asks for one
//               check_access    whether they may
//               check_rate      whether they have not made too many calls in the last seconds
//               check_size      whether the request is as large as the method takes
//               set_deadline    whether its caller still waits
//               read_request    is it a request of the method; of a stream for each message (rpc_server_stream.c)
//     once      has an earlier attempt of the same call run, if the method executes once (rpc_once.c)
//     handler   the service's; it answers now or later, on any thread (rpc_call_answer, rpc_call_fail)
//     after     rpc_call_account, when the reply is ready and before it leaves: statistics, access log
//
// The first that refuses ends the call with its status, and what comes after sees that too. What is refused even
// before it becomes a call, for the limits on calls in flight, rpc_peer_receive sees to.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats_priv.h"

#include "fc/rpc/v1/rpc.pb-c.h"

enum {
    METHOD_NAME_MAX_BYTES = 255,
    RETRY_AFTER_MS = 1000,
    LOG_CONTEXT_MAX_BYTES = 768, // the names of a method and a user, and an address
};

static enum err
check_header(const Fc__Rpc__V1__RequestHeader *header, struct err_detail *why)
{
    if (header->request_id.len != 0 && header->request_id.len != RPC_REQUEST_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "a request id has %d bytes, and this one %zu", RPC_REQUEST_ID_BYTES,
            header->request_id.len);
    }
    if (header->n_metadata > RPC_METADATA_MAX_ENTRIES) {
        return err_fail(why, ERR_LIMIT, "a call carries at most %d entries of metadata, and this one %zu",
            RPC_METADATA_MAX_ENTRIES, header->n_metadata);
    }
    struct rpc_metadata entries[RPC_METADATA_MAX_ENTRIES];
    for (size_t i = 0; i < header->n_metadata; i++) {
        const Fc__Rpc__V1__Metadata *entry = header->metadata[i];
        entries[i] =
            (struct rpc_metadata){.key = entry->key, .value = bytes_view_of(entry->value.data, entry->value.len)};
    }
    return rpc_metadata_check(entries, header->n_metadata, why);
}

static enum err
read_frame(struct rpc_call *call, struct rpc_frame *frame, Fc__Rpc__V1__RequestHeader **header_out,
    struct err_detail *why)
{
    enum err err = rpc_frame_parse(call->frame, frame);
    if (err == ERR_VERSION) {
        return err_fail(why, err, "this server speaks version %d of the frame, and this one has version %u",
            RPC_FRAME_VERSION, call->frame.data[0]);
    }
    if (err == ERR_TOO_BIG) {
        return err_fail(why, err, "the header of a call has at most %d bytes", RPC_HEADER_MAX_BYTES);
    }
    if (err != ERR_OK) {
        return err_fail(why, err, "the frame is shorter than it says");
    }
    ProtobufCMessage *header = NULL;
    err = rpc_message_unpack_in_place(&fc__rpc__v1__request_header__descriptor, frame->header, &call->arena, &header,
        why);
    if (err != ERR_OK) {
        return err;
    }
    *header_out = (Fc__Rpc__V1__RequestHeader *)header;
    err = check_header(*header_out, why);
    if (err == ERR_OK) {
        call->header = *header_out;
        call->request_id = bytes_view_of((*header_out)->request_id.data, (*header_out)->request_id.len);
    }
    return err;
}

static enum err
find_method(struct rpc_call *call, const char *name, struct err_detail *why)
{
    const struct rpc_method_table *methods = &call->peer->server->methods;
    struct bytes_view view = bytes_view_of_text(name);
    call->method = view.size <= METHOD_NAME_MAX_BYTES ? rpc_method_table_find(methods, view) : NULL;
    if (call->method != NULL) {
        return ERR_OK;
    }
    const char *slash = strrchr(name, '/');
    if (view.size == 0 || view.size > METHOD_NAME_MAX_BYTES || slash == NULL) {
        return err_fail(why, ERR_UNIMPLEMENTED, "a method is named as \"package.Service/Method\" in 1 to %d bytes",
            METHOD_NAME_MAX_BYTES);
    }
    struct bytes_view service = bytes_view_of(name, (size_t)(slash - name));
    if (rpc_method_table_has_service(methods, service)) {
        return err_fail(why, ERR_UNIMPLEMENTED, "service %.*s has no method \"%s\"", (int)service.size, name,
            slash + 1);
    }
    return err_fail(why, ERR_UNIMPLEMENTED, "this server has no service \"%.*s\"", (int)service.size, name);
}

// check_kind says whether the call is made as its method wants it.
static enum err
check_kind(const struct rpc_call *call, struct err_detail *why)
{
    if (call->method->stream != NULL && call->stream == NULL) {
        return err_fail(why, ERR_UNIMPLEMENTED,
            "%s streams messages, so its call begins with a frame with the flag OPEN; REQ sockets of nng cannot make "
            "it",
            call->method->name);
    }
    if (call->method->stream == NULL && call->stream != NULL) {
        return err_fail(why, ERR_UNIMPLEMENTED, "%s takes one request and returns one response; it is no stream",
            call->method->name);
    }
    return ERR_OK;
}

// find_identity asks whose token it is, unless the peer's last call carried the same one.
static enum err
find_identity(struct rpc_call *call, struct rpc_batch *batch, struct bytes_view token, struct err_detail *why)
{
    struct rpc_server *server = call->peer->server;
    struct rpc_token_cache *known = &batch->token;
    if (token.size == 0) {
        return err_fail(why, ERR_UNAUTHENTICATED, "%s needs a login token", call->method->name);
    }
    if (token.size > RPC_TOKEN_MAX_BYTES) {
        return err_fail(why, ERR_UNAUTHENTICATED, "this is no login token");
    }
    // Read before asking: a revocation meanwhile then makes the answer old at once.
    unsigned generation = atomic_load_explicit(&server->token_generation, memory_order_acquire);
    if (known->generation == generation &&
        bytes_view_equal_secret(token, bytes_view_of(known->token, known->token_bytes)) &&
        clock_unix_ms() < known->identity.expires_unix_ms) {
        return ERR_OK;
    }
    memset(known, 0, sizeof(*known));
    enum err err = server->options.authenticate(server->options.authenticate_context, token, &known->identity);
    if (err != ERR_OK) {
        memset(known, 0, sizeof(*known));
        return err == ERR_UNAUTHENTICATED
                   ? err_fail(why, err,
                         "the login token is unknown, expired or revoked; log in again, as with fc login")
                   : err;
    }
    memcpy(known->token, token.data, token.size);
    known->token_bytes = token.size;
    known->generation = generation;
    rpc_peer_remember_token(call->peer, known);
    return ERR_OK;
}

static enum err
authenticate(struct rpc_call *call, struct rpc_batch *batch, struct bytes_view token, struct err_detail *why)
{
    if (!rpc_access_needs_token(call->method->access)) {
        return ERR_OK;
    }
    enum err err = find_identity(call, batch, token, why);
    if (err == ERR_OK) {
        call->identity = batch->token.identity;
        call->has_identity = true;
    }
    return err;
}

static enum err
check_access(const struct rpc_call *call, struct err_detail *why)
{
    if (call->method->access == RPC_ACCESS_ADMIN && !call->identity.is_admin) {
        return err_fail(why, ERR_DENIED, "%s is for administrators", call->method->name);
    }
    return ERR_OK;
}

// caller_of names who makes a call: a user, or an address without its port, which each connection has another one of.
static struct bytes_view
caller_of(const struct rpc_call *call)
{
    if (call->has_identity) {
        return bytes_view_of(call->identity.subject_id, sizeof(call->identity.subject_id));
    }
    const char *address = call->peer->address;
    const char *port = strrchr(address, ':');
    return bytes_view_of(address, port != NULL ? (size_t)(port - address) : strlen(address));
}

// check_rate says whether the caller has not made too many calls in the last seconds.
static enum err
check_rate(const struct rpc_call *call, struct rpc_refusal *refusal)
{
    struct rpc_rate *rate = call->peer->server->rate;
    if (rate == NULL || call->method->access == RPC_ACCESS_ALWAYS ||
        rpc_rate_take(rate, caller_of(call), clock_monotonic_us(), &refusal->retry_after_ms)) {
        return ERR_OK;
    }
    return err_fail(&refusal->why, ERR_LIMIT, "too many calls a second; wait %" PRIu32 " ms", refusal->retry_after_ms);
}

static enum err
check_size(const struct rpc_call *call, size_t request_bytes, struct err_detail *why)
{
    const struct rpc_method *method = call->method;
    if (request_bytes > method->max_request_bytes) {
        return err_fail(why, ERR_TOO_BIG, "a request of %s has at most %zu bytes, and this one %zu", method->name,
            method->max_request_bytes, request_bytes);
    }
    return ERR_OK;
}

static enum err
set_deadline(struct rpc_call *call, uint32_t timeout_ms, struct err_detail *why)
{
    if (timeout_ms == 0) {
        timeout_ms = RPC_TIMEOUT_DEFAULT_MS;
    } else if (timeout_ms > RPC_TIMEOUT_MAX_MS) {
        timeout_ms = RPC_TIMEOUT_MAX_MS;
    }
    call->deadline_ms += timeout_ms; // from when it arrived
    if (rpc_call_is_late(call)) {
        return err_fail(why, ERR_TIMEOUT, "the call waited for longer than its %" PRIu32 " ms and was not started",
            timeout_ms);
    }
    return rpc_call_is_given_up(call) ? err_fail(why, ERR_CANCELLED, "the caller has given up") : ERR_OK;
}

static enum err
read_request(struct rpc_call *call, struct bytes_view message, ProtobufCMessage **request_out, struct err_detail *why)
{
    return rpc_message_unpack(call->method->input, message, &call->arena, request_out, why);
}

bool
rpc_call_is_for_draining(const struct rpc_server *server, struct bytes_view frame)
{
    struct rpc_frame parts;
    struct arena arena;
    ProtobufCMessage *header = NULL;
    const struct rpc_method *method = NULL;
    if (rpc_frame_parse(frame, &parts) != ERR_OK) {
        return false;
    }
    arena_init(&arena, rpc_message_arena_limit(parts.header.size));
    if (rpc_message_unpack(&fc__rpc__v1__request_header__descriptor, parts.header, &arena, &header, NULL) == ERR_OK) {
        const char *name = ((const Fc__Rpc__V1__RequestHeader *)header)->method;
        method = rpc_method_table_find(&server->methods, bytes_view_of_text(name));
    }
    arena_deinit(&arena);
    return method != NULL && method->access == RPC_ACCESS_ALWAYS;
}

// check does all but to read the request.
static enum err
check(struct rpc_call *call, struct rpc_batch *batch, struct rpc_frame *frame, struct rpc_refusal *refusal)
{
    Fc__Rpc__V1__RequestHeader *header = NULL;
    struct err_detail *why = &refusal->why;
    enum err err = read_frame(call, frame, &header, why);
    if (err == ERR_OK) {
        err = find_method(call, header->method, why);
    }
    if (err == ERR_OK) {
        err = check_kind(call, why);
    }
    if (err == ERR_OK) {
        err = authenticate(call, batch, bytes_view_of_text(header->token), why);
    }
    if (err == ERR_OK) {
        err = check_access(call, why);
    }
    if (err == ERR_OK) {
        err = check_rate(call, refusal);
    }
    if (err == ERR_OK) {
        err = check_size(call, frame->message.size, why);
    }
    if (err == ERR_OK) {
        err = set_deadline(call, header->timeout_ms, why);
    }
    return err;
}

enum err
rpc_call_open(struct rpc_batch *batch, struct rpc_call *call, struct rpc_refusal *refusal)
{
    struct rpc_frame frame;
    refusal->why.message[0] = '\0';
    return check(call, batch, &frame, refusal);
}

// run_handler runs it, unless an earlier attempt of the same call has run or runs.
static enum err
run_handler(struct rpc_call *call, ProtobufCMessage *request, struct rpc_refusal *refusal)
{
    struct bytes frame = {0};
    enum rpc_once_role role = RPC_ONCE_FIRST;
    if (call->method->executes_once && call->request_id.size > 0) {
        role = rpc_once_enter(call->peer->server->once, call, &frame);
    }
    switch (role) {
    case RPC_ONCE_FIRST:
        call->method->service->invoke(call->method->service, call->method->index, request, rpc_call_answer, call);
        return ERR_OK;
    case RPC_ONCE_WAITS:
        return ERR_OK; // it is the first one's now
    case RPC_ONCE_REPEAT:
        rpc_call_repeat(call, bytes_as_view(&frame));
        bytes_free(&frame);
        return ERR_OK;
    case RPC_ONCE_OTHER:
        return err_fail(&refusal->why, ERR_INVALID, "the request id is that of a call of another method");
    case RPC_ONCE_FULL:
        break;
    }
    refusal->retry_after_ms = RETRY_AFTER_MS;
    return err_fail(&refusal->why, ERR_LIMIT, "too many calls that execute once are under way; try again later");
}

static void
write_access_log(const struct rpc_call *call, enum rpc_code code, uint64_t took_us)
{
    char context[LOG_CONTEXT_MAX_BYTES];
    (void)snprintf(context, sizeof(context), "peer=%s user=%s method=%s code=%s duration_us=%" PRIu64,
        call->peer->address, call->has_identity ? call->identity.subject_name : "-",
        call->method != NULL ? call->method->name : RPC_STATS_UNKNOWN_METHOD, rpc_code_name(code), took_us);
    log_debug("RPC-CALL", context, "%s", code == RPC_OK ? "answered" : "answered with an error");
}

void
rpc_call_account(const struct rpc_call *call, enum rpc_code code, uint64_t now_us, unsigned stats_writer)
{
    const struct rpc_method *method = call->method;
    struct rpc_stats_cell *cells = method != NULL ? method->cells : call->peer->server->stats.unknown_method;
    uint64_t took_us = now_us - call->arrived_us;
    rpc_stats_count_call(cells, stats_writer, code, took_us);
    if (log_is_on(LOG_DEBUG)) {
        write_access_log(call, code, took_us);
    }
}

void
rpc_call_run(struct rpc_batch *batch, struct rpc_call *call)
{
    struct rpc_refusal refusal;
    struct rpc_frame frame;
    ProtobufCMessage *request = NULL;
    if (call->stream != NULL) {
        rpc_server_stream_run(batch, call->stream);
        return;
    }
    refusal.why.message[0] = '\0';
    refusal.retry_after_ms = 0;
    batch->current = call;
    batch->is_current_answered = false;
    if (atomic_load_explicit(&call->peer->is_closed, memory_order_acquire)) {
        atomic_fetch_add_explicit(&call->peer->server->stats.dropped_calls, 1, memory_order_relaxed);
        rpc_call_end(call);
    } else {
        enum err err = check(call, batch, &frame, &refusal);
        if (err == ERR_OK) {
            err = read_request(call, frame.message, &request, &refusal.why);
        }
        if (err == ERR_OK) {
            err = run_handler(call, request, &refusal);
        }
        if (err != ERR_OK) {
            rpc_call_fail_now(call, err, err_message(&refusal.why, err), NULL, refusal.retry_after_ms);
        }
    }
    // Unless it was answered here it belongs to whoever answers it, and may be gone.
    batch->current = NULL;
    if (batch->is_current_answered) {
        rpc_call_free(call);
    }
}
