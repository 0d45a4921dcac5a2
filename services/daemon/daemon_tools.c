#include "services/daemon/daemon_tools.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "services/daemon/daemon_lock.h"
#include "services/filestore/filestore_check.h"
#include "services/store/blob.h"
#include "services/store/store.h"

enum {
    KEY_FILE_MAX_BYTES = 1024 * 1024, // of each key
};

static void
print_line(void *context, const char *line)
{
    (void)context;
    (void)puts(line);
}

// Says early what would otherwise make an empty server of a mistyped folder.
static enum err
require_database(const char *dir, struct err_detail *why)
{
    char path[DAEMON_PATH_MAX_BYTES + sizeof("/fc.db")];
    (void)snprintf(path, sizeof(path), "%s/fc.db", dir);
    if (access(path, F_OK) != 0) {
        return err_fail(why, err_from_errno(errno), "%s is not the data folder of an fcd: it has no fc.db", dir);
    }
    return ERR_OK;
}

static void
print_check(const struct filestore_check_result *result, bool is_repairing)
{
    (void)printf("checked %llu contents with %llu bytes and %llu unfinished uploads: ",
        (unsigned long long)result->content_count, (unsigned long long)result->content_bytes,
        (unsigned long long)result->upload_count);
    if (result->damaged_count + result->chunk_count + result->orphan_count == 0) {
        (void)puts("all is well");
        return;
    }
    (void)printf("%llu damaged contents, %llu damaged chunks of uploads%s, %llu orphans%s\n",
        (unsigned long long)result->damaged_count, (unsigned long long)result->chunk_count,
        is_repairing ? " (to be sent again)" : "", (unsigned long long)result->orphan_count,
        is_repairing ? " (removed)" : "");
}

enum err
daemon_check(const struct daemon_options *options, bool *is_well_out, struct err_detail *why)
{
    struct store *store = NULL;
    struct blob_store *blobs = NULL;
    struct filestore_check_result result;
    int lock_fd = -1;

    enum err err = require_database(options->data_dir, why);
    if (err == ERR_OK) {
        err = daemon_lock_take(options->data_dir, &lock_fd, why);
    }
    if (err == ERR_OK) {
        err = store_open(options->data_dir, &store, why);
    }
    if (err == ERR_OK) {
        err = store_check(store, why);
    }
    if (err == ERR_OK) {
        err = blob_store_open(options->data_dir, &blobs, why);
    }
    if (err == ERR_OK) {
        const struct filestore_check_options check = {.store = store,
            .blobs = blobs,
            .is_repairing = options->is_repairing,
            .report = print_line};
        err = filestore_check(&check, &result, why);
    }
    if (err == ERR_OK) {
        print_check(&result, options->is_repairing);
        *is_well_out =
            result.damaged_count == 0 && (options->is_repairing || result.chunk_count + result.orphan_count == 0);
    }
    blob_store_close(&blobs);
    store_close(&store);
    daemon_lock_release(&lock_fd);
    return err;
}

