#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"

static void
test_every_code_has_a_name_and_a_sentence(void **state)
{
    (void)state;
    for (int code = 0; code < ERR_COUNT; code++) {
        assert_true(strlen(err_name((enum err)code)) > 0);
        assert_true(strlen(err_sentence((enum err)code)) > 0);
        for (int other = 0; other < code; other++) {
            assert_string_not_equal(err_name((enum err)code), err_name((enum err)other));
        }
    }
}

static void
test_fail_explains_and_returns_the_code(void **state)
{
    (void)state;
    struct err_detail why = {0};
    assert_string_equal(err_message(&why, ERR_NOT_FOUND), "not found");
    assert_string_equal(err_message(NULL, ERR_NOT_FOUND), "not found");
    assert_int_equal(err_fail(&why, ERR_NOT_FOUND, "there is no room \"%s\"", "kitchen"), ERR_NOT_FOUND);
    assert_string_equal(err_message(&why, ERR_NOT_FOUND), "there is no room \"kitchen\"");
    assert_int_equal(err_fail(NULL, ERR_DENIED, "nobody reads this"), ERR_DENIED);
}

static void
test_fail_may_wrap_its_own_message(void **state)
{
    (void)state;
    struct err_detail why = {0};
    (void)err_fail(&why, ERR_IO, "disk on fire");
    (void)err_fail(&why, ERR_IO, "cannot start: %s", why.message);
    assert_string_equal(why.message, "cannot start: disk on fire");
}

static void
test_fail_cuts_between_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[2 * ERR_DETAIL_MAX_BYTES] = "...";
            text[shift] = '\0';
            while (strlen(text) + strlen(characters[i]) < sizeof(text)) {
                strcat(text, characters[i]);
            }
            struct err_detail why = {0};
            (void)err_fail(&why, ERR_IO, "%s", text);
            assert_true(text_is_utf8(bytes_view_of_text(why.message)));
            assert_true(strlen(why.message) >= ERR_DETAIL_MAX_BYTES - 4);
            assert_memory_equal(why.message, text, strlen(why.message));
        }
    }
}

static void
test_errno_is_translated(void **state)
{
    (void)state;
    assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EACCES), ERR_DENIED);
    assert_int_equal(err_from_errno(ENOMEM), ERR_NO_MEMORY);
    assert_int_equal(err_from_errno(EXDEV), ERR_IO);
    assert_int_equal(err_from_errno(0), ERR_IO);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_a_name_and_a_sentence),
        cmocka_unit_test(test_fail_explains_and_returns_the_code),
        cmocka_unit_test(test_fail_may_wrap_its_own_message),
        cmocka_unit_test(test_fail_cuts_between_characters),
        cmocka_unit_test(test_errno_is_translated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
