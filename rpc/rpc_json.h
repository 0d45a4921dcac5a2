// The JSON mapping of protobuf (protobuf.dev/programming-guides/json), for messages that a schema describes.
//
// Names are lowerCamelCase, bytes base64, 64-bit integers strings, enums names, NaN and the infinities strings. On
// input the names of the .proto file, numbers for enums and for 64-bit integers up to 2^63 - 1, strings for numbers,
// and the URL-safe base64 are taken too. The messages of google.protobuf with forms of their own (Any, Timestamp and so
// on) are mapped as any other message.
#ifndef RPC_JSON_H
#define RPC_JSON_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_schema.h"

// rpc_json_to_wire appends the encoding of a message that is written as a JSON object. Fields are in the order of their
// numbers. ERR_INVALID names the field, as in `field "rooms[1].name": expected a string`; ERR_TOO_BIG: the text is over
// RPC_JSON_MAX_BYTES or the message over RPC_MESSAGE_MAX_BYTES; ERR_NO_MEMORY. On failure out may hold a part.
enum err rpc_json_to_wire(const struct rpc_schema_message *message, struct bytes_view json, struct bytes *out,
    struct err_detail *why) ERR_CHECKED;

// rpc_json_from_wire appends the JSON of an encoded message, on one line. Fields with their default value are left out
// unless with_defaults is set; fields that the schema does not know are skipped. The text holds no control characters,
// so a terminal may show it. ERR_PROTOCOL names the field that cannot be read; ERR_TOO_BIG: the text would be over
// RPC_JSON_MAX_BYTES; ERR_NO_MEMORY. On failure out may hold a part.
enum err rpc_json_from_wire(const struct rpc_schema_message *message, struct bytes_view encoded, bool with_defaults,
    struct bytes *out, struct err_detail *why) ERR_CHECKED;

#endif
