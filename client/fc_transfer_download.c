// Fetching a file. The connections bring the segments, the pool checks them against the digests that Stat gave and
// writes them to their place; into a descriptor the caller's thread writes them, in order.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "client/fc_part_priv.h"
#include "client/fc_transfer_priv.h"
#include "client/fc_transfer_source_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    SEGMENT_TIMEOUT_MS = 120 * 1000, // as for an upload's chunk
    ID_HEX_BYTES = 33,               // with its NUL
    WRITE_POLL_MS = 50,              // between looks for cancellation while a pipe is full
};

struct download {
    struct fc_transfer transfer;
    const char *asked;
    struct fc_file file;

    // Where it goes: the .part file, or a descriptor that is written in order.
    struct fc_part part;
    bool is_in_order;
    int fd;
    uint64_t next_written;

    // Digests of segments first_digest .. from a page of Stat.
    uint64_t first_digest;
    uint64_t digest_count;
    struct bytes md5s;
    struct bytes sha256s;
};

// take_digests keeps one page of digests.
static enum err
take_digests(struct download *download, uint64_t first, const Fc__Filestore__V1__StatResponse *stat,
    struct err_detail *why)
{
    const struct fc_file *file = &download->file;
    uint64_t total = file->size_bytes / file->chunk_size_bytes + (file->size_bytes % file->chunk_size_bytes != 0);
    size_t count = stat->segment_md5s.len / DIGEST_MD5_BYTES;

    if (stat->segment_md5s.len % DIGEST_MD5_BYTES != 0 || stat->segment_sha256s.len != count * DIGEST_SHA256_BYTES ||
        count > total - first || (count == 0 && first < total)) {
        return err_fail(why, ERR_PROTOCOL, "the server's digests of \"%s\" make no sense", file->name);
    }
    bytes_clear(&download->md5s);
    bytes_clear(&download->sha256s);
    enum err err = bytes_append(&download->md5s, bytes_view_of(stat->segment_md5s.data, stat->segment_md5s.len));
    if (err == ERR_OK) {
        err = bytes_append(&download->sha256s, bytes_view_of(stat->segment_sha256s.data, stat->segment_sha256s.len));
    }
    download->first_digest = first;
    download->digest_count = count;
    return err;
}

