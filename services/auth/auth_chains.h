// Chains that have been checked before, so that an entry of a large room costs a look at each member's newest entry and
// not all signatures of all chains anew.
//
// What is kept stands for a head: a number and a hash. It is used only where the store, inside the caller's
// transaction, has the same head, so neither a rollback nor another's commit makes it wrong.
#ifndef AUTH_AUTH_CHAINS_H
#define AUTH_AUTH_CHAINS_H

#include <stdint.h>

#include "base/err.h"
#include "e2e/e2e_user.h"
#include "services/auth/auth_core.h"
#include "services/store/store.h"

struct auth_chains;

// Any thread may call these.
enum err auth_chains_new(struct auth_chains **out) ERR_CHECKED;
void auth_chains_free(struct auth_chains **chains);

// auth_chains_find is auth_keys_core_find_chain.
enum err auth_chains_find(struct auth_chains *chains, struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct e2e_user *out) ERR_CHECKED;

#endif
