// One run looks at both sides, decides for each name, and acts. A run that is killed loses its memory only: what it has
// made alike is found alike by the next one.
#include "client/fc_sync.h"

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
#include "client/fc_tree.h"

enum {
    NAME_MAX_BYTES = 2048, // longer than any that the server takes
    ID_HEX_BYTES = 33,
    HASH_BUFFER_BYTES = 256 * 1024,
    DATE_BYTES = 32,
};

#define NS_PER_S INT64_C(1000000000)

struct run {
    struct fc_session *session;
    const struct fc_sync *sync;
    struct err_detail *why;
    int root_fd;
    struct fc_sync_base base;
    struct fc_sync_files local;
    struct fc_remote_list remote;
    struct fc_sync_files next;   // what will be remembered, in the order of the names
    struct fc_sync_files copies; // of conflicts; remembered, too
    struct fc_put *put;
    struct fc_transfer_options options;
    uint64_t failed;
    enum err first;
    struct err_detail first_why;
};

// item is one name on all sides; NULL where it is not.
struct item {
    const char *name;
    const struct fc_sync_file *local;
    const struct fc_remote *remote;
    const struct fc_sync_file *base;
    bool is_local_changed; // since the base; also: made or deleted
    bool is_remote_changed;
};

static void
tell(const struct run *run, enum fc_sync_action action, const char *name, const char *reason)
{
    run->sync->tell(run->sync->context, action, name, reason);
}

// note_failure goes on with the other files. What is remembered of this one stays as it was.
static enum err
note_failure(struct run *run, const char *name, enum err err, const char *reason)
{
    run->failed++;
    if (run->first == ERR_OK) {
        run->first = err;
        err_fail(&run->first_why, err, "\"%.200s\": %.250s", name, reason);
    }
    tell(run, FC_SYNC_FAILED, name, reason);
    return ERR_OK;
}

static bool
is_fatal(enum err err)
{
    return err == ERR_NO_MEMORY || err == ERR_UNAVAILABLE || err == ERR_CLOSED || err == ERR_TIMEOUT ||
           err == ERR_UNAUTHENTICATED || err == ERR_CANCELLED || err == ERR_NO_SPACE || err == ERR_UNIMPLEMENTED;
}

static enum err
remember(struct fc_sync_files *files, const char *name, const struct fc_sync_file *state)
{
    struct fc_sync_file file = *state;

    file.name = (char *)(uintptr_t)name; // copied
    return fc_sync_files_add(files, &file);
}

// --- What is here ---------------------------------------------------------------------------------------------------

static bool
ends_with(const char *name, const char *end)
{
    size_t size = strlen(name);
    size_t end_size = strlen(end);
    return size > end_size && strcmp(name + size - end_size, end) == 0;
}

static enum err
visit(void *context, const struct fc_tree_entry *entry, struct err_detail *why)
{
    struct run *run = context;
    const struct fc_sync_file file = {
        .name = (char *)(uintptr_t)entry->name,
        .size_bytes = entry->size_bytes,
        .modified_ns = entry->modified_ns,
        .inode = entry->inode,
    };

    (void)why;
    if (ends_with(entry->name, ".part") || ends_with(entry->name, ".part.journal")) {
        tell(run, FC_SYNC_SKIPPED, entry->name, "it belongs to a download that has not ended");
        return ERR_OK;
    }
    return fc_sync_files_add(&run->local, &file);
}

static void
on_skipped(void *context, const char *name, const char *reason)
{
    tell(context, FC_SYNC_SKIPPED, name, reason);
}

static bool
is_as_seen(const struct stat *now, const struct fc_sync_file *seen)
{
    return S_ISREG(now->st_mode) && (uint64_t)now->st_size == seen->size_bytes &&
           (int64_t)now->st_mtim.tv_sec * NS_PER_S + now->st_mtim.tv_nsec == seen->modified_ns;
}

// open_local opens a file that is as it was seen. ERR_CONFLICT: it changed meanwhile.
static enum err
open_local(struct run *run, const struct fc_sync_file *seen, int *fd_out, struct err_detail *why)
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

static enum err
hash_local(struct run *run, const struct fc_sync_file *seen, uint8_t md5_out[DIGEST_MD5_BYTES], struct err_detail *why)
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

static void
on_put(void *context, const char *name, const struct fc_file *file, enum err err, const char *message)
{
    struct run *run = context;
    const char *below = name + strlen(run->sync->remote) + 1;
    struct fc_sync_file *state = fc_sync_files_find(&run->next, below);

    if (file == NULL || state == NULL) {
        enum err ignored = note_failure(run, below, err, message[0] != '\0' ? message : err_sentence(err));
        (void)ignored;
        return;
    }
    state->version = file->version;
    memcpy(state->md5, file->md5, sizeof(state->md5));
    state->is_pending = false;
}

