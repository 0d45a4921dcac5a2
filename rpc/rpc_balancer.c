#include "rpc/rpc_balancer.h"

enum {
    ABOUT_THE_SAME_PERMILLE = 50, // differences of load that are chance
};

static size_t
list_candidates(const struct rpc_balancer_server *servers, size_t count, uint64_t now_ms, bool with_shunned,
    size_t candidates[RPC_SERVERS_MAX])
{
    size_t found = 0;
    for (size_t i = 0; i < count && i < RPC_SERVERS_MAX; i++) {
        if (servers[i].is_ready && (with_shunned || servers[i].shunned_until_ms <= now_ms)) {
            candidates[found++] = i;
        }
    }
    return found;
}

// The first candidate at or behind an index, going round.
static size_t
first_from(const size_t *candidates, size_t count, size_t from)
{
    for (size_t i = 0; i < count; i++) {
        if (candidates[i] >= from) {
            return candidates[i];
        }
    }
    return candidates[0];
}

uint64_t
rpc_balancer_latency_us(const struct rpc_balancer_server *server, uint64_t now_ms)
{
    uint64_t age_ms = now_ms > server->latency_ms ? now_ms - server->latency_ms : 0;
    uint64_t halvings = age_ms / RPC_BALANCER_HALF_LIFE_MS;
    if (server->latency_us == 0 || halvings >= 32) {
        return server->latency_us == 0 ? 0 : 1;
    }
    // Between two halvings a straight line is close enough.
    uint64_t rest_ms = age_ms % RPC_BALANCER_HALF_LIFE_MS;
    uint64_t latency_us = server->latency_us >> halvings;
    latency_us -= latency_us * rest_ms / (2 * (uint64_t)RPC_BALANCER_HALF_LIFE_MS);
    return latency_us == 0 ? 1 : latency_us;
}

void
rpc_balancer_measure(struct rpc_balancer_server *server, uint64_t took_us, uint64_t now_ms)
{
    if (took_us >= rpc_balancer_latency_us(server, now_ms)) {
        server->latency_us = took_us == 0 ? 1 : took_us;
        server->latency_ms = now_ms;
    } // else what is known goes on fading
}

void
rpc_balancer_shun(struct rpc_balancer_server *server, uint64_t now_ms)
{
    server->shunned_until_ms = now_ms + RPC_BALANCER_SHUN_MS;
}

// What a call costs there, in microseconds. Of a server that has not answered yet nothing is known: it gets one call.
static uint64_t
cost_us(const struct rpc_balancer_server *server, uint64_t now_ms)
{
    uint64_t latency_us = rpc_balancer_latency_us(server, now_ms);
    if (latency_us == 0 && server->outstanding > 0) {
        return UINT64_MAX / 2 + server->outstanding;
    }
    return latency_us * (server->outstanding + 1);
}

static size_t
pick_of_two(const struct rpc_balancer_server *servers, const size_t *candidates, size_t count, uint64_t now_ms,
    uint32_t random)
{
    if (count == 1) {
        return candidates[0];
    }
    size_t first = (random & 0xffff) * count >> 16;
    size_t second = (random >> 16) * (count - 1) >> 16;
    second += second >= first; // another one
    size_t a = candidates[first];
    size_t b = candidates[second];
    return cost_us(&servers[b], now_ms) < cost_us(&servers[a], now_ms) ? b : a;
}

// Of those that are about as idle as the idlest, so that not all clients run to the same one, two at random: that with
// the fewer calls of ours.
static size_t
pick_idle(const struct rpc_balancer_server *servers, const size_t *candidates, size_t count, uint32_t random)
{
    size_t idle[RPC_SERVERS_MAX];
    size_t found = 0;
    uint32_t least = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        uint32_t permille = servers[candidates[i]].cpu_permille;
        least = permille < least ? permille : least;
    }
    for (size_t i = 0; i < count; i++) {
        if (servers[candidates[i]].cpu_permille <= least + ABOUT_THE_SAME_PERMILLE) {
            idle[found++] = candidates[i];
        }
    }
    size_t a = idle[(random & 0xffff) * found >> 16];
    size_t b = idle[(random >> 16) * found >> 16];
    return servers[b].outstanding < servers[a].outstanding ? b : a;
}

size_t
rpc_balancer_pick(struct rpc_balancer *balancer, const struct rpc_balancer_server *servers, size_t count,
    uint64_t now_ms, uint32_t random)
{
    size_t candidates[RPC_SERVERS_MAX];
    size_t found = list_candidates(servers, count, now_ms, false, candidates);
    if (found == 0) {
        found = list_candidates(servers, count, now_ms, true, candidates);
    }
    if (found == 0) {
        return count;
    }
    switch (balancer->strategy) {
    case RPC_PICK_FIRST:
        balancer->current = first_from(candidates, found, balancer->current);
        return balancer->current;
    case RPC_ROUND_ROBIN: {
        size_t picked = first_from(candidates, found, balancer->next);
        balancer->next = picked + 1;
        return picked;
    }
    case RPC_RANDOM:
        return candidates[(uint64_t)random * found >> 32];
    case RPC_LEAST_CPU:
        return pick_idle(servers, candidates, found, random);
    case RPC_TWO_CHOICES:
        return pick_of_two(servers, candidates, found, now_ms, random);
    }
    return candidates[0];
}
