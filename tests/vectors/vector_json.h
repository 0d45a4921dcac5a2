// Writes vectors as JSON: two spaces to a level, bytes as hex digits. What goes wrong ends the program.
#ifndef TESTS_VECTORS_VECTOR_JSON_H
#define TESTS_VECTORS_VECTOR_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct vector_json {
    struct bytes text;
    unsigned depth;
    bool has_members; // at this depth
};

// must ends the program unless err is ERR_OK.
void must(enum err err, const char *what);
#define MUST(call) must((call), #call)

// key is NULL in arrays and for the whole.
void vector_json_begin(struct vector_json *json, const char *key, char bracket);
void vector_json_end(struct vector_json *json, char bracket);
void vector_json_text(struct vector_json *json, const char *key, const char *text);
void vector_json_hex(struct vector_json *json, const char *key, const void *data, size_t size);
void vector_json_view(struct vector_json *json, const char *key, struct bytes_view view);
void vector_json_number(struct vector_json *json, const char *key, uint64_t number);
void vector_json_bool(struct vector_json *json, const char *key, bool value);

#endif
