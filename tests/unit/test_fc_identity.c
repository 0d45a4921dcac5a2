// Keys against a server that this test plays: one that keeps what it gets, and at times lies or breaks off.
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "chain_support.h"
#include "client/fc_derive_priv.h"
#include "client/fc_identity_priv.h"

#include "fc/auth/v1/keys.pb-c.h"
#include "fc/chat/v1/chat.pb-c.h"

// --- The session --------------------------------------------------------------------------------------------------

struct fc_session {
    uint8_t user_id[16];
    const char *user_name;
    bool has_password;
};

static const uint8_t backup_key[32] = {7, 7, 7};

struct rpc_channel *
fc_session_channel(struct fc_session *session)
{
    return (struct rpc_channel *)session;
}

const char *
fc_session_server_url(const struct fc_session *session)
{
    (void)session;
    return "tcp://example:1";
}

const char *
fc_session_user_name(const struct fc_session *session)
{
    return session->user_name;
}

enum err
fc_session_who_am_i(struct fc_session *session, struct fc_account *out, struct err_detail *why)
{
    (void)why;
    *out = (struct fc_account){0};
    memcpy(out->user_id, session->user_id, 16);
    snprintf(out->user_name, sizeof(out->user_name), "%s", session->user_name);
    return ERR_OK;
}

enum err
fc_session_explain(const struct rpc_unary *call, enum err err, struct err_detail *why)
{
    return err == ERR_OK ? err : err_fail(why, err, "%s", err_message(&call->status.detail, err));
}

const uint8_t *
fc_derive_backup_key(const struct fc_session *session)
{
    return session->has_password ? backup_key : NULL;
}

// --- The server ---------------------------------------------------------------------------------------------------

enum {
    USERS_MAX = 3,
    ENTRIES_MAX = 8,
    ALICE = 0,
    BOB = 1,
};

enum method {
    GET_USERS,
    APPEND_USER_ENTRY,
    GET_RECOVERY,
    SET_RECOVERY,
    OFFER_DEVICE,
    LIST_OFFERS,
    PUT_DEVICE_SECRETS,
    GET_DEVICE_SECRETS,
    METHOD_COUNT,
};

struct shown_user {
    uint8_t id[16];
    char name[33];
    Fc__E2e__V1__Signed entries[ENTRIES_MAX];
    uint8_t bodies[ENTRIES_MAX][CHAIN_BODY_MAX_BYTES];
    uint8_t signatures[ENTRIES_MAX][64];
    size_t count;
    uint64_t claimed_head; // 0: count
};

static struct {
    struct shown_user users[USERS_MAX];
    size_t user_count;
    bool is_impostor_told; // of a user who was not asked for
    enum err fail_before[METHOD_COUNT];
    enum err fail_after[METHOD_COUNT]; // once, having done it
    unsigned calls[METHOD_COUNT];
    Fc__Auth__V1__Recovery recovery;
    uint8_t sealed_recovery_key[256];
    uint8_t sealed_identity_key[256];
    bool has_recovery;
    Fc__E2e__V1__Device offered;
    uint8_t offered_id[16];
    uint8_t offered_sign[32];
    uint8_t offered_box[32];
    bool has_offer;
    uint8_t enc[32];
    uint8_t ciphertext[4096];
    size_t ciphertext_size;
} server;

static enum err result; // of the call in hand
static ProtobufCMessage *given;

static void
show(struct shown_user *user, const uint8_t *body, size_t body_size, const uint8_t *signature)
{
    size_t at = user->count++;
    assert_true(at < ENTRIES_MAX && body_size <= CHAIN_BODY_MAX_BYTES);
    memcpy(user->bodies[at], body, body_size);
    memcpy(user->signatures[at], signature, 64);
    user->entries[at] = (Fc__E2e__V1__Signed)FC__E2E__V1__SIGNED__INIT;
    user->entries[at].body = (ProtobufCBinaryData){.len = body_size, .data = user->bodies[at]};
    user->entries[at].signature = (ProtobufCBinaryData){.len = 64, .data = user->signatures[at]};
}

static void
show_entry(struct shown_user *user, const struct chain_entry *entry)
{
    show(user, entry->body, entry->body_size, entry->signature);
}

static struct shown_user *
find_shown(const Fc__Auth__V1__WantedUser *wanted)
{
    for (size_t i = 0; i < server.user_count; i++) {
        struct shown_user *user = &server.users[i];
        if (wanted->user_id.len == 16 ? memcmp(wanted->user_id.data, user->id, 16) == 0
                                      : strcmp(wanted->user_name, user->name) == 0) {
            return user;
        }
    }
    return NULL;
}

