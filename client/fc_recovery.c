// The recovery key: 20 random bytes from which a pseudo-device and the secret that seals the identity key are derived.
#include <string.h>

#include "base/digest.h"
#include "client/fc_identity_priv.h"

#include "fc/auth/v1/keys.stub.h"

static const char secret_info[] = "fc/1 recovery secret";

enum err
fc_recovery_derive(struct fc_recovery *recovery)
{
    struct bytes_view key = bytes_view_of(recovery->key, sizeof(recovery->key));
    enum err err = digest_hkdf_sha256(key, bytes_view_of(NULL, 0), bytes_view_of_text(secret_info), recovery->secret,
        sizeof(recovery->secret));
    return err == ERR_OK ? e2e_keys_derive(key, E2E_LABEL_RECOVERY_DEVICE, &recovery->device) : err;
}

enum err
fc_recovery_get(struct fc_session *session, Fc__Auth__V1__Recovery **out, struct err_detail *why)
{
    Fc__Auth__V1__GetRecoveryRequest request = FC__AUTH__V1__GET_RECOVERY_REQUEST__INIT;
    const Fc__Auth__V1__GetRecoveryResponse *response = NULL;
    struct rpc_unary call;
    fc_auth_v1_keys_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_auth_v1_keys_get_recovery(&call, &request, &response), why);
    if (err == ERR_OK && response->recovery == NULL) {
        err = err_fail(why, ERR_PROTOCOL, "the server answered with a way back that is none");
    }
    if (err == ERR_OK) {
        // A copy, since the response goes with its call.
        struct bytes copy = {0};
        size_t size = fc__auth__v1__recovery__get_packed_size(response->recovery);
        err = bytes_reserve(&copy, size > 0 ? size : 1);
        if (err == ERR_OK) {
            copy.size = fc__auth__v1__recovery__pack(response->recovery, copy.data);
            *out = fc__auth__v1__recovery__unpack(NULL, copy.size, copy.data);
            err = *out != NULL ? ERR_OK : ERR_NO_MEMORY;
        }
        bytes_free(&copy);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_recovery_seal(const uint8_t user_id[E2E_ID_BYTES], const uint8_t *backup_key,
    const uint8_t key[E2E_RECOVERY_KEY_BYTES], struct bytes *out)
{
    return e2e_seal(backup_key, E2E_LABEL_RECOVERY_KEY, bytes_view_of(user_id, E2E_ID_BYTES),
        bytes_view_of(key, E2E_RECOVERY_KEY_BYTES), out);
}

// Opens something of a known size.
static enum err
open_sized(const uint8_t secret[E2E_SECRET_BYTES], const char *label, const uint8_t user_id[E2E_ID_BYTES],
    struct bytes_view sealed, uint8_t *out, size_t size)
{
    struct bytes plain = {0};
    enum err err = e2e_open(secret, label, bytes_view_of(user_id, E2E_ID_BYTES), sealed, &plain);
    if (err == ERR_OK && plain.size != size) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        memcpy(out, plain.data, size);
    }
    bytes_free_secret(&plain);
    return err;
}

enum err
fc_recovery_open(const uint8_t user_id[E2E_ID_BYTES], const uint8_t *backup_key, struct bytes_view sealed,
    uint8_t key_out[E2E_RECOVERY_KEY_BYTES])
{
    return open_sized(backup_key, E2E_LABEL_RECOVERY_KEY, user_id, sealed, key_out, E2E_RECOVERY_KEY_BYTES);
}

enum err
fc_recovery_set(struct fc_identity *identity, const struct fc_recovery *recovery, const uint8_t *backup_key,
    struct err_detail *why)
{
    Fc__Auth__V1__Recovery wire = FC__AUTH__V1__RECOVERY__INIT;
    Fc__Auth__V1__SetRecoveryRequest request = FC__AUTH__V1__SET_RECOVERY_REQUEST__INIT;
    struct rpc_unary call;
    struct bytes sealed_key = {0};
    struct bytes sealed_identity = {0};
    enum err err = ERR_OK;
    if (backup_key != NULL) {
        err = fc_recovery_seal(identity->user_id, backup_key, recovery->key, &sealed_key);
    }
    if (err == ERR_OK) {
        err = e2e_seal(recovery->secret, E2E_LABEL_IDENTITY, bytes_view_of(identity->user_id, E2E_ID_BYTES),
            bytes_view_of(identity->keys.identity_private, CRYPTO_KEY_BYTES), &sealed_identity);
    }
    if (err == ERR_OK) {
        wire.sealed_recovery_key = (ProtobufCBinaryData){.len = sealed_key.size, .data = sealed_key.data};
        wire.sealed_identity_key = (ProtobufCBinaryData){.len = sealed_identity.size, .data = sealed_identity.data};
        request.recovery = &wire;
        fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
        call.is_idempotent = true;
        err = fc_session_explain(&call, fc_auth_v1_keys_set_recovery(&call, &request, NULL), why);
        rpc_unary_deinit(&call);
    }
    bytes_free(&sealed_key);
    bytes_free(&sealed_identity);
    return err;
}

