// Base64 both ways.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"

static const struct {
    const char *plain;
    const char *encoded;
} pairs[] = {
    // RFC 4648, section 10
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xfb\xff\xbf", "+/+/"},
};

static void
test_known_values_both_ways(void **state)
{
    (void)state;
    struct bytes out = {0};
    assert_int_equal(ERR_OK, bytes_append(&out, bytes_view_of_text("before ")));
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct bytes_view plain = bytes_view_of_text(pairs[i].plain);
        struct bytes_view encoded = bytes_view_of_text(pairs[i].encoded);
        size_t size = out.size;
        assert_int_equal(ERR_OK, base64_append(&out, plain));
        assert_true(bytes_view_equal(encoded, bytes_view_of(out.data + size, out.size - size)));
        size = out.size;
        assert_int_equal(ERR_OK, base64_append_decoded(&out, encoded));
        assert_true(bytes_view_equal(plain, bytes_view_of(out.data + size, out.size - size)));
    }
    bytes_free(&out);
}

static void
test_other_forms_are_taken(void **state)
{
    (void)state;
    const char *forms[][2] = {{"Zg", "f"}, {"Zm8", "fo"}, {"Zm9vYg", "foob"}, {"-_-_", "\xfb\xff\xbf"},
        {"+_-/", "\xfb\xff\xbf"}};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct bytes out = {0};
        assert_int_equal(ERR_OK, base64_append_decoded(&out, bytes_view_of_text(forms[i][0])));
        assert_true(bytes_view_equal(bytes_view_of_text(forms[i][1]), bytes_as_view(&out)));
        bytes_free(&out);
    }
}

static void
test_what_is_none_is_refused(void **state)
{
    (void)state;
    const char *texts[] = {"Z", "Zg=", "Zm9vY", "====", "=", "==", "Z===", "Zg==Zg==", "Zm9v=", "Zm9v====", " Zm9v",
        "Zm9v\n", "Zm 9v", "Zm9v\xc3", "Zm,v", "Zg=g"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct bytes out = {0};
        assert_int_equal(ERR_OK, bytes_append(&out, bytes_view_of_text("x")));
        if (base64_append_decoded(&out, bytes_view_of_text(texts[i])) != ERR_INVALID) {
            fail_msg("\"%s\" was taken", texts[i]);
        }
        assert_int_equal(1, out.size);
        bytes_free(&out);
    }
    struct bytes out = {0};
    assert_int_equal(ERR_INVALID, base64_append_decoded(&out, bytes_view_of("Zm9\0", 4)));
    bytes_free(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values_both_ways),
        cmocka_unit_test(test_other_forms_are_taken),
        cmocka_unit_test(test_what_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
