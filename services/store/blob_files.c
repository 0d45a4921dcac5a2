#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/store/blob_files_priv.h"

enum {
    // Uploads and downloads that are under way at once keep their files open up to this many.
    OPEN_FILES_MAX = 64,
};

void
blob_file_name(enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES], char name_out[BLOB_NAME_BYTES])
{
    if (kind == BLOB_OBJECT) {
        bytes_to_hex(bytes_view_of(id, 1), name_out);
        name_out[2] = '/';
        name_out += 3;
    }
    bytes_to_hex(bytes_view_of(id, BLOB_ID_BYTES), name_out);
}

void
blob_files_init(struct blob_files *files, int uploads, int objects)
{
    files->folders[BLOB_UPLOAD] = uploads;
    files->folders[BLOB_OBJECT] = objects;
    (void)pthread_mutex_init(&files->mutex, NULL); // cannot fail with default attributes
    TAILQ_INIT(&files->locked.recent);
    files->locked.count = 0;
}

static void
close_file(struct blob_file *file)
{
    (void)close(file->fd);
    if (file->direct_fd >= 0) {
        (void)close(file->direct_fd);
    }
    pthread_mutex_destroy(&file->direct_mutex);
    pthread_mutex_destroy(&file->sync_mutex);
    free(file);
}

static void
unlist_locked(struct blob_files *files, struct blob_file *file)
{
    TAILQ_REMOVE(&files->locked.recent, file, link);
    files->locked.count--;
    file->is_listed = false;
    if (file->users == 0) {
        close_file(file);
    }
}

void
blob_files_deinit(struct blob_files *files)
{
    struct blob_file *file = TAILQ_FIRST(&files->locked.recent);
    while (file != NULL) {
        struct blob_file *next = TAILQ_NEXT(file, link);
        close_file(file);
        file = next;
    }
    pthread_mutex_destroy(&files->mutex);
}

static struct blob_file *
find_locked(struct blob_files *files, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES])
{
    struct blob_file *file = NULL;
    TAILQ_FOREACH(file, &files->locked.recent, link)
    {
        if (file->kind == kind && memcmp(file->id, id, BLOB_ID_BYTES) == 0) {
            return file;
        }
    }
    return NULL;
}

static enum err
open_locked(struct blob_files *files, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES], struct blob_file **out)
{
    struct blob_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return ERR_NO_MEMORY;
    }
    char name[BLOB_NAME_BYTES];
    blob_file_name(kind, id, name);
    struct stat status;
    file->fd = openat(files->folders[kind], name, (kind == BLOB_UPLOAD ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (file->fd < 0) {
        enum err err = err_from_errno(errno);
        free(file);
        return err;
    }
    file->object_bytes = kind == BLOB_OBJECT && fstat(file->fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    (void)pthread_mutex_init(&file->sync_mutex, NULL); // cannot fail with default attributes
    (void)pthread_mutex_init(&file->direct_mutex, NULL);
    file->direct_fd = BLOB_DIRECT_NOT_OPEN;
    file->kind = kind;
    memcpy(file->id, id, BLOB_ID_BYTES);
    file->is_listed = true;
    TAILQ_INSERT_HEAD(&files->locked.recent, file, link);
    files->locked.count++;
    *out = file;
    return ERR_OK;
}

// Closes those that were used longest ago, but for the ones in use.
static void
trim_locked(struct blob_files *files)
{
    struct blob_file *file = TAILQ_LAST(&files->locked.recent, blob_file_list);
    while (file != NULL && files->locked.count > OPEN_FILES_MAX) {
        struct blob_file *newer = TAILQ_PREV(file, blob_file_list, link);
        if (file->users == 0) {
            unlist_locked(files, file);
        }
        file = newer;
    }
}

enum err
blob_files_take(struct blob_files *files, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES], struct blob_file **out)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&files->mutex);
    struct blob_file *file = find_locked(files, kind, id);
    if (file == NULL) {
        // Under the lock, so that no file is listed any more once blob_files_forget has returned.
        err = open_locked(files, kind, id, &file);
        if (err != ERR_OK) {
            goto out;
        }
    }
    TAILQ_REMOVE(&files->locked.recent, file, link);
    TAILQ_INSERT_HEAD(&files->locked.recent, file, link);
    file->users++;
    trim_locked(files);
    *out = file;
out:
    pthread_mutex_unlock(&files->mutex);
    return err;
}

void
blob_files_give_back(struct blob_files *files, struct blob_file *file)
{
    pthread_mutex_lock(&files->mutex);
    file->users--;
    if (file->is_listed) {
        trim_locked(files);
    } else if (file->users == 0) {
        close_file(file);
    }
    pthread_mutex_unlock(&files->mutex);
}

void
blob_files_forget(struct blob_files *files, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES])
{
    pthread_mutex_lock(&files->mutex);
    struct blob_file *file = find_locked(files, kind, id);
    if (file != NULL) {
        unlist_locked(files, file);
    }
    pthread_mutex_unlock(&files->mutex);
}