static void
answer_users(const Fc__Auth__V1__GetUsersRequest *request)
{
    static Fc__Auth__V1__GetUsersResponse response;
    static Fc__Auth__V1__UserChain chains[USERS_MAX];
    static Fc__Auth__V1__UserChain *list[USERS_MAX];
    static Fc__E2e__V1__Signed *entries[USERS_MAX][ENTRIES_MAX];
    response = (Fc__Auth__V1__GetUsersResponse)FC__AUTH__V1__GET_USERS_RESPONSE__INIT;
    response.users = list;
    for (size_t i = 0; i < request->n_users; i++) {
        struct shown_user *user = server.is_impostor_told ? &server.users[BOB] : find_shown(request->users[i]);
        if (user == NULL) {
            continue;
        }
        size_t at = response.n_users++;
        chains[at] = (Fc__Auth__V1__UserChain)FC__AUTH__V1__USER_CHAIN__INIT;
        chains[at].user_id = (ProtobufCBinaryData){.len = 16, .data = user->id};
        chains[at].user_name = user->name;
        chains[at].head_seq = user->claimed_head != 0 ? user->claimed_head : user->count;
        chains[at].entries = entries[at];
        for (size_t entry = (size_t)request->users[i]->after_seq; entry < user->count; entry++) {
            entries[at][chains[at].n_entries++] = &user->entries[entry];
        }
        list[at] = &chains[at];
    }
    given = &response.base;
}

static void
answer_append(const Fc__Auth__V1__AppendUserEntryRequest *request)
{
    static Fc__Auth__V1__AppendUserEntryResponse response;
    response = (Fc__Auth__V1__AppendUserEntryResponse)FC__AUTH__V1__APPEND_USER_ENTRY_RESPONSE__INIT;
    show(&server.users[ALICE], request->entry->body.data, request->entry->body.len, request->entry->signature.data);
    given = &response.base;
}

static void
answer_get_recovery(void)
{
    static Fc__Auth__V1__GetRecoveryResponse response;
    response = (Fc__Auth__V1__GetRecoveryResponse)FC__AUTH__V1__GET_RECOVERY_RESPONSE__INIT;
    if (!server.has_recovery) {
        result = ERR_NOT_FOUND;
    }
    response.recovery = &server.recovery;
    given = &response.base;
}

static void
answer_set_recovery(const Fc__Auth__V1__SetRecoveryRequest *request)
{
    static Fc__Auth__V1__SetRecoveryResponse response;
    response = (Fc__Auth__V1__SetRecoveryResponse)FC__AUTH__V1__SET_RECOVERY_RESPONSE__INIT;
    server.recovery = (Fc__Auth__V1__Recovery)FC__AUTH__V1__RECOVERY__INIT;
    server.recovery.sealed_recovery_key = request->recovery->sealed_recovery_key;
    server.recovery.sealed_identity_key = request->recovery->sealed_identity_key;
    if (request->recovery->sealed_recovery_key.len > 0) {
        memcpy(server.sealed_recovery_key, request->recovery->sealed_recovery_key.data,
            request->recovery->sealed_recovery_key.len);
    }
    memcpy(server.sealed_identity_key, request->recovery->sealed_identity_key.data,
        request->recovery->sealed_identity_key.len);
    server.recovery.sealed_recovery_key.data = server.sealed_recovery_key;
    server.recovery.sealed_identity_key.data = server.sealed_identity_key;
    server.has_recovery = true;
    given = &response.base;
}

static void
answer_offer(const Fc__Auth__V1__OfferDeviceRequest *request)
{
    memcpy(server.offered_id, request->device->device_id.data, 16);
    memcpy(server.offered_sign, request->device->sign_key.data, 32);
    memcpy(server.offered_box, request->device->box_key.data, 32);
    server.offered = (Fc__E2e__V1__Device)FC__E2E__V1__DEVICE__INIT;
    server.offered.device_id = (ProtobufCBinaryData){.len = 16, .data = server.offered_id};
    server.offered.sign_key = (ProtobufCBinaryData){.len = 32, .data = server.offered_sign};
    server.offered.box_key = (ProtobufCBinaryData){.len = 32, .data = server.offered_box};
    server.has_offer = true;
}

static void
answer_list_offers(void)
{
    static Fc__Auth__V1__ListOffersResponse response;
    static Fc__E2e__V1__Device *list[] = {&server.offered};
    response = (Fc__Auth__V1__ListOffersResponse)FC__AUTH__V1__LIST_OFFERS_RESPONSE__INIT;
    response.devices = list;
    response.n_devices = server.has_offer ? 1 : 0;
    given = &response.base;
}

