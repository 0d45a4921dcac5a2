// Makes a program's disk misbehave, by LD_PRELOAD: a test writes "KIND SUBSTRING" into the file that FC_DISK_SHIM names,
// and calls on files whose paths contain SUBSTRING then behave so:
//   eio-once  the next fsync or fdatasync fails with EIO; that removes the file
//   rofs      whatever would change them fails with EROFS, as long as the file is there
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    LINE_BYTES = 4096,
};

// wants tells whether what was asked for is this kind of trouble with a path.
static bool
wants(const char *kind, const char *path)
{
    const char *control = getenv("FC_DISK_SHIM");
    char line[LINE_BYTES];
    char *space = NULL;

    FILE *file = control != NULL ? fopen(control, "re") : NULL;
    if (file == NULL) {
        return false;
    }
    if (fgets(line, sizeof line, file) != NULL) {
        space = strchr(line, ' ');
    }
    (void)fclose(file);
    if (space == NULL) {
        return false;
    }
    *space = '\0';
    space[1 + strcspn(space + 1, "\n")] = '\0';
    // The first of several threads takes what happens once.
    return strcmp(line, kind) == 0 && strstr(path, space + 1) != NULL &&
           (strcmp(kind, "eio-once") != 0 || unlink(control) == 0);
}

static bool
wants_of(const char *kind, int fd)
{
    char link[64];
    char path[LINE_BYTES];
    int error_number = errno;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    bool is_wanted = size > 0 && path[0] == '/' && wants(kind, path);
    errno = error_number;
    return is_wanted;
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

typedef int sync_fn(int fd);

static int
sync_by(const char *name, int fd)
{
    if (wants_of("eio-once", fd)) {
        errno = EIO;
        return -1;
    }
    if (wants_of("rofs", fd)) {
        errno = EROFS;
        return -1;
    }
    return NEXT(sync_fn *, name)(fd);
}

int
fsync(int fd)
{
    return sync_by("fsync", fd);
}

int
fdatasync(int fd)
{
    return sync_by("fdatasync", fd);
}

typedef ssize_t pwrite_fn(int fd, const void *data, size_t size, off_t at);

static ssize_t
pwrite_by(const char *name, int fd, const void *data, size_t size, off_t at)
{
    if (wants_of("rofs", fd)) {
        errno = EROFS;
        return -1;
    }
    return NEXT(pwrite_fn *, name)(fd, data, size, at);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite_by("pwrite", fd, data, size, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off_t at)
{
    return pwrite_by("pwrite64", fd, data, size, at);
}

typedef int fallocate_fn(int fd, int mode, off_t at, off_t size);

int
fallocate(int fd, int mode, off_t at, off_t size)
{
    if (wants_of("rofs", fd)) {
        errno = EROFS;
        return -1;
    }
    return NEXT(fallocate_fn *, "fallocate")(fd, mode, at, size);
}

typedef int ftruncate_fn(int fd, off_t size);

int
ftruncate(int fd, off_t size)
{
    if (wants_of("rofs", fd)) {
        errno = EROFS;
        return -1;
    }
    return NEXT(ftruncate_fn *, "ftruncate")(fd, size);
}

typedef int openat_fn(int dir_fd, const char *path, int flags, ...);

static int
open_by(const char *name, int dir_fd, const char *path, int flags, mode_t mode)
{
    bool is_below = path[0] != '/' && dir_fd != AT_FDCWD && wants_of("rofs", dir_fd);

    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0 && (is_below || wants("rofs", path))) {
        errno = EROFS;
        return -1;
    }
    return NEXT(openat_fn *, name)(dir_fd, path, flags, mode);
}

#define MODE_OF(flags, mode)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (((flags)&O_CREAT) != 0) {                                                                                      \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode = va_arg(arguments, mode_t);                                                                              \
        va_end(arguments);                                                                                             \
    }

int
openat(int dir_fd, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_by("openat", dir_fd, path, flags, mode);
}

int
openat64(int dir_fd, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_by("openat64", dir_fd, path, flags, mode);
}

int
open(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_by("openat", AT_FDCWD, path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_by("openat64", AT_FDCWD, path, flags, mode);
}
