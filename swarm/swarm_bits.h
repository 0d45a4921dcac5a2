// Sets of segments: one bit each, lowest bit of the first byte first, as on the wire.
#ifndef SWARM_SWARM_BITS_H
#define SWARM_SWARM_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t
swarm_bits_bytes(uint64_t count)
{
    return (size_t)(count / 8 + (count % 8 != 0));
}

static inline bool
swarm_bits_has(const uint8_t *bits, uint64_t index)
{
    return (bits[index / 8] >> index % 8 & 1) != 0;
}

static inline void
swarm_bits_set(uint8_t *bits, uint64_t index, bool is_set)
{
    uint8_t bit = (uint8_t)(1u << index % 8);
    bits[index / 8] = (uint8_t)(is_set ? bits[index / 8] | bit : bits[index / 8] & ~bit);
}

#endif
