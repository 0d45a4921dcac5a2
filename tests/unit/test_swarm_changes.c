// Changes of holdings, gathered until they are told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "swarm/swarm_changes.h"

static const struct swarm_file one = {.id = "one", .size_bytes = 100000, .segment_bytes = 1};
static const struct swarm_file two = {.id = "two", .size_bytes = 10, .segment_bytes = 3};

static void
add(struct swarm_change_list *list, const struct swarm_file *file, uint64_t first, uint64_t count, bool is_gone)
{
    assert_int_equal(swarm_changes_add(list, file, first, count, is_gone), ERR_OK);
}

static void
test_what_follows_becomes_one_range(void **state)
{
    struct swarm_change_list list = STAILQ_HEAD_INITIALIZER(list);
    (void)state;
    add(&list, &one, 5, 1, false);
    add(&list, &one, 6, 2, false);
    add(&list, &two, 0, 1, false);
    add(&list, &one, 8, 1, true);
    add(&list, &one, 8, 1, false);
    struct swarm_change *change = STAILQ_FIRST(&list);
    assert_int_equal(change->segment_count, 100000);
    assert_int_equal(change->range_count, 3);
    assert_int_equal(change->ranges[0].first, 5);
    assert_int_equal(change->ranges[0].count, 3);
    assert_true(change->ranges[1].is_gone);
    assert_false(change->ranges[2].is_gone);
    change = STAILQ_NEXT(change, link);
    assert_int_equal(change->segment_count, 4);
    assert_int_equal(change->range_count, 1);
    assert_null(STAILQ_NEXT(change, link));
    swarm_changes_clear(&list);
    assert_true(STAILQ_EMPTY(&list));
}

static void
test_too_many_ranges_become_all_that_is_there(void **state)
{
    struct swarm_change_list list = STAILQ_HEAD_INITIALIZER(list);
    (void)state;
    for (uint64_t i = 0; i < SWARM_RANGES_MAX; i++) {
        add(&list, &one, 2 * i, 1, false);
    }
    struct swarm_change *change = STAILQ_FIRST(&list);
    assert_false(change->is_whole);
    assert_int_equal(change->range_count, SWARM_RANGES_MAX);
    add(&list, &one, 2 * SWARM_RANGES_MAX, 1, false);
    assert_true(change->is_whole);
    add(&list, &one, 1, 1, false);
    assert_int_equal(change->range_count, SWARM_RANGES_MAX);
    swarm_changes_clear(&list);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_follows_becomes_one_range),
        cmocka_unit_test(test_too_many_ranges_become_all_that_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
