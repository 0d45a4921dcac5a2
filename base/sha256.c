#include "base/sha256.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

enum {
    BLOCK_BYTES = 64,
};

struct state {
    uint32_t words[8];
};

struct sha256_chain {
    struct digest *digest; // of OpenSSL; NULL: the processor has the instructions, and the others count
    struct state state;    // without the rest
    uint64_t size_bytes;
    uint8_t rest[BLOCK_BYTES]; // after the last whole block
};

#if defined(__x86_64__)

static const uint32_t constants[64] = {
    0x428a2f98,
    0x71374491,
    0xb5c0fbcf,
    0xe9b5dba5,
    0x3956c25b,
    0x59f111f1,
    0x923f82a4,
    0xab1c5ed5, //
    0xd807aa98,
    0x12835b01,
    0x243185be,
    0x550c7dc3,
    0x72be5d74,
    0x80deb1fe,
    0x9bdc06a7,
    0xc19bf174, //
    0xe49b69c1,
    0xefbe4786,
    0x0fc19dc6,
    0x240ca1cc,
    0x2de92c6f,
    0x4a7484aa,
    0x5cb0a9dc,
    0x76f988da, //
    0x983e5152,
    0xa831c66d,
    0xb00327c8,
    0xbf597fc7,
    0xc6e00bf3,
    0xd5a79147,
    0x06ca6351,
    0x14292967, //
    0x27b70a85,
    0x2e1b2138,
    0x4d2c6dfc,
    0x53380d13,
    0x650a7354,
    0x766a0abb,
    0x81c2c92e,
    0x92722c85, //
    0xa2bfe8a1,
    0xa81a664b,
    0xc24b8b70,
    0xc76c51a3,
    0xd192e819,
    0xd6990624,
    0xf40e3585,
    0x106aa070, //
    0x19a4c116,
    0x1e376c08,
    0x2748774c,
    0x34b0bcb5,
    0x391c0cb3,
    0x4ed8aa4a,
    0x5b9cca4f,
    0x682e6ff3, //
    0x748f82ee,
    0x78a5636f,
    0x84c87814,
    0x8cc70208,
    0x90befffa,
    0xa4506ceb,
    0xbef9a3f7,
    0xc67178f2,
};

static bool
has_instructions(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0;
}

#define WITH_INSTRUCTIONS __attribute__((target("sha,sse4.1,ssse3")))

// The instructions want the state as two vectors: words a, b, e, f, and c, d, g, h.
WITH_INSTRUCTIONS static inline void
load_state(const struct state *state, __m128i *abef, __m128i *cdgh)
{
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)&state->words[0]), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)&state->words[4]), 0x1b);
    *abef = _mm_alignr_epi8(low, high, 8);
    *cdgh = _mm_blend_epi16(high, low, 0xf0);
}

WITH_INSTRUCTIONS static inline void
store_state(struct state *state, __m128i abef, __m128i cdgh)
{
    __m128i low = _mm_shuffle_epi32(abef, 0x1b);
    __m128i high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)&state->words[0], _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)&state->words[4], _mm_alignr_epi8(high, low, 8));
}

// add_to_both takes the same blocks into two states; the words of a block are scheduled once for both.
WITH_INSTRUCTIONS static void
add_to_both(struct state *whole, struct state *part, const uint8_t *data, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abef0, cdgh0, abef1, cdgh1, words[4];

    load_state(whole, &abef0, &cdgh0);
    load_state(part, &abef1, &cdgh1);
    for (; blocks > 0; blocks--, data += BLOCK_BYTES) {
        const __m128i before[4] = {abef0, cdgh0, abef1, cdgh1};
        for (int i = 0; i < 4; i++) {
            words[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), big_endian);
        }
        // Four rounds each, while the words of those four times later are made.
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i added = _mm_add_epi32(words[i % 4], _mm_loadu_si128((const __m128i *)&constants[4 * i]));
            cdgh0 = _mm_sha256rnds2_epu32(cdgh0, abef0, added);
            cdgh1 = _mm_sha256rnds2_epu32(cdgh1, abef1, added);
            added = _mm_shuffle_epi32(added, 0x0e);
            if (i < 12) {
                __m128i next = _mm_sha256msg1_epu32(words[i % 4], words[(i + 1) % 4]);
                next = _mm_add_epi32(next, _mm_alignr_epi8(words[(i + 3) % 4], words[(i + 2) % 4], 4));
                words[i % 4] = _mm_sha256msg2_epu32(next, words[(i + 3) % 4]);
            }
            abef0 = _mm_sha256rnds2_epu32(abef0, cdgh0, added);
            abef1 = _mm_sha256rnds2_epu32(abef1, cdgh1, added);
        }
        abef0 = _mm_add_epi32(abef0, before[0]);
        cdgh0 = _mm_add_epi32(cdgh0, before[1]);
        abef1 = _mm_add_epi32(abef1, before[2]);
        cdgh1 = _mm_add_epi32(cdgh1, before[3]);
    }
    store_state(whole, abef0, cdgh0);
    store_state(part, abef1, cdgh1);
}

