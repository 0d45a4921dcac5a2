#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "e2e/e2e_user.h"
#include "e2e/e2e_wire.h"

#include "fc/e2e/v1/chain.pb-c.h"

enum {
    CHANGES_MAX = E2E_USER_CHANGES_MAX + 1,
};

typedef Fc__E2e__V1__UserChange user_change;

// An entry in the making: fields are set or broken by the test, and then it is signed.
struct draft {
    Fc__E2e__V1__UserEntry entry;
    user_change changes[CHANGES_MAX];
    user_change *change_addresses[CHANGES_MAX];
    Fc__E2e__V1__Identity identity;
    Fc__E2e__V1__Device devices[CHANGES_MAX];
    uint8_t device_ids[CHANGES_MAX][E2E_ID_BYTES];
    uint8_t identity_public[CRYPTO_KEY_BYTES];
    uint8_t head_hash[E2E_HASH_BYTES];
};

static uint8_t alice_id[E2E_ID_BYTES] = {'a', 'l', 'i', 'c', 'e'};
static uint8_t bob_id[E2E_ID_BYTES] = {'b', 'o', 'b'};
static char alice_name[] = "alice";
static char device_name[] = "laptop";
static uint8_t identity_private[CRYPTO_KEY_BYTES] = {1};
static uint8_t second_private[CRYPTO_KEY_BYTES] = {2};
static uint8_t sign_public[CRYPTO_KEY_BYTES];
static uint8_t box_public[CRYPTO_KEY_BYTES];

static int
make_keys(void **state)
{
    (void)state;
    const uint8_t private_key[CRYPTO_KEY_BYTES] = {3};
    assert_int_equal(crypto_sign_public(private_key, sign_public), ERR_OK);
    assert_int_equal(crypto_box_public(private_key, box_public), ERR_OK);
    return 0;
}

// The next entry of this chain, without changes.
static void
draft_begin(struct draft *draft, const struct e2e_user *user)
{
    *draft = (struct draft){.entry = FC__E2E__V1__USER_ENTRY__INIT};
    memcpy(draft->head_hash, user->head_hash, E2E_HASH_BYTES);
    draft->entry.suite = E2E_SUITE;
    draft->entry.user_id = (ProtobufCBinaryData){.data = alice_id, .len = E2E_ID_BYTES};
    draft->entry.seq = user->seq + 1;
    draft->entry.prev_hash =
        (ProtobufCBinaryData){.data = draft->head_hash, .len = user->seq == 0 ? 0 : E2E_HASH_BYTES};
    draft->entry.created_at_ms = 1700000000000;
    draft->entry.changes = draft->change_addresses;
}

static user_change *
draft_change(struct draft *draft)
{
    assert_true(draft->entry.n_changes < CHANGES_MAX);
    user_change *change = &draft->changes[draft->entry.n_changes];
    *change = (user_change)FC__E2E__V1__USER_CHANGE__INIT;
    draft->change_addresses[draft->entry.n_changes++] = change;
    return change;
}

static Fc__E2e__V1__Identity *
draft_identity(struct draft *draft, const uint8_t private_key[CRYPTO_KEY_BYTES])
{
    user_change *change = draft_change(draft);
    assert_int_equal(crypto_sign_public(private_key, draft->identity_public), ERR_OK);
    draft->identity = (Fc__E2e__V1__Identity)FC__E2E__V1__IDENTITY__INIT;
    draft->identity.user_name = alice_name;
    draft->identity.identity_key = (ProtobufCBinaryData){.data = draft->identity_public, .len = CRYPTO_KEY_BYTES};
    change->kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
    change->set_identity = &draft->identity;
    return &draft->identity;
}

