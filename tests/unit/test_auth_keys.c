// The Keys service's handlers and the new ones of Auth, called as the server would call them, with calls that only
// record the answer. Accounts are put into the store directly: what a password costs is test_auth_service's.
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "chain_support.h"
#include "rpc/rpc_call.h"
#include "services/auth/auth_core.h"
#include "services/auth/auth_keys.h"
#include "services/auth/auth_keys_core.h"
#include "services/auth/auth_service.h"

#include "fc/auth/v1/auth.pb-c.h"
#include "fc/auth/v1/keys.pb-c.h"

// --- Calls --------------------------------------------------------------------------------------------------------

struct rpc_call {
    struct rpc_identity identity;
    uint8_t request_id[RPC_REQUEST_ID_BYTES];

    pthread_mutex_t mutex;
    pthread_cond_t answered;
    struct {
        unsigned answers;
        enum err code;
        struct err_detail why;
        char reason[64];
        struct bytes response; // packed
    } locked;
};

const struct rpc_identity *
rpc_call_identity(const struct rpc_call *call)
{
    return &call->identity;
}

struct bytes_view
rpc_call_request_id(const struct rpc_call *call)
{
    return bytes_view_of(call->request_id, sizeof(call->request_id));
}

bool
rpc_call_is_cancelled(const struct rpc_call *call)
{
    (void)call;
    return false;
}

void
rpc_call_fail_detail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason,
    uint32_t retry_after_ms)
{
    (void)retry_after_ms;
    pthread_mutex_lock(&call->mutex);
    call->locked.answers++;
    call->locked.code = code;
    if (why != NULL) {
        call->locked.why = *why;
    }
    snprintf(call->locked.reason, sizeof(call->locked.reason), "%s", reason != NULL ? reason : "");
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&call->mutex);
}

void
rpc_call_fail(struct rpc_call *call, enum err code, const char *format, ...)
{
    struct err_detail why = {0};
    va_list values;
    va_start(values, format);
    vsnprintf(why.message, sizeof(why.message), format, values);
    va_end(values);
    rpc_call_fail_detail(call, code, &why, NULL, 0);
}

static void
answer(const ProtobufCMessage *response, struct rpc_call *call)
{
    pthread_mutex_lock(&call->mutex);
    call->locked.answers++;
    call->locked.code = ERR_OK;
    size_t size = protobuf_c_message_get_packed_size(response);
    assert_int_equal(bytes_reserve(&call->locked.response, size + 1), ERR_OK);
    call->locked.response.size = protobuf_c_message_pack(response, call->locked.response.data);
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&call->mutex);
}

// One closure for each kind of response.
#define CLOSURE(function, type)                                                                                        \
    static void function(const type *response, void *closure_data)                                                     \
    {                                                                                                                  \
        answer(&response->base, closure_data);                                                                         \
    }
CLOSURE(on_users, Fc__Auth__V1__GetUsersResponse)
CLOSURE(on_append, Fc__Auth__V1__AppendUserEntryResponse)
CLOSURE(on_get_recovery, Fc__Auth__V1__GetRecoveryResponse)
CLOSURE(on_set_recovery, Fc__Auth__V1__SetRecoveryResponse)
CLOSURE(on_offer, Fc__Auth__V1__OfferDeviceResponse)
CLOSURE(on_offers, Fc__Auth__V1__ListOffersResponse)
CLOSURE(on_put, Fc__Auth__V1__PutDeviceSecretsResponse)
CLOSURE(on_get, Fc__Auth__V1__GetDeviceSecretsResponse)
CLOSURE(on_password, Fc__Auth__V1__ChangePasswordResponse)
CLOSURE(on_sessions, Fc__Auth__V1__ListSessionsResponse)
CLOSURE(on_revoke, Fc__Auth__V1__RevokeSessionResponse)
CLOSURE(on_sign_up, Fc__Auth__V1__SignUpResponse)

// --- The service --------------------------------------------------------------------------------------------------

static char dir[64];
static struct store *store;
static struct auth_service *auth;
static unsigned rekeys;
static uint8_t rekeyed_user[16];
static enum err rekey_result;
static unsigned revocations;
static struct rpc_call call; // the one in hand

static uint8_t alice_id[16];
static uint8_t bob_id[16];
static uint8_t alice_private[32] = {1};
static uint8_t bob_private[32] = {2};
static struct e2e_keys phone;
static struct e2e_keys laptop;
static struct e2e_keys way_back;
static struct chain_entry first; // alice's

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static enum err
on_device_revoked(void *context, struct store_tx *tx, const uint8_t user_id[16])
{
    (void)context;
    struct e2e_user user = {0};
    // The transaction's own state, whatever becomes of it.
    assert_int_equal(auth_service_find_chain(auth, tx, user_id, &user), ERR_OK);
    assert_int_equal(user.seq, 2);
    e2e_user_deinit(&user);
    rekeys++;
    memcpy(rekeyed_user, user_id, sizeof(rekeyed_user));
    return rekey_result;
}

static void
on_revoked(void *context, const uint8_t session_id[16])
{
    (void)context;
    (void)session_id;
    revocations++;
}

static void
start_service(uint64_t max_users)
{
    struct err_detail why = {0};
    struct auth_service_options options = {
        .store = store,
        .max_users = max_users,
        .on_revoked = on_revoked,
        .on_device_revoked = on_device_revoked,
    };
    assert_int_equal(auth_service_new(&options, &auth, &why), ERR_OK);
}

struct account_job {
    struct store_job job; // first
    struct auth_account account;
    struct auth_kdf kdf;
    struct auth_verifier verifier;
    uint8_t request_id[16];
};

static enum err
add_account(struct store_tx *tx, struct store_job *job)
{
    struct account_job *it = (struct account_job *)job;
    return auth_core_add_account(tx, bytes_view_of(it->request_id, sizeof(it->request_id)), &it->kdf, &it->verifier, 1,
        &it->account);
}

