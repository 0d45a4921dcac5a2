// Calls with one request and one reply: what a runtime promises of them.
#include "conformance_client.h"
#include "rpc/rpc_frame.h"

#include "fc/rpc/v1/rpc.pb-c.h"

enum {
    PARALLEL = 1000,
    ECHO_MAX_BYTES = 4 * 1024 * 1024, // of conformance_server
};

// ---- Messages

static void
start_echo(struct rpc_unary *call, uint64_t number, uint8_t *data, size_t size)
{
    Fc__Test__V1__ConformanceData request = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    request.number = number;
    request.data.data = data;
    request.data.len = size;
    fc__test__v1__conformance__echo(&call->service, &request, NULL, NULL);
}

static void
assert_echoes(void)
{
    struct rpc_unary call;
    conformance_init(&call);
    start_echo(&call, 1, NULL, 0);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    rpc_unary_deinit(&call);
}

static void
test_an_empty_message_is_one(void **state)
{
    (void)state;
    struct rpc_unary call;
    Fc__Test__V1__ConformanceNothing request = FC__TEST__V1__CONFORMANCE_NOTHING__INIT;
    conformance_init(&call);
    fc__test__v1__conformance__empty(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    assert_non_null(rpc_unary_response(&call));
    rpc_unary_deinit(&call);
}

static void
sized(uint32_t size, enum rpc_code code)
{
    struct rpc_unary call;
    Fc__Test__V1__SizedRequest request = FC__TEST__V1__SIZED_REQUEST__INIT;
    request.size = size;
    conformance_init(&call);
    fc__test__v1__conformance__sized(&call.service, &request, NULL, NULL);
    (void)!rpc_unary_wait(&call);
    assert_int_equal(call.status.code, code);
    if (code == RPC_OK) {
        assert_int_equal(((const Fc__Test__V1__ConformanceData *)rpc_unary_response(&call))->data.len, size);
    }
    rpc_unary_deinit(&call);
}

static void
test_large_messages(void **state)
{
    (void)state;
    enum { UP_BYTES = 271828, DOWN_BYTES = 314159 };
    struct rpc_unary call;
    uint8_t *data = malloc(UP_BYTES);
    assert_non_null(data);
    for (size_t i = 0; i < UP_BYTES; i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    conformance_init(&call);
    start_echo(&call, 1, data, UP_BYTES);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    const Fc__Test__V1__ConformanceData *response = rpc_unary_response(&call);
    assert_int_equal(response->data.len, UP_BYTES);
    assert_memory_equal(response->data.data, data, UP_BYTES);
    rpc_unary_deinit(&call);
    free(data);
    sized(DOWN_BYTES, RPC_OK);
    sized(RPC_MESSAGE_MAX_BYTES - 100, RPC_OK);
    sized(RPC_MESSAGE_MAX_BYTES, RPC_INTERNAL); // the server's own doing
}

// What has to be added to data of so many bytes to make a message of exactly `size`.
static size_t
data_bytes_for(size_t size)
{
    Fc__Test__V1__ConformanceData request = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    request.number = 1;
    request.data.len = size;
    while (protobuf_c_message_get_packed_size(&request.base) > size) {
        request.data.len--;
    }
    return request.data.len;
}

static void
test_requests_around_the_limit_of_a_method(void **state)
{
    (void)state;
    uint8_t *data = calloc(1, ECHO_MAX_BYTES + 1);
    assert_non_null(data);
    for (int more = -1; more <= 1; more++) {
        struct rpc_unary call;
        conformance_init(&call);
        start_echo(&call, 1, data, data_bytes_for((size_t)(ECHO_MAX_BYTES + more)));
        assert_int_equal(rpc_unary_wait(&call), more <= 0 ? ERR_OK : ERR_LIMIT);
        rpc_unary_deinit(&call);
    }
    free(data);
    // One that no message may be is not even sent.
    struct rpc_unary call;
    uint8_t *too_much = calloc(1, RPC_MESSAGE_MAX_BYTES);
    assert_non_null(too_much);
    conformance_init(&call);
    start_echo(&call, 1, too_much, RPC_MESSAGE_MAX_BYTES);
    assert_int_equal(rpc_unary_wait(&call), ERR_LIMIT);
    assert_false(call.was_sent);
    rpc_unary_deinit(&call);
    free(too_much);
    assert_echoes();
}

static void
test_a_thousand_at_once(void **state)
{
    (void)state;
    enum { SIZE = 4096 };
    struct rpc_unary *calls = calloc(PARALLEL, sizeof *calls);
    uint8_t data[SIZE];
    assert_non_null(calls);
    for (size_t i = 0; i < PARALLEL; i++) {
        memset(data, (int)i, sizeof data);
        conformance_init(&calls[i]);
        start_echo(&calls[i], i, data, sizeof data);
    }
    for (size_t i = 0; i < PARALLEL; i++) {
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_OK);
        const Fc__Test__V1__ConformanceData *response = rpc_unary_response(&calls[i]);
        assert_int_equal(response->number, i);
        assert_int_equal(response->data.len, SIZE);
        assert_int_equal(response->data.data[SIZE - 1], (uint8_t)i);
        rpc_unary_deinit(&calls[i]);
    }
    free(calls);
}

// ---- Status

static void
fail_with(uint32_t code, const char *message)
{
    struct rpc_unary call;
    Fc__Test__V1__ConformanceFailure request = FC__TEST__V1__CONFORMANCE_FAILURE__INIT;
    char *copy = strdup(message);
    char reason[] = "A_REASON";
    request.code = code;
    request.message = copy;
    request.reason = reason;
    request.retry_after_ms = 1234;
    conformance_init(&call);
    fc__test__v1__conformance__fail(&call.service, &request, NULL, NULL);
    (void)!rpc_unary_wait(&call);
    assert_int_equal(call.status.code, code <= RPC_UNAUTHENTICATED ? code : RPC_UNKNOWN);
    assert_int_equal(call.status.raw_code, code);
    assert_string_equal(call.status.reason, "A_REASON");
    assert_int_equal(call.status.retry_after_ms, 1234);
    // A longer one is cut by the client, which keeps messages that fit a line or two.
    assert_memory_equal(call.status.detail.message, message,
        strlen(message) < sizeof call.status.detail.message ? strlen(message) + 1 : 100);
    assert_null(rpc_unary_response(&call));
    rpc_unary_deinit(&call);
    free(copy);
}

static void
test_every_code(void **state)
{
    (void)state;
    char longest[RPC_STATUS_MESSAGE_MAX_BYTES + 1];
    for (uint32_t code = 1; code <= RPC_UNAUTHENTICATED; code++) {
        fail_with(code, "gr\xc3\xbc\xc3\x9f \"quoted\",\nand a second line");
    }
    fail_with(99, "of a later day");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    fail_with(RPC_ABORTED, longest);
}

static void
call_unknown(const char *method, const char *word)
{
    struct rpc_unary call;
    rpc_unary_init(&call, conformance.channel, NULL);
    rpc_unary_start_raw(&call, method, bytes_view_of(NULL, 0));
    assert_int_equal(rpc_unary_wait(&call), ERR_UNIMPLEMENTED);
    assert_non_null(strstr(call.status.detail.message, word));
    rpc_unary_deinit(&call);
}

static void
test_unknown_methods_and_services(void **state)
{
    (void)state;
    call_unknown(METHOD("Fly"), "no method \"Fly\"");
    call_unknown("fc.test.v2.Conformance/Echo", "no service \"fc.test.v2.Conformance\"");
    call_unknown(METHOD("Mirror"), "streams");
    assert_echoes();
}

static void
test_tokens(void **state)
{
    (void)state;
    Fc__Test__V1__ConformanceNothing request = FC__TEST__V1__CONFORMANCE_NOTHING__INIT;
    static const char *const tokens[] = {NULL, "fct_wrong", "fct_conformance"};
    for (size_t i = 0; i < 3; i++) {
        struct rpc_unary call;
        assert_int_equal(rpc_channel_set_token(conformance.channel, tokens[i]), ERR_OK);
        conformance_init(&call);
        fc__test__v1__conformance__who_am_i(&call.service, &request, NULL, NULL);
        assert_int_equal(rpc_unary_wait(&call), i == 2 ? ERR_OK : ERR_UNAUTHENTICATED);
        rpc_unary_deinit(&call);
    }
    assert_int_equal(rpc_channel_set_token(conformance.channel, NULL), ERR_OK);
}

// ---- Metadata

static void
carry_metadata(bool fails)
{
    static const struct rpc_metadata sent[] = {
        {"text", {(const uint8_t *)"hello", 5}},
        {"data-bin", {(const uint8_t *)"\xab\xab\xab", 3}},
        {"empty", {NULL, 0}},
        {"text", {(const uint8_t *)"again", 5}},
        {"zeros", {(const uint8_t *)"\0a\0", 3}},
    };
    enum { SENT = sizeof sent / sizeof sent[0] };
    struct rpc_unary call;
    Fc__Test__V1__MetadataRequest request = FC__TEST__V1__METADATA_REQUEST__INIT;
    request.fails = fails;
    conformance_init(&call);
    call.metadata = sent;
    call.metadata_count = SENT;
    fc__test__v1__conformance__metadata(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), fails ? ERR_PRECONDITION : ERR_OK);
    assert_int_equal(rpc_unary_metadata_count(&call), SENT);
    for (size_t i = 0; i < SENT; i++) {
        struct rpc_metadata entry = rpc_unary_metadata(&call, i);
        assert_string_equal(entry.key, sent[i].key);
        assert_true(bytes_view_equal(entry.value, sent[i].value));
        if (!fails) {
            const Fc__Test__V1__MetadataResponse *response = rpc_unary_response(&call);
            assert_string_equal(response->pairs[i]->key, sent[i].key);
        }
    }
    rpc_unary_deinit(&call);
}

