// Counting calls, and adding up what has been counted.
//
// What belongs to a connection is counted under the lock that its peer holds anyway, and moves to the server's own
// figures when the connection ends; so a reader visits all peers, and nobody else pays.
#include "rpc/rpc_stats.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats_priv.h"

_Static_assert(RPC_LATENCY_FIRST_US == 1 << 3, "rpc_stats_bucket_of counts from the third bit on");

struct rpc_stats_cell *
rpc_stats_cells_new(unsigned writer_count)
{
    size_t size = writer_count * sizeof(struct rpc_stats_cell);
    struct rpc_stats_cell *cells = aligned_alloc(RPC_STATS_CELL_ALIGNMENT, size);
    if (cells != NULL) {
        memset(cells, 0, size);
    }
    return cells;
}

size_t
rpc_stats_bucket_of(uint64_t took_us)
{
    if (took_us <= RPC_LATENCY_FIRST_US) {
        return 0;
    }
    // The bits that took_us - 1 has: 4 for 9 to 16 us, 5 for 17 to 32 us.
    size_t bits = 64 - (size_t)__builtin_clzll(took_us - 1);
    return bits - 3 < RPC_LATENCY_BUCKETS ? bits - 3 : RPC_LATENCY_BUCKETS - 1;
}

static void
add(atomic_uint_least64_t *to, unsigned writer, uint64_t value)
{
    if (writer == RPC_STATS_SHARED) {
        atomic_fetch_add_explicit(to, value, memory_order_relaxed);
    } else {
        uint64_t before = atomic_load_explicit(to, memory_order_relaxed);
        atomic_store_explicit(to, before + value, memory_order_relaxed);
    }
}

void
rpc_stats_count_call(struct rpc_stats_cell *cells, unsigned writer, enum rpc_code code, uint64_t took_us)
{
    struct rpc_stats_cell *cell = &cells[writer];
    add(&cell->calls[code], writer, 1);
    add(&cell->latency_buckets[rpc_stats_bucket_of(took_us)], writer, 1);
    add(&cell->latency_sum_us, writer, took_us);
}

void
rpc_stats_count_refusal(struct rpc_stats_cell *cells, enum rpc_code code)
{
    add(&cells[RPC_STATS_SHARED].calls[code], RPC_STATS_SHARED, 1);
}

// ---- Reading

static void
add_cells(struct rpc_method_stats *stats, struct rpc_stats_cell *cells, unsigned writer_count)
{
    for (unsigned writer = 0; writer < writer_count; writer++) {
        struct rpc_stats_cell *cell = &cells[writer];
        for (size_t i = 0; i < RPC_CODE_COUNT; i++) {
            stats->calls[i] += atomic_load_explicit(&cell->calls[i], memory_order_relaxed);
        }
        for (size_t i = 0; i < RPC_LATENCY_BUCKETS; i++) {
            stats->latency_buckets[i] += atomic_load_explicit(&cell->latency_buckets[i], memory_order_relaxed);
        }
        stats->latency_sum_us += atomic_load_explicit(&cell->latency_sum_us, memory_order_relaxed);
    }
}

static bool
has_calls(const struct rpc_method_stats *stats)
{
    uint64_t calls = 0;
    for (size_t i = 0; i < RPC_CODE_COUNT; i++) {
        calls |= stats->calls[i];
    }
    return calls != 0;
}

// add_method adds the figures of a method that has been called. There is room.
static void
add_method(struct rpc_stats *stats, const char *name, struct rpc_stats_cell *cells, unsigned writer_count)
{
    struct rpc_method_stats *method = &stats->methods[stats->method_count];
    *method = (struct rpc_method_stats){.method = name};
    add_cells(method, cells, writer_count);
    stats->method_count += has_calls(method);
}

static int
compare_methods(const void *a, const void *b)
{
    return strcmp(((const struct rpc_method_stats *)a)->method, ((const struct rpc_method_stats *)b)->method);
}

static enum err
read_methods(struct rpc_server *server, struct rpc_stats *stats)
{
    const struct rpc_method_table *table = &server->methods;
    stats->methods = calloc(table->count + 1, sizeof(*stats->methods));
    if (stats->methods == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < table->slot_count; i++) {
        const struct rpc_method *method = table->slots[i];
        if (method != NULL) {
            add_method(stats, method->name, method->cells, table->writer_count);
        }
    }
    add_method(stats, RPC_STATS_UNKNOWN_METHOD, server->stats.unknown_method, table->writer_count);
    qsort(stats->methods, stats->method_count, sizeof(*stats->methods), compare_methods);
    return ERR_OK;
}

static void
read_connections(struct rpc_server *server, struct rpc_stats *stats)
{
    struct rpc_peer *peer;
    pthread_mutex_lock(&server->mutex);
    stats->connections = server->locked.peer_count;
    stats->accepted_connections = server->locked.accepted_peers;
    stats->refused_connections = server->locked.refused_peers;
    stats->received_bytes = server->locked.gone_received_bytes;
    stats->sent_bytes = server->locked.gone_sent_bytes;
    LIST_FOREACH(peer, &server->locked.peers, link)
    {
        pthread_mutex_lock(&peer->mutex);
        stats->received_bytes += peer->locked.received_bytes;
        stats->sent_bytes += peer->locked.sent_bytes;
        stats->calls_waiting += peer->locked.waiting_calls;
        pthread_mutex_unlock(&peer->mutex);
    }
    pthread_mutex_unlock(&server->mutex);
}

static uint64_t
read_resident_bytes(void)
{
    char text[128];
    unsigned long long pages = 0;
    long page_bytes = sysconf(_SC_PAGESIZE);
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (size <= 0 || page_bytes <= 0) {
        return 0;
    }
    text[size] = '\0';
    const char *second = strchr(text, ' '); // all pages, then the resident ones
    pages = second != NULL ? strtoull(second, NULL, 10) : 0;
    return pages * (uint64_t)page_bytes;
}

uint64_t
rpc_stats_cpu_us(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return 0;
    }
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

enum err
rpc_stats_read(struct rpc_server *server, struct rpc_stats *out)
{
    struct rpc_stats stats = {
        .uptime_ms = clock_monotonic_ms() - server->stats.started_ms,
        .cpu_us = rpc_stats_cpu_us(),
        .resident_bytes = read_resident_bytes(),
        .is_draining = atomic_load(&server->is_draining),
        .calls_in_flight = atomic_load(&server->call_count),
        .dropped_calls = atomic_load(&server->stats.dropped_calls),
        .dropped_subscription_bytes = atomic_load(&server->stats.dropped_subscription_bytes),
    };
    read_connections(server, &stats);
    pthread_mutex_lock(&server->feeds_mutex);
    stats.subscriptions = server->feeds.count;
    pthread_mutex_unlock(&server->feeds_mutex);
    enum err err = read_methods(server, &stats);
    if (err == ERR_OK) {
        *out = stats;
    }
    return err;
}

void
rpc_stats_deinit(struct rpc_stats *stats)
{
    free(stats->methods);
    *stats = (struct rpc_stats){0};
}
