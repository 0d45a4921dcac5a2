// The digests of a whole and its parts, against OpenSSL's: all sizes around the borders of blocks, hints right and
// wrong, with everything that this processor can run.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/md5.h"
#include "base/sha256.h"

enum {
    PART_BYTES = 64 * 1024,
    PARTS = 3,
    VARIANTS = 3,
};

static uint8_t data[PARTS * PART_BYTES];

static int
make_data(void **state)
{
    (void)state;
    uint32_t value = 1;
    for (size_t i = 0; i < sizeof(data); i++) {
        value = value * 1664525 + 1013904223;
        data[i] = (uint8_t)(value >> 24);
    }
    return 0;
}

static void
assert_digest(enum digest_kind kind, size_t at, size_t size, const uint8_t *actual)
{
    uint8_t expected[DIGEST_SHA256_BYTES];
    assert_int_equal(digest_of(kind, bytes_view_of(data + at, size), expected), ERR_OK);
    assert_memory_equal(actual, expected, kind == DIGEST_MD5 ? DIGEST_MD5_BYTES : DIGEST_SHA256_BYTES);
}

// A whole of one part of each size, and one of two parts.
static void
test_sizes_around_block_borders(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 5 * MD5_BLOCK_BYTES; size++) {
        struct md5_chain md5;
        struct sha256_chain *sha256 = NULL;
        uint8_t out[DIGEST_SHA256_BYTES];
        md5_chain_begin(&md5);
        assert_int_equal(sha256_chain_new(&sha256), ERR_OK);
        for (size_t part = 0; part < 2; part++) {
            size_t at = part * 2 * MD5_BLOCK_BYTES;
            size_t part_size = part == 0 ? 2 * (size_t)MD5_BLOCK_BYTES : size;
            assert_int_equal(md5_chain_add(&md5, bytes_view_of(data + at, part_size), out, NULL), ERR_OK);
            assert_digest(DIGEST_MD5, at, part_size, out);
            assert_int_equal(sha256_chain_add(sha256, bytes_view_of(data + at, part_size), out), ERR_OK);
            assert_digest(DIGEST_SHA256, at, part_size, out);
        }
        md5_chain_final(&md5, out);
        assert_digest(DIGEST_MD5, 0, 2 * MD5_BLOCK_BYTES + size, out);
        assert_int_equal(sha256_chain_final(sha256, out), ERR_OK);
        assert_digest(DIGEST_SHA256, 0, 2 * MD5_BLOCK_BYTES + size, out);
        sha256_chain_free(&sha256);
    }
}

static void
test_nothing_at_all(void **state)
{
    (void)state;
    struct md5_chain md5;
    struct sha256_chain *sha256 = NULL;
    uint8_t out[DIGEST_SHA256_BYTES];
    md5_chain_begin(&md5);
    md5_chain_final(&md5, out);
    assert_digest(DIGEST_MD5, 0, 0, out);
    assert_int_equal(md5_chain_add(&md5, bytes_view_of(NULL, 0), out, NULL), ERR_OK);
    assert_digest(DIGEST_MD5, 0, 0, out);
    assert_int_equal(sha256_chain_new(&sha256), ERR_OK);
    assert_int_equal(sha256_chain_final(sha256, out), ERR_OK);
    assert_digest(DIGEST_SHA256, 0, 0, out);
    sha256_chain_free(&sha256);
}

static void
test_nothing_follows_a_part_that_is_cut(void **state)
{
    (void)state;
    struct md5_chain md5;
    struct sha256_chain *sha256 = NULL;
    uint8_t out[DIGEST_SHA256_BYTES];
    md5_chain_begin(&md5);
    assert_int_equal(sha256_chain_new(&sha256), ERR_OK);
    assert_int_equal(md5_chain_add(&md5, bytes_view_of(data, 65), out, NULL), ERR_OK);
    assert_int_equal(md5_chain_add(&md5, bytes_view_of(data + 65, 64), out, NULL), ERR_INVALID);
    assert_int_equal(sha256_chain_add(sha256, bytes_view_of(data, 65), out), ERR_OK);
    assert_int_equal(sha256_chain_add(sha256, bytes_view_of(data + 65, 64), out), ERR_INVALID);
    md5_chain_final(&md5, out);
    assert_digest(DIGEST_MD5, 0, 65, out);
    sha256_chain_free(&sha256);
}

