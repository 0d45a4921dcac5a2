// The Stats service. Workers enter; it keeps nothing.
//
// The reply borrows from the figures that were read; what is between, lists of pointers to messages, is in an arena.
#include "rpc/rpc_stats_service.h"

#include <stdlib.h>

#include "base/arena.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_server_priv.h"
#include "rpc/rpc_stats.h"

#include "fc/rpc/v1/stats.pb-c.h"

enum {
    REPLY_MAX_BYTES = 4 * 1024 * 1024, // of the arena: a thousand methods that ended with every code
};

struct rpc_stats_service {
    Fc__Rpc__V1__Stats_Service service; // first
    struct rpc_server *server;
};

static enum err
fill_codes(Fc__Rpc__V1__MethodStats *message, const struct rpc_method_stats *stats, struct arena *arena)
{
    message->calls = arena_alloc(arena, RPC_CODE_COUNT * sizeof(*message->calls));
    if (message->calls == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t code = 0; code < RPC_CODE_COUNT; code++) {
        if (stats->calls[code] == 0) {
            continue;
        }
        Fc__Rpc__V1__CodeCount *count = arena_alloc(arena, sizeof(*count));
        if (count == NULL) {
            return ERR_NO_MEMORY;
        }
        fc__rpc__v1__code_count__init(count);
        count->code = (Fc__Rpc__V1__Code)code;
        count->count = stats->calls[code];
        message->calls[message->n_calls++] = count;
    }
    return ERR_OK;
}

static enum err
add_method(Fc__Rpc__V1__GetStatsResponse *response, struct rpc_method_stats *stats, struct arena *arena)
{
    Fc__Rpc__V1__MethodStats *message = arena_alloc(arena, sizeof(*message));
    char *name = arena_copy_text(arena, stats->method);
    if (message == NULL || name == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__rpc__v1__method_stats__init(message);
    message->method = name;
    message->latency_buckets = stats->latency_buckets;
    message->n_latency_buckets = RPC_LATENCY_BUCKETS;
    message->latency_sum_us = stats->latency_sum_us;
    response->methods[response->n_methods++] = message;
    return fill_codes(message, stats, arena);
}

static enum err
add_metric(Fc__Rpc__V1__GetStatsResponse *response, const struct rpc_metric *metric, struct arena *arena)
{
    Fc__Rpc__V1__MetricValue *message = arena_alloc(arena, sizeof(*message));
    char *name = arena_copy_text(arena, metric->name);
    if (message == NULL || name == NULL) {
        return ERR_NO_MEMORY;
    }
    fc__rpc__v1__metric_value__init(message);
    message->name = name;
    message->is_counter = metric->is_counter;
    message->value = metric->read(metric->context);
    response->metrics[response->n_metrics++] = message;
    return ERR_OK;
}

static void
fill_figures(Fc__Rpc__V1__GetStatsResponse *response, const struct rpc_stats *stats)
{
    response->uptime_ms = stats->uptime_ms;
    response->cpu_us = stats->cpu_us;
    response->resident_bytes = stats->resident_bytes;
    response->is_draining = stats->is_draining;
    response->connections = stats->connections;
    response->accepted_connections = stats->accepted_connections;
    response->refused_connections = stats->refused_connections;
    response->calls_in_flight = stats->calls_in_flight;
    response->calls_waiting = stats->calls_waiting;
    response->dropped_calls = stats->dropped_calls;
    response->received_bytes = stats->received_bytes;
    response->sent_bytes = stats->sent_bytes;
    response->subscriptions = stats->subscriptions;
    response->dropped_subscription_bytes = stats->dropped_subscription_bytes;
}

static enum err
fill(Fc__Rpc__V1__GetStatsResponse *response, const struct rpc_server *server, const struct rpc_stats *stats,
    struct arena *arena)
{
    fill_figures(response, stats);
    response->methods = arena_alloc(arena, (stats->method_count + 1) * sizeof(*response->methods));
    response->metrics = arena_alloc(arena, (server->metric_count + 1) * sizeof(*response->metrics));
    enum err err = response->methods != NULL && response->metrics != NULL ? ERR_OK : ERR_NO_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < stats->method_count; i++) {
        err = add_method(response, &stats->methods[i], arena);
    }
    for (size_t i = 0; err == ERR_OK && i < server->metric_count; i++) {
        err = add_metric(response, &server->metrics[i], arena);
    }
    return err;
}

static void
get(Fc__Rpc__V1__Stats_Service *service, const Fc__Rpc__V1__GetStatsRequest *request,
    Fc__Rpc__V1__GetStatsResponse_Closure answer, void *closure_data)
{
    struct rpc_server *server = ((struct rpc_stats_service *)service)->server;
    Fc__Rpc__V1__GetStatsResponse response = FC__RPC__V1__GET_STATS_RESPONSE__INIT;
    struct rpc_stats stats = {0};
    struct arena arena;
    (void)request;
    arena_init(&arena, REPLY_MAX_BYTES);
    enum err err = rpc_stats_read(server, &stats);
    if (err == ERR_OK) {
        err = fill(&response, server, &stats, &arena);
    }
    if (err == ERR_OK) {
        answer(&response, closure_data);
    } else {
        rpc_call_fail(closure_data, err, "there is no memory for the figures");
    }
    arena_deinit(&arena);
    rpc_stats_deinit(&stats);
}

enum err
rpc_stats_service_new(struct rpc_server *server, struct rpc_stats_service **out)
{
    static const struct rpc_method_rule rules[] = {
        {.method = "Get", .access = RPC_ACCESS_ADMIN, .max_request_bytes = 1024},
    };
    struct rpc_stats_service *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return ERR_NO_MEMORY;
    }
    self->service = (Fc__Rpc__V1__Stats_Service){.base = FC__RPC__V1__STATS__BASE_INIT, .get = get};
    self->server = server;
    enum err err = rpc_server_add_service(server, &self->service.base, rules, sizeof(rules) / sizeof(rules[0]));
    if (err != ERR_OK) {
        rpc_stats_service_free(&self);
        return err;
    }
    *out = self;
    return ERR_OK;
}

void
rpc_stats_service_free(struct rpc_stats_service **service)
{
    free(*service);
    *service = NULL;
}
