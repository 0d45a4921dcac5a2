// For libfc's downloads only: the .part file that becomes the file in one step, and its journal, which says which
// segments it holds.
#ifndef CLIENT_FC_PART_PRIV_H
#define CLIENT_FC_PART_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"
#include "client/fc_file.h"

enum {
    FC_PART_PATH_MAX_BYTES = 4096, // with its NUL
};

// fc_part_journal is `path`.part.journal. It is only ever behind the data: a segment is noted when it has been written,
// and what is marked durable has been synced before.
struct fc_part_journal {
    int fd; // -1: none
    char path[FC_PART_PATH_MAX_BYTES + 8];
    uint64_t segment_count;
    uint64_t *marks; // of each segment what was noted; 0: nothing
    uint64_t unsynced_bytes;
    off_t records_from;
    bool is_name_durable;
};

struct fc_part {
    int fd;     // -1: none
    int dir_fd; // paths are relative to it, as openat has it; borrowed
    char path[FC_PART_PATH_MAX_BYTES];
    char part_path[FC_PART_PATH_MAX_BYTES];
    bool is_replacing;
    bool has_lost_data; // the disk has not taken what was written to it; what it may have lost is not noted any more
    struct fc_part_journal journal;
};

// fc_part_create makes `path`.part for this file, with room for it on the disk. When there is one with a journal that
// an earlier download of the same file has left, that is gone on with. The name may also be taken by what a killed
// download left without a journal: a regular file of the user's of just this size that nobody has locked. That is
// replaced; anything else is ERR_CONFLICT, and ERR_BUSY when another download writes it. ERR_EXISTS: there is a file at
// path and is_replacing is not set. ERR_NO_SPACE.
enum err fc_part_create(struct fc_part *part, int dir_fd, const char *path, const struct fc_file *file,
    bool is_replacing, struct err_detail *why) ERR_CHECKED;

// fc_part_has tells whether a segment with this digest is there already; fc_part_note that it has been written. One
// thread at a time uses them. ERR_IO with has_lost_data, here and of fc_part_finish: another try fetches what was lost.
bool fc_part_has(const struct fc_part *part, uint64_t index, const uint8_t sha256[DIGEST_SHA256_BYTES]);
enum err fc_part_note(struct fc_part *part, uint64_t index, const uint8_t sha256[DIGEST_SHA256_BYTES], uint32_t size,
    struct err_detail *why) ERR_CHECKED;

// fc_part_stamp gives it the time and the permissions of the file, less those that the umask takes.
void fc_part_stamp(const struct fc_part *part, const struct fc_file *file);

// fc_part_finish syncs it and gives it its name, durably. ERR_EXISTS: a file has appeared at path meanwhile.
enum err fc_part_finish(struct fc_part *part, struct err_detail *why) ERR_CHECKED;

// fc_part_abort removes it, unless it was finished; fc_part_leave leaves it to be gone on with, if it has a journal.
// Both may run twice.
void fc_part_abort(struct fc_part *part);
void fc_part_leave(struct fc_part *part);

// The parts of the above that are in fc_part_journal.c. fc_part_resume: ERR_NOT_FOUND when there is nothing to go on
// with.
enum err fc_part_resume(struct fc_part *part, const struct fc_file *file, struct err_detail *why) ERR_CHECKED;
enum err fc_part_begin_journal(struct fc_part *part, const struct fc_file *file, struct err_detail *why) ERR_CHECKED;
void fc_part_end_journal(struct fc_part *part, bool is_kept);
// fc_part_sync writes what it holds to the disk. After a failure nobody knows what the disk has of it, and the next
// sync may succeed without it: the journal goes back to what was durable before.
enum err fc_part_sync(struct fc_part *part, struct err_detail *why) ERR_CHECKED;
// fc_part_sync_folder makes the names last: .part and the journal, or the file's own.
enum err fc_part_sync_folder(const struct fc_part *part, struct err_detail *why) ERR_CHECKED;

#endif