static Fc__E2e__V1__Device *
draft_device(struct draft *draft, unsigned number)
{
    size_t index = draft->entry.n_changes;
    user_change *change = draft_change(draft);
    Fc__E2e__V1__Device *device = &draft->devices[index];
    *device = (Fc__E2e__V1__Device)FC__E2E__V1__DEVICE__INIT;
    bytes_store_be32(draft->device_ids[index], number);
    device->device_id = (ProtobufCBinaryData){.data = draft->device_ids[index], .len = E2E_ID_BYTES};
    device->sign_key = (ProtobufCBinaryData){.data = sign_public, .len = CRYPTO_KEY_BYTES};
    device->box_key = (ProtobufCBinaryData){.data = box_public, .len = CRYPTO_KEY_BYTES};
    device->name = device_name;
    change->kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    change->add_device = device;
    return device;
}

static user_change *
draft_revoke(struct draft *draft, unsigned number)
{
    size_t index = draft->entry.n_changes;
    user_change *change = draft_change(draft);
    bytes_store_be32(draft->device_ids[index], number);
    change->kind_case = FC__E2E__V1__USER_CHANGE__KIND_REVOKE_DEVICE;
    change->revoke_device = (ProtobufCBinaryData){.data = draft->device_ids[index], .len = E2E_ID_BYTES};
    return change;
}

static enum err
apply_body(struct e2e_user *user, struct bytes_view body, const uint8_t private_key[CRYPTO_KEY_BYTES])
{
    uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {0};
    struct err_detail why = {0};
    assert_int_equal(e2e_sign(private_key, E2E_CONTEXT_USER, body, bytes_view_of(NULL, 0), signature), ERR_OK);
    struct e2e_user before = *user;
    enum err err = e2e_user_apply(user, alice_id, body, bytes_view_of(signature, sizeof(signature)), &why);
    if (err != ERR_OK) {
        assert_true(why.message[0] != '\0');
        assert_memory_equal(user, &before, sizeof(before)); // nothing has changed
    }
    return err;
}

static enum err
apply(struct e2e_user *user, const struct draft *draft, const uint8_t private_key[CRYPTO_KEY_BYTES])
{
    struct bytes body = {0};
    assert_int_equal(e2e_wire_append(&draft->entry.base, &body), ERR_OK);
    enum err err = apply_body(user, bytes_as_view(&body), private_key);
    bytes_free(&body);
    return err;
}

// Alice with devices 1 and 2.
static void
make_alice(struct e2e_user *user)
{
    struct draft draft;
    *user = (struct e2e_user){0};
    draft_begin(&draft, user);
    (void)draft_identity(&draft, identity_private);
    (void)draft_device(&draft, 1);
    draft_device(&draft, 2)->is_recovery = true;
    assert_int_equal(apply(user, &draft, identity_private), ERR_OK);
}

static const struct e2e_device *
device_of(const struct e2e_user *user, unsigned number)
{
    uint8_t id[E2E_ID_BYTES] = {0};
    bytes_store_be32(id, number);
    return e2e_user_device(user, id);
}

static void
test_a_chain_from_sign_up_to_a_revoked_device(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    make_alice(&user);
    assert_int_equal(user.seq, 1);
    assert_int_equal(user.identity_seq, 1);
    assert_string_equal(user.name, "alice");
    assert_memory_equal(user.id, alice_id, E2E_ID_BYTES);
    assert_int_equal(user.device_count, 2);
    assert_false(device_of(&user, 1)->is_recovery);
    assert_true(device_of(&user, 2)->is_recovery);
    assert_string_equal(device_of(&user, 1)->name, "laptop");
    assert_memory_equal(device_of(&user, 1)->box_key, box_public, CRYPTO_KEY_BYTES);
    assert_null(device_of(&user, 3));

    draft_begin(&draft, &user);
    (void)draft_revoke(&draft, 1);
    (void)draft_device(&draft, 3);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    assert_int_equal(user.seq, 2);
    const struct e2e_device *revoked = device_of(&user, 1);
    assert_true(revoked->is_revoked);
    assert_true(e2e_device_is_active_at(revoked, 1));
    assert_false(e2e_device_is_active_at(revoked, 2));
    assert_false(e2e_device_is_active_at(device_of(&user, 3), 1));
    assert_true(e2e_device_is_active_at(device_of(&user, 3), 2));
    assert_true(e2e_device_is_active_at(device_of(&user, 3), UINT64_MAX));
    e2e_user_deinit(&user);
    e2e_user_deinit(&user);
}

