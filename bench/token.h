// The token that every benchmark's call carries, and the check that every server makes.
#ifndef BENCH_TOKEN_H
#define BENCH_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_TOKEN "fct_00000000000000000000000000000000000000000000"

// token_is_valid compares the token's SHA-256 with the kept one, as a server that stores hashes of tokens does, but for
// the database. Any thread.
bool token_is_valid(const void *token, size_t size);

#ifdef __cplusplus
}
#endif

#endif
