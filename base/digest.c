#include "base/digest.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

enum {
    STEP_BYTES = 64 * 1024,
};

// Looking an algorithm up by name costs more than hashing a small message with it, so that is done once. Never freed:
// any thread may use them until the process ends.
static struct {
    pthread_once_t once;
    EVP_MD *digests[2]; // by enum digest_kind
    EVP_MAC *hmac;
    EVP_KDF *hkdf;
} algorithms = {.once = PTHREAD_ONCE_INIT};

static void
fetch_algorithms(void)
{
    algorithms.digests[DIGEST_MD5] = EVP_MD_fetch(NULL, "MD5", NULL);
    algorithms.digests[DIGEST_SHA256] = EVP_MD_fetch(NULL, "SHA256", NULL);
    algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    algorithms.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
}

static const EVP_MD *
algorithm_of(enum digest_kind kind)
{
    (void)pthread_once(&algorithms.once, fetch_algorithms);
    return algorithms.digests[kind];
}

struct digest {
    EVP_MD_CTX *context;
    const EVP_MD *algorithm;
};

enum err
digest_new(enum digest_kind kind, struct digest **out)
{
    const EVP_MD *algorithm = algorithm_of(kind);
    if (algorithm == NULL) {
        return ERR_INTERNAL;
    }
    enum err err = ERR_NO_MEMORY;
    struct digest *digest = calloc(1, sizeof(*digest));
    if (digest == NULL) {
        goto out;
    }
    digest->algorithm = algorithm;
    digest->context = EVP_MD_CTX_new();
    if (digest->context == NULL || EVP_DigestInit_ex2(digest->context, algorithm, NULL) != 1) {
        goto out;
    }
    *out = digest;
    digest = NULL; // transferred
    err = ERR_OK;
out:
    digest_free(&digest);
    return err;
}

// Takes much data in steps of some 100 us, and after each lets threads run that have become ready meanwhile. The system
// alone may leave them waiting until its next tick, for 4 ms.
static bool
update(EVP_MD_CTX *context, struct bytes_view data)
{
    while (data.size > STEP_BYTES) {
        if (EVP_DigestUpdate(context, data.data, STEP_BYTES) != 1) {
            return false;
        }
        data = bytes_view_of(data.data + STEP_BYTES, data.size - STEP_BYTES);
        (void)sched_yield();
    }
    return EVP_DigestUpdate(context, data.data, data.size) == 1;
}

enum err
digest_update(struct digest *digest, struct bytes_view data)
{
    return update(digest->context, data) ? ERR_OK : ERR_INTERNAL;
}

enum err
digest_final(struct digest *digest, uint8_t *out)
{
    if (EVP_DigestFinal_ex(digest->context, out, NULL) != 1 ||
        EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL) != 1) {
        return ERR_INTERNAL;
    }
    return ERR_OK;
}

void
digest_free(struct digest **digest)
{
    if (*digest == NULL) {
        return;
    }
    EVP_MD_CTX_free((*digest)->context);
    free(*digest);
    *digest = NULL;
}

enum err
digest_of(enum digest_kind kind, struct bytes_view data, uint8_t *out)
{
    const EVP_MD *algorithm = algorithm_of(kind);
    if (algorithm == NULL) {
        return ERR_INTERNAL;
    }
    if (data.size <= STEP_BYTES) {
        return EVP_Digest(data.data, data.size, out, NULL, algorithm, NULL) == 1 ? ERR_OK : ERR_NO_MEMORY;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool done = context != NULL && EVP_DigestInit_ex2(context, algorithm, NULL) == 1 && update(context, data) &&
                EVP_DigestFinal_ex(context, out, NULL) == 1;
    EVP_MD_CTX_free(context);
    return done ? ERR_OK : ERR_NO_MEMORY;
}

// OpenSSL takes a NULL address for "not set", which is not the same as empty.
static const uint8_t *
address_of(struct bytes_view view)
{
    static const uint8_t nothing[1];
    return view.data == NULL ? nothing : view.data;
}

// For parameters that OpenSSL only reads, though their type says otherwise.
static OSSL_PARAM
octets_param(const char *name, struct bytes_view value)
{
    union {
        const uint8_t *in;
        void *out;
    } address = {.in = address_of(value)};
    return OSSL_PARAM_construct_octet_string(name, address.out, value.size);
}

enum err
digest_hmac_sha256(struct bytes_view key, struct bytes_view data, uint8_t out[DIGEST_SHA256_BYTES])
{
    if (algorithm_of(DIGEST_SHA256) == NULL || algorithms.hmac == NULL) {
        return ERR_INTERNAL;
    }
    char algorithm_name[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, algorithm_name, 0),
        OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithms.hmac);
    bool done = context != NULL && EVP_MAC_init(context, address_of(key), key.size, params) == 1 &&
                EVP_MAC_update(context, address_of(data), data.size) == 1 &&
                EVP_MAC_final(context, out, NULL, DIGEST_SHA256_BYTES) == 1;
    EVP_MAC_CTX_free(context);
    return done ? ERR_OK : ERR_NO_MEMORY;
}

