// Reading protobuf messages that people sign: only encodings that every reader understands alike. Any thread.
#ifndef E2E_E2E_WIRE_H
#define E2E_E2E_WIRE_H

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/err.h"

// e2e_wire_unpack reads a message that has to be in the one form that an encoder gives it (fields in the order of their
// numbers, each once, no defaults, shortest varints, all known, text in UTF-8 without U+0000): what is signed means the
// same to all. `what` names it in `why`. The result is the caller's, to be freed with protobuf_c_message_free_unpacked.
// ERR_TOO_BIG: more than max_bytes, which bounds the memory as well. ERR_INVALID.
enum err e2e_wire_unpack(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data, size_t max_bytes,
    const char *what, ProtobufCMessage **out, struct err_detail *why) ERR_CHECKED;

// e2e_wire_append appends the encoding of a message.
enum err e2e_wire_append(const ProtobufCMessage *message, struct bytes *out) ERR_CHECKED;

#endif
