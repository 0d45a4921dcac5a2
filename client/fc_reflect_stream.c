// Calls of methods that stream, by their schema.
//
// What is to be sent is encoded before the call begins, so that a request that does not fit stops it in time. A thread
// of its own sends, since the server may want its answers taken before it takes more.
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "client/fc_reflect_priv.h"
#include "rpc/rpc_client_stream.h"
#include "rpc/rpc_json.h"

// The requests, each behind its length of four bytes.
struct requests {
    struct rpc_client_stream *stream;
    struct bytes encoded;
};

static enum err
add_request(struct requests *requests, const struct rpc_schema_message *type, struct bytes_view json,
    struct err_detail *why)
{
    uint8_t length[sizeof(uint32_t)] = {0};
    enum err err = bytes_append(&requests->encoded, bytes_view_of(length, sizeof(length)));
    size_t start = requests->encoded.size;
    if (err == ERR_OK) {
        err = rpc_json_to_wire(type, json, &requests->encoded, why);
    }
    if (err == ERR_OK) {
        bytes_store_be32(requests->encoded.data + start - sizeof(length), (uint32_t)(requests->encoded.size - start));
    }
    return err;
}

// Encodes each line that is not empty.
static enum err
add_lines(struct requests *requests, const struct rpc_schema_message *type, struct bytes_view json,
    struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t number = 1; err == ERR_OK && json.size > 0; number++) {
        const uint8_t *end = memchr(json.data, '\n', json.size);
        size_t size = end != NULL ? (size_t)(end - json.data) : json.size;
        struct err_detail cause = {0};
        if (size > 0) {
            err = add_request(requests, type, bytes_view_of(json.data, size), &cause);
        }
        if (err != ERR_OK) {
            err = err_fail(why, err, "line %zu: %s", number, err_message(&cause, err));
        }
        size += end != NULL;
        json = bytes_view_of(json.data + size, json.size - size);
    }
    return err;
}

static void *
send_all(void *context)
{
    struct requests *requests = context;
    enum err err = ERR_OK;
    for (size_t at = 0; err == ERR_OK && at < requests->encoded.size;) {
        size_t size = bytes_load_be32(requests->encoded.data + at);
        at += sizeof(uint32_t);
        err = rpc_client_stream_send_encoded(requests->stream, bytes_view_of(requests->encoded.data + at, size));
        at += size;
    }
    if (err == ERR_OK) {
        rpc_client_stream_end(requests->stream);
    } else if (err != ERR_CLOSED) { // else it has ended, and tells itself how
        rpc_client_stream_cancel(requests->stream);
    }
    return NULL;
}

static enum err
receive_all(struct rpc_client_stream *stream, const struct fc_reflect_call *call, const struct rpc_schema_message *type,
    struct err_detail *why)
{
    const void *message = stream;
    enum err err = ERR_OK;
    while (err == ERR_OK && message != NULL) {
        err = rpc_client_stream_receive(stream, &message);
        if (err == ERR_OK && message != NULL) {
            err = fc_reflect_show(call, type, *(const struct bytes_view *)message, why);
        }
    }
    if (err != ERR_OK) {
        rpc_client_stream_cancel(stream);
        return err;
    }
    err = rpc_client_stream_finish(stream);
    return fc_reflect_explain(&stream->call.status, err, why);
}

static enum err
run_stream(struct requests *requests, const struct fc_reflect_call *call, const struct rpc_schema_method *method,
    struct err_detail *why)
{
    struct rpc_client_stream *stream = requests->stream;
    pthread_t sender;
    if (!method->descriptor->client_streaming) {
        const struct bytes *encoded = &requests->encoded;
        rpc_client_stream_open_with_encoded(stream, call->method,
            bytes_view_of(encoded->data + sizeof(uint32_t), encoded->size - sizeof(uint32_t)));
        return receive_all(stream, call, method->output, why);
    }
    rpc_client_stream_open(stream, call->method);
    enum err err = thread_start(&sender, "fc-sender", send_all, requests);
    if (err == ERR_OK) {
        err = receive_all(stream, call, method->output, why);
        (void)pthread_join(sender, NULL);
    }
    return err;
}

enum err
fc_reflect_stream(struct fc_session *session, const struct fc_reflect_call *call,
    const struct rpc_schema_method *method, struct err_detail *why)
{
    struct rpc_client_stream stream;
    struct requests requests = {.stream = &stream};
    enum err err = method->descriptor->client_streaming ? add_lines(&requests, method->input, call->json, why)
                                                        : add_request(&requests, method->input, call->json, why);
    if (err == ERR_OK) {
        rpc_client_stream_init(&stream, fc_session_channel(session), NULL);
        stream.call.timeout_ms = call->timeout_ms != 0 ? call->timeout_ms : stream.call.timeout_ms;
        err = run_stream(&requests, call, method, why);
        rpc_client_stream_deinit(&stream);
    }
    bytes_free_secret(&requests.encoded); // a request may hold any secret
    return err;
}
