// Entries of the account's own chain: made, signed, sent, and then taken in as everybody else does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/fc_identity_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/auth/v1/keys.stub.h"

enum {
    ATTEMPTS = 5, // when other devices change the chain at the same time
};

void
fc_identity_machine_name(char out[FC_DEVICE_NAME_BYTES])
{
    if (gethostname(out, FC_DEVICE_NAME_BYTES - 1) != 0 || out[0] == '\0' || !text_is_utf8(bytes_view_of_text(out))) {
        (void)snprintf(out, FC_DEVICE_NAME_BYTES, "unnamed");
    }
    out[FC_DEVICE_NAME_BYTES - 1] = '\0';
}

void
fc_identity_add_fill(struct fc_identity_add *add, const struct e2e_keys *keys, const char *name, bool is_recovery)
{
    add->device = (Fc__E2e__V1__Device)FC__E2E__V1__DEVICE__INIT;
    add->device.device_id = fc_lend(keys->id, sizeof(keys->id));
    add->device.sign_key = fc_lend(keys->sign_public, sizeof(keys->sign_public));
    add->device.box_key = fc_lend(keys->box_public, sizeof(keys->box_public));
    add->device.name = fc_lend_text(name);
    add->device.is_recovery = is_recovery;
    add->change = (Fc__E2e__V1__UserChange)FC__E2E__V1__USER_CHANGE__INIT;
    add->change.kind_case = FC__E2E__V1__USER_CHANGE__KIND_ADD_DEVICE;
    add->change.add_device = &add->device;
}

static enum err
send(struct fc_identity *identity, struct bytes_view body, const uint8_t signature[CRYPTO_SIGNATURE_BYTES],
    struct err_detail *why)
{
    Fc__E2e__V1__Signed entry = FC__E2E__V1__SIGNED__INIT;
    Fc__Auth__V1__AppendUserEntryRequest request = FC__AUTH__V1__APPEND_USER_ENTRY_REQUEST__INIT;
    struct rpc_unary call;
    entry.body = fc_lend(body.data, body.size);
    entry.signature = fc_lend(signature, CRYPTO_SIGNATURE_BYTES);
    request.entry = &entry;
    fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
    call.is_idempotent = true; // the newest entry again is fine
    enum err err = fc_session_explain(&call, fc_auth_v1_keys_append_user_entry(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_identity_append(struct fc_identity *identity, Fc__E2e__V1__UserChange **changes, size_t count,
    const uint8_t identity_private[CRYPTO_KEY_BYTES], struct err_detail *why)
{
    const struct e2e_user *own = &identity->own;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    Fc__E2e__V1__UserEntry entry = FC__E2E__V1__USER_ENTRY__INIT;
    entry.suite = E2E_SUITE;
    entry.user_id = fc_lend(identity->user_id, sizeof(identity->user_id));
    entry.seq = own->seq + 1;
    entry.prev_hash = fc_lend(own->head_hash, own->seq > 0 ? sizeof(own->head_hash) : 0);
    entry.created_at_ms = clock_unix_ms();
    entry.changes = changes;
    entry.n_changes = count;
    struct bytes body = {0};
    size_t size = fc__e2e__v1__user_entry__get_packed_size(&entry);
    enum err err = bytes_reserve(&body, size);
    if (err == ERR_OK) {
        body.size = fc__e2e__v1__user_entry__pack(&entry, body.data);
        err = e2e_sign(identity_private, E2E_CONTEXT_USER, bytes_as_view(&body), bytes_view_of(NULL, 0), signature);
    }
    if (err == ERR_OK) {
        err = send(identity, bytes_as_view(&body), signature, why);
    }
    bytes_free(&body);
    return err == ERR_OK ? fc_identity_sync_own(identity, why) : err;
}

enum err
fc_identity_append_device(struct fc_identity *identity, const struct e2e_device *device, struct err_detail *why)
{
    struct e2e_keys keys = {0};
    struct fc_identity_add add;
    Fc__E2e__V1__UserChange *changes[] = {&add.change};
    memcpy(keys.id, device->id, sizeof(keys.id));
    memcpy(keys.sign_public, device->sign_key, sizeof(keys.sign_public));
    memcpy(keys.box_public, device->box_key, sizeof(keys.box_public));
    fc_identity_add_fill(&add, &keys, device->name, device->is_recovery);
    enum err err = ERR_CONFLICT;
    for (int i = 0; i < ATTEMPTS && err == ERR_CONFLICT; i++) {
        err = i > 0 ? fc_identity_sync_own(identity, why) : ERR_OK;
        if (err == ERR_OK) {
            err = fc_identity_append(identity, changes, 1, identity->keys.identity_private, why);
        }
    }
    return err;
}