// send sends a file from here as `name`, only if the server has that version there. It is remembered in `files`.
static enum err
send_file(struct run *run, const struct fc_sync_file *local, const char *name, uint64_t expected_version,
    struct fc_sync_files *files, struct err_detail *why)
{
    char remote_name[NAME_MAX_BYTES];
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
        err = remember(files, name, &state);
        if (err == ERR_OK) {
            err = fc_put_add(run->put, &what, why);
        }
    } else {
        err = fc_file_send(run->session, &what, &run->options, &stored, why);
        if (err == ERR_OK) {
            state.version = stored.version;
            memcpy(state.md5, stored.md5, sizeof(state.md5));
            err = remember(files, name, &state);
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
static enum err
fetch(struct run *run, const char *name, const struct fc_remote *remote, const struct fc_sync_file *seen,
    struct err_detail *why)
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
        err = remember(&run->next, name, &state);
    }
    close(target.dir_fd);
    return err;
}

// --- Deleting -------------------------------------------------------------------------------------------------------

static enum err
delete_here(struct run *run, const struct fc_sync_file *local, struct err_detail *why)
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
static enum err
delete_there(struct run *run, const struct fc_remote *remote, struct err_detail *why)
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
name_copy(const struct run *run, const char *name, char out[NAME_MAX_BYTES], struct err_detail *why)
{
    char date[DATE_BYTES];
    struct tm now;
    time_t seconds = time(NULL);
    const char *user = fc_session_user_name(run->session);

    if (gmtime_r(&seconds, &now) == NULL || strftime(date, sizeof(date), "%Y%m%d-%H%M%S", &now) == 0 ||
        snprintf(out, NAME_MAX_BYTES, "%s.conflict-%s-%s", name, user[0] != '\0' ? user : "me", date) >=
            NAME_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "its name is too long");
    }
    return text_check_file_name(out, why);
}

// move_aside gives the file here the name of a copy.
static enum err
move_aside(struct run *run, const struct fc_sync_file *local, const char *copy, struct err_detail *why)
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
static enum err
keep_both(struct run *run, const struct item *item, struct err_detail *why)
{
    char copy[NAME_MAX_BYTES];

    enum err err = name_copy(run, item->name, copy, why);
    if (err == ERR_OK) {
        err = move_aside(run, item->local, copy, why);
    }
    if (err == ERR_OK) {
        err = fetch(run, item->name, item->remote, NULL, why);
    }
    if (err == ERR_OK) {
        struct fc_sync_file moved = *item->local;
        moved.name = copy;
        err = send_file(run, &moved, copy, 0, &run->copies, why);
    }
    return err;
}

// --- Deciding -------------------------------------------------------------------------------------------------------

// compare_sides finds out what has changed since the base. A new time or a new version of the same content is no
// change.
static enum err
compare_sides(struct run *run, struct item *item, bool *is_alike_out, struct err_detail *why)
{
    const struct fc_sync_file *base = item->base;
    uint8_t md5[DIGEST_MD5_BYTES];
    bool has_md5 = false;

    *is_alike_out = false;
    item->is_remote_changed =
        base == NULL || item->remote == NULL
            ? (base != NULL) != (item->remote != NULL)
            : item->remote->version != base->version && memcmp(item->remote->md5, base->md5, sizeof(md5)) != 0;
    if (item->local == NULL) {
        item->is_local_changed = base != NULL;
        return ERR_OK;
    }
    item->is_local_changed =
        base == NULL || item->local->size_bytes != base->size_bytes || item->local->modified_ns != base->modified_ns;
    bool is_maybe_same = base != NULL && item->local->size_bytes == base->size_bytes;
    bool is_maybe_alike = item->remote != NULL && item->local->size_bytes == item->remote->size_bytes;
    if (item->is_local_changed && (is_maybe_same || is_maybe_alike)) {
        enum err err = hash_local(run, item->local, md5, why);
        if (err != ERR_OK) {
            return err;
        }
        has_md5 = true;
        item->is_local_changed = !(is_maybe_same && memcmp(md5, base->md5, sizeof(md5)) == 0);
    }
    const uint8_t *here = has_md5 ? md5 : base != NULL && !item->is_local_changed ? base->md5 : NULL;
    *is_alike_out = is_maybe_alike && here != NULL && memcmp(here, item->remote->md5, sizeof(md5)) == 0;
    return ERR_OK;
}

static enum err
keep_base(struct run *run, const struct item *item)
{
    return item->base != NULL ? remember(&run->next, item->name, item->base) : ERR_OK;
}