static void
test_metadata_both_ways(void **state)
{
    (void)state;
    carry_metadata(false);
    carry_metadata(true);
}

// ---- Time

static void
start_sleep(struct rpc_unary *call, const char *label, uint32_t delay_ms)
{
    Fc__Test__V1__SleepRequest request = FC__TEST__V1__SLEEP_REQUEST__INIT;
    char copy[32];
    (void)snprintf(copy, sizeof copy, "%s", label);
    request.delay_ms = delay_ms;
    request.label = copy;
    fc__test__v1__conformance__sleep(&call->service, &request, NULL, NULL);
}

static void
test_deadlines_reach_both_ends(void **state)
{
    (void)state;
    enum { CALLS = 1000 }; // fewer than a connection may have outstanding
    char label[32];
    struct rpc_unary *calls = calloc(CALLS, sizeof *calls);
    assert_non_null(calls);
    conformance_label(label);
    for (size_t i = 0; i < CALLS; i++) {
        conformance_init(&calls[i]);
        calls[i].timeout_ms = 300;
        start_sleep(&calls[i], label, 600000);
    }
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_TIMEOUT);
        rpc_unary_deinit(&calls[i]);
    }
    free(calls);
    // Those that were begun have been given up; none is left, and none is answered in vain.
    uint64_t end_ms = clock_monotonic_ms() + conformance_limit_ms();
    Fc__Test__V1__SleepersResponse tally = conformance_sleepers(label);
    while (tally.gave_up < tally.started) {
        assert_true(clock_monotonic_ms() < end_ms);
        tally = conformance_sleepers(label);
    }
    assert_echoes();
}

