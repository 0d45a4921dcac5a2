// Plain HTTP content beside the calls: GET and HEAD below a prefix of the web listeners' paths.
//
// Who serves the content is asked for it piece by piece, and only when the socket takes more, so that a slow reader
// holds one piece in memory at most. One question (open or next) is outstanding at a time and is answered once, at once
// or later, from any thread; the listener's thread asks and must not be made to wait.
#ifndef RPC_CONTENT_H
#define RPC_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct rpc_server;
struct rpc_content; // one request; lives until `closed`

enum {
    RPC_CONTENT_PIECE_MAX_BYTES = 256 * 1024,
    RPC_CONTENT_ADDRESS_MAX_BYTES = 64, // with its NUL
};

// rpc_content_request is only valid inside `open`. Header fields that are missing are empty.
struct rpc_content_request {
    const char *path; // without the prefix, with its percent signs decoded
    bool is_head;
    const char *address; // of the other end, as digits and without a port
    const char *range;
    const char *if_range;
    const char *if_none_match;
};

struct rpc_content_handler {
    const char *prefix;   // such as "/f/"
    unsigned patience_ms; // a reader that takes nothing for so long is cut off, at the latest after twice as long
    // Answered with one of rpc_content_begin, rpc_content_answer and rpc_content_abort.
    void (*open)(void *context, struct rpc_content *content, const struct rpc_content_request *request);
    // Wants the next piece of the body. Answered with rpc_content_write or rpc_content_abort.
    void (*next)(void *context, struct rpc_content *content);
    // Nothing is outstanding any more, and nothing will be. Any thread, once for each open; possibly inside an answer.
    void (*closed)(void *context, struct rpc_content *content);
    void *context;
};

// rpc_server_set_content offers what handler serves at all web listeners. It is borrowed and outlives the server.
// Before the first rpc_server_listen.
void rpc_server_set_content(struct rpc_server *server, const struct rpc_content_handler *handler);

// What the handler keeps with the request; set inside open.
void rpc_content_set_user(struct rpc_content *content, void *user);
void *rpc_content_user(const struct rpc_content *content);

// The answers. After each the content may be gone.

// rpc_content_begin sends the head. headers are whole lines, each ended by "\r\n"; Content-Length and Connection are
// added. body_size bytes follow by `next`, but for HEAD, which has none.
void rpc_content_begin(struct rpc_content *content, unsigned status, const char *headers, uint64_t body_size);
// rpc_content_answer is a whole answer with a sentence for a person.
void rpc_content_answer(struct rpc_content *content, unsigned status, const char *headers, const char *text);
// rpc_content_write takes the bytes: 1 to RPC_CONTENT_PIECE_MAX_BYTES, and no more than are still missing.
void rpc_content_write(struct rpc_content *content, struct bytes *piece);
// rpc_content_abort breaks the connection, so that the client notices that something is missing.
void rpc_content_abort(struct rpc_content *content);

#endif
