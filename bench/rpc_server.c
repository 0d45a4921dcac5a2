// The servers that bench/run compares: the same echo on fc's runtime and on nng's own REP socket.
//
//     bench_rpc_server fc|nng URL [CERTIFICATE KEY]
//
// Prints "ready URL" and serves until its standard input ends.

#include "rpc/rpc_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

#include "bench/token.h"
#include "rpc/rpc_call.h"

#include "fc/test/v1/echo.pb-c.h"

static void
die(const char *what, const char *why)
{
    fprintf(stderr, "bench_rpc_server: %s: %s\n", what, why);
    exit(1);
}

static void
wait_for_end_of_input(void)
{
    char buffer[64];
    while (read(STDIN_FILENO, buffer, sizeof(buffer)) > 0) {
    }
}

static enum err
authenticate(void *context, struct bytes_view token, struct rpc_identity *identity_out)
{
    (void)context;
    if (!token_is_valid(token.data, token.size)) {
        return ERR_UNAUTHENTICATED;
    }
    memset(identity_out, 0, sizeof(*identity_out));
    identity_out->expires_unix_ms = INT64_MAX;
    return ERR_OK;
}

static void
echo(const Fc__Test__V1__EchoRequest *request, Fc__Test__V1__EchoResponse_Closure reply, void *call)
{
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.text = request->text;
    response.data = request->data;
    reply(&response, call);
}

static void
bench_echo(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)service;
    echo(request, reply, call);
}

static void
bench_echo_as_user(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)service;
    echo(request, reply, call);
}

static void
bench_echo_later(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoLaterRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)service;
    (void)request;
    (void)reply;
    rpc_call_fail(call, ERR_UNIMPLEMENTED, "this benchmark does not answer later");
}

static void
bench_fail(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__FailRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)service;
    (void)request;
    (void)reply;
    rpc_call_fail(call, ERR_INTERNAL, "as asked");
}

static void
bench_count(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__CountRequest *request,
    Fc__Test__V1__CountResponse_Closure reply, void *call)
{
    (void)service;
    (void)request;
    Fc__Test__V1__CountResponse response = FC__TEST__V1__COUNT_RESPONSE__INIT;
    reply(&response, call);
}

static void
serve_fc(const char *url, const struct rpc_tls_server_options *tls_options)
{
    static const struct rpc_method_rule rules[] = {
        {.method = "Echo", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = RPC_MESSAGE_MAX_BYTES},
        {.method = "EchoAsUser", .access = RPC_ACCESS_TOKEN, .max_request_bytes = RPC_MESSAGE_MAX_BYTES},
        {.method = "EchoLater", .access = RPC_ACCESS_PUBLIC},
        {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
        {.method = "Count", .access = RPC_ACCESS_PUBLIC},
    };
    Fc__Test__V1__Echo_Service service = FC__TEST__V1__ECHO__INIT(bench_);
    struct rpc_server *server = NULL;
    struct rpc_server_options options = {.authenticate = authenticate};
    char bound_url[RPC_URL_MAX_BYTES];
    struct err_detail why = {0};
    enum err err = ERR_OK;
    if (tls_options != NULL) {
        err = rpc_tls_server_new(tls_options, &options.tls, &why);
    }
    if (err == ERR_OK) {
        err = rpc_server_new(&options, &server);
    }
    if (err == ERR_OK) {
        err = rpc_server_add_service(server, &service.base, rules, sizeof(rules) / sizeof(rules[0]));
    }
    if (err == ERR_OK) {
        err = rpc_server_listen(server, url, bound_url, &why);
    }
    if (err != ERR_OK) {
        die(url, err_message(&why, err));
    }
    printf("ready %s\n", bound_url);
    fflush(stdout);
    wait_for_end_of_input();
    rpc_server_free(&server);
    rpc_tls_server_free(&options.tls);
}

// One context of the REP socket: receives, sends the same message back, and begins again.
struct echo_context {
    nng_ctx ctx;
    nng_aio *aio;
    bool is_sending;
};

static void
on_rep_step(void *arg)
{
    struct echo_context *context = arg;
    if (nng_aio_result(context->aio) != 0) {
        return;
    }
    if (context->is_sending) {
        context->is_sending = false;
        nng_ctx_recv(context->ctx, context->aio);
    } else {
        context->is_sending = true; // the received message is still in the aio
        nng_ctx_send(context->ctx, context->aio);
    }
}

static void
serve_nng(const char *url)
{
    enum { CONTEXTS = 64 };
    static struct echo_context contexts[CONTEXTS];
    nng_socket socket;
    nng_listener listener;
    char *bound_url = NULL;
    int rv = nng_rep0_open(&socket);
    if (rv == 0) {
        rv = nng_listen(socket, url, &listener, 0);
    }
    if (rv == 0) {
        rv = nng_listener_get_string(listener, NNG_OPT_URL, &bound_url);
    }
    for (size_t i = 0; rv == 0 && i < CONTEXTS; i++) {
        rv = nng_ctx_open(&contexts[i].ctx, socket);
        if (rv == 0) {
            rv = nng_aio_alloc(&contexts[i].aio, on_rep_step, &contexts[i]);
        }
        if (rv == 0) {
            nng_ctx_recv(contexts[i].ctx, contexts[i].aio);
        }
    }
    if (rv != 0) {
        die(url, nng_strerror(rv));
    }
    printf("ready %s\n", bound_url);
    fflush(stdout);
    wait_for_end_of_input();
    _exit(0); // closing an nng socket under traffic can hang
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "fc") == 0) {
        serve_fc(argv[2], NULL);
    } else if (argc == 5 && strcmp(argv[1], "fc") == 0) {
        serve_fc(argv[2], &(struct rpc_tls_server_options){.certificate_path = argv[3], .key_path = argv[4]});
    } else if (argc == 3 && strcmp(argv[1], "nng") == 0) {
        serve_nng(argv[2]);
    } else {
        fprintf(stderr, "usage: bench_rpc_server fc|nng URL, or fc URL CERTIFICATE KEY\n");
        return 2;
    }
    return 0;
}
