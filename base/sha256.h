// SHA-256 of a whole that comes in parts, and of each part, in one pass over the bytes.
//
// Where the processor has instructions for SHA-256, one stream waits for them most of the time: the second one is free.
// Elsewhere OpenSSL does both, one after the other.
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

struct sha256_chain;

// sha256_chain_new begins an empty whole.
enum err sha256_chain_new(struct sha256_chain **out) ERR_CHECKED;

// sha256_chain_add takes the next part and gives its own digest. ERR_INVALID: the part before was not of whole blocks
// of 64 bytes.
enum err sha256_chain_add(struct sha256_chain *chain, struct bytes_view part,
    uint8_t sha256_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

// sha256_chain_final gives the digest of the whole, and ends it: only sha256_chain_free may follow.
enum err sha256_chain_final(struct sha256_chain *chain, uint8_t sha256_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

void sha256_chain_free(struct sha256_chain **chain);

#endif
