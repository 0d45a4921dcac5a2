// Whole small files, and making what was written last.
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

// file_read appends a whole file of at most max_bytes to out. ERR_NOT_FOUND, ERR_TOO_BIG, ERR_DENIED, ERR_IO.
enum err file_read(const char *path, size_t max_bytes, struct bytes *out) ERR_CHECKED;

// file_replace writes data under a temporary name beside path, syncs it, renames it to path and syncs the folder: after
// a crash there is the old content or the new. The new file has exactly `mode`.
enum err file_replace(const char *path, struct bytes_view data, mode_t mode) ERR_CHECKED;

// file_make_dirs creates a folder and the missing ones above it with mode.
enum err file_make_dirs(const char *path, mode_t mode) ERR_CHECKED;

// file_sync_dir makes the names in a folder durable.
enum err file_sync_dir(const char *path) ERR_CHECKED;

// file_write_all writes all of it where the descriptor stands, as to a pipe. ERR_CLOSED: nobody reads it.
enum err file_write_all(int fd, struct bytes_view data) ERR_CHECKED;

// file_write_at and file_read_at transfer all of it at an offset, going on after short transfers and EINTR.
// ERR_NO_SPACE, ERR_IO; reading past the end is ERR_OUT_OF_RANGE.
enum err file_write_at(int fd, struct bytes_view data, off_t offset) ERR_CHECKED;
enum err file_read_at(int fd, void *out, size_t size, off_t offset) ERR_CHECKED;

#endif
