// What a run does with one file.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "client/fc_sync_priv.h"

enum {
    ID_HEX_BYTES = 33,
    HASH_BUFFER_BYTES = 256 * 1024,
    DATE_BYTES = 32,
};

#define NS_PER_S INT64_C(1000000000)

void
fc_sync_tell(const struct fc_sync_state *run, enum fc_sync_action action, const char *name, const char *reason)
{
    run->sync->tell(run->sync->context, action, name, reason);
}

// note_failure goes on with the other files. What is remembered of this one stays as it was.
enum err
fc_sync_note_failure(struct fc_sync_state *run, const char *name, enum err err, const char *reason)
{
    run->failed++;
    if (run->first == ERR_OK) {
        run->first = err;
        err_fail(&run->first_why, err, "\"%.200s\": %.250s", name, reason);
    }
    fc_sync_tell(run, FC_SYNC_FAILED, name, reason);
    return ERR_OK;
}

enum err
fc_sync_remember(struct fc_sync_files *files, const char *name, const struct fc_sync_file *state)
{
    struct fc_sync_file file = *state;

    file.name = (char *)(uintptr_t)name; // copied
    return fc_sync_files_add(files, &file);
}

// --- The file here -------------------------------------------------------------------------------------------------

static bool
is_as_seen(const struct stat *now, const struct fc_sync_file *seen)
{
    return S_ISREG(now->st_mode) && (uint64_t)now->st_size == seen->size_bytes &&
           (int64_t)now->st_mtim.tv_sec * NS_PER_S + now->st_mtim.tv_nsec == seen->modified_ns;
}

