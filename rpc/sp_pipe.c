// One SP connection, as sp_pipe.h promises it.
//
// Two nng operations are under way for a pipe, one that receives and one that sends what has to wait for the peer.
// Their callbacks can run on two threads at once, so whatever calls the owner is done by the holder of the *turn*: who
// finds the turn taken leaves a flag behind and goes; the holder looks for flags until there are none. Nobody waits for
// the turn.
//
// nng 1.5.2 never completes an operation that is started on a closed stream. So an operation is announced under the
// lock
// (`starting`) before it is started without it, and the stream is closed when none is between the two. The pipe is
// freed by the reaper thread, since an aio must not be freed from a callback.
//
// Lock order: the pipe's mutex, then the timer queue's or nng's own. The owner's handlers run without the mutex.
#include "rpc/sp_pipe.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/timer.h"
#include "base/work_pool.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_nng.h"
#include "rpc/sp_input.h"
#include "rpc/sp_output.h"
#include "rpc/sp_stream.h"

enum {
    DIRECT_MIN_BYTES = 32 * 1024, // a part from this size on is written from where it is, if nothing is being written
    TRIES_MAX = 16,               // so that a peer that never pauses does not keep one of nng's few threads to itself
    IDLE_TRIM_MS = 2000,          // without traffic for this long, buffers shrink to their small size
};

enum pipe_state {
    PIPE_HANDSHAKE, // the peer has not said what it is
    PIPE_OPEN,
    PIPE_LINGERING, // writes what is queued, reads and discards
    PIPE_CLOSED,    // on_closed follows when both operations have ended
};

struct sp_pipe {
    // Immutable after new.
    struct sp_pipe_options options;
    struct rpc_tls_codec *tls; // NULL: without TLS
    struct sp_stream stream;
    struct timer_queue *timers;
    struct work_pool *reaper;
    char address[RPC_NNG_ADDRESS_MAX_BYTES];

    atomic_uint references;
    atomic_bool is_closing; // from PIPE_LINGERING on; spares the delivery of messages a lock

    // The holder of the turn's only, or nobody's while a receive is under way.
    struct sp_input input;
    unsigned tries_left; // receives without waiting before others get their turn on nng's threads

    struct {
        pthread_mutex_t mutex;
        enum pipe_state state;
        enum err close_reason;
        unsigned starting; // operations announced and not yet handed to nng
        bool is_stream_closed;

        bool has_turn_holder;
        bool is_turn_queued; // turn_work is with the reaper
        bool is_close_told;

        bool wants_reading;
        bool is_receiving;  // from the announcement of a receive to its completion
        bool has_received;  // it has completed and waits for the turn
        bool is_input_busy; // from its completion until what it brought has been delivered
        int receive_result;
        size_t received_bytes;
        size_t input_capacity; // as in input, or the codec's if that is larger

        bool is_writing;    // from the announcement of a send to the completion of its last part
        bool has_waited;    // some of it did not fit the socket's buffer
        bool tells_drained; // on_drained has been asked for
        bool has_drained;   // on_drained is due
        struct sp_output output;

        bool is_timer_armed;
        uint64_t linger_until_ms;
        unsigned activity; // counts completed operations
        unsigned activity_at_expiry;
        unsigned progress; // as sp_pipe_progress
        uint64_t total_received_bytes;
    } locked;

    // The handshake's deadline, then idle memory, then the linger's deadline.
    struct timer timer;
    struct work turn_work;
    struct work reap_work;
};

static const struct bytes_view nothing;

// Released pipes that are not freed yet.
static pthread_mutex_t census_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t census_changed = PTHREAD_COND_INITIALIZER;
static size_t census_releasing;

static void
lock(struct sp_pipe *pipe)
{
    (void)pthread_mutex_lock(&pipe->locked.mutex);
}

static void
unlock(struct sp_pipe *pipe)
{
    (void)pthread_mutex_unlock(&pipe->locked.mutex);
}

// ---- Closing ----

// Tells the peer of a TLS connection that it ends, or what is wrong with it, if that goes at once.
static void
say_farewell_locked(struct sp_pipe *pipe)
{
    struct bytes_view part;
    size_t sent = 0;
    if (pipe->tls == NULL || pipe->locked.is_writing) {
        return;
    }
    rpc_tls_codec_end(pipe->tls);
    if (rpc_tls_codec_has_output(pipe->tls) && sp_output_part(&pipe->locked.output, &part) == ERR_OK) {
        (void)sp_stream_try_send(&pipe->stream, part, nothing, &sent);
    }
}