static void
make_account(const char *name, uint8_t number, const struct auth_verifier *verifier, uint8_t id_out[16])
{
    struct account_job it = {.job.run = add_account, .kdf = {.salt_size = 16, .log2_n = 15, .r = 8, .p = 1}};
    memset(it.account.user_id, number, sizeof(it.account.user_id));
    memset(it.request_id, number, sizeof(it.request_id));
    snprintf(it.account.user_name, sizeof(it.account.user_name), "%s", name);
    if (verifier != NULL) {
        it.verifier = *verifier;
    }
    assert_int_equal(store_write_wait(store, &it.job), ERR_OK);
    memcpy(id_out, it.account.user_id, 16);
}

static int
make(void **state)
{
    (void)state;
    struct err_detail why = {0};
    rekeys = revocations = 0;
    rekey_result = ERR_OK;
    clock_set_unix_ms_for_test(1000000);
    snprintf(dir, sizeof(dir), "/tmp/fc-auth-XXXXXX");
    if (mkdtemp(dir) == NULL || store_open(dir, &store, &why) != ERR_OK) {
        return -1;
    }
    start_service(0);
    make_account("alice", 0xa1, NULL, alice_id);
    make_account("bob", 0xb0, NULL, bob_id);
    assert_int_equal(e2e_keys_generate(&phone), ERR_OK);
    assert_int_equal(e2e_keys_generate(&laptop), ERR_OK);
    assert_int_equal(e2e_keys_generate(&way_back), ERR_OK);
    first = (struct chain_entry){.user_id = alice_id,
        .seq = 1,
        .user_name = "alice",
        .identity = alice_private,
        .added = {&phone},
        .recovery = &way_back};
    chain_sign(&first);
    return 0;
}

