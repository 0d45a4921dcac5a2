// The clients that bench/run compares: calls on one connection, a fixed number of them outstanding.
//
//     bench_rpc_client fc|nng URL OUTSTANDING SECONDS PAYLOAD-BYTES
//
// Runs half a second to warm up, then measures. Prints one JSON object: calls per second, p50 and p99 in microseconds,
// and the microseconds of its own CPU for each call.

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "base/clock.h"
#include "rpc/rpc_channel.h"

#include "fc/test/v1/echo.pb-c.h"

#define BENCH_TOKEN "fct_00000000000000000000000000000000000000000000"

enum {
    OUTSTANDING_MAX = 1024,
    SAMPLES_MAX = 8 * 1024 * 1024,
    WARM_UP_US = 500 * 1000,
};

static struct {
    uint64_t measure_from_us;
    uint64_t end_us;
    size_t payload_bytes;
    uint8_t *payload;
    uint32_t *latencies_us;
    atomic_size_t sample_count;
    atomic_int running; // slots that still make calls
    struct rusage usage_at_start;
    pthread_once_t usage_once;
} run = {.usage_once = PTHREAD_ONCE_INIT};

static void
die(const char *what, const char *why)
{
    fprintf(stderr, "bench_rpc_client: %s: %s\n", what, why);
    _exit(1);
}

static void
note_usage(void)
{
    getrusage(RUSAGE_SELF, &run.usage_at_start);
}

// Counts a call that has ended and says whether to make another.
static bool
record(uint64_t started_us)
{
    const uint64_t now_us = clock_monotonic_us();
    if (started_us >= run.measure_from_us) {
        pthread_once(&run.usage_once, note_usage);
        const size_t at = atomic_fetch_add(&run.sample_count, 1);
        if (at < SAMPLES_MAX) {
            run.latencies_us[at] = (uint32_t)(now_us - started_us);
        }
    }
    if (now_us < run.end_us) {
        return true;
    }
    atomic_fetch_sub(&run.running, 1);
    return false;
}

struct fc_slot {
    struct rpc_unary call;
    struct rpc_channel *channel;
    uint64_t started_us;
};

static void start_fc(struct fc_slot *slot);

static void
on_fc_done(struct rpc_unary *call)
{
    struct fc_slot *slot = call->context;
    const Fc__Test__V1__EchoResponse *response = rpc_unary_response(call);
    if (response == NULL) {
        die("call", err_message(&call->status.detail, ERR_INTERNAL));
    }
    if (response->data.len != run.payload_bytes) {
        die("call", "the answer has another size");
    }
    rpc_unary_deinit(call);
    if (record(slot->started_us)) {
        start_fc(slot);
    }
}

static void
start_fc(struct fc_slot *slot)
{
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.data.data = run.payload;
    request.data.len = run.payload_bytes;
    rpc_unary_init(&slot->call, slot->channel, &fc__test__v1__echo__descriptor);
    slot->call.on_done = on_fc_done;
    slot->call.context = slot;
    slot->started_us = clock_monotonic_us();
    fc__test__v1__echo__echo_as_user(&slot->call.service, &request, NULL, NULL);
}

static void
begin_fc(const char *url, int outstanding)
{
    static struct fc_slot slots[OUTSTANDING_MAX];
    struct rpc_channel *channel = NULL;
    struct err_detail why = {0};
    enum err err = rpc_channel_new(&(struct rpc_channel_options){.url = url}, &channel, &why);
    if (err == ERR_OK) {
        err = rpc_channel_set_token(channel, BENCH_TOKEN);
    }
    if (err != ERR_OK) {
        die(url, err_message(&why, err));
    }
    for (int i = 0; i < outstanding; i++) {
        slots[i].channel = channel;
        start_fc(&slots[i]);
    }
}

struct nng_slot {
    nng_ctx ctx;
    nng_aio *aio;
    bool is_sending;
    uint64_t started_us;
};

static void
start_nng(struct nng_slot *slot)
{
    nng_msg *msg = NULL;
    int rv = nng_msg_alloc(&msg, run.payload_bytes);
    if (rv != 0) {
        die("message", nng_strerror(rv));
    }
    memcpy(nng_msg_body(msg), run.payload, run.payload_bytes);
    slot->is_sending = true;
    slot->started_us = clock_monotonic_us();
    nng_aio_set_msg(slot->aio, msg);
    nng_ctx_send(slot->ctx, slot->aio);
}

