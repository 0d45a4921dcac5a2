// The server of the conformance tests: fc.test.v1.Conformance on any number of listeners.
//
//     conformance_server [--tls-dir DIR] URL...
//
// Prints "ready URL..." with the ports that it got, and serves until its standard input ends. With --tls-dir it makes
// cert.pem and key.pem there, or uses those that are there. The token of WhoAmI is "fct_conformance".
#include <fc_proto_test_descriptors.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_status.h"

#include "fc/test/v1/conformance.pb-c.h"

#define TOKEN "fct_conformance"

enum {
    LABEL_MAX_BYTES = 64, // with its NUL
    LABELS_MAX = 4096,
    MESSAGE_MAX_BYTES = 4 * 1024 * 1024, // of Echo
    DRAIN_MS = 60000,                    // for what is in flight; it ends as soon as that has ended
};

// What has happened under a label.
struct tally {
    char label[LABEL_MAX_BYTES];
    uint64_t started;
    uint64_t gave_up;
    uint64_t executions;
};

static struct {
    pthread_mutex_t mutex;
    struct tally tallies[LABELS_MAX];
    size_t count;
} tallies = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct rpc_server *server;

static struct tally *
tally_locked(const char *label)
{
    for (size_t i = 0; i < tallies.count; i++) {
        if (strcmp(tallies.tallies[i].label, label) == 0) {
            return &tallies.tallies[i];
        }
    }
    // The last one is everybody's when there is no other left.
    struct tally *tally = &tallies.tallies[tallies.count < LABELS_MAX - 1 ? tallies.count++ : LABELS_MAX - 1];
    (void)snprintf(tally->label, sizeof(tally->label), "%s", label);
    return tally;
}

static void
add_to_tally(const char *label, uint64_t started, uint64_t gave_up, uint64_t executions)
{
    pthread_mutex_lock(&tallies.mutex);
    struct tally *tally = tally_locked(label);
    tally->started += started;
    tally->gave_up += gave_up;
    tally->executions += executions;
    pthread_mutex_unlock(&tallies.mutex);
}

static struct tally
read_tally(const char *label)
{
    pthread_mutex_lock(&tallies.mutex);
    struct tally tally = *tally_locked(label);
    pthread_mutex_unlock(&tallies.mutex);
    return tally;
}

// ---- Calls

static void
conformance_echo(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ConformanceData *request,
    Fc__Test__V1__ConformanceData_Closure reply, void *call)
{
    (void)service;
    reply(request, call);
}

static void
conformance_empty(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ConformanceNothing *request,
    Fc__Test__V1__ConformanceNothing_Closure reply, void *call)
{
    (void)service;
    reply(request, call);
}

static void
conformance_sized(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__SizedRequest *request,
    Fc__Test__V1__ConformanceData_Closure reply, void *call)
{
    (void)service;
    Fc__Test__V1__ConformanceData response = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    if (request->size > RPC_MESSAGE_MAX_BYTES) {
        rpc_call_fail(call, ERR_LIMIT, "a response has at most %d bytes", RPC_MESSAGE_MAX_BYTES);
        return;
    }
    response.data.len = request->size;
    response.data.data = calloc(1, (size_t)request->size + 1);
    if (response.data.data == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "no memory");
        return;
    }
    reply(&response, call);
    free(response.data.data);
}

// A call that answers when its time has come, or learns that its caller has given up.
struct sleeper {
    struct rpc_call_watch watch; // first
    struct timer timer;
    Fc__Test__V1__SleepResponse_Closure reply;
    char label[LABEL_MAX_BYTES];
};

// Held while a sleeper gets its watch and its timer: it may be given up between the two.
static pthread_mutex_t sleeper_birth = PTHREAD_MUTEX_INITIALIZER;

static void
on_woken(struct timer *timer)
{
    struct sleeper *sleeper = (struct sleeper *)((char *)timer - offsetof(struct sleeper, timer));
    if (rpc_call_watch_claim(&sleeper->watch)) {
        Fc__Test__V1__SleepResponse response = FC__TEST__V1__SLEEP_RESPONSE__INIT;
        sleeper->reply(&response, sleeper->watch.call);
        free(sleeper);
    }
}

