// MQTT 3.1.1, NATS, IRC, and fc's own, as far as a publisher and a subscriber of one room need them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/chat_load.h"
#include "bench/load.h"

static void
write_text(struct chat_connection *connection, const char *text)
{
    chat_load_write(connection, text, strlen(text));
}

// ---- MQTT ----

enum {
    MQTT_CONNACK = 0x20,
    MQTT_PUBLISH = 0x30,
    MQTT_PUBACK = 0x40,
    MQTT_SUBACK = 0x90,
    MQTT_ID_OFFSET = 1, // 0 is no packet id
};

static unsigned mqtt_qos;

static void
mqtt_greet(struct chat_connection *connection)
{
    char id[16];
    const uint8_t header[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}; // a clean session without keepalive
    const int size = snprintf(id, sizeof(id), "%c%u", connection->is_sender ? 'p' : 's', connection->index);
    const uint8_t start[] = {0x10, (uint8_t)(sizeof(header) + 2 + (size_t)size)};
    const uint8_t id_size[] = {0, (uint8_t)size};
    chat_load_write(connection, start, sizeof(start));
    chat_load_write(connection, header, sizeof(header));
    chat_load_write(connection, id_size, sizeof(id_size));
    chat_load_write(connection, id, (size_t)size);
}

static void
mqtt_take_packet(struct chat_connection *connection, uint8_t type, struct bytes_view body)
{
    switch (type & 0xf0) {
    case MQTT_CONNACK:
        if (body.size < 2 || body.data[1] != 0) {
            load_die("mqtt", "the server refused a connection");
        }
        if (connection->is_sender) {
            chat_load_ready(connection);
        } else {
            const uint8_t subscribe[] = {0x82, 10, 0, 1, 0, 5, 'b', 'e', 'n', 'c', 'h', (uint8_t)mqtt_qos};
            chat_load_write(connection, subscribe, sizeof(subscribe));
        }
        break;
    case MQTT_SUBACK:
        chat_load_ready(connection);
        break;
    case MQTT_PUBLISH:
        if ((type & 0x06) != 0) {
            const uint8_t *id = body.data + body.size - CHAT_TEXT_BYTES - 2;
            const uint8_t puback[] = {MQTT_PUBACK, 2, id[0], id[1]};
            chat_load_write(connection, puback, sizeof(puback));
        }
        chat_load_delivered((const char *)body.data + body.size - CHAT_TEXT_BYTES);
        break;
    case MQTT_PUBACK:
        chat_load_acknowledged((unsigned)bytes_load_be16(body.data) - MQTT_ID_OFFSET);
        break;
    default:
        load_die("mqtt", "an unexpected packet");
    }
}

static size_t
mqtt_take(struct chat_connection *connection, struct bytes_view data)
{
    size_t taken = 0;
    for (;;) {
        size_t at = taken + 1;
        size_t size = 0;
        unsigned shift = 0;
        bool is_whole = false;
        while (at < data.size && !is_whole) {
            size |= (size_t)(data.data[at] & 0x7f) << shift;
            shift += 7;
            is_whole = (data.data[at++] & 0x80) == 0;
        }
        if (!is_whole || data.size - at < size) {
            return taken;
        }
        mqtt_take_packet(connection, data.data[taken], bytes_view_of(data.data + at, size));
        taken = at + size;
    }
}

static void
mqtt_publish(struct chat_connection *connection, unsigned id, const char *text)
{
    const size_t size = 7 + (mqtt_qos > 0 ? 2 : 0) + CHAT_TEXT_BYTES;
    const uint8_t header[] = {(uint8_t)(MQTT_PUBLISH | mqtt_qos << 1), (uint8_t)(0x80 | (size & 0x7f)),
        (uint8_t)(size >> 7), 0, 5, 'b', 'e', 'n', 'c', 'h'};
    uint8_t packet_id[2];
    bytes_store_be16(packet_id, (uint16_t)(id + MQTT_ID_OFFSET));
    chat_load_write(connection, header, sizeof(header));
    if (mqtt_qos > 0) {
        chat_load_write(connection, packet_id, sizeof(packet_id));
    }
    chat_load_write(connection, text, CHAT_TEXT_BYTES);
}

// ---- Lines, for NATS and IRC ----

// next_line returns the size of the line at the beginning, with its end, or 0.
static size_t
next_line(struct bytes_view data)
{
    const uint8_t *end = data.size == 0 ? NULL : memchr(data.data, '\n', data.size);
    return end == NULL ? 0 : (size_t)(end - data.data) + 1;
}

static bool
starts_with(struct bytes_view line, const char *word)
{
    return line.size >= strlen(word) && memcmp(line.data, word, strlen(word)) == 0;
}

