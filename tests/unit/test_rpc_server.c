// The server above a transport that the test plays: refusals, limits, batches, late answers, and the way to its end.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_peer_priv.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_status.h"
#include "tests/unit/fake_wire.h"

#include "fc/rpc/v1/health.pb-c.h"
#include "fc/rpc/v1/rpc.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

enum {
    REQUEST_ID_BIT = 0x80,
};

// The service, and what its handlers share with the test.
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_gate_closed; // Echo of "wait" stays in its handler
    size_t at_gate;
    struct rpc_call *later[SENT_MAX]; // calls of EchoLater
    Fc__Test__V1__EchoResponse_Closure later_reply;
    size_t later_count;
    atomic_size_t executed;
    atomic_size_t before_one; // what had been executed when Echo of "one" came
    atomic_size_t authenticated;
    size_t reply_bytes;
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void
echo(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    size_t before = atomic_fetch_add(&shared.executed, 1);
    if (strcmp(request->text, "one") == 0) {
        atomic_store(&shared.before_one, before);
    }
    if (strcmp(request->text, "wait") == 0) {
        pthread_mutex_lock(&shared.mutex);
        shared.at_gate++;
        pthread_cond_broadcast(&shared.changed);
        while (shared.is_gate_closed) {
            pthread_cond_wait(&shared.changed, &shared.mutex);
        }
        shared.at_gate--;
        pthread_mutex_unlock(&shared.mutex);
    }
    if (strcmp(request->text, "nothing") == 0) {
        reply(NULL, closure_data);
        return;
    }
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.text = request->text;
    response.data = request->data;
    if (strcmp(request->text, "huge") == 0) {
        response.data.len = shared.reply_bytes;
        response.data.data = calloc(1, response.data.len);
        assert_non_null(response.data.data);
        reply(&response, closure_data);
        free(response.data.data);
        return;
    }
    reply(&response, closure_data);
}

static void
echo_as_user(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    struct rpc_call *call = closure_data;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    char name[RPC_SUBJECT_NAME_MAX_BYTES];
    assert_non_null(rpc_call_identity(call));
    strcpy(name, rpc_call_identity(call)->subject_name);
    response.text = name;
    reply(&response, closure_data);
}

static void
echo_later(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoLaterRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    pthread_mutex_lock(&shared.mutex);
    shared.later[shared.later_count++] = closure_data;
    shared.later_reply = reply;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mutex);
}

static void
fail_handler(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__FailRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)reply;
    struct err_detail why = {0};
    strncpy(why.message, request->message, sizeof(why.message) - 1);
    rpc_call_fail_detail(closure_data, rpc_code_to_err((enum rpc_code)request->code), &why,
        request->reason[0] != '\0' ? request->reason : NULL, request->retry_after_ms);
}

static void
count(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__CountRequest *request,
    Fc__Test__V1__CountResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    Fc__Test__V1__CountResponse response = FC__TEST__V1__COUNT_RESPONSE__INIT;
    response.count = rpc_call_request_id(closure_data).size;
    reply(&response, closure_data);
}

static Fc__Test__V1__Echo_Service service = {
    .base = {&fc__test__v1__echo__descriptor, protobuf_c_service_invoke_internal, NULL},
    .echo = echo,
    .echo_as_user = echo_as_user,
    .echo_later = echo_later,
    .fail = fail_handler,
    .count = count,
};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = 1024 * 1024},
    {.method = "EchoAsUser", .access = RPC_ACCESS_TOKEN},
    {.method = "EchoLater", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = 2048},
    {.method = "Count", .access = RPC_ACCESS_ADMIN, .max_request_bytes = 64},
};

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    atomic_fetch_add(&shared.authenticated, 1);
    if (token.size < 2 || token.data[0] != 't') {
        return ERR_UNAUTHENTICATED;
    }
    memcpy(identity_out->subject_name, token.data, 2);
    identity_out->is_admin = token.data[1] == 'a';
    identity_out->expires_unix_ms = 1000 * 1000;
    return ERR_OK;
}

static struct rpc_server *
server_new(struct rpc_server_options options)
{
    struct rpc_server *server = NULL;
    options.authenticate = authenticate;
    shared.is_gate_closed = false;
    shared.at_gate = 0;
    shared.later_count = 0;
    atomic_store(&shared.executed, 0);
    atomic_store(&shared.authenticated, 0);
    clock_set_unix_ms_for_test(1000);
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service.base, rules, sizeof(rules) / sizeof(rules[0])));
    return server;
}

static void
close_gate(void)
{
    pthread_mutex_lock(&shared.mutex);
    shared.is_gate_closed = true;
    pthread_mutex_unlock(&shared.mutex);
}

static void
open_gate(void)
{
    pthread_mutex_lock(&shared.mutex);
    shared.is_gate_closed = false;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mutex);
}

static void
wait_at_gate(size_t handlers)
{
    struct timespec until = limit();
    pthread_mutex_lock(&shared.mutex);
    while (shared.at_gate < handlers) {
        assert_int_not_equal(ETIMEDOUT, pthread_cond_timedwait(&shared.changed, &shared.mutex, &until));
    }
    pthread_mutex_unlock(&shared.mutex);
}