static void
answer_get_secrets(void)
{
    static Fc__Auth__V1__GetDeviceSecretsResponse response;
    response = (Fc__Auth__V1__GetDeviceSecretsResponse)FC__AUTH__V1__GET_DEVICE_SECRETS_RESPONSE__INIT;
    if (server.ciphertext_size == 0) {
        result = ERR_NOT_FOUND;
    }
    response.enc = (ProtobufCBinaryData){.len = 32, .data = server.enc};
    response.ciphertext = (ProtobufCBinaryData){.len = server.ciphertext_size, .data = server.ciphertext};
    given = &response.base;
}

// Nobody here is in a room: that is all that the Chat service is asked for.
static void
answer_chat(void)
{
    static Fc__Chat__V1__ListRoomsResponse response;
    fc__chat__v1__list_rooms_response__init(&response);
    result = ERR_OK;
    given = &response.base;
}

static void
answer(ProtobufCService *service, unsigned method, const ProtobufCMessage *input, ProtobufCClosure closure, void *data)
{
    if (service->descriptor != &fc__auth__v1__keys__descriptor) {
        answer_chat();
        return;
    }
    (void)closure;
    (void)data;
    server.calls[method]++;
    result = server.fail_before[method];
    if (result != ERR_OK) {
        return;
    }
    switch ((enum method)method) {
    case GET_USERS:
        answer_users((const Fc__Auth__V1__GetUsersRequest *)input);
        break;
    case APPEND_USER_ENTRY:
        answer_append((const Fc__Auth__V1__AppendUserEntryRequest *)input);
        break;
    case GET_RECOVERY:
        answer_get_recovery();
        break;
    case SET_RECOVERY:
        answer_set_recovery((const Fc__Auth__V1__SetRecoveryRequest *)input);
        break;
    case OFFER_DEVICE:
        answer_offer((const Fc__Auth__V1__OfferDeviceRequest *)input);
        break;
    case LIST_OFFERS:
        answer_list_offers();
        break;
    case PUT_DEVICE_SECRETS: {
        const Fc__Auth__V1__PutDeviceSecretsRequest *request = (const Fc__Auth__V1__PutDeviceSecretsRequest *)input;
        memcpy(server.enc, request->enc.data, 32);
        memcpy(server.ciphertext, request->ciphertext.data, request->ciphertext.len);
        server.ciphertext_size = request->ciphertext.len;
        break;
    }
    case GET_DEVICE_SECRETS:
        answer_get_secrets();
        break;
    case METHOD_COUNT:
        break;
    }
    if (server.fail_after[method] != ERR_OK) {
        result = server.fail_after[method];
        server.fail_after[method] = ERR_OK;
    }
}

void
rpc_unary_init(struct rpc_unary *call, struct rpc_channel *channel, const ProtobufCServiceDescriptor *service)
{
    memset(call, 0, sizeof(*call));
    call->service.descriptor = service;
    call->service.invoke = answer;
    call->channel = channel;
}

enum err
rpc_unary_wait(struct rpc_unary *call)
{
    (void)call;
    return result;
}

const void *
rpc_unary_response(const struct rpc_unary *call)
{
    (void)call;
    return given;
}

void
rpc_unary_cancel(struct rpc_unary *call)
{
    (void)call;
}

void
rpc_unary_deinit(struct rpc_unary *call)
{
    (void)call;
}

// --- Machines -----------------------------------------------------------------------------------------------------

static char dir[64];
static struct fc_session session; // alice's
static struct fc_identity *identity;
static unsigned warnings;

static uint8_t bob_private[32] = {2};
static uint8_t other_private[32] = {3};
static struct e2e_keys bob_device;
static struct e2e_keys bob_recovery;
static struct chain_entry bob_first;

static void
on_warning(void *context, const char *sentence)
{
    (void)context;
    assert_non_null(sentence);
    warnings++;
}

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

// Sits down at the machine with this number.
static void
sit_at(int machine)
{
    char path[96];
    const struct fc_identity_options options = {.warn = on_warning};
    struct err_detail why = {0};
    fc_identity_close(&identity);
    snprintf(path, sizeof(path), "%s/machine%d", dir, machine);
    assert_int_equal(setenv("FC_DATA_DIR", path, 1), 0);
    assert_int_equal(fc_identity_open(&session, &options, &identity, &why), ERR_OK);
}

