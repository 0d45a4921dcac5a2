// Files on a file system: written in place by two threads, finished by a rename.
//
// Two threads, so that one copies pieces to the system while the other waits for the disk. Whatever has gathered
// meanwhile is taken at once and costs one sync for each file that it touches. One mutex guards the queue; nothing
// is called under it.
#include "services/store/blob.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "services/store/blob_direct_priv.h"
#include "services/store/blob_files_priv.h"

enum {
    WRITERS = 2,
    // These bound how long the first piece of a batch waits for the last, and other syncs of the disk for this one.
    BATCH_PIECES_MAX = 32,
    BATCH_BYTES_MAX = 8 * 1024 * 1024, // but one piece at least
    // What an upload leaves for the database and everybody else.
    RESERVE_BYTES = 16 * 1024 * 1024,
    DIGEST_STEP_BYTES = 256 * 1024, // stays in the processor's cache from one digest to the other
    OBJECT_FOLDERS = 256,
};

struct blob_store {
    // Immutable after open.
    int uploads; // descriptors of the folders
    int objects;
    pthread_t writers[WRITERS];
    unsigned writer_count;

    struct blob_files files;

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct {
        struct blob_write *first;
        struct blob_write **end; // where the next one is linked in
        unsigned idle_writers;
        bool is_closing;
    } locked; // guarded by mutex
};

// A piece while its batch is being written.
struct piece {
    struct blob_write *write;
    struct blob_file *file; // NULL: there is none, or it is synced
    unsigned sync_failures; // of the file before the piece was written
};

static enum err
write_piece(struct blob_store *store, struct piece *piece, uint8_t *step)
{
    const struct blob_write *write = piece->write;
    if (write->offset > INT64_MAX || write->data.size > INT64_MAX - write->offset) {
        return ERR_INVALID;
    }
    enum err err = blob_files_take(&store->files, BLOB_UPLOAD, write->id, &piece->file);
    if (err != ERR_OK) {
        return err;
    }
    piece->sync_failures = atomic_load(&piece->file->sync_failures);
    if (blob_direct_write(piece->file, write, step, &err)) {
        return err;
    }
    return file_write_at(piece->file->fd, write->data, (off_t)write->offset);
}

// Syncs a file and says in failures_out how often that has failed so far. One at a time, so that the second writer
// learns of a failure that the first was told.
static enum err
sync_file(struct blob_file *file, unsigned *failures_out)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&file->sync_mutex);
    if (fdatasync(file->fd) != 0) {
        int cause = errno;
        err = err_from_errno(cause);
        atomic_fetch_add(&file->sync_failures, 1);
        log_error("BLOB-SYNC", NULL, "an upload could not be written to the disk: %s", strerrordesc_np(cause));
    }
    *failures_out = atomic_load(&file->sync_failures);
    pthread_mutex_unlock(&file->sync_mutex);
    return err;
}

// Syncs the file of the first of these pieces and settles all that are in the same file.
static void
sync_pieces(struct blob_store *store, struct piece *pieces, size_t count)
{
    struct blob_file *file = pieces[0].file;
    unsigned failures = 0;
    enum err err = sync_file(file, &failures);
    for (size_t i = 0; i < count; i++) {
        struct piece *piece = &pieces[i];
        if (piece->file != file) {
            continue;
        }
        if (piece->write->result == ERR_OK && piece->sync_failures != failures) {
            piece->write->result = err != ERR_OK ? err : ERR_IO;
        }
        piece->file = NULL;
        blob_files_give_back(&store->files, file);
    }
}

static void
write_batch(struct blob_store *store, struct blob_write *batch, uint8_t *step)
{
    struct piece pieces[BATCH_PIECES_MAX];
    size_t count = 0;
    for (struct blob_write *write = batch; write != NULL; write = write->next) {
        pieces[count] = (struct piece){.write = write};
        write->result = write_piece(store, &pieces[count], step);
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].file != NULL) {
            sync_pieces(store, &pieces[i], count - i);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct blob_write *write = pieces[i].write; // done may free it
        write->done(write, write->result);
    }
}

static struct blob_write *
take_batch_locked(struct blob_store *store)
{
    struct blob_write *first = store->locked.first;
    struct blob_write *last = first;
    size_t bytes = first->data.size;
    for (int i = 1; i < BATCH_PIECES_MAX && last->next != NULL; i++) {
        bytes += last->next->data.size;
        if (bytes > BATCH_BYTES_MAX) {
            break;
        }
        last = last->next;
    }
    store->locked.first = last->next;
    last->next = NULL;
    if (store->locked.first == NULL) {
        store->locked.end = &store->locked.first;
    }
    return first;
}

