#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    // With its header the first block fits malloc's per-thread cache; later ones double up to a bound, so that a
    // small message costs little and a large one few allocations.
    FIRST_BLOCK_BYTES = 960,
    LARGEST_BLOCK_BYTES = 64 * 1024,
};

struct arena_block {
    struct arena_block *older;
    size_t used;
    size_t capacity;
    alignas(max_align_t) unsigned char memory[];
};

void
arena_init(struct arena *arena, size_t limit_bytes)
{
    *arena = (struct arena){.limit_bytes = limit_bytes};
}

static struct arena_block *
add_block(struct arena *arena, size_t size)
{
    size_t capacity = FIRST_BLOCK_BYTES;
    if (arena->newest != NULL) {
        capacity = arena->newest->capacity * 2;
    }
    if (capacity > LARGEST_BLOCK_BYTES) {
        capacity = LARGEST_BLOCK_BYTES;
    }
    if (capacity < size) {
        capacity = size;
    }
    struct arena_block *block = malloc(sizeof(*block) + capacity);
    if (block == NULL) {
        return NULL;
    }
    *block = (struct arena_block){.older = arena->newest, .capacity = capacity};
    arena->newest = block;
    return block;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
    const size_t alignment = alignof(max_align_t);
    size_t left = arena->limit_bytes - arena->used_bytes;
    if (size > left) {
        return NULL;
    }
    // An empty allocation still gets an address of its own.
    size_t padded = size == 0 ? alignment : (size + alignment - 1) / alignment * alignment;
    if (padded < size || padded > left) {
        return NULL;
    }
    struct arena_block *block = arena->newest;
    if (block == NULL || padded > block->capacity - block->used) {
        block = add_block(arena, padded);
        if (block == NULL) {
            return NULL;
        }
    }
    void *memory = block->memory + block->used;
    block->used += padded;
    arena->used_bytes += padded;
    return memory;
}

char *
arena_copy_text(struct arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_alloc(arena, size);
    return copy == NULL ? NULL : memcpy(copy, text, size);
}

void
arena_deinit(struct arena *arena)
{
    while (arena->newest != NULL) {
        struct arena_block *block = arena->newest;
        arena->newest = block->older;
        free(block);
    }
    arena->used_bytes = 0;
}