static void
on_nng_step(void *arg)
{
    struct nng_slot *slot = arg;
    const int rv = nng_aio_result(slot->aio);
    if (rv != 0) {
        die("call", nng_strerror(rv));
    }
    if (slot->is_sending) {
        slot->is_sending = false;
        nng_ctx_recv(slot->ctx, slot->aio);
        return;
    }
    nng_msg *msg = nng_aio_get_msg(slot->aio);
    nng_aio_set_msg(slot->aio, NULL);
    if (nng_msg_len(msg) != run.payload_bytes) {
        die("call", "the answer has another size");
    }
    nng_msg_free(msg);
    if (record(slot->started_us)) {
        start_nng(slot);
    }
}

static void
begin_nng(const char *url, int outstanding)
{
    static struct nng_slot slots[OUTSTANDING_MAX];
    nng_socket socket;
    int rv = nng_req0_open(&socket);
    if (rv == 0) {
        rv = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    }
    if (rv == 0) {
        rv = nng_dial(socket, url, NULL, 0);
    }
    for (int i = 0; rv == 0 && i < outstanding; i++) {
        rv = nng_ctx_open(&slots[i].ctx, socket);
        if (rv == 0) {
            rv = nng_aio_alloc(&slots[i].aio, on_nng_step, &slots[i]);
        }
        if (rv == 0) {
            start_nng(&slots[i]);
        }
    }
    if (rv != 0) {
        die(url, nng_strerror(rv));
    }
}

static int
compare_u32(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a;
    const uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double
cpu_us_since(const struct rusage *start)
{
    struct rusage now;
    getrusage(RUSAGE_SELF, &now);
    const double seconds =
        (double)(now.ru_utime.tv_sec - start->ru_utime.tv_sec + now.ru_stime.tv_sec - start->ru_stime.tv_sec);
    const double us =
        (double)(now.ru_utime.tv_usec - start->ru_utime.tv_usec + now.ru_stime.tv_usec - start->ru_stime.tv_usec);
    return seconds * 1e6 + us;
}

int
main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: bench_rpc_client fc|nng URL OUTSTANDING SECONDS PAYLOAD-BYTES\n");
        return 2;
    }
    const int outstanding = (int)strtol(argv[3], NULL, 10);
    const double seconds = strtod(argv[4], NULL);
    run.payload_bytes = strtoul(argv[5], NULL, 10);
    run.payload = calloc(1, run.payload_bytes + 1);
    run.latencies_us = malloc(SAMPLES_MAX * sizeof(run.latencies_us[0]));
    if (outstanding < 1 || outstanding > OUTSTANDING_MAX || seconds <= 0 || run.payload == NULL ||
        run.latencies_us == NULL) {
        die("arguments", "out of range");
    }
    memset(run.latencies_us, 0, SAMPLES_MAX * sizeof(run.latencies_us[0]));
    atomic_store(&run.running, outstanding);
    run.measure_from_us = clock_monotonic_us() + WARM_UP_US;
    run.end_us = run.measure_from_us + (uint64_t)(seconds * 1e6);

    if (strcmp(argv[1], "fc") == 0) {
        begin_fc(argv[2], outstanding);
    } else {
        begin_nng(argv[2], outstanding);
    }
    while (atomic_load(&run.running) > 0) {
        usleep(2000);
    }

    const size_t recorded = atomic_load(&run.sample_count);
    const size_t calls = recorded < SAMPLES_MAX ? recorded : SAMPLES_MAX;
    if (calls == 0) {
        die("run", "no call ended in time");
    }
    const double cpu_us = cpu_us_since(&run.usage_at_start);
    qsort(run.latencies_us, calls, sizeof(run.latencies_us[0]), compare_u32);
    printf("{\"calls_per_s\": %.0f, \"p50_us\": %u, \"p99_us\": %u, \"client_cpu_us\": %.2f, \"calls\": %zu}\n",
        (double)recorded / seconds, run.latencies_us[calls / 2], run.latencies_us[calls * 99 / 100],
        cpu_us / (double)recorded, recorded);
    fflush(stdout);
    _exit(0); // nothing to lose, and closing nng under traffic can hang
}