static int
destroy(void **state)
{
    (void)state;
    bytes_free(&call.locked.response);
    auth_service_free(&auth);
    store_close(&store);
    clock_set_unix_ms_for_test(-1);
    return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static Fc__Auth__V1__Keys_Service *
keys(void)
{
    return (Fc__Auth__V1__Keys_Service *)auth_keys_rpc(auth);
}

static Fc__Auth__V1__Auth_Service *
accounts(void)
{
    return (Fc__Auth__V1__Auth_Service *)auth_service_rpc(auth);
}

// Begins a call by one of the two, whose session is numbered.
static struct rpc_call *
by(const uint8_t user_id[16], uint8_t session)
{
    bytes_free(&call.locked.response);
    memset(&call, 0, sizeof(call));
    pthread_mutex_init(&call.mutex, NULL);
    pthread_cond_init(&call.answered, NULL);
    memcpy(call.identity.subject_id, user_id, 16);
    memset(call.identity.session_id, session, 16);
    snprintf(call.identity.subject_name, sizeof(call.identity.subject_name), "%s",
        memcmp(user_id, alice_id, 16) == 0 ? "alice" : "bob");
    return &call;
}

static enum err
wait_answer(void)
{
    pthread_mutex_lock(&call.mutex);
    while (call.locked.answers == 0) {
        pthread_cond_wait(&call.answered, &call.mutex);
    }
    pthread_mutex_unlock(&call.mutex);
    assert_int_equal(call.locked.answers, 1);
    return call.locked.code;
}

// --- What clients send --------------------------------------------------------------------------------------------

static enum err
append(const uint8_t *who, const struct chain_entry *entry)
{
    Fc__E2e__V1__Signed wire = FC__E2E__V1__SIGNED__INIT;
    Fc__Auth__V1__AppendUserEntryRequest request = FC__AUTH__V1__APPEND_USER_ENTRY_REQUEST__INIT;
    wire.body = chain_lend(entry->body, entry->body_size);
    wire.signature = chain_lend(entry->signature, sizeof(entry->signature));
    request.entry = &wire;
    keys()->append_user_entry(keys(), &request, on_append, by(who, 1));
    return wait_answer();
}

static Fc__Auth__V1__GetUsersResponse *
get_user(const char *name, const uint8_t *id, uint64_t after_seq)
{
    Fc__Auth__V1__WantedUser wanted = FC__AUTH__V1__WANTED_USER__INIT;
    Fc__Auth__V1__WantedUser *list[] = {&wanted};
    Fc__Auth__V1__GetUsersRequest request = FC__AUTH__V1__GET_USERS_REQUEST__INIT;
    if (name != NULL) {
        wanted.user_name = (char *)(uintptr_t)name;
    }
    if (id != NULL) {
        wanted.user_id = chain_lend(id, 16);
    }
    wanted.after_seq = after_seq;
    request.users = list;
    request.n_users = 1;
    keys()->get_users(keys(), &request, on_users, by(bob_id, 1));
    if (wait_answer() != ERR_OK) {
        return NULL;
    }
    return fc__auth__v1__get_users_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
}

static enum err
set_recovery(const uint8_t *who, size_t recovery_size, size_t identity_size)
{
    static const uint8_t zeros[1024];
    Fc__Auth__V1__Recovery recovery = FC__AUTH__V1__RECOVERY__INIT;
    Fc__Auth__V1__SetRecoveryRequest request = FC__AUTH__V1__SET_RECOVERY_REQUEST__INIT;
    recovery.sealed_recovery_key = chain_lend(zeros, recovery_size);
    recovery.sealed_identity_key = chain_lend(zeros, identity_size);
    request.recovery = &recovery;
    keys()->set_recovery(keys(), &request, on_set_recovery, by(who, 1));
    return wait_answer();
}

static enum err
get_recovery(const uint8_t *who)
{
    Fc__Auth__V1__GetRecoveryRequest request = FC__AUTH__V1__GET_RECOVERY_REQUEST__INIT;
    keys()->get_recovery(keys(), &request, on_get_recovery, by(who, 1));
    return wait_answer();
}

static enum err
offer(const uint8_t *who, const struct e2e_keys *device, const char *name)
{
    Fc__E2e__V1__Device wire;
    Fc__E2e__V1__UserChange change;
    Fc__Auth__V1__OfferDeviceRequest request = FC__AUTH__V1__OFFER_DEVICE_REQUEST__INIT;
    chain_device(device, false, &wire, &change);
    wire.name = (char *)(uintptr_t)name;
    request.device = &wire;
    keys()->offer_device(keys(), &request, on_offer, by(who, 1));
    return wait_answer();
}

static size_t
count_offers(const uint8_t *who)
{
    Fc__Auth__V1__ListOffersRequest request = FC__AUTH__V1__LIST_OFFERS_REQUEST__INIT;
    keys()->list_offers(keys(), &request, on_offers, by(who, 1));
    assert_int_equal(wait_answer(), ERR_OK);
    Fc__Auth__V1__ListOffersResponse *response =
        fc__auth__v1__list_offers_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_non_null(response);
    size_t count = response->n_devices;
    fc__auth__v1__list_offers_response__free_unpacked(response, NULL);
    return count;
}

static enum err
put_secrets(const uint8_t *who, const uint8_t *device_id, size_t enc_size, size_t size)
{
    static const uint8_t zeros[8192];
    Fc__Auth__V1__PutDeviceSecretsRequest request = FC__AUTH__V1__PUT_DEVICE_SECRETS_REQUEST__INIT;
    request.device_id = chain_lend(device_id, 16);
    request.enc = chain_lend(zeros, enc_size);
    request.ciphertext = chain_lend(zeros, size);
    keys()->put_device_secrets(keys(), &request, on_put, by(who, 1));
    return wait_answer();
}

static enum err
get_secrets(const uint8_t *who, const uint8_t *device_id)
{
    Fc__Auth__V1__GetDeviceSecretsRequest request = FC__AUTH__V1__GET_DEVICE_SECRETS_REQUEST__INIT;
    request.device_id = chain_lend(device_id, 16);
    keys()->get_device_secrets(keys(), &request, on_get, by(who, 1));
    return wait_answer();
}

// --- Chains -------------------------------------------------------------------------------------------------------

static void
test_a_chain_grows_and_is_read_by_everybody(void **state)
{
    (void)state;
    struct chain_entry second = {.added = {&laptop}};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    chain_next(&first, &second);
    assert_int_equal(append(alice_id, &second), ERR_OK);
    Fc__Auth__V1__GetUsersResponse *response = get_user("alice", NULL, 0);
    assert_int_equal(response->n_users, 1);
    assert_string_equal(response->users[0]->user_name, "alice");
    assert_memory_equal(response->users[0]->user_id.data, alice_id, 16);
    assert_int_equal(response->users[0]->head_seq, 2);
    assert_int_equal(response->users[0]->n_entries, 2);
    assert_int_equal(response->users[0]->entries[1]->body.len, second.body_size);
    assert_memory_equal(response->users[0]->entries[1]->body.data, second.body, second.body_size);
    assert_memory_equal(response->users[0]->entries[1]->signature.data, second.signature, 64);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
    response = get_user(NULL, alice_id, 1);
    assert_int_equal(response->users[0]->n_entries, 1);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
    response = get_user(NULL, alice_id, UINT64_MAX);
    assert_int_equal(response->users[0]->n_entries, 0);
    assert_int_equal(response->users[0]->head_seq, 2);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
}

static void
test_unknown_users_are_left_out_and_users_without_keys_are_empty(void **state)
{
    (void)state;
    static const uint8_t nobody[16] = {9};
    Fc__Auth__V1__GetUsersResponse *response = get_user("nobody", NULL, 0);
    assert_int_equal(response->n_users, 0);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
    response = get_user(NULL, nobody, 0);
    assert_int_equal(response->n_users, 0);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
    response = get_user("bob", NULL, 0);
    assert_int_equal(response->n_users, 1);
    assert_int_equal(response->users[0]->n_entries, 0);
    assert_int_equal(response->users[0]->head_seq, 0);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
    assert_null(get_user(NULL, NULL, 0));
    assert_int_equal(call.locked.code, ERR_INVALID);
    assert_null(get_user("alice", alice_id, 0));
    assert_int_equal(call.locked.code, ERR_INVALID);
}

static void
test_only_1000_users_are_asked_for_at_once(void **state)
{
    (void)state;
    static Fc__Auth__V1__WantedUser wanted = FC__AUTH__V1__WANTED_USER__INIT;
    Fc__Auth__V1__WantedUser *list[1001];
    Fc__Auth__V1__GetUsersRequest request = FC__AUTH__V1__GET_USERS_REQUEST__INIT;
    wanted.user_name = (char *)(uintptr_t) "alice";
    for (size_t i = 0; i < 1001; i++) {
        list[i] = &wanted;
    }
    request.users = list;
    request.n_users = 1001;
    keys()->get_users(keys(), &request, on_users, by(bob_id, 1));
    assert_int_equal(wait_answer(), ERR_INVALID);
    request.n_users = 1000;
    keys()->get_users(keys(), &request, on_users, by(bob_id, 1));
    assert_int_equal(wait_answer(), ERR_OK);
}

static void
test_a_reply_is_cut_and_goes_on_after_the_last(void **state)
{
    (void)state;
    // 1,000 times the same chain of some 300 bytes an entry is less than a MiB; with longer chains it is more.
    enum { ENTRIES = 12, USERS = 1000 };
    static Fc__Auth__V1__WantedUser wanted = FC__AUTH__V1__WANTED_USER__INIT;
    static Fc__Auth__V1__WantedUser *list[USERS];
    Fc__Auth__V1__GetUsersRequest request = FC__AUTH__V1__GET_USERS_REQUEST__INIT;
    struct chain_entry before = first;
    assert_int_equal(append(alice_id, &first), ERR_OK);
    for (int i = 1; i < ENTRIES; i++) {
        struct chain_entry next = {0};
        struct e2e_keys device;
        assert_int_equal(e2e_keys_generate(&device), ERR_OK);
        next.added[0] = &device;
        chain_next(&before, &next);
        assert_int_equal(append(alice_id, &next), ERR_OK);
        before = next;
    }
    wanted.user_name = (char *)(uintptr_t) "alice";
    for (size_t i = 0; i < USERS; i++) {
        list[i] = &wanted;
    }
    request.users = list;
    request.n_users = USERS;
    keys()->get_users(keys(), &request, on_users, by(bob_id, 1));
    assert_int_equal(wait_answer(), ERR_OK);
    assert_true(call.locked.response.size < 2 * 1024 * 1024);
    Fc__Auth__V1__GetUsersResponse *response =
        fc__auth__v1__get_users_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->n_users, USERS);
    assert_int_equal(response->users[0]->n_entries, ENTRIES);
    assert_int_equal(response->users[USERS - 1]->n_entries, 0);
    assert_int_equal(response->users[USERS - 1]->head_seq, ENTRIES);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
}

