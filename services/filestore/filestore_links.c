#include "services/filestore/filestore_links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/random.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_core_priv.h"

static const struct store_migration migrations[] = {
    {"CREATE TABLE filestore_links ("
     "  link_id BLOB NOT NULL PRIMARY KEY,"
     "  token_sha256 BLOB NOT NULL UNIQUE,"
     "  owner_id BLOB NOT NULL,"
     "  file_id BLOB NOT NULL,"
     "  created_ms BIGINT NOT NULL,"
     "  expires_ms BIGINT NOT NULL,"
     "  fetch_count BIGINT NOT NULL);"
     "CREATE INDEX filestore_links_own ON filestore_links (owner_id, created_ms);"},
};

#define LINK_COLUMNS "link_id, owner_id, file_id, token_sha256, created_ms, expires_ms, fetch_count"

enum err
filestore_links_migrate(struct store *store, struct err_detail *why)
{
    return store_migrate(store, "filestore_links", migrations, sizeof(migrations) / sizeof(migrations[0]), why);
}

static enum err
read_link(struct store_rows *rows, struct filestore_link *link)
{
    memset(link, 0, sizeof(*link));
    link->created_unix_ms = store_rows_int(rows, 4);
    link->expires_unix_ms = store_rows_int(rows, 5);
    link->fetch_count = (uint64_t)store_rows_int(rows, 6);
    enum err err = filestore_core_copy_blob(rows, 0, link->id, sizeof(link->id));
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 1, link->owner_id, sizeof(link->owner_id));
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 2, link->file_id, sizeof(link->file_id));
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 3, link->token_sha256, sizeof(link->token_sha256));
    }
    return err;
}

static enum err
count_links(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], int64_t *count_out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COUNT(*) FROM filestore_links WHERE owner_id = $1",
        STORE_ARGS(store_blob(owner_id, FILESTORE_ID_BYTES)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        *count_out = store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err;
}

enum err
filestore_links_add(struct store_tx *tx, const struct filestore_link *link, struct err_detail *why)
{
    int64_t count = 0;
    enum err err = store_exec(tx, "DELETE FROM filestore_links WHERE owner_id = $1 AND expires_ms <= $2",
        STORE_ARGS(store_blob(link->owner_id, FILESTORE_ID_BYTES), store_int(link->created_unix_ms)), NULL);
    if (err == ERR_OK) {
        err = count_links(tx, link->owner_id, &count);
    }
    if (err == ERR_OK && count >= FILESTORE_LINKS_PER_USER_MAX) {
        return err_fail(why, ERR_LIMIT, "you have %d links: revoke some first", FILESTORE_LINKS_PER_USER_MAX);
    }
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx, "INSERT INTO filestore_links (" LINK_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, 0)",
        STORE_ARGS(store_blob(link->id, FILESTORE_ID_BYTES), store_blob(link->owner_id, FILESTORE_ID_BYTES),
            store_blob(link->file_id, FILESTORE_ID_BYTES), store_blob(link->token_sha256, DIGEST_SHA256_BYTES),
            store_int(link->created_unix_ms), store_int(link->expires_unix_ms)),
        NULL);
}

// find_target finds the file of a link. ERR_NOT_FOUND: it has gone.
static enum err
find_target(struct store_tx *tx, const struct filestore_link *link, struct filestore_file *file_out)
{
    enum err err = filestore_core_find_any(tx, link->file_id, file_out);
    return err == ERR_OK && !filestore_access_is_there(file_out) ? ERR_NOT_FOUND : err;
}

