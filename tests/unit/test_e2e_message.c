#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_wire.h"

static uint8_t room_id[E2E_ID_BYTES] = {'r', 'o', 'o', 'm'};
static uint8_t user_id[E2E_ID_BYTES] = {'a', 'l', 'i', 'c', 'e'};
static uint8_t message_id[E2E_ID_BYTES] = {'1'};
static uint8_t log_head[E2E_HASH_BYTES] = {'h'};
static uint8_t seen_chain[E2E_HASH_BYTES] = {'c'};
static const uint8_t epoch_secret[E2E_SECRET_BYTES] = {0x55};
static struct e2e_keys keys;
static struct e2e_device device;
static struct e2e_user sender;

static int
make_sender(void **state)
{
    (void)state;
    if (e2e_keys_derive(bytes_view_of_text("test"), "device", &keys) != ERR_OK) {
        return -1;
    }
    memcpy(device.id, keys.id, E2E_ID_BYTES);
    memcpy(device.sign_key, keys.sign_public, CRYPTO_KEY_BYTES);
    memcpy(device.box_key, keys.box_public, CRYPTO_KEY_BYTES);
    device.added_seq = 1;
    memcpy(sender.id, user_id, E2E_ID_BYTES);
    sender.seq = 1;
    sender.devices = &device;
    sender.device_count = 1;
    return 0;
}

static ProtobufCBinaryData
field(uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.data = data, .len = size};
}

static Fc__E2e__V1__Header
header(void)
{
    Fc__E2e__V1__Header out = FC__E2E__V1__HEADER__INIT;
    out.suite = E2E_SUITE;
    out.room_id = field(room_id, E2E_ID_BYTES);
    out.epoch = 3;
    out.user_id = field(user_id, E2E_ID_BYTES);
    out.device_id = field(keys.id, E2E_ID_BYTES);
    out.message_id = field(message_id, E2E_ID_BYTES);
    out.created_at_ms = 1700000000000;
    out.log_head = field(log_head, E2E_HASH_BYTES);
    out.seen_seq = 41;
    out.seen_chain = field(seen_chain, E2E_HASH_BYTES);
    return out;
}

static void
seal(struct bytes_view content, struct bytes *sealed)
{
    Fc__E2e__V1__Header of = header();
    assert_int_equal(e2e_message_seal(&of, epoch_secret, keys.sign_private, content, sealed), ERR_OK);
}

// Parses, verifies and opens, as a reader does.
static enum err
receive(struct bytes_view sealed, struct bytes *content)
{
    struct e2e_message message = {0};
    struct err_detail why = {0};
    enum err err = e2e_message_parse(sealed, &message, &why);
    if (err != ERR_OK) {
        assert_true(why.message[0] != '\0');
        return err;
    }
    err = e2e_message_verify(&message, &sender);
    if (err == ERR_OK) {
        err = e2e_message_open(&message, epoch_secret, content);
    }
    e2e_message_deinit(&message);
    e2e_message_deinit(&message);
    return err;
}

static void
test_messages_of_all_sizes_arrive(void **state)
{
    (void)state;
    static uint8_t content[E2E_CONTENT_MAX_BYTES + 1];
    memset(content, 0xc5, sizeof(content));
    static const size_t sizes[] = {0, 1, 59, 60, 61, 1019, 1020, 1021, 4096, 65536, E2E_CONTENT_MAX_BYTES};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct bytes sealed = {0};
        struct bytes opened = {0};
        seal(bytes_view_of(content, sizes[i]), &sealed);
        assert_true(sealed.size <= E2E_SEALED_MESSAGE_MAX_BYTES);
        assert_int_equal(receive(bytes_as_view(&sealed), &opened), ERR_OK);
        assert_true(bytes_view_equal(bytes_as_view(&opened), bytes_view_of(content, sizes[i])));
        bytes_free(&opened);
        bytes_free(&sealed);
    }
    struct bytes sealed = {0};
    Fc__E2e__V1__Header of = header();
    assert_int_equal(
        e2e_message_seal(&of, epoch_secret, keys.sign_private, bytes_view_of(content, sizeof(content)), &sealed),
        ERR_TOO_BIG);
    assert_int_equal(sealed.size, 0);
}