// lock_backup keeps a running server from removing contents until the descriptor is closed.
static enum err
lock_backup(const char *dir, int *fd_out, struct err_detail *why)
{
    char path[DAEMON_PATH_MAX_BYTES + sizeof("/" DAEMON_BACKUP_LOCK)];
    (void)snprintf(path, sizeof(path), "%s/" DAEMON_BACKUP_LOCK, dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0 || flock(fd, LOCK_SH) != 0) {
        enum err err = err_fail(why, err_from_errno(errno), "%s cannot be locked: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    *fd_out = fd;
    return ERR_OK;
}

static enum err
copy_key_file(const char *from, const char *to, const char *name)
{
    char from_path[PATH_MAX];
    char to_path[PATH_MAX];
    struct bytes content = {0};
    if (snprintf(from_path, sizeof(from_path), "%s/%s", from, name) >= (int)sizeof(from_path) ||
        snprintf(to_path, sizeof(to_path), "%s/%s", to, name) >= (int)sizeof(to_path)) {
        return ERR_TOO_BIG;
    }
    enum err err = file_read(from_path, KEY_FILE_MAX_BYTES, &content);
    if (err == ERR_OK) {
        err = file_replace(to_path, bytes_as_view(&content), S_IRUSR | S_IWUSR);
    }
    bytes_free_secret(&content);
    return err == ERR_NOT_FOUND ? ERR_OK : err; // a certificate may be elsewhere
}

// copy_keys takes the certificate along, by which clients know the server, and what the server signs with.
static enum err
copy_keys(const char *from, const char *to)
{
    static const char *const names[] = {"tls/certificate.pem", "tls/key.pem", "grant.key"};
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/tls", to) >= (int)sizeof(path)) {
        return ERR_TOO_BIG;
    }
    enum err err = file_make_dirs(path, S_IRWXU);
    for (size_t i = 0; err == ERR_OK && i < sizeof(names) / sizeof(names[0]); i++) {
        err = copy_key_file(from, to, names[i]);
    }
    return err;
}

static enum err
copy_contents(const struct daemon_options *options, const char *to, struct filestore_copy *copy, struct err_detail *why)
{
    enum err err = store_open(to, &copy->store, why);
    if (err == ERR_OK) {
        err = blob_store_open(to, &copy->blobs, why);
    }
    if (err == ERR_OK) {
        copy->from_dir = options->data_dir;
        copy->may_link = !options->is_copying;
        copy->report = print_line;
        err = filestore_copy_contents(copy, why);
    }
    blob_store_close(&copy->blobs);
    store_close(&copy->store);
    return err;
}

static enum err
back_up_to(const struct daemon_options *options, const char *to, struct filestore_copy *copy, struct err_detail *why)
{
    if (mkdir(to, S_IRWXU) != 0) {
        return err_fail(why, err_from_errno(errno), "%s cannot be made: %s", to,
            errno == EEXIST ? "a backup that was cut short has left it; remove it" : strerror(errno));
    }
    enum err err = store_back_up(options->data_dir, to, why);
    if (err == ERR_OK) {
        err = copy_contents(options, to, copy, why);
    }
    if (err == ERR_OK) {
        err = copy_keys(options->data_dir, to);
    }
    return err == ERR_OK ? file_sync_dir(to) : err;
}

enum err
daemon_backup(const struct daemon_options *options, bool *is_well_out, struct err_detail *why)
{
    char partial[PATH_MAX];
    struct filestore_copy copy = {0};
    int lock_fd = -1;

    // Under another name until it is complete.
    if (snprintf(partial, sizeof(partial), "%s.partial", options->backup_target) >= (int)sizeof(partial)) {
        return err_fail(why, ERR_INVALID, "the path of the backup is too long");
    }
    if (access(options->backup_target, F_OK) == 0) {
        return err_fail(why, ERR_EXISTS, "%s is there already: a backup makes a new folder", options->backup_target);
    }
    enum err err = require_database(options->data_dir, why);
    if (err == ERR_OK) {
        err = lock_backup(options->data_dir, &lock_fd, why);
    }
    if (err == ERR_OK) {
        err = back_up_to(options, partial, &copy, why);
    }
    if (err == ERR_OK && rename(partial, options->backup_target) != 0) {
        err = err_fail(why, err_from_errno(errno), "%s cannot be renamed: %s", partial, strerror(errno));
    }
    if (lock_fd >= 0) {
        close(lock_fd);
    }
    if (err == ERR_OK) {
        *is_well_out = copy.missing_count == 0;
        (void)printf("backed up the database and %llu contents to %s; %llu were missing\n",
            (unsigned long long)(copy.content_count - copy.missing_count), options->backup_target,
            (unsigned long long)copy.missing_count);
    } else if (why->message[0] == '\0') {
        err = err_fail(why, err, "the backup could not be made: %s", err_sentence(err));
    }
    return err;
}
