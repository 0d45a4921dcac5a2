// One SP connection on an nng_stream: handshake, message boundaries, batching. Knows nothing of calls.
//
// Wire format (SP over TCP, sp-tcp-mapping-01; over IPC nng puts one byte 0x01 before each length):
//
//     both ways, once:  00 'S' 'P' 00  protocol(2, big-endian)  00 00
//     then messages:    length(8, big-endian)  bytes
//
// Messages queued while a write is under way leave together in the next one, and one read delivers all messages that it
// brought: calls batch by themselves. nng's REQ, REP, PUB and SUB sockets understand every byte. With TLS all of it is
// in the records of the TLS connection.
//
// Threads: the handlers run on nng's threads or on one that frees pipes, one at a time for a pipe, and must not block.
// sp_pipe_* functions may be called from any thread and from the handlers, and never call a handler from inside.
#ifndef RPC_SP_PIPE_H
#define RPC_SP_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nng/nng.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_tls_codec.h"

// Protocol numbers of the SP handshake.
enum sp_protocol {
    SP_PUB = 0x20,
    SP_SUB = 0x21,
    SP_REQ = 0x30,
    SP_REP = 0x31,
};

struct sp_pipe;

// sp_message is one message as it was received.
struct sp_message {
    struct bytes_view data; // valid during the handler
    struct bytes *large; // NULL, or the buffer that holds exactly `data`: the handler may take it by moving the struct
                         // out and zeroing it
};

struct sp_pipe_handlers {
    // The peer has said what it is. For an accepted pipe *own_out must be set to what we answer; for a dialled one it
    // is what we said. Any error closes the pipe.
    enum err (*on_peer)(void *owner, enum sp_protocol peer, enum sp_protocol *own_out);
    void (*on_message)(void *owner, struct sp_message *message);
    // All messages of one read have been delivered: the moment to wake somebody, once. May be NULL.
    void (*on_batch_end)(void *owner);
    // Everything queued has been handed to the kernel, after some of it had to wait for the peer to read, or while
    // reading is off, or after sp_pipe_tell_drained asked for it. May queue more. May be NULL.
    void (*on_drained)(void *owner);
    // The last call for this pipe, exactly once, whoever closed it. ERR_CLOSED: the peer ended in order or we did;
    // ERR_TIMEOUT: no handshake in time; ERR_PROTOCOL; ERR_TOO_BIG; ERR_NO_MEMORY; ERR_IO; what on_peer said; or what
    // rpc_tls_codec_read did. The owner calls sp_pipe_release when it needs the pipe no more.
    void (*on_closed)(void *owner, enum err reason);
};

struct sp_pipe_options {
    const struct sp_pipe_handlers *handlers; // immutable, outlives the pipe
    void *owner;
    size_t max_message_bytes;      // a longer announced length closes the pipe before memory is spent on it
    unsigned handshake_timeout_ms; // 0: RPC_HANDSHAKE_TIMEOUT_MS
    bool is_ipc;
    bool is_dialled;             // else accepted
    enum sp_protocol dialled_as; // what a dialled pipe says it is
    struct rpc_tls_codec *tls;   // NULL: without TLS
};

// sp_pipe_new takes the stream and options->tls, also on failure, and starts the handshake only in sp_pipe_start, so
// that the owner can store the pipe first.
enum err sp_pipe_new(nng_stream *stream, const struct sp_pipe_options *options, struct sp_pipe **out) ERR_CHECKED;
void sp_pipe_start(struct sp_pipe *pipe);

// sp_pipe_queue puts the parts as one message at the end of what is to be written. They are borrowed for the time of
// the call: copied, except that a large last part, when nothing is being written, is written at once from where it is.
// Nothing else starts a write.
//
// ERR_CLOSED after the pipe has begun to close, ERR_NO_MEMORY, ERR_PRECONDITION on an accepted pipe before on_peer has
// returned; then nothing was queued. A dialled pipe may queue at once.
enum err sp_pipe_queue(struct sp_pipe *pipe, const struct bytes_view *parts, size_t part_count) ERR_CHECKED;

// sp_pipe_flush starts writing what is queued, unless a write is under way, which then goes on with it.
void sp_pipe_flush(struct sp_pipe *pipe);

// sp_pipe_tell_drained returns whether everything queued has been handed to the kernel. If not, on_drained follows when
// it has, unless the pipe closes.
bool sp_pipe_tell_drained(struct sp_pipe *pipe);

// sp_pipe_queued_bytes is what is queued or being written.
size_t sp_pipe_queued_bytes(struct sp_pipe *pipe);

// sp_pipe_progress counts signs of life of the peer: reads, and writes that had to wait until it took something. What
// the system's buffers swallow at once is none.
unsigned sp_pipe_progress(struct sp_pipe *pipe);

// sp_pipe_received_bytes is what has come in all, as it was on the wire.
uint64_t sp_pipe_received_bytes(struct sp_pipe *pipe);

// sp_pipe_set_reading(false) stops reading after the messages already read: back-pressure. Starts with reading.
void sp_pipe_set_reading(struct sp_pipe *pipe, bool is_reading);

// sp_pipe_close begins to close; on_closed follows on another thread, and no more messages are delivered. With
// linger_ms > 0 what is queued is written first, for at most that long. May be called twice.
void sp_pipe_close(struct sp_pipe *pipe, unsigned linger_ms);

// sp_pipe_hold adds a reference, for a thread that uses the pipe while on_closed may come.
void sp_pipe_hold(struct sp_pipe *pipe);

// sp_pipe_release gives up a reference; the owner's after on_closed (also from inside it). Freed by a thread of its
// own.
void sp_pipe_release(struct sp_pipe *pipe);

// sp_pipe_address is the peer's address for logs, as "127.0.0.1:4711" or "ipc". Valid as long as the pipe.
const char *sp_pipe_address(const struct sp_pipe *pipe);

// sp_pipe_drain_reaper waits until every released pipe has been freed. At the end of a program, so that a leak checker
// sees all memory returned.
void sp_pipe_drain_reaper(void);

#endif
