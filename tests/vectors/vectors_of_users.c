// Vectors of users' chains.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/e2e_user.h"
#include "e2e/e2e_wire.h"
#include "e2e_vectors.h"

#include "fc/e2e/v1/chain.pb-c.h"

enum {
    CHANGES_MAX = 4,
};

// An entry and all that it points to.
struct draft {
    Fc__E2e__V1__UserEntry entry;
    Fc__E2e__V1__UserChange changes[CHANGES_MAX];
    Fc__E2e__V1__UserChange *change_addresses[CHANGES_MAX];
    Fc__E2e__V1__Identity identity;
    Fc__E2e__V1__Device devices[CHANGES_MAX];
    uint8_t ids[CHANGES_MAX][E2E_ID_BYTES];
    uint8_t keys[CHANGES_MAX][2 * CRYPTO_KEY_BYTES];
    char names[CHANGES_MAX][E2E_DEVICE_NAME_MAX_BYTES];
    uint8_t head_hash[E2E_HASH_BYTES];
};

static uint8_t user_id[E2E_ID_BYTES] = {'a', 'l', 'i', 'c', 'e'};
static char user_name[] = "alice";
static const uint8_t identities[2][CRYPTO_KEY_BYTES] = {{1}, {2}};

static ProtobufCBinaryData
field(uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.data = data, .len = size};
}

static void
begin(struct draft *draft, const struct e2e_user *user)
{
    *draft = (struct draft){.entry = FC__E2E__V1__USER_ENTRY__INIT};
    memcpy(draft->head_hash, user->head_hash, E2E_HASH_BYTES);
    draft->entry.suite = E2E_SUITE;
    draft->entry.user_id = field(user_id, sizeof(user_id));
    draft->entry.seq = user->seq + 1;
    draft->entry.prev_hash = field(draft->head_hash, user->seq == 0 ? 0 : E2E_HASH_BYTES);
    draft->entry.created_at_ms = 1700000000000;
    draft->entry.changes = draft->change_addresses;
}

static Fc__E2e__V1__UserChange *
change(struct draft *draft)
{
    must(draft->entry.n_changes < CHANGES_MAX ? ERR_OK : ERR_LIMIT, "change");
    Fc__E2e__V1__UserChange *made = &draft->changes[draft->entry.n_changes];
    *made = (Fc__E2e__V1__UserChange)FC__E2E__V1__USER_CHANGE__INIT;
    draft->change_addresses[draft->entry.n_changes++] = made;
    return made;
}

static void
set_identity(struct draft *draft, const uint8_t private_key[CRYPTO_KEY_BYTES])
{
    uint8_t *public_key = draft->keys[draft->entry.n_changes];
    Fc__E2e__V1__UserChange *made = change(draft);
    MUST(crypto_sign_public(private_key, public_key));
    draft->identity = (Fc__E2e__V1__Identity)FC__E2E__V1__IDENTITY__INIT;
    draft->identity.user_name = user_name;
    draft->identity.identity_key = field(public_key, CRYPTO_KEY_BYTES);
    made->kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
    made->set_identity = &draft->identity;
}

static Fc__E2e__V1__Device *
add_device(struct draft *draft, uint8_t number)
{
    size_t index = draft->entry.n_changes;
    uint8_t private_key[CRYPTO_KEY_BYTES];
    Fc__E2e__V1__UserChange *made = change(draft);
    Fc__E2e__V1__Device *device = &draft->devices[index];
    fill(draft->ids[index], E2E_ID_BYTES, number);
    fill(private_key, sizeof(private_key), number);
    MUST(crypto_sign_public(private_key, draft->keys[index]));
    MUST(crypto_box_public(private_key, draft->keys[index] + CRYPTO_KEY_BYTES));
    (void)snprintf(draft->names[index], sizeof(draft->names[index]), "device %u – ä", number);
    *device = (Fc__E2e__V1__Device)FC__E2E__V1__DEVICE__INIT;
    device->device_id = field(draft->ids[index], E2E_ID_BYTES);
    device->sign_key = field(draft->keys[index], CRYPTO_KEY_BYTES);
    device->box_key = field(draft->keys[index] + CRYPTO_KEY_BYTES, CRYPTO_KEY_BYTES);
    device->name = draft->names[index];
    made->kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    made->add_device = device;
    return device;
}

static void
revoke_device(struct draft *draft, uint8_t number)
{
    size_t index = draft->entry.n_changes;
    Fc__E2e__V1__UserChange *made = change(draft);
    fill(draft->ids[index], E2E_ID_BYTES, number);
    made->kind_case = FC__E2E__V1__USER_CHANGE__KIND_REVOKE_DEVICE;
    made->revoke_device = field(draft->ids[index], E2E_ID_BYTES);
}

