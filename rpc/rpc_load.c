// How busy the server is, for clients that choose among several.
#include <unistd.h>

#include "base/clock.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats_priv.h"

enum {
    SAMPLE_MS = 500, // what is asked for sooner is told again
    PERMILLE = 1000,
    US_PER_MS = 1000,
};

void
rpc_server_measure_load(struct rpc_server *server, Fc__Rpc__V1__Load *load_out)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&server->load.mutex);
    uint64_t passed_ms = now_ms - server->load.sampled_ms;
    if (passed_ms >= SAMPLE_MS) {
        uint64_t cpu_us = rpc_stats_cpu_us();
        uint64_t all_us = passed_ms * US_PER_MS * (uint64_t)(processors > 0 ? processors : 1);
        uint64_t permille = (cpu_us - server->load.cpu_us) * PERMILLE / all_us;
        server->load.cpu_permille = permille < PERMILLE ? (uint32_t)permille : (uint32_t)PERMILLE;
        server->load.cpu_us = cpu_us;
        server->load.sampled_ms = now_ms;
    }
    fc__rpc__v1__load__init(load_out);
    load_out->cpu_permille = server->load.cpu_permille;
    load_out->calls_in_flight = (uint32_t)atomic_load(&server->call_count);
    pthread_mutex_unlock(&server->load.mutex);
}

void
rpc_server_read_load(struct rpc_server *server, struct rpc_load *out)
{
    Fc__Rpc__V1__Load load;
    rpc_server_measure_load(server, &load);
    pthread_mutex_lock(&server->mutex);
    out->connections = (uint32_t)server->locked.peer_count;
    pthread_mutex_unlock(&server->mutex);
    out->cpu_permille = load.cpu_permille;
    out->calls_in_flight = load.calls_in_flight;
}
