// MD5 of a whole that comes in parts, and of each part, in one pass; and the same checked in parallel.
//
// MD5 is one long chain of additions: a stream leaves most of a processor idle, and cannot be split. But two streams
// over the same bytes, a whole and its current part, cost little more than one (md5_chain_add). And whoever knows the
// states in between, as the sender of a file does, can tell them (hints), so that another one computes all the pieces
// of a part at once, each from the state before it, and compares where it ends with the state after it
// (md5_chain_check). The first piece begins with a state of the checker's own, so by induction the digests are as good
// as computed in one go: a wrong hint is noticed, and costs time only.
#ifndef BASE_MD5_H
#define BASE_MD5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

enum {
    MD5_BLOCK_BYTES = 64,
    MD5_PIECES = 8, // of a part that is checked in parallel
    // For each piece but the first the state of the whole, then that of the part, as digests are written.
    MD5_HINTS_BYTES = (MD5_PIECES - 1) * 2 * DIGEST_MD5_BYTES,
};

struct md5_state {
    uint32_t words[4];
};

// md5_chain is the whole so far. Copied it is another one.
struct md5_chain {
    struct md5_state state; // without the rest
    uint64_t size_bytes;
    uint8_t rest[MD5_BLOCK_BYTES]; // after the last whole block: then no part may follow
};

void md5_chain_begin(struct md5_chain *chain);

// md5_chain_takes_hints tells parts that can be checked in parallel by their size.
bool md5_chain_takes_hints(size_t part_bytes);

// md5_chain_add takes the next part and gives its own digest. hints_out may be NULL; it is filled if
// md5_chain_takes_hints. ERR_INVALID: the part before was not of whole blocks.
enum err md5_chain_add(struct md5_chain *chain, struct bytes_view part, uint8_t md5_out[DIGEST_MD5_BYTES],
    uint8_t hints_out[MD5_HINTS_BYTES]) ERR_CHECKED;

// md5_chain_check does the same in parallel, with the hints that md5_chain_add has given somebody else at the same
// place. False: they are wrong, or none; nothing has happened.
bool md5_chain_check(struct md5_chain *chain, struct bytes_view part, struct bytes_view hints,
    uint8_t md5_out[DIGEST_MD5_BYTES]);

// md5_chain_final gives the digest of the whole.
void md5_chain_final(const struct md5_chain *chain, uint8_t md5_out[DIGEST_MD5_BYTES]);

// md5_use_variant is for tests: 0 is the plain code, the others need instructions of newer processors. False: this one
// has not those. Without it the last one that the processor can run is used.
bool md5_use_variant(unsigned variant);

#endif