static void
test_a_deadline_travels_with_the_call(void **state)
{
    (void)state;
    struct rpc_unary call;
    Fc__Test__V1__ConformanceNothing request = FC__TEST__V1__CONFORMANCE_NOTHING__INIT;
    conformance_init(&call);
    call.timeout_ms = 54321;
    fc__test__v1__conformance__time_left(&call.service, &request, NULL, NULL);
    assert_int_equal(rpc_unary_wait(&call), ERR_OK);
    const Fc__Test__V1__TimeLeftResponse *response = rpc_unary_response(&call);
    assert_in_range(response->ms, 1, 54321);
    rpc_unary_deinit(&call);
}

static void
test_cancels_free_the_server(void **state)
{
    (void)state;
    enum { CALLS = 64 };
    char label[32];
    struct rpc_unary calls[CALLS];
    conformance_label(label);
    assert_echoes(); // so that the server has said that it takes cancels
    for (size_t i = 0; i < CALLS; i++) {
        conformance_init(&calls[i]);
        start_sleep(&calls[i], label, 600000);
    }
    conformance_wait_for_sleepers(label, CALLS, 0);
    for (size_t i = 0; i < CALLS; i++) {
        rpc_unary_cancel(&calls[i]);
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_CANCELLED);
        rpc_unary_deinit(&calls[i]);
    }
    conformance_wait_for_sleepers(label, CALLS, CALLS);
    // At once after the start, when it may not have arrived.
    for (size_t i = 0; i < CALLS; i++) {
        conformance_init(&calls[i]);
        start_echo(&calls[i], i, NULL, 0);
        rpc_unary_cancel(&calls[i]);
        enum err err = rpc_unary_wait(&calls[i]);
        assert_true(err == ERR_OK || err == ERR_CANCELLED);
        rpc_unary_deinit(&calls[i]);
    }
    assert_echoes();
}

