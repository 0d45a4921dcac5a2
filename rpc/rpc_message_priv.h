// For rpc_message*.c, and for rpc_json*.c what is of the wire format only: a field as it was met in an encoding, and
// where it is stored.
#ifndef RPC_MESSAGE_PRIV_H
#define RPC_MESSAGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"

enum {
    RPC_VARINT_MAX_BYTES = 10,
};

// The wire types that are in use; 3 and 4 are the groups of old, which proto3 has not.
enum rpc_wire_type {
    RPC_WIRE_VARINT = 0,
    RPC_WIRE_64BIT = 1,
    RPC_WIRE_LENGTH_PREFIXED = 2,
    RPC_WIRE_32BIT = 5,
};

// One occurrence of a field.
struct rpc_occurrence {
    const ProtobufCFieldDescriptor *field; // NULL: one that we do not know
    uint32_t number;
    enum rpc_wire_type wire_type;
    uint64_t number_value;   // of a varint
    struct bytes_view value; // without the length of a length-prefixed one
    bool is_packed;          // the value is a list of entries
    size_t packed_count;
    bool is_borrowed; // bytes stay where they are
};

// rpc_varint_read returns the bytes of the varint at the start, 0 when it does not end within the maximum.
static inline size_t
rpc_varint_read(const uint8_t *at, const uint8_t *end, size_t max_bytes, uint64_t *value_out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < max_bytes && at + i < end; i++) {
        value |= (uint64_t)(at[i] & 0x7f) << (7 * i);
        if ((at[i] & 0x80) == 0) {
            *value_out = value;
            return i + 1;
        }
    }
    return 0;
}

// rpc_message_begin returns a message without fields; NULL when the arena is exhausted.
ProtobufCMessage *rpc_message_begin(const ProtobufCMessageDescriptor *descriptor, struct arena *arena);

// rpc_message_store stores a value that has been checked. For a message it gives the one to store its fields in, which
// is an earlier one when the field is not repeated: so duplicates merge. False when the arena is exhausted.
bool rpc_message_store(ProtobufCMessage *message, const struct rpc_occurrence *occurrence, struct arena *arena,
    ProtobufCMessage **child_out);

#endif