static int
make(void **state)
{
    (void)state;
    memset(&server, 0, sizeof(server));
    warnings = 0;
    identity = NULL;
    snprintf(dir, sizeof(dir), "/tmp/fc-identity-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    session = (struct fc_session){.user_name = "alice", .user_id = {0xa1}, .has_password = true};
    server.users[ALICE] = (struct shown_user){.id = {0xa1}, .name = "alice"};
    server.users[BOB] = (struct shown_user){.id = {0xb0}, .name = "bob"};
    server.user_count = 2;
    assert_int_equal(e2e_keys_generate(&bob_device), ERR_OK);
    assert_int_equal(e2e_keys_generate(&bob_recovery), ERR_OK);
    bob_first = (struct chain_entry){.user_id = server.users[BOB].id,
        .seq = 1,
        .user_name = "bob",
        .identity = bob_private,
        .added = {&bob_device},
        .recovery = &bob_recovery};
    chain_sign(&bob_first);
    show_entry(&server.users[BOB], &bob_first);
    sit_at(1);
    return 0;
}

static int
destroy(void **state)
{
    (void)state;
    fc_identity_close(&identity);
    fc_identity_close(&identity);
    return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static enum fc_identity_state
establish(bool is_offline, char *recovery_out)
{
    struct err_detail why = {0};
    struct fc_identity_outcome outcome;
    enum err err = fc_identity_establish(identity, is_offline, &outcome, &why);
    if (err != ERR_OK) {
        fail_msg("%s: %s", err_name(err), why.message);
    }
    if (recovery_out != NULL) {
        memcpy(recovery_out, outcome.recovery_text, FC_RECOVERY_TEXT_BYTES);
    }
    return outcome.state;
}

static enum err
establish_fails(void)
{
    struct fc_identity_outcome outcome;
    return fc_identity_establish(identity, false, &outcome, NULL);
}

// How a fetch of bob's chain ends; checks that the explanation names him.
static enum err
fetch_bob(struct err_detail *why)
{
    struct e2e_user user = {0};
    *why = (struct err_detail){0};
    enum err err = fc_identity_user(identity, "bob", &user, why);
    if (err == ERR_UNTRUSTED) {
        assert_non_null(strstr(why->message, "bob"));
    }
    e2e_user_deinit(&user);
    return err;
}

static void
assert_untrusted(const char *what)
{
    struct err_detail why;
    assert_int_equal(fetch_bob(&why), ERR_UNTRUSTED);
    if (strstr(why.message, what) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", why.message, what);
    }
}

static void
assert_trusted(void)
{
    struct err_detail why;
    assert_int_equal(fetch_bob(&why), ERR_OK);
}

// --- Own keys -----------------------------------------------------------------------------------------------------

static void
test_the_first_login_makes_keys_and_the_next_changes_nothing(void **state)
{
    (void)state;
    assert_null(fc_identity_device(identity));
    assert_int_equal(establish(false, NULL), FC_IDENTITY_MADE);
    assert_non_null(fc_identity_device(identity));
    assert_non_null(fc_identity_recovery_keys(identity));
    assert_int_equal(server.users[ALICE].count, 1);
    assert_int_equal(server.calls[SET_RECOVERY], 1);
    sit_at(1);
    assert_non_null(fc_identity_device(identity));
    assert_int_equal(establish(false, NULL), FC_IDENTITY_READY);
    assert_int_equal(server.users[ALICE].count, 1);
    assert_int_equal(server.calls[SET_RECOVERY], 1);
    assert_int_equal(warnings, 0);
}

static void
test_what_was_cut_off_is_done_at_the_next_login(void **state)
{
    (void)state;
    char text[FC_RECOVERY_TEXT_BYTES];
    // Before the entry arrived, after it had, and before the way back was stored.
    server.fail_before[APPEND_USER_ENTRY] = ERR_UNAVAILABLE;
    assert_int_equal(establish_fails(), ERR_UNAVAILABLE);
    assert_int_equal(server.users[ALICE].count, 0);
    server.fail_before[APPEND_USER_ENTRY] = ERR_OK;
    server.fail_after[APPEND_USER_ENTRY] = ERR_UNAVAILABLE;
    sit_at(1);
    assert_int_equal(establish_fails(), ERR_UNAVAILABLE);
    assert_int_equal(server.users[ALICE].count, 1);
    server.fail_before[SET_RECOVERY] = ERR_UNAVAILABLE;
    sit_at(1);
    assert_int_equal(establish_fails(), ERR_UNAVAILABLE);
    server.fail_before[SET_RECOVERY] = ERR_OK;
    sit_at(1);
    assert_int_equal(establish(false, text), FC_IDENTITY_MADE);
    assert_int_equal(server.users[ALICE].count, 1);
    // And it is the recovery key that the chain names.
    sit_at(2);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_RECOVERED);
    assert_int_equal(server.users[ALICE].count, 2);
}

static void
test_of_two_first_logins_at_once_one_makes_the_keys(void **state)
{
    (void)state;
    // This machine has made keys, and another one's entry comes first.
    server.fail_before[APPEND_USER_ENTRY] = ERR_UNAVAILABLE;
    assert_int_equal(establish_fails(), ERR_UNAVAILABLE);
    server.fail_before[APPEND_USER_ENTRY] = ERR_OK;
    sit_at(2);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_MADE);
    sit_at(1);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_RECOVERED);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_READY);
    assert_int_equal(server.calls[SET_RECOVERY], 1);
    sit_at(3);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_RECOVERED);
}

