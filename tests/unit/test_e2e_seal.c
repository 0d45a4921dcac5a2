#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_seal_priv.h"

enum {
    MAX_BYTES = 256,
};

static struct bytes_view
view(const char *text)
{
    return bytes_view_of_text(text);
}

static struct bytes_view
from_hex(const char *hex, uint8_t buffer[MAX_BYTES])
{
    size_t size = strlen(hex) / 2;
    assert_true(size <= MAX_BYTES);
    assert_int_equal(bytes_from_hex(hex, buffer, size), ERR_OK);
    return bytes_view_of(buffer, size);
}

static void
assert_hex(struct bytes_view actual, const char *expected)
{
    char text[2 * MAX_BYTES + 1];
    assert_true(actual.size <= MAX_BYTES);
    bytes_to_hex(actual, text);
    assert_string_equal(text, expected);
}

static void
fill(uint8_t *out, size_t size, uint8_t first)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(first + i);
    }
}

// Computed with WebCrypto, python3-cryptography and OpenSSL alike.
static void
test_known_answer_of_seal(void **state)
{
    (void)state;
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t salt[E2E_SALT_BYTES];
    struct bytes sealed = {0};
    struct bytes opened = {0};
    fill(secret, sizeof(secret), 0);
    fill(salt, sizeof(salt), 0xa0);
    assert_int_equal(e2e_seal_with_salt(secret, "fc/1 msg", view("header"), salt, view("hello"), &sealed), ERR_OK);
    assert_hex(bytes_as_view(&sealed), "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7"
                                       "8c99fce3147ea0009644946ec7ccceec07202434f26ba622a33f5c6dbf82e3a2"
                                       "8e69f3e7cec8bcf91e3839acf18028576ad7134802");
    assert_int_equal(e2e_open(secret, "fc/1 msg", view("header"), bytes_as_view(&sealed), &opened), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&opened), view("hello")));
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
assert_does_not_open(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    struct bytes_view sealed)
{
    struct bytes opened = {0};
    assert_int_equal(bytes_append(&opened, view("kept")), ERR_OK);
    assert_int_equal(e2e_open(secret, label, context, sealed, &opened), ERR_CORRUPT);
    assert_true(bytes_view_equal(bytes_as_view(&opened), view("kept")));
    bytes_free(&opened);
}

static void
test_what_was_changed_or_cut_does_not_open(void **state)
{
    (void)state;
    uint8_t secret[E2E_SECRET_BYTES];
    struct bytes sealed = {0};
    random_bytes(secret, sizeof(secret));
    assert_int_equal(e2e_seal(secret, "label", view("context"), view("plain"), &sealed), ERR_OK);
    assert_int_equal(sealed.size, E2E_SEAL_OVERHEAD_BYTES + strlen("plain"));
    for (size_t i = 0; i < sealed.size; i++) {
        sealed.data[i] ^= 0x80;
        assert_does_not_open(secret, "label", view("context"), bytes_as_view(&sealed));
        sealed.data[i] ^= 0x80;
        assert_does_not_open(secret, "label", view("context"), bytes_view_of(sealed.data, i));
    }
    assert_does_not_open(secret, "labek", view("context"), bytes_as_view(&sealed));
    assert_does_not_open(secret, "label", view("contexu"), bytes_as_view(&sealed));
    assert_does_not_open(secret, "label", view(""), bytes_as_view(&sealed));
    assert_does_not_open(secret, "labelc", view("ontext"), bytes_as_view(&sealed));
    secret[0] ^= 1;
    assert_does_not_open(secret, "label", view("context"), bytes_as_view(&sealed));
    secret[0] ^= 1;
    assert_int_equal(bytes_append(&sealed, view("x")), ERR_OK);
    assert_does_not_open(secret, "label", view("context"), bytes_as_view(&sealed));
    bytes_free(&sealed);
}

