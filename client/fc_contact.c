// The keys of other people, as people look at them: safety numbers, and what has been compared.
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "client/fc_identity_priv.h"

enum { SAFETY_DIGITS = 60 };

static void
contact_of(const struct fc_store_user *row, struct fc_contact *out)
{
    *out = (struct fc_contact){.first_seen_unix_ms = row->first_seen_ms,
        .is_verified = row->is_verified,
        .is_changed = row->has_pending_key};
    memcpy(out->user_id, row->user_id, sizeof(out->user_id));
    (void)snprintf(out->name, sizeof(out->name), "%s", row->name);
}

struct listing {
    struct fc_identity *identity;
    bool (*fn)(void *context, const struct fc_contact *contact);
    void *context;
};

static bool
tell(void *context, const struct fc_store_user *row)
{
    struct listing *listing = context;
    struct fc_contact contact;
    if (!row->has_pin || memcmp(row->user_id, listing->identity->user_id, sizeof(row->user_id)) == 0) {
        return true;
    }
    contact_of(row, &contact);
    return listing->fn(listing->context, &contact);
}

enum err
fc_identity_each_contact(struct fc_identity *identity, bool (*fn)(void *context, const struct fc_contact *contact),
    void *context, struct err_detail *why)
{
    struct listing listing = {.identity = identity, .fn = fn, .context = context};
    return fc_store_user_each(identity->store, tell, &listing, why);
}

// Fetches both chains, whatever identity the other one has by now, and what is kept about them.
static enum err
look(struct fc_identity *identity, const char *user_name, struct e2e_user *user, struct fc_store_user *row,
    struct err_detail *why)
{
    struct fc_identity_wanted wanted = {.name = user_name};
    enum err err = text_check_user_name(user_name, why);
    if (err == ERR_OK && strcmp(user_name, identity->user_name) == 0) {
        return err_fail(why, ERR_INVALID, "this is you: keys are compared with those of others");
    }
    if (err == ERR_OK) {
        err = fc_identity_sync_own(identity, why);
    }
    if (err == ERR_OK && fc_identity_device(identity) == NULL) {
        return err_fail(why, ERR_PRECONDITION,
            "this machine is not a device of %s's yet, and cannot vouch for its keys: 'fc device offer' or 'fc "
            "recover'",
            identity->user_name);
    }
    if (err == ERR_OK) {
        err = fc_identity_sync_lenient(identity, &wanted, 1, why);
    }
    if (err == ERR_OK && wanted.is_missing) {
        err = err_fail(why, ERR_NOT_FOUND, "there is no user \"%s\"", user_name);
    }
    if (err == ERR_OK) {
        err = fc_store_user_get(identity->store, wanted.found_id, row, why);
    }
    if (err == ERR_OK) {
        err = fc_identity_cached(identity, wanted.found_id, user, why);
    }
    if (err == ERR_OK && user->seq == 0) {
        err = err_fail(why, ERR_PRECONDITION, "%s has no keys yet: they get them when they log in next", user_name);
    }
    return err;
}

enum err
fc_identity_safety_number(struct fc_identity *identity, const char *user_name, char out[FC_SAFETY_NUMBER_BYTES],
    struct fc_contact *contact_out, struct err_detail *why)
{
    _Static_assert((int)FC_SAFETY_NUMBER_BYTES == (int)E2E_SAFETY_NUMBER_BYTES, "the public size is the real one");
    struct e2e_user user = {0};
    struct fc_store_user row;
    enum err err = look(identity, user_name, &user, &row, why);
    if (err == ERR_OK) {
        err = e2e_user_safety_number(&identity->own, &user, out);
    }
    if (err == ERR_OK) {
        contact_of(&row, contact_out);
    }
    e2e_user_deinit(&user);
    return err;
}

static enum err
digits_of(const char *text, char out[SAFETY_DIGITS + 1], struct err_detail *why)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        if (*text == ' ' || *text == '-' || *text == '\n' || *text == '\t') {
            continue;
        }
        if (*text < '0' || *text > '9' || count == SAFETY_DIGITS) {
            return err_fail(why, ERR_INVALID, "a safety number has %d digits and nothing else", SAFETY_DIGITS);
        }
        out[count++] = *text;
    }
    if (count != SAFETY_DIGITS) {
        return err_fail(why, ERR_INVALID, "the safety number has %zu digits, and should have %d", count, SAFETY_DIGITS);
    }
    out[count] = '\0';
    return ERR_OK;
}

// Makes the identity that the user has now the one that this account talks to.
static enum err
pin(struct fc_identity *identity, struct fc_store_user *row, const struct e2e_user *user, bool is_verified,
    struct err_detail *why)
{
    memcpy(row->identity_key, user->identity_key, sizeof(row->identity_key));
    row->has_pin = true;
    row->has_pending_key = false;
    row->is_verified = is_verified;
    return fc_store_user_put(identity->store, row, why);
}

enum err
fc_identity_verify(struct fc_identity *identity, const char *user_name, const char *digits, struct err_detail *why)
{
    struct e2e_user user = {0};
    struct fc_store_user row;
    char given[SAFETY_DIGITS + 1];
    char number[E2E_SAFETY_NUMBER_BYTES];
    char expected[SAFETY_DIGITS + 1];
    enum err err = digits_of(digits, given, why);
    if (err == ERR_OK) {
        err = look(identity, user_name, &user, &row, why);
    }
    if (err == ERR_OK) {
        err = e2e_user_safety_number(&identity->own, &user, number);
    }
    if (err == ERR_OK) {
        err = digits_of(number, expected, why);
    }
    if (err == ERR_OK && strcmp(given, expected) != 0) {
        err = err_fail(why, ERR_UNTRUSTED,
            "the safety numbers differ: %s sees other keys than this machine, and somebody may be in between",
            user_name);
    }
    if (err == ERR_OK) {
        err = pin(identity, &row, &user, true, why);
    }
    e2e_user_deinit(&user);
    return err;
}

enum err
fc_identity_accept(struct fc_identity *identity, const char *user_name, struct err_detail *why)
{
    struct e2e_user user = {0};
    struct fc_store_user row;
    enum err err = look(identity, user_name, &user, &row, why);
    if (err == ERR_OK && row.has_pending_key) {
        err = pin(identity, &row, &user, false, why);
    }
    e2e_user_deinit(&user);
    return err;
}
