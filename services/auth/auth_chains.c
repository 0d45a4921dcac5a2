// A table with one place for each user, by their random id; who comes to a place takes it over.
#include "services/auth/auth_chains.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "services/auth/auth_keys_core.h"

enum {
    PLACES = 8192,
    DEVICES_MAX = 32, // who has had more is not kept: some 60 MiB at the very most
};

struct auth_chains {
    pthread_mutex_t mutex;
    struct {
        struct e2e_user *users; // PLACES; seq 0: nobody
    } locked;
};

enum err
auth_chains_new(struct auth_chains **out)
{
    struct auth_chains *chains = calloc(1, sizeof(*chains));
    if (chains == NULL) {
        return ERR_NO_MEMORY;
    }
    chains->locked.users = calloc(PLACES, sizeof(chains->locked.users[0]));
    if (chains->locked.users == NULL) {
        free(chains);
        return ERR_NO_MEMORY;
    }
    pthread_mutex_init(&chains->mutex, NULL);
    *out = chains;
    return ERR_OK;
}

void
auth_chains_free(struct auth_chains **chains)
{
    struct auth_chains *self = *chains;
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < PLACES; i++) {
        e2e_user_deinit(&self->locked.users[i]);
    }
    free(self->locked.users);
    pthread_mutex_destroy(&self->mutex);
    free(self);
    *chains = NULL;
}

static enum err
copy_user(const struct e2e_user *user, struct e2e_user *out)
{
    struct e2e_user copy = *user;
    size_t size = user->device_count * sizeof(user->devices[0]);
    copy.devices = malloc(size > 0 ? size : 1);
    if (copy.devices == NULL) {
        return ERR_NO_MEMORY;
    }
    if (size > 0) {
        memcpy(copy.devices, user->devices, size);
    }
    *out = copy;
    return ERR_OK;
}

// The head as the transaction has it; seq 0: no entries.
static enum err
read_head(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], uint64_t *seq_out,
    uint8_t hash_out[E2E_HASH_BYTES])
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT seq, body FROM auth_chain WHERE user_id = $1 ORDER BY seq DESC LIMIT 1",
        STORE_ARGS(store_blob(user_id, AUTH_ID_BYTES)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        *seq_out = (uint64_t)store_rows_int(rows, 0);
        err = digest_of(DIGEST_SHA256, store_rows_blob(rows, 1), hash_out);
    } else if (err == ERR_NOT_FOUND) {
        *seq_out = 0;
        err = ERR_OK;
    }
    store_rows_free(&rows);
    return err;
}

// Takes what is kept, if that is what the store has. ERR_NOT_FOUND.
static enum err
find_kept(struct auth_chains *chains, size_t place, const uint8_t user_id[AUTH_ID_BYTES], uint64_t seq,
    const uint8_t hash[E2E_HASH_BYTES], struct e2e_user *out)
{
    enum err err = ERR_NOT_FOUND;
    pthread_mutex_lock(&chains->mutex);
    const struct e2e_user *kept = &chains->locked.users[place];
    if (kept->seq == seq && memcmp(kept->id, user_id, sizeof(kept->id)) == 0 &&
        memcmp(kept->head_hash, hash, sizeof(kept->head_hash)) == 0) {
        err = copy_user(kept, out);
    }
    pthread_mutex_unlock(&chains->mutex);
    return err;
}

// Failing to keep something costs time only.
static void
keep(struct auth_chains *chains, size_t place, const struct e2e_user *user)
{
    struct e2e_user copy;
    if (user->device_count > DEVICES_MAX || copy_user(user, &copy) != ERR_OK) {
        return;
    }
    pthread_mutex_lock(&chains->mutex);
    e2e_user_deinit(&chains->locked.users[place]);
    chains->locked.users[place] = copy;
    pthread_mutex_unlock(&chains->mutex);
}

enum err
auth_chains_find(struct auth_chains *chains, struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct e2e_user *out)
{
    size_t place = bytes_load_be32(user_id) % PLACES;
    uint8_t hash[E2E_HASH_BYTES];
    uint64_t seq = 0;
    enum err err = read_head(tx, user_id, &seq, hash);
    if (err != ERR_OK) {
        return err;
    }
    if (seq == 0) {
        *out = (struct e2e_user){0};
        return ERR_OK;
    }
    err = find_kept(chains, place, user_id, seq, hash, out);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = auth_keys_core_find_chain(tx, user_id, out);
    if (err == ERR_OK) {
        keep(chains, place, out);
    }
    return err;
}
