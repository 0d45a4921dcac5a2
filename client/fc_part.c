#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "client/fc_part_priv.h"

enum {
    MS_PER_S = 1000,
    NS_PER_MS = 1000 * 1000,
};

static enum err
set_paths(struct fc_part *part, const char *path, struct err_detail *why)
{
    int path_size = snprintf(part->path, sizeof(part->path), "%s", path);
    int part_size = snprintf(part->part_path, sizeof(part->part_path), "%s.part", path);

    (void)snprintf(part->journal.path, sizeof(part->journal.path), "%s.part.journal", path);
    if (path_size <= 0 || part_size >= (int)sizeof(part->part_path)) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not a path that a file can have", path);
    }
    return ERR_OK;
}

static enum err
check_target(const struct fc_part *part, struct err_detail *why)
{
    struct stat target;

    if (fstatat(part->dir_fd, part->path, &target, AT_SYMLINK_NOFOLLOW) != 0) {
        return ERR_OK; // not there; any other trouble shows when .part is made
    }
    if (S_ISDIR(target.st_mode)) {
        return err_fail(why, ERR_INVALID, "\"%s\" is a folder: name a file in it", part->path);
    }
    if (!part->is_replacing) {
        return err_fail(why, ERR_EXISTS, "there is a file \"%s\" already", part->path);
    }
    return ERR_OK;
}

// remove_leftover removes a .part that a killed download has left, and nothing else.
static enum err
remove_leftover(const struct fc_part *part, uint64_t size_bytes, struct err_detail *why)
{
    struct stat found;
    enum err err = ERR_OK;

    int fd = openat(part->dir_fd, part->part_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return ERR_OK;
    }
    if (fd < 0 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode) || found.st_uid != geteuid() ||
        (found.st_size != 0 && (uint64_t)found.st_size != size_bytes)) {
        err = err_fail(why, ERR_CONFLICT, "\"%s\" is in the way: move or remove it", part->part_path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        err = err_fail(why, ERR_BUSY, "another download is writing \"%s\"", part->part_path);
    } else if (unlinkat(part->dir_fd, part->part_path, 0) != 0) {
        int error_number = errno;
        err = err_fail(why, err_from_errno(error_number), "cannot remove \"%s\": %s", part->part_path,
            strerror(error_number));
    }
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static enum err
no_space(const struct fc_part *part, uint64_t size_bytes, struct err_detail *why)
{
    struct statvfs disk;

    if (fstatvfs(part->fd, &disk) != 0) {
        return err_fail(why, ERR_NO_SPACE, "there is no room for the %llu bytes of \"%s\"",
            (unsigned long long)size_bytes, part->path);
    }
    return err_fail(why, ERR_NO_SPACE, "\"%s\" needs %llu bytes, but the disk has %llu free: make room and try again",
        part->path, (unsigned long long)size_bytes, (unsigned long long)disk.f_bavail * disk.f_frsize);
}

// reserve takes the room at once, so that a full disk is told before anything is transferred.
static enum err
reserve(const struct fc_part *part, uint64_t size_bytes, struct err_detail *why)
{
    if (size_bytes == 0) {
        return ERR_OK;
    }
    int result = fallocate(part->fd, 0, 0, (off_t)size_bytes);
    if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        result = ftruncate(part->fd, (off_t)size_bytes);
    }
    if (result == 0) {
        return ERR_OK;
    }
    int error_number = errno;
    if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG) {
        return no_space(part, size_bytes, why);
    }
    return err_fail(why, err_from_errno(error_number), "cannot make \"%s\": %s", part->part_path,
        strerror(error_number));
}

static enum err
make_new(struct fc_part *part, uint64_t size_bytes, struct err_detail *why)
{
    enum err err = remove_leftover(part, size_bytes, why);
    if (err != ERR_OK) {
        return err;
    }
    part->fd = openat(part->dir_fd, part->part_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (part->fd < 0) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot make \"%s\": %s", part->part_path,
            strerror(error_number));
    }
    // Tells other downloads that somebody is at work. A file system without locks only loses that.
    (void)flock(part->fd, LOCK_EX | LOCK_NB);
    return reserve(part, size_bytes, why);
}

