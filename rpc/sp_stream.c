// An aio without callback completes in place, so an operation that the socket can do at once is complete when nng
// returns, and any other is cancelled. Most are of the first kind, and waking one of nng's threads to hear so costs
// more than the operation itself.
#include "rpc/sp_stream.h"

enum err
sp_stream_init(struct sp_stream *self, nng_stream *stream, void (*on_received)(void *), void (*on_sent)(void *),
    void *arg)
{
    *self = (struct sp_stream){.stream = stream};
    bool is_made =
        nng_aio_alloc(&self->receive_aio, on_received, arg) == 0 && nng_aio_alloc(&self->send_aio, on_sent, arg) == 0 &&
        nng_aio_alloc(&self->try_receive_aio, NULL, NULL) == 0 && nng_aio_alloc(&self->try_send_aio, NULL, NULL) == 0;
    return is_made ? ERR_OK : ERR_NO_MEMORY;
}

static void
set_parts(nng_aio *aio, struct bytes_view part, struct bytes_view tail)
{
    // nng has one type for reading and writing.
    nng_iov iovs[] = {
        {.iov_buf = (void *)(uintptr_t)part.data, .iov_len = part.size},
        {.iov_buf = (void *)(uintptr_t)tail.data, .iov_len = tail.size},
    };
    (void)nng_aio_set_iov(aio, tail.size > 0 ? 2 : 1, iovs); // fails for more than 8 parts only
}

static int
end_now(nng_aio *aio)
{
    nng_aio_cancel(aio);
    nng_aio_wait(aio);
    return nng_aio_result(aio);
}

int
sp_stream_try_send(struct sp_stream *self, struct bytes_view part, struct bytes_view tail, size_t *sent_out)
{
    set_parts(self->try_send_aio, part, tail);
    nng_stream_send(self->stream, self->try_send_aio);
    int result = end_now(self->try_send_aio);
    *sent_out = nng_aio_count(self->try_send_aio);
    return result;
}

void
sp_stream_send(struct sp_stream *self, struct bytes_view part)
{
    set_parts(self->send_aio, part, bytes_view_of(NULL, 0));
    nng_stream_send(self->stream, self->send_aio);
}

int
sp_stream_try_receive(struct sp_stream *self, uint8_t *at, size_t size)
{
    set_parts(self->try_receive_aio, bytes_view_of(at, size), bytes_view_of(NULL, 0));
    nng_stream_recv(self->stream, self->try_receive_aio);
    return end_now(self->try_receive_aio);
}

void
sp_stream_receive(struct sp_stream *self, uint8_t *at, size_t size)
{
    set_parts(self->receive_aio, bytes_view_of(at, size), bytes_view_of(NULL, 0));
    nng_stream_recv(self->stream, self->receive_aio);
}

void
sp_stream_stop(struct sp_stream *self)
{
    nng_aio_stop(self->receive_aio);
    nng_aio_stop(self->send_aio);
}

void
sp_stream_deinit(struct sp_stream *self)
{
    nng_aio_free(self->receive_aio);
    nng_aio_free(self->send_aio);
    nng_aio_free(self->try_receive_aio);
    nng_aio_free(self->try_send_aio);
    nng_stream_free(self->stream);
}
