// For tests: entries of users' chains, made by hand and signed, right or wrong as the test wants.
#ifndef TESTS_UNIT_CHAIN_SUPPORT_H
#define TESTS_UNIT_CHAIN_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "base/digest.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_user.h"

#include "fc/e2e/v1/chain.pb-c.h"

enum {
    CHAIN_BODY_MAX_BYTES = 4096,
    CHAIN_DEVICES_MAX = 4,
};

// chain_entry is what goes into an entry, and what comes out.
struct chain_entry {
    const uint8_t *user_id;
    uint64_t seq;
    const uint8_t *prev_hash; // of seq 2 and later
    const char *user_name;    // NULL: no identity is set
    const uint8_t *identity;  // the private key that signs
    const struct e2e_keys *added[CHAIN_DEVICES_MAX];
    const struct e2e_keys *recovery; // added as the way back
    const uint8_t *revoked;          // a device's id

    uint8_t body[CHAIN_BODY_MAX_BYTES];
    size_t body_size;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    uint8_t hash[E2E_HASH_BYTES];
};

static inline ProtobufCBinaryData
chain_lend(const uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static inline void
chain_device(const struct e2e_keys *keys, bool is_recovery, Fc__E2e__V1__Device *device,
    Fc__E2e__V1__UserChange *change)
{
    *device = (Fc__E2e__V1__Device)FC__E2E__V1__DEVICE__INIT;
    device->device_id = chain_lend(keys->id, sizeof(keys->id));
    device->sign_key = chain_lend(keys->sign_public, sizeof(keys->sign_public));
    device->box_key = chain_lend(keys->box_public, sizeof(keys->box_public));
    device->name = (char *)(uintptr_t) "test";
    device->is_recovery = is_recovery;
    *change = (Fc__E2e__V1__UserChange)FC__E2E__V1__USER_CHANGE__INIT;
    change->kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    change->add_device = device;
}

static inline void
chain_sign(struct chain_entry *entry)
{
    uint8_t public[CRYPTO_KEY_BYTES];
    Fc__E2e__V1__UserChange changes[CHAIN_DEVICES_MAX + 3];
    Fc__E2e__V1__UserChange *list[CHAIN_DEVICES_MAX + 3];
    Fc__E2e__V1__Device devices[CHAIN_DEVICES_MAX + 1];
    Fc__E2e__V1__Identity identity = FC__E2E__V1__IDENTITY__INIT;
    Fc__E2e__V1__UserEntry wire = FC__E2E__V1__USER_ENTRY__INIT;
    size_t count = 0;
    for (size_t i = 0; i < CHAIN_DEVICES_MAX + 3; i++) {
        changes[i] = (Fc__E2e__V1__UserChange)FC__E2E__V1__USER_CHANGE__INIT;
        list[i] = &changes[i];
    }
    assert_int_equal(crypto_sign_public(entry->identity, public), ERR_OK);
    if (entry->user_name != NULL) {
        identity.user_name = (char *)(uintptr_t)entry->user_name;
        identity.identity_key = chain_lend(public, sizeof(public));
        changes[count].kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
        changes[count++].set_identity = &identity;
    }
    for (size_t i = 0; i < CHAIN_DEVICES_MAX && entry->added[i] != NULL; i++) {
        chain_device(entry->added[i], false, &devices[i], &changes[count++]);
    }
    if (entry->recovery != NULL) {
        chain_device(entry->recovery, true, &devices[CHAIN_DEVICES_MAX], &changes[count++]);
    }
    if (entry->revoked != NULL) {
        changes[count].kind_case = FC__E2E__V1__USER_CHANGE__KIND_REVOKE_DEVICE;
        changes[count++].revoke_device = chain_lend(entry->revoked, E2E_ID_BYTES);
    }
    wire.suite = E2E_SUITE;
    wire.user_id = chain_lend(entry->user_id, E2E_ID_BYTES);
    wire.seq = entry->seq;
    wire.prev_hash = chain_lend(entry->prev_hash, entry->prev_hash != NULL ? E2E_HASH_BYTES : 0);
    wire.created_at_ms = 1700000000000;
    wire.changes = list;
    wire.n_changes = count;
    assert_true(fc__e2e__v1__user_entry__get_packed_size(&wire) <= sizeof(entry->body));
    entry->body_size = fc__e2e__v1__user_entry__pack(&wire, entry->body);
    struct bytes_view body = bytes_view_of(entry->body, entry->body_size);
    assert_int_equal(e2e_sign(entry->identity, E2E_CONTEXT_USER, body, bytes_view_of(NULL, 0), entry->signature),
        ERR_OK);
    assert_int_equal(digest_of(DIGEST_SHA256, body, entry->hash), ERR_OK);
}

// chain_next signs the entry after another by the same identity.
static inline void
chain_next(const struct chain_entry *before, struct chain_entry *entry)
{
    entry->user_id = before->user_id;
    entry->seq = before->seq + 1;
    entry->prev_hash = before->hash;
    if (entry->identity == NULL) {
        entry->identity = before->identity;
    }
    chain_sign(entry);
}

#endif
