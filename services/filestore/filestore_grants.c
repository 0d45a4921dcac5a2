// GetGrant, and the key that signs grants.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "e2e/e2e_grant.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_service_priv.h"

enum err
filestore_grants_open_key(struct filestore_service *filestore, const char *path, struct err_detail *why)
{
    struct bytes key = {0};

    enum err err = file_read(path, CRYPTO_KEY_BYTES, &key);
    if (err == ERR_NOT_FOUND) {
        random_bytes(filestore->grant_key, sizeof(filestore->grant_key));
        err = file_replace(path, bytes_view_of(filestore->grant_key, sizeof(filestore->grant_key)), S_IRUSR | S_IWUSR);
    } else if (err == ERR_TOO_BIG || (err == ERR_OK && key.size != sizeof(filestore->grant_key))) {
        err = err_fail(why, ERR_CORRUPT, "%s is no key of %d bytes: restore it from a backup, or remove it", path,
            CRYPTO_KEY_BYTES);
    } else if (err == ERR_OK) {
        memcpy(filestore->grant_key, key.data, key.size);
    }
    bytes_free_secret(&key);
    if (err == ERR_OK) {
        err = crypto_sign_public(filestore->grant_key, filestore->grant_public_key);
    }
    if (err != ERR_OK && err != ERR_CORRUPT) {
        return err_fail(why, err, "the key for grants in %s cannot be used: %s", path, err_sentence(err));
    }
    filestore->has_grants = err == ERR_OK;
    return err;
}

struct grant_op {
    struct work work; // first: the pool gives its address
    struct filestore_service *filestore;
    struct rpc_call *call;
    Fc__Filestore__V1__GetGrantResponse_Closure reply;
    uint8_t file_id[FILESTORE_ID_BYTES];
    struct filestore_file file;
    uint8_t root[DIGEST_SHA256_BYTES];
    struct err_detail why;
};

// The segments' digests are added in runs, so that memory does not grow with the file.
enum err
filestore_grants_root(struct store_tx *tx, const struct filestore_file *file, const struct rpc_call *call,
    uint8_t root_out[DIGEST_SHA256_BYTES])
{
    struct e2e_tree tree = {0};
    struct bytes md5s = {0};
    struct bytes sha256s = {0};
    uint64_t segment_count = filestore_core_chunk_count(file);
    enum err err = ERR_OK;

    while (err == ERR_OK && tree.count < segment_count) {
        bytes_clear(&md5s);
        bytes_clear(&sha256s);
        err = filestore_core_digests(tx, file->blob_id, tree.count, &md5s, &sha256s);
        if (err == ERR_OK && (sha256s.size == 0 || sha256s.size % DIGEST_SHA256_BYTES != 0)) {
            err = ERR_CORRUPT;
        }
        for (size_t at = 0; err == ERR_OK && at < sha256s.size; at += DIGEST_SHA256_BYTES) {
            err = e2e_tree_add(&tree, sha256s.data + at);
        }
        if (err == ERR_OK && call != NULL && rpc_call_is_cancelled(call)) {
            err = ERR_CANCELLED;
        }
    }
    bytes_free(&md5s);
    bytes_free(&sha256s);
    return err == ERR_OK ? e2e_tree_root(&tree, root_out) : err;
}

static enum err
grant_read(struct store_tx *tx, void *context)
{
    struct grant_op *op = context;

    enum err err = filestore_access_find_id(tx, &op->filestore->rooms, op->file_id,
        rpc_call_identity(op->call)->subject_id, &op->file);
    if (err == ERR_NOT_FOUND) {
        return err_fail(&op->why, err, "there is no such file");
    }
    return err == ERR_OK ? filestore_grants_root(tx, &op->file, op->call, op->root) : err;
}

static enum err
grant_reply(struct grant_op *op)
{
    Fc__Filestore__V1__GetGrantResponse response = FC__FILESTORE__V1__GET_GRANT_RESPONSE__INIT;
    uint8_t signature[CRYPTO_SIGNATURE_BYTES];
    struct bytes encoded = {0};
    struct e2e_grant grant = {
        .expires_at_ms = clock_unix_ms() + E2E_GRANT_LIFETIME_MS,
        .size_bytes = op->file.size_bytes,
        .segment_size_bytes = op->file.chunk_bytes,
    };

    memcpy(grant.file_id, op->file.id, sizeof(grant.file_id));
    memcpy(grant.user_id, rpc_call_identity(op->call)->subject_id, sizeof(grant.user_id));
    memcpy(grant.root, op->root, sizeof(grant.root));
    enum err err = e2e_grant_sign(&grant, op->filestore->grant_key, &encoded, signature);
    if (err == ERR_OK) {
        response.grant = (ProtobufCBinaryData){.data = encoded.data, .len = encoded.size};
        response.signature = (ProtobufCBinaryData){.data = signature, .len = sizeof(signature)};
        response.key = (ProtobufCBinaryData){
            .data = op->filestore->grant_public_key,
            .len = sizeof(op->filestore->grant_public_key),
        };
        op->reply(&response, op->call);
    }
    bytes_free(&encoded);
    return err;
}

static void
grant_run(struct work *work)
{
    struct grant_op *op = (struct grant_op *)work;
    struct filestore_service *filestore = op->filestore;

    enum err err = store_read(filestore->store, grant_read, op);
    if (err == ERR_OK) {
        err = grant_reply(op);
    }
    if (err != ERR_OK) {
        filestore_fail(op->call, err, &op->why, NULL);
    }
    free(op);
    filestore_end(filestore);
}

void
filestore_get_grant(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__GetGrantRequest *request,
    Fc__Filestore__V1__GetGrantResponse_Closure reply, void *closure_data)
{
    struct filestore_service *filestore = (struct filestore_service *)service;
    struct rpc_call *call = closure_data;
    uint8_t file_id[FILESTORE_ID_BYTES];

    if (!filestore->has_grants) {
        rpc_call_fail(call, ERR_UNIMPLEMENTED, "this server gives no grants");
        return;
    }
    if (!filestore_check_id(call, "file_id", &request->file_id, file_id)) {
        return;
    }
    struct grant_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        filestore_fail(call, ERR_NO_MEMORY, NULL, NULL);
        return;
    }
    filestore_begin(filestore);
    op->work.run = grant_run;
    op->filestore = filestore;
    op->call = call;
    op->reply = reply;
    memcpy(op->file_id, file_id, sizeof(file_id));
    work_pool_submit(filestore->plan_pool, &op->work);
}