static void
close_stream_if_due_locked(struct sp_pipe *pipe)
{
    if (pipe->locked.state == PIPE_CLOSED && pipe->locked.starting == 0 && !pipe->locked.is_stream_closed) {
        pipe->locked.is_stream_closed = true;
        say_farewell_locked(pipe);
        nng_stream_close(pipe->stream.stream);
    }
}

static void
close_locked(struct sp_pipe *pipe, enum err reason)
{
    if (pipe->locked.state == PIPE_CLOSED) {
        return;
    }
    pipe->locked.state = PIPE_CLOSED;
    pipe->locked.close_reason = reason;
    atomic_store(&pipe->is_closing, true);
    close_stream_if_due_locked(pipe);
}

static bool
is_close_due_locked(const struct sp_pipe *pipe)
{
    return pipe->locked.is_stream_closed && !pipe->locked.is_receiving && !pipe->locked.has_received &&
           !pipe->locked.is_writing && !pipe->locked.is_close_told;
}

// Has the reaper's thread take the turn, for callers from inside whom no handler may run.
static void
request_turn_locked(struct sp_pipe *pipe)
{
    bool is_due = pipe->locked.has_received || pipe->locked.has_drained || is_close_due_locked(pipe);
    if (is_due && !pipe->locked.has_turn_holder && !pipe->locked.is_turn_queued) {
        pipe->locked.is_turn_queued = true;
        work_pool_submit(pipe->reaper, &pipe->turn_work);
    }
}

// ---- Idle memory ----

static bool
is_memory_held_locked(const struct sp_pipe *pipe)
{
    return pipe->locked.input_capacity > SP_INPUT_SMALL_BYTES ||
           sp_output_is_large(&pipe->locked.output, pipe->locked.is_writing);
}

static void
arm_idle_timer_locked(struct sp_pipe *pipe)
{
    if (!pipe->locked.is_timer_armed && pipe->locked.state == PIPE_OPEN && is_memory_held_locked(pipe)) {
        pipe->locked.is_timer_armed = timer_start(pipe->timers, &pipe->timer, IDLE_TRIM_MS) == ERR_OK;
    }
}

static void
trim_if_idle_locked(struct sp_pipe *pipe)
{
    bool is_idle = pipe->locked.activity == pipe->locked.activity_at_expiry;
    pipe->locked.activity_at_expiry = pipe->locked.activity;
    if (is_idle && !pipe->locked.is_writing) {
        sp_output_trim(&pipe->locked.output);
    }
    if (is_idle && pipe->locked.is_receiving && pipe->locked.input_capacity > SP_INPUT_SMALL_BYTES) {
        // The receive owns the buffer: its completion takes it back, shrinks it and receives again.
        nng_aio_cancel(pipe->stream.receive_aio);
    }
    arm_idle_timer_locked(pipe);
}

// ---- Receiving ----

// Announces a receive. When it returns true the caller unlocks and calls submit_receive.
static bool
begin_receive_locked(struct sp_pipe *pipe)
{
    if (!pipe->locked.wants_reading || pipe->locked.is_receiving || pipe->locked.is_input_busy ||
        pipe->locked.state == PIPE_CLOSED) {
        return false;
    }
    pipe->locked.is_receiving = true;
    pipe->locked.starting++;
    return true;
}

static void
note_received_locked(struct sp_pipe *pipe, nng_aio *aio)
{
    pipe->locked.is_receiving = false;
    pipe->locked.has_received = true;
    pipe->locked.is_input_busy = true;
    pipe->locked.receive_result = nng_aio_result(aio);
    pipe->locked.received_bytes = nng_aio_count(aio);
    pipe->locked.activity += pipe->locked.receive_result == 0;
    pipe->locked.progress += pipe->locked.receive_result == 0;
    pipe->locked.total_received_bytes += pipe->locked.receive_result == 0 ? pipe->locked.received_bytes : 0;
}

