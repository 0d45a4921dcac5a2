#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/text_priv.h"

// Reads the first character of text, which is not empty. Returns its size, or 0 when it is not well-formed UTF-8.
static size_t
decode(struct bytes_view text, uint32_t *code_out)
{
    const uint8_t *s = text.data;
    if (s[0] < 0x80) {
        *code_out = s[0];
        return 1;
    }
    size_t size = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || text.size < size) {
        return 0;
    }
    uint32_t code = s[0] & (0xffU >> (size + 1));
    for (size_t i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (s[i] & 0x3fU);
    }
    static const uint32_t smallest[] = {[2] = 0x80, [3] = 0x800, [4] = 0x10000};
    if (code < smallest[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    *code_out = code;
    return size;
}

static struct bytes_view
without_first(struct bytes_view view, size_t n)
{
    return bytes_view_of(view.data + n, view.size - n);
}

// Most text is ASCII, and eight of its bytes are looked at in a few instructions: none has its high bit set, and none
// is 0, which would borrow into a high bit that was clear.
static bool
is_eight_of_ascii(const uint8_t *at)
{
    const uint64_t high_bits = 0x8080808080808080U;
    const uint64_t ones = 0x0101010101010101U;
    uint64_t eight;
    memcpy(&eight, at, sizeof(eight));
    return ((eight | (eight - ones)) & high_bits) == 0;
}

bool
text_is_utf8(struct bytes_view text)
{
    while (text.size > 0) {
        if (text.size >= 8 && is_eight_of_ascii(text.data)) {
            text = without_first(text, 8);
            continue;
        }
        uint32_t code = 0;
        size_t size = decode(text, &code);
        if (size == 0 || code == 0) {
            return false;
        }
        text = without_first(text, size);
    }
    return true;
}

static bool
is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0x9f);
}

// Controls drive a terminal; line separators, bidirectional overrides and isolates show text in another order than it
// has.
static bool
is_misleading(uint32_t code)
{
    return is_control(code) || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

size_t
text_take_visible(struct bytes_view *rest, bool keep_newlines, char out[TEXT_VISIBLE_MAX_BYTES])
{
    uint32_t code = 0;
    size_t size = decode(*rest, &code);
    const uint8_t *from = rest->data;
    *rest = without_first(*rest, size == 0 ? 1 : size);

    bool kept = keep_newlines && size == 1 && (code == '\n' || code == '\t');
    if (size > 0 && (kept || !is_misleading(code))) {
        memcpy(out, from, size);
        return size;
    }
    int written = size <= 1 ? snprintf(out, TEXT_VISIBLE_MAX_BYTES, "\\x%02x", from[0])
                            : snprintf(out, TEXT_VISIBLE_MAX_BYTES, "\\u{%x}", (unsigned)code);
    return (size_t)written;
}

enum err
text_append_printable(struct bytes *out, struct bytes_view text, bool keep_newlines)
{
    enum err err = bytes_reserve(out, text.size);
    while (err == ERR_OK && text.size > 0) {
        char visible[TEXT_VISIBLE_MAX_BYTES];
        size_t size = text_take_visible(&text, keep_newlines, visible);
        err = bytes_append(out, bytes_view_of(visible, size));
    }
    return err;
}

static bool
is_letter_or_digit(char c, bool upper_case_allowed)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (upper_case_allowed && c >= 'A' && c <= 'Z');
}

static enum err
check_plain_name(const char *what, const char *name, size_t max_bytes, bool upper_case_allowed, struct err_detail *why)
{
    const char *letters = upper_case_allowed ? "letters (a-z, A-Z)" : "lower-case letters (a-z)";
    size_t size = strlen(name);
    if (size == 0) {
        return err_fail(why, ERR_INVALID, "the %s is empty", what);
    }
    if (size > max_bytes) {
        return err_fail(why, ERR_INVALID, "the %s has %zu characters; at most %zu are allowed", what, size, max_bytes);
    }
    if (!is_letter_or_digit(name[0], upper_case_allowed)) {
        return err_fail(why, ERR_INVALID, "the %s must begin with one of the %s or a digit", what, letters);
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_letter_or_digit(name[i], upper_case_allowed) && strchr("._-", name[i]) == NULL) {
            return err_fail(why, ERR_INVALID, "the %s may hold only %s, digits, '.', '_' and '-'", what, letters);
        }
    }
    return ERR_OK;
}

