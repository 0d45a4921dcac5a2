#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "e2e/e2e_message_priv.h"

static uint8_t room_id[E2E_ID_BYTES] = {'r', 'o', 'o', 'm'};
static uint8_t device_id[E2E_ID_BYTES] = {'d', 'e', 'v'};
static const uint8_t secret[E2E_SECRET_BYTES] = {0x11};
static const uint8_t next_secret[E2E_SECRET_BYTES] = {0x22};
static uint8_t prev_hash[E2E_HASH_BYTES] = {0x33};

static void
test_commitments_name_secret_room_and_epoch(void **state)
{
    (void)state;
    uint8_t one[E2E_COMMITMENT_BYTES];
    uint8_t other[E2E_COMMITMENT_BYTES];
    assert_int_equal(e2e_epoch_commitment(secret, room_id, 1, one), ERR_OK);
    assert_int_equal(e2e_epoch_commitment(secret, room_id, 1, other), ERR_OK);
    assert_memory_equal(one, other, sizeof(one));
    assert_int_equal(e2e_epoch_commitment(secret, room_id, 2, other), ERR_OK);
    assert_memory_not_equal(one, other, sizeof(one));
    assert_int_equal(e2e_epoch_commitment(next_secret, room_id, 1, other), ERR_OK);
    assert_memory_not_equal(one, other, sizeof(one));
    assert_int_equal(e2e_epoch_commitment(secret, device_id, 1, other), ERR_OK);
    assert_memory_not_equal(one, other, sizeof(one));
}

struct wrap {
    struct e2e_keys keys;
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    uint8_t ciphertext[E2E_WRAP_CIPHERTEXT_BYTES];
};

static enum err
unwrap(const struct wrap *wrap, const uint8_t room[E2E_ID_BYTES], uint64_t epoch, struct bytes_view hash,
    const uint8_t device[E2E_ID_BYTES])
{
    uint8_t out[E2E_SECRET_BYTES] = {0};
    enum err err = e2e_epoch_unwrap(wrap->keys.box_private, room, epoch, hash, device,
        bytes_view_of(wrap->enc, sizeof(wrap->enc)), bytes_view_of(wrap->ciphertext, sizeof(wrap->ciphertext)), out);
    assert_true(memcmp(out, secret, sizeof(out)) == 0 ? err == ERR_OK : err != ERR_OK);
    return err;
}

static void
test_a_wrap_opens_in_its_place_only(void **state)
{
    (void)state;
    struct wrap wrap;
    struct bytes_view hash = bytes_view_of(prev_hash, sizeof(prev_hash));
    struct bytes_view none = bytes_view_of(NULL, 0);
    assert_int_equal(e2e_keys_generate(&wrap.keys), ERR_OK);
    assert_int_equal(
        e2e_epoch_wrap(secret, room_id, 7, hash, device_id, wrap.keys.box_public, wrap.enc, wrap.ciphertext), ERR_OK);
    assert_int_equal(unwrap(&wrap, room_id, 7, hash, device_id), ERR_OK);
    assert_int_equal(unwrap(&wrap, device_id, 7, hash, device_id), ERR_CORRUPT);
    assert_int_equal(unwrap(&wrap, room_id, 8, hash, device_id), ERR_CORRUPT);
    assert_int_equal(unwrap(&wrap, room_id, 7, none, device_id), ERR_CORRUPT);
    assert_int_equal(unwrap(&wrap, room_id, 7, hash, room_id), ERR_CORRUPT);
    assert_int_equal(unwrap(&wrap, room_id, 7, bytes_view_of(prev_hash, 31), device_id), ERR_INVALID);
    for (size_t i = 0; i < sizeof(wrap.ciphertext); i++) {
        wrap.ciphertext[i] ^= 1;
        assert_int_equal(unwrap(&wrap, room_id, 7, hash, device_id), ERR_CORRUPT);
        wrap.ciphertext[i] ^= 1;
    }
    for (size_t i = 0; i < sizeof(wrap.enc); i++) {
        wrap.enc[i] ^= 1;
        assert_int_equal(unwrap(&wrap, room_id, 7, hash, device_id), ERR_CORRUPT);
        wrap.enc[i] ^= 1;
    }
    wrap.keys.box_private[9] ^= 1;
    assert_int_equal(unwrap(&wrap, room_id, 7, hash, device_id), ERR_CORRUPT);
}