// open_local opens a file that is as it was seen. ERR_CONFLICT: it changed meanwhile.
static enum err
open_local(struct fc_sync_state *run, const struct fc_sync_file *seen, int *fd_out, struct err_detail *why)
{
    const char *leaf = NULL;
    int dir_fd = -1;
    struct stat now;

    enum err err = fc_tree_open_parent(run->root_fd, seen->name, false, &dir_fd, &leaf, why);
    if (err != ERR_OK) {
        return err;
    }
    int fd = openat(dir_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    close(dir_fd);
    if (fd < 0 || fstat(fd, &now) != 0 || !is_as_seen(&now, seen)) {
        if (fd >= 0) {
            close(fd);
        }
        return err_fail(why, ERR_CONFLICT, "it is being changed here: sync again");
    }
    *fd_out = fd;
    return ERR_OK;
}

enum err
fc_sync_hash(struct fc_sync_state *run, const struct fc_sync_file *seen, uint8_t md5_out[DIGEST_MD5_BYTES],
    struct err_detail *why)
{
    uint8_t *buffer = malloc(HASH_BUFFER_BYTES);
    struct digest *md5 = NULL;
    int fd = -1;

    enum err err = buffer == NULL ? ERR_NO_MEMORY : open_local(run, seen, &fd, why);
    if (err == ERR_OK) {
        err = digest_new(DIGEST_MD5, &md5);
    }
    for (uint64_t at = 0; at < seen->size_bytes && err == ERR_OK; at += HASH_BUFFER_BYTES) {
        uint64_t left = seen->size_bytes - at;
        size_t size = left < HASH_BUFFER_BYTES ? (size_t)left : HASH_BUFFER_BYTES;
        err = file_read_at(fd, buffer, size, (off_t)at);
        if (err == ERR_OK) {
            err = digest_update(md5, bytes_view_of(buffer, size));
        }
    }
    if (err == ERR_OK) {
        err = digest_final(md5, md5_out);
    }
    digest_free(&md5);
    free(buffer);
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

// --- Sending --------------------------------------------------------------------------------------------------------

void
fc_sync_on_put(void *context, const char *name, const struct fc_file *file, enum err err, const char *message)
{
    struct fc_sync_state *run = context;
    const char *below = name + strlen(run->sync->remote) + 1;
    struct fc_sync_file *state = fc_sync_files_find(&run->next, below);

    if (file == NULL || state == NULL) {
        enum err ignored = fc_sync_note_failure(run, below, err, message[0] != '\0' ? message : err_sentence(err));
        (void)ignored;
        return;
    }
    state->version = file->version;
    memcpy(state->md5, file->md5, sizeof(state->md5));
    state->is_pending = false;
}

// send sends a file from here as `name`, only if the server has that version there. It is remembered in `files`.
enum err
fc_sync_send(struct fc_sync_state *run, const struct fc_sync_file *local, const char *name, uint64_t expected_version,
    struct fc_sync_files *files, struct err_detail *why)
{
    char remote_name[FC_SYNC_NAME_MAX_BYTES];
    char path[FC_CONFIG_PATH_MAX_BYTES];
    struct fc_sync_file state = *local;
    struct fc_file stored;
    int fd = -1;

    if (snprintf(remote_name, sizeof(remote_name), "%s/%s", run->sync->remote, name) >= (int)sizeof(remote_name) ||
        snprintf(path, sizeof(path), "%s/%s", run->base.folder, local->name) >= (int)sizeof(path)) {
        return err_fail(why, ERR_INVALID, "its name is too long");
    }
    enum err err = open_local(run, local, &fd, why);
    if (err != ERR_OK) {
        return err;
    }
    const struct fc_upload what = {
        .path = path,
        .has_fd = true,
        .fd = fd,
        .name = remote_name,
        .is_version_checked = true,
        .expected_version = expected_version,
    };
    if (local->size_bytes <= FC_PUT_FILE_MAX_BYTES && files == &run->next) {
        state.is_pending = true;
        err = fc_sync_remember(files, name, &state);
        if (err == ERR_OK) {
            err = fc_put_add(run->put, &what, why);
        }
    } else {
        err = fc_file_send(run->session, &what, &run->options, &stored, why);
        if (err == ERR_OK) {
            state.version = stored.version;
            memcpy(state.md5, stored.md5, sizeof(state.md5));
            err = fc_sync_remember(files, name, &state);
        }
    }
    close(fd);
    return err;
}

// --- Fetching -------------------------------------------------------------------------------------------------------

struct target {
    int dir_fd;
    const char *leaf;
    const struct fc_sync_file *seen; // what may be replaced; NULL: nothing
};

static enum err
check_target(void *context, struct err_detail *why)
{
    const struct target *target = context;
    struct stat now;

    bool is_there = fstatat(target->dir_fd, target->leaf, &now, AT_SYMLINK_NOFOLLOW) == 0;
    if (target->seen == NULL ? is_there : !is_there || !is_as_seen(&now, target->seen)) {
        return err_fail(why, ERR_CONFLICT, "it is being changed here: sync again");
    }
    return ERR_OK;
}

// fetch brings a file here and replaces what was seen.
enum err
fc_sync_fetch(struct fc_sync_state *run, const char *name, const struct fc_remote *remote,
    const struct fc_sync_file *seen, struct err_detail *why)
{
    struct target target = {.dir_fd = -1, .seen = seen};
    char id[ID_HEX_BYTES];
    struct fc_file file;
    struct stat now;
    bool is_skipped = false;
    struct fc_sync_file state = {.version = remote->version};

    enum err err = fc_tree_open_parent(run->root_fd, name, true, &target.dir_fd, &target.leaf, why);
    if (err != ERR_OK) {
        return err;
    }
    bytes_to_hex(bytes_view_of(remote->id, sizeof(remote->id)), id);
    const struct fc_download what = {
        .file = id,
        .path = target.leaf,
        .has_dir_fd = true,
        .dir_fd = target.dir_fd,
        .policy = seen != NULL ? FC_DOWNLOAD_REPLACE : FC_DOWNLOAD_FAIL,
        .may_finish = check_target,
        .context = &target,
    };
    err = fc_file_fetch(run->session, &what, &run->options, &file, &is_skipped, why);
    if (err == ERR_OK && fstatat(target.dir_fd, target.leaf, &now, AT_SYMLINK_NOFOLLOW) == 0) {
        state.size_bytes = file.size_bytes;
        state.modified_ns = (int64_t)now.st_mtim.tv_sec * NS_PER_S + now.st_mtim.tv_nsec;
        memcpy(state.md5, file.md5, sizeof(state.md5));
        err = fc_sync_remember(&run->next, name, &state);
    }
    close(target.dir_fd);
    return err;
}

// --- Deleting -------------------------------------------------------------------------------------------------------

enum err
fc_sync_delete_here(struct fc_sync_state *run, const struct fc_sync_file *local, struct err_detail *why)
{
    struct target target = {.dir_fd = -1, .seen = local};

    enum err err = fc_tree_open_parent(run->root_fd, local->name, false, &target.dir_fd, &target.leaf, why);
    if (err != ERR_OK) {
        return err;
    }
    err = check_target(&target, why);
    if (err == ERR_OK && unlinkat(target.dir_fd, target.leaf, 0) != 0) {
        int error_number = errno;
        err = err_fail(why, err_from_errno(error_number), "cannot delete it: %s", strerror(error_number));
    }
    close(target.dir_fd);
    return err;
}

// delete_there deletes a name that has still the version that was seen. A version that comes in this very moment can be
// brought back with the others.
enum err
fc_sync_delete_there(struct fc_sync_state *run, const struct fc_remote *remote, struct err_detail *why)
{
    struct fc_file file;

    enum err err = fc_file_stat(run->session, remote->name, &file, why);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_OK && file.version != remote->version) {
        return err_fail(why, ERR_CONFLICT, "it was changed on the server: sync again");
    }
    return err == ERR_OK ? fc_file_remove(run->session, remote->name, 0, why) : err;
}

// --- Conflicts ------------------------------------------------------------------------------------------------------

static enum err
name_copy(const struct fc_sync_state *run, const char *name, char out[FC_SYNC_NAME_MAX_BYTES], struct err_detail *why)
{
    char date[DATE_BYTES];
    struct tm now;
    time_t seconds = time(NULL);
    const char *user = fc_session_user_name(run->session);

    if (gmtime_r(&seconds, &now) == NULL || strftime(date, sizeof(date), "%Y%m%d-%H%M%S", &now) == 0 ||
        snprintf(out, FC_SYNC_NAME_MAX_BYTES, "%s.conflict-%s-%s", name, user[0] != '\0' ? user : "me", date) >=
            FC_SYNC_NAME_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "its name is too long");
    }
    return text_check_file_name(out, why);
}

