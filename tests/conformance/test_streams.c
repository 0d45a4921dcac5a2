// Streams: what a runtime promises of them.
#include <pthread.h>

#include "conformance_client.h"

static const ProtobufCMessageDescriptor *const data_type = &fc__test__v1__conformance_data__descriptor;

static enum err
send_data(struct rpc_client_stream *stream, uint64_t number, size_t size)
{
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    data.number = number;
    data.data.data = calloc(1, size + 1);
    data.data.len = size;
    assert_non_null(data.data.data);
    enum err err = rpc_client_stream_send(stream, &data.base);
    free(data.data.data);
    return err;
}

// The next message, or NULL; its number is checked.
static const Fc__Test__V1__ConformanceData *
receive_data(struct rpc_client_stream *stream, uint64_t number)
{
    const void *message = NULL;
    assert_int_equal(rpc_client_stream_receive(stream, &message), ERR_OK);
    const Fc__Test__V1__ConformanceData *data = message;
    if (data != NULL) {
        assert_int_equal(data->number, number);
    }
    return data;
}

static void
open_source(struct rpc_client_stream *stream, uint32_t count, uint32_t size, uint32_t code)
{
    Fc__Test__V1__StreamRequest request = FC__TEST__V1__STREAM_REQUEST__INIT;
    request.count = count;
    request.size = size;
    request.code = code;
    rpc_client_stream_init(stream, conformance.channel, data_type);
    stream->call.timeout_ms = conformance_limit_ms();
    rpc_client_stream_open_with(stream, METHOD("Stream"), &request.base);
}

static void
test_many_answers(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 31415, 9, 2653};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct rpc_client_stream stream;
        open_source(&stream, 4, sizes[i], 0);
        for (uint64_t number = 0; number < 4; number++) {
            assert_int_equal(receive_data(&stream, number)->data.len, sizes[i]);
        }
        assert_null(receive_data(&stream, 4));
        assert_null(receive_data(&stream, 4)); // and stays so
        assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
        rpc_client_stream_deinit(&stream);
    }
}

static void
test_more_than_the_credit(void **state)
{
    (void)state;
    enum { COUNT = 2000, SIZE = 10000 };
    struct rpc_client_stream stream;
    open_source(&stream, COUNT, SIZE, 0);
    for (uint64_t number = 0; number < COUNT; number++) {
        assert_non_null(receive_data(&stream, number));
    }
    assert_null(receive_data(&stream, COUNT));
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
    rpc_client_stream_deinit(&stream);
}

static void
test_no_messages(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    open_source(&stream, 0, 0, 0);
    assert_null(receive_data(&stream, 0));
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
    rpc_client_stream_deinit(&stream);
    conformance_open(&stream, METHOD("Mirror"), data_type);
    rpc_client_stream_end(&stream);
    rpc_client_stream_end(&stream);
    assert_int_equal(send_data(&stream, 0, 0), ERR_CLOSED);
    assert_null(receive_data(&stream, 0));
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
    rpc_client_stream_deinit(&stream);
}

static void
test_an_error_comes_after_the_messages(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    open_source(&stream, 2, 100, RPC_ABORTED);
    assert_non_null(receive_data(&stream, 0));
    assert_non_null(receive_data(&stream, 1));
    assert_null(receive_data(&stream, 2));
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_CONFLICT);
    assert_string_equal(stream.call.status.detail.message, "as asked");
    rpc_client_stream_deinit(&stream);
}

static void
test_many_requests(void **state)
{
    (void)state;
    enum { COUNT = 300, SIZE = 20000 };
    struct rpc_client_stream stream;
    const void *message = NULL;
    conformance_open(&stream, METHOD("Upload"), &fc__test__v1__upload_response__descriptor);
    for (uint64_t number = 0; number < COUNT; number++) {
        assert_int_equal(send_data(&stream, number, SIZE), ERR_OK);
    }
    rpc_client_stream_end(&stream);
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_OK);
    const Fc__Test__V1__UploadResponse *sum = message;
    assert_non_null(sum);
    assert_int_equal(sum->messages, COUNT);
    assert_int_equal(sum->bytes, COUNT * SIZE);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
    rpc_client_stream_deinit(&stream);
}

