// For client/ only: keys, as rooms need them.
#ifndef CLIENT_FC_IDENTITY_PRIV_H
#define CLIENT_FC_IDENTITY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_identity.h"
#include "client/fc_store_priv.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_user.h"

#include "fc/auth/v1/keys.pb-c.h"

struct fc_identity {
    struct fc_session *session;
    struct fc_identity_options options;
    struct fc_store *store; // owned
    uint8_t user_id[E2E_ID_BYTES];
    char user_name[FC_USER_NAME_MAX_BYTES];
    bool has_keys; // `keys` is filled; its device may not be on the chain yet, or not any more
    struct fc_store_keys keys;
    struct e2e_user own;      // the account's chain, as synced last
    bool has_recovery;        // the recovery key was there in this process
    struct e2e_keys recovery; // the pseudo-device that it is
};

// --- For rooms

// fc_identity_device gives the keys of this device, when it speaks for the account; else NULL.
const struct e2e_keys *fc_identity_device(const struct fc_identity *identity);
// fc_identity_recovery_keys is the recovery pseudo-device, which opens old wraps; NULL: not available.
const struct e2e_keys *fc_identity_recovery_keys(const struct fc_identity *identity);

// fc_identity_wanted says whom: by name or by id. is_missing is set for those that do not exist.
struct fc_identity_wanted {
    const char *name;  // or NULL
    const uint8_t *id; // or NULL
    bool is_missing;
    uint8_t found_id[E2E_ID_BYTES];
    // Private.
    bool is_done;
    uint64_t after_seq;
};

// fc_identity_sync fetches what is new on the chains of these, checks it, keeps it, and looks after their pins.
// ERR_UNTRUSTED: a chain has gone back or forked or is badly signed, or a verified user has another identity; `why`
// names the user and what happened.
enum err fc_identity_sync(struct fc_identity *identity, struct fc_identity_wanted *wanted, size_t count,
    struct err_detail *why) ERR_CHECKED;

// fc_identity_cached gives a user's chain as it was synced last, without the network; the caller deinits it. seq 0:
// nothing is kept.
enum err fc_identity_cached(struct fc_identity *identity, const uint8_t user_id[E2E_ID_BYTES], struct e2e_user *out,
    struct err_detail *why) ERR_CHECKED;

// fc_identity_user is both for one user. ERR_NOT_FOUND: no such user; ERR_PRECONDITION: they have no keys yet.
enum err fc_identity_user(struct fc_identity *identity, const char *name, struct e2e_user *out,
    struct err_detail *why) ERR_CHECKED;

// fc_identity_share is called when this process has let a device in: with the recovery keys on the device itself, or on
// an old device for a new one. Rooms give it their keys here.
enum err fc_identity_share(struct fc_identity *identity, const struct e2e_device *device,
    struct err_detail *why) ERR_CHECKED;

// --- For the files of the identity

void fc_identity_warn(const struct fc_identity *identity, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// fc_identity_sync_own syncs the account's own chain into identity->own.
enum err fc_identity_sync_own(struct fc_identity *identity, struct err_detail *why) ERR_CHECKED;

// fc_identity_sync_lenient leaves it to the caller to look whether a verified user has another identity.
enum err fc_identity_sync_lenient(struct fc_identity *identity, struct fc_identity_wanted *wanted, size_t count,
    struct err_detail *why) ERR_CHECKED;

// fc_identity_keep stores identity->keys.
enum err fc_identity_keep(struct fc_identity *identity, struct err_detail *why) ERR_CHECKED;

// fc_identity_machine_name is what a device is called if nobody says.
void fc_identity_machine_name(char out[FC_DEVICE_NAME_BYTES]);

// fc_identity_add is a device to be put on the chain. Borrows from keys and name.
struct fc_identity_add {
    Fc__E2e__V1__Device device;
    Fc__E2e__V1__UserChange change;
};
void fc_identity_add_fill(struct fc_identity_add *add, const struct e2e_keys *keys, const char *name, bool is_recovery);

// fc_identity_append signs and sends the next entry of the own chain and syncs it. ERR_CONFLICT: the chain has moved
// on.
enum err fc_identity_append(struct fc_identity *identity, Fc__E2e__V1__UserChange **changes, size_t count,
    const uint8_t identity_private[CRYPTO_KEY_BYTES], struct err_detail *why) ERR_CHECKED;

// fc_identity_append_device puts one device on the chain, trying again when the chain moves on meanwhile.
enum err fc_identity_append_device(struct fc_identity *identity, const struct e2e_device *device,
    struct err_detail *why) ERR_CHECKED;

// fc_recovery is the recovery key and what becomes of it. A secret.
struct fc_recovery {
    uint8_t key[E2E_RECOVERY_KEY_BYTES];
    uint8_t secret[E2E_SECRET_BYTES]; // seals the identity key
    struct e2e_keys device;
};
enum err fc_recovery_derive(struct fc_recovery *recovery) ERR_CHECKED; // from key

// fc_recovery_get asks for what the server keeps; the caller frees it. ERR_NOT_FOUND.
enum err fc_recovery_get(struct fc_session *session, Fc__Auth__V1__Recovery **out, struct err_detail *why) ERR_CHECKED;
// fc_recovery_set puts it there: the identity key under the recovery key, and that under backup_key unless it is NULL.
enum err fc_recovery_set(struct fc_identity *identity, const struct fc_recovery *recovery, const uint8_t *backup_key,
    struct err_detail *why) ERR_CHECKED;
// fc_recovery_seal and _open: the recovery key under a backup key. ERR_CORRUPT.
enum err fc_recovery_seal(const uint8_t user_id[E2E_ID_BYTES], const uint8_t *backup_key,
    const uint8_t key[E2E_RECOVERY_KEY_BYTES], struct bytes *out) ERR_CHECKED;
enum err fc_recovery_open(const uint8_t user_id[E2E_ID_BYTES], const uint8_t *backup_key, struct bytes_view sealed,
    uint8_t key_out[E2E_RECOVERY_KEY_BYTES]) ERR_CHECKED;

// fc_recovery_use opens the identity key and adds this device with it. ERR_UNTRUSTED: not this account's key.
enum err fc_recovery_use(struct fc_identity *identity, struct fc_recovery *recovery, const Fc__Auth__V1__Recovery *wire,
    bool is_test, struct err_detail *why) ERR_CHECKED;

#endif