static void
wait_later(size_t calls)
{
    struct timespec until = limit();
    pthread_mutex_lock(&shared.mutex);
    while (shared.later_count < calls) {
        assert_int_not_equal(ETIMEDOUT, pthread_cond_timedwait(&shared.changed, &shared.mutex, &until));
    }
    pthread_mutex_unlock(&shared.mutex);
}

static void
answer_later(size_t index)
{
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.text = (char[]){"later"};
    shared.later_reply(&response, shared.later[index]);
}

// What a call is made of; the zeroed one is Echo with an empty request.
struct message {
    const char *method;
    const char *token;
    uint32_t timeout_ms;
    size_t request_id_bytes;
    size_t metadata;
    size_t metadata_bytes; // of each value
    const char *text;
    const ProtobufCMessage *request; // instead of an EchoRequest with `text`
    uint32_t id;                     // SP request id
};

static void
append_message(struct bytes *out, const struct message *message)
{
    static uint8_t zeros[16 * 1024];
    static char key[] = "key";
    Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
    Fc__Test__V1__EchoRequest echo_request = FC__TEST__V1__ECHO_REQUEST__INIT;
    Fc__Rpc__V1__Metadata entry = FC__RPC__V1__METADATA__INIT;
    Fc__Rpc__V1__Metadata *entries[64];
    char method[300];
    char token[300];
    char text[300];
    strcpy(method, message->method != NULL ? message->method : "fc.test.v1.Echo/Echo");
    strcpy(token, message->token != NULL ? message->token : "");
    strcpy(text, message->text != NULL ? message->text : "");
    header.method = method;
    header.token = token;
    header.timeout_ms = message->timeout_ms;
    header.request_id.data = zeros;
    header.request_id.len = message->request_id_bytes;
    entry.key = key;
    entry.value.data = zeros;
    entry.value.len = message->metadata_bytes;
    for (size_t i = 0; i < message->metadata; i++) {
        entries[i] = &entry;
    }
    header.metadata = entries;
    header.n_metadata = message->metadata;
    echo_request.text = text;
    uint8_t id[4];
    bytes_store_be32(id, message->id | 0x80000000u);
    assert_int_equal(ERR_OK, bytes_append(out, bytes_view_of(id, sizeof(id))));
    assert_int_equal(ERR_OK,
        rpc_frame_append(out, 0, &header.base, message->request != NULL ? message->request : &echo_request.base, NULL));
}

static void
receive(struct wire *wire, const struct message *message)
{
    struct bytes data = {0};
    append_message(&data, message);
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_as_view(&data), NULL));
    bytes_free(&data);
}

static void
call(struct wire *wire, const struct message *message)
{
    receive(wire, message);
    rpc_peer_batch_end(wire->peer);
}

// reply_of unpacks a reply; the caller frees the header.
static Fc__Rpc__V1__ResponseHeader *
reply_of(struct wire *wire, size_t index, struct bytes_view *message_out)
{
    struct rpc_frame frame;
    assert_true(index < wire->sent_count);
    struct bytes_view sent = bytes_as_view(&wire->sent[index]);
    assert_true(sent.size >= 4);
    assert_true((sent.data[0] & REQUEST_ID_BIT) != 0);
    assert_int_equal(ERR_OK, rpc_frame_parse(bytes_view_of(sent.data + 4, sent.size - 4), &frame));
    Fc__Rpc__V1__ResponseHeader *header =
        fc__rpc__v1__response_header__unpack(NULL, frame.header.size, frame.header.data);
    assert_non_null(header);
    if (message_out != NULL) {
        *message_out = frame.message;
    }
    return header;
}

static void
assert_reply(struct wire *wire, size_t index, enum rpc_code code, const char *word)
{
    struct bytes_view message;
    Fc__Rpc__V1__ResponseHeader *header = reply_of(wire, index, &message);
    if ((enum rpc_code)header->code != code || (word != NULL && strstr(header->message, word) == NULL)) {
        fail_msg("%s \"%s\" instead of %s with \"%s\"", rpc_code_name((enum rpc_code)header->code), header->message,
            rpc_code_name(code), word != NULL ? word : "");
    }
    if (code != RPC_OK) {
        assert_int_equal(0, message.size);
    }
    fc__rpc__v1__response_header__free_unpacked(header, NULL);
}

static void
assert_text(struct wire *wire, size_t index, const char *text)
{
    struct bytes_view message;
    fc__rpc__v1__response_header__free_unpacked(reply_of(wire, index, &message), NULL);
    Fc__Test__V1__EchoResponse *response = fc__test__v1__echo_response__unpack(NULL, message.size, message.data);
    assert_non_null(response);
    assert_string_equal(text, response->text);
    fc__test__v1__echo_response__free_unpacked(response, NULL);
}

// assert_refused makes one call on a connection of its own and looks at its answer.
static void
assert_refused(struct rpc_server *server, const struct message *message, enum rpc_code code, const char *word)
{
    struct wire *wire = wire_new(server);
    call(wire, message);
    wire_wait(wire, 1);
    assert_reply(wire, 0, code, word);
    wire_free(wire);
}

