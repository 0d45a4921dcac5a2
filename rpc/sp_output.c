#include "rpc/sp_output.h"

#include "rpc/sp_input.h"

enum {
    KEEP_BYTES = 80 * 1024, // a larger buffer is given back as soon as it has been written; one of TLS records is kept
    SMALL_BYTES = 4 * 1024,
};

enum err
sp_output_add(struct sp_output *output, size_t prefix_bytes, const struct bytes_view *parts, size_t part_count,
    bool has_tail)
{
    uint8_t prefix[1 + SP_LENGTH_BYTES] = {SP_IPC_MESSAGE};
    size_t size = 0;
    for (size_t i = 0; i < part_count; i++) {
        size += parts[i].size;
    }
    bytes_store_be64(prefix + 1, size);
    if (has_tail) {
        part_count--;
        size -= parts[part_count].size;
    }
    enum err err = bytes_reserve(&output->gathering, prefix_bytes + size);
    if (err != ERR_OK) {
        return err;
    }
    // There is room: these cannot fail.
    (void)!bytes_append(&output->gathering, bytes_view_of(prefix + sizeof prefix - prefix_bytes, prefix_bytes));
    for (size_t i = 0; i < part_count; i++) {
        (void)!bytes_append(&output->gathering, parts[i]);
    }
    return ERR_OK;
}

static bool
may_send_messages(const struct sp_output *output)
{
    return output->gathering.size > 0 && (output->tls == NULL || rpc_tls_codec_is_open(output->tls));
}

bool
sp_output_is_due(const struct sp_output *output)
{
    return may_send_messages(output) || (output->tls != NULL && rpc_tls_codec_has_output(output->tls));
}

void
sp_output_begin(struct sp_output *output)
{
    if (may_send_messages(output)) {
        struct bytes empty = output->writing;
        output->writing = output->gathering;
        output->gathering = empty;
    }
}

static enum err
seal_more(struct sp_output *output)
{
    size_t sealed = 0;
    struct bytes_view rest =
        bytes_view_of(output->writing.data + output->sealed_bytes, output->writing.size - output->sealed_bytes);
    bytes_clear(&output->records);
    output->sent_bytes = 0;
    enum err err = rpc_tls_codec_write(output->tls, rest, &sealed, &output->records);
    output->sealed_bytes += sealed;
    return err;
}

enum err
sp_output_part(struct sp_output *output, struct bytes_view *part_out)
{
    enum err err = ERR_OK;
    if (output->tls == NULL) {
        *part_out =
            bytes_view_of(output->writing.data + output->written_bytes, output->writing.size - output->written_bytes);
        return ERR_OK;
    }
    if (output->sent_bytes == output->records.size) {
        err = seal_more(output);
    }
    *part_out = bytes_view_of(output->records.data + output->sent_bytes, output->records.size - output->sent_bytes);
    return err;
}

enum err
sp_output_keep_tail(struct sp_output *output, struct bytes_view tail, size_t *sent)
{
    size_t left = output->writing.size - output->written_bytes;
    size_t sent_of_tail = *sent > left ? *sent - left : 0;
    *sent -= sent_of_tail;
    return bytes_append(&output->writing, bytes_view_of(tail.data + sent_of_tail, tail.size - sent_of_tail));
}

bool
sp_output_sent(struct sp_output *output, size_t size)
{
    if (output->tls == NULL) {
        output->written_bytes += size;
        return output->written_bytes < output->writing.size;
    }
    output->sent_bytes += size;
    if (output->sent_bytes < output->records.size) {
        return true;
    }
    output->written_bytes = output->sealed_bytes;
    return output->written_bytes < output->writing.size;
}

static void
clear(struct bytes *buffer)
{
    bytes_clear(buffer);
    if (buffer->capacity > KEEP_BYTES) {
        bytes_free(buffer);
    }
}

void
sp_output_end(struct sp_output *output)
{
    clear(&output->writing);
    clear(&output->records);
    output->written_bytes = 0;
    output->sent_bytes = 0;
    output->sealed_bytes = 0;
}

size_t
sp_output_size(const struct sp_output *output)
{
    return output->gathering.size + output->writing.size - output->written_bytes;
}

bool
sp_output_is_large(const struct sp_output *output, bool is_writing)
{
    return output->gathering.capacity > SMALL_BYTES ||
           (!is_writing && (output->writing.capacity > SMALL_BYTES || output->records.capacity > SMALL_BYTES));
}

void
sp_output_trim(struct sp_output *output)
{
    bytes_free(&output->writing);
    bytes_free(&output->records);
    if (output->gathering.size == 0) {
        bytes_free(&output->gathering);
    }
}

void
sp_output_free(struct sp_output *output)
{
    bytes_free(&output->gathering);
    bytes_free(&output->writing);
    bytes_free(&output->records);
}
