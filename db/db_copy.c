// A copy of a database in use: SQLite's online backup, in one step, so that it is one snapshot.
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "db/db.h"

enum {
    BUSY_TIMEOUT_MS = 5000,
};

static enum err
err_of(sqlite3 *sqlite, int code)
{
    switch (code & 0xff) {
    case SQLITE_DONE:
    case SQLITE_OK:
        return ERR_OK;
    case SQLITE_FULL:
        return ERR_NO_SPACE;
    case SQLITE_NOMEM:
        return ERR_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return sqlite3_system_errno(sqlite) == ENOSPC ? ERR_NO_SPACE : ERR_IO;
    default:
        return ERR_INTERNAL;
    }
}

static enum err
copy_between(sqlite3 *from, sqlite3 *to)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (backup == NULL) {
        return err_of(to, sqlite3_errcode(to));
    }
    int code = sqlite3_backup_step(backup, -1);
    int ended = sqlite3_backup_finish(backup);
    return err_of(to, code == SQLITE_DONE ? ended : code);
}

static enum err
sync_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = fsync(fd) == 0 ? ERR_OK : err_from_errno(errno);
    (void)close(fd);
    return err;
}

enum err
db_copy(const char *from_path, const char *to_path, struct err_detail *why)
{
    sqlite3 *from = NULL;
    sqlite3 *to = NULL;
    int fd = open(to_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return err_fail(why, err_from_errno(errno), "%s cannot be made: %s", to_path, strerror(errno));
    }
    (void)close(fd);
    // For writing as well, since reading a write-ahead log needs its index beside it.
    int code = sqlite3_open_v2(from_path, &from, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    enum err err = err_of(from, code);
    if (err == ERR_OK) {
        (void)sqlite3_busy_timeout(from, BUSY_TIMEOUT_MS);
        code = sqlite3_open_v2(to_path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        err = err_of(to, code);
    }
    if (err == ERR_OK) {
        err = copy_between(from, to);
    }
    (void)sqlite3_close(to);
    (void)sqlite3_close(from);
    if (err == ERR_OK) {
        err = sync_file(to_path);
    }
    if (err != ERR_OK) {
        (void)unlink(to_path); // half a copy would be in the way of the next
    }
    return err == ERR_OK ? ERR_OK
                         : err_fail(why, err, "%s cannot be copied to %s: %s", from_path, to_path, err_sentence(err));
}
