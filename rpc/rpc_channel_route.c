// Which connection of a channel carries which call, and which of them are to be made.
#include "base/clock.h"
#include "rpc/rpc_channel_core.h"
#include "rpc/rpc_client_stream_priv.h"

enum {
    LOAD_INTERVAL_MS = 1000, // how often servers are asked how busy they are, where that matters
};

static struct rpc_balancer_server *
server_of(struct rpc_channel *channel, const struct rpc_connection *connection)
{
    return &channel->locked.servers[connection - channel->connections];
}

static struct rpc_connection *
pick_locked(struct rpc_channel *channel, uint64_t now_ms)
{
    size_t count = channel->connection_count;
    if (count == 1) {
        return channel->connections->locked.state == RPC_CONNECTION_READY ? channel->connections : NULL;
    }
    bool uses_all = channel->locked.balancer.strategy != RPC_PICK_FIRST;
    for (size_t i = 0; i < count; i++) {
        // One that was lost, or has not been there, comes back while the others work; else it may fail as it likes.
        if (uses_all && rpc_connection_is_due_locked(&channel->connections[i], now_ms)) {
            (void)!rpc_connection_connect_locked(&channel->connections[i], now_ms);
        }
        channel->locked.servers[i].cpu_permille = channel->connections[i].locked.cpu_permille;
        channel->locked.servers[i].is_ready = channel->connections[i].locked.state == RPC_CONNECTION_READY;
    }
    // xorshift: chance enough to spread calls.
    channel->locked.random ^= channel->locked.random << 13;
    channel->locked.random ^= channel->locked.random >> 17;
    channel->locked.random ^= channel->locked.random << 5;
    size_t picked =
        rpc_balancer_pick(&channel->locked.balancer, channel->locked.servers, count, now_ms, channel->locked.random);
    return picked == count ? NULL : &channel->connections[picked];
}

static unsigned
load_interval_ms(const struct rpc_channel *channel)
{
    return channel->locked.balancer.strategy == RPC_LEAST_CPU ? LOAD_INTERVAL_MS : 0;
}

static unsigned
watch_interval_ms(const struct rpc_channel *channel)
{
    unsigned load_ms = load_interval_ms(channel);
    return load_ms > 0 && load_ms < channel->keepalive_ms ? load_ms : channel->keepalive_ms;
}

uint64_t
rpc_channel_watch_locked(struct rpc_channel *channel, uint64_t now_ms)
{
    bool is_needed = false;
    for (size_t i = 0; i < channel->connection_count; i++) {
        // With a load to learn all are asked, so that those without calls are not taken for idle for ever.
        bool is_used = channel->locked.servers[i].outstanding > 0 || load_interval_ms(channel) > 0;
        is_needed = is_needed || channel->locked.servers[i].outstanding > 0;
        if (is_used) {
            rpc_connection_look_locked(&channel->connections[i], now_ms, channel->keepalive_ms,
                load_interval_ms(channel));
        }
    }
    channel->locked.is_watching = is_needed;
    return is_needed ? now_ms + watch_interval_ms(channel) : UINT64_MAX;
}

void
rpc_channel_give_up_locked(const struct rpc_unary *call)
{
    if (call->locked.state == RPC_UNARY_SENT) {
        rpc_connection_cancel_locked(call->locked.connection, call->locked.id);
    }
}

enum err
rpc_channel_send_locked(struct rpc_channel *channel, struct rpc_unary *call, const struct bytes *frame,
    struct bytes_view bulk, uint64_t now_ms)
{
    bytes_store_be32(frame->data, call->locked.id);
    const struct bytes_view parts[] = {bytes_as_view(frame), bulk};
    struct rpc_connection *connection;
    enum err err = ERR_CLOSED;
    while (err == ERR_CLOSED && (connection = pick_locked(channel, now_ms)) != NULL) {
        err = rpc_connection_send_locked(connection, parts, bulk.size > 0 ? 2 : 1); // ERR_CLOSED: not ready any more
    }
    if (err == ERR_OK) {
        call->locked.connection = connection;
        call->locked.state = RPC_UNARY_SENT;
        call->was_sent = true;
        call->status.attempts++;
        server_of(channel, connection)->outstanding++;
        if (call->stream != NULL) {
            rpc_client_stream_wake_locked(call->stream); // messages have waited for this
        }
        if (!channel->locked.is_watching) {
            channel->locked.is_watching = true;
            rpc_channel_arm_locked(channel, now_ms + watch_interval_ms(channel));
        }
        if (channel->locked.balancer.strategy == RPC_TWO_CHOICES) {
            call->locked.sent_us = clock_monotonic_us();
        }
    }
    return err;
}