static const uint8_t *
find_in(struct bytes_view line, const char *word)
{
    return memmem(line.data, line.size, word, strlen(word));
}

// ---- NATS ----

static void
nats_greet(struct chat_connection *connection)
{
    write_text(connection, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
    write_text(connection, connection->is_sender ? "PING\r\n" : "SUB bench 1\r\nPING\r\n");
}

static size_t
nats_take(struct chat_connection *connection, struct bytes_view data)
{
    size_t taken = 0;
    for (;;) {
        struct bytes_view line = bytes_view_of(data.data + taken, data.size - taken);
        const size_t size = next_line(line);
        if (size == 0) {
            return taken;
        }
        if (starts_with(line, "MSG ")) {
            if (line.size < size + CHAT_TEXT_BYTES + 2) {
                return taken;
            }
            chat_load_delivered((const char *)line.data + size);
            taken += CHAT_TEXT_BYTES + 2;
        } else if (starts_with(line, "PONG")) {
            chat_load_ready(connection);
        } else if (starts_with(line, "PING")) {
            write_text(connection, "PONG\r\n");
        } else if (starts_with(line, "-ERR")) {
            load_die("nats", "the server reported an error");
        }
        taken += size;
    }
}

static void
nats_publish(struct chat_connection *connection, unsigned id, const char *text)
{
    (void)id;
    write_text(connection, "PUB bench 200\r\n");
    chat_load_write(connection, text, CHAT_TEXT_BYTES);
    write_text(connection, "\r\n");
}
_Static_assert(CHAT_TEXT_BYTES == 200, "as nats_publish says");

// ---- IRC ----

static void
irc_greet(struct chat_connection *connection)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "NICK %c%u\r\nUSER b 0 * :b\r\n", connection->is_sender ? 'p' : 's',
        connection->index);
    write_text(connection, text);
}

static void
irc_take_line(struct chat_connection *connection, struct bytes_view line)
{
    const uint8_t *message = find_in(line, " PRIVMSG ");
    if (message != NULL) {
        const uint8_t *text = memchr(message, ':', (size_t)(line.data + line.size - message));
        chat_load_delivered((const char *)text + 1);
    } else if (starts_with(line, "PING")) {
        write_text(connection, "PONG");
        chat_load_write(connection, line.data + 4, line.size - 4);
    } else if (starts_with(line, "ERROR")) {
        load_die("irc", "the server has closed a connection");
    } else if (!connection->is_ready && find_in(line, " 001 ") != NULL) {
        write_text(connection, "JOIN #bench\r\n");
    } else if (!connection->is_ready && find_in(line, " 366 ") != NULL) {
        chat_load_ready(connection);
    }
}

static size_t
irc_take(struct chat_connection *connection, struct bytes_view data)
{
    size_t taken = 0;
    for (;;) {
        struct bytes_view line = bytes_view_of(data.data + taken, data.size - taken);
        line.size = next_line(line);
        if (line.size == 0) {
            return taken;
        }
        irc_take_line(connection, line);
        taken += line.size;
    }
}

static void
irc_publish(struct chat_connection *connection, unsigned id, const char *text)
{
    (void)id;
    write_text(connection, "PRIVMSG #bench :");
    chat_load_write(connection, text, CHAT_TEXT_BYTES);
    write_text(connection, "\r\n");
}

// ---- fc (docs/protocol.md) ----

enum {
    SP_HEADER_BYTES = 8,
    SP_LENGTH_BYTES = 8,
    FC_TOPIC_BYTES = 16,
    FC_REQUEST_ID_BYTES = 16,
    FC_ROUTE_BYTES = 4,
    FC_FRAME_BYTES = 4,
};

static uint8_t fc_request_id[FC_REQUEST_ID_BYTES]; // random, and counted up in its first 8 bytes

static void
fc_write_length(struct chat_connection *connection, size_t size)
{
    uint8_t length[SP_LENGTH_BYTES];
    bytes_store_be64(length, size);
    chat_load_write(connection, length, sizeof(length));
}

static void
fc_greet(struct chat_connection *connection)
{
    const uint8_t header[SP_HEADER_BYTES] = {0, 'S', 'P', 0, 0, connection->is_sender ? 0x30 : 0x21, 0, 0};
    chat_load_write(connection, header, sizeof(header));
    if (!connection->is_sender) {
        fc_write_length(connection, strlen(connection->key));
        write_text(connection, connection->key);
    }
}

static uint64_t
take_varint(struct bytes_view *from)
{
    uint64_t value = 0;
    for (unsigned shift = 0; from->size > 0 && shift < 64; shift += 7) {
        const uint8_t byte = *from->data++;
        from->size--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            break;
        }
    }
    return value;
}

