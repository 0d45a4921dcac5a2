// The memory of the last run: $FC_DATA_DIR/sync/<hash>, named after the account, the folder and the name on the server,
// with a line "fc-sync 1" and then one for each file:
//   VERSION SIZE MTIME-NS MD5 NAME
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "client/fc_store_priv.h"
#include "client/fc_sync_priv.h"

#define MAGIC "fc-sync 1\n"

enum {
    BASE_MAX_BYTES = 1 << 30,
    HASH_HEX_BYTES = 33,
    MD5_HEX_BYTES = 33,
    NUMBERS_MAX_BYTES = 160,
    FIRST_CAPACITY = 64,
};

enum err
fc_sync_files_add(struct fc_sync_files *files, const struct fc_sync_file *file)
{
    if (files->count == files->capacity) {
        size_t larger = files->capacity == 0 ? FIRST_CAPACITY : 2 * files->capacity;
        struct fc_sync_file *grown = realloc(files->files, larger * sizeof(files->files[0]));
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        files->files = grown;
        files->capacity = larger;
    }
    struct fc_sync_file *added = &files->files[files->count];
    *added = *file;
    added->name = strdup(file->name);
    if (added->name == NULL) {
        return ERR_NO_MEMORY;
    }
    files->count++;
    return ERR_OK;
}

static int
compare(const void *a, const void *b)
{
    return strcmp(((const struct fc_sync_file *)a)->name, ((const struct fc_sync_file *)b)->name);
}

void
fc_sync_files_sort(struct fc_sync_files *files)
{
    if (files->count > 1) {
        qsort(files->files, files->count, sizeof(files->files[0]), compare);
    }
}

struct fc_sync_file *
fc_sync_files_find(const struct fc_sync_files *files, const char *name)
{
    const struct fc_sync_file key = {.name = (char *)(uintptr_t)name};

    if (files->count == 0) {
        return NULL;
    }
    return bsearch(&key, files->files, files->count, sizeof(files->files[0]), compare);
}

void
fc_sync_files_free(struct fc_sync_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->files[i].name);
    }
    free(files->files);
    *files = (struct fc_sync_files){.files = NULL};
}

// read_line takes one file out of a line; false: it makes no sense.
static bool
read_line(const char *line, struct fc_sync_file *out)
{
    char md5[MD5_HEX_BYTES];
    int name_at = 0;

    // NOLINTNEXTLINE(cert-err34-c): a number out of range is another one than the file's
    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNd64 " %32s %n", &out->version, &out->size_bytes, &out->modified_ns,
            md5, &name_at) != 4 ||
        name_at == 0 || bytes_from_hex(md5, out->md5, sizeof(out->md5)) != ERR_OK ||
        text_check_file_name(line + name_at, NULL) != ERR_OK) {
        return false;
    }
    out->name = (char *)(uintptr_t)(line + name_at);
    return true;
}

static enum err
read_base(struct fc_sync_base *base)
{
    struct bytes text = {.data = NULL};

    enum err err = file_read(base->path, BASE_MAX_BYTES, &text);
    if (err == ERR_OK) {
        err = bytes_append(&text, bytes_view_of("", 1));
    }
    if (err != ERR_OK || strncmp((char *)text.data, MAGIC, strlen(MAGIC)) != 0) {
        bytes_free(&text);
        return err == ERR_NO_MEMORY ? err : ERR_OK;
    }
    char *line = (char *)text.data + strlen(MAGIC);
    char *newline;
    while (err == ERR_OK && (newline = strchr(line, '\n')) != NULL) {
        struct fc_sync_file file = {.name = NULL};
        *newline = '\0';
        if (read_line(line, &file)) {
            err = fc_sync_files_add(&base->files, &file);
        }
        line = newline + 1;
    }
    fc_sync_files_sort(&base->files);
    bytes_free(&text);
    return err;
}

