// What the two ends of a connection say to each other, as a client: Hello, Ping, going away (docs/protocol.md).
//
// A server that does not know flags answers the Hello with a status, which is dropped; then takes_flags stays false and
// nothing else with flags is said to it, but for streams, which it refuses in the same way.
#include "base/arena.h"
#include "base/clock.h"
#include "rpc/rpc_connection.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"

#include "fc/rpc/v1/rpc.pb-c.h"

enum {
    ID_BYTES = 4,
    CONTROL_ARENA_BYTES = 4096, // the largest Control, unpacked
    MS_PER_S = 1000,
};

static bool
is_open_locked(const struct rpc_connection *connection)
{
    return connection->locked.state == RPC_CONNECTION_READY || connection->locked.state == RPC_CONNECTION_LEAVING;
}

void
rpc_connection_frame_locked(struct rpc_connection *connection, uint32_t id, const struct rpc_flagged *flagged)
{
    uint8_t route[ID_BYTES];
    struct bytes frame = {0};
    struct bytes_view bulk = {0};
    bytes_store_be32(route, id);
    if (!is_open_locked(connection)) {
        return;
    }
    enum err err = flagged->message != NULL
                       ? rpc_frame_append(&frame, flagged->flags, flagged->header, flagged->message, &bulk)
                       : rpc_frame_append_encoded(&frame, flagged->flags, flagged->header, flagged->encoded);
    if (err == ERR_OK) {
        const struct bytes_view parts[] = {bytes_view_of(route, sizeof route), bytes_as_view(&frame), bulk};
        err = sp_pipe_queue(connection->locked.pipe, parts, sizeof parts / sizeof parts[0]);
    }
    if (err != ERR_OK && err != ERR_CLOSED) {
        sp_pipe_close(connection->locked.pipe, 0); // the other end would wait for it in vain
    }
    bytes_free(&frame);
}

void
rpc_connection_cancel_locked(struct rpc_connection *connection, uint32_t id)
{
    if (connection->locked.takes_flags && is_open_locked(connection)) {
        rpc_connection_frame_locked(connection, id, &(struct rpc_flagged){.flags = RPC_FRAME_CANCEL});
        sp_pipe_flush(connection->locked.pipe);
    }
}

static void
send_control_locked(struct rpc_connection *connection, const Fc__Rpc__V1__Control *control)
{
    rpc_connection_frame_locked(connection, RPC_FRAME_CONTROL_ID,
        &(struct rpc_flagged){.flags = RPC_FRAME_CONTROL, .header = &control->base});
}

void
rpc_connection_hello_locked(struct rpc_connection *connection)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__Hello hello = FC__RPC__V1__HELLO__INIT;
    hello.max_message_bytes = RPC_MESSAGE_MAX_BYTES;
    control.kind_case = FC__RPC__V1__CONTROL__KIND_HELLO;
    control.hello = &hello;
    connection->locked.takes_flags = false;
    connection->locked.cpu_permille = 0;
    connection->locked.is_pinged = false;
    connection->locked.is_dead = false;
    connection->locked.seen_progress = 0;
    connection->locked.progress_ms = clock_monotonic_ms();
    connection->locked.pinged_ms = connection->locked.progress_ms;
    send_control_locked(connection, &control);
}

static void
ping_locked(struct rpc_connection *connection, uint64_t now_ms)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__Ping ping = FC__RPC__V1__PING__INIT;
    control.kind_case = FC__RPC__V1__CONTROL__KIND_PING;
    control.ping = &ping;
    connection->locked.pinged_ms = now_ms;
    send_control_locked(connection, &control);
    sp_pipe_flush(connection->locked.pipe);
}

static void
pong_locked(struct rpc_connection *connection, const Fc__Rpc__V1__Ping *ping)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__Pong pong = FC__RPC__V1__PONG__INIT;
    pong.number = ping->number;
    control.kind_case = FC__RPC__V1__CONTROL__KIND_PONG;
    control.pong = &pong;
    send_control_locked(connection, &control); // flushed at the end of the batch that brought the ping
}

static void
note_load_locked(struct rpc_connection *connection, const Fc__Rpc__V1__Load *load)
{
    if (load != NULL) {
        connection->locked.cpu_permille = load->cpu_permille;
    }
}

static void
leave_locked(struct rpc_connection *connection, struct rpc_unary_list *ended)
{
    if (connection->locked.state == RPC_CONNECTION_READY) {
        connection->locked.state = RPC_CONNECTION_LEAVING;
        (void)err_fail(&connection->locked.cause, ERR_UNAVAILABLE, "the server at %s is shutting down",
            connection->url.text);
        connection->locked.reason = ERR_UNAVAILABLE;
        connection->handlers->on_leaving_locked(connection->owner, connection, ended);
    }
}

void
rpc_connection_control_locked(struct rpc_connection *connection, struct bytes_view data, struct rpc_unary_list *ended)
{
    struct rpc_frame frame;
    struct arena arena;
    ProtobufCMessage *unpacked = NULL;
    if (rpc_frame_parse(data, &frame) != ERR_OK || frame.flags != RPC_FRAME_CONTROL) {
        return; // a server that takes no flags
    }
    arena_init(&arena, CONTROL_ARENA_BYTES);
    if (rpc_message_unpack(&fc__rpc__v1__control__descriptor, frame.header, &arena, &unpacked, NULL) == ERR_OK) {
        const Fc__Rpc__V1__Control *control = (const Fc__Rpc__V1__Control *)unpacked;
        switch (control->kind_case) {
        case FC__RPC__V1__CONTROL__KIND_HELLO:
            connection->locked.takes_flags = true;
            note_load_locked(connection, control->hello->load);
            break;
        case FC__RPC__V1__CONTROL__KIND_PING:
            pong_locked(connection, control->ping);
            break;
        case FC__RPC__V1__CONTROL__KIND_PONG:
            note_load_locked(connection, control->pong->load);
            break;
        case FC__RPC__V1__CONTROL__KIND_GOING_AWAY:
            leave_locked(connection, ended);
            break;
        case FC__RPC__V1__CONTROL__KIND__NOT_SET: // or of a newer server
        case _FC__RPC__V1__CONTROL__KIND__CASE_IS_INT_SIZE:
            break;
        }
    }
    arena_deinit(&arena);
}

void
rpc_connection_look_locked(struct rpc_connection *connection, uint64_t now_ms, unsigned keepalive_ms, unsigned load_ms)
{
    if (!connection->locked.takes_flags || !is_open_locked(connection)) {
        return;
    }
    unsigned progress = sp_pipe_progress(connection->locked.pipe);
    if (progress != connection->locked.seen_progress) {
        connection->locked.seen_progress = progress;
        connection->locked.progress_ms = now_ms;
        connection->locked.is_pinged = false;
    }
    if (connection->locked.is_pinged && now_ms - connection->locked.progress_ms >= 2 * (uint64_t)keepalive_ms) {
        connection->locked.is_dead = true;
        sp_pipe_close(connection->locked.pipe, 0);
    } else if (!connection->locked.is_pinged && now_ms - connection->locked.progress_ms >= keepalive_ms) {
        connection->locked.is_pinged = true;
        ping_locked(connection, now_ms);
    } else if (load_ms > 0 && now_ms - connection->locked.pinged_ms >= load_ms) {
        ping_locked(connection, now_ms);
    }
}
