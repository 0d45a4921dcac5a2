// Who an account is: its own keys on this machine, and those of other people.
//
// An account has an identity key, devices that speak for it, and a way back: a recovery key. The server keeps the
// signed chain of what has happened to them (proto/fc/e2e/v1/chain.proto); what it says is checked, kept in the local
// store, and never believed to go back. All functions block; one thread at a time.
#ifndef CLIENT_FC_IDENTITY_H
#define CLIENT_FC_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_config.h"
#include "client/fc_session.h"

enum {
    FC_RECOVERY_TEXT_BYTES = 45, // 9 groups of 4 characters, with the NUL
    FC_DEVICE_CODE_BYTES = 32,   // with the NUL
    FC_DEVICE_NAME_BYTES = 65,   // with the NUL
    FC_SAFETY_NUMBER_BYTES = 72, // with the NUL
    FC_OWN_NUMBER_BYTES = 36,    // with the NUL
};

struct fc_identity;

// What people should know although it is no failure, as that somebody has new keys: a sentence.
struct fc_identity_options {
    void (*warn)(void *context, const char *sentence); // may be NULL
    void *context;
};

// fc_identity_open opens the local store of the session's account; the session stays the caller's and outlives it.
// ERR_PRECONDITION: the store's files can be read by others; `why` says what to do. options may be NULL.
enum err fc_identity_open(struct fc_session *session, const struct fc_identity_options *options,
    struct fc_identity **out, struct err_detail *why) ERR_CHECKED;
void fc_identity_close(struct fc_identity **identity);
const char *fc_identity_user_name(const struct fc_identity *identity);

// --- Own keys

enum fc_identity_state {
    FC_IDENTITY_READY,     // this device speaks for the account, as before
    FC_IDENTITY_MADE,      // the account has keys now; this is its first device
    FC_IDENTITY_RECOVERED, // this device has been added by means of the recovery key
    FC_IDENTITY_WAITING,   // the account has keys, and this machine has to be let in
    FC_IDENTITY_NONE,      // the server is older than all this
};

struct fc_identity_outcome {
    enum fc_identity_state state;
    char recovery_text[FC_RECOVERY_TEXT_BYTES]; // to be written down; empty: not needed. A secret
};

// fc_identity_establish is called after sign-up and login, with the session that made them: it makes keys where there
// are none, and adds this machine where the password is enough for it. is_recovery_offline: of new keys, the recovery
// key is not kept on the server.
enum err fc_identity_establish(struct fc_identity *identity, bool is_recovery_offline,
    struct fc_identity_outcome *outcome_out, struct err_detail *why) ERR_CHECKED;

// fc_identity_recover adds this machine by means of the recovery key, as it was written down; is_test: only looks
// whether it would. ERR_INVALID: mistyped; ERR_UNTRUSTED: not this account's.
enum err fc_identity_recover(struct fc_identity *identity, const char *recovery_text, bool is_test,
    struct err_detail *why) ERR_CHECKED;

// fc_identity_reset makes a new identity when there is no way back. What was encrypted before stays closed, and others
// are warned. Without is_recovery_offline the session has to have logged in, or fc_session_prove been called.
enum err fc_identity_reset(struct fc_identity *identity, bool is_recovery_offline,
    struct fc_identity_outcome *outcome_out, struct err_detail *why) ERR_CHECKED;

// fc_identity_forget deletes all that this machine keeps of the account, keys and messages, and closes it.
enum err fc_identity_forget(struct fc_identity **identity, struct err_detail *why) ERR_CHECKED;

// --- Devices

struct fc_device {
    uint8_t id[16];
    const char *name; // borrowed, and from outside
    bool is_this;
    bool is_recovery;
    bool is_revoked;
};

// fc_device_each calls fn for the account's devices in the order in which they were added, until it returns false.
enum err fc_device_each(struct fc_identity *identity, bool (*fn)(void *context, const struct fc_device *device),
    void *context, struct err_detail *why) ERR_CHECKED;

// fc_device_offer makes this machine known as one that wants to be let in; code_out goes to a device of the account by
// another way than the server. name NULL: the machine's. ERR_EXISTS: it is a device already.
enum err fc_device_offer(struct fc_identity *identity, const char *name, char code_out[FC_DEVICE_CODE_BYTES],
    struct err_detail *why) ERR_CHECKED;

enum fc_device_offer_state {
    FC_DEVICE_OFFERED, // nobody has taken it in yet
    FC_DEVICE_ADDED,   // it has been, and its secrets are on the way
    FC_DEVICE_READY,   // with the identity key
    FC_DEVICE_NO_SIGN, // without: it cannot add or remove devices
};

// fc_device_offer_poll asks once how far it is.
enum err fc_device_offer_poll(struct fc_identity *identity, enum fc_device_offer_state *out,
    struct err_detail *why) ERR_CHECKED;

// fc_device_add lets in the device that offers itself with this code. with_identity: it may add and remove devices,
// too. ERR_UNTRUSTED: none of those that wait has the code; ERR_NOT_FOUND: none waits; ERR_PRECONDITION: this device
// cannot.
enum err fc_device_add(struct fc_identity *identity, const char *code, bool with_identity,
    char name_out[FC_DEVICE_NAME_BYTES], struct err_detail *why) ERR_CHECKED;

// fc_device_own_number writes 30 digits that stand for the account's identity: the same on all its devices. A new
// device knows the old ones only from the server, so people compare it after fc_device_add.
enum err fc_device_own_number(struct fc_identity *identity, char out[FC_OWN_NUMBER_BYTES],
    struct err_detail *why) ERR_CHECKED;

// fc_device_remove ends a device for good, found by its name or the beginning of its id. ERR_NOT_FOUND; ERR_INVALID:
// several are meant.
enum err fc_device_remove(struct fc_identity *identity, const char *id_or_name, char name_out[FC_DEVICE_NAME_BYTES],
    struct err_detail *why) ERR_CHECKED;

// --- Other people

struct fc_contact {
    uint8_t user_id[16];
    char name[FC_USER_NAME_MAX_BYTES];
    int64_t first_seen_unix_ms; // of the key
    bool is_verified;           // compared by people
    bool is_changed;            // another key since then, not accepted
};

// fc_identity_each_contact tells of the people whose keys this machine has met, by name, until fn returns false.
enum err fc_identity_each_contact(struct fc_identity *identity,
    bool (*fn)(void *context, const struct fc_contact *contact), void *context, struct err_detail *why) ERR_CHECKED;

// fc_identity_safety_number writes the 60 digits, in groups of 5, that this account and another compare.
enum err fc_identity_safety_number(struct fc_identity *identity, const char *user_name,
    char out[FC_SAFETY_NUMBER_BYTES], struct fc_contact *contact_out, struct err_detail *why) ERR_CHECKED;

// fc_identity_verify compares digits with the safety number and marks the user as verified. ERR_UNTRUSTED: they differ.
// ERR_INVALID: no 60 digits.
enum err fc_identity_verify(struct fc_identity *identity, const char *user_name, const char *digits,
    struct err_detail *why) ERR_CHECKED;

// fc_identity_accept takes the key that a verified user has now for theirs, not verified.
enum err fc_identity_accept(struct fc_identity *identity, const char *user_name, struct err_detail *why) ERR_CHECKED;

#endif