static enum err
make_path(struct fc_sync_base *base, struct fc_session *session, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char sync_dir[FC_CONFIG_PATH_MAX_BYTES + 8];
    char name[HASH_HEX_BYTES];
    uint8_t hash[DIGEST_SHA256_BYTES];
    struct bytes key = {.data = NULL};
    const char *const parts[] = {fc_session_server_url(session), fc_session_user_name(session), base->remote,
        base->folder};

    enum err err = fc_store_dir(dir, why);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && err == ERR_OK; i++) {
        err = bytes_append(&key, bytes_view_of(parts[i], strlen(parts[i]) + 1));
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_as_view(&key), hash);
    }
    bytes_free(&key);
    if (err != ERR_OK) {
        return err;
    }
    bytes_to_hex(bytes_view_of(hash, HASH_HEX_BYTES / 2), name);
    (void)snprintf(sync_dir, sizeof(sync_dir), "%s/sync", dir);
    err = file_make_dirs(sync_dir, S_IRWXU);
    if (err != ERR_OK) {
        return err_fail(why, err, "cannot make %s", sync_dir);
    }
    if (snprintf(base->path, sizeof(base->path), "%s/%s", sync_dir, name) >= (int)sizeof(base->path)) {
        return err_fail(why, ERR_TOO_BIG, "the path of the data folder is too long");
    }
    return ERR_OK;
}

static enum err
take_lock(struct fc_sync_base *base, struct err_detail *why)
{
    char path[sizeof(base->path) + 8];

    (void)snprintf(path, sizeof(path), "%s.lock", base->path);
    base->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (base->lock_fd < 0) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot write %s: %s", path, strerror(error_number));
    }
    if (flock(base->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        return err_fail(why, ERR_BUSY, "\"%s\" is being synced by another process", base->folder);
    }
    return ERR_OK;
}

enum err
fc_sync_base_open(struct fc_sync_base *base, struct fc_session *session, const char *folder, const char *remote,
    struct err_detail *why)
{
    base->lock_fd = -1;
    base->remote = remote;
    base->folder = realpath(folder, NULL);
    if (base->folder == NULL) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot open the folder \"%s\": %s", folder,
            strerror(error_number));
    }
    enum err err = make_path(base, session, why);
    if (err == ERR_OK) {
        err = take_lock(base, why);
    }
    return err == ERR_OK ? read_base(base) : err;
}

enum err
fc_sync_base_write(const struct fc_sync_base *base, const struct fc_sync_files *files, struct err_detail *why)
{
    struct bytes text = {.data = NULL};
    char numbers[NUMBERS_MAX_BYTES];
    char md5[MD5_HEX_BYTES];

    enum err err = bytes_append(&text, bytes_view_of_text(MAGIC));
    for (size_t i = 0; i < files->count && err == ERR_OK; i++) {
        const struct fc_sync_file *file = &files->files[i];
        if (file->is_pending) {
            continue;
        }
        bytes_to_hex(bytes_view_of(file->md5, sizeof(file->md5)), md5);
        (void)snprintf(numbers, sizeof(numbers), "%" PRIu64 " %" PRIu64 " %" PRId64 " %s ", file->version,
            file->size_bytes, file->modified_ns, md5);
        err = bytes_append(&text, bytes_view_of_text(numbers));
        if (err == ERR_OK) {
            err = bytes_append(&text, bytes_view_of_text(file->name));
        }
        if (err == ERR_OK) {
            err = bytes_append(&text, bytes_view_of_text("\n"));
        }
    }
    if (err == ERR_OK) {
        err = file_replace(base->path, bytes_as_view(&text), S_IRUSR | S_IWUSR);
    }
    bytes_free(&text);
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "cannot write %s: %s", base->path, err_sentence(err));
}

void
fc_sync_base_close(struct fc_sync_base *base)
{
    if (base->lock_fd >= 0) {
        close(base->lock_fd);
    }
    free(base->folder);
    fc_sync_files_free(&base->files);
}
