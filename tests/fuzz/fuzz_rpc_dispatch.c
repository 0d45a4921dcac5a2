// A server takes whatever frames a connection brings: what it sends back belongs to a call, each call is answered once,
// and of a connection that is gone nothing stays.
//
// The input is a list of items of a head and up to 254 bytes, or 255 for all that is left. The head: what the item is
// and how it is handed over, under which request id, of which method or with which flags, and the size.

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_server_priv.h"

#include "fc/auth/v1/auth.pb-c.h"
#include "fc/chat/v1/chat.pb-c.h"
#include "fc/filestore/v1/filestore.pb-c.h"
#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/conformance.pb-c.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HEAD_BYTES = 4,
    SIZE_REST = 255,
    ITEMS_MAX = 200,
    ROUTES_MAX = ITEMS_MAX, // an item uses one at most
    RULES_MAX = 32,         // methods of a service
    METHODS_MAX = 64,       // in all, with two of every server and one that does not exist
    PADDING_BYTES = 48 * 1024,
    PIECE_BYTES = 16 * 1024,
    PIECES_MAX = 32,   // that Stream sends before it ends
    PARKED_MAX = 1024, // many times what a connection may have in flight, so that an old one is not touched any more
    WAIT_MAX_MS = 20 * 1000,
};

// What an item is.
enum kind {
    KIND_MESSAGE, // the bytes are all of the message, its request id included
    KIND_FRAME,   // they are header and message of a frame with these flags
    KIND_CALL,    // they are the request of a method
    KIND_OPEN,    // they are the first message of a stream
    KIND_MORE,    // they are a further message of a stream
    KIND_END,     // a stream ends
    KIND_CANCEL,  // a call or stream is given up
    KIND_CREDIT,  // their number, shifted by the first one, is given
    KIND_WRITTEN, // nothing is sent: the connection has taken all that was written
    KIND_FULL,    // nothing is sent: from now on the connection takes no more
    KIND_COUNT,
};

// How it is handed over: bits beside the kind.
enum {
    BIT_HELD = 0x10,   // with the next one, in one batch
    BIT_LARGE = 0x20,  // in memory that may be taken
    BIT_PADDED = 0x40, // with a bulk field behind it
    BIT_ENDS = 0x80,   // KIND_OPEN, KIND_MORE: with END; KIND_CALL: it has a millisecond of time
};

// The request id: 8 of them, the last 3 bits; the first is the one for frames about the connection.
enum {
    BIT_HOP = 0x08,
    BIT_TOKEN = 0x10,
    BIT_REQUEST_ID = 0x20, // one of 2, by the next bit
    BIT_OTHER_REQUEST_ID = 0x40,
    BIT_METADATA = 0x80,
};

struct item {
    enum kind kind;
    uint8_t how;
    uint8_t id;
    uint8_t what;
    struct bytes_view bytes;
};

// What was sent under a route, and what came back.
struct route {
    uint8_t data[4 * RPC_ROUTE_MAX_WORDS];
    size_t size;
    size_t plain; // messages without flags
    size_t flagged;
    size_t opens;
    size_t replies; // without flags
    size_t ends;
};

// The connection that the input plays. Routes and the rest are guarded by the mutex.
static struct {
    struct rpc_peer *peer;
    pthread_mutex_t mutex;
    struct route routes[ROUTES_MAX];
    size_t route_count;
    size_t queued_bytes;
    bool is_paused;
    bool is_gone;
    bool has_failed; // some reply was not taken
    enum err queue_result;
} wire = {.mutex = PTHREAD_MUTEX_INITIALIZER};

// Calls of Sleep, which end when their caller gives up.
static struct {
    struct rpc_call_watch watches[PARKED_MAX];
    atomic_size_t next;
    atomic_size_t count;
    atomic_bool is_used; // by this connection
} parked;

static struct rpc_server *server; // for as long as the process lives
static char methods[METHODS_MAX][128];
static size_t method_count;
static uint64_t input_number; // makes the request ids of each input others
static atomic_size_t open_streams;

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

// ---- What comes back

static struct route *
find_route_locked(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < wire.route_count; i++) {
        if (wire.routes[i].size == size && memcmp(wire.routes[i].data, data, size) == 0) {
            return &wire.routes[i];
        }
    }
    return NULL;
}

