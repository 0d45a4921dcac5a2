// Sending a file. The caller's thread reads it in order and computes the MD5 of the whole and of each chunk; when the
// former is known and chunks were left out, since the server has them, the pool hashes the others. The connections
// carry them.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "base/text.h"
#include "client/fc_transfer_priv.h"
#include "client/fc_transfer_source_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    CHUNK_TIMEOUT_MS = 120 * 1000, // four chunks of 8 MiB pass in it at 0.3 MB/s; after it fewer are sent at once
    CANCEL_TIMEOUT_MS = 5 * 1000,  // somebody waits for the prompt
    CHUNK_MIN_BYTES = 256 * 1024,
    CHUNK_MAX_BYTES = 8 * 1024 * 1024,
    MODE_MASK = 07777,
    READ_POLL_MS = 50, // between looks for cancellation while a pipe is empty
    HASH_BUFFER_BYTES = 256 * 1024,
    // Smaller ones are hashed before they are sent, in less than 0.2 s, so that the server can say that it has them.
    HASH_FIRST_MAX_BYTES = 64 * 1024 * 1024,
};

#define FILE_MAX_BYTES (UINT64_C(1) << 50)

// The server may have to read the whole file through before it answers a Commit: assume a slow disk.
#define COMMIT_BYTES_PER_MS UINT64_C(50000)

struct upload {
    struct fc_transfer transfer;
    const struct fc_upload *what;
    const char *name;
    struct fc_source source;
    struct fc_note note;
    uint64_t size_bytes;      // of a stream: what was read
    struct work_pool *hasher; // of one thread, so that it takes chunks in their order
    struct md5_chain whole;   // of the chunks so far; the hasher's
    bool has_digests;         // the next two are known before anything is sent
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];

    // The plan.
    uint8_t request_id[RPC_REQUEST_ID_BYTES];
    uint8_t upload_id[16];
    bool has_plan;
    bool is_complete; // the server has the content
    uint32_t chunk_bytes;
    struct bytes arrived;
};

static bool
has_arrived(const struct upload *upload, uint64_t index)
{
    return index / 8 < upload->arrived.size && (upload->arrived.data[index / 8] >> (index % 8) & 1) != 0;
}

// hash_source computes the digests of a whole file before it is sent.
static enum err
hash_source(struct upload *upload, struct err_detail *why)
{
    uint8_t *buffer = malloc(HASH_BUFFER_BYTES);
    struct digest *md5 = NULL;
    struct digest *sha256 = NULL;

    enum err err = buffer == NULL ? ERR_NO_MEMORY : digest_new(DIGEST_MD5, &md5);
    if (err == ERR_OK) {
        err = digest_new(DIGEST_SHA256, &sha256);
    }
    for (uint64_t at = 0; at < upload->size_bytes && err == ERR_OK; at += HASH_BUFFER_BYTES) {
        uint64_t left = upload->size_bytes - at;
        size_t size = left < HASH_BUFFER_BYTES ? (size_t)left : HASH_BUFFER_BYTES;
        err = file_read_at(upload->source.fd, buffer, size, (off_t)at);
        if (err == ERR_OUT_OF_RANGE) {
            err = fc_source_changed(&upload->source, why);
        }
        if (err == ERR_OK) {
            err = digest_update(md5, bytes_view_of(buffer, size));
        }
        if (err == ERR_OK) {
            err = digest_update(sha256, bytes_view_of(buffer, size));
        }
    }
    if (err == ERR_OK) {
        err = digest_final(md5, upload->md5);
    }
    if (err == ERR_OK) {
        err = digest_final(sha256, upload->sha256);
    }
    upload->has_digests = err == ERR_OK;
    digest_free(&md5);
    digest_free(&sha256);
    free(buffer);
    return err;
}