static void
test_a_client_that_goes_frees_the_server(void **state)
{
    (void)state;
    enum { CALLS = 64 };
    char label[32];
    struct rpc_unary calls[CALLS];
    struct rpc_channel *channel = conformance_channel(conformance.url);
    conformance_label(label);
    for (size_t i = 0; i < CALLS; i++) {
        rpc_unary_init(&calls[i], channel, &fc__test__v1__conformance__descriptor);
        calls[i].timeout_ms = conformance_limit_ms();
        start_sleep(&calls[i], label, 600000);
    }
    conformance_wait_for_sleepers(label, CALLS, 0);
    rpc_channel_free(&channel);
    for (size_t i = 0; i < CALLS; i++) {
        rpc_unary_deinit(&calls[i]);
    }
    conformance_wait_for_sleepers(label, CALLS, CALLS);
}

// ---- Once

static void
start_count(struct rpc_unary *call, const char *label, const uint8_t *request_id, uint32_t delay_ms)
{
    Fc__Test__V1__ExecuteRequest request = FC__TEST__V1__EXECUTE_REQUEST__INIT;
    char copy[32];
    (void)snprintf(copy, sizeof copy, "%s", label);
    request.label = copy;
    request.delay_ms = delay_ms;
    conformance_init(call);
    if (request_id != NULL) {
        memcpy(call->request_id, request_id, sizeof call->request_id);
    }
    fc__test__v1__conformance__count(&call->service, &request, NULL, NULL);
}

static uint64_t
finish_count(struct rpc_unary *call)
{
    assert_int_equal(rpc_unary_wait(call), ERR_OK);
    uint64_t executions = ((const Fc__Test__V1__ExecuteResponse *)rpc_unary_response(call))->executions;
    rpc_unary_deinit(call);
    return executions;
}

static void
test_a_call_executes_once_for_each_request_id(void **state)
{
    (void)state;
    enum { RESENDS = 8 };
    char label[32];
    struct rpc_unary calls[RESENDS];
    uint8_t request_id[RPC_REQUEST_ID_BYTES];
    conformance_label(label);
    start_count(&calls[0], label, NULL, 0);
    memcpy(request_id, calls[0].request_id, sizeof request_id);
    assert_int_equal(finish_count(&calls[0]), 1);
    start_count(&calls[0], label, request_id, 0);
    assert_int_equal(finish_count(&calls[0]), 1);
    // While the first one runs.
    request_id[0]++;
    for (size_t i = 0; i < RESENDS; i++) {
        start_count(&calls[i], label, request_id, 50);
    }
    for (size_t i = 0; i < RESENDS; i++) {
        assert_int_equal(finish_count(&calls[i]), 2);
    }
    start_count(&calls[0], label, NULL, 0);
    assert_int_equal(finish_count(&calls[0]), 3);
}

