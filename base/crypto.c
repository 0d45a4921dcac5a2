#include "base/crypto.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/digest.h"

// Looked up once, as in digest.c. Never freed: any thread may use them until the process ends.
static struct {
    pthread_once_t once;
    EVP_CIPHER *aes_gcm;
} algorithms = {.once = PTHREAD_ONCE_INIT};

static void
fetch_algorithms(void)
{
    algorithms.aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

static const EVP_CIPHER *
cipher(void)
{
    (void)pthread_once(&algorithms.once, fetch_algorithms);
    return algorithms.aes_gcm;
}

// OpenSSL takes a NULL address for "not set", which is not the same as empty.
static const uint8_t *
address_of(struct bytes_view view)
{
    static const uint8_t nothing[1];
    return view.data == NULL ? nothing : view.data;
}

static enum err
public_of(const char *type, const uint8_t private_key[CRYPTO_KEY_BYTES], uint8_t public_out[CRYPTO_KEY_BYTES])
{
    enum err err = ERR_INTERNAL;
    size_t size = CRYPTO_KEY_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key_ex(NULL, type, NULL, private_key, CRYPTO_KEY_BYTES);
    if (key != NULL && EVP_PKEY_get_raw_public_key(key, public_out, &size) == 1 && size == CRYPTO_KEY_BYTES) {
        err = ERR_OK;
    }
    EVP_PKEY_free(key);
    return err;
}

enum err
crypto_sign_public(const uint8_t private_key[CRYPTO_KEY_BYTES], uint8_t public_out[CRYPTO_KEY_BYTES])
{
    return public_of("ED25519", private_key, public_out);
}

enum err
crypto_sign(const uint8_t private_key[CRYPTO_KEY_BYTES], struct bytes_view data,
    uint8_t signature_out[CRYPTO_SIGNATURE_BYTES])
{
    enum err err = ERR_INTERNAL;
    size_t size = CRYPTO_SIGNATURE_BYTES;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key_ex(NULL, "ED25519", NULL, private_key, CRYPTO_KEY_BYTES);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (key != NULL && context != NULL && EVP_DigestSignInit_ex(context, NULL, NULL, NULL, NULL, key, NULL) == 1 &&
        EVP_DigestSign(context, signature_out, &size, address_of(data), data.size) == 1 &&
        size == CRYPTO_SIGNATURE_BYTES) {
        err = ERR_OK;
    }
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return err;
}

// y coordinates of the points whose order divides 8: 0, 1, two of order 8, and -1. Any sign bit may stand with them.
static const uint8_t small_order_points[][CRYPTO_KEY_BYTES] = {
    {0},
    {1},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac,
        0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53,
        0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};

// y has to be less than 2^255 - 19 (RFC 8032, 5.1.3), which not every implementation checks.
static bool
is_canonical(const uint8_t y[CRYPTO_KEY_BYTES])
{
    if (y[0] < 0xed || y[CRYPTO_KEY_BYTES - 1] != 0x7f) {
        return true;
    }
    for (size_t i = 1; i < CRYPTO_KEY_BYTES - 1; i++) {
        if (y[i] != 0xff) {
            return true;
        }
    }
    return false;
}

// Under a key or with an R of small order a signature binds to nothing; browsers refuse them, and so all have to.
static bool
is_sound_point(const uint8_t encoded[CRYPTO_KEY_BYTES])
{
    uint8_t y[CRYPTO_KEY_BYTES];
    memcpy(y, encoded, sizeof(y));
    y[CRYPTO_KEY_BYTES - 1] &= 0x7f;
    if (!is_canonical(y)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(small_order_points) / sizeof(small_order_points[0]); i++) {
        if (memcmp(y, small_order_points[i], sizeof(y)) == 0) {
            return false;
        }
    }
    return true;
}

enum err
crypto_sign_check(const uint8_t public_key[CRYPTO_KEY_BYTES])
{
    return is_sound_point(public_key) ? ERR_OK : ERR_CORRUPT;
}

enum err
crypto_verify(const uint8_t public_key[CRYPTO_KEY_BYTES], struct bytes_view data,
    const uint8_t signature[CRYPTO_SIGNATURE_BYTES])
{
    if (!is_sound_point(public_key) || !is_sound_point(signature)) {
        return ERR_CORRUPT;
    }
    enum err err = ERR_INTERNAL;
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, public_key, CRYPTO_KEY_BYTES);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (key != NULL && context != NULL && EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, NULL, key, NULL) == 1) {
        int verdict = EVP_DigestVerify(context, signature, CRYPTO_SIGNATURE_BYTES, address_of(data), data.size);
        err = verdict == 1 ? ERR_OK : ERR_CORRUPT;
    }
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return err;
}

enum err
crypto_box_public(const uint8_t private_key[CRYPTO_KEY_BYTES], uint8_t public_out[CRYPTO_KEY_BYTES])
{
    return public_of("X25519", private_key, public_out);
}

