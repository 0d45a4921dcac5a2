// Sending a file. The caller's thread reads it once, in order, and keeps the MD5 of the whole; the pool hashes the
// chunks; the connections carry them.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "base/text.h"
#include "client/fc_transfer_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    CHUNK_TIMEOUT_MS = 120 * 1000, // four chunks of 8 MiB pass in it at 0.3 MB/s; after it fewer are sent at once
    CANCEL_TIMEOUT_MS = 5 * 1000,  // somebody waits for the prompt
    CHUNK_MIN_BYTES = 256 * 1024,
    CHUNK_MAX_BYTES = 8 * 1024 * 1024,
};

// The server reads the whole file through before it answers a Commit: assume a slow disk.
#define COMMIT_BYTES_PER_MS UINT64_C(50000)

struct upload {
    struct fc_transfer transfer;
    const char *path;
    const char *name;
    const char *room;
    int fd;
    struct stat before;
    struct digest *whole;
    uint8_t md5[DIGEST_MD5_BYTES];

    // The plan.
    uint8_t request_id[RPC_REQUEST_ID_BYTES];
    uint8_t upload_id[16];
    bool has_plan;
    uint32_t chunk_bytes;
    struct bytes arrived;
};

static bool
has_arrived(const struct upload *upload, uint64_t index)
{
    return index / 8 < upload->arrived.size && (upload->arrived.data[index / 8] >> (index % 8) & 1) != 0;
}

static enum err
open_source(struct upload *upload, struct err_detail *why)
{
    // O_NONBLOCK: opening a pipe that nobody writes to must not hang. It means nothing for a regular file.
    upload->fd = open(upload->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (upload->fd < 0 || fstat(upload->fd, &upload->before) != 0) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot open \"%s\": %s", upload->path,
            strerror(error_number));
    }
    if (!S_ISREG(upload->before.st_mode)) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not a regular file", upload->path);
    }
    return ERR_OK;
}

static enum err
source_changed(const struct upload *upload, struct err_detail *why)
{
    return err_fail(why, ERR_CONFLICT,
        "\"%s\" changed while it was being sent: nothing was stored; send it again when nobody writes to it",
        upload->path);
}

// check_source notices a file that was written to meanwhile, or that the path is another file by now.
static enum err
check_source(const struct upload *upload, struct err_detail *why)
{
    struct stat now;
    struct stat at_path;
    const struct stat *before = &upload->before;

    if (fstat(upload->fd, &now) != 0 || stat(upload->path, &at_path) != 0) {
        return source_changed(upload, why);
    }
    if (now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != before->st_mtim.tv_nsec || at_path.st_ino != before->st_ino ||
        at_path.st_dev != before->st_dev) {
        return source_changed(upload, why);
    }
    return ERR_OK;
}

// take_plan checks what the server answered to Save.
static enum err
take_plan(struct upload *upload, const Fc__Filestore__V1__SaveResponse *plan, struct err_detail *why)
{
    uint64_t size_bytes = (uint64_t)upload->before.st_size;
    uint32_t chunk_bytes = plan->chunk_size_bytes;

    if (plan->upload_id.len != sizeof(upload->upload_id) || chunk_bytes < CHUNK_MIN_BYTES ||
        chunk_bytes > CHUNK_MAX_BYTES || (chunk_bytes & (chunk_bytes - 1)) != 0 ||
        plan->chunk_count != size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0) ||
        (upload->has_plan && (chunk_bytes != upload->chunk_bytes ||
                                 memcmp(upload->upload_id, plan->upload_id.data, sizeof(upload->upload_id)) != 0))) {
        return err_fail(why, ERR_PROTOCOL, "the server's plan for \"%s\" makes no sense", upload->name);
    }
    memcpy(upload->upload_id, plan->upload_id.data, sizeof(upload->upload_id));
    upload->chunk_bytes = chunk_bytes;
    upload->has_plan = true;
    bytes_clear(&upload->arrived);
    return bytes_append(&upload->arrived, bytes_view_of(plan->arrived.data, plan->arrived.len));
}