static void
test_without_the_password_a_machine_waits(void **state)
{
    (void)state;
    char text[FC_RECOVERY_TEXT_BYTES];
    assert_int_equal(establish(true, text), FC_IDENTITY_MADE);
    assert_int_equal(strlen(text), FC_RECOVERY_TEXT_BYTES - 1);
    assert_int_equal(server.recovery.sealed_recovery_key.len, 0);
    sit_at(2);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_WAITING);
    assert_null(fc_identity_device(identity));
    assert_int_equal(fc_identity_recover(identity, text, true, NULL), ERR_OK);
    assert_null(fc_identity_device(identity));
    assert_int_equal(fc_identity_recover(identity, text, false, NULL), ERR_OK);
    assert_non_null(fc_identity_device(identity));
    assert_non_null(fc_identity_recovery_keys(identity));
    text[0] = text[0] == 'A' ? 'B' : 'A';
    assert_int_equal(fc_identity_recover(identity, text, false, NULL), ERR_INVALID);
}

static void
test_what_the_server_keeps_cannot_be_swapped(void **state)
{
    (void)state;
    char text[FC_RECOVERY_TEXT_BYTES];
    assert_int_equal(establish(true, text), FC_IDENTITY_MADE);
    sit_at(2);
    server.sealed_identity_key[60] ^= 1;
    assert_int_equal(fc_identity_recover(identity, text, false, NULL), ERR_UNTRUSTED);
    server.sealed_identity_key[60] ^= 1;
    // A chain that the server made up for a machine that has seen none.
    struct shown_user real = server.users[ALICE];
    struct chain_entry forged = {.user_id = real.id,
        .seq = 1,
        .user_name = "alice",
        .identity = other_private,
        .added = {&bob_device},
        .recovery = &bob_recovery};
    chain_sign(&forged);
    server.users[ALICE].count = 0;
    show_entry(&server.users[ALICE], &forged);
    sit_at(3);
    assert_int_equal(fc_identity_recover(identity, text, false, NULL), ERR_UNTRUSTED);
    assert_int_equal(server.users[ALICE].count, 1);
    server.users[ALICE].count = 0;
    show(&server.users[ALICE], real.bodies[0], real.entries[0].body.len, real.signatures[0]);
    sit_at(2);
    assert_int_equal(fc_identity_recover(identity, text, false, NULL), ERR_OK);
}

static void
test_another_account_of_the_same_name_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(establish(false, NULL), FC_IDENTITY_MADE);
    session.user_id[0] = 0xa2;
    assert_int_equal(establish_fails(), ERR_UNTRUSTED);
}

static void
test_a_server_without_keys_is_no_failure(void **state)
{
    (void)state;
    server.fail_before[GET_USERS] = ERR_UNIMPLEMENTED;
    assert_int_equal(establish(false, NULL), FC_IDENTITY_NONE);
}

static void
test_a_reset_makes_another_identity_without_a_warning_here(void **state)
{
    (void)state;
    struct fc_identity_outcome outcome;
    uint8_t before[32];
    assert_int_equal(establish(false, NULL), FC_IDENTITY_MADE);
    sit_at(2);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_RECOVERED);
    memcpy(before, identity->own.identity_key, sizeof(before));
    sit_at(1);
    assert_int_equal(fc_identity_reset(identity, false, &outcome, NULL), ERR_OK);
    assert_int_equal(outcome.state, FC_IDENTITY_MADE);
    assert_memory_not_equal(identity->own.identity_key, before, sizeof(before));
    assert_non_null(fc_identity_device(identity));
    assert_int_equal(warnings, 0);
    // The other machine is told, and is no device any more.
    sit_at(2);
    assert_int_equal(fc_identity_sync_own(identity, NULL), ERR_OK);
    assert_int_equal(warnings, 1);
    assert_null(fc_identity_device(identity));
    session.has_password = false;
    assert_int_equal(fc_identity_reset(identity, false, &outcome, NULL), ERR_PRECONDITION);
}

