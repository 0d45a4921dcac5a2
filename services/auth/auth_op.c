// What is between a request and its answer: counted, so that the service can wait for it, and bounded where it is slow.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"
#include "services/auth/auth_service_priv.h"

enum {
    // Hashes that may wait: some 13 s of work, which ends within the 30 s that callers wait.
    HASH_QUEUE_MAX = 128,
    HASH_QUEUE_RETRY_MS = 5000,
};

struct bytes_view
auth_op_view_of(ProtobufCBinaryData data)
{
    return bytes_view_of(data.data, data.len);
}

ProtobufCBinaryData
auth_op_binary_of(uint8_t *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = data};
}

void *
auth_op_new(struct auth_service *auth, struct rpc_call *call, size_t size)
{
    struct auth_op *op = calloc(1, size);
    if (op == NULL) {
        rpc_call_fail(call, ERR_NO_MEMORY, "the server is out of memory");
        return NULL;
    }
    op->auth = auth;
    op->call = call;
    pthread_mutex_lock(&auth->mutex);
    auth->locked.operations++;
    pthread_mutex_unlock(&auth->mutex);
    return op;
}

void
auth_op_free(struct auth_op *op, size_t size)
{
    struct auth_service *auth = op->auth;
    digest_wipe(op, size);
    free(op);
    pthread_mutex_lock(&auth->mutex);
    auth->locked.operations--;
    if (auth->locked.operations == 0) {
        pthread_cond_broadcast(&auth->idle);
    }
    pthread_mutex_unlock(&auth->mutex);
}

bool
auth_op_hash(struct auth_op *op, work_fn *run)
{
    struct auth_service *auth = op->auth;
    pthread_mutex_lock(&auth->mutex);
    bool has_room = auth->locked.hashes < HASH_QUEUE_MAX;
    if (has_room) {
        auth->locked.hashes++;
    }
    pthread_mutex_unlock(&auth->mutex);
    if (has_room) {
        op->work.run = run;
        work_pool_submit(auth->hashing, &op->work);
    }
    return has_room;
}

void
auth_op_hash_begun(struct auth_op *op)
{
    pthread_mutex_lock(&op->auth->mutex);
    op->auth->locked.hashes--;
    pthread_mutex_unlock(&op->auth->mutex);
}

void
auth_op_write(struct auth_op *op, enum err (*run)(struct store_tx *, struct store_job *),
    void (*done)(struct store_job *, enum err))
{
    op->job.run = run;
    op->job.done = done;
    store_write(op->auth->options.store, &op->job);
}

void
auth_op_fail_queue_full(struct rpc_call *call)
{
    struct err_detail why = {0};
    enum err err = err_fail(&why, ERR_LIMIT, "too many people are logging in just now: try again in %d s",
        HASH_QUEUE_RETRY_MS / 1000);
    rpc_call_fail_detail(call, err, &why, "TOO_MANY_LOGINS", HASH_QUEUE_RETRY_MS);
}

void
auth_op_fail_internally(struct rpc_call *call, enum err code, const char *what)
{
    log_error("AUTH-STORE", NULL, "%s: %s", what, err_sentence(code));
    rpc_call_fail(call, code, "%s: %s", what,
        code == ERR_NO_SPACE ? "the server's disk is full; try again when its operator has made room"
                             : err_sentence(code));
}

bool
auth_op_check_credentials(struct rpc_call *call, const char *user_name, ProtobufCBinaryData auth_key)
{
    struct err_detail why = {0};
    enum err err = text_check_user_name(user_name, &why);
    if (err == ERR_OK && auth_key.len != AUTH_KEY_BYTES) {
        err = err_fail(&why, ERR_INVALID, "auth_key has %zu bytes; it must have %d", auth_key.len, AUTH_KEY_BYTES);
    }
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
    }
    return err == ERR_OK;
}

bool
auth_op_check_kdf(struct rpc_call *call, const Fc__Auth__V1__KdfParameters *wire, struct auth_kdf *out)
{
    struct err_detail why = {0};
    if (wire == NULL) {
        rpc_call_fail(call, ERR_INVALID, "kdf is missing");
        return false;
    }
    struct auth_kdf kdf = {.salt_size = wire->salt.len, .log2_n = wire->log2_n, .r = wire->r, .p = wire->p};
    enum err err = auth_core_check_kdf(&kdf, &why);
    if (err != ERR_OK) {
        rpc_call_fail_detail(call, err, &why, NULL, 0);
        return false;
    }
    memcpy(kdf.salt, wire->salt.data, wire->salt.len);
    *out = kdf;
    return true;
}

bool
auth_op_is_paused(struct auth_service *auth, struct rpc_call *call, const char *user_name)
{
    struct err_detail why = {0};
    uint32_t pause_ms = auth_attempts_pause_ms(auth->attempts, user_name, clock_monotonic_ms());
    if (pause_ms == 0) {
        return false;
    }
    enum err err = err_fail(&why, ERR_LIMIT, "too many failed logins as \"%s\": try again in %u s", user_name,
        (pause_ms + 999) / 1000);
    rpc_call_fail_detail(call, err, &why, "TOO_MANY_ATTEMPTS", pause_ms);
    return true;
}

struct auth_op *
auth_op_from_job(struct store_job *job)
{
    return (struct auth_op *)((char *)job - offsetof(struct auth_op, job));
}
