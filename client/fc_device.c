// The account's devices: how a new one is let in by an old one, and how one is ended.
//
// The code that people carry from the new device to the old one is 130 bits of SHA-256(sign_key ‖ box_key), so that the
// server cannot put keys of its own in their place. In the other direction go the secrets of the account, sealed.
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/text.h"
#include "client/fc_identity_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/auth/v1/keys.stub.h"

enum {
    CODE_CHARACTERS = 26,
    CODE_GROUP = 5, // the last one has a character more
    SECRETS_INFO_BYTES = 12 + 2 * E2E_ID_BYTES,
    ID_PREFIX_MIN_DIGITS = 4,
};

#define SECRETS_LABEL "fc/1 device"

// --- Codes --------------------------------------------------------------------------------------------------------

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; // Crockford's base32

static enum err
code_of(const uint8_t sign_key[CRYPTO_KEY_BYTES], const uint8_t box_key[CRYPTO_KEY_BYTES],
    char out[CODE_CHARACTERS + 1])
{
    uint8_t both[2 * CRYPTO_KEY_BYTES];
    uint8_t hash[DIGEST_SHA256_BYTES];
    memcpy(both, sign_key, CRYPTO_KEY_BYTES);
    memcpy(both + CRYPTO_KEY_BYTES, box_key, CRYPTO_KEY_BYTES);
    enum err err = digest_of(DIGEST_SHA256, bytes_view_of(both, sizeof(both)), hash);
    for (unsigned i = 0; err == ERR_OK && i < CODE_CHARACTERS; i++) {
        unsigned bit = i * 5;
        unsigned pair = (unsigned)hash[bit / 8] << 8 | hash[bit / 8 + 1];
        out[i] = alphabet[pair >> (11 - bit % 8) & 31];
    }
    out[CODE_CHARACTERS] = '\0';
    return err;
}

static void
format_code(const char code[CODE_CHARACTERS + 1], char out[FC_DEVICE_CODE_BYTES])
{
    size_t used = 0;
    for (size_t i = 0; i < CODE_CHARACTERS; i++) {
        if (i > 0 && i % CODE_GROUP == 0 && i < CODE_CHARACTERS - 1) {
            out[used++] = '-';
        }
        out[used++] = code[i];
    }
    out[used] = '\0';
}

// Any case, with or without dashes and spaces; o, i and l are taken for 0 and 1.
static enum err
parse_code(const char *text, char out[CODE_CHARACTERS + 1], struct err_detail *why)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        char c = *text;
        if (c == '-' || c == ' ') {
            continue;
        }
        c = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
        c = (char)(c == 'O' ? '0' : c == 'I' || c == 'L' ? '1' : c);
        if (strchr(alphabet, c) == NULL || count == CODE_CHARACTERS) {
            return err_fail(why, ERR_INVALID, "this is no device's code: it has %d letters and digits",
                CODE_CHARACTERS);
        }
        out[count++] = c;
    }
    if (count != CODE_CHARACTERS) {
        return err_fail(why, ERR_INVALID, "the code has %zu letters and digits, and should have %d", count,
            CODE_CHARACTERS);
    }
    out[count] = '\0';
    return ERR_OK;
}

// --- Secrets ------------------------------------------------------------------------------------------------------

static struct bytes_view
secrets_info(const uint8_t user_id[E2E_ID_BYTES], const uint8_t device_id[E2E_ID_BYTES],
    uint8_t out[SECRETS_INFO_BYTES])
{
    _Static_assert(sizeof(SECRETS_LABEL) == SECRETS_INFO_BYTES - 2 * E2E_ID_BYTES, "the label with its NUL");
    memcpy(out, SECRETS_LABEL, sizeof(SECRETS_LABEL));
    memcpy(out + sizeof(SECRETS_LABEL), user_id, E2E_ID_BYTES);
    memcpy(out + sizeof(SECRETS_LABEL) + E2E_ID_BYTES, device_id, E2E_ID_BYTES);
    return bytes_view_of(out, SECRETS_INFO_BYTES);
}

