// The frame around a call's header and message.
#include "rpc/rpc_frame.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

#include "rpc/rpc_limits.h"

enum {
    BULK_MESSAGE_MAX_BYTES = 512, // the generated struct around bulk; one that is larger is copied as a whole
};

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

bool
rpc_frame_has_flags(struct bytes_view data)
{
    return data.size >= RPC_FRAME_PREFIX_BYTES && data.data[0] == RPC_FRAME_VERSION && data.data[1] != 0;
}

static size_t
put_varint(uint8_t *to, uint64_t value)
{
    size_t size = 0;
    while (value >= 0x80) {
        to[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[size++] = (uint8_t)value;
    return size;
}

// The content of the last field, when it is worth leaving where it is.
static struct bytes_view
find_bulk(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const ProtobufCFieldDescriptor *last = descriptor->fields + descriptor->n_fields - 1;
    ProtobufCBinaryData data = {0};
    // What is packed behind the last field are unknown ones.
    if (descriptor->n_fields > 0 && last->type == PROTOBUF_C_TYPE_BYTES && last->label == PROTOBUF_C_LABEL_NONE &&
        (last->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 && message->n_unknown_fields == 0 &&
        descriptor->sizeof_message <= BULK_MESSAGE_MAX_BYTES) {
        memcpy(&data, (const uint8_t *)message + last->offset, sizeof data);
    }
    return data.len >= RPC_FRAME_BULK_BYTES ? bytes_view_of(data.data, data.len) : bytes_view_of(NULL, 0);
}

// Packs all of a message but the content of its last field, with the tag and the length of that. Returns the end.
static uint8_t *
pack_without_bulk(const ProtobufCMessage *message, struct bytes_view bulk, uint8_t *to)
{
    enum {
        WIRE_TYPE_BITS = 3,
        LENGTH_PREFIXED = 2,
    };
    union {
        ProtobufCMessage base;
        alignas(max_align_t) uint8_t memory[BULK_MESSAGE_MAX_BYTES];
    } copy;
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const ProtobufCFieldDescriptor *last = &descriptor->fields[descriptor->n_fields - 1];
    memcpy(copy.memory, message, descriptor->sizeof_message);
    memset(copy.memory + last->offset, 0, sizeof(ProtobufCBinaryData)); // an empty field is not packed
    to += protobuf_c_message_pack(&copy.base, to);
    to += put_varint(to, (uint64_t)last->id << WIRE_TYPE_BITS | LENGTH_PREFIXED);
    return to + put_varint(to, bulk.size);
}

// begin writes what comes before a message, and makes room at *message_at_out for all of it but the bulk.
static enum err
begin(struct bytes *out, uint8_t flags, const ProtobufCMessage *header, size_t message_bytes, size_t bulk_bytes,
    uint8_t **message_at_out)
{
    size_t header_bytes = header != NULL ? protobuf_c_message_get_packed_size(header) : 0;
    if (header_bytes > RPC_HEADER_MAX_BYTES || message_bytes > RPC_MESSAGE_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    size_t frame_bytes = RPC_FRAME_PREFIX_BYTES + header_bytes + message_bytes;
    if (frame_bytes > RPC_MESSAGE_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    enum err err = bytes_reserve(out, frame_bytes - bulk_bytes);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t *to = out->data + out->size;
    to[0] = RPC_FRAME_VERSION;
    to[1] = flags;
    bytes_store_be16(to + 2, (uint16_t)header_bytes);
    to += RPC_FRAME_PREFIX_BYTES;
    *message_at_out = header != NULL ? to + protobuf_c_message_pack(header, to) : to;
    out->size += frame_bytes - bulk_bytes;
    return ERR_OK;
}

enum err
rpc_frame_append(struct bytes *out, uint8_t flags, const ProtobufCMessage *header, const ProtobufCMessage *message,
    struct bytes_view *bulk_out)
{
    uint8_t *at = NULL;
    struct bytes_view bulk = bytes_view_of(NULL, 0);
    size_t message_bytes = message != NULL ? protobuf_c_message_get_packed_size(message) : 0;
    if (bulk_out != NULL && message_bytes >= RPC_FRAME_BULK_BYTES) {
        bulk = find_bulk(message);
    }
    enum err err = begin(out, flags, header, message_bytes, bulk.size, &at);
    if (err == ERR_OK && bulk.size > 0) {
        at = pack_without_bulk(message, bulk, at);
        assert(at == out->data + out->size);
    } else if (err == ERR_OK && message != NULL) {
        protobuf_c_message_pack(message, at);
    }
    if (err == ERR_OK && bulk_out != NULL) {
        *bulk_out = bulk;
    }
    return err;
}

enum err
rpc_frame_append_encoded(struct bytes *out, uint8_t flags, const ProtobufCMessage *header, struct bytes_view message)
{
    uint8_t *at = NULL;
    enum err err = begin(out, flags, header, message.size, 0, &at);
    if (err == ERR_OK && message.size > 0) {
        memcpy(at, message.data, message.size);
    }
    return err;
}
