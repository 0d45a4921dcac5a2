// How calls are answered: replies, refusals, and the frames of streams.
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "rpc/rpc_call_priv.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats_priv.h"
#include "rpc/rpc_status.h"

enum {
    US_PER_MS = 1000,
};

static bool
is_answered_already(const struct rpc_call *call)
{
    const struct rpc_batch *batch = rpc_batch_of(call);
    bool is_twice = batch != NULL && batch->current == call && batch->is_current_answered;
    assert(!is_twice && "a handler answers once");
    return is_twice;
}

// queue_frame queues a frame behind its route; bulk goes to the transport from where the handler has it. Returns as
// rpc_peer_send.
static bool
queue_frame(struct rpc_peer *peer, struct bytes_view route, const struct bytes *frame, struct bytes_view bulk,
    bool is_last)
{
    const struct bytes_view parts[] = {route, bytes_as_view(frame), bulk};
    return rpc_peer_send(peer, parts, sizeof(parts) / sizeof(parts[0]), is_last);
}

// append_frame makes a frame of a call, which together with its route is no larger than a message may be.
static enum err
append_frame(const struct rpc_call *call, struct bytes *frame, uint8_t flags, const ProtobufCMessage *header,
    const ProtobufCMessage *message, struct bytes_view *bulk_out)
{
    enum err err = rpc_frame_append(frame, flags, header, message, bulk_out);
    bool is_too_big = err == ERR_OK && call->route.size + frame->size + bulk_out->size > RPC_MESSAGE_MAX_BYTES;
    return is_too_big ? ERR_TOO_BIG : err;
}

// send_frame sends a frame of a call; inside a batch without flushing, since the batch does that at its end.
static void
send_frame(const struct rpc_call *call, const struct bytes *frame, struct bytes_view bulk)
{
    struct rpc_batch *batch = rpc_batch_of(call);
    bool can_go_on = queue_frame(call->peer, call->route, frame, bulk, batch == NULL);
    if (batch != NULL) {
        batch->is_stopped = batch->is_stopped || !can_go_on;
    }
}

static void
account(const struct rpc_call *call, enum rpc_code code, uint64_t now_us)
{
    const struct rpc_batch *batch = rpc_batch_of(call);
    rpc_call_account(call, code, now_us, batch != NULL ? batch->stats_writer : RPC_STATS_SHARED);
}

void
rpc_call_account_here(const struct rpc_call *call, enum rpc_code code)
{
    account(call, code, clock_monotonic_us());
}

// Counts an answer whose code is known to this program, or as UNKNOWN.
static enum rpc_code
known_code(int code)
{
    return code >= 0 && code < RPC_CODE_COUNT ? (enum rpc_code)code : RPC_UNKNOWN;
}

// respond sends the reply of a call, unless its caller has given it up. When the reply cannot be made the call has not
// been accounted for.
static enum err
respond(struct rpc_call *call, const Fc__Rpc__V1__ResponseHeader *header, const ProtobufCMessage *message,
    uint64_t now_us)
{
    struct rpc_batch *batch = rpc_batch_of(call);
    struct bytes own = {0};
    struct bytes *frame = batch != NULL ? &batch->reply : &own;
    struct bytes_view bulk;
    if (rpc_call_is_given_up(call)) {
        account(call, RPC_CANCELLED, now_us);
        rpc_peer_answers(call->peer);
        return ERR_OK;
    }
    bytes_clear(frame);
    enum err err = append_frame(call, frame, 0, &header->base, message, &bulk);
    if (err == ERR_OK) {
        account(call, known_code((int)header->code), now_us);
        rpc_peer_answers(call->peer);
        send_frame(call, frame, bulk);
    }
    bytes_free(&own);
    return err;
}

// What an error reply is built from; it must live until the reply is packed.
struct failure {
    Fc__Rpc__V1__ResponseHeader header;
    Fc__Rpc__V1__Detail detail;
    Fc__Rpc__V1__Detail *details[1];
    uint8_t info[RPC_REASON_MAX_BYTES + 32]; // an encoded ErrorInfo without `field`
    char type[32];
    char message[RPC_STATUS_MESSAGE_MAX_BYTES + 1];
    char reason[RPC_REASON_MAX_BYTES];
};

// copy_text copies text that fits, and cuts where a character ends: the reader refuses what is not UTF-8.
static void
copy_text(char *out, size_t out_bytes, const char *text)
{
    size_t size = strnlen(text, out_bytes - 1);
    memcpy(out, text, size);
    // The explanation may have been cut inside a character before it came here, so at most 3 bytes are too many.
    for (size_t cut = 0; cut < 4 && cut <= size; cut++) {
        if (text_is_utf8(bytes_view_of(out, size - cut))) {
            out[size - cut] = '\0';
            return;
        }
    }
    for (size_t i = 0; i < size; i++) {
        if ((out[i] & 0x80) != 0) {
            out[i] = '?';
        }
    }
    out[size] = '\0';
}