// take_field takes a protobuf field off the front. What is no text, bytes or message has an empty value.
static unsigned
take_field(struct bytes_view *from, struct bytes_view *value_out)
{
    const uint64_t tag = take_varint(from);
    const uint64_t number = (tag & 7) == 2 || (tag & 7) == 0 ? take_varint(from) : 0;
    *value_out = bytes_view_of(from->data, 0);
    if ((tag & 7) == 2) {
        if (number > from->size) {
            load_die("fc", "a field is longer than its message");
        }
        value_out->size = (size_t)number;
        from->data += number;
        from->size -= (size_t)number;
    }
    return (unsigned)(tag >> 3);
}

static void
fc_take_events(struct bytes_view batch)
{
    struct bytes_view event, message, value;
    while (batch.size > 0) {
        if (take_field(&batch, &event) != 1 || event.size == 0 || take_field(&event, &message) != 1) {
            continue; // a heartbeat
        }
        while (message.size > 0) {
            if (take_field(&message, &value) == 5 && value.size == CHAT_TEXT_BYTES) {
                chat_load_delivered((const char *)value.data);
            }
        }
    }
}

static void
fc_take_reply(struct bytes_view message)
{
    const size_t header_size = bytes_load_be16(message.data + FC_ROUTE_BYTES + 2);
    if (header_size > 0 && message.data[FC_ROUTE_BYTES + FC_FRAME_BYTES] == 0x08) { // a code that is not OK
        load_die("fc", "a send failed");
    }
    chat_load_acknowledged(bytes_load_be32(message.data) & 0x7fffffff);
}

static size_t
fc_take(struct chat_connection *connection, struct bytes_view data)
{
    size_t taken = 0;
    if (!connection->is_ready) {
        if (data.size < SP_HEADER_BYTES) {
            return 0;
        }
        taken = SP_HEADER_BYTES;
        chat_load_ready(connection);
    }
    while (data.size - taken >= SP_LENGTH_BYTES) {
        const uint64_t size = bytes_load_be64(data.data + taken);
        if (data.size - taken - SP_LENGTH_BYTES < size) {
            break;
        }
        struct bytes_view message = bytes_view_of(data.data + taken + SP_LENGTH_BYTES, (size_t)size);
        taken += SP_LENGTH_BYTES + message.size;
        if (connection->is_sender) {
            fc_take_reply(message);
        } else {
            fc_take_events(bytes_view_of(message.data + FC_TOPIC_BYTES, message.size - FC_TOPIC_BYTES));
        }
    }
    return taken;
}

static void
fc_publish(struct chat_connection *connection, unsigned id, const char *text)
{
    static const char method[] = "\x0a\x14"
                                 "fc.chat.v1.Chat/Send\x1a";
    static const char room_and_text[] = "\x0a\x05"
                                        "bench\x12\xc8\x01";
    const uint8_t token_size = (uint8_t)strlen(connection->key);
    const size_t method_size = sizeof(method) - 1;
    const size_t header_size = method_size + 1 + token_size + 2 + FC_REQUEST_ID_BYTES;
    uint8_t start[FC_ROUTE_BYTES + FC_FRAME_BYTES] = {0, 0, 0, 0, 1, 0, 0, 0};
    bytes_store_be32(start, 0x80000000 | id);
    bytes_store_be16(start + 6, (uint16_t)header_size);
    bytes_store_be64(fc_request_id, bytes_load_be64(fc_request_id) + 1);

    fc_write_length(connection, sizeof(start) + header_size + sizeof(room_and_text) - 1 + CHAT_TEXT_BYTES);
    chat_load_write(connection, start, sizeof(start));
    chat_load_write(connection, method, method_size);
    chat_load_write(connection, &token_size, 1);
    chat_load_write(connection, connection->key, token_size);
    chat_load_write(connection, "\x22\x10", 2);
    chat_load_write(connection, fc_request_id, sizeof(fc_request_id));
    chat_load_write(connection, room_and_text, sizeof(room_and_text) - 1);
    chat_load_write(connection, text, CHAT_TEXT_BYTES);
}

// ---- Which there are ----

static const struct chat_protocol protocols[] = {
    {"mqtt0", mqtt_greet, mqtt_take, mqtt_publish},
    {"mqtt1", mqtt_greet, mqtt_take, mqtt_publish},
    {"nats", nats_greet, nats_take, nats_publish},
    {"irc", irc_greet, irc_take, irc_publish},
    {"fc", fc_greet, fc_take, fc_publish},
};

const struct chat_protocol *
chat_protocol_find(const char *name)
{
    random_bytes(fc_request_id, sizeof(fc_request_id));
    mqtt_qos = strcmp(name, "mqtt1") == 0;
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (strcmp(protocols[i].name, name) == 0) {
            return &protocols[i];
        }
    }
    return NULL;
}
