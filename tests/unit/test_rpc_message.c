// Messages from strangers: what the check lets through, and what unpacking may cost.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rpc/rpc_limits.h"
#include "rpc/rpc_message.h"

#include "fc/test/v1/echo.pb-c.h"

#define ECHO (&fc__test__v1__echo_request__descriptor)

static void
append(struct bytes *out, const void *data, size_t size)
{
    assert_int_equal(ERR_OK, bytes_append(out, bytes_view_of(data, size)));
}

static void
append_varint(struct bytes *out, uint64_t value)
{
    do {
        uint8_t byte = (uint8_t)(value & 0x7f);
        value >>= 7;
        byte |= value != 0 ? 0x80 : 0;
        append(out, &byte, 1);
    } while (value != 0);
}

static enum err
check(const void *data, size_t size, struct err_detail *why)
{
    memset(why, 0, sizeof *why);
    // A copy of exactly that size, so that reading past it is seen by the sanitizer.
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    enum err err = rpc_message_check(ECHO, bytes_view_of(copy, size), why);
    free(copy);
    return err;
}

static enum err
unpack(struct bytes_view data, struct arena *arena, Fc__Test__V1__EchoRequest **request_out, struct err_detail *why)
{
    ProtobufCMessage *message = NULL;
    memset(why, 0, sizeof *why);
    arena_init(arena, rpc_message_arena_limit(data.size));
    enum err err = rpc_message_unpack(ECHO, data, arena, &message, why);
    *request_out = (Fc__Test__V1__EchoRequest *)message;
    return err;
}

static void
assert_refused(const void *data, size_t size, const char *word)
{
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    assert_int_equal(ERR_INVALID, check(data, size, &why));
    if (strstr(why.message, word) == NULL) {
        fail_msg("\"%s\" does not mention \"%s\"", why.message, word);
    }
    // Unpacking stops at whichever limit comes first.
    enum err err = unpack(bytes_view_of(data, size), &arena, &request, &why);
    assert_true(err == ERR_INVALID || err == ERR_NO_MEMORY);
    assert_true(arena.used_bytes <= rpc_message_arena_limit(size));
    arena_deinit(&arena);
}

#define ASSERT_REFUSED(literal, word) assert_refused(literal, sizeof(literal) - 1, word)

// nest wraps EchoRequest in EchoRequest until there are this many levels, by lengths built from the inside.
static void
nest(struct bytes *out, size_t levels)
{
    size_t *sizes = calloc(levels, sizeof *sizes);
    assert_non_null(sizes);
    for (size_t i = levels - 1; i-- > 0;) {
        size_t length_bytes = 1;
        for (size_t rest = sizes[i + 1] >> 7; rest > 0; rest >>= 7) {
            length_bytes++;
        }
        sizes[i] = 1 + length_bytes + sizes[i + 1];
    }
    for (size_t i = 1; i < levels; i++) {
        append(out, "\x12", 1);
        append_varint(out, sizes[i]);
    }
    assert_int_equal(sizes[0], out->size);
    free(sizes);
}

static void
test_whole_message_is_unpacked(void **state)
{
    (void)state;
    static const char encoded[] = "\x0a\x02hi"                 // text
                                  "\x12\x04\x0a\x02in"         // a child
                                  "\x1a\x03\x01\x96\x01"       // packed numbers 1, 150
                                  "\x18\x03"                   // one more, unpacked
                                  "\x22\x06\x0a\x01k\x12\x01v" // a label
                                  "\x2a\x01l"                  // left
                                  "\x7a\x02\x00\xff"           // data
                                  "\xf8\x01\x01";              // field 31, unknown
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    assert_int_equal(ERR_OK, unpack(bytes_view_of(encoded, sizeof encoded - 1), &arena, &request, &why));
    assert_string_equal("hi", request->text);
    assert_int_equal(1, request->n_children);
    assert_string_equal("in", request->children[0]->text);
    assert_int_equal(3, request->n_numbers);
    assert_int_equal(150, request->numbers[1]);
    assert_int_equal(3, request->numbers[2]);
    assert_int_equal(1, request->n_labels);
    assert_string_equal("v", request->labels[0]->value);
    assert_int_equal(FC__TEST__V1__ECHO_REQUEST__CHOICE_LEFT, request->choice_case);
    assert_int_equal(2, request->data.len);
    assert_int_equal(0xff, request->data.data[1]);
    arena_deinit(&arena);
}

static void
test_empty_message_is_a_message(void **state)
{
    (void)state;
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    assert_int_equal(ERR_OK, unpack(bytes_view_of(NULL, 0), &arena, &request, &why));
    assert_non_null(request);
    assert_string_equal("", request->text);
    arena_deinit(&arena);
}