static void
test_sealing_twice_gives_different_bytes(void **state)
{
    (void)state;
    const uint8_t secret[E2E_SECRET_BYTES] = {0};
    struct bytes one = {0};
    struct bytes other = {0};
    assert_int_equal(e2e_seal(secret, "label", view("context"), view(""), &one), ERR_OK);
    assert_int_equal(e2e_seal(secret, "label", view("context"), view(""), &other), ERR_OK);
    assert_int_equal(one.size, other.size);
    assert_memory_not_equal(one.data, other.data, E2E_SALT_BYTES);
    assert_memory_not_equal(one.data + E2E_SALT_BYTES, other.data + E2E_SALT_BYTES, E2E_COMMITMENT_BYTES);
    bytes_free(&one);
    bytes_free(&other);
}

static void
test_the_key_of_one_sealed_thing_opens_no_other(void **state)
{
    (void)state;
    const uint8_t secret[E2E_SECRET_BYTES] = {3};
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    struct bytes one = {0};
    struct bytes other = {0};
    struct bytes opened = {0};
    assert_int_equal(e2e_seal(secret, "label", view("context"), view("one"), &one), ERR_OK);
    assert_int_equal(e2e_seal(secret, "label", view("context"), view("other"), &other), ERR_OK);
    assert_int_equal(e2e_seal_key(secret, "label", view("context"), bytes_as_view(&one), key), ERR_OK);
    assert_int_equal(e2e_open_with_key(key, view("context"), bytes_as_view(&one), &opened), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&opened), view("one")));
    assert_int_equal(e2e_open_with_key(key, view("context"), bytes_as_view(&other), &opened), ERR_CORRUPT);
    assert_int_equal(e2e_open_with_key(key, view("contexT"), bytes_as_view(&one), &opened), ERR_CORRUPT);
    assert_int_equal(
        e2e_seal_key(secret, "label", view("context"), bytes_view_of(one.data, E2E_SEAL_OVERHEAD_BYTES - 1), key),
        ERR_CORRUPT);
    bytes_free(&opened);
    bytes_free(&other);
    bytes_free(&one);
}

static void
test_contexts_that_are_too_long_are_refused(void **state)
{
    (void)state;
    const uint8_t secret[E2E_SECRET_BYTES] = {3};
    static const uint8_t context[E2E_CONTEXT_MAX_BYTES + 1];
    uint8_t out[E2E_SECRET_BYTES];
    struct bytes sealed = {0};
    assert_int_equal(e2e_derive(secret, "label", bytes_view_of(context, E2E_CONTEXT_MAX_BYTES), out), ERR_OK);
    assert_int_equal(e2e_derive(secret, "label", bytes_view_of(context, sizeof(context)), out), ERR_TOO_BIG);
    assert_int_equal(e2e_derive(secret, "a label that is longer than all of ours", view(""), out), ERR_TOO_BIG);
    assert_int_equal(e2e_seal(secret, "label", bytes_view_of(context, sizeof(context)), view("p"), &sealed),
        ERR_TOO_BIG);
    assert_int_equal(sealed.size, 0);
    bytes_free(&sealed);
}

static void
test_derive_is_hkdf_with_a_nul_between(void **state)
{
    (void)state;
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t derived[E2E_SECRET_BYTES];
    uint8_t expected[E2E_SECRET_BYTES];
    fill(secret, sizeof(secret), 1);
    assert_int_equal(e2e_derive(secret, "ab", view("cd"), derived), ERR_OK);
    assert_int_equal(digest_hkdf_sha256(bytes_view_of(secret, sizeof(secret)), bytes_view_of(NULL, 0),
                         bytes_view_of("ab\0cd", 5), expected, sizeof(expected)),
        ERR_OK);
    assert_memory_equal(derived, expected, sizeof(derived));
}

// RFC 9180, A.1.1, of which X25519 and HKDF-SHA256 are ours, and AES-128-GCM is not.
#define RECEIVER_PRIVATE "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"
#define RECEIVER_PUBLIC "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"
#define EPHEMERAL_PRIVATE "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"
#define ENC "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
#define INFO "Ode on a Grecian Urn"
#define PLAIN "Beauty is truth, truth beauty"
#define AAD "Count-0"