// move_aside gives the file here the name of a copy.
static enum err
move_aside(struct fc_sync_state *run, const struct fc_sync_file *local, const char *copy, struct err_detail *why)
{
    struct target target = {.dir_fd = -1, .seen = local};
    const char *slash = strrchr(copy, '/');
    const char *copy_leaf = slash != NULL ? slash + 1 : copy;

    enum err err = fc_tree_open_parent(run->root_fd, local->name, false, &target.dir_fd, &target.leaf, why);
    if (err != ERR_OK) {
        return err;
    }
    err = check_target(&target, why);
    if (err == ERR_OK && renameat2(target.dir_fd, target.leaf, target.dir_fd, copy_leaf, RENAME_NOREPLACE) != 0) {
        int error_number = errno;
        err = err_fail(why, err_from_errno(error_number), "cannot rename it to \"%s\": %s", copy_leaf,
            strerror(error_number));
    }
    close(target.dir_fd);
    return err;
}

// keep_both makes two files of one that has changed on both sides.
enum err
fc_sync_keep_both(struct fc_sync_state *run, const struct fc_sync_item *item, struct err_detail *why)
{
    char copy[FC_SYNC_NAME_MAX_BYTES];

    enum err err = name_copy(run, item->name, copy, why);
    if (err == ERR_OK) {
        err = move_aside(run, item->local, copy, why);
    }
    if (err == ERR_OK) {
        err = fc_sync_fetch(run, item->name, item->remote, NULL, why);
    }
    if (err == ERR_OK) {
        struct fc_sync_file moved = *item->local;
        moved.name = copy;
        err = fc_sync_send(run, &moved, copy, 0, &run->copies, why);
    }
    return err;
}
