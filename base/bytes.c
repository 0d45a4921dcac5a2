#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

enum {
    // The first allocation: small enough for many idle buffers, large enough for most messages.
    FIRST_CAPACITY_BYTES = 64,
};

struct bytes_view
bytes_view_of(const void *data, size_t size)
{
    return (struct bytes_view){.data = data, .size = size};
}

struct bytes_view
bytes_view_of_text(const char *text)
{
    return bytes_view_of(text, text == NULL ? 0 : strlen(text));
}

bool
bytes_view_equal(struct bytes_view a, struct bytes_view b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool
bytes_view_equal_secret(struct bytes_view a, struct bytes_view b)
{
    return a.size == b.size && (a.size == 0 || CRYPTO_memcmp(a.data, b.data, a.size) == 0);
}

struct bytes_view
bytes_as_view(const struct bytes *bytes)
{
    return bytes_view_of(bytes->data, bytes->size);
}

enum err
bytes_reserve(struct bytes *bytes, size_t extra)
{
    if (extra <= bytes->capacity - bytes->size) {
        return ERR_OK;
    }
    if (extra > SIZE_MAX / 2 - bytes->size) {
        return ERR_NO_MEMORY;
    }
    size_t needed = bytes->size + extra;
    size_t capacity = bytes->capacity == 0 ? FIRST_CAPACITY_BYTES : bytes->capacity * 2;
    if (capacity < needed) {
        capacity = needed;
    }
    uint8_t *data = realloc(bytes->data, capacity);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    bytes->data = data;
    bytes->capacity = capacity;
    return ERR_OK;
}

enum err
bytes_append(struct bytes *bytes, struct bytes_view data)
{
    if (data.size == 0) {
        return ERR_OK;
    }
    enum err err = bytes_reserve(bytes, data.size);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(bytes->data + bytes->size, data.data, data.size);
    bytes->size += data.size;
    return ERR_OK;
}

void
bytes_clear(struct bytes *bytes)
{
    bytes->size = 0;
}

void
bytes_consume(struct bytes *bytes, size_t n)
{
    bytes->size -= n;
    if (n > 0 && bytes->size > 0) {
        memmove(bytes->data, bytes->data + n, bytes->size);
    }
}

void
bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

void
bytes_free_secret(struct bytes *bytes)
{
    if (bytes->data != NULL) {
        OPENSSL_cleanse(bytes->data, bytes->capacity);
    }
    bytes_free(bytes);
}

uint16_t
bytes_load_be16(const uint8_t *from)
{
    return (uint16_t)(((unsigned)from[0] << 8) | from[1]);
}

uint32_t
bytes_load_be32(const uint8_t *from)
{
    return ((uint32_t)from[0] << 24) | ((uint32_t)from[1] << 16) | ((uint32_t)from[2] << 8) | from[3];
}

uint64_t
bytes_load_be64(const uint8_t *from)
{
    return ((uint64_t)bytes_load_be32(from) << 32) | bytes_load_be32(from + 4);
}

void
bytes_store_be16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

void
bytes_store_be32(uint8_t *to, uint32_t value)
{
    bytes_store_be16(to, (uint16_t)(value >> 16));
    bytes_store_be16(to + 2, (uint16_t)value);
}

void
bytes_store_be64(uint8_t *to, uint64_t value)
{
    bytes_store_be32(to, (uint32_t)(value >> 32));
    bytes_store_be32(to + 4, (uint32_t)value);
}

void
bytes_to_hex(struct bytes_view data, char *text_out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < data.size; i++) {
        *text_out++ = digits[data.data[i] >> 4];
        *text_out++ = digits[data.data[i] & 15];
    }
    *text_out = '\0';
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

enum err
bytes_from_hex(const char *text, uint8_t *out, size_t size)
{
    // Checked first, so that out is written on success only.
    for (size_t i = 0; i < 2 * size; i++) {
        if (hex_digit(text[i]) < 0) {
            return ERR_INVALID;
        }
    }
    if (text[2 * size] != '\0') {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(hex_digit(text[2 * i]) * 16 + hex_digit(text[2 * i + 1]));
    }
    return ERR_OK;
}