// stat_once asks for the file and a page of digests. The first answer says which file it is; from then on it is asked
// for by its id, so that a newer version of the name does not get mixed in.
static enum err
stat_once(struct download *download, const char *what, uint64_t first, bool is_first, struct err_detail *why)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    struct rpc_unary call;

    request.file = (char *)(uintptr_t)what; // protobuf-c has no const; it is only read
    request.first_segment = first;
    fc_transfer_prepare_call(&download->transfer, &call, RPC_TIMEOUT_DEFAULT_MS);
    fc_filestore_v1_file_store_stat_start(&call, &request);
    enum err err = fc_transfer_wait(&download->transfer, &call, why);
    if (err == ERR_OK) {
        const Fc__Filestore__V1__StatResponse *response = fc_filestore_v1_file_store_stat_response(&call);
        struct fc_file file;
        err = fc_file_from_wire(response->file, &file, why);
        if (err == ERR_OK && is_first) {
            download->file = file;
        } else if (err == ERR_OK && memcmp(&file.id, &download->file.id, sizeof(file.id)) != 0) {
            err = err_fail(why, ERR_PROTOCOL, "the server speaks of another file than \"%s\"", download->file.name);
        }
        if (err == ERR_OK) {
            err = take_digests(download, first, response, why);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

static enum err
stat_again(struct download *download, uint64_t first, struct err_detail *why)
{
    char id[ID_HEX_BYTES];

    bytes_to_hex(bytes_view_of(download->file.id, sizeof(download->file.id)), id);
    return stat_once(download, id, first, false, why);
}

static enum err
download_prepare(struct fc_transfer *transfer, struct fc_slot *slot, bool *is_needed_out, struct err_detail *why)
{
    struct download *download = transfer->owner;

    *is_needed_out = true;
    while (slot->index >= download->first_digest + download->digest_count) {
        enum err err = stat_again(download, slot->index, why);
        if (fc_transfer_is_passing(err)) {
            err = fc_transfer_pause(transfer, err);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    size_t at = (size_t)(slot->index - download->first_digest);
    memcpy(slot->md5, download->md5s.data + at * DIGEST_MD5_BYTES, DIGEST_MD5_BYTES);
    memcpy(slot->sha256, download->sha256s.data + at * DIGEST_SHA256_BYTES, DIGEST_SHA256_BYTES);
    *is_needed_out = download->is_in_order || !fc_part_has(&download->part, slot->index, slot->sha256);
    return ERR_OK;
}

// check_segment compares what came with what Stat said, not with the digests that came along.
static enum err
check_segment(struct fc_slot *slot, struct bytes_view data)
{
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
    const struct download *download = slot->transfer->owner;

    enum err err = data.size == slot->size ? ERR_OK : ERR_CORRUPT;
    if (err == ERR_OK) {
        err = digest_of(DIGEST_MD5, data, md5);
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, data, sha256);
    }
    if (err == ERR_OK &&
        (memcmp(md5, slot->md5, sizeof(md5)) != 0 || memcmp(sha256, slot->sha256, sizeof(sha256)) != 0)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_CORRUPT) {
        slot->is_damaged = true;
        return err_fail(&slot->why, err, "segment %llu of \"%s\" arrived damaged, %u times: try again later",
            (unsigned long long)slot->index, download->file.name, slot->tries);
    }
    return err;
}

// take_segment runs on the pool.
static void
take_segment(struct work *work)
{
    struct fc_slot *slot = (struct fc_slot *)work;
    struct download *download = slot->transfer->owner;
    const Fc__Filestore__V1__DownloadResponse *response = fc_filestore_v1_file_store_download_response(&slot->call);
    struct bytes_view data = bytes_view_of(response->data.data, response->data.len);

    enum err err = check_segment(slot, data);
    if (err == ERR_OK && !download->is_in_order) {
        err = file_write_at(download->part.fd, data, (off_t)(slot->index * download->file.chunk_size_bytes));
        if (err == ERR_NO_SPACE) {
            err_fail(&slot->why, err, "the disk is full: \"%s\" (%llu bytes) does not fit; make room and try again",
                download->part.path, (unsigned long long)download->file.size_bytes);
        } else if (err != ERR_OK) {
            err_fail(&slot->why, err, "cannot write \"%s\": %s", download->part.part_path, err_sentence(err));
        }
    }
    if (err != ERR_OK || !download->is_in_order) {
        rpc_unary_deinit(&slot->call);
        slot->has_response = false;
    }
    fc_slot_end(slot, err);
}

// on_segment runs on a thread of the connection.
static void
on_segment(struct rpc_unary *call)
{
    struct fc_slot *slot = call->context;

    enum err err = fc_transfer_error(call);
    if (err != ERR_OK) {
        err_fail(&slot->why, err, "%s", err_message(&call->status.detail, err));
        rpc_unary_deinit(call);
        fc_slot_end(slot, err);
        return;
    }
    slot->has_response = true;
    slot->work.run = take_segment;
    fc_slot_submit(slot);
}

static void
download_launch(struct fc_transfer *transfer, struct fc_slot *slot)
{
    struct download *download = transfer->owner;
    Fc__Filestore__V1__DownloadRequest request = FC__FILESTORE__V1__DOWNLOAD_REQUEST__INIT;

    request.file_id.data = download->file.id;
    request.file_id.len = sizeof(download->file.id);
    request.index = slot->index;
    fc_filestore_v1_file_store_init(&slot->call, fc_slot_channel(slot));
    slot->call.timeout_ms = SEGMENT_TIMEOUT_MS;
    slot->call.on_done = on_segment;
    slot->call.context = slot;
    fc_filestore_v1_file_store_download_start(&slot->call, &request);
}

// write_all writes to a descriptor, which may be a pipe whose reader is slow.
static enum err
write_all(struct download *download, struct bytes_view data, struct err_detail *why)
{
    struct stat output;
    // A pipe that is ready takes PIPE_BUF bytes without blocking, so that a reader who has stopped reading does not
    // keep us from noticing that we are cancelled.
    size_t at_most = fstat(download->fd, &output) == 0 && S_ISREG(output.st_mode) ? data.size : PIPE_BUF;

    while (data.size != 0) {
        struct pollfd wait = {.fd = download->fd, .events = POLLOUT};

        if (fc_transfer_is_cancelled(&download->transfer)) {
            return ERR_CANCELLED;
        }
        if (poll(&wait, 1, WRITE_POLL_MS) == 0) {
            continue;
        }
        ssize_t written = write(download->fd, data.data, data.size < at_most ? data.size : at_most);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            int error_number = errno;
            return err_fail(why, err_from_errno(error_number), "cannot write \"%s\" to the output: %s",
                download->file.name, strerror(error_number));
        }
        if (written > 0) {
            data = bytes_view_of(data.data + written, data.size - (size_t)written);
        }
    }
    return ERR_OK;
}

// slot_of_turn is the ended slot whose segment is to be written next, or NULL.
static struct fc_slot *
slot_of_turn(struct download *download)
{
    for (unsigned i = 0; i < download->transfer.slot_count; i++) {
        struct fc_slot *slot = &download->transfer.slots[i];
        if (slot->is_kept && slot->index == download->next_written) {
            return slot;
        }
    }
    return NULL;
}

static enum err
download_settle(struct fc_transfer *transfer, struct fc_slot *slot, struct err_detail *why)
{
    struct download *download = transfer->owner;

    if (!download->is_in_order) {
        enum err err = fc_part_note(&download->part, slot->index, slot->sha256, slot->size, why);
        fc_slot_release(slot);
        return err;
    }
    fc_slot_keep(slot);
    while ((slot = slot_of_turn(download)) != NULL) {
        const Fc__Filestore__V1__DownloadResponse *response = fc_filestore_v1_file_store_download_response(&slot->call);
        enum err err = write_all(download, bytes_view_of(response->data.data, response->data.len), why);
        if (err != ERR_OK) {
            return err;
        }
        download->next_written++;
        fc_slot_release(slot);
        fc_transfer_report(transfer, false);
    }
    return ERR_OK;
}

// download_recover asks whether the server is there, and still has the file.
static enum err
download_recover(struct fc_transfer *transfer, struct err_detail *why)
{
    struct download *download = transfer->owner;
    return stat_again(download, download->first_digest, why);
}

static const struct fc_transfer_ops download_ops = {
    .prepare = download_prepare,
    .launch = download_launch,
    .settle = download_settle,
    .recover = download_recover,
};

static void
download_init(struct download *download, struct fc_session *session, const char *file,
    const struct fc_transfer_options *options)
{
    memset(download, 0, sizeof(*download));
    download->asked = file;
    download->fd = -1;
    download->part.fd = -1;
    download->part.journal.fd = -1;
    fc_transfer_init(&download->transfer, session, options, &download_ops, download);
}

static void
download_deinit(struct download *download, bool is_kept)
{
    fc_transfer_deinit(&download->transfer);
    if (is_kept) {
        fc_part_leave(&download->part);
    } else {
        fc_part_abort(&download->part);
    }
    bytes_free(&download->md5s);
    bytes_free(&download->sha256s);
}

static enum err
download_segments(struct download *download, struct err_detail *why)
{
    enum err err =
        fc_transfer_open(&download->transfer, download->file.size_bytes, download->file.chunk_size_bytes, false, why);
    return err == ERR_OK ? fc_transfer_run(&download->transfer, why) : err;
}

static const char *
last_component(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash != NULL ? slash + 1 : name;
}

// choose_path is where the file goes when the caller does not say: its last component, in the current folder. The name
// comes from the server, and was perhaps chosen by somebody else in a room; so it must be the one that was asked for,
// unless that was an id, and it must not be hidden: .bashrc is nothing to be written in passing.
static enum err
choose_path(const struct download *download, const char **path_out, struct err_detail *why)
{
    const char *name = last_component(download->file.name);
    uint8_t id[sizeof(download->file.id)];

    if (strcmp(last_component(download->asked), name) != 0 &&
        bytes_from_hex(download->asked, id, sizeof(id)) != ERR_OK) {
        return err_fail(why, ERR_PROTOCOL, "the server answered with another file than \"%s\"", download->asked);
    }
    if (name[0] == '.') {
        return err_fail(why, ERR_INVALID, "\"%s\" would be a hidden file: say where to put it", name);
    }
    *path_out = name;
    return ERR_OK;
}

static enum err
explain_cancelled(const struct download *download, enum err err, struct err_detail *why)
{
    return err == ERR_CANCELLED ? err_fail(why, err, "\"%s\" was not fetched: cancelled", download->asked) : err;
}

// is_wanted decides by the policy what becomes of a file that is there already.
static bool
is_wanted(const struct download *download, const struct fc_download *what, const char *path)
{
    struct stat there;
    int dir_fd = what->has_dir_fd ? what->dir_fd : AT_FDCWD;

    if (what->policy != FC_DOWNLOAD_SKIP && what->policy != FC_DOWNLOAD_NEWER) {
        return true;
    }
    if (fstatat(dir_fd, path, &there, AT_SYMLINK_NOFOLLOW) != 0) {
        return true;
    }
    return what->policy == FC_DOWNLOAD_NEWER && download->file.modified_unix_ms > fc_source_modified_ms(&there);
}

static enum err
finish_part(struct download *download, const struct fc_download *what, struct err_detail *why)
{
    if (!what->is_without_times) {
        fc_part_stamp(&download->part, &download->file);
    }
    enum err err = what->may_finish != NULL ? what->may_finish(what->context, why) : ERR_OK;
    return err == ERR_OK ? fc_part_finish(&download->part, why) : err;
}

static enum err
download_file(struct download *download, const struct fc_download *what, bool *is_skipped_out, struct err_detail *why)
{
    const char *path = what->path;
    bool is_replacing = what->policy == FC_DOWNLOAD_REPLACE || what->policy == FC_DOWNLOAD_NEWER;

    enum err err = stat_once(download, what->file, 0, true, why);
    if (err == ERR_OK && path == NULL) {
        err = choose_path(download, &path, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    *is_skipped_out = !is_wanted(download, what, path);
    if (*is_skipped_out) {
        return ERR_OK;
    }
    err = fc_part_create(&download->part, what->has_dir_fd ? what->dir_fd : AT_FDCWD, path, &download->file,
        is_replacing, why);
    if (err == ERR_OK) {
        err = download_segments(download, why);
    }
    return err == ERR_OK ? finish_part(download, what, why) : err;
}

enum err
fc_file_fetch(struct fc_session *session, const struct fc_download *what, const struct fc_transfer_options *options,
    struct fc_file *out, bool *is_skipped_out, struct err_detail *why)
{
    struct download download;
    bool is_skipped = false;

    download_init(&download, session, what->file, options);
    enum err err = download_file(&download, what, &is_skipped, why);
    if (err == ERR_OK) {
        fc_transfer_report(&download.transfer, true);
        *out = download.file;
        *is_skipped_out = is_skipped;
    }
    download_deinit(&download, fc_transfer_is_passing(err) || err == ERR_UNAUTHENTICATED);
    return explain_cancelled(&download, err, why);
}

enum err
fc_file_download(struct fc_session *session, const char *file, const char *path, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    const struct fc_download what = {
        .file = file,
        .path = path,
        .policy = is_replacing ? FC_DOWNLOAD_REPLACE : FC_DOWNLOAD_FAIL,
    };
    bool is_skipped = false;
    return fc_file_fetch(session, &what, options, out, &is_skipped, why);
}

enum err
fc_file_download_to(struct fc_session *session, const char *file, int fd, const struct fc_transfer_options *options,
    struct fc_file *out, struct err_detail *why)
{
    struct download download;

    download_init(&download, session, file, options);
    download.is_in_order = true;
    download.fd = fd;
    enum err err = stat_once(&download, file, 0, true, why);
    if (err == ERR_OK) {
        err = download_segments(&download, why);
    }
    if (err == ERR_OK) {
        fc_transfer_report(&download.transfer, true);
        *out = download.file;
    }
    download_deinit(&download, false);
    return explain_cancelled(&download, err, why);
}
