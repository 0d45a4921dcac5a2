// Pull-through: what a mirror has not got it fetches from the origin, with the grant of the reader who asked for it.
//
// One fetch of a segment serves all who ask for it meanwhile. What came is checked against the digests, which are
// checked against the grant, and kept in the store. While a file is being read, the rest of it is fetched in the
// background, unless it is larger than the store's budget.
//
// Nothing here waits: calls go out on connections of their own, and what comes back is checked and kept on the pool.
#ifndef SWARM_SWARM_PULL_H
#define SWARM_SWARM_PULL_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/work_pool.h"
#include "rpc/rpc_tls.h"
#include "swarm/swarm_server.h"
#include "swarm/swarm_store.h"

struct swarm_pull;

struct swarm_pull_options {
    struct swarm_store *store;
    struct work_pool *pool;
    const char *origin_url;
    struct rpc_tls_client *origin_tls; // NULL without TLS
};

enum err swarm_pull_new(const struct swarm_pull_options *options, struct swarm_pull **out,
    struct err_detail *why) ERR_CHECKED;

// swarm_pull_segment answers an ask for a segment that is not in the store, and swarm_pull_digests one for digests,
// once that has been fetched. Any thread.
void swarm_pull_segment(struct swarm_pull *pull, struct swarm_ask *ask);
void swarm_pull_digests(struct swarm_pull *pull, struct swarm_ask *ask);

// swarm_pull_whole fetches a file that nobody has asked for, in the background, with a grant by this key. Any thread.
// ERR_DENIED and others: it is none.
enum err swarm_pull_whole(struct swarm_pull *pull, const uint8_t file_id[E2E_GRANT_ID_BYTES], struct bytes_view grant,
    struct bytes_view signature, const uint8_t key[CRYPTO_KEY_BYTES], struct err_detail *why) ERR_CHECKED;

// swarm_pull_file_count is how many files are being fetched.
size_t swarm_pull_file_count(struct swarm_pull *pull);

// swarm_pull_stop fails what waits and ends what is under way; no ask may come any more. Before the pool is freed.
void swarm_pull_stop(struct swarm_pull *pull);

// swarm_pull_free, after the pool.
void swarm_pull_free(struct swarm_pull **pull);

#endif