static void
assert_frame_refused(struct rpc_server *server, const void *frame, size_t size, enum rpc_code code, const char *word)
{
    struct wire *wire = wire_new(server);
    struct bytes data = {0};
    assert_int_equal(ERR_OK, bytes_append(&data, bytes_view_of("\x80\0\0\1", 4)));
    assert_int_equal(ERR_OK, bytes_append(&data, bytes_view_of(frame, size)));
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_as_view(&data), NULL));
    rpc_peer_batch_end(wire->peer);
    wire_wait(wire, 1);
    assert_memory_equal("\x80\0\0\1\1", wire->sent[0].data, 5); // answered in version 1
    assert_reply(wire, 0, code, word);
    bytes_free(&data);
    wire_free(wire);
}

static void
test_echo_comes_back_along_its_route(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct bytes data = {0};
    static const char hops[] = "\0\0\0\1\x7f\xff\xff\xff";
    assert_int_equal(ERR_OK, bytes_append(&data, bytes_view_of(hops, 8)));
    append_message(&data, &(struct message){.text = "hello", .id = 77});
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_as_view(&data), NULL));
    rpc_peer_batch_end(wire->peer);
    wire_wait(wire, 1);
    assert_memory_equal("\0\0\0\1\x7f\xff\xff\xff\x80\0\0\x4d", wire->sent[0].data, 12);
    bytes_consume(&wire->sent[0], 8);
    assert_text(wire, 0, "hello");
    bytes_free(&data);
    wire_free(wire);
    rpc_server_free(&server);
    assert_null(server);
}

static void
test_large_messages_are_taken_and_not_copied(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct bytes data = {0};
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.data.len = 512 * 1024;
    request.data.data = calloc(1, request.data.len);
    assert_non_null(request.data.data);
    append_message(&data, &(struct message){.request = &request.base});
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_as_view(&data), &data));
    assert_null(data.data);
    rpc_peer_batch_end(wire->peer);
    wire_wait(wire, 1);
    assert_reply(wire, 0, RPC_OK, NULL);
    assert_true(wire->sent[0].size > request.data.len);
    free(request.data.data);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_what_names_no_request_ends_the_connection(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    uint8_t words[17 * 4 + 8] = {0};
    words[16 * 4] = REQUEST_ID_BIT; // one hop too many
    assert_int_equal(ERR_PROTOCOL, rpc_peer_receive(wire->peer, bytes_view_of(NULL, 0), NULL));
    assert_int_equal(ERR_PROTOCOL, rpc_peer_receive(wire->peer, bytes_view_of("\x80\0\0", 3), NULL));
    assert_int_equal(ERR_PROTOCOL, rpc_peer_receive(wire->peer, bytes_view_of("\x7f\0\0\0", 4), NULL));
    assert_int_equal(ERR_PROTOCOL, rpc_peer_receive(wire->peer, bytes_view_of(words, sizeof(words)), NULL));
    words[15 * 4] = REQUEST_ID_BIT;
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_view_of(words, sizeof(words)), NULL));
    wire_free(wire); // with a call that never became part of a batch
    rpc_server_free(&server);
}

static void
test_refuses_frames(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    assert_frame_refused(server, "\2\0\0\0", 4, RPC_UNIMPLEMENTED, "version 1");
    assert_frame_refused(server, "\2", 1, RPC_UNIMPLEMENTED, "version 2");
    assert_frame_refused(server, "", 0, RPC_INVALID_ARGUMENT, "shorter");
    assert_frame_refused(server, "\1\0\0", 3, RPC_INVALID_ARGUMENT, "shorter");
    assert_frame_refused(server, "\1\0\0\5abcd", 8, RPC_INVALID_ARGUMENT, "shorter");
    assert_frame_refused(server, "\1\0\xff\xff", 4, RPC_RESOURCE_EXHAUSTED, "16384");
    assert_frame_refused(server, "\1\x40\0\0", 4, RPC_UNIMPLEMENTED, "flags");
    assert_frame_refused(server, "\1\0\0\1\xff", 5, RPC_INVALID_ARGUMENT, "RequestHeader");
    assert_frame_refused(server, "\1\0\0\3\x0a\1\xff", 7, RPC_INVALID_ARGUMENT, "method");
    assert_frame_refused(server, "\1\0\0\0", 4, RPC_UNIMPLEMENTED, "package.Service/Method");
    uint8_t *large = calloc(1, RPC_MESSAGE_MAX_BYTES + 1);
    assert_non_null(large);
    assert_frame_refused(server, large, RPC_MESSAGE_MAX_BYTES + 1, RPC_RESOURCE_EXHAUSTED, "larger");
    free(large);
    rpc_server_free(&server);
}

