// Public links: whoever has one reads a file over plain HTTP until it ends or its owner revokes it.
//
// The database only; filestore_links_rpc.c and filestore_http.c are what callers and browsers see. Of a link's token
// only the SHA-256 is kept: who reads the database cannot use the links in it.
#ifndef FILESTORE_FILESTORE_LINKS_H
#define FILESTORE_FILESTORE_LINKS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "services/filestore/filestore_core.h"
#include "services/store/store.h"

enum {
    FILESTORE_LINK_TOKEN_BYTES = 32,
    FILESTORE_LINK_TOKEN_CHARACTERS = 43, // in base64url
    FILESTORE_LINKS_PER_USER_MAX = 1000,
};

#define FILESTORE_LINK_LIFETIME_MS (INT64_C(7) * 24 * 3600 * 1000)
#define FILESTORE_LINK_LIFETIME_MAX_MS (INT64_C(366) * 24 * 3600 * 1000)

struct filestore_link {
    uint8_t id[FILESTORE_ID_BYTES];
    uint8_t owner_id[FILESTORE_ID_BYTES];
    uint8_t file_id[FILESTORE_ID_BYTES];
    uint8_t token_sha256[DIGEST_SHA256_BYTES];
    char file_name[FILESTORE_NAME_BYTES]; // empty: the file has gone
    int64_t created_unix_ms;
    int64_t expires_unix_ms;
    uint64_t fetch_count;
};

enum err filestore_links_migrate(struct store *store, struct err_detail *why) ERR_CHECKED;

// filestore_links_add records a link, and forgets those of its owner that have expired. ERR_LIMIT.
enum err filestore_links_add(struct store_tx *tx, const struct filestore_link *link,
    struct err_detail *why) ERR_CHECKED;

// filestore_links_find finds the link with this token and the file it leads to. ERR_NOT_FOUND: unknown, revoked or
// expired, or the file is not there any more.
enum err filestore_links_find(struct store_tx *tx, const uint8_t token_sha256[DIGEST_SHA256_BYTES], int64_t now_unix_ms,
    struct filestore_link *link_out, struct filestore_file *file_out) ERR_CHECKED;

// filestore_links_list finds the links of a user that have not expired, the oldest first. The caller frees links_out.
enum err filestore_links_list(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], int64_t now_unix_ms,
    struct filestore_link **links_out, size_t *count_out) ERR_CHECKED;

// filestore_links_remove: ERR_NOT_FOUND: no such link of this owner.
enum err filestore_links_remove(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES],
    const uint8_t id[FILESTORE_ID_BYTES]) ERR_CHECKED;

enum err filestore_links_count_fetch(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES]) ERR_CHECKED;

// filestore_links_make_token makes a token and its hash.
enum err filestore_links_make_token(char text_out[FILESTORE_LINK_TOKEN_CHARACTERS + 1],
    uint8_t sha256_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

// filestore_links_hash_token reads a token: text up to its end or a '/'. ERR_NOT_FOUND: no token looks like this.
enum err filestore_links_hash_token(const char *text, uint8_t sha256_out[DIGEST_SHA256_BYTES]) ERR_CHECKED;

// filestore_links_path makes "/f/TOKEN/NAME", NAME being the last component with percent signs where a URL needs them.
enum err filestore_links_path(const char *token, const char *file_name, struct bytes *out) ERR_CHECKED;

#endif
