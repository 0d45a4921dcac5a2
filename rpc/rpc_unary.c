// One call on a channel: what it sends, and what it makes of the answer.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/random.h"
#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"

#include "fc/rpc/v1/rpc.pb-c.h"

enum {
    REQUEST_ID_BYTES = 4,                   // in front of the frame, of the SP protocol
    FIRST_FRAME_BYTES = 256,                // most frames fit
    METHOD_MAX_BYTES = 256,                 // with its NUL
    VARINT_MAX_BYTES = 5,                   // of 32 bits
    RESPONSE_HEADER_MAX_BYTES = 128 * 1024, // unpacked
};

void
rpc_unary_set_status(struct rpc_unary *call, enum rpc_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    call->status.code = code;
    (void)vsnprintf(call->status.detail.message, sizeof call->status.detail.message, format, args);
    va_end(args);
}

// What a call sends: a message, or one that has been encoded elsewhere.
struct request {
    char *method; // "package.Service/Method"
    uint8_t flags;
    const ProtobufCMessage *message; // NULL: `encoded` is it
    struct bytes_view encoded;
};

// Metadata as messages, for the header that is packed from them.
struct metadata {
    Fc__Rpc__V1__Metadata entries[RPC_METADATA_MAX_ENTRIES];
    Fc__Rpc__V1__Metadata *list[RPC_METADATA_MAX_ENTRIES];
};

// The messages borrow what they hold: packing only reads it.
static void
put_metadata(Fc__Rpc__V1__RequestHeader *header, const struct rpc_unary *call, struct metadata *metadata)
{
    for (size_t i = 0; i < call->metadata_count; i++) {
        const struct rpc_metadata *from = &call->metadata[i];
        fc__rpc__v1__metadata__init(&metadata->entries[i]);
        metadata->entries[i].key = (char *)(uintptr_t)from->key;
        metadata->entries[i].value.data = (uint8_t *)(uintptr_t)from->value.data;
        metadata->entries[i].value.len = from->value.size;
        metadata->list[i] = &metadata->entries[i];
    }
    header->metadata = metadata->list;
    header->n_metadata = call->metadata_count;
}

