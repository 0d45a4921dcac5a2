// The swarm's side of the origin: its own server of segments, over the FileStore, and the tracker of all the others.
#ifndef DAEMON_DAEMON_SWARM_H
#define DAEMON_DAEMON_SWARM_H

#include "base/err.h"
#include "rpc/rpc_server.h"
#include "services/daemon/daemon_options.h"
#include "services/filestore/filestore_service.h"

struct daemon_swarm;

// daemon_swarm_new adds both services and their figures to the server, before it listens.
enum err daemon_swarm_new(const struct daemon_options *options, struct rpc_server *server,
    struct filestore_service *filestore, struct daemon_swarm **out) ERR_CHECKED;

// daemon_swarm_start comes after the server listens.
enum err daemon_swarm_start(struct daemon_swarm *swarm) ERR_CHECKED;

// daemon_swarm_end_session ends the streams of a session whose token has been revoked.
void daemon_swarm_end_session(struct daemon_swarm *swarm, const uint8_t session_id[16]);

// daemon_swarm_stop ends the streams that last as long as the server does. Before rpc_server_drain and rpc_server_free.
// Twice is no error.
void daemon_swarm_stop(struct daemon_swarm *swarm);

// daemon_swarm_free comes after rpc_server_free and before the FileStore's.
void daemon_swarm_free(struct daemon_swarm **swarm);

#endif