static void
build_failure(struct failure *failure, int code, const char *message, const char *reason, uint32_t retry_after_ms)
{
    fc__rpc__v1__response_header__init(&failure->header);
    copy_text(failure->message, sizeof(failure->message), message);
    failure->header.code = (Fc__Rpc__V1__Code)code;
    failure->header.message = failure->message;
    if (reason == NULL && retry_after_ms == 0) {
        return;
    }
    Fc__Rpc__V1__ErrorInfo info = FC__RPC__V1__ERROR_INFO__INIT;
    copy_text(failure->reason, sizeof(failure->reason), reason != NULL ? reason : "");
    info.reason = failure->reason;
    info.retry_after_ms = retry_after_ms;
    fc__rpc__v1__detail__init(&failure->detail);
    copy_text(failure->type, sizeof(failure->type), fc__rpc__v1__error_info__descriptor.name);
    failure->detail.type = failure->type;
    assert(fc__rpc__v1__error_info__get_packed_size(&info) <= sizeof(failure->info));
    failure->detail.value.data = failure->info;
    failure->detail.value.len = fc__rpc__v1__error_info__pack(&info, failure->info);
    failure->details[0] = &failure->detail;
    failure->header.details = failure->details;
    failure->header.n_details = 1;
}

static void
put_metadata(Fc__Rpc__V1__ResponseHeader *header, const struct rpc_call *call)
{
    header->metadata = call->reply_metadata;
    header->n_metadata = call->reply_metadata_count;
}

// send_of_stream sends one frame of a stream.
static enum err
send_of_stream(struct rpc_call *call, enum rpc_frame_flag flag, const ProtobufCMessage *header,
    const ProtobufCMessage *message)
{
    struct bytes frame = {0};
    struct bytes_view bulk;
    enum err err = append_frame(call, &frame, (uint8_t)flag, header, message, &bulk);
    if (err == ERR_OK) {
        send_frame(call, &frame, bulk);
    }
    bytes_free(&frame);
    return err;
}

enum err
rpc_call_send_message(struct rpc_call *call, bool is_first, const ProtobufCMessage *message)
{
    Fc__Rpc__V1__ResponseHeader header = FC__RPC__V1__RESPONSE_HEADER__INIT;
    put_metadata(&header, call);
    bool has_header = is_first && header.n_metadata > 0;
    return send_of_stream(call, RPC_FRAME_MESSAGE, has_header ? &header.base : NULL, message);
}

enum err
rpc_call_send_end(struct rpc_call *call, bool is_first, enum err code, const char *message, uint32_t retry_after_ms)
{
    struct failure failure;
    build_failure(&failure, (int)rpc_code_from_err(code), message, NULL, retry_after_ms);
    if (is_first) {
        put_metadata(&failure.header, call);
    }
    return send_of_stream(call, RPC_FRAME_END, &failure.header.base, NULL);
}

enum err
rpc_call_send_credit(struct rpc_call *call, const Fc__Rpc__V1__Credit *credit)
{
    return send_of_stream(call, RPC_FRAME_CREDIT, &credit->base, NULL);
}

bool
rpc_call_refuse(struct rpc_peer *peer, struct bytes_view route, enum err code, const char *message, const char *reason)
{
    struct failure failure;
    struct bytes buffer = {0};
    struct bytes_view bulk;
    bool can_go_on = true;
    build_failure(&failure, (int)rpc_code_from_err(code), message, reason, 0);
    rpc_stats_count_refusal(peer->server->stats.unknown_method, (enum rpc_code)failure.header.code);
    if (rpc_frame_append(&buffer, 0, &failure.header.base, NULL, &bulk) == ERR_OK) {
        can_go_on = queue_frame(peer, route, &buffer, bulk, false);
    } else {
        // Without memory for a reply of some bytes, the caller had better learn it from the connection.
        rpc_peer_close(peer, 0);
    }
    bytes_free(&buffer);
    return can_go_on;
}

static void
send_failure(struct rpc_call *call, const struct failure *failure)
{
    uint64_t now_us = clock_monotonic_us();
    if (respond(call, &failure->header, NULL, now_us) != ERR_OK) {
        account(call, known_code((int)failure->header.code), now_us);
        rpc_peer_close(call->peer, 0);
    }
    rpc_call_end(call);
}

void
rpc_call_fail_now(struct rpc_call *call, enum err code, const char *message, const char *reason,
    uint32_t retry_after_ms)
{
    struct failure failure;
    build_failure(&failure, (int)rpc_code_from_err(code), message, reason, retry_after_ms);
    put_metadata(&failure.header, call);
    send_failure(call, &failure);
}

