// The keys of devices, and of the pseudo-devices that recovery keys and invite links become.

#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_message.h"
#include "e2e/e2e_seal_priv.h"

static enum err
fill_public(struct e2e_keys *keys)
{
    enum err err = crypto_sign_public(keys->sign_private, keys->sign_public);
    if (err == ERR_OK) {
        err = crypto_box_public(keys->box_private, keys->box_public);
    }
    return err;
}

enum err
e2e_keys_derive(struct bytes_view secret, const char *label, struct e2e_keys *out)
{
    uint8_t both[2 * CRYPTO_KEY_BYTES];
    uint8_t hash[DIGEST_SHA256_BYTES];
    struct e2e_keys keys;
    struct bytes_view nothing = bytes_view_of(NULL, 0);
    enum err err = e2e_hkdf(secret, nothing, label, nothing, both, sizeof(both));
    if (err == ERR_OK) {
        memcpy(keys.sign_private, both, CRYPTO_KEY_BYTES);
        memcpy(keys.box_private, both + CRYPTO_KEY_BYTES, CRYPTO_KEY_BYTES);
        err = fill_public(&keys);
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(keys.sign_public, CRYPTO_KEY_BYTES), hash);
    }
    if (err == ERR_OK) {
        memcpy(keys.id, hash, E2E_ID_BYTES);
        *out = keys;
    }
    digest_wipe(both, sizeof(both));
    digest_wipe(&keys, sizeof(keys));
    return err;
}

enum err
e2e_keys_generate(struct e2e_keys *out)
{
    struct e2e_keys keys;
    random_bytes(keys.id, sizeof(keys.id));
    random_bytes(keys.sign_private, sizeof(keys.sign_private));
    random_bytes(keys.box_private, sizeof(keys.box_private));
    enum err err = fill_public(&keys);
    if (err == ERR_OK) {
        *out = keys;
    }
    digest_wipe(&keys, sizeof(keys));
    return err;
}
