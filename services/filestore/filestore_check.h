// Reads everything that is stored and compares it with its digests; and takes a copy of it. For a server that does not
// run, or a copy of its database.
#ifndef FILESTORE_FILESTORE_CHECK_H
#define FILESTORE_FILESTORE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "services/store/blob.h"
#include "services/store/store.h"

struct filestore_check_options {
    struct store *store;
    struct blob_store *blobs;
    bool is_repairing; // drops what nothing names, notes what is damaged, and has damaged chunks of uploads sent again
    void (*report)(void *context, const char *line); // what is wrong, one line each
    void *context;
};

struct filestore_check_result {
    uint64_t content_count;
    uint64_t content_bytes;
    uint64_t upload_count;
    uint64_t damaged_count; // contents that cannot be read as they were stored, or are not there
    uint64_t chunk_count;   // damaged chunks of uploads
    uint64_t orphan_count;  // contents that nothing names
};

// filestore_check reports what is wrong and counts it. An error is one of the check itself. The tables have the version
// of this program afterwards.
enum err filestore_check(const struct filestore_check_options *options, struct filestore_check_result *out,
    struct err_detail *why) ERR_CHECKED;

struct filestore_copy {
    struct store *store; // a copy of a database: unfinished uploads are taken out of it
    struct blob_store *blobs;
    const char *from_dir; // where the contents are
    bool may_link;
    void (*report)(void *context, const char *line);
    void *context;
    uint64_t content_count;
    uint64_t missing_count;
};

// filestore_copy_contents fetches every content that the database names. One that is not there is reported.
enum err filestore_copy_contents(struct filestore_copy *copy, struct err_detail *why) ERR_CHECKED;

#endif