#else

static bool
has_instructions(void)
{
    return false;
}

// Never called.
static void
add_to_both(struct state *whole, struct state *part, const uint8_t *data, size_t blocks)
{
    (void)whole;
    (void)part;
    (void)data;
    (void)blocks;
}

#endif

static struct state
first_state(void)
{
    return (struct state){
        {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

// finish is the digest of a message of size_bytes of which `state` has all whole blocks.
static void
finish(struct state state, const uint8_t *rest, uint64_t size_bytes, uint8_t out[DIGEST_SHA256_BYTES])
{
    uint8_t last[2 * BLOCK_BYTES] = {0};
    size_t rest_size = size_bytes % BLOCK_BYTES;
    size_t blocks = rest_size < BLOCK_BYTES - sizeof(uint64_t) ? 1 : 2;
    struct state unused = state;

    if (rest_size != 0) {
        memcpy(last, rest, rest_size);
    }
    last[rest_size] = 0x80;
    bytes_store_be64(last + blocks * BLOCK_BYTES - sizeof(uint64_t), size_bytes << 3);
    add_to_both(&state, &unused, last, blocks);
    for (size_t i = 0; i < 8; i++) {
        bytes_store_be32(out + 4 * i, state.words[i]);
    }
}

enum err
sha256_chain_new(struct sha256_chain **out)
{
    struct sha256_chain *chain = calloc(1, sizeof(*chain));
    if (chain == NULL) {
        return ERR_NO_MEMORY;
    }
    chain->state = first_state();
    enum err err = has_instructions() ? ERR_OK : digest_new(DIGEST_SHA256, &chain->digest);
    if (err != ERR_OK) {
        sha256_chain_free(&chain);
        return err;
    }
    *out = chain;
    return ERR_OK;
}

enum err
sha256_chain_add(struct sha256_chain *chain, struct bytes_view part, uint8_t sha256_out[DIGEST_SHA256_BYTES])
{
    struct state state = first_state();
    size_t rest_size = part.size % BLOCK_BYTES;

    if (chain->size_bytes % BLOCK_BYTES != 0) {
        return ERR_INVALID;
    }
    if (chain->digest != NULL) {
        enum err err = digest_update(chain->digest, part);
        if (err != ERR_OK) {
            return err;
        }
        chain->size_bytes += part.size;
        return digest_of(DIGEST_SHA256, part, sha256_out);
    }
    add_to_both(&chain->state, &state, part.data, part.size / BLOCK_BYTES);
    if (rest_size != 0) {
        memcpy(chain->rest, part.data + part.size - rest_size, rest_size);
    }
    chain->size_bytes += part.size;
    finish(state, chain->rest, part.size, sha256_out);
    return ERR_OK;
}

enum err
sha256_chain_final(struct sha256_chain *chain, uint8_t sha256_out[DIGEST_SHA256_BYTES])
{
    if (chain->digest != NULL) {
        return digest_final(chain->digest, sha256_out);
    }
    finish(chain->state, chain->rest, chain->size_bytes, sha256_out);
    return ERR_OK;
}

void
sha256_chain_free(struct sha256_chain **chain)
{
    if (*chain == NULL) {
        return;
    }
    digest_free(&(*chain)->digest);
    free(*chain);
    *chain = NULL;
}
