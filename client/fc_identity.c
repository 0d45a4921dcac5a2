// The account's own keys on this machine: how they come to be, and how they come back.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/random.h"
#include "client/fc_derive_priv.h"
#include "client/fc_identity_priv.h"

// The recovery key of an identity that is being made, until the server has what it has to keep for it.
#define NOTE_RECOVERY_KEY "recovery-key"

void
fc_identity_warn(const struct fc_identity *identity, const char *format, ...)
{
    char sentence[ERR_DETAIL_MAX_BYTES];
    va_list values;
    if (identity->options.warn == NULL) {
        return;
    }
    va_start(values, format);
    (void)vsnprintf(sentence, sizeof(sentence), format, values);
    va_end(values);
    identity->options.warn(identity->options.context, sentence);
}

static enum err
read_keys(struct fc_identity *identity, struct err_detail *why)
{
    enum err err = fc_store_keys_get(identity->store, &identity->keys, why);
    identity->has_keys = err == ERR_OK;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// Who this is: from the store, or where there is nothing yet, from the server.
static enum err
find_out_who(struct fc_identity *identity, struct err_detail *why)
{
    struct fc_account account;
    if (identity->has_keys) {
        memcpy(identity->user_id, identity->keys.user_id, sizeof(identity->user_id));
        return ERR_OK;
    }
    enum err err = fc_session_who_am_i(identity->session, &account, why);
    if (err == ERR_OK && strcmp(account.user_name, identity->user_name) != 0) {
        err = err_fail(why, ERR_PROTOCOL, "the server says that this login is %s's, and it is %s's", account.user_name,
            identity->user_name);
    }
    if (err == ERR_OK) {
        memcpy(identity->user_id, account.user_id, sizeof(identity->user_id));
    }
    return err;
}

enum err
fc_identity_open(struct fc_session *session, const struct fc_identity_options *options, struct fc_identity **out,
    struct err_detail *why)
{
    struct fc_identity *identity = calloc(1, sizeof(*identity));
    enum err err = ERR_OK;
    if (identity == NULL) {
        return ERR_NO_MEMORY;
    }
    identity->session = session;
    if (options != NULL) {
        identity->options = *options;
    }
    (void)snprintf(identity->user_name, sizeof(identity->user_name), "%s", fc_session_user_name(session));
    if (identity->user_name[0] == '\0') {
        struct fc_account account;
        err = fc_session_who_am_i(session, &account, why);
        if (err == ERR_OK) {
            memcpy(identity->user_name, account.user_name, sizeof(identity->user_name));
        }
    }
    if (err == ERR_OK) {
        err = fc_store_open(fc_session_server_url(session), identity->user_name, &identity->store, why);
        err = err == ERR_DENIED ? ERR_PRECONDITION : err; // the rights of a file, which are not what a server denies
    }
    if (err == ERR_OK) {
        err = read_keys(identity, why);
    }
    if (err == ERR_OK) {
        err = find_out_who(identity, why);
    }
    if (err == ERR_OK) {
        err = fc_identity_cached(identity, identity->user_id, &identity->own, why);
    }
    if (err != ERR_OK) {
        fc_identity_close(&identity);
        return err;
    }
    *out = identity;
    return ERR_OK;
}

void
fc_identity_close(struct fc_identity **identity)
{
    if (*identity == NULL) {
        return;
    }
    e2e_user_deinit(&(*identity)->own);
    fc_store_close(&(*identity)->store);
    digest_wipe(*identity, sizeof(**identity));
    free(*identity);
    *identity = NULL;
}

const char *
fc_identity_user_name(const struct fc_identity *identity)
{
    return identity->user_name;
}

enum err
fc_identity_keep(struct fc_identity *identity, struct err_detail *why)
{
    enum err err = fc_store_keys_put(identity->store, &identity->keys, why);
    identity->has_keys = identity->has_keys || err == ERR_OK;
    return err;
}

const struct e2e_keys *
fc_identity_device(const struct fc_identity *identity)
{
    const struct e2e_device *device =
        identity->has_keys ? e2e_user_device(&identity->own, identity->keys.device.id) : NULL;
    return device != NULL && !device->is_revoked ? &identity->keys.device : NULL;
}

const struct e2e_keys *
fc_identity_recovery_keys(const struct fc_identity *identity)
{
    return identity->has_recovery ? &identity->recovery : NULL;
}

// --- Making an identity -------------------------------------------------------------------------------------------

// Whether the identity key here is the one that holds.
static bool
is_identity_ours(const struct fc_identity *identity)
{
    uint8_t public[CRYPTO_KEY_BYTES];
    return identity->has_keys && identity->keys.has_identity && identity->own.seq > 0 &&
           crypto_sign_public(identity->keys.identity_private, public) == ERR_OK &&
           memcmp(public, identity->own.identity_key, sizeof(public)) == 0;
}

// Reads the recovery key of an identity that was being made. ERR_NOT_FOUND.
static enum err
read_note(struct fc_identity *identity, struct fc_recovery *recovery, struct err_detail *why)
{
    struct bytes note = {0};
    enum err err = fc_store_note_get(identity->store, NOTE_RECOVERY_KEY, &note, why);
    if (err == ERR_OK && note.size != sizeof(recovery->key)) {
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        memcpy(recovery->key, note.data, sizeof(recovery->key));
        err = fc_recovery_derive(recovery);
    }
    bytes_free_secret(&note);
    return err;
}

// Draws all keys, and keeps them before anybody hears of them.
static enum err
make_keys(struct fc_identity *identity, bool is_recovery_offline, struct fc_recovery *recovery, struct err_detail *why)
{
    random_bytes(recovery->key, sizeof(recovery->key));
    enum err err = fc_recovery_derive(recovery);
    if (err == ERR_OK) {
        err = e2e_keys_generate(&identity->keys.device);
    }
    if (err != ERR_OK) {
        return err;
    }
    memcpy(identity->keys.user_id, identity->user_id, sizeof(identity->keys.user_id));
    random_bytes(identity->keys.identity_private, sizeof(identity->keys.identity_private));
    identity->keys.has_identity = true;
    identity->keys.is_recovery_offline = is_recovery_offline;
    err = fc_store_begin(identity->store, why);
    if (err == ERR_OK) {
        err = fc_identity_keep(identity, why);
    }
    if (err == ERR_OK) {
        err = fc_store_note_put(identity->store, NOTE_RECOVERY_KEY, bytes_view_of(recovery->key, sizeof(recovery->key)),
            why);
    }
    if (err == ERR_OK) {
        err = fc_store_commit(identity->store, why);
    }
    fc_store_rollback(identity->store);
    return err;
}

// Sends the entry that sets the identity and its first two devices.
static enum err
publish(struct fc_identity *identity, const struct fc_recovery *recovery, struct err_detail *why)
{
    char name[FC_DEVICE_NAME_BYTES];
    char recovery_name[] = "recovery key";
    uint8_t public[CRYPTO_KEY_BYTES];
    struct fc_identity_add device;
    struct fc_identity_add way_back;
    Fc__E2e__V1__Identity wire = FC__E2E__V1__IDENTITY__INIT;
    Fc__E2e__V1__UserChange set = FC__E2E__V1__USER_CHANGE__INIT;
    Fc__E2e__V1__UserChange *changes[] = {&set, &device.change, &way_back.change};
    enum err err = crypto_sign_public(identity->keys.identity_private, public);
    if (err != ERR_OK) {
        return err;
    }
    wire.user_name = identity->user_name;
    wire.identity_key = (ProtobufCBinaryData){.len = sizeof(public), .data = public};
    set.kind_case = FC__E2E__V1__USER_CHANGE__KIND_SET_IDENTITY;
    set.set_identity = &wire;
    fc_identity_machine_name(name);
    fc_identity_add_fill(&device, &identity->keys.device, name, false);
    fc_identity_add_fill(&way_back, &recovery->device, recovery_name, true);
    return fc_identity_append(identity, changes, sizeof(changes) / sizeof(changes[0]), identity->keys.identity_private,
        why);
}

// Gives the server what it keeps of a new identity, and the owner what they do. The end of making one.
static enum err
finish(struct fc_identity *identity, const struct fc_recovery *recovery, struct fc_identity_outcome *outcome,
    struct err_detail *why)
{
    const uint8_t *backup_key = fc_derive_backup_key(identity->session);
    bool is_offline = identity->keys.is_recovery_offline || backup_key == NULL;
    enum err err = fc_recovery_set(identity, recovery, is_offline ? NULL : backup_key, why);
    if (err == ERR_OK && is_offline) {
        err = e2e_recovery_format(recovery->key, outcome->recovery_text);
    }
    if (err == ERR_OK) {
        err = fc_store_note_put(identity->store, NOTE_RECOVERY_KEY, bytes_view_of(NULL, 0), why);
    }
    if (err == ERR_OK) {
        identity->recovery = recovery->device;
        identity->has_recovery = true;
        outcome->state = FC_IDENTITY_MADE;
    }
    return err;
}

static enum err
create(struct fc_identity *identity, bool is_recovery_offline, struct fc_identity_outcome *outcome,
    struct err_detail *why)
{
    struct fc_recovery recovery = {0};
    // A machine that stopped in the midst of it goes on with the keys that it had made.
    enum err err =
        identity->has_keys && identity->keys.has_identity ? read_note(identity, &recovery, why) : ERR_NOT_FOUND;
    if (err == ERR_NOT_FOUND) {
        err = make_keys(identity, is_recovery_offline, &recovery, why);
    }
    if (err == ERR_OK) {
        err = publish(identity, &recovery, why);
    }
    if (err == ERR_OK) {
        err = finish(identity, &recovery, outcome, why);
    }
    digest_wipe(&recovery, sizeof(recovery));
    return err;
}

enum err
fc_identity_reset(struct fc_identity *identity, bool is_recovery_offline, struct fc_identity_outcome *outcome_out,
    struct err_detail *why)
{
    struct fc_recovery recovery = {0};
    struct fc_store_user row;
    *outcome_out = (struct fc_identity_outcome){0};
    if (!is_recovery_offline && fc_derive_backup_key(identity->session) == NULL) {
        return err_fail(why, ERR_PRECONDITION, "the password is needed to seal the new recovery key");
    }
    enum err err = fc_identity_sync_own(identity, why);
    if (err == ERR_OK) {
        err = make_keys(identity, is_recovery_offline, &recovery, why);
    }
    // One's own doing needs no warning.
    if (err == ERR_OK && identity->own.seq > 0) {
        err = fc_store_user_get(identity->store, identity->user_id, &row, why);
        if (err == ERR_OK) {
            err = crypto_sign_public(identity->keys.identity_private, row.identity_key);
        }
        if (err == ERR_OK) {
            err = fc_store_user_put(identity->store, &row, why);
        }
    }
    if (err == ERR_OK) {
        err = publish(identity, &recovery, why);
    }
    if (err == ERR_OK) {
        err = finish(identity, &recovery, outcome_out, why);
    }
    digest_wipe(&recovery, sizeof(recovery));
    return err;
}

// --- After a login ------------------------------------------------------------------------------------------------

// Adds this machine with the recovery key that the password opens, if the server keeps one.
static enum err
recover_by_password(struct fc_identity *identity, struct fc_identity_outcome *outcome, struct err_detail *why)
{
    const uint8_t *backup_key = fc_derive_backup_key(identity->session);
    Fc__Auth__V1__Recovery *wire = NULL;
    struct fc_recovery recovery = {0};
    outcome->state = FC_IDENTITY_WAITING;
    if (backup_key == NULL) {
        return ERR_OK;
    }
    enum err err = fc_recovery_get(identity->session, &wire, why);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_OK && wire->sealed_recovery_key.len > 0) {
        err = fc_recovery_open(identity->user_id, backup_key,
            bytes_view_of(wire->sealed_recovery_key.data, wire->sealed_recovery_key.len), recovery.key);
        if (err == ERR_CORRUPT) {
            fc_identity_warn(identity, "the recovery key that the server keeps is not sealed under this password");
            err = ERR_OK;
        } else if (err == ERR_OK) {
            err = fc_recovery_derive(&recovery);
            if (err == ERR_OK) {
                err = fc_recovery_use(identity, &recovery, wire, false, why);
            }
            if (err == ERR_OK) {
                outcome->state = FC_IDENTITY_RECOVERED;
            }
        }
    }
    fc__auth__v1__recovery__free_unpacked(wire, NULL);
    digest_wipe(&recovery, sizeof(recovery));
    return err;
}

