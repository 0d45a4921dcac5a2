// The mapping between our errors and the codes on the wire.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rpc/rpc_status.h"

static void
test_codes_survive_the_way_through_err(void **state)
{
    (void)state;
    for (int number = RPC_OK; number <= RPC_UNAUTHENTICATED; number++) {
        enum rpc_code code = (enum rpc_code)number;
        // UNKNOWN has no error of its own.
        enum rpc_code expected = code == RPC_UNKNOWN ? RPC_INTERNAL : code;
        assert_int_equal(expected, rpc_code_from_err(rpc_code_to_err(code)));
    }
}

static void
test_every_err_but_ok_is_a_failure(void **state)
{
    (void)state;
    assert_int_equal(RPC_OK, rpc_code_from_err(ERR_OK));
    for (int number = ERR_OK + 1; number < ERR_COUNT; number++) {
        assert_int_not_equal(RPC_OK, rpc_code_from_err((enum err)number));
    }
}

static void
test_unknown_numbers_are_unknown(void **state)
{
    (void)state;
    const int numbers[] = {RPC_UNAUTHENTICATED + 1, 99, -1, 0x7fffffff};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_string_equal("UNKNOWN", rpc_code_name((enum rpc_code)numbers[i]));
        assert_int_equal(ERR_INTERNAL, rpc_code_to_err((enum rpc_code)numbers[i]));
    }
    assert_string_equal("OK", rpc_code_name(RPC_OK));
    assert_string_equal("DATA_LOSS", rpc_code_name(RPC_DATA_LOSS));
    assert_string_equal("UNAUTHENTICATED", rpc_code_name(RPC_UNAUTHENTICATED));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_survive_the_way_through_err),
        cmocka_unit_test(test_every_err_but_ok_is_a_failure),
        cmocka_unit_test(test_unknown_numbers_are_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
