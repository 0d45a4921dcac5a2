// A user's chain from outside: no entry changes more than it may, and one that is refused changes nothing and says why.
// The input is a sequence of entries, each behind a byte of flags and its length in two bytes:
//     1, 2    by which of four keys it is signed
//     4       user_id, seq and prev_hash are set to those of the next entry
//     8       the identity key, where it is set, is made the signing one

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "e2e/e2e_user.h"
#include "e2e/e2e_wire.h"

#include "fc/e2e/v1/chain.pb-c.h"

enum {
    KEYS_MASK = 3,
    SETS_PLACE = 4,
    SETS_IDENTITY = 8,
    PREFIX_BYTES = 3,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t user_id[E2E_ID_BYTES] = {'u'};

static void
must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void
set_bytes(ProtobufCBinaryData *field, const uint8_t *from, size_t size)
{
    free(field->data);
    field->data = malloc(size + 1);
    must(field->data != NULL);
    memcpy(field->data, from, size);
    field->len = size;
}

// The body as it is, or with what the flags say put in.
static void
make_body(struct bytes_view data, uint8_t flags, const struct e2e_user *user,
    const uint8_t public_key[CRYPTO_KEY_BYTES], struct bytes *body)
{
    Fc__E2e__V1__UserEntry *entry = (flags & (SETS_PLACE | SETS_IDENTITY)) != 0
                                        ? fc__e2e__v1__user_entry__unpack(NULL, data.size, data.data)
                                        : NULL;
    if (entry == NULL) {
        must(bytes_append(body, data) == ERR_OK);
        return;
    }
    if ((flags & SETS_PLACE) != 0) {
        entry->suite = E2E_SUITE;
        entry->seq = user->seq + 1;
        set_bytes(&entry->user_id, user_id, sizeof(user_id));
        set_bytes(&entry->prev_hash, user->head_hash, user->seq == 0 ? 0 : E2E_HASH_BYTES);
    }
    for (size_t i = 0; (flags & SETS_IDENTITY) != 0 && i < entry->n_changes; i++) {
        if (entry->changes[i]->kind_case == FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY) {
            set_bytes(&entry->changes[i]->set_identity->identity_key, public_key, CRYPTO_KEY_BYTES);
        }
    }
    must(e2e_wire_append(&entry->base, body) == ERR_OK);
    fc__e2e__v1__user_entry__free_unpacked(entry, NULL);
}

static void
check_user(const struct e2e_user *user)
{
    size_t active = 0;
    must(
        text_check_user_name(user->name, NULL) == ERR_OK && user->identity_seq >= 1 && user->identity_seq <= user->seq);
    must(user->device_count <= E2E_DEVICES_EVER_MAX);
    for (size_t i = 0; i < user->device_count; i++) {
        const struct e2e_device *device = &user->devices[i];
        active += device->is_revoked ? 0 : 1;
        must(e2e_user_device(user, device->id) == device); // so ids differ
        must(device->added_seq >= 1 && device->added_seq <= user->seq);
        must(device->is_revoked ? device->revoked_seq > device->added_seq && device->revoked_seq <= user->seq
                                : device->revoked_seq == 0 && device->added_seq >= user->identity_seq);
        must(crypto_box_check(device->box_key) == ERR_OK && crypto_sign_check(device->sign_key) == ERR_OK);
        must(text_is_utf8(bytes_view_of_text(device->name)));
    }
    must(active <= E2E_DEVICES_MAX);
}

static void
apply(struct e2e_user *user, struct bytes_view body, struct bytes_view signature)
{
    struct err_detail why = {0};
    struct e2e_user before = *user;
    uint8_t hash[E2E_HASH_BYTES];
    enum err err = e2e_user_apply(user, user_id, body, signature, &why);
    if (err != ERR_OK) {
        must(err == ERR_INVALID || err == ERR_CONFLICT || err == ERR_CORRUPT || err == ERR_TOO_BIG);
        must(why.message[0] != '\0' && memcmp(user, &before, sizeof(before)) == 0);
        return;
    }
    must(digest_of(DIGEST_SHA256, body, hash) == ERR_OK && memcmp(hash, user->head_hash, sizeof(hash)) == 0);
    must(user->seq == before.seq + 1 && user->device_count >= before.device_count);
    check_user(user);
    must(e2e_user_apply(user, user_id, body, signature, &why) == ERR_CONFLICT);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct e2e_user user = {0};
    while (size >= PREFIX_BYTES) {
        uint8_t private_key[CRYPTO_KEY_BYTES] = {(uint8_t)(data[0] & KEYS_MASK)};
        uint8_t public_key[CRYPTO_KEY_BYTES];
        uint8_t signature[CRYPTO_SIGNATURE_BYTES];
        struct bytes body = {0};
        size_t entry_size = bytes_load_be16(data + 1);
        entry_size = entry_size < size - PREFIX_BYTES ? entry_size : size - PREFIX_BYTES;
        must(crypto_sign_public(private_key, public_key) == ERR_OK);
        make_body(bytes_view_of(data + PREFIX_BYTES, entry_size), data[0], &user, public_key, &body);
        must(
            e2e_sign(private_key, E2E_CONTEXT_USER, bytes_as_view(&body), bytes_view_of(NULL, 0), signature) == ERR_OK);
        apply(&user, bytes_as_view(&body), bytes_view_of(signature, sizeof(signature)));
        bytes_free(&body);
        data += PREFIX_BYTES + entry_size;
        size -= PREFIX_BYTES + entry_size;
    }
    e2e_user_deinit(&user);
    return 0;
}
