#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_STEP_BYTES = 64 * 1024,
};

static void
close_if_open(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

static enum err
read_all(int fd, size_t max_bytes, struct bytes *out)
{
    size_t before = out->size;
    for (;;) {
        // One byte more than allowed is asked for, to notice that there is more.
        size_t left = max_bytes - (out->size - before);
        size_t step = left < READ_STEP_BYTES ? left + 1 : READ_STEP_BYTES;
        enum err err = bytes_reserve(out, step);
        if (err != ERR_OK) {
            return err;
        }
        ssize_t got = read(fd, out->data + out->size, step);
        if (got == 0) {
            return ERR_OK;
        }
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return err_from_errno(errno);
        }
        if ((size_t)got > left) {
            return ERR_TOO_BIG;
        }
        out->size += (size_t)got;
    }
}

enum err
file_read(const char *path, size_t max_bytes, struct bytes *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    size_t before = out->size;
    enum err err = read_all(fd, max_bytes, out);
    if (err != ERR_OK) {
        out->size = before;
    }
    (void)close(fd);
    return err;
}

// Makes a string of the folder that holds path. NULL: out of memory.
static char *
folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return strdup(".");
    }
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static enum err
write_new(int fd, struct bytes_view data, mode_t mode)
{
    // The mode is set apart from creation, which the umask changes.
    if (fchmod(fd, mode) != 0) {
        return err_from_errno(errno);
    }
    enum err err = file_write_at(fd, data, 0);
    if (err == ERR_OK && fsync(fd) != 0) {
        err = err_from_errno(errno);
    }
    return err;
}

enum err
file_replace(const char *path, struct bytes_view data, mode_t mode)
{
    enum err err = ERR_NO_MEMORY;
    int fd = -1;
    char *temporary = NULL;
    char *folder = folder_of(path);
    if (folder == NULL || asprintf(&temporary, "%s.new-XXXXXX", path) < 0) {
        temporary = NULL; // undefined after a failure
        goto out;
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        err = err_from_errno(errno);
        goto out;
    }
    err = write_new(fd, data, mode);
    if (err == ERR_OK && rename(temporary, path) != 0) {
        err = err_from_errno(errno);
    }
    if (err == ERR_OK) {
        err = file_sync_dir(folder);
    } else {
        (void)unlink(temporary);
    }
out:
    close_if_open(fd);
    free(temporary);
    free(folder);
    return err;
}

enum err
file_make_dirs(const char *path, mode_t mode)
{
    if (path[0] == '\0') {
        return ERR_INVALID;
    }
    char *partial = strdup(path);
    if (partial == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    for (size_t end = 1; err == ERR_OK; end++) {
        if (partial[end] != '/' && partial[end] != '\0') {
            continue;
        }
        char after = partial[end];
        partial[end] = '\0';
        struct stat status;
        // Not mkdir first: it says EROFS or EACCES for folders that are there on some systems.
        if (stat(partial, &status) == 0) {
            err = S_ISDIR(status.st_mode) ? ERR_OK : ERR_EXISTS;
        } else if (mkdir(partial, mode) != 0 && errno != EEXIST) {
            err = err_from_errno(errno);
        }
        if (after == '\0') {
            break;
        }
        partial[end] = after;
    }
    free(partial);
    return err;
}

enum err
file_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = fsync(fd) == 0 ? ERR_OK : err_from_errno(errno);
    (void)close(fd);
    return err;
}

enum err
file_write_all(int fd, struct bytes_view data)
{
    while (data.size > 0) {
        ssize_t written = write(fd, data.data, data.size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return err_from_errno(errno);
        }
        data.data += written;
        data.size -= (size_t)written;
    }
    return ERR_OK;
}

enum err
file_write_at(int fd, struct bytes_view data, off_t offset)
{
    while (data.size > 0) {
        ssize_t written = pwrite(fd, data.data, data.size, offset);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return err_from_errno(errno);
        }
        if (written == 0) {
            return ERR_IO; // never of a file; must not become an endless loop
        }
        data = bytes_view_of(data.data + written, data.size - (size_t)written);
        offset += written;
    }
    return ERR_OK;
}

enum err
file_read_at(int fd, void *out, size_t size, off_t offset)
{
    unsigned char *to = out;
    while (size > 0) {
        ssize_t got = pread(fd, to, size, offset);
        if (got == 0) {
            return ERR_OUT_OF_RANGE;
        }
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return err_from_errno(errno);
        }
        to += got;
        offset += got;
        size -= (size_t)got;
    }
    return ERR_OK;
}
