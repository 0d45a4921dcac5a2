// The figures of a server as text for Prometheus: its text format 0.0.4, which many other tools read as well.
#ifndef RPC_METRICS_H
#define RPC_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_stats.h"

#define RPC_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

// rpc_metrics_are_public says whether strangers may read them: rpc_server_options.has_public_metrics.
bool rpc_metrics_are_public(const struct rpc_server *server);

// rpc_metrics_write appends the figures of a server as they are now. Any thread. ERR_NO_MEMORY.
enum err rpc_metrics_write(struct rpc_server *server, struct bytes *out) ERR_CHECKED;

// rpc_metrics_append appends figures, and after them those that services have added. ERR_NO_MEMORY.
enum err rpc_metrics_append(const struct rpc_stats *stats, const struct rpc_metric *added, size_t added_count,
    struct bytes *out) ERR_CHECKED;

// rpc_metrics_append_label appends a label's value with its quotes.
enum err rpc_metrics_append_label(struct bytes *out, const char *value) ERR_CHECKED;

#endif
