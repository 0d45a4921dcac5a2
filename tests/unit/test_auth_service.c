// The Auth service's handlers, called as the server would call them, with calls that only record the answer.
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
#include "rpc/rpc_call.h"
#include "services/auth/auth_attempts.h"
#include "services/auth/auth_service.h"

#include "fc/auth/v1/auth.pb-c.h"

// --- Calls --------------------------------------------------------------------------------------------------------

struct rpc_call {
    struct rpc_identity identity;
    uint8_t request_id[RPC_REQUEST_ID_BYTES];
    size_t request_id_size;
    bool is_cancelled;

    pthread_mutex_t mutex;
    pthread_cond_t answered;
    struct {
        unsigned answers;
        enum err code;
        struct err_detail why;
        char reason[64];
        uint32_t retry_after_ms;
        char token[64];
        uint8_t id[64]; // user id or salt
        size_t id_size;
        bool is_admin;
        int64_t expires_ms;
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
    return bytes_view_of(call->request_id, call->request_id_size);
}

bool
rpc_call_is_cancelled(const struct rpc_call *call)
{
    return call->is_cancelled;
}

void
rpc_call_fail_detail(struct rpc_call *call, enum err code, const struct err_detail *why, const char *reason,
    uint32_t retry_after_ms)
{
    pthread_mutex_lock(&call->mutex);
    call->locked.answers++;
    call->locked.code = code;
    if (why != NULL) {
        call->locked.why = *why;
    }
    snprintf(call->locked.reason, sizeof(call->locked.reason), "%s", reason != NULL ? reason : "");
    call->locked.retry_after_ms = retry_after_ms;
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
call_init(struct rpc_call *call)
{
    memset(call, 0, sizeof(*call));
    pthread_mutex_init(&call->mutex, NULL);
    pthread_cond_init(&call->answered, NULL);
}

static void
begin_answer(struct rpc_call *call)
{
    pthread_mutex_lock(&call->mutex);
    call->locked.answers++;
    call->locked.code = ERR_OK;
}

static void
end_answer(struct rpc_call *call)
{
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&call->mutex);
}

static void
keep_id(struct rpc_call *call, ProtobufCBinaryData id)
{
    assert_true(id.len <= sizeof(call->locked.id));
    memcpy(call->locked.id, id.data, id.len);
    call->locked.id_size = id.len;
}

static void
on_sign_up(const Fc__Auth__V1__SignUpResponse *response, void *closure_data)
{
    struct rpc_call *call = closure_data;
    begin_answer(call);
    keep_id(call, response->user_id);
    call->locked.is_admin = response->is_admin;
    end_answer(call);
}

static void
on_parameters(const Fc__Auth__V1__GetLoginParametersResponse *response, void *closure_data)
{
    struct rpc_call *call = closure_data;
    begin_answer(call);
    keep_id(call, response->kdf->salt);
    end_answer(call);
}

static void
on_login(const Fc__Auth__V1__LoginResponse *response, void *closure_data)
{
    struct rpc_call *call = closure_data;
    begin_answer(call);
    snprintf(call->locked.token, sizeof(call->locked.token), "%s", response->token);
    call->locked.expires_ms = response->expires_at_ms;
    keep_id(call, response->user_id);
    end_answer(call);
}

static void
on_logout(const Fc__Auth__V1__LogoutResponse *response, void *closure_data)
{
    (void)response;
    begin_answer(closure_data);
    end_answer(closure_data);
}

static void
on_who_am_i(const Fc__Auth__V1__WhoAmIResponse *response, void *closure_data)
{
    struct rpc_call *call = closure_data;
    begin_answer(call);
    keep_id(call, response->user_id);
    snprintf(call->locked.token, sizeof(call->locked.token), "%s", response->user_name);
    call->locked.is_admin = response->is_admin;
    call->locked.expires_ms = response->token_expires_at_ms;
    end_answer(call);
}

static enum err
wait_answer(struct rpc_call *call)
{
    pthread_mutex_lock(&call->mutex);
    while (call->locked.answers == 0) {
        pthread_cond_wait(&call->answered, &call->mutex);
    }
    pthread_mutex_unlock(&call->mutex);
    assert_int_equal(call->locked.answers, 1);
    return call->locked.code;
}

// --- The service --------------------------------------------------------------------------------------------------

static char dir[64];
static struct store *store;
static struct auth_service *auth;
static unsigned revocations;
static uint8_t revoked_session[16];

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static void
count_revocation(void *context, const uint8_t session_id[16])
{
    (*(unsigned *)context)++;
    memcpy(revoked_session, session_id, sizeof(revoked_session));
}

static int
start_service(bool is_signup_closed, uint64_t token_lifetime_ms)
{
    struct err_detail why = {0};
    struct auth_service_options options = {
        .store = store,
        .is_signup_closed = is_signup_closed,
        .token_lifetime_ms = token_lifetime_ms,
        .on_revoked = count_revocation,
        .context = &revocations,
    };
    return auth_service_new(&options, &auth, &why) == ERR_OK ? 0 : -1;
}

static int
make(void **state)
{
    (void)state;
    struct err_detail why = {0};
    revocations = 0;
    clock_set_unix_ms_for_test(1000000);
    snprintf(dir, sizeof(dir), "/tmp/fc-auth-XXXXXX");
    if (mkdtemp(dir) == NULL || store_open(dir, &store, &why) != ERR_OK) {
        return -1;
    }
    return start_service(false, 60000);
}

static int
destroy(void **state)
{
    (void)state;
    auth_service_free(&auth);
    auth_service_free(&auth);
    store_close(&store);
    clock_set_unix_ms_for_test(-1);
    return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static Fc__Auth__V1__Auth_Service *
service(void)
{
    return (Fc__Auth__V1__Auth_Service *)auth_service_rpc(auth);
}

// What a client sends; kept beside the call, since a request has to stay until the answer.
struct sign_up {
    struct rpc_call call;
    uint8_t key[32];
    uint8_t salt[16];
    char name[64];
    Fc__Auth__V1__KdfParameters kdf;
    Fc__Auth__V1__SignUpRequest request;
};

static void
sign_up_init(struct sign_up *it, const char *name, uint8_t key, uint8_t request_id)
{
    call_init(&it->call);
    memset(it->call.request_id, request_id, sizeof(it->call.request_id));
    it->call.request_id_size = sizeof(it->call.request_id);
    memset(it->key, key, sizeof(it->key));
    memset(it->salt, key, sizeof(it->salt));
    snprintf(it->name, sizeof(it->name), "%s", name);
    it->kdf = (Fc__Auth__V1__KdfParameters)FC__AUTH__V1__KDF_PARAMETERS__INIT;
    it->kdf.salt = (ProtobufCBinaryData){.len = sizeof(it->salt), .data = it->salt};
    it->kdf.log2_n = 15;
    it->kdf.r = 8;
    it->kdf.p = 1;
    it->request = (Fc__Auth__V1__SignUpRequest)FC__AUTH__V1__SIGN_UP_REQUEST__INIT;
    it->request.user_name = it->name;
    it->request.kdf = &it->kdf;
    it->request.auth_key = (ProtobufCBinaryData){.len = sizeof(it->key), .data = it->key};
}

static enum err
sign_up_run(struct sign_up *it)
{
    service()->sign_up(service(), &it->request, on_sign_up, &it->call);
    return wait_answer(&it->call);
}

static void
sign_up(const char *name, uint8_t key)
{
    struct sign_up it;
    sign_up_init(&it, name, key, key);
    assert_int_equal(sign_up_run(&it), ERR_OK);
}

struct login {
    struct rpc_call call;
    uint8_t key[32];
    char name[64];
    Fc__Auth__V1__LoginRequest request;
};

static void
login_init(struct login *it, const char *name, uint8_t key)
{
    call_init(&it->call);
    memset(it->key, key, sizeof(it->key));
    snprintf(it->name, sizeof(it->name), "%s", name);
    it->request = (Fc__Auth__V1__LoginRequest)FC__AUTH__V1__LOGIN_REQUEST__INIT;
    it->request.user_name = it->name;
    it->request.auth_key = (ProtobufCBinaryData){.len = sizeof(it->key), .data = it->key};
}

static void
login_start(struct login *it)
{
    service()->login(service(), &it->request, on_login, &it->call);
}

static enum err
login_run(struct login *it, const char *name, uint8_t key)
{
    login_init(it, name, key);
    login_start(it);
    return wait_answer(&it->call);
}

// --- Tests --------------------------------------------------------------------------------------------------------

static void
test_who_signs_up_can_log_in_and_use_the_token(void **state)
{
    (void)state;
    struct login login;
    struct rpc_identity identity;
    sign_up("ann", 1);
    assert_int_equal(login_run(&login, "ann", 1), ERR_OK);
    assert_int_equal(login.call.locked.expires_ms, 1060000);
    struct bytes_view token = bytes_view_of_text(login.call.locked.token);
    assert_int_equal(auth_service_authenticate(auth, token, &identity), ERR_OK);
    assert_string_equal(identity.subject_name, "ann");
    assert_true(identity.is_admin);
    assert_int_equal(identity.expires_unix_ms, 1060000);
    assert_memory_equal(identity.subject_id, login.call.locked.id, 16);
    clock_set_unix_ms_for_test(1060000);
    assert_int_equal(auth_service_authenticate(auth, token, &identity), ERR_UNAUTHENTICATED);
}

static void
test_wrong_key_and_unknown_name_get_the_same_answer(void **state)
{
    (void)state;
    struct login wrong;
    struct login unknown;
    sign_up("ann", 1);
    assert_int_equal(login_run(&wrong, "ann", 2), ERR_UNAUTHENTICATED);
    assert_int_equal(login_run(&unknown, "ghost", 2), ERR_UNAUTHENTICATED);
    assert_string_equal(wrong.call.locked.why.message, "wrong user name or password");
    assert_string_equal(unknown.call.locked.why.message, wrong.call.locked.why.message);
    assert_string_equal(unknown.call.locked.reason, wrong.call.locked.reason);
}

static uint64_t
time_failed_login(const char *name)
{
    struct login login;
    uint64_t start_us = clock_monotonic_us();
    assert_int_equal(login_run(&login, name, 2), ERR_UNAUTHENTICATED);
    return clock_monotonic_us() - start_us;
}

static void
test_an_unknown_name_costs_as_much_as_a_wrong_key(void **state)
{
    (void)state;
    sign_up("ann", 1);
    uint64_t wrong_us = time_failed_login("ann");
    uint64_t again_us = time_failed_login("ann");
    uint64_t unknown_us = time_failed_login("ghost");
    // Without the hash it would be a hundredth; a busy machine can stretch either of them.
    assert_true(unknown_us > (wrong_us < again_us ? wrong_us : again_us) / 4);
}

static void
test_parameters_are_answered_for_every_name_and_stay(void **state)
{
    (void)state;
    static const char *const names[] = {"ann", "ghost", "ghost"};
    struct rpc_call calls[3];
    sign_up("ann", 7);
    for (int i = 0; i < 3; i++) {
        char name[16];
        Fc__Auth__V1__GetLoginParametersRequest request = FC__AUTH__V1__GET_LOGIN_PARAMETERS_REQUEST__INIT;
        snprintf(name, sizeof(name), "%s", names[i]);
        request.user_name = name;
        call_init(&calls[i]);
        service()->get_login_parameters(service(), &request, on_parameters, &calls[i]);
        assert_int_equal(wait_answer(&calls[i]), ERR_OK);
        assert_int_equal(calls[i].locked.id_size, 16);
    }
    assert_int_equal(calls[0].locked.id[0], 7);
    assert_memory_equal(calls[1].locked.id, calls[2].locked.id, 16);
}

static void
test_sign_up_executes_once_per_request_id(void **state)
{
    (void)state;
    struct sign_up first;
    struct sign_up resend;
    struct sign_up other;
    sign_up_init(&first, "ann", 1, 9);
    sign_up_init(&resend, "ann", 1, 9);
    sign_up_init(&other, "bob", 1, 9);
    assert_int_equal(sign_up_run(&first), ERR_OK);
    assert_int_equal(sign_up_run(&resend), ERR_OK);
    assert_memory_equal(first.call.locked.id, resend.call.locked.id, 16);
    assert_true(resend.call.locked.is_admin);
    assert_int_equal(sign_up_run(&other), ERR_CONFLICT);
    assert_string_equal(other.call.locked.reason, "REQUEST_ID_REUSED");
}

static void
test_sign_ups_under_one_name_at_once_make_one_account(void **state)
{
    (void)state;
    enum { COUNT = 4 };
    static struct sign_up all[COUNT];
    int made = 0;
    for (int i = 0; i < COUNT; i++) {
        sign_up_init(&all[i], "ann", 1, (uint8_t)(i + 1));
        service()->sign_up(service(), &all[i].request, on_sign_up, &all[i].call);
    }
    for (int i = 0; i < COUNT; i++) {
        enum err err = wait_answer(&all[i].call);
        made += err == ERR_OK;
        assert_true(err == ERR_OK || err == ERR_EXISTS);
    }
    assert_int_equal(made, 1);
}

static void
test_sign_up_refuses_what_the_contract_forbids(void **state)
{
    (void)state;
    struct sign_up it;
    sign_up_init(&it, "Ann", 1, 1);
    assert_int_equal(sign_up_run(&it), ERR_INVALID);
    sign_up_init(&it, "ann", 1, 1);
    it.request.kdf = NULL;
    assert_int_equal(sign_up_run(&it), ERR_INVALID);
    sign_up_init(&it, "ann", 1, 1);
    it.kdf.log2_n = 14;
    assert_int_equal(sign_up_run(&it), ERR_INVALID);
    sign_up_init(&it, "ann", 1, 1);
    it.kdf.salt.len = 0;
    it.kdf.salt.data = NULL;
    assert_int_equal(sign_up_run(&it), ERR_INVALID);
    sign_up_init(&it, "ann", 1, 1);
    it.request.auth_key.len = 31;
    assert_int_equal(sign_up_run(&it), ERR_INVALID);
    sign_up_init(&it, "ann", 1, 1);
    it.call.request_id_size = 0;
    assert_int_equal(sign_up_run(&it), ERR_INVALID);
}

static void
test_closed_sign_up_is_refused(void **state)
{
    (void)state;
    struct sign_up it;
    auth_service_free(&auth);
    assert_int_equal(start_service(true, 0), 0);
    sign_up_init(&it, "ann", 1, 1);
    assert_int_equal(sign_up_run(&it), ERR_DENIED);
    assert_string_equal(it.call.locked.reason, "SIGN_UP_CLOSED");
}

static void
test_many_wrong_keys_pause_the_name_even_when_tried_at_once(void **state)
{
    (void)state;
    enum { COUNT = AUTH_ATTEMPTS_FREE + 3 };
    static struct login logins[COUNT];
    unsigned wrong = 0;
    unsigned paused = 0;
    sign_up("ann", 1);
    uint64_t start_ms = clock_monotonic_ms();
    for (int i = 0; i < COUNT; i++) {
        login_init(&logins[i], "ann", 2);
        login_start(&logins[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        enum err err = wait_answer(&logins[i].call);
        wrong += err == ERR_UNAUTHENTICATED;
        paused += err == ERR_LIMIT;
    }
    struct login right;
    enum err during_pause = login_run(&right, "ann", 1);
    if (clock_monotonic_ms() - start_ms < AUTH_ATTEMPTS_FIRST_PAUSE_MS) { // else the machine stood still meanwhile
        assert_int_equal(wrong, AUTH_ATTEMPTS_FREE);
        assert_int_equal(paused, COUNT - AUTH_ATTEMPTS_FREE);
        assert_int_equal(during_pause, ERR_LIMIT);
        assert_string_equal(right.call.locked.reason, "TOO_MANY_ATTEMPTS");
        assert_in_range(right.call.locked.retry_after_ms, 1, AUTH_ATTEMPTS_FIRST_PAUSE_MS);
    }
    // The pause ends by itself, and the right key is then accepted.
    uint64_t limit_ms = clock_monotonic_ms() + 60 * AUTH_ATTEMPTS_FIRST_PAUSE_MS;
    do {
        assert_true(clock_monotonic_ms() < limit_ms);
        enum err err = login_run(&right, "ann", 1);
        assert_true(err == ERR_OK || err == ERR_LIMIT);
    } while (right.call.locked.code == ERR_LIMIT);
}

static void
test_the_queue_for_hashing_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = 140 };
    static struct login logins[COUNT];
    unsigned refused = 0;
    for (int i = 0; i < COUNT; i++) {
        char name[16];
        snprintf(name, sizeof(name), "ghost%d", i);
        login_init(&logins[i], name, 2);
        logins[i].call.is_cancelled = i > 0; // nobody waits for those, so they are not hashed; the first takes a while
        login_start(&logins[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        enum err err = wait_answer(&logins[i].call);
        if (err == ERR_LIMIT) {
            refused++;
            assert_string_equal(logins[i].call.locked.reason, "TOO_MANY_LOGINS");
            assert_true(logins[i].call.locked.retry_after_ms > 0);
        }
    }
    assert_true(refused > 0);
}

static void
test_login_refuses_what_the_contract_forbids(void **state)
{
    (void)state;
    struct login login;
    char device[66];
    memset(device, 'a', sizeof(device) - 1);
    device[sizeof(device) - 1] = '\0';
    assert_int_equal(login_run(&login, "no name", 1), ERR_INVALID);
    call_init(&login.call);
    snprintf(login.name, sizeof(login.name), "ann");
    login.request.device_name = device;
    login_start(&login);
    assert_int_equal(wait_answer(&login.call), ERR_INVALID);
    call_init(&login.call);
    login.request.device_name = device + 1;
    login.request.auth_key.len = 0;
    login_start(&login);
    assert_int_equal(wait_answer(&login.call), ERR_INVALID);
}

static void
test_logout_revokes_this_token_and_says_so_before_answering(void **state)
{
    (void)state;
    struct login one;
    struct login two;
    struct rpc_call call;
    struct rpc_identity identity;
    Fc__Auth__V1__LogoutRequest request = FC__AUTH__V1__LOGOUT_REQUEST__INIT;
    sign_up("ann", 1);
    assert_int_equal(login_run(&one, "ann", 1), ERR_OK);
    assert_int_equal(login_run(&two, "ann", 1), ERR_OK);
    call_init(&call);
    assert_int_equal(auth_service_authenticate(auth, bytes_view_of_text(one.call.locked.token), &call.identity),
        ERR_OK);
    service()->logout(service(), &request, on_logout, &call);
    assert_int_equal(wait_answer(&call), ERR_OK);
    assert_int_equal(revocations, 1);
    assert_memory_equal(revoked_session, call.identity.session_id, sizeof(revoked_session));
    assert_int_equal(auth_service_authenticate(auth, bytes_view_of_text(one.call.locked.token), &identity),
        ERR_UNAUTHENTICATED);
    assert_int_equal(auth_service_authenticate(auth, bytes_view_of_text(two.call.locked.token), &identity), ERR_OK);
}

static void
test_who_am_i_answers_with_the_caller(void **state)
{
    (void)state;
    struct rpc_call call;
    Fc__Auth__V1__WhoAmIRequest request = FC__AUTH__V1__WHO_AM_IREQUEST__INIT;
    call_init(&call);
    call.identity = (struct rpc_identity){.subject_id = {1, 2, 3},
        .subject_name = "ann",
        .is_admin = true,
        .expires_unix_ms = 12345};
    service()->who_am_i(service(), &request, on_who_am_i, &call);
    assert_int_equal(wait_answer(&call), ERR_OK);
    assert_memory_equal(call.locked.id, call.identity.subject_id, 16);
    assert_string_equal(call.locked.token, "ann");
    assert_true(call.locked.is_admin);
    assert_int_equal(call.locked.expires_ms, 12345);
}

int
main(void)
{
    log_set_level(LOG_WARN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_who_signs_up_can_log_in_and_use_the_token),
        TEST(test_wrong_key_and_unknown_name_get_the_same_answer),
        TEST(test_an_unknown_name_costs_as_much_as_a_wrong_key),
        TEST(test_parameters_are_answered_for_every_name_and_stay),
        TEST(test_sign_up_executes_once_per_request_id),
        TEST(test_sign_ups_under_one_name_at_once_make_one_account),
        TEST(test_sign_up_refuses_what_the_contract_forbids),
        TEST(test_closed_sign_up_is_refused),
        TEST(test_many_wrong_keys_pause_the_name_even_when_tried_at_once),
        TEST(test_the_queue_for_hashing_is_bounded),
        TEST(test_login_refuses_what_the_contract_forbids),
        TEST(test_logout_revokes_this_token_and_says_so_before_answering),
        TEST(test_who_am_i_answers_with_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
