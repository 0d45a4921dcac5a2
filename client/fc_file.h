// Files on the server: what is there, and moving them. Blocking functions; any thread may call them.
#ifndef CLIENT_FC_FILE_H
#define CLIENT_FC_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_session.h"
#include "client/fc_swarm.h"

struct fc_file {
    uint8_t id[16];
    char name[1025];
    uint64_t size_bytes;
    uint8_t md5[16];
    uint8_t sha256[32];
    uint32_t chunk_size_bytes;
    int64_t created_unix_ms;
    char owner[33];
    char room[65];            // empty: not shared with a room
    char mime_type[128];      // empty: unknown
    int64_t modified_unix_ms; // 0: unknown
    uint32_t mode;            // permission bits; 0: unknown
    uint64_t version;         // of two versions of a name the newer has the larger
    int64_t deleted_unix_ms;  // 0: it is there
    int64_t expires_unix_ms;  // 0: it stays
};

// fc_file_stat finds a file by name, "@OWNER/NAME", "ROOM/NAME", or id in hexadecimal. ERR_NOT_FOUND.
enum err fc_file_stat(struct fc_session *session, const char *file, struct fc_file *out,
    struct err_detail *why) ERR_CHECKED;

// fc_file_each calls fn for the files whose names begin with prefix ("" for all), by name.
enum err fc_file_each(struct fc_session *session, const char *prefix,
    bool (*fn)(void *context, const struct fc_file *file), void *context, struct err_detail *why) ERR_CHECKED;

// fc_file_query says which files are meant. All zero: the newest versions of all that the caller can see.
struct fc_file_query {
    const char *prefix; // of the names; NULL: any
    const char *room;   // only those shared with it; NULL: any
    bool is_mine_only;
    bool has_all_versions;
    bool is_deleted; // those that can be restored, instead
};

enum err fc_file_query_each(struct fc_session *session, const struct fc_file_query *query,
    bool (*fn)(void *context, const struct fc_file *file), void *context, struct err_detail *why) ERR_CHECKED;

// fc_file_rename gives a name and all its versions another one. ERR_EXISTS. Here and below: ERR_NOT_FOUND, and
// ERR_DENIED for files of others.
enum err fc_file_rename(struct fc_session *session, const char *file, const char *new_name, struct fc_file *out,
    struct err_detail *why) ERR_CHECKED;

// fc_file_remove deletes a name, or one version of it (0: all). fc_file_restore brings a name or id back.
enum err fc_file_remove(struct fc_session *session, const char *file, uint64_t version,
    struct err_detail *why) ERR_CHECKED;
enum err fc_file_restore(struct fc_session *session, const char *file, struct fc_file *out,
    struct err_detail *why) ERR_CHECKED;

// fc_file_share lets a room or a user (one of them NULL) read a name, or ends that.
enum err fc_file_share(struct fc_session *session, const char *file, const char *room, const char *user_name,
    bool is_unshare, struct err_detail *why) ERR_CHECKED;

struct fc_usage {
    uint64_t used_bytes;
    uint64_t file_count;
    uint64_t quota_bytes; // 0: no limit
};

// fc_file_usage tells what the caller stores, or a room (NULL: the caller).
enum err fc_file_usage(struct fc_session *session, const char *room, struct fc_usage *out,
    struct err_detail *why) ERR_CHECKED;

// What a transfer tells about itself, at most some 20 times a second and at the end; on threads of the transfer, one at
// a time.
struct fc_progress {
    uint64_t done_bytes; // acknowledged by the server, or verified and written
    uint64_t total_bytes;
    uint64_t chunks_done;
    uint64_t chunks_total;
    uint64_t chunks_resent;
    bool is_waiting;     // no server can be reached, or a disk is full: `message` says so, and what is missing
    const char *message; // NULL: nothing to say; valid until the call returns

    // Of a download only. `sources` is borrowed and valid until the call returns.
    const struct fc_source_progress *sources;
    unsigned source_count;
    uint64_t bytes_per_s;  // the sum of theirs
    uint64_t wasted_bytes; // that came and were not wanted, or were bad
    uint64_t duplicates;   // segments that were asked of a second source, at the end
    uint64_t stolen;       // segments that were taken from a slow source before it sent them
};
typedef void fc_progress_fn(void *context, const struct fc_progress *progress);

// fc_rate limits how fast transfers go, all together that are given it one after the other. Zero it, and set
// bytes_per_s.
struct fc_rate {
    uint64_t bytes_per_s; // 0: no limit
    uint64_t next_us;     // when the next chunk may begin
};

enum {
    FC_PATIENCE_ENDLESS = 1 << 30,
};

// What both directions share; all zero is fine.
struct fc_transfer_options {
    // 0: 8 MiB of them at first, but 4 at least and 64 at most; more as long as that makes it faster, and fewer after
    // timeouts.
    unsigned chunks_in_flight;
    struct fc_rate *rate; // NULL: as fast as it goes; one transfer at a time
    unsigned connections; // 0: 2; to each server, of their own beside the session's
    // How long to go on while no server can be reached; 0: 30, FC_PATIENCE_ENDLESS: for ever. Unless it is 0 a transfer
    // also waits for room on a full disk.
    uint32_t patience_s;

    // Of a download only.
    const char *const *from; // URLs of the servers to fetch from, and from no others; with '#' and the fingerprint of
                             // the certificate after those with TLS that are not known yet. NULL: the session's
                             // server and all that its tracker knows
    size_t from_count;
    enum fc_balance balance;
    fc_progress_fn *on_progress;
    void *context;
    // Asked between chunks, from any thread of the transfer; true ends it with ERR_CANCELLED and leaves nothing behind.
    bool (*is_cancelled)(void *context);
};

