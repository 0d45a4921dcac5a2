// What a mirror fetches before anybody asks for it: the files that its account can read, or some of them.
#ifndef DAEMON_DAEMON_PREFETCH_H
#define DAEMON_DAEMON_PREFETCH_H

#include "base/err.h"
#include "rpc/rpc_tls.h"
#include "services/daemon/daemon_options.h"
#include "swarm/swarm_node.h"

struct daemon_prefetch;

// daemon_prefetch_start looks for files now and every few seconds, on a thread of its own, and has the node fetch those
// of which something is missing. What it is given outlives it.
enum err daemon_prefetch_start(struct swarm_node *node, const struct daemon_mirror_options *options,
    struct rpc_tls_client *tls, const char *token, struct daemon_prefetch **out, struct err_detail *why) ERR_CHECKED;
void daemon_prefetch_stop(struct daemon_prefetch **prefetch);

#endif