// ---- Both ways at once

static void *
send_all(void *context)
{
    struct rpc_client_stream *stream = context;
    for (uint64_t number = 0; number < 500; number++) {
        assert_int_equal(send_data(stream, number, 5000), ERR_OK);
    }
    rpc_client_stream_end(stream);
    return NULL;
}

static void
test_both_ways(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    pthread_t sender;
    conformance_open(&stream, METHOD("Mirror"), data_type);
    // In turn.
    for (uint64_t number = 0; number < 50; number++) {
        assert_int_equal(send_data(&stream, number, 10), ERR_OK);
        assert_non_null(receive_data(&stream, number));
    }
    // At once.
    assert_int_equal(pthread_create(&sender, NULL, send_all, &stream), 0);
    for (uint64_t number = 0; number < 500; number++) {
        assert_non_null(receive_data(&stream, number));
    }
    assert_null(receive_data(&stream, 500));
    assert_int_equal(pthread_join(sender, NULL), 0);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
    rpc_client_stream_deinit(&stream);
}

// ---- A reader that stops

static void
test_a_server_that_does_not_read_stops_its_sender_alone(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    uint8_t bytes[10000] = {0};
    size_t sent = 0;
    data.data.data = bytes;
    data.data.len = sizeof bytes;
    conformance_open(&stream, METHOD("Stall"), data_type);
    assert_int_equal(rpc_client_stream_send(&stream, &data.base), ERR_OK); // it is under way
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        err = rpc_client_stream_try_send(&stream, &data.base);
        sent += err == ERR_OK ? sizeof bytes : 0;
    }
    assert_int_equal(err, ERR_BUSY);
    assert_in_range(sent, RPC_STREAM_CREDIT_BYTES - 2 * sizeof bytes, RPC_STREAM_CREDIT_BYTES + sizeof bytes);
    // Others go on, on the same connection.
    struct rpc_client_stream other;
    open_source(&other, 100, 10000, 0);
    for (uint64_t number = 0; number < 100; number++) {
        assert_non_null(receive_data(&other, number));
    }
    rpc_client_stream_deinit(&other);
    rpc_client_stream_cancel(&stream);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_CANCELLED);
    assert_int_equal(rpc_client_stream_try_send(&stream, &data.base), ERR_CLOSED);
    rpc_client_stream_deinit(&stream);
}

static void
test_a_client_that_does_not_read_stops_its_server_alone(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    struct rpc_client_stream other;
    open_source(&stream, 1000000, 10000, 0);
    assert_non_null(receive_data(&stream, 0));
    open_source(&other, 200, 10000, 0);
    for (uint64_t number = 0; number < 200; number++) {
        assert_non_null(receive_data(&other, number));
    }
    rpc_client_stream_deinit(&other);
    assert_non_null(receive_data(&stream, 1));
    rpc_client_stream_deinit(&stream); // cancels
}

static void
test_cancel_in_the_middle(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct rpc_client_stream stream;
        conformance_open(&stream, METHOD("Mirror"), data_type);
        if (i % 3 > 0) {
            assert_int_equal(send_data(&stream, 0, 1000), ERR_OK);
        }
        if (i % 3 > 1) {
            assert_non_null(receive_data(&stream, 0));
        }
        rpc_client_stream_cancel(&stream);
        assert_int_equal(rpc_client_stream_finish(&stream), ERR_CANCELLED);
        rpc_client_stream_deinit(&stream);
    }
}

static void
test_a_stream_ends_at_its_deadline(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    const void *message = NULL;
    rpc_client_stream_init(&stream, conformance.channel, data_type);
    stream.call.timeout_ms = 50;
    rpc_client_stream_open(&stream, METHOD("Stall"));
    assert_int_equal(rpc_client_stream_receive(&stream, &message), ERR_OK);
    assert_null(message);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_TIMEOUT);
    rpc_client_stream_deinit(&stream);
}

static void
test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        const char *word;
    } cases[] = {{METHOD("Echo"), "no stream"}, {METHOD("Fly"), "Fly"}, {"x.Y/Z", "no service"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rpc_client_stream stream;
        conformance_open(&stream, cases[i].method, data_type);
        assert_null(receive_data(&stream, 0));
        assert_int_equal(rpc_client_stream_finish(&stream), ERR_UNIMPLEMENTED);
        assert_non_null(strstr(stream.call.status.detail.message, cases[i].word));
        rpc_client_stream_deinit(&stream);
    }
}