static void
test_refuses_headers_and_methods(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    char longest[257];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    longest[100] = '/';
    const struct {
        struct message message;
        enum rpc_code code;
        const char *word;
    } cases[] = {
        {{.request_id_bytes = 16}, RPC_OK, NULL},
        {{.request_id_bytes = 15}, RPC_INVALID_ARGUMENT, "15"},
        {{.request_id_bytes = 17}, RPC_INVALID_ARGUMENT, "17"},
        {{.metadata = 32, .metadata_bytes = 253}, RPC_OK, NULL},
        {{.metadata = 33}, RPC_RESOURCE_EXHAUSTED, "33"},
        {{.metadata = 32, .metadata_bytes = 254}, RPC_RESOURCE_EXHAUSTED, "8224"},
        {{.method = "fc.test.v1.Echo/Echoo"}, RPC_UNIMPLEMENTED, "has no method \"Echoo\""},
        {{.method = "fc.test.v1.Ech/Echo"}, RPC_UNIMPLEMENTED, "no service \"fc.test.v1.Ech\""},
        {{.method = "fc.test.v1.Echo"}, RPC_UNIMPLEMENTED, "package.Service/Method"},
        {{.method = "/"}, RPC_UNIMPLEMENTED, "no service \"\""},
        {{.method = longest}, RPC_UNIMPLEMENTED, "255"},
        // The order: header before method, method before rule, rule before deadline and message.
        {{.method = "x/y", .metadata = 33}, RPC_RESOURCE_EXHAUSTED, "metadata"},
        {{.method = "fc.test.v1.Echo/No", .token = "bad"}, RPC_UNIMPLEMENTED, "no method"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_refused(server, &cases[i].message, cases[i].code, cases[i].word);
    }
    rpc_server_free(&server);
}

static void
test_refuses_by_the_rule_of_the_method(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    static const char as_user[] = "fc.test.v1.Echo/EchoAsUser";
    static const char count_method[] = "fc.test.v1.Echo/Count";
    char token[RPC_TOKEN_MAX_BYTES + 2];
    memset(token, 't', sizeof(token));
    token[RPC_TOKEN_MAX_BYTES + 1] = '\0';
    assert_refused(server, &(struct message){.method = as_user, .token = token}, RPC_UNAUTHENTICATED, "no login");
    assert_int_equal(0, atomic_load(&shared.authenticated));
    token[RPC_TOKEN_MAX_BYTES] = '\0';
    assert_refused(server, &(struct message){.method = as_user, .token = token}, RPC_OK, NULL);
    assert_refused(server, &(struct message){.method = as_user}, RPC_UNAUTHENTICATED, "needs a login token");
    assert_refused(server, &(struct message){.method = as_user, .token = "x"}, RPC_UNAUTHENTICATED, "log in again");
    assert_refused(server, &(struct message){.method = count_method, .token = "tu"}, RPC_PERMISSION_DENIED, "admin");
    assert_refused(server, &(struct message){.method = count_method, .token = "ta"}, RPC_OK, NULL);
    assert_refused(server, &(struct message){.token = "x"}, RPC_OK, NULL); // nobody asked for it

    // Token before size, size before message.
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    uint8_t data[64] = {0};
    request.data.data = data;
    request.data.len = 64;
    assert_refused(server, &(struct message){.method = count_method, .token = "x", .request = &request.base},
        RPC_UNAUTHENTICATED, NULL);
    assert_refused(server, &(struct message){.method = count_method, .token = "ta", .request = &request.base},
        RPC_RESOURCE_EXHAUSTED, "at most 64 bytes");
    Fc__Test__V1__CountResponse other = FC__TEST__V1__COUNT_RESPONSE__INIT;
    other.count = 1; // a number where Echo has text
    assert_refused(server, &(struct message){.request = &other.base}, RPC_INVALID_ARGUMENT, "text");
    rpc_server_free(&server);
}

static void
test_token_is_asked_for_once_per_connection(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct message message = {.method = "fc.test.v1.Echo/EchoAsUser", .token = "tx"};
    size_t sent = 0;
    for (size_t i = 0; i < 10; i++) {
        call(wire, &message);
        wire_wait(wire, ++sent);
        assert_text(wire, sent - 1, "tx");
    }
    assert_int_equal(1, atomic_load(&shared.authenticated));
    message.token = "ty";
    call(wire, &message);
    wire_wait(wire, ++sent);
    assert_text(wire, sent - 1, "ty");
    assert_int_equal(2, atomic_load(&shared.authenticated));
    message.token = "tyy"; // the one that is known is a part of it
    call(wire, &message);
    wire_wait(wire, ++sent);
    assert_int_equal(3, atomic_load(&shared.authenticated));
    rpc_server_forget_tokens(server);
    call(wire, &message);
    wire_wait(wire, ++sent);
    assert_int_equal(4, atomic_load(&shared.authenticated));
    call(wire, &message);
    wire_wait(wire, ++sent);
    assert_int_equal(4, atomic_load(&shared.authenticated));
    clock_set_unix_ms_for_test(1000 * 1000); // when it expires
    call(wire, &message);
    wire_wait(wire, ++sent);
    assert_int_equal(5, atomic_load(&shared.authenticated));
    // A refused one is not remembered, and leaves nothing of the other.
    clock_set_unix_ms_for_test(1000);
    message.token = "bad";
    for (size_t i = 0; i < 2; i++) {
        call(wire, &message);
        wire_wait(wire, ++sent);
        assert_reply(wire, sent - 1, RPC_UNAUTHENTICATED, NULL);
    }
    assert_int_equal(7, atomic_load(&shared.authenticated));
    message.token = "";
    call(wire, &message);
    wire_wait(wire, ++sent);
    assert_reply(wire, sent - 1, RPC_UNAUTHENTICATED, NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_failures_carry_their_details(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    Fc__Test__V1__FailRequest request = FC__TEST__V1__FAIL_REQUEST__INIT;
    request.code = RPC_RESOURCE_EXHAUSTED;
    request.message = (char[]){"too many \xe2\x82\xac"};
    request.reason = (char[]){"TOO_MANY"};
    request.retry_after_ms = 4294967295;
    call(wire, &(struct message){.method = "fc.test.v1.Echo/Fail", .request = &request.base});
    wire_wait(wire, 1);
    Fc__Rpc__V1__ResponseHeader *header = reply_of(wire, 0, NULL);
    assert_int_equal(RPC_RESOURCE_EXHAUSTED, header->code);
    assert_string_equal("too many \xe2\x82\xac", header->message);
    assert_int_equal(1, header->n_details);
    assert_string_equal("fc.rpc.v1.ErrorInfo", header->details[0]->type);
    Fc__Rpc__V1__ErrorInfo *info =
        fc__rpc__v1__error_info__unpack(NULL, header->details[0]->value.len, header->details[0]->value.data);
    assert_non_null(info);
    assert_string_equal("TOO_MANY", info->reason);
    assert_int_equal(4294967295, info->retry_after_ms);
    fc__rpc__v1__error_info__free_unpacked(info, NULL);
    fc__rpc__v1__response_header__free_unpacked(header, NULL);

    // An explanation that was cut inside a character still is UTF-8 when it leaves.
    char text[600];
    for (size_t i = 0; i + 3 < sizeof(text); i += 3) {
        memcpy(text + i, "\xe2\x82\xac", 4);
    }
    request.message = text;
    request.reason = (char[]){""};
    request.retry_after_ms = 0;
    call(wire, &(struct message){.method = "fc.test.v1.Echo/Fail", .request = &request.base});
    wire_wait(wire, 2);
    header = reply_of(wire, 1, NULL);
    assert_int_equal(510, strlen(header->message));
    assert_int_equal(0, header->n_details);
    fc__rpc__v1__response_header__free_unpacked(header, NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_replies_that_cannot_be_sent_are_internal(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    call(wire, &(struct message){.text = "nothing"});
    wire_wait(wire, 1);
    assert_reply(wire, 0, RPC_INTERNAL, "no response");
    shared.reply_bytes = RPC_MESSAGE_MAX_BYTES;
    call(wire, &(struct message){.text = "huge"});
    wire_wait(wire, 2);
    assert_reply(wire, 1, RPC_INTERNAL, "too large");
    call(wire, &(struct message){.text = "fine"});
    wire_wait(wire, 3);
    assert_text(wire, 2, "fine");
    // A connection that cannot take the reply is of no more use.
    wire->queue_result = ERR_NO_MEMORY;
    call(wire, &(struct message){.text = "lost"});
    wire_wait_closed(wire);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_late_work_is_not_started_and_late_answers_are_not_given(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.worker_threads = 1});
    struct wire *wire = wire_new(server);
    close_gate();
    call(wire, &(struct message){.text = "wait", .id = 1, .timeout_ms = 500});
    wait_at_gate(1);
    call(wire, &(struct message){.text = "second", .id = 2, .timeout_ms = 1});
    call(wire, &(struct message){.text = "third", .id = 3});
    // Both deadlines have to pass; the first one is long enough for a slow machine to get to the gate.
    uint64_t start_ms = clock_monotonic_ms();
    while (clock_monotonic_ms() < start_ms + 501) {
        nanosleep(&(struct timespec){.tv_nsec = 1000 * 1000}, NULL);
    }
    open_gate();
    wire_wait(wire, 3);
    assert_reply(wire, 0, RPC_DEADLINE_EXCEEDED, "after the deadline");
    assert_reply(wire, 1, RPC_DEADLINE_EXCEEDED, "not started");
    assert_text(wire, 2, "third");
    assert_int_equal(2, atomic_load(&shared.executed));
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_limits_on_calls_in_flight(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.max_calls_per_connection = 3, .max_calls = 5});
    struct wire *one = wire_new(server);
    struct wire *two = wire_new(server);
    struct message later = {.method = "fc.test.v1.Echo/EchoLater"};
    for (size_t i = 0; i < 4; i++) {
        receive(one, &later);
    }
    rpc_peer_batch_end(one->peer);
    wire_wait(one, 1);
    assert_reply(one, 0, RPC_RESOURCE_EXHAUSTED, "on this connection");
    call(one, &later);
    wire_wait(one, 2);
    assert_reply(one, 1, RPC_RESOURCE_EXHAUSTED, "on this connection");
    for (size_t i = 0; i < 3; i++) {
        call(two, &later);
    }
    wire_wait(two, 1);
    assert_reply(two, 0, RPC_RESOURCE_EXHAUSTED, "the server has too many");
    wait_later(5);
    for (size_t i = 0; i < 5; i++) {
        answer_later(i);
    }
    wire_wait(one, 5);
    wire_wait(two, 3);
    call(two, &(struct message){.text = "again"});
    wire_wait(two, 4);
    assert_text(two, 3, "again");
    wire_free(one);
    wire_free(two);
    rpc_server_free(&server);
}

static atomic_size_t calls_when_queued;

static enum err
queue_and_count(void *transport, const struct bytes_view *parts, size_t part_count)
{
    const struct wire *wire = transport;
    atomic_fetch_add(&calls_when_queued, atomic_load(&wire->peer->calls));
    return wire_queue(transport, parts, part_count);
}

// Whoever has an answer may call again, before the server has done with the batch that the answer was in.
static void
test_an_answered_call_makes_room_for_the_next(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.max_calls_per_connection = 3});
    struct wire *wire = wire_new(server);
    struct rpc_transport_ops counting_ops = wire_ops;
    counting_ops.queue = queue_and_count;
    wire->peer->ops = &counting_ops;
    atomic_store(&calls_when_queued, 0);
    call(wire, &(struct message){.text = "in a batch"});
    wire_wait(wire, 1);
    call(wire, &(struct message){.method = "fc.test.v1.Echo/EchoLater"});
    wait_later(1);
    answer_later(0);
    wire_wait(wire, 2);
    call(wire, &(struct message){.method = "fc.test.v1.Echo/Missing"});
    wire_wait(wire, 3);
    assert_int_equal(0, atomic_load(&calls_when_queued));
    assert_int_equal(0, atomic_load(&wire->peer->calls));
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_limit_on_connections(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.max_connections = 2});
    struct wire *one = wire_new(server);
    struct wire *two = wire_new(server);
    struct rpc_peer *third = NULL;
    assert_int_equal(ERR_LIMIT, rpc_peer_new(server, &wire_ops, NULL, "third", &third));
    wire_free(one);
    struct wire *three = wire_new(server);
    wire_free(two);
    wire_free(three);
    rpc_server_free(&server);
}