static void
test_duplicates_are_merged_and_the_last_one_wins(void **state)
{
    (void)state;
    static const char encoded[] = "\x0a\x01"
                                  "a"
                                  "\x0a\x01"
                                  "b"                     // text twice
                                  "\x3a\x02\x18\x01"      // inner.numbers 1
                                  "\x3a\x03\x0a\x01x"     // inner.text
                                  "\x3a\x02\x12\x00"      // inner.children
                                  "\x3a\x03\x1a\x01\x02"; // inner.numbers 2
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    assert_int_equal(ERR_OK, unpack(bytes_view_of(encoded, sizeof encoded - 1), &arena, &request, &why));
    assert_string_equal("b", request->text);
    assert_non_null(request->inner);
    assert_string_equal("x", request->inner->text);
    assert_int_equal(1, request->inner->n_children);
    assert_int_equal(2, request->inner->n_numbers);
    assert_int_equal(1, request->inner->numbers[0]);
    assert_int_equal(2, request->inner->numbers[1]);
    arena_deinit(&arena);
}

static void
test_lists_grow_over_every_way_of_writing_them(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    enum {
        ROUNDS = 50,
    };
    for (size_t i = 0; i < ROUNDS; i++) {
        append(&data, "\x18\x01\x1a\x00\x1a\x05\x02\x03\x84\x80\x00\x18\xff\xff\xff\xff\x0f", 17); // 1, none, 2 3 4, -1
    }
    assert_int_equal(ERR_OK, unpack(bytes_as_view(&data), &arena, &request, &why));
    assert_int_equal(5 * ROUNDS, request->n_numbers);
    for (size_t i = 0; i < request->n_numbers; i++) {
        assert_int_equal(i % 5 == 4 ? -1 : (int)(i % 5) + 1, request->numbers[i]);
    }
    arena_deinit(&arena);
    bytes_free(&data);
}

static void
test_members_of_a_oneof_replace_each_other(void **state)
{
    (void)state;
    static const char encoded[] = "\x32\x02\x18\x01\x2a\x01l\x32\x03\x0a\x01x\x2a\x01m";
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    assert_int_equal(ERR_OK, unpack(bytes_view_of(encoded, sizeof encoded - 1), &arena, &request, &why));
    assert_int_equal(FC__TEST__V1__ECHO_REQUEST__CHOICE_LEFT, request->choice_case);
    assert_string_equal("m", request->left);
    arena_deinit(&arena);
    // A message after text starts anew, and then merges.
    static const char back[] = "\x32\x02\x18\x01\x2a\x01l\x32\x03\x0a\x01x\x32\x02\x18\x07";
    assert_int_equal(ERR_OK, unpack(bytes_view_of(back, sizeof back - 1), &arena, &request, &why));
    assert_int_equal(FC__TEST__V1__ECHO_REQUEST__CHOICE_RIGHT, request->choice_case);
    assert_string_equal("x", request->right->text);
    assert_int_equal(1, request->right->n_numbers);
    assert_int_equal(7, request->right->numbers[0]);
    arena_deinit(&arena);
}

static void
test_repeated_singular_messages_cannot_cost_more_than_the_ceiling(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    // Each of them brings one more child to merge: copying the list every time would be quadratic.
    for (size_t i = 0; i < 8 * 1024; i++) {
        append(&data, "\x3a\x02\x12\x00", 4);
    }
    uint64_t start_ms = clock_monotonic_ms();
    enum err err = unpack(bytes_as_view(&data), &arena, &request, &why);
    assert_true(err == ERR_OK || err == ERR_NO_MEMORY);
    assert_true(arena.used_bytes <= rpc_message_arena_limit(data.size));
    assert_true(clock_monotonic_ms() - start_ms < 5000);
    arena_deinit(&arena);
    bytes_free(&data);
}

static void
test_refuses_truncation_at_every_byte(void **state)
{
    (void)state;
    static const char encoded[] = "\x0a\x02hi\x12\x04\x0a\x02in\x1a\x03\x01\x96\x01\x18\x96\x01\x7a\x02\x00\xff";
    // Where a field ends, a cut message is a shorter message.
    static const size_t ends[] = {0, 4, 10, 15, 18, 22};
    struct err_detail why;
    size_t next = 0;
    for (size_t size = 0; size < sizeof encoded; size++) {
        bool is_end = next < sizeof ends / sizeof ends[0] && ends[next] == size;
        next += is_end;
        assert_int_equal(is_end ? ERR_OK : ERR_INVALID, check(encoded, size, &why));
        assert_true(is_end == (why.message[0] == '\0'));
    }
    assert_int_equal(sizeof ends / sizeof ends[0], next);
}