// Receives what is there without waiting; false when nothing is. Worth it when the last read has left something behind.
static bool
try_receive(struct sp_pipe *pipe, uint8_t *at, size_t size)
{
    bool expects_more = pipe->tls == NULL ? sp_input_expects_more(&pipe->input) : rpc_tls_codec_expects_more(pipe->tls);
    if (pipe->tries_left == 0 || !expects_more) {
        return false;
    }
    pipe->tries_left--;
    sched_yield(); // whoever has something for another pipe
    return sp_stream_try_receive(&pipe->stream, at, size) != NNG_ECANCELED;
}

static void
submit_receive(struct sp_pipe *pipe)
{
    uint8_t *at = NULL;
    size_t size = 0;
    if (pipe->tls == NULL) {
        sp_input_space(&pipe->input, &at, &size);
    } else {
        rpc_tls_codec_space(pipe->tls, &at, &size);
    }
    bool is_received = try_receive(pipe, at, size);
    if (!is_received) {
        sp_stream_receive(&pipe->stream, at, size);
    }

    lock(pipe);
    pipe->locked.starting--;
    if (is_received) {
        note_received_locked(pipe, pipe->stream.try_receive_aio);
    }
    close_stream_if_due_locked(pipe);
    request_turn_locked(pipe);
    unlock(pipe);
}

static enum err
queue_header_locked(struct sp_pipe *pipe, enum sp_protocol protocol)
{
    uint8_t header[SP_HEADER_BYTES] = {0, 'S', 'P', 0};
    bytes_store_be16(header + 4, (uint16_t)protocol);
    return bytes_append(&pipe->locked.output.gathering, bytes_view_of(header, sizeof header));
}

static enum err
take_header(struct sp_pipe *pipe, uint16_t protocol)
{
    enum sp_protocol own = pipe->options.dialled_as;
    enum err err = pipe->options.handlers->on_peer(pipe->options.owner, (enum sp_protocol)protocol, &own);
    if (err != ERR_OK) {
        return err;
    }
    lock(pipe);
    if (pipe->locked.state == PIPE_HANDSHAKE) {
        if (!pipe->options.is_dialled) {
            err = queue_header_locked(pipe, own);
        }
        pipe->locked.state = PIPE_OPEN;
    }
    unlock(pipe);
    sp_pipe_flush(pipe);
    return err;
}

// Hands over all that is complete.
static enum err
deliver(struct sp_pipe *pipe)
{
    enum err err = ERR_OK;
    struct sp_input_item item = {.kind = SP_INPUT_HEADER};
    bool has_delivered = false;
    while (err == ERR_OK && item.kind != SP_INPUT_NOTHING && !atomic_load(&pipe->is_closing)) {
        err = sp_input_next(&pipe->input, &item);
        if (err == ERR_OK && item.kind == SP_INPUT_HEADER) {
            err = take_header(pipe, item.protocol);
        } else if (err == ERR_OK && item.kind == SP_INPUT_MESSAGE) {
            struct sp_message message = {.data = item.data, .large = item.large};
            pipe->options.handlers->on_message(pipe->options.owner, &message);
            has_delivered = true;
        }
    }
    if (has_delivered && pipe->options.handlers->on_batch_end != NULL) {
        pipe->options.handlers->on_batch_end(pipe->options.owner);
    }
    return err;
}

// Hands over what is in the input, and makes room for more.
static enum err
use_input(struct sp_pipe *pipe)
{
    enum err err = deliver(pipe);
    if (atomic_load(&pipe->is_closing)) {
        sp_input_discard(&pipe->input);
    }
    return err == ERR_OK ? sp_input_prepare(&pipe->input) : err;
}

static enum err
take_records(struct sp_pipe *pipe, size_t size)
{
    enum err err;
    rpc_tls_codec_add(pipe->tls, size);
    do {
        uint8_t *at = NULL;
        sp_input_space(&pipe->input, &at, &size);
        err = rpc_tls_codec_read(pipe->tls, at, size, &size);
        if (err == ERR_OK && size > 0) {
            sp_input_add(&pipe->input, size);
            err = use_input(pipe);
        }
    } while (err == ERR_OK && size > 0);
    sp_pipe_flush(pipe); // the answer of the handshake, and what has waited for its end
    return err;
}

