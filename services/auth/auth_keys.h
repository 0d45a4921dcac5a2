// People's public keys: fc.auth.v1.Keys, and what sibling services ask about people. A part of struct auth_service.
#ifndef AUTH_AUTH_KEYS_H
#define AUTH_AUTH_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"
#include "base/text.h"
#include "e2e/e2e_user.h"
#include "rpc/rpc_server.h"
#include "services/auth/auth_service.h"
#include "services/store/store.h"

enum {
    AUTH_KEYS_USERS_MAX = 1000,          // in one GetUsers call
    AUTH_KEYS_REPLY_BYTES = 1024 * 1024, // of entries in its answer
};

// auth_keys_rpc and auth_keys_rules are what rpc_server_add_service takes.
ProtobufCService *auth_keys_rpc(struct auth_service *auth);
const struct rpc_method_rule *auth_keys_rules(size_t *count_out);

// For siblings, inside a transaction or a snapshot of theirs. ERR_NOT_FOUND: no such account.
enum err auth_service_find_user(struct auth_service *auth, struct store_tx *tx, const char *name,
    uint8_t id_out[16]) ERR_CHECKED;
enum err auth_service_find_user_name(struct auth_service *auth, struct store_tx *tx, const uint8_t user_id[16],
    char name_out[TEXT_USER_NAME_MAX_BYTES + 1]) ERR_CHECKED;

// auth_service_find_chain gives the user's chain as it is now, which the caller deinits; seq 0: the user has no keys,
// or there is no such account.
enum err auth_service_find_chain(struct auth_service *auth, struct store_tx *tx, const uint8_t user_id[16],
    struct e2e_user *out) ERR_CHECKED;

#endif
