// However the bytes are cut into reads, the same header and messages come out, and then the same error.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/sp_input.h"

enum {
    MAX_MESSAGE_BYTES = 100 * 1024,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

struct outcome {
    struct bytes items; // kind, size and content of each
    enum err err;
    bool is_partial;
};

static enum err
take_items(struct sp_input *input, struct bytes *items)
{
    for (;;) {
        struct sp_input_item item = {.kind = SP_INPUT_NOTHING};
        enum err err = sp_input_next(input, &item);
        if (err != ERR_OK || item.kind == SP_INPUT_NOTHING) {
            return err;
        }
        uint8_t head[10] = {(uint8_t)item.kind};
        bytes_store_be64(head + 1, item.kind == SP_INPUT_HEADER ? item.protocol : item.data.size);
        require(item.data.size <= MAX_MESSAGE_BYTES);
        require(bytes_append(items, bytes_view_of(head, sizeof head)) == ERR_OK);
        require(bytes_append(items, item.data) == ERR_OK);
    }
}

// Reads of `step` bytes and a little more each time; 0: as much as there is room for.
static struct outcome
run(bool is_ipc, size_t step, const uint8_t *data, size_t size)
{
    struct outcome outcome = {.err = ERR_OK};
    struct sp_input input;
    require(sp_input_init(&input, is_ipc, MAX_MESSAGE_BYTES) == ERR_OK);
    size_t reads = 0;
    while (size > 0 && outcome.err == ERR_OK) {
        uint8_t *at = NULL;
        size_t space = 0;
        sp_input_space(&input, &at, &space);
        require(space > 0);
        size_t n = step == 0 ? space : step + reads++ % 3;
        n = n < space ? n : space;
        n = n < size ? n : size;
        memcpy(at, data, n);
        sp_input_add(&input, n);
        data += n;
        size -= n;
        outcome.err = take_items(&input, &outcome.items);
        if (outcome.err == ERR_OK) {
            outcome.err = sp_input_prepare(&input);
        }
    }
    outcome.is_partial = sp_input_is_partial(&input);
    sp_input_free(&input);
    return outcome;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    bool is_ipc = (data[0] & 1) != 0;
    size_t step = (size_t)(data[0] >> 1) + 1;
    struct outcome whole = run(is_ipc, 0, data + 1, size - 1);
    struct outcome cut = run(is_ipc, step, data + 1, size - 1);
    require(whole.err == ERR_OK || whole.err == ERR_PROTOCOL || whole.err == ERR_TOO_BIG);
    require(whole.err == cut.err);
    require(whole.err != ERR_OK || whole.is_partial == cut.is_partial);
    require(bytes_view_equal(bytes_as_view(&whole.items), bytes_as_view(&cut.items)));
    bytes_free(&whole.items);
    bytes_free(&cut.items);
    return 0;
}
