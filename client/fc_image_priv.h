// For libfc only: what a picture's first bytes say about it, so that who gets it can lay it out before it is there.
#ifndef CLIENT_FC_IMAGE_PRIV_H
#define CLIENT_FC_IMAGE_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    FC_IMAGE_HEAD_BYTES = 256 * 1024, // JPEG files may have much in front of their size
};

struct fc_image {
    const char *mime_type; // static
    uint32_t width_px;
    uint32_t height_px;
};

// fc_image_look reads the type and size of a PNG, JPEG, GIF or WebP picture out of the file's first bytes, of which
// FC_IMAGE_HEAD_BYTES are enough. Nothing is decoded. Returns false for anything else.
bool fc_image_look(struct bytes_view head, struct fc_image *out);

#endif
