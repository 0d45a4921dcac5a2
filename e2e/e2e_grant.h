// Grants: a FileStore's signed word that a user may read a file, good for servers that have segments and no database;
// and the tree over a file's segments that a grant commits to (docs/protocol.md, "Grants"). Any thread.
#ifndef E2E_E2E_GRANT_H
#define E2E_E2E_GRANT_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/digest.h"
#include "base/err.h"

enum {
    E2E_GRANT_ID_BYTES = 16,
    E2E_GRANT_MAX_BYTES = 256, // encoded
    E2E_TREE_LEVELS_MAX = 64,
};

#define E2E_GRANT_LIFETIME_MS (INT64_C(10) * 60 * 1000)

// e2e_tree is RFC 6962's Merkle tree hash over the SHA-256 of segments, given one after the other from the first on:
// it keeps the roots of the whole subtrees so far. Zeroed it is empty.
struct e2e_tree {
    uint64_t count;
    uint8_t roots[E2E_TREE_LEVELS_MAX][DIGEST_SHA256_BYTES]; // of 2^i leaves where bit i of count is set
};

enum err e2e_tree_add(struct e2e_tree *tree, const uint8_t segment_sha256[DIGEST_SHA256_BYTES]) ERR_CHECKED;

// e2e_tree_root is the root over what was added; more may be added after. Without leaves: the SHA-256 of nothing.
enum err e2e_tree_root(const struct e2e_tree *tree, uint8_t root_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

struct e2e_grant {
    uint8_t file_id[E2E_GRANT_ID_BYTES];
    uint8_t user_id[E2E_GRANT_ID_BYTES];
    int64_t expires_at_ms;
    uint64_t size_bytes;
    uint32_t segment_size_bytes;
    uint8_t root[DIGEST_SHA256_BYTES];
};

// e2e_grant_sign appends the encoded grant and signs it.
enum err e2e_grant_sign(const struct e2e_grant *grant, const uint8_t private_key[CRYPTO_KEY_BYTES], struct bytes *out,
    uint8_t signature_out[CRYPTO_SIGNATURE_BYTES]) ERR_CHECKED;

// e2e_grant_check says whether the FileStore with this key has granted this file, and what. ERR_DENIED: the signature
// is not by the key, or the grant is for another file. ERR_TIMEOUT: it has expired, or lasts longer from now than any
// grant (clocks that differ by a grant's life do not agree). ERR_INVALID: signed, and yet no grant. It looks at nothing
// but its arguments.
enum err e2e_grant_check(struct bytes_view grant, struct bytes_view signature,
    const uint8_t public_key[CRYPTO_KEY_BYTES], const uint8_t file_id[E2E_GRANT_ID_BYTES], int64_t now_unix_ms,
    struct e2e_grant *out, struct err_detail *why) ERR_CHECKED;

#endif
