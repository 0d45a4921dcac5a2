// For tests with a real server: the service fc.test.v1.Echo.
#ifndef TESTS_UNIT_ECHO_SUPPORT_H
#define TESTS_UNIT_ECHO_SUPPORT_H

#include <stdatomic.h>

#include "rpc/rpc_call.h"
#include "rpc/rpc_server.h"
#include "wire_support.h"

#include "fc/test/v1/echo.pb-c.h"

static atomic_size_t slow_calls;

static void
echo(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.text = request->text;
    response.data = request->data;
    reply(&response, closure_data);
}

static void
echo_later(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoLaterRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    atomic_fetch_add(&slow_calls, 1);
    (void)poll(NULL, 0, (int)request->delay_ms); // keeps its worker busy
    reply(&response, closure_data);
}

static void
fail_always(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__FailRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    (void)reply;
    rpc_call_fail(closure_data, ERR_NOT_FOUND, "no such thing");
}

static void
count(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__CountRequest *request,
    Fc__Test__V1__CountResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    Fc__Test__V1__CountResponse response = FC__TEST__V1__COUNT_RESPONSE__INIT;
    reply(&response, closure_data);
}

static Fc__Test__V1__Echo_Service service = {
    .base = {.descriptor = &fc__test__v1__echo__descriptor, .invoke = protobuf_c_service_invoke_internal},
    .echo = echo,
    .echo_as_user = echo,
    .echo_later = echo_later,
    .fail = fail_always,
    .count = count,
};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC, .max_request_bytes = RPC_MESSAGE_MAX_BYTES},
    {.method = "EchoAsUser", .access = RPC_ACCESS_PUBLIC},
    {.method = "EchoLater", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC},
};

#endif