static enum err
take_received(struct sp_pipe *pipe)
{
    // Nobody writes these two while the input is busy.
    int result = pipe->locked.receive_result;
    size_t size = pipe->locked.received_bytes;
    if (result == NNG_ECANCELED) {
        sp_input_shrink(&pipe->input); // the idle timer took the buffer back
        if (pipe->tls != NULL) {
            rpc_tls_codec_trim_input(pipe->tls);
        }
        return ERR_OK;
    }
    if (result != 0) {
        return result == NNG_ECONNSHUT && sp_input_is_partial(&pipe->input) ? ERR_IO : err_from_nng(result);
    }
    if (pipe->tls != NULL) {
        return take_records(pipe, size);
    }
    sp_input_add(&pipe->input, size);
    return use_input(pipe);
}

static size_t
input_capacity(const struct sp_pipe *pipe)
{
    size_t codec_capacity = pipe->tls == NULL ? 0 : rpc_tls_codec_input_capacity(pipe->tls);
    return pipe->input.capacity > codec_capacity ? pipe->input.capacity : codec_capacity;
}

static void
handle_received(struct sp_pipe *pipe)
{
    enum err err = take_received(pipe);
    lock(pipe);
    pipe->locked.is_input_busy = false;
    pipe->locked.input_capacity = input_capacity(pipe);
    if (err != ERR_OK) {
        close_locked(pipe, err);
    }
    arm_idle_timer_locked(pipe);
    bool is_begun = begin_receive_locked(pipe);
    unlock(pipe);
    if (is_begun) {
        submit_receive(pipe);
    }
}

// ---- The turn ----

// Runs the handlers that are due, unless another thread is at it. The pipe may be gone afterwards.
static void
take_turn_and_unlock(struct sp_pipe *pipe)
{
    if (pipe->locked.has_turn_holder) {
        unlock(pipe);
        return;
    }
    pipe->locked.has_turn_holder = true;
    for (;;) {
        if (pipe->locked.has_received) {
            pipe->locked.has_received = false;
            unlock(pipe);
            handle_received(pipe);
        } else if (pipe->locked.has_drained) {
            pipe->locked.has_drained = false;
            unlock(pipe);
            if (pipe->options.handlers->on_drained != NULL) {
                pipe->options.handlers->on_drained(pipe->options.owner);
            }
        } else if (is_close_due_locked(pipe)) {
            // The turn is kept for ever: nothing comes after on_closed.
            pipe->locked.is_close_told = true;
            enum err reason = pipe->locked.close_reason;
            unlock(pipe);
            pipe->options.handlers->on_closed(pipe->options.owner, reason);
            return;
        } else {
            break;
        }
        lock(pipe);
    }
    pipe->locked.has_turn_holder = false;
    unlock(pipe);
}

static void
turn_on_reaper(struct work *work)
{
    struct sp_pipe *pipe = (struct sp_pipe *)((char *)work - offsetof(struct sp_pipe, turn_work));
    lock(pipe);
    pipe->locked.is_turn_queued = false;
    take_turn_and_unlock(pipe);
}

static void
on_received(void *arg)
{
    struct sp_pipe *pipe = arg;
    lock(pipe);
    note_received_locked(pipe, pipe->stream.receive_aio);
    pipe->tries_left = TRIES_MAX;
    take_turn_and_unlock(pipe);
}

// ---- Sending ----

// Announces a send of what has gathered. When it returns true the caller unlocks and calls drive_send.
static bool
begin_send_locked(struct sp_pipe *pipe)
{
    if (pipe->locked.is_writing || pipe->locked.state == PIPE_CLOSED || !sp_output_is_due(&pipe->locked.output)) {
        return false;
    }
    sp_output_begin(&pipe->locked.output);
    pipe->locked.is_writing = true;
    pipe->locked.starting++;
    return true;
}

static void
end_write_locked(struct sp_pipe *pipe)
{
    pipe->locked.is_writing = false;
    sp_output_end(&pipe->locked.output);
}

