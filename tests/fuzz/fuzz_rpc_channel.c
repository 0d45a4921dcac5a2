// Whatever a server sends, each call and each stream of a channel ends, with what is whole or a status that says why.
//
// The channel is a real one, connected to a server that is played here. The first byte says how many calls are made
// (its last 2 bits, and 1) and of which kind: raw, of a method of some service, or a stream. The rest are items that
// the server sends: a kind (1 byte), a size (2 bytes, big-endian), and as many bytes, of which the last item may have
// fewer. By their kind they are
//
//     00..3F  a response of that call (the kind's last 2 bits) without header
//     40..7F  a frame, behind the request id of that call
//     80..BF  a frame about the connection
//     C0..FE  a message, with whatever is its request id
//     FF      bytes, with whatever is their size
//
// Then the server closes the connection.
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_client_stream.h"
#include "rpc/rpc_frame.h"

#include "fc/auth/v1/auth.pb-c.h"
#include "fc/chat/v1/chat.pb-c.h"
#include "fc/filestore/v1/filestore.pb-c.h"
#include "fc/rpc/v1/reflection.pb-c.h"
#include "fc/test/v1/conformance.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

enum {
    CALLS_MAX = 4,
    WAIT_MAX_MS = 10 * 1000,
    PREFIX_BYTES = 9, // of a message over IPC
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct item {
    uint8_t kind;
    struct bytes_view data;
};

// next_item takes the next item off the input; false: there is none.
static bool
next_item(struct bytes_view *input, struct item *out)
{
    if (input->size < 3) {
        return false;
    }
    size_t size = bytes_load_be16(input->data + 1);
    size = size <= input->size - 3 ? size : input->size - 3;
    *out = (struct item){.kind = input->data[0], .data = bytes_view_of(input->data + 3, size)};
    *input = bytes_view_of(input->data + 3 + size, input->size - 3 - size);
    return true;
}

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static char folder[] = "/tmp/fc-fuzz-XXXXXX";
static char url[64];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener;

// ---- The server

static void
remove_folder(void)
{
    (void)unlink(address.sun_path);
    (void)rmdir(folder);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    require(mkdtemp(folder) != NULL && atexit(remove_folder) == 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
    (void)snprintf(url, sizeof(url), "ipc://%s", address.sun_path);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    require(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
            listen(listener, 16) == 0);
    return 0;
}

static void
wait_readable(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    int result;
    do {
        result = poll(&wanted, 1, WAIT_MAX_MS);
    } while (result < 0 && errno == EINTR); // by libFuzzer's clock
    require(result == 1);
}

static void
read_all(int fd, void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        wait_readable(fd);
        ssize_t n = recv(fd, at, size, 0);
        require(n > 0);
        at += n;
        size -= (size_t)n;
    }
}

static int
shake_hands(void)
{
    uint8_t hello[8];
    wait_readable(listener);
    int fd = accept(listener, NULL, NULL);
    require(fd >= 0);
    require(send(fd, "\0SP\0\0\x31\0\0", 8, MSG_NOSIGNAL) == 8);
    read_all(fd, hello, sizeof(hello));
    require(memcmp(hello, "\0SP\0\0\x30\0\0", sizeof(hello)) == 0);
    return fd;
}

// say_hello lets the channel know that it may open streams.
static void
say_hello(int fd)
{
    static const uint8_t hello[PREFIX_BYTES + 4 + RPC_FRAME_PREFIX_BYTES + 2] = {
        [0] = 1,
        [8] = 4 + RPC_FRAME_PREFIX_BYTES + 2,
        [9] = 0x80, // RPC_FRAME_CONTROL_ID
        [13] = RPC_FRAME_VERSION,
        [14] = RPC_FRAME_CONTROL,
        [16] = 2,
        [17] = 0x0a, // Control.hello, with nothing in it
    };
    require(send(fd, hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello));
}

// read_calls takes what begins each call, answers Hello, and keeps the request ids.
static void
read_calls(int fd, size_t count, uint32_t ids[CALLS_MAX])
{
    size_t n = 0;
    while (n < count) {
        uint8_t prefix[PREFIX_BYTES];
        read_all(fd, prefix, sizeof(prefix));
        size_t size = (size_t)bytes_load_be64(prefix + 1);
        uint8_t *message = malloc(size);
        require(prefix[0] == 1 && size >= 4 + RPC_FRAME_PREFIX_BYTES && message != NULL);
        read_all(fd, message, size);
        uint8_t flags = message[4 + 1];
        if (flags == RPC_FRAME_CONTROL) {
            say_hello(fd);
        } else if (flags == 0 || (flags & RPC_FRAME_OPEN) != 0) {
            ids[n++] = bytes_load_be32(message);
        }
        free(message);
    }
}

static void
append(struct bytes *out, const void *data, size_t size)
{
    require(bytes_append(out, bytes_view_of(data, size)) == ERR_OK);
}

static void
append_item(struct bytes *out, const struct item *item, const uint32_t *ids, size_t count)
{
    static const uint8_t bare[RPC_FRAME_PREFIX_BYTES] = {RPC_FRAME_VERSION};
    struct bytes message = {0};
    uint8_t id[4];
    uint8_t prefix[PREFIX_BYTES] = {1};
    if (item->kind == 0xFF) {
        append(out, item->data.data, item->data.size);
        return;
    }
    bytes_store_be32(id, item->kind < 0x80 ? ids[item->kind % count] : RPC_FRAME_CONTROL_ID);
    append(&message, id, item->kind < 0xC0 ? sizeof(id) : 0);
    append(&message, bare, item->kind < 0x40 ? sizeof(bare) : 0);
    append(&message, item->data.data, item->data.size);
    bytes_store_be64(prefix + 1, message.size);
    append(out, prefix, sizeof(prefix));
    append(out, message.data, message.size);
    bytes_free(&message);
}

// ---- The calls

static const ProtobufCServiceDescriptor *const called[] = {
    &fc__auth__v1__auth__descriptor,
    &fc__chat__v1__chat__descriptor,
    &fc__filestore__v1__file_store__descriptor,
    &fc__rpc__v1__reflection__descriptor,
    &fc__test__v1__echo__descriptor,
};

// A call of any kind.
struct slot {
    bool is_stream;
    struct rpc_unary call;
    struct rpc_client_stream stream;
};

static void
start(struct slot *slot, struct rpc_channel *channel, unsigned number)
{
    struct rpc_unary *call = &slot->call;
    union {
        ProtobufCMessage base;
        uint8_t memory[1024];
    } request;
    size_t service = number % (sizeof(called) / sizeof(called[0]) + 2);
    slot->is_stream = service == sizeof(called) / sizeof(called[0]) + 1;
    if (slot->is_stream) {
        rpc_client_stream_init(&slot->stream, channel, &fc__test__v1__conformance_data__descriptor);
        rpc_client_stream_open(&slot->stream, "fc.test.v1.Conformance/Mirror");
        return;
    }
    if (service == 0) {
        rpc_unary_init(call, channel, NULL);
        rpc_unary_start_raw(call, "some.Service/Method", bytes_view_of(NULL, 0));
        return;
    }
    const ProtobufCServiceDescriptor *descriptor = called[service - 1];
    unsigned method = number / 8 % descriptor->n_methods;
    require(descriptor->methods[method].input->sizeof_message <= sizeof(request));
    protobuf_c_message_init(descriptor->methods[method].input, &request);
    rpc_unary_init(call, channel, descriptor);
    call->service.invoke(&call->service, method, &request.base, NULL, NULL);
}

static void
meet(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    require(packed != NULL && protobuf_c_message_pack(message, packed) == size);
    free(packed);
}

static void
finish_stream(struct rpc_client_stream *stream)
{
    const void *message = NULL;
    enum err err = rpc_client_stream_receive(stream, &message);
    while (err == ERR_OK && message != NULL) {
        meet(message);
        err = rpc_client_stream_receive(stream, &message);
    }
    require(err == ERR_OK || err == ERR_PROTOCOL);
    err = rpc_client_stream_finish(stream);
    require((err == ERR_OK) == (stream->call.status.code == RPC_OK));
    require(stream->call.status.code <= RPC_UNAUTHENTICATED);
    require(err == ERR_OK || stream->call.status.detail.message[0] != '\0');
    rpc_client_stream_deinit(stream);
}

static void
finish(struct slot *slot)
{
    struct rpc_unary *call = &slot->call;
    if (slot->is_stream) {
        finish_stream(&slot->stream);
        return;
    }
    enum err err = rpc_unary_wait(call);
    const ProtobufCMessage *response = rpc_unary_response(call);
    require((err == ERR_OK) == (call->status.code == RPC_OK));
    require(call->status.code <= RPC_UNAUTHENTICATED && call->was_sent);
    if (err != ERR_OK) {
        require(response == NULL && call->status.detail.message[0] != '\0');
    } else if (call->service.descriptor != NULL) {
        meet(response);
    } else {
        struct bytes_view raw = rpc_unary_raw_response(call);
        struct bytes copy = {0};
        append(&copy, raw.data, raw.size);
        bytes_free(&copy);
    }
    rpc_unary_deinit(call);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_channel *channel = NULL;
    struct slot calls[CALLS_MAX];
    uint32_t ids[CALLS_MAX] = {0};
    struct bytes answers = {0};
    struct item item;
    if (size == 0) {
        return 0;
    }
    size_t count = (size_t)(data[0] & 3) + 1;
    struct bytes_view input = bytes_view_of(data + 1, size - 1);
    require(rpc_channel_new(&(struct rpc_channel_options){.url = url}, &channel, NULL) == ERR_OK);
    for (size_t i = 0; i < count; i++) {
        start(&calls[i], channel, (unsigned)(data[0] >> 2) + (unsigned)i);
    }
    int fd = shake_hands();
    read_calls(fd, count, ids);
    while (next_item(&input, &item)) {
        append_item(&answers, &item, ids, count);
    }
    const uint8_t *at = answers.data;
    size_t left = answers.size;
    while (left > 0) {
        ssize_t n = send(fd, at, left, MSG_NOSIGNAL);
        if (n <= 0) {
            break; // it has closed the connection
        }
        at += n;
        left -= (size_t)n;
    }
    (void)shutdown(fd, SHUT_WR);
    for (size_t i = 0; i < count; i++) {
        finish(&calls[i]);
    }
    rpc_channel_free(&channel);
    (void)close(fd);
    bytes_free(&answers);
    return 0;
}
