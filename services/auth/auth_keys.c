// The Keys service on the wire: fc.auth.v1.Keys. Reads are answered by the worker that got the call, writes by the
// store's writer thread.
#include "services/auth/auth_keys.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "services/auth/auth_keys_core.h"
#include "services/auth/auth_service_priv.h"

enum {
    REQUEST_MAX_BYTES = 64 * 1024, // 1,000 names and more
    DEVICES_PUBLIC_KEY_BYTES = 32,
};

// What a write begins with; its request stays valid until the answer.
struct keys_op {
    struct auth_op op; // first
    struct auth_account caller;
    union {
        const Fc__Auth__V1__AppendUserEntryRequest *append;
        const Fc__Auth__V1__SetRecoveryRequest *set_recovery;
        const Fc__Auth__V1__OfferDeviceRequest *offer;
        const Fc__Auth__V1__PutDeviceSecretsRequest *put_secrets;
    } request;
    union {
        Fc__Auth__V1__AppendUserEntryResponse_Closure append;
        Fc__Auth__V1__SetRecoveryResponse_Closure set_recovery;
        Fc__Auth__V1__OfferDeviceResponse_Closure offer;
        Fc__Auth__V1__PutDeviceSecretsResponse_Closure put_secrets;
    } answer;
    struct auth_keys_appended appended;
    struct err_detail why;
};

static struct keys_op *
keys_op_new(Fc__Auth__V1__Keys_Service *rpc, struct rpc_call *call)
{
    struct keys_op *op = auth_op_new(auth_keys_service(rpc), call, sizeof(*op));
    if (op != NULL) {
        const struct rpc_identity *identity = rpc_call_identity(call);
        memcpy(op->caller.user_id, identity->subject_id, sizeof(op->caller.user_id));
        memcpy(op->caller.user_name, identity->subject_name, sizeof(op->caller.user_name));
        op->caller.user_name[sizeof(op->caller.user_name) - 1] = '\0';
    }
    return op;
}

// Tells the caller what they have done wrong, when `why` says it, else that the server has failed.
static void
keys_op_fail(struct keys_op *op, enum err result, const char *what)
{
    if (op->why.message[0] != '\0') {
        rpc_call_fail_detail(op->op.call, result, &op->why, NULL, 0);
    } else {
        auth_op_fail_internally(op->op.call, result, what);
    }
}

static bool
fail_size(struct rpc_call *call, const char *field, size_t size, const char *rule)
{
    rpc_call_fail(call, ERR_INVALID, "%s has %zu bytes; it must have %s", field, size, rule);
    return false;
}

// --- AppendUserEntry ----------------------------------------------------------------------------------------------

static enum err
append_store(struct store_tx *tx, struct store_job *job)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    const struct auth_service_options *options = &op->op.auth->options;
    const Fc__E2e__V1__Signed *entry = op->request.append->entry;
    op->why = (struct err_detail){0};
    enum err err = auth_keys_core_append(tx, &op->caller, auth_op_view_of(entry->body),
        auth_op_view_of(entry->signature), &op->appended, &op->why);
    if (err == ERR_OK && op->appended.has_ended_device && options->on_device_revoked != NULL) {
        err = options->on_device_revoked(options->context, tx, op->caller.user_id);
    }
    return err;
}

static void
append_stored(struct store_job *job, enum err result)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    if (result == ERR_OK) {
        Fc__Auth__V1__AppendUserEntryResponse response = FC__AUTH__V1__APPEND_USER_ENTRY_RESPONSE__INIT;
        response.head_seq = op->appended.head_seq;
        op->answer.append(&response, op->op.call);
    } else {
        keys_op_fail(op, result, "the entry could not be stored");
    }
    auth_op_free(&op->op, sizeof(*op));
}

static void
handle_append(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__AppendUserEntryRequest *request,
    Fc__Auth__V1__AppendUserEntryResponse_Closure answer, void *closure_data)
{
    const Fc__E2e__V1__Signed *entry = request->entry;
    if (entry == NULL || entry->body.len == 0 || entry->body.len > AUTH_CHAIN_ENTRY_MAX_BYTES) {
        rpc_call_fail(closure_data, ERR_INVALID, "entry.body has %zu bytes; it must have from 1 to %d",
            entry != NULL ? entry->body.len : 0, AUTH_CHAIN_ENTRY_MAX_BYTES);
        return;
    }
    if (entry->signature.len != CRYPTO_SIGNATURE_BYTES || entry->link_signature.len != 0) {
        rpc_call_fail(closure_data, ERR_INVALID, "entry.signature must have %d bytes, and entry.link_signature none",
            CRYPTO_SIGNATURE_BYTES);
        return;
    }
    struct keys_op *op = keys_op_new(rpc, closure_data);
    if (op != NULL) {
        op->request.append = request;
        op->answer.append = answer;
        auth_op_write(&op->op, append_store, append_stored);
    }
}