// Takes note of what a send has brought. Returns whether there is more to send.
static bool
note_sent_locked(struct sp_pipe *pipe, int result, size_t sent)
{
    pipe->locked.activity++;
    if (result != 0 || pipe->locked.state == PIPE_CLOSED) {
        end_write_locked(pipe);
        close_locked(pipe, err_from_nng(result));
        return false;
    }
    if (sp_output_sent(&pipe->locked.output, sent)) {
        return true;
    }
    end_write_locked(pipe);
    if (begin_send_locked(pipe)) {
        pipe->locked.starting--; // the send under way goes on
        return true;
    }
    if (pipe->locked.state == PIPE_LINGERING) {
        close_locked(pipe, ERR_CLOSED);
    }
    bool is_wanted = pipe->locked.has_waited || pipe->locked.tells_drained || !pipe->locked.wants_reading;
    pipe->locked.has_drained = is_wanted && pipe->options.handlers->on_drained != NULL;
    pipe->locked.has_waited = false;
    pipe->locked.tells_drained = false;
    arm_idle_timer_locked(pipe);
    return false;
}

// Sends as much as goes without waiting, with the tail behind it. *left_out is what there was to send, *sent_out what
// has been.
static int
try_send(struct sp_pipe *pipe, struct bytes_view tail, size_t *left_out, size_t *sent_out)
{
    struct bytes_view part;
    if (sp_output_part(&pipe->locked.output, &part) != ERR_OK) {
        return NNG_ENOMEM;
    }
    *left_out = part.size + tail.size;
    return sp_stream_try_send(&pipe->stream, part, tail, sent_out);
}

static void
send_with_waiting(struct sp_pipe *pipe)
{
    struct bytes_view part;
    (void)!sp_output_part(&pipe->locked.output, &part); // the rest of what try_send had
    sp_stream_send(&pipe->stream, part);
}

// Sends what has been announced and what gathers meanwhile, until there is nothing left or the peer has to read first.
// The tail, which may be empty and is with TLS, is the end of the last message in `writing`, and borrowed for the time
// of the call.
static void
drive_send(struct sp_pipe *pipe, struct bytes_view tail)
{
    bool has_more = true;
    bool must_wait = false;
    while (has_more && !must_wait) {
        size_t left = 0;
        size_t sent = 0;
        int result = try_send(pipe, tail, &left, &sent);
        lock(pipe);
        must_wait = result == NNG_ECANCELED || (result == 0 && sent < left);
        if (tail.size > 0 && sp_output_keep_tail(&pipe->locked.output, tail, &sent) != ERR_OK) {
            close_locked(pipe, ERR_NO_MEMORY); // in the middle of a message: nothing else can follow
        }
        tail = nothing;
        has_more = note_sent_locked(pipe, result == NNG_ECANCELED ? 0 : result, sent);
        pipe->locked.has_waited |= has_more && must_wait;
        unlock(pipe);
    }
    if (has_more) {
        send_with_waiting(pipe);
    }
    lock(pipe);
    pipe->locked.starting--;
    close_stream_if_due_locked(pipe);
    request_turn_locked(pipe);
    unlock(pipe);
}

static void
on_sent(void *arg)
{
    struct sp_pipe *pipe = arg;
    lock(pipe);
    pipe->locked.progress += nng_aio_result(pipe->stream.send_aio) == 0;
    bool has_more = note_sent_locked(pipe, nng_aio_result(pipe->stream.send_aio), nng_aio_count(pipe->stream.send_aio));
    if (has_more) {
        pipe->locked.starting++;
        unlock(pipe);
        drive_send(pipe, nothing);
    } else {
        take_turn_and_unlock(pipe);
    }
}

enum err
sp_pipe_queue(struct sp_pipe *pipe, const struct bytes_view *parts, size_t part_count)
{
    enum err err;
    bool is_begun = false;
    lock(pipe);
    if (pipe->locked.state == PIPE_LINGERING || pipe->locked.state == PIPE_CLOSED) {
        err = ERR_CLOSED;
    } else if (pipe->locked.state == PIPE_HANDSHAKE && !pipe->options.is_dialled) {
        err = ERR_PRECONDITION;
    } else {
        bool is_large = part_count > 0 && parts[part_count - 1].size >= DIRECT_MIN_BYTES;
        bool is_direct = is_large && pipe->tls == NULL && pipe->locked.state == PIPE_OPEN && !pipe->locked.is_writing;
        err = sp_output_add(&pipe->locked.output, pipe->input.prefix_bytes, parts, part_count, is_direct);
        is_begun = err == ERR_OK && is_direct && begin_send_locked(pipe);
    }
    unlock(pipe);
    if (is_begun) {
        drive_send(pipe, parts[part_count - 1]);
    }
    return err;
}