static void
test_many_calls_of_one_do_not_hold_up_another(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.worker_threads = 1});
    struct wire *busy = wire_new(server);
    struct wire *other = wire_new(server);
    enum {
        CALLS = 1000,
    };
    close_gate();
    call(busy, &(struct message){.text = "wait"});
    wait_at_gate(1);
    for (uint32_t i = 0; i < CALLS; i++) {
        receive(busy, &(struct message){.text = "busy", .id = i});
    }
    rpc_peer_batch_end(busy->peer);
    call(other, &(struct message){.text = "one"});
    open_gate();
    wire_wait(other, 1);
    wire_wait(busy, CALLS + 1);
    assert_text(other, 0, "one");
    assert_int_equal(CALLS + 2, atomic_load(&shared.executed));
    // The call at the gate, and one batch of the busy peer, which was in the queue before.
    assert_true(atomic_load(&shared.before_one) <= 1 + 32);
    assert_true(busy->flushes >= CALLS / 32);
    wire_free(busy);
    wire_free(other);
    rpc_server_free(&server);
}

static void
test_a_batch_is_flushed_once(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.worker_threads = 1});
    struct wire *wire = wire_new(server);
    for (uint32_t i = 0; i < 8; i++) {
        receive(wire, &(struct message){.text = "in a batch", .id = i});
    }
    assert_int_equal(0, atomic_load(&shared.executed)); // not before the batch has ended
    rpc_peer_batch_end(wire->peer);
    wire_wait(wire, 8);
    // More than one only when the machine was so busy that calls took longer than they should.
    assert_true(wire->flushes < 8);
    wire_free(wire);
    rpc_server_free(&server);
}