static void
test_a_resend_of_the_newest_entry_is_fine_and_of_an_older_one_is_not(void **state)
{
    (void)state;
    struct chain_entry second = {.added = {&laptop}};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(append(alice_id, &first), ERR_OK);
    chain_next(&first, &second);
    assert_int_equal(append(alice_id, &second), ERR_OK);
    assert_int_equal(append(alice_id, &second), ERR_OK);
    assert_int_equal(append(alice_id, &first), ERR_CONFLICT);
    Fc__Auth__V1__GetUsersResponse *response = get_user("alice", NULL, 0);
    assert_int_equal(response->users[0]->head_seq, 2);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
}

static void
test_of_two_next_entries_one_wins(void **state)
{
    (void)state;
    struct chain_entry one = {.added = {&laptop}};
    struct chain_entry other = {.revoked = phone.id};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    chain_next(&first, &one);
    chain_next(&first, &other);
    assert_int_equal(append(alice_id, &one), ERR_OK);
    assert_int_equal(append(alice_id, &other), ERR_CONFLICT);
    assert_int_equal(rekeys, 0);
}

static void
test_nobody_appends_to_the_chain_of_another(void **state)
{
    (void)state;
    struct chain_entry second = {.added = {&laptop}};
    assert_int_equal(append(bob_id, &first), ERR_INVALID);
    assert_int_equal(append(alice_id, &first), ERR_OK);
    chain_next(&first, &second);
    assert_int_equal(append(bob_id, &second), ERR_INVALID);
    // Nor does bob's own chain begin with the name of another.
    struct chain_entry pretender = {.user_id = bob_id,
        .seq = 1,
        .user_name = "alice",
        .identity = bob_private,
        .added = {&laptop}};
    chain_sign(&pretender);
    assert_int_equal(append(bob_id, &pretender), ERR_INVALID);
}

static void
test_entries_that_break_the_rules_are_refused(void **state)
{
    (void)state;
    struct chain_entry bad = first;
    bad.signature[0] ^= 1;
    assert_int_equal(append(alice_id, &bad), ERR_INVALID);
    bad = first;
    bad.body[bad.body_size - 1] ^= 1;
    assert_int_equal(append(alice_id, &bad), ERR_INVALID);
    bad = first;
    bad.body_size = 0;
    assert_int_equal(append(alice_id, &bad), ERR_INVALID);
    Fc__Auth__V1__AppendUserEntryRequest request = FC__AUTH__V1__APPEND_USER_ENTRY_REQUEST__INIT;
    keys()->append_user_entry(keys(), &request, on_append, by(alice_id, 1));
    assert_int_equal(wait_answer(), ERR_INVALID);
    static const uint8_t large[AUTH_CHAIN_ENTRY_MAX_BYTES + 1];
    Fc__E2e__V1__Signed wire = FC__E2E__V1__SIGNED__INIT;
    wire.body = chain_lend(large, sizeof(large));
    wire.signature = chain_lend(first.signature, sizeof(first.signature));
    request.entry = &wire;
    keys()->append_user_entry(keys(), &request, on_append, by(alice_id, 1));
    assert_int_equal(wait_answer(), ERR_INVALID);
    // By somebody else's identity key.
    assert_int_equal(append(alice_id, &first), ERR_OK);
    struct chain_entry forged = {.identity = bob_private, .added = {&laptop}};
    chain_next(&first, &forged);
    assert_int_equal(append(alice_id, &forged), ERR_INVALID);
    Fc__Auth__V1__GetUsersResponse *response = get_user("alice", NULL, 0);
    assert_int_equal(response->users[0]->head_seq, 1);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
}

static void
test_a_revoked_device_is_told_of_inside_the_transaction(void **state)
{
    (void)state;
    struct chain_entry second = {.revoked = phone.id};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(rekeys, 0);
    chain_next(&first, &second);
    rekey_result = ERR_NO_SPACE;
    assert_int_equal(append(alice_id, &second), ERR_NO_SPACE);
    Fc__Auth__V1__GetUsersResponse *response = get_user("alice", NULL, 0);
    assert_int_equal(response->users[0]->head_seq, 1);
    fc__auth__v1__get_users_response__free_unpacked(response, NULL);
    rekey_result = ERR_OK;
    rekeys = 0;
    assert_int_equal(append(alice_id, &second), ERR_OK);
    assert_int_equal(rekeys, 1);
    assert_memory_equal(rekeyed_user, alice_id, 16);
    assert_int_equal(append(alice_id, &second), ERR_OK);
    assert_int_equal(rekeys, 1);
}

static void
test_a_reset_ends_all_devices_and_is_told_of(void **state)
{
    (void)state;
    struct chain_entry reset = {.user_name = "alice", .identity = bob_private, .added = {&laptop}};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    chain_next(&first, &reset);
    assert_int_equal(append(alice_id, &reset), ERR_OK);
    assert_int_equal(rekeys, 1);
}

// --- What siblings ask --------------------------------------------------------------------------------------------