void
sp_pipe_flush(struct sp_pipe *pipe)
{
    lock(pipe);
    bool is_begun = begin_send_locked(pipe);
    unlock(pipe);
    if (is_begun) {
        drive_send(pipe, nothing);
    }
}

bool
sp_pipe_tell_drained(struct sp_pipe *pipe)
{
    lock(pipe);
    bool is_drained =
        pipe->locked.state == PIPE_OPEN && !pipe->locked.is_writing && sp_output_size(&pipe->locked.output) == 0;
    pipe->locked.tells_drained = !is_drained;
    if (is_drained) {
        pipe->locked.has_drained = false; // the caller knows it now
    }
    unlock(pipe);
    return is_drained;
}

size_t
sp_pipe_queued_bytes(struct sp_pipe *pipe)
{
    lock(pipe);
    size_t size = sp_output_size(&pipe->locked.output);
    unlock(pipe);
    return size;
}

// ---- Life ----

unsigned
sp_pipe_progress(struct sp_pipe *pipe)
{
    lock(pipe);
    unsigned progress = pipe->locked.progress;
    unlock(pipe);
    return progress;
}

uint64_t
sp_pipe_received_bytes(struct sp_pipe *pipe)
{
    lock(pipe);
    uint64_t bytes = pipe->locked.total_received_bytes;
    unlock(pipe);
    return bytes;
}

void
sp_pipe_set_reading(struct sp_pipe *pipe, bool is_reading)
{
    lock(pipe);
    if (pipe->locked.state == PIPE_LINGERING) {
        is_reading = true;
    }
    pipe->locked.wants_reading = is_reading;
    bool is_begun = begin_receive_locked(pipe);
    unlock(pipe);
    if (is_begun) {
        submit_receive(pipe);
    }
}

static void
on_timer(struct timer *timer)
{
    struct sp_pipe *pipe = (struct sp_pipe *)((char *)timer - offsetof(struct sp_pipe, timer));
    lock(pipe);
    pipe->locked.is_timer_armed = false;
    switch (pipe->locked.state) {
    case PIPE_HANDSHAKE:
        close_locked(pipe, ERR_TIMEOUT);
        break;
    case PIPE_OPEN:
        trim_if_idle_locked(pipe);
        break;
    case PIPE_LINGERING:
        // Earlier than that it is an expiry from before the timer was moved.
        if (clock_monotonic_ms() >= pipe->locked.linger_until_ms) {
            close_locked(pipe, ERR_CLOSED);
        }
        break;
    case PIPE_CLOSED:
        break;
    }
    request_turn_locked(pipe);
    unlock(pipe);
}

void
sp_pipe_close(struct sp_pipe *pipe, unsigned linger_ms)
{
    bool is_begun = false;
    lock(pipe);
    bool has_output = pipe->locked.is_writing || pipe->locked.output.gathering.size > 0;
    // Taken before the timer is started, which then cannot expire earlier than this.
    uint64_t linger_until_ms = clock_monotonic_ms() + linger_ms;
    if (pipe->locked.state == PIPE_OPEN && linger_ms > 0 && has_output &&
        timer_start(pipe->timers, &pipe->timer, linger_ms) == ERR_OK) {
        pipe->locked.linger_until_ms = linger_until_ms;
        pipe->locked.state = PIPE_LINGERING;
        atomic_store(&pipe->is_closing, true);
        is_begun = begin_send_locked(pipe);
    } else if (pipe->locked.state != PIPE_LINGERING || linger_ms == 0) {
        close_locked(pipe, ERR_CLOSED);
    }
    bool is_lingering = pipe->locked.state == PIPE_LINGERING;
    request_turn_locked(pipe);
    unlock(pipe);
    if (is_begun) {
        drive_send(pipe, nothing);
    }
    if (is_lingering) {
        // A socket that is closed with unread bytes resets the connection, and the peer loses what was written last.
        sp_pipe_set_reading(pipe, true);
    }
}

static void
release_memory(struct sp_pipe *pipe)
{
    sp_stream_deinit(&pipe->stream);
    rpc_tls_codec_free(&pipe->tls);
    sp_output_free(&pipe->locked.output);
    sp_input_free(&pipe->input);
    (void)pthread_mutex_destroy(&pipe->locked.mutex);
    free(pipe);
}

