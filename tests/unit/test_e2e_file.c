#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "e2e/e2e_message_priv.h"

enum {
    SEGMENT_BYTES = 16,
};

static uint8_t file_bytes[4 * SEGMENT_BYTES];

static struct bytes_view
plain_segment(const struct e2e_file_key *key, uint64_t index)
{
    size_t offset = (size_t)index * SEGMENT_BYTES;
    size_t rest = (size_t)key->plain_size_bytes - offset;
    return bytes_view_of(file_bytes + offset, rest < SEGMENT_BYTES ? rest : SEGMENT_BYTES);
}

static void
make_key(uint64_t plain_size_bytes, struct e2e_file_key *key)
{
    struct e2e_file_secret secret;
    for (size_t i = 0; i < sizeof(file_bytes); i++) {
        file_bytes[i] = (uint8_t)i;
    }
    assert_int_equal(e2e_file_key_generate(SEGMENT_BYTES, plain_size_bytes, &secret, key), ERR_OK);
}

static void
test_files_of_all_sizes_arrive(void **state)
{
    (void)state;
    for (size_t size = 0; size <= sizeof(file_bytes); size++) {
        struct e2e_file_key key;
        uint64_t sealed_size = 0;
        make_key(size, &key);
        uint64_t count = e2e_file_segment_count(&key);
        assert_int_equal(count, size / SEGMENT_BYTES + 1);
        for (uint64_t i = count; i-- > 0;) { // in any order
            struct bytes sealed = {0};
            struct bytes opened = {0};
            assert_int_equal(e2e_file_seal_segment(&key, i, plain_segment(&key, i), &sealed), ERR_OK);
            assert_int_equal(e2e_file_open_segment(&key, i, bytes_as_view(&sealed), &opened), ERR_OK);
            assert_true(bytes_view_equal(bytes_as_view(&opened), plain_segment(&key, i)));
            sealed_size += sealed.size;
            bytes_free(&opened);
            bytes_free(&sealed);
        }
        assert_int_equal(sealed_size, e2e_file_sealed_size(&key));
    }
}

static void
assert_does_not_open(const struct e2e_file_key *key, uint64_t index, struct bytes_view sealed)
{
    struct bytes opened = {0};
    assert_int_equal(e2e_file_open_segment(key, index, sealed, &opened), ERR_CORRUPT);
    assert_int_equal(opened.size, 0);
    bytes_free(&opened);
}

static void
test_segments_changed_swapped_or_cut_do_not_open(void **state)
{
    (void)state;
    struct e2e_file_key key;
    struct e2e_file_key other_key;
    struct bytes segments[3] = {{0}};
    make_key(2 * SEGMENT_BYTES + 5, &key);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(e2e_file_seal_segment(&key, i, plain_segment(&key, i), &segments[i]), ERR_OK);
    }
    assert_does_not_open(&key, 0, bytes_as_view(&segments[1]));
    assert_does_not_open(&key, 1, bytes_as_view(&segments[0]));
    assert_does_not_open(&key, 1, bytes_as_view(&segments[2]));
    assert_does_not_open(&key, 2, bytes_as_view(&segments[0]));
    for (size_t i = 0; i < segments[2].size; i++) {
        assert_does_not_open(&key, 2, bytes_view_of(segments[2].data, i));
        segments[2].data[i] ^= 0x20;
        assert_does_not_open(&key, 2, bytes_as_view(&segments[2]));
        segments[2].data[i] ^= 0x20;
    }
    // The file was cut after two whole segments, and the size with it.
    key.plain_size_bytes = 2 * SEGMENT_BYTES;
    assert_int_equal(e2e_file_segment_count(&key), 3);
    assert_does_not_open(&key, 2, bytes_view_of(segments[2].data, CRYPTO_TAG_BYTES));
    // Or in the middle of one.
    key.plain_size_bytes = SEGMENT_BYTES + 3;
    assert_does_not_open(&key, 1, bytes_view_of(segments[1].data, 3 + CRYPTO_TAG_BYTES));
    make_key(2 * SEGMENT_BYTES + 5, &other_key);
    assert_does_not_open(&other_key, 0, bytes_as_view(&segments[0]));
    for (size_t i = 0; i < 3; i++) {
        bytes_free(&segments[i]);
    }
}

static void
test_segments_that_are_none_are_refused(void **state)
{
    (void)state;
    struct e2e_file_key key;
    struct bytes out = {0};
    make_key(SEGMENT_BYTES + 5, &key);
    assert_int_equal(e2e_file_seal_segment(&key, 0, bytes_view_of(file_bytes, SEGMENT_BYTES - 1), &out), ERR_INVALID);
    assert_int_equal(e2e_file_seal_segment(&key, 1, bytes_view_of(file_bytes, SEGMENT_BYTES), &out), ERR_INVALID);
    assert_int_equal(e2e_file_seal_segment(&key, 2, bytes_view_of(NULL, 0), &out), ERR_INVALID);
    assert_int_equal(e2e_file_open_segment(&key, 2, bytes_view_of(file_bytes, CRYPTO_TAG_BYTES), &out), ERR_INVALID);
    assert_int_equal(e2e_file_open_segment(&key, UINT64_MAX, bytes_view_of(file_bytes, 16), &out), ERR_INVALID);
    assert_int_equal(out.size, 0);
}

