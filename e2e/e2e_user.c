#include "e2e/e2e_user.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "e2e/e2e_wire.h"

#include "fc/e2e/v1/chain.pb-c.h"

void
e2e_user_deinit(struct e2e_user *user)
{
    free(user->devices);
    *user = (struct e2e_user){0};
}

static struct e2e_device *
find_device(const struct e2e_user *user, const uint8_t device_id[E2E_ID_BYTES])
{
    for (size_t i = 0; i < user->device_count; i++) {
        if (memcmp(user->devices[i].id, device_id, E2E_ID_BYTES) == 0) {
            return &user->devices[i];
        }
    }
    return NULL;
}

const struct e2e_device *
e2e_user_device(const struct e2e_user *user, const uint8_t device_id[E2E_ID_BYTES])
{
    return find_device(user, device_id);
}

bool
e2e_device_is_active_at(const struct e2e_device *device, uint64_t seq)
{
    return device->added_seq <= seq && (!device->is_revoked || seq < device->revoked_seq);
}

static bool
is_bytes(ProtobufCBinaryData field, size_t size)
{
    return field.len == size;
}

// Whose chain, and the next entry of it: before anything is looked at that the entry says.
static enum err
check_place(const struct e2e_user *user, const uint8_t user_id[E2E_ID_BYTES], const Fc__E2e__V1__UserEntry *entry,
    struct err_detail *why)
{
    if (entry->suite != E2E_SUITE) {
        return err_fail(why, ERR_INVALID, "the user entry is of suite %" PRIu32 "; only %d is known", entry->suite,
            E2E_SUITE);
    }
    if (!is_bytes(entry->user_id, E2E_ID_BYTES) || memcmp(entry->user_id.data, user_id, E2E_ID_BYTES) != 0 ||
        (user->seq > 0 && memcmp(user->id, user_id, E2E_ID_BYTES) != 0)) {
        return err_fail(why, ERR_INVALID, "the user entry is of another user's chain");
    }
    if (entry->seq != user->seq + 1) {
        return err_fail(why, ERR_CONFLICT, "the user entry is number %" PRIu64 "; the next one is %" PRIu64, entry->seq,
            user->seq + 1);
    }
    if (!is_bytes(entry->prev_hash, user->seq == 0 ? 0 : E2E_HASH_BYTES) ||
        (user->seq > 0 && memcmp(entry->prev_hash.data, user->head_hash, E2E_HASH_BYTES) != 0)) {
        return err_fail(why, ERR_CONFLICT, "the user entry does not follow the newest one");
    }
    if (entry->n_changes == 0 || entry->n_changes > E2E_USER_CHANGES_MAX) {
        return err_fail(why, ERR_INVALID, "the user entry has %zu changes; 1 to %d are allowed", entry->n_changes,
            E2E_USER_CHANGES_MAX);
    }
    if (user->seq == 0 && entry->changes[0]->kind_case != FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY) {
        return err_fail(why, ERR_INVALID, "a user's first entry has to begin with the identity");
    }
    return ERR_OK;
}

static void
revoke(struct e2e_device *device, uint64_t seq)
{
    device->is_revoked = true;
    device->revoked_seq = seq;
}

static enum err
set_identity(struct e2e_user *user, const Fc__E2e__V1__Identity *identity, uint64_t seq, struct err_detail *why)
{
    enum err err = text_check_user_name(identity->user_name, why);
    if (err != ERR_OK) {
        return err;
    }
    if (!is_bytes(identity->identity_key, CRYPTO_KEY_BYTES) ||
        crypto_sign_check(identity->identity_key.data) != ERR_OK) {
        return err_fail(why, ERR_INVALID, "the identity key is not an Ed25519 key");
    }
    if (user->seq > 0 && strcmp(user->name, identity->user_name) != 0) {
        return err_fail(why, ERR_INVALID, "the user entry changes the user's name");
    }
    if (user->seq > 0 && memcmp(user->identity_key, identity->identity_key.data, CRYPTO_KEY_BYTES) == 0) {
        return err_fail(why, ERR_INVALID, "the user entry resets the identity to the key that it has");
    }
    memcpy(user->name, identity->user_name, strlen(identity->user_name) + 1);
    memcpy(user->identity_key, identity->identity_key.data, CRYPTO_KEY_BYTES);
    user->identity_seq = seq;
    for (size_t i = 0; i < user->device_count; i++) {
        if (!user->devices[i].is_revoked) {
            revoke(&user->devices[i], seq);
        }
    }
    return ERR_OK;
}

static size_t
active_count(const struct e2e_user *user)
{
    size_t count = 0;
    for (size_t i = 0; i < user->device_count; i++) {
        count += user->devices[i].is_revoked ? 0 : 1;
    }
    return count;
}

