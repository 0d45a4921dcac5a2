#include "base/base64.h"

#include <string.h>

#include <openssl/evp.h>

enum {
    GROUP_BYTES = 3,
    GROUP_CHARACTERS = 4,
    MAX_BYTES = 1024 * 1024 * 1024, // OpenSSL counts in int
};

enum err
base64_append(struct bytes *out, struct bytes_view data)
{
    if (data.size > MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    size_t characters = (data.size + GROUP_BYTES - 1) / GROUP_BYTES * GROUP_CHARACTERS;
    enum err err = bytes_reserve(out, characters + 1); // EVP_EncodeBlock ends it with NUL
    if (err == ERR_OK && data.size > 0) {
        (void)EVP_EncodeBlock(out->data + out->size, data.data, (int)data.size);
        out->size += characters;
    }
    return err;
}

enum err
base64_append_url(struct bytes *out, struct bytes_view data)
{
    size_t before = out->size;
    enum err err = base64_append(out, data);
    if (err != ERR_OK) {
        return err;
    }
    while (out->size > before && out->data[out->size - 1] == '=') {
        out->size--;
    }
    for (size_t i = before; i < out->size; i++) {
        if (out->data[i] == '+') {
            out->data[i] = '-';
        } else if (out->data[i] == '/') {
            out->data[i] = '_';
        }
    }
    return ERR_OK;
}

static bool
is_letter_or_digit(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// standard_of returns the character of the standard alphabet, or 0.
static uint8_t
standard_of(uint8_t c)
{
    if (c == '-' || c == '+') {
        return '+';
    }
    if (c == '_' || c == '/') {
        return '/';
    }
    return is_letter_or_digit(c) ? c : 0;
}

// normalize appends the text in the standard form with its padding, since EVP_DecodeBlock takes only that, but
// overlooks blanks around it. *padding_out: how many characters of it were put there.
static enum err
normalize(struct bytes *out, struct bytes_view text, size_t *padding_out)
{
    if (text.size % GROUP_CHARACTERS == 0) {
        for (int i = 0; i < 2 && text.size > 0 && text.data[text.size - 1] == '='; i++) {
            text.size--;
        }
    }
    size_t padding = (GROUP_CHARACTERS - text.size % GROUP_CHARACTERS) % GROUP_CHARACTERS;
    if (padding == GROUP_CHARACTERS - 1) {
        return ERR_INVALID; // one character alone stands for less than a byte
    }
    enum err err = bytes_reserve(out, text.size + padding);
    for (size_t i = 0; err == ERR_OK && i < text.size; i++) {
        uint8_t standard = standard_of(text.data[i]);
        if (standard == 0) {
            return ERR_INVALID;
        }
        out->data[out->size++] = standard;
    }
    *padding_out = padding;
    return err == ERR_OK ? bytes_append(out, bytes_view_of("==", padding)) : err;
}

enum err
base64_append_decoded(struct bytes *out, struct bytes_view text)
{
    if (text.size > MAX_BYTES) {
        return ERR_TOO_BIG;
    }
    struct bytes standard = {0};
    size_t padding = 0;
    enum err err = normalize(&standard, text, &padding);
    size_t decoded_bytes = standard.size / GROUP_CHARACTERS * GROUP_BYTES;
    if (err == ERR_OK) {
        err = bytes_reserve(out, decoded_bytes);
    }
    if (err == ERR_OK && standard.size > 0) {
        // It counts the padding as bytes.
        if (EVP_DecodeBlock(out->data + out->size, standard.data, (int)standard.size) != (int)decoded_bytes) {
            err = ERR_INVALID;
        } else {
            out->size += decoded_bytes - padding;
        }
    }
    bytes_free(&standard);
    return err;
}