static void
check_header(const ProtobufCMessageDescriptor *type, struct bytes_view header)
{
    struct err_detail why = {0};
    require(rpc_message_check(type, header, &why) == ERR_OK);
}

static void
check_reply_locked(struct bytes_view reply)
{
    struct rpc_frame frame;
    const size_t route_bytes = rpc_call_find_route(reply);
    struct route *route = find_route_locked(reply.data, route_bytes);
    require(route_bytes > 0 && route != NULL);
    require(rpc_frame_parse(bytes_view_of(reply.data + route_bytes, reply.size - route_bytes), &frame) == ERR_OK);
    switch (frame.flags) {
    case 0:
        check_header(&fc__rpc__v1__response_header__descriptor, frame.header);
        require(++route->replies <= route->plain + route->flagged);
        break;
    case RPC_FRAME_END:
        check_header(&fc__rpc__v1__response_header__descriptor, frame.header);
        require(frame.message.size == 0);
        require(++route->ends <= route->opens);
        break;
    case RPC_FRAME_MESSAGE:
        check_header(&fc__rpc__v1__response_header__descriptor, frame.header);
        require(route->ends < route->opens);
        break;
    case RPC_FRAME_CREDIT:
        check_header(&fc__rpc__v1__credit__descriptor, frame.header);
        require(frame.message.size == 0 && route->opens > 0);
        break;
    case RPC_FRAME_CONTROL:
        check_header(&fc__rpc__v1__control__descriptor, frame.header);
        require(route_bytes == 4 && bytes_load_be32(reply.data) == RPC_FRAME_CONTROL_ID);
        break;
    default:
        abort();
    }
}

static enum err
wire_queue(void *transport, const struct bytes_view *parts, size_t part_count)
{
    struct bytes reply = {0};
    (void)transport;
    for (size_t i = 0; i < part_count; i++) {
        require(bytes_append(&reply, parts[i]) == ERR_OK);
    }
    pthread_mutex_lock(&wire.mutex);
    require(!wire.is_gone);
    const enum err err = wire.queue_result;
    if (err == ERR_OK) {
        check_reply_locked(bytes_as_view(&reply));
        wire.queued_bytes += reply.size;
    } else {
        wire.has_failed = true;
    }
    pthread_mutex_unlock(&wire.mutex);
    bytes_free(&reply);
    return err;
}

static void
wire_flush(void *transport)
{
    (void)transport;
    pthread_mutex_lock(&wire.mutex);
    require(!wire.is_gone);
    pthread_mutex_unlock(&wire.mutex);
}

static size_t
wire_queued_bytes(void *transport)
{
    (void)transport;
    pthread_mutex_lock(&wire.mutex);
    require(!wire.is_gone);
    const size_t bytes = wire.queued_bytes;
    pthread_mutex_unlock(&wire.mutex);
    return bytes;
}

static void
wire_set_reading(void *transport, bool is_reading)
{
    (void)transport;
    pthread_mutex_lock(&wire.mutex);
    require(!wire.is_gone && wire.is_paused == is_reading); // only told what is new
    wire.is_paused = !is_reading;
    pthread_mutex_unlock(&wire.mutex);
}

static void
wire_close(void *transport, unsigned linger_ms)
{
    (void)transport;
    (void)linger_ms;
    pthread_mutex_lock(&wire.mutex);
    require(!wire.is_gone && wire.has_failed); // what is under way still arrives
    pthread_mutex_unlock(&wire.mutex);
}

static const struct rpc_transport_ops wire_ops = {
    .queue = wire_queue,
    .flush = wire_flush,
    .queued_bytes = wire_queued_bytes,
    .set_reading = wire_set_reading,
    .close = wire_close,
};

// ---- The services

static void
answer(const ProtobufCMessageDescriptor *type, ProtobufCClosure closure, struct rpc_call *call)
{
    ProtobufCMessage *response = malloc(type->sizeof_message);
    require(response != NULL);
    protobuf_c_message_init(type, response);
    closure(response, call);
    free(response);
}

static void
on_cancelled(struct rpc_call_watch *watch)
{
    atomic_fetch_sub(&parked.count, 1);
    rpc_call_fail(watch->call, ERR_CANCELLED, "the caller has given up");
}