static void
test_a_reset_ends_all_devices_and_is_signed_by_the_new_key(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    make_alice(&user);
    draft_begin(&draft, &user);
    (void)draft_identity(&draft, second_private);
    (void)draft_device(&draft, 3);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CORRUPT);
    assert_int_equal(apply(&user, &draft, second_private), ERR_OK);
    assert_int_equal(user.identity_seq, 2);
    assert_true(device_of(&user, 1)->is_revoked);
    assert_true(device_of(&user, 2)->is_revoked);
    assert_false(device_of(&user, 3)->is_revoked);
    // From now on the new key signs.
    draft_begin(&draft, &user);
    (void)draft_revoke(&draft, 3);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CORRUPT);
    assert_int_equal(apply(&user, &draft, second_private), ERR_OK);
    // An id is never used again, not even after a reset.
    draft_begin(&draft, &user);
    (void)draft_device(&draft, 1);
    assert_int_equal(apply(&user, &draft, second_private), ERR_INVALID);
    e2e_user_deinit(&user);
}

static void
test_only_the_next_entry_is_taken(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    make_alice(&user);
    draft_begin(&draft, &user);
    (void)draft_device(&draft, 3);
    draft.entry.seq = 1;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.entry.seq = 3;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.entry.seq = 2;
    draft.head_hash[31] ^= 1;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.head_hash[31] ^= 1;
    draft.entry.prev_hash.len = 0;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.entry.prev_hash.len = 31;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.entry.prev_hash.len = E2E_HASH_BYTES;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    e2e_user_deinit(&user);
}

static void
test_the_first_entry_sets_the_identity(void **state)
{
    (void)state;
    struct e2e_user user = {0};
    struct draft draft;
    draft_begin(&draft, &user);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID); // no changes
    (void)draft_device(&draft, 1);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    (void)draft_identity(&draft, identity_private);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID); // not in front

    draft_begin(&draft, &user);
    (void)draft_identity(&draft, identity_private);
    draft.entry.prev_hash.len = E2E_HASH_BYTES;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.entry.prev_hash.len = 0;
    draft.entry.seq = 0;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_CONFLICT);
    draft.entry.seq = 1;
    draft.entry.suite = 2;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    draft.entry.suite = E2E_SUITE;
    draft.entry.user_id.data = bob_id;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    draft.entry.user_id = (ProtobufCBinaryData){.data = alice_id, .len = E2E_ID_BYTES - 1};
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    draft.entry.user_id.len = E2E_ID_BYTES;
    assert_int_equal(apply(&user, &draft, second_private), ERR_CORRUPT);
    assert_int_equal(user.seq, 0);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    e2e_user_deinit(&user);
}

static void
test_identities_that_are_none_are_refused(void **state)
{
    (void)state;
    struct e2e_user user = {0};
    struct draft draft;
    char upper_case[] = "Alice";
    char empty[] = "";
    draft_begin(&draft, &user);
    Fc__E2e__V1__Identity *identity = draft_identity(&draft, identity_private);
    identity->user_name = upper_case;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    identity->user_name = empty;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    identity->user_name = alice_name;
    identity->identity_key.len = CRYPTO_KEY_BYTES - 1;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    identity->identity_key.len = CRYPTO_KEY_BYTES;
    memset(draft.identity_public, 0, CRYPTO_KEY_BYTES);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    e2e_user_deinit(&user);
}