// A machine that speaks for the account already. What was cut off when the identity was made is done now.
static enum err
resume(struct fc_identity *identity, struct fc_identity_outcome *outcome, struct err_detail *why)
{
    struct fc_recovery recovery = {0};
    outcome->state = FC_IDENTITY_READY;
    enum err err = is_identity_ours(identity) ? read_note(identity, &recovery, why) : ERR_NOT_FOUND;
    if (err == ERR_OK) {
        // Another machine may have been faster, and then the note is of keys that nobody has heard of.
        err = e2e_user_device(&identity->own, recovery.device.id) != NULL
                  ? finish(identity, &recovery, outcome, why)
                  : fc_store_note_put(identity->store, NOTE_RECOVERY_KEY, bytes_view_of(NULL, 0), why);
    }
    digest_wipe(&recovery, sizeof(recovery));
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
check_account(struct fc_identity *identity, struct err_detail *why)
{
    struct fc_account account;
    enum err err = fc_session_who_am_i(identity->session, &account, why);
    if (err == ERR_OK && memcmp(account.user_id, identity->user_id, sizeof(identity->user_id)) != 0) {
        err = err_fail(why, ERR_UNTRUSTED,
            "the server means another account by %s than the one whose keys are on this machine: if it was set up "
            "anew, "
            "'fc logout --forget' makes room",
            identity->user_name);
    }
    return err;
}

enum err
fc_identity_establish(struct fc_identity *identity, bool is_recovery_offline, struct fc_identity_outcome *outcome_out,
    struct err_detail *why)
{
    struct fc_identity_outcome outcome = {0};
    enum err err = check_account(identity, why);
    if (err == ERR_OK) {
        err = fc_identity_sync_own(identity, why);
    }
    if (err == ERR_UNIMPLEMENTED) {
        *outcome_out = (struct fc_identity_outcome){.state = FC_IDENTITY_NONE};
        return ERR_OK;
    }
    if (err == ERR_OK && identity->own.seq == 0) {
        struct err_detail cause = {0};
        err = create(identity, is_recovery_offline, &outcome, &cause);
        if (err == ERR_CONFLICT) { // another machine was faster
            err = fc_identity_sync_own(identity, why);
        } else if (err != ERR_OK) {
            return err_fail(why, err, "%s", err_message(&cause, err));
        } else {
            *outcome_out = outcome;
            return ERR_OK;
        }
    }
    if (err == ERR_OK) {
        err = fc_identity_device(identity) != NULL ? resume(identity, &outcome, why)
                                                   : recover_by_password(identity, &outcome, why);
    }
    if (err == ERR_OK) {
        *outcome_out = outcome;
    }
    return err;
}

enum err
fc_identity_recover(struct fc_identity *identity, const char *recovery_text, bool is_test, struct err_detail *why)
{
    Fc__Auth__V1__Recovery *wire = NULL;
    struct fc_recovery recovery = {0};
    enum err err = e2e_recovery_parse(recovery_text, recovery.key, why);
    if (err == ERR_OK) {
        err = fc_recovery_derive(&recovery);
    }
    if (err == ERR_OK) {
        err = fc_identity_sync_own(identity, why);
    }
    if (err == ERR_OK) {
        err = fc_recovery_get(identity->session, &wire, why);
    }
    if (err == ERR_OK) {
        err = fc_recovery_use(identity, &recovery, wire, is_test, why);
        fc__auth__v1__recovery__free_unpacked(wire, NULL);
    }
    digest_wipe(&recovery, sizeof(recovery));
    return err;
}

enum err
fc_identity_forget(struct fc_identity **identity, struct err_detail *why)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    char base[FC_CONFIG_PATH_MAX_BYTES];
    enum err err = ERR_OK;
    (void)snprintf(base, sizeof(base), "%s", fc_store_path((*identity)->store));
    fc_identity_close(identity);
    for (size_t i = 0; err == ERR_OK && i < sizeof(endings) / sizeof(endings[0]); i++) {
        char path[FC_CONFIG_PATH_MAX_BYTES + 16];
        (void)snprintf(path, sizeof(path), "%s%s", base, endings[i]);
        if (unlink(path) != 0 && errno != ENOENT) {
            err = err_fail(why, err_from_errno(errno), "%s cannot be removed: %s", path, strerror(errno));
        }
    }
    return err;
}