static enum err
put_secrets(struct fc_identity *identity, const struct e2e_device *device, bool with_identity, struct err_detail *why)
{
    uint8_t info[SECRETS_INFO_BYTES];
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    uint8_t plain[64];
    struct bytes ciphertext = {0};
    struct rpc_unary call;
    Fc__Auth__V1__DeviceSecrets secrets = FC__AUTH__V1__DEVICE_SECRETS__INIT;
    Fc__Auth__V1__PutDeviceSecretsRequest request = FC__AUTH__V1__PUT_DEVICE_SECRETS_REQUEST__INIT;
    if (with_identity) {
        secrets.identity_key = fc_lend(identity->keys.identity_private, CRYPTO_KEY_BYTES);
    }
    if (fc__auth__v1__device_secrets__get_packed_size(&secrets) > sizeof(plain)) {
        return ERR_INTERNAL;
    }
    size_t size = fc__auth__v1__device_secrets__pack(&secrets, plain);
    enum err err = e2e_hpke_seal(device->box_key, secrets_info(identity->user_id, device->id, info),
        bytes_view_of(NULL, 0), bytes_view_of(plain, size), enc, &ciphertext);
    digest_wipe(plain, sizeof(plain));
    if (err == ERR_OK) {
        request.device_id = fc_lend(device->id, sizeof(device->id));
        request.enc = fc_lend(enc, sizeof(enc));
        request.ciphertext = fc_lend(ciphertext.data, ciphertext.size);
        fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
        call.is_idempotent = true;
        err = fc_session_explain(&call, fc_auth_v1_keys_put_device_secrets(&call, &request, NULL), why);
        rpc_unary_deinit(&call);
    }
    bytes_free(&ciphertext);
    return err;
}

// Takes the identity key out of what was left for this device.
static enum err
take_secrets(struct fc_identity *identity, const Fc__Auth__V1__GetDeviceSecretsResponse *response,
    struct err_detail *why)
{
    const struct e2e_keys *device = &identity->keys.device;
    uint8_t info[SECRETS_INFO_BYTES];
    uint8_t public[CRYPTO_KEY_BYTES];
    struct bytes plain = {0};
    enum err err = ERR_CORRUPT;
    if (response->enc.len == E2E_WRAP_ENC_BYTES) {
        err = e2e_hpke_open(device->box_private, response->enc.data, secrets_info(identity->user_id, device->id, info),
            bytes_view_of(NULL, 0), bytes_view_of(response->ciphertext.data, response->ciphertext.len), &plain);
    }
    Fc__Auth__V1__DeviceSecrets *secrets =
        err == ERR_OK ? fc__auth__v1__device_secrets__unpack(NULL, plain.size, plain.data) : NULL;
    if (err == ERR_OK && secrets == NULL) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK && secrets->identity_key.len == CRYPTO_KEY_BYTES) {
        err = crypto_sign_public(secrets->identity_key.data, public);
        if (err == ERR_OK && memcmp(public, identity->own.identity_key, sizeof(public)) != 0) {
            err = ERR_CORRUPT;
        }
        if (err == ERR_OK) {
            memcpy(identity->keys.identity_private, secrets->identity_key.data, CRYPTO_KEY_BYTES);
            identity->keys.has_identity = true;
            err = fc_identity_keep(identity, why);
        }
    }
    if (secrets != NULL) {
        digest_wipe(secrets->identity_key.data, secrets->identity_key.len);
        fc__auth__v1__device_secrets__free_unpacked(secrets, NULL);
    }
    bytes_free_secret(&plain);
    if (err == ERR_CORRUPT) {
        return err_fail(why, ERR_UNTRUSTED, "what was left for this device is not from a device of this account");
    }
    return err;
}

// --- The new device -----------------------------------------------------------------------------------------------

