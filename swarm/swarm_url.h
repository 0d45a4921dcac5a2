// Where others reach a listener, and whether they do.
#ifndef SWARM_SWARM_URL_H
#define SWARM_SWARM_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "rpc/rpc_limits.h"

// swarm_url_is_local: only this machine can reach what listens at the URL.
bool swarm_url_is_local(const char *url);

// swarm_urls_of writes the URLs by which others reach what listens at `url`: itself, or one for each address of this
// machine when it listens at all of them. Up to `most`; none for ipc. Returns how many.
size_t swarm_urls_of(const char *url, char out[][RPC_URL_MAX_BYTES], size_t most);

#endif
