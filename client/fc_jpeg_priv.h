// For libfc only: what a JPEG file says besides the picture, and how to leave it out.
#ifndef CLIENT_FC_JPEG_PRIV_H
#define CLIENT_FC_JPEG_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    FC_JPEG_MAX_BYTES = 64 * 1024 * 1024, // of files that are stripped: they are held in memory
};

// fc_jpeg_orientation is that of the EXIF data, 1 to 8; 1 also when nothing says.
unsigned fc_jpeg_orientation(struct bytes_view jpeg);

// fc_jpeg_strip appends to `out` a JPEG file without what tells of place, camera, program and people: EXIF, XMP, IPTC,
// comments, and whatever follows the picture. How it is to be turned stays, and the colour profile. The picture's own
// bytes are not touched. *is_changed_out = false: there was nothing to leave out, and `out` is the file itself.
// ERR_CORRUPT: it is not as a JPEG file has to be.
enum err fc_jpeg_strip(struct bytes_view jpeg, struct bytes *out, bool *is_changed_out) ERR_CHECKED;

// fc_jpeg_strip_file does so for an open file. *fd_out: the stripped file, in memory, with the time and the permissions
// of the other one, for the caller to close; -1: there is nothing to leave out, or it is no JPEG file. ERR_INVALID: it
// begins as one and cannot be taken apart, so that nobody knows what it tells; `path` is for the message.
enum err fc_jpeg_strip_file(int fd, uint64_t size, const char *path, int *fd_out, uint64_t *size_out,
    struct err_detail *why) ERR_CHECKED;

#endif
