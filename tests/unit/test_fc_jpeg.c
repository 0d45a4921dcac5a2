// What JPEG files say besides the picture is taken out, and files that are none do no harm.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/fc_jpeg_priv.h"

enum {
    MUTATIONS = 20000,
    EXIF_BYTES = 6 + 8 + 2 + 12 + 4,
};

#define SOI "\xff\xd8"
#define EOI "\xff\xd9"
#define JFIF "\xff\xe0\x00\x07JFIF\x00"
#define PROFILE "\xff\xe2\x00\x10ICC_PROFILE\x00\x01\x01"
#define OTHER_APP2 "\xff\xe2\x00\x06MPF\x00"
#define XMP "\xff\xe1\x00\x06http"
#define IPTC "\xff\xed\x00\x06IPTC"
#define COMMENT "\xff\xfe\x00\x06home"
#define TABLE "\xff\xdb\x00\x04\x01\x02"
#define SCAN                                                                                                           \
    "\xff\xda\x00\x03\x01"                                                                                             \
    "ab\xff\x00"                                                                                                       \
    "c\xff\xd3"                                                                                                        \
    "d"
#define AFTER "and a video"

static struct bytes_view
view(const char *text, size_t size)
{
    return bytes_view_of((const uint8_t *)text, size);
}

#define VIEW(literal) view(literal, sizeof(literal) - 1)

static enum err
strip(struct bytes_view jpeg, struct bytes *out, bool *is_changed_out)
{
    // At the end of memory of its own, so that a step too far is noticed.
    uint8_t *copy = malloc(jpeg.size + 1);
    assert_non_null(copy);
    memcpy(copy + 1, jpeg.data, jpeg.size);
    enum err err = fc_jpeg_strip(bytes_view_of(copy + 1, jpeg.size), out, is_changed_out);
    free(copy);
    return err;
}

static void
assert_stripped(struct bytes_view jpeg, struct bytes_view expected)
{
    struct bytes out = {.data = NULL};
    bool is_changed = false;

    assert_int_equal(strip(jpeg, &out, &is_changed), ERR_OK);
    assert_int_equal(out.size, expected.size);
    assert_memory_equal(out.data, expected.data, expected.size);
    assert_int_equal(is_changed, !bytes_view_equal(jpeg, expected));
    bytes_free(&out);
}

static void
test_what_tells_of_place_and_people_goes(void **state)
{
    (void)state;
    assert_stripped(VIEW(SOI JFIF XMP PROFILE IPTC OTHER_APP2 TABLE COMMENT SCAN TABLE SCAN EOI AFTER),
        VIEW(SOI JFIF PROFILE TABLE SCAN TABLE SCAN EOI));
}

static void
test_a_file_without_any_stays_as_it_is(void **state)
{
    (void)state;
    assert_stripped(VIEW(SOI JFIF PROFILE TABLE SCAN EOI), VIEW(SOI JFIF PROFILE TABLE SCAN EOI));
}

// make_exif writes EXIF data with this orientation and eight bytes behind them.
static size_t
make_exif(uint8_t *out, bool is_big, unsigned orientation)
{
    static const uint8_t big[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1};
    static const uint8_t little[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0};
    size_t size = EXIF_BYTES + 8;

    memset(out, 0, 4 + size);
    out[0] = 0xff;
    out[1] = 0xe1;
    out[3] = (uint8_t)(size + 2);
    memcpy(out + 4, "Exif", 4);
    memcpy(out + 10, is_big ? big : little, sizeof(big));
    out[28 + (is_big ? 1 : 0)] = (uint8_t)orientation;
    memcpy(out + 4 + EXIF_BYTES, "GPS data", 8);
    return 4 + size;
}

static void
test_how_it_is_turned_stays(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        uint8_t jpeg[200] = {0xff, 0xd8};
        struct bytes out = {.data = NULL};
        struct bytes again = {.data = NULL};
        bool is_changed = false;
        unsigned orientation = i / 2;
        size_t size = 2 + make_exif(jpeg + 2, i % 2 == 0, orientation);
        memcpy(jpeg + size, SCAN EOI, sizeof(SCAN EOI) - 1);
        size += sizeof(SCAN EOI) - 1;
        unsigned said = orientation >= 1 && orientation <= 8 ? orientation : 1;
        assert_int_equal(fc_jpeg_orientation(bytes_view_of(jpeg, size)), said);
        assert_int_equal(strip(bytes_view_of(jpeg, size), &out, &is_changed), ERR_OK);
        assert_true(is_changed);
        assert_int_equal(fc_jpeg_orientation(bytes_as_view(&out)), said);
        assert_null(memmem(out.data, out.size, "GPS", 3));
        // There is nothing more to take out.
        assert_int_equal(strip(bytes_as_view(&out), &again, &is_changed), ERR_OK);
        assert_false(is_changed);
        bytes_free(&out);
        bytes_free(&again);
    }
}

static void
test_files_that_are_cut_are_refused(void **state)
{
    (void)state;
    struct bytes_view whole = VIEW(SOI JFIF XMP PROFILE TABLE SCAN TABLE SCAN EOI);
    bool is_changed = false;

    for (size_t size = 0; size < whole.size; size++) {
        struct bytes out = {.data = NULL};
        assert_int_equal(strip(bytes_view_of(whole.data, size), &out, &is_changed), ERR_CORRUPT);
        bytes_free(&out);
    }
    struct bytes out = {.data = NULL};
    assert_int_equal(strip(VIEW("\x89PNG\r\n\x1a\n"), &out, &is_changed), ERR_CORRUPT);
    bytes_free(&out);
}

static void
test_any_bytes_do_no_harm(void **state)
{
    (void)state;
    uint8_t whole[300] = {0xff, 0xd8};
    size_t size = 2 + make_exif(whole + 2, false, 6);
    struct bytes_view rest = VIEW(JFIF XMP PROFILE TABLE SCAN TABLE SCAN EOI AFTER);

    memcpy(whole + size, rest.data, rest.size);
    size += rest.size;
    srandom(7);
    for (unsigned i = 0; i < MUTATIONS; i++) {
        uint8_t *changed = malloc(size);
        struct bytes out = {.data = NULL};
        bool is_changed = false;
        assert_non_null(changed);
        memcpy(changed, whole, size);
        for (unsigned n = 0; n < 3; n++) {
            changed[(size_t)random() % size] = (uint8_t)random();
        }
        unsigned orientation = fc_jpeg_orientation(bytes_view_of(changed, size));
        assert_in_range(orientation, 1, 8);
        if (fc_jpeg_strip(bytes_view_of(changed, size), &out, &is_changed) == ERR_OK) {
            assert_true(out.size <= size);
        }
        bytes_free(&out);
        free(changed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_tells_of_place_and_people_goes),
        cmocka_unit_test(test_a_file_without_any_stays_as_it_is),
        cmocka_unit_test(test_how_it_is_turned_stays),
        cmocka_unit_test(test_files_that_are_cut_are_refused),
        cmocka_unit_test(test_any_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
