// For tests that speak in frames over a fake wire: what a client sends, and what it gets back.
#ifndef TESTS_UNIT_FRAME_SUPPORT_H
#define TESTS_UNIT_FRAME_SUPPORT_H

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "fake_wire.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_status.h"

#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/conformance.pb-c.h"

#define METHOD(name) "fc.test.v1.Conformance/" name

static inline bool
is_over(const struct timespec *until)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > until->tv_sec;
}

// wait_for waits until a counter has come to a number.
static inline void
wait_for(const atomic_size_t *counter, size_t wanted)
{
    struct timespec until = limit();
    while (atomic_load(counter) < wanted) {
        (void)sched_yield();
        if (is_over(&until)) {
            fail_msg("%zu instead of %zu", atomic_load(counter), wanted);
        }
    }
}

struct frame {
    uint32_t id;
    uint8_t flags;
    const char *method; // NULL: without a RequestHeader
    uint32_t timeout_ms;
    const char *request_id;         // 16 characters, or NULL
    const ProtobufCMessage *header; // instead of a RequestHeader
    const ProtobufCMessage *message;
};

static inline enum err
try_frame(struct wire *wire, const struct frame *frame)
{
    struct bytes data = {0};
    uint8_t id[4];
    char method[128] = "";
    uint8_t request_id[16];
    Fc__Rpc__V1__RequestHeader request = FC__RPC__V1__REQUEST_HEADER__INIT;
    const ProtobufCMessage *header = frame->header;
    if (frame->method != NULL) {
        strcpy(method, frame->method);
        request.method = method;
        request.timeout_ms = frame->timeout_ms;
        header = &request.base;
    }
    if (frame->request_id != NULL) {
        memcpy(request_id, frame->request_id, sizeof(request_id));
        request.request_id.data = request_id;
        request.request_id.len = sizeof(request_id);
    }
    bytes_store_be32(id, frame->id | 0x80000000u);
    assert_int_equal(ERR_OK, bytes_append(&data, bytes_view_of(id, sizeof(id))));
    assert_int_equal(ERR_OK, rpc_frame_append(&data, frame->flags, header, frame->message, NULL));
    enum err err = rpc_peer_receive(wire->peer, bytes_as_view(&data), NULL);
    bytes_free(&data);
    return err;
}

static inline void
send_frame(struct wire *wire, const struct frame *frame)
{
    assert_int_equal(ERR_OK, try_frame(wire, frame));
    rpc_peer_batch_end(wire->peer);
}

// What came back: one message of the wire, taken apart.
struct answer {
    uint32_t id;
    uint8_t flags;
    struct bytes_view header;
    struct bytes_view message;
};

static inline struct answer
answer_at(struct wire *wire, size_t index)
{
    struct rpc_frame frame;
    pthread_mutex_lock(&wire->mutex);
    assert_true(index < wire->sent_count);
    struct bytes_view sent = bytes_as_view(&wire->sent[index]);
    pthread_mutex_unlock(&wire->mutex);
    assert_int_equal(ERR_OK, rpc_frame_parse(bytes_view_of(sent.data + 4, sent.size - 4), &frame));
    return (struct answer){bytes_load_be32(sent.data) & 0x7fffffffu, frame.flags, frame.header, frame.message};
}

// assert_status reads the ResponseHeader of a reply or of an END.
static inline void
assert_status(struct wire *wire, size_t index, uint8_t flags, enum rpc_code code, const char *word)
{
    struct answer answer = answer_at(wire, index);
    Fc__Rpc__V1__ResponseHeader *header =
        fc__rpc__v1__response_header__unpack(NULL, answer.header.size, answer.header.data);
    assert_non_null(header);
    assert_int_equal(flags, answer.flags);
    if ((enum rpc_code)header->code != code || (word != NULL && strstr(header->message, word) == NULL)) {
        fail_msg("%s \"%s\" instead of %s with \"%s\"", rpc_code_name((enum rpc_code)header->code), header->message,
            rpc_code_name(code), word != NULL ? word : "");
    }
    fc__rpc__v1__response_header__free_unpacked(header, NULL);
}

// data_of unpacks a message; the caller frees it.
static inline Fc__Test__V1__ConformanceData *
data_of(struct bytes_view message)
{
    Fc__Test__V1__ConformanceData *data = fc__test__v1__conformance_data__unpack(NULL, message.size, message.data);
    assert_non_null(data);
    return data;
}

#endif
