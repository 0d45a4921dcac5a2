// Whatever rpc_frame_parse accepts lies inside the input and leaves nothing of it over.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "rpc/rpc_frame.h"
#include "rpc/rpc_limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_frame frame;
    const enum err err = rpc_frame_parse(bytes_view_of(data, size), &frame);
    if (err != ERR_OK) {
        require(err == ERR_PROTOCOL || err == ERR_VERSION || err == ERR_TOO_BIG);
        return 0;
    }
    require(data[0] == RPC_FRAME_VERSION);
    require(frame.flags == data[1]);
    require(frame.header.size <= RPC_HEADER_MAX_BYTES);
    require(RPC_FRAME_PREFIX_BYTES + frame.header.size + frame.message.size == size);
    require(frame.header.size == 0 || frame.header.data == data + RPC_FRAME_PREFIX_BYTES);
    require(frame.message.size == 0 || frame.message.data == data + RPC_FRAME_PREFIX_BYTES + frame.header.size);
    return 0;
}
