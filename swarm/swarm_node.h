// A server of segments that is not the origin: a mirror, or a member's machine. It is an rpc_server with the service,
// the store behind it, what fetches the rest from the origin, and what announces it.
#ifndef SWARM_SWARM_NODE_H
#define SWARM_SWARM_NODE_H

#include "rpc/rpc_server.h"
#include "rpc/rpc_tls.h"
#include "swarm/swarm_announcer.h"
#include "swarm/swarm_pull.h"
#include "swarm/swarm_server.h"
#include "swarm/swarm_store.h"

struct swarm_node;

enum {
    SWARM_NAME_MAX_BYTES = 65, // of a source, with its NUL
};

struct swarm_node_options {
    enum swarm_kind kind;       // a mirror pulls through
    const char *data_dir;       // made if it is missing
    const char *name;           // for people; NULL: the machine's
    uint64_t budget_bytes;      // 0: no limit
    uint64_t limit_bytes_per_s; // 0: no limit
    const char *origin_url;
    struct rpc_tls_client *origin_tls; // NULL without TLS
    const char *token;
    struct rpc_tls_server *tls; // of its own listeners; outlives the node. NULL: there is none with TLS
    bool has_public_metrics;
};

// swarm_node_new makes what serves; nothing listens yet, and nothing is announced. ERR_BUSY: another process uses the
// folder.
enum err swarm_node_new(const struct swarm_node_options *options, struct swarm_node **out,
    struct err_detail *why) ERR_CHECKED;

// swarm_node_server is for listeners, and for further services before them.
struct rpc_server *swarm_node_server(struct swarm_node *node);
struct swarm_server *swarm_node_swarm(struct swarm_node *node);
struct swarm_store *swarm_node_store(struct swarm_node *node);
struct swarm_pull *swarm_node_pull(struct swarm_node *node); // NULL: it does not pull through

// swarm_node_announce begins to announce it. urls are where others reach it: those that listen at all addresses of the
// machine stand for each of them. ERR_INVALID: no URL that others could use.
enum err swarm_node_announce(struct swarm_node *node, const char *const *urls, size_t url_count,
    struct err_detail *why) ERR_CHECKED;

// swarm_node_wait and swarm_node_is_known are those of the announcer.
enum err swarm_node_wait(struct swarm_node *node, unsigned timeout_ms, struct err_detail *why) ERR_CHECKED;
bool swarm_node_is_known(struct swarm_node *node);

// swarm_node_urls tells what is announced. Borrowed.
size_t swarm_node_urls(const struct swarm_node *node, const char *const **urls_out);

// swarm_node_drain says goodbye to the tracker, and lets what is under way finish, for at most timeout_ms.
void swarm_node_drain(struct swarm_node *node, unsigned timeout_ms);
void swarm_node_free(struct swarm_node **node);

#endif
