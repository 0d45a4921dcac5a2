// The vectors of the suite fc/1, each file by a function of its own. All inputs are fixed, so that the same code always
// gives the same files.
#ifndef TESTS_VECTORS_E2E_VECTORS_H
#define TESTS_VECTORS_E2E_VECTORS_H

#include "vector_json.h"

void write_seal(struct vector_json *json);
void write_hpke(struct vector_json *json);
void write_epoch(struct vector_json *json);
void write_message(struct vector_json *json);
void write_user_chain(struct vector_json *json);
void write_room_log(struct vector_json *json);
void write_file(struct vector_json *json);
void write_recovery(struct vector_json *json);
void write_safety_number(struct vector_json *json);
void write_link_keys(struct vector_json *json);
void write_grant(struct vector_json *json);

// fill makes bytes that count up.
void fill(uint8_t *out, size_t size, uint8_t first);

#endif