// --- Other people -------------------------------------------------------------------------------------------------

static void
test_a_chain_that_grows_is_followed(void **state)
{
    (void)state;
    struct chain_entry second = {.revoked = bob_device.id};
    struct e2e_user user = {0};
    assert_trusted();
    chain_next(&bob_first, &second);
    show_entry(&server.users[BOB], &second);
    assert_trusted();
    assert_trusted();
    assert_int_equal(fc_identity_cached(identity, server.users[BOB].id, &user, NULL), ERR_OK);
    assert_int_equal(user.seq, 2);
    assert_true(e2e_user_device(&user, bob_device.id)->is_revoked);
    e2e_user_deinit(&user);
    assert_int_equal(warnings, 0);
}

static void
test_a_chain_that_goes_back_is_not_believed(void **state)
{
    (void)state;
    struct chain_entry second = {.revoked = bob_device.id};
    chain_next(&bob_first, &second);
    show_entry(&server.users[BOB], &second);
    assert_trusted();
    server.users[BOB].count = 1;
    assert_untrusted("gone back");
    server.users[BOB].count = 2;
    assert_trusted();
}

static void
test_a_chain_that_forks_is_not_believed(void **state)
{
    (void)state;
    struct chain_entry second = {.revoked = bob_device.id};
    struct chain_entry instead = {.revoked = bob_recovery.id};
    struct chain_entry third = {.revoked = bob_device.id};
    struct e2e_user user = {0};
    chain_next(&bob_first, &second);
    chain_next(&bob_first, &instead);
    show_entry(&server.users[BOB], &second);
    assert_trusted();
    // Another newest entry, alone and with one that follows it.
    server.users[BOB].count = 1;
    show_entry(&server.users[BOB], &instead);
    assert_untrusted("differ");
    chain_next(&instead, &third);
    show_entry(&server.users[BOB], &third);
    assert_untrusted("differ");
    // The right one, followed by one that does not follow it.
    server.users[BOB].count = 1;
    show_entry(&server.users[BOB], &second);
    show_entry(&server.users[BOB], &third);
    assert_untrusted("do not continue");
    // What was refused has not been kept.
    assert_int_equal(fc_identity_cached(identity, server.users[BOB].id, &user, NULL), ERR_OK);
    assert_int_equal(user.seq, 2);
    e2e_user_deinit(&user);
    server.users[BOB].count = 2;
    assert_trusted();
}

static void
test_entries_of_somebody_else_are_not_believed(void **state)
{
    (void)state;
    struct chain_entry forged = {.identity = other_private, .added = {&bob_recovery}};
    server.users[BOB].signatures[0][0] ^= 1;
    assert_untrusted("signature");
    server.users[BOB].signatures[0][0] ^= 1;
    assert_trusted();
    forged.added[0] = NULL;
    forged.revoked = bob_device.id;
    chain_next(&bob_first, &forged);
    show_entry(&server.users[BOB], &forged);
    assert_untrusted("signature");
}

static void
test_a_chain_of_another_name_or_id_is_not_believed(void **state)
{
    (void)state;
    struct chain_entry carol = bob_first;
    carol.user_name = "carol";
    chain_sign(&carol);
    server.users[BOB].count = 0;
    show_entry(&server.users[BOB], &carol);
    assert_untrusted("another name");
    carol.user_name = "bob";
    carol.user_id = server.users[ALICE].id;
    chain_sign(&carol);
    server.users[BOB].count = 0;
    show_entry(&server.users[BOB], &carol);
    assert_untrusted("another user's chain");
}

static void
test_a_name_that_moves_to_another_account_is_not_believed(void **state)
{
    (void)state;
    struct chain_entry moved = bob_first;
    assert_trusted();
    server.users[BOB].id[0] = 0xb1;
    moved.identity = other_private;
    chain_sign(&moved);
    server.users[BOB].count = 0;
    show_entry(&server.users[BOB], &moved);
    assert_untrusted("another account");
}

static void
test_a_server_that_holds_entries_back_is_given_up(void **state)
{
    (void)state;
    struct err_detail why;
    server.users[BOB].claimed_head = 2;
    assert_int_equal(fetch_bob(&why), ERR_PROTOCOL);
    server.users[BOB].claimed_head = 0;
    server.is_impostor_told = true;
    assert_int_equal(fc_identity_sync_own(identity, &why), ERR_PROTOCOL);
}