static void
on_given_up(struct rpc_call_watch *watch)
{
    struct sleeper *sleeper = (struct sleeper *)watch;
    pthread_mutex_lock(&sleeper_birth);
    pthread_mutex_unlock(&sleeper_birth);
    (void)timer_stop(rpc_server_timers(server), &sleeper->timer);
    add_to_tally(sleeper->label, 0, 1, 0);
    rpc_call_fail(watch->call, ERR_CANCELLED, "nobody waits for this sleeper any more");
    free(sleeper);
}

static void
conformance_sleep(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__SleepRequest *request,
    Fc__Test__V1__SleepResponse_Closure reply, void *call)
{
    (void)service;
    struct sleeper *sleeper = calloc(1, sizeof(*sleeper));
    if (sleeper == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "no memory");
        return;
    }
    sleeper->reply = reply;
    sleeper->timer.on_expiry = on_woken;
    (void)snprintf(sleeper->label, sizeof(sleeper->label), "%s", request->label);
    add_to_tally(request->label, 1, 0, 0);
    pthread_mutex_lock(&sleeper_birth);
    enum err err = rpc_call_watch_start(&sleeper->watch, call, on_given_up);
    if (err == ERR_OK && timer_start(rpc_server_timers(server), &sleeper->timer, request->delay_ms) != ERR_OK &&
        rpc_call_watch_claim(&sleeper->watch)) {
        err = ERR_NO_MEMORY;
    }
    pthread_mutex_unlock(&sleeper_birth);
    if (err != ERR_OK) {
        add_to_tally(sleeper->label, 0, 1, 0);
        rpc_call_fail(call, err, "cannot sleep");
        free(sleeper);
    }
}

static void
conformance_sleepers(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__SleepersRequest *request,
    Fc__Test__V1__SleepersResponse_Closure reply, void *call)
{
    (void)service;
    struct tally tally = read_tally(request->label);
    Fc__Test__V1__SleepersResponse response = FC__TEST__V1__SLEEPERS_RESPONSE__INIT;
    response.started = tally.started;
    response.gave_up = tally.gave_up;
    reply(&response, call);
}

static void
conformance_fail(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ConformanceFailure *request,
    Fc__Test__V1__ConformanceNothing_Closure reply, void *call)
{
    (void)service;
    (void)reply;
    rpc_call_fail_code(call, (int)request->code, request->message, request->reason, request->retry_after_ms);
}

// An execution whose answer comes later.
struct execution {
    struct timer timer;
    struct rpc_call *call;
    Fc__Test__V1__ExecuteResponse_Closure reply;
    uint64_t executions;
};

static void
on_executed(struct timer *timer)
{
    struct execution *execution = (struct execution *)((char *)timer - offsetof(struct execution, timer));
    Fc__Test__V1__ExecuteResponse response = FC__TEST__V1__EXECUTE_RESPONSE__INIT;
    response.executions = execution->executions;
    execution->reply(&response, execution->call);
    free(execution);
}

static void
conformance_count(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ExecuteRequest *request,
    Fc__Test__V1__ExecuteResponse_Closure reply, void *call)
{
    (void)service;
    struct execution *execution = calloc(1, sizeof(*execution));
    if (execution == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "no memory");
        return;
    }
    add_to_tally(request->label, 0, 0, 1);
    execution->timer.on_expiry = on_executed;
    execution->call = call;
    execution->reply = reply;
    execution->executions = read_tally(request->label).executions;
    if (request->delay_ms == 0 ||
        timer_start(rpc_server_timers(server), &execution->timer, request->delay_ms) != ERR_OK) {
        on_executed(&execution->timer);
    }
}

static void
conformance_count_of(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ExecuteRequest *request,
    Fc__Test__V1__ExecuteResponse_Closure reply, void *call)
{
    (void)service;
    Fc__Test__V1__ExecuteResponse response = FC__TEST__V1__EXECUTE_RESPONSE__INIT;
    response.executions = read_tally(request->label).executions;
    reply(&response, call);
}