// take_plan checks what the server answered to Save.
static enum err
take_plan(struct upload *upload, const Fc__Filestore__V1__SaveResponse *plan, struct err_detail *why)
{
    uint64_t size_bytes = upload->size_bytes;
    uint32_t chunk_bytes = plan->chunk_size_bytes;
    bool is_stream = upload->source.is_stream;

    if (plan->upload_id.len != sizeof(upload->upload_id) || chunk_bytes < CHUNK_MIN_BYTES ||
        chunk_bytes > CHUNK_MAX_BYTES || (chunk_bytes & (chunk_bytes - 1)) != 0 ||
        (!is_stream && plan->chunk_count != size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0)) ||
        (upload->has_plan && (chunk_bytes != upload->chunk_bytes ||
                                 memcmp(upload->upload_id, plan->upload_id.data, sizeof(upload->upload_id)) != 0))) {
        return err_fail(why, ERR_PROTOCOL, "the server's plan for \"%s\" makes no sense", upload->name);
    }
    memcpy(upload->upload_id, plan->upload_id.data, sizeof(upload->upload_id));
    upload->chunk_bytes = chunk_bytes;
    upload->has_plan = true;
    upload->is_complete = plan->is_complete && upload->has_digests;
    bytes_clear(&upload->arrived);
    return bytes_append(&upload->arrived, bytes_view_of(plan->arrived.data, plan->arrived.len));
}

static void
fill_save(const struct upload *upload, Fc__Filestore__V1__SaveRequest *request)
{
    const struct fc_upload *what = upload->what;
    const struct fc_source *source = &upload->source;

    request->name = (char *)(uintptr_t)upload->name; // protobuf-c has no const; it is only read
    if (what->room != NULL) {
        request->room = (char *)(uintptr_t)what->room;
    }
    request->is_size_unknown = source->is_stream;
    request->mime_type = (char *)(uintptr_t)fc_source_mime_type(source, upload->name);
    if (!source->is_stream) {
        request->size_bytes = upload->size_bytes;
        request->modified_at_ms = fc_source_modified_ms(&source->before);
        request->mode = source->before.st_mode & MODE_MASK;
    }
    if (upload->has_digests) {
        request->md5.data = (uint8_t *)(uintptr_t)upload->md5;
        request->md5.len = sizeof(upload->md5);
        request->sha256.data = (uint8_t *)(uintptr_t)upload->sha256;
        request->sha256.len = sizeof(upload->sha256);
    }
    request->is_version_checked = what->is_version_checked;
    request->expected_version = what->expected_version;
}

// save plans the upload, or finds out what has arrived of it.
static enum err
save(struct upload *upload, struct err_detail *why)
{
    Fc__Filestore__V1__SaveRequest request = FC__FILESTORE__V1__SAVE_REQUEST__INIT;
    struct rpc_unary call;

    fill_save(upload, &request);
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

// plan makes the first Save. An upload that was noted here and that the server knows otherwise by now, or not any more,
// begins anew.
static enum err
plan(struct upload *upload, struct err_detail *why)
{
    enum err err = save(upload, why);
    if (upload->note.is_continued && (err == ERR_CONFLICT || err == ERR_NOT_FOUND)) {
        random_bytes(upload->note.request_id, sizeof(upload->note.request_id));
        upload->note.is_continued = false;
        memcpy(upload->request_id, upload->note.request_id, sizeof(upload->request_id));
        fc_note_write(&upload->note, upload->transfer.session, &upload->source);
        err = save(upload, why);
    }
    return err;
}

// read_stream reads one chunk, a smaller one only at the end.
static enum err
read_stream(struct upload *upload, struct fc_slot *slot, struct err_detail *why)
{
    uint32_t size = 0;
    bool is_at_end = false;

    while (size < slot->size && !is_at_end) {
        struct pollfd wait = {.fd = upload->source.fd, .events = POLLIN};

        if (fc_transfer_is_cancelled(&upload->transfer)) {
            return ERR_CANCELLED;
        }
        if (poll(&wait, 1, READ_POLL_MS) == 0) {
            continue;
        }
        ssize_t got = read(upload->source.fd, slot->data + size, slot->size - size);
        if (got < 0 && errno != EINTR && errno != EAGAIN) {
            int error_number = errno;
            return err_fail(why, err_from_errno(error_number), "cannot read \"%s\": %s", upload->source.path,
                strerror(error_number));
        }
        is_at_end = got == 0;
        size += got > 0 ? (uint32_t)got : 0;
    }
    slot->size = size;
    upload->size_bytes += size;
    return ERR_OK;
}

static enum err
read_file(struct upload *upload, struct fc_slot *slot, struct err_detail *why)
{
    uint64_t at = slot->index * upload->transfer.chunk_bytes;

    enum err err = file_read_at(upload->source.fd, slot->data, slot->size, (off_t)at);
    if (err == ERR_OUT_OF_RANGE) {
        return fc_source_changed(&upload->source, why);
    }
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot read \"%s\": %s", upload->source.path, err_sentence(err));
    }
    return ERR_OK;
}

