#include "services/auth/auth_keys_core.h"

#include <string.h>

// The parameters that most statements begin with.
static struct store_value
id_of(const uint8_t id[AUTH_ID_BYTES])
{
    return store_blob(id, AUTH_ID_BYTES);
}

// --- Chains -------------------------------------------------------------------------------------------------------

enum err
auth_keys_core_head(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], uint64_t *seq_out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT COALESCE(MAX(seq), 0) FROM auth_chain WHERE user_id = $1",
        STORE_ARGS(id_of(user_id)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    if (err == ERR_OK) {
        *seq_out = (uint64_t)store_rows_int(rows, 0);
    }
    store_rows_free(&rows);
    return err;
}

enum err
auth_keys_core_each_entry(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], uint64_t after_seq,
    auth_keys_entry_fn *fn, void *context)
{
    struct store_rows *rows = NULL;
    if (after_seq > INT64_MAX) {
        return ERR_OK;
    }
    enum err err =
        store_query(tx, "SELECT body, signature FROM auth_chain WHERE user_id = $1 AND seq > $2 ORDER BY seq",
            STORE_ARGS(id_of(user_id), store_int((int64_t)after_seq)), &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = fn(context, store_rows_blob(rows, 0), store_rows_blob(rows, 1));
        } else if (err == ERR_NOT_FOUND) {
            err = ERR_OK;
            break;
        }
    }
    store_rows_free(&rows);
    return err;
}

struct replay {
    const uint8_t *user_id;
    struct e2e_user user;
};

static enum err
replay_entry(void *context, struct bytes_view body, struct bytes_view signature)
{
    struct replay *replay = context;
    enum err err = e2e_user_apply(&replay->user, replay->user_id, body, signature, NULL);
    return err == ERR_OK || err == ERR_NO_MEMORY ? err : ERR_CORRUPT; // it was checked before it was stored
}

enum err
auth_keys_core_find_chain(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], struct e2e_user *out)
{
    struct replay replay = {.user_id = user_id};
    enum err err = auth_keys_core_each_entry(tx, user_id, 0, replay_entry, &replay);
    if (err != ERR_OK) {
        e2e_user_deinit(&replay.user);
        return err;
    }
    *out = replay.user;
    return ERR_OK;
}

