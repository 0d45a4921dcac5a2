// A disk that misbehaves, or whose every change is recorded: preloaded before a program (disk_shim.py). Files below
// FC_DISK_ROOT only.
//
//   FC_DISK_LOG=FILE         what is done to the files is appended to FILE: records of
//                            kind (1 byte), sizes of path, second path and data, and a number (4 x 8 bytes, of the
//                            machine's own order), then path, second path and data. Kinds:
//                            C create, M make folder, W write at number, T cut or grow to number, R rename, L link,
//                            U unlink, s sync number begins, S sync number has succeeded
//   FC_DISK_FAIL=CALL:PART:ERRNO:SKIP:COUNT
//                            of the calls CALL (sync, write) on paths that hold PART, after SKIP of them COUNT fail
//   FC_DISK_STOP=FILE        as long as there is FILE, nothing can be written: the error is the number in it
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    TEXT_BYTES = PATH_MAX + 32,
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static const char *stop_path;
static int log_fd = -1;
static uint64_t sync_count;

static struct {
    char call[16];
    char part[128];
    int error_number;
    long skip;
    long count;
} failing;

// The functions that stand behind the ones below.
#define REAL(result, name, ...)                                                                                        \
    static result (*name##_real)(__VA_ARGS__);                                                                         \
    static result (*get_##name(void))(__VA_ARGS__)                                                                     \
    {                                                                                                                  \
        if (name##_real == NULL) {                                                                                     \
            *(void **)&name##_real = dlsym(RTLD_NEXT, #name);                                                          \
        }                                                                                                              \
        return name##_real;                                                                                            \
    }

REAL(int, openat64, int, const char *, int, ...)
REAL(int, mkostemp64, char *, int)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)
REAL(int, ftruncate64, int, off64_t)
REAL(int, fallocate64, int, int, off64_t, off64_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, renameat2, int, const char *, int, const char *, unsigned)
REAL(int, linkat, int, const char *, int, const char *, int)
REAL(int, unlinkat, int, const char *, int)
REAL(int, mkdirat, int, const char *, mode_t)
REAL(int, fstatvfs64, int, struct statvfs64 *)

static void
start(void)
{
    const char *folder = getenv("FC_DISK_ROOT");
    const char *log_path = getenv("FC_DISK_LOG");
    const char *fail = getenv("FC_DISK_FAIL");

    if (folder != NULL && realpath(folder, root) == NULL) {
        abort();
    }
    stop_path = getenv("FC_DISK_STOP");
    if (log_path != NULL) {
        log_fd = get_openat64()(AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    if (fail != NULL && sscanf(fail, "%15[^:]:%127[^:]:%d:%ld:%ld", failing.call, failing.part, &failing.error_number,
                            &failing.skip, &failing.count) != 5) {
        abort();
    }
}

static bool
is_below_root(const char *path)
{
    size_t size = strlen(root);
    return size != 0 && strncmp(path, root, size) == 0 && (path[size] == '/' || path[size] == '\0') &&
           strstr(path, " (deleted)") == NULL;
}

static bool
path_of_fd(int fd, char out[TEXT_BYTES])
{
    char link[64];

    (void)pthread_once(&once, start);
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, PATH_MAX);
    if (size <= 0) {
        return false;
    }
    out[size] = '\0';
    return is_below_root(out);
}

// path_at finds what a path means to the functions that end in "at": its folder, free of links, and its last part.
static bool
path_at(int dir_fd, const char *path, char out[TEXT_BYTES])
{
    char joined[2 * PATH_MAX + 2];
    char folder[PATH_MAX];
    char link[64];

    (void)pthread_once(&once, start);
    if (path[0] == '/' || dir_fd == AT_FDCWD) {
        (void)snprintf(joined, sizeof(joined), "%s%s", path[0] == '/' ? "" : "./", path);
    } else {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
        ssize_t size = readlink(link, folder, PATH_MAX - 1);
        if (size <= 0) {
            return false;
        }
        folder[size] = '\0';
        (void)snprintf(joined, sizeof(joined), "%s/%s", folder, path);
    }
    char *slash = strrchr(joined, '/');
    *slash = '\0';
    if (realpath(joined[0] == '\0' ? "/" : joined, folder) == NULL) {
        return false;
    }
    (void)snprintf(out, TEXT_BYTES, "%.*s/%.*s", PATH_MAX - 300, folder, 256, slash + 1);
    return is_below_root(out);
}

static void
record_locked(char kind, const char *path, const char *second, const void *data, size_t size, uint64_t number)
{
    uint64_t numbers[4] = {strlen(path), second != NULL ? strlen(second) : 0, size, number};
    struct iovec parts[] = {
        {.iov_base = &kind, .iov_len = 1},
        {.iov_base = numbers, .iov_len = sizeof(numbers)},
        {.iov_base = (void *)(uintptr_t)path, .iov_len = numbers[0]},
        {.iov_base = (void *)(uintptr_t)second, .iov_len = numbers[1]},
        {.iov_base = (void *)(uintptr_t)data, .iov_len = size},
    };
    ssize_t total = (ssize_t)(1 + sizeof(numbers) + numbers[0] + numbers[1] + size);

    if (log_fd >= 0 && writev(log_fd, parts, 5) != total) {
        abort(); // a log with a hole proves nothing
    }
}

// stopped is the error with which nothing can be written now, or 0.
static int
stopped(void)
{
    char number[16] = "";

    int fd = stop_path != NULL ? get_openat64()(AT_FDCWD, stop_path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, number, sizeof(number) - 1);
    (void)close(fd);
    return size > 0 ? (int)strtol(number, NULL, 10) : 0;
}

// fails tells whether this call is one that has to fail, and sets errno.
static bool
fails(const char *call, const char *path)
{
    bool is_due = false;
    int error_number = strcmp(call, "write") == 0 ? stopped() : 0;

    if (error_number != 0) {
        errno = error_number;
        return true;
    }
    if (strcmp(call, failing.call) != 0 || strstr(path, failing.part) == NULL) {
        return false;
    }
    (void)pthread_mutex_lock(&mutex);
    if (failing.skip > 0) {
        failing.skip--;
    } else if (failing.count > 0) {
        failing.count--;
        is_due = true;
    }
    (void)pthread_mutex_unlock(&mutex);
    errno = failing.error_number;
    return is_due;
}

// Each change is made and recorded under one lock, so that the log has them in the order in which they happened.
#define CHANGE(result, call, record)                                                                                   \
    do {                                                                                                               \
        (void)pthread_mutex_lock(&mutex);                                                                              \
        result = call;                                                                                                 \
        int saved = errno;                                                                                             \
        if (result >= 0) {                                                                                             \
            record;                                                                                                    \
        }                                                                                                              \
        (void)pthread_mutex_unlock(&mutex);                                                                            \
        errno = saved;                                                                                                 \
    } while (0)

static int
open_recorded(int dir_fd, const char *path, int flags, mode_t mode)
{
    char text[TEXT_BYTES];
    struct stat status;
    int fd;

    if ((flags & (O_CREAT | O_TRUNC)) == 0 || (flags & O_TMPFILE) == O_TMPFILE || !path_at(dir_fd, path, text)) {
        return get_openat64()(dir_fd, path, flags, mode);
    }
    bool is_new = fstatat(dir_fd, path, &status, AT_SYMLINK_NOFOLLOW) != 0;
    if (is_new && (flags & O_CREAT) != 0 && fails("write", text)) {
        return -1;
    }
    CHANGE(fd, get_openat64()(dir_fd, path, flags, mode), {
        if (is_new) {
            record_locked('C', text, NULL, NULL, 0, 0);
        } else if ((flags & O_TRUNC) != 0) {
            record_locked('T', text, NULL, NULL, 0, 0);
        }
    });
    return fd;
}

#define MODE_OF_OPEN(flags, mode)                                                                                      \
    mode_t mode = 0;                                                                                                   \
    if (((flags)&O_CREAT) != 0) {                                                                                      \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode = (mode_t)va_arg(arguments, int);                                                                         \
        va_end(arguments);                                                                                             \
    }

int open(const char *path, int flags, ...);
int openat(int dir_fd, const char *path, int flags, ...);

int
open(const char *path, int flags, ...)
{
    MODE_OF_OPEN(flags, mode)
    return open_recorded(AT_FDCWD, path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
    MODE_OF_OPEN(flags, mode)
    return open_recorded(AT_FDCWD, path, flags, mode);
}

int
openat(int dir_fd, const char *path, int flags, ...)
{
    MODE_OF_OPEN(flags, mode)
    return open_recorded(dir_fd, path, flags, mode);
}

int
openat64(int dir_fd, const char *path, int flags, ...)
{
    MODE_OF_OPEN(flags, mode)
    return open_recorded(dir_fd, path, flags, mode);
}

int
mkostemp(char *template, int flags)
{
    char text[TEXT_BYTES];
    int fd;

    CHANGE(fd, get_mkostemp64()(template, flags), {
        if (path_at(AT_FDCWD, template, text)) {
            record_locked('C', text, NULL, NULL, 0, 0);
        }
    });
    return fd;
}

ssize_t
write(int fd, const void *data, size_t size)
{
    char text[TEXT_BYTES];
    ssize_t written;

    if (fd <= STDERR_FILENO || !path_of_fd(fd, text)) {
        return get_write()(fd, data, size);
    }
    if (fails("write", text)) {
        return -1;
    }
    CHANGE(written, get_write()(fd, data, size), {
        // Where it has gone, which of files opened for appending only the system knows.
        off64_t end = lseek64(fd, 0, SEEK_CUR);
        record_locked('W', text, NULL, data, (size_t)written, (uint64_t)(end - written));
    });
    return written;
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    char text[TEXT_BYTES];
    ssize_t written;

    if (!path_of_fd(fd, text)) {
        return get_pwrite64()(fd, data, size, offset);
    }
    if (fails("write", text)) {
        return -1;
    }
    CHANGE(written, get_pwrite64()(fd, data, size, offset),
        record_locked('W', text, NULL, data, (size_t)written, (uint64_t)offset));
    return written;
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

int
ftruncate64(int fd, off64_t size)
{
    char text[TEXT_BYTES];
    int result;

    if (!path_of_fd(fd, text)) {
        return get_ftruncate64()(fd, size);
    }
    CHANGE(result, get_ftruncate64()(fd, size), record_locked('T', text, NULL, NULL, 0, (uint64_t)size));
    return result;
}

int
ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int
fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    char text[TEXT_BYTES];
    int result;

    if (!path_of_fd(fd, text)) {
        return get_fallocate64()(fd, mode, offset, size);
    }
    if (fails("write", text)) {
        return -1;
    }
    CHANGE(result, get_fallocate64()(fd, mode, offset, size), {
        if (mode == 0) { // as they are used here: nothing was behind
            record_locked('T', text, NULL, NULL, 0, (uint64_t)(offset + size));
        }
    });
    return result;
}

int
fallocate(int fd, int mode, off_t offset, off_t size)
{
    return fallocate64(fd, mode, offset, size);
}

static int
sync_recorded(int fd, int (*real)(int))
{
    char text[TEXT_BYTES];

    if (!path_of_fd(fd, text)) {
        return real(fd);
    }
    if (fails("sync", text)) {
        return -1;
    }
    (void)pthread_mutex_lock(&mutex);
    uint64_t number = sync_count++;
    record_locked('s', text, NULL, NULL, 0, number);
    (void)pthread_mutex_unlock(&mutex);
    int result;
    CHANGE(result, real(fd), record_locked('S', text, NULL, NULL, 0, number));
    return result;
}

int
fsync(int fd)
{
    return sync_recorded(fd, get_fsync());
}

int
fdatasync(int fd)
{
    return sync_recorded(fd, get_fdatasync());
}

int
renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    char from_text[TEXT_BYTES];
    char to_text[TEXT_BYTES];
    int result;

    if (!path_at(from_fd, from, from_text) || !path_at(to_fd, to, to_text)) {
        return get_renameat2()(from_fd, from, to_fd, to, flags);
    }
    CHANGE(result, get_renameat2()(from_fd, from, to_fd, to, flags),
        record_locked('R', from_text, to_text, NULL, 0, 0));
    return result;
}

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return renameat2(from_fd, from, to_fd, to, 0);
}

int
rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    char from_text[TEXT_BYTES];
    char to_text[TEXT_BYTES];
    int result;

    if (!path_at(from_fd, from, from_text) || !path_at(to_fd, to, to_text)) {
        return get_linkat()(from_fd, from, to_fd, to, flags);
    }
    CHANGE(result, get_linkat()(from_fd, from, to_fd, to, flags), record_locked('L', from_text, to_text, NULL, 0, 0));
    return result;
}

int
unlinkat(int dir_fd, const char *path, int flags)
{
    char text[TEXT_BYTES];
    int result;

    if (!path_at(dir_fd, path, text)) {
        return get_unlinkat()(dir_fd, path, flags);
    }
    CHANGE(result, get_unlinkat()(dir_fd, path, flags), record_locked('U', text, NULL, NULL, 0, 0));
    return result;
}

int
unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int
mkdirat(int dir_fd, const char *path, mode_t mode)
{
    char text[TEXT_BYTES];
    int result;

    if (!path_at(dir_fd, path, text)) {
        return get_mkdirat()(dir_fd, path, mode);
    }
    CHANGE(result, get_mkdirat()(dir_fd, path, mode), record_locked('M', text, NULL, NULL, 0, 0));
    return result;
}

int
mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int
fstatvfs64(int fd, struct statvfs64 *out)
{
    int result = get_fstatvfs64()(fd, out);
    (void)pthread_once(&once, start);
    if (result == 0 && stopped() == ENOSPC) {
        out->f_bavail = 0;
    }
    return result;
}

int
fstatvfs(int fd, struct statvfs *out)
{
    return fstatvfs64(fd, (struct statvfs64 *)out);
}
