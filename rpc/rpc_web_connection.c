// One WebSocket: messages in, frames out. rpc_web_priv.h says which thread does what.
//
// Frames are made here and written as raw bytes, many in one write: what has gathered while a write was under way
// leaves together. libwebsockets writes its own pongs and closes only between such writes, so frames are never torn.
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/rpc_web_priv.h"

enum {
    FRAME_HEADER_MAX_BYTES = 10,
    FRAME_BINARY_FINAL = 0x82,
    // A peer that does not answer our close is cut after this long.
    CLOSE_MIN_MS = 1000,
};

// ---------------------------------------------------------------- the transport, for rpc_peer, on any thread

static size_t
encode_frame_header(uint8_t header[FRAME_HEADER_MAX_BYTES], size_t payload_size)
{
    header[0] = FRAME_BINARY_FINAL;
    if (payload_size < 126) {
        header[1] = (uint8_t)payload_size;
        return 2;
    }
    if (payload_size <= UINT16_MAX) {
        header[1] = 126;
        bytes_store_be16(header + 2, (uint16_t)payload_size);
        return 4;
    }
    header[1] = 127;
    bytes_store_be64(header + 2, payload_size);
    return 10;
}

static enum err
append_frame_locked(struct web_connection *connection, const struct bytes_view *parts, size_t part_count)
{
    struct bytes *outgoing = &connection->locked.outgoing;
    uint8_t header[FRAME_HEADER_MAX_BYTES];
    size_t payload_size = 0;
    for (size_t i = 0; i < part_count; i++) {
        payload_size += parts[i].size;
    }
    size_t header_size = encode_frame_header(header, payload_size);
    size_t size_before = outgoing->size;
    if (connection->locked.is_closed) {
        return ERR_CLOSED;
    }
    enum err err = bytes_reserve(outgoing, header_size + payload_size);
    if (err == ERR_OK) {
        err = bytes_append(outgoing, bytes_view_of(header, header_size));
    }
    for (size_t i = 0; i < part_count && err == ERR_OK; i++) {
        err = bytes_append(outgoing, parts[i]);
    }
    if (err != ERR_OK) {
        outgoing->size = size_before;
        return err;
    }
    connection->locked.queued_bytes += header_size + payload_size;
    return ERR_OK;
}

static enum err
transport_queue(void *transport, const struct bytes_view *parts, size_t part_count)
{
    struct web_connection *connection = transport;
    pthread_mutex_lock(&connection->locked.mutex);
    enum err err = append_frame_locked(connection, parts, part_count);
    pthread_mutex_unlock(&connection->locked.mutex);
    return err;
}

static void
transport_flush(void *transport)
{
    struct web_connection *connection = transport;
    pthread_mutex_lock(&connection->locked.mutex);
    bool is_new = !connection->locked.wants_flush;
    connection->locked.wants_flush = true;
    pthread_mutex_unlock(&connection->locked.mutex);
    if (is_new) {
        web_listener_wake(connection->listener, connection);
    }
}

static size_t
transport_queued_bytes(void *transport)
{
    struct web_connection *connection = transport;
    pthread_mutex_lock(&connection->locked.mutex);
    size_t queued_bytes = connection->locked.queued_bytes;
    pthread_mutex_unlock(&connection->locked.mutex);
    return queued_bytes;
}

static unsigned
transport_progress(void *transport)
{
    struct web_connection *connection = transport;
    return atomic_load(&connection->progress);
}

static void
transport_set_reading(void *transport, bool is_reading)
{
    struct web_connection *connection = transport;
    pthread_mutex_lock(&connection->locked.mutex);
    connection->locked.is_reading = is_reading;
    connection->locked.wants_reading_change = true;
    pthread_mutex_unlock(&connection->locked.mutex);
    web_listener_wake(connection->listener, connection);
}

static void
transport_close(void *transport, unsigned linger_ms)
{
    struct web_connection *connection = transport;
    pthread_mutex_lock(&connection->locked.mutex);
    connection->locked.is_closed = true;
    connection->locked.wants_close = true;
    connection->locked.linger_ms = linger_ms;
    pthread_mutex_unlock(&connection->locked.mutex);
    web_listener_wake(connection->listener, connection);
}

static const struct rpc_transport_ops transport_ops = {
    .queue = transport_queue,
    .flush = transport_flush,
    .queued_bytes = transport_queued_bytes,
    .progress = transport_progress,
    .set_reading = transport_set_reading,
    .close = transport_close,
};

