// The frame around a call's header and message.
#include "rpc/rpc_frame.h"

#include <assert.h>
#include <string.h>

#include "rpc/rpc_limits.h"

static_assert((int)RPC_HEADER_MAX_BYTES <= UINT16_MAX, "the header's length has 16 bits");

enum err
rpc_frame_parse(struct bytes_view data, struct rpc_frame *frame_out)
{
    if (data.size < 1) {
        return ERR_PROTOCOL;
    }
    // The version comes first: what follows it in another one is unknown, its length included.
    if (data.data[0] != RPC_FRAME_VERSION) {
        return ERR_VERSION;
    }
    if (data.size < RPC_FRAME_PREFIX_BYTES) {
        return ERR_PROTOCOL;
    }
    size_t header_bytes = bytes_load_be16(data.data + 2);
    if (header_bytes > RPC_HEADER_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    if (header_bytes > data.size - RPC_FRAME_PREFIX_BYTES) {
        return ERR_PROTOCOL;
    }
    const uint8_t *header = data.data + RPC_FRAME_PREFIX_BYTES;
    frame_out->flags = data.data[1];
    frame_out->header = bytes_view_of(header, header_bytes);
    frame_out->message = bytes_view_of(header + header_bytes, data.size - RPC_FRAME_PREFIX_BYTES - header_bytes);
    return ERR_OK;
}

// begin writes what comes before a message of that size, and makes room for it at *message_at_out.
static enum err
begin(struct bytes *out, uint8_t flags, const ProtobufCMessage *header, size_t message_bytes, uint8_t **message_at_out)
{
    size_t header_bytes = protobuf_c_message_get_packed_size(header);
    if (header_bytes > RPC_HEADER_MAX_BYTES || message_bytes > RPC_MESSAGE_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    size_t frame_bytes = RPC_FRAME_PREFIX_BYTES + header_bytes + message_bytes;
    if (frame_bytes > RPC_MESSAGE_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    enum err err = bytes_reserve(out, frame_bytes);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t *to = out->data + out->size;
    to[0] = RPC_FRAME_VERSION;
    to[1] = flags;
    bytes_store_be16(to + 2, (uint16_t)header_bytes);
    to += RPC_FRAME_PREFIX_BYTES;
    *message_at_out = to + protobuf_c_message_pack(header, to);
    out->size += frame_bytes;
    return ERR_OK;
}

enum err
rpc_frame_append(struct bytes *out, uint8_t flags, const ProtobufCMessage *header, const ProtobufCMessage *message)
{
    uint8_t *at = NULL;
    size_t message_bytes = message != NULL ? protobuf_c_message_get_packed_size(message) : 0;
    enum err err = begin(out, flags, header, message_bytes, &at);
    if (err == ERR_OK && message != NULL) {
        protobuf_c_message_pack(message, at);
    }
    return err;
}

enum err
rpc_frame_append_encoded(struct bytes *out, uint8_t flags, const ProtobufCMessage *header, struct bytes_view message)
{
    uint8_t *at = NULL;
    enum err err = begin(out, flags, header, message.size, &at);
    if (err == ERR_OK && message.size > 0) {
        memcpy(at, message.data, message.size);
    }
    return err;
}