enum err
filestore_links_find(struct store_tx *tx, const uint8_t token_sha256[DIGEST_SHA256_BYTES], int64_t now_unix_ms,
    struct filestore_link *link_out, struct filestore_file *file_out)
{
    struct store_rows *rows = NULL;
    enum err err =
        store_query(tx, "SELECT " LINK_COLUMNS " FROM filestore_links WHERE token_sha256 = $1 AND expires_ms > $2",
            STORE_ARGS(store_blob(token_sha256, DIGEST_SHA256_BYTES), store_int(now_unix_ms)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = read_link(rows, link_out);
    }
    store_rows_free(&rows);
    return err == ERR_OK ? find_target(tx, link_out, file_out) : err;
}

static enum err
read_links(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], int64_t now_unix_ms,
    struct filestore_link *links, size_t *count)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT " LINK_COLUMNS " FROM filestore_links WHERE owner_id = $1 AND expires_ms > $2 "
        "ORDER BY created_ms, link_id LIMIT $3",
        STORE_ARGS(store_blob(owner_id, FILESTORE_ID_BYTES), store_int(now_unix_ms),
            store_int(FILESTORE_LINKS_PER_USER_MAX)),
        &rows);
    while (err == ERR_OK && *count < FILESTORE_LINKS_PER_USER_MAX) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = read_link(rows, &links[*count]);
        }
        if (err == ERR_OK) {
            (*count)++;
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_links_list(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], int64_t now_unix_ms,
    struct filestore_link **links_out, size_t *count_out)
{
    size_t count = 0;
    struct filestore_link *links = calloc(FILESTORE_LINKS_PER_USER_MAX, sizeof(*links));
    struct filestore_file file;
    if (links == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = read_links(tx, owner_id, now_unix_ms, links, &count);
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = find_target(tx, &links[i], &file);
        if (err == ERR_OK) {
            memcpy(links[i].file_name, file.name, sizeof(links[i].file_name));
        } else if (err == ERR_NOT_FOUND) {
            err = ERR_OK;
        }
    }
    if (err != ERR_OK) {
        free(links);
        return err;
    }
    *links_out = links;
    *count_out = count;
    return ERR_OK;
}

enum err
filestore_links_remove(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES],
    const uint8_t id[FILESTORE_ID_BYTES])
{
    int64_t changed = 0;
    enum err err = store_exec(tx, "DELETE FROM filestore_links WHERE link_id = $1 AND owner_id = $2",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES), store_blob(owner_id, FILESTORE_ID_BYTES)), &changed);
    return err == ERR_OK && changed == 0 ? ERR_NOT_FOUND : err;
}

enum err
filestore_links_count_fetch(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES])
{
    return store_exec(tx, "UPDATE filestore_links SET fetch_count = fetch_count + 1 WHERE link_id = $1",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES)), NULL);
}

// --- Tokens and paths -----------------------------------------------------------------------------------------------

enum err
filestore_links_make_token(char text_out[FILESTORE_LINK_TOKEN_CHARACTERS + 1], uint8_t sha256_out[DIGEST_SHA256_BYTES])
{
    uint8_t token[FILESTORE_LINK_TOKEN_BYTES];
    struct bytes text = {0};
    random_bytes(token, sizeof(token));
    enum err err = base64_append_url(&text, bytes_view_of(token, sizeof(token)));
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_view_of(token, sizeof(token)), sha256_out);
    }
    if (err == ERR_OK) {
        memcpy(text_out, text.data, FILESTORE_LINK_TOKEN_CHARACTERS);
        text_out[FILESTORE_LINK_TOKEN_CHARACTERS] = '\0';
    }
    digest_wipe(token, sizeof(token));
    bytes_free_secret(&text);
    return err;
}

enum err
filestore_links_hash_token(const char *text, uint8_t sha256_out[DIGEST_SHA256_BYTES])
{
    struct bytes token = {0};
    size_t size = strcspn(text, "/");
    if (size != FILESTORE_LINK_TOKEN_CHARACTERS) {
        return ERR_NOT_FOUND;
    }
    enum err err = base64_append_decoded(&token, bytes_view_of(text, size));
    if (err == ERR_INVALID || (err == ERR_OK && token.size != FILESTORE_LINK_TOKEN_BYTES)) {
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_as_view(&token), sha256_out);
    }
    bytes_free_secret(&token);
    return err;
}

enum err
filestore_links_path(const char *token, const char *file_name, struct bytes *out)
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    const char *slash = strrchr(file_name, '/');
    const char *name = slash != NULL ? slash + 1 : file_name;
    enum err err = bytes_append(out, bytes_view_of_text("/f/"));
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of_text(token));
    }
    if (err == ERR_OK) {
        err = bytes_append(out, bytes_view_of_text("/"));
    }
    for (const char *at = name; err == ERR_OK && *at != '\0'; at++) {
        char escaped[4];
        if (strchr(unreserved, *at) != NULL) {
            err = bytes_append(out, bytes_view_of(at, 1));
        } else {
            (void)snprintf(escaped, sizeof(escaped), "%%%02X", (unsigned)(unsigned char)*at);
            err = bytes_append(out, bytes_view_of(escaped, 3));
        }
    }
    return err;
}