static void
conformance_metadata(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__MetadataRequest *request,
    Fc__Test__V1__MetadataResponse_Closure reply, void *call)
{
    (void)service;
    Fc__Test__V1__MetadataResponse response = FC__TEST__V1__METADATA_RESPONSE__INIT;
    Fc__Test__V1__MetadataPair pairs[RPC_METADATA_MAX_ENTRIES];
    Fc__Test__V1__MetadataPair *list[RPC_METADATA_MAX_ENTRIES];
    char keys[RPC_METADATA_MAX_ENTRIES][RPC_METADATA_KEY_MAX_BYTES + 1];
    for (size_t i = 0; i < rpc_call_metadata_count(call); i++) {
        struct rpc_metadata entry = rpc_call_metadata(call, i);
        if (rpc_call_add_metadata(call, entry.key, entry.value) != ERR_OK) {
            rpc_call_fail(call, ERR_INTERNAL, "what a call may carry, its answer may as well");
            return;
        }
        (void)snprintf(keys[i], sizeof(keys[i]), "%s", entry.key);
        fc__test__v1__metadata_pair__init(&pairs[i]);
        pairs[i].key = keys[i];
        pairs[i].value.len = entry.value.size;
        pairs[i].value.data = (uint8_t *)(uintptr_t)entry.value.data; // only read
        list[i] = &pairs[i];
        response.n_pairs = i + 1;
    }
    response.pairs = list;
    if (request->fails) {
        rpc_call_fail(call, ERR_PRECONDITION, "as asked");
    } else {
        reply(&response, call);
    }
}

static void
conformance_time_left(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ConformanceNothing *request,
    Fc__Test__V1__TimeLeftResponse_Closure reply, void *call)
{
    (void)service;
    (void)request;
    Fc__Test__V1__TimeLeftResponse response = FC__TEST__V1__TIME_LEFT_RESPONSE__INIT;
    uint64_t now_ms = clock_monotonic_ms();
    response.ms = rpc_call_deadline_ms(call) > now_ms ? rpc_call_deadline_ms(call) - now_ms : 0;
    reply(&response, call);
}

static void
conformance_who_am_i(Fc__Test__V1__Conformance_Service *service, const Fc__Test__V1__ConformanceNothing *request,
    Fc__Test__V1__WhoAmIResponse_Closure reply, void *call)
{
    (void)service;
    (void)request;
    Fc__Test__V1__WhoAmIResponse response = FC__TEST__V1__WHO_AM_IRESPONSE__INIT;
    char name[RPC_SUBJECT_NAME_MAX_BYTES];
    (void)snprintf(name, sizeof(name), "%s", rpc_call_identity(call)->subject_name);
    response.name = name;
    reply(&response, call);
}

// ---- Stream: many messages for one

struct source {
    struct rpc_server_stream *stream;
    struct timer timer; // for the gap between two messages
    uint8_t *data;
    uint32_t size;
    uint32_t count;
    uint32_t next;
    uint32_t gap_ms;
    uint32_t code;
};

static void
pump(struct source *source)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && source->next < source->count) {
        Fc__Test__V1__ConformanceData message = FC__TEST__V1__CONFORMANCE_DATA__INIT;
        message.number = source->next;
        message.data.data = source->data;
        message.data.len = source->size;
        err = rpc_server_stream_send(source->stream, &message.base);
        source->next += err == ERR_OK;
        if (err == ERR_OK && source->gap_ms > 0 &&
            timer_start(rpc_server_timers(server), &source->timer, source->gap_ms) == ERR_OK) {
            return;
        }
    }
    if (err == ERR_OK && source->code == 0) {
        rpc_server_stream_finish(source->stream);
    } else if (err == ERR_OK) {
        rpc_server_stream_fail(source->stream, rpc_code_to_err((enum rpc_code)source->code), "as asked");
    } // else on_writable or on_closed follows
}

static void
on_gap_over(struct timer *timer)
{
    pump((struct source *)((char *)timer - offsetof(struct source, timer)));
}