static void
test_resets_that_are_none_are_refused(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    char other_name[] = "mallory";
    make_alice(&user);
    draft_begin(&draft, &user);
    (void)draft_identity(&draft, identity_private);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID); // the same key

    draft_begin(&draft, &user);
    draft_identity(&draft, second_private)->user_name = other_name;
    assert_int_equal(apply(&user, &draft, second_private), ERR_INVALID);

    draft_begin(&draft, &user);
    (void)draft_device(&draft, 3);
    (void)draft_identity(&draft, second_private);
    assert_int_equal(apply(&user, &draft, second_private), ERR_INVALID); // not in front
    e2e_user_deinit(&user);
}

static void
test_devices_that_are_none_are_refused(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    uint8_t zeros[CRYPTO_KEY_BYTES] = {0};
    char long_name[E2E_DEVICE_NAME_MAX_BYTES + 2];
    memset(long_name, 'n', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    make_alice(&user);
    draft_begin(&draft, &user);
    Fc__E2e__V1__Device *device = draft_device(&draft, 3);
    device->device_id.len = E2E_ID_BYTES + 1;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    device->device_id.len = E2E_ID_BYTES;
    device->sign_key.len = 31;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    device->sign_key = (ProtobufCBinaryData){.data = zeros, .len = sizeof(zeros)};
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    device->sign_key.data = sign_public;
    device->box_key.len = 0;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    device->box_key = (ProtobufCBinaryData){.data = zeros, .len = sizeof(zeros)};
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    device->box_key.data = box_public;
    device->name = long_name;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    long_name[E2E_DEVICE_NAME_MAX_BYTES] = '\0';
    (void)draft_device(&draft, 3);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID); // twice
    draft.entry.n_changes = 1;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    e2e_user_deinit(&user);
}

static void
test_revocations_of_nothing_are_refused(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    make_alice(&user);
    draft_begin(&draft, &user);
    user_change *change = draft_revoke(&draft, 9);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    change->revoke_device.len = 15;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);

    draft_begin(&draft, &user);
    (void)draft_revoke(&draft, 1);
    (void)draft_revoke(&draft, 1);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);

    draft_begin(&draft, &user);
    (void)draft_device(&draft, 3);
    (void)draft_revoke(&draft, 3); // what an entry adds it does not end
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);

    draft_begin(&draft, &user);
    (void)draft_change(&draft); // of no kind
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    e2e_user_deinit(&user);
}

static void
test_limits(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    make_alice(&user);
    draft_begin(&draft, &user);
    for (unsigned i = 0; i < E2E_DEVICES_MAX - 1; i++) {
        (void)draft_device(&draft, 100 + i);
    }
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID); // one too many, with the two that are there
    draft.entry.n_changes--;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    assert_int_equal(user.device_count, E2E_DEVICES_MAX);

    draft_begin(&draft, &user);
    for (unsigned i = 0; i < CHANGES_MAX; i++) {
        (void)draft_revoke(&draft, 100 + i);
    }
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    e2e_user_deinit(&user);
}

static void
test_devices_that_ever_were_have_a_limit(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    make_alice(&user);
    unsigned number = 100;
    while (user.device_count + 1 < E2E_DEVICES_EVER_MAX) {
        draft_begin(&draft, &user);
        for (unsigned i = 0; i < E2E_USER_CHANGES_MAX / 2 && user.device_count + i + 1 < E2E_DEVICES_EVER_MAX; i++) {
            (void)draft_device(&draft, number + i);
        }
        unsigned count = (unsigned)draft.entry.n_changes;
        assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
        draft_begin(&draft, &user);
        for (unsigned i = 0; i < count; i++) {
            (void)draft_revoke(&draft, number++);
        }
        assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    }
    draft_begin(&draft, &user);
    (void)draft_device(&draft, number);
    (void)draft_device(&draft, number + 1);
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    draft.entry.n_changes = 1;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_OK);
    e2e_user_deinit(&user);
}