// Frees a pipe whose operations have ended.
static void
reap(struct work *work)
{
    struct sp_pipe *pipe = (struct sp_pipe *)((char *)work - offsetof(struct sp_pipe, reap_work));
    (void)timer_stop(pipe->timers, &pipe->timer);
    sp_stream_stop(&pipe->stream);
    release_memory(pipe);

    (void)pthread_mutex_lock(&census_mutex);
    census_releasing--;
    (void)pthread_cond_broadcast(&census_changed);
    (void)pthread_mutex_unlock(&census_mutex);
}

void
sp_pipe_hold(struct sp_pipe *pipe)
{
    atomic_fetch_add(&pipe->references, 1);
}

void
sp_pipe_release(struct sp_pipe *pipe)
{
    if (atomic_fetch_sub(&pipe->references, 1) > 1) {
        return;
    }
    (void)pthread_mutex_lock(&census_mutex);
    census_releasing++;
    (void)pthread_mutex_unlock(&census_mutex);
    work_pool_submit(pipe->reaper, &pipe->reap_work);
}

void
sp_pipe_drain_reaper(void)
{
    (void)pthread_mutex_lock(&census_mutex);
    while (census_releasing > 0) {
        (void)pthread_cond_wait(&census_changed, &census_mutex);
    }
    (void)pthread_mutex_unlock(&census_mutex);
}

const char *
sp_pipe_address(const struct sp_pipe *pipe)
{
    return pipe->address;
}

enum err
sp_pipe_new(nng_stream *stream, const struct sp_pipe_options *options, struct sp_pipe **out)
{
    struct sp_pipe *pipe = calloc(1, sizeof *pipe);
    if (pipe == NULL) {
        struct rpc_tls_codec *tls = options->tls;
        rpc_tls_codec_free(&tls);
        nng_stream_free(stream);
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&pipe->locked.mutex, NULL);
    pipe->options = *options;
    pipe->tls = options->tls;
    pipe->locked.output.tls = options->tls;
    pipe->timers = rpc_nng_timers();
    pipe->reaper = rpc_nng_reaper();
    pipe->timer.on_expiry = on_timer;
    pipe->turn_work.run = turn_on_reaper;
    pipe->reap_work.run = reap;
    atomic_init(&pipe->references, 1);
    pipe->locked.wants_reading = true;
    pipe->locked.input_capacity = SP_INPUT_SMALL_BYTES;
    enum err err = sp_stream_init(&pipe->stream, stream, on_received, on_sent, pipe);
    if (err == ERR_OK) {
        err = sp_input_init(&pipe->input, options->is_ipc, options->max_message_bytes);
    }
    if (err == ERR_OK && options->is_dialled) {
        err = queue_header_locked(pipe, options->dialled_as);
    }
    if (err != ERR_OK || pipe->timers == NULL || pipe->reaper == NULL) {
        release_memory(pipe); // nothing was started, so nothing has to be stopped
        return err != ERR_OK ? err : ERR_NO_MEMORY;
    }
    rpc_nng_format_address(stream, options->is_ipc, pipe->address);
    if (!options->is_ipc) {
        // Best effort: calls wait for answers, so Nagle's delay would stop them; keepalive finds peers that vanished.
        (void)nng_stream_set_bool(stream, NNG_OPT_TCP_NODELAY, true);
        (void)nng_stream_set_bool(stream, NNG_OPT_TCP_KEEPALIVE, true);
    }
    *out = pipe;
    return ERR_OK;
}

void
sp_pipe_start(struct sp_pipe *pipe)
{
    unsigned timeout_ms = pipe->options.handshake_timeout_ms;
    lock(pipe);
    // An own timer and not one of nng's: its expiry can hit an aio that has completed and is in use again.
    enum err err =
        timer_start(pipe->timers, &pipe->timer, timeout_ms == 0 ? (unsigned)RPC_HANDSHAKE_TIMEOUT_MS : timeout_ms);
    pipe->locked.is_timer_armed = err == ERR_OK;
    if (err != ERR_OK) {
        close_locked(pipe, err);
    }
    bool is_sending = begin_send_locked(pipe);
    bool is_receiving = begin_receive_locked(pipe);
    request_turn_locked(pipe);
    unlock(pipe);
    if (is_sending) {
        drive_send(pipe, nothing);
    }
    if (is_receiving) {
        submit_receive(pipe);
    }
}
