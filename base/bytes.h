// Byte strings: bytes_view borrows, bytes owns.
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// bytes_view is borrowed memory, passed by value. data may be NULL when size is 0.
struct bytes_view {
    const uint8_t *data;
    size_t size;
};

// bytes is owned memory that grows. All zero is a valid empty one. Capacity at least doubles, so
// appending n bytes one at a time costs O(n). Not for use by two threads at once.
struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

struct bytes_view bytes_view_of(const void *data, size_t size);

// bytes_view_of_text borrows a C string without its NUL; NULL gives the empty view.
struct bytes_view bytes_view_of_text(const char *text);

bool bytes_view_equal(struct bytes_view a, struct bytes_view b);

// bytes_view_equal_secret compares in time that depends on the sizes only.
bool bytes_view_equal_secret(struct bytes_view a, struct bytes_view b);

// bytes_view borrows what is there now: valid until the next call that changes it.
struct bytes_view bytes_as_view(const struct bytes *bytes);

// bytes_reserve makes room for extra more bytes beyond size. ERR_NO_MEMORY leaves it as it was.
enum err bytes_reserve(struct bytes *bytes, size_t extra) ERR_CHECKED;

// bytes_append copies; the data may not lie inside bytes itself.
enum err bytes_append(struct bytes *bytes, struct bytes_view data) ERR_CHECKED;

// bytes_clear sets the size to 0 and keeps the memory.
void bytes_clear(struct bytes *bytes);

// bytes_consume drops the first n bytes (n <= size).
void bytes_consume(struct bytes *bytes, size_t n);

// bytes_free gives the memory back and leaves an empty one; may run twice.
void bytes_free(struct bytes *bytes);

// bytes_free_secret wipes the memory first.
void bytes_free_secret(struct bytes *bytes);

// bytes_load_be16 .. bytes_store_be64 read and write big-endian integers at unaligned addresses.
uint16_t bytes_load_be16(const uint8_t *from);
uint32_t bytes_load_be32(const uint8_t *from);
uint64_t bytes_load_be64(const uint8_t *from);
void bytes_store_be16(uint8_t *to, uint16_t value);
void bytes_store_be32(uint8_t *to, uint32_t value);
void bytes_store_be64(uint8_t *to, uint64_t value);

// bytes_to_hex writes 2 * data.size lower-case digits and a NUL to text_out.
void bytes_to_hex(struct bytes_view data, char *text_out);

// bytes_from_hex reads exactly 2 * size digits of either case followed by NUL. ERR_INVALID otherwise.
enum err bytes_from_hex(const char *text, uint8_t *out, size_t size) ERR_CHECKED;

#endif