enum err
fc_part_create(struct fc_part *part, int dir_fd, const char *path, const struct fc_file *file, bool is_replacing,
    struct err_detail *why)
{
    part->fd = -1;
    part->journal.fd = -1;
    part->dir_fd = dir_fd;
    part->is_replacing = is_replacing;
    enum err err = set_paths(part, path, why);
    if (err == ERR_OK) {
        err = check_target(part, why);
    }
    if (err == ERR_OK) {
        err = fc_part_resume(part, file, why);
    }
    if (err == ERR_NOT_FOUND) {
        err = make_new(part, file->size_bytes, why);
        if (err == ERR_OK) {
            err = fc_part_begin_journal(part, file, why);
        }
        if (err != ERR_OK) {
            fc_part_abort(part);
        }
    }
    return err;
}

// rename_new gives .part its name unless that is taken.
static int
rename_new(const struct fc_part *part)
{
    int result = renameat2(part->dir_fd, part->part_path, part->dir_fd, part->path, RENAME_NOREPLACE);
    if (result != 0 && (errno == EINVAL || errno == ENOSYS)) {
        // A file system that cannot do it in one step.
        result = linkat(part->dir_fd, part->part_path, part->dir_fd, part->path, 0);
        if (result == 0) {
            (void)unlinkat(part->dir_fd, part->part_path, 0);
        }
    }
    return result;
}

enum err
fc_part_sync_folder(const struct fc_part *part, struct err_detail *why)
{
    char folder[FC_PART_PATH_MAX_BYTES];
    const char *slash = strrchr(part->path, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - part->path);

    if (slash == NULL) {
        memcpy(folder, ".", 2);
    } else if (size == 0) {
        memcpy(folder, "/", 2);
    } else {
        memcpy(folder, part->path, size);
        folder[size] = '\0';
    }
    enum err err = ERR_OK;
    if (part->dir_fd == AT_FDCWD) {
        err = file_sync_dir(folder);
    } else if (fsync(part->dir_fd) != 0) {
        err = err_from_errno(errno);
    }
    if (err != ERR_OK) {
        return err_fail(why, err, "\"%s\" is whole, but may be gone after a power failure: its folder cannot be synced",
            part->path);
    }
    return ERR_OK;
}

void
fc_part_stamp(const struct fc_part *part, const struct fc_file *file)
{
    mode_t mask = umask(0);

    (void)umask(mask);
    // What cannot be kept of them is no reason to do without the file.
    if (file->mode != 0) {
        (void)fchmod(part->fd, file->mode & 0777 & ~mask);
    }
    if (file->modified_unix_ms != 0) {
        int64_t ms = file->modified_unix_ms % MS_PER_S;
        struct timespec times[2] = {
            {.tv_nsec = UTIME_OMIT},
            {.tv_sec = (time_t)(file->modified_unix_ms / MS_PER_S - (ms < 0)),
                .tv_nsec = (long)(ms < 0 ? ms + MS_PER_S : ms) * NS_PER_MS},
        };
        (void)futimens(part->fd, times);
    }
}

enum err
fc_part_finish(struct fc_part *part, struct err_detail *why)
{
    enum err err = fc_part_sync(part, why);
    if (err != ERR_OK) {
        return err;
    }
    int result =
        part->is_replacing ? renameat(part->dir_fd, part->part_path, part->dir_fd, part->path) : rename_new(part);
    if (result != 0) {
        int error_number = errno;
        if (error_number == EEXIST) {
            return err_fail(why, ERR_EXISTS, "a file \"%s\" has appeared meanwhile", part->path);
        }
        return err_fail(why, err_from_errno(error_number), "cannot rename \"%s\": %s", part->part_path,
            strerror(error_number));
    }
    close(part->fd);
    part->fd = -1;
    fc_part_end_journal(part, false);
    return fc_part_sync_folder(part, why);
}

void
fc_part_abort(struct fc_part *part)
{
    if (part->fd >= 0) {
        (void)unlinkat(part->dir_fd, part->part_path, 0);
        close(part->fd);
        part->fd = -1;
        fc_part_end_journal(part, false);
    }
}

void
fc_part_leave(struct fc_part *part)
{
    if (part->fd >= 0 && part->journal.fd >= 0) {
        close(part->fd);
        part->fd = -1;
        fc_part_end_journal(part, true);
    }
    fc_part_abort(part);
}
