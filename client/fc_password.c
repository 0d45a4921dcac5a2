// A new password: a new key for the server, and the recovery key sealed anew.
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "client/fc_derive_priv.h"
#include "client/fc_identity_priv.h"

#include "fc/auth/v1/auth.stub.h"

// Seals what the server keeps under the old password under the new one; nothing where it keeps none.
static enum err
reseal(struct fc_session *session, const uint8_t user_id[E2E_ID_BYTES], const struct fc_derived *old,
    const struct fc_derived *fresh, struct bytes *out, struct err_detail *why)
{
    Fc__Auth__V1__Recovery *recovery = NULL;
    uint8_t key[E2E_RECOVERY_KEY_BYTES];
    enum err err = fc_recovery_get(session, &recovery, why);
    if (err == ERR_NOT_FOUND || err == ERR_UNIMPLEMENTED) {
        return ERR_OK;
    }
    if (err == ERR_OK && recovery->sealed_recovery_key.len > 0) {
        err = fc_recovery_open(user_id, old->backup_key,
            bytes_view_of(recovery->sealed_recovery_key.data, recovery->sealed_recovery_key.len), key);
        if (err == ERR_CORRUPT) {
            err = err_fail(why, ERR_UNAUTHENTICATED, "the old password is wrong");
        } else if (err == ERR_OK) {
            err = fc_recovery_seal(user_id, fresh->backup_key, key, out);
        }
        digest_wipe(key, sizeof(key));
    }
    fc__auth__v1__recovery__free_unpacked(recovery, NULL);
    return err;
}

static enum err
send(struct fc_session *session, const Fc__Auth__V1__ChangePasswordRequest *request, struct err_detail *why)
{
    struct rpc_unary call;
    fc_auth_v1_auth_init(&call, fc_session_channel(session));
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_change_password(&call, request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_session_change_password(struct fc_session *session, struct bytes_view old_password, struct bytes_view new_password,
    struct err_detail *why)
{
    struct fc_account account;
    struct fc_derived old;
    struct fc_derived fresh;
    uint8_t salt[FC_DERIVE_SALT_BYTES];
    Fc__Auth__V1__KdfParameters kdf;
    Fc__Auth__V1__ChangePasswordRequest request = FC__AUTH__V1__CHANGE_PASSWORD_REQUEST__INIT;
    struct bytes sealed = {0};
    enum err err = fc_derive_check_password(old_password, why);
    if (err == ERR_OK) {
        err = fc_derive_check_password(new_password, why);
    }
    if (err == ERR_OK) {
        err = fc_session_who_am_i(session, &account, why);
    }
    if (err == ERR_OK) {
        err = fc_derive_fetch(session, account.user_name, old_password, &old, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    fc_derive_new_kdf(salt, &kdf);
    err = fc_derive(new_password, &kdf, &fresh, why);
    if (err == ERR_OK) {
        err = reseal(session, account.user_id, &old, &fresh, &sealed, why);
    }
    if (err == ERR_OK) {
        request.old_auth_key = (ProtobufCBinaryData){.len = sizeof(old.auth_key), .data = old.auth_key};
        request.auth_key = (ProtobufCBinaryData){.len = sizeof(fresh.auth_key), .data = fresh.auth_key};
        request.kdf = &kdf;
        request.sealed_recovery_key = (ProtobufCBinaryData){.len = sealed.size, .data = sealed.data};
        err = send(session, &request, why);
    }
    if (err == ERR_OK) {
        fc_derive_keep_backup_key(session, fresh.backup_key);
    }
    bytes_free(&sealed);
    digest_wipe(&old, sizeof(old));
    digest_wipe(&fresh, sizeof(fresh));
    return err;
}