static enum err
ask(struct store_tx *tx, void *context)
{
    (void)context;
    uint8_t id[16];
    char name[TEXT_USER_NAME_MAX_BYTES + 1];
    struct e2e_user user = {0};
    static const uint8_t nobody[16] = {9};
    assert_int_equal(auth_service_find_user(auth, tx, "alice", id), ERR_OK);
    assert_memory_equal(id, alice_id, 16);
    assert_int_equal(auth_service_find_user(auth, tx, "nobody", id), ERR_NOT_FOUND);
    assert_int_equal(auth_service_find_user_name(auth, tx, bob_id, name), ERR_OK);
    assert_string_equal(name, "bob");
    assert_int_equal(auth_service_find_user_name(auth, tx, nobody, name), ERR_NOT_FOUND);
    assert_int_equal(auth_service_find_chain(auth, tx, alice_id, &user), ERR_OK);
    assert_int_equal(user.seq, 1);
    assert_int_equal(user.device_count, 2);
    assert_memory_equal(user.head_hash, first.hash, sizeof(first.hash));
    e2e_user_deinit(&user);
    assert_int_equal(auth_service_find_chain(auth, tx, bob_id, &user), ERR_OK);
    assert_int_equal(user.seq, 0);
    e2e_user_deinit(&user);
    return ERR_OK;
}

static void
test_siblings_find_users_and_chains(void **state)
{
    (void)state;
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(store_read(store, ask, NULL), ERR_OK);
    assert_int_equal(store_read(store, ask, NULL), ERR_OK);
}

static enum err
check_phone(struct store_tx *tx, void *is_revoked)
{
    struct e2e_user user = {0};
    assert_int_equal(auth_service_find_chain(auth, tx, alice_id, &user), ERR_OK);
    assert_int_equal(user.seq, *(bool *)is_revoked ? 2 : 1);
    assert_int_equal(e2e_user_device(&user, phone.id)->is_revoked, *(bool *)is_revoked);
    e2e_user_deinit(&user);
    return ERR_OK;
}

static void
test_siblings_do_not_see_what_was_rolled_back(void **state)
{
    (void)state;
    struct chain_entry second = {.revoked = phone.id};
    bool is_revoked = false;
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(store_read(store, check_phone, &is_revoked), ERR_OK);
    chain_next(&first, &second);
    rekey_result = ERR_NO_SPACE;
    assert_int_equal(append(alice_id, &second), ERR_NO_SPACE);
    assert_int_equal(store_read(store, check_phone, &is_revoked), ERR_OK);
    rekey_result = ERR_OK;
    assert_int_equal(append(alice_id, &second), ERR_OK);
    is_revoked = true;
    assert_int_equal(store_read(store, check_phone, &is_revoked), ERR_OK);
}

// --- Recovery -----------------------------------------------------------------------------------------------------

static void
test_a_way_back_is_the_callers_own(void **state)
{
    (void)state;
    assert_int_equal(get_recovery(alice_id), ERR_NOT_FOUND);
    assert_int_equal(set_recovery(alice_id, 92, 104), ERR_OK);
    assert_int_equal(get_recovery(alice_id), ERR_OK);
    Fc__Auth__V1__GetRecoveryResponse *response =
        fc__auth__v1__get_recovery_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->recovery->sealed_recovery_key.len, 92);
    assert_int_equal(response->recovery->sealed_identity_key.len, 104);
    fc__auth__v1__get_recovery_response__free_unpacked(response, NULL);
    assert_int_equal(get_recovery(bob_id), ERR_NOT_FOUND);
    // The newest counts, also without a recovery key.
    assert_int_equal(set_recovery(alice_id, 0, 100), ERR_OK);
    assert_int_equal(get_recovery(alice_id), ERR_OK);
    response = fc__auth__v1__get_recovery_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->recovery->sealed_recovery_key.len, 0);
    assert_int_equal(response->recovery->sealed_identity_key.len, 100);
    fc__auth__v1__get_recovery_response__free_unpacked(response, NULL);
}

static void
test_a_way_back_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(set_recovery(alice_id, 256, 256), ERR_OK);
    assert_int_equal(set_recovery(alice_id, 257, 10), ERR_INVALID);
    assert_int_equal(set_recovery(alice_id, 10, 257), ERR_INVALID);
    assert_int_equal(set_recovery(alice_id, 10, 0), ERR_INVALID);
    Fc__Auth__V1__SetRecoveryRequest request = FC__AUTH__V1__SET_RECOVERY_REQUEST__INIT;
    keys()->set_recovery(keys(), &request, on_set_recovery, by(alice_id, 1));
    assert_int_equal(wait_answer(), ERR_INVALID);
}

// --- Devices that wait --------------------------------------------------------------------------------------------

static void
test_offers_are_the_callers_own_and_end_after_an_hour(void **state)
{
    (void)state;
    assert_int_equal(offer(alice_id, &laptop, "laptop"), ERR_OK);
    assert_int_equal(offer(alice_id, &laptop, "laptop again"), ERR_OK);
    assert_int_equal(count_offers(alice_id), 1);
    assert_int_equal(count_offers(bob_id), 0);
    clock_set_unix_ms_for_test(1000000 + AUTH_OFFER_LIFETIME_MS - 1);
    assert_int_equal(count_offers(alice_id), 1);
    clock_set_unix_ms_for_test(1000000 + AUTH_OFFER_LIFETIME_MS);
    assert_int_equal(count_offers(alice_id), 0);
}

static void
test_the_newest_8_offers_are_kept(void **state)
{
    (void)state;
    assert_int_equal(offer(bob_id, &phone, "bob's"), ERR_OK);
    for (int i = 0; i < 10; i++) {
        struct e2e_keys device;
        assert_int_equal(e2e_keys_generate(&device), ERR_OK);
        clock_set_unix_ms_for_test(1000000 + i);
        assert_int_equal(offer(alice_id, &device, "one of many"), ERR_OK);
    }
    assert_int_equal(count_offers(alice_id), 8);
    assert_int_equal(count_offers(bob_id), 1);
}