static enum err
upload_prepare(struct fc_transfer *transfer, struct fc_slot *slot, bool *is_needed_out, struct err_detail *why)
{
    struct upload *upload = transfer->owner;

    slot->is_there = has_arrived(upload, slot->index);
    *is_needed_out = !slot->is_there || !upload->has_digests;
    if (!*is_needed_out) {
        return ERR_OK;
    }
    return upload->source.is_stream ? read_stream(upload, slot, why) : read_file(upload, slot, why);
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
        slot->is_disk_full = strcmp(call->status.reason, "NO_SPACE") == 0;
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
    if (slot->has_hints) {
        request.md5_hints.data = slot->hints;
        request.md5_hints.len = sizeof(slot->hints);
    }
    request.data.data = slot->data;
    request.data.len = slot->size;
    fc_filestore_v1_file_store_init(&slot->call, fc_slot_channel(slot));
    slot->call.timeout_ms = CHUNK_TIMEOUT_MS;
    slot->call.on_done = on_chunk_answered;
    slot->call.context = slot;
    fc_filestore_v1_file_store_upload_start(&slot->call, &request);
}

// hash_chunk runs on the hasher.
static void
hash_chunk(struct work *work)
{
    struct fc_slot *slot = (struct fc_slot *)work;
    struct upload *upload = slot->transfer->owner;
    enum err err = ERR_OK;

    if (upload->whole.size_bytes == slot->index * upload->chunk_bytes) {
        err = md5_chain_add(&upload->whole, bytes_view_of(slot->data, slot->size), slot->md5, slot->hints);
        slot->has_md5 = err == ERR_OK;
        slot->has_hints = slot->has_md5 && md5_chain_takes_hints(slot->size);
    }
    if (err != ERR_OK || slot->is_there) {
        fc_slot_end(slot, err);
        return;
    }
    slot->work.run = send_chunk;
    fc_slot_submit(slot);
}