static enum err
encode(struct rpc_unary *call, const struct request *request, struct bytes *frame, struct bytes_view *bulk_out)
{
    static const uint8_t no_id_yet[REQUEST_ID_BYTES];
    char token[RPC_TOKEN_MAX_BYTES + 1];
    struct metadata metadata;
    if (strlen(request->method) >= METHOD_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
    rpc_channel_copy_token(call->channel, token);
    header.method = request->method;
    header.timeout_ms = call->timeout_ms;
    header.token = token;
    header.request_id.data = call->request_id;
    header.request_id.len = sizeof call->request_id;
    put_metadata(&header, call, &metadata);
    enum err err = bytes_reserve(frame, FIRST_FRAME_BYTES);
    if (err == ERR_OK) {
        err = bytes_append(frame, bytes_view_of(no_id_yet, sizeof no_id_yet));
    }
    if (err == ERR_OK && request->message != NULL) {
        err = rpc_frame_append(frame, request->flags, &header.base, request->message, bulk_out);
    } else if (err == ERR_OK) {
        err = rpc_frame_append_encoded(frame, request->flags, &header.base, request->encoded);
    }
    digest_wipe(token, sizeof token);
    return err == ERR_OK && frame->size + bulk_out->size > RPC_MESSAGE_MAX_BYTES ? ERR_TOO_BIG : err;
}

static void
start(struct rpc_unary *call, const struct request *request)
{
    struct bytes frame = {0};
    struct bytes_view bulk = {0};
    if (call->timeout_ms == 0 || call->timeout_ms > RPC_TIMEOUT_MAX_MS) {
        call->timeout_ms = call->timeout_ms == 0 ? RPC_TIMEOUT_DEFAULT_MS : RPC_TIMEOUT_MAX_MS;
    }
    struct err_detail why = {0};
    enum err err = rpc_metadata_check(call->metadata, call->metadata_count, &why);
    bool is_metadata_good = err == ERR_OK;
    if (is_metadata_good) {
        err = encode(call, request, &frame, &bulk);
    }
    if (err == ERR_OK) {
        rpc_channel_submit(call->channel, call, &frame, bulk);
    } else {
        if (!is_metadata_good) {
            rpc_unary_set_status(call, rpc_code_from_err(err), "%s", err_message(&why, err));
        } else if (err == ERR_TOO_BIG) {
            rpc_unary_set_status(call, RPC_RESOURCE_EXHAUSTED,
                "the request of %s is larger than the %d bytes that one call may carry", request->method,
                RPC_MESSAGE_MAX_BYTES);
        } else {
            rpc_unary_set_status(call, rpc_code_from_err(err), "cannot make the request of %s: %s", request->method,
                err_sentence(err));
        }
        rpc_channel_reject(call->channel, call);
    }
    bytes_free(&frame);
}

enum err
rpc_unary_renew_frame(struct bytes *frame, uint32_t timeout_ms)
{
    struct rpc_frame parsed;
    struct bytes renewed = {0};
    Fc__Rpc__V1__RequestHeader *header = NULL;
    enum err err =
        rpc_frame_parse(bytes_view_of(frame->data + REQUEST_ID_BYTES, frame->size - REQUEST_ID_BYTES), &parsed);
    if (err != ERR_OK) {
        return err;
    }
    header = fc__rpc__v1__request_header__unpack(NULL, parsed.header.size, parsed.header.data);
    err = header == NULL ? ERR_NO_MEMORY : bytes_reserve(&renewed, frame->size + VARINT_MAX_BYTES);
    if (err == ERR_OK) {
        header->timeout_ms = timeout_ms;
        err = bytes_append(&renewed, bytes_view_of(frame->data, REQUEST_ID_BYTES));
    }
    if (err == ERR_OK) {
        err = rpc_frame_append_encoded(&renewed, parsed.flags, &header->base, parsed.message);
    }
    if (header != NULL) {
        digest_wipe(header->token, strlen(header->token));
        fc__rpc__v1__request_header__free_unpacked(header, NULL);
    }
    if (err == ERR_OK) {
        bytes_free(frame);
        *frame = renewed;
    } else {
        bytes_free(&renewed);
    }
    return err;
}

static void
invoke(ProtobufCService *service, unsigned method_index, const ProtobufCMessage *input, ProtobufCClosure closure,
    void *closure_data)
{
    struct rpc_unary *call = (struct rpc_unary *)service;
    const ProtobufCMethodDescriptor *method = &service->descriptor->methods[method_index];
    char name[METHOD_MAX_BYTES + 1]; // so that a name that has been cut is still too long
    call->closure = closure;
    call->closure_data = closure_data;
    call->response_type = method->output;
    (void)snprintf(name, sizeof name, "%s/%s", service->descriptor->name, method->name);
    start(call, &(struct request){.method = name, .message = input});
}

void
rpc_unary_start_flagged(struct rpc_unary *call, const char *method, uint8_t flags, const ProtobufCMessage *message,
    struct bytes_view encoded)
{
    char name[METHOD_MAX_BYTES + 1]; // as above
    (void)snprintf(name, sizeof name, "%s", method);
    start(call, &(struct request){.method = name, .flags = flags, .message = message, .encoded = encoded});
}

void
rpc_unary_start_raw(struct rpc_unary *call, const char *method, struct bytes_view request)
{
    rpc_unary_start_flagged(call, method, 0, NULL, request);
}

static void
take_details(struct rpc_unary *call, const Fc__Rpc__V1__ResponseHeader *header, struct arena *arena)
{
    for (size_t i = 0; i < header->n_details; i++) {
        const Fc__Rpc__V1__Detail *detail = header->details[i];
        if (strcmp(detail->type, "fc.rpc.v1.ErrorInfo") != 0) {
            continue;
        }
        ProtobufCMessage *unpacked = NULL;
        struct bytes_view value = bytes_view_of(detail->value.data, detail->value.len);
        if (rpc_message_unpack(&fc__rpc__v1__error_info__descriptor, value, arena, &unpacked, NULL) == ERR_OK) {
            const Fc__Rpc__V1__ErrorInfo *info = (const Fc__Rpc__V1__ErrorInfo *)unpacked;
            (void)snprintf(call->status.reason, sizeof call->status.reason, "%s", info->reason);
            call->status.retry_after_ms = info->retry_after_ms;
            return;
        }
    }
}

static void
take_metadata(struct rpc_unary *call, const Fc__Rpc__V1__ResponseHeader *header)
{
    size_t count = header->n_metadata;
    struct rpc_metadata *entries = count == 0 ? NULL : arena_alloc(&call->header_arena, count * sizeof *entries);
    for (size_t i = 0; entries != NULL && i < count; i++) {
        const ProtobufCBinaryData *value = &header->metadata[i]->value;
        entries[i] = (struct rpc_metadata){
            .key = header->metadata[i]->key,
            .value = bytes_view_of(value->data, value->len),
        };
    }
    call->response_metadata = entries;
    call->response_metadata_count = entries == NULL ? 0 : count;
}

void
rpc_unary_take_header(struct rpc_unary *call, struct bytes_view encoded)
{
    struct arena *arena = &call->header_arena;
    ProtobufCMessage *unpacked = NULL;
    if (encoded.size == 0) {
        return; // as most are: success
    }
    arena_deinit(arena); // of an earlier attempt
    arena_init(arena, RESPONSE_HEADER_MAX_BYTES);
    enum err err = rpc_message_unpack(&fc__rpc__v1__response_header__descriptor, encoded, arena, &unpacked, NULL);
    if (err != ERR_OK) {
        rpc_unary_set_status(call, RPC_INTERNAL, "the header of the answer cannot be read: %s", err_sentence(err));
    } else {
        const Fc__Rpc__V1__ResponseHeader *header = (const Fc__Rpc__V1__ResponseHeader *)unpacked;
        int code = (int)header->code;
        take_metadata(call, header);
        if (code != RPC_OK) {
            bool is_known = code > 0 && code <= RPC_UNAUTHENTICATED;
            enum rpc_code known = is_known ? (enum rpc_code)code : RPC_UNKNOWN;
            const char *message = header->message[0] != '\0' ? header->message : rpc_code_name(known);
            rpc_unary_set_status(call, known, "%s", message);
            call->status.raw_code = code;
            take_details(call, header, arena);
        }
    }
    if (call->response_metadata_count == 0) {
        arena_deinit(arena);
    }
}

size_t
rpc_unary_metadata_count(const struct rpc_unary *call)
{
    return call->response_metadata_count;
}

struct rpc_metadata
rpc_unary_metadata(const struct rpc_unary *call, size_t index)
{
    return call->response_metadata[index];
}

static void
take_message(struct rpc_unary *call, struct bytes_view encoded, struct bytes *large)
{
    struct err_detail why = {0};
    if (call->response_type == NULL) {
        if (bytes_append(&call->raw_response, encoded) != ERR_OK) {
            rpc_unary_set_status(call, RPC_RESOURCE_EXHAUSTED, "no memory for the answer of %zu bytes", encoded.size);
        }
        return;
    }
    struct arena *arena = &call->response_arena;
    enum err err;
    arena_init(arena, rpc_message_arena_limit(encoded.size));
    if (large != NULL) {
        err = rpc_message_unpack_in_place(call->response_type, encoded, arena, &call->response, &why);
        call->response_bytes = *large;
        *large = (struct bytes){0};
    } else {
        err = rpc_message_unpack(call->response_type, encoded, arena, &call->response, &why);
    }
    if (err == ERR_NO_MEMORY) {
        rpc_unary_set_status(call, RPC_RESOURCE_EXHAUSTED, "no memory for the answer of %zu bytes", encoded.size);
    } else if (err != ERR_OK) {
        rpc_unary_set_status(call, RPC_INTERNAL, "the answer cannot be read: %s", err_message(&why, err));
    }
}

void
rpc_unary_take_answer(struct rpc_unary *call, struct bytes_view data, struct bytes *large)
{
    struct rpc_frame frame;
    enum err err = rpc_frame_parse(data, &frame);
    if (err == ERR_VERSION) {
        rpc_unary_set_status(call, RPC_UNIMPLEMENTED,
            "the server at %s speaks protocol version %u, this program version %d: upgrade the older one",
            rpc_channel_url(call->channel), data.data[0], RPC_FRAME_VERSION);
    } else if (err != ERR_OK || frame.flags != 0) {
        rpc_unary_set_status(call, RPC_INTERNAL, "the answer from %s is malformed", rpc_channel_url(call->channel));
    } else {
        rpc_unary_take_header(call, frame.header);
        if (call->status.code == RPC_OK) {
            take_message(call, frame.message, large);
        }
    }
}

// Request ids are unique, not secret: a thread asks the kernel for many at once.
static void
make_request_id(uint8_t request_id_out[RPC_REQUEST_ID_BYTES])
{
    static _Thread_local uint8_t stock[32][RPC_REQUEST_ID_BYTES];
    static _Thread_local size_t left;
    if (left == 0) {
        random_bytes(stock, sizeof stock);
        left = sizeof stock / sizeof stock[0];
    }
    left--;
    memcpy(request_id_out, stock[left], RPC_REQUEST_ID_BYTES);
}

void
rpc_unary_init(struct rpc_unary *call, struct rpc_channel *channel, const ProtobufCServiceDescriptor *service)
{
    *call = (struct rpc_unary){
        .service = {.descriptor = service, .invoke = invoke},
        .timeout_ms = RPC_TIMEOUT_DEFAULT_MS,
        .channel = channel,
    };
    make_request_id(call->request_id);
}

enum err
rpc_unary_wait(struct rpc_unary *call)
{
    rpc_channel_wait(call->channel, call);
    return rpc_status_to_err(&call->status);
}

const void *
rpc_unary_response(const struct rpc_unary *call)
{
    return call->response;
}

struct bytes_view
rpc_unary_raw_response(const struct rpc_unary *call)
{
    return bytes_as_view(&call->raw_response);
}

void
rpc_unary_cancel(struct rpc_unary *call)
{
    if (rpc_channel_cancel(call->channel, call)) {
        rpc_unary_set_status(call, RPC_CANCELLED, "%s", err_sentence(ERR_CANCELLED));
        rpc_channel_reject(call->channel, call);
    }
}

void
rpc_unary_deinit(struct rpc_unary *call)
{
    call->response = NULL;
    call->response_metadata = NULL;
    call->response_metadata_count = 0;
    arena_deinit(&call->header_arena);
    arena_deinit(&call->response_arena);
    bytes_free(&call->response_bytes);
    bytes_free(&call->raw_response);
}