static void
test_offers_that_are_none_are_refused(void **state)
{
    (void)state;
    char name[66];
    memset(name, 'a', sizeof(name) - 1);
    name[65] = '\0';
    assert_int_equal(offer(alice_id, &laptop, name), ERR_INVALID);
    assert_int_equal(offer(alice_id, &laptop, name + 1), ERR_OK);
    assert_int_equal(offer(alice_id, &laptop, "\xff"), ERR_INVALID);
    Fc__E2e__V1__Device device;
    Fc__E2e__V1__UserChange change;
    Fc__Auth__V1__OfferDeviceRequest request = FC__AUTH__V1__OFFER_DEVICE_REQUEST__INIT;
    keys()->offer_device(keys(), &request, on_offer, by(alice_id, 1));
    assert_int_equal(wait_answer(), ERR_INVALID);
    request.device = &device;
    for (int broken = 0; broken < 4; broken++) {
        chain_device(&laptop, broken == 3, &device, &change);
        ProtobufCBinaryData *fields[] = {&device.device_id, &device.sign_key, &device.box_key};
        if (broken < 3) {
            fields[broken]->len--;
        }
        keys()->offer_device(keys(), &request, on_offer, by(alice_id, 1));
        assert_int_equal(wait_answer(), ERR_INVALID);
    }
}

static void
test_a_device_that_has_been_let_in_waits_no_longer(void **state)
{
    (void)state;
    struct chain_entry second = {.added = {&laptop}};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(offer(alice_id, &laptop, "laptop"), ERR_OK);
    chain_next(&first, &second);
    assert_int_equal(append(alice_id, &second), ERR_OK);
    assert_int_equal(count_offers(alice_id), 0);
}

static void
test_secrets_are_for_devices_of_the_caller(void **state)
{
    (void)state;
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 100), ERR_NOT_FOUND);
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(get_secrets(alice_id, phone.id), ERR_NOT_FOUND);
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 100), ERR_OK);
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 4096), ERR_OK);
    assert_int_equal(get_secrets(alice_id, phone.id), ERR_OK);
    Fc__Auth__V1__GetDeviceSecretsResponse *response =
        fc__auth__v1__get_device_secrets_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->ciphertext.len, 4096);
    assert_int_equal(response->enc.len, 32);
    fc__auth__v1__get_device_secrets_response__free_unpacked(response, NULL);
    assert_int_equal(get_secrets(bob_id, phone.id), ERR_NOT_FOUND);
    assert_int_equal(put_secrets(bob_id, phone.id, 32, 100), ERR_NOT_FOUND);
    assert_int_equal(put_secrets(alice_id, laptop.id, 32, 100), ERR_NOT_FOUND);
    assert_int_equal(put_secrets(alice_id, phone.id, 31, 100), ERR_INVALID);
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 0), ERR_INVALID);
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 4097), ERR_INVALID);
    Fc__Auth__V1__GetDeviceSecretsRequest request = FC__AUTH__V1__GET_DEVICE_SECRETS_REQUEST__INIT;
    keys()->get_device_secrets(keys(), &request, on_get, by(alice_id, 1));
    assert_int_equal(wait_answer(), ERR_INVALID);
}

static void
test_secrets_go_with_their_device(void **state)
{
    (void)state;
    struct chain_entry second = {.revoked = phone.id};
    assert_int_equal(append(alice_id, &first), ERR_OK);
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 100), ERR_OK);
    chain_next(&first, &second);
    assert_int_equal(append(alice_id, &second), ERR_OK);
    assert_int_equal(get_secrets(alice_id, phone.id), ERR_NOT_FOUND);
    assert_int_equal(put_secrets(alice_id, phone.id, 32, 100), ERR_NOT_FOUND);
}

// --- Passwords and logins -----------------------------------------------------------------------------------------

struct change {
    uint8_t old_key[32];
    uint8_t new_key[32];
    uint8_t salt[16];
    uint8_t sealed[64];
    Fc__Auth__V1__KdfParameters kdf;
    Fc__Auth__V1__ChangePasswordRequest request;
};

static void
change_init(struct change *it, uint8_t old_key, uint8_t new_key, size_t sealed_size)
{
    memset(it, 0, sizeof(*it));
    memset(it->old_key, old_key, sizeof(it->old_key));
    memset(it->new_key, new_key, sizeof(it->new_key));
    memset(it->salt, new_key, sizeof(it->salt));
    memset(it->sealed, 0x5e, sizeof(it->sealed));
    it->kdf = (Fc__Auth__V1__KdfParameters)FC__AUTH__V1__KDF_PARAMETERS__INIT;
    it->kdf.salt = chain_lend(it->salt, sizeof(it->salt));
    it->kdf.log2_n = 15;
    it->kdf.r = 8;
    it->kdf.p = 1;
    it->request = (Fc__Auth__V1__ChangePasswordRequest)FC__AUTH__V1__CHANGE_PASSWORD_REQUEST__INIT;
    it->request.old_auth_key = chain_lend(it->old_key, 32);
    it->request.auth_key = chain_lend(it->new_key, 32);
    it->request.kdf = &it->kdf;
    it->request.sealed_recovery_key = chain_lend(it->sealed, sealed_size);
}

static enum err
change_run(struct change *it, const uint8_t *who)
{
    accounts()->change_password(accounts(), &it->request, on_password, by(who, 1));
    return wait_answer();
}

// Makes carol, whose key is known, and becomes her.
static void
make_carol(uint8_t key, uint8_t id_out[16])
{
    uint8_t auth_key[32];
    struct auth_verifier verifier;
    memset(auth_key, key, sizeof(auth_key));
    assert_int_equal(auth_core_make_verifier(bytes_view_of(auth_key, sizeof(auth_key)), &verifier), ERR_OK);
    make_account("bob-too", 0xca, &verifier, id_out);
}

