#include "base/md5.h"

#include <stdatomic.h>
#include <string.h>

#include "base/md5_rounds_priv.h"

// A vector holds one word of the state of each piece. The compiler makes of it what the processor has.
typedef uint32_t lanes __attribute__((vector_size(MD5_PIECES * sizeof(uint32_t))));

static uint32_t
load_le32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void
store_le32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < sizeof(value); i++) {
        to[i] = (uint8_t)(value >> 8 * i);
    }
}

static struct md5_state
first_state(void)
{
    return (struct md5_state){{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

static struct md5_state
decode(const uint8_t from[DIGEST_MD5_BYTES])
{
    struct md5_state state;
    for (unsigned i = 0; i < 4; i++) {
        state.words[i] = load_le32(from + 4 * i);
    }
    return state;
}

static void
encode(const struct md5_state *state, uint8_t out[DIGEST_MD5_BYTES])
{
    for (unsigned i = 0; i < 4; i++) {
        store_le32(out + 4 * i, state->words[i]);
    }
}

// add_to_both takes the same blocks into two states, whose steps fill each other's waits.
static void
add_to_both(struct md5_state *whole, struct md5_state *part, const uint8_t *data, size_t blocks)
{
    uint32_t a0 = whole->words[0], b0 = whole->words[1], c0 = whole->words[2], d0 = whole->words[3];
    uint32_t a1 = part->words[0], b1 = part->words[1], c1 = part->words[2], d1 = part->words[3];

    for (; blocks > 0; blocks--, data += MD5_BLOCK_BYTES) {
        const struct md5_state before0 = {{a0, b0, c0, d0}};
        const struct md5_state before1 = {{a1, b1, c1, d1}};
#define WORD(k) load_le32(data + 4 * (k))
        MD5_ROUNDS(uint32_t, WORD)
#undef WORD
        a0 += before0.words[0], b0 += before0.words[1], c0 += before0.words[2], d0 += before0.words[3];
        a1 += before1.words[0], b1 += before1.words[1], c1 += before1.words[2], d1 += before1.words[3];
    }
    *whole = (struct md5_state){{a0, b0, c0, d0}};
    *part = (struct md5_state){{a1, b1, c1, d1}};
}

// The states of all pieces, of the whole (0) and of the part (1).
struct pieces {
    struct md5_state states[2][MD5_PIECES];
};

static inline __attribute__((always_inline)) void
load_states(const struct md5_state states[MD5_PIECES], lanes out[4])
{
    for (unsigned word = 0; word < 4; word++) {
        for (unsigned i = 0; i < MD5_PIECES; i++) {
            out[word][i] = states[i].words[word];
        }
    }
}

static inline __attribute__((always_inline)) void
store_states(const lanes from[4], struct md5_state states[MD5_PIECES])
{
    for (unsigned word = 0; word < 4; word++) {
        for (unsigned i = 0; i < MD5_PIECES; i++) {
            states[i].words[word] = from[word][i];
        }
    }
}

#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)

// load_words makes vectors of the words of half a block: word k of every piece. MD5's words are little-endian.
static inline __attribute__((always_inline)) void
load_words(const uint8_t *data, size_t stride, lanes out[MD5_PIECES])
{
    lanes r[MD5_PIECES], s[MD5_PIECES];

#pragma GCC unroll 8
    for (unsigned i = 0; i < MD5_PIECES; i++) {
        memcpy(&r[i], data + i * stride, sizeof(r[i]));
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < MD5_PIECES; i += 2) {
        s[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (unsigned i = 0; i < MD5_PIECES; i += 4) {
        r[i] = SHUFFLE(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        r[i + 1] = SHUFFLE(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        r[i + 2] = SHUFFLE(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        r[i + 3] = SHUFFLE(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        out[i] = SHUFFLE(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        out[i + 4] = SHUFFLE(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (unsigned i = 0; i < MD5_PIECES; i++) {
        out[i] = out[i] >> 24 | (out[i] >> 8 & 0xff00) | (out[i] & 0xff00) << 8 | out[i] << 24;
    }
#endif
}

// add_to_pieces takes `blocks` blocks into both states of each piece: those of piece i from data + i * stride.
static inline __attribute__((always_inline)) void
add_to_pieces(struct pieces *pieces, const uint8_t *data, size_t stride, size_t blocks)
{
    lanes whole[4], part[4], words[16];

    load_states(pieces->states[0], whole);
    load_states(pieces->states[1], part);
    lanes a0 = whole[0], b0 = whole[1], c0 = whole[2], d0 = whole[3];
    lanes a1 = part[0], b1 = part[1], c1 = part[2], d1 = part[3];
    for (; blocks > 0; blocks--, data += MD5_BLOCK_BYTES) {
        load_words(data, stride, words);
        load_words(data + MD5_BLOCK_BYTES / 2, stride, words + 8);
#define WORD(k) words[k]
        MD5_ROUNDS(lanes, WORD)
#undef WORD
        whole[0] = a0 += whole[0], whole[1] = b0 += whole[1], whole[2] = c0 += whole[2], whole[3] = d0 += whole[3];
        part[0] = a1 += part[0], part[1] = b1 += part[1], part[2] = c1 += part[2], part[3] = d1 += part[3];
    }
    store_states(whole, pieces->states[0]);
    store_states(part, pieces->states[1]);
}

typedef void add_fn(struct pieces *pieces, const uint8_t *data, size_t stride, size_t blocks);

static void
add_plain(struct pieces *pieces, const uint8_t *data, size_t stride, size_t blocks)
{
    add_to_pieces(pieces, data, stride, blocks);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void
add_avx2(struct pieces *pieces, const uint8_t *data, size_t stride, size_t blocks)
{
    add_to_pieces(pieces, data, stride, blocks);
}

// With vectors of 256 bits, so that no processor lowers its clock for it.
__attribute__((target("avx512f,avx512vl"))) static void
add_avx512(struct pieces *pieces, const uint8_t *data, size_t stride, size_t blocks)
{
    add_to_pieces(pieces, data, stride, blocks);
}
#endif

static bool
can_run(unsigned variant)
{
#if defined(__x86_64__)
    if (variant == 1) {
        return __builtin_cpu_supports("avx2");
    }
    if (variant == 2) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
    }
#endif
    return variant == 0;
}

static add_fn *const variants[] = {
    add_plain,
#if defined(__x86_64__)
    add_avx2,
    add_avx512,
#endif
};

enum {
    VARIANTS = sizeof(variants) / sizeof(variants[0]),
};

static atomic_uint wanted_variant = VARIANTS - 1;

bool
md5_use_variant(unsigned variant)
{
    bool is_possible = variant < VARIANTS && can_run(variant);
    if (is_possible) {
        atomic_store(&wanted_variant, variant);
    }
    return is_possible;
}

static add_fn *
best_variant(void)
{
    unsigned variant = atomic_load_explicit(&wanted_variant, memory_order_relaxed);
    while (!can_run(variant)) {
        variant--;
    }
    return variants[variant];
}

// finish is the digest of a message of size_bytes of which `state` has all whole blocks.
static void
finish(struct md5_state state, const uint8_t *rest, uint64_t size_bytes, uint8_t out[DIGEST_MD5_BYTES])
{
    uint8_t last[2 * MD5_BLOCK_BYTES] = {0};
    size_t rest_size = size_bytes % MD5_BLOCK_BYTES;
    size_t blocks = rest_size < MD5_BLOCK_BYTES - sizeof(uint64_t) ? 1 : 2;
    struct md5_state unused = state;

    if (rest_size != 0) {
        memcpy(last, rest, rest_size);
    }
    last[rest_size] = 0x80;
    store_le32(last + blocks * MD5_BLOCK_BYTES - 8, (uint32_t)(size_bytes << 3));
    store_le32(last + blocks * MD5_BLOCK_BYTES - 4, (uint32_t)(size_bytes >> 29));
    add_to_both(&state, &unused, last, blocks);
    encode(&state, out);
}

void
md5_chain_begin(struct md5_chain *chain)
{
    *chain = (struct md5_chain){.state = first_state()};
}

bool
md5_chain_takes_hints(size_t part_bytes)
{
    // Below it is not worth the bytes.
    return part_bytes >= (size_t)64 * 1024 && part_bytes % (MD5_PIECES * MD5_BLOCK_BYTES) == 0;
}

enum err
md5_chain_add(struct md5_chain *chain, struct bytes_view part, uint8_t md5_out[DIGEST_MD5_BYTES],
    uint8_t hints_out[MD5_HINTS_BYTES])
{
    struct md5_state state = first_state();
    const uint8_t *at = part.data;
    size_t blocks = part.size / MD5_BLOCK_BYTES;
    size_t rest_size = part.size % MD5_BLOCK_BYTES;

    if (chain->size_bytes % MD5_BLOCK_BYTES != 0) {
        return ERR_INVALID;
    }
    if (hints_out != NULL && md5_chain_takes_hints(part.size)) {
        blocks /= MD5_PIECES;
        for (unsigned i = 1; i < MD5_PIECES; i++) {
            add_to_both(&chain->state, &state, at, blocks);
            encode(&chain->state, hints_out);
            encode(&state, hints_out + DIGEST_MD5_BYTES);
            hints_out += 2 * DIGEST_MD5_BYTES;
            at += blocks * MD5_BLOCK_BYTES;
        }
    }
    add_to_both(&chain->state, &state, at, blocks);
    if (rest_size != 0) {
        memcpy(chain->rest, part.data + part.size - rest_size, rest_size);
    }
    chain->size_bytes += part.size;
    finish(state, chain->rest, part.size, md5_out);
    return ERR_OK;
}

bool
md5_chain_check(struct md5_chain *chain, struct bytes_view part, struct bytes_view hints,
    uint8_t md5_out[DIGEST_MD5_BYTES])
{
    struct pieces pieces;
    struct pieces hinted;

    if (hints.size != MD5_HINTS_BYTES || !md5_chain_takes_hints(part.size) ||
        chain->size_bytes % MD5_BLOCK_BYTES != 0) {
        return false;
    }
    hinted.states[0][0] = chain->state;
    hinted.states[1][0] = first_state();
    for (size_t i = 1; i < MD5_PIECES; i++) {
        hinted.states[0][i] = decode(hints.data + (i - 1) * 2 * DIGEST_MD5_BYTES);
        hinted.states[1][i] = decode(hints.data + (i - 1) * 2 * DIGEST_MD5_BYTES + DIGEST_MD5_BYTES);
    }
    pieces = hinted;
    size_t stride = part.size / MD5_PIECES;
    best_variant()(&pieces, part.data, stride, stride / MD5_BLOCK_BYTES);
    for (size_t i = 0; i < 2; i++) {
        // Each piece has to end where the next one begins.
        if (memcmp(&pieces.states[i][0], &hinted.states[i][1], (MD5_PIECES - 1) * sizeof(struct md5_state)) != 0) {
            return false;
        }
    }
    chain->state = pieces.states[0][MD5_PIECES - 1];
    chain->size_bytes += part.size;
    finish(pieces.states[1][MD5_PIECES - 1], NULL, part.size, md5_out);
    return true;
}

void
md5_chain_final(const struct md5_chain *chain, uint8_t md5_out[DIGEST_MD5_BYTES])
{
    finish(chain->state, chain->rest, chain->size_bytes, md5_out);
}