static void
upload_launch(struct fc_transfer *transfer, struct fc_slot *slot)
{
    struct upload *upload = transfer->owner;

    if (slot->tries == 1) {
        slot->work.run = hash_chunk;
        work_pool_submit(upload->hasher, &slot->work);
    } else {
        slot->work.run = send_chunk;
        fc_slot_submit(slot);
    }
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
    uint64_t timeout_ms = RPC_TIMEOUT_DEFAULT_MS + upload->size_bytes / COMMIT_BYTES_PER_MS;

    request.upload_id.data = upload->upload_id;
    request.upload_id.len = sizeof(upload->upload_id);
    request.md5.data = upload->md5;
    request.md5.len = sizeof(upload->md5);
    request.size_bytes = upload->size_bytes;
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
        enum err pause = fc_transfer_pause(&upload->transfer, err, why);
        if (pause != ERR_OK) {
            return pause;
        }
        err = commit_once(upload, &file, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (memcmp(file.md5, upload->md5, sizeof(file.md5)) != 0 || file.size_bytes != upload->size_bytes) {
        return err_fail(why, ERR_CORRUPT, "the server has stored something else than \"%s\": do not rely on it",
            upload->source.path);
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

// know_digests takes those of the note, or computes them when that costs little beside sending.
static enum err
know_digests(struct upload *upload, struct err_detail *why)
{
    const struct fc_note *note = &upload->note;

    if (note->is_continued && note->has_digests) {
        memcpy(upload->md5, note->md5, sizeof(upload->md5));
        memcpy(upload->sha256, note->sha256, sizeof(upload->sha256));
        upload->has_digests = true;
    }
    if (upload->has_digests || upload->source.is_stream || upload->size_bytes >= HASH_FIRST_MAX_BYTES) {
        return ERR_OK;
    }
    return hash_source(upload, why);
}

// remember finds or begins the note, when there is something to go on with.
static void
remember(struct upload *upload)
{
    const struct fc_upload *what = upload->what;

    if (what->request_id == NULL && !upload->source.is_stream && upload->size_bytes > CHUNK_MIN_BYTES) {
        fc_note_open(&upload->note, upload->transfer.session, &upload->source, upload->name, what->room);
        memcpy(upload->request_id, upload->note.request_id, sizeof(upload->request_id));
    }
}

static void
keep_note(struct upload *upload)
{
    struct fc_note *note = &upload->note;

    if (!note->is_continued || note->has_digests != upload->has_digests) {
        note->has_digests = upload->has_digests;
        memcpy(note->md5, upload->md5, sizeof(note->md5));
        memcpy(note->sha256, upload->sha256, sizeof(note->sha256));
        fc_note_write(note, upload->transfer.session, &upload->source);
    }
}

// begin does all that comes before the chunks.
static enum err
begin(struct upload *upload, struct err_detail *why)
{
    enum err err = text_check_file_name(upload->name, why);
    if (err == ERR_OK) {
        err = fc_source_open(&upload->source, upload->what, why);
    }
    if (err == ERR_OK) {
        upload->size_bytes = (uint64_t)upload->source.before.st_size;
        remember(upload);
        err = know_digests(upload, why);
    }
    if (err == ERR_OK) {
        keep_note(upload);
        err = plan(upload, why);
    }
    return err;
}

static enum err
send_all(struct upload *upload, struct err_detail *why)
{
    uint64_t size_bytes = upload->source.is_stream ? FILE_MAX_BYTES : upload->size_bytes;

    if (upload->is_complete) {
        upload->transfer.progress.total_bytes = upload->size_bytes;
        upload->transfer.progress.done_bytes = upload->size_bytes;
        return ERR_OK;
    }
    upload->transfer.is_endless = upload->source.is_stream;
    md5_chain_begin(&upload->whole);
    enum err err = fc_transfer_open(&upload->transfer, size_bytes, upload->chunk_bytes, true, why);
    if (err == ERR_OK) {
        err = work_pool_new("fc-hasher", 1, &upload->hasher);
    }
    if (err == ERR_OK) {
        err = fc_transfer_run(&upload->transfer, why);
    }
    if (err == ERR_OK && !upload->has_digests) {
        md5_chain_final(&upload->whole, upload->md5);
    }
    return err;
}

static enum err
upload_all(struct upload *upload, struct fc_file *out, struct err_detail *why)
{
    enum err err = begin(upload, why);
    if (err == ERR_OK) {
        err = send_all(upload, why);
    }
    if (err == ERR_OK) {
        err = fc_source_check(&upload->source, why);
    }
    if (err == ERR_OK) {
        err = commit(upload, out, why);
    }
    if (err == ERR_OK) {
        fc_transfer_report(&upload->transfer, true);
    }
    return err;
}

// is_worth_keeping tells failures after which the same upload can go on.
static bool
is_worth_keeping(const struct upload *upload, enum err err)
{
    bool has_name = upload->note.fd >= 0 || upload->what->request_id != NULL;
    return has_name && (fc_transfer_is_passing(err) || err == ERR_UNAUTHENTICATED);
}

enum err
fc_file_send(struct fc_session *session, const struct fc_upload *what, const struct fc_transfer_options *options,
    struct fc_file *out, struct err_detail *why)
{
    struct upload upload = {.what = what, .name = what->name, .source = {.fd = -1}, .note = {.fd = -1}};

    if (upload.name == NULL) {
        upload.name = text_last_component(what->path);
    }
    if (what->request_id != NULL) {
        memcpy(upload.request_id, what->request_id, sizeof(upload.request_id));
    } else {
        random_bytes(upload.request_id, sizeof(upload.request_id));
    }
    fc_transfer_init(&upload.transfer, session, options, &upload_ops, &upload);

    enum err err = upload_all(&upload, out, why);
    bool is_kept = err != ERR_OK && is_worth_keeping(&upload, err);
    if (err == ERR_CANCELLED) {
        err_fail(why, err, "\"%s\" was not sent: cancelled", upload.source.path);
    }
    work_pool_free(&upload.hasher); // before the pool that it hands chunks to
    fc_transfer_deinit(&upload.transfer);
    if (err != ERR_OK && upload.has_plan && !is_kept) {
        cancel(session, &upload);
    }
    fc_note_end(&upload.note, is_kept);
    bytes_free(&upload.arrived);
    fc_source_close(&upload.source);
    return err;
}

enum err
fc_file_upload(struct fc_session *session, const char *path, const char *name, const char *room,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    const struct fc_upload what = {.path = path, .name = name, .room = room};
    return fc_file_send(session, &what, options, out, why);
}