static void
stream_on_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    const Fc__Test__V1__StreamRequest *request = (const Fc__Test__V1__StreamRequest *)message;
    struct source *source = rpc_server_stream_context(stream) == NULL ? calloc(1, sizeof(*source)) : NULL;
    if (source != NULL && request->size <= RPC_MESSAGE_MAX_BYTES) {
        source->data = calloc(1, (size_t)request->size + 1);
    }
    rpc_server_stream_set_context(stream, source);
    if (source == NULL || source->data == NULL) {
        rpc_server_stream_fail(stream, ERR_LIMIT, "one request, and not for more than there is memory");
        return;
    }
    source->stream = stream;
    source->timer.on_expiry = on_gap_over;
    source->size = request->size;
    source->count = request->count;
    source->gap_ms = request->gap_ms;
    source->code = request->code;
    pump(source);
}

static void
stream_on_writable(struct rpc_server_stream *stream)
{
    pump(rpc_server_stream_context(stream));
}

static void
stream_on_closed(struct rpc_server_stream *stream)
{
    struct source *source = rpc_server_stream_context(stream);
    if (source != NULL) {
        (void)timer_stop(rpc_server_timers(server), &source->timer);
        free(source->data);
        free(source);
    }
}

static const struct rpc_stream_handlers stream_handlers = {
    .on_message = stream_on_message,
    .on_writable = stream_on_writable,
    .on_closed = stream_on_closed,
};

// ---- Upload, Mirror, Stall

static void
upload_on_open(struct rpc_server_stream *stream, ProtobufCService *service)
{
    (void)service;
    Fc__Test__V1__UploadResponse *sum = calloc(1, sizeof(*sum));
    if (sum == NULL) {
        rpc_server_stream_fail(stream, ERR_NO_MEMORY, "no memory");
        return;
    }
    fc__test__v1__upload_response__init(sum);
    rpc_server_stream_set_context(stream, sum);
}

static void
upload_on_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    Fc__Test__V1__UploadResponse *sum = rpc_server_stream_context(stream);
    sum->messages++;
    sum->bytes += ((const Fc__Test__V1__ConformanceData *)message)->data.len;
}

static void
upload_on_end(struct rpc_server_stream *stream)
{
    Fc__Test__V1__UploadResponse *sum = rpc_server_stream_context(stream);
    if (rpc_server_stream_send(stream, &sum->base) == ERR_OK) {
        rpc_server_stream_finish(stream);
    }
}

static void
upload_on_closed(struct rpc_server_stream *stream)
{
    free(rpc_server_stream_context(stream));
}

static const struct rpc_stream_handlers upload_handlers = {
    .on_open = upload_on_open,
    .on_message = upload_on_message,
    .on_end = upload_on_end,
    .on_closed = upload_on_closed,
};

static void
mirror_on_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    if (rpc_server_stream_send(stream, message) == ERR_BUSY) {
        rpc_server_stream_fail(stream, ERR_INTERNAL, "a message came while none could be sent");
    }
}

static const struct rpc_stream_handlers mirror_handlers = {
    .on_message = mirror_on_message,
    .on_end = rpc_server_stream_finish,
};

static void
stall_on_open(struct rpc_server_stream *stream, ProtobufCService *service)
{
    (void)service;
    rpc_server_stream_pause(stream);
}

static void
stall_on_message(struct rpc_server_stream *stream, const ProtobufCMessage *message)
{
    (void)message;
    rpc_server_stream_fail(stream, ERR_INTERNAL, "a paused stream was given a message");
}

static const struct rpc_stream_handlers stall_handlers = {
    .on_open = stall_on_open,
    .on_message = stall_on_message,
    .on_end = rpc_server_stream_finish,
};

// ---- The server

