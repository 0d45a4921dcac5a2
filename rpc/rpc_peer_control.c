// Frames with flags, as they come in: what is about the connection, about a call that its client gives up, or about a
// stream. docs/protocol.md says what each means. All of it runs in the listener's calls, which come one at a time.
#include "base/log.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats_priv.h"

enum {
    CONTROL_ARENA_BYTES = 4096, // the largest Control, unpacked
    KNOWN_FLAGS =
        RPC_FRAME_OPEN | RPC_FRAME_MESSAGE | RPC_FRAME_END | RPC_FRAME_CANCEL | RPC_FRAME_CREDIT | RPC_FRAME_CONTROL,
    STREAM_FLAGS = RPC_FRAME_OPEN | RPC_FRAME_MESSAGE | RPC_FRAME_END,
    ROUTE_BYTES = 4,
};

static void
send_control(struct rpc_peer *peer, const Fc__Rpc__V1__Control *control, bool is_last)
{
    uint8_t route[ROUTE_BYTES];
    struct bytes frame = {0};
    bytes_store_be32(route, RPC_FRAME_CONTROL_ID);
    if (rpc_frame_append(&frame, RPC_FRAME_CONTROL, &control->base, NULL, NULL) == ERR_OK) {
        const struct bytes_view parts[] = {bytes_view_of(route, sizeof(route)), bytes_as_view(&frame)};
        (void)rpc_peer_send(peer, parts, 2, is_last);
    } // else its peer learns nothing, which it can live with
    bytes_free(&frame);
}

static void
answer_hello(struct rpc_peer *peer)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__Hello hello = FC__RPC__V1__HELLO__INIT;
    Fc__Rpc__V1__Load load;
    rpc_server_measure_load(peer->server, &load);
    hello.max_message_bytes = RPC_MESSAGE_MAX_BYTES;
    hello.load = &load;
    control.kind_case = FC__RPC__V1__CONTROL__KIND_HELLO;
    control.hello = &hello;
    send_control(peer, &control, false);
    atomic_store(&peer->takes_flags, true);
    if (atomic_load(&peer->server->is_draining)) {
        rpc_peer_say_going_away(peer); // the server may have told the others before it knew of this one
    }
}

static void
answer_ping(struct rpc_peer *peer, uint64_t number)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__Pong pong = FC__RPC__V1__PONG__INIT;
    Fc__Rpc__V1__Load load;
    rpc_server_measure_load(peer->server, &load);
    pong.number = number;
    pong.load = &load;
    control.kind_case = FC__RPC__V1__CONTROL__KIND_PONG;
    control.pong = &pong;
    send_control(peer, &control, false);
}

void
rpc_peer_say_going_away(struct rpc_peer *peer)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__GoingAway going_away = FC__RPC__V1__GOING_AWAY__INIT;
    control.kind_case = FC__RPC__V1__CONTROL__KIND_GOING_AWAY;
    control.going_away = &going_away;
    if (atomic_load(&peer->takes_flags)) {
        send_control(peer, &control, true);
    }
}

void
rpc_peer_keep_alive(struct rpc_peer *peer)
{
    Fc__Rpc__V1__Control control = FC__RPC__V1__CONTROL__INIT;
    Fc__Rpc__V1__Ping ping = FC__RPC__V1__PING__INIT;
    if (!atomic_load(&peer->takes_flags)) {
        return;
    }
    unsigned progress = rpc_peer_progress(peer);
    if (progress != peer->seen_progress) {
        peer->seen_progress = progress;
        peer->is_pinged = false;
    } else if (peer->is_pinged) {
        log_debug("RPC-PEER-DEAD", NULL, "closed the connection of %s: it has not answered a ping", peer->address);
        rpc_peer_close(peer, 0);
    } else {
        peer->is_pinged = true;
        control.kind_case = FC__RPC__V1__CONTROL__KIND_PING;
        control.ping = &ping;
        send_control(peer, &control, true);
    }
}

static void
refuse(struct rpc_peer *peer, struct bytes_view route, enum err code, const char *message)
{
    (void)rpc_call_refuse(peer, route, code, message, NULL);
    peer->has_answered = true;
}

static void
receive_control(struct rpc_peer *peer, struct bytes_view route, const struct rpc_frame *frame)
{
    struct arena arena;
    ProtobufCMessage *unpacked = NULL;
    if (route.size != ROUTE_BYTES || bytes_load_be32(route.data) != RPC_FRAME_CONTROL_ID) {
        refuse(peer, route, ERR_INVALID, "a frame about the connection has the request id 80000000");
        return;
    }
    arena_init(&arena, CONTROL_ARENA_BYTES);
    enum err err = rpc_message_unpack(&fc__rpc__v1__control__descriptor, frame->header, &arena, &unpacked, NULL);
    const Fc__Rpc__V1__Control *control = (const Fc__Rpc__V1__Control *)unpacked;
    if (err != ERR_OK) {
        refuse(peer, route, ERR_INVALID, "a frame about the connection cannot be read");
    } else if (control->kind_case == FC__RPC__V1__CONTROL__KIND_HELLO) {
        answer_hello(peer);
        peer->has_answered = true;
    } else if (control->kind_case == FC__RPC__V1__CONTROL__KIND_PING) {
        answer_ping(peer, control->ping->number);
        peer->has_answered = true;
    } // a Pong has done its part by coming, and what is not known is not for us
    arena_deinit(&arena);
}

// Whether these flags may stand together; those that are known.
static bool
is_combination(uint8_t flags)
{
    return (flags & ~STREAM_FLAGS) == 0 || flags == RPC_FRAME_CANCEL || flags == RPC_FRAME_CREDIT ||
           flags == RPC_FRAME_CONTROL;
}

enum err
rpc_peer_receive_flagged(struct rpc_peer *peer, struct bytes_view data, size_t route_bytes, struct bytes *large)
{
    struct bytes_view route = bytes_view_of(data.data, route_bytes);
    struct rpc_frame frame;
    enum err err = rpc_frame_parse(bytes_view_of(data.data + route_bytes, data.size - route_bytes), &frame);
    if (err != ERR_OK) {
        refuse(peer, route, err, "the frame is shorter than it says, or its header too long");
    } else if ((frame.flags & ~KNOWN_FLAGS) != 0) {
        refuse(peer, route, ERR_UNIMPLEMENTED, "this server does not know all flags of the frame");
    } else if (!is_combination(frame.flags) || ((frame.flags & RPC_FRAME_MESSAGE) == 0 && frame.message.size > 0)) {
        refuse(peer, route, ERR_INVALID, "these flags do not go together, or a frame without MESSAGE has one");
    } else if (frame.flags == RPC_FRAME_CONTROL) {
        receive_control(peer, route, &frame);
    } else if ((frame.flags & RPC_FRAME_OPEN) != 0) {
        return rpc_peer_open_stream(peer, data, route_bytes, &frame, large);
    } else {
        struct rpc_server_stream *stream = rpc_peer_find_stream(peer, route);
        if (stream != NULL) {
            err = rpc_server_stream_receive(stream, &frame, large);
            rpc_server_stream_release(stream);
            return err;
        }
        if (frame.flags == RPC_FRAME_CANCEL) {
            rpc_peer_cancel(peer, route);
        } // else of a stream that has ended
    }
    return ERR_OK;
}