static void *
run_writer(void *context)
{
    struct blob_store *store = context;
    thread_give_way();
    // Without it everything goes through the system's cache.
    uint8_t *step = aligned_alloc(BLOB_ALIGNMENT_BYTES, BLOB_DIRECT_STEP_BYTES);
    pthread_mutex_lock(&store->mutex);
    for (;;) {
        if (store->locked.first != NULL) {
            struct blob_write *batch = take_batch_locked(store);
            pthread_mutex_unlock(&store->mutex);
            write_batch(store, batch, step);
            pthread_mutex_lock(&store->mutex);
        } else if (store->locked.is_closing) {
            break;
        } else {
            store->locked.idle_writers++;
            pthread_cond_wait(&store->wake, &store->mutex);
            store->locked.idle_writers--;
        }
    }
    pthread_mutex_unlock(&store->mutex);
    free(step);
    return NULL;
}

void
blob_upload_write(struct blob_store *store, struct blob_write *write)
{
    write->next = NULL;
    pthread_mutex_lock(&store->mutex);
    *store->locked.end = write;
    store->locked.end = &write->next;
    if (store->locked.idle_writers > 0) {
        pthread_cond_signal(&store->wake);
    }
    pthread_mutex_unlock(&store->mutex);
}

static enum err
sync_folder(int folder)
{
    return fsync(folder) == 0 ? ERR_OK : err_from_errno(errno);
}

enum err
blob_upload_create(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t size_bytes)
{
    struct statvfs disk;
    if (fstatvfs(store->uploads, &disk) != 0) {
        return err_from_errno(errno);
    }
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (free_bytes < RESERVE_BYTES || size_bytes > free_bytes - RESERVE_BYTES) {
        return ERR_NO_SPACE;
    }
    char name[BLOB_NAME_BYTES];
    blob_file_name(BLOB_UPLOAD, id, name);
    int fd = openat(store->uploads, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    (void)close(fd);
    return sync_folder(store->uploads);
}

static enum err
digest_fd(int fd, uint64_t size_bytes, struct md5_chain *md5, struct sha256_chain *sha256, uint8_t *step)
{
    uint8_t unused[DIGEST_SHA256_BYTES]; // of each step
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (uint64_t offset = md5->size_bytes; offset < size_bytes;) {
        uint64_t left = size_bytes - offset;
        size_t size = left < DIGEST_STEP_BYTES ? (size_t)left : DIGEST_STEP_BYTES;
        enum err err = file_read_at(fd, step, size, (off_t)offset);
        if (err == ERR_OK) {
            err = md5_chain_add(md5, bytes_view_of(step, size), unused, NULL);
        }
        if (err == ERR_OK) {
            err = sha256_chain_add(sha256, bytes_view_of(step, size), unused);
        }
        if (err != ERR_OK) {
            return err;
        }
        offset += size;
    }
    return ERR_OK;
}

enum err
blob_upload_digest(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t size_bytes,
    struct md5_chain *md5, struct sha256_chain *sha256)
{
    struct blob_file *file = NULL;
    uint8_t *step = malloc(DIGEST_STEP_BYTES);
    enum err err = step == NULL ? ERR_NO_MEMORY : blob_files_take(&store->files, BLOB_UPLOAD, id, &file);
    if (err == ERR_OK) {
        err = digest_fd(file->fd, size_bytes, md5, sha256, step);
        blob_files_give_back(&store->files, file);
    }
    free(step);
    return err;
}

static enum err
sync_object_folder(struct blob_store *store, const char *object_name)
{
    const char folder[] = {object_name[0], object_name[1], '\0'};
    int fd = openat(store->objects, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = sync_folder(fd);
    (void)close(fd);
    return err;
}

enum err
blob_upload_finish(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES])
{
    char upload_name[BLOB_NAME_BYTES];
    char object_name[BLOB_NAME_BYTES];
    blob_file_name(BLOB_UPLOAD, id, upload_name);
    blob_file_name(BLOB_OBJECT, id, object_name);

    struct blob_file *file = NULL;
    enum err err = blob_files_take(&store->files, BLOB_UPLOAD, id, &file);
    if (err == ERR_OK) {
        if (fsync(file->fd) != 0 || renameat(store->uploads, upload_name, store->objects, object_name) != 0) {
            err = err_from_errno(errno);
        }
        blob_files_give_back(&store->files, file);
        blob_files_forget(&store->files, BLOB_UPLOAD, id);
    }
    if (err == ERR_NOT_FOUND) {
        // Finished before, perhaps just now by somebody who has not synced the folders yet.
        err = faccessat(store->objects, object_name, F_OK, 0) == 0 ? ERR_OK : err_from_errno(errno);
    }
    if (err == ERR_OK) {
        err = sync_object_folder(store, object_name);
    }
    return err == ERR_OK ? sync_folder(store->uploads) : err;
}

enum err
blob_upload_cancel(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES])
{
    char name[BLOB_NAME_BYTES];
    blob_file_name(BLOB_UPLOAD, id, name);
    // Not synced: should it come back after a crash, the sweep at start-up finds it.
    if (unlinkat(store->uploads, name, 0) != 0 && errno != ENOENT) {
        return err_from_errno(errno);
    }
    blob_files_forget(&store->files, BLOB_UPLOAD, id);
    return ERR_OK;
}