// The number of a segment goes into the last 8 bytes of the nonce.
static void
test_nonces_are_base_xor_number(void **state)
{
    (void)state;
    struct e2e_file_key key;
    struct bytes sealed = {0};
    struct bytes expected = {0};
    uint8_t nonce[CRYPTO_NONCE_BYTES];
    make_key((uint64_t)SEGMENT_BYTES << 33, &key);
    uint64_t index = ((uint64_t)1 << 32) + 0x0203;
    memcpy(nonce, key.base_nonce, sizeof(nonce));
    nonce[7] ^= 1;
    nonce[10] ^= 2;
    nonce[11] ^= 3;
    assert_int_equal(e2e_file_seal_segment(&key, index, bytes_view_of(file_bytes, SEGMENT_BYTES), &sealed), ERR_OK);
    assert_int_equal(
        crypto_seal(key.key, nonce, bytes_view_of(NULL, 0), bytes_view_of(file_bytes, SEGMENT_BYTES), &expected),
        ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&sealed), bytes_as_view(&expected)));
    bytes_free(&expected);
    bytes_free(&sealed);
}

static Fc__E2e__V1__FileKey
wire_of(struct e2e_file_secret *secret, const struct e2e_file_key *key)
{
    Fc__E2e__V1__FileKey wire = FC__E2E__V1__FILE_KEY__INIT;
    wire.secret = (ProtobufCBinaryData){.data = secret->secret, .len = E2E_SECRET_BYTES};
    wire.salt = (ProtobufCBinaryData){.data = secret->salt, .len = E2E_SALT_BYTES};
    wire.commitment = (ProtobufCBinaryData){.data = secret->commitment, .len = E2E_COMMITMENT_BYTES};
    wire.seal_id = (ProtobufCBinaryData){.data = secret->seal_id, .len = E2E_ID_BYTES};
    wire.segment_plain_bytes = key->segment_plain_bytes;
    wire.plain_size_bytes = key->plain_size_bytes;
    return wire;
}

static void
test_a_file_key_says_which_key_it_is(void **state)
{
    (void)state;
    struct e2e_file_secret secret;
    struct e2e_file_key key;
    struct e2e_file_key opened = {.segment_plain_bytes = 1};
    assert_int_equal(e2e_file_key_generate(1024, 5000, &secret, &key), ERR_OK);
    Fc__E2e__V1__FileKey wire = wire_of(&secret, &key);
    assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_OK);
    assert_memory_equal(opened.key, key.key, sizeof(key.key));
    assert_memory_equal(opened.base_nonce, key.base_nonce, sizeof(key.base_nonce));
    assert_int_equal(opened.segment_plain_bytes, 1024);
    assert_int_equal(opened.plain_size_bytes, 5000);

    uint8_t *const arrays[] = {secret.secret, secret.salt, secret.commitment, secret.seal_id};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        arrays[i][3] ^= 1;
        assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_CORRUPT);
        arrays[i][3] ^= 1;
    }
    wire.segment_plain_bytes = 1025;
    assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_CORRUPT);
    wire.segment_plain_bytes = 1024;
    assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_OK);
}

static void
test_file_keys_that_are_none_are_refused(void **state)
{
    (void)state;
    struct e2e_file_secret secret;
    struct e2e_file_key key;
    struct e2e_file_key opened;
    assert_int_equal(e2e_file_key_generate(0, 5000, &secret, &key), ERR_INVALID);
    assert_int_equal(e2e_file_key_generate(E2E_FILE_SEGMENT_MAX_BYTES + 1, 5000, &secret, &key), ERR_INVALID);
    assert_int_equal(e2e_file_key_generate(1, ((uint64_t)1 << 48) + 1, &secret, &key), ERR_INVALID);
    assert_int_equal(e2e_file_key_generate(1024, 5000, &secret, &key), ERR_OK);
    Fc__E2e__V1__FileKey wire = wire_of(&secret, &key);
    ProtobufCBinaryData *const fields[] = {&wire.secret, &wire.salt, &wire.commitment, &wire.seal_id};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        fields[i]->len--;
        assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_INVALID);
        fields[i]->len++;
    }
    wire.segment_plain_bytes = 0;
    assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_INVALID);
    wire.segment_plain_bytes = UINT32_MAX;
    assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_INVALID);
    wire.segment_plain_bytes = 1024;
    wire.plain_size_bytes = UINT64_MAX;
    assert_int_equal(e2e_file_key_open(&wire, &opened), ERR_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_all_sizes_arrive),
        cmocka_unit_test(test_segments_changed_swapped_or_cut_do_not_open),
        cmocka_unit_test(test_segments_that_are_none_are_refused),
        cmocka_unit_test(test_nonces_are_base_xor_number),
        cmocka_unit_test(test_a_file_key_says_which_key_it_is),
        cmocka_unit_test(test_file_keys_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
