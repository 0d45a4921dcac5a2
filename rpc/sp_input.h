// For sp_pipe.c: turns received bytes into the header and the messages of an SP connection. Does no I/O.
//
// Small messages are found in place in one buffer that a read fills; one that does not fit it gets memory of its own,
// which grows as its bytes come.
#ifndef RPC_SP_INPUT_H
#define RPC_SP_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    SP_HEADER_BYTES = 8,             // 00 'S' 'P' 00, protocol, 00 00
    SP_LENGTH_BYTES = 8,             // in front of each message
    SP_IPC_MESSAGE = 0x01,           // what nng puts in front of the length on a Unix socket
    SP_INPUT_SMALL_BYTES = 1024,     // what an idle connection keeps; most calls fit
    SP_INPUT_STEP = 8,               // by this factor it grows
    SP_INPUT_FULL_BYTES = 64 * 1024, // a busy one: one read brings hundreds of small calls
};

struct sp_input {
    size_t max_message_bytes;
    size_t prefix_bytes; // in front of each message
    uint8_t *buffer;
    size_t capacity;
    size_t begin; // what has been received and not yet handed over: [begin, end)
    size_t end;
    struct bytes large; // the message that does not fit the buffer, which is empty meanwhile
    size_t large_size;  // its announced length
    bool is_in_large;   // it is on its way
    bool has_header;    // the peer's has been handed over
    bool was_filled;    // the last read could have brought more
};

enum sp_input_kind {
    SP_INPUT_NOTHING, // receive more
    SP_INPUT_HEADER,
    SP_INPUT_MESSAGE,
};

struct sp_input_item {
    enum sp_input_kind kind;
    uint16_t protocol;      // of a header
    struct bytes_view data; // of a message; valid until the next call with this input
    struct bytes *large;    // NULL, or the memory that holds exactly `data`, for the receiver to take
};

// sp_input_init starts with the small buffer. A zeroed sp_input may be freed.
enum err sp_input_init(struct sp_input *input, bool is_ipc, size_t max_message_bytes) ERR_CHECKED;

// sp_input_space says where the next received bytes go; never empty after sp_input_prepare or sp_input_init.
void sp_input_space(struct sp_input *input, uint8_t **at_out, size_t *size_out);

// sp_input_add says that so many bytes have been received there.
void sp_input_add(struct sp_input *input, size_t size);

// sp_input_next hands over the next complete item. ERR_PROTOCOL, ERR_TOO_BIG, ERR_NO_MEMORY: the connection is of no
// use any more.
enum err sp_input_next(struct sp_input *input, struct sp_input_item *item_out) ERR_CHECKED;

// sp_input_prepare makes room for more, after sp_input_next has found nothing. ERR_NO_MEMORY.
enum err sp_input_prepare(struct sp_input *input) ERR_CHECKED;

// sp_input_is_partial: a header or message has begun and not ended.
bool sp_input_is_partial(const struct sp_input *input);

// sp_input_expects_more: the last read has probably left something behind.
bool sp_input_expects_more(const struct sp_input *input);

// sp_input_discard forgets what has been received.
void sp_input_discard(struct sp_input *input);

// sp_input_shrink gives memory back if nothing is partial.
void sp_input_shrink(struct sp_input *input);

void sp_input_free(struct sp_input *input);

#endif