// choose says what is to be done with a name that is not alike on both sides.
static bool
choose(const struct run *run, const struct item *item, enum fc_sync_action *action_out)
{
    bool is_here = item->local != NULL;
    bool is_there = item->remote != NULL;

    if (!is_here && !is_there) {
        return false;
    }
    if (is_here && is_there) {
        *action_out = item->is_local_changed && item->is_remote_changed ? FC_SYNC_CONFLICT
                      : item->is_local_changed                          ? FC_SYNC_UPLOAD
                                                                        : FC_SYNC_DOWNLOAD;
    } else if (is_here) {
        bool is_deleted_there = item->base != NULL && !item->is_local_changed;
        *action_out = !is_deleted_there        ? FC_SYNC_UPLOAD
                      : run->sync->is_deleting ? FC_SYNC_DELETE_HERE
                                               : FC_SYNC_DELETED_THERE;
    } else {
        bool is_deleted_here = item->base != NULL && !item->is_remote_changed;
        *action_out = !is_deleted_here         ? FC_SYNC_DOWNLOAD
                      : run->sync->is_deleting ? FC_SYNC_DELETE_THERE
                                               : FC_SYNC_DELETED_HERE;
    }
    return true;
}

static enum err
act(struct run *run, const struct item *item, enum fc_sync_action action, struct err_detail *why)
{
    switch (action) {
    case FC_SYNC_UPLOAD:
        return send_file(run, item->local, item->name, item->remote != NULL ? item->remote->version : 0, &run->next,
            why);
    case FC_SYNC_DOWNLOAD:
        return fetch(run, item->name, item->remote, item->local, why);
    case FC_SYNC_DELETE_HERE:
        return delete_here(run, item->local, why);
    case FC_SYNC_DELETE_THERE:
        return delete_there(run, item->remote, why);
    case FC_SYNC_CONFLICT:
        return keep_both(run, item, why);
    case FC_SYNC_DELETED_HERE:
    case FC_SYNC_DELETED_THERE:
    case FC_SYNC_SKIPPED:
    case FC_SYNC_FAILED:
        break;
    }
    return keep_base(run, item);
}

static enum err
do_item(struct run *run, struct item *item)
{
    struct err_detail why = {.message = ""};
    enum fc_sync_action action = FC_SYNC_UPLOAD;
    bool is_alike = false;

    if (run->sync->is_cancelled != NULL && run->sync->is_cancelled(run->sync->context)) {
        return ERR_CANCELLED;
    }
    enum err err = compare_sides(run, item, &is_alike, &why);
    if (err == ERR_OK && is_alike) {
        struct fc_sync_file state = *item->local;
        state.version = item->remote->version;
        memcpy(state.md5, item->remote->md5, sizeof(state.md5));
        return remember(&run->next, item->name, &state);
    }
    if (err == ERR_OK && !choose(run, item, &action)) {
        return ERR_OK;
    }
    if (err == ERR_OK) {
        tell(run, action, item->name, "");
        err = run->sync->is_dry_run ? ERR_OK : act(run, item, action, &why);
    }
    if (err == ERR_OK) {
        return ERR_OK;
    }
    if (is_fatal(err)) {
        *run->why = why;
        return err;
    }
    err = note_failure(run, item->name, err, err_message(&why, err));
    // One that is being sent has its place already.
    return err == ERR_OK && fc_sync_files_find(&run->next, item->name) == NULL ? keep_base(run, item) : err;
}

// next_name is the smallest name that is left on any side.
static const char *
next_name(const struct run *run, const size_t at[3], size_t prefix_size)
{
    const char *name = NULL;

    if (at[0] < run->local.count) {
        name = run->local.files[at[0]].name;
    }
    if (at[1] < run->remote.count && (name == NULL || strcmp(run->remote.files[at[1]].name + prefix_size, name) < 0)) {
        name = run->remote.files[at[1]].name + prefix_size;
    }
    if (at[2] < run->base.files.count && (name == NULL || strcmp(run->base.files.files[at[2]].name, name) < 0)) {
        name = run->base.files.files[at[2]].name;
    }
    return name;
}

