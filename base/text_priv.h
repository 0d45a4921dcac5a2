// For base/ only: the one decision of how a character from outside is shown.
#ifndef BASE_TEXT_PRIV_H
#define BASE_TEXT_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

enum {
    TEXT_VISIBLE_MAX_BYTES = 12, // "\u{10ffff}" and NUL fit
};

// text_take_visible takes the first character off rest, which is not empty, and writes what to show for it to out,
// without NUL. It returns how many bytes that is.
size_t text_take_visible(struct bytes_view *rest, bool keep_newlines, char out[TEXT_VISIBLE_MAX_BYTES]);

#endif
