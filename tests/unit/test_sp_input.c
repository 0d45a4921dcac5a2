#include "rpc/sp_input.h"
#include "wire_support.h"

enum {
    MAX_MESSAGE_BYTES = 3 * 1024 * 1024,
};

static void
give(struct sp_input *input, const uint8_t *data, size_t size)
{
    while (size > 0) {
        uint8_t *at;
        size_t space;
        sp_input_space(input, &at, &space);
        assert_true(space > 0);
        size_t n = size < space ? size : space;
        memcpy(at, data, n);
        sp_input_add(input, n);
        data += n;
        size -= n;
        // As long as there is more to come nothing may have been lost; what is complete is taken by the caller.
        if (size > 0) {
            struct sp_input_item item;
            assert_int_equal(sp_input_next(input, &item), ERR_OK);
            assert_int_equal(item.kind, SP_INPUT_NOTHING);
            assert_int_equal(sp_input_prepare(input), ERR_OK);
        }
    }
}

static void
take_header(struct sp_input *input, uint16_t protocol)
{
    struct bytes header = {0};
    struct sp_input_item item;
    wire_append_header(&header, protocol);
    give(input, header.data, header.size);
    assert_int_equal(sp_input_next(input, &item), ERR_OK);
    assert_int_equal(item.kind, SP_INPUT_HEADER);
    assert_int_equal(item.protocol, protocol);
    assert_int_equal(sp_input_prepare(input), ERR_OK);
    bytes_free(&header);
}

// A header and messages of 0, 1 and 40 bytes, cut in two at every byte.
static void
check_every_split(bool is_ipc)
{
    static const size_t sizes[] = {0, 1, 40};
    uint8_t content[40];
    struct bytes all = {0};
    memset(content, 'x', sizeof content);
    wire_append_header(&all, 0x30);
    for (size_t i = 0; i < 3; i++) {
        wire_append_message(&all, is_ipc, content, sizes[i]);
    }
    for (size_t split = 0; split <= all.size; split++) {
        struct sp_input input;
        assert_int_equal(sp_input_init(&input, is_ipc, MAX_MESSAGE_BYTES), ERR_OK);
        size_t messages = 0;
        bool has_header = false;
        for (int part = 0; part < 2; part++) {
            uint8_t *at;
            size_t space;
            size_t size = part == 0 ? split : all.size - split;
            sp_input_space(&input, &at, &space);
            assert_true(space >= size);
            memcpy(at, all.data + (part == 0 ? 0 : split), size);
            sp_input_add(&input, size);
            for (;;) {
                struct sp_input_item item;
                assert_int_equal(sp_input_next(&input, &item), ERR_OK);
                if (item.kind == SP_INPUT_NOTHING) {
                    break;
                }
                if (item.kind == SP_INPUT_HEADER) {
                    assert_false(has_header);
                    has_header = true;
                    continue;
                }
                assert_true(has_header);
                assert_true(messages < 3);
                assert_int_equal(item.data.size, sizes[messages]);
                assert_memory_equal(item.data.data, content, item.data.size);
                messages++;
            }
            assert_int_equal(sp_input_prepare(&input), ERR_OK);
        }
        assert_int_equal(messages, 3);
        assert_false(sp_input_is_partial(&input));
        sp_input_free(&input);
    }
    bytes_free(&all);
}

static void
test_every_split_tcp(void **state)
{
    (void)state;
    check_every_split(false);
}

static void
test_every_split_ipc(void **state)
{
    (void)state;
    check_every_split(true);
}

static void
test_sizes_around_the_buffers(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        SP_INPUT_SMALL_BYTES - 9,
        SP_INPUT_SMALL_BYTES - 8,
        SP_INPUT_SMALL_BYTES - 7,
        SP_INPUT_SMALL_BYTES,
        SP_INPUT_FULL_BYTES - 9,
        SP_INPUT_FULL_BYTES - 8,
        SP_INPUT_FULL_BYTES - 7,
        SP_INPUT_FULL_BYTES,
        1024 * 1024 - 1,
        1024 * 1024,
        1024 * 1024 + 1,
        MAX_MESSAGE_BYTES,
    };
    struct sp_input input;
    assert_int_equal(sp_input_init(&input, false, MAX_MESSAGE_BYTES), ERR_OK);
    take_header(&input, 0x31);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct bytes content = {0};
        struct bytes framed = {0};
        assert_int_equal(bytes_reserve(&content, sizes[i]), ERR_OK);
        content.size = sizes[i];
        for (size_t j = 0; j < content.size; j++) {
            content.data[j] = (uint8_t)(j * 31 + i);
        }
        wire_append_message(&framed, false, content.data, content.size);
        give(&input, framed.data, framed.size);

        struct sp_input_item item;
        assert_int_equal(sp_input_next(&input, &item), ERR_OK);
        assert_int_equal(item.kind, SP_INPUT_MESSAGE);
        assert_int_equal(item.data.size, content.size);
        assert_memory_equal(item.data.data, content.data, content.size);
        assert_int_equal(item.large != NULL, sizes[i] + 8 > SP_INPUT_FULL_BYTES);
        assert_int_equal(sp_input_next(&input, &item), ERR_OK);
        assert_int_equal(item.kind, SP_INPUT_NOTHING);
        assert_null(input.large.data);
        assert_int_equal(sp_input_prepare(&input), ERR_OK);
        bytes_free(&content);
        bytes_free(&framed);
    }
    assert_int_equal(input.capacity, SP_INPUT_FULL_BYTES);
    sp_input_shrink(&input);
    assert_int_equal(input.capacity, SP_INPUT_SMALL_BYTES);
    sp_input_free(&input);
}

