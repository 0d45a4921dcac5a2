#include "bench/token.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"

static uint8_t kept_hash[DIGEST_SHA256_BYTES];
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

static void
keep_hash(void)
{
    if (digest_of(DIGEST_SHA256, bytes_view_of_text(BENCH_TOKEN), kept_hash) != ERR_OK) {
        fprintf(stderr, "bench: token: OpenSSL has no SHA-256\n");
        exit(1);
    }
}

bool
token_is_valid(const void *token, size_t size)
{
    uint8_t hash[DIGEST_SHA256_BYTES];
    pthread_once(&kept_once, keep_hash);
    return digest_of(DIGEST_SHA256, bytes_view_of(token, size), hash) == ERR_OK &&
           bytes_view_equal_secret(bytes_view_of(hash, sizeof(hash)), bytes_view_of(kept_hash, sizeof(kept_hash)));
}
