// What the first bytes of pictures say, and what they do when they are cut or are none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/fc_image_priv.h"

// Copied into memory of exactly that size, so that reading past the end is noticed.
static bool
look(const void *data, size_t size, struct fc_image *out)
{
    uint8_t *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    bool is_image = fc_image_look(bytes_view_of(copy, size), out);
    free(copy);
    return is_image;
}

static void
assert_size(const void *data, size_t size, const char *mime_type, uint32_t width_px, uint32_t height_px)
{
    struct fc_image image = {0};
    assert_true(look(data, size, &image));
    assert_string_equal(image.mime_type, mime_type);
    assert_int_equal(image.width_px, width_px);
    assert_int_equal(image.height_px, height_px);
    for (size_t cut = 0; cut < size; cut++) {
        struct fc_image of_less = {0};
        if (look(data, cut, &of_less)) {
            assert_string_equal(of_less.mime_type, mime_type);
        }
    }
}

static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x07\x80\0\0\x04\x38\x08\x02";
static const uint8_t gif[] = "GIF89a\x40\x01\xf0\0\xf7";
static const uint8_t jpeg[] = "\xff\xd8\xff\xe0\0\x06JFIF\xff\xff\xc2\0\x11\x08\x02\x58\x03\x20\x03";
static const uint8_t webp_extended[] = "RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x03\0\xff\x02\0";
static const uint8_t webp_lossless[] = "RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x1f\xc0\x0f\0\0\0\0\0\0";
static const uint8_t webp_lossy[] = "RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x40\x01\xf0\0";

static void
test_sizes_of_pictures(void **state)
{
    (void)state;
    assert_size(png, sizeof(png) - 1, "image/png", 1920, 1080);
    assert_size(gif, sizeof(gif) - 1, "image/gif", 320, 240);
    assert_size(jpeg, sizeof(jpeg) - 1, "image/jpeg", 800, 600);
    assert_size(webp_extended, sizeof(webp_extended) - 1, "image/webp", 1024, 768);
    assert_size(webp_lossless, sizeof(webp_lossless) - 1, "image/webp", 32, 64);
    assert_size(webp_lossy, sizeof(webp_lossy) - 1, "image/webp", 320, 240);
}

static void
test_other_files_are_no_pictures(void **state)
{
    static const char *const others[] = {"", "%PDF-1.7", "\xff\xd8", "GIF90a____", "RIFF____WAVEfmt "};
    struct fc_image image;
    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_false(look(others[i], strlen(others[i]), &image));
    }
}

// Lengths that lead nowhere must not make it run for ever or out of bounds.
static void
test_a_jpeg_without_a_frame_has_no_size(void **state)
{
    uint8_t data[64] = {0xff, 0xd8, 0xff, 0xe1, 0, 0};
    struct fc_image image;
    (void)state;
    assert_true(look(data, sizeof(data), &image));
    assert_int_equal(image.width_px, 0);
    memset(data + 2, 0xff, sizeof(data) - 2);
    assert_true(look(data, sizeof(data), &image));
    assert_int_equal(image.height_px, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_of_pictures),
        cmocka_unit_test(test_other_files_are_no_pictures),
        cmocka_unit_test(test_a_jpeg_without_a_frame_has_no_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