void
rpc_channel_claim_locked(struct rpc_channel *channel, struct rpc_unary *call)
{
    if (call->locked.state == RPC_UNARY_SENT) {
        server_of(channel, call->locked.connection)->outstanding--;
    }
    rpc_unary_table_claim(&channel->locked.calls, call);
}

void
rpc_channel_answered_locked(struct rpc_channel *channel, const struct rpc_unary *call)
{
    if (channel->locked.balancer.strategy == RPC_TWO_CHOICES) {
        uint64_t now_us = clock_monotonic_us();
        rpc_balancer_measure(server_of(channel, call->locked.connection), now_us - call->locked.sent_us, now_us / 1000);
    }
}

enum err
rpc_channel_connect_locked(struct rpc_channel *channel, uint64_t now_ms)
{
    bool is_one_enough = channel->locked.balancer.strategy == RPC_PICK_FIRST;
    uint64_t next_ms = UINT64_MAX;
    if (is_one_enough && !rpc_channel_is_down_locked(channel)) {
        return ERR_OK;
    }
    for (size_t i = 0; i < channel->connection_count; i++) {
        size_t at = (channel->locked.balancer.current + i) % channel->connection_count;
        struct rpc_connection *connection = &channel->connections[at];
        bool is_due = rpc_connection_is_due_locked(connection, now_ms);
        enum err err = is_due ? rpc_connection_connect_locked(connection, now_ms) : ERR_OK;
        if (err != ERR_OK || (is_due && is_one_enough)) {
            return err;
        }
        if (connection->locked.state == RPC_CONNECTION_BACKING_OFF && connection->locked.next_attempt_ms < next_ms) {
            next_ms = connection->locked.next_attempt_ms;
        }
    }
    if (rpc_channel_is_down_locked(channel)) {
        rpc_channel_arm_locked(channel, next_ms);
    }
    return ERR_OK;
}

bool
rpc_channel_is_down_locked(const struct rpc_channel *channel)
{
    bool is_down = true;
    for (size_t i = 0; i < channel->connection_count; i++) {
        enum rpc_connection_state state = channel->connections[i].locked.state;
        is_down = is_down && (state == RPC_CONNECTION_IDLE || state == RPC_CONNECTION_BACKING_OFF ||
                                 state == RPC_CONNECTION_LEAVING);
    }
    return is_down;
}

enum err
rpc_channel_explain_locked(const struct rpc_channel *channel, uint64_t now_ms, struct err_detail *why)
{
    struct err_detail causes = {0};
    enum err reason = channel->connections->locked.reason;
    uint64_t next_ms = UINT64_MAX;
    for (size_t i = 0; i < channel->connection_count; i++) {
        const struct rpc_connection *connection = &channel->connections[i];
        struct err_detail before = causes;
        (void)err_fail(&causes, ERR_OK, "%s%s%s", before.message, i == 0 ? "" : "; ", connection->locked.cause.message);
        reason = connection->locked.reason == ERR_UNAVAILABLE ? ERR_UNAVAILABLE : reason;
        next_ms = connection->locked.next_attempt_ms < next_ms ? connection->locked.next_attempt_ms : next_ms;
    }
    if (now_ms == 0) {
        return err_fail(why, reason, "%s", causes.message);
    }
    return err_fail(why, reason, "%s; the next attempt is in %llu ms", causes.message,
        (unsigned long long)(next_ms > now_ms ? next_ms - now_ms : 0));
}