// --- Recovery -----------------------------------------------------------------------------------------------------

struct recovery_query {
    const uint8_t *user_id;
    struct auth_recovery recovery;
};

static enum err
recovery_read(struct store_tx *tx, void *context)
{
    struct recovery_query *query = context;
    return auth_keys_core_find_recovery(tx, query->user_id, &query->recovery);
}

static void
handle_get_recovery(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__GetRecoveryRequest *request,
    Fc__Auth__V1__GetRecoveryResponse_Closure answer, void *closure_data)
{
    (void)request;
    struct recovery_query query = {.user_id = rpc_call_identity(closure_data)->subject_id};
    enum err err = store_read(auth_keys_service(rpc)->options.store, recovery_read, &query);
    if (err == ERR_NOT_FOUND) {
        rpc_call_fail(closure_data, err, "there is no way back for this account");
        return;
    }
    if (err != ERR_OK) {
        auth_op_fail_internally(closure_data, err, "the way back could not be read");
        return;
    }
    Fc__Auth__V1__Recovery recovery = FC__AUTH__V1__RECOVERY__INIT;
    recovery.sealed_recovery_key = auth_op_binary_of(query.recovery.recovery_key, query.recovery.recovery_key_size);
    recovery.sealed_identity_key = auth_op_binary_of(query.recovery.identity_key, query.recovery.identity_key_size);
    Fc__Auth__V1__GetRecoveryResponse response = FC__AUTH__V1__GET_RECOVERY_RESPONSE__INIT;
    response.recovery = &recovery;
    answer(&response, closure_data);
}

static enum err
set_recovery_store(struct store_tx *tx, struct store_job *job)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    const Fc__Auth__V1__Recovery *wire = op->request.set_recovery->recovery;
    struct auth_recovery recovery = {.recovery_key_size = wire->sealed_recovery_key.len,
        .identity_key_size = wire->sealed_identity_key.len};
    if (recovery.recovery_key_size > 0) {
        memcpy(recovery.recovery_key, wire->sealed_recovery_key.data, recovery.recovery_key_size);
    }
    memcpy(recovery.identity_key, wire->sealed_identity_key.data, recovery.identity_key_size);
    return auth_keys_core_set_recovery(tx, op->caller.user_id, &recovery);
}

static void
set_recovery_stored(struct store_job *job, enum err result)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    if (result == ERR_OK) {
        Fc__Auth__V1__SetRecoveryResponse response = FC__AUTH__V1__SET_RECOVERY_RESPONSE__INIT;
        op->answer.set_recovery(&response, op->op.call);
    } else {
        keys_op_fail(op, result, "the way back could not be stored");
    }
    auth_op_free(&op->op, sizeof(*op));
}

static void
handle_set_recovery(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__SetRecoveryRequest *request,
    Fc__Auth__V1__SetRecoveryResponse_Closure answer, void *closure_data)
{
    const Fc__Auth__V1__Recovery *recovery = request->recovery;
    if (recovery == NULL || recovery->sealed_identity_key.len == 0 ||
        recovery->sealed_identity_key.len > AUTH_SEALED_KEY_MAX_BYTES ||
        recovery->sealed_recovery_key.len > AUTH_SEALED_KEY_MAX_BYTES) {
        rpc_call_fail(closure_data, ERR_INVALID,
            "recovery needs a sealed_identity_key, and neither of its keys may have more than %d bytes",
            AUTH_SEALED_KEY_MAX_BYTES);
        return;
    }
    struct keys_op *op = keys_op_new(rpc, closure_data);
    if (op != NULL) {
        op->request.set_recovery = request;
        op->answer.set_recovery = answer;
        auth_op_write(&op->op, set_recovery_store, set_recovery_stored);
    }
}

// --- Devices that wait --------------------------------------------------------------------------------------------

static bool
check_device(struct rpc_call *call, const Fc__E2e__V1__Device *device)
{
    if (device == NULL || device->device_id.len != AUTH_ID_BYTES || device->sign_key.len != DEVICES_PUBLIC_KEY_BYTES ||
        device->box_key.len != DEVICES_PUBLIC_KEY_BYTES || device->is_recovery) {
        rpc_call_fail(call, ERR_INVALID,
            "device needs a device_id of %d bytes, a sign_key and a box_key of %d bytes each, and no is_recovery",
            AUTH_ID_BYTES, DEVICES_PUBLIC_KEY_BYTES);
        return false;
    }
    size_t size = strlen(device->name);
    if (size > E2E_DEVICE_NAME_MAX_BYTES || !text_is_utf8(bytes_view_of(device->name, size))) {
        return fail_size(call, "device.name", size, "at most 64 bytes of UTF-8");
    }
    return true;
}