static void
fail_late(struct rpc_call *call)
{
    rpc_call_fail_now(call, ERR_TIMEOUT, "the answer was ready after the deadline of the call", NULL, 0);
}

void
rpc_call_repeat(struct rpc_call *call, struct bytes_view frame)
{
    struct bytes copy = {0};
    rpc_call_account_here(call, RPC_OK);
    rpc_peer_answers(call->peer);
    if (bytes_append(&copy, frame) == ERR_OK) {
        send_frame(call, &copy, bytes_view_of(NULL, 0));
    } else {
        rpc_peer_close(call->peer, 0);
    }
    bytes_free(&copy);
    rpc_call_end(call);
}

// After these nothing was done, and the same call may be tried again.
static bool
is_kept(enum rpc_code code)
{
    return code != RPC_UNAVAILABLE && code != RPC_RESOURCE_EXHAUSTED && code != RPC_DEADLINE_EXCEEDED &&
           code != RPC_CANCELLED;
}

// Keeps the answer of a call that executes once, and gives it to those that have waited for it. Before the deadline is
// looked at: the call was executed, and its caller may ask again.
static void
keep_answer(struct rpc_call *call, const Fc__Rpc__V1__ResponseHeader *header, const ProtobufCMessage *message)
{
    struct rpc_call_list waiting = STAILQ_HEAD_INITIALIZER(waiting);
    struct bytes frame = {0};
    if (call->once == NULL) {
        return;
    }
    bool is_made = rpc_frame_append(&frame, 0, &header->base, message, NULL) == ERR_OK;
    bool keeps = is_made && is_kept((enum rpc_code)header->code);
    rpc_once_leave(call->peer->server->once, call, bytes_as_view(&frame), keeps, &waiting);
    while (!STAILQ_EMPTY(&waiting)) {
        struct rpc_call *other = STAILQ_FIRST(&waiting);
        STAILQ_REMOVE_HEAD(&waiting, link);
        if (is_made) {
            rpc_call_repeat(other, bytes_as_view(&frame));
        } else {
            rpc_call_fail_now(other, ERR_NO_MEMORY, "no memory for the answer", NULL, 0);
        }
    }
    bytes_free(&frame);
}

void
rpc_call_fail_code(struct rpc_call *call, int code, const char *message, const char *reason, uint32_t retry_after_ms)
{
    struct failure failure;
    if (is_answered_already(call)) {
        return;
    }
    assert(code != RPC_OK);
    build_failure(&failure, code == RPC_OK ? (int)RPC_INTERNAL : code, message, reason[0] == '\0' ? NULL : reason,
        retry_after_ms);
    put_metadata(&failure.header, call);
    keep_answer(call, &failure.header, NULL);
    if (rpc_call_is_late(call)) {
        fail_late(call);
    } else {
        send_failure(call, &failure);
    }
}

void
rpc_call_fail_detail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason,
    uint32_t retry_after_ms)
{
    assert(code != ERR_OK);
    if (code == ERR_OK) {
        code = ERR_INTERNAL;
    }
    rpc_call_fail_code(call, (int)rpc_code_from_err(code), err_message(why, code), reason != NULL ? reason : "",
        retry_after_ms);
}

void
rpc_call_fail(struct rpc_call *call, enum err code, const char *format, ...)
{
    struct err_detail why;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why.message, sizeof(why.message), format, arguments);
    va_end(arguments);
    rpc_call_fail_detail(call, code, &why, NULL, 0);
}

void
rpc_call_answer(const ProtobufCMessage *response, void *closure_data)
{
    struct rpc_call *call = closure_data;
    if (is_answered_already(call)) {
        return;
    }
    if (response == NULL) {
        log_error("RPC-REPLY-MISSING", NULL, "method %s answered without a response", call->method->name);
        rpc_call_fail(call, ERR_INTERNAL, "the method gave no response");
        return;
    }
    Fc__Rpc__V1__ResponseHeader ok = FC__RPC__V1__RESPONSE_HEADER__INIT;
    put_metadata(&ok, call);
    keep_answer(call, &ok, response);
    uint64_t now_us = clock_monotonic_us();
    if (now_us / US_PER_MS >= call->deadline_ms) {
        fail_late(call);
        return;
    }
    enum err err = respond(call, &ok, response, now_us);
    if (err != ERR_OK) {
        log_error("RPC-REPLY-UNSENDABLE", NULL, "a response of %s: %s", call->method->name, err_sentence(err));
        rpc_call_fail_now(call, ERR_INTERNAL, "the response cannot be sent, because it is too large or memory is short",
            NULL, 0);
        return;
    }
    rpc_call_end(call);
}