static enum err
check_password(struct store_tx *tx, void *context)
{
    const uint8_t *key = context;
    struct auth_verifier verifier;
    struct auth_kdf kdf;
    uint8_t auth_key[32];
    memset(auth_key, *key, sizeof(auth_key));
    enum err err = auth_core_find_account(tx, "bob-too", NULL, &kdf, &verifier);
    assert_int_equal(err, ERR_OK);
    assert_int_equal(kdf.salt_size, 16);
    return auth_core_check_key(&verifier, bytes_view_of(auth_key, sizeof(auth_key)));
}

static enum err
change_carol(struct change *it, const uint8_t *id)
{
    (void)by(id, 1);
    snprintf(call.identity.subject_name, sizeof(call.identity.subject_name), "bob-too");
    accounts()->change_password(accounts(), &it->request, on_password, &call);
    return wait_answer();
}

static void
test_a_password_is_changed_by_whoever_proves_the_old_one(void **state)
{
    (void)state;
    uint8_t carol_id[16];
    uint8_t old_key = 1;
    uint8_t new_key = 2;
    struct change it;
    make_carol(old_key, carol_id);
    change_init(&it, 9, new_key, 0);
    assert_int_equal(change_carol(&it, carol_id), ERR_UNAUTHENTICATED);
    assert_string_equal(call.locked.reason, "WRONG_CREDENTIALS");
    assert_int_equal(store_read(store, check_password, &old_key), ERR_OK);
    change_init(&it, old_key, new_key, 0);
    assert_int_equal(change_carol(&it, carol_id), ERR_OK);
    assert_int_equal(store_read(store, check_password, &new_key), ERR_OK);
    assert_int_equal(store_read(store, check_password, &old_key), ERR_UNAUTHENTICATED);
}

static void
test_what_the_password_seals_is_changed_with_it(void **state)
{
    (void)state;
    uint8_t carol_id[16];
    uint8_t old_key = 1;
    struct change it;
    make_carol(old_key, carol_id);
    assert_int_equal(set_recovery(carol_id, 92, 104), ERR_OK);
    change_init(&it, old_key, 2, 0);
    assert_int_equal(change_carol(&it, carol_id), ERR_PRECONDITION);
    assert_int_equal(store_read(store, check_password, &old_key), ERR_OK);
    change_init(&it, old_key, 2, sizeof(it.sealed));
    assert_int_equal(change_carol(&it, carol_id), ERR_OK);
    assert_int_equal(get_recovery(carol_id), ERR_OK);
    Fc__Auth__V1__GetRecoveryResponse *response =
        fc__auth__v1__get_recovery_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->recovery->sealed_recovery_key.len, sizeof(it.sealed));
    assert_int_equal(response->recovery->sealed_recovery_key.data[0], 0x5e);
    assert_int_equal(response->recovery->sealed_identity_key.len, 104);
    fc__auth__v1__get_recovery_response__free_unpacked(response, NULL);
    // Nothing is kept for those who keep it themselves, whatever a client says.
    assert_int_equal(set_recovery(carol_id, 0, 104), ERR_OK);
    change_init(&it, 2, 3, sizeof(it.sealed));
    assert_int_equal(change_carol(&it, carol_id), ERR_OK);
    assert_int_equal(get_recovery(carol_id), ERR_OK);
    response = fc__auth__v1__get_recovery_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->recovery->sealed_recovery_key.len, 0);
    fc__auth__v1__get_recovery_response__free_unpacked(response, NULL);
}

static void
test_guesses_of_the_old_password_are_slowed_down(void **state)
{
    (void)state;
    struct change it;
    enum err err = ERR_OK;
    for (int i = 0; i < 8 && err != ERR_LIMIT; i++) {
        change_init(&it, 7, 2, 0);
        err = change_run(&it, bob_id);
        assert_true(err == ERR_UNAUTHENTICATED || err == ERR_LIMIT);
    }
    assert_int_equal(err, ERR_LIMIT);
    assert_string_equal(call.locked.reason, "TOO_MANY_ATTEMPTS");
}

static void
test_a_change_that_breaks_the_rules_is_refused(void **state)
{
    (void)state;
    static const uint8_t large[257];
    struct change it;
    change_init(&it, 1, 2, 0);
    it.request.kdf = NULL;
    assert_int_equal(change_run(&it, bob_id), ERR_INVALID);
    change_init(&it, 1, 2, 0);
    it.kdf.log2_n = 14;
    assert_int_equal(change_run(&it, bob_id), ERR_INVALID);
    change_init(&it, 1, 2, 0);
    it.request.old_auth_key.len = 31;
    assert_int_equal(change_run(&it, bob_id), ERR_INVALID);
    change_init(&it, 1, 2, 0);
    it.request.auth_key.len = 0;
    assert_int_equal(change_run(&it, bob_id), ERR_INVALID);
    change_init(&it, 1, 2, 0);
    it.request.sealed_recovery_key = chain_lend(large, sizeof(large));
    assert_int_equal(change_run(&it, bob_id), ERR_INVALID);
}

struct session_job {
    struct store_job job; // first
    struct auth_session session;
    char token[AUTH_TOKEN_TEXT_BYTES];
    int64_t now_ms;
};

static enum err
add_session(struct store_tx *tx, struct store_job *job)
{
    struct session_job *it = (struct session_job *)job;
    return auth_core_add_session(tx, it->token, &it->session, "fc on a test", it->now_ms);
}

static void
make_session(const uint8_t *user_id, uint8_t number, int64_t now_ms, int64_t expires_ms)
{
    struct session_job it = {.job.run = add_session, .now_ms = now_ms};
    memcpy(it.session.account.user_id, user_id, 16);
    memset(it.session.session_id, number, 16);
    it.session.expires_ms = expires_ms;
    assert_int_equal(auth_core_make_token(it.token), ERR_OK);
    assert_int_equal(store_write_wait(store, &it.job), ERR_OK);
}