static enum err
offer_store(struct store_tx *tx, struct store_job *job)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    const Fc__E2e__V1__Device *wire = op->request.offer->device;
    // Only the fields that were checked, in an encoding of our own.
    Fc__E2e__V1__Device device = FC__E2E__V1__DEVICE__INIT;
    device.device_id = wire->device_id;
    device.sign_key = wire->sign_key;
    device.box_key = wire->box_key;
    device.name = wire->name;
    uint8_t encoded[AUTH_DEVICE_MAX_BYTES];
    if (fc__e2e__v1__device__get_packed_size(&device) > sizeof(encoded)) {
        return ERR_INTERNAL;
    }
    size_t size = fc__e2e__v1__device__pack(&device, encoded);
    return auth_keys_core_add_offer(tx, op->caller.user_id, wire->device_id.data, bytes_view_of(encoded, size),
        clock_unix_ms());
}

static void
offer_stored(struct store_job *job, enum err result)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    if (result == ERR_OK) {
        Fc__Auth__V1__OfferDeviceResponse response = FC__AUTH__V1__OFFER_DEVICE_RESPONSE__INIT;
        op->answer.offer(&response, op->op.call);
    } else {
        keys_op_fail(op, result, "the device could not be stored");
    }
    auth_op_free(&op->op, sizeof(*op));
}

static void
handle_offer(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__OfferDeviceRequest *request,
    Fc__Auth__V1__OfferDeviceResponse_Closure answer, void *closure_data)
{
    if (!check_device(closure_data, request->device)) {
        return;
    }
    struct keys_op *op = keys_op_new(rpc, closure_data);
    if (op != NULL) {
        op->request.offer = request;
        op->answer.offer = answer;
        auth_op_write(&op->op, offer_store, offer_stored);
    }
}

struct offers_query {
    const uint8_t *user_id;
    struct auth_offer offers[AUTH_OFFERS_MAX];
    size_t count;
};

static enum err
offers_read(struct store_tx *tx, void *context)
{
    struct offers_query *query = context;
    return auth_keys_core_list_offers(tx, query->user_id, clock_unix_ms(), query->offers, &query->count);
}

static void
handle_list_offers(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__ListOffersRequest *request,
    Fc__Auth__V1__ListOffersResponse_Closure answer, void *closure_data)
{
    (void)request;
    struct offers_query query = {.user_id = rpc_call_identity(closure_data)->subject_id};
    Fc__E2e__V1__Device *devices[AUTH_OFFERS_MAX] = {0};
    enum err err = store_read(auth_keys_service(rpc)->options.store, offers_read, &query);
    for (size_t i = 0; err == ERR_OK && i < query.count; i++) {
        devices[i] = fc__e2e__v1__device__unpack(NULL, query.offers[i].device_size, query.offers[i].device);
        err = devices[i] != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        Fc__Auth__V1__ListOffersResponse response = FC__AUTH__V1__LIST_OFFERS_RESPONSE__INIT;
        response.devices = devices;
        response.n_devices = query.count;
        answer(&response, closure_data);
    } else {
        auth_op_fail_internally(closure_data, err, "the devices that wait could not be read");
    }
    for (size_t i = 0; i < AUTH_OFFERS_MAX; i++) {
        if (devices[i] != NULL) {
            fc__e2e__v1__device__free_unpacked(devices[i], NULL);
        }
    }
}

// --- What a device leaves for another -----------------------------------------------------------------------------

static enum err
put_secrets_store(struct store_tx *tx, struct store_job *job)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    const Fc__Auth__V1__PutDeviceSecretsRequest *request = op->request.put_secrets;
    op->why = (struct err_detail){0};
    enum err err = auth_keys_core_put_secrets(tx, op->caller.user_id, request->device_id.data,
        auth_op_view_of(request->enc), auth_op_view_of(request->ciphertext));
    if (err == ERR_NOT_FOUND) {
        return err_fail(&op->why, err, "no such device speaks for this account");
    }
    return err;
}

static void
put_secrets_stored(struct store_job *job, enum err result)
{
    struct keys_op *op = (struct keys_op *)auth_op_from_job(job);
    if (result == ERR_OK) {
        Fc__Auth__V1__PutDeviceSecretsResponse response = FC__AUTH__V1__PUT_DEVICE_SECRETS_RESPONSE__INIT;
        op->answer.put_secrets(&response, op->op.call);
    } else {
        keys_op_fail(op, result, "the secrets could not be stored");
    }
    auth_op_free(&op->op, sizeof(*op));
}