// save plans the upload, or finds out what has arrived of it.
static enum err
save(struct upload *upload, struct err_detail *why)
{
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    struct rpc_unary call;

    request.name = (char *)(uintptr_t)upload->name; // protobuf-c has no const; it is only read
    request.size_bytes = (uint64_t)upload->before.st_size;
    if (upload->room != NULL) {
        request.room = (char *)(uintptr_t)upload->room;
    }
    fc_transfer_prepare_call(&upload->transfer, &call, RPC_TIMEOUT_DEFAULT_MS);
    memcpy(call.request_id, upload->request_id, sizeof(call.request_id));
    fc_filestore_v1_file_store_save_start(&call, &request);
    enum err err = fc_transfer_wait(&upload->transfer, &call, why);
    if (err == ERR_OK) {
        err = take_plan(upload, fc_filestore_v1_file_store_save_response(&call), why);
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
upload_prepare(struct fc_transfer *transfer, struct fc_slot *slot, bool *is_needed_out, struct err_detail *why)
{
    struct upload *upload = transfer->owner;

    enum err err = file_read_at(upload->fd, slot->data, slot->size, (off_t)(slot->index * transfer->chunk_bytes));
    if (err == ERR_OUT_OF_RANGE) {
        return source_changed(upload, why);
    }
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot read \"%s\": %s", upload->path, err_sentence(err));
    }
    *is_needed_out = !has_arrived(upload, slot->index);
    return digest_update(upload->whole, bytes_view_of(slot->data, slot->size));
}

// on_chunk_answered runs on a thread of the connection.
static void
on_chunk_answered(struct rpc_unary *call)
{
    struct fc_slot *slot = call->context;
    const Fc__Filestore__V1__UploadResponse *response = fc_filestore_v1_file_store_upload_response(call);

    enum err err = fc_transfer_error(call);
    if (err != ERR_OK) {
        slot->is_damaged = strcmp(call->status.reason, "CHUNK_MD5_MISMATCH") == 0;
        err_fail(&slot->why, err, "%s", err_message(&call->status.detail, err));
    } else if (response->md5.len != sizeof(slot->md5) ||
               memcmp(response->md5.data, slot->md5, sizeof(slot->md5)) != 0) {
        slot->is_damaged = true;
        err = err_fail(&slot->why, ERR_CORRUPT, "the server has stored chunk %llu with another MD5",
            (unsigned long long)slot->index);
    }
    rpc_unary_deinit(call);
    fc_slot_end(slot, err);
}

// send_chunk runs on the pool.
static void
send_chunk(struct work *work)
{
    struct fc_slot *slot = (struct fc_slot *)work;
    struct upload *upload = slot->transfer->owner;
    Fc__Filestore__V1__UploadRequest request = FC__FILESTORE__V1__UPLOAD_REQUEST__INIT;

    if (!slot->has_md5) {
        enum err err = digest_of(DIGEST_MD5, bytes_view_of(slot->data, slot->size), slot->md5);
        if (err != ERR_OK) {
            fc_slot_end(slot, err);
            return;
        }
        slot->has_md5 = true;
    }
    request.upload_id.data = upload->upload_id;
    request.upload_id.len = sizeof(upload->upload_id);
    request.index = slot->index;
    request.md5.data = slot->md5;
    request.md5.len = sizeof(slot->md5);
    request.data.data = slot->data;
    request.data.len = slot->size;
    fc_filestore_v1_file_store_init(&slot->call, fc_slot_channel(slot));
    slot->call.timeout_ms = CHUNK_TIMEOUT_MS;
    slot->call.on_done = on_chunk_answered;
    slot->call.context = slot;
    fc_filestore_v1_file_store_upload_start(&slot->call, &request);
}

static void
upload_launch(struct fc_transfer *transfer, struct fc_slot *slot)
{
    (void)transfer;
    slot->work.run = send_chunk;
    fc_slot_submit(slot);
}

static enum err
upload_settle(struct fc_transfer *transfer, struct fc_slot *slot, struct err_detail *why)
{
    (void)transfer;
    (void)why;
    fc_slot_release(slot);
    return ERR_OK;
}

// upload_recover asks for the plan again: chunks whose acknowledgement was lost need not be sent twice.
static enum err
upload_recover(struct fc_transfer *transfer, struct err_detail *why)
{
    struct upload *upload = transfer->owner;

    enum err err = save(upload, why);
    if (err != ERR_OK) {
        return err;
    }
    for (unsigned i = 0; i < transfer->slot_count; i++) {
        struct fc_slot *slot = &transfer->slots[i];
        // No slot is busy here, so only this thread looks at them.
        if (slot->state == FC_SLOT_WAITING && has_arrived(upload, slot->index)) {
            fc_slot_release(slot);
        }
    }
    return ERR_OK;
}

static const struct fc_transfer_ops upload_ops = {
    .prepare = upload_prepare,
    .launch = upload_launch,
    .settle = upload_settle,
    .recover = upload_recover,
};

