// The frame of a call (docs/protocol.md): version, flags, header length, header, message.
#ifndef RPC_FRAME_H
#define RPC_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    RPC_FRAME_VERSION = 1,
    RPC_FRAME_PREFIX_BYTES = 4,
    RPC_FRAME_BULK_BYTES = 32 * 1024,
};

// What a frame is, besides one request or one reply, which has no flag.
enum rpc_frame_flag {
    RPC_FRAME_OPEN = 0x01,
    RPC_FRAME_MESSAGE = 0x02,
    RPC_FRAME_END = 0x04,
    RPC_FRAME_CANCEL = 0x08,
    RPC_FRAME_CREDIT = 0x10,
    RPC_FRAME_CONTROL = 0x20,
};

// The request id of frames that are about the connection; no call has it.
#define RPC_FRAME_CONTROL_ID UINT32_C(0x80000000)

struct rpc_frame {
    uint8_t flags;
    struct bytes_view header;  // encoded RequestHeader or ResponseHeader
    struct bytes_view message; // encoded message of the method
};

// rpc_frame_parse splits a frame without copying: the views borrow from `data`. ERR_PROTOCOL: shorter than its prefix
// or header length says. ERR_VERSION: another version. ERR_TOO_BIG: header over RPC_HEADER_MAX_BYTES.
enum err rpc_frame_parse(struct bytes_view data, struct rpc_frame *frame_out) ERR_CHECKED;

// rpc_frame_has_flags: it is of this version, and more than one request or one reply.
bool rpc_frame_has_flags(struct bytes_view data);

// rpc_frame_append encodes a frame at the end of out. header and message may be NULL for none. ERR_TOO_BIG: the
// header is over RPC_HEADER_MAX_BYTES or the frame over RPC_MESSAGE_MAX_BYTES. On failure out keeps its size.
//
// Bulk is not copied: when the last field of the message, by its number, is of type bytes and holds
// RPC_FRAME_BULK_BYTES or more, its content is left out, and *bulk_out borrows it from the message; whoever writes the
// frame writes it right behind. Else *bulk_out is empty. NULL: all goes to out.
enum err rpc_frame_append(struct bytes *out, uint8_t flags, const ProtobufCMessage *header,
    const ProtobufCMessage *message, struct bytes_view *bulk_out) ERR_CHECKED;

// rpc_frame_append_encoded is the same for a message that has been encoded elsewhere.
enum err rpc_frame_append_encoded(struct bytes *out, uint8_t flags, const ProtobufCMessage *header,
    struct bytes_view message) ERR_CHECKED;

#endif