static void
test_schedule_of_rfc_9180(void **state)
{
    (void)state;
    uint8_t private_key[MAX_BYTES];
    uint8_t public_key[MAX_BYTES];
    uint8_t enc[MAX_BYTES];
    uint8_t dh[CRYPTO_KEY_BYTES];
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t key[CRYPTO_KEY_BYTES];
    uint8_t nonce[CRYPTO_NONCE_BYTES];
    (void)from_hex(EPHEMERAL_PRIVATE, private_key);
    (void)from_hex(RECEIVER_PUBLIC, public_key);
    (void)from_hex(ENC, enc);
    assert_int_equal(crypto_box_agree(private_key, public_key, dh), ERR_OK);
    assert_int_equal(e2e_hpke_shared_secret(dh, enc, public_key, secret), ERR_OK);
    assert_hex(bytes_view_of(secret, 32), "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc");
    assert_int_equal(e2e_hpke_schedule(secret, view(INFO), 1, key, 16, nonce), ERR_OK);
    assert_hex(bytes_view_of(key, 16), "4531685d41d65f03dc48f6b8302c05b0");
    assert_hex(bytes_view_of(nonce, sizeof(nonce)), "56d890e5accaaf011cff4b7d");
    // The same inputs with AES-256-GCM, computed with WebCrypto and python3-cryptography.
    assert_int_equal(e2e_hpke_schedule(secret, view(INFO), 2, key, 32, nonce), ERR_OK);
    assert_hex(bytes_view_of(key, 32), "a2863277956ec56c4f9f16b43665870daa2403d0d22baceff6551c4ff35b8528");
    assert_hex(bytes_view_of(nonce, sizeof(nonce)), "94fc3a5af015ec686da39ff8");
}

static void
test_known_answer_of_hpke(void **state)
{
    (void)state;
    uint8_t ephemeral[MAX_BYTES];
    uint8_t receiver_private[MAX_BYTES];
    uint8_t receiver_public[MAX_BYTES];
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    struct bytes ciphertext = {0};
    struct bytes opened = {0};
    (void)from_hex(EPHEMERAL_PRIVATE, ephemeral);
    (void)from_hex(RECEIVER_PRIVATE, receiver_private);
    (void)from_hex(RECEIVER_PUBLIC, receiver_public);
    assert_int_equal(
        e2e_hpke_seal_with_ephemeral(ephemeral, receiver_public, view(INFO), view(AAD), view(PLAIN), enc, &ciphertext),
        ERR_OK);
    assert_hex(bytes_view_of(enc, sizeof(enc)), ENC);
    assert_hex(bytes_as_view(&ciphertext), "090b7dc225419f7da9e8b460becfbb96a26c7964d79b8010d397fa838530a32a"
                                           "397b14f5776db19ff5e57734e0");
    assert_int_equal(e2e_hpke_open(receiver_private, enc, view(INFO), view(AAD), bytes_as_view(&ciphertext), &opened),
        ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&opened), view(PLAIN)));
    bytes_free(&opened);
    bytes_free(&ciphertext);
}

