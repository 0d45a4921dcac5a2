// Reflection over a real socket, through raw calls as a client without generated code makes them.
#include <fc_proto_json_descriptors.h>
#include <fc_proto_test_descriptors.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_channel.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_schema.h"
#include "rpc/rpc_server.h"
#include "rpc/sp_pipe.h"

#include "fc/rpc/v1/reflection.pb-c.h"
#include "fc/test/v1/echo.pb-c.h"

static struct rpc_server *server;
static struct rpc_channel *channel;

static void
echo(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    Fc__Test__V1__EchoResponse response = FC__TEST__V1__ECHO_RESPONSE__INIT;
    response.text = request->text;
    reply(&response, closure_data);
}

static void
echo_later(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__EchoLaterRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)request;
    (void)reply;
    rpc_call_fail(closure_data, ERR_CONFLICT, "never");
}

static void
fail_handler(Fc__Test__V1__Echo_Service *service, const Fc__Test__V1__FailRequest *request,
    Fc__Test__V1__EchoResponse_Closure reply, void *closure_data)
{
    (void)service;
    (void)reply;
    rpc_call_fail(closure_data, ERR_CONFLICT, "as asked: %s", request->message);
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
    .base = {&fc__test__v1__echo__descriptor, protobuf_c_service_invoke_internal, NULL},
    .echo = echo,
    .echo_as_user = echo,
    .echo_later = echo_later,
    .fail = fail_handler,
    .count = count,
};

static const struct rpc_method_rule rules[] = {
    {.method = "Echo", .access = RPC_ACCESS_PUBLIC},
    {.method = "EchoAsUser", .access = RPC_ACCESS_PUBLIC},
    {.method = "EchoLater", .access = RPC_ACCESS_PUBLIC},
    {.method = "Fail", .access = RPC_ACCESS_PUBLIC},
    {.method = "Count", .access = RPC_ACCESS_PUBLIC},
};

static int
start(void **state)
{
    (void)state;
    char url[RPC_URL_MAX_BYTES];
    struct rpc_server_options options = {0};
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service.base, rules, sizeof(rules) / sizeof(rules[0])));
    // json2.proto imports json.proto; the second time nothing is new.
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ERR_OK,
            rpc_server_describe(server, bytes_view_of(fc_proto_json_descriptors, fc_proto_json_descriptors_bytes)));
        assert_int_equal(ERR_OK,
            rpc_server_describe(server, bytes_view_of(fc_proto_test_descriptors, fc_proto_test_descriptors_bytes)));
    }
    assert_int_equal(ERR_INVALID, rpc_server_describe(server, bytes_view_of("\x0a\xff", 2)));
    assert_int_equal(ERR_OK, rpc_server_listen(server, "tcp://127.0.0.1:0", url, NULL));
    assert_int_equal(ERR_OK, rpc_channel_new(&(struct rpc_channel_options){.url = url}, &channel, NULL));
    return 0;
}

static int
end(void **state)
{
    (void)state;
    rpc_channel_free(&channel);
    rpc_server_free(&server);
    sp_pipe_drain_reaper();
    return 0;
}

static void
test_services_are_listed_in_order(void **state)
{
    (void)state;
    Fc__Rpc__V1__ListServicesRequest request = FC__RPC__V1__LIST_SERVICES_REQUEST__INIT;
    struct rpc_unary call;
    rpc_unary_init(&call, channel, &fc__rpc__v1__reflection__descriptor);
    fc__rpc__v1__reflection__list_services(&call.service, &request, NULL, NULL);
    assert_int_equal(ERR_OK, rpc_unary_wait(&call));
    const Fc__Rpc__V1__ListServicesResponse *response = rpc_unary_response(&call);
    bool has_echo = false, has_reflection = false;
    for (size_t i = 0; i < response->n_services; i++) {
        assert_true(i == 0 || strcmp(response->services[i - 1], response->services[i]) < 0);
        has_echo |= strcmp(response->services[i], "fc.test.v1.Echo") == 0;
        has_reflection |= strcmp(response->services[i], "fc.rpc.v1.Reflection") == 0;
    }
    assert_true(has_echo && has_reflection);
    rpc_unary_deinit(&call);
}

// ask returns the code, and on success the schema of the answer.
static enum rpc_code
ask(const char *symbol, struct rpc_schema **schema_out)
{
    char name[512];
    snprintf(name, sizeof(name), "%s", symbol);
    Fc__Rpc__V1__GetDescriptorsRequest request = FC__RPC__V1__GET_DESCRIPTORS_REQUEST__INIT;
    request.symbol = name;
    struct rpc_unary call;
    rpc_unary_init(&call, channel, &fc__rpc__v1__reflection__descriptor);
    fc__rpc__v1__reflection__get_descriptors(&call.service, &request, NULL, NULL);
    enum err err = rpc_unary_wait(&call);
    if (err == ERR_OK) {
        const Fc__Rpc__V1__GetDescriptorsResponse *response = rpc_unary_response(&call);
        struct bytes_view files[8];
        assert_true(response->n_files <= sizeof(files) / sizeof(files[0]));
        for (size_t i = 0; i < response->n_files; i++) {
            files[i] = bytes_view_of(response->files[i].data, response->files[i].len);
        }
        struct err_detail why = {0};
        if (rpc_schema_new(files, response->n_files, schema_out, &why) != ERR_OK) {
            fail_msg("%s", why.message);
        }
    }
    enum rpc_code code = call.status.code;
    rpc_unary_deinit(&call);
    return code;
}

