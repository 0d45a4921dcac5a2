// Accounts, fake salts and tokens, on a real database in a temporary folder.
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/random.h"
#include "services/auth/auth_core.h"

static char dir[64];
static struct store *store;
static uint8_t secret[AUTH_SECRET_BYTES];

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static int
open_store(void)
{
    struct err_detail why = {0};
    if (store_open(dir, &store, &why) != ERR_OK || auth_core_migrate(store, secret, &why) != ERR_OK) {
        print_error("%s\n", why.message);
        return -1;
    }
    return 0;
}

static int
make(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/fc-auth-XXXXXX");
    return mkdtemp(dir) != NULL ? open_store() : -1;
}

static int
destroy(void **state)
{
    (void)state;
    store_close(&store);
    return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

struct write {
    struct store_job job; // first
    store_read_fn *fn;
    void *context;
};

static enum err
run_write(struct store_tx *tx, struct store_job *job)
{
    const struct write *write = (const struct write *)job;
    return write->fn(tx, write->context);
}

static enum err
write_wait(store_read_fn *fn, void *context)
{
    struct write write = {.job.run = run_write, .fn = fn, .context = context};
    return store_write_wait(store, &write.job);
}

// --- Accounts -----------------------------------------------------------------------------------------------------

struct add {
    uint8_t request_id[16];
    struct auth_kdf kdf;
    struct auth_verifier verifier;
    struct auth_account account;
};

static enum err
add_run(struct store_tx *tx, void *context)
{
    struct add *add = context;
    return auth_core_add_account(tx, bytes_view_of(add->request_id, 16), &add->kdf, &add->verifier, 1000,
        &add->account);
}

static struct add
add_of(const char *name)
{
    struct add add = {.kdf = {.salt_size = 20, .log2_n = 16, .r = 9, .p = 2}};
    random_bytes(add.request_id, sizeof(add.request_id));
    random_bytes(add.kdf.salt, add.kdf.salt_size);
    random_bytes(&add.verifier, sizeof(add.verifier));
    random_bytes(add.account.user_id, sizeof(add.account.user_id));
    snprintf(add.account.user_name, sizeof(add.account.user_name), "%s", name);
    return add;
}

static struct add
add_account(const char *name)
{
    struct add add = add_of(name);
    assert_int_equal(write_wait(add_run, &add), ERR_OK);
    return add;
}

static void
test_first_account_administers_and_later_ones_do_not(void **state)
{
    (void)state;
    assert_true(add_account("ann").account.is_admin);
    assert_false(add_account("bob").account.is_admin);
}

static void
test_a_name_is_taken_once(void **state)
{
    (void)state;
    (void)add_account("ann");
    struct add again = add_of("ann");
    assert_int_equal(write_wait(add_run, &again), ERR_EXISTS);
}

static void
test_a_resend_gets_the_first_account(void **state)
{
    (void)state;
    struct add first = add_account("ann");
    struct add resend = add_of("ann");
    memcpy(resend.request_id, first.request_id, sizeof(first.request_id));
    assert_int_equal(write_wait(add_run, &resend), ERR_OK);
    assert_memory_equal(resend.account.user_id, first.account.user_id, AUTH_ID_BYTES);
    assert_true(resend.account.is_admin);
    struct add other = add_of("bob");
    memcpy(other.request_id, first.request_id, sizeof(first.request_id));
    assert_int_equal(write_wait(add_run, &other), ERR_CONFLICT);
}

struct find {
    const char *name;
    struct auth_account account;
    struct auth_kdf kdf;
    struct auth_verifier verifier;
};

static enum err
find_run(struct store_tx *tx, void *context)
{
    struct find *find = context;
    return auth_core_find_account(tx, find->name, &find->account, &find->kdf, &find->verifier);
}

static void
test_an_account_is_found_as_it_was_stored(void **state)
{
    (void)state;
    struct add ann = add_account("ann");
    struct find find = {.name = "ann"};
    assert_int_equal(store_read(store, find_run, &find), ERR_OK);
    assert_memory_equal(find.account.user_id, ann.account.user_id, AUTH_ID_BYTES);
    assert_string_equal(find.account.user_name, "ann");
    assert_true(find.account.is_admin);
    assert_int_equal(find.kdf.salt_size, 20);
    assert_memory_equal(find.kdf.salt, ann.kdf.salt, 20);
    assert_int_equal(find.kdf.log2_n, 16);
    assert_int_equal(find.kdf.r, 9);
    assert_int_equal(find.kdf.p, 2);
    assert_memory_equal(&find.verifier, &ann.verifier, sizeof(ann.verifier));
    find.name = "Ann";
    assert_int_equal(store_read(store, find_run, &find), ERR_NOT_FOUND);
}

static void
test_key_derivation_outside_the_bounds_is_refused(void **state)
{
    (void)state;
    const struct auth_kdf good = {.salt_size = 16, .log2_n = 15, .r = 8, .p = 1};
    const struct auth_kdf largest = {.salt_size = 64, .log2_n = 20, .r = 32, .p = 4};
    const struct auth_kdf bad[] = {
        {.salt_size = 15, .log2_n = 15, .r = 8, .p = 1},
        {.salt_size = 65, .log2_n = 15, .r = 8, .p = 1},
        {.salt_size = 16, .log2_n = 14, .r = 8, .p = 1},
        {.salt_size = 16, .log2_n = 21, .r = 8, .p = 1},
        {.salt_size = 16, .log2_n = 15, .r = 7, .p = 1},
        {.salt_size = 16, .log2_n = 15, .r = 33, .p = 1},
        {.salt_size = 16, .log2_n = 15, .r = 8, .p = 0},
        {.salt_size = 16, .log2_n = 15, .r = 8, .p = 5},
    };
    assert_int_equal(auth_core_check_kdf(&good, NULL), ERR_OK);
    assert_int_equal(auth_core_check_kdf(&largest, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err_detail why = {0};
        assert_int_equal(auth_core_check_kdf(&bad[i], &why), ERR_INVALID);
        assert_non_null(strstr(why.message, "kdf."));
    }
}

static void
test_a_verifier_accepts_its_key_only(void **state)
{
    (void)state;
    uint8_t key[AUTH_KEY_BYTES] = {1, 2, 3};
    struct auth_verifier verifier;
    struct auth_verifier other;
    assert_int_equal(auth_core_make_verifier(bytes_view_of(key, sizeof(key)), &verifier), ERR_OK);
    assert_int_equal(auth_core_make_verifier(bytes_view_of(key, sizeof(key)), &other), ERR_OK);
    assert_memory_not_equal(&verifier, &other, sizeof(verifier));
    assert_int_equal(auth_core_check_key(&verifier, bytes_view_of(key, sizeof(key))), ERR_OK);
    key[31] ^= 1;
    assert_int_equal(auth_core_check_key(&verifier, bytes_view_of(key, sizeof(key))), ERR_UNAUTHENTICATED);
}

// --- Names without an account -------------------------------------------------------------------------------------

struct login_kdf {
    const char *name;
    struct auth_kdf kdf;
};

static enum err
login_kdf_run(struct store_tx *tx, void *context)
{
    struct login_kdf *login = context;
    return auth_core_login_kdf(tx, secret, login->name, &login->kdf);
}

static struct auth_kdf
login_kdf_of(const char *name)
{
    struct login_kdf login = {.name = name};
    assert_int_equal(store_read(store, login_kdf_run, &login), ERR_OK);
    return login.kdf;
}

static void
test_unknown_names_have_a_salt_that_stays(void **state)
{
    (void)state;
    struct auth_kdf before = login_kdf_of("ghost");
    assert_int_equal(before.salt_size, 16);
    assert_int_equal(before.log2_n, 15);
    assert_int_equal(before.r, 8);
    assert_int_equal(before.p, 1);
    assert_int_equal(auth_core_check_kdf(&before, NULL), ERR_OK);
    store_close(&store);
    memset(secret, 0, sizeof(secret));
    assert_int_equal(open_store(), 0);
    struct auth_kdf after = login_kdf_of("ghost");
    assert_memory_equal(before.salt, after.salt, 16);
    struct auth_kdf other = login_kdf_of("ghosts");
    assert_memory_not_equal(before.salt, other.salt, 16);
}

static void
test_known_names_get_their_own_parameters(void **state)
{
    (void)state;
    struct add ann = add_account("ann");
    struct auth_kdf kdf = login_kdf_of("ann");
    assert_int_equal(kdf.salt_size, 20);
    assert_memory_equal(kdf.salt, ann.kdf.salt, 20);
    assert_int_equal(kdf.log2_n, 16);
}

// --- Tokens -------------------------------------------------------------------------------------------------------

struct login {
    char token[AUTH_TOKEN_TEXT_BYTES];
    struct auth_session session;
    int64_t now_ms;
};

static enum err
login_run(struct store_tx *tx, void *context)
{
    const struct login *login = context;
    return auth_core_add_session(tx, login->token, &login->session, "a test", login->now_ms);
}

static struct login
log_in(const struct add *add, int64_t now_ms, int64_t expires_ms)
{
    struct login login = {.session = {.account = add->account, .expires_ms = expires_ms}, .now_ms = now_ms};
    random_bytes(login.session.session_id, AUTH_ID_BYTES);
    assert_int_equal(auth_core_make_token(login.token), ERR_OK);
    assert_int_equal(write_wait(login_run, &login), ERR_OK);
    return login;
}

struct check {
    struct bytes_view token;
    int64_t now_ms;
    struct auth_session session;
};

static enum err
check_run(struct store_tx *tx, void *context)
{
    struct check *check = context;
    return auth_core_find_session(tx, check->token, check->now_ms, &check->session);
}

static enum err
check_token(struct bytes_view token, int64_t now_ms, struct auth_session *out)
{
    struct check check = {.token = token, .now_ms = now_ms};
    enum err err = store_read(store, check_run, &check);
    *out = check.session;
    return err;
}

static void
test_tokens_are_prefixed_base64url_and_never_the_same(void **state)
{
    (void)state;
    char one[AUTH_TOKEN_TEXT_BYTES];
    char two[AUTH_TOKEN_TEXT_BYTES];
    assert_int_equal(auth_core_make_token(one), ERR_OK);
    assert_int_equal(auth_core_make_token(two), ERR_OK);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), 47);
    assert_memory_equal(one, "fct_", 4);
    assert_int_equal(strspn(one + 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
}

static void
test_a_token_stands_for_its_session_until_it_expires(void **state)
{
    (void)state;
    struct auth_session found;
    struct add ann = add_account("ann");
    struct login login = log_in(&ann, 1000, 2000);
    struct bytes_view token = bytes_view_of_text(login.token);
    assert_int_equal(check_token(token, 1999, &found), ERR_OK);
    assert_memory_equal(found.account.user_id, ann.account.user_id, AUTH_ID_BYTES);
    assert_memory_equal(found.session_id, login.session.session_id, AUTH_ID_BYTES);
    assert_string_equal(found.account.user_name, "ann");
    assert_true(found.account.is_admin);
    assert_int_equal(found.expires_ms, 2000);
    assert_int_equal(check_token(token, 2000, &found), ERR_UNAUTHENTICATED);
}

static void
test_what_is_not_quite_a_token_is_refused(void **state)
{
    (void)state;
    struct auth_session found;
    struct add ann = add_account("ann");
    struct login login = log_in(&ann, 1000, 2000);
    char longer[AUTH_TOKEN_TEXT_BYTES + 1];
    for (size_t size = 0; size < strlen(login.token); size++) {
        assert_int_equal(check_token(bytes_view_of(login.token, size), 1500, &found), ERR_UNAUTHENTICATED);
    }
    snprintf(longer, sizeof(longer), "%sA", login.token);
    assert_int_equal(check_token(bytes_view_of_text(longer), 1500, &found), ERR_UNAUTHENTICATED);
    assert_int_equal(check_token(bytes_view_of(NULL, 0), 1500, &found), ERR_UNAUTHENTICATED);
    for (size_t i = 0; i < strlen(login.token); i++) {
        char forged[AUTH_TOKEN_TEXT_BYTES];
        memcpy(forged, login.token, sizeof(forged));
        forged[i] = forged[i] == 'x' ? 'y' : 'x';
        assert_int_equal(check_token(bytes_view_of_text(forged), 1500, &found), ERR_UNAUTHENTICATED);
    }
    assert_int_equal(check_token(bytes_view_of_text(login.token), 1500, &found), ERR_OK);
}

static enum err
logout_run(struct store_tx *tx, void *context)
{
    const struct login *login = context;
    return auth_core_remove_session(tx, login->session.session_id);
}

static void
test_a_revoked_session_ends_alone_and_may_be_revoked_again(void **state)
{
    (void)state;
    struct auth_session found;
    struct add ann = add_account("ann");
    struct login one = log_in(&ann, 1000, 2000);
    struct login two = log_in(&ann, 1000, 2000);
    assert_int_equal(write_wait(logout_run, &one), ERR_OK);
    assert_int_equal(write_wait(logout_run, &one), ERR_OK);
    assert_int_equal(check_token(bytes_view_of_text(one.token), 1500, &found), ERR_UNAUTHENTICATED);
    assert_int_equal(check_token(bytes_view_of_text(two.token), 1500, &found), ERR_OK);
}

static enum err
count_run(struct store_tx *tx, void *context)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*) FROM auth_sessions", STORE_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
        *(int64_t *)context = store_rows_int(rows, 0);
        store_rows_free(&rows);
    }
    return err;
}