// Returns whether the call waits now.
static bool
park(struct rpc_call *call)
{
    struct rpc_call_watch *watch = &parked.watches[atomic_fetch_add(&parked.next, 1) % PARKED_MAX];
    atomic_store(&parked.is_used, true);
    atomic_fetch_add(&parked.count, 1);
    const enum err err = rpc_call_watch_start(watch, call, on_cancelled);
    if (err != ERR_OK) {
        atomic_fetch_sub(&parked.count, 1);
    }
    return err == ERR_OK;
}

static void
invoke(ProtobufCService *service, unsigned index, const ProtobufCMessage *input, ProtobufCClosure closure,
    void *closure_data)
{
    const ProtobufCMethodDescriptor *method = &service->descriptor->methods[index];
    struct rpc_call *call = closure_data;
    require(input->descriptor == method->input);
    if (strcmp(method->name, "Sleep") == 0 && park(call)) {
        return;
    }
    if (strcmp(method->name, "Fail") == 0) {
        const Fc__Test__V1__ConformanceFailure *failure = (const Fc__Test__V1__ConformanceFailure *)input;
        if (failure->code != 0) {
            rpc_call_fail_code(call, (int)failure->code, failure->message, failure->reason, failure->retry_after_ms);
            return;
        }
    }
    if (strcmp(method->name, "Metadata") == 0) {
        for (size_t i = 0; i < rpc_call_metadata_count(call); i++) {
            struct rpc_metadata entry = rpc_call_metadata(call, i);
            require(rpc_call_add_metadata(call, entry.key, entry.value) == ERR_OK);
        }
    }
    answer(method->output, closure, call);
}

static void
on_open(struct rpc_server_stream *stream, ProtobufCService *service)
{
    require(service->descriptor == &fc__test__v1__conformance__descriptor);
    rpc_server_stream_set_context(stream, calloc(1, sizeof(unsigned)));
    atomic_fetch_add(&open_streams, 1);
}

static void
on_closed(struct rpc_server_stream *stream)
{
    free(rpc_server_stream_context(stream));
    atomic_fetch_sub(&open_streams, 1);
}

static void
mirror(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    const enum err err = rpc_server_stream_send(stream, message);
    require(err == ERR_OK || err == ERR_CLOSED);
}

static void
count_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    unsigned *count = rpc_server_stream_context(stream);
    require(message->descriptor == &fc__test__v1__conformance_data__descriptor);
    *count += 1;
}

static void
finish_counted(struct rpc_server_stream *stream)
{
    Fc__Test__V1__UploadResponse response = FC__TEST__V1__UPLOAD_RESPONSE__INIT;
    const unsigned *count = rpc_server_stream_context(stream);
    response.messages = *count;
    (void)!rpc_server_stream_send(stream, &response.base);
    rpc_server_stream_finish(stream);
}

static void
pour(struct rpc_server_stream *stream)
{
    static uint8_t piece[PIECE_BYTES];
    Fc__Test__V1__ConformanceData message = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    unsigned *count = rpc_server_stream_context(stream);
    message.data.data = piece;
    message.data.len = sizeof(piece);
    enum err err = ERR_OK;
    while (err == ERR_OK && *count < PIECES_MAX) {
        err = rpc_server_stream_send(stream, &message.base);
        *count += err == ERR_OK;
    }
    require(err == ERR_OK || err == ERR_BUSY || err == ERR_CLOSED);
    if (err == ERR_OK) {
        rpc_server_stream_fail(stream, ERR_NOT_FOUND, "there are no more");
    }
}

static void
pour_first(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    require(message->descriptor == &fc__test__v1__stream_request__descriptor);
    pour(stream);
}

static void
stall(struct rpc_server_stream *stream, ProtobufCService *service)
{
    on_open(stream, service);
    rpc_server_stream_pause(stream);
}

static const struct rpc_stream_handlers mirror_handlers = {on_open, mirror, rpc_server_stream_finish, NULL, on_closed};
static const struct rpc_stream_handlers count_handlers = {on_open, count_message, finish_counted, NULL, on_closed};
static const struct rpc_stream_handlers pour_handlers = {on_open, pour_first, NULL, pour, on_closed};
static const struct rpc_stream_handlers stall_handlers = {stall, count_message, finish_counted, NULL, on_closed};

static const struct {
    const char *method;
    const struct rpc_stream_handlers *handlers;
} streams[] = {
    {"Stream", &pour_handlers},
    {"Upload", &count_handlers},
    {"Mirror", &mirror_handlers},
    {"Stall", &stall_handlers},
};