enum err
blob_remove(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES])
{
    char name[BLOB_NAME_BYTES];
    blob_file_name(BLOB_OBJECT, id, name);
    // The upload first: so an upload that is just being finished is caught under one name or the other.
    enum err err = blob_upload_cancel(store, id);
    if (err == ERR_OK && unlinkat(store->objects, name, 0) != 0 && errno != ENOENT) {
        err = err_from_errno(errno);
    }
    blob_files_forget(&store->files, BLOB_OBJECT, id);
    return err;
}

enum err
blob_sync_removed(struct blob_store *store, struct bytes_view ids)
{
    bool is_synced[OBJECT_FOLDERS] = {false};
    enum err err = sync_folder(store->uploads);
    for (size_t at = 0; err == ERR_OK && at + BLOB_ID_BYTES <= ids.size; at += BLOB_ID_BYTES) {
        if (!is_synced[ids.data[at]]) {
            char name[BLOB_NAME_BYTES];
            blob_file_name(BLOB_OBJECT, ids.data + at, name);
            err = sync_object_folder(store, name);
            is_synced[ids.data[at]] = true;
        }
    }
    return err;
}

static enum err
read_kind(struct blob_store *store, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES], uint64_t offset, void *out,
    size_t size)
{
    if (offset > INT64_MAX || size > INT64_MAX - offset) {
        return ERR_OUT_OF_RANGE;
    }
    struct blob_file *file = NULL;
    enum err err = blob_files_take(&store->files, kind, id, &file);
    if (err == ERR_OK) {
        if (!blob_direct_read(file, offset, out, size)) {
            err = file_read_at(file->fd, out, size, (off_t)offset);
        }
        blob_files_give_back(&store->files, file);
    }
    return err;
}

enum err
blob_read(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t offset, void *out, size_t size)
{
    return read_kind(store, BLOB_OBJECT, id, offset, out, size);
}

enum err
blob_read_upload(struct blob_store *store, const uint8_t id[BLOB_ID_BYTES], uint64_t offset, void *out, size_t size)
{
    return read_kind(store, BLOB_UPLOAD, id, offset, out, size);
}

static enum err
each_in(int parent, const char *name, void (*fn)(void *context, const uint8_t id[BLOB_ID_BYTES]), void *context)
{
    // A descriptor of its own, because the position in the folder belongs to it.
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    DIR *uploads = fdopendir(fd);
    if (uploads == NULL) {
        (void)close(fd);
        return ERR_NO_MEMORY;
    }
    errno = 0;
    for (struct dirent *entry = readdir(uploads); entry != NULL; entry = readdir(uploads)) {
        uint8_t id[BLOB_ID_BYTES];
        if (bytes_from_hex(entry->d_name, id, sizeof(id)) == ERR_OK) {
            fn(context, id);
        }
        errno = 0; // readdir says by it whether NULL is the end or an error
    }
    enum err err = errno == 0 ? ERR_OK : err_from_errno(errno);
    (void)closedir(uploads);
    return err;
}

enum err
blob_upload_each(struct blob_store *store, void (*fn)(void *context, const uint8_t id[BLOB_ID_BYTES]), void *context)
{
    return each_in(store->uploads, ".", fn, context);
}

enum err
blob_object_each(struct blob_store *store, void (*fn)(void *context, const uint8_t id[BLOB_ID_BYTES]), void *context)
{
    enum err err = ERR_OK;
    for (unsigned i = 0; err == ERR_OK && i < OBJECT_FOLDERS; i++) {
        char name[3];
        bytes_to_hex(bytes_view_of(&(uint8_t){(uint8_t)i}, 1), name);
        err = each_in(store->objects, name, fn, context);
    }
    return err;
}

static enum err
copy_bytes(int from, int to)
{
    uint8_t *step = malloc(DIGEST_STEP_BYTES);
    enum err err = step == NULL ? ERR_NO_MEMORY : ERR_OK;
    while (err == ERR_OK) {
        ssize_t size = read(from, step, DIGEST_STEP_BYTES);
        if (size == 0) {
            break;
        }
        if (size > 0) {
            err = file_write_all(to, bytes_view_of(step, (size_t)size));
        } else if (errno != EINTR) {
            err = err_from_errno(errno);
        }
    }
    free(step);
    if (err == ERR_OK && fsync(to) != 0) {
        err = err_from_errno(errno);
    }
    return err;
}