// Writes the entry, signed, and checks that it has the effect that the vector claims.
static void
finish(struct vector_json *json, struct draft *draft, const char *more, size_t more_size,
    const uint8_t private_key[CRYPTO_KEY_BYTES], struct e2e_user *user, const char *what, enum err expected)
{
    struct bytes body = {0};
    struct err_detail why = {0};
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    MUST(e2e_wire_append(&draft->entry.base, &body));
    MUST(bytes_append(&body, bytes_view_of(more, more_size)));
    MUST(e2e_sign(private_key, E2E_CONTEXT_USER, bytes_as_view(&body), bytes_view_of(NULL, 0), signature));
    enum err err =
        e2e_user_apply(user, user_id, bytes_as_view(&body), bytes_view_of(signature, sizeof(signature)), &why);
    must(err == expected ? ERR_OK : ERR_INTERNAL, what);
    vector_json_begin(json, NULL, '{');
    vector_json_text(json, "what", what);
    if (expected == ERR_OK) {
        vector_json_hex(json, "signed_by", private_key, CRYPTO_KEY_BYTES);
    }
    vector_json_view(json, "body", bytes_as_view(&body));
    vector_json_hex(json, "signature", signature, sizeof(signature));
    vector_json_end(json, '}');
    bytes_free(&body);
}

static void
write_entries(struct vector_json *json, struct e2e_user *user)
{
    struct draft draft;
    vector_json_begin(json, "entries", '[');
    begin(&draft, user);
    set_identity(&draft, identities[0]);
    (void)add_device(&draft, 1);
    add_device(&draft, 2)->is_recovery = true;
    finish(json, &draft, NULL, 0, identities[0], user, "signs up with a device and a recovery key", ERR_OK);
    begin(&draft, user);
    revoke_device(&draft, 1);
    (void)add_device(&draft, 3);
    finish(json, &draft, NULL, 0, identities[0], user, "a device for another", ERR_OK);
    begin(&draft, user);
    set_identity(&draft, identities[1]);
    (void)add_device(&draft, 4);
    finish(json, &draft, NULL, 0, identities[1], user, "starts again with another identity", ERR_OK);
    vector_json_end(json, ']');
}

static void
write_user(struct vector_json *json, const struct e2e_user *user)
{
    vector_json_begin(json, "after", '{');
    vector_json_text(json, "user_name", user->name);
    vector_json_number(json, "seq", user->seq);
    vector_json_hex(json, "head_hash", user->head_hash, E2E_HASH_BYTES);
    vector_json_hex(json, "identity_key", user->identity_key, CRYPTO_KEY_BYTES);
    vector_json_number(json, "identity_seq", user->identity_seq);
    vector_json_begin(json, "devices", '[');
    for (size_t i = 0; i < user->device_count; i++) {
        const struct e2e_device *device = &user->devices[i];
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "device_id", device->id, E2E_ID_BYTES);
        vector_json_hex(json, "sign_key", device->sign_key, CRYPTO_KEY_BYTES);
        vector_json_hex(json, "box_key", device->box_key, CRYPTO_KEY_BYTES);
        vector_json_text(json, "name", device->name);
        vector_json_bool(json, "is_recovery", device->is_recovery);
        vector_json_number(json, "added_seq", device->added_seq);
        vector_json_number(json, "revoked_seq", device->revoked_seq);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
    vector_json_end(json, '}');
}

static void
write_refused(struct vector_json *json, struct e2e_user *user)
{
    struct draft draft;
    vector_json_begin(json, "refused", '[');
    begin(&draft, user);
    (void)add_device(&draft, 9);
    finish(json, &draft, NULL, 0, identities[0], user, "signed by the identity before", ERR_CORRUPT);
    finish(json, &draft, "\x78\x01", 2, identities[1], user, "an unknown field", ERR_INVALID);
    finish(json, &draft, "\x08\x01", 2, identities[1], user, "a field twice", ERR_INVALID);
    draft.entry.seq++;
    finish(json, &draft, NULL, 0, identities[1], user, "not the next number", ERR_CONFLICT);
    draft.entry.seq--;
    draft.entry.suite++;
    finish(json, &draft, NULL, 0, identities[1], user, "another suite", ERR_INVALID);
    draft.entry.suite--;
    draft.head_hash[0] ^= 1;
    finish(json, &draft, NULL, 0, identities[1], user, "after another entry", ERR_CONFLICT);
    draft.head_hash[0] ^= 1;
    draft.devices[0].box_key.len--;
    finish(json, &draft, NULL, 0, identities[1], user, "a key that is too short", ERR_INVALID);
    draft.devices[0].box_key.len++;
    memset(draft.devices[0].box_key.data, 0, CRYPTO_KEY_BYTES);
    finish(json, &draft, NULL, 0, identities[1], user, "a box key of small order", ERR_INVALID);
    begin(&draft, user);
    (void)add_device(&draft, 1);
    finish(json, &draft, NULL, 0, identities[1], user, "a device id of before", ERR_INVALID);
    begin(&draft, user);
    revoke_device(&draft, 3);
    finish(json, &draft, NULL, 0, identities[1], user, "revokes a device that has ended", ERR_INVALID);
    begin(&draft, user);
    (void)add_device(&draft, 9);
    set_identity(&draft, identities[0]);
    finish(json, &draft, NULL, 0, identities[0], user, "an identity that is not in front", ERR_INVALID);
    begin(&draft, user);
    finish(json, &draft, NULL, 0, identities[1], user, "no changes", ERR_INVALID);
    vector_json_end(json, ']');
}

void
write_user_chain(struct vector_json *json)
{
    struct e2e_user user = {0};
    vector_json_hex(json, "user_id", user_id, sizeof(user_id));
    write_entries(json, &user);
    write_user(json, &user);
    write_refused(json, &user);
    e2e_user_deinit(&user);
}
