// For services/store/ only: large contents pass by the system's cache, where the file system can do that.
#ifndef STORE_BLOB_DIRECT_PRIV_H
#define STORE_BLOB_DIRECT_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "services/store/blob_files_priv.h"

enum {
    BLOB_DIRECT_STEP_BYTES = 1024 * 1024,
};

// blob_direct_write writes a piece by way of `step`, aligned memory of BLOB_DIRECT_STEP_BYTES; NULL: there is none.
// False: it cannot be done for this piece, and nothing counts as written.
bool blob_direct_write(struct blob_file *file, const struct blob_write *write, uint8_t *step, enum err *result_out);

// blob_direct_read reads so until the object was read once: what is wanted more than that is worth keeping. False: it
// is not to be done so, or has failed; the other way tells the reason.
bool blob_direct_read(struct blob_file *file, uint64_t offset, void *out, size_t size);

#endif