static enum err
commit_once(struct upload *upload, struct fc_file *out, struct err_detail *why)
{
    Fc__Filestore__V1__CommitRequest request = FC__FILESTORE__V1__COMMIT_REQUEST__INIT;
    const Fc__Filestore__V1__CommitResponse *response;
    struct rpc_unary call;
    uint64_t timeout_ms = RPC_TIMEOUT_DEFAULT_MS + (uint64_t)upload->before.st_size / COMMIT_BYTES_PER_MS;

    request.upload_id.data = upload->upload_id;
    request.upload_id.len = sizeof(upload->upload_id);
    request.md5.data = upload->md5;
    request.md5.len = sizeof(upload->md5);
    fc_transfer_prepare_call(&upload->transfer, &call,
        timeout_ms < RPC_TIMEOUT_MAX_MS ? (uint32_t)timeout_ms : RPC_TIMEOUT_MAX_MS);
    fc_filestore_v1_file_store_commit_start(&call, &request);
    enum err err = fc_transfer_wait(&upload->transfer, &call, why);
    if (err == ERR_OK) {
        response = fc_filestore_v1_file_store_commit_response(&call);
        err = fc_file_from_wire(response->file, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

// commit makes the file visible; asked again after a lost answer, the server says the same.
static enum err
commit(struct upload *upload, struct fc_file *out, struct err_detail *why)
{
    struct fc_file file;

    upload->transfer.failures = 0;
    enum err err = commit_once(upload, &file, why);
    while (fc_transfer_is_passing(err)) {
        enum err pause = fc_transfer_pause(&upload->transfer, err);
        if (pause != ERR_OK) {
            return pause;
        }
        err = commit_once(upload, &file, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (memcmp(file.md5, upload->md5, sizeof(file.md5)) != 0 || file.size_bytes != (uint64_t)upload->before.st_size) {
        return err_fail(why, ERR_CORRUPT, "the server has stored something else than \"%s\": do not rely on it",
            upload->path);
    }
    *out = file;
    return ERR_OK;
}

// cancel drops the upload on the server. If that fails the server forgets it after 7 days.
static void
cancel(struct fc_session *session, struct upload *upload)
{
    Fc__Filestore__V1__CancelRequest request = FC__FILESTORE__V1__CANCEL_REQUEST__INIT;
    struct rpc_unary call;

    request.upload_id.data = upload->upload_id;
    request.upload_id.len = sizeof(upload->upload_id);
    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    call.timeout_ms = CANCEL_TIMEOUT_MS;
    enum err ignored = fc_filestore_v1_file_store_cancel(&call, &request, NULL);
    (void)ignored;
    rpc_unary_deinit(&call);
}

static enum err
upload_all(struct upload *upload, struct fc_file *out, struct err_detail *why)
{
    enum err err = open_source(upload, why);
    if (err == ERR_OK) {
        err = text_check_file_name(upload->name, why);
    }
    if (err == ERR_OK) {
        err = digest_new(DIGEST_MD5, &upload->whole);
    }
    if (err == ERR_OK) {
        err = save(upload, why);
    }
    if (err == ERR_OK) {
        err = fc_transfer_open(&upload->transfer, (uint64_t)upload->before.st_size, upload->chunk_bytes, true, why);
    }
    if (err == ERR_OK) {
        err = fc_transfer_run(&upload->transfer, why);
    }
    if (err == ERR_OK) {
        err = check_source(upload, why);
    }
    if (err == ERR_OK) {
        err = digest_final(upload->whole, upload->md5);
    }
    if (err == ERR_OK) {
        err = commit(upload, out, why);
    }
    if (err == ERR_OK) {
        fc_transfer_report(&upload->transfer, true);
    }
    return err;
}

enum err
fc_file_upload(struct fc_session *session, const char *path, const char *name, const char *room,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct upload upload = {.path = path, .name = name, .room = room, .fd = -1};

    if (name == NULL) {
        const char *slash = strrchr(path, '/');
        upload.name = slash != NULL ? slash + 1 : path;
    }
    random_bytes(upload.request_id, sizeof(upload.request_id));
    fc_transfer_init(&upload.transfer, session, options, &upload_ops, &upload);

    enum err err = upload_all(&upload, out, why);
    if (err == ERR_CANCELLED) {
        err_fail(why, err, "\"%s\" was not sent: cancelled", path);
    }
    fc_transfer_deinit(&upload.transfer);
    if (err != ERR_OK && upload.has_plan) {
        cancel(session, &upload);
    }
    bytes_free(&upload.arrived);
    digest_free(&upload.whole);
    if (upload.fd >= 0) {
        close(upload.fd);
    }
    return err;
}
