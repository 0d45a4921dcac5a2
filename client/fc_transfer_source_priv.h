// For libfc's uploads only: the local file that is sent, and the note of an upload that has not ended.
#ifndef CLIENT_FC_TRANSFER_SOURCE_PRIV_H
#define CLIENT_FC_TRANSFER_SOURCE_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "client/fc_file.h"
#include "client/fc_session.h"

// fc_source is a file that is being read. It counts as changed when its size or times are others than at the beginning.
struct fc_source {
    const char *path; // for messages, too
    int fd;
    bool is_owned;  // fd is closed at the end
    bool is_stream; // read to its end; the size is not known before
    struct stat before;
};

// fc_source_open opens what is to be sent. ERR_INVALID: neither a regular file nor given as a descriptor.
enum err fc_source_open(struct fc_source *source, const struct fc_upload *what, struct err_detail *why) ERR_CHECKED;
void fc_source_close(struct fc_source *source);

// fc_source_check: ERR_CONFLICT when it has changed, or the path is another file by now.
enum err fc_source_check(const struct fc_source *source, struct err_detail *why) ERR_CHECKED;
enum err fc_source_changed(const struct fc_source *source, struct err_detail *why);

// fc_source_mime_type is what the content or the name says; static, empty when neither does.
const char *fc_source_mime_type(const struct fc_source *source, const char *name);

int64_t fc_source_modified_ms(const struct stat *status);

// fc_note is a file in the data folder that remembers an upload. While it is open no other process takes it.
struct fc_note {
    int fd; // -1: nothing is remembered
    char path[FC_CONFIG_PATH_MAX_BYTES + 64];
    uint8_t request_id[16];
    bool is_continued; // the source is as it was when the upload was begun
    bool has_digests;  // of the whole file
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
    char *source_path;
    char *name;
    char *room;
    uint64_t size_bytes;
};

// fc_note_open finds the note of the upload of this source under this name, or begins one with the request_id that is
// in it. is_continued says which; one of an earlier state of the source is replaced. When nothing can be kept, nothing
// is remembered.
void fc_note_open(struct fc_note *note, struct fc_session *session, const struct fc_source *source, const char *name,
    const char *room);

// fc_note_write keeps what is in it now.
void fc_note_write(const struct fc_note *note, struct fc_session *session, const struct fc_source *source);

// fc_note_end closes it, and removes it unless it is_kept.
void fc_note_end(struct fc_note *note, bool is_kept);

#endif
