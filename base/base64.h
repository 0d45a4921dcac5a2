// Base64 (RFC 4648), as JSON carries bytes.
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/bytes.h"
#include "base/err.h"

// base64_append appends the standard form with padding. ERR_TOO_BIG over a GiB, ERR_NO_MEMORY.
enum err base64_append(struct bytes *out, struct bytes_view data) ERR_CHECKED;

// base64_append_url appends the URL-safe form without padding. Errors as above.
enum err base64_append_url(struct bytes *out, struct bytes_view data) ERR_CHECKED;

// base64_append_decoded appends what the text stands for: of the standard or the URL-safe alphabet, with its padding or
// without. ERR_INVALID for anything else, and then out keeps its size; ERR_TOO_BIG and ERR_NO_MEMORY as above.
enum err base64_append_decoded(struct bytes *out, struct bytes_view text) ERR_CHECKED;

#endif
