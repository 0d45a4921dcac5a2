// For swarm_server.c only: grants that were found good are remembered, because a signature costs a hundred times what
// a digest does, and a reader sends the same grant with each request.
#ifndef SWARM_SWARM_GRANTS_PRIV_H
#define SWARM_SWARM_GRANTS_PRIV_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/err.h"
#include "e2e/e2e_grant.h"

struct swarm_grants;

enum err swarm_grants_new(struct swarm_grants **out) ERR_CHECKED;
void swarm_grants_free(struct swarm_grants **grants);

// swarm_grants_set_key forgets what was checked by another key. Any thread.
void swarm_grants_set_key(struct swarm_grants *grants, const uint8_t key[CRYPTO_KEY_BYTES]);

// swarm_grants_check is e2e_grant_check by the key that was set. ERR_UNAVAILABLE: none has been. Any thread.
enum err swarm_grants_check(struct swarm_grants *grants, struct bytes_view encoded, struct bytes_view signature,
    const uint8_t file_id[E2E_GRANT_ID_BYTES], int64_t now_unix_ms, struct e2e_grant *out,
    struct err_detail *why) ERR_CHECKED;

#endif
