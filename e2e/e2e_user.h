// A user's chain: from signed entries to who this user is and which devices speak for them. Servers and clients check
// entries with the same code. Any thread, each object used by one at a time.
#ifndef E2E_E2E_USER_H
#define E2E_E2E_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/text.h"
#include "e2e/e2e_seal.h"

enum {
    E2E_DEVICE_NAME_MAX_BYTES = 64,
    E2E_DEVICES_MAX = 64,        // that have not been revoked
    E2E_DEVICES_EVER_MAX = 1024, // with the revoked ones, which are kept
    E2E_USER_CHANGES_MAX = 64,   // in one entry
    E2E_ENTRY_MAX_BYTES = 1024 * 1024,
    E2E_USER_ENTRY_MAX_BYTES = 16 * 1024, // as many changes as there may be do not need more
};

struct e2e_device {
    uint8_t id[E2E_ID_BYTES];
    uint8_t sign_key[CRYPTO_KEY_BYTES];
    uint8_t box_key[CRYPTO_KEY_BYTES];
    char name[E2E_DEVICE_NAME_MAX_BYTES + 1];
    bool is_recovery;
    bool is_revoked;
    uint64_t added_seq;   // the entry that added it
    uint64_t revoked_seq; // 0: not revoked
};

// e2e_user is a chain as far as it has been applied. Zeroed memory is a chain without entries. Revoked devices stay in
// it, since what they signed before still has to be checked.
struct e2e_user {
    uint8_t id[E2E_ID_BYTES];
    char name[TEXT_USER_NAME_MAX_BYTES + 1];
    uint64_t seq; // 0: no entries
    uint8_t head_hash[E2E_HASH_BYTES];
    uint8_t identity_key[CRYPTO_KEY_BYTES];
    uint64_t identity_seq; // the entry that set it: 1, or later after a reset
    struct e2e_device *devices;
    size_t device_count;
};

void e2e_user_deinit(struct e2e_user *user);

// e2e_user_apply checks the next entry and applies it; a failure changes nothing. user_id is whose chain it is.
// ERR_CONFLICT: not the next entry of this chain. ERR_INVALID: against the rules. ERR_CORRUPT: a bad signature.
enum err e2e_user_apply(struct e2e_user *user, const uint8_t user_id[E2E_ID_BYTES], struct bytes_view body,
    struct bytes_view signature, struct err_detail *why) ERR_CHECKED;

// e2e_user_device finds a device, revoked or not; NULL if it never was one.
const struct e2e_device *e2e_user_device(const struct e2e_user *user, const uint8_t device_id[E2E_ID_BYTES]);

// e2e_user_is_active says whether the device could speak for the user when the chain ended at `seq`.
bool e2e_device_is_active_at(const struct e2e_device *device, uint64_t seq);

// e2e_user_safety_number writes the 60 digits (and a NUL) that two users compare, in 12 groups of 5 with spaces: the
// same on both sides. Of each user 30 digits: six groups of 5 bytes, each mod 100,000, of the first 30 bytes of
// SHA-256 applied 5,200 times, first to user_id ‖ identity_key, then each time to the hash before ‖ identity_key; the
// two halves sorted. After libsignal's fingerprints.
enum { E2E_SAFETY_NUMBER_BYTES = 72 };
enum err e2e_user_safety_number(const struct e2e_user *one, const struct e2e_user *other,
    char out[E2E_SAFETY_NUMBER_BYTES]) ERR_CHECKED;

#endif