// The sender adds, the receiver checks with the sender's hints.
static void
check_whole(void)
{
    struct md5_chain sender, receiver;
    uint8_t hints[MD5_HINTS_BYTES];
    uint8_t out[DIGEST_MD5_BYTES];
    md5_chain_begin(&sender);
    md5_chain_begin(&receiver);
    for (size_t i = 0; i < PARTS; i++) {
        struct bytes_view part = bytes_view_of(data + i * PART_BYTES, PART_BYTES);
        assert_int_equal(md5_chain_add(&sender, part, out, hints), ERR_OK);
        assert_digest(DIGEST_MD5, i * PART_BYTES, PART_BYTES, out);
        memset(out, 0, sizeof(out));
        assert_true(md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints)), out));
        assert_digest(DIGEST_MD5, i * PART_BYTES, PART_BYTES, out);
    }
    md5_chain_final(&receiver, out);
    assert_digest(DIGEST_MD5, 0, PARTS * PART_BYTES, out);
}

static void
test_hints_with_every_instruction_set(void **state)
{
    (void)state;
    unsigned used = 0;
    for (unsigned variant = 0; variant < VARIANTS; variant++) {
        if (md5_use_variant(variant)) {
            check_whole();
            used++;
        }
    }
    assert_true(used > 0);
    assert_false(md5_use_variant(VARIANTS));
}

// Whatever is wrong, nothing has happened, and the right ones are taken afterwards.
static void
test_wrong_hints_are_refused(void **state)
{
    (void)state;
    struct md5_chain sender, receiver;
    struct bytes_view part = bytes_view_of(data, PART_BYTES);
    uint8_t hints[MD5_HINTS_BYTES];
    uint8_t out[DIGEST_MD5_BYTES];
    md5_chain_begin(&sender);
    md5_chain_begin(&receiver);
    assert_int_equal(md5_chain_add(&sender, part, out, hints), ERR_OK);
    for (size_t at = 0; at < sizeof(hints); at += 5) {
        hints[at] ^= 1;
        assert_false(md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints)), out));
        hints[at] ^= 1;
    }
    for (size_t at = 0; at < PART_BYTES; at += 4099) {
        data[at] ^= 0x80;
        bool is_last_piece = at >= PART_BYTES / MD5_PIECES * (MD5_PIECES - 1);
        bool is_taken = md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints)), out);
        assert_int_equal(is_taken, is_last_piece); // then the digests tell
        if (is_taken) {
            assert_digest(DIGEST_MD5, 0, PART_BYTES, out);
            md5_chain_begin(&receiver);
        }
        data[at] ^= 0x80;
    }
    assert_false(md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints) - 1), out));
    assert_false(md5_chain_check(&receiver, part, bytes_view_of(NULL, 0), out));
    part.size -= MD5_BLOCK_BYTES;
    assert_false(md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints)), out));
    part.size += MD5_BLOCK_BYTES;
    assert_true(md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints)), out));
    // The same hints are wrong at another place.
    assert_false(md5_chain_check(&receiver, part, bytes_view_of(hints, sizeof(hints)), out));
    md5_chain_final(&receiver, out);
    assert_digest(DIGEST_MD5, 0, PART_BYTES, out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_around_block_borders),
        cmocka_unit_test(test_nothing_at_all),
        cmocka_unit_test(test_nothing_follows_a_part_that_is_cut),
        cmocka_unit_test(test_hints_with_every_instruction_set),
        cmocka_unit_test(test_wrong_hints_are_refused),
    };
    return cmocka_run_group_tests(tests, make_data, NULL);
}