static void
test_a_changed_wrap_does_not_open(void **state)
{
    (void)state;
    uint8_t private_key[CRYPTO_KEY_BYTES];
    uint8_t public_key[CRYPTO_KEY_BYTES];
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    struct bytes ciphertext = {0};
    struct bytes opened = {0};
    random_bytes(private_key, sizeof(private_key));
    assert_int_equal(crypto_box_public(private_key, public_key), ERR_OK);
    assert_int_equal(e2e_hpke_seal(public_key, view("info"), view(""), view("secret"), enc, &ciphertext), ERR_OK);
    for (size_t i = 0; i < ciphertext.size; i++) {
        ciphertext.data[i] ^= 1;
        assert_int_equal(e2e_hpke_open(private_key, enc, view("info"), view(""), bytes_as_view(&ciphertext), &opened),
            ERR_CORRUPT);
        ciphertext.data[i] ^= 1;
        assert_int_equal(
            e2e_hpke_open(private_key, enc, view("info"), view(""), bytes_view_of(ciphertext.data, i), &opened),
            ERR_CORRUPT);
    }
    // Even the bit of enc that X25519 does not look at.
    for (size_t bit = 0; bit < 8 * sizeof(enc); bit++) {
        enc[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(e2e_hpke_open(private_key, enc, view("info"), view(""), bytes_as_view(&ciphertext), &opened),
            ERR_CORRUPT);
        enc[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_int_equal(e2e_hpke_open(private_key, enc, view("infO"), view(""), bytes_as_view(&ciphertext), &opened),
        ERR_CORRUPT);
    assert_int_equal(e2e_hpke_open(private_key, enc, view("info"), view("aad"), bytes_as_view(&ciphertext), &opened),
        ERR_CORRUPT);
    private_key[5] ^= 1;
    assert_int_equal(e2e_hpke_open(private_key, enc, view("info"), view(""), bytes_as_view(&ciphertext), &opened),
        ERR_CORRUPT);
    assert_int_equal(opened.size, 0);
    bytes_free(&opened);
    bytes_free(&ciphertext);
}

static void
test_nothing_is_wrapped_for_keys_of_small_order(void **state)
{
    (void)state;
    const uint8_t public_key[CRYPTO_KEY_BYTES] = {1};
    const uint8_t private_key[CRYPTO_KEY_BYTES] = {9};
    uint8_t enc[E2E_WRAP_ENC_BYTES] = {0};
    struct bytes out = {0};
    uint8_t ciphertext[48] = {0};
    assert_int_equal(e2e_hpke_seal(public_key, view(""), view(""), view("secret"), enc, &out), ERR_CORRUPT);
    assert_int_equal(e2e_hpke_open(private_key, enc, view(""), view(""), bytes_view_of(ciphertext, 48), &out),
        ERR_CORRUPT);
    assert_int_equal(out.size, 0);
    bytes_free(&out);
}

static void
test_signatures_hold_in_their_context_only(void **state)
{
    (void)state;
    const uint8_t private_key[CRYPTO_KEY_BYTES] = {8};
    uint8_t public_key[CRYPTO_KEY_BYTES];
    uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {0};
    struct bytes_view signature_view = bytes_view_of(signature, sizeof(signature));
    assert_int_equal(crypto_sign_public(private_key, public_key), ERR_OK);
    assert_int_equal(e2e_sign(private_key, E2E_CONTEXT_ROOM, view("bo"), view("dy"), signature), ERR_OK);
    assert_int_equal(e2e_verify(public_key, E2E_CONTEXT_ROOM, view("bo"), view("dy"), signature_view), ERR_OK);
    assert_int_equal(
        crypto_verify(public_key, bytes_view_of(E2E_CONTEXT_ROOM "\0body", sizeof(E2E_CONTEXT_ROOM) + 4), signature),
        ERR_OK);
    assert_int_equal(e2e_verify(public_key, E2E_CONTEXT_USER, view("bo"), view("dy"), signature_view), ERR_CORRUPT);
    assert_int_equal(e2e_verify(public_key, E2E_CONTEXT_JOIN, view("bo"), view("dy"), signature_view), ERR_CORRUPT);
    assert_int_equal(e2e_verify(public_key, E2E_CONTEXT_ROOM, view("bo"), view("dY"), signature_view), ERR_CORRUPT);
    assert_int_equal(e2e_verify(public_key, E2E_CONTEXT_ROOM, view("bo"), view("dy"), bytes_view_of(signature, 63)),
        ERR_CORRUPT);
    assert_int_equal(e2e_verify(public_key, E2E_CONTEXT_ROOM, view("bo"), view("dy"), bytes_view_of(NULL, 0)),
        ERR_CORRUPT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answer_of_seal),
        cmocka_unit_test(test_what_was_changed_or_cut_does_not_open),
        cmocka_unit_test(test_sealing_twice_gives_different_bytes),
        cmocka_unit_test(test_the_key_of_one_sealed_thing_opens_no_other),
        cmocka_unit_test(test_contexts_that_are_too_long_are_refused),
        cmocka_unit_test(test_derive_is_hkdf_with_a_nul_between),
        cmocka_unit_test(test_schedule_of_rfc_9180),
        cmocka_unit_test(test_known_answer_of_hpke),
        cmocka_unit_test(test_a_changed_wrap_does_not_open),
        cmocka_unit_test(test_nothing_is_wrapped_for_keys_of_small_order),
        cmocka_unit_test(test_signatures_hold_in_their_context_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
