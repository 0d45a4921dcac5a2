// For libfc only: small pictures of pictures, made by who sends them, so that who gets them sees something before the
// file is there. libjpeg-turbo and libpng decode; without them at build time there are no previews.
#ifndef CLIENT_FC_PREVIEW_PRIV_H
#define CLIENT_FC_PREVIEW_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "client/fc_image_priv.h"

enum {
    FC_PREVIEW_SIDE_PX = 160,
    FC_PREVIEW_MAX_BYTES = 8 * 1024, // half of what an announcement may carry
};

// fc_preview_make appends a preview of an open JPEG or PNG file: a JPEG picture of at most FC_PREVIEW_SIDE_PX each way,
// turned as the file says, without any metadata. Returns whether there is one: not of pictures that are damaged, of
// other kinds or huge.
bool fc_preview_make(int fd, uint64_t size, const struct fc_image *image, struct bytes *out);

#endif