static void
test_a_large_message_can_be_taken(void **state)
{
    (void)state;
    struct sp_input input;
    struct bytes framed = {0};
    struct sp_input_item item;
    struct bytes content = {0};
    assert_int_equal(bytes_reserve(&content, 200000), ERR_OK);
    memset(content.data, 'L', 200000);
    content.size = 200000;
    assert_int_equal(sp_input_init(&input, false, MAX_MESSAGE_BYTES), ERR_OK);
    take_header(&input, 0x31);
    wire_append_message(&framed, false, content.data, content.size);
    give(&input, framed.data, framed.size);
    assert_int_equal(sp_input_next(&input, &item), ERR_OK);
    assert_non_null(item.large);
    struct bytes taken = *item.large;
    *item.large = (struct bytes){0};
    wire_append_message(&framed, false, "after", 5);
    assert_int_equal(sp_input_prepare(&input), ERR_OK);
    give(&input, framed.data + framed.size - 13, 13);
    assert_int_equal(sp_input_next(&input, &item), ERR_OK);
    assert_int_equal(item.kind, SP_INPUT_MESSAGE);
    assert_memory_equal(item.data.data, "after", 5);
    assert_true(bytes_view_equal(bytes_as_view(&taken), bytes_as_view(&content)));
    bytes_free(&taken);
    bytes_free(&content);
    bytes_free(&framed);
    sp_input_free(&input);
}

static void
test_announced_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        enum err err;
    } cases[] = {
        {MAX_MESSAGE_BYTES, ERR_OK},
        {(uint64_t)MAX_MESSAGE_BYTES + 1, ERR_TOO_BIG},
        {(uint64_t)1 << 32, ERR_TOO_BIG},
        {(uint64_t)1 << 63, ERR_TOO_BIG},
        {UINT64_MAX, ERR_TOO_BIG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sp_input input;
        struct sp_input_item item;
        struct bytes prefix = {0};
        assert_int_equal(sp_input_init(&input, false, MAX_MESSAGE_BYTES), ERR_OK);
        take_header(&input, 0x30);
        wire_append_length(&prefix, false, cases[i].length);
        give(&input, prefix.data, prefix.size);
        assert_int_equal(sp_input_next(&input, &item), cases[i].err);
        if (cases[i].err == ERR_OK) {
            // Claimed, not come: no more than the trusted part is set aside.
            assert_int_equal(sp_input_prepare(&input), ERR_OK);
            assert_true(input.large.capacity <= 1024 * 1024 + 64 * 1024);
            assert_true(sp_input_is_partial(&input));
        }
        bytes_free(&prefix);
        sp_input_free(&input);
    }
}

static void
test_bad_headers(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "GET / HT",
        "\0SP\1\0\x30\0\0",
        "\0SP\0\0\x30\0\1",
        "\0SP\0\0\x30\1\0",
        "\1SP\0\0\x30\0\0",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct sp_input input;
        struct sp_input_item item;
        assert_int_equal(sp_input_init(&input, false, MAX_MESSAGE_BYTES), ERR_OK);
        give(&input, (const uint8_t *)headers[i], 8);
        assert_int_equal(sp_input_next(&input, &item), ERR_PROTOCOL);
        sp_input_free(&input);
    }
}

static void
test_ipc_needs_its_byte(void **state)
{
    (void)state;
    struct sp_input input;
    struct sp_input_item item;
    assert_int_equal(sp_input_init(&input, true, MAX_MESSAGE_BYTES), ERR_OK);
    take_header(&input, 0x30);
    give(&input, (const uint8_t *)"\2", 1);
    assert_int_equal(sp_input_next(&input, &item), ERR_PROTOCOL);
    sp_input_free(&input);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_tcp),
        cmocka_unit_test(test_every_split_ipc),
        cmocka_unit_test(test_sizes_around_the_buffers),
        cmocka_unit_test(test_a_large_message_can_be_taken),
        cmocka_unit_test(test_announced_lengths),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_ipc_needs_its_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
