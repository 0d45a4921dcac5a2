#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static void
test_memory_is_aligned_and_apart(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    unsigned char *blocks[300];
    for (size_t i = 0; i < 300; i++) {
        blocks[i] = arena_alloc(&arena, i);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % alignof(max_align_t), 0);
        memset(blocks[i], (int)(i & 0xff), i);
    }
    for (size_t i = 0; i < 300; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_int_equal(blocks[i][k], i & 0xff);
        }
    }
    arena_deinit(&arena);
    arena_deinit(&arena);
    assert_null(arena.newest);
}

static void
test_limit_is_exact_and_holds(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1600);
    for (int i = 0; i < 100; i++) {
        assert_non_null(arena_alloc(&arena, 16));
    }
    assert_null(arena_alloc(&arena, 1));
    assert_null(arena_alloc(&arena, 0));
    arena_deinit(&arena);
}

static void
test_padding_counts_against_the_limit(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 160);
    int got = 0;
    while (arena_alloc(&arena, 1) != NULL) {
        got++;
        assert_true(got <= 10);
    }
    assert_int_equal(got, 160 / alignof(max_align_t));
    arena_deinit(&arena);
}

static void
test_refused_allocation_leaves_the_rest_usable(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1024);
    assert_null(arena_alloc(&arena, 1025));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 8));
    assert_non_null(arena_alloc(&arena, 1024));
    arena_deinit(&arena);

    arena_init(&arena, SIZE_MAX);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    arena_deinit(&arena);
}

static void
test_nothing_fits_a_limit_of_nothing(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 0);
    assert_null(arena_alloc(&arena, 0));
    assert_null(arena_copy_text(&arena, ""));
    arena_deinit(&arena);
}

static void
test_copy_text(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64);
    char original[] = "hello";
    char *copy = arena_copy_text(&arena, original);
    original[0] = 'x';
    assert_string_equal(copy, "hello");
    assert_null(arena_copy_text(&arena, "sixty-four characters are more than what is left of this arena.."));
    arena_deinit(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_aligned_and_apart),
        cmocka_unit_test(test_limit_is_exact_and_holds),
        cmocka_unit_test(test_padding_counts_against_the_limit),
        cmocka_unit_test(test_refused_allocation_leaves_the_rest_usable),
        cmocka_unit_test(test_nothing_fits_a_limit_of_nothing),
        cmocka_unit_test(test_copy_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
