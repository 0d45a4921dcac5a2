// Tells the origin's tracker of this server of segments: that it lives, how busy it is, what it has; and hears from it
// what an operator commands. It has a thread of its own, which connects again whenever the connection is lost.
#ifndef SWARM_SWARM_ANNOUNCER_H
#define SWARM_SWARM_ANNOUNCER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/work_pool.h"
#include "rpc/rpc_tls.h"
#include "swarm/swarm_server.h"
#include "swarm/swarm_store.h"

struct swarm_announcer;

enum {
    SWARM_URLS_MAX = 4,
};

enum swarm_kind {
    SWARM_MIRROR,
    SWARM_PEER,
};

// Who it is. Borrowed until the announcer is freed.
struct swarm_self {
    uint8_t id[E2E_GRANT_ID_BYTES];
    const char *name;
    enum swarm_kind kind;
    const char *urls[SWARM_URLS_MAX];
    size_t url_count;
    const uint8_t *certificate_sha256; // NULL without TLS
};

struct swarm_announcer_options {
    struct swarm_store *store;
    struct swarm_server *server; // told what is commanded
    struct work_pool *pool;      // looks at segments that are said to be bad
    const char *origin_url;
    struct rpc_tls_client *origin_tls; // NULL without TLS
    const char *token;
    const struct swarm_self *self;
    // By which key grants are checked. On the announcer's thread.
    void (*on_key)(void *context, const uint8_t key[CRYPTO_KEY_BYTES]);
    void *context;
};

// swarm_announcer_new makes it; swarm_announcer_start begins to announce, and takes `self` as it is then.
enum err swarm_announcer_new(const struct swarm_announcer_options *options, struct swarm_announcer **out,
    struct err_detail *why) ERR_CHECKED;
enum err swarm_announcer_start(struct swarm_announcer *announcer) ERR_CHECKED;

// swarm_announcer_changed is the store's swarm_store_change_fn; the context is the announcer.
swarm_store_change_fn swarm_announcer_changed;

// swarm_announcer_wait waits until the tracker knows of this server. ERR_TIMEOUT: not yet. ERR_DENIED,
// ERR_UNAUTHENTICATED and others: it will not; the announcer goes on trying nevertheless.
enum err swarm_announcer_wait(struct swarm_announcer *announcer, unsigned timeout_ms,
    struct err_detail *why) ERR_CHECKED;

// swarm_announcer_is_known tells whether the tracker knows of this server now.
bool swarm_announcer_is_known(struct swarm_announcer *announcer);

// swarm_announcer_stop says goodbye, if there is a connection, and ends the thread. May run twice.
void swarm_announcer_stop(struct swarm_announcer *announcer);

// swarm_announcer_free, after the store is told of no changes any more.
void swarm_announcer_free(struct swarm_announcer **announcer);

#endif
