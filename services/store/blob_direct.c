#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "services/store/blob_direct_priv.h"

// open_direct gives a descriptor that passes by the system's cache; the file keeps it. False: there is none.
static bool
open_direct(struct blob_file *file, int *fd_out)
{
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
    pthread_mutex_lock(&file->direct_mutex);
    if (file->direct_fd == BLOB_DIRECT_NOT_OPEN) {
        // Opened anew by its descriptor, so that it is the same file whatever has become of the name.
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
        int fd = open(path, (file->kind == BLOB_UPLOAD ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
        file->direct_fd = fd >= 0 ? fd : BLOB_DIRECT_CANNOT_BE_OPENED;
    }
    int direct_fd = file->direct_fd;
    pthread_mutex_unlock(&file->direct_mutex);
    *fd_out = direct_fd;
    return direct_fd >= 0;
}

bool
blob_direct_write(struct blob_file *file, const struct blob_write *write, uint8_t *step, enum err *result_out)
{
    struct bytes_view left = write->data;
    off_t offset = (off_t)write->offset;
    int fd = -1;

    if (!write->is_large || step == NULL || write->offset % BLOB_ALIGNMENT_BYTES != 0 ||
        left.size % BLOB_ALIGNMENT_BYTES != 0 || !open_direct(file, &fd)) {
        return false;
    }
    while (left.size != 0) {
        size_t size = left.size < BLOB_DIRECT_STEP_BYTES ? left.size : BLOB_DIRECT_STEP_BYTES;
        memcpy(step, left.data, size);
        enum err err = file_write_at(fd, bytes_view_of(step, size), offset);
        if (err == ERR_INVALID) {
            return false; // this file system wants it otherwise
        }
        if (err != ERR_OK) {
            *result_out = err;
            return true;
        }
        left = bytes_view_of(left.data + size, left.size - size);
        offset += (off_t)size;
    }
    *result_out = ERR_OK;
    return true;
}

uint8_t *
blob_memory(size_t size)
{
    // aligned_alloc wants a multiple.
    size_t blocks = size / BLOB_ALIGNMENT_BYTES + 1;
    return aligned_alloc(BLOB_ALIGNMENT_BYTES, blocks * BLOB_ALIGNMENT_BYTES);
}

bool
blob_direct_read(struct blob_file *file, uint64_t offset, void *out, size_t size)
{
    int fd = -1;
    bool is_aligned = offset % BLOB_ALIGNMENT_BYTES == 0 && size % BLOB_ALIGNMENT_BYTES == 0 &&
                      (uintptr_t)out % BLOB_ALIGNMENT_BYTES == 0;
    if (!is_aligned || file->object_bytes < BLOB_LARGE_BYTES ||
        atomic_load(&file->direct_reads) >= file->object_bytes || !open_direct(file, &fd)) {
        return false;
    }
    if (file_read_at(fd, out, size, (off_t)offset) != ERR_OK) {
        return false; // the other way tells the reason
    }
    atomic_fetch_add(&file->direct_reads, size);
    return true;
}