static enum err
prepare_offer(struct fc_identity *identity, struct err_detail *why)
{
    enum err err = fc_identity_sync_own(identity, why);
    if (err == ERR_OK && fc_identity_device(identity) != NULL) {
        return err_fail(why, ERR_EXISTS, "this machine is one of %s's devices already", identity->user_name);
    }
    if (err == ERR_OK && identity->own.seq == 0) {
        return err_fail(why, ERR_PRECONDITION, "%s has no keys yet, so no device could let this one in: log in again",
            identity->user_name);
    }
    // Keys that were ended are never used again.
    bool is_ended = identity->has_keys && e2e_user_device(&identity->own, identity->keys.device.id) != NULL;
    if (err == ERR_OK && (!identity->has_keys || is_ended)) {
        identity->keys = (struct fc_store_keys){.is_recovery_offline = true};
        memcpy(identity->keys.user_id, identity->user_id, sizeof(identity->keys.user_id));
        err = e2e_keys_generate(&identity->keys.device);
        if (err == ERR_OK) {
            err = fc_identity_keep(identity, why);
        }
    }
    return err;
}

enum err
fc_device_offer(struct fc_identity *identity, const char *name, char code_out[FC_DEVICE_CODE_BYTES],
    struct err_detail *why)
{
    char machine[FC_DEVICE_NAME_BYTES];
    char code[CODE_CHARACTERS + 1];
    struct rpc_unary call;
    struct fc_identity_add add;
    Fc__Auth__V1__OfferDeviceRequest request = FC__AUTH__V1__OFFER_DEVICE_REQUEST__INIT;
    if (name == NULL) {
        fc_identity_machine_name(machine);
        name = machine;
    }
    if (name[0] == '\0' || strlen(name) >= FC_DEVICE_NAME_BYTES || !text_is_utf8(bytes_view_of_text(name))) {
        return err_fail(why, ERR_INVALID, "a device's name has 1 to %d bytes of UTF-8", FC_DEVICE_NAME_BYTES - 1);
    }
    enum err err = prepare_offer(identity, why);
    if (err == ERR_OK) {
        err = code_of(identity->keys.device.sign_public, identity->keys.device.box_public, code);
    }
    if (err != ERR_OK) {
        return err;
    }
    format_code(code, code_out);
    fc_identity_add_fill(&add, &identity->keys.device, name, false);
    request.device = &add.device;
    fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
    call.is_idempotent = true;
    err = fc_session_explain(&call, fc_auth_v1_keys_offer_device(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_device_offer_poll(struct fc_identity *identity, enum fc_device_offer_state *out, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Auth__V1__GetDeviceSecretsResponse *response = NULL;
    Fc__Auth__V1__GetDeviceSecretsRequest request = FC__AUTH__V1__GET_DEVICE_SECRETS_REQUEST__INIT;
    enum err err = fc_identity_sync_own(identity, why);
    if (err == ERR_OK && fc_identity_device(identity) == NULL) {
        *out = FC_DEVICE_OFFERED;
        return ERR_OK;
    }
    if (err != ERR_OK) {
        return err;
    }
    request.device_id = fc_lend(identity->keys.device.id, sizeof(identity->keys.device.id));
    fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
    call.is_idempotent = true;
    err = fc_session_explain(&call, fc_auth_v1_keys_get_device_secrets(&call, &request, &response), why);
    if (err == ERR_NOT_FOUND) {
        *out = FC_DEVICE_ADDED;
        err = ERR_OK;
    } else if (err == ERR_OK) {
        err = take_secrets(identity, response, why);
        if (err == ERR_OK) {
            *out = identity->keys.has_identity ? FC_DEVICE_READY : FC_DEVICE_NO_SIGN;
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

// --- The old device -----------------------------------------------------------------------------------------------

// This device has to speak for the account, and to have the identity key.
static enum err
check_can_sign(struct fc_identity *identity, struct err_detail *why)
{
    enum err err = fc_identity_sync_own(identity, why);
    if (err == ERR_OK && fc_identity_device(identity) == NULL) {
        return err_fail(why, ERR_PRECONDITION,
            "this machine is not a device of %s's: let it in with 'fc device offer' here, or 'fc recover'",
            identity->user_name);
    }
    if (err == ERR_OK && !identity->keys.has_identity) {
        return err_fail(why, ERR_PRECONDITION,
            "this device may not add or remove devices: do it on another, or 'fc recover' here first");
    }
    return err;
}

static bool
is_code_of(const char code[CODE_CHARACTERS + 1], const uint8_t sign_key[CRYPTO_KEY_BYTES],
    const uint8_t box_key[CRYPTO_KEY_BYTES])
{
    char other[CODE_CHARACTERS + 1];
    return code_of(sign_key, box_key, other) == ERR_OK &&
           bytes_view_equal_secret(bytes_view_of(code, CODE_CHARACTERS), bytes_view_of(other, CODE_CHARACTERS));
}

static enum err
find_offer(struct fc_identity *identity, const char code[CODE_CHARACTERS + 1], struct e2e_device *out,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Auth__V1__ListOffersResponse *response = NULL;
    Fc__Auth__V1__ListOffersRequest request = FC__AUTH__V1__LIST_OFFERS_REQUEST__INIT;
    fc_auth_v1_keys_init(&call, fc_session_channel(identity->session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_auth_v1_keys_list_offers(&call, &request, &response), why);
    bool is_found = false;
    for (size_t i = 0; err == ERR_OK && !is_found && i < response->n_devices; i++) {
        const Fc__E2e__V1__Device *device = response->devices[i];
        is_found = device->device_id.len == E2E_ID_BYTES && device->sign_key.len == CRYPTO_KEY_BYTES &&
                   device->box_key.len == CRYPTO_KEY_BYTES && strlen(device->name) <= E2E_DEVICE_NAME_MAX_BYTES &&
                   is_code_of(code, device->sign_key.data, device->box_key.data);
        if (is_found) {
            *out = (struct e2e_device){0};
            memcpy(out->id, device->device_id.data, sizeof(out->id));
            memcpy(out->sign_key, device->sign_key.data, sizeof(out->sign_key));
            memcpy(out->box_key, device->box_key.data, sizeof(out->box_key));
            memcpy(out->name, device->name, strlen(device->name));
        }
    }
    if (err == ERR_OK && !is_found) {
        err = response->n_devices == 0
                  ? err_fail(why, ERR_NOT_FOUND, "no device waits to be let in: run 'fc device offer' on the new one")
                  : err_fail(why, ERR_UNTRUSTED,
                        "none of the devices that wait has this code: it was mistyped, or somebody else offers one");
    }
    rpc_unary_deinit(&call);
    return err;
}

// A device that was put on the chain before its secrets were left for it.
static bool
find_on_chain(const struct fc_identity *identity, const char code[CODE_CHARACTERS + 1], struct e2e_device *out)
{
    for (size_t i = 0; i < identity->own.device_count; i++) {
        const struct e2e_device *device = &identity->own.devices[i];
        if (!device->is_revoked && !device->is_recovery && is_code_of(code, device->sign_key, device->box_key)) {
            *out = *device;
            return true;
        }
    }
    return false;
}

enum err
fc_device_add(struct fc_identity *identity, const char *code, bool with_identity, char name_out[FC_DEVICE_NAME_BYTES],
    struct err_detail *why)
{
    char wanted[CODE_CHARACTERS + 1];
    struct e2e_device device = {0};
    enum err err = parse_code(code, wanted, why);
    if (err == ERR_OK) {
        err = check_can_sign(identity, why);
    }
    if (err == ERR_OK && !find_on_chain(identity, wanted, &device)) {
        err = find_offer(identity, wanted, &device, why);
        if (err == ERR_OK) {
            err = fc_identity_append_device(identity, &device, why);
        }
    }
    if (err == ERR_OK) {
        err = fc_identity_share(identity, &device, why);
    }
    if (err == ERR_OK) {
        err = put_secrets(identity, &device, with_identity, why);
    }
    if (err == ERR_OK) {
        memcpy(name_out, device.name, FC_DEVICE_NAME_BYTES);
    }
    return err;
}

// --- Lists and ends -----------------------------------------------------------------------------------------------

enum err
fc_device_each(struct fc_identity *identity, bool (*fn)(void *context, const struct fc_device *device), void *context,
    struct err_detail *why)
{
    enum err err = fc_identity_sync_own(identity, why);
    for (size_t i = 0; err == ERR_OK && i < identity->own.device_count; i++) {
        const struct e2e_device *from = &identity->own.devices[i];
        struct fc_device device = {.name = from->name,
            .is_recovery = from->is_recovery,
            .is_revoked = from->is_revoked};
        memcpy(device.id, from->id, sizeof(device.id));
        device.is_this = identity->has_keys && memcmp(from->id, identity->keys.device.id, sizeof(from->id)) == 0;
        if (!fn(context, &device)) {
            break;
        }
    }
    return err;
}

static bool
is_meant(const struct e2e_device *device, const char *id_or_name)
{
    char hex[2 * E2E_ID_BYTES + 1];
    size_t size = strlen(id_or_name);
    bytes_to_hex(bytes_view_of(device->id, sizeof(device->id)), hex);
    return strcmp(device->name, id_or_name) == 0 ||
           (size >= ID_PREFIX_MIN_DIGITS && size < sizeof(hex) && memcmp(hex, id_or_name, size) == 0);
}

static enum err
find_device(const struct fc_identity *identity, const char *id_or_name, struct e2e_device *out, struct err_detail *why)
{
    const struct e2e_device *found = NULL;
    for (size_t i = 0; i < identity->own.device_count; i++) {
        const struct e2e_device *device = &identity->own.devices[i];
        if (device->is_revoked || !is_meant(device, id_or_name)) {
            continue;
        }
        if (found != NULL) {
            return err_fail(why, ERR_INVALID, "several devices are called \"%s\": give the beginning of an id",
                id_or_name);
        }
        found = device;
    }
    if (found == NULL) {
        return err_fail(why, ERR_NOT_FOUND, "there is no device \"%s\"", id_or_name);
    }
    if (found->is_recovery) {
        return err_fail(why, ERR_PRECONDITION, "the recovery key is the way back when all machines are lost: it stays");
    }
    *out = *found;
    return ERR_OK;
}

enum err
fc_device_remove(struct fc_identity *identity, const char *id_or_name, char name_out[FC_DEVICE_NAME_BYTES],
    struct err_detail *why)
{
    enum { ATTEMPTS = 5 };
    enum err err = ERR_CONFLICT;
    for (int i = 0; i < ATTEMPTS && err == ERR_CONFLICT; i++) {
        struct e2e_device device = {0};
        Fc__E2e__V1__UserChange change = FC__E2E__V1__USER_CHANGE__INIT;
        Fc__E2e__V1__UserChange *changes[] = {&change};
        err = check_can_sign(identity, why);
        if (err == ERR_OK) {
            err = find_device(identity, id_or_name, &device, why);
        }
        if (err == ERR_OK) {
            memcpy(name_out, device.name, FC_DEVICE_NAME_BYTES);
            change.kind_case = FC__E2E__V1__USER_CHANGE__KIND_REVOKE_DEVICE;
            change.revoke_device = fc_lend(device.id, sizeof(device.id));
            err = fc_identity_append(identity, changes, 1, identity->keys.identity_private, why);
        }
    }
    return err;
}

enum err
fc_device_own_number(struct fc_identity *identity, char out[FC_OWN_NUMBER_BYTES], struct err_detail *why)
{
    char number[E2E_SAFETY_NUMBER_BYTES];
    if (identity->own.seq == 0) {
        return err_fail(why, ERR_PRECONDITION, "%s has no keys yet", identity->user_name);
    }
    // Of the two halves, which are the same, one.
    enum err err = e2e_user_safety_number(&identity->own, &identity->own, number);
    if (err == ERR_OK) {
        memcpy(out, number, FC_OWN_NUMBER_BYTES - 1);
        out[FC_OWN_NUMBER_BYTES - 1] = '\0';
    }
    return err;
}
