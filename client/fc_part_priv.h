// For libfc's downloads only: the .part file that becomes the file in one step.
#ifndef CLIENT_FC_PART_PRIV_H
#define CLIENT_FC_PART_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    FC_PART_PATH_MAX_BYTES = 4096, // with its NUL
};

struct fc_part {
    int fd; // -1: none
    char path[FC_PART_PATH_MAX_BYTES];
    char part_path[FC_PART_PATH_MAX_BYTES];
    bool is_replacing;
};

// fc_part_create makes `path`.part, of size_bytes, with room for them on the disk. The name may be taken by what an
// earlier download left that was killed: a regular file of the user's of just this size that nobody has locked. That is
// replaced; anything else is ERR_CONFLICT, and ERR_BUSY when another download writes it. ERR_EXISTS: there is a file at
// path and is_replacing is not set. ERR_NO_SPACE.
enum err fc_part_create(struct fc_part *part, const char *path, uint64_t size_bytes, bool is_replacing,
    struct err_detail *why) ERR_CHECKED;

// fc_part_finish syncs it and gives it its name, durably. ERR_EXISTS: a file has appeared at path meanwhile.
enum err fc_part_finish(struct fc_part *part, struct err_detail *why) ERR_CHECKED;

// fc_part_abort removes it, unless it was finished. May run twice.
void fc_part_abort(struct fc_part *part);

#endif