static void
test_a_first_wrap_has_no_hash_before_it(void **state)
{
    (void)state;
    struct wrap wrap;
    struct bytes_view none = bytes_view_of(NULL, 0);
    uint8_t out[E2E_SECRET_BYTES];
    assert_int_equal(e2e_keys_generate(&wrap.keys), ERR_OK);
    assert_int_equal(
        e2e_epoch_wrap(secret, room_id, 1, none, device_id, wrap.keys.box_public, wrap.enc, wrap.ciphertext), ERR_OK);
    assert_int_equal(unwrap(&wrap, room_id, 1, none, device_id), ERR_OK);
    assert_int_equal(e2e_epoch_unwrap(wrap.keys.box_private, room_id, 1, none, device_id, bytes_view_of(wrap.enc, 31),
                         bytes_view_of(wrap.ciphertext, sizeof(wrap.ciphertext)), out),
        ERR_CORRUPT);
    assert_int_equal(e2e_epoch_unwrap(wrap.keys.box_private, room_id, 1, none, device_id, bytes_view_of(wrap.enc, 32),
                         bytes_view_of(wrap.ciphertext, 47), out),
        ERR_CORRUPT);
    assert_int_equal(e2e_epoch_wrap(secret, room_id, 1, bytes_view_of(prev_hash, 5), device_id, wrap.keys.box_public,
                         wrap.enc, wrap.ciphertext),
        ERR_INVALID);
}

static void
test_a_wrap_for_a_key_of_small_order_fails(void **state)
{
    (void)state;
    const uint8_t zeros[CRYPTO_KEY_BYTES] = {0};
    struct wrap wrap;
    assert_int_equal(
        e2e_epoch_wrap(secret, room_id, 1, bytes_view_of(NULL, 0), device_id, zeros, wrap.enc, wrap.ciphertext),
        ERR_CORRUPT);
}

static void
test_the_ladder_leads_back(void **state)
{
    (void)state;
    uint8_t out[E2E_SECRET_BYTES] = {0};
    struct bytes sealed = {0};
    assert_int_equal(e2e_epoch_seal_previous(next_secret, room_id, 4, secret, &sealed), ERR_OK);
    assert_int_equal(sealed.size, E2E_SEAL_OVERHEAD_BYTES + E2E_SECRET_BYTES);
    assert_int_equal(e2e_epoch_open_previous(next_secret, room_id, 5, bytes_as_view(&sealed), out), ERR_CORRUPT);
    assert_int_equal(e2e_epoch_open_previous(next_secret, device_id, 4, bytes_as_view(&sealed), out), ERR_CORRUPT);
    assert_int_equal(e2e_epoch_open_previous(secret, room_id, 4, bytes_as_view(&sealed), out), ERR_CORRUPT);
    for (size_t i = 0; i < sealed.size; i++) {
        assert_int_equal(e2e_epoch_open_previous(next_secret, room_id, 4, bytes_view_of(sealed.data, i), out),
            ERR_CORRUPT);
        sealed.data[i] ^= 4;
        assert_int_equal(e2e_epoch_open_previous(next_secret, room_id, 4, bytes_as_view(&sealed), out), ERR_CORRUPT);
        sealed.data[i] ^= 4;
    }
    assert_int_equal(e2e_epoch_open_previous(next_secret, room_id, 4, bytes_as_view(&sealed), out), ERR_OK);
    assert_memory_equal(out, secret, sizeof(out));
    bytes_free(&sealed);
}

// Well sealed, but not a secret.
static void
test_a_rung_of_another_size_is_refused(void **state)
{
    (void)state;
    uint8_t place[E2E_ID_BYTES + 8] = {0};
    uint8_t out[E2E_SECRET_BYTES];
    struct bytes sealed = {0};
    memcpy(place, room_id, E2E_ID_BYTES);
    place[sizeof(place) - 1] = 4;
    assert_int_equal(e2e_seal(next_secret, E2E_LABEL_LADDER, bytes_view_of(place, sizeof(place)),
                         bytes_view_of(secret, 31), &sealed),
        ERR_OK);
    assert_int_equal(e2e_epoch_open_previous(next_secret, room_id, 4, bytes_as_view(&sealed), out), ERR_CORRUPT);
    bytes_free(&sealed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commitments_name_secret_room_and_epoch),
        cmocka_unit_test(test_a_wrap_opens_in_its_place_only),
        cmocka_unit_test(test_a_first_wrap_has_no_hash_before_it),
        cmocka_unit_test(test_a_wrap_for_a_key_of_small_order_fails),
        cmocka_unit_test(test_the_ladder_leads_back),
        cmocka_unit_test(test_a_rung_of_another_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
