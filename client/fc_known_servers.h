// The servers that are known by their certificate: the file `known_servers` in the configuration folder, with the same
// rules as `credentials`. A line is HOST:PORT FINGERPRINT; the first one for a server counts.
#ifndef CLIENT_FC_KNOWN_SERVERS_H
#define CLIENT_FC_KNOWN_SERVERS_H

#include <stdint.h>

#include "base/err.h"
#include "client/fc_config.h"
#include "rpc/rpc_tls.h"

struct fc_known_server {
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    unsigned line; // in the file, from 1
    char path[FC_CONFIG_PATH_MAX_BYTES];
};

// fc_known_servers_find looks for HOST:PORT in lower case. ERR_NOT_FOUND. ERR_DENIED: others can read or write the
// file; ERR_INVALID: a line in it is damaged.
enum err fc_known_servers_find(const char *name, struct fc_known_server *out, struct err_detail *why) ERR_CHECKED;

// fc_known_servers_add appends a server. Locks the file against other processes, replaces it in one step and syncs it.
enum err fc_known_servers_add(const char *name, const uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES],
    struct err_detail *why) ERR_CHECKED;

#endif