// ---- With the generated functions

static void
test_typed_functions(void **state)
{
    (void)state;
    struct rpc_client_stream stream;
    Fc__Test__V1__StreamRequest request = FC__TEST__V1__STREAM_REQUEST__INIT;
    Fc__Test__V1__ConformanceData data = FC__TEST__V1__CONFORMANCE_DATA__INIT;
    const Fc__Test__V1__ConformanceData *message = NULL;
    const Fc__Test__V1__UploadResponse *sum = NULL;
    request.count = 1;
    fc_test_v1_conformance_stream_init(&stream, conformance.channel);
    stream.call.timeout_ms = conformance_limit_ms();
    fc_test_v1_conformance_stream_open(&stream, &request);
    assert_int_equal(fc_test_v1_conformance_stream_receive(&stream, &message), ERR_OK);
    assert_non_null(message);
    assert_int_equal(fc_test_v1_conformance_stream_receive(&stream, &message), ERR_OK);
    assert_null(message);
    assert_int_equal(rpc_client_stream_finish(&stream), ERR_OK);
    rpc_client_stream_deinit(&stream);

    fc_test_v1_conformance_upload_init(&stream, conformance.channel);
    stream.call.timeout_ms = conformance_limit_ms();
    fc_test_v1_conformance_upload_open(&stream);
    assert_int_equal(fc_test_v1_conformance_upload_send(&stream, &data), ERR_OK);
    rpc_client_stream_end(&stream);
    assert_int_equal(fc_test_v1_conformance_upload_receive(&stream, &sum), ERR_OK);
    assert_int_equal(sum->messages, 1);
    rpc_client_stream_deinit(&stream);
}

// ---- Without waiting

struct events {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned count;
};

static void
on_event(struct rpc_client_stream *stream)
{
    struct events *events = stream->context;
    pthread_mutex_lock(&events->mutex);
    events->count++;
    pthread_cond_signal(&events->changed);
    pthread_mutex_unlock(&events->mutex);
}

static void
wait_for_event(struct events *events, unsigned seen)
{
    pthread_mutex_lock(&events->mutex);
    while (events->count == seen) {
        pthread_cond_wait(&events->changed, &events->mutex); // the call's deadline is an event too
    }
    pthread_mutex_unlock(&events->mutex);
}

static void
test_events(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct events events = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct rpc_client_stream stream;
    const void *message = &stream;
    uint64_t received = 0;
    Fc__Test__V1__StreamRequest request = FC__TEST__V1__STREAM_REQUEST__INIT;
    request.count = COUNT;
    request.size = 5000;
    rpc_client_stream_init(&stream, conformance.channel, data_type);
    stream.call.timeout_ms = conformance_limit_ms();
    stream.on_event = on_event;
    stream.context = &events;
    rpc_client_stream_open_with(&stream, METHOD("Stream"), &request.base);
    while (message != NULL) {
        pthread_mutex_lock(&events.mutex);
        unsigned seen = events.count;
        pthread_mutex_unlock(&events.mutex);
        enum err err = rpc_client_stream_try_receive(&stream, &message);
        if (err == ERR_BUSY) {
            wait_for_event(&events, seen);
        } else {
            assert_int_equal(err, ERR_OK);
            received += message != NULL;
        }
    }
    assert_int_equal(received, COUNT);
    rpc_client_stream_deinit(&stream);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_answers),
        cmocka_unit_test(test_more_than_the_credit),
        cmocka_unit_test(test_no_messages),
        cmocka_unit_test(test_an_error_comes_after_the_messages),
        cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_a_server_that_does_not_read_stops_its_sender_alone),
        cmocka_unit_test(test_a_client_that_does_not_read_stops_its_server_alone),
        cmocka_unit_test(test_cancel_in_the_middle),
        cmocka_unit_test(test_a_stream_ends_at_its_deadline),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_typed_functions),
        cmocka_unit_test(test_events),
    };
    return conformance_run(tests, sizeof tests / sizeof tests[0]);
}