// Two readers could understand these differently, or one of them less.
static void
test_unusual_encodings_are_refused(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    struct bytes body = {0};
    make_alice(&user);
    draft_begin(&draft, &user);
    (void)draft_device(&draft, 3);
    assert_int_equal(e2e_wire_append(&draft.entry.base, &body), ERR_OK);
    static const char *const additions[] = {
        "\x78\x01",     // an unknown field
        "\x08\x01",     // `suite` once more
        "\x28\x81\x00", // `created_at_ms` once more, in a long form
        "\x32\x00",     // a change of no kind
    };
    for (size_t i = 0; i < sizeof(additions) / sizeof(additions[0]); i++) {
        size_t size = body.size;
        assert_int_equal(bytes_append(&body, bytes_view_of(additions[i], i == 2 ? 3 : 2)), ERR_OK);
        assert_int_equal(apply_body(&user, bytes_as_view(&body), identity_private), ERR_INVALID);
        body.size = size;
    }
    assert_memory_equal(body.data, "\x08\x01\x12\x10", 4); // suite, user_id
    body.data[0] = 0x10;                                   // `user_id` as a number
    assert_int_equal(apply_body(&user, bytes_as_view(&body), identity_private), ERR_INVALID);
    body.data[0] = 0x08;
    assert_int_equal(apply_body(&user, bytes_as_view(&body), identity_private), ERR_OK);
    bytes_free(&body);
    e2e_user_deinit(&user);
}

static void
test_unknown_fields_inside_and_broken_text_are_refused(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    uint8_t number[] = {5};
    char not_utf8[] = "laptop\xff";
    ProtobufCMessageUnknownField unknown = {.tag = 100,
        .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT,
        .len = sizeof(number),
        .data = number};
    make_alice(&user);
    draft_begin(&draft, &user);
    Fc__E2e__V1__Device *device = draft_device(&draft, 3);
    device->base.n_unknown_fields = 1;
    device->base.unknown_fields = &unknown;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);
    device->base.n_unknown_fields = 0;
    device->name = not_utf8;
    assert_int_equal(apply(&user, &draft, identity_private), ERR_INVALID);

    // A NUL in the name, which C would not see the rest of.
    struct bytes body = {0};
    device->name = device_name;
    assert_int_equal(e2e_wire_append(&draft.entry.base, &body), ERR_OK);
    uint8_t *name = memmem(body.data, body.size, "laptop", 6);
    assert_non_null(name);
    name[3] = '\0';
    assert_int_equal(apply_body(&user, bytes_as_view(&body), identity_private), ERR_INVALID);
    bytes_free(&body);
    e2e_user_deinit(&user);
}

static void
test_an_entry_cut_or_changed_anywhere_is_refused(void **state)
{
    (void)state;
    struct e2e_user user;
    struct draft draft;
    struct bytes body = {0};
    uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {0};
    struct bytes_view signature_view = bytes_view_of(signature, sizeof(signature));
    make_alice(&user);
    draft_begin(&draft, &user);
    (void)draft_device(&draft, 3);
    (void)draft_revoke(&draft, 2);
    assert_int_equal(e2e_wire_append(&draft.entry.base, &body), ERR_OK);
    assert_int_equal(
        e2e_sign(identity_private, E2E_CONTEXT_USER, bytes_as_view(&body), bytes_view_of(NULL, 0), signature), ERR_OK);
    for (size_t i = 0; i < body.size; i++) {
        assert_int_not_equal(e2e_user_apply(&user, alice_id, bytes_view_of(body.data, i), signature_view, NULL),
            ERR_OK);
        body.data[i] ^= 1;
        assert_int_not_equal(e2e_user_apply(&user, alice_id, bytes_as_view(&body), signature_view, NULL), ERR_OK);
        body.data[i] ^= 1;
    }
    assert_int_equal(e2e_user_apply(&user, bob_id, bytes_as_view(&body), signature_view, NULL), ERR_INVALID);
    assert_int_equal(e2e_user_apply(&user, alice_id, bytes_as_view(&body), bytes_view_of(signature, 63), NULL),
        ERR_CORRUPT);
    assert_int_equal(e2e_user_apply(&user, alice_id, bytes_as_view(&body), bytes_view_of(NULL, 0), NULL), ERR_CORRUPT);
    assert_int_equal(user.seq, 1);
    assert_int_equal(e2e_user_apply(&user, alice_id, bytes_as_view(&body), signature_view, NULL), ERR_OK);
    uint8_t hash[E2E_HASH_BYTES];
    assert_int_equal(digest_of(DIGEST_SHA256, bytes_as_view(&body), hash), ERR_OK);
    assert_memory_equal(user.head_hash, hash, sizeof(hash));
    bytes_free(&body);
    e2e_user_deinit(&user);
}

