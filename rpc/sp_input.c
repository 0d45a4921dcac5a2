#include "rpc/sp_input.h"

#include <stdlib.h>
#include <string.h>

enum {
    // Set aside for an announced length before its bytes have come. The chunks of most files fit, with what goes beside
    // them, and so are not moved while they arrive.
    LARGE_TRUST_BYTES = 1024 * 1024 + 64 * 1024,
};

enum err
sp_input_init(struct sp_input *input, bool is_ipc, size_t max_message_bytes)
{
    *input = (struct sp_input){
        .max_message_bytes = max_message_bytes,
        .prefix_bytes = is_ipc ? 1 + SP_LENGTH_BYTES : SP_LENGTH_BYTES,
        .buffer = malloc(SP_INPUT_SMALL_BYTES),
        .capacity = SP_INPUT_SMALL_BYTES,
    };
    return input->buffer == NULL ? ERR_NO_MEMORY : ERR_OK;
}

void
sp_input_space(struct sp_input *input, uint8_t **at_out, size_t *size_out)
{
    if (input->is_in_large) {
        size_t capacity = input->large.capacity;
        size_t end = capacity < input->large_size ? capacity : input->large_size;
        *at_out = input->large.data + input->large.size;
        *size_out = end - input->large.size;
        return;
    }
    *at_out = input->buffer + input->end;
    *size_out = input->capacity - input->end;
}

void
sp_input_add(struct sp_input *input, size_t size)
{
    if (input->is_in_large) {
        input->large.size += size;
        return;
    }
    input->end += size;
    input->was_filled = input->end == input->capacity;
}

static enum err
take_header(struct sp_input *input, struct sp_input_item *item)
{
    const uint8_t *header = input->buffer + input->begin;
    size_t available = input->end - input->begin;
    static const uint8_t start[] = {0, 'S', 'P', 0};
    if (memcmp(header, start, available < sizeof start ? available : sizeof start) != 0) {
        return ERR_PROTOCOL; // something else, such as the 7 bytes with which TLS refuses ours
    }
    if (available < SP_HEADER_BYTES) {
        return ERR_OK;
    }
    if (bytes_load_be16(header + 6) != 0) {
        return ERR_PROTOCOL;
    }
    item->kind = SP_INPUT_HEADER;
    item->protocol = bytes_load_be16(header + 4);
    input->has_header = true;
    input->begin += SP_HEADER_BYTES;
    return ERR_OK;
}

// A large message grows as its bytes come: the announced length is only a claim.
static enum err
make_room_for_large(struct sp_input *input)
{
    struct bytes *large = &input->large;
    if (large->size < large->capacity) {
        return ERR_OK;
    }
    size_t missing = input->large_size - large->size;
    size_t trusted = large->size > LARGE_TRUST_BYTES ? large->size : LARGE_TRUST_BYTES;
    return bytes_reserve(large, missing < trusted ? missing : trusted);
}

// Moves what is there of a message that does not fit the buffer.
static enum err
begin_large(struct sp_input *input, size_t size)
{
    const uint8_t *first = input->buffer + input->begin + input->prefix_bytes;
    size_t first_size = input->end - input->begin - input->prefix_bytes;
    input->is_in_large = true;
    input->large_size = size;
    input->begin = 0;
    input->end = 0;
    enum err err = make_room_for_large(input);
    return err == ERR_OK ? bytes_append(&input->large, bytes_view_of(first, first_size)) : err;
}

static enum err
take_small(struct sp_input *input, struct sp_input_item *item)
{
    const uint8_t *at = input->buffer + input->begin;
    size_t available = input->end - input->begin;
    if (available > 0 && input->prefix_bytes > SP_LENGTH_BYTES && at[0] != SP_IPC_MESSAGE) {
        return ERR_PROTOCOL;
    }
    if (available < input->prefix_bytes) {
        return ERR_OK;
    }
    uint64_t length = bytes_load_be64(at + input->prefix_bytes - SP_LENGTH_BYTES);
    if (length > input->max_message_bytes) {
        return ERR_TOO_BIG;
    }
    if (available - input->prefix_bytes >= length) {
        item->kind = SP_INPUT_MESSAGE;
        item->data = bytes_view_of(at + input->prefix_bytes, (size_t)length);
        input->begin += input->prefix_bytes + (size_t)length;
        return ERR_OK;
    }
    return input->prefix_bytes + length > SP_INPUT_FULL_BYTES ? begin_large(input, (size_t)length) : ERR_OK;
}

enum err
sp_input_next(struct sp_input *input, struct sp_input_item *item_out)
{
    struct sp_input_item item = {.kind = SP_INPUT_NOTHING};
    enum err err = ERR_OK;
    if (!input->is_in_large) {
        bytes_free(&input->large); // the one handed over before, if its receiver left it
        err = input->has_header ? take_small(input, &item) : take_header(input, &item);
    } else if (input->large.size == input->large_size) {
        input->is_in_large = false;
        item.kind = SP_INPUT_MESSAGE;
        item.data = bytes_as_view(&input->large);
        item.large = &input->large;
    }
    if (err == ERR_OK) {
        *item_out = item;
    }
    return err;
}

enum err
sp_input_prepare(struct sp_input *input)
{
    if (input->is_in_large) {
        return make_room_for_large(input);
    }
    size_t size = input->end - input->begin;
    if (input->begin > 0) {
        memmove(input->buffer, input->buffer + input->begin, size);
        input->begin = 0;
        input->end = size;
    }
    size_t needed = input->prefix_bytes;
    if (input->has_header && size >= input->prefix_bytes) {
        needed += (size_t)bytes_load_be64(input->buffer + input->prefix_bytes - SP_LENGTH_BYTES);
    }
    if ((needed > input->capacity || input->was_filled) && input->capacity < SP_INPUT_FULL_BYTES) {
        size_t capacity = input->capacity * SP_INPUT_STEP;
        if (capacity < needed || capacity > SP_INPUT_FULL_BYTES) {
            capacity = SP_INPUT_FULL_BYTES; // what does not fit there is taken as a large message
        }
        uint8_t *grown = realloc(input->buffer, capacity);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        input->buffer = grown;
        input->capacity = capacity;
    }
    return ERR_OK;
}

bool
sp_input_is_partial(const struct sp_input *input)
{
    return input->is_in_large || input->end > input->begin;
}

bool
sp_input_expects_more(const struct sp_input *input)
{
    return input->is_in_large || input->was_filled;
}

void
sp_input_discard(struct sp_input *input)
{
    bytes_free(&input->large);
    input->is_in_large = false;
    input->begin = 0;
    input->end = 0;
}

void
sp_input_shrink(struct sp_input *input)
{
    if (sp_input_is_partial(input) || input->capacity <= SP_INPUT_SMALL_BYTES) {
        return;
    }
    uint8_t *shrunk = realloc(input->buffer, SP_INPUT_SMALL_BYTES);
    if (shrunk != NULL) {
        input->buffer = shrunk;
        input->capacity = SP_INPUT_SMALL_BYTES;
        input->begin = 0;
        input->end = 0;
    }
}

void
sp_input_free(struct sp_input *input)
{
    bytes_free(&input->large);
    free(input->buffer);
    input->buffer = NULL;
}