static void
test_unknown_users_and_users_without_keys(void **state)
{
    (void)state;
    struct e2e_user user = {0};
    struct err_detail why;
    assert_int_equal(fc_identity_user(identity, "nobody", &user, NULL), ERR_NOT_FOUND);
    assert_int_equal(fc_identity_user(identity, "No Name", &user, NULL), ERR_INVALID);
    server.users[BOB].count = 0;
    assert_int_equal(fetch_bob(&why), ERR_PRECONDITION);
}

// Lets bob have another identity.
static void
reset_bob(uint8_t private_key[32])
{
    static struct chain_entry last;
    static struct e2e_keys device;
    struct shown_user *bob = &server.users[BOB];
    struct chain_entry next = {.user_name = "bob", .identity = private_key, .added = {&device}};
    assert_int_equal(e2e_keys_generate(&device), ERR_OK);
    chain_next(bob->count == 1 ? &bob_first : &last, &next);
    show_entry(bob, &next);
    last = next;
}

static void
test_another_identity_is_told_once(void **state)
{
    (void)state;
    assert_trusted();
    reset_bob(other_private);
    assert_trusted();
    assert_int_equal(warnings, 1);
    assert_trusted();
    assert_int_equal(warnings, 1);
}

static void
test_another_identity_of_somebody_verified_waits_to_be_accepted(void **state)
{
    (void)state;
    char number[FC_SAFETY_NUMBER_BYTES];
    struct fc_contact contact;
    assert_int_equal(establish(false, NULL), FC_IDENTITY_MADE);
    assert_int_equal(fc_identity_safety_number(identity, "bob", number, &contact, NULL), ERR_OK);
    assert_false(contact.is_verified);
    assert_int_equal(fc_identity_verify(identity, "bob", number, NULL), ERR_OK);
    reset_bob(other_private);
    assert_untrusted("another identity");
    sit_at(1);
    assert_untrusted("another identity");
    assert_int_equal(warnings, 0);
    assert_int_equal(fc_identity_verify(identity, "bob", number, NULL), ERR_UNTRUSTED);
    assert_untrusted("another identity");
    assert_int_equal(fc_identity_accept(identity, "bob", NULL), ERR_OK);
    assert_trusted();
    assert_int_equal(fc_identity_safety_number(identity, "bob", number, &contact, NULL), ERR_OK);
    assert_false(contact.is_verified);
    // The number of the new identity is as good as accepting it.
    assert_int_equal(fc_identity_verify(identity, "bob", number, NULL), ERR_OK);
    reset_bob(bob_private);
    assert_untrusted("another identity");
    assert_int_equal(fc_identity_safety_number(identity, "bob", number, &contact, NULL), ERR_OK);
    assert_true(contact.is_changed);
    assert_int_equal(fc_identity_verify(identity, "bob", number, NULL), ERR_OK);
    assert_trusted();
}

static void
test_a_machine_that_waits_vouches_for_nobody(void **state)
{
    (void)state;
    char number[FC_SAFETY_NUMBER_BYTES];
    struct fc_contact contact;
    assert_int_equal(establish(true, NULL), FC_IDENTITY_MADE);
    sit_at(2);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_WAITING);
    assert_int_equal(fc_identity_safety_number(identity, "bob", number, &contact, NULL), ERR_PRECONDITION);
}

// --- Devices ------------------------------------------------------------------------------------------------------

// Makes an account at machine 1 and an offer at machine 2, and sits down at machine 1 again.
static void
make_offer(char code_out[FC_DEVICE_CODE_BYTES])
{
    assert_int_equal(establish(true, NULL), FC_IDENTITY_MADE);
    sit_at(2);
    assert_int_equal(establish(false, NULL), FC_IDENTITY_WAITING);
    assert_int_equal(fc_device_offer(identity, "two", code_out, NULL), ERR_OK);
    sit_at(1);
}