enum err
crypto_box_agree(const uint8_t private_key[CRYPTO_KEY_BYTES], const uint8_t public_key[CRYPTO_KEY_BYTES],
    uint8_t shared_out[CRYPTO_KEY_BYTES])
{
    static const uint8_t zeros[CRYPTO_KEY_BYTES];
    enum err err = ERR_INTERNAL;
    uint8_t shared[CRYPTO_KEY_BYTES];
    size_t size = sizeof(shared);
    EVP_PKEY *own = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, private_key, CRYPTO_KEY_BYTES);
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, public_key, CRYPTO_KEY_BYTES);
    EVP_PKEY_CTX *context = own == NULL ? NULL : EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    if (peer == NULL || context == NULL || EVP_PKEY_derive_init(context) != 1 ||
        EVP_PKEY_derive_set_peer(context, peer) != 1) {
        goto out;
    }
    // OpenSSL fails for the all-zero secret; RFC 7748 leaves that check to the caller, so it is made here as well.
    if (EVP_PKEY_derive(context, shared, &size) != 1 || size != sizeof(shared) ||
        bytes_view_equal_secret(bytes_view_of(shared, sizeof(shared)), bytes_view_of(zeros, sizeof(zeros)))) {
        err = ERR_CORRUPT;
        goto out;
    }
    memcpy(shared_out, shared, sizeof(shared));
    err = ERR_OK;
out:
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(own);
    digest_wipe(shared, sizeof(shared));
    return err;
}

enum err
crypto_box_check(const uint8_t public_key[CRYPTO_KEY_BYTES])
{
    // Any private key shows it: all are multiples of 8, the largest of the small orders.
    static const uint8_t private_key[CRYPTO_KEY_BYTES] = {1};
    uint8_t shared[CRYPTO_KEY_BYTES];
    return crypto_box_agree(private_key, public_key, shared);
}

// OpenSSL counts in int.
static bool
is_too_big(struct bytes_view view)
{
    return view.size > INT_MAX - CRYPTO_TAG_BYTES;
}

enum err
crypto_seal(const uint8_t key[CRYPTO_KEY_BYTES], const uint8_t nonce[CRYPTO_NONCE_BYTES], struct bytes_view aad,
    struct bytes_view plain, struct bytes *out)
{
    if (cipher() == NULL) {
        return ERR_INTERNAL;
    }
    if (is_too_big(aad) || is_too_big(plain)) {
        return ERR_TOO_BIG;
    }
    enum err err = bytes_reserve(out, plain.size + CRYPTO_TAG_BYTES);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t *to = out->data + out->size;
    int size = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    bool done = context != NULL && EVP_EncryptInit_ex2(context, cipher(), key, nonce, NULL) == 1 &&
                EVP_EncryptUpdate(context, NULL, &size, address_of(aad), (int)aad.size) == 1 &&
                EVP_EncryptUpdate(context, to, &size, address_of(plain), (int)plain.size) == 1 &&
                EVP_EncryptFinal_ex(context, to + plain.size, &size) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_BYTES, to + plain.size) == 1;
    EVP_CIPHER_CTX_free(context);
    if (!done) {
        return ERR_NO_MEMORY;
    }
    out->size += plain.size + CRYPTO_TAG_BYTES;
    return ERR_OK;
}

enum err
crypto_open(const uint8_t key[CRYPTO_KEY_BYTES], const uint8_t nonce[CRYPTO_NONCE_BYTES], struct bytes_view aad,
    struct bytes_view sealed, struct bytes *out)
{
    if (cipher() == NULL) {
        return ERR_INTERNAL;
    }
    if (is_too_big(aad) || is_too_big(sealed)) {
        return ERR_TOO_BIG;
    }
    if (sealed.size < CRYPTO_TAG_BYTES) {
        return ERR_CORRUPT;
    }
    size_t plain_size = sealed.size - CRYPTO_TAG_BYTES;
    uint8_t tag[CRYPTO_TAG_BYTES]; // OpenSSL wants to be able to write it
    memcpy(tag, sealed.data + plain_size, sizeof(tag));
    // One more byte, so that there is an address even for nothing.
    enum err err = bytes_reserve(out, plain_size + 1);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t *to = out->data + out->size;
    int size = 0;
    err = ERR_NO_MEMORY;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context != NULL && EVP_DecryptInit_ex2(context, cipher(), key, nonce, NULL) == 1 &&
        EVP_DecryptUpdate(context, NULL, &size, address_of(aad), (int)aad.size) == 1 &&
        EVP_DecryptUpdate(context, to, &size, sealed.data, (int)plain_size) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG_BYTES, tag) == 1) {
        err = EVP_DecryptFinal_ex(context, to + plain_size, &size) == 1 ? ERR_OK : ERR_CORRUPT;
    }
    EVP_CIPHER_CTX_free(context);
    if (err != ERR_OK) {
        digest_wipe(to, plain_size); // what nobody vouches for is not left lying about
        return err;
    }
    out->size += plain_size;
    return ERR_OK;
}