static void *
answer_all(void *context)
{
    (void)context;
    for (size_t i = 0; i < shared.later_count; i++) {
        answer_later(i);
    }
    return NULL;
}

static void
test_answers_come_from_other_threads(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    pthread_t thread;
    for (uint32_t i = 0; i < 100; i++) {
        receive(wire, &(struct message){.method = "fc.test.v1.Echo/EchoLater", .id = i});
    }
    rpc_peer_batch_end(wire->peer);
    wait_later(100);
    assert_int_equal(0, wire->sent_count);
    assert_false(rpc_call_is_cancelled(shared.later[0]));
    assert_true(rpc_call_deadline_ms(shared.later[0]) > clock_monotonic_ms());
    assert_null(rpc_call_identity(shared.later[0]));
    assert_int_equal(0, pthread_create(&thread, NULL, answer_all, NULL));
    wire_wait(wire, 100);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < 100; i++) {
        assert_text(wire, i, "later");
    }
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_a_lost_connection_drops_what_waits_and_forgets_what_runs(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.worker_threads = 1});
    struct wire *wire = wire_new(server);
    struct wire *other = wire_new(server);
    call(wire, &(struct message){.method = "fc.test.v1.Echo/EchoLater"});
    wait_later(1);
    close_gate();
    call(wire, &(struct message){.text = "wait"});
    wait_at_gate(1);
    for (size_t i = 0; i < 50; i++) {
        call(wire, &(struct message){.text = "never"});
    }
    receive(wire, &(struct message){.text = "not even in a batch"});
    wire_lose(wire);
    assert_true(rpc_call_is_cancelled(shared.later[0]));
    open_gate();
    call(other, &(struct message){.text = "other"});
    wire_wait(other, 1);
    assert_int_equal(2, atomic_load(&shared.executed));
    answer_later(0);
    assert_int_equal(0, wire->sent_count);
    wire_free(wire);
    wire_free(other);
    rpc_server_free(&server);
}

static void
test_reading_stops_while_too_much_was_received(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){.max_received_bytes = 8 * 1024});
    struct wire *wire = wire_new(server);
    struct wire *gone = wire_new(server);
    struct message later = {.method = "fc.test.v1.Echo/EchoLater"};
    size_t calls = 0;
    while (!wire->is_paused) {
        call(wire, &later);
        wait_later(++calls);
        assert_true(calls < 100);
    }
    assert_true(calls > 5);
    call(gone, &later); // still over it
    wait_later(++calls);
    assert_true(gone->is_paused);
    wire_lose(gone);
    for (size_t i = 0; i < calls; i++) {
        answer_later(i);
    }
    wire_wait_paused(wire, false);
    wire_free(wire);
    wire_free(gone);
    rpc_server_free(&server);
}

