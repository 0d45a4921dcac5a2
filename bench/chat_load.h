// For bench_chat_load: what its protocols and its loop know of each other.
#ifndef BENCH_CHAT_LOAD_H
#define BENCH_CHAT_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    CHAT_TEXT_BYTES = 200, // of every message; begins with its number as 8 hexadecimal digits
    CHAT_NUMBER_CHARS = 8,
    CHAT_RING = 4096, // messages that may be in flight at once; what goes over the wire is a number modulo this
};

struct chat_connection {
    int fd;
    unsigned index; // among the subscribers, or among the senders
    bool is_sender;
    bool is_ready;   // subscribed, or may send
    bool is_dirty;   // has output, and stands in the loop's list
    unsigned stage;  // the protocol's
    const char *key; // fc: a ticket, or a token
    struct bytes in; // a message that has not come whole
    struct bytes out;
};

struct chat_protocol {
    const char *name;
    // What a new connection says first.
    void (*greet)(struct chat_connection *connection);
    // Takes all whole messages out of data and returns how many bytes that were.
    size_t (*take)(struct chat_connection *connection, struct bytes_view data);
    // Sends a text of CHAT_TEXT_BYTES. id is below CHAT_RING and comes back with the acknowledgement, if there is one.
    void (*publish)(struct chat_connection *connection, unsigned id, const char *text);
};

// chat_protocol_find returns NULL for a name that is none.
const struct chat_protocol *chat_protocol_find(const char *name);

// What protocols tell the loop.
void chat_load_write(struct chat_connection *connection, const void *data, size_t size);
void chat_load_ready(struct chat_connection *connection);
void chat_load_delivered(const char *text);
void chat_load_acknowledged(unsigned id);

#endif
