// Grants and the tree over segments.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "e2e/e2e_grant.h"

enum {
    NOW = 1000000,
    LEAVES_MAX = 70,
};

static const uint8_t private_key[CRYPTO_KEY_BYTES] = {7};
static const uint8_t file_id[16] = "a file of alice.";

// --- The tree -------------------------------------------------------------------------------------------------------

// RFC 6962, 2.1, word for word.
static void
hash_tree(const uint8_t (*leaves)[32], size_t count, uint8_t out[32])
{
    uint8_t input[65];
    size_t left = 1;
    if (count == 0) {
        assert_int_equal(digest_of(DIGEST_SHA256, (struct bytes_view){0}, out), ERR_OK);
        return;
    }
    if (count == 1) {
        input[0] = 0;
        memcpy(input + 1, leaves[0], 32);
        assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(input, 33), out), ERR_OK);
        return;
    }
    while (left * 2 < count) {
        left *= 2;
    }
    input[0] = 1;
    hash_tree(leaves, left, input + 1);
    hash_tree(leaves + left, count - left, input + 33);
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(input, 65), out), ERR_OK);
}

static void
test_the_tree_is_that_of_the_rfc(void **state)
{
    static uint8_t leaves[LEAVES_MAX][32];
    struct e2e_tree tree = {0};
    uint8_t root[32];
    uint8_t expected[32];
    (void)state;
    random_bytes(leaves, sizeof(leaves));
    for (size_t count = 0; count <= LEAVES_MAX; count++) {
        hash_tree((const uint8_t(*)[32])leaves, count, expected);
        assert_int_equal(e2e_tree_root(&tree, root), ERR_OK);
        assert_memory_equal(root, expected, sizeof(root));
        if (count < LEAVES_MAX) {
            assert_int_equal(e2e_tree_add(&tree, leaves[count]), ERR_OK);
        }
    }
}

// --- Grants ---------------------------------------------------------------------------------------------------------

struct fixture {
    struct e2e_grant grant;
    struct bytes encoded;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t key[CRYPTO_KEY_BYTES];
};

static void
make(struct fixture *fixture, int64_t expires_at_ms)
{
    memset(fixture, 0, sizeof(*fixture));
    memcpy(fixture->grant.file_id, file_id, sizeof(file_id));
    memset(fixture->grant.user_id, 2, sizeof(fixture->grant.user_id));
    memset(fixture->grant.root, 3, sizeof(fixture->grant.root));
    fixture->grant.expires_at_ms = expires_at_ms;
    fixture->grant.size_bytes = 1234567;
    fixture->grant.segment_size_bytes = 262144;
    assert_int_equal(e2e_grant_sign(&fixture->grant, private_key, &fixture->encoded, fixture->signature), ERR_OK);
    assert_int_equal(crypto_sign_public(private_key, fixture->key), ERR_OK);
}

static enum err
check(const struct fixture *fixture, struct e2e_grant *out)
{
    return e2e_grant_check(bytes_as_view(&fixture->encoded),
        bytes_view_of(fixture->signature, sizeof(fixture->signature)), fixture->key, file_id, NOW, out, NULL);
}

static void
test_a_grant_says_what_was_granted(void **state)
{
    struct fixture fixture;
    struct e2e_grant read;
    (void)state;
    make(&fixture, NOW + E2E_GRANT_LIFETIME_MS);
    memset(&read, 0xFF, sizeof(read));
    assert_int_equal(check(&fixture, &read), ERR_OK);
    assert_memory_equal(read.file_id, file_id, sizeof(file_id));
    assert_memory_equal(read.user_id, fixture.grant.user_id, sizeof(read.user_id));
    assert_memory_equal(read.root, fixture.grant.root, sizeof(read.root));
    assert_int_equal(read.expires_at_ms, fixture.grant.expires_at_ms);
    assert_int_equal(read.size_bytes, 1234567);
    assert_int_equal(read.segment_size_bytes, 262144);
    bytes_free(&fixture.encoded);
}

static void
test_every_changed_bit_is_noticed(void **state)
{
    struct fixture fixture;
    struct e2e_grant read;
    (void)state;
    make(&fixture, NOW + 1000);
    for (size_t i = 0; i < fixture.encoded.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            fixture.encoded.data[i] ^= (uint8_t)(1U << bit);
            assert_int_equal(check(&fixture, &read), ERR_DENIED);
            fixture.encoded.data[i] ^= (uint8_t)(1U << bit);
        }
    }
    for (size_t i = 0; i < sizeof(fixture.signature); i++) {
        fixture.signature[i] ^= 1;
        assert_int_equal(check(&fixture, &read), ERR_DENIED);
        fixture.signature[i] ^= 1;
    }
    for (size_t size = 0; size < fixture.encoded.size; size++) {
        struct fixture cut = fixture;
        cut.encoded.size = size;
        assert_int_equal(check(&cut, &read), ERR_DENIED);
    }
    assert_int_equal(check(&fixture, &read), ERR_OK);
    bytes_free(&fixture.encoded);
}

static void
test_what_a_grant_is_not_good_for(void **state)
{
    static const uint8_t other_key[CRYPTO_KEY_BYTES] = {8};
    static const uint8_t other_file[16] = "another file ...";
    struct fixture fixture;
    struct e2e_grant read;
    (void)state;
    make(&fixture, NOW + 1);
    struct bytes_view grant = bytes_as_view(&fixture.encoded);
    struct bytes_view signature = bytes_view_of(fixture.signature, sizeof(fixture.signature));
    assert_int_equal(e2e_grant_check(grant, signature, fixture.key, file_id, NOW, &read, NULL), ERR_OK);
    assert_int_equal(e2e_grant_check(grant, signature, fixture.key, file_id, NOW + 1, &read, NULL), ERR_TIMEOUT);
    assert_int_equal(e2e_grant_check(grant, signature, fixture.key, other_file, NOW, &read, NULL), ERR_DENIED);
    assert_int_equal(e2e_grant_check(grant, (struct bytes_view){0}, fixture.key, file_id, NOW, &read, NULL),
        ERR_DENIED);
    assert_int_equal(crypto_sign_public(other_key, fixture.key), ERR_OK);
    assert_int_equal(check(&fixture, &read), ERR_DENIED);
    bytes_free(&fixture.encoded);

    make(&fixture, NOW + 3 * E2E_GRANT_LIFETIME_MS);
    assert_int_equal(check(&fixture, &read), ERR_TIMEOUT);
    bytes_free(&fixture.encoded);
    make(&fixture, INT64_MIN);
    assert_int_equal(check(&fixture, &read), ERR_TIMEOUT);
    bytes_free(&fixture.encoded);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_tree_is_that_of_the_rfc),
        cmocka_unit_test(test_a_grant_says_what_was_granted),
        cmocka_unit_test(test_every_changed_bit_is_noticed),
        cmocka_unit_test(test_what_a_grant_is_not_good_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