static enum err
do_all(struct run *run)
{
    size_t prefix_size = strlen(run->sync->remote) + 1;
    size_t at[3] = {0};
    const char *name;
    enum err err = ERR_OK;

    while (err == ERR_OK && (name = next_name(run, at, prefix_size)) != NULL) {
        struct item item = {.name = name};
        if (at[0] < run->local.count && strcmp(run->local.files[at[0]].name, name) == 0) {
            item.local = &run->local.files[at[0]++];
        }
        if (at[1] < run->remote.count && strcmp(run->remote.files[at[1]].name + prefix_size, name) == 0) {
            item.remote = &run->remote.files[at[1]++];
        }
        if (at[2] < run->base.files.count && strcmp(run->base.files.files[at[2]].name, name) == 0) {
            item.base = &run->base.files.files[at[2]++];
        }
        err = do_item(run, &item);
    }
    // After an early end the rest is remembered as it was.
    for (; err != ERR_OK && at[2] < run->base.files.count; at[2]++) {
        const struct fc_sync_file *left = &run->base.files.files[at[2]];
        if (fc_sync_files_find(&run->next, left->name) == NULL && remember(&run->next, left->name, left) != ERR_OK) {
            break;
        }
    }
    return err;
}

// --- One run --------------------------------------------------------------------------------------------------------

static enum err
look(struct run *run)
{
    char prefix[NAME_MAX_BYTES];
    const struct fc_sync *sync = run->sync;

    enum err err = text_check_file_name(sync->remote, run->why);
    if (err == ERR_OK) {
        err = fc_sync_base_open(&run->base, run->session, sync->folder, sync->remote, run->why);
    }
    if (err == ERR_OK) {
        run->root_fd = open(run->base.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        err = run->root_fd < 0 ? err_from_errno(errno) : ERR_OK;
    }
    if (err == ERR_OK) {
        err = fc_tree_walk(run->base.folder, visit, on_skipped, run, run->why);
    }
    if (err == ERR_OK) {
        fc_sync_files_sort(&run->local);
        (void)snprintf(prefix, sizeof(prefix), "%s/", sync->remote);
        err = fc_remote_list_fill(&run->remote, run->session, prefix, NULL, run->why);
    }
    if (err == ERR_OK && sync->is_deleting && run->base.files.count != 0 &&
        (run->local.count == 0) != (run->remote.count == 0)) {
        return err_fail(run->why, ERR_PRECONDITION,
            "all files are gone %s: --delete does not delete all that is left; do that yourself if it is meant",
            run->local.count == 0 ? "here" : "on the server");
    }
    return err;
}

// write_base remembers what is alike now. What could not be sent is not alike: then what was before stays.
static enum err
write_base(struct run *run)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < run->next.count; i++) {
        struct fc_sync_file *file = &run->next.files[i];
        const struct fc_sync_file *before = fc_sync_files_find(&run->base.files, file->name);
        if (file->is_pending && before != NULL) {
            char *name = file->name;
            *file = *before;
            file->name = name;
        }
    }
    for (size_t i = 0; i < run->copies.count && err == ERR_OK; i++) {
        err = remember(&run->next, run->copies.files[i].name, &run->copies.files[i]);
    }
    return err == ERR_OK ? fc_sync_base_write(&run->base, &run->next, run->why) : err;
}

static enum err
run_all(struct run *run)
{
    enum err err = look(run);
    if (err != ERR_OK) {
        return err;
    }
    err = fc_put_new(run->session, NULL, on_put, run, &run->put, run->why);
    if (err != ERR_OK) {
        return err;
    }
    err = do_all(run);
    struct err_detail put_why = {.message = ""};
    enum err put_err = fc_put_finish(run->put, &put_why);
    if (err == ERR_OK && put_err != ERR_OK) {
        *run->why = put_why;
        err = put_err;
    }
    if (!run->sync->is_dry_run) {
        struct err_detail why = *run->why;
        enum err write_err = write_base(run);
        if (err != ERR_OK) {
            *run->why = why;
        } else {
            err = write_err;
        }
    }
    if (err == ERR_OK && run->failed != 0) {
        return err_fail(run->why, run->first, "%llu files are not alike yet, the first being %s",
            (unsigned long long)run->failed, run->first_why.message);
    }
    return err;
}

enum err
fc_sync_run(struct fc_session *session, const struct fc_sync *sync, struct err_detail *why)
{
    struct err_detail detail = {.message = ""};
    struct run run = {
        .session = session,
        .sync = sync,
        .why = &detail,
        .root_fd = -1,
        .base = {.lock_fd = -1},
        .options = {.rate = sync->rate, .is_cancelled = sync->is_cancelled, .context = sync->context},
    };

    enum err err = run_all(&run);
    if (err != ERR_OK && why != NULL) {
        *why = detail;
    }
    fc_put_free(&run.put);
    if (run.root_fd >= 0) {
        close(run.root_fd);
    }
    fc_remote_list_free(&run.remote);
    fc_sync_files_free(&run.local);
    fc_sync_files_free(&run.next);
    fc_sync_files_free(&run.copies);
    fc_sync_base_close(&run.base);
    return err;
}
