// MD5, SHA-256, HMAC, HKDF and scrypt through OpenSSL's EVP.
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    DIGEST_MD5_BYTES = 16,
    DIGEST_SHA256_BYTES = 32,
};

enum digest_kind {
    DIGEST_MD5,    // integrity against accidents only
    DIGEST_SHA256, // integrity against people
};

struct digest;

// digest_new starts a running digest. ERR_NO_MEMORY, or ERR_INTERNAL when OpenSSL lacks the algorithm.
enum err digest_new(enum digest_kind kind, struct digest **out) ERR_CHECKED;
enum err digest_update(struct digest *digest, struct bytes_view data) ERR_CHECKED;
// digest_final writes 16 or 32 bytes and makes the object ready for a new message.
enum err digest_final(struct digest *digest, uint8_t *out) ERR_CHECKED;
void digest_free(struct digest **digest);

// digest_of is the digest of one piece of memory. Any thread.
enum err digest_of(enum digest_kind kind, struct bytes_view data, uint8_t *out) ERR_CHECKED;

// digest_hmac_sha256 is RFC 2104 with SHA-256.
enum err digest_hmac_sha256(struct bytes_view key, struct bytes_view data,
    uint8_t out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

// digest_hkdf_sha256 is RFC 5869, extract and expand. out_size is at most 8,160.
enum err digest_hkdf_sha256(struct bytes_view ikm, struct bytes_view salt, struct bytes_view info, uint8_t *out,
    size_t out_size) ERR_CHECKED;
// The two halves of it, for constructions that use them apart. info is at most 1,024 bytes.
enum err digest_hkdf_extract_sha256(struct bytes_view salt, struct bytes_view ikm,
    uint8_t prk_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;
enum err digest_hkdf_expand_sha256(const uint8_t prk[DIGEST_SHA256_BYTES], struct bytes_view info, uint8_t *out,
    size_t out_size) ERR_CHECKED;

// digest_scrypt is RFC 7914. It takes about 128 * r * 2^log2_n bytes of memory and blocks for tens to hundreds of
// milliseconds.
enum err digest_scrypt(struct bytes_view password, struct bytes_view salt, unsigned log2_n, unsigned r, unsigned p,
    uint8_t *out, size_t out_size) ERR_CHECKED;

// digest_wipe overwrites a secret so that the compiler cannot leave it out.
void digest_wipe(void *secret, size_t size);

#endif