static void
handle_put_secrets(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__PutDeviceSecretsRequest *request,
    Fc__Auth__V1__PutDeviceSecretsResponse_Closure answer, void *closure_data)
{
    if (request->device_id.len != AUTH_ID_BYTES) {
        (void)fail_size(closure_data, "device_id", request->device_id.len, "16");
        return;
    }
    if (request->enc.len != E2E_WRAP_ENC_BYTES) {
        (void)fail_size(closure_data, "enc", request->enc.len, "32");
        return;
    }
    if (request->ciphertext.len == 0 || request->ciphertext.len > AUTH_SECRETS_MAX_BYTES) {
        (void)fail_size(closure_data, "ciphertext", request->ciphertext.len, "from 1 to 4,096");
        return;
    }
    struct keys_op *op = keys_op_new(rpc, closure_data);
    if (op != NULL) {
        op->request.put_secrets = request;
        op->answer.put_secrets = answer;
        auth_op_write(&op->op, put_secrets_store, put_secrets_stored);
    }
}

struct secrets_query {
    const uint8_t *user_id;
    const uint8_t *device_id;
    struct auth_device_secrets secrets;
};

static enum err
secrets_read(struct store_tx *tx, void *context)
{
    struct secrets_query *query = context;
    return auth_keys_core_find_secrets(tx, query->user_id, query->device_id, &query->secrets);
}

static void
handle_get_secrets(Fc__Auth__V1__Keys_Service *rpc, const Fc__Auth__V1__GetDeviceSecretsRequest *request,
    Fc__Auth__V1__GetDeviceSecretsResponse_Closure answer, void *closure_data)
{
    if (request->device_id.len != AUTH_ID_BYTES) {
        (void)fail_size(closure_data, "device_id", request->device_id.len, "16");
        return;
    }
    struct secrets_query query = {.user_id = rpc_call_identity(closure_data)->subject_id,
        .device_id = request->device_id.data};
    enum err err = store_read(auth_keys_service(rpc)->options.store, secrets_read, &query);
    if (err == ERR_NOT_FOUND) {
        rpc_call_fail(closure_data, err, "nothing has been left for this device");
        return;
    }
    if (err != ERR_OK) {
        auth_op_fail_internally(closure_data, err, "the secrets could not be read");
        return;
    }
    Fc__Auth__V1__GetDeviceSecretsResponse response = FC__AUTH__V1__GET_DEVICE_SECRETS_RESPONSE__INIT;
    response.enc = auth_op_binary_of(query.secrets.enc, sizeof(query.secrets.enc));
    response.ciphertext = auth_op_binary_of(query.secrets.ciphertext, query.secrets.ciphertext_size);
    answer(&response, closure_data);
}

// --- What the server asks -----------------------------------------------------------------------------

static const struct rpc_method_rule rules[] = {
    {.method = "GetUsers", .access = RPC_ACCESS_TOKEN, .max_request_bytes = REQUEST_MAX_BYTES},
    {.method = "AppendUserEntry", .access = RPC_ACCESS_TOKEN, .max_request_bytes = REQUEST_MAX_BYTES},
    {.method = "GetRecovery", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "SetRecovery", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "OfferDevice", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "ListOffers", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
    {.method = "PutDeviceSecrets", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 8192},
    {.method = "GetDeviceSecrets", .access = RPC_ACCESS_TOKEN, .max_request_bytes = 1024},
};

const struct rpc_method_rule *
auth_keys_rules(size_t *count_out)
{
    *count_out = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

struct auth_service *
auth_keys_service(Fc__Auth__V1__Keys_Service *rpc)
{
    return (struct auth_service *)((char *)rpc - offsetof(struct auth_service, keys_rpc));
}

ProtobufCService *
auth_keys_rpc(struct auth_service *auth)
{
    return &auth->keys_rpc.base;
}

void
auth_keys_init(struct auth_service *auth)
{
    auth->keys_rpc = (Fc__Auth__V1__Keys_Service){
        .base = FC__AUTH__V1__KEYS__BASE_INIT,
        .get_users = auth_keys_handle_get_users,
        .append_user_entry = handle_append,
        .get_recovery = handle_get_recovery,
        .set_recovery = handle_set_recovery,
        .offer_device = handle_offer,
        .list_offers = handle_list_offers,
        .put_device_secrets = handle_put_secrets,
        .get_device_secrets = handle_get_secrets,
    };
}
