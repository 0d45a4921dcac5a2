// fc.rpc.v1.Stats: the figures of a server for its administrators. Every rpc_server that can tell who is one has it.
#ifndef RPC_STATS_SERVICE_H
#define RPC_STATS_SERVICE_H

#include "base/err.h"

struct rpc_server;
struct rpc_stats_service;

// rpc_stats_service_new adds the service to the server, which outlives it.
enum err rpc_stats_service_new(struct rpc_server *server, struct rpc_stats_service **out) ERR_CHECKED;
void rpc_stats_service_free(struct rpc_stats_service **service);

#endif
