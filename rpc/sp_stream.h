// For sp_pipe.c: an nng_stream and the operations that a pipe has on it: for each way one that waits for the peer and
// calls back, and one that does what goes at once.
#ifndef RPC_SP_STREAM_H
#define RPC_SP_STREAM_H

#include <stdint.h>

#include <nng/nng.h>

#include "base/bytes.h"
#include "base/err.h"

struct sp_stream {
    nng_stream *stream;
    nng_aio *receive_aio;
    nng_aio *send_aio;
    nng_aio *try_receive_aio; // these two without callback
    nng_aio *try_send_aio;
};

// sp_stream_init takes the stream in any case. ERR_NO_MEMORY: sp_stream_deinit follows all the same.
enum err sp_stream_init(struct sp_stream *self, nng_stream *stream, void (*on_received)(void *),
    void (*on_sent)(void *), void *arg) ERR_CHECKED;

// sp_stream_try_send sends what goes of the part and the tail, which may be empty, without waiting for the peer, and
// tells how much that was. NNG_ECANCELED: nothing.
int sp_stream_try_send(struct sp_stream *self, struct bytes_view part, struct bytes_view tail, size_t *sent_out);

// sp_stream_send is on its way when it returns; its end is on_sent, with the result in send_aio.
void sp_stream_send(struct sp_stream *self, struct bytes_view part);

// sp_stream_try_receive and sp_stream_receive are the same for the other way; the result is in try_receive_aio.
int sp_stream_try_receive(struct sp_stream *self, uint8_t *at, size_t size);
void sp_stream_receive(struct sp_stream *self, uint8_t *at, size_t size);

// sp_stream_stop waits until nothing calls back. Not from a callback.
void sp_stream_stop(struct sp_stream *self);

// sp_stream_deinit, after sp_stream_stop, or when nothing was started.
void sp_stream_deinit(struct sp_stream *self);

#endif
