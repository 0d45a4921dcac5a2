#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "swarm/swarm_grants_priv.h"

enum {
    SLOTS = 1024, // readers and files at once; more of them only cost their signatures again
};

struct slot {
    bool is_used;
    uint8_t digest[DIGEST_SHA256_BYTES]; // of the grant and its signature
    struct e2e_grant grant;
};

struct swarm_grants {
    pthread_mutex_t mutex;
    bool has_key;
    uint8_t key[CRYPTO_KEY_BYTES];
    struct slot slots[SLOTS]; // by the first bytes of the digest; a newer one takes the place of an older one
};

enum err
swarm_grants_new(struct swarm_grants **out)
{
    struct swarm_grants *grants = calloc(1, sizeof(*grants));
    if (grants == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_mutex_init(&grants->mutex, NULL);
    *out = grants;
    return ERR_OK;
}

void
swarm_grants_free(struct swarm_grants **grants)
{
    if (*grants != NULL) {
        pthread_mutex_destroy(&(*grants)->mutex);
        free(*grants);
        *grants = NULL;
    }
}

void
swarm_grants_set_key(struct swarm_grants *grants, const uint8_t key[CRYPTO_KEY_BYTES])
{
    pthread_mutex_lock(&grants->mutex);
    if (!grants->has_key || memcmp(grants->key, key, CRYPTO_KEY_BYTES) != 0) {
        memset(grants->slots, 0, sizeof(grants->slots));
        memcpy(grants->key, key, CRYPTO_KEY_BYTES);
        grants->has_key = true;
    }
    pthread_mutex_unlock(&grants->mutex);
}

static enum err
digest_grant(struct bytes_view encoded, struct bytes_view signature, uint8_t out[DIGEST_SHA256_BYTES])
{
    uint8_t input[E2E_GRANT_MAX_BYTES + CRYPTO_SIGNATURE_BYTES];
    if (encoded.size > E2E_GRANT_MAX_BYTES || signature.size != CRYPTO_SIGNATURE_BYTES || encoded.size == 0) {
        return ERR_INVALID;
    }
    // The signature comes first: it has always the same size, so that no two grants give the same bytes.
    memcpy(input, signature.data, signature.size);
    memcpy(input + signature.size, encoded.data, encoded.size);
    return digest_of(DIGEST_SHA256, bytes_view_of(input, signature.size + encoded.size), out);
}

enum err
swarm_grants_check(struct swarm_grants *grants, struct bytes_view encoded, struct bytes_view signature,
    const uint8_t file_id[E2E_GRANT_ID_BYTES], int64_t now_unix_ms, struct e2e_grant *out, struct err_detail *why)
{
    uint8_t digest[DIGEST_SHA256_BYTES];
    uint8_t key[CRYPTO_KEY_BYTES];
    enum err err = digest_grant(encoded, signature, digest);
    if (err != ERR_OK) {
        return err == ERR_INVALID ? err_fail(why, ERR_DENIED, "the request has no grant: ask the file store for one")
                                  : err;
    }
    struct slot *slot = &grants->slots[bytes_load_be16(digest) % SLOTS];
    pthread_mutex_lock(&grants->mutex);
    bool has_key = grants->has_key;
    bool is_known = slot->is_used && memcmp(slot->digest, digest, sizeof(digest)) == 0 &&
                    slot->grant.expires_at_ms > now_unix_ms &&
                    memcmp(slot->grant.file_id, file_id, E2E_GRANT_ID_BYTES) == 0;
    if (is_known) {
        *out = slot->grant;
    }
    memcpy(key, grants->key, sizeof(key));
    pthread_mutex_unlock(&grants->mutex);
    if (is_known) {
        return ERR_OK;
    }
    if (!has_key) {
        return err_fail(why, ERR_UNAVAILABLE, "this server has not met its origin yet: try again");
    }
    err = e2e_grant_check(encoded, signature, key, file_id, now_unix_ms, out, why);
    if (err == ERR_OK) {
        pthread_mutex_lock(&grants->mutex);
        if (memcmp(grants->key, key, sizeof(key)) == 0) { // not exchanged meanwhile
            slot->is_used = true;
            memcpy(slot->digest, digest, sizeof(digest));
            slot->grant = *out;
        }
        pthread_mutex_unlock(&grants->mutex);
    }
    return err;
}
