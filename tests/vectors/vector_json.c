#include "vector_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void
must(enum err err, const char *what)
{
    if (err != ERR_OK) {
        (void)fprintf(stderr, "%s: %s\n", what, err_sentence(err));
        exit(EXIT_FAILURE);
    }
}

static void
append(struct vector_json *json, const char *text)
{
    MUST(bytes_append(&json->text, bytes_view_of_text(text)));
}

static void
new_line(struct vector_json *json)
{
    append(json, "\n");
    for (unsigned i = 0; i < json->depth; i++) {
        append(json, "  ");
    }
}

// Whatever stands before a value.
static void
begin_value(struct vector_json *json, const char *key)
{
    if (json->depth > 0) {
        append(json, json->has_members ? "," : "");
        new_line(json);
    }
    if (key != NULL) {
        MUST(text_append_json_string(&json->text, bytes_view_of_text(key)));
        append(json, ": ");
    }
    json->has_members = true;
}

void
vector_json_begin(struct vector_json *json, const char *key, char bracket)
{
    begin_value(json, key);
    append(json, bracket == '{' ? "{" : "[");
    json->depth++;
    json->has_members = false;
}

void
vector_json_end(struct vector_json *json, char bracket)
{
    json->depth--;
    if (json->has_members) {
        new_line(json);
    }
    append(json, bracket == '}' ? "}" : "]");
    json->has_members = true;
    if (json->depth == 0) {
        append(json, "\n");
    }
}

void
vector_json_text(struct vector_json *json, const char *key, const char *text)
{
    begin_value(json, key);
    MUST(text_append_json_string(&json->text, bytes_view_of_text(text)));
}

void
vector_json_hex(struct vector_json *json, const char *key, const void *data, size_t size)
{
    char *hex = malloc(2 * size + 1);
    must(hex == NULL ? ERR_NO_MEMORY : ERR_OK, "malloc");
    bytes_to_hex(bytes_view_of(data, size), hex);
    vector_json_text(json, key, hex);
    free(hex);
}

void
vector_json_view(struct vector_json *json, const char *key, struct bytes_view view)
{
    vector_json_hex(json, key, view.data, view.size);
}

void
vector_json_number(struct vector_json *json, const char *key, uint64_t number)
{
    char digits[24];
    (void)snprintf(digits, sizeof(digits), "%" PRIu64, number);
    begin_value(json, key);
    append(json, digits);
}

void
vector_json_bool(struct vector_json *json, const char *key, bool value)
{
    begin_value(json, key);
    append(json, value ? "true" : "false");
}
