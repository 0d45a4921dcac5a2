#include "services/daemon/daemon_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/daemon/daemon_options.h"

enum {
    PID_TEXT_BYTES = 24,
};

static enum err
fail_busy(int fd, const char *dir, struct err_detail *why)
{
    char text[PID_TEXT_BYTES] = "";
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    long pid = size > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0) {
        return err_fail(why, ERR_BUSY, "%s is in use by fcd with pid %ld", dir, pid);
    }
    return err_fail(why, ERR_BUSY, "%s is in use by another fcd", dir);
}

enum err
daemon_lock_take(const char *dir, int *fd_out, struct err_detail *why)
{
    char path[DAEMON_PATH_MAX_BYTES];
    char text[PID_TEXT_BYTES];
    int length = snprintf(path, sizeof(path), "%s/lock", dir);
    if (length < 0 || (size_t)length >= sizeof(path)) {
        return err_fail(why, ERR_INVALID, "the path of the data folder is too long");
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return err_fail(why, err_from_errno(errno), "the data folder %s cannot be written: %s", dir, strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum err err = errno == EWOULDBLOCK
                           ? fail_busy(fd, dir, why)
                           : err_fail(why, err_from_errno(errno), "%s cannot be locked: %s", path, strerror(errno));
        close(fd);
        return err;
    }
    length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
        enum err err = err_fail(why, err_from_errno(errno), "%s cannot be written: %s", path, strerror(errno));
        close(fd);
        return err;
    }
    *fd_out = fd;
    return ERR_OK;
}

void
daemon_lock_release(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}
