// Other people's chains: fetched, checked against what is kept, and pinned.
//
// Each fetch begins with the newest entry that is kept, so that a server which shows another one in its place is found
// out at once.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "client/fc_identity_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/auth/v1/keys.stub.h"

enum {
    USERS_PER_CALL = 1000, // proto/fc/auth/v1/keys.proto
};

// --- What is kept -------------------------------------------------------------------------------------------------

struct replay {
    const uint8_t *user_id;
    struct e2e_user user;
    enum err result;
    struct err_detail *why;
};

static bool
replay_entry(void *context, const struct fc_store_entry *entry)
{
    struct replay *replay = context;
    replay->result = e2e_user_apply(&replay->user, replay->user_id, entry->body, entry->signature, NULL);
    if (replay->result != ERR_OK && replay->result != ERR_NO_MEMORY) {
        replay->result = err_fail(replay->why, ERR_CORRUPT,
            "what this machine keeps of somebody's keys is damaged: entry %" PRIu64 " does not verify", entry->seq);
    }
    return replay->result == ERR_OK;
}

enum err
fc_identity_cached(struct fc_identity *identity, const uint8_t user_id[E2E_ID_BYTES], struct e2e_user *out,
    struct err_detail *why)
{
    struct replay replay = {.user_id = user_id, .why = why};
    enum err err = fc_store_user_entries(identity->store, user_id, 0, replay_entry, &replay, why);
    if (err == ERR_OK) {
        err = replay.result;
    }
    if (err != ERR_OK) {
        e2e_user_deinit(&replay.user);
        return err;
    }
    *out = replay.user;
    return ERR_OK;
}

// --- Pins ---------------------------------------------------------------------------------------------------------

// Whether the user is who this account talks to. Changes the row; *is_other_out: a verified user has another identity.
static void
check_pin(struct fc_identity *identity, struct fc_store_user *row, const struct e2e_user *user, bool *is_other_out)
{
    bool is_same = row->has_pin && memcmp(row->identity_key, user->identity_key, sizeof(row->identity_key)) == 0;
    *is_other_out = false;
    if (is_same) {
        row->has_pending_key = false;
        return;
    }
    if (row->has_pin && row->is_verified) {
        row->has_pending_key = true;
        memcpy(row->pending_key, user->identity_key, sizeof(row->pending_key));
        *is_other_out = true;
        return;
    }
    if (row->has_pin && memcmp(row->user_id, identity->user_id, sizeof(row->user_id)) == 0) {
        fc_identity_warn(identity,
            "your account has new keys: if it was not you who ran 'fc recover --reset', somebody else is in it");
    } else if (row->has_pin) {
        fc_identity_warn(identity,
            "%s has new keys: either they lost all their devices, or somebody else is behind the name now; "
            "compare with 'fc verify %s'",
            row->name, row->name);
    }
    row->has_pin = true;
    row->has_pending_key = false;
    memcpy(row->identity_key, user->identity_key, sizeof(row->identity_key));
    row->first_seen_ms = clock_unix_ms();
}

static enum err
fail_other(const char *name, struct err_detail *why)
{
    return err_fail(why, ERR_UNTRUSTED,
        "%s, whom you have verified, has another identity now: ask them about it, and if it is they, "
        "'fc verify %s --accept' goes on with the new one",
        name, name);
}

// --- What the server says -----------------------------------------------------------------------------------------

// The row to begin with: the user's own, or a new one for somebody who is met for the first time.
static enum err
find_row(struct fc_identity *identity, const Fc__Auth__V1__UserChain *wire, struct fc_store_user *row,
    struct err_detail *why)
{
    struct fc_store_user namesake;
    enum err err = fc_store_user_find(identity->store, wire->user_name, &namesake, why);
    if (err == ERR_OK && memcmp(namesake.user_id, wire->user_id.data, E2E_ID_BYTES) != 0) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server says that %s is another account than the one of that name before: nothing was sent to it",
            wire->user_name);
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    err = fc_store_user_get(identity->store, wire->user_id.data, row, why);
    if (err == ERR_NOT_FOUND) {
        *row = (struct fc_store_user){0};
        memcpy(row->user_id, wire->user_id.data, sizeof(row->user_id));
        memcpy(row->name, wire->user_name, strlen(wire->user_name) + 1);
        return ERR_OK;
    }
    if (err == ERR_OK && strcmp(row->name, wire->user_name) != 0) {
        return err_fail(why, ERR_UNTRUSTED, "the server calls %s \"%s\" now, and names do not change", row->name,
            wire->user_name);
    }
    return err;
}