// ---- Too much, and nonsense

static void
test_what_is_over_the_limit_of_a_connection_is_refused_at_once(void **state)
{
    (void)state;
    enum { CALLS = 3000, OUTSTANDING_MAX = 1024 };
    char label[32];
    size_t refused = 0;
    struct rpc_unary *calls = calloc(CALLS, sizeof *calls);
    assert_non_null(calls);
    conformance_label(label);
    for (size_t i = 0; i < CALLS; i++) {
        conformance_init(&calls[i]);
        start_sleep(&calls[i], label, 600000);
    }
    for (size_t i = OUTSTANDING_MAX; i < CALLS; i++) {
        refused += rpc_unary_wait(&calls[i]) == ERR_LIMIT;
        rpc_unary_deinit(&calls[i]);
    }
    assert_int_equal(refused, CALLS - OUTSTANDING_MAX);
    for (size_t i = 0; i < OUTSTANDING_MAX; i++) {
        rpc_unary_cancel(&calls[i]);
        assert_int_equal(rpc_unary_wait(&calls[i]), ERR_CANCELLED);
        rpc_unary_deinit(&calls[i]);
    }
    free(calls);
    conformance_wait_for_sleepers(label, 0, 0);
    uint64_t end_ms = clock_monotonic_ms() + conformance_limit_ms();
    enum err err = ERR_LIMIT;
    while (err != ERR_OK) { // as soon as the cancels have arrived
        struct rpc_unary call;
        assert_true(clock_monotonic_ms() < end_ms);
        conformance_init(&call);
        start_echo(&call, 1, NULL, 0);
        err = rpc_unary_wait(&call);
        rpc_unary_deinit(&call);
    }
}

static void
call_raw(const void *request, size_t size, enum rpc_code code)
{
    struct rpc_unary call;
    rpc_unary_init(&call, conformance.channel, NULL);
    rpc_unary_start_raw(&call, METHOD("Echo"), bytes_view_of(request, size));
    (void)!rpc_unary_wait(&call);
    assert_int_equal(call.status.code, code);
    rpc_unary_deinit(&call);
}

static void
test_bad_messages(void **state)
{
    (void)state;
    call_raw("\xff", 1, RPC_INVALID_ARGUMENT);         // no field
    call_raw("\x02\x00", 2, RPC_INVALID_ARGUMENT);     // field number 0
    call_raw("\x12\x01\xff", 3, RPC_INVALID_ARGUMENT); // no UTF-8
    call_raw("\x12\x03"
             "a\0b",
        5, RPC_INVALID_ARGUMENT); // a NUL
    call_raw("\x12\x05"
             "ab",
        4, RPC_INVALID_ARGUMENT);                                                           // cut short
    call_raw("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, RPC_INVALID_ARGUMENT); // 11 bytes of varint
    call_raw("\x12\x01"
             "a\x12\x01"
             "b",
        6, RPC_OK);                                  // the last of two
    call_raw("\xa2\x06\x01x", 4, RPC_OK);            // a field of a later day
    call_raw("\xfa\xff\xff\xff\x0f\x00", 6, RPC_OK); // the largest field number
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_message_is_one),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_requests_around_the_limit_of_a_method),
        cmocka_unit_test(test_a_thousand_at_once),
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_unknown_methods_and_services),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_metadata_both_ways),
        cmocka_unit_test(test_deadlines_reach_both_ends),
        cmocka_unit_test(test_a_deadline_travels_with_the_call),
        cmocka_unit_test(test_cancels_free_the_server),
        cmocka_unit_test(test_a_client_that_goes_frees_the_server),
        cmocka_unit_test(test_a_call_executes_once_for_each_request_id),
        cmocka_unit_test(test_what_is_over_the_limit_of_a_connection_is_refused_at_once),
        cmocka_unit_test(test_bad_messages),
    };
    return conformance_run(tests, sizeof tests / sizeof tests[0]);
}
