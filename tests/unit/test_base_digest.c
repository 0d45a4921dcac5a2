#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"

enum {
    MAX_TEXT_BYTES = 256,
};

static struct bytes_view
view(const char *text)
{
    return bytes_view_of_text(text);
}

static void
assert_hex(const uint8_t *actual, size_t size, const char *expected)
{
    char text[MAX_TEXT_BYTES];
    assert_true(2 * size < sizeof(text));
    bytes_to_hex(bytes_view_of(actual, size), text);
    assert_string_equal(text, expected);
}

// Makes bytes of a hex string in a buffer of the caller.
static struct bytes_view
from_hex(const char *hex, uint8_t buffer[MAX_TEXT_BYTES])
{
    size_t size = strlen(hex) / 2;
    assert_true(size <= MAX_TEXT_BYTES);
    assert_int_equal(bytes_from_hex(hex, buffer, size), ERR_OK);
    return bytes_view_of(buffer, size);
}

static void
test_known_digests(void **state)
{
    (void)state;
    uint8_t out[DIGEST_SHA256_BYTES];
    assert_int_equal(digest_of(DIGEST_MD5, view("abc"), out), ERR_OK); // RFC 1321
    assert_hex(out, DIGEST_MD5_BYTES, "900150983cd24fb0d6963f7d28e17f72");
    assert_int_equal(digest_of(DIGEST_MD5, bytes_view_of(NULL, 0), out), ERR_OK);
    assert_hex(out, DIGEST_MD5_BYTES, "d41d8cd98f00b204e9800998ecf8427e");
    assert_int_equal(digest_of(DIGEST_SHA256, view("abc"), out), ERR_OK); // RFC 6234
    assert_hex(out, DIGEST_SHA256_BYTES, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// Much data is taken in steps; the expected values are Python's hashlib's.
static void
test_digest_of_much_data(void **state)
{
    (void)state;
    enum {
        SIZE = 200001,
    };
    static const char *const expected[] = {[DIGEST_MD5] = "4e05eb0f3148b2ca0fc7d4c1b5e172d8",
        [DIGEST_SHA256] = "776b67b3f6a1eb506f4ae17ceba3f990dadf734c14321042ec6fcc28be451aec"};
    static uint8_t data[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (int kind = DIGEST_MD5; kind <= DIGEST_SHA256; kind++) {
        uint8_t whole[DIGEST_SHA256_BYTES];
        uint8_t running[DIGEST_SHA256_BYTES];
        char hex[2 * DIGEST_SHA256_BYTES + 1];
        struct digest *digest = NULL;
        size_t size = kind == DIGEST_MD5 ? DIGEST_MD5_BYTES : DIGEST_SHA256_BYTES;
        assert_int_equal(digest_of((enum digest_kind)kind, bytes_view_of(data, SIZE), whole), ERR_OK);
        assert_int_equal(digest_new((enum digest_kind)kind, &digest), ERR_OK);
        assert_int_equal(digest_update(digest, bytes_view_of(data, 1)), ERR_OK);
        assert_int_equal(digest_update(digest, bytes_view_of(data + 1, SIZE - 1)), ERR_OK);
        assert_int_equal(digest_final(digest, running), ERR_OK);
        digest_free(&digest);
        bytes_to_hex(bytes_view_of(whole, size), hex);
        assert_string_equal(hex, expected[kind]);
        assert_memory_equal(running, whole, size);
    }
}

static void
test_running_digest_is_ready_again_after_final(void **state)
{
    (void)state;
    struct digest *digest = NULL;
    uint8_t out[DIGEST_MD5_BYTES];
    assert_int_equal(digest_new(DIGEST_MD5, &digest), ERR_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(digest_update(digest, view("a")), ERR_OK);
        assert_int_equal(digest_update(digest, bytes_view_of(NULL, 0)), ERR_OK);
        assert_int_equal(digest_update(digest, view("bc")), ERR_OK);
        assert_int_equal(digest_final(digest, out), ERR_OK);
        assert_hex(out, sizeof(out), "900150983cd24fb0d6963f7d28e17f72");
    }
    digest_free(&digest);
    assert_null(digest);
    digest_free(&digest);
}

// RFC 4231, test cases 1, 2, 6 and 7.
static void
test_hmac_vectors_of_rfc_4231(void **state)
{
    (void)state;
    uint8_t out[DIGEST_SHA256_BYTES];
    uint8_t key[131];
    memset(key, 0x0b, 20);
    assert_int_equal(digest_hmac_sha256(bytes_view_of(key, 20), view("Hi There"), out), ERR_OK);
    assert_hex(out, sizeof(out), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");

    assert_int_equal(digest_hmac_sha256(view("Jefe"), view("what do ya want for nothing?"), out), ERR_OK);
    assert_hex(out, sizeof(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");

    memset(key, 0xaa, sizeof(key));
    assert_int_equal(digest_hmac_sha256(bytes_view_of(key, sizeof(key)),
                         view("Test Using Larger Than Block-Size Key - Hash Key First"), out),
        ERR_OK);
    assert_hex(out, sizeof(out), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");

    assert_int_equal(digest_hmac_sha256(bytes_view_of(key, sizeof(key)),
                         view("This is a test using a larger than block-size key and a larger than block-size data. "
                              "The key needs to be hashed before being used by the HMAC algorithm."),
                         out),
        ERR_OK);
    assert_hex(out, sizeof(out), "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void
test_hmac_of_nothing_with_an_empty_key(void **state)
{
    (void)state;
    uint8_t out[DIGEST_SHA256_BYTES];
    assert_int_equal(digest_hmac_sha256(bytes_view_of(NULL, 0), bytes_view_of(NULL, 0), out), ERR_OK);
    assert_hex(out, sizeof(out), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

// RFC 5869, test cases 1, 2 and 3.
static void
test_hkdf_vectors_of_rfc_5869(void **state)
{
    (void)state;
    uint8_t ikm[MAX_TEXT_BYTES];
    uint8_t salt[MAX_TEXT_BYTES];
    uint8_t info[MAX_TEXT_BYTES];
    uint8_t out[82];
    memset(ikm, 0x0b, 22);
    assert_int_equal(digest_hkdf_sha256(bytes_view_of(ikm, 22), from_hex("000102030405060708090a0b0c", salt),
                         from_hex("f0f1f2f3f4f5f6f7f8f9", info), out, 42),
        ERR_OK);
    assert_hex(out, 42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        "34007208d5b887185865");

    assert_int_equal(
        digest_hkdf_sha256(bytes_view_of(ikm, 22), bytes_view_of(NULL, 0), bytes_view_of(NULL, 0), out, 42), ERR_OK);
    assert_hex(out, 42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
        "9d201395faa4b61a96c8");

    for (size_t i = 0; i < 80; i++) {
        ikm[i] = (uint8_t)i;
        salt[i] = (uint8_t)(0x60 + i);
        info[i] = (uint8_t)(0xb0 + i);
    }
    assert_int_equal(
        digest_hkdf_sha256(bytes_view_of(ikm, 80), bytes_view_of(salt, 80), bytes_view_of(info, 80), out, 82), ERR_OK);
    assert_hex(out, 82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87");
}

// RFC 5869, test case 1, which gives the PRK as well.
static void
test_the_halves_of_hkdf(void **state)
{
    (void)state;
    uint8_t ikm[22];
    uint8_t salt[MAX_TEXT_BYTES];
    uint8_t info[MAX_TEXT_BYTES];
    uint8_t prk[DIGEST_SHA256_BYTES];
    uint8_t out[42];
    memset(ikm, 0x0b, sizeof(ikm));
    assert_int_equal(
        digest_hkdf_extract_sha256(from_hex("000102030405060708090a0b0c", salt), bytes_view_of(ikm, sizeof(ikm)), prk),
        ERR_OK);
    assert_hex(prk, sizeof(prk), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
    assert_int_equal(digest_hkdf_expand_sha256(prk, from_hex("f0f1f2f3f4f5f6f7f8f9", info), out, sizeof(out)), ERR_OK);
    assert_hex(out, sizeof(out),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        "34007208d5b887185865");
}

static void
test_hkdf_refuses_impossible_sizes(void **state)
{
    (void)state;
    uint8_t out[8161];
    assert_int_equal(digest_hkdf_sha256(view("k"), view("s"), view("i"), out, 8161), ERR_INVALID);
    assert_int_equal(digest_hkdf_sha256(view("k"), view("s"), view("i"), out, 0), ERR_INVALID);
    assert_int_equal(digest_hkdf_sha256(view("k"), view("s"), view("i"), out, 8160), ERR_OK);
}

// RFC 7914, section 12, but for the last, which takes 1 GiB.
static void
test_scrypt_vectors_of_rfc_7914(void **state)
{
    (void)state;
    uint8_t out[64];
    assert_int_equal(digest_scrypt(view(""), view(""), 4, 1, 1, out, sizeof(out)), ERR_OK);
    assert_hex(out, sizeof(out),
        "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
        "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906");
    assert_int_equal(digest_scrypt(view("password"), view("NaCl"), 10, 8, 16, out, sizeof(out)), ERR_OK);
    assert_hex(out, sizeof(out),
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
        "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
    assert_int_equal(digest_scrypt(view("pleaseletmein"), view("SodiumChloride"), 14, 8, 1, out, sizeof(out)), ERR_OK);
    assert_hex(out, sizeof(out),
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887");
}

static void
test_scrypt_refuses_impossible_parameters(void **state)
{
    (void)state;
    uint8_t out[16];
    assert_int_equal(digest_scrypt(view("p"), view("s"), 0, 8, 1, out, sizeof(out)), ERR_INVALID);
    assert_int_equal(digest_scrypt(view("p"), view("s"), 64, 8, 1, out, sizeof(out)), ERR_INVALID);
    assert_int_equal(digest_scrypt(view("p"), view("s"), 16, 1, 1, out, sizeof(out)), ERR_INVALID);
    assert_int_equal(digest_scrypt(view("p"), view("s"), 10, 0, 1, out, sizeof(out)), ERR_INVALID);
    assert_int_equal(digest_scrypt(view("p"), view("s"), 10, 8, 0, out, sizeof(out)), ERR_INVALID);
    assert_int_equal(digest_scrypt(view("p"), view("s"), 10, 8, UINT32_MAX, out, sizeof(out)), ERR_INVALID);
    assert_int_equal(digest_scrypt(view("p"), view("s"), 10, 8, 1, out, 0), ERR_INVALID);
}

// What the client uses by default: 128 MiB must not run into a limit of OpenSSL's own.
static void
test_scrypt_may_use_much_memory(void **state)
{
    (void)state;
    uint8_t out[16];
    assert_int_equal(digest_scrypt(view("p"), view("s"), 17, 8, 1, out, sizeof(out)), ERR_OK);
}

static void
test_wipe(void **state)
{
    (void)state;
    uint8_t secret[4] = {1, 2, 3, 4};
    digest_wipe(secret, 3);
    assert_hex(secret, sizeof(secret), "00000004");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_digests),
        cmocka_unit_test(test_digest_of_much_data),
        cmocka_unit_test(test_running_digest_is_ready_again_after_final),
        cmocka_unit_test(test_hmac_vectors_of_rfc_4231),
        cmocka_unit_test(test_hmac_of_nothing_with_an_empty_key),
        cmocka_unit_test(test_hkdf_vectors_of_rfc_5869),
        cmocka_unit_test(test_the_halves_of_hkdf),
        cmocka_unit_test(test_hkdf_refuses_impossible_sizes),
        cmocka_unit_test(test_scrypt_vectors_of_rfc_7914),
        cmocka_unit_test(test_scrypt_refuses_impossible_parameters),
        cmocka_unit_test(test_scrypt_may_use_much_memory),
        cmocka_unit_test(test_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