static void
test_refuses_text_that_is_not_utf8(void **state)
{
    (void)state;
    ASSERT_REFUSED("\x0a\x01\xff", "text");
    ASSERT_REFUSED("\x0a\x02\xc0\x80", "text");     // overlong NUL
    ASSERT_REFUSED("\x0a\x03\xed\xa0\x80", "text"); // a surrogate
    ASSERT_REFUSED("\x0a\x03"
                   "a\0b",
        "text");                                              // would be cut at the NUL
    ASSERT_REFUSED("\x2a\x01\x80", "left");                   // in a oneof
    ASSERT_REFUSED("\x22\x06\x0a\x01k\x12\x01\x80", "value"); // in a map
    ASSERT_REFUSED("\x12\x05\x12\x03\x0a\x01\xff", "text");   // two levels down
}

static void
test_refuses_bad_tags(void **state)
{
    (void)state;
    ASSERT_REFUSED("\x00\x00", "field 0");
    ASSERT_REFUSED("\x02\x00", "field 0");
    ASSERT_REFUSED("\x80\x00\x00", "field 0");
    ASSERT_REFUSED("\x80\x80\x80\x80\x80\x01\x00", "tag"); // six bytes
    ASSERT_REFUSED("\xff\xff\xff\xff\x7f\x00", "tag");     // more than 32 bits
    ASSERT_REFUSED("\x0b", "text");                        // group start
    ASSERT_REFUSED("\x0c", "text");                        // group end
    ASSERT_REFUSED("\xfb\x01", "field 31");                // a group that nobody knows
    ASSERT_REFUSED("\x0e\x00", "text");
    ASSERT_REFUSED("\x0f\x00", "text");
}