static enum err
check_device(const struct e2e_user *user, const Fc__E2e__V1__Device *device, struct err_detail *why)
{
    if (!is_bytes(device->device_id, E2E_ID_BYTES)) {
        return err_fail(why, ERR_INVALID, "a device's id has %zu bytes, not %d", device->device_id.len, E2E_ID_BYTES);
    }
    // A box key that nothing can be sealed for would stop every rekey of its owner's rooms.
    if (!is_bytes(device->sign_key, CRYPTO_KEY_BYTES) || !is_bytes(device->box_key, CRYPTO_KEY_BYTES) ||
        crypto_sign_check(device->sign_key.data) != ERR_OK || crypto_box_check(device->box_key.data) != ERR_OK) {
        return err_fail(why, ERR_INVALID, "a device's keys are not an Ed25519 and an X25519 key");
    }
    if (strlen(device->name) > E2E_DEVICE_NAME_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a device's name has %zu bytes; at most %d are allowed", strlen(device->name),
            E2E_DEVICE_NAME_MAX_BYTES);
    }
    if (find_device(user, device->device_id.data) != NULL) {
        return err_fail(why, ERR_INVALID, "a device with this id exists already, or did once");
    }
    if (active_count(user) >= E2E_DEVICES_MAX) {
        return err_fail(why, ERR_INVALID, "the user has %d devices already; revoke one first", E2E_DEVICES_MAX);
    }
    if (user->device_count >= E2E_DEVICES_EVER_MAX) {
        return err_fail(why, ERR_INVALID, "the user has had %d devices; no more are possible", E2E_DEVICES_EVER_MAX);
    }
    return ERR_OK;
}

// The array has room: apply_to_copy made it.
static enum err
add_device(struct e2e_user *user, const Fc__E2e__V1__Device *device, uint64_t seq, struct err_detail *why)
{
    enum err err = check_device(user, device, why);
    if (err != ERR_OK) {
        return err;
    }
    struct e2e_device *added = &user->devices[user->device_count++];
    *added = (struct e2e_device){.is_recovery = device->is_recovery, .added_seq = seq};
    memcpy(added->id, device->device_id.data, E2E_ID_BYTES);
    memcpy(added->sign_key, device->sign_key.data, CRYPTO_KEY_BYTES);
    memcpy(added->box_key, device->box_key.data, CRYPTO_KEY_BYTES);
    memcpy(added->name, device->name, strlen(device->name) + 1);
    return ERR_OK;
}

static enum err
revoke_device(struct e2e_user *user, ProtobufCBinaryData device_id, uint64_t seq, struct err_detail *why)
{
    struct e2e_device *device = is_bytes(device_id, E2E_ID_BYTES) ? find_device(user, device_id.data) : NULL;
    if (device == NULL || device->is_revoked || device->added_seq == seq) {
        return err_fail(why, ERR_INVALID, "the user entry revokes a device that the user does not have");
    }
    revoke(device, seq);
    return ERR_OK;
}

static enum err
apply_change(struct e2e_user *user, const Fc__E2e__V1__UserChange *change, bool is_first, uint64_t seq,
    struct err_detail *why)
{
    switch (change->kind_case) {
    case FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY:
        if (!is_first) {
            return err_fail(why, ERR_INVALID, "only the first change of a user entry can be the identity");
        }
        return set_identity(user, change->set_identity, seq, why);
    case FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE:
        return add_device(user, change->add_device, seq, why);
    case FC__E2E__V1__USER_CHANGE__KIND_REVOKE_DEVICE:
        return revoke_device(user, change->revoke_device, seq, why);
    case FC__E2E__V1__USER_CHANGE__KIND__NOT_SET:
    case _FC__E2E__V1__USER_CHANGE__KIND__CASE_IS_INT_SIZE:
    default:
        return err_fail(why, ERR_INVALID, "the user entry has a change of no kind");
    }
}

// A copy with its own devices, and room for as many as the entry could add.
static enum err
copy_user(const struct e2e_user *user, size_t added_max, struct e2e_user *copy)
{
    *copy = *user;
    copy->devices = calloc(user->device_count + added_max, sizeof(*copy->devices));
    if (copy->devices == NULL) {
        return ERR_NO_MEMORY;
    }
    if (user->device_count > 0) {
        memcpy(copy->devices, user->devices, user->device_count * sizeof(*copy->devices));
    }
    return ERR_OK;
}

