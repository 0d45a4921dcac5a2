// For the sources of the peer only.
#ifndef CLIENT_FC_PEER_PRIV_H
#define CLIENT_FC_PEER_PRIV_H

#include <pthread.h>

#include "base/work_pool.h"
#include "client/fc_peer.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_server.h"
#include "swarm/swarm_node.h"

#include "fc/peer/v1/peer.pb-c.h"

struct fc_peer {
    Fc__Peer__V1__Peer_Service rpc; // first: handlers get its address

    // Immutable after start.
    struct fc_session *session;
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char url[RPC_URL_MAX_BYTES];
    char **folders; // absolute
    size_t folder_count;
    struct rpc_tls_server *tls; // NULL: on loopback without
    struct swarm_node *node;
    struct rpc_server *control; // on a socket of this user's
    struct work_pool *pool;     // asks the server for digests, and looks through folders
    int stop_fd;                // an eventfd: readable when it is to stop

    pthread_mutex_t scan_mutex; // one look through the folders at a time
    struct {
        pthread_mutex_t mutex;
        bool is_stopping;
    } locked;
};

bool fc_peer_is_stopping(struct fc_peer *peer);

// In fc_peer_service.c.
void fc_peer_service_init(struct fc_peer *peer);
const struct rpc_method_rule *fc_peer_service_rules(size_t *count_out);

// In fc_peer_folders.c: fc_peer_scan looks through the folders for files that the server knows, and shares them.
enum err fc_peer_scan(struct fc_peer *peer, uint32_t *unknown_out, struct err_detail *why) ERR_CHECKED;

// fc_peer_learn asks the server what a file is, and for the digests of its segments.
enum err fc_peer_learn(struct fc_session *session, const uint8_t id[16], struct swarm_file *out, struct bytes *sha256s,
    struct err_detail *why) ERR_CHECKED;

// In fc_peer_ask.c: a channel to the peer of this account. ERR_NOT_FOUND: none runs, as far as one can see without
// asking it.
enum err fc_peer_reach(struct fc_session *session, struct rpc_channel **out, struct err_detail *why) ERR_CHECKED;
enum err fc_peer_socket_path(const char *dir, char path_out[FC_CONFIG_PATH_MAX_BYTES],
    struct err_detail *why) ERR_CHECKED;

#endif