static void
test_a_symbol_gets_its_file_and_what_that_imports(void **state)
{
    (void)state;
    struct rpc_schema *schema = NULL;
    assert_int_equal(RPC_OK, ask("fc.test.v1.Older", &schema));
    assert_int_equal(2, rpc_schema_file_count(schema));
    assert_string_equal("fc/test/v1/json.proto", rpc_schema_file_at(schema, 0)->name);
    assert_string_equal("fc/test/v1/json2.proto", rpc_schema_file_at(schema, 1)->name);
    rpc_schema_free(&schema);

    const char *others[] = {"fc.test.v1.Echo", "fc.test.v1.Echo/Fail", "fc.test.v1.Echo.Fail", "fc.test.v1.EchoRequest",
        "fc.test.v1.EchoRequest.LabelsEntry"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(RPC_OK, ask(others[i], &schema));
        assert_int_equal(1, rpc_schema_file_count(schema));
        assert_non_null(rpc_schema_find(schema, others[i]));
        rpc_schema_free(&schema);
    }
    assert_int_equal(RPC_OK, ask("fc.rpc.v1.Reflection", &schema)); // itself
    const rpc_schema_file *file = rpc_schema_file_at(schema, rpc_schema_file_count(schema) - 1);
    assert_true(file->source_code_info->n_location > 0); // with comments
    rpc_schema_free(&schema);
}

static void
test_unknown_and_impossible_symbols_are_refused(void **state)
{
    (void)state;
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(RPC_NOT_FOUND, ask("fc.test.v1.Nope", NULL));
    assert_int_equal(RPC_NOT_FOUND, ask("fc.test.v1", NULL));
    assert_int_equal(RPC_INVALID_ARGUMENT, ask("", NULL));
    assert_int_equal(RPC_INVALID_ARGUMENT, ask(long_name, NULL));
}

static enum err
call_raw(const char *method, struct bytes_view request, struct bytes *response, struct rpc_status *status)
{
    struct rpc_unary call;
    rpc_unary_init(&call, channel, NULL);
    rpc_unary_start_raw(&call, method, request);
    enum err err = rpc_unary_wait(&call);
    assert_null(rpc_unary_response(&call));
    bytes_clear(response);
    assert_int_equal(ERR_OK, bytes_append(response, rpc_unary_raw_response(&call)));
    *status = call.status;
    rpc_unary_deinit(&call);
    rpc_unary_deinit(&call); // may run twice
    return err;
}

static void
test_raw_calls_carry_encoded_messages(void **state)
{
    (void)state;
    static const uint8_t hello[] = {0x0a, 5, 'h', 'e', 'l', 'l', 'o'}; // text = 1, in request and response
    struct bytes response = {0};
    struct rpc_status status;
    assert_int_equal(ERR_OK, call_raw("fc.test.v1.Echo/Echo", bytes_view_of(hello, sizeof(hello)), &response, &status));
    assert_true(bytes_view_equal(bytes_view_of(hello, sizeof(hello)), bytes_as_view(&response)));
    assert_int_equal(ERR_OK, call_raw("fc.test.v1.Echo/Count", bytes_view_of(NULL, 0), &response, &status));
    assert_int_equal(0, response.size);

    static const uint8_t why[] = {0x12, 3, 'w', 'h', 'y'};
    enum err err = call_raw("fc.test.v1.Echo/Fail", bytes_view_of(why, sizeof(why)), &response, &status);
    assert_int_equal(rpc_code_to_err(status.code), err);
    assert_string_equal("as asked: why", status.detail.message);
    assert_int_equal(0, response.size);

    assert_int_equal(ERR_INVALID, call_raw("fc.test.v1.Echo/Echo", bytes_view_of("\xff", 1), &response, &status));
    assert_int_equal(ERR_UNIMPLEMENTED, call_raw("fc.test.v1.Echo/Nope", bytes_view_of(NULL, 0), &response, &status));
    assert_int_equal(ERR_UNIMPLEMENTED, call_raw("", bytes_view_of(NULL, 0), &response, &status));

    // A name longer than any is not sent, and not cut to another one.
    char long_name[1000];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(rpc_code_to_err(RPC_RESOURCE_EXHAUSTED),
        call_raw(long_name, bytes_view_of(NULL, 0), &response, &status));
    bytes_free(&response);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_services_are_listed_in_order),
        cmocka_unit_test(test_a_symbol_gets_its_file_and_what_that_imports),
        cmocka_unit_test(test_unknown_and_impossible_symbols_are_refused),
        cmocka_unit_test(test_raw_calls_carry_encoded_messages),
    };
    return cmocka_run_group_tests(tests, start, end);
}