static void
test_expired_sessions_are_removed_by_later_logins(void **state)
{
    (void)state;
    int64_t count = 0;
    struct add ann = add_account("ann");
    (void)log_in(&ann, 1000, 2000);
    (void)log_in(&ann, 1000, 2001);
    (void)log_in(&ann, 2000, 3000);
    assert_int_equal(store_read(store, count_run, &count), ERR_OK);
    assert_int_equal(count, 2);
}

struct hash_query {
    const uint8_t *hash;
    int64_t count;
};

static enum err
hash_run(struct store_tx *tx, void *context)
{
    struct hash_query *query = context;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*) FROM auth_sessions WHERE token_hash = $1",
        STORE_ARGS(store_blob(query->hash, DIGEST_SHA256_BYTES)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
        query->count = store_rows_int(rows, 0);
        store_rows_free(&rows);
    }
    return err;
}

static void
test_a_token_is_kept_as_its_sha256(void **state)
{
    (void)state;
    uint8_t hash[DIGEST_SHA256_BYTES];
    struct hash_query query = {.hash = hash};
    struct add ann = add_account("ann");
    struct login login = log_in(&ann, 1000, 2000);
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of_text(login.token), hash), ERR_OK);
    assert_int_equal(store_read(store, hash_run, &query), ERR_OK);
    assert_int_equal(query.count, 1);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, destroy)
    const struct CMUnitTest tests[] = {
        TEST(test_first_account_administers_and_later_ones_do_not),
        TEST(test_a_name_is_taken_once),
        TEST(test_a_resend_gets_the_first_account),
        TEST(test_an_account_is_found_as_it_was_stored),
        TEST(test_key_derivation_outside_the_bounds_is_refused),
        TEST(test_a_verifier_accepts_its_key_only),
        TEST(test_unknown_names_have_a_salt_that_stays),
        TEST(test_known_names_get_their_own_parameters),
        TEST(test_tokens_are_prefixed_base64url_and_never_the_same),
        TEST(test_a_token_stands_for_its_session_until_it_expires),
        TEST(test_what_is_not_quite_a_token_is_refused),
        TEST(test_a_revoked_session_ends_alone_and_may_be_revoked_again),
        TEST(test_expired_sessions_are_removed_by_later_logins),
        TEST(test_a_token_is_kept_as_its_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