static enum err
is_newest(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], struct bytes_view body,
    struct bytes_view signature, bool *out)
{
    struct store_rows *rows = NULL;
    enum err err =
        store_query(tx, "SELECT body, signature FROM auth_chain WHERE user_id = $1 ORDER BY seq DESC LIMIT 1",
            STORE_ARGS(id_of(user_id)), &rows);
    if (err != ERR_OK) {
        return err;
    }
    err = store_rows_next(rows);
    *out = err == ERR_OK && bytes_view_equal(store_rows_blob(rows, 0), body) &&
           bytes_view_equal(store_rows_blob(rows, 1), signature);
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
apply(struct e2e_user *user, const struct auth_account *author, struct bytes_view body, struct bytes_view signature,
    struct err_detail *why)
{
    if (user->seq >= AUTH_CHAIN_MAX_ENTRIES) {
        return err_fail(why, ERR_LIMIT, "your chain of keys has %d entries already, and more are not allowed",
            AUTH_CHAIN_MAX_ENTRIES);
    }
    enum err err = e2e_user_apply(user, author->user_id, body, signature, why);
    if (err == ERR_CORRUPT) {
        return err_fail(why, ERR_INVALID, "the entry is not signed by the identity key that holds after it");
    }
    if (err != ERR_OK) {
        return err; // explained
    }
    if (strcmp(user->name, author->user_name) != 0) {
        return err_fail(why, ERR_INVALID, "the entry is about \"%s\", and this account is called \"%s\"", user->name,
            author->user_name);
    }
    return ERR_OK;
}

// What an entry has ended needs no secrets any more; what it has added waits for nobody.
static enum err
tidy_up(struct store_tx *tx, const struct e2e_user *user, bool *has_ended_out)
{
    enum err err = ERR_OK;
    *has_ended_out = user->seq > 1 && user->identity_seq == user->seq;
    for (size_t i = 0; err == ERR_OK && i < user->device_count; i++) {
        const struct e2e_device *device = &user->devices[i];
        if (device->is_revoked && device->revoked_seq == user->seq) {
            *has_ended_out = true;
            err = store_exec(tx, "DELETE FROM auth_device_secrets WHERE user_id = $1 AND device_id = $2",
                STORE_ARGS(id_of(user->id), id_of(device->id)), NULL);
        }
        if (err == ERR_OK && device->added_seq == user->seq) {
            err = store_exec(tx, "DELETE FROM auth_offers WHERE user_id = $1 AND device_id = $2",
                STORE_ARGS(id_of(user->id), id_of(device->id)), NULL);
        }
    }
    return err;
}

enum err
auth_keys_core_append(struct store_tx *tx, const struct auth_account *author, struct bytes_view body,
    struct bytes_view signature, struct auth_keys_appended *out, struct err_detail *why)
{
    struct e2e_user user = {0};
    bool is_resend = false;
    *out = (struct auth_keys_appended){0};
    enum err err = auth_keys_core_find_chain(tx, author->user_id, &user);
    if (err == ERR_OK) {
        err = is_newest(tx, author->user_id, body, signature, &is_resend);
    }
    if (err == ERR_OK && !is_resend) {
        err = apply(&user, author, body, signature, why);
        if (err == ERR_OK) {
            err = store_exec(tx, "INSERT INTO auth_chain (user_id, seq, body, signature) VALUES ($1, $2, $3, $4)",
                STORE_ARGS(id_of(author->user_id), store_int((int64_t)user.seq), store_blob(body.data, body.size),
                    store_blob(signature.data, signature.size)),
                NULL);
        }
        if (err == ERR_OK) {
            err = tidy_up(tx, &user, &out->has_ended_device);
        }
    }
    out->head_seq = user.seq;
    e2e_user_deinit(&user);
    return err;
}

// --- Recovery -----------------------------------------------------------------------------------------------------

enum err
auth_keys_core_set_recovery(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const struct auth_recovery *recovery)
{
    return store_exec(tx,
        "INSERT INTO auth_recovery (user_id, sealed_recovery_key, sealed_identity_key) VALUES ($1, $2, $3)"
        " ON CONFLICT (user_id) DO UPDATE SET sealed_recovery_key = excluded.sealed_recovery_key,"
        " sealed_identity_key = excluded.sealed_identity_key",
        STORE_ARGS(id_of(user_id), store_blob(recovery->recovery_key, recovery->recovery_key_size),
            store_blob(recovery->identity_key, recovery->identity_key_size)),
        NULL);
}

// Copies a column of at most `size` bytes.
static enum err
read_sized(struct store_rows *rows, int column, uint8_t *out, size_t size, size_t *size_out)
{
    struct bytes_view value = store_rows_blob(rows, column);
    if (value.size > size) {
        return ERR_CORRUPT;
    }
    if (value.size > 0) {
        memcpy(out, value.data, value.size);
    }
    *size_out = value.size;
    return ERR_OK;
}

enum err
auth_keys_core_find_recovery(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], struct auth_recovery *out)
{
    struct store_rows *rows = NULL;
    struct auth_recovery found = {0};
    enum err err =
        store_query(tx, "SELECT sealed_recovery_key, sealed_identity_key FROM auth_recovery WHERE user_id = $1",
            STORE_ARGS(id_of(user_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = read_sized(rows, 0, found.recovery_key, sizeof(found.recovery_key), &found.recovery_key_size);
    }
    if (err == ERR_OK) {
        err = read_sized(rows, 1, found.identity_key, sizeof(found.identity_key), &found.identity_key_size);
    }
    store_rows_free(&rows);
    if (err == ERR_OK) {
        *out = found;
    }
    return err;
}

enum err
auth_keys_core_reseal(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], struct bytes_view sealed_recovery_key)
{
    struct auth_recovery recovery;
    enum err err = auth_keys_core_find_recovery(tx, user_id, &recovery);
    if (err == ERR_NOT_FOUND || (err == ERR_OK && recovery.recovery_key_size == 0)) {
        return ERR_OK; // nothing that the password seals
    }
    if (err != ERR_OK) {
        return err;
    }
    if (sealed_recovery_key.size == 0) {
        return ERR_PRECONDITION;
    }
    return store_exec(tx, "UPDATE auth_recovery SET sealed_recovery_key = $1 WHERE user_id = $2",
        STORE_ARGS(store_blob(sealed_recovery_key.data, sealed_recovery_key.size), id_of(user_id)), NULL);
}

// --- Devices ------------------------------------------------------------------------------------------------------

enum err
auth_keys_core_add_offer(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t device_id[AUTH_ID_BYTES], struct bytes_view device, int64_t now_ms)
{
    // Of everybody's, so that nobody's stay for ever.
    enum err err = store_exec(tx, "DELETE FROM auth_offers WHERE created_ms <= $1",
        STORE_ARGS(store_int(now_ms - AUTH_OFFER_LIFETIME_MS)), NULL);
    if (err == ERR_OK) {
        err = store_exec(tx,
            "INSERT INTO auth_offers (user_id, device_id, device, created_ms) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (user_id, device_id) DO UPDATE SET device = excluded.device,"
            " created_ms = excluded.created_ms",
            STORE_ARGS(id_of(user_id), id_of(device_id), store_blob(device.data, device.size), store_int(now_ms)),
            NULL);
    }
    if (err == ERR_OK) {
        err = store_exec(tx,
            "DELETE FROM auth_offers WHERE user_id = $1 AND device_id <> $2 AND device_id NOT IN"
            " (SELECT device_id FROM auth_offers WHERE user_id = $1 AND device_id <> $2"
            "  ORDER BY created_ms DESC, device_id LIMIT $3)",
            STORE_ARGS(id_of(user_id), id_of(device_id), store_int(AUTH_OFFERS_MAX - 1)), NULL);
    }
    return err;
}

enum err
auth_keys_core_list_offers(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES], int64_t now_ms,
    struct auth_offer out[AUTH_OFFERS_MAX], size_t *count_out)
{
    struct store_rows *rows = NULL;
    size_t count = 0;
    enum err err = store_query(tx,
        "SELECT device FROM auth_offers WHERE user_id = $1 AND created_ms > $2 ORDER BY created_ms DESC, device_id",
        STORE_ARGS(id_of(user_id), store_int(now_ms - AUTH_OFFER_LIFETIME_MS)), &rows);
    while (err == ERR_OK && count < AUTH_OFFERS_MAX) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = read_sized(rows, 0, out[count].device, sizeof(out[count].device), &out[count].device_size);
            count++;
        }
    }
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    *count_out = count;
    return ERR_OK;
}

