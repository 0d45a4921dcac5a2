#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crypto.h"

enum {
    MAX_BYTES = 256,
};

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

// RFC 8032, section 7.1: TEST 1, 2, 3 and SHA(abc).
static const struct {
    const char *private_key;
    const char *public_key;
    const char *message;
    const char *signature;
} signatures[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24"
        "655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
        "ee"
        "b00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
        "8d"
        "c027beceea1ec40a"},
    {"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce8"
        "0e"
        "2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac1"
        "7a"
        "d9bef1177331a704"},
};

static void
test_signature_vectors_of_rfc_8032(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        uint8_t private_key[MAX_BYTES];
        uint8_t message_buffer[MAX_BYTES];
        uint8_t public_key[CRYPTO_KEY_BYTES];
        uint8_t signature[CRYPTO_SIGNATURE_BYTES];
        (void)from_hex(signatures[i].private_key, private_key);
        struct bytes_view message = from_hex(signatures[i].message, message_buffer);
        assert_int_equal(crypto_sign_public(private_key, public_key), ERR_OK);
        assert_hex(bytes_view_of(public_key, sizeof(public_key)), signatures[i].public_key);
        assert_int_equal(crypto_sign(private_key, message, signature), ERR_OK);
        assert_hex(bytes_view_of(signature, sizeof(signature)), signatures[i].signature);
        assert_int_equal(crypto_verify(public_key, message, signature), ERR_OK);
        assert_int_equal(crypto_sign_check(public_key), ERR_OK);
    }
}