static enum err
hkdf(int mode, struct bytes_view key, struct bytes_view salt, struct bytes_view info, uint8_t *out, size_t out_size)
{
    if (out_size == 0 || out_size > (size_t)255 * DIGEST_SHA256_BYTES) {
        return ERR_INVALID;
    }
    if (algorithm_of(DIGEST_SHA256) == NULL || algorithms.hkdf == NULL) {
        return ERR_INTERNAL;
    }
    char algorithm_name[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, algorithm_name, 0),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode), octets_param(OSSL_KDF_PARAM_KEY, key),
        octets_param(OSSL_KDF_PARAM_SALT, salt), octets_param(OSSL_KDF_PARAM_INFO, info), OSSL_PARAM_construct_end()};
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(algorithms.hkdf);
    bool done = context != NULL && EVP_KDF_derive(context, out, out_size, params) == 1;
    EVP_KDF_CTX_free(context);
    return done ? ERR_OK : ERR_NO_MEMORY;
}

enum err
digest_hkdf_sha256(struct bytes_view ikm, struct bytes_view salt, struct bytes_view info, uint8_t *out, size_t out_size)
{
    return hkdf(EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, ikm, salt, info, out, out_size);
}

enum err
digest_hkdf_extract_sha256(struct bytes_view salt, struct bytes_view ikm, uint8_t prk_out[DIGEST_SHA256_BYTES])
{
    return digest_hmac_sha256(salt, ikm, prk_out);
}

enum err
digest_hkdf_expand_sha256(const uint8_t prk[DIGEST_SHA256_BYTES], struct bytes_view info, uint8_t *out, size_t out_size)
{
    struct bytes_view key = bytes_view_of(prk, DIGEST_SHA256_BYTES);
    return hkdf(EVP_KDF_HKDF_MODE_EXPAND_ONLY, key, bytes_view_of(NULL, 0), info, out, out_size);
}

enum err
digest_scrypt(struct bytes_view password, struct bytes_view salt, unsigned log2_n, unsigned r, unsigned p, uint8_t *out,
    size_t out_size)
{
    enum {
        MAX_LOG2_N = 30,
        MAX_R_OR_P = 1024,
    };
    if (log2_n < 1 || log2_n > MAX_LOG2_N || r < 1 || r > MAX_R_OR_P || p < 1 || p > MAX_R_OR_P || log2_n >= 16 * r ||
        out_size == 0) {
        return ERR_INVALID;
    }
    uint64_t n = (uint64_t)1 << log2_n;
    // OpenSSL refuses to use more than it is told to; this is what the parameters need.
    uint64_t memory_bytes = 128 * (uint64_t)r * (n + p + 2);
    const char *text = (const char *)address_of(password);
    if (EVP_PBE_scrypt(text, password.size, address_of(salt), salt.size, n, r, p, memory_bytes, out, out_size) != 1) {
        return ERR_NO_MEMORY;
    }
    return ERR_OK;
}

void
digest_wipe(void *secret, size_t size)
{
    OPENSSL_cleanse(secret, size);
}
