// fc.rpc.v1.Health: whether the server takes calls. Every rpc_server has it.
#ifndef RPC_HEALTH_H
#define RPC_HEALTH_H

#include "base/err.h"

struct rpc_health;
struct rpc_server;

// rpc_health_new adds the service to the server, which outlives it.
enum err rpc_health_new(struct rpc_server *server, struct rpc_health **out) ERR_CHECKED;
void rpc_health_free(struct rpc_health **health);

#endif