static ProtobufCService services[] = {
    {&fc__test__v1__conformance__descriptor, invoke, NULL},
    {&fc__auth__v1__auth__descriptor, invoke, NULL},
    {&fc__chat__v1__chat__descriptor, invoke, NULL},
    {&fc__filestore__v1__file_store__descriptor, invoke, NULL},
};

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    if (!bytes_view_equal(token, bytes_view_of_text("fct_fuzz"))) {
        return ERR_UNAUTHENTICATED;
    }
    memcpy(identity_out->subject_name, "ann", sizeof("ann"));
    identity_out->expires_unix_ms = INT64_MAX;
    return ERR_OK;
}

static void
add_method_name(const char *service, const char *method)
{
    require(method_count < METHODS_MAX);
    (void)snprintf(methods[method_count++], sizeof(methods[0]), "%s/%s", service, method);
}

// Every other method asks for a token, and every third executes once; one is for administrators.
static void
add_service(ProtobufCService *service)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    struct rpc_method_rule rules[RULES_MAX] = {0};
    require(descriptor->n_methods <= RULES_MAX);
    for (size_t i = 0; i < descriptor->n_methods; i++) {
        rules[i].method = descriptor->methods[i].name;
        rules[i].access = i % 2 == 0 ? RPC_ACCESS_PUBLIC : RPC_ACCESS_TOKEN;
        rules[i].executes_once = i % 3 == 0;
        for (size_t j = 0; j < sizeof(streams) / sizeof(streams[0]); j++) {
            if (descriptor == &fc__test__v1__conformance__descriptor &&
                strcmp(streams[j].method, rules[i].method) == 0) {
                rules[i].access = RPC_ACCESS_PUBLIC;
                rules[i].executes_once = false;
                rules[i].stream = streams[j].handlers;
            }
        }
        if (strcmp(rules[i].method, "Sleep") == 0) {
            rules[i].access = RPC_ACCESS_PUBLIC;
            rules[i].executes_once = false; // else others wait for a sleeper
        }
        add_method_name(descriptor->name, descriptor->methods[i].name);
    }
    if (descriptor == &fc__auth__v1__auth__descriptor) {
        rules[0].access = RPC_ACCESS_ADMIN;
        rules[1].max_request_bytes = 8;
    }
    require(rpc_server_add_service(server, service, rules, descriptor->n_methods) == ERR_OK);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    // Limits within the reach of an input.
    struct rpc_server_options options = {
        .authenticate = authenticate,
        .worker_threads = 2,
        .max_calls_per_connection = 24,
        .max_streams_per_connection = 6,
        .max_received_bytes = (size_t)512 * 1024,
        .max_reply_bytes_per_connection = (size_t)256 * 1024,
    };
    log_set_level(LOG_ERROR);
    require(rpc_server_new(&options, &server) == ERR_OK);
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        add_service(&services[i]);
    }
    add_method_name("fc.rpc.v1.Reflection", "ListServices");
    add_method_name("fc.rpc.v1.Health", "Check");
    add_method_name("fc.chat.v1.Chat", "NoSuch");
    return 0;
}

// ---- What is sent

static void
must_append(struct bytes *out, const void *data, size_t size)
{
    require(bytes_append(out, bytes_view_of(data, size)) == ERR_OK);
}

static void
append_route(struct bytes *out, uint8_t id)
{
    uint8_t word[4];
    if ((id & BIT_HOP) != 0) {
        bytes_store_be32(word, 7);
        must_append(out, word, sizeof(word));
    }
    bytes_store_be32(word, RPC_FRAME_CONTROL_ID + (id & 7));
    must_append(out, word, sizeof(word));
}

// The message of an item: its bytes, and a field of bytes that most requests do not know.
static void
append_frame(struct bytes *out, const struct item *item, uint8_t flags, const ProtobufCMessage *header,
    bool has_message)
{
    struct bytes message = {0};
    if (has_message) {
        must_append(&message, item->bytes.data, item->bytes.size);
    }
    if (has_message && (item->how & BIT_PADDED) != 0) {
        static uint8_t padding[PADDING_BYTES] = {0x7a, 0xfc, 0xff, 0x02}; // field 15, and the size of what follows
        must_append(&message, padding, sizeof(padding));
    }
    append_route(out, item->id);
    require(rpc_frame_append_encoded(out, flags, header, bytes_as_view(&message)) == ERR_OK);
    bytes_free(&message);
}

