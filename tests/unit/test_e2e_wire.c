#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "e2e/e2e_wire.h"

#include "fc/e2e/v1/chain.pb-c.h"

static enum err
unpack(const ProtobufCMessageDescriptor *descriptor, struct bytes_view data)
{
    ProtobufCMessage *message = NULL;
    struct err_detail why = {0};
    enum err err = e2e_wire_unpack(descriptor, data, 64 * 1024, "thing", &message, &why);
    if (err == ERR_OK) {
        struct bytes again = {0};
        assert_int_equal(e2e_wire_append(message, &again), ERR_OK);
        assert_true(bytes_view_equal(bytes_as_view(&again), data));
        bytes_free(&again);
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        assert_null(message);
        assert_non_null(strstr(why.message, "thing"));
    }
    return err;
}

static enum err
unpack_member(const char *data, size_t size)
{
    return unpack(&fc__e2e__v1__room_member__descriptor, bytes_view_of(data, size));
}

static void
test_the_one_encoding_is_taken(void **state)
{
    (void)state;
    assert_int_equal(unpack_member("", 0), ERR_OK);
    assert_int_equal(unpack_member("\x0a\x01x\x12\x02\xc3\xa4\x18\x03\x20\x01\x2a\x02\x10\x07", 15), ERR_OK);
    assert_int_equal(unpack_member("\x18\x80\x01", 3), ERR_OK); // a role that is not known is another's business
    assert_int_equal(unpack_member("\x2a\x00", 2), ERR_OK);     // an empty message is there
}

static void
test_other_encodings_of_the_same_are_refused(void **state)
{
    (void)state;
    assert_int_equal(unpack_member("\x18\x83\x00", 3), ERR_INVALID);             // a long varint
    assert_int_equal(unpack_member("\x98\x00\x03", 3), ERR_INVALID);             // a long tag
    assert_int_equal(unpack_member("\x18\x00", 2), ERR_INVALID);                 // a default
    assert_int_equal(unpack_member("\x0a\x00", 2), ERR_INVALID);                 // and an empty one
    assert_int_equal(unpack_member("\x20\x01\x18\x03", 4), ERR_INVALID);         // another order
    assert_int_equal(unpack_member("\x18\x02\x18\x03", 4), ERR_INVALID);         // twice
    assert_int_equal(unpack_member("\x2a\x02\x10\x07\x2a\x00", 6), ERR_INVALID); // in parts
    assert_int_equal(unpack_member("\x20\x02", 2), ERR_INVALID);                 // more than true
    assert_int_equal(unpack_member("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11), ERR_INVALID); // over 64 bits
}

static void
test_what_is_not_known_or_broken_is_refused(void **state)
{
    (void)state;
    assert_int_equal(unpack_member("\x38\x01", 2), ERR_INVALID);         // an unknown field
    assert_int_equal(unpack_member("\x2a\x02\x38\x01", 4), ERR_INVALID); // inside
    assert_int_equal(unpack_member("\x02\x00", 2), ERR_INVALID);         // number 0
    assert_int_equal(unpack_member("\x1a\x01\x03", 3), ERR_INVALID);     // another type
    assert_int_equal(unpack_member("\x1d\x03\x00\x00\x00", 5), ERR_INVALID);
    assert_int_equal(unpack_member("\x10\x03", 2), ERR_INVALID);
    assert_int_equal(unpack_member("\x0b\x0c", 2), ERR_INVALID);     // a group
    assert_int_equal(unpack_member("\x12\x01\xff", 3), ERR_INVALID); // not UTF-8
    assert_int_equal(unpack_member("\x12\x03"
                                   "a\0b",
                         5),
        ERR_INVALID);                                             // U+0000
    assert_int_equal(unpack_member("\x0a\x02x", 3), ERR_INVALID); // cut
    assert_int_equal(unpack_member("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), ERR_INVALID);
    assert_int_equal(unpack_member("\x18", 1), ERR_INVALID);
    assert_int_equal(unpack_member("\x80", 1), ERR_INVALID);
}

static void
test_limits(void **state)
{
    (void)state;
    static uint8_t data[64 * 1024 + 1];
    // Empty changes cost 2 bytes here and 50 times that in memory.
    for (size_t i = 0; i < sizeof(data) - 1; i += 2) {
        data[i] = 0x42;
    }
    const ProtobufCMessageDescriptor *entry = &fc__e2e__v1__room_entry__descriptor;
    assert_int_equal(unpack(entry, bytes_view_of(data, 2 * 2000)), ERR_OK);
    assert_int_equal(unpack(entry, bytes_view_of(data, 2 * 3000)), ERR_INVALID);
    assert_int_equal(unpack(entry, bytes_view_of(data, sizeof(data) - 1)), ERR_INVALID);
    assert_int_equal(unpack(entry, bytes_view_of(data, sizeof(data))), ERR_TOO_BIG);
    // As many small changes as an entry may have.
    static const uint8_t set_role[] = {0x42, 24 - 2, 0x22, 24 - 4, 0x0a, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
        14, 15, 16, 0x10, 1};
    struct bytes changes = {0};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(bytes_append(&changes, bytes_view_of(set_role, sizeof(set_role))), ERR_OK);
    }
    assert_int_equal(unpack(entry, bytes_as_view(&changes)), ERR_OK);
    bytes_free(&changes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_one_encoding_is_taken),
        cmocka_unit_test(test_other_encodings_of_the_same_are_refused),
        cmocka_unit_test(test_what_is_not_known_or_broken_is_refused),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
