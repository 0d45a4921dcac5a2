#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_message.h"

static void
test_derived_keys_depend_on_secret_and_label(void **state)
{
    (void)state;
    const uint8_t secret[E2E_RECOVERY_KEY_BYTES] = {1};
    struct bytes_view view = bytes_view_of(secret, sizeof(secret));
    struct e2e_keys keys;
    struct e2e_keys same;
    struct e2e_keys other;
    uint8_t public_key[CRYPTO_KEY_BYTES];
    uint8_t hash[DIGEST_SHA256_BYTES];
    assert_int_equal(e2e_keys_derive(view, E2E_LABEL_RECOVERY_DEVICE, &keys), ERR_OK);
    assert_int_equal(e2e_keys_derive(view, E2E_LABEL_RECOVERY_DEVICE, &same), ERR_OK);
    assert_memory_equal(&keys, &same, sizeof(keys));
    assert_int_equal(e2e_keys_derive(view, E2E_LABEL_LINK_KEYS, &other), ERR_OK);
    assert_memory_not_equal(keys.sign_private, other.sign_private, CRYPTO_KEY_BYTES);
    assert_memory_not_equal(keys.id, other.id, E2E_ID_BYTES);
    assert_int_equal(e2e_keys_derive(bytes_view_of(secret, 19), E2E_LABEL_RECOVERY_DEVICE, &other), ERR_OK);
    assert_memory_not_equal(keys.sign_private, other.sign_private, CRYPTO_KEY_BYTES);

    assert_memory_not_equal(keys.sign_private, keys.box_private, CRYPTO_KEY_BYTES);
    assert_int_equal(crypto_sign_public(keys.sign_private, public_key), ERR_OK);
    assert_memory_equal(keys.sign_public, public_key, CRYPTO_KEY_BYTES);
    assert_int_equal(crypto_box_public(keys.box_private, public_key), ERR_OK);
    assert_memory_equal(keys.box_public, public_key, CRYPTO_KEY_BYTES);
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(keys.sign_public, CRYPTO_KEY_BYTES), hash), ERR_OK);
    assert_memory_equal(keys.id, hash, E2E_ID_BYTES);
}

static void
test_generated_keys_are_new(void **state)
{
    (void)state;
    struct e2e_keys one;
    struct e2e_keys other;
    uint8_t public_key[CRYPTO_KEY_BYTES];
    assert_int_equal(e2e_keys_generate(&one), ERR_OK);
    assert_int_equal(e2e_keys_generate(&other), ERR_OK);
    assert_memory_not_equal(one.id, other.id, E2E_ID_BYTES);
    assert_memory_not_equal(one.sign_private, other.sign_private, CRYPTO_KEY_BYTES);
    assert_memory_not_equal(one.box_private, other.box_private, CRYPTO_KEY_BYTES);
    assert_int_equal(crypto_box_public(one.box_private, public_key), ERR_OK);
    assert_memory_equal(one.box_public, public_key, CRYPTO_KEY_BYTES);
}

static void
test_a_recovery_key_can_be_written_down(void **state)
{
    (void)state;
    uint8_t key[E2E_RECOVERY_KEY_BYTES];
    uint8_t read[E2E_RECOVERY_KEY_BYTES];
    char text[E2E_RECOVERY_TEXT_BYTES];
    for (int round = 0; round < 100; round++) {
        random_bytes(key, sizeof(key));
        assert_int_equal(e2e_recovery_format(key, text), ERR_OK);
        assert_int_equal(strlen(text), E2E_RECOVERY_TEXT_BYTES - 1);
        assert_int_equal(strspn(text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ-"), strlen(text));
        assert_int_equal(e2e_recovery_parse(text, read, NULL), ERR_OK);
        assert_memory_equal(read, key, sizeof(key));
    }
}

static void
test_known_recovery_texts(void **state)
{
    (void)state;
    uint8_t key[E2E_RECOVERY_KEY_BYTES] = {0};
    uint8_t hash[DIGEST_SHA256_BYTES];
    char text[E2E_RECOVERY_TEXT_BYTES];
    assert_int_equal(e2e_recovery_format(key, text), ERR_OK);
    // SHA-256 of 20 zero bytes begins with de47c = 11011 11001 00011 11100.
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(key, sizeof(key)), hash), ERR_OK);
    assert_memory_equal(hash, "\xde\x47\xc9", 3);
    assert_string_equal(text, "0000-0000-0000-0000-0000-0000-0000-0000-VS3W");
    key[0] = 0x08; // 00001 000..
    key[19] = 0x1f;
    assert_int_equal(e2e_recovery_format(key, text), ERR_OK);
    assert_memory_equal(text, "1000-0000-0000-0000-0000-0000-0000-000Z-", 40);
}

