// Recovery keys as people write them down.

#include <stdint.h>
#include <string.h>

#include "base/digest.h"
#include "e2e/e2e_message.h"

enum {
    BITS_PER_CHARACTER = 5,
    GROUP_CHARACTERS = 4,
    CHECK_BYTES = 3, // of which 20 bits are used
    KEY_CHARACTERS = 8 * E2E_RECOVERY_KEY_BYTES / BITS_PER_CHARACTER,
    CHARACTERS = KEY_CHARACTERS + GROUP_CHARACTERS,
};
_Static_assert(CHARACTERS + CHARACTERS / GROUP_CHARACTERS == E2E_RECOVERY_TEXT_BYTES,
    "dashes between groups and a NUL");

// Crockford's base32: no I, L, O and U.
static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

// The key and what checks it, as one string of bits.
static enum err
with_check(const uint8_t key[E2E_RECOVERY_KEY_BYTES], uint8_t out[E2E_RECOVERY_KEY_BYTES + CHECK_BYTES])
{
    uint8_t hash[DIGEST_SHA256_BYTES];
    enum err err = digest_of(DIGEST_SHA256, bytes_view_of(key, E2E_RECOVERY_KEY_BYTES), hash);
    memcpy(out, key, E2E_RECOVERY_KEY_BYTES);
    memcpy(out + E2E_RECOVERY_KEY_BYTES, hash, CHECK_BYTES);
    digest_wipe(hash, sizeof(hash));
    return err;
}

static unsigned
value_at(const uint8_t *bits, size_t character)
{
    unsigned value = 0;
    for (size_t i = 0; i < BITS_PER_CHARACTER; i++) {
        size_t bit = character * BITS_PER_CHARACTER + i;
        value = value << 1 | ((unsigned)bits[bit / 8] >> (7 - bit % 8) & 1U);
    }
    return value;
}

enum err
e2e_recovery_format(const uint8_t key[E2E_RECOVERY_KEY_BYTES], char out[E2E_RECOVERY_TEXT_BYTES])
{
    uint8_t bits[E2E_RECOVERY_KEY_BYTES + CHECK_BYTES];
    enum err err = with_check(key, bits);
    char *to = out;
    for (size_t i = 0; err == ERR_OK && i < CHARACTERS; i++) {
        if (i > 0 && i % GROUP_CHARACTERS == 0) {
            *to++ = '-';
        }
        *to++ = alphabet[value_at(bits, i)];
    }
    if (err == ERR_OK) {
        *to = '\0';
    }
    digest_wipe(bits, sizeof(bits));
    return err;
}

// -1: not a character of the alphabet.
static int
value_of(char c)
{
    if (c >= 'a' && c <= 'z') {
        c = (char)(c - 'a' + 'A');
    }
    if (c == 'O') {
        return 0;
    }
    if (c == 'I' || c == 'L') {
        return 1;
    }
    const char *found = c == '\0' ? NULL : strchr(alphabet, c);
    return found == NULL ? -1 : (int)(found - alphabet);
}

// Reads the characters as bits; those left over in the last byte are 0.
static enum err
read_bits(const char *text, uint8_t bits[E2E_RECOVERY_KEY_BYTES + CHECK_BYTES], struct err_detail *why)
{
    size_t count = 0;
    memset(bits, 0, E2E_RECOVERY_KEY_BYTES + CHECK_BYTES);
    for (; *text != '\0'; text++) {
        if (strchr(" -\t\r\n", *text) != NULL) {
            continue;
        }
        int value = value_of(*text);
        if (value < 0) {
            return err_fail(why, ERR_INVALID, "the recovery key holds a character that no recovery key has");
        }
        if (count >= CHARACTERS) {
            return err_fail(why, ERR_INVALID, "the recovery key has more than %d characters", CHARACTERS);
        }
        for (size_t i = 0; i < BITS_PER_CHARACTER; i++) {
            size_t bit = count * BITS_PER_CHARACTER + i;
            unsigned is_set = (unsigned)value >> (BITS_PER_CHARACTER - 1 - i) & 1U;
            bits[bit / 8] = (uint8_t)(bits[bit / 8] | is_set << (7 - bit % 8));
        }
        count++;
    }
    if (count < CHARACTERS) {
        return err_fail(why, ERR_INVALID, "the recovery key has %zu characters, not %d", count, CHARACTERS);
    }
    return ERR_OK;
}

enum err
e2e_recovery_parse(const char *text, uint8_t key_out[E2E_RECOVERY_KEY_BYTES], struct err_detail *why)
{
    uint8_t bits[E2E_RECOVERY_KEY_BYTES + CHECK_BYTES];
    uint8_t expected[E2E_RECOVERY_KEY_BYTES + CHECK_BYTES];
    enum err err = read_bits(text, bits, why);
    if (err == ERR_OK) {
        err = with_check(bits, expected);
    }
    if (err == ERR_OK) {
        expected[sizeof(expected) - 1] &= 0xf0; // 20 bits
        if (memcmp(bits, expected, sizeof(bits)) != 0) {
            err = err_fail(why, ERR_INVALID, "the recovery key is mistyped: its last group does not fit the others");
        } else {
            memcpy(key_out, bits, E2E_RECOVERY_KEY_BYTES);
        }
    }
    digest_wipe(bits, sizeof(bits));
    digest_wipe(expected, sizeof(expected));
    return err;
}
