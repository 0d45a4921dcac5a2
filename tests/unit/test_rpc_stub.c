// The typed calls that fc-gen makes of echo.proto, with a real server.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "echo_support.h"
#include "rpc/rpc_channel.h"
#include "rpc/sp_pipe.h"

#include "fc/test/v1/echo.stub.h"
#include "fc/test/v1/names.stub.h"

static struct rpc_server *server;
static struct rpc_channel *channel;

static int
set_up(void **state)
{
    (void)state;
    char url[RPC_URL_MAX_BYTES];
    char bound_url[RPC_URL_MAX_BYTES];
    struct rpc_server_options options = {0};
    struct err_detail why = {0};
    (void)snprintf(url, sizeof(url), "ipc:///tmp/test_rpc_stub.%d", (int)getpid());
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_int_equal(ERR_OK, rpc_server_add_service(server, &service.base, rules, sizeof(rules) / sizeof(rules[0])));
    if (rpc_server_listen(server, url, bound_url, &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
    assert_int_equal(ERR_OK, rpc_channel_new(&(struct rpc_channel_options){.url = bound_url}, &channel, &why));
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    rpc_channel_free(&channel);
    rpc_server_free(&server);
    sp_pipe_drain_reaper();
    return 0;
}

static void
test_a_call_waits_for_its_response(void **state)
{
    (void)state;
    struct rpc_unary call;
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    const Fc__Test__V1__EchoResponse *response = NULL;
    request.text = (char[]){"hello"};
    fc_test_v1_echo_init(&call, channel);
    assert_int_equal(RPC_TIMEOUT_DEFAULT_MS, call.timeout_ms);
    call.is_idempotent = true;
    assert_int_equal(ERR_OK, fc_test_v1_echo_echo_as_user(&call, &request, &response));
    assert_string_equal("hello", response->text);
    assert_ptr_equal(response, fc_test_v1_echo_echo_as_user_response(&call));
    rpc_unary_deinit(&call);
}

static void
test_nobody_needs_to_look_at_a_response(void **state)
{
    (void)state;
    struct rpc_unary call;
    Fc__Test__V1__CountRequest request = FC__TEST__V1__COUNT_REQUEST__INIT;
    fc_test_v1_echo_init(&call, channel);
    assert_int_equal(ERR_OK, fc_test_v1_echo_count(&call, &request, NULL));
    rpc_unary_deinit(&call);
}

static void
test_a_failure_leaves_the_response_alone_and_explains(void **state)
{
    (void)state;
    struct rpc_unary call;
    Fc__Test__V1__FailRequest request = FC__TEST__V1__FAIL_REQUEST__INIT;
    const Fc__Test__V1__EchoResponse before = FC__TEST__V1__ECHO_RESPONSE__INIT;
    const Fc__Test__V1__EchoResponse *response = &before;
    fc_test_v1_echo_init(&call, channel);
    assert_int_equal(ERR_NOT_FOUND, fc_test_v1_echo_fail(&call, &request, &response));
    assert_ptr_equal(&before, response);
    assert_null(fc_test_v1_echo_fail_response(&call));
    assert_string_equal("no such thing", call.status.detail.message);
    rpc_unary_deinit(&call);
}

static void
test_a_call_that_was_started_is_waited_for(void **state)
{
    (void)state;
    struct rpc_unary calls[2];
    for (size_t i = 0; i < 2; i++) {
        char text[] = "call 0";
        Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
        text[5] = (char)('0' + i);
        request.text = text;
        fc_test_v1_echo_init(&calls[i], channel);
        fc_test_v1_echo_echo_start(&calls[i], &request);
        memset(text, '-', strlen(text)); // no longer needed
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ERR_OK, rpc_unary_wait(&calls[i]));
        assert_int_equal('0' + i, fc_test_v1_echo_echo_response(&calls[i])->text[5]);
        rpc_unary_deinit(&calls[i]);
    }
}

struct ended {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool has_ended;
    enum rpc_code code;
    bool has_response;
};

static void
on_done(struct rpc_unary *call)
{
    struct ended *ended = call->context;
    pthread_mutex_lock(&ended->mutex);
    ended->code = call->status.code;
    ended->has_response = fc_test_v1_echo_echo_later_response(call) != NULL;
    rpc_unary_deinit(call);
    ended->has_ended = true;
    pthread_cond_signal(&ended->changed);
    pthread_mutex_unlock(&ended->mutex);
}

static void
test_a_call_that_was_started_calls_back(void **state)
{
    (void)state;
    struct rpc_unary call;
    struct ended ended = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    Fc__Test__V1__EchoLaterRequest request = FC__TEST__V1__ECHO_LATER_REQUEST__INIT;
    request.delay_ms = 1;
    fc_test_v1_echo_init(&call, channel);
    call.on_done = on_done;
    call.context = &ended;
    fc_test_v1_echo_echo_later_start(&call, &request);
    pthread_mutex_lock(&ended.mutex);
    while (!ended.has_ended) {
        pthread_cond_wait(&ended.changed, &ended.mutex);
    }
    pthread_mutex_unlock(&ended.mutex);
    assert_int_equal(RPC_OK, ended.code);
    assert_true(ended.has_response);
}

// The server has no such service. Of interest is that it compiles.
static void
test_names_are_those_of_protoc_c(void **state)
{
    (void)state;
    struct rpc_unary call;
    Fc__TestNames__V1b__WhoAmI__InnerOne2 request = FC__TEST_NAMES__V1B__WHO_AM_I__INNER_ONE2__INIT;
    const Fc__TestNames__V1b__WhoAmI *response = NULL;
    fc_test_names_v1b_httpproxy2_init(&call, channel);
    assert_int_equal(ERR_UNIMPLEMENTED, fc_test_names_v1b_httpproxy2_get_urlof_item(&call, &request, &response));
    assert_null(response);
    rpc_unary_deinit(&call);
    fc_test_names_v1b_a_init(&call, channel);
    rpc_unary_deinit(&call);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_waits_for_its_response),
        cmocka_unit_test(test_nobody_needs_to_look_at_a_response),
        cmocka_unit_test(test_a_failure_leaves_the_response_alone_and_explains),
        cmocka_unit_test(test_a_call_that_was_started_is_waited_for),
        cmocka_unit_test(test_a_call_that_was_started_calls_back),
        cmocka_unit_test(test_names_are_those_of_protoc_c),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