// ---------------------------------------------------------------- receiving

static void
trim(struct bytes *buffer)
{
    if (buffer->capacity > WEB_BUFFER_KEEP_BYTES) {
        bytes_free(buffer);
    } else {
        bytes_clear(buffer);
    }
}

static int
refuse(struct web_connection *connection, enum lws_close_status code)
{
    lws_close_reason(connection->wsi, code, NULL, 0);
    return -1;
}

static int
deliver(struct web_connection *connection, struct bytes_view data, struct bytes *large)
{
    switch ((int)rpc_peer_receive(connection->peer, data, large)) {
    case ERR_OK:
        break;
    case ERR_PROTOCOL:
        return refuse(connection, LWS_CLOSE_STATUS_PROTOCOL_ERR);
    default:
        return refuse(connection, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION);
    }
    if (!connection->has_batch) {
        connection->has_batch = true;
        TAILQ_INSERT_TAIL(&connection->listener->with_batches, connection, batch_link);
    }
    return 0;
}

int
web_connection_received(struct web_connection *connection, struct bytes_view data)
{
    struct lws *wsi = connection->wsi;
    struct bytes *incoming = &connection->incoming;
    atomic_fetch_add(&connection->progress, 1);
    if (connection->is_closing) {
        return 0;
    }
    if (connection->is_subscriber) {
        return refuse(connection, LWS_CLOSE_STATUS_POLICY_VIOLATION);
    }
    if (!lws_frame_is_binary(wsi)) {
        return refuse(connection, LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE);
    }
    size_t remaining = lws_remaining_packet_payload(wsi);
    if (remaining > RPC_MESSAGE_MAX_BYTES || incoming->size + data.size + remaining > RPC_MESSAGE_MAX_BYTES) {
        return refuse(connection, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE);
    }
    bool is_whole = lws_is_final_fragment(wsi) != 0;
    if (is_whole && incoming->size == 0) {
        return deliver(connection, data, NULL);
    }
    if (bytes_append(incoming, data) != ERR_OK) {
        return refuse(connection, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION);
    }
    if (!is_whole) {
        return 0;
    }
    int result = deliver(connection, bytes_as_view(incoming), incoming);
    trim(incoming);
    return result;
}

// ---------------------------------------------------------------- writing

// Moves what other threads have queued to where it is written from. False: nothing is there.
static bool
take_outgoing(struct web_connection *connection)
{
    trim(&connection->sending);
    connection->sent_bytes = 0;
    pthread_mutex_lock(&connection->locked.mutex);
    struct bytes empty = connection->sending;
    connection->sending = connection->locked.outgoing;
    connection->locked.outgoing = empty;
    connection->locked.wants_flush = false;
    pthread_mutex_unlock(&connection->locked.mutex);
    return connection->sending.size > 0;
}

static int
close_in_order(struct web_connection *connection)
{
    lws_close_reason(connection->wsi, LWS_CLOSE_STATUS_GOINGAWAY, NULL, 0);
    return -1;
}

static int
write_some(struct web_connection *connection)
{
    size_t size = connection->sending.size - connection->sent_bytes;
    if (size > WEB_WRITE_BYTES) {
        size = WEB_WRITE_BYTES;
    }
    // What the socket does not take, libwebsockets keeps, and writes before it calls us again.
    if (lws_write(connection->wsi, connection->sending.data + connection->sent_bytes, size, LWS_WRITE_RAW) < 0) {
        return -1;
    }
    connection->sent_bytes += size;
    atomic_fetch_add(&connection->progress, 1);
    pthread_mutex_lock(&connection->locked.mutex);
    connection->locked.queued_bytes -= size;
    pthread_mutex_unlock(&connection->locked.mutex);
    lws_callback_on_writable(connection->wsi);
    return 0;
}

int
web_connection_writable(struct web_connection *connection)
{
    if (!connection->is_established) {
        return 0;
    }
    if (connection->sent_bytes < connection->sending.size || take_outgoing(connection)) {
        return write_some(connection);
    }
    if (connection->is_closing) {
        return close_in_order(connection);
    }
    rpc_peer_drained(connection->peer);
    return 0;
}

// ---------------------------------------------------------------- what others ask for