// Whether the chain has this recovery key's pseudo-device.
static bool
is_on_chain(const struct e2e_user *own, const struct e2e_keys *recovery)
{
    const struct e2e_device *device = e2e_user_device(own, recovery->id);
    return device != NULL && device->is_recovery && !device->is_revoked &&
           memcmp(device->sign_key, recovery->sign_public, sizeof(device->sign_key)) == 0 &&
           memcmp(device->box_key, recovery->box_public, sizeof(device->box_key)) == 0;
}

static enum err
open_identity(struct fc_identity *identity, const struct fc_recovery *recovery, const Fc__Auth__V1__Recovery *wire,
    uint8_t private_out[CRYPTO_KEY_BYTES], struct err_detail *why)
{
    uint8_t public[CRYPTO_KEY_BYTES];
    if (!is_on_chain(&identity->own, &recovery->device)) {
        return err_fail(why, ERR_UNTRUSTED, "this recovery key is not the one of this account");
    }
    enum err err = open_sized(recovery->secret, E2E_LABEL_IDENTITY, identity->user_id,
        bytes_view_of(wire->sealed_identity_key.data, wire->sealed_identity_key.len), private_out, CRYPTO_KEY_BYTES);
    if (err == ERR_OK) {
        err = crypto_sign_public(private_out, public);
    }
    if (err == ERR_CORRUPT || (err == ERR_OK && memcmp(public, identity->own.identity_key, sizeof(public)) != 0)) {
        digest_wipe(private_out, CRYPTO_KEY_BYTES);
        return err_fail(why, ERR_UNTRUSTED,
            "the recovery key is right, but what the server keeps for it is not: it has been changed there");
    }
    return err;
}

// Keys for this machine that are not on the chain yet: those of an attempt before, or new ones.
static enum err
prepare_device(struct fc_identity *identity, struct e2e_device *out, struct err_detail *why)
{
    const struct e2e_device *old =
        identity->has_keys ? e2e_user_device(&identity->own, identity->keys.device.id) : NULL;
    enum err err = ERR_OK;
    *out = (struct e2e_device){0};
    if (!identity->has_keys || (old != NULL && old->is_revoked)) {
        memcpy(identity->keys.user_id, identity->user_id, sizeof(identity->keys.user_id));
        err = e2e_keys_generate(&identity->keys.device);
    }
    if (err == ERR_OK) {
        err = fc_identity_keep(identity, why);
    }
    if (err == ERR_OK) {
        memcpy(out->id, identity->keys.device.id, sizeof(out->id));
        memcpy(out->sign_key, identity->keys.device.sign_public, sizeof(out->sign_key));
        memcpy(out->box_key, identity->keys.device.box_public, sizeof(out->box_key));
        fc_identity_machine_name(out->name);
    }
    return err;
}

enum err
fc_recovery_use(struct fc_identity *identity, struct fc_recovery *recovery, const Fc__Auth__V1__Recovery *wire,
    bool is_test, struct err_detail *why)
{
    uint8_t private[CRYPTO_KEY_BYTES];
    struct e2e_device device;
    enum err err = open_identity(identity, recovery, wire, private, why);
    if (err != ERR_OK || is_test) {
        digest_wipe(private, sizeof(private));
        return err;
    }
    memcpy(identity->keys.identity_private, private, sizeof(private));
    digest_wipe(private, sizeof(private));
    identity->keys.has_identity = true;
    identity->keys.is_recovery_offline = wire->sealed_recovery_key.len == 0;
    err = prepare_device(identity, &device, why);
    if (err == ERR_OK && e2e_user_device(&identity->own, device.id) == NULL) {
        err = fc_identity_append_device(identity, &device, why);
    }
    if (err == ERR_OK) {
        identity->recovery = recovery->device;
        identity->has_recovery = true;
        err = fc_identity_share(identity, &device, why);
    }
    return err;
}