static void
test_a_signature_fails_when_any_bit_changes(void **state)
{
    (void)state;
    uint8_t private_key[CRYPTO_KEY_BYTES] = {7};
    uint8_t public_key[CRYPTO_KEY_BYTES];
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t message[] = "a message";
    struct bytes_view view = bytes_view_of(message, sizeof(message));
    assert_int_equal(crypto_sign_public(private_key, public_key), ERR_OK);
    assert_int_equal(crypto_sign(private_key, view, signature), ERR_OK);
    for (size_t bit = 0; bit < 8 * sizeof(signature); bit++) {
        signature[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(crypto_verify(public_key, view, signature), ERR_CORRUPT);
        signature[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof(message); bit++) {
        message[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(crypto_verify(public_key, view, signature), ERR_CORRUPT);
        message[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof(public_key); bit++) {
        public_key[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_not_equal(crypto_verify(public_key, view, signature), ERR_OK);
        public_key[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_int_equal(crypto_verify(public_key, bytes_view_of(message, sizeof(message) - 1), signature), ERR_CORRUPT);
    assert_int_equal(crypto_verify(public_key, view, signature), ERR_OK);
}

// Every encoding of a point of small order, the first eight canonical.
static const char *const small_order_points[] = {
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
};

// With A of order 1 and s = 0, R = the neutral element verifies for all messages wherever it is not refused.
static void
test_keys_of_small_order_verify_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(small_order_points) / sizeof(small_order_points[0]); i++) {
        uint8_t public_key[MAX_BYTES];
        (void)from_hex(small_order_points[i], public_key);
        uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {1};
        assert_int_equal(crypto_sign_check(public_key), ERR_CORRUPT);
        assert_int_equal(crypto_verify(public_key, bytes_view_of_text("any"), signature), ERR_CORRUPT);
    }
}

static void
test_keys_that_are_not_canonical_are_refused(void **state)
{
    (void)state;
    uint8_t public_key[CRYPTO_KEY_BYTES];
    memset(public_key, 0xff, sizeof(public_key));
    public_key[CRYPTO_KEY_BYTES - 1] = 0x7f;
    for (unsigned low = 0xed; low <= 0xff; low++) {
        public_key[0] = (uint8_t)low;
        assert_int_equal(crypto_sign_check(public_key), ERR_CORRUPT);
    }
    public_key[0] = 0xeb;
    assert_int_equal(crypto_sign_check(public_key), ERR_OK);
}

static void
test_agreement_vectors_of_rfc_7748(void **state)
{
    (void)state;
    static const char *const vectors[][3] = {
        {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
        {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t private_key[MAX_BYTES];
        uint8_t public_key[MAX_BYTES];
        uint8_t shared[CRYPTO_KEY_BYTES];
        (void)from_hex(vectors[i][0], private_key);
        (void)from_hex(vectors[i][1], public_key);
        assert_int_equal(crypto_box_agree(private_key, public_key, shared), ERR_OK);
        assert_hex(bytes_view_of(shared, sizeof(shared)), vectors[i][2]);
    }
}

// Section 5.2: k and u are the result before and the k before.
static void
test_iterated_agreement_of_rfc_7748(void **state)
{
    (void)state;
    uint8_t k[CRYPTO_KEY_BYTES] = {9};
    uint8_t u[CRYPTO_KEY_BYTES] = {9};
    uint8_t next[CRYPTO_KEY_BYTES];
    for (int i = 1; i <= 1000; i++) {
        assert_int_equal(crypto_box_agree(k, u, next), ERR_OK);
        memcpy(u, k, sizeof(u));
        memcpy(k, next, sizeof(k));
        if (i == 1) {
            assert_hex(bytes_view_of(k, sizeof(k)), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
        }
    }
    assert_hex(bytes_view_of(k, sizeof(k)), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

// Section 6.1.
static void
test_two_agree_as_in_rfc_7748(void **state)
{
    (void)state;
    uint8_t alice[MAX_BYTES];
    uint8_t bob[MAX_BYTES];
    uint8_t alice_public[CRYPTO_KEY_BYTES];
    uint8_t bob_public[CRYPTO_KEY_BYTES];
    uint8_t shared[CRYPTO_KEY_BYTES];
    (void)from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a", alice);
    (void)from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", bob);
    assert_int_equal(crypto_box_public(alice, alice_public), ERR_OK);
    assert_int_equal(crypto_box_public(bob, bob_public), ERR_OK);
    assert_hex(bytes_view_of(alice_public, 32), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert_hex(bytes_view_of(bob_public, 32), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    assert_int_equal(crypto_box_agree(alice, bob_public, shared), ERR_OK);
    assert_hex(bytes_view_of(shared, 32), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_int_equal(crypto_box_agree(bob, alice_public, shared), ERR_OK);
    assert_hex(bytes_view_of(shared, 32), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_int_equal(crypto_box_check(bob_public), ERR_OK);
}

static void
test_keys_that_lead_to_zero_are_refused(void **state)
{
    (void)state;
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        const uint8_t private_key[CRYPTO_KEY_BYTES] = {5, 6, 7};
        uint8_t public_key[MAX_BYTES];
        uint8_t shared[CRYPTO_KEY_BYTES] = {0xaa};
        (void)from_hex(points[i], public_key);
        assert_int_equal(crypto_box_agree(private_key, public_key, shared), ERR_CORRUPT);
        assert_int_equal(shared[0], 0xaa);
        assert_int_equal(crypto_box_check(public_key), ERR_CORRUPT);
    }
}

// NIST CAVP, gcmEncryptExtIV256.rsp, of each shape the first; and test case 16 of the GCM paper.
static const struct {
    const char *key;
    const char *nonce;
    const char *plain;
    const char *aad;
    const char *sealed;
} sealings[] = {
    {"b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4", "516c33929df5a3284ff463d7", "", "",
        "bdc1ac884d332457a1d2664f168c76f0"},
    {"78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223", "d79cf22d504cc793c3fb6c8a", "",
        "b96baa8c1c75a671bfb2d08d06be5f36", "3e5d486aa2e30b22e040b85723a06e76"},
    {"31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22", "0d18e06c7c725ac9e362e1ce",
        "2db5168e932556f8089a0622981d017d", "", "fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489"},
    {"83688deb4af8007f9b713b47cfa6c73e35ea7a3aa4ecdb414dded03bf7a0fd3a", "0b459724904e010a46901cf3",
        "33d893a2114ce06fc15d55e454cf90c3", "794a14ccd178c8ebfd1379dc704c5e208f9d8424",
        "cc66bee423e3fcd4c0865715e95866960fb291bd3dba94a1dfd8b286cfb97ac5"},
    {"463b412911767d57a0b33969e674ffe7845d313b88c6fe312f3d724be68e1fca", "611ce6f9a6880750de7da6cb",
        "e7d1dcf668e2876861940e012fe52a98dacbd78ab63c08842cc9801ea581682ad54af0c34d0d7f6f59e8ee0bf4900e0fd85042",
        "0a682fbc6192e1b47a5e0868787ffdafe5a50cead3575849990cdd2ea9b3597749403efb4a56684f0c6bde352d4aeec5",
        "8886e196010cb3849d9c1a182abe1eeab0a5f3ca423c3669a4a8703c0f146e8e956fb122e0d721b869d2b6fcd4216d7d4d37582469cecd"
        "70fd98fec9264f71df1aee9a"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de6"
        "57"
        "ba637b39",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a"
        "0a"
        "bcc9f66276fc6ece0f4e1768cddf8853bb2d551b"},
};

static void
test_sealing_vectors_of_nist(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sealings) / sizeof(sealings[0]); i++) {
        uint8_t key[MAX_BYTES];
        uint8_t nonce[MAX_BYTES];
        uint8_t plain_buffer[MAX_BYTES];
        uint8_t aad_buffer[MAX_BYTES];
        struct bytes sealed = {0};
        struct bytes opened = {0};
        (void)from_hex(sealings[i].key, key);
        (void)from_hex(sealings[i].nonce, nonce);
        struct bytes_view plain = from_hex(sealings[i].plain, plain_buffer);
        struct bytes_view aad = from_hex(sealings[i].aad, aad_buffer);
        assert_int_equal(crypto_seal(key, nonce, aad, plain, &sealed), ERR_OK);
        assert_hex(bytes_as_view(&sealed), sealings[i].sealed);
        assert_int_equal(crypto_open(key, nonce, aad, bytes_as_view(&sealed), &opened), ERR_OK);
        assert_true(bytes_view_equal(bytes_as_view(&opened), plain));
        bytes_free(&opened);
        bytes_free(&sealed);
    }
}

static void
assert_does_not_open(const uint8_t *key, const uint8_t *nonce, struct bytes_view aad, struct bytes_view sealed)
{
    struct bytes opened = {0};
    assert_int_equal(bytes_append(&opened, bytes_view_of_text("kept")), ERR_OK);
    assert_int_equal(crypto_open(key, nonce, aad, sealed, &opened), ERR_CORRUPT);
    assert_true(bytes_view_equal(bytes_as_view(&opened), bytes_view_of_text("kept")));
    bytes_free(&opened);
}

static void
test_what_was_changed_or_cut_does_not_open(void **state)
{
    (void)state;
    uint8_t key[CRYPTO_KEY_BYTES] = {1};
    uint8_t nonce[CRYPTO_NONCE_BYTES] = {2};
    struct bytes_view aad = bytes_view_of_text("aad");
    struct bytes sealed = {0};
    assert_int_equal(crypto_seal(key, nonce, aad, bytes_view_of_text("a secret"), &sealed), ERR_OK);
    for (size_t i = 0; i < sealed.size; i++) {
        sealed.data[i] ^= 0x10;
        assert_does_not_open(key, nonce, aad, bytes_as_view(&sealed));
        sealed.data[i] ^= 0x10;
        assert_does_not_open(key, nonce, aad, bytes_view_of(sealed.data, i));
    }
    assert_does_not_open(key, nonce, bytes_view_of_text("aaD"), bytes_as_view(&sealed));
    assert_does_not_open(key, nonce, bytes_view_of(NULL, 0), bytes_as_view(&sealed));
    key[31] ^= 1;
    assert_does_not_open(key, nonce, aad, bytes_as_view(&sealed));
    key[31] ^= 1;
    nonce[11] ^= 1;
    assert_does_not_open(key, nonce, aad, bytes_as_view(&sealed));
    bytes_free(&sealed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signature_vectors_of_rfc_8032),
        cmocka_unit_test(test_a_signature_fails_when_any_bit_changes),
        cmocka_unit_test(test_keys_of_small_order_verify_nothing),
        cmocka_unit_test(test_keys_that_are_not_canonical_are_refused),
        cmocka_unit_test(test_agreement_vectors_of_rfc_7748),
        cmocka_unit_test(test_iterated_agreement_of_rfc_7748),
        cmocka_unit_test(test_two_agree_as_in_rfc_7748),
        cmocka_unit_test(test_keys_that_lead_to_zero_are_refused),
        cmocka_unit_test(test_sealing_vectors_of_nist),
        cmocka_unit_test(test_what_was_changed_or_cut_does_not_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
