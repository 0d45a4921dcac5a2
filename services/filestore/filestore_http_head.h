// What HTTP says around a file: which part is wanted, and the header of the answer. Any thread; no input is trusted.
#ifndef FILESTORE_FILESTORE_HTTP_HEAD_H
#define FILESTORE_FILESTORE_HTTP_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

enum {
    FILESTORE_HTTP_ETAG_BYTES = 2 * DIGEST_SHA256_BYTES + 3, // in quotes, with its NUL
    FILESTORE_HTTP_DATE_BYTES = 30,                          // with its NUL
};

struct filestore_http_part {
    unsigned status; // 200, 206 or 416
    uint64_t first;
    uint64_t size;
};

// filestore_http_choose_part reads a Range field (RFC 9110, 14.2) for a file of size_bytes. What it does not
// understand, and several ranges at once, mean the whole file.
struct filestore_http_part filestore_http_choose_part(const char *range, uint64_t size_bytes);

void filestore_http_etag(const uint8_t sha256[DIGEST_SHA256_BYTES], char out[FILESTORE_HTTP_ETAG_BYTES]);

// filestore_http_lists_etag says whether an If-None-Match field has this tag, or "*".
bool filestore_http_lists_etag(const char *field, const char *etag);

// filestore_http_date writes seconds as an HTTP date.
void filestore_http_date(int64_t unix_ms, char out[FILESTORE_HTTP_DATE_BYTES]);

// filestore_http_media_type returns the type if a browser can do no harm with it, else application/octet-stream.
const char *filestore_http_media_type(const char *mime_type);

// filestore_http_add_disposition appends the line that makes browsers save the file under the last component of its
// name (RFC 6266, RFC 8187).
enum err filestore_http_add_disposition(const char *file_name, struct bytes *out) ERR_CHECKED;

#endif