// Without patience a frame may be cut in the middle; then a close frame would be read as part of it.
static void
begin_close(struct web_connection *connection, unsigned linger_ms)
{
    if (linger_ms == 0 && transport_queued_bytes(connection) > 0) {
        lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        return;
    }
    connection->is_closing = true;
    unsigned limit_ms = linger_ms > CLOSE_MIN_MS ? linger_ms : CLOSE_MIN_MS;
    lws_set_timer_usecs(connection->wsi, (lws_usec_t)limit_ms * LWS_USEC_PER_SEC / 1000);
    lws_callback_on_writable(connection->wsi);
}

void
web_connection_pending(struct web_connection *connection)
{
    pthread_mutex_lock(&connection->locked.mutex);
    bool wants_flush = connection->locked.wants_flush;
    bool wants_reading_change = connection->locked.wants_reading_change;
    bool is_reading = connection->locked.is_reading;
    bool wants_close = connection->locked.wants_close;
    unsigned linger_ms = connection->locked.linger_ms;
    connection->locked.wants_reading_change = false;
    connection->locked.wants_close = false;
    pthread_mutex_unlock(&connection->locked.mutex);

    if (!connection->is_established) {
        return; // the upgrade has failed and the wsi is closing
    }
    if (wants_reading_change) {
        (void)lws_rx_flow_control(connection->wsi, is_reading ? 1 : 0);
    }
    if (wants_close) {
        begin_close(connection, linger_ms);
    }
    if (wants_flush) {
        lws_callback_on_writable(connection->wsi);
    }
}

// ---------------------------------------------------------------- life

int
web_connection_established(struct web_connection *connection)
{
    connection->is_established = true;
    return 0;
}

static void
format_address(struct lws *wsi, char address_out[WEB_ADDRESS_MAX_BYTES])
{
    struct sockaddr_storage address;
    socklen_t address_size = sizeof(address);
    char host[WEB_ADDRESS_MAX_BYTES - 8];
    char port[8];
    if (getpeername(lws_get_socket_fd(wsi), (struct sockaddr *)&address, &address_size) != 0 ||
        getnameinfo((struct sockaddr *)&address, address_size, host, sizeof(host), port, sizeof(port),
            NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(address_out, WEB_ADDRESS_MAX_BYTES, "web");
        return;
    }
    (void)snprintf(address_out, WEB_ADDRESS_MAX_BYTES, "%s:%s", host, port);
}

enum err
web_connection_new(struct web_listener *listener, struct lws *wsi, const char *ticket)
{
    char address[WEB_ADDRESS_MAX_BYTES];
    struct web_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        return ERR_NO_MEMORY;
    }
    connection->owner.kind = WEB_OWNER_CONNECTION;
    connection->listener = listener;
    connection->wsi = wsi;
    connection->is_subscriber = ticket != NULL;
    connection->locked.is_reading = true;
    if (pthread_mutex_init(&connection->locked.mutex, NULL) != 0) {
        free(connection);
        return ERR_NO_MEMORY;
    }
    TAILQ_INSERT_TAIL(&listener->connections, connection, link);

    format_address(wsi, address);
    enum err err = rpc_peer_new(listener->server, &transport_ops, connection, address, &connection->peer);
    if (err == ERR_OK && ticket != NULL) {
        err = rpc_peer_subscribe(connection->peer, bytes_view_of_text(ticket));
    }
    if (err != ERR_OK) {
        web_connection_free(&connection);
        return err;
    }
    lws_set_opaque_user_data(wsi, connection);
    return ERR_OK;
}

void
web_connection_free(struct web_connection **connection_inout)
{
    struct web_connection *connection = *connection_inout;
    *connection_inout = NULL;
    if (connection == NULL) {
        return;
    }
    struct web_listener *listener = connection->listener;
    pthread_mutex_lock(&connection->locked.mutex);
    connection->locked.is_closed = true;
    pthread_mutex_unlock(&connection->locked.mutex);
    if (connection->peer != NULL) {
        rpc_peer_closed(connection->peer); // after it no other thread is in transport_ops
    }
    pthread_mutex_lock(&listener->locked.mutex);
    if (connection->is_pending) {
        TAILQ_REMOVE(&listener->locked.pending, connection, pending_link);
    }
    pthread_mutex_unlock(&listener->locked.mutex);
    if (connection->has_batch) {
        TAILQ_REMOVE(&listener->with_batches, connection, batch_link);
    }
    TAILQ_REMOVE(&listener->connections, connection, link);
    bytes_free(&connection->locked.outgoing);
    bytes_free(&connection->sending);
    bytes_free(&connection->incoming);
    pthread_mutex_destroy(&connection->locked.mutex);
    free(connection);
}
