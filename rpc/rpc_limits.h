// What the wire allows. docs/protocol.md states the same numbers.
#ifndef RPC_LIMITS_H
#define RPC_LIMITS_H

enum {
    RPC_HEADER_MAX_BYTES = 16 * 1024,                    // a call's header: method, token, 8 KiB of metadata
    RPC_MESSAGE_MAX_BYTES = 8 * 1024 * 1024 + 64 * 1024, // one SP message: the largest chunk and what goes with it
    RPC_UNARY_DEFAULT_MAX_BYTES = 256 * 1024,            // a request whose method's rule names no other size
    RPC_NESTING_MAX_DEPTH = 32, // messages within messages; protobuf-c recurses without a limit
    RPC_ELEMENTS_MAX = 65536,   // fields and list entries of one message in all
    RPC_METADATA_MAX_ENTRIES = 32,
    RPC_METADATA_MAX_BYTES = 8 * 1024,
    RPC_METADATA_KEY_MAX_BYTES = 64,
    RPC_STATUS_MESSAGE_MAX_BYTES = 8 * 1024,
    RPC_REQUEST_ID_BYTES = 16,
    RPC_STREAM_CREDIT_BYTES = 256 * 1024, // for each side of a stream to begin with
    RPC_STREAM_MESSAGE_COST_BYTES = 64,   // so that empty messages cost credit too
    RPC_TOPIC_BYTES = 16,
    RPC_TOKEN_MAX_BYTES = 128,
    RPC_URL_MAX_BYTES = 256, // with its NUL
    RPC_TIMEOUT_DEFAULT_MS = 30 * 1000,
    RPC_TIMEOUT_MAX_MS = 3600 * 1000,
    RPC_HANDSHAKE_TIMEOUT_MS = 10 * 1000, // for a peer to say what it is
    RPC_TICKET_LIFETIME_MS = 30 * 1000,   // between Subscribe and the connection that uses the ticket
    RPC_TICKET_MAX_BYTES = 64,
    RPC_SYMBOL_MAX_BYTES = 255,            // the full name of what a .proto file defines
    RPC_JSON_MAX_BYTES = 16 * 1024 * 1024, // a message as JSON: the largest one, all in base64, fits
    RPC_TLS_DEFAULT_PORT = 7422,
};

#endif
