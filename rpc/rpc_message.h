// Unpacking protobuf messages that strangers sent.
//
// protobuf-c recurses without a limit, accepts text that is not UTF-8, and spends many times a message's size in
// memory. So a message is walked by its descriptor instead (depth, elements, wire types, UTF-8), and stored in an arena
// with a ceiling. Fields that the descriptor does not know are skipped.
#ifndef RPC_MESSAGE_H
#define RPC_MESSAGE_H

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

// rpc_message_check walks the encoding without unpacking it. ERR_INVALID with the field's name in `why`: more than
// RPC_NESTING_MAX_DEPTH levels or RPC_ELEMENTS_MAX elements, a string that is not UTF-8 or holds U+0000, a field that
// is cut short, has another wire type, or number 0.
enum err rpc_message_check(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data,
    struct err_detail *why) ERR_CHECKED;

// rpc_message_unpack checks and unpacks. The message lives in the arena and is never freed by itself.
// ERR_INVALID as above; ERR_NO_MEMORY when the arena is exhausted.
enum err rpc_message_unpack(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, struct arena *arena,
    ProtobufCMessage **message_out, struct err_detail *why) ERR_CHECKED;

// rpc_message_unpack_in_place is the same without a copy of fields of type bytes: they point into data, which has to
// outlive the message. For large ones this is most of the work.
enum err rpc_message_unpack_in_place(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data,
    struct arena *arena, ProtobufCMessage **message_out, struct err_detail *why) ERR_CHECKED;

// rpc_message_arena_limit is the ceiling for an arena that a message of this size is unpacked into. Lists of short
// strings, map entries and small messages cost up to about 12 times their encoding; what costs more (empty messages: 60
// times) is bounded by it.
size_t rpc_message_arena_limit(size_t encoded_bytes);

#endif