static Fc__Test__V1__Conformance_Service conformance = {
    .base = FC__TEST__V1__CONFORMANCE__BASE_INIT,
    .echo = conformance_echo,
    .empty = conformance_empty,
    .sized = conformance_sized,
    .sleep = conformance_sleep,
    .sleepers = conformance_sleepers,
    .fail = conformance_fail,
    .count = conformance_count,
    .count_of = conformance_count_of,
    .metadata = conformance_metadata,
    .time_left = conformance_time_left,
    .who_am_i = conformance_who_am_i,
};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = MESSAGE_MAX_BYTES},
    {.method = "Empty", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sized", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sleep", .access = RPC_ACCESS_PUBLIC},
    {.method = "Sleepers", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC, .executes_once = true},
    {.method = "CountOf", .access = RPC_ACCESS_PUBLIC},
    {.method = "Metadata", .access = RPC_ACCESS_PUBLIC},
    {.method = "TimeLeft", .access = RPC_ACCESS_PUBLIC},
    {.method = "WhoAmI", .access = RPC_ACCESS_TOKEN},
    {.method = "Stream", .access = RPC_ACCESS_PUBLIC, .stream = &stream_handlers},
    {.method = "Upload", .access = RPC_ACCESS_PUBLIC, .stream = &upload_handlers},
    {.method = "Mirror", .access = RPC_ACCESS_PUBLIC, .stream = &mirror_handlers},
    {.method = "Stall", .access = RPC_ACCESS_PUBLIC, .stream = &stall_handlers},
};

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    if (!bytes_view_equal_secret(token, bytes_view_of_text(TOKEN))) {
        return ERR_UNAUTHENTICATED;
    }
    *identity_out = (struct rpc_identity){.subject_name = "conformance", .expires_unix_ms = INT64_MAX};
    return ERR_OK;
}

static enum err
open_tls(const char *folder, struct rpc_tls_server **out, struct err_detail *why)
{
    static const char *const names[] = {"localhost", "127.0.0.1"};
    char certificate[4096];
    char key[4096];
    enum err err = ERR_OK;
    (void)snprintf(certificate, sizeof(certificate), "%s/cert.pem", folder);
    (void)snprintf(key, sizeof(key), "%s/key.pem", folder);
    if (access(certificate, F_OK) != 0) {
        err = rpc_tls_server_make_certificate(certificate, key, names, sizeof(names) / sizeof(names[0]), why);
    }
    struct rpc_tls_server_options options = {.certificate_path = certificate, .key_path = key};
    return err == ERR_OK ? rpc_tls_server_new(&options, out, why) : err;
}

static enum err
listen_on(char **urls, struct err_detail *why)
{
    enum err err = ERR_OK;
    struct bytes ready = {0};
    for (; err == ERR_OK && *urls != NULL; urls++) {
        char bound_url[RPC_URL_MAX_BYTES];
        err = rpc_server_listen(server, *urls, bound_url, why);
        if (err == ERR_OK) {
            err = bytes_append(&ready, bytes_view_of_text(" "));
        }
        if (err == ERR_OK) {
            err = bytes_append(&ready, bytes_view_of_text(bound_url));
        }
    }
    if (err == ERR_OK) {
        printf("ready%.*s\n", (int)ready.size, (const char *)ready.data);
        (void)fflush(stdout);
    }
    bytes_free(&ready);
    return err;
}

int
main(int argc, char **argv)
{
    struct rpc_server_options options = {.authenticate = authenticate};
    struct err_detail why = {0};
    enum err err = ERR_OK;
    char **urls = argv + 1;
    char input[64];
    if (argc > 2 && strcmp(argv[1], "--tls-dir") == 0) {
        err = open_tls(argv[2], &options.tls, &why);
        urls += 2;
    }
    if (err == ERR_OK) {
        err = rpc_server_new(&options, &server);
    }
    if (err == ERR_OK) {
        err = rpc_server_add_service(server, &conformance.base, rules, sizeof(rules) / sizeof(rules[0]));
    }
    if (err == ERR_OK) {
        err = rpc_server_describe(server, bytes_view_of(fc_proto_test_descriptors, fc_proto_test_descriptors_bytes));
    }
    if (err == ERR_OK) {
        err = listen_on(urls, &why);
    }
    if (err != ERR_OK) {
        fprintf(stderr, "conformance_server: %s\n", err_message(&why, err));
    } else {
        while (read(STDIN_FILENO, input, sizeof(input)) > 0) {
        }
        rpc_server_drain(server, DRAIN_MS);
    }
    rpc_server_free(&server);
    rpc_tls_server_free(&options.tls);
    return err == ERR_OK ? 0 : 1;
}