static void
append_call(struct bytes *out, const struct item *item, uint8_t flags, bool has_message)
{
    Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
    Fc__Rpc__V1__Metadata entry = FC__RPC__V1__METADATA__INIT;
    Fc__Rpc__V1__Metadata *entries[] = {&entry, &entry};
    char token[] = "fct_fuzz";
    char key[] = "key";
    uint8_t value[] = {0, 0xff};
    uint8_t request_id[RPC_REQUEST_ID_BYTES] = {0};
    header.method = methods[item->what % method_count];
    header.timeout_ms = item->kind == KIND_CALL && (item->how & BIT_ENDS) != 0 ? 1 : 0;
    if ((item->id & BIT_TOKEN) != 0) {
        header.token = token;
    }
    if ((item->id & BIT_REQUEST_ID) != 0) {
        bytes_store_be64(request_id, input_number);
        request_id[RPC_REQUEST_ID_BYTES - 1] = (item->id & BIT_OTHER_REQUEST_ID) != 0;
        header.request_id.data = request_id;
        header.request_id.len = sizeof(request_id);
    }
    if ((item->id & BIT_METADATA) != 0) {
        entry.key = key;
        entry.value.data = value;
        entry.value.len = sizeof(value);
        header.metadata = entries;
        header.n_metadata = sizeof(entries) / sizeof(entries[0]);
    }
    append_frame(out, item, flags, &header.base, has_message);
}

static void
append_credit(struct bytes *out, const struct item *item)
{
    Fc__Rpc__V1__Credit credit = FC__RPC__V1__CREDIT__INIT;
    credit.bytes = (uint32_t)item->bytes.size << item->what % 32;
    append_frame(out, item, RPC_FRAME_CREDIT, &credit.base, false);
}

static void
build(struct bytes *out, const struct item *item)
{
    const uint8_t end = (item->how & BIT_ENDS) != 0 ? RPC_FRAME_END : 0;
    const uint8_t prefix[] = {RPC_FRAME_VERSION, item->what};
    switch (item->kind) {
    case KIND_FRAME:
        append_route(out, item->id);
        must_append(out, prefix, sizeof(prefix));
        must_append(out, item->bytes.data, item->bytes.size);
        break;
    case KIND_CALL:
        append_call(out, item, 0, true);
        break;
    case KIND_OPEN:
        append_call(out, item, (uint8_t)(RPC_FRAME_OPEN | (item->bytes.size > 0 ? RPC_FRAME_MESSAGE : 0) | end),
            item->bytes.size > 0);
        break;
    case KIND_MORE:
        append_frame(out, item, RPC_FRAME_MESSAGE | end, NULL, true);
        break;
    case KIND_END:
        append_frame(out, item, RPC_FRAME_END, NULL, false);
        break;
    case KIND_CANCEL:
        append_frame(out, item, RPC_FRAME_CANCEL, NULL, false);
        break;
    case KIND_CREDIT:
        append_credit(out, item);
        break;
    case KIND_MESSAGE:
    case KIND_WRITTEN:
    case KIND_FULL:
    case KIND_COUNT:
        must_append(out, item->bytes.data, item->bytes.size);
        break;
    }
}

// Notes what is sent under a route, before anything can come back.
static void
note(struct bytes_view message)
{
    const size_t route_bytes = rpc_call_find_route(message);
    if (route_bytes == 0) {
        return;
    }
    struct bytes_view frame = bytes_view_of(message.data + route_bytes, message.size - route_bytes);
    pthread_mutex_lock(&wire.mutex);
    struct route *route = find_route_locked(message.data, route_bytes);
    if (route == NULL) {
        require(wire.route_count < ROUTES_MAX);
        route = &wire.routes[wire.route_count++];
        *route = (struct route){.size = route_bytes};
        memcpy(route->data, message.data, route_bytes);
    }
    if (rpc_frame_has_flags(frame)) {
        route->flagged++;
        route->opens += (frame.data[1] & RPC_FRAME_OPEN) != 0;
    } else {
        route->plain++;
    }
    pthread_mutex_unlock(&wire.mutex);
}

// write_queued plays the kernel taking everything that was queued.
static void
write_queued(void)
{
    pthread_mutex_lock(&wire.mutex);
    bool has_written = wire.queued_bytes > 0;
    wire.queued_bytes = 0;
    pthread_mutex_unlock(&wire.mutex);
    if (has_written) {
        rpc_peer_drained(wire.peer);
    }
}