enum err
text_check_user_name(const char *name, struct err_detail *why)
{
    return check_plain_name("user name", name, TEXT_USER_NAME_MAX_BYTES, false, why);
}

enum err
text_check_room_name(const char *name, struct err_detail *why)
{
    return check_plain_name("room name", name, TEXT_ROOM_NAME_MAX_BYTES, true, why);
}

static enum err
check_component(const char *component, size_t size, struct err_detail *why)
{
    if (size == 0) {
        return err_fail(why, ERR_INVALID,
            "the file name has an empty part: it may not begin or end with '/' or hold \"//\"");
    }
    if (size > TEXT_FILE_COMPONENT_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a part of the file name has %zu bytes; at most %d are allowed", size,
            TEXT_FILE_COMPONENT_MAX_BYTES);
    }
    if ((size == 1 && component[0] == '.') || (size == 2 && memcmp(component, "..", 2) == 0)) {
        return err_fail(why, ERR_INVALID, "no part of a file name may be \".\" or \"..\"");
    }
    return ERR_OK;
}

enum err
text_check_file_name(const char *name, struct err_detail *why)
{
    size_t size = strlen(name);
    if (size == 0) {
        return err_fail(why, ERR_INVALID, "the file name is empty");
    }
    if (size > TEXT_FILE_NAME_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "the file name has %zu bytes; at most %d are allowed", size,
            TEXT_FILE_NAME_MAX_BYTES);
    }
    for (struct bytes_view rest = bytes_view_of(name, size); rest.size > 0;) {
        uint32_t code = 0;
        size_t taken = decode(rest, &code);
        if (taken == 0) {
            return err_fail(why, ERR_INVALID, "the file name is not UTF-8");
        }
        if (is_control(code)) {
            return err_fail(why, ERR_INVALID, "the file name holds a control character (U+%04X)", (unsigned)code);
        }
        rest = without_first(rest, taken);
    }
    for (;;) {
        size_t component_size = strcspn(name, "/");
        enum err err = check_component(name, component_size, why);
        if (err != ERR_OK || name[component_size] == '\0') {
            return err;
        }
        name += component_size + 1;
    }
}

// Writes what stands for one character inside a JSON string. Returns its size.
static size_t
json_form(uint32_t code, const uint8_t *utf8, size_t utf8_size, char out[TEXT_VISIBLE_MAX_BYTES])
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char escaped[] = "\"\\bfnrt";
    const char *short_form = code != 0 && code < 0x80 ? strchr(plain, (int)code) : NULL;
    if (short_form != NULL) {
        out[0] = '\\';
        out[1] = escaped[short_form - plain];
        return 2;
    }
    // More than JSON asks for, so that it may be shown on a terminal as it is.
    if (is_misleading(code)) {
        return (size_t)snprintf(out, TEXT_VISIBLE_MAX_BYTES, "\\u%04x", (unsigned)code);
    }
    memcpy(out, utf8, utf8_size);
    return utf8_size;
}

enum err
text_append_json_string(struct bytes *out, struct bytes_view text)
{
    static const char replacement[] = "\xef\xbf\xbd"; // U+FFFD
    enum err err = bytes_reserve(out, text.size);
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of("\"", 1));
    }
    while (err == ERR_OK && text.size > 0) {
        uint32_t code = 0;
        size_t size = decode(text, &code);
        if (size == 0) {
            err = bytes_append(out, bytes_view_of_text(replacement));
            size = 1;
        } else {
            char form[TEXT_VISIBLE_MAX_BYTES];
            err = bytes_append(out, bytes_view_of(form, json_form(code, text.data, size, form)));
        }
        text = without_first(text, size);
    }
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of("\"", 1));
    }
    return err;
}

const char *
text_last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

void
text_format_size(double bytes, char out[TEXT_SIZE_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (bytes >= 1023.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, TEXT_SIZE_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}
