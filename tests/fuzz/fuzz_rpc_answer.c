// A client reads what a hostile server answers: a call has a response or an error that says why, never both.
//
// The first byte says how the call was made: raw, typed, or typed with an answer that is taken in place. The second one
// picks its method; the rest is the frame of the answer.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc_channel_priv.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_retry.h"

#include "fc/auth/v1/auth.pb-c.h"
#include "fc/chat/v1/chat.pb-c.h"
#include "fc/filestore/v1/filestore.pb-c.h"
#include "fc/test/v1/conformance.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HEAD_BYTES = 2,
};

enum kind {
    KIND_RAW,
    KIND_TYPED,
    KIND_IN_PLACE,
    KIND_COUNT,
};

static const ProtobufCServiceDescriptor *const services[] = {
    &fc__auth__v1__auth__descriptor,
    &fc__chat__v1__chat__descriptor,
    &fc__filestore__v1__file_store__descriptor,
    &fc__test__v1__echo__descriptor,
    &fc__test__v1__conformance__descriptor,
};

static struct rpc_channel *channel; // connects to nothing; for as long as the process lives

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    require(rpc_channel_new(&(struct rpc_channel_options){.url = "ipc:///nowhere"}, &channel, NULL) == ERR_OK);
    return 0;
}

static const ProtobufCMessageDescriptor *
pick(unsigned number)
{
    const unsigned count = sizeof(services) / sizeof(services[0]);
    const ProtobufCServiceDescriptor *service = services[number % count];
    return service->methods[number / count % service->n_methods].output;
}

// Everything that a program may read of a response: packing does.
static void
read_response(const struct rpc_unary *call, const ProtobufCMessageDescriptor *type)
{
    const ProtobufCMessage *response = rpc_unary_response(call);
    struct err_detail why = {0};
    require(response != NULL && response->descriptor == type);
    const size_t packed_size = protobuf_c_message_get_packed_size(response);
    uint8_t *packed = malloc(packed_size + 1);
    require(packed != NULL && protobuf_c_message_pack(response, packed) == packed_size);
    require(rpc_message_check(type, bytes_view_of(packed, packed_size), &why) == ERR_OK);
    free(packed);
}

static void
check_failure(struct rpc_unary *call)
{
    const struct rpc_status *status = &call->status;
    require(status->code > RPC_OK && status->code < RPC_CODE_COUNT);
    require(status->detail.message[0] != '\0'); // a refusal says why
    require(memchr(status->detail.message, '\0', sizeof(status->detail.message)) != NULL);
    require(memchr(status->reason, '\0', sizeof(status->reason)) != NULL);
    require(rpc_unary_response(call) == NULL && rpc_unary_raw_response(call).size == 0);
    require(rpc_status_to_err(status) != ERR_OK);
    call->is_idempotent = true;
    call->status.attempts = 1;
    if (rpc_retry_is_wanted(call)) {
        require(rpc_retry_pause_ms(call) >= status->retry_after_ms);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_unary call;
    struct rpc_frame frame;
    struct bytes large = {0};
    if (size < HEAD_BYTES) {
        return 0;
    }
    enum kind kind = data[0] % KIND_COUNT;
    const ProtobufCMessageDescriptor *type = kind == KIND_RAW ? NULL : pick(data[1]);
    struct bytes_view answer = bytes_view_of(data + HEAD_BYTES, size - HEAD_BYTES);
    rpc_unary_init(&call, channel, NULL);
    call.response_type = type;
    if (kind == KIND_IN_PLACE) {
        require(bytes_append(&large, answer) == ERR_OK);
        rpc_unary_take_answer(&call, bytes_as_view(&large), &large);
        bytes_free(&large); // the call has what it needs of it
    } else {
        rpc_unary_take_answer(&call, answer, NULL);
    }
    if (call.status.code != RPC_OK) {
        check_failure(&call);
    } else if (type != NULL) {
        read_response(&call, type);
    } else {
        require(rpc_frame_parse(answer, &frame) == ERR_OK);
        require(bytes_view_equal(frame.message, rpc_unary_raw_response(&call)));
    }
    rpc_unary_deinit(&call);
    return 0;
}
