#include "bench/load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    SAMPLES_MAX = 8 * 1024 * 1024,
    WARM_UP_US = 500 * 1000,
    OPENING_MAX = 64, // connections without an answer yet; a listener's queue is 128 by default
};

static struct {
    struct load load;
    uint64_t measure_from_us;
    uint64_t end_us;
    uint32_t *latencies_us;
    unsigned opened;
    atomic_uint answered; // first answers of slots; stops counting when all have one
    atomic_size_t sample_count;
    atomic_uint running; // slots that still make calls
    struct rusage usage_at_start;
    pthread_once_t usage_once;
} run = {.usage_once = PTHREAD_ONCE_INIT};

void
load_die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    _exit(1);
}

const struct load *
load_begin(int argc, char **argv, const char *runtimes)
{
    if (argc != 7 && argc != 8) {
        fprintf(stderr, "usage: %s %s URL CONNECTIONS OUTSTANDING SECONDS PAYLOAD-BYTES [CERTIFICATE]\n", argv[0],
            runtimes);
        exit(2);
    }
    struct load *load = &run.load;
    load->runtime = argv[1];
    load->url = argv[2];
    load->connections = (unsigned)strtoul(argv[3], NULL, 10);
    load->outstanding = (unsigned)strtoul(argv[4], NULL, 10);
    load->seconds = strtod(argv[5], NULL);
    load->payload_bytes = strtoul(argv[6], NULL, 10);
    load->certificate_path = argc == 8 ? argv[7] : NULL;
    load->payload = calloc(1, load->payload_bytes + 1);
    if (load->connections < 1 || load->outstanding < 1 || load->seconds < 0 || load->payload == NULL) {
        load_die("arguments", "out of range");
    }
    if (load->seconds > 0) {
        // Written to now, so that page faults are not measured.
        run.latencies_us = malloc(SAMPLES_MAX * sizeof(run.latencies_us[0]));
        if (run.latencies_us == NULL) {
            load_die("samples", "out of memory");
        }
        memset(run.latencies_us, 0xff, SAMPLES_MAX * sizeof(run.latencies_us[0]));
        run.measure_from_us = clock_monotonic_us() + WARM_UP_US;
        run.end_us = run.measure_from_us + (uint64_t)(load->seconds * 1e6);
    }
    atomic_store(&run.running, load->connections * load->outstanding);
    return load;
}

void
load_pace(void)
{
    while (run.opened >= OPENING_MAX + atomic_load(&run.answered)) {
        usleep(200);
    }
    run.opened++;
}

uint64_t
load_now_us(void)
{
    return clock_monotonic_us();
}

static void
note_usage(void)
{
    getrusage(RUSAGE_SELF, &run.usage_at_start);
}

bool
load_call_ended(uint64_t started_us, size_t answered_bytes)
{
    const uint64_t now_us = clock_monotonic_us();
    if (answered_bytes != run.load.payload_bytes) {
        load_die("call", "the answer has another size");
    }
    if (atomic_load_explicit(&run.answered, memory_order_relaxed) < run.load.connections) {
        atomic_fetch_add(&run.answered, 1);
    }
    if (run.load.seconds > 0 && started_us >= run.measure_from_us) {
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

static void
print_figures(void)
{
    const size_t calls = atomic_load(&run.sample_count);
    const size_t sampled = calls < SAMPLES_MAX ? calls : SAMPLES_MAX;
    if (calls == 0) {
        load_die("run", "no call ended in time");
    }
    const double cpu_us = cpu_us_since(&run.usage_at_start);
    qsort(run.latencies_us, sampled, sizeof(run.latencies_us[0]), compare_u32);
    printf("{\"calls_per_s\": %.0f, \"p50_us\": %u, \"p99_us\": %u, \"client_cpu_us\": %.2f, \"calls\": %zu}\n",
        (double)calls / run.load.seconds, run.latencies_us[sampled / 2], run.latencies_us[sampled * 99 / 100],
        cpu_us / (double)calls, calls);
    fflush(stdout);
}

static void
hold(void)
{
    char buffer[64];
    printf("holding\n");
    fflush(stdout);
    while (read(STDIN_FILENO, buffer, sizeof(buffer)) > 0) {
    }
}

void
load_end(void)
{
    while (atomic_load(&run.running) > 0) {
        usleep(2000);
    }
    if (run.load.seconds > 0) {
        print_figures();
    } else {
        hold();
    }
    _exit(0);
}