static void
test_sizes_are_padded_in_few_steps(void **state)
{
    (void)state;
    assert_int_equal(e2e_message_padded_size(0), 64);
    assert_int_equal(e2e_message_padded_size(60), 64);
    assert_int_equal(e2e_message_padded_size(61), 128);
    assert_int_equal(e2e_message_padded_size(1020), 1024);
    assert_int_equal(e2e_message_padded_size(1021), 1088);
    assert_int_equal(e2e_message_padded_size(2044), 2048);
    assert_int_equal(e2e_message_padded_size(2045), 2176);
    assert_int_equal(e2e_message_padded_size(65532), 65536);
    assert_int_equal(e2e_message_padded_size(65533), 67584);
    size_t before = 0;
    size_t steps = 0;
    for (size_t size = 0; size <= E2E_CONTENT_MAX_BYTES; size++) {
        size_t padded = e2e_message_padded_size(size);
        assert_true(padded >= size + 4 && padded >= before);
        assert_true(padded - size - 4 < 64 || (padded - size - 4) * 100 < 12 * (size + 4));
        steps += padded != before;
        before = padded;
    }
    assert_true(steps < 150);
}

static void
test_a_message_cut_or_changed_anywhere_is_refused(void **state)
{
    (void)state;
    struct bytes sealed = {0};
    struct bytes opened = {0};
    seal(bytes_view_of_text("hello"), &sealed);
    for (size_t i = 0; i < sealed.size; i++) {
        assert_int_not_equal(receive(bytes_view_of(sealed.data, i), &opened), ERR_OK);
        for (unsigned bit = 0; bit < 8; bit++) {
            sealed.data[i] ^= (uint8_t)(1U << bit);
            assert_int_not_equal(receive(bytes_as_view(&sealed), &opened), ERR_OK);
            sealed.data[i] ^= (uint8_t)(1U << bit);
        }
    }
    assert_int_equal(bytes_append(&sealed, bytes_view_of("\x20\x01", 2)), ERR_OK); // an unknown field
    assert_int_equal(receive(bytes_as_view(&sealed), &opened), ERR_INVALID);
    assert_int_equal(opened.size, 0);
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
test_headers_that_say_nonsense_are_refused(void **state)
{
    (void)state;
    struct bytes sealed = {0};
    for (int i = 0; i < 14; i++) {
        Fc__E2e__V1__Header of = header();
        switch (i) {
        case 0:
            of.suite = 2;
            break;
        case 1:
            of.room_id.len = 15;
            break;
        case 2:
            of.user_id.len = 0;
            break;
        case 3:
            of.device_id.len = 15;
            break;
        case 4:
            of.message_id.len = 15;
            break;
        case 5:
            of.epoch = 0;
            break;
        case 6:
            of.log_head.len = 0;
            break;
        case 7:
            of.log_head.len = 31;
            break;
        case 8:
            of.seen_chain.len = 0;
            break;
        case 9:
            of.seen_seq = 0;
            break;
        case 10:
            of.type = (Fc__E2e__V1__Type)2;
            break;
        case 11:
            of.type = FC__E2E__V1__TYPE__DELETE;
            break; // of what?
        case 12:
            of.target_seq = 5;
            break; // for what?
        default:
            of.suite = 0;
            break;
        }
        assert_int_equal(e2e_message_seal(&of, epoch_secret, keys.sign_private, bytes_view_of_text("hello"), &sealed),
            ERR_INVALID);
        assert_int_equal(sealed.size, 0);

        // The same from somebody who does not care.
        struct bytes packed = {0};
        struct bytes wire_bytes = {0};
        uint8_t rest[256] = {0};
        struct e2e_message message = {0};
        struct err_detail why = {0};
        Fc__E2e__V1__SealedMessage wire = FC__E2E__V1__SEALED_MESSAGE__INIT;
        assert_int_equal(e2e_wire_append(&of.base, &packed), ERR_OK);
        wire.header = field(packed.data, packed.size);
        wire.sealed = field(rest, sizeof(rest));
        wire.signature = field(rest, CRYPTO_SIGNATURE_BYTES);
        assert_int_equal(e2e_wire_append(&wire.base, &wire_bytes), ERR_OK);
        assert_int_equal(e2e_message_parse(bytes_as_view(&wire_bytes), &message, &why), ERR_INVALID);
        assert_true(why.message[0] != '\0');
        assert_null(message.header);
        bytes_free(&wire_bytes);
        bytes_free(&packed);
    }
    Fc__E2e__V1__Header of = header();
    of.type = FC__E2E__V1__TYPE__DELETE;
    of.target_seq = 5;
    of.seen_seq = 0;
    of.seen_chain.len = 0;
    assert_int_equal(e2e_message_seal(&of, epoch_secret, keys.sign_private, bytes_view_of(NULL, 0), &sealed), ERR_OK);
    struct bytes opened = {0};
    assert_int_equal(receive(bytes_as_view(&sealed), &opened), ERR_OK);
    assert_int_equal(opened.size, 0);
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
test_what_is_too_large_is_not_parsed(void **state)
{
    (void)state;
    struct e2e_message message = {0};
    struct err_detail why = {0};
    static uint8_t large[E2E_SEALED_MESSAGE_MAX_BYTES + 1];
    assert_int_equal(e2e_message_parse(bytes_view_of(large, sizeof(large)), &message, &why), ERR_TOO_BIG);
    assert_int_equal(e2e_message_parse(bytes_view_of(NULL, 0), &message, &why), ERR_INVALID);
}

// A member who knows the epoch's secret cannot speak for others.
static void
test_only_the_sender_can_send(void **state)
{
    (void)state;
    struct bytes sealed = {0};
    struct bytes opened = {0};
    struct e2e_keys mallory;
    Fc__E2e__V1__Header of = header();
    assert_int_equal(e2e_keys_generate(&mallory), ERR_OK);
    assert_int_equal(e2e_message_seal(&of, epoch_secret, mallory.sign_private, bytes_view_of_text("hello"), &sealed),
        ERR_OK);
    assert_int_equal(receive(bytes_as_view(&sealed), &opened), ERR_CORRUPT);

    bytes_clear(&sealed);
    of.device_id = field(mallory.id, E2E_ID_BYTES);
    assert_int_equal(e2e_message_seal(&of, epoch_secret, mallory.sign_private, bytes_view_of_text("hello"), &sealed),
        ERR_OK);
    assert_int_equal(receive(bytes_as_view(&sealed), &opened), ERR_NOT_FOUND);

    bytes_clear(&sealed);
    of = header();
    of.user_id = field(room_id, E2E_ID_BYTES);
    assert_int_equal(e2e_message_seal(&of, epoch_secret, keys.sign_private, bytes_view_of_text("hello"), &sealed),
        ERR_OK);
    assert_int_equal(receive(bytes_as_view(&sealed), &opened), ERR_NOT_FOUND);
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
test_only_those_with_the_secret_read(void **state)
{
    (void)state;
    struct bytes sealed = {0};
    struct bytes opened = {0};
    struct e2e_message message = {0};
    const uint8_t other_secret[E2E_SECRET_BYTES] = {0x56};
    seal(bytes_view_of_text("hello"), &sealed);
    assert_int_equal(e2e_message_parse(bytes_as_view(&sealed), &message, NULL), ERR_OK);
    assert_int_equal(e2e_message_open(&message, other_secret, &opened), ERR_CORRUPT);
    assert_int_equal(opened.size, 0);
    e2e_message_deinit(&message);
    bytes_free(&opened);
    bytes_free(&sealed);
}

static void
test_a_report_opens_one_message(void **state)
{
    (void)state;
    struct bytes sealed = {0};
    struct bytes other_sealed = {0};
    struct bytes opened = {0};
    struct e2e_message message = {0};
    struct e2e_message other = {0};
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    seal(bytes_view_of_text("hello"), &sealed);
    seal(bytes_view_of_text("hello"), &other_sealed);
    assert_int_equal(e2e_message_parse(bytes_as_view(&sealed), &message, NULL), ERR_OK);
    assert_int_equal(e2e_message_parse(bytes_as_view(&other_sealed), &other, NULL), ERR_OK);
    assert_int_equal(e2e_message_key(&message, epoch_secret, key), ERR_OK);
    assert_int_equal(e2e_message_open_with_key(&message, key, &opened), ERR_OK);
    assert_true(bytes_view_equal(bytes_as_view(&opened), bytes_view_of_text("hello")));
    assert_int_equal(e2e_message_open_with_key(&other, key, &opened), ERR_CORRUPT);
    e2e_message_deinit(&other);
    e2e_message_deinit(&message);
    bytes_free(&opened);
    bytes_free(&other_sealed);
    bytes_free(&sealed);
}

// Seals these bytes as a message's padded content, and opens it.
static enum err
open_padded(struct bytes_view padded)
{
    struct bytes packed = {0};
    struct bytes sealed = {0};
    struct bytes wire_bytes = {0};
    struct bytes opened = {0};
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {0};
    Fc__E2e__V1__Header of = header();
    assert_int_equal(e2e_wire_append(&of.base, &packed), ERR_OK);
    assert_int_equal(e2e_derive(epoch_secret, E2E_LABEL_SENDER, bytes_view_of(keys.id, E2E_ID_BYTES), secret), ERR_OK);
    assert_int_equal(e2e_seal(secret, E2E_LABEL_MESSAGE, bytes_as_view(&packed), padded, &sealed), ERR_OK);
    assert_int_equal(
        e2e_sign(keys.sign_private, E2E_CONTEXT_MESSAGE, bytes_as_view(&packed), bytes_as_view(&sealed), signature),
        ERR_OK);
    Fc__E2e__V1__SealedMessage wire = FC__E2E__V1__SEALED_MESSAGE__INIT;
    wire.header = field(packed.data, packed.size);
    wire.sealed = field(sealed.data, sealed.size);
    wire.signature = field(signature, sizeof(signature));
    assert_int_equal(e2e_wire_append(&wire.base, &wire_bytes), ERR_OK);
    enum err err = receive(bytes_as_view(&wire_bytes), &opened);
    assert_true(err == ERR_OK || opened.size == 0);
    bytes_free(&opened);
    bytes_free(&wire_bytes);
    bytes_free(&sealed);
    bytes_free(&packed);
    return err;
}

static void
test_padding_that_is_none_is_refused(void **state)
{
    (void)state;
    uint8_t padded[64] = {0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    assert_int_equal(open_padded(bytes_view_of(padded, sizeof(padded))), ERR_OK);
    padded[63] = 1;
    assert_int_equal(open_padded(bytes_view_of(padded, sizeof(padded))), ERR_CORRUPT);
    padded[63] = 0;
    padded[3] = 4; // the "o" is padding then
    assert_int_equal(open_padded(bytes_view_of(padded, sizeof(padded))), ERR_CORRUPT);
    padded[3] = 60;
    assert_int_equal(open_padded(bytes_view_of(padded, sizeof(padded))), ERR_OK);
    padded[3] = 61;
    assert_int_equal(open_padded(bytes_view_of(padded, sizeof(padded))), ERR_CORRUPT);
    padded[0] = 0xff;
    assert_int_equal(open_padded(bytes_view_of(padded, sizeof(padded))), ERR_CORRUPT);
    assert_int_equal(open_padded(bytes_view_of(padded, 3)), ERR_INVALID); // not even a length
}

static void
test_the_chain_can_go_on_with_a_hash(void **state)
{
    (void)state;
    const uint8_t zeros[E2E_HASH_BYTES] = {0};
    uint8_t hash[E2E_HASH_BYTES];
    uint8_t with_bytes[E2E_HASH_BYTES];
    uint8_t with_hash[E2E_HASH_BYTES];
    uint8_t expected[E2E_HASH_BYTES];
    uint8_t both[2 * E2E_HASH_BYTES] = {0};
    struct bytes_view message = bytes_view_of_text("sealed");
    assert_int_equal(digest_of(DIGEST_SHA256, message, hash), ERR_OK);
    assert_int_equal(e2e_message_chain(zeros, message, with_bytes), ERR_OK);
    assert_int_equal(e2e_message_chain_hash(zeros, hash, with_hash), ERR_OK);
    memcpy(both + E2E_HASH_BYTES, hash, E2E_HASH_BYTES);
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_view_of(both, sizeof(both)), expected), ERR_OK);
    assert_memory_equal(with_bytes, expected, E2E_HASH_BYTES);
    assert_memory_equal(with_hash, expected, E2E_HASH_BYTES);
    // In place.
    assert_int_equal(e2e_message_chain(with_bytes, message, with_bytes), ERR_OK);
    assert_memory_not_equal(with_bytes, expected, E2E_HASH_BYTES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_of_all_sizes_arrive),
        cmocka_unit_test(test_sizes_are_padded_in_few_steps),
        cmocka_unit_test(test_a_message_cut_or_changed_anywhere_is_refused),
        cmocka_unit_test(test_headers_that_say_nonsense_are_refused),
        cmocka_unit_test(test_what_is_too_large_is_not_parsed),
        cmocka_unit_test(test_only_the_sender_can_send),
        cmocka_unit_test(test_only_those_with_the_secret_read),
        cmocka_unit_test(test_a_report_opens_one_message),
        cmocka_unit_test(test_padding_that_is_none_is_refused),
        cmocka_unit_test(test_the_chain_can_go_on_with_a_hash),
    };
    return cmocka_run_group_tests(tests, make_sender, NULL);
}