static enum err
copy_file(struct blob_store *to, const char *from_path, const char *object_name)
{
    int from = open(from_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0) {
        return err_from_errno(errno);
    }
    int fd = openat(to->objects, object_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    enum err err = fd < 0 ? err_from_errno(errno) : copy_bytes(from, fd);
    (void)close(from);
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

static enum err
copy_from(struct blob_store *to, const char *from_path, const char *object_name, bool may_link)
{
    // EXDEV, EPERM and the like: another file system, or one without links.
    if (may_link && linkat(AT_FDCWD, from_path, to->objects, object_name, 0) == 0) {
        return ERR_OK;
    }
    return may_link && errno == ENOENT ? ERR_NOT_FOUND : copy_file(to, from_path, object_name);
}

enum err
blob_copy(struct blob_store *to, const char *from_dir, const uint8_t id[BLOB_ID_BYTES], bool may_link)
{
    char object_name[BLOB_NAME_BYTES];
    char path[PATH_MAX];
    enum err err = ERR_NOT_FOUND;
    blob_file_name(BLOB_OBJECT, id, object_name);
    // Twice as an object, because the upload may become one between the first look and the second.
    for (int i = 0; err == ERR_NOT_FOUND && i < 3; i++) {
        const char *hex = i == 1 ? object_name + 3 : object_name;
        int length = snprintf(path, sizeof(path), "%s/%s/%s", from_dir, i == 1 ? "uploads" : "objects", hex);
        if (length < 0 || (size_t)length >= sizeof(path)) {
            return ERR_TOO_BIG;
        }
        err = copy_from(to, path, object_name, may_link);
    }
    return err == ERR_OK ? sync_object_folder(to, object_name) : err;
}

static enum err
open_folder(int parent, const char *name, int *out)
{
    if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST) {
        return err_from_errno(errno);
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    *out = fd;
    return ERR_OK;
}

// All of them at once, so that finishing an upload does not have to make and sync one.
static enum err
make_object_folders(int objects)
{
    for (unsigned i = 0; i < OBJECT_FOLDERS; i++) {
        char name[3];
        bytes_to_hex(bytes_view_of(&(uint8_t){(uint8_t)i}, 1), name);
        if (mkdirat(objects, name, 0700) != 0 && errno != EEXIST) {
            return err_from_errno(errno);
        }
    }
    return sync_folder(objects);
}

static enum err
open_folders(struct blob_store *store, const char *dir)
{
    enum err err = file_make_dirs(dir, 0700);
    if (err != ERR_OK) {
        return err;
    }
    int parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) {
        return err_from_errno(errno);
    }
    err = open_folder(parent, "uploads", &store->uploads);
    if (err == ERR_OK) {
        err = open_folder(parent, "objects", &store->objects);
    }
    if (err == ERR_OK) {
        err = make_object_folders(store->objects);
    }
    if (err == ERR_OK) {
        err = sync_folder(parent);
    }
    (void)close(parent);
    return err;
}

enum err
blob_store_open(const char *dir, struct blob_store **out, struct err_detail *why)
{
    struct blob_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the files in %s", dir);
    }
    store->uploads = -1;
    store->objects = -1;
    store->locked.end = &store->locked.first;
    // With default attributes these cannot fail on Linux.
    (void)pthread_mutex_init(&store->mutex, NULL);
    (void)pthread_cond_init(&store->wake, NULL);
    enum err err = open_folders(store, dir);
    blob_files_init(&store->files, store->uploads, store->objects);
    while (err == ERR_OK && store->writer_count < WRITERS) {
        err = thread_start(&store->writers[store->writer_count], "blob-writer", run_writer, store);
        store->writer_count += err == ERR_OK;
    }
    if (err != ERR_OK) {
        blob_store_close(&store);
        return err_fail(why, err, "cannot keep files in %s: %s", dir, err_sentence(err));
    }
    *out = store;
    return ERR_OK;
}

void
blob_store_close(struct blob_store **store_in)
{
    struct blob_store *store = *store_in;
    if (store == NULL) {
        return;
    }
    pthread_mutex_lock(&store->mutex);
    store->locked.is_closing = true;
    pthread_cond_broadcast(&store->wake);
    pthread_mutex_unlock(&store->mutex);
    for (unsigned i = 0; i < store->writer_count; i++) {
        (void)pthread_join(store->writers[i], NULL);
    }
    blob_files_deinit(&store->files);
    if (store->objects >= 0) {
        (void)close(store->objects);
    }
    if (store->uploads >= 0) {
        (void)close(store->uploads);
    }
    pthread_cond_destroy(&store->wake);
    pthread_mutex_destroy(&store->mutex);
    free(store);
    *store_in = NULL;
}