static void
test_reading_and_running_stop_while_too_much_is_to_be_written(void **state)
{
    (void)state;
    struct rpc_server *server =
        server_new((struct rpc_server_options){.worker_threads = 1, .max_reply_bytes_per_connection = 1024 * 1024});
    struct wire *wire = wire_new(server);
    enum {
        CALLS = 40,
    };
    shared.reply_bytes = 100 * 1024;
    for (uint32_t i = 0; i < CALLS; i++) {
        receive(wire, &(struct message){.text = "huge", .id = i});
    }
    rpc_peer_batch_end(wire->peer);
    wire_wait_paused(wire, true);
    // The other calls wait until the peer has read.
    struct wire *other = wire_new(server);
    call(other, &(struct message){.text = "other"});
    wire_wait(other, 1);
    size_t executed = atomic_load(&shared.executed);
    assert_true(executed < CALLS);
    assert_true(wire->queued_bytes < 2 * 1024 * 1024);
    struct timespec until = limit();
    while (atomic_load(&shared.executed) < CALLS + 1) {
        wire_write(wire);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        assert_true(now.tv_sec < until.tv_sec);
    }
    wire_wait(wire, CALLS);
    wire_write(wire);
    assert_false(wire->is_paused);
    wire_free(wire);
    wire_free(other);
    rpc_server_free(&server);
}

struct draining {
    struct rpc_server *server;
    unsigned timeout_ms;
};

static void *
drain(void *context)
{
    struct draining *draining = context;
    rpc_server_drain(draining->server, draining->timeout_ms);
    return NULL;
}

// call_until_refused makes calls until the drain has begun. Returns how many messages the wire has then.
static size_t
call_until_refused(struct wire *wire)
{
    size_t sent = wire->sent_count;
    enum rpc_code code = RPC_OK;
    while (code == RPC_OK) {
        call(wire, &(struct message){.text = "hello"});
        wire_wait(wire, ++sent);
        Fc__Rpc__V1__ResponseHeader *header = reply_of(wire, sent - 1, NULL);
        code = (enum rpc_code)header->code;
        fc__rpc__v1__response_header__free_unpacked(header, NULL);
        assert_true(sent < SENT_MAX - 8);
    }
    assert_reply(wire, sent - 1, RPC_UNAVAILABLE, "shutting down");
    return sent;
}