static void
test_a_device_is_let_in_by_its_code(void **state)
{
    (void)state;
    char code[FC_DEVICE_CODE_BYTES];
    char name[FC_DEVICE_NAME_BYTES];
    enum fc_device_offer_state progress = FC_DEVICE_READY;
    make_offer(code);
    sit_at(2);
    assert_int_equal(fc_device_offer_poll(identity, &progress, NULL), ERR_OK);
    assert_int_equal(progress, FC_DEVICE_OFFERED);
    // Cut off between the entry and the secrets: the same command again does the rest.
    sit_at(1);
    server.fail_before[PUT_DEVICE_SECRETS] = ERR_UNAVAILABLE;
    assert_int_equal(fc_device_add(identity, code, true, name, NULL), ERR_UNAVAILABLE);
    server.fail_before[PUT_DEVICE_SECRETS] = ERR_OK;
    server.has_offer = false;
    sit_at(2);
    assert_int_equal(fc_device_offer_poll(identity, &progress, NULL), ERR_OK);
    assert_int_equal(progress, FC_DEVICE_ADDED);
    sit_at(1);
    assert_int_equal(fc_device_add(identity, code, true, name, NULL), ERR_OK);
    assert_int_equal(server.users[ALICE].count, 2);
    sit_at(2);
    assert_int_equal(fc_device_offer_poll(identity, &progress, NULL), ERR_OK);
    assert_int_equal(progress, FC_DEVICE_READY);
    assert_non_null(fc_identity_device(identity));
}

static void
test_keys_that_the_server_puts_in_their_place_are_not_let_in(void **state)
{
    (void)state;
    char code[FC_DEVICE_CODE_BYTES];
    char name[FC_DEVICE_NAME_BYTES];
    make_offer(code);
    memcpy(server.offered_box, bob_device.box_public, 32);
    assert_int_equal(fc_device_add(identity, code, true, name, NULL), ERR_UNTRUSTED);
    memcpy(server.offered_sign, bob_device.sign_public, 32);
    assert_int_equal(fc_device_add(identity, code, true, name, NULL), ERR_UNTRUSTED);
    assert_int_equal(server.users[ALICE].count, 1);
    assert_int_equal(server.ciphertext_size, 0);
}

static void
test_secrets_from_nobody_are_refused(void **state)
{
    (void)state;
    char code[FC_DEVICE_CODE_BYTES];
    char name[FC_DEVICE_NAME_BYTES];
    enum fc_device_offer_state progress = FC_DEVICE_OFFERED;
    make_offer(code);
    assert_int_equal(fc_device_add(identity, code, true, name, NULL), ERR_OK);
    server.ciphertext[3] ^= 1;
    sit_at(2);
    assert_int_equal(fc_device_offer_poll(identity, &progress, NULL), ERR_UNTRUSTED);
    server.ciphertext[3] ^= 1;
    assert_int_equal(fc_device_offer_poll(identity, &progress, NULL), ERR_OK);
    assert_int_equal(progress, FC_DEVICE_READY);
}

static void
test_a_device_that_may_not_sign(void **state)
{
    (void)state;
    char code[FC_DEVICE_CODE_BYTES];
    char name[FC_DEVICE_NAME_BYTES];
    enum fc_device_offer_state progress = FC_DEVICE_OFFERED;
    make_offer(code);
    assert_int_equal(fc_device_add(identity, code, false, name, NULL), ERR_OK);
    sit_at(2);
    assert_int_equal(fc_device_offer_poll(identity, &progress, NULL), ERR_OK);
    assert_int_equal(progress, FC_DEVICE_NO_SIGN);
    assert_int_equal(fc_device_remove(identity, "two", name, NULL), ERR_PRECONDITION);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_login_makes_keys_and_the_next_changes_nothing),
        TEST(test_what_was_cut_off_is_done_at_the_next_login),
        TEST(test_of_two_first_logins_at_once_one_makes_the_keys),
        TEST(test_without_the_password_a_machine_waits),
        TEST(test_what_the_server_keeps_cannot_be_swapped),
        TEST(test_another_account_of_the_same_name_is_noticed),
        TEST(test_a_server_without_keys_is_no_failure),
        TEST(test_a_reset_makes_another_identity_without_a_warning_here),
        TEST(test_a_chain_that_grows_is_followed),
        TEST(test_a_chain_that_goes_back_is_not_believed),
        TEST(test_a_chain_that_forks_is_not_believed),
        TEST(test_entries_of_somebody_else_are_not_believed),
        TEST(test_a_chain_of_another_name_or_id_is_not_believed),
        TEST(test_a_name_that_moves_to_another_account_is_not_believed),
        TEST(test_a_server_that_holds_entries_back_is_given_up),
        TEST(test_unknown_users_and_users_without_keys),
        TEST(test_another_identity_is_told_once),
        TEST(test_another_identity_of_somebody_verified_waits_to_be_accepted),
        TEST(test_a_machine_that_waits_vouches_for_nobody),
        TEST(test_a_device_is_let_in_by_its_code),
        TEST(test_keys_that_the_server_puts_in_their_place_are_not_let_in),
        TEST(test_secrets_from_nobody_are_refused),
        TEST(test_a_device_that_may_not_sign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