// fc_upload is what is to be sent. All zero but path is fine.
struct fc_upload {
    const char *path; // for messages only when there is a descriptor
    bool has_fd;      // read this instead of opening path. Anything but a regular file is read to its end.
    int fd;
    const char *name;          // NULL: the last component of path
    const char *room;          // to share it with; NULL: none
    const uint8_t *request_id; // 16 bytes: go on with this upload, wherever it was begun; NULL: begin, or find it
    bool is_version_checked;   // only if the newest version of the name is expected_version (0: there is none)
    uint64_t expected_version;
};

// fc_file_send sends it as fc_file_upload does. A regular file of several chunks is noted in the data folder, so that
// after an end without warning or a lost connection the same call goes on with what has not arrived. What the server
// has already under other names is not sent. ERR_CONFLICT: also when the version is another one.
enum err fc_file_send(struct fc_session *session, const struct fc_upload *what,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_put collects small files and stores many with each call, several calls at a time. One thread uses it. The results
// are told on that thread, during any of the functions.
struct fc_put;

enum {
    FC_PUT_FILE_MAX_BYTES = 128 * 1024, // larger ones go by fc_file_send
};

// What became of one file: file is what the server has of it, or NULL and why.
typedef void fc_put_result_fn(void *context, const char *name, const struct fc_file *file, enum err err,
    const char *message);

enum err fc_put_new(struct fc_session *session, const char *room, fc_put_result_fn *on_result, void *context,
    struct fc_put **out, struct err_detail *why) ERR_CHECKED;
// fc_put_add reads a regular file of at most FC_PUT_FILE_MAX_BYTES from what->fd, and sends when enough has come
// together. ERR_CONFLICT: it changed meanwhile. Other errors: a call has failed, and the files in it were told.
enum err fc_put_add(struct fc_put *put, const struct fc_upload *what, struct err_detail *why) ERR_CHECKED;
// fc_put_finish sends the rest and waits for all.
enum err fc_put_finish(struct fc_put *put, struct err_detail *why) ERR_CHECKED;
void fc_put_free(struct fc_put **put);

// fc_unfinished is an upload that has not ended. Borrowed.
struct fc_unfinished {
    uint8_t request_id[16];
    const char *path; // absolute; NULL: it may have been begun on another machine
    const char *name;
    const char *room; // empty: none
    uint64_t size_bytes;
    uint64_t arrived_bytes; // as the server says
};

// fc_file_each_unfinished calls fn for those of this account that were begun on this machine, fc_file_each_upload for
// those that the server knows.
enum err fc_file_each_upload(struct fc_session *session,
    bool (*fn)(void *context, const struct fc_unfinished *unfinished), void *context,
    struct err_detail *why) ERR_CHECKED;
enum err fc_file_each_unfinished(struct fc_session *session,
    bool (*fn)(void *context, const struct fc_unfinished *unfinished), void *context,
    struct err_detail *why) ERR_CHECKED;

// fc_file_upload sends a local regular file as `name` (NULL: the last component of path), shared with `room` unless
// NULL. The file is read once: each chunk is hashed and sent, and the whole-file MD5 that the server computed from what
// it stored is compared with the one computed here. ERR_CORRUPT: they differ; ERR_CONFLICT: the file changed meanwhile;
// ERR_INVALID: the name; ERR_NO_SPACE or ERR_LIMIT on the server. On failure the upload is cancelled on the server, if
// it can be reached; but a failure that passes leaves what has arrived, for another try.
enum err fc_file_upload(struct fc_session *session, const char *path, const char *name, const char *room,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// What is to become of a file that is there already.
enum fc_download_policy {
    FC_DOWNLOAD_FAIL, // ERR_EXISTS
    FC_DOWNLOAD_REPLACE,
    FC_DOWNLOAD_SKIP,
    FC_DOWNLOAD_NEWER, // replace it if the one on the server was modified later, and skip it otherwise
};

// fc_download is what is to be fetched, and where to. All zero but file is fine.
struct fc_download {
    const char *file;
    const char *path; // NULL: the last component of the file's name
    bool has_dir_fd;  // path is relative to dir_fd
    int dir_fd;
    enum fc_download_policy policy;
    bool is_without_times; // leave time and permissions to the system
    // Asked when all has arrived and before the file gets its name; an error ends the download. NULL: yes.
    enum err (*may_finish)(void *context, struct err_detail *why);
    void *context;
};

// fc_file_fetch fetches it as fc_file_download does. What has arrived is noted in `path`.part.journal, so that after an
// end without warning or a lost connection the same call goes on with the segments that are missing.
enum err fc_file_fetch(struct fc_session *session, const struct fc_download *what,
    const struct fc_transfer_options *options, struct fc_file *out, bool *is_skipped_out,
    struct err_detail *why) ERR_CHECKED;

// fc_file_download fetches a file, from many servers at once when there are (docs/swarm.md), checks every segment's
// SHA-256, and writes it in place under `path`.part,
// which is synced and renamed to `path` when it is whole: no other name ever holds half a file. The room on the disk is
// taken before anything is fetched (ERR_NO_SPACE). path NULL: the last component of the file's name, in the current
// folder; ERR_INVALID if that is hidden, as .bashrc. ERR_EXISTS: there is a file already and is_replacing is not set.
// ERR_BUSY: another download writes this .part; ERR_CONFLICT: it is not what a killed download leaves. On failure the
// .part file is removed, unless the failure passes: then another try goes on with it. Time and permissions are those of
// the file that was uploaded.
enum err fc_file_download(struct fc_session *session, const char *file, const char *path, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_file_download_to writes the file to a descriptor in order, as "-" wants it: at most chunks_in_flight segments are
// held in memory.
enum err fc_file_download_to(struct fc_session *session, const char *file, int fd,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

#endif
