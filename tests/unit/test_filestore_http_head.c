// Ranges, tags, dates and names as HTTP has them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/filestore/filestore_http_head.h"

static void
expect_part(const char *range, uint64_t size_bytes, unsigned status, uint64_t first, uint64_t size)
{
    struct filestore_http_part part = filestore_http_choose_part(range, size_bytes);
    assert_int_equal(part.status, status);
    assert_int_equal(part.first, first);
    assert_int_equal(part.size, size);
}

static void
test_ranges(void **state)
{
    (void)state;
    expect_part("bytes=0-9", 10, 206, 0, 10);
    expect_part("Bytes=3-", 10, 206, 3, 7);
    expect_part("bytes=9-18446744073709551600", 10, 206, 9, 1);
    expect_part("bytes=-3", 10, 206, 7, 3);
    expect_part("bytes=-30", 10, 206, 0, 10);
    expect_part("bytes=10-", 10, 416, 0, 0);
    expect_part("bytes=-0", 10, 416, 0, 0);
    expect_part("bytes=0-", 0, 416, 0, 0);
    expect_part("bytes=-1", 0, 416, 0, 0);
    static const char *const wholes[] = {"", "bytes", "bytes=", "bytes=-", "bytes=2-1", "bytes=1", "bytes=0-1,2-3",
        "bytes=a-1", "bytes=1-a", "bytes=99999999999999999999-", "bytes=0-99999999999999999999", "bytes= 0-1",
        "lines=0-1", "bytes=--1", "bytes=+1-2"};
    for (size_t i = 0; i < sizeof(wholes) / sizeof(wholes[0]); i++) {
        expect_part(wholes[i], 10, 200, 0, 10);
    }
}

static void
test_tags(void **state)
{
    uint8_t sha256[DIGEST_SHA256_BYTES] = {0xAB};
    char tag[FILESTORE_HTTP_ETAG_BYTES];
    char field[4 * FILESTORE_HTTP_ETAG_BYTES];
    (void)state;
    filestore_http_etag(sha256, tag);
    assert_int_equal(strlen(tag), 66);
    assert_int_equal(strncmp(tag, "\"ab00", 5), 0);
    assert_true(filestore_http_lists_etag(tag, tag));
    assert_true(filestore_http_lists_etag("*", tag));
    (void)snprintf(field, sizeof(field), "\"x\", W/%s , \"y\"", tag);
    assert_true(filestore_http_lists_etag(field, tag));
    (void)snprintf(field, sizeof(field), "%sx", tag);
    assert_false(filestore_http_lists_etag(field, tag));
    assert_false(filestore_http_lists_etag("", tag));
    assert_false(filestore_http_lists_etag(",,, ,", tag));
    assert_false(filestore_http_lists_etag("\"ab\"", tag));
}

static void
test_dates(void **state)
{
    char date[FILESTORE_HTTP_DATE_BYTES];
    (void)state;
    filestore_http_date(INT64_C(784111777999), date);
    assert_string_equal(date, "Sun, 06 Nov 1994 08:49:37 GMT");
    filestore_http_date(INT64_MIN, date);
    assert_string_equal(date, "Thu, 01 Jan 1970 00:00:00 GMT");
    filestore_http_date(INT64_MAX, date);
    assert_string_equal(date, "Fri, 31 Dec 9999 23:59:59 GMT");
}

static void
test_types(void **state)
{
    (void)state;
    assert_string_equal(filestore_http_media_type("image/PNG"), "image/png");
    static const char *const harmful[] = {"", "text/html", "image/svg+xml", "text/xml", "application/javascript",
        "image/png\r\nX: y", "image/png; a=b", "image/"};
    for (size_t i = 0; i < sizeof(harmful) / sizeof(harmful[0]); i++) {
        assert_string_equal(filestore_http_media_type(harmful[i]), "application/octet-stream");
    }
}

static void
expect_disposition(const char *name, const char *expected)
{
    struct bytes line = {0};
    assert_int_equal(filestore_http_add_disposition(name, &line), ERR_OK);
    assert_int_equal(bytes_append(&line, bytes_view_of("", 1)), ERR_OK);
    assert_string_equal((const char *)line.data, expected);
    bytes_free(&line);
}

static void
test_names(void **state)
{
    (void)state;
    expect_disposition("dir/a.txt", "Content-Disposition: attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt\r\n");
    expect_disposition("a\"b\\c%d\r\n;",
        "Content-Disposition: attachment; filename=\"a_b_c_d__;\"; filename*=UTF-8''a%22b%5Cc%25d%0D%0A%3B\r\n");
    expect_disposition("\xC3\xBC*'",
        "Content-Disposition: attachment; filename=\"__*'\"; filename*=UTF-8''%C3%BC%2A%27\r\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
