#include "e2e/e2e_seal.h"

#include <string.h>

#include "base/digest.h"
#include "base/random.h"
#include "e2e/e2e_seal_priv.h"

// The parts of a message key.
enum {
    NONCE_AT = CRYPTO_KEY_BYTES,
    COMMITMENT_AT = CRYPTO_KEY_BYTES + CRYPTO_NONCE_BYTES,
};
_Static_assert(COMMITMENT_AT + E2E_COMMITMENT_BYTES == E2E_MESSAGE_KEY_BYTES, "key ‖ nonce ‖ commitment");

enum err
e2e_hkdf(struct bytes_view secret, struct bytes_view salt, const char *label, struct bytes_view context, uint8_t *out,
    size_t out_size)
{
    uint8_t info[E2E_LABEL_MAX_BYTES + 1 + E2E_CONTEXT_MAX_BYTES];
    size_t label_size = strlen(label);
    if (label_size > E2E_LABEL_MAX_BYTES || context.size > E2E_CONTEXT_MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    memcpy(info, label, label_size + 1); // the NUL keeps "ab" ‖ "c" and "a" ‖ "bc" apart
    if (context.size > 0) {
        memcpy(info + label_size + 1, context.data, context.size);
    }
    return digest_hkdf_sha256(secret, salt, bytes_view_of(info, label_size + 1 + context.size), out, out_size);
}

static enum err
key_of(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    const uint8_t salt[E2E_SALT_BYTES], uint8_t key_out[E2E_MESSAGE_KEY_BYTES])
{
    return e2e_hkdf(bytes_view_of(secret, E2E_SECRET_BYTES), bytes_view_of(salt, E2E_SALT_BYTES), label, context,
        key_out, E2E_MESSAGE_KEY_BYTES);
}

enum err
e2e_seal_with_salt(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    const uint8_t salt[E2E_SALT_BYTES], struct bytes_view plain, struct bytes *out)
{
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    size_t size_before = out->size;
    enum err err = key_of(secret, label, context, salt, key);
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of(salt, E2E_SALT_BYTES));
    }
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of(key + COMMITMENT_AT, E2E_COMMITMENT_BYTES));
    }
    if (err == ERR_OK) {
        err = crypto_seal(key, key + NONCE_AT, context, plain, out);
    }
    if (err != ERR_OK) {
        out->size = size_before;
    }
    digest_wipe(key, sizeof(key));
    return err;
}

enum err
e2e_seal(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context, struct bytes_view plain,
    struct bytes *out)
{
    uint8_t salt[E2E_SALT_BYTES];
    random_bytes(salt, sizeof(salt));
    return e2e_seal_with_salt(secret, label, context, salt, plain, out);
}

enum err
e2e_seal_key(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    struct bytes_view sealed, uint8_t key_out[E2E_MESSAGE_KEY_BYTES])
{
    if (sealed.size < E2E_SEAL_OVERHEAD_BYTES) {
        return ERR_CORRUPT;
    }
    return key_of(secret, label, context, sealed.data, key_out);
}

enum err
e2e_open_with_key(const uint8_t key[E2E_MESSAGE_KEY_BYTES], struct bytes_view context, struct bytes_view sealed,
    struct bytes *out)
{
    if (sealed.size < E2E_SEAL_OVERHEAD_BYTES) {
        return ERR_CORRUPT;
    }
    const uint8_t *commitment = sealed.data + E2E_SALT_BYTES;
    if (!bytes_view_equal_secret(bytes_view_of(commitment, E2E_COMMITMENT_BYTES),
            bytes_view_of(key + COMMITMENT_AT, E2E_COMMITMENT_BYTES))) {
        return ERR_CORRUPT;
    }
    size_t header_size = E2E_SALT_BYTES + E2E_COMMITMENT_BYTES;
    return crypto_open(key, key + NONCE_AT, context,
        bytes_view_of(sealed.data + header_size, sealed.size - header_size), out);
}

enum err
e2e_open(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context, struct bytes_view sealed,
    struct bytes *out)
{
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    enum err err = e2e_seal_key(secret, label, context, sealed, key);
    if (err == ERR_OK) {
        err = e2e_open_with_key(key, context, sealed, out);
    }
    digest_wipe(key, sizeof(key));
    return err;
}

enum err
e2e_derive(const uint8_t secret[E2E_SECRET_BYTES], const char *label, struct bytes_view context,
    uint8_t out[E2E_SECRET_BYTES])
{
    return e2e_hkdf(bytes_view_of(secret, E2E_SECRET_BYTES), bytes_view_of(NULL, 0), label, context, out,
        E2E_SECRET_BYTES);
}

static enum err
signed_bytes(const char *context, struct bytes_view first, struct bytes_view second, struct bytes *out)
{
    enum err err = bytes_append(out, bytes_view_of(context, strlen(context) + 1));
    if (err == ERR_OK) {
        err = bytes_append(out, first);
    }
    if (err == ERR_OK) {
        err = bytes_append(out, second);
    }
    return err;
}

enum err
e2e_sign(const uint8_t private_key[CRYPTO_KEY_BYTES], const char *context, struct bytes_view first,
    struct bytes_view second, uint8_t signature_out[CRYPTO_SIGNATURE_BYTES])
{
    struct bytes data = {0};
    enum err err = signed_bytes(context, first, second, &data);
    if (err == ERR_OK) {
        err = crypto_sign(private_key, bytes_as_view(&data), signature_out);
    }
    bytes_free(&data);
    return err;
}

enum err
e2e_verify(const uint8_t public_key[CRYPTO_KEY_BYTES], const char *context, struct bytes_view first,
    struct bytes_view second, struct bytes_view signature)
{
    if (signature.size != CRYPTO_SIGNATURE_BYTES) {
        return ERR_CORRUPT;
    }
    struct bytes data = {0};
    enum err err = signed_bytes(context, first, second, &data);
    if (err == ERR_OK) {
        err = crypto_verify(public_key, bytes_as_view(&data), signature.data);
    }
    bytes_free(&data);
    return err;
}
