// Fetching a file: which one it is, and where it goes. Its segments are fetched by fc_swarm_fetch, which checks them
// against the digests that Stat gave.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "client/fc_part_priv.h"
#include "client/fc_swarm_priv.h"
#include "client/fc_transfer_priv.h"
#include "client/fc_transfer_source_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    ID_HEX_BYTES = 33, // with its NUL
};

struct download {
    struct fc_transfer transfer;
    const char *asked;
    struct fc_file file;

    struct fc_part part;
    struct fc_peer_share *share; // a peer of this account that serves what has arrived; NULL: none runs
    struct bytes sha256s;        // of the segments, as far as they have been asked for
};

static uint64_t
count_segments(const struct fc_file *file)
{
    return file->size_bytes / file->chunk_size_bytes + (file->size_bytes % file->chunk_size_bytes != 0);
}

// take_digests appends one page of digests.
static enum err
take_digests(struct download *download, const Fc__Filestore__V1__StatResponse *stat, struct err_detail *why)
{
    uint64_t left = count_segments(&download->file) - download->sha256s.size / DIGEST_SHA256_BYTES;
    size_t count = stat->segment_sha256s.len / DIGEST_SHA256_BYTES;

    if (stat->segment_sha256s.len % DIGEST_SHA256_BYTES != 0 || count > left || (count == 0 && left != 0)) {
        return err_fail(why, ERR_PROTOCOL, "the server's digests of \"%s\" make no sense", download->file.name);
    }
    return bytes_append(&download->sha256s, bytes_view_of(stat->segment_sha256s.data, stat->segment_sha256s.len));
}

// stat_once asks for the file and a page of digests. The first answer says which file it is; from then on it is asked
// for by its id, so that a newer version of the name does not get mixed in.
static enum err
stat_once(struct download *download, const char *what, bool is_first, struct err_detail *why)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    struct rpc_unary call;

    request.file = (char *)(uintptr_t)what; // protobuf-c has no const; it is only read
    request.first_segment = download->sha256s.size / DIGEST_SHA256_BYTES;
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
            err = take_digests(download, response, why);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

// stat_all asks for the file and the digests of all its segments.
static enum err
stat_all(struct download *download, struct err_detail *why)
{
    char id[ID_HEX_BYTES];

    enum err err = stat_once(download, download->asked, true, why);
    bytes_to_hex(bytes_view_of(download->file.id, sizeof(download->file.id)), id);
    while (err == ERR_OK && download->sha256s.size / DIGEST_SHA256_BYTES < count_segments(&download->file)) {
        err = stat_once(download, id, false, why);
    }
    return err;
}

static void
download_init(struct download *download, struct fc_session *session, const char *file,
    const struct fc_transfer_options *options)
{
    memset(download, 0, sizeof(*download));
    download->asked = file;
    download->part.fd = -1;
    download->part.journal.fd = -1;
    fc_transfer_init(&download->transfer, session, options, NULL, download);
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
    bytes_free(&download->sha256s);
}

// fetch_segments fetches what is not there yet: into the part, or in order to a descriptor.
static enum err
fetch_segments(struct download *download, struct fc_part *part, int fd, struct err_detail *why)
{
    const struct fc_swarm_job job = {
        .session = download->transfer.session,
        .options = download->transfer.options,
        .file = &download->file,
        .sha256s = download->sha256s.data,
        .share = download->share,
        .part = part,
        .fd = fd,
    };

    if (download->file.size_bytes == 0) {
        fc_transfer_report(&download->transfer, true);
        return ERR_OK;
    }
    return fc_swarm_fetch(&job, why);
}

// choose_path is where the file goes when the caller does not say: its last component, in the current folder. The name
// comes from the server, and was perhaps chosen by somebody else in a room; so it must be the one that was asked for,
// unless that was an id, and it must not be hidden: .bashrc is nothing to be written in passing.
static enum err
choose_path(const struct download *download, const char **path_out, struct err_detail *why)
{
    const char *name = text_last_component(download->file.name);
    uint8_t id[sizeof(download->file.id)];

    if (strcmp(text_last_component(download->asked), name) != 0 &&
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

// make_part waits for room on the disk when the caller wants it to.
static enum err
make_part(struct download *download, const struct fc_download *what, const char *path, struct err_detail *why)
{
    bool is_replacing = what->policy == FC_DOWNLOAD_REPLACE || what->policy == FC_DOWNLOAD_NEWER;
    bool is_full;
    enum err err;

    do {
        err = fc_part_create(&download->part, what->has_dir_fd ? what->dir_fd : AT_FDCWD, path, &download->file,
            is_replacing, why);
        is_full = fc_transfer_waits_for_room(&download->transfer, err);
        if (is_full) {
            err = fc_transfer_pause(&download->transfer, err, why);
        }
    } while (is_full && err == ERR_OK);
    return err;
}

static enum err
download_file(struct download *download, const struct fc_download *what, bool *is_skipped_out, struct err_detail *why)
{
    const char *path = what->path;

    enum err err = stat_all(download, why);
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
    err = make_part(download, what, path, why);
    if (err == ERR_OK) {
        download->share = fc_peer_share_open(download->transfer.session, &download->file, download->part.fd);
        err = fetch_segments(download, &download->part, -1, why);
    }
    if (err == ERR_OK) {
        err = finish_part(download, what, why);
    }
    fc_peer_share_close(&download->share, err == ERR_OK);
    return err;
}

enum err
fc_file_fetch(struct fc_session *session, const struct fc_download *what, const struct fc_transfer_options *options,
    struct fc_file *out, bool *is_skipped_out, struct err_detail *why)
{
    struct download download;
    bool is_skipped = false;
    bool is_again = false;
    enum err err;

    do {
        download_init(&download, session, what->file, options);
        err = download_file(&download, what, &is_skipped, why);
        if (err == ERR_OK) {
            *out = download.file;
            *is_skipped_out = is_skipped;
        }
        // Once more fetches what the disk has lost. A disk that does so twice is not to be trusted.
        is_again = err == ERR_IO && download.part.has_lost_data && !is_again;
        download_deinit(&download, is_again || fc_transfer_is_passing(err) || err == ERR_UNAUTHENTICATED);
    } while (is_again);
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
    enum err err = stat_all(&download, why);
    if (err == ERR_OK) {
        err = fetch_segments(&download, NULL, fd, why);
    }
    if (err == ERR_OK) {
        *out = download.file;
    }
    download_deinit(&download, false);
    return explain_cancelled(&download, err, why);
}