static void
test_refuses_bad_varints(void **state)
{
    (void)state;
    struct err_detail why;
    static const char longest[] = "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_int_equal(ERR_OK, check(longest, sizeof longest - 1, &why));
    ASSERT_REFUSED("\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "numbers"); // eleven bytes
    ASSERT_REFUSED("\x1a\x0b\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "numbers");
    ASSERT_REFUSED("\x1a\x02\x01\x80", "numbers");                           // the last entry goes on
    ASSERT_REFUSED("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", "text"); // a length of 2^64 - 1
    ASSERT_REFUSED("\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01x", "text");
    ASSERT_REFUSED("\x0a\xff\xff\xff\xff\x07x", "text");
}

static void
test_refuses_other_wire_types(void **state)
{
    (void)state;
    ASSERT_REFUSED("\x08\x01", "text");                                // a number for text
    ASSERT_REFUSED("\x10\x01", "children");                            // a number for a message
    ASSERT_REFUSED("\x19\x01\x01\x01\x01\x01\x01\x01\x01", "numbers"); // 64 bits for a varint
    ASSERT_REFUSED("\x1d\x01\x01\x01\x01", "numbers");                 // 32 bits
    ASSERT_REFUSED("\x7d\x01\x01\x01\x01", "data");
    ASSERT_REFUSED("\x12\x02\x08\x01", "text");
}

static void
test_depth_ends_where_the_limit_says(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    nest(&data, RPC_NESTING_MAX_DEPTH);
    assert_int_equal(ERR_OK, unpack(bytes_as_view(&data), &arena, &request, &why));
    size_t levels = 1;
    while (request->n_children > 0) {
        request = request->children[0];
        levels++;
    }
    assert_int_equal(RPC_NESTING_MAX_DEPTH, levels);
    arena_deinit(&arena);
    bytes_clear(&data);
    nest(&data, RPC_NESTING_MAX_DEPTH + 1);
    assert_refused(data.data, data.size, "children");
    bytes_clear(&data);
    nest(&data, 10000);
    assert_refused(data.data, data.size, "children");
    bytes_free(&data);
}

static void
test_elements_end_where_the_limit_says(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    for (size_t i = 0; i < RPC_ELEMENTS_MAX; i++) {
        append(&data, "\x12\x00", 2);
    }
    assert_int_equal(ERR_OK, check(data.data, data.size, &why));
    append(&data, "\x12\x00", 2);
    assert_refused(data.data, data.size, "children");

    // As many as 1 MiB holds.
    while (data.size < 1024 * 1024) {
        append(&data, "\x12\x00", 2);
    }
    assert_refused(data.data, data.size, "children");

    // Entries of a packed list count like others, and so do fields that nobody knows.
    bytes_clear(&data);
    append(&data, "\x1a", 1);
    append_varint(&data, RPC_ELEMENTS_MAX);
    for (size_t i = 0; i < RPC_ELEMENTS_MAX; i++) {
        append(&data, "\x01", 1);
    }
    assert_refused(data.data, data.size, "numbers");
    bytes_clear(&data);
    for (size_t i = 0; i <= RPC_ELEMENTS_MAX; i++) {
        append(&data, "\xf8\x01\x01", 3);
    }
    assert_refused(data.data, data.size, "field 31");
    bytes_free(&data);
}

static void
test_empty_messages_stop_at_the_ceiling(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    for (size_t i = 0; i < RPC_ELEMENTS_MAX; i++) {
        append(&data, "\x12\x00", 2);
    }
    // Two bytes of encoding ask for a whole EchoRequest each.
    assert_int_equal(ERR_NO_MEMORY, unpack(bytes_as_view(&data), &arena, &request, &why));
    assert_non_null(strstr(why.message, "EchoRequest"));
    assert_true(arena.used_bytes <= rpc_message_arena_limit(data.size));
    arena_deinit(&arena);
    bytes_free(&data);
}

static void
test_long_honest_lists_stay_below_the_ceiling(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    enum {
        COUNT = 16 * 1024,
    };
    for (size_t i = 0; i < COUNT; i++) {
        append(&data, "\x22\x08\x0a\x02k1\x12\x02v2", 10); // short labels: the worst of the honest ones
    }
    assert_int_equal(ERR_OK, unpack(bytes_as_view(&data), &arena, &request, &why));
    assert_int_equal(COUNT, request->n_labels);
    assert_string_equal("v2", request->labels[COUNT - 1]->value);
    arena_deinit(&arena);

    bytes_clear(&data);
    append(&data, "\x1a", 1);
    append_varint(&data, RPC_ELEMENTS_MAX - 1);
    for (size_t i = 0; i < RPC_ELEMENTS_MAX - 1; i++) {
        append(&data, "\x01", 1);
    }
    assert_int_equal(ERR_OK, unpack(bytes_as_view(&data), &arena, &request, &why));
    assert_int_equal(RPC_ELEMENTS_MAX - 1, request->n_numbers);
    arena_deinit(&arena);
    bytes_free(&data);
}

static void
test_a_large_field_of_bytes_is_taken(void **state)
{
    (void)state;
    struct bytes data = {0};
    struct err_detail why;
    struct arena arena;
    Fc__Test__V1__EchoRequest *request;
    size_t size = 8 * 1024 * 1024;
    append(&data, "\x7a", 1);
    append_varint(&data, size);
    size_t prefix = data.size;
    assert_int_equal(ERR_OK, bytes_reserve(&data, size));
    memset(data.data + prefix, 0xee, size);
    data.size += size;
    assert_int_equal(ERR_OK, unpack(bytes_as_view(&data), &arena, &request, &why));
    assert_int_equal(size, request->data.len);
    assert_int_equal(0xee, request->data.data[size - 1]);
    assert_ptr_not_equal(data.data + prefix, request->data.data);
    arena_deinit(&arena);

    // In place it costs no memory.
    ProtobufCMessage *message = NULL;
    arena_init(&arena, 4096);
    assert_int_equal(ERR_OK, rpc_message_unpack_in_place(ECHO, bytes_as_view(&data), &arena, &message, &why));
    request = (Fc__Test__V1__EchoRequest *)message;
    assert_ptr_equal(data.data + prefix, request->data.data);
    assert_int_equal(size, request->data.len);
    arena_deinit(&arena);
    bytes_free(&data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_message_is_unpacked),
        cmocka_unit_test(test_empty_message_is_a_message),
        cmocka_unit_test(test_duplicates_are_merged_and_the_last_one_wins),
        cmocka_unit_test(test_lists_grow_over_every_way_of_writing_them),
        cmocka_unit_test(test_members_of_a_oneof_replace_each_other),
        cmocka_unit_test(test_repeated_singular_messages_cannot_cost_more_than_the_ceiling),
        cmocka_unit_test(test_refuses_truncation_at_every_byte),
        cmocka_unit_test(test_refuses_text_that_is_not_utf8),
        cmocka_unit_test(test_refuses_bad_tags),
        cmocka_unit_test(test_refuses_bad_varints),
        cmocka_unit_test(test_refuses_other_wire_types),
        cmocka_unit_test(test_depth_ends_where_the_limit_says),
        cmocka_unit_test(test_elements_end_where_the_limit_says),
        cmocka_unit_test(test_empty_messages_stop_at_the_ceiling),
        cmocka_unit_test(test_long_honest_lists_stay_below_the_ceiling),
        cmocka_unit_test(test_a_large_field_of_bytes_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
