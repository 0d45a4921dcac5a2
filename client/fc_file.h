// Files on the server: what is there, and moving them. Blocking functions; any thread may call them.
#ifndef CLIENT_FC_FILE_H
#define CLIENT_FC_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_session.h"

struct fc_file {
    uint8_t id[16];
    char name[1025];
    uint64_t size_bytes;
    uint8_t md5[16];
    uint8_t sha256[32];
    uint32_t chunk_size_bytes;
    int64_t created_unix_ms;
    char owner[33];
    char room[65]; // empty: not shared with a room
};

// fc_file_stat finds a file by name, "ROOM/NAME", or id in hexadecimal. ERR_NOT_FOUND.
enum err fc_file_stat(struct fc_session *session, const char *file, struct fc_file *out,
    struct err_detail *why) ERR_CHECKED;

// fc_file_each calls fn for the files whose names begin with prefix ("" for all), by name.
enum err fc_file_each(struct fc_session *session, const char *prefix,
    bool (*fn)(void *context, const struct fc_file *file), void *context, struct err_detail *why) ERR_CHECKED;

// What a transfer tells about itself, at most some 20 times a second and at the end; on threads of the transfer, one at
// a time.
struct fc_progress {
    uint64_t done_bytes; // acknowledged by the server, or verified and written
    uint64_t total_bytes;
    uint64_t chunks_done;
    uint64_t chunks_total;
    uint64_t chunks_resent;
};
typedef void fc_progress_fn(void *context, const struct fc_progress *progress);

// What both directions share; all zero is fine.
struct fc_transfer_options {
    unsigned chunks_in_flight; // 0: 16 MiB of them, but 4 at least and 64 at most
    unsigned connections;      // 0: 2; of their own, beside the session's
    fc_progress_fn *on_progress;
    void *context;
    // Asked between chunks, from any thread of the transfer; true ends it with ERR_CANCELLED and leaves nothing behind.
    bool (*is_cancelled)(void *context);
};

// fc_file_upload sends a local regular file as `name` (NULL: the last component of path), shared with `room` unless
// NULL. The file is read once: each chunk is hashed and sent, and the whole-file MD5 that the server computed from what
// it stored is compared with the one computed here. ERR_CORRUPT: they differ; ERR_CONFLICT: the file changed meanwhile;
// ERR_INVALID: the name; ERR_NO_SPACE or ERR_LIMIT on the server. On failure the upload is cancelled on the server, if
// it can be reached.
enum err fc_file_upload(struct fc_session *session, const char *path, const char *name, const char *room,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_file_download fetches a file, checks every segment's MD5 and SHA-256, and writes it in place under `path`.part,
// which is synced and renamed to `path` when it is whole: no other name ever holds half a file. The room on the disk is
// taken before anything is fetched (ERR_NO_SPACE). path NULL: the last component of the file's name, in the current
// folder; ERR_INVALID if that is hidden, as .bashrc. ERR_EXISTS: there is a file already and is_replacing is not set.
// ERR_BUSY: another download writes this .part; ERR_CONFLICT: it is not what a killed download leaves. On failure the
// .part file is removed.
enum err fc_file_download(struct fc_session *session, const char *file, const char *path, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_file_download_to writes the file to a descriptor in order, as "-" wants it: at most chunks_in_flight segments are
// held in memory.
enum err fc_file_download_to(struct fc_session *session, const char *file, int fd,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

#endif