static enum err
fail_fork(const char *name, const char *what, struct err_detail *why)
{
    return err_fail(why, ERR_UNTRUSTED,
        "the server shows keys of %s that cannot be right: %s. Nothing was sent; ask who runs the server", name, what);
}

// One entry that the server says has this number: known, next, or a lie.
static enum err
take_entry(struct fc_identity *identity, const struct fc_store_user *row, const Fc__E2e__V1__Signed *wire, uint64_t seq,
    struct e2e_user *user, struct err_detail *why)
{
    const char *name = row->name;
    struct bytes_view body = bytes_view_of(wire->body.data, wire->body.len);
    struct bytes_view signature = bytes_view_of(wire->signature.data, wire->signature.len);
    if (seq < user->seq) {
        return ERR_OK; // another process has fetched more meanwhile
    }
    if (seq == user->seq) {
        uint8_t hash[DIGEST_SHA256_BYTES];
        enum err err = digest_of(DIGEST_SHA256, body, hash);
        if (err == ERR_OK && memcmp(hash, user->head_hash, sizeof(hash)) != 0) {
            return fail_fork(name, "they differ from those that this machine has seen", why);
        }
        return err;
    }
    struct err_detail cause = {0};
    enum err err = e2e_user_apply(user, row->user_id, body, signature, &cause);
    if (err == ERR_CONFLICT) {
        return fail_fork(name, "they do not continue those that this machine has seen", why);
    }
    if (err == ERR_CORRUPT) {
        return fail_fork(name, "the signature is not theirs", why);
    }
    if (err == ERR_INVALID) {
        return fail_fork(name, cause.message, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    const struct fc_store_entry entry = {.seq = user->seq, .body = body, .signature = signature};
    return fc_store_user_append(identity->store, row->user_id, &entry, why);
}

// Takes in what is new of one user, inside a transaction of the store. *is_done_out: that was all of it.
static enum err
take_chain(struct fc_identity *identity, const Fc__Auth__V1__UserChain *wire, uint64_t after_seq, bool *is_done_out,
    bool *is_other_out, struct err_detail *why)
{
    struct fc_store_user row;
    struct e2e_user user = {0};
    *is_other_out = false;
    enum err err = find_row(identity, wire, &row, why);
    if (err == ERR_OK) {
        err = fc_identity_cached(identity, row.user_id, &user, why);
    }
    if (err == ERR_OK && wire->head_seq < user.seq) {
        err = fail_fork(row.name, "they have gone back to an earlier state", why);
    }
    if (err == ERR_OK) {
        err = fc_store_user_put(identity->store, &row, why); // before its entries
    }
    for (size_t i = 0; err == ERR_OK && i < wire->n_entries; i++) {
        err = take_entry(identity, &row, wire->entries[i], after_seq + 1 + i, &user, why);
    }
    if (err == ERR_OK && user.seq > 0 && strcmp(user.name, row.name) != 0) {
        err = fail_fork(row.name, "they are those of somebody with another name", why);
    }
    if (err == ERR_OK) {
        *is_done_out = user.seq >= wire->head_seq;
        if (*is_done_out && user.seq > 0) {
            check_pin(identity, &row, &user, is_other_out);
        }
        err = fc_store_user_put(identity->store, &row, why);
    }
    e2e_user_deinit(&user);
    return err;
}

// --- Fetching -----------------------------------------------------------------------------------------------------

struct round {
    struct fc_identity *identity;
    struct fc_identity_wanted *wanted;
    size_t count;
    bool has_progress;
    char other[FC_USER_NAME_MAX_BYTES]; // a verified user with another identity
};

// Where this user's entries begin that are asked for: with the newest that is kept.
static enum err
find_start(struct fc_identity *identity, struct fc_identity_wanted *wanted, struct err_detail *why)
{
    struct fc_store_user row;
    enum err err = wanted->id != NULL ? fc_store_user_get(identity->store, wanted->id, &row, why)
                                      : fc_store_user_find(identity->store, wanted->name, &row, why);
    if (err == ERR_OK) {
        wanted->after_seq = row.chain_seq > 0 ? row.chain_seq - 1 : 0;
    } else if (err == ERR_NOT_FOUND) {
        wanted->after_seq = 0;
        err = ERR_OK;
    }
    return err;
}

static struct fc_identity_wanted *
find_wanted(struct round *round, const Fc__Auth__V1__UserChain *wire)
{
    for (size_t i = 0; i < round->count; i++) {
        struct fc_identity_wanted *wanted = &round->wanted[i];
        if (!wanted->is_done && (wanted->id != NULL ? memcmp(wanted->id, wire->user_id.data, E2E_ID_BYTES) == 0
                                                    : strcmp(wanted->name, wire->user_name) == 0)) {
            return wanted;
        }
    }
    return NULL;
}

static enum err
take_answer(struct round *round, const Fc__Auth__V1__GetUsersResponse *response, struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < round->count; i++) {
        round->wanted[i].is_missing = !round->wanted[i].is_done;
    }
    for (size_t i = 0; err == ERR_OK && i < response->n_users; i++) {
        const Fc__Auth__V1__UserChain *wire = response->users[i];
        struct fc_identity_wanted *wanted = NULL;
        bool is_other = false;
        if (wire->user_id.len == E2E_ID_BYTES && text_check_user_name(wire->user_name, NULL) == ERR_OK) {
            wanted = find_wanted(round, wire);
        }
        if (wanted == NULL) {
            return err_fail(why, ERR_PROTOCOL, "the server told of a user who was not asked for");
        }
        wanted->is_missing = false;
        memcpy(wanted->found_id, wire->user_id.data, sizeof(wanted->found_id));
        err = take_chain(round->identity, wire, wanted->after_seq, &wanted->is_done, &is_other, why);
        round->has_progress = round->has_progress || wanted->is_done || wire->n_entries > 1;
        if (is_other) {
            memcpy(round->other, wire->user_name, strlen(wire->user_name) + 1);
        }
    }
    for (size_t i = 0; err == ERR_OK && i < round->count; i++) {
        round->wanted[i].is_done = round->wanted[i].is_done || round->wanted[i].is_missing;
    }
    round->has_progress = round->has_progress || response->n_users == 0;
    return err;
}

// One call for those that are not done, and what it answers, in one transaction of the store.
static enum err
run_round(struct round *round, Fc__Auth__V1__WantedUser *users, Fc__Auth__V1__WantedUser **list, struct err_detail *why)
{
    struct fc_identity *identity = round->identity;
    Fc__Auth__V1__GetUsersRequest request = FC__AUTH__V1__GET_USERS_REQUEST__INIT;
    const Fc__Auth__V1__GetUsersResponse *response = NULL;
    struct rpc_unary call;
    request.users = list;
    for (size_t i = 0; i < round->count; i++) {
        struct fc_identity_wanted *wanted = &round->wanted[i];
        if (wanted->is_done) {
            continue;
        }
        enum err err = find_start(identity, wanted, why);
        if (err != ERR_OK) {
            return err;
        }
        Fc__Auth__V1__WantedUser *user = &users[request.n_users];
        *user = (Fc__Auth__V1__WantedUser)FC__AUTH__V1__WANTED_USER__INIT;
        if (wanted->id != NULL) {
            user->user_id = fc_lend(wanted->id, E2E_ID_BYTES);
        } else {
            user->user_name = fc_lend_text(wanted->name);
        }
        user->after_seq = wanted->after_seq;
        list[request.n_users++] = user;
    }
    fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_auth_v1_keys_get_users(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_store_begin(identity->store, why);
        if (err == ERR_OK) {
            err = take_answer(round, response, why);
        }
        if (err == ERR_OK) {
            err = fc_store_commit(identity->store, why);
        }
        if (err != ERR_OK) {
            fc_store_rollback(identity->store);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

// Of up to USERS_PER_CALL users.
static enum err
sync_some(struct round *round, struct err_detail *why)
{
    Fc__Auth__V1__WantedUser *users = calloc(round->count, sizeof(*users));
    Fc__Auth__V1__WantedUser **list = calloc(round->count, sizeof(*list));
    enum err err = users != NULL && list != NULL ? ERR_OK : ERR_NO_MEMORY;
    bool is_done = false;
    for (size_t i = 0; i < round->count; i++) {
        round->wanted[i].is_done = false;
        round->wanted[i].is_missing = false;
    }
    while (err == ERR_OK && !is_done) {
        round->has_progress = false;
        err = run_round(round, users, list, why);
        is_done = true;
        for (size_t i = 0; i < round->count; i++) {
            is_done = is_done && round->wanted[i].is_done;
        }
        if (err == ERR_OK && !is_done && !round->has_progress) {
            err = err_fail(why, ERR_PROTOCOL, "the server says that there are more keys, and does not show them");
        }
    }
    free(list);
    free(users);
    return err;
}

static enum err
sync_all(struct fc_identity *identity, struct fc_identity_wanted *wanted, size_t count, bool is_lenient,
    struct err_detail *why)
{
    struct round round = {.identity = identity};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < count; i += USERS_PER_CALL) {
        round.wanted = wanted + i;
        round.count = count - i < USERS_PER_CALL ? count - i : USERS_PER_CALL;
        err = sync_some(&round, why);
    }
    if (err == ERR_OK && round.other[0] != '\0' && !is_lenient) {
        err = fail_other(round.other, why);
    }
    return err;
}

enum err
fc_identity_sync(struct fc_identity *identity, struct fc_identity_wanted *wanted, size_t count, struct err_detail *why)
{
    return sync_all(identity, wanted, count, false, why);
}

enum err
fc_identity_sync_lenient(struct fc_identity *identity, struct fc_identity_wanted *wanted, size_t count,
    struct err_detail *why)
{
    return sync_all(identity, wanted, count, true, why);
}

enum err
fc_identity_user(struct fc_identity *identity, const char *name, struct e2e_user *out, struct err_detail *why)
{
    struct fc_identity_wanted wanted = {.name = name};
    enum err err = text_check_user_name(name, why);
    if (err == ERR_OK) {
        err = fc_identity_sync(identity, &wanted, 1, why);
    }
    if (err == ERR_OK && wanted.is_missing) {
        err = err_fail(why, ERR_NOT_FOUND, "there is no user \"%s\"", name);
    }
    if (err == ERR_OK) {
        err = fc_identity_cached(identity, wanted.found_id, out, why);
    }
    if (err == ERR_OK && out->seq == 0) {
        err = err_fail(why, ERR_PRECONDITION, "%s has no keys yet: they get them when they log in next", name);
    }
    return err;
}

enum err
fc_identity_sync_own(struct fc_identity *identity, struct err_detail *why)
{
    struct fc_identity_wanted wanted = {.id = identity->user_id};
    struct e2e_user own = {0};
    enum err err = fc_identity_sync(identity, &wanted, 1, why);
    if (err == ERR_OK && wanted.is_missing) {
        err = err_fail(why, ERR_NOT_FOUND, "the server does not know this account");
    }
    if (err == ERR_OK) {
        err = fc_identity_cached(identity, identity->user_id, &own, why);
    }
    if (err == ERR_OK) {
        e2e_user_deinit(&identity->own);
        identity->own = own;
    }
    return err;
}
