// The Auth service: accounts and tokens. fc.auth.v1.Auth; people's keys are auth_keys.h.
#ifndef AUTH_AUTH_SERVICE_H
#define AUTH_AUTH_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"
#include "rpc/rpc_server.h"
#include "services/store/store.h"

struct auth_service;

struct auth_service_options {
    struct store *store;
    bool is_signup_closed;
    uint64_t max_users;         // accounts that there may be; 0: any number
    uint64_t token_lifetime_ms; // 0: 30 days
    // The token of a session has been revoked: what was cached of it and opened with it must go. On the store's writer
    // thread, before the caller is answered.
    void (*on_revoked)(void *context, const uint8_t session_id[16]);
    // A device of this user's has been revoked, or all of them by a reset. Inside the transaction that says so, whose
    // fate an error shares. May be NULL.
    enum err (*on_device_revoked)(void *context, struct store_tx *tx, const uint8_t user_id[16]);
    void *context;
};

// auth_service_new migrates its tables and starts its hashing thread.
enum err auth_service_new(const struct auth_service_options *options, struct auth_service **out,
    struct err_detail *why) ERR_CHECKED;

// auth_service_rpc and auth_service_rules are what rpc_server_add_service takes.
ProtobufCService *auth_service_rpc(struct auth_service *auth);
const struct rpc_method_rule *auth_service_rules(size_t *count_out);

// auth_service_authenticate is an rpc_authenticate_fn with the service as its context.
enum err auth_service_authenticate(void *auth, struct bytes_view token, struct rpc_identity *identity_out);

// auth_service_free waits for what is being hashed. After rpc_server_free, when no handler runs any more.
void auth_service_free(struct auth_service **auth);

#endif
