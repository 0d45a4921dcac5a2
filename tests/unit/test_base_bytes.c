#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

static void
test_empty_views_are_equal_whatever_their_address(void **state)
{
    (void)state;
    assert_true(bytes_view_equal(bytes_view_of(NULL, 0), bytes_view_of("x", 0)));
    assert_true(bytes_view_equal_secret(bytes_view_of(NULL, 0), bytes_view_of("x", 0)));
    assert_true(bytes_view_equal(bytes_view_of_text(NULL), bytes_view_of_text("")));
}

static void
test_equality_looks_at_every_byte(void **state)
{
    (void)state;
    uint8_t a[5] = {1, 2, 3, 4, 5};
    for (size_t i = 0; i < sizeof(a); i++) {
        uint8_t b[5] = {1, 2, 3, 4, 5};
        assert_true(bytes_view_equal(bytes_view_of(a, 5), bytes_view_of(b, 5)));
        assert_true(bytes_view_equal_secret(bytes_view_of(a, 5), bytes_view_of(b, 5)));
        b[i] ^= 0x80;
        assert_false(bytes_view_equal(bytes_view_of(a, 5), bytes_view_of(b, 5)));
        assert_false(bytes_view_equal_secret(bytes_view_of(a, 5), bytes_view_of(b, 5)));
    }
    assert_false(bytes_view_equal(bytes_view_of(a, 5), bytes_view_of(a, 4)));
    assert_false(bytes_view_equal_secret(bytes_view_of(a, 5), bytes_view_of(a, 4)));
}

static void
test_append_grows_and_consume_drops_from_the_front(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    for (unsigned i = 0; i < 1000; i++) {
        uint8_t byte = (uint8_t)i;
        assert_int_equal(bytes_append(&bytes, bytes_view_of(&byte, 1)), ERR_OK);
    }
    assert_int_equal(bytes.size, 1000);
    bytes_consume(&bytes, 0);
    bytes_consume(&bytes, 300);
    assert_int_equal(bytes.size, 700);
    for (unsigned i = 0; i < 700; i++) {
        assert_int_equal(bytes.data[i], (uint8_t)(i + 300));
    }
    bytes_consume(&bytes, 700);
    assert_int_equal(bytes_as_view(&bytes).size, 0);
    bytes_free(&bytes);
    bytes_free(&bytes);
    assert_null(bytes.data);
}

static void
test_growth_at_least_doubles(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    size_t moves = 0;
    size_t capacity = 0;
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(bytes_append(&bytes, bytes_view_of_text("x")), ERR_OK);
        if (bytes.capacity != capacity) {
            assert_true(bytes.capacity >= 2 * capacity);
            capacity = bytes.capacity;
            moves++;
        }
    }
    assert_true(moves < 20);
    bytes_free_secret(&bytes);
    bytes_free_secret(&bytes);
}

static void
test_reserve_refuses_what_no_memory_could_hold(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    assert_int_equal(bytes_append(&bytes, bytes_view_of_text("kept")), ERR_OK);
    assert_int_equal(bytes_reserve(&bytes, SIZE_MAX), ERR_NO_MEMORY);
    assert_int_equal(bytes_reserve(&bytes, SIZE_MAX - 4), ERR_NO_MEMORY);
    assert_memory_equal(bytes.data, "kept", 4);
    assert_int_equal(bytes_append(&bytes, bytes_view_of(NULL, 0)), ERR_OK);
    assert_int_equal(bytes.size, 4);
    bytes_clear(&bytes);
    assert_int_equal(bytes.size, 0);
    bytes_free(&bytes);
}

static void
test_big_endian_at_odd_addresses(void **state)
{
    (void)state;
    uint8_t buffer[9] = {0};
    bytes_store_be64(buffer + 1, 0x0102030405060708);
    for (uint8_t i = 1; i < 9; i++) {
        assert_int_equal(buffer[i], i);
    }
    assert_int_equal(bytes_load_be64(buffer + 1), 0x0102030405060708);
    bytes_store_be32(buffer + 1, 0xfffefdfc);
    assert_int_equal(bytes_load_be32(buffer + 1), 0xfffefdfc);
    assert_int_equal(buffer[1], 0xff);
    bytes_store_be16(buffer + 3, 0xabcd);
    assert_int_equal(bytes_load_be16(buffer + 3), 0xabcd);
    assert_int_equal(buffer[3], 0xab);
    assert_int_equal(buffer[5], 5);
}

static void
test_hex_there_and_back(void **state)
{
    (void)state;
    static const uint8_t data[] = {0x00, 0x7f, 0x80, 0xff};
    char text[9];
    uint8_t back[4];
    bytes_to_hex(bytes_view_of(data, 4), text);
    assert_string_equal(text, "007f80ff");
    assert_int_equal(bytes_from_hex("007F80fF", back, 4), ERR_OK);
    assert_memory_equal(back, data, 4);
    bytes_to_hex(bytes_view_of(NULL, 0), text);
    assert_string_equal(text, "");
    assert_int_equal(bytes_from_hex("", back, 0), ERR_OK);
}

static void
test_hex_refuses_other_lengths_and_digits_and_writes_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "0", "010", "01020", "010203", "0g02", "01 2", "0x02", "-102"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        // On the heap without slack, so that reading past the NUL is noticed.
        char *text = strdup(bad[i]);
        assert_non_null(text);
        uint8_t out[2] = {0xee, 0xee};
        assert_int_equal(bytes_from_hex(text, out, 2), ERR_INVALID);
        assert_int_equal(out[0], 0xee);
        assert_int_equal(out[1], 0xee);
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_views_are_equal_whatever_their_address),
        cmocka_unit_test(test_equality_looks_at_every_byte),
        cmocka_unit_test(test_append_grows_and_consume_drops_from_the_front),
        cmocka_unit_test(test_growth_at_least_doubles),
        cmocka_unit_test(test_reserve_refuses_what_no_memory_could_hold),
        cmocka_unit_test(test_big_endian_at_odd_addresses),
        cmocka_unit_test(test_hex_there_and_back),
        cmocka_unit_test(test_hex_refuses_other_lengths_and_digits_and_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