static void
test_drain_waits_for_calls_and_refuses_new_ones(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct draining draining = {server, 60 * 1000};
    pthread_t thread;
    call(wire, &(struct message){.method = "fc.test.v1.Echo/EchoLater"});
    wait_later(1);
    assert_int_equal(0, pthread_create(&thread, NULL, drain, &draining));
    size_t sent = call_until_refused(wire);
    assert_int_equal(0, wire->closes);
    answer_later(0);
    wire_wait_closed(wire);
    assert_text(wire, sent, "later");
    assert_true(wire->linger_ms > 0);
    struct rpc_peer *late = NULL;
    assert_int_equal(ERR_CLOSED, rpc_peer_new(server, &wire_ops, NULL, "late", &late));
    wire_lose(wire);
    pthread_join(thread, NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

// ask_health calls Health.Check, whose answer is the next message of the wire.
static void
ask_health(struct wire *wire, const char *name)
{
    Fc__Rpc__V1__HealthCheckRequest request = FC__RPC__V1__HEALTH_CHECK_REQUEST__INIT;
    char text[64];
    size_t before = wire->sent_count;
    strcpy(text, name);
    request.service = text;
    call(wire, &(struct message){.method = "fc.rpc.v1.Health/Check", .request = &request.base});
    wire_wait(wire, before + 1);
}

static void
assert_health(struct wire *wire, const char *name, Fc__Rpc__V1__HealthCheckResponse__ServingStatus status)
{
    struct bytes_view message;
    ask_health(wire, name);
    assert_reply(wire, wire->sent_count - 1, RPC_OK, NULL);
    fc__rpc__v1__response_header__free_unpacked(reply_of(wire, wire->sent_count - 1, &message), NULL);
    Fc__Rpc__V1__HealthCheckResponse *response =
        fc__rpc__v1__health_check_response__unpack(NULL, message.size, message.data);
    assert_non_null(response);
    assert_int_equal(status, response->status);
    fc__rpc__v1__health_check_response__free_unpacked(response, NULL);
}

static void
test_health_is_told_also_while_draining(void **state)
{
    (void)state;
    const Fc__Rpc__V1__HealthCheckResponse__ServingStatus serving =
        FC__RPC__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    const Fc__Rpc__V1__HealthCheckResponse__ServingStatus not_serving =
        FC__RPC__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct draining draining = {server, 60 * 1000};
    pthread_t thread;
    assert_health(wire, "", serving);
    assert_health(wire, "fc.test.v1.Echo", serving);
    ask_health(wire, "fc.test.v1.Nothing");
    assert_reply(wire, wire->sent_count - 1, RPC_NOT_FOUND, "fc.test.v1.Nothing");

    call(wire, &(struct message){.method = "fc.test.v1.Echo/EchoLater"});
    wait_later(1);
    assert_int_equal(0, pthread_create(&thread, NULL, drain, &draining));
    call_until_refused(wire);
    assert_health(wire, "", not_serving);
    assert_health(wire, "fc.test.v1.Echo", not_serving);
    static const uint8_t cut[] = {REQUEST_ID_BIT, 0, 0, 1, 1, 0, 0, 9}; // what is no frame is refused like all others
    assert_int_equal(ERR_OK, rpc_peer_receive(wire->peer, bytes_view_of(cut, sizeof(cut)), NULL));
    rpc_peer_batch_end(wire->peer);
    assert_reply(wire, wire->sent_count - 1, RPC_UNAVAILABLE, "shutting down");
    answer_later(0);
    wire_wait_closed(wire);
    wire_lose(wire);
    pthread_join(thread, NULL);
    wire_free(wire);
    rpc_server_free(&server);
}

static void
test_answer_after_the_server_is_gone_is_safe(void **state)
{
    (void)state;
    struct rpc_server *server = server_new((struct rpc_server_options){0});
    struct wire *wire = wire_new(server);
    struct draining draining = {server, 1};
    pthread_t thread;
    call(wire, &(struct message){.method = "fc.test.v1.Echo/EchoLater"});
    wait_later(1);
    assert_int_equal(0, pthread_create(&thread, NULL, drain, &draining));
    wire_wait_closed(wire);
    wire_lose(wire);
    pthread_join(thread, NULL);
    rpc_server_free(&server);
    assert_true(rpc_call_is_cancelled(shared.later[0]));
    answer_later(0);
    assert_int_equal(0, wire->sent_count);
    wire_free(wire);
}

static void
test_services_must_match_their_rules(void **state)
{
    (void)state;
    struct rpc_server *server = NULL;
    struct rpc_server_options options = {.worker_threads = 1};
    size_t all = sizeof(rules) / sizeof(rules[0]);
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    // Nobody can check tokens.
    assert_int_equal(ERR_INVALID, rpc_server_add_service(server, &service.base, rules, all));
    rpc_server_free(&server);
    options.authenticate = authenticate;
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_INVALID, rpc_server_add_service(server, &service.base, rules, all - 1));
    struct rpc_method_rule more[sizeof(rules) / sizeof(rules[0]) + 1];
    memcpy(more, rules, sizeof(rules));
    more[all] = (struct rpc_method_rule){.method = "Unknown", .access = RPC_ACCESS_PUBLIC};
    assert_int_equal(ERR_INVALID, rpc_server_add_service(server, &service.base, more, all + 1));
    more[all] = rules[0];
    assert_int_equal(ERR_INVALID, rpc_server_add_service(server, &service.base, more, all + 1));
    rpc_server_free(&server);
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    Fc__Test__V1__Echo_Service lacking = service;
    lacking.count = NULL;
    assert_int_equal(ERR_INVALID, rpc_server_add_service(server, &lacking.base, rules, all));
    rpc_server_free(&server);
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service.base, rules, all));
    assert_int_equal(ERR_EXISTS, rpc_server_add_service(server, &service.base, rules, all));
    char bound_url[RPC_URL_MAX_BYTES];
    struct err_detail why = {0};
    assert_int_equal(ERR_INVALID, rpc_server_listen(server, "ftp://127.0.0.1:0", bound_url, &why));
    assert_non_null(strstr(why.message, "ftp://127.0.0.1:0"));
    rpc_server_free(&server);
    rpc_server_free(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_comes_back_along_its_route),
        cmocka_unit_test(test_large_messages_are_taken_and_not_copied),
        cmocka_unit_test(test_what_names_no_request_ends_the_connection),
        cmocka_unit_test(test_refuses_frames),
        cmocka_unit_test(test_refuses_headers_and_methods),
        cmocka_unit_test(test_refuses_by_the_rule_of_the_method),
        cmocka_unit_test(test_token_is_asked_for_once_per_connection),
        cmocka_unit_test(test_failures_carry_their_details),
        cmocka_unit_test(test_replies_that_cannot_be_sent_are_internal),
        cmocka_unit_test(test_late_work_is_not_started_and_late_answers_are_not_given),
        cmocka_unit_test(test_limits_on_calls_in_flight),
        cmocka_unit_test(test_an_answered_call_makes_room_for_the_next),
        cmocka_unit_test(test_limit_on_connections),
        cmocka_unit_test(test_many_calls_of_one_do_not_hold_up_another),
        cmocka_unit_test(test_a_batch_is_flushed_once),
        cmocka_unit_test(test_answers_come_from_other_threads),
        cmocka_unit_test(test_a_lost_connection_drops_what_waits_and_forgets_what_runs),
        cmocka_unit_test(test_reading_stops_while_too_much_was_received),
        cmocka_unit_test(test_reading_and_running_stop_while_too_much_is_to_be_written),
        cmocka_unit_test(test_drain_waits_for_calls_and_refuses_new_ones),
        cmocka_unit_test(test_health_is_told_also_while_draining),
        cmocka_unit_test(test_answer_after_the_server_is_gone_is_safe),
        cmocka_unit_test(test_services_must_match_their_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