static void
refuse_replies(void)
{
    pthread_mutex_lock(&wire.mutex);
    wire.queue_result = ERR_NO_MEMORY;
    pthread_mutex_unlock(&wire.mutex);
}

// Returns whether the connection is to stay.
static bool
send_item(const struct item *item)
{
    struct bytes message = {0};
    if (item->kind == KIND_WRITTEN) {
        write_queued();
        return true;
    }
    if (item->kind == KIND_FULL) {
        refuse_replies();
        return true;
    }
    build(&message, item);
    note(bytes_as_view(&message));
    bool is_large = (item->how & BIT_LARGE) != 0;
    const enum err err = rpc_peer_receive(wire.peer, bytes_as_view(&message), is_large ? &message : NULL);
    require(err == ERR_OK || err == ERR_PROTOCOL);
    if ((item->how & BIT_HELD) == 0) {
        rpc_peer_batch_end(wire.peer);
    }
    bytes_free(&message);
    return err == ERR_OK;
}

static bool
take_item(const uint8_t **data, size_t *size, struct item *item_out)
{
    if (*size < HEAD_BYTES) {
        return false;
    }
    const uint8_t *head = *data;
    *data += HEAD_BYTES;
    *size -= HEAD_BYTES;
    size_t bytes = head[3];
    bytes = bytes == SIZE_REST || bytes > *size ? *size : bytes;
    *item_out = (struct item){(head[0] & 0x0f) % KIND_COUNT, head[0], head[1], head[2], bytes_view_of(*data, bytes)};
    *data += bytes;
    *size -= bytes;
    return true;
}

// ---- Waiting

// Whether only open streams and sleepers are left of the calls. No call begins meanwhile, and each of these is counted
// before it can be one of them.
static bool
has_settled(void)
{
    const size_t calls = atomic_load(&server->call_count);
    pthread_mutex_lock(&wire.peer->mutex);
    const size_t stream_count = wire.peer->locked.stream_count;
    pthread_mutex_unlock(&wire.peer->mutex);
    return calls == stream_count + atomic_load(&parked.count);
}

// Whether nothing is left of the connection.
static bool
has_gone(void)
{
    return atomic_load(&server->references) == 1;
}

static void
wait_until(bool (*condition)(void), bool is_connected)
{
    const uint64_t until_ms = clock_monotonic_ms() + WAIT_MAX_MS;
    while (!condition()) {
        if (is_connected) {
            write_queued();
        }
        require(clock_monotonic_ms() < until_ms);
        (void)sched_yield();
    }
}

// Every message without flags is a call and has its reply, unless flags or sleepers make that less simple.
static void
check_replies(void)
{
    pthread_mutex_lock(&wire.mutex);
    for (size_t i = 0; i < wire.route_count && !wire.has_failed; i++) {
        const struct route *route = &wire.routes[i];
        require(route->flagged > 0 || atomic_load(&parked.is_used) || route->replies == route->plain);
    }
    pthread_mutex_unlock(&wire.mutex);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct item item;
    bool is_kept = true;
    input_number++;
    wire.route_count = 0;
    wire.queued_bytes = 0;
    wire.is_paused = false;
    wire.is_gone = false;
    wire.has_failed = false;
    wire.queue_result = ERR_OK;
    atomic_store(&parked.is_used, false);
    require(rpc_peer_new(server, &wire_ops, NULL, "fuzz", &wire.peer) == ERR_OK);
    for (size_t i = 0; i < ITEMS_MAX && is_kept && take_item(&data, &size, &item); i++) {
        is_kept = send_item(&item);
    }
    if (is_kept && size % 2 == 0) { // else it is cut off at once
        rpc_peer_batch_end(wire.peer);
        wait_until(has_settled, true);
        check_replies();
    }
    rpc_peer_closed(wire.peer);
    pthread_mutex_lock(&wire.mutex);
    wire.is_gone = true;
    pthread_mutex_unlock(&wire.mutex);
    wait_until(has_gone, false);
    require(atomic_load(&server->call_count) == 0 && atomic_load(&server->received_bytes) == 0);
    require(atomic_load(&open_streams) == 0 && atomic_load(&parked.count) == 0);
    return 0;
}
