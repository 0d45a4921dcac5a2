// Users of the server whom this account has met: the chains that they signed, and which of their keys it trusts.
#include "client/fc_store_db_priv.h"

#define COLUMNS                                                                                                        \
    "p.user_id, p.name, p.identity_key, p.first_seen_ms, p.is_verified, p.pending_key, "                               \
    "(SELECT COALESCE(MAX(e.seq), 0) FROM person_entry e WHERE e.user_id = p.user_id)"

static enum err
read_user(struct db_rows *rows, struct fc_store_user *out)
{
    *out = (struct fc_store_user){
        .has_pin = !db_rows_is_null(rows, 2),
        .first_seen_ms = db_rows_int(rows, 3),
        .is_verified = db_rows_int(rows, 4) != 0,
        .has_pending_key = !db_rows_is_null(rows, 5),
        .chain_seq = (uint64_t)db_rows_int(rows, 6),
    };
    fc_store_copy_text(rows, 1, out->name, sizeof(out->name));
    enum err err = fc_store_copy_blob(rows, 0, out->user_id, sizeof(out->user_id));
    if (err == ERR_OK && out->has_pin) {
        err = fc_store_copy_blob(rows, 2, out->identity_key, sizeof(out->identity_key));
    }
    if (err == ERR_OK && out->has_pending_key) {
        err = fc_store_copy_blob(rows, 5, out->pending_key, sizeof(out->pending_key));
    }
    return err;
}

static enum err
get_user(struct fc_store *store, const char *sql, struct db_value key, struct fc_store_user *out,
    struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, sql, DB_ARGS(key), &rows, why);
    if (err == ERR_OK && read_user(rows, out) != ERR_OK) {
        err = fc_store_fail(store, ERR_CORRUPT, why);
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_user_get(struct fc_store *store, const uint8_t user_id[E2E_ID_BYTES], struct fc_store_user *out,
    struct err_detail *why)
{
    return get_user(store, "SELECT " COLUMNS " FROM person p WHERE p.user_id = $1", db_blob(user_id, E2E_ID_BYTES), out,
        why);
}

enum err
fc_store_user_find(struct fc_store *store, const char *name, struct fc_store_user *out, struct err_detail *why)
{
    return get_user(store, "SELECT " COLUMNS " FROM person p WHERE p.name = $1", db_text(name), out, why);
}

enum err
fc_store_user_each(struct fc_store *store, fc_store_user_fn *fn, void *context, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    struct fc_store_user user;
    enum err err = fc_store_select(store, "SELECT " COLUMNS " FROM person p ORDER BY p.name", DB_NO_ARGS, &rows, why);
    for (; err == ERR_OK; err = fc_store_next(store, rows, why)) {
        if (read_user(rows, &user) != ERR_OK) {
            err = fc_store_fail(store, ERR_CORRUPT, why);
            break;
        }
        if (!fn(context, &user)) {
            break;
        }
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static struct db_value
key_or_null(bool has_key, const uint8_t key[CRYPTO_KEY_BYTES])
{
    return has_key ? db_blob(key, CRYPTO_KEY_BYTES) : db_null();
}

enum err
fc_store_user_put(struct fc_store *store, const struct fc_store_user *user, struct err_detail *why)
{
    enum err err = fc_store_exec(store,
        "INSERT INTO person (user_id, name, identity_key, first_seen_ms, is_verified, pending_key) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, "
        "identity_key = excluded.identity_key, first_seen_ms = excluded.first_seen_ms, "
        "is_verified = excluded.is_verified, pending_key = excluded.pending_key",
        DB_ARGS(db_blob(user->user_id, sizeof(user->user_id)), db_text(user->name[0] != '\0' ? user->name : NULL),
            key_or_null(user->has_pin, user->identity_key), db_int(user->first_seen_ms), db_int(user->is_verified),
            key_or_null(user->has_pending_key, user->pending_key)),
        NULL, why);
    if (err == ERR_EXISTS) {
        return err_fail(why, err, "another user was called \"%s\" before", user->name);
    }
    return err;
}

enum err
fc_store_user_forget_name(struct fc_store *store, const char *name, struct err_detail *why)
{
    return fc_store_exec(store, "UPDATE person SET name = NULL WHERE name = $1", DB_ARGS(db_text(name)), NULL, why);
}

enum err
fc_store_user_append(struct fc_store *store, const uint8_t user_id[E2E_ID_BYTES], const struct fc_store_entry *entry,
    struct err_detail *why)
{
    int64_t changed = 0;
    enum err err = fc_store_check_number(entry->seq, why);
    if (err != ERR_OK) {
        return err;
    }
    err = fc_store_exec(store,
        "INSERT INTO person_entry (user_id, seq, body, signature) SELECT $1, $2, $3, $4 "
        "WHERE $2 = 1 + (SELECT COALESCE(MAX(seq), 0) FROM person_entry WHERE user_id = $1) "
        "AND EXISTS (SELECT 1 FROM person WHERE user_id = $1)",
        DB_ARGS(db_blob(user_id, E2E_ID_BYTES), fc_store_number(entry->seq),
            db_blob(entry->body.data, entry->body.size), db_blob(entry->signature.data, entry->signature.size)),
        &changed, why);
    if (err == ERR_OK && changed == 0) {
        return err_fail(why, ERR_CONFLICT, "entry %llu is not the next one of this user's chain",
            (unsigned long long)entry->seq);
    }
    return err;
}

enum err
fc_store_user_entries(struct fc_store *store, const uint8_t user_id[E2E_ID_BYTES], uint64_t after_seq,
    fc_store_entry_fn *fn, void *context, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT seq, body, signature FROM person_entry WHERE user_id = $1 AND seq > $2 ORDER BY seq",
        DB_ARGS(db_blob(user_id, E2E_ID_BYTES), fc_store_number(after_seq)), &rows, why);
    for (; err == ERR_OK; err = fc_store_next(store, rows, why)) {
        struct fc_store_entry entry = {
            .seq = (uint64_t)db_rows_int(rows, 0),
            .body = db_rows_blob(rows, 1),
            .signature = db_rows_blob(rows, 2),
        };
        if (!fn(context, &entry)) {
            break;
        }
    }
    db_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
