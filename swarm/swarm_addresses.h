// For swarm_node.c only: where others reach a listener.
#ifndef SWARM_SWARM_ADDRESSES_H
#define SWARM_SWARM_ADDRESSES_H

#include <stddef.h>

#include "rpc/rpc_limits.h"

// swarm_addresses_of writes the URLs by which others reach what listens at `url`: itself, or one for each address of
// this machine when it listens at all of them. Up to `most`; none for ipc. Returns how many.
size_t swarm_addresses_of(const char *url, char out[][RPC_URL_MAX_BYTES], size_t most);

#endif
