// For the conformance tests in C: a conformance_server as a process of its own, and a channel to each of its listeners.
//
// Each test runs over tcp, TLS and a Unix socket: `conformance` has the channel of the one it is on.
#ifndef TESTS_CONFORMANCE_CONFORMANCE_CLIENT_H
#define TESTS_CONFORMANCE_CONFORMANCE_CLIENT_H

#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_client_stream.h"
#include "rpc/rpc_tls.h"

#include "fc/test/v1/conformance.stub.h"

#define METHOD(name) "fc.test.v1.Conformance/" name

enum {
    CONFORMANCE_TRANSPORTS = 3,
    CONFORMANCE_TIMEOUT_MS = 20000,
};

static struct {
    char folder[64];
    char urls[CONFORMANCE_TRANSPORTS][RPC_URL_MAX_BYTES]; // tcp, TLS, Unix socket
    pid_t pid;
    FILE *input;
    FILE *output;
    struct rpc_tls_client *tls;
    const char *url;             // of the transport that is tested
    struct rpc_channel *channel; // to it
} conformance;

static inline uint32_t
conformance_limit_ms(void)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    return (uint32_t)(CONFORMANCE_TIMEOUT_MS * (scale != NULL ? atoi(scale) : 1));
}

static inline void
conformance_start(void)
{
    extern char **environ;
    int to[2];
    int from[2];
    char ipc[128];
    char line[4 * RPC_URL_MAX_BYTES];
    const char *server = getenv("FC_CONFORMANCE_SERVER");
    posix_spawn_file_actions_t actions;
    assert_non_null(server);
    strcpy(conformance.folder, "/tmp/fc-conformance-XXXXXX");
    assert_non_null(mkdtemp(conformance.folder));
    (void)snprintf(ipc, sizeof ipc, "ipc://%s/socket", conformance.folder);
    char *arguments[] = {(char *)(uintptr_t)server, (char[]){"--tls-dir"}, conformance.folder,
        (char[]){"tcp://127.0.0.1:0"}, (char[]){"tls+tcp://127.0.0.1:0"}, ipc, NULL};
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(posix_spawn_file_actions_addclose(&actions, to[i]), 0);
        assert_int_equal(posix_spawn_file_actions_addclose(&actions, from[i]), 0);
    }
    assert_int_equal(posix_spawn(&conformance.pid, server, &actions, NULL, arguments, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(to[0]);
    (void)close(from[1]);
    conformance.input = fdopen(to[1], "w");
    conformance.output = fdopen(from[0], "r");
    assert_non_null(fgets(line, sizeof line, conformance.output));
    assert_int_equal(
        sscanf(line, "ready %255s %255s %255s", conformance.urls[0], conformance.urls[1], conformance.urls[2]), 3);
}

// conformance_stop ends the server, which has to end well.
static inline void
conformance_stop(void)
{
    int status = 0;
    char command[128];
    (void)fclose(conformance.input);
    assert_int_equal(waitpid(conformance.pid, &status, 0), conformance.pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    (void)fclose(conformance.output);
    (void)snprintf(command, sizeof command, "rm -r %s", conformance.folder);
    (void)!system(command);
}

static inline struct rpc_channel *
conformance_channel(const char *url)
{
    struct rpc_channel *channel = NULL;
    struct err_detail why = {0};
    char ca_path[128];
    (void)snprintf(ca_path, sizeof ca_path, "%s/cert.pem", conformance.folder);
    struct rpc_channel_options options = {.url = url};
    if (strncmp(url, "tls+", 4) == 0 && conformance.tls == NULL) {
        struct rpc_tls_client_options tls = {.ca_path = ca_path};
        assert_int_equal(rpc_tls_client_new(&tls, &conformance.tls, &why), ERR_OK);
    }
    options.tls = conformance.tls;
    assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_OK);
    return channel;
}

// conformance_run runs the tests over each transport. Returns how many have failed.
static inline int
conformance_run(const struct CMUnitTest *tests, size_t count)
{
    static const char *const names[CONFORMANCE_TRANSPORTS] = {"tcp", "tls+tcp", "ipc"};
    int failed = 0;
    conformance_start();
    for (size_t i = 0; i < CONFORMANCE_TRANSPORTS; i++) {
        conformance.url = conformance.urls[i];
        conformance.channel = conformance_channel(conformance.url);
        failed += _cmocka_run_group_tests(names[i], tests, count, NULL, NULL);
        rpc_channel_free(&conformance.channel);
        rpc_tls_client_free(&conformance.tls);
    }
    conformance_stop();
    return failed;
}

static inline void
conformance_init(struct rpc_unary *call)
{
    rpc_unary_init(call, conformance.channel, &fc__test__v1__conformance__descriptor);
    call->timeout_ms = conformance_limit_ms();
}

static inline void
conformance_open(struct rpc_client_stream *stream, const char *method, const ProtobufCMessageDescriptor *output)
{
    rpc_client_stream_init(stream, conformance.channel, output);
    stream->call.timeout_ms = conformance_limit_ms();
    rpc_client_stream_open(stream, method);
}

// conformance_sleepers reads the tally of a label.
static inline Fc__Test__V1__SleepersResponse
conformance_sleepers(const char *label)
{
    struct rpc_unary call;
    char copy[64];
    Fc__Test__V1__SleepersRequest request = FC__TEST__V1__SLEEPERS_REQUEST__INIT;
    (void)snprintf(copy, sizeof copy, "%s", label);
    request.label = copy;
    conformance_init(&call);
    fc__test__v1__conformance__sleepers(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    Fc__Test__V1__SleepersResponse response =
        *(const Fc__Test__V1__SleepersResponse *)rpc_unary_response(&call); // holds only numbers
    rpc_unary_deinit(&call);
    return response;
}

// conformance_wait_for_sleepers waits until so many have started and given up.
static inline void
conformance_wait_for_sleepers(const char *label, uint64_t started, uint64_t gave_up)
{
    uint64_t end_ms = clock_monotonic_ms() + conformance_limit_ms();
    Fc__Test__V1__SleepersResponse tally = conformance_sleepers(label);
    while (tally.started < started || tally.gave_up < gave_up) {
        assert_true(clock_monotonic_ms() < end_ms);
        tally = conformance_sleepers(label);
    }
}

// conformance_label is one that no other test has had.
static inline void
conformance_label(char label_out[32])
{
    static unsigned count;
    (void)snprintf(label_out, 32, "%d-%u", (int)getpid(), count++);
}

#endif