// Makes of the copy what the user is after the entry.
static enum err
apply_to_copy(struct e2e_user *copy, const Fc__E2e__V1__UserEntry *entry, struct bytes_view body,
    struct bytes_view signature, struct err_detail *why)
{
    for (size_t i = 0; i < entry->n_changes; i++) {
        enum err err = apply_change(copy, entry->changes[i], i == 0, entry->seq, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    // With the key that holds now: a reset is signed by the new one.
    enum err err = e2e_verify(copy->identity_key, E2E_CONTEXT_USER, body, bytes_view_of(NULL, 0), signature);
    if (err == ERR_CORRUPT) {
        return err_fail(why, ERR_CORRUPT, "the user entry is not signed by the user's identity");
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, body, copy->head_hash);
    }
    memcpy(copy->id, entry->user_id.data, E2E_ID_BYTES);
    copy->seq = entry->seq;
    return err;
}

enum err
e2e_user_apply(struct e2e_user *user, const uint8_t user_id[E2E_ID_BYTES], struct bytes_view body,
    struct bytes_view signature, struct err_detail *why)
{
    ProtobufCMessage *message = NULL;
    enum err err = e2e_wire_unpack(&fc__e2e__v1__user_entry__descriptor, body, E2E_USER_ENTRY_MAX_BYTES, "user entry",
        &message, why);
    if (err != ERR_OK) {
        return err;
    }
    const Fc__E2e__V1__UserEntry *entry = (const Fc__E2e__V1__UserEntry *)message;
    struct e2e_user copy = {0};
    err = check_place(user, user_id, entry, why);
    if (err == ERR_OK) {
        err = copy_user(user, entry->n_changes, &copy);
    }
    if (err == ERR_OK) {
        err = apply_to_copy(&copy, entry, body, signature, why);
    }
    if (err == ERR_OK) {
        struct e2e_user before = *user;
        *user = copy;
        copy = before;
    }
    e2e_user_deinit(&copy);
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

enum {
    FINGERPRINT_ROUNDS = 5200,
    FINGERPRINT_GROUPS = 6,
    GROUP_BYTES = 5,
    GROUP_DIGITS = 5,
    GROUP_MODULUS = 100000,
    HALF_TEXT_BYTES = FINGERPRINT_GROUPS * (GROUP_DIGITS + 1), // each group with a space or the NUL behind it
};
_Static_assert(2 * HALF_TEXT_BYTES == E2E_SAFETY_NUMBER_BYTES, "two halves, a space between them, and a NUL");

static void
format_half(const uint8_t hash[DIGEST_SHA256_BYTES], char out[HALF_TEXT_BYTES])
{
    for (size_t group = 0; group < FINGERPRINT_GROUPS; group++) {
        uint64_t value = 0;
        for (size_t i = 0; i < GROUP_BYTES; i++) {
            value = value << 8 | hash[group * GROUP_BYTES + i];
        }
        value %= GROUP_MODULUS;
        char *digits = out + group * (GROUP_DIGITS + 1);
        for (size_t i = GROUP_DIGITS; i-- > 0; value /= 10) {
            digits[i] = (char)('0' + value % 10);
        }
        digits[GROUP_DIGITS] = group + 1 < FINGERPRINT_GROUPS ? ' ' : '\0';
    }
}

static enum err
fingerprint(const struct e2e_user *user, char out[HALF_TEXT_BYTES])
{
    // The hash before, or at first the id, and then the key.
    uint8_t input[DIGEST_SHA256_BYTES + CRYPTO_KEY_BYTES];
    uint8_t hash[DIGEST_SHA256_BYTES];
    memcpy(input, user->id, E2E_ID_BYTES);
    memcpy(input + E2E_ID_BYTES, user->identity_key, CRYPTO_KEY_BYTES);
    enum err err = digest_of(DIGEST_SHA256, bytes_view_of(input, E2E_ID_BYTES + CRYPTO_KEY_BYTES), hash);
    memcpy(input + DIGEST_SHA256_BYTES, user->identity_key, CRYPTO_KEY_BYTES);
    for (int round = 1; err == ERR_OK && round < FINGERPRINT_ROUNDS; round++) {
        memcpy(input, hash, sizeof(hash));
        err = digest_of(DIGEST_SHA256, bytes_view_of(input, sizeof(input)), hash);
    }
    if (err == ERR_OK) {
        format_half(hash, out);
    }
    return err;
}

enum err
e2e_user_safety_number(const struct e2e_user *one, const struct e2e_user *other, char out[E2E_SAFETY_NUMBER_BYTES])
{
    char halves[2][HALF_TEXT_BYTES];
    enum err err = fingerprint(one, halves[0]);
    if (err == ERR_OK) {
        err = fingerprint(other, halves[1]);
    }
    if (err != ERR_OK) {
        return err;
    }
    size_t first = strcmp(halves[0], halves[1]) <= 0 ? 0 : 1;
    memcpy(out, halves[first], HALF_TEXT_BYTES);
    out[HALF_TEXT_BYTES - 1] = ' ';
    memcpy(out + HALF_TEXT_BYTES, halves[1 - first], HALF_TEXT_BYTES);
    return ERR_OK;
}