static void
test_recovery_keys_are_read_as_people_write_them(void **state)
{
    (void)state;
    const uint8_t zeros[E2E_RECOVERY_KEY_BYTES] = {0};
    uint8_t key[E2E_RECOVERY_KEY_BYTES];
    static const char *const texts[] = {
        "0000-0000-0000-0000-0000-0000-0000-0000-VS3W",
        "00000000000000000000000000000000VS3W",
        "oooo oooo oooo oooo 0000 OOOO 0000 0000 vs3w\n",
        " 0000-00000000 0000----0000-0000-0000-0000-\tvS3w ",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        memset(key, 0xff, sizeof(key));
        assert_int_equal(e2e_recovery_parse(texts[i], key, NULL), ERR_OK);
        assert_memory_equal(key, zeros, sizeof(key));
    }
    // i and l for 1
    uint8_t ones[E2E_RECOVERY_KEY_BYTES];
    char text[E2E_RECOVERY_TEXT_BYTES];
    assert_int_equal(bytes_from_hex("0842108421084210842108421084210842108421", ones, sizeof(ones)), ERR_OK);
    assert_int_equal(e2e_recovery_format(ones, text), ERR_OK);
    assert_memory_equal(text, "1111-1111", 9);
    text[0] = 'i';
    text[1] = 'L';
    text[2] = 'l';
    text[3] = 'I';
    assert_int_equal(e2e_recovery_parse(text, key, NULL), ERR_OK);
    assert_memory_equal(key, ones, sizeof(key));
}

static void
test_mistyped_recovery_keys_are_refused(void **state)
{
    (void)state;
    uint8_t key[E2E_RECOVERY_KEY_BYTES];
    uint8_t read[E2E_RECOVERY_KEY_BYTES];
    char text[E2E_RECOVERY_TEXT_BYTES + 1];
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] = (uint8_t)(i * 13);
    }
    assert_int_equal(e2e_recovery_format(key, text), ERR_OK);
    // One wrong character of each kind in every place: never taken, but by a chance of one in a million each.
    for (size_t i = 0; text[i] != '\0'; i++) {
        char right = text[i];
        for (const char *wrong = "0123456789ABCDEFGHJKMNPQRSTVWXYZU*."; *wrong != '\0'; wrong++) {
            struct err_detail why = {0};
            if (*wrong == right) {
                continue;
            }
            text[i] = *wrong;
            assert_int_equal(e2e_recovery_parse(text, read, &why), ERR_INVALID);
            assert_true(why.message[0] != '\0');
        }
        text[i] = right;
        // Cut here, and without this character.
        char cut[E2E_RECOVERY_TEXT_BYTES];
        (void)snprintf(cut, sizeof(cut), "%.*s", (int)i, text);
        assert_int_equal(e2e_recovery_parse(cut, read, NULL), ERR_INVALID);
    }
    (void)snprintf(text + strlen(text), 2, "0");
    assert_int_equal(e2e_recovery_parse(text, read, NULL), ERR_INVALID);
    assert_int_equal(e2e_recovery_parse("", read, NULL), ERR_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derived_keys_depend_on_secret_and_label),
        cmocka_unit_test(test_generated_keys_are_new),
        cmocka_unit_test(test_a_recovery_key_can_be_written_down),
        cmocka_unit_test(test_known_recovery_texts),
        cmocka_unit_test(test_recovery_keys_are_read_as_people_write_them),
        cmocka_unit_test(test_mistyped_recovery_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
