// GetUsers, and what sibling services ask about people.
#include <string.h>

#include "base/arena.h"
#include "services/auth/auth_keys.h"
#include "services/auth/auth_keys_core.h"
#include "services/auth/auth_service_priv.h"

// Everything that a reply consists of, from one arena, whose limit is what a hostile request can make it cost.
enum {
    REPLY_MAX_BYTES = 4 * 1024 * 1024,
    ENTRY_MIN_BYTES = 96, // user id, hash and signature alone are more
};

struct users_query {
    const Fc__Auth__V1__GetUsersRequest *request;
    struct arena arena;
    size_t entry_bytes; // so far
    Fc__Auth__V1__UserChain **chains;
    size_t chain_count;
    Fc__Auth__V1__UserChain *chain; // being filled
    size_t entry_room;              // pointers that chain->entries has memory for
};

static bool
copy_binary(struct arena *arena, struct bytes_view from, ProtobufCBinaryData *out)
{
    uint8_t *data = arena_alloc(arena, from.size > 0 ? from.size : 1);
    if (data == NULL) {
        return false;
    }
    if (from.size > 0) {
        memcpy(data, from.data, from.size);
    }
    *out = auth_op_binary_of(data, from.size);
    return true;
}

// ERR_TOO_BIG ends the entries of this reply.
static enum err
add_entry(void *context, struct bytes_view body, struct bytes_view signature)
{
    struct users_query *query = context;
    if (query->chain->n_entries == query->entry_room ||
        query->entry_bytes + body.size + signature.size > AUTH_KEYS_REPLY_BYTES) {
        return ERR_TOO_BIG;
    }
    Fc__E2e__V1__Signed *entry = arena_alloc(&query->arena, sizeof(*entry));
    if (entry == NULL) {
        return ERR_TOO_BIG;
    }
    *entry = (Fc__E2e__V1__Signed)FC__E2E__V1__SIGNED__INIT;
    if (!copy_binary(&query->arena, body, &entry->body) || !copy_binary(&query->arena, signature, &entry->signature)) {
        return ERR_TOO_BIG;
    }
    query->entry_bytes += body.size + signature.size;
    query->chain->entries[query->chain->n_entries++] = entry;
    return ERR_OK;
}

static enum err
find_wanted(struct store_tx *tx, const Fc__Auth__V1__WantedUser *wanted, struct auth_account *out)
{
    if (wanted->user_id.len == AUTH_ID_BYTES) {
        return auth_core_find_account_by_id(tx, wanted->user_id.data, out);
    }
    return auth_core_find_account(tx, wanted->user_name, out, NULL, NULL);
}

static enum err
add_chain(struct store_tx *tx, struct users_query *query, const Fc__Auth__V1__WantedUser *wanted)
{
    struct auth_account account;
    uint64_t head_seq = 0;
    enum err err = find_wanted(tx, wanted, &account);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = auth_keys_core_head(tx, account.user_id, &head_seq);
    }
    if (err != ERR_OK) {
        return err;
    }
    Fc__Auth__V1__UserChain *chain = arena_alloc(&query->arena, sizeof(*chain));
    if (chain == NULL) {
        return ERR_NO_MEMORY;
    }
    *chain = (Fc__Auth__V1__UserChain)FC__AUTH__V1__USER_CHAIN__INIT;
    chain->head_seq = head_seq;
    chain->user_name = arena_copy_text(&query->arena, account.user_name);
    // No more pointers than entries can still follow, so that long chains do not use up the arena with empty lists.
    uint64_t after_count = head_seq > wanted->after_seq ? head_seq - wanted->after_seq : 0;
    uint64_t fitting_count = (AUTH_KEYS_REPLY_BYTES - query->entry_bytes) / ENTRY_MIN_BYTES;
    query->entry_room = (size_t)(after_count < fitting_count ? after_count : fitting_count);
    chain->entries = arena_alloc(&query->arena, (query->entry_room + 1) * sizeof(chain->entries[0]));
    if (chain->user_name == NULL || chain->entries == NULL ||
        !copy_binary(&query->arena, bytes_view_of(account.user_id, sizeof(account.user_id)), &chain->user_id)) {
        return ERR_NO_MEMORY;
    }
    query->chain = chain;
    query->chains[query->chain_count++] = chain;
    if (query->entry_room == 0) {
        return ERR_OK;
    }
    err = auth_keys_core_each_entry(tx, account.user_id, wanted->after_seq, add_entry, query);
    return err == ERR_TOO_BIG ? ERR_OK : err;
}

static enum err
users_read(struct store_tx *tx, void *context)
{
    struct users_query *query = context;
    enum err err = ERR_OK;
    query->chains = arena_alloc(&query->arena, (query->request->n_users + 1) * sizeof(query->chains[0]));
    if (query->chains == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; err == ERR_OK && i < query->request->n_users; i++) {
        err = add_chain(tx, query, query->request->users[i]);
    }
    return err;
}

void
auth_keys_handle_get_users(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__GetUsersRequest *request,
    Fc__Auth__V1__GetUsersResponse_Closure answer, void *closure_data)
{
    struct rpc_call *call = closure_data;
    struct users_query query = {.request = request};
    if (request->n_users > AUTH_KEYS_USERS_MAX) {
        rpc_call_fail(call, ERR_INVALID, "%zu users are asked for; at most %d are allowed in one call",
            request->n_users, AUTH_KEYS_USERS_MAX);
        return;
    }
    for (size_t i = 0; i < request->n_users; i++) {
        const Fc__Auth__V1__WantedUser *wanted = request->users[i];
        bool has_id = wanted->user_id.len == AUTH_ID_BYTES;
        bool has_name = wanted->user_name[0] != '\0';
        if (has_id == has_name || (!has_id && wanted->user_id.len != 0)) {
            rpc_call_fail(call, ERR_INVALID, "users[%zu] needs either a user_name or a user_id of %d bytes", i,
                AUTH_ID_BYTES);
            return;
        }
    }
    arena_init(&query.arena, REPLY_MAX_BYTES);
    enum err err = store_read(auth_keys_service(rpc)->options.store, users_read, &query);
    if (err == ERR_OK) {
        Fc__Auth__V1__GetUsersResponse response = FC__AUTH__V1__GET_USERS_RESPONSE__INIT;
        response.users = query.chains;
        response.n_users = query.chain_count;
        answer(&response, call);
    } else {
        auth_op_fail_internally(call, err, "the users could not be read");
    }
    arena_deinit(&query.arena);
}

// --- What siblings ask ---------------------------------------------------------------------------------------------

enum err
auth_service_find_user(struct auth_service *auth, struct store_tx *tx, const char *name, uint8_t id_out[16])
{
    struct auth_account account;
    (void)auth;
    enum err err = auth_core_find_account(tx, name, &account, NULL, NULL);
    if (err == ERR_OK) {
        memcpy(id_out, account.user_id, sizeof(account.user_id));
    }
    return err;
}

enum err
auth_service_find_user_name(struct auth_service *auth, struct store_tx *tx, const uint8_t user_id[16],
    char name_out[TEXT_USER_NAME_MAX_BYTES + 1])
{
    struct auth_account account;
    (void)auth;
    enum err err = auth_core_find_account_by_id(tx, user_id, &account);
    if (err == ERR_OK) {
        memcpy(name_out, account.user_name, sizeof(account.user_name));
    }
    return err;
}

enum err
auth_service_find_chain(struct auth_service *auth, struct store_tx *tx, const uint8_t user_id[16], struct e2e_user *out)
{
    return auth_chains_find(auth->chains, tx, user_id, out);
}
