// From a password to keys. The password stays here: the server gets a key derived from it, with parameters that it may
// choose only within bounds, since it might want a key that is easy to search, or a client without memory.
#include <stdbool.h>
#include <stdio.h>

#include "base/digest.h"
#include "base/random.h"
#include "client/fc_derive_priv.h"

#include "fc/auth/v1/auth.stub.h"

enum {
    PASSWORD_MAX_BYTES = 1024,
    MASTER_BYTES = 32,

    // What this client chooses: 32 MiB and some 100 ms.
    KDF_LOG2_N = 15,
    KDF_R = 8,
    KDF_P = 1,

    // What it accepts from a server: proto/fc/auth/v1/auth.proto.
    KDF_SALT_MIN_BYTES = 16,
    KDF_SALT_MAX_BYTES = 64,
    KDF_LOG2_N_MIN = 15,
    KDF_LOG2_N_MAX = 20,
    KDF_R_MIN = 8,
    KDF_R_MAX = 32,
    KDF_P_MIN = 1,
    KDF_P_MAX = 4,
};

static const char auth_info[] = "fc/1 auth";
static const char backup_info[] = "fc/1 backup";

static bool
is_in_range(uint32_t value, uint32_t min, uint32_t max)
{
    return value >= min && value <= max;
}

static enum err
check_kdf(const Fc__Auth__V1__KdfParameters *kdf, struct err_detail *why)
{
    if (kdf == NULL || kdf->salt.len < KDF_SALT_MIN_BYTES || kdf->salt.len > KDF_SALT_MAX_BYTES ||
        !is_in_range(kdf->log2_n, KDF_LOG2_N_MIN, KDF_LOG2_N_MAX) || !is_in_range(kdf->r, KDF_R_MIN, KDF_R_MAX) ||
        !is_in_range(kdf->p, KDF_P_MIN, KDF_P_MAX)) {
        return err_fail(why, ERR_PROTOCOL,
            "the server asks for a key derived in a way that is not safe: this is not done, and the password stays "
            "here");
    }
    return ERR_OK;
}

enum err
fc_derive_check_password(struct bytes_view password, struct err_detail *why)
{
    if (password.size == 0 || password.size > PASSWORD_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "the password has %zu bytes; it must have from 1 to %d", password.size,
            PASSWORD_MAX_BYTES);
    }
    return ERR_OK;
}

void
fc_derive_new_kdf(uint8_t salt[FC_DERIVE_SALT_BYTES], Fc__Auth__V1__KdfParameters *kdf_out)
{
    random_bytes(salt, FC_DERIVE_SALT_BYTES);
    *kdf_out = (Fc__Auth__V1__KdfParameters)FC__AUTH__V1__KDF_PARAMETERS__INIT;
    kdf_out->salt = (ProtobufCBinaryData){.len = FC_DERIVE_SALT_BYTES, .data = salt};
    kdf_out->log2_n = KDF_LOG2_N;
    kdf_out->r = KDF_R;
    kdf_out->p = KDF_P;
}

static enum err
expand(const uint8_t master[MASTER_BYTES], const char *info, uint8_t out[FC_DERIVED_KEY_BYTES])
{
    return digest_hkdf_sha256(bytes_view_of(master, MASTER_BYTES), bytes_view_of(NULL, 0), bytes_view_of_text(info),
        out, FC_DERIVED_KEY_BYTES);
}

enum err
fc_derive(struct bytes_view password, const Fc__Auth__V1__KdfParameters *kdf, struct fc_derived *out,
    struct err_detail *why)
{
    uint8_t master[MASTER_BYTES];
    enum err err = digest_scrypt(password, bytes_view_of(kdf->salt.data, kdf->salt.len), kdf->log2_n, kdf->r, kdf->p,
        master, sizeof(master));
    if (err == ERR_OK) {
        err = expand(master, auth_info, out->auth_key);
    }
    if (err == ERR_OK) {
        err = expand(master, backup_info, out->backup_key);
    }
    digest_wipe(master, sizeof(master));
    if (err != ERR_OK) {
        digest_wipe(out, sizeof(*out));
        return err_fail(why, err, "the key cannot be derived from the password: %s", err_sentence(err));
    }
    return ERR_OK;
}

enum err
fc_derive_fetch(struct fc_session *session, const char *user_name, struct bytes_view password, struct fc_derived *out,
    struct err_detail *why)
{
    Fc__Auth__V1__GetLoginParametersRequest request = FC__AUTH__V1__GET_LOGIN_PARAMETERS_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Auth__V1__GetLoginParametersResponse *response = NULL;
    char name[FC_USER_NAME_MAX_BYTES];
    (void)snprintf(name, sizeof(name), "%s", user_name);
    request.user_name = name;
    fc_auth_v1_auth_init(&call, fc_session_channel(session));
    enum err err = fc_session_explain(&call, fc_auth_v1_auth_get_login_parameters(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = check_kdf(response->kdf, why);
        if (err == ERR_OK) {
            err = fc_derive(password, response->kdf, out, why);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}