static enum err
revoke(const uint8_t *who, uint8_t number, size_t size)
{
    uint8_t id[16];
    Fc__Auth__V1__RevokeSessionRequest request = FC__AUTH__V1__REVOKE_SESSION_REQUEST__INIT;
    memset(id, number, sizeof(id));
    request.session_id = chain_lend(id, size);
    accounts()->revoke_session(accounts(), &request, on_revoke, by(who, 1));
    return wait_answer();
}

static void
test_logins_are_listed_newest_first(void **state)
{
    (void)state;
    Fc__Auth__V1__ListSessionsRequest request = FC__AUTH__V1__LIST_SESSIONS_REQUEST__INIT;
    make_session(alice_id, 1, 10, 2000000);
    make_session(alice_id, 2, 20, 3000000);
    make_session(alice_id, 3, 30, 999999); // over
    make_session(bob_id, 4, 40, 2000000);
    accounts()->list_sessions(accounts(), &request, on_sessions, by(alice_id, 1));
    assert_int_equal(wait_answer(), ERR_OK);
    Fc__Auth__V1__ListSessionsResponse *response =
        fc__auth__v1__list_sessions_response__unpack(NULL, call.locked.response.size, call.locked.response.data);
    assert_int_equal(response->n_sessions, 2);
    assert_int_equal(response->sessions[0]->session_id.data[0], 2);
    assert_false(response->sessions[0]->is_current);
    assert_int_equal(response->sessions[1]->session_id.data[0], 1);
    assert_true(response->sessions[1]->is_current);
    assert_string_equal(response->sessions[1]->device_name, "fc on a test");
    assert_int_equal(response->sessions[1]->created_at_ms, 10);
    assert_int_equal(response->sessions[1]->expires_at_ms, 2000000);
    fc__auth__v1__list_sessions_response__free_unpacked(response, NULL);
}

static void
test_only_own_logins_are_ended(void **state)
{
    (void)state;
    make_session(alice_id, 1, 10, 2000000);
    make_session(bob_id, 4, 40, 2000000);
    assert_int_equal(revoke(alice_id, 4, 16), ERR_NOT_FOUND);
    assert_int_equal(revoke(alice_id, 9, 16), ERR_NOT_FOUND);
    assert_int_equal(revoke(alice_id, 1, 15), ERR_INVALID);
    assert_int_equal(revocations, 0);
    assert_int_equal(revoke(alice_id, 1, 16), ERR_OK);
    assert_int_equal(revocations, 1);
    assert_int_equal(revoke(alice_id, 1, 16), ERR_NOT_FOUND);
    assert_int_equal(revoke(bob_id, 4, 16), ERR_OK);
}

static enum err
sign_up(const char *name, uint8_t request_id)
{
    uint8_t key[32] = {1};
    Fc__Auth__V1__KdfParameters kdf = FC__AUTH__V1__KDF_PARAMETERS__INIT;
    Fc__Auth__V1__SignUpRequest request = FC__AUTH__V1__SIGN_UP_REQUEST__INIT;
    kdf.salt = chain_lend(key, 16);
    kdf.log2_n = 15;
    kdf.r = 8;
    kdf.p = 1;
    request.user_name = (char *)(uintptr_t)name;
    request.kdf = &kdf;
    request.auth_key = chain_lend(key, sizeof(key));
    (void)by(bob_id, 1);
    memset(call.request_id, request_id, sizeof(call.request_id));
    accounts()->sign_up(accounts(), &request, on_sign_up, &call);
    return wait_answer();
}

static void
test_a_full_server_takes_no_more_accounts(void **state)
{
    (void)state;
    auth_service_free(&auth);
    start_service(3); // alice and bob are there
    assert_int_equal(sign_up("carol", 1), ERR_OK);
    assert_int_equal(sign_up("dave", 2), ERR_LIMIT);
    assert_string_equal(call.locked.reason, "TOO_MANY_USERS");
    assert_int_equal(sign_up("carol", 1), ERR_OK); // a resend
    assert_int_equal(sign_up("carol", 3), ERR_EXISTS);
}

int
main(void)
{
    log_set_level(LOG_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_a_chain_grows_and_is_read_by_everybody),
        TEST(test_unknown_users_are_left_out_and_users_without_keys_are_empty),
        TEST(test_only_1000_users_are_asked_for_at_once),
        TEST(test_a_reply_is_cut_and_goes_on_after_the_last),
        TEST(test_a_resend_of_the_newest_entry_is_fine_and_of_an_older_one_is_not),
        TEST(test_of_two_next_entries_one_wins),
        TEST(test_nobody_appends_to_the_chain_of_another),
        TEST(test_entries_that_break_the_rules_are_refused),
        TEST(test_a_revoked_device_is_told_of_inside_the_transaction),
        TEST(test_a_reset_ends_all_devices_and_is_told_of),
        TEST(test_siblings_find_users_and_chains),
        TEST(test_siblings_do_not_see_what_was_rolled_back),
        TEST(test_a_way_back_is_the_callers_own),
        TEST(test_a_way_back_is_bounded),
        TEST(test_offers_are_the_callers_own_and_end_after_an_hour),
        TEST(test_the_newest_8_offers_are_kept),
        TEST(test_offers_that_are_none_are_refused),
        TEST(test_a_device_that_has_been_let_in_waits_no_longer),
        TEST(test_secrets_are_for_devices_of_the_caller),
        TEST(test_secrets_go_with_their_device),
        TEST(test_a_password_is_changed_by_whoever_proves_the_old_one),
        TEST(test_what_the_password_seals_is_changed_with_it),
        TEST(test_guesses_of_the_old_password_are_slowed_down),
        TEST(test_a_change_that_breaks_the_rules_is_refused),
        TEST(test_logins_are_listed_newest_first),
        TEST(test_only_own_logins_are_ended),
        TEST(test_a_full_server_takes_no_more_accounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
