// An arena with a ceiling: many small allocations that are freed together.
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;

// arena hands out memory until limit_bytes is reached, so that what a message claims to hold cannot cost more
// than was meant for it. Not for use by two threads at once.
struct arena {
    struct arena_block *newest;
    size_t used_bytes;
    size_t limit_bytes;
};

// arena_init allocates nothing. limit_bytes counts what is asked for, with padding for alignment.
void arena_init(struct arena *arena, size_t limit_bytes);

// arena_alloc returns memory aligned for any type, not zeroed; NULL when out of memory or over the limit.
// It stays valid until arena_deinit.
void *arena_alloc(struct arena *arena, size_t size);

// arena_copy_text returns a copy of a C string; NULL as arena_alloc.
char *arena_copy_text(struct arena *arena, const char *text);

// arena_deinit frees all; may run twice.
void arena_deinit(struct arena *arena);

#endif