enum err
auth_keys_core_put_secrets(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t device_id[AUTH_ID_BYTES], struct bytes_view enc, struct bytes_view ciphertext)
{
    struct e2e_user user = {0};
    enum err err = auth_keys_core_find_chain(tx, user_id, &user);
    if (err != ERR_OK) {
        return err;
    }
    const struct e2e_device *device = e2e_user_device(&user, device_id);
    bool is_known = device != NULL && !device->is_revoked;
    e2e_user_deinit(&user);
    if (!is_known) {
        return ERR_NOT_FOUND;
    }
    return store_exec(tx,
        "INSERT INTO auth_device_secrets (user_id, device_id, enc, ciphertext) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (user_id, device_id) DO UPDATE SET enc = excluded.enc, ciphertext = excluded.ciphertext",
        STORE_ARGS(id_of(user_id), id_of(device_id), store_blob(enc.data, enc.size),
            store_blob(ciphertext.data, ciphertext.size)),
        NULL);
}

enum err
auth_keys_core_find_secrets(struct store_tx *tx, const uint8_t user_id[AUTH_ID_BYTES],
    const uint8_t device_id[AUTH_ID_BYTES], struct auth_device_secrets *out)
{
    struct store_rows *rows = NULL;
    size_t enc_size = 0;
    enum err err =
        store_query(tx, "SELECT enc, ciphertext FROM auth_device_secrets WHERE user_id = $1 AND device_id = $2",
            STORE_ARGS(id_of(user_id), id_of(device_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = read_sized(rows, 0, out->enc, sizeof(out->enc), &enc_size);
    }
    if (err == ERR_OK && enc_size != sizeof(out->enc)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        err = read_sized(rows, 1, out->ciphertext, sizeof(out->ciphertext), &out->ciphertext_size);
    }
    store_rows_free(&rows);
    return err;
}
