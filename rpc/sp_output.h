// For sp_pipe.c: the bytes that an SP connection has still to send, as they are or as TLS records. Does no I/O.
//
// Messages gather while a write is under way; the next write takes all of them. All of it is guarded by the pipe's
// lock, but sp_output_part is for the one who sends, without the lock, between sp_output_begin and sp_output_end.
#ifndef RPC_SP_OUTPUT_H
#define RPC_SP_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_tls_codec.h"

struct sp_output {
    struct rpc_tls_codec *tls; // NULL: bytes leave as they are. The pipe's
    struct bytes gathering;
    struct bytes writing; // nobody changes it during a write
    size_t written_bytes; // of writing: sent

    // With TLS. Within a write the sender's only.
    struct bytes records;
    size_t sent_bytes;   // of records
    size_t sealed_bytes; // of writing: sent, or in records
};

// sp_output_add gathers a message with the last prefix_bytes of what stands before messages; without its last part if
// has_tail, which is then sent behind the first part of the write. ERR_NO_MEMORY: nothing was added.
enum err sp_output_add(struct sp_output *output, size_t prefix_bytes, const struct bytes_view *parts, size_t part_count,
    bool has_tail) ERR_CHECKED;

// sp_output_is_due: a write would have something to send. Messages wait for the end of a TLS handshake.
bool sp_output_is_due(const struct sp_output *output);

// sp_output_begin starts a write with what has gathered.
void sp_output_begin(struct sp_output *output);

// sp_output_part is what is to be sent next, never empty within a write. ERR_NO_MEMORY, ERR_INTERNAL.
enum err sp_output_part(struct sp_output *output, struct bytes_view *part_out) ERR_CHECKED;

// sp_output_keep_tail copies what has not been sent of the tail, and takes what has been off *sent. Without TLS only.
enum err sp_output_keep_tail(struct sp_output *output, struct bytes_view tail, size_t *sent) ERR_CHECKED;

// sp_output_sent says how much of the part has been sent. Returns whether the write goes on.
bool sp_output_sent(struct sp_output *output, size_t size);

// sp_output_end ends the write, finished or not.
void sp_output_end(struct sp_output *output);

// sp_output_size is what has gathered or is being written.
size_t sp_output_size(const struct sp_output *output);

// sp_output_is_large: it holds memory that sp_output_trim, outside a write, would give back.
bool sp_output_is_large(const struct sp_output *output, bool is_writing);
void sp_output_trim(struct sp_output *output);

void sp_output_free(struct sp_output *output);

#endif
