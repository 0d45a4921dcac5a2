// The decisions about people's public keys: their chains, their ways back, and what their devices leave for each other
// (proto/fc/auth/v1/keys.proto). Knows no rpc.
#ifndef AUTH_AUTH_KEYS_CORE_H
#define AUTH_AUTH_KEYS_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "e2e/e2e_user.h"
#include "services/auth/auth_core.h"
#include "services/store/store.h"

enum {
    AUTH_CHAIN_MAX_ENTRIES = 4096,          // a change a day for 11 years; each is applied again by who meets the user
    AUTH_CHAIN_ENTRY_MAX_BYTES = 16 * 1024, // 64 devices fit
    AUTH_SEALED_KEY_MAX_BYTES = 256,
    AUTH_OFFERS_MAX = 8,
    AUTH_OFFER_LIFETIME_MS = 3600 * 1000,
    AUTH_DEVICE_MAX_BYTES = 256, // of an encoded Device
    AUTH_SECRETS_MAX_BYTES = 4096,
};

// auth_keys_core_find_chain reads and checks a user's chain; one without entries has seq 0. The caller deinits it.
// ERR_CORRUPT: what is stored does not verify.
enum err auth_keys_core_find_chain(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct e2e_user *out) ERR_CHECKED;

struct auth_keys_appended {
    uint64_t head_seq;
    bool has_ended_device; // revoked, or all of them by a reset
};

// auth_keys_core_append checks an entry against its author's chain and stores it. The newest entry again is fine.
// ERR_CONFLICT: not the next entry; ERR_INVALID: against the rules, or a bad signature; ERR_LIMIT. `why` is filled for
// these.
enum err auth_keys_core_append(struct store_tx *tx, const struct auth_account *author, struct bytes_view body,
    struct bytes_view signature, struct auth_keys_appended *out, struct err_detail *why) ERR_CHECKED;

// auth_keys_core_head is the number of entries.
enum err auth_keys_core_head(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], uint64_t *seq_out) ERR_CHECKED;

// auth_keys_core_each_entry lends the entries after a number, in order, until fn returns something else than ERR_OK,
// which becomes the result.
typedef enum err auth_keys_entry_fn(void *context, struct bytes_view body, struct bytes_view signature);
enum err auth_keys_core_each_entry(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], uint64_t after_seq,
    auth_keys_entry_fn *fn, void *context) ERR_CHECKED;

// auth_recovery is what the server keeps of a way back.
struct auth_recovery {
    uint8_t recovery_key[AUTH_SEALED_KEY_MAX_BYTES];
    size_t recovery_key_size; // 0: its owner keeps it off the server
    uint8_t identity_key[AUTH_SEALED_KEY_MAX_BYTES];
    size_t identity_key_size;
};

enum err auth_keys_core_set_recovery(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const struct auth_recovery *recovery) ERR_CHECKED;
// ERR_NOT_FOUND: none.
enum err auth_keys_core_find_recovery(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct auth_recovery *out) ERR_CHECKED;
// auth_keys_core_reseal puts a recovery key sealed anew into a way back. ERR_PRECONDITION: there is one sealed on the
// server, and this is empty.
enum err auth_keys_core_reseal(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    struct bytes_view sealed_recovery_key) ERR_CHECKED;

// auth_keys_core_add_offer keeps what a new device says of itself, and drops what is too old or too much.
enum err auth_keys_core_add_offer(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t device_id[AUTH_ID_BYTES], struct bytes_view device, int64_t now_ms) ERR_CHECKED;

struct auth_offer {
    uint8_t device[AUTH_DEVICE_MAX_BYTES];
    size_t device_size;
};
enum err auth_keys_core_list_offers(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], int64_t now_ms,
    struct auth_offer out[AUTH_OFFERS_MAX], size_t *count_out) ERR_CHECKED;

// auth_keys_core_put_secrets leaves something for a device on the chain. ERR_NOT_FOUND: there is no such one.
enum err auth_keys_core_put_secrets(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t device_id[AUTH_ID_BYTES], struct bytes_view enc, struct bytes_view ciphertext) ERR_CHECKED;

struct auth_device_secrets {
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    uint8_t ciphertext[AUTH_SECRETS_MAX_BYTES];
    size_t ciphertext_size;
};
// ERR_NOT_FOUND: nothing.
enum err auth_keys_core_find_secrets(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t device_id[AUTH_ID_BYTES], struct auth_device_secrets *out) ERR_CHECKED;

#endif
