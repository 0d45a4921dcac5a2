// Whatever rpc_message_unpack accepts can be packed again, and what comes of that is accepted too.
//
// The first byte picks the message type: the headers, the events, and every request and response of every service.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "rpc/rpc_message.h"

#include "fc/auth/v1/auth.pb-c.h"
#include "fc/chat/v1/chat.pb-c.h"
#include "fc/filestore/v1/filestore.pb-c.h"
#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCServiceDescriptor *const services[] = {
    &fc__auth__v1__auth__descriptor,
    &fc__chat__v1__chat__descriptor,
    &fc__filestore__v1__file_store__descriptor,
    &fc__test__v1__echo__descriptor,
};

static const ProtobufCMessageDescriptor *const others[] = {
    &fc__rpc__v1__request_header__descriptor,
    &fc__rpc__v1__response_header__descriptor,
    &fc__rpc__v1__error_info__descriptor,
    &fc__chat__v1__event_batch__descriptor,
};

// Maps every number to some message type.
static const ProtobufCMessageDescriptor *
pick(unsigned number)
{
    const unsigned other_count = sizeof(others) / sizeof(others[0]);
    const unsigned service_count = sizeof(services) / sizeof(services[0]);
    if (number % 4 == 0) {
        return others[number / 4 % other_count];
    }
    const ProtobufCServiceDescriptor *service = services[number / 4 % service_count];
    const ProtobufCMethodDescriptor *method = &service->methods[number / 16 % service->n_methods];
    return number % 2 == 0 ? method->input : method->output;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *descriptor = pick(data[0]);
    const struct bytes_view encoded = bytes_view_of(data + 1, size - 1);
    struct arena arena;
    arena_init(&arena, 1024 * 1024);
    ProtobufCMessage *message = NULL;
    struct err_detail why = {0};
    const enum err err = rpc_message_unpack(descriptor, encoded, &arena, &message, &why);
    if (err == ERR_INVALID) {
        if (why.message[0] == '\0') {
            abort(); // a refusal says why
        }
    } else if (err == ERR_OK) {
        const size_t packed_size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = malloc(packed_size + 1);
        if (packed == NULL || protobuf_c_message_pack(message, packed) != packed_size) {
            abort();
        }
        if (rpc_message_check(descriptor, bytes_view_of(packed, packed_size), &why) != ERR_OK) {
            abort();
        }
        free(packed);
    } else if (err != ERR_NO_MEMORY) {
        abort();
    }
    arena_deinit(&arena);
    return 0;
}
