// For client/ only: what becomes of a password (proto/fc/auth/v1/auth.proto).
#ifndef CLIENT_FC_DERIVE_PRIV_H
#define CLIENT_FC_DERIVE_PRIV_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_session.h"

#include "fc/auth/v1/auth.pb-c.h"

enum {
    FC_DERIVED_KEY_BYTES = 32,
    FC_DERIVE_SALT_BYTES = 16,
};

// fc_derived is a secret: wipe it.
struct fc_derived {
    uint8_t auth_key[FC_DERIVED_KEY_BYTES];   // sent
    uint8_t backup_key[FC_DERIVED_KEY_BYTES]; // never sent: seals the recovery key
};

// fc_derive_check_password: ERR_INVALID.
enum err fc_derive_check_password(struct bytes_view password, struct err_detail *why) ERR_CHECKED;

// fc_derive_new_kdf draws a salt into `salt`, which kdf_out borrows.
void fc_derive_new_kdf(uint8_t salt[FC_DERIVE_SALT_BYTES], Fc__Auth__V1__KdfParameters *kdf_out);

// fc_derive blocks for some 100 ms.
enum err fc_derive(struct bytes_view password, const Fc__Auth__V1__KdfParameters *kdf, struct fc_derived *out,
    struct err_detail *why) ERR_CHECKED;

// fc_derive_fetch asks the server how this name's keys are derived, and derives them; what it asks for has to be within
// bounds. ERR_PROTOCOL.
enum err fc_derive_fetch(struct fc_session *session, const char *user_name, struct bytes_view password,
    struct fc_derived *out, struct err_detail *why) ERR_CHECKED;

// fc_derive_backup_key is that of the last sign-up or login of this session; NULL: there was none.
const uint8_t *fc_derive_backup_key(const struct fc_session *session);
void fc_derive_keep_backup_key(struct fc_session *session, const uint8_t key[FC_DERIVED_KEY_BYTES]);

#endif
