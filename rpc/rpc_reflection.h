// fc.rpc.v1.Reflection: what a server offers, for clients without generated code. Every rpc_server has one; a program
// adds the descriptors of its own services with rpc_server_describe.
#ifndef RPC_REFLECTION_H
#define RPC_REFLECTION_H

#include "base/bytes.h"
#include "base/err.h"

struct rpc_method_table;
struct rpc_reflection;
struct rpc_server;

// rpc_reflection_new adds the service to the server, and lists the services of `methods`, which both outlive it.
enum err rpc_reflection_new(struct rpc_server *server, const struct rpc_method_table *methods,
    struct rpc_reflection **out) ERR_CHECKED;

// rpc_reflection_describe does what rpc_server_describe says.
enum err rpc_reflection_describe(struct rpc_reflection *reflection, struct bytes_view descriptor_set) ERR_CHECKED;

void rpc_reflection_free(struct rpc_reflection **reflection);

#endif