static void
test_an_entry_that_is_too_large_is_refused_unread(void **state)
{
    (void)state;
    struct e2e_user user = {0};
    static uint8_t large[E2E_USER_ENTRY_MAX_BYTES + 1];
    struct err_detail why = {0};
    uint8_t signature[CRYPTO_SIGNATURE_BYTES] = {0};
    assert_int_equal(e2e_user_apply(&user, alice_id, bytes_view_of(large, sizeof(large)),
                         bytes_view_of(signature, sizeof(signature)), &why),
        ERR_TOO_BIG);
    assert_true(why.message[0] != '\0');
}

static void
test_safety_numbers_are_the_same_on_both_sides(void **state)
{
    (void)state;
    struct e2e_user alice = {.identity_key = {1}};
    struct e2e_user bob = {.identity_key = {2}};
    memcpy(alice.id, alice_id, E2E_ID_BYTES);
    memcpy(bob.id, bob_id, E2E_ID_BYTES);
    char one[E2E_SAFETY_NUMBER_BYTES];
    char other[E2E_SAFETY_NUMBER_BYTES];
    assert_int_equal(e2e_user_safety_number(&alice, &bob, one), ERR_OK);
    assert_int_equal(e2e_user_safety_number(&bob, &alice, other), ERR_OK);
    assert_string_equal(one, other);
    assert_int_equal(strlen(one), E2E_SAFETY_NUMBER_BYTES - 1);
    for (size_t i = 0; i < strlen(one); i++) {
        assert_true(i % 6 == 5 ? one[i] == ' ' : one[i] >= '0' && one[i] <= '9');
    }
    bob.identity_key[31] ^= 1;
    assert_int_equal(e2e_user_safety_number(&alice, &bob, other), ERR_OK);
    assert_string_not_equal(one, other);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chain_from_sign_up_to_a_revoked_device),
        cmocka_unit_test(test_a_reset_ends_all_devices_and_is_signed_by_the_new_key),
        cmocka_unit_test(test_only_the_next_entry_is_taken),
        cmocka_unit_test(test_the_first_entry_sets_the_identity),
        cmocka_unit_test(test_identities_that_are_none_are_refused),
        cmocka_unit_test(test_resets_that_are_none_are_refused),
        cmocka_unit_test(test_devices_that_are_none_are_refused),
        cmocka_unit_test(test_revocations_of_nothing_are_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_devices_that_ever_were_have_a_limit),
        cmocka_unit_test(test_unusual_encodings_are_refused),
        cmocka_unit_test(test_unknown_fields_inside_and_broken_text_are_refused),
        cmocka_unit_test(test_an_entry_cut_or_changed_anywhere_is_refused),
        cmocka_unit_test(test_an_entry_that_is_too_large_is_refused_unread),
        cmocka_unit_test(test_safety_numbers_are_the_same_on_both_sides),
    };
    return cmocka_run_group_tests(tests, make_keys, NULL);
}
