// What a JSON value says, read as the type of a field wants it.
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc_json_priv.h"

static const char *
kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        break;
    }
    return "null";
}

enum err
rpc_json_fail_expected(const struct rpc_json_path *path, const char *expected, const json_t *value)
{
    return rpc_json_path_fail(path, ERR_INVALID, "expected %s, not %s", expected, kind_of(value));
}

const char *
rpc_json_text_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return strlen(text) == json_string_length(value) ? text : "";
}

static size_t
count_digits(const char *text)
{
    return strspn(text, "0123456789");
}

// is_number tells whether all of the text is a number as JSON writes it.
static bool
is_number(const char *text)
{
    text += *text == '-';
    size_t digits = count_digits(text);
    if (digits == 0 || (digits > 1 && text[0] == '0')) {
        return false;
    }
    text += digits;
    if (*text == '.') {
        digits = count_digits(text + 1);
        if (digits == 0) {
            return false;
        }
        text += 1 + digits;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '+' || *text == '-';
        digits = count_digits(text);
        if (digits == 0) {
            return false;
        }
        text += digits;
    }
    return *text == '\0';
}

// read_digits reads a number without fraction and exponent, exactly.
static bool
read_digits(const char *text, struct rpc_json_whole *out)
{
    struct rpc_json_whole whole = {.is_negative = *text == '-'};
    text += whole.is_negative;
    for (; *text >= '0' && *text <= '9'; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (whole.magnitude > (UINT64_MAX - digit) / 10) {
            return false;
        }
        whole.magnitude = whole.magnitude * 10 + digit;
    }
    *out = whole;
    return *text == '\0';
}

static bool
whole_of_real(double real, struct rpc_json_whole *out)
{
    double magnitude = fabs(real);
    if (!(magnitude < 0x1p64) || (double)(uint64_t)magnitude != magnitude) {
        return false;
    }
    *out = (struct rpc_json_whole){.is_negative = signbit(real) != 0, .magnitude = (uint64_t)magnitude};
    return true;
}

static bool
whole_of_text(const char *text, struct rpc_json_whole *out)
{
    return is_number(text) && (read_digits(text, out) || whole_of_real(strtod(text, NULL), out));
}

enum err
rpc_json_read_whole(const struct rpc_json_path *path, const json_t *value, uint64_t min_magnitude, uint64_t max,
    struct rpc_json_whole *out)
{
    bool is_whole = false;
    if (json_is_integer(value)) {
        json_int_t number = json_integer_value(value);
        *out = (struct rpc_json_whole){
            .is_negative = number < 0,
            .magnitude = number < 0 ? UINT64_C(0) - (uint64_t)number : (uint64_t)number,
        };
        is_whole = true;
    } else if (json_is_real(value)) {
        is_whole = whole_of_real(json_real_value(value), out);
    } else if (json_is_string(value)) {
        is_whole = whole_of_text(rpc_json_text_of(value), out);
    } else {
        return rpc_json_fail_expected(path, "an integer", value);
    }
    if (!is_whole) {
        return rpc_json_path_fail(path, ERR_INVALID, "expected an integer");
    }
    if (out->magnitude > (out->is_negative ? min_magnitude : max)) {
        return rpc_json_path_fail(path, ERR_INVALID, "expected an integer from %s%" PRIu64 " to %" PRIu64,
            min_magnitude != 0 ? "-" : "", min_magnitude, max);
    }
    return ERR_OK;
}

static bool
read_special(const char *text, double *out)
{
    if (strcmp(text, "NaN") == 0) {
        *out = NAN;
    } else if (strcmp(text, "Infinity") == 0) {
        *out = INFINITY;
    } else if (strcmp(text, "-Infinity") == 0) {
        *out = -INFINITY;
    } else {
        return false;
    }
    return true;
}

// Below this a number is nearer to FLT_MAX than to what would follow it, and FLT_MAX printed in 8 digits is there.
static const double float_end = 0x1.ffffffp127;

enum err
rpc_json_read_real(const struct rpc_json_path *path, const json_t *value, bool is_float, double *out)
{
    if (json_is_string(value)) {
        const char *text = rpc_json_text_of(value);
        if (read_special(text, out)) {
            return ERR_OK;
        }
        if (!is_number(text)) {
            return rpc_json_path_fail(path, ERR_INVALID, "expected a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
        }
        *out = strtod(text, NULL);
    } else if (json_is_number(value)) {
        *out = json_number_value(value);
    } else {
        return rpc_json_fail_expected(path, "a number", value);
    }
    if (is_float && fabs(*out) > (double)FLT_MAX && fabs(*out) < float_end) {
        *out = *out > 0 ? (double)FLT_MAX : -(double)FLT_MAX;
    }
    double max = is_float ? (double)FLT_MAX : DBL_MAX;
    if (fabs(*out) > max) {
        return rpc_json_path_fail(path, ERR_INVALID, "expected a number of at most %g", max);
    }
    return ERR_OK;
}
